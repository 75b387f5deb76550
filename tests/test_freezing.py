"""Freezing and approval: what an account cannot do, whose keys are asked for more, and what goes on all the same."""

from collections.abc import Iterable
from typing import Any, get_args

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.encoding import MAX_INTEGER
from ledger.keys import encode_public_key
from ledger.operations import AnyOperation, Genesis
from ledger.program_terms import GrantRule
from ledger.rules import authority_of
from ledger.state import Admission, Code, Decision, Rejection
from tests.rulebook import Book, acceptance, earning, exchange, make_program

Key = Ed25519PrivateKey
WEEK_DAYS = 7
HASH, HOLD = "0" * 64, "hld_" + "a" * 26
FREEZING = ("court_order", "dispute", "fraud", "lost_keys", "stolen_points", "other")
UNFREEZING = ("mistake", "resolved", "other")


def public(keys: Iterable[Key]) -> list[str]:
    return [encode_public_key(key) for key in keys]


def code_of(decision: Decision) -> Code | None:
    return decision.code if isinstance(decision, Rejection) else None


class Street(Book):
    """A ledger with a shop that issues STAR and has Carol in custody, a cafe, and Alice with a key of her own."""

    def __init__(self) -> None:
        super().__init__()
        self.shop, self.cafe = self.merchant("Shop"), self.merchant("Cafe")
        self.alice, self.carol = self.member(), self.member(self.shop)
        self.keys[self.carol] = self.keys[self.shop]
        self.asset(self.shop, "STAR")
        self.give(self.alice, "STAR", 100)
        self.give(self.carol, "STAR", 100)

    def freeze(self, account: str, reason: str = "fraud") -> Admission:
        return self.do("freeze", account=account, actor=self.operator, reason=reason)

    def unfreeze(self, account: str, reason: str = "resolved") -> Admission:
        return self.do("unfreeze", account=account, actor=self.operator, reason=reason)

    def signed(self, kind: str, signers: Iterable[Key], **fields: Any) -> Code | None:
        """What signed work is refused for, if anything. Nothing is recorded."""
        return code_of(self.ask(kind, signers=signers, **fields))

    def spends(self, account: str, *keys: Key) -> Code | None:
        fields = {"actor": account, "amount": 1, "asset": "STAR", "merchant": self.shop}
        return self.signed("redeem", keys or self.keys[account], **fields)


