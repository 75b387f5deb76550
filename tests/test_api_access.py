"""Who may read what: every query as every role."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ledger.keys import encode_public_key
from ledger.operations import OpenAccount
from ledger.sequencer import account_opened_by
from ledger.wallet import Wallet
from tests.service import Service, running, typed_document
from tests.worlds import World, pay


class Coalition:
    """Two merchants with an asset each; alice and bob hold STAR, carol holds MILE, dave is in the first's custody."""

    def __init__(self, world: World) -> None:
        self.operator = world.operator
        self.star, self.mile = world.add_merchant("Star shop"), world.add_merchant("Mile shop")
        world.add_asset(self.star, "STAR")
        world.add_asset(self.mile, "MILE")
        self.alice, self.bob, self.carol = world.add_members(3)
        auditor_key = world.make_key()
        (opened,) = world.record(
            world.operator.sign(
                OpenAccount,
                co_signers=[auditor_key],
                role="auditor",
                name="Auditor",
                keys=(encode_public_key(auditor_key),),
            )
        )
        self.auditor = world.wallet(account_opened_by(opened), auditor_key)
        (opened,) = world.record(self.star.sign(OpenAccount, role="member"))
        self.dave: Wallet = world.wallet(account_opened_by(opened), *self.star.keys)
        world.grant(self.star, "STAR", self.alice, 100)
        world.grant(self.mile, "MILE", self.carol, 100)
        (moved,) = world.record(pay(self.alice, "STAR", 10, self.bob))
        self.moved = moved.seq

    def wallet(self, name: str) -> Wallet:
        """A party by name."""
        wallet: Wallet = getattr(self, name)
        return wallet


@pytest.fixture
def coalition(world: World) -> Coalition:
    return Coalition(world)


@pytest.fixture
def service(world: World, coalition: Coalition, tmp_path: Path) -> Iterator[Service]:
    with running(world, tmp_path) as service:
        yield service


ROLES = ("nobody", "alice", "carol", "dave", "star", "mile", "auditor", "operator")
ALL = frozenset({"auditor", "operator"})

# For each question, about alice or her entry of STAR: who is answered, and what the others hear.
QUESTIONS: dict[str, tuple[str, frozenset[str], str]] = {
    "account": ("{ account(id: $alice) { id } }", ALL | {"alice", "star"}, "null"),
    "balances": ("{ account(id: $alice) { balances { total } } }", ALL | {"alice", "star"}, "null"),
    "custodial account": ("{ account(id: $dave) { id } }", ALL | {"dave", "star"}, "null"),
    "accounts": ("{ accounts { nodes { id } } }", ALL | {"star", "mile"}, "FORBIDDEN"),
    "entry": ("{ entry(by: {seq: $moved}) { id } }", ALL | {"alice", "star"}, "null"),
    "statement": (
        '{ statement(account: $alice, asset: "STAR") { openingBalance } }',
        ALL | {"alice", "star"},
        "FORBIDDEN",
    ),
    "points of a member": (
        '{ pointsByMonth(asset: "STAR", account: $alice) { nodes { points } } }',
        ALL | {"alice", "star"},
        "FORBIDDEN",
    ),
    "totals": ('{ pointsTotals(asset: "STAR") { total { points } } }', ALL | {"star"}, "FORBIDDEN"),
}


@pytest.mark.parametrize("role", ROLES)
def test_read_rules(role: str, coalition: Coalition, service: Service) -> None:
    """A member its own, a merchant also its holders', auditors and the operator all, nobody what is public."""
    token = service.sign_in(coalition.wallet(role)) if role != "nobody" else None
    names = {"$alice": f'"{coalition.alice.account}"', "$dave": f'"{coalition.dave.account}"'}
    names["$moved"] = str(coalition.moved)
    heard = {}
    expected = {}
    for question, (document, answered, otherwise) in QUESTIONS.items():
        for name, value in names.items():
            document = document.replace(name, value)  # noqa: PLW2901
        answer = service.ask(document, token=token)
        expected[question] = "answer" if role in answered else otherwise if role != "nobody" else "UNAUTHENTICATED"
        heard[question] = (
            answer["errors"][0]["extensions"]["code"]
            if "errors" in answer
            else "null"
            if next(iter(answer["data"].values())) is None
            else "answer"
        )
    assert heard == expected


def ids(service: Service, document: str, token: str) -> set[Any]:
    (connection,) = service.query(document, token=token).values()
    return {node["id"] for node in connection["nodes"]}


def test_merchant_lists_its_holders(coalition: Coalition, service: Service) -> None:
    """Whoever held its asset, whom it has in custody, and itself."""
    token = service.sign_in(coalition.star)
    wallets = (coalition.alice, coalition.bob, coalition.dave, coalition.star)
    assert ids(service, "{ accounts { nodes { id } } }", token) == {wallet.account for wallet in wallets}


