"""Verifying signatures in processes of their own, beside an auditor that replays meanwhile.

Verification releases the interpreter lock only to want it back 10,000 times a second from a replay that never rests,
so threads would hardly help; and the pools of the standard library import the whole calling program once more in each
process. A process here runs this module alone, which imports little. It reads frames of a 32-bit length and a msgpack
array of (entry, key, signature, message), and answers each with the first entry whose signature is not valid, or -1,
in 64 bits. It ends with its input.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import BinaryIO

import msgspec

from ledger.keys import verify

SignatureJob = Sequence[tuple[int, str, str, bytes]]
"""Signatures to verify: of which entry, public key, signature, and the message it covers."""

_NONE = -1
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[tuple[int, str, str, bytes]])


def first_invalid(job: SignatureJob) -> int | None:
    """The first entry of a job with a signature that is not valid."""
    for seq, key, sig, message in job:
        if not verify(key, sig, message):
            return seq
    return None


class VerifierPool:
    """Processes that verify signatures; a context manager, at the end of which they are gone."""

    def __init__(self, processes: int) -> None:
        # Each thread feeds a process of its own and sleeps while that works.
        self._threads = ThreadPoolExecutor(processes, thread_name_prefix="guerdon-verifier")
        self._own = threading.local()
        self._started: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "VerifierPool":
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(cancel_futures=True)
        for process in self._started:
            process.communicate()

    def submit(self, job: SignatureJob) -> Future[int | None]:
        """Verify a job's signatures; the future gives the first entry with one that is not valid."""
        return self._threads.submit(self._run, job)

    def _run(self, job: SignatureJob) -> int | None:
        process = getattr(self._own, "process", None)
        if process is None:
            process = self._own.process = self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        frame = _encoder.encode(job)
        process.stdin.write(len(frame).to_bytes(4, "big") + frame)
        process.stdin.flush()
        answer = process.stdout.read(8)
        if len(answer) != 8:
            raise RuntimeError("a process that verifies signatures has ended: nothing is known of its signatures")
        seq = int.from_bytes(answer, "big", signed=True)
        return None if seq == _NONE else seq

    def _start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "ledger.verifier"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        self._started.append(process)
        return process


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer jobs until there are no more."""
    while head := requests.read(4):
        job = _decoder.decode(requests.read(int.from_bytes(head, "big")))
        seq = first_invalid(job)
        answers.write((_NONE if seq is None else seq).to_bytes(8, "big", signed=True))
        answers.flush()


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
