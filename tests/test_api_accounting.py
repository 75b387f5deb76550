"""Accounts over GraphQL and HTTP: books of an asset, deferred revenue over real entries, settlement statements."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pypdf import PdfReader

from ledger.encoding import format_time
from ledger.keys import encode_public_key
from ledger.operations import Correct, Expire, OpenAccount, RecordPurchases, Redeem, Refund
from ledger.program_terms import Band, ExpiresAfterDays
from ledger.sequencer import Recorded, account_opened_by
from ledger.terms import Purchase, RefundedPurchase, RefundedRedemption, Value
from ledger.wallet import Wallet
from tests.clearing import Three, make_march, make_three
from tests.service import Service, running
from tests.worlds import World, make_program

RATIO = "{ numerator denominator decimal }"
BREAKAGE = f"{{ issued expired overdue rate {RATIO} }}"
LIABILITY = f"{{ amount currency points expectedRedemption {RATIO} costAmount costPoints }}"
BOOKS = f"""
query($asset: String!, $from: Date!, $through: Date!, $expected: RatioInput, $cost: PointPriceInput) {{
  accounting(asset: $asset, from: $from, through: $through, expectedRedemption: $expected, cost: $cost) {{
    asset firstDay lastDay firstSeq endSeq redemptionRate {RATIO} breakage {BREAKAGE} breakageSoFar {BREAKAGE}
    points {{
      opening closing onHold issued issuedByPurchases issuedByGrants issuedByExchanges issuedByCorrections
      takenBack takenBackByRefunds takenBackByCorrections redeemed returned expired
    }}
    liability {LIABILITY}
    outstanding(first: 5) {{ nodes {{ lastDay points }} pageInfo {{ hasNextPage }} }}
  }}
}}"""
DEFERRED = f"""
query($asset: String!, $price: PointPriceInput!, $periods: [RevenuePeriodInput!]!) {{
  deferredRevenue(asset: $asset, standAlonePrice: $price, periods: $periods) {{
    asset currency
    periods {{
      lastDay firstSeq endSeq sales pointsEarned refundedSales pointsTakenBack otherPoints pointsRedeemed
      allocatedToProduct allocatedToPoints released issuedSoFar redeemedSoFar expectedPoints {RATIO}
      revenue revenueSoFar liability
    }}
  }}
}}"""
STATEMENT = """
query($account: ID!, $currency: String!, $from: Date!, $through: Date!, $first: Int, $after: String) {
  settlementStatement(
    account: $account, currency: $currency, from: $from, through: $through, first: $first, after: $after
  ) {
    openingBalance closingBalance disputed csvPath pdfPath
    turnovers { type lines debit credit }
    nodes {
      type day entryId part kind counterpartyId counterpartyName claimEntryId claimIndex agreement reference
      amount debit credit balance nettedById status
    }
    pageInfo { hasNextPage endCursor }
  }
}"""
MARCH = {"currency": "USD", "from": "2026-03-01", "through": "2026-03-31"}


@pytest.fixture
def service(world: World, tmp_path: Path) -> Iterator[Service]:
    with running(world, tmp_path) as service:
        yield service


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Service]:
    """A service on SQLite alone, for what does not depend on the database."""
    with World(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as world, running(world, tmp_path) as service:
        yield service


def share(numerator: int, denominator: int = 10_000) -> dict[str, int]:
    return {"numerator": numerator, "denominator": denominator}


def make_example_52(world: World) -> tuple[Wallet, Wallet, list[Recorded]]:
    """Purchases of 100,000 dollars in all give 10,000 points; 4,500 are redeemed in March, 4,000 in April.

    A point for each 10 dollars, in ten purchases. Amounts are in cents, so the standard's figures are in hundreds.
    """
    shop, member = world.add_merchant(), world.add_member()
    world.add_asset(shop, program=make_program(bands=(Band(from_amount=0, points=1, per=1_000),)))
    bought = [
        Purchase(amount=1_000_000, at=format_time(world.clock()), member=str(member.account), order=f"order-{n}")
        for n in range(10)
    ]
    recorded = world.record(shop.sign(RecordPurchases, asset="STAR", currency="USD", purchases=tuple(bought)))
    recorded += world.record(member.sign(Redeem, asset="STAR", amount=4_500, merchant=shop.account))
    world.clock.advance(days=30)
    recorded += world.record(member.sign(Redeem, asset="STAR", amount=4_000, merchant=shop.account))
    return shop, member, recorded


PERIODS = [
    {"through": "2026-03-31", "expectedRedemption": share(9_500)},
    {"through": "2026-04-01", "expectedRedemption": share(9_700)},
]
RECOGNISED = ("revenue", "liability")
PRICE = {"amount": 100, "points": 1}
"""A point's stand-alone price is 1 dollar."""


