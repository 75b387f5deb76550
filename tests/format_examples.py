"""The worked examples of ledger/FORMAT.md, computed: one small ledger with every kind, and tables of cases.

    python -m tests.format_examples            list the examples that are out of date
    python -m tests.format_examples --write    put the computed values into ledger/FORMAT.md

An example is a fenced block under a marker ``<!-- example: name -->``. Everything follows from the seeds below.
"""

import hashlib
import re
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger import checkpoint, entries, keys
from ledger.agreements import given_of, outcome
from ledger.calculation import Bought, calculate
from ledger.checkpoint import (
    Checkpoint,
    VerifierKey,
    cosign_checkpoint,
    encode_checkpoint,
    encode_verifier_key,
    encode_witness_key,
    key_id,
    sign_checkpoint,
)
from ledger.clearing import positions_of, propose_payments
from ledger.encoding import MAX_INTEGER, account_id, encode_base64url, encode_canonical
from ledger.entries import FIRST_PREV, NO_LAST_DAY, encode_entry, leaf_hash
from ledger.merkle import TILE_WIDTH, CompactRange, hash_node, prove_inclusion, subtree_root
from ledger.movements import MAX_REDATED_LOTS, check_bounds, fee_for
from ledger.operations import (
    Agree,
    Allot,
    CancelRecovery,
    Capture,
    Correct,
    DefineAsset,
    Dispute,
    EndAgreement,
    EndPlan,
    Enroll,
    Exchange,
    Expire,
    FormPool,
    Freeze,
    Genesis,
    Grant,
    Hold,
    LeavePool,
    Net,
    OpenAccount,
    Operation,
    PublishProgram,
    RecordPurchases,
    RecoverKeys,
    Redeem,
    Refund,
    Release,
    Remind,
    ReplaceKeys,
    ReplaceLogKey,
    ResolveDispute,
    ReviewTiers,
    Settle,
    SignedOperation,
    StartPlan,
    Transfer,
    Unfreeze,
    UseVoucher,
    Vest,
    operation_id,
    signed_message,
)
from ledger.pools import shares
from ledger.program_terms import (
    MAX_BANDS,
    MAX_DAYS,
    MAX_MONTHS,
    MAX_TIER_PERIODS,
    Band,
    ExpiresAfterDays,
    ExpiresAfterInactivity,
    ExpiresAfterMonths,
    ExpiresAtMembershipYearEnd,
    ExpiresAtMonthEnd,
    ExpiresAtYearEnd,
    Expiry,
    GrantRule,
    Multiplier,
    NeverExpires,
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
from ledger.programs import last_day, local_date, points_for, round_ratio
from ledger.receipt import MAX_PROOF_HASHES as MAX_RECEIPT_HASHES
from ledger.receipt import MAX_RECEIPT_CHARACTERS, Receipt, encode_receipt
from ledger.rules import account_at, admit, apply, authority_of, log_key_for, opened_account, operator_account
from ledger.spending import MAX_HOLD_MS, MAX_OPEN_HOLDS
from ledger.standing import standing_at
from ledger.state import Account, Admission, Circumstances, State
from ledger.terms import (
    DEFAULT_RECOVERY_DELAY_MS,
    MAX_CLOCK_TOLERANCE_MS,
    MAX_EXPIRED_LOTS,
    MAX_KEYS,
    MAX_POOL_MEMBERS,
    MAX_RECIPIENTS,
    MAX_RECOVERY_DELAY_MS,
    MAX_REVIEWED,
    MAX_SIGNATURES,
    MAX_VESTED,
    MIN_RECOVERY_DELAY_MS,
    AcceptanceTerms,
    Bonus,
    Cap,
    ClaimRef,
    ClaimTerms,
    Currency,
    EarningTerms,
    ExchangeTerms,
    Fee,
    KeptFee,
    Purchase,
    PurchaseLine,
    PurchaseRef,
    Rate,
    Recipient,
    RefundedExchange,
    RefundedPurchase,
    RefundedRedemption,
    Rounding,
    TransferTerms,
    Value,
    VoucherRef,
)
from ledger.tiles import encode_bundle, tiles_of
from ledger.wallet import sign_operation

FORMAT = Path(__file__).parent.parent / "ledger" / "FORMAT.md"
BLOCK = re.compile(r"<!-- example: ([a-z0-9-]+) -->\n```[a-z]*\n(.*?)^```$", re.DOTALL | re.MULTILINE)
FENCE = re.compile(r"^```", re.MULTILINE)

ORIGIN = "ledger.example/beans"
SEEDS = {"operator": 1, "log": 2, "shop": 3, "ada": 4, "school": 5}
SEEDS |= {"witness": 6, "bob": 7, "till": 8, "rescuer": 9, "school2": 10, "log2": 11, "bakery": 12}
KEYS = {name: Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32) for name, seed in SEEDS.items()}
NAMES = {keys.encode_public_key(key): name for name, key in KEYS.items()}
WITNESS = "witness.example/w1"

CENTS = Fee(amount=6, currency="EUR", maximum=9_900, points=100, round="down")
"""0.0006 EUR a point, at most 99.00 EUR."""

PER_POINT = Fee(amount=1, currency="EUR", fixed=3_000, points=1, round="down")
"""0.01 EUR a point and 30.00 EUR."""

VERSION_1 = Program(
    bands=(Band(from_amount=5_000, points=1, per=100), Band(from_amount=10_000, points=2, per=100)),
    currency="EUR",
    expiry=ExpiresAfterMonths(count=1),
    grants=(GrantRule(activity="birthday", max_points=250),),
    round_amount="whole_units",
    round_points="down",
    time_zone="Europe/Berlin",
)
VERSION_2 = Program(
    bands=(Band(from_amount=0, points=3, per=200),),
    currency="EUR",
    expiry=ExpiresAtYearEnd(count=1),
    grants=(GrantRule(activity="birthday", max_points=100),),
    round_amount="none",
    round_points="half_even",
    time_zone="Europe/Berlin",
)


