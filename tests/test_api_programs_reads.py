"""What members have in programs, in GraphQL: who is told what, how it stands today, and why points were given."""

import csv
import io
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from pypdf import PdfReader

from ledger.operations import OpenAccount
from ledger.sequencer import account_opened_by
from tests.roastery import TODAY, Roastery
from tests.service import Service, key_file, running
from tests.worlds import World

MEMBERSHIP = """asset accountId joinedOn purchases formula invitedById notedTier
  tier { tier until neverExpires basis period counted periods { period count } next { tier from missing } }
  plan { plan from until isActive } pool { asset memberIds spendable }"""
VOUCHER = "id seq index accountId asset merchantId reward price worth lastDay status code entryId usedEntryId"


class Page:
    """A roastery that is served, everybody's tokens, and a member that it has in custody."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.roastery = club = Roastery(service.world)
        (opened,) = service.world.record(club.shop.sign(OpenAccount, role="member", keys=()))
        self.ward = account_opened_by(opened)
        self.wallets = {
            name: getattr(club, name) for name in ("ann", "ben", "cat", "dan", "eve", "gus", "shop", "other")
        }
        self.ids = {name: str(wallet.account) for name, wallet in self.wallets.items()} | {"ward": self.ward}
        self.wallets["operator"] = service.world.operator
        self.tokens = {name: service.sign_in(wallet) for name, wallet in self.wallets.items()}

    def ask(self, who: str | None, query: str, **variables: Any) -> Any:
        return self.service.query(query, variables, self.tokens[who] if who is not None else None)

    def refused(self, who: str | None, query: str, **variables: Any) -> str:
        return self.service.error_code(query, variables, self.tokens[who] if who is not None else None)

    def account(self, who: str, whose: str, fields: str) -> Any:
        return self.ask(who, f"query($id: ID!) {{ account(id: $id) {{ {fields} }} }}", id=self.ids[whose])["account"]

    def codes(self) -> list[str]:
        """Ann's codes: of the mug, and of both espressos, of which the second was used."""
        found = self.account("ann", "ann", "vouchers { nodes { code } }")["vouchers"]["nodes"]
        return [each["code"] for each in found]

    def by_code(self, who: str, code: str, fields: str = "id status") -> Any:
        return self.ask(who, f"query($c: String!) {{ voucherByCode(code: $c) {{ {fields} }} }}", c=code)[
            "voucherByCode"
        ]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """Read by all tests of this file."""
    folder = tmp_path_factory.mktemp("reads")
    with ExitStack() as stack:
        world = stack.enter_context(World(f"sqlite:///{folder / 'ledger.sqlite'}"))
        key = key_file(folder, world.make_key())
        yield Page(stack.enter_context(running(world, folder, profile_key_file=key)))


# Memberships


def test_a_member_reads_where_it_stands_and_what_is_missing(page: Page) -> None:
    query = f'{{ membership(asset: "STAR") {{ {MEMBERSHIP} }} }}'
    found = page.ask("ann", query)["membership"]
    assert found == {
        "asset": "STAR",
        "accountId": page.ids["ann"],
        "joinedOn": TODAY,
        "purchases": 1,
        "formula": None,
        "invitedById": None,
        "notedTier": "silver",
        "tier": {
            "tier": "silver",
            "until": "2026-04-30",
            "neverExpires": False,
            "basis": "AMOUNT",
            "period": "2026-03",
            "counted": 10_000,
            "periods": [{"period": "2026-02", "count": 0}, {"period": "2026-03", "count": 10_000}],
            "next": {"tier": "gold", "from": 50_000, "missing": 40_000},
        },
        "plan": {"plan": "plus", "from": TODAY, "until": "2026-03-31", "isActive": True},
        "pool": {"asset": "STAR", "memberIds": [page.ids["ann"], page.ids["ben"]], "spendable": 270},
    }
    assert page.ask("eve", query)["membership"] is None
    assert page.ask("gus", '{ membership(asset: "STAR") { tier { tier next { tier } } } }')["membership"] == {
        "tier": {"tier": "gold", "next": None}
    }


@pytest.mark.parametrize(
    ("who", "sees"), [("ann", True), ("shop", True), ("operator", True), ("ben", False), ("other", False)]
)
def test_a_membership_is_told_to_the_member_the_issuer_and_who_sees_all(page: Page, who: str, sees: bool) -> None:
    query = 'query($id: ID!) { membership(asset: "STAR", account: $id) { joinedOn } }'
    assert (page.ask(who, query, id=page.ids["ann"])["membership"] is not None) == sees


