"""A simulation of programs: whatever a program may say, and whatever members do, against the reference verifier.

The reference (:mod:`tests.reference_verifier`) is written from FORMAT.md and shares no code with the rules. Programs
are drawn at random from all parts of the language. Every outcome must be the reference's, the same postings or a
refusal with the same code, and from time to time all that is known of members must be the same too. A history is known
by its seed, and is decided by the rules alone, without a database; each decision is taken on what it touches as well
(:mod:`tests.rulebook`). Some histories are then handed to a ledger, in batches, and stored.
"""

import hashlib
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import date, timedelta
from typing import Any, Self, TypeVar

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.encoding import encode_canonical
from ledger.entries import NO_LAST_DAY
from ledger.keys import encode_public_key
from ledger.operations import MalformedError, SignedOperation, decode_operation
from ledger.program_terms import Program
from ledger.programs import ProgramVersion
from ledger.rules import authority_of
from ledger.sequencer import Recorded, Sequencer, create_ledger
from ledger.state import ORDER_SCOPE, RECORDS, Admission, Code, Decision, Spending
from ledger.store import Store, open_engine
from tests import reference_verifier as reference
from tests.migrated import make_tables
from tests.reference import check_projections, check_record
from tests.rulebook import DAY_MS, ORIGIN, Book, acceptance, claim, earning, exchange
from tests.worlds import Clock

T = TypeVar("T")
Fields = dict[str, Any]

ZONES = ("UTC", "America/New_York", "Pacific/Kiritimati", "Europe/Berlin")
LEVELS = ("basic", "silver", "gold", "black")
CATEGORIES, PRODUCTS, TENDERS, CHANNELS = ("coffee", "food", "tax"), ("P-1", "P-2"), ("card", "cash"), ("shop", "web")
FORMULAS, PLANS, REWARDS, ACTIVITIES = (
    ("miles", "per_buck"),
    ("club", "prime"),
    ("cup", "mug", "auto"),
    ("visit", "quiz"),
)
PERIODS = ("day", "month", "year", "ever")
WEIGHTS = {
    "record_purchases": 30,
    "grant": 10,
    "refund": 16,
    "redeem": 14,
    "enroll": 6,
    "vest": 6,
    "review_tiers": 4,
    "start_plan": 5,
    "end_plan": 3,
    "form_pool": 4,
    "leave_pool": 1,
    "use_voucher": 5,
    "remind": 4,
    "transfer": 4,
    "hold": 4,
    "capture": 3,
    "release": 1,
    "exchange": 5,
    "correct": 4,
    "expire": 3,
    "publish_program": 1,
    "freeze": 1,
    "unfreeze": 2,
}
"""How often each kind is drawn."""

KINDS_OF_PROGRAMS = {"enroll", "vest", "review_tiers", "start_plan", "end_plan", "form_pool", "leave_pool"}
KINDS_OF_PROGRAMS |= {"use_voucher", "remind"}
CODES_OF_PROGRAMS = {
    *("PURCHASE_TOO_OLD", "ALREADY_ENROLLED", "UNKNOWN_FORMULA", "INVITED_TOO_LATE", "LIMIT_REACHED"),
    *("EVIDENCE_MISSING", "EVIDENCE_USED", "EVIDENCE_UNEXPECTED", "SCORE_MISSING", "SCORE_UNEXPECTED"),
    *("UNKNOWN_REWARD", "REWARD_UNAVAILABLE", "OUT_OF_STOCK", "PRICE_MISMATCH", "UNKNOWN_VOUCHER", "VOUCHER_CLOSED"),
    *("VOUCHER_EXPIRED", "UNKNOWN_PLAN", "NO_PLAN", "NO_POOL", "ALREADY_POOLED", "UNKNOWN_LINE"),
}
"""What only programs need in which more than the amount counts, and what only then can be refused."""