class ExampleLedger:
    """The example ledger, recorded by the rules alone. ``steps`` has what was signed, when, with which postings."""

    def __init__(self) -> None:
        self.state = State(ORIGIN)
        self.range = CompactRange()
        self.steps: list[tuple[SignedOperation, str, Admission]] = []
        self.data: list[bytes] = []
        self.leaves: list[bytes] = []
        self.checkpoints: list[str] = []
        self.accounts: dict[str, str] = {}
        self.kept: list[dict[str, Account]] = []
        self._found()
        self._open()
        self._trade()
        self._change_keys()
        self._agree()
        self._exchange()
        self._hold()
        self._clear()
        self._belong()

    def record(self, time: str, kind: type[Operation], signers: str, **fields: Any) -> SignedOperation:
        """Sign an operation with the keys named and make it the next entry, recorded at a time."""
        nonce = encode_base64url(hashlib.sha256(b"example nonce %d" % len(self.data)).digest()[:16])
        fields.setdefault("at", time)
        op = kind(guerdon=1, ledger=ORIGIN, nonce=nonce, **fields)
        signed = sign_operation(op, [KEYS[name] for name in signers.split()])
        admission = admit(self.state, signed, time)
        assert isinstance(admission, Admission), admission
        seq = len(self.data)
        prev = leaf_hash(self.data[-1]) if self.data else FIRST_PREV
        data = encode_entry(signed, admission.postings, seq=seq, prev=prev, time=time)
        apply(self.state, signed, admission, seq)
        self.steps.append((signed, time, admission))
        self.data.append(data)
        self.leaves.append(leaf_hash(data))
        self.range.append(leaf_hash(data))
        self.kept.append(dict(self.state.accounts))
        self.checkpoints.append(self._sign(Checkpoint(origin=ORIGIN, size=seq + 1, root=self.range.root())))
        return signed

    def _sign(self, checkpoint: Checkpoint) -> str:
        """The checkpoint, signed by all log keys so far, the one in force first."""
        texts = [log_key for _, log_key in reversed(self.state.log_keys)]
        assert texts[0] == log_key_for(self.state.log_keys, checkpoint.size)
        by_text = {encode_verifier_key(ORIGIN, KEYS[name]): KEYS[name] for name in ("log", "log2")}
        return sign_checkpoint(checkpoint, *(by_text[VerifierKey(text)] for text in texts))

    def _found(self) -> None:
        signed = self.record(
            "2026-01-01T09:00:00.000Z",
            Genesis,
            "operator",
            clock_tolerance_ms=30_000,
            currencies=(Currency(code="EUR", scale=2),),
            keys=(keys.encode_public_key(KEYS["operator"]),),
            log_key=encode_verifier_key(ORIGIN, KEYS["log"]),
            name="Bean Coalition",
        )
        assert isinstance(signed.op, Genesis)
        self.accounts["operator"] = operator_account(signed.op, signed.op_id).id

    def _open_account(self, who: str, time: str, signers: str, **fields: Any) -> None:
        if who in signers.split():
            fields["keys"] = key_texts(who)
        signed = self.record(time, OpenAccount, signers, **fields)
        assert isinstance(signed.op, OpenAccount)
        self.accounts[who] = opened_account(signed.op, signed.op_id, 0).id

    def _open(self) -> None:
        operator = self.accounts["operator"]
        self._open_account(
            "shop", "2026-01-01T09:05:00.000Z", "operator shop", actor=operator, role="merchant", name="Bean House"
        )
        self._open_account("ada", "2026-01-01T09:10:00.250Z", "ada", role="member")
        self._open_account("bob", "2026-01-02T08:00:00.000Z", "shop", actor=self.accounts["shop"], role="member")
        self._open_account(
            "school",
            "2026-01-02T08:30:00.000Z",
            "school operator",
            actor=operator,
            role="beneficiary",
            name="École “Süd”",
        )

    def _trade(self) -> None:
        shop, ada, bob = self.accounts["shop"], self.accounts["ada"], self.accounts["bob"]
        bean: dict[str, Any] = {"actor": shop, "asset": "BEAN"}
        self.record(
            "2026-01-02T09:00:00.000Z",
            DefineAsset,
            "shop",
            **bean,
            name="Beans",
            scale=0,
            supply_cap=1_000_000,
            transferable=True,
            value=Value(amount=100, currency="EUR", points=100),
        )
        start = "2025-12-31T23:00:00.000Z"
        self.record(
            "2026-01-02T09:01:00.000Z", PublishProgram, "shop", **bean, program=VERSION_1, starts=start, version=1
        )
        purchases = (
            Purchase(amount=12_075, at="2026-01-30T10:00:00.000Z", member=ada, order="R-1001"),
            Purchase(amount=3_000, at="2026-01-30T10:05:00.000Z", member=bob, order="R-1002"),
            Purchase(amount=20_000, at="2026-01-31T23:30:00.000Z", member=bob, order="R-1003"),
        )
        self.record("2026-01-31T23:31:00.000Z", RecordPurchases, "shop", **bean, currency="EUR", purchases=purchases)
        self.record(
            "2026-01-31T23:45:00.000Z",
            PublishProgram,
            "shop",
            **bean,
            ends="2026-12-31T23:00:00.000Z",
            program=VERSION_2,
            starts="2026-02-01T00:00:00.000Z",
            version=2,
        )
        purchases = (
            Purchase(amount=1_500, at="2026-02-02T12:00:00.000Z", member=ada, order="R-1004"),
            Purchase(amount=1_700, at="2026-02-02T12:10:00.000Z", member=ada, order="R-1005"),
            Purchase(amount=7_500, at="2026-01-29T12:00:00.000Z", member=ada, order="R-0999"),
        )
        self.record("2026-02-02T12:11:00.000Z", RecordPurchases, "shop", **bean, currency="EUR", purchases=purchases)
        self.record(
            "2026-02-02T12:12:00.000Z",
            Grant,
            "shop",
            **bean,
            activity="birthday",
            amount=100,
            member=ada,
            reference="ada/2026",
        )
        self.record(
            "2026-02-03T18:00:00.000Z",
            Transfer,
            "ada",
            actor=ada,
            asset="BEAN",
            expires="2026-02-03T18:05:00.000Z",
            recipients=(Recipient(amount=150, to=self.accounts["school"]), Recipient(amount=50, to=bob)),
        )
        self.record("2026-02-28T22:59:59.999Z", Redeem, "shop", actor=bob, amount=120, asset="BEAN", merchant=shop)
        self.record(
            "2026-03-02T00:00:00.000Z",
            Expire,
            "operator",
            actor=self.accounts["operator"],
            asset="BEAN",
            limit=400,
            through="2026-03-01",
        )

    def _change_keys(self) -> None:
        operator, shop, ada = self.accounts["operator"], self.accounts["shop"], self.accounts["ada"]
        school = self.accounts["school"]
        self.record(
            "2026-03-02T09:00:00.000Z", ReplaceKeys, "shop bob", actor=self.accounts["bob"], keys=key_texts("bob")
        )
        self.record(
            "2026-03-02T10:00:00.000Z",
            ReplaceKeys,
            "shop till",
            actor=shop,
            keys=key_texts("shop", "till"),
            threshold=2,
        )
        self.record(
            "2026-03-03T08:00:00.000Z",
            RecoverKeys,
            "operator rescuer",
            account=ada,
            actor=operator,
            keys=key_texts("rescuer"),
        )
        self.record("2026-03-05T12:00:00.000Z", CancelRecovery, "ada", account=ada, actor=ada)
        self.record(
            "2026-03-06T08:00:00.000Z",
            RecoverKeys,
            "operator school2",
            account=school,
            actor=operator,
            keys=key_texts("school2"),
        )
        self.record(
            "2026-03-13T08:00:00.000Z",
            Redeem,
            "school2",
            actor=school,
            amount=20,
            asset="BEAN",
            merchant=shop,
            reference="B-7",
        )
        self.record(
            "2026-03-14T08:00:00.000Z",
            ReplaceLogKey,
            "operator",
            actor=operator,
            log_key=encode_verifier_key(ORIGIN, KEYS["log2"]),
        )

    def _agree(self) -> None:
        """A bakery with points of its own, and what it and the shop agree on."""
        shop = self.accounts["shop"]
        self._open_account(
            "bakery",
            "2026-03-15T08:00:00.000Z",
            "operator bakery",
            actor=self.accounts["operator"],
            role="merchant",
            name="Crumb Bakery",
        )
        bakery = self.accounts["bakery"]
        self.record(
            "2026-03-15T08:05:00.000Z",
            DefineAsset,
            "bakery",
            actor=bakery,
            asset="CRUMB",
            name="Crumbs",
            scale=0,
            transfer_terms=TransferTerms(
                fee=PER_POINT,
                in_cap=Cap(period="year", points=300_000),
                maximum=30_000,
                out_cap=Cap(period="year", points=150_000),
                step=1_000,
            ),
            transferable=True,
            value=Value(amount=1, currency="EUR", points=1),
        )
        program = Program(
            approval_above=5_000,
            bands=(Band(from_amount=0, points=1, per=100),),
            currency="EUR",
            expiry=ExpiresAtYearEnd(count=1),
            refunds="owe",
            returned_lot_days=30,
            round_amount="none",
            round_points="down",
            time_zone="Europe/Berlin",
        )
        now = "2026-03-15T08:10:00.000Z"
        self.record(now, PublishProgram, "bakery", actor=bakery, asset="CRUMB", program=program, starts=now, version=1)

        def claim(debtor: str, amount: int) -> ClaimTerms:
            return ClaimTerms(amount=amount, currency="EUR", debtor=debtor, points=100, round="half_up")

        exchange = ExchangeTerms(
            asset="BEAN",
            claim=claim(shop, 50),
            fee=KeptFee(kept_by=bakery, **{name: getattr(CENTS, name) for name in CENTS.__struct_fields__}),
            holder_cap=Cap(period="month", points=20_000),
            into="CRUMB",
            rate=Rate(get=3, give=5),
            received="retired",
            step=100,
        )
        acceptance = AcceptanceTerms(asset="BEAN", claim=claim(shop, 80), received="retired")
        earning = EarningTerms(alert_below=100, asset="BEAN", billing="prepaid", claim=claim(bakery, 90))
        for minute, terms in enumerate((exchange, acceptance, earning)):
            starts = f"2026-03-15T09:0{minute}:00.000Z"
            fields = {"actor": shop, "notice_days": 30, "partner": bakery, "version": 1}
            self.record(starts, Agree, "shop till bakery", starts=starts, terms=terms, **fields)

    def _exchange(self) -> None:
        """Points that the bakery gives, what is refunded of a purchase and given by hand, and an exchange."""
        shop, bakery, ada, bob = (self.accounts[name] for name in ("shop", "bakery", "ada", "bob"))
        self.record(
            "2026-03-15T09:10:00.000Z",
            Allot,
            "shop till bakery",
            actor=shop,
            asset="BEAN",
            partner=bakery,
            points=500,
            reference="B-2026",
        )
        now = "2026-03-15T10:00:00.000Z"
        purchase = Purchase(amount=5_000, at=now, member=bob, order="K-1")
        bean = {"actor": bakery, "asset": "BEAN", "currency": "EUR"}
        self.record(now, RecordPurchases, "bakery", **bean, purchases=(purchase,))
        self.record(
            "2026-03-15T11:00:00.000Z",
            Refund,
            "shop till",
            actor=shop,
            asset="BEAN",
            of=RefundedPurchase(amount=3_000, order="R-1001"),
            reference="G-1",
        )
        self.record(
            "2026-03-15T11:05:00.000Z",
            Correct,
            "shop till",
            actor=shop,
            amount=987,
            asset="BEAN",
            member=ada,
            reason="goodwill",
            reference="C-1",
        )
        self.record(
            "2026-03-15T12:00:00.000Z",
            Exchange,
            "ada",
            actor=ada,
            amount=1_000,
            asset="BEAN",
            into="CRUMB",
            maximum_fee=60,
            minimum_out=600,
        )

    def _hold(self) -> None:
        """Holds that are captured, released and lapse, and refunds of a capture and of the exchange."""
        shop, bakery, bob = (self.accounts[name] for name in ("shop", "bakery", "bob"))
        held: dict[str, Any] = {"actor": bob, "asset": "BEAN", "merchant": bakery}
        until = "2026-03-15T18:00:00.000Z"
        placed = self.record("2026-03-15T13:00:00.000Z", Hold, "bob", **held, amount=60, reference="T-1", until=until)
        name = account_id("hld", placed.op_id)
        captured = self.record("2026-03-15T13:05:00.000Z", Capture, "bakery", actor=bakery, amount=40, hold=name)
        self.record("2026-03-15T13:06:00.000Z", Hold, "bob", **held, amount=20, until=until)
        self.record("2026-03-15T13:10:00.000Z", Release, "bakery", actor=bakery, hold=name)
        self.record("2026-03-15T18:00:00.001Z", Redeem, "bob", actor=bob, amount=30, asset="BEAN", merchant=shop)
        exchanged = self.steps[31][0]
        for reference, of in (
            ("G-2", RefundedRedemption(amount=10, operation=captured.op_id.hex())),
            ("G-3", RefundedExchange(amount=100, operation=exchanged.op_id.hex())),
        ):
            time = f"2026-03-16T09:0{reference[-1]}:00.000Z"
            self.record(time, Refund, "bakery", actor=bakery, asset="BEAN", of=of, reference=reference)

    def _clear(self) -> None:
        """A dispute that is withdrawn, a netting, its payment; an account that is frozen for a while; a notice."""
        operator, shop, bakery = (self.accounts[name] for name in ("operator", "shop", "bakery"))
        claim = ClaimRef(index=0, seq=31)
        self.record("2026-03-17T09:00:00.000Z", Dispute, "shop till", actor=shop, claim=claim, reason="amount")
        self.record("2026-03-17T15:00:00.000Z", ResolveDispute, "till shop", actor=shop, claim=claim, outcome="stands")
        merchants, through = (shop, bakery), "2026-03-31"
        owed = positions_of(self.state.obligations, merchants, through)
        self.record(
            "2026-04-01T06:00:00.000Z",
            Net,
            "operator",
            actor=operator,
            currency="EUR",
            merchants=merchants,
            payments=propose_payments(owed),
            through=through,
        )
        (payment,) = propose_payments(owed)
        creditor = "shop till" if payment.creditor == shop else "bakery"
        paid = {"amount": payment.amount, "currency": "EUR", "debtor": payment.debtor}
        self.record("2026-04-02T09:00:00.000Z", Settle, creditor, actor=payment.creditor, payment="2026/4711", **paid)
        bob = {"account": self.accounts["bob"], "actor": operator}
        self.record("2026-04-03T09:00:00.000Z", Freeze, "operator", **bob, reason="stolen_points")
        self.record("2026-04-04T09:00:00.000Z", Unfreeze, "operator", **bob, reason="resolved")
        ends = "2026-06-30T22:00:00.000Z"
        self.record("2026-05-01T09:00:00.000Z", EndAgreement, "bakery", actor=bakery, agreement="BEAN>CRUMB", ends=ends)

    def _belong(self) -> None:
        """Points with a program in which more than the amount counts, and what members do in it."""
        bakery, ada, bob = (self.accounts[name] for name in ("bakery", "ada", "bob"))
        cup: dict[str, Any] = {"asset": "CUP"}
        time = "2026-06-01T08:00:00.000Z"
        self.record(time, DefineAsset, "bakery", actor=bakery, **cup, name="Cups", scale=0, transferable=False)
        program = Program(
            bands=(Band(from_amount=0, points=1, per=100),),
            currency="EUR",
            excluded_categories=("tax",),
            expiry=ExpiresAfterInactivity(months=6),
            grants=(GrantRule(activity="recycled", evidence=True, max_points=5),),
            multipliers=(
                Multiplier(
                    multiplier="coffee_week",
                    times=Ratio(numerator=3, denominator=2),
                    when=When(categories=("coffee",), from_day="2026-06-01", through_day="2026-06-07"),
                ),
            ),
            plans=(Plan(plan="club", days=30, price=499),),
            referral=Referral(points=20),
            reminders=Reminders(new_tier=True),
            rewards=(Reward(reward="coffee", price=25, valid_days=30, worth=300),),
            round_amount="none",
            round_points="down",
            tiers=Tiers(basis="points", levels=(TierLevel(from_count=50, tier="regular"),), period="calendar_year"),
            time_zone="Europe/Berlin",
            vesting_days=14,
        )
        time = "2026-06-01T08:01:00.000Z"
        self.record(time, PublishProgram, "bakery", actor=bakery, **cup, program=program, starts=time, version=1)
        self.record("2026-06-02T08:00:00.000Z", Enroll, "ada", actor=ada, **cup, invited_by=bob)
        time = "2026-06-02T09:00:00.000Z"
        lines = (PurchaseLine(amount=4_050, category="coffee"), PurchaseLine(amount=950, category="tax"))
        purchase = Purchase(amount=5_000, at=time, lines=lines, member=ada, order="K-2", tender="card")
        cash = {"currency": "EUR", "purchases": (purchase,)}
        self.record(time, RecordPurchases, "bakery", actor=bakery, **cup, **cash)
        members, operator = (ada, bob), {"actor": self.accounts["operator"], **cup}
        self.record("2026-06-03T04:00:00.000Z", Remind, "operator", **operator, about="tier", members=members)
        of = (PurchaseRef(merchant=bakery, order="K-2"),)
        self.record("2026-06-16T04:00:00.000Z", Vest, "operator", **operator, purchases=of)
        plan: dict[str, Any] = {"actor": bakery, "member": ada, **cup}
        self.record("2026-06-16T09:00:00.000Z", StartPlan, "bakery", **plan, plan="club", reference="P-1")
        self.record("2026-06-18T09:00:00.000Z", EndPlan, "bakery", **plan, reason="refunded")
        self.record("2026-07-01T18:00:00.000Z", FormPool, "ada bob", actor=ada, **cup, members=(bob,))
        coffee: dict[str, Any] = {"amount": 50, "from_pool": True, "merchant": bakery, "reward": "coffee"}
        self.record("2026-07-02T08:00:00.000Z", Redeem, "bob", actor=bob, **cup, **coffee)
        voucher = VoucherRef(index=1, seq=len(self.data) - 1)
        self.record("2026-07-02T08:05:00.000Z", UseVoucher, "bakery", actor=bakery, reference="B-8", voucher=voucher)
        self.record("2026-07-03T08:00:00.000Z", LeavePool, "bob", actor=bob, **cup)
        self.record("2027-01-01T04:00:00.000Z", ReviewTiers, "operator", **operator, members=members)


