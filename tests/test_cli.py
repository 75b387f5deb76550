"""The command `guerdon`: every command by its effect, its exit status, and what it says when it cannot go on."""

import base64
import csv
import http.server
import io
import json
import os
import re
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import sqlalchemy as sa
import typer
import uvicorn
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from api import cli, ledger_cli
from api.client import Endpoint, Response
from api.opening import load_log_key, open_profiles, open_store, opened_store, system_clock
from api.settings import Settings
from ledger.audit import CHECKS
from ledger.checkpoint import decode_note, decode_verifier_key, encode_verifier_key, verify_checkpoint
from ledger.keyring import load_private_key, save_private_key
from ledger.keys import encode_public_key
from ledger.operations import DefineAsset, OpenAccount, PublishProgram
from ledger.personal_data import Profile
from ledger.receipt import Receipt, encode_receipt
from ledger.sequencer import Recorded, Sequencer, account_opened_by
from ledger.state import Rejection
from ledger.store import Store
from ledger.wallet import Wallet
from tests.format_examples import examples
from tests.service import Service, running
from tests.tile_client import TileClient
from tests.worlds import World, make_program

ROOT = Path(__file__).parent.parent
ORIGIN = "ledger.example/cli"
PASSPHRASE = "correct horse battery staple"
RECEIPT = examples()["receipt-11"]
LOG_KEY = examples()["verifier-key"].strip()
SALES = """who,when,paid,ref
c1,2026-01-05,12.50,o-1
c2,2026-01-31,7.99,o-2
c1,2026-02-01,3.00,o-3
c1,2026-02-02,0.50,o-4
"""
COLUMNS = ("--customer", "who", "--date", "when", "--amount", "paid", "--order", "ref")


class Result(NamedTuple):
    """How a command ended and what it said."""

    status: int
    out: str
    err: str


def guerdon(*arguments: str | Path, stdin: str = "") -> Result:
    """Run the command in this process, as its script would."""
    out, err = io.StringIO(), io.StringIO()
    argv, sys.argv = sys.argv, ["guerdon", *map(str, arguments)]
    standard_input, sys.stdin = sys.stdin, io.TextIOWrapper(io.BytesIO(stdin.encode()))
    try:
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as end:
            cli.main()
        return Result(int(end.value.code or 0), out.getvalue(), err.getvalue())
    finally:
        sys.argv, sys.stdin = argv, standard_input


def succeed(*arguments: str | Path, stdin: str = "") -> str:
    """What a command prints that must succeed, and must not complain."""
    result = guerdon(*arguments, stdin=stdin)
    assert (result.status, result.err) == (0, "")
    return result.out


def fail(*arguments: str | Path, stdin: str = "") -> str:
    """The one line a command says that must not succeed."""
    result = guerdon(*arguments, stdin=stdin)
    assert result.status == 1
    assert result.err.startswith("guerdon: ")
    assert result.err.count("\n") == 1
    assert "Traceback" not in result.err
    return result.err.removeprefix("guerdon: ").rstrip("\n")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder the settings name, with nothing in it yet."""
    for name in [name for name in os.environ if name.startswith("GUERDON_")]:
        monkeypatch.delenv(name)
    folder = tmp_path / "data"
    monkeypatch.setenv("GUERDON_DATA", str(folder))
    return folder


@pytest.fixture
def ledger(data: Path) -> Path:
    """The folder of a new ledger."""
    succeed("init", "--origin", ORIGIN, "--name", "Operator of the tests")
    return data


class Shop(NamedTuple):
    """A merchant with the asset STAR, and a file of its sales."""

    data: Path
    account: str
    key: Path
    sales: Path

    def arguments(self, *more: str | Path) -> list[str | Path]:
        """A call that imports the sales."""
        merchant = ("--merchant", self.account, "--key", self.key, "--asset", "STAR")
        return ["import", self.sales, *merchant, *COLUMNS, *more]


@pytest.fixture
def shop(ledger: Path, tmp_path: Path) -> Shop:
    key = tmp_path / "merchant.pem"
    succeed("keys", "generate", key)
    settings = ledger_cli.read_settings()
    merchant_key, operator_key = load_private_key(key, None), load_private_key(ledger / "keys" / "operator.pem", None)
    store = open_store(settings)
    with Sequencer(store, load_log_key(settings), system_clock) as sequencer:
        assert sequencer.parameters is not None
        operator = Wallet(ORIGIN, sequencer.parameters.operator, [operator_key], system_clock)
        keys = (encode_public_key(merchant_key),)
        opening = operator.sign(OpenAccount, co_signers=[merchant_key], role="merchant", name="Shop", keys=keys)
        account = account_opened_by(record(sequencer, opening))
        wallet = Wallet(ORIGIN, account, [merchant_key], system_clock)
        record(sequencer, wallet.sign(DefineAsset, asset="STAR", name="Stars", scale=0, transferable=True))
        starts = "1997-01-01T00:00:00.000Z"
        record(sequencer, wallet.sign(PublishProgram, asset="STAR", version=1, starts=starts, program=make_program()))
    store.engine.dispose()
    sales = tmp_path / "sales.csv"
    sales.write_text(SALES)
    return Shop(ledger, str(account), key, sales)


def record(sequencer: Sequencer, operation: Any) -> Recorded:
    (outcome,) = sequencer.submit([operation]).result(60)
    assert isinstance(outcome, Recorded)
    return outcome


@pytest.fixture
def imported(shop: Shop) -> Shop:
    succeed(*shop.arguments("--customers", shop.data / "customers.csv"))
    return shop


def execute(*statements: str) -> None:
    """Run statements against the ledger's database, without its triggers."""
    engine = sa.create_engine(ledger_cli.read_settings().database_url)
    with engine.begin() as connection:
        for name in connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'trigger'").scalars().all():
            connection.exec_driver_sql(f"DROP TRIGGER {name}")
        for statement in statements:
            assert connection.exec_driver_sql(statement).rowcount != 0
    engine.dispose()


# Help and wrong calls


def commands() -> Iterator[tuple[str, ...]]:
    """Every command, with the group before it."""
    root: Any = typer.main.get_command(cli.app)
    for name in root.list_commands(None):
        command = root.get_command(None, name)
        if hasattr(command, "commands"):
            yield from ((name, inner) for inner in command.commands)
        if not hasattr(command, "commands") or command.invoke_without_command:
            yield (name,)


@pytest.mark.parametrize("command", list(commands()), ids=" ".join)
def test_help_of_every_command_has_an_example(data: Path, command: tuple[str, ...]) -> None:
    """Whoever asks for help sees a call that works."""
    text = " ".join(succeed(*command, "--help").split())
    assert "Example: " in text
    assert f"guerdon {' '.join(command)} " in text.partition("Example: ")[2]
    assert not data.exists()


