"""How points moved, what was sold and which lots ended: by the tables, and by a walk over the entries."""

from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from ledger import queries
from ledger.books import (
    DayPoints,
    EndedLots,
    PointsMoved,
    Sales,
    Span,
    ended_lots,
    outstanding,
    overdue,
    points_moved,
    sales,
    span_of,
)
from ledger.encoding import format_time
from ledger.entries import Entry, decode_entry
from ledger.operations import Agree, Correct, Enroll, Expire, Hold, RecordPurchases, Redeem, Refund, Vest
from ledger.program_terms import ExpiresAfterDays, ExpiresAfterInactivity, Referral, Reward
from ledger.queries import Page
from ledger.sequencer import Recorded
from ledger.state import SYSTEM_ACCOUNTS
from ledger.terms import ClaimTerms, EarningTerms, Purchase, PurchaseRef, RefundedPurchase, RefundedRedemption
from ledger.wallet import Wallet
from tests.partners import trade
from tests.worlds import World, make_program

HOUR_MS = 3_600_000
EVERYTHING = Page(limit=1_000)


def buy(world: World, shop: Wallet, member: Wallet, order: str, amount: int) -> Recorded:
    """A purchase of so many cents, of now."""
    purchase = Purchase(amount=amount, at=format_time(world.clock()), member=str(member.account), order=order)
    return world.record(shop.sign(RecordPurchases, asset="STAR", currency="USD", purchases=(purchase,)))[0]


def make_spring(world: World) -> Wallet:
    """A shop in Tokyo whose points live ten days: bought, given, held, spent, refunded, corrected, and expired."""
    shop = world.add_merchant()
    program = make_program(expiry=ExpiresAfterDays(count=10), time_zone="Asia/Tokyo")
    world.add_asset(shop, program=program)
    alice, bob, carl = world.add_members(3)
    buy(world, shop, alice, "order-1", 10_000)
    buy(world, shop, bob, "order-2", 5_000)
    world.grant(shop, "STAR", carl, 30)
    until = format_time(world.clock() + HOUR_MS)
    world.record(alice.sign(Hold, asset="STAR", amount=20, merchant=shop.account, until=until))
    (redeemed,) = world.record(alice.sign(Redeem, asset="STAR", amount=40, merchant=shop.account))
    world.clock.advance(ms=4 * HOUR_MS)  # past midnight in Tokyo, and past the hold
    returned = RefundedRedemption(amount=10, operation=redeemed.op_id.hex())
    fields: dict[str, Any] = {"asset": "STAR", "reason": "error"}
    world.record(
        shop.sign(Correct, amount=-15, member=alice.account, reference="c-1", **fields),
        shop.sign(Refund, asset="STAR", of=returned, reference="r-1"),
        shop.sign(Refund, asset="STAR", of=RefundedPurchase(amount=2_000, order="order-2"), reference="r-2"),
        shop.sign(Correct, amount=5, member=carl.account, reference="c-2", **fields),
    )
    world.clock.advance(days=11)
    world.record(shop.sign(Expire, asset="STAR", through="2026-03-12", limit=10))
    return shop


def day_span(world: World, first: str | None, through: str) -> Span:
    with world.store.read() as connection:
        start = date.fromisoformat(first) if first is not None else None
        return span_of(world.store, connection, start, date.fromisoformat(through), "Asia/Tokyo")


