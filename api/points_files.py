"""A statement of points as a document to take away: CSV for a program, PDF for people, each earning explained.

Both are written from one record, :class:`ledger.points_statements.PointsStatement`, and say the same. One record gives
the same bytes each time.
"""

import csv
from typing import Any, BinaryIO, TextIO

from api.paper import check_length, fits, mm, set_pages, space, table
from api.statements import as_text, grouped
from ledger.amounts import format_amount
from ledger.points_statements import PointsLine, PointsStatement

POINTS_COLUMNS = ("date", "entry", "leg", "type", "asset", "amount", "last_day", "balance", "explanation")
"""The columns of the CSV, in order. New ones may be added at the end."""

_TOGETHER = 40
"""Lines of text in one row of a table on paper: a row must fit a page."""

_SMALL = 6.5


def write_points_csv(statement: PointsStatement, file: TextIO) -> None:
    """One row for the opening balance, one for each line, one for the closing balance. Points are decimal."""
    writer = csv.DictWriter(file, POINTS_COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerow(_balance_row(statement, "opening", statement.start, statement.opening))
    writer.writerows(_row(statement, line) for line in statement.lines)
    writer.writerow(_balance_row(statement, "closing", statement.through, statement.closing))


def _balance_row(statement: PointsStatement, what: str, day: str, balance: int) -> dict[str, str]:
    return {"date": day, "type": what, "asset": statement.asset, "balance": format_amount(balance, statement.scale)}


def _row(statement: PointsStatement, line: PointsLine) -> dict[str, Any]:
    return {
        "date": line.day,
        "entry": line.seq,
        "leg": line.leg,
        "type": line.kind,
        "asset": statement.asset,
        "amount": format_amount(line.amount, statement.scale),
        "last_day": line.last_day or "",
        "balance": format_amount(line.balance, statement.scale),
        "explanation": as_text(" ".join(line.explanations)),
    }


def write_points_pdf(statement: PointsStatement, file: BinaryIO) -> None:
    """Set the statement on pages of A4; raise :class:`~api.paper.TooLongError` for too many lines."""
    check_length(len(statement.lines) + sum(len(line.explanations) for line in statement.lines))
    set_pages(
        file,
        [_head(statement), space(5), _summary(statement), space(6), _lines(statement)],
        f"{statement.origin} · {statement.account} · {statement.asset}",
        title=f"Statement of points {statement.asset} {statement.start} to {statement.through}",
        author=statement.origin,
        subject=statement.account,
    )


def _head(statement: PointsStatement) -> Any:
    rows = [
        ["of", statement.account],
        ["in", f"{statement.name} ({statement.asset})"],
        ["for", f"{statement.start} to {statement.through}, both days included, in {statement.time_zone}"],
        ["ledger", statement.origin],
    ]
    widths = [mm(25), mm(155)]
    cells = [["Statement of points", ""], *([label, fits(text, widths[1] - 8)] for label, text in rows)]
    return table(cells, widths, [("FONTSIZE", (0, 0), (0, 0), 15), ("BOTTOMPADDING", (0, 0), (0, 0), 9)])


def _summary(statement: PointsStatement) -> Any:
    cells = [
        [f"Opening balance {statement.start}", grouped(statement.opening, statement.scale)],
        [f"Closing balance {statement.through}", grouped(statement.closing, statement.scale)],
    ]
    return table(cells, [mm(75), mm(35)], [("ALIGN", (1, 0), (1, -1), "RIGHT")])


def _lines(statement: PointsStatement) -> Any:
    widths = [mm(width) for width in (20, 18, 62, 24, 26, 30)]
    cells: list[list[str]] = [["date", "entry", "what", "last day", "points", "balance"]]
    style: list[Any] = [
        ("FONTSIZE", (0, 0), (-1, -1), 7),
        ("LEADING", (0, 0), (-1, -1), 8.5),
        ("LINEBELOW", (0, 0), (-1, 0), 0.6, "black"),
        ("ALIGN", (4, 0), (-1, -1), "RIGHT"),
    ]
    for line in statement.lines:
        style.append(("LINEABOVE", (0, len(cells)), (-1, len(cells)), 0.2, "lightgrey"))
        amounts = [grouped(amount, statement.scale) for amount in (line.amount, line.balance)]
        cells.append([line.day, str(line.seq), line.kind.replace("_", " "), line.last_day or "never", *amounts])
        said = [part for each in line.explanations for part in fits(each, sum(widths[1:]) - 8, _SMALL).split("\n")]
        for first in range(0, len(said), _TOGETHER):
            row = len(cells)
            style += [("SPAN", (1, row), (-1, row)), ("FONTSIZE", (1, row), (1, row), _SMALL)]
            style.append(("ALIGN", (1, row), (1, row), "LEFT"))
            cells.append(["", "\n".join(said[first : first + _TOGETHER]), "", "", "", ""])
    return table(cells, widths, style, repeated=1)
