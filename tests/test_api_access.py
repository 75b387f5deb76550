"""Who may read what: every query as every role."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ledger.keys import encode_public_key
from ledger.operations import CancelRecovery, Expire, OpenAccount, RecordPurchases, RecoverKeys, Redeem, Transfer
from ledger.program_terms import ExpiresAfterDays
from ledger.sequencer import account_opened_by
from ledger.terms import Purchase, Recipient
from ledger.wallet import Wallet
from tests.partners import net, trade
from tests.service import Service, running, typed_document
from tests.worlds import World, make_program, pay


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
        key, of_bob = world.make_key(), dict[str, Any](account=self.bob.account)
        recovery = world.operator.sign(RecoverKeys, co_signers=[key], keys=(encode_public_key(key),), **of_bob)
        begun, _ = world.record(recovery, world.operator.sign(CancelRecovery, **of_bob))
        self.recovered = begun.seq

    def wallet(self, name: str) -> Wallet:
        """A party by name."""
        wallet: Wallet = getattr(self, name)
        return wallet


@pytest.fixture(scope="module")
def read(shared_database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Coalition, Service]]:
    with World(shared_database_url) as world:
        coalition = Coalition(world)
        with running(world, tmp_path_factory.mktemp("coalition"), origin=world.origin) as service:
            yield coalition, service


@pytest.fixture
def coalition(read: tuple[Coalition, Service]) -> Coalition:
    """Read by the tests that ask for it; one that records needs its own."""
    return read[0]


@pytest.fixture
def service(read: tuple[Coalition, Service]) -> Service:
    return read[1]


ROLES = ("nobody", "alice", "bob", "carol", "dave", "star", "mile", "auditor", "operator")
ALL = frozenset({"auditor", "operator"})

# For each question, about alice or her entry of STAR: who is answered, and what the others hear.
QUESTIONS: dict[str, tuple[str, frozenset[str], str]] = {
    "account": ("{ account(id: $alice) { id } }", ALL | {"alice", "star"}, "null"),
    "balances": ("{ account(id: $alice) { balances { total } } }", ALL | {"alice", "star"}, "null"),
    "custodial account": ("{ account(id: $dave) { id } }", ALL | {"dave", "star"}, "null"),
    "accounts": ("{ accounts { nodes { id } } }", ALL | {"star", "mile"}, "FORBIDDEN"),
    "entry": ("{ entry(by: {seq: $moved}) { id } }", ALL | {"alice", "bob", "star"}, "null"),
    "recovery of another": ("{ entry(by: {seq: $recovered}) { id } }", ALL | {"bob"}, "null"),
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
    "totals of a member": (
        '{ pointsTotals(asset: "STAR", account: $alice) { total { points } } }',
        ALL | {"alice", "star"},
        "FORBIDDEN",
    ),
    "points of a member in custody": (
        '{ pointsByMonth(asset: "MILE", account: $dave) { nodes { points } } }',
        ALL | {"dave", "star", "mile"},
        "FORBIDDEN",
    ),
    "statement of a member in custody": (
        '{ statement(account: $dave, asset: "MILE") { openingBalance } }',
        ALL | {"dave", "star", "mile"},
        "FORBIDDEN",
    ),
}


@pytest.mark.parametrize("role", ROLES)
def test_read_rules(role: str, coalition: Coalition, service: Service) -> None:
    """A member its own, a merchant also its holders', auditors and the operator all, nobody what is public."""
    token = service.sign_in(coalition.wallet(role)) if role != "nobody" else None
    names = {"$alice": f'"{coalition.alice.account}"', "$dave": f'"{coalition.dave.account}"'}
    names |= {"$moved": str(coalition.moved), "$recovered": str(coalition.recovered)}
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


def test_merchant_sees_balances_in_its_own_assets(world: World, tmp_path: Path) -> None:
    """A holder's points of other merchants are not its business."""
    coalition = Coalition(world)
    world.grant(coalition.mile, "MILE", coalition.alice, 5)
    document = "query($id: ID!) { account(id: $id) { balances { asset total } } }"
    one = 'query($id: ID!) { account(id: $id) { balances(asset: "MILE") { total } } }'
    with running(world, tmp_path) as service:
        star = service.query(document, {"id": coalition.alice.account}, service.sign_in(coalition.star))
        mile = service.query(document, {"id": coalition.alice.account}, service.sign_in(coalition.mile))
        hidden = service.query(one, {"id": coalition.alice.account}, service.sign_in(coalition.star))
    assert star["account"]["balances"] == [{"asset": "STAR", "total": 90}]
    assert mile["account"]["balances"] == [{"asset": "MILE", "total": 5}]
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


