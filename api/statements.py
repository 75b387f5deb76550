"""A settlement statement as a document to take away: CSV for a program, PDF for people, a table for a terminal.

All three are written from one record, :class:`ledger.settlement.SettlementStatement`, and say the same. One record
gives the same bytes each time, so a merchant and an auditor who draw the same statement can compare hashes.

A name may be any text that has no controls. In CSV it is kept from being read as a formula; in PDF it is printed in
Noto Sans, which has Latin, Greek and Cyrillic letters, and what that lacks, or does not show, is written as its number
in Unicode, ``[U+697D]``: visible, and beside the account's id. Nothing disappears.
"""

import csv
import re
import unicodedata
from collections.abc import Callable, Iterator
from functools import cache
from importlib import resources
from typing import Any, BinaryIO, TextIO

from rich.console import Console
from rich.table import Table

from ledger.amounts import format_amount
from ledger.settlement import SettlementLine, SettlementStatement

MAX_PDF_LINES = 10_000
"""Lines of a PDF, some 300 pages, which take a second or two to set. Whoever has more wants the CSV."""

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
_FONT = "NotoSans"
_INVISIBLE = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})
_DEBIT_IS = "Debit is in favour of this account, credit in favour of others; a balance above 0 is owed to this account."


class StatementTooLongError(ValueError):
    """A statement with more lines than its form can have."""


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
        "counterparty_name": _as_text(line.counterparty_name or ""),
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


def _as_text(name: str) -> str:
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


@cache
def _font() -> Any:
    """Noto Sans, known to the library that sets the pages from then on."""
    from reportlab.pdfbase import pdfmetrics  # type: ignore[import-untyped] # noqa: PLC0415 - only who asks for a PDF
    from reportlab.pdfbase.ttfonts import TTFont  # type: ignore[import-untyped] # noqa: PLC0415

    with resources.as_file(resources.files("fontpkg_noto_sans") / "files" / "NotoSans[wdth,wght].ttf") as path:
        font = TTFont(_FONT, str(path))
    pdfmetrics.registerFont(font)
    return font


def printable(name: str, has: Callable[[str], bool] = lambda _: True) -> str:
    """A text of which everything shows: what does not, or is not in a font, as its number in Unicode."""
    composed = unicodedata.normalize("NFC", name)
    return "".join(
        char if unicodedata.category(char) not in _INVISIBLE and has(char) else f"[U+{ord(char):04X}]"
        for char in composed
    )


def write_pdf(statement: SettlementStatement, file: BinaryIO) -> None:
    """Set the statement on pages of A4; raise :class:`StatementTooLongError` for more than :data:`MAX_PDF_LINES`."""
    if len(statement.lines) > MAX_PDF_LINES:
        message = f"{len(statement.lines):,} lines are too many for paper, at most {MAX_PDF_LINES:,}: take CSV"
        raise StatementTooLongError(f"{message}, or a shorter period")
    from reportlab.lib.pagesizes import A4  # type: ignore[import-untyped] # noqa: PLC0415
    from reportlab.lib.units import mm  # type: ignore[import-untyped] # noqa: PLC0415
    from reportlab.platypus import SimpleDocTemplate, Spacer  # type: ignore[import-untyped] # noqa: PLC0415

    _font()
    document = SimpleDocTemplate(
        file,
        pagesize=A4,
        leftMargin=15 * mm,
        rightMargin=15 * mm,
        topMargin=15 * mm,
        bottomMargin=18 * mm,
        invariant=1,  # no date of making and no random id: the same statement has the same bytes
        title=f"Settlement statement {statement.currency} {statement.start} to {statement.through}",
        author=statement.origin,
        subject=statement.account,
        lang="en",
    )
    story = [_pdf_head(statement), Spacer(0, 5 * mm), _pdf_summary(statement), Spacer(0, 6 * mm), _pdf_lines(statement)]
    document.build(story, canvasmaker=_numbered(statement))


def _fits(text: str, width: float, size: float = 8) -> str:
    """A text in as many lines as it takes to stay within a width, every character of it shown."""
    from reportlab.lib.utils import simpleSplit  # type: ignore[import-untyped] # noqa: PLC0415

    glyphs = _font().face.charToGlyph
    lines = simpleSplit(printable(text, lambda char: ord(char) in glyphs), _FONT, size, width)
    return "\n".join(part for line in lines for part in _broken(line, width, size))


