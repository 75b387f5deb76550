"""The auditor: passes a sound ledger, and finds every edit made behind the ledger's back at the entry it concerns."""

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import sql
from sqlalchemy import make_url

from ledger import audit, movements
from ledger import audit_database as database_audit
from ledger.audit import CHECKS, AuditReport
from ledger.audit_database import audit_database
from ledger.audit_state import AuditState
from ledger.checkpoint import Checkpoint, encode_verifier_key, sign_checkpoint
from ledger.entries import NO_LAST_DAY
from ledger.operations import KINDS, Redeem
from ledger.store import Store, StoreError, open_engine
from ledger.tables import METADATA, RECORD_TABLES
from tests.naive import canonical, naive_root
from tests.partners import trade
from tests.postgres import connect
from tests.tampering import SEED, Copy, Insider, Sound, copy_sqlite, signature
from tests.worlds import ORIGIN, World, pay

NOT_THE_LEDGERS = {"cosignature", "webhook", "webhook_delivery"}
NOT_THE_LEDGERS |= {"identifier", "profile", "profile_erasure", "profile_key"}
"""Tables of what others said, and of the service."""

PROJECTIONS = ("account", "asset", "program", "lot", "log_key", *(kept.table.name for kept in RECORD_TABLES.values()))

GARBAGE = b"\xff\x00{" * 11


@pytest.fixture(scope="module")
def sound_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Sound:
    return Sound(f"sqlite:///{tmp_path_factory.mktemp('sound') / 'ledger.sqlite'}")


@pytest.fixture(scope="module")
def sound_postgres(postgres_url: str) -> Iterator[Sound]:
    with connect(make_url(postgres_url)) as connection:
        connection.execute("CREATE DATABASE sound")
        yield Sound(make_url(postgres_url).set(database="sound").render_as_string())
        connection.execute("DROP DATABASE sound WITH (FORCE)")


@pytest.fixture
def sqlite_copy(sound_sqlite: Sound, tmp_path: Path) -> Copy:
    return copy_sqlite(sound_sqlite, tmp_path)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def copy(request: pytest.FixtureRequest) -> Iterator[Copy]:
    """A copy of the sound ledger on each kind of database."""
    if request.param == "sqlite":
        yield request.getfixturevalue("sqlite_copy")
        return
    sound = request.getfixturevalue("sound_postgres")
    server = make_url(sound.url)
    with connect(server.set(database="postgres")) as connection:
        connection.execute(sql.SQL("CREATE DATABASE broken TEMPLATE sound"))
        try:
            yield Copy(server.set(database="broken").render_as_string(), sound.names)
        finally:
            connection.execute("DROP DATABASE broken WITH (FORCE)")


def first_failure(report: AuditReport) -> tuple[str, int | None]:
    """The check and entry of the first failure; the report must be one a person and a program can read."""
    assert not report.ok
    for failure in report.failures:
        assert failure.check in CHECKS
        assert failure.message.isprintable()
        assert len(failure.message) <= 1_000
        json.dumps(failure.message).encode()
    first = report.failures[0]
    return first.check, first.seq


# A sound ledger