# Who is told which legs of an entry; `None` for all of it: document, signatures and every leg. Others see none of it.
SHARED: dict[str, dict[str, set[str] | None]] = {
    "purchases": {"alice": {"alice"}, "bob": {"bob"}, "carol": set(), "dave": {"dave"}, "star": None},
    "purchase": {"alice": None, "star": None},
    "transfer to one": {"alice": None, "bob": None, "star": None},
    "transfer to several": {"alice": None, "bob": {"bob"}, "dave": {"dave"}, "star": None},
    "expiry": {"alice": {"alice"}, "bob": {"bob"}, "dave": {"dave"}, "star": None},
    "custody": {"dave": None, "star": None, "mile": None},
}


def shared_entries(world: World, coalition: Coalition) -> dict[str, int]:
    """Entries that hold the business of several; carol's purchase in the first earns nothing."""
    star, mile, (alice, bob, carol, dave) = coalition.star, coalition.mile, map(coalition.wallet, _MEMBERS)
    world.add_asset(star, "NOVA", make_program(expiry=ExpiresAfterDays(count=30)))

    def buy(*buyers: tuple[Wallet, int]) -> int:
        bought = tuple(
            Purchase(amount=amount, at="2026-03-01T10:00:00.000Z", member=str(buyer.account), order=f"{i}-{amount}")
            for i, (buyer, amount) in enumerate(buyers)
        )
        return world.record(star.sign(RecordPurchases, asset="NOVA", currency="USD", purchases=bought))[0].seq

    def send(*to: Wallet) -> int:
        recipients = tuple(Recipient(amount=1, to=str(wallet.account)) for wallet in to)
        return world.record(alice.sign(Transfer, asset="NOVA", recipients=recipients))[0].seq

    found = {"purchases": buy((alice, 900), (bob, 800), (carol, 50), (dave, 700)), "purchase": buy((alice, 200))}
    found |= {"transfer to one": send(bob), "transfer to several": send(bob, dave)}
    found["custody"] = world.grant(mile, "MILE", dave, 5).seq
    world.clock.advance(days=40)
    expiry = world.operator.sign(Expire, asset="NOVA", limit=400, through="2026-04-01")
    return {**found, "expiry": world.record(expiry)[0].seq}


_MEMBERS = ("alice", "bob", "carol", "dave")


@pytest.fixture(scope="module")
def shared(
    shared_database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Coalition, Service, dict[str, int]]]:
    """Another coalition, its service, and the entries that hold the business of several."""
    with World(shared_database_url, origin="ledger.example/shared") as world:
        coalition = Coalition(world)
        seqs = shared_entries(world, coalition)
        with running(world, tmp_path_factory.mktemp("shared"), origin=world.origin) as service:
            yield coalition, service, seqs


@pytest.mark.parametrize("role", [*_MEMBERS, "star", "mile", "auditor", "operator"])
def test_entry_of_many_is_told_to_each_in_part(role: str, shared: tuple[Coalition, Service, dict[str, int]]) -> None:
    """What others bought, were sent or lost is not in the legs, nor in the bytes, one by one and in the list."""
    coalition, service, seqs = shared
    token = service.sign_in(coalition.wallet(role))
    fields = "seq actorId document signatures { key } postings { accountId }"
    listed = service.query(f"{{ entries(last: 100) {{ nodes {{ {fields} }} }} }}", token=token)["entries"]["nodes"]
    by_seq = {node["seq"]: node for node in listed}
    names = {str(coalition.wallet(name).account): name for name in _MEMBERS}
    for name, told in SHARED.items():
        entry = service.query(f"{{ entry(by: {{seq: {seqs[name]}}}) {{ {fields} }} }}", token=token)["entry"]
        if role not in {*told, *ALL}:
            assert entry is None, name
            continue
        legs = told.get(role)
        assert (entry["document"] is None) == (entry["signatures"] is None) == (legs is not None), name
        if legs is not None:
            assert {names[leg["accountId"]] for leg in entry["postings"]} == legs, name
            others = {account for account, other in names.items() if other not in {role, "alice"}}
            assert not any(account in str(entry) for account in others), name
        else:
            assert sum(leg["accountId"].startswith("sys_") for leg in entry["postings"]) == ("transfer" not in name)
        if not (name == "custody" and role == "star"):
            assert by_seq[seqs[name]] == entry, name
    custody = f'{{ entries(filter: {{account: "{coalition.dave.account}"}}, last: 100) {{ nodes {{ seq }} }} }}'
    if role in {"dave", "star", *ALL}:
        found = [node["seq"] for node in service.query(custody, token=token)["entries"]["nodes"]]
        assert seqs["custody"] in found


