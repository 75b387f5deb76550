"""Cosignatures as they are stored: what witnesses said of this ledger's checkpoints, and which of these is witnessed.

A witness's line is kept beside the checkpoint that it cosigned, by size. A checkpoint counts as *witnessed* once as
many of the witnesses one trusts have cosigned it as a policy asks for. Witnesses fall behind and catch up, each by
itself, so what is kept is little: the newest witnessed checkpoint, the one they are being asked about, and the last
line of each witness.

Nothing here verifies: a line is verified before it is stored, and by whoever reads it. Asking witnesses is left to
:mod:`api.witnessing`.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.engine import Connection

from ledger.checkpoint import WitnessKey, WitnessPolicy, decode_checkpoint, decode_note
from ledger.store import (
    Store,
    WriteTransaction,
)
from ledger.tables import (
    COSIGNATURE,
)


class StoredCosignature(Struct, frozen=True, kw_only=True):
    """A witness's line on a checkpoint of ``size`` entries.

    ``timestamp_s`` is when it was made, in seconds since 1970, by the witness's clock. ``line`` ends with its newline;
    ``checkpoint`` is the log's note without such lines.
    """

    size: int
    witness: str
    timestamp_s: int
    line: str
    checkpoint: str


WitnessName = tuple[str, bytes]
"""Name and key id, by which a line says whose it is."""


class CosignedCheckpoint(Struct, frozen=True, kw_only=True):
    """A checkpoint and the cosignatures on it that are known, whose lines stand in ``note`` behind the log's."""

    size: int
    root: bytes
    note: str
    cosignatures: tuple[StoredCosignature, ...]


class Cosignatures:
    """What the witnesses of a policy said, as far as it is stored. Others' lines are left out, whatever their name."""

    def __init__(self, policy: WitnessPolicy, rows: Sequence[StoredCosignature]) -> None:
        self.policy = policy
        self._newest: dict[WitnessName, StoredCosignature] = {}
        self._by_text: dict[str, list[StoredCosignature]] = {}
        by_witness: dict[WitnessName, list[tuple[str, StoredCosignature]]] = {}
        for row in rows:
            note = decode_note(row.checkpoint + row.line)
            witness = (note.signatures[-1].name, note.signatures[-1].key_id)
            by_witness.setdefault(witness, []).append((note.text, row))
        # In the policy's order: whoever is served a checkpoint twice gets the same lines in the same places.
        for key in policy.witnesses:
            witness = (key.name, key.key_id)
            for text, row in by_witness.get(witness, ()):
                self._by_text.setdefault(text, []).append(row)
                if witness not in self._newest or self._newest[witness].size < row.size:
                    self._newest[witness] = row

    def on(self, note: str) -> CosignedCheckpoint:
        """A checkpoint of the log, with the lines that its witnesses put to the same text, whichever log key signed."""
        text = decode_note(note).text
        checkpoint, said = decode_checkpoint(text), self._by_text.get(text, [])
        lines = "".join(row.line for row in said)
        return CosignedCheckpoint(
            size=checkpoint.size, root=checkpoint.root, note=note + lines, cosignatures=tuple(said)
        )

    def is_witnessed(self, note: str) -> bool:
        """Whether as many witnesses have cosigned a checkpoint as the policy asks for."""
        return len(self._by_text.get(decode_note(note).text, [])) >= self.policy.threshold

    def witnessed(self) -> CosignedCheckpoint | None:
        """The newest checkpoint that counts as witnessed; ``None`` while there is none, and without witnesses."""
        enough = [said[0] for said in self._by_text.values() if len(said) >= self.policy.threshold]
        newest = max(enough, key=lambda row: row.size, default=None)
        return self.on(newest.checkpoint) if newest is not None else None

    def newest(self, witness: WitnessKey) -> StoredCosignature | None:
        """A witness's last word."""
        return self._newest.get((witness.name, witness.key_id))


def is_on(row: StoredCosignature, note: str) -> bool:
    """Whether a line is on this checkpoint, whichever log keys signed it: witnesses put theirs to the text alone."""
    return decode_note(row.checkpoint).text == decode_note(note).text


def stored_cosignatures(store: Store, connection: Connection) -> list[StoredCosignature]:
    """All that is stored, of whichever witness: the largest checkpoint first, then by the witness's name."""
    columns = [COSIGNATURE.c[name] for name in StoredCosignature.__struct_fields__]
    query = (
        sa.select(*columns)
        .where(COSIGNATURE.c.ledger_id == store.ledger_id)
        .order_by(COSIGNATURE.c.size.desc(), COSIGNATURE.c.witness)
    )
    return [StoredCosignature(**row._mapping) for row in connection.execute(query)]


def read_cosignatures(store: Store, connection: Connection, policy: WitnessPolicy) -> Cosignatures:
    """What a policy's witnesses said; a policy without any costs no statement."""
    return Cosignatures(policy, stored_cosignatures(store, connection) if policy.witnesses else [])


def keep_cosignature(transaction: WriteTransaction, cosignature: StoredCosignature) -> None:
    """Store a line, in place of an earlier one of the same witness on the same checkpoint."""
    names = [*StoredCosignature.__struct_fields__]
    values = {name: getattr(cosignature, name) for name in names}
    statement = (
        f"INSERT INTO cosignature (ledger_id, {', '.join(names)}) "  # noqa: S608 - names of our own columns
        f"VALUES (:ledger_id, {', '.join(f':{name}' for name in names)}) "
        "ON CONFLICT (ledger_id, size, witness) DO UPDATE SET "
        "timestamp_s = excluded.timestamp_s, line = excluded.line, checkpoint = excluded.checkpoint"
    )
    transaction.connection.execute(sa.text(statement), {"ledger_id": transaction.store.ledger_id, **values})


def forget_cosignatures(transaction: WriteTransaction, *, but: Sequence[int]) -> None:
    """Delete what is neither on a checkpoint of these sizes nor the last line of its witness."""
    later = COSIGNATURE.alias("later")
    has_later = sa.exists().where(
        later.c.ledger_id == COSIGNATURE.c.ledger_id,
        later.c.witness == COSIGNATURE.c.witness,
        later.c.size > COSIGNATURE.c.size,
    )
    transaction.connection.execute(
        sa.delete(COSIGNATURE).where(
            COSIGNATURE.c.ledger_id == transaction.store.ledger_id, COSIGNATURE.c.size.not_in(list(but)), has_later
        )
    )