def key_texts(*names: str) -> tuple[str, ...]:
    """The public keys of these names, as operations write them."""
    return tuple(keys.encode_public_key(KEYS[name]) for name in names)


@lru_cache(maxsize=1)
def example_ledger() -> ExampleLedger:
    """The ledger of the examples."""
    return ExampleLedger()


def canonical(value: Any) -> str:
    return encode_canonical(value).decode()


def lines(items: Any) -> str:
    return "".join(f"{item}\n" for item in items)


def examples() -> dict[str, str]:
    """Every example by name: the text between its fences."""
    found = dict(_identity_examples())
    found.update(_entry_examples())
    found.update(_tree_examples())
    found.update(_log_examples())
    found.update(_witness_examples())
    found.update(_program_examples())
    found.update(_belonging_examples())
    found.update(_terms_examples())
    found.update(_limit_examples())
    return found


def _identity_examples() -> Iterator[tuple[str, str]]:
    ledger = example_ledger()
    yield (
        "keys",
        lines(
            f"{name:8} seed {seed:02x} × 32  public {encode_base64url(KEYS[name].public_key().public_bytes_raw())}"
            for name, seed in SEEDS.items()
        ),
    )
    yield "verifier-key", lines([encode_verifier_key(ORIGIN, KEYS["log"])])
    yield "accounts", lines(f"{name:8} {account}" for name, account in ledger.accounts.items())
    small = sorted(y.hex() for y in keys._SMALL_ORDER)
    yield "small-order", lines(small)


