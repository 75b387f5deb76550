"""Measures Guerdon in ratios, on SQLite and on PostgreSQL, in one run.

Absolute figures say something about the machine; ratios within one run say something about the program:

a  Ed25519 verifications per second on all cores with the library in use: the ceiling of signed work
b  a no-op mutation on stock ``strawberry.asgi.GraphQL``, one process, 32 clients
c  single signed transfers over HTTP, one process, 32 clients
d  bulk of one-transfer operations through ``operationsSubmit``, one process per core
e  purchases in operations of 100, through ``operationsSubmit``, one process per core
f  audit from genesis of the ledger that came of c and d: every entry replayed, every signature verified
g  pgbench's TPC-B on the same PostgreSQL server, 32 clients
h  light audit of the same ledger: every signature verified, no rules; and what it costs without the signatures
i  a page of 100 entries with their postings over HTTP, one client, beside the same page without GraphQL or HTTP

Then start-up time and memory of the server on a short and on a long chain, and an audit of the long chain that goes on
where the last one ended. The load comes from a process of its own
on the same machine, so every figure over HTTP includes the client's share of the cores.
"""

import argparse
import asyncio
import hashlib
import json
import multiprocessing
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import orjson
import strawberry
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import Struct
from strawberry.asgi import GraphQL

from api.client import open_session
from api.opening import system_clock
from ledger import log, migrations, queries
from ledger.audit import AuditReport
from ledger.audit_database import audit_database
from ledger.audit_state import AuditState
from ledger.checkpoint import encode_verifier_key
from ledger.entries import decode_entry
from ledger.keyring import save_private_key
from ledger.keys import decode_public_key, encode_public_key, verify_raw
from ledger.operations import (
    DefineAsset,
    Genesis,
    Grant,
    OpenAccount,
    PublishProgram,
    RecordPurchases,
    SignedOperation,
    Transfer,
)
from ledger.program_terms import Band, ExpiresAfterMonths, GrantRule, Program
from ledger.queries import Page
from ledger.replay import FullReplay, LightReplay
from ledger.sequencer import Recorded, Sequencer, account_opened_by, create_ledger
from ledger.store import Store, open_engine
from ledger.terms import Currency, Purchase, Recipient
from ledger.tiles import tiles_of
from ledger.wallet import Wallet, encode_document
from tests.postgres import running_postgres

ORIGIN = "localhost/bench"
ASSET = "STAR"
CORES = os.cpu_count() or 1
CLIENTS = 32
BULK = 1_000
PURCHASES = 100
OPERATIONS_PER_PURCHASE_REQUEST = 40
MEMBERS = 200

TRANSFER = """mutation T($input: TransferSubmitInput!) {
  transferSubmit(input: $input) { entry { seq hash } replayed userErrors { code message } }
}"""
BULK_SUBMIT = """mutation B($operations: [SignedOperation!]!) {
  operationsSubmit(input: {operations: $operations}) { results { seq userErrors { code message } } userErrors { code } }
}"""
PAGE = """query P($after: String) {
  entries(first: 100, after: $after) {
    nodes { id seq hash time kind actorId operationId postings { accountId asset amount lastDay } }
    pageInfo { endCursor hasNextPage }
  }
}"""
NO_OP = "mutation N($text: String!) { noOp(text: $text) { ok } }"

PROGRAM = Program(
    bands=(Band(from_amount=0, points=1, per=100), Band(from_amount=10_000, points=2, per=100)),
    currency="USD",
    expiry=ExpiresAfterMonths(count=24),
    grants=(GrantRule(activity="goodwill", max_points=10**9),),
    round_amount="none",
    round_points="down",
    time_zone="Europe/Paris",
)


@strawberry.type
class Done:
    """What the no-op answers."""

    ok: bool


@strawberry.type
class NoQuery:
    """A schema needs a query."""

    ok: bool = True


@strawberry.type
class NoOpMutation:
    """The least a mutation can do."""

    @strawberry.mutation
    async def no_op(self, text: str) -> Done:
        """Answer."""
        return Done(ok=bool(text))


def stock() -> GraphQL:
    """Stock Strawberry, for figure b."""
    return GraphQL(strawberry.Schema(NoQuery, NoOpMutation))


class World(Struct, frozen=True, kw_only=True):
    """A ledger with members who have points, and all keys."""

    store: Store
    log_key: Ed25519PrivateKey
    log_key_file: Path
    operator: Wallet
    merchant: Wallet
    members: tuple[Wallet, ...]


