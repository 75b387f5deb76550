"""Partner merchants over GraphQL: what is public, what is told to whom, and that it is what the ledger then does."""

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from ledger.encoding import format_time
from ledger.keys import encode_public_key
from ledger.operations import Exchange, Hold, OpenAccount, Redeem
from ledger.sequencer import Recorded, account_opened_by
from ledger.terms import Bonus, ExchangeTerms, Rate
from ledger.wallet import Wallet
from tests.partners import HOLD_MS, agree, trade
from tests.service import Service, running
from tests.worlds import World


class Coalition:
    """A mint and a bakery that did everything partners can, with Ann; a grocer and Carol who had no part in it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.names = trade(world)
        self.mint, self.bakery, self.ann = (
            world.wallet(self.names[name], *self.names[f"{name}_keys"]) for name in ("mint", "bakery", "ann")
        )
        self.grocer, self.operator = world.add_merchant("Grocer"), world.operator
        world.add_asset(self.grocer, "LEAF")
        self.carol = world.add_member()
        world.grant(self.grocer, "LEAF", self.carol, 10)
        key = world.make_key()
        opening = world.operator.sign(
            OpenAccount, co_signers=[key], role="auditor", name="Auditor", keys=(encode_public_key(key),)
        )
        self.auditor = world.wallet(account_opened_by(world.record(opening)[0]), key)
        self._agree(self.mint, self.grocer, asset="COIN", into="LEAF", rate=Rate(get=1, give=10), minimum=100)
        self._agree(self.bakery, self.grocer, asset="BEAN", into="LEAF", rate=Rate(get=3, give=1))
        fields: dict[str, Any] = {"asset": "COIN", "merchant": self.bakery.account}
        until = format_time(world.clock.now_ms + HOLD_MS)
        world.record(self.ann.sign(Redeem, amount=7, **fields), self.ann.sign(Hold, amount=5, until=until, **fields))

    def _agree(self, issuer: Wallet, partner: Wallet, **fields: Any) -> None:
        terms = ExchangeTerms(received="retired", **fields)
        self.world.record(agree(self.world, issuer, partner, terms=terms))

    def wallet(self, name: str) -> Wallet:
        wallet: Wallet = getattr(self, name)
        return wallet


@pytest.fixture(scope="module")
def coalition(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Coalition]:
    """Read by all tests of this file; none takes back what another one reads."""
    with World(f"sqlite:///{tmp_path_factory.mktemp('partners') / 'ledger.sqlite'}") as world:
        yield Coalition(world)


@pytest.fixture(scope="module")
def service(coalition: Coalition, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(coalition.world, tmp_path_factory.mktemp("service")) as service:
        yield service


@pytest.fixture(scope="module")
def tokens(coalition: Coalition, service: Service) -> dict[str, str | None]:
    """A session of everybody."""
    return {"nobody": None} | {name: service.sign_in(coalition.wallet(name)) for name in ROLES[1:]}


ROLES = ("nobody", "ann", "carol", "mint", "bakery", "grocer", "auditor", "operator")
ALL = frozenset({"auditor", "operator"})
PARTNERS = ALL | {"mint", "bakery"}

# For each question about what the mint, the bakery and Ann have with each other: who is answered, and what others hear.
QUESTIONS: dict[str, tuple[str, frozenset[str], str]] = {
    "hold": ("{ hold(id: $held) { id } }", PARTNERS | {"ann"}, "null"),
    "hold as a node": ("{ node(id: $held) { id } }", PARTNERS | {"ann"}, "null"),
    "holds of a member": ("{ holds(account: $ann) { nodes { id } } }", PARTNERS | {"ann"}, "empty"),
    "holds for a merchant": ("{ holds(merchant: $bakery) { nodes { id } } }", PARTNERS | {"ann"}, "empty"),
    "claim": ("{ claim(id: $claim) { id } }", PARTNERS, "null"),
    "claim as a node": ("{ node(id: $claim) { id } }", PARTNERS, "null"),
    "claims": ("{ claims(account: $bakery) { nodes { id } } }", ALL | {"bakery"}, "FORBIDDEN"),
    "claims of a member": ("{ claims(account: $ann) { nodes { id } } }", ALL | {"ann"}, "FORBIDDEN"),
    "obligations": ("{ obligations(account: $mint) { nodes { amount } } }", ALL | {"mint"}, "FORBIDDEN"),
    "proposal": (
        '{ nettingProposal(currency: "USD", merchants: [$mint, $bakery], through: "2026-12-31") { through } }',
        PARTNERS,
        "FORBIDDEN",
    ),
    "proposal between all": (
        '{ nettingProposal(currency: "USD", through: "2026-12-31") { through } }',
        ALL,
        "FORBIDDEN",
    ),
    "nettings": ("{ nettings { nodes { seq } } }", PARTNERS, "empty"),
    "allotments": ('{ allotments(asset: "COIN") { nodes { remaining } } }', PARTNERS, "empty"),
    "refundable purchase": (
        '{ refundable(by: {order: "b-1"}, merchant: $bakery) { points } }',
        PARTNERS | {"ann"},
        "null",
    ),
    "refundable redemption": ("{ refundable(by: {operationId: $spent}) { points } }", PARTNERS | {"ann"}, "null"),
    "positions": ("{ account(id: $ann) { claims { net } } }", ALL | {"ann"}, "null"),
    "quote by what an account has": (
        '{ exchangeQuote(account: $ann, asset: "COIN", into: "BEAN", amount: 20) { out } }',
        ALL | {"ann"},
        "FORBIDDEN",
    ),
}


def heard(answer: Any) -> str:
    """What an answer comes to: its error, null, an empty page, or something."""
    if "errors" in answer:
        return str(answer["errors"][0]["extensions"]["code"])
    (found,) = answer["data"].values()
    if found is not None and "claims" in found:
        found = found["claims"]
    if isinstance(found, dict) and found.get("nodes") == []:
        return "empty"
    return "null" if found is None else "answer"


@pytest.mark.parametrize("role", ROLES)
def test_read_rules(role: str, coalition: Coalition, service: Service, tokens: dict[str, str | None]) -> None:
    """The holder, the merchants concerned, auditors and the operator; the others hear nothing of it."""
    names = {f"${name}": f'"{coalition.names[name]}"' for name in ("ann", "mint", "bakery", "held", "spent")}
    names["$claim"] = f'"clm_{coalition.names["exchange"]}_0"'
    told, expected = {}, {}
    for question, (document, answered, otherwise) in QUESTIONS.items():
        for name, value in names.items():
            document = document.replace(name, value)  # noqa: PLW2901
        told[question] = heard(service.ask(document, token=tokens[role]))
        nothing = otherwise
        if role == "nobody":
            nothing = "null" if question.endswith("node") else "UNAUTHENTICATED"
        expected[question] = "answer" if role in answered else nothing
    if role in {"mint", "bakery"}:  # an account that holds the mint's points is seen by it, but not what it owes
        assert told.pop("positions") == "null"
        expected.pop("positions")
    assert told == expected


# Agreements

TERMS = """
    terms {
      asset claim { amount currency debtorId points round } totalCap { period points }
      ... on ExchangeTerms {
        into rate { get give } bonus { block points } fee { amount points keptById maximum } holderCap { points }
        minimum maximum step offStep received
      }
      ... on AcceptanceTerms { minimum maximum step received holderCap { period points } }
      ... on EarningTerms { billing alertBelow }
    }