# Deferred revenue


def test_example_52_comes_out_of_the_entries_of_a_ledger(service: Service) -> None:
    """In cents: product 91,324, points 8,676; revenue 4,110 and 3,493, liability 4,566 and 1,073 in units."""
    shop, _, recorded = make_example_52(service.world)
    variables = {"asset": "STAR", "price": PRICE, "periods": PERIODS}
    found = service.query(DEFERRED, variables, service.sign_in(shop))["deferredRevenue"]
    first, second = found["periods"]
    assert (found["currency"], found["asset"]) == ("USD", "STAR")
    assert (first["sales"], first["pointsEarned"], first["pointsRedeemed"]) == (10_000_000, 10_000, 4_500)
    in_units = [
        {
            name: round(period[name] / 100)
            for name in ("allocatedToProduct", "allocatedToPoints", "revenue", "liability")
        }
        for period in (first, second)
    ]
    assert in_units == [
        {"allocatedToProduct": 91_324, "allocatedToPoints": 8_676, "revenue": 4_110, "liability": 4_566},
        {"allocatedToProduct": 0, "allocatedToPoints": 0, "revenue": 3_493, "liability": 1_073},
    ]
    assert first["allocatedToProduct"] + first["allocatedToPoints"] == first["sales"]
    assert first["revenue"] + second["revenue"] + second["liability"] == first["allocatedToPoints"]
    assert second["expectedPoints"] == {"numerator": 9_700, "denominator": 1, "decimal": "9700.000000"}
    assert (first["firstSeq"], first["endSeq"], second["firstSeq"]) == (0, recorded[-1].seq, recorded[-1].seq)


def test_example_52_in_whole_units_is_that_of_the_standard(small: Service) -> None:
    """Where the currency's unit is the smallest amount, the figures are the standard's own."""
    world = small.world
    shop, member = world.add_merchant(), world.add_member()
    world.add_asset(shop, program=make_program(bands=(Band(from_amount=0, points=1, per=10),), round_amount="none"))
    bought = Purchase(amount=100_000, at=format_time(world.clock()), member=str(member.account), order="order-1")
    world.record(shop.sign(RecordPurchases, asset="STAR", currency="USD", purchases=(bought,)))
    world.record(member.sign(Redeem, asset="STAR", amount=4_500, merchant=shop.account))
    world.clock.advance(days=30)
    world.record(member.sign(Redeem, asset="STAR", amount=4_000, merchant=shop.account))
    variables = {"asset": "STAR", "price": {"amount": 1, "points": 1}, "periods": PERIODS}
    first, second = small.query(DEFERRED, variables, small.sign_in(shop))["deferredRevenue"]["periods"]
    assert (first["allocatedToProduct"], first["allocatedToPoints"]) == (91_324, 8_676)
    assert [(each["revenue"], each["liability"]) for each in (first, second)] == [(4_110, 4_566), (3_493, 1_073)]


