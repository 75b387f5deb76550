"""A settlement statement as CSV, as PDF and on a terminal: the same figures in all of them, and names of any kind."""

import csv
import hashlib
import io
from typing import Any

import pytest
from msgspec.structs import replace
from pypdf import PdfReader
from rich.console import Console

from api.paper import MAX_LINES, TooLongError, printable
from api.points_files import POINTS_COLUMNS, write_points_csv, write_points_pdf
from api.statements import COLUMNS, grouped, print_statement, write_csv, write_pdf
from ledger.points_statements import PointsLine, PointsStatement
from ledger.settlement import LINE_KINDS, SettlementLine, SettlementStatement, Turnover

MERCHANT, PARTNER = "mer_" + "a" * 26, "mer_" + "b" * 26
NAME = "École “Süd” & Co"


def make_line(**changes: Any) -> SettlementLine:
    fields: dict[str, Any] = {
        "day": "2026-03-02",
        "seq": 41,
        "part": 0,
        "what": "claim",
        "operation": "redeem",
        "counterparty": PARTNER,
        "counterparty_name": NAME,
        "claim": (41, 0),
        "agreement": f"STAR@{MERCHANT}",
        "amount": 123_456,
        "debit": 123_456,
        "credit": 0,
        "balance": 123_406,
        "netted_by": 44,
        "status": "open",
    }
    return SettlementLine(**fields | changes)


PAYMENT = make_line(
    day="2026-03-09",
    seq=45,
    what="settlement",
    operation="settle",
    claim=None,
    agreement=None,
    reference="wire-1",
    amount=7,
    debit=0,
    credit=7,
    balance=123_399,
    netted_by=None,
    status=None,
)
DISPUTE = make_line(
    seq=42,
    what="disputed_claim",
    operation="dispute",
    claim=(40, 1),
    reference="amount",
    amount=50,
    debit=0,
    balance=123_406,
    netted_by=None,
    status=None,
)


def make_statement(*lines: SettlementLine, **changes: Any) -> SettlementStatement:
    sums = {"claim": (1, 123_456, 0), "settlement": (1, 0, 7), "disputed_claim": (1, 0, 0)}
    turnovers = []
    for what in LINE_KINDS:
        count, debit, credit = sums.get(what, (0, 0, 0))
        turnovers.append(Turnover(what=what, lines=count, debit=debit, credit=credit))
    fields: dict[str, Any] = {
        "origin": "ledger.example/test",
        "size": 1_046,
        "leaf_hash": "ab" * 32,
        "account": MERCHANT,
        "name": "Shop",
        "currency": "USD",
        "scale": 2,
        "start": "2026-03-01",
        "through": "2026-03-31",
        "opening": -50,
        "closing": 123_399,
        "disputed": 50,
        "turnovers": tuple(turnovers),
        "lines": lines or (make_line(), DISPUTE, PAYMENT),
    }
    return SettlementStatement(**fields | changes)


def as_csv(statement: SettlementStatement) -> str:
    file = io.StringIO()
    write_csv(statement, file)
    return file.getvalue()


def as_pdf(statement: SettlementStatement) -> bytes:
    file = io.BytesIO()
    write_pdf(statement, file)
    return file.getvalue()


def text_of(statement: SettlementStatement) -> str:
    """What a reader of the PDF can copy, without line breaks."""
    pages = PdfReader(io.BytesIO(as_pdf(statement))).pages
    return " ".join(page.extract_text() for page in pages).replace("\n", " ")


# CSV


def test_csv_has_a_row_for_every_line_between_the_balances() -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(make_statement()))))
    assert [row["type"] for row in rows] == ["opening", "claim", "disputed_claim", "settlement", "closing"]
    assert [row["balance"] for row in rows] == ["-0.50", "1234.06", "1234.06", "1233.99", "1233.99"]
    assert [row["debit"] for row in rows] == ["", "1234.56", "", "", ""]
    assert [row["credit"] for row in rows] == ["", "", "", "0.07", ""]
    assert rows[1] == {
        "date": "2026-03-02",
        "entry": "41",
        "part": "0",
        "type": "claim",
        "operation": "redeem",
        "claim": "41/0",
        "counterparty": PARTNER,
        "counterparty_name": NAME,
        "agreement": f"STAR@{MERCHANT}",
        "reference": "",
        "currency": "USD",
        "amount": "1234.56",
        "debit": "1234.56",
        "credit": "",
        "balance": "1234.06",
        "netted_by": "44",
        "status": "open",
    }
    assert tuple(rows[0]) == COLUMNS
    assert rows[2]["amount"] == "0.50"