"""


@pytest.mark.parametrize("role", ROLES)
def test_terms_are_public_but_for_what_merchants_owe(
    role: str, coalition: Coalition, service: Service, tokens: dict[str, str | None]
) -> None:
    """Rates, bounds, fees and dates for all; the claim, the billing and the alert for the two of them."""
    names = [f"COIN>{'BEAN'}", f"COIN@{coalition.names['bakery']}", f"COIN+{coalition.names['bakery']}"]
    document = f"query($name: String!) {{ agreement(name: $name) {{ issuerId partnerId type status {TERMS} }} }}"
    exchange, acceptance, earning = (
        service.query(document, {"name": name}, tokens[role])["agreement"] for name in names
    )
    assert {each["issuerId"] for each in (exchange, acceptance, earning)} == {coalition.names["mint"]}
    assert [each["type"] for each in (exchange, acceptance, earning)] == ["EXCHANGE", "ACCEPTANCE", "EARNING"]
    assert exchange["terms"]["rate"] == {"get": 1, "give": 2}
    assert exchange["terms"]["fee"] == {
        "amount": 1,
        "points": 100,
        "keptById": coalition.names["bakery"],
        "maximum": None,
    }
    assert (exchange["terms"]["received"], exchange["terms"]["offStep"], exchange["terms"]["step"]) == (
        "RETIRED",
        "REFUSE",
        1,
    )
    assert acceptance["terms"]["holderCap"] == {"period": "DAY", "points": 900}
    claims = [each["terms"]["claim"] for each in (exchange, acceptance, earning)]
    if role in PARTNERS:
        assert claims[0] == {
            "amount": 1,
            "currency": "USD",
            "debtorId": coalition.names["mint"],
            "points": 1,
            "round": "HALF_UP",
        }
        assert (earning["terms"]["billing"], earning["terms"]["alertBelow"]) == ("PREPAID", 50)
        assert None not in claims
    else:
        assert claims == [None, None, None]
        assert (earning["terms"]["billing"], earning["terms"]["alertBelow"]) == (None, None)


def test_agreements_are_a_list_with_filters(coalition: Coalition, service: Service) -> None:
    """By asset, by what is received, by party, by type, by time."""
    bakery = coalition.names["bakery"]

    def names(wanted: str) -> list[str]:
        found = service.query(f"{{ agreements({wanted}) {{ nodes {{ name }} }} }}")
        return [node["name"] for node in found["agreements"]["nodes"]]

    assert names('asset: "COIN"') == [f"COIN+{bakery}", "COIN>BEAN", "COIN>LEAF", f"COIN@{bakery}"]
    assert names('into: "LEAF"') == ["BEAN>LEAF", "COIN>LEAF"]
    assert names(f'party: "{bakery}", type: EXCHANGE') == ["BEAN>LEAF", "COIN>BEAN"]
    assert names(f'partner: "{bakery}", activeOnly: true, first: 2') == [f"COIN+{bakery}", "COIN>BEAN"]
    assert names('asset: "COIN", at: "2020-01-01T00:00:00.000Z"') == []
    both = '{ agreements(at: "2020-01-01T00:00:00.000Z", activeOnly: true) { nodes { name } } }'
    assert service.error_code(both) == "BAD_USER_INPUT"


def test_agreement_says_how_it_stands(coalition: Coalition, service: Service) -> None:
    """In force with a notice; superseded, upcoming and ended are told apart, and the end a notice would bring."""
    document = "query($n: String!) { agreement(name: $n, version: 1) { id status ends endsBy noticeDays version } }"
    ended = service.query(document, {"n": f"COIN+{coalition.names['bakery']}"})["agreement"]
    assert ended["status"] == "IN_FORCE"
    assert ended["endsBy"] <= ended["ends"]
    node = service.query("query($id: ID!) { node(id: $id) { id ... on Agreement { version } } }", {"id": ended["id"]})
    assert node["node"] == {"id": ended["id"], "version": 1}
    assert service.query('{ agreement(name: "STAR>MILE") { id } }')["agreement"] is None
    assert service.query('{ agreement(name: "not a name") { id } }')["agreement"] is None


def test_directory_names_the_merchants_to_everybody(service: Service) -> None:
    """Their names are public: a wallet tells through whom points go without being allowed to see accounts."""
    document = """
      {
        agreements(asset: "COIN") { nodes { issuerName partnerName } }
        assets(first: 9) { nodes { code issuerName } }
      }
    """
    found = service.query(document)
    pairs = {(each["issuerName"], each["partnerName"]) for each in found["agreements"]["nodes"]}
    assert pairs == {("Mint", "Bakery"), ("Mint", "Grocer")}
    names = {"BEAN": "Bakery", "COIN": "Mint", "LEAF": "Grocer"}
    assert {each["code"]: each["issuerName"] for each in found["assets"]["nodes"]} == names


def test_later_version_supersedes_and_an_end_comes(world: World, tmp_path: Any) -> None:
    """A version that has not started is upcoming; the one before it counts until then."""
    one, other = world.add_merchant("One"), world.add_merchant("Other")
    world.add_asset(one, "STAR")
    world.add_asset(other, "MILE")
    first = ExchangeTerms(asset="STAR", into="MILE", rate=Rate(get=1, give=1), received="retired")
    second = ExchangeTerms(asset="STAR", into="MILE", rate=Rate(get=1, give=2), received="retired")
    later = format_time(world.clock.now_ms + 86_400_000)
    end = format_time(world.clock.now_ms + 2 * 86_400_000)
    world.record(
        agree(world, one, other, terms=first), agree(world, one, other, 2, terms=second, starts=later, ends=end)
    )
    document = """
      {
        agreements(asset: "STAR") { nodes { version status } }
        exchangeQuote(asset: "STAR", into: "MILE", amount: 4) { out validUntil }
      }
    """
    with running(world, tmp_path) as service:
        before = service.query(document)
        assert [node["status"] for node in before["agreements"]["nodes"]] == ["IN_FORCE", "UPCOMING"]
        assert before["exchangeQuote"] == {"out": 4, "validUntil": later}
        world.clock.advance(days=1)
        during = service.query(document)
        assert [node["status"] for node in during["agreements"]["nodes"]] == ["SUPERSEDED", "IN_FORCE"]
        assert during["exchangeQuote"] == {"out": 2, "validUntil": end}
        world.clock.advance(days=1)
        after = service.query(document)
        assert [node["status"] for node in after["agreements"]["nodes"]] == ["SUPERSEDED", "ENDED"]
        assert after["exchangeQuote"]["out"] is None


# What points become


def test_best_path_may_have_several_hops(service: Service) -> None:
    """COIN becomes LEAF at 1 for 10 directly, and at 3 for 2 by way of BEAN."""
    document = """
      query($into: String) {
        exchangePaths(asset: "COIN", into: $into, amount: 200) {
          complete paths { into out rate { get give } hops { agreement amount given out feeAmount feeCurrency } }
        }
      }
    """
    to_leaf = service.query(document, {"into": "LEAF"})["exchangePaths"]
    best, direct = to_leaf["paths"]
    assert to_leaf["complete"]
    assert (best["out"], best["rate"]) == (300, {"get": 3, "give": 2})
    assert [(hop["agreement"], hop["amount"], hop["out"]) for hop in best["hops"]] == [
        ("COIN>BEAN", 200, 100),
        ("BEAN>LEAF", 100, 300),
    ]
    assert [(hop["feeAmount"], hop["feeCurrency"]) for hop in best["hops"]] == [(2, "USD"), (0, None)]
    assert (direct["out"], direct["rate"]) == (20, {"get": 1, "give": 10})
    everything = service.query(document)["exchangePaths"]["paths"]
    assert [(path["into"], path["out"]) for path in everything] == [("BEAN", 100), ("LEAF", 300)]
    one_hop = '{ exchangePaths(asset: "COIN", amount: 200, maxHops: 1) { paths { out } } }'
    assert service.query(one_hop)["exchangePaths"]["paths"] == [{"out": 100}, {"out": 20}]
    cut = '{ exchangePaths(asset: "COIN", amount: 200, first: 1) { complete paths { out } } }'
    assert service.query(cut)["exchangePaths"] == {"complete": False, "paths": [{"out": 100}]}


@pytest.mark.parametrize(
    "wrong", ["amount: 0", "amount: 1, maxHops: 6", "amount: 1, maxHops: 0", "amount: 1, first: 101"]
)
def test_path_that_cannot_be_asked_for_is_refused(wrong: str, service: Service) -> None:
    """Before anything is read."""
    assert service.error_code(f'{{ exchangePaths(asset: "COIN", {wrong}) {{ complete }} }}') == "BAD_USER_INPUT"


QUOTE = """
  query($account: ID, $amount: Points!) {
    exchangeQuote(account: $account, asset: "COIN", into: "BEAN", amount: $amount) {
      agreement agreementVersion given out rate { get give } feeAmount feeCurrency minimumOut maximumFee
      lots { lastDay points isSpendable } validUntil
      userErrors {
        code path message
        ... on InsufficientPointsError { requiredPoints availablePoints }
        ... on CapExceededError { capPoints usedPoints period }
      }
    }
  }
