"""ledger/FORMAT.md is true: its examples are what the code computes, and a verifier written from it agrees with it.

The verifier is tests/reference_verifier.py. It must accept what the sequencer records, refuse every forgery below for
the right reason, and decide random operations, most of them with a mistake, exactly as the rules do.
"""

import base64
import copy
import hashlib
import json
import random
import re
import zoneinfo
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from ledger import operations, rules, terms
from ledger.checkpoint import Checkpoint, encode_verifier_key, sign_checkpoint
from ledger.encoding import (
    EncodingError,
    account_id,
    decode_canonical,
    encode_canonical,
    format_time,
    parse_date,
    parse_time,
)
from ledger.entries import FIRST_PREV, NO_LAST_DAY, encode_entry, leaf_hash
from ledger.keys import decode_public_key, encode_public_key, verify
from ledger.merkle import CompactRange
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
)
from ledger.program_terms import (
    Band,
    ExpiresAfterDays,
    ExpiresAfterMonths,
    ExpiresAtYearEnd,
    GrantRule,
    NeverExpires,
    Plan,
    Reminders,
    Reward,
    TierLevel,
    Tiers,
)
from ledger.rules import admit, apply, opened_account, operator_account
from ledger.sequencer import Recorded, Sequencer, account_opened_by, create_ledger
from ledger.state import Admission, Code, Rejection, State
from ledger.terms import (
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
    Payment,
    Purchase,
    PurchaseRef,
    Rate,
    Recipient,
    RefundedExchange,
    RefundedPurchase,
    RefundedRedemption,
    TransferTerms,
    Value,
    VoucherRef,
)
from ledger.wallet import Wallet, sign_operation
from tests import reference_verifier as reference
from tests.format_examples import FENCE, FORMAT, ORIGIN, example_ledger, examples, written_blocks
from tests.format_examples import KEYS as EXAMPLE_KEYS
from tests.test_programs_simulation import CODES_OF_PROGRAMS, KINDS_OF_PROGRAMS
from tests.worlds import Clock, World, make_program

TEXT = FORMAT.read_text("utf-8")
BLOCKS = written_blocks(TEXT)
WRITTEN_BY_HAND = {"canonical", "grammar", "scalars"}


def test_every_fenced_block_is_a_named_example() -> None:
    names = re.findall(r"^<!-- example: (\S+) -->$", TEXT, re.MULTILINE)
    assert len(names) == len(set(names)) == len(BLOCKS)
    assert len(FENCE.findall(TEXT)) == 2 * len(BLOCKS)


def test_every_example_is_checked() -> None:
    assert set(BLOCKS) == set(examples()) | WRITTEN_BY_HAND


@pytest.mark.parametrize("name", sorted(set(BLOCKS) - WRITTEN_BY_HAND))
def test_example_is_what_the_code_computes(name: str) -> None:
    """`python -m tests.format_examples --write` brings the document up to date."""
    assert BLOCKS[name] == examples()[name]


def test_the_example_ledger_verifies_from_the_document_alone() -> None:
    entries = [line.encode() for line in BLOCKS["chain"].splitlines()]
    (log_key,) = BLOCKS["verifier-key"].splitlines()
    replica = reference.verify_ledger(entries, BLOCKS["checkpoint"], log_keys=[log_key])
    reference.verify_ledger(entries[:3], BLOCKS["checkpoint-3"], log_keys=[log_key])
    assert [line.split()[1] for line in BLOCKS["accounts"].splitlines()] == list(replica.accounts)
    assert reference.tree_hash(entries).hex() == BLOCKS["root"].strip()
    assert {json.loads(entry)["op"]["kind"] for entry in entries} == set(operations.KINDS)


def test_the_example_ledger_verifies_by_either_log_key() -> None:
    """Who knows only the old log key, or only the new one, reads the same checkpoint; light as well as in full."""
    entries = [line.encode() for line in BLOCKS["chain"].splitlines()]
    (new,) = (op["log_key"] for op in (json.loads(data)["op"] for data in entries) if op["kind"] == "replace_log_key")
    old = BLOCKS["verifier-key"].strip()
    for known in ([], [old], [new], [old, new], [new, encode_verifier_key("ledger.example/else", EXAMPLE_KEYS["ada"])]):
        for light in (False, True):
            reference.verify_ledger(entries, BLOCKS["checkpoint"], log_keys=known, light=light)


def test_keys_in_force_of_the_example_are_those_of_the_document() -> None:
    """The reference verifier's answer, from the entries alone, to each line of section 7.36's example."""
    entries = [line.encode() for line in BLOCKS["chain"].splitlines()]
    accounts = dict(line.split() for line in BLOCKS["accounts"].splitlines())
    names = {line.split()[-1]: line.split()[0] for line in BLOCKS["keys"].splitlines()}
    for line in BLOCKS["keys-in-force"].splitlines():
        size, _, time, who, answer = line.split(maxsplit=4)
        verifier = reference.Verifier()
        for data in entries[: int(size)]:
            verifier.add(data)
        keys, threshold = verifier.replica.acting_for(accounts[who], time)
        account = verifier.replica.account_at(accounts[who], time)
        words = f"{threshold} of {' and '.join(names[key] for key in keys)}"
        words += ", in custody" if account["custodian"] else ""
        assert answer == words + (", recovery pending" if account["recovery"] else "")


def test_the_example_receipt_verifies_from_the_document_alone() -> None:
    """With its file and the log key; and no flipped character goes by."""
    file, (log_key,) = BLOCKS["receipt-11"], BLOCKS["verifier-key"].splitlines()
    entry = reference.verify_receipt(file, [log_key])
    assert entry == json.loads(BLOCKS["chain"].splitlines()[11])
    for at, character in enumerate(file):
        changed = file[:at] + ("A" if character != "A" else "B") + file[at + 1 :]
        with pytest.raises(reference.RefusedError):
            reference.verify_receipt(changed, [log_key])


def test_the_example_bundle_is_that_of_the_chain() -> None:
    """Lengths and entries, one after the other."""
    entries = [line.encode() for line in BLOCKS["chain"].splitlines()[:3]]
    bundle = b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)
    first, *others = BLOCKS["bundle-3"].splitlines()
    assert first == f"bytes {len(bundle)}, SHA-256 {hashlib.sha256(bundle).hexdigest()}"
    assert [int(line.split()[2], 16) for line in others] == [len(entry) for entry in entries]


def test_the_sequencer_records_the_example_ledger_byte_for_byte(tmp_path: Any) -> None:
    ledger = example_ledger()
    clock = Clock(ledger.steps[0][1])
    with World(f"sqlite:///{tmp_path / 'l.sqlite'}", origin="ledger.example/other", clock=clock) as world:
        store = type(world.store)(world.engine, ORIGIN)
        first = create_ledger(store, ledger.steps[0][0], EXAMPLE_KEYS["log"], clock)
        data = [first.data]
        with Sequencer(store, [EXAMPLE_KEYS["log"], EXAMPLE_KEYS["log2"]], clock) as sequencer:
            for signed, time, _ in ledger.steps[1:]:
                clock.now_ms = parse_time(time)
                (outcome,) = sequencer.submit([signed]).result(60)
                assert isinstance(outcome, Recorded), outcome
                data.append(outcome.data)
        with store.read() as connection:
            note = store.head(connection).checkpoint
    assert data == ledger.data
    assert note == BLOCKS["checkpoint"]


def test_sections_name_every_kind_and_code() -> None:
    assert re.findall(r"^### 7\.[0-9]+ (\w+)$", TEXT, re.MULTILINE) == list(operations.KINDS)
    section = TEXT[TEXT.index("### 6.3") : TEXT.index("## 7.")]
    assert re.findall(r"^\| `([A-Z_]+)` \|", section, re.MULTILINE) == [code.value for code in Code]


def test_stated_time_zone_release_is_the_one_in_use() -> None:
    """A newer tzdata needs a decision about the format (section 8.3), not only a new pin."""
    assert f"`tzdata` {version('tzdata')} of PyPI" in TEXT
    assert f": {len(terms.time_zones())} names" in TEXT
    assert terms.time_zones() == zoneinfo.available_timezones()


def test_small_order_list_has_every_y_whose_point_vanishes_times_eight() -> None:
    p = 2**255 - 19
    d = -121665 * pow(121666, -1, p) % p
    for line in BLOCKS["small-order"].splitlines():
        y = int.from_bytes(bytes.fromhex(line), "little")
        of_order_8 = (d * pow(y, 4, p) + 2 * y * y - 1) % p == 0
        assert of_order_8 or y in {0, 1, p - 1}
        assert line in reference.SMALL_ORDER
    assert len(reference.SMALL_ORDER) == len(BLOCKS["small-order"].splitlines()) == 5


# Scalars and canonical bytes: three readers agree, and the document says how.

TYPES: dict[str, Any] = {
    "time": terms.Time,
    "date": terms.Date,
    "origin": terms.Origin,
    "account": terms.AccountRef,
    "asset": terms.AssetCode,
    "currency": terms.CurrencyCode,
    "nonce": terms.Nonce,
    "key": terms.KeyText,
    "signature": terms.SignatureText,
    "hash": terms.HashText,
    "reference": terms.Reference,
    "label": terms.Label,
    "hold": terms.HoldRef,
    "agreement": terms.AgreementName,
    "name": terms.Name,
}
REFERENCE_CHECKS: dict[str, reference.Check] = {
    **{name: reference.text(name) for name in reference.GRAMMAR},
    "time": reference.check_time,
    "date": reference.check_date,
    "key": reference.check_key,
    "name": reference.check_name,
    "zone": reference.check_zone,
}


def code_accepts(scalar: str, value: str) -> bool:
    """Whether the ledger package takes a text as a scalar."""
    if scalar == "zone":
        return value in terms.time_zones()
    further: dict[str, Callable[[str], Any]] = {"time": parse_time, "date": parse_date, "key": decode_public_key}
    try:
        msgspec.convert(value, type=TYPES[scalar])
        further.get(scalar, str)(value)
    except (msgspec.ValidationError, EncodingError):
        return False
    return True


def reference_accepts(scalar: str, value: str) -> bool:
    try:
        REFERENCE_CHECKS[scalar](value)
    except reference.RefusedError:
        return False
    return True


def test_grammar_is_the_reference_verifiers() -> None:
    assert dict(line.split() for line in BLOCKS["grammar"].splitlines()) == reference.GRAMMAR


@pytest.mark.parametrize("line", BLOCKS["scalars"].splitlines())
def test_scalar_is_read_as_the_document_says(line: str) -> None:
    scalar, verdict, value = line.split(None, 2)
    expected = {"yes": True, "no": False}[verdict]
    assert code_accepts(scalar, json.loads(value)) is expected
    assert reference_accepts(scalar, json.loads(value)) is expected


@given(data=st.data())
def test_readers_agree_on_any_scalar(data: st.DataObject) -> None:
    scalar = data.draw(st.sampled_from(sorted(reference.GRAMMAR)))
    value = data.draw(st.from_regex(reference.GRAMMAR[scalar], fullmatch=True) | st.text(max_size=6))
    if data.draw(st.booleans()) and value:
        at = data.draw(st.integers(0, len(value)))
        value = value[:at] + data.draw(st.sampled_from("\nA0-_ é=Z")) + value[at + data.draw(st.integers(0, 1)) :]
    # A signature's or key's unused bits are looked at when it is decoded, an origin's length by the operation's type.
    if scalar not in {"origin", "signature"}:
        assert code_accepts(scalar, value) == reference_accepts(scalar, value)