def documents(book: Street, actor: str) -> dict[str, dict[str, Any]]:
    """A well-formed document of every kind that has an actor; most would be refused later for another reason."""
    star, other = {"actor": actor, "asset": "STAR"}, book.cafe if actor != book.cafe else book.shop
    key = public([book.make_key()])
    claim = {"index": 0, "seq": 1}
    purchase = {"amount": 1, "at": book.time, "member": book.alice, "order": "o-1"}
    return {
        "open_account": {"actor": actor, "keys": key, "name": "New", "role": "merchant"},
        "define_asset": {"actor": actor, "asset": "NEW", "name": "New", "scale": 0, "transferable": True},
        "publish_program": {**star, "program": make_program(), "starts": book.time, "version": 2},
        "record_purchases": {**star, "currency": "USD", "purchases": [purchase]},
        "grant": {**star, "activity": "goodwill", "amount": 1, "member": book.alice, "reference": "g-1"},
        "correct": {**star, "amount": 1, "member": book.alice, "reason": "error", "reference": "c-1"},
        "transfer": {**star, "recipients": [{"amount": 1, "to": other}]},
        "redeem": {**star, "amount": 1, "merchant": book.shop},
        "exchange": {**star, "amount": 1, "into": "BEAN", "minimum_out": 1},
        "hold": {**star, "amount": 1, "merchant": book.shop, "until": book.later(days=1)},
        "capture": {"actor": actor, "amount": 1, "hold": HOLD},
        "release": {"actor": actor, "hold": HOLD},
        "refund": {**star, "of": {"amount": 1, "operation": HASH, "type": "redemption"}, "reference": "r-1"},
        "expire": {**star, "limit": 1, "through": "2026-01-01"},
        "enroll": star,
        "vest": {**star, "purchases": [{"merchant": book.shop, "order": "o-1"}]},
        "review_tiers": {**star, "members": [book.alice]},
        "start_plan": {**star, "member": book.alice, "plan": "plus", "reference": "p-1"},
        "end_plan": {**star, "member": book.alice, "reason": "refunded"},
        "form_pool": {**star, "members": [other]},
        "leave_pool": star,
        "use_voucher": {"actor": actor, "voucher": {"index": 0, "seq": 1}},
        "remind": {**star, "about": "balance", "members": [book.alice]},
        "agree": {
            "actor": actor,
            "notice_days": 0,
            "partner": other,
            "starts": book.time,
            "terms": acceptance("STAR"),
            "version": 1,
        },
        "end_agreement": {"actor": actor, "agreement": "STAR>BEAN", "ends": book.time},
        "allot": {**star, "partner": other, "points": 1, "reference": "a-1"},
        "net": {
            "actor": actor,
            "currency": "USD",
            "merchants": [book.shop, book.cafe],
            "payments": [],
            "through": "2026-01-01",
        },
        "settle": {"actor": actor, "amount": 1, "currency": "USD", "debtor": other, "payment": "p-1"},
        "dispute": {"actor": actor, "claim": claim, "reason": "amount"},
        "resolve_dispute": {"actor": actor, "claim": claim, "outcome": "stands"},
        "freeze": {"account": other, "actor": actor, "reason": "fraud"},
        "unfreeze": {"account": actor, "actor": actor, "reason": "resolved"},
        "replace_keys": {"actor": actor, "keys": key},
        "recover_keys": {"account": other, "actor": actor, "keys": key},
        "cancel_recovery": {"account": actor, "actor": actor},
        "replace_log_key": {"actor": actor, "log_key": "k"},
    }


STREET = Street()
KINDS = list(documents(STREET, STREET.cafe))


def frozen_street(*accounts: str) -> Street:
    book = Street()
    for name in accounts:
        book.freeze(getattr(book, name))
    return book


FROZEN = {name: frozen_street(name) for name in ("cafe", "alice", "shop")}


def test_every_kind_is_looked_at() -> None:
    """All but genesis, which has no account yet."""
    assert set(KINDS) == {kind.KIND for kind in get_args(AnyOperation)} - {Genesis.KIND}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("who", ["cafe", "alice", "carol"])
def test_frozen_account_does_nothing(who: str, kind: str) -> None:
    """No kind of operation, whoever it would be refused for otherwise; Carol's custodian is what is frozen."""
    book = FROZEN["shop" if who == "carol" else who]
    account = getattr(book, who)
    rejection = book.refused(kind, **documents(book, account)[kind])
    assert (rejection.code, rejection.path) == (Code.ACCOUNT_FROZEN, ("actor",))
    assert (book.shop if who == "carol" else account) in rejection.message


@pytest.mark.parametrize("kind", ["agree", "allot"])
def test_frozen_partner_agrees_to_nothing(kind: str) -> None:
    book = FROZEN["cafe"]
    rejection = book.refused(kind, **documents(book, book.shop)[kind])
    assert (rejection.code, rejection.path) == (Code.ACCOUNT_FROZEN, ("partner",))


def test_member_in_custody_of_a_frozen_partner_is_no_partner_either() -> None:
    """Whose keys act for the partner must be free to act, whatever the partner could have agreed to."""
    book = FROZEN["shop"]
    fields = documents(book, book.cafe)["allot"] | {"partner": book.carol}
    rejection = book.refused("allot", **fields)
    assert (rejection.code, rejection.path) == (Code.ACCOUNT_FROZEN, ("partner",))


