"""Import of purchases: files read exactly or refused whole, and recorded once, however often and from wherever."""

import io
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from ledger import purchases
from ledger.encoding import MAX_INTEGER, parse_date
from ledger.operations import PublishProgram
from ledger.program_terms import ExpiresAfterDays, Multiplier, Ratio, TierLevel, Tiers, When
from ledger.purchases import (
    BrokenFileError,
    BrokenLine,
    Columns,
    ConflictError,
    CustomerNumbers,
    FileFormat,
    Importer,
    ImportResult,
    ImportStoppedError,
    SoldItem,
    read_purchases,
)
from ledger.sequencer import Sequencer
from ledger.store import Store, open_engine
from tests.reference import check_projections, check_record
from tests.worlds import ORIGIN, START, World, make_program

NAMED = Columns(customer="who", date="when", amount="paid", order="ref")
CSV = FileFormat(layout="csv", columns=NAMED, date_format="%Y-%m-%d", scale=2, time_zone="UTC", header=True)
NUMBERED = msgspec.structs.replace(CSV, header=False, columns=Columns(customer="1", date="2", amount="3"))
KILLS = 3


def read(text: str | bytes, file_format: FileFormat = CSV) -> list[SoldItem]:
    """Read a file's content the way the importer opens it."""
    data = text if isinstance(text, bytes) else text.encode()
    return read_purchases(
        io.TextIOWrapper(io.BytesIO(data), "utf-8-sig", errors="surrogateescape", newline=""), file_format
    )


def broken_lines(text: str | bytes, file_format: FileFormat = CSV) -> list[tuple[int, str]]:
    """Line and field of every broken line of a file that must be refused."""
    with pytest.raises(BrokenFileError) as caught:
        read(text, file_format)
    for broken in caught.value.lines:
        assert f"line {broken.line}, {broken.field}: {broken.message}" in str(caught.value)
    return [(broken.line, broken.field) for broken in caught.value.lines]


# Reading


def test_columns_are_found_by_the_names_of_the_header() -> None:
    """The order of the columns is the file's, and columns nobody asked for are left alone."""
    (item,) = read("ref,paid,colour,when,who\no-1,12.50,red,2026-02-03,c7\n")
    assert item == SoldItem(
        line=2, customer="c7", date="2026-02-03", at="2026-02-03T00:00:00.000Z", amount=1250, order="o-1"
    )


def test_columns_are_found_by_number_without_a_header() -> None:
    """Numbers count from 1, and the first line is a purchase."""
    (item,) = read("c7,2026-02-03,12.50\n", NUMBERED)
    assert (item.line, item.customer, item.amount, item.order) == (1, "c7", 1250, None)


def test_columns_are_found_by_number_with_a_header_too() -> None:
    """A header can be skipped without being used."""
    numbered = msgspec.structs.replace(NUMBERED, header=True)
    (item,) = read("a,b,c\nc7,2026-02-03,12.50\n", numbered)
    assert (item.line, item.amount) == (2, 1250)


def test_columns_are_divided_by_any_white_space() -> None:
    """Spaces at the start and tabs between are layout, as in the CDNOW sample; empty lines are skipped."""
    layout = msgspec.structs.replace(NUMBERED, layout="whitespace", date_format="%Y%m%d")
    first, second = read(" 00004  19970101\t29.33\n\n   \n00018 19970104 14.96  \r\n", layout)
    assert (first.line, first.customer, first.date, first.amount) == (1, "00004", "1997-01-01", 2933)
    assert (second.line, second.customer, second.date, second.amount) == (4, "00018", "1997-01-04", 1496)


@pytest.mark.parametrize(
    "text",
    [
        "who,when,paid,ref\r\nc7,2026-02-03,12.50,o-1\r\n",
        "\ufeffwho,when,paid,ref\nc7,2026-02-03,12.50,o-1\n",
        "who,when,paid,ref\nc7,2026-02-03,12.50,o-1",
        'who,when,paid,ref\n"c7","2026-02-03","12.50","o-1"\n',
        "who , when, paid,ref \n c7 , 2026-02-03,12.50 ,o-1\n",
        "who,when,paid,ref\n\nc7,2026-02-03,12.50,o-1,, \n\n",
    ],
    ids=["CRLF", "byte order mark", "no last newline", "quoted", "spaces", "empty lines"],
)
def test_layouts_of_other_programs_are_read_alike(text: str) -> None:
    """What spreadsheets do to a file changes nothing of what it says."""
    (item,) = read(text)
    assert (item.customer, item.date, item.amount, item.order) == ("c7", "2026-02-03", 1250, "o-1")


