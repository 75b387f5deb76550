"""The commands that open the database or keep a log: set up a ledger, serve it, import purchases, report, copy.

:mod:`api.cli` takes them in with the other commands when one of them is called.
"""

import csv
import os
import socket
import sqlite3
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, Literal, TextIO

import msgspec
import sqlalchemy as sa
import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from rich.console import Console

from api.accounting_cli import journal, statement
from api.audit_cli import audit_app
from api.cli_options import PassphraseFile
from api.due_cli import run_due
from api.due_work import due_wallet
from api.gallery_cli import gallery
from api.insight_cli import insight
from api.opening import key_passphrase, load_log_keys, open_profiles, opened_store, profile_key_file, system_clock
from api.points_report import points_report, print_report, write_report_csv
from api.progress import ProgressTasks, progress_bar
from api.settings import Settings
from api.witness_cli import witness_app
from api.witnessing import policy_of
from ledger import migrations, queries
from ledger.archive import ArchiveError, write_archive
from ledger.audit import AuditInterruptedError
from ledger.audit_state import AuditStateError
from ledger.checkpoint import CheckpointError, check_key_name, encode_verifier_key
from ledger.encoding import encode_canonical, format_time
from ledger.keyring import generate_private_key, load_private_key, read_passphrase
from ledger.keys import encode_public_key
from ledger.operations import Genesis, MalformedError, ReplaceLogKey, SignedOperation
from ledger.published_log import LogError
from ledger.purchases import (
    BrokenFileError,
    BrokenLine,
    Columns,
    CustomerNumbers,
    FileFormat,
    Importer,
    ImportResult,
    ImportStoppedError,
    read_purchases,
)
from ledger.sequencer import Recorded, Sequencer, account_opened_by, create_ledger
from ledger.state import Rejection
from ledger.store import Store, StoreError, open_engine
from ledger.terms import DEFAULT_RECOVERY_DELAY_MS, FORMS, Currency, Origin
from ledger.verifier import VerifierError
from ledger.wallet import Wallet

app = typer.Typer(rich_markup_mode=None)
app.add_typer(audit_app, name="audit")
app.add_typer(witness_app, name="witness")
for _command in (journal, statement, insight, run_due, gallery):
    app.command()(_command)

EXPECTED_ERRORS = (
    ArchiveError,
    AuditInterruptedError,
    AuditStateError,
    BrokenFileError,
    ImportStoppedError,
    LogError,
    StoreError,
    VerifierError,
)
"""Errors of these commands whose message is meant for the person at the keyboard, beside those of all commands."""


SHUTDOWN_LIMIT_S = 20
"""How long a server that stops waits for clients that take nothing of what is still to be sent."""

_DAY_MS = 86_400_000


def message_of(error: Exception) -> str | None:
    """What an error of these commands tells the person at the keyboard; nothing of a fault."""
    if isinstance(error, sa.exc.DBAPIError):
        return f"the database cannot be used: {error.orig}"
    return str(error) if isinstance(error, EXPECTED_ERRORS) else None


def read_settings() -> Settings:
    """The settings in the environment."""
    return Settings.from_environment(os.environ)


@app.command()
def init(
    origin: Annotated[str, typer.Option(help="The ledger's name for ever: host/path without scheme.")],
    name: Annotated[str, typer.Option(help="The operator's public name.")] = "Operator",
    currency: Annotated[list[str], typer.Option(help="A settlement currency and its decimal places.")] = ["USD:2"],  # noqa: B006 - typer copies it
    clock_tolerance_ms: Annotated[int, typer.Option(help="How far in the future an operation may lie.")] = 30_000,
    recovery_delay_days: Annotated[
        int, typer.Option(help="Days until an account the operator recovers has its new keys.", min=1, max=90)
    ] = 7,
) -> None:
    """Create the tables and a ledger, or bring an existing database to the newest revision.

    Example: guerdon init --origin ledger.example/coalition --currency USD:2 --currency JPY:0
    """
    settings = read_settings()
    delay_ms = recovery_delay_days * _DAY_MS
    fields = {
        "name": name,
        "currencies": tuple(_parse_currency(text) for text in currency),
        "clock_tolerance_ms": clock_tolerance_ms,
        "recovery_delay_ms": delay_ms if delay_ms != DEFAULT_RECOVERY_DELAY_MS else None,
    }
    _check_genesis(origin, **fields)
    engine = open_engine(settings.database_url)
    try:
        migrations.migrate(engine)
        typer.echo(f"database at revision {migrations.newest_revision()}")
        with engine.connect() as connection:
            there = origin in queries.origins(connection, limit=10_000)
        if there:
            typer.echo(f"the ledger {origin} is there already")
            return
        _found(settings, Store(engine, origin), fields)
    finally:
        engine.dispose()


