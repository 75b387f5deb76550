"""The rules: who may do what, in which order it is refused, and what moves."""

import base64
import copy
import hashlib
import itertools
import random
import re
from collections import Counter
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.checkpoint import encode_verifier_key
from ledger.encoding import MAX_INTEGER, account_id, format_time, parse_time
from ledger.entries import NO_LAST_DAY, Posting
from ledger.keys import encode_public_key
from ledger.operations import (
    CancelRecovery,
    DefineAsset,
    Expire,
    Freeze,
    Genesis,
    Grant,
    OpenAccount,
    Operation,
    PublishProgram,
    RecordPurchases,
    RecoverKeys,
    Redeem,
    ReplaceKeys,
    ReplaceLogKey,
    SignedOperation,
    Transfer,
    Unfreeze,
)
from ledger.program_terms import Band, ExpiresAfterDays, GrantRule, Limit, NeverExpires, Program
from ledger.rules import account_at, admit, apply, authority_of, log_key_for
from ledger.spending import due_lots
from ledger.state import (
    RETRYABLE,
    SYS_EXPIRED,
    SYS_ISSUED,
    SYS_SPENT,
    SYSTEM_ACCOUNTS,
    Account,
    Admission,
    Code,
    Earning,
    Records,
    Recovery,
    Rejection,
    State,
)
from ledger.terms import Currency, Fee, Purchase, Recipient, TransferTerms, Value
from ledger.touches import touches
from ledger.wallet import Wallet, sign_operation
from tests.rulebook import partial_state

ORIGIN = "ledger.example/coalition"
NOW = "2026-11-22T10:15:30.123Z"
NOW_MS = parse_time(NOW)
TOLERANCE_MS = 30_000
LONG_AGO = "1997-01-01T00:00:00.000Z"
DAY_MS = 86_400_000
WEEK_MS = 7 * DAY_MS
NOBODY = {role: f"{role}_" + "z" * 26 for role in ("mem", "mer")}

Key = Ed25519PrivateKey


def make_key(number: int) -> Key:
    return Key.from_private_bytes(number.to_bytes(32, "big"))


def make_program(**changes: Any) -> Program:
    """1 point per whole dollar, good for 30 days in UTC, and up to 250 points for a birthday."""
    fields: dict[str, Any] = {
        "bands": (Band(from_amount=0, points=1, per=100),),
        "currency": "USD",
        "expiry": ExpiresAfterDays(count=30),
        "grants": (GrantRule(activity="birthday", max_points=250), GrantRule(activity="review", max_points=5)),
        "round_amount": "whole_units",
        "round_points": "down",
        "time_zone": "UTC",
    }
    return Program(**fields | changes)


class World:
    """A ledger in memory: operator, two merchants, three members (one in custody), a school, an auditor; no points."""

    def __init__(self, **genesis: Any) -> None:
        self.state = State(ORIGIN)
        self.now_ms = NOW_MS
        self.size = 0
        self.keys: dict[str, list[Key]] = {}
        self.ids: dict[str, str] = {}
        self._random = random.Random(0)
        self._numbers = itertools.count(1)
        self._found(genesis)
        for name, role in [
            ("shop", "merchant"),
            ("rival", "merchant"),
            ("school", "beneficiary"),
            ("auditor", "auditor"),
        ]:
            self.open(name, role, by="operator")
        self.open("alice", "member")
        self.open("bob", "member")
        self.open("carol", "member", by="shop", keys=0)

    @property
    def time(self) -> str:
        return format_time(self.now_ms)

    def _found(self, fields: dict[str, Any]) -> None:
        key = make_key(next(self._numbers))
        genesis = self.sign(
            None,
            Genesis,
            keys=(encode_public_key(key),),
            signers=[key],
            clock_tolerance_ms=TOLERANCE_MS,
            currencies=(Currency(code="USD", scale=2), Currency(code="EUR", scale=2)),
            log_key=encode_verifier_key(ORIGIN, key),
            name="Operator",
            **fields,
        )
        self.record(genesis)
        self.keys["operator"] = [key]
        self.ids["operator"] = account_id("opr", genesis.op_id)

    def open(self, name: str, role: str, *, by: str | None = None, keys: int = 1, **fields: Any) -> None:
        """Open an account and remember its keys."""
        own = [make_key(next(self._numbers)) for _ in range(keys)]
        if role != "member":
            fields["name"] = name
        signers = [*(self.keys[by] if by else []), *own]
        public = tuple(encode_public_key(key) for key in own)
        opened = self.sign(by, OpenAccount, signers=signers, role=role, keys=public, **fields)
        self.record(opened)
        self.keys[name] = own or self.keys[str(by)]
        self.ids[name] = account_id(
            {"member": "mem", "merchant": "mer", "beneficiary": "ben"}.get(role, "aud"), opened.op_id
        )

    def sign(
        self, who: str | None, kind: type[Operation], *, signers: Sequence[Key] | None = None, **fields: Any
    ) -> SignedOperation:
        """A document of `who`, signed with their keys or those given."""
        account = self.ids[who] if who is not None else None
        wallet = Wallet(ORIGIN, account, [], lambda: self.now_ms, self._random.randbytes)
        keys = signers if signers is not None else self.keys[str(who)]
        return sign_operation(wallet.build(kind, **fields), keys)

    def ask(self, signed: SignedOperation) -> Admission | Rejection:
        return admit(self.state, signed, self.time)

    def record(self, signed: SignedOperation) -> Admission:
        """Admit, which must succeed, and apply."""
        admission = self.ask(signed)
        assert isinstance(admission, Admission), admission
        apply(self.state, signed, admission, self.size)
        self.size += 1
        return admission

    def refuse(self, signed: SignedOperation) -> Rejection:
        rejection = self.ask(signed)
        assert isinstance(rejection, Rejection), rejection
        return rejection

    def add_asset(self, code: str, *, by: str = "shop", program: Program | None = None, **fields: Any) -> None:
        """Define an asset and publish its program, in force since 1997 unless `ends` is given."""
        ends = fields.pop("ends", None)
        asset = {"name": code.title(), "scale": 0, "transferable": True, **fields}
        self.record(self.sign(by, DefineAsset, asset=code, **asset))
        if program is not None:
            published = {"version": 1, "starts": LONG_AGO, "ends": ends, "program": program}
            self.record(self.sign(by, PublishProgram, asset=code, **published))

    def buy(self, who: str, order: str, amount: int, at: str | None = None, asset: str = "STAR") -> Admission:
        purchase = Purchase(amount=amount, at=at or self.time, member=self.ids[who], order=order)
        fields: dict[str, Any] = {"currency": "USD", "purchases": (purchase,)}
        return self.record(self.sign("shop", RecordPurchases, asset=asset, **fields))

    def pay(self, who: str, *to: tuple[str, int], asset: str = "STAR") -> SignedOperation:
        recipients = tuple(Recipient(amount=amount, to=self.ids[name]) for name, amount in to)
        return self.sign(who, Transfer, asset=asset, recipients=recipients)

    def give(self, who: str, lots: dict[str, int], asset: str = "STAR") -> None:
        """Put points into the state directly, each under the last day given."""
        for day, points in lots.items():
            self.state.add_lot(self.ids[who], asset, day, points)
            self.state.add_lot(SYS_ISSUED, asset, NO_LAST_DAY, -points)

    def make_keys(self, count: int) -> list[Key]:
        return [make_key(next(self._numbers)) for _ in range(count)]

    def recover(self, who: str, keys: Sequence[Key], by: str = "operator", **fields: Any) -> SignedOperation:
        """The operator's document that gives an account keys, signed by these too."""
        fields |= {"account": self.ids[who], "keys": public(keys)}
        return self.sign(by, RecoverKeys, signers=[*self.keys[by], *keys], **fields)

    def replace(self, who: str, keys: Sequence[Key], signers: Sequence[Key], **fields: Any) -> SignedOperation:
        return self.sign(who, ReplaceKeys, signers=signers, keys=public(keys), **fields)

    def cancel(self, who: str, by: str | None = None, signers: Sequence[Key] | None = None) -> SignedOperation:
        return self.sign(by or who, CancelRecovery, signers=signers, account=self.ids[who])

    def account(self, who: str) -> Account:
        """An account as its entries left it."""
        return self.state.accounts[self.ids[who]]

    def acts(self, who: str, *signers: Key) -> bool:
        """Whether these keys can act for an account now. What is asked is refused for another reason if they can."""
        code = self.refuse(self.sign(who, Redeem, asset="NONE", amount=1, merchant=NOBODY["mer"], signers=signers)).code
        assert code in {Code.SIGNATURE_MISSING, Code.SIGNATURE_UNEXPECTED, Code.UNKNOWN_ASSET, Code.NOT_PERMITTED}
        return code in {Code.UNKNOWN_ASSET, Code.NOT_PERMITTED}

    def lots(self, who: str, asset: str = "STAR") -> dict[str, int]:
        return dict(self.state.lots_of(self.ids[who], asset))


def public(keys: Sequence[Key]) -> tuple[str, ...]:
    return tuple(encode_public_key(key) for key in keys)


QUIZ = GrantRule(activity="quiz", evidence=True, limit=Limit(count=1, period="year"), max_points=50, scored=True)
ANSWER = {"activity": "quiz", "amount": 50, "asset": "QUIZ", "evidence": "b" * 64, "score": 0}