class Drawing:
    """Programs and what they are made of, drawn from one generator."""

    def __init__(self, pick: random.Random) -> None:
        self.pick = pick

    def one(self, choices: Sequence[T]) -> T:
        return self.pick.choice(choices)

    def chance(self, percent: int) -> bool:
        return self.pick.randrange(100) < percent

    def some(self, choices: Sequence[T]) -> list[T]:
        return self.pick.sample(choices, self.pick.randint(1, len(choices)))

    def maybe(self, percent: int, draw: Callable[[], T]) -> T | None:
        return draw() if self.chance(percent) else None

    def yes(self, percent: int) -> bool | None:
        return True if self.chance(percent) else None

    def program(self, *, zone: str, merchants: Sequence[str]) -> Fields:
        """A program as plain data; most of the parts that there are, in most of them."""
        tiers = self.maybe(65, self._tiers)
        plans = [{"days": self.one([1, 30]), "plan": plan, "price": 500} for plan in PLANS] if self.chance(40) else None

        def when(*, purchase: bool = True, percent: int = 75) -> Fields | None:
            return self._when(tiers, plans, merchants, purchase=purchase) if self.chance(percent) else None

        def parts(name: str, names: Sequence[str], draw: Callable[[], Fields], percent: int) -> list[Fields] | None:
            if not self.chance(percent):
                return None
            return [dropped({name: each, "when": when(), **draw()}) for each in self.some(names)]

        multipliers = parts("multiplier", ("double", "half", "tiered"), lambda: {"times": self._times()}, 60)
        fields = {
            "bands": self._bands(),
            "bonuses": parts("bonus", ("hello", "more"), lambda: {"points": self.one([1, 25, 300])}, 45),
            "currency": "USD",
            "earning_cap": self.maybe(25, lambda: {"period": self.one(PERIODS), "points": self.one([50, 400])}),
            "excluded_categories": self.maybe(40, lambda: self.one([["tax"], ["food", "tax"]])),
            "expiry": self._expiry(),
            "formulas": self.maybe(45, self._formulas),
            "grants": self._grants(),
            "multipliers": multipliers,
            "plans": plans,
            "purchase_within_days": self.maybe(20, lambda: self.one([0, 20])),
            "referral": self.maybe(50, lambda: dropped({"limit": self._limit(), "points": self.one([10, 150])})),
            "refunds": self.one([None, "negative", "owe"]),
            "reminders": self.maybe(50, self._reminders),
            "returned_lot_days": self.one([None, 10]),
            "rewards": self.maybe(75, lambda: self._rewards(when)),
            "round_amount": self.one(["none", "whole_units"]),
            "round_points": self.one(["down", "half_up", "half_even", "up"]),
            "stacking": self.one([None, "sum", "product"]) if multipliers else None,
            "status_asset": self.maybe(40, lambda: "XP"),
            "tiers": tiers,
            "time_zone": zone,
            "vesting_days": self.maybe(35, lambda: self.one([1, 14])),
        }
        return dropped(fields)

    def plain_program(self, *, zone: str) -> Fields:
        """A program in which points depend on the amount alone."""
        amounts = {"round_amount": "none", "round_points": "half_up"}
        expiry = self.one([{"after": "never"}, {"after": "days", "count": 30}])
        return {"bands": self._bands(), "currency": "USD", "expiry": expiry, "time_zone": zone, **amounts}

    def _bands(self) -> list[Fields]:
        bands = [{"from": 0, "per": self.one([70, 100]), "points": self.one([1, 3])}]
        return bands + ([{"from": 5_000, "per": 30, "points": 2}] if self.chance(40) else [])

    def _formulas(self) -> list[Fields]:
        found = [{"bands": self._bands(), "formula": "per_buck"}]
        found.append({"bands": [{"from": 0, "per": 7, "points": 1}], "formula": "miles", "quantity": "miles"})
        return self.some(found)

    def _expiry(self) -> Fields:
        return self.one(
            [
                {"after": "never"},
                {"after": "days", "count": self.one([3, 40])},
                {"after": "months_end", "count": self.one([0, 2])},
                {"after": "membership_year_end", "count": self.one([0, 1])},
                {"after": "inactivity", "months": self.one([1, 3])},
                {"after": "inactivity", "months": self.one([1, 3])},
            ]
        )

    def _tiers(self) -> Fields:
        first = self.one([0, 1, 100])
        names = LEVELS[: self.one([1, 2, 3, 4])]
        levels = [
            dropped(
                {
                    "from": first + i * self.one([2, 300]) * (i + 1),
                    "never_expires": self.yes(15),
                    "tier": name,
                }
            )
            for i, name in enumerate(names)
        ]
        froms = sorted({level["from"] for level in levels})
        return dropped(
            {
                "basis": self.one(["amount", "points", "status", "visits"]),
                "drop": self.one([None, "one_level"]),
                "grace_days": self.one([None, None, 5, 45]),
                "kept": self.one([None, 1, 2]),
                "levels": [{**level, "from": at} for level, at in zip(levels, froms, strict=False)],
                "period": self.one(["calendar_year", "membership_year", "month", "month"]),
                "window": self.one([None, None, 3]),
            }
        )

    def _times(self) -> Fields:
        numerator, denominator = self.one([(2, 1), (5, 4), (1, 3), (0, 1), (3, 1)])
        return {"denominator": denominator, "numerator": numerator}

    def _limit(self) -> Fields | None:
        return self.maybe(50, lambda: {"count": self.one([1, 2]), "period": self.one(PERIODS)})

    def _grants(self) -> list[Fields]:
        rules = [{"activity": "goodwill", "max_points": 500}]
        rules += [
            dropped(
                {
                    "activity": activity,
                    "evidence": self.yes(40),
                    "limit": self._limit(),
                    "max_points": self.one([0, 60]),
                    "scored": self.yes(40),
                }
            )
            for activity in ACTIVITIES
        ]
        return rules

    def _reminders(self) -> Fields:
        days = self.maybe(70, lambda: self.some([30, 3, 10]))
        found = {
            "balance": self.one([None, "month", "year"]),
            "expiring_days": days,
            "new_tier": self.yes(60),
        }
        return dropped(found) or {"new_tier": True}

    def _rewards(self, when: Callable[..., Fields | None]) -> list[Fields]:
        found = []
        for reward in self.some(REWARDS):
            fields = {"limit": self._limit(), "price": self.one([20, 50]), "reward": reward}
            fields |= {"stock": self.maybe(40, lambda: self.one([0, 3])), "valid_days": self.one([None, 0, 20])}
            fields |= {"automatic": True if reward == "auto" else None, "worth": self.one([None, 500])}
            found.append(dropped({**fields, "when": when(purchase=False, percent=40)}))
        return found

    def _when(self, tiers: Fields | None, plans: Any, merchants: Sequence[str], *, purchase: bool) -> Fields:
        """One thing to ask, or two."""
        asks: list[Fields] = [
            {"weekdays": self.some(["mon", "tue", "fri", "sun"])},
            {"from_day": "2026-03-10"},
            {"through_day": "2026-06-01"},
            {"within_days": self.one([1, 30])},
            {"invited": True},
        ]
        if tiers:
            asks += 3 * [{"tiers": self.some([level["tier"] for level in tiers["levels"]])}]
        if plans:
            asks += 2 * [{"plans": self.some([plan["plan"] for plan in plans])}]
        if purchase:
            asks += [
                {"categories": self.some(["coffee", "food"])},
                {"categories": ["coffee"]},
                {"products": self.some(PRODUCTS)},
                {"channels": self.some(CHANNELS)},
                {"tenders": self.some(TENDERS)},
                {"merchants": self.some(merchants)},
                {"first_purchase": True},
                {"from_amount": self.one([500, 3_000])},
            ]
        return {**self.one(asks), **(self.one(asks) if self.chance(25) else {})}


