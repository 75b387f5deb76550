"""Verifying signatures in other processes: the same answers as here, and no silence when a process is gone."""

import os
import signal
import subprocess
import time
from concurrent.futures import Future
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.keys import encode_public_key, sign
from ledger.verifier import SignatureChecks, SignatureJob, VerifierError, VerifierPool, first_invalid

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
LIMIT_S = 60


def job(first: int, count: int, *invalid: int) -> SignatureJob:
    """Signatures of entries from ``first`` on, of which some are not valid."""
    public = encode_public_key(KEY)
    signed = []
    for seq in range(first, first + count):
        message = b"entry %d" % seq
        signed.append((seq, str(public), sign(KEY, message), message + b"!" * (seq in invalid)))
    return signed


@pytest.mark.parametrize("processes", [0, 1, 3])
def test_first_invalid_signature_is_found_wherever_it_is_verified(processes: int) -> None:
    """Whichever process gets which job, and however many there are."""
    for invalid in ((), (0,), (499,), (250, 249, 400)):
        with SignatureChecks(processes) as checks:
            for signature in job(0, 500, *invalid):
                checks.add(*signature)
            assert checks.first_failure() == min(invalid, default=None)
            assert checks.count == 500


def test_every_job_is_answered_with_its_own_result() -> None:
    """More jobs than wait anywhere, of different lengths, some empty."""
    jobs = [job(100 * i, i % 7, *((100 * i,) if i % 3 == 0 else ())) for i in range(60)]
    with VerifierPool(2) as pool:
        futures = [pool.submit(one) for one in jobs]
        assert [future.result(LIMIT_S) for future in futures] == [first_invalid(one) for one in jobs]


class Processes:
    """The processes that were started, so that a test can end them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int = 100) -> None:
        self.started: list[subprocess.Popen[bytes]] = []
        start = subprocess.Popen

        def popen(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
            if len(self.started) == room:
                raise OSError("no more processes")
            process: subprocess.Popen[bytes] = start(*arguments, **options)
            self.started.append(process)
            return process

        monkeypatch.setattr(subprocess, "Popen", popen)


def test_process_that_is_killed_leaves_no_job_unanswered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is known of its signatures, so they do not count as valid."""
    processes = Processes(monkeypatch)
    with VerifierPool(1) as pool:
        assert pool.submit(job(0, 3)).result(LIMIT_S) is None
        processes.started[0].kill()
        processes.started[0].wait()
        lost: list[Future[int | None]] = [pool.submit(job(i, 300)) for i in range(5)]
        for future in lost:
            with pytest.raises(VerifierError, match="has ended: nothing is known of its signatures"):
                future.result(LIMIT_S)


@pytest.mark.parametrize("room", [0, 1, 2])
def test_signatures_are_verified_with_as_many_processes_as_there_is_room_for(
    monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    """With none at all, here."""
    processes = Processes(monkeypatch, room=room)
    with SignatureChecks(4) as checks:
        for signature in job(0, 700, 650):
            checks.add(*signature)
        assert checks.first_failure() == 650
    assert len(processes.started) == room


def test_pool_ends_with_jobs_that_nobody_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the end no process is left, whatever was still to be done."""
    processes = Processes(monkeypatch)
    with VerifierPool(2) as pool:
        for i in range(40):
            pool.submit(job(i * 50, 50))
    assert [process.poll() for process in processes.started] == [0, 0]


def test_interrupt_of_the_terminal_is_left_to_the_auditor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C reaches every process of the group; what was verified by then is still answered."""
    processes = Processes(monkeypatch)
    with VerifierPool(1) as pool:
        assert pool.submit(job(0, 3)).result(LIMIT_S) is None  # by now it has set itself up
        future = pool.submit(job(0, 500, 400))
        os.kill(processes.started[0].pid, signal.SIGINT)
        assert future.result(LIMIT_S) == 400
        time.sleep(0.05)
        assert pool.submit(job(0, 3, 1)).result(LIMIT_S) == 1
