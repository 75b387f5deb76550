"""Errors of a request, as opposed to refusals of an operation: what stands in ``errors`` of a GraphQL answer.

Every error has ``extensions.code`` from a closed list. Those here are expected and say what to do; anything else that
is raised while a request is executed is a fault of ours and reaches the client only as ``INTERNAL_ERROR`` with the
request id under which the log has the whole story. Where the same request may well succeed later,
``extensions.retryable`` is true.
"""

from typing import Any

from graphql import GraphQLError


class HttpError(Exception):
    """A request that is refused before any GraphQL: a status, a code and what to do."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        headers: tuple[tuple[bytes, bytes], ...] = (),
        *,
        retryable: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = headers
        self.extensions: dict[str, Any] = {"code": code} | ({"retryable": True} if retryable else {})


class ApiError(GraphQLError):
    """An error the client can act on. It is never masked."""

    CODE = "BAD_REQUEST"

    def __init__(self, message: str) -> None:
        super().__init__(message, extensions={"code": self.CODE})


class UnauthenticatedError(ApiError):
    """The question needs a session."""

    CODE = "UNAUTHENTICATED"

    def __init__(self, message: str = "sign in first: sessionChallenge, then sessionOpen") -> None:
        super().__init__(message)


class ForbiddenError(ApiError):
    """The session's account may not ask this."""

    CODE = "FORBIDDEN"


class BadInputError(ApiError):
    """An argument has a value that cannot be used."""

    CODE = "BAD_USER_INPUT"


class ValueOutOfRangeError(ApiError):
    """A value is larger than clients can be told exactly."""

    CODE = "VALUE_OUT_OF_RANGE"


class BadCursorError(ApiError):
    """A cursor that this server did not give, or gave for another filter."""

    CODE = "BAD_CURSOR"

    def __init__(self, message: str = "this cursor was not given for this list with these filters") -> None:
        super().__init__(message)


class PersistedQueryNotFoundError(ApiError):
    """A document that is not kept here. Clients look for just this text, and then send the document with its hash."""

    CODE = "PERSISTED_QUERY_NOT_FOUND"

    def __init__(self, message: str = "PersistedQueryNotFound") -> None:
        super().__init__(message)


def told(error: GraphQLError, code: str) -> dict[str, Any]:
    """An error as the client is told it, with a code if it has none of its own."""
    formatted: dict[str, Any] = {"message": error.message}
    if error.locations:
        formatted["locations"] = [{"line": place.line, "column": place.column} for place in error.locations]
    if error.path:
        formatted["path"] = list(error.path)
    formatted["extensions"] = {"code": code, **(error.extensions or {})}
    return formatted
