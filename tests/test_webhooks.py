"""Telling webhooks of events: at least once, in order, whatever fails: receivers, processes, the database's clock."""

import itertools
import json
import logging
import random
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from api import webhook_delivery
from api.webhook_client import Answer, WebhookClient
from api.webhook_delivery import (
    BATCH,
    DELAYS_MS,
    MAX_ATTEMPTS,
    MAX_RETRY_AFTER_MS,
    Deliverer,
    WebhookSender,
    message_id,
    retry_after_ms,
)
from api.webhook_secrets import SecretBox, secret_text
from ledger import webhooks
from ledger.encoding import format_time
from ledger.queries import Page
from ledger.store import Store
from ledger.webhooks import Delivery, Webhook
from tests.receivers import Receiver, Step
from tests.witnesses import until
from tests.worlds import DAY_MS, Clock, World, pay

LOOPBACK = (ip_network("127.0.0.0/8"),)
SECRET = bytes(range(32))
INTERVAL_MS = 20
DISABLE_AFTER_MS = 5 * DAY_MS


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    """A ledger whose clock stands at this machine's time, since verifiers compare with theirs."""
    with World(database_url, clock=Clock(format_time(now_ms()))) as world:
        yield world


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


class Shop:
    """A merchant with an asset, a member who holds it, and webhooks."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.wallet = world.add_merchant()
        world.add_asset(self.wallet, "STAR")
        self.alice, self.bob = world.add_members(2)
        self.granted = world.grant(self.wallet, "STAR", self.alice, 1_000_000).seq
        self._numbers = itertools.count()

    def pay(self, count: int = 1) -> list[int]:
        """Transfers that the shop, which issues the asset, is told of."""
        paid = [pay(self.alice, "STAR", 1, self.bob) for _ in range(count)]
        return [entry.seq for entry in self.world.record(*paid)]

    def webhook(self, url: str, **changes: Any) -> str:
        """A new webhook that is told of all that comes; its id."""
        webhook_id = f"whk_{next(self._numbers):026d}".replace("0", "a").replace("1", "b").replace("8", "c")
        fields: dict[str, Any] = {
            "webhook": webhook_id,
            "account": str(self.wallet.account),
            "url": url,
            "event_types": None,
            "description": None,
            "created_at_ms": self.world.clock(),
            "secret": box(self.world).seal(webhook_id, SECRET),
            "next_seq": self.size(),
        }
        with self.world.store.write() as transaction:
            webhooks.insert_webhook(transaction, Webhook(**fields | changes))
        return webhook_id

    def size(self) -> int:
        with self.world.store.read() as connection:
            return self.world.store.head(connection).size

    def read(self, webhook_id: str) -> Webhook:
        with self.world.store.read() as connection:
            found = webhooks.webhook(self.world.store, connection, webhook_id)
        assert found is not None
        return found

    def change(self, webhook_id: str, **changes: Any) -> None:
        with self.world.store.write() as transaction:
            assert webhooks.change_webhook(transaction, self.read(webhook_id), **changes)

    def deliveries(self, webhook_id: str) -> dict[int, Delivery]:
        with self.world.store.read() as connection:
            rows = webhooks.deliveries_page(self.world.store, connection, webhook_id, None, Page(limit=10_000))
        assert [row.seq for row in rows] == sorted((row.seq for row in rows), reverse=True)
        return {row.seq: row for row in rows}

    def statuses(self, webhook_id: str) -> dict[int, str]:
        return {seq: row.status for seq, row in sorted(self.deliveries(webhook_id).items())}


@pytest.fixture
def shop(world: World) -> Shop:
    return Shop(world)


def box(world: World, *log_keys: Ed25519PrivateKey) -> SecretBox:
    return SecretBox(world.origin, log_keys or [world.log_key], secrets.token_bytes)


def client() -> WebhookClient:
    return WebhookClient(LOOPBACK, allow_http=True, answer_limit_s=30)


def no_jitter(_below: int) -> int:
    return 0


def deliverer(world: World, by: Any = None, **changes: Any) -> Deliverer:
    options: dict[str, Any] = {"clock": world.clock, "jitter": no_jitter, "disable_after_ms": DISABLE_AFTER_MS}
    return Deliverer(world.store, box(world), by or client(), **options | changes)


@contextmanager
def sending(world: World, **options: Any) -> Iterator[WebhookSender]:
    """The thread that sends, until the block ends."""
    by = client()
    sender = WebhookSender(
        world.store,
        deliverer(world, by),
        by,
        **{"clock": world.clock, "interval_ms": INTERVAL_MS, **options},
    )
    with closing(sender.start()):
        yield sender


def until_told(receiver: Receiver, seqs: list[int]) -> None:
    """Wait until these are the entries that a receiver was told of, each once."""
    until(lambda: len(receiver.messages) >= len(seqs))
    assert receiver.seqs == seqs


# How it goes


def test_events_arrive_signed_and_in_order(shop: Shop, receiver: Receiver) -> None:
    """While the ledger grows: each once, with the id that follows from webhook and entry."""
    webhook_id = shop.webhook(receiver.url)
    expected: list[int] = []
    with sending(shop.world):
        for count in (1, 3, 2 * BATCH):
            expected += shop.pay(count)
            until_told(receiver, expected)
        until(lambda: len(shop.deliveries(webhook_id)) == len(expected))
    assert receiver.seqs == expected
    contents = receiver.verified(secret_text(SECRET))
    assert {each["type"] for each in contents} == {"transfer.recorded"}
    assert [message.id for message in receiver.messages] == [message_id(webhook_id, seq) for seq in expected]
    rows = shop.deliveries(webhook_id)
    assert all(
        (row.status, row.attempts, row.status_code, row.error) == ("delivered", 1, 204, None) for row in rows.values()
    )
    assert shop.read(webhook_id).next_seq == shop.size()


def test_only_events_of_the_types_wanted_are_sent(shop: Shop, receiver: Receiver) -> None:
    shop.webhook(receiver.url, event_types=("points.granted",))
    with sending(shop.world):
        shop.pay(3)
        granted = shop.world.grant(shop.wallet, "STAR", shop.bob, 5).seq
        until(lambda: receiver.messages)
    assert receiver.seqs == [granted]


def test_many_entries_that_are_not_told_hold_up_nothing(shop: Shop, receiver: Receiver) -> None:
    """They are passed at once, though only so many are looked at in a shift: there is but one round by the clock."""
    shop.webhook(receiver.url, event_types=("points.granted",))
    shop.pay(6 * BATCH)
    granted = shop.world.grant(shop.wallet, "STAR", shop.bob, 5).seq
    with sending(shop.world, interval_ms=1_000_000):
        until(lambda: receiver.messages)
    assert receiver.seqs == [granted]


def test_webhook_of_the_past_catches_up(shop: Shop, receiver: Receiver) -> None:
    """Told from an earlier entry on, it is told what its account was concerned with."""
    shop.pay(5)
    shop.webhook(receiver.url, next_seq=0)
    with sending(shop.world):
        until(lambda: shop.size() - 1 in receiver.seqs)
    assert [message.type for message in receiver.messages][:4] == [
        "account.opened",
        "asset.defined",
        "program.published",
        "points.granted",
    ]
    assert receiver.seqs == sorted(set(receiver.seqs))


def test_slow_receiver_holds_up_nobody(shop: Shop, receiver: Receiver) -> None:
    """Another webhook is told of everything meanwhile."""
    may_answer = threading.Event()

    def wait(handler: Any) -> None:
        may_answer.wait(60)
        handler.send_response(204)
        handler.end_headers()

    with Receiver() as slow:
        slow.answers = [wait]
        shop.webhook(slow.url)
        shop.webhook(receiver.url)
        with sending(shop.world):
            seqs = shop.pay(2)
            until(lambda: slow.messages)
            seqs += shop.pay(3)
            until_told(receiver, seqs)
            assert slow.seqs == seqs[:1]
            may_answer.set()
            until_told(slow, seqs)


def test_entries_of_others_move_the_cursor_now_and_then(
    shop: Shop, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing is told, little is written: a restart looks again at a bounded number of entries."""
    monkeypatch.setattr(webhook_delivery, "MAX_UNWRITTEN", 10)
    webhook_id = shop.webhook(receiver.url)
    first = shop.size()
    sender = deliverer(shop.world)
    shop.world.add_members(9)
    former = sender.shift(webhook_id)
    assert former is not None
    assert (former.written, former.settled_seq) == (False, first + 9)
    assert shop.read(webhook_id).next_seq == first
    shop.world.add_members(1)
    again = sender.shift(webhook_id, former)
    assert again is not None
    assert again.written
    assert shop.read(webhook_id).next_seq == first + 10
    assert receiver.messages == []


