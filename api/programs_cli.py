"""The commands of programs: ``guerdon program`` for who publishes one, and what members and tills do in it.

What is signed goes the way of a wallet's commands, see :mod:`api.wallet_cli`. ``program schema`` and ``program check``
need no server: a program can be written, checked and tried on some purchases before anybody sees it.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from api.cli_options import DEFAULT_URL, ServiceUrl, SignInAccount, SignInKeys, TrustedLogKeys, WalletPassphraseFile
from api.client import ServiceError
from api.json_files import ProgramFile, read_programs
from api.wallet_cli import (
    AsJson,
    AssetCode,
    Expires,
    ReceiptFile,
    Reference,
    Told,
    Yes,
    carry_out,
    find_units,
    wallet_client,
)
from ledger.amounts import format_amount, parse_amount
from ledger.calculation import Bought, Calculation, benefits_of, calculate
from ledger.encoding import EncodingError, parse_date, parse_time
from ledger.keyring import load_private_key, read_passphrase
from ledger.operations import (
    EndPlan,
    Enroll,
    FormPool,
    LeavePool,
    PublishProgram,
    StartPlan,
    UseVoucher,
)
from ledger.program_terms import Program
from ledger.state import Circumstances
from ledger.terms import PurchaseLine, Quantity, VoucherRef

NEXT_STARTS_S = 60
"""How many seconds ahead a later version starts where nothing is said: it cannot start before it is recorded."""

AMOUNTS = ("1", "10", "25", "50", "100", "250", "500", "1000")
"""What purchases are tried with, in units of the currency, where nothing is said."""


def _app(text: str) -> typer.Typer:
    return typer.Typer(help=text, no_args_is_help=True, rich_markup_mode=None)


program_app = _app("Programs: describe, check and publish the rules of points.")
plan_app = _app("Plans: note what members paid for.")
pool_app = _app("Pools: members who spend each other's points.")
voucher_app = _app("Vouchers: what members had for their points.")

ProgramPath = Annotated[
    Path, typer.Argument(help="The program as JSON, or a file of guerdon gallery.", exists=True, dir_okay=False)
]
Member = Annotated[str, typer.Argument(help="The member's account.")]
PlanName = Annotated[str, typer.Argument(help="The plan, as the program names it.")]
Days = Annotated[str | None, typer.Option(help="The local date of the purchase, YYYY-MM-DD; today when left out.")]


@program_app.command()
def schema() -> None:
    """Print the JSON Schema of programs (draft 2020-12), for editors that complete and check what one writes.

    The server has the same at /program.schema.json. A file may say which it follows in "$schema".

    Example: guerdon program schema > program.schema.json
    """
    from api.program_schema import program_schema  # noqa: PLC0415 - the other commands start without GraphQL

    typer.echo(program_schema().decode(), nl=False)


@program_app.command()
def check(  # noqa: PLR0917 - typer makes an option of each parameter
    file: ProgramPath,
    asset: Annotated[str | None, typer.Option(help="Of a file with several assets, only this one's.")] = None,
    amount: Annotated[
        list[str] | None, typer.Option(help="A purchase to try, in decimal units; may be given several times.")
    ] = None,
    places: Annotated[int, typer.Option(help="Decimal places of the currency.", min=0, max=4)] = 2,
    tier: Annotated[str | None, typer.Option(help="The member's tier.")] = None,
    plan: Annotated[str | None, typer.Option(help="The member's plan.")] = None,
    formula: Annotated[str | None, typer.Option(help="The formula by which the member earns.")] = None,
    first: Annotated[bool, typer.Option("--first", help="It is the member's first purchase.")] = False,
    invited: Annotated[bool, typer.Option("--invited", help="The member said who invited it.")] = False,
    category: Annotated[str | None, typer.Option(help="The category of what is bought.")] = None,
    product: Annotated[str | None, typer.Option(help="The product that is bought.")] = None,
    channel: Annotated[str | None, typer.Option(help="Where it is bought.")] = None,
    tender: Annotated[str | None, typer.Option(help="How it is paid.")] = None,
    merchant: Annotated[str, typer.Option(help="The merchant that records it.")] = "",
    quantity: Annotated[list[str] | None, typer.Option(help="A quantity of the purchase, such as miles=350.")] = None,
    day: Days = None,
    as_json: AsJson = False,
) -> None:
    """Check a program, offline, and show what purchases would earn under it, with everything that counts for each.

    What is wrong is told with its place. Signed programs say no defaults, but a file may.

    Example: guerdon program check club.json --amount 12.50 --amount 80 --tier gold --category food
    """
    circumstances = {"tier": tier, "plan": plan, "formula": formula, "channel": channel, "tender": tender}
    about = {"category": category, "product": product}
    counted = tuple(_quantity(text) for text in quantity or ())
    tried = [(text, _parse(text, places)) for text in amount or AMOUNTS]
    answers = []
    for found in _of(read_programs(file.read_bytes()), asset):
        _check_names(found.program, circumstances)
        lines = []
        for text, units in tried:
            bought = Bought(
                amount=units,
                merchant=merchant,
                earned_on=_day(day),
                circumstances=Circumstances(
                    **circumstances,
                    first=first,
                    invited=invited,
                    joined_on=_day(day),
                    quantities=counted,
                    lines=(PurchaseLine(amount=units, **about),) if any(about.values()) else (),
                    room=found.program.earning_cap.points if found.program.earning_cap is not None else None,
                ),
            )
            earned = calculate(found.program, bought, 10**places)
            lines.append((text, units, earned, benefits_of(found.program, bought)))
        answers.append((found, lines))
    if as_json:
        typer.echo(msgspec.json.encode([_tried_json(found, lines) for found, lines in answers]).decode())
        return
    for found, lines in answers:
        typer.echo(f"{found.asset or file.name} is well formed")
        for text, _, earned, benefits in lines:
            typer.echo(_tried_line(found, text, earned, benefits))


def _tried_json(found: ProgramFile, lines: Sequence[tuple[str, int, Calculation, tuple[str, ...]]]) -> dict[str, Any]:
    tried = [
        {"amount": units, "earned": msgspec.to_builtins(earned), "benefits": benefits}
        for _, units, earned, benefits in lines
    ]
    return {"asset": found.asset, "purchases": tried}


def _tried_line(found: ProgramFile, text: str, earned: Calculation, benefits: tuple[str, ...]) -> str:
    """What a purchase earns, and why it is not only its base points."""
    scale = found.scale
    reasons = [f"base {earned.base.numerator / earned.base.denominator:g}"] if earned.lines or earned.bonuses else []
    reasons += [name for line in earned.lines for name in line.multipliers]
    reasons += [f"{each.bonus} +{format_amount(each.points, scale)}" for each in earned.bonuses]
    reasons += [f"formula {earned.formula}"] if earned.formula is not None else []
    reasons += [f"{format_amount(earned.cut, scale)} above the cap"] if earned.cut else []
    reasons += [f"{format_amount(earned.status_points, scale)} status points"] if earned.status_points else []
    reasons += list(benefits)
    why = f"  ({', '.join(reasons)})" if reasons else ""
    return f"{text:>12} {found.program.currency} earns {format_amount(earned.points, scale):>12}{why}"


def _check_names(program: Program, circumstances: dict[str, str | None]) -> None:
    """Refuse a tier, plan or formula that the program has not: nothing would hold for it, which is no answer."""
    levels = program.tiers.levels if program.tiers is not None else ()
    known = {
        "tier": [level.tier for level in levels],
        "plan": [each.plan for each in program.plans],
        "formula": [each.formula for each in program.formulas],
    }
    for name, names in known.items():
        said = circumstances[name]
        if said is not None and said not in names:
            has = ", ".join(names) or "none"
            raise typer.BadParameter(f"the program has no {name} {said} (it has: {has})", param_hint=f"--{name}")


def _parse(text: str, places: int) -> int:
    try:
        return parse_amount(text, places)
    except ValueError as error:
        raise typer.BadParameter(f"{error} (--places is {places})", param_hint="--amount") from error


def _quantity(text: str) -> Quantity:
    name, _, count = text.partition("=")
    try:
        return msgspec.convert({"name": name, "quantity": int(count)}, Quantity)
    except (ValueError, msgspec.ValidationError) as error:
        raise typer.BadParameter(f"{text!r} is not of the form miles=350", param_hint="--quantity") from error


def _day(text: str | None) -> str:
    if text is None:
        return datetime.now(UTC).date().isoformat()
    try:
        parse_date(text)
    except EncodingError as error:
        raise typer.BadParameter(str(error), param_hint="--day") from error
    return text


def _of(found: Sequence[ProgramFile], asset: str | None) -> Sequence[ProgramFile]:
    """The programs of a file, or the one of an asset, which a file with one program need not name."""
    if asset is None or (len(found) == 1 and found[0].asset is None):
        return found
    chosen = [each for each in found if each.asset == asset]
    if not chosen:
        has = ", ".join(str(each.asset) for each in found)
        raise typer.BadParameter(f"the file has no asset {asset} (it has: {has})", param_hint="--asset")
    return chosen


@program_app.command()
def publish(  # noqa: PLR0917 - typer makes an option of each parameter
    file: ProgramPath,
    account: SignInAccount,
    key: SignInKeys,
    asset: Annotated[str, typer.Option(help="The asset whose rules it has.")],
    url: ServiceUrl = DEFAULT_URL,
    starts: Annotated[
        str | None, typer.Option(help="Since when it is in force, 2026-11-22T10:00:00.000Z; as soon as can be.")
    ] = None,
    ends: Annotated[str | None, typer.Option(help="Until before when it is in force; no end when left out.")] = None,
    log_key: TrustedLogKeys = None,
    passphrase_file: WalletPassphraseFile = None,
    expires: Expires = 600,
    receipt: ReceiptFile = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Publish a program as the next version of an asset's: show what changes, ask, sign, submit, verify the receipt.

    Of a file of guerdon gallery, which has several, the program of --asset is published; a status asset that it names
    must be there already. A later version starts in a minute, unless a later time is given.

    Example: guerdon program publish club.json --asset STAR --account mer_… --key shop.pem
    """
    (found,) = _of(read_programs(file.read_bytes()), asset)
    for name, time in (("--starts", starts), ("--ends", ends)):
        _check_time(time, name)
    with wallet_client(url, account, key, passphrase_file, log_key) as client:
        units = find_units(client, asset)
        issued = units.asset(asset)
        newest, before = client.newest_program(asset)
        begins = starts or client.time_in(0 if newest == 0 else NEXT_STARTS_S)
        version = newest + 1
        fields = {"asset": asset, "program": found.program, "starts": begins, "ends": ends, "version": version}
        until = f" to {ends}" if ends is not None else ""
        what = f"version {version} of the program of {asset} ({issued.name}), from {begins}{until}"
        told = Told(what, _changes(before, found.program))
        carry_out(
            client, PublishProgram, fields, told, units, expires=expires, receipt=receipt, yes=yes, as_json=as_json
        )