def test_quoted_newline_belongs_to_its_cell() -> None:
    """A record may span lines; it bears the number of its last, and the lines after it keep theirs."""
    first, second = read('who,when,paid,ref\n"c\n7",2026-02-03,1,o-1\nc8,2026-02-03,2,o-2\n')
    assert (first.line, first.customer) == (3, "c\n7")
    assert (second.line, second.customer) == (4, "c8")


@pytest.mark.parametrize("text", ["", "who,when,paid,ref\n"])
def test_file_without_purchases_has_none(text: str) -> None:
    """Nothing sold is nothing to import, not an error."""
    assert read(text) == []


@given(units=st.integers(0, MAX_INTEGER), scale=st.integers(0, 4), zeros=st.integers(0, 30))
def test_amount_is_exactly_the_decimal_number(units: int, scale: int, zeros: int) -> None:
    """Minor units of any amount are those of decimal arithmetic: no float comes near them."""
    value = Decimal(units).scaleb(-scale)
    text = "0" * zeros + f"{value:f}"
    (item,) = read(f"c,2026-02-03,{text}\n", msgspec.structs.replace(NUMBERED, scale=scale))
    assert item.amount == units == Decimal(text).scaleb(scale)


@pytest.mark.parametrize(
    ("text", "units"), [("0", 0), ("0.00", 0), ("7", 700), ("7.5", 750), ("90071992547409.91", MAX_INTEGER)]
)
def test_amount_may_have_fewer_decimal_places(text: str, units: int) -> None:
    """Missing places are zeros."""
    assert read(f"c,2026-02-03,{text}\n", NUMBERED)[0].amount == units


@given(text=st.text(max_size=12))
def test_any_amount_is_read_exactly_or_refused(text: str) -> None:
    """No text crashes the reader or becomes another number than decimal arithmetic makes of it."""
    try:
        amount = purchases._read_amount(text, 2)
    except ValueError:
        return
    assert Decimal(text) * 100 == amount


AMOUNTS = ["-1.00", "+1.00", "1,50", "1.", ".5", "1.2.3", "1e3", "0x10", "NaN", "12.505", "1 000", "\u0661\u0662",
           "$5", "90071992547409.92", "9" * 17, "9" * 5_000, "1_000"]  # fmt: skip


@pytest.mark.parametrize("amount", AMOUNTS)
def test_amount_that_is_no_plain_decimal_names_line_and_field(amount: str) -> None:
    """Signs, separators, exponents, too many places and too large a number are refused, never guessed at."""
    assert broken_lines(f'who,when,paid,ref\nc,2026-02-03,1,o-1\nc,2026-02-03,"{amount}",o-2\n') == [(3, "amount")]