def _entry_examples() -> Iterator[tuple[str, str]]:
    ledger = example_ledger()
    for seq, (signed, _, _) in enumerate(ledger.steps[:3]):
        yield f"entry-{seq}-op", lines([signed.op_bytes.decode()])
        yield f"entry-{seq}-id", lines([operation_id(signed.op_bytes).hex()])
        yield f"entry-{seq}-sigs", lines([canonical(signed.sigs)])
        yield f"entry-{seq}-bytes", lines([ledger.data[seq].decode()])
        yield f"entry-{seq}-leaf", lines([ledger.leaves[seq].hex()])
    yield "entry-2-message", lines([signed_message(ledger.steps[2][0].op_bytes).hex()])
    for seq, (signed, time, admission) in enumerate(ledger.steps[3:], start=3):
        signers = " and ".join(NAMES[keys.PublicKey(signature.key)] for signature in signed.sigs)
        yield (
            f"entry-{seq}",
            lines(
                [
                    f"op       {signed.op_bytes.decode()}",
                    f"signers  {signers}",
                    f"time     {time}",
                    *(f"posting  {canonical(leg)}" for leg in admission.postings),
                ]
            ),
        )
    yield "chain", lines(data.decode() for data in ledger.data)
    yield "keys-in-force", lines(_keys_in_force(ledger))