def test_points_of_a_period_are_told_by_why_they_moved(world: World) -> None:
    """On the first day bought, given, held and spent; on the second refunded and corrected; later expired."""
    make_spring(world)
    spans = [
        day_span(world, *days)
        for days in ((None, "2026-03-02"), ("2026-03-03", "2026-03-03"), ("2026-03-04", "2026-03-14"))
    ]
    with world.store.read() as connection:
        first, second, third = (points_moved(world.store, connection, "STAR", span) for span in spans)
    nothing = PointsMoved(
        opening=0,
        closing=0,
        on_hold=0,
        issued_by_purchases=0,
        issued_by_grants=0,
        issued_by_exchanges=0,
        issued_by_corrections=0,
        taken_back_by_refunds=0,
        taken_back_by_corrections=0,
        redeemed=0,
        returned=0,
        expired=0,
    )
    fields = {name: getattr(nothing, name) for name in nothing.__struct_fields__}
    assert first == PointsMoved(
        **fields | {"closing": 140, "on_hold": 20, "issued_by_purchases": 150, "issued_by_grants": 30, "redeemed": 40}
    )
    assert second == PointsMoved(
        **fields
        | {
            "opening": 140,
            "closing": 120,
            "issued_by_corrections": 5,
            "taken_back_by_refunds": 20,
            "taken_back_by_corrections": 15,
            "returned": 10,
        }
    )
    assert third == PointsMoved(**fields | {"opening": 120, "closing": 5, "expired": 115})
    assert (second.issued, second.taken_back) == (5, 35)


def test_sales_of_a_period_are_purchases_and_what_was_refunded_in_it(world: World) -> None:
    """Of whatever time the refunded purchase was."""
    shop = make_spring(world)
    with world.store.read() as connection:
        asset = queries.asset(world.store, connection, "STAR")
        assert asset is not None
        assert asset.issuer == shop.account
        first = sales(world.store, connection, asset, day_span(world, None, "2026-03-02"))
        second = sales(world.store, connection, asset, day_span(world, "2026-03-03", "2026-03-14"))
    assert first == Sales(purchases=2, amount=15_000, points=150, refunded=0, taken_back=0)
    assert second == Sales(purchases=0, amount=0, points=0, refunded=2_000, taken_back=20)


def test_ended_lots_tell_what_nobody_spent(world: World) -> None:
    """What a lapsed hold gave back to a lot, in the entry of a correction, was not issued into it."""
    make_spring(world)
    size = world.record(world.open_member(world.make_key()))[0].seq + 1
    expiring = size - 2
    with world.store.read() as connection:

        def ended(first: str, last: str, end: int) -> EndedLots:
            return ended_lots(world.store, connection, "STAR", (first, last), end)

        assert ended("2026-03-01", "2026-03-12", size) == EndedLots(issued=145, expired=115, overdue=0)
        assert ended("2026-03-01", "2026-03-13", size) == EndedLots(issued=150, expired=115, overdue=5)
        assert ended("2026-03-13", "2026-03-13", size) == EndedLots(issued=5, expired=0, overdue=5)
        assert ended("2026-03-01", "2026-03-12", expiring) == EndedLots(issued=145, expired=0, overdue=115)
        assert ended("2026-03-01", "2026-03-11", size) == EndedLots(issued=0, expired=0, overdue=0)
        assert overdue(world.store, connection, "STAR", expiring, "2026-03-13") == 115


def test_points_that_became_vouchers_were_issued_and_redeemed(world: World) -> None:
    """Of 235 points 200 become vouchers in the entry that issues them: breakage is of all 235."""
    shop = world.add_merchant()
    reward = Reward(reward="five", price=100, automatic=True)
    world.add_asset(shop, program=make_program(expiry=ExpiresAfterDays(count=10), rewards=(reward,)))
    (alice,) = world.add_members(1)
    bought = buy(world, shop, alice, "order-1", 23_500)
    with world.store.read() as connection:
        span = Span(first=0, end=bought.seq + 1)
        moved = points_moved(world.store, connection, "STAR", span)
        ended = ended_lots(world.store, connection, "STAR", ("2026-03-12", "2026-03-12"), span.end)
    assert (moved.issued_by_purchases, moved.redeemed, moved.converted, moved.closing) == (235, 200, 200, 35)
    assert ended == EndedLots(issued=235, expired=0, overdue=35)


