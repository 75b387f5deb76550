"""Partners over GraphQL: the exchange terms that must run, with their numbers, and what only one of two can get.

Terms and figures are those of real programs' public terms. Everything goes through typed mutations, on both databases;
the races go through two servers on one database.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from ledger.encoding import format_time
from ledger.operations import Allot, Capture, Exchange, Hold, Redeem, SignedOperation, Transfer
from ledger.terms import (
    Bonus,
    Cap,
    EarningTerms,
    ExchangeTerms,
    Fee,
    KeptFee,
    Rate,
    Recipient,
    TransferTerms,
)
from ledger.wallet import Wallet, encode_document
from tests.partners import agree, buy, hold_of, owe_usd
from tests.reference import check_projections, check_record
from tests.service import Service, running, serving
from tests.worlds import World, pay

RACES = 12
HELD = "entry { postings { asset amount } } balance"
SUBMIT = """mutation($operation: SignedOperation!) {
  operationSubmit(input: {operation: $operation}) { entry { seq } userErrors { code } }
}"""


class Market:
    """Two merchants, a member of both, and the service in front of them."""

    def __init__(self, world: World, service: Service) -> None:
        self.world = world
        self.service = service
        self.giver, self.getter = world.add_merchant("Giver"), world.add_merchant("Getter")
        self.member = world.add_member()

    def offer(self, asset: str, into: str, **terms: Any) -> None:
        """Agree that points of one asset, of which the member has plenty, become points of another."""
        self.world.add_asset(self.giver, asset)
        self.world.add_asset(self.getter, into)
        self.world.grant(self.giver, asset, self.member, 1_000_000)
        if fee := terms.pop("fee", None):
            terms["fee"] = KeptFee(kept_by=str(self.giver.account), **fee)
        terms = {"received": "retired", "claim": owe_usd(self.giver), **terms}
        signed = agree(self.world, self.giver, self.getter, terms=ExchangeTerms(asset=asset, into=into, **terms))
        payload = self.service.submit(signed)
        assert payload["userErrors"] == []

    def exchange(self, asset: str, into: str, amount: int, **fields: Any) -> Any:
        """What became of an exchange: how many points came out, or the code of its refusal."""
        fields = {"asset": asset, "into": into, "amount": amount, "minimum_out": 1, **fields}
        payload = self.service.submit(self.member.sign(Exchange, **fields), HELD)
        if payload["userErrors"]:
            (error,) = payload["userErrors"]
            return error["code"]
        return payload["entry"]["postings"]


def moved(postings: list[dict[str, Any]], asset: str) -> int:
    """Points or money that changed hands."""
    return sum(leg["amount"] for leg in postings if leg["asset"] == asset and leg["amount"] > 0)


@pytest.fixture
def market(world: World, tmp_path: Path) -> Iterator[Market]:
    with running(world, tmp_path) as service:
        yield Market(world, service)
        check_record(world.store)
        check_projections(world.store)


def test_one_to_one_in_steps_with_a_fee_that_is_capped(market: Market) -> None:
    """1,000 : 1,000, step 1,000; 0.0006 a point, at most 99.00: 10,000 cost 6.00, 165,000 99.00; 1,500 is no step."""
    fee = {"amount": 6, "points": 100, "maximum": 9_900, "currency": "USD", "round": "half_up"}
    market.offer("MILE", "STAY", rate=Rate(give=1_000, get=1_000), step=1_000, fee=fee, claim=None)
    for amount, cents in ((10_000, 600), (165_000, 9_900), (164_000, 9_840)):
        legs = market.exchange("MILE", "STAY", amount, maximum_fee=cents)
        assert (moved(legs, "STAY"), moved(legs, "USD")) == (amount, cents)
        assert market.exchange("MILE", "STAY", amount, maximum_fee=cents - 1) == "FEE_ABOVE_LIMIT"
    assert market.exchange("MILE", "STAY", 1_500, maximum_fee=10_000) == "OFF_STEP"


def test_two_to_one_and_a_half(market: Market) -> None:
    """2 : 1.5, at least 1,000, step 100: 10,000 become 7,500; 900 are too few."""
    market.offer("BANK", "JET", rate=Rate(give=4, get=3), minimum=1_000, step=100)
    assert moved(market.exchange("BANK", "JET", 10_000), "JET") == 7_500
    assert market.exchange("BANK", "JET", 900) == "BELOW_MINIMUM"


def test_five_to_three(market: Market) -> None:
    """5 : 3: 1,000 become 600, and what the merchants owe for it is booked with them."""
    market.offer("CARD", "RAIL", rate=Rate(give=5, get=3))
    legs = market.exchange("CARD", "RAIL", 1_000)
    assert (moved(legs, "RAIL"), moved(legs, "USD")) == (600, 1_000)


@pytest.mark.parametrize(("off_step", "expected"), [("refuse", "OFF_STEP"), ("down", 19_000)])
def test_three_to_one_with_a_bonus_for_each_block(market: Market, off_step: Any, expected: Any) -> None:
    """3 : 1, at least 3,000, 5,000 more for each 60,000: 60,000 become 25,000; 59,999 are refused or made 57,000."""
    bonus = Bonus(block=60_000, points=5_000)
    market.offer("INN", "FLY", rate=Rate(give=3, get=1), minimum=3_000, step=3_000, off_step=off_step, bonus=bonus)
    assert moved(market.exchange("INN", "FLY", 60_000), "FLY") == 25_000
    found = market.exchange("INN", "FLY", 59_999)
    assert (found if isinstance(found, str) else moved(found, "FLY")) == expected
    if off_step == "down":
        assert moved(found, "INN") == 57_000
    assert market.exchange("INN", "FLY", 3_000 - 1) in {"OFF_STEP", "BELOW_MINIMUM"}


def test_holders_send_each_other_points_within_bounds_and_for_a_fee(world: World, tmp_path: Path) -> None:
    """0.01 a point + 30.00; steps of 1,000, 30,000 at a time, 150,000 out and 300,000 in a year."""
    airline, alice, bob, carol, dave = world.add_merchant(), *world.add_members(4)
    terms = TransferTerms(
        fee=Fee(amount=1, points=1, fixed=3_000, currency="USD", round="half_up"),
        step=1_000,
        maximum=30_000,
        out_cap=Cap(points=150_000, period="year"),
        in_cap=Cap(points=300_000, period="year"),
    )
    world.add_asset(airline, "MILE", transfer_terms=terms)
    for member in (alice, bob, carol):
        world.grant(airline, "MILE", member, 400_000)
    with running(world, tmp_path) as service:

        def send(payer: Wallet, amount: int, **fields: Any) -> Any:
            payload = service.submit(pay(payer, "MILE", amount, dave, **{"maximum_fee": 33_000, **fields}), HELD)
            errors = payload["userErrors"]
            return errors[0]["code"] if errors else moved(payload["entry"]["postings"], "USD")

        assert send(alice, 31_000, maximum_fee=34_000) == "ABOVE_MAXIMUM"
        assert send(alice, 1_500) == "OFF_STEP"
        assert send(alice, 30_000, maximum_fee=32_999) == "FEE_ABOVE_LIMIT"
        assert [send(alice, 30_000) for _ in range(6)] == [33_000] * 5 + ["CAP_EXCEEDED"]
        assert [send(bob, 30_000) for _ in range(5)] == [33_000] * 5
        assert send(carol, 1_000) == "CAP_EXCEEDED"  # Dave has received 300,000
        world.clock.advance(days=365)
        assert [send(alice, 30_000), send(carol, 1_000)] == [33_000, 4_000]
    check_projections(world.store)


# Races


@pytest.fixture
def servers(world: World, tmp_path: Path) -> Iterator[list[httpx.Client]]:
    """Clients of two servers on one database."""
    with ExitStack() as stack:
        clients = []
        for name in ("one", "two"):
            folder = tmp_path / name
            folder.mkdir()
            url = stack.enter_context(serving(world, folder))
            clients.append(stack.enter_context(httpx.Client(base_url=url, timeout=60)))
        yield clients
    check_record(world.store)
    check_projections(world.store)


def race(servers: list[httpx.Client], *operations: SignedOperation) -> list[str]:
    """Submit operations at the same moment, each to another server; the codes, empty for what is recorded."""
    barrier = threading.Barrier(len(operations))

    def submit(client: httpx.Client, signed: SignedOperation) -> str:
        body = {"query": SUBMIT, "variables": {"operation": encode_document(signed).decode()}}
        barrier.wait()
        payload = client.post("/graphql", json=body).json()["data"]["operationSubmit"]
        return payload["userErrors"][0]["code"] if payload["userErrors"] else ""

    with ThreadPoolExecutor(len(operations)) as pool:
        return list(pool.map(submit, servers, operations))


Racers = Callable[["Contest", int], tuple[SignedOperation, SignedOperation]]


class Contest:
    """A merchant and its prepaid partner, who accepts and exchanges its points, and a member with few of them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.shop, self.partner = world.add_merchant("Shop"), world.add_merchant("Partner")
        self.member, self.friend = world.add_members(2)
        world.add_asset(self.shop, "STAR")
        world.add_asset(self.partner, "BEAN")
        exchange = ExchangeTerms(asset="STAR", into="BEAN", rate=Rate(give=1, get=1), received="kept")
        earning = EarningTerms(asset="STAR", billing="prepaid", claim=owe_usd(self.partner))
        world.record(*(agree(world, self.shop, self.partner, terms=terms) for terms in (exchange, earning)))

    def spend(self, kind: str, points: int) -> SignedOperation:
        """An operation that takes points of the member."""
        member = self.member
        match kind:
            case "transfer":
                recipients = (Recipient(to=str(self.friend.account), amount=points),)
                return member.sign(Transfer, asset="STAR", recipients=recipients)
            case "redeem":
                return member.sign(Redeem, asset="STAR", amount=points, merchant=self.shop.account)
            case "exchange":
                return member.sign(Exchange, asset="STAR", into="BEAN", amount=points, minimum_out=points)
        until = format_time(self.world.clock.now_ms + 60_000)
        return member.sign(Hold, asset="STAR", amount=points, merchant=self.shop.account, until=until)


