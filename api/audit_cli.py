"""The command ``guerdon audit``: of a database, of a server's log, of an archive, and of a receipt."""

import gc
import ipaddress
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Unpack
from urllib.parse import urlsplit

import msgspec
import typer
from typer.core import TyperGroup

from api.cli_options import LogKeys, PassphraseFile, Quorum, Witnesses, read_policy
from api.client import open_session
from api.log_client import LogClient
from api.opening import opened_store
from api.progress import ProgressTasks, progress_bar
from api.settings import Settings
from ledger.audit import CHECKS, AuditReport, Options, Terms
from ledger.audit_database import audit_database
from ledger.audit_state import AuditState, read_audit_state, write_audit_state
from ledger.checkpoint import LogKey, encode_verifier_key
from ledger.encoding import format_time
from ledger.keyring import load_private_key, read_passphrase
from ledger.published_log import audit_published_log, folder_fetch
from ledger.receipt import (
    MAX_RECEIPT_CHARACTERS,
    VERSION_LINE,
    Proven,
    ReceiptError,
    decode_receipt,
    verify_receipt,
)


class _WithDefault(TyperGroup):
    """Commands of which the first may be left out: what follows is then for that one."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the name of the first command where none is named."""
        first = next(iter(self.commands))
        return super().parse_args(ctx, args if args and args[0] in {*self.commands, "--help"} else [first, *args])


audit_app = typer.Typer(
    cls=_WithDefault, help="Audit a ledger (guerdon audit log) or verify a receipt.", rich_markup_mode=None
)


@audit_app.command("log")
def audit_log(  # noqa: PLR0917 - typer makes an option of each parameter
    source: Annotated[
        str | None,
        typer.Argument(help="https://…/log/ of a server, or the folder of an archive; left out: the database."),
    ] = None,
    log_key: Annotated[
        list[str] | None,
        typer.Option(help="A verifier key of the log, known from elsewhere; may be given several times."),
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="A checkpoint or receipt kept from before: the ledger must begin with it.")
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(help="Where to keep what was verified, and to go on from: only what is new is read then."),
    ] = None,
    light: Annotated[
        bool,
        typer.Option("--light", help="Check chain, tree, signatures and sums, but not the rules; in little memory."),
    ] = False,
    witness: Witnesses = None,
    quorum: Quorum = None,
    account: Annotated[
        str | None,
        typer.Option(help="The auditor's account to sign in with, where a server shows entries to no other"),
    ] = None,
    key: Annotated[
        list[Path] | None,
        typer.Option(help="A private key's file; as many as the account's threshold asks for."),
    ] = None,
    passphrase_file: PassphraseFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    processes: Annotated[
        int | None, typer.Option(help="Processes that verify signatures; one per core by default.", min=0, max=256)
    ] = None,
) -> None:
    """Replay a ledger from genesis, and compare all that is stored or published beside its entries with that.

    "log" may be left out. With --state, an audit goes on where the last one ended, or was interrupted. The exit status
    is 0 only when every invariant holds; otherwise the first entry that breaks one is named.

    Example: guerdon audit --log-key 'ledger.example/coalition+…'

    Example: guerdon audit log https://ledger.example/log/ --log-key 'ledger.example/coalition+…'
    --state coalition.audit --account aud_… --key auditor.pem
    """
    policy = read_policy(log_key or (), witness, quorum)
    terms = Terms(
        log_keys=tuple(log_key or ()),
        kept=_read_kept(checkpoint) if checkpoint else None,
        witnesses=policy.witnesses,
        quorum=policy.threshold,
    )
    sign_in = _sign_in(source, account, key, passphrase_file)
    resume = read_audit_state(state) if state is not None else None
    with _without_collector(), progress_bar() as progress:
        tasks = ProgressTasks(progress)
        result = _audit(
            source,
            terms,
            sign_in,
            light=light,
            resume=resume,
            keep=_keeper(state),
            processes=processes,
            progress=lambda done, total: tasks.update("Auditing entries", done, total),
        )
    if as_json:
        typer.echo(msgspec.json.encode({"ok": result.ok, **msgspec.structs.asdict(result)}).decode())
    else:
        print_audit(result, log_key_given=bool(log_key))
    if not result.ok:
        raise typer.Exit(1)


