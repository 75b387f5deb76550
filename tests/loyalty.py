"""Programs of the gallery in use: merchants publish them, members buy and spend, all through GraphQL.

    def test_the_rewards_have_their_prices(loyalty: Loyalty) -> None:
        club, ann = loyalty.publish("02_starbucks_2019"), loyalty.member()
        assert club.buy(ann, "9.45") == 18
        with refused("INSUFFICIENT_POINTS"):
            club.redeem(ann, 25, reward="customization")

Amounts of money are decimal text in the program's currency, points are integers in the asset's smallest unit.
Operations are documents with the fields of :mod:`ledger.operations` as plain data, signed by whoever acts and sent to
their typed mutation; what became of them is read back by queries in a session of the member. The clock stands still
until :meth:`Loyalty.on` moves it. When a test is over, an auditor replays the whole ledger from genesis and compares it
with every table, and so does another one, who knows the format and nothing else, with every posting.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from api import gallery
from ledger.amounts import parse_amount
from ledger.audit_database import audit_database
from ledger.due import DueRun, due_filter
from ledger.encoding import OpId, account_id, encode_base64url, format_time, parse_time
from ledger.keys import encode_public_key
from ledger.operations import MalformedError, OpenAccount, SignedOperation, build_operation
from ledger.profiles import ProfileKeys, Profiles
from ledger.sequencer import account_opened_by
from ledger.state import SYS_EXPIRED, SYS_ISSUED
from ledger.wallet import Wallet, sign_operation
from tests.reference import rows
from tests.reference_verifier import verify_ledger
from tests.service import ERRORS, Service, key_file, running
from tests.worlds import Clock, World

FOUNDED = "2019-01-01T12:00:00.000Z"
LONG_AGO = "1997-01-01T00:00:00.000Z"
DAY_MS = 86_400_000

_MORE = "moved: entry { postings { accountId asset amount } }"


class RefusedError(Exception):
    """An operation was refused with a ``code``."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        super().__init__(f"{error['code']} {error['path']}: {error['message']}")
        self.code = error["code"]


@contextmanager
def refused(code: str) -> Iterator[None]:
    """What is done in this block must be refused with a code."""
    with pytest.raises(RefusedError) as caught:
        yield
    assert caught.value.code == code, caught.value


def line(amount: str, **fields: str) -> dict[str, Any]:
    """A line of a purchase: its amount, and its category or product."""
    return {"amount": cents(amount), **fields}


def cents(amount: str) -> int:
    """Minor units of a decimal amount."""
    return parse_amount(amount, 2)