@given(st.text(max_size=4) | st.text(st.sampled_from(" \u00a0\u2028\u3000\u0085\u200b\ufeff\x1c\x7fa"), max_size=4))
def test_readers_agree_on_any_name(value: str) -> None:
    assert code_accepts("name", value) == reference_accepts("name", value)


def test_white_space_of_names_is_unicodes() -> None:
    controls = {chr(c) for c in range(0x20)} | {"\x7f"}
    spaces = {chr(c) for c in range(0x110000) if chr(c).isspace()} - controls
    assert spaces == set(reference.SPACES)
    assert all(f"U+{ord(c):04X}" in TEXT for c in spaces if not 0x2000 <= ord(c) <= 0x200A)


@pytest.mark.parametrize("line", BLOCKS["canonical"].splitlines())
def test_canonical_bytes_are_told_from_others(line: str) -> None:
    verdict, text = line.split(None, 1)
    data = text.encode()
    if verdict == "yes":
        assert encode_canonical(decode_canonical(data)) == data
        assert reference.encode(reference.decode(data)) == data
        return
    with pytest.raises(EncodingError):
        decode_canonical(data)
    with pytest.raises(reference.RefusedError):
        reference.decode(data)


# A whole ledger from the real sequencer, honest and forged.


class Chain:
    """What a verifier is given, as plain data that a forger can change, and the keys a forger may have."""

    def __init__(
        self, entries: list[bytes], checkpoint: str, logs: list[Ed25519PrivateKey], keys: list[Ed25519PrivateKey]
    ):
        self.data = entries
        self.checkpoint = checkpoint
        self.log, self.next_log = logs
        self.keys: dict[str, Ed25519PrivateKey] = {encode_public_key(key): key for key in keys}
        self.origin = json.loads(entries[0])["op"]["ledger"]
        self.log_key = encode_verifier_key(self.origin, self.log)

    def entries(self) -> list[dict[str, Any]]:
        return [json.loads(data) for data in self.data]

    def find(self, kind: str, entries: list[dict[str, Any]], nth: int = 0) -> dict[str, Any]:
        return [entry for entry in entries if entry["op"]["kind"] == kind][nth]

    def relinked(self, entries: list[dict[str, Any]]) -> tuple[list[bytes], str]:
        """Entries with fitting `prev` links and a checkpoint that the log really signed: an operator who cheats."""
        data: list[bytes] = []
        for entry in entries:
            prev = leaf_hash(data[-1]) if data else FIRST_PREV
            data.append(reference.encode({**entry, "prev": prev.hex()}))
        return data, self.signed(data)

    def signed(self, data: list[bytes], key: Ed25519PrivateKey | None = None, origin: str | None = None) -> str:
        tree = CompactRange()
        for entry in data:
            tree.append(leaf_hash(entry))
        checkpoint = Checkpoint(origin=origin or self.origin, size=len(data), root=tree.root())
        return sign_checkpoint(checkpoint, *([key] if key else [self.next_log, self.log]))

    def resign(self, entry: dict[str, Any], *keys: Ed25519PrivateKey) -> None:
        """Sign an entry's operation anew, by default with the keys that signed it."""
        used = keys or [self.keys[item["key"]] for item in entry["sigs"]]
        message = b"guerdon operation v1\n" + reference.encode(entry["op"])
        entry["sigs"] = [
            {
                "key": encode_public_key(key),
                "sig": base64.urlsafe_b64encode(key.sign(message)).decode().rstrip("="),
            }
            for key in used
        ]


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """Every kind, four assets whose lots expire in four ways, custody, a threshold of keys, a closed program.

    Then keys change: a claim, a revocation, a recovery that is cancelled, one that is used. The two merchants make
    agreements, take each other's points, and clear what they owe. Last another log key.
    """
    with World(f"sqlite:///{tmp_path_factory.mktemp('format') / 'l.sqlite'}", seed=7) as world:
        yield _build_chain(world)


def _build_chain(world: World) -> Chain:
    shop = world.add_merchant()
    guild, guild_keys = _open_guild(world)
    alice, bob = world.add_members(2)
    (opened,) = world.record(shop.sign(OpenAccount, role="member"))
    carol = Wallet(world.origin, account_opened_by(opened), shop.keys, world.clock, world.random.randbytes)
    world.add_asset(shop, "STAR")
    world.add_asset(shop, "DAYS", make_program(expiry=ExpiresAfterDays(count=10), time_zone="Asia/Tokyo"))
    months = make_program(
        bands=(Band(from_amount=5_000, points=1, per=100), Band(from_amount=10_000, points=7, per=300)),
        expiry=ExpiresAfterMonths(count=1),
        round_amount="none",
        round_points="half_even",
        time_zone="America/New_York",
    )
    world.add_asset(guild, "MOON", months, supply_cap=10_000)
    world.add_asset(shop, "YEAR", make_program(expiry=ExpiresAtYearEnd(count=0)), transferable=False)
    members = [str(wallet.account) for wallet in (alice, bob, carol)]
    for asset, merchant in (("STAR", shop), ("DAYS", shop), ("MOON", guild), ("YEAR", shop)):
        for day in range(3):
            world.record(_purchases(world, merchant, asset, members, day))
            world.grant(merchant, asset, alice, 40 + day)
            world.clock.advance(days=2)
    _close_program(world, shop)
    world.record(
        alice.sign(
            Transfer,
            asset="MOON",
            expires_in_ms=60_000,
            recipients=tuple(Recipient(amount=n, to=to) for n, to in ((90, members[1]), (30, members[2]))),
        ),
        alice.sign(Transfer, asset="STAR", recipients=(Recipient(amount=5, to=str(guild.account)),)),
        carol.sign(Redeem, asset="YEAR", amount=10, merchant=shop.account, reference="bill-1"),
        bob.sign(Redeem, asset="MOON", amount=33, merchant=guild.account),
    )
    world.clock.advance(days=40)
    for actor, asset in ((world.operator, "DAYS"), (guild, "MOON"), (guild, "MOON")):
        through = format_time(world.clock() - 3 * 86_400_000)[:10]
        world.record(actor.sign(Expire, asset=asset, through=through, limit=2))
    changed_keys = _change_keys(world, shop, carol)
    _deal_with_partners(world, shop, guild, alice)
    _belong(world, shop, alice, bob)
    next_log = _replace_log_key(world)
    with world.store.read() as connection:
        head = world.store.head(connection)
        stored = world.store.entry_data(connection, range(head.size))
    keys = [*shop.keys, *guild_keys, *alice.keys, *bob.keys, *world.operator.keys, *changed_keys]
    return Chain([stored[seq] for seq in range(head.size)], head.checkpoint, [world.log_key, next_log], keys)


def _change_keys(world: World, shop: Wallet, carol: Wallet) -> list[Ed25519PrivateKey]:
    """Carol's account leaves custody; dave's stolen key is revoked; erin's recovery is cancelled; frank's is used."""
    dave, erin, frank = world.add_members(3)
    keys = [world.make_key() for _ in range(4)]
    texts = [encode_public_key(key) for key in keys]
    for member in (dave, erin, frank):
        world.grant(shop, "STAR", member, 10)
    world.record(
        carol.sign(ReplaceKeys, co_signers=keys[:1], keys=(texts[0],)),
        dave.sign(ReplaceKeys, co_signers=keys[1:3], keys=tuple(texts[1:3]), threshold=2),
    )
    for member, text, key in ((erin, texts[0], keys[0]), (frank, texts[3], keys[3])):
        world.record(world.operator.sign(RecoverKeys, co_signers=[key], account=member.account, keys=(text,)))
    world.clock.advance(days=1)
    claimed = world.wallet(carol.account, keys[0])
    world.record(
        erin.sign(CancelRecovery, account=erin.account),
        frank.sign(Redeem, asset="STAR", amount=1, merchant=shop.account),
        claimed.sign(Redeem, asset="STAR", amount=1, merchant=shop.account),
        world.wallet(dave.account, *keys[1:3]).sign(Redeem, asset="STAR", amount=1, merchant=shop.account),
    )
    world.clock.advance(days=6)
    world.record(
        erin.sign(Redeem, asset="STAR", amount=2, merchant=shop.account),
        world.wallet(frank.account, keys[3]).sign(Redeem, asset="STAR", amount=2, merchant=shop.account),
    )
    return [*dave.keys, *erin.keys, *frank.keys, *keys]


def _deal_with_partners(world: World, shop: Wallet, guild: Wallet, alice: Wallet) -> None:
    """Every kind that two merchants need: STAR becomes MOON, is earned, held and spent at the guild, and refunded."""
    fee = KeptFee(amount=1, currency="USD", kept_by=str(guild.account), points=10, round="down")
    rate = Rate(get=1, give=2)
    for terms_ in (
        ExchangeTerms(asset="STAR", into="MOON", fee=fee, rate=rate, claim=_claim(shop), received="retired"),
        AcceptanceTerms(asset="STAR", claim=_claim(guild), received="kept"),
        EarningTerms(asset="STAR", billing="prepaid", claim=_claim(guild)),
    ):
        fields = {"notice_days": 0, "partner": guild.account, "starts": format_time(world.clock()), "version": 1}
        world.record(shop.sign(Agree, co_signers=guild.keys, terms=terms_, **fields))
    block: dict[str, Any] = {"asset": "STAR", "partner": guild.account, "points": 2_000, "reference": "block"}
    world.record(shop.sign(Allot, co_signers=guild.keys, **block))
    world.record(_purchases(world, guild, "STAR", [str(alice.account)], 9))
    given: dict[str, Any] = {
        "amount": 200,
        "asset": "STAR",
        "member": alice.account,
        "reason": "goodwill",
        "reference": "1",
    }
    exchange = alice.sign(Exchange, amount=100, asset="STAR", into="MOON", maximum_fee=10, minimum_out=50)
    until = format_time(world.clock() + 3_600_000)
    held: dict[str, Any] = {"asset": "STAR", "merchant": guild.account, "until": until}
    holds = [alice.sign(Hold, amount=amount, **held) for amount in (40, 30)]
    name = account_id("hld", holds[0].op_id)
    capture = guild.sign(Capture, amount=25, hold=name)
    world.record(shop.sign(Correct, **given), exchange, *holds, capture, guild.sign(Release, hold=name))
    world.clock.advance(ms=7_200_000)
    world.record(
        alice.sign(Redeem, asset="STAR", amount=5, merchant=guild.account),
        guild.sign(Refund, asset="STAR", of=RefundedPurchase(amount=1_000, order="STAR/9/0"), reference="1"),
        guild.sign(Refund, asset="STAR", of=RefundedRedemption(amount=5, operation=capture.op_id.hex()), reference="2"),
        guild.sign(Refund, asset="STAR", of=RefundedExchange(amount=20, operation=exchange.op_id.hex()), reference="3"),
    )
    _clear_between_partners(world, shop, guild, alice)


def _claim(debtor: Wallet) -> ClaimTerms:
    return ClaimTerms(amount=5, currency="USD", debtor=str(debtor.account), points=10, round="half_up")


