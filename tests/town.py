"""A coalition in which anything may happen: operations of every kind, by everybody, most of them possible.

    town = Town(random.Random(7))
    for _ in range(100):
        town.act()

Whatever is drawn comes from the generator that is passed in, so a run is known by its seed. Everything that is decided
is decided twice, see :mod:`tests.rulebook`.
"""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.checkpoint import encode_verifier_key
from ledger.clearing import positions_of, propose_payments
from ledger.encoding import account_id, format_time, parse_time
from ledger.keys import encode_public_key
from ledger.operations import KINDS, MalformedError
from ledger.program_terms import (
    Band,
    ExpiresAfterDays,
    ExpiresAfterInactivity,
    ExpiresAtMembershipYearEnd,
    Formula,
    GrantRule,
    Limit,
    Multiplier,
    Plan,
    Program,
    PurchaseBonus,
    Ratio,
    Referral,
    Reminders,
    Reward,
    TierLevel,
    Tiers,
    When,
)
from ledger.rules import authority_of
from ledger.state import ORDER_SCOPE, Admission, Code, Decision
from ledger.terms import Cap
from tests.rulebook import ORIGIN, Book, acceptance, claim, earning, exchange, make_program

T = TypeVar("T")
Fields = dict[str, Any]
COMMON = {"record_purchases": 12, "grant": 6, "redeem": 10, "exchange": 8, "hold": 8, "capture": 8, "refund": 6}
COMMON |= {"allot": 4, "transfer": 6, "dispute": 4, "resolve_dispute": 3, "unfreeze": 3, "agree": 3, "release": 3}
COMMON |= {"cancel_recovery": 3, "enroll": 4, "form_pool": 3, "replace_keys": 3, "use_voucher": 6, "vest": 4}
RARE = {"end_agreement": 1, "publish_program": 1}
WEIGHTS = {kind: {**COMMON, **RARE}.get(kind, 2) for kind in KINDS if kind != "genesis"}
"""How often each kind is drawn."""

GOODWILL = (GrantRule(activity="goodwill", max_points=1_000),)
ACTIVITIES = (
    *GOODWILL,
    GrantRule(activity="photo", evidence=True, max_points=20),
    GrantRule(activity="survey", limit=Limit(count=2, period="month"), max_points=20, scored=True),
)
DAILY = Limit(count=3, period="day")


def make_club(pick: random.Random) -> Program:
    """A program of nearly everything that there is; what it gives at once or later, and how it expires, is drawn."""
    levels = (TierLevel(from_count=40, tier="silver"), TierLevel(from_count=120, never_expires=True, tier="gold"))
    bases: list[Literal["amount", "points", "status", "visits"]] = ["amount", "points", "status", "visits"]
    return make_program(
        bonuses=(PurchaseBonus(bonus="welcome", points=7, when=When(first_purchase=True)),),
        earning_cap=Cap(period="day", points=150),
        excluded_categories=("tax",),
        expiry=pick.choice([ExpiresAtMembershipYearEnd(count=0), ExpiresAfterDays(count=5)]),
        formulas=(Formula(bands=(Band(from_amount=0, points=1, per=3),), formula="miles", quantity="miles"),),
        grants=ACTIVITIES,
        multipliers=(
            Multiplier(multiplier="tier", times=Ratio(numerator=3, denominator=2), when=When(tiers=("gold",))),
            Multiplier(multiplier="books", times=Ratio(numerator=2, denominator=1), when=When(categories=("book",))),
        ),
        plans=(Plan(days=9, plan="prime", price=100),),
        referral=Referral(limit=DAILY, points=15),
        refunds=pick.choice(["cap", "negative"]),
        reminders=Reminders(balance="month", expiring_days=(2,), new_tier=True),
        rewards=(
            Reward(limit=DAILY, price=20, reward="mug", stock=400, valid_days=9),
            Reward(price=10, reward="seat", when=When(plans=("prime",))),
        ),
        status_asset="STAR",
        tiers=Tiers(basis=pick.choice(bases), drop="one_level", levels=levels, period="month"),
        vesting_days=pick.choice([None, 2]),
    )