def test_signatures_are_looked_at_before_frozenness() -> None:
    """Who cannot sign for an account does not learn that it is frozen."""
    book = FROZEN["alice"]
    assert book.spends(book.alice) == Code.ACCOUNT_FROZEN
    assert book.spends(book.alice, *book.keys[book.cafe]) == Code.SIGNATURE_MISSING
    assert book.spends(book.alice, *book.keys[book.alice], *book.keys[book.cafe]) == Code.SIGNATURE_UNEXPECTED


def test_frozen_account_changes_neither_its_keys_nor_its_recovery() -> None:
    """Whoever has stolen a key cannot use it to keep the account, nor to object to its recovery."""
    book = Street()
    (key,), (new, lost) = book.keys[book.alice], [book.make_key(), book.make_key()]
    book.do("recover_keys", account=book.alice, actor=book.operator, keys=public([lost]))
    book.freeze(book.alice, "lost_keys")
    replaced = {"actor": book.alice, "keys": public([new])}
    cancelled = {"account": book.alice, "actor": book.alice}
    assert book.signed("replace_keys", [key, new], **replaced) == Code.ACCOUNT_FROZEN
    assert book.signed("cancel_recovery", [key], **cancelled) == Code.ACCOUNT_FROZEN
    assert book.signed("cancel_recovery", book.keys[book.operator], account=book.alice, actor=book.operator) is None
    book.unfreeze(book.alice)
    assert book.signed("replace_keys", [key, new], **replaced) is None
    assert book.signed("cancel_recovery", [key], **cancelled) is None


def test_account_in_custody_is_not_handed_over_by_a_frozen_custodian() -> None:
    book = Street()
    new = book.make_key()
    fields = {"actor": book.carol, "keys": public([new])}
    signers = [*book.keys[book.shop], new]
    assert book.signed("replace_keys", signers, **fields) is None
    book.freeze(book.shop)
    assert book.signed("replace_keys", signers, **fields) == Code.ACCOUNT_FROZEN


@pytest.mark.parametrize("who", ["alice", "carol"])
def test_recovery_of_a_frozen_account_goes_on(who: str) -> None:
    """It is begun and takes effect; the account is frozen as before, until the operator lets its new keys act."""
    book = Street()
    account, new = getattr(book, who), book.make_key()
    book.freeze(account, "stolen_points")
    book.do("recover_keys", account=account, actor=book.operator, keys=public([new]))
    book.advance(days=WEEK_DAYS)
    assert book.spends(account, *book.keys[account]) == Code.SIGNATURE_MISSING
    assert book.spends(account, new) == Code.ACCOUNT_FROZEN
    book.unfreeze(account)
    assert book.spends(account, new) is None


def test_member_recovered_out_of_custody_acts_though_its_custodian_is_frozen() -> None:
    """From the moment the account has keys of its own, its custodian is nothing to it."""
    book = Street()
    new = book.make_key()
    book.freeze(book.shop)
    book.do("recover_keys", account=book.carol, actor=book.operator, keys=public([new]))
    book.advance(days=WEEK_DAYS, ms=-1)
    assert book.spends(book.carol, *book.keys[book.shop]) == Code.ACCOUNT_FROZEN
    book.advance(ms=1)
    fields = {"actor": book.carol, "asset": "STAR", "recipients": [{"amount": 1, "to": book.alice}]}
    assert book.signed("transfer", [new], **fields) is None


def test_frozen_account_receives() -> None:
    """Points of purchases, grants, transfers and corrections, and the points of its holds that are released."""
    book = Street()
    hold = book.hold(book.alice, book.shop, "STAR", 10)
    book.freeze(book.alice)
    for kind in ("record_purchases", "grant", "correct"):
        fields = documents(book, book.shop)[kind]
        if kind == "record_purchases":
            fields["purchases"][0]["amount"] = 100
        book.do(kind, **fields)
    book.do("transfer", actor=book.carol, asset="STAR", recipients=[{"amount": 5, "to": book.alice}])
    book.do("release", actor=book.shop, hold=hold)
    assert book.balance(book.alice, "STAR") == 108


