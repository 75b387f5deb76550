"""The commands of a wallet against the real server: what they do, ask and say, and what they keep when it fails."""

import errno
import io
import json
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import urllib3

from api import wallet_cli
from api.client_records import Recorded
from api.guerdon import Guerdon, UnansweredError
from api.opening import system_clock
from ledger.checkpoint import WitnessPolicy, decode_verifier_key, encode_verifier_key
from ledger.encoding import format_time, parse_time
from ledger.keyring import save_private_key
from ledger.operations import SignedOperation
from ledger.receipt import verify_receipt
from ledger.terms import ExpiresAfterDays
from ledger.wallet import Wallet, encode_document
from tests.service import serving
from tests.test_cli import Result, fail, guerdon, succeed
from tests.worlds import Clock, World, make_program


class SystemClock(Clock):
    """This machine's clock, which the commands have too."""

    def __call__(self) -> int:
        return system_clock()


class Town(NamedTuple):
    """A served ledger; Alice has 500.00 STAR, and the environment names server, account, key and log key for her."""

    world: World
    url: str
    shop: Wallet
    alice: Wallet
    bob: Wallet
    folder: Path

    def points(self, wallet: Wallet) -> int:
        """What an account has, in the smallest unit."""
        with Guerdon(self.url, account=wallet.account, keys=wallet.keys) as client:
            return client.balance("STAR").total


@pytest.fixture
def town(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Town]:
    clock = SystemClock(format_time(system_clock()))
    with World(f"sqlite:///{tmp_path / 'ledger.sqlite'}", clock=clock) as world:
        shop = world.add_merchant()
        world.add_asset(shop, "STAR", make_program(expiry=ExpiresAfterDays(count=400)), name="Stars", scale=2)
        alice, bob = world.add_members(2)
        world.grant(shop, "STAR", alice, 50_000)
        key = tmp_path / "alice.pem"
        save_private_key(key, alice.keys[0], None)
        with serving(world, tmp_path) as url:
            monkeypatch.setenv("GUERDON_WALLET_URL", url)
            monkeypatch.setenv("GUERDON_WALLET_ACCOUNT", str(alice.account))
            monkeypatch.setenv("GUERDON_WALLET_KEY_FILES", str(key))
            monkeypatch.setenv("GUERDON_WALLET_LOG_KEYS", encode_verifier_key(world.origin, world.log_key))
            monkeypatch.chdir(tmp_path)
            yield Town(world, url, shop, alice, bob, tmp_path)


class Terminal(io.TextIOWrapper):
    """Standard input at which a person sits."""

    def isatty(self) -> bool:
        return True


def at_a_terminal(monkeypatch: pytest.MonkeyPatch, answer: str, *arguments: str) -> Result:
    """Run a command as :func:`guerdon` does, at a terminal, with what is typed there."""
    monkeypatch.setattr(io, "TextIOWrapper", Terminal)
    return guerdon(*arguments, stdin=answer)


# send


def test_send_moves_points_and_tells_what_is_proven(town: Town) -> None:
    """Entry, hash, postings, balance; and the receipt is verified, and kept for its owner alone."""
    out = succeed("send", "12.5", "STAR", str(town.bob.account), "--receipt", "payment.receipt")
    assert (town.points(town.alice), town.points(town.bob)) == (48_750, 1_250)
    receipt = town.folder / "payment.receipt"
    log_key = decode_verifier_key(encode_verifier_key(town.world.origin, town.world.log_key))
    proven = verify_receipt(receipt.read_text("utf-8"), WitnessPolicy(log_keys=(log_key,)))
    assert stat.S_IMODE(receipt.stat().st_mode) == 0o600
    assert f"entry     {proven.seq} of {town.world.origin}, recorded {proven.entry.time}\n" in out
    assert f"hash      {proven.leaf_hash.hex()}\n" in out
    assert f"posting   -12.50 STAR {town.alice.account}, last day 20" in out
    assert f"posting   +12.50 STAR {town.bob.account}, last day 20" in out
    assert "balance   487.50 STAR\n" in out
    assert f"receipt   verified: signed by {town.world.origin}+" in out
    assert "kept in   payment.receipt\n" in out