@pytest.mark.parametrize(
    "call",
    [
        ("nonsense",),
        ("init",),
        ("init", "--origin", ORIGIN, "--nonsense"),
        ("init", "--origin", ORIGIN, "--currency", "dollars"),
        ("keys", "generate"),
        ("keys", "replace-log"),
        ("keys", "replace-log", "new.pem"),
        ("sign",),
        ("import", "no-such-file.csv", "--merchant", "m", "--key", "k", "--asset", "A", *COLUMNS),
        ("import",),
        ("report",),
        ("report", "--asset", "STAR", "--format", "xml"),
        ("report", "--asset", "STAR", "--first", "-1"),
        ("audit", "--processes", "many"),
        ("audit", "receipt"),
        ("audit", "receipt", "no-such-file", "--log-key", LOG_KEY),
        ("audit", "receipt", "-"),
        ("audit", "receipt", "-", "--log-key", "nonsense"),
        ("export",),
        ("serve", "--port", "65536"),
        ("serve", "--workers", "0"),
        ("backup",),
    ],
    ids=" ".join,
)
def test_wrong_call_exits_with_2(data: Path, call: tuple[str, ...]) -> None:
    """A call that cannot be meant is told from one that did not succeed."""
    result = guerdon(*call)
    assert result.status == 2
    assert "Usage: guerdon" in result.err


# init


def test_init_founds_a_ledger_that_passes_its_audit(data: Path) -> None:
    """One call makes tables, keys and entry 0, and prints what others need to know."""
    out = succeed("init", "--origin", ORIGIN, "--currency", "EUR:2", "--currency", "JPY:0")
    assert ORIGIN in out
    log_key = next(line.split()[2] for line in out.splitlines() if line.startswith("log key"))
    assert succeed("keys", "show", data / "keys" / "log.pem", "--origin", ORIGIN).strip() == log_key
    assert {path.stat().st_mode & 0o777 for path in (data / "keys").iterdir()} == {0o600}
    assert succeed("audit", "--log-key", log_key).endswith("every invariant holds\n")


@pytest.mark.parametrize(
    ("arguments", "delay_ms"), [((), None), (("7",), None), (("1",), 86_400_000), (("90",), 90 * 86_400_000)]
)
def test_init_says_how_long_a_recovery_takes(data: Path, arguments: tuple[str, ...], delay_ms: int | None) -> None:
    """In whole days; a week goes without saying."""
    succeed("init", "--origin", ORIGIN, *(("--recovery-delay-days", *arguments) if arguments else ()))
    with opened_store(ledger_cli.read_settings()) as store, store.read() as connection:
        entry = store.entry_data(connection, [0])[0]
    assert json.loads(entry)["op"].get("recovery_delay_ms") == delay_ms


def test_second_init_changes_nothing(ledger: Path) -> None:
    """Running it again is safe: the ledger is there already."""
    before = succeed("audit")
    assert "is there already" in succeed("init", "--origin", ORIGIN)
    assert succeed("audit") == before


def refused_call(*arguments: str | Path) -> str:
    """What a wrong call is told, without the frame and the line breaks around it."""
    result = guerdon(*arguments)
    assert result.status == 2
    return " ".join(result.err.replace("│", " ").split())


@pytest.mark.parametrize(
    "origin", ["", "with space", "plus+sign", "Upper.example", "https://ledger.example", "a" * 129, "ledger.example\n"]
)
def test_init_refuses_a_name_no_ledger_can_have(data: Path, origin: str) -> None:
    """The ledger's name is in every signature: it is refused before a key is made or a table."""
    message = refused_call("init", "--origin", origin)
    assert "--origin" in message
    assert "such as ledger.example/coalition" in message
    assert not data.exists()


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--name", "", "length >= 1"),
        ("--name", " spaced ", "a name is 1 to 64 characters"),
        ("--currency", "dollars", "such as USD:2"),
        ("--clock-tolerance-ms", "-1", ">= 0"),
        ("--recovery-delay-days", "0", "greater than or equal to 1"),
        ("--recovery-delay-days", "91", "less than or equal to 90"),
    ],
)
def test_init_refuses_what_no_ledger_can_begin_with(data: Path, option: str, value: str, message: str) -> None:
    """The option is named, and no key was made for nothing."""
    said = refused_call("init", "--origin", ORIGIN, option, value)
    assert message in said
    assert option in said or option == "--currency"
    assert not data.exists()


def test_init_refuses_a_currency_given_twice(data: Path) -> None:
    """What is wrong only with both together is a wrong call too."""
    said = refused_call("init", "--origin", ORIGIN, "--currency", "USD:2", "--currency", "USD:3")
    assert "'USD' is there twice" in said
    assert not data.exists()


def test_keys_have_a_folder_of_their_own_in_a_data_folder_that_lay_open(data: Path) -> None:
    """A data folder that others may list is used as it is; what is secret in it is the owner's alone."""
    data.mkdir(mode=0o755)
    data.chmod(0o755)
    succeed("init", "--origin", ORIGIN)
    modes = {path.name: path.stat().st_mode & 0o777 for path in data.rglob("*")}
    assert modes.pop("keys") == 0o700
    assert {"log.pem", "operator.pem", "ledger.sqlite", "ledger.sqlite-turn"} <= modes.keys()
    assert set(modes.values()) == {0o600}


def test_init_goes_on_with_the_keys_of_an_attempt_that_failed(data: Path) -> None:
    """Keys that are there are used, so trying again is all there is to do."""
    succeed("keys", "generate", data / "keys" / "log.pem")
    before = succeed("keys", "show", data / "keys" / "log.pem")
    succeed("init", "--origin", ORIGIN)
    assert succeed("keys", "show", data / "keys" / "log.pem") == before


def test_data_folder_can_be_named_in_the_call(data: Path, tmp_path: Path) -> None:
    """`--data` before the command goes before the environment."""
    succeed("--data", tmp_path / "other", "init", "--origin", ORIGIN)
    assert (tmp_path / "other" / "ledger.sqlite").exists()
    assert not data.exists()


# keys


def test_generated_key_shows_the_same_public_half(tmp_path: Path) -> None:
    """Generate prints what show prints later, 32 bytes in base64url."""
    path = tmp_path / "member.pem"
    public = succeed("keys", "generate", path)
    assert succeed("keys", "show", path) == public
    assert len(base64.urlsafe_b64decode(public.strip() + "=")) == 32
    assert path.stat().st_mode & 0o777 == 0o600


def test_key_is_generated_under_a_passphrase(tmp_path: Path) -> None:
    """The key opens with its passphrase only, and the errors say so."""
    path, passphrase = tmp_path / "member.pem", tmp_path / "pass"
    passphrase.write_text(PASSPHRASE + "\n")
    public = succeed("keys", "generate", path, "--passphrase-file", passphrase)
    assert succeed("keys", "show", path, "--passphrase-file", passphrase) == public
    assert "is encrypted: give its passphrase" in fail("keys", "show", path)
    passphrase.write_text("wrong")
    assert "wrong passphrase" in fail("keys", "show", path, "--passphrase-file", passphrase)


