"""Recording in order and durably: once each, in groups, from many writers, through crashes and database errors."""

import itertools
import logging
import multiprocessing
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import event

from ledger import merkle, rules, sequencer, store
from ledger.checkpoint import decode_note, decode_verifier_key, encode_verifier_key, verify_note
from ledger.encoding import LeafHash, account_id, format_time, parse_time
from ledger.entries import decode_entry, encode_entry, signed_operation_of
from ledger.keys import encode_public_key
from ledger.operations import (
    CancelRecovery,
    Exchange,
    Expire,
    Freeze,
    Grant,
    Hold,
    OpenAccount,
    RecoverKeys,
    Redeem,
    Refund,
    ReplaceKeys,
    ReplaceLogKey,
    Signature,
    SignedOperation,
    Unfreeze,
)
from ledger.program_terms import ExpiresAfterDays
from ledger.sequencer import Outcome, Preview, Recorded, Sequencer, account_opened_by
from ledger.state import Account, Code, Rejection
from ledger.store import Store, StoreError, open_engine
from ledger.tables import METADATA
from ledger.terms import ExchangeTerms, Rate, RefundedPurchase
from ledger.wallet import Wallet, encode_document
from tests.partners import agree, buy, trade
from tests.reference import check_projections, check_record
from tests.worlds import ANSWER_LIMIT_S, World, make_program, pay
from tests.writers import Job, write

WIDTH = 4
"""Hashes in a tile where a test wants several levels of tiles from few entries."""


def open_members(world: World, count: int) -> list[SignedOperation]:
    """Operations that open accounts: the simplest that need nothing before them."""
    return [world.open_member(world.make_key()) for _ in range(count)]


def seqs(outcomes: list[Outcome]) -> list[int]:
    """Entries of outcomes that must all be recorded."""
    assert all(isinstance(outcome, Recorded) for outcome in outcomes), outcomes
    return [outcome.seq for outcome in outcomes if isinstance(outcome, Recorded)]


def code_of(outcome: Outcome) -> Code:
    """Why an operation was refused."""
    assert isinstance(outcome, Rejection), outcome
    return outcome.code


def size_of(world: World) -> int:
    """Entries recorded so far."""
    with world.store.read() as connection:
        return world.store.head(connection).size


def rich_member(world: World, points: int) -> tuple[Wallet, Wallet]:
    """A merchant with the asset STAR, and a member who holds some of it."""
    shop = world.add_merchant()
    world.add_asset(shop)
    member = world.add_member()
    world.grant(shop, "STAR", member, points)
    return shop, member


@contextmanager
def busy(world: World, running: Sequencer) -> Iterator[list[Future[list[Outcome]]]]:
    """Keep the sequencer waiting for the database with one operation in hand, so that what comes next queues up."""
    first: list[Future[list[Outcome]]] = []
    with world.store.write() as transaction:
        transaction.lock_head()
        first.append(running.submit(open_members(world, 1)))
        while running._waiting:
            time.sleep(0.001)
        yield first


def count_commits(world: World) -> list[None]:
    """A list that grows by one with each write transaction that commits."""
    commits: list[None] = []

    def on_commit(connection: sa.engine.Connection) -> None:
        if connection.get_execution_options().get("guerdon_write"):
            commits.append(None)

    event.listen(world.engine, "commit", on_commit)
    return commits


# Once each


def test_every_operation_is_recorded_once_and_in_order(world: World) -> None:
    """Outcomes come in the order of submission, each with its own entry, bytes and hash."""
    operations = open_members(world, 50)
    outcomes = world.record(*operations)
    assert seqs(list(outcomes)) == list(range(1, 51))
    assert [outcome.op_id for outcome in outcomes] == [signed.op_id for signed in operations]
    assert not any(outcome.replayed for outcome in outcomes)
    entries = check_record(world.store)
    assert [entry["seq"] for entry in entries] == list(range(51))
    with world.store.read() as connection:
        stored = world.store.entry_data(connection, range(1, 51))
    assert [outcome.data for outcome in outcomes] == [stored[seq] for seq in range(1, 51)]
    assert [outcome.leaf_hash for outcome in outcomes] == [merkle.hash_leaf(stored[seq]) for seq in range(1, 51)]


def test_replay_answers_the_same_entry(world: World) -> None:
    """A document sent again, also twice at once, is answered with its entry and recorded no second time."""
    one, two = open_members(world, 2)
    (first,) = world.record(one)
    again = world.record(one, two, one, two)
    assert seqs(list(again)) == [1, 2, 1, 2]
    assert [outcome.replayed for outcome in again] == [True, False, True, True]
    assert {(o.data, o.leaf_hash, o.op_id) for o in again if o.seq == 1} == {(first.data, first.leaf_hash, first.op_id)}
    assert again[3].data == again[1].data
    assert size_of(world) == 3


def test_replay_after_restart_answers_the_same_entry(world: World) -> None:
    """What was recorded is known to a new process that shares nothing with the old one but the database."""
    operations = open_members(world, 3)
    first = world.record(*operations)
    engine = open_engine(world.url)
    with Sequencer(Store(engine, world.origin), world.log_key, world.clock) as restarted:
        again = restarted.submit(operations).result(ANSWER_LIMIT_S)
    engine.dispose()
    assert again == [msgspec.structs.replace(outcome, replayed=True) for outcome in first]


def test_replayed_spending_is_not_spent_twice(world: World) -> None:
    """A transfer sent three times moves its points once, though each answer looks like success."""
    shop, alice = rich_member(world, 100)
    payment = pay(alice, "STAR", 60, shop)
    outcomes = world.submit(payment, payment) + world.submit(payment)
    assert len(set(seqs(outcomes))) == 1
    state = check_projections(world.store)
    assert state.balance(str(alice.account), "STAR") == 40


def test_replay_with_a_forged_signature_is_refused(world: World) -> None:
    """Knowing an operation's bytes is not enough to be answered with its entry under a forged signature."""
    (signed,) = open_members(world, 1)
    world.record(signed)
    forged = msgspec.structs.replace(signed, sigs=(Signature(key=signed.sigs[0].key, sig="A" * 86),))
    (outcome,) = world.submit(forged)
    assert code_of(outcome) is Code.SIGNATURE_INVALID


# Refusals inside a batch


def test_rejected_operation_leaves_its_batch_alone(world: World) -> None:
    """Malformed, forged and refused operations are answered as such; all others in the batch are recorded."""
    shop, alice = rich_member(world, 100)
    good = [pay(alice, "STAR", 10, shop) for _ in range(3)]
    forged = msgspec.structs.replace(good[0], sigs=(Signature(key=good[0].sigs[0].key, sig=good[1].sigs[0].sig),))
    mallory = world.wallet(alice.account, world.make_key())
    documents = [
        encode_document(good[0]),
        b"{",
        encode_document(forged),
        encode_document(pay(alice, "STAR", 1_000, shop)),
        encode_document(good[1]),
        encode_document(pay(mallory, "STAR", 1, shop)),
        b'{"op":{},"sigs":[]}',
        encode_document(good[2]),
        b"",
    ]
    before = size_of(world)
    outcomes = world.sequencer.submit_documents(documents).result(ANSWER_LIMIT_S)
    assert seqs([outcomes[0], outcomes[4], outcomes[7]]) == [before, before + 1, before + 2]
    refused = [code_of(outcomes[i]) for i in (1, 2, 3, 5, 6, 8)]
    assert refused == [
        Code.MALFORMED,
        Code.SIGNATURE_INVALID,
        Code.INSUFFICIENT_POINTS,
        Code.SIGNATURE_MISSING,
        Code.MALFORMED,
        Code.MALFORMED,
    ]
    assert size_of(world) == before + 3
    check_record(world.store)
    assert check_projections(world.store).balance(str(alice.account), "STAR") == 70