def make_world(url: str, folder: Path) -> World:
    """Found a ledger on a database and give every member points."""
    log_key, operator_key, merchant_key = (Ed25519PrivateKey.generate() for _ in range(3))
    log_key_file = folder / f"{hashlib.sha256(url.encode()).hexdigest()[:8]}.pem"
    save_private_key(log_key_file, log_key, None)
    engine = open_engine(url)
    migrations.migrate(engine)
    store = Store(engine, ORIGIN)
    founder = Wallet(ORIGIN, None, [operator_key], system_clock)
    genesis = founder.sign(
        Genesis,
        clock_tolerance_ms=30_000,
        currencies=(Currency(code="USD", scale=2),),
        keys=(encode_public_key(operator_key),),
        log_key=encode_verifier_key(ORIGIN, log_key),
        name="Bench",
    )
    operator = Wallet(
        ORIGIN, account_opened_by(create_ledger(store, genesis, log_key, system_clock)), [operator_key], system_clock
    )
    with Sequencer(store, log_key, system_clock) as sequencer:
        opening = operator.sign(
            OpenAccount,
            co_signers=[merchant_key],
            role="merchant",
            name="Shop",
            keys=(encode_public_key(merchant_key),),
        )
        merchant = Wallet(ORIGIN, account_opened_by(record(sequencer, [opening])[0]), [merchant_key], system_clock)
        record(sequencer, [merchant.sign(DefineAsset, asset=ASSET, name="Stars", scale=0, transferable=True)])
        starts = "2020-01-01T00:00:00.000Z"
        record(sequencer, [merchant.sign(PublishProgram, asset=ASSET, version=1, starts=starts, program=PROGRAM)])
        keys = [Ed25519PrivateKey.generate() for _ in range(MEMBERS)]
        strangers = [Wallet(ORIGIN, None, [key], system_clock) for key in keys]
        openings = [
            wallet.sign(OpenAccount, role="member", keys=(encode_public_key(key),))
            for wallet, key in zip(strangers, keys, strict=True)
        ]
        accounts = [account_opened_by(recorded) for recorded in record(sequencer, openings)]
        members = tuple(Wallet(ORIGIN, a, [k], system_clock) for a, k in zip(accounts, keys, strict=True))
        grants = [
            merchant.sign(
                Grant, asset=ASSET, member=wallet.account, amount=10**8, activity="goodwill", reference=f"start-{i}"
            )
            for i, wallet in enumerate(members)
        ]
        record(sequencer, grants)
    return World(
        store=store,
        log_key=log_key,
        log_key_file=log_key_file,
        operator=operator,
        merchant=merchant,
        members=members,
    )


def record(sequencer: Sequencer, operations: Sequence[SignedOperation]) -> list[Recorded]:
    """Record operations that must all be admitted."""
    recorded = []
    for outcome in sequencer.submit(operations).result():
        if not isinstance(outcome, Recorded):
            sys.exit(f"bench: {outcome}")
        recorded.append(outcome)
    return recorded


def make_transfers(world: World, count: int) -> list[SignedOperation]:
    """Signed transfers of one point between members taken at random."""
    transfers = []
    for _ in range(count):
        sender, receiver = random.sample(world.members, 2)
        recipients = (Recipient(to=str(receiver.account), amount=1),)
        transfers.append(sender.sign(Transfer, asset=ASSET, recipients=recipients))
    return transfers


def make_purchases(world: World, operations: int) -> list[SignedOperation]:
    """Signed operations of 100 purchases each, of members and amounts taken at random."""
    at = "2026-06-15T10:00:00.000Z"
    run = os.urandom(6).hex()
    return [
        world.merchant.sign(
            RecordPurchases,
            asset=ASSET,
            currency="USD",
            purchases=tuple(
                Purchase(
                    amount=random.randrange(1, 50_000),
                    at=at,
                    member=str(random.choice(world.members).account),
                    order=f"{run}-{i}-{j}",
                )
                for j in range(PURCHASES)
            ),
        )
        for i in range(operations)
    ]


def verification_ceiling(seconds: int) -> float:
    """Verifications per second of operation-sized messages, one process per core."""
    with multiprocessing.get_context("spawn").Pool(CORES) as pool:
        pool.map(verify_for, [0] * CORES)  # started, imported and warm
        return sum(pool.map(verify_for, [seconds] * CORES, chunksize=1))


