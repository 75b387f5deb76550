"""Clients of subscriptions, as simple as can be: server-sent events by httpx, and WebSockets.

::

    token = sign_in(world, url, alice)
    with event_stream(url, token, ENTRIES, {"after": 0}) as stream:
        first = stream.answers(10)
    with socket(url, token) as ws:
        ws.subscribe("1", ENTRIES, {"after": 0})
        first = ws.answers("1", 10)
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from ledger.wallet import Wallet
from tests.service import Service
from tests.worlds import World

LIMIT_S = 30

ENTRIES = (
    "subscription Entries($filter: EntryFilterInput, $after: UInt53) "
    "{ entryRecorded(filter: $filter, after: $after) { id seq kind actorId document postings { accountId amount } } }"
)
ACTIVITY = (
    "subscription Activity($account: ID, $after: UInt53) { accountActivity(account: $account, after: $after) "
    "{ entry { seq kind } movements { asset amount balance } } }"
)


def sign_in(world: World, url: str, wallet: Wallet, account: str | None = None) -> str:
    """A bearer token from the server at an address."""
    with httpx.Client(base_url=url, timeout=LIMIT_S) as client:
        return Service(world, client).sign_in(wallet, account)  # type: ignore[arg-type]


class EventStream:
    """The events of one response, as they come."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.completed = False
        self._events = self._parsed()

    def __iter__(self) -> Iterator[Any]:
        """The payloads of ``next``, until the stream ends."""
        return self._events

    def answers(self, count: int) -> list[Any]:
        """The data of the next answers, which must have no errors."""
        found = []
        for _ in range(count):
            answer = next(self._events)
            assert "errors" not in answer, answer
            found.append(only(answer["data"]))
        return found

    def rest(self) -> list[Any]:
        """What else is told until the stream ends."""
        return list(self._events)

    def _parsed(self) -> Iterator[Any]:
        event = ""
        for line in self.response.iter_lines():
            name, _, value = line.partition(":")
            if name == "event":
                assert not self.completed, "an event after the end"
                event = value.strip()
                self.completed = event == "complete"
            elif name == "data" and event == "next":
                yield json.loads(value)


@contextmanager
def event_stream(
    url: str, token: str | None, query: str, variables: dict[str, Any] | None = None, **transport: Any
) -> Iterator[EventStream]:
    """A subscription over POST, as server-sent events; the connection is cut at the end of the block."""
    headers = {"accept": "text/event-stream"}
    if token is not None:
        headers["authorization"] = f"Bearer {token}"
    body = {"query": query, "variables": variables}
    with (
        httpx.Client(base_url=url, timeout=LIMIT_S, transport=httpx.HTTPTransport(**transport)) as client,
        client.stream("POST", "/graphql", json=body, headers=headers) as response,
    ):
        yield EventStream(response)


class Socket:
    """A WebSocket that speaks graphql-transport-ws. What is not asked for yet is kept."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self._kept: dict[str, list[Any]] = {}

    def send(self, **message: Any) -> None:
        """Send a message."""
        self.connection.send(json.dumps(message))

    def receive(self) -> Any:
        """The next message of the server."""
        text = self.connection.recv(LIMIT_S)
        assert isinstance(text, str)
        return json.loads(text)

    def subscribe(self, name: str, query: str, variables: dict[str, Any] | None = None) -> None:
        """Begin a subscription."""
        self.send(id=name, type="subscribe", payload={"query": query, "variables": variables})

    def next_about(self, name: str) -> Any:
        """The next message about a subscription."""
        while not self._kept.setdefault(name, []):
            message = self.receive()
            self._kept.setdefault(message["id"], []).append(message)
        return self._kept[name].pop(0)

    def answers(self, name: str, count: int) -> list[Any]:
        """The data of a subscription's next answers, which must have no errors."""
        found = []
        for _ in range(count):
            message = self.next_about(name)
            assert message["type"] == "next", message
            assert "errors" not in message["payload"], message
            found.append(only(message["payload"]["data"]))
        return found


@contextmanager
def socket(url: str, token: str | None, **options: Any) -> Iterator[Socket]:
    """A connection that is acknowledged."""
    with raw_socket(url, **options) as ws:
        ws.send(type="connection_init", payload={"Authorization": f"Bearer {token}"} if token is not None else None)
        assert ws.receive() == {"type": "connection_ack"}
        yield ws


@contextmanager
def raw_socket(url: str, *protocols: str, **options: Any) -> Iterator[Socket]:
    """A connection that says nothing by itself."""
    offered = [Subprotocol(name) for name in protocols or ("graphql-transport-ws",)]
    address = url.replace("http://", "ws://") + "/graphql"
    # Its library takes no close while messages wait that nobody has read; so any number may wait.
    given = {"open_timeout": LIMIT_S, "max_queue": None, **options}
    with connect(address, subprotocols=offered, **given) as connection:
        yield Socket(connection)


def only(data: dict[str, Any]) -> Any:
    """The value of the only field."""
    (value,) = data.values()
    return value


def seqs(told: Iterable[Any]) -> list[int]:
    """Sequence numbers of what was told."""
    return [item["entry"]["seq"] if "entry" in item else item["seq"] for item in told]