def test_entries_of_frozen_accounts_expire_their_points() -> None:
    """It is the operator or the issuer that acts."""
    book = Street()
    book.give(book.alice, "STAR", {"2026-03-01": 7})
    book.freeze(book.alice)
    book.do("expire", actor=book.operator, asset="STAR", limit=10, through="2026-03-01")
    assert book.lots(book.alice, "STAR") == {"9999-12-31": 100}


# Freeze and unfreeze


@pytest.mark.parametrize("reason", FREEZING)
def test_account_is_frozen_by_an_entry_with_a_reason(reason: str) -> None:
    """The account says which and why; it is the entry's party, and no points move."""
    book = Street()
    admission = book.freeze(book.alice, reason)
    assert admission == Admission(parties=(book.alice,))
    account = book.state.accounts[book.alice]
    assert (account.frozen_seq, account.frozen_reason) == (book.seq, reason)
    rejection = book.refused("freeze", account=book.alice, actor=book.operator, reason="other")
    assert (rejection.code, rejection.path) == (Code.ALREADY_FROZEN, ("account",))
    assert f"entry {account.frozen_seq}" in rejection.message


@pytest.mark.parametrize("reason", UNFREEZING)
def test_unfrozen_account_is_as_before(reason: str) -> None:
    book = Street()
    before = book.state.accounts[book.alice]
    book.freeze(book.alice)
    assert book.unfreeze(book.alice, reason) == Admission(parties=(book.alice,))
    assert book.state.accounts[book.alice] == before
    assert book.spends(book.alice) is None
    rejection = book.refused("unfreeze", account=book.alice, actor=book.operator, reason=reason)
    assert (rejection.code, rejection.path) == (Code.NOT_FROZEN, ("account",))
    book.freeze(book.alice)


@pytest.mark.parametrize(("kind", "reason"), [("freeze", "fraud"), ("unfreeze", "resolved")])
def test_only_the_operator_freezes(kind: str, reason: str) -> None:
    """Not even a custodian those in its custody; and an account there is not cannot be frozen."""
    book = Street()
    book.freeze(book.carol)
    for actor in (book.shop, book.alice):
        rejection = book.refused(kind, account=book.carol, actor=actor, reason=reason)
        assert (rejection.code, rejection.path) == (Code.NOT_PERMITTED, ("actor",))
    rejection = book.refused(kind, account="mem_" + "z" * 26, actor=book.operator, reason=reason)
    assert (rejection.code, rejection.path) == (Code.UNKNOWN_ACCOUNT, ("account",))


def test_operator_cannot_be_frozen() -> None:
    """Nobody could unfreeze it; and so it is never frozen."""
    book = Street()
    rejection = book.refused("freeze", account=book.operator, actor=book.operator, reason="other")
    assert (rejection.code, rejection.path) == (Code.NOT_PERMITTED, ("account",))
    rejection = book.refused("unfreeze", account=book.operator, actor=book.operator, reason="other")
    assert rejection.code == Code.NOT_FROZEN


def test_frozen_account_can_be_frozen_only_once_though_keys_change() -> None:
    """What its entries changed meanwhile stays: freezing touches nothing else of the account."""
    book = Street()
    book.freeze(book.alice)
    new = book.make_key()
    book.do("recover_keys", account=book.alice, actor=book.operator, keys=public([new]))
    frozen = book.state.accounts[book.alice]
    book.unfreeze(book.alice)
    account = book.state.accounts[book.alice]
    assert (account.recovery, account.keys) == (frozen.recovery, frozen.keys)
    assert account.recovery is not None


# Approval


