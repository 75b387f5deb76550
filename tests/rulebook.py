"""A ledger in memory, to try the rules on: no database, and nothing is signed unless a test asks for it.

    book = Book()
    shop, bakery = book.merchant("Shop"), book.merchant("Bakery")
    book.asset(shop, "STAR")
    book.asset(bakery, "BEAN")
    alice = book.member()
    book.give(alice, "STAR", 500)
    book.agree(shop, bakery, exchange("STAR", "BEAN", give=5, get=3))
    book.do("exchange", actor=alice, asset="STAR", into="BEAN", amount=500, minimum_out=300)
    assert book.balance(alice, "BEAN") == 300

Fields are those of the documents, as plain data or as parts of :mod:`ledger.terms`; a field of ``None`` is left out.
Every decision is taken twice: on the whole state, and on a partial one that holds only what the operation's touches
name, as a writer does. They must agree, and so must the lots it changes. What is recorded must sum to zero for every
asset and currency.
"""

import itertools
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.agreements import agreement_name
from ledger.checkpoint import encode_verifier_key
from ledger.encoding import account_id, encode_canonical, format_time, parse_time
from ledger.entries import NO_LAST_DAY
from ledger.keys import encode_public_key, sign
from ledger.movements import spendable
from ledger.operations import Agree, Expire, Signature, SignedOperation, sign_with, signed_message
from ledger.program_terms import Band, GrantRule, NeverExpires, Program
from ledger.rules import admit, apply
from ledger.spending import due_lots
from ledger.state import RECORDS, SYS_ISSUED, Admission, Decision, Rejection, State, Touches
from ledger.terms import ROLE_PREFIXES
from ledger.touches import touches, touches_more

ORIGIN = "ledger.example/rules"
START = "2026-03-02T12:00:00.000Z"
LONG_AGO = "1997-01-01T00:00:00.000Z"
DAY_MS = 86_400_000
TOLERANCE_MS = 30_000


def make_program(**changes: Any) -> Program:
    """1 point per whole dollar, never expiring, UTC; up to 10^9 points for goodwill."""
    fields: dict[str, Any] = {
        "bands": (Band(from_amount=0, points=1, per=100),),
        "currency": "USD",
        "expiry": NeverExpires(),
        "grants": (GrantRule(activity="goodwill", max_points=10**9),),
        "round_amount": "whole_units",
        "round_points": "down",
        "time_zone": "UTC",
    }
    return Program(**fields | changes)


def exchange(asset: str, into: str, *, give: int = 1, get: int = 1, **fields: Any) -> dict[str, Any]:
    """Terms of an exchange as plain data: ``get`` points of ``into`` for ``give`` of ``asset``, which are retired."""
    rate = {"get": get, "give": give}
    return {"asset": asset, "into": into, "rate": rate, "received": "retired", "type": "exchange", **fields}


def acceptance(asset: str, **fields: Any) -> dict[str, Any]:
    """Terms of acceptance as plain data; the points are retired unless ``received`` is given."""
    return {"asset": asset, "received": "retired", "type": "acceptance", **fields}


def earning(asset: str, billing: str = "prepaid", **fields: Any) -> dict[str, Any]:
    """Terms of earning as plain data."""
    return {"asset": asset, "billing": billing, "type": "earning", **fields}


def claim(
    debtor: str, amount: int = 1, points: int = 1, currency: str = "USD", round: str = "half_up"
) -> dict[str, Any]:
    """Terms of a claim as plain data: ``amount`` minor units for every ``points`` points."""
    return {"amount": amount, "currency": currency, "debtor": debtor, "points": points, "round": round}


def make_key(number: int) -> Ed25519PrivateKey:
    """A key pair by its number."""
    return Ed25519PrivateKey.from_private_bytes(number.to_bytes(32, "big"))


_PLAIN = make_program()