def _check_genesis(origin: str, **fields: Any) -> None:
    """Refuse as a wrong call what no ledger can begin with, before a key or a table is made for it."""
    try:
        check_key_name(msgspec.convert(origin, Origin))
    except (msgspec.ValidationError, CheckpointError) as error:
        raise typer.BadParameter(f"{origin!r} names no ledger: {FORMS[Origin]}", param_hint="--origin") from error
    key = Ed25519PrivateKey.generate()
    try:
        _sign_genesis(origin, key, key, **fields)
    except MalformedError as error:
        options = {"currencies": "--currency", "clock_tolerance_ms": "--clock-tolerance-ms"}
        hint = options.get(error.path[0], f"--{error.path[0]}") if error.path else None
        raise typer.BadParameter(error.message, param_hint=hint) from error


def _sign_genesis(
    origin: str, operator: Ed25519PrivateKey, log_key: Ed25519PrivateKey, **fields: Any
) -> SignedOperation:
    wallet = Wallet(origin, None, [operator], system_clock)
    keys = (encode_public_key(operator),)
    return wallet.sign(Genesis, keys=keys, log_key=encode_verifier_key(origin, log_key), **fields)


def _found(settings: Settings, store: Store, fields: dict[str, Any]) -> None:
    passphrase = key_passphrase(settings)
    operator_file = settings.log_key_file.with_name("operator.pem")
    # Keys of an attempt that did not come to its end are used, so that trying again is all there is to do.
    log_key, operator = (
        load_private_key(path, passphrase) if path.exists() else generate_private_key(path, passphrase)
        for path in (settings.log_key_file, operator_file)
    )
    genesis = _sign_genesis(store.origin, operator, log_key, **fields)
    recorded = create_ledger(store, genesis, log_key, system_clock)
    typer.echo(f"ledger       {store.origin}")
    typer.echo(f"operator     {account_opened_by(recorded)}")
    typer.echo(f"log key      {encode_verifier_key(store.origin, log_key)}")
    profile_file = profile_key_file(settings)
    if not profile_file.exists():
        generate_private_key(profile_file, passphrase)
    typer.echo(f"private keys {settings.log_key_file} and {operator_file}: back them up, they cannot be made again")
    typer.echo(f"profile key  {profile_file}: back it up too, apart from the database")


def _parse_currency(text: str) -> Currency:
    code, _, scale = text.partition(":")
    if len(code) != 3 or not code.isascii() or not code.isupper() or scale not in {"0", "1", "2", "3", "4"}:
        raise typer.BadParameter(f"{text!r} is not a currency and its decimal places, such as USD:2")
    return Currency(code=code, scale=int(scale))


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=0, max=65_535)] = 8000,
    workers: Annotated[int, typer.Option(help="Server processes; they may share one database.", min=1, max=64)] = 1,
) -> None:
    """Serve the API, with GraphiQL at /graphql in a browser.

    Example: guerdon serve --port 8000 --workers 4
    """
    import uvicorn  # noqa: PLC0415 - the other commands start without it

    from api.app import open_documents  # noqa: PLC0415 - the other commands start without GraphQL
    from api.websocket import MAX_MESSAGE_BYTES  # noqa: PLC0415

    settings = read_settings()
    open_documents(settings)
    with opened_store(settings) as store:  # what is wrong is said here once, not by every worker
        origin = store.origin
        policy_of(settings, store)
        open_profiles(settings, store)
        due_wallet(settings, store, system_clock)
        with Sequencer(store, load_log_keys(settings), system_clock):
            pass  # it starts only with the ledger's own key
    _refuse_taken(host, port)
    typer.echo(f"{origin} on http://{host}:{port}/graphql")
    try:
        uvicorn.run(
            "api.app:from_environment",
            factory=True,
            host=host,
            port=port,
            workers=workers,
            access_log=False,
            log_level="warning",
            log_config=_log_config(uvicorn.config.LOGGING_CONFIG),
            server_header=False,
            proxy_headers=False,  # which proxies to believe is GUERDON_TRUSTED_PROXIES' to say
            ws_max_size=MAX_MESSAGE_BYTES,
            ws_per_message_deflate=False,  # memory for each connection, and little gained on small messages
            timeout_graceful_shutdown=SHUTDOWN_LIMIT_S,
        )
    except SystemExit as end:  # uvicorn ends the process with a status of its own
        if end.code:
            raise OSError(f"the server could not start on {host} port {port}") from end


