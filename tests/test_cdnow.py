"""All 69,659 purchases of CDNOW under three programs: every point again by a replay and by a naive reckoning.

The file is in a package of which nothing is imported, see scripts/requirements-data.txt. Its purchases are recorded day
by day, as they were made. Each entry is decided by the rules, written down, and replayed from its bytes, without a
database; signatures are neither made nor verified, since they are not what this is about.
"""

import hashlib
import importlib.util
from calendar import monthrange
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from fractions import Fraction
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ledger.checkpoint import encode_verifier_key
from ledger.encoding import account_id, encode_canonical
from ledger.entries import FIRST_PREV, encode_entry
from ledger.keys import encode_public_key
from ledger.operations import Signature, sign_with
from ledger.program_terms import (
    Band,
    ExpiresAfterInactivity,
    Multiplier,
    Program,
    Ratio,
    TierLevel,
    Tiers,
    When,
)
from ledger.replay import FullReplay
from ledger.rules import admit
from ledger.state import ORDER_SCOPE, Admission
from ledger.terms import MAX_VESTED, Cap
from tests.rulebook import make_key, make_program

PACKAGE, FILE = "lifetimes", Path("datasets", "CDNOW_master.txt")
SHA256 = "eff6889ed364c5199d6eacbbeb7a6d559971df4406ac876f322c373f00a072ef"
PURCHASES, CUSTOMERS = 69_659, 23_570
ORIGIN = "ledger.example/cdnow"
ASSET = "CDNOW"
AT_ONCE = 150
"""Purchases of one operation: an entry has room for them."""

VESTING_DAYS, MOST_A_MONTH, ACTIVE_MONTHS = 14, 100, 6


class Sold(NamedTuple):
    """A line of the file."""

    order: str
    customer: str
    day: str
    cents: int


@pytest.fixture(scope="module")
def sold() -> list[Sold]:
    """The file in the order in which things were bought."""
    found = importlib.util.find_spec(PACKAGE)
    assert found is not None, "scripts/test installs the package that has the file"
    assert found.origin is not None
    data = Path(found.origin).parent.joinpath(FILE).read_bytes()
    assert hashlib.sha256(data).hexdigest() == SHA256
    lines = []
    for number, line in enumerate(data.decode("ascii").splitlines()[1:], start=1):
        customer, day, _, dollars = line.split()
        whole, _, cents = dollars.partition(".")
        lines.append(Sold(f"line-{number}", customer, f"{day[:4]}-{day[4:6]}-{day[6:]}", int(whole) * 100 + int(cents)))
    assert len(lines) == PURCHASES
    return sorted(lines, key=lambda line: line.day)


class Ledger:
    """A ledger in memory with one shop, whose customers' accounts it holds; every entry is replayed at once."""

    def __init__(self, program: Program) -> None:
        self.replay = FullReplay(ORIGIN, lambda *_: None)
        self.prev = FIRST_PREV
        self.time = "1997-01-01T00:00:00.000Z"
        self.operations = 0
        self.points: dict[str, int] = {}
        operator, shop = (encode_public_key(make_key(number)) for number in (1, 2))
        self.signers: tuple[str, ...] = (operator,)
        genesis = {"clock_tolerance_ms": 0, "currencies": [{"code": "USD", "scale": 2}], "keys": [operator]}
        opened = self.do("genesis", log_key=encode_verifier_key(ORIGIN, make_key(1)), name="Operator", **genesis)
        self.signers = (operator, shop)
        fields = {"keys": [shop], "name": "CDNOW", "role": "merchant"}
        shop_opened = self.do("open_account", actor=account_id("opr", opened), **fields)
        self.shop = account_id("mer", shop_opened)
        self.signers = (shop,)
        self.accounts: dict[str, str] = {}
        self.do("define_asset", actor=self.shop, asset=ASSET, name="CDNOW", scale=0, transferable=True)
        starts = "1997-01-01T00:00:00.000Z"
        self.do("publish_program", actor=self.shop, asset=ASSET, program=program, starts=starts, version=1)

    def do(self, kind: str, **fields: Any) -> Any:
        """Record an operation, replay its entry, and keep what each purchase gave; the operation's id."""
        self.operations += 1
        nonce = f"{self.operations:021d}A"
        known = {"at": self.time, "guerdon": 1, "kind": kind, "ledger": ORIGIN, "nonce": nonce}
        sigs = tuple(Signature(key=key, sig="A" * 86) for key in self.signers)
        signed = sign_with(encode_canonical(known | fields), sigs)
        decision = admit(self.replay.state, signed, self.time)
        assert isinstance(decision, Admission), decision
        data = encode_entry(signed, decision.postings, seq=self.replay.size, prev=self.prev, time=self.time)
        replayed = self.replay.add(data)
        self.prev = replayed.leaf_hash
        self.points |= {
            each.reference: each.points for each in replayed.admission.earnings if each.scope == ORDER_SCOPE
        }
        return signed.op_id

    def record(self, day: str, lines: Sequence[Sold]) -> None:
        """Open accounts for new customers of a day, and record its purchases in the evening."""
        self.time = f"{day}T22:00:00.000Z"
        for line in lines:
            if line.customer not in self.accounts:
                opened = self.do("open_account", actor=self.shop, role="member")
                self.accounts[line.customer] = account_id("mem", opened)
        for start in range(0, len(lines), AT_ONCE):
            purchases = [
                {"amount": line.cents, "at": f"{day}T12:00:00.000Z", "member": self.accounts[line.customer]}
                | {"order": line.order}
                for line in lines[start : start + AT_ONCE]
            ]
            fields = {"actor": self.shop, "asset": ASSET, "currency": "USD", "purchases": purchases}
            self.do("record_purchases", **fields)

    def vest(self, day: str) -> None:
        """Issue what is due on a day, early in the morning."""
        due = [each for each in self.replay.state.pending if each.vests_on <= day]
        self.time = f"{day}T01:00:00.000Z"
        for start in range(0, len(due), MAX_VESTED):
            purchases = [{"merchant": each.merchant, "order": each.order} for each in due[start : start + MAX_VESTED]]
            self.do("vest", actor=self.shop, asset=ASSET, purchases=purchases)

    def lots(self) -> dict[str, dict[str, int]]:
        """Points of every customer that has any, by last day."""
        state = self.replay.state
        found = {customer: dict(state.lots_of(account, ASSET)) for customer, account in self.accounts.items()}
        return {customer: lots for customer, lots in found.items() if lots}


