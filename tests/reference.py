"""A naive second opinion on a stored ledger: RFC 6962 by its text, tiles by their definition, and a full replay.

Hashing, trees and canonical JSON here share no code with the ledger. Only the replay uses the ledger's rules, on a
state that starts empty, to compare what the database holds with what its entries say.
"""

import base64
import hashlib
import json
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ledger.checkpoint import decode_verifier_key, verify_checkpoint
from ledger.entries import decode_entry, signed_operation_of
from ledger.rules import admit, apply
from ledger.state import Admission, State
from ledger.store import Store
from tests.naive import canonical, naive_root, naive_tiles

FOREVER = "9999-12-31"


def rows(connection: Connection, store: Store, table: str, columns: str, order: str) -> list[tuple[Any, ...]]:
    """Rows of one ledger, with plain bytes."""
    query = sa.text(f"SELECT {columns} FROM {table} WHERE ledger_id = :id ORDER BY {order}")
    found = connection.execute(query, {"id": store.ledger_id})
    return [tuple(bytes(v) if isinstance(v, memoryview) else v for v in row) for row in found]


def check_record(store: Store, tile_width: int = 256) -> list[dict[str, Any]]:
    """Check entries, postings, tiles and head against each other, by their definitions; return the entries, read."""
    with store.read() as connection:
        stored = rows(connection, store, "entry", "seq, leaf_hash, op_id, kind, actor, time, data", "seq")
        postings = rows(connection, store, "posting", "seq, leg, account, asset, lot, amount", "seq, leg")
        tiles = rows(connection, store, "tile", 'level, "index", hashes, root', 'level, "index"')
        head = store.head(connection)
    entries, leaves, expected_postings = [], [], []
    prev, time = bytes(32), ""
    for i, (seq, leaf, op_id, kind, actor, recorded_at, data) in enumerate(stored):
        entry = json.loads(data)
        assert canonical(entry) == data
        assert seq == entry["seq"] == i
        assert entry["prev"] == prev.hex()
        assert leaf == hashlib.sha256(b"\x00" + data).digest()
        assert op_id == hashlib.sha256(canonical(entry["op"])).digest()
        assert (kind, actor) == (entry["op"]["kind"], entry["op"].get("actor"))
        assert recorded_at == entry["time"]
        assert recorded_at >= time
        prev, time = leaf, recorded_at
        entries.append(entry)
        leaves.append(leaf)
        for leg, p in enumerate(entry["postings"]):
            expected_postings.append((i, leg, p["account"], p["asset"], p.get("lot", FOREVER), p["amount"]))
    assert len({row[2] for row in stored}) == len(stored)
    assert postings == expected_postings
    assert {(level, index): (hashes, root) for level, index, hashes, root in tiles} == naive_tiles(leaves, tile_width)
    assert (head.size, head.last_leaf_hash, head.last_time) == (len(entries), prev, time)
    check_checkpoint(head.checkpoint, entries, leaves, store.origin)
    return entries


def check_checkpoint(note: str, entries: list[dict[str, Any]], leaves: list[bytes], origin: str) -> None:
    """A checkpoint must state the size and naive root of exactly these leaves, and be signed with the last log key."""
    root = base64.b64encode(naive_root(leaves)).decode()
    assert note.split("\n")[:3] == [origin, str(len(leaves)), root]
    log_keys = [entry["op"]["log_key"] for entry in entries if entry["op"]["kind"] in {"genesis", "replace_log_key"}]
    verify_checkpoint(note, decode_verifier_key(log_keys[-1]), origin)


def check_projections(store: Store) -> State:
    """Replay all entries on an empty state: the postings and every projection must come out as they are stored."""
    with store.read() as connection:
        stored = {
            "account": rows(
                connection,
                store,
                "account",
                "account, role, keys, threshold, custodian, name, opened_at, seq, keys_seq, "
                "recovery_keys, recovery_threshold, recovery_at, recovery_seq, "
                "approval_threshold, recovery_approval_threshold, frozen_seq, frozen_reason",
                "seq, account",
            ),
            "asset": rows(
                connection,
                store,
                "asset",
                "asset, issuer, name, scale, supply_cap, transferable, value_points, value_amount, value_currency, "
                "seq, transfer_terms",
                "asset",
            ),
            "program": rows(
                connection, store, "program", "asset, version, starts, ends, document, seq", "asset, version"
            ),
            "log_key": rows(connection, store, "log_key", "seq, log_key", "seq"),
            "lot": rows(connection, store, "lot", "account, asset, last_day, points", "account, asset, last_day"),
            "earning": rows(
                connection,
                store,
                "earning",
                "merchant, scope, reference, seq, asset, account, earned_on, amount, points, "
                "version, agreement_version, claim_amount, circumstances, score",
                "merchant, scope, reference",
            ),
            "reference": rows(
                connection, store, "reference", "merchant, scope, reference, seq", "merchant, scope, reference"
            ),
            "party": rows(connection, store, "party", "account, seq", "account, seq"),
        }
        for name, (table, columns, key) in RECORDS.items():
            stored[name] = rows(connection, store, table, f"{key}, {columns}", key)
        data = [row[0] for row in rows(connection, store, "entry", "data", "seq")]
    state = State(store.origin)
    earnings, references, parties = [], [], []
    for seq, entry_bytes in enumerate(data):
        entry = decode_entry(entry_bytes)
        signed = signed_operation_of(entry)
        decision = admit(state, signed, entry.time)
        assert isinstance(decision, Admission), decision
        assert decision.postings == entry.postings
        apply(state, signed, decision, seq)
        for e in decision.earnings:
            asset = getattr(entry.op, "asset", None)
            event = (e.merchant, e.scope, e.reference, seq, asset, e.account, e.earned_on, e.amount, e.points)
            given = (e.version, e.agreement_version, e.claim_amount, plain(e.circumstances), e.score)
            earnings.append((*event, *given))
        references += [(*reference, seq) for reference in decision.references]
        parties += [(account, seq) for account in decision.parties]
    assert state.size == len(data)
    programs = {seq: canonical(json.loads(data[seq])["op"]["program"]).decode() for seq in program_seqs(state)}
    expected = rows_of_state(state, programs)
    expected["earning"] = sorted(earnings, key=lambda row: (row[0].encode(), row[1].encode(), row[2].encode()))
    expected["reference"] = sorted(references)
    expected["party"] = sorted(parties)
    for name, (_, columns, key) in RECORDS.items():
        fields = f"{key}, {columns}".replace('"', "").split(", ")
        records = getattr(state, name)
        expected[name] = sorted(
            (tuple(plain(getattr(record, field)) for field in fields) for record in records),
            key=lambda row: row[: key.count(",") + 1],
        )
    for table, expected_rows in expected.items():
        assert stored[table] == expected_rows, table
    return state