def _log_config(servers: dict[str, Any]) -> dict[str, Any]:
    """The server's, and on standard error too what this service says it does by itself, such as due work."""
    ours = {"handlers": ["default"], "level": "INFO", "propagate": False}
    return {**servers, "loggers": {**servers["loggers"], "guerdon": ours}}


def _refuse_taken(host: str, port: int) -> None:
    """Say that an address cannot be listened on before the server does, in many lines."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        message = f"cannot listen on {host} port {port} ({error.strerror}): stop what does, or choose another --port"
        raise OSError(message) from error


def replace_log_key(file: Path, operator_key: Sequence[Path], passphrase_file: Path | None) -> None:
    """Give the log the key in a file, signed by the operator's: see ``guerdon keys replace-log``."""
    settings = read_settings()
    new = load_private_key(file, key_passphrase(settings))
    passphrase = read_passphrase(passphrase_file) if passphrase_file else None
    operator_keys = [load_private_key(path, passphrase) for path in operator_key]
    with opened_store(settings) as store:
        log_key = encode_verifier_key(store.origin, new)
        recorded = _record_log_key(store, [*load_log_keys(settings), new], operator_keys, log_key)
    typer.echo(f"log key      {log_key}")
    typer.echo(f"in force     for checkpoints of {recorded.seq + 1:,} entries and more")
    typer.echo("next         start every server anew with these; one without the new key records nothing:")
    typer.echo(f"             GUERDON_LOG_KEY_FILE={file} GUERDON_OTHER_LOG_KEY_FILES={settings.log_key_file}")
    typer.echo("then         tell auditors and witnesses the new log key; when all have it, leave the old one out")


def rewrap_profiles() -> None:
    """Wrap every member's key with the profile key: see ``guerdon keys rewrap-profiles``."""
    settings = read_settings()
    with opened_store(settings) as store, progress_bar() as progress:
        profiles = open_profiles(settings, store)
        if profiles is None:
            raise StoreError(f"there is no profile key: guerdon keys generate {profile_key_file(settings)}")
        tasks = ProgressTasks(progress)
        total = profiles.count_foreign(store)
        done = profiles.rewrap(store, lambda count: tasks.update("members' keys", count, max(total, count)))
    typer.echo(f"keys wrapped {done:,} with {profile_key_file(settings)}")
    if settings.other_profile_key_files:
        typer.echo("next         start every server without GUERDON_OTHER_PROFILE_KEY_FILES, and destroy those keys")
        typer.echo("             with their backups: then nobody opens the profiles in older backups of the database")


def _record_log_key(
    store: Store, log_keys: Sequence[Ed25519PrivateKey], operator_keys: Sequence[Ed25519PrivateKey], log_key: str
) -> Recorded:
    with Sequencer(store, log_keys, system_clock) as sequencer:
        assert sequencer.parameters is not None
        operator = Wallet(store.origin, sequencer.parameters.operator, operator_keys, system_clock)
        (outcome,) = sequencer.submit([operator.sign(ReplaceLogKey, log_key=log_key)]).result()
    if isinstance(outcome, Rejection):
        raise StoreError(f"{outcome.code}: {outcome.message}")
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