class Book:
    """A ledger whose state is all in memory. Its clock stands still until a test moves it.

    ``op_id`` is the id of the last operation recorded, in hex, and ``seq`` its entry. ``keys`` are each account's.
    """

    def __init__(self, start: str = START, *, currencies: Sequence[str] = ("EUR", "USD"), **genesis: Any) -> None:
        self.state = State(ORIGIN)
        self.now_ms = parse_time(start)
        self.keys: dict[str, list[Ed25519PrivateKey]] = {}
        self.op_id = ""
        self.seq = -1
        self._random = random.Random(0)
        self._numbers = itertools.count(1)
        key = self.make_key()
        self.do(
            "genesis",
            clock_tolerance_ms=TOLERANCE_MS,
            currencies=[{"code": code, "scale": 2} for code in currencies],
            keys=[encode_public_key(key)],
            log_key=encode_verifier_key(ORIGIN, key),
            name="Operator",
            **genesis,
        )
        self.operator = self._opened("operator", [key])

    # The clock

    @property
    def time(self) -> str:
        """The recording time of whatever is done next."""
        return format_time(self.now_ms)

    def at(self, time: str) -> Self:
        """Set the clock."""
        self.now_ms = parse_time(time)
        return self

    def advance(self, *, days: int = 0, ms: int = 0) -> Self:
        """Move the clock."""
        self.now_ms += days * DAY_MS + ms
        return self

    def later(self, *, days: int = 0, ms: int = 0) -> str:
        """A time from now; negative values are in the past."""
        return format_time(self.now_ms + days * DAY_MS + ms)

    # Operations

    def make_key(self) -> Ed25519PrivateKey:
        """A key pair nobody has yet."""
        return make_key(next(self._numbers))

    def build(self, kind: str, *, signers: Iterable[Ed25519PrivateKey] = (), **fields: Any) -> SignedOperation:
        """An operation of a kind, signed with these keys if any; its nonce, ledger and ``at`` are filled in."""
        known = {"at": self.time, "guerdon": 1, "kind": kind, "ledger": self.state.origin, "nonce": self._nonce()}
        given = {name: value for name, value in (known | fields).items() if value is not None}
        data = encode_canonical(given)
        sigs = tuple(Signature(key=encode_public_key(key), sig=sign(key, signed_message(data))) for key in signers)
        return sign_with(data, sigs)

    def decide(self, signed: SignedOperation) -> Decision:
        """What becomes of an operation; its signers are checked only when it has signatures."""
        check_signers = bool(signed.sigs)
        decision = admit(self.state, signed, self.time, check_signers=check_signers)
        partial = partial_state(self.state, signed, self.time)
        again = admit(partial, signed, self.time, check_signers=check_signers)
        assert again == decision, f"the touches of {signed.op.KIND} name too little: {again} there, {decision} here"
        return decision

    def ask(self, kind: str, **fields: Any) -> Decision:
        """What would become of an operation. Nothing is recorded."""
        return self.decide(self.build(kind, **fields))

    def do(self, kind: str, **fields: Any) -> Admission:
        """Record an operation, which must be admitted."""
        signed = self.build(kind, **fields)
        decision = self.decide(signed)
        assert isinstance(decision, Admission), decision
        self.record(signed, decision)
        return decision

    def refused(self, kind: str, **fields: Any) -> Rejection:
        """Why an operation is refused, which it must be."""
        decision = self.ask(kind, **fields)
        assert isinstance(decision, Rejection), decision
        return decision

    def record(self, signed: SignedOperation, admission: Admission) -> None:
        """Make an admitted operation the next entry."""
        sums: Counter[str] = Counter()
        for leg in admission.postings:
            assert leg.amount != 0, leg
            sums[leg.asset] += leg.amount
        assert not any(sums.values()), f"postings must sum to zero: {sums}"
        self.seq += 1
        partial = partial_state(self.state, signed, self.time)
        apply(self.state, signed, admission, self.seq)
        apply(partial, signed, admission, self.seq)
        for leg in admission.postings:  # a writer stores the lots it then has
            day = leg.lot or NO_LAST_DAY
            there, here = (state.lots_of(leg.account, leg.asset).get(day) for state in (partial, self.state))
            assert there == here, f"the touches of {signed.op.KIND} leave out {leg.asset} of {leg.account}"
        self.op_id = signed.op_id.hex()

    def _nonce(self) -> str:
        text = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        return "".join(self._random.choices(text, k=21)) + "A"

    # Accounts, assets, points

    def merchant(self, name: str = "Shop", **fields: Any) -> str:
        """Open a merchant's account."""
        return self.open("merchant", actor=self.operator, name=name, **fields)

    def beneficiary(self, name: str = "School", **fields: Any) -> str:
        """Open a beneficiary's account."""
        return self.open("beneficiary", actor=self.operator, name=name, **fields)

    def auditor(self, name: str = "Auditor", **fields: Any) -> str:
        """Open an auditor's account."""
        return self.open("auditor", actor=self.operator, name=name, **fields)

    def member(self, custodian: str | None = None) -> str:
        """Open a member's account, with a key of its own or held by a merchant."""
        return self.open("member", actor=custodian, count=0 if custodian else 1)

    def open(self, role: str, *, count: int = 1, **fields: Any) -> str:
        """Open an account with so many keys; its id."""
        keys = [self.make_key() for _ in range(count)]
        public = [encode_public_key(key) for key in keys]
        self.do("open_account", keys=public or None, role=role, **fields)
        return self._opened(role, keys)

    def _opened(self, role: str, keys: list[Ed25519PrivateKey]) -> str:
        account = account_id(ROLE_PREFIXES[role], bytes.fromhex(self.op_id))  # type: ignore[arg-type]
        self.keys[account] = keys
        return account

    def asset(self, merchant: str, code: str = "STAR", program: Program | None = _PLAIN, **fields: Any) -> str:
        """Define an asset and publish version 1 of its program, in force since 1997; its code."""
        fields = {"name": code.title(), "scale": 0, "transferable": True, **fields}
        self.do("define_asset", actor=merchant, asset=code, **fields)
        if program is not None:
            self.publish(code, program, starts=LONG_AGO)
        return code

    def publish(self, asset: str, program: Program, *, starts: str | None = None, ends: str | None = None) -> None:
        """Publish the next version of an asset's program, in force from now on unless another time is given."""
        fields = {"ends": ends, "program": program, "starts": starts or self.time}
        version = len(self.state.programs.get(asset, ())) + 1
        self.do("publish_program", actor=self.state.assets[asset].issuer, asset=asset, version=version, **fields)

    def give(self, account: str, asset: str, points: int | Mapping[str, int]) -> None:
        """Put issued points into the state, under no entry: so many that never expire, or of each last day."""
        lots = {NO_LAST_DAY: points} if isinstance(points, int) else points
        for day, amount in lots.items():
            self.state.add_lot(account, asset, day, amount)
            self.state.add_lot(SYS_ISSUED, asset, NO_LAST_DAY, -amount)

    def owe(self, debtor: str, creditor: str, amount: int, currency: str = "USD") -> int:
        """Let one merchant owe another an amount by a claim of today; the entry that made it, as its claim 0.

        The debtor buys one point of an asset of its own for it, in advance.
        """
        code = f"OWED{next(self._numbers)}"
        self.asset(creditor, code, None)
        self.agree(creditor, debtor, earning(code, "prepaid", claim=claim(debtor, amount, 1, currency)))
        self.do("allot", actor=creditor, asset=code, partner=debtor, points=1, reference=f"block-{code}")
        return self.seq

    def agree(
        self, issuer: str, partner: str, terms: Any, *, notice_days: int = 0, starts: str | None = None, **fields: Any
    ) -> str:
        """Record the next version of an agreement, in force from now on unless another time is given; its name."""
        signed = self.build(
            "agree",
            actor=issuer,
            notice_days=notice_days,
            partner=partner,
            starts=starts or self.time,
            terms=terms,
            version=1,
            **fields,
        )
        assert isinstance(signed.op, Agree)
        name = agreement_name(signed.op.terms, partner)
        version = len(self.state.agreements.group(name)) + 1
        self.do(
            "agree",
            actor=issuer,
            notice_days=notice_days,
            partner=partner,
            starts=starts or self.time,
            terms=terms,
            **{"version": version, **fields},
        )
        return name

    def hold(self, account: str, merchant: str, asset: str, amount: int, *, days: int = 7, **fields: Any) -> str:
        """Place a hold that ends by itself in some days; its id."""
        until = fields.pop("until", None) or self.later(days=days)
        self.do("hold", actor=account, amount=amount, asset=asset, merchant=merchant, until=until, **fields)
        return account_id("hld", bytes.fromhex(self.op_id))  # type: ignore[arg-type]

    def balance(self, account: str, asset: str) -> int:
        """All points of an account, usable or not; of a currency, what it is owed less what it owes."""
        return self.state.balance(account, asset)

    def lots(self, account: str, asset: str) -> dict[str, int]:
        """Points of an account by last day."""
        return dict(self.state.lots_of(account, asset))

    def spendable(self, account: str, asset: str) -> int:
        """Points of an account that can be used now, what lapsed holds would return not included."""
        return spendable(self.state.lots_of(account, asset), self.state.today(asset, self.time))

    def owed(self, debtor: str, creditor: str, currency: str = "USD") -> int:
        """What one account owes another, as far as it is not disputed."""
        return sum(obligation.amount for obligation in self.state.obligations.group(currency, debtor, creditor))


