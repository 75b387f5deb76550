"""Telling webhooks of events: at least once, in the order of the entries, however often something fails.

A *shift* is what one webhook gets at a time (:class:`Deliverer`): what is pending first, then what the cursor finds,
each signed and sent, one after the other, until one fails, a number of them is sent or the time is over. What came of
it is written once, at the end of the shift and only if nobody changed the webhook meanwhile; a shift that is not
written was none, and its messages are sent again. Receivers know them by their id, which follows from webhook and
entry.

A message that fails holds back the later ones, and is tried again after the delays that Standard Webhooks recommends.
After the last attempt it is dead, and the next one's turn. Who answers 410, or fails for days, is told nothing more
until the webhook is enabled again; nothing is lost then.

Of several server processes on one database one sends (:class:`ledger.turns.Turn`). Shifts of different webhooks run at
the same time, each in a thread of its own (:class:`WebhookSender`), so that whoever is slow holds up nobody else.
"""

import email.utils
import logging
import queue
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from typing import Protocol, TypedDict

from msgspec import Struct, structs
from sqlalchemy.engine import Connection

from api.steps import Steps, monotonic_ms
from api.webhook_client import Answer
from api.webhook_events import TEST_EVENT, Event, Reader, event_at, events_from, message_body, reader_of
from api.webhook_secrets import SecretBox, SecretError, signed_headers
from ledger import webhooks
from ledger.encoding import format_time
from ledger.store import Store
from ledger.turns import Turn
from ledger.webhooks import Cursor, Delivery, Reason, Webhook

logger = logging.getLogger("guerdon.webhooks")

DELAYS_MS = tuple(s * 1000 for s in (5, 300, 1_800, 7_200, 18_000, 36_000, 36_000))
"""Delays after each attempt that fails, as Standard Webhooks recommends: 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 10 h."""

JITTER = 5
"""A delay is prolonged by up to one part in so many, at random, so that not all come back at once."""

MAX_ATTEMPTS = len(DELAYS_MS) + 1
MAX_RETRY_AFTER_MS = 86_400_000
"""What a receiver asks for beyond that, in `Retry-After`, is cut to it."""

GONE = 410
BATCH = 50
"""Entries looked at, and messages sent at most, in one shift."""

SHIFT_MS = 5_000
"""No message of a shift is begun later than this after its beginning."""

MAX_UNWRITTEN = 1_000
"""Entries without events that a cursor passes before it is written."""

MAX_SHIFTS = 16
"""Webhooks that are told something at the same time."""

INTERVAL_MS = 1_000
"""How often a process looks for new entries."""

TURN_INTERVALS = 10
"""How many times rarer it looks whether it can take the turn from another process."""

MAX_TESTS = 8
"""Tests that one process has under way or waiting."""

MAX_TESTS_OF_ACCOUNT = 1
"""How many of them may be of one account: each takes as long as its receiver likes, up to a limit."""

TESTERS = 4
"""Threads that send tests."""

SECRETS_INTERVAL_MS = 3_600_000
"""How often secrets whose overlap has ended are looked for."""

GRACE_MS = 1_000
"""How long a message may still be answered when the service ends; one that is cut off is sent again, as a duplicate."""

CLOSE_LIMIT_S = 5
"""How long the end of the server waits for shifts, whose connections are cut."""

_MESSAGE_PREFIX = "msg_"
WEBHOOK_PREFIX = "whk_"


class Poster(Protocol):
    """Sends messages to one address: :class:`api.webhook_client.Channel`."""

    def post(self, headers: Mapping[str, str], body: bytes) -> Answer:
        """Send one, and say what became of it."""


class Client(Protocol):
    """Opens channels: :class:`api.webhook_client.WebhookClient`."""

    def check(self, url: str) -> None:
        """Raise :class:`api.webhook_client.UrlError` for an address that no webhook can have."""

    def connect(self, url: str) -> AbstractContextManager[Poster]:
        """A channel to an address."""

    def close(self) -> None:
        """End whatever is under way."""


def message_id(webhook_id: str, seq: int) -> str:
    """The id of the message that tells a webhook of an entry, the same each time it is sent."""
    return f"{_MESSAGE_PREFIX}{webhook_id.removeprefix(WEBHOOK_PREFIX)}_{seq}"