def approving(threshold: int = 1, approval: int | None = 2, count: int = 3) -> tuple[Street, str, list[Key]]:
    """A merchant with STAR of its own, so many keys, and a threshold for what needs approval."""
    book = Street()
    fields = {"threshold": threshold if threshold > 1 else None, "approval_threshold": approval}
    merchant = book.open("merchant", actor=book.operator, name="Bank", count=count, **fields)
    program = make_program(approval_above=100, grants=(GrantRule(activity="goodwill", max_points=MAX_INTEGER),))
    book.asset(merchant, "GOLD", program)
    return book, merchant, book.keys[merchant]


def published(book: Street, merchant: str) -> dict[str, Any]:
    return {"actor": merchant, "asset": "GOLD", "program": make_program(), "starts": book.time, "version": 2}


@pytest.mark.parametrize(("threshold", "approval", "count"), [(1, 2, 3), (2, 3, 3), (1, 8, 8), (1, None, 3)])
def test_publishing_a_program_needs_approval(threshold: int, approval: int | None, count: int) -> None:
    """Fewer keys than the threshold are no signature, fewer than approval asks for no approval; any will do."""
    book, merchant, keys = approving(threshold, approval, count)
    fields = published(book, merchant)
    for signers in range(1, count + 1):
        expected: Code | None = Code.SIGNATURE_MISSING if signers < threshold else None
        if expected is None and approval is not None and signers < approval:
            expected = Code.APPROVAL_MISSING
        for chosen in (keys[:signers], keys[-signers:]):
            answer = book.ask("publish_program", signers=chosen, **fields)
            assert code_of(answer) == expected
            if expected == Code.APPROVAL_MISSING:
                assert isinstance(answer, Rejection)
                assert answer.path == ("sigs",)


def test_approval_is_missed_before_the_kind_is_looked_at() -> None:
    """A program that would be refused anyway still needs approval first, and frozen comes before both."""
    book, merchant, keys = approving()
    fields = published(book, merchant) | {"version": 9}
    assert book.signed("publish_program", keys[:1], **fields) == Code.APPROVAL_MISSING
    assert book.signed("publish_program", keys[:2], **fields) == Code.VERSION_CONFLICT
    book.freeze(merchant)
    assert book.signed("publish_program", keys[:1], **fields) == Code.ACCOUNT_FROZEN


def test_preview_takes_approval_for_granted() -> None:
    """What it shows has not been signed yet."""
    book, merchant, _ = approving()
    assert code_of(book.ask("publish_program", **published(book, merchant))) is None


def test_everyday_operations_need_no_approval() -> None:
    """One key signs purchases, corrections and grants of up to 100, and redeems."""
    book, merchant, keys = approving()
    for kind in ("record_purchases", "grant", "correct"):
        assert book.signed(kind, keys[:1], **documents(book, merchant)[kind] | {"asset": "GOLD"}) is None


@pytest.mark.parametrize("kind", ["grant", "correct"])
@pytest.mark.parametrize(("amount", "needed"), [(100, False), (101, True)])
def test_many_points_at_once_need_approval(kind: str, amount: int, needed: bool) -> None:
    """More than approval_above of the program; for a correction either way."""
    book, merchant, keys = approving()
    book.give(book.alice, "GOLD", 1_000)
    fields = documents(book, merchant)[kind] | {"asset": "GOLD"}
    for signed_amount in [amount, -amount] if kind == "correct" else [amount]:
        expected = Code.APPROVAL_MISSING if needed else None
        assert book.signed(kind, keys[:1], **fields | {"amount": signed_amount}) == expected
        assert book.signed(kind, keys[1:], **fields | {"amount": signed_amount}) is None


