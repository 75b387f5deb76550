"""The commands of a wallet: ``guerdon send``, ``redeem``, ``exchange``, ``hold``, ``balance`` and what goes with them.

``guerdon capture`` and ``release`` are a till's. They need a server, an account and its key, but no database. Amounts
are typed and shown as people write them, in decimal with as many places as the asset or currency has; ``--json`` gives
integers in its smallest unit.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from api.cli_options import (
    DEFAULT_URL,
    ServiceUrl,
    SignInAccount,
    SignInKeys,
    TrustedLogKeys,
    WalletPassphraseFile,
    read_log_key,
)
from api.client import RefusedError, RequestError, ServiceError
from api.client_records import (
    Asset,
    Balance,
    Exchanged,
    ExchangePath,
    ExchangePaths,
    Held,
    Hop,
    Lot,
    PointsHold,
    Quote,
    Recorded,
    StatementLine,
    recorded_as,
)
from api.guerdon import Guerdon, UnansweredError, UnprovenError
from ledger.amounts import format_amount, parse_amount
from ledger.checkpoint import encode_verifier_key
from ledger.encoding import encode_canonical
from ledger.entries import MAX_ENTRY_BYTES, Posting
from ledger.keyring import load_private_key, read_passphrase
from ledger.operations import (
    Capture,
    Exchange,
    Hold,
    Operation,
    Redeem,
    Release,
    SignedOperation,
    Transfer,
    decode_signed_operation,
)
from ledger.state import Code
from ledger.terms import Recipient
from ledger.wallet import encode_document

MAX_LINES = 1_000_000
MAX_MINUTES = 366 * 24 * 60

Amount = Annotated[str, typer.Argument(help="How much, in decimal with at most as many places as the asset has: 12.50")]
AssetCode = Annotated[str, typer.Argument(help="The asset's code.")]
Expires = Annotated[
    int, typer.Option(help="Seconds from now after which it can no longer be recorded.", min=1, max=30 * 86_400)
]
ReceiptFile = Annotated[
    Path | None, typer.Option("--receipt", help="Keep the receipt in this file, which must not exist yet.")
]
Reference = Annotated[str | None, typer.Option(help="The merchant's bill or order, if there is one.")]
MaximumFee = Annotated[
    str | None, typer.Option("--maximum-fee", help="The most it may cost, in decimal units of the fee's currency: 0.50")
]
HoldId = Annotated[str, typer.Argument(help="The hold, hld_…", metavar="HOLD")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask, on a terminal, before signing.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, with amounts in the asset's smallest unit.")]


def send(  # noqa: PLR0917 - typer makes an option of each parameter
    amount: Amount,
    asset: AssetCode,
    to: Annotated[str, typer.Argument(help="The receiving account.")],
    account: SignInAccount,
    key: SignInKeys,
    url: ServiceUrl = DEFAULT_URL,
    maximum_fee: MaximumFee = None,
    log_key: TrustedLogKeys = None,
    passphrase_file: WalletPassphraseFile = None,
    expires: Expires = 600,
    receipt: ReceiptFile = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Transfer points to another account: show what would happen, ask, sign, submit, and verify the receipt.

    Example: guerdon send 12.50 STAR mem_… --account mem_… --key member.pem --log-key 'ledger.example/coalition+…'
    --receipt payment.receipt
    """
    with wallet_client(url, account, key, passphrase_file, log_key) as client:
        units = find_units(client, asset)
        moved = units.asset(asset)
        terms = moved.transfer_terms
        currency = terms.fee.currency if terms is not None and terms.fee is not None else None
        fields = {
            "asset": asset,
            "recipients": (Recipient(amount=read_amount(amount, moved), to=to),),
            "maximum_fee": _read_fee(maximum_fee, units, currency) or 0,
        }
        what = f"{amount} {asset} ({moved.name}) to {to}"
        with _fee_named(units):
            carry_out(client, Transfer, fields, what, units, expires=expires, receipt=receipt, yes=yes, as_json=as_json)


