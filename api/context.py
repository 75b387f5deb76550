"""What resolvers work with: the service, which lives as long as the process, and the context of one request."""

import asyncio
import functools
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Concatenate, ParamSpec, TypeVar

from msgspec import Struct
from sqlalchemy.engine import Connection

from api.sessions import Sessions, Viewer
from api.submitter import Submitter
from ledger.encoding import format_time
from ledger.operations import Genesis
from ledger.sequencer import Clock, Sequencer
from ledger.store import Store

P = ParamSpec("P")
T = TypeVar("T")


class Service(Struct, frozen=True, kw_only=True):
    """One ledger being served. ``readers`` are the threads in which the database is read."""

    store: Store
    sequencer: Sequencer
    submitter: Submitter
    sessions: Sessions
    genesis: Genesis
    operator: str
    clock: Clock
    readers: ThreadPoolExecutor
    random_bytes: Callable[[int], bytes] = secrets.token_bytes


class Context:
    """One request: who asks, and under which id errors are logged."""

    __slots__ = ("request_id", "service", "viewer")

    def __init__(self, service: Service, viewer: Viewer | None, request_id: str) -> None:
        self.service = service
        self.viewer = viewer
        self.request_id = request_id

    async def read(
        self, question: Callable[Concatenate[Store, Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Put a question to a snapshot of its own, in a reader's thread: resolvers run concurrently."""
        call = functools.partial(_ask, self.service.store, question, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self.service.readers, call)

    def now(self) -> str:
        """The time of the server's clock."""
        return format_time(self.service.clock())


def _ask(
    store: Store, question: Callable[Concatenate[Store, Connection, P], T], /, *args: P.args, **kwargs: P.kwargs
) -> T:
    with store.read() as connection:
        return question(store, connection, *args, **kwargs)
