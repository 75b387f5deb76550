"""A simulation: merchants and members do everything the ledger knows, against a naive model of what should happen.

The model keeps plain dictionaries and computes points with fractions and dates by counting; it shares no code with the
rules. Keys are in it too: they are replaced, lost, recovered and claimed from custodians, and whoever signs with others
than those of the moment is refused. Operations gather until they are handed in together, so batches mix kinds,
refusals, replays and expiries. After every hand-in, outcomes, lots, balances and keys must be the model's, the record
must be sound (``check_record``), and a replay of all entries on an empty state must give the same postings and
projections (``check_projections``).
"""

import itertools
import math
import zoneinfo
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from typing import Any, NamedTuple

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ledger.encoding import format_time
from ledger.keys import encode_public_key
from ledger.operations import (
    CancelRecovery,
    Expire,
    Grant,
    OpenAccount,
    PublishProgram,
    RecordPurchases,
    RecoverKeys,
    Redeem,
    ReplaceKeys,
    SignedOperation,
    Transfer,
)
from ledger.program_terms import (
    Band,
    ExpiresAfterDays,
    ExpiresAfterMonths,
    ExpiresAtYearEnd,
    GrantRule,
    NeverExpires,
    Program,
)
from ledger.rules import authority_of
from ledger.sequencer import Recorded, account_opened_by
from ledger.state import Rejection
from ledger.terms import Purchase, Recipient
from ledger.wallet import Wallet
from tests.reference import check_projections, check_record
from tests.worlds import DAY_MS, World

FOREVER = "9999-12-31"
SYSTEM = ("sys_issued", "sys_spent", "sys_expired")
MAX_GRANT = 500
TOLERANCE_MS = 30_000
RECOVERY_DELAY_MS = 3 * DAY_MS
ORIGINS = itertools.count()

programs = st.builds(
    Program,
    bands=st.lists(st.sampled_from([0, 500, 999, 5_000, 10_000]), min_size=1, max_size=3, unique=True).flatmap(
        lambda starts: st.tuples(
            *(
                st.builds(
                    Band, from_amount=st.just(start), points=st.integers(1, 7), per=st.sampled_from([2, 3, 100, 250])
                )
                for start in sorted(starts)
            )
        )
    ),
    currency=st.just("USD"),
    expiry=st.one_of(
        st.builds(ExpiresAfterDays, count=st.integers(20, 90)),
        st.builds(ExpiresAfterMonths, count=st.integers(0, 3)),
        st.builds(NeverExpires),
        st.builds(ExpiresAtYearEnd, count=st.integers(0, 1)),
    ),
    grants=st.just((GrantRule(activity="goodwill", max_points=MAX_GRANT),)),
    round_amount=st.sampled_from(["none", "whole_units"]),
    round_points=st.sampled_from(["down", "half_up", "half_even", "up"]),
    time_zone=st.sampled_from(["UTC", "Pacific/Kiritimati", "America/Los_Angeles"]),
)


class Refused(Exception):  # noqa: N818
    """What the model says of an operation that must be rejected; the argument is the code."""


def refusal_of(effect: Callable[[], None]) -> str | None:
    """Do one operation in the model; tell the code with which it must be refused, if it must."""
    try:
        effect()
    except Refused as refused:
        return str(refused.args[0])
    return None


def local_day(at_ms: int, zone: str) -> date:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)
    return moment.astimezone(zoneinfo.ZoneInfo(zone)).date()


def naive_points(program: Program, amount: int) -> int:
    """Points for an amount in cents: every band's share as a fraction, rounded once."""
    if program.round_amount == "whole_units":
        amount = amount // 100 * 100
    total = Fraction(0)
    for i, band in enumerate(program.bands):
        top = program.bands[i + 1].from_amount if i + 1 < len(program.bands) else amount
        total += Fraction(max(min(amount, top) - band.from_amount, 0) * band.points, band.per)
    whole = int(total)
    rest = total - whole
    match program.round_points:
        case "down":
            return whole
        case "up":
            return whole + (rest > 0)
        case "half_up":
            return whole + (rest >= Fraction(1, 2))
        case _:
            return round(total)