def make_idle_club() -> Program:
    """Points that end by inactivity, and one reward that is had by itself."""
    reward = Reward(automatic=True, limit=DAILY, price=40, reward="ten_off", valid_days=5)
    return make_program(expiry=ExpiresAfterInactivity(months=1), grants=ACTIVITIES, rewards=(reward,))


class Town(Book):
    """Three merchants, a beneficiary, and members, one of them in custody, with agreements of every kind.

    Two assets have plain programs, two the many parts of the language, and one has no program.

    ``outcomes`` counts what became of the operations: the kind, and the code of the refusal or ``None``.
    """

    def __init__(self, pick: random.Random) -> None:
        super().__init__(recovery_delay_ms=86_400_000)
        self.pick = pick
        self.outcomes: Counter[tuple[str, Code | None]] = Counter()
        self.shop, self.bakery, self.grocer = self.merchants = [self.merchant(name) for name in "ABC"]
        self.school = self.beneficiary()
        self.members = [self.member(), self.member(), self.member(self.shop), self.member()]
        self._references = 0
        self._secrets = {encode_public_key(key): key for keys in self.keys.values() for key in keys}
        self._define_assets()
        self._make_agreements()

    def _define_assets(self) -> None:
        fee = {"amount": 1, "currency": "USD", "points": 10, "round": "up"}
        terms = {"fee": fee, "in_cap": cap(500), "minimum": 2, "out_cap": cap(300), "step": 2}
        program = make_program(expiry=ExpiresAfterDays(count=4), grants=GOODWILL, refunds="negative")
        self.asset(self.shop, "STAR", program, transfer_terms=terms)
        value = {"amount": 2, "currency": "EUR", "points": 3}
        careful = make_program(approval_above=50, grants=GOODWILL, refunds="owe", returned_lot_days=2)
        self.asset(self.bakery, "BEAN", careful, value=value, supply_cap=5_000)
        self.asset(self.grocer, "LEAF", None)
        self.asset(self.shop, "CLUB", make_club(self.pick))
        self.asset(self.grocer, "IDLE", make_idle_club())
        for member in self.members:
            for code in ("STAR", "BEAN", "LEAF"):
                self.give(member, code, 500)

    def _make_agreements(self) -> None:
        shop, bakery, grocer, school = self.shop, self.bakery, self.grocer, self.school
        fee = {"amount": 1, "currency": "EUR", "kept_by": bakery, "points": 7, "round": "half_even"}
        both = {"holder_cap": cap(400), "total_cap": cap(900)}
        self.agree(shop, bakery, exchange("STAR", "BEAN", give=3, get=2, fee=fee, claim=claim(shop), **both))
        self.agree(bakery, shop, exchange("BEAN", "STAR", received="kept"), starts=self.later(days=2))
        self.agree(shop, bakery, acceptance("STAR", received="kept", claim=claim(bakery, 2), **both), notice_days=1)
        self.agree(shop, school, acceptance("STAR", holder_cap=cap(60)))
        self.agree(bakery, grocer, acceptance("BEAN", claim=claim(bakery, 1, 3)))
        self.agree(shop, bakery, earning("STAR", claim=claim(bakery, 1, 4), alert_below=100))
        self.agree(bakery, shop, earning("BEAN", "postpaid", claim=claim(shop, 1, 5, "EUR"), total_cap=cap(500)))

    # What is drawn

    def one(self, choices: Sequence[T]) -> T:
        """One of some."""
        return self.pick.choice(choices)

    def chance(self, percent: int) -> bool:
        """Whether something that rarely happens does."""
        return self.pick.randrange(100) < percent

    def anyone(self) -> str:
        return self.one([*self.members, *self.members, *self.merchants, self.school, self.operator])

    def code(self) -> str:
        return self.one(["LEAF", "NOPE"] if self.chance(7) else ["STAR", "STAR", "BEAN", "CLUB", "IDLE"])

    def points(self) -> int:
        return self.one([1, 2, 4, 10, 20, 24, 60, 100])

    def reference(self) -> str:
        """One that is new, most of the time."""
        self._references += not self.chance(10)
        return f"ref-{self._references}"

    def issuer(self, code: str) -> str:
        asset = self.state.assets.get(code)
        return asset.issuer if asset is not None and not self.chance(10) else self.one(self.merchants)

    # What is done

    def act(self) -> None:
        """Let one operation of any kind be decided, and recorded if it is admitted; now and then time passes."""
        (kind,) = self.pick.choices(list(WEIGHTS), list(WEIGHTS.values()))
        draw: Callable[[], Fields] = getattr(self, f"_{kind}")
        fields = draw()
        try:
            signed = self.build(kind, signers=self._signers(kind, fields) if self.chance(40) else (), **fields)
        except MalformedError:  # such as a transfer to oneself
            return
        decision = self.decide(signed)
        self._count(kind, decision)
        if isinstance(decision, Admission):
            self.record(signed, decision)
            self._welcome(kind)
        self.advance(ms=self.pick.randrange(3_600_000), days=self.chance(10))

    def _welcome(self, kind: str) -> None:
        """Let a member that has just been opened take part, as long as there are few."""
        opened = account_id("mem", bytes.fromhex(self.op_id))  # type: ignore[arg-type]
        if kind == "open_account" and opened in self.state.accounts and len(self.members) < 9:
            self.members.append(opened)

    def _count(self, kind: str, decision: Decision) -> None:
        self.outcomes[kind, None if isinstance(decision, Admission) else decision.code] += 1

    def _signers(self, kind: str, fields: Fields) -> list[Ed25519PrivateKey]:
        """The keys that should sign, and sometimes one too few."""
        public = set(fields.get("keys", ()))
        parties = [fields.get("actor"), fields.get("partner") if kind in ("agree", "allot") else None]
        parties += fields["members"] if kind == "form_pool" else []
        for party in parties:
            if party in self.state.accounts:
                public |= set(authority_of(self.state, self.state.accounts[party], self.time).keys)
        known = [self._secrets[key] for key in sorted(public)]
        return known[1:] if self.chance(5) else known

    def _new_keys(self) -> list[str]:
        keys = [self.make_key() for _ in range(self.one([1, 2]))]
        self._secrets |= {encode_public_key(key): key for key in keys}
        return [encode_public_key(key) for key in keys]

    def _open_account(self) -> Fields:
        if self.chance(50):
            return {"actor": self.anyone(), "keys": self._new_keys(), "name": "New", "role": "merchant"}
        return {"actor": self.one(self.merchants), "role": "member"}

    def _define_asset(self) -> Fields:
        code = self.one(["STAR", "USD", f"NEW{self._references}"])
        return {"actor": self.anyone(), "asset": code, "name": "New", "scale": 0, "transferable": True}

    def _publish_program(self) -> Fields:
        asset = self.code()
        program = make_program(expiry=ExpiresAfterDays(count=self.one([1, 9])), grants=GOODWILL)
        if asset in ("CLUB", "IDLE"):
            program = make_club(self.pick) if asset == "CLUB" else make_idle_club()
        version = len(self.state.programs.get(asset, ())) + (not self.chance(10))
        starts = self.later(days=self.one([0, 0, 3]))
        return {
            "actor": self.issuer(asset),
            "asset": asset,
            "program": program,
            "starts": starts,
            "version": version or 1,
        }

    def _record_purchases(self) -> Fields:
        purchases = [
            {**self._bought(), "at": self.time, "member": self.one(self.members), "order": order}
            for order in sorted({self.reference() for _ in range(3)})
        ]
        asset = self.code()
        actor = self.one([self.issuer(asset), self.issuer(asset), *self.merchants])
        return {"actor": actor, "asset": asset, "currency": "USD", "purchases": purchases}

    def _bought(self) -> Fields:
        """What was bought: an amount, or lines of it with what else is said of a purchase."""
        amount = self.points() * 100
        if self.chance(60):
            return {"amount": amount}
        lines = [{"amount": amount, "category": self.one(["book", "tax"])}, {"amount": 300}]
        said = {"channel": "web", "quantities": [{"name": "miles", "quantity": self.points()}], "tender": "card"}
        return {"amount": amount + 300, "lines": lines, **said}

    def _grant(self) -> Fields:
        asset = self.code()
        activity = self.one(["goodwill", "photo", "survey"]) if asset in ("CLUB", "IDLE") else "goodwill"
        asked: Fields = {"evidence": f"{self.pick.randrange(40):064x}"} if activity == "photo" else {}
        asked |= {"score": self.pick.randrange(11)} if activity == "survey" and not self.chance(10) else {}
        event = {"activity": activity, "member": self.one(self.members), "reference": self.reference()}
        return {
            "actor": self.one([self.issuer(asset), self.issuer(asset), *self.merchants]),
            "amount": min(self.points(), 1_000 if activity == "goodwill" else 20) if not self.chance(10) else None,
            "asset": asset,
            **event,
            **asked,
        }

    def _correct(self) -> Fields:
        asset = self.code()
        event = {"member": self.one(self.members), "reason": "error", "reference": self.reference()}
        amount = self.points() * self.one([1, -1])
        return {"actor": self.issuer(asset), "amount": amount, "asset": asset, **event}

    def _transfer(self) -> Fields:
        receivers = sorted({self.anyone() for _ in range(self.one([1, 2]))})
        recipients = [{"amount": self.points(), "to": account} for account in receivers]
        return {
            "actor": self.anyone(),
            "asset": self.code(),
            "maximum_fee": self.one([None, 100]),
            "recipients": recipients,
        }

    def _spend(self) -> Fields:
        merchant = self.one([*self.merchants, self.school])
        return {"actor": self.anyone(), "amount": self.points(), "asset": self.code(), "merchant": merchant}

    def _redeem(self) -> Fields:
        fields = self._spend()
        if self.chance(30):
            reward = self.one(["mug", "mug", "seat"])
            fields |= {"amount": 20 if reward == "mug" else 10, "asset": "CLUB", "reward": reward}
            fields |= {"actor": self.one(self.members), "merchant": self.issuer("CLUB")}
        pooled = [each for each in self.state.memberships if each.pool is not None]
        if pooled and self.chance(20):
            member = self.one(pooled)
            fields |= {"actor": member.account, "asset": member.asset, "merchant": self.issuer(member.asset)}
        return {**fields, "from_pool": True if self.chance(25) else None}

    def _exchange(self) -> Fields:
        asset, into = self.one([("STAR", "BEAN"), ("BEAN", "STAR"), ("LEAF", self.code())])
        limits = {"maximum_fee": self.one([None, 1_000, 1_000]), "minimum_out": 1}
        return {"actor": self.anyone(), "amount": self.points(), "asset": asset, "into": into, **limits}

    def _hold(self) -> Fields:
        until = self.later(days=self.one([1, 2]), ms=-self.one([0, 2 * 86_400_000] if self.chance(10) else [0]))
        return {**self._spend(), "until": until}

    def _hold_of(self) -> Any:
        holds = [hold for hold in self.state.holds if hold.status == "open" or self.chance(5)]
        return self.one(holds) if holds and not self.chance(5) else None

    def _capture(self) -> Fields:
        hold = self._hold_of()
        final = True if self.chance(40) else None
        if hold is None:
            return {"actor": self.shop, "amount": 1, "final": final, "hold": "hld_" + "z" * 26}
        actor = hold.merchant if not self.chance(10) else self.anyone()
        return {"actor": actor, "amount": min(self.points(), hold.amount), "final": final, "hold": hold.hold}

    def _release(self) -> Fields:
        hold = self._hold_of()
        if hold is None:
            return {"actor": self.shop, "hold": "hld_" + "z" * 26}
        return {"actor": self.one([hold.merchant, self.anyone()]), "hold": hold.hold}

    def _refund(self) -> Fields:
        orders = [(key, asset) for key, (asset, _) in self.state.earnings.items() if key[1] == ORDER_SCOPE]
        spendings = list(self.state.spendings)
        if orders and (not spendings or self.chance(50)):
            (merchant, _, order), asset = self.one(orders)
            of: Fields = {"amount": self.points() * 50, "order": order, "type": "purchase"}
            if self.chance(20):
                of["lines"] = [{"amount": of["amount"], "line": self.one([0, 1])}]
            return {"actor": merchant, "asset": asset, "of": of, "reference": self.reference()}
        if not spendings:
            of = {"amount": 1, "operation": "0" * 64, "type": self.one(["redemption", "exchange"])}
            return {"actor": self.shop, "asset": "STAR", "of": of, "reference": self.reference()}
        spent = self.one(spendings)
        amount = spent.amount if spent.reward is not None else min(self.points(), spent.amount)
        of = {"amount": amount, "operation": spent.operation}
        of["type"] = "exchange" if spent.kind == "exchange" else "redemption"
        return {"actor": spent.merchant, "asset": spent.asset, "of": of, "reference": self.reference()}

    def _expire(self) -> Fields:
        asset = self.code()
        through = self.later(days=-self.one([0, 1, 1, 1]))[:10]
        return {"actor": self.issuer(asset), "asset": asset, "limit": self.one([1, 3, 400]), "through": through}

    def _enroll(self) -> Fields:
        actor, asset = self.one(self.members) if not self.chance(10) else self.anyone(), self.code()
        inviter = self.one([member for member in self.members if member != actor])
        formula = self.one(["miles", None, None])
        return {"actor": actor, "asset": asset, "formula": formula, "invited_by": self.one([inviter, None])}

    def _vest(self) -> Fields:
        promised = [each for each in self.state.pending if each.asset == "CLUB"][-9:]
        some = self.pick.sample(promised, len(promised) * 2 // 3)
        purchases = [{"merchant": each.merchant, "order": each.order} for each in some]
        purchases.append({"merchant": self.shop, "order": "nothing"})
        return {"actor": self.one([self.operator, self.issuer("CLUB")]), "asset": "CLUB", "purchases": purchases}

    def _review_tiers(self) -> Fields:
        asset = self.one(["CLUB", "CLUB", self.code()])
        return {"actor": self.one([self.operator, self.issuer(asset)]), "asset": asset, "members": self.members}

    def _remind(self) -> Fields:
        return {**self._review_tiers(), "about": self.one(["balance", "expiry", "tier"])}

    def _start_plan(self) -> Fields:
        paid = {"member": self.one(self.members), "plan": "prime", "reference": self.reference()}
        asset = self.one(["CLUB", "CLUB", self.code()])
        return {"actor": self.issuer(asset), "asset": asset, **paid}

    def _end_plan(self) -> Fields:
        paying = [each.account for each in self.state.memberships if each.plan is not None and each.asset == "CLUB"]
        member = self.one(paying or self.members)
        return {"actor": self.issuer("CLUB"), "asset": "CLUB", "member": member, "reason": "refunded"}

    def _form_pool(self) -> Fields:
        asset, actor = self.code(), self.anyone()
        others = [member for member in self.members if member != actor]
        return {"actor": actor, "asset": asset, "members": self.pick.sample(others, self.one([1, 2]))}

    def _leave_pool(self) -> Fields:
        pooled = [each for each in self.state.memberships if each.pool is not None]
        if not pooled or self.chance(20):
            return {"actor": self.anyone(), "asset": self.code()}
        member = self.one(pooled)
        return {"actor": member.account, "asset": member.asset}

    def _use_voucher(self) -> Fields:
        good = [each for each in self.state.vouchers if each.last_day >= self.time[:10] or self.chance(5)]
        vouchers = [each for each in good if each.status == "issued" or self.chance(20)]
        if not vouchers:
            return {"actor": self.shop, "voucher": {"index": 0, "seq": 0}}
        frozen = [each for each in vouchers if self.state.accounts[each.account].frozen_seq is not None]
        found = self.one(frozen or vouchers)
        actor = found.merchant if not self.chance(10) else self.bakery
        return {"actor": actor, "voucher": {"index": found.index, "seq": found.seq}}

    def _agree(self) -> Fields:
        asset, into = self.one([("STAR", "BEAN"), ("BEAN", "STAR"), ("STAR", "LEAF")])
        issuer, partner = self.issuer(asset), self.issuer(into)
        paid, owed = claim(partner), claim(self.one([issuer, partner]), self.one([1, 2]))
        received, billing = self.one([("kept", "postpaid"), ("retired", "prepaid")])
        owed = paid if received == "kept" else owed
        alert = {"alert_below": 100} if billing == "prepaid" else {}
        terms, sign = self.one(
            [
                (exchange(asset, into, give=self.one([1, 3]), get=2, claim=owed, received=received), f">{into}"),
                (acceptance(asset, claim=owed, received=received), f"@{partner}"),
                (earning(asset, billing, claim=owed, **alert), f"+{partner}"),
            ]
        )
        version = len(self.state.agreements.group(asset + sign)) + (not self.chance(10))
        parties = {"actor": issuer, "partner": partner}
        starts = self.later(days=self.one([0, 0, 2]))
        ends = format_time(parse_time(starts) + 5 * 86_400_000) if self.chance(20) else None
        times = {"ends": ends, "notice_days": self.one([0, 1]), "starts": starts}
        return {**parties, **times, "terms": terms, "version": version or 1}

    def _end_agreement(self) -> Fields:
        found = self.one(list(self.state.agreements))
        actor = self.one([found.issuer, found.partner, self.grocer])
        return {"actor": actor, "agreement": found.agreement, "ends": self.later(days=self.one([0, 1, 9, 9]))}

    def _allot(self) -> Fields:
        block = {"asset": "STAR", "points": self.points(), "reference": self.reference()}
        return {"actor": self.issuer("STAR"), "partner": self.one([self.bakery, self.bakery, self.grocer]), **block}

    def _net(self) -> Fields:
        merchants = [*self.merchants, self.school] if self.chance(70) else [self.shop, self.bakery]
        currency, through = self.one(["USD", "EUR"]), self.later(days=-self.one([0, 1]))[:10]
        owed = [obligation for obligation in self.state.obligations if obligation.currency == currency]
        payments = propose_payments(positions_of(owed, merchants, through))
        fields = {"currency": currency, "merchants": merchants, "through": through}
        return {"actor": self.operator, "payments": payments[self.chance(10) :], **fields}

    def _settle(self) -> Fields:
        payment = {"payment": self.reference(), "amount": self.points()}
        obligations = list(self.state.obligations)
        if not obligations:
            return {"actor": self.shop, "currency": "USD", "debtor": self.bakery, **payment}
        owed = self.one(obligations)
        payment["amount"] = self.one([owed.amount, min(owed.amount, self.points()), owed.amount + 1])
        return {"actor": owed.creditor, "currency": owed.currency, "debtor": owed.debtor, **payment}

    def _claimed(self) -> tuple[Fields, list[str]]:
        claims = sorted(self.state.claims, key=lambda claim: (claim.seq, claim.index))
        if not claims or self.chance(5):
            return {"index": 0, "seq": 0}, [self.shop]
        found = self.one(claims[-8:])
        return {"index": found.index, "seq": found.seq}, [found.debtor, found.creditor]

    def _dispute(self) -> Fields:
        claimed, parties = self._claimed()
        return {"actor": self.one([*parties, *parties, self.grocer]), "claim": claimed, "reason": "amount"}

    def _resolve_dispute(self) -> Fields:
        disputed = [claim for claim in self.state.claims if claim.status == "disputed"]
        claimed, parties = self._claimed()
        if disputed and not self.chance(10):
            found = self.one(disputed)
            claimed, parties = {"index": found.index, "seq": found.seq}, [found.debtor, found.creditor]
        said = self.one(["cancelled", "stands"])
        return {"actor": self.one([*parties, self.operator]), "claim": claimed, "outcome": said}

    def _freeze(self) -> Fields:
        account = self.one([*self.members, self.school, self.grocer, self.operator])
        actor = self.one([self.operator, self.operator, self.shop])
        return {"account": account, "actor": actor, "reason": "lost_keys"}

    def _unfreeze(self) -> Fields:
        frozen = [account.id for account in self.state.accounts.values() if account.frozen_seq is not None]
        account = self.one(frozen) if frozen else self.anyone()
        return {"account": account, "actor": self.operator, "reason": "resolved"}

    def _replace_keys(self) -> Fields:
        return {"actor": self.one(self.members), "keys": self._new_keys()}

    def _recover_keys(self) -> Fields:
        actor = self.operator if not self.chance(10) else self.shop
        return {"account": self.anyone(), "actor": actor, "keys": self._new_keys()}

    def _cancel_recovery(self) -> Fields:
        pending = [account.id for account in self.state.accounts.values() if account.recovery is not None]
        account = self.one(pending) if pending else self.anyone()
        return {"account": account, "actor": self.one([account, self.operator])}

    def _replace_log_key(self) -> Fields:
        actor = self.operator if not self.chance(10) else self.shop
        return {"actor": actor, "log_key": encode_verifier_key(ORIGIN, self.make_key())}


def cap(points: int) -> Fields:
    """At most so many points a day."""
    return {"period": "day", "points": points}