def by_day(sold: Sequence[Sold]) -> Iterator[tuple[str, list[Sold]]]:
    """What was bought on each day there is, also on those without purchases."""
    lines = {day: list(group) for day, group in groupby(sold, lambda line: line.day)}
    day, last = date.fromisoformat(sold[0].day), date.fromisoformat(sold[-1].day)
    while day <= last:
        yield day.isoformat(), lines.get(day.isoformat(), [])
        day += timedelta(days=1)


def check_points(ledger: Ledger, expected: dict[str, int]) -> None:
    """Every purchase gave what it should."""
    assert len(expected) == PURCHASES
    assert len(ledger.accounts) == CUSTOMERS
    differing = {order: (ledger.points[order], points) for order, points in expected.items()}
    assert {order: both for order, both in differing.items() if both[0] != both[1]} == {}


@pytest.mark.slow
def test_every_point_of_plain_bands(sold: list[Sold]) -> None:
    """2 points for each whole dollar above 100, 1 for each from 50."""
    bands = (Band(from_amount=5_000, per=100, points=1), Band(from_amount=10_000, per=100, points=2))
    ledger = Ledger(make_program(bands=bands))
    expected, balances = {}, Counter[str]()
    for day, lines in by_day(sold):
        ledger.record(day, lines)
    for line in sold:
        dollars = line.cents // 100
        points = expected[line.order] = 2 * max(dollars - 100, 0) + max(min(dollars, 100) - 50, 0)
        balances[line.customer] += points
    check_points(ledger, expected)
    assert ledger.lots() == {customer: {"9999-12-31": points} for customer, points in balances.items() if points}


@pytest.mark.slow
def test_every_point_of_tiers_with_multipliers(sold: list[Sold]) -> None:
    """From 100.00 in a calendar year 5/4, from 300.00 twice the points, through the next year."""
    levels = (TierLevel(tier="silver", from_count=10_000), TierLevel(tier="gold", from_count=30_000))
    tiers = Tiers(basis="amount", kept=1, levels=levels, period="calendar_year")
    multipliers = (
        Multiplier(multiplier="silver", times=Ratio(numerator=5, denominator=4), when=When(tiers=("silver",))),
        Multiplier(multiplier="gold", times=Ratio(numerator=2, denominator=1), when=When(tiers=("gold",))),
    )
    rounding: Any = {"round_amount": "none", "round_points": "half_up"}
    ledger = Ledger(make_program(multipliers=multipliers, tiers=tiers, **rounding))
    expected, spent = {}, Counter[tuple[str, int]]()
    for day, lines in by_day(sold):
        ledger.record(day, lines)
    for line in sold:
        year = int(line.day[:4])
        best = max(spent[line.customer, year], spent[line.customer, year - 1])
        times = Fraction(2) if best >= 30_000 else Fraction(5, 4) if best >= 10_000 else Fraction(1)
        exact = Fraction(line.cents, 100) * times
        expected[line.order] = (2 * exact + 1) // 2
        spent[line.customer, year] += line.cents
    check_points(ledger, expected)


def months_later(day: date, months: int) -> date:
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    return date(year, month + 1, min(day.day, monthrange(year, month + 1)[1]))


@pytest.mark.slow
def test_every_point_and_lot_of_vesting_caps_and_inactivity(sold: list[Sold]) -> None:
    """100 points a month at most, two weeks later, good for half a year after the last purchase that gave any."""
    ledger = Ledger(
        make_program(
            earning_cap=Cap(period="month", points=MOST_A_MONTH),
            expiry=ExpiresAfterInactivity(months=ACTIVE_MONTHS),
            vesting_days=VESTING_DAYS,
        )
    )
    expected: dict[str, int] = {}
    used = Counter[tuple[str, str]]()
    lots: defaultdict[str, Counter[date]] = defaultdict(Counter)
    waiting: defaultdict[date, list[tuple[str, int]]] = defaultdict(list)
    for text, lines in by_day(sold):
        day = date.fromisoformat(text)
        ledger.vest(text)
        for customer, points in waiting.pop(day, ()):
            lots[customer][months_later(day, ACTIVE_MONTHS)] += points
        ledger.record(text, lines)
        for line in lines:
            points = min(line.cents // 100, MOST_A_MONTH - used[line.customer, text[:7]])
            used[line.customer, text[:7]] += points
            expected[line.order] = points
            if not points:
                continue
            waiting[day + timedelta(days=VESTING_DAYS)].append((line.customer, points))
            new, mine = months_later(day, ACTIVE_MONTHS), lots[line.customer]
            for last in [last for last in mine if day <= last < new]:
                mine[new] += mine.pop(last)
    check_points(ledger, expected)
    named = {
        customer: {last.isoformat(): points for last, points in mine.items()} for customer, mine in lots.items() if mine
    }
    assert ledger.lots() == named
