"""The command ``guerdon``: a wallet's commands, keys and signatures; those of a ledger are in :mod:`api.ledger_cli`.

Every command reads the same settings as the server (``GUERDON_*``, see :mod:`api.settings`), has an example in its
help, and exits with 0 only for success, 1 when what was asked did not succeed, 2 for a wrong call.

Loading what a ledger needs, database, GraphQL and audit, takes far longer than signing a transfer: it is left to the
commands that use it.
"""

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.core import TyperGroup

from api.cli_options import DEFAULT_URL, PassphraseFile, ServiceUrl, SignInAccount, SignInKeys, WalletPassphraseFile
from api.client import ServiceError, open_session
from api.json_files import read_json
from api.profile_cli import profile_app
from api.program_simulation_cli import simulate_command
from api.programs_cli import enroll, plan_app, pool_app, program_app, voucher_app
from api.settings import Settings, SettingsError
from api.wallet_cli import (
    balance,
    capture,
    exchange,
    history,
    hold,
    holds,
    quote,
    redeem,
    release,
    send,
    submit,
)
from ledger.checkpoint import CheckpointError, encode_verifier_key
from ledger.encoding import EncodingError, encode_base64url, encode_canonical, format_time
from ledger.entries import MAX_ENTRY_BYTES
from ledger.keyring import KeyFileError, generate_private_key, load_private_key, read_passphrase
from ledger.keys import encode_public_key
from ledger.operations import (
    MalformedError,
    SignedOperation,
    build_operation,
    decode_signed_operation,
    sign_with,
)
from ledger.receipt import ReceiptError
from ledger.wallet import encode_document, sign_operation


class _WithLedgerCommands(TyperGroup):
    """Commands that are there at once, and those of :mod:`api.ledger_cli` when another or the list is asked for."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A command by name; None if there is none."""
        if cmd_name not in self.commands:
            self._take_in()
        return super().get_command(ctx, cmd_name)

    def list_commands(self, ctx: Any) -> list[str]:
        """The names of all commands."""
        self._take_in()
        return super().list_commands(ctx)

    def _take_in(self) -> None:
        from api import ledger_cli  # noqa: PLC0415 - takes most of a second, see above

        self.commands = {**typer.main.get_group(ledger_cli.app).commands, **self.commands}