@pytest.mark.parametrize("name", ['=cmd|"/c calc"!A1', "+1", "-1", "@SUM(A1)"])
def test_no_name_is_a_formula_to_a_spreadsheet(name: str) -> None:
    """Names are others' to choose, and spreadsheets run what begins with these (OWASP)."""
    rows = list(csv.DictReader(io.StringIO(as_csv(make_statement(make_line(counterparty_name=name))))))
    assert rows[1]["counterparty_name"] == f"'{name}"


def test_names_with_commas_quotes_and_any_script_come_back_from_csv() -> None:
    name = 'A, "B"; 楽天 \u202egnirts'
    rows = list(csv.DictReader(io.StringIO(as_csv(make_statement(make_line(counterparty_name=name))))))
    assert rows[1]["counterparty_name"] == name


def test_currency_without_decimal_places_has_none_in_csv() -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(make_statement(scale=0, currency="JPY")))))
    assert rows[1]["debit"] == "123456"


# PDF


def test_pdf_has_every_figure_and_name() -> None:
    text = text_of(make_statement())
    for shown in (
        "Settlement statement",
        "Shop",
        MERCHANT,
        "2026-03-01 to 2026-03-31, both days included, in UTC",
        "ledger.example/test, entries 0 to 1,045",
        "ab" * 32,
        "Opening balance 2026-03-01 -0.50",
        "Claim (1) 1,234.56",
        "Settlement (1) 0.00 0.07",
        "Closing balance 2026-03-31 1,233.99",
        "of which in dispute 0.50",
        NAME,
        "wire-1",
        "netted by 44",
        "1,234.06",
        "page 1 of 1",
    ):
        assert shown in text, shown


def test_pdf_is_the_same_bytes_each_time() -> None:
    """No date of making and no random id: who draws the same statement can compare hashes."""
    assert hashlib.sha256(as_pdf(make_statement())).digest() == hashlib.sha256(as_pdf(make_statement())).digest()


def test_pdf_of_many_lines_repeats_its_heading_and_counts_pages() -> None:
    lines = [make_line(seq=seq, balance=seq) for seq in range(200)]
    pages = [page.extract_text() for page in PdfReader(io.BytesIO(as_pdf(make_statement(*lines)))).pages]
    assert len(pages) > 3
    for number, page in enumerate(pages, start=1):
        assert f"page {number} of {len(pages)}" in page
        assert "debit\ncredit\nbalance" in page


def test_pdf_of_too_many_lines_is_refused_before_it_is_set() -> None:
    statement = make_statement(*[make_line()] * (MAX_LINES + 1))
    with pytest.raises(TooLongError, match="10,001 lines are too many for paper, at most 10,000: take CSV"):
        as_pdf(statement)


@pytest.mark.parametrize("name", ["Łódź Žižkov", "Ελλάδα", "Привет", "Việt", "Ünye – “Ş”", "<b>bold</b> &amp; ]]>"])
def test_names_in_latin_greek_and_cyrillic_letters_print_as_they_are(name: str) -> None:
    """And no markup is read in them."""
    assert name in text_of(make_statement(make_line(counterparty_name=name)))


def test_what_a_font_lacks_or_does_not_show_is_printed_as_its_number() -> None:
    """Han characters, and one that turns the direction of writing: nothing disappears, and nothing misleads."""
    text = text_of(make_statement(make_line(counterparty_name="楽\u202e A")))
    assert "[U+697D][U+202E] A" in text.replace("  ", " ")


def test_combined_letters_are_composed() -> None:
    assert printable("Co\u0308ln") == "Cöln"
    assert printable("a\u200bb") == "a[U+200B]b"


def test_name_without_spaces_is_broken_inside_its_column() -> None:
    """64 wide letters fit no column: they go on in the next line, all of them."""
    name = "W" * 64
    assert name in text_of(make_statement(make_line(counterparty_name=name))).replace(" ", "")


def test_merchant_without_lines_has_a_statement() -> None:
    empty = replace(make_statement(), lines=(), turnovers=(), disputed=0)
    assert "Closing balance" in text_of(empty)
    assert len(as_csv(empty).splitlines()) == 3


# Terminal


def test_table_has_the_figures_for_people() -> None:
    file = io.StringIO()
    print_statement(make_statement(), Console(file=file, width=160))
    text = file.getvalue()
    for shown in (
        NAME,
        "claim, redeem",
        "1,234.56",
        "0.07",
        "claim disputed, 40/1",
        "Closing balance 2026-03-31",
        "page",
    ):
        assert (shown in text) == (shown != "page")


