"""A naive client of a log published as tiles (C2SP tlog-tiles): it shares no code with the ledger.

It needs a way to fetch a resource by its name below the log's prefix, and the log's verifier key; it fetches everything
and recomputes everything. ::

    client = TileClient(lambda name: urlopen(f"{url}/log/{name}").read(), log_key)
    entries = client.check()
"""

import base64
import hashlib
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tests.naive import naive_root, tile_name


class TileClient:
    """A client that believes a log's key, and nothing that does not follow from it."""

    def __init__(self, fetch: Callable[[str], bytes], log_key: str) -> None:
        self.fetch = fetch
        self.origin, key_id, key = log_key.split("+", 2)
        self._key_id = bytes.fromhex(key_id)
        self._key = Ed25519PublicKey.from_public_bytes(base64.b64decode(key)[1:])

    def checkpoint(self) -> tuple[int, bytes]:
        """Size and root of the checkpoint served now, whose signature is checked."""
        return self.read_checkpoint(self.fetch("checkpoint").decode())

    def read_checkpoint(self, note: str) -> tuple[int, bytes]:
        """Size and root of a checkpoint, whose signature is checked."""
        text, _, signatures = note.rpartition("\n\n")
        text += "\n"
        origin, size, root, rest = text.split("\n")
        assert (origin, rest) == (self.origin, "")
        for line in signatures.split("\n"):
            dash, name, blob = line.split(" ")
            data = base64.b64decode(blob)
            if (dash, name, data[:4]) == ("—", self.origin, self._key_id):
                self._key.verify(data[4:], text.encode())
                return int(size), base64.b64decode(root)
        raise AssertionError("the log's key has not signed")

    def hashes(self, level: int, size: int) -> list[bytes]:
        """All hashes of a level in the tree of ``size`` leaves, fetched tile by tile."""
        count = size // 256**level
        found = []
        for index in range(-(-count // 256)):
            width = min(256, count - 256 * index)
            data = self.fetch(tile_name(level, index, width))
            assert len(data) == 32 * width
            found += [data[i : i + 32] for i in range(0, len(data), 32)]
        return found

    def entries(self, size: int) -> list[bytes]:
        """All entries, fetched bundle by bundle."""
        found: list[bytes] = []
        for index in range(-(-size // 256)):
            width = min(256, size - 256 * index)
            data = self.fetch(tile_name("entries", index, width))
            before = len(found)
            while data:
                length = data[0] * 256 + data[1]
                found.append(data[2 : 2 + length])
                assert len(found[-1]) == length
                data = data[2 + length :]
            assert len(found) - before == width
        return found

    def check(self, *, entries: bool = True) -> list[bytes]:
        """Fetch everything, check it from the leaves to the signed root, and give the entries, or the leaf hashes."""
        size, root = self.checkpoint()
        leaves = self.hashes(0, size)
        assert naive_root(leaves) == root
        level = 1
        while size // 256**level:
            run = 256**level
            expected = [naive_root(leaves[i * run : (i + 1) * run]) for i in range(size // run)]
            assert self.hashes(level, size) == expected
            level += 1
        if not entries:
            return leaves
        found = self.entries(size)
        assert [hashlib.sha256(b"\x00" + entry).digest() for entry in found] == leaves
        return found