def _clear_between_partners(world: World, shop: Wallet, guild: Wallet, alice: Wallet) -> None:
    with world.store.read() as connection:
        size = world.store.head(connection).size
        stored = world.store.entry_data(connection, range(size))
    replica = reference.Verifier()
    for seq in range(size):
        replica.add(stored[seq])
    obligations, claims = replica.replica.obligations, replica.replica.claims
    seq, index = next(name for name, claim in claims.items() if claim["debtor"] == shop.account)
    claim = ClaimRef(index=index, seq=seq)
    world.record(
        shop.sign(Dispute, claim=claim, reason="amount"),
        world.operator.sign(ResolveDispute, claim=claim, outcome="stands"),
    )
    owed = sum(n for key, n in obligations.items() if key[1:3] == (guild.account, shop.account))
    owed -= sum(n for key, n in obligations.items() if key[1:3] == (shop.account, guild.account))
    assert owed > 0
    payment = Payment(amount=owed, creditor=str(shop.account), debtor=str(guild.account))
    merchants = (str(shop.account), str(guild.account))
    through = format_time(world.clock())[:10]
    what: dict[str, Any] = {"currency": "USD", "merchants": merchants, "payments": (payment,), "through": through}
    world.record(
        world.operator.sign(Net, **what),
        shop.sign(Settle, amount=owed, currency="USD", debtor=guild.account, payment="wire-1"),
        world.operator.sign(Freeze, account=alice.account, reason="other"),
        world.operator.sign(Unfreeze, account=alice.account, reason="mistake"),
        alice.sign(Redeem, asset="STAR", amount=7, merchant=shop.account),
        guild.sign(EndAgreement, agreement="STAR>MOON", ends=format_time(world.clock() + 86_400_000)),
    )


def _belong(world: World, shop: Wallet, alice: Wallet, bob: Wallet) -> None:
    """Every kind that a program needs in which more than the amount counts: points vest, tiers come and go."""
    program = make_program(
        plans=(Plan(plan="club", days=10, price=300),),
        reminders=Reminders(new_tier=True),
        rewards=(Reward(reward="gum", price=5),),
        tiers=Tiers(basis="visits", levels=(TierLevel(from_count=1, tier="guest"),), period="month"),
        vesting_days=1,
    )
    world.add_asset(shop, "GUM", program)
    members = (str(alice.account), str(bob.account))
    many: dict[str, Any] = {"asset": "GUM", "members": members}
    one: dict[str, Any] = {"asset": "GUM", "member": members[0]}
    at = format_time(world.clock())
    purchases = tuple(Purchase(amount=2_000, at=at, member=member, order=f"GUM/{member}") for member in members)
    ripe = tuple(PurchaseRef(merchant=str(shop.account), order=purchase.order) for purchase in purchases)
    world.record(
        alice.sign(Enroll, asset="GUM", invited_by=bob.account),
        shop.sign(RecordPurchases, asset="GUM", currency="USD", purchases=purchases),
        world.operator.sign(Remind, about="tier", **many),
        shop.sign(StartPlan, plan="club", reference="plan-1", **one),
        shop.sign(EndPlan, reason="refunded", **one),
        alice.sign(FormPool, co_signers=bob.keys, asset="GUM", members=members[1:]),
    )
    world.clock.advance(days=1)
    what: dict[str, Any] = {"amount": 10, "asset": "GUM", "from_pool": True, "merchant": shop.account, "reward": "gum"}
    _, had = world.record(shop.sign(Vest, asset="GUM", purchases=ripe), bob.sign(Redeem, **what))
    voucher = VoucherRef(index=1, seq=had.seq)
    world.record(shop.sign(UseVoucher, voucher=voucher), bob.sign(LeavePool, asset="GUM"))
    world.clock.advance(days=40)
    world.record(shop.sign(ReviewTiers, **many))


def _replace_log_key(world: World) -> Ed25519PrivateKey:
    key = world.make_key()
    signed = world.operator.sign(ReplaceLogKey, log_key=encode_verifier_key(world.origin, key))
    with Sequencer(world.store, [world.log_key, key], world.clock) as sequencer:
        (outcome,) = sequencer.submit([signed]).result(60)
    assert isinstance(outcome, Recorded)
    return key


def _open_guild(world: World) -> tuple[Wallet, list[Ed25519PrivateKey]]:
    keys = [world.make_key() for _ in range(3)]
    texts = tuple(encode_public_key(key) for key in keys)
    (opened,) = world.record(
        world.operator.sign(
            OpenAccount, co_signers=keys, role="merchant", name="Guild “Süd” 😀", keys=texts, threshold=2
        )
    )
    return world.wallet(account_opened_by(opened), keys[2], keys[0]), keys


def _purchases(world: World, merchant: Wallet, asset: str, members: list[str], day: int) -> SignedOperation:
    purchases = tuple(
        Purchase(
            amount=world.random.randrange(4_000, 30_000),
            at=format_time(world.clock() - world.random.randrange(30) * 86_400_000),
            member=member,
            order=f"{asset}/{day}/{i}",
        )
        for i, member in enumerate([*members, members[0]])
    )
    return merchant.sign(RecordPurchases, asset=asset, currency="USD", purchases=purchases)


def _close_program(world: World, shop: Wallet) -> None:
    now = world.clock()
    program = make_program(expiry=NeverExpires(), time_zone="Asia/Tokyo")
    starts, ends = format_time(now), format_time(now + 1_000)
    world.record(shop.sign(PublishProgram, asset="DAYS", version=2, starts=starts, ends=ends, program=program))
    world.clock.advance(days=1)
    late = shop.sign(Grant, asset="DAYS", member="mem_" + "a" * 26, amount=1, activity="goodwill", reference="late")
    (outcome,) = world.submit(late)
    assert isinstance(outcome, Rejection)


def refusal(
    chain: Chain, data: list[bytes], checkpoint: str, log_key: str | None = None, *, light: bool = False
) -> str:
    """The code with which the reference verifier refuses a ledger; empty when it accepts it."""
    try:
        reference.verify_ledger(data, checkpoint, log_keys=[log_key or chain.log_key], light=light)
    except reference.RefusedError as error:
        return error.code
    return ""


def test_reference_verifier_accepts_what_the_sequencer_records(chain: Chain) -> None:
    replica = reference.verify_ledger(chain.data, chain.checkpoint, log_keys=[chain.log_key])
    kinds = {entry["op"]["kind"] for entry in chain.entries()}
    assert kinds == set(operations.KINDS)
    lots = {place: points for place, points in replica.lots.items() if place[1] in replica.assets}
    assert all(points > 0 for (account, _, _), points in lots.items() if not account.startswith("sys_"))
    assert chain.relinked(chain.entries()) == (chain.data, chain.checkpoint)


Forgery = Callable[[Chain, list[dict[str, Any]]], None]


def _raise_amount(chain: Chain, entries: list[dict[str, Any]]) -> None:
    chain.find("transfer", entries)["op"]["recipients"][0]["amount"] += 1


def _raise_amount_signed_by_another(chain: Chain, entries: list[dict[str, Any]]) -> None:
    entry = chain.find("transfer", entries)
    entry["op"]["recipients"][0]["amount"] += 1
    chain.resign(entry, chain.log)


def _claim_signature_of_another(chain: Chain, entries: list[dict[str, Any]]) -> None:
    chain.find("transfer", entries)["sigs"][0]["key"] = chain.find("grant", entries)["sigs"][0]["key"]


def _sign_with_another_key(chain: Chain, entries: list[dict[str, Any]]) -> None:
    chain.resign(chain.find("redeem", entries), chain.log)


def _add_a_stranger_signature(chain: Chain, entries: list[dict[str, Any]]) -> None:
    entry = chain.find("redeem", entries)
    chain.resign(entry, *(chain.keys[item["key"]] for item in entry["sigs"]), chain.log)


def _sign_below_threshold(chain: Chain, entries: list[dict[str, Any]]) -> None:
    guild = next(entry["op"] for entry in entries if "threshold" in entry["op"])
    entry = next(entry for entry in entries if entry["sigs"][0]["key"] in guild["keys"] and len(entry["sigs"]) == 2)
    del entry["sigs"][0]


def _drop_signatures(chain: Chain, entries: list[dict[str, Any]]) -> None:
    chain.find("grant", entries)["sigs"] = []


def _drop_posting(chain: Chain, entries: list[dict[str, Any]]) -> None:
    del chain.find("transfer", entries)["postings"][-1]


def _drop_all_postings(chain: Chain, entries: list[dict[str, Any]]) -> None:
    chain.find("expire", entries)["postings"] = []


def _raise_points(chain: Chain, entries: list[dict[str, Any]]) -> None:
    postings = chain.find("record_purchases", entries)["postings"]
    postings[0]["amount"] -= 1
    postings[-1]["amount"] += 1


def _shift_points_to_another_member(chain: Chain, entries: list[dict[str, Any]]) -> None:
    postings = chain.find("record_purchases", entries)["postings"]
    postings[1]["account"], postings[2]["account"] = postings[2]["account"], postings[1]["account"]


def _prolong_lot(chain: Chain, entries: list[dict[str, Any]]) -> None:
    for entry in entries:
        for posting in entry["postings"]:
            if posting.get("lot", "9") < "2026-06":
                posting["lot"] = "2026-12-31"
                return


def _spend_latest_lot_first(chain: Chain, entries: list[dict[str, Any]]) -> None:
    postings = chain.find("transfer", entries)["postings"]
    postings[0], postings[1] = postings[1], postings[0]


def _expire_the_second_lot_first(chain: Chain, entries: list[dict[str, Any]]) -> None:
    postings = chain.find("expire", entries, 1)["postings"]
    postings[0], postings[1] = postings[1], postings[0]


def _replay(chain: Chain, entries: list[dict[str, Any]]) -> None:
    entries.append({**chain.find("transfer", entries), "seq": len(entries), "time": entries[-1]["time"]})


def _turn_time_back(chain: Chain, entries: list[dict[str, Any]]) -> None:
    entries[-1]["time"] = entries[0]["time"]


def _record_after_expiry(chain: Chain, entries: list[dict[str, Any]]) -> None:
    at = next(i for i, entry in enumerate(entries) if "expires" in entry["op"])
    late = format_time(parse_time(entries[at]["op"]["expires"]) + 1)
    for entry in entries[at:]:
        entry["time"] = max(entry["time"], late)


def _record_before_it_happened(chain: Chain, entries: list[dict[str, Any]]) -> None:
    entries[0]["time"] = format_time(parse_time(entries[0]["op"]["at"]) - 30_001)


def _skip_number(chain: Chain, entries: list[dict[str, Any]]) -> None:
    entries[-1]["seq"] += 1


def _drop_entry(chain: Chain, entries: list[dict[str, Any]]) -> None:
    entries.remove(chain.find("open_account", entries))
    _renumber(entries)


def _swap_entries(chain: Chain, entries: list[dict[str, Any]]) -> None:
    at = entries.index(chain.find("define_asset", entries))
    entries[at], entries[at + 1] = entries[at + 1], entries[at]
    _renumber(entries)


def _drop_genesis(chain: Chain, entries: list[dict[str, Any]]) -> None:
    del entries[0]
    _renumber(entries)


def _drop_purchases_whose_points_are_spent(chain: Chain, entries: list[dict[str, Any]]) -> None:
    kept = [e for e in entries if e["op"]["kind"] != "record_purchases" or e["op"]["asset"] != "MOON"]
    entries[:] = kept
    _renumber(entries)


def _renumber(entries: list[dict[str, Any]]) -> None:
    for seq, entry in enumerate(entries):
        entry["seq"] = seq


def _sign_for_another_ledger(chain: Chain, entries: list[dict[str, Any]]) -> None:
    entry = chain.find("grant", entries)
    entry["op"]["ledger"] = "ledger.example/else"
    chain.resign(entry)


def _record_order_twice(chain: Chain, entries: list[dict[str, Any]]) -> None:
    entry = copy.deepcopy(chain.find("record_purchases", entries))
    entry["op"]["nonce"] = "A" * 22
    entry.update(seq=len(entries), time=entries[-1]["time"])
    chain.resign(entry)
    entries.append(entry)


def _grant_twice(chain: Chain, entries: list[dict[str, Any]]) -> None:
    entry = copy.deepcopy(chain.find("grant", entries))
    entry["op"]["nonce"] = "A" * 22
    entry.update(seq=len(entries), time=entries[-1]["time"])
    chain.resign(entry)
    entries.append(entry)