def test_points_that_got_another_last_day_were_issued_into_that_lot(world: World) -> None:
    """By inactivity: spending and earning both move the last day of what was there, in one entry or another."""
    shop = world.add_merchant()
    reward = Reward(reward="free", price=1_000, automatic=True)
    expiry = ExpiresAfterInactivity(months=1)
    world.add_asset(shop, program=make_program(expiry=expiry, rewards=(reward,)))
    alice, bob, carl = world.add_members(3)
    for number, member in enumerate((alice, bob, carl)):
        buy(world, shop, member, f"order-{number}", 10_000)
    world.clock.advance(days=3)
    world.record(alice.sign(Redeem, asset="STAR", amount=30, merchant=shop.account))
    until = format_time(world.clock() + HOUR_MS)
    world.record(carl.sign(Hold, asset="STAR", amount=10, merchant=shop.account, until=until))
    world.clock.advance(days=2)
    buy(world, shop, alice, "order-3", 5_000)
    held = buy(world, shop, carl, "order-4", 100_000).seq + 1
    (last,) = world.record(carl.sign(Redeem, asset="STAR", amount=5, merchant=shop.account))
    with world.store.read() as connection:

        def ended(day: str, end: int = last.seq + 1) -> EndedLots:
            return ended_lots(world.store, connection, "STAR", (day, day), end)

        assert ended("2026-04-02") == EndedLots(issued=100, expired=0, overdue=100)  # Bob's
        # Of what they had by then Alice spent 30 and Carl held 10. All else was moved on, and his 10 as they came back.
        assert ended("2026-04-05", held) == EndedLots(issued=40, expired=0, overdue=0)
        assert ended("2026-04-05") == EndedLots(issued=30, expired=0, overdue=0)
        assert ended("2026-04-07", held) == EndedLots(issued=70 + 50 + 1_090, expired=0, overdue=120 + 90)
        assert ended("2026-04-07") == EndedLots(issued=70 + 50 + 1_100, expired=0, overdue=120 + 95)
        whole = ended_lots(world.store, connection, "STAR", ("2026-03-01", "2026-12-31"), last.seq + 1)
        moved = points_moved(world.store, connection, "STAR", Span(first=0, end=last.seq + 1))
    assert whole.issued == moved.issued == 1_350
    assert whole.issued - whole.overdue == moved.redeemed == 1_035


def test_points_that_vest_are_issued_for_purchases_and_a_whole_refund_counts_once(world: World) -> None:
    """Also where it takes back what who invited the member got."""
    shop = world.add_merchant()
    program = make_program(vesting_days=2, referral=Referral(points=7))
    world.add_asset(shop, program=program)
    alice, bob = world.add_members(2)
    world.record(bob.sign(Enroll, asset="STAR", invited_by=alice.account))
    first = buy(world, shop, bob, "order-1", 10_000)
    world.clock.advance(days=2)
    due = PurchaseRef(merchant=str(shop.account), order="order-1")
    (vested,) = world.record(shop.sign(Vest, asset="STAR", purchases=(due,)))
    of = RefundedPurchase(amount=10_000, order="order-1")
    (refunded,) = world.record(shop.sign(Refund, asset="STAR", of=of, reference="r-1"))
    with world.store.read() as connection:
        asset = queries.asset(world.store, connection, "STAR")
        assert asset is not None
        spans = [Span(first=at.seq, end=at.seq + 1) for at in (first, vested, refunded)]
        moved = [points_moved(world.store, connection, "STAR", span) for span in spans]
        sold = [sales(world.store, connection, asset, span) for span in spans]
    assert [each.issued_by_purchases for each in moved] == [0, 107, 0]
    assert moved[2].taken_back_by_refunds == 107
    assert sold[0] == Sales(purchases=1, amount=10_000, points=100, refunded=0, taken_back=0)
    assert sold[2] == Sales(purchases=0, amount=0, points=0, refunded=10_000, taken_back=107)