@pytest.mark.parametrize(
    "kinds", [("transfer", "redeem"), ("redeem", "redeem"), ("exchange", "hold"), ("hold", "transfer")], ids="-".join
)
def test_the_last_points_are_spent_once(world: World, servers: list[httpx.Client], kinds: tuple[str, str]) -> None:
    """Of two who spend a member's last points at the same moment, through two servers, exactly one does."""
    contest = Contest(world)
    for i in range(RACES):
        world.grant(contest.shop, "STAR", contest.member, 10)
        one, other = (contest.spend(kind, 10) for kind in (kinds if i % 2 else kinds[::-1]))
        assert sorted(race(servers, one, other)) == ["", "INSUFFICIENT_POINTS"]


def test_a_hold_is_captured_once(world: World, servers: list[httpx.Client]) -> None:
    """Of two captures of a whole hold at the same moment, exactly one takes the points."""
    contest = Contest(world)
    for i in range(RACES):
        world.grant(contest.shop, "STAR", contest.member, 10)
        (held,) = world.record(contest.spend("hold", 10))
        captures = [
            contest.shop.sign(Capture, hold=hold_of(held), amount=10, reference=f"till-{till}-{i}") for till in (1, 2)
        ]
        assert sorted(race(servers, *captures)) == ["", "HOLD_CLOSED"]


def test_the_last_points_of_a_block_are_given_once(world: World, servers: list[httpx.Client]) -> None:
    """Of two tills of a prepaid partner that give the last points it bought, exactly one does."""
    contest = Contest(world)
    partner = contest.partner
    for i in range(RACES):
        block: dict[str, Any] = {"asset": "STAR", "partner": partner.account, "points": 10, "reference": f"block-{i}"}
        world.record(contest.shop.sign(Allot, co_signers=partner.keys, **block))
        sales = [buy(partner, "STAR", contest.member, f"order-{i}-{till}", 1_000) for till in (1, 2)]
        assert sorted(race(servers, *sales)) == ["", "ALLOTMENT_USED_UP"]