# Failures


def test_failing_message_is_tried_again_after_the_delays(shop: Shop, receiver: Receiver) -> None:
    """5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 10 h; after the last attempt it is dead, and the next one's turn."""
    webhook_id = shop.webhook(receiver.url)
    first, second = shop.pay(2)
    receiver.answers = [500] * MAX_ATTEMPTS
    sender = deliverer(shop.world, disable_after_ms=10**12)
    waited = []
    for attempt in range(1, MAX_ATTEMPTS):
        sender.shift(webhook_id)
        row = shop.deliveries(webhook_id)[first]
        assert (row.status, row.attempts, row.status_code, row.error) == ("pending", attempt, 500, "answered 500")
        assert row.next_attempt_at_ms is not None
        waited.append(row.next_attempt_at_ms - shop.world.clock())
        shop.world.clock.advance(ms=waited[-1] - 1)
        sender.shift(webhook_id)
        assert receiver.seqs == [first] * attempt
        shop.world.clock.advance(ms=1)
    assert waited == list(DELAYS_MS)
    sender.shift(webhook_id)
    assert shop.statuses(webhook_id) == {first: "dead", second: "delivered"}
    assert receiver.seqs == [first] * MAX_ATTEMPTS + [second]
    assert len({message.id for message in receiver.messages}) == 2
    assert len({message.body for message in receiver.messages}) == 2
    assert shop.read(webhook_id).failing_since_ms is None