def redeem(  # noqa: PLR0917 - typer makes an option of each parameter
    amount: Amount,
    asset: AssetCode,
    merchant: Annotated[str, typer.Argument(help="The merchant at which they are spent.")],
    account: SignInAccount,
    key: SignInKeys,
    url: ServiceUrl = DEFAULT_URL,
    reference: Reference = None,
    reward: Annotated[
        str | None, typer.Option(help="A reward of the program to have a voucher of, for each time its price.")
    ] = None,
    from_pool: Annotated[bool, typer.Option("--from-pool", help="Points of all members of one's pool.")] = False,
    log_key: TrustedLogKeys = None,
    passphrase_file: WalletPassphraseFile = None,
    expires: Expires = 600,
    receipt: ReceiptFile = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Spend points at a merchant: show what would happen, ask, sign, submit, and verify the receipt.

    Example: guerdon redeem 250 STAR mer_… --reference bill-17 --account mem_… --key member.pem
    """
    with wallet_client(url, account, key, passphrase_file, log_key) as client:
        units = find_units(client, asset)
        spent = units.asset(asset)
        fields = {
            "asset": asset,
            "amount": read_amount(amount, spent),
            "merchant": merchant,
            "reference": reference,
            "reward": reward,
            "from_pool": from_pool,
        }
        had = f" for {reward}" if reward is not None else ""
        what = f"{amount} {asset} ({spent.name}) at {merchant}{had}{' from the pool' if from_pool else ''}"
        carry_out(client, Redeem, fields, what, units, expires=expires, receipt=receipt, yes=yes, as_json=as_json)


def quote(
    amount: Amount,
    asset: AssetCode,
    into: Annotated[
        str | None, typer.Argument(help="Only ways to this asset; the best to every asset when left out.")
    ] = None,
    url: ServiceUrl = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """What points can become now, by one exchange or several in turn: the best way first. Public, nothing is reserved.

    Example: guerdon quote 500 STAR
    """
    with Guerdon(url) as client:
        units = find_units(client, asset, *([into] if into is not None else []))
        offered = read_amount(amount, units.asset(asset))
        found = client.paths(asset, offered, into)
        if not found.paths and into is not None:
            refusals = client.quote(asset, offered, into).refusals
            raise RefusedError(refusals) if refusals else ServiceError(f"no way leads from {asset} to {into}")
        if as_json:
            typer.echo(msgspec.json.encode(found).decode())
            return
        units = find_units(client, asset, *(code for path in found.paths for hop in path.hops for code in _codes(hop)))
    _print_paths(found, asset, offered, units)


def exchange(  # noqa: PLR0917 - typer makes an option of each parameter
    amount: Amount,
    asset: AssetCode,
    into: Annotated[str, typer.Argument(help="The asset they are to become.")],
    account: SignInAccount,
    key: SignInKeys,
    url: ServiceUrl = DEFAULT_URL,
    minimum_out: Annotated[
        str | None, typer.Option(help="The fewest points that may come out; what the quote says when left out.")
    ] = None,
    maximum_fee: MaximumFee = None,
    log_key: TrustedLogKeys = None,
    passphrase_file: WalletPassphraseFile = None,
    expires: Expires = 600,
    receipt: ReceiptFile = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Turn points into another merchant's: get a quote, show it, ask, sign it, submit, and verify the receipt.

    What is signed is what the quote says, no point less and no cent more, unless limits are given.

    Example: guerdon exchange 500 STAR BEAN --account mem_… --key member.pem --receipt exchange.receipt
    """
    with wallet_client(url, account, key, passphrase_file, log_key) as client:
        units = find_units(client, asset, into)
        given, got = units.asset(asset), units.asset(into)
        offered = read_amount(amount, given)
        least = None if minimum_out is None else read_amount(minimum_out, got, "--minimum-out")
        quoted = client.quote(asset, offered, into)
        if quoted.refusals:
            raise RefusedError(quoted.refusals)
        most = _read_fee(maximum_fee, units, quoted.fee_currency)
        fields = {
            "asset": asset,
            "amount": offered,
            "into": into,
            "minimum_out": quoted.minimum_out if least is None else least,
            "maximum_fee": (quoted.maximum_fee or 0) if most is None else most,
        }
        told = Told(f"{amount} {asset} ({given.name}) into {into} ({got.name})", _quote_lines(quoted, fields, units))
        with _fee_named(units):
            carry_out(client, Exchange, fields, told, units, expires=expires, receipt=receipt, yes=yes, as_json=as_json)


def hold(  # noqa: PLR0917 - typer makes an option of each parameter
    amount: Amount,
    asset: AssetCode,
    merchant: Annotated[str, typer.Argument(help="The merchant that may capture them.")],
    account: SignInAccount,
    key: SignInKeys,
    minutes: Annotated[int, typer.Option(help="For how long, from now.", min=1, max=MAX_MINUTES)],
    url: ServiceUrl = DEFAULT_URL,
    reference: Reference = None,
    log_key: TrustedLogKeys = None,
    passphrase_file: WalletPassphraseFile = None,
    expires: Expires = 600,
    receipt: ReceiptFile = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Set points aside for a merchant; what it has not captured by then is free again by itself.

    Example: guerdon hold 250 STAR mer_… --minutes 30 --reference table-4 --account mem_… --key member.pem
    """
    with wallet_client(url, account, key, passphrase_file, log_key) as client:
        units = find_units(client, asset)
        held = units.asset(asset)
        until = client.time_in(minutes * 60)
        fields = {
            "asset": asset,
            "amount": read_amount(amount, held),
            "merchant": merchant,
            "reference": reference,
            "until": until,
        }
        what = f"{amount} {asset} ({held.name}) on hold for {merchant} until {until}"
        carry_out(client, Hold, fields, what, units, expires=expires, receipt=receipt, yes=yes, as_json=as_json)


def holds(  # noqa: PLR0917 - typer makes an option of each parameter
    account: SignInAccount,
    key: SignInKeys,
    url: ServiceUrl = DEFAULT_URL,
    asset: Annotated[str | None, typer.Argument(help="Only points of this asset.")] = None,
    closed: Annotated[bool, typer.Option("--all", help="Also those that are captured, released or lapsed.")] = False,
    lines: Annotated[int, typer.Option(help="How many, the newest.", min=1, max=MAX_LINES)] = 100,
    passphrase_file: WalletPassphraseFile = None,
    as_json: AsJson = False,
) -> None:
    """What is on hold: an account's own points, or those set aside for a merchant, the oldest first.

    Example: guerdon holds --account mer_… --key till.pem
    """
    with wallet_client(url, account, key, passphrase_file) as client:
        status = None if closed else "open"
        found = list(islice(client.holds(asset=asset, status=status, newest_first=True), lines))[::-1]
        if as_json:
            typer.echo(msgspec.json.encode([msgspec.structs.asdict(each) for each in found]).decode())
            return
        units = find_units(client, *({each.asset for each in found} | ({asset} if asset is not None else set())))
    if not found:
        typer.echo("nothing on hold")
    for each in found:
        typer.echo(_hold_line(each, units))


def capture(  # noqa: PLR0917 - typer makes an option of each parameter
    hold: HoldId,
    amount: Amount,
    account: SignInAccount,
    key: SignInKeys,
    url: ServiceUrl = DEFAULT_URL,
    final: Annotated[
        bool, typer.Option("--final", help="It is the last: give what is left back to the holder.")
    ] = False,
    reference: Reference = None,
    log_key: TrustedLogKeys = None,
    passphrase_file: WalletPassphraseFile = None,
    expires: Expires = 600,
    receipt: ReceiptFile = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Spend points that are on hold for this merchant, at once or in parts.

    Example: guerdon capture hld_… 180 --final --account mer_… --key till.pem
    """
    with wallet_client(url, account, key, passphrase_file, log_key) as client:
        found = client.find_hold(hold)
        if found is None:
            raise ServiceError(f"there is no hold {hold} that {account} may capture")
        units = find_units(client, found.asset)
        taken = read_amount(amount, units.asset(found.asset))
        fields = {"hold": hold, "amount": taken, "final": final, "reference": reference}
        rest = ", the rest goes back" if final else ""
        what = (
            f"{amount} {found.asset} of {units.text(found.remaining, found.asset)} on hold of {found.account_id}{rest}"
        )
        carry_out(client, Capture, fields, what, units, expires=expires, receipt=receipt, yes=yes, as_json=as_json)


def release(  # noqa: PLR0917 - typer makes an option of each parameter
    hold: HoldId,
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
    """Give what is on hold back to its holder: a merchant that needs it no more, or anyone once its time has passed.

    Example: guerdon release hld_… --account mer_… --key till.pem
    """
    with wallet_client(url, account, key, passphrase_file, log_key) as client:
        found = client.find_hold(hold)
        if found is None:
            raise ServiceError(f"there is no hold {hold} that {account} may see")
        units = find_units(client, found.asset)
        what = f"{units.text(found.remaining, found.asset)} on hold back to {found.account_id}"
        fields = {"hold": hold}
        carry_out(client, Release, fields, what, units, expires=expires, receipt=receipt, yes=yes, as_json=as_json)


def submit(
    file: Annotated[typer.FileText, typer.Argument(help="What guerdon sign printed; - for standard input.")],
    url: ServiceUrl = DEFAULT_URL,
    log_key: TrustedLogKeys = None,
    receipt: ReceiptFile = None,
    as_json: AsJson = False,
) -> None:
    """Submit a signed operation of any kind, and verify the receipt. Again as often as one likes: it is recorded once.

    Example: guerdon sign --key member.pem transfer.json | guerdon submit - --receipt transfer.receipt
    """
    signed = _read_signed(file.read())
    for text in log_key or ():
        read_log_key(text)
    with Guerdon(url, log_keys=log_key or (), origin=signed.op.ledger) as client:
        _submit(client, signed, None, receipt=receipt, as_json=as_json)


def balance(
    account: SignInAccount,
    key: SignInKeys,
    url: ServiceUrl = DEFAULT_URL,
    passphrase_file: WalletPassphraseFile = None,
    as_json: AsJson = False,
) -> None:
    """What an account has of every asset: all points, those that can be used now, and which expire next.

    Example: guerdon balance --account mem_… --key member.pem
    """
    with wallet_client(url, account, key, passphrase_file) as client:
        balances = client.balances()
        if as_json:
            typer.echo(msgspec.json.encode([_balance_json(found) for found in balances]).decode())
            return
        assets = client.assets([found.asset for found in balances])
    if not balances:
        typer.echo("no points")
    for found in balances:
        typer.echo(_balance_line(found, assets[found.asset]))


def history(  # noqa: PLR0917 - typer makes an option of each parameter
    account: SignInAccount,
    key: SignInKeys,
    url: ServiceUrl = DEFAULT_URL,
    asset: Annotated[
        str | None, typer.Argument(help="Only this asset; every asset of the account when left out.")
    ] = None,
    lines: Annotated[int, typer.Option(help="How many lines of an asset, the newest.", min=1, max=MAX_LINES)] = 20,
    passphrase_file: WalletPassphraseFile = None,
    as_json: AsJson = False,
) -> None:
    """What moved in and out of an account, the oldest first, with the balance after each line.

    Example: guerdon history STAR --lines 50 --account mem_… --key member.pem
    """
    with wallet_client(url, account, key, passphrase_file) as client:
        codes = [asset] if asset is not None else [found.asset for found in client.balances()]
        assets = client.assets(codes)
        statements = {
            code: list(islice(client.history(code, newest_first=True), lines))[::-1] for code in codes if code in assets
        }
    if asset is not None and asset not in assets:
        raise ServiceError(f"there is no asset {asset}")
    if as_json:
        rows = [{"asset": code, **msgspec.structs.asdict(line)} for code, found in statements.items() for line in found]
        typer.echo(msgspec.json.encode(rows).decode())
        return
    for code, found in statements.items():
        for line in found:
            typer.echo(_movement_line(line, assets[code]))


@contextmanager
def wallet_client(
    url: str,
    account: str,
    key: Sequence[Path],
    passphrase_file: Path | None,
    log_key: Sequence[str] | None = None,
) -> Iterator[Guerdon]:
    """A client of a command that acts for an account."""
    for text in log_key or ():
        read_log_key(text)  # what is no key is a wrong call
    passphrase = read_passphrase(passphrase_file) if passphrase_file else None
    keys = [load_private_key(path, passphrase) for path in key]
    with Guerdon(url, account=account, keys=keys, log_keys=log_key or ()) as client:
        yield client


class Units(NamedTuple):
    """How amounts are written: the assets that a command is about, and the decimal places of every currency."""

    assets: Mapping[str, Asset]
    currencies: Mapping[str, int]

    def asset(self, code: str) -> Asset:
        """An asset that there has to be."""
        if code not in self.assets:
            raise ServiceError(f"there is no asset {code}")
        return self.assets[code]

    def text(self, amount: int, code: str) -> str:
        """An amount of an asset or currency with its code; in smallest units where it is neither."""
        if code in self.currencies:
            return f"{format_amount(amount, self.currencies[code])} {code}"
        if code not in self.assets:
            return f"{amount} units of {code}"
        return f"{format_amount(amount, self.assets[code].scale)} {code}"


def find_units(client: Guerdon, *codes: str) -> Units:
    """Asked for before anything is signed: what is recorded must not look as if it failed for want of a name."""
    return Units(client.assets(list(dict.fromkeys(codes))), client.currencies())


class Told(NamedTuple):
    """What a person is shown before an operation is signed."""

    what: str
    lines: Sequence[str] = ()


def carry_out(
    client: Guerdon,
    kind: type[Operation],
    fields: Mapping[str, Any],
    told: str | Told,
    units: Units,
    *,
    expires: int,
    receipt: Path | None,
    yes: bool,
    as_json: bool,
    co_signers: Sequence[Ed25519PrivateKey] = (),
) -> None:
    """Ask a person at a terminal, sign, and submit."""
    if sys.stdin.isatty() and not yes:
        shown = told if isinstance(told, Told) else Told(told)
        _confirm(client, client.wallet.build(kind, **fields), shown, units)
    # Built anew after the answer: however long that took, the operation is of now.
    signed = client.wallet.sign(kind, co_signers=co_signers, expires_in_ms=expires * 1000, **fields)
    _submit(client, signed, units, receipt=receipt, as_json=as_json)


def _confirm(client: Guerdon, op: Operation, told: Told, units: Units) -> None:
    """Show on standard error what an operation would do, and ask; refusals are told before anything is signed."""
    preview = client.preview(op)
    if preview.refusals:
        raise RefusedError(preview.refusals)
    typer.echo(f"{told.what}, from {client.account}", err=True)
    for line in told.lines:
        typer.echo(f"  {line}", err=True)
    for leg in preview.postings or ():
        typer.echo(f"  {_posting(leg, units)}", err=True)
    asset = getattr(op, "asset", None)
    if preview.balance is not None and asset is not None:
        typer.echo(f"  leaves {units.text(preview.balance, asset)}", err=True)
    if not typer.confirm("Sign and submit it?", err=True):
        typer.echo("nothing was signed", err=True)
        raise typer.Exit(1)


@contextmanager
def _fee_named(units: Units) -> Iterator[None]:
    """Where a fee is what is refused, say which option agrees to it."""
    try:
        yield
    except RefusedError as error:
        fee, currency = error.details.get("feeAmount"), str(error.details.get("currency"))
        if error.code != Code.FEE_ABOVE_LIMIT or not isinstance(fee, int) or currency not in units.currencies:
            raise
        amount = format_amount(fee, units.currencies[currency])
        raise ServiceError(f"{error}; --maximum-fee {amount} agrees to {amount} {currency}") from error


def _submit(
    client: Guerdon, signed: SignedOperation, units: Units | None, *, receipt: Path | None, as_json: bool
) -> None:
    with _kept_in(receipt) as keep:
        with _kept_until_answered(signed):
            recorded = client.submit(signed)
        try:
            if as_json:
                typer.echo(msgspec.json.encode(_recorded_json(recorded)).decode())
            else:
                _print_recorded(recorded, units)
        finally:
            _keep_receipt(recorded, keep)
    if receipt is not None and not as_json:
        typer.echo(f"kept in   {receipt}")


@contextmanager
def _kept_in(path: Path | None) -> Iterator[Callable[[str], object]]:
    """A new file for a receipt, made before anything is sent: that it cannot be written is not to be learnt after."""
    if path is None:
        yield lambda _: None
        return
    try:
        descriptor = _new_private_file(path)
    except FileExistsError as error:
        raise ServiceError(f"{path} exists: choose another name, receipts are never overwritten") from error
    complete = False

    def keep(receipt: str) -> None:
        nonlocal complete
        _write(descriptor, receipt)
        complete = True

    try:
        yield keep
    finally:
        os.close(descriptor)
        if not complete:
            path.unlink(missing_ok=True)


@contextmanager
def _kept_until_answered(signed: SignedOperation) -> Iterator[None]:
    """Keep a document in a file until it is known what became of it, whatever ends this command before that."""
    path = Path(f"unanswered-{signed.op_id.hex()[:16]}.json")
    document = encode_document(signed).decode() + "\n"
    made = _has_written(path, document)
    if made or (path.is_file() and path.read_bytes() == document.encode()):
        how = f"guerdon submit {path} sends the same again, and cannot record it twice"
    else:
        how = f"submit this document again, which cannot record it twice: {document.rstrip()}"
    answered = False
    try:
        yield
        answered = True
    except (RefusedError, RequestError):
        answered = True
        raise
    except UnansweredError as error:
        raise ServiceError(f"{error}: {how}") from error
    except UnprovenError as error:
        raise ServiceError(f"{error}{_keep_unproven(error)}; {how}") from error
    except BaseException:
        typer.echo(f"whether operation {signed.op_id.hex()} is recorded is not known: {how}", err=True)
        raise
    finally:
        if made and answered:
            path.unlink(missing_ok=True)


def _keep_unproven(error: UnprovenError) -> str:
    """Keep what was given as a receipt and is none: it may be all there is to show that the server lied."""
    if error.receipt is None:
        return ""
    path = Path(f"unproven-{error.signed.op_id.hex()[:16]}.receipt")
    if _has_written(path, error.receipt):
        return f"; {path} is what it gave as a receipt"
    typer.echo(error.receipt, err=True)
    return "; what it gave as a receipt is above"


def _keep_receipt(recorded: Recorded, keep: Callable[[str], object]) -> None:
    try:
        keep(recorded.receipt)
    except OSError as error:
        typer.echo(recorded.receipt, err=True)
        what = f"operation {recorded.operation_id} is recorded as entry {recorded.seq}: do not send it anew"
        raise ServiceError(f"{what}. Its receipt is above, for it cannot be kept: {error}") from error


def _has_written(path: Path, text: str) -> bool:
    """Write a new file, complete or not at all."""
    try:
        descriptor = _new_private_file(path)
    except OSError:
        return False
    try:
        _write(descriptor, text)
    except OSError:
        path.unlink(missing_ok=True)
        return False
    finally:
        os.close(descriptor)
    return True


def _new_private_file(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)


def _write(descriptor: int, text: str) -> None:
    data = text.encode()
    while data:
        data = data[os.write(descriptor, data) :]
    os.fsync(descriptor)


def _read_signed(text: str) -> SignedOperation:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ServiceError(f"this is not JSON: {error}") from error
    return decode_signed_operation(encode_canonical(fields), MAX_ENTRY_BYTES)


def read_amount(text: str, asset: Asset, hint: str = "AMOUNT") -> int:
    """Points in the smallest unit, at least 1, as they were typed; anything else is a wrong call."""
    try:
        units = parse_amount(text, asset.scale)
    except ValueError as error:
        raise typer.BadParameter(f"{error} ({asset.code} has {asset.scale})", param_hint=hint) from error
    if units == 0:
        raise typer.BadParameter("nothing would be moved", param_hint=hint)
    return units


def _read_fee(text: str | None, units: Units, currency: str | None) -> int | None:
    """A limit of a fee, in minor units; ``None`` where none is given.

    Where there is no fee, ``currency`` is absent: it stays at nothing, which is less than whatever was agreed to.
    """
    if text is None:
        return None
    scale = max(units.currencies.values()) if currency is None else units.currencies[currency]
    try:
        amount = parse_amount(text, scale)
    except ValueError as error:
        of = "" if currency is None else f" ({currency} has {scale})"
        raise typer.BadParameter(f"{error}{of}", param_hint="--maximum-fee") from error
    return 0 if currency is None else amount


def _recorded_json(recorded: Recorded) -> dict[str, Any]:
    fields = {
        "seq": recorded.seq,
        "hash": recorded.hash,
        "operation_id": recorded.operation_id,
        "time": recorded.entry.time,
        "replayed": recorded.replayed,
        "balance": recorded.balance,
        "postings": recorded.postings,
        "proven": recorded.proven is not None,
        "receipt": recorded.receipt,
    }
    if isinstance(recorded.entry.op, Exchange):
        exchanged = recorded_as(Exchanged, recorded)
        fields |= {"given": exchanged.given, "out": exchanged.out, "fees": exchanged.fees}
    if isinstance(recorded.entry.op, Hold):
        held = recorded_as(Held, recorded)
        fields |= {"hold": held.hold, "until": held.until}
    return fields


def _print_recorded(recorded: Recorded, units: Units | None) -> None:
    again = ", as an earlier submission had it recorded" if recorded.replayed else ""
    op = recorded.entry.op
    typer.echo(f"entry     {recorded.seq} of {op.ledger}, recorded {recorded.entry.time}{again}")
    typer.echo(f"hash      {recorded.hash}")
    for leg in recorded.postings:
        typer.echo(f"posting   {_posting(leg, units)}")
    if isinstance(op, Hold):
        held = recorded_as(Held, recorded)
        typer.echo(f"hold      {held.hold} until {held.until}")
    asset = getattr(op, "asset", None)
    if recorded.balance is not None and units is not None and asset is not None:
        typer.echo(f"balance   {units.text(recorded.balance, asset)}")
    if recorded.proven is None:
        typer.echo("receipt   NOT verified: give the log's key as you got it from elsewhere (--log-key)")
    else:
        signers = ", ".join(encode_verifier_key(key.name, key.public_key) for key in recorded.proven.signers)
        typer.echo(f"receipt   verified: signed by {signers}")


def _posting(leg: Posting, units: Units | None) -> str:
    amount = units.text(leg.amount, leg.asset) if units is not None else f"{leg.amount} units of {leg.asset}"
    last_day = "" if leg.lot is None else f", last day {leg.lot}"
    return f"{'+' * (leg.amount > 0)}{amount} {leg.account}{last_day}"


def _quote_lines(quoted: Quote, limits: Mapping[str, Any], units: Units) -> list[str]:
    """What an exchange comes to, and what is signed of it."""
    assert quoted.given is not None
    assert quoted.out is not None
    given, out = units.text(quoted.given, quoted.asset), units.text(quoted.out, quoted.into)
    fee = _fee(quoted.fee_amount, quoted.fee_currency, units)
    lots = ", ".join(_lot(lot, quoted.asset, units) for lot in quoted.lots or ())
    currency = quoted.fee_currency
    most = units.text(limits["maximum_fee"], currency) if currency is not None else "nothing"
    least = units.text(limits["minimum_out"], quoted.into)
    valid = f"until {quoted.valid_until}" if quoted.valid_until is not None else "with no end known"
    return [
        f"quote  {given} become {out}, for {fee}",
        *([f"lots   {lots}"] if lots else []),
        f"terms  {quoted.agreement} version {quoted.agreement_version}, in force {valid}",
        f"signs  at least {least} for at most {most}",
    ]


def _lot(lot: Lot, asset: str, units: Units) -> str:
    last_day = "without a last day" if lot.last_day is None else f"of {lot.last_day}"
    return f"{units.text(lot.points, asset)} {last_day}"


def _fee(amount: int | None, currency: str | None, units: Units) -> str:
    return f"a fee of {units.text(amount, currency)}" if amount and currency is not None else "no fee"


def _codes(hop: Hop) -> tuple[str, str]:
    return hop.asset, hop.into


def _print_paths(found: ExchangePaths, asset: str, offered: int, units: Units) -> None:
    if not found.paths:
        typer.echo(f"{units.text(offered, asset)} can become nothing else now")
    for path in found.paths:
        typer.echo(_path_line(path, units))
    if not found.complete:
        typer.echo("there are more ways")


def _path_line(path: ExchangePath, units: Units) -> str:
    """What comes out, by which agreements, what is left over on the way, what it costs, and until when."""
    out = format_amount(path.out, units.asset(path.into).scale)
    parts = [f"{out:>16} {path.into} by {', '.join(hop.agreement for hop in path.hops)}"]
    for hop in path.hops:
        if hop.given < hop.amount:
            parts.append(f"{units.text(hop.amount - hop.given, hop.asset)} left over")
        if hop.fee_amount:
            parts.append(_fee(hop.fee_amount, hop.fee_currency, units))
    if path.valid_until is not None:
        parts.append(f"until {path.valid_until}")
    return ", ".join(parts)


def _hold_line(found: PointsHold, units: Units) -> str:
    amount = units.text(found.amount, found.asset)
    left = format_amount(found.remaining, units.asset(found.asset).scale)
    reference = f", {found.reference}" if found.reference is not None else ""
    whose = f"{found.account_id} for {found.merchant_id}"
    return f"{found.id} {left:>16} of {amount} {whose}, {found.status}, until {found.until}{reference}"


def _balance_json(found: Balance) -> dict[str, Any]:
    return {**msgspec.structs.asdict(found), "lots": [msgspec.structs.asdict(lot) for lot in found.lots]}


def _balance_line(found: Balance, asset: Asset) -> str:
    def text(points: int) -> str:
        return format_amount(points, asset.scale)

    line = f"{text(found.total):>16} {asset.code}"
    if found.spendable != found.total:
        line += f", {text(found.spendable)} of them usable"
    due = next((lot for lot in found.lots if lot.is_spendable and lot.last_day is not None), None)
    if due is not None:
        line += f", {text(due.points)} until {due.last_day}"
    return line


def _movement_line(line: StatementLine, asset: Asset) -> str:
    amount = ("+" if line.amount > 0 else "") + format_amount(line.amount, asset.scale)
    left = format_amount(line.balance, asset.scale)
    last_day = "" if line.last_day is None else f", last day {line.last_day}"
    return f"{line.time} {amount:>16} {asset.code} {left:>16} {line.kind} {line.entry_id}{last_day}"