def _broken(line: str, width: float, size: float) -> Iterator[str]:
    """A line in parts that are no wider than a width, also where it has no space to break at."""
    from reportlab.pdfbase.pdfmetrics import stringWidth  # type: ignore[import-untyped] # noqa: PLC0415

    start = 0
    for end in range(1, len(line) + 1):
        if end - start > 1 and stringWidth(line[start:end], _FONT, size) > width:
            yield line[start : end - 1]
            start = end - 1
    yield line[start:]


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
    widths = [_mm(25), _mm(155)]
    cells = [rows[0], *([label, _fits(text, widths[1] - 8)] for label, text in rows[1:])]
    return _table(cells, widths, [("FONTSIZE", (0, 0), (0, 0), 15), ("BOTTOMPADDING", (0, 0), (0, 0), 9)])


def _pdf_summary(statement: SettlementStatement) -> Any:
    cells = [["", "debit", "credit", "balance"], *summary(statement)]
    ruled = [("LINEBELOW", (0, 0), (-1, 0), 0.6, "black"), ("ALIGN", (1, 0), (-1, -1), "RIGHT")]
    return _table(cells, [_mm(75), _mm(35), _mm(35), _mm(35)], ruled)


def _pdf_lines(statement: SettlementStatement) -> Any:
    widths = [_mm(width) for width in (17, 14, 37, 48, 20, 20, 24)]
    cells: list[list[str]] = [["date", "entry", "what", "with", "debit", "credit", "balance"]]
    for line in statement.lines:
        amounts = [grouped(amount, statement.scale) if amount else "" for amount in (line.debit, line.credit)]
        partner = "\n".join(filter(None, (line.counterparty_name, line.counterparty)))
        described = _fits(_described(line, statement), widths[2] - 8, 7)
        shown = "\n".join(_fits(text, widths[3] - 8, 7) for text in partner.split("\n"))
        balance = grouped(line.balance, statement.scale)
        cells.append([line.day, str(line.seq), described, shown, *amounts, balance])
    ruled = [
        ("FONTSIZE", (0, 0), (-1, -1), 7),
        ("LEADING", (0, 0), (-1, -1), 8.5),
        ("LINEBELOW", (0, 0), (-1, 0), 0.6, "black"),
        ("LINEBELOW", (0, 1), (-1, -1), 0.2, "lightgrey"),
        ("ALIGN", (4, 0), (-1, -1), "RIGHT"),
    ]
    return _table(cells, widths, ruled, repeated=1)


def _table(cells: list[Any], widths: list[float], style: list[Any], repeated: int = 0) -> Any:
    from reportlab.platypus import LongTable  # noqa: PLC0415

    plain = [("FONT", (0, 0), (-1, -1), _FONT, 8), ("VALIGN", (0, 0), (-1, -1), "TOP")]
    tight = [("TOPPADDING", (0, 0), (-1, -1), 1.5), ("BOTTOMPADDING", (0, 0), (-1, -1), 1.5)]
    edges = [("LEFTPADDING", (0, 0), (-1, -1), 3), ("RIGHTPADDING", (0, 0), (-1, -1), 3)]
    return LongTable(cells, widths, repeatRows=repeated, hAlign="LEFT", style=[*plain, *tight, *edges, *style])


def _mm(length: float) -> float:
    return length * 72 / 25.4


def _numbered(statement: SettlementStatement) -> type[Any]:
    """A canvas that writes below each page whose it is and which of how many, once it is known how many there are."""
    from reportlab.pdfgen.canvas import Canvas  # type: ignore[import-untyped] # noqa: PLC0415

    class NumberedCanvas(Canvas):  # type: ignore[misc] # the library has no types
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self._pages: list[dict[str, Any]] = []

        def showPage(self) -> None:  # noqa: N802 - the library's name
            self._pages.append(dict(self.__dict__))
            self._startPage()

        def save(self) -> None:
            for number, page in enumerate(self._pages, start=1):
                self.__dict__.update(page)
                self.setFont(_FONT, 7)
                self.drawString(_mm(15), _mm(10), f"{statement.origin} · {statement.account} · {statement.currency}")
                self.drawRightString(_mm(195), _mm(10), f"page {number} of {len(self._pages)}")
                super().showPage()
            super().save()

    return NumberedCanvas
