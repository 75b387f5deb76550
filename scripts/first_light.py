"""The main job on the embedded default: a ledger, real purchases, transfers, a report, an audit, and the API.

Everything this script submits is the same document every time it runs: nonces are derived from a label and times from
the genesis entry. A second run therefore finds each operation recorded already and goes on from there.
"""

import argparse
import hashlib
import os
import sys
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from rich.console import Console

from api import cli, ledger_cli
from api.audit_cli import print_audit
from api.opening import load_log_key, opened_store, system_clock
from api.points_report import points_report, print_report, write_report_csv
from api.progress import ProgressTasks, progress_bar
from api.statements import print_statement
from ledger import partner_queries, queries
from ledger.agreements import agreement_name
from ledger.audit_database import audit_database
from ledger.clearing import positions_of, propose_payments
from ledger.encoding import encode_base64url, format_time, parse_date
from ledger.entries import decode_entry
from ledger.keyring import generate_private_key, load_private_key
from ledger.keys import encode_public_key
from ledger.operations import (
    Agree,
    DefineAsset,
    Exchange,
    Net,
    OpenAccount,
    Operation,
    PublishProgram,
    Redeem,
    Settle,
    SignedOperation,
    Transfer,
)
from ledger.program_terms import Band, GrantRule, NeverExpires, Program
from ledger.purchases import Columns
from ledger.sequencer import Recorded, Sequencer, account_opened_by
from ledger.settlement import Clearing, SettlementKey
from ledger.state import Rejection
from ledger.store import Store
from ledger.terms import AcceptanceTerms, ClaimTerms, ExchangeTerms, Rate, Recipient, Terms
from ledger.wallet import Wallet

ORIGIN = "localhost/first-light"
ASSET = "CDNOW"
SAMPLE = Path(__file__).parent / "cdnow" / "CDNOW_sample.txt"
SENDERS = 10
SENT_POINTS = 100
REDEEMED_POINTS = 250
PARTNER_ASSET = "BEAN"
EXCHANGED_POINTS = 200
EXCHANGED_BACK_POINTS = 50
SPENT_AT_PARTNER_POINTS = 100

RATE = Rate(give=5, get=3)

# The exercise of a published interview question: 2 points for every unit spent over 100 in a purchase, and 1 point for
# every unit from 50 to 100, whole units first. 120.00 gives 2 × 20 + 1 × 50 = 90.
PROGRAM = Program(
    bands=(Band(from_amount=5_000, points=1, per=100), Band(from_amount=10_000, points=2, per=100)),
    currency="USD",
    expiry=NeverExpires(),
    grants=(GrantRule(activity="goodwill", max_points=500),),
    round_amount="whole_units",
    round_points="down",
    time_zone="UTC",
)


class Demonstration:
    """A merchant, its customers and two members with wallets of their own, on one ledger."""

    def __init__(self, store: Store, data: Path) -> None:
        self.store = store
        self.keys = data / "keys"
        self.accounts: dict[str, str] = {}
        with store.read() as connection:
            genesis = decode_entry(store.entry_data(connection, [0])[0])
        self.at = genesis.op.at

    def key(self, name: str) -> Ed25519PrivateKey:
        """A key of the demonstration, made the first time it is asked for."""
        path = self.keys / f"{name}.pem"
        return load_private_key(path, None) if path.exists() else generate_private_key(path, None)

    def sign(self, wallet: Wallet, label: str, kind: type[Operation], **fields: Any) -> SignedOperation:
        """An operation that is the same document in every run."""
        nonce = encode_base64url(hashlib.sha256(label.encode()).digest()[:16])
        return wallet.sign(kind, at=self.at, nonce=nonce, **fields)

    def wallet(self, account: str | None, *names: str) -> Wallet:
        """A wallet with the named keys."""
        return Wallet(self.store.origin, account, [self.key(name) for name in names], system_clock)

    def open_account(self, sequencer: Sequencer, name: str, role: str) -> str:
        """Open an account with a key of its own; the operator vouches for a merchant."""
        operator = sequencer.parameters.operator if role == "merchant" and sequencer.parameters else None
        signers = (name, "operator") if operator else (name,)
        public_name = f"{name.capitalize()} (demonstration)" if operator else None
        keys = (encode_public_key(self.key(name)),)
        wallet = self.wallet(operator, *signers)
        signed = self.sign(wallet, name, OpenAccount, role=role, keys=keys, name=public_name)
        account = account_opened_by(submit(sequencer, [signed])[0])
        assert account is not None
        self.accounts[name] = account
        return account

    def write_accounts(self) -> None:
        """A file for shells, with each account under its name in capitals."""
        lines = [f"{name.upper()}={account}\n" for name, account in self.accounts.items()]
        self.keys.with_name("accounts.sh").write_text("".join(lines), encoding="utf-8")