def test_refunds_and_corrections_are_netted(small: Service) -> None:
    """In the period they are recorded in; redeemed points that came back are not redeemed."""
    world = small.world
    shop, member, recorded = make_example_52(world)
    back = RefundedRedemption(amount=500, operation=recorded[1].op_id.hex())
    world.record(
        shop.sign(Refund, asset="STAR", of=back, reference="r-1"),
        shop.sign(Refund, asset="STAR", of=RefundedPurchase(amount=1_000_000, order="order-3"), reference="r-2"),
        shop.sign(Correct, asset="STAR", amount=50, member=member.account, reason="goodwill", reference="c-1"),
    )
    variables = {"asset": "STAR", "price": PRICE, "periods": PERIODS}
    _, second = small.query(DEFERRED, variables, small.sign_in(shop))["deferredRevenue"]["periods"]
    names = ("sales", "pointsEarned", "refundedSales", "pointsTakenBack", "otherPoints", "pointsRedeemed")
    assert [second[name] for name in names] == [0, 0, 1_000_000, 1_000, 50, 3_500]
    assert (second["issuedSoFar"], second["redeemedSoFar"], second["released"]) == (9_050, 8_000, 86_758)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"periods": []}, "1 to 24 periods"),
        ({"periods": PERIODS * 13}, "1 to 24 periods"),
        ({"periods": PERIODS[::-1]}, "each period ends on a later day than the one before"),
        ({"periods": [{**PERIODS[0], "through": "2026-04-02"}]}, "through lies in the future"),
        (
            {"periods": [{**PERIODS[0], "expectedRedemption": share(4_499)}]},
            "periods[0].expectedRedemption: 4500 points",
        ),
        ({"periods": [{**PERIODS[0], "expectedRedemption": share(2, 1)}]}, "a share is from 0 to 1"),
        ({"periods": [{**PERIODS[0], "expectedRedemption": share(0, 0)}]}, "a share is from 0 to 1"),
        ({"periods": [{**PERIODS[0], "expectedRedemption": share(1, 1_000_001)}]}, "a share is from 0 to 1"),
        ({"price": {"amount": -1, "points": 1}}, "a price is 0 or more minor units"),
        ({"price": {"amount": 1, "points": 0}}, "a price is 0 or more minor units"),
        ({"asset": "star"}, "an asset's code"),
    ],
    ids=["none", "many", "order", "future", "too few", "above 1", "of 0", "too fine", "price", "points", "asset"],
)
def test_what_cannot_be_expected_is_refused(small: Service, changes: dict[str, Any], message: str) -> None:
    shop, _, _ = make_example_52(small.world)
    variables = {"asset": "STAR", "price": PRICE, "periods": PERIODS, **changes}
    (error,) = small.ask(DEFERRED, variables, small.sign_in(shop))["errors"]
    assert error["extensions"]["code"] == "BAD_USER_INPUT"
    assert message in error["message"]


# Books


def make_expiring(world: World) -> tuple[Wallet, Wallet]:
    """A shop whose points of 2 cents live ten days: 200 were given, 60 spent, the rest expired but for 30."""
    shop, member = world.add_merchant(), world.add_member()
    value = Value(amount=2, currency="USD", points=1)
    world.add_asset(shop, program=make_program(expiry=ExpiresAfterDays(count=10)), value=value)
    world.grant(shop, "STAR", member, 170)
    world.record(member.sign(Redeem, asset="STAR", amount=60, merchant=shop.account))
    world.clock.advance(days=1)
    world.grant(shop, "STAR", member, 30)
    world.clock.advance(days=11)
    world.record(shop.sign(Expire, asset="STAR", through="2026-03-12", limit=10))
    world.grant(shop, "STAR", member, 1_000)
    return shop, member


def books(service: Service, token: str, **changes: Any) -> Any:
    variables = {"asset": "STAR", "from": "2026-03-01", "through": "2026-03-14", **changes}
    return service.query(BOOKS, variables, token)["accounting"]


def test_books_tell_how_points_moved_and_what_they_will_cost(service: Service) -> None:
    """Of 200 points in ended lots 110 expired and 30 are overdue: 70 % broke. The 1,000 left cost 2 cents each."""
    shop, _ = make_expiring(service.world)
    found = books(service, service.sign_in(shop))
    rate = {"numerator": 140, "denominator": 200, "decimal": "0.700000"}
    assert found["breakage"] == found["breakageSoFar"] == {"issued": 200, "expired": 110, "overdue": 30, "rate": rate}
    assert found["liability"] == {
        "amount": 600,
        "currency": "USD",
        "points": 1_000,
        "expectedRedemption": {"numerator": 3, "denominator": 10, "decimal": "0.300000"},
        "costAmount": 2,
        "costPoints": 1,
    }
    points = found["points"]
    assert (points["opening"], points["closing"], points["issuedByGrants"]) == (0, 1_030, 1_200)
    assert (points["redeemed"], points["expired"], points["issued"], points["takenBack"]) == (60, 110, 1_200, 0)
    assert found["redemptionRate"] == {"numerator": 60, "denominator": 1_200, "decimal": "0.050000"}
    assert found["outstanding"]["nodes"] == [
        {"lastDay": "2026-03-13", "points": 30},
        {"lastDay": "2026-03-24", "points": 1_000},
    ]


