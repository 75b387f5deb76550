"""Types of the schema: what the ledger holds, as a client sees it.

Most fields are plain attributes, filled in once when an object is made; only what costs a query of its own, or depends
on who is looking, has a resolver. Records of the core (postings, signatures, lots) stand for themselves: graphql-core
reads their attributes.
"""

from collections.abc import Sequence
from enum import Enum
from typing import Annotated, Any, cast

import msgspec
import strawberry

from api.access import sees_as_its_own, sees_whole
from api.explanations import EVENT_SHAPE, Earning, explained_page
from api.fields import ApiInfo, Node, argument, field, resolved
from api.holds import Hold, HoldStatus, hold_of, holds_seen
from api.ids import require_asset_code
from api.input_parts import (
    AccountRole,
    AmountRounding,
    CapPeriod,
    FreezeReason,
    MoneyRounding,
    PointsRounding,
    RefundPolicy,
)
from api.paging import After, Before, Connection, First, Last, Window
from api.program_inputs import Stacking
from api.program_rules import (
    Band,
    Benefit,
    Birthday,
    ExpiryTerms,
    Formula,
    GrantRule,
    Multiplier,
    Plan,
    PurchaseBonus,
    Referral,
    Reminders,
    Reward,
    Tiers,
    expiry_terms,
)
from api.program_types import (
    Achievement,
    Membership,
    PendingPoints,
    Pool,
    Reminder,
    Voucher,
    VoucherStatus,
    achievements_seen,
    membership_of,
    memberships_seen,
    pending_of,
    pending_seen,
    pool_of,
    pools_seen,
    reminder_of,
    reminders_seen,
    voucher_of,
    vouchers_seen,
)
from api.scalars import Date, Hash, MinorUnits, Points, Time, UInt53
from ledger import program_queries, queries, state
from ledger.checkpoint import WitnessKey, WitnessPolicy, encode_witness_key
from ledger.cosignatures import Cosignatures, CosignedCheckpoint, StoredCosignature
from ledger.encoding import format_time
from ledger.entries import decode_entry, read_outline
from ledger.operations import Genesis
from ledger.partner_queries import HoldFilter
from ledger.program_queries import MembershipFilter, VoucherFilter, VoucherState
from ledger.program_terms import Program as ProgramTerms
from ledger.programs import ProgramVersion
from ledger.queries import ALL, Sight, StoredEntry
from ledger.store import HeadState
from ledger.terms import DEFAULT_RECOVERY_DELAY_MS


@strawberry.enum(description="What an operation does.")
class OperationKind(Enum):
    """Kinds, with the names they have in documents as values."""

    GENESIS = strawberry.enum_value("genesis", description="Founds the ledger.")
    OPEN_ACCOUNT = strawberry.enum_value("open_account", description="Opens an account.")
    DEFINE_ASSET = strawberry.enum_value("define_asset", description="Defines an asset.")
    PUBLISH_PROGRAM = strawberry.enum_value("publish_program", description="Publishes a version of a program.")
    RECORD_PURCHASES = strawberry.enum_value("record_purchases", description="Records purchases and their points.")
    GRANT = strawberry.enum_value("grant", description="Grants points for an activity.")
    CORRECT = strawberry.enum_value("correct", description="Gives a member points, or takes some away, by hand.")
    TRANSFER = strawberry.enum_value("transfer", description="Transfers points.")
    REDEEM = strawberry.enum_value("redeem", description="Spends points.")
    EXCHANGE = strawberry.enum_value("exchange", description="Turns points of one asset into points of another.")
    HOLD = strawberry.enum_value("hold", description="Sets points aside for a merchant.")
    CAPTURE = strawberry.enum_value("capture", description="Spends points on hold.")
    RELEASE = strawberry.enum_value("release", description="Gives points on hold back to their holder.")
    REFUND = strawberry.enum_value("refund", description="Undoes a purchase, redemption, capture or exchange.")
    EXPIRE = strawberry.enum_value("expire", description="Retires points whose last day has passed.")
    ENROLL = strawberry.enum_value("enroll", description="Makes a member of a program, or changes how it earns.")
    VEST = strawberry.enum_value("vest", description="Issues points of purchases that have vested.")
    REVIEW_TIERS = strawberry.enum_value("review_tiers", description="Notes the tiers in which members are by now.")
    START_PLAN = strawberry.enum_value("start_plan", description="Notes that a member paid for a plan.")
    END_PLAN = strawberry.enum_value("end_plan", description="Ends a member's plan before its time.")
    FORM_POOL = strawberry.enum_value("form_pool", description="Lets members spend each other's points.")
    LEAVE_POOL = strawberry.enum_value("leave_pool", description="Takes a member out of its pool.")
    USE_VOUCHER = strawberry.enum_value("use_voucher", description="Notes that a voucher was used.")
    REMIND = strawberry.enum_value("remind", description="Reminds members of something in a program.")
    AGREE = strawberry.enum_value("agree", description="Publishes a version of an agreement between merchants.")
    END_AGREEMENT = strawberry.enum_value("end_agreement", description="Ends an agreement.")
    ALLOT = strawberry.enum_value("allot", description="Sells a prepaid partner a block of points.")
    NET = strawberry.enum_value("net", description="Replaces what merchants owe each other by fewer payments.")
    SETTLE = strawberry.enum_value("settle", description="Confirms that money owed was received.")
    DISPUTE = strawberry.enum_value("dispute", description="Disputes a claim.")
    RESOLVE_DISPUTE = strawberry.enum_value("resolve_dispute", description="Ends a dispute.")
    FREEZE = strawberry.enum_value("freeze", description="Stops an account from acting.")
    UNFREEZE = strawberry.enum_value("unfreeze", description="Lets a frozen account act again.")
    REPLACE_KEYS = strawberry.enum_value("replace_keys", description="Gives an account other keys.")
    RECOVER_KEYS = strawberry.enum_value(
        "recover_keys", description="Gives other keys, after a delay, to an account whose own were lost."
    )
    CANCEL_RECOVERY = strawberry.enum_value("cancel_recovery", description="Drops a pending recovery.")
    REPLACE_LOG_KEY = strawberry.enum_value("replace_log_key", description="Gives the log another key.")