def _check_time(text: str | None, name: str) -> None:
    if text is not None:
        try:
            parse_time(text)
        except EncodingError as error:
            raise typer.BadParameter(str(error), param_hint=name) from error


def _changes(before: str | None, program: Program) -> list[str]:
    """The parts in which a program differs from the version before."""
    if before is None:
        return []
    was: dict[str, Any] = msgspec.json.decode(before)
    now: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(program))
    parts = {
        "new": sorted(now.keys() - was.keys()),
        "changed": sorted(name for name in now.keys() & was.keys() if now[name] != was[name]),
        "gone": sorted(was.keys() - now.keys()),
    }
    return [f"{how:<8} {', '.join(names)}" for how, names in parts.items() if names] or ["it is as the version before"]


def enroll(  # noqa: PLR0917 - typer makes an option of each parameter
    asset: AssetCode,
    account: SignInAccount,
    key: SignInKeys,
    url: ServiceUrl = DEFAULT_URL,
    formula: Annotated[
        str | None, typer.Option(help="The formula by which to earn from now on; the program's own rates.")
    ] = None,
    invited_by: Annotated[str | None, typer.Option(help="The member who invited this one.")] = None,
    log_key: TrustedLogKeys = None,
    passphrase_file: WalletPassphraseFile = None,
    expires: Expires = 600,
    receipt: ReceiptFile = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Become a member of a program, say once who invited one, or choose another way to earn.

    Example: guerdon enroll STAR --invited-by mem_… --account mem_… --key member.pem
    """
    with wallet_client(url, account, key, passphrase_file, log_key) as client:
        units = find_units(client, asset)
        by = f", invited by {invited_by}" if invited_by is not None else ""
        what = f"member of the program of {asset} ({units.asset(asset).name}), by {formula or 'its own rates'}{by}"
        fields = {"asset": asset, "formula": formula, "invited_by": invited_by}
        carry_out(client, Enroll, fields, what, units, expires=expires, receipt=receipt, yes=yes, as_json=as_json)


@plan_app.command()
def start(  # noqa: PLR0917 - typer makes an option of each parameter
    asset: AssetCode,
    member: Member,
    plan: PlanName,
    account: SignInAccount,
    key: SignInKeys,
    reference: Annotated[str, typer.Option(help="The number of the payment, good once.")],
    url: ServiceUrl = DEFAULT_URL,
    log_key: TrustedLogKeys = None,
    passphrase_file: WalletPassphraseFile = None,
    expires: Expires = 600,
    receipt: ReceiptFile = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Note that a member paid for a plan: it begins today, or lasts longer if the member has it.

    Example: guerdon plan start STAR mem_… plus --reference pay-17 --account mer_… --key shop.pem
    """
    with wallet_client(url, account, key, passphrase_file, log_key) as client:
        units = find_units(client, asset)
        what = f"plan {plan} of {asset} ({units.asset(asset).name}) for {member}"
        fields = {"asset": asset, "member": member, "plan": plan, "reference": reference}
        carry_out(client, StartPlan, fields, what, units, expires=expires, receipt=receipt, yes=yes, as_json=as_json)


@plan_app.command()
def end(  # noqa: PLR0917 - typer makes an option of each parameter
    asset: AssetCode,
    member: Member,
    account: SignInAccount,
    key: SignInKeys,
    refunded: Annotated[bool, typer.Option("--refunded", help="What was paid for it was paid back.")] = False,
    url: ServiceUrl = DEFAULT_URL,
    log_key: TrustedLogKeys = None,
    passphrase_file: WalletPassphraseFile = None,
    expires: Expires = 600,
    receipt: ReceiptFile = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """End a member's plan before its time.

    Example: guerdon plan end STAR mem_… --refunded --account mer_… --key shop.pem
    """
    with wallet_client(url, account, key, passphrase_file, log_key) as client:
        units = find_units(client, asset)
        what = f"end of the plan of {member} in {asset} ({units.asset(asset).name})"
        fields = {"asset": asset, "member": member, "reason": "refunded" if refunded else "other"}
        carry_out(client, EndPlan, fields, what, units, expires=expires, receipt=receipt, yes=yes, as_json=as_json)


@pool_app.command()
def form(  # noqa: PLR0917 - typer makes an option of each parameter
    asset: AssetCode,
    members: Annotated[list[str], typer.Argument(help="The other members' accounts, in their order.")],
    account: SignInAccount,
    key: SignInKeys,
    member_key: Annotated[list[Path], typer.Option(help="A key file of another member; as many as must sign.")],
    url: ServiceUrl = DEFAULT_URL,
    log_key: TrustedLogKeys = None,
    passphrase_file: WalletPassphraseFile = None,
    expires: Expires = 600,
    receipt: ReceiptFile = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Let members spend each other's points of an asset. All of them sign.

    Where keys are not in one place, guerdon sign adds each one's signature to the same document.

    Example: guerdon pool form STAR mem_… --member-key other.pem --account mem_… --key member.pem
    """
    passphrase = read_passphrase(passphrase_file) if passphrase_file else None
    others = [load_private_key(path, passphrase) for path in member_key]
    with wallet_client(url, account, key, passphrase_file, log_key) as client:
        units = find_units(client, asset)
        what = f"pool of {asset} ({units.asset(asset).name}) with {', '.join(members)}"
        fields = {"asset": asset, "members": tuple(members)}
        carry_out(
            client,
            FormPool,
            fields,
            what,
            units,
            co_signers=others,
            expires=expires,
            receipt=receipt,
            yes=yes,
            as_json=as_json,
        )


@pool_app.command()
def leave(  # noqa: PLR0917 - typer makes an option of each parameter
    asset: AssetCode,
    account: SignInAccount,
    key: SignInKeys,
    url: ServiceUrl = DEFAULT_URL,
    log_key: TrustedLogKeys = None,
    passphrase_file: WalletPassphraseFile = None,
    expires: Expires = 600,
    receipt: ReceiptFile = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Leave a pool: one's own points are one's own again. Where one member is left, the pool ends.

    Example: guerdon pool leave STAR --account mem_… --key member.pem
    """
    with wallet_client(url, account, key, passphrase_file, log_key) as client:
        units = find_units(client, asset)
        what = f"end of the membership in the pool of {asset} ({units.asset(asset).name})"
        fields = {"asset": asset}
        carry_out(client, LeavePool, fields, what, units, expires=expires, receipt=receipt, yes=yes, as_json=as_json)


@voucher_app.command("list")
def list_vouchers(  # noqa: PLR0917 - typer makes an option of each parameter
    account: SignInAccount,
    key: SignInKeys,
    url: ServiceUrl = DEFAULT_URL,
    every: Annotated[bool, typer.Option("--all", help="Also those that are used, cancelled or expired.")] = False,
    passphrase_file: WalletPassphraseFile = None,
    as_json: AsJson = False,
) -> None:
    """An account's vouchers, the oldest first, with the code that its holder shows to have one used.

    Example: guerdon voucher list --account mem_… --key member.pem
    """
    with wallet_client(url, account, key, passphrase_file) as client:
        found = list(client.vouchers(status=None if every else "issued"))
        if as_json:
            typer.echo(msgspec.json.encode([msgspec.structs.asdict(each) for each in found]).decode())
            return
        units = find_units(client, *(each.asset for each in found))
    if not found:
        typer.echo("no vouchers")
    for each in found:
        until = f", until {each.last_day}" if each.last_day is not None else ""
        code = f", code {each.code}" if each.code is not None and each.status == "issued" else ""
        price = units.text(each.price, each.asset)
        typer.echo(f"{each.id} {each.reward} for {price} at {each.merchant_id}, {each.status}{until}{code}")


@voucher_app.command()
def use(  # noqa: PLR0917 - typer makes an option of each parameter
    voucher: Annotated[str, typer.Argument(help="The voucher, vch_…, or the code that its holder shows.")],
    account: SignInAccount,
    key: SignInKeys,
    url: ServiceUrl = DEFAULT_URL,
    reference: Reference = None,
    log_key: TrustedLogKeys = None,
    passphrase_file: WalletPassphraseFile = None,
    expires: Expires = 600,
    receipt: ReceiptFile = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Have a voucher used, at its merchant's till: it is good once.

    Example: guerdon voucher use vch_41_0 --reference bill-17 --account mer_… --key till.pem
    """
    with wallet_client(url, account, key, passphrase_file, log_key) as client:
        found = client.find_voucher(voucher)
        if found is None:
            raise ServiceError(f"there is no voucher {voucher} that {account} may have used")
        units = find_units(client, found.asset)
        what = f"use of {found.reward}, had for {units.text(found.price, found.asset)} by {found.account_id}"
        fields = {"voucher": VoucherRef(seq=found.seq, index=found.index), "reference": reference}
        carry_out(client, UseVoucher, fields, what, units, expires=expires, receipt=receipt, yes=yes, as_json=as_json)