def test_books_of_a_period_stay_as_they_were(service: Service) -> None:
    """Whatever is recorded after it."""
    shop, member = make_expiring(service.world)
    token = service.sign_in(shop)
    early = [books(service, token, **{"from": "2026-03-03", "through": "2026-03-05"})]
    assert early[0]["points"]["issued"] == 30
    assert early[0]["outstanding"]["nodes"] == [
        {"lastDay": "2026-03-12", "points": 110},
        {"lastDay": "2026-03-13", "points": 30},
    ]
    service.world.record(member.sign(Redeem, asset="STAR", amount=500, merchant=shop.account))
    early.append(books(service, token, **{"from": "2026-03-03", "through": "2026-03-05"}))
    assert early[0] == early[1]


def test_merchant_says_what_it_expects_and_what_points_cost(small: Service) -> None:
    """95 % of 1,000 points at 7 cents for ten: 6.65."""
    shop, _ = make_expiring(small.world)
    found = books(small, small.sign_in(shop), expected=share(95, 100), cost={"amount": 7, "points": 10})
    assert found["liability"]["amount"] == 665
    assert (found["liability"]["costAmount"], found["liability"]["costPoints"]) == (7, 10)


def test_without_history_or_cost_there_is_no_liability(small: Service) -> None:
    """Nothing is made up: neither a redemption rate nor a price."""
    world = small.world
    shop = world.add_merchant()
    world.add_asset(shop)
    world.grant(shop, "STAR", world.add_member(), 100)
    token = small.sign_in(shop)
    days = {"from": "2026-03-01", "through": "2026-03-02"}
    assert books(small, token, **days)["liability"] is None
    assert books(small, token, expected=share(1, 2), **days)["liability"] is None
    assert books(small, token, cost={"amount": 1, "points": 1}, **days)["liability"] is None
    both = books(small, token, expected=share(1, 2), cost={"amount": 1, "points": 1}, **days)
    assert (both["liability"]["amount"], both["liability"]["currency"]) == (50, "USD")
    assert both["breakage"]["rate"] is None


def test_pages_of_outstanding_points_go_on(small: Service) -> None:
    shop, _ = make_expiring(small.world)
    document = """query($after: String) { accounting(asset: "STAR", from: "2026-03-01", through: "2026-03-14") {
        outstanding(first: 1, after: $after) { nodes { lastDay } pageInfo { hasNextPage endCursor } } } }"""
    token = small.sign_in(shop)
    first = small.query(document, {}, token)["accounting"]["outstanding"]
    cursor = first["pageInfo"]["endCursor"]
    second = small.query(document, {"after": cursor}, token)["accounting"]["outstanding"]
    assert [page["nodes"][0]["lastDay"] for page in (first, second)] == ["2026-03-13", "2026-03-24"]
    assert [page["pageInfo"]["hasNextPage"] for page in (first, second)] == [True, False]


def sign_in_as(service: Service, role: str) -> str:
    """A session of a new account of a role, vouched for by the operator."""
    world = service.world
    key = world.make_key()
    opened = world.operator.sign(OpenAccount, co_signers=[key], role=role, keys=(encode_public_key(key),), name="N")
    return service.sign_in(world.wallet(account_opened_by(world.record(opened)[0]), key))