@strawberry.type(
    description=(
        "One leg of an entry. All legs of an entry sum to zero for each asset. A leg in a settlement currency is money "
        "owed: below zero at the debtor, above zero at the creditor."
    )
)
class Posting:
    """A posting; the core's record stands for it."""

    account: strawberry.ID = strawberry.field(name="accountId", description="Whose balance changes.")
    asset: str = field("The asset's code, or a settlement currency.")
    amount: Points = field("By how much, negative where the account gives; of a currency in its minor units.")
    lot: Date | None = strawberry.field(
        name="lastDay", description="The last day these points can be used; null when they never expire."
    )


@strawberry.type(description="A public key and its signature of the operation.")
class Signature:
    """A signature; the core's record stands for it."""

    key: str = field("The public key, in base64url.")
    sig: str = field("The signature, in base64url.")


@strawberry.type(
    description=(
        "An operation the ledger recorded: a link of the chain and a leaf of the Merkle tree. One entry may hold the "
        "business of many: all of it is told to who acted, to the issuer of what it moved, auditors and the operator, "
        "to the merchants in what few have to do with each other, and to anybody when it concerns nobody else; else a "
        "reader is told its own part."
    )
)
class Entry(Node):
    """An entry, made from its stored bytes."""

    seq: UInt53 = field("Its sequence number, from 0.")
    hash: Hash = field("Its leaf hash, which is also the chain link: SHA-256 of 0x00 and the entry's bytes.")
    prev: Hash = field("The leaf hash of the entry before; 64 zeros for entry 0.")
    time: Time = field("When it was recorded; never before the entry before.")
    at: Time = field("When it happened, as its signer says.")
    kind: OperationKind = field("What the operation does.")
    actor_id: strawberry.ID | None = field("The account whose authority it uses.")
    operation_id: Hash = field("SHA-256 of the operation's canonical bytes; the key to deduplicate by.")
    postings: list[Posting] = field(
        "What it moved, in the order recorded; only the reader's own legs where not all of the entry is told."
    )
    signatures: list[Signature] | None = field("Who signed; null where not all of the entry is told.")
    document: str | None = field(
        "The entry's stored bytes, which are canonical JSON: the truth all else is read from. Null where not all of "
        "the entry is told."
    )
    readers: strawberry.Private[tuple[str, ...]] = ()

    @resolved(
        "The purchases, activities and invitations that the entry recorded, with why each gave its points, by "
        "merchant and reference; only the reader's own where not all of the entry is told."
    )
    async def earnings(
        self, info: ApiInfo, first: First = None, after: After = None, last: Last = None, before: Before = None
    ) -> Connection[Earning]:
        """A page of what the entry gave points for."""
        window = Window("earnings", [self.seq], EVENT_SHAPE, first=first, after=after, last=last, before=before)
        accounts = None if self.document is not None else self.readers
        found = await info.context.read(program_queries.events_page, self.seq, accounts, window.page)
        return await explained_page(info.context, window, found)


