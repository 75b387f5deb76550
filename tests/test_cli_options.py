"""What one asks of a checkpoint, as typed: log keys, witnesses and a quorum, in every command that takes them."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from api.cli_options import read_policy
from ledger.checkpoint import cosign_checkpoint, encode_verifier_key, encode_witness_key
from tests.format_examples import KEYS, ORIGIN, examples
from tests.test_cli import data, fail, guerdon, succeed

__all__ = ["data"]

RECEIPT = examples()["receipt-11"]
LOG_KEY = examples()["verifier-key"].strip()
SECRETS = [Ed25519PrivateKey.from_private_bytes(bytes([200 + i]) * 32) for i in range(3)]
NAMES = [f"witness.example/w{i}" for i in range(3)]
VKEYS = [str(encode_witness_key(name, key)) for name, key in zip(NAMES, SECRETS, strict=True)]
TIME_S = 1_795_000_000


def cosigned(*numbers: int, time_s: int = TIME_S) -> str:
    """The example's receipt with cosignatures of these witnesses."""
    note = RECEIPT.split("\n\n", 1)[1]
    return RECEIPT + "".join(cosign_checkpoint(note, SECRETS[i], NAMES[i], time_s) for i in numbers)


def call(*options: str) -> list[str]:
    return ["audit", "receipt", "-", "--log-key", LOG_KEY, *options]


def trusting(*numbers: int) -> list[str]:
    return [part for number in numbers for part in ("--witness", VKEYS[number])]


@pytest.mark.parametrize(
    ("trusted", "quorum"),
    [((), None), ((0,), None), ((0, 1), None), ((0, 1), 2), ((0, 1, 2), 2), ((0, 2), 1), ((2, 0), 1)],
)
def test_receipt_that_satisfies_the_policy_is_proven(data: Path, trusted: tuple[int, ...], quorum: int | None) -> None:
    """Cosigned by witnesses 0 and 1, of whom those one trusts are told, with their times."""
    options = trusting(*trusted) + (["--quorum", str(quorum)] if quorum is not None else [])
    told = succeed(*call(*options), stdin=cosigned(0, 1))
    assert told.startswith(f"entry 11 of {ORIGIN} is proven\n")
    for number, name in enumerate(NAMES):
        assert (f"  cosigned    by {name} at 2026-11-18T11:06:40.000Z\n" in told) == (number in {0, 1} & set(trusted))
    document = json.loads(succeed(*call(*options, "--json"), stdin=cosigned(0, 1)))
    known = [{"witness": NAMES[number], "timestamp_s": TIME_S} for number in (0, 1) if number in trusted]
    assert (document["cosignatures"], document["log_keys"]) == (known, [LOG_KEY])
    assert not data.exists()


@pytest.mark.parametrize(
    ("trusted", "quorum", "message"),
    [
        ((2,), None, "cosigned by 0 of the 1 witnesses it takes: none"),
        ((0, 1, 2), None, f"cosigned by 2 of the 3 witnesses it takes: {NAMES[0]}, {NAMES[1]}"),
        ((0, 2), 2, f"cosigned by 1 of the 2 witnesses it takes: {NAMES[0]}"),
    ],
)
def test_receipt_with_too_few_cosignatures_proves_nothing(
    data: Path, trusted: tuple[int, ...], quorum: int | None, message: str
) -> None:
    """Of the witnesses one trusts all must have cosigned, unless the quorum is smaller."""
    options = trusting(*trusted) + (["--quorum", str(quorum)] if quorum is not None else [])
    assert message in fail(*call(*options), stdin=cosigned(0, 1))


def test_forged_cosignature_is_refused(data: Path) -> None:
    """A line under a trusted witness's name and key id that is not its signature spoils the receipt."""
    line = cosigned(0).removeprefix(RECEIPT)
    forged = RECEIPT + line[:-10] + ("A" if line[-10] != "A" else "B") + line[-9:]
    message = fail(*call(*trusting(0)), stdin=forged)
    assert f"the signature of {NAMES[0]} is not valid" in message
    assert "is proven" in succeed(*call(), stdin=forged)


def test_time_beyond_all_calendars_is_shown_as_a_number(data: Path) -> None:
    """A witness may state what it likes."""
    told = succeed(*call(*trusting(0)), stdin=cosigned(0, time_s=2**62))
    assert f"cosigned    by {NAMES[0]} at {2**62} s\n" in told


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--witness", "x"], "--witness"),
        (["--witness", LOG_KEY], "--witness"),
        (["--log-key", VKEYS[0]], "--log-key"),
        (["--quorum", "1"], "--quorum"),
        ([*trusting(0, 1), "--quorum", "3"], "--quorum"),
        ([*trusting(0, 1), "--quorum", "0"], "--quorum"),
        ([*trusting(0, 1), "--quorum", "all"], "--quorum"),
        (trusting(0, 0), "--witness"),
        (["--witness", str(encode_witness_key("alias.example", SECRETS[0])), *trusting(0)], "--witness"),
        (["--witness", str(encode_witness_key("own.example", KEYS["log"]))], "--witness"),
    ],
)
def test_policy_that_cannot_be_meant_is_a_wrong_call(data: Path, options: list[str], said: str) -> None:
    """It says which option."""
    result = guerdon(*call(*options), stdin=cosigned(0, 1))
    assert result.status == 2
    assert said in result.err


def test_policy_takes_several_keys_of_a_log() -> None:
    """A log may have had several; and a command may add those it finds itself."""
    other = str(encode_verifier_key(ORIGIN, SECRETS[2]))
    found = read_policy([LOG_KEY, other], VKEYS[:2], None)
    assert [key.name for key in found.log_keys] == [ORIGIN] * 2
    assert (len(found.witnesses), found.threshold) == (2, 2)
    assert read_policy([], None, None).threshold == 0


@pytest.mark.parametrize("given", [{"log_keys": ["x"]}, {"witnesses": ["x"]}, {"quorum": 2}])
def test_wrong_policy_raises_bad_parameter(given: dict[str, Any]) -> None:
    """Typer turns it into a usage error."""
    with pytest.raises(typer.BadParameter):
        read_policy(**{"log_keys": [LOG_KEY], "witnesses": VKEYS[:1], "quorum": None} | given)
