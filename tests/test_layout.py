"""The dependency rule: imports point one way, and what is pure stays pure.

Imports are read from the source, so a violation fails here before anything runs.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# What each pure module imports of the others: design.md section 2, and nothing more.
PURE: dict[str, set[str]] = {
    "encoding": set(),
    "keys": {"encoding"},
    "merkle": set(),
    "terms": {"encoding"},
    "personal_data": {"encoding", "terms"},
    "program_terms": {"encoding", "terms"},
    "operations": {"encoding", "keys", "program_terms", "terms"},
    "entries": {"encoding", "merkle", "operations", "terms"},
    "checkpoint": {"encoding", "keys", "merkle"},
    "tiles": {"entries", "merkle"},
    "receipt": {"checkpoint", "encoding", "entries", "merkle"},
    "amounts": {"encoding"},
    "programs": {"encoding", "entries", "program_terms", "terms"},
    "standing": {"entries", "program_terms", "programs"},
    "state": {"encoding", "entries", "operations", "programs", "terms"},
    "calculation": {"amounts", "encoding", "program_terms", "programs", "state", "terms"},
    "voucher_codes": {"encoding"},
    "refusals": {"encoding", "programs", "state"},
    "movements": {"encoding", "entries", "program_terms", "programs", "state", "terms"},
    "participation": {"entries", "movements", "program_terms", "programs", "standing", "state"},
    "vouchers": {
        "calculation",
        "entries",
        "movements",
        "operations",
        "participation",
        "program_terms",
        "programs",
        "refusals",
        "state",
    },
    "membership": {"movements", "operations", "participation", "program_terms", "refusals", "state"},
    "pools": {"encoding", "membership", "movements", "operations", "participation", "refusals", "state"},
    "agreements": {"encoding", "movements", "operations", "refusals", "state", "terms"},
    "earning": {
        "agreements",
        "encoding",
        "entries",
        "movements",
        "operations",
        "program_terms",
        "programs",
        "refusals",
        "state",
        "terms",
    }
    | {"calculation", "participation", "vouchers"},
    "spending": {
        "agreements",
        "encoding",
        "entries",
        "movements",
        "operations",
        "pools",
        "program_terms",
        "programs",
        "refusals",
        "state",
        "terms",
        "vouchers",
    },
    "refunds": {
        "agreements",
        "earning",
        "encoding",
        "entries",
        "movements",
        "operations",
        "programs",
        "refusals",
        "state",
    }
    | {"calculation", "participation", "pools", "program_terms", "terms", "vouchers"},
    "reminders": {"amounts", "movements", "operations", "program_terms", "refusals", "state"},
    "vesting": {"earning", "movements", "operations", "refusals", "state"},
    "clearing": {"encoding", "movements", "operations", "refusals", "state", "terms"},
    "touches": {"agreements", "calculation", "movements", "operations", "program_terms", "programs", "state", "terms"}
    | {"vouchers"},
    "rules": {"agreements", "checkpoint", "clearing", "earning", "encoding", "entries", "operations", "programs"}
    | {"membership", "pools", "refunds", "refusals", "reminders", "spending", "state", "terms", "vesting"}
    | {"vouchers"},
    "replay": {"encoding", "entries", "merkle", "operations", "rules", "state", "terms", "tiles"},
    "accounting": {"encoding", "entries", "programs", "state"},
}

# What a pure module may import from outside: values in, values out. `datetime` and `zoneinfo` are calendars here
# (no clock is read, see below), and zones come from a pinned package alone.
PURE_OUTSIDE = {"base64", "binascii", "bisect", "calendar", "collections", "cryptography", "datetime", "enum"}
PURE_OUTSIDE |= {"fractions", "functools", "hashlib", "itertools", "math", "msgspec", "re", "typing", "zoneinfo"}

# The names of time zones are read from the same pinned package.
MORE_OUTSIDE = {"personal_data": {"unicodedata"}, "terms": {"importlib"}, "voucher_codes": {"hmac"}}

# The modules above them: clock, store and signer are passed in. The order is the direction of imports.
LAYERS = [
    {"bulk", "tables"},
    {"store"},
    {"migrations", "queries", "log", "cosignatures", "turns", "sequencer", "tail"}
    | {"wallet", "keyring", "verifier", "audit_state"},
    {"archive", "audit", "books", "partner_queries", "profiles", "program_queries", "purchases", "webhooks", "witness"},
    {"audit_database", "due_members", "insight", "points_statements", "published_log", "settlement"},
    {"due", "journal", "program_simulation"},
]

# Nothing of the service, the command line or their libraries is known to the ledger.
SERVICE = {"api", "strawberry", "graphql", "starlette", "uvicorn", "uvloop", "httptools", "httpx", "jwt", "typer"}
SERVICE |= {"rich", "click", "orjson", "asyncio", "socket", "http", "urllib"}

# Names of the rules that decide or change something; the store holds their records but takes no decision.
DECISIONS = {"admit", "apply", "touches", "due_lots", "spendable", "authority_of", "account_at", "new_keys"}
DECISIONS |= {"log_key_for", "Rejection", "Code"}

# Reading a clock: a name, and the attribute of it that reads.
CLOCKS = {("datetime", "now"), ("datetime", "utcnow"), ("datetime", "today"), ("date", "today"), ("time", "time")}
CLOCKS |= {("time", "time_ns"), ("time", "monotonic"), ("time", "sleep")}

LEDGER = {path.stem: path for path in (ROOT / "ledger").glob("*.py") if path.stem != "__init__"}
MIGRATIONS = sorted((ROOT / "ledger" / "migrations").rglob("*.py"))
API = sorted((ROOT / "api").rglob("*.py"))


def imports_of(source: str, package: str = "ledger") -> Iterator[tuple[str, str]]:
    """Every module imported anywhere in a source, also inside functions, with the name taken from it or ''."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = ".".join(filter(None, [package if node.level else "", node.module]))
            yield from ((module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in {"import_module", "__import__"}:
            # A computed import hides from this test: it counts as one of everything.
            argument = node.args[0] if node.args else None
            yield (str(argument.value) if isinstance(argument, ast.Constant) else "*"), ""


def outside(source: str) -> set[str]:
    """First names of the packages imported from outside of the ledger."""
    return {module.split(".")[0] for module, _ in imports_of(source)} - {"ledger"}


def inside(source: str) -> set[str]:
    """Modules of the ledger that are imported."""
    found = set()
    for module, name in imports_of(source):
        package, _, rest = module.partition(".")
        if package == "ledger":
            found.add(rest.split(".")[0] or name)
    return found


def impurities(source: str) -> list[str]:
    """Calls and names by which a module would read a clock, files, the environment or randomness."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if (node.value.id, node.attr) in CLOCKS:
                found.append(ast.unparse(node))
        elif isinstance(node, ast.Name) and node.id in {"open", "input", "print", "exec", "eval", "__import__"}:
            found.append(node.id)
        if isinstance(node, ast.Attribute) and node.attr in {"generate", "urandom", "environ"}:
            found.append(ast.unparse(node))
    return found


def read(name: str) -> str:
    return LEDGER[name].read_text("utf-8")


def test_every_module_has_its_place() -> None:
    """A new module of the ledger says here what it may import, before anything else grows on it."""
    above = set().union(*LAYERS)
    assert set(PURE) <= set(LEDGER)
    assert set(LEDGER) - set(PURE) <= above


@pytest.mark.parametrize("name", PURE)
def test_pure_module_imports_what_stands_below_it(name: str) -> None:
    """Of the ledger only the modules named above."""
    assert inside(read(name)) <= PURE[name]


def test_table_of_pure_modules_points_one_way() -> None:
    """No module imports one that stands after it, so the table has no loop, and no module itself."""
    order = list(PURE)
    for name, below in PURE.items():
        assert all(order.index(other) < order.index(name) for other in below)


@pytest.mark.parametrize("name", PURE)
def test_pure_module_has_no_clock_input_output_sql_or_randomness(name: str) -> None:
    """Only calculation is imported, and nothing is called that reads the world."""
    source = read(name)
    assert outside(source) <= PURE_OUTSIDE | MORE_OUTSIDE.get(name, set())
    assert impurities(source) == []


@pytest.mark.parametrize("name", sorted(set(LEDGER) & set().union(*LAYERS)))
def test_upper_module_imports_downwards(name: str) -> None:
    """The store knows the pure modules; sequencer and audit the store; none knows one above itself."""
    level = next(i for i, layer in enumerate(LAYERS) if name in layer)
    allowed = set(PURE).union(*LAYERS[:level])
    assert inside(read(name)) <= allowed


def test_keyring_and_wallet_know_no_store() -> None:
    """What runs at a member's or merchant's needs no database."""
    for name in ("keyring", "wallet"):
        assert inside(read(name)) <= set(PURE)
        assert not outside(read(name)) & {"sqlalchemy", "sqlmodel", "alembic", "psycopg"}


@pytest.mark.parametrize("name", ["client", "client_records", "guerdon"])
def test_client_needs_no_server_and_no_database(name: str) -> None:
    """A shop's or a wallet's program loads what signs, verifies and speaks HTTP."""
    source = (ROOT / "api" / f"{name}.py").read_text("utf-8")
    assert inside(source) <= {*PURE, "wallet"}
    assert {module for module, _ in imports_of(source, "api") if module.startswith("api")} <= {
        "api.client",
        "api.client_records",
    }
    assert not outside(source) & {*(SERVICE - {"api", "urllib"}), "sqlalchemy", "sqlmodel", "alembic", "psycopg"}


def test_command_line_of_a_wallet_starts_without_a_ledger() -> None:
    """Signing and sending loads no database, no GraphQL and no audit: they take longer than the command itself."""
    program = (
        "import sys, typer, api.cli; typer.main.get_command(api.cli.app).get_command(None, 'send'); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "cryptography" in loaded
    assert not loaded & {"sqlalchemy", "alembic", "psycopg", "graphql", "strawberry", "starlette", "rich", "asyncio"}


def test_store_knows_no_rules() -> None:
    """The store takes records and scopes of references from what the rules are about, and nothing from them."""
    for module in ("bulk", "tables", "store"):
        names = {name for source, name in imports_of(read(module)) if source == "ledger.state"}
        assert not names & DECISIONS
        assert all(name[0].isupper() for name in names)
        below = {"bulk", "encoding", "entries", "merkle", "program_terms", "programs", "state", "tables", "terms"}
        assert inside(read(module)) <= below


@pytest.mark.parametrize("path", [*LEDGER.values(), *MIGRATIONS], ids=lambda path: str(path.relative_to(ROOT)))
def test_ledger_knows_nothing_of_the_service(path: Path) -> None:
    """No GraphQL, no HTTP, no command line, no event loop below the service."""
    assert not outside(path.read_text("utf-8")) & SERVICE


@pytest.mark.parametrize("name", sorted(LEDGER))
def test_ledger_reads_no_clock(name: str) -> None:
    """The clock is passed in, so that a test, an import and a replay can hold it."""
    source = read(name)
    waits = {"time.monotonic", "time.sleep"} if name == "store" else set()  # how long to wait for a lock
    assert "time" not in outside(source) or waits
    assert not {found for found in impurities(source) if tuple(found.split(".")) in CLOCKS} - waits


@pytest.mark.parametrize("path", API, ids=lambda path: str(path.relative_to(ROOT)))
def test_application_stands_above_the_schema(path: Path) -> None:
    """Only the application and the command line know the application."""
    imported = {module for module, _ in imports_of(path.read_text("utf-8"), "api")}
    imported |= {f"{module}.{name}" for module, name in imports_of(path.read_text("utf-8"), "api")}
    if path.stem not in {"app", "cli", "ledger_cli", "__main__"}:
        assert not imported & {"api.app", "api.cli"}


@pytest.mark.parametrize(
    ("source", "packages", "modules"),
    [
        ("import time", {"time"}, set()),
        ("from os import path", {"os"}, set()),
        ("def f():\n    import random", {"random"}, set()),
        ("import sqlalchemy.orm as orm", {"sqlalchemy"}, set()),
        ("from ledger.store import Store", set(), {"store"}),
        ("from ledger import store", set(), {"store"}),
        ("import ledger.store", set(), {"store"}),
        ("from . import store", set(), {"store"}),
        ("from .store import Store", set(), {"store"}),
        ("import importlib\nimportlib.import_module('time')", {"importlib", "time"}, set()),
        ("__import__(name)", {"*"}, set()),
        ("if TYPE_CHECKING:\n    from starlette.requests import Request", {"starlette"}, set()),
    ],
)
def test_imports_are_seen(source: str, packages: set[str], modules: set[str]) -> None:
    """The reader of imports misses none of the ways to write one."""
    assert (outside(source), inside(source)) == (packages, modules)


@pytest.mark.parametrize(
    "source",
    [
        "datetime.now(UTC)",
        "x = date.today()",
        "open('x')",
        "print(1)",
        "Ed25519PrivateKey.generate()",
        "os.urandom(1)",
        "clock = time.time",
        "os.environ['X']",
    ],
    ids=str,
)
def test_impurities_are_seen(source: str) -> None:
    """The reader of calls sees each way out of pure calculation; methods of our own named alike are none."""
    assert impurities(source)
    assert impurities("state.today(asset, time)") == []