def _grant_in_a_closed_program(chain: Chain, entries: list[dict[str, Any]]) -> None:
    entry = next(copy.deepcopy(e) for e in entries if e["op"]["kind"] == "grant" and e["op"]["asset"] == "DAYS")
    entry["op"].update(nonce="A" * 22, reference="fresh", at=entries[-1]["time"])
    entry.update(seq=len(entries), time=entries[-1]["time"])
    chain.resign(entry)
    entries.append(entry)


def _overdraw(chain: Chain, entries: list[dict[str, Any]]) -> None:
    entry = chain.find("transfer", entries)
    entry["op"]["recipients"][0]["amount"] = 10**9
    chain.resign(entry)


def _spend_expired_points(chain: Chain, entries: list[dict[str, Any]]) -> None:
    entry = copy.deepcopy(chain.find("redeem", entries, 1))
    entry["op"].update(nonce="A" * 22, amount=1)
    entry.update(seq=len(entries), time="2027-12-31T00:00:00.000Z")
    chain.resign(entry)
    entries.append(entry)


def _grant_by_a_member(chain: Chain, entries: list[dict[str, Any]]) -> None:
    entry, member = chain.find("grant", entries), chain.find("transfer", entries)
    entry["op"]["actor"] = member["op"]["actor"]
    chain.resign(entry, chain.keys[member["sigs"][0]["key"]])


def _exceed_cap(chain: Chain, entries: list[dict[str, Any]]) -> None:
    asset = next(e for e in entries if e["op"]["kind"] == "define_asset" and "supply_cap" in e["op"])
    asset["op"]["supply_cap"] = 1
    chain.resign(asset)


def _smuggle_field(chain: Chain, entries: list[dict[str, Any]]) -> None:
    entries[-1]["note"] = "hello"


def _write_null(chain: Chain, entries: list[dict[str, Any]]) -> None:
    chain.find("grant", entries)["op"]["expires"] = None


def _write_default(chain: Chain, entries: list[dict[str, Any]]) -> None:
    entries[0]["op"]["threshold"] = 1


def _name_another_log_key(chain: Chain, entries: list[dict[str, Any]]) -> None:
    entries[0]["op"]["log_key"] = chain.log_key.replace(chain.origin, "ledger.example/else")
    chain.resign(entries[0])


def _redeem_of(entries: list[dict[str, Any]], kind: str, nth: int, amount: int) -> dict[str, Any]:
    """The redemption of so many points by the account whose keys an entry changed."""
    changed = [entry["op"] for entry in entries if entry["op"]["kind"] == kind][nth]
    account = changed.get("account", changed["actor"])
    return next(
        entry
        for entry in entries
        if entry["op"]["kind"] == "redeem" and (entry["op"]["actor"], entry["op"]["amount"]) == (account, amount)
    )


def _opening_keys(chain: Chain, entries: list[dict[str, Any]], account: str) -> list[Ed25519PrivateKey]:
    for entry in entries:
        op_id = hashlib.sha256(reference.encode(entry["op"])).digest()
        if entry["op"]["kind"] == "open_account" and reference.account_id(entry["op"]["role"], op_id) == account:
            return [chain.keys[key] for key in entry["op"]["keys"]]
    raise AssertionError(account)


def _sign_with_a_revoked_key(chain: Chain, entries: list[dict[str, Any]]) -> None:
    entry = _redeem_of(entries, "replace_keys", 1, 1)
    chain.resign(entry, *_opening_keys(chain, entries, entry["op"]["actor"]))


def _sign_with_one_of_two_keys(chain: Chain, entries: list[dict[str, Any]]) -> None:
    del _redeem_of(entries, "replace_keys", 1, 1)["sigs"][0]


def _sign_as_custodian_of_a_claimed_account(chain: Chain, entries: list[dict[str, Any]]) -> None:
    shop = chain.find("grant", entries)["sigs"][0]["key"]
    chain.resign(_redeem_of(entries, "replace_keys", 0, 1), chain.keys[shop])


def _claim_without_the_custodian(chain: Chain, entries: list[dict[str, Any]]) -> None:
    del chain.find("replace_keys", entries)["sigs"][0]


def _claim_without_the_new_key(chain: Chain, entries: list[dict[str, Any]]) -> None:
    del chain.find("replace_keys", entries)["sigs"][1]


def _sign_with_a_recovered_key_too_early(chain: Chain, entries: list[dict[str, Any]]) -> None:
    new = chain.find("recover_keys", entries, 1)["op"]["keys"]
    chain.resign(_redeem_of(entries, "recover_keys", 1, 1), chain.keys[new[0]])


def _sign_with_a_lost_key_too_late(chain: Chain, entries: list[dict[str, Any]]) -> None:
    entry = _redeem_of(entries, "recover_keys", 1, 2)
    chain.resign(entry, *_opening_keys(chain, entries, entry["op"]["actor"]))


def _record_a_recovered_key_a_millisecond_early(chain: Chain, entries: list[dict[str, Any]]) -> None:
    entry = _redeem_of(entries, "recover_keys", 1, 2)
    begun = chain.find("recover_keys", entries, 1)["time"]
    assert parse_time(entry["time"]) - parse_time(begun) == 7 * 86_400_000
    for earlier in entries[: entries.index(entry) + 1]:
        earlier["time"] = min(earlier["time"], format_time(parse_time(entry["time"]) - 1))


def _write_the_usual_delay(chain: Chain, entries: list[dict[str, Any]]) -> None:
    entries[0]["op"]["recovery_delay_ms"] = 7 * 86_400_000
    chain.resign(entries[0])


def _drop_the_cancellation(chain: Chain, entries: list[dict[str, Any]]) -> None:
    entries.remove(chain.find("cancel_recovery", entries))
    _renumber(entries)


def _cancel_twice(chain: Chain, entries: list[dict[str, Any]]) -> None:
    at = entries.index(chain.find("cancel_recovery", entries))
    entry = copy.deepcopy(entries[at])
    entry["op"]["nonce"] = "A" * 22
    chain.resign(entry)
    entries.insert(at + 1, entry)
    _renumber(entries)


def _cancel_for_another(chain: Chain, entries: list[dict[str, Any]]) -> None:
    entry, other = chain.find("cancel_recovery", entries), chain.find("recover_keys", entries, 1)
    entry["op"]["account"] = other["op"]["account"]
    chain.resign(entry)


def _recover_twice(chain: Chain, entries: list[dict[str, Any]]) -> None:
    at = entries.index(chain.find("recover_keys", entries))
    entry = copy.deepcopy(entries[at])
    entry["op"]["nonce"] = "A" * 22
    chain.resign(entry)
    entries.insert(at + 1, entry)
    _renumber(entries)


def _recover_by_a_merchant(chain: Chain, entries: list[dict[str, Any]]) -> None:
    entry, grant = chain.find("recover_keys", entries), chain.find("grant", entries)
    entry["op"]["actor"] = grant["op"]["actor"]
    chain.resign(entry, chain.keys[grant["sigs"][0]["key"]], chain.keys[entry["op"]["keys"][0]])


def _replace_the_log_key_by_a_merchant(chain: Chain, entries: list[dict[str, Any]]) -> None:
    entry, grant = chain.find("replace_log_key", entries), chain.find("grant", entries)
    entry["op"]["actor"] = grant["op"]["actor"]
    chain.resign(entry, chain.keys[grant["sigs"][0]["key"]])


def _go_back_to_the_first_log_key(chain: Chain, entries: list[dict[str, Any]]) -> None:
    entry = copy.deepcopy(chain.find("replace_log_key", entries))
    entry["op"].update(nonce="A" * 22, log_key=chain.log_key)
    entry.update(seq=len(entries))
    chain.resign(entry)
    entries.append(entry)


def _replace_the_log_key_by_one_of_another_name(chain: Chain, entries: list[dict[str, Any]]) -> None:
    entry = chain.find("replace_log_key", entries)
    entry["op"]["log_key"] = encode_verifier_key("ledger.example/else", chain.next_log)
    chain.resign(entry)


def _found_twice(chain: Chain, entries: list[dict[str, Any]]) -> None:
    entry = copy.deepcopy(entries[0])
    entry["op"]["nonce"] = "A" * 22
    entry.update(seq=len(entries), time=entries[-1]["time"])
    chain.resign(entry)
    entries.append(entry)


def _post_to_a_stranger(chain: Chain, entries: list[dict[str, Any]]) -> None:
    chain.find("transfer", entries)["postings"][-1]["account"] = "sys_lost"


def _agree_alone(chain: Chain, entries: list[dict[str, Any]]) -> None:
    del chain.find("agree", entries)["sigs"][1:]


def _exchange_for_more(chain: Chain, entries: list[dict[str, Any]]) -> None:
    postings = chain.find("exchange", entries)["postings"]
    for posting in postings:
        if posting["asset"] == "MOON":
            posting["amount"] += posting["amount"] // 50


def _forget_the_fee(chain: Chain, entries: list[dict[str, Any]]) -> None:
    del chain.find("exchange", entries)["postings"][-2:]


def _owe_the_other_way(chain: Chain, entries: list[dict[str, Any]]) -> None:
    for posting in chain.find("exchange", entries)["postings"][-4:]:
        posting["amount"] *= -1


def _give_more_than_was_allotted(chain: Chain, entries: list[dict[str, Any]]) -> None:
    entry = chain.find("allot", entries)
    entry["op"]["points"] = 1
    for posting in entry["postings"]:
        posting["amount"] //= abs(posting["amount"])
    chain.resign(entry)


def _capture_more_than_is_held(chain: Chain, entries: list[dict[str, Any]]) -> None:
    entry = chain.find("capture", entries)
    entry["op"]["amount"] = 41
    chain.resign(entry)


def _keep_lapsed_points_on_hold(chain: Chain, entries: list[dict[str, Any]]) -> None:
    entry = next(e for e in entries if e["op"]["kind"] == "redeem" and e["postings"][0]["account"] == "sys_held")
    del entry["postings"][:2]


def _refund_more_than_was_spent(chain: Chain, entries: list[dict[str, Any]]) -> None:
    entry = chain.find("refund", entries, 2)
    entry["op"]["of"]["amount"] = 101
    chain.resign(entry)


def _refund_by_another(chain: Chain, entries: list[dict[str, Any]]) -> None:
    entry, grant = chain.find("refund", entries, 1), chain.find("grant", entries)
    entry["op"]["actor"] = grant["op"]["actor"]
    chain.resign(entry, chain.keys[grant["sigs"][0]["key"]])


def _net_a_cent_less(chain: Chain, entries: list[dict[str, Any]]) -> None:
    entry = chain.find("net", entries)
    entry["op"]["payments"][0]["amount"] -= 1
    chain.resign(entry)


def _settle_a_cent_more(chain: Chain, entries: list[dict[str, Any]]) -> None:
    entry = chain.find("settle", entries)
    entry["op"]["amount"] += 1
    chain.resign(entry)


def _cancel_without_the_creditor(chain: Chain, entries: list[dict[str, Any]]) -> None:
    entry, dispute = chain.find("resolve_dispute", entries), chain.find("dispute", entries)
    entry["op"].update(actor=dispute["op"]["actor"], outcome="cancelled")
    chain.resign(entry, chain.keys[dispute["sigs"][0]["key"]])


def _stay_frozen(chain: Chain, entries: list[dict[str, Any]]) -> None:
    entries.remove(chain.find("unfreeze", entries))
    _renumber(entries)


def _end_without_notice(chain: Chain, entries: list[dict[str, Any]]) -> None:
    entry = chain.find("end_agreement", entries)
    entry["op"]["ends"] = format_time(parse_time(entry["time"]) - 1)
    chain.resign(entry)


