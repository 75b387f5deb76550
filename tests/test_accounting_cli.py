"""The commands `guerdon journal` and `guerdon statement`, in a ledger with merchants that owe each other."""

import csv
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from pypdf import PdfReader

from api import cli
from tests.clearing import Three, make_march, make_three
from tests.test_journal import bean_check
from tests.worlds import World

MARCH = ("--currency", "USD", "--from", "2026-03-01", "--through", "2026-03-31")


class Result(NamedTuple):
    """How a command ended, the bytes it wrote, and what it said besides."""

    status: int
    out: bytes
    err: str


@pytest.fixture
def three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Three]:
    """The ledger the settings name, after a month of trade."""
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    monkeypatch.setenv("GUERDON_DATABASE_URL", url)
    monkeypatch.setenv("GUERDON_DATA", str(tmp_path))
    with World(url) as world:
        made = make_three(world)
        make_march(made)
        yield made


def guerdon(*arguments: str, encoding: str = "utf-8") -> Result:
    """Run the command in this process, its output to a file of an encoding."""
    out, err = io.BytesIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["guerdon", *arguments])
        patch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding=encoding))
        patch.setattr(sys, "stderr", err)
        with pytest.raises(SystemExit) as end:
            cli.main()
        sys.stdout.flush()
        return Result(int(end.value.code or 0), out.getvalue(), err.getvalue())


def succeed(*arguments: str, encoding: str = "utf-8") -> bytes:
    result = guerdon(*arguments, encoding=encoding)
    assert (result.status, result.err) == (0, "")
    return result.out


def test_journal_of_everything_is_accepted(three: Three, tmp_path: Path) -> None:
    """In UTF-8 also where the locale is another one."""
    text = succeed("journal", encoding="ascii").decode()
    assert bean_check(text, tmp_path) == ""
    assert "École “Süd” & Co" in text


def test_journal_can_be_of_assets_and_of_a_merchant(three: Three, tmp_path: Path) -> None:
    some = succeed("journal", "--asset", "STAR", "--asset", "USD").decode()
    assert bean_check(some, tmp_path) == ""
    assert " STAR\n" in some
    assert " BEAN\n" not in some
    its = succeed("journal", "--merchant", three.account(2)).decode()
    assert bean_check(its, tmp_path) == ""
    assert "Equity:Others" in its


def test_journal_of_an_unknown_asset_fails_in_one_line(three: Three) -> None:
    assert guerdon("journal", "--asset", "NONE") == (1, b"", "guerdon: there is no asset and no currency NONE\n")


def test_statement_is_a_table_csv_and_pdf_with_the_same_figures(three: Three) -> None:
    table = succeed("statement", three.account(1), *MARCH).decode()
    assert "Closing balance 2026-03-31" in table
    rows = list(csv.DictReader(io.StringIO(succeed("statement", three.account(1), *MARCH, "--format", "csv").decode())))
    assert rows[-1]["balance"] == "0.37"
    assert len(rows) == 18
    pdf = succeed("statement", three.account(1), *MARCH, "--format", "pdf")
    text = PdfReader(io.BytesIO(pdf)).pages[0].extract_text()
    assert "0.37" in text
    assert "École “Süd” & Co" in text


def test_statement_of_days_that_are_over_never_changes(three: Three) -> None:
    """Bytes for bytes, whatever is recorded later."""
    days = ("--currency", "USD", "--from", "2026-03-01", "--through", "2026-03-04")
    three.world.clock.advance(days=10)
    before = [succeed("statement", three.account(1), *days, "--format", form) for form in ("csv", "pdf")]
    three.redeem(0, 1, 77)
    three.settle(0, 1, 5)
    three.world.clock.advance(days=1)
    assert [succeed("statement", three.account(1), *days, "--format", form) for form in ("csv", "pdf")] == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("mer_nobody", *MARCH), "there is no account mer_nobody"),
        (("mer_" + "a" * 26, *MARCH), "there is no account mer_aa"),
        (("mer_nobody", "--currency", "GBP", *MARCH[2:]), "GBP is no settlement currency of this ledger: EUR, USD"),
    ],
    ids=["no id", "no account", "currency"],
)
def test_statement_of_what_is_not_there_fails_in_one_line(
    three: Three, arguments: tuple[str, ...], message: str
) -> None:
    status, out, err = guerdon("statement", *arguments)
    assert (status, out) == (1, b"")
    assert err.startswith(f"guerdon: {message}")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("days", "message"),
    [
        (("--from", "2026-03-02", "--through", "2026-03-01"), "lies before"),
        (("--from", "2026-02-30", "--through", "2026-03-01"), "is not a date"),
        (("--from", "1.3.2026", "--through", "2026-03-01"), "is not a date"),
    ],
    ids=["order", "no day", "form"],
)
def test_statement_of_days_that_cannot_be_is_a_wrong_call(three: Three, days: tuple[str, ...], message: str) -> None:
    status, _, err = guerdon("statement", three.account(0), "--currency", "USD", *days)
    assert status == 2
    assert message in " ".join(err.split())