def verify_for(seconds: int) -> float:
    """Verifications per second of this process."""
    key = Ed25519PrivateKey.generate()
    public = decode_public_key(encode_public_key(key))
    message = os.urandom(320)
    signature = key.sign(message)
    end = time.perf_counter_ns() + max(seconds * 10**9, 10**8)
    start, done = time.perf_counter_ns(), 0
    while time.perf_counter_ns() < end:
        for _ in range(100):
            if not verify_raw(public, signature, message):
                sys.exit("bench: a valid signature did not verify")
        done += 100
    return done * 1e9 / (time.perf_counter_ns() - start)


@contextmanager
def serving(application: str, environment: dict[str, str], workers: int) -> Iterator[tuple[int, int, float]]:
    """A uvicorn server in processes of its own: its port, process id and seconds until its first answer."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", application, "--factory", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", str(workers), "--log-level", "error", "--no-access-log"]
    started = time.perf_counter()
    server = subprocess.Popen(command, env={**os.environ, **environment})
    try:
        wait_until_open(port)
        yield port, server.pid, time.perf_counter() - started
    finally:
        server.terminate()
        server.wait(30)


def wait_until_open(port: int) -> None:
    """Return when the server accepts connections."""
    for _ in range(3_000):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.01)
        else:
            return
    sys.exit("bench: the server did not start")


def http_request(query: str, variables: object, headers: str = "") -> bytes:
    """A whole HTTP request, made before the clock runs."""
    body = json.dumps({"query": query, "variables": variables}).encode()
    head = "POST /graphql HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nAccept: application/json\r\n"
    return f"{head}{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body


def transfer_request(signed: SignedOperation) -> bytes:
    """A typed transferSubmit of a signed transfer."""
    op = signed.op
    assert isinstance(op, Transfer)
    return http_request(
        TRANSFER,
        {
            "input": {
                "actor": op.actor,
                "asset": op.asset,
                "at": op.at,
                "nonce": op.nonce,
                "recipients": [{"to": r.to, "amount": r.amount} for r in op.recipients],
                "signatures": [{"key": s.key, "sig": s.sig} for s in signed.sigs],
            }
        },
    )


def bulk_requests(operations: Sequence[SignedOperation], size: int) -> list[bytes]:
    """Requests of operationsSubmit with ``size`` documents each."""
    documents = [encode_document(signed).decode() for signed in operations]
    return [http_request(BULK_SUBMIT, {"operations": documents[i : i + size]}) for i in range(0, len(documents), size)]


def load(port: int, requests: list[bytes], clients: int) -> float:
    """Requests per second of so many clients on kept-alive connections, sent from another process."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(run_clients, (port, requests, clients))


def run_clients(port: int, requests: list[bytes], clients: int) -> float:
    """Send all requests, as many at a time as there are clients; stop at the first answer with an error in it."""

    async def client(waiting: list[bytes]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**24)
        while waiting:
            writer.write(waiting.pop())
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            body = await reader.readexactly(length)
            if not head.startswith(b"HTTP/1.1 200") or b'"errors"' in body or b'"code"' in body:
                sys.exit(f"bench: {head!r} {body[:2_000]!r}")
        writer.close()

    async def run() -> float:
        waiting = list(requests)
        started = time.perf_counter()
        await asyncio.gather(*(client(waiting) for _ in range(clients)))
        return len(requests) / (time.perf_counter() - started)

    return asyncio.run(run())


def environment_of(url: str, world: World) -> dict[str, str]:
    """Settings of a server on a world."""
    return {
        "GUERDON_DATABASE_URL": url,
        "GUERDON_ORIGIN": ORIGIN,
        "GUERDON_LOG_KEY_FILE": str(world.log_key_file),
    }


def show(letter: str, what: str, rate: float, unit: str, note: str = "") -> None:
    """One line of the result."""
    print(f"  {letter:<2} {what:<52} {rate:>10,.0f} {unit:<14} {note}", flush=True)


def ratio(rate: float, base: float, letter: str, aim: str) -> str:
    """A rate as a share of another, with what is aimed at."""
    return f"{rate / base:.2f} of ({letter}), aim {aim}"