def test_key_file_is_never_overwritten(tmp_path: Path) -> None:
    """A second call with the same name fails and leaves the first key."""
    path = tmp_path / "member.pem"
    public = succeed("keys", "generate", path)
    assert "never overwritten" in fail("keys", "generate", path)
    assert succeed("keys", "show", path) == public


@pytest.fixture
def next_log_key(tmp_path: Path) -> Path:
    succeed("keys", "generate", tmp_path / "log-2.pem")
    return tmp_path / "log-2.pem"


def test_log_key_is_replaced(ledger: Path, next_log_key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The entry's checkpoint is signed with both keys; a server without the new one does not start, the audit holds."""
    old, operator = ledger / "keys" / "log.pem", ledger / "keys" / "operator.pem"
    out = succeed("keys", "replace-log", next_log_key, "--operator-key", operator)
    new_name = succeed("keys", "show", next_log_key, "--origin", ORIGIN).strip()
    old_name = succeed("keys", "show", old, "--origin", ORIGIN).strip()
    assert out.splitlines()[:2] == [f"log key      {new_name}", "in force     for checkpoints of 2 entries and more"]
    assert f"GUERDON_LOG_KEY_FILE={next_log_key} GUERDON_OTHER_LOG_KEY_FILES={old}\n" in out
    with opened_store(ledger_cli.read_settings()) as store, store.read() as connection:
        note = store.head(connection).checkpoint
    for name in (new_name, old_name):
        assert verify_checkpoint(note, decode_verifier_key(name), ORIGIN).size == 2
    signed = [signature.key_id for signature in decode_note(note).signatures]
    assert signed == [bytes.fromhex(name.split("+")[1]) for name in (new_name, old_name)]
    assert new_name in fail("serve")
    again = fail("keys", "replace-log", next_log_key, "--operator-key", operator)
    assert again.startswith("LOG_KEY_USED: ")
    monkeypatch.setenv("GUERDON_LOG_KEY_FILE", str(next_log_key))
    assert fail("keys", "replace-log", old, "--operator-key", operator).startswith("LOG_KEY_USED: ")
    assert succeed("audit").endswith("every invariant holds\n")


def test_log_key_is_replaced_by_the_operator_alone(ledger: Path, next_log_key: Path, member_key: Path) -> None:
    """Whoever has the database and the log's key, but not the operator's, gives the log no other."""
    message = fail("keys", "replace-log", next_log_key, "--operator-key", member_key)
    assert message.startswith("SIGNATURE_MISSING: ")
    assert "2 entries" not in succeed("audit")


def test_log_key_is_replaced_under_passphrases(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's keys open with theirs, the operator's with the one given."""
    passphrase = tmp_path / "pass"
    passphrase.write_text(PASSPHRASE)
    monkeypatch.setenv("GUERDON_KEY_PASSPHRASE_FILE", str(passphrase))
    succeed("init", "--origin", ORIGIN)
    succeed("keys", "generate", tmp_path / "new.pem", "--passphrase-file", passphrase)
    call: list[str | Path] = ["keys", "replace-log", tmp_path / "new.pem", "--operator-key"]
    call += [data / "keys" / "operator.pem"]
    assert "operator.pem is encrypted" in fail(*call)
    assert "in force     for checkpoints of 2 entries" in succeed(*call, "--passphrase-file", passphrase)


# sign

TRANSFER = {
    "kind": "transfer",
    "actor": "mem_" + "a" * 26,
    "asset": "STAR",
    "recipients": [{"to": "mem_" + "b" * 26, "amount": 5}],
}


@pytest.fixture
def member_key(tmp_path: Path) -> Path:
    succeed("keys", "generate", tmp_path / "member.pem")
    return tmp_path / "member.pem"


def test_signed_operation_is_what_the_ledger_takes(ledger: Path, member_key: Path) -> None:
    """What is left out is filled in, and the document submitted as it is printed is recorded."""
    public = succeed("keys", "show", member_key).strip()
    opening = json.dumps({"kind": "open_account", "role": "member", "keys": [public]})
    document = succeed("sign", "--key", member_key, "-", stdin=opening).rstrip("\n")
    assert json.loads(document)["op"]["ledger"] == ORIGIN
    store = open_store(ledger_cli.read_settings())
    with Sequencer(store, load_log_key(ledger_cli.read_settings()), system_clock) as sequencer:
        (outcome,) = sequencer.submit_documents([document.encode()]).result(60)
    store.engine.dispose()
    assert isinstance(outcome, Recorded)
    assert succeed("audit").endswith("every invariant holds\n")


def test_signature_is_added_to_what_another_signed(ledger: Path, member_key: Path, tmp_path: Path) -> None:
    """Keys of two people sign one document on two machines; signing twice changes nothing, changing it is seen."""
    succeed("keys", "generate", tmp_path / "second.pem")
    public = [succeed("keys", "show", path).strip() for path in (member_key, tmp_path / "second.pem")]
    opening = json.dumps({"kind": "open_account", "role": "member", "keys": public, "threshold": 2})
    first = succeed("sign", "--key", member_key, "-", stdin=opening)
    both = succeed("sign", "--key", tmp_path / "second.pem", "-", stdin=first)
    assert json.loads(both)["op"] == json.loads(first)["op"]
    assert [signature["key"] for signature in json.loads(both)["sigs"]] == public
    again = json.loads(succeed("sign", "--key", member_key, "-", stdin=both))
    assert sorted(signature["key"] for signature in again["sigs"]) == sorted(public)
    good = both.rstrip("\n")
    settings, changed = ledger_cli.read_settings(), good.replace(',"threshold":2', "")
    with opened_store(settings) as store, Sequencer(store, load_log_key(settings), system_clock) as sequencer:
        changed_outcome, outcome = sequencer.submit_documents([changed.encode(), good.encode()]).result(60)
    assert isinstance(outcome, Recorded)
    assert isinstance(changed_outcome, Rejection)
    assert changed_outcome.code == "SIGNATURE_INVALID"


def test_sign_reads_standard_input_when_no_file_is_named(data: Path, member_key: Path) -> None:
    """It can stand in a pipe."""
    call = [sys.executable, "-c", "from api.cli import main; main()", "sign", "--key", str(member_key)]
    environment = os.environ | {"GUERDON_ORIGIN": ORIGIN}
    done = subprocess.run(
        call, input=json.dumps(TRANSFER), capture_output=True, text=True, cwd=ROOT, env=environment, check=True
    )
    assert json.loads(done.stdout)["op"]["recipients"] == TRANSFER["recipients"]
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("stdin", "message"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[1]", "an operation is a JSON object"),
        ("null", "an operation is a JSON object"),
        (json.dumps(TRANSFER | {"colour": "red"}), "colour"),
        (json.dumps(TRANSFER | {"kind": "steal"}), "kind"),
        (json.dumps(TRANSFER | {"asset": "star"}), "asset"),
        (json.dumps(TRANSFER | {"at": "now"}), "at"),
        (json.dumps(TRANSFER | {"recipients": [{"to": "mem_" + "b" * 26, "amount": 1.5}]}), "recipients[0].amount"),
        (json.dumps(TRANSFER | {"recipients": [{"to": "mem_" + "b" * 26, "amount": 2**53}]}), "recipients[0].amount"),
        (json.dumps({name: TRANSFER[name] for name in TRANSFER if name != "asset"}), "asset"),
        (json.dumps(TRANSFER | {"ledger": "\ud800"}), "ledger"),
        (json.dumps(TRANSFER | {"recipients": [{"to": "mem_" + "b" * 26, "amount": 5.0}]}), "float at"),
        (json.dumps(TRANSFER | {"recipients": [{"to": "mem_" + "b" * 26, "amount": float("nan")}]}), "float at"),
        (json.dumps({"op": TRANSFER, "sigs": []}), "guerdon"),
        (json.dumps({"op": TRANSFER, "sigs": [{"key": "k", "sig": "s"}]}), "sigs[0].key"),
        (json.dumps({"op": TRANSFER, "sigs": 1}), "sigs"),
        (json.dumps({"op": 1.5, "sigs": []}), "float"),
        (json.dumps(TRANSFER)[:-1] + ', "asset": "MILE"}', "the key 'asset' is there twice"),
        (json.dumps(TRANSFER).replace('"amount": 5', '"amount": 5, "amount": 500'), "the key 'amount' is there twice"),
        (json.dumps(TRANSFER)[:-1] + ', "asset": "STAR"}', "the key 'asset' is there twice"),
    ],
)
def test_document_that_is_no_operation_is_not_signed(
    data: Path, member_key: Path, monkeypatch: pytest.MonkeyPatch, stdin: str, message: str
) -> None:
    """The message names the field that is wrong, and nothing is printed that could be submitted."""
    monkeypatch.setenv("GUERDON_ORIGIN", ORIGIN)
    assert message in fail("sign", "--key", member_key, "-", stdin=stdin)
    assert guerdon("sign", "--key", member_key, "-", stdin=stdin).out == ""


# session


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """The API on a ledger of its own; what is sent to any address reaches it."""
    with World(f"sqlite:///{tmp_path / 'world' / 'ledger.sqlite'}") as world, running(world, tmp_path) as service:

        def post(endpoint: Endpoint, request: Any, token: str | None) -> Response:
            assert endpoint.url == "http://127.0.0.1:8000/graphql"
            response = service.post(request, token=token)
            return Response(
                status=response.status_code, reason=response.reason_phrase, body=response.content, lost=False
            )

        monkeypatch.setattr(Endpoint, "post", post)
        yield service


def key_files(wallet: Wallet, folder: Path) -> list[str | Path]:
    """A wallet's keys as options of a call."""
    options: list[str | Path] = []
    for number, private in enumerate(wallet.keys):
        path = folder / f"key-{wallet.account}-{number}.pem"
        save_private_key(path, private, None)
        options += ["--key", path]
    return options


def test_session_prints_a_token_that_signs_in(service: Service, tmp_path: Path) -> None:
    """The token is all it prints, and stands for the account."""
    member = service.world.add_member()
    out = succeed("session", "--account", str(member.account), *key_files(member, tmp_path))
    assert out.count("\n") == 1
    assert service.query("{ viewer { id } }", token=out.strip())["viewer"]["id"] == member.account


def test_session_is_signed_with_every_key_given(service: Service, tmp_path: Path) -> None:
    """An account with a threshold of two is signed in to with two keys, and refused with one."""
    world = service.world
    keys = [world.make_key(), world.make_key()]
    public = tuple(encode_public_key(private) for private in keys)
    (opened,) = world.record(world.wallet(None, *keys).sign(OpenAccount, role="member", keys=public, threshold=2))
    wallet = world.wallet(account_opened_by(opened), *keys)
    options = key_files(wallet, tmp_path)
    token = succeed("session", "--account", str(wallet.account), *options).strip()
    assert service.query("{ viewer { id } }", token=token)["viewer"]["id"] == wallet.account
    assert ": " in fail("session", "--account", str(wallet.account), *options[:2])


def test_session_that_is_refused_is_one_line(service: Service, tmp_path: Path) -> None:
    """Another's key is refused with the code and the reason; so is an address that is none."""
    member, other = service.world.add_members(2)
    message = fail("session", "--account", str(member.account), *key_files(other, tmp_path))
    assert re.match(r"[A-Z_]+: .+", message)
    wrong = ("session", "--account", "mem_x", *key_files(member, tmp_path), "--url", "file:///etc/passwd")
    assert "--url" in refused_call(*wrong)


class Answers(http.server.BaseHTTPRequestHandler):
    """Answers every POST with what the test has set."""

    status, body = 200, b""

    def do_POST(self) -> None:
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (200, b"<html>", "answers, but not as a GraphQL service"),
        (200, b"[1]", "answers, but not as a GraphQL service"),
        (200, b'{"data": null}', "answers, but not as a GraphQL service"),
        (200, b'{"hello": 1}', "answers, but not as a GraphQL service"),
        (200, b'{"errors": [{"message": "the database did not answer"}]}', "the database did not answer"),
        (404, b"", "answers with status 404 (Not Found)"),
        (503, b'{"status": "unavailable"}', "answers with status 503 (Service Unavailable)"),
    ],
)
def test_session_says_in_one_line_what_a_service_answers(
    tmp_path: Path, member_key: Path, status: int, body: bytes, message: str
) -> None:
    """A wrong address, a proxy's page or a failing service: never a traceback."""
    handler = type("Handler", (Answers,), {"status": status, "body": body})
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/graphql"
        assert message in fail("session", "--account", "mem_x", "--key", member_key, "--url", url)
        thread.join()
    assert f"{url} does not answer: " in fail("session", "--account", "mem_x", "--key", member_key, "--url", url)


