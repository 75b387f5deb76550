"""Sending a message to an address that somebody else has chosen, without being turned against one's own network.

The name is resolved here, *every* address it has is held against what is allowed, and the connection is made to one of
the addresses that were checked, never by the name: a name that means something else a moment later (DNS rebinding)
changes nothing. TLS is still verified for the name. Redirects are not followed, no proxy is used, nothing of an answer
is kept but its status and ``Retry-After``, and an answer has to be there within a time that counts from the name's
look-up, however slowly its bytes come.

Allowed are global unicast addresses, and the networks that a setting names. IPv4 within IPv6 is judged by the IPv4
address. The networks that are refused are listed from IANA's special-purpose registries, not taken from the standard
library, whose lists differ with its version.
"""

import functools
import http.client
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from msgspec import Struct
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, HTTPError, LocationParseError, NewConnectionError
from urllib3.util import Url, parse_url

CONNECT_LIMIT_S = 5
ANSWER_LIMIT_S = 15
"""From the name's look-up to the answer's status; Standard Webhooks recommends 15 to 30 seconds."""

USER_AGENT = "Guerdon-Webhooks"
MAX_URL = 2_048
MAX_ADDRESSES = 3
"""Addresses of one name that are tried, one after the other, until one connects."""

_MAX_BODY = 4_096
"""A longer body of an answer is not read to its end, and its connection not used again."""

_GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")
_TRANSLATED_V6 = ipaddress.IPv6Network("64:ff9b::/96")
_REFUSED_V4 = [
    ipaddress.IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
]
_REFUSED_V6 = [ipaddress.IPv6Network(text) for text in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")]

T = TypeVar("T")
IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolve = Callable[[str, int], list[str]]
"""Addresses of a name, as text; raises OSError when it has none."""


class UrlError(ValueError):
    """An address that no webhook can have; the message says why."""


class Answer(Struct, frozen=True, kw_only=True):
    """What became of a message. ``error`` says why it is not delivered; ``None`` when it is."""

    status_code: int | None = None
    error: str | None = None
    retry_after: str | None = None

    @property
    def is_delivered(self) -> bool:
        """Whether the receiver has taken it."""
        return self.error is None


def system_resolve(host: str, port: int) -> list[str]:
    """Addresses of a name, by this machine's resolver, in the order it prefers."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def is_global(address: IpAddress) -> bool:
    """Whether an address is one of the public network's, to which anybody could connect."""
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _REFUSED_V4)
    embedded = _embedded(address)
    if embedded is not None:
        return is_global(embedded)
    return address in _GLOBAL_V6 and not any(address in network for network in _REFUSED_V6)


