"""The log as files that any web server can host (C2SP tlog-tiles): what ``/log/`` serves, copied into a folder.

    checkpoint
    tile/0/000   tile/0/001.p/112   tile/1/000.p/1
    tile/entries/000   tile/entries/001.p/112

Every file appears whole or not at all, and the checkpoint last: whoever reads the folder meanwhile sees the log as it
was before. A folder that has a checkpoint is continued from there, and only what is new is read and written; one that
was interrupted, from where it ended. A folder of another history is left as it is. What witnesses have said of the
checkpoint by then stands in it, behind the log's signature.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from msgspec import Struct
from sqlalchemy.engine import Connection

from ledger import log
from ledger.checkpoint import CheckpointError, decode_checkpoint, decode_note
from ledger.cosignatures import is_on, stored_cosignatures
from ledger.merkle import completed_tiles
from ledger.store import Store
from ledger.tiles import Tile, encode_bundle, tile_at, width_at

CHECKPOINT = "checkpoint"

Progress = Callable[[int, int], None]
"""Tiles done, and how many there are to do."""


class ArchiveError(RuntimeError):
    """A folder that cannot be continued; the message says why. Nothing in it was changed."""


class Written(Struct, frozen=True, kw_only=True):
    """What an export did: entries in the archive now and before, and files written."""

    size: int
    old_size: int
    files: int


def write_archive(store: Store, folder: Path, progress: Progress = lambda _done, _total: None) -> Written:
    """Bring the archive in a folder up to the ledger's head; raise :class:`ArchiveError` when it is of another one."""
    with store.read() as connection:
        head = store.head(connection)
        old_size = _archived_size(store, connection, folder, head.size)
        lines = [row.line for row in stored_cosignatures(store, connection) if is_on(row, head.checkpoint)]
    tiles = list(_new_tiles(old_size, head.size))
    files = _Files(folder)
    for done, tile in enumerate(tiles):
        progress(done, len(tiles))
        with store.read() as connection:
            _write_tile(store, connection, files, tile)
    progress(len(tiles), len(tiles))
    files.sync()
    files.write(CHECKPOINT, "".join([head.checkpoint, *lines]).encode())
    files.sync()
    return Written(size=head.size, old_size=old_size, files=files.written)


def _archived_size(store: Store, connection: Connection, folder: Path, size: int) -> int:
    """How many entries a folder's checkpoint commits to, which must be the ledger's first; 0 without one."""
    try:
        note = (folder / CHECKPOINT).read_bytes()
    except FileNotFoundError:
        return 0
    try:
        archived = decode_checkpoint(decode_note(note.decode()).text)
    except (CheckpointError, UnicodeDecodeError) as error:
        raise ArchiveError(f"{folder / CHECKPOINT} is no checkpoint ({error}): choose another folder") from error
    if archived.origin != store.origin:
        raise ArchiveError(f"{folder} is an archive of {archived.origin}, not of {store.origin}: choose another folder")
    if archived.size > size:
        raise ArchiveError(f"{folder} has {archived.size} entries, the ledger only {size}: find out which one is right")
    if archived.root != log.root_at(store, connection, archived.size):
        raise ArchiveError(f"the {archived.size} entries of {folder} are not the ledger's: find out which one is right")
    return archived.size


def _new_tiles(old_size: int, size: int) -> Iterator[Tile]:
    """Tiles of a tree that an older one had not, or not as wide, lowest level first."""
    for level, index in completed_tiles(old_size, size):
        yield Tile(level, index)
    level = 0
    while hashes := size >> (8 * level):
        edge = hashes // 256
        width = width_at(level, edge, size)
        if width and width != width_at(level, edge, old_size):
            yield tile_at(level, edge, size)
        level += 1


def _write_tile(store: Store, connection: Connection, files: "_Files", tile: Tile) -> None:
    """Write a tile of hashes, behind the bundle of its entries: where it stands with these hashes, both are there."""
    name = f"tile/{tile.path()}"
    data = b"".join(log.read_tiles(store, connection, [tile])[tile])
    if files.has(name, data):
        return
    if tile.level == 0:
        files.write(f"tile/{tile.path(entries=True)}", encode_bundle(log.read_bundle(store, connection, tile)))
    files.write(name, data)


class _Files:
    """Files of a folder, each of which is there whole or not at all. ``sync`` puts their names on disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._touched = {folder}
        self.written = 0

    def has(self, name: str, data: bytes) -> bool:
        """Whether a file is there with these contents."""
        try:
            return (self._folder / name).read_bytes() == data
        except FileNotFoundError:
            return False

    def write(self, name: str, data: bytes) -> None:
        """Write a file beside its place and on disk, then move it there."""
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        try:
            with partial.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        self._touched.update(parent for parent in path.parents if parent.is_relative_to(self._folder))
        self.written += 1

    def sync(self) -> None:
        """Make sure that every name written so far outlives a power failure."""
        for folder in self._touched:
            if folder.is_dir():
                descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
        self._touched.clear()