@contextmanager
def _without_collector() -> Iterator[None]:
    """Replaying makes no cycles, and looking for some in what it keeps takes longer the more there is."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _audit(
    source: str | None, terms: Terms, sign_in: Callable[[], str] | None, **options: Unpack[Options]
) -> AuditReport:
    if source is None:
        with opened_store(Settings.from_environment(os.environ)) as store:
            return audit_database(store, terms, **options)
    if _is_url(source):
        return audit_published_log(LogClient(source, sign_in), terms, **options)
    folder = Path(source)
    if not folder.is_dir():
        message = f"{source!r} is neither an address (https://…/log/) nor a folder with an archive"
        raise typer.BadParameter(message, param_hint="SOURCE")
    return audit_published_log(folder_fetch(folder), terms, **options)


def _is_url(source: str) -> bool:
    return source.startswith(("http://", "https://"))


def _sign_in(
    source: str | None, account: str | None, key: Sequence[Path] | None, passphrase_file: Path | None
) -> Callable[[], str] | None:
    """How to get a bearer token of the server whose log is audited."""
    if account is None and not key:
        return None
    if source is None or not _is_url(source):
        raise typer.BadParameter("only a server asks who one is: leave it out", param_hint="--account, --key")
    if account is None or not key:
        raise typer.BadParameter("signing in takes both", param_hint="--account, --key")
    address = urlsplit(source)
    if address.scheme != "https" and not _is_loopback(address.hostname):
        raise typer.BadParameter("a session is opened over https:// only, or on this machine", param_hint="SOURCE")
    passphrase = read_passphrase(passphrase_file) if passphrase_file else None
    keys = [load_private_key(path, passphrase) for path in key]
    api = source.rstrip("/").removesuffix("/log") + "/graphql"
    return lambda: open_session(api, account, keys)


def _is_loopback(host: str | None) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def _read_kept(path: Path) -> str:
    """The signed checkpoint in a file, which a receipt ends with."""
    text = path.read_text(encoding="utf-8")
    return decode_receipt(text).note if text.startswith(VERSION_LINE) else text


def _keeper(path: Path | None) -> Callable[[AuditState], None] | None:
    return None if path is None else lambda state: write_audit_state(path, state)


def print_audit(result: AuditReport, *, log_key_given: bool) -> None:
    """What was checked, of how many, and what failed."""
    broken = {failure.check for failure in result.failures}
    kind = "light audit" if result.light else "audit"
    origin = "".join(c for c in result.origin if c.isprintable())
    typer.echo(f"{kind} of {origin}: {result.size:,} entries, root {result.root}")
    if result.first:
        typer.echo(f"  the first {result.first:,} were audited before; {result.size - result.first:,} are new")
    for check, count in result.counts.items():
        mark = "FAILED" if check in broken else "ok" if count else "-"
        typer.echo(f"  {mark:<6} {count:>9,} {check:<14} {CHECKS[check]}")
    if result.witnessed:
        typer.echo(f"the first {result.witnessed:,} of {result.size:,} entries are witnessed")
    for cosignature in result.cosignatures:
        typer.echo(f"cosigned by {cosignature.witness} at {_moment(cosignature.timestamp_s)}")
    for failure in result.failures:
        where = "" if failure.seq is None else f"entry {failure.seq}: "
        typer.echo(f"{failure.check}: {where}{failure.message}")
    if result.ok and not log_key_given:
        typer.echo("the log key is as genesis says: only with --log-key is this the ledger you were told about")
    typer.echo("every invariant holds" if result.ok else "the ledger is NOT what it claims to be")


@audit_app.command("receipt")
def audit_receipt(
    file: Annotated[typer.FileBinaryRead, typer.Argument(help="The receipt; - for standard input.")],
    log_key: LogKeys,
    witness: Witnesses = None,
    quorum: Quorum = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what is proven as JSON.")] = False,
) -> None:
    """Verify a receipt with the log's key and nothing else: no server, no database, no network.

    With witnesses, the checkpoint must be cosigned by them too: then nobody was shown a history without this entry.

    The exit status is 0 only when the receipt proves its entry.

    Example: guerdon audit receipt payment.receipt --log-key 'ledger.example/coalition+…'
    --witness 'witness.example/w1+…' --witness 'witness.example/w2+…' --quorum 1
    """
    policy = read_policy(log_key, witness, quorum)
    try:
        text = file.read(4 * MAX_RECEIPT_CHARACTERS + 1).decode()
    except UnicodeDecodeError as error:
        raise ReceiptError("a receipt is text in UTF-8") from error
    proven = verify_receipt(text, policy)
    if as_json:
        typer.echo(proven_json(proven))
    else:
        print_proven(proven)


def proven_json(proven: Proven) -> str:
    """What a receipt proves, as JSON; ``entry`` is the entry as the log has it."""
    checkpoint = {
        "origin": proven.checkpoint.origin,
        "size": proven.checkpoint.size,
        "root": proven.checkpoint.root.hex(),
    }
    cosignatures = [msgspec.structs.asdict(cosignature) for cosignature in proven.cosignatures]
    fields = {"ok": True, "seq": proven.seq, "hash": proven.leaf_hash.hex(), "checkpoint": checkpoint}
    fields |= {"log_keys": [_verifier_key(key) for key in proven.signers], "cosignatures": cosignatures}
    return msgspec.json.encode({**fields, "entry": msgspec.Raw(proven.data)}).decode()


def _verifier_key(key: LogKey) -> str:
    return encode_verifier_key(key.name, key.public_key)


def _moment(timestamp_s: int) -> str:
    """A time that a witness states, which may be beyond all calendars."""
    try:
        return format_time(timestamp_s * 1000)
    except OverflowError:
        return f"{timestamp_s} s"


def print_proven(proven: Proven) -> None:
    """What a receipt proves, for a person."""
    entry, checkpoint = proven.entry, proven.checkpoint
    typer.echo(f"entry {proven.seq} of {checkpoint.origin} is proven")
    typer.echo(f"  hash        {proven.leaf_hash.hex()}")
    typer.echo(f"  checkpoint  {checkpoint.size:,} entries, root {checkpoint.root.hex()}")
    for cosignature in proven.cosignatures:
        typer.echo(f"  cosigned    by {cosignature.witness} at {_moment(cosignature.timestamp_s)}")
    typer.echo(
        f"  operation   {entry.op.KIND} by {getattr(entry.op, 'actor', None) or 'a new account'}, of {entry.op.at}"
    )
    typer.echo(f"  recorded    {entry.time}")
    for leg in entry.postings:
        last_day = "" if leg.lot is None else f", last day {leg.lot}"
        typer.echo(f"  posting     {leg.amount:+,} {leg.asset} {leg.account}{last_day}")