class Loyalty:
    """A ledger with its service, on which programs are published."""

    def __init__(self, world: World, service: Service, folder: Path, profile_key: Ed25519PrivateKey) -> None:
        self.world = world
        self._profile_key = profile_key
        self.service = service
        self.folder = folder
        self._references = 0

    def on(self, day: str, time: str = "12:00") -> None:
        """Set the clock to a day, at noon UTC unless a time is given."""
        now_ms = parse_time(f"{day}T{time}:00.000Z")
        assert now_ms >= self.world.clock.now_ms, "recorded time never goes back"
        self.world.clock.now_ms = now_ms

    @property
    def time(self) -> str:
        """What the clock says."""
        return format_time(self.world.clock.now_ms)

    def later(self, *, days: int) -> None:
        """Let days go by."""
        self.world.clock.advance(days=days)

    def reference(self, kind: str) -> str:
        """A reference nobody has used."""
        self._references += 1
        return f"{kind}-{self._references}"

    def member(self) -> Wallet:
        """A new member who holds a key."""
        return self.world.add_member()

    def in_custody(self, merchant: Wallet) -> Wallet:
        """A new member without a key, for whom a merchant signs."""
        opened = self.do(merchant, "open_account", role="member")
        return self.world.wallet(account_id("mem", OpId(bytes.fromhex(opened["operationId"]))), *merchant.keys)

    def claim(self, held: Wallet) -> Wallet:
        """A member in custody gets a key of its own, which whoever had the account hands it over to."""
        key = self.world.make_key()
        self.submit(held.replace_keys([key]))
        return self.world.wallet(held.account, key)

    def merchant(self, name: str = "Shop") -> Wallet:
        """A new merchant."""
        return self.world.add_merchant(name)

    def beneficiary(self, name: str) -> Wallet:
        """A new beneficiary, vouched for by the operator."""
        key = self.world.make_key()
        keys = (encode_public_key(key),)
        operator = self.world.operator
        opening = operator.sign(OpenAccount, co_signers=[key], role="beneficiary", name=name, keys=keys)
        return self.world.wallet(account_opened_by(*self.world.record(opening)), key)

    def publish(self, name: str, merchant: Wallet | None = None, **changes: Any) -> "Club":
        """A merchant defines the assets of a program of the gallery and publishes it, in force since 1997.

        ``changes`` replace parts of it, as the document has them; ``None`` leaves one out.
        """
        merchant = merchant or self.merchant()
        program = gallery.load(name)
        for each in gallery.operations(program, str(merchant.account), LONG_AGO):
            if each["kind"] == "publish_program" and each["asset"] == program.assets[-1].asset:
                parts = each["program"] | changes
                each["program"] = {part: value for part, value in parts.items() if value is not None}
            self.submit(self.sign(merchant, **each))
        return Club(self, merchant, program.assets[-1].asset, program.assets[-1].program.currency)

    def sign(self, wallet: Wallet, kind: str, *, with_: Sequence[Wallet] = (), **fields: Any) -> SignedOperation:
        """An operation with these fields, signed by a wallet and by others ``with_`` it."""
        known = {"actor": wallet.account, "at": self.time, "guerdon": 1, "kind": kind, "ledger": self.world.origin}
        known["nonce"] = encode_base64url(self.world.random.randbytes(16))
        given = {name: value for name, value in (known | fields).items() if value is not None}
        try:
            return sign_operation(build_operation(given), [key for each in (wallet, *with_) for key in each.keys])
        except MalformedError as error:  # as the server says it
            raise RefusedError({"code": error.code, "path": error.path, "message": str(error)}) from error

    def submit(self, signed: SignedOperation, service: Service | None = None) -> dict[str, Any]:
        """Send an operation to its mutation; its entry, or :class:`RefusedError`."""
        payload = (service or self.service).submit(signed, _MORE)
        for error in payload["userErrors"]:
            raise RefusedError(error)
        return {**payload["entry"], **payload["moved"]}

    def do(self, wallet: Wallet, kind: str, *, with_: Sequence[Wallet] = (), **fields: Any) -> dict[str, Any]:
        """Sign an operation and send it; its entry."""
        return self.submit(self.sign(wallet, kind, with_=with_, **fields))

    def read(self, wallet: Wallet, document: str, **variables: Any) -> Any:
        """The answer to a query in a session of this wallet's account."""
        return self.service.query(document, variables, self.service.sign_in(wallet))

    def change(self, wallet: Wallet, mutation: str, selection: str, **given: Any) -> Any:
        """What a mutation that is no operation gives, in a session of this wallet's account."""
        kind = mutation[0].upper() + mutation[1:] + "Input"
        document = f"mutation($input: {kind}!) {{ {mutation}(input: $input) {{ {selection} {ERRORS} }} }}"
        payload = self.service.query(document, {"input": given}, self.service.sign_in(wallet))[mutation]
        assert payload.pop("userErrors") == []
        return payload

    def run_due(self, wallet: Wallet | None = None) -> dict[str, int]:
        """The operator, or a merchant, does what time has made due, as a server does by itself; how much of what."""
        wallet = wallet or self.world.operator
        store, random_bytes = self.world.store, self.world.random.randbytes
        profiles = Profiles(ProfileKeys(store.origin, [self._profile_key], random_bytes), random_bytes)
        with store.read() as connection:
            wanted = due_filter(store, connection, str(wallet.account))
        run = DueRun(store, self.world.sequencer.submit, wallet, self.world.clock, wanted, profiles=profiles)
        report = run.run()
        assert report.is_complete, report
        names = ("lots", "vesting", "members", "reminded", "birthdays")
        done = {name: sum(getattr(each, name) for each in report.assets) for name in names}
        return {name: number for name, number in done.items() if number}

    def agree(self, issuer: Wallet, partner: Wallet, **terms: Any) -> None:
        """An agreement of two merchants, in force from now on."""
        fields = {"partner": partner.account, "version": 1, "notice_days": 0, "starts": self.time, "terms": terms}
        self.do(issuer, "agree", with_=[partner], **fields)

    def owed(self, debtor: Wallet, creditor: Wallet) -> int:
        """Minor units that one merchant owes another, as the creditor reads it."""
        document = "query($id: ID!) { obligations(counterparty: $id, first: 100) { nodes { debtorId amount } } }"
        found = self.read(creditor, document, id=debtor.account)["obligations"]["nodes"]
        return sum(each["amount"] for each in found if each["debtorId"] == debtor.account)