def submit(sequencer: Sequencer, operations: list[SignedOperation]) -> list[Recorded]:
    """Record operations, or stop at the first that is refused."""
    recorded = []
    for outcome in sequencer.submit(operations).result():
        if isinstance(outcome, Rejection):
            sys.exit(f"{outcome.code}: {outcome.message}")
        if isinstance(outcome, Exception):
            raise outcome
        recorded.append(outcome)
    return recorded


def count(recorded: list[Recorded]) -> str:
    """How many operations were recorded now, and how many earlier."""
    replayed = sum(outcome.replayed for outcome in recorded)
    return f"{len(recorded) - replayed} recorded now, {replayed} in an earlier run"


def run(data: Path) -> None:
    """Set up, import, move points, report, audit."""
    settings = ledger_cli.read_settings()
    ledger_cli.init(origin=ORIGIN, name="Guerdon demonstration", currency=["USD:2"], clock_tolerance_ms=30_000)
    log_key = load_log_key(settings)
    with opened_store(settings) as store:
        demonstration = Demonstration(store, data)
        with Sequencer(store, log_key, system_clock) as sequencer:
            merchant = set_up_merchant(sequencer, demonstration)
        print(f"\nmerchant     {merchant}, asset {ASSET}")
        print(f"importing    {SAMPLE.name}: real purchases of 1997 and 1998")
        customers = data / "customers.csv"
        with progress_bar() as progress:
            result = ledger_cli.import_purchases(
                store,
                log_key,
                SAMPLE,
                merchant=merchant,
                merchant_key=demonstration.key("merchant"),
                asset=ASSET,
                # Column 1 is the customer's id in the master file, which stays the same whichever sample is imported;
                # column 2 only numbers the customers of this sample.
                columns=Columns(customer="1", date="3", amount="5"),
                layout="whitespace",
                header=False,
                date_format="%Y%m%d",
                customers=customers,
                tasks=ProgressTasks(progress),
            )
        print(
            f"purchases    {result.lines:,} of {result.customers:,} customers: {result.purchases_recorded:,} "
            f"recorded now, {result.purchases_known:,} in an earlier run"
        )
        with Sequencer(store, log_key, system_clock) as sequencer:
            move_points(sequencer, demonstration, merchant)
            trade_with_partner(sequencer, demonstration, merchant)
            assert sequencer.parameters is not None
            demonstration.accounts["operator"] = sequencer.parameters.operator
        demonstration.write_accounts()
        show_report(store, data, customers)
        with progress_bar() as progress:
            tasks = ProgressTasks(progress)
            audit = audit_database(store, progress=lambda done, total: tasks.update("Auditing", done, total))
        print_audit(audit, log_key_given=False)
    if not audit.ok:
        sys.exit(1)


def set_up_merchant(sequencer: Sequencer, demonstration: Demonstration) -> str:
    """Open the merchant's account, define its asset and publish its program."""
    merchant = demonstration.open_account(sequencer, "merchant", "merchant")
    wallet = demonstration.wallet(merchant, "merchant")
    submit(
        sequencer,
        [
            demonstration.sign(
                wallet, "asset", DefineAsset, asset=ASSET, name="CDNOW points", scale=0, transferable=True
            ),
            demonstration.sign(
                wallet,
                "program",
                PublishProgram,
                asset=ASSET,
                version=1,
                starts="1997-01-01T00:00:00.000Z",
                program=PROGRAM,
            ),
        ],
    )
    return merchant


