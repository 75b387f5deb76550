"""The README's commands and programs are run, in their order, in a fresh copy of the project, as a newcomer would.

Its JavaScript is run in a browser by `test_browser_wallet.py`.
"""

import json
import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from graphql import build_schema, parse, validate

from api.webhook_events import EVENTS
from tests.service import MUTATIONS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
GRAPHQL = re.compile(r"^```graphql\n(.*?)^```$", re.MULTILINE | re.DOTALL)
QUERY = re.compile(r"""["']query["']: "((?:[^"\\]|\\.)*)\"""")

# Stands in for curl on a machine that has none; knows the options the README uses.
CURL = """#!/usr/bin/env python3
import signal, sys, urllib.request
arguments = sys.argv[1:]
url = next(a for a in arguments if a.startswith("http"))
data = None
if "--data-binary" in arguments:
    source = arguments[arguments.index("--data-binary") + 1]
    data = sys.stdin.buffer.read() if source == "@-" else source.encode()
    if source.startswith("@") and source != "@-":
        data = open(source[1:], "rb").read()
try:
    headers = dict(arguments[i + 1].split(": ", 1) for i, a in enumerate(arguments) if a == "-H")
    request = urllib.request.Request(url, data, headers)
    if "--max-time" in arguments:
        signal.alarm(int(arguments[arguments.index("--max-time") + 1]))
    with urllib.request.urlopen(request, timeout=30) as answer:
        while part := answer.read1():
            sys.stdout.write(part.decode())
            sys.stdout.flush()
except OSError:
    sys.exit(22)
"""


def blocks() -> list[str]:
    """The README's shell blocks and Python programs, in order, all as shell."""
    found = BLOCK.findall(README)
    return [text if language == "sh" else f"python <<'PYTHON'\n{text}PYTHON\n" for language, text in found]


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def copy_of_the_project(folder: Path) -> Path:
    """What a clone would have: every file git knows or would add."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],  # noqa: S607 - the one in the path
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    clone = folder / "guerdon"
    for name in listed.splitlines():
        source = ROOT / name
        if source.is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, clone / name)
    return clone


def runnable(block: str, replacements: dict[str, str]) -> str:
    """A block with this machine's folders, ports and database in place of the README's."""
    for written, here in replacements.items():
        block = block.replace(written, here)
    return block


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.timeout(580)
def test_every_command_of_the_readme_works(tmp_path: Path, empty_postgres_database: str) -> None:
    """All blocks run in order; the answers they print are the ones the README describes."""
    clone = copy_of_the_project(tmp_path)
    secrets = tmp_path / "etc"
    secrets.mkdir()
    (secrets / "passphrase").write_text("correct horse battery staple\n", encoding="utf-8")
    tools = tmp_path / "tools"
    tools.mkdir()
    if shutil.which("curl") is None:
        (tools / "curl").write_text(CURL, encoding="utf-8")
        (tools / "curl").chmod(0o755)
    port = str(free_port())
    replacements = {
        "scripts/run\n": "scripts/run --no-serve\n",  # the README serves in the next section
        "scripts/test\n": "test -x scripts/test\n",  # it is what runs this test
        "8000": port,
        "guerdon session ": f"guerdon session --url http://127.0.0.1:{port}/graphql ",
        "8100": str(free_port()),
        "8200": str(free_port()),
        "8300": str(free_port()),
        "/var/lib/guerdon": str(tmp_path / "data"),
        "/etc/guerdon": str(secrets),
        "postgresql://guerdon@db.example/guerdon": f"'{empty_postgres_database}'",
    }
    script = ["set -euo pipefail", "trap 'kill ${SERVER:-} ${WITNESS:-} ${RECEIVER:-} 2>/dev/null || true' EXIT"]
    for number, block in enumerate(blocks()):
        script += [f"echo '### block {number}'", runnable(block, replacements)]
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)],  # noqa: S607 - as a newcomer has it
        cwd=clone,
        env={"HOME": str(tmp_path), "PATH": f"{os.environ['PATH']}:{tools}", "LANG": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=560,
        check=False,
    )
    output = done.stdout
    assert done.returncode == 0, f"{output[-4000:]}\n{done.stderr[-4000:]}"
    for line in (
        "6,919 purchases, 2,357 customers, 63,131 points earned; 2,050 spent, 61,111 in circulation",
        "every invariant holds",
        '"seq":2461',
        '"replayed":false',
        '{"data":{"viewer":{"id":"mem_',
        '"balances":[{"asset":"CDNOW","total":155,"spendable":155}]',
        '"accountActivity":{"entry":{"seq":2461,"kind":"TRANSFER"},"movements":[{"asset":"CDNOW","amount":5,"balance":155}]',
        "witness.example/w1+",
        "localhost/first-light has 0 entries cosigned",
        "\n— witness.example/w1 ",
        '{"data":{"witnessing":{"quorum":1,"checkpoint":{"size":247',
        "\n  cosigned    by witness.example/w1 at 20",
        "entry 2461 of localhost/first-light is proven",
        "entry 2462 leaves 70:",
        "entry     2463 of localhost/first-light, recorded ",
        "receipt   verified: signed by localhost/first-light+",
        "kept in   send.receipt",
        "balance   55 CDNOW",
        "              55 CDNOW\n",
        "              30 BEAN by CDNOW>BEAN\n",
        "+18 BEAN mem_",
        "balance   25 CDNOW",
        "kept in   exchange.receipt",
        "              20 of 20 CDNOW mem_",
        "kept in   agreement.receipt",
        " 45 cents\n",
        " pays 40 cents\n",
        "│ 1997-04 │   2,357 │   0 │  1,797 │     560 │ 23.7 % │\n",
        "log-site: 2,475 entries, 2,475 of them new, 22 files written",
        '"keysSeq":',
        '"recovery":{"keys":["',
        "in force     for checkpoints of 2,",
        '"logKeys":[{"verifierKey":"localhost/first-light+',
        "points.redeemed 5 CDNOW",
        "\nnothing is due\nnothing is due\n",
        '"eventType":"POINTS_REDEEMED","status":"DELIVERED","attempts":',
        '"profile":{"phone":"+49301234567","revision":1}',
        '"addedBy":"MEMBER"',
        '"profileErase":{"erasedAt":"',
        "keys wrapped 1 with .guerdon/keys/profile-2.pem",
        "2 purchases of 2 customers: 2 recorded, 0 known already, 2 accounts opened",
        "ledger       ledger.example/coalition",
        "ledger-copy.sqlite: ",
    ):
        assert line in output, f"{line!r} is not in:\n{output[-4000:]}"
    # a transfer, keys over time, and what a webhook is told of
    assert output.count('"replayed":false,"userErrors":[]}],"userErrors":[]}') == 5
    assert (clone / "points.csv").read_text(encoding="utf-8").count("C-1001") == 2


def test_the_readme_shows_what_the_main_job_prints() -> None:
    """The output quoted in the README is quoted, not remembered: it appears in the expectations of the test above."""
    assert "6,919 purchases, 2,357 customers, 63,131 points earned; 2,050 spent, 61,111 in circulation" in README
    assert len(blocks()) >= 8


def test_every_graphql_document_is_valid() -> None:
    """What a newcomer copies is accepted: every document is validated against the schema, those sent with curl too."""
    schema = build_schema((ROOT / "schema.graphql").read_text(encoding="utf-8"))
    sent = [json.loads(f'"{text}"'.replace("\\$", "$")) for text in QUERY.findall(README)]
    documents = GRAPHQL.findall(README) + sent
    assert len(documents) >= 3
    for document in documents:
        assert [error.message for error in validate(schema, parse(document))] == [], document


def test_every_kind_of_operation_has_its_mutation() -> None:
    """The table names each kind's mutation as the schema does."""
    rows = dict(re.findall(r"^\| `(\w+)` \| `(\w+)` \|$", README, re.MULTILINE))
    assert rows == {kind: mutation for kind, (mutation, _) in MUTATIONS.items()}