"""


def test_quote_is_what_the_exchange_then_does(database_url: str, tmp_path: Any) -> None:
    """To the point and the cent, with the limits to sign; a step rounds down, a bonus is paid for whole blocks."""
    with World(database_url) as world, running(world, tmp_path) as service:
        shop, bank = world.add_merchant("Shop"), world.add_merchant("Bank")
        world.add_asset(shop, "COIN")
        world.add_asset(bank, "BEAN")
        member = world.add_member()
        world.grant(shop, "COIN", member, 70_000)
        terms = ExchangeTerms(
            asset="COIN",
            bonus=Bonus(block=60_000, points=5_000),
            into="BEAN",
            minimum=3_000,
            off_step="down",
            rate=Rate(get=1, give=3),
            received="retired",
            step=3_000,
        )
        world.record(agree(world, shop, bank, terms=terms))
        token = service.sign_in(member)
        quoted = service.query(QUOTE, {"amount": 60_999}, token)["exchangeQuote"]
        assert (quoted["given"], quoted["out"], quoted["rate"]) == (60_000, 25_000, {"get": 5, "give": 12})
        assert (quoted["feeAmount"], quoted["maximumFee"], quoted["userErrors"]) == (0, None, [])
        assert quoted["lots"] == [{"lastDay": None, "points": 60_000, "isSpendable": True}]
        refused, done = world.submit(
            *(
                member.sign(Exchange, asset="COIN", amount=60_999, into="BEAN", minimum_out=quoted["minimumOut"] + more)
                for more in (1, 0)
            )
        )
        assert not isinstance(refused, Recorded)
        assert isinstance(done, Recorded)
        with world.store.read() as connection:
            legs = connection.execute(sa.text("SELECT amount FROM posting WHERE seq = :seq"), {"seq": done.seq})
            assert sorted(legs.scalars()) == [-60_000, -25_000, 25_000, 60_000]
        short = service.query(QUOTE, {"amount": 12_000}, token)["exchangeQuote"]
        (error,) = short["userErrors"]
        assert (error["code"], error["requiredPoints"], error["availablePoints"]) == (
            "INSUFFICIENT_POINTS",
            12_000,
            10_000,
        )
        assert short["out"] == 4_000
        assert short["lots"] is None
        small = service.query(QUOTE, {"amount": 2_999}, token)["exchangeQuote"]
        assert [error["code"] for error in small["userErrors"]] == ["BELOW_MINIMUM"]


def test_quote_without_a_session_is_by_the_terms_alone(service: Service) -> None:
    """No lots, and no refusal for points that nobody is said to have; the fee is part of it."""
    quoted = service.query(QUOTE, {"amount": 1_000})["exchangeQuote"]
    assert (quoted["out"], quoted["feeAmount"], quoted["feeCurrency"], quoted["maximumFee"]) == (500, 10, "USD", 10)
    assert quoted["lots"] is None
    assert quoted["userErrors"] == []


def test_quote_counts_what_the_holder_has_used_of_its_cap(service: Service, tokens: dict[str, str | None]) -> None:
    """Ann has used 100 of 10,000 points this month; Carol none, but she has no points."""
    (error,) = service.query(QUOTE, {"amount": 9_901}, tokens["ann"])["exchangeQuote"]["userErrors"]
    assert (error["code"], error["capPoints"], error["usedPoints"]) == ("CAP_EXCEEDED", 10_000, 100)
    assert error["path"] == ["amount"]
    (error,) = service.query(QUOTE, {"amount": 9_901}, tokens["carol"])["exchangeQuote"]["userErrors"]
    assert error["code"] == "INSUFFICIENT_POINTS"


@pytest.mark.parametrize(
    ("asset", "into", "code", "path"),
    [
        ("NONE", "BEAN", "UNKNOWN_ASSET", "asset"),
        ("COIN", "NONE", "UNKNOWN_ASSET", "into"),
        ("LEAF", "COIN", "NO_AGREEMENT", "into"),
    ],
)
def test_quote_tells_what_is_missing(asset: str, into: str, code: str, path: str, service: Service) -> None:
    """The asset, or an agreement about it."""
    document = f'{{ exchangeQuote(asset: "{asset}", into: "{into}", amount: 5) {{ out userErrors {{ code path }} }} }}'
    assert service.query(document)["exchangeQuote"] == {"out": None, "userErrors": [{"code": code, "path": [path]}]}


# Holds and balances


def test_hold_is_told_with_what_is_left_of_it(coalition: Coalition, service: Service, tokens: dict[str, Any]) -> None:
    """Captured, lapsed with its rest returned, and open; by status, from the account and from the merchant."""
    fields = (
        "id amount captured remaining status merchantId agreement agreementVersion lots { points } reference entryId"
    )
    document = f"""
      query($s: HoldStatus) {{
        holds(status: $s) {{ nodes {{ {fields} }} }}
        viewer {{ holds(status: $s) {{ nodes {{ id }} }} }}
      }}
    """
    found = service.query(document, token=tokens["ann"])
    holds = found["holds"]["nodes"]
    assert [(hold["amount"], hold["captured"], hold["status"]) for hold in holds] == [
        (40, 15, "LAPSED"),
        (30, 5, "CAPTURED"),
        (20, 0, "RELEASED"),
        (10, 0, "LAPSED"),
        (5, 0, "OPEN"),
    ]
    assert [hold["remaining"] for hold in holds] == [0, 0, 0, 0, 5]
    assert holds[-1]["lots"] == [{"points": 5}]
    assert holds[0]["reference"] == "room"
    assert holds[0]["agreement"] == f"COIN@{coalition.names['bakery']}"
    assert holds[0]["entryId"] == f"ent_{coalition.names['hold']}"
    assert [node["id"] for node in found["viewer"]["holds"]["nodes"]] == [hold["id"] for hold in holds]
    open_ones = service.query(document, {"s": "OPEN"}, tokens["bakery"])
    assert [hold["amount"] for hold in open_ones["holds"]["nodes"]] == [5]
    assert open_ones["viewer"]["holds"]["nodes"] == []
    assert service.error_code("{ holds { nodes { id } } }", token=tokens["operator"]) == "BAD_USER_INPUT"


def test_balance_tells_points_on_hold_and_a_debt(
    coalition: Coalition, service: Service, tokens: dict[str, Any]
) -> None:
    """Points on hold are in no lot; money is no balance."""
    balances, claims = "asset total spendable held debt lots { points }", "currency owed owes net balance"
    document = f"{{ viewer {{ balances {{ {balances} }} claims {{ {claims} }} }} }}"
    viewer = service.query(document, token=tokens["ann"])["viewer"]
    coin, bean = sorted(viewer["balances"], key=lambda balance: balance["asset"], reverse=True)
    assert {coin["asset"], bean["asset"]} == {"COIN", "BEAN"}
    assert (coin["held"], coin["debt"]) == (5, 0)
    assert coin["total"] == sum(lot["points"] for lot in coin["lots"]) == coin["spendable"]
    (owed,) = viewer["claims"]
    assert (owed["currency"], owed["owed"]) == ("USD", 1)
    assert owed["net"] == 1 - owed["owes"] == owed["balance"] < 0


def test_holds_of_an_account_are_those_that_concern_the_viewer(
    coalition: Coalition, service: Service, tokens: dict[str, Any]
) -> None:
    """All to the points' issuer, to the merchant they are for, and to who sees everything."""
    document = "query($id: ID!) { account(id: $id) { holds { nodes { merchantId } } claims { net } } }"
    for role, count in (("mint", 5), ("bakery", 5), ("operator", 5)):
        account = service.query(document, {"id": coalition.names["ann"]}, tokens[role])["account"]
        assert len(account["holds"]["nodes"]) == count
        assert (account["claims"] is None) == (role != "operator")
    hold = service.query("{ holds(first: 1) { nodes { id status } } }", token=tokens["ann"])["holds"]["nodes"]
    by_id = "query($id: ID!) { node(id: $id) { ... on Hold { status } } }"
    node = service.query(by_id, {"id": hold[0]["id"]}, tokens["mint"])
    assert node["node"] == {"status": hold[0]["status"]}


