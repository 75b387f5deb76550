"""Archives: a folder of files is the log, whole at every moment, and grows by what is new alone."""

import functools
import http.server
import json
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger import archive, log
from ledger.archive import ArchiveError, write_archive
from ledger.checkpoint import (
    WitnessPolicy,
    cosign_checkpoint,
    decode_verifier_key,
    decode_witness_key,
    encode_witness_key,
    verify_witnessed,
)
from ledger.cosignatures import StoredCosignature, keep_cosignature
from ledger.store import Store
from tests.naive import tile_name
from tests.test_feed import log_key
from tests.tile_client import TileClient
from tests.worlds import World


def client_of(world: World, folder: Path) -> TileClient:
    """A tile client that reads files."""
    return TileClient(lambda name: (folder / name).read_bytes(), log_key(world))


def files_of(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file below a folder: its contents, and when they were written."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file():
            found[str(path.relative_to(folder))] = (path.read_bytes(), path.stat().st_mtime_ns)
    return found


@pytest.fixture
def small(tmp_path: Path) -> Iterator[World]:
    """A ledger of a few entries on SQLite."""
    with World(f"sqlite:///{tmp_path / 'small.sqlite'}") as world:
        world.add_members(3)
        yield world


def test_archive_is_a_log_that_a_naive_client_rebuilds(world: World, tmp_path: Path) -> None:
    """At each step of its growth, through full tiles of two levels; each time only what is new is written."""
    folder = tmp_path / "site" / "log"
    client = client_of(world, folder)
    before: dict[str, tuple[bytes, int]] = {}
    for more in (1, 254, 1, 1, 300):
        world.add_members(more)
        done = write_archive(world.store, folder)
        entries = client.check()
        assert [json.loads(entry)["seq"] for entry in entries] == list(range(done.size))
        after = files_of(folder)
        changed = {name for name in after if after[name] != before.get(name)}
        assert done.files == len(changed)
        assert {name for name in changed if name in before} <= {"checkpoint"}
        assert set(before) <= set(after)
        before = after
    again = write_archive(world.store, folder)
    assert (again.size, again.old_size, again.files) == (558, 558, 1)
    assert not [name for name in before if "partial" in name]


def test_archive_can_be_hosted_by_any_web_server(small: World, tmp_path: Path) -> None:
    """Python's own, which knows nothing of logs."""
    folder = tmp_path / "site"
    write_archive(small.store, folder / "log")
    with hosting(folder) as url:

        def fetch(name: str) -> bytes:
            with urllib.request.urlopen(f"{url}/log/{name}", timeout=30) as response:  # noqa: S310 - our own server
                return bytes(response.read())

        assert len(TileClient(fetch, log_key(small)).check()) == 4


@contextmanager
def hosting(folder: Path) -> Iterator[str]:
    """A web server of a folder, until the block ends."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join(30)


def test_what_witnesses_said_stands_in_the_archive(world: World, tmp_path: Path) -> None:
    """Lines on the checkpoint that is exported; on another one, they would be on another text."""
    folder = tmp_path / "log"
    keys = [Ed25519PrivateKey.from_private_bytes(bytes([50 + i]) * 32) for i in range(2)]
    names = ["witness.example/b", "witness.example/a"]
    world.add_members(3)
    with world.store.write() as transaction:
        note = world.store.head(transaction.connection).checkpoint
        for key, name in zip(keys, names, strict=True):
            line = cosign_checkpoint(note, key, name, 1_795_000_000)
            said = StoredCosignature(size=4, witness=name, timestamp_s=1_795_000_000, line=line, checkpoint=note)
            keep_cosignature(transaction, said)
    write_archive(world.store, folder)
    exported = (folder / "checkpoint").read_text()
    witnesses = tuple(decode_witness_key(encode_witness_key(n, k)) for n, k in zip(names, keys, strict=True))
    policy = WitnessPolicy(log_keys=(decode_verifier_key(log_key(world)),), witnesses=witnesses, threshold=2)
    found = verify_witnessed(exported, policy, world.origin)
    assert [cosignature.witness for cosignature in found.cosignatures] == sorted(names)
    assert len(client_of(world, folder).check()) == 4
    world.add_members(1)
    assert write_archive(world.store, folder).old_size == 4
    exported = (folder / "checkpoint").read_text()
    assert verify_witnessed(exported, WitnessPolicy(log_keys=policy.log_keys), world.origin).checkpoint.size == 5
    assert exported.count("\n— ") == 1


def test_continuing_does_not_read_what_is_there(small: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with a checkpoint goes on from it: full tiles below it are neither read nor written."""
    folder = tmp_path / "log"
    small.add_members(700)
    write_archive(small.store, folder)
    small.add_members(100)
    read: list[str] = []
    read_bundle = log.read_bundle

    def watched(store: Store, connection: object, tile: object) -> list[bytes]:
        read.append(tile.path(entries=True))  # type: ignore[attr-defined]
        return read_bundle(store, connection, tile)  # type: ignore[arg-type]

    monkeypatch.setattr(log, "read_bundle", watched)
    done = write_archive(small.store, folder)
    assert (done.old_size, done.size) == (704, 804)
    assert read == ["entries/002", "entries/003.p/36"]
    client_of(small, folder).check()


@pytest.mark.parametrize("failing", range(1, 12))
def test_interrupted_export_leaves_the_log_as_it_was(
    failing: int, small: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever file it stops at, readers see the old log whole; run again, it goes on."""
    folder = tmp_path / "log"
    write_archive(small.store, folder)
    old = client_of(small, folder).check()
    small.add_members(600)
    count = 0
    write = archive._Files.write

    def stop(self: archive._Files, name: str, data: bytes) -> None:
        nonlocal count
        count += 1
        if count == failing:
            raise OSError("no space left on device")
        write(self, name, data)

    with monkeypatch.context() as patch:
        patch.setattr(archive._Files, "write", stop)
        try:
            write_archive(small.store, folder)
        except OSError:
            assert client_of(small, folder).check() == old
            interrupted = True
        else:
            interrupted = False
    assert interrupted == (failing <= 8)  # 3 tiles with their bundles, one of level 1, the checkpoint
    again = write_archive(small.store, folder)
    assert len(client_of(small, folder).check()) == again.size == 604
    if interrupted:
        # Of what was written, at most the bundle of a tile that was not is written once more.
        assert again.files <= 8 - (failing - 1) + 1


def test_first_export_that_was_interrupted_goes_on(small: World, tmp_path: Path) -> None:
    """Without a checkpoint, a tile that stands there with the ledger's hashes is not written again."""
    folder = tmp_path / "log"
    small.add_members(600)
    write_archive(small.store, folder)
    (folder / "checkpoint").unlink()
    (folder / tile_name(0, 1)).unlink()
    (folder / tile_name(0, 0)).write_bytes(bytes(8192))
    done = write_archive(small.store, folder)
    assert (done.old_size, done.files) == (0, 5)  # two tiles with their bundles, and the checkpoint
    client_of(small, folder).check()


def test_folder_of_another_history_is_left_as_it_is(small: World, tmp_path: Path) -> None:
    """Another ledger's archive, a fork of this one, one that is ahead, and what is no archive."""
    with (
        World(f"sqlite:///{tmp_path / 'other.sqlite'}", origin="ledger.example/other") as other,
        World(f"sqlite:///{tmp_path / 'fork.sqlite'}", seed=1) as fork,
        World(f"sqlite:///{tmp_path / 'ahead.sqlite'}") as ahead,
    ):
        ahead.add_members(9)
        for world, reason in (
            (other, "archive of ledger.example/other"),
            (fork, "not the ledger's"),
            (ahead, "the ledger only 4"),
        ):
            folder = tmp_path / f"archive of {reason}"
            write_archive(world.store, folder)
            before = files_of(folder)
            with pytest.raises(ArchiveError, match=reason):
                write_archive(small.store, folder)
            assert files_of(folder) == before
    folder = tmp_path / "no archive"
    folder.mkdir()
    for contents in (b"", b"hello\n", b"\xff", b"a\n1\nx\n\n\xe2\x80\x94 a AAAAAAA=\n"):
        (folder / "checkpoint").write_bytes(contents)
        with pytest.raises(ArchiveError, match="is no checkpoint"):
            write_archive(small.store, folder)
        assert set(files_of(folder)) == {"checkpoint"}


def test_progress_is_told(small: World, tmp_path: Path) -> None:
    """From nothing to all tiles."""
    seen: list[tuple[int, int]] = []
    write_archive(small.store, tmp_path / "log", lambda done, total: seen.append((done, total)))
    assert seen == [(0, 1), (1, 1)]