class LazyEntry(Entry):
    """An entry that is read from its bytes only when something in them is asked for, as far as a reader may see it."""

    def __init__(
        self,
        data: bytes,
        seq: int,
        leaf_hash: bytes,
        op_id: bytes,
        sight: Sight = ALL,
        *,
        concerned: Sequence[str] = (),
    ) -> None:
        self._data = data
        self._sight = sight
        self._concerned = concerned
        self.readers = sight.accounts
        self.id = strawberry.ID(f"ent_{seq}")
        self.seq = UInt53(seq)
        self.hash = Hash(leaf_hash.hex())
        self.operation_id = Hash(op_id.hex())

    def __getattr__(self, name: str) -> Any:
        """Read the bytes; what is missing after that does not exist."""
        if name not in _READ_FROM_BYTES:
            raise AttributeError(name)
        entry = read_outline(self._data)
        self.prev = Hash(entry.prev)
        self.time = Time(entry.time)
        self.at = Time(entry.op.at)
        self.kind = cast(OperationKind, entry.op.kind)
        self.actor_id = cast("strawberry.ID | None", entry.op.actor)
        whole = sees_as_its_own(self._sight, entry) or sees_whole(
            self._sight, decode_entry(self._data), self._concerned
        )
        own = entry.postings if whole else [leg for leg in entry.postings if leg.account in self._sight.accounts]
        self.postings = cast("list[Posting]", own)
        self.signatures = cast("list[Signature]", entry.sigs) if whole else None
        self.document = self._data.decode() if whole else None
        return self.__dict__[name]


_READ_FROM_BYTES = frozenset({"prev", "time", "at", "kind", "actor_id", "postings", "signatures", "document"})


def entry_of(stored: StoredEntry, sight: Sight) -> Entry:
    """An entry as a reader sees it."""
    return LazyEntry(stored.data, stored.seq, stored.leaf_hash, stored.op_id, sight, concerned=stored.concerned)


@strawberry.type(description="Points of one last day.")
class Lot:
    """A lot; the core's record stands for it."""

    last_day: Date | None = field("The last day they can be used; null when they never expire.")
    points: Points = field("How many.")
    is_spendable: bool = field("Whether they can be used now: their last day has not passed.")


@strawberry.type(description="Points of an account in one asset. Spending takes the earliest last day first.")
class Balance:
    """A balance; the core's record stands for it."""

    asset: str = field("The asset's code.")
    total: Points = field("All points, usable or not, less a debt; without those on hold.")
    spendable: Points = field("Points that can be used now. Those of holds whose time has passed are among them.")
    lots: list[Lot] = field("The same points by last day, the earliest first.")
    held: Points = field("Points on hold now, which can be used for nothing else.")
    debt: Points = field(
        "Points that a refund took back and the account did not have: what is earned next repays them. 0 for none."
    )


@strawberry.type(description="Points of an asset over the life of the ledger, read from the system accounts.")
class Supply:
    """A supply; the core's record stands for it."""

    issued: Points = field("Points ever issued.")
    spent: Points = field("Points spent.")
    expired: Points = field("Points whose last day passed unused, once retired.")
    circulating: Points = field("Points in accounts: issued less spent less expired.")


@strawberry.type(description="What points are worth: `points` points stand for `amount` minor units of `currency`.")
class Value:
    """A value in money; the core's record stands for it."""

    points: Points = field("Points that are worth the amount.")
    amount: MinorUnits = field("Minor units of the currency.")
    currency: str = field("A settlement currency.")


@strawberry.type(description="The most points in a period.")
class Cap:
    """A cap; the core's record stands for it."""

    period: CapPeriod = field("The period.")
    points: Points = field("The most points in each.")


