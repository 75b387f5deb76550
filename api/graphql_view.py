"""GraphQL over HTTP: how a request becomes an answer, per the GraphQL-over-HTTP specification.

A request goes through five steps, each with its own refusals: read the body (405, 406, 408, 413, 415, 400), prepare
the document (:mod:`api.documents`), count what it costs (:mod:`api.limits`) against the client's quotas (429,
:mod:`api.rate_limits`), execute it (504), write the answer. Nothing is read from the database before the third.
Everything a client is told about an error is made here, so that nothing unexpected leaks: what is not an
:class:`api.errors.ApiError` or one of GraphQL's own errors is logged whole and answered as INTERNAL_ERROR with the
request id.

GET is for queries only and POST must be JSON, so a foreign web page can make a browser send neither a mutation nor
anything that reads with a session.
"""

import asyncio
import inspect
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
from contextlib import aclosing
from functools import lru_cache
from typing import Any, TypeGuard, cast
from urllib.parse import parse_qsl

import orjson
from graphql import ExecutionResult, OperationType, execute
from msgspec import Struct
from starlette.types import Receive, Scope, Send
from strawberry import Schema
from strawberry.execution import optimized_is_awaitable

from api.answers import UNAVAILABLE, encode, failure
from api.context import Context, Service
from api.documents import Documents, Operation, PersistedDocuments, Prepared, Reference, reference_of
from api.errors import ApiError, HttpError, told
from api.event_stream import accepts_events, one_event, send_events
from api.limits import CostError, too_long
from api.plain_lists import PlainListExecutor
from api.rate_limits import BYTES_PER_COST, NEW_DOCUMENT_COST, Addresses, Client, Fields, RateLimits
from api.sessions import Session, TokenError, Viewer, viewer_at
from api.subscribing import Event, Kind, subscription_events
from ledger import queries
from ledger.store import UnavailableError

logger = logging.getLogger("guerdon.api")

RESPONSE_TYPE = b"application/graphql-response+json; charset=utf-8"
JSON_TYPE = b"application/json; charset=utf-8"

_is_awaitable = cast("Callable[[Any], TypeGuard[Awaitable[Any]]]", optimized_is_awaitable)


class Request(Struct, frozen=True, kw_only=True):
    """A GraphQL request as read. ``cost`` is what it counts by its size, whatever it asks."""

    document: Reference
    variables: dict[str, Any]
    operation_name: str | None
    cost: int


class Timeouts(Struct, frozen=True, kw_only=True):
    """How many seconds a body may take to arrive, and a query to be answered."""

    body_s: float
    query_s: float


class Plan(Struct, frozen=True, kw_only=True):
    """An operation that may be executed, who asks for it, and what it has cost; ``fields`` tell the quota it is of."""

    client: Client
    prepared: Prepared
    operation: Operation
    request: Request
    context: Context
    cost: int
    fields: Fields

    @property
    def subscribes(self) -> bool:
        """Whether it is answered again and again."""
        return self.operation.kind is OperationType.SUBSCRIPTION


class RefusedError(Exception):
    """A document that is not executed, with its errors as the client is told them, and what is left of its quota."""

    def __init__(self, errors: list[dict[str, Any]], fields: Fields = ()) -> None:
        super().__init__("the document is refused")
        self.errors = errors
        self.fields = fields


class Answer(Struct, frozen=True):
    """What is answered: a status, a body, and header fields besides those of every answer."""

    status: int
    body: bytes
    headers: Fields = ()