def retry_after_ms(text: str | None, now_ms: int) -> int:
    """How long a receiver asks to be left alone (RFC 9110: seconds or a date); 0 for what cannot be read."""
    text = (text or "").strip()
    if text.isascii() and text.isdigit():
        return min(int(text[:9]) * 1000, MAX_RETRY_AFTER_MS)
    try:
        at = email.utils.parsedate_to_datetime(text)
        delay_ms = int(at.timestamp() * 1000) - now_ms
    except (ValueError, TypeError, OverflowError, IndexError):
        return 0
    return max(0, min(delay_ms, MAX_RETRY_AFTER_MS))


class _Work(Struct, frozen=True, kw_only=True):
    """What there is to do for a webhook: messages in order, first those that are pending.

    The others are of the entries from ``first_seq`` to before ``next_seq``.
    """

    webhook: Webhook
    messages: list[tuple[Delivery, Event | None]]
    first_seq: int
    next_seq: int


class ShiftResult(Struct, frozen=True, kw_only=True):
    """What came of a shift: whether it was written, and up to which entry there is nothing to tell any more."""

    written: bool
    revision: int
    settled_seq: int


class _Health(TypedDict, total=False):
    """How it goes with a webhook, and whether it is told anything more."""

    failing_since_ms: int | None
    disabled_at_ms: int
    disabled_reason: Reason


class _Secrets(TypedDict, total=False):
    """What changes of a webhook's secrets."""

    secret: bytes
    previous_secret: bytes | None
    previous_until_ms: int | None


