"""GraphQL over HTTP: how a request becomes an answer, per the GraphQL-over-HTTP specification.

A request goes through four steps, each with its own refusals: read the body (405, 406, 413, 415, 400), prepare the
document (parse, hold it against the limits and validate, cached by its text), execute it, write the answer. Everything
a client is told about an error is made here, so that nothing unexpected leaks: what is not an
:class:`api.errors.ApiError` or one of GraphQL's own errors is logged whole and answered as INTERNAL_ERROR with the
request id.

GET is for queries only and POST must be JSON, so a foreign web page can make a browser send neither a mutation nor
anything that reads with a session.
"""

import inspect
import logging
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any, TypeGuard, cast
from urllib.parse import parse_qsl

import orjson
from graphql import (
    DocumentNode,
    ExecutionResult,
    GraphQLError,
    OperationDefinitionNode,
    OperationType,
    execute,
    parse,
    specified_rules,
    validate,
)
from msgspec import Struct
from starlette.types import Receive, Scope, Send
from strawberry import Schema
from strawberry.execution import optimized_is_awaitable
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext
from strawberry.schema.validation_rules.one_of import OneOfInputValidationRule

from api.context import Context, Service
from api.limits import Limits, limit_error, paged_fields, too_long
from api.sessions import TokenError, Viewer, viewer_at
from ledger import queries
from ledger.store import UnavailableError

logger = logging.getLogger("guerdon.api")

RESPONSE_TYPE = b"application/graphql-response+json; charset=utf-8"
JSON_TYPE = b"application/json; charset=utf-8"

MAX_CACHED_DOCUMENTS = 256
MAX_CACHED_DOCUMENT = 16_384
"""Longer documents, in characters, are parsed and validated anew each time: the cache stays small."""

MAX_ERRORS = 20
"""Errors told about one document; validation stops there."""


_is_awaitable = cast("Callable[[Any], TypeGuard[Awaitable[Any]]]", optimized_is_awaitable)


