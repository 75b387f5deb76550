"""The settlement statement of an account: every line of it, its balances, and its pages."""

from collections import Counter
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from ledger.queries import Page
from ledger.settlement import Clearing, SettlementKey, SettlementLine, SettlementStatement
from ledger.tables import NETTING
from tests.clearing import Simulation, Three, claim_in, due, make_march, make_three
from tests.worlds import World

FIRST, LAST = date(2026, 3, 1), date(2026, 3, 31)


@pytest.fixture
def three(world: World) -> Three:
    return make_three(world)


def statement(three: Three, of: int, start: date = FIRST, through: date = LAST) -> SettlementStatement:
    key = SettlementKey(account=three.account(of), currency="USD", start=start, through=through)
    with three.world.store.read() as connection:
        return Clearing(three.world.store, connection, key).statement()


def short(three: Three, lines: Any) -> list[tuple[Any, ...]]:
    """What, with whom, debit, credit, balance."""
    numbers = {three.account(number): number for number in range(3)}
    return [(e.what, numbers.get(e.counterparty), e.debit, e.credit, e.balance) for e in lines]


def test_statement_has_every_line_with_its_entry_and_the_balance_after_it(three: Three) -> None:
    """Of the merchant that is owed most, from claims to what is left after netting, disputes and payments."""
    entries = make_march(three)
    found = statement(three, 1)
    lines = short(three, found.lines)
    assert {line[:4] for line in lines[5:8]} == {("netted", 0, 0, 500), ("netted", 0, 200, 0), ("netted", 2, 100, 0)}
    assert lines[:5] + lines[8:] == [
        ("claim", 0, 500, 0, 500),
        ("claim", 0, 0, 200, 300),
        ("claim", 2, 0, 100, 200),
        ("claim", 0, 40, 0, 240),
        ("disputed_claim", 0, 0, 0, 240),
        ("netting_payment", 0, 200, 0, 240),
        ("settlement", 0, 0, 150, 90),
        ("claim", 2, 7, 0, 97),
        ("dispute_ended", 0, 0, 0, 97),
        ("settlement", 0, 0, 60, 37),
        ("claim", 0, 9, 0, 46),
        ("disputed_claim", 0, 0, 0, 46),
        ("cancelled_claim", 0, 0, 9, 37),
    ]
    names = [
        "a",
        "b",
        "c",
        "disputed",
        "dispute",
        "net",
        "net",
        "net",
        "net",
        "settle",
        "late",
        "stands",
        "settle_rest",
    ]
    names += ["wrong", "dispute_wrong", "cancelled"]
    assert [line.seq for line in found.lines] == [entries[name].seq for name in names]
    assert [line.part for line in found.lines if line.seq == entries["net"].seq] == [0, 1, 2, 3]
    assert (found.opening, found.closing, found.disputed) == (0, 37, 0)


def test_claim_says_which_netting_covers_it_and_what_became_of_it(three: Three) -> None:
    """One in dispute is left out of the netting; it is open again when it stands."""
    entries = make_march(three)
    claims = {line.claim: line for line in statement(three, 1).lines if line.what == "claim"}
    netting = entries["net"].seq
    by_entry = {name: claims[entries[name].seq, 0] for name in ("a", "b", "c", "disputed", "late", "wrong")}
    assert {name: line.netted_by for name, line in by_entry.items()} == {
        **dict.fromkeys("abc", netting),
        **dict.fromkeys(("disputed", "late", "wrong")),
    }
    assert {name: line.status for name, line in by_entry.items() if line.status != "open"} == {"wrong": "cancelled"}
    earlier = statement(three, 1, through=date(2026, 3, 3)).lines
    assert [line.status for line in earlier if line.claim == by_entry["disputed"].claim][:1] == ["disputed"]


def test_lines_name_partners_operations_agreements_and_references(three: Three) -> None:
    make_march(three)
    lines = statement(three, 1).lines
    assert {line.counterparty_name for line in lines} == {"École “Süd” & Co", "Leaf"}
    assert lines[0].operation == "redeem"
    assert lines[0].agreement == f"STAR@{three.account(1)}"
    assert {line.reference for line in lines if line.what == "settlement"} == {"wire-1", "wire-2"}
    assert {line.reference for line in lines if line.what == "disputed_claim"} == {"amount"}
    assert {line.amount for line in lines if line.what == "disputed_claim"} == {40, 9}


def test_claim_is_told_with_the_bill_it_comes_from(three: Three) -> None:
    """By which a bookkeeper finds it in its own books; none where the operation has none."""
    three.redeem(0, 1, 500, reference="bill-7")
    three.redeem(0, 1, 5)
    assert [line.reference for line in statement(three, 1).lines] == ["bill-7", None]


def test_who_only_pays_by_a_netting_has_a_line_for_it(three: Three) -> None:
    make_march(three)
    assert short(three, statement(three, 2).lines) == [
        ("claim", 1, 100, 0, 100),
        ("netted", 1, 0, 100, 0),
        ("netting_payment", 0, 100, 0, 100),
        ("claim", 1, 0, 7, 93),
    ]


