"""graphql-transport-ws: its messages, its close codes, and what a connection may and may not."""

import json
import logging
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from api.errors import HttpError
from api.rate_limits import Client, Rate
from api.websocket import MAX_MESSAGE_BYTES, is_same_origin
from ledger.store import UnavailableError
from tests.service import serving
from tests.subscribers import ENTRIES, Socket, raw_socket, seqs, sign_in, socket
from tests.test_subscriptions import Shop, newest, until
from tests.worlds import World

SUBSCRIBE = {"id": "1", "type": "subscribe", "payload": {"query": "subscription { entryRecorded { seq } }"}}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """On SQLite alone: nothing here depends on the database."""
    with World(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as world:
        yield world


@pytest.fixture
def shop(world: World) -> Shop:
    return Shop(world)


@pytest.fixture
def url(world: World, shop: Shop, tmp_path: Path) -> Iterator[str]:
    with serving(world, tmp_path) as url:
        yield url


@pytest.fixture
def token(world: World, shop: Shop, url: str) -> str:
    return sign_in(world, url, shop.bob)


def closed(ws: Socket) -> tuple[int, str]:
    """Code and reason of the close that must come next."""
    with pytest.raises(ConnectionClosed) as caught:
        ws.receive()
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code, caught.value.rcvd.reason


# Connections


def test_protocol_is_agreed_upon(url: str) -> None:
    with raw_socket(url, "graphql-ws", "graphql-transport-ws") as ws:
        assert ws.connection.subprotocol == "graphql-transport-ws"
        assert ws.connection.response is not None
        assert ws.connection.response.headers["x-request-id"]


@pytest.mark.parametrize("protocol", ["graphql-ws", "mqtt"])
def test_other_protocols_are_refused(url: str, protocol: str) -> None:
    """The legacy one of the same project too, whose name is graphql-ws."""
    with raw_socket(url, protocol) as ws:
        assert ws.connection.subprotocol is None
        assert closed(ws) == (4406, "use the subprotocol graphql-transport-ws")


def test_web_pages_of_other_hosts_are_refused(url: str) -> None:
    """Before there is a connection; a page of this host, and whoever is no page, may."""
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1"):
        with pytest.raises(InvalidStatus, match="403"), raw_socket(url, origin=origin):
            pass
    with raw_socket(url, origin=url) as ws:
        assert ws.connection.subprotocol == "graphql-transport-ws"


@pytest.mark.parametrize(
    ("origin", "host", "same"),
    [
        (None, "api.example", True),
        ("https://api.example", "api.example", True),
        ("https://api.example", "api.example:443", True),
        ("https://API.example:443", "api.example", True),
        ("http://api.example:8000", "api.example:8000", True),
        ("http://[::1]:8000", "[::1]:8000", True),
        ("https://api.example:8443", "api.example", False),
        ("http://api.example", "api.example:443", False),
        ("https://api.example.evil.example", "api.example", False),
        ("https://evil.example", "api.example", False),
        ("null", "api.example", False),
        ("", "api.example", False),
        ("https://api.example:port", "api.example", False),
        ("https://api.example", "", False),
    ],
)
def test_origin_is_compared_with_the_host(origin: str | None, host: str, same: bool) -> None:
    """Scheme's ports count as written; a proxy that ends TLS passes the host on."""
    headers = {b"host": host.encode()} | ({b"origin": origin.encode()} if origin is not None else {})
    assert is_same_origin(headers) is same


def test_connections_are_limited(world: World, shop: Shop, tmp_path: Path) -> None:
    """Also those that never say anything; a place is free again when one has gone."""
    with serving(world, tmp_path, max_subscriptions=1) as url:
        with raw_socket(url), pytest.raises(InvalidStatus, match="503"), raw_socket(url):
            pass

        def has_place() -> bool:
            try:
                with raw_socket(url):
                    return True
            except InvalidStatus:
                return False

        until(has_place)


def test_who_connects_and_says_nothing_keeps_nobody_out(world: World, shop: Shop, tmp_path: Path) -> None:
    """A connection has a place among its account's once it is signed in; the rest share a few."""
    with serving(world, tmp_path, max_subscriptions=50) as url, ExitStack() as stack:
        token = sign_in(world, url, shop.bob)
        signed_in = [stack.enter_context(socket(url, token)) for _ in range(12)]
        silent = [stack.enter_context(raw_socket(url)) for _ in range(5)]
        with pytest.raises(InvalidStatus, match="503") as refused, raw_socket(url):
            pass
        assert refused.value.response.headers["retry-after"]
        for ws in (*signed_in, *silent):
            ws.send(type="ping")
            assert ws.receive() == {"type": "pong"}


def test_connections_of_an_account_are_limited(world: World, shop: Shop, tmp_path: Path) -> None:
    """The client may come back when it has closed one."""
    with serving(world, tmp_path, max_subscriptions_per_account=1) as url:
        token = sign_in(world, url, shop.bob)
        with socket(url, token), raw_socket(url) as second:
            second.send(type="connection_init", payload={"Authorization": f"Bearer {token}"})
            code, reason = closed(second)
            assert code == 1013
            assert reason.startswith("1 connections of this account")


def test_handshakes_count_against_the_quota_of_the_address(world: World, shop: Shop, tmp_path: Path) -> None:
    """A refusal says when to come back, and makes no noise in the log."""
    noise: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: noise.append(record.getMessage())  # type: ignore[method-assign]
    with serving(world, tmp_path, rate_cost=5) as url:
        logger = logging.getLogger("uvicorn.error")
        logger.addHandler(handler)
        try:
            for _ in range(5):
                with raw_socket(url):
                    pass
            with pytest.raises(InvalidStatus, match="429") as refused, raw_socket(url):
                pass
        finally:
            logger.removeHandler(handler)
    assert int(refused.value.response.headers["retry-after"]) >= 1
    assert not any("without completing handshake" in text for text in noise)


def test_messages_count_and_are_taken_no_faster_than_the_quota_allows(
    shop: Shop, url: str, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First against the address's, then the account's; who has none left waits, and the connection goes on."""
    counted: list[tuple[Client, int]] = []
    refusals = [HttpError(429, "RATE_LIMITED", "later")]
    take = Rate.take

    def counting(rate: Rate, client: Client, units: int, taken: int = 0) -> int:
        if len(counted) == 3 and refusals:
            raise refusals.pop()
        counted.append((client, units))
        return take(rate, client, units, taken)

    monkeypatch.setattr(Rate, "take", counting)
    with raw_socket(url) as ws:
        ws.send(type="ping")
        assert ws.receive() == {"type": "pong"}
        ws.send(type="connection_init", payload={"Authorization": f"Bearer {token}"})
        assert ws.receive() == {"type": "connection_ack"}
        ws.send(type="ping", payload={"x": "x" * 10_000})
        assert ws.receive() == {"type": "pong"}
    stranger, bob = Client(address="127.0.0.1"), Client(address="127.0.0.1", account=shop.bob.account)
    assert counted == [(stranger, 1), (stranger, 1), (stranger, 1), (bob, 3)]
    assert refusals == []


# Who asks


@pytest.mark.parametrize("key", ["Authorization", "authorization"])
def test_session_is_given_with_the_first_message(url: str, token: str, shop: Shop, key: str) -> None:
    with raw_socket(url) as ws:
        ws.send(type="connection_init", payload={key: f"Bearer {token}"})
        assert ws.receive() == {"type": "connection_ack"}
        ws.subscribe("1", ENTRIES)


def test_session_is_given_in_the_header(url: str, token: str, shop: Shop) -> None:
    """As a client that is no browser can."""
    with raw_socket(url, additional_headers={"Authorization": f"Bearer {token}"}) as ws:
        ws.send(type="connection_init")
        assert ws.receive() == {"type": "connection_ack"}
        ws.subscribe("1", ENTRIES, {"after": 0})
        assert len(ws.answers("1", 1)) == 1


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (None, "sign in first"),
        ({}, "sign in first"),
        ({"Authorization": 1}, "sign in first"),
        ({"Authorization": "Bearer nonsense"}, "not one of this ledger"),
        ({"Authorization": "Basic abc"}, "use Authorization: Bearer"),
        ({"Authorization": "Bearer ⚷"}, "not one of this ledger"),
    ],
)
def test_connection_without_a_session_is_closed(url: str, payload: Any, reason: str) -> None:
    """With 4403, after which clients come back with a new token."""
    with raw_socket(url) as ws:
        ws.send(type="connection_init", payload=payload)
        code, told = closed(ws)
        assert code == 4403
        assert reason in told


def test_connection_ends_with_its_session(world: World, shop: Shop, tmp_path: Path) -> None:
    """By the clock, whether or not anything runs on it."""
    with serving(world, tmp_path, stream_ping_s=1) as url:
        token = sign_in(world, url, shop.bob)
        with socket(url, token) as idle, socket(url, token) as busy:
            busy.subscribe("1", ENTRIES, {"after": 0})
            busy.answers("1", 1)
            world.clock.advance(ms=900_000)
            for ws in (idle, busy):
                assert closed(ws) == (4403, "the session is over: open a new one")


def test_connection_ends_when_other_keys_act_for_the_account(world: World, shop: Shop, url: str, token: str) -> None:
    with socket(url, token) as ws:
        ws.subscribe("1", ENTRIES, {"after": newest(world)})
        paid = shop.pay(1)
        assert seqs(ws.answers("1", 1)) == paid
        world.record(shop.bob.replace_keys([world.make_key()]))
        code, reason = closed(ws)
        assert code == 4403
        assert "keys have changed" in reason
    with raw_socket(url) as ws:
        ws.send(type="connection_init", payload={"Authorization": f"Bearer {token}"})
        assert ws.receive() == {"type": "connection_ack"}
        ws.subscribe("1", ENTRIES)
        assert closed(ws)[0] == 4403


# Messages


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        '"connection_init"',
        "{}",
        '{"type": 1}',
        '{"type": "start"}',
        '{"type": "next"}',
        '{"type": "connection_init", "payload": "x"}',
        '{"type": "connection_init", "payload": [1]}',
    ],
)
def test_malformed_messages_close_the_connection(url: str, text: str) -> None:
    with raw_socket(url) as ws:
        ws.connection.send(text)
        assert closed(ws)[0] == 4400


@pytest.mark.parametrize(
    "message",
    [
        {"type": "subscribe"},
        {"type": "subscribe", "id": "1"},
        {"type": "subscribe", "id": "", "payload": {"query": "subscription { entryRecorded { seq } }"}},
        {"type": "subscribe", "id": 1, "payload": {"query": "subscription { entryRecorded { seq } }"}},
        {"type": "subscribe", "id": "x" * 101, "payload": {"query": "subscription { entryRecorded { seq } }"}},
        {"type": "subscribe", "id": "1", "payload": "subscription { entryRecorded { seq } }"},
        {"type": "complete"},
        {"type": "complete", "id": None},
        {"type": "connection_ack"},
    ],
)
def test_malformed_messages_close_an_acknowledged_connection(url: str, token: str, message: Any) -> None:
    with socket(url, token) as ws:
        ws.send(**message)
        assert closed(ws)[0] == 4400


def test_messages_are_text(url: str, token: str) -> None:
    with socket(url, token) as ws:
        ws.connection.send(json.dumps(SUBSCRIBE).encode())
        assert closed(ws) == (4400, "messages are text")


def test_messages_are_small(url: str, token: str) -> None:
    with socket(url, token) as ws:
        ws.subscribe("1", "#" + "x" * MAX_MESSAGE_BYTES + "\n" + ENTRIES)
        assert closed(ws)[0] in {1009, 4400}


def test_subscription_before_the_acknowledgement_is_unauthorized(url: str) -> None:
    with raw_socket(url) as ws:
        ws.send(**SUBSCRIBE)
        assert closed(ws) == (4401, "Unauthorized")


def test_one_initialisation_is_enough(url: str, token: str) -> None:
    with socket(url, token) as ws:
        ws.send(type="connection_init")
        assert closed(ws) == (4429, "Too many initialisation requests")


def test_silent_connection_is_closed(world: World, tmp_path: Path) -> None:
    """Pings say nothing about who it is."""
    with serving(world, tmp_path, stream_timeout_s=1) as url, raw_socket(url) as ws:
        ws.send(type="ping")
        assert ws.receive() == {"type": "pong"}
        assert closed(ws) == (4408, "Connection initialisation timeout")


def test_pings_are_answered(url: str, token: str) -> None:
    with socket(url, token) as ws:
        ws.send(type="ping", payload={"at": 1})
        assert ws.receive() == {"type": "pong"}
        ws.send(type="pong")
        ws.send(type="ping")
        assert ws.receive() == {"type": "pong"}


# Subscriptions


def test_several_subscriptions_share_a_connection(url: str, token: str, shop: Shop) -> None:
    """Each has its own place in the ledger, its own filter, and its own end."""
    with socket(url, token) as ws:
        ws.subscribe("all", ENTRIES, {"after": 0})
        ws.subscribe("transfers", ENTRIES, {"filter": {"kind": "TRANSFER"}, "after": 0})
        ws.answers("all", 1)
        paid = shop.pay(3)
        assert seqs(ws.answers("all", 3)) == paid
        assert seqs(ws.answers("transfers", 3)) == paid
        ws.send(id="all", type="complete")
        ws.send(type="ping")
        while ws.receive() != {"type": "pong"}:
            pass
        paid = shop.pay(1)
        assert seqs(ws.answers("transfers", 1)) == paid
        ws.subscribe("all", ENTRIES, {"after": paid[0] - 1})
        assert seqs(ws.answers("all", 1)) == paid


def test_id_of_a_running_subscription_is_taken(url: str, token: str) -> None:
    with socket(url, token) as ws:
        ws.subscribe("1", ENTRIES)
        ws.subscribe("1", ENTRIES)
        assert closed(ws) == (4409, "Subscriber for 1 already exists")


def test_id_is_free_again_after_an_error(world: World, url: str, token: str, shop: Shop) -> None:
    """The client may use it as soon as it has heard of the end."""
    with socket(url, token) as ws:
        for _ in range(3):
            ws.subscribe("1", ENTRIES, {"after": 10**6})
            message = ws.receive()
            assert (message["id"], message["type"]) == ("1", "error")
            (error,) = message["payload"]
            assert error["extensions"]["code"] == "BAD_USER_INPUT"
            assert error["message"].startswith("the ledger has ")
        ws.subscribe("1", ENTRIES, {"after": newest(world)})
        paid = shop.pay(1)
        assert seqs(ws.answers("1", 1)) == paid


def test_complete_of_what_does_not_run_is_passed_over(url: str, token: str) -> None:
    """It may have ended while the message was under way."""
    with socket(url, token) as ws:
        ws.send(id="gone", type="complete")
        ws.send(type="ping")
        assert ws.receive() == {"type": "pong"}


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("subscription {", "GRAPHQL_PARSE_FAILED"),
        ("subscription { nothing }", "GRAPHQL_VALIDATION_FAILED"),
        (
            "subscription { entryRecorded { seq } } subscription B { entryRecorded { seq } }",
            "GRAPHQL_VALIDATION_FAILED",
        ),
        ("subscription A { entryRecorded { seq } } query B { ledger { size } }", "OPERATION_NAME_REQUIRED"),
        ("subscription { entryRecorded { " + " ".join(f"a{i}: seq" for i in range(40)) + " } }", None),
        ("{ ledger { size } }", "SUBSCRIPTION_REQUIRED"),
        ("mutation { operationsSubmit(input: {operations: []}) { results { seq } } }", "SUBSCRIPTION_REQUIRED"),
    ],
)
def test_what_cannot_be_run_is_an_error_of_its_own(url: str, token: str, query: str, code: str | None) -> None:
    """The connection goes on; documents have the limits that they have over HTTP."""
    with socket(url, token) as ws:
        ws.subscribe("1", query)
        message = ws.receive()
        assert (message["id"], message["type"]) == ("1", "error")
        (error,) = message["payload"]
        assert error["extensions"]["code"] == (code or "GRAPHQL_VALIDATION_FAILED")
        assert error["extensions"]["requestId"]
        ws.send(type="ping")
        assert ws.receive() == {"type": "pong"}


def test_missing_query_is_an_error(url: str, token: str) -> None:
    with socket(url, token) as ws:
        ws.send(id="1", type="subscribe", payload={"variables": []})
        assert ws.receive()["payload"][0]["extensions"]["code"] == "BAD_REQUEST"


def test_subscriptions_of_one_connection_are_limited(world: World, shop: Shop, tmp_path: Path) -> None:
    last = newest(world)
    with (
        serving(world, tmp_path, max_subscriptions_per_account=3) as url,
        socket(url, sign_in(world, url, shop.bob)) as ws,
    ):
        for i in range(4):
            ws.subscribe(str(i), ENTRIES, {"after": last})
        message = ws.receive()
        assert (message["id"], message["type"]) == ("3", "error")
        assert message["payload"][0]["extensions"]["code"] == "TOO_MANY_SUBSCRIPTIONS"
        paid = shop.pay(1)
        for i in range(3):
            assert seqs(ws.answers(str(i), 1)) == paid


# Faults


def test_faults_are_masked(
    shop: Shop, url: str, token: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In the beginning, while it runs and in a field; the log has each under the request id of the connection."""

    def fault(*_: Any, **__: Any) -> Any:
        raise RuntimeError("the secret of the cellar")

    def masked(errors: list[Any]) -> None:
        (error,) = errors
        assert error["message"] == "Internal error"
        assert error["extensions"] == {"code": "INTERNAL_ERROR", "requestId": request_id}

    with socket(url, token) as ws, caplog.at_level(logging.ERROR):
        assert ws.connection.response is not None
        request_id = ws.connection.response.headers["x-request-id"]
        with monkeypatch.context() as patched:
            patched.setattr("api.types.decode_entry", fault)
            ws.subscribe("inside", ENTRIES, {"after": 0})
            message = ws.next_about("inside")
            assert message["type"] == "next"
            masked(message["payload"]["errors"])
        ws.subscribe("while", ENTRIES, {"after": 0})
        ws.answers("while", 1)
        with monkeypatch.context() as patched:
            patched.setattr("ledger.queries.entries", fault)
            ws.subscribe("before", ENTRIES)
            message = ws.next_about("before")
            assert message["type"] == "error"
            masked(message["payload"])
            shop.pay(1)
            message = ws.next_about("while")
            assert message["type"] == "error"
            masked(message["payload"])
        assert caplog.text.count("cellar") >= 3
        assert caplog.text.count(request_id) >= 3


def test_fault_of_the_connection_itself_closes_it(
    url: str, token: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Told as little as any other; the log has it."""

    def fault(*_: Any) -> Any:
        raise RuntimeError("the secret of the cellar")

    with socket(url, token) as ws:
        monkeypatch.setattr("api.websocket._id_of", fault)
        ws.subscribe("1", ENTRIES)
        assert closed(ws) == (4500, "Internal error")
        assert "cellar" in caplog.text


def test_connection_is_closed_while_the_ledger_cannot_be_read(
    world: World, shop: Shop, url: str, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a code after which clients try again."""

    def unavailable(*_: Any) -> Any:
        raise UnavailableError("the database did not answer")

    with socket(url, token) as ws:
        ws.subscribe("1", ENTRIES, {"after": newest(world)})
        paid = shop.pay(1)
        assert seqs(ws.answers("1", 1)) == paid
        monkeypatch.setattr("ledger.queries.entries", unavailable)
        shop.pay(1)
        code, reason = closed(ws)
        assert code == 1013
        assert "after the last seq" in reason
