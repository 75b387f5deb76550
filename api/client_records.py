"""What :class:`api.guerdon.Guerdon` answers: entries that are recorded and proven, and what a server says.

Points are integers in the asset's smallest unit, money in the currency's.
"""

from typing import TypeVar

import msgspec
from msgspec import Struct

from api.client import Refusal
from ledger.encoding import OpId, account_id
from ledger.entries import Entry, Posting
from ledger.operations import Capture, Exchange, Hold, Net, Refund, Release, Transfer
from ledger.receipt import Proven
from ledger.state import SYS_HELD, SYS_ISSUED
from ledger.terms import Payment, Rate, RefundedPurchase

R = TypeVar("R", bound="Recorded")


class Recorded(Struct, frozen=True, kw_only=True):
    """An operation that is recorded, with its receipt.

    ``proven`` is what the receipt proves under the log's key; ``None`` where the client has none. ``replayed`` tells
    that an earlier submission of the same document had recorded it. ``balance`` is what the actor has left of the
    asset, by the server's word; ``None`` when replayed and where nothing is spent.
    """

    operation_id: str
    seq: int
    hash: str
    entry: Entry
    balance: int | None
    replayed: bool
    receipt: str
    proven: Proven | None

    @property
    def postings(self) -> tuple[Posting, ...]:
        """What it moved; the legs of every asset sum to zero."""
        return self.entry.postings

    @property
    def money(self) -> tuple[Posting, ...]:
        """Those legs that are money somebody came to owe, below zero, or is owed: minor units of a currency."""
        points = points_of(self.entry)
        return tuple(leg for leg in self.entry.postings if leg.asset not in points)

    @property
    def fees(self) -> dict[str, int]:
        """What the actor owes for a transfer or exchange, by currency; empty for nothing."""
        op = self.entry.op
        if not isinstance(op, Transfer | Exchange):
            return {}
        owed: dict[str, int] = {}
        for leg in self.money:
            if leg.account == op.actor and leg.amount < 0:
                owed[leg.asset] = owed.get(leg.asset, 0) - leg.amount
        return owed


class Exchanged(Recorded, frozen=True, kw_only=True):
    """An exchange that is recorded. For a party to the agreement ``fees`` has what it owes the other by it, too."""

    @property
    def given(self) -> int:
        """Points that were taken: fewer than were offered where the terms round down to a step."""
        op = self._op
        return -sum(leg.amount for leg in self._legs(op.asset) if leg.amount < 0)

    @property
    def out(self) -> int:
        """Points of the other asset that came out."""
        return sum(leg.amount for leg in self._legs(self._op.into))

    @property
    def _op(self) -> Exchange:
        assert isinstance(self.entry.op, Exchange)
        return self.entry.op

    def _legs(self, asset: str) -> list[Posting]:
        return [leg for leg in self.entry.postings if (leg.account, leg.asset) == (self._op.actor, asset)]


class Held(Recorded, frozen=True, kw_only=True):
    """Points that are set aside for a merchant."""

    @property
    def hold(self) -> str:
        """The hold's id, which whoever captures it needs."""
        return account_id("hld", OpId(bytes.fromhex(self.operation_id)))

    @property
    def until(self) -> str:
        """Until when it can be captured."""
        assert isinstance(self.entry.op, Hold)
        return self.entry.op.until


class Unheld(Recorded, frozen=True, kw_only=True):
    """Points on hold that were captured or released."""

    @property
    def captured(self) -> int:
        """Points that the merchant got; 0 of a release."""
        return self.entry.op.amount if isinstance(self.entry.op, Capture) else 0

    @property
    def returned(self) -> int:
        """Points that went back to the holder: the rest of a release, or of the last capture."""
        return -sum(leg.amount for leg in self.entry.postings if leg.account == SYS_HELD) - self.captured


class Undone(Recorded, frozen=True, kw_only=True):
    """A refund that is recorded; ``money`` has the claims it reverses, and what a member owes for want of points."""

    @property
    def points(self) -> int:
        """Points that came back to the holder, or that the refund of a purchase took back."""
        op = self.entry.op
        assert isinstance(op, Refund)
        if not isinstance(op.of, RefundedPurchase):
            return op.of.amount
        return sum(leg.amount for leg in self.entry.postings if (leg.account, leg.asset) == (SYS_ISSUED, op.asset))


class Netted(Recorded, frozen=True, kw_only=True):
    """A netting that is recorded."""

    @property
    def payments(self) -> tuple[Payment, ...]:
        """What is to be paid instead of what was owed; each creditor settles what it received."""
        assert isinstance(self.entry.op, Net)
        return self.entry.op.payments


class TransferFee(Struct, frozen=True, kw_only=True, rename="camel"):
    """A fee: ``fixed`` and ``amount`` for every ``points`` points, rounded, at most ``maximum``; in minor units."""

    amount: int
    points: int
    fixed: int
    maximum: int | None
    round: str
    currency: str