# import


def test_import_reports_what_it_did_and_can_be_run_again(shop: Shop) -> None:
    """The second run finds everything known."""
    assert succeed(*shop.arguments()) == (
        "4 purchases of 2 customers: 4 recorded, 0 known already, 2 accounts opened\n"
    )
    assert succeed(*shop.arguments()) == (
        "4 purchases of 2 customers: 0 recorded, 4 known already, 0 accounts opened\n"
    )


def test_import_takes_files_with_a_byte_order_mark(shop: Shop) -> None:
    """What a spreadsheet saves as UTF-8 is read."""
    shop.sales.write_bytes(b"\xef\xbb\xbf" + SALES.replace("\n", "\r\n").encode())
    assert "4 recorded" in succeed(*shop.arguments())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (SALES.replace("7.99", "7,99x").encode(), "line 3, line: has 5 columns"),
        (SALES.replace("c2", "M\xfcller").encode("latin-1"), "line 3, line: is not UTF-8"),
        (SALES.replace("o-4", "o-1").encode(), "line 5, order: o-1 is on line 2 already"),
        (SALES.replace("2026-02-02", "1996-02-02").encode(), "line 5: PROGRAM_MISSING"),
        (SALES.replace("2026-02-02", "2999-02-02").encode(), "line 5: AT_IN_FUTURE"),
        (SALES.encode("utf-16"), "line 1, "),
        (os.urandom(2_000), "line 1, "),
    ],
    ids=["broken line", "Latin-1", "order twice", "before the program", "future", "UTF-16", "random bytes"],
)
def test_import_names_what_is_wrong_with_a_file(shop: Shop, content: bytes, message: str) -> None:
    """Exit status 1 and the line; the ledger is none the worse."""
    shop.sales.write_bytes(content)
    result = guerdon(*shop.arguments())
    assert result.status == 1
    assert message in result.err
    assert "Traceback" not in result.err
    assert succeed("audit").endswith("every invariant holds\n")