def test_bound_of_a_grant_is_that_of_now_not_of_the_event() -> None:
    """A grant for last year cannot be signed under last year's looser bound; before any bound there is none."""
    book, merchant, keys = approving()
    stricter = make_program(approval_above=0, grants=(GrantRule(activity="goodwill", max_points=MAX_INTEGER),))
    earlier = book.time
    book.publish("GOLD", stricter, starts=book.later(days=1))
    fields = documents(book, merchant)["grant"] | {"asset": "GOLD", "at": earlier}
    assert book.signed("grant", keys[:1], **fields) is None
    book.advance(days=1)
    assert book.signed("grant", keys[:1], **fields) == Code.APPROVAL_MISSING
    assert book.signed("grant", keys[:2], **fields) is None


def test_grant_is_too_large_before_it_needs_approval() -> None:
    book, merchant, keys = approving()
    book.asset(merchant, "TINY", make_program(approval_above=1, grants=(GrantRule(activity="goodwill", max_points=2),)))
    fields = documents(book, merchant)["grant"] | {"asset": "TINY"}
    assert book.signed("grant", keys[:1], **fields | {"amount": 3}) == Code.GRANT_TOO_LARGE
    assert book.signed("grant", keys[:1], **fields | {"amount": 2}) == Code.APPROVAL_MISSING


def agreed(book: Street, merchant: str, partner: str) -> dict[str, Any]:
    terms = acceptance("GOLD" if merchant != book.shop else "STAR")
    fields = {"actor": merchant, "notice_days": 0, "partner": partner, "starts": book.time}
    return {**fields, "terms": terms, "version": 1}


@pytest.mark.parametrize("role", ["actor", "partner"])
def test_each_party_approves_an_agreement(role: str) -> None:
    """Both sign, each with as many keys as approval asks for; keys of the one do not count for the other."""
    book, bank, keys = approving()
    other = book.keys[book.shop]
    actor, partner = (bank, book.shop) if role == "actor" else (book.shop, bank)
    fields = agreed(book, actor, partner)
    assert book.signed("agree", [*keys[:2], *other], **fields) is None
    assert book.signed("agree", [*keys[:1], *other], **fields) == Code.APPROVAL_MISSING
    for signers in (keys, other):
        assert book.signed("agree", signers, **fields) == Code.SIGNATURE_MISSING
    stranger = book.make_key()
    assert book.signed("agree", [*keys[:2], *other, stranger], **fields) == Code.SIGNATURE_UNEXPECTED


def test_allotting_points_needs_signatures_of_both_and_no_approval() -> None:
    """It is an everyday sale under an agreement that was approved."""
    book, bank, keys = approving()
    book.agree(bank, book.shop, earning("GOLD"))
    fields = {"actor": bank, "asset": "GOLD", "partner": book.shop, "points": 5, "reference": "a-1"}
    other = book.keys[book.shop]
    assert book.signed("allot", [keys[0], *other], **fields) is None
    assert book.signed("allot", keys[:1], **fields) == Code.SIGNATURE_MISSING
    assert book.signed("allot", other, **fields) == Code.SIGNATURE_MISSING


@pytest.mark.parametrize("kind", ["agree", "allot"])
def test_partner_that_does_not_exist_signs_nothing(kind: str) -> None:
    """It is named after the actor, and before any signature is asked for."""
    book, merchant, _ = approving()
    fields = documents(book, merchant)[kind] | {"partner": "mer_" + "z" * 26}
    for signers in ((), [book.make_key()]):
        answer = book.ask(kind, signers=signers, **fields)
        assert isinstance(answer, Rejection)
        assert (answer.code, answer.path) == (Code.UNKNOWN_ACCOUNT, ("partner",))
    answer = book.ask(kind, **fields | {"actor": "mer_" + "y" * 26})
    assert isinstance(answer, Rejection)
    assert answer.path == ("actor",)