def test_json_has_smallest_units(town: Town) -> None:
    """For programs: integers, and the receipt itself."""
    told = json.loads(succeed("send", "12.50", "STAR", str(town.bob.account), "--json"))
    assert [leg["amount"] for leg in told["postings"]] == [-1_250, 1_250]
    assert (told["balance"], told["replayed"], told["proven"]) == (48_750, False, True)
    assert told["receipt"].startswith("c2sp.org/tlog-proof@v1\n")
    assert re.fullmatch("[0-9a-f]{64}", told["operation_id"])
    balances = json.loads(succeed("balance", "--json"))
    assert [(found["asset"], found["total"]) for found in balances] == [("STAR", 48_750)]
    lines = json.loads(succeed("history", "--json"))
    assert [(line["asset"], line["amount"], line["balance"]) for line in lines] == [
        ("STAR", 50_000, 50_000),
        ("STAR", -1_250, 48_750),
    ]


@pytest.mark.parametrize("amount", ["0", "0.00", "12.505", "1,250", "1e3", ".5", "all", "90071992547409.92"])
def test_amount_that_is_none_is_a_wrong_call(town: Town, amount: str) -> None:
    """Nothing is guessed and nothing is signed."""
    result = guerdon("send", amount, "STAR", str(town.bob.account), "--receipt", "payment.receipt")
    assert result.status == 2
    assert "AMOUNT" in result.err
    assert town.points(town.alice) == 50_000
    assert not (town.folder / "payment.receipt").exists()


def test_operation_expires_when_it_is_told_to(town: Town) -> None:
    """In ten minutes, if nothing is said: what was lost on its way never surfaces after that."""
    for options, seconds in ((), 600), (("--expires", "60"), 60):
        seq = json.loads(succeed("send", "1", "STAR", str(town.bob.account), "--json", *options))["seq"]
        with Guerdon(town.url, account=town.alice.account, keys=town.alice.keys) as client:
            document = client.query("query($seq: UInt53!) { entry(by: {seq: $seq}) { document } }", {"seq": seq})
        op = json.loads(document["entry"]["document"])["op"]
        assert parse_time(op["expires"]) - parse_time(op["at"]) == seconds * 1000


def test_refusal_is_one_line(town: Town) -> None:
    """With its code; no receipt is left behind."""
    said = fail("send", "500.01", "STAR", str(town.bob.account), "--receipt", "payment.receipt")
    assert said.startswith("INSUFFICIENT_POINTS: ")
    assert not (town.folder / "payment.receipt").exists()
    assert fail("send", "1", "MOON", str(town.bob.account)) == "there is no asset MOON"


def test_receipt_is_never_written_over_another(town: Town) -> None:
    """That is known before anything is sent, and so is a folder that is not there."""
    (town.folder / "payment.receipt").write_text("of another payment")
    said = fail("send", "1", "STAR", str(town.bob.account), "--receipt", "payment.receipt")
    assert "payment.receipt exists" in said
    assert (town.folder / "payment.receipt").read_text() == "of another payment"
    assert "No such file or directory" in fail(
        "send", "1", "STAR", str(town.bob.account), "--receipt", "no/such/folder"
    )
    assert town.points(town.alice) == 50_000


