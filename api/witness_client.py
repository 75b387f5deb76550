"""Asking a witness to cosign a checkpoint (C2SP tlog-witness, the log's side)."""

import http.client
import urllib.error
import urllib.request
from collections.abc import Callable

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


class WitnessRefusedError(CheckpointError):
    """A witness that does not cosign, or answers with something else; the message says what it said."""


def ask_witness(url: str, witness: WitnessKey, note: str, prove: Callable[[int], list[bytes]]) -> str:
    """The witness's line for a checkpoint, verified. ``prove`` gives the consistency proof from a smaller size.

    ``url`` is the witness's submission prefix. Raise :class:`WitnessRefusedError`, or OSError when nobody answers.
    """
    size = decode_checkpoint(decode_note(note).text).size
    old_size = 0  # a witness that has more says so
    for _ in range(MAX_ATTEMPTS):
        status, body = _post(f"{url.removesuffix('/')}/add-checkpoint", encode_request(old_size, prove(old_size), note))
        if status == 200:
            return _line_of(witness, note, body)
        if status != 409:
            raise WitnessRefusedError(f"{witness.name} does not cosign ({status}): {body.strip()}")
        old_size = _size_in(witness, body)
        if old_size > size:
            raise WitnessRefusedError(f"{witness.name} has cosigned {old_size} entries, this checkpoint has {size}")
    raise WitnessRefusedError(f"{witness.name} named another size {MAX_ATTEMPTS} times")


def _post(url: str, body: bytes) -> tuple[int, str]:
    request = urllib.request.Request(url, body, {"Content-Type": "text/plain; charset=utf-8"})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_LIMIT_S) as answer:  # noqa: S310 - the caller's own URL
            return answer.status, answer.read(MAX_ANSWER_BYTES).decode("utf-8", "replace")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(MAX_ANSWER_BYTES).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        raise OSError(f"{url} does not answer: {getattr(error, 'reason', error)}") from error


def _size_in(witness: WitnessKey, body: str) -> int:
    try:
        return decode_size(body.removesuffix("\n"))
    except CheckpointError as error:
        raise WitnessRefusedError(f"{witness.name} named no size: {error}") from error


def _line_of(witness: WitnessKey, note: str, body: str) -> str:
    """The line of this witness in an answer, which may have lines of other keys too."""
    try:
        for line in body.splitlines(keepends=True):
            if verify_cosignatures(note + line, [witness]):
                return line
    except CheckpointError as error:
        raise WitnessRefusedError(f"{witness.name} answers with no cosignature: {error}") from error
    raise WitnessRefusedError(f"{witness.name} answers without a cosignature of its key")
