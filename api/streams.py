"""What the subscriptions of a server process share: how many there are, who may read now, and when the server stops.

A subscription has no queue. It reads entries from a position of its own, a page at a time, only as fast as its client
takes them, and waits for the ledger's tail when it has read all there is. So a client that reads slowly costs one page
of memory, and one that was away goes on where it says it was.

When the ledger has grown, the process asks once whom that concerns (:class:`News`), and only those look: an entry
costs as much as there are subscriptions that it concerns.
"""

import asyncio
import logging
import signal
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from msgspec import Struct

from api.errors import ApiError
from ledger.tail import Tail

logger = logging.getLogger("guerdon.api")

MOST_NEWS = 1_000
"""New entries at once about which it is not asked whom they concern: all look."""

IDLE_S = 5
"""How long a process that heard of nothing new goes on before it sees whether anybody still waits."""

RETRY_S = 1
"""Pause after a fault in telling, so that one that lasts does not keep everybody looking."""

PAGE = 20
"""Entries a subscription reads at once, and the most it holds; an entry has at most 64 KiB."""


class StreamLimits(Struct, frozen=True, kw_only=True):
    """How many subscriptions and connections one process has, and how long things take.

    Of ``total``, one account has at most ``per_account``, all that come from one address ``per_address``.
    ``ping_s`` is the pause after which a quiet stream gets a sign of life and its session is checked again, ``send_s``
    how long a client may take nothing of what it is sent, ``init_s`` how long it may take to say who it is.
    """

    total: int = 1_000
    per_account: int = 20
    per_address: int = 200
    ping_s: float = 15
    send_s: float = 30
    init_s: float = 10


Interests = frozenset[str] | None
"""Accounts and assets one of which every entry touches that a subscription tells; ``None`` for any."""


class _Waiter:
    """A subscription that waits: everything below ``clear`` does not concern it."""

    def __init__(self, interests: Interests, clear: int) -> None:
        self.interests = interests
        self.clear = clear
        self.woken = asyncio.Event()


class News:
    """Wakes those of one process whom new entries may concern. Used on one event loop."""

    def __init__(self, tail: Tail, concerned: Callable[[int, int], Awaitable[Interests]]) -> None:
        self._tail = tail
        self._concerned = concerned
        self._told = 0
        self._waiting: set[_Waiter] = set()
        self._telling: asyncio.Task[None] | None = None

    async def wait(self, size: int, interests: Interests, timeout_s: float) -> int:
        """Wait until entries from ``size`` on may concern some interests, or for a while; how far none does."""
        if size < self._told:
            return size  # those after it were told of before
        waiter = _Waiter(interests, size)
        self._waiting.add(waiter)
        if self._telling is None:
            self._told = size
            self._telling = asyncio.create_task(self._tell())
        try:
            async with asyncio.timeout(timeout_s):
                await waiter.woken.wait()
        except TimeoutError:
            pass
        finally:
            self._waiting.discard(waiter)
        return waiter.clear

    async def _tell(self) -> None:
        """Tell of what is recorded while anyone waits."""
        try:
            while self._waiting:
                size = await self._grown(self._told)
                if size is not None:
                    await self._tell_of(size)
        except Exception:
            logger.exception("nobody can be told what is recorded, those who wait look for themselves")
            await asyncio.sleep(RETRY_S)
        finally:
            self._end()

    def _end(self) -> None:
        """Wake all: whoever comes next may begin behind what these have not been told of."""
        self._telling = None
        for waiter in self._waiting:
            waiter.woken.set()

    async def close(self) -> None:
        """Stop telling. Who still waits is woken."""
        if (telling := self._telling) is not None:
            telling.cancel()
            await asyncio.wait([telling])
            self._end()  # cancelled before it began, it did not

    async def _tell_of(self, size: int) -> None:
        first, concerned = self._told, None
        try:
            if size - first <= MOST_NEWS:
                concerned = await self._concerned(first, size)
        except Exception:  # who looks for itself finds out why
            logger.exception("it cannot be found out whom new entries concern")
        self._told = size
        for waiter in self._waiting:
            may_concern = concerned is None or waiter.interests is None or not waiter.interests.isdisjoint(concerned)
            if may_concern or waiter.clear < first:  # it was not told of what lies between: it looks for itself
                waiter.woken.set()
            elif not waiter.woken.is_set():
                waiter.clear = max(waiter.clear, size)

    async def _grown(self, size: int) -> int | None:
        """The ledger's size once it is more; ``None`` when nothing happened for a while."""
        loop = asyncio.get_running_loop()
        grown = asyncio.Event()

        def tell() -> None:
            with suppress(RuntimeError):  # the loop has ended, and nobody waits any more
                loop.call_soon_threadsafe(grown.set)

        with self._tail.watching(size, tell), suppress(TimeoutError):
            async with asyncio.timeout(IDLE_S):
                await grown.wait()
                return self._tail.size
        return None


@contextmanager
def counted(counter: Counter[str], key: str) -> Iterator[None]:
    """Count one more of a key while the block runs."""
    counter[key] += 1
    try:
        yield
    finally:
        counter[key] -= 1
        if not counter[key]:
            del counter[key]


class TooManySubscriptionsError(ApiError):
    """There are as many subscriptions as there may be."""

    CODE = "TOO_MANY_SUBSCRIPTIONS"


class Streams:
    """The subscriptions of one process. Used on one event loop; ``readers`` is the number of threads that read."""

    def __init__(self, news: News, limits: StreamLimits, readers: int) -> None:
        self.news = news
        self.limits = limits
        self.stopping = asyncio.Event()
        # Where there are two threads and more, those who ask and wait for an answer always find one: subscriptions take
        # the others at most.
        self.turn = asyncio.Semaphore(max(readers - 1, 1))
        self._running: Counter[str] = Counter()
        self._at_address: Counter[str] = Counter()

    @contextmanager
    def place(self, account: str, address: str) -> Iterator[None]:
        """A subscription's place while the block runs; raise :class:`TooManySubscriptionsError` when all are taken."""
        if self._running[account] >= self.limits.per_account:
            text = f"{self.limits.per_account} subscriptions of this account are running: end one first"
            raise TooManySubscriptionsError(text)
        if self._at_address[address] >= self.limits.per_address:
            text = f"{self.limits.per_address} subscriptions from this address are running: end one first"
            raise TooManySubscriptionsError(text)
        if self._running.total() >= self.limits.total:
            raise TooManySubscriptionsError("this server has as many subscriptions as it takes: try again later")
        with counted(self._running, account), counted(self._at_address, address):
            yield

    def stop(self) -> None:
        """End every stream, so that the server can stop; their clients go on elsewhere."""
        self.stopping.set()


@contextmanager
def stopped_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """While the block runs, call ``stop`` on the event loop when a signal tells the server to end.

    Uvicorn waits for running answers before it tells the application to stop, and a stream never ends by itself. So
    this stands before the server's own handlers of the signals, where there are such.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    found = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(stop)
        server = found[signal.Signals(number)]
        if callable(server):
            server(number, frame)

    wrapped = {number: server for number, server in found.items() if callable(server)}
    for number in wrapped:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, server in wrapped.items():
            if signal.getsignal(number) is handle:
                signal.signal(number, server)
