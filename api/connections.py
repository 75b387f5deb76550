"""WebSockets of a server process: how many there are, of whom, and from where.

A connection that has not said who it is yet has a place in a small pool of its own, of which one address may have a
part: nobody who only connects can keep those out who sign in. With a session it counts among the others, of its account
and of its address.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from api.streams import StreamLimits, counted

POOL_PART = 10
"""The pool of those that are not signed in is one in so many of all connections."""

POOL_PART_OF_ADDRESS = 10
"""One address may have one in so many of the pool's places."""

MIN_POOL = 10
MIN_POOL_OF_ADDRESS = 5
"""So many there are at least, as long as the limits allow any."""


class Places:
    """The connections of one process. Used on one event loop."""

    def __init__(self, limits: StreamLimits) -> None:
        self._limits = limits
        self._pool = min(limits.total, max(limits.total // POOL_PART, MIN_POOL))
        self._pool_of_address = min(self._pool, max(self._pool // POOL_PART_OF_ADDRESS, MIN_POOL_OF_ADDRESS))
        self._waiting: Counter[str] = Counter()
        self._accounts: Counter[str] = Counter()
        self._addresses: Counter[str] = Counter()

    @contextmanager
    def taken(self, address: str) -> "Iterator[Place | None]":
        """A place for a new connection while the block runs; ``None`` when all it could have are taken."""
        if self._waiting.total() >= self._pool or self._waiting[address] >= self._pool_of_address:
            yield None
            return
        with ExitStack() as held:
            held.enter_context(counted(self._waiting, address))
            yield Place(self, address, held)

    def why_full(self, account: str, address: str) -> str | None:
        """Why an account can have no more connections now; ``None`` when it can."""
        if self._accounts[account] >= self._limits.per_account:
            return f"{self._limits.per_account} connections of this account are open: close one first"
        if self._addresses[address] >= self._limits.per_address:
            return f"{self._limits.per_address} connections from this address are open: close one first"
        if self._accounts.total() >= self._limits.total:
            return "this server has as many connections as it takes: try again later"
        return None

    def settled(self, account: str, address: str) -> ExitStack:
        """Count a connection of an account, until what is given back is closed."""
        held = ExitStack()
        held.enter_context(counted(self._accounts, account))
        held.enter_context(counted(self._addresses, address))
        return held


class Place:
    """The place of one connection."""

    def __init__(self, places: Places, address: str, held: ExitStack) -> None:
        self._places = places
        self._address = address
        self._held = held

    def settle(self, account: str) -> str | None:
        """Leave the pool for a place among the account's; why there is none, or ``None`` when it is done."""
        reason = self._places.why_full(account, self._address)
        if reason is None:
            self._held.close()
            self._held.enter_context(self._places.settled(account, self._address))
        return reason