@strawberry.type(description="A published version of the rules of an asset. It never changes; a later one may follow.")
class Program(Node):
    """A program version."""

    asset: str = field("The asset's code.")
    version: int = field("Its number, from 1.")
    starts: Time = field("Purchases from this time on are under this version, until a later one starts.")
    ends: Time | None = field("Purchases from this time on earn nothing under this version.")
    approval_above: Points | None = field(
        "A grant or correction of more points than this needs approval: the merchant's `approvalThreshold` of keys. "
        "Null when none does."
    )
    bands: list[Band] = field("Rates, by rising amount.")
    benefits: list[Benefit] = field("What is no points, such as free shipping, and for whom.")
    birthday: Birthday | None = field("What is granted on birthdays; null for nothing.")
    bonuses: list[PurchaseBonus] = field("Points more for whole purchases.")
    currency: str = field("The currency amounts are in.")
    earning_cap: Cap | None = field("The most a member earns by purchases in a period; null for no cap.")
    excluded_categories: list[str] = field("Lines of these categories of goods earn nothing.")
    expiry: ExpiryTerms = field("When the points expire.")
    formulas: list[Formula] = field("Other ways to earn that a member may choose in place of `bands`.")
    grants: list[GrantRule] = field("Activities points are granted for.")
    multipliers: list[Multiplier] = field("Campaigns, and what tiers and tenders give.")
    plans: list[Plan] = field("Paid memberships.")
    purchase_within_days: int | None = field(
        "Up to so many days after it was made a purchase can be recorded; null for no bound."
    )
    referral: Referral | None = field("What whoever invited a member gets; null for nothing.")
    refunds: RefundPolicy = field("What happens when a refund takes back more points than the member has left.")
    reminders: Reminders | None = field("What members are reminded of; null for nothing.")
    returned_lot_days: int = field(
        "For how many days points can be used that return by a refund after their last day; 0: they stay expired."
    )
    rewards: list[Reward] = field("What points buy.")
    round_amount: AmountRounding = field("What happens to an amount before rates are applied.")
    round_points: PointsRounding = field("How the points of a purchase are rounded.")
    stacking: Stacking = field("How multipliers that hold together combine.")
    status_asset: str | None = field(
        "The asset in which base points, before any multiplier, are given too; null for none."
    )
    tiers: Tiers | None = field("Who stands where; null where there are no tiers.")
    time_zone: str = field("IANA time zone of dates and last days.")
    vesting_days: int | None = field("So many days after a purchase its points are issued; null for at once.")
    entry_id: strawberry.ID = field("The entry that published it.")
    rules: strawberry.Private[ProgramTerms]

    @resolved(
        "The rules as the canonical JSON of their document, as `/program.schema.json` describes it: what one merchant "
        "publishes another can read, and publish too."
    )
    def document(self) -> str:
        """The document of the rules."""
        return msgspec.json.encode(self.rules, order="sorted").decode()


def _points(amount: int | None) -> Points | None:
    return Points(amount) if amount is not None else None


def program_of(found: ProgramVersion) -> Program:
    """A program version as clients see it: its rules stand for themselves, but for those of expiry."""
    rules = found.program
    parts = {name: getattr(rules, name) for name in rules.__struct_fields__ if name != "expiry"}
    return Program(
        id=strawberry.ID(f"prg_{found.asset}_{found.version}"),
        asset=found.asset,
        version=found.version,
        starts=Time(found.starts),
        ends=Time(found.ends) if found.ends is not None else None,
        expiry=expiry_terms(rules.expiry),
        entry_id=strawberry.ID(f"ent_{found.seq}"),
        rules=rules,
        **parts,
    )


@strawberry.type(
    description=(
        "What moving points costs in money: `amount` minor units for every `points` points, plus `fixed`, at most "
        "`maximum`. Moving nothing costs nothing."
    )
)
class Fee:
    """A fee; the core's record stands for it."""

    amount: MinorUnits = field("Minor units for every `points` points.")
    currency: str = field("A settlement currency.")
    fixed: MinorUnits = field("Minor units on top.")
    maximum: MinorUnits | None = field("The most it comes to; null for no limit.")
    points: Points = field("Points for which `amount` is due.")
    round: MoneyRounding = field("How `amount` times the points moved, divided by `points`, is rounded.")


@strawberry.type(
    description="Bounds and fee of transfers between holders; what the issuer sends or receives itself is not bound."
)
class TransferTerms:
    """The terms of transfers; the core's record stands for them."""

    fee: Fee | None = field("What the sender owes the issuer for a transfer; null for nothing.")
    in_cap: Cap | None = field("The most a holder receives in a period; null for no cap.")
    maximum: Points | None = field("The most points of one transfer; null for no limit.")
    minimum: Points = field("The fewest points of one transfer.")
    out_cap: Cap | None = field("The most a holder sends in a period; null for no cap.")
    step: Points = field("Each recipient's points are a multiple of this.")