BROKEN: list[tuple[str, str | bytes, list[tuple[int, str]]]] = [
    ("customer empty", "who,when,paid,ref\n,2026-02-03,1,o\n", [(2, "customer")]),
    ("customer blank", "who,when,paid,ref\n  ,2026-02-03,1,o\n", [(2, "customer")]),
    ("date of another form", "who,when,paid,ref\nc,03.02.2026,1,o\n", [(2, "date")]),
    ("no such day", "who,when,paid,ref\nc,2026-02-30,1,o\n", [(2, "date")]),
    ("before 1900", "who,when,paid,ref\nc,1899-12-31,1,o\n", [(2, "date")]),
    ("after 2999", "who,when,paid,ref\nc,3000-01-01,1,o\n", [(2, "date")]),
    ("year 1", "who,when,paid,ref\nc,0001-01-01,1,o\n", [(2, "date")]),
    ("amount empty", "who,when,paid,ref\nc,2026-02-03,,o\n", [(2, "amount")]),
    ("order empty", "who,when,paid,ref\nc,2026-02-03,1,\n", [(2, "order")]),
    ("order with a space", "who,when,paid,ref\nc,2026-02-03,1,o 1\n", [(2, "order")]),
    ("order too long", f"who,when,paid,ref\nc,2026-02-03,1,{'o' * 65}\n", [(2, "order")]),
    ("order with a control", "who,when,paid,ref\nc,2026-02-03,1,o\x1b[2J\n", [(2, "order")]),
    ("line too short", "who,when,paid,ref\nc,2026-02-03,1\n", [(2, "order")]),
    ("decimal comma", "who,when,paid,ref\nc,2026-02-03,7,99,o\n", [(2, "line")]),
    ("column missing", "who,when,total,ref\nc,2026-02-03,1,o\n", [(1, "amount")]),
    ("column twice", "who,when,paid,paid,ref\nc,2026-02-03,1,2,o\n", [(1, "amount")]),
    ("quote left open", 'who,when,paid,ref\nc,2026-02-03,1,o\nc,"2026-02-03,1,o\n', [(3, "line")]),
    ("text after a quote", 'who,when,paid,ref\nc,"2026-02-03"x,1,o\n', [(2, "line")]),
    ("cell of a megabyte", f"who,when,paid,ref\n{'c' * 2**20},2026-02-03,1,o\n", [(2, "line")]),
    ("not UTF-8", b"who,when,paid,ref\nc,2026-02-03,1,o\nM\xfcller,2026-02-03,1,o2\n", [(3, "line")]),
    ("UTF-16", "who,when,paid,ref\nc,2026-02-03,1,o\n".encode("utf-16"), [(1, "line")]),
    (
        "several lines",
        "who,when,paid,ref\nc,x,1,o\nc,2026-02-03,1,p\n,2026-02-03,1,q\nc,2026-02-03,-1,r\n",
        [(2, "date"), (4, "customer"), (5, "amount")],
    ),
    (
        "a broken line before a broken quote",
        'who,when,paid,ref\nc,x,1,o\nc,"2026-02-03"x,1,p\n',
        [(2, "date"), (3, "line")],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("what", "text", "lines"), BROKEN, ids=[row[0] for row in BROKEN])
def test_broken_line_is_named_with_its_field(what: str, text: str | bytes, lines: list[tuple[int, str]]) -> None:
    """A file with anything wrong in it is refused whole, saying where."""
    assert broken_lines(text) == lines


@pytest.mark.parametrize("column", ["0", "-1", "who", "1.5", ""])
def test_column_that_is_no_number_is_named_without_a_header(column: str) -> None:
    """Where no line names the columns they are counted from 1."""
    wrong = msgspec.structs.replace(NUMBERED, columns=Columns(customer=column, date="2", amount="3"))
    assert broken_lines("c,2026-02-03,1\n", wrong) == [(1, "customer")]


@pytest.mark.parametrize(("count", "more"), [(9, False), (10, False), (11, True), (500, True)])
def test_at_most_ten_broken_lines_are_named(count: int, more: bool) -> None:
    """Ten lines are enough to see what is wrong with a file; whether there are more is said."""
    with pytest.raises(BrokenFileError) as caught:
        read("who,when,paid,ref\n" + "c,never,1,o\n" * count)
    assert [broken.line for broken in caught.value.lines] == list(range(2, 2 + min(count, 10)))
    assert str(caught.value).endswith("… and more") == more


@given(data=st.binary(max_size=200), header=st.booleans(), layout=st.sampled_from(["csv", "whitespace"]))
def test_no_file_crashes_the_reader(data: bytes, header: bool, layout: Any) -> None:
    """Arbitrary bytes are read or refused with a line, in every layout."""
    columns = Columns(customer="1", date="2", amount="3", order="4")
    file_format = msgspec.structs.replace(CSV, header=header, layout=layout, columns=columns)
    try:
        items = read(data, file_format)
    except BrokenFileError as refusal:
        items, lines = [], refusal.lines
    else:
        lines = ()
    assert (not lines) or (not items)
    assert all(item.customer and item.amount >= 0 for item in items)
    assert all(broken.line >= 0 and broken.field for broken in lines)


# Time zones


@pytest.mark.parametrize(
    ("zone", "form", "text", "date", "at"),
    [
        ("UTC", "%Y-%m-%d %H:%M", "2026-07-01 23:59", "2026-07-01", "2026-07-01T23:59:00.000Z"),
        ("Asia/Tokyo", "%Y-%m-%d", "2026-07-01", "2026-07-01", "2026-06-30T15:00:00.000Z"),
        ("America/New_York", "%Y-%m-%d", "2026-07-01", "2026-07-01", "2026-07-01T04:00:00.000Z"),
        # 02:30 does not exist on this day: clocks went from 02:00 to 03:00, so it is 03:30 in summer time.
        ("Europe/Berlin", "%Y-%m-%d %H:%M", "2026-03-29 02:30", "2026-03-29", "2026-03-29T01:30:00.000Z"),
        # 02:30 happens twice on this day: the first is meant.
        ("Europe/Berlin", "%Y-%m-%d %H:%M", "2026-10-25 02:30", "2026-10-25", "2026-10-25T00:30:00.000Z"),
        # Midnight does not exist on this day.
        ("America/Sao_Paulo", "%Y-%m-%d", "2018-11-04", "2018-11-04", "2018-11-04T03:00:00.000Z"),
        ("Asia/Kathmandu", "%d/%m/%Y %H:%M:%S", "01/02/2026 00:00:01", "2026-02-01", "2026-01-31T18:15:01.000Z"),
        # An offset in the file is heeded; the date is that of the program's time zone.
        ("Europe/Berlin", "%Y-%m-%dT%H:%M:%S%z", "2026-07-01T23:30:00-0400", "2026-07-02", "2026-07-02T03:30:00.000Z"),
    ],
)
def test_date_is_local_to_the_programs_time_zone(zone: str, form: str, text: str, date: str, at: str) -> None:
    """A till's clock shows local time; the ledger records the moment."""
    local = msgspec.structs.replace(NUMBERED, time_zone=zone, date_format=form)
    (item,) = read(f"c,{text},1\n", local)
    assert (item.date, item.at) == (date, at)


@given(
    moment=st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1)),  # noqa: DTZ001 - local, as in a file
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"]),
)
def test_moment_of_a_purchase_is_that_of_its_local_time(moment: datetime, zone: str) -> None:
    """Back in the time zone, the moment shows what the file said, unless clocks skipped that time."""
    local = msgspec.structs.replace(NUMBERED, time_zone=zone, date_format="%Y-%m-%d %H:%M:%S")
    shown = moment.strftime("%Y-%m-%d %H:%M:%S")
    (item,) = read(f"c,{shown},1\n", local)
    back = datetime.fromisoformat(item.at).astimezone(ZoneInfo(zone))
    skipped = back.utcoffset() != moment.replace(tzinfo=ZoneInfo(zone)).utcoffset()
    assert skipped or back.strftime("%Y-%m-%d %H:%M:%S") == shown
    assert datetime.fromisoformat(item.at).tzinfo == UTC
    assert parse_date(item.date).isoformat() == shown[:10]