def test_import_refuses_orders_that_are_recorded_for_other_purchases(shop: Shop) -> None:
    """An order number used again for another customer and amount is named; nothing of the file is recorded."""
    succeed(*shop.arguments())
    before = succeed("audit")
    shop.sales.write_text(SALES.replace("c2,2026-01-31,7.99", "c9,2026-01-31,8.99") + "c1,2026-02-03,9.00,o-5\n")
    result = guerdon(*shop.arguments())
    assert (result.status, result.out) == (1, "")
    assert result.err.startswith(
        "guerdon: line 3: order o-2 is recorded with another customer, the amount 7.99 USD, not 8.99 USD\n"
    )
    assert succeed("audit") == before


def test_second_tills_file_is_imported_under_a_label_of_its_own(shop: Shop) -> None:
    """Files without order numbers that agree in customer and day are told apart, or refused saying how."""
    arguments = shop.arguments()[:-2]
    assert arguments[-1] == "paid"
    assert "4 recorded" in succeed(*arguments)
    shop.sales.write_text(SALES.replace("12.50", "99.00"))
    result = guerdon(*arguments)
    assert result.status == 1
    assert "is recorded with the amount 12.50 USD, not 99.00 USD" in result.err
    assert "--source" in result.err
    assert "4 recorded" in succeed(*arguments, "--source", "till 2")
    assert "4 known already" in succeed(*arguments, "--source", "till 2")


def test_source_beside_order_numbers_is_a_wrong_call(shop: Shop) -> None:
    """It would change nothing, so whoever gives it means something else."""
    assert "leave one of them out" in refused_call(*shop.arguments("--source", "till 2"))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--merchant", "mer_" + "a" * 26), "there is no merchant"),
        (("--asset", "MILE"), "MILE has no program"),
        (("--key", "no-such.pem"), "no-such.pem cannot be read"),
        (("--customers", "no/such/folder/customers.csv"), "No such file or directory"),
    ],
    ids=["merchant", "asset", "key", "customers"],
)
def test_import_says_what_is_missing(shop: Shop, more: tuple[str, str], message: str) -> None:
    """The last of an option counts; what it names must exist."""
    assert message in fail(*shop.arguments(*more))


def test_customers_file_is_for_its_owner_alone(shop: Shop) -> None:
    """Which customer has which account is personal: mode 0600, also where a file of that name lay open before."""
    path = shop.data / "customers.csv"
    path.write_text("something else, and longer than what comes")
    path.chmod(0o644)
    succeed(*shop.arguments("--customers", path))
    assert path.stat().st_mode & 0o777 == 0o600
    rows = list(csv.reader(path.read_text().splitlines()))
    assert rows[0] == ["customer", "account"]
    assert [customer for customer, _ in rows[1:]] == ["c1", "c2"]
    assert len({account for _, account in rows[1:]}) == 2


# report


def report_rows(text: str) -> list[list[str]]:
    """Cells of the tables a report prints."""
    lines = [line for line in text.splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]


def test_report_says_the_same_in_every_format(imported: Shop) -> None:
    """Table, CSV and JSON hold the same points, by customer and month and in total."""
    options = ("report", "--asset", "STAR", "--customers", imported.data / "customers.csv")
    document = json.loads(succeed(*options, "--format", "json"))
    table = report_rows(succeed(*options))
    lines = list(csv.reader(succeed(*options, "--format", "csv").splitlines()))
    expected = {
        ("c1", "2026-01"): (1, 12),
        ("c1", "2026-02"): (2, 3),
        ("c1", "total"): (3, 15),
        ("c2", "2026-01"): (1, 7),
        ("c2", "total"): (1, 7),
    }
    from_json = {
        (customer["customer"], month["month"]): (month["purchases"], month["points"])
        for customer in document["customers"]
        for month in [*customer["months"], {"month": "total", "purchases": None, "points": customer["points"]}]
    }
    assert {key: points for key, (_, points) in from_json.items()} == {key: row[1] for key, row in expected.items()}
    assert {(row[0], row[2]): (int(row[3]), int(row[4])) for row in lines[1:]} == expected
    shown, name = {}, ""
    for row in [row for row in table if len(row) == 4]:
        name = row[0] or name
        shown[(name, row[1])] = (int(row[2]), int(row[3]))
    assert shown == expected
    months = {row[0]: (int(row[1]), int(row[2])) for row in table if len(row) == 3}
    assert months == {"2026-01": (2, 19), "2026-02": (2, 3), "total": (4, 22)}
    assert (document["points"], document["purchases"], document["members"]) == (22, 4, 2)


def test_report_without_customer_numbers_names_accounts(imported: Shop) -> None:
    """The ledger knows accounts; the numbers are the merchant's own."""
    document = json.loads(succeed("report", "--asset", "STAR", "--format", "json"))
    assert [customer["customer"] for customer in document["customers"]] == [None, None]
    assert all(customer["account"].startswith("mem_") for customer in document["customers"])
    numbers = ledger_cli.read_customers(imported.data / "customers.csv")
    assert set(numbers) == {customer["account"] for customer in document["customers"]}


def test_report_shows_only_the_first_customers_where_asked(imported: Shop) -> None:
    """The rest is counted."""
    out = succeed("report", "--asset", "STAR", "--first", "1")
    assert "… and 1 more customers" in out
    assert [row[1] for row in report_rows(out) if len(row) == 4].count("total") == 1