class Deliverer:
    """Does shifts. Time, chance and network are passed in; ``jitter`` gives a number below the one it is given."""

    def __init__(
        self,
        store: Store,
        box: SecretBox,
        client: Client,
        *,
        clock: Callable[[], int],
        jitter: Callable[[int], int],
        disable_after_ms: int,
    ) -> None:
        self._store = store
        self._box = box
        self._client = client
        self._clock = clock
        self._jitter = jitter
        self._disable_after_ms = disable_after_ms

    def shift(
        self, webhook_id: str, former: ShiftResult | None = None, go_on: Callable[[], bool] = lambda: True
    ) -> ShiftResult | None:
        """Send what is due to a webhook; ``None`` when there is none, or it is disabled.

        What a ``former`` shift found settled is not looked at again, as long as nobody has changed the webhook.
        ``go_on`` is asked before each message; once it says no, the rest is left for another time.
        """
        work = self._work(webhook_id, former)
        if work is None:
            return None
        ends_at_ms = self._clock() + SHIFT_MS
        done: list[Delivery] = []
        with self._client.connect(work.webhook.url) as channel:
            for due, event in work.messages:
                now_ms = self._clock()
                if not go_on() or now_ms >= ends_at_ms or (due.next_attempt_at_ms or 0) > now_ms:
                    break
                answer = self._send(channel, work.webhook, due, event)
                if not answer.is_delivered and not go_on():
                    break  # it was we who ended it
                done.append(self._outcome(due, answer))
                if done[-1].status == "pending":
                    break
        return self._write(work, done)

    def _work(self, webhook_id: str, former: ShiftResult | None) -> _Work | None:
        with self._store.read() as connection:
            webhook = webhooks.webhook(self._store, connection, webhook_id)
            if webhook is None or not webhook.is_enabled:
                return None
            first_seq = webhook.next_seq
            if former is not None and former.revision == webhook.revision:
                first_seq = max(first_seq, former.settled_seq)
            reader = self._reader(connection, webhook)
            pending = webhooks.pending(self._store, connection, webhook_id, BATCH)
            messages = [
                (due, event_at(self._store, connection, reader, due.seq, due.type) if reader else None)
                for due in pending
            ]
            events: list[Event] = []
            next_seq = first_seq
            if reader is not None and len(pending) < BATCH:
                types = webhook.event_types
                events, next_seq = events_from(self._store, connection, reader, types, first_seq=first_seq, limit=BATCH)
        return _Work(
            webhook=webhook,
            messages=[*messages, *((_new_delivery(webhook_id, event), event) for event in events)],
            first_seq=first_seq,
            next_seq=next_seq,
        )

    def _reader(self, connection: Connection, webhook: Webhook) -> Reader | None:
        account = next(iter(self._store.accounts(connection, [webhook.account])), None)
        return reader_of(self._store, connection, account) if account is not None else None

    def _send(self, channel: Poster, webhook: Webhook, due: Delivery, event: Event | None) -> Answer:
        if event is None:
            return Answer(error="the entry is not there")
        try:
            secrets = self.secrets(webhook)
        except SecretError as error:
            return Answer(error=str(error))
        headers = signed_headers(secrets, message_id(webhook.webhook, due.seq), self._clock(), event.body)
        return channel.post(headers, event.body)

    def secrets(self, webhook: Webhook) -> list[bytes]:
        """The secrets that sign now, the newest first; raise :class:`SecretError` when it cannot be read."""
        found = [self._box.open(webhook.webhook, webhook.secret)]
        if webhook.previous_secret is not None and self._clock() < (webhook.previous_until_ms or 0):
            with suppress(SecretError):
                found.append(self._box.open(webhook.webhook, webhook.previous_secret))
        return found

    def _outcome(self, due: Delivery, answer: Answer) -> Delivery:
        """What became of a message after one more attempt."""
        now_ms, attempts = self._clock(), due.attempts + 1
        tried = structs.replace(
            due, attempts=attempts, last_attempt_at_ms=now_ms, status_code=answer.status_code, error=answer.error
        )
        if answer.is_delivered:
            return structs.replace(tried, status="delivered", next_attempt_at_ms=None)
        if attempts >= MAX_ATTEMPTS:
            return structs.replace(tried, status="dead", next_attempt_at_ms=None)
        delay_ms = DELAYS_MS[attempts - 1]
        delay_ms = max(delay_ms + self._jitter(delay_ms // JITTER + 1), retry_after_ms(answer.retry_after, now_ms))
        return structs.replace(tried, status="pending", next_attempt_at_ms=now_ms + delay_ms)

    def _write(self, work: _Work, done: Sequence[Delivery]) -> ShiftResult:
        read = work.webhook
        if len(done) == len(work.messages):
            next_seq = work.next_seq
        else:
            # Behind the last that was tried of those the cursor found; pending ones lie before it.
            next_seq = max([work.first_seq, *(each.seq + 1 for each in done)])
        result = ShiftResult(written=False, revision=read.revision, settled_seq=work.first_seq)
        if not done and next_seq - read.next_seq < MAX_UNWRITTEN:
            return structs.replace(result, settled_seq=next_seq)
        health = self._health(read, done)
        with self._store.write() as transaction:
            if not webhooks.change_webhook(transaction, read, next_seq=next_seq, **health):
                return result
            webhooks.keep_deliveries(transaction, done)
            webhooks.forget_delivered(transaction, read.webhook)
        if "disabled_reason" in health:
            logger.warning("%s of %s is disabled: %s", read.webhook, read.account, health["disabled_reason"])
        return ShiftResult(written=True, revision=read.revision + 1, settled_seq=next_seq)

    def _health(self, webhook: Webhook, done: Sequence[Delivery]) -> "_Health":
        """How it goes with a webhook after these deliveries, and whether it is told anything more."""
        since_ms = webhook.failing_since_ms
        for each in done:
            if each.status == "delivered":
                since_ms = None
            elif since_ms is None:
                since_ms = each.last_attempt_at_ms
        health = _Health(failing_since_ms=since_ms)
        now_ms = self._clock()
        if done and done[-1].status_code == GONE:
            health.update({"disabled_at_ms": now_ms, "disabled_reason": "gone"})
        elif done and since_ms is not None and now_ms - since_ms >= self._disable_after_ms:
            health.update({"disabled_at_ms": now_ms, "disabled_reason": "failing"})
        return health

    def tend_secrets(self) -> None:
        """Encrypt with the first log key what another one encrypted, and forget secrets whose overlap has ended."""
        with self._store.read() as connection:
            found = webhooks.every_webhook(self._store, connection)
        for webhook in found:
            changes = self._changed_secrets(webhook)
            if changes:
                with self._store.write() as transaction:
                    webhooks.change_webhook(transaction, webhook, **changes)

    def _changed_secrets(self, webhook: Webhook) -> "_Secrets":
        changes = _Secrets()
        if (sealed := self._box.renewed(webhook.webhook, webhook.secret)) is not None:
            changes["secret"] = sealed
        if webhook.previous_secret is None:
            return changes
        if self._clock() >= (webhook.previous_until_ms or 0):
            changes.update({"previous_secret": None, "previous_until_ms": None})
        elif (sealed := self._box.renewed(webhook.webhook, webhook.previous_secret)) is not None:
            changes["previous_secret"] = sealed
        return changes

    def send_test(self, webhook: Webhook, test_id: str) -> Answer:
        """Send a message of no entry, once; what became of it is not stored."""
        data = {"ledger": self._store.origin, "accountId": webhook.account, "webhookId": webhook.webhook}
        now_ms = self._clock()
        body = message_body(TEST_EVENT, format_time(now_ms), data)
        try:
            headers = signed_headers(self.secrets(webhook), test_id, now_ms, body)
        except SecretError as error:
            return Answer(error=str(error))
        with self._client.connect(webhook.url) as channel:
            return channel.post(headers, body)


def _new_delivery(webhook_id: str, event: Event) -> Delivery:
    return Delivery(
        webhook=webhook_id,
        seq=event.seq,
        type=event.type,
        status="pending",
        attempts=0,
        last_attempt_at_ms=None,
        next_attempt_at_ms=None,
        status_code=None,
        error=None,
    )


class WebhookSender:
    """The thread that sees to it that every webhook gets its shifts. ``close`` cuts what is under way."""

    def __init__(
        self, store: Store, deliverer: Deliverer, client: Client, *, clock: Callable[[], int], interval_ms: int
    ) -> None:
        self._store = store
        self._deliverer = deliverer
        self._client = client
        self._clock = clock
        self._interval_ms = interval_ms
        self._turn = Turn(store, "webhook")
        self._is_mine = threading.Event()
        self._stopping = threading.Event()
        self._running: dict[str, threading.Thread] = {}
        self._former: dict[str, ShiftResult] = {}
        self._last_shift: dict[str, int] = {}
        self._rounds_without_turn = 0
        self._next_tending_ms = 0
        self._ended: queue.SimpleQueue[tuple[str, ShiftResult | Exception | None] | None] = queue.SimpleQueue()
        self._steps = Steps(logger, "webhooks are not told of anything for now")
        self._thread = threading.Thread(target=self._run, name="guerdon-webhooks", daemon=True)

    def start(self) -> "WebhookSender":
        """Begin to send, if it is this process's turn."""
        self._thread.start()
        return self

    def close(self) -> None:
        """Let messages under way be answered, but not for long; write what was delivered, and leave the turn."""
        self._stopping.set()
        self._ended.put(None)
        self._await_shifts(GRACE_MS)
        self._client.close()
        self._thread.join()

    def _run(self) -> None:
        next_round_ms = monotonic_ms()
        try:
            while not self._stopping.is_set():
                try:
                    ended = self._ended.get(timeout=max(0, next_round_ms - monotonic_ms()) / 1000)
                except queue.Empty:
                    next_round_ms = monotonic_ms() + self._interval_ms
                    self._steps.take(self._round)
                else:
                    if ended is not None:
                        self._steps.take(self._end_shift, *ended)
        finally:
            self._await_shifts(CLOSE_LIMIT_S * 1000)
            self._turn.release()

    def _await_shifts(self, limit_ms: int) -> None:
        """Wait until the shifts that are running have ended, all of them together no longer than the limit."""
        give_up_at_ms = monotonic_ms() + limit_ms
        for thread in list(self._running.values()):
            thread.join(max(0, give_up_at_ms - monotonic_ms()) / 1000)

    def _round(self) -> None:
        with self._store.read() as connection:
            found = webhooks.cursors(self._store, connection)
            size = self._store.head(connection).size
        if not self._have_turn(needed=bool(found)):
            return
        # Whoever had no shift for the longest time is first.
        found.sort(key=lambda cursor: self._last_shift.get(cursor.webhook, 0))
        for cursor in found:
            if len(self._running) < MAX_SHIFTS and cursor.webhook not in self._running and self._is_due(cursor, size):
                self._begin_shift(cursor.webhook)

    def _have_turn(self, *, needed: bool) -> bool:
        """Whether this process sends. It gives the turn back when there is nothing to send to."""
        had = self._is_mine.is_set()
        if not needed and not self._running:
            self._is_mine.clear()
            self._turn.release()
            return False
        if not had and self._rounds_without_turn % TURN_INTERVALS:
            self._rounds_without_turn += 1
            return False
        mine = False
        try:
            mine = self._turn.take()
        finally:
            if not mine:  # not before: shifts that are under way ask whether it still is
                self._is_mine.clear()
                self._rounds_without_turn += 1
        if not mine:
            return False
        self._rounds_without_turn = 0
        if not had:
            self._former.clear()
        if not had or monotonic_ms() >= self._next_tending_ms:
            self._deliverer.tend_secrets()
            self._next_tending_ms = monotonic_ms() + SECRETS_INTERVAL_MS
        self._is_mine.set()
        return True

    def _is_due(self, cursor: Cursor, size: int) -> bool:
        if cursor.due_at_ms is not None:
            return cursor.due_at_ms <= self._clock()
        former = self._former.get(cursor.webhook)
        settled_seq = former.settled_seq if former is not None and former.revision == cursor.revision else 0
        return max(cursor.next_seq, settled_seq) < size

    def _begin_shift(self, webhook_id: str) -> None:
        self._last_shift[webhook_id] = monotonic_ms()
        thread = threading.Thread(target=self._shift, args=(webhook_id,), name=f"tell {webhook_id}", daemon=True)
        self._running[webhook_id] = thread
        thread.start()

    def _shift(self, webhook_id: str) -> None:
        """One shift, in a thread of its own."""
        result: ShiftResult | Exception | None
        try:
            result = self._deliverer.shift(webhook_id, self._former.get(webhook_id), self._goes_on)
        except Exception as error:
            result = error
        self._ended.put((webhook_id, result))

    def _goes_on(self) -> bool:
        return self._is_mine.is_set() and not self._stopping.is_set()

    def _end_shift(self, webhook_id: str, result: ShiftResult | Exception | None) -> None:
        del self._running[webhook_id]
        if isinstance(result, Exception):
            raise result
        former = self._former.pop(webhook_id, None)
        if result is None:
            return
        self._former[webhook_id] = result
        # Whoever gets on has perhaps more to do; nobody else is looked at again before it is time.
        if result.written or former is None or former.settled_seq < result.settled_seq:
            self._round()


class Webhooks:
    """Webhooks of one ledger in this process: the thread that sends, and what GraphQL needs of them."""

    def __init__(
        self,
        store: Store,
        box: SecretBox,
        client: Client,
        *,
        clock: Callable[[], int],
        jitter: Callable[[int], int],
        disable_after_ms: int,
        interval_ms: int = INTERVAL_MS,
    ) -> None:
        self.box = box
        self.client = client
        self.deliverer = Deliverer(store, box, client, clock=clock, jitter=jitter, disable_after_ms=disable_after_ms)
        self.sender = WebhookSender(store, self.deliverer, client, clock=clock, interval_ms=interval_ms)
        self._testers = ThreadPoolExecutor(TESTERS, thread_name_prefix="guerdon-webhook-test")
        self._lock = threading.Lock()
        self._tests: Counter[str] = Counter()

    def start(self) -> "Webhooks":
        """Begin to send."""
        self.sender.start()
        return self

    def close(self) -> None:
        """End, and let what is under way fail."""
        self.sender.close()
        # Nobody waits for what the client has just cut.
        self._testers.shutdown(wait=False, cancel_futures=True)

    def begin_test(self, webhook: Webhook, test_id: str) -> "Future[Answer] | None":
        """Send a test; ``None`` when too many are under way, in all or of the webhook's account."""
        account = webhook.account
        with self._lock:
            if self._tests.total() >= MAX_TESTS or self._tests[account] >= MAX_TESTS_OF_ACCOUNT:
                return None
            self._tests[account] += 1
        try:
            under_way = self._testers.submit(self.deliverer.send_test, webhook, test_id)
        except BaseException:
            self._end_test(account)
            raise
        under_way.add_done_callback(lambda _: self._end_test(account))
        return under_way

    def _end_test(self, account: str) -> None:
        with self._lock:
            self._tests[account] -= 1
            if not self._tests[account]:
                del self._tests[account]
