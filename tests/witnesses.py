"""A witness in a test: a naive log to be witnessed, the real application over HTTP, and processes to race and kill.

The log and its client share no code with the ledger: trees, proofs, notes and requests are put together by the text of
RFC 6962 and of the C2SP specifications.
"""

import base64
import hashlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import uvicorn
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from starlette.applications import Starlette

from api.settings import WitnessAddress
from api.witness import create_witness_app
from ledger.checkpoint import WitnessKey, decode_verifier_key, decode_witness_key
from ledger.witness import Answer, Cosigned, Witness, WitnessState, decode_request

ROOT = Path(__file__).parent.parent
ORIGIN = "ledger.example/watched"
NAME = "witness.example/w1"
LOG_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
WITNESS_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(100, 132)))
NOW_S = 1_795_000_000
LIMIT_S = 60


def key_id(name: str, algorithm: int, key: Ed25519PublicKey) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + bytes([algorithm]) + key.public_bytes_raw()).digest()[:4]


def verifier_key(name: str, algorithm: int, key: Ed25519PublicKey) -> str:
    """A verifier key, put together by hand."""
    blob = base64.b64encode(bytes([algorithm]) + key.public_bytes_raw()).decode()
    return f"{name}+{key_id(name, algorithm, key).hex()}+{blob}"


LOG_VKEY = verifier_key(ORIGIN, 0x01, LOG_KEY.public_key())


def tree_hash(leaves: Sequence[bytes]) -> bytes:
    """MTH(D[n]) of RFC 6962 section 2.1."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = _split(len(leaves))
    return hashlib.sha256(b"\x01" + tree_hash(leaves[:k]) + tree_hash(leaves[k:])).digest()


def consistency_proof(old: int, leaves: Sequence[bytes]) -> list[bytes]:
    """PROOF(m, D[n]) of RFC 6962 section 2.1.2, and nothing for the empty tree."""
    return _subproof(old, leaves, True) if old else []


def _subproof(m: int, leaves: Sequence[bytes], known: bool) -> list[bytes]:
    if m == len(leaves):
        return [] if known else [tree_hash(leaves)]
    k = _split(len(leaves))
    if m <= k:
        return [*_subproof(m, leaves[:k], known), tree_hash(leaves[k:])]
    return [*_subproof(m - k, leaves[k:], False), tree_hash(leaves[:k])]


def _split(n: int) -> int:
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def sign_note(text: str, name: str = ORIGIN, key: Ed25519PrivateKey = LOG_KEY) -> str:
    """A note with one signature."""
    blob = key_id(name, 0x01, key.public_key()) + key.sign(text.encode())
    return f"{text}\n— {name} {base64.b64encode(blob).decode()}\n"


def checkpoint_text(size: int, root: bytes, origin: str = ORIGIN) -> str:
    return f"{origin}\n{size}\n{base64.b64encode(root).decode()}\n"


def entries(size: int, history: str = "") -> list[bytes]:
    """The first entries of a log; another ``history`` has other entries from the third on."""
    return [f"entry {i} {history if i >= 2 else ''}".encode() for i in range(size)]


def note_of(leaves: Sequence[bytes]) -> str:
    """The log's checkpoint of its entries."""
    return sign_note(checkpoint_text(len(leaves), tree_hash(leaves)))


def request(old: int | str, proof: Sequence[bytes], note: str) -> bytes:
    """A request's body."""
    lines = [f"old {old}\n", *(base64.b64encode(node).decode() + "\n" for node in proof)]
    return ("".join(lines) + "\n" + note).encode()


def growth(old: int, size: int, history: str = "") -> bytes:
    """An honest request: from ``old`` entries of a history to ``size`` of them."""
    leaves = entries(size, history)
    return request(old, consistency_proof(old, leaves), note_of(leaves))


class Reply(NamedTuple):
    """What came back."""

    status: int
    type: str
    body: str


class Client:
    """HTTP to one witness."""

    def __init__(self, port: int, prefix: str = "") -> None:
        self.port = port
        self._path = f"{prefix}/add-checkpoint"
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=LIMIT_S, trust_env=False)

    def close(self) -> None:
        self._http.close()

    def send(self, body: bytes | Iterator[bytes], method: str = "POST", path: str | None = None) -> Reply:
        answer = self._http.request(method, path or self._path, content=body)
        return Reply(answer.status_code, answer.headers.get("content-type", ""), answer.text)

    def cosigned(self, body: bytes) -> int:
        """Send what must be cosigned; the time the cosignature states."""
        reply = self.send(body)
        assert (reply.status, reply.type) == (200, "text/plain; charset=utf-8"), reply
        return check_cosignature(reply.body, body)


def check_cosignature(line: str, body: bytes) -> int:
    """That a line is this witness's cosignature of the checkpoint in a request, by the specification; its time."""
    assert line.startswith(f"— {NAME} ")
    assert line.endswith("\n")
    blob = base64.b64decode(line.removesuffix("\n").split(" ")[2], validate=True)
    assert len(blob) == 4 + 8 + 64
    assert blob[:4] == key_id(NAME, 0x04, WITNESS_KEY.public_key())
    timestamp = int.from_bytes(blob[4:12], "big")
    text = body.decode().split("\n\n")[1] + "\n"
    message = f"cosignature/v1\ntime {timestamp}\n{text}"
    WITNESS_KEY.public_key().verify(blob[12:], message.encode())
    return timestamp