def _embedded(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 address stands for: mapped, or translated (NAT64)."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if address in _TRANSLATED_V6 else None


class WebhookClient:
    """Sends messages to addresses of the public network, and to those in ``networks``. Used by several threads.

    ``resolve`` gives the addresses of a name, ``tls`` which certificates are trusted (the system's when left out).
    """

    def __init__(
        self,
        networks: Iterable[IpNetwork] = (),
        *,
        allow_http: bool = False,
        resolve: Resolve = system_resolve,
        tls: ssl.SSLContext | None = None,
        answer_limit_s: float = ANSWER_LIMIT_S,
    ) -> None:
        self._networks = tuple(networks)
        self._allow_http = allow_http
        self._resolve = resolve
        self._tls = tls
        self._answer_limit_s = answer_limit_s
        self._lock = threading.Lock()
        self._watched: set[_Watch] = set()
        self._closed = False

    @functools.cached_property
    def _trust(self) -> ssl.SSLContext:
        """Which certificates are trusted, and that they have to be those of the name."""
        return self._tls or ssl.create_default_context()

    def check(self, url: str) -> None:
        """Raise :class:`UrlError` for an address that no webhook can have. Names are not resolved here."""
        self.parse(url)

    def parse(self, url: str) -> Url:
        """The parts of an address; raise :class:`UrlError` for one that no webhook can have."""
        if len(url) > MAX_URL:
            raise UrlError(f"an address has at most {MAX_URL} characters")
        if not url.isascii() or not url.isprintable() or any(c in url for c in ' \\"<>^`{|}'):
            raise UrlError("an address is of printable ASCII, with anything else percent-encoded or in punycode")
        try:
            parts = parse_url(url)
        except LocationParseError:
            raise UrlError("this is no address: use one like https://shop.example/webhooks") from None
        if parts.scheme != "https" and not (parts.scheme == "http" and self._allow_http):
            raise UrlError("an address begins with https://")
        if not parts.host or parts.port == 0:
            raise UrlError("this is no address: use one like https://shop.example/webhooks")
        if parts.auth is not None:
            raise UrlError("an address holds no user and password: messages are signed")
        if parts.fragment is not None:
            raise UrlError("an address has no fragment (#)")
        literal = _address(parts.host)
        if literal is not None and not self.allows(literal):
            raise UrlError("the address is not one of the public network")
        return parts

    def allows(self, address: IpAddress) -> bool:
        """Whether one may connect to an address."""
        embedded = _embedded(address) if isinstance(address, ipaddress.IPv6Address) else None
        return is_global(address) or any((embedded or address) in network for network in self._networks)

    def connect(self, url: str) -> "Channel":
        """A channel to an address, for messages one after the other. Nothing is resolved before the first of them."""
        return Channel(self, url)

    def close(self) -> None:
        """End whatever is under way, and let nothing begin: it fails, with an error that nobody is to blame for."""
        with self._lock:
            self._closed = True
            watched = list(self._watched)
        for watch in watched:
            watch.expire()

    def addresses_of(self, parts: Url) -> list[str]:
        """The addresses to connect to; raise :class:`RefusedError` unless every address of the name is allowed."""
        assert parts.host is not None
        literal = _address(parts.host)
        if literal is not None:
            texts = [str(literal)]
        else:
            try:
                texts = self._resolve(parts.host, port_of(parts))
            except (OSError, UnicodeError):
                raise RefusedError("the name does not resolve") from None
        # One private address among them is one too many: which of them is used would be up to whoever owns the name.
        for text in texts:
            found = _address(text)
            if found is None or not self.allows(found):
                raise RefusedError("the name has an address that is not one of the public network")
        if not texts:
            raise RefusedError("the name does not resolve")
        return list(dict.fromkeys(texts))[:MAX_ADDRESSES]

    def new_connection(self, parts: Url, address: str) -> "_PlainConnection | _TlsConnection":
        """A connection, not made yet, to an address that was checked, for the name it was found by."""
        if parts.scheme == "http":
            return _PlainConnection(address, port_of(parts), timeout=CONNECT_LIMIT_S)
        name = str(parts.host).strip("[]")
        # What connects is told only the address; the certificate has to be the name's.
        return _TlsConnection(
            address,
            port_of(parts),
            timeout=CONNECT_LIMIT_S,
            ssl_context=self._trust,
            server_hostname=name,
        )

    @contextmanager
    def watch(self) -> "Iterator[_Watch]":
        """What ends an attempt in time."""
        watch = _Watch(self._answer_limit_s)
        with self._lock:
            self._watched.add(watch)
            closed = self._closed
        if closed:
            watch.expire()
        try:
            yield watch
        finally:
            watch.end()
            with self._lock:
                self._watched.discard(watch)


class RefusedError(Exception):
    """A message that is not sent, since its address is none to send to."""


def port_of(parts: Url) -> int:
    """The port of an address."""
    return parts.port or (443 if parts.scheme == "https" else 80)


def _address(host: str) -> IpAddress | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


class _Watch:
    """Ends an attempt when its time is over: the socket is shut down, whoever waits on it.

    A time-out of the socket would not do, since it starts anew with each byte.
    """

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self.is_expired = False
        self._lock = threading.Lock()
        self._over: Future[None] = Future()
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(limit_s, self.expire)
        self._timer.daemon = True
        self._timer.start()

    def take(self, twin: socket.socket | None) -> None:
        """Watch a socket, in place of the one before it."""
        with self._lock:
            self._socket = twin
            if self.is_expired:
                self._shut_down()

    def expire(self) -> None:
        """End the attempt now."""
        with self._lock:
            if not self.is_expired:
                self.is_expired = True
                self._over.set_result(None)
            self._shut_down()

    def call(self, question: Callable[[], T]) -> T:
        """Ask what nothing can cut off, in a thread of its own; raise :class:`TimeoutError` when time is over first.

        The thread is left behind then, for as long as the system takes for its answer.
        """
        answered: Future[T] = Future()

        def answer() -> None:
            try:
                answered.set_result(question())
            except Exception as error:
                answered.set_exception(error)

        threading.Thread(target=answer, name="guerdon-webhook-lookup", daemon=True).start()
        both: list[Future[Any]] = [answered, self._over]
        wait(both, return_when=FIRST_COMPLETED)
        if not answered.done():
            raise TimeoutError
        return answered.result()

    def end(self) -> None:
        """The attempt is over."""
        self._timer.cancel()
        with self._lock:
            self._socket = None

    def _shut_down(self) -> None:
        if self._socket is not None:
            with suppress(OSError):  # the other side was quicker
                self._socket.shutdown(socket.SHUT_RDWR)


class _Twinned:
    """A connection that can be shut down from outside from its beginning, by a duplicate of its socket.

    TLS takes the socket itself over before the handshake, which may be what takes too long.
    """

    watch: _Watch | None = None
    twin: socket.socket | None = None

    def _new_conn(self) -> socket.socket:
        connected: socket.socket = super()._new_conn()  # type: ignore[misc]
        self.close_twin()
        self.twin = connected.dup()
        if self.watch is not None:
            self.watch.take(self.twin)
        return connected

    def close_twin(self) -> None:
        """Close the duplicate. It outlives the connection's own end, behind which an answer may still be read."""
        if self.twin is not None:
            self.twin.close()
            self.twin = None


class _PlainConnection(_Twinned, HTTPConnection):
    """HTTP to an address."""


class _TlsConnection(_Twinned, HTTPSConnection):
    """HTTPS to an address."""


_Connection = _PlainConnection | _TlsConnection
_FAILURES = (OSError, HTTPError, http.client.HTTPException, ValueError)


class Channel:
    """Messages to one address, one after the other, over one connection where that lasts. For one thread.

    A context manager, to be used for a short time: what the name resolves to is looked up for each new connection.
    """

    def __init__(self, client: WebhookClient, url: str) -> None:
        self._client = client
        self._url = url
        self._connection: _Connection | None = None

    def __enter__(self) -> "Channel":
        return self

    def __exit__(self, *_: object) -> None:
        self._drop()

    def post(self, headers: Mapping[str, str], body: bytes) -> Answer:
        """Send a message, and say what became of it. Whatever the receiver does, this raises nothing."""
        try:
            parts = self._client.parse(self._url)
        except UrlError as error:
            return Answer(error=str(error))
        if self._connection is not None and not self._connection.is_connected:
            self._drop()
        with self._client.watch() as watch:
            try:
                addresses: list[str] = []
                if self._connection is None:
                    addresses = watch.call(lambda: self._client.addresses_of(parts))
                self._make_connection(parts, addresses, watch)
                return self._exchange(watch, parts, headers, body)
            except RefusedError as error:
                return Answer(error=str(error))
            except _FAILURES as error:
                self._drop()
                return Answer(error=_trouble(error, watch))

    def _make_connection(self, parts: Url, addresses: Sequence[str], watch: _Watch) -> None:
        """Have a connection: the one there is, or a new one to the first of the addresses that takes it."""
        if self._connection is not None:
            self._connection.watch = watch
            watch.take(self._connection.twin)
            return
        failure: Exception = OSError("there is no address")
        for address in addresses:
            connection = self._connection = self._client.new_connection(parts, address)
            connection.watch = watch
            try:
                connection.connect()
            except _FAILURES as error:
                self._drop()
                failure = error
                if watch.is_expired:
                    break
            else:
                connection.timeout = watch.limit_s
                return
        raise failure

    def _exchange(self, watch: _Watch, parts: Url, headers: Mapping[str, str], body: bytes) -> Answer:
        connection = self._connection
        assert connection is not None
        host = str(parts.host) if parts.port is None else f"{parts.host}:{parts.port}"
        connection.request(
            "POST",
            parts.request_uri,
            body,
            {"Host": host, "User-Agent": USER_AGENT, "Content-Type": "application/json", **headers},
            preload_content=False,
            decode_content=False,
        )
        response = connection.getresponse()
        if watch.is_expired:
            raise TimeoutError  # headers that were cut off are taken for whole ones
        try:
            # What it says is nobody's business; but a connection is used again only behind the end of it.
            more = len(response.read(_MAX_BODY + 1)) > _MAX_BODY
        except _FAILURES:
            more = True
        if more:
            self._drop()
        return _answer(response.status, response.headers.get("retry-after"))

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection.close_twin()
            self._connection = None


def _answer(status: int, retry_after: str | None) -> Answer:
    error = None
    if 300 <= status < 400:
        error = f"answered {status}: redirects are not followed"
    elif not 200 <= status < 300:
        error = f"answered {status}"
    return Answer(status_code=status, error=error, retry_after=retry_after)


def _trouble(error: Exception, watch: _Watch) -> str:
    """Why there is no answer, in our own words: a stranger's are not repeated."""
    if watch.is_expired or isinstance(error, TimeoutError):
        return f"no answer within {watch.limit_s:g} s"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not valid for the name: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return "TLS could not be agreed on"
    if isinstance(error, NewConnectionError | ConnectTimeoutError):
        return "nobody answers"
    return "the connection ended before an answer"