def make_world() -> World:
    """The world with assets of every sort, some points of Alice's, Frank, whose recovery is pending, and frozen Ice."""
    world = World()
    world.add_asset("STAR", program=make_program())
    world.add_asset("GIFT", program=make_program(), transferable=False)
    world.add_asset("BARE")
    world.add_asset("GONE", program=make_program(), ends="2026-01-01T00:00:00.000Z")
    huge = make_program(
        bands=(Band(from_amount=0, points=10**9, per=1),),
        grants=(GrantRule(activity="birthday", max_points=MAX_INTEGER),),
    )
    world.add_asset("HUGE", program=huge, supply_cap=1_000)
    world.add_asset("MOON", by="rival", program=make_program())
    world.add_asset("LATE", program=make_program(purchase_within_days=400))
    world.add_asset("QUIZ", program=make_program(grants=(QUIZ,)))
    world.buy("alice", "order-1", 50_000)
    world.buy("alice", "order-old", 700, "2026-01-01T12:00:00.000Z")  # long expired
    world.record(world.sign("shop", Grant, **grant_fields(world, asset="HUGE", amount=10, reference="party-1")))
    answered = grant_fields(world, **ANSWER, member=world.ids["bob"], reference="quiz-1")
    world.record(world.sign("shop", Grant, **answered | {"evidence": "a" * 64}))
    world.open("frank", "member")
    world.record(world.recover("frank", world.make_keys(1)))
    world.open("ice", "merchant", by="operator")
    world.record(world.sign("operator", Freeze, account=world.ids["ice"], reason="fraud"))
    return world


def grant_fields(world: World, **changes: Any) -> dict[str, Any]:
    fields = {
        "activity": "birthday",
        "amount": 100,
        "asset": "STAR",
        "member": world.ids["alice"],
        "reference": "party-2",
    }
    return fields | changes


WORLD = make_world()
EMPTY = State(ORIGIN)
STRANGER, NEW_KEY = make_key(1_000), make_key(1_001)
GENESIS_KEY, OTHER_GENESIS_KEY = make_key(1_002), make_key(1_003)


class Break(NamedTuple):
    """One way to break a good document: the refusal it gets, and what is changed."""

    code: Code
    path: tuple[str, ...]
    changes: dict[str, Any]


class Case(NamedTuple):
    """A good document of a kind, and the ways to break it, in the order of their refusals."""

    kind: type[Operation]
    actor: str | None
    fields: dict[str, Any]
    co_signers: tuple[Key, ...]
    breaks: list[Break]


def later(ms: int, than: str = NOW) -> str:
    return format_time(parse_time(than) + ms)


SIGNED_FOR_ANOTHER = [
    Break(Code.WRONG_LEDGER, ("ledger",), {"ledger": "ledger.example/other"}),
    Break(Code.EXPIRED, ("expires",), {"expires": later(-1)}),
]
SIGNED = [
    *SIGNED_FOR_ANOTHER,
    Break(Code.UNKNOWN_ACCOUNT, ("ledger",), {"state": EMPTY}),
    Break(Code.AT_IN_FUTURE, ("at",), {"at": later(TOLERANCE_MS + 1)}),
    Break(Code.UNKNOWN_ACCOUNT, ("actor",), {"actor": NOBODY["mer"]}),
    Break(Code.SIGNATURE_MISSING, ("sigs",), {"signers": ()}),
]
OF_ACTOR = [
    Break(Code.SIGNATURE_UNEXPECTED, ("sigs",), {"strangers": (STRANGER,)}),
    Break(Code.ACCOUNT_FROZEN, ("actor",), {"actor": "ice"}),
]
ALWAYS = [*SIGNED, *OF_ACTOR]
OF_ISSUER = [
    *ALWAYS,
    Break(Code.UNKNOWN_ASSET, ("asset",), {"asset": "NONE"}),
    Break(Code.NOT_PERMITTED, ("actor",), {"actor": "rival"}),
]
OF_HOLDER = [
    *ALWAYS,
    Break(Code.NOT_PERMITTED, ("actor",), {"actor": "auditor"}),
    Break(Code.UNKNOWN_ASSET, ("asset",), {"asset": "NONE"}),
]
PROGRAM = make_program()

