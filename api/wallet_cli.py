"""The commands of a wallet: ``guerdon send``, ``redeem``, ``submit``, ``balance`` and ``history``.

They need a server, an account and its key, but no database. Amounts are typed and shown as people write them, in
decimal with as many places as the asset has; ``--json`` gives integers in the asset's smallest unit.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

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
from api.guerdon import Asset, Balance, Guerdon, Recorded, StatementLine, UnansweredError, UnprovenError
from ledger.amounts import format_amount, parse_amount
from ledger.checkpoint import encode_verifier_key
from ledger.encoding import encode_canonical
from ledger.entries import Posting
from ledger.keyring import load_private_key, read_passphrase
from ledger.operations import Operation, Redeem, SignedOperation, Transfer, decode_signed_operation
from ledger.sequencer import MAX_SUBMITTED_BYTES
from ledger.terms import Recipient
from ledger.wallet import encode_document

MAX_LINES = 1_000_000

Amount = Annotated[str, typer.Argument(help="How much, in decimal with at most as many places as the asset has: 12.50")]
AssetCode = Annotated[str, typer.Argument(help="The asset's code.")]
Expires = Annotated[
    int, typer.Option(help="Seconds from now after which it can no longer be recorded.", min=1, max=30 * 86_400)
]
ReceiptFile = Annotated[
    Path | None, typer.Option("--receipt", help="Keep the receipt in this file, which must not exist yet.")
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask, on a terminal, before signing.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, with amounts in the asset's smallest unit.")]


def send(  # noqa: PLR0917 - typer makes an option of each parameter
    amount: Amount,
    asset: AssetCode,
    to: Annotated[str, typer.Argument(help="The receiving account.")],
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
    """Transfer points to another account: show what would happen, ask, sign, submit, and verify the receipt.

    Example: guerdon send 12.50 STAR mem_… --account mem_… --key member.pem --log-key 'ledger.example/coalition+…'
    --receipt payment.receipt
    """

    def transfer(units: int) -> tuple[type[Operation], dict[str, Any]]:
        return Transfer, {"recipients": (Recipient(amount=units, to=to),)}

    with _client(url, account, key, passphrase_file, log_key) as client:
        _spend(client, amount, asset, transfer, f"to {to}", expires=expires, receipt=receipt, yes=yes, as_json=as_json)


def redeem(  # noqa: PLR0917 - typer makes an option of each parameter
    amount: Amount,
    asset: AssetCode,
    merchant: Annotated[str, typer.Argument(help="The merchant at which they are spent.")],
    account: SignInAccount,
    key: SignInKeys,
    url: ServiceUrl = DEFAULT_URL,
    reference: Annotated[str | None, typer.Option(help="The merchant's bill or order, if there is one.")] = None,
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

    def redemption(units: int) -> tuple[type[Operation], dict[str, Any]]:
        return Redeem, {"amount": units, "merchant": merchant, "reference": reference}

    with _client(url, account, key, passphrase_file, log_key) as client:
        where = f"at {merchant}"
        _spend(client, amount, asset, redemption, where, expires=expires, receipt=receipt, yes=yes, as_json=as_json)


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
    with _client(url, account, key, passphrase_file) as client:
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
    with _client(url, account, key, passphrase_file) as client:
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
def _client(
    url: str,
    account: str,
    key: Sequence[Path],
    passphrase_file: Path | None,
    log_key: Sequence[str] | None = None,
) -> Iterator[Guerdon]:
    for text in log_key or ():
        read_log_key(text)  # what is no key is a wrong call
    passphrase = read_passphrase(passphrase_file) if passphrase_file else None
    keys = [load_private_key(path, passphrase) for path in key]
    with Guerdon(url, account=account, keys=keys, log_keys=log_key or ()) as client:
        yield client


def _spend(
    client: Guerdon,
    amount: str,
    code: str,
    operation: Callable[[int], tuple[type[Operation], dict[str, Any]]],
    where: str,
    *,
    expires: int,
    receipt: Path | None,
    yes: bool,
    as_json: bool,
) -> None:
    """What ``send`` and ``redeem`` have in common. ``operation`` tells kind and fields for an amount."""
    asset = client.asset(code)
    kind, fields = operation(_read_amount(amount, asset))
    if sys.stdin.isatty() and not yes:
        what = f"{amount} {code} ({asset.name}) {where}"
        _confirm(client, client.wallet.build(kind, asset=code, **fields), what, asset)
    # Built anew after the answer: however long that took, the operation is of now.
    signed = client.wallet.sign(kind, asset=code, expires_in_ms=expires * 1000, **fields)
    _submit(client, signed, asset, receipt=receipt, as_json=as_json)


def _confirm(client: Guerdon, op: Operation, what: str, asset: Asset) -> None:
    """Show on standard error what an operation would do, and ask; refusals are told before anything is signed."""
    preview = client.preview(op)
    if preview.refusals:
        raise RefusedError(preview.refusals)
    typer.echo(f"{what}, from {client.account}", err=True)
    for leg in preview.postings or ():
        typer.echo(f"  {_posting(leg, asset)}", err=True)
    if preview.balance is not None:
        typer.echo(f"  leaves {format_amount(preview.balance, asset.scale)} {asset.code}", err=True)
    if not typer.confirm("Sign and submit it?", err=True):
        typer.echo("nothing was signed", err=True)
        raise typer.Exit(1)


def _submit(
    client: Guerdon, signed: SignedOperation, asset: Asset | None, *, receipt: Path | None, as_json: bool
) -> None:
    with _kept_in(receipt) as keep:
        with _kept_until_answered(signed):
            recorded = client.submit(signed)
        try:
            if as_json:
                typer.echo(msgspec.json.encode(_recorded_json(recorded)).decode())
            else:
                _print_recorded(recorded, asset)
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
    return decode_signed_operation(encode_canonical(fields), MAX_SUBMITTED_BYTES)


def _read_amount(text: str, asset: Asset) -> int:
    try:
        units = parse_amount(text, asset.scale)
    except ValueError as error:
        raise typer.BadParameter(f"{error} ({asset.code} has {asset.scale})", param_hint="AMOUNT") from error
    if units == 0:
        raise typer.BadParameter("nothing would be moved", param_hint="AMOUNT")
    return units


def _recorded_json(recorded: Recorded) -> dict[str, Any]:
    return {
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


def _print_recorded(recorded: Recorded, asset: Asset | None) -> None:
    again = ", as an earlier submission had it recorded" if recorded.replayed else ""
    typer.echo(f"entry     {recorded.seq} of {recorded.entry.op.ledger}, recorded {recorded.entry.time}{again}")
    typer.echo(f"hash      {recorded.hash}")
    for leg in recorded.postings:
        typer.echo(f"posting   {_posting(leg, asset)}")
    if recorded.balance is not None and asset is not None:
        typer.echo(f"balance   {format_amount(recorded.balance, asset.scale)} {asset.code}")
    if recorded.proven is None:
        typer.echo("receipt   NOT verified: give the log's key as you got it from elsewhere (--log-key)")
    else:
        signers = ", ".join(encode_verifier_key(key.name, key.public_key) for key in recorded.proven.signers)
        typer.echo(f"receipt   verified: signed by {signers}")


def _posting(leg: Posting, asset: Asset | None) -> str:
    scale = asset.scale if asset is not None and asset.code == leg.asset else 0
    unit = leg.asset if asset is not None else f"units of {leg.asset}"
    last_day = "" if leg.lot is None else f", last day {leg.lot}"
    sign = "+" * (leg.amount > 0)
    return f"{sign}{format_amount(leg.amount, scale)} {unit} {leg.account}{last_day}"


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