def test_filter_does_not_tell_who_else_is_in_an_entry(shared: tuple[Coalition, Service, dict[str, int]]) -> None:
    """Alice's purchases were recorded together with bob's: asking for bob's finds only what the two did together."""
    coalition, service, seqs = shared
    document = "query($id: ID!) { entries(filter: {account: $id}, last: 100) { nodes { seq } } }"
    token = service.sign_in(coalition.alice)
    found = service.query(document, {"id": coalition.bob.account}, token)["entries"]["nodes"]
    assert [node["seq"] for node in found] == [
        coalition.moved,
        seqs["transfer to one"],
        seqs["transfer to several"],
    ]


def test_purchase_that_earned_nothing_is_in_the_list(shared: tuple[Coalition, Service, dict[str, int]]) -> None:
    """It has no posting, and is its member's all the same."""
    coalition, service, seqs = shared
    token = service.sign_in(coalition.carol)
    listed = ids(service, "{ entries(last: 100) { nodes { id } } }", token)
    assert f"ent_{seqs['purchases']}" in listed
    entry = service.query(
        f"{{ entry(by: {{seq: {seqs['purchases']}}}) {{ kind postings {{ amount }} }} }}", token=token
    )
    assert entry["entry"] == {"kind": "RECORD_PURCHASES", "postings": []}


def test_totals_without_an_account_are_a_members_own(coalition: Coalition, service: Service) -> None:
    """All members' for the issuer; FORBIDDEN for another merchant."""
    document = '{ pointsTotals(asset: "STAR") { total { points members } } }'
    assert service.query(document, token=service.sign_in(coalition.alice))["pointsTotals"]["total"]["points"] == 100
    assert service.query(document, token=service.sign_in(coalition.bob))["pointsTotals"]["total"]["points"] == 0
    star = service.query(document, token=service.sign_in(coalition.star))["pointsTotals"]["total"]
    assert star == {"points": 100, "members": 1}
    assert service.error_code(document, token=service.sign_in(coalition.mile)) == "FORBIDDEN"


@pytest.mark.parametrize("role", ROLES)
def test_preview_of_an_opening_tells_a_stranger_nothing(role: str, coalition: Coalition, service: Service) -> None:
    """Whether the voucher exists, and what it is, is told to itself, auditors and the operator."""
    token = service.sign_in(coalition.wallet(role)) if role != "nobody" else None
    document = (
        "query($input: OperationPreviewInput!) { operationPreview(input: $input) { operationId userErrors { code } } }"
    )
    for actor in (coalition.alice.account, "mem_" + "a" * 26):
        asked = {"account": {"actor": actor, "role": "MEMBER"}}
        preview = service.query(document, {"input": asked}, token)["operationPreview"]
        told = role in ALL or (role == "alice" and actor == coalition.alice.account)
        assert bool(preview["userErrors"]) == told
        assert preview["operationId"] is not None


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


# Of what partners do with each other, who is told which legs; `None` for all of the entry. Others see none of it.
PARTNERED: dict[str, dict[str, set[str] | None]] = {
    "agree": {"mint": None, "bakery": None},
    "agree_earning": {"mint": None, "bakery": None},
    "end_agreement": {"mint": None, "bakery": None},
    "allot": {"mint": None, "bakery": None},
    "coin_transfer": {"mint": None, "ann": None, "ben": {"ben"}},
    "exchange": {"mint": None, "bakery": None, "ann": None},
    "redeem_kept": {"mint": None, "bakery": None, "ann": None},
    "hold": {"mint": None, "bakery": None, "ann": None},
    "capture": {"mint": None, "bakery": None, "ann": set()},
    "refund": {"mint": None, "bakery": None, "ann": {"ann"}},
    "alert": {"mint": None, "bakery": None, "ann": None},
    "correct": {"mint": None, "ann": None},
    "dispute": {"mint": None, "bakery": None},
    "net": {"mint": None, "bakery": None},
    "net of three": {"mint": set(), "bakery": set(), "grocer": set()},
    "settle": {"mint": None, "bakery": None},
    "freeze": {"ben": None},
}


