"""Processes that write to a ledger, for tests that race them or kill them. Imported by the processes themselves."""

import os
import time
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.sequencer import Recorded, Sequencer
from ledger.store import Store, open_engine


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What a writing process is told: where, as whom, and the documents to submit, ``chunk`` at a time.

    It waits for the file ``go``, then appends ``index seq replayed`` or ``index code`` to ``answers`` for each
    document as soon as it is answered.
    """

    url: str
    origin: str
    log_key: bytes
    now_ms: int
    documents: list[bytes]
    chunk: int
    go: str
    answers: str


def write(encoded: bytes) -> None:
    """Do a job. Everything is handed in at once, so that commits follow one another without a pause."""
    job = msgspec.msgpack.decode(encoded, type=Job)
    engine = open_engine(job.url)
    key = Ed25519PrivateKey.from_private_bytes(job.log_key)
    file = os.open(job.answers, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    with Sequencer(Store(engine, job.origin), key, lambda: job.now_ms, max_batch=job.chunk) as sequencer:
        while not Path(job.go).exists():
            time.sleep(0.001)
        futures = []
        for first in range(0, len(job.documents), job.chunk):
            futures.append(sequencer.submit_documents(job.documents[first : first + job.chunk]))
        for number, future in enumerate(futures):
            lines = [
                f"{number * job.chunk + i} {outcome.seq} {int(outcome.replayed)}"
                if isinstance(outcome, Recorded)
                else f"{number * job.chunk + i} {getattr(outcome, 'code', repr(outcome))}"
                for i, outcome in enumerate(future.result())
            ]
            os.write(file, ("\n".join(lines) + "\n").encode())
    os.close(file)
    engine.dispose()