def test_fault_in_the_rules_leaves_the_others_intact(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception while one operation is decided is that operation's outcome alone."""
    operations = open_members(world, 3)
    real_admit = rules.admit

    def faulty(state: Any, signed: SignedOperation, *rest: Any, **options: Any) -> Any:
        if signed is operations[1]:
            raise ZeroDivisionError
        return real_admit(state, signed, *rest, **options)

    monkeypatch.setattr(sequencer, "admit", faulty)
    outcomes = world.submit(*operations)
    assert seqs([outcomes[0], outcomes[2]]) == [1, 2]
    assert isinstance(outcomes[1], ZeroDivisionError)
    check_record(world.store)


def test_fault_while_changing_the_state_fails_the_whole_batch(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception halfway through a change leaves nothing of the batch: half a change must never be written."""
    _, alice = rich_member(world, 100)
    bob = world.add_member()
    payments = [pay(alice, "STAR", 10, bob) for _ in range(3)]
    before = size_of(world)

    def faulty(state: Any, signed: SignedOperation, admission: Any, seq: int) -> None:
        leg = admission.postings[0]
        state.add_lot(leg.account, leg.asset, "9999-12-31", leg.amount)
        if signed is payments[1]:
            raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(sequencer, "apply", faulty)
        outcomes = world.submit(*payments)
    assert [type(outcome) for outcome in outcomes] == [ZeroDivisionError] * 3
    assert size_of(world) == before
    assert seqs(world.submit(*payments)) == [before, before + 1, before + 2]
    check_record(world.store)
    check_projections(world.store)


# Groups


def test_what_waits_becomes_one_transaction(world: World) -> None:
    """A hundred operations of a hundred callers that arrive during one commit are the next commit."""
    running = world.sequencer
    operations = open_members(world, 100)
    commits = count_commits(world)
    with busy(world, running) as futures:
        futures += [running.submit([signed]) for signed in operations]
        while len(running._queue) < len(operations):
            time.sleep(0.001)
    recorded = [seq for future in futures for seq in seqs(future.result(ANSWER_LIMIT_S))]
    assert sorted(recorded) == list(range(1, 102))
    assert len(commits) == 3  # the lock this test held, the operation that waited for it, and the hundred
    check_record(world.store)


def test_a_batch_has_a_bound(world: World) -> None:
    """No transaction takes more operations than the sequencer was told to; all are recorded in order."""
    commits = count_commits(world)
    with world.make_sequencer(max_batch=30) as running:
        outcomes = running.submit(open_members(world, 100)).result(ANSWER_LIMIT_S)
    assert seqs(outcomes) == list(range(1, 101))
    assert len(commits) == 4
    check_record(world.store)


def test_nothing_is_written_when_all_is_refused(world: World) -> None:
    """A batch of refusals signs no new checkpoint."""
    with world.store.read() as connection:
        before = world.store.head(connection)
    world.clock.advance(days=1)
    (outcome,) = world.submit(pay(world.operator, "STAR", 1, world.wallet("mem_" + "a" * 26)))
    assert isinstance(outcome, Rejection)
    with world.store.read() as connection:
        assert world.store.head(connection) == before


def test_too_many_waiting_operations_are_refused(world: World) -> None:
    """Beyond its bound the queue refuses at once, and says that the same document may be sent again."""
    with world.make_sequencer(max_waiting=3) as running, busy(world, running) as futures:
        futures.append(running.submit(open_members(world, 3)))
        late = open_members(world, 1)
        (outcome,) = running.submit(late).result(timeout=0)
        assert code_of(outcome) is Code.OVERLOADED
        assert isinstance(outcome, Rejection)
        assert outcome.retryable
    assert [seqs(future.result(ANSWER_LIMIT_S)) for future in futures] == [[1], [2, 3, 4]]
    assert seqs(world.submit(*late)) == [5]


def test_close_finishes_what_waits(world: World) -> None:
    """Stopping the server answers everyone who was heard; who comes later is told to come again."""
    running = world.make_sequencer(max_batch=7).start()
    with busy(world, running) as futures:
        futures += [running.submit(open_members(world, 10)) for _ in range(3)]
        closing = threading.Thread(target=running.close)
        closing.start()
        while not running._closing:
            time.sleep(0.001)
        assert code_of(running.submit(open_members(world, 1)).result(timeout=0)[0]) is Code.OVERLOADED
    closing.join(ANSWER_LIMIT_S)
    assert not closing.is_alive()
    assert sorted(seq for future in futures for seq in seqs(future.result(timeout=0))) == list(range(1, 32))
    check_record(world.store)


def test_caller_who_gives_up_changes_nothing(world: World) -> None:
    """Cancelling the wait does not withdraw the operation, nor disturb the others of its batch."""
    running = world.sequencer
    with busy(world, running) as futures:
        futures += [running.submit(open_members(world, 2)) for _ in range(3)]
        assert not futures[2].cancel()
    # Together submitted, together and in order; which submission goes first is not promised.
    assert sorted(seqs(future.result(ANSWER_LIMIT_S)) for future in futures) == [[1], [2, 3], [4, 5], [6, 7]]


def test_submitting_nothing_is_answered_at_once(world: World) -> None:
    """No operations, no outcomes, no waiting."""
    assert world.sequencer.submit([]).result(timeout=0) == []


# Chain, time, tree


def test_time_never_decreases(world: World) -> None:
    """When the clock goes back, entries keep the time of the last one until the clock has caught up."""
    times = []
    for ms in (0, 5_000, -9_000, 1_000, 8_000):
        world.clock.advance(ms=ms)
        (recorded,) = world.record(world.open_member(world.make_key()))
        times.append(decode_entry(recorded.data).time)
    start = world.clock.now_ms - 5_000
    assert times == [format_time(start + ms) for ms in (0, 5_000, 5_000, 5_000, 5_000)]
    check_record(world.store)


def test_every_batch_extends_chain_and_tree(world: World) -> None:
    """After each of many batches of random size, links, root, checkpoint and tiles are what a naive reading gives."""
    operations = open_members(world, 300)
    while operations:
        count = world.random.choice([1, 1, 2, 3, 17, 64])
        world.record(*operations[:count])
        del operations[:count]
        check_record(world.store)


@pytest.mark.parametrize(
    "sizes",
    [[255, 256, 257, 511, 512, 513], [257, 512], [513], [254, 258, 510, 514]],
    ids=lambda sizes: "-".join(map(str, sizes)),
)
def test_tiles_are_complete_at_their_edges(world: World, sizes: list[int]) -> None:
    """Growing to one below, exactly and one above a tile's width, in one batch or several, stores the full tiles."""
    for size in sizes:
        world.record(*open_members(world, size - size_of(world)))
        check_record(world.store)


def test_tiles_of_several_levels(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """With tiles of 4 hashes, 300 entries have four full levels; every way of batching them gives the same tiles."""
    monkeypatch.setattr(merkle, "TILE_WIDTH", WIDTH)
    monkeypatch.setattr(sequencer, "TILE_WIDTH", WIDTH)
    operations = open_members(world, 300)
    while operations:
        count = world.random.choice([1, 2, 3, 4, 5, 15, 16, 17, 63, 64, 65])
        world.record(*operations[:count])
        del operations[:count]
    check_record(world.store, tile_width=WIDTH)
    with world.store.read() as connection:
        levels = connection.execute(sa.text("SELECT max(level) FROM tile")).scalar()
    assert levels == 3


# Starting


def test_wrong_log_key_is_refused_at_start(world: World) -> None:
    """A process with another key never signs a checkpoint of this ledger."""
    other = Sequencer(world.store, world.make_key(), world.clock)
    with pytest.raises(StoreError, match="set GUERDON_LOG_KEY_FILE to the file of that key"):
        other.start()
    other.close()
    assert size_of(world) == 1


def test_ledger_that_is_not_there_is_refused_at_start(world: World) -> None:
    """The message says what to do."""
    other = Sequencer(Store(world.engine, "ledger.example/none"), world.log_key, world.clock)
    with pytest.raises(StoreError, match="run guerdon init"):
        other.start()
    other.close()


# Expiry and previews


def test_expiry_counts_every_change_before_it(world: World) -> None:
    """An expiry handed in together with other operations retires exactly what those before it leave due."""
    shop = world.add_merchant()
    world.add_asset(shop, program=make_program(expiry=ExpiresAfterDays(count=2)))
    alice, bob, carol = world.add_members(3)
    for member in (alice, bob):
        world.grant(shop, "STAR", member, 100)
    early = pay(alice, "STAR", 30, carol)
    world.clock.advance(days=2)
    world.record(early, pay(bob, "STAR", 100, carol))
    world.clock.advance(days=1)
    through = format_time(world.clock.now_ms)[:10]

    def expire(limit: int) -> SignedOperation:
        return shop.sign(Expire, asset="STAR", limit=limit, through="2026-03-04")

    assert through == "2026-03-05"
    batch = [open_members(world, 1)[0], expire(1), early, expire(1), expire(1), open_members(world, 1)[0]]
    first, one, replayed, two, none, last = world.submit(*batch)
    assert isinstance(replayed, Recorded)
    assert replayed.replayed
    assert seqs([first, one, two, last]) == list(range(seqs([first])[0], seqs([first])[0] + 4))
    assert code_of(none) is Code.NOTHING_DUE
    retired = sorted(leg.amount for o in (one, two) if isinstance(o, Recorded) for leg in decode_entry(o.data).postings)
    assert retired == [-130, -70, 70, 130]
    check_record(world.store)
    state = check_projections(world.store)
    assert [state.balance(str(m.account), "STAR") for m in (alice, bob, carol)] == [0, 0, 0]


def test_expiry_shares_its_batch(world: World) -> None:
    """An expiry, even one that is refused, does not split the batch it arrives in."""
    shop = world.add_merchant()
    world.add_asset(shop)
    commits = count_commits(world)
    expire = shop.sign(Expire, asset="STAR", limit=1, through="2026-01-01")
    before, after = open_members(world, 5), open_members(world, 5)
    outcomes = world.submit(*before, expire, *after)
    assert code_of(outcomes[5]) is Code.NOTHING_DUE
    assert seqs(outcomes[:5] + outcomes[6:]) == list(range(4, 14))
    assert len(commits) == 1


def test_clock_far_behind_the_last_entry_stops_writing(world: World) -> None:
    """Whichever clock is wrong, nothing is stamped with a time that has not come; once mended, writing goes on."""
    world.record(world.open_member(world.make_key()))
    world.clock.advance(days=-1)
    late = world.open_member(world.make_key())
    (outcome,) = world.submit(late)
    assert code_of(outcome) is Code.UNAVAILABLE
    world.clock.advance(days=1)
    assert seqs(world.submit(late)) == [2]


def test_preview_records_and_reserves_nothing(world: World) -> None:
    """A preview shows the postings the operation then really makes, and leaves the ledger as it was."""
    shop, alice = rich_member(world, 100)
    payment = pay(alice, "STAR", 70, shop)
    before = size_of(world)
    previews = [world.sequencer.preview(payment.op_bytes) for _ in range(3)]
    assert size_of(world) == before
    (recorded,) = world.record(payment)
    expected = Preview(
        op_bytes=payment.op_bytes,
        op_id=payment.op_id,
        postings=decode_entry(recorded.data).postings,
        rejection=None,
        balance=30,
    )
    assert previews == [expected] * 3
    late = world.sequencer.preview(pay(alice, "STAR", 31, shop).op_bytes)
    assert isinstance(late, Preview)
    assert late.rejection is not None
    assert late.rejection.code is Code.INSUFFICIENT_POINTS


# Partners


def test_story_of_partners_is_the_same_in_large_batches(world: World, tmp_path: Path) -> None:
    """What an operation leads to may be made by another of its batch: an agreement, a hold, a claim, a purchase."""
    with World(f"sqlite:///{tmp_path / 'other.sqlite'}") as other:
        trade(other)
        with other.store.read() as connection:
            size = other.store.head(connection).size
            data = other.store.entry_data(connection, range(size))
    entries = [decode_entry(data[seq]) for seq in range(1, size)]
    for moment, batch in itertools.groupby(entries, key=lambda entry: entry.time):
        world.clock.now_ms = parse_time(moment)
        recorded = world.record(*(signed_operation_of(entry) for entry in batch))
        assert [one.data for one in recorded] == [data[one.seq] for one in recorded]
    assert size_of(world) == size
    check_record(world.store)
    check_projections(world.store)


def count_statements(world: World, *batch: SignedOperation) -> dict[str, int]:
    """How many statements a batch takes that must be recorded, by the table they are about."""
    found: dict[str, int] = {}

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        tables = re.findall(r'(?:FROM|JOIN|INTO|UPDATE) "?([a-z_]+)"?(?: |$)', statement)
        for name in [table for table in tables if table in METADATA.tables][:1]:
            found[name] = found.get(name, 0) + 1

    event.listen(world.engine, "before_cursor_execute", note)
    try:
        world.record(*batch)
    finally:
        event.remove(world.engine, "before_cursor_execute", note)
    return found


def test_transfers_cost_the_same_statements_however_many(world: World) -> None:
    """One look at the open holds of all the senders is what holds cost those who have none."""
    shop = world.add_merchant()
    world.add_asset(shop)
    members = world.add_members(40)
    for member in members:
        world.grant(shop, "STAR", member, 10)
    one, *many = [pay(a, "STAR", 1, b) for a, b in itertools.pairwise(members)]
    expected = count_statements(world, one)
    assert count_statements(world, *many) == expected
    assert expected["hold"] == 1
    assert sum(expected.values()) <= 13


def test_what_agreements_lead_to_costs_the_same_statements_however_many(world: World) -> None:
    """Redemptions elsewhere, holds and exchanges: what they need beyond their documents is loaded for all at once."""
    names = trade(world)
    mint = world.wallet(names["mint"], *names["mint_keys"])
    members = world.add_members(24)
    world.record(
        *(
            mint.sign(
                Grant, activity="goodwill", amount=400, asset="COIN", member=member.account, reference=f"gift-{i}"
            )
            for i, member in enumerate(members)
        )
    )
    until = format_time(world.clock.now_ms + 60_000)

    def batch(some: Sequence[Wallet]) -> list[SignedOperation]:
        merchant = names["bakery"]
        fields: dict[str, Any] = {"amount": 100, "asset": "COIN"}
        return [
            signed
            for one in some
            for signed in (
                one.sign(Redeem, merchant=merchant, **fields),
                one.sign(Hold, merchant=merchant, until=until, **fields),
                one.sign(Exchange, into="BEAN", minimum_out=1, maximum_fee=1, **fields),
            )
        ]

    def count(some: Sequence[Wallet]) -> dict[str, int]:
        counts = count_statements(world, *batch(some))
        return {table: counts[table] for table in counts if table not in {"entry", "posting", "tile"}}

    assert count(members[:2]) == count(members[2:])
    check_projections(world.store)


def test_preview_of_a_hold_shows_what_is_left_to_spend(world: World) -> None:
    """Points on hold are neither spent nor spendable; what has lapsed is counted again."""
    shop, alice = rich_member(world, 100)
    until = format_time(world.clock.now_ms + 1_000)
    hold = alice.sign(Hold, amount=60, asset="STAR", merchant=shop.account, until=until)
    preview = world.sequencer.preview(hold.op_bytes)
    assert isinstance(preview, Preview)
    (held,) = world.record(hold)
    assert (preview.balance, held.balance, preview.postings) == (40, 40, decode_entry(held.data).postings)
    spend = alice.sign(Redeem, amount=90, asset="STAR", merchant=shop.account)
    (refused,) = world.submit(spend)
    assert code_of(refused) is Code.INSUFFICIENT_POINTS
    world.clock.advance(ms=1_001)
    (spent,) = world.record(alice.sign(Redeem, amount=90, asset="STAR", merchant=shop.account))
    assert spent.balance == 10
    check_projections(world.store)


def test_expiry_and_a_refund_in_one_batch_count_each_lot_once(world: World) -> None:
    """A lot that an expiry found is not loaded again when a later operation needs its holder's whole balance."""
    shop = world.add_merchant()
    world.add_asset(shop, program=make_program(expiry=ExpiresAfterDays(count=2)))
    alice, bob = world.add_members(2)
    world.grant(shop, "STAR", alice, 50)
    world.record(buy(shop, "STAR", bob, "o-1", 7_000))
    world.clock.advance(days=2)
    world.record(buy(shop, "STAR", bob, "o-2", 3_000))
    world.clock.advance(days=1)
    refund = shop.sign(Refund, asset="STAR", of=RefundedPurchase(amount=1_000, order="o-1"), reference="r-1")
    outcomes = world.submit(
        shop.sign(Expire, asset="STAR", limit=5, through="2026-03-04"),
        refund,
        pay(bob, "STAR", 20, alice),
        shop.sign(Expire, asset="STAR", limit=5, through="2026-03-04"),
    )
    assert seqs(outcomes[:3])
    assert code_of(outcomes[3]) is Code.NOTHING_DUE
    check_record(world.store)
    state = check_projections(world.store)
    assert {name: state.balance(str(member.account), "STAR") for name, member in (("alice", alice), ("bob", bob))} == {
        "alice": 20,
        "bob": 0,
    }


def test_lot_that_expired_in_a_batch_does_not_return_with_its_holders_balance(world: World) -> None:
    """The agreement, made between two expiries, leads to the balance of a partner whose lot the first has taken."""
    mint, bakery, alice = world.add_merchant(), world.add_merchant(), world.add_member()
    world.add_asset(mint, program=make_program(expiry=ExpiresAfterDays(count=2)))
    world.add_asset(bakery, "BEAN")
    world.grant(mint, "STAR", alice, 30)
    world.record(pay(alice, "STAR", 30, bakery))
    world.clock.advance(days=3)
    world.grant(mint, "STAR", alice, 20)
    terms = ExchangeTerms(asset="STAR", into="BEAN", rate=Rate(get=1, give=1), received="kept")

    def expire() -> SignedOperation:
        return mint.sign(Expire, asset="STAR", limit=5, through="2026-03-04")

    outcomes = world.submit(
        expire(),
        agree(world, mint, bakery, terms=terms),
        alice.sign(Exchange, asset="STAR", amount=20, into="BEAN", minimum_out=20),
        expire(),
    )
    assert seqs(outcomes[:3])
    assert code_of(outcomes[3]) is Code.NOTHING_DUE
    state = check_projections(world.store)
    assert state.lots_of(str(bakery.account), "STAR") == {"2026-03-07": 20}


def test_frozen_account_cannot_act_from_the_next_operation_on(world: World) -> None:
    """Freezing, and its end, count within a batch and are there after it; what is sent to the account arrives."""
    shop, alice = rich_member(world, 100)
    operator = world.operator
    freeze = operator.sign(Freeze, account=alice.account, reason="fraud")
    outcomes = world.submit(
        pay(alice, "STAR", 10, shop), freeze, pay(alice, "STAR", 20, shop), pay(shop, "STAR", 5, alice)
    )
    assert code_of(outcomes[2]) is Code.ACCOUNT_FROZEN
    assert seqs([outcomes[0], outcomes[1], outcomes[3]])
    world.restart()
    assert code_of(world.submit(pay(alice, "STAR", 20, shop))[0]) is Code.ACCOUNT_FROZEN
    assert check_projections(world.store).accounts[str(alice.account)].frozen_reason == "fraud"
    unfreeze = operator.sign(Unfreeze, account=alice.account, reason="mistake")
    assert seqs(world.submit(unfreeze, pay(alice, "STAR", 20, shop)))
    account = check_projections(world.store).accounts[str(alice.account)]
    assert (account.frozen_seq, account.frozen_reason) == (None, None)


# Many writers


def test_threads_racing_for_the_last_points(world: World) -> None:
    """Of many simultaneous payments that each need all of a balance, exactly one is recorded."""
    _, alice = rich_member(world, 100)
    payees = world.add_members(16)
    payments = [pay(alice, "STAR", 100, payee) for payee in payees]
    barrier = threading.Barrier(len(payments))
    outcomes: list[Outcome] = []
    others = [world.make_sequencer().start() for _ in range(2)]

    def submit(number: int) -> None:
        barrier.wait()
        outcomes.extend(others[number % 2].submit([payments[number]]).result(ANSWER_LIMIT_S))

    threads = [threading.Thread(target=submit, args=(number,)) for number in range(len(payments))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for other in others:
        other.close()
    assert sum(isinstance(outcome, Recorded) for outcome in outcomes) == 1
    assert sum(isinstance(o, Rejection) and o.code is Code.INSUFFICIENT_POINTS for o in outcomes) == 15
    check_record(world.store)
    check_projections(world.store)


PROCESSES = multiprocessing.get_context("spawn")
FORKS = multiprocessing.get_context("forkserver")  # started fast, from a server that has loaded the ledger already
FORKS.set_forkserver_preload(["tests.writers"])


def wait_until(condition: Callable[[], bool]) -> None:
    """Return as soon as the condition holds; fail if it never does."""
    give_up_at = time.monotonic() + ANSWER_LIMIT_S
    while not condition():
        assert time.monotonic() < give_up_at
        time.sleep(0.001)


class Writers:
    """Processes writing to one world; see :mod:`tests.writers`."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        self.folder = folder
        self.go = folder / "go"
        self.processes: list[Any] = []

    def start(self, documents: list[bytes], *, chunk: int, context: Any = PROCESSES) -> Path:
        """Start a process; return the file its answers go to."""
        answers = self.folder / f"answers-{len(self.processes)}"
        job = Job(
            url=self.world.url,
            origin=self.world.origin,
            log_key=self.world.log_key.private_bytes_raw(),
            now_ms=self.world.clock.now_ms,
            documents=documents,
            chunk=chunk,
            go=str(self.go),
            answers=str(answers),
        )
        process = context.Process(target=write, args=(msgspec.msgpack.encode(job),), daemon=True)
        process.start()
        self.processes.append(process)
        return answers

    def join(self) -> None:
        """Wait until all are done, without error."""
        for process in self.processes:
            process.join(ANSWER_LIMIT_S)
            assert process.exitcode == 0


def read_answers(path: Path) -> dict[int, list[str]]:
    """A writer's answers by the document's index. A line that a kill cut short is no answer."""
    if not path.exists():
        return {}
    lines = path.read_text().split("\n")[:-1]
    return {int(index): rest for index, *rest in (line.split(" ") for line in lines)}


def test_processes_share_one_ledger(world: World, tmp_path: Path) -> None:
    """Three processes, each with its own operations, some shared and one fought over: one gapless chain."""
    shop, alice = rich_member(world, 100)
    size = size_of(world)
    shared = [encode_document(signed) for signed in open_members(world, 60)]
    race = [encode_document(pay(alice, "STAR", 60, shop)) for _ in range(3)]
    writers = Writers(world, tmp_path)
    files, batches = [], []
    for number in range(3):
        own = [encode_document(signed) for signed in open_members(world, 150)]
        batch = [*own, *shared, race[number]]
        random.Random(number).shuffle(batch)
        batches.append(batch)
        files.append(writers.start(batch, chunk=20))
    writers.go.touch()
    writers.join()
    answers = [read_answers(path) for path in files]
    results: dict[bytes, list[list[str]]] = {}
    for batch, given in zip(batches, answers, strict=True):
        assert sorted(given) == list(range(len(batch)))
        for index, document in enumerate(batch):
            results.setdefault(document, []).append(given[index])
    recorded = {document: given for document, given in results.items() if given[0][0].isdigit()}
    assert sorted(int(given[0][0]) for given in recorded.values()) == list(range(size, size + 3 * 150 + 60 + 1))
    for document in shared:
        assert sorted(replayed for _, replayed in results[document]) == ["0", "1", "1"]
        assert len({seq for seq, _ in results[document]}) == 1
    assert sorted(results[document][0][0].isdigit() for document in race) == [False, False, True]
    check_record(world.store)
    check_projections(world.store)


def has_answers(path: Path) -> bool:
    """Whether a writer has been told of success already."""
    return path.stat().st_size > 0


KILLS = 20


def test_killed_writer_leaves_nothing_half_recorded(world: World, tmp_path: Path) -> None:
    """SIGKILL at random moments: what was acknowledged is there, nothing is half there, the rest is recorded once."""
    shop, alice = rich_member(world, 10_000_000)
    payees = world.add_members(20)
    first = size_of(world)
    payments = [pay(alice, "STAR", 1 + i % 3, payees[i % 20]) for i in range(3_000)]
    documents = [encode_document(payment) for payment in payments]
    writers = Writers(world, tmp_path)
    writers.go.touch()
    acknowledged: dict[int, int] = {}
    interrupted = 0
    for kill in range(KILLS):
        todo = [i for i in range(len(documents)) if i not in acknowledged]
        chunk = world.random.choice([1, 7, 40])
        path = writers.start([documents[i] for i in todo], chunk=chunk, context=FORKS)
        process = writers.processes[-1]
        wait_until(path.exists)
        if kill % 4:
            wait_until(partial(has_answers, path))
        process.join(world.random.uniform(0, 0.02))
        process.kill()
        process.join()
        answers = read_answers(path)
        interrupted += 0 < len(answers) < len(todo)
        acknowledged |= {todo[index]: int(seq) for index, (seq, _) in answers.items()}
        nonces = {entry["op"]["nonce"]: entry["seq"] for entry in check_record(world.store)[first:]}
        assert [nonces[str(payments[index].op.nonce)] for index in acknowledged] == list(acknowledged.values())
    assert interrupted >= KILLS // 2
    outcomes = world.submit(*payments)
    assert sorted(seqs(outcomes)) == list(range(first, first + len(payments)))
    assert [seqs([outcomes[index]])[0] for index in acknowledged] == list(acknowledged.values())
    check_record(world.store)
    assert check_projections(world.store).balance(str(shop.account), "STAR") == 0


# Database errors


@contextmanager
def failing_after(world: World, step: int, fail: Callable[[sa.engine.Connection], None]) -> Iterator[list[str]]:
    """Call ``fail`` once the next write transaction has run ``step`` statements; count them (COPY is none of them)."""
    seen: list[str] = []

    def after_statement(connection: sa.engine.Connection, _cursor: Any, statement: str, *_: Any) -> None:
        if connection.get_execution_options().get("guerdon_write"):
            seen.append(statement)
            if len(seen) == step:
                fail(connection)

    event.listen(world.engine, "after_cursor_execute", after_statement)
    try:
        yield seen
    finally:
        event.remove(world.engine, "after_cursor_execute", after_statement)


@pytest.mark.postgres
def test_lost_connection_at_any_statement_records_nothing(postgres_database: str) -> None:
    """The connection is cut after each statement in turn, so COPY and COMMIT meet it: UNAVAILABLE, then all is well."""
    with World(postgres_database) as world:
        shop, alice = rich_member(world, 1_000)
        admin = sa.create_engine(world.engine.url, isolation_level="AUTOCOMMIT")

        def terminate(connection: sa.engine.Connection) -> None:
            raw: Any = connection.connection.driver_connection
            with admin.connect() as other:
                other.execute(sa.text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": raw.info.backend_pid})

        with failing_after(world, 0, terminate) as seen:
            world.record(pay(alice, "STAR", 1, shop), *open_members(world, 1))
        assert len(seen) > 5
        for step in range(1, len(seen) + 1):
            before = size_of(world)
            batch = [pay(alice, "STAR", 1, shop), *open_members(world, 1)]
            with failing_after(world, step, terminate):
                assert [code_of(outcome) for outcome in world.submit(*batch)] == [Code.UNAVAILABLE] * 2
            assert size_of(world) == before
            assert seqs(world.submit(*batch)) == [before, before + 1]
        admin.dispose()
        check_record(world.store)
        check_projections(world.store)


@pytest.mark.postgres
def test_connection_lost_while_idle_goes_unnoticed(postgres_database: str) -> None:
    """A database that was restarted between two batches costs no operation."""
    with World(postgres_database) as world:
        world.add_member()
        admin = sa.create_engine(world.engine.url, isolation_level="AUTOCOMMIT")
        with admin.connect() as other:
            mine = "pid <> pg_backend_pid() AND datname = current_database()"
            other.execute(sa.text(f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE {mine}"))
        admin.dispose()
        assert seqs(world.submit(*open_members(world, 2))) == [2, 3]


def test_full_disk_records_nothing(tmp_path: Path) -> None:
    """When SQLite has no room the batch is UNAVAILABLE as a whole; with room again the same documents are recorded."""
    with World(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as world:
        limit = [0]

        def set_limit(connection: sa.engine.Connection) -> None:
            connection.exec_driver_sql(f"PRAGMA max_page_count = {limit[0]}")

        event.listen(world.engine, "begin", set_limit)
        with world.store.read() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        batch = open_members(world, 300)
        for extra in (0, 1, 5, 20, 50):
            limit[0] = int(pages or 0) + extra
            assert {code_of(outcome) for outcome in world.submit(*batch)} == {Code.UNAVAILABLE}
            assert size_of(world) == 1
        limit[0] = 1_000_000
        assert seqs(world.submit(*batch)) == list(range(1, 301))
        check_record(world.store)
        check_projections(world.store)


@pytest.mark.postgres
def test_error_during_copy_records_nothing(postgres_database: str) -> None:
    """When PostgreSQL has no room for a row that is copied in, the batch is UNAVAILABLE; later it is recorded."""
    with World(postgres_database) as world:
        batch = open_members(world, 3)
        with world.store.write() as transaction:
            transaction.connection.exec_driver_sql(
                "CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN RAISE EXCEPTION 'no room' USING ERRCODE = 'disk_full'; END $$"
            )
            transaction.connection.exec_driver_sql(
                "CREATE TRIGGER no_room BEFORE INSERT ON account FOR EACH ROW EXECUTE FUNCTION no_room()"
            )
        assert [code_of(outcome) for outcome in world.submit(*batch)] == [Code.UNAVAILABLE] * 3
        assert size_of(world) == 1
        with world.store.write() as transaction:
            transaction.connection.exec_driver_sql("DROP TRIGGER no_room ON account")
        assert seqs(world.submit(*batch)) == [1, 2, 3]
        check_record(world.store)


def test_lock_that_is_not_given_up_in_time_records_nothing(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that waits too long for a stranger's lock answers UNAVAILABLE, and goes on working afterwards."""
    monkeypatch.setattr(store, "BUSY_TIMEOUT_MS", 200)
    stranger = sa.create_engine(database_url, isolation_level="AUTOCOMMIT")
    url = sa.make_url(database_url)
    if url.get_backend_name() == "postgresql":
        url = url.update_query_dict({"options": "-c lock_timeout=200"})
    with World(url.render_as_string()) as world, stranger.connect() as connection:
        batch = open_members(world, 3)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if not world.store.is_postgres else "BEGIN")
        connection.exec_driver_sql("UPDATE head SET size = size")
        assert [code_of(outcome) for outcome in world.submit(*batch)] == [Code.UNAVAILABLE] * 3
        connection.exec_driver_sql("ROLLBACK")
        assert seqs(world.submit(*batch)) == [1, 2, 3]
        check_record(world.store)
    stranger.dispose()


def test_sqlite_writers_take_turns(tmp_path: Path) -> None:
    """A process that always has more to write does not keep another waiting: both get through together."""
    with World(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as world:
        writers = Writers(world, tmp_path)
        documents = [encode_document(signed) for signed in open_members(world, 400)]
        files = [writers.start(documents[i::2], chunk=1) for i in range(2)]
        writers.go.touch()
        writers.join()
        runs = [sorted(int(seq) for seq, _ in read_answers(path).values()) for path in files]
        assert sorted(runs[0] + runs[1]) == list(range(1, 401))
        whose = [seq in set(runs[0]) for seq in range(max(runs[0][0], runs[1][0]), min(runs[0][-1], runs[1][-1]) + 1)]
        longest = max(len(list(group)) for _, group in itertools.groupby(whose))
        assert len(whose) > 200
        assert longest <= 50


def test_unexpected_fault_is_answered_and_logged(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault nobody foresaw fails its batch with the exception, for the caller to mask; the next batch is recorded."""
    batch = open_members(world, 2)
    with monkeypatch.context() as patch, caplog.at_level(logging.ERROR, "guerdon.sequencer"):
        patch.setattr(sequencer, "sign_checkpoint", lambda *_: 1 // 0)
        outcomes = world.submit(*batch)
    assert [type(outcome) for outcome in outcomes] == [ZeroDivisionError] * 2
    assert "a batch of 2 operations failed" in caplog.text
    assert size_of(world) == 1
    assert seqs(world.submit(*batch)) == [1, 2]


def test_corrupt_head_is_not_built_upon(world: World) -> None:
    """When the compact range does not fit the size, nothing is recorded on top of it."""
    with world.store.write() as transaction:
        transaction.connection.exec_driver_sql("UPDATE head SET size = 3")
    (outcome,) = world.submit(*open_members(world, 1))
    assert isinstance(outcome, Exception)
    with world.store.read() as connection:
        assert world.store.entry_data(connection, range(10)).keys() == {0}


def test_custodial_member_is_opened_by_a_merchant(world: World) -> None:
    """A member without keys is recorded with its custodian, whose keys then spend its points."""
    shop = world.add_merchant()
    world.add_asset(shop)
    (opened,) = world.record(shop.sign(OpenAccount, role="member"))
    account = sequencer.account_opened_by(opened)
    held = world.wallet(account, *shop.keys)
    world.grant(shop, "STAR", held, 10)
    (spent,) = world.record(pay(held, "STAR", 4, shop))
    assert spent.balance == 6
    check_projections(world.store)


def test_account_opened_by_names_the_account(world: World) -> None:
    """The account an entry opened is the one the database then knows, with the key that was registered."""
    key = Ed25519PrivateKey.generate()
    (opened,) = world.record(world.open_member(key))
    with world.store.read() as connection:
        (account,) = world.store.accounts(connection, [str(sequencer.account_opened_by(opened))])
    assert account.keys == (encode_public_key(key),)
    assert account.seq == opened.seq


# Keys over time


def public(*keys: Ed25519PrivateKey) -> tuple[str, ...]:
    return tuple(encode_public_key(key) for key in keys)


def account_of(world: World, wallet: Wallet) -> Account:
    """An account as the database has it."""
    with world.store.read() as connection:
        (account,) = world.store.accounts(connection, [str(wallet.account)])
    return account


def codes(outcomes: list[Outcome]) -> list[Code | None]:
    """Why each was refused; nothing for what was recorded."""
    return [None if isinstance(outcome, Recorded) else code_of(outcome) for outcome in outcomes]


def later_account(opening: SignedOperation) -> str:
    """The account an operation will open."""
    return account_id("mem", opening.op_id)


def test_account_is_opened_rekeyed_and_used_in_one_batch(world: World) -> None:
    """Each operation of a batch counts for the next, and one row holds where they lead."""
    shop = world.add_merchant()
    world.add_asset(shop)
    first, second, third = (world.make_key() for _ in range(3))
    opening = world.open_member(first)
    account = later_account(opening)
    before, after = world.wallet(account, first), world.wallet(account, second, third)
    grant: dict[str, Any] = {"member": account, "amount": 10, "asset": "STAR", "activity": "goodwill"}
    batch = [
        opening,
        shop.sign(Grant, reference="welcome", **grant),
        pay(before, "STAR", 1, shop),
        before.replace_keys([second, third], threshold=2),
        pay(before, "STAR", 2, shop),
        pay(after, "STAR", 3, shop),
        world.recover(after, first),
        after.replace_keys([third]),
    ]
    outcomes = world.submit(*batch)
    assert codes(outcomes) == [None, None, None, None, Code.SIGNATURE_MISSING, None, None, None]
    stored = account_of(world, after)
    assert (stored.keys, stored.threshold, stored.recovery) == (public(third), 1, None)
    assert (stored.seq, stored.keys_seq) == (seqs([outcomes[0]])[0], seqs([outcomes[-1]])[0])
    check_record(world.store)
    check_projections(world.store)


def test_custodians_keys_are_replaced_while_its_members_act(world: World) -> None:
    """Within a batch a custodian's keys change for all in its custody at once; a member that is handed over is out."""
    shop = world.add_merchant()
    world.add_asset(shop)
    held = [world.wallet(account_opened_by(entry), *shop.keys) for entry in open_in_custody(world, shop, 2)]
    for member in held:
        world.grant(shop, "STAR", member, 10)
    new, own = world.make_key(), world.make_key()
    moved, claimed = world.wallet(held[0].account, new), world.wallet(held[1].account, own)
    outcomes = world.submit(
        pay(held[0], "STAR", 1, shop),
        held[1].replace_keys([own]),
        shop.replace_keys([new]),
        pay(held[0], "STAR", 1, shop),
        pay(moved, "STAR", 1, shop),
        pay(held[1], "STAR", 1, shop),
        pay(claimed, "STAR", 1, shop),
    )
    missing = Code.SIGNATURE_MISSING
    assert codes(outcomes) == [None, None, None, missing, None, missing, None]
    assert account_of(world, held[0]).custodian == shop.account
    assert account_of(world, held[1]).custodian is None
    check_projections(world.store)


def open_in_custody(world: World, shop: Wallet, count: int) -> list[Recorded]:
    return world.record(*(shop.sign(OpenAccount, role="member") for _ in range(count)))


def test_operator_replaces_its_keys_within_a_batch(world: World) -> None:
    """What the operator signs afterwards is signed with the new ones."""
    new = world.make_key()
    after = world.wallet(world.operator.account, new)
    alice = world.add_member()
    lost = world.make_key()
    fields = {"account": alice.account, "keys": public(lost)}
    outcomes = world.submit(
        world.operator.replace_keys([new]),
        world.operator.sign(RecoverKeys, co_signers=[lost], **fields),
        after.sign(RecoverKeys, co_signers=[lost], **fields),
        after.sign(CancelRecovery, account=alice.account),
    )
    assert codes(outcomes) == [None, Code.SIGNATURE_MISSING, None, None]
    assert account_of(world, alice).recovery is None
    check_projections(world.store)


def test_recovery_takes_effect_between_batches(database_url: str) -> None:
    """By time alone: no entry records it, the row stays as entries left it, and a new process sees the same."""
    with World(database_url, recovery_delay_ms=60_000) as world:
        shop, old = rich_member(world, 100)
        key = world.make_key()
        new = world.wallet(old.account, key)
        world.record(world.recover(old, key))
        row = account_of(world, old)
        world.clock.advance(ms=59_999)
        assert codes(world.submit(pay(old, "STAR", 1, shop), pay(new, "STAR", 1, shop))) == [
            None,
            Code.SIGNATURE_MISSING,
        ]
        world.clock.advance(ms=1)
        assert codes(world.submit(pay(old, "STAR", 2, shop), pay(new, "STAR", 2, shop))) == [
            Code.SIGNATURE_MISSING,
            None,
        ]
        world.restart()
        # The clock of another server may be a little behind: the ledger's time is not, and keys follow that.
        world.clock.advance(ms=-1_000)
        assert codes(world.submit(pay(old, "STAR", 3, shop), pay(new, "STAR", 3, shop))) == [
            Code.SIGNATURE_MISSING,
            None,
        ]
        assert account_of(world, old) == row
        world.record(world.recover(old, *old.keys))
        folded = account_of(world, old)
        assert (folded.keys, folded.keys_seq) == (public(key), row.recovery.seq if row.recovery else None)
        check_projections(world.store)


def test_many_accounts_change_in_one_batch(world: World) -> None:
    """With the same number of statements as for a few; each account gets its own keys, recovery and custody."""
    shop = world.add_merchant()
    few, many = open_in_custody(world, shop, 4), open_in_custody(world, shop, 60)
    statements: list[str] = []
    event.listen(world.engine, "before_cursor_execute", lambda _1, _2, text, *_: statements.append(text))
    counts = []
    for opened in (few, many):
        held = [world.wallet(account_opened_by(entry), *shop.keys) for entry in opened]
        keys = [world.make_key() for _ in held]
        statements.clear()
        world.record(
            *(
                member.replace_keys([key]) if i % 2 else world.recover(member, key)
                for i, (member, key) in enumerate(zip(held, keys, strict=True))
            )
        )
        counts.append(len(statements))
        for i, (member, key) in enumerate(zip(held, keys, strict=True)):
            account = account_of(world, member)
            recovered = account.recovery.keys if account.recovery else None
            expected = (public(key), None, None) if i % 2 else ((), shop.account, public(key))
            assert (account.keys, account.custodian, recovered) == expected
    assert counts[0] == counts[1]
    check_projections(world.store)


def test_preview_of_keys_shows_what_would_happen(world: World) -> None:
    """Also before the new keys have signed; nothing changes by it."""
    alice, key = world.add_member(), world.make_key()
    recovery = world.recover(alice, key)
    cancel = alice.sign(CancelRecovery, account=alice.account)
    replace = alice.replace_keys([key])
    assert [refusal_of_preview(world, signed) for signed in (replace, recovery, cancel)] == [
        None,
        None,
        Code.NO_RECOVERY,
    ]
    world.record(recovery)
    assert [refusal_of_preview(world, signed) for signed in (replace, world.recover(alice, key), cancel)] == [
        None,
        Code.RECOVERY_PENDING,
        None,
    ]


def refusal_of_preview(world: World, signed: SignedOperation) -> Code | None:
    preview = world.sequencer.preview(signed.op_bytes)
    assert isinstance(preview, Preview)
    return preview.rejection.code if preview.rejection else None


def test_preview_counts_the_signatures_of_new_keys(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether an entry will be too large is known before anyone has signed: the account's own keys, and new ones."""
    keys = [world.make_key() for _ in range(3)]
    (opened,) = world.record(
        world.wallet(None, *keys).sign(OpenAccount, role="member", keys=public(*keys), threshold=2)
    )
    account = account_opened_by(opened)
    signed = world.wallet(account, *keys[:2]).sign(
        ReplaceKeys, co_signers=(new := [world.make_key(), world.make_key()]), keys=public(keys[2], *new)
    )
    head = size_of(world)
    data = encode_entry(signed, (), seq=head, prev=LeafHash(bytes(32)), time=format_time(world.clock()))
    for most, refusal in ((len(data), None), (len(data) - 1, Code.TOO_LARGE)):
        monkeypatch.setattr(sequencer, "MAX_ENTRY_BYTES", most)
        assert refusal_of_preview(world, signed) == refusal
    monkeypatch.undo()
    (recorded,) = world.record(signed)
    assert len(recorded.data) == len(data)


# The log's key over time


def replace_log_key(world: World, key: Ed25519PrivateKey) -> SignedOperation:
    return world.operator.sign(ReplaceLogKey, log_key=encode_verifier_key(world.origin, key))


def signers_of(world: World, *keys: Ed25519PrivateKey) -> list[int]:
    """Which of these log keys signed the checkpoint, in the order of its lines; every line must be of one of them."""
    with world.store.read() as connection:
        note = world.store.head(connection).checkpoint
    known = [decode_verifier_key(encode_verifier_key(world.origin, key)) for key in keys]
    _, signers = verify_note(note, known)
    assert len(signers) == len(decode_note(note).signatures)
    return [known.index(signer) for signer in signers]


def test_log_key_is_replaced_within_a_batch(world: World) -> None:
    """The batch's checkpoint is signed with the new key and the old; the old one alone until then, never the next."""
    old, new, next_key = world.log_key, world.make_key(), world.make_key()
    keys = (old, new, next_key)
    world.restart(*keys)
    world.record(*open_members(world, 2))
    assert signers_of(world, *keys) == [0]
    world.record(*open_members(world, 2), replace_log_key(world, new), *open_members(world, 2))
    assert signers_of(world, *keys) == [1, 0]
    check_record(world.store)
    world.record(replace_log_key(world, next_key))
    assert signers_of(world, *keys) == [2, 1, 0]
    world.restart(next_key)
    world.record(*open_members(world, 1))
    assert signers_of(world, *keys) == [2]
    check_record(world.store)
    check_projections(world.store)


def test_log_key_is_replaced_twice_in_a_batch(world: World) -> None:
    """The last one counts, whichever this server began with."""
    keys = (world.log_key, world.make_key(), world.make_key())
    world.restart(*keys[1:], keys[0])
    world.record(replace_log_key(world, keys[1]), replace_log_key(world, keys[2]))
    assert signers_of(world, *keys) == [2, 1, 0]
    (outcome,) = world.submit(replace_log_key(world, keys[0]))
    assert code_of(outcome) is Code.LOG_KEY_USED
    check_record(world.store)


def test_log_key_that_is_not_here_is_refused_alone(world: World) -> None:
    """A server cannot make a key the log's that it could not sign with; the rest of the batch is recorded."""
    signed = replace_log_key(world, world.make_key())
    before, after = open_members(world, 2)
    outcomes = world.submit(before, signed, after)
    assert codes(outcomes) == [None, Code.UNAVAILABLE, None]
    assert isinstance(outcomes[1], Rejection)
    assert outcomes[1].path == ("log_key",)
    assert "GUERDON_OTHER_LOG_KEY_FILES" in outcomes[1].message
    assert refusal_of_preview(world, signed) is Code.UNAVAILABLE
    assert signers_of(world, world.log_key) == [0]
    check_projections(world.store)


def test_server_without_the_new_log_key_records_nothing(world: World) -> None:
    """It was not told of the change: it answers what it knows, refuses the rest, and others go on."""
    old, new = world.log_key, world.make_key()
    (known,) = open_members(world, 1)
    world.record(known)
    with world.make_sequencer(old, new) as informed:
        informed.submit([replace_log_key(world, new)]).result(ANSWER_LIMIT_S)
        size, waiting = size_of(world), open_members(world, 2)
        broken = world.wallet("mem_" + "a" * 26, world.make_key()).replace_keys([world.make_key()])
        outcomes = world.submit(known, broken, *waiting, waiting[0])
        assert isinstance(outcomes[0], Recorded)
        assert (outcomes[0].seq, outcomes[0].replayed) == (1, True)
        assert codes(outcomes[1:]) == [Code.UNAVAILABLE] * 4
        refusal = outcomes[2]
        assert isinstance(refusal, Rejection)
        assert refusal.retryable
        assert encode_verifier_key(world.origin, new) in refusal.message
        assert size_of(world) == size
        assert seqs(informed.submit(waiting).result(ANSWER_LIMIT_S)) == [size, size + 1]
    world.restart(old)
    with pytest.raises(StoreError, match=r"this server's log key is .*, the ledger's is "):
        _ = world.sequencer
    world.restart(new)
    world.record(*open_members(world, 1))
    check_record(world.store)


def test_server_with_the_next_log_key_alone_does_not_start(world: World) -> None:
    """Until it is the log's, it signs nothing."""
    new = world.make_key()
    world.restart(new)
    with pytest.raises(StoreError, match="set GUERDON_LOG_KEY_FILE"):
        _ = world.sequencer
    world.restart(new, world.log_key)
    world.record(replace_log_key(world, new))
    world.restart(new)
    world.record(*open_members(world, 1))


def test_change_of_keys_that_cannot_be_signed_leaves_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Accounts' keys and the log's are part of their batch: a fault at its end takes all of it back."""
    alice, new = world.add_member(), world.make_key()
    world.restart(world.log_key, new)
    _ = world.sequencer
    row, size = account_of(world, alice), size_of(world)
    batch = [alice.replace_keys([world.make_key()]), replace_log_key(world, new)]
    with monkeypatch.context() as patch:
        patch.setattr(sequencer, "sign_checkpoint", lambda *_: 1 // 0)
        assert [type(outcome) for outcome in world.submit(*batch)] == [ZeroDivisionError] * 2
    with world.store.read() as connection:
        assert len(world.store.log_keys(connection)) == 1
    assert (account_of(world, alice), size_of(world)) == (row, size)
    world.record(*batch)
    check_record(world.store)
    check_projections(world.store)


def test_log_key_is_replaced_while_servers_write(world: World) -> None:
    """Of two servers at work one is not told: what it recorded stays, it refuses the rest, and the other goes on."""
    old, new = world.log_key, world.make_key()
    engine = open_engine(world.url)
    uninformed = Sequencer(Store(engine, world.origin), old, world.clock, max_batch=5)
    with uninformed, world.make_sequencer(new, old, max_batch=5) as informed:
        by_uninformed = [uninformed.submit([signed]) for signed in open_members(world, 150)]
        by_informed = [informed.submit([signed]) for signed in open_members(world, 150)]
        change = informed.submit([replace_log_key(world, new)])
        by_informed += [informed.submit([signed]) for signed in open_members(world, 50)]
        (changed,) = seqs(change.result(ANSWER_LIMIT_S))
        by_uninformed += [uninformed.submit([signed]) for signed in open_members(world, 5)]
        answers = [future.result(ANSWER_LIMIT_S)[0] for future in by_uninformed]
        recorded = seqs([answer for answer in answers if isinstance(answer, Recorded)])
        assert all(seq < changed for seq in recorded)
        assert {code_of(answer) for answer in answers if not isinstance(answer, Recorded)} == {Code.UNAVAILABLE}
        assert codes(answers[-5:]) == [Code.UNAVAILABLE] * 5
        others = seqs([future.result(ANSWER_LIMIT_S)[0] for future in by_informed])
    assert sorted([*recorded, *others, changed]) == list(range(1, size_of(world)))
    assert signers_of(world, old, new) == [1, 0]
    engine.dispose()
    check_record(world.store)