MOMENTS_OF_KEYS = [
    (14, "bob", "2026-03-02T09:00:00.000Z"),
    (15, "bob", "2026-03-02T09:00:00.000Z"),
    (15, "shop", "2026-03-02T10:00:00.000Z"),
    (16, "shop", "2026-03-02T10:00:00.000Z"),
    (17, "ada", "2026-03-10T07:59:59.999Z"),
    (17, "ada", "2026-03-10T08:00:00.000Z"),
    (18, "ada", "2026-03-10T08:00:00.000Z"),
    (19, "school", "2026-03-13T07:59:59.999Z"),
    (19, "school", "2026-03-13T08:00:00.000Z"),
]


def _keys_in_force(ledger: ExampleLedger) -> Iterator[str]:
    for size, who, time in MOMENTS_OF_KEYS:
        state = State(ORIGIN)
        state.accounts = dict(ledger.kept[size - 1])
        account = account_at(state.accounts[ledger.accounts[who]], time)
        authority = authority_of(state, account, time)
        names = " and ".join(NAMES[keys.PublicKey(key)] for key in authority.keys)
        custody = ", in custody" if account.custodian else ""
        pending = ", recovery pending" if account.recovery else ""
        yield f"{size} entries  {time}  {who:6}  {authority.threshold} of {names}{custody}{pending}"