def make_witness(state: WitnessState, *, logs: Sequence[str] = (LOG_VKEY,), now_s: int = NOW_S) -> Witness:
    return Witness(NAME, WITNESS_KEY, [decode_verifier_key(log) for log in logs], state, lambda: now_s * 1000 + 999)


@contextmanager
def running_app(app: Starlette, port: int = 0) -> Iterator[int]:
    """An application behind uvicorn, on a port of its own."""
    listener = socket.create_server(("127.0.0.1", port))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@contextmanager
def served(witness: Witness, prefix: str = "") -> Iterator[Client]:
    """A witness's real application over HTTP."""
    with running_app(create_witness_app(witness, prefix)) as port, closing(Client(port, prefix)) as client:
        yield client


def until(condition: Callable[[], object]) -> None:
    """Wait for what must become true."""
    give_up_at = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < give_up_at
        time.sleep(0.01)


class WatchedWitness(Witness):
    """A witness that remembers the sizes it was asked about, answers as a test wants, and waits until it may."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.asked: list[int] = []
        self.answer: Answer | None = None
        self.may_answer = threading.Event()
        self.may_answer.set()

    def add_checkpoint(self, body: bytes) -> Answer:
        self.asked.append(decode_request(body).checkpoint.size)
        self.may_answer.wait(LIMIT_S)
        return self.answer or super().add_checkpoint(body)


class Watcher:
    """A witness of its own name and key that can be stopped, and started again on the same port.

    ::

        with Watcher(tmp_path, 1, log_key) as watcher:
            settings = {"witnesses": (watcher.address,), "witness_quorum": 1}
    """

    def __init__(self, folder: Path, number: int, *logs: str) -> None:
        self.name = f"witness.example/w{number}"
        self.private = Ed25519PrivateKey.from_private_bytes(bytes([100 + number]) * 32)
        self.vkey = verifier_key(self.name, 0x04, self.private.public_key())
        self.state = WitnessState(folder / f"watcher-{number}.sqlite")
        keys = [decode_verifier_key(log) for log in logs]
        self.witness = WatchedWitness(self.name, self.private, keys, self.state, lambda: NOW_S * 1000)
        self._port = 0
        self._running = ExitStack()

    def __enter__(self) -> "Watcher":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.witness.may_answer.set()
        self.stop()
        self.state.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def key(self) -> WitnessKey:
        return decode_witness_key(self.vkey)

    @property
    def address(self) -> WitnessAddress:
        return WitnessAddress(key=self.key, url=self.url)

    @property
    def asked(self) -> list[int]:
        """The sizes it was asked about."""
        return self.witness.asked

    def start(self) -> None:
        self._port = self._running.enter_context(running_app(create_witness_app(self.witness), self._port))

    def stop(self) -> None:
        self._running.close()


class HeldState(WitnessState):
    """A state that stops where a race is decided, so that a test decides it.

    With ``readers``, the first requests wait after reading the state until so many processes have read it. With
    ``stored``, it makes that file once the new state is on disk, and never answers.
    """

    def __init__(self, path: Path, *, readers: int = 0, stored: Path | None = None) -> None:
        super().__init__(path)
        self._path = path
        self._readers = readers
        self._stored = stored

    def last(self, origin: str) -> Cosigned:
        found = super().last(origin)
        self._path.with_name(f"read-{os.getpid()}").touch()
        give_up_at = time.monotonic() + LIMIT_S
        while len(list(self._path.parent.glob("read-*"))) < self._readers and time.monotonic() < give_up_at:
            time.sleep(0.002)
        return found

    def swap(self, origin: str, last: Cosigned, new: Cosigned) -> bool:
        swapped = super().swap(origin, last, new)
        if self._stored is not None:
            self._stored.touch()
            time.sleep(10 * LIMIT_S)
        return swapped


def serve_held(state: str, readers: str, stored: str) -> None:
    """The program of a process of :func:`held_process`."""
    held = HeldState(Path(state), readers=int(readers), stored=Path(stored) if stored else None)
    with served(make_witness(held)) as client:
        print(client.port, flush=True)
        time.sleep(10 * LIMIT_S)


@contextmanager
def held_process(state: Path, *, readers: int = 0, stored: Path | None = None) -> Iterator[tuple[Client, Any]]:
    """A witness in a process of its own, on a :class:`HeldState`; killed at the end."""
    program = "import sys; from tests.witnesses import serve_held; serve_held(*sys.argv[1:])"
    call = [sys.executable, "-c", program, str(state), str(readers), str(stored or "")]
    process = subprocess.Popen(call, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        with closing(Client(int(process.stdout.readline()))) as client:
            yield client, process
    finally:
        process.kill()
        process.communicate()
