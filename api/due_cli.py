"""The command ``guerdon run-due``: does what time has made due, or shows it."""

import json
import os
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from api.cli_options import PassphraseFile
from api.due_work import operator_of
from api.opening import key_passphrase, load_log_keys, open_profiles, opened_store, system_clock
from api.progress import ProgressTasks, progress_bar
from api.settings import Settings
from ledger.amounts import format_amount
from ledger.due import DueFilter, DueOfAsset, DueReport, DueRun, due_assets, due_filter, due_time
from ledger.keyring import load_private_key, read_passphrase
from ledger.queries import Page
from ledger.sequencer import Sequencer
from ledger.store import Store, StoreError
from ledger.wallet import Wallet

PAGE = 500


def run_due(  # noqa: PLR0917 - typer makes an option of each parameter
    asset: Annotated[list[str] | None, typer.Option(help="Only this asset; may be given several times.")] = None,
    account: Annotated[
        str | None,
        typer.Option(
            help="The operator's account, or a merchant's for its part (GUERDON_DUE_ACCOUNT, the operator's)."
        ),
    ] = None,
    key: Annotated[
        list[Path] | None,
        typer.Option(help="The account's key file; as many as its threshold asks for (GUERDON_DUE_KEY_FILE)."),
    ] = None,
    passphrase_file: PassphraseFile = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what is due, reminders and birthdays aside, and do nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON; points in the smallest unit.")] = False,
) -> None:
    """Do what time has made due.

    Lots whose last day is over are retired, what is left of holds that have lapsed is given back, points that vest are
    issued, and tiers that have ended are noted. Members are reminded of what there is to tell them. With an issuer's
    key, and the server's profile key, they have what their birthday brings.

    By signed operations, in batches. Killed or stopped with Ctrl-C, it goes on where it was when it is run again; a
    server or another run that does the same is in nobody's way. The exit status is 0 only if all that was due is done.

    A merchant's key does its part: lots, vesting, tiers and reminders of its assets, lapsed holds of these and for it.

    Example: guerdon run-due --account opr_… --key operator.pem
    """
    settings = Settings.from_environment(os.environ)
    with opened_store(settings) as store:
        who = account or settings.due_account or operator_of(store)
        with store.read() as connection:
            wanted = due_filter(store, connection, who, tuple(asset or ()))
        if dry_run:
            time, due = _find(store, wanted)
            _print(store, time, due, as_json=as_json)
            return
        wallet = _wallet(settings, store, who, key or (), passphrase_file)
        report = _run(settings, store, wallet, wanted)
        _print(store, report.time, report.assets, as_json=as_json, report=report)
    if not report.is_complete:
        raise StoreError(f"not all that is due is done: {report.trouble or 'stopped'}")


def _wallet(
    settings: Settings, store: Store, account: str, keys: Sequence[Path], passphrase_file: Path | None
) -> Wallet:
    if not keys and not settings.due_key_files:
        raise typer.BadParameter("give the account's key file, or set GUERDON_DUE_KEY_FILE", param_hint="--key")
    if keys:
        passphrase = read_passphrase(passphrase_file) if passphrase_file else None
    else:
        passphrase = read_passphrase(passphrase_file) if passphrase_file else key_passphrase(settings)
    files = keys or settings.due_key_files
    return Wallet(store.origin, account, [load_private_key(file, passphrase) for file in files], system_clock)


def _find(store: Store, wanted: DueFilter) -> tuple[str, list[DueOfAsset]]:
    """All that is due, in one snapshot, and by which time."""
    found: list[DueOfAsset] = []
    with store.read() as connection:
        time = due_time(store, connection, system_clock)
        while True:
            page = Page(limit=PAGE, after=found[-1].asset if found else None)
            more = due_assets(store, connection, wanted, time, page)
            found += more
            if len(more) < PAGE:
                return time, found


def _run(settings: Settings, store: Store, wallet: Wallet, wanted: DueFilter) -> DueReport:
    with (
        Sequencer(store, load_log_keys(settings), system_clock) as sequencer,
        progress_bar() as progress,
        _until_interrupted() as stopping,
    ):
        tasks = ProgressTasks(progress)
        run = DueRun(
            store,
            sequencer.submit,
            wallet,
            system_clock,
            wanted,
            progress=tasks.update,
            goes_on=lambda: not stopping.is_set(),
            profiles=open_profiles(settings, store),
        )
        return run.run()


@contextmanager
def _until_interrupted() -> Iterator[threading.Event]:
    """An event that Ctrl-C or SIGTERM sets: what is under way is recorded and told before the command ends."""
    stopping = threading.Event()
    former = {number: signal.signal(number, lambda *_: stopping.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopping
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


_SHOWN = ("asset", "lots", "points", "holds", "held_points", "vesting", "vesting_points", "members")
_DONE = ("reminded", "birthdays")


def _print(store: Store, time: str, rows: Iterable[Any], *, as_json: bool, report: DueReport | None = None) -> None:
    """What is due, or with a report what was done."""
    rows = list(rows)
    if as_json:
        name = "due" if report is None else "done"
        shown = [{field: getattr(row, field) for field in (*_SHOWN, *_more(report))} for row in rows]
        found: dict[str, Any] = {"time": time, name: shown}
        if report is not None:
            found |= {"complete": report.is_complete, "refused": report.refused, "trouble": report.trouble}
        typer.echo(json.dumps(found))
        return
    if not rows:
        typer.echo("nothing is due" if report is None or report.is_complete else "nothing was done")
        return
    with store.read() as connection:
        scales = {each.code: each.scale for each in store.assets(connection, [row.asset for row in rows])}
    table = Table("asset", "what", box=box.ROUNDED, title=f"{'Due' if report is None else 'Done'} at {time}")
    table.title_justify = "left"
    table.add_column("how many", justify="right")
    table.add_column("points", justify="right")
    for row in rows:
        for what, count, points in _pieces(row, was_done=report is not None):
            of_it = "" if points is None else format_amount(points, scales[row.asset])
            table.add_row(row.asset, what, f"{count:,}", of_it)
    Console().print(table)


def _pieces(row: Any, *, was_done: bool) -> Iterator[tuple[str, int, int | None]]:
    """What there is of each kind of work of an asset, with its points if it is about points; nothing is left out."""
    pieces: list[tuple[str, int, int | None]] = [
        ("lots expired" if was_done else "lots due", row.lots, row.points),
        ("holds released" if was_done else "holds lapsed", row.holds, row.held_points),
        ("purchases vested" if was_done else "purchases vesting", row.vesting, row.vesting_points),
        ("tiers reviewed" if was_done else "tiers over", row.members, None),
    ]
    if was_done:
        pieces += [("members reminded", row.reminded, None), ("birthdays", row.birthdays, None)]
    return (piece for piece in pieces if piece[1])


def _more(report: DueReport | None) -> tuple[str, ...]:
    return ("through", "first_day", "lapsed_since", "vests_since", "tiers_until") if report is None else _DONE