# Claims and clearing


def test_claims_tell_their_story(coalition: Coalition, service: Service, tokens: dict[str, Any]) -> None:
    """One stands and was netted, one was cancelled, one is disputed; each is by an agreement or a fee."""
    names = coalition.names
    fields = "seq index amount status disputedById nettedById isClosed agreement debtorId creditorId day currency"
    document = f"query($c: ID!) {{ claims(counterparty: $c, first: 100) {{ nodes {{ {fields} }} }} }}"
    found = service.query(document, {"c": names["bakery"]}, tokens["mint"])["claims"]["nodes"]
    by_seq = {(claim["seq"], claim["index"]): claim for claim in found}
    stood, cancelled = by_seq[names["exchange"], 0], by_seq[names["redeem_kept"], 0]
    disputed = by_seq[names["open_dispute"], 0]
    assert (stood["status"], stood["nettedById"], stood["isClosed"]) == ("OPEN", f"ent_{names['net']}", True)
    assert (cancelled["status"], cancelled["isClosed"]) == ("CANCELLED", True)
    assert (disputed["status"], disputed["nettedById"]) == ("DISPUTED", None)
    disputers = {claim["disputedById"] for claim in (stood, cancelled, disputed)}
    assert disputers <= {names["mint"], names["bakery"]}
    assert not disputed["isClosed"]
    assert stood["agreement"] == "COIN>BEAN"
    assert all({claim["debtorId"], claim["creditorId"]} == {names["mint"], names["bakery"]} for claim in found)
    again = service.query(document, {"c": names["mint"]}, tokens["bakery"])["claims"]["nodes"]
    assert again == found
    only = "{ claims(status: DISPUTED) { nodes { seq } } }"
    assert service.query(only, token=tokens["operator"])["claims"]["nodes"] == [{"seq": names["open_dispute"]}]