def test_delays_are_spread_by_chance(shop: Shop, receiver: Receiver) -> None:
    """By at most a fifth, so that not all come back at once."""
    asked: list[int] = []

    def most(below: int) -> int:
        asked.append(below)
        return below - 1

    webhook_id = shop.webhook(receiver.url)
    (seq,) = shop.pay()
    receiver.answers = [500]
    deliverer(shop.world, jitter=most).shift(webhook_id)
    assert asked == [DELAYS_MS[0] // 5 + 1]
    assert shop.deliveries(webhook_id)[seq].next_attempt_at_ms == shop.world.clock() + DELAYS_MS[0] * 6 // 5


@pytest.mark.parametrize(
    ("text", "delay_ms"),
    [
        ("120", 120_000),
        (" 7 ", 7_000),
        ("0", 0),
        ("999999999999999999", MAX_RETRY_AFTER_MS),
        ("-5", 0),
        ("1.5", 0),
        ("²", 0),
        ("soon", 0),
        ("", 0),
        (None, 0),
        ("Thu, 01 Jan 1970 00:01:00 GMT", 30_000),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", MAX_RETRY_AFTER_MS),
        ("Thu, 99 Jan 1970 00:01:00 GMT", 0),
    ],
)
def test_retry_after_is_read(text: str | None, delay_ms: int) -> None:
    """Seconds or a date (RFC 9110), at most a day; 30 s after the beginning of 1970 here."""
    assert retry_after_ms(text, 30_000) == delay_ms


def test_retry_after_is_respected(shop: Shop, receiver: Receiver) -> None:
    """Where it is longer than the delay."""
    webhook_id = shop.webhook(receiver.url)
    (seq,) = shop.pay()
    receiver.answers = [(429, {"retry-after": "3600"}), (503, {"retry-after": "1"})]
    sender, clock = deliverer(shop.world), shop.world.clock
    sender.shift(webhook_id)
    assert shop.deliveries(webhook_id)[seq].next_attempt_at_ms == clock() + 3_600_000
    clock.advance(ms=3_600_000)
    sender.shift(webhook_id)
    assert shop.deliveries(webhook_id)[seq].next_attempt_at_ms == clock() + DELAYS_MS[1]


def test_gone_receiver_is_told_nothing_more(shop: Shop, receiver: Receiver) -> None:
    """Until it is enabled; then it is told what it missed."""
    webhook_id = shop.webhook(receiver.url)
    seqs = shop.pay(3)
    receiver.answers = [204, 410]
    sender = deliverer(shop.world)
    sender.shift(webhook_id)
    found = shop.read(webhook_id)
    assert (found.disabled_reason, found.disabled_at_ms) == ("gone", shop.world.clock())
    shop.world.clock.advance(days=1)
    assert sender.shift(webhook_id) is None
    seqs += shop.pay()
    shop.change(webhook_id, disabled_at_ms=None, disabled_reason=None)
    sender.shift(webhook_id)
    assert receiver.seqs == [seqs[0], seqs[1], *seqs[1:]]


def test_webhook_that_fails_for_days_is_disabled(
    shop: Shop, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    """Counted from the first failure after the last success, and said in the log, without its address."""
    webhook_id = shop.webhook(f"{receiver.url}?key=hidden")
    sender, clock = deliverer(shop.world), shop.world.clock
    shop.pay()
    answers: list[Step] = [500, 204, *[500] * 100]
    receiver.answers = answers
    sender.shift(webhook_id)
    clock.advance(days=4)
    sender.shift(webhook_id)
    shop.pay(10)
    sender.shift(webhook_id)
    began = clock()
    while shop.read(webhook_id).is_enabled:
        clock.advance(days=1)
        sender.shift(webhook_id)
        assert clock() - began <= DISABLE_AFTER_MS
    assert clock() - began == DISABLE_AFTER_MS
    assert shop.read(webhook_id).disabled_reason == "failing"
    assert shop.read(webhook_id).failing_since_ms == began
    (record,) = [record for record in caplog.records if record.name == "guerdon.webhooks"]
    assert webhook_id in record.message
    assert "hidden" not in caplog.text
    assert str(receiver.port) not in record.message


def test_refused_address_is_a_failure_like_any_other(shop: Shop) -> None:
    """Seen in the delivery, and tried again: a name may come to mean another address."""
    webhook_id = shop.webhook("https://10.0.0.1/hook")
    (seq,) = shop.pay()
    deliverer(shop.world).shift(webhook_id)
    row = shop.deliveries(webhook_id)[seq]
    assert (row.status, row.error) == ("pending", "the address is not one of the public network")


def test_delivered_rows_are_kept_for_a_while(shop: Shop, receiver: Receiver) -> None:
    """The newest; what is pending or dead stays."""
    webhook_id = shop.webhook(receiver.url)
    seqs = shop.pay(6)
    receiver.answers = [500]
    sender = deliverer(shop.world)
    sender.shift(webhook_id)
    with shop.world.store.write() as transaction:
        row = shop.deliveries(webhook_id)[seqs[0]]
        dead = {"status": "dead", "next_attempt_at_ms": None}
        webhooks.keep_deliveries(transaction, [Delivery(**{**_fields(row), **dead})])
    sender.shift(webhook_id)
    with shop.world.store.write() as transaction:
        webhooks.forget_delivered(transaction, webhook_id, kept=2)
    assert shop.statuses(webhook_id) == {seqs[0]: "dead", seqs[4]: "delivered", seqs[5]: "delivered"}


def _fields(row: Delivery) -> dict[str, Any]:
    return {name: getattr(row, name) for name in row.__struct_fields__}


# At least once


class Crash(BaseException):
    """The process ends here."""


class ScriptedReceiver:
    """Stands in for the network: what becomes of each message is drawn from a generator, until it becomes good."""

    def __init__(self, generator: random.Random) -> None:
        self.random = generator
        self.is_good = False
        self.taken: list[int] = []
        self.bodies: dict[str, set[bytes]] = {}
        self.meanwhile: Callable[[], object] = lambda: None

    def check(self, url: str) -> None:
        """Anything goes."""

    def close(self) -> None:
        """Nothing is under way."""

    def connect(self, url: str) -> "ScriptedReceiver":
        return self

    def __enter__(self) -> "ScriptedReceiver":
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def post(self, headers: Mapping[str, str], body: bytes) -> Answer:
        self.bodies.setdefault(headers["webhook-id"], set()).add(body)
        seq = json.loads(body)["data"]["seq"]
        step = "take" if self.is_good else self.random.choice(STEPS)
        if step == "meanwhile":
            self.meanwhile()
        if step == "crash before":
            raise Crash
        if step in {"take", "take and crash", "take and say no", "meanwhile"}:
            self.taken.append(seq)
        if step == "take and crash":
            raise Crash
        if step == "gone":
            return Answer(status_code=410, error="answered 410")
        if step in {"refuse", "take and say no"}:
            return Answer(error="no answer")
        return Answer(status_code=204)


STEPS = ["take"] * 6 + ["refuse", "take and say no", "crash before", "take and crash", "gone", "meanwhile"]


@pytest.mark.parametrize("seed", range(12))
def test_nothing_is_lost_or_out_of_order_whatever_fails(shop: Shop, seed: int) -> None:
    """Receivers that refuse, processes that die before and after a message, owners and other senders in between.

    Each event is taken at least once, for the first time in the order of the entries, and always with the same bytes;
    unless it was dead-lettered, which is seen.
    """
    generator = random.Random(seed)
    world, network = shop.world, ScriptedReceiver(generator)
    webhook_id = shop.webhook("https://shop.example/hook")
    expected = []
    rival = deliverer(world, network, disable_after_ms=10**15)

    def interfere() -> None:
        network.meanwhile = lambda: None
        if generator.random() < 0.5:
            rival.shift(webhook_id)
        else:
            shop.change(webhook_id, description=f"changed {generator.random()}")
        network.meanwhile = interfere

    def survive(sender: Deliverer, former: Any) -> Any:
        network.meanwhile = interfere
        try:
            return sender.shift(webhook_id, former)
        except Crash:
            return None

    former = None
    for _ in range(60):
        expected += shop.pay(generator.choice([0, 0, 1, 2, 7]))
        world.clock.advance(ms=generator.choice([0, 4_000, 400_000, 8_000_000, 40_000_000]))
        if not shop.read(webhook_id).is_enabled:
            shop.change(webhook_id, disabled_at_ms=None, disabled_reason=None)
        # A process that goes on knows what it found before, one that starts anew does not.
        former = survive(deliverer(world, network, disable_after_ms=10**15), former)
    network.is_good = True
    while shop.read(webhook_id).next_seq < shop.size() or "pending" in shop.statuses(webhook_id).values():
        shop.change(webhook_id, disabled_at_ms=None, disabled_reason=None)
        world.clock.advance(days=1)
        survive(deliverer(world, network), None)
    dead = {seq for seq, status in shop.statuses(webhook_id).items() if status == "dead"}
    first_times = list(dict.fromkeys(network.taken))
    assert set(first_times) | dead == set(expected), f"seed {seed}"
    # Dead letters of a rival may be taken late by the sender that had them under way.
    assert [seq for seq in first_times if seq not in dead] == [seq for seq in expected if seq not in dead]
    assert all(len(bodies) == 1 for bodies in network.bodies.values())
    assert len(network.bodies) <= len(expected)


def test_shift_that_was_not_written_is_done_again(shop: Shop) -> None:
    """A process that dies after it sent, before it wrote: everything is sent again, with the same ids."""
    webhook_id = shop.webhook("https://shop.example/")
    seqs = shop.pay(3)
    network = ScriptedReceiver(random.Random(0))
    network.is_good = True
    stopping = iter([True, True, False])

    class Dying(Deliverer):
        def _write(self, *_: Any) -> Any:
            raise Crash

    with pytest.raises(Crash):
        Dying(
            shop.world.store,
            box(shop.world),
            network,
            clock=shop.world.clock,
            jitter=no_jitter,
            disable_after_ms=DISABLE_AFTER_MS,
        ).shift(webhook_id, None, lambda: next(stopping))
    assert network.taken == seqs[:2]
    assert shop.deliveries(webhook_id) == {}
    deliverer(shop.world, network).shift(webhook_id)
    assert network.taken == seqs[:2] + seqs


def test_replay_during_a_shift_is_not_undone_by_it(shop: Shop) -> None:
    """The shift has read the cursor before; what it found is dropped, and the replay done."""
    network = ScriptedReceiver(random.Random(0))
    webhook_id = shop.webhook("https://shop.example/")
    seqs = shop.pay(3)
    sender = deliverer(shop.world, network)
    network.is_good = True
    former = sender.shift(webhook_id)
    seqs += shop.pay()

    class Replaying(ScriptedReceiver):
        def post(self, headers: Mapping[str, str], body: bytes) -> Answer:
            shop.change(webhook_id, next_seq=seqs[1])
            return super().post(headers, body)

    network_2 = Replaying(random.Random(0))
    network_2.is_good = True
    former = deliverer(shop.world, network_2).shift(webhook_id, former)
    assert network_2.taken == seqs[3:]
    assert former is not None
    assert not former.written
    sender.shift(webhook_id, former)
    assert network.taken == seqs[:3] + seqs[1:]


def test_deleted_webhook_is_told_nothing(shop: Shop, receiver: Receiver) -> None:
    """Also while a shift of it is under way: its rows do not come back."""
    webhook_id = shop.webhook(receiver.url)
    shop.pay(2)

    class Deleting(ScriptedReceiver):
        def post(self, headers: Mapping[str, str], body: bytes) -> Answer:
            with shop.world.store.write() as transaction:
                webhooks.delete_webhook(transaction, webhook_id)
            return Answer(error="no answer")

    deliverer(shop.world, Deleting(random.Random(0))).shift(webhook_id)
    assert shop.deliveries(webhook_id) == {}
    assert deliverer(shop.world).shift(webhook_id) is None


# Secrets


def test_message_is_signed_with_both_secrets_until_the_overlap_ends(shop: Shop, receiver: Receiver) -> None:
    former, clock = bytes(32), shop.world.clock
    webhook_id = shop.webhook(receiver.url)
    sealed = box(shop.world).seal(webhook_id, former)
    shop.change(webhook_id, previous_secret=sealed, previous_until_ms=clock() + 1_000)
    sender = deliverer(shop.world)
    shop.pay()
    sender.shift(webhook_id)
    for secret in (SECRET, former):
        assert len(receiver.verified(secret_text(secret))) == 1
    clock.advance(ms=1_000)
    shop.pay()
    sender.shift(webhook_id)
    assert len(receiver.verified(secret_text(SECRET))) == 2
    assert len(receiver.messages[1].headers["webhook-signature"].split(" ")) == 1


def test_former_secret_is_forgotten_when_its_overlap_has_ended(shop: Shop, receiver: Receiver) -> None:
    """Not before; what is not there any more nobody can read."""
    clock = shop.world.clock
    webhook_id = shop.webhook(receiver.url)
    sealed = box(shop.world).seal(webhook_id, bytes(32))
    shop.change(webhook_id, previous_secret=sealed, previous_until_ms=clock() + 1_000)
    sender = deliverer(shop.world)
    clock.advance(ms=999)
    sender.tend_secrets()
    assert shop.read(webhook_id).previous_secret == sealed
    clock.advance(ms=1)
    sender.tend_secrets()
    found = shop.read(webhook_id)
    assert (found.previous_secret, found.previous_until_ms) == (None, None)
    shop.pay()
    sender.shift(webhook_id)
    assert len(receiver.verified(secret_text(SECRET))) == 1


def test_secret_goes_over_to_the_logs_next_key(shop: Shop, receiver: Receiver) -> None:
    """A server with both keys encrypts it anew when it begins; one with the new key alone then goes on."""
    webhook_id, key = shop.webhook(receiver.url), Ed25519PrivateKey.generate()
    both = SecretBox(shop.world.origin, [key, shop.world.log_key], secrets.token_bytes)
    by = client()
    options: dict[str, Any] = {"clock": shop.world.clock, "jitter": no_jitter, "disable_after_ms": DISABLE_AFTER_MS}
    sender = WebhookSender(
        shop.world.store,
        Deliverer(shop.world.store, both, by, **options),
        by,
        clock=shop.world.clock,
        interval_ms=INTERVAL_MS,
    )
    with closing(sender.start()):
        until(lambda: shop.read(webhook_id).revision == 1)
    shop.pay()
    Deliverer(shop.world.store, box(shop.world, key), client(), **options).shift(webhook_id)
    assert len(receiver.verified(secret_text(SECRET))) == 1


def test_secret_nobody_can_read_is_seen_and_sends_nothing(shop: Shop, receiver: Receiver) -> None:
    """The delivery says what to do; with the former key, or another secret, it is sent."""
    webhook_id = shop.webhook(receiver.url)
    (seq,) = shop.pay()
    options: dict[str, Any] = {"clock": shop.world.clock, "jitter": no_jitter, "disable_after_ms": DISABLE_AFTER_MS}
    strange = box(shop.world, Ed25519PrivateKey.generate())
    Deliverer(shop.world.store, strange, client(), **options).shift(webhook_id)
    row = shop.deliveries(webhook_id)[seq]
    assert row.status == "pending"
    assert row.error == "this server cannot read the secret: rotate it, or give the server the log's former key"
    assert receiver.messages == []
    shop.world.clock.advance(days=1)
    deliverer(shop.world).shift(webhook_id)
    assert receiver.seqs == [seq]


# Several senders


def test_one_of_two_sends_until_it_ends(shop: Shop, receiver: Receiver) -> None:
    """Then the other goes on, without sending anything twice."""
    shop.webhook(receiver.url)
    seqs = []
    with sending(shop.world) as first:
        seqs += shop.pay()
        until_told(receiver, seqs)
        with sending(shop.world):
            for _ in range(3):
                seqs += shop.pay()
                until_told(receiver, seqs)
            first.close()
            seqs += shop.pay(2)
            until_told(receiver, seqs)


def test_turn_is_given_back_when_there_is_nobody_to_tell(shop: Shop, receiver: Receiver) -> None:
    """So that a process without webhooks holds nothing."""
    webhook_id = shop.webhook(receiver.url)
    with sending(shop.world) as first:
        until(first._is_mine.is_set)
        with shop.world.store.write() as transaction:
            webhooks.delete_webhook(transaction, webhook_id)
        until(lambda: not first._is_mine.is_set())
        with sending(shop.world):
            shop.webhook(receiver.url)
            seqs = shop.pay()
            until_told(receiver, seqs)


def test_end_of_the_server_cuts_what_hangs(shop: Shop, receiver: Receiver) -> None:
    """It does not wait for the receiver, and the message counts as not sent: another process sends it."""
    ended = threading.Event()

    def hang(handler: Any) -> None:
        ended.wait(60)

    receiver.answers = [hang]
    webhook_id = shop.webhook(receiver.url)
    (seq,) = shop.pay()
    with sending(shop.world):
        until(lambda: receiver.messages)
        began = time.monotonic()
    assert time.monotonic() - began < 20
    ended.set()
    assert shop.deliveries(webhook_id) == {}
    deliverer(shop.world).shift(webhook_id)
    assert receiver.seqs == [seq, seq]


def test_trouble_is_said_once_and_ends_nothing(
    shop: Shop, receiver: Receiver, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault nobody thought of is logged with its traceback; when it is over, everything is sent."""
    broken = threading.Event()
    whole = webhooks.cursors

    def cursors(store: Store, connection: Any) -> Any:
        if broken.is_set():
            raise ZeroDivisionError("a fault")
        return whole(store, connection)

    monkeypatch.setattr(webhooks, "cursors", cursors)
    broken.set()
    shop.webhook(receiver.url)
    with sending(shop.world):
        seqs = shop.pay()
        until(lambda: caplog.records)
        time.sleep(5 * INTERVAL_MS / 1000)
        broken.clear()
        until_told(receiver, seqs)
    records = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [bool(record.exc_info) for record in records] == [True]


SENDER = """
import secrets, sys, time
from ipaddress import ip_network
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from api.webhook_client import WebhookClient
from api.webhook_delivery import Webhooks
from api.webhook_secrets import SecretBox
from ledger.store import Store, open_engine
url, origin, key = sys.argv[1:]
store = Store(open_engine(url), origin)
box = SecretBox(origin, [Ed25519PrivateKey.from_private_bytes(bytes.fromhex(key))], secrets.token_bytes)
Webhooks(store, box, WebhookClient([ip_network("127.0.0.0/8")], allow_http=True),
         clock=lambda: time.time_ns() // 1_000_000, jitter=secrets.randbelow, disable_after_ms=10**9,
         interval_ms=20).start()
print("started", flush=True)
time.sleep(600)
"""


@contextmanager
def sender_process(world: World) -> Iterator[subprocess.Popen[str]]:
    """A process that sends; killed at the end."""
    call = [sys.executable, "-c", SENDER, world.url, world.origin, world.log_key.private_bytes_raw().hex()]
    process = subprocess.Popen(call, cwd=Path(__file__).parent.parent, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_one_of_two_processes_sends_and_the_other_takes_over_when_it_is_killed(shop: Shop, receiver: Receiver) -> None:
    """By SIGKILL, in the middle of it: nothing is missing then, and what came twice came with the same id."""
    shop.webhook(receiver.url)
    with sender_process(shop.world) as first:
        seqs = shop.pay(3)
        until_told(receiver, seqs)
        with sender_process(shop.world):
            seqs += shop.pay(30)
            until(lambda: len(receiver.messages) > 10)
            first.send_signal(signal.SIGKILL)
            first.wait()
            seqs += shop.pay(10)
            until(lambda: seqs[-1] in receiver.seqs)
    assert list(dict.fromkeys(receiver.seqs)) == seqs
    ids = {(message.id, message.body) for message in receiver.messages}
    assert len(ids) == len(seqs)
    receiver.verified(secret_text(SECRET))