class TransferTerms(Struct, frozen=True, kw_only=True):
    """Bounds of a transfer between holders, and what the sender owes the issuer for it."""

    minimum: int
    maximum: int | None
    step: int
    fee: TransferFee | None


class Asset(Struct, frozen=True, kw_only=True, rename="camel"):
    """An asset. ``scale`` is its number of decimal places where people read and write amounts."""

    code: str
    name: str
    scale: int
    transferable: bool
    issuer_id: str
    transfer_terms: TransferTerms | None = None


class Voucher(Struct, frozen=True, kw_only=True, rename="camel"):
    """The right to a reward: ``status`` is issued, used, cancelled or expired; ``code`` is for its holder alone."""

    id: str
    seq: int
    index: int
    account_id: str
    asset: str
    merchant_id: str
    reward: str
    price: int
    worth: int | None
    last_day: str | None
    status: str
    code: str | None = None


class Lot(Struct, frozen=True, kw_only=True, rename="camel"):
    """Points of one last day; ``None`` when they never expire."""

    last_day: str | None
    points: int
    is_spendable: bool


class Balance(Struct, frozen=True, kw_only=True, rename="camel"):
    """Points of an account in an asset: all, those that can be used now, and by last day, the earliest first."""

    asset: str
    total: int
    spendable: int
    lots: tuple[Lot, ...] = ()


class StatementLine(Struct, frozen=True, kw_only=True, rename="camel"):
    """A line of a statement: points in (positive) or out, when, by which entry, and all points after it."""

    entry_id: str
    leg: int
    time: str
    at: str
    kind: str
    amount: int
    last_day: str | None
    balance: int


class Preview(Struct, frozen=True, kw_only=True):
    """What an operation would do now. ``refusals`` say why it would not be recorded; there are none when it would.

    ``postings`` and ``balance`` are ``None`` where this account is not told, as they are when it would be refused.
    """

    operation_id: str | None
    replayed: bool
    seq: int | None
    balance: int | None
    postings: tuple[Posting, ...] | None
    refusals: tuple[Refusal, ...]


class Quote(Struct, frozen=True, kw_only=True, rename="camel"):
    """What an exchange of ``amount`` points would come to now, by the server's word; nothing is reserved.

    ``given`` are points that would be taken, ``out`` those that come out; ``rate`` is the effective one. The holder
    owes ``fee_amount`` minor units of ``fee_currency``. With ``minimum_out`` and ``maximum_fee`` signed it is this
    outcome or none. ``lots`` are the points it would use of the account, where there is one. From ``valid_until`` on
    the terms are known to be in force no more. ``refusals`` say why it would be refused; what cannot be told then is
    ``None``.
    """

    asset: str
    amount: int
    into: str
    agreement: str | None
    agreement_version: int | None
    given: int | None
    out: int | None
    rate: Rate | None
    fee_amount: int | None
    fee_currency: str | None
    minimum_out: int | None
    maximum_fee: int | None
    lots: tuple[Lot, ...] | None
    valid_until: str | None
    refusals: tuple[Refusal, ...] = ()


class Hop(Struct, frozen=True, kw_only=True, rename="camel"):
    """One exchange of a path: of ``amount`` points ``given`` are taken, and ``out`` come out; a document of its own."""

    agreement: str
    agreement_version: int
    asset: str
    into: str
    amount: int
    given: int
    out: int
    fee_amount: int
    fee_currency: str | None


class ExchangePath(Struct, frozen=True, kw_only=True, rename="camel"):
    """A way from one asset to another, by its exchanges in order; ``out`` points come out last."""

    into: str
    out: int
    rate: Rate
    hops: tuple[Hop, ...]
    valid_until: str | None


class ExchangePaths(Struct, frozen=True, kw_only=True):
    """Ways that points can go, best first for each asset; ``complete`` tells whether these are all."""

    paths: tuple[ExchangePath, ...]
    complete: bool


class PointsHold(Struct, frozen=True, kw_only=True, rename="camel"):
    """Points set aside for a merchant. ``status`` is "open", "captured", "released" or "lapsed", as of now."""

    id: str
    account_id: str
    asset: str
    merchant_id: str
    amount: int
    captured: int
    remaining: int
    until: str
    status: str
    reference: str | None
    entry_id: str


class Obligation(Struct, frozen=True, kw_only=True, rename="camel"):
    """Minor units that one account owes another, of the claims of a day or by a payment of a netting."""

    debtor_id: str
    creditor_id: str
    currency: str
    amount: int
    day: str
    netting_entry_id: str | None


def recorded_as(result: type[R], recorded: Recorded) -> R:
    """A recorded operation as the result of its kind: an :class:`Exchanged` of an exchange, for one."""
    return result(**msgspec.structs.asdict(recorded))


def points_of(entry: Entry) -> frozenset[str]:
    """The assets whose points an entry moves; what else it has legs of is money."""
    op = entry.op
    if isinstance(op, Capture | Release):  # which do not name it; the points on hold go first
        return frozenset(leg.asset for leg in entry.postings[:1])
    return frozenset({getattr(op, "asset", ""), getattr(op, "into", "")})