# Customer numbers


def test_accounts_and_orders_follow_from_key_and_number_alone() -> None:
    """The same key, merchant and number give the same account for ever; anything else gives another."""
    key, other = (Ed25519PrivateKey.from_private_bytes(bytes([i]) * 32) for i in (1, 2))
    merchant, someone = "mer_" + "a" * 26, "mer_" + "b" * 26
    numbers = CustomerNumbers(merchant, ORIGIN, key, START)
    assert numbers.account("7") == CustomerNumbers(merchant, ORIGIN, key, START).account("7")
    others = [
        numbers.account("70"),
        CustomerNumbers(merchant, ORIGIN, other, START).account("7"),
        CustomerNumbers(someone, ORIGIN, key, START).account("7"),
        CustomerNumbers(merchant, "ledger.example/else", key, START).account("7"),
    ]
    assert len({numbers.account("7"), *others}) == 5
    orders = [("1", "12026-01-01", 1), ("11", "2026-01-01", 1), ("1", "2026-01-01", 1), ("1", "2026-01-01", 11)]
    assert len({numbers.order(*parts) for parts in orders}) == 4
    sources = [("1", "2026-01-01", 1, source) for source in ("", "1", "till 1", "till 11")]
    assert len({numbers.order(*parts) for parts in sources}) == 4
    assert "7" not in numbers.opening("7").nonce


# Recording


class Shop:
    """A merchant with a program, and an importer that runs against its world's ledger."""

    def __init__(self, world: World, **program: Any) -> None:
        self.world = world
        self.wallet = world.add_merchant()
        world.add_asset(self.wallet, "STAR", make_program(**program))
        (self.key,) = self.wallet.keys
        self.numbers = CustomerNumbers(str(self.wallet.account), world.origin, self.key, START)
        self.seen: list[tuple[str, int, int]] = []

    def run(self, items: list[SoldItem], sequencer: Sequencer | None = None, source: str = "") -> ImportResult:
        importer = Importer(
            sequencer or self.world.sequencer,
            self.wallet,
            self.numbers,
            asset="STAR",
            currency="USD",
            progress=lambda stage, done, total: self.seen.append((stage, done, total)),
            source=source,
        )
        return importer.run(items)

    def bought(self) -> dict[str, tuple[str, int]]:
        """Every recorded purchase: its order, account and amount."""
        with self.world.store.read() as connection:
            rows = connection.execute(sa.text("SELECT reference, account, amount FROM earning")).all()
        assert len({row.reference for row in rows}) == len(rows)
        return {row.reference: (row.account, row.amount) for row in rows}

    def expected(self, items: list[SoldItem]) -> dict[str, tuple[str, int]]:
        """What must be recorded for items that have orders."""
        return {str(item.order): (self.numbers.account(item.customer), item.amount) for item in items}

    def size(self) -> int:
        with self.world.store.read() as connection:
            return self.world.store.head(connection).size


def make_items(count: int, customers: int, *, first: int = 0, orders: bool = True) -> list[SoldItem]:
    """Purchases of several customers, each with its own amount."""
    return [
        SoldItem(
            line=i + 1,
            customer=f"c{i % customers}",
            date="2026-02-03",
            at="2026-02-03T00:00:00.000Z",
            amount=100 * i,
            order=f"o-{i}" if orders else None,
        )
        for i in range(first, first + count)
    ]


