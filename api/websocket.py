"""Subscriptions over a WebSocket: the server's side of the protocol ``graphql-transport-ws``.

The client says who it is in ``connection_init`` (``{"Authorization": "Bearer …"}``) or in the header of the handshake,
and the connection is that session's: when the session is over, the connection is closed with 4403, and the client comes
back with a new one. Subscriptions alone go this way; queries and mutations have HTTP, with its limits and status codes.
https://github.com/enisdenjo/graphql-ws/blob/master/PROTOCOL.md
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing, suppress
from enum import IntEnum
from typing import Any
from urllib.parse import urlsplit

import orjson
from starlette.types import Receive, Scope, Send

from api.answers import UNAVAILABLE, with_request_id
from api.connections import Place, Places
from api.context import Service
from api.errors import HttpError, told
from api.graphql_view import GraphQLView, Plan, RefusedError, cost_of, request_of, session_of
from api.rate_limits import Fields
from api.sessions import SESSION_OVER, Session
from api.streams import TooManySubscriptionsError
from api.subscribing import Event, Kind

logger = logging.getLogger("guerdon.api")

PROTOCOL = "graphql-transport-ws"
MAX_MESSAGE_BYTES = 65_536
"""The largest message of a client, which servers are told to refuse before it is all there."""

MAX_ID = 100
"""Characters of the id that a client gives a subscription."""

_REASON_BYTES = 123
"""What RFC 6455 (section 5.5.1) leaves for the reason of a close."""

_PORTS = {"http": 80, "https": 443}


class CloseCode(IntEnum):
    """Why a connection is closed; those from 4400 on are the protocol's."""

    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013
    BAD_REQUEST = 4400
    UNAUTHORIZED = 4401
    FORBIDDEN = 4403
    SUBPROTOCOL_NOT_ACCEPTABLE = 4406
    INITIALISATION_TIMEOUT = 4408
    SUBSCRIBER_ALREADY_EXISTS = 4409
    TOO_MANY_INITIALISATION_REQUESTS = 4429
    INTERNAL_ERROR = 4500


_CLOSES = {401: CloseCode.FORBIDDEN, 503: CloseCode.TRY_AGAIN_LATER}
"""What closes a connection of what refuses a request over HTTP: the session's end, and a database that is away."""


