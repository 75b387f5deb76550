"""Options that several commands share: what one asks of a checkpoint, as typed on the command line.

::

    def command(log_key: LogKeys, witness: Witnesses = None, quorum: Quorum = None) -> None:
        policy = read_policy(log_key, witness, quorum)
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ledger.checkpoint import (
    CheckpointError,
    LogKey,
    WitnessKey,
    WitnessPolicy,
    decode_verifier_key,
    decode_witness_key,
)


def _require_http(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise typer.BadParameter(f"{url!r} is no address of a server: http://… or https://…", param_hint="--url")
    return url


DEFAULT_URL = "http://127.0.0.1:8000"
PassphraseFile = Annotated[
    Path | None, typer.Option("--passphrase-file", help="File with the key's passphrase; keys without one need none.")
]
LogKeys = Annotated[
    list[str],
    typer.Option(
        "--log-key", help="A verifier key of a log one trusts, known from elsewhere; may be given several times."
    ),
]
Witnesses = Annotated[
    list[str] | None,
    typer.Option(
        "--witness", help="A verifier key of a witness one trusts, known from elsewhere; may be given several times."
    ),
]
Quorum = Annotated[
    int | None,
    typer.Option(help="How many of these witnesses must have cosigned; all of them when left out.", min=1),
]
ServiceUrl = Annotated[
    str,
    typer.Option(
        "--url",
        envvar="GUERDON_WALLET_URL",
        help="Where the server is, http://… or https://…",
        callback=_require_http,
    ),
]
SignInAccount = Annotated[
    str, typer.Option("--account", envvar="GUERDON_WALLET_ACCOUNT", help="The account to act as.")
]
SignInKeys = Annotated[
    list[Path],
    typer.Option(
        "--key",
        envvar="GUERDON_WALLET_KEY_FILES",
        help="A private key's file; as many as the account's threshold asks for.",
    ),
]
WalletPassphraseFile = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file",
        envvar="GUERDON_WALLET_PASSPHRASE_FILE",
        help="File with the key's passphrase; keys without one need none.",
    ),
]
TrustedLogKeys = Annotated[
    list[str] | None,
    typer.Option(
        "--log-key",
        envvar="GUERDON_WALLET_LOG_KEYS",
        help="The log's verifier key, known from elsewhere, to verify receipts with; may be given several times.",
    ),
]


def read_log_key(text: str) -> LogKey:
    """A log's verifier key; anything else is a wrong call."""
    try:
        return decode_verifier_key(text)
    except CheckpointError as error:
        raise typer.BadParameter(f"{text!r}: {error}", param_hint="--log-key") from error


def read_witness(text: str) -> WitnessKey:
    """A witness's verifier key; anything else is a wrong call."""
    try:
        return decode_witness_key(text)
    except CheckpointError as error:
        raise typer.BadParameter(f"{text!r}: {error}", param_hint="--witness") from error


def read_policy(log_keys: Sequence[str], witnesses: Sequence[str] | None, quorum: int | None) -> WitnessPolicy:
    """What one asks of a checkpoint: a signature of one of the log keys, and a quorum of the witnesses.

    ``log_keys`` may be empty where the command finds them itself. A quorum nobody can reach is a wrong call.
    """
    logs = tuple(read_log_key(text) for text in log_keys)
    keys = tuple(read_witness(text) for text in witnesses or ())
    if quorum is None:
        quorum = len(keys)
    if quorum > len(keys):
        given = f"{len(keys)} witness{'es' * (len(keys) != 1)}"
        raise typer.BadParameter(f"{quorum} of {given} cannot cosign: give more with --witness", param_hint="--quorum")
    try:
        return WitnessPolicy(log_keys=logs, witnesses=keys, threshold=quorum)
    except CheckpointError as error:
        raise typer.BadParameter(str(error), param_hint="--witness") from error
