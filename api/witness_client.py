"""Asking a witness to cosign a checkpoint (C2SP tlog-witness, the log's side)."""

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from ledger.checkpoint import (
    CheckpointError,
    WitnessKey,
    decode_checkpoint,
    decode_note,
    decode_size,
    verify_cosignatures,
)
from ledger.witness import encode_request

ANSWER_LIMIT_S = 30
MAX_ANSWER_BYTES = 65_536
MAX_ATTEMPTS = 5
"""A witness's size may move on between two requests, when others offer it checkpoints too."""

MAX_TIMESTAMP_S = 253_402_300_799
"""The last second of the year 9999: a witness that states a later time has no clock."""


class WitnessRefusedError(CheckpointError):
    """A witness that does not cosign, or answers with something else; the message says what it said."""


class WitnessConflictError(WitnessRefusedError):
    """A witness that has seen another history of this log, or more of it: it cosigned ``witness_size`` entries.

    Unless the ledger itself has grown meanwhile, one of the two was shown what the other was not.
    """

    def __init__(self, message: str, witness_size: int) -> None:
        super().__init__(message)
        self.witness_size = witness_size


def ask_witness(
    url: str, witness: WitnessKey, note: str, prove: Callable[[int], list[bytes]], *, known_size: int = 0
) -> str:
    """The witness's line for a checkpoint, verified. ``prove`` gives the consistency proof from a smaller size.

    ``url`` is the witness's submission prefix, ``known_size`` how many entries it has cosigned as far as one knows: if
    it has more, or fewer, it says so. Raise :class:`WitnessRefusedError`, or OSError when nobody answers.
    """
    size = decode_checkpoint(decode_note(note).text).size
    old_size = known_size
    for _ in range(MAX_ATTEMPTS):
        status, body = _post(f"{url.removesuffix('/')}/add-checkpoint", encode_request(old_size, prove(old_size), note))
        if status == 200:
            return _line_of(witness, note, body)
        # A proof between two sizes of one history is always good; and some witnesses answer 409 with the size just
        # named when they know another root for it.
        if status == 422 or (status == 409 and _size_in(witness, body) == old_size):
            message = f"{witness.name} does not cosign ({status}): {_words(body)}"
            raise WitnessConflictError(message, old_size)
        if status != 409:
            raise WitnessRefusedError(f"{witness.name} does not cosign ({status}): {_words(body)}")
        old_size = _size_in(witness, body)
        if old_size > size:
            message = f"{witness.name} has cosigned {old_size} entries, this checkpoint has {size}"
            raise WitnessConflictError(message, old_size)
    raise WitnessRefusedError(f"{witness.name} named another size {MAX_ATTEMPTS} times")


def _post(url: str, body: bytes) -> tuple[int, str]:
    request = urllib.request.Request(url, body, {"Content-Type": "text/plain; charset=utf-8"})  # noqa: S310
    try:
        with _opened(request) as answer:
            return answer.status, _read(answer)
    except (OSError, http.client.HTTPException) as error:
        raise OSError(f"{url} does not answer: {getattr(error, 'reason', error)}") from error


def _opened(request: urllib.request.Request) -> Any:
    """The answer, whatever its status."""
    try:
        return urllib.request.urlopen(request, timeout=ANSWER_LIMIT_S)  # noqa: S310 - the caller's own URL
    except urllib.error.HTTPError as error:
        return error


def _read(answer: Any) -> str:
    """The body, as far as it is needed. The limit is one for all of it: a byte now and then is no answer."""
    give_up_at = time.monotonic() + ANSWER_LIMIT_S
    body = b""
    while len(body) < MAX_ANSWER_BYTES and (part := answer.read1(MAX_ANSWER_BYTES - len(body))):
        body += part
        if time.monotonic() > give_up_at:
            raise OSError("the answer does not end")
    return body.decode("utf-8", "replace")


def _words(body: str) -> str:
    """What a stranger says, fit for a line of a log."""
    return "".join(c if c.isprintable() else " " for c in body.strip()[:200])


def _size_in(witness: WitnessKey, body: str) -> int:
    try:
        return decode_size(body.removesuffix("\n"))
    except CheckpointError as error:
        raise WitnessRefusedError(f"{witness.name} named no size: {error}") from error


def _line_of(witness: WitnessKey, note: str, body: str) -> str:
    """The line of this witness in an answer, which may have lines of other keys too."""
    try:
        for line in body.splitlines(keepends=True):
            for said in verify_cosignatures(note + line, [witness]):
                if said.timestamp_s > MAX_TIMESTAMP_S:
                    raise WitnessRefusedError(f"{witness.name} states the time {said.timestamp_s} s: it has no clock")
                return line
    except WitnessRefusedError:
        raise
    except CheckpointError as error:
        raise WitnessRefusedError(f"{witness.name} answers with no cosignature: {error}") from error
    raise WitnessRefusedError(f"{witness.name} answers without a cosignature of its key")