def _tree_examples() -> Iterator[tuple[str, str]]:
    ledger = example_ledger()
    a, b, c = ledger.leaves[:3]
    left = hash_node(a, b)
    yield (
        "tree-3",
        lines(
            [
                f"node(leaf 0, leaf 1) {left.hex()}",
                f"root of 3 entries    {hash_node(left, c).hex()}",
            ]
        ),
    )
    yield "checkpoint-3", ledger.checkpoints[2]
    text = encode_checkpoint(Checkpoint(origin=ORIGIN, size=3, root=hash_node(left, c)))
    yield "checkpoint-3-text", lines([text.encode().hex()])
    yield "checkpoint-3-key-id", lines([key_id(ORIGIN, KEYS["log"].public_key()).hex()])
    yield "leaves", lines(f"{seq:2} {leaf.hex()}" for seq, leaf in enumerate(ledger.leaves))
    yield "root", lines([ledger.range.root().hex()])
    yield "checkpoint", ledger.checkpoints[-1]


def _log_examples() -> Iterator[tuple[str, str]]:
    ledger = example_ledger()
    found = []
    for level in range(3):
        tiles = [tile for tile in tiles_of(70_000) if tile.level == level]
        full = [f"tile/{tile.path()}" for tile in tiles if tile.width == TILE_WIDTH]
        if full:
            found.append(full[0] if len(full) == 1 else f"{full[0]} to {full[-1]}")
        found += [f"tile/{tile.path()}" for tile in tiles if tile.width < TILE_WIDTH]
    yield "tiles-70000", lines(found)
    bundle = encode_bundle(ledger.data[:3])
    described, at = [f"bytes {len(bundle)}, SHA-256 {hashlib.sha256(bundle).hexdigest()}"], 0
    for seq, data in enumerate(ledger.data[:3]):
        length = bundle[at : at + 2]
        assert int.from_bytes(length, "big") == len(data)
        described.append(f"at {at:4}: {length.hex()} and the {len(data)} bytes of entry {seq}")
        at += 2 + len(data)
    yield "bundle-3", lines(described)
    seq, size = 11, 14
    proof = prove_inclusion(
        seq, size, lambda nodes: [subtree_root(ledger.leaves[i << h : (i + 1) << h]) for h, i in nodes]
    )
    receipt = Receipt(data=ledger.data[seq], seq=seq, proof=tuple(proof), note=ledger.checkpoints[size - 1])
    yield "receipt-11", encode_receipt(receipt)


def _witness_examples() -> Iterator[tuple[str, str]]:
    name, key = WITNESS, KEYS["witness"]
    note = example_ledger().checkpoints[2]
    line = cosign_checkpoint(note, key, name, 1_795_000_000)
    yield "cosigned-3", note + line
    text = note.split("\n\n", maxsplit=1)[0]
    yield "cosigned-3-message", f"cosignature/v1\ntime 1795000000\n{text}\n"
    yield "witness-key", lines([encode_witness_key(name, key)])


ROUNDED = [(0, 1), (37, 2), (183, 2), (185, 2), (1851, 100), (1_849, 100), (1, 1_000)]
MODES: tuple[Rounding, ...] = ("down", "half_up", "half_even", "up")
AMOUNTS = [4_999, 5_000, 5_050, 7_500, 10_000, 10_050, 12_000, 12_075, 20_000]
EXPIRIES: list[tuple[Expiry, str] | tuple[Expiry, str, str]] = [
    (NeverExpires(), "2026-01-31"),
    (ExpiresAfterDays(count=0), "2026-01-31"),
    (ExpiresAfterDays(count=90), "2026-01-01"),
    (ExpiresAfterMonths(count=1), "2026-01-31"),
    (ExpiresAfterMonths(count=1), "2024-01-31"),
    (ExpiresAfterMonths(count=12), "2024-02-29"),
    (ExpiresAfterMonths(count=1), "2026-02-28"),
    (ExpiresAtYearEnd(count=0), "2026-12-31"),
    (ExpiresAtYearEnd(count=2), "2026-01-01"),
    (ExpiresAtMonthEnd(count=0), "2026-01-31"),
    (ExpiresAtMonthEnd(count=1), "2026-01-31"),
    (ExpiresAfterInactivity(months=6), "2026-08-31"),
    (ExpiresAtMembershipYearEnd(count=0), "2026-03-02"),
    (ExpiresAtMembershipYearEnd(count=0), "2026-03-01", "2025-03-02"),
    (ExpiresAtMembershipYearEnd(count=1), "2026-03-02", "2025-03-02"),
    (ExpiresAtMembershipYearEnd(count=0), "2026-02-28", "2024-02-29"),
    (ExpiresAtMembershipYearEnd(count=0), "2027-02-28", "2024-02-29"),
]
MOMENTS = [
    ("2026-01-31T22:59:59.999Z", "Europe/Berlin"),
    ("2026-01-31T23:00:00.000Z", "Europe/Berlin"),
    ("2026-07-31T22:00:00.000Z", "Europe/Berlin"),
    ("2026-01-31T23:00:00.000Z", "UTC"),
    ("2026-01-01T09:59:59.999Z", "Pacific/Kiritimati"),
    ("2026-01-01T10:00:00.000Z", "Pacific/Kiritimati"),
    ("2099-07-31T22:00:00.000Z", "Europe/Berlin"),
    ("1900-01-01T00:00:00.000Z", "America/New_York"),
    ("1937-06-30T22:45:00.000Z", "Europe/Amsterdam"),
]