CASES: dict[str, Case] = {
    "genesis": Case(
        Genesis,
        None,
        {
            "state": EMPTY,
            "clock_tolerance_ms": TOLERANCE_MS,
            "currencies": (Currency(code="USD", scale=2),),
            "keys": (encode_public_key(GENESIS_KEY), encode_public_key(OTHER_GENESIS_KEY)),
            "log_key": encode_verifier_key(ORIGIN, GENESIS_KEY),
            "name": "Operator",
        },
        (GENESIS_KEY, OTHER_GENESIS_KEY),
        [
            *SIGNED_FOR_ANOTHER,
            Break(Code.GENESIS_EXISTS, ("kind",), {"state": WORLD.state}),
            Break(Code.AT_IN_FUTURE, ("at",), {"at": later(TOLERANCE_MS + 1)}),
            Break(Code.MALFORMED, ("log_key",), {"log_key": encode_verifier_key("ledger.example/x", GENESIS_KEY)}),
            Break(Code.SIGNATURE_MISSING, ("sigs",), {"signers": (GENESIS_KEY,)}),
            Break(Code.SIGNATURE_UNEXPECTED, ("sigs",), {"strangers": (STRANGER,)}),
        ],
    ),
    "open_account": Case(
        OpenAccount,
        "operator",
        {"keys": (encode_public_key(NEW_KEY),), "name": "Shop", "role": "merchant"},
        (NEW_KEY,),
        [
            *SIGNED,
            Break(Code.SIGNATURE_MISSING, ("sigs",), {"signers": tuple(WORLD.keys["operator"])}),
            *OF_ACTOR,
            Break(Code.NOT_PERMITTED, ("actor",), {"actor": "shop"}),
        ],
    ),
    "open_account of a member": Case(
        OpenAccount,
        "shop",
        {"role": "member"},
        (),
        [*ALWAYS, Break(Code.NOT_PERMITTED, ("actor",), {"actor": "operator"})],
    ),
    "define_asset": Case(
        DefineAsset,
        "shop",
        {"asset": "NEW", "name": "New", "scale": 0, "transferable": True},
        (),
        [
            *ALWAYS,
            Break(Code.NOT_PERMITTED, ("actor",), {"actor": "operator"}),
            Break(Code.ASSET_EXISTS, ("asset",), {"asset": "MOON"}),
            Break(Code.UNKNOWN_CURRENCY, ("value", "currency"), {"value": Value(amount=1, currency="XXX", points=1)}),
            Break(
                Code.UNKNOWN_CURRENCY,
                ("transfer_terms", "fee", "currency"),
                {"transfer_terms": TransferTerms(fee=Fee(amount=1, currency="XXX", points=1, round="down"))},
            ),
        ],
    ),
    "publish_program": Case(
        PublishProgram,
        "shop",
        {"asset": "STAR", "program": PROGRAM, "starts": NOW, "version": 2},
        (),
        [
            *OF_ISSUER,
            Break(Code.UNKNOWN_ASSET, ("program", "status_asset"), {"program": make_program(status_asset="NIL")}),
            Break(Code.NOT_PERMITTED, ("program", "status_asset"), {"program": make_program(status_asset="MOON")}),
            Break(Code.UNKNOWN_CURRENCY, ("program", "currency"), {"program": make_program(currency="XXX")}),
            Break(Code.VALUE_MISSING, ("program", "refunds"), {"program": make_program(refunds="owe")}),
            Break(Code.VERSION_CONFLICT, ("version",), {"version": 1}),
            Break(Code.CURRENCY_MISMATCH, ("program", "currency"), {"program": make_program(currency="EUR")}),
            Break(Code.TIME_ZONE_MISMATCH, ("program", "time_zone"), {"program": make_program(time_zone="Asia/Tokyo")}),
            Break(Code.STARTS_IN_PAST, ("starts",), {"starts": later(-TOLERANCE_MS - 1)}),
        ],
    ),
    "record_purchases": Case(
        RecordPurchases,
        "shop",
        {"asset": "STAR", "currency": "USD"},
        (),
        [
            *OF_ISSUER,
            Break(Code.PROGRAM_MISSING, ("asset",), {"asset": "BARE"}),
            Break(Code.CURRENCY_MISMATCH, ("currency",), {"currency": "EUR"}),
            Break(Code.UNKNOWN_ACCOUNT, ("purchases[1]", "member"), {"purchase.member": NOBODY["mem"]}),
            Break(Code.AT_IN_FUTURE, ("purchases[1]", "at"), {"purchase.at": later(TOLERANCE_MS + 1)}),
            Break(Code.ORDER_EXISTS, ("purchases[1]", "order"), {"purchase.order": "order-1"}),
            Break(Code.PROGRAM_MISSING, ("purchases[1]", "at"), {"purchase.at": later(-1, LONG_AGO)}),
            Break(Code.PROGRAM_CLOSED, ("purchases[1]", "at"), {"asset": "GONE"}),
            Break(
                Code.PURCHASE_TOO_OLD,
                ("purchases[1]", "at"),
                {"asset": "LATE", "purchase.at": "2025-10-17T23:59:59.999Z"},
            ),
            Break(Code.POINTS_OVERFLOW, ("purchases",), {"asset": "HUGE", "purchase.amount": 10**9}),
            Break(Code.SUPPLY_EXCEEDED, ("purchases",), {"asset": "HUGE"}),
        ],
    ),
    "grant": Case(
        Grant,
        "shop",
        grant_fields(WORLD),
        (),
        [
            *OF_ISSUER,
            Break(Code.UNKNOWN_ACCOUNT, ("member",), {"member": NOBODY["mem"]}),
            Break(Code.PROGRAM_MISSING, ("at",), {"at": later(-1, LONG_AGO)}),
            Break(Code.PROGRAM_CLOSED, ("at",), {"asset": "GONE"}),
            Break(Code.ACTIVITY_UNKNOWN, ("activity",), {"activity": "survey"}),
            Break(Code.REFERENCE_EXISTS, ("reference",), {"reference": "party-1"}),
            Break(Code.EVIDENCE_UNEXPECTED, ("evidence",), {"evidence": "c" * 64}),
            Break(Code.SCORE_UNEXPECTED, ("score",), {"score": 5}),
            Break(Code.GRANT_TOO_LARGE, ("amount",), {"amount": 251}),
            Break(Code.POINTS_OVERFLOW, ("amount",), {"asset": "HUGE", "amount": MAX_INTEGER}),
            Break(Code.SUPPLY_EXCEEDED, ("amount",), {"asset": "HUGE", "amount": 991}),
        ],
    ),
    "grant for an answer that is proved": Case(
        Grant,
        "shop",
        grant_fields(WORLD, **ANSWER),
        (),
        [
            *OF_ISSUER,
            Break(Code.UNKNOWN_ACCOUNT, ("member",), {"member": NOBODY["mem"]}),
            Break(Code.REFERENCE_EXISTS, ("reference",), {"reference": "quiz-1"}),
            Break(Code.EVIDENCE_MISSING, ("evidence",), {"evidence": None}),
            Break(Code.EVIDENCE_USED, ("evidence",), {"evidence": "a" * 64}),
            Break(Code.SCORE_MISSING, ("score",), {"score": None}),
            Break(Code.GRANT_TOO_LARGE, ("amount",), {"amount": 51}),
            Break(Code.LIMIT_REACHED, ("activity",), {"member": WORLD.ids["bob"]}),
        ],
    ),
    "transfer": Case(
        Transfer,
        "alice",
        {"asset": "STAR", "to": "bob", "amount": 10},
        (),
        [
            *OF_HOLDER,
            Break(Code.NOT_TRANSFERABLE, ("asset",), {"asset": "GIFT"}),
            Break(Code.UNKNOWN_ACCOUNT, ("recipients[1]", "to"), {"to": NOBODY["mem"]}),
            Break(Code.NOT_A_HOLDER, ("recipients[1]", "to"), {"to": "operator"}),
            Break(Code.INSUFFICIENT_POINTS, ("recipients",), {"amount": 500}),
        ],
    ),
    "redeem": Case(
        Redeem,
        "alice",
        {"asset": "STAR", "amount": 10, "merchant": WORLD.ids["shop"]},
        (),
        [
            *OF_HOLDER,
            Break(Code.UNKNOWN_ACCOUNT, ("merchant",), {"merchant": NOBODY["mer"]}),
            Break(Code.NOT_ACCEPTED, ("merchant",), {"merchant": WORLD.ids["rival"]}),
            Break(Code.INSUFFICIENT_POINTS, ("amount",), {"amount": 501}),
        ],
    ),
    "expire": Case(
        Expire,
        "operator",
        {"asset": "STAR", "limit": 10, "through": "2026-11-21"},
        (),
        [
            *OF_ISSUER,
            Break(Code.NOT_YET_DUE, ("through",), {"through": "2026-11-22"}),
            Break(Code.NOTHING_DUE, ("through",), {"through": "2026-01-30"}),
        ],
    ),
    "replace_keys": Case(
        ReplaceKeys,
        "bob",
        {"keys": public([NEW_KEY])},
        (NEW_KEY,),
        [
            *SIGNED,
            Break(Code.SIGNATURE_MISSING, ("sigs",), {"signers": tuple(WORLD.keys["bob"])}),
            *OF_ACTOR,
        ],
    ),
    "replace_keys of an account in custody": Case(
        ReplaceKeys,
        "carol",
        {"keys": public([NEW_KEY])},
        (NEW_KEY,),
        [
            *SIGNED,
            Break(Code.SIGNATURE_MISSING, ("sigs",), {"signers": tuple(WORLD.keys["shop"])}),
            *OF_ACTOR,
        ],
    ),
    "recover_keys": Case(
        RecoverKeys,
        "operator",
        {"account": WORLD.ids["alice"], "keys": public([NEW_KEY])},
        (NEW_KEY,),
        [
            *SIGNED,
            Break(Code.SIGNATURE_MISSING, ("sigs",), {"signers": tuple(WORLD.keys["operator"])}),
            *OF_ACTOR,
            Break(Code.NOT_PERMITTED, ("actor",), {"actor": "shop"}),
            Break(Code.UNKNOWN_ACCOUNT, ("account",), {"account": NOBODY["mem"]}),
            Break(Code.NOT_PERMITTED, ("account",), {"account": WORLD.ids["operator"]}),
            Break(Code.RECOVERY_PENDING, ("account",), {"account": WORLD.ids["frank"]}),
        ],
    ),
    "cancel_recovery": Case(
        CancelRecovery,
        "operator",
        {"account": WORLD.ids["frank"]},
        (),
        [
            *ALWAYS,
            Break(Code.NOT_PERMITTED, ("actor",), {"actor": "shop"}),
            Break(Code.UNKNOWN_ACCOUNT, ("account",), {"account": NOBODY["mem"]}),
            Break(Code.NO_RECOVERY, ("account",), {"account": WORLD.ids["alice"]}),
        ],
    ),
    "cancel_recovery by the account": Case(
        CancelRecovery,
        "frank",
        {"account": WORLD.ids["frank"]},
        (),
        [
            *ALWAYS,
            Break(Code.NOT_PERMITTED, ("actor",), {"actor": "alice"}),
            Break(Code.NO_RECOVERY, ("account",), {"actor": "bob", "account": WORLD.ids["bob"]}),
        ],
    ),
    "freeze": Case(
        Freeze,
        "operator",
        {"account": WORLD.ids["alice"], "reason": "fraud"},
        (),
        [
            *ALWAYS,
            Break(Code.NOT_PERMITTED, ("actor",), {"actor": "shop"}),
            Break(Code.UNKNOWN_ACCOUNT, ("account",), {"account": NOBODY["mem"]}),
            Break(Code.NOT_PERMITTED, ("account",), {"account": WORLD.ids["operator"]}),
            Break(Code.ALREADY_FROZEN, ("account",), {"account": WORLD.ids["ice"]}),
        ],
    ),
    "unfreeze": Case(
        Unfreeze,
        "operator",
        {"account": WORLD.ids["ice"], "reason": "resolved"},
        (),
        [
            *ALWAYS,
            Break(Code.NOT_PERMITTED, ("actor",), {"actor": "shop"}),
            Break(Code.UNKNOWN_ACCOUNT, ("account",), {"account": NOBODY["mem"]}),
            Break(Code.NOT_FROZEN, ("account",), {"account": WORLD.ids["operator"]}),
        ],
    ),
    "replace_log_key": Case(
        ReplaceLogKey,
        "operator",
        {"log_key": encode_verifier_key(ORIGIN, NEW_KEY)},
        (),
        [
            *ALWAYS,
            Break(Code.NOT_PERMITTED, ("actor",), {"actor": "shop"}),
            Break(Code.MALFORMED, ("log_key",), {"log_key": encode_verifier_key("ledger.example/x", NEW_KEY)}),
            Break(Code.LOG_KEY_USED, ("log_key",), {"log_key": log_key_for(WORLD.state.log_keys, WORLD.size)}),
        ],
    ),
}

# Where the kinds that are not in the table above have their tests.
TESTS_OF_OTHER_KINDS = (
    "test_agreements.py",
    "test_clearing.py",
    "test_earning.py",
    "test_freezing.py",
    "test_membership.py",
    "test_pools.py",
    "test_refunds.py",
    "test_spending.py",
    "test_vouchers.py",
)

# Decided before or around the rules: by the reader of documents, the verifier of signatures and the sequencer.
DECIDED_ELSEWHERE = {Code.NOT_CANONICAL, Code.TOO_LARGE, Code.SIGNATURE_INVALID, Code.OVERLOADED, Code.UNAVAILABLE}


def prepare(case: Case, *breaks: Break) -> tuple[State, SignedOperation]:
    """The state and the case's document with all changes made."""
    fields = dict(case.fields)
    for change in breaks:
        fields.update(change.changes)
    state = fields.pop("state", WORLD.state)
    strangers = fields.pop("strangers", ())
    actor = fields.pop("actor", case.actor)
    keys = WORLD.keys.get(actor) or WORLD.keys.get(str(case.actor), [])
    signers = [*fields.pop("signers", (*keys, *case.co_signers)), *strangers]
    if actor is not None:
        fields["actor"] = WORLD.ids.get(actor, actor)
    if case.kind is Transfer:
        to, amount = fields.pop("to"), fields.pop("amount")
        first = Recipient(amount=1, to=WORLD.ids["school"])
        fields["recipients"] = (first, Recipient(amount=amount, to=WORLD.ids.get(to, to)))
    if case.kind is RecordPurchases:
        # The first purchase is good in every program but the one that ended, and in that as well while it ran.
        first_at = "2025-12-31T00:00:00.000Z"
        second: dict[str, Any] = {"amount": 10_000, "at": NOW, "member": WORLD.ids["bob"], "order": "order-3"}
        second |= {name.split(".")[1]: fields.pop(name) for name in list(fields) if name.startswith("purchase.")}
        first_purchase = Purchase(amount=0, at=first_at, member=WORLD.ids["alice"], order="order-2")
        fields["purchases"] = (first_purchase, Purchase(**second))
    fields = {"guerdon": 1, "ledger": ORIGIN, "at": NOW, "nonce": "A" * 22, **fields}
    return state, sign_operation(case.kind(**fields), signers)


def compatible(one: Break, other: Break) -> bool:
    """Whether both changes can be made to one document."""
    return all(one.changes[name] == other.changes[name] for name in one.changes.keys() & other.changes.keys())


SINGLE = [
    pytest.param(name, i, id=f"{name}-{b.code}-{i}") for name, case in CASES.items() for i, b in enumerate(case.breaks)
]