def test_receipt_is_not_called_verified_without_the_logs_key(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GUERDON_WALLET_LOG_KEYS")
    out = succeed("send", "1", "STAR", str(town.bob.account))
    assert "receipt   NOT verified" in out


def test_log_key_that_did_not_sign_is_an_error(town: Town) -> None:
    """The payment is said to be recorded, and is not believed; what was given as a receipt is kept apart."""
    other = encode_verifier_key(town.world.origin, town.world.make_key())
    said = fail("send", "1", "STAR", str(town.bob.account), "--log-key", other, "--receipt", "payment.receipt")
    assert "is said to be recorded, which is not proven" in said
    assert not (town.folder / "payment.receipt").exists()
    assert "guerdon submit unanswered-" in said
    (kept,) = town.folder.glob("unproven-*.receipt")
    assert kept.name in said
    assert kept.read_text("utf-8").startswith("c2sp.org/tlog-proof@v1\n")
    assert guerdon("send", "1", "STAR", str(town.bob.account), "--log-key", "nonsense").status == 2


@pytest.mark.parametrize(("answer", "sent"), [("y\n", True), ("n\n", False), ("\n", False), ("", False)])
def test_person_is_shown_what_would_happen_and_asked(
    town: Town, monkeypatch: pytest.MonkeyPatch, answer: str, sent: bool
) -> None:
    """On standard error, before anything is signed; without a yes, nothing is."""
    result = at_a_terminal(monkeypatch, answer, "send", "12.50", "STAR", str(town.bob.account))
    assert f"12.50 STAR (Stars) to {town.bob.account}, from {town.alice.account}\n" in result.err
    assert f"  -12.50 STAR {town.alice.account}, last day 20" in result.err
    assert "  leaves 487.50 STAR\n" in result.err
    assert (result.status == 0) is sent
    assert ("entry  " in result.out) is sent
    assert town.points(town.alice) == (48_750 if sent else 50_000)


def test_person_is_not_asked_where_it_would_be_refused_or_was_told_yes(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refusal is told at once; --yes asks nothing."""
    result = at_a_terminal(monkeypatch, "", "send", "500.01", "STAR", str(town.bob.account))
    assert result.status == 1
    assert result.err.startswith("guerdon: INSUFFICIENT_POINTS: ")
    result = at_a_terminal(monkeypatch, "", "send", "1", "STAR", str(town.bob.account), "--yes")
    assert (result.status, result.err) == (0, "")


def test_submission_without_an_answer_is_kept_and_can_be_sent_again(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it was recorded or not: the file has the document, and `guerdon submit` gets it recorded once."""
    real = Guerdon.submit
    lost: list[SignedOperation] = []

    def lose(client: Guerdon, signed: SignedOperation) -> Any:
        real(client, signed)
        lost.append(signed)
        raise UnansweredError("the server does not answer", signed)

    monkeypatch.setattr(Guerdon, "submit", lose)
    said = fail("send", "12.50", "STAR", str(town.bob.account), "--receipt", "payment.receipt")
    monkeypatch.undo()
    name = f"unanswered-{lost[0].op_id.hex()[:16]}.json"
    assert f"guerdon submit {town.folder / name}" in said or f"guerdon submit {name}" in said
    assert not (town.folder / "payment.receipt").exists()
    log_key = encode_verifier_key(town.world.origin, town.world.log_key)
    again = ("submit", town.folder / name, "--url", town.url, "--log-key", log_key)
    out = succeed(*again, "--receipt", town.folder / "late.receipt")
    assert ", as an earlier submission had it recorded\n" in out
    assert "receipt   verified" in out
    assert town.points(town.alice) == 48_750


def during_submission(monkeypatch: pytest.MonkeyPatch, act: Callable[[Guerdon, SignedOperation], Any]) -> None:
    """Have something else happen where a client submits."""
    monkeypatch.setattr(Guerdon, "submit", act)


def unanswered(town: Town) -> list[Path]:
    return list(town.folder.glob("unanswered-*.json"))


def test_document_is_kept_before_it_is_sent(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """For its owner alone, so that a command that is killed leaves it behind; once there is an answer, it is gone."""
    real = Guerdon.submit

    def look(client: Guerdon, signed: SignedOperation) -> Recorded:
        (file,) = unanswered(town)
        assert file.read_bytes() == encode_document(signed) + b"\n"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        return real(client, signed)

    during_submission(monkeypatch, look)
    succeed("send", "1", "STAR", str(town.bob.account))
    assert unanswered(town) == []
    fail("send", "1000", "STAR", str(town.bob.account))
    assert unanswered(town) == []


def test_interrupted_command_says_how_to_go_on(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C, while the server may be recording: the document is kept, and submitting it pays once."""
    real = Guerdon.submit

    def interrupted(client: Guerdon, signed: SignedOperation) -> Recorded:
        real(client, signed)
        raise KeyboardInterrupt

    during_submission(monkeypatch, interrupted)
    result = guerdon("send", "1", "STAR", str(town.bob.account), "--receipt", "payment.receipt")
    monkeypatch.setattr(Guerdon, "submit", real)
    assert result.status != 0
    (file,) = unanswered(town)
    assert f"is recorded is not known: guerdon submit {file.name} sends the same again" in result.err
    assert not (town.folder / "payment.receipt").exists()
    assert ", as an earlier submission had it recorded\n" in succeed("submit", file)
    assert file.exists()  # it is the caller's file, now
    assert town.points(town.alice) == 49_900


def test_document_that_cannot_be_kept_is_said(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the only way to learn what became of it."""

    def lose(_: Guerdon, signed: SignedOperation) -> Recorded:
        raise UnansweredError("the server does not answer", signed)

    during_submission(monkeypatch, lose)
    monkeypatch.setattr(wallet_cli, "_write", no_space)
    said = fail("send", "1", "STAR", str(town.bob.account))
    assert unanswered(town) == []
    document = said.partition("cannot record it twice: ")[2]
    monkeypatch.undo()
    assert json.loads(succeed("submit", "-", "--url", town.url, "--json", stdin=document))["replayed"] is False


def no_space(_descriptor: int, _text: str) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_payment_whose_receipt_cannot_be_kept_is_told_as_made(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """The entry is printed, the receipt goes to standard error, and nobody thinks that it has to be paid again."""
    monkeypatch.setattr(wallet_cli, "_write", no_space)
    result = guerdon("send", "1", "STAR", str(town.bob.account), "--receipt", "payment.receipt")
    assert result.status == 1
    assert "receipt   verified" in result.out
    assert "kept in" not in result.out
    receipt, end, said = result.err.partition("\nguerdon: ")
    assert end
    assert re.match("operation [0-9a-f]{64} is recorded as entry [0-9]+: do not send it anew", said)
    log_key = decode_verifier_key(encode_verifier_key(town.world.origin, town.world.log_key))
    assert verify_receipt(receipt, WitnessPolicy(log_keys=(log_key,))).entry.postings[0].amount == -100
    assert not (town.folder / "payment.receipt").exists()
    assert town.points(town.alice) == 49_900


def test_receipt_is_kept_even_if_nobody_reads_the_result(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when what reads the output has gone."""

    def gone(*_: object) -> None:
        raise OSError("nobody reads this")

    monkeypatch.setattr(wallet_cli, "_print_recorded", gone)
    assert guerdon("send", "1", "STAR", str(town.bob.account), "--receipt", "payment.receipt").status == 1
    assert (town.folder / "payment.receipt").read_text("utf-8").startswith("c2sp.org/tlog-proof@v1\n")


def test_what_proves_nothing_is_shown_where_it_cannot_be_kept(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be all there is to show that the server lied."""
    other = encode_verifier_key(town.world.origin, town.world.make_key())
    monkeypatch.setattr(wallet_cli, "_write", no_space)
    result = guerdon("send", "1", "STAR", str(town.bob.account), "--log-key", other)
    assert result.err.startswith("c2sp.org/tlog-proof@v1\n")
    assert "which is not proven" in result.err
    assert "what it gave as a receipt is above" in result.err


# redeem


def test_redeem_spends_at_a_merchant(town: Town) -> None:
    """Under the merchant's reference, if there is one."""
    out = succeed("redeem", "500", "STAR", str(town.shop.account), "--reference", "bill-17")
    assert "balance   0.00 STAR\n" in out
    assert town.points(town.alice) == 0


def test_redeem_asks_a_person(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    result = at_a_terminal(monkeypatch, "y\n", "redeem", "1.5", "STAR", str(town.shop.account))
    assert f"1.5 STAR (Stars) at {town.shop.account}, from {town.alice.account}\n" in result.err
    assert result.status == 0
    assert town.points(town.alice) == 49_850


# submit


def test_submit_takes_what_sign_printed(town: Town, tmp_path: Path) -> None:
    """From a file or standard input, of any kind; twice, it is one entry."""
    key = town.world.make_key()
    document = encode_document(town.world.open_member(key)).decode()
    file = tmp_path / "opening.json"
    file.write_text(document + "\n")
    first = json.loads(succeed("submit", file, "--json"))
    second = json.loads(succeed("submit", "-", "--json", stdin=document))
    assert (first["replayed"], second["replayed"]) == (False, True)
    assert (first["seq"], first["hash"]) == (second["seq"], second["hash"])


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("not JSON", "not JSON"),
        ("[1]", "Expected `object`, got `array`"),
        ('{"op":{},"sigs":[]}', "Object missing required field `kind`"),
        ('{"op":{"kind":"transfer"}}', "sigs"),
    ],
)
def test_submit_says_in_one_line_what_is_no_operation(town: Town, document: str, message: str) -> None:
    assert message in fail("submit", "-", stdin=document)


# balance and history


def test_balance_tells_what_expires_next(town: Town) -> None:
    """In the asset's own decimals."""
    out = succeed("balance")
    assert re.fullmatch(r" +500\.00 STAR, 500\.00 until [0-9-]{10}\n", out)


def test_account_without_points_is_told_so(town: Town, tmp_path: Path) -> None:
    key = tmp_path / "bob.pem"
    save_private_key(key, town.bob.keys[0], None)
    bob = ("--account", str(town.bob.account), "--key", key)
    assert succeed("balance", *bob) == "no points\n"
    assert succeed("history", *bob) == ""
    assert succeed("history", "STAR", *bob) == ""
    assert fail("history", "MOON", *bob) == "there is no asset MOON"


def test_history_has_the_newest_lines_the_oldest_first(town: Town) -> None:
    for amount in ("1", "2", "3"):
        succeed("send", amount, "STAR", str(town.bob.account))
    lines = succeed("history", "STAR", "--lines", "2").splitlines()
    assert [re.split(" +", line)[1:5] for line in lines] == [
        ["-2.00", "STAR", "497.00", "transfer"],
        ["-3.00", "STAR", "494.00", "transfer"],
    ]
    assert len(succeed("history").splitlines()) == 4


def test_another_accounts_key_is_refused(town: Town, tmp_path: Path) -> None:
    """In one line, with the code."""
    key = tmp_path / "bob.pem"
    save_private_key(key, town.bob.keys[0], None)
    for command in (("balance",), ("history",), ("send", "1", "STAR", str(town.bob.account))):
        assert re.match("[A-Z_]+: ", fail(*command, "--key", key))


def test_several_keys_are_named_with_colons_between(
    town: Town, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An account that takes two signatures gets them."""
    keys = [town.world.make_key(), town.world.make_key()]
    with Guerdon(town.url, keys=keys) as client:
        client.open_account(threshold=2)
        account = str(client.account)
    town.world.grant(town.shop, "STAR", town.world.wallet(account), 700)
    files = [tmp_path / "one.pem", tmp_path / "two.pem"]
    for file, key in zip(files, keys, strict=True):
        save_private_key(file, key, b"secret")
    (tmp_path / "pass").write_text("secret\n")
    monkeypatch.setenv("GUERDON_WALLET_ACCOUNT", account)
    monkeypatch.setenv("GUERDON_WALLET_KEY_FILES", f"{files[0]}:{files[1]}")
    assert "encrypted" in fail("balance")
    monkeypatch.setenv("GUERDON_WALLET_PASSPHRASE_FILE", str(tmp_path / "pass"))
    assert succeed("balance").strip().startswith("7.00 STAR")
    assert "balance   6.00 STAR" in succeed("send", "1", "STAR", str(town.bob.account))


@pytest.mark.parametrize(
    "call",
    [
        ("send",),
        ("send", "1", "STAR"),
        ("send", "1", "STAR", "mem_x", "--expires", "0"),
        ("send", "1", "STAR", "mem_x", "--url", "file:///etc/passwd"),
        ("redeem", "1", "STAR"),
        ("submit",),
        ("submit", "no-such-file"),
        ("history", "--lines", "0"),
        ("balance", "--url", "ledger.example"),
    ],
    ids=" ".join,
)
def test_wrong_call_exits_with_2(town: Town, call: tuple[str, ...]) -> None:
    result = guerdon(*call)
    assert result.status == 2
    assert "Usage: guerdon" in result.err


def test_account_and_key_have_to_be_named(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """By option or environment; the message names both."""
    monkeypatch.delenv("GUERDON_WALLET_ACCOUNT")
    result = guerdon("balance")
    assert result.status == 2
    assert "--account" in result.err
    assert "GUERDON_WALLET_ACCOUNT" in result.err


def test_server_that_does_not_answer_is_one_line(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """And said without a wait."""
    waits: list[float] = []
    monkeypatch.setattr(urllib3.Retry, "sleep", lambda self, _=None: waits.append(self.get_backoff_time()))
    assert "does not answer" in fail("balance", "--url", "http://127.0.0.1:9")
    assert sum(waits) == 0


def test_no_private_key_is_printed(town: Town) -> None:
    """Nor kept in a receipt or document."""
    secrets = [line for line in (town.folder / "alice.pem").read_text().splitlines() if not line.startswith("-----")]
    said = "".join(
        f"{result.out}{result.err}"
        for result in (
            guerdon("send", "1", "STAR", str(town.bob.account), "--json", "--receipt", "r"),
            guerdon("send", "1000", "STAR", str(town.bob.account)),
            guerdon("balance"),
            guerdon("history", "--json"),
        )
    )
    said += (town.folder / "r").read_text()
    assert not [secret for secret in secrets if secret in said]