def partial_state(state: State, signed: SignedOperation, time: str, *, steps: int = 10) -> State:
    """The part of a state that an operation's touches name, and nothing more, as a writer would load it.

    In the first step that is what its document names, in each further one what follows from what is there by then.
    """
    needs, part = touches(signed.op), State(state.origin)
    part.parameters, part.log_keys, part.size = state.parameters, state.log_keys, state.size
    loaded = Touches.none()
    for _ in range(steps):
        more = needs.less(loaded)
        if not more:
            break
        _load(part, state, more)
        loaded = Touches(*(set(getattr(needs, name)) for name in needs.__struct_fields__))
        touches_more(part, signed.op, time, needs)
    if isinstance(signed.op, Expire):
        for day, account in due_lots(state, signed.op.asset, signed.op.through, signed.op.limit):
            if day not in part.lots_of(account, signed.op.asset):
                part.add_lot(account, signed.op.asset, day, state.lots_of(account, signed.op.asset)[day])
    for name in RECORDS:
        assert not part.records(name).changed
    return part


def _load(part: State, state: State, needs: Touches) -> None:
    _copy(part.accounts, state.accounts, needs.accounts)
    custodians = {account.custodian for account in part.accounts.values() if account.custodian is not None}
    _copy(part.accounts, state.accounts, custodians)
    _copy(part.assets, state.assets, needs.assets)
    _copy(part.programs, state.programs, needs.assets)
    for account, asset in needs.balances:
        for day, points in state.lots_of(account, asset).items():
            part.add_lot(account, asset, day, points)
    _copy(part.references, state.references, needs.references)
    _copy(part.earnings, state.earnings, needs.earnings)
    for name, key in needs.records:
        record = state.records(name).get(*key)
        if record is not None:
            part.records(name).load(record)
    for name, group in needs.groups:
        for record in state.records(name):
            if _is_in(state.records(name), record, group):
                part.records(name).load(record)


def _copy(part: dict[Any, Any], whole: Mapping[Any, Any], keys: Iterable[Any]) -> None:
    part.update((key, whole[key]) for key in keys if key in whole)


def _is_in(records: Any, record: Any, group: tuple[Any, ...]) -> bool:
    found = records._group_of(record)  # a prefix of the group names more than one
    return found is not None and found[: len(group)] == group