def test_import_records_every_line_and_says_what_it_did(world: World) -> None:
    """Accounts are opened once per customer, purchases recorded once per line, progress told to the end."""
    shop, items = Shop(world), make_items(250, 7)
    assert shop.run(items) == ImportResult(
        lines=250, customers=7, accounts_opened=7, purchases_recorded=250, purchases_known=0
    )
    assert shop.bought() == shop.expected(items)
    assert shop.seen[-1] == ("Recording purchases", 250, 250)
    assert ("Enrolling customers", 7, 7) in shop.seen
    check_record(world.store)
    check_projections(world.store)


@pytest.mark.parametrize("orders", [True, False], ids=["order references", "references made up"])
def test_second_import_records_nothing(world: World, orders: bool) -> None:
    """The same file again leaves the ledger as it is, with references of the file or without."""
    shop, items = Shop(world), make_items(120, 5, orders=orders)
    shop.run(items)
    size, bought = shop.size(), shop.bought()
    assert len(bought) == 120
    assert shop.run(items) == ImportResult(
        lines=120, customers=5, accounts_opened=0, purchases_recorded=0, purchases_known=120
    )
    assert (shop.size(), shop.bought()) == (size, bought)


@pytest.mark.parametrize("orders", [True, False], ids=["order references", "references made up"])
def test_grown_file_adds_only_what_is_new(world: World, orders: bool) -> None:
    """Lines that were there are skipped, lines after them recorded, customers among them enrolled."""
    shop = Shop(world)
    shop.run(make_items(30, 3, orders=orders))
    result = shop.run(make_items(50, 3, orders=orders) + make_items(2, 60, first=50, orders=orders))
    assert result == ImportResult(lines=52, customers=5, accounts_opened=2, purchases_recorded=22, purchases_known=30)
    assert len(shop.bought()) == 52


def test_equal_purchases_of_a_day_are_all_recorded(world: World) -> None:
    """Without references, a customer who buys the same twice a day has bought twice."""
    shop = Shop(world)
    items = [msgspec.structs.replace(item, amount=500, customer="c") for item in make_items(3, 1, orders=False)]
    shop.run(items)
    assert sorted(amount for _, amount in shop.bought().values()) == [500, 500, 500]


def test_order_twice_in_a_file_is_refused_before_anything_is_recorded(world: World) -> None:
    """Both lines are named, and the file leaves no trace: no purchase, not even an account."""
    shop, items = Shop(world), make_items(5, 5)
    size = shop.size()
    twice = [*items, msgspec.structs.replace(items[1], line=6)]
    with pytest.raises(BrokenFileError, match=r"line 6, order: o-1 is on line 2 already"):
        shop.run(twice)
    assert shop.size() == size


def test_orders_twice_beyond_ten_are_only_counted(world: World) -> None:
    """The rule of ten broken lines holds here too."""
    items = make_items(20, 1)
    with pytest.raises(BrokenFileError, match=r"… and more$") as caught:
        Shop(world).run(items + items[:11])
    assert caught.value.lines[0] == BrokenLine(line=1, field="order", message="o-0 is on line 1 already")
    assert len(caught.value.lines) == 10


def test_grown_file_with_equal_purchases_of_a_day_adds_the_new_one(world: World) -> None:
    """A third coffee on the day of two that are known is new, though nothing but its place tells it from them."""
    shop = Shop(world)
    items = [msgspec.structs.replace(item, amount=500, customer="c") for item in make_items(3, 1, orders=False)]
    shop.run(items[:2])
    result = shop.run(items)
    assert (result.purchases_known, result.purchases_recorded) == (2, 1)
    assert [amount for _, amount in shop.bought().values()] == [500, 500, 500]


DIFFERENCES: dict[str, tuple[dict[str, Any], str]] = {
    "customer": ({"customer": "c0"}, "another customer"),
    "amount": ({"amount": 799}, "the amount 3.00 USD, not 7.99 USD"),
    "date": ({"date": "2026-02-04", "at": "2026-02-04T00:00:00.000Z"}, "the date 2026-02-03, not 2026-02-04"),
    "all of it": (
        {"customer": "new", "amount": 0, "date": "2026-02-04", "at": "2026-02-04T00:00:00.000Z"},
        "another customer, the amount 3.00 USD, not 0.00 USD, the date 2026-02-03, not 2026-02-04",
    ),
}


@pytest.mark.parametrize(("changes", "difference"), DIFFERENCES.values(), ids=DIFFERENCES.keys())
def test_known_order_with_other_contents_stops_the_import(
    world: World, changes: dict[str, Any], difference: str
) -> None:
    """A purchase is skipped only if it is the one that is there; otherwise nothing of its file is recorded."""
    shop, items = Shop(world), make_items(8, 8)
    shop.run(items[:5])
    size = shop.size()
    changed = [msgspec.structs.replace(item, **changes) if item.line == 4 else item for item in items]
    with pytest.raises(ConflictError) as caught:
        shop.run(changed)
    assert [(c.line, c.order, c.difference) for c in caught.value.conflicts] == [(4, "o-3", difference)]
    assert str(caught.value).startswith(f"line 4: order o-3 is recorded with {difference}\n")
    assert shop.size() == size
    assert shop.run(items).purchases_recorded == 3


