"""Programs over the API: every part published and read back, and every kind of operation that programs brought."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from graphql import GraphQLEnumType, GraphQLObjectType, get_named_type
from msgspec import Struct

from api.schema import schema
from api.webhook_events import events_from, reader_of
from ledger.entries import decode_entry
from ledger.operations import (
    EndPlan,
    Enroll,
    FormPool,
    Grant,
    LeavePool,
    PublishProgram,
    RecordPurchases,
    Redeem,
    Refund,
    Remind,
    ReviewTiers,
    SignedOperation,
    StartPlan,
    UseVoucher,
    Vest,
    encode_operation,
)
from ledger.program_terms import (
    Birthday,
    ExpiresAfterInactivity,
    ExpiresAtMembershipYearEnd,
    ExpiresAtMonthEnd,
    Formula,
    GrantRule,
    Limit,
    Multiplier,
    Plan,
    Program,
    Ratio,
    Referral,
    Reminders,
    Reward,
    TierLevel,
    Tiers,
    When,
    check_program,
)
from ledger.terms import (
    Purchase,
    PurchaseLine,
    PurchaseRef,
    Quantity,
    RefundedLine,
    RefundedPurchase,
    RefundedRedemption,
    VoucherRef,
)
from ledger.wallet import Wallet
from tests.service import Service, camel, running, typed_input
from tests.worlds import START, World, make_program

MER = "mer_" + "a" * 26
WHEN = {
    "categories": ["food"],
    "channels": ["web"],
    "first_purchase": True,
    "from_amount": 500,
    "from_day": "2026-05-01",
    "invited": True,
    "merchants": [MER],
    "plans": ["plus"],
    "products": ["sku-1"],
    "tenders": ["gift_card"],
    "through_day": "2026-06-30",
    "tiers": ["gold"],
    "weekdays": ["mon", "sun"],
    "within_days": 30,
}
EVERY_PART: dict[str, Any] = {
    "approval_above": 10_000,
    "bands": [{"from": 0, "per": 100, "points": 1}, {"from": 10_000, "per": 100, "points": 2}],
    "benefits": [{"benefit": "free_shipping", "when": {"tiers": ["gold"]}}, {"benefit": "hotline"}],
    "birthday": {"activity": "birthday", "points": 5},
    "bonuses": [{"bonus": "welcome", "points": 100, "when": WHEN}],
    "currency": "USD",
    "earning_cap": {"period": "month", "points": 5_000},
    "excluded_categories": ["tax", "tip"],
    "expiry": {"after": "year_end", "count": 1},
    "formulas": [{"bands": [{"from": 0, "per": 1, "points": 3}], "formula": "miles", "quantity": "miles_flown"}],
    "grants": [
        {"activity": "birthday", "limit": {"count": 1, "period": "year"}, "max_points": 5},
        {"activity": "photo", "evidence": True, "max_points": 0, "scored": True},
    ],
    "multipliers": [{"multiplier": "double", "times": {"denominator": 1, "numerator": 2}, "when": WHEN}],
    "plans": [{"days": 365, "plan": "plus", "price": 3_000}],
    "purchase_within_days": 14,
    "referral": {"limit": {"count": 3, "period": "ever"}, "points": 50},
    "refunds": "negative",
    "reminders": {"balance": "month", "expiring_days": [30, 7], "new_tier": True},
    "returned_lot_days": 30,
    "rewards": [
        {
            "automatic": True,
            "limit": {"count": 2, "period": "month"},
            "price": 100,
            "reward": "cup",
            "stock": 1_000,
            "valid_days": 90,
            "when": {"plans": ["plus"], "tiers": ["gold"], "weekdays": ["fri"]},
            "worth": 500,
        },
        {"price": 10, "reward": "sticker"},
    ],
    "round_amount": "none",
    "round_points": "half_even",
    "stacking": "product",
    "status_asset": "RANK",
    "tiers": {
        "basis": "status",
        "drop": "one_level",
        "grace_days": 30,
        "kept": 2,
        "levels": [{"from": 0, "tier": "green"}, {"from": 500, "never_expires": True, "tier": "gold"}],
        "period": "membership_year",
        "window": 2,
    },
    "time_zone": "Europe/Berlin",
    "vesting_days": 14,
}
"""A program that has every part there is, and in every part every field."""


def test_every_part_is_in_the_program() -> None:
    """What follows leaves no field of the language out."""
    missing: list[str] = []

    def look(place: str, value: Any) -> None:
        if isinstance(value, tuple):
            for item in value[:1]:
                look(place, item)
        elif isinstance(value, Struct):
            for field in msgspec.structs.fields(value):
                inside = f"{place}.{field.encode_name}"
                found = getattr(value, field.name)
                unlike = (place, field.name) not in PLAIN_FIRSTS and found == field.default
                if unlike and not place.startswith("benefits") and not place.endswith(".when"):
                    missing.append(inside)
                look(inside.lstrip("."), found)

    program = msgspec.convert(EVERY_PART, Program)
    check_program(program)
    look("", program)
    assert missing == []
    assert {name for name in When.__struct_fields__ if name not in WHEN} == set()


PLAIN_FIRSTS = {("grants", "evidence"), ("grants", "scored"), ("tiers.levels", "never_expires")}
"""Fields that the second of a list has, not the first."""


def selection(kind: GraphQLObjectType, without: frozenset[str] = frozenset()) -> str:
    """All fields of a type, and of the types of its fields."""
    asked = []
    for name, field in kind.fields.items():
        inner = get_named_type(field.type)
        if name not in without:
            asked.append(f"{name} {{ {selection(inner)} }}" if isinstance(inner, GraphQLObjectType) else name)
    return " ".join(asked)


def document_of(kind: GraphQLObjectType, answer: dict[str, Any], part: type[Struct]) -> dict[str, Any]:
    """A part of a document, of what the API answers for it: of absent fields and defaults nothing."""
    document: dict[str, Any] = {}
    for field in msgspec.structs.fields(part):
        name = "merchantIds" if field.encode_name == "merchants" else camel(field.encode_name)
        value, inner = answer[name], get_named_type(kind.fields[name].type)
        if value is None or field.encode_name == "expiry":
            continue
        if isinstance(inner, GraphQLObjectType):
            parts = PARTS[inner.name]
            value = [document_of(inner, each, parts) for each in value] if isinstance(value, list) else value
            value = document_of(inner, value, parts) if isinstance(value, dict) else value
        elif isinstance(inner, GraphQLEnumType):
            value = [each.lower() for each in value] if isinstance(value, list) else value.lower()
        if value not in (field.default, []):
            document[field.encode_name] = value
    return document


def parts_of(part: Any, found: dict[str, type[Struct]]) -> dict[str, type[Struct]]:
    """Every struct that a part is made of, by its name in the schema."""
    if isinstance(part, msgspec.inspect.StructType):
        names = {"Ratio": "Factor"}
        found[names.get(part.cls.__name__, part.cls.__name__)] = part.cls
        for field in part.fields:
            parts_of(field.type, found)
    for inner in getattr(part, "types", ()) or [getattr(part, "item_type", None)]:
        if inner is not None:
            parts_of(inner, found)
    return found


PARTS = parts_of(msgspec.inspect.type_info(Program), {})


class Club:
    """A shop with points that are earned at once (STAR) or once they vest (LATE), and two members."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.shop = world.add_merchant("Shop")
        self.alice, self.bob = world.add_members(2)
        self.star = make_program(
            formulas=(Formula(formula="miles", quantity="miles", bands=make_program().bands),),
            grants=(
                GrantRule(activity="photo", evidence=True, max_points=10),
                GrantRule(activity="survey", scored=True, max_points=0, limit=Limit(count=1, period="day")),
            ),
            multipliers=(
                Multiplier(multiplier="food", times=Ratio(numerator=3, denominator=1), when=When(categories=("food",))),
            ),
            plans=(Plan(plan="plus", days=30, price=990),),
            purchase_within_days=30,
            referral=Referral(points=40),
            reminders=Reminders(balance="month"),
            rewards=(
                Reward(reward="cup", price=10, stock=3, valid_days=2),
                Reward(reward="bag", price=20, when=When(tiers=("gold",))),
            ),
            tiers=Tiers(
                basis="visits",
                period="month",
                levels=(TierLevel(tier="green", from_count=0), TierLevel(tier="gold", from_count=5)),
            ),
        )
        world.add_asset(self.shop, "STAR", self.star)
        sticker = Reward(reward="sticker", price=4, automatic=True, stock=3)
        world.add_asset(self.shop, "LATE", make_program(vesting_days=1, rewards=(sticker,)))

    def purchase(self, order: str, amount: int, member: Wallet | None = None, **fields: Any) -> Purchase:
        fields.setdefault("at", START)
        return Purchase(amount=amount, member=str((member or self.alice).account), order=order, **fields)

    def record(self, asset: str, *bought: Purchase) -> SignedOperation:
        return self.shop.sign(RecordPurchases, asset=asset, currency="USD", purchases=bought)

    def enroll(self, member: Wallet, **fields: Any) -> SignedOperation:
        return member.sign(Enroll, asset="STAR", **fields)

    def grant(self, activity: str, reference: str, **fields: Any) -> SignedOperation:
        given = {"activity": activity, "reference": reference, "member": self.alice.account}
        return self.shop.sign(Grant, asset="STAR", **given | fields)

    def redeem(self, amount: int, member: Wallet | None = None, **fields: Any) -> SignedOperation:
        return (member or self.alice).sign(Redeem, asset="STAR", amount=amount, merchant=self.shop.account, **fields)

    def refund(self, amount: int, *lines: tuple[int, int], order: str = "o1") -> SignedOperation:
        of = RefundedPurchase(
            amount=amount, order=order, lines=tuple(RefundedLine(line=line, amount=part) for line, part in lines)
        )
        return self.shop.sign(Refund, asset="STAR", of=of, reference=f"refund-{amount}")

    def plan(self, kind: Any, **fields: Any) -> SignedOperation:
        return self.shop.sign(kind, asset="STAR", member=self.alice.account, **fields)

    def pool(self) -> SignedOperation:
        return self.alice.sign(FormPool, asset="STAR", members=(str(self.bob.account),), co_signers=self.bob.keys)