RELINKED: dict[Forgery, str] = {
    _raise_amount: "SIGNATURE_INVALID",
    _raise_amount_signed_by_another: "SIGNATURE_MISSING",
    _claim_signature_of_another: "SIGNATURE_INVALID",
    _sign_with_another_key: "SIGNATURE_MISSING",
    _add_a_stranger_signature: "SIGNATURE_UNEXPECTED",
    _sign_below_threshold: "SIGNATURE_MISSING",
    _drop_signatures: "SIGNATURE_MISSING",
    _drop_posting: "SUM",
    _drop_all_postings: "POSTINGS",
    _raise_points: "POSTINGS",
    _shift_points_to_another_member: "POSTINGS",
    _prolong_lot: "POSTINGS",
    _spend_latest_lot_first: "POSTINGS",
    _expire_the_second_lot_first: "POSTINGS",
    _replay: "REPLAYED",
    _turn_time_back: "TIME",
    _record_after_expiry: "EXPIRED",
    _record_before_it_happened: "AT_IN_FUTURE",
    _skip_number: "SEQ",
    _drop_entry: "UNKNOWN_ACCOUNT",
    _swap_entries: "UNKNOWN_ASSET",
    _drop_genesis: "GENESIS",
    _drop_purchases_whose_points_are_spent: "POSTINGS",
    _sign_for_another_ledger: "WRONG_LEDGER",
    _record_order_twice: "ORDER_EXISTS",
    _grant_twice: "REFERENCE_EXISTS",
    _grant_in_a_closed_program: "PROGRAM_CLOSED",
    _overdraw: "INSUFFICIENT_POINTS",
    _spend_expired_points: "INSUFFICIENT_POINTS",
    _grant_by_a_member: "NOT_PERMITTED",
    _exceed_cap: "SUPPLY_EXCEEDED",
    _smuggle_field: "MALFORMED",
    _write_null: "MALFORMED",
    _write_default: "MALFORMED",
    _name_another_log_key: "MALFORMED",
    _sign_with_a_revoked_key: "SIGNATURE_MISSING",
    _sign_with_one_of_two_keys: "SIGNATURE_MISSING",
    _sign_as_custodian_of_a_claimed_account: "SIGNATURE_MISSING",
    _claim_without_the_custodian: "SIGNATURE_MISSING",
    _claim_without_the_new_key: "SIGNATURE_MISSING",
    _sign_with_a_recovered_key_too_early: "SIGNATURE_MISSING",
    _sign_with_a_lost_key_too_late: "SIGNATURE_MISSING",
    _record_a_recovered_key_a_millisecond_early: "SIGNATURE_MISSING",
    _write_the_usual_delay: "MALFORMED",
    _drop_the_cancellation: "SIGNATURE_MISSING",
    _cancel_twice: "NO_RECOVERY",
    _cancel_for_another: "NOT_PERMITTED",
    _recover_twice: "RECOVERY_PENDING",
    _recover_by_a_merchant: "NOT_PERMITTED",
    _replace_the_log_key_by_a_merchant: "NOT_PERMITTED",
    _go_back_to_the_first_log_key: "LOG_KEY_USED",
    _replace_the_log_key_by_one_of_another_name: "MALFORMED",
    _found_twice: "GENESIS",
    _post_to_a_stranger: "MALFORMED",
    _agree_alone: "SIGNATURE_MISSING",
    _exchange_for_more: "POSTINGS",
    _forget_the_fee: "POSTINGS",
    _owe_the_other_way: "POSTINGS",
    _give_more_than_was_allotted: "ALLOTMENT_USED_UP",
    _capture_more_than_is_held: "HOLD_EXCEEDED",
    _keep_lapsed_points_on_hold: "POSTINGS",
    _refund_more_than_was_spent: "REFUND_TOO_LARGE",
    _refund_by_another: "UNKNOWN_ORIGINAL",
    _net_a_cent_less: "NETTING_MISMATCH",
    _settle_a_cent_more: "SETTLED_TOO_MUCH",
    _cancel_without_the_creditor: "NOT_PERMITTED",
    _stay_frozen: "ACCOUNT_FROZEN",
    _end_without_notice: "NOTICE_TOO_SHORT",
}

NEEDS_NO_RULES = {"MALFORMED", "SUM", "SEQ", "TIME", "GENESIS", "WRONG_LEDGER", "SIGNATURE_INVALID"}
"""What this light verifier refuses as well: all steps of section 12 but 6, 8 and 10."""

OF_THE_LOG: dict[Forgery, str] = {
    _record_before_it_happened: "AT_IN_FUTURE",
    _replace_the_log_key_by_a_merchant: "UNKNOWN_ACCOUNT",
    _go_back_to_the_first_log_key: "LOG_KEY_USED",
}
"""What it refuses by the rules of the entries that say which key signs the log: it knows the operator only."""


@pytest.mark.parametrize("forge", RELINKED, ids=lambda forge: forge.__name__.lstrip("_"))
def test_forgery_with_fitting_hashes_and_checkpoint_is_refused(chain: Chain, forge: Forgery) -> None:
    """The operator itself cheats: links, root and checkpoint all fit what was forged."""
    entries = chain.entries()
    forge(chain, entries)
    data, checkpoint = chain.relinked(entries)
    assert refusal(chain, data, checkpoint) == RELINKED[forge]
    expected = RELINKED[forge] if RELINKED[forge] in NEEDS_NO_RULES else ""
    assert refusal(chain, data, checkpoint, light=True) == OF_THE_LOG.get(forge, expected)


@pytest.mark.parametrize("seq", [0, 1, 7, -2, -1])
def test_changed_byte_breaks_the_chain_or_the_root(chain: Chain, seq: int) -> None:
    data = list(chain.data)
    entry = json.loads(data[seq])
    entry["time"] = entry["time"][:-2] + "9Z"
    data[seq] = reference.encode(entry)
    assert refusal(chain, data, chain.checkpoint) == ("ROOT" if seq == -1 else "PREV")


def test_swapped_entries_are_refused(chain: Chain) -> None:
    data = list(chain.data)
    data[5], data[6] = data[6], data[5]
    assert refusal(chain, data, chain.checkpoint) == "SEQ"


def test_wrong_prev_is_refused(chain: Chain) -> None:
    entry = json.loads(chain.data[-1])
    data = [*chain.data[:-1], reference.encode({**entry, "prev": "0" * 64})]
    assert refusal(chain, data, chain.signed(data)) == "PREV"


@pytest.mark.parametrize("count", [0, 1, 10])
def test_cut_off_chain_is_refused(chain: Chain, count: int) -> None:
    expected = "SIZE" if count else "GENESIS"
    assert refusal(chain, chain.data[:count], chain.checkpoint) == expected


def test_entry_in_other_bytes_of_the_same_value_is_refused(chain: Chain) -> None:
    loose = [*chain.data[:-1], json.dumps(json.loads(chain.data[-1])).encode()]
    assert refusal(chain, loose, chain.signed(loose)) == "NOT_CANONICAL"
    unsorted = [*chain.data[:-1], chain.data[-1].replace(b'{"op":', b'{"seq":0,"op":', 1)]
    assert refusal(chain, unsorted, chain.signed(unsorted)) == "NOT_CANONICAL"


def _change_root(note: str) -> str:
    lines = note.split("\n")
    lines[2] = base64.b64encode(bytes(32)).decode()
    return "\n".join(lines)


CHECKPOINTS: dict[str, tuple[Callable[[Chain], str], str]] = {
    "wrong root, truly signed": (lambda chain: _sign_root(chain, bytes(32)), "ROOT"),
    "root changed under the signature": (lambda chain: _change_root(chain.checkpoint), "CHECKPOINT"),
    "size changed under the signature": (
        lambda chain: chain.checkpoint.replace(f"\n{len(chain.data)}\n", "\n1\n"),
        "CHECKPOINT",
    ),
    "signed by a replaced log key only": (lambda chain: chain.signed(chain.data, chain.log), "CHECKPOINT"),
    "signed by a log key in force that is not known": (
        lambda chain: chain.signed(chain.data, chain.next_log),
        "CHECKPOINT",
    ),
    "signed by a key of a merchant": (
        lambda chain: chain.signed(chain.data, next(iter(chain.keys.values()))),
        "CHECKPOINT",
    ),
    "of another ledger": (lambda chain: chain.signed(chain.data, origin="ledger.example/else"), "CHECKPOINT"),
    "signed by no key": (lambda chain: chain.checkpoint.rpartition("\n\n")[0] + "\n\n", "CHECKPOINT"),
    "of a smaller tree": (lambda chain: chain.signed(chain.data[:-1]), "SIZE"),
    "with an extension line": (lambda chain: chain.checkpoint.replace("\n\n", "\nmore\n\n"), "CHECKPOINT"),
    "with a carriage return": (lambda chain: chain.checkpoint.replace("\n", "\r\n"), "CHECKPOINT"),
    "cut off": (lambda chain: chain.checkpoint[:-1], "CHECKPOINT"),
    "signature cut off": (lambda chain: chain.checkpoint[:-5] + "\n", "CHECKPOINT"),
}


def _sign_root(chain: Chain, root: bytes) -> str:
    checkpoint = Checkpoint(origin=chain.origin, size=len(chain.data), root=root)
    return sign_checkpoint(checkpoint, chain.next_log, chain.log)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_forged_checkpoint_is_refused(chain: Chain, name: str) -> None:
    make, expected = CHECKPOINTS[name]
    note = make(chain)
    assert note != chain.checkpoint
    assert refusal(chain, chain.data, note) == refusal(chain, chain.data, note, light=True) == expected


def test_signatures_of_unknown_keys_on_a_checkpoint_are_ignored(chain: Chain) -> None:
    witness = sign_checkpoint(Checkpoint(origin="witness", size=1, root=bytes(32)), next(iter(chain.keys.values())))
    assert refusal(chain, chain.data, chain.checkpoint + witness.rpartition("\n\n")[2]) == ""


def test_another_ledger_in_this_ones_place_is_refused(chain: Chain) -> None:
    known = encode_verifier_key(chain.origin, next(iter(chain.keys.values())))
    assert refusal(chain, chain.data, chain.checkpoint, known) == "LOG_KEY"


def test_ledger_that_only_names_anothers_log_key_is_refused(chain: Chain) -> None:
    """Its genesis says so, its operator moves on to another key, which signs: the key that is known never did."""
    entries = [entry for entry in chain.entries() if entry["op"]["kind"] in ("genesis", "replace_log_key")]
    _renumber(entries)
    data, _ = chain.relinked(entries)
    note = chain.signed(data, chain.next_log)
    assert refusal(chain, data, note, encode_verifier_key(chain.origin, chain.next_log)) == ""
    assert refusal(chain, data, note) == refusal(chain, data, note, light=True) == "CHECKPOINT"


def test_replaced_log_key_may_sign_or_not_but_not_wrongly(chain: Chain) -> None:
    """Who knows the key in force needs no other line; a line of a key that the entries name must be that key's."""
    new = encode_verifier_key(chain.origin, chain.next_log)
    note = chain.signed(chain.data, chain.next_log)
    assert refusal(chain, chain.data, note, new) == ""
    forged = sign_checkpoint(Checkpoint(origin=chain.origin, size=1, root=bytes(32)), chain.log)
    assert refusal(chain, chain.data, note + forged.rpartition("\n\n")[2], new) == "CHECKPOINT"


# The reference verifier and the rules decide alike.

START = "2026-01-30T12:00:00.000Z"
ZONES = ("UTC", "Europe/Berlin", "Asia/Tokyo", "America/New_York")