def test_turnovers_are_the_sums_of_the_lines(three: Three) -> None:
    """Of each kind, and together they lead from the opening balance to the closing one."""
    make_march(three)
    for number in range(3):
        for start, through in [(FIRST, LAST), (date(2026, 3, 3), LAST), (FIRST, date(2026, 3, 3))]:
            found = statement(three, number, start, through)
            for turnover in found.turnovers:
                lines = [line for line in found.lines if line.what == turnover.what]
                sums = (sum(line.debit for line in lines), sum(line.credit for line in lines))
                assert (turnover.lines, turnover.debit, turnover.credit) == (len(lines), *sums)
            moved = sum(turnover.debit - turnover.credit for turnover in found.turnovers)
            assert found.opening + moved == found.closing


def test_periods_follow_each_other_without_a_gap(three: Three) -> None:
    """A day's closing balance is the next one's opening, and all lines of the days are those of the month."""
    make_march(three)
    whole = statement(three, 1)
    days = [statement(three, 1, day, day) for day in (FIRST + timedelta(days=n) for n in range(31))]
    assert [line for day in days for line in day.lines if line.what != "claim"] == [
        line for line in whole.lines if line.what != "claim"
    ]
    assert [line.seq for day in days for line in day.lines] == [line.seq for line in whole.lines]
    assert [day.opening for day in days] == [0, *(day.closing for day in days[:-1])]
    assert days[-1].closing == whole.closing


def test_closing_balance_says_what_is_in_dispute(three: Three) -> None:
    make_march(three)
    assert [statement(three, number, through=date(2026, 3, 2)).disputed for number in range(3)] == [-40, 40, 0]
    assert [statement(three, number).disputed for number in range(3)] == [0, 0, 0]


def test_statement_of_nothing_is_zero(three: Three) -> None:
    found = statement(three, 0)
    assert (found.opening, found.closing, found.lines) == (0, 0, ())
    assert all(turnover.lines == 0 for turnover in found.turnovers)
    assert (found.scale, found.name) == (2, "École “Süd” & Co")


def pages(three: Three, of: int, size: int, *, from_end: bool) -> Iterator[list[SettlementLine]]:
    key = SettlementKey(account=three.account(of), currency="USD", start=FIRST, through=LAST)
    edge: Any = None
    while True:
        page = Page(limit=size, after=None if from_end else edge, before=edge if from_end else None, from_end=from_end)
        with three.world.store.read() as connection:
            found = Clearing(three.world.store, connection, key).page(page)
        yield found
        if len(found) < size:
            return
        last = found[0] if from_end else found[-1]
        edge = (last.seq, last.part)


def test_pages_of_any_size_have_all_lines_once(three: Three) -> None:
    """In both directions, and also where a page ends between the lines of one netting."""
    make_march(three)
    lines = list(statement(three, 1).lines)
    for size in (1, 2, 3, 7, 16, 50):
        assert [line for page in pages(three, 1, size, from_end=False) for line in page] == lines
        backwards = list(pages(three, 1, size, from_end=True))
        assert [line for page in reversed(backwards) for line in page] == lines


def test_payment_before_a_netting_leaves_it_the_rest(three: Three) -> None:
    """The netting takes the place of what is owed, not of what was claimed."""
    three.redeem(0, 1, 100)
    three.settle(0, 1, 30)
    three.world.clock.advance(days=1)
    three.net("2026-03-02", (0, 1, 70), merchants=(0, 1))
    assert short(three, statement(three, 1).lines)[2:] == [
        ("netted", 0, 0, 70, 0),
        ("netting_payment", 0, 70, 0, 70),
    ]


@pytest.mark.parametrize("seed", range(4))
def test_any_history_is_explained(tmp_path: Path, seed: int) -> None:
    """Lines of a netting leave the balance as it was, and lines with each partner add up to what is due and disputed.

    What is due is kept by the rules as they go; the statement finds it from the record alone.
    """
    with World(f"sqlite:///{tmp_path / 'ledger.sqlite'}", seed=seed) as world:
        three = make_three(world)
        simulation = Simulation(three, seed)
        simulation.run(70)
        owed = Counter(due(three))
        for claim in simulation.disputed:
            found = claim_in(three, claim)
            owed[found.debtor, found.creditor] += found.amount
        for number in range(3):
            lines = statement(three, number, through=date(2026, 12, 31)).lines
            partners: Counter[str | None] = Counter()
            nettings: Counter[int] = Counter()
            for line in lines:
                partners[line.counterparty] += line.debit - line.credit
                if line.what in {"netted", "netting_payment"}:
                    nettings[line.seq] += line.debit - line.credit
            assert set(nettings.values()) <= {0}
            for other in {0, 1, 2} - {number}:
                mine, theirs = three.account(number), three.account(other)
                assert partners[theirs] == owed[theirs, mine] - owed[mine, theirs], f"seed {seed}"
        with world.store.read() as connection:
            assert connection.execute(sa.select(sa.func.count()).select_from(NETTING)).scalar_one() > 1