def test_known_order_of_another_asset_stops_the_import(world: World) -> None:
    """An order earns once per merchant; a file imported for a second asset is not taken for done."""
    shop, items = Shop(world), make_items(2, 1)
    shop.run(items)
    world.add_asset(shop.wallet, "MILE")
    importer = Importer(
        world.sequencer, shop.wallet, shop.numbers, asset="MILE", currency="USD", progress=lambda *_: None
    )
    with pytest.raises(ConflictError, match="the asset STAR, not MILE"):
        importer.run(items)


def test_second_till_without_order_numbers_is_not_taken_for_the_first(world: World) -> None:
    """Customer and day of two tills' files agree, the amounts do not: nothing is dropped, a label tells them apart."""
    shop = Shop(world)
    first = make_items(5, 2, orders=False)
    second = [msgspec.structs.replace(item, amount=item.amount + 5_000) for item in first]
    shop.run(first, source="")
    size = shop.size()
    with pytest.raises(ConflictError, match=r"^line 1: order p-[a-z2-7]{26} is recorded with the amount 0.00 USD, not"):
        shop.run(second)
    with pytest.raises(ConflictError, match=r"give it a label of its own \(--source NAME\)$"):
        shop.run(second)
    assert shop.size() == size
    for known in (0, 5):
        assert shop.run(second, source="till 2").purchases_known == known
    assert sorted(amount for _, amount in shop.bought().values()) == sorted(i.amount for i in first + second)


def test_equal_file_of_another_source_is_recorded(world: World) -> None:
    """Under their own labels even files that agree in every byte are two tills' purchases."""
    shop, items = Shop(world), make_items(4, 2, orders=False)
    for source in ("", "north", "south"):
        assert shop.run(items, source=source).purchases_recorded == 4
        assert shop.run(items, source=source).purchases_known == 4
    assert len(shop.bought()) == 12


def test_conflicts_beyond_ten_are_only_counted(world: World) -> None:
    """The rule of ten lines holds here too."""
    shop, items = Shop(world), make_items(20, 1)
    shop.run(items)
    with pytest.raises(ConflictError, match=r"(?s)… and more\n") as caught:
        shop.run([msgspec.structs.replace(item, amount=item.amount + 1) for item in items])
    assert [conflict.line for conflict in caught.value.conflicts] == list(range(1, 11))


OUT_OF_TIME: dict[str, tuple[str, str]] = {
    "before the program": ("1996-12-31T23:59:59.999Z", "PROGRAM_MISSING: no program of STAR was in force"),
    "after its end": ("2026-03-02T12:00:20.000Z", "PROGRAM_CLOSED: version 2 of the program ended"),
    "in the future": ("2026-03-02T12:00:30.001Z", "AT_IN_FUTURE: 2026-03-02T12:00:30.001Z lies after"),
    "too old": ("2026-01-30T23:59:59.999Z", "PURCHASE_TOO_OLD: 2026-01-30T23:59:59.999Z is 31 days ago"),
}


@pytest.mark.parametrize(("at", "message"), OUT_OF_TIME.values(), ids=OUT_OF_TIME.keys())
def test_date_the_rules_refuse_is_named_before_anything_is_recorded(world: World, at: str, message: str) -> None:
    """Where the program's time ends and the future begins is known beforehand: not even an account is opened."""
    within = {"purchase_within_days": 30} if message.startswith("PURCHASE_TOO_OLD") else {}
    shop, items = Shop(world, **within), make_items(250, 3)
    if message.startswith("PROGRAM_CLOSED"):
        ends = "2026-03-02T12:00:10.000Z"
        world.record(
            shop.wallet.sign(PublishProgram, asset="STAR", version=2, starts=START, ends=ends, program=make_program())
        )
    size = shop.size()
    late = [msgspec.structs.replace(item, at=at, date=at[:10]) if item.line == 171 else item for item in items]
    with pytest.raises(ImportStoppedError, match=rf"^line 171: {message}"):
        shop.run(late)
    assert shop.size() == size
    assert shop.run(items) == ImportResult(
        lines=250, customers=3, accounts_opened=3, purchases_recorded=250, purchases_known=0
    )


def test_dates_the_rules_refuse_beyond_ten_are_only_counted(world: World) -> None:
    """Ten lines are enough here too."""
    items = [msgspec.structs.replace(item, at="1990-01-01T00:00:00.000Z") for item in make_items(11, 1)]
    with pytest.raises(ImportStoppedError, match=r"(?s)^line 1: .*\nline 10: [^\n]*\n… and more$"):
        Shop(world).run(items)


