"""Rate limits: how much one client may ask and submit in a minute.

Two quotas for each client, which is the account of a session, or without one the address it comes from:

* ``cost``, for what is asked: the cost of queries (:mod:`api.limits`), 1 for every request and 1 more for each 4 KiB
  that it sends, and :data:`NEW_DOCUMENT_COST` for a document that was not seen before and has to be validated;
* ``operations``, for what is submitted: each signed document counts once, alone or in a bulk.

What a session uses counts against its address too, which has :data:`ADDRESS_FACTOR` times as much for all the sessions
that come from it: accounts are free, and whoever opens many of them has no more than that.

A quota fills up steadily (GCRA, the leaky bucket as a meter), so that a client may use a whole minute's at once after a
pause, and no more than the rate after that. Quotas are kept in the memory of each server process: with several
processes, a client gets at most as many times the quota. Answers tell what is left in the fields ``RateLimit-Policy``
and ``RateLimit`` of draft-ietf-httpapi-ratelimit-headers-10; what is refused has status 429 and ``Retry-After``.
"""

import heapq
import ipaddress
import re
import time
from collections.abc import Callable
from functools import lru_cache

from msgspec import Struct

from api.errors import HttpError

WINDOW_MS = 60_000
MAX_CLIENTS = 100_000
"""Clients that a process remembers of each quota; past that it forgets those who have used the least."""

NEW_DOCUMENT_COST = 50
"""What parsing and validating a document counts."""

BYTES_PER_COST = 4_096
"""Bytes of a request's body that count as much as one field."""

MAX_FORWARDED = 1_024
"""Bytes of ``X-Forwarded-For`` that are looked at, from its end: some dozen proxies."""

ADDRESS_FACTOR = 10
"""How many times what one account has the accounts that come from one address have together."""

_IPV6_PREFIX = 64
"""A client with IPv6 has at least so long a prefix for itself, and may change the rest at will."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Fields = tuple[tuple[bytes, bytes], ...]
"""Header fields."""


def steady_clock() -> int:
    """Milliseconds of a clock that nobody sets."""
    return time.monotonic_ns() // 1_000_000


class Policy(Struct, frozen=True, kw_only=True):
    """A quota: so many units in a window, which is also as much as can be used at once."""

    name: str
    quota: int


class Client(Struct, frozen=True, kw_only=True):
    """Who asks: the address a request comes from, and the account of its session if it has one."""

    address: str
    account: str | None = None


class Quota:
    """What each client has used of one quota.

    Kept for each client is the time at which nothing of it would be used any more, as an integer of milliseconds times
    ``quota``: a unit moves it by exactly the window. So there is no rounding, and nothing to be done as time passes.
    A policy of 0 is none: everything may be taken, and nothing is told.
    """

    def __init__(self, policy: Policy, clock: Callable[[], int], max_clients: int = MAX_CLIENTS) -> None:
        self._name = policy.name
        self._quota = policy.quota
        self._clock = clock
        self._max_clients = max_clients
        self._capacity = policy.quota * WINDOW_MS
        self._free_at: dict[str, int] = {}
        stated = f'"{policy.name}";q={policy.quota};w={WINDOW_MS // 1000};qu="{policy.name}"'
        self._stated = (b"ratelimit-policy", stated.encode())
        self._state = f'"{policy.name}";r=%d;t=%d'.encode()

    def __len__(self) -> int:
        return len(self._free_at)

    def take(self, client: str, units: int, taken: int = 0) -> int:
        """Use units of a client's quota; raise :class:`HttpError` and use none when there are fewer left.

        ``taken`` are units that the same request has used before, and would use again when it is sent again. Those and
        these together count as at most the whole quota: otherwise a client could wait for ever. What the client has
        used is given back for :meth:`fields`.
        """
        quota = self._quota
        if not quota:
            return 0
        if units + taken > quota:
            units = max(quota - taken, 0)
        now = self._clock() * quota
        free_at = self._free_at.get(client, now)
        used = (free_at - now if free_at > now else 0) + units * WINDOW_MS
        if used > self._capacity:
            raise self._refusal(used - units * WINDOW_MS, used - self._capacity + taken * WINDOW_MS)
        self._free_at[client] = now + used
        if len(self._free_at) > self._max_clients:
            self._forget(now)
        return used

    def give_back(self, client: str, units: int, taken: int = 0) -> None:
        """Undo a :meth:`take` of a moment ago, for a request that is refused for another reason."""
        if client in self._free_at:
            self._free_at[client] -= min(units, max(self._quota - taken, 0)) * WINDOW_MS

    def fields(self, used: int) -> Fields:
        """What an answer tells of the quota: all of it, what is left, and in how many seconds it is full again."""
        return self._told(used, used) if self._quota else ()

    def _told(self, used: int, wait: int) -> Fields:
        left = (self._capacity - used) // WINDOW_MS
        return (self._stated, (b"ratelimit", self._state % (left, self._seconds(wait))))

    def _refusal(self, used: int, wait: int) -> HttpError:
        seconds = self._seconds(wait)
        headers = ((b"retry-after", b"%d" % seconds), *self._told(used, wait))
        message = f"more than {self._quota} of {self._name} in a minute: try again in {seconds} s"
        return HttpError(429, "RATE_LIMITED", message, headers, retryable=True)

    def _seconds(self, wait: int) -> int:
        """Seconds, rounded up, of a time as it is kept."""
        return -(-wait // (self._quota * 1000))

    def _forget(self, now: int) -> None:
        """Make room: for whom nothing is used any more, and if that is not enough, for whom the least is."""
        self._free_at = {client: free_at for client, free_at in self._free_at.items() if free_at > now}
        excess = len(self._free_at) - self._max_clients * 3 // 4
        if excess > 0:
            for client in heapq.nsmallest(excess, self._free_at, key=self._free_at.__getitem__):
                del self._free_at[client]


class Rate:
    """A quota of every client, and the larger one of all the accounts that come from one address."""

    def __init__(self, name: str, quota: int, clock: Callable[[], int]) -> None:
        self._own = Quota(Policy(name=name, quota=quota), clock)
        self._shared = Quota(Policy(name=f"address-{name}", quota=quota * ADDRESS_FACTOR), clock)

    def take(self, client: Client, units: int, taken: int = 0) -> int:
        """Use units of a client's quota, see :meth:`Quota.take`; what counts for an account does for its address too.

        When the address has none left, the account's own are given back.
        """
        if client.account is None:
            return self._own.take(client.address, units, taken)
        used = self._own.take(client.account, units, taken)
        try:
            self._shared.take(client.address, units, taken)
        except HttpError:
            self._own.give_back(client.account, units, taken)
            raise
        return used

    def fields(self, used: int) -> Fields:
        """What an answer tells of the client's own quota."""
        return self._own.fields(used)