def dropped(fields: Fields) -> Fields:
    """Fields without those that are not there."""
    return {name: value for name, value in fields.items() if value is not None}


class Trusting(reference.Replica):
    """The reference, to which nothing needs to be signed."""

    def _check_authority(self, op: dict[str, Any], signers: set[str], time: str) -> None:
        pass

    def _check_approval(self, party: str, time: str) -> None:
        pass


class Club(Book):
    """An issuer with a program, a partner that gives its points too, and members; see the module.

    ``outcomes`` counts what became of operations: the kind, and the code of the refusal or ``None``.
    """

    def __init__(self, seed: int) -> None:
        self.replica = Trusting("ledger.example/rules")
        super().__init__()
        self.pick = random.Random(seed)
        self.draw = Drawing(self.pick)
        self.outcomes: Counter[tuple[str, Code | None]] = Counter()
        self._references = 0
        self.shop, self.cafe = self.merchant("Shop"), self.merchant("Cafe")
        self.members = [self.member() for _ in range(3)] + [self.member(self.shop)]
        self.zone = self.draw.one(ZONES)
        value = {"amount": 2, "currency": "USD", "points": 3}
        self.asset(self.shop, "XP", None, transferable=False)
        if self.draw.chance(60):
            self._publish("XP", self.draw.plain_program(zone="UTC") | {"expiry": self.draw._expiry()})
        self.asset(self.shop, "STAR", None, value=value, supply_cap=self.draw.one([None, None, 20_000]))
        self._publish("STAR", self._program())
        self.asset(self.cafe, "BEAN", None, value=value)
        self._publish("BEAN", self.draw.plain_program(zone=self.zone) | {"expiry": self.draw._expiry()})
        kept = self.draw.one(["kept", "retired"])
        self.agree(self.shop, self.cafe, acceptance("STAR", received=kept, claim=claim(self.cafe)))
        billing = self.draw.one(["prepaid", "postpaid"])
        self.agree(self.shop, self.cafe, earning("STAR", billing, claim=claim(self.cafe)))
        self.agree(self.shop, self.cafe, exchange("STAR", "BEAN", give=2, received=kept))
        if billing == "prepaid":
            self.do("allot", actor=self.shop, asset="STAR", partner=self.cafe, points=2_000, reference="block")

    def _program(self) -> Fields:
        if self.draw.chance(8):
            return self.draw.plain_program(zone=self.zone)
        return self.draw.program(zone=self.zone, merchants=[self.shop, self.cafe])

    def _publish(self, asset: str, program: Fields) -> None:
        versions = len(self.state.programs.get(asset, ()))
        issuer = self.state.assets[asset].issuer
        starts = self.time if versions else "2025-01-01T00:00:00.000Z"
        self.do("publish_program", actor=issuer, asset=asset, program=program, starts=starts, version=versions + 1)

    # Decided by both

    def decide(self, signed: SignedOperation) -> Decision:
        decision = super().decide(signed)
        refused, postings = "", []
        op = reference.decode(signed.op_bytes)
        reference.check_operation(op)
        try:
            postings = self.replica.decide(op, set(), self.time) if op["kind"] != "genesis" else []
        except reference.RefusedError as error:
            refused = error.code
        if isinstance(decision, Admission):
            assert not refused, f"the reference refuses with {refused}, the rules say {decision} to {op}"
            mine = reference.decode(encode_canonical(decision.postings))
            assert mine == postings, f"rules {mine}, reference {postings}, of {op}"
        else:
            assert refused == decision.code, f"rules {decision}, reference {refused or postings}, of {op}"
        return decision

    def record(self, signed: SignedOperation, admission: Admission) -> None:
        op = reference.decode(signed.op_bytes)
        if op["kind"] == "genesis":
            self.replica._draft = reference.Draft({}, self.replica.kept)
        postings = reference.decode(encode_canonical(admission.postings))
        op_id = hashlib.sha256(signed.op_bytes).digest()
        super().record(signed, admission)
        self.replica.apply(op, op_id, postings, seq=self.seq, time=self.time)

    def act(self) -> None:
        """Let one operation be decided, and recorded if it is admitted; now and then time passes."""
        (kind,) = self.pick.choices(list(WEIGHTS), list(WEIGHTS.values()))
        fields = getattr(self, f"_{kind}")()
        if fields is None:
            return
        try:
            signed = self.build(kind, **fields)
        except MalformedError:
            return
        decision = self.decide(signed)
        self.outcomes[kind, None if isinstance(decision, Admission) else decision.code] += 1
        if isinstance(decision, Admission):
            self.record(signed, decision)
        days = self.draw.one([0] * 25 + [1] * 4 + [2, 7, 31, 40])
        self.advance(days=days, ms=self.pick.randrange(20_000_000) * self.draw.chance(50))

    def play(self, count: int) -> Self:
        """Let so many operations be decided."""
        for number in range(count):
            self.act()
            if number % 50 == 49:
                self.compare()
        self.compare()
        return self

    def compare(self) -> None:
        """What both know of members by now, record by record."""
        state, kept = self.state, self.replica.kept

        def day(value: str | None) -> str | None:
            return NO_LAST_DAY if value in (None, reference.NEVER) else value

        names = ("joined_on", "purchases", "formula", "invited_by", "tier", "plan", "plan_from", "plan_until", "pool")
        assert {
            (each.asset, each.account): {name: getattr(each, name) for name in names} | {"tier_until": each.tier_until}
            for each in state.memberships
        } == {
            key: {name: each[name] for name in names} | {"tier_until": day(each["tier_until"])}
            for key, each in kept["members"].items()
        }
        assert {(p.asset, p.account, p.basis, p.period): p.count for p in state.progress} == kept["progress"]
        counts = ("asset", "account", "points", "vests_on", "status_points", "inviter_points")
        assert {
            (each.merchant, each.order): {name: getattr(each, name) for name in counts} | {"last_day": each.last_day}
            for each in state.pending
        } == {
            key: {name: each[name] for name in counts} | {"last_day": day(each["last_day"])}
            for key, each in kept["pending"].items()
        }
        fields = ("account", "asset", "merchant", "reward", "price", "worth", "status")
        assert {
            (each.seq, each.index): {name: getattr(each, name) for name in fields} | {"last_day": each.last_day}
            for each in state.vouchers
        } == {
            key: {name: each[name] for name in fields} | {"last_day": day(each["last_day"])}
            for key, each in kept["vouchers"].items()
        }
        pools = {each.pool: (each.asset, list(each.members)) for each in state.pools}
        assert pools == {name: (each["asset"], each["members"]) for name, each in kept["pools"].items()}
        used = {(each.scope, each.account, each.period): each.points for each in state.usages if each.points}
        assert used == {key: points for key, points in kept["used"].items() if points}
        assert {(r.asset, r.account, r.about): r.through for r in state.reminded} == kept["reminded"]
        lots = {(*place, lot): points for place, days in state.lots.items() for lot, points in days.items()}
        assert {(a, b, reference.NEVER if lot == NO_LAST_DAY else lot): n for (a, b, lot), n in lots.items()} == {
            key: points for key, points in self.replica.lots.items() if points
        }

    # What is drawn

    def reference(self) -> str:
        """One that is new, nearly always."""
        self._references += not self.draw.chance(4)
        return f"ref-{self._references}"

    def someone(self) -> str:
        return self.draw.one(self.members)

    def version(self, asset: str = "STAR") -> ProgramVersion:
        return self.state.programs[asset][-1]

    def program(self) -> Program:
        return self.version().program

    def actor(self, usual: str) -> str:
        return usual if not self.draw.chance(4) else self.draw.one([self.shop, self.cafe, self.operator, *self.members])

    def _at(self) -> str:
        """When something happened: mostly now."""
        return self.later(days=-self.draw.one([0, 0, 0, 0, 1, 15, 33]), ms=self.draw.one([0, 0, 0, 20_000]))

    def _record_purchases(self) -> Fields:
        purchases = []
        for _ in range(self.draw.one([1, 1, 2, 3])):
            purchase: Fields = {"at": self._at(), "member": self.someone(), "order": self.reference()}
            amounts = [self.draw.one([0, 99, 500, 1_234, 4_999, 12_075]) for _ in range(self.draw.one([1, 2, 3]))]
            purchase["amount"] = sum(amounts)
            if self.draw.chance(65):
                purchase["lines"] = [
                    dropped(
                        {
                            "amount": amount,
                            "category": self.draw.one([None, *CATEGORIES]),
                            "product": self.draw.one([None, *PRODUCTS]),
                        }
                    )
                    for amount in amounts
                ]
            if self.draw.chance(40):
                purchase["quantities"] = [{"name": "miles", "quantity": self.draw.one([0, 3, 700])}]
            purchase |= dropped(
                {"channel": self.draw.one([None, *CHANNELS]), "tender": self.draw.one([None, *TENDERS])}
            )
            purchases.append(purchase)
        orders = {purchase["order"]: purchase for purchase in purchases}
        actor = self.actor(self.draw.one([self.shop, self.shop, self.cafe]))
        return {"actor": actor, "asset": "STAR", "currency": "USD", "purchases": list(orders.values())}

    def _grant(self) -> Fields:
        rule = self.draw.one([*self.program().grants, None])
        wrong = self.draw.chance(10)
        activity = "unheard_of" if rule is None else rule.activity
        evidence = hashlib.sha256(b"%d" % self.pick.randrange(6)).hexdigest()
        amount = min(self.draw.one([0, 10, 60, 120]), 2**53 if rule is None or wrong else rule.max_points)
        scored = (rule is not None and rule.scored) != self.draw.chance(8)
        return {
            "activity": activity,
            "actor": self.actor(self.draw.one([self.shop, self.shop, self.cafe])),
            "amount": amount or None,
            "asset": "STAR",
            "at": self._at(),
            "evidence": evidence if (rule is not None and rule.evidence) != wrong else None,
            "member": self.someone(),
            "reference": self.reference(),
            "score": self.pick.randint(0, 10) if scored else None,
        }

    def _refund(self) -> Fields | None:
        orders = [(key, found) for key, found in self.state.earnings.items() if key[1] == ORDER_SCOPE]
        spendings = list(self.state.spendings)
        if orders and (not spendings or self.draw.chance(70)):
            (merchant, _, order), (asset, earned) = self.draw.one(orders[-25:])
            done = self.state.purchase_refunds.get(merchant, order)
            left = max((earned.amount or 0) - (done.amount if done else 0), 1)
            lines = earned.circumstances.lines if earned.circumstances else ()
            of: Fields = {"amount": self.draw.one([left, left, max(left // 3, 1), left + 1]), "order": order}
            if lines and self.draw.chance(50):
                number = self.pick.randrange(len(lines))
                gone = done.lines[number] if done and done.lines else 0
                there = lines[number].amount - gone
                of["amount"] = max(self.draw.one([there, there, there, there // 2, there + 1]), 1)
                number = number if self.draw.chance(95) else 7
                of["lines"] = [{"amount": of["amount"], "line": number}]
            of["type"] = "purchase"
            return {"actor": self.actor(merchant), "asset": asset, "of": of, "reference": self.reference()}
        if not spendings:
            return None
        spent: Spending = self.draw.one(spendings[-15:])
        left = max(spent.amount - spent.refunded, 1)
        amount = left if spent.reward and self.draw.chance(80) else self.draw.one([left, max(left // 2, 1), left + 1])
        of = {"amount": amount, "operation": spent.operation}
        of["type"] = "exchange" if spent.kind == "exchange" else "redemption"
        return {"actor": self.actor(spent.merchant), "asset": spent.asset, "of": of, "reference": self.reference()}

    def _points(self) -> int:
        return self.draw.one([1, 7, 20, 50, 120, 400])

    def _redeem(self) -> Fields:
        rewards = self.program().rewards
        reward = self.draw.one(rewards) if rewards and self.draw.chance(50) else None
        pooled = [member.account for member in self.state.memberships if member.pool]
        shared = bool(pooled) and self.draw.chance(50)
        amount = self._points() if reward is None or self.draw.chance(10) else reward.price * self.draw.one([1, 1, 2])
        where = self.shop if reward is not None and not self.draw.chance(5) else self.draw.one([self.shop, self.cafe])
        return {
            "actor": self.actor(self.draw.one(pooled) if shared else self.someone()),
            "amount": amount,
            "asset": "STAR",
            "from_pool": True if shared or self.draw.chance(4) else None,
            "merchant": where,
            "reward": None if reward is None else reward.reward if not self.draw.chance(5) else "nothing",
        }

    def _enroll(self) -> Fields:
        formula = self.draw.one([None, *FORMULAS])
        others = [*self.members, self.shop]
        invited = self.draw.one(others) if self.draw.chance(60) else None
        return {"actor": self.actor(self.someone()), "asset": "STAR", "formula": formula, "invited_by": invited}

    def _keeper(self) -> str:
        return self.actor(self.draw.one([self.operator, self.shop]))

    def _vest(self) -> Fields | None:
        pending = [{"merchant": each.merchant, "order": each.order} for each in self.state.pending]
        if self.draw.chance(10):
            pending.append({"merchant": self.shop, "order": self.reference()})
        chosen = self.pick.sample(pending, self.pick.randint(1, len(pending))) if pending else None
        return {"actor": self._keeper(), "asset": "STAR", "purchases": chosen} if chosen else None

    def _review_tiers(self) -> Fields:
        return {"actor": self._keeper(), "asset": "STAR", "members": self.draw.some([*self.members, self.shop])}

    def _remind(self) -> Fields:
        about = self.draw.one(["balance", "expiry", "tier"])
        return {"about": about, **self._review_tiers()}

    def _start_plan(self) -> Fields:
        plan = self.draw.one([plan.plan for plan in self.program().plans] * 3 + ["club"])
        who = {"actor": self.actor(self.shop), "asset": "STAR", "member": self.someone()}
        return {**who, "plan": plan, "reference": self.reference()}

    def _end_plan(self) -> Fields:
        planned = {member.plan_until: member.account for member in self.state.memberships if member.plan_until}
        member = planned[max(planned)] if planned else self.someone()
        return {"actor": self.actor(self.shop), "asset": "STAR", "member": member, "reason": "refunded"}

    def _form_pool(self) -> Fields:
        together = self.draw.some(self.members)
        others = together[1:] or [self.draw.one([self.shop, *self.members])]
        return {"actor": together[0], "asset": self.draw.one(["STAR"] * 9 + ["NOPE"]), "members": others}

    def _leave_pool(self) -> Fields:
        return {"actor": self.someone(), "asset": "STAR"}

    def _use_voucher(self) -> Fields:
        vouchers = [(each.seq, each.index) for each in self.state.vouchers][-12:]
        seq, index = self.draw.one(vouchers) if vouchers and self.draw.chance(97) else (0, 0)
        return {"actor": self.actor(self.shop), "voucher": {"index": index, "seq": seq}}

    def _transfer(self) -> Fields:
        to = self.draw.one([*self.members, self.cafe])
        recipients = [{"amount": self._points(), "to": to}]
        return {"actor": self.actor(self.someone()), "asset": self.draw.one(["STAR", "BEAN"]), "recipients": recipients}

    def _hold(self) -> Fields:
        until = self.later(days=self.draw.one([1, 10, 60]))
        merchant = self.draw.one([self.shop, self.cafe])
        what = {"amount": self._points(), "asset": "STAR", "merchant": merchant, "until": until}
        return {"actor": self.actor(self.someone()), **what}

    def _capture(self) -> Fields | None:
        holds = [hold for hold in self.state.holds if hold.status == "open"]
        if not holds:
            return None
        hold = self.draw.one(holds)
        final = True if self.draw.chance(50) else None
        return {"actor": hold.merchant, "amount": max(hold.remaining // 2, 1), "final": final, "hold": hold.hold}

    def _release(self) -> Fields | None:
        holds = [hold for hold in self.state.holds if hold.status == "open"]
        hold = self.draw.one(holds) if holds else None
        return {"actor": hold.merchant, "hold": hold.hold} if hold else None

    def _exchange(self) -> Fields:
        what = {"amount": self._points() * 2, "asset": "STAR", "into": "BEAN", "minimum_out": 1}
        return {"actor": self.actor(self.someone()), **what}

    def _correct(self) -> Fields:
        amount = self._points() * self.draw.one([1, -1])
        asset = self.draw.one(["STAR", "STAR", "XP"])
        what = {"asset": asset, "member": self.someone(), "reason": "error", "reference": self.reference()}
        return {"actor": self.actor(self.shop), "amount": amount, **what}

    def _expire(self) -> Fields:
        through = (date.fromisoformat(self.time[:10]) - timedelta(days=self.draw.one([1, 2, 9]))).isoformat()
        asset = self.draw.one(["STAR", "STAR", "XP", "BEAN"])
        return {"actor": self.operator, "asset": asset, "limit": self.draw.one([2, 400]), "through": through}

    def _publish_program(self) -> Fields:
        version = len(self.state.programs["STAR"]) + 1
        ends = self.later(days=90) if self.draw.chance(30) else None
        when = {"ends": ends, "starts": self.later(days=self.draw.one([0, 0, 5]))}
        return {"actor": self.actor(self.shop), "asset": "STAR", "program": self._program(), "version": version, **when}

    def _freeze(self) -> Fields:
        return {"account": self.someone(), "actor": self.operator, "reason": "dispute"}

    def _unfreeze(self) -> Fields:
        frozen = [account.id for account in self.state.accounts.values() if account.frozen_seq is not None]
        account = self.draw.one(frozen) if frozen else self.someone()
        return {"account": account, "actor": self.operator, "reason": "resolved"}


@settings(max_examples=40)
@given(st.integers(0, 2**32))
def test_programs_do_what_the_reference_says(seed: int) -> None:
    """Whatever a program says and members do: outcomes are the reference's, and so is what is known in the end."""
    Club(seed).play(120)


def test_every_kind_and_every_code_of_programs_has_been_compared() -> None:
    """So that what the simulation does, and so what is compared, stays worth comparing."""
    met: Counter[tuple[str, Code | None]] = Counter()
    for seed in range(30):
        met.update(Club(seed).play(120).outcomes)
    assert {kind for kind, code in met if code is None} == set(WEIGHTS) >= KINDS_OF_PROGRAMS
    assert {code.value for _, code in met if code is not None} >= CODES_OF_PROGRAMS


def test_programs_that_are_drawn_are_well_formed() -> None:
    """Nearly all of them, or the simulation would be of little."""
    draw = Drawing(random.Random(0))
    malformed = 0
    for _ in range(300):
        program = draw.program(zone="UTC", merchants=["mer_" + "a" * 26])
        fields = {"actor": "mer_" + "a" * 26, "asset": "STAR", "at": "2026-03-02T12:00:00.000Z", "guerdon": 1}
        fields |= {"kind": "publish_program", "ledger": "ledger.example/rules", "nonce": "A" * 22, "version": 1}
        data = encode_canonical({**fields, "program": program, "starts": fields["at"]})
        try:
            decode_operation(data)
        except MalformedError as error:
            malformed += 1
            print(error.message, error.path)
    assert malformed == 0


class SignedClub(Club):
    """A club whose operations are signed, and decided in batches at one time, so that a ledger can be handed them.

    ``batches`` are the times, and at each what was handed in, with what became of it.
    """

    def __init__(self, seed: int) -> None:
        self.secrets: dict[str, Ed25519PrivateKey] = {}
        self.batches: list[tuple[int, list[tuple[SignedOperation, Decision]]]] = []
        self._later = 0
        super().__init__(seed)

    def make_key(self) -> Ed25519PrivateKey:
        key = super().make_key()
        self.secrets[encode_public_key(key)] = key
        return key

    def build(self, kind: str, *, signers: Iterable[Ed25519PrivateKey] = (), **fields: Any) -> SignedOperation:
        members = fields["members"] if kind == "form_pool" else ()
        public = dict.fromkeys(fields.get("keys") or ())
        for account in (fields.get("actor"), fields.get("partner"), *members):
            if account in self.state.accounts:
                public |= dict.fromkeys(authority_of(self.state, self.state.accounts[account], self.time).keys)
        return super().build(kind, signers=[*signers, *(self.secrets[key] for key in public)], **fields)

    def decide(self, signed: SignedOperation) -> Decision:
        decision = super().decide(signed)
        if not self.batches or self.batches[-1][0] != self.now_ms:
            self.batches.append((self.now_ms, []))
        self.batches[-1][1].append((signed, decision))
        return decision

    def advance(self, *, days: int = 0, ms: int = 0) -> Self:
        """Let time pass for several operations at once."""
        self._later += days * DAY_MS + ms
        if self.draw.chance(15):
            self.now_ms, self._later = self.now_ms + self._later, 0
        return self


@pytest.mark.parametrize("seed", [3, 5])
def test_stored_history_is_that_of_the_reference(database_url: str, seed: int) -> None:
    """The same outcomes when operations are handed in together and stored, and a replay gives what is stored."""
    club = SignedClub(seed).play(150)
    engine = open_engine(database_url)
    try:
        make_tables(engine)
        store = Store(engine, ORIGIN)
        clock = Clock()
        (_, ((genesis, _), *first)), *others = club.batches
        log_key = club.keys[club.operator][0]
        create_ledger(store, genesis, log_key, clock)
        with Sequencer(store, [log_key], clock) as sequencer:
            for time, batch in [(club.batches[0][0], first), *others]:
                clock.now_ms = time
                outcomes = sequencer.submit([signed for signed, _ in batch]).result(60)
                for (signed, decision), outcome in zip(batch, outcomes, strict=True):
                    if isinstance(decision, Admission):
                        assert isinstance(outcome, Recorded), (signed.op, outcome)
                    else:
                        assert outcome == decision
        check_record(store)
        state = check_projections(store)
        for name in RECORDS:
            assert list(state.records(name)) == list(club.state.records(name))
        assert state.lots == club.state.lots
    finally:
        engine.dispose()
