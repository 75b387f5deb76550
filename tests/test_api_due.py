"""The query `due`: who is told of which due work, page by page."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ledger.keys import encode_public_key
from ledger.operations import OpenAccount
from ledger.sequencer import account_opened_by
from ledger.wallet import Wallet
from tests.service import Service, running
from tests.test_due import add_asset, give, hold, run
from tests.worlds import World

DUE = """
query($asset: String, $first: Int, $after: String) {
  due(asset: $asset, first: $first, after: $after) {
    nodes {
      asset through lots points firstDay lapsedHolds heldPoints lapsedSince
      vestingPurchases vestingPoints vestsSince membersToReview tiersUntil
    }
    pageInfo { hasNextPage endCursor }
  }
}"""


class Shops:
    """A service where points of three merchants are due, and the merchants."""

    def __init__(self, world: World, service: Service) -> None:
        self.world, self.service = world, service
        self.members = world.add_members(2)
        self.merchants: dict[str, Wallet] = {}
        for code in ("BEAN", "COIN", "STAR"):
            shop = self.merchants[code] = world.add_merchant(code)
            add_asset(world, shop, code, days=2)
            give(world, shop, code, self.members)
            hold(world, self.members[0], code, shop, 4)
        world.clock.advance(days=4)

    def due(self, wallet: Wallet, **variables: Any) -> Any:
        return self.service.query(DUE, variables, self.service.sign_in(wallet))["due"]

    def codes(self, wallet: Wallet, **variables: Any) -> list[str]:
        return [node["asset"] for node in self.due(wallet, **variables)["nodes"]]


@pytest.fixture
def shops(tmp_path: Path) -> Iterator[Shops]:
    with World(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as world, running(world, tmp_path) as service:
        yield Shops(world, service)


def test_due_work_is_told_by_asset(shops: Shops) -> None:
    """All of it to the operator and auditors, its own part to a merchant; nothing once it is done."""
    star = {
        "asset": "STAR",
        "through": "2026-03-05",
        "lots": 2,
        "points": 16,
        "firstDay": "2026-03-04",
        "lapsedHolds": 1,
        "heldPoints": 4,
        "lapsedSince": "2026-03-02T13:00:00.000Z",
        "vestingPurchases": 0,
        "vestingPoints": 0,
        "vestsSince": None,
        "membersToReview": 0,
        "tiersUntil": None,
    }
    operator, merchant = shops.world.operator, shops.merchants["STAR"]
    assert shops.due(operator)["nodes"][-1] == star
    assert shops.due(merchant)["nodes"] == [star]
    assert shops.codes(operator) == shops.codes(make_auditor(shops.world)) == ["BEAN", "COIN", "STAR"]
    assert shops.codes(operator, asset="COIN") == ["COIN"]
    assert shops.codes(merchant, asset="COIN") == []
    run(shops.world, merchant)
    assert shops.codes(merchant) == []
    assert shops.codes(operator) == ["BEAN", "COIN"]


def make_auditor(world: World) -> Wallet:
    key = world.make_key()
    keys = (encode_public_key(key),)
    opening = world.operator.sign(OpenAccount, co_signers=[key], role="auditor", name="Auditor", keys=keys)
    (opened,) = world.record(opening)
    return world.wallet(account_opened_by(opened), key)


def test_due_work_comes_in_pages(shops: Shops) -> None:
    page = shops.due(shops.world.operator, first=2)
    assert [node["asset"] for node in page["nodes"]] == ["BEAN", "COIN"]
    assert page["pageInfo"]["hasNextPage"]
    rest = shops.due(shops.world.operator, first=2, after=page["pageInfo"]["endCursor"])
    assert [node["asset"] for node in rest["nodes"]] == ["STAR"]
    assert not rest["pageInfo"]["hasNextPage"]


def test_due_work_is_not_for_everybody(shops: Shops) -> None:
    service = shops.service
    assert service.error_code(DUE) == "UNAUTHENTICATED"
    assert service.error_code(DUE, token=service.sign_in(shops.members[0])) == "FORBIDDEN"
    assert service.error_code(DUE, {"asset": "no code"}, service.sign_in(shops.world.operator)) == "BAD_USER_INPUT"