def naive_last_day(program: Program, earned: date) -> str:
    expiry = program.expiry
    if isinstance(expiry, ExpiresAfterDays):
        return str(date.fromordinal(earned.toordinal() + expiry.count))
    if isinstance(expiry, ExpiresAtYearEnd):
        return f"{earned.year + expiry.count}-12-31"
    if isinstance(expiry, ExpiresAfterMonths):
        year, month = earned.year, earned.month + expiry.count
        while month > 12:
            year, month = year + 1, month - 12
        day = earned.day
        while True:
            try:
                return str(date(year, month, day))
            except ValueError:
                day -= 1
    return FOREVER


class KeyEvent(NamedTuple):
    """What happened to an account's keys: ``open``, ``replace``, ``recover`` or ``cancel``, at a time."""

    what: str
    at_ms: int
    keys: tuple[str, ...] = ()
    threshold: int = 1


class Model:
    """Lots, references and keys in dictionaries; every method does one operation or raises :class:`Refused`."""

    def __init__(self) -> None:
        self.key_events: dict[str, list[KeyEvent]] = {}
        self.custodians: dict[str, str] = {}
        self.operator = ""
        self.lots: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
        self.versions: dict[str, list[tuple[int, Program]]] = defaultdict(list)
        self.issuers: dict[str, str] = {}
        self.caps: dict[str, int | None] = {}
        self.transferable: dict[str, bool] = {}
        self.used: set[tuple[str, str, str]] = set()

    def own_keys(self, account: str, now_ms: int) -> KeyEvent:
        """The event that gave an account its keys: a recovery does so after a while, if nothing happened in between."""
        events = self.key_events[account]
        effects = []
        for i, event in enumerate(events):
            delay_ms = RECOVERY_DELAY_MS if event.what == "recover" else 0
            undone = any(later.at_ms < event.at_ms + delay_ms for later in events[i + 1 :])
            if event.what != "cancel" and event.at_ms + delay_ms <= now_ms and not (delay_ms and undone):
                effects.append((event.at_ms + delay_ms, i, event))
        return max(effects)[2]

    def pending_until(self, account: str, now_ms: int) -> int | None:
        """When the recovery of an account that is under way takes effect."""
        last = self.key_events[account][-1]
        at_ms = last.at_ms + RECOVERY_DELAY_MS
        return at_ms if last.what == "recover" and now_ms < at_ms else None

    def authority(self, account: str, now_ms: int) -> KeyEvent:
        """Whose keys act for an account: its own, or its custodian's."""
        own = self.own_keys(account, now_ms)
        return own if own.keys else self.own_keys(self.custodians[account], now_ms)

    def authorise(self, signed: SignedOperation, now_ms: int) -> None:
        op, signers = signed.op, {signature.key for signature in signed.sigs}
        account = str(getattr(op, "actor", None))
        keys, threshold = self.authority(account, now_ms)[2:]
        new = set(getattr(op, "keys", ()))
        if isinstance(op, ReplaceKeys):
            new -= set(self.own_keys(account, now_ms).keys)
        if len(signers & set(keys)) < threshold or new - signers:
            raise Refused("SIGNATURE_MISSING")
        if signers - set(keys) - new:
            raise Refused("SIGNATURE_UNEXPECTED")

    def replace_keys(self, account: str, keys: tuple[str, ...], threshold: int, now_ms: int) -> None:
        self.key_events[account].append(KeyEvent("replace", now_ms, keys, threshold))

    def recover(self, account: str, keys: tuple[str, ...], threshold: int, now_ms: int) -> None:
        if account == self.operator:
            raise Refused("NOT_PERMITTED")
        if self.pending_until(account, now_ms) is not None:
            raise Refused("RECOVERY_PENDING")
        self.key_events[account].append(KeyEvent("recover", now_ms, keys, threshold))

    def cancel(self, account: str, now_ms: int) -> None:
        if self.pending_until(account, now_ms) is None:
            raise Refused("NO_RECOVERY")
        self.key_events[account].append(KeyEvent("cancel", now_ms))

    def balance(self, account: str, asset: str) -> int:
        return sum(self.lots[(account, asset)].values())

    def circulating(self, asset: str) -> int:
        return sum(
            self.balance(account, code) for account, code in list(self.lots) if code == asset and account not in SYSTEM
        )

    def add(self, account: str, asset: str, day: str, points: int) -> None:
        lots = self.lots[(account, asset)]
        lots[day] = lots.get(day, 0) + points
        if lots[day] == 0:
            del lots[day]

    def today(self, asset: str, now_ms: int) -> str:
        versions = self.versions[asset]
        return str(local_day(now_ms, versions[0][1].time_zone if versions else "UTC"))

    def program_at(self, asset: str, at_ms: int) -> Program:
        started = [program for starts_ms, program in self.versions[asset] if starts_ms <= at_ms]
        if not started:
            raise Refused("PROGRAM_MISSING")
        return started[-1]

    def issue(self, asset: str, gains: list[tuple[str, str, int]]) -> None:
        total = sum(points for _, _, points in gains)
        cap = self.caps[asset]
        if total and cap is not None and self.circulating(asset) + total > cap:
            raise Refused("SUPPLY_EXCEEDED")
        for account, day, points in gains:
            if points:
                self.add(account, asset, day, points)
                self.add("sys_issued", asset, FOREVER, -points)

    def purchase(self, asset: str, purchases: list[tuple[str, int, int, str]]) -> None:
        gains = []
        for account, amount, at_ms, order in purchases:
            if (self.issuers[asset], "order", order) in self.used:
                raise Refused("ORDER_EXISTS")
            program = self.program_at(asset, at_ms)
            day = naive_last_day(program, local_day(at_ms, program.time_zone))
            gains.append((account, day, naive_points(program, amount)))
        self.issue(asset, gains)
        self.used.update((self.issuers[asset], "order", order) for *_, order in purchases)

    def grant(self, asset: str, account: str, amount: int, at_ms: int, reference: str) -> None:
        program = self.program_at(asset, at_ms)
        if (self.issuers[asset], "goodwill", reference) in self.used:
            raise Refused("REFERENCE_EXISTS")
        if amount > MAX_GRANT:
            raise Refused("GRANT_TOO_LARGE")
        self.issue(asset, [(account, naive_last_day(program, local_day(at_ms, program.time_zone)), amount)])
        self.used.add((self.issuers[asset], "goodwill", reference))

    def usable(self, account: str, asset: str, now_ms: int) -> dict[str, int]:
        today = self.today(asset, now_ms)
        return {day: points for day, points in self.lots[(account, asset)].items() if day >= today}

    def take(self, account: str, asset: str, amount: int, now_ms: int) -> list[tuple[str, int]]:
        """Take points one by one, each from the lot that ends first; return (day, points) in that order."""
        usable = self.usable(account, asset, now_ms)
        if sum(usable.values()) < amount:
            raise Refused("INSUFFICIENT_POINTS")
        days = [day for day in sorted(usable) for _ in range(usable[day])][:amount]
        return [(day, len(list(group))) for day, group in itertools.groupby(days)]

    def transfer(self, actor: str, asset: str, recipients: list[tuple[str, int]], now_ms: int) -> None:
        if not self.transferable[asset]:
            raise Refused("NOT_TRANSFERABLE")
        taken = self.take(actor, asset, sum(amount for _, amount in recipients), now_ms)
        single = [day for day, points in taken for _ in range(points)]
        for account, amount in recipients:
            for day in single[:amount]:
                self.add(actor, asset, day, -1)
                self.add(account, asset, day, 1)
            del single[:amount]

    def redeem(self, actor: str, asset: str, amount: int, merchant: str, now_ms: int) -> None:
        if merchant != self.issuers[asset]:
            raise Refused("NOT_ACCEPTED")
        for day, points in self.take(actor, asset, amount, now_ms):
            self.add(actor, asset, day, -points)
            self.add("sys_spent", asset, FOREVER, points)

    def expire(self, asset: str, through: str, limit: int, now_ms: int) -> None:
        if through >= self.today(asset, now_ms):
            raise Refused("NOT_YET_DUE")
        due = sorted(
            (day, account, points)
            for (account, code), lots in self.lots.items()
            if code == asset
            for day, points in lots.items()
            if day <= through
        )
        if not due:
            raise Refused("NOTHING_DUE")
        for day, account, points in due[:limit]:
            self.add(account, asset, day, -points)
            self.add("sys_expired", asset, FOREVER, points)

    def publish(self, asset: str, version: int, starts_ms: int, program: Program, now_ms: int) -> None:
        if version != len(self.versions[asset]) + 1:
            raise Refused("VERSION_CONFLICT")
        if program.time_zone != self.versions[asset][0][1].time_zone:
            raise Refused("TIME_ZONE_MISMATCH")
        if starts_ms < now_ms - TOLERANCE_MS:
            raise Refused("STARTS_IN_PAST")
        self.versions[asset].append((starts_ms, program))


