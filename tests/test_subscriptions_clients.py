"""Subscriptions as clients see them that nobody here wrote: graphql-ws and graphql-sse of npm, and gql of PyPI."""

import asyncio
import json
import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gql import Client, gql
from gql.transport.exceptions import TransportConnectionFailed, TransportQueryError
from gql.transport.websockets import WebsocketsTransport

from tests.npm import npm_packages, start_node
from tests.service import serving
from tests.subscribers import ENTRIES, LIMIT_S, sign_in
from tests.test_subscriptions import Shop, newest
from tests.worlds import World

# Follows the ledger and loses its connection every few entries. The client comes back by itself and subscribes again
# with the same variables, so `after` is a getter of the last number it has.
GRAPHQL_WS = """
import { createClient } from 'graphql-ws';
import WebSocket from 'ws';
const [url, token, first, count] = process.argv.slice(2);
let last = Number(first), received = 0;
const client = createClient({
  url: url.replace('http', 'ws') + '/graphql',
  webSocketImpl: WebSocket,
  connectionParams: { Authorization: `Bearer ${token}` },
  retryAttempts: 1000,
  retryWait: async () => {},
});
let socket;
client.on('opened', (opened) => { socket = opened; });
const variables = { get after() { return last; } };
client.subscribe(
  { query: 'subscription($after: UInt53) { entryRecorded(after: $after) { seq } }', variables },
  {
    next({ data, errors }) {
      if (errors) { console.error(JSON.stringify(errors)); process.exit(1); }
      last = data.entryRecorded.seq;
      console.log(JSON.stringify(last));
      received += 1;
      if (received === Number(count)) process.exit(0);
      if (received % 7 === 0) socket.terminate();  // the connection breaks: no close is sent
    },
    error(error) { console.error(error); process.exit(1); },
    complete() { console.error('complete'); process.exit(1); },
  },
);
"""

GRAPHQL_SSE = """
import { createClient } from 'graphql-sse';
const [url, token, first, count] = process.argv.slice(2);
let last = Number(first), received = 0;
const query = 'subscription($after: UInt53) { entryRecorded(after: $after) { seq } }';
while (received < Number(count)) {
  const client = createClient({ url: url + '/graphql', headers: { authorization: `Bearer ${token}` } });
  for await (const { data, errors } of client.iterate({ query, variables: { after: last } })) {
    if (errors) { console.error(JSON.stringify(errors)); process.exit(1); }
    last = data.entryRecorded.seq;
    console.log(JSON.stringify(last));
    received += 1;
    if (received === Number(count)) process.exit(0);
    if (received % 7 === 0) break;
  }
  client.dispose();
}
"""

# What a client hears of an error, of the end of its session, and of a query.
GRAPHQL_WS_ERRORS = """
import { createClient } from 'graphql-ws';
import WebSocket from 'ws';
const [url, token] = process.argv.slice(2);
const tell = (token, query) => new Promise((resolve) => {
  const client = createClient({
    url: url.replace('http', 'ws') + '/graphql', webSocketImpl: WebSocket, retryAttempts: 0,
    connectionParams: { Authorization: `Bearer ${token}` },
  });
  client.subscribe({ query }, {
    next: (value) => resolve({ next: value }),
    error: (error) => resolve(Array.isArray(error) ? { errors: error } : { code: error.code, reason: error.reason }),
    complete: () => resolve('complete'),
  });
});
console.log(JSON.stringify(await tell(token, 'subscription { entryRecorded(after: 1000000) { seq } }')));
console.log(JSON.stringify(await tell(token, 'subscription { nothing }')));
console.log(JSON.stringify(await tell('nonsense', 'subscription { entryRecorded { seq } }')));
process.exit(0);
"""

GRAPHQL_SSE_ERRORS = """
import { createClient } from 'graphql-sse';
const [url, token] = process.argv.slice(2);
const tell = (token, query) => new Promise((resolve) => {
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  const client = createClient({ url: url + '/graphql', headers, retryAttempts: 0 });
  let told = null;
  client.subscribe({ query }, {
    next: (value) => { told = value; },
    error: (error) => resolve({ status: error.response?.status, message: error.message }),
    complete: () => resolve({ told, completed: true }),
  });
});
console.log(JSON.stringify(await tell(token, 'subscription { entryRecorded(after: 1000000) { seq } }')));
console.log(JSON.stringify(await tell(token, 'subscription { nothing }')));
console.log(JSON.stringify(await tell(null, 'subscription { entryRecorded { seq } }')));
console.log(JSON.stringify(await tell('nonsense', 'subscription { entryRecorded { seq } }')));
console.log(JSON.stringify(await tell(token, '{ viewer { id } }')));
process.exit(0);
"""