@pytest.mark.parametrize("name", CASES)
def test_good_document_is_admitted(name: str) -> None:
    """What the refusals below break is in order to begin with, at the very last moment it may be recorded."""
    for at in ({}, {"expires": NOW}, {"at": later(TOLERANCE_MS)}, {"at": LONG_AGO, "expires": NOW}):
        state, signed = prepare(CASES[name], Break(Code.MALFORMED, (), at))
        assert isinstance(admit(state, signed, NOW), Admission)


@pytest.mark.parametrize(("name", "i"), SINGLE)
def test_broken_document_is_refused_with_code_and_field(name: str, i: int) -> None:
    """Each way to break a document has its code, and names the field."""
    broken = CASES[name].breaks[i]
    state, signed = prepare(CASES[name], broken)
    rejection = admit(state, signed, NOW)
    assert isinstance(rejection, Rejection)
    assert (rejection.code, rejection.path) == (broken.code, broken.path)
    assert rejection.message
    assert rejection.retryable == (broken.code in RETRYABLE)


@pytest.mark.parametrize("name", CASES)
def test_document_broken_twice_gets_the_earlier_refusal(name: str) -> None:
    """Refusals come in one order: of any two that apply, the earlier in the table is returned."""
    case = CASES[name]
    pairs = [pair for pair in itertools.combinations(case.breaks, 2) if compatible(*pair)]
    assert len(pairs) > len(case.breaks)
    for first, second in pairs:
        state, signed = prepare(case, second, first)
        rejection = admit(state, signed, NOW)
        assert isinstance(rejection, Rejection)
        assert (rejection.code, rejection.path) == (first.code, first.path), (first, second)


def test_every_code_of_the_rules_has_a_case() -> None:
    """The closed list of codes is covered: each is reached here, or in the tests of the kinds that have it."""
    reached = {broken.code for case in CASES.values() for broken in case.breaks}
    for name in TESTS_OF_OTHER_KINDS:
        source = (Path(__file__).parent / name).read_text("utf-8")
        reached.update(Code[code] for code in re.findall(r"\bCode\.([A-Z_]+)\b", source))
    assert reached == set(Code) - DECIDED_ELSEWHERE


@pytest.mark.parametrize("name", CASES)
def test_deciding_changes_nothing(name: str) -> None:
    """The state is the same before and after, for what is admitted and for every refusal."""
    case = CASES[name]
    for breaks in ([], *([broken] for broken in case.breaks)):
        state, signed = prepare(case, *breaks)
        before = copy.deepcopy(contents(state))
        admit(state, signed, NOW)
        assert contents(state) == before


def contents(state: State) -> dict[str, Any]:
    values = {name: getattr(state, name) for name in State.__slots__}
    return {name: list(value) if isinstance(value, Records) else value for name, value in values.items()}


@pytest.mark.parametrize("name", CASES)
def test_touched_part_of_the_state_decides_alike(name: str) -> None:
    """A writer that loaded only what the operation touches decides as an auditor who has everything."""
    case = CASES[name]
    for breaks in ([], *([broken] for broken in case.breaks)):
        state, signed = prepare(case, *breaks)
        assert admit(partial_state(state, signed, NOW), signed, NOW) == admit(state, signed, NOW)


def test_needs_of_a_batch_are_gathered() -> None:
    """What several operations touch is the union of what each touches."""
    signed = [prepare(case)[1] for case in CASES.values()]
    together = touches(signed[0].op)
    for one in signed[1:]:
        touches(one.op, together)
    for one in signed:
        needs = touches(one.op)
        for field in needs.__struct_fields__:
            assert getattr(needs, field) <= getattr(together, field)


# Signatures and accounts


def test_preview_asks_for_no_signature() -> None:
    """Every document is decided alike without signatures when they are not to be checked."""
    for case in CASES.values():
        state, signed = prepare(case)
        unsigned = sign_operation(signed.op, [])
        assert admit(state, unsigned, NOW, check_signers=False) == admit(state, signed, NOW)


def test_threshold_of_keys_must_sign() -> None:
    """Two of three: one is too few, any two will do, and the third may sign as well."""
    world = make_world()
    world.open("dora", "member", keys=3, threshold=2)
    world.give("dora", {NO_LAST_DAY: 10})
    for count in range(4):
        for signers in itertools.combinations(world.keys["dora"], count):
            answer = world.ask(
                world.sign("dora", Redeem, asset="STAR", amount=1, merchant=world.ids["shop"], signers=signers)
            )
            if count >= 2:
                assert isinstance(answer, Admission)
            else:
                assert isinstance(answer, Rejection)
                assert answer.code == Code.SIGNATURE_MISSING


def test_custodian_signs_for_a_member_without_keys() -> None:
    """The merchant that opened the account acts for it; nobody else does."""
    world = make_world()
    world.give("carol", {NO_LAST_DAY: 10})
    fields: dict[str, Any] = {"asset": "STAR", "amount": 1, "merchant": world.ids["shop"]}
    assert isinstance(world.ask(world.sign("carol", Redeem, **fields, signers=world.keys["shop"])), Admission)
    for stranger in ("rival", "alice", "operator"):
        rejection = world.refuse(world.sign("carol", Redeem, **fields, signers=world.keys[stranger]))
        assert rejection.code == Code.SIGNATURE_MISSING
        assert world.ids["carol"] in rejection.message


def test_member_with_a_key_is_not_in_custody() -> None:
    """A merchant that vouched for a member who has a key cannot sign for that member."""
    world = make_world()
    world.open("dora", "member", by="shop")
    world.give("dora", {NO_LAST_DAY: 10})
    assert world.state.accounts[world.ids["dora"]].custodian is None
    fields: dict[str, Any] = {"asset": "STAR", "amount": 1, "merchant": world.ids["shop"]}
    assert world.refuse(world.sign("dora", Redeem, **fields, signers=world.keys["shop"])).code == Code.SIGNATURE_MISSING
    assert isinstance(world.ask(world.sign("dora", Redeem, **fields)), Admission)


def test_new_keys_prove_themselves() -> None:
    """A member alone signs with every key it brings, and with no other."""
    world = make_world()
    keys = [make_key(2_000), make_key(2_001)]
    fields: dict[str, Any] = {"role": "member", "keys": tuple(encode_public_key(key) for key in keys)}
    assert isinstance(world.ask(world.sign(None, OpenAccount, **fields, signers=keys)), Admission)
    for signers, code in [
        (keys[:1], Code.SIGNATURE_MISSING),
        ([], Code.SIGNATURE_MISSING),
        ([*keys, STRANGER], Code.SIGNATURE_UNEXPECTED),
    ]:
        assert world.refuse(world.sign(None, OpenAccount, **fields, signers=signers)).code == code


def test_account_bears_the_name_of_its_operation() -> None:
    """The id follows from the opening operation; the account is what the document says."""
    world = make_world()
    key = make_key(2_000)
    signed = world.sign(None, OpenAccount, role="member", keys=(encode_public_key(key),), signers=[key])
    world.record(signed)
    account = world.state.accounts[account_id("mem", signed.op_id)]
    assert (account.role, account.keys, account.threshold) == ("member", (encode_public_key(key),), 1)
    assert (account.custodian, account.name, account.opened_at, account.seq) == (None, None, NOW, world.size - 1)
    assert world.state.recorded[signed.op_id] == world.size - 1


@pytest.mark.parametrize("role", ["shop", "alice", "auditor"])
def test_only_the_operator_vouches_for_organisations(role: str) -> None:
    """Neither a merchant nor a member nor an auditor opens an auditor's account."""
    fields: dict[str, Any] = {"role": "auditor", "name": "A", "keys": (encode_public_key(NEW_KEY),)}
    signers = [*WORLD.keys[role], NEW_KEY]
    assert WORLD.refuse(WORLD.sign(role, OpenAccount, **fields, signers=signers)).code == Code.NOT_PERMITTED


@pytest.mark.parametrize("kind", ["genesis", "replace_log_key"])
@pytest.mark.parametrize("log_key", ["", "x", f"{ORIGIN}+00000000+AQ==", encode_verifier_key("a.example", GENESIS_KEY)])
def test_a_key_for_checkpoints_can_check_them(kind: str, log_key: str) -> None:
    """A ledger never names a key that could check none of its checkpoints: it is one, and bears the ledger's name."""
    state, signed = prepare(CASES[kind], Break(Code.MALFORMED, ("log_key",), {"log_key": log_key}))
    rejection = admit(state, signed, NOW)
    assert isinstance(rejection, Rejection)
    assert (rejection.code, rejection.path) == (Code.MALFORMED, ("log_key",))


# Keys over time


def test_replaced_keys_act_no_more() -> None:
    """From its entry on exactly the new keys act: those left out are revoked, and each of many counts."""
    world = make_world()
    (old,), new = world.keys["alice"], world.make_keys(3)
    seq = world.size
    assert world.record(world.replace("alice", new, [old, *new], threshold=2)) == Admission()
    assert not world.acts("alice", old)
    assert not world.acts("alice", new[0])
    assert not world.acts("alice", new[0], old)
    assert world.acts("alice", *new[:2])
    account = world.account("alice")
    assert (account.keys, account.threshold, account.keys_seq) == (public(new), 2, seq)
    assert account.seq < seq
    world.record(world.replace("alice", new[1:2], new[:2]))
    assert world.acts("alice", new[1])
    assert not world.acts("alice", new[0], new[2])


def test_kept_key_need_not_sign_again() -> None:
    """As many of the account's own keys sign as must, and every key it did not have; a kept one may sign."""
    world = make_world()
    world.open("dora", "member", keys=3, threshold=2)
    own, (new,) = world.keys["dora"], world.make_keys(1)
    wanted = [own[2], new]
    for signers, admitted in [
        ([*own[:2], new], True),
        ([*own, new], True),
        (own[:2], False),
        ([own[0], new], False),
        ([*wanted, STRANGER], False),
    ]:
        assert isinstance(world.ask(world.replace("dora", wanted, signers)), Admission) == admitted
    world.record(world.replace("dora", wanted, [*own[:2], new]))
    assert world.acts("dora", own[2])
    assert not world.acts("dora", own[0])


