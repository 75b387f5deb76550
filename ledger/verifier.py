"""Verifying signatures in processes of their own, beside an auditor that replays meanwhile.

Verification releases the interpreter lock only to want it back 10,000 times a second from a replay that never rests,
so threads would hardly help; and the pools of the standard library import the whole calling program once more in each
process. A process here runs this module alone, which imports little. It reads frames of a 32-bit length and a msgpack
array of (entry, key, signature, message), and answers each with the first entry whose signature is not valid, or -1,
in 64 bits. It ends with its input.
"""

import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import BinaryIO

import msgspec

from ledger.keys import verify

SignatureJob = Sequence[tuple[int, str, str, bytes]]
"""Signatures to verify: of which entry, public key, signature, and the message it covers."""

_JOB = 250
"""Signatures in a job."""

_JOBS_WAITING = 16
"""Jobs of each process that may wait."""

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


class SignatureChecks:
    """Has signatures verified in other processes, a job of many at a time; with no processes, at once and here."""

    def __init__(self, processes: int) -> None:
        self.count = 0
        self._job: list[tuple[int, str, str, bytes]] = []
        self._running: deque[Future[int | None]] = deque()
        self._failures: list[int] = []
        self._limit = _JOBS_WAITING * max(processes, 1)
        self._pool = VerifierPool(processes) if processes else None

    def __enter__(self) -> "SignatureChecks":
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.__exit__()

    def add(self, seq: int, key: str, sig: str, message: bytes) -> None:
        """Take one signature of an entry."""
        self._job.append((seq, key, sig, message))
        self.count += 1
        if len(self._job) == _JOB:
            self._start_job()

    def _start_job(self) -> None:
        job, self._job = self._job, []
        if self._pool is None:
            self._note(first_invalid(job))
            return
        if len(self._running) >= self._limit:  # keep memory bounded when replay is faster than verification
            self._note(self._running.popleft().result())
        self._running.append(self._pool.submit(job))

    def _note(self, seq: int | None) -> None:
        if seq is not None:
            self._failures.append(seq)

    def first_failure(self) -> int | None:
        """Wait for all jobs; the first entry with a signature that is not valid."""
        self._start_job()
        while self._running:
            self._note(self._running.popleft().result())
        return min(self._failures, default=None)


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer jobs until there are no more."""
    while head := requests.read(4):
        job = _decoder.decode(requests.read(int.from_bytes(head, "big")))
        seq = first_invalid(job)
        answers.write((_NONE if seq is None else seq).to_bytes(8, "big", signed=True))
        answers.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal tells the whole group; the auditor ends this one
    serve(sys.stdin.buffer, sys.stdout.buffer)
