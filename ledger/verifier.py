"""Verifying signatures in processes of their own, beside an auditor that replays meanwhile.

Verification releases the interpreter lock only to want it back 10,000 times a second from a replay that never rests,
so threads would hardly help; and the pools of the standard library import the whole calling program once more in each
process. A process here runs this module alone, which imports little. It reads frames of a 32-bit length and a msgpack
array of (entry, key, signature, message), and answers each with the first entry whose signature is not valid, or -1,
in 64 bits. It ends with its input.
"""

import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import IO, BinaryIO

import msgspec

from ledger.keys import verify

SignatureJob = Sequence[tuple[int, str, str, bytes]]
"""Signatures to verify: of which entry, public key, signature, and the message it covers."""

_Waiting = tuple[SignatureJob, "Future[int | None]"]

_JOB = 250
"""Signatures in a job."""

_JOBS_WAITING = 16
"""Jobs of each process that may wait."""

_AHEAD = 2
"""Jobs a process has been sent: the one it is at, and the next."""

_PIPE_BYTES = 1024 * 1024
"""Room for the jobs a process was sent, so that whoever sends one need not wait; Linux lets a user have 64 MiB."""

_NONE = -1
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[tuple[int, str, str, bytes]])


def first_invalid(job: SignatureJob) -> int | None:
    """The first entry of a job with a signature that is not valid."""
    for seq, key, sig, message in job:
        if not verify(key, sig, message):
            return seq
    return None


class VerifierError(RuntimeError):
    """A process that verifies signatures has ended before it was done."""

    def __init__(self) -> None:
        super().__init__("a process that verifies signatures has ended: nothing is known of its signatures; try again")


class VerifierPool:
    """Processes that verify signatures; a context manager, at the end of which they are gone.

    Raise OSError when not even one can be started; when there is no room for as many as asked for, those that could be
    do the work.
    """

    def __init__(self, processes: int) -> None:
        self._jobs: SimpleQueue[_Waiting | None] = SimpleQueue()
        self._verifiers: list[_Verifier] = []
        for _ in range(processes):
            try:
                self._verifiers.append(_Verifier(self._jobs))
            except OSError:
                if not self._verifiers:
                    raise
                break
        for verifier in self._verifiers:
            verifier.start()

    def __enter__(self) -> "VerifierPool":
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(Empty):  # what nobody waits for any more
            while True:
                self._jobs.get_nowait()
        for _verifier in self._verifiers:
            self._jobs.put(None)
        for thread in self._verifiers:
            thread.join()

    def submit(self, job: SignatureJob) -> Future[int | None]:
        """Verify a job's signatures; the future gives the first entry with one that is not valid."""
        future: Future[int | None] = Future()
        self._jobs.put((job, future))
        return future


class _Verifier(threading.Thread):
    """A process that verifies, and the thread that feeds it: it has a job ready when the one before is done."""

    def __init__(self, jobs: "SimpleQueue[_Waiting | None]") -> None:
        super().__init__(name="guerdon-verifier", daemon=True)
        self._jobs = jobs
        self._sent: deque[Future[int | None]] = deque()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ledger.verifier"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        assert self._process.stdin is not None
        with suppress(OSError, AttributeError):  # with less room the thread waits instead
            fcntl.fcntl(self._process.stdin, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def run(self) -> None:
        """Send jobs and take answers until there are no more."""
        try:
            self._work(self._process)
        except OSError:
            self._give_up()
            while (waiting := self._jobs.get()) is not None:
                self._sent.append(waiting[1])
                self._give_up()
        finally:
            with suppress(OSError):  # which has ended by itself
                self._process.communicate()

    def _work(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        more = True
        while more or self._sent:
            if more and len(self._sent) < _AHEAD:
                with suppress(Empty):
                    waiting = self._jobs.get(block=not self._sent)
                    if waiting is None:
                        more = False
                    else:
                        self._send(process.stdin, *waiting)
                    continue
            self._take_answer(process.stdout)

    def _send(self, to: IO[bytes], job: SignatureJob, future: Future[int | None]) -> None:
        self._sent.append(future)
        frame = _encoder.encode(job)
        to.write(len(frame).to_bytes(4, "big") + frame)
        to.flush()

    def _take_answer(self, source: IO[bytes]) -> None:
        answer = source.read(8)
        if len(answer) != 8:
            raise BrokenPipeError("the process has ended")
        seq = int.from_bytes(answer, "big", signed=True)
        self._sent.popleft().set_result(None if seq == _NONE else seq)

    def _give_up(self) -> None:
        """The process has ended: what it was sent stays unanswered, and so does what it would be sent."""
        while self._sent:
            self._sent.popleft().set_exception(VerifierError())


class SignatureChecks:
    """Has signatures verified in other processes, a job of many at a time; with no processes, at once and here."""

    def __init__(self, processes: int) -> None:
        self.count = 0
        self._job: list[tuple[int, str, str, bytes]] = []
        self._running: deque[Future[int | None]] = deque()
        self._failures: list[int] = []
        self._limit = _JOBS_WAITING * max(processes, 1)
        self._pool = _pool(processes)

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


def _pool(processes: int) -> VerifierPool | None:
    try:
        return VerifierPool(processes) if processes else None
    except OSError:
        return None  # there is no room for another process: slower, here


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
