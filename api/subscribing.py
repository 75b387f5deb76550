"""The answers to a subscription, one after the other, whatever carries them to the client."""

import inspect
import logging
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from enum import Enum
from typing import Any, cast

import orjson
from graphql import DocumentNode, ExecutionResult, GraphQLError, GraphQLSchema, subscribe
from msgspec import Struct
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext

from api.answers import encode, told_at_execution
from api.context import Context
from api.subscriptions import SessionOverError
from ledger.store import UnavailableError

logger = logging.getLogger("guerdon.api")


class Kind(Enum):
    """What an event is for a subscription: its beginning, one of its answers, or its end."""

    BEGUN = "begun"
    """Whatever is recorded from here on will be told."""
    ANSWER = "answer"
    FAILED = "failed"
    """It ends with errors, and asked again it would fail again."""
    SESSION_OVER = "session over"
    """Its session has ended: the client can go on with a new one."""
    INTERRUPTED = "interrupted"
    """The ledger cannot be read now: the client can go on in a while."""


class Event(Struct, frozen=True, kw_only=True):
    """An event of a subscription. ``body`` is an answer, or the array of the errors that end it, as JSON."""

    kind: Kind
    body: bytes
    reason: str = ""


async def subscription_events(
    schema: GraphQLSchema,
    document: DocumentNode,
    *,
    variables: dict[str, Any],
    operation_name: str | None,
    context: Context,
    extensions: dict[str, Any],
) -> AsyncGenerator[Event, None]:
    """What a subscription tells, in a place that it has for as long as it runs. Its end is an event, no exception."""
    try:
        with _place(context):
            source: Any = subscribe(
                schema,
                document,
                context_value=context,
                variable_values=variables,
                operation_name=operation_name,
                executor_class=StrawberryGraphQLCoreExecutionContext,
                hide_suggestions=True,
            )
            if inspect.isawaitable(source):
                source = await source
            if isinstance(source, ExecutionResult):
                yield _end(source.errors or [], context)
                return
            results = cast("AsyncGenerator[ExecutionResult, None]", source)
            async with aclosing(results):
                yield Event(kind=Kind.BEGUN, body=b"")
                async for result in results:
                    yield Event(kind=Kind.ANSWER, body=encode(result, context, extensions)[1])
    except Exception as error:  # raised by what the subscription follows, after its beginning
        located = error if isinstance(error, GraphQLError) else GraphQLError(str(error), original_error=error)
        yield _end([located], context)


@contextmanager
def _place(context: Context) -> Iterator[None]:
    """A place for a viewer's subscription. Who is not signed in needs none: it is refused by the field."""
    if context.viewer is None:
        yield
        return
    with context.service.streams.place(context.viewer.account, context.address):
        yield


def _end(errors: list[GraphQLError], context: Context) -> Event:
    """How errors end a subscription."""
    kind, reason = Kind.FAILED, ""
    for error in errors:
        original = error.original_error or error
        if isinstance(original, SessionOverError):
            kind, reason = Kind.SESSION_OVER, original.message
        elif isinstance(original, UnavailableError):
            kind = Kind.INTERRUPTED
    return Event(kind=kind, body=orjson.dumps([told_at_execution(error, context) for error in errors]), reason=reason)