def test_report_refuses_what_it_cannot_read(imported: Shop, tmp_path: Path) -> None:
    """An unknown asset and a file of another kind are each one line."""
    assert fail("report", "--asset", "MILE") == "there is no asset MILE"
    assert "not of import --customers" in fail("report", "--asset", "STAR", "--customers", imported.sales)
    (tmp_path / "latin").write_bytes(b"account,customer\nx,\xff\n")
    assert "not of import --customers" in fail("report", "--asset", "STAR", "--customers", tmp_path / "latin")
    assert "No such file" in fail("report", "--asset", "STAR", "--customers", tmp_path / "none")


# audit


def test_audit_of_a_sound_ledger_lists_every_check(imported: Shop) -> None:
    """Exit status 0, every check with its name and count."""
    out = succeed("audit", "--processes", "0")
    assert "FAILED" not in out
    lines = [line.split() for line in out.splitlines()]
    checks = CHECKS.keys() - {"log_keys"}  # in a full audit a part of the rules
    assert {line[2]: line[0] for line in lines if line[0] in {"ok", "-"}}.keys() == checks
    document = json.loads(succeed("audit", "--json"))
    assert document["ok"] is True
    assert document["failures"] == []
    assert document["counts"].keys() == checks
    assert f"{document['size']} entries, root {document['root']}" in out


@pytest.mark.parametrize("light", [False, True])
def test_archive_and_database_are_the_same_ledger(imported: Shop, tmp_path: Path, light: bool) -> None:
    """An archive is audited without the database, the name of the command left out or not."""
    succeed("export", tmp_path / "site")
    options = ["--light"] if light else []
    database = json.loads(succeed("audit", "--json", *options))
    archive = json.loads(succeed("audit", "log", tmp_path / "site", "--json", *options))
    assert archive["ok"]
    assert archive["light"] is light
    assert (archive["size"], archive["root"]) == (database["size"], database["root"])
    text = succeed("audit", tmp_path / "site", *options)
    assert text.startswith(f"{'light audit' if light else 'audit'} of {ORIGIN}: {archive['size']} entries")
    assert "the log key is as genesis says" in text
    assert "genesis says" not in succeed("audit", tmp_path / "site", "--log-key", archive["log_key"], *options)


def test_audit_goes_on_from_the_state_it_kept(imported: Shop, tmp_path: Path) -> None:
    """The second audit reads what is new; one of another kind, or from a damaged file, is refused."""
    state = tmp_path / "coalition.audit"
    first = json.loads(succeed("audit", "--json", "--state", state))
    assert first["first"] == 0
    succeed("keys", "generate", tmp_path / "new.pem")
    operator_key = imported.data / "keys" / "operator.pem"
    succeed("keys", "replace-log", tmp_path / "new.pem", "--operator-key", operator_key)
    second = json.loads(succeed("audit", "--json", "--state", state))
    assert (second["first"], second["size"]) == (first["size"], first["size"] + 1)
    assert second["counts"]["entries"] == 1
    assert f"the first {second['size']} were audited before; 0 are new" in succeed("audit", "--state", state)
    assert "keep each in a file of its own" in fail("audit", "--light", "--state", state)
    state.write_bytes(state.read_bytes()[:-1])
    assert "audit anew, into another file" in fail("audit", "--state", state)


def test_receipt_holds_the_ledger_to_its_past(imported: Shop, tmp_path: Path) -> None:
    """A kept checkpoint may be the one a receipt ends with; what is neither is told."""
    with opened_store(ledger_cli.read_settings()) as store, store.read() as connection:
        note = store.head(connection).checkpoint
    (tmp_path / "kept").write_text(note, encoding="utf-8")
    receipt = encode_receipt(Receipt(data=b"{}", seq=0, proof=(), note=note))
    (tmp_path / "receipt").write_text(receipt, encoding="utf-8")
    for name in ("kept", "receipt"):
        document = json.loads(succeed("audit", "--json", "--checkpoint", tmp_path / name))
        assert document["counts"]["history"] == 1
    (tmp_path / "garbage").write_text("garbage", encoding="utf-8")
    result = guerdon("audit", "--checkpoint", tmp_path / "garbage")
    assert result.status == 1
    assert "history: the kept checkpoint cannot be read" in result.out


def test_audit_asks_for_the_witnesses_one_names(imported: Shop, tmp_path: Path) -> None:
    """A ledger that no witness has cosigned fails whoever asks for one."""
    succeed("keys", "generate", tmp_path / "witness.pem")
    key = succeed("witness", "key", "--key", tmp_path / "witness.pem", "--name", "witness.example/w").strip()
    result = guerdon("audit", "--witness", key)
    assert result.status == 1
    assert "witnesses: no checkpoint is cosigned by any of the witnesses" in result.out
    assert "2 of 1 witness cannot cosign" in refused_call("audit", "--witness", key, "--quorum", "2")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (("no-such-folder",), "neither an address"),
        ((".", "--account", "aud_x"), "only a server asks who one is"),
        (("--account", "aud_x"), "only a server asks who one is"),
        (("https://ledger.example/log/", "--account", "aud_x"), "signing in takes both"),
        (("https://ledger.example/log/", "--key", "x.pem"), "signing in takes both"),
        (("http://ledger.example/log/", "--account", "aud_x", "--key", "x.pem"), "over https:// only"),
    ],
)
def test_what_cannot_be_audited_is_a_wrong_call(imported: Shop, call: tuple[str, ...], words: str) -> None:
    """Said at once, before anything is fetched."""
    assert words in refused_call("audit", *call)


def test_folder_without_a_log_is_told(data: Path, tmp_path: Path) -> None:
    """No database is needed, and none is made."""
    assert fail("audit", tmp_path) == "there is no log: it has no checkpoint"
    assert not data.exists()


def test_audit_after_an_edit_names_the_entry(imported: Shop) -> None:
    """Exit status 1, the check and the entry, for people and programs."""
    execute("UPDATE posting SET amount = amount * 2 WHERE seq = (SELECT max(seq) FROM posting)")
    result, as_json = guerdon("audit"), guerdon("audit", "--json")
    assert (result.status, as_json.status) == (1, 1)
    document = json.loads(as_json.out)
    first = document["failures"][0]
    assert document["ok"] is False
    assert (first["check"], first["seq"]) == ("postings", document["size"] - 1)  # the import came last
    assert f"postings: entry {first['seq']}: table posting has" in result.out
    assert result.out.endswith("the ledger is NOT what it claims to be\n")


def test_audit_with_another_log_key_fails(imported: Shop, tmp_path: Path) -> None:
    """A ledger that agrees with itself need not be the one that was meant."""
    succeed("keys", "generate", tmp_path / "other.pem")
    other = succeed("keys", "show", tmp_path / "other.pem", "--origin", ORIGIN).strip()
    result = guerdon("audit", "--log-key", other)
    assert result.status == 1
    assert "checkpoint: entry 0: genesis names the log key" in result.out