def test_an_issuer_finds_who_takes_part_though_nothing_was_issued_yet(page: Page) -> None:
    fields = "id memberships { nodes { asset } }"
    assert page.account("shop", "dan", fields)["memberships"]["nodes"] == [{"asset": "SLOW"}]
    assert page.account("shop", "cat", "id") is not None
    assert page.account("shop", "eve", "id") is None
    assert page.account("other", "ann", "id") is None


def test_the_members_of_a_program_are_listed_by_tier_for_its_issuer(page: Page) -> None:
    query = """query($tier: String, $first: Int, $after: String) { asset(code: "STAR") {
      memberships(tier: $tier, first: $first, after: $after) {
        nodes { accountId notedTier } pageInfo { hasNextPage endCursor } } } }"""

    def listed(who: str | None, **given: Any) -> list[str]:
        found = page.ask(who, query, **given)["asset"]["memberships"]
        return [each["accountId"] for each in found["nodes"]]

    members = sorted(str(page.ids[name]) for name in ("ann", "ben", "cat", "gus"))
    assert listed("shop") == listed("operator") == members
    assert listed("shop", tier="gold") == [page.ids["gus"]]
    assert listed("ben") == [page.ids["ben"]]
    assert [listed(who) for who in ("other", "eve", None)] == [[], [], []]
    cursor = page.ask("shop", query, first=3)["asset"]["memberships"]["pageInfo"]
    assert cursor["hasNextPage"] is True
    assert listed("shop", first=3, after=cursor["endCursor"]) == members[3:]


# Points to come, activities, pools


def test_points_that_have_not_vested_are_their_members_to_see(page: Page) -> None:
    fields = "pendingPoints { nodes { asset order points vestsOn lastDay merchantId } }"
    pending = {
        "asset": "SLOW",
        "order": "S-2",
        "points": 30,
        "vestsOn": "2026-03-16",
        "lastDay": None,
        "merchantId": page.ids["shop"],
    }
    for who in ("dan", "shop", "operator"):
        assert page.account(who, "dan", fields)["pendingPoints"]["nodes"] == [pending]


def test_activities_and_pools_are_told_of_a_program_of_the_readers(page: Page) -> None:
    fields = 'achievements(asset: "STAR") { activity count firstDay lastDay points } pools { id asset }'
    review = {"activity": "review", "count": 2, "firstDay": TODAY, "lastDay": TODAY, "points": 15}
    visit = {"activity": "visit", "count": 1, "firstDay": TODAY, "lastDay": TODAY, "points": 0}
    for who in ("cat", "shop", "operator"):
        assert page.account(who, "cat", fields) == {"achievements": [review, visit], "pools": []}
    assert [each["asset"] for each in page.account("shop", "ann", fields)["pools"]] == ["STAR"]


def test_a_reminder_is_told_to_the_member_it_reminded(page: Page) -> None:
    fields = 'reminders(asset: "STAR") { nodes { about tier points day time entryId } }'
    reminder = {
        "about": "TIER",
        "tier": "gold",
        "points": None,
        "day": None,
        "time": page.roastery.now,
        "entryId": f"ent_{page.roastery.reminded.seq}",
    }
    for who in ("gus", "shop", "operator"):
        assert page.account(who, "gus", fields)["reminders"]["nodes"] == [reminder]
    assert page.account("ann", "ann", fields)["reminders"]["nodes"] == []


# Vouchers


def test_a_member_shows_its_vouchers_by_codes_that_nobody_else_is_told(page: Page) -> None:
    vouchers = page.account("ann", "ann", f"vouchers {{ nodes {{ {VOUCHER} }} }}")["vouchers"]["nodes"]
    assert [(each["reward"], each["status"], each["worth"]) for each in vouchers] == [
        ("mug", "ISSUED", 900),
        ("espresso", "ISSUED", None),
        ("espresso", "USED", None),
    ]
    assert [each["lastDay"] for each in vouchers] == [None, "2026-03-09", "2026-03-09"]
    assert vouchers[2]["usedEntryId"] == f"ent_{page.roastery.used.seq}"
    assert len({each["code"] for each in vouchers} - {None}) == 3
    for who in ("shop", "operator"):
        told = page.account(who, "ann", f"vouchers {{ nodes {{ {VOUCHER} }} }}")["vouchers"]["nodes"]
        assert told == [each | {"code": None} for each in vouchers]
    used = page.account("ann", "ann", 'vouchers(status: USED, asset: "STAR") { nodes { index } }')["vouchers"]["nodes"]
    assert used == [{"index": 1}]


