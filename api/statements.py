"""A settlement statement as a document to take away: CSV for a program, PDF for people, a table for a terminal.

All three are written from one record, :class:`ledger.settlement.SettlementStatement`, and say the same. One record
gives the same bytes each time, so a merchant and an auditor who draw the same statement can compare hashes.

A name may be any text that has no controls. In CSV it is kept from being read as a formula; in PDF it is printed in
Noto Sans, which has Latin, Greek and Cyrillic letters, and what that lacks, or does not show, is written as its number
in Unicode, ``[U+697D]``: visible, and beside the account's id. Nothing disappears.
"""

import csv
import re
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, TextIO

from rich.console import Console
from rich.table import Table

from api.paper import check_length, fits, mm, printable, set_pages, space, table
from ledger.amounts import format_amount
from ledger.settlement import SettlementLine, SettlementStatement

WORDS = {
    "claim": "claim",
    "settlement": "settlement",
    "cancelled_claim": "claim cancelled",
    "netted": "netted",
    "netting_payment": "payment by netting",
    "disputed_claim": "claim disputed",
    "dispute_ended": "dispute ended",
}
"""What a line is, in words."""

COLUMNS = (
    "date",
    "entry",
    "part",
    "type",
    "operation",
    "claim",
    "counterparty",
    "counterparty_name",
    "agreement",
    "reference",
    "currency",
    "amount",
    "debit",
    "credit",
    "balance",
    "netted_by",
    "status",
)
"""The columns of the CSV, in order. New ones may be added at the end."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_DEBIT_IS = "Debit is in favour of this account, credit in favour of others; a balance above 0 is owed to this account."


def write_csv(statement: SettlementStatement, file: TextIO) -> None:
    """One row for the opening balance, one for each line, one for the closing balance. Amounts are decimal."""
    writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerow(_balance_row(statement, "opening", statement.start, statement.opening))
    writer.writerows(_row(statement, line) for line in statement.lines)
    writer.writerow(_balance_row(statement, "closing", statement.through, statement.closing))


def _balance_row(statement: SettlementStatement, what: str, day: str, balance: int) -> dict[str, str]:
    amount = format_amount(balance, statement.scale)
    return {"date": day, "type": what, "currency": statement.currency, "balance": amount}


def _row(statement: SettlementStatement, line: SettlementLine) -> dict[str, Any]:
    money = _decimal(statement.scale)
    return {
        "date": line.day,
        "entry": line.seq,
        "part": line.part,
        "type": line.what,
        "operation": line.operation,
        "claim": _claim_name(line),
        "counterparty": line.counterparty or "",
        "counterparty_name": as_text(line.counterparty_name or ""),
        "agreement": line.agreement or "",
        "reference": line.reference or "",
        "currency": statement.currency,
        "amount": money(line.amount),
        "debit": money(line.debit) if line.debit else "",
        "credit": money(line.credit) if line.credit else "",
        "balance": money(line.balance),
        "netted_by": line.netted_by if line.netted_by is not None else "",
        "status": line.status or "",
    }


def as_text(name: str) -> str:
    """A name as no spreadsheet reads it as a formula (OWASP, CSV injection)."""
    return f"'{name}" if name.startswith(_FORMULA) else name


def _claim_name(line: SettlementLine) -> str:
    return f"{line.claim[0]}/{line.claim[1]}" if line.claim is not None else ""


def _decimal(scale: int) -> Callable[[int], str]:
    return lambda amount: format_amount(amount, scale)


def grouped(amount: int, scale: int) -> str:
    """An amount for people: 1,234.50."""
    text = format_amount(abs(amount), scale)
    whole, point, fraction = text.partition(".")
    return f"{'-' * (amount < 0)}{int(whole):,}{point}{fraction}"


def summary(statement: SettlementStatement) -> Iterator[tuple[str, str, str, str]]:
    """The statement in a few rows of text: what, debit, credit, balance."""
    yield f"Opening balance {statement.start}", "", "", grouped(statement.opening, statement.scale)
    for turnover in statement.turnovers:
        if turnover.lines:
            what = f"{WORDS[turnover.what].capitalize()} ({turnover.lines:,})"
            yield what, grouped(turnover.debit, statement.scale), grouped(turnover.credit, statement.scale), ""
    yield f"Closing balance {statement.through}", "", "", grouped(statement.closing, statement.scale)
    if statement.disputed:
        yield "of which in dispute", "", "", grouped(statement.disputed, statement.scale)


def print_statement(statement: SettlementStatement, console: Console) -> None:
    """The statement as tables on a terminal."""
    title = f"{statement.name or statement.account}, {statement.currency}, {statement.start} to {statement.through}"
    table = Table(title=title)
    for column in ("date", "entry", "what", "with"):
        table.add_column(column, overflow="fold")
    for column in ("debit", "credit", "balance"):
        table.add_column(column, justify="right", no_wrap=True)
    for line in statement.lines:
        amounts = [grouped(amount, statement.scale) if amount else "" for amount in (line.debit, line.credit)]
        balance = grouped(line.balance, statement.scale)
        partner = line.counterparty_name or line.counterparty or ""
        table.add_row(line.day, str(line.seq), _described(line, statement), printable(partner), *amounts, balance)
    totals = Table(title="In all")
    for column, justify in (("", "left"), ("debit", "right"), ("credit", "right"), ("balance", "right")):
        totals.add_column(column, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for row in summary(statement):
        totals.add_row(*row)
    for shown in (table, totals):
        console.print(shown, markup=False)
    console.print(_DEBIT_IS)


def _described(line: SettlementLine, statement: SettlementStatement) -> str:
    """What a line is: with what names it, and with the amount where it moves nothing."""
    parts = [WORDS[line.what]]
    if line.what == "claim":
        parts.append(line.operation.replace("_", " "))
    elif line.claim is not None:
        parts.append(_claim_name(line))
    if line.agreement is not None:
        parts.append(re.split("[@+]", line.agreement)[0])  # the parties are known: this account, and the one it is with
    parts += [line.reference] if line.reference is not None else []
    if not line.debit and not line.credit:
        parts.append(grouped(line.amount, statement.scale))
    if line.netted_by is not None:
        parts.append(f"netted by {line.netted_by}")
    if line.status is not None and line.status != "open":
        parts.append(line.status)
    return ", ".join(parts)


# PDF


def write_pdf(statement: SettlementStatement, file: BinaryIO) -> None:
    """Set the statement on pages of A4; raise :class:`~api.paper.TooLongError` for too many lines."""
    check_length(len(statement.lines))
    set_pages(
        file,
        [_pdf_head(statement), space(5), _pdf_summary(statement), space(6), _pdf_lines(statement)],
        f"{statement.origin} · {statement.account} · {statement.currency}",
        title=f"Settlement statement {statement.currency} {statement.start} to {statement.through}",
        author=statement.origin,
        subject=statement.account,
    )


def _pdf_head(statement: SettlementStatement) -> Any:
    rows = [
        ["Settlement statement", ""],
        ["of", f"{statement.name} ({statement.account})" if statement.name else statement.account],
        ["in", statement.currency],
        ["for", f"{statement.start} to {statement.through}, both days included, in UTC"],
        ["ledger", f"{statement.origin}, entries 0 to {statement.size - 1:,}"],
        ["last entry", statement.leaf_hash],
        ["", _DEBIT_IS],
    ]
    widths = [mm(25), mm(155)]
    cells = [rows[0], *([label, fits(text, widths[1] - 8)] for label, text in rows[1:])]
    return table(cells, widths, [("FONTSIZE", (0, 0), (0, 0), 15), ("BOTTOMPADDING", (0, 0), (0, 0), 9)])


def _pdf_summary(statement: SettlementStatement) -> Any:
    cells = [["", "debit", "credit", "balance"], *summary(statement)]
    ruled = [("LINEBELOW", (0, 0), (-1, 0), 0.6, "black"), ("ALIGN", (1, 0), (-1, -1), "RIGHT")]
    return table(cells, [mm(75), mm(35), mm(35), mm(35)], ruled)


def _pdf_lines(statement: SettlementStatement) -> Any:
    widths = [mm(width) for width in (17, 14, 37, 48, 20, 20, 24)]
    cells: list[list[str]] = [["date", "entry", "what", "with", "debit", "credit", "balance"]]
    for line in statement.lines:
        amounts = [grouped(amount, statement.scale) if amount else "" for amount in (line.debit, line.credit)]
        partner = "\n".join(filter(None, (line.counterparty_name, line.counterparty)))
        described = fits(_described(line, statement), widths[2] - 8, 7)
        shown = "\n".join(fits(text, widths[3] - 8, 7) for text in partner.split("\n"))
        balance = grouped(line.balance, statement.scale)
        cells.append([line.day, str(line.seq), described, shown, *amounts, balance])
    ruled = [
        ("FONTSIZE", (0, 0), (-1, -1), 7),
        ("LEADING", (0, 0), (-1, -1), 8.5),
        ("LINEBELOW", (0, 0), (-1, 0), 0.6, "black"),
        ("LINEBELOW", (0, 1), (-1, -1), 0.2, "lightgrey"),
        ("ALIGN", (4, 0), (-1, -1), "RIGHT"),
    ]
    return table(cells, widths, ruled, repeated=1)