def test_every_type_of_event_is_in_the_readme() -> None:
    """As webhooks name it."""
    types = README[README.index("- **Types**") : README.index("all, or those that `eventTypes` names")]
    assert set(re.findall(r"`([a-z_]+\.[a-z_]+)`", types)) == set(EVENTS)


def test_every_module_of_the_ledger_is_on_the_map() -> None:
    """A map that leaves out a file sends its reader elsewhere."""
    rows = README[README.index("## Map") : README.index("## Decisions")]
    modules = {path.name for path in (ROOT / "ledger").glob("*.py")} - {"__init__.py"}
    assert {name for name in modules if name not in rows} == set()


def test_every_setting_is_in_the_readme() -> None:
    """A setting nobody can find is no setting."""
    source = (ROOT / "api" / "settings.py").read_text(encoding="utf-8")
    for name in set(re.findall(r'"(GUERDON_[A-Z_]+)"', source)):
        assert name in README, f"{name} is not in the README"


def test_every_variable_of_a_wallet_is_in_the_readme() -> None:
    """With the option it stands for."""
    source = (ROOT / "api" / "cli_options.py").read_text(encoding="utf-8")
    options = re.findall(r'"(--[a-z-]+)",\s+envvar="(GUERDON_WALLET_[A-Z_]+)"', source)
    options += re.findall(r'"(--[a-z-]+)", envvar="(GUERDON_WALLET_[A-Z_]+)"', source)
    rows = re.findall(r"^\| `(GUERDON_WALLET_[A-Z_]+)` \| `(--[a-z-]+)` \|", README, re.MULTILINE)
    assert {(variable, option) for option, variable in options} == set(rows)
    assert source.count("envvar=") == len(rows)


def test_every_file_the_readme_names_exists() -> None:
    """Links and paths of the map lead somewhere."""
    for name in re.findall(r"\]\((?!https://)([^)#]+)\)", README):
        assert (ROOT / name).exists(), name
