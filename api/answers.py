"""What a client is told: results and errors of a request as JSON, the same over HTTP, event streams and WebSockets.

Nothing unexpected leaks: what is neither an :class:`api.errors.ApiError` nor one of GraphQL's own errors about what the
client sent is logged whole, and told as INTERNAL_ERROR with the request id.
"""

import logging
from typing import Any

import orjson
from graphql import ExecutionResult, GraphQLError

from api.context import Context
from api.errors import ApiError, told
from ledger.store import UnavailableError

logger = logging.getLogger("guerdon.api")

UNAVAILABLE = "the ledger cannot be read now: try again"


def encode(result: ExecutionResult, context: Context, extensions: dict[str, Any]) -> tuple[int, bytes]:
    """The answer to an operation, and its status over HTTP."""
    if not result.errors:
        return 200, written({"data": result.data, "extensions": extensions}, context)
    errors = [told_at_execution(error, context) for error in result.errors]
    if result.data is None and not any(error.path for error in result.errors):
        # Variables that do not fit: nothing was executed.
        return 400, written({"errors": errors, "extensions": extensions}, context)
    unavailable = result.data is None and any(error["extensions"].get("retryable") for error in errors)
    answer = {"data": result.data, "errors": errors, "extensions": extensions}
    return 503 if unavailable else 200, written(answer, context)


def written(answer: dict[str, Any], context: Context) -> bytes:
    """An answer as JSON. What JSON cannot say is a fault of ours, told like any other."""
    try:
        return orjson.dumps(answer)
    except orjson.JSONEncodeError:
        logger.exception("request %s has an answer that is no JSON", context.request_id)
        extensions = {"code": "INTERNAL_ERROR", "requestId": context.request_id}
        return orjson.dumps({"data": None, "errors": [{"message": "Internal error", "extensions": extensions}]})


def told_at_execution(error: GraphQLError, context: Context) -> dict[str, Any]:
    """An error of execution: told as it is if it is expected, else logged and masked."""
    original = error.original_error
    if original is None or (isinstance(original, GraphQLError) and not _is_of_output(error, original)):
        formatted = told(error, "BAD_USER_INPUT")
    elif isinstance(original, UnavailableError):
        logger.error("request %s could not read: %s", context.request_id, original)
        told_so = GraphQLError(UNAVAILABLE, error.nodes, path=error.path, extensions={"retryable": True})
        formatted = told(told_so, "UNAVAILABLE")
    else:
        place = ".".join(str(part) for part in error.path or ())
        logger.error("request %s failed at %s", context.request_id, place, exc_info=original)
        masked = GraphQLError("Internal error", error.nodes, path=error.path)
        formatted = told(masked, "INTERNAL_ERROR")
    formatted["extensions"]["requestId"] = context.request_id
    return formatted


def _is_of_output(error: GraphQLError, original: GraphQLError) -> bool:
    """Whether GraphQL could not tell a value of ours, and says so with the value.

    What is wrong with an argument is an error about the nodes of the document, with a variable one without a path; the
    coercion of a resolver's result raises an error without nodes, which gets the path of the field.
    """
    return not isinstance(original, ApiError) and not original.nodes and error.path is not None


def failure(errors: list[dict[str, Any]], request_id: str) -> bytes:
    """An answer without data. Errors may be shared by requests, so the request id goes into copies."""
    return orjson.dumps({"errors": with_request_id(errors, request_id)})


def with_request_id(errors: list[dict[str, Any]], request_id: str) -> list[dict[str, Any]]:
    """Copies of errors, as one request is told them."""
    return [{**error, "extensions": {**error["extensions"], "requestId": request_id}} for error in errors]