class GraphQLView:
    """The endpoint ``/graphql``, as an ASGI application. ``service`` gives the ledger once the server has started."""

    def __init__(
        self,
        schema: Schema,
        service: Callable[[], Service],
        *,
        documents: Documents,
        persisted: PersistedDocuments,
        rates: RateLimits,
        addresses: Addresses,
        timeouts: Timeouts,
        max_body_bytes: int,
        page: bytes | None,
    ) -> None:
        self._schema = schema
        self._service = service
        self._documents = documents
        self._persisted = persisted
        self._rates = rates
        self._addresses = addresses
        self._timeouts = timeouts
        self._max_body_bytes = max_body_bytes
        self._page = page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        request_id: str = scope["state"]["request_id"]
        accept = headers.get(b"accept", b"")
        content_type = _content_type(accept)
        try:
            if self._page is not None and _wants_page(scope, accept):
                await _send(send, 200, b"text/html; charset=utf-8", self._page)
                return
            streams = accepts_events(accept)
            if content_type is None and not streams:
                raise HttpError(406, "NOT_ACCEPTABLE", "accept application/graphql-response+json or application/json")
            body = await self._read(scope, headers, receive)
            client, session = self.admit(scope, headers, len(body))
            reading = scope["method"] == "GET"
            request = _parse_query_string(body) if reading else _parse_body(body)
            plan = await self.plan(client, session, request, request_id, reading=reading)
            if plan.subscribes and not streams:
                message = "subscriptions are told as text/event-stream, or over a WebSocket: accept it"
                raise HttpError(406, "NOT_ACCEPTABLE", message)
            if plan.subscribes:
                await send_events(self.events(plan), plan.context, plan.fields, receive, send)
                return
            answer = await self._answer(plan)
            if content_type is None:
                await send_events(one_event(answer.body), plan.context, answer.headers, receive, send)
                return
            status = answer.status
            if content_type is JSON_TYPE and status == 400:
                status = 200  # the specification's rule for clients that know only application/json
            await _send(send, status, content_type, answer.body, answer.headers)
        except RefusedError as refused:
            status = 200 if content_type is JSON_TYPE else 400
            await _send(send, status, content_type or JSON_TYPE, failure(refused.errors, request_id), refused.fields)
        except HttpError as error:
            extensions = {**error.extensions, "requestId": request_id}
            body = orjson.dumps({"errors": [{"message": str(error), "extensions": extensions}]})
            await _send(send, error.status, content_type or JSON_TYPE, body, error.headers)

    async def _read(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        """What a request sends: the body, or of a GET the query string."""
        method = scope["method"]
        if method == "POST":
            if not _is_json(headers.get(b"content-type", b"")):
                raise HttpError(415, "UNSUPPORTED_MEDIA_TYPE", "send application/json in UTF-8")
            return await read_body(headers, receive, self._max_body_bytes, self._timeouts.body_s)
        if method == "GET":
            return cast("bytes", scope["query_string"])
        raise HttpError(405, "METHOD_NOT_ALLOWED", "use POST, or GET for queries", ((b"allow", b"GET, POST"),))

    def admit(self, scope: Scope, headers: dict[bytes, bytes], size: int) -> tuple[Client, Session | None]:
        """Who sends a request, before it is looked at; raise :class:`HttpError` for no session or too many requests."""
        authorization = headers.get(b"authorization")
        session = None
        try:
            if authorization is not None:
                session = session_of(self._service(), authorization)
        finally:  # a bad token counts for the address
            client = self.client_of(scope, session)
            self.count(client, size)
        return client, session

    def count(self, client: Client, size: int) -> None:
        """Count a request of so many bytes, whatever it asks; raise :class:`HttpError` when there are too many."""
        self._rates.cost.take(client, cost_of(size))

    def charge(self, client: Client, cost: int) -> None:
        """Count what is no GraphQL but costs as much; raise :class:`HttpError` when there is less left."""
        self._rates.cost.take(client, cost)

    def client_of(self, scope: Scope, session: Session | None) -> Client:
        """Whose quotas a request counts against: those of the session's account, and of the address it comes from."""
        address = self._addresses.client(scope.get("client"), scope["headers"])
        return Client(address=address, account=session.account if session is not None else None)

    async def room_for(self, client: Client, cost: int) -> None:
        """Wait until the client's quota has room for so much, and use that."""
        while True:
            try:
                self._rates.cost.take(client, cost)
            except HttpError:
                await asyncio.sleep(1)
            else:
                return

    async def plan(
        self, client: Client, session: Session | None, request: Request, request_id: str, *, reading: bool = False
    ) -> Plan:
        """Prepare an operation and count it; raise :class:`RefusedError` or :class:`HttpError`, and execute nothing.

        The request itself has been counted, see :meth:`count`. With ``reading`` it must not write.
        """
        try:
            return await self._planned(client, session, request, request_id, reading=reading)
        except RefusedError as refused:
            left = self._rates.cost.fields(self._rates.cost.take(client, 0))
            raise RefusedError(refused.errors, left) from None

    async def _planned(
        self, client: Client, session: Session | None, request: Request, request_id: str, *, reading: bool
    ) -> Plan:
        try:
            prepared = self._prepare(client, request)
        except ApiError as error:
            raise RefusedError([told(error, error.CODE)]) from None
        if prepared.errors:
            raise RefusedError(prepared.errors)
        if (operation := prepared.operation(request.operation_name)) is None:
            extensions = {"code": "OPERATION_NAME_REQUIRED"}
            raise RefusedError([{"message": _which_operation(prepared), "extensions": extensions}])
        if reading and operation.kind is OperationType.MUTATION:
            raise HttpError(405, "METHOD_NOT_ALLOWED", "GET is for queries: use POST", ((b"allow", b"POST"),))
        try:
            cost, fields = self._count(client, prepared, operation, request)
        except CostError as error:
            raise RefusedError([told(error, "MAX_COST_EXCEEDED")]) from None
        viewer = await viewer_in(self._service(), session) if session is not None else None
        context = Context(self._service(), viewer, request_id, client.address, in_url=reading)
        return Plan(
            client=client,
            prepared=prepared,
            operation=operation,
            request=request,
            context=context,
            cost=cost,
            fields=fields,
        )

    async def _answer(self, plan: Plan) -> Answer:
        result = await self._execute(plan.prepared, plan.operation, plan.request, plan.context)
        status, body = encode(result, plan.context, self._extensions(plan))
        return Answer(status, body, (*plan.fields, *_RETRY_SOON) if status == 503 else plan.fields)

    async def events(self, plan: Plan) -> AsyncGenerator[Event, None]:
        """What a subscription tells, until it or its session ends. Each answer counts as the operation's cost."""
        assert plan.prepared.document is not None
        events = subscription_events(
            self._schema._schema,
            plan.prepared.document,
            variables=plan.request.variables,
            operation_name=plan.request.operation_name,
            context=plan.context,
            extensions=self._extensions(plan),
        )
        async with aclosing(events):
            async for event in events:
                if event.kind is Kind.ANSWER:
                    await self.room_for(plan.client, plan.cost)
                yield event

    def _extensions(self, plan: Plan) -> dict[str, Any]:
        return {"cost": {"requested": plan.cost, "limit": self._documents.scales.max_cost}}

    def _prepare(self, client: Client, request: Request) -> Prepared:
        """The document of a request, ready or with its errors."""
        text = self._persisted.text(request.document)
        prepared = self._documents.known(text)
        if prepared is None:
            self._rates.cost.take(client, NEW_DOCUMENT_COST, request.cost)
            prepared = self._documents.prepare(text)
        if request.document.sha256 is not None and not prepared.errors:
            self._persisted.keep(request.document)
        return prepared

    def _count(self, client: Client, prepared: Prepared, operation: Operation, request: Request) -> tuple[int, Fields]:
        """What an operation costs, and what the client is told of the quota that it counts against."""
        scales, document = self._documents.scales, prepared.document
        assert document is not None
        cost = operation.cost
        if cost is None:
            cost = scales.cost(document, operation.node, request.variables)
        if operation.kind is not OperationType.MUTATION:
            return cost, self._rates.cost.fields(self._rates.cost.take(client, cost, request.cost))
        writes = operation.writes
        if writes is None:
            writes = scales.writes(document, operation.node, request.variables)
        return cost, self._rates.operations.fields(self._rates.operations.take(client, writes))

    async def _execute(
        self, prepared: Prepared, operation: Operation, request: Request, context: Context
    ) -> ExecutionResult:
        """Execute an operation. A query has a time to be answered in; what writes is never left half known."""
        assert prepared.document is not None
        result: Any = execute(
            self._schema._schema,
            prepared.document,
            context_value=context,
            variable_values=request.variables,
            operation_name=request.operation_name,
            executor_class=PlainListExecutor,
            is_awaitable=_is_awaitable,
            hide_suggestions=True,
        )
        if not inspect.isawaitable(result):
            return cast("ExecutionResult", result)
        if operation.kind is not OperationType.QUERY:
            return cast("ExecutionResult", await result)
        try:
            async with asyncio.timeout(self._timeouts.query_s):
                return cast("ExecutionResult", await result)
        except TimeoutError:
            logger.warning("request %s took longer than %s s", context.request_id, self._timeouts.query_s)
            message = f"this took longer than {self._timeouts.query_s:g} s: ask for less, or try again"
            raise HttpError(504, "TIMEOUT", message, _RETRY_SOON, retryable=True) from None


_RETRY_SOON: Fields = ((b"retry-after", b"5"),)


def _which_operation(prepared: Prepared) -> str:
    if not prepared.operations:
        return "the document has no operation"
    names = ", ".join(str(name) for name in prepared.operations)
    return f"operationName must be one of the document's operations: {names}"


async def viewer_of(service: Service, authorization: bytes) -> Viewer:
    """Who a request's Authorization header stands for; raise :class:`HttpError` when it is no session of ours."""
    return await viewer_in(service, session_of(service, authorization))


def session_of(service: Service, authorization: bytes) -> Session:
    """The session of an Authorization header; raise :class:`HttpError` when it is none of ours. Reads nothing."""
    scheme, _, token = authorization.decode("latin-1").partition(" ")
    try:
        if scheme.lower() != "bearer":
            raise TokenError("use Authorization: Bearer with the token of sessionOpen")
        return service.sessions.session(token.strip(), service.clock())
    except TokenError as error:
        raise _unauthenticated(error) from None


async def viewer_in(service: Service, session: Session) -> Viewer:
    """Who asks in a session; raise :class:`HttpError` when it is over.

    Its keys are compared with those in force, which is one small question to the database.
    """
    context = Context(service, None, "")
    try:
        return viewer_at(session, await context.read(queries.authority, session.account, context.now()))
    except TokenError as error:
        raise _unauthenticated(error) from None
    except UnavailableError:
        raise HttpError(503, "UNAVAILABLE", UNAVAILABLE, _RETRY_SOON, retryable=True) from None


def _unauthenticated(error: TokenError) -> HttpError:
    return HttpError(401, "UNAUTHENTICATED", str(error), ((b"www-authenticate", b'Bearer error="invalid_token"'),))


@lru_cache(maxsize=256)
def _content_type(accept: bytes) -> bytes | None:
    """The media type to answer in: the better of the two the client accepts; ``None`` when it accepts neither."""
    if not accept:
        return JSON_TYPE
    best: tuple[float, int, bytes] | None = None
    for part in accept.decode("latin-1").lower().split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        kind = _ANSWERS.get(name)
        if kind is None or any(p.startswith("charset=") and p[8:].strip('"') != "utf-8" for p in parameters):
            continue
        weight = _weight(parameters)
        candidate = (weight, int(kind is RESPONSE_TYPE), kind)
        if weight > 0 and (best is None or candidate > best):
            best = candidate
    return best[2] if best is not None else None


_ANSWERS = {
    "application/graphql-response+json": RESPONSE_TYPE,
    "application/json": JSON_TYPE,
    "application/*": JSON_TYPE,
    "*/*": JSON_TYPE,
}


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return float(parameter[2:])
            except ValueError:
                return 0.0
    return 1.0


def _wants_page(scope: Scope, accept: bytes) -> bool:
    if scope["method"] != "GET" or b"text/html" not in accept:
        return False
    return not any(name in scope["query_string"] for name in (b"query=", b"documentId=", b"extensions="))


@lru_cache(maxsize=256)
def _is_json(content_type: bytes) -> bool:
    name, *parameters = (piece.strip() for piece in content_type.decode("latin-1").lower().split(";"))
    charsets = [parameter[8:].strip('"') for parameter in parameters if parameter.startswith("charset=")]
    return name == "application/json" and all(charset in {"utf-8", "utf8"} for charset in charsets)


async def read_body(headers: dict[bytes, bytes], receive: Receive, max_bytes: int, timeout_s: float) -> bytes:
    """The body of a request.

    Refused with 413 as soon as it is, or says it is, larger than allowed, and with 408 when it takes too long.
    """
    stated = headers.get(b"content-length", b"")
    if stated.isdigit() and int(stated) > max_bytes:
        raise _too_large(max_bytes)
    reading = _received(receive, max_bytes)
    try:
        # Nearly always the body is there already, and a timer would be set for nothing.
        waits_for = reading.send(None)
    except StopIteration as done:
        return cast("bytes", done.value)
    try:
        async with asyncio.timeout(timeout_s):
            return await _Begun(reading, waits_for)
    except TimeoutError:
        message = f"the body did not arrive within {timeout_s:g} s"
        # What is still to come of it would be taken for the next request.
        raise HttpError(408, "REQUEST_TIMEOUT", message, ((b"connection", b"close"),), retryable=True) from None


class _Begun:
    """A coroutine that was begun and waits for something; awaited, it goes on from there (PEP 380's ``yield from``)."""

    def __init__(self, coroutine: Coroutine[Any, Any, bytes], waits_for: Any) -> None:
        self._coroutine = coroutine
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, bytes]:
        waits_for = self._waits_for
        try:
            while True:
                try:
                    sent = yield waits_for
                except BaseException as error:  # the coroutine's to handle, cancellation included
                    waits_for = self._coroutine.throw(error)
                else:
                    waits_for = self._coroutine.send(sent)
        except StopIteration as done:
            return cast("bytes", done.value)