class CloseError(Exception):
    """The connection must be closed."""

    def __init__(self, code: CloseCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class GoneError(Exception):
    """The client has closed the connection, or takes nothing that it is sent."""


class WebSocketView:
    """The endpoint ``/graphql`` for WebSockets, as an ASGI application, on the same operations as over HTTP."""

    def __init__(self, view: GraphQLView, service: Callable[[], Service]) -> None:
        self._view = view
        self._service = service
        self._taken: Places | None = None
        # Uvicorn takes a handshake that is denied with a status for one that was forgotten, and says so each time.
        logging.getLogger("uvicorn.error").addFilter(_is_no_denial)

    def _places(self, service: Service) -> Places:
        if self._taken is None:
            self._taken = Places(service.streams.limits)
        return self._taken

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        await receive()  # websocket.connect
        headers: dict[bytes, bytes] = dict(scope["headers"])
        if not is_same_origin(headers):
            await _deny(scope, send, 403)
            return
        service = self._service()
        client = self._view.client_of(scope, None)
        try:
            self._view.count(client, 0)
        except HttpError as error:
            await _deny(scope, send, error.status, error.headers)
            return
        with self._places(service).taken(client.address) as place:
            if place is None or service.streams.stopping.is_set():
                await _deny(scope, send, 503, ((b"retry-after", b"5"),))
                return
            offered = PROTOCOL in scope["subprotocols"]
            request_id: str = scope["state"]["request_id"]
            accept = {
                "type": "websocket.accept",
                "subprotocol": PROTOCOL if offered else None,
                "headers": [(b"x-request-id", request_id.encode())],
            }
            connection = _Connection(self._view, service, scope, receive, send)
            with suppress(OSError, GoneError):  # the client may leave at any time
                await send(accept)
                if offered:
                    await connection.serve(place)
                else:
                    await connection.close(CloseCode.SUBPROTOCOL_NOT_ACCEPTABLE, f"use the subprotocol {PROTOCOL}")


def is_same_origin(headers: dict[bytes, bytes]) -> bool:
    """Whether a handshake comes from no web page, or from one of this host."""
    origin = headers.get(b"origin")
    if origin is None:
        return True
    try:
        page = urlsplit(origin.decode("latin-1"))
        host = urlsplit("//" + headers.get(b"host", b"").decode("latin-1"))
        port = _PORTS.get(page.scheme)
        return bool(page.hostname) and (page.hostname, page.port or port) == (host.hostname, host.port or port)
    except ValueError:
        return False


def _is_no_denial(record: logging.LogRecord) -> bool:
    return record.msg != "ASGI callable returned without completing handshake."


async def _deny(scope: Scope, send: Send, status: int, fields: Fields = ()) -> None:
    """Refuse a handshake, with a status where the server can send one."""
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close"})
        return
    headers = [(b"content-length", b"0"), *fields]
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": b""})


class _Connection:
    """One connection, and the subscriptions that run on it."""

    def __init__(self, view: GraphQLView, service: Service, scope: Scope, receive: Receive, send: Send) -> None:
        self._view = view
        self._client = view.client_of(scope, None)
        self._service = service
        self._limits = service.streams.limits
        self._scope = scope
        self._receive = receive
        self._send = send
        self._request_id: str = scope["state"]["request_id"]
        self._sending = asyncio.Lock()
        self._session: Session | None = None
        self._running: dict[str, asyncio.Task[None]] = {}

    async def serve(self, place: Place) -> None:
        """Answer the client's messages until one of the two closes the connection."""
        try:
            await self._initialise(place)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._watch())
                await self._listen(group)
        except* CloseError as errors:
            error = _first(errors)
            await self.close(error.code, error.reason)
        except* (OSError, GoneError):
            pass
        except* Exception:
            logger.exception("connection %s failed", self._request_id)
            await self.close(CloseCode.INTERNAL_ERROR, "Internal error")

    async def close(self, code: CloseCode, reason: str) -> None:
        """Close the connection, if it is not closed already."""
        short = reason.encode()[:_REASON_BYTES].decode(errors="ignore")
        with suppress(OSError, RuntimeError, GoneError):
            await self._transmit({"type": "websocket.close", "code": int(code), "reason": short})

    async def _initialise(self, place: Place) -> None:
        """Wait until the client has said who it is, and give it a place among its account's."""
        try:
            async with asyncio.timeout(self._limits.init_s):
                while (message := await self._next_message())["type"] != "connection_init":
                    await self._handle_before(message)
        except TimeoutError:
            raise CloseError(CloseCode.INITIALISATION_TIMEOUT, "Connection initialisation timeout") from None
        payload = message.get("payload")
        if payload is not None and not isinstance(payload, dict):
            raise CloseError(CloseCode.BAD_REQUEST, "the payload of connection_init is an object")
        self._session = self._sign_in(payload or {})
        self._client = self._view.client_of(self._scope, self._session)
        if (reason := place.settle(self._session.account)) is not None:
            raise CloseError(CloseCode.TRY_AGAIN_LATER, reason)
        await self._send_message({"type": "connection_ack"})

    def _sign_in(self, payload: dict[str, Any]) -> Session:
        headers: dict[bytes, bytes] = dict(self._scope["headers"])
        given = payload.get("Authorization", payload.get("authorization"))
        authorization = given.encode("utf-8", "replace") if isinstance(given, str) else headers.get(b"authorization")
        if authorization is None:
            message = 'sign in first, and give {"Authorization": "Bearer …"} with connection_init'
            raise CloseError(CloseCode.FORBIDDEN, message)
        try:
            return session_of(self._service, authorization)
        except HttpError as error:
            raise CloseError(CloseCode.FORBIDDEN, str(error)) from None

    async def _handle_before(self, message: dict[str, Any]) -> None:
        if message["type"] == "subscribe":
            raise CloseError(CloseCode.UNAUTHORIZED, "Unauthorized")
        await self._handle_always(message)

    async def _handle_always(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "ping":
                await self._send_message({"type": "pong"})
            case "pong" | "complete":
                pass
            case _:
                raise CloseError(CloseCode.BAD_REQUEST, "the message has a type that the protocol does not know")

    async def _watch(self) -> None:
        """End the connection with its session, and when the server stops."""
        assert self._session is not None
        stopping = self._service.streams.stopping
        while not stopping.is_set():
            if self._session.expires_at_ms <= self._service.clock():
                raise CloseError(CloseCode.FORBIDDEN, SESSION_OVER)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._limits.ping_s):
                    await stopping.wait()
        raise CloseError(CloseCode.SERVICE_RESTART, "the server stops: go on after the last seq you have")

    async def _listen(self, group: asyncio.TaskGroup) -> None:
        while True:
            message = await self._next_message()
            match message["type"]:
                case "connection_init":
                    raise CloseError(CloseCode.TOO_MANY_INITIALISATION_REQUESTS, "Too many initialisation requests")
                case "subscribe":
                    await self._subscribe(group, message)
                case "complete":
                    if (task := self._running.pop(_id_of(message), None)) is not None:
                        task.cancel()
                case _:
                    await self._handle_always(message)

    async def _subscribe(self, group: asyncio.TaskGroup, message: dict[str, Any]) -> None:
        """Start a subscription."""
        name, payload = _id_of(message), message.get("payload")
        if not isinstance(payload, dict):
            raise CloseError(CloseCode.BAD_REQUEST, "the payload of subscribe is an object with the query")
        if name in self._running:
            raise CloseError(CloseCode.SUBSCRIBER_ALREADY_EXISTS, f"Subscriber for {name} already exists")
        if len(self._running) >= self._limits.per_account:
            full = TooManySubscriptionsError(f"at most {self._limits.per_account} at once: end one first")
            await self._fail(name, self._written([told(full, full.CODE)]))
            return
        self._running[name] = group.create_task(self._run(name, payload))

    async def _run(self, name: str, payload: dict[str, Any]) -> None:
        """Tell all there is to one subscription; its id is free for another before the client hears of the end."""
        try:
            plan = await self._plan(payload)
        except RefusedError as refused:
            await self._fail(name, self._written(refused.errors))
            return
        async with aclosing(self._view.events(plan)) as events:
            async for event in events:
                match event.kind:
                    case Kind.BEGUN:
                        pass  # the protocol has no word for it
                    case Kind.ANSWER:
                        await self._send_about(name, b"next", event.body)
                    case _:
                        await self._end(name, event)
                        return
        self._forget(name)
        await self._send_message({"id": name, "type": "complete"})

    async def _plan(self, payload: dict[str, Any]) -> Plan:
        """The subscription of a message; raise :class:`RefusedError` when it is none that can be run."""
        assert self._session is not None
        try:
            request = request_of(payload, len(orjson.dumps(payload)))
            plan = await self._view.plan(self._client, self._session, request, self._request_id)
        except HttpError as error:
            if error.status in _CLOSES:
                raise CloseError(_CLOSES[error.status], str(error)) from None
            raise RefusedError([{"message": str(error), "extensions": error.extensions}]) from None
        if not plan.subscribes:
            message = "a WebSocket carries subscriptions alone: send queries and mutations over HTTP"
            raise RefusedError([{"message": message, "extensions": {"code": "SUBSCRIPTION_REQUIRED"}}])
        return plan

    async def _end(self, name: str, event: Event) -> None:
        if event.kind is Kind.SESSION_OVER:
            raise CloseError(CloseCode.FORBIDDEN, event.reason)
        if event.kind is Kind.INTERRUPTED:
            raise CloseError(CloseCode.TRY_AGAIN_LATER, f"{UNAVAILABLE}, after the last seq you have")
        await self._fail(name, event.body)

    async def _fail(self, name: str, errors: bytes) -> None:
        """Tell a client that a subscription has ended with errors."""
        self._forget(name)
        await self._send_about(name, b"error", errors)

    def _forget(self, name: str) -> None:
        if self._running.get(name) is asyncio.current_task():
            del self._running[name]

    def _written(self, errors: list[dict[str, Any]]) -> bytes:
        return orjson.dumps(with_request_id(errors, self._request_id))

    async def _next_message(self) -> dict[str, Any]:
        event = await self._receive()
        if event["type"] == "websocket.disconnect":
            raise GoneError
        text = event.get("text")
        if text is None:
            raise CloseError(CloseCode.BAD_REQUEST, "messages are text")
        if len(text) > MAX_MESSAGE_BYTES:
            raise CloseError(CloseCode.BAD_REQUEST, f"a message has at most {MAX_MESSAGE_BYTES} bytes")
        # Each counts as much as a request of its size. Who sends more than that is read from more slowly.
        await self._view.room_for(self._client, cost_of(len(text)))
        try:
            message = orjson.loads(text)
        except orjson.JSONDecodeError:
            raise CloseError(CloseCode.BAD_REQUEST, "messages are JSON") from None
        if not isinstance(message, dict) or not isinstance(message.get("type"), str):
            raise CloseError(CloseCode.BAD_REQUEST, "a message is an object with a type")
        return message

    async def _send_message(self, message: dict[str, Any]) -> None:
        await self._transmit({"type": "websocket.send", "text": orjson.dumps(message).decode()})

    async def _send_about(self, name: str, kind: bytes, payload: bytes) -> None:
        """Send what concerns a subscription; the payload is JSON already."""
        text = b'{"id":' + orjson.dumps(name) + b',"type":"' + kind + b'","payload":' + payload + b"}"
        await self._transmit({"type": "websocket.send", "text": text.decode()})

    async def _transmit(self, event: dict[str, Any]) -> None:
        """Send one event at a time; raise :class:`GoneError` when the client takes nothing for too long."""
        try:
            async with self._sending, asyncio.timeout(self._limits.send_s):
                await self._send(event)
        except TimeoutError:
            raise GoneError from None


def _id_of(message: dict[str, Any]) -> str:
    name = message.get("id")
    if not isinstance(name, str) or not 0 < len(name) <= MAX_ID:
        raise CloseError(CloseCode.BAD_REQUEST, f"id is a string of 1 to {MAX_ID} characters")
    return name


def _first(errors: BaseExceptionGroup[CloseError]) -> CloseError:
    """The error that counts of those that happened at once."""
    found: BaseException = errors
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    assert isinstance(found, CloseError)
    return found