# Where each kind of records is kept: the table, its columns, and those that are its key.
RECORDS: dict[str, tuple[str, str, str]] = {
    "agreements": ("agreement", "issuer, partner, starts, ends, notice_days, terms, seq", "agreement, version"),
    "holds": (
        "hold",
        "account, asset, merchant, amount, captured, parts, agreement, version, until, reference, seq, status",
        "hold",
    ),
    "spendings": (
        "spending",
        (
            "seq, kind, time, account, asset, amount, merchant, agreement, version, parts, "
            "out_points, claim_amount, fee_amount, refunded, holders, reward, vouchers"
        ),
        "operation",
    ),
    "purchase_refunds": ("purchase_refund", "amount, points, returned, lines", "merchant, reference"),
    "claims": ("claim", "debtor, creditor, currency, amount, day, agreement, status, disputed_by", 'seq, "index"'),
    "obligations": ("obligation", "amount", "currency, debtor, creditor, netting, day"),
    "nettings": ("netting", "currency, through, merchants", "seq"),
    "allotments": ("allotment", "allotted, remaining", "agreement"),
    "allotment_alerts": ("allotment_alert", "remaining", "agreement, seq"),
    "usages": ("usage", "points", "scope, account, period"),
    "memberships": (
        "membership",
        "joined_on, purchases, formula, invited_by, tier, tier_until, plan, plan_from, plan_until, pool",
        "asset, account",
    ),
    "progress": ("progress", "count", "asset, account, basis, period"),
    "pending": (
        "pending",
        "asset, account, points, vests_on, last_day, version, status_points, inviter, inviter_points",
        'merchant, "order"',
    ),
    "vouchers": (
        "voucher",
        "account, asset, merchant, reward, price, worth, last_day, status, used_seq",
        'seq, "index"',
    ),
    "pools": ("pool", "asset, members", "pool"),
    "reminders": ("reminder", "asset, about, points, day, tier", "seq, account"),
    "reminded": ("reminded", "through", "asset, account, about"),
}


def plain(value: Any) -> Any:
    """A field of a record as it is stored: what is no scalar as canonical JSON."""
    if value is None or isinstance(value, str | int):
        return value
    return canonical(msgspec.to_builtins(value)).decode()


def program_seqs(state: State) -> list[int]:
    """Entries that published a program."""
    return [version.seq for versions in state.programs.values() for version in versions]


def rows_of_state(state: State, programs: dict[int, str]) -> dict[str, list[tuple[Any, ...]]]:
    """What the projections must hold for a replayed state, in the order :func:`check_projections` reads them."""
    accounts = sorted(state.accounts.values(), key=lambda a: (a.seq, a.id))
    assets = [state.assets[code] for code in sorted(state.assets)]
    versions = [version for code in sorted(state.programs) for version in state.programs[code]]
    return {
        "account": [
            (
                a.id,
                a.role,
                json.dumps(a.keys, separators=(",", ":")),
                a.threshold,
                a.custodian,
                a.name,
                a.opened_at,
                a.seq,
                a.keys_seq,
            )
            + (
                (
                    json.dumps(a.recovery.keys, separators=(",", ":")),
                    a.recovery.threshold,
                    a.recovery.effective_at,
                    a.recovery.seq,
                )
                if a.recovery
                else (None, None, None, None)
            )
            + (a.approval_threshold, a.recovery.approval_threshold if a.recovery else None)
            + (a.frozen_seq, a.frozen_reason)
            for a in accounts
        ],
        "asset": [
            (a.code, a.issuer, a.name, a.scale, a.supply_cap, a.transferable)
            + ((a.value.points, a.value.amount, a.value.currency) if a.value else (None, None, None))
            + (a.seq, None if a.transfer_terms is None else plain(a.transfer_terms))
            for a in assets
        ],
        "log_key": list(state.log_keys),
        "program": [(v.asset, v.version, v.starts, v.ends, programs[v.seq], v.seq) for v in versions],
        "lot": sorted(
            (account, asset, day, points)
            for (account, asset), lots in state.lots.items()
            for day, points in lots.items()
        ),
    }