def test_names_are_no_markup_of_the_terminal() -> None:
    file = io.StringIO()
    name = "[red]Shop[/red] \x1b\u202e"
    print_statement(make_statement(make_line(counterparty_name=name)), Console(file=file, width=200))
    assert "[red]Shop[/red] [U+001B][U+202E]" in file.getvalue()


@pytest.mark.parametrize(
    ("amount", "scale", "text"),
    [
        (0, 2, "0.00"),
        (-5, 2, "-0.05"),
        (123_456_789, 2, "1,234,567.89"),
        (-1_000, 0, "-1,000"),
        (2**53 - 1, 4, "900,719,925,474.0991"),
    ],
)
def test_amounts_are_grouped_for_people(amount: int, scale: int, text: str) -> None:
    assert grouped(amount, scale) == text


# Points

BEANS = "A-1: 100.00 earns 320 points. Line 1, of 100.00, counts 3 times, for beans."


def make_points(*lines: PointsLine, **changes: Any) -> PointsStatement:
    shown = lines or (
        PointsLine(
            day="2026-03-02",
            seq=18,
            leg=1,
            kind="record_purchases",
            amount=320,
            last_day="2027-03-02",
            balance=320,
            explanations=(BEANS, "Granted for review: R-1."),
        ),
        PointsLine(day="2026-03-03", seq=22, leg=0, kind="redeem", amount=-1_100, last_day=None, balance=-780),
    )
    fields: dict[str, Any] = {
        "origin": "ledger.example/test",
        "account": "mem_" + "a" * 26,
        "asset": "STAR",
        "name": "Stars",
        "scale": 0,
        "time_zone": "Europe/Berlin",
        "start": "2026-03-01",
        "through": "2026-03-31",
        "opening": 0,
        "closing": -780,
        "lines": shown,
    }
    return PointsStatement(**fields | changes)


def points_pdf(statement: PointsStatement) -> bytes:
    file = io.BytesIO()
    write_points_pdf(statement, file)
    return file.getvalue()


def points_text(statement: PointsStatement) -> str:
    pages = PdfReader(io.BytesIO(points_pdf(statement))).pages
    return " ".join(page.extract_text() for page in pages).replace("\n", " ")


def test_csv_of_points_says_why_points_were_given() -> None:
    file = io.StringIO()
    write_points_csv(make_points(scale=2), file)
    rows = list(csv.DictReader(io.StringIO(file.getvalue())))
    assert tuple(rows[0]) == POINTS_COLUMNS
    assert [row["type"] for row in rows] == ["opening", "record_purchases", "redeem", "closing"]
    assert [row["balance"] for row in rows] == ["0.00", "3.20", "-7.80", "-7.80"]
    assert rows[1]["explanation"] == f"{BEANS} Granted for review: R-1."
    assert (rows[1]["amount"], rows[1]["last_day"], rows[2]["last_day"]) == ("3.20", "2027-03-02", "")
    assert (rows[2]["explanation"], rows[1]["entry"], rows[1]["leg"]) == ("", "18", "1")


def test_pdf_of_points_has_every_figure_with_its_explanation() -> None:
    text = points_text(make_points())
    for shown in (
        "Statement of points",
        "Stars (STAR)",
        "mem_" + "a" * 26,
        "2026-03-01 to 2026-03-31, both days included, in Europe/Berlin",
        "Opening balance 2026-03-01 0",
        "Closing balance 2026-03-31 -780",
        "record purchases 2027-03-02 320 320",
        BEANS,
        "Granted for review: R-1.",
        "redeem never -1,100 -780",
        "page 1 of 1",
    ):
        assert shown in text, shown
    assert points_pdf(make_points()) == points_pdf(make_points())


def test_a_long_explanation_goes_on_over_pages() -> None:
    """An entry may have many purchases of one member, each of many lines: all is explained, whatever it takes."""
    explanations = (*(f"O-{number}: 1.00 earns 1 points." for number in range(500)), "all " * 5_000)
    line = PointsLine(
        day="2026-03-02", seq=1, leg=0, kind="grant", amount=1, last_day=None, balance=1, explanations=explanations
    )
    text = points_text(make_points(line))
    assert all(shown in text for shown in explanations[:-1])
    assert text.count("all ") >= 4_900


def test_paper_for_points_is_not_endless() -> None:
    line = PointsLine(day="2026-03-02", seq=1, leg=0, kind="grant", amount=1, last_day=None, balance=1)
    with pytest.raises(TooLongError, match="10,001 lines"):
        points_pdf(make_points(*[line] * (MAX_LINES + 1)))