def test_purchase_in_the_clock_tolerance_is_recorded(world: World) -> None:
    """What the rules take, the import takes."""
    shop, (item,) = Shop(world), make_items(1, 1)
    result = shop.run([msgspec.structs.replace(item, at="2026-03-02T12:00:30.000Z", date="2026-03-02")])
    assert result.purchases_recorded == 1


GOLD = Tiers(basis="amount", levels=(TierLevel(from_count=1_000, tier="gold"),), period="calendar_year")
DOUBLE = Multiplier(multiplier="gold", times=Ratio(numerator=2, denominator=1), when=When(tiers=("gold",)))


def test_purchases_are_recorded_in_the_order_of_their_times_where_points_depend_on_it(world: World) -> None:
    """The tier that one reaches doubles the next: in the order of the file, or with several at once, it would not."""
    shop = Shop(world, tiers=GOLD, multipliers=(DOUBLE,))
    days = [f"2026-0{1 + i // 28}-{1 + i % 28:02}" for i in range(50)]
    items = [
        msgspec.structs.replace(item, amount=1_000, date=day, at=f"{day}T12:00:00.000Z")
        for item, day in zip(make_items(50, 1), reversed(days), strict=True)
    ]
    assert shop.run(items).purchases_recorded == 50
    with world.store.read() as connection:
        rows = connection.execute(sa.text("SELECT earned_on, points FROM earning ORDER BY earned_on")).all()
    assert [tuple(row) for row in rows] == [(day, 20 if i else 10) for i, day in enumerate(days)]