picks = st.integers(0, 10**6)
amounts = st.integers(1, 60)
key_counts = st.sampled_from([(1, 1), (2, 1), (2, 2), (3, 2)])
parts = st.sampled_from([Fraction(1, 2), Fraction(9, 10), Fraction(1), Fraction(1, 7), Fraction(11, 10)])


class Simulation(RuleBasedStateMachine):
    """Rules hand operations to ``pending`` together with what the model says; ``hand_in`` submits and compares."""

    url: str

    def __init__(self) -> None:
        super().__init__()
        origin = f"ledger.example/simulation-{next(ORIGINS)}"
        self.world = World(self.url, origin=origin, seed=1, recovery_delay_ms=RECOVERY_DELAY_MS)
        self.model = Model()
        self.keys: dict[str, Ed25519PrivateKey] = {}
        self.merchants: list[Wallet] = []
        self.members: list[Wallet] = []
        self.assets: list[str] = []
        self.pending: list[tuple[SignedOperation, Callable[[], None]]] = []
        self.sent: list[tuple[SignedOperation, Recorded]] = []
        self.last_ms = self.world.clock.now_ms

    def teardown(self) -> None:
        try:
            self.hand_in()
        finally:
            self.world.close()

    @initialize(
        programs=st.tuples(programs, programs, programs),
        caps=st.tuples(st.none(), st.none(), st.integers(1, 2_000)),
        transferable=st.tuples(st.just(True), st.just(True), st.booleans()),
    )
    def found(self, programs: Any, caps: Any, transferable: Any) -> None:
        self.merchants = [self.world.add_merchant(f"Shop {i}") for i in range(2)]
        self.members = self.world.add_members(2)
        self.model.operator = str(self.world.operator.account)
        for wallet in (self.world.operator, *self.merchants, *self.members):
            self.note_keys(wallet)
        for i, code in enumerate(("STAR", "MILE", "BEAN")):
            shop = self.merchants[i % 2]
            self.world.add_asset(shop, code, programs[i], supply_cap=caps[i], transferable=transferable[i])
            self.assets.append(code)
            self.model.versions[code].append((0, programs[i]))
            self.model.issuers[code] = str(shop.account)
            self.model.caps[code] = caps[i]
            self.model.transferable[code] = transferable[i]
            lines = [(who, 1_000, days, 100 + 2 * days + who) for who in (0, 1) for days in (70, 45, 20, 1)]
            self.purchase(i, lines)
        self.hand_in()

    def pick(self, among: list[Any], number: int) -> Any:
        return among[number % len(among)]

    def issuer(self, asset: str) -> Wallet:
        return next(shop for shop in self.merchants if shop.account == self.model.issuers[asset])

    @property
    def now_ms(self) -> int:
        """When what is pending will be recorded: time never decreases."""
        return max(self.world.clock.now_ms, self.last_ms)

    def add(self, signed: SignedOperation, effect: Callable[[], None]) -> None:
        now_ms = self.now_ms

        def decide() -> None:
            self.model.authorise(signed, now_ms)
            effect()

        self.pending.append((signed, decide))

    def everyone(self) -> list[Wallet]:
        return [*self.members, *self.merchants, self.world.operator]

    def note_keys(self, wallet: Wallet) -> None:
        """Tell the model of an account that was opened with its wallet's keys."""
        self.keys |= {encode_public_key(key): key for key in wallet.keys}
        opened = KeyEvent("open", self.now_ms, tuple(encode_public_key(key) for key in wallet.keys))
        self.model.key_events[str(wallet.account)] = [opened]

    def fetch_keys(self) -> None:
        """Let everyone sign with as many of the keys in force as must sign."""
        for wallet in self.everyone():
            authority = self.model.authority(str(wallet.account), self.now_ms)
            wallet.keys = [self.keys[key] for key in authority.keys[: authority.threshold]]

    def make_keys(self, count: int) -> list[Ed25519PrivateKey]:
        keys = [self.world.make_key() for _ in range(count)]
        self.keys |= {encode_public_key(key): key for key in keys}
        return keys

    @rule(custodial=st.booleans(), number=picks)
    @precondition(lambda self: len(self.members) < 6)
    def open_member(self, custodial: bool, number: int) -> None:
        self.hand_in()
        if custodial:
            shop = self.pick(self.merchants, number)
            (opened,) = self.world.record(shop.sign(OpenAccount, role="member"))
            self.members.append(self.world.wallet(account_opened_by(opened), *shop.keys))
            account = str(self.members[-1].account)
            self.model.custodians[account] = str(shop.account)
            self.model.key_events[account] = [KeyEvent("open", self.now_ms)]
        else:
            self.members.append(self.world.add_member())
            self.note_keys(self.members[-1])

    @rule(who=picks, counts=key_counts, keep=st.booleans(), forget=st.sampled_from([False, False, True]))
    def replace_keys(self, who: int, counts: tuple[int, int], keep: bool, forget: bool) -> None:
        """New keys, maybe beside one that is kept; who forgets them signs on with the old ones for a while."""
        wallet = self.pick(self.everyone(), who)
        account, threshold, now_ms = str(wallet.account), counts[1], self.now_ms
        keys = self.make_keys(counts[0]) + wallet.keys[: int(keep)]
        public = tuple(encode_public_key(key) for key in keys)
        self.add(
            wallet.replace_keys(keys, threshold),
            lambda: self.model.replace_keys(account, public, threshold, now_ms),
        )
        if not forget:
            wallet.keys = keys

    @rule(who=picks, counts=key_counts)
    def recover_keys(self, who: int, counts: tuple[int, int]) -> None:
        account, threshold, now_ms = str(self.pick(self.everyone(), who).account), counts[1], self.now_ms
        keys = self.make_keys(counts[0])
        public = tuple(encode_public_key(key) for key in keys)
        signed = self.world.operator.sign(
            RecoverKeys, co_signers=keys, account=account, keys=public, threshold=threshold
        )
        self.add(signed, lambda: self.model.recover(account, public, threshold, now_ms))

    @rule(number=picks, by_operator=st.booleans(), any_account=st.booleans())
    def cancel_recovery(self, number: int, by_operator: bool, any_account: bool) -> None:
        now_ms = self.now_ms
        pending = [w for w in self.everyone() if self.model.pending_until(str(w.account), now_ms) is not None]
        wallet = self.pick(self.everyone() if any_account or not pending else pending, number)
        account, actor = str(wallet.account), self.world.operator if by_operator else wallet
        signed = actor.sign(CancelRecovery, account=account)
        self.add(signed, lambda: self.model.cancel(account, now_ms))

    @rule(number=picks, ms=st.sampled_from([-1, 0, 1]), know=st.booleans())
    def wait_for_a_recovery(self, number: int, ms: int, know: bool) -> None:
        """Go to where a recovery takes effect, or just beside; whoever has not heard signs with the keys before."""
        self.hand_in()
        times = [self.model.pending_until(str(wallet.account), self.now_ms) for wallet in self.everyone()]
        pending = sorted(at_ms for at_ms in times if at_ms is not None)
        if pending:
            self.world.clock.now_ms = max(self.now_ms, self.pick(pending, number) + ms)
            if know:
                self.fetch_keys()

    @rule(number=picks, program=programs, in_days=st.integers(-2, 5), skip=st.sampled_from([0, 0, 0, 1]))
    def publish_program(self, number: int, program: Program, in_days: int, skip: int) -> None:
        asset = self.pick(self.assets, number)
        waiting = sum(isinstance(signed.op, PublishProgram) and signed.op.asset == asset for signed, _ in self.pending)
        version = len(self.model.versions[asset]) + waiting + 1 + skip
        starts_ms, now_ms = self.now_ms + in_days * DAY_MS, self.now_ms
        signed = self.issuer(asset).sign(
            PublishProgram, asset=asset, version=version, starts=format_time(starts_ms), program=program
        )
        self.add(signed, lambda: self.model.publish(asset, version, starts_ms, program, now_ms))

    @rule(
        number=picks,
        lines=st.lists(
            st.tuples(picks, st.integers(0, 2_500), st.integers(0, 70), st.integers(0, 80)),
            min_size=1,
            max_size=6,
            unique_by=lambda line: line[3],
        ),
    )
    def purchase(self, number: int, lines: list[tuple[int, int, int, int]]) -> None:
        asset = self.pick(self.assets, number)
        purchases = [
            (self.pick(self.members, who).account, amount, self.world.clock.now_ms - days * DAY_MS, f"order-{order}")
            for who, amount, days, order in lines
        ]
        documents = tuple(
            Purchase(member=account, amount=amount, at=format_time(at_ms), order=order)
            for account, amount, at_ms, order in purchases
        )
        signed = self.issuer(asset).sign(RecordPurchases, asset=asset, currency="USD", purchases=documents)
        self.add(signed, lambda: self.model.purchase(asset, purchases))

    @rule(number=picks, who=picks, amount=st.integers(1, MAX_GRANT + 20), reference=st.integers(0, 40))
    def grant(self, number: int, who: int, amount: int, reference: int) -> None:
        self.add_grant(self.pick(self.assets, number), who, amount, reference)

    @rule(who=picks, over=st.integers(0, 1), reference=st.integers(0, 40))
    def grant_what_the_cap_leaves(self, who: int, over: int, reference: int) -> None:
        asset = self.assets[-1]
        left = (self.model.caps[asset] or 0) - self.model.circulating(asset)
        self.add_grant(asset, who, max(1, min(left, MAX_GRANT) + over), reference)

    def add_grant(self, asset: str, who: int, amount: int, reference: int) -> None:
        account, at_ms = str(self.pick(self.members, who).account), self.world.clock.now_ms
        signed = self.issuer(asset).sign(
            Grant, asset=asset, member=account, amount=amount, activity="goodwill", reference=f"event-{reference}"
        )
        self.add(signed, lambda: self.model.grant(asset, account, amount, at_ms, f"event-{reference}"))

    @rule(number=picks, who=picks, to=st.lists(st.tuples(picks, amounts), min_size=1, max_size=3), part=parts)
    def transfer(self, number: int, who: int, to: list[tuple[int, int]], part: Fraction) -> None:
        asset = self.pick(self.assets, number)
        actor = self.pick(self.holders(asset), who)
        others = [other for other in self.members + self.merchants if other is not actor]
        recipients = {str(self.pick(others, whom).account): amount for whom, amount in to}
        recipients[next(iter(recipients))] = self.part_of(actor, asset, part)
        signed = actor.sign(
            Transfer, asset=asset, recipients=tuple(Recipient(to=t, amount=amount) for t, amount in recipients.items())
        )
        now_ms = self.now_ms
        self.add(signed, lambda: self.model.transfer(str(actor.account), asset, list(recipients.items()), now_ms))

    @rule(number=picks, who=picks, part=parts, where=st.sampled_from([0, 0, 0, 1]))
    def redeem(self, number: int, who: int, part: Fraction, where: int) -> None:
        asset = self.pick(self.assets, number)
        actor = self.pick(self.holders(asset), who)
        amount = self.part_of(actor, asset, part)
        shop = self.pick(self.merchants, self.merchants.index(self.issuer(asset)) + where)
        signed = actor.sign(Redeem, asset=asset, amount=amount, merchant=shop.account)
        now_ms = self.now_ms
        self.add(signed, lambda: self.model.redeem(str(actor.account), asset, amount, str(shop.account), now_ms))

    def holders(self, asset: str) -> list[Wallet]:
        """Who can spend points of an asset, those with most lots first; everyone when nobody can."""
        everyone = self.members + self.merchants
        lots = {holder.account: len(self.model.usable(str(holder.account), asset, self.now_ms)) for holder in everyone}
        rich = sorted((holder for holder in everyone if lots[holder.account]), key=lambda h: -lots[h.account])
        return rich or everyone

    def part_of(self, holder: Wallet, asset: str, part: Fraction) -> int:
        """A part of what someone can spend, so that spending crosses lots, takes all, or is a little too much."""
        return max(1, math.ceil(sum(self.model.usable(str(holder.account), asset, self.now_ms).values()) * part))

    @rule(number=picks, days=st.integers(0, 3), limit=st.integers(1, 4), by_operator=st.booleans())
    def expire(self, number: int, days: int, limit: int, by_operator: bool) -> None:
        asset, now_ms = self.pick(self.assets, number), self.now_ms
        through = format_time(now_ms - days * DAY_MS)[:10]
        actor = self.world.operator if by_operator else self.issuer(asset)
        signed = actor.sign(Expire, asset=asset, through=through, limit=limit)
        self.add(signed, lambda: self.model.expire(asset, through, limit, now_ms))

    @rule(number=picks)
    @precondition(lambda self: self.sent)
    def replay(self, number: int) -> None:
        """Hand in again what was recorded before: the same entry, and the model does nothing."""
        signed, recorded = self.pick(self.sent, number)
        (outcome,) = self.world.submit(signed)
        assert isinstance(outcome, Recorded)
        assert outcome.replayed
        assert (outcome.seq, outcome.data) == (recorded.seq, recorded.data)

    @rule(number=picks)
    @precondition(lambda self: self.pending)
    def hand_in_twice(self, number: int) -> None:
        """Put a document that is already waiting into the same batch again."""
        self.pending.append(self.pick(self.pending, number))

    @rule(days=st.integers(0, 40), ms=st.integers(-40_000_000, 40_000_000))
    def move_clock(self, days: int, ms: int) -> None:
        self.hand_in()
        self.world.clock.advance(days=days, ms=ms)
        # A clock further behind the last entry stops the ledger, which has a test of its own.
        self.world.clock.now_ms = max(self.world.clock.now_ms, self.last_ms - TOLERANCE_MS)

    @rule()
    def restart(self) -> None:
        self.hand_in()
        self.world.restart()

    @rule()
    @precondition(lambda self: self.pending)
    def submit(self) -> None:
        self.hand_in()

    def hand_in(self) -> None:
        """Submit what is pending as one batch and compare every outcome, then everything stored."""
        now_ms = self.now_ms
        pending, self.pending = self.pending, []
        outcomes = self.world.submit(*(signed for signed, _ in pending))
        seen: dict[bytes, Recorded] = {}
        for (signed, effect), outcome in zip(pending, outcomes, strict=True):
            if signed.op_id in seen:
                assert isinstance(outcome, Recorded)
                assert outcome.replayed
                assert outcome.seq == seen[signed.op_id].seq
                continue
            refusal = refusal_of(effect)
            if refusal is not None:
                assert isinstance(outcome, Rejection), outcome
                assert outcome.code == refusal
                continue
            assert isinstance(outcome, Recorded), outcome
            assert not outcome.replayed
            self.last_ms = now_ms
            seen[signed.op_id] = outcome
            self.sent.append((signed, outcome))
            self.check_entry(signed, outcome, now_ms)
        self.check_world()
        self.fetch_keys()

    def check_entry(self, signed: SignedOperation, outcome: Recorded, now_ms: int) -> None:
        assert outcome.op_id == signed.op_id
        assert f'"time":"{format_time(now_ms)}"'.encode() in outcome.data
        if isinstance(signed.op, (Transfer, Redeem)):
            assert outcome.balance == self.model.balance(signed.op.actor, signed.op.asset)

    def check_world(self) -> None:
        check_record(self.world.store)
        state = check_projections(self.world.store)
        for account, events in self.model.key_events.items():
            for at_ms in (self.now_ms, events[-1].at_ms + RECOVERY_DELAY_MS, self.now_ms + 60 * DAY_MS):
                if at_ms >= self.now_ms:
                    wanted = self.model.authority(account, at_ms)
                    found = authority_of(state, state.accounts[account], format_time(at_ms))
                    assert (found.keys, found.threshold) == (wanted.keys, wanted.threshold)
        expected = {key: lots for key, lots in self.model.lots.items() if lots}
        assert {key: lots for key, lots in state.lots.items() if lots} == expected
        assert set(state.references) == {
            (merchant, "order" if scope == "order" else f"grant:{scope}", reference)
            for merchant, scope, reference in self.model.used
        }

    @invariant()
    def points_are_conserved(self) -> None:
        """In the database itself: every asset sums to zero, and nobody but the issue account is below it."""
        with self.world.store.read() as connection:
            ledger = self.world.store.ledger_id
            sums = connection.exec_driver_sql(
                f"SELECT asset, sum(points) FROM lot WHERE ledger_id = {ledger} GROUP BY asset"
            ).all()
            posted = connection.exec_driver_sql(
                f"SELECT seq, asset FROM posting WHERE ledger_id = {ledger} GROUP BY seq, asset HAVING sum(amount) <> 0"
            ).all()
            below = connection.exec_driver_sql(
                f"SELECT account FROM lot WHERE ledger_id = {ledger} AND points <= 0 AND account <> 'sys_issued'"
            ).all()
        assert all(total == 0 for _, total in sums)
        assert posted == []
        assert below == []


@pytest.mark.slow
@pytest.mark.timeout(900)  # a failure is made smaller for up to 5 minutes before it is shown
def test_ledger_does_what_the_model_says(database_url: str) -> None:
    """Whatever merchants and members do, in whatever batches: outcomes, lots and projections are the model's."""
    simulation = type("Simulation", (Simulation,), {"url": database_url})
    examples = 50 if database_url.startswith("sqlite") else 20
    run_state_machine_as_test(
        simulation,
        settings=settings(
            max_examples=examples,
            stateful_step_count=60,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