def test_one_key_alone_does_not_replace_the_others() -> None:
    """Changing keys needs approval, or one key could take the account from those that must approve."""
    book, merchant, keys = approving()
    fields = {"actor": merchant, "keys": public(keys[:1])}
    assert book.signed("replace_keys", keys[:1], **fields) == Code.APPROVAL_MISSING
    assert book.signed("replace_keys", keys[:2], **fields) is None
    new = book.make_key()
    named = {"actor": merchant, "keys": public([keys[0], new])}
    assert book.signed("replace_keys", [keys[0], new], **named) == Code.APPROVAL_MISSING  # new ones approve nothing
    assert book.signed("replace_keys", [*keys[:2], new], **named) is None


def test_custodian_hands_an_account_over_without_approval() -> None:
    """Its own threshold for approval is about its own keys; and it acts for those in its custody as ever."""
    book, merchant, keys = approving()
    member, new = book.member(merchant), book.make_key()
    assert book.signed("replace_keys", [keys[0], new], actor=member, keys=public([new])) is None


def test_recovered_account_approves_by_its_new_keys() -> None:
    """A recovery gives the account its threshold for approval with its keys, at the same moment."""
    book, merchant, keys = approving()
    new = [book.make_key() for _ in range(3)]
    book.do("recover_keys", account=merchant, actor=book.operator, keys=public(new), approval_threshold=3)
    book.advance(days=WEEK_DAYS, ms=-1)
    fields = published(book, merchant)
    assert book.signed("publish_program", keys[:2], **fields) is None
    book.advance(ms=1)
    assert book.signed("publish_program", new[:2], **fields) == Code.APPROVAL_MISSING
    assert book.signed("publish_program", new, **fields) is None
    account = authority_of(book.state, book.state.accounts[merchant], book.time)
    assert (account.threshold, account.approval_threshold, account.approvals) == (1, 3, 3)


def test_replaced_keys_bring_their_own_threshold() -> None:
    """What the document does not name is gone: approval is then the threshold."""
    book, merchant, keys = approving()
    book.do("replace_keys", actor=merchant, keys=public(keys[:2]), signers=keys)
    assert book.state.accounts[merchant].approvals == 1
    assert book.signed("publish_program", keys[:1], **published(book, merchant)) is None
    book.do("replace_keys", actor=merchant, keys=public(keys), signers=[keys[0], keys[2]], approval_threshold=3)
    assert book.signed("publish_program", keys[:2], **published(book, merchant)) == Code.APPROVAL_MISSING


def test_second_pending_recovery_keeps_the_threshold_of_the_first() -> None:
    """A recovery in effect is the account's own, thresholds and all, when the next is begun."""
    book, merchant, _ = approving()
    first, second = ([book.make_key() for _ in range(3)] for _ in range(2))
    book.do("recover_keys", account=merchant, actor=book.operator, keys=public(first), approval_threshold=3)
    book.advance(days=WEEK_DAYS)
    book.do("recover_keys", account=merchant, actor=book.operator, keys=public(second))
    assert book.signed("publish_program", first[:2], **published(book, merchant)) == Code.APPROVAL_MISSING
    book.advance(days=WEEK_DAYS)
    assert book.signed("publish_program", second[:1], **published(book, merchant)) is None


def test_approval_of_a_custodial_exchange_is_not_asked_for() -> None:
    """Members spend under thresholds alone: approval is for what binds others."""
    book, merchant, keys = approving()
    member = book.member(merchant)
    book.give(member, "GOLD", 500)
    book.agree(merchant, book.shop, exchange("GOLD", "STAR"))
    fields = {"actor": member, "asset": "GOLD", "amount": 500, "into": "STAR", "minimum_out": 500}
    assert book.signed("exchange", keys[:1], **fields) is None


def test_account_that_opens_names_how_many_approve() -> None:
    """The account has what its document says; without it, approval is the threshold."""
    book, merchant, _ = approving(2, 3)
    account = book.state.accounts[merchant]
    assert (account.threshold, account.approval_threshold, account.approvals) == (2, 3, 3)
    assert book.state.accounts[book.shop].approvals == 1