@pytest.mark.parametrize("processes", [0, 2])
def test_sound_ledger_passes_with_everything_counted(
    copy: Copy, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every check is made as often as there is something to check, here or in other processes."""
    monkeypatch.setattr(audit, "_INLINE_SIGNATURES", 0)
    seen: list[tuple[int, int]] = []
    report = copy.audit(processes=processes, progress=lambda done, total: seen.append((done, total)))
    assert report.failures == ()
    engine = open_engine(copy.url)
    with engine.connect() as connection:
        rows = {t: connection.execute(sa.text(f"SELECT count(*) FROM {t}")).scalar_one() for t in METADATA.tables}
        entries = [json.loads(data) for (data,) in connection.execute(sa.text("SELECT data FROM entry ORDER BY seq"))]
    engine.dispose()
    size = copy.names["size"]
    assert {entry["op"]["kind"] for entry in entries} == set(KINDS)
    every = ("entries", "chain", "operation_ids", "rules", "conservation", "balances")
    assert report.counts == dict.fromkeys(every, size) | {
        "signatures": sum(len(entry["sigs"]) for entry in entries),
        "postings": rows["posting"],
        "earnings": rows["earning"],
        "references": rows["reference"],
        "parties": rows["party"],
        "projections": sum(rows[table] for table in PROJECTIONS),
        "tiles": rows["tile"],
        "head": 1,
        "checkpoint": 1,
        "history": 0,
        "witnesses": 0,
        "append_only": 3,
    }
    assert rows["tile"] == 1
    assert [table for table in PROJECTIONS if not rows[table]] == []
    leaves = [hashlib.sha256(b"\x00" + canonical(entry)).digest() for entry in entries]
    assert (report.size, report.root) == (size, naive_root(leaves).hex())
    in_force = entries[copy.names["replace_log_key"]]["op"]["log_key"]
    assert (report.origin, report.log_key) == (ORIGIN, in_force)
    assert seen == [(size, size)]


def test_expected_log_key_is_accepted(sqlite_copy: Copy) -> None:
    """The key in genesis, got from elsewhere, passes."""
    assert sqlite_copy.audit(log_keys=(sqlite_copy.audit().log_key,)).ok


def test_unexpected_log_key_is_found(sqlite_copy: Copy) -> None:
    """A ledger whose log is signed by another key than the auditor was told is not that ledger."""
    other = encode_verifier_key(ORIGIN, Ed25519PrivateKey.generate())
    assert first_failure(sqlite_copy.audit(log_keys=(other,))) == ("checkpoint", 0)
    assert first_failure(sqlite_copy.audit(log_keys=("no key at all",))) == ("checkpoint", 0)


def test_unknown_ledger_is_an_error_that_says_what_to_do(sqlite_copy: Copy) -> None:
    """An origin that is not in the database cannot be audited."""
    engine = open_engine(sqlite_copy.url)
    with pytest.raises(StoreError, match="run guerdon init"):
        audit_database(Store(engine, "ledger.example/absent"))
    engine.dispose()


def test_audit_sees_one_snapshot_while_writers_go_on(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries recorded while the audit runs are no part of it, and disturb nothing."""
    monkeypatch.setattr(database_audit, "CHUNK", 10)
    with World(database_url, seed=SEED) as world:
        shop = world.add_merchant()
        world.add_asset(shop)
        (alice,) = world.add_members(1)
        world.record(*(world.open_member(world.make_key()) for _ in range(40)))
        with world.store.read() as connection:
            size = world.store.head(connection).size

        def write(_done: int, _total: int) -> None:
            world.grant(shop, "STAR", alice, 1)

        report = audit_database(world.store, processes=0, progress=write)
        assert report.failures == ()
        assert report.size == size
        after = audit_database(world.store, processes=0)
        assert after.ok
        assert after.size >= size + 4


# Edits behind the ledger's back

TRANSFER = "WHERE seq = {transfer}"
BOUGHT = "WHERE reference = 'o-1'"
CUSTODIAL = "WHERE seq = {open_custodial}"
NOT_RECOVERING = "recovery_keys = NULL, recovery_threshold = NULL, recovery_at = NULL, recovery_seq = NULL"
RECOVERING = "WHERE account = '{dave}'"
OPENED = "WHERE account = '{shop}'"
DEFINED = "WHERE asset = 'STAR'"
PUBLISHED = "WHERE asset = 'STAR' AND version = 1"
LOT = "WHERE account = '{alice}' AND asset = 'STAR'"

SWAP = """UPDATE entry SET seq = 9999 WHERE seq = {transfer}; UPDATE entry SET seq = {transfer} WHERE seq = {redeem};
UPDATE entry SET seq = {redeem} WHERE seq = 9999"""
ADD_ENTRY = """INSERT INTO entry (ledger_id, seq, leaf_hash, op_id, kind, time, data)
SELECT ledger_id, %s, :garbage, :garbage, kind, time, data FROM entry WHERE seq = %s"""
ADD_POSTING = """INSERT INTO posting SELECT ledger_id, %s, leg + 9, account, asset, lot, amount
FROM posting WHERE seq = {transfer}"""
ADD_EARNING = """INSERT INTO earning SELECT ledger_id, merchant, scope, 'o-9', %s, asset, account, earned_on, amount,
points, version, agreement_version, claim_amount, circumstances, score FROM earning WHERE reference = 'o-1'"""
ADD_ACCOUNT = """INSERT INTO account SELECT ledger_id, 'mem_y', role, keys, threshold, custodian, name, opened_at, seq,
keys_seq, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM account WHERE account = '{shop}'"""
ADD_LOG_KEY = "INSERT INTO log_key SELECT ledger_id, 7, log_key FROM log_key WHERE seq = 0"
ADD_ASSET = """INSERT INTO asset SELECT ledger_id, 'FREE', issuer, name, scale, supply_cap, transferable, value_points,
value_amount, value_currency, seq, transfer_terms FROM asset WHERE asset = 'STAR'"""
ADD_PROGRAM = """INSERT INTO program SELECT ledger_id, asset, 7, starts, ends, document, seq FROM program
WHERE asset = 'STAR' AND version = 1"""
ADD_REFERENCE = "INSERT INTO reference SELECT ledger_id, merchant, scope, 'x', %s FROM reference WHERE seq = {refund}"
ADD_PARTY = "INSERT INTO party SELECT ledger_id, 'mem_z', %s FROM party WHERE seq = {freeze}"
FROZEN = "WHERE account = '{ben}'"
TWO_EDITS = """UPDATE posting SET amount = 1 WHERE seq = {transfer} AND leg = 1;
UPDATE entry SET kind = 'hold' WHERE seq = {last}"""

# table.column and what is done to it, the statements, the first check to fail, the entry that is named
EDITS = [
    ("entry.seq moved", f"UPDATE entry SET seq = seq + 1000 {TRANSFER}", "chain", "transfer"),
    ("entry.leaf_hash", f"UPDATE entry SET leaf_hash = :garbage {TRANSFER}", "entries", "transfer"),
    ("entry.op_id", f"UPDATE entry SET op_id = :garbage {TRANSFER}", "entries", "transfer"),
    ("entry.kind", f"UPDATE entry SET kind = 'redeem' {TRANSFER}", "entries", "transfer"),
    ("entry.actor", f"UPDATE entry SET actor = NULL {TRANSFER}", "entries", "transfer"),
    ("entry.time", f"UPDATE entry SET time = '2026-03-02T12:00:00.001Z' {TRANSFER}", "entries", "transfer"),
    ("entry.data garbage", f"UPDATE entry SET data = :garbage {TRANSFER}", "entries", "transfer"),
    ("entry.data empty", f"UPDATE entry SET data = :empty {TRANSFER}", "entries", "transfer"),
    ("entry.data nested", f"UPDATE entry SET data = :nested {TRANSFER}", "entries", "transfer"),
    ("entry.data oversized", f"UPDATE entry SET data = :oversized {TRANSFER}", "entries", "transfer"),
    ("entry.data of genesis", "UPDATE entry SET data = :garbage WHERE seq = 0", "entries", 0),
    ("entry deleted", f"DELETE FROM entry {TRANSFER}", "chain", "transfer"),
    ("entry genesis deleted", "DELETE FROM entry WHERE seq = 0", "chain", 0),
    ("entry last deleted", "DELETE FROM entry WHERE seq = {last}", "head", "last"),
    ("entry all deleted", "DELETE FROM entry", "chain", 0),
    ("entry swapped", SWAP, "chain", "transfer"),
    ("entry before genesis", ADD_ENTRY % (-1, 0), "chain", 0),
    ("entry after the end", ADD_ENTRY % ("{size}", "{last}"), "entries", "size"),
    ("posting.seq", f"UPDATE posting SET seq = seq + 1000 {TRANSFER}", "postings", "transfer"),
    ("posting.leg", f"UPDATE posting SET leg = leg + 10 {TRANSFER}", "postings", "transfer"),
    ("posting.account", f"UPDATE posting SET account = '{{shop}}' {TRANSFER} AND leg = 1", "postings", "transfer"),
    ("posting.asset", f"UPDATE posting SET asset = 'MILE' {TRANSFER}", "postings", "transfer"),
    ("posting.lot", f"UPDATE posting SET lot = '2030-01-01' {TRANSFER}", "postings", "transfer"),
    ("posting.amount", f"UPDATE posting SET amount = amount * 2 {TRANSFER}", "postings", "transfer"),
    ("posting deleted", f"DELETE FROM posting {TRANSFER} AND leg = 2", "postings", "transfer"),
    ("posting of an entry added", ADD_POSTING % "{transfer}", "postings", "transfer"),
    ("posting after the end", ADD_POSTING % 100_000, "postings", None),
    ("posting before genesis", ADD_POSTING % -1, "postings", None),
    ("posting and a later entry", TWO_EDITS, "postings", "transfer"),
    ("earning.merchant", f"UPDATE earning SET merchant = '{{alice}}' {BOUGHT}", "earnings", "purchases"),
    ("earning.scope", f"UPDATE earning SET scope = 'grant:order' {BOUGHT}", "earnings", "purchases"),
    ("earning.reference", f"UPDATE earning SET reference = 'o-x' {BOUGHT}", "earnings", "purchases"),
    ("earning.seq", f"UPDATE earning SET seq = seq + 1 {BOUGHT}", "earnings", "purchases"),
    ("earning.asset", f"UPDATE earning SET asset = 'STAR' {BOUGHT}", "earnings", "purchases"),
    ("earning.account", f"UPDATE earning SET account = '{{alice}}' {BOUGHT}", "earnings", "purchases"),
    ("earning.earned_on", f"UPDATE earning SET earned_on = '2025-12-31' {BOUGHT}", "earnings", "purchases"),
    ("earning.amount", f"UPDATE earning SET amount = amount + 1 {BOUGHT}", "earnings", "purchases"),
    ("earning.amount missing", f"UPDATE earning SET amount = NULL {BOUGHT}", "earnings", "purchases"),
    ("earning.points", f"UPDATE earning SET points = points + 1 {BOUGHT}", "earnings", "purchases"),
    ("earning.version", f"UPDATE earning SET version = version + 1 {BOUGHT}", "earnings", "purchases"),
    ("earning.agreement_version", f"UPDATE earning SET agreement_version = 1 {BOUGHT}", "earnings", "purchases"),
    ("earning.claim_amount", f"UPDATE earning SET claim_amount = 1 {BOUGHT}", "earnings", "purchases"),
    ("earning.circumstances", f"UPDATE earning SET circumstances = '{{{{}}}}' {BOUGHT}", "earnings", "purchases"),
    ("earning.score", f"UPDATE earning SET score = 10 {BOUGHT}", "earnings", "purchases"),
    ("earning deleted", f"DELETE FROM earning {BOUGHT}", "earnings", "purchases"),
    ("earning without an entry", ADD_EARNING % 100_000, "earnings", None),
    ("earning of another entry", ADD_EARNING % 0, "earnings", 0),
    ("reference.merchant", "UPDATE reference SET merchant = 'x' WHERE seq = {refund}", "references", "refund"),
    ("reference.scope", "UPDATE reference SET scope = 'payment' WHERE seq = {refund}", "references", "refund"),
    ("reference.reference", "UPDATE reference SET reference = 'x' WHERE seq = {refund}", "references", "refund"),
    ("reference.seq", "UPDATE reference SET seq = seq + 2 WHERE seq = {refund}", "references", "refund"),
    ("reference deleted", "DELETE FROM reference WHERE seq = {refund}", "references", "refund"),
    ("reference without an entry", ADD_REFERENCE % 100_000, "references", None),
    ("reference of another entry", ADD_REFERENCE % 0, "references", 0),
    ("party.account", "UPDATE party SET account = 'mem_z' WHERE seq = {freeze}", "parties", "freeze"),
    ("party.seq", "UPDATE party SET seq = 0 WHERE seq = {freeze}", "parties", 0),
    ("party deleted", "DELETE FROM party WHERE seq = {freeze}", "parties", "freeze"),
    ("party without an entry", ADD_PARTY % 100_000, "parties", None),
    ("party before genesis", ADD_PARTY % -1, "parties", None),
    ("account.approval_threshold", f"UPDATE account SET approval_threshold = 2 {OPENED}", "projections", 1),
    (
        "account.recovery_approval_threshold",
        f"UPDATE account SET recovery_approval_threshold = NULL {FROZEN}",
        "projections",
        "open_ben",
    ),
    ("account.frozen_seq", f"UPDATE account SET frozen_seq = NULL {FROZEN}", "projections", "open_ben"),
    ("account.frozen_reason", f"UPDATE account SET frozen_reason = 'other' {FROZEN}", "projections", "open_ben"),
    ("account.account", "UPDATE account SET account = 'mem_x' WHERE account = '{bob}'", "projections", "open_bob"),
    ("account.role", f"UPDATE account SET role = 'operator' {OPENED}", "projections", "open_merchant"),
    ("account.keys", f"UPDATE account SET keys = '[[[' {OPENED}", "projections", "open_merchant"),
    ("account.threshold", f"UPDATE account SET threshold = 0 {OPENED}", "projections", "open_merchant"),
    ("account.custodian", f"UPDATE account SET custodian = '{{bob}}' {CUSTODIAL}", "projections", "open_custodial"),
    ("account.name", f"UPDATE account SET name = NULL {OPENED}", "projections", "open_merchant"),
    ("account.opened_at", f"UPDATE account SET opened_at = '1999' {OPENED}", "projections", "open_merchant"),
    ("account.seq", f"UPDATE account SET seq = 9007199254740993 {OPENED}", "projections", "open_merchant"),
    (
        "account.recovery_keys missing",
        f"UPDATE account SET recovery_keys = NULL {RECOVERING}",
        "projections",
        "open_dave",
    ),
    ("account.keys_seq", f"UPDATE account SET keys_seq = 0 {OPENED}", "projections", "open_merchant"),
    ("account.recovery_keys", f"UPDATE account SET recovery_keys = '[]' {RECOVERING}", "projections", "open_dave"),
    (
        "account.recovery_threshold",
        f"UPDATE account SET recovery_threshold = 1 {OPENED}",
        "projections",
        "open_merchant",
    ),
    ("account.recovery_at", f"UPDATE account SET recovery_at = '1999' {RECOVERING}", "projections", "open_dave"),
    ("account.recovery_seq", f"UPDATE account SET recovery_seq = 0 {RECOVERING}", "projections", "open_dave"),
    ("account deleted", f"DELETE FROM account {OPENED}", "projections", "open_merchant"),
    ("account without an entry", ADD_ACCOUNT, "projections", None),
    ("log_key.seq", "UPDATE log_key SET seq = 1 WHERE seq = 0", "projections", 0),
    ("log_key.log_key", "UPDATE log_key SET log_key = 'x' WHERE seq > 0", "projections", "replace_log_key"),
    ("log_key deleted", "DELETE FROM log_key WHERE seq > 0", "projections", "replace_log_key"),
    ("log_key without an entry", ADD_LOG_KEY, "projections", None),
    ("asset.asset", f"UPDATE asset SET asset = 'STAB' {DEFINED}", "projections", "define_asset"),
    ("asset.issuer", f"UPDATE asset SET issuer = '{{alice}}' {DEFINED}", "projections", "define_asset"),
    ("asset.name", f"UPDATE asset SET name = 'Moon' {DEFINED}", "projections", "define_asset"),
    ("asset.scale", f"UPDATE asset SET scale = 2 {DEFINED}", "projections", "define_asset"),
    ("asset.supply_cap", f"UPDATE asset SET supply_cap = NULL {DEFINED}", "projections", "define_asset"),
    ("asset.transferable", f"UPDATE asset SET transferable = false {DEFINED}", "projections", "define_asset"),
    ("asset.value_points", f"UPDATE asset SET value_points = 1 {DEFINED}", "projections", "define_asset"),
    ("asset.value_amount", f"UPDATE asset SET value_amount = 2 {DEFINED}", "projections", "define_asset"),
    ("asset.value_currency", f"UPDATE asset SET value_currency = 'EUR' {DEFINED}", "projections", "define_asset"),
    ("asset.seq", f"UPDATE asset SET seq = 0 {DEFINED}", "projections", "define_asset"),
    ("asset.transfer_terms", f"UPDATE asset SET transfer_terms = '{{{{}}}}' {DEFINED}", "projections", "define_asset"),
    ("asset deleted", f"DELETE FROM asset {DEFINED}", "projections", "define_asset"),
    ("asset without an entry", ADD_ASSET, "projections", None),
    ("program.asset", f"UPDATE program SET asset = 'STAB' {PUBLISHED}", "projections", "publish_program"),
    ("program.version", f"UPDATE program SET version = 9 {PUBLISHED}", "projections", "publish_program"),
    ("program.starts", f"UPDATE program SET starts = '1996' {PUBLISHED}", "projections", "publish_program"),
    ("program.ends", f"UPDATE program SET ends = '2030' {PUBLISHED}", "projections", "publish_program"),
    ("program.document", f"UPDATE program SET document = '{{{{' {PUBLISHED}", "projections", "publish_program"),
    ("program.seq", f"UPDATE program SET seq = -1 {PUBLISHED}", "projections", "publish_program"),
    ("program deleted", f"DELETE FROM program {PUBLISHED}", "projections", "publish_program"),
    ("program without an entry", ADD_PROGRAM, "projections", None),
    ("lot.account", f"UPDATE lot SET account = 'mem_z' {LOT}", "projections", None),
    ("lot.asset", f"UPDATE lot SET asset = 'STAB' {LOT}", "projections", None),
    ("lot.last_day", f"UPDATE lot SET last_day = '2030-01-01' {LOT}", "projections", None),
    ("lot.points", f"UPDATE lot SET points = points + 1 {LOT}", "projections", None),
    ("lot.points huge", f"UPDATE lot SET points = 9223372036854775807 {LOT}", "projections", None),
    ("lot deleted", f"DELETE FROM lot {LOT}", "projections", None),
    (
        "lot added",
        f"INSERT INTO lot SELECT ledger_id, account, asset, '2031-01-01', 5 FROM lot {LOT}",
        "projections",
        None,
    ),
    ("tile.level", "UPDATE tile SET level = 5", "tiles", 0),
    ("tile.index", 'UPDATE tile SET "index" = 4611686018427387904', "tiles", 0),
    ("tile.hashes", "UPDATE tile SET hashes = :garbage", "tiles", 0),
    ("tile.root", "UPDATE tile SET root = :garbage", "tiles", 0),
    ("tile deleted", "DELETE FROM tile", "tiles", 0),
    ("tile added", "INSERT INTO tile SELECT ledger_id, 2000000000, 1, hashes, root FROM tile", "tiles", None),
    ("head.origin", "UPDATE head SET origin = 'ledger.example/other'", "rules", 0),
    ("head.size more", "UPDATE head SET size = size + 1", "head", "size"),
    ("head.size fewer", "UPDATE head SET size = {last}", "head", "last"),
    ("head.size negative", "UPDATE head SET size = -9223372036854775808", "head", -9223372036854775808),
    ("head.last_leaf_hash", "UPDATE head SET last_leaf_hash = :garbage", "head", "last"),
    ("head.last_time", "UPDATE head SET last_time = '2026'", "head", "last"),
    ("head.compact_range", "UPDATE head SET compact_range = :garbage", "head", None),
    ("head.checkpoint", "UPDATE head SET checkpoint = 'garbage'", "checkpoint", None),
    ("head.checkpoint empty", "UPDATE head SET checkpoint = ''", "checkpoint", None),
]

# of the tables of records: which row, the entry that made it, and for each column what is written there
RECORD_EDITS: dict[str, tuple[str, str | None, dict[str, str]]] = {
    "agreement": (
        "agreement = 'COIN>BEAN'",
        "agree",
        {
            "agreement": "'COIN>STAR'",
            "version": "9",
            "issuer": "'mer_z'",
            "partner": "'mer_z'",
            "starts": "'1999'",
            "ends": "'2030'",
            "notice_days": "1",
            "terms": "'{{}}'",
            "seq": "0",
        },
    ),
    "hold": (
        "hold = '{held}'",
        "hold",
        {
            "hold": "'hld_z'",
            "account": "'mem_z'",
            "asset": "'STAR'",
            "merchant": "'mer_z'",
            "amount": "amount + 1",
            "captured": "captured - 1",
            "parts": "'[[\"9999-12-31\",1]]'",
            "agreement": "NULL",
            "version": "2",
            "until": "'2030'",
            "reference": "'z'",
            "seq": "0",
            "status": "'open'",
        },
    ),
    "spending": (
        "operation = '{spent}'",
        "redeem_kept",
        {
            "operation": "'z'",
            "seq": "0",
            "kind": "'capture'",
            "time": "'1999'",
            "account": "'mem_z'",
            "asset": "'STAR'",
            "amount": "amount + 1",
            "merchant": "'mer_z'",
            "agreement": "NULL",
            "version": "NULL",
            "parts": "'[]'",
            "out_points": "1",
            "claim_amount": "0",
            "fee_amount": "1",
            "refunded": "0",
            "holders": "'[\"mem_z\"]'",
            "reward": "'mug'",
            "vouchers": "1",
        },
    ),
    "purchase_refund": (
        "reference = 'b-1'",
        None,
        {"merchant": "'mer_z'", "reference": "'z'", "amount": "1", "points": "0", "returned": "0", "lines": "'[1]'"},
    ),
    "claim": (
        "seq = {open_dispute}",
        "open_dispute",
        {
            "seq": "0",
            "index": "7",
            "debtor": "'mer_z'",
            "creditor": "'mer_z'",
            "currency": "'EUR'",
            "amount": "amount + 1",
            "day": "'1999-01-01'",
            "agreement": "NULL",
            "status": "'open'",
            "disputed_by": "NULL",
        },
    ),
    "obligation": (
        "netting = {net}",
        None,
        {
            "currency": "'EUR'",
            "debtor": "'mer_z'",
            "creditor": "'mer_z'",
            "netting": "-1",
            "day": "'1999-01-01'",
            "amount": "amount + 1",
        },
    ),
    "netting": ("seq = {net}", "net", {"seq": "0", "currency": "'EUR'", "through": "'1999'", "merchants": "'[]'"}),
    "allotment": ("true", None, {"agreement": "'z'", "allotted": "0", "remaining": "remaining + 1"}),
    "allotment_alert": ("seq = {alert}", "alert", {"agreement": "'z'", "seq": "0", "remaining": "0"}),
    "usage": (
        "scope = 'COIN>BEAN' AND account = '*'",
        None,
        {"scope": "'z'", "account": "'z'", "period": "'z'", "points": "0"},
    ),
    "membership": (
        "plan = 'plus'",
        None,
        {
            "asset": "'COIN'",
            "account": "'mem_z'",
            "joined_on": "'1999-01-01'",
            "purchases": "purchases + 1",
            "formula": "'z'",
            "invited_by": "'mem_z'",
            "tier": "'gold'",
            "tier_until": "'2030-01-01'",
            "plan": "NULL",
            "plan_from": "'1999-01-01'",
            "plan_until": "'2030-01-01'",
            "pool": "NULL",
        },
    ),
    "progress": (
        "asset = 'CLUB' AND count = 2000",
        None,
        {"asset": "'COIN'", "account": "'mem_z'", "basis": "'visits'", "period": "'1999'", "count": "count + 1"},
    ),
    "pending": (
        "\"order\" = 'S-2'",
        None,
        {
            "merchant": "'mer_z'",
            "order": "'z'",
            "asset": "'COIN'",
            "account": "'mem_z'",
            "points": "points + 1",
            "vests_on": "'1999-01-01'",
            "last_day": "'1999-01-01'",
            "version": "2",
            "status_points": "1",
            "inviter": "'mem_z'",
            "inviter_points": "1",
        },
    ),
    "voucher": (
        "seq = {mug}",
        "mug",
        {
            "seq": "0",
            "index": "7",
            "account": "'mem_z'",
            "asset": "'COIN'",
            "merchant": "'mer_z'",
            "reward": "'z'",
            "price": "1",
            "worth": "NULL",
            "last_day": "'1999-01-01'",
            "status": "'used'",
            "used_seq": "0",
        },
    ),
    "pool": ("asset = 'CLUB'", None, {"pool": "'pol_z'", "asset": "'COIN'", "members": "'[]'"}),
    "reminder": (
        "seq = {remind}",
        "remind",
        {
            "seq": "0",
            "account": "'mem_z'",
            "asset": "'COIN'",
            "about": "'tier'",
            "points": "0",
            "day": "'1999-01-01'",
            "tier": "'gold'",
        },
    ),
    "reminded": (
        "asset = 'NEWS'",
        None,
        {"asset": "'COIN'", "account": "'mem_z'", "about": "'tier'", "through": "'1999'"},
    ),
}


def row_edits() -> Iterator[tuple[str, str, str, str | None]]:
    """Of each table of records a row that is gone, and one more."""
    for table, (where, entry, values) in RECORD_EDITS.items():
        yield f"{table} deleted", f'DELETE FROM "{table}" WHERE {where}', "projections", entry
        columns = [column.name for column in METADATA.tables[table].columns]
        key = next(iter(values))
        other = ", ".join(values[key] if name == key else f'"{name}"' for name in columns)
        add = f'INSERT INTO "{table}" SELECT {other} FROM "{table}" WHERE {where}'
        yield f"{table} without an entry", add, "projections", None


EDITS += list(row_edits())
MOST_COLUMNS = max(len(values) for _, _, values in RECORD_EDITS.values())

VALUES = {
    "garbage": GARBAGE,
    "empty": b"",
    "nested": b"[" * 60_000,
    "oversized": b'{"op":"' + b"x" * 70_000 + b'"}',
}


@pytest.mark.parametrize(("edit", "statements", "check", "entry"), EDITS, ids=[row[0] for row in EDITS])
def test_edit_behind_the_ledgers_back_is_found(
    copy: Copy, edit: str, statements: str, check: str, entry: str | int | None
) -> None:
    """Whatever row or column is changed, the audit fails, and the first failure names the check and the entry."""
    names = copy.names | {f"open_{member}": seq_of(copy, member) for member in ("bob", "ben")}
    copy.execute(statements, **VALUES)
    assert first_failure(copy.audit()) == (check, names[entry] if isinstance(entry, str) else entry)


@pytest.mark.parametrize("number", range(MOST_COLUMNS))
def test_edit_of_a_record_is_found(sqlite_copy: Copy, number: int) -> None:
    """Whatever column of a table of records is changed is found; here the column of this number in each of them."""
    names = sqlite_copy.names
    expected: dict[str, int | None] = {}
    for table, (where, entry, values) in RECORD_EDITS.items():
        if number < len(values):
            column, value = list(values.items())[number]
            sqlite_copy.execute(f'UPDATE "{table}" SET "{column}" = {value} WHERE {where}')
            expected[table] = None if entry is None else names[entry]
    failures = sqlite_copy.audit().failures
    assert {failure.check for failure in failures} == {"projections"}
    assert {failure.message.split(" ")[1]: failure.seq for failure in failures} == expected


def seq_of(copy: Copy, member: str) -> int:
    """The entry that opened an account."""
    engine = open_engine(copy.url)
    with engine.connect() as connection:
        query = sa.text("SELECT seq FROM account WHERE account = :account")
        seq = connection.execute(query, {"account": copy.names[member]}).scalar_one()
    engine.dispose()
    return int(seq)


def test_edits_reach_every_column() -> None:
    """The matrix above leaves no column of any table out, so a new column has to be added to it.

    Cosignatures are the witnesses' words: they are verified as such where an auditor asks for them. Webhooks are the
    service's, and say nothing of the ledger.
    """
    edited = {edit.split(" ")[0] for edit, *_ in EDITS}
    edited |= {f"{table}.{column}" for table, (_, _, values) in RECORD_EDITS.items() for column in values}
    tables = [table for name, table in METADATA.tables.items() if name not in NOT_THE_LEDGERS]
    columns = {f"{t.name}.{c.name}" for t in tables for c in t.columns if c.name != "ledger_id"}
    assert columns <= edited


NOT_UTF8 = "CAST(X'FF41' AS TEXT)"

# SQLite keeps a value of any type in any column
TYPES = [
    ("entry.seq text", f"UPDATE entry SET seq = 'many' {TRANSFER}", "chain"),
    ("entry.seq beyond the end text", "UPDATE entry SET seq = 'many' WHERE seq = {last}", "chain"),
    ("entry.data text", f"UPDATE entry SET data = CAST(data AS TEXT) {TRANSFER}", "entries"),
    ("entry.data integer", f"UPDATE entry SET data = 9223372036854775807 {TRANSFER}", "entries"),
    ("entry.leaf_hash text", f"UPDATE entry SET leaf_hash = 'x' {TRANSFER}", "entries"),
    ("entry.op_id integer", f"UPDATE entry SET op_id = 5 {TRANSFER}", "entries"),
    ("entry.kind not UTF-8", f"UPDATE entry SET kind = {NOT_UTF8} {TRANSFER}", "entries"),
    ("entry.actor blob", f"UPDATE entry SET actor = X'FF' {TRANSFER}", "entries"),
    ("posting.seq text", f"UPDATE posting SET seq = 'many' {TRANSFER}", "postings"),
    ("posting.seq fraction", f"UPDATE posting SET seq = seq + 0.5 {TRANSFER}", "postings"),
    ("posting.amount text", f"UPDATE posting SET amount = 'many' {TRANSFER}", "postings"),
    ("posting.amount fraction", f"UPDATE posting SET amount = amount + 0.5 {TRANSFER}", "postings"),
    ("posting.account not UTF-8", f"UPDATE posting SET account = {NOT_UTF8} {TRANSFER}", "postings"),
    ("earning.reference blob", f"UPDATE earning SET reference = X'FF' {BOUGHT}", "earnings"),
    ("earning.points huge", f"UPDATE earning SET points = 1e300 {BOUGHT}", "earnings"),
    ("account.keys not UTF-8", f"UPDATE account SET keys = {NOT_UTF8} {OPENED}", "projections"),
    ("account.account blob", f"UPDATE account SET account = X'FF' {OPENED}", "projections"),
    ("asset.transferable", f"UPDATE asset SET transferable = 7 {DEFINED}", "projections"),
    ("program.document blob", f"UPDATE program SET document = CAST(document AS BLOB) {PUBLISHED}", "projections"),
    ("lot.points text", f"UPDATE lot SET points = 'x' {LOT}", "projections"),
    ("tile.level text", "UPDATE tile SET level = 'x'", "tiles"),
    ("tile.level huge", "UPDATE tile SET level = 9223372036854775807", "tiles"),
    ("tile.hashes text", "UPDATE tile SET hashes = 'x'", "tiles"),
    ("tile.root integer", "UPDATE tile SET root = 1000000000000", "tiles"),
    ("head.size text", "UPDATE head SET size = 'many'", "head"),
    ("head.size blob", "UPDATE head SET size = X'FF'", "head"),
    ("head.last_leaf_hash text", "UPDATE head SET last_leaf_hash = 'x'", "head"),
    ("head.last_time not UTF-8", f"UPDATE head SET last_time = {NOT_UTF8}", "head"),
    ("head.compact_range integer", "UPDATE head SET compact_range = 1000000000000", "head"),
    ("head.checkpoint blob", "UPDATE head SET checkpoint = X'FF'", "checkpoint"),
    ("head.checkpoint not UTF-8", f"UPDATE head SET checkpoint = {NOT_UTF8}", "checkpoint"),
    ("account.name escapes", f"UPDATE account SET name = char(27) || '[2J' {OPENED}", "projections"),
]


@pytest.mark.parametrize(("edit", "statements", "check"), TYPES, ids=[row[0] for row in TYPES])
def test_value_of_the_wrong_type_is_reported(sqlite_copy: Copy, edit: str, statements: str, check: str) -> None:
    """What is not even of its column's type is a failure like any other, not a crash."""
    sqlite_copy.execute(statements)
    assert check in {failure.check for failure in sqlite_copy.audit().failures}
    first_failure(sqlite_copy.audit())


def test_damaged_file_is_reported(sqlite_copy: Copy) -> None:
    """A page SQLite cannot read is a failure of the ledger, named with its message."""
    path = Path(str(make_url(sqlite_copy.url).database))
    with sqlite3.connect(path) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'tile'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.close()
    data = bytearray(path.read_bytes())
    data[(page - 1) * size : page * size] = b"\xff" * size
    path.write_bytes(data)
    report = sqlite_copy.audit()
    assert not report.ok
    assert "malformed" in report.failures[0].message


@settings(max_examples=40)
@given(data=st.data())
def test_any_flipped_bit_of_an_entry_is_found_there(
    sound_sqlite: Sound, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """One bit of one stored entry is enough, and the audit names that entry."""
    copy = copy_sqlite(sound_sqlite, tmp_path_factory.mktemp("flip"))
    seq = data.draw(st.integers(0, copy.names["last"]))
    path = Path(str(make_url(copy.url).database))
    with sqlite3.connect(path) as connection:
        (entry,) = connection.execute("SELECT data FROM entry WHERE seq = ?", (seq,)).fetchone()
    connection.close()
    at, bit = data.draw(st.integers(0, len(entry) - 1)), data.draw(st.integers(0, 7))
    flipped = entry[:at] + bytes([entry[at] ^ 1 << bit]) + entry[at + 1 :]
    copy.execute(f"UPDATE entry SET data = :data WHERE seq = {seq}", data=flipped)
    check, where = first_failure(copy.audit())
    assert check in {"entries", "chain"}
    assert where == seq
    path.unlink()


# Edits by insiders who hold the log key and write everything anew that they can compute


STRANGER = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


def raise_amount(insider: Insider) -> None:
    entry = insider.entry("transfer")
    entry["op"]["recipients"][0]["amount"] += 1
    entry["postings"][0]["amount"] -= 1
    entry["postings"][1]["amount"] += 1


def redirect_posting(insider: Insider) -> None:
    insider.entry("transfer")["postings"][1]["account"] = insider.names["shop"]


def inflate_issue(insider: Insider) -> None:
    grant = insider.entry("grant")
    grant["postings"][0]["amount"] -= 900
    grant["postings"][1]["amount"] += 900


def unbalance(insider: Insider) -> None:
    insider.entry("grant")["postings"][1]["amount"] += 1


def invent_postings(insider: Insider) -> None:
    gift = {"asset": "STAR", "account": insider.names["bob"], "amount": 5}
    insider.entry("last")["postings"] += [gift, gift | {"account": "sys_issued", "amount": -5}]


def move_transfer_before_its_grant(insider: Insider) -> None:
    entries, at = insider.entries, insider.names["grant"]
    entries[at], entries[at + 1] = entries[at + 1], entries[at]


def move_expiry_forward(insider: Insider) -> None:
    time = insider.entry("redeem")["time"]
    expire = insider.entries.pop(insider.names["expire"])
    insider.entries.insert(insider.names["redeem"], expire | {"time": time})


def drop_purchases(insider: Insider) -> None:
    del insider.entries[insider.names["purchases"]]


def sign_as_stranger(insider: Insider) -> None:
    entry = insider.entry("transfer")
    entry["sigs"] = [signature(entry["op"], STRANGER)]


def sign_also_as_stranger(insider: Insider) -> None:
    entry = insider.entry("transfer")
    entry["sigs"].append(signature(entry["op"], STRANGER))


def sign_as_operator(insider: Insider) -> None:
    entry = insider.entry("transfer")
    entry["sigs"] = [signature(entry["op"], insider.operator_key)]


def forge_signature(insider: Insider) -> None:
    entry = insider.entry("transfer")
    entry["sigs"] = [signature(entry["op"], STRANGER) | {"key": entry["sigs"][0]["key"]}]


def repeat_signature(insider: Insider) -> None:
    entry = insider.entry("transfer")
    entry["sigs"] *= 2


def drop_signatures(insider: Insider) -> None:
    insider.entry("transfer")["sigs"] = []


def drop_operator(insider: Insider) -> None:
    del insider.entry("open_merchant")["sigs"][0]


def repeat_operation(insider: Insider) -> None:
    insider.entries.append(dict(insider.entry("last")))


def record_too_late(insider: Insider) -> None:
    for entry in insider.entries[insider.names["transfer"] :]:
        entry["time"] = max(entry["time"], "2026-03-02T12:01:00.001Z")


def record_too_early(insider: Insider) -> None:
    insider.entry("transfer")["time"] = "2026-03-02T11:59:59.999Z"


def record_on_no_day(insider: Insider) -> None:
    insider.entry("purchases")["time"] = "2026-03-32T12:00:00.000Z"


def amount_beyond_bound(insider: Insider) -> None:
    insider.entry("grant")["op"]["amount"] = 2**53


def posting_beyond_bound(insider: Insider) -> None:
    insider.entry("grant")["postings"][0]["amount"] = -(2**60)


def add_field(insider: Insider) -> None:
    insider.entry("grant")["note"] = "\x1b[2J"


def second_genesis(insider: Insider) -> None:
    insider.entries.append(insider.entries[0] | {"time": insider.entry("last")["time"]})


def other_log_key(log_key: str) -> Callable[[Insider], None]:
    def change(insider: Insider) -> None:
        genesis = insider.entries[0]
        genesis["op"]["log_key"] = log_key
        genesis["sigs"] = [signature(genesis["op"], insider.operator_key)]

    return change


def change_name(insider: Insider) -> None:
    insider.entries[0]["op"]["name"] = "Somebody else"


# what was rewritten, the change to the entries, the first check to fail, the entry that is named
INSIDER_EDITS: list[tuple[str, Callable[[Insider], None], str, str | int]] = [
    ("amount raised", raise_amount, "signatures", "transfer"),
    ("posting redirected", redirect_posting, "rules", "transfer"),
    ("issue inflated", inflate_issue, "rules", "grant"),
    ("postings unbalanced", unbalance, "conservation", "grant"),
    ("postings invented", invent_postings, "rules", "last"),
    ("transfer before its grant", move_transfer_before_its_grant, "rules", "grant"),
    ("expiry before its day", move_expiry_forward, "rules", "redeem"),
    ("purchases dropped", drop_purchases, "earnings", "purchases"),
    ("signed by a stranger", sign_as_stranger, "rules", "transfer"),
    ("signed by a stranger too", sign_also_as_stranger, "rules", "transfer"),
    ("signed by the operator", sign_as_operator, "rules", "transfer"),
    ("signature forged", forge_signature, "signatures", "transfer"),
    ("signature repeated", repeat_signature, "entries", "transfer"),
    ("signatures dropped", drop_signatures, "rules", "transfer"),
    ("operator's signature dropped", drop_operator, "rules", "open_merchant"),
    ("operation repeated", repeat_operation, "operation_ids", "size"),
    ("recorded after its expiry", record_too_late, "rules", "transfer"),
    ("recorded before the entry before", record_too_early, "chain", "transfer"),
    ("recorded on 32 March", record_on_no_day, "entries", "purchases"),
    ("amount of 2^53", amount_beyond_bound, "entries", "grant"),
    ("posting of 2^60", posting_beyond_bound, "entries", "grant"),
    ("field added", add_field, "entries", "grant"),
    ("second genesis", second_genesis, "chain", "size"),
    ("log key invalid", other_log_key("ledger.example/test+00000000+AAAA"), "rules", 0),
    ("log key not a key", other_log_key("\u20ac"), "rules", 0),
    ("log key of another name", other_log_key(encode_verifier_key("ledger.example/else", STRANGER)), "rules", 0),
    ("operator renamed", change_name, "signatures", 0),
]


def test_insider_who_changes_nothing_is_not_noticed(sqlite_copy: Copy) -> None:
    """The rewriting itself leaves a sound ledger, so what fails below fails for the change alone."""
    Insider(sqlite_copy).rewrite()
    assert sqlite_copy.audit().failures == ()


@pytest.mark.parametrize(("edit", "change", "check", "entry"), INSIDER_EDITS, ids=[row[0] for row in INSIDER_EDITS])
def test_rewritten_history_is_found(
    sqlite_copy: Copy, edit: str, change: Callable[[Insider], None], check: str, entry: str | int
) -> None:
    """Hashes, tree, tiles, head and a checkpoint signed anew do not help: rules and signatures remain."""
    insider = Insider(sqlite_copy)
    change(insider)
    insider.rewrite()
    names = sqlite_copy.names
    report = sqlite_copy.audit()
    found = [(failure.check, failure.seq) for failure in report.failures]
    assert found[0][1] == (names[entry] if isinstance(entry, str) else entry)
    assert check in {name for name, seq in found if seq == found[0][1]}
    first_failure(report)


def kept_checkpoint(copy: Copy) -> str:
    """The checkpoint of a ledger as an auditor keeps it."""
    connection = sqlite3.connect(str(make_url(copy.url).database))
    (note,) = connection.execute("SELECT checkpoint FROM head").fetchone()
    connection.close()
    return str(note)


def test_kept_checkpoint_is_extended_by_a_sound_ledger(sqlite_copy: Copy) -> None:
    """The ledger as it was kept, and as it is: the check is made and counted."""
    report = sqlite_copy.audit(kept=kept_checkpoint(sqlite_copy))
    assert report.failures == ()
    assert report.counts["history"] == 1


def test_history_rewritten_with_the_log_key_is_found_by_who_kept_a_checkpoint(sqlite_copy: Copy) -> None:
    """Times moved by a millisecond, everything recomputed and signed anew: nothing is wrong but what was kept."""
    kept = kept_checkpoint(sqlite_copy)
    insider = Insider(sqlite_copy)
    insider.entries[-1]["time"] = insider.entries[-1]["time"][:-4] + "999Z"
    insider.rewrite()
    assert sqlite_copy.audit().failures == ()
    assert [(f.check, f.seq) for f in sqlite_copy.audit(kept=kept).failures] == [("history", None)]


def test_missing_checkpoint_is_a_broken_history(sqlite_copy: Copy) -> None:
    """What was kept must be a checkpoint of this ledger under its key; anything else is told, not ignored."""
    kept = kept_checkpoint(sqlite_copy)
    for wrong in ("", "x", kept.replace("\n\n", "\n"), kept[:-8] + "AAAAAA=\n", kept.replace(ORIGIN, ORIGIN + "2")):
        assert "history" in {failure.check for failure in sqlite_copy.audit(kept=wrong).failures}, wrong


def test_missing_triggers_are_found(copy: Copy) -> None:
    """A record that can be changed is reported even before anyone changes it."""
    engine = open_engine(copy.url)
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql("ALTER TABLE posting DISABLE TRIGGER posting_append_only")
        else:
            connection.exec_driver_sql("DROP TRIGGER posting_refuses_delete")
    engine.dispose()
    (failure,) = copy.audit().failures
    assert (failure.check, failure.seq) == ("append_only", None)
    assert "posting" in failure.message


def test_forged_signature_is_found_by_other_processes(sqlite_copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which process verifies a signature makes no difference."""
    monkeypatch.setattr(audit, "_INLINE_SIGNATURES", 0)
    insider = Insider(sqlite_copy)
    forge_signature(insider)
    insider.rewrite()
    assert first_failure(sqlite_copy.audit(processes=1)) == ("signatures", sqlite_copy.names["transfer"])


def test_the_earlier_of_two_edits_is_named_first(sqlite_copy: Copy) -> None:
    """A bad signature early on is not hidden by the entry at which the replay stopped."""
    insider = Insider(sqlite_copy)
    forge_signature(insider)
    invent_postings(insider)
    insider.rewrite()
    failures = [(failure.check, failure.seq) for failure in sqlite_copy.audit().failures]
    names = sqlite_copy.names
    assert failures == [("signatures", names["transfer"]), ("rules", names["last"])]


def test_truncated_ledger_does_not_fit_its_checkpoint(sqlite_copy: Copy) -> None:
    """Cutting the tail off with the head made to fit is caught by the checkpoint, which only the log key can renew."""
    with sqlite3.connect(str(make_url(sqlite_copy.url).database)) as connection:
        (kept,) = connection.execute("SELECT checkpoint FROM head").fetchone()
    connection.close()
    insider = Insider(sqlite_copy)
    insider.entries = insider.entries[:-1]
    insider.rewrite(lambda _: str(kept))
    assert first_failure(sqlite_copy.audit()) == ("checkpoint", sqlite_copy.names["last"])


def test_emptied_ledger_does_not_pass(sqlite_copy: Copy) -> None:
    """A database without any entry, whose head says so too, has nothing in it that is sound."""
    empty = "; ".join(f"DELETE FROM {table}" for table in METADATA.tables if table not in {"head", *NOT_THE_LEDGERS})
    sqlite_copy.execute(f"{empty}; UPDATE head SET size = 0, compact_range = :empty, last_time = ''", **VALUES)
    assert first_failure(sqlite_copy.audit()) == ("chain", 0)


def note_of(key: Ed25519PrivateKey, size: int, root: bytes, origin: str = ORIGIN) -> str:
    return sign_checkpoint(Checkpoint(origin=origin, size=size, root=root), key)


CHECKPOINTS: list[tuple[str, Callable[[Ed25519PrivateKey, int, bytes], str]]] = [
    ("another key", lambda _key, size, root: note_of(STRANGER, size, root)),
    ("one entry fewer", lambda key, size, root: note_of(key, size - 1, root)),
    ("one entry more", lambda key, size, root: note_of(key, size + 1, root)),
    ("another root", lambda key, size, root: note_of(key, size, root[::-1])),
    ("another origin", lambda key, size, root: note_of(key, size, root, "ledger.example/other")),
    ("no signature", lambda key, size, root: note_of(key, size, root).partition("\n\n")[0] + "\n\n"),
    ("signature of other text", lambda key, size, root: note_of(key, size, root).replace(f"\n{size}\n", "\n1\n")),
    ("extension line", lambda key, size, root: note_of(key, size, root).replace("\n\n", "\nmore\n\n")),
    ("control character", lambda key, size, root: "\x1b" + note_of(key, size, root)),
]


@pytest.mark.parametrize(("wrong", "make"), CHECKPOINTS, ids=[row[0] for row in CHECKPOINTS])
def test_checkpoint_that_does_not_fit_is_found(
    sqlite_copy: Copy, wrong: str, make: Callable[[Ed25519PrivateKey, int, bytes], str]
) -> None:
    """The checkpoint must be the log key's, of this ledger, for this size and this root."""
    insider, report = Insider(sqlite_copy), sqlite_copy.audit()
    note = make(insider.log_key, report.size, bytes.fromhex(report.root))
    sqlite_copy.execute("UPDATE head SET checkpoint = :note", note=note)
    (failure,) = sqlite_copy.audit().failures
    assert failure.check == "checkpoint"
    first_failure(sqlite_copy.audit())


# Going on


RESUMED = {
    "changed record": ("UPDATE claim SET status = 'cancelled' WHERE seq = {new}", "new"),
    "changed record deleted": ("DELETE FROM spending WHERE seq = {new}", "new"),
    "record that was there before deleted": ("DELETE FROM claim WHERE seq = {coin_transfer}", None),
    "record added": (
        "INSERT INTO usage SELECT ledger_id, 'z', account, period, points FROM usage WHERE account = '*'",
        None,
    ),
    "agreement changed before": ("UPDATE agreement SET ends = NULL WHERE agreement LIKE 'COIN+%'", "agree_earning"),
    "obligation changed before": ("UPDATE obligation SET amount = amount + 1 WHERE netting = {net}", None),
}


@pytest.fixture(scope="module")
def resumable(tmp_path_factory: pytest.TempPathFactory) -> tuple[Sound, AuditState]:
    """A ledger that has grown since its last audit, and what that left."""
    kept: list[AuditState] = []
    folder = tmp_path_factory.mktemp("resumable")
    with World(f"sqlite:///{folder / 'ledger.sqlite'}", seed=SEED) as world:
        names = trade(world)
        assert audit_database(world.store, processes=0, keep=kept.append).ok
        ann = world.wallet(names["ann"], *names["ann_keys"])
        (new,) = world.record(ann.sign(Redeem, amount=20, asset="COIN", merchant=names["bakery"]))
    return Sound(world.url, names | {"new": new.seq}), kept[0]


def test_audit_goes_on_from_the_records_it_knew(resumable: tuple[Sound, AuditState], tmp_path: Path) -> None:
    """Of what grows with the chain only that which has changed is read again, and it is counted."""
    sound, state = resumable
    copy = copy_sqlite(sound, tmp_path)
    report, whole = copy.audit(resume=state), copy.audit()
    assert report.failures == whole.failures == ()
    assert 0 < report.counts["projections"] < whole.counts["projections"] - 20


@pytest.mark.parametrize("edit", RESUMED)
def test_audit_that_goes_on_finds_what_was_done_to_records(
    resumable: tuple[Sound, AuditState], tmp_path: Path, edit: str
) -> None:
    """What entries have changed since, rows that are gone or added, and whatever is small enough to look at whole."""
    sound, state = resumable
    copy = copy_sqlite(sound, tmp_path)
    statement, entry = RESUMED[edit]
    copy.execute(statement)
    expected = ("projections", None if entry is None else sound.names[entry])
    assert first_failure(copy.audit(resume=state)) == expected
    assert not copy.audit().ok


def test_overdraft_is_found_even_if_the_rules_let_it_pass(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Balances are looked at with other eyes than the rules': a fault in the one is seen by the other."""
    shop = world.add_merchant()
    world.add_asset(shop)
    alice, bob = world.add_members(2)
    monkeypatch.setattr(movements, "spendable", lambda *_: 1)
    monkeypatch.setattr(movements, "split", lambda _parts, amount: ([(NO_LAST_DAY, amount)], []))
    (overdrawn,) = world.record(pay(alice, "STAR", 1, bob))
    assert first_failure(audit_database(world.store, processes=0)) == ("balances", overdrawn.seq)