def test_books_are_for_the_issuer_auditors_and_the_operator(small: Service) -> None:
    shop, member = make_expiring(small.world)
    other = small.world.add_merchant("Other")
    variables = {"asset": "STAR", "from": "2026-03-01", "through": "2026-03-14"}
    deferred = {
        "asset": "STAR",
        "price": PRICE,
        "periods": [{"through": "2026-03-14", "expectedRedemption": share(1, 1)}],
    }
    for token in (small.sign_in(shop), small.sign_in(small.world.operator), sign_in_as(small, "auditor")):
        assert books(small, token) is not None
        assert small.query(DEFERRED, deferred, token)["deferredRevenue"] is not None
    for token in (small.sign_in(other), small.sign_in(member)):
        assert small.error_code(BOOKS, variables, token) == "FORBIDDEN"
        assert small.error_code(DEFERRED, deferred, token) == "FORBIDDEN"
    assert small.error_code(BOOKS, variables) == "UNAUTHENTICATED"
    assert small.error_code(DEFERRED, deferred) == "UNAUTHENTICATED"
    assert small.query(BOOKS, {**variables, "asset": "NONE"}, sign_in_as(small, "auditor"))["accounting"] is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"from": "2026-03-02", "through": "2026-03-01"}, "through lies before from"),
        ({"through": "2026-03-15"}, "it is 2026-03-14: through lies in the future"),
        ({"expected": share(3, 2)}, "a share is from 0 to 1"),
        ({"cost": {"amount": 1, "points": -1}}, "a price is 0 or more"),
    ],
    ids=["order", "future", "share", "price"],
)
def test_books_that_cannot_be_are_refused(small: Service, changes: dict[str, Any], message: str) -> None:
    shop, _ = make_expiring(small.world)
    variables = {"asset": "STAR", "from": "2026-03-01", "through": "2026-03-14", **changes}
    (error,) = small.ask(BOOKS, variables, small.sign_in(shop))["errors"]
    assert error["extensions"]["code"] == "BAD_USER_INPUT"
    assert message in error["message"]


# Settlement statements


def statement(service: Service, three: Three, of: int, token: str, **changes: Any) -> Any:
    variables = {"account": three.account(of), **MARCH, **changes}
    return service.query(STATEMENT, variables, token)["settlementStatement"]


def test_settlement_statement_has_its_lines_balances_and_sums(service: Service) -> None:
    three = make_three(service.world)
    entries = make_march(three)
    found = statement(service, three, 2, service.sign_in(three.merchants[2]))
    assert (found["openingBalance"], found["closingBalance"], found["disputed"]) == (0, 93, 0)
    assert [line["type"] for line in found["nodes"]] == ["CLAIM", "NETTED", "NETTING_PAYMENT", "CLAIM"]
    assert found["nodes"][0] == {
        "type": "CLAIM",
        "day": "2026-03-02",
        "entryId": f"ent_{entries['c'].seq}",
        "part": 0,
        "kind": "REDEEM",
        "counterpartyId": three.account(1),
        "counterpartyName": "Bean",
        "claimEntryId": f"ent_{entries['c'].seq}",
        "claimIndex": 0,
        "agreement": f"BEAN@{three.account(2)}",
        "reference": None,
        "amount": 100,
        "debit": 100,
        "credit": 0,
        "balance": 100,
        "nettedById": f"ent_{entries['net'].seq}",
        "status": "OPEN",
    }
    sums = {each["type"]: (each["lines"], each["debit"], each["credit"]) for each in found["turnovers"]}
    assert {name: each for name, each in sums.items() if each[0]} == {
        "CLAIM": (2, 100, 7),
        "NETTED": (1, 0, 100),
        "NETTING_PAYMENT": (1, 100, 0),
    }


def test_pages_of_a_statement_go_on_inside_an_entry(small: Service) -> None:
    three = make_three(small.world)
    make_march(three)
    token = small.sign_in(three.merchants[1])
    whole = statement(small, three, 1, token)["nodes"]
    lines, cursor, more = [], None, True
    while more:
        page = statement(small, three, 1, token, first=3, after=cursor)
        lines += page["nodes"]
        cursor, more = page["pageInfo"]["endCursor"], page["pageInfo"]["hasNextPage"]
    assert lines == whole
    assert len(lines) == 16