def test_entry_that_would_be_too_long_is_made_of_several(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each purchase is one of the file all the same, and recorded once."""
    monkeypatch.setattr(purchases, "PURCHASES_PER_OPERATION", 400)
    shop, items = Shop(world), make_items(400, 3)
    assert shop.run(items).purchases_recorded == 400
    assert shop.bought() == shop.expected(items)
    assert shop.run(items).purchases_known == 400


def test_refusal_only_the_ledger_can_know_names_the_lines(world: World) -> None:
    """A supply cap reached on the way is refused with the lines of its operation; what came before stays.

    Which of two operations under way comes first is the sequencer's to say.
    """
    shop, items = Shop(world), [msgspec.structs.replace(item, amount=100) for item in make_items(150, 3)]
    world.add_asset(shop.wallet, "MILE", supply_cap=120)
    importer = Importer(
        world.sequencer, shop.wallet, shop.numbers, asset="MILE", currency="USD", progress=lambda *_: None
    )
    with pytest.raises(ImportStoppedError, match=r"^lines (1 to 100|101 to 150): SUPPLY") as caught:
        importer.run(items)
    assert len(shop.bought()) == (50 if str(caught.value).startswith("lines 1 ") else 100)


def test_asset_of_another_merchant_is_refused_before_anything_is_recorded(world: World) -> None:
    """Every purchase would be refused alike, so no account is opened for any."""
    shop, other = Shop(world), world.add_merchant("Other")
    world.add_asset(other, "MILE")
    size = shop.size()
    importer = Importer(
        world.sequencer, shop.wallet, shop.numbers, asset="MILE", currency="USD", progress=lambda *_: None
    )
    with pytest.raises(ImportStoppedError, match=r"^NOT_PERMITTED: MILE is no asset of mer_"):
        importer.run(make_items(3, 1))
    assert shop.size() == size


def test_key_that_is_not_the_merchants_is_refused(world: World) -> None:
    """Nothing is recorded for a key the ledger does not know."""
    shop = Shop(world)
    size = shop.size()
    shop.wallet = world.wallet(shop.wallet.account, world.make_key())
    with pytest.raises(ImportStoppedError, match=r"^a customer's account: SIGNATURE_MISSING"):
        shop.run(make_items(3, 1))
    assert shop.size() == size


def test_points_follow_the_local_date_and_the_program_in_force(world: World) -> None:
    """Each purchase earns by the version in force at its moment, and its lot ends by its local date."""
    shop = Shop(world, expiry=ExpiresAfterDays(count=10), time_zone="Asia/Tokyo")
    later = make_program(expiry=ExpiresAfterDays(count=20), time_zone="Asia/Tokyo")
    world.record(shop.wallet.sign(PublishProgram, asset="STAR", version=2, starts=START, program=later))
    tokyo = msgspec.structs.replace(NUMBERED, time_zone="Asia/Tokyo")
    world.clock.advance(days=9)
    shop.run(read("c,2026-02-01,3.99\nc,2026-03-03,5.00\n", tokyo))
    with world.store.read() as connection:
        lots = connection.execute(sa.text("SELECT last_day, points FROM lot WHERE points > 0 ORDER BY last_day")).all()
    assert [tuple(lot) for lot in lots] == [("2026-02-11", 3), ("2026-03-23", 5)]


def test_two_importers_at_once_record_everything_once(world: World) -> None:
    """Two processes' sequencers with overlapping files leave each order once and none out."""
    shop = Shop(world)
    one, two = make_items(900, 40), make_items(900, 40, first=300)
    engines = [open_engine(world.url) for _ in range(2)]
    running = [Sequencer(Store(engine, world.origin), world.log_key, world.clock).start() for engine in engines]
    try:
        with ThreadPoolExecutor(2) as threads:
            results = list(threads.map(shop.run, [one, two], running))
    finally:
        for sequencer, engine in zip(running, engines, strict=True):
            sequencer.close()
            engine.dispose()
    assert shop.bought() == shop.expected(one) | shop.expected(two)
    assert sum(result.purchases_recorded for result in results) == 1_200
    assert sum(result.accounts_opened for result in results) == 40
    check_record(world.store)


def test_import_meets_another_that_was_quicker(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Orders that appear between looking and recording are left out, and the rest of their operation recorded."""
    shop, items = Shop(world), make_items(100, 3)
    shop.run(items[20:40])
    look_too_early(monkeypatch)
    result = shop.run(items)
    assert (result.purchases_recorded, result.purchases_known) == (80, 20)
    assert shop.bought() == shop.expected(items)


def look_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first look for known orders finds none: those there are appear only afterwards."""
    look = Importer._known_orders
    calls: list[int] = []

    def look_late(importer: Importer, purchases: Any) -> set[str]:
        calls.append(1)
        return set() if len(calls) == 1 else look(importer, purchases)

    monkeypatch.setattr(Importer, "_known_orders", look_late)


def test_import_meets_another_with_other_contents(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Orders that appear with another amount between looking and recording are not taken for this file's."""
    shop, items = Shop(world), make_items(100, 3)
    shop.run([msgspec.structs.replace(item, amount=7) for item in items[20:22]])
    look_too_early(monkeypatch)
    with pytest.raises(ConflictError) as caught:
        shop.run(items)
    assert [conflict.line for conflict in caught.value.conflicts] == [21, 22]
    assert len(shop.bought()) == 2


IMPORT = """
import sys
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from ledger import purchases
from ledger.sequencer import Sequencer
from ledger.store import Store, open_engine
from ledger.wallet import Wallet
from tests.worlds import Clock
from tests.test_purchases import make_items

url, origin, merchant, opened_at, now_ms, count, *keys = sys.argv[1:]
log_key, key = (load_pem_private_key(pem.encode(), None) for pem in keys)
purchases.PURCHASES_PER_OPERATION = 10
purchases._OPERATIONS_IN_FLIGHT = 4
purchases._ACCOUNTS_PER_SUBMISSION = 20
clock = Clock()
clock.now_ms = int(now_ms)
print("ready", flush=True)
with Sequencer(Store(open_engine(url), origin), log_key, clock) as sequencer:
    importer = purchases.Importer(
        sequencer, Wallet(origin, merchant, [key], clock),
        purchases.CustomerNumbers(merchant, origin, key, opened_at),
        asset="STAR", currency="USD", progress=lambda *_: None,
    )
    print(importer.run(make_items(int(count), 60)).purchases_known, flush=True)
"""


def start_import(shop: Shop, count: int) -> subprocess.Popen[str]:
    """Another process that imports; it has said that it begins."""
    pems = [
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()
        for key in (shop.world.log_key, shop.key)
    ]
    process = subprocess.Popen(
        [sys.executable, "-c", IMPORT, shop.world.url, shop.world.origin, str(shop.wallet.account), START,
         str(shop.world.clock.now_ms), str(count), *pems],
        cwd=Path(__file__).parent.parent,
        stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_killed_import_is_completed_by_the_next(world: World) -> None:
    """SIGKILL at random moments leaves a sound ledger, and one more run makes it exactly complete."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    generator = random.Random(seed)
    shop, count = Shop(world), 1_500
    size = shop.size()
    for _ in range(KILLS):
        with start_import(shop, count) as process:
            deadline = time.monotonic() + 30
            wanted = shop.size() + generator.randrange(1, 60)
            while shop.size() < wanted and process.poll() is None:
                assert time.monotonic() < deadline
                time.sleep(0.001)
            process.send_signal(signal.SIGKILL)
        check_record(world.store)
    partial = shop.bought()
    items = make_items(count, 60)
    expected = shop.expected(items)
    assert size < shop.size()
    assert partial.items() <= expected.items()
    result = shop.run(items)
    assert (result.purchases_known, result.purchases_recorded) == (len(partial), count - len(partial))
    assert shop.bought() == expected
    check_record(world.store)
    check_projections(world.store)