@pytest.fixture
def club(tmp_path: Path) -> Iterator[Club]:
    with World(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as world:
        yield Club(world)


@pytest.fixture
def service(club: Club, tmp_path: Path) -> Iterator[Service]:
    with running(club.world, tmp_path, graphiql=False) as service:
        yield service


def done(service: Service, signed: SignedOperation, more: str = "") -> Any:
    """The payload of an operation that is recorded."""
    payload = service.submit(signed, more)
    assert payload["userErrors"] == []
    return payload


PROGRAM = schema._schema.type_map["Program"]


def read_back(service: Service, asset: str, version: int) -> Any:
    """Everything the API tells of a program version."""
    assert isinstance(PROGRAM, GraphQLObjectType)
    asked = selection(PROGRAM)
    query = f"query($id: ID!) {{ node(id: $id) {{ ... on Program {{ {asked} }} }} }}"
    return service.query(query, {"id": f"prg_{asset}_{version}"})["node"]


def test_program_is_read_back_as_it_was_published(club: Club, service: Service) -> None:
    """Typed in and typed out: no part of the language is lost on either way."""
    club.world.add_asset(club.shop, "RANK", make_program())
    club.world.add_asset(club.shop, "FULL", make_program(time_zone="Europe/Berlin"))
    program = msgspec.convert(EVERY_PART, Program)
    signed = club.shop.sign(PublishProgram, asset="FULL", version=2, starts="2026-04-01T00:00:00.000Z", program=program)
    done(service, signed)
    answer = read_back(service, "FULL", 2)
    assert json.loads(answer["document"]) == EVERY_PART
    assert answer["document"] == msgspec.json.encode(program, order="sorted").decode()
    assert isinstance(PROGRAM, GraphQLObjectType)
    expected = {name: part for name, part in EVERY_PART.items() if name != "expiry"}
    assert document_of(PROGRAM, answer, Program) == expected
    assert answer["expiry"] == {"after": "YEAR_END", "count": 1}


@pytest.mark.parametrize(
    ("expiry", "after", "count"),
    [
        (ExpiresAtMonthEnd(count=6), "MONTHS_END", 6),
        (ExpiresAtMembershipYearEnd(count=1), "MEMBERSHIP_YEAR_END", 1),
        (ExpiresAfterInactivity(months=18), "INACTIVITY", 18),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_rules_of_expiry_are_published_and_told(
    expiry: Any, after: str, count: int, club: Club, service: Service
) -> None:
    """Those that programs brought; months of inactivity are a count, too."""
    program = make_program(expiry=expiry)
    signed = club.shop.sign(PublishProgram, asset="STAR", version=2, starts="2026-04-01T00:00:00.000Z", program=program)
    payload = done(service, signed, "program { expiry { after count } }")
    assert payload["program"]["expiry"] == {"after": after, "count": count}


MEMBERSHIP = (
    "membership { asset accountId joinedOn purchases formula invitedById notedTier "
    "plan { plan from until isActive } pool { memberIds } }"
)


def member_now(club: Club, **changes: Any) -> dict[str, Any]:
    """A membership of Alice's that has nothing but what is said."""
    plain = {
        "asset": "STAR",
        "accountId": club.alice.account,
        "joinedOn": "2026-03-02",
        "purchases": 0,
        "formula": None,
        "invitedById": None,
        "notedTier": "green",
        "plan": None,
        "pool": None,
    }
    return plain | changes


def test_enrollment_tells_the_membership(club: Club, service: Service) -> None:
    payload = done(service, club.enroll(club.alice, formula="miles", invited_by=club.bob.account), MEMBERSHIP)
    told = member_now(club, formula="miles", invitedById=club.bob.account)
    assert payload["membership"] == told
    changed = done(service, club.enroll(club.alice), MEMBERSHIP)["membership"]
    assert changed == told | {"formula": None}


def test_purchase_has_all_that_conditions_ask_for(club: Club, service: Service) -> None:
    """Lines, a channel, a tender and quantities are signed, recorded, and count for the points."""
    lines = (PurchaseLine(amount=1_000, category="food", product="sku-1"), PurchaseLine(amount=500))
    bought = club.purchase(
        "o1", 1_500, lines=lines, channel="web", tender="cash", quantities=(Quantity(name="miles", quantity=7),)
    )
    payload = done(service, club.record("STAR", bought), "pointsIssued pending { order } vouchers { id }")
    assert decode_entry(payload["entry"]["document"].encode()).op.purchases == (bought,)  # type: ignore[union-attr]
    assert payload["pointsIssued"] == 35
    assert payload["pending"] == payload["vouchers"] == []
    refunded = done(service, club.refund(600, (0, 500), (1, 100)), "pointsTakenBack")
    assert refunded["pointsTakenBack"] == 16


def test_points_that_vest_are_told_twice(club: Club, service: Service) -> None:
    """What will vest when they are promised; what is issued, and had for it, when they have."""
    pending = "pending { merchantId order points vestsOn lastDay } vouchers { reward }"
    bought = [club.purchase("o1", 900), club.purchase("o2", 100, club.bob)]
    payload = done(service, club.record("LATE", *bought), f"pointsIssued {pending}")
    assert payload["pointsIssued"] == 0
    assert payload["vouchers"] == []
    waiting = {"merchantId": club.shop.account, "vestsOn": "2026-03-03", "lastDay": None}
    assert payload["pending"] == [{**waiting, "order": "o1", "points": 9}, {**waiting, "order": "o2", "points": 1}]
    named = tuple(PurchaseRef(merchant=str(club.shop.account), order=order) for order in ("o1", "o2"))
    early = service.submit(club.shop.sign(Vest, asset="LATE", purchases=named))
    assert [error["code"] for error in early["userErrors"]] == ["NOTHING_DUE"]
    club.world.clock.advance(days=1)
    signed = club.shop.sign(Vest, asset="LATE", purchases=named)
    vested = done(service, signed, "pointsIssued vouchers { reward price accountId status }")
    assert vested["pointsIssued"] == 10
    sticker = {"reward": "sticker", "price": 4, "accountId": club.alice.account, "status": "ISSUED"}
    assert vested["vouchers"] == [sticker, sticker]
    again = service.submit(signed, "pointsIssued vouchers { reward }")
    assert (again["pointsIssued"], again["vouchers"], again["replayed"]) == (10, [], True)


def test_activity_has_its_evidence_and_score(club: Club, service: Service) -> None:
    """An amount of nothing is an achievement, and is left out of the document, whatever the input says."""
    assert done(service, club.grant("photo", "p1", amount=3, evidence="ab" * 32))["entry"]
    survey = club.grant("survey", "s1", score=9)
    payload = service.submit(survey, amount=0)
    assert payload["userErrors"] == []
    assert '"amount"' not in json.dumps(json.loads(payload["entry"]["document"])["op"])
    assert service.submit(survey)["replayed"]


VOUCHER = "id seq index accountId asset merchantId reward price worth lastDay status usedEntryId"


def had_cup(club: Club, service: Service) -> Any:
    """Alice buys for 100 points and has a cup for 10 of them; the payload of that."""
    done(service, club.record("STAR", club.purchase("o1", 10_000)))
    return done(service, club.redeem(10, reward="cup"), f"balance vouchers {{ {VOUCHER} }}")


def test_reward_gives_a_voucher_that_is_used_once(club: Club, service: Service) -> None:
    payload = had_cup(club, service)
    assert payload["balance"] == 90
    seq = payload["entry"]["seq"]
    voucher = {
        "id": f"vch_{seq}_0",
        "seq": seq,
        "index": 0,
        "accountId": club.alice.account,
        "asset": "STAR",
        "merchantId": club.shop.account,
        "reward": "cup",
        "price": 10,
        "worth": None,
        "lastDay": "2026-03-04",
        "status": "ISSUED",
        "usedEntryId": None,
    }
    assert payload["vouchers"] == [voucher]
    signed = club.shop.sign(UseVoucher, voucher=VoucherRef(seq=seq, index=0), reference="bill-1")
    used = done(service, signed, f"voucher {{ {VOUCHER} }}")
    assert used["voucher"] == voucher | {"status": "USED", "usedEntryId": used["entry"]["id"]}
    assert service.submit(signed, "voucher { id }")["voucher"] is None


def test_plan_is_started_put_off_and_ended(club: Club, service: Service) -> None:
    started = done(service, club.plan(StartPlan, plan="plus", reference="p1"), MEMBERSHIP)
    plan = {"plan": "plus", "from": "2026-03-02", "until": "2026-03-31", "isActive": True}
    assert started["membership"] == member_now(club, plan=plan)
    longer = done(service, club.plan(StartPlan, plan="plus", reference="p2"), MEMBERSHIP)["membership"]
    assert longer["plan"] == plan | {"until": "2026-04-30"}
    ended = done(service, club.plan(EndPlan, reason="refunded"), MEMBERSHIP)
    assert ended["membership"] == member_now(club)


def test_pool_is_formed_spent_from_and_left(club: Club, service: Service) -> None:
    """Both sign; each gives in proportion to what it has; and where one is left there is no pool."""
    done(service, club.record("STAR", club.purchase("o1", 9_000), club.purchase("o2", 3_000, club.bob)))
    members = [club.alice.account, club.bob.account]
    assert done(service, club.pool(), "pool { asset memberIds }")["pool"] == {"asset": "STAR", "memberIds": members}
    spent = done(service, club.redeem(40, club.bob, from_pool=True), "balance moved: entry { postings { amount } }")
    assert sorted(leg["amount"] for leg in spent["moved"]["postings"]) == [-30, -10, 40]
    left = done(service, club.alice.sign(LeavePool, asset="STAR"), MEMBERSHIP)
    assert left["membership"] == member_now(club, purchases=1)


def test_tiers_are_reviewed_and_members_reminded(club: Club, service: Service) -> None:
    """A month later gold is over: a review notes it, and tells of all it named how they stand."""
    done(service, club.record("STAR", *(club.purchase(f"o{i}", 500) for i in range(5))))
    club.world.clock.advance(days=31)
    named = tuple(sorted((str(club.alice.account), str(club.bob.account))))
    review = club.shop.sign(ReviewTiers, asset="STAR", members=named)
    payload = done(service, review, "memberships { accountId notedTier purchases }")
    assert payload["memberships"] == [{"accountId": club.alice.account, "notedTier": "green", "purchases": 5}]
    again = club.shop.sign(ReviewTiers, asset="STAR", members=named)
    assert service.submit(again)["userErrors"][0]["code"] == "NOTHING_DUE"
    assert service.submit(review, "memberships { purchases }")["memberships"] == []
    remind = club.world.operator.sign(Remind, about="balance", asset="STAR", members=named)
    told = done(service, remind, "reminders { accountId asset about points day tier sentence entryId seq }")
    assert told["reminders"] == [
        {
            "accountId": club.alice.account,
            "asset": "STAR",
            "about": "BALANCE",
            "points": 25,
            "day": None,
            "tier": None,
            "sentence": "You have 25 STAR to spend.",
            "entryId": told["entry"]["id"],
            "seq": told["entry"]["seq"],
        }
    ]
    assert service.submit(remind, "reminders { points }")["reminders"] == []


def test_rule_between_parts_names_the_place(club: Club, service: Service) -> None:
    """A program whose birthday names no activity of its own is refused, with the place of it in the input."""
    fields: dict[str, Any] = {"asset": "STAR", "version": 2, "starts": "2026-04-01T00:00:00.000Z"}
    good = make_program(
        birthday=Birthday(activity="birthday", points=5), grants=(GrantRule(activity="birthday", max_points=5),)
    )
    signed = club.shop.sign(PublishProgram, program=good, **fields)
    typed = typed_input(signed)
    typed["program"]["birthday"]["activity"] = "party"
    document = (
        "mutation($input: ProgramSubmitInput!) { programSubmit(input: $input) { userErrors { code path message } } }"
    )
    (error,) = service.query(document, {"input": typed})["programSubmit"]["userErrors"]
    assert (error["code"], error["path"]) == ("MALFORMED", ["input", "program", "birthday", "activity"])
    assert error["message"] == "the program grants nothing for party"


Make = Callable[[Club, Service], SignedOperation]


def _after(*make: Callable[[Club], SignedOperation], then: Callable[[Club], SignedOperation]) -> Make:
    def build(club: Club, service: Service) -> SignedOperation:
        for each in make:
            done(service, each(club))
        return then(club)

    return build


def used(club: Club, service: Service, days: int = 0, times: int = 1) -> SignedOperation:
    """A voucher's use, so many days after it was had."""
    seq = had_cup(club, service)["entry"]["seq"]
    club.world.clock.advance(days=days)
    for i in range(times - 1):
        done(service, club.shop.sign(UseVoucher, voucher=VoucherRef(seq=seq, index=0), reference=f"b{i}"))
    return club.shop.sign(UseVoucher, voucher=VoucherRef(seq=seq, index=0))


def partly_refunded(club: Club, service: Service) -> SignedOperation:
    """A refund of a part of what two cups were had for."""
    done(service, club.record("STAR", club.purchase("o1", 10_000)))
    had = club.redeem(20, reward="cup")
    done(service, had)
    of = RefundedRedemption(amount=10, operation=had.op_id.hex())
    return club.shop.sign(Refund, asset="STAR", of=of, reference="r1")


REFUSALS: dict[str, tuple[Make, list[str], dict[str, Any]]] = {
    "PURCHASE_TOO_OLD": (
        lambda c, _: c.record("STAR", c.purchase("o1", 100, at="2026-01-30T12:00:00.000Z")),
        ["purchases", "0", "at"],
        {"__typename": "PurchaseTooOldError", "purchaseWithinDays": 30, "days": 31},
    ),
    "ALREADY_ENROLLED": (_after(lambda c: c.enroll(c.alice), then=lambda c: c.enroll(c.alice)), ["formula"], {}),
    "UNKNOWN_FORMULA": (lambda c, _: c.enroll(c.alice, formula="bus"), ["formula"], {}),
    "INVITED_TOO_LATE": (
        _after(
            lambda c: c.record("STAR", c.purchase("o1", 100)),
            then=lambda c: c.enroll(c.alice, invited_by=c.bob.account),
        ),
        ["invitedBy"],
        {},
    ),
    "LIMIT_REACHED": (
        _after(
            lambda c: c.grant("survey", "s1", score=1),
            then=lambda c: c.grant("survey", "s2", score=2),
        ),
        ["activity"],
        {"__typename": "LimitReachedError", "count": 1, "period": "DAY"},
    ),
    "EVIDENCE_MISSING": (lambda c, _: c.grant("photo", "p1", amount=1), ["evidence"], {}),
    "EVIDENCE_UNEXPECTED": (
        lambda c, _: c.grant("survey", "p1", score=1, evidence="ab" * 32),
        ["evidence"],
        {},
    ),
    "EVIDENCE_USED": (
        _after(
            lambda c: c.grant("photo", "p1", amount=1, evidence="ab" * 32),
            then=lambda c: c.grant("photo", "p2", amount=1, evidence="ab" * 32, member=c.bob.account),
        ),
        ["evidence"],
        {"__typename": "ReferenceUsedError"},
    ),
    "SCORE_MISSING": (lambda c, _: c.grant("survey", "s1"), ["score"], {}),
    "SCORE_UNEXPECTED": (lambda c, _: c.grant("photo", "p1", amount=1, evidence="ab" * 32, score=1), ["score"], {}),
    "UNKNOWN_REWARD": (lambda c, _: c.redeem(10, reward="car"), ["reward"], {}),
    "REWARD_UNAVAILABLE": (lambda c, _: c.redeem(20, reward="bag"), ["reward"], {}),
    "PRICE_MISMATCH": (
        lambda c, _: c.redeem(15, reward="cup"),
        ["amount"],
        {"__typename": "PriceMismatchError", "price": 10},
    ),
    "PRICE_MISMATCH of a refund": (
        partly_refunded,
        ["of", "redemption", "amount"],
        {"__typename": "PriceMismatchError", "price": 20},
    ),
    "OUT_OF_STOCK": (
        _after(
            lambda c: c.record("STAR", c.purchase("o1", 10_000)),
            lambda c: c.redeem(20, reward="cup"),
            then=lambda c: c.redeem(20, reward="cup"),
        ),
        ["reward"],
        {"__typename": "OutOfStockError", "left": 1},
    ),
    "UNKNOWN_VOUCHER": (
        lambda c, _: c.shop.sign(UseVoucher, voucher=VoucherRef(seq=3, index=0)),
        ["voucher"],
        {},
    ),
    "VOUCHER_CLOSED": (lambda c, s: used(c, s, times=2), ["voucher"], {}),
    "VOUCHER_EXPIRED": (
        lambda c, s: used(c, s, days=3),
        ["voucher"],
        {"__typename": "VoucherExpiredError", "lastDay": "2026-03-04"},
    ),
    "UNKNOWN_PLAN": (lambda c, _: c.plan(StartPlan, plan="gold", reference="p1"), ["plan"], {}),
    "NO_PLAN": (lambda c, _: c.plan(EndPlan, reason="other"), ["member"], {}),
    "NO_POOL": (lambda c, _: c.redeem(1, from_pool=True), ["fromPool"], {}),
    "ALREADY_POOLED": (_after(lambda c: c.pool(), then=lambda c: c.pool()), ["actor"], {}),
    "UNKNOWN_LINE": (
        _after(
            lambda c: c.record("STAR", c.purchase("o1", 1_000)),
            then=lambda c: c.refund(100, (0, 100)),
        ),
        ["of", "purchase", "lines", "0", "line"],
        {"__typename": "UnknownLineError", "lines": 0},
    ),
    "SIGNATURE_MISSING": (
        lambda c, _: c.alice.sign(FormPool, asset="STAR", members=(str(c.bob.account),)),
        ["signatures"],
        {},
    ),
}


@pytest.mark.parametrize("code", REFUSALS)
def test_refusal_is_typed_and_names_the_field(code: str, club: Club, service: Service) -> None:
    """Code, the place in the input's own spelling, and what a program can act on."""
    make, place, details = REFUSALS[code]
    (error,) = service.submit(make(club, service))["userErrors"]
    assert error["code"] == code.partition(" ")[0]
    assert error["path"] == ["input", *place]
    assert {"__typename": "OperationRefusedError"} | details == {
        "__typename": error["__typename"],
        **{name: error[name] for name in details},
    }
    assert not error["retryable"]


def test_events_of_programs_are_told_to_whom_they_concern(club: Club, service: Service) -> None:
    """A member is told what its shop does about it, and the shop what is done in its program; others are not."""
    asked: dict[str, SignedOperation] = {
        "member.enrolled": club.enroll(club.alice, invited_by=club.bob.account),
        "plan.started": club.plan(StartPlan, plan="plus", reference="p1"),
        "plan.ended": club.plan(EndPlan, reason="other"),
        "pool.formed": club.pool(),
        "pool.left": club.alice.sign(LeavePool, asset="STAR"),
    }
    seqs = {event: done(service, signed)["entry"]["seq"] for event, signed in asked.items()}
    stranger = club.world.add_merchant("Other")
    everything = dict.fromkeys(asked, True)
    told = {"shop": everything, "alice": everything, "other": {}}
    told["bob"] = dict.fromkeys(["member.enrolled", "pool.formed", "pool.left"], True)
    people = {"shop": club.shop, "alice": club.alice, "bob": club.bob, "other": stranger}
    assert {name: dict.fromkeys(events_of(club.world, wallet, seqs), True) for name, wallet in people.items()} == told


def events_of(world: World, wallet: Wallet, seqs: dict[str, int]) -> list[str]:
    """Which of these entries an account is told of, by the types of their events."""
    store = world.store
    with store.read() as connection:
        (account,) = store.accounts(connection, [str(wallet.account)])
        reader = reader_of(store, connection, account)
        found, _ = events_from(store, connection, reader, None, first_seq=min(seqs.values()), limit=100)
    return [event.type for event in found if seqs.get(event.type) == event.seq]


def test_preview_of_a_pool_tells_nobody_who_is_in_one(club: Club, service: Service) -> None:
    """It asks for no signatures, so what it says of other members is for those who may know it anyway."""
    done(service, club.pool())
    stranger = club.world.add_member()
    op = stranger.build(FormPool, asset="STAR", members=(str(club.bob.account),))
    document = encode_operation(op).decode()
    ask = "query($text: String!) { operationPreview(input: {document: $text}) { operationId userErrors { code } } }"
    told = {
        name: service.query(ask, {"text": document}, service.sign_in(wallet))["operationPreview"]["userErrors"]
        for name, wallet in {"stranger": stranger, "shop": club.shop}.items()
    }
    assert told == {"stranger": [], "shop": [{"code": "ALREADY_POOLED"}]}
