"""Ledgers that are tampered with: a sound one, copies of it, and an insider who recomputes all that follows.

A :class:`Copy` takes SQL that the triggers do not see. An :class:`Insider` has the database, the log's key and the
operator's: entries are changed at will, and everything that follows from their bytes is stored and signed anew. Trees
and tiles come from a naive reference.
"""

import base64
import hashlib
import json
import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import make_url

from ledger import merkle
from ledger.audit import AuditReport, Terms
from ledger.audit_database import audit_database
from ledger.checkpoint import Checkpoint, encode_verifier_key, sign_checkpoint
from ledger.encoding import format_time
from ledger.entries import NO_LAST_DAY
from ledger.keys import encode_public_key
from ledger.operations import (
    CancelRecovery,
    EndPlan,
    Expire,
    FormPool,
    LeavePool,
    OpenAccount,
    PublishProgram,
    RecordPurchases,
    Redeem,
    Refund,
    Remind,
    ReplaceLogKey,
    ReviewTiers,
    StartPlan,
    Transfer,
)
from ledger.program_terms import ExpiresAfterDays, Reminders
from ledger.store import Store, open_engine
from ledger.terms import Purchase, PurchaseLine, Recipient, RefundedPurchase, Value
from tests.naive import canonical, naive_tiles
from tests.partners import trade
from tests.roastery import Roastery
from tests.worlds import ORIGIN, World, make_program, pay

SEED = 7
KEPT_DAYS = 30
LATE_MS = 60_000
TERMS = Terms.__struct_fields__

Entries = list[dict[str, Any]]


def build(url: str) -> dict[str, Any]:
    """A ledger with every kind of operation, a full tile and lots of all sorts; what tests call its parts."""
    with World(url, seed=SEED) as world:
        names: dict[str, Any] = {"open_merchant": 1}
        shop = world.add_merchant()
        names["define_asset"] = 2
        world.add_asset(shop, "STAR", supply_cap=10**6, value=Value(amount=1, currency="USD", points=100))
        names["publish_program"] = 3
        world.add_asset(shop, "MILE", make_program(expiry=ExpiresAfterDays(count=KEPT_DAYS)))
        alice, bob = world.add_members(2)
        names["open_custodial"] = add_accounts(world, shop)
        start = world.clock.now_ms
        purchases = tuple(
            Purchase(amount=2_550 * i, at=format_time(start - i), member=str(member.account), order=f"o-{i}")
            for i, member in enumerate((alice, bob, alice))
        )
        (bought,) = world.record(shop.sign(RecordPurchases, asset="MILE", currency="USD", purchases=purchases))
        names["purchases"] = bought.seq
        names["grant"] = world.grant(shop, "STAR", alice, 100).seq
        recipients = (Recipient(amount=30, to=str(bob.account)), Recipient(amount=20, to=str(shop.account)))
        late = format_time(start + LATE_MS)
        (moved,) = world.record(alice.sign(Transfer, asset="STAR", recipients=recipients, expires=late))
        names["transfer"] = moved.seq
        (spent,) = world.record(bob.sign(Redeem, asset="STAR", amount=5, merchant=shop.account, reference="bill-1"))
        names["redeem"] = spent.seq
        later = make_program(currency="USD", round_points="up")
        world.record(
            shop.sign(PublishProgram, asset="STAR", version=2, starts=format_time(start), program=later),
            pay(alice, "MILE", 7, bob),
        )
        names |= change_keys(world, alice)
        world.clock.advance(days=KEPT_DAYS + 1)
        due = format_time(world.clock.now_ms - 86_400_000)[:10]
        (gone,) = world.record(world.operator.sign(Expire, asset="MILE", through=due, limit=1))
        names["expire"] = gone.seq
        names |= trade(world)
        names |= join_club(world)
        world.record(*(world.open_member(world.make_key()) for _ in range(merkle.TILE_WIDTH)))
        (last,) = world.record(pay(bob, "STAR", 1, alice))
        names["last"], names["size"] = last.seq, last.seq + 1
        return names | {"alice": alice.account, "bob": bob.account, "shop": shop.account}