async def _received(receive: Receive, max_bytes: int) -> bytes:
    message = await receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        if len(body) > max_bytes:
            raise _too_large(max_bytes)
        return body
    parts, size = [body], len(body)
    while message.get("more_body"):
        message = await receive()
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > max_bytes:
            raise _too_large(max_bytes)
    return b"".join(parts)


def _too_large(max_bytes: int) -> HttpError:
    return HttpError(413, "BODY_TOO_LARGE", f"at most {max_bytes} bytes: send fewer operations at a time")


def _parse_body(body: bytes) -> Request:
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise HttpError(400, "BAD_REQUEST", "the body is not JSON in UTF-8") from None
    if isinstance(data, list):
        raise HttpError(400, "BAD_REQUEST", "one request at a time: batching is not supported")
    if not isinstance(data, dict):
        raise HttpError(400, "BAD_REQUEST", 'the body is a JSON object: {"query": "…"}')
    return request_of(data, len(body))


def _parse_query_string(query_string: bytes) -> Request:
    try:
        pairs = parse_qsl(query_string.decode("ascii"), keep_blank_values=True, strict_parsing=False, errors="strict")
        data: dict[str, Any] = dict(pairs)
        for name in ("variables", "extensions"):
            if data.get(name):
                data[name] = orjson.loads(data[name])
            else:
                data.pop(name, None)
    except (ValueError, UnicodeDecodeError):
        raise HttpError(400, "BAD_REQUEST", "variables and extensions are JSON objects, in UTF-8") from None
    data["operationName"] = data.get("operationName") or None
    return request_of(data, len(query_string))