def test_proposal_is_what_a_netting_takes(coalition: Coalition, service: Service, tokens: dict[str, Any]) -> None:
    """Positions sum to zero, a payment for each less one; a merchant is told its own part."""
    names = coalition.names
    document = """
      query($m: [ID!]) {
        nettingProposal(currency: "USD", merchants: $m, through: "2026-12-31") {
          positions { accountId amount } payments { debtorId creditorId amount unpaid }
        }
      }
    """
    both = {"m": [names["mint"], names["bakery"]]}
    whole = service.query(document, both, tokens["operator"])["nettingProposal"]
    amounts = {position["accountId"]: position["amount"] for position in whole["positions"]}
    assert sum(amounts.values()) == 0
    (payment,) = whole["payments"]
    assert amounts[payment["creditorId"]] == payment["amount"] == payment["unpaid"] == 7
    assert payment["debtorId"] in set(both["m"]) - {payment["creditorId"]}
    own = service.query(document, both, tokens["mint"])["nettingProposal"]
    assert [position["accountId"] for position in own["positions"]] == [names["mint"]]
    assert own["payments"] == [payment]
    everybody = service.query(document, token=tokens["auditor"])["nettingProposal"]
    assert everybody["payments"] == [payment]
    for wrong in ([names["mint"]], [names["mint"]] * 2, ["x", "y"]):
        assert service.error_code(document, {"m": wrong}, tokens["operator"]) == "BAD_USER_INPUT"