def measure_database(name: str, url: str, folder: Path, *, ceiling: float, no_op: float, scale: int) -> None:
    """Figures c to f on one database."""
    print(f"\n{name}")
    world = make_world(url, folder)
    environment = environment_of(url, world)
    singles = [transfer_request(signed) for signed in make_transfers(world, 4_000 * scale)]
    with serving("api.app:from_environment", environment, 1) as (port, _, _):
        load(port, singles[:200], CLIENTS)
        rate = load(port, singles[200:], CLIENTS)
        page = page_ms(port, world)
    bare = bare_page_ms(world.store)
    show("c", "single signed transfers over HTTP, 1 process", rate, "transfers/s", ratio(rate, no_op, "b", "1.00"))
    show(
        "i", "pages of 100 entries over HTTP, 1 client", 1_000 / page, "pages/s", f"{page / bare:.2f} x bare, aim 2.00"
    )
    bulk = bulk_requests(make_transfers(world, 24_000 * scale), BULK)
    with serving("api.app:from_environment", environment, CORES) as (port, _, _):
        load(port, bulk[:4], CORES)
        rate = load(port, bulk[4:], 4 * CORES) * BULK
    show("d", f"transfers in bulk, {CORES} processes", rate, "transfers/s", ratio(rate, ceiling, "a", "0.50"))
    started = time.perf_counter()
    report: AuditReport = audit_database(world.store)
    audited = report.counts["signatures"] / (time.perf_counter() - started)
    if not report.ok:
        sys.exit(f"bench: the audit failed: {report.failures}")
    started = time.perf_counter()
    light = audit_database(world.store, light=True)
    lightly = light.counts["signatures"] / (time.perf_counter() - started)
    unsigned = {"light": replay_us(world.store, LightReplay), "full": replay_us(world.store, FullReplay)}
    purchases = bulk_requests(make_purchases(world, 1_000 * scale), OPERATIONS_PER_PURCHASE_REQUEST)
    with serving("api.app:from_environment", environment, CORES) as (port, _, _):
        load(port, purchases[:4], CORES)
        rate = load(port, purchases[4:], 4 * CORES) * PURCHASES * OPERATIONS_PER_PURCHASE_REQUEST
    show("e", f"purchases in hundreds, {CORES} processes", rate, "purchases/s", ratio(rate, ceiling, "a", "2.00"))
    what = f"audit from genesis of the {report.size:,} entries of c and d"
    show("f", what, audited, "signatures/s", ratio(audited, ceiling, "a", "0.80"))
    show("h", "light audit of the same", lightly, "signatures/s", ratio(lightly, ceiling, "a", "0.80"))
    for kind, us in unsigned.items():
        print(f"     {kind} replay without signatures: {us:.1f} µs an entry", flush=True)
    world.store.engine.dispose()


def replay_us(store: Store, kind: type[LightReplay]) -> float:
    """Microseconds of one core that an entry takes to be replayed, read from the database, without its signatures."""
    replay = kind(store.origin, lambda *_: None)
    started = time.process_time()
    with store.read() as connection:
        bundles = [tile for tile in tiles_of(store.head(connection).size) if tile.level == 0]
        for bundle in bundles:
            for data in log.read_bundle(store, connection, bundle):
                replay.add(data)
    return (time.process_time() - started) * 1e6 / replay.size


def page_ms(port: int, world: World) -> float:
    """Milliseconds for a page of entries over HTTP, for one who may see all of them."""
    url = f"http://127.0.0.1:{port}/graphql"
    token = open_session(url, str(world.operator.account), world.operator.keys)
    request = http_request(PAGE, {"after": None}, f"Authorization: Bearer {token}\r\n")
    run_clients(port, [request] * 20, 1)
    return 1_000 / run_clients(port, [request] * 200, 1)


def bare_page_ms(store: Store) -> float:
    """Milliseconds for the same page: the statement, the entries' bytes read, JSON written."""
    sight = queries.ALL
    started, times = time.perf_counter(), 200
    for _ in range(times):
        with store.read() as connection:
            page = Page(limit=101, after=None, before=None, from_end=False)
            found = queries.entries(store, connection, queries.EntryFilter(), sight, page)
        nodes = [
            {
                "id": f"ent_{stored.seq}",
                "seq": stored.seq,
                "hash": stored.leaf_hash.hex(),
                "time": entry.time,
                "kind": entry.op.KIND,
                "actorId": getattr(entry.op, "actor", None),
                "operationId": stored.op_id.hex(),
                "postings": [
                    {"accountId": leg.account, "asset": leg.asset, "amount": leg.amount, "lastDay": leg.lot}
                    for leg in entry.postings
                ],
            }
            for stored, entry in ((stored, decode_entry(stored.data)) for stored in found[:100])
        ]
        orjson.dumps({"data": {"entries": {"nodes": nodes}}})
    return (time.perf_counter() - started) * 1_000 / times