class Club:
    """A merchant's program: who is in it and what they do."""

    def __init__(self, loyalty: Loyalty, wallet: Wallet, asset: str, currency: str) -> None:
        self.loyalty = loyalty
        self.wallet = wallet
        self.asset = asset
        self.currency = currency

    # What the merchant does

    def buy(self, member: Wallet, amount: str | None = None, **fields: Any) -> int:
        """A member's purchase, see :meth:`purchase`; points issued for it at once, to whomever."""
        by = fields.pop("by", None)
        return self.record(self.purchase(member, amount, **fields), by=by)

    def purchase(
        self, member: Wallet, amount: str | None = None, *, order: str | None = None, **fields: Any
    ) -> dict[str, Any]:
        """A purchase made now unless ``at`` is given. With ``lines``, they are the amount; ``quantities`` by name."""
        if amount is not None:
            fields["amount"] = cents(amount)
        else:
            fields["amount"] = sum(each["amount"] for each in fields.get("lines", ()))
        if quantities := fields.pop("quantities", None):
            fields["quantities"] = [{"name": name, "quantity": number} for name, number in quantities.items()]
        order = order or self.loyalty.reference("order")
        return {"at": self.loyalty.time, "member": member.account, "order": order, **fields}

    def record(self, *purchases: dict[str, Any], by: Wallet | None = None) -> int:
        """Purchases recorded together, by a partner if one is named; points issued at once."""
        fields: dict[str, Any] = {"asset": self.asset, "currency": self.currency, "purchases": purchases}
        entry = self.loyalty.do(by or self.wallet, "record_purchases", **fields)
        return -moved(entry, SYS_ISSUED, self.asset)

    def refund(self, order: str, amount: str, **fields: Any) -> int:
        """Some of a purchase is refunded; points taken back at once, of whomever."""
        of = {"type": "purchase", "order": order, "amount": cents(amount), **fields}
        reference = self.loyalty.reference("refund")
        entry = self.loyalty.do(self.wallet, "refund", asset=self.asset, of=of, reference=reference)
        return moved(entry, SYS_ISSUED, self.asset)

    def refund_redemption(self, redeemed: Mapping[str, Any], amount: int) -> None:
        """Points that a redemption took are given back."""
        of = {"type": "redemption", "operation": redeemed["operationId"], "amount": amount}
        reference = self.loyalty.reference("refund")
        self.loyalty.do(self.wallet, "refund", asset=self.asset, of=of, reference=reference)

    def grant(self, member: Wallet, activity: str, points: int = 0, **fields: Any) -> dict[str, Any]:
        """Points for an activity; the entry."""
        reference = self.loyalty.reference(activity)
        fields = {"activity": activity, "amount": points or None, "member": member.account, **fields}
        return self.loyalty.do(self.wallet, "grant", asset=self.asset, reference=reference, **fields)

    def give(self, member: Wallet, points: int) -> None:
        """Points to begin a test with, by hand."""
        fields: dict[str, Any] = {
            "member": member.account,
            "reason": "other",
            "reference": self.loyalty.reference("give"),
        }
        self.loyalty.do(self.wallet, "correct", asset=self.asset, amount=points, **fields)

    def vest(self, *orders: str) -> int:
        """Issue what has vested of these orders; points issued."""
        purchases = [{"merchant": self.wallet.account, "order": order} for order in orders]
        entry = self.loyalty.do(self.wallet, "vest", asset=self.asset, purchases=purchases)
        return -moved(entry, SYS_ISSUED, self.asset)

    def expire(self, through: str) -> int:
        """Retire lots whose last day is this or an earlier one; how many points."""
        entry = self.loyalty.do(self.wallet, "expire", asset=self.asset, limit=400, through=through)
        return sum(leg["amount"] for leg in entry["postings"] if leg["accountId"] == SYS_EXPIRED)

    def start_plan(self, member: Wallet, plan: str) -> None:
        """A member paid for a plan."""
        fields: dict[str, Any] = {
            "member": member.account,
            "plan": plan,
            "reference": self.loyalty.reference("payment"),
        }
        self.loyalty.do(self.wallet, "start_plan", asset=self.asset, **fields)

    def end_plan(self, member: Wallet, reason: str = "refunded") -> None:
        """A member got the money for a plan back."""
        self.loyalty.do(self.wallet, "end_plan", asset=self.asset, member=member.account, reason=reason)

    def use_voucher(self, voucher: Mapping[str, Any]) -> None:
        """A voucher is used at the till."""
        where = {"index": voucher["index"], "seq": voucher["seq"]}
        self.loyalty.do(self.wallet, "use_voucher", voucher=where, reference=self.loyalty.reference("bill"))

    # What members do

    def enroll(self, member: Wallet, *, formula: str | None = None, invited_by: Wallet | None = None) -> None:
        """A member joins, or chooses another formula."""
        inviter = invited_by and invited_by.account
        self.loyalty.do(member, "enroll", asset=self.asset, formula=formula, invited_by=inviter)

    def redeem(self, member: Wallet, points: int, *, at: Wallet | None = None, **fields: Any) -> dict[str, Any]:
        """A member spends points, at the merchant itself unless another is named; the entry."""
        merchant = (at or self.wallet).account
        return self.loyalty.do(member, "redeem", asset=self.asset, amount=points, merchant=merchant, **fields)

    def form_pool(self, member: Wallet, *others: Wallet, signed_by: Sequence[Wallet] | None = None) -> None:
        """Members agree to spend each other's points; all of them sign unless ``signed_by`` names who does."""
        members = [other.account for other in others]
        signers = [other for other in (signed_by if signed_by is not None else others) if other is not member]
        self.loyalty.do(member, "form_pool", with_=signers, asset=self.asset, members=members)

    def leave_pool(self, member: Wallet) -> None:
        """A member goes out of its pool."""
        self.loyalty.do(member, "leave_pool", asset=self.asset)

    # What is read back

    def balance(self, member: Wallet, asset: str | None = None) -> int:
        """Points a member can use now."""
        return int(self._balance(member, asset).get("spendable", 0))

    def lots(self, member: Wallet) -> dict[str | None, int]:
        """A member's points by last day."""
        return {lot["lastDay"]: lot["points"] for lot in self._balance(member).get("lots", ())}

    def _balance(self, member: Wallet, asset: str | None = None) -> dict[str, Any]:
        found = self._account(member, "balances(asset: $asset) { spendable lots { lastDay points } }", asset)
        return dict(*found["balances"])

    def tier(self, member: Wallet) -> str | None:
        """The tier a member is in today."""
        return str(tier) if (tier := self._standing(member)["tier"]) else None

    def tier_until(self, member: Wallet) -> str | None:
        """The last day on which it lasts by itself; ``None`` for ever."""
        return str(until) if (until := self._standing(member)["until"]) else None

    def _standing(self, member: Wallet) -> dict[str, Any]:
        document = "query($asset: String!) { membership(asset: $asset) { tier { tier until } } }"
        found: dict[str, Any] = self.loyalty.read(member, document, asset=self.asset)["membership"]["tier"]
        return found

    def benefits(self, member: Wallet, amount: str | None = None) -> set[str]:
        """The benefits a member has today, with a purchase of an amount if one is given."""
        document = """query($asset: String!, $purchase: BenefitPurchaseInput) {
          benefits(asset: $asset, purchase: $purchase) { benefit holds } }"""
        purchase = {"amount": cents(amount)} if amount is not None else None
        found = self.loyalty.read(member, document, asset=self.asset, purchase=purchase)
        return {each["benefit"] for each in found["benefits"] if each["holds"]}

    def vouchers(self, member: Wallet) -> list[dict[str, Any]]:
        """A member's vouchers, the first it had first."""
        nodes = "nodes { seq index reward worth lastDay status }"
        found = self._account(member, f"vouchers(asset: $asset, first: 100) {{ {nodes} }}")
        return list(found["vouchers"]["nodes"])

    def pending(self, member: Wallet) -> dict[str, tuple[int, str]]:
        """Points that have not vested, by order, each with the day from which they can be."""
        nodes = "nodes { order points vestsOn }"
        found = self._account(member, f"pendingPoints(asset: $asset, first: 100) {{ {nodes} }}")
        return {each["order"]: (each["points"], each["vestsOn"]) for each in found["pendingPoints"]["nodes"]}

    def achievements(self, member: Wallet) -> dict[str, int]:
        """How often a member did each activity."""
        found = self._account(member, "achievements(asset: $asset) { activity count }")
        return {each["activity"]: each["count"] for each in found["achievements"]}

    def explanation(self, member: Wallet, order: str) -> str:
        """Why a purchase gave its points, as its member reads it."""
        document = """query { entries(filter: {kind: RECORD_PURCHASES}, last: 20) {
          nodes { earnings(first: 20) { nodes { reference explanation { sentence } } } } } }"""
        found = self.loyalty.read(member, document)["entries"]["nodes"]
        earnings = [earning for entry in found for earning in entry["earnings"]["nodes"]]
        (sentence,) = [each["explanation"]["sentence"] for each in earnings if each["reference"] == order]
        return str(sentence)

    def reminders(self, member: Wallet) -> list[dict[str, Any]]:
        """What a member was reminded of, the first reminder first."""
        nodes = "nodes { about points day tier }"
        found = self._account(member, f"reminders(asset: $asset, first: 100) {{ {nodes} }}")
        return [
            {name: value for name, value in told.items() if value is not None} for told in found["reminders"]["nodes"]
        ]

    def sentences(self, member: Wallet) -> list[str]:
        """The same in words."""
        found = self._account(member, "reminders(asset: $asset, last: 100) { nodes { sentence } }")
        return [told["sentence"] for told in found["reminders"]["nodes"]]

    def program_part(self, selection: str) -> Any:
        """A part of the program in force, as anybody reads it."""
        document = f"query($asset: String!) {{ asset(code: $asset) {{ program {{ {selection} }} }} }}"
        (found,) = self.loyalty.service.query(document, {"asset": self.asset})["asset"]["program"].values()
        return found

    def _account(self, member: Wallet, selection: str, asset: str | None = None) -> dict[str, Any]:
        document = f"query($account: ID!, $asset: String!) {{ account(id: $account) {{ {selection} }} }}"
        found = self.loyalty.read(member, document, account=member.account, asset=asset or self.asset)
        return dict(found["account"])


def moved(entry: Mapping[str, Any], account: str, asset: str) -> int:
    """By how much an entry changed an account's points."""
    return sum(leg["amount"] for leg in entry["postings"] if (leg["accountId"], leg["asset"]) == (account, asset))


@contextmanager
def open_loyalty(folder: Path) -> Iterator[Loyalty]:
    """A ledger with its service in a folder. At the end two auditors find nothing; one shares no code with it."""
    with World(f"sqlite:///{folder / 'ledger.sqlite'}", clock=Clock(FOUNDED)) as world:
        profile_key = world.make_key()
        with running(world, folder, profile_key_file=key_file(folder, profile_key)) as service:
            yield Loyalty(world, service, folder, profile_key)
        report = audit_database(world.store)
        assert report.failures == ()
        with world.store.read() as connection:
            entries = [data for (data,) in rows(connection, world.store, "entry", "data", "seq")]
            checkpoint = world.store.head(connection).checkpoint
        verify_ledger(entries, checkpoint)