@app.command("import")
def import_command(  # noqa: PLR0917 - typer makes an option of each parameter
    file: Annotated[Path, typer.Argument(help="The purchases: CSV, or columns divided by white space.", exists=True)],
    merchant: Annotated[str, typer.Option(help="The merchant's account.")],
    key: Annotated[Path, typer.Option(help="The merchant's private key file.")],
    asset: Annotated[str, typer.Option(help="The merchant's asset, which needs a program.")],
    customer: Annotated[str, typer.Option(help="Column of the customer number: a header's name, or counted from 1.")],
    date: Annotated[str, typer.Option(help="Column of the date.")],
    amount: Annotated[str, typer.Option(help="Column of the amount, in decimal units of the program's currency.")],
    order: Annotated[str | None, typer.Option(help="Column of the order reference; made up without one.")] = None,
    source: Annotated[
        str, typer.Option(help="Without order references: which till, shop or export the file is of.")
    ] = "",
    layout: Annotated[Literal["csv", "whitespace"], typer.Option(help="How columns are divided.")] = "csv",
    header: Annotated[bool, typer.Option(help="Whether the first line names the columns.")] = True,
    date_format: Annotated[str, typer.Option(help="How dates are written (strptime).")] = "%Y-%m-%d",
    passphrase_file: PassphraseFile = None,
    customers: Annotated[
        Path | None, typer.Option(help="Write which account each customer number has to this CSV file, for reports.")
    ] = None,
) -> None:
    """Enrol customers and record their purchases as signed operations, then print what was done.

    A broken line refuses the whole file. An import that was killed can be run again: nothing is recorded twice.

    Without order references a purchase is known by its customer, date and place among the customer's purchases of that
    day, so give files of several tills or shops a --source each, and the same one whenever such a file comes again.

    Example: guerdon import sales.csv --merchant mer_… --key merchant.pem --asset STAR --customer customer_id
    --date sold_on --amount total --order order_no
    """
    if order is not None and source:
        raise typer.BadParameter("an order reference needs no source: leave one of them out", param_hint="--source")
    settings = read_settings()
    columns = Columns(customer=customer, date=date, amount=amount, order=order)
    merchant_key = load_private_key(key, read_passphrase(passphrase_file) if passphrase_file else None)
    with opened_store(settings) as store, progress_bar() as progress:
        result = import_purchases(
            store,
            load_log_keys(settings),
            file,
            merchant=merchant,
            merchant_key=merchant_key,
            asset=asset,
            columns=columns,
            layout=layout,
            header=header,
            date_format=date_format,
            source=source,
            customers=customers,
            tasks=ProgressTasks(progress),
        )
    typer.echo(
        f"{result.lines} purchases of {result.customers} customers: {result.purchases_recorded} recorded, "
        f"{result.purchases_known} known already, {result.accounts_opened} accounts opened"
    )


def import_purchases(
    store: Store,
    log_keys: Ed25519PrivateKey | Sequence[Ed25519PrivateKey],
    file: Path,
    *,
    merchant: str,
    merchant_key: Ed25519PrivateKey,
    asset: str,
    columns: Columns,
    layout: Literal["csv", "whitespace"],
    header: bool,
    date_format: str,
    customers: Path | None,
    tasks: ProgressTasks,
    source: str = "",
) -> ImportResult:
    """Import a file into a ledger; raise :class:`BrokenFileError` or :class:`ImportStoppedError`."""
    with store.read() as connection:
        account = queries.account(store, connection, merchant, format_time(system_clock()))
        versions = store.programs(connection, [asset])
    with Sequencer(store, log_keys, system_clock) as sequencer:
        if account is None or account.role != "merchant":
            raise ImportStoppedError(f"there is no merchant {merchant}")
        if not versions:
            raise ImportStoppedError(f"{asset} has no program: publish one first")
        program = versions[-1].program
        assert sequencer.parameters is not None
        unit = sequencer.parameters.units[program.currency]
        file_format = FileFormat(
            layout=layout,
            columns=columns,
            date_format=date_format,
            scale=len(str(unit)) - 1,
            time_zone=program.time_zone,
            header=header,
        )
        with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
            items = read_purchases(text, file_format)
        numbers = CustomerNumbers(merchant, store.origin, merchant_key, account.opened_at)
        wallet = Wallet(store.origin, merchant, [merchant_key], system_clock)
        importer = Importer(
            sequencer,
            wallet,
            numbers,
            asset=asset,
            currency=program.currency,
            progress=tasks.update,
            source=source,
        )
        result = importer.run(items)
    if customers is not None:
        _write_customers(customers, {item.customer: numbers.account(item.customer) for item in items})
    return result