def test_member_claims_an_account_in_custody() -> None:
    """Its custodian hands it over by signing, with the member's new key; it acts for the account no more."""
    world = make_world()
    custodian, (new,) = world.keys["shop"], world.make_keys(1)
    for signers in ([new], custodian, [*world.keys["rival"], new], [*world.keys["operator"], new]):
        assert world.refuse(world.replace("carol", [new], signers)).code == Code.SIGNATURE_MISSING
    world.record(world.replace("carol", [new], [*custodian, new]))
    assert world.account("carol").custodian is None
    assert world.acts("carol", new)
    assert not world.acts("carol", *custodian)


def test_custodian_may_name_its_own_key() -> None:
    """A key of the custodian's is none of the account's own: one signature says both."""
    world = make_world()
    (key,) = world.keys["shop"]
    world.record(world.replace("carol", [key], [key]))
    assert (world.account("carol").keys, world.account("carol").custodian) == (public([key]), None)


def test_custody_follows_the_custodians_keys() -> None:
    """Who replaces a custodian's keys acts for those in its custody, and the keys before do not."""
    world = make_world()
    (old,), (new,), (later_key,) = world.keys["shop"], world.make_keys(1), world.make_keys(1)
    world.record(world.replace("shop", [new], [old, new]))
    assert world.acts("carol", new)
    assert not world.acts("carol", old)
    world.record(world.recover("shop", [later_key]))
    assert world.acts("carol", new)
    world.now_ms += WEEK_MS
    assert world.acts("carol", later_key)
    assert not world.acts("carol", new)


def test_operator_replaces_its_own_keys() -> None:
    """The operator's keys are replaced as anyone's, with their own signature."""
    world = make_world()
    (old,), (new,), lost = world.keys["operator"], world.make_keys(1), world.make_keys(1)
    world.record(world.replace("operator", [new], [old, new]))
    assert world.refuse(world.recover("alice", lost)).code == Code.SIGNATURE_MISSING
    world.keys["operator"] = [new]
    world.record(world.recover("alice", lost))


@pytest.mark.parametrize("who", ["alice", "carol", "school", "auditor", "shop"])
def test_recovery_takes_effect_at_its_time(who: str) -> None:
    """A millisecond before it the old keys act, or the custodian's; at its time the new ones, and nobody else."""
    world = make_world()
    old, new, seq = world.keys[who], world.make_keys(2), world.size
    before = world.account(who)
    admission = world.record(world.recover(who, new, threshold=2))
    effective_at = later(WEEK_MS)
    assert admission == Admission(effective_at=effective_at)
    recovery = Recovery(keys=public(new), threshold=2, effective_at=effective_at, seq=seq)
    account = world.account(who)
    assert (account.recovery, account.keys, account.keys_seq) == (recovery, before.keys, before.keys_seq)
    world.now_ms += WEEK_MS - 1
    assert world.acts(who, *old)
    assert not world.acts(who, *new)
    world.now_ms += 1
    assert world.acts(who, *new)
    assert not world.acts(who, new[0])
    assert not world.acts(who, *old)
    now = account_at(account, world.time)
    assert (now.keys, now.threshold, now.custodian, now.keys_seq, now.recovery) == (public(new), 2, None, seq, None)
    assert (now.id, now.role, now.seq, now.name) == (before.id, before.role, before.seq, before.name)
    assert world.account(who) == account


def test_delay_is_the_ledgers() -> None:
    """Genesis says how long an account has to object; seven days if it does not."""
    for fields, delay_ms in (({}, WEEK_MS), ({"recovery_delay_ms": 60_000}, 60_000)):
        world = World(**fields)
        admission = world.record(world.recover("alice", world.make_keys(1)))
        assert admission.effective_at == later(delay_ms)


def test_key_of_a_recovery_in_effect_is_kept_without_signing() -> None:
    """The account's own keys are those in force: a lost one that comes back is new, and signs."""
    world = make_world()
    (lost,), (one, two) = world.keys["alice"], world.make_keys(2)
    world.record(world.recover("alice", [one, two]))
    world.now_ms += WEEK_MS
    assert world.refuse(world.replace("alice", [two, lost], [one])).code == Code.SIGNATURE_MISSING
    world.record(world.replace("alice", [two, lost], [one, lost]))
    assert world.account("alice").keys == public([two, lost])


def test_recovery_is_pending_until_its_time() -> None:
    """A second one is refused with the first one's time while it is pending, and replaces it once it is in effect."""
    world = make_world()
    first, second = world.make_keys(1), world.make_keys(1)
    world.record(world.recover("carol", first))
    world.now_ms += WEEK_MS - 1
    rejection = world.refuse(world.recover("carol", second))
    assert (rejection.code, rejection.details) == (Code.RECOVERY_PENDING, {"effective_at": later(WEEK_MS)})
    world.now_ms += 1
    seq = world.size - 1
    world.record(world.recover("carol", second))
    account = world.account("carol")
    assert (account.keys, account.custodian, account.keys_seq) == (public(first), None, seq)
    assert account.recovery is not None
    assert (account.recovery.keys, account.recovery.seq) == (public(second), seq + 1)
    assert world.acts("carol", *first)
    world.now_ms += WEEK_MS
    assert world.acts("carol", *second)
    assert not world.acts("carol", *first)


@pytest.mark.parametrize(
    ("who", "by", "signers"),
    [("alice", "alice", "alice"), ("alice", "operator", "operator"), ("carol", "carol", "shop")],
)
def test_recovery_can_be_cancelled(who: str, by: str, signers: str) -> None:
    """By the account, by its custodian for it, or by the operator: it never takes effect, and there can be another."""
    world = make_world()
    before, keys = world.account(who), world.make_keys(1)
    world.record(world.recover(who, keys))
    world.now_ms += WEEK_MS - 1
    world.record(world.cancel(who, by, world.keys[signers]))
    assert world.account(who) == before
    assert world.refuse(world.cancel(who, by, world.keys[signers])).code == Code.NO_RECOVERY
    world.now_ms += WEEK_MS
    assert world.acts(who, *world.keys[who])
    world.record(world.recover(who, keys))


def test_recovery_in_effect_cannot_be_cancelled() -> None:
    """At its time it is too late, for the operator as for the account that now has the new keys."""
    world = make_world()
    keys = world.make_keys(1)
    world.record(world.recover("alice", keys))
    world.now_ms += WEEK_MS
    assert world.refuse(world.cancel("alice", "operator")).code == Code.NO_RECOVERY
    assert world.refuse(world.cancel("alice", signers=keys)).code == Code.NO_RECOVERY
    assert world.refuse(world.cancel("alice")).code == Code.SIGNATURE_MISSING


@pytest.mark.parametrize("wait_ms", [0, WEEK_MS - 1, WEEK_MS, WEEK_MS + 1])
def test_replacing_keys_ends_a_recovery(wait_ms: int) -> None:
    """Who has the keys in force replaces them: a pending recovery is dropped, one in effect is history."""
    world = make_world()
    recovered, new = world.make_keys(1), world.make_keys(1)
    world.record(world.recover("alice", recovered))
    world.now_ms += wait_ms
    own, other = (world.keys["alice"], recovered) if wait_ms < WEEK_MS else (recovered, world.keys["alice"])
    assert world.refuse(world.replace("alice", new, [*other, *new])).code == Code.SIGNATURE_MISSING
    world.record(world.replace("alice", new, [*own, *new]))
    assert world.account("alice").recovery is None
    world.now_ms += WEEK_MS
    assert world.acts("alice", *new)
    assert not world.acts("alice", *recovered)


def test_log_key_signs_the_checkpoints_that_hold_its_entry() -> None:
    """A checkpoint's key is the last that one of its entries names; a key that was replaced never comes back."""
    world = make_world()
    ((seq, first),) = world.state.log_keys
    second, third = (encode_verifier_key(ORIGIN, key) for key in world.make_keys(2))
    changes = []
    for log_key in (second, third):
        changes.append(world.size)
        assert world.record(world.sign("operator", ReplaceLogKey, log_key=log_key)) == Admission()
    assert seq == 0
    assert list(world.state.log_keys) == [(0, first), (changes[0], second), (changes[1], third)]
    sizes = [1, changes[0], changes[0] + 1, changes[1] + 1, 10**6]
    assert [log_key_for(world.state.log_keys, size) for size in sizes] == [first, first, second, third, third]
    for used in (first, second, third):
        assert world.refuse(world.sign("operator", ReplaceLogKey, log_key=used)).code == Code.LOG_KEY_USED


def test_log_key_with_the_id_of_another_is_refused() -> None:
    """A note names its keys by 32 bits, so two of one id can be found: nobody could tell whose line is whose."""
    world = make_world()
    seen: dict[bytes, str] = {}
    pair: tuple[str, str] | None = None
    for i in itertools.count():
        public = hashlib.sha256(b"%d" % i).digest()
        key_id = hashlib.sha256(f"{ORIGIN}\n".encode() + b"\x01" + public).digest()[:4]
        text = f"{ORIGIN}+{key_id.hex()}+{base64.b64encode(b'%c' % 1 + public).decode()}"
        if key_id in seen:
            pair = (seen[key_id], text)
            break
        seen[key_id] = text
    assert pair is not None
    world.record(world.sign("operator", ReplaceLogKey, log_key=pair[0]))
    refused = world.refuse(world.sign("operator", ReplaceLogKey, log_key=pair[1]))
    assert refused.code == Code.LOG_KEY_USED
    assert f"entry {world.size - 1}" in refused.message