def join_club(world: World) -> dict[str, Any]:
    """What members of a program do, and what time does to them; what tests call its parts."""
    roastery = Roastery(world, "CLUB")
    shop, gus, eve = roastery.shop, roastery.gus, roastery.eve
    world.add_asset(shop, "NEWS", make_program(reminders=Reminders(balance="year")))
    world.grant(shop, "NEWS", eve, 5)
    plan: dict[str, Any] = {"asset": "CLUB", "member": eve.account}
    world.record(
        shop.sign(StartPlan, plan="plus", reference="P-2", **plan),
        shop.sign(EndPlan, reason="refunded", **plan),
        eve.sign(FormPool, asset="CLUB", members=(gus.account,), co_signers=gus.keys),
        gus.sign(LeavePool, asset="CLUB"),
    )
    lines = (PurchaseLine(amount=300), PurchaseLine(amount=200, category="beans"))
    roastery.buy(gus, 500, "G-2", lines=lines)
    world.clock.advance(days=100)
    told, _, _ = world.record(
        shop.sign(Remind, about="balance", asset="NEWS", members=[eve.account]),
        shop.sign(ReviewTiers, asset="CLUB", members=[gus.account]),
        shop.sign(Refund, asset="CLUB", of=RefundedPurchase(amount=100, order="G-2"), reference="G-2/1"),
    )
    return {"mug": roastery.mug.seq, "remind": told.seq, "eve": eve.account}


def change_keys(world: World, alice: Any) -> dict[str, Any]:
    """Operations that say who may sign: a member's keys, a recovery that ends and one that does not, the log's key."""
    carol, dave = world.add_members(2)
    carol_key, dave_key, log_key = (world.make_key() for _ in range(3))
    (rotated,) = world.record(carol.replace_keys([carol_key, *carol.keys], 2))
    world.record(world.recover(alice, world.make_key()))
    world.record(alice.sign(CancelRecovery, account=alice.account))
    (recovering,) = world.record(world.recover(dave, dave_key))
    world.restart(log_key, world.log_key)
    old = world.make_sequencer(world.log_key, log_key)
    with old:
        replace = world.operator.sign(ReplaceLogKey, log_key=encode_verifier_key(ORIGIN, log_key))
        (replaced,) = old.submit([replace]).result()
    return {
        "carol": carol.account,
        "dave": dave.account,
        "open_dave": rotated.seq - 1,
        "replace_keys": rotated.seq,
        "recover_keys": recovering.seq,
        "replace_log_key": replaced.seq,  # type: ignore[union-attr]
        "log_key": log_key,
    }


def add_accounts(world: World, shop: Any) -> int:
    """Open accounts of a charity, an auditor and a member in custody; the entry of the last."""
    opened = []
    for role in ("beneficiary", "auditor"):
        key = world.make_key()
        keys = (encode_public_key(key),)
        opened.append(world.operator.sign(OpenAccount, co_signers=[key], role=role, name=role.title(), keys=keys))
    return world.record(*opened, shop.sign(OpenAccount, role="member"))[-1].seq


class Sound:
    """A sound ledger made once, of which every test gets a copy of its own to break."""

    def __init__(self, url: str, names: dict[str, Any] | None = None) -> None:
        self.url = url
        self.names = build(url) if names is None else names


class Copy:
    """A copy of the sound ledger: broken with SQL the triggers do not see, then audited."""

    def __init__(self, url: str, names: dict[str, Any]) -> None:
        self.url = url
        self.names = names

    def execute(self, statements: str, **values: Any) -> None:
        """Run statements, divided by semicolons, with the names of the ledger's parts filled in."""
        engine = open_engine(self.url)
        with engine.begin() as connection:
            triggers: list[Any] = []
            if engine.dialect.name == "postgresql":
                connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
            else:
                query = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"
                triggers = list(connection.exec_driver_sql(query))
                for name, _ in triggers:
                    connection.exec_driver_sql(f"DROP TRIGGER {name}")
            for statement in statements.format(**self.names).split(";"):
                used = {name: value for name, value in values.items() if f":{name}" in statement}
                result = connection.execute(sa.text(statement), used)
                assert result.rowcount != 0, f"changes nothing: {statement}"
            for _, definition in triggers:  # whoever hides an edit puts them back
                connection.exec_driver_sql(definition)
        engine.dispose()

    def audit(self, **options: Any) -> AuditReport:
        """The auditor's report of the only ledger in the database."""
        engine = open_engine(self.url)
        try:
            with engine.connect() as connection:
                origin = connection.execute(sa.text("SELECT origin FROM head")).scalar_one()
            terms = Terms(**{name: options.pop(name) for name in TERMS if name in options})
            return audit_database(Store(engine, origin), terms, **{"processes": 0} | options)
        finally:
            engine.dispose()


