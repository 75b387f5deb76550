"""A log as it is published (C2SP tlog-tiles) as the subject of an audit: a server's, or an archive in a folder.

Only its files are read, through a function that fetches one by its name below the log's prefix: ``checkpoint``,
``tile/0/000``, ``tile/entries/000``. What is needed next is fetched while this is replayed.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Unpack

from ledger.archive import CHECKPOINT
from ledger.audit import AuditReport, Failure, Options, Terms, audit, first_leaf, make_failure
from ledger.checkpoint import CheckpointError, decode_checkpoint, decode_note
from ledger.merkle import TILE_WIDTH
from ledger.replay import BrokenEntryError, FullTile, LightReplay, Replayed
from ledger.tiles import Tile, TileError, decode_bundle, decode_tile, width_at

FETCHING_THREADS = 4
BUNDLES_AHEAD = 16
"""Bundles of entries, each with its tile, that are fetched before they are needed: some 3 MiB."""

MAX_CHECKPOINT_BYTES = 65_536


class MissingFileError(Exception):
    """A file the log does not have."""


Fetch = Callable[[str], bytes]
"""Gives a file of the log by its name; :class:`MissingFileError` when there is none, OSError when none can be had.

It is called by several threads at once.
"""


def folder_fetch(folder: Path) -> Fetch:
    """Reads the files of an archive (``guerdon export``)."""

    def fetch(name: str) -> bytes:
        try:
            return (folder / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise MissingFileError(name) from error

    return fetch


class LogError(RuntimeError):
    """Something that is no log at all; the message says what was found where a log was expected."""


def audit_published_log(fetch: Fetch, terms: Terms | None = None, **options: Unpack[Options]) -> AuditReport:
    """Audit a published log; raise :class:`LogError` when there is none."""
    with ThreadPoolExecutor(FETCHING_THREADS, thread_name_prefix="guerdon-fetch") as threads:
        try:
            return audit(_PublishedLog(fetch, threads), terms or Terms(), **options)
        finally:
            threads.shutdown(wait=False, cancel_futures=True)


class _PublishedLog:
    """The files of one checkpoint's tree."""

    checks: tuple[str, ...] = ()

    def __init__(self, fetch: Fetch, threads: ThreadPoolExecutor) -> None:
        self._fetch = fetch
        self._threads = threads
        self._tile_ahead: dict[Tile, Future[bytes]] = {}
        self._tiles_compared = 0
        try:
            data = fetch(CHECKPOINT)
            self._note = data[:MAX_CHECKPOINT_BYTES].decode()
            checkpoint = decode_checkpoint(decode_note(self._note).text)
        except MissingFileError as error:
            raise LogError("there is no log: it has no checkpoint") from error
        except (CheckpointError, UnicodeDecodeError) as error:
            raise LogError(f"there is no log: what is called checkpoint is none ({error})") from error
        self.origin = checkpoint.origin
        self.size = checkpoint.size

    def counted(self) -> dict[str, int]:
        """How many tiles were compared."""
        return {"tiles": self._tiles_compared}

    def checkpoint(self) -> Any:
        """The one that was fetched at the beginning."""
        return self._note

    def witnessed_checkpoint(self, _: Terms) -> Any:
        """The same: a published log shows the cosignatures it has."""
        return self._note

    def chunks(self, first: int) -> Iterator[Iterable[Any]]:
        """The entries from ``first`` on, bundle by bundle."""
        waiting: deque[tuple[Tile, Future[bytes]]] = deque()
        bundles = (self._tile(0, index) for index in range(first // TILE_WIDTH, -(-self.size // TILE_WIDTH)))
        for tile in bundles:
            waiting.append((tile, self._threads.submit(self._fetch, f"tile/{tile.path(entries=True)}")))
            self._tile_ahead[tile] = self._threads.submit(self._fetch, f"tile/{tile.path()}")
            if len(waiting) > BUNDLES_AHEAD:
                yield _entries(*waiting.popleft(), first)
        while waiting:
            yield _entries(*waiting.popleft(), first)

    def _tile(self, level: int, index: int) -> Tile:
        return Tile(level, index, width_at(level, index, self.size))

    def tiles(self, tiles: Sequence[Tile]) -> dict[Tile, list[bytes]]:
        """The hashes of tiles as published."""
        return {tile: self._hashes(tile) for tile in tiles}

    def _hashes(self, tile: Tile) -> list[bytes]:
        try:
            return decode_tile(tile, self._data(tile))
        except MissingFileError as error:
            raise BrokenEntryError("tiles", f"tile/{tile.path()} is not there") from error
        except TileError as error:
            raise BrokenEntryError("tiles", str(error)) from error

    def _data(self, tile: Tile) -> bytes:
        ahead = self._tile_ahead.pop(tile, None)
        return self._fetch(f"tile/{tile.path()}") if ahead is None else ahead.result()

    def compare(self, _: Sequence[Replayed], tiles: Sequence[FullTile]) -> Iterator[Failure]:
        """Compare the tiles that a bundle filled."""
        for tile in tiles:
            yield from self._compare_tile(tile.tile, tile.hashes)

    def compare_end(self, replay: LightReplay, first: int) -> Iterator[Failure]:
        """Compare the tiles that are not full."""
        for tile, hashes in replay.tiles.partial():
            yield from self._compare_tile(tile, hashes)

    def _compare_tile(self, tile: Tile, hashes: bytes) -> Iterator[Failure]:
        self._tiles_compared += 1
        try:
            if self._data(tile) != hashes:
                yield make_failure("tiles", first_leaf(tile), f"tile/{tile.path()} is not that of the entries")
        except MissingFileError:
            yield make_failure("tiles", first_leaf(tile), f"tile/{tile.path()} is missing")


def _entries(tile: Tile, data: Future[bytes], first: int) -> Iterator[bytes]:
    """The entries of a bundle from ``first`` on."""
    name = f"tile/{tile.path(entries=True)}"
    try:
        entries = decode_bundle(tile, data.result())
    except MissingFileError as error:
        raise BrokenEntryError("entries", f"{name} is not there") from error
    except TileError as error:
        raise BrokenEntryError("entries", str(error)) from error
    yield from entries[max(0, first - tile.index * TILE_WIDTH) :]