class KeyEvent(NamedTuple):
    """What an entry did to an account's keys, at a time: ``open``, ``replace``, ``recover`` or ``cancel``."""

    at_ms: int
    what: str
    keys: tuple[Key, ...]
    threshold: int


def naive_keys(events: Sequence[KeyEvent], at_ms: int) -> KeyEvent:
    """The event whose keys are in force at a time: of those in effect by then, the one whose effect began last.

    A recovery begins to have its effect a week after its entry, if no other event lies between.
    """
    effects = []
    for i, event in enumerate(events):
        starts_ms = event.at_ms
        if event.what == "cancel":
            continue
        if event.what == "recover":
            starts_ms += WEEK_MS
            if i + 1 < len(events) and events[i + 1].at_ms < starts_ms:
                continue
        if starts_ms <= at_ms:
            effects.append((starts_ms, i, event))
    return max(effects)[2]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.sampled_from([1, DAY_MS, 3 * DAY_MS, WEEK_MS - 1, WEEK_MS])),
        st.tuples(
            st.sampled_from(["replace", "recover", "cancel"]),
            st.sampled_from(["alice", "carol", "shop"]),
            st.sampled_from([(1, 1), (2, 1), (2, 2), (3, 2)]),
            st.booleans(),
        ),
    ),
    max_size=14,
)


@given(STEPS)
def test_keys_in_force_are_those_of_a_naive_history(steps: list[tuple[Any, ...]]) -> None:
    """Whatever replaces, recovers and cancels, in any order: at every time the keys a list of events gives."""
    world = World()
    events = {
        who: [KeyEvent(NOW_MS, "open", tuple(world.keys[who] if who != "carol" else ()), 1)]
        for who in ("alice", "carol", "shop")
    }

    def authority(who: str, at_ms: int) -> KeyEvent:
        event = naive_keys(events[who], at_ms)
        return event if event.keys else naive_keys(events["shop"], at_ms)

    for what, *arguments in steps:
        if what == "wait":
            world.now_ms += arguments[0]
            continue
        who, (count, threshold), by_operator = arguments
        last = events[who][-1]
        pending = last.what == "recover" and world.now_ms < last.at_ms + WEEK_MS
        own = authority(who, world.now_ms)
        new = world.make_keys(count)
        expected = None
        if what == "replace":
            signed = world.replace(who, new, [*own.keys[: own.threshold], *new], threshold=threshold)
        elif what == "recover":
            signed = world.recover(who, new, threshold=threshold)
            expected = Code.RECOVERY_PENDING if pending else None
        else:
            signed = world.cancel(who, "operator") if by_operator else world.cancel(who, signers=own.keys)
            expected = None if pending else Code.NO_RECOVERY
        answer = world.ask(signed)
        assert (answer.code if isinstance(answer, Rejection) else None) == expected
        if isinstance(answer, Admission):
            world.record(signed)
            events[who].append(KeyEvent(world.now_ms, what, tuple(new), threshold))
        moments = {world.now_ms, world.now_ms + 1, *(last.at_ms + WEEK_MS + i for i in (-1, 0, 1))}
        for name, at_ms in itertools.product(events, moments):
            if at_ms >= world.now_ms:  # the account as its entries left it says nothing of times before them
                wanted = authority(name, at_ms)
                found = authority_of(world.state, world.account(name), format_time(at_ms))
                assert (found.keys, found.threshold) == (public(wanted.keys), wanted.threshold)


# Time


def test_points_of_the_past_and_the_near_future() -> None:
    """A purchase may lie any time back, and ahead of the clock by the tolerance, not a millisecond more."""
    world = make_world()
    for i, (at, code) in enumerate(
        [(LONG_AGO, None), (NOW, None), (later(TOLERANCE_MS), None), (later(TOLERANCE_MS + 1), Code.AT_IN_FUTURE)]
    ):
        purchase = Purchase(amount=100, at=at, member=world.ids["bob"], order=f"order-b{i}")
        answer = world.ask(world.sign("shop", RecordPurchases, asset="STAR", currency="USD", purchases=(purchase,)))
        assert (answer.code if isinstance(answer, Rejection) else None) == code


def test_version_starts_at_most_the_tolerance_ago() -> None:
    """A second version may start as long ago as clocks may differ, so that no earlier purchase changes."""
    for starts, code in [(later(-TOLERANCE_MS), None), (later(-TOLERANCE_MS - 1), Code.STARTS_IN_PAST)]:
        answer = WORLD.ask(WORLD.sign("shop", PublishProgram, asset="STAR", version=2, starts=starts, program=PROGRAM))
        assert (answer.code if isinstance(answer, Rejection) else None) == code


def test_program_ends_before_its_end() -> None:
    """The last millisecond before `ends` still earns, `ends` itself no more: for purchases and for grants."""
    world = make_world()
    ends = "2026-01-01T00:00:00.000Z"
    for at, code in [(later(-1, ends), None), (ends, Code.PROGRAM_CLOSED)]:
        purchase = Purchase(amount=100, at=at, member=world.ids["bob"], order="new")
        fields: dict[str, Any] = {"currency": "USD", "purchases": (purchase,)}
        bought = world.ask(world.sign("shop", RecordPurchases, asset="GONE", **fields))
        granted = world.ask(world.sign("shop", Grant, at=at, **grant_fields(world, asset="GONE")))
        for answer in (bought, granted):
            assert (answer.code if isinstance(answer, Rejection) else None) == code


def test_grant_gives_at_most_what_the_program_says() -> None:
    """Exactly the most is granted; one point more is refused, and the refusal says how much it may be."""
    assert isinstance(WORLD.ask(WORLD.sign("shop", Grant, **grant_fields(WORLD, amount=250))), Admission)
    rejection = WORLD.refuse(WORLD.sign("shop", Grant, **grant_fields(WORLD, amount=251)))
    assert (rejection.code, rejection.details) == (Code.GRANT_TOO_LARGE, {"max_points": 250})


def test_no_version_moves_the_end_of_a_lot_s_last_day() -> None:
    """Points that are good today stay good today: a version cannot change the time zone of the asset's days."""
    world = World()
    world.add_asset("STAR", program=make_program(time_zone="America/New_York"))
    world.now_ms = parse_time("2026-11-23T04:00:00.000Z")
    world.give("alice", {"2026-11-22": 10})
    program = make_program(time_zone="Pacific/Kiritimati")
    late = "2990-01-01T00:00:00.000Z"
    refusal = world.refuse(world.sign("shop", PublishProgram, asset="STAR", version=2, starts=late, program=program))
    assert (refusal.code, refusal.path) == (Code.TIME_ZONE_MISMATCH, ("program", "time_zone"))
    assert isinstance(world.ask(world.pay("alice", ("bob", 10))), Admission)


def test_asset_cannot_bear_the_code_of_a_currency() -> None:
    """Points and money owed are told apart by their codes alone."""
    rejection = WORLD.refuse(WORLD.sign("shop", DefineAsset, asset="USD", name="Dollars", scale=0, transferable=True))
    assert (rejection.code, rejection.path) == (Code.ASSET_EXISTS, ("asset",))


@pytest.mark.parametrize("who", ["bob", "auditor", "operator"])
def test_points_are_redeemed_at_merchants_and_beneficiaries(who: str) -> None:
    """An account that is neither is refused as for nobody."""
    rejection = WORLD.refuse(WORLD.sign("alice", Redeem, asset="STAR", amount=1, merchant=WORLD.ids[who]))
    assert (rejection.code, rejection.path) == (Code.UNKNOWN_ACCOUNT, ("merchant",))


@pytest.mark.parametrize(("version", "next_version"), [(1, 2), (3, 2), (1_000_000, 2)])
def test_versions_are_counted(version: int, next_version: int) -> None:
    """A version other than the next is refused, and the refusal says which is next."""
    rejection = WORLD.refuse(
        WORLD.sign("shop", PublishProgram, asset="STAR", version=version, starts=NOW, program=PROGRAM)
    )
    assert (rejection.code, rejection.details) == (Code.VERSION_CONFLICT, {"next_version": next_version})


def test_purchase_keeps_the_rules_of_its_time() -> None:
    """After a new version, a purchase made before it is still counted by the old one."""
    world = make_world()
    double = make_program(bands=(Band(from_amount=0, points=2, per=100),), expiry=NeverExpires())
    world.record(world.sign("shop", PublishProgram, asset="STAR", version=2, starts=NOW, program=double))
    before = world.buy("bob", "before", 1_000, later(-1))
    after = world.buy("bob", "after", 1_000, NOW)
    assert before.postings[1] == Posting(account=world.ids["bob"], amount=10, asset="STAR", lot="2026-12-22")
    assert after.postings[1] == Posting(account=world.ids["bob"], amount=20, asset="STAR")


@pytest.mark.parametrize(
    ("zone", "at", "earned_on", "lot"),
    [
        ("America/New_York", "1997-01-01T04:59:59.999Z", "1996-12-31", "1997-01-30"),
        ("America/New_York", "1900-01-01T00:00:00.000Z", "1899-12-31", "1900-01-30"),
        ("Asia/Tokyo", "2026-11-22T15:00:00.000Z", "2026-11-23", "2026-12-23"),
    ],
)
def test_points_are_earned_on_the_local_day(zone: str, at: str, earned_on: str, lot: str) -> None:
    """The day of earning and the last day are those of the program's time zone, back to the first day there is."""
    world = World()
    world.now_ms = parse_time("2026-11-22T15:00:00.000Z")
    world.add_asset("STAR")
    program = make_program(time_zone=zone)
    starts = "1900-01-01T00:00:00.000Z"
    world.record(world.sign("shop", PublishProgram, asset="STAR", version=1, starts=starts, program=program))
    admission = world.buy("alice", "order-1", 100, at)
    assert admission.earnings[0].earned_on == earned_on
    assert admission.postings[1].lot == lot
    grant = world.record(world.sign("shop", Grant, at=at, **grant_fields(world)))
    assert (grant.earnings[0].earned_on, grant.postings[1].lot) == (earned_on, lot)