def test_netting_tells_who_to_those_who_may_know(
    coalition: Coalition, service: Service, tokens: dict[str, Any]
) -> None:
    """The payment and what is unpaid of it; all merchants only to auditors and the operator."""
    names = coalition.names
    document = """
      {
        nettings { nodes { seq merchantIds payments { creditorId unpaid } } }
        obligations { nodes { nettingEntryId amount } }
      }
    """
    as_auditor = service.query(document, token=tokens["auditor"])
    as_mint = service.query(document, token=tokens["mint"])
    payments = [{"creditorId": names["creditor"], "unpaid": 1}]
    told = {"seq": names["net"], "payments": payments}
    assert as_auditor["nettings"]["nodes"] == [told | {"merchantIds": [names["mint"], names["bakery"]]}]
    assert as_mint["nettings"]["nodes"] == [told | {"merchantIds": None}]
    netted = [node for node in as_mint["obligations"]["nodes"] if node["nettingEntryId"] is not None]
    assert netted == [{"nettingEntryId": f"ent_{names['net']}", "amount": 1}]


def test_claims_of_a_page_are_read_together(coalition: Coalition, service: Service, tokens: dict[str, Any]) -> None:
    """What netted them and whether they are closed is asked once for all, however many they are."""
    statements: list[str] = []

    def count(first: int) -> int:
        document = f"{{ claims(first: {first}) {{ nodes {{ nettedById isClosed }} }} }}"
        statements.clear()
        assert len(service.query(document, token=tokens["operator"])["claims"]["nodes"]) == first
        return len(statements)

    listened = (sa.engine.Engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
    sa.event.listen(*listened)
    try:
        assert count(2) == count(8)
    finally:
        sa.event.remove(*listened)


def test_lists_go_on_where_a_page_ended(service: Service, tokens: dict[str, Any]) -> None:
    """Cursors of two and of five parts; one of another list, or of another filter, is refused."""
    for field, fields in (("claims", "seq index"), ("obligations", "day amount"), ("agreements", "id")):
        asked = f"nodes {{ {fields} }} pageInfo {{ endCursor hasNextPage }}"
        document = f"query($a: String) {{ {field}(first: 1, after: $a) {{ {asked} }} }}"
        nodes, cursor, more = [], None, True
        while more:
            page = service.query(document, {"a": cursor}, tokens["auditor"])[field]
            nodes += page["nodes"]
            cursor, more = page["pageInfo"]["endCursor"], page["pageInfo"]["hasNextPage"]
        whole = service.query(f"{{ {field}(first: 100) {{ nodes {{ {fields} }} }} }}", token=tokens["auditor"])
        assert whole[field]["nodes"] == nodes
        assert len(nodes) > 1
        other = "agreements" if field != "agreements" else "claims"
        wrong = f"query($a: String) {{ {other}(after: $a) {{ nodes {{ id }} }} }}"
        assert service.error_code(wrong, {"a": cursor}, tokens["auditor"]) == "BAD_CURSOR"


# Allotments and refunds


def test_allotment_tells_that_it_is_low(coalition: Coalition, service: Service, tokens: dict[str, Any]) -> None:
    """100 bought, 60 and 1 given, 10 of these refunded; below 50, which the entry says that brought it there."""
    fields = "agreement asset partnerId allotted remaining alertBelow isLow alerts { nodes { seq remaining } }"
    document = f"{{ allotments {{ nodes {{ {fields} }} }} }}"
    (found,) = service.query(document, token=tokens["bakery"])["allotments"]["nodes"]
    assert (found["asset"], found["partnerId"], found["allotted"]) == ("COIN", coalition.names["bakery"], 100)
    assert (found["remaining"], found["alertBelow"], found["isLow"]) == (49, 50, True)
    assert {"seq": coalition.names["alert"], "remaining": 40} in found["alerts"]["nodes"]


def test_what_can_be_refunded_is_told_in_its_own_unit(
    coalition: Coalition, service: Service, tokens: dict[str, Any]
) -> None:
    """Money and points of a purchase, points of what was spent."""
    fields = (
        "kind merchantId accountId asset amount refundedAmount refundableAmount points refundedPoints refundablePoints"
    )
    of_order = f'{{ refundable(by: {{order: "b-1"}}) {{ {fields} }} }}'
    bought = service.query(of_order, token=tokens["bakery"])["refundable"]
    assert (bought["kind"], bought["asset"], bought["accountId"]) == ("PURCHASE", "COIN", coalition.names["ann"])
    assert (bought["amount"], bought["refundedAmount"], bought["refundableAmount"]) == (6_000, 1_000, 5_000)
    assert (bought["points"], bought["refundedPoints"], bought["refundablePoints"]) == (60, 10, 50)
    assert service.query(of_order, token=tokens["mint"])["refundable"] is None
    of_operation = f"query($id: Hash!) {{ refundable(by: {{operationId: $id}}) {{ {fields} }} }}"
    spent = service.query(of_operation, {"id": coalition.names["spent"]}, tokens["ann"])["refundable"]
    assert (spent["kind"], spent["amount"], spent["refundableAmount"]) == ("REDEMPTION", None, None)
    assert (spent["points"], spent["refundedPoints"], spent["refundablePoints"]) == (80, 30, 50)