def test_merchant_sees_balances_in_its_own_assets(world: World, coalition: Coalition, service: Service) -> None:
    """A holder's points of other merchants are not its business."""
    world.grant(coalition.mile, "MILE", coalition.alice, 5)
    document = "query($id: ID!) { account(id: $id) { balances { asset total } } }"
    star = service.query(document, {"id": coalition.alice.account}, service.sign_in(coalition.star))
    assert star["account"]["balances"] == [{"asset": "STAR", "total": 90}]
    mile = service.query(document, {"id": coalition.alice.account}, service.sign_in(coalition.mile))
    assert mile["account"]["balances"] == [{"asset": "MILE", "total": 5}]
    one = 'query($id: ID!) { account(id: $id) { balances(asset: "MILE") { total } } }'
    hidden = service.query(one, {"id": coalition.alice.account}, service.sign_in(coalition.star))
    assert hidden["account"]["balances"] == []


@pytest.mark.parametrize("role", [role for role in ROLES if role != "nobody"])
def test_list_of_entries_is_what_can_be_seen_one_by_one(role: str, coalition: Coalition, service: Service) -> None:
    """The rule inside the list's SQL and the rule for one entry agree, with and without filters."""
    token = service.sign_in(coalition.wallet(role))
    size = service.query("{ ledger { size } }")["ledger"]["size"]
    everything = "{ entries(first: 100) { nodes { id } } }"
    one_by_one = service.query(
        "query($ids: [ID!]!) { nodes(ids: $ids) { id } }", {"ids": [f"ent_{seq}" for seq in range(size)]}, token
    )
    visible = {node["id"] for node in one_by_one["nodes"] if node is not None}
    assert ids(service, everything, token) == visible
    for wanted in (f'account: "{coalition.bob.account}"', 'asset: "STAR"', "kind: TRANSFER", "kind: GRANT"):
        filtered = ids(service, f"{{ entries(first: 100, filter: {{ {wanted} }}) {{ nodes {{ id }} }} }}", token)
        as_operator = ids(
            service,
            f"{{ entries(first: 100, filter: {{ {wanted} }}) {{ nodes {{ id }} }} }}",
            service.sign_in(coalition.operator),
        )
        assert filtered == as_operator & visible


def test_member_sees_the_entry_that_opened_its_account(coalition: Coalition, service: Service) -> None:
    """It has no posting and no actor, and is its own all the same."""
    token = service.sign_in(coalition.alice)
    opened = service.query("{ viewer { entryId } }", token=token)["viewer"]["entryId"]
    assert opened in ids(service, "{ entries { nodes { id } } }", token)
    assert len(ids(service, "{ entries { nodes { id } } }", token)) == 3


def test_nodes_of_nobody_are_public_ones(coalition: Coalition, service: Service) -> None:
    """Assets and programs; the rest is null, not an error, so that one page can ask for many."""
    asked = ["ast_STAR", "prg_STAR_1", "ent_0", coalition.alice.account]
    found = service.query("query($ids: [ID!]!) { nodes(ids: $ids) { id } }", {"ids": asked})["nodes"]
    assert found == [{"id": "ast_STAR"}, {"id": "prg_STAR_1"}, None, None]
    assert service.query("{ viewer { id } }") == {"viewer": None}


@pytest.mark.parametrize("role", ROLES)
def test_preview_does_not_tell_a_stranger_the_balance(role: str, coalition: Coalition, service: Service) -> None:
    """Anyone is given the bytes to sign; postings, balance and refusals only who may see the actor's points."""
    token = service.sign_in(coalition.wallet(role)) if role != "nobody" else None
    asked = {"actor": coalition.alice.account, "asset": "STAR", "at": "2026-03-02T12:00:00.000Z", "nonce": "A" * 22}
    for amount, code in ((1, None), (1000, "INSUFFICIENT_POINTS")):
        typed = typed_document({**asked, "recipients": [{"to": coalition.bob.account, "amount": amount}]})
        preview = service.query(
            "query($input: OperationPreviewInput!) { operationPreview(input: $input) "
            "{ document postings { amount } balance userErrors { code } } }",
            {"input": {"transfer": typed}},
            token,
        )["operationPreview"]
        assert preview["document"] is not None
        if role in ALL | {"alice", "star"}:
            assert [error["code"] for error in preview["userErrors"]] == ([code] if code else [])
            assert preview["balance"] == (None if code else 89)
        else:
            assert (preview["postings"], preview["balance"], preview["userErrors"]) == (None, None, [])