def measure_pgbench(programs: Path, host: str, seconds: int) -> None:
    """Figure g."""
    target = ["-h", host, "-U", "guerdon", "postgres"]
    subprocess.run([programs / "pgbench", "-i", "-q", "-s", "10", *target], check=True, capture_output=True)
    run = [str(programs / "pgbench"), "-c", str(CLIENTS), "-j", str(CORES), "-T", str(seconds), *target]
    output = subprocess.run(run, check=True, capture_output=True, text=True).stdout
    rate = float(next(line for line in output.splitlines() if line.startswith("tps")).split()[2])
    show("g", "pgbench TPC-B on the same server", rate, "transactions/s", "for scale: one transfer is one transaction")


def measure_start(folder: Path, sizes: Sequence[int]) -> None:
    """Start-up time and resident memory of one server process on chains of several lengths."""
    print("\nserver start on SQLite by length of the chain")
    world = make_world(f"sqlite:///{folder / 'start.sqlite'}", folder)
    environment = environment_of(f"sqlite:///{folder / 'start.sqlite'}", world)
    for size in sizes:
        grow(world, size)
        starts, memory = [], 0
        for _ in range(3):
            with serving("api.app:from_environment", environment, 1) as (port, pid, seconds):
                request = http_request("{ ledger { size } }", {})
                run_clients(port, [request] * 50, 1)
                starts.append(seconds)
                memory = resident_kib(pid)
        print(f"     {size:>9,} entries: {min(starts):.2f} s, {memory // 1024} MiB", flush=True)
    measure_going_on(world)
    world.store.engine.dispose()


def measure_going_on(world: World) -> None:
    """What an audit takes from genesis, and for 1,000 new entries from where that one ended."""
    print("\naudit on SQLite that goes on from the last one")
    for light in (True, False):
        kept: list[AuditState] = []
        for what in ("from genesis", "going on"):
            started = time.perf_counter()
            resume = kept[-1] if kept else None
            report = audit_database(world.store, light=light, resume=resume, keep=kept.append)
            if not report.ok:
                sys.exit(f"bench: the audit failed: {report.failures}")
            kind = "light" if light else "full"
            read = report.size - report.first
            taken = time.perf_counter() - started
            print(f"     {kind:<5} {what:<13} {read:>9,} of {report.size:,} entries read: {taken:.2f} s", flush=True)
            if resume is None:
                grow(world, report.size + 1_000)


def grow(world: World, size: int) -> None:
    """Add transfers until the chain has ``size`` entries."""
    with world.store.read() as connection:
        missing = size - world.store.head(connection).size
    with Sequencer(world.store, world.log_key, system_clock) as sequencer:
        for start in range(0, missing, 2_000):
            record(sequencer, make_transfers(world, min(2_000, missing - start)))


def resident_kib(pid: int) -> int:
    """Resident memory of a process, from the kernel (Linux)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


def main() -> None:
    """Run all measurements and print them."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--scale", type=int, default=1, help="how much longer to measure (1)")
    parser.add_argument("--long", type=int, default=1_000_000, help="entries of the long chain (1,000,000; 0 for none)")
    parser.add_argument("--databases", choices=["sqlite", "postgresql", "both"], default="both")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="guerdon-bench-")))
        print(f"{CORES} cores, Python {sys.version.split()[0]}")
        ceiling = verification_ceiling(2 * arguments.scale)
        show("a", "Ed25519 verifications, all cores", ceiling, "signatures/s")
        with serving("scripts.bench:stock", {}, 1) as (port, _, _):
            requests = [http_request(NO_OP, {"text": "x"})] * (4_000 * arguments.scale)
            load(port, requests[:200], CLIENTS)
            no_op = load(port, requests, CLIENTS)
        show("b", "no-op mutation, stock strawberry.asgi, 1 process", no_op, "requests/s")
        if arguments.databases in {"sqlite", "both"}:
            url = f"sqlite:///{folder / 'bench.sqlite'}"
            measure_database(
                "SQLite (WAL, synchronous=FULL)", url, folder, ceiling=ceiling, no_op=no_op, scale=arguments.scale
            )
        if arguments.databases in {"postgresql", "both"}:
            postgres, programs = stack.enter_context(running_postgres(options=()))
            url = postgres.render_as_string()
            measure_database(
                "PostgreSQL 18 (defaults)", url, folder, ceiling=ceiling, no_op=no_op, scale=arguments.scale
            )
            measure_pgbench(programs, str(postgres.query["host"]), 5 * arguments.scale)
        if arguments.long:
            measure_start(folder, [10_000, arguments.long])


if __name__ == "__main__":
    main()