def copy_sqlite(sound: Sound, folder: Path) -> Copy:
    path = folder / "copy.sqlite"
    shutil.copy(str(make_url(sound.url).database), path)  # no -wal file: the last connection to close has merged it
    return Copy(f"sqlite:///{path}", sound.names)


class Insider:
    """Rewrites a copy so that chain, tree, tiles, head, checkpoint, postings and lots all fit the new entries."""

    def __init__(self, copy: Copy) -> None:
        self.path = str(make_url(copy.url).database)
        self.names = copy.names
        generator = random.Random(SEED)  # a world draws the key of the log first, then the operator's
        self.first_log_key, self.operator_key = (
            Ed25519PrivateKey.from_private_bytes(generator.randbytes(32)) for _ in range(2)
        )
        self.log_key: Ed25519PrivateKey = copy.names["log_key"]
        connection = sqlite3.connect(self.path)
        rows = connection.execute("SELECT data FROM entry ORDER BY seq").fetchall()
        connection.close()
        self.entries: Entries = [json.loads(data) for (data,) in rows]

    def entry(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.entries[self.names[name]]
        return found

    def sign(self, op: dict[str, Any], key: Ed25519PrivateKey) -> dict[str, str]:
        """A signature of an operation, valid for its bytes."""
        return signature(op, key)

    def rewrite(self, checkpoint: Callable[[str], str] = lambda note: note) -> None:
        """Store the entries in their new order, with everything that follows from their bytes."""
        tree, prev, leaves, rows, postings = merkle.CompactRange(), bytes(32), [], [], []
        lots: dict[tuple[str, str, str], int] = {}
        for seq, entry in enumerate(self.entries):
            op = entry["op"]
            data = canonical(entry | {"seq": seq, "prev": prev.hex()})
            prev = hashlib.sha256(b"\x00" + data).digest()
            tree.append(prev)
            leaves.append(prev)
            op_id = hashlib.sha256(canonical(op)).digest()
            rows.append((1, seq, prev, op_id, op["kind"], op.get("actor"), entry["time"], data))
            for leg, p in enumerate(entry["postings"]):
                key = (p["account"], p["asset"], p.get("lot", NO_LAST_DAY))
                lots[key] = lots.get(key, 0) + p["amount"]
                postings.append((1, seq, leg, *key, p["amount"]))
        note = sign_checkpoint(Checkpoint(origin=ORIGIN, size=len(rows), root=tree.root()), self.log_key)
        connection = sqlite3.connect(self.path)
        triggers = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        # Without constraints, so that an operation can be stored twice.
        connection.execute("CREATE TABLE free AS SELECT * FROM entry WHERE false")
        connection.executescript("DROP TABLE entry; ALTER TABLE free RENAME TO entry; DELETE FROM posting")
        connection.executescript("DELETE FROM tile; DELETE FROM lot")
        connection.executemany("INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        connection.executemany("INSERT INTO posting VALUES (?, ?, ?, ?, ?, ?, ?)", postings)
        kept = [(1, *key, points) for key, points in lots.items() if points]
        connection.executemany("INSERT INTO lot VALUES (?, ?, ?, ?, ?)", kept)
        tiles = [(1, *key, *tile) for key, tile in naive_tiles(leaves, merkle.TILE_WIDTH).items()]
        connection.executemany("INSERT INTO tile VALUES (?, ?, ?, ?, ?)", tiles)
        connection.execute(
            "UPDATE head SET size = ?, last_leaf_hash = ?, last_time = ?, compact_range = ?, checkpoint = ?",
            (len(rows), prev, rows[-1][6], tree.encode(), checkpoint(note)),
        )
        for _, definition in triggers:
            connection.execute(definition)
        connection.commit()
        connection.close()


def signature(op: dict[str, Any], key: Ed25519PrivateKey) -> dict[str, str]:
    """A signature of an operation, valid for its bytes."""
    sig = base64.urlsafe_b64encode(key.sign(b"guerdon operation v1\n" + canonical(op))).rstrip(b"=").decode()
    return {"key": encode_public_key(key), "sig": sig}
