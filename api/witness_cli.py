"""The commands ``guerdon witness serve`` and ``guerdon witness key``, and the log's side, ``guerdon witness offer``."""

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from api.cli_options import PassphraseFile, read_witness
from api.opening import opened_store, system_clock
from api.settings import Settings
from ledger import log as stored_log
from ledger.checkpoint import (
    CheckpointError,
    LogKey,
    check_key_name,
    decode_verifier_key,
    encode_witness_key,
)
from ledger.keyring import load_private_key, read_passphrase
from ledger.witness import Witness, WitnessState

witness_app = typer.Typer(
    help="Cosign the checkpoints of ledgers that only grow.", no_args_is_help=True, rich_markup_mode=None
)

KeyFile = Annotated[Path, typer.Option("--key", help="The witness's private key file (guerdon keys generate).")]
KeyName = Annotated[str, typer.Option("--name", help="The witness's public name: a URL without scheme.")]


@witness_app.command("key")
def key_command(key: KeyFile, name: KeyName, passphrase_file: PassphraseFile = None) -> None:
    """Print the verifier key that others check this witness's cosignatures with.

    Example: guerdon witness key --key witness.pem --name witness.example/w1
    """
    _check_name(name)
    private = load_private_key(key, read_passphrase(passphrase_file) if passphrase_file else None)
    typer.echo(encode_witness_key(name, private))


@witness_app.command("serve")
def serve_command(  # noqa: PLR0917 - typer makes an option of each parameter
    key: KeyFile,
    name: KeyName,
    state: Annotated[Path, typer.Option(help="What was cosigned; made if missing. Never restore an old copy of it.")],
    log: Annotated[
        list[str],
        typer.Option(help="The verifier key of a ledger's log; several times for several ledgers, or keys of one."),
    ],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 for any.", min=0, max=65_535)] = 8200,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Cosign checkpoints of the given logs as long as each only grows (C2SP tlog-witness).

    Example: guerdon witness serve --key witness.pem --name witness.example/w1 --state witness.sqlite
    --log 'ledger.example/coalition+…'
    """
    import uvicorn  # noqa: PLC0415 - the other commands start without it

    from api.witness import create_witness_app  # noqa: PLC0415 - nor do they need Starlette

    _check_name(name)
    logs = [_log_key(text) for text in log]
    private = load_private_key(key, read_passphrase(passphrase_file) if passphrase_file else None)
    remembered = WitnessState(state)
    try:
        witness = Witness(name, private, logs, remembered, system_clock)
        listener = _listen(host, port)
        url_host = f"[{host}]" if ":" in host else host
        typer.echo(f"witness {encode_witness_key(name, private)}")
        for origin in witness.logs:
            typer.echo(f"{origin} has {remembered.last(origin).size:,} entries cosigned")
        typer.echo(f"POST checkpoints to http://{url_host}:{listener.getsockname()[1]}/add-checkpoint")
        config = uvicorn.Config(
            create_witness_app(witness), access_log=False, log_level="warning", server_header=False, lifespan="off"
        )
        with suppress(KeyboardInterrupt):  # Ctrl-C is how it ends
            uvicorn.Server(config).run(sockets=[listener])
    finally:
        remembered.close()


@witness_app.command("offer")
def offer_command(
    url: Annotated[str, typer.Option(help="The witness's submission prefix.")],
    witness: Annotated[str, typer.Option(help="The witness's verifier key, as its owner gave it.")],
) -> None:
    """Have this ledger's newest checkpoint cosigned, and print it with the cosignature.

    Example: guerdon witness offer --url https://witness.example --witness 'witness.example/w1+…' > checkpoint
    """
    from api.witness_client import ask_witness  # noqa: PLC0415 - the other commands need no HTTP

    key = read_witness(witness)
    if not url.startswith(("http://", "https://")):
        raise typer.BadParameter(f"{url!r} is no address: http://… or https://…", param_hint="--url")
    with opened_store(Settings.from_environment(os.environ)) as store:
        with store.read() as connection:
            head = store.head(connection)

        def prove(old_size: int) -> list[bytes]:
            with store.read() as connection:
                return stored_log.prove_consistency(store, connection, old_size, head.size)

        line = ask_witness(url, key, head.checkpoint, prove)
    typer.echo(head.checkpoint + line, nl=False)


def _check_name(name: str) -> None:
    try:
        check_key_name(name)
    except CheckpointError as error:
        raise typer.BadParameter(str(error), param_hint="--name") from error


def _log_key(text: str) -> LogKey:
    try:
        return decode_verifier_key(text)
    except CheckpointError as error:
        raise typer.BadParameter(str(error), param_hint="--log") from error


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        message = f"cannot listen on {host} port {port} ({error.strerror}): stop what does, or choose another --port"
        raise OSError(message) from error