def _program_examples() -> Iterator[tuple[str, str]]:
    yield (
        "rounding",
        lines(
            [
                "value      " + " ".join(f"{mode:>9}" for mode in MODES),
                *(f"{f'{n}/{d}':10} " + " ".join(f"{round_ratio(n, d, mode):9}" for mode in MODES) for n, d in ROUNDED),
            ]
        ),
    )
    whole, exact = (
        Program(**{name: getattr(VERSION_1, name) for name in Program.__struct_fields__} | {"round_amount": mode})
        for mode in ("whole_units", "none")
    )
    yield (
        "points",
        lines(
            [
                "amount  whole_units  none",
                *(f"{a:6}  {points_for(whole, a, 100):11}  {points_for(exact, a, 100):4}" for a in AMOUNTS),
            ]
        ),
    )
    yield (
        "last-days",
        lines(
            f"{day}  {canonical(expiry):41}  {last_day(expiry, day, *joined).replace(NO_LAST_DAY, 'none'):10}"
            f"{f'  joined {joined[0]}' if joined else ''}".rstrip()
            for expiry, day, *joined in EXPIRIES
        ),
    )
    yield "local-dates", lines(f"{time}  {zone:18}  {local_date(time, zone)}" for time, zone in MOMENTS)


CAMPAIGNS: dict[str, Any] = {
    "bands": (Band(from_amount=0, points=1, per=100), Band(from_amount=10_000, points=2, per=100)),
    "bonuses": (PurchaseBonus(bonus="welcome", points=100, when=When(first_purchase=True, from_amount=5_000)),),
    "currency": "EUR",
    "earning_cap": Cap(period="month", points=300),
    "excluded_categories": ("tax",),
    "expiry": NeverExpires(),
    "multipliers": (
        Multiplier(multiplier="silver", times=Ratio(numerator=5, denominator=4), when=When(tiers=("silver",))),
        Multiplier(multiplier="coffee", times=Ratio(numerator=2, denominator=1), when=When(categories=("coffee",))),
        Multiplier(multiplier="weekend", times=Ratio(numerator=3, denominator=2), when=When(weekdays=("sat", "sun"))),
    ),
    "round_amount": "none",
    "round_points": "down",
    "tiers": Tiers(basis="status", levels=(TierLevel(from_count=500, tier="silver"),), period="calendar_year"),
    "time_zone": "Europe/Berlin",
}
BASKETS: list[tuple[str, tuple[int, int, int], Any, str | None, bool]] = [
    ("2026-06-01", (0, 12_000, 0), "best", None, False),
    ("2026-06-01", (0, 12_000, 1_900), "best", None, False),
    ("2026-06-01", (3_000, 9_000, 0), "best", None, False),
    ("2026-06-01", (3_000, 9_000, 0), "best", "silver", False),
    ("2026-06-06", (3_000, 9_000, 0), "best", "silver", False),
    ("2026-06-06", (3_000, 9_000, 0), "sum", "silver", False),
    ("2026-06-06", (3_000, 9_000, 0), "product", "silver", False),
    ("2026-06-01", (0, 4_999, 1_000), "best", None, True),
    ("2026-06-01", (0, 5_000, 0), "best", None, True),
    ("2026-06-06", (9_000, 9_000, 0), "sum", "silver", True),
]


def _calculation_rows() -> Iterator[str]:
    yield "day         coffee   food    tax  stacking  tier    first  points  status points"
    for day, amounts, stacking, tier, first in BASKETS:
        named = zip(("coffee", "food", "tax"), amounts, strict=True)
        bought_lines = tuple(PurchaseLine(amount=amount, category=category) for category, amount in named)
        known = Circumstances(first=first, lines=bought_lines, room=300, tier=tier)
        bought = Bought(amount=sum(amounts), merchant="", earned_on=day, circumstances=known)
        found = calculate(Program(**CAMPAIGNS, stacking=stacking), bought, 100)
        coffee, food, tax = amounts
        words = f"{stacking:8}  {tier or '-':6}  {'yes' if first else 'no':5}"
        yield f"{day}  {coffee:6} {food:6} {tax:6}  {words}  {found.points:6}  {found.status_points:13}"


LADDERS: dict[str, dict[str, Any]] = {
    "neither": {},
    "one_level": {"drop": "one_level"},
    "grace_days 14": {"grace_days": 14},
}


def _tier_rows() -> Iterator[str]:
    counts = {"2026-01": 300, "2026-05": 100}
    levels = (TierLevel(from_count=100, tier="silver"), TierLevel(from_count=300, tier="gold"))
    ladders = [Tiers(basis="points", kept=1, levels=levels, period="month", **fields) for fields in LADDERS.values()]
    yield ("day         " + "  ".join(f"{name:20}" for name in LADDERS)).rstrip()
    for month_day in ("01-31", "03-01", "03-14", "03-15", "04-01", "05-01", "06-30", "07-01", "07-15", "08-01"):
        day = f"2026-{month_day}"
        found = [standing_at(tiers, counts, "2026-01-05", day) for tiers in ladders]
        cells = [f"{each.tier} to {each.until}" if each.tier else "none" for each in found]
        yield f"{day}  {'  '.join(f'{cell:20}' for cell in cells)}".rstrip()