def test_lot_can_be_used_through_its_last_day() -> None:
    """Until the last millisecond of that day in the program's time zone, and not after it."""
    world = World()
    world.add_asset("STAR", program=make_program(time_zone="America/New_York"))
    world.give("alice", {"2026-11-22": 10})
    signed = world.pay("alice", ("bob", 10))
    assert isinstance(admit(world.state, signed, "2026-11-23T04:59:59.999Z"), Admission)
    rejection = admit(world.state, signed, "2026-11-23T05:00:00.000Z")
    assert isinstance(rejection, Rejection)
    assert rejection.details == {"required_points": 10, "available_points": 0}


# Earning


def test_purchases_are_booked_in_one_entry() -> None:
    """One leg of issue, then one for each purchase that earned; every purchase is an event, also without points."""
    world = make_world()
    purchases = tuple(
        Purchase(amount=amount, at=NOW, member=world.ids[who], order=order)
        for who, amount, order in [("alice", 1_250, "a"), ("bob", 99, "b"), ("alice", 300, "c")]
    )
    admission = world.record(world.sign("shop", RecordPurchases, asset="STAR", currency="USD", purchases=purchases))
    alice, shop = world.ids["alice"], world.ids["shop"]
    assert admission.postings == (
        Posting(account=SYS_ISSUED, amount=-15, asset="STAR"),
        Posting(account=alice, amount=12, asset="STAR", lot="2026-12-22"),
        Posting(account=alice, amount=3, asset="STAR", lot="2026-12-22"),
    )
    assert admission.earnings == (
        Earning(shop, "order", "a", alice, "2026-11-22", 1_250, 12, 1),
        Earning(shop, "order", "b", world.ids["bob"], "2026-11-22", 99, 0, 1),
        Earning(shop, "order", "c", alice, "2026-11-22", 300, 3, 1),
    )


def test_order_without_points_is_used_up() -> None:
    """A purchase too small to earn is recorded, moves nothing, and its order is refused the second time."""
    world = make_world()
    assert world.buy("bob", "small", 99).postings == ()
    purchase = Purchase(amount=10_000, at=NOW, member=world.ids["bob"], order="small")
    rejection = world.refuse(world.sign("shop", RecordPurchases, asset="STAR", currency="USD", purchases=(purchase,)))
    assert (rejection.code, rejection.details) == (Code.ORDER_EXISTS, {"seq": world.size - 1})


def test_references_are_the_merchants_own() -> None:
    """One order number may be used by two merchants, and by a grant; not twice by one, whatever the asset."""
    world = make_world()
    purchase = Purchase(amount=100, at=NOW, member=world.ids["bob"], order="order-1")
    fields: dict[str, Any] = {"currency": "USD", "purchases": (purchase,)}
    assert isinstance(world.ask(world.sign("rival", RecordPurchases, asset="MOON", **fields)), Admission)
    assert world.refuse(world.sign("shop", RecordPurchases, asset="GIFT", **fields)).code == Code.ORDER_EXISTS
    world.record(world.sign("shop", Grant, **grant_fields(world, reference="order-1")))
    review = grant_fields(world, reference="order-1", activity="review", amount=5)
    world.record(world.sign("shop", Grant, **review))
    assert world.refuse(world.sign("shop", Grant, **review)).code == Code.REFERENCE_EXISTS


@pytest.mark.parametrize("who", ["shop", "school", "auditor", "operator"])
def test_only_members_earn(who: str) -> None:
    """A purchase or a grant for any other account is refused as for nobody."""
    purchase = Purchase(amount=100, at=NOW, member=WORLD.ids[who], order="new")
    fields: dict[str, Any] = {"currency": "USD", "purchases": (purchase,)}
    assert WORLD.refuse(WORLD.sign("shop", RecordPurchases, asset="STAR", **fields)).code == Code.UNKNOWN_ACCOUNT
    rejection = WORLD.refuse(WORLD.sign("shop", Grant, **grant_fields(WORLD, member=WORLD.ids[who])))
    assert rejection.code == Code.UNKNOWN_ACCOUNT


def test_supply_cap_bounds_what_circulates() -> None:
    """Points can be issued up to the cap exactly, and again after some were spent or expired."""
    world = World()
    world.add_asset("STAR", program=make_program(), supply_cap=100)
    world.buy("alice", "a", 9_900, later(-40 * DAY_MS))
    over = world.sign("shop", Grant, **grant_fields(world, amount=2))
    assert world.refuse(over).details == {"supply_cap": 100, "circulating_points": 99}
    world.record(world.sign("shop", Grant, **grant_fields(world, amount=1)))
    assert world.refuse(world.sign("shop", Grant, **grant_fields(world, amount=1, reference="x"))).code == (
        Code.SUPPLY_EXCEEDED
    )
    world.record(world.sign("alice", Redeem, asset="STAR", amount=1, merchant=world.ids["shop"]))
    world.record(world.sign("shop", Grant, **grant_fields(world, amount=1, reference="y")))
    world.record(world.sign("operator", Expire, asset="STAR", limit=1, through="2026-11-21"))
    world.record(world.sign("shop", Grant, **grant_fields(world, amount=99, reference="z")))
    assert world.refuse(world.sign("shop", Grant, **grant_fields(world, amount=1, reference="w"))).code == (
        Code.SUPPLY_EXCEEDED
    )


def test_points_ever_issued_stay_exact() -> None:
    """All points ever issued of an asset are at most 2^53-1, though they were spent long since."""
    world = World()
    grants = (GrantRule(activity="birthday", max_points=MAX_INTEGER),)
    world.add_asset("STAR", program=make_program(grants=grants))
    world.record(world.sign("shop", Grant, **grant_fields(world, amount=MAX_INTEGER)))
    world.record(world.sign("alice", Redeem, asset="STAR", amount=MAX_INTEGER, merchant=world.ids["shop"]))
    rejection = world.refuse(world.sign("shop", Grant, **grant_fields(world, amount=1, reference="x")))
    assert rejection.code == Code.POINTS_OVERFLOW


# Spending


def test_earliest_lots_go_first_and_keep_their_last_day() -> None:
    """What each lot gives, earliest first; then what each recipient gets of it, in the order of the document."""
    world = make_world()
    world.state.lots.pop((world.ids["alice"], "STAR"))
    world.give("alice", {NO_LAST_DAY: 10, "2027-03-01": 7, "2026-12-01": 5, "2026-11-21": 100})
    alice, bob, school = world.ids["alice"], world.ids["bob"], world.ids["school"]
    admission = world.record(world.pay("alice", ("school", 6), ("bob", 7)))
    assert admission.postings == (
        Posting(account=alice, amount=-5, asset="STAR", lot="2026-12-01"),
        Posting(account=alice, amount=-7, asset="STAR", lot="2027-03-01"),
        Posting(account=alice, amount=-1, asset="STAR"),
        Posting(account=school, amount=5, asset="STAR", lot="2026-12-01"),
        Posting(account=school, amount=1, asset="STAR", lot="2027-03-01"),
        Posting(account=bob, amount=6, asset="STAR", lot="2027-03-01"),
        Posting(account=bob, amount=1, asset="STAR"),
    )
    assert world.lots("alice") == {NO_LAST_DAY: 9, "2026-11-21": 100}
    assert world.lots("school") == {"2026-12-01": 5, "2027-03-01": 1}
    assert world.lots("bob") == {"2027-03-01": 6, NO_LAST_DAY: 1}


def test_transfer_between_two_has_two_legs() -> None:
    """The common case: one lot, one recipient."""
    world = make_world()
    admission = world.record(world.pay("alice", ("bob", 500)))
    assert [(leg.account, leg.amount, leg.lot) for leg in admission.postings] == [
        (world.ids["alice"], -500, "2026-12-22"),
        (world.ids["bob"], 500, "2026-12-22"),
    ]


def test_redeemed_points_go_to_the_spent() -> None:
    """Lots go as in a transfer; the other leg is one, without lot."""
    world = make_world()
    world.give("alice", {"2026-12-01": 5})
    admission = world.record(world.sign("alice", Redeem, asset="STAR", amount=8, merchant=world.ids["shop"]))
    assert admission.postings == (
        Posting(account=world.ids["alice"], amount=-5, asset="STAR", lot="2026-12-01"),
        Posting(account=world.ids["alice"], amount=-3, asset="STAR", lot="2026-12-22"),
        Posting(account=SYS_SPENT, amount=8, asset="STAR"),
    )


def test_reward_is_not_given_for_one_point_less() -> None:
    """programs.md row 2: redeeming 150 with 149 is refused, with 150 leaves nothing."""
    world = World()
    world.add_asset("STAR", program=make_program(expiry=NeverExpires()))
    world.give("alice", {NO_LAST_DAY: 149})
    signed = world.sign("alice", Redeem, asset="STAR", amount=150, merchant=world.ids["shop"])
    assert world.refuse(signed).details == {"required_points": 150, "available_points": 149}
    world.give("alice", {NO_LAST_DAY: 1})
    world.record(signed)
    assert world.lots("alice") == {}