def test_a_merchant_finds_a_voucher_by_its_code_however_it_is_typed(page: Page) -> None:
    mug, _, used = page.codes()
    assert page.by_code("shop", mug) == {"id": f"vch_{page.roastery.mug.seq}_0", "status": "ISSUED"}
    assert page.by_code("shop", mug.lower().replace("-", " "))["status"] == "ISSUED"
    assert page.by_code("shop", used)["status"] == "USED"


def test_a_code_is_worth_nothing_to_another_merchant_nor_when_it_is_guessed(page: Page) -> None:
    code = page.codes()[0]
    assert page.by_code("other", code) is None
    wrong = ("Z" if code[0] != "Z" else "Y") + code[1:]
    assert [page.by_code("shop", text) for text in (wrong, "", "é", "0" * 500)] == [None] * 4


def test_a_code_is_for_merchants_and_not_for_urls(page: Page) -> None:
    query = "query($c: String!) { voucherByCode(code: $c) { id } }"
    code = page.codes()[0]
    assert page.refused("ann", query, c=code) == "FORBIDDEN"
    assert page.refused(None, query, c=code) == "UNAUTHENTICATED"
    headers = {"authorization": f"Bearer {page.tokens['shop']}", "accept": "application/graphql-response+json"}
    given = {"query": f'{{ voucherByCode(code: "{code}") {{ id }} }}'}
    answer = page.service.client.get("/graphql", params=given, headers=headers)
    assert answer.json()["errors"][0]["extensions"]["code"] == "BAD_USER_INPUT"


def test_looking_codes_up_is_dear(page: Page) -> None:
    fields = " ".join(f'v{i}: voucherByCode(code: "{i}") {{ id }}' for i in range(15))
    assert page.refused("shop", f"{{ {fields} }}") == "MAX_COST_EXCEEDED"


def test_a_merchant_lists_the_vouchers_that_are_good_there(page: Page) -> None:
    query = """query($m: ID, $s: VoucherStatus) {
      vouchers(merchant: $m, asset: "STAR", status: $s) { nodes { seq index status } } }"""
    shop = page.ids["shop"]
    assert len(page.ask("shop", query)["vouchers"]["nodes"]) == 3
    assert len(page.ask("operator", query, m=shop, s="ISSUED")["vouchers"]["nodes"]) == 2
    assert page.ask("other", query)["vouchers"]["nodes"] == []
    assert page.refused("other", query, m=shop) == "FORBIDDEN"


def test_a_voucher_is_a_node_for_who_may_see_it(page: Page) -> None:
    query = f'{{ node(id: "vch_{page.roastery.mug.seq}_0") {{ ... on Voucher {{ reward }} }} }}'
    for who in ("ann", "shop", "operator"):
        assert page.ask(who, query)["node"] == {"reward": "mug"}
    assert [page.ask(who, query)["node"] for who in ("ben", "other", None)] == [None] * 3
    assert page.ask("ann", '{ node(id: "vch_0_0") { id } }')["node"] is None