app = typer.Typer(
    cls=_WithLedgerCommands,
    help="Guerdon: loyalty points as a currency, on a ledger anyone entitled to can verify.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
keys_app = typer.Typer(help="Make and show Ed25519 keys.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(keys_app, name="keys")
app.add_typer(profile_app, name="profile")
program_app.command("simulate")(simulate_command)
app.add_typer(program_app, name="program")
app.add_typer(plan_app, name="plan")
app.add_typer(pool_app, name="pool")
app.add_typer(voucher_app, name="voucher")
app.command()(enroll)
for _command in (send, redeem, quote, exchange, hold, holds, capture, release, submit, balance, history):
    app.command()(_command)


EXPECTED_ERRORS = (
    CheckpointError,
    EncodingError,
    KeyFileError,
    OSError,
    ReceiptError,
    ServiceError,
    SettingsError,
)
"""Errors whose message is meant for the person at the keyboard; :func:`api.ledger_cli.message_of` knows the others."""

SUBMISSION = (
    "mutation Submit($operations: [SignedOperation!]!) { operationsSubmit(input: {operations: $operations}) "
    "{ results { seq hash replayed userErrors { code message path } } userErrors { code message } } }"
)
"""The GraphQL document that ``guerdon sign --request`` sends signed operations with."""


def main() -> NoReturn:
    """Run the command; say what went wrong in one line where that is all a person needs."""
    try:
        app(standalone_mode=True)
    except MalformedError as error:
        _fail(f"{'.'.join(error.path)}: {error}" if error.path else str(error))
    except EXPECTED_ERRORS as error:
        _fail(str(error))
    except Exception as error:
        from api.ledger_cli import message_of  # noqa: PLC0415 - rarely needed

        if (message := message_of(error)) is None:
            raise
        _fail(message)
    sys.exit(0)


def _fail(message: str) -> NoReturn:
    typer.echo(f"guerdon: {message}", err=True)
    sys.exit(1)


@app.callback()
def _settings(
    data: Annotated[Path | None, typer.Option(help="Folder of the database and keys (GUERDON_DATA, .guerdon).")] = None,
) -> None:
    if data is not None:
        os.environ["GUERDON_DATA"] = str(data)


@keys_app.command()
def generate(
    file: Annotated[Path, typer.Argument(help="Where to keep the private key; must not exist yet.")],
    passphrase_file: PassphraseFile = None,
) -> None:
    """Make a private key in a file of mode 0600, encrypted if a passphrase is given, and print its public half.

    Example: guerdon keys generate merchant.pem --passphrase-file merchant.pass
    """
    passphrase = read_passphrase(passphrase_file) if passphrase_file else None
    typer.echo(encode_public_key(generate_private_key(file, passphrase)))


@keys_app.command()
def show(
    file: Annotated[Path, typer.Argument(help="A private key's file.")],
    passphrase_file: PassphraseFile = None,
    origin: Annotated[str | None, typer.Option(help="Print the verifier key for checkpoints of this ledger.")] = None,
) -> None:
    """Print a key's public half. The private half is never printed.

    Example: guerdon keys show .guerdon/keys/log.pem --origin ledger.example/coalition
    """
    key = load_private_key(file, read_passphrase(passphrase_file) if passphrase_file else None)
    typer.echo(encode_verifier_key(origin, key) if origin else encode_public_key(key))


@keys_app.command()
def replace_log(
    file: Annotated[Path, typer.Argument(help="The file of the log's new key, which guerdon keys generate made.")],
    operator_key: Annotated[
        list[Path], typer.Option(help="The operator's key file; as many as the operator's threshold asks for.")
    ],
    passphrase_file: PassphraseFile = None,
) -> None:
    """Give the log another key: record it, signed by the operator, and print the new verifier key and what to do.

    The first checkpoint with it is signed with the key before it too (GUERDON_LOG_KEY_FILE), so that clients who know
    only that one can follow. Key files of the log have the passphrase of GUERDON_KEY_PASSPHRASE_FILE, if any;
    --passphrase-file is for the operator's.

    Example: guerdon keys replace-log new-log.pem --operator-key .guerdon/keys/operator.pem
    """
    from api.ledger_cli import replace_log_key  # noqa: PLC0415 - the other commands of keys open no ledger

    replace_log_key(file, operator_key, passphrase_file)


@keys_app.command()
def rewrap_profiles() -> None:
    """Wrap the key of every member's profile with another profile key, while servers go on.

    Make the new key with guerdon keys generate, start every server with it (GUERDON_PROFILE_KEY_FILE) and the one
    before it (GUERDON_OTHER_PROFILE_KEY_FILES), and run this with the same. Killed, it can be run again.

    Example: GUERDON_PROFILE_KEY_FILE=profile-2.pem GUERDON_OTHER_PROFILE_KEY_FILES=profile.pem guerdon keys
    rewrap-profiles
    """
    from api import ledger_cli  # noqa: PLC0415 - the other commands of keys open no ledger

    ledger_cli.rewrap_profiles()


@app.command("sign")
def sign_command(
    key: Annotated[list[Path], typer.Option(help="A private key's file; may be given several times.")],
    file: Annotated[typer.FileText, typer.Argument(help="The operation as JSON; - for standard input.")] = sys.stdin,  # type: ignore[assignment]
    passphrase_file: PassphraseFile = None,
    request: Annotated[
        bool, typer.Option("--request", help="Print the HTTP body that submits it to /graphql.")
    ] = False,
) -> None:
    """Sign an operation: print its canonical bytes with signatures, as operationsSubmit takes them.

    Left out, these are filled in: guerdon, ledger (GUERDON_ORIGIN or the only ledger in the database), at (now) and
    nonce (random). Given what this command printed elsewhere, it adds signatures: keys need never be in one place.

    Example: echo '{"kind":"transfer","actor":"mem_…","asset":"STAR","recipients":[{"to":"mem_…","amount":5}]}' |
    guerdon sign --key member.pem
    """
    fields = read_json(file.read())
    if not isinstance(fields, dict):
        raise MalformedError("MALFORMED", "an operation is a JSON object")
    passphrase = read_passphrase(passphrase_file) if passphrase_file else None
    keys = [load_private_key(path, passphrase) for path in key]
    signed = _countersign(fields, keys) if fields.keys() == {"op", "sigs"} else _sign_new(fields, keys)
    document = encode_document(signed).decode()
    typer.echo(json.dumps({"query": SUBMISSION, "variables": {"operations": [document]}}) if request else document)


def _countersign(fields: dict[str, Any], keys: Sequence[Ed25519PrivateKey]) -> SignedOperation:
    """An operation that others have signed, with signatures by these keys too."""
    # Together with its signatures it is never larger than the entry it becomes.
    theirs = decode_signed_operation(encode_canonical(fields), MAX_ENTRY_BYTES)
    ours = sign_operation(theirs.op, keys).sigs
    signers = {signature.key for signature in ours}
    kept = tuple(signature for signature in theirs.sigs if signature.key not in signers)
    return sign_with(theirs.op_bytes, (*kept, *ours))


def _sign_new(fields: dict[str, Any], keys: Sequence[Ed25519PrivateKey]) -> SignedOperation:
    fields.setdefault("guerdon", 1)
    fields.setdefault("at", format_time(time.time_ns() // 1_000_000))
    fields.setdefault("nonce", encode_base64url(os.urandom(16)))
    if "ledger" not in fields:
        settings = Settings.from_environment(os.environ)
        if settings.origin:
            fields["ledger"] = settings.origin
        else:
            from api.opening import opened_store  # noqa: PLC0415 - a wallet knows its ledger

            with opened_store(settings) as store:
                fields["ledger"] = store.origin
    return sign_operation(build_operation(fields), keys)


@app.command()
def session(
    account: SignInAccount,
    key: SignInKeys,
    url: ServiceUrl = DEFAULT_URL,
    passphrase_file: WalletPassphraseFile = None,
) -> None:
    """Open a session for reading, 15 minutes long: print the bearer token and nothing else.

    Example: TOKEN=$(guerdon session --account mem_… --key member.pem)
    """
    passphrase = read_passphrase(passphrase_file) if passphrase_file else None
    keys = [load_private_key(path, passphrase) for path in key]
    typer.echo(open_session(url, account, keys))