@strawberry.type(description="A merchant's points.")
class Asset(Node):
    """An asset."""

    code: str = field("Its code.")
    issuer_id: strawberry.ID = field("The merchant that issues it.")
    name: str = field("Public name.")
    scale: int = field("Decimal places for display; amounts are always in the smallest unit.")
    supply_cap: Points | None = field("The most that may be in circulation; null for no cap.")
    transferable: bool = field("Whether holders may transfer it among themselves.")
    transfer_terms: TransferTerms | None = field(
        "Bounds and fee of transfers between holders; null when there are none."
    )
    value: Value | None = field("What it is worth in money, if the merchant states it.")
    entry_id: strawberry.ID = field("The entry that defined it.")

    @resolved("The public name of the merchant that issues it.")
    async def issuer_name(self, info: ApiInfo) -> str | None:
        """The issuer's name."""
        return await info.context.loaders.name.load(self.issuer_id)

    @resolved("Its supply now.")
    async def supply(self, info: ApiInfo) -> Supply:
        """The supply."""
        return cast(Supply, await info.context.loaders.supply.load(self.code))

    @resolved("The program in force now; null when there is none.")
    async def program(self, info: ApiInfo) -> Program | None:
        """The program in force."""
        found = await info.context.loaders.program.load(self.code)
        return program_of(found) if found is not None else None

    @resolved("All versions of its program, the first first.")
    async def programs(
        self, info: ApiInfo, first: First = None, after: After = None, last: Last = None, before: Before = None
    ) -> Connection[Program]:
        """Program versions."""
        window = Window("programs", [self.code], (int,), first=first, after=after, last=last, before=before)
        found = await info.context.read(queries.programs_page, self.code, window.page)
        return window.connection([version.version for version in found], [program_of(version) for version in found])

    @resolved(
        "Who takes part in its program, by account: all to the asset's issuer, auditors and the operator, to others "
        "themselves. Without a session none."
    )
    async def memberships(
        self,
        info: ApiInfo,
        *,
        tier: Annotated[str | None, argument("Only those whose `notedTier` is this one.")] = None,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> Connection[Membership]:
        """A page of memberships that the viewer may see."""
        names = [self.code, tier]
        window = Window("memberships", names, (str, str), first=first, after=after, last=last, before=before)
        viewer, wanted = info.context.viewer, MembershipFilter(asset=self.code, tier=tier)
        found = await info.context.read(memberships_seen, viewer, wanted, window.page) if viewer is not None else []
        return window.connection([(each.asset, each.account) for each in found], [membership_of(e) for e in found])


def asset_of(found: state.Asset) -> Asset:
    """An asset as clients see it."""
    return Asset(
        id=strawberry.ID(f"ast_{found.code}"),
        code=found.code,
        issuer_id=strawberry.ID(found.issuer),
        name=found.name,
        scale=found.scale,
        supply_cap=_points(found.supply_cap),
        transferable=found.transferable,
        transfer_terms=cast("TransferTerms | None", found.transfer_terms),
        value=cast("Value | None", found.value),
        entry_id=strawberry.ID(f"ent_{found.seq}"),
    )


@strawberry.type(
    description="Keys that become an account's by themselves at a time, unless the account or the operator cancels it."
)
class Recovery:
    """A pending recovery; the core's record stands for it."""

    keys: list[str] = field("The public keys that will be the account's, in base64url.")
    threshold: int = field("How many of them must sign then.")
    approval_threshold: int | None = field(
        "How many of them must sign what needs approval then; null for as many as `threshold`."
    )
    effective_at: Time = field("From when on they are in force, and the keys of now are not.")
    seq: UInt53 = field("Sequence number of the entry that began it.")


@strawberry.type(description="That an account cannot act: the operator froze it. It can still receive.")
class Freezing:
    """A freezing."""

    reason: FreezeReason = field("Why.")
    entry_id: strawberry.ID = field("The entry that froze it.")


@strawberry.type(description="What an account is owed and owes of a settlement currency.")
class ClaimPosition:
    """What is owed of a currency; the core's record stands for it."""

    currency: str = field("The currency.")
    owed: MinorUnits = field("What others owe it, in minor units.")
    owes: MinorUnits = field("What it owes others, in minor units.")
    net: MinorUnits = field("What it is owed less what it owes. Disputed claims are in none of the three.")
    balance: MinorUnits = field("The same with disputed claims, as its postings sum to.")


@strawberry.type(description="A holder of points, a merchant, an auditor or the operator.")
class Account(Node):
    """An account as it is now. ``visible_assets`` are those whose balances the viewer may see; ``None`` for all."""

    role: AccountRole = field("What it is for.")
    name: str | None = field("Public name of an organisation; members have none.")
    keys: list[str] = field("Its public keys in force, in base64url; none while it is held in custody.")
    threshold: int = field("How many of its keys must sign.")
    approval_threshold: int | None = field(
        "How many of its keys must sign what needs approval: programs, agreements, other keys, large grants and "
        "corrections. Null for as many as `threshold`."
    )
    keys_seq: UInt53 = field("Sequence number of the entry that gave it these keys; while in custody, that opened it.")
    recovery: Recovery | None = field(
        "Its pending recovery; null when there is none. Told to itself, its custodian, auditors and the operator."
    )
    frozen: Freezing | None = field("Why it cannot act; null when it can. Told to those to whom `recovery` is.")
    custodian_id: strawberry.ID | None = field("The merchant whose keys act for it while it has none.")
    opened_at: Time = field("When it was opened, as its signer says.")
    entry_id: strawberry.ID = field("The entry that opened it.")
    visible_assets: strawberry.Private[tuple[str, ...] | None] = None

    @resolved("Its balances now, by asset; to a merchant, those in its own assets.")
    async def balances(
        self,
        info: ApiInfo,
        asset: Annotated[str | None, argument("Only the balance in the asset with this code.")] = None,
    ) -> list[Balance]:
        """Balances that the viewer may see."""
        codes = self.visible_assets
        if asset is not None:
            require_asset_code(asset)
            codes = (asset,) if codes is None or asset in codes else ()
        if codes == ():
            return []
        return cast("list[Balance]", await info.context.loaders.balances.load((self.id, codes)))

    @resolved(
        "What it is owed and owes, by currency. Told to itself, its custodian, auditors and the operator; null for "
        "others."
    )
    async def claims(self, info: ApiInfo) -> list[ClaimPosition] | None:
        """What is owed, if the viewer may see all of the account."""
        if self.visible_assets is not None:
            return None
        return cast("list[ClaimPosition]", await info.context.loaders.owings.load(self.id))

    @resolved(
        "Its holds, in the order they were placed; to a merchant, those for it and those in its own assets, to others "
        "none but their own."
    )
    async def holds(
        self,
        info: ApiInfo,
        *,
        asset: Annotated[str | None, argument("Only points of this asset.")] = None,
        status: Annotated[HoldStatus | None, argument("Only holds that stand so now.")] = None,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> Connection[Hold]:
        """A page of holds that the viewer may see."""
        if asset is not None:
            require_asset_code(asset)
        state_now = cast("str | None", status.value if status is not None else None)
        names = [self.id, asset, state_now]
        window = Window("accountHolds", names, (int,), first=first, after=after, last=last, before=before)
        wanted = HoldFilter(account=self.id, asset=asset, status=state_now)
        viewer = info.context.viewer
        found = await info.context.read(holds_seen, viewer, wanted, window.page) if viewer is not None else []
        return window.connection([each.seq for each in found], [hold_of(each) for each in found])

    @resolved(
        "The programs it takes part in, by asset. Told to itself, its custodian, auditors and the operator; to a "
        "merchant those of its own assets."
    )
    async def memberships(
        self, info: ApiInfo, first: First = None, after: After = None, last: Last = None, before: Before = None
    ) -> Connection[Membership]:
        """A page of memberships that the viewer may see."""
        names = [self.id]
        window = Window("accountMemberships", names, (str, str), first=first, after=after, last=last, before=before)
        viewer, wanted = info.context.viewer, MembershipFilter(account=self.id)
        found = await info.context.read(memberships_seen, viewer, wanted, window.page) if viewer is not None else []
        return window.connection([(each.asset, each.account) for each in found], [membership_of(e) for e in found])

    @resolved(
        "Its vouchers, in the order in which it had them. Told to itself, its custodian, auditors and the operator; to "
        "a merchant those that are good there."
    )
    async def vouchers(
        self,
        info: ApiInfo,
        *,
        asset: Annotated[str | None, argument("Only those paid for in this asset.")] = None,
        status: Annotated[VoucherStatus | None, argument("Only those that stand so now.")] = None,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> Connection[Voucher]:
        """A page of vouchers that the viewer may see."""
        if asset is not None:
            require_asset_code(asset)
        stands = cast("VoucherState | None", status.value if status is not None else None)
        names = [self.id, asset, stands]
        window = Window("accountVouchers", names, (int, int), first=first, after=after, last=last, before=before)
        wanted = VoucherFilter(account=self.id, assets=None if asset is None else (asset,), status=stands)
        viewer = info.context.viewer
        found = await info.context.read(vouchers_seen, viewer, wanted, window.page) if viewer is not None else []
        return window.connection([(each.seq, each.index) for each in found], [voucher_of(each) for each in found])

    @resolved(
        "Points of its purchases that have not vested, by the day they do. Told to itself, its custodian, auditors and "
        "the operator; to a merchant those of its own assets."
    )
    async def pending_points(
        self,
        info: ApiInfo,
        *,
        asset: Annotated[str | None, argument("Only points of this asset.")] = None,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> Connection[PendingPoints]:
        """A page of points to come that the viewer may see."""
        if asset is not None:
            require_asset_code(asset)
        names, shape = [self.id, asset], (str, str, str)
        window = Window("pendingPoints", names, shape, first=first, after=after, last=last, before=before)
        viewer = info.context.viewer
        found = (
            await info.context.read(pending_seen, viewer, self.id, window.page, asset=asset)
            if viewer is not None
            else []
        )
        keys = [(each.vests_on, each.merchant, each.order) for each in found]
        return window.connection(keys, [pending_of(each) for each in found])

    @resolved(
        "What it was reminded of, the first reminder first. Told to itself, its custodian, auditors and the operator; "
        "to a merchant those of its own assets."
    )
    async def reminders(
        self,
        info: ApiInfo,
        *,
        asset: Annotated[str | None, argument("Only those of this asset.")] = None,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> Connection[Reminder]:
        """A page of reminders that the viewer may see."""
        if asset is not None:
            require_asset_code(asset)
        names = [self.id, asset]
        window = Window("reminders", names, (int,), first=first, after=after, last=last, before=before)
        viewer = info.context.viewer
        found = (
            await info.context.read(reminders_seen, viewer, self.id, window.page, asset=asset)
            if viewer is not None
            else []
        )
        return window.connection([each.reminder.seq for each in found], [reminder_of(each) for each in found])

    @resolved(
        "What it did of the activities of an asset's program, by name. Told to itself, its custodian, the asset's "
        "issuer, auditors and the operator; none to others."
    )
    async def achievements(
        self, info: ApiInfo, asset: Annotated[str, argument("The asset's code.")]
    ) -> list[Achievement]:
        """Activities that the viewer may see."""
        require_asset_code(asset)
        viewer = info.context.viewer
        if viewer is None:
            return []
        return cast("list[Achievement]", await info.context.read(achievements_seen, viewer, self.id, asset))

    @resolved(
        "The pools it is in, by asset. Told to itself, its custodian, auditors and the operator; to a merchant those "
        "of its own assets."
    )
    async def pools(self, info: ApiInfo) -> list[Pool]:
        """Pools that the viewer may see."""
        viewer = info.context.viewer
        found = await info.context.read(pools_seen, viewer, self.id) if viewer is not None else []
        return [pool_of(each) for each in found]


def _freezing_of(found: state.Account) -> Freezing | None:
    if found.frozen_seq is None:
        return None
    return Freezing(reason=cast(FreezeReason, found.frozen_reason), entry_id=strawberry.ID(f"ent_{found.frozen_seq}"))


def account_of(found: state.Account, visible_assets: tuple[str, ...] | None, *, with_recovery: bool = False) -> Account:
    """An account, as it is now, to a viewer who may see balances in some assets, or in all (``None``)."""
    return Account(
        id=strawberry.ID(found.id),
        role=cast(AccountRole, found.role),
        name=found.name,
        keys=cast("list[str]", found.keys),
        threshold=found.threshold,
        approval_threshold=found.approval_threshold,
        keys_seq=UInt53(found.keys_seq),
        recovery=cast("Recovery | None", found.recovery) if with_recovery else None,
        frozen=_freezing_of(found) if with_recovery else None,
        custodian_id=strawberry.ID(found.custodian) if found.custodian is not None else None,
        opened_at=Time(found.opened_at),
        entry_id=strawberry.ID(f"ent_{found.seq}"),
        visible_assets=visible_assets,
    )


@strawberry.type(
    description="That a witness had seen this ledger only grow, up to a checkpoint (C2SP tlog-cosignature)."
)
class Cosignature:
    """A cosignature."""

    witness: str = field("The witness's name.")
    verifier_key: str = field("The witness's public key, to check it with (C2SP tlog-cosignature verifier key).")
    size: UInt53 = field("How many entries the checkpoint has.")
    time: Time = field("When it was made, by the witness's clock.")


def cosignature_of(row: StoredCosignature, key: WitnessKey) -> Cosignature:
    """A cosignature as clients see it."""
    return Cosignature(
        witness=row.witness,
        verifier_key=encode_witness_key(key.name, key.public_key),
        size=UInt53(row.size),
        time=Time(format_time(row.timestamp_s * 1000)),
    )


@strawberry.type(description="The signed size and Merkle root of the ledger: all it has recorded, in one statement.")
class Checkpoint:
    """A checkpoint."""

    size: UInt53 = field("How many entries.")
    root: Hash = field("Root of the Merkle tree over them (RFC 6962).")
    note: str = field(
        "The signed note (C2SP tlog-checkpoint), to be verified with the one of `logKeys` that is of its size. Behind "
        "the log's signatures stand the lines of its `cosignatures`."
    )
    cosignatures: list[Cosignature] = field(
        "What the ledger's witnesses have said of it so far, in their order in `witnessing`."
    )


def checkpoint_of(found: CosignedCheckpoint, policy: WitnessPolicy) -> Checkpoint:
    """A checkpoint, and what the witnesses of a policy said of it."""
    keys = {key.name: key for key in policy.witnesses}
    return Checkpoint(
        size=UInt53(found.size),
        root=Hash(found.root.hex()),
        note=found.note,
        cosignatures=[cosignature_of(row, keys[row.witness]) for row in found.cosignatures],
    )


@strawberry.type(description="A witness that this ledger asks for cosignatures.")
class Witness:
    """A witness."""

    name: str = field("Its name.")
    verifier_key: str = field("Its public key, to check its cosignatures with (C2SP tlog-cosignature verifier key).")
    newest: Cosignature | None = field("Its last cosignature of a checkpoint of this ledger; null while there is none.")


@strawberry.type(
    description=(
        "Who watches that everybody is shown the same ledger: witnesses cosign a checkpoint only if it begins with the "
        "one they cosigned last."
    )
)
class Witnessing:
    """What this server's policy says about witnesses, and how far they are."""

    quorum: UInt53 = field("How many of the witnesses must have cosigned a checkpoint for it to count as witnessed.")
    checkpoint: Checkpoint | None = field(
        "The newest witnessed checkpoint, which `/log/checkpoint` serves and receipts use; null while there is none."
    )
    witnesses: list[Witness] = field("The witnesses that are asked; none where the ledger has none.")


def witnessing_of(said: Cosignatures) -> Witnessing:
    """How far a policy's witnesses are."""
    policy, witnessed = said.policy, said.witnessed()
    return Witnessing(
        quorum=UInt53(policy.threshold),
        checkpoint=checkpoint_of(witnessed, policy) if witnessed is not None else None,
        witnesses=[_witness_of(key, said.newest(key)) for key in policy.witnesses],
    )


def _witness_of(key: WitnessKey, newest: StoredCosignature | None) -> Witness:
    return Witness(
        name=key.name,
        verifier_key=encode_witness_key(key.name, key.public_key),
        newest=cosignature_of(newest, key) if newest is not None else None,
    )


@strawberry.type(description="A settlement currency of the ledger.")
class Currency:
    """A currency; the core's record stands for it."""

    code: str = field("ISO 4217 code.")
    scale: int = field("Decimal places of its unit: 2 for USD.")


@strawberry.type(description="A key of the log.")
class LogKey:
    """A key of the log."""

    verifier_key: str = field("Its public half (C2SP signed-note verifier key).")
    from_size: UInt53 = field(
        "It signs every checkpoint of this size or more, until the next key's. Others of the log may sign beside it."
    )


@strawberry.type(description="The ledger that this server serves. All of it is public.")
class Ledger:
    """A ledger."""

    origin: str = field("Its name, which every operation states; a signature is worth nothing on another ledger.")
    name: str = field("Public name of who runs it.")
    operator_id: strawberry.ID = field("The operator's account.")
    format_version: int = field("Version of the format of operations and entries: what `guerdon` says in a document.")
    size: UInt53 = field("How many entries it has.")
    last_time: Time = field("When the newest entry was recorded.")
    clock_tolerance_ms: int = field("By how much an operation's `at` may lie after its recording, in milliseconds.")
    currencies: list[Currency] = field("Settlement currencies.")
    recovery_delay_ms: UInt53 = field("How long after its recording a recovery takes effect, in milliseconds.")
    log_key: str = field("The key that signs the newest checkpoint (C2SP signed-note verifier key).")
    log_keys: list[LogKey] = field("Every key the log had, the first first; the last one signs now.")
    checkpoint: Checkpoint = field("The newest checkpoint.")


def ledger_of(
    head: HeadState, genesis: Genesis, operator: str, log_keys: Sequence[tuple[int, str]], checkpoint: Checkpoint
) -> Ledger:
    """The ledger as everybody sees it."""
    delay_ms = DEFAULT_RECOVERY_DELAY_MS if genesis.recovery_delay_ms is None else genesis.recovery_delay_ms
    return Ledger(
        origin=head.origin,
        name=genesis.name,
        operator_id=strawberry.ID(operator),
        format_version=genesis.guerdon,
        size=UInt53(head.size),
        last_time=Time(head.last_time),
        clock_tolerance_ms=genesis.clock_tolerance_ms,
        currencies=cast("list[Currency]", genesis.currencies),
        recovery_delay_ms=UInt53(delay_ms),
        log_key=log_keys[-1][1],
        log_keys=[LogKey(verifier_key=log_key, from_size=UInt53(seq + 1)) for seq, log_key in log_keys],
        checkpoint=checkpoint,
    )