@pytest.fixture
def sqlite_world(tmp_path: Path) -> Iterator[World]:
    with World(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as world:
        yield world


def lines_of(folder: Path, script: str, *arguments: str) -> Iterator[Any]:
    """What a running script prints, line by line as JSON."""
    process = start_node(folder, script, *arguments)
    watchdog = threading.Timer(LIMIT_S * 2, process.kill)
    watchdog.start()
    try:
        assert process.stdout is not None
        for line in process.stdout:
            yield json.loads(line)
        assert process.stderr is not None
        assert process.wait(LIMIT_S) == 0, process.stderr.read()
    finally:
        watchdog.cancel()
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("packages", "script"),
    [
        (("graphql@17.1.0", "graphql-ws@6.4.2", "ws@8.23.0"), GRAPHQL_WS),
        (("graphql@17.1.0", "graphql-sse@2.6.1"), GRAPHQL_SSE),
    ],
    ids=["graphql-ws", "graphql-sse"],
)
def test_clients_of_npm_get_each_entry_once_across_reconnects(
    world: World, tmp_path: Path, packages: tuple[str, ...], script: str
) -> None:
    """They lose the connection every seven entries, while others are recorded."""
    folder = npm_packages(*packages)
    shop = Shop(world)
    first = newest(world)
    paid = shop.pay(20)
    with serving(world, tmp_path) as url:
        token = sign_in(world, url, shop.bob)
        received = []
        for seq in lines_of(folder, script, url, token, str(first), "60"):
            received.append(seq)
            if len(received) % 5 == 0 and len(paid) < 60:
                paid += shop.pay(5)
    assert received == paid


def test_graphql_ws_of_npm_is_told_what_is_wrong(sqlite_world: World, tmp_path: Path) -> None:
    folder = npm_packages("graphql@17.1.0", "graphql-ws@6.4.2", "ws@8.23.0")
    shop = Shop(sqlite_world)
    with serving(sqlite_world, tmp_path) as url:
        token = sign_in(sqlite_world, url, shop.bob)
        beyond, unknown, foreign = lines_of(folder, GRAPHQL_WS_ERRORS, url, token)
    assert beyond["errors"][0]["extensions"]["code"] == "BAD_USER_INPUT"
    assert unknown["errors"][0]["extensions"]["code"] == "GRAPHQL_VALIDATION_FAILED"
    assert foreign == {"code": 4403, "reason": "the bearer token is not one of this ledger: open a session"}


def test_graphql_sse_of_npm_is_told_what_is_wrong(sqlite_world: World, tmp_path: Path) -> None:
    """What the document or the session is refused for has a status; what the subscription is, is told in its stream."""
    folder = npm_packages("graphql@17.1.0", "graphql-sse@2.6.1")
    shop = Shop(sqlite_world)
    with serving(sqlite_world, tmp_path) as url:
        token = sign_in(sqlite_world, url, shop.bob)
        beyond, unknown, anonymous, foreign, query = lines_of(folder, GRAPHQL_SSE_ERRORS, url, token)
    assert beyond["told"]["errors"][0]["extensions"]["code"] == "BAD_USER_INPUT"
    assert unknown["status"] == 400
    assert anonymous["told"]["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"
    assert foreign["status"] == 401
    assert query["told"]["data"] == {"viewer": {"id": shop.bob.account}}
    assert beyond["completed"]
    assert query["completed"]


def transport(url: str, token: str) -> WebsocketsTransport:
    return WebsocketsTransport(
        url=url.replace("http", "ws") + "/graphql",
        init_payload={"Authorization": f"Bearer {token}"},
        subprotocols=[WebsocketsTransport.GRAPHQLWS_SUBPROTOCOL],
    )


def test_gql_gets_each_entry_once_across_reconnects(world: World, tmp_path: Path) -> None:
    """A connection for every few entries, while others are recorded."""
    shop = Shop(world)
    first = newest(world)
    paid = shop.pay(10)
    wanted: queue.Queue[int] = queue.Queue()

    async def follow(url: str, token: str) -> list[int]:
        received: list[int] = []
        while len(received) < 40:
            async with Client(transport=transport(url, token)) as session:
                request = gql(ENTRIES)
                request.variable_values = {"after": received[-1] if received else first}
                async for answer in session.subscribe(request):
                    received.append(answer["entryRecorded"]["seq"])
                    if len(received) % 4 == 0:
                        wanted.put(4)
                        break
        return received

    def write() -> None:
        while (count := wanted.get()) and len(paid) < 40:
            paid.extend(shop.pay(count))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with serving(world, tmp_path) as url:
            token = sign_in(world, url, shop.bob)
            received = asyncio.run(asyncio.wait_for(follow(url, token), LIMIT_S))
    finally:
        wanted.put(0)
        writer.join()
    assert received == paid[: len(received)]
    assert len(received) == 40


def test_gql_is_told_what_is_wrong(sqlite_world: World, tmp_path: Path) -> None:
    shop = Shop(sqlite_world)

    async def ask(url: str, token: str, after: int) -> None:
        async with Client(transport=transport(url, token)) as session:
            request = gql(ENTRIES)
            request.variable_values = {"after": after}
            async for _ in session.subscribe(request):
                pass

    with serving(sqlite_world, tmp_path) as url:
        token = sign_in(sqlite_world, url, shop.bob)
        with pytest.raises(TransportQueryError, match="the ledger has"):
            asyncio.run(asyncio.wait_for(ask(url, token, 10**6), LIMIT_S))
        with pytest.raises(TransportConnectionFailed) as caught:
            asyncio.run(asyncio.wait_for(ask(url, "nonsense", 0), LIMIT_S))
        assert "4403" in str(caught.value.__cause__)