class RateLimits:
    """The quotas of a server: of what is asked, and of what is submitted."""

    def __init__(self, *, cost: int, operations: int, clock: Callable[[], int] = steady_clock) -> None:
        self.cost = Rate("cost", cost, clock)
        self.operations = Rate("operations", operations, clock)


class Addresses:
    """Says which address a request comes from, behind proxies that are trusted to tell."""

    def __init__(self, trusted: tuple[Network, ...]) -> None:
        self._trusted = trusted
        self._client = lru_cache(maxsize=4_096)(self._client_of)

    def client(self, peer: tuple[str, int] | None, headers: list[tuple[bytes, bytes]]) -> str:
        """The client of a connection from ``peer`` with these header fields, as its quotas are kept."""
        host = peer[0] if peer is not None else ""
        if not self._trusted:
            return self._client(host, b"")
        # Each proxy adds what it saw at the end, in the same line or in one of its own. What stands far before that is
        # the client's own and may be long.
        forwarded = b",".join(value for name, value in headers if name == b"x-forwarded-for")
        return self._client(host, forwarded[-MAX_FORWARDED:])

    def _client_of(self, host: str, forwarded: bytes) -> str:
        nearest = _address(host)
        if nearest is None:
            return host  # a socket of this machine, which has no address
        for text in reversed(forwarded.decode("latin-1").split(",")):
            told = _address(text.strip())
            if told is None or not self._is_trusted(nearest):
                break
            nearest = told
        if isinstance(nearest, ipaddress.IPv6Address):
            return str(ipaddress.IPv6Network((nearest, _IPV6_PREFIX), strict=False))
        return str(nearest)

    def _is_trusted(self, address: Address) -> bool:
        return any(address in network for network in self._trusted)


_WITH_PORT = re.compile(r"\[(.+)\](?::\d+)?|([0-9.]+):\d+")
"""Some proxies tell the port as well."""


def _address(text: str) -> Address | None:
    if match := _WITH_PORT.fullmatch(text):
        text = match[1] or match[2]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