@pytest.fixture(scope="module")
def partners(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, dict[str, int], dict[str, Wallet]]]:
    """A service, entries by name, and those who had a part in them; the grocer in a netting alone."""
    folder = tmp_path_factory.mktemp("partners")
    with World(f"sqlite:///{folder / 'ledger.sqlite'}") as world:
        names = trade(world)
        roles = ("mint", "bakery", "ann", "ben")
        wallets = {role: world.wallet(names[role], *names[f"{role}_keys"]) for role in roles}
        wallets |= {"grocer": world.add_merchant("Grocer"), "operator": world.operator}
        world.record(wallets["ann"].sign(Redeem, amount=3, asset="COIN", merchant=wallets["bakery"].account))
        merchants = [wallets[role] for role in ("mint", "bakery", "grocer")]
        (netted,) = world.record(net(world, *merchants))
        with running(world, folder) as service:
            yield service, names | {"net of three": netted.seq}, wallets


@pytest.mark.parametrize("role", ["mint", "bakery", "grocer", "ann", "ben", "operator"])
def test_partners_are_told_what_they_have_with_each_other(role: str, partners: Any) -> None:
    """Merchants whole entries between few, members their part, one by one and in the list; strangers nothing."""
    service, seqs, wallets = partners
    token = service.sign_in(wallets[role])
    fields = "seq document signatures { key } postings { accountId }"
    listed = service.query(f"{{ entries(first: 100) {{ nodes {{ {fields} }} }} }}", token=token)["entries"]["nodes"]
    by_seq = {node["seq"]: node for node in listed}
    accounts = {str(wallet.account): name for name, wallet in wallets.items()}
    for name, told in PARTNERED.items():
        entry = service.query(f"{{ entry(by: {{seq: {seqs[name]}}}) {{ {fields} }} }}", token=token)["entry"]
        assert by_seq.get(seqs[name]) == entry, name
        if role != "operator" and role not in told:
            assert entry is None, name
            continue
        legs = told.get(role)
        assert (entry["document"] is None) == (entry["signatures"] is None) == (legs is not None), name
        if legs is not None:
            assert {accounts[leg["accountId"]] for leg in entry["postings"]} == legs, name
        receipt = service.query(f"{{ receipt(seq: {seqs[name]}) }}", token=token)["receipt"]
        assert (receipt is None) == (legs is not None), name


def test_merchant_finds_a_customer_of_a_partner_by_the_filter(partners: Any) -> None:
    """What Ann did at the bakery, and it for her; not what she did at the mint."""
    service, seqs, wallets = partners
    token = service.sign_in(wallets["bakery"])
    document = "query($id: ID!) { entries(filter: {account: $id}, first: 100) { nodes { seq } } }"
    answer = service.query(document, {"id": wallets["ann"].account}, token)
    found = {node["seq"] for node in answer["entries"]["nodes"]}
    assert {seqs[name] for name in ("exchange", "redeem_kept", "hold", "capture", "refund", "alert")} <= found
    assert not {seqs[name] for name in ("coin_purchase", "coin_transfer", "correct", "lapse")} & found


def test_entries_with_money_are_found_by_its_currency(partners: Any) -> None:
    """A settlement currency is no asset, and yet what is posted in it can be asked for."""
    service, seqs, wallets = partners
    document = '{ entries(filter: {asset: "USD"}, first: 100) { nodes { seq } } asset(code: "USD") { code } }'
    for role, some in (("operator", {"exchange", "settle"}), ("mint", {"exchange", "settle"}), ("ann", {"exchange"})):
        answer = service.query(document, token=service.sign_in(wallets[role]))
        found = {node["seq"] for node in answer["entries"]["nodes"]}
        assert {seqs[name] for name in some} <= found
        assert not {seqs[name] for name in ("agree", "hold", "freeze")} & found
        assert answer["asset"] is None