class HttpError(Exception):
    """A request that is refused before any GraphQL: a status, a code and what to do."""

    def __init__(self, status: int, code: str, message: str, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = headers


class Request(Struct, frozen=True, kw_only=True):
    """A GraphQL request as read from HTTP."""

    query: str
    variables: dict[str, Any] | None
    operation_name: str | None


class Prepared(Struct, frozen=True, kw_only=True):
    """A document ready to execute, or the errors that it has, as the client is told them."""

    document: DocumentNode | None
    operations: dict[str | None, OperationType]
    errors: list[dict[str, Any]]


class Documents:
    """Parses and validates documents; remembers those seen, by their text. Rules are built once."""

    def __init__(self, schema: Schema, limits: Limits) -> None:
        self._schema = schema._schema
        self._limits = limits
        self._paged = paged_fields(self._schema)
        self._rules = (*specified_rules, OneOfInputValidationRule)
        self._cached = lru_cache(MAX_CACHED_DOCUMENTS)(self._prepare)

    def prepare(self, query: str) -> Prepared:
        """The document of a query text."""
        return self._cached(query) if len(query) <= MAX_CACHED_DOCUMENT else self._prepare(query)

    def _prepare(self, query: str) -> Prepared:
        try:
            document = parse(query, max_tokens=self._limits.max_tokens)
        except GraphQLError as error:
            return _unprepared(error, "GRAPHQL_PARSE_FAILED")
        except RecursionError:
            return _unprepared(GraphQLError(_TOO_DEEP), "GRAPHQL_PARSE_FAILED")
        try:
            if (passed := limit_error(document, self._limits, self._paged)) is not None:
                return _unprepared(passed, "GRAPHQL_VALIDATION_FAILED")
            errors = validate(self._schema, document, self._rules, max_errors=MAX_ERRORS, hide_suggestions=True)
        except RecursionError:
            return _unprepared(GraphQLError(_TOO_DEEP), "GRAPHQL_VALIDATION_FAILED")
        operations = {
            node.name.value if node.name else None: node.operation
            for node in document.definitions
            if isinstance(node, OperationDefinitionNode)
        }
        found = [told(error, "GRAPHQL_VALIDATION_FAILED") for error in errors]
        return Prepared(document=document, operations=operations, errors=found)


_TOO_DEEP = "the document is nested too deeply"


def _unprepared(error: GraphQLError, code: str) -> Prepared:
    return Prepared(document=None, operations={}, errors=[told(error, code)])


def told(error: GraphQLError, code: str) -> dict[str, Any]:
    """An error as the client is told it, with a code if it has none of its own."""
    formatted: dict[str, Any] = {"message": error.message}
    if error.locations:
        formatted["locations"] = [{"line": place.line, "column": place.column} for place in error.locations]
    if error.path:
        formatted["path"] = list(error.path)
    formatted["extensions"] = {"code": code, **(error.extensions or {})}
    return formatted


class GraphQLView:
    """The endpoint ``/graphql``, as an ASGI application. ``service`` gives the ledger once the server has started."""

    def __init__(
        self, schema: Schema, service: Callable[[], Service], limits: Limits, max_body_bytes: int, page: bytes | None
    ) -> None:
        self._schema = schema
        self._service = service
        self._documents = Documents(schema, limits)
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
            if content_type is None:
                raise HttpError(406, "NOT_ACCEPTABLE", "accept application/graphql-response+json or application/json")
            request = await self._read(scope, headers, receive)
            context = await self._context(headers, request_id)
            status, body = await self._answer(scope["method"], request, context)
            if content_type is JSON_TYPE and status == 400:
                status = 200  # the specification's rule for clients that know only application/json
            await _send(send, status, content_type, body)
        except HttpError as error:
            extensions = {"code": error.code, "requestId": request_id}
            body = orjson.dumps({"errors": [{"message": str(error), "extensions": extensions}]})
            await _send(send, error.status, content_type or JSON_TYPE, body, error.headers)

    async def _read(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive) -> Request:
        method = scope["method"]
        if method == "POST":
            if not _is_json(headers.get(b"content-type", b"")):
                raise HttpError(415, "UNSUPPORTED_MEDIA_TYPE", "send application/json in UTF-8")
            return _parse_body(await read_body(headers, receive, self._max_body_bytes))
        if method == "GET":
            return _parse_query_string(scope["query_string"])
        raise HttpError(405, "METHOD_NOT_ALLOWED", "use POST, or GET for queries", ((b"allow", b"GET, POST"),))

    async def _context(self, headers: dict[bytes, bytes], request_id: str) -> Context:
        service = self._service()
        authorization = headers.get(b"authorization")
        viewer = await viewer_of(service, authorization) if authorization is not None else None
        return Context(service, viewer, request_id)

    async def _answer(self, method: str, request: Request, context: Context) -> tuple[int, bytes]:
        prepared = self._documents.prepare(request.query)
        if prepared.errors:
            return 400, _failure(prepared.errors, context.request_id)
        if (operation := _operation(prepared, request.operation_name)) is None:
            error = {"message": _which_operation(prepared), "extensions": {"code": "OPERATION_NAME_REQUIRED"}}
            return 400, _failure([error], context.request_id)
        if method == "GET" and operation is not OperationType.QUERY:
            raise HttpError(405, "METHOD_NOT_ALLOWED", "GET is for queries: use POST", ((b"allow", b"POST"),))
        assert prepared.document is not None
        result: Any = execute(
            self._schema._schema,
            prepared.document,
            context_value=context,
            variable_values=request.variables,
            operation_name=request.operation_name,
            executor_class=StrawberryGraphQLCoreExecutionContext,
            is_awaitable=_is_awaitable,
            hide_suggestions=True,
        )
        if inspect.isawaitable(result):
            result = await result
        return _encode(result, context)


def _encode(result: ExecutionResult, context: Context) -> tuple[int, bytes]:
    if not result.errors:
        return 200, _written({"data": result.data}, context)
    errors = [_told_at_execution(error, context) for error in result.errors]
    if result.data is None and not any(error.path for error in result.errors):
        return 400, _written({"errors": errors}, context)  # variables that do not fit: nothing was executed
    return 200, _written({"data": result.data, "errors": errors}, context)


def _written(answer: dict[str, Any], context: Context) -> bytes:
    """An answer as JSON. What JSON cannot say is a fault of ours, told like any other."""
    try:
        return orjson.dumps(answer)
    except orjson.JSONEncodeError:
        logger.exception("request %s has an answer that is no JSON", context.request_id)
        extensions = {"code": "INTERNAL_ERROR", "requestId": context.request_id}
        return orjson.dumps({"data": None, "errors": [{"message": "Internal error", "extensions": extensions}]})


def _told_at_execution(error: GraphQLError, context: Context) -> dict[str, Any]:
    """An error of execution: told as it is if it is expected, else logged and masked."""
    original = error.original_error
    if original is None or isinstance(original, GraphQLError):
        formatted = told(error, "BAD_USER_INPUT")
    else:
        place = ".".join(str(part) for part in error.path or ())
        logger.error("request %s failed at %s", context.request_id, place, exc_info=original)
        masked = GraphQLError("Internal error", error.nodes, path=error.path)
        formatted = told(masked, "INTERNAL_ERROR")
    formatted["extensions"]["requestId"] = context.request_id
    return formatted


def _failure(errors: list[dict[str, Any]], request_id: str) -> bytes:
    """An answer without data. Errors may be shared by requests, so the request id goes into copies."""
    mine = [{**error, "extensions": {**error["extensions"], "requestId": request_id}} for error in errors]
    return orjson.dumps({"errors": mine})


def _operation(prepared: Prepared, name: str | None) -> OperationType | None:
    if name is not None:
        return prepared.operations.get(name)
    return next(iter(prepared.operations.values())) if len(prepared.operations) == 1 else None


def _which_operation(prepared: Prepared) -> str:
    if not prepared.operations:
        return "the document has no operation"
    names = ", ".join(str(name) for name in prepared.operations)
    return f"operationName must be one of the document's operations: {names}"


async def viewer_of(service: Service, authorization: bytes) -> Viewer:
    """Who a request's Authorization header stands for; raise :class:`HttpError` when it is no session of ours.

    The keys of a token that is ours are compared with those in force, which is one small question to the database.
    """
    scheme, _, token = authorization.decode("latin-1").partition(" ")
    try:
        if scheme.lower() != "bearer":
            raise TokenError("use Authorization: Bearer with the token of sessionOpen")
        session = service.sessions.session(token.strip(), service.clock())
        context = Context(service, None, "")
        return viewer_at(session, await context.read(queries.authority, session.account, context.now()))
    except TokenError as error:
        challenge = ((b"www-authenticate", b'Bearer error="invalid_token"'),)
        raise HttpError(401, "UNAUTHENTICATED", str(error), challenge) from None
    except UnavailableError:
        message = "the ledger cannot be read now: try again"
        raise HttpError(503, "UNAVAILABLE", message, ((b"retry-after", b"5"),)) from None


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
    return scope["method"] == "GET" and b"text/html" in accept and b"query=" not in scope["query_string"]


@lru_cache(maxsize=256)
def _is_json(content_type: bytes) -> bool:
    name, *parameters = (piece.strip() for piece in content_type.decode("latin-1").lower().split(";"))
    charsets = [parameter[8:].strip('"') for parameter in parameters if parameter.startswith("charset=")]
    return name == "application/json" and all(charset in {"utf-8", "utf8"} for charset in charsets)


async def read_body(headers: dict[bytes, bytes], receive: Receive, max_bytes: int) -> bytes:
    """The body of a request; refused with 413 as soon as it is, or says it is, larger than allowed."""
    too_large = HttpError(413, "BODY_TOO_LARGE", f"at most {max_bytes} bytes: send fewer operations at a time")
    stated = headers.get(b"content-length", b"")
    if stated.isdigit() and int(stated) > max_bytes:
        raise too_large
    message = await receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        if len(body) > max_bytes:
            raise too_large
        return body
    parts, size = [body], len(body)
    while message.get("more_body"):
        message = await receive()
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > max_bytes:
            raise too_large
    return b"".join(parts)


def _parse_body(body: bytes) -> Request:
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise HttpError(400, "BAD_REQUEST", "the body is not JSON in UTF-8") from None
    if isinstance(data, list):
        raise HttpError(400, "BAD_REQUEST", "one request at a time: batching is not supported")
    if not isinstance(data, dict):
        raise HttpError(400, "BAD_REQUEST", 'the body is a JSON object: {"query": "…"}')
    return _request(data)


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
    return _request(data)


def _request(data: dict[str, Any]) -> Request:
    query, variables, name = data.get("query"), data.get("variables"), data.get("operationName")
    if not isinstance(query, str) or not query:
        raise HttpError(400, "BAD_REQUEST", "query is a string with the GraphQL document")
    if variables is not None and not isinstance(variables, dict):
        raise HttpError(400, "BAD_REQUEST", "variables is a JSON object")
    if name is not None and not isinstance(name, str):
        raise HttpError(400, "BAD_REQUEST", "operationName is a string")
    if not isinstance(data.get("extensions", {}), dict | None):
        raise HttpError(400, "BAD_REQUEST", "extensions is a JSON object")
    if (reason := too_long(variables)) is not None:
        raise HttpError(413, "VARIABLES_TOO_LARGE", reason)
    return Request(query=query, variables=variables, operation_name=name)


async def _send(
    send: Send, status: int, content_type: bytes, body: bytes, headers: tuple[tuple[bytes, bytes], ...] = ()
) -> None:
    fixed = [(b"content-type", content_type), (b"content-length", b"%d" % len(body)), *headers]
    await send({"type": "http.response.start", "status": status, "headers": fixed})
    await send({"type": "http.response.body", "body": body})