def move_points(sequencer: Sequencer, demonstration: Demonstration, merchant: str) -> None:
    """The ten best customers send points to Ada; Ada sends some to Ben; both redeem, and so do five customers."""
    ada, ben = (demonstration.open_account(sequencer, name, "member") for name in ("ada", "ben"))
    best = best_customers(demonstration.store, SENDERS)
    sent = [
        demonstration.sign(
            demonstration.wallet(customer, "merchant"),  # the merchant signs as their custodian
            f"gift {i}",
            Transfer,
            asset=ASSET,
            recipients=(Recipient(to=ada, amount=SENT_POINTS),),
        )
        for i, customer in enumerate(best)
    ]
    sent.append(
        demonstration.sign(
            demonstration.wallet(ada, "ada"),
            "ada to ben",
            Transfer,
            asset=ASSET,
            recipients=(Recipient(to=ben, amount=SENT_POINTS * SENDERS // 2),),
        )
    )
    print(f"transfers    {count(submit(sequencer, sent))}")
    spenders = [(ada, "ada"), (ben, "ben"), *((customer, "merchant") for customer in best[:5])]
    redeemed = [
        demonstration.sign(
            demonstration.wallet(account, key),
            f"redemption {i}",
            Redeem,
            asset=ASSET,
            amount=REDEEMED_POINTS,
            merchant=merchant,
            reference=f"bill-{i + 1}",
        )
        for i, (account, key) in enumerate(spenders)
    ]
    print(f"redemptions  {count(submit(sequencer, redeemed))}\n")


def trade_with_partner(sequencer: Sequencer, demonstration: Demonstration, merchant: str) -> None:
    """Ada exchanges points at a café and back, Ben spends some there; what the two merchants owe is netted and paid."""
    cafe = set_up_partner(sequencer, demonstration, merchant)
    ada, ben = (demonstration.open_account(sequencer, name, "member") for name in ("ada", "ben"))
    there, back = (EXCHANGED_POINTS, ASSET, PARTNER_ASSET), (EXCHANGED_BACK_POINTS, PARTNER_ASSET, ASSET)
    exchanges = [
        demonstration.sign(
            demonstration.wallet(ada, "ada"),
            f"exchange {asset}",
            Exchange,
            asset=asset,
            into=into,
            amount=amount,
            minimum_out=amount * RATE.get // RATE.give,
        )
        for amount, asset, into in (there, back)
    ]
    spent = demonstration.sign(
        demonstration.wallet(ben, "ben"),
        "coffee",
        Redeem,
        asset=ASSET,
        amount=SPENT_AT_PARTNER_POINTS,
        merchant=cafe,
        reference="coffee-1",
    )
    print(f"exchanges    {count(submit(sequencer, exchanges))}")
    print(f"at partners  {count(submit(sequencer, [spent]))}")
    settle(sequencer, demonstration, merchant, cafe)
    show_statement(demonstration, cafe)


def set_up_partner(sequencer: Sequencer, demonstration: Demonstration, merchant: str) -> str:
    """Open a café with points of its own that exchange at 5 : 3, either way, and which accepts the merchant's too."""
    cafe = demonstration.open_account(sequencer, "cafe", "merchant")
    wallet = demonstration.wallet(cafe, "cafe")
    terms = {"asset": PARTNER_ASSET, "name": "Beans", "scale": 0, "transferable": True}
    submit(sequencer, [demonstration.sign(wallet, "partner asset", DefineAsset, **terms)])
    pairs = ((merchant, cafe, ASSET, PARTNER_ASSET), (cafe, merchant, PARTNER_ASSET, ASSET))
    agreements: list[tuple[str, str, Terms]] = [
        (
            issuer,
            partner,
            ExchangeTerms(asset=asset, into=into, rate=RATE, step=5, received="retired", claim=cent_a_point(issuer)),
        )
        for issuer, partner, asset, into in pairs
    ]
    acceptance = AcceptanceTerms(asset=ASSET, received="retired", claim=cent_a_point(merchant))
    agreements.append((merchant, cafe, acceptance))
    for issuer, partner, their_terms in agreements:
        name = agreement_name(their_terms, partner)
        with demonstration.store.read() as connection:
            agreed = partner_queries.agreement(demonstration.store, connection, name, 1)
        if agreed is None:  # it begins when it is signed, so another run would sign another document
            both = demonstration.wallet(issuer, "merchant", "cafe")
            fields: dict[str, Any] = {"partner": partner, "terms": their_terms, "starts": format_time(system_clock())}
            submit(sequencer, [both.sign(Agree, version=1, notice_days=30, **fields)])
    return cafe


def cent_a_point(debtor: str) -> ClaimTerms:
    """Who takes another's points is owed a cent for each by their issuer."""
    return ClaimTerms(amount=1, points=1, currency="USD", debtor=debtor, round="down")


def settle(sequencer: Sequencer, demonstration: Demonstration, merchant: str, cafe: str) -> None:
    """Net what the merchants owe each other, if they do; the creditor confirms the one payment that is left."""
    store = demonstration.store
    merchants, today = (merchant, cafe), format_time(system_clock())[:10]
    with store.read() as connection:
        owed = partner_queries.unnetted_through(store, connection, "USD", merchants, today)
    payments = propose_payments(positions_of(owed, merchants, today))
    if payments:
        assert sequencer.parameters is not None
        operator = demonstration.wallet(sequencer.parameters.operator, "operator")
        submit(
            sequencer,
            [operator.sign(Net, currency="USD", merchants=merchants, payments=payments, through=today)],
        )
        (payment,) = payments
        creditor = demonstration.wallet(payment.creditor, "cafe" if payment.creditor == cafe else "merchant")
        paid: dict[str, Any] = {"debtor": payment.debtor, "amount": payment.amount, "payment": "bank-2026-1"}
        submit(sequencer, [creditor.sign(Settle, currency="USD", **paid)])


def show_statement(demonstration: Demonstration, merchant: str) -> None:
    """Print what a merchant is owed and was paid since the ledger was founded."""
    start, today = (parse_date(time[:10]) for time in (demonstration.at, format_time(system_clock())))
    key = SettlementKey(account=merchant, currency="USD", start=start, through=today)
    with demonstration.store.read() as connection:
        statement = Clearing(demonstration.store, connection, key).statement()
    print_statement(statement, Console())
    print()


def best_customers(store: Store, limit: int) -> list[str]:
    """Accounts that earned most, which no later run changes."""
    earned = points_report(store, ASSET, {}).customers
    return [customer.account for customer in sorted(earned, key=lambda row: (-row.points, row.account))[:limit]]


def show_report(store: Store, data: Path, customers: Path) -> None:
    """Print the first customers and all months; write every customer and month to a file."""
    report = points_report(store, ASSET, ledger_cli.read_customers(customers))
    print_report(report, Console(), first=3)
    path = data / "points.csv"
    with ledger_cli.private_file(path) as file:
        write_report_csv(report, file)
    with store.read() as connection:
        supply = queries.supply(store, connection, ASSET)
    print(
        f"{report.purchases:,} purchases, {report.members:,} customers, {report.points:,} points earned; "
        f"{supply.spent:,} spent, {supply.circulating:,} in circulation\nevery customer and month: {path}\n"
    )


def main() -> None:
    """Parse the arguments, do the job, serve."""
    parser = argparse.ArgumentParser(prog="scripts/run", description="Guerdon's main job on the embedded default.")
    parser.add_argument("--data", type=Path, default=Path(__file__).parent.parent / ".guerdon", help="data folder")
    parser.add_argument("--port", type=int, default=8000, help="port to serve on (8000)")
    parser.add_argument("--no-serve", action="store_true", help="end after the audit")
    arguments = parser.parse_args()
    for name in [name for name in os.environ if name.startswith("GUERDON_")]:
        del os.environ[name]  # what is set for another ledger must not lead the demonstration into its database
    os.environ |= {"GUERDON_DATA": str(arguments.data), "GUERDON_ORIGIN": ORIGIN}
    try:
        run(arguments.data)
        if not arguments.no_serve:
            print(f"\nGraphiQL is on http://127.0.0.1:{arguments.port}/graphql; stop with Ctrl-C", flush=True)
            ledger_cli.serve(host="127.0.0.1", port=arguments.port, workers=1)
    except (*cli.EXPECTED_ERRORS, *ledger_cli.EXPECTED_ERRORS) as error:
        sys.exit(f"scripts/run: {error}")


if __name__ == "__main__":
    main()