@pytest.mark.parametrize("log_key", ["garbage", "", f"{ORIGIN}+00000000+AAAA"])
def test_log_key_that_is_none_is_a_wrong_call(imported: Shop, log_key: str) -> None:
    """A key that cannot be read says nothing about the ledger, so it is not reported as a failed audit."""
    assert "--log-key" in refused_call("audit", "--log-key", log_key)


# backup


def test_backup_is_a_ledger_of_its_own(imported: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy has every entry, is the owner's alone, passes the audit, and is never overwritten."""
    copy = tmp_path / "copies" / "ledger.sqlite"
    copy.parent.mkdir()
    before = succeed("audit")
    assert succeed("backup", copy).startswith(f"{copy}: ")
    assert [path.name for path in copy.parent.iterdir()] == ["ledger.sqlite"]
    assert copy.stat().st_mode & 0o777 == 0o600
    assert "exists: choose another name" in fail("backup", copy)
    monkeypatch.setenv("GUERDON_DATABASE_URL", f"sqlite:///{copy}")
    assert succeed("audit") == before


def test_backup_has_its_name_only_when_it_is_whole(
    imported: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted at any point before the end it leaves no file, and what a killed one left is not in the way."""
    copy = tmp_path / "copies" / "ledger.sqlite"
    copy.parent.mkdir()
    fill = ledger_cli._fill_copy

    def interrupted(store: Store, file: Path) -> int:
        assert not copy.exists()
        fill(store, file)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, opened_store(ledger_cli.read_settings()) as store:
        patched.setattr(ledger_cli, "_fill_copy", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ledger_cli.copy_sqlite(store, copy)
    assert list(copy.parent.iterdir()) == []
    (copy.parent / "ledger.sqlite.x1.partial").write_bytes(b"of a backup that was killed")
    succeed("backup", copy)
    assert copy.exists()


def test_backup_is_on_disk_before_it_has_its_name(
    imported: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is synced before it is renamed, the folder after: a power cut leaves a whole copy or none."""
    copy, seen = tmp_path / "copy.sqlite", []
    sync = os.fsync

    def noted(descriptor: int) -> None:
        seen.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), copy.exists()))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    succeed("backup", copy)
    assert seen == [(False, False), (True, True)]


# serve, and databases that cannot be used


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Calls of the HTTP server, which is not started."""
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(uvicorn, "run", lambda app, **options: calls.append({"app": app, **options}))
    return calls


def test_serve_starts_the_server_on_a_sound_ledger(ledger: Path, served: list[dict[str, Any]]) -> None:
    """Address, port and processes are those of the call."""
    assert succeed("serve", "--port", "8123", "--workers", "3") == f"{ORIGIN} on http://127.0.0.1:8123/graphql\n"
    (call,) = served
    assert (call["host"], call["port"], call["workers"]) == ("127.0.0.1", 8123, 3)
    assert call["proxy_headers"] is False  # otherwise whoever asks from this machine could say who it is


@pytest.mark.parametrize("workers", ["1", "2"])
def test_serve_says_in_one_line_that_its_port_is_taken(ledger: Path, workers: str) -> None:
    """Exit status 1, and no address printed that nobody serves on."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        message = fail("serve", "--port", port, "--workers", workers)
        assert message.startswith(f"cannot listen on 127.0.0.1 port {port} (Address already in use)")
        assert guerdon("serve", "--port", port).out == ""


@pytest.mark.parametrize("host", ["192.0.2.1", "::2", "no.such.host.invalid"])
def test_serve_refuses_an_address_that_is_not_this_machines(ledger: Path, host: str) -> None:
    """Whatever the reason, it is one line."""
    assert fail("serve", "--host", host).startswith(f"cannot listen on {host} port 8000 (")