def request_of(data: dict[str, Any], size: int) -> Request:
    """A request from its parameters, which came as so many bytes; raise :class:`HttpError` for what is none."""
    variables, name = data.get("variables"), data.get("operationName")
    if variables is not None and not isinstance(variables, dict):
        raise HttpError(400, "BAD_REQUEST", "variables is a JSON object")
    if name is not None and not isinstance(name, str):
        raise HttpError(400, "BAD_REQUEST", "operationName is a string")
    if not isinstance(data.get("extensions", {}), dict | None):
        raise HttpError(400, "BAD_REQUEST", "extensions is a JSON object")
    if (reason := too_long(variables)) is not None:
        raise HttpError(413, "VARIABLES_TOO_LARGE", reason)
    reference = reference_of(data)
    return Request(document=reference, variables=variables or {}, operation_name=name, cost=cost_of(size))


def cost_of(size: int) -> int:
    """What a request counts by its bytes."""
    return 1 + size // BYTES_PER_COST


_NO_STORE = (b"cache-control", b"no-store")


async def _send(
    send: Send, status: int, content_type: bytes, body: bytes, headers: tuple[tuple[bytes, bytes], ...] = ()
) -> None:
    # What is told depends on who asks, and when.
    fixed = [(b"content-type", content_type), (b"content-length", b"%d" % len(body)), _NO_STORE, *headers]
    await send({"type": "http.response.start", "status": status, "headers": fixed})
    await send({"type": "http.response.body", "body": body})
