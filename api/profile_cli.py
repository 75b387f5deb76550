"""The command ``guerdon profile``: what is kept of a member, for the member to take along."""

import msgspec
import typer

from api.cli_options import DEFAULT_URL, ServiceUrl, SignInAccount, SignInKeys, WalletPassphraseFile
from api.guerdon import Guerdon
from ledger.keyring import load_private_key, read_passphrase

profile_app = typer.Typer(
    help="What is kept of a member beside the ledger.", no_args_is_help=True, rich_markup_mode=None
)

PROFILE = (
    "{ profile { accountId name email phone birthday language timeZone "
    "address { lines postalCode city region country } revision updatedAt erasedAt "
    "identifiers { merchantId kind value addedBy addedAt } } "
    "viewer { id role keys threshold custodianId openedAt } }"
)
"""What is asked of a member's data beside its points."""


@profile_app.callback()
def _profile() -> None:
    pass


@profile_app.command()
def export(
    account: SignInAccount,
    key: SignInKeys,
    url: ServiceUrl = DEFAULT_URL,
    passphrase_file: WalletPassphraseFile = None,
) -> None:
    """Print what is kept of an account as JSON: profile, identifiers, points, and every movement of them.

    That is what GDPR gives a person a right to (articles 15 and 20). Points are integers in the asset's smallest unit.
    Whoever has the account in custody exports with its own key.

    Example: guerdon profile export --account mem_… --key member.pem > my-data.json
    """
    passphrase = read_passphrase(passphrase_file) if passphrase_file else None
    keys = [load_private_key(path, passphrase) for path in key]
    with Guerdon(url, account=account, keys=keys) as client:
        found = client.query(PROFILE)
        balances = client.balances()
        movements = {each.asset: list(client.history(each.asset)) for each in balances}
    data = {"account": found["viewer"], "profile": found["profile"], "balances": balances, "movements": movements}
    typer.echo(msgspec.json.format(msgspec.json.encode(data), indent=2).decode())