def test_server_that_ends_at_its_start_is_exit_status_1(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The HTTP server's own status never becomes the command's."""

    def end(*_: Any, **__: Any) -> None:
        sys.exit(3)

    monkeypatch.setattr(uvicorn, "run", end)
    assert fail("serve", "--port", "0") == "the server could not start on 127.0.0.1 port 0"


def test_serve_refuses_a_bad_list_of_documents(
    ledger: Path, served: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One line that names the setting and the document."""
    (tmp_path / "list.json").write_text('{"a": "{ nothing }"}', encoding="utf-8")
    monkeypatch.setenv("GUERDON_DOCUMENTS_FILE", str(tmp_path / "list.json"))
    message = fail("serve")
    assert message.startswith("GUERDON_DOCUMENTS_FILE: a in ")
    assert "Cannot query field 'nothing'" in message
    assert served == []


def test_serve_refuses_a_database_without_tables(data: Path, served: list[dict[str, Any]]) -> None:
    """One line that says what to run."""
    assert fail("serve") == "the database has no tables yet: run guerdon init"
    assert served == []


def test_serve_refuses_a_key_that_is_not_the_ledgers(ledger: Path, served: list[dict[str, Any]]) -> None:
    """Checkpoints under another key would be worth nothing, so nothing is served."""
    (ledger / "keys" / "log.pem").unlink()
    assert "log.pem cannot be read" in fail("serve")
    succeed("keys", "generate", ledger / "keys" / "log.pem")
    assert "set GUERDON_LOG_KEY_FILE" in fail("serve")
    assert served == []


@pytest.mark.parametrize("command", [("serve",), ("audit",), ("report", "--asset", "STAR"), ("backup", "copy.sqlite")])
def test_database_that_cannot_be_used_is_one_line(
    data: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    """No tables, no database at all, a server that does not answer, a setting that is none: never a traceback."""
    assert "run guerdon init" in fail(*command)
    data.mkdir(exist_ok=True)
    (data / "other.sqlite").write_bytes(b"this is no database" * 100)
    monkeypatch.setenv("GUERDON_DATABASE_URL", f"sqlite:///{data / 'other.sqlite'}")
    assert "file is not a database" in fail(*command)
    monkeypatch.setenv("GUERDON_DATABASE_URL", "mysql://localhost/points")
    assert "mysql is not supported" in fail(*command)
    monkeypatch.setenv("GUERDON_DATABASE_URL", "nonsense")
    assert "the database URL is not one" in fail(*command)
    monkeypatch.setenv("GUERDON_READERS", "many")
    assert "GUERDON_READERS" in fail(*command)


def test_server_that_does_not_answer_is_not_taken_for_a_broken_ledger(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL being away is said as such."""
    monkeypatch.setenv("GUERDON_DATABASE_URL", f"postgresql://nobody@/none?host={tmp_path}")
    result = guerdon("audit")
    assert result.status == 1
    assert result.err.startswith("guerdon: the database cannot be used: ")
    assert "Traceback" not in result.err


def test_one_of_several_ledgers_has_to_be_named(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With two ledgers in a database no command guesses which is meant."""
    succeed("init", "--origin", "ledger.example/second")
    assert "GUERDON_ORIGIN" in fail("audit")
    monkeypatch.setenv("GUERDON_ORIGIN", "ledger.example/second")
    assert "audit of ledger.example/second" in succeed("audit")
    monkeypatch.setenv("GUERDON_ORIGIN", "ledger.example/third")
    assert "no ledger ledger.example/third" in fail("audit")


# Receipts and archives


@pytest.fixture
def receipt(tmp_path: Path) -> Path:
    """The receipt of the transfer in the example ledger of FORMAT.md."""
    file = tmp_path / "payment.receipt"
    file.write_bytes(RECEIPT.encode())
    return file


def test_receipt_needs_neither_server_nor_database(data: Path, receipt: Path) -> None:
    """The file and the log's key are enough to say what is proven, from a file or standard input."""
    told = succeed("audit", "receipt", receipt, "--log-key", LOG_KEY)
    assert told.startswith("entry 11 of ledger.example/beans is proven\n")
    assert "posting     -115 BEAN mem_dft7tavzuje5fypyjdlyhlnatu, last day 2026-02-28\n" in told
    assert succeed("audit", "receipt", "-", "--log-key", LOG_KEY, stdin=RECEIPT) == told
    document = json.loads(succeed("audit", "receipt", receipt, "--log-key", LOG_KEY, "--json"))
    assert (document["ok"], document["seq"], document["entry"]["seq"]) == (True, 11, 11)
    assert document["checkpoint"]["origin"] == "ledger.example/beans"
    assert not data.exists()


def test_receipt_is_verified_with_whichever_key_is_the_logs(data: Path, receipt: Path) -> None:
    """One may trust several logs; of other logs' keys alone, nothing is proven."""
    key = encode_verifier_key("ledger.example/beans", Ed25519PrivateKey.from_private_bytes(bytes(32)))
    assert "is proven" in succeed("audit", "receipt", receipt, "--log-key", key, "--log-key", LOG_KEY)
    assert "no signature of a known key" in fail("audit", "receipt", receipt, "--log-key", key)
    assert not data.exists()


@pytest.mark.parametrize(
    ("written", "instead"),
    [(b"index 11", b"index 10"), (b"\n", b"\r\n"), (b"@v1", b"@v2"), (b"extra", b"\xffxtra"), (b"=\n\n", b"=\n")],
)
def test_changed_receipt_is_refused_in_one_line(data: Path, receipt: Path, written: bytes, instead: bytes) -> None:
    """The exit status is 1, and the line says why."""
    changed = receipt.read_bytes().replace(written, instead)
    assert changed != receipt.read_bytes()
    receipt.write_bytes(changed)
    assert fail("audit", "receipt", receipt, "--log-key", LOG_KEY)
    assert not data.exists()


def test_export_writes_what_is_new(shop: Shop, tmp_path: Path) -> None:
    """An archive is a log that a naive client rebuilds, and is continued by the same call."""
    site = tmp_path / "site"
    assert succeed("export", site) == f"{site}: 4 entries, 4 of them new, 3 files written\n"
    succeed(*shop.arguments())
    told = succeed("export", site)
    log_key = succeed("keys", "show", shop.data / "keys" / "log.pem", "--origin", ORIGIN).strip()
    entries = TileClient(lambda name: (site / name).read_bytes(), log_key).check()
    assert told == f"{site}: {len(entries)} entries, {len(entries) - 4} of them new, 3 files written\n"
    assert succeed("export", site) == f"{site}: {len(entries)} entries, 0 of them new, 1 files written\n"
    (site / "checkpoint").write_text("another\n")
    assert "is no checkpoint" in fail("export", site)


# Secrets


def test_no_command_prints_a_private_key_or_passphrase(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, served: list[dict[str, Any]]
) -> None:
    """In success or failure, what is secret stays in its file."""
    passphrase = tmp_path / "pass"
    passphrase.write_text(PASSPHRASE)
    monkeypatch.setenv("GUERDON_KEY_PASSPHRASE_FILE", str(passphrase))
    clear, locked = tmp_path / "clear.pem", tmp_path / "locked.pem"
    unlock = ("--passphrase-file", passphrase)
    operation = json.dumps(TRANSFER)
    results = [
        guerdon("init", "--origin", ORIGIN),
        guerdon("keys", "generate", clear),
        guerdon("keys", "generate", locked, *unlock),
        guerdon("keys", "generate", locked, *unlock),
        guerdon("keys", "show", locked, *unlock),
        guerdon("keys", "show", clear, *unlock),
        guerdon("keys", "show", passphrase, *unlock),
        guerdon("sign", "--key", locked, *unlock, "-", stdin=operation),
        guerdon("sign", "--key", clear, "-", stdin=operation),
        guerdon("sign", "--key", clear, *unlock, "-", stdin=operation),
        guerdon("audit"),
        guerdon("audit", "--json"),
        guerdon("serve"),
    ]
    assert [result.status for result in results] == [0, 0, 0, 1, 0, 1, 1, 0, 0, 1, 0, 0, 0]
    files = {locked: PASSPHRASE, clear: None, **dict.fromkeys((data / "keys").iterdir(), PASSPHRASE)}
    secrets = [PASSPHRASE]
    for path, secret in files.items():
        raw = load_private_key(path, secret.encode() if secret else None).private_bytes_raw()
        secrets += [raw.hex(), base64.b64encode(raw).decode().rstrip("="), base64.urlsafe_b64encode(raw).decode()[:-1]]
        secrets += [line for line in path.read_text().splitlines() if not line.startswith("-----")]
    said = "".join(result.out + result.err for result in results)
    assert said
    assert not [secret for secret in secrets if secret in said]


def test_profile_key_is_made_with_the_ledger_and_replaced(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of mode 0600; a new one takes over with the former beside it, and a stranger's is refused."""
    old, new = ledger / "keys" / "profile.pem", ledger / "keys" / "profile-2.pem"
    assert old.stat().st_mode & 0o777 == 0o600
    settings = Settings.from_environment(os.environ)
    with opened_store(settings) as store, store.write() as transaction:
        profiles = open_profiles(settings, store)
        assert profiles is not None
        profiles.update(transaction, f"mem_{'a' * 26}", lambda _: Profile(name="Ada"), 0)
    succeed("keys", "generate", str(new))
    monkeypatch.setenv("GUERDON_PROFILE_KEY_FILE", str(new))
    assert "profiles are encrypted with another key" in fail("keys", "rewrap-profiles")
    monkeypatch.setenv("GUERDON_OTHER_PROFILE_KEY_FILES", str(old))
    out = succeed("keys", "rewrap-profiles")
    assert f"keys wrapped 2 with {new}" in out
    monkeypatch.delenv("GUERDON_OTHER_PROFILE_KEY_FILES")
    assert "keys wrapped 0 with" in succeed("keys", "rewrap-profiles")
