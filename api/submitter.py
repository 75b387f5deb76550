"""The way from coroutines to the sequencer's thread and back, for operations that come one by one.

What arrives while the event loop handles one round of requests is handed over together and comes back together: one
wake-up of each thread for all of them, instead of one for each.
"""

import asyncio
from concurrent.futures import Future

from ledger.operations import SignedOperation
from ledger.sequencer import Outcome, Sequencer
from ledger.state import Rejection


class Submitter:
    """Submits single operations from one event loop. Not for use by several threads."""

    def __init__(self, sequencer: Sequencer) -> None:
        self._sequencer = sequencer
        self._items: list[SignedOperation | Rejection] = []
        self._waiting: list[asyncio.Future[Outcome]] = []

    def submit(self, item: SignedOperation | Rejection) -> asyncio.Future[Outcome]:
        """Hand in one operation; the future gives its outcome once that is durable."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Outcome] = loop.create_future()
        if not self._items:
            loop.call_soon(self._hand_over, loop)
        self._items.append(item)
        self._waiting.append(future)
        return future

    def _hand_over(self, loop: asyncio.AbstractEventLoop) -> None:
        items, self._items = self._items, []
        waiting, self._waiting = self._waiting, []

        def settled(outcomes: Future[list[Outcome]]) -> None:
            # Called in the sequencer's thread, possibly when the loop has ended and nobody waits any more.
            if not loop.is_closed():
                loop.call_soon_threadsafe(_tell, waiting, outcomes.result())

        self._sequencer.submit(items).add_done_callback(settled)


def _tell(waiting: list[asyncio.Future[Outcome]], outcomes: list[Outcome]) -> None:
    for future, outcome in zip(waiting, outcomes, strict=True):
        if not future.done():
            future.set_result(outcome)