class Twins:
    """The package's state and the reference's, fed the same random operations."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.state = State("ledger.example/twins")
        self.replica = reference.Replica("ledger.example/twins")
        self.now = parse_time(START)
        self.keys: dict[str, Ed25519PrivateKey] = {encode_public_key(key): key for key in map(self._key, range(6))}
        self.names = list(self.keys)
        self.opened: list[str] = []
        self.roles: dict[str, list[str]] = {}
        self.prev, self.size = FIRST_PREV, 0
        self.decided: dict[str, int] = {}
        self.mistakes = True
        self.references = [f"r{i}" for i in range(400)]

    def _key(self, _: int) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.random.randbytes(32))

    def found(self) -> None:
        self.step(
            Genesis,
            [self.names[0]],
            clock_tolerance_ms=1_000,
            currencies=(Currency(code="USD", scale=2), Currency(code="JPY", scale=0)),
            keys=(self.names[0],),
            log_key=encode_verifier_key(self.state.origin, self.keys[self.names[0]]),
            name="Twins",
            recovery_delay_ms=self.random.choice([None, 3 * 86_400_000]),
        )

    def step(self, kind: type[Operation], signers: list[str], **fields: Any) -> None:
        """Decide one operation by both, compare, and apply it to both when it is admitted."""
        time = format_time(self.now)
        fields.setdefault("at", time)
        if self.random.random() < 0.02 and self.mistakes:
            fields["expires"] = format_time(self.now - 1)
        nonce = base64.urlsafe_b64encode(self.random.randbytes(16)).decode().rstrip("=")
        ledger = "ledger.example/else" if self.random.random() < 0.01 and self.mistakes else self.state.origin
        op = kind(guerdon=1, ledger=ledger, nonce=nonce, **fields)
        try:
            signed = sign_operation(op, [self.keys[name] for name in signers])
        except operations.MalformedError:
            self._count("MALFORMED")
            plain = json.loads(operations.encode_operation(op))
            with pytest.raises(reference.RefusedError, match=r"MALFORMED|NOT_CANONICAL"):
                reference.check_operation(plain)
            return
        decision = admit(self.state, signed, time)
        plain = reference.decode(signed.op_bytes)
        reference.check_operation(plain)
        postings, code = self._decide_by_reference(plain, set(signers), time)
        if isinstance(decision, Rejection):
            assert decision.code == code, (decision, plain)
            self._count(code)
            return
        assert code == "", (code, plain)
        self._record(signed, plain, decision, postings, time)

    def _decide_by_reference(self, plain: Any, signers: set[str], time: str) -> tuple[list[Any], str]:
        try:
            return self.replica.decide(plain, signers, time), ""
        except reference.RefusedError as error:
            return [], error.code

    def _record(self, signed: SignedOperation, plain: Any, decision: Admission, postings: list[Any], time: str) -> None:
        data = encode_entry(signed, decision.postings, seq=self.size, prev=self.prev, time=time)
        assert reference.decode(data)["postings"] == postings
        reference.ENTRY(reference.decode(data))
        reference.check_sums(postings)
        seq = self.size
        self.prev, self.size = leaf_hash(data), seq + 1
        apply(self.state, signed, decision, seq)
        self.replica.apply(plain, signed.op_id, postings, seq=seq, time=time)
        self._count(signed.op.KIND)
        if isinstance(signed.op, (OpenAccount, Genesis)):
            opened = (
                operator_account(signed.op, signed.op_id)
                if isinstance(signed.op, Genesis)
                else opened_account(signed.op, signed.op_id, seq)
            )
            self.opened.append(opened.id)
            self.roles.setdefault(opened.role, []).append(opened.id)

    def _count(self, what: str) -> None:
        self.decided[what] = self.decided.get(what, 0) + 1

    def account(self, *roles: str) -> str:
        """Mostly an account of these roles, sometimes another one or none at all."""
        known = [account for role in roles for account in self.roles.get(role, [])]
        if self.random.random() < 0.1 or not known:
            return self.random.choice([*self.opened, "mem_" + "a" * 26])
        return self.random.choice(known)

    def signers(self, *accounts: str) -> list[str]:
        """Mostly the keys that act for these accounts now, sometimes fewer or more."""
        names = {name for account in accounts for name in self.acting_for(account)}
        if self.random.random() < 0.05 and names:
            names.pop()
        if self.random.random() < 0.05:
            names.add(self.random.choice(self.names))
        return sorted(names)

    def acting_for(self, account: str) -> tuple[str, ...]:
        """The keys that act for an account now; both must say the same of every account."""
        if account not in self.state.accounts:
            return ()
        time = format_time(self.now)
        authority = rules.authority_of(self.state, self.state.accounts[account], time)
        assert (list(authority.keys), authority.threshold) == self.replica.acting_for(account, time)
        return authority.keys

    def asset(self) -> str:
        return self.random.choice(["STAR", "MOON", "DUST", "USD"] if self.random.random() < 0.1 else ["STAR", "MOON"])

    def issuer_of(self, asset: str) -> str:
        if asset in self.state.assets and self.random.random() < 0.95:
            return self.state.assets[asset].issuer
        return self.account("merchant")

    def moment(self) -> str:
        """A time around now: mostly before, sometimes too far ahead."""
        return format_time(self.now + self.random.choice([-86_400_000 * 20, -86_400_000, -1, 0, 999, 1_000, 1_001]))

    def open_account(self) -> None:
        role = self.random.choice(["member", "member", "merchant", "beneficiary", "auditor"])
        keys = tuple(self.random.sample(self.names, self.random.choice([0, 1, 1, 3])))
        sponsor = self.account("merchant" if role == "member" else "operator") if self.random.random() < 0.8 else None
        fields = {"threshold": self.random.choice([1, 2])} if len(keys) > 1 or self.random.random() < 0.05 else {}
        named = {"name": "Name"} if (role != "member") != (self.random.random() < 0.05) else {}
        accounts = [sponsor] if sponsor else []
        signers = sorted({*self.signers(*accounts), *keys})
        self.step(OpenAccount, signers, role=role, keys=keys, actor=sponsor, **fields, **named)

    def define_asset(self) -> None:
        actor = self.account("merchant")
        value = Value(amount=1, currency=self.random.choice(["USD", "USD", "EUR"]), points=1)
        self.step(
            DefineAsset,
            self.signers(actor),
            actor=actor,
            asset=self.asset(),
            name="Points",
            scale=0,
            supply_cap=self.random.choice([None, 20_000, 2**53 - 1]),
            transferable=self.random.random() < 0.8,
            value=self.random.choice([None, value]),
        )

    def publish_program(self) -> None:
        asset = self.asset()
        actor = self.issuer_of(asset)
        random_ = self.random
        starts = sorted(random_.sample([0, 100, 5_000, 5_000, 10_000], random_.choice([1, 2, 3])))
        bands = tuple(
            Band(from_amount=a, points=random_.choice([0, 1, 2, 7]), per=random_.choice([1, 3, 100, 200]))
            for a in starts
        )
        expiries = [NeverExpires(), ExpiresAfterDays(count=0), ExpiresAfterDays(count=9), ExpiresAfterMonths(count=1)]
        begin = self.now + random_.choice([-86_400_000, -1_000, -1_001, 0, 86_400_000])
        self.step(
            PublishProgram,
            self.signers(actor),
            actor=actor,
            asset=asset,
            version=len(self.state.programs.get(asset, ())) + (random_.random() < 0.95),
            starts=format_time(begin),
            ends=random_.choice([None, None, format_time(begin + random_.choice([0, 86_400_000]))]),
            program=make_program(
                bands=bands,
                currency=random_.choice(["USD", "USD", "USD", "JPY", "EUR"]),
                expiry=random_.choice([*expiries, ExpiresAtYearEnd(count=0)]),
                grants=(GrantRule(activity="goodwill", max_points=random_.choice([10, 500])),),
                round_amount=random_.choice(["none", "whole_units"]),
                round_points=random_.choice(["down", "half_up", "half_even", "up"]),
                time_zone=random_.choice(ZONES),
            ),
        )

    def record_purchases(self) -> None:
        asset = self.asset()
        actor = self.issuer_of(asset)
        purchases = tuple(
            Purchase(
                amount=self.random.choice([0, 99, 2**53 - 1, *(self.random.randrange(30_000) for _ in range(8))]),
                at=self.moment(),
                member=self.account("member"),
                order=self.random.choice(self.references),
            )
            for _ in range(self.random.choice([1, 1, 2]))
        )
        currency = self.random.choice(["USD"] * 9 + ["JPY"])
        self.step(
            RecordPurchases, self.signers(actor), actor=actor, asset=asset, currency=currency, purchases=purchases
        )

    def grant(self) -> None:
        asset = self.asset()
        actor = self.issuer_of(asset)
        self.step(
            Grant,
            self.signers(actor),
            actor=actor,
            asset=asset,
            activity=self.random.choice(["goodwill"] * 9 + ["birthday"]),
            amount=self.random.choice([1, 10, 11, 500, 501]),
            at=self.moment(),
            member=self.account("member"),
            reference=self.random.choice(self.references),
        )

    def transfer(self) -> None:
        actor = self.account("member", "merchant", "beneficiary")
        recipients = tuple(
            Recipient(
                amount=self.random.choice([*range(1, 60), 2**53 - 1]),
                to=self.account("member", "merchant", "beneficiary"),
            )
            for _ in range(self.random.choice([1, 1, 2, 4]))
        )
        self.step(Transfer, self.signers(actor), actor=actor, asset=self.asset(), recipients=recipients)

    def redeem(self) -> None:
        actor = self.account("member", "merchant", "beneficiary")
        asset = self.asset()
        amount = self.random.randrange(1, 90)
        merchant = self.issuer_of(asset) if self.random.random() < 0.9 else self.account("merchant")
        self.step(Redeem, self.signers(actor), actor=actor, asset=asset, amount=amount, merchant=merchant)

    def expire(self) -> None:
        asset = self.asset()
        actor = self.random.choice([self.issuer_of(asset), self.account("operator")])
        through = format_time(self.now - self.random.choice([0, 1, 2, 5]) * 86_400_000)[:10]
        limit = self.random.choice([1, 3, 400])
        self.step(Expire, self.signers(actor), actor=actor, asset=asset, limit=limit, through=through)

    def replace_keys(self) -> None:
        actor = self.account("member", "merchant", "beneficiary", "auditor", "operator")
        keys = self.new_keys()
        self.step(ReplaceKeys, self.with_keys(self.signers(actor), keys["keys"]), actor=actor, **keys)

    def recover_keys(self) -> None:
        actor = self.account("operator")
        keys = self.new_keys()
        account = self.account("member", "merchant", "beneficiary", "auditor")
        signers = self.with_keys(self.signers(actor), keys["keys"])
        self.step(RecoverKeys, signers, account=account, actor=actor, **keys)

    def cancel_recovery(self) -> None:
        pending = [name for name in self.opened if self.state.accounts[name].recovery is not None]
        account = self.random.choice(pending) if pending else self.account("member")
        actor = self.random.choice([account, account, self.account("operator")])
        self.step(CancelRecovery, self.signers(actor), account=account, actor=actor)

    def replace_log_key(self) -> None:
        actor = self.account("operator")
        key = self.random.choice([self.keys[self.random.choice(self.names)], self._key(0)])
        name = self.random.choice(["ledger.example/twins"] * 3 + ["ledger.example/else"])
        self.step(ReplaceLogKey, self.signers(actor), actor=actor, log_key=encode_verifier_key(name, key))
        for size in (1, self.size):
            assert rules.log_key_for(self.state.log_keys, size) == self.replica.log_key_for(size)

    def new_keys(self) -> dict[str, Any]:
        keys = tuple(self.random.sample(self.names, self.random.choice([1, 1, 2, 3])))
        return {"keys": keys} | ({"threshold": self.random.choice([1, 2])} if len(keys) > 1 else {})

    def with_keys(self, signers: list[str], keys: tuple[str, ...]) -> list[str]:
        """Signers and new keys, of which sometimes one is left out."""
        names = {*signers, *keys}
        if self.random.random() < 0.1:
            names.discard(keys[-1])
        return sorted(names)

    def play(self, steps: int) -> None:
        moves = [self.open_account] * 2 + [self.record_purchases, self.grant, self.transfer, self.redeem] * 5
        moves += [self.expire] * 3 + [self.define_asset, self.publish_program, self.found, self.replace_log_key]
        moves += [self.replace_keys, self.recover_keys, self.cancel_recovery] * 2
        self.found()
        for _ in range(10):
            self.open_account()
            self.define_asset()
            self.publish_program()
        for _ in range(steps):
            self.now += self.random.choice([0, 0, 1, 3_600_000, 36_000_000])
            self.random.choice(moves)()


PERIODS: tuple[terms.Period, ...] = ("day", "month", "year", "ever")
MODES: tuple[terms.Rounding, ...] = ("down", "half_up", "half_even", "up")
SOON = (-1, 0, 1, 3_600_000, 100_000_000, 366 * 86_400_000, 366 * 86_400_000 + 1)


class PartnerTwins(Twins):
    """Twins of few accounts that exchange, accept, hold, refund and clear; of all that exists, mostly what fits."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.assets = ["AAA", "BBB", "CCC"]
        self.spent: dict[str, Any] = {}

    def begin(self) -> None:
        """Accounts and assets that both have whatever the seed."""
        self.mistakes = False
        self.found()
        operator = self.roles["operator"][0]
        for role, keys, fields in (
            ("merchant", self.names[:3], {"approval_threshold": 2}),
            ("merchant", self.names[1:3], {"threshold": 2}),
            ("merchant", self.names[3:4], {}),
            ("beneficiary", self.names[4:5], {}),
            ("auditor", self.names[4:5], {}),
        ):
            named = {"actor": operator, "name": "Name", "keys": tuple(keys), **fields}
            self.step(OpenAccount, sorted({self.names[0], *keys}), role=role, **named)
        for name in self.names[2:5]:
            self.step(OpenAccount, [name], role="member", keys=(name,))
        custodian = self.roles["merchant"][0]
        self.step(OpenAccount, self.names[:1], role="member", actor=custodian)
        for asset, issuer in zip(self.assets, self.roles["merchant"], strict=True):
            transfers = TransferTerms(
                fee=self.fee(),
                in_cap=self.cap(),
                maximum=150,
                minimum=self.random.choice([1, 10]),
                out_cap=self.cap(),
                step=self.random.choice([1, 5]),
            )
            self.step(
                DefineAsset,
                self.signing(issuer),
                actor=issuer,
                asset=asset,
                name="Points",
                scale=0,
                supply_cap=self.random.choice([None, 6_000]),
                transferable=True,
                transfer_terms=self.random.choice([None, transfers]),
                value=self.random.choice([None, Value(amount=3, currency="USD", points=2)]),
            )
            self.publish(asset, issuer)
        self.mistakes = True

    def publish(self, asset: str, issuer: str) -> None:
        expiries = [NeverExpires(), ExpiresAfterDays(count=2), ExpiresAfterDays(count=9), ExpiresAfterMonths(count=1)]
        versions = self.state.programs.get(asset, ())
        self.step(
            PublishProgram,
            self.signing(issuer),
            actor=issuer,
            asset=asset,
            version=len(versions) + 1,
            starts=format_time(self.now - (0 if versions else 86_400_000)),
            program=make_program(
                approval_above=self.random.choice([None, 150]),
                bands=(Band(from_amount=0, points=self.random.choice([1, 3]), per=100),),
                expiry=self.random.choice(expiries),
                grants=(GrantRule(activity="goodwill", max_points=500),),
                refunds=self.random.choice(["cap", "negative", "owe"]),
                returned_lot_days=self.random.choice([0, 5]),
                round_amount="none",
                time_zone=versions[0].program.time_zone if versions else self.random.choice(ZONES),
            ),
        )

    def signing(self, *accounts: str) -> list[str]:
        """All keys that act for these accounts."""
        return sorted({name for account in accounts for name in self.acting_for(account)})

    def signers(self, *accounts: str) -> list[str]:
        """Sometimes no more keys than act for each account without approval."""
        if self.random.random() < 0.9:
            return super().signers(*accounts)
        known = [self.replica.acting_for(name, format_time(self.now)) for name in accounts if name in self.opened]
        return sorted({key for keys, threshold in known for key in keys[:threshold]})

    def some(self, value: Any) -> Any:
        """A value, or nothing."""
        return value if self.random.random() < 0.4 else None

    def currency(self) -> str:
        return self.random.choice(["USD"] * 30 + ["JPY"] * 10 + ["EUR"])

    def money_terms(self) -> Any:
        points, amount = self.random.choice([1, 3, 100]), self.random.choice([1, 2, 7] * 10 + [2**53 - 1])
        return {"amount": amount, "currency": self.currency(), "points": points, "round": self.random.choice(MODES)}

    def fee(self) -> Fee | None:
        fields: Any = {**self.money_terms(), "currency": "USD", "amount": self.random.choice([0, 1, 2])}
        fee = Fee(**fields, fixed=self.random.choice([0, 5]), maximum=self.random.choice([None, 30]))
        return fee if self.random.random() < 0.4 else None

    def cap(self) -> Cap | None:
        cap = Cap(period=self.random.choice(PERIODS), points=self.random.choice([100, 400, 2_000]))
        return cap if self.random.random() < 0.4 else None

    def claim(self, *parties: str) -> ClaimTerms:
        return ClaimTerms(**self.money_terms(), debtor=self.random.choice(parties))

    def bounds(self) -> dict[str, Any]:
        found = {"holder_cap": self.cap(), "total_cap": self.cap(), "maximum": self.random.choice([None, 60])}
        return found | {"minimum": self.random.choice([1, 1, 10]), "step": self.random.choice([1, 1, 5])}

    def agree(self) -> None:
        asset, into = self.random.sample(self.assets, 2)
        actor, partner = self.issuer_of(asset), self.issuer_of(into)
        kind = self.random.choice(["exchange", "exchange", "acceptance", "earning"])
        if kind == "acceptance":
            partner = self.account("merchant", "merchant", "beneficiary")
        terms_ = self.terms_of(kind, asset, into, actor, partner)
        name = reference.agreement_name(json.loads(encode_canonical(terms_)), partner)
        starts = self.now + self.random.choice([-1_001, -1_000, 0, 0, 0, 0, 100_000_000])
        ends = self.some(starts + self.random.choice([1, 1_000_000_000]))
        self.step(
            Agree,
            self.signers(actor, partner),
            actor=actor,
            ends=ends and format_time(ends),
            notice_days=self.random.choice([0, 1]),
            partner=partner,
            starts=format_time(starts),
            terms=terms_,
            version=len(self.replica.agreements.get(name, [])) + (self.random.random() < 0.95),
        )

    def terms_of(self, kind: str, asset: str, into: str, *parties: str) -> terms.Terms:
        received: Any = self.random.choice(["kept", "retired"])
        billing: Any = self.random.choice(["postpaid", "prepaid"])
        again = (billing == "postpaid") if kind == "earning" else (received == "kept")
        claim, bounds = self.claim(*(parties[1:] if again else parties)), self.bounds()
        if kind == "acceptance":
            return AcceptanceTerms(asset=asset, claim=self.some(claim), received=received, **bounds)
        if kind == "earning":
            return EarningTerms(asset=asset, billing=billing, claim=claim, total_cap=self.cap())
        get, give = self.random.choice([(1, 1), (1, 2), (3, 4), (2, 3), (2, 3), (4, 3)])
        fee, keeper, off_step = self.fee(), self.random.choice(parties), self.random.choice(["refuse", "down"])
        fields: Any = {name: getattr(fee, name) for name in Fee.__struct_fields__} if fee else {}
        return ExchangeTerms(
            asset=asset,
            into=into if self.random.random() < 0.97 else "DUST",
            bonus=self.some(Bonus(block=20, points=1)),
            claim=self.some(claim),
            fee=KeptFee(kept_by=keeper, **fields) if fields else None,
            off_step="down" if off_step == "down" and bounds["step"] > 1 else "refuse",
            rate=Rate(get=get, give=give),
            received=received,
            **bounds,
        )

    def agreement(self, *types: str) -> dict[str, Any] | None:
        """The last version of an agreement, of one of these types."""
        found = [v[-1] for v in self.replica.agreements.values() if v[-1]["terms"]["type"] in types]
        return self.random.choice(found) if found else None

    def end_agreement(self) -> None:
        if version := self.agreement("exchange", "acceptance", "earning"):
            name = reference.agreement_name(version["terms"], version["partner"])
            actor = self.random.choice([version["actor"], version["partner"], self.account("merchant")])
            ends = format_time(self.now + self.random.choice([0, 86_399_999, 86_400_000, 2_000_000_000]))
            name = name if self.random.random() < 0.9 else "DUST>AAA"
            self.step(EndAgreement, self.signers(actor), actor=actor, agreement=name, ends=ends)

    def allot(self) -> None:
        version = self.agreement("earning")
        asset = version["terms"]["asset"] if version else self.asset_code()
        actor, partner = self.issuer_of(asset), version["partner"] if version else self.account("merchant")
        points = self.random.choice([100, 500, 1_000, 2**53 - 1])
        number = self.random.choice(self.references)
        both = {"actor": actor, "partner": partner}
        self.step(Allot, self.signers(actor, partner), **both, asset=asset, points=points, reference=number)

    def asset_code(self) -> str:
        return self.random.choice(self.assets * 10 + ["DUST"])

    def earner(self, asset: str) -> str:
        """The issuer of an asset, or a partner that may give it."""
        partners = [versions[-1]["partner"] for name, versions in self.replica.agreements.items() if name[3] == "+"]
        chosen: str = self.random.choice([self.issuer_of(asset), *partners])
        return chosen

    def record_purchases(self) -> None:
        asset = self.asset_code()
        actor = self.earner(asset)
        orders = self.random.sample(self.references, self.random.choice([1, 1, 3]))
        purchases = tuple(
            Purchase(amount=self.random.randrange(20_000), at=self.moment(), member=self.account("member"), order=order)
            for order in orders
        )
        sale = {"actor": actor, "asset": asset, "currency": "USD"}
        self.step(RecordPurchases, self.signers(actor), **sale, purchases=purchases)

    def grant(self) -> None:
        asset = self.asset_code()
        actor, member, number = self.earner(asset), self.account("member"), self.random.choice(self.references)
        amount = self.random.choice([10, 60, 150, 151, 500])
        what = {"activity": "goodwill", "at": self.moment(), "reference": number}
        self.step(Grant, self.signers(actor), actor=actor, asset=asset, amount=amount, member=member, **what)

    def correct(self) -> None:
        asset = self.asset_code()
        actor, member, number = self.issuer_of(asset), self.account("member"), self.random.choice(self.references)
        amount = self.random.choice([-151, -150, -30, 30, 150, 151])
        what = {"asset": asset, "member": member, "reason": "other", "reference": number}
        self.step(Correct, self.signers(actor), actor=actor, amount=amount, **what)

    def holder(self) -> str:
        return self.account("member", "member", "member", "merchant", "beneficiary")

    def amount(self) -> int:
        return self.random.choice([1, 3, 5, 10, 15, 20, 25, 40, 55, 60, 65, 100])

    def transfer(self) -> None:
        actor = self.holder()
        others = [account for account in self.roles["member"] + self.roles["merchant"] if account != actor]
        chosen = self.random.sample(others, self.random.choice([1, 2]))
        recipients = tuple(Recipient(amount=self.amount(), to=account) for account in chosen)
        limit = self.random.choice([0, 10, 1_000])
        what = {"asset": self.asset_code(), "maximum_fee": limit, "recipients": recipients}
        self.step(Transfer, self.signers(actor), actor=actor, **what)

    def merchant_for(self, asset: str) -> str:
        """Who takes points of an asset, or somebody else."""
        found = [v[-1]["partner"] for name, v in self.replica.agreements.items() if name.startswith(asset + "@")]
        chosen: str = self.random.choice([self.issuer_of(asset), *found, *found, self.account("merchant")])
        return chosen

    def redeem(self) -> None:
        actor, asset = self.holder(), self.asset_code()
        what = {"asset": asset, "amount": self.amount(), "merchant": self.merchant_for(asset)}
        self.step(Redeem, self.signers(actor), actor=actor, **what)

    def hold(self) -> None:
        actor, asset = self.holder(), self.asset_code()
        what = {"asset": asset, "amount": self.amount(), "merchant": self.merchant_for(asset)}
        until = format_time(self.now + self.random.choice(SOON))
        self.step(Hold, self.signers(actor), actor=actor, **what, until=until)

    def exchange(self) -> None:
        actor, version = self.holder(), self.agreement("exchange")
        pair = [version["terms"][name] for name in ("asset", "into")] if version else self.random.sample(self.assets, 2)
        if self.random.random() < 0.05:
            pair = [*self.random.sample(self.assets, 1), "DUST"]
        limits = {"maximum_fee": self.random.choice([0, 10, 100]), "minimum_out": self.random.choice([1, 1, 1, 30])}
        what = {"amount": self.amount(), "asset": pair[0], "into": pair[1]}
        self.step(Exchange, self.signers(actor), actor=actor, **what, **limits)

    def held(self) -> tuple[str, dict[str, Any]] | None:
        """The id of a hold, mostly of one that is open, and the hold."""
        found = list(self.replica.holds.items())
        still = [(name, hold) for name, hold in found if hold["status"] == "open"]
        return self.random.choice(self.random.choice([still, found]) or found) if found else None

    def capture(self) -> None:
        if found := self.held():
            name, hold = found
            actor = self.random.choice([hold["merchant"]] * 9 + [self.account("merchant")])
            final = self.random.random() < 0.3
            self.step(Capture, self.signers(actor), actor=actor, amount=self.amount(), final=final, hold=name)

    def release(self) -> None:
        if found := self.held():
            name, hold = found
            actor = self.random.choice([hold["merchant"], hold["holder"]])
            name = name if self.random.random() < 0.95 else "hld_" + "a" * 26
            self.step(Release, self.signers(actor), actor=actor, hold=name)

    def refund(self) -> None:
        bought, spent = list(self.replica.purchases.items()), list(self.replica.spendings.items())
        number = self.random.choice(self.references)
        if bought and self.random.random() < 0.4:
            (actor, order), original = self.random.choice(bought)
            left = original["amount"] - sum(original["refunded"])
            amount = self.random.choice([1, left, left + 1, max(left // 3, 1)])
            of: Any = RefundedPurchase(amount=max(amount, 1), order=order)
        elif spent:
            op_id, original = self.random.choice(spent)
            actor, left = original["merchant"], original["amount"] - original["refunded"]
            kind = RefundedExchange if original["kind"] == "exchange" else RefundedRedemption
            if self.random.random() < 0.05:
                kind = RefundedExchange if kind is RefundedRedemption else RefundedRedemption
            of = kind(amount=max(self.random.choice([1, left, left + 1, max(left // 3, 1)]), 1), operation=op_id)
        else:
            return
        asset = original["asset"] if self.random.random() < 0.95 else self.asset_code()
        self.step(Refund, self.signers(actor), actor=actor, asset=asset, of=of, reference=number)

    def expire(self) -> None:
        actor, asset = self.account("operator"), self.asset_code()
        through = format_time(self.now - self.random.choice([0, 1, 2, 5]) * 86_400_000)[:10]
        self.step(Expire, self.signers(actor), actor=actor, asset=asset, limit=3, through=through)

    def net(self) -> None:
        operator, currency = self.account("operator"), self.currency()
        known = [*self.roles["merchant"], *self.roles["beneficiary"]]
        merchants = tuple(self.random.sample(known, self.random.choice([2, 3, 4])))
        if self.random.random() < 0.05:
            merchants = (*merchants, self.roles["member"][0])
        through = format_time(self.now + self.random.choice([-2, -1, 0, 0, 1]) * 86_400_000)[:10]
        position = dict.fromkeys(merchants, 0)
        for (code, debtor, creditor, netting, day), amount in self.replica.obligations.items():
            if code == currency and {debtor, creditor} <= set(merchants) and netting == -1 and day <= through:
                position[debtor] -= amount
                position[creditor] += amount
        payments = []
        while any(position.values()):
            debtor, creditor = min(position, key=position.__getitem__), max(position, key=position.__getitem__)
            amount = min(-position[debtor], position[creditor], 2**53 - 1)
            position[debtor] += amount
            position[creditor] -= amount
            payments.append(Payment(amount=amount, creditor=creditor, debtor=debtor))
        if payments and self.random.random() < 0.15:
            payments.pop()
        what = {"currency": currency, "merchants": merchants, "payments": tuple(payments), "through": through}
        self.step(Net, self.signers(operator), actor=operator, **what)

    def settle(self) -> None:
        owed = list(self.replica.obligations.items())
        if owed:
            (currency, debtor, creditor, _, _), amount = self.random.choice(owed)
            amount = min(self.random.choice([1, amount, amount + 1, 2 * amount]), 2**53 - 1)
            debtor = debtor if self.random.random() < 0.95 else self.account("member")
            currency = currency if self.random.random() < 0.95 else "EUR"
            what = {"currency": currency, "debtor": debtor, "payment": self.random.choice(self.references)}
            self.step(Settle, self.signers(creditor), actor=creditor, amount=amount, **what)

    def dispute(self) -> None:
        if self.replica.claims:
            (seq, index), claim = self.random.choice(list(self.replica.claims.items()))
            actor = self.random.choice([claim["debtor"], claim["creditor"], self.account("merchant")])
            name = ClaimRef(index=index + (self.random.random() < 0.05), seq=seq)
            self.step(Dispute, self.signers(actor), actor=actor, claim=name, reason="other")

    def resolve_dispute(self) -> None:
        claims = list(self.replica.claims.items())
        disputed = [item for item in claims if item[1]["status"] == "disputed"]
        if claims:
            (seq, index), claim = self.random.choice(self.random.choice([disputed, disputed, claims]) or claims)
            parties = [claim["debtor"], claim["creditor"], self.account("operator"), self.account("merchant")]
            actor, outcome = self.random.choice(parties), self.random.choice(["cancelled", "stands"])
            claim_ref = ClaimRef(index=index, seq=seq)
            self.step(ResolveDispute, self.signers(actor), actor=actor, claim=claim_ref, outcome=outcome)

    def freeze(self) -> None:
        actor, account = self.account("operator"), self.random.choice([*self.opened, "mem_" + "a" * 26])
        self.step(Freeze, self.signers(actor), account=account, actor=actor, reason="other")

    def unfreeze(self) -> None:
        frozen = [name for name, account in self.replica.accounts.items() if account["frozen"]]
        account = self.random.choice(frozen * 5 + [self.account("member")])
        actor = self.account("operator")
        self.step(Unfreeze, self.signers(actor), account=account, actor=actor, reason="other")

    def another_program(self) -> None:
        asset = self.random.choice(self.assets)
        self.publish(asset, self.state.assets[asset].issuer)

    def play(self, steps: int) -> None:
        moves = [self.record_purchases, self.grant, self.redeem, self.exchange, self.hold, self.capture] * 6
        moves += [self.refund] * 10 + [self.transfer, self.release, self.agree, self.correct] * 3
        moves += [self.settle, self.dispute, self.resolve_dispute, self.unfreeze, self.expire, self.net] * 2
        moves += [self.end_agreement, self.allot, self.freeze, self.another_program]
        self.begin()
        for _ in range(steps):
            self.now += self.random.choice([0, 1, 60_000, 3_600_000, 20_000_000])
            self.random.choice(moves)()
        self.compare()

    def compare(self) -> None:
        """What both know by now, record by record."""
        lots = {(*place, day): n for place, days in self.state.lots.items() for day, n in days.items()}
        assert {(a, b, "~" if day == NO_LAST_DAY else day): n for (a, b, day), n in lots.items()} == self.replica.lots
        owed = {(o.currency, o.debtor, o.creditor, o.netting, o.day): o.amount for o in self.state.obligations}
        assert owed == self.replica.obligations
        claims = {(c.seq, c.index): (c.amount, c.status, c.disputed_by, c.agreement) for c in self.state.claims}
        fields = ("amount", "status", "disputed_by", "agreement")
        of_replica = {key: tuple(claim[name] for name in fields) for key, claim in self.replica.claims.items()}
        assert {key: found[:2] for key, found in claims.items()} == {key: f[:2] for key, f in of_replica.items()}
        assert {key: found[3] for key, found in claims.items()} == {key: f[3] for key, f in of_replica.items()}
        assert {a.agreement: a.remaining for a in self.state.allotments} == self.replica.allotted
        assert {(u.scope, u.account, u.period): u.points for u in self.state.usages} == self.replica.kept["used"]
        holds = {hold.hold: (hold.status, hold.remaining, hold.captured) for hold in self.state.holds}
        assert holds == {
            name: (hold["status"], reference.total_of(hold["parts"]), hold["captured"])
            for name, hold in self.replica.holds.items()
        }
        spendings = {spending.operation: spending.refunded for spending in self.state.spendings}
        assert spendings == {name: spending["refunded"] for name, spending in self.replica.spendings.items()}


def test_reference_verifier_and_rules_decide_alike() -> None:
    """The same postings for what is admitted, the same code for what is refused; all kinds and codes of rules occur."""
    met: set[str] = set()
    for seed in range(4):
        print(f"seed {seed}")
        twins, partners = Twins(seed), PartnerTwins(seed)
        twins.play(1_200)
        partners.play(1_500)
        met |= {*twins.decided, *partners.decided}
    of_bytes_and_services = {"NOT_CANONICAL", "TOO_LARGE", "SIGNATURE_INVALID", "OVERLOADED", "UNAVAILABLE"}
    in_vectors = {"TOO_MANY_HOLDS"}
    of_programs = {kind for kind in operations.KINDS if kind in KINDS_OF_PROGRAMS} | CODES_OF_PROGRAMS
    unmet = {*operations.KINDS, *(code.value for code in Code)} - met - of_programs
    assert unmet == of_bytes_and_services | in_vectors


def test_signature_spelled_with_unused_bits_is_refused(chain: Chain) -> None:
    """The package meets it when it decodes the signature, the reference by the grammar (section 3)."""
    entries = chain.entries()
    item = entries[2]["sigs"][0]
    twin = {"A": "B", "Q": "R", "g": "h", "w": "x"}[item["sig"][-1]]
    message = b"guerdon operation v1\n" + reference.encode(entries[2]["op"])
    assert verify(item["key"], item["sig"], message)
    item["sig"] = item["sig"][:-1] + twin
    assert not verify(item["key"], item["sig"], message)
    assert refusal(chain, *chain.relinked(entries)) == "MALFORMED"
