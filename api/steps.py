"""Steps of a thread that works for as long as the server runs: one that fails ends nothing, and is told once."""

import logging
import time
from collections.abc import Callable

from ledger.store import StoreError


class Steps:
    """Takes steps. Whatever fails in one, the next is taken all the same; ``failing`` says what does not happen."""

    def __init__(self, logger: logging.Logger, failing: str) -> None:
        self._logger = logger
        self._failing = failing
        self._trouble: str | None = None

    def take(self, step: Callable[..., None], *arguments: object) -> None:
        """Take a step; the same trouble as in the one before is not told again."""
        trouble = None
        try:
            step(*arguments)
        except Exception as error:
            trouble = str(error)
            if trouble != self._trouble:
                fault = None if isinstance(error, StoreError) else error
                self._logger.warning("%s: %s", self._failing, trouble, exc_info=fault)
        self._trouble = trouble


def monotonic_ms() -> int:
    """Milliseconds of a clock that nobody sets, for delays."""
    return time.monotonic_ns() // 1_000_000