def private_file(path: Path) -> TextIO:
    """A text file to write that nobody but its owner can read.

    Which customer has which account is personal data: kept beside the ledger, never in it, for the owner's eyes.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.fchmod(descriptor, 0o600)  # also where the file was there before
    return os.fdopen(descriptor, "w", encoding="utf-8", newline="")


def _write_customers(path: Path, accounts: dict[str, Any]) -> None:
    with private_file(path) as file:
        writer = csv.writer(file)
        writer.writerow(["customer", "account"])
        writer.writerows(accounts.items())


def read_customers(path: Path) -> dict[str, str]:
    """Customer numbers by account, from a file ``guerdon import --customers`` wrote."""
    with path.open(encoding="utf-8", newline="") as file:
        try:
            return {row["account"]: row["customer"] for row in csv.DictReader(file)}
        except (KeyError, UnicodeDecodeError, csv.Error) as error:
            broken = BrokenLine(line=1, field="customer and account", message=f"{path} is not of import --customers")
            raise BrokenFileError([broken]) from error


@app.command()
def report(
    asset: Annotated[str, typer.Option(help="The asset.")],
    output: Annotated[Literal["table", "csv", "json"], typer.Option("--format", help="How to print it.")] = "table",
    customers: Annotated[Path | None, typer.Option(help="Customer numbers, as import --customers wrote them.")] = None,
    first: Annotated[int | None, typer.Option(help="Only this many customers, in a table.", min=0)] = None,
) -> None:
    """Points per customer per month and in total.

    Example: guerdon report --asset STAR --format csv > points.csv
    """
    numbers = read_customers(customers) if customers else {}
    with opened_store(read_settings()) as store:
        gathered = points_report(store, asset, numbers)
    if output == "json":
        typer.echo(encode_canonical(gathered).decode())
    elif output == "csv":
        write_report_csv(gathered, sys.stdout)
    else:
        print_report(gathered, Console(), first)


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(help="Where the archive is, or is to be.", file_okay=False)],
) -> None:
    """Write the log as files that any web server can host: checkpoint, tiles, and every entry (C2SP tlog-tiles).

    Run it again, and only what is new is written; the checkpoint comes last. The entries tell all movements of all
    accounts: host them for those who may know.

    Example: guerdon export /srv/www/log
    """
    with opened_store(read_settings()) as store, progress_bar() as progress:
        tasks = ProgressTasks(progress)
        done = write_archive(store, folder, lambda tile, total: tasks.update("Exporting tiles", tile, total))
    typer.echo(
        f"{folder}: {done.size:,} entries, {done.size - done.old_size:,} of them new, {done.files:,} files written"
    )


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(help="The copy to write; must not exist yet.")],
) -> None:
    """Copy a SQLite ledger while it is in use: one consistent snapshot, checked. Keys are not in it.

    The file has its name only once it is whole and on disk; a copy that was interrupted is in the way of no other.
    For a ledger on PostgreSQL there are pg_basebackup with WAL archiving, and pg_dump.

    Example: guerdon backup /var/backups/ledger-2026-11-22.sqlite
    """
    settings = read_settings()
    with opened_store(settings) as store:
        if store.is_postgres:
            raise StoreError("this ledger is on PostgreSQL: use pg_basebackup with WAL archiving, or pg_dump")
        if file.exists():
            raise StoreError(f"{file} exists: choose another name, backups are never overwritten")
        size = copy_sqlite(store, file)
    typer.echo(f"{file}: {size:,} entries")


def copy_sqlite(store: Store, file: Path) -> int:
    """Copy the database under SQLite's backup interface; return the number of entries in the copy."""
    # Owner only from its first byte, as the database itself is: it holds every member's movements.
    descriptor, name = tempfile.mkstemp(prefix=f"{file.name}.", suffix=".partial", dir=file.parent)
    partial = Path(name)
    try:
        size = _fill_copy(store, partial)
        os.fsync(descriptor)
        if file.exists():
            raise StoreError(f"{file} exists: choose another name, backups are never overwritten")
        partial.rename(file)
        _sync_folder(file.parent)
    finally:
        os.close(descriptor)
        for left in (name, f"{name}-wal", f"{name}-shm", f"{name}-journal"):
            Path(left).unlink(missing_ok=True)
    return size


def _fill_copy(store: Store, file: Path) -> int:
    with store.engine.connect() as connection, closing(sqlite3.connect(file)) as copy:
        source: Any = connection.connection.driver_connection
        source.backup(copy)
        (verdict,) = copy.execute("PRAGMA integrity_check").fetchone()
        if verdict != "ok":
            raise StoreError(f"the copy is damaged ({verdict}): check the disk, and audit the ledger")
        (size,) = copy.execute("SELECT size FROM head WHERE origin = ?", (store.origin,)).fetchone()
    return int(size)


def _sync_folder(folder: Path) -> None:
    """Put a folder's names on disk: a file's new name may be lost with the power otherwise."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