def test_two_percent_back_is_gone_after_90_days() -> None:
    """programs.md row 6: 0.50 of 2026-01-01 can be used on 2026-04-01, is retired after it, and later lots stay."""
    world = World()
    program = make_program(bands=(Band(from_amount=0, points=2, per=100),), expiry=ExpiresAfterDays(count=90))
    world.add_asset("BUCKS", program=program)
    world.buy("alice", "a", 2_500, "2026-01-01T12:00:00.000Z", asset="BUCKS")
    world.buy("alice", "b", 5_000, "2026-01-15T12:00:00.000Z", asset="BUCKS")
    assert world.lots("alice", "BUCKS") == {"2026-04-01": 50, "2026-04-15": 100}
    spend = world.sign("alice", Redeem, asset="BUCKS", amount=150, merchant=world.ids["shop"])
    assert isinstance(admit(world.state, spend, "2026-11-22T00:00:00.000Z"), Rejection)
    world.now_ms = parse_time("2026-04-02T00:00:00.000Z")
    expiry = world.sign("operator", Expire, asset="BUCKS", limit=10, through="2026-04-01")
    assert isinstance(admit(world.state, expiry, "2026-04-01T23:59:59.999Z"), Rejection)
    admission = world.record(expiry)
    assert admission.postings == (
        Posting(account=world.ids["alice"], amount=-50, asset="BUCKS", lot="2026-04-01"),
        Posting(account=SYS_EXPIRED, amount=50, asset="BUCKS"),
    )
    assert world.lots("alice", "BUCKS") == {"2026-04-15": 100}


@pytest.mark.parametrize("who", ["shop", "school", "carol"])
def test_every_holder_can_receive_and_pass_on(who: str) -> None:
    """Merchants, beneficiaries and members in custody hold points like anyone."""
    world = make_world()
    world.record(world.pay("alice", (who, 10)))
    world.record(world.pay(who, ("bob", 10)))
    assert world.lots("bob") == {"2026-12-22": 10}


def test_points_that_cannot_be_transferred_can_be_redeemed() -> None:
    """The flag is about holders among themselves."""
    world = make_world()
    world.give("alice", {NO_LAST_DAY: 10}, "GIFT")
    assert world.refuse(world.pay("alice", ("bob", 1), asset="GIFT")).code == Code.NOT_TRANSFERABLE
    world.record(world.sign("alice", Redeem, asset="GIFT", amount=10, merchant=world.ids["shop"]))


# Expiring


def test_lots_expire_by_day_and_account_up_to_the_limit() -> None:
    """The earliest days first, accounts in order within a day; what is beyond the limit waits for the next."""
    world = World()
    world.add_asset("STAR", program=make_program())
    holders = sorted(["alice", "bob", "carol", "school"], key=world.ids.__getitem__)
    for i, who in enumerate(holders):
        world.give(who, {"2026-11-20": i + 1, "2026-11-21": 10, "2026-11-22": 100, NO_LAST_DAY: 1_000})
    world.state.add_lot(world.ids[holders[1]], "STAR", "2026-11-20", -2)
    due = [("2026-11-20", holders[0], 1), ("2026-11-20", holders[2], 3), ("2026-11-20", holders[3], 4)]
    due += [("2026-11-21", who, 10) for who in holders]
    for limit in (1, 2, 3, 5, 7, 8, 400):
        admission = world.ask(world.sign("operator", Expire, asset="STAR", limit=limit, through="2026-11-21"))
        assert isinstance(admission, Admission)
        wanted = due[:limit]
        assert admission.postings == (
            *(Posting(account=world.ids[who], amount=-points, asset="STAR", lot=day) for day, who, points in wanted),
            Posting(account=SYS_EXPIRED, amount=sum(points for _, _, points in wanted), asset="STAR"),
        )
    world.record(world.sign("shop", Expire, asset="STAR", limit=5, through="2026-11-21"))
    world.record(world.sign("operator", Expire, asset="STAR", limit=5, through="2026-11-21"))
    rejection = world.refuse(world.sign("operator", Expire, asset="STAR", limit=5, through="2026-11-21"))
    assert rejection.code == Code.NOTHING_DUE
    assert [world.lots(who) for who in holders] == [{"2026-11-22": 100, NO_LAST_DAY: 1_000}] * 4


def test_lots_that_were_spent_do_not_expire() -> None:
    """A lot emptied by its owner is forgotten, and one moved expires at its new holder."""
    world = World()
    world.add_asset("STAR", program=make_program())
    world.give("alice", {"2026-11-22": 30})
    world.record(world.pay("alice", ("bob", 10)))
    world.record(world.sign("alice", Redeem, asset="STAR", amount=20, merchant=world.ids["shop"]))
    assert due_lots(world.state, "STAR", "2026-11-22", 10) == [("2026-11-22", world.ids["bob"])]


# Conservation

MEMBERS = ["alice", "bob", "carol"]
HOLDERS = [*MEMBERS, "school"]
WHO, TO = st.sampled_from(MEMBERS), st.sampled_from(HOLDERS)
COMMANDS = st.lists(
    st.one_of(
        st.tuples(st.just("buy"), WHO, st.integers(0, 60), st.integers(0, 14)),
        st.tuples(st.just("buy"), WHO, st.integers(20, 50), st.integers(0, 3)),
        st.tuples(st.just("pay"), TO, st.dictionaries(TO, st.integers(1, 25), min_size=1, max_size=3)),
        st.tuples(st.just("redeem"), TO, st.integers(1, 60)),
        st.tuples(st.just("expire"), st.integers(0, 4), st.integers(1, 3)),
        st.tuples(st.just("wait"), st.integers(1, 6)),
    ),
    min_size=6,
    max_size=40,
)
LIFE_DAYS, CAP = 10, 150


class Model:
    """Every single point by itself: for each holder a list with the last day of each point it has."""

    def __init__(self) -> None:
        self.points: dict[str, list[str]] = {who: [] for who in HOLDERS}
        self.today = date(2026, 11, 22)
        self.issued = self.spent = self.expired = 0

    def day(self, days_ago: int) -> str:
        return (self.today - timedelta(days=days_ago)).isoformat()

    def buy(self, who: str, dollars: int, days_ago: int) -> Code | None:
        if dollars and sum(map(len, self.points.values())) + dollars > CAP:
            return Code.SUPPLY_EXCEEDED
        self.points[who] += [self.day(days_ago - LIFE_DAYS)] * dollars
        self.issued += dollars
        return None

    def take(self, who: str, amount: int) -> list[str] | None:
        usable = sorted(day for day in self.points[who] if day >= self.today.isoformat())
        if len(usable) < amount:
            return None
        for day in usable[:amount]:
            self.points[who].remove(day)
        return usable[:amount]

    def pay(self, who: str, to: dict[str, int]) -> Code | None:
        taken = self.take(who, sum(to.values()))
        if taken is None:
            return Code.INSUFFICIENT_POINTS
        for name, amount in to.items():
            self.points[name] += taken[:amount]
            taken = taken[amount:]
        return None

    def redeem(self, who: str, amount: int) -> Code | None:
        if self.take(who, amount) is None:
            return Code.INSUFFICIENT_POINTS
        self.spent += amount
        return None

    def expire(self, days_ago: int, limit: int, ids: dict[str, str]) -> Code | None:
        if days_ago == 0:
            return Code.NOT_YET_DUE
        due = sorted(
            {(day, ids[who], who) for who, days in self.points.items() for day in days if day <= self.day(days_ago)}
        )
        for day, _, who in due[:limit]:
            self.expired += self.points[who].count(day)
            self.points[who] = [other for other in self.points[who] if other != day]
        return None if due else Code.NOTHING_DUE


@settings(max_examples=150)
@given(COMMANDS)
def test_any_history_agrees_with_counting_single_points(commands: list[tuple[Any, ...]]) -> None:
    """Random histories: the same answers and lots as the naive model; every entry sums to zero; none goes below it."""
    world, model = World(), Model()
    program = make_program(expiry=ExpiresAfterDays(count=LIFE_DAYS))
    world.add_asset("STAR", program=program, supply_cap=CAP)
    for number, (name, *arguments) in enumerate(commands):
        if name == "wait":
            world.now_ms += arguments[0] * DAY_MS
            model.today += timedelta(days=arguments[0])
            continue
        if name == "buy":
            who, dollars, days_ago = arguments
            at = format_time(world.now_ms - days_ago * DAY_MS)
            purchase = Purchase(amount=dollars * 100 + 99, at=at, member=world.ids[who], order=f"o{number}")
            fields: dict[str, Any] = {"currency": "USD", "purchases": (purchase,)}
            signed = world.sign("shop", RecordPurchases, asset="STAR", **fields)
            expected = model.buy(who, dollars, days_ago)
        elif name == "pay":
            who, to = arguments[0], {to: amount for to, amount in arguments[1].items() if to != arguments[0]}
            if not to:
                continue
            signed = world.pay(who, *to.items())
            expected = model.pay(who, to)
        elif name == "redeem":
            who, amount = arguments
            signed = world.sign(who, Redeem, asset="STAR", amount=amount, merchant=world.ids["shop"])
            expected = model.redeem(who, amount)
        else:
            days_ago, limit = arguments
            signed = world.sign("operator", Expire, asset="STAR", limit=limit, through=model.day(days_ago))
            expected = model.expire(days_ago, limit, world.ids)
        before = copy.deepcopy(contents(world.state))
        answer = world.ask(signed)
        assert contents(world.state) == before
        assert (answer.code if isinstance(answer, Rejection) else None) == expected
        if isinstance(answer, Admission):
            assert sum(leg.amount for leg in answer.postings) == 0
            assert all(leg.amount for leg in answer.postings)
            apply(world.state, signed, answer, world.size)
        for who in HOLDERS:
            assert world.lots(who) == Counter(model.points[who])
        balances = [world.state.balance(account, "STAR") for account in SYSTEM_ACCOUNTS]
        assert balances == [-model.issued, model.spent, model.expired, 0]
        assert sum(balances) + sum(len(points) for points in model.points.values()) == 0
        dated = {(day, who) for day, holders in world.state.dated.get("STAR", {}).items() for who in holders}
        assert dated == {(day, world.ids[who]) for who, days in model.points.items() for day in days}
