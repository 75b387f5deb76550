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
from ledger.program_terms import ExpiresAfterDays, NeverExpires
from ledger.receipt import verify_receipt
from ledger.terms import AcceptanceTerms, ExchangeTerms, Fee, KeptFee, Rate, TransferTerms
from ledger.wallet import Wallet, encode_document
from tests.partners import agree, owe_usd
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
    with monkeypatch.context() as patch:
        patch.setattr(io, "TextIOWrapper", Terminal)
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


def test_send_agrees_to_a_fee(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the currency's decimals; without that, what is refused is told with the option that agrees to it."""
    fee = Fee(amount=5, currency="USD", points=100, round="up")
    town.world.add_asset(town.shop, "COIN", scale=1, transfer_terms=TransferTerms(fee=fee))
    town.world.grant(town.shop, "COIN", town.alice, 1_000)
    said = fail("send", "20", "COIN", str(town.bob.account))
    assert said.startswith("FEE_ABOVE_LIMIT: ")
    assert said.endswith("; --maximum-fee 0.10 agrees to 0.10 USD")
    said = at_a_terminal(monkeypatch, "", "send", "20", "COIN", str(town.bob.account), "--maximum-fee", "0.09").err
    assert said.endswith("; --maximum-fee 0.10 agrees to 0.10 USD\n")
    out = succeed("send", "20", "COIN", str(town.bob.account), "--maximum-fee", "0.10")
    assert f"posting   -20.0 COIN {town.alice.account}\n" in out
    assert f"posting   -0.10 USD {town.alice.account}\n" in out
    assert f"posting   +0.10 USD {town.shop.account}\n" in out
    assert "balance   80.0 COIN\n" in out
    for amount in ("0.105", "much"):
        result = guerdon("send", "20", "COIN", str(town.bob.account), "--maximum-fee", amount)
        assert (result.status, "--maximum-fee" in result.err) == (2, True)
    # Where nothing is due, nothing has to be agreed to.
    assert "balance   490.00 STAR\n" in succeed("send", "10", "STAR", str(town.bob.account), "--maximum-fee", "0.10")


# quote and exchange


class Market(NamedTuple):
    """A town with a bakery: 5.00 STAR become 0.3 BEAN for a fee, whole steps of 5 only; it accepts STAR for a cent."""

    town: Town
    bakery: Wallet
    till: tuple[str | Path, ...]


@pytest.fixture
def market(town: Town) -> Market:
    world = town.world
    bakery = world.add_merchant("Bakery")
    world.add_asset(bakery, "BEAN", make_program(expiry=NeverExpires()), name="Beans", scale=1)
    fee = KeptFee(amount=1, currency="USD", kept_by=str(bakery.account), points=1_000, round="up")
    exchange = ExchangeTerms(
        asset="STAR",
        claim=owe_usd(town.shop),
        fee=fee,
        into="BEAN",
        off_step="down",
        rate=Rate(get=3, give=500),
        received="retired",
        step=500,
    )
    acceptance = AcceptanceTerms(asset="STAR", claim=owe_usd(town.shop), received="retired")
    world.record(*(agree(world, town.shop, bakery, terms=terms) for terms in (exchange, acceptance)))
    key = town.folder / "till.pem"
    save_private_key(key, bakery.keys[0], None)
    return Market(town, bakery, ("--account", str(bakery.account), "--key", key))


def test_quote_tells_what_points_can_become(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    """The best first, with what is left over and what it costs; nobody has to sign in for that."""
    grocer = market.town.world.add_merchant("Grocer")
    market.town.world.add_asset(grocer, "LEAF")
    terms = ExchangeTerms(asset="BEAN", into="LEAF", rate=Rate(get=2, give=1), received="retired")
    market.town.world.record(agree(market.town.world, market.bakery, grocer, terms=terms))
    for name in ("ACCOUNT", "KEY_FILES", "LOG_KEYS"):
        monkeypatch.delenv(f"GUERDON_WALLET_{name}")
    left = "1.50 STAR left over, a fee of 0.02 USD"
    bean, leaf = (
        f"             1.2 BEAN by STAR>BEAN, {left}\n",
        f"              24 LEAF by STAR>BEAN, BEAN>LEAF, {left}\n",
    )
    assert succeed("quote", "21.50", "STAR") == bean + leaf
    assert succeed("quote", "21.50", "STAR", "LEAF") == leaf
    (path,) = json.loads(succeed("quote", "21.50", "STAR", "BEAN", "--json"))["paths"]
    assert (path["out"], path["hops"][0]["given"], path["hops"][0]["feeAmount"]) == (12, 2_000, 2)
    assert succeed("quote", "5", "LEAF") == "5 LEAF can become nothing else now\n"
    assert fail("quote", "5", "LEAF", "STAR").startswith("NO_AGREEMENT: ")
    assert fail("quote", "1", "STAR", "BEAN").startswith("BELOW_MINIMUM: ")
    assert fail("quote", "5", "MOON") == "there is no asset MOON"


def test_exchange_signs_the_quote(market: Market) -> None:
    """Each amount in the decimals of what it is of; the receipt is kept."""
    out = succeed("exchange", "21.50", "STAR", "BEAN", "--receipt", "exchange.receipt")
    alice, bakery = market.town.alice.account, market.bakery.account
    assert f"posting   -20.00 STAR {alice}, last day 20" in out
    assert f"posting   +1.2 BEAN {alice}\n" in out
    assert f"posting   -0.02 USD {alice}\n" in out
    assert f"posting   +20.00 USD {bakery}\n" in out
    assert "balance   480.00 STAR\n" in out
    assert "receipt   verified" in out
    assert (market.town.folder / "exchange.receipt").exists()
    told = json.loads(succeed("exchange", "5", "STAR", "BEAN", "--json"))
    assert (told["given"], told["out"], told["fees"], told["balance"]) == (500, 3, {"USD": 1}, 47_500)
    said = recorded_operation(market.town, told["seq"])
    assert (said["minimum_out"], said["maximum_fee"]) == (3, 1)


def recorded_operation(town: Town, seq: int) -> Any:
    """The document of an entry that Alice may see."""
    with Guerdon(town.url, account=town.alice.account, keys=town.alice.keys) as client:
        found = client.query("query($seq: UInt53!) { entry(by: {seq: $seq}) { document } }", {"seq": seq})
    return json.loads(found["entry"]["document"])["op"]


def test_exchange_takes_limits_of_ones_own(market: Market) -> None:
    """Below the outcome they let terms change in between; above it nothing happens."""
    told = json.loads(
        succeed("exchange", "5", "STAR", "BEAN", "--minimum-out", "0.2", "--maximum-fee", "0.50", "--json")
    )
    said = recorded_operation(market.town, told["seq"])
    assert (said["minimum_out"], said["maximum_fee"]) == (2, 50)
    assert fail("exchange", "5", "STAR", "BEAN", "--minimum-out", "0.4").startswith("OUTCOME_TOO_SMALL: ")
    said = fail("exchange", "5", "STAR", "BEAN", "--maximum-fee", "0")
    assert said.startswith("FEE_ABOVE_LIMIT: ")
    assert said.endswith("; --maximum-fee 0.01 agrees to 0.01 USD")
    for option, amount in (("--minimum-out", "0.25"), ("--minimum-out", "0"), ("--maximum-fee", "0.005")):
        result = guerdon("exchange", "5", "STAR", "BEAN", option, amount)
        assert (result.status, option in result.err) == (2, True)
    assert market.town.points(market.town.alice) == 49_500


def test_exchange_that_would_be_refused_is_one_line(market: Market) -> None:
    assert fail("exchange", "505", "STAR", "BEAN").startswith("INSUFFICIENT_POINTS: ")
    assert fail("exchange", "1", "BEAN", "STAR").startswith("NO_AGREEMENT: ")
    assert fail("exchange", "5", "STAR", "MOON") == "there is no asset MOON"
    assert list(market.town.folder.glob("unanswered-*")) == []


@pytest.mark.parametrize(("answer", "done"), [("y\n", True), ("n\n", False)])
def test_person_is_shown_the_quote_and_asked(
    market: Market, monkeypatch: pytest.MonkeyPatch, answer: str, done: bool
) -> None:
    """What comes out, what it costs, which lots it uses, how long the terms stand, and what is signed."""
    result = at_a_terminal(monkeypatch, answer, "exchange", "21.50", "STAR", "BEAN", "--maximum-fee", "1")
    lines = result.err.splitlines()
    assert lines[0] == f"21.50 STAR (Stars) into BEAN (Beans), from {market.town.alice.account}"
    assert lines[1] == "  quote  20.00 STAR become 1.2 BEAN, for a fee of 0.02 USD"
    assert re.fullmatch(r"  lots   20\.00 STAR of 20[0-9-]+", lines[2])
    assert lines[3] == "  terms  STAR>BEAN version 1, in force with no end known"
    assert lines[4] == "  signs  at least 1.2 BEAN for at most 1.00 USD"
    assert "  leaves 480.00 STAR" in lines
    assert (result.status == 0) is done
    assert market.town.points(market.town.alice) == (48_000 if done else 50_000)


# hold, holds, capture and release


def test_hold_is_captured_by_a_till(market: Market) -> None:
    """Its id is printed; holder and till see what is left; the last capture gives the rest back."""
    bakery = str(market.bakery.account)
    out = succeed("hold", "20", "STAR", bakery, "--minutes", "30", "--reference", "table-4")
    found = re.search("^hold      (hld_[a-z2-7]{26}) until (.*)$", out, re.MULTILINE)
    assert found is not None
    assert "balance   480.00 STAR\n" in out
    hold, until = found.groups()
    line = f"{hold} {{:>16}} of 20.00 STAR {market.town.alice.account} for {bakery}, {{}}, until {until}, table-4\n"
    assert succeed("holds") == succeed("holds", *market.till) == line.format("20.00", "open")
    out = succeed("capture", hold, "7.50", "--reference", "till-1", *market.till)
    assert "posting   -7.50 STAR sys_held\n" in out
    assert f"posting   +7.50 USD {bakery}\n" in out
    assert succeed("holds", "STAR") == line.format("12.50", "open")
    assert fail("capture", hold, "12.51", *market.till).startswith("HOLD_EXCEEDED: ")
    succeed("capture", hold, "10", "--final", *market.till)
    assert succeed("holds") == "nothing on hold\n"
    assert succeed("holds", "--all") == line.format("0.00", "captured")
    (told,) = json.loads(succeed("holds", "--all", "--json"))
    assert (told["id"], told["captured"], told["status"]) == (hold, 1_750, "captured")
    assert market.town.points(market.town.alice) == 48_250
    assert fail("capture", hold, "1", *market.till).startswith("HOLD_CLOSED: ")


def test_hold_is_released(market: Market) -> None:
    """By the merchant; its holder has to wait."""
    told = json.loads(succeed("hold", "20", "STAR", str(market.bakery.account), "--minutes", "30", "--json"))
    assert parse_time(told["until"]) - parse_time(told["time"]) in range(1_700_000, 1_800_001)
    assert fail("release", told["hold"]).startswith("NOT_PERMITTED: ")
    assert f"+20.00 STAR {market.town.alice.account}, last day 20" in succeed("release", told["hold"], *market.till)
    assert market.town.points(market.town.alice) == 50_000
    unknown = f"hld_{'a' * 26}"
    assert (
        fail("capture", unknown, "1", *market.till)
        == f"there is no hold {unknown} that {market.bakery.account} may capture"
    )
    assert fail("release", unknown).startswith(f"there is no hold {unknown} ")


def test_till_is_asked_too(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    """With whose points they are and what becomes of the rest."""
    alice, bakery = market.town.alice.account, str(market.bakery.account)
    result = at_a_terminal(monkeypatch, "n\n", "hold", "20", "STAR", bakery, "--minutes", "5")
    assert re.match(rf"20 STAR \(Stars\) on hold for {bakery} until 20[^,]+, from {alice}\n", result.err)
    hold = json.loads(succeed("hold", "20", "STAR", bakery, "--minutes", "5", "--json"))["hold"]
    result = at_a_terminal(monkeypatch, "n\n", "capture", hold, "15", "--final", *map(str, market.till))
    assert result.err.startswith(f"15 STAR of 20.00 STAR on hold of {alice}, the rest goes back, from {bakery}\n")
    assert f"  +5.00 STAR {alice}, last day 20" in result.err
    result = at_a_terminal(monkeypatch, "n\n", "release", hold, *map(str, market.till))
    assert result.err.startswith(f"20.00 STAR on hold back to {alice}, from {bakery}\n")
    assert "nothing was signed" in result.err
    assert "20.00 of 20.00 STAR" in succeed("holds")


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
        ("quote", "1"),
        ("exchange", "1", "STAR"),
        ("hold", "1", "STAR", "mer_x"),
        ("hold", "1", "STAR", "mer_x", "--minutes", "0"),
        ("holds", "--lines", "0"),
        ("capture", "hld_x"),
        ("release",),
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