def test_a_voucher_expires_by_time_alone(tmp_path: Path) -> None:
    with World(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as world, running(world, tmp_path) as service:
        roastery = Roastery(world)
        world.clock.advance(days=8)
        token = service.sign_in(roastery.ann)
        query = "{ viewer { vouchers { nodes { reward status code } } memberships { nodes { plan { isActive } } } } }"
        found = service.query(query, token=token)["viewer"]
        assert [each["status"] for each in found["vouchers"]["nodes"]] == ["ISSUED", "EXPIRED", "USED"]
        # Without a key for them there are no codes.
        assert {each["code"] for each in found["vouchers"]["nodes"]} == {None}
        shop = service.sign_in(roastery.shop)
        assert service.error_code('{ voucherByCode(code: "1") { id } }', token=shop) == "FORBIDDEN"
        world.clock.advance(days=30)
        token = service.sign_in(roastery.ann)
        assert service.query(query, token=token)["viewer"]["memberships"]["nodes"] == [{"plan": {"isActive": False}}]


# Benefits and rewards


BENEFITS = """query($id: ID, $purchase: BenefitPurchaseInput) {
  benefits(asset: "STAR", account: $id, purchase: $purchase) { benefit holds } }"""


def test_benefits_are_those_of_the_member_and_the_purchase(page: Page) -> None:
    def held(who: str, **given: Any) -> list[str]:
        return [each["benefit"] for each in page.ask(who, BENEFITS, **given)["benefits"] if each["holds"]]

    assert held("ann") == ["early_access"]
    web = {"amount": 5_000, "channel": "web", "lines": [{"amount": 4_000}, {"amount": 1_000, "category": "beans"}]}
    assert held("ann", purchase=web) == ["free_shipping", "early_access"]
    taxed = {"amount": 5_000, "channel": "web", "lines": [{"amount": 4_000}, {"amount": 1_000, "category": "tax"}]}
    assert held("ann", purchase=taxed) == ["early_access"]
    assert held("shop", id=page.ids["gus"]) == ["free_shipping"]
    assert held("shop", id=page.ids["eve"]) == []


def test_benefits_and_rewards_are_not_told_to_strangers(page: Page) -> None:
    rewards = 'query($id: ID) { rewards(asset: "STAR", account: $id) { number } }'
    for query in (BENEFITS, rewards):
        assert page.refused("ben", query, id=page.ids["ann"]) == "FORBIDDEN"
        assert page.refused("other", query, id=page.ids["ann"]) == "FORBIDDEN"
        assert page.refused(None, query) == "UNAUTHENTICATED"


@pytest.mark.parametrize(
    "purchase",
    [
        {"amount": 10, "lines": [{"amount": 9}]},
        {"amount": -1},
        {"amount": 0, "lines": [{"amount": 1}, {"amount": -1}]},
        {"amount": 101, "lines": [{"amount": 1}] * 101},
        {"amount": 1, "merchant": "mer_x"},
    ],
)
def test_what_can_be_no_purchase_is_refused(page: Page, purchase: dict[str, Any]) -> None:
    assert page.refused("ann", BENEFITS, purchase=purchase) == "BAD_USER_INPUT"


def test_rewards_tell_what_is_left_and_why_there_is_none(page: Page) -> None:
    query = """query($id: ID) { rewards(asset: "STAR", account: $id) {
      reward { reward price worth stock automatic validDays limit { count period } when { tiers } }
      leftInStock leftOfLimit number whyNot } }"""
    mug, espresso, tasting = page.ask("ann", query)["rewards"]
    assert (mug["reward"]["price"], mug["reward"]["worth"], mug["leftInStock"], mug["number"]) == (100, 900, 2, 2)
    assert (espresso["leftOfLimit"], espresso["number"], espresso["whyNot"]) == (0, 0, "LIMIT_REACHED")
    assert (tasting["reward"]["when"], tasting["whyNot"]) == ({"tiers": ["gold"]}, "NOT_FOR_MEMBER")
    assert page.ask("shop", query, id=page.ids["cat"])["rewards"][0]["whyNot"] == "INSUFFICIENT_POINTS"
    assert page.ask("ann", query.replace("STAR", "NONE"))["rewards"] == []


# Explanations


EARNING = """type reference activity accountId points amount currency earnedOn score programVersion explanation {
  sentence steps calculation { earningAmount excludedAmount formula quantity baseAmount
    bands { from amount rate per points { numerator denominator } } base { numerator denominator }
    lines { line amount factor { numerator denominator } multipliers passedOver }
    multiplied { numerator denominator } rounding rounded bonuses { bonus points } room cut points statusPoints } }"""
STATEMENT = f"""query($id: ID!, $asset: String!) {{ statement(account: $id, asset: $asset, first: 10) {{
  nodes {{ kind amount earnings(first: 5) {{ nodes {{ {EARNING} }} }} }} }} }}"""


def lines(page: Page, who: str, whose: str, asset: str = "STAR") -> list[dict[str, Any]]:
    """What a statement says is behind its lines."""
    found = page.ask(who, STATEMENT, id=page.ids[whose], asset=asset)["statement"]["nodes"]
    return [each | {"earnings": each["earnings"]["nodes"]} for each in found]


def test_a_statement_tells_why_each_purchase_gave_what_it_gave(page: Page) -> None:
    bought, invited, *spent = lines(page, "ann", "ann")
    (beans,) = bought["earnings"]
    calculation = beans["explanation"]["calculation"]
    assert (beans["type"], beans["reference"], beans["points"], bought["amount"]) == ("PURCHASE", "A-1", 320, 320)
    assert (calculation["earningAmount"], calculation["excludedAmount"]) == (10_000, 700)
    assert calculation["lines"] == [
        {
            "line": 0,
            "amount": 10_000,
            "factor": {"numerator": "3", "denominator": "1"},
            "multipliers": ["beans"],
            "passedOver": [],
        }
    ]
    assert calculation["bonuses"] == [{"bonus": "welcome", "points": 20}]
    assert (calculation["rounding"], calculation["rounded"], calculation["points"]) == ("DOWN", 300, 320)
    assert beans["explanation"]["sentence"] == " ".join(beans["explanation"]["steps"])
    assert "beans" in beans["explanation"]["sentence"]
    (invitation,) = invited["earnings"]
    assert (invitation["type"], invitation["points"], invitation["amount"]) == ("INVITATION", 50, None)
    assert invitation["explanation"]["calculation"] is None
    assert [each["earnings"] for each in spent] == [[]] * len(spent)
    assert lines(page, "shop", "ann")[0] == bought


def test_points_that_vested_are_explained_by_their_purchase(page: Page) -> None:
    (vested,) = lines(page, "dan", "dan", "SLOW")
    assert (vested["kind"], [each["reference"] for each in vested["earnings"]]) == ("VEST", ["S-1"])


def test_activities_are_explained_by_their_name(page: Page) -> None:
    first, second = lines(page, "cat", "cat")
    assert [each["earnings"][0]["activity"] for each in (first, second)] == ["review", "review"]
    assert first["earnings"][0]["type"] == "ACTIVITY"
    assert "review" in first["earnings"][0]["explanation"]["sentence"]


def test_an_entry_tells_a_reader_the_earnings_that_are_its_own(page: Page) -> None:
    query = f"query($seq: UInt53!) {{ entry(by: {{ seq: $seq }}) {{ earnings {{ nodes {{ {EARNING} }} }} }} }}"

    def told(who: str) -> list[tuple[str, str]]:
        found = page.ask(who, query, seq=page.roastery.invited.seq)["entry"]["earnings"]["nodes"]
        return [(each["type"], each["accountId"]) for each in found]

    ann, ben = page.ids["ann"], page.ids["ben"]
    assert told("shop") == told("operator") == [("INVITATION", ann), ("PURCHASE", ben)]
    assert told("ann") == [("INVITATION", ann)]
    assert told("ben") == [("PURCHASE", ben)]


def test_a_statement_of_points_is_a_file_with_its_explanations(page: Page) -> None:
    def fetched(who: str, form: str, asset: str = "STAR", days: str = "2026-03-01_2026-03-31") -> Any:
        headers = {"authorization": f"Bearer {page.tokens[who]}"}
        return page.service.client.get(f"/statements/{page.ids['ann']}/{asset}/{days}.{form}", headers=headers)

    answer = fetched("ann", "csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["type"] for row in rows[:3]] == ["opening", "record_purchases", "record_purchases"]
    assert rows[1]["explanation"].startswith("A-1: 100.00 earns 320 points.")
    assert rows[2]["explanation"].startswith("A member that this one invited")
    assert rows[-1]["balance"] == "230"
    assert fetched("shop", "csv").content == answer.content
    told = " ".join(each.extract_text() for each in PdfReader(io.BytesIO(fetched("ann", "pdf").content)).pages)
    assert "Line 1, of 100.00, counts 3 times, for beans." in told.replace("\n", " ")
    before = list(csv.DictReader(io.StringIO(fetched("ann", "csv", days="2026-02-01_2026-03-01").text)))
    assert [row["type"] for row in before] == ["opening", "closing"]
    refused = [fetched("ben", "csv"), fetched("other", "csv"), fetched("operator", "csv", asset="NONE")]
    assert [each.status_code for each in refused] == [403, 403, 400]


def test_the_parts_of_a_program_are_public(page: Page) -> None:
    query = """{ asset(code: "STAR") { program { stacking excludedCategories earningCap { points period }
      tiers { basis window levels { tier from neverExpires } } multipliers { multiplier times { numerator } }
      bonuses { bonus points } rewards { reward } benefits { benefit when { channels } } plans { plan days price }
      referral { points } } } }"""
    program = page.ask(None, query)["asset"]["program"]
    assert program["stacking"] == "BEST"
    assert program["tiers"]["levels"][1] == {"tier": "gold", "from": 50_000, "neverExpires": True}
    assert [each["benefit"] for each in program["benefits"]] == ["free_shipping", "free_shipping", "early_access"]
