"""The commands ``guerdon journal`` and ``guerdon statement``: documents for bookkeepers, on standard output."""

import io
import os
import sys
from datetime import date
from typing import Annotated, BinaryIO, Literal, TextIO, cast

import typer
from rich.console import Console

from api.ids import ACCOUNT_ID
from api.journal import write_journal
from api.opening import opened_store
from api.paper import TooLongError
from api.settings import Settings
from api.statements import print_statement, write_csv, write_pdf
from ledger import journal as journals
from ledger.encoding import EncodingError, parse_date
from ledger.journal import JournalScope
from ledger.settlement import Clearing, SettlementKey, SettlementStatement, TooManyLinesError, scales
from ledger.store import Store, StoreError


def journal(
    asset: Annotated[
        list[str] | None, typer.Option(help="Only this asset or currency; may be given several times.")
    ] = None,
    merchant: Annotated[
        str | None, typer.Option(help="Only what concerns this merchant; others stand together in Equity:Others.")
    ] = None,
) -> None:
    """Write the ledger as a journal that beancount reads, with every balance asserted: bean-check verifies it.

    Points are commodities; what merchants owe each other is in receivables and payables. Members appear under their
    accounts' ids, which say nothing of a person.

    Example: guerdon journal > ledger.beancount && bean-check ledger.beancount
    """
    scope = JournalScope(codes=frozenset(asset) if asset else None, merchant=merchant)
    with opened_store(Settings.from_environment(os.environ)) as store, store.read() as connection:
        write_journal(journals.journal(store, connection, scope), _text_output())


def _day(text: str) -> date:
    try:
        return parse_date(text)
    except EncodingError as error:
        raise typer.BadParameter(str(error)) from error


def statement(
    merchant: Annotated[str, typer.Argument(help="The merchant's account.")],
    currency: Annotated[str, typer.Option(help="The settlement currency.")],
    start: Annotated[date, typer.Option("--from", parser=_day, metavar="YYYY-MM-DD", help="The first day, in UTC.")],
    through: Annotated[date, typer.Option(parser=_day, metavar="YYYY-MM-DD", help="The last day, in UTC.")],
    output: Annotated[Literal["table", "csv", "pdf"], typer.Option("--format", help="How to write it.")] = "table",
) -> None:
    """A merchant's settlement statement: what it was owed and owed, each claim with its entry, netted, settled, left.

    Once its days are over it is the same for ever, and CSV and PDF are the same bytes.

    Example: guerdon statement mer_… --currency USD --from 2026-11-01 --through 2026-11-30 --format pdf > november.pdf
    """
    if through < start:
        raise typer.BadParameter(f"{through} lies before {start}", param_hint="--through")
    if output == "pdf" and sys.stdout.isatty():
        raise typer.BadParameter("a PDF is nothing for a terminal: redirect it, > statement.pdf", param_hint="--format")
    with opened_store(Settings.from_environment(os.environ)) as store:
        drawn = _drawn(store, SettlementKey(account=merchant, currency=currency, start=start, through=through))
    try:
        if output == "pdf":
            _write_pdf(drawn, sys.stdout.buffer)
        elif output == "csv":
            write_csv(drawn, _text_output())
        else:
            print_statement(drawn, Console())
    except TooLongError as error:
        raise StoreError(str(error)) from error


def _drawn(store: Store, key: SettlementKey) -> SettlementStatement:
    with store.read() as connection:
        known = scales(store, connection)
        if key.currency not in known:
            raise StoreError(f"{key.currency} is no settlement currency of this ledger: {', '.join(sorted(known))}")
        if not ACCOUNT_ID.fullmatch(key.account) or not store.accounts(connection, [key.account]):
            raise StoreError(f"there is no account {key.account}")
        try:
            return Clearing(store, connection, key).statement()
        except TooManyLinesError as error:
            raise StoreError(str(error)) from error


def _write_pdf(drawn: SettlementStatement, file: BinaryIO) -> None:
    """Set whole before the first byte is written: the library moves about in its file, which a pipe cannot."""
    pages = io.BytesIO()
    write_pdf(drawn, pages)
    file.write(pages.getvalue())


def _text_output() -> TextIO:
    """Standard output in UTF-8, whatever the locale: names are of any script, and files are read elsewhere."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")
    return cast(TextIO, sys.stdout)
