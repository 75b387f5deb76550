"""Answers as server-sent events: the distinct connections mode of the protocol graphql-sse, one operation per request.

A client that accepts ``text/event-stream`` is told each answer as an event ``next``, and ``complete`` when there will
be no more. The response begins when the subscription has: whatever is recorded after that is told. One that ends
without ``complete`` was cut off, because the server stops, the ledger cannot be read now or the client was too slow:
the client goes on after the last sequence number that it has.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from functools import lru_cache

from starlette.types import Receive, Send

from api.context import Context
from api.rate_limits import Fields
from api.subscribing import Event, Kind

EVENT_STREAM = "text/event-stream"

_HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # tells nginx to pass events on as they come
)
_COMPLETE = b"event: complete\ndata:\n\n"
_PING = b":\n\n"


@lru_cache(maxsize=256)
def accepts_events(accept: bytes) -> bool:
    """Whether a client names event streams among what it accepts; ``*/*`` alone does not ask for one."""
    for part in accept.decode("latin-1").lower().split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        if name == EVENT_STREAM and not any(parameter in {"q=0", "q=0.0"} for parameter in parameters):
            return True
    return False


async def one_event(body: bytes) -> AsyncGenerator[Event, None]:
    """An answer that is the only one."""
    yield Event(kind=Kind.ANSWER, body=body)


async def send_events(
    events: AsyncGenerator[Event, None], context: Context, fields: Fields, receive: Receive, send: Send
) -> None:
    """Answer a request with events, until they end, the client goes or is too slow, or the server stops."""
    stream = _EventStream(context, fields, receive, send)
    try:
        await stream.pass_on(events)
    except TimeoutError:
        return  # it takes nothing: what was begun is cut off
    finally:
        await events.aclose()


class _EventStream:
    """One response as it is being sent."""

    def __init__(self, context: Context, fields: Fields, receive: Receive, send: Send) -> None:
        self._streams = context.service.streams
        self._head: Fields | None = (*_HEADERS, *fields)
        self._receive = receive
        self._send = send

    async def pass_on(self, events: AsyncGenerator[Event, None]) -> None:
        """Send events as they come, and a sign of life when none does for a while."""
        gone = asyncio.create_task(self._gone())
        stopping = asyncio.create_task(self._streams.stopping.wait())
        coming: asyncio.Task[Event | None] = asyncio.create_task(_next(events))
        try:
            while True:
                ready, _ = await asyncio.wait(
                    {gone, stopping, coming},
                    timeout=self._streams.limits.ping_s,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if gone in ready:
                    return
                if coming in ready:
                    event = coming.result()
                    if not await self._pass_on(event):
                        return
                    coming = asyncio.create_task(_next(events))
                if stopping in ready:
                    await self._write(b"", more=False)
                    return
                if not ready:
                    await self._write(_PING)
        finally:
            await _cancelled(gone, stopping, coming)

    async def _pass_on(self, event: Event | None) -> bool:
        """Send an event, or the end when there is none; whether there may be more."""
        if event is None:
            await self._write(_COMPLETE, more=False)
            return False
        if event.kind is Kind.BEGUN:
            await self._write(_PING)
            return True
        if event.kind is Kind.ANSWER:
            await self._write(b"event: next\ndata: " + event.body + b"\n\n")
            return True
        cut_off = event.kind is Kind.INTERRUPTED
        errors = b'event: next\ndata: {"errors":' + event.body + b"}\n\n" + _COMPLETE
        await self._write(b"" if cut_off else errors, more=False)
        return False

    async def _write(self, body: bytes, *, more: bool = True) -> None:
        """Send a part of the body, the head before the first; raise :class:`TimeoutError` when it is not taken."""
        async with asyncio.timeout(self._streams.limits.send_s):
            if self._head is not None:
                await self._send({"type": "http.response.start", "status": 200, "headers": self._head})
                self._head = None
            await self._send({"type": "http.response.body", "body": body, "more_body": more})

    async def _gone(self) -> None:
        """Return when the client has."""
        while (await self._receive())["type"] != "http.disconnect":
            pass


async def _next(events: AsyncGenerator[Event, None]) -> Event | None:
    return await anext(events, None)


async def _cancelled(*tasks: "asyncio.Task[object]") -> None:
    """End tasks, and wait until they have."""
    for task in tasks:
        task.cancel()
    for task in tasks:
        with suppress(asyncio.CancelledError):
            await task