def _belonging_examples() -> Iterator[tuple[str, str]]:
    yield "calculations", lines(_calculation_rows())
    yield "tiers", lines(_tier_rows())
    available = (200, 99, 1, 0)
    yield "shares", lines(f"{own:3} → {share}" for own, share in zip(available, shares(150, available), strict=True))


def _exchange_rows() -> Iterator[tuple[str, ExchangeTerms, int]]:
    """Terms in words, terms, and an amount that is offered."""

    def terms(get: int, give: int, **fields: Any) -> ExchangeTerms:
        rate = Rate(get=get, give=give)
        return ExchangeTerms(asset="BEAN", into="CRUMB", rate=rate, received="retired", **fields)

    even = terms(1_000, 1_000, step=1_000)
    for amount in (10_000, 165_000, 1_500):
        yield "1,000 for 1,000, step 1,000", even, amount
    for amount in (10_000, 900, 1_050):
        yield "3 for 4, minimum 1,000, step 100", terms(3, 4, minimum=1_000, step=100), amount
    yield "3 for 5", terms(3, 5), 1_000
    yield "3 for 5", terms(3, 5), 1_001
    bonus = Bonus(block=60_000, points=5_000)
    refusing = terms(1, 3, minimum=3_000, step=3_000, bonus=bonus)
    for amount in (60_000, 59_999):
        yield "1 for 3, minimum and step 3,000, 5,000 for 60,000", refusing, amount
    lowering = terms(1, 3, minimum=3_000, step=3_000, bonus=bonus, off_step="down")
    for amount in (59_999, 125_000, 2_999):
        yield "the same, rounded down to a step", lowering, amount


def _outcome(terms: ExchangeTerms, amount: int) -> str:
    given = given_of(terms, amount)
    refusal = check_bounds(given, step=terms.step, minimum=terms.minimum, maximum=terms.maximum, path=())
    return refusal.code if refusal else f"{outcome(terms, given)}"


def _terms_examples() -> Iterator[tuple[str, str]]:
    points = (1, 1_000, 10_000, 30_000, 165_000)
    yield (
        "fees",
        lines(
            [
                "points  0.0006  0.01 + 30.00",
                *(f"{p:6}  {fee_for(CENTS, p):6}  {fee_for(PER_POINT, p):12}" for p in points),
            ]
        ),
    )
    yield (
        "exchanges",
        lines(f"{words:50} {amount:6} → {_outcome(terms, amount)}" for words, terms, amount in _exchange_rows()),
    )
    left, found = 12_000, ["refunded  left  points due  points left"]
    for amount in (3_000, 1_000, 3_000, 5_000):
        before, after = points_for(VERSION_1, left, 100), points_for(VERSION_1, left - amount, 100)
        left -= amount
        found.append(f"{amount:8}  {left:4}  {before - after:10}  {after:11}")
    yield "refunds", lines(found)


def _limit_examples() -> Iterator[tuple[str, str]]:
    limits = {
        "largest integer": MAX_INTEGER,
        "bytes of an entry": entries.MAX_ENTRY_BYTES,
        "bytes of a submitted document": entries.MAX_ENTRY_BYTES,
        "signatures of an operation": MAX_SIGNATURES,
        "keys of an account": MAX_KEYS,
        "recipients of a transfer": MAX_RECIPIENTS,
        "lots of an expire": MAX_EXPIRED_LOTS,
        "purchases of a vest": MAX_VESTED,
        "members of a review or remind": MAX_REVIEWED,
        "members of a pool": MAX_POOL_MEMBERS,
        "bands of a program": MAX_BANDS,
        "periods that tiers look back": MAX_TIER_PERIODS,
        "lots of a redating": MAX_REDATED_LOTS,
        "days of an expiry": MAX_DAYS,
        "months of an expiry": MAX_MONTHS,
        "open holds of an account's points": MAX_OPEN_HOLDS,
        "milliseconds of a hold": MAX_HOLD_MS,
        "clock tolerance in ms": MAX_CLOCK_TOLERANCE_MS,
        "recovery delay in ms, least": MIN_RECOVERY_DELAY_MS,
        "recovery delay in ms, most": MAX_RECOVERY_DELAY_MS,
        "recovery delay in ms, absent": DEFAULT_RECOVERY_DELAY_MS,
        "signatures of a note": checkpoint._MAX_SIGNATURES,
        "hashes of a receipt's proof": MAX_RECEIPT_HASHES,
        "characters of a receipt": MAX_RECEIPT_CHARACTERS,
    }
    yield "limits", lines(f"{name:30} {value}" for name, value in limits.items())


def written_blocks(text: str) -> dict[str, str]:
    """The examples a text has, by name."""
    return {match[1]: match[2] for match in BLOCK.finditer(text)}


def rewrite(text: str) -> str:
    """A text with every computed example brought up to date."""
    computed = examples()

    def replace(match: re.Match[str]) -> str:
        new = computed.get(match[1], match[2])
        return match[0][: match.start(2) - match.start()] + new + "```"

    return BLOCK.sub(replace, text)


def _main() -> int:
    text = FORMAT.read_text("utf-8")
    new = rewrite(text)
    if "--write" in sys.argv[1:]:
        FORMAT.write_text(new, "utf-8")
        return 0
    stale = [name for name, block in written_blocks(text).items() if written_blocks(new)[name] != block]
    print("\n".join(stale) or "all examples are up to date")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(_main())