def test_outstanding_points_are_told_by_last_day_as_they_were(world: World) -> None:
    make_spring(world)
    with world.store.read() as connection:
        size = world.store.head(connection).size

        def found(end: int, page: Page = EVERYTHING) -> list[DayPoints]:
            return outstanding(world.store, connection, "STAR", end, page)

        first, second = DayPoints(last_day="2026-03-12", points=115), DayPoints(last_day="2026-03-13", points=5)
        assert found(size) == [second]
        assert found(size - 1) == [first, second]
        assert found(size - 1, Page(limit=1)) == [first]
        assert found(size - 1, Page(limit=1, after="2026-03-12")) == [second]
        assert found(size - 1, Page(limit=1, from_end=True)) == [second]
        assert found(size - 1, Page(limit=1, before="2026-03-13", from_end=True)) == [first]
        assert found(0) == []


def test_sales_of_a_partner_are_not_the_issuers(tmp_path: Path) -> None:
    """Its points are issued all the same."""
    with World(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as world:
        shop, partner = world.add_merchant(), world.add_merchant("Partner")
        world.add_asset(shop)
        claim = ClaimTerms(amount=1, currency="USD", debtor=str(partner.account), points=1, round="half_up")
        world.record(
            shop.sign(
                Agree,
                co_signers=partner.keys,
                notice_days=0,
                partner=partner.account,
                starts=format_time(world.clock()),
                terms=EarningTerms(asset="STAR", billing="postpaid", claim=claim),
                version=1,
            )
        )
        member = world.add_member()
        buy(world, partner, member, "order-1", 900)
        buy(world, shop, member, "order-1", 100)
        with world.store.read() as connection:
            asset = queries.asset(world.store, connection, "STAR")
            assert asset is not None
            span = Span(first=0, end=world.store.head(connection).size)
            found = sales(world.store, connection, asset, span)
            moved = points_moved(world.store, connection, "STAR", span)
    assert (found.purchases, found.amount, found.points) == (1, 100, 1)
    assert moved.issued_by_purchases == 10


def walked(entries: list[Entry], code: str) -> dict[str, int]:
    """What entries say of an asset, one posting after the other."""
    totals: Counter[str] = Counter()
    for entry in entries:
        for leg in entry.postings:
            if leg.asset != code:
                continue
            way = "in" if leg.amount > 0 else "out"
            totals[f"{leg.account} {way}"] += abs(leg.amount)
            if leg.account not in SYSTEM_ACCOUNTS:
                totals["held by people"] += leg.amount
    return totals


def test_books_agree_with_a_walk_over_the_entries(world: World) -> None:
    """Of every asset of a ledger with every kind of operation, for spans between any ten entries."""
    trade(world)
    with world.store.read() as connection:
        size = world.store.head(connection).size
        data = world.store.entry_data(connection, range(size))
        entries = [decode_entry(bytes(data[seq])) for seq in range(size)]
        codes = [asset.code for asset in queries.assets(world.store, connection)]
        assert codes
        for code in codes:
            for first in range(0, size, 10):
                for end in range(first, size + 1, 10):
                    moved = points_moved(world.store, connection, code, Span(first=first, end=end))
                    before, totals = walked(entries[:end], code), walked(entries[first:end], code)
                    assert moved.closing == before["held by people"] + moved.on_hold
                    assert moved.on_hold == before["sys_held in"] - before["sys_held out"]
                    assert (moved.issued, moved.taken_back) == (totals["sys_issued out"], totals["sys_issued in"])
                    assert (moved.redeemed, moved.returned) == (totals["sys_spent in"], totals["sys_spent out"])
                    assert moved.expired == totals["sys_expired in"]
                    change = moved.issued - moved.taken_back - moved.redeemed + moved.returned - moved.expired
                    assert moved.opening + change == moved.closing
                    left = outstanding(world.store, connection, code, end, EVERYTHING)
                    assert sum(day.points for day in left) == before["held by people"]


@pytest.mark.parametrize("code", ["NONE"])
def test_books_of_what_is_not_there_are_empty(tmp_path: Path, code: str) -> None:
    with World(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as world, world.store.read() as connection:
        moved = points_moved(world.store, connection, code, Span(first=0, end=1))
        assert not any(getattr(moved, name) for name in moved.__struct_fields__)
        assert outstanding(world.store, connection, code, 1, EVERYTHING) == []