def test_statements_are_for_their_account_auditors_and_the_operator(small: Service) -> None:
    """Over GraphQL and as files."""
    three = make_three(small.world)
    make_march(three)
    variables = {"account": three.account(1), **MARCH}
    path = statement(small, three, 1, small.sign_in(three.merchants[1]))["csvPath"]
    for token in (small.sign_in(small.world.operator), sign_in_as(small, "auditor")):
        assert statement(small, three, 1, token)["closingBalance"] == 37
        assert small.client.get(path, headers={"authorization": f"Bearer {token}"}).status_code == 200
    for wallet in (three.merchants[0], three.member):
        token = small.sign_in(wallet)
        assert small.error_code(STATEMENT, variables, token) == "FORBIDDEN"
        refused = small.client.get(path, headers={"authorization": f"Bearer {token}"})
        assert (refused.status_code, refused.json()["errors"][0]["extensions"]["code"]) == (403, "FORBIDDEN")
    assert small.error_code(STATEMENT, variables) == "UNAUTHENTICATED"
    refused = small.client.get(path)
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    assert small.client.get(path, headers={"authorization": "Bearer nonsense"}).status_code == 401


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"currency": "GBP"}, "no settlement currency"),
        ({"currency": "STAR"}, "no settlement currency"),
        ({"account": "mer_x"}, "an account id"),
        ({"through": "2026-02-01"}, "through lies before from"),
    ],
    ids=["currency", "asset", "account", "order"],
)
def test_statement_that_cannot_be_is_refused(small: Service, changes: dict[str, str], message: str) -> None:
    three = make_three(small.world)
    variables = {"account": three.account(1), **MARCH, **changes}
    (error,) = small.ask(STATEMENT, variables, small.sign_in(three.merchants[1]))["errors"]
    assert error["extensions"]["code"] == "BAD_USER_INPUT"
    assert message in error["message"]


def test_statement_is_a_file_for_bookkeepers(service: Service) -> None:
    """The paths that GraphQL tells give CSV and PDF, for this session alone and kept by no cache."""
    three = make_three(service.world)
    make_march(three)
    token = service.sign_in(three.merchants[1])
    found = statement(service, three, 1, token)
    answers = [
        service.client.get(found[name], headers={"authorization": f"Bearer {token}"}) for name in ("csvPath", "pdfPath")
    ]
    name = f"statement_{three.account(1)}_USD_2026-03-01_2026-03-31"
    for answer, form, kind in zip(answers, ("csv", "pdf"), ("text/csv", "application/pdf"), strict=True):
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(kind)
        assert answer.headers["content-disposition"] == f'attachment; filename="{name}.{form}"'
        assert (answer.headers["cache-control"], answer.headers["vary"]) == ("private, no-store", "Authorization")
    rows = list(csv.DictReader(io.StringIO(answers[0].text)))
    assert [int(row["entry"]) for row in rows[1:-1]] == [int(line["entryId"][4:]) for line in found["nodes"]]
    assert rows[-1]["balance"] == "0.37"
    assert "École “Süd” & Co" in PdfReader(io.BytesIO(answers[1].content)).pages[0].extract_text()
    head = service.client.head(found["csvPath"], headers={"authorization": f"Bearer {token}"})
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(answers[0].content))


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("{account}/USD/2026-03-01_2026-03-31.txt", 404),
        ("{account}/USD/2026-03-01.csv", 404),
        ("nobody/USD/2026-03-01_2026-03-31.csv", 404),
        ("{account}/USD/2026-03-01%5F2026-03-31.csv", 404),
        ("{account}/USD/2026-02-30_2026-03-31.csv", 400),
        ("{account}/USD/2026-03-02_2026-03-01.csv", 400),
        ("{account}/GBP/2026-03-01_2026-03-31.csv", 400),
    ],
)
def test_path_of_no_statement_is_refused_with_what_is_wrong(small: Service, path: str, status: int) -> None:
    three = make_three(small.world)
    headers = {"authorization": f"Bearer {small.sign_in(three.merchants[1])}"}
    answer = small.client.get(f"/statements/{path.format(account=three.account(1))}", headers=headers)
    assert answer.status_code == status
    assert answer.json()["errors"][0]["extensions"]["code"] == ("NOT_FOUND" if status == 404 else "BAD_USER_INPUT")


def test_files_count_against_the_quota(tmp_path: Path) -> None:
    """What GraphQL is refused for costs, files are refused for too."""
    with World(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as world:
        three = make_three(world)
        with running(world, tmp_path, steady=lambda: 0, rate_cost=25_000) as service:
            token = service.sign_in(three.merchants[1])
            path = f"/statements/{three.account(1)}/USD/2026-03-01_2026-03-31.csv"
            answers = [service.client.get(path, headers={"authorization": f"Bearer {token}"}) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[2].json()["errors"][0]["extensions"]["code"] == "RATE_LIMITED"
    assert "retry-after" in answers[2].headers
