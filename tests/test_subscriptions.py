"""Subscriptions: every entry once, in order, to whom it concerns, across cut connections and server processes."""

import logging
import os
import random
import re
import signal
import socket as sockets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed

from api import subscriptions
from api.access import sight_of
from api.sessions import Viewer
from api.streams import PAGE
from ledger import queries
from ledger.encoding import format_time
from ledger.operations import OpenAccount, RecordPurchases, SignedOperation
from ledger.queries import EntryFilter, Page, Sight
from ledger.sequencer import account_opened_by
from ledger.store import UnavailableError
from ledger.terms import Purchase
from ledger.wallet import Wallet
from tests.service import key_file, serving
from tests.subscribers import ACTIVITY, ENTRIES, LIMIT_S, EventStream, event_stream, only, seqs, sign_in, socket
from tests.test_api_access import Coalition
from tests.worlds import ORIGIN, World, pay

ROOT = Path(__file__).parent.parent


class Shop:
    """A merchant with an asset; alice holds 100,000 STAR, and bob nothing yet."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.merchant = world.add_merchant()
        world.add_asset(self.merchant, "STAR")
        self.alice, self.bob, self.carol = world.add_members(3)
        world.grant(self.merchant, "STAR", self.alice, 100_000)
        world.grant(self.merchant, "STAR", self.carol, 100_000)

    def pay(self, count: int) -> list[int]:
        """Alice pays bob so many times; the entries."""
        paid = [pay(self.alice, "STAR", 1, self.bob) for _ in range(count)]
        return [recorded.seq for recorded in self.world.record(*paid)]

    def unrelated(self, count: int) -> None:
        """What does not concern alice or bob."""
        self.world.record(*(pay(self.carol, "STAR", 1, self.merchant) for _ in range(count)))


@pytest.fixture
def shop(world: World) -> Shop:
    return Shop(world)


@pytest.fixture
def sqlite_world(tmp_path: Path) -> Iterator[World]:
    """For what does not depend on the database."""
    with World(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as world:
        yield world


def newest(world: World) -> int:
    """Sequence number of the last entry."""
    with world.store.read() as connection:
        return world.store.head(connection).size - 1


def codes(answers: list[Any]) -> list[str]:
    """Codes of the errors of the only answer."""
    (answer,) = answers
    assert "data" not in answer
    return [error["extensions"]["code"] for error in answer["errors"]]


# Every entry once


def test_entries_are_told_as_they_are_recorded(world: World, shop: Shop, tmp_path: Path) -> None:
    """Each before the next is recorded; nothing that was there before, since no number was given."""
    with serving(world, tmp_path) as url:
        token = sign_in(world, url, shop.bob)
        with event_stream(url, token, ENTRIES) as stream:
            assert stream.response.headers["content-type"] == "text/event-stream; charset=utf-8"
            for _ in range(3):
                shop.unrelated(2)
                paid = shop.pay(1)
                assert seqs(stream.answers(1)) == paid


def test_what_was_recorded_before_comes_first(world: World, shop: Shop, tmp_path: Path) -> None:
    """Several pages of the past, then the present, without a seam."""
    past = shop.pay(2 * PAGE + 5)
    with serving(world, tmp_path) as url, event_stream(url, sign_in(world, url, shop.bob), ENTRIES, {"after": 0}) as s:
        opened, *rest = seqs(s.answers(1 + len(past)))
        assert opened < past[0]
        assert rest == past
        now = shop.pay(PAGE)
        assert seqs(s.answers(len(now))) == now


def test_ledger_is_told_whole_to_an_auditor(world: World, shop: Shop, tmp_path: Path) -> None:
    """From the entry after genesis, which is the first that can follow another."""
    shop.pay(45)
    with serving(world, tmp_path) as url:
        token = sign_in(world, url, world.operator)
        with event_stream(url, token, ENTRIES, {"after": 0}) as stream:
            assert seqs(stream.answers(newest(world))) == list(range(1, newest(world) + 1))


Reading = Callable[[str, str, int, int], list[int]]


def read_events(url: str, token: str, after: int, count: int) -> list[int]:
    """Up to ``count`` entries after a number over server-sent events; the connection is then cut."""
    with event_stream(url, token, ENTRIES, {"after": after}) as stream:
        return seqs(stream.answers(count))


def read_socket(url: str, token: str, after: int, count: int) -> list[int]:
    """The same over a WebSocket."""
    with socket(url, token) as ws:
        ws.subscribe("entries", ENTRIES, {"after": after})
        return seqs(ws.answers("entries", count))


@pytest.mark.parametrize("read", [read_events, read_socket])
def test_nothing_is_lost_or_told_twice_when_connections_are_cut(
    world: World, shop: Shop, tmp_path: Path, read: Reading
) -> None:
    """Two servers, of which each connection takes any; writers write in bursts meanwhile, and not only for bob.

    Nobody looks again by himself here: what is not told when it is recorded would never come.
    """
    chance = random.Random(7)
    bursts = [chance.randrange(1, 9) for _ in range(60)]
    paid: list[int] = []

    def write() -> None:
        writes = random.Random(8)
        for count in bursts:
            shop.unrelated(writes.randrange(3))
            paid.extend(shop.pay(count))
            time.sleep(writes.random() / 50)

    received = [newest(world)]
    writer = threading.Thread(target=write)
    quiet = {"stream_ping_s": 3_600}
    with serving(world, tmp_path, **quiet) as one, serving(world, tmp_path, **quiet) as other:
        token = sign_in(world, one, shop.bob)
        writer.start()
        while left := 1 + sum(bursts) - len(received):
            count = min(left, chance.randrange(1, 40))
            received += read(chance.choice([one, other]), token, received[-1], count)
        writer.join()
    assert received[1:] == paid


@contextmanager
def processes(world: World, folder: Path, workers: int) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """``guerdon serve`` with several processes, and its address."""
    with httpx.Client() as client:
        port = _free_port()
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("GUERDON_")},
            "GUERDON_DATA": str(folder),
            "GUERDON_DATABASE_URL": world.url,
            "GUERDON_LOG_KEY_FILE": str(key_file(folder, world.log_key)),
            "GUERDON_ORIGIN": ORIGIN,
            "GUERDON_READERS": "2",
        }
        command = [sys.executable, "-c", "from api.cli import main; main()", "serve", "--port", str(port)]
        process = subprocess.Popen(
            [*command, "--workers", str(workers)],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        url = f"http://127.0.0.1:{port}"
        try:
            give_up_at = time.monotonic() + LIMIT_S
            while not _is_ready(client, url):
                assert process.poll() is None
                assert time.monotonic() < give_up_at
                time.sleep(0.05)
            yield process, url
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            try:
                process.communicate(timeout=LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                raise


def _free_port() -> int:
    with sockets.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _is_ready(client: httpx.Client, url: str) -> bool:
    try:
        return client.get(f"{url}/readyz").status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.slow
def test_each_process_of_a_server_tells_what_any_records(world: World, shop: Shop, tmp_path: Path) -> None:
    """Many connections, spread over the processes, all hear the same; what stops the server ends them all in order."""
    with processes(world, tmp_path, 2) as (process, url), ExitStack() as stack:
        token = sign_in(world, url, shop.bob)
        streams = [stack.enter_context(event_stream(url, token, ENTRIES)) for _ in range(6)]
        sockets = [stack.enter_context(socket(url, token)) for _ in range(6)]
        for ws in sockets:
            ws.subscribe("entries", ENTRIES, {"after": newest(world)})
        for count in (1, 30, 1):
            paid = shop.pay(count)
            for stream in streams:
                assert seqs(stream.answers(count)) == paid
            for ws in sockets:
                assert seqs(ws.answers("entries", count)) == paid
        behind = stack.enter_context(event_stream(url, token, ENTRIES, {"after": 0}))
        behind.answers(1)
        process.send_signal(signal.SIGTERM)
        behind.rest()
        assert not behind.completed
        for stream in streams:
            assert stream.rest() == []
            assert not stream.completed
        for ws in sockets:
            with pytest.raises(ConnectionClosed, match="1012"):
                ws.receive()
        assert process.wait(LIMIT_S) is not None


# To whom it concerns


@pytest.mark.parametrize("narrow", [0, subscriptions.NARROW])
def test_a_stream_tells_what_the_query_lists(
    world: World, tmp_path: Path, narrow: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same entries, as far as they are told, to each role with each filter; whichever way they are looked for."""
    monkeypatch.setattr(subscriptions, "NARROW", narrow)
    coalition = Coalition(world)
    listed = "query($filter: EntryFilterInput) { entries(filter: $filter, first: 100) { nodes { id seq kind actorId "
    listed += "document postings { accountId amount } } } }"
    filters: list[dict[str, Any]] = [{}, {"asset": "STAR"}, {"kind": "GRANT"}, {"kind": "RECOVER_KEYS"}]
    people = ["alice", "bob", "carol", "dave", "star", "mile", "auditor", "operator"]
    filters += [{"account": coalition.wallet(name).account} for name in people]
    with serving(world, tmp_path, max_subscriptions_per_account=50) as url:
        for name in ["alice", "bob", "carol", "dave", "star", "mile", "auditor", "operator"]:
            wallet = coalition.wallet(name)
            token = sign_in(world, url, wallet)
            with httpx.Client(base_url=url) as client, socket(url, token) as ws:
                for i, wanted in enumerate(filters):
                    body = {"query": listed, "variables": {"filter": wanted}}
                    answer = client.post("/graphql", json=body, headers={"authorization": f"Bearer {token}"}).json()
                    expected = [entry for entry in answer["data"]["entries"]["nodes"] if entry["seq"] > 0]
                    ws.subscribe(str(i), ENTRIES, {"filter": wanted, "after": 0})
                    assert ws.answers(str(i), len(expected)) == expected, (name, wanted)
                # What comes last shows that nothing else was told before.
                ws.subscribe("own", ENTRIES, {"after": newest(world)})
                (marker,) = world.record(pay(coalition.alice, "STAR", 1, coalition.bob))
                if name in {"alice", "bob", "star", "auditor", "operator"}:
                    assert seqs(ws.answers("own", 1)) == [marker.seq]
                    assert seqs(ws.answers("0", 1)) == [marker.seq]


def test_nobody_subscribes_without_a_session(sqlite_world: World, tmp_path: Path) -> None:
    with serving(sqlite_world, tmp_path) as url:
        for query in (ENTRIES, ACTIVITY):
            with event_stream(url, None, query, {"after": 0}) as stream:
                assert codes(stream.rest()) == ["UNAUTHENTICATED"]
                assert stream.completed


def test_activity_of_others_is_forbidden(sqlite_world: World, tmp_path: Path) -> None:
    """Told the same whether or not there is such an account; to who sees everything, that there is none."""
    shop = Shop(sqlite_world)
    nobody = "mem_" + "a" * 26
    with serving(sqlite_world, tmp_path) as url:
        token = sign_in(sqlite_world, url, shop.bob)
        for account in (shop.alice.account, nobody, shop.merchant.account):
            with event_stream(url, token, ACTIVITY, {"account": account, "after": 0}) as stream:
                assert codes(stream.rest()) == ["FORBIDDEN"]
        token = sign_in(sqlite_world, url, sqlite_world.operator)
        with event_stream(url, token, ACTIVITY, {"account": nobody}) as stream:
            assert codes(stream.rest()) == ["BAD_USER_INPUT"]


@pytest.mark.parametrize("query", [ENTRIES, ACTIVITY])
def test_a_number_beyond_the_end_is_refused(sqlite_world: World, tmp_path: Path, query: str) -> None:
    """It is of another ledger, or of a past that was restored from an old copy. The last one is fine."""
    shop = Shop(sqlite_world)
    with serving(sqlite_world, tmp_path) as url:
        token = sign_in(sqlite_world, url, shop.bob)
        size = newest(sqlite_world) + 1
        with event_stream(url, token, query, {"after": size}) as stream:
            (answer,) = stream.rest()
        (error,) = answer["errors"]
        assert error["extensions"]["code"] == "BAD_USER_INPUT"
        assert error["message"] == f"the ledger has {size} entries: after is at most {size - 1}"
        with event_stream(url, token, query, {"after": size - 1}) as stream:
            paid = shop.pay(1)
            assert seqs(stream.answers(1)) == paid
        with event_stream(url, token, query, {"after": -1}) as stream:
            assert codes(stream.rest()) == ["BAD_USER_INPUT"]


# Balances


class Books:
    """Two members, a merchant and two assets, and what naive books say of each movement."""

    def __init__(self, world: World, url: str) -> None:
        self.world = world
        self.url = url
        self.merchant = world.add_merchant()
        for asset in ("STAR", "MOON"):
            world.add_asset(self.merchant, asset)
        self.people = world.add_members(2)
        self.points = {(i, asset): 0 for i in range(2) for asset in ("STAR", "MOON")}
        self.expected: list[tuple[int, str, int, int, int]] = []

    def write(self, seq: int, person: int, asset: str, amount: int) -> None:
        self.points[(person, asset)] += amount
        self.expected.append((seq, asset, person, amount, self.points[(person, asset)]))


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Books]:
    folder = tmp_path_factory.mktemp("books")
    with World(f"sqlite:///{folder / 'ledger.sqlite'}") as world, serving(world, folder) as url:
        yield Books(world, url)


STEP = st.tuples(st.booleans(), st.integers(0, 1), st.sampled_from(["STAR", "MOON"]), st.integers(1, 30))


@settings(max_examples=15, suppress_health_check=list(HealthCheck))
@given(steps=st.lists(STEP, min_size=1, max_size=30), at=st.integers(0, 10**6))
def test_balances_are_those_of_naive_books(books: Books, steps: list[tuple[bool, int, str, int]], at: int) -> None:
    """Grants and payments in two assets; read from the beginning and from anywhere, as the member and as the issuer."""
    world = books.world
    for grants, person, asset, amount in steps:
        if grants:
            books.write(world.grant(books.merchant, asset, books.people[person], amount).seq, person, asset, amount)
        elif (some := min(amount, books.points[(person, asset)])) > 0:
            (paid,) = world.record(pay(books.people[person], asset, some, books.people[1 - person]))
            books.write(paid.seq, person, asset, -some)
            books.write(paid.seq, 1 - person, asset, some)
    member = books.people[0]
    for reader in (member, books.merchant):
        token = sign_in(world, books.url, reader)
        for after in (0, at % newest(world)):
            expected = [
                (seq, asset, amount, balance)
                for seq, asset, person, amount, balance in books.expected
                if person == 0 and seq > after
            ]
            if not expected:
                continue
            with event_stream(books.url, token, ACTIVITY, {"account": member.account, "after": after}) as stream:
                found: list[tuple[int, str, int, int]] = []
                while len(found) < len(expected):
                    (told,) = stream.answers(1)
                    seq = told["entry"]["seq"]
                    found += [(seq, m["asset"], m["amount"], m["balance"]) for m in told["movements"]]
            assert found == expected


def test_an_issuer_is_told_of_its_own_assets_alone(sqlite_world: World, tmp_path: Path) -> None:
    """A member's other points are none of its business, in an entry that pays it or anywhere."""
    world = sqlite_world
    star, moon = world.add_merchant(), world.add_merchant()
    world.add_asset(star, "STAR")
    world.add_asset(moon, "MOON")
    alice = world.add_member()
    world.grant(star, "STAR", alice, 10)
    world.grant(moon, "MOON", alice, 10)
    (paid,) = world.record(pay(alice, "MOON", 4, star))
    last = world.grant(star, "STAR", alice, 5)
    with serving(world, tmp_path) as url:
        variables = {"account": alice.account, "after": 0}
        with event_stream(url, sign_in(world, url, star), ACTIVITY, variables) as stream:
            told = stream.answers(3)
        movements = [told[i]["movements"] for i in range(3)]
        assert seqs(told)[1:] == [paid.seq, last.seq]
        assert movements == [
            [{"asset": "STAR", "amount": 10, "balance": 10}],
            [],
            [{"asset": "STAR", "amount": 5, "balance": 15}],
        ]


# The end of a session


def replaced_keys(world: World, member: Wallet) -> SignedOperation:
    return member.replace_keys([world.make_key()])


def test_stream_ends_when_other_keys_act_for_the_account(world: World, shop: Shop, tmp_path: Path) -> None:
    """At once, and without the entry that changed them; what came before it was told."""
    with serving(world, tmp_path) as url, event_stream(url, sign_in(world, url, shop.bob), ENTRIES) as stream:
        paid = shop.pay(1)
        assert seqs(stream.answers(1)) == paid
        world.record(replaced_keys(world, shop.bob))
        assert codes(stream.rest()) == ["UNAUTHENTICATED"]
        assert stream.completed


def test_stream_ends_with_its_session(sqlite_world: World, tmp_path: Path) -> None:
    """By the clock, though nothing is recorded."""
    shop = Shop(sqlite_world)
    with (
        serving(sqlite_world, tmp_path, stream_ping_s=1) as url,
        event_stream(url, sign_in(sqlite_world, url, shop.bob), ENTRIES) as stream,
    ):
        sqlite_world.clock.advance(ms=900_000)
        assert codes(stream.rest()) == ["UNAUTHENTICATED"]


def test_custodian_is_told_no_more_once_the_member_has_keys(sqlite_world: World, tmp_path: Path) -> None:
    """The custody ends in an entry; the account is the member's own from there on."""
    world = sqlite_world
    merchant = world.add_merchant()
    (opened,) = world.record(merchant.sign(OpenAccount, role="member"))
    account = str(account_opened_by(opened))
    held = world.wallet(account, *merchant.keys)
    with serving(world, tmp_path) as url:
        variables = {"account": account, "after": 0}
        with event_stream(url, sign_in(world, url, merchant), ACTIVITY, variables) as stream:
            assert seqs(stream.answers(1)) == [opened.seq]
            world.record(held.replace_keys([world.make_key()]))
            assert codes(stream.rest()) == ["FORBIDDEN"]


# Limits


def running_subscriptions(url: str, token: str, stack: ExitStack, count: int) -> list[EventStream]:
    return [stack.enter_context(event_stream(url, token, ENTRIES)) for _ in range(count)]


def until(condition: Callable[[], object]) -> None:
    """Wait for what must become true."""
    give_up_at = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < give_up_at
        time.sleep(0.01)


def test_an_account_has_so_many_subscriptions_and_no_more(sqlite_world: World, tmp_path: Path) -> None:
    """Over whatever connections; another account has its own; a place is free again when its client has gone."""
    shop = Shop(sqlite_world)
    with serving(sqlite_world, tmp_path, max_subscriptions_per_account=2) as url, ExitStack() as stack:
        bobs, alices = (sign_in(sqlite_world, url, wallet) for wallet in (shop.bob, shop.alice))
        with ExitStack() as inner:
            running = running_subscriptions(url, bobs, inner, 1)
            with socket(url, bobs) as ws:
                ws.subscribe("1", ENTRIES, {"after": 0})
                ws.answers("1", 1)
                with event_stream(url, bobs, ENTRIES) as stream:
                    assert codes(stream.rest()) == ["TOO_MANY_SUBSCRIPTIONS"]
                ws.subscribe("2", ENTRIES)
                assert ws.next_about("2")["payload"][0]["extensions"]["code"] == "TOO_MANY_SUBSCRIPTIONS"
                running += running_subscriptions(url, alices, stack, 2)
                paid = shop.pay(1)
                assert seqs(running[0].answers(1)) == paid

        def has_place() -> bool:
            with event_stream(url, bobs, ENTRIES, {"after": 0}) as stream:
                return "errors" not in next(iter(stream))

        until(has_place)


def rests(reads: list[int]) -> bool:
    """Whether nothing is read for a while."""
    before = len(reads)
    time.sleep(0.5)
    return len(reads) == before


def test_a_process_has_so_many_subscriptions_and_no_more(sqlite_world: World, tmp_path: Path) -> None:
    shop = Shop(sqlite_world)
    with serving(sqlite_world, tmp_path, max_subscriptions=2) as url, ExitStack() as stack:
        for wallet in (shop.alice, shop.bob):
            running_subscriptions(url, sign_in(sqlite_world, url, wallet), stack, 1)
        with event_stream(url, sign_in(sqlite_world, url, shop.carol), ENTRIES) as stream:
            assert codes(stream.rest()) == ["TOO_MANY_SUBSCRIPTIONS"]


def test_client_that_takes_nothing_is_bounded_and_cut_off(
    sqlite_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server stops reading for it after what fits the network's buffers, and after a while gives its place away."""
    world = sqlite_world
    shop = Shop(world)
    for _ in range(20):
        shop.pay(1_000)
    reads: list[int] = []
    original = subscriptions._page

    def counted(*arguments: Any, **named: Any) -> Any:
        reads.append(named["after"])
        return original(*arguments, **named)

    monkeypatch.setattr(subscriptions, "_page", counted)
    with serving(world, tmp_path, max_subscriptions=1, stream_timeout_s=2) as url:
        token = sign_in(world, url, shop.alice)
        little = [(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 65_536)]
        with event_stream(url, token, ENTRIES, {"after": 0}, socket_options=little) as slow:
            received = seqs(slow.answers(1))
            until(lambda: rests(reads))
            assert len(reads) * PAGE < 20_000 // 2

            def has_place() -> bool:
                with event_stream(url, token, ENTRIES, {"after": newest(world) - 1}) as stream:
                    return "errors" not in next(iter(stream))

            until(has_place)
            with suppress(httpx.RemoteProtocolError):  # the connection ends without the end of the response
                received += seqs(only(answer["data"]) for answer in slow)
            assert not slow.completed
        assert received == sorted(set(received))
        assert len(received) < 20_000 // 2
        # Nothing is lost by that: it goes on where it was.
        with event_stream(url, token, ENTRIES, {"after": received[-1]}) as stream:
            received += seqs(stream.answers(100))
    with world.store.read() as connection:
        sight = Sight(account=str(shop.alice.account))
        page = Page(limit=len(received), after=0)
        expected = [entry.seq for entry in queries.entries(world.store, connection, EntryFilter(), sight, page)]
    assert received == expected


def test_limits_of_documents_hold_for_subscriptions(sqlite_world: World, tmp_path: Path) -> None:
    """Refused before anything is streamed, as errors over HTTP."""
    shop = Shop(sqlite_world)
    aliases = " ".join(f"a{i}: seq" for i in range(40))
    for query, code in [
        ("subscription { entryRecorded { " + aliases + " } }", "GRAPHQL_VALIDATION_FAILED"),
        ("subscription { entryRecorded { seq } accountActivity { entry { seq } } }", "GRAPHQL_VALIDATION_FAILED"),
        ("subscription { entryRecorded { nothing } }", "GRAPHQL_VALIDATION_FAILED"),
        ("subscription { entryRecorded", "GRAPHQL_PARSE_FAILED"),
    ]:
        with serving(sqlite_world, tmp_path) as url:
            token = sign_in(sqlite_world, url, shop.bob)
            with event_stream(url, token, query) as stream:
                assert stream.response.status_code == 400
                stream.response.read()
                (error,) = stream.response.json()["errors"]
            assert error["extensions"]["code"] == code
            assert error["extensions"]["requestId"] == stream.response.headers["x-request-id"]


def test_answers_of_a_stream_count_against_the_quota(sqlite_world: World, tmp_path: Path) -> None:
    """A client that has used up its quota is told the rest as the quota fills up, and is refused queries meanwhile."""
    shop = Shop(sqlite_world)
    first = newest(sqlite_world)
    paid = shop.pay(200)
    with serving(sqlite_world, tmp_path, rate_cost=300) as url:
        token = sign_in(sqlite_world, url, shop.bob)
        query = "subscription($after: UInt53) { entryRecorded(after: $after) { seq } }"
        with event_stream(url, token, query, {"after": first}) as stream:
            told = seqs(stream.answers(120))
            headers = {"authorization": f"Bearer {token}"}
            answer = httpx.post(f"{url}/graphql", json={"query": "{ viewer { id } }"}, headers=headers)
            assert answer.status_code == 429
            told += seqs(stream.answers(5))
    assert told == paid[:125]


# HTTP


@pytest.mark.parametrize("accept", ["application/json", "application/graphql-response+json", "*/*", ""])
def test_subscription_without_event_streams_is_not_acceptable(sqlite_world: World, tmp_path: Path, accept: str) -> None:
    """A client that did not ask for a stream would wait for ever for its end."""
    with serving(sqlite_world, tmp_path) as url:
        response = httpx.post(f"{url}/graphql", json={"query": ENTRIES}, headers={"accept": accept})
        assert response.status_code == 406
        (error,) = response.json()["errors"]
        assert error["extensions"]["code"] == "NOT_ACCEPTABLE"
        assert "text/event-stream" in error["message"]


def test_subscription_over_get(sqlite_world: World, tmp_path: Path) -> None:
    """As EventSource asks; what writes is refused there, however it would be answered."""
    shop = Shop(sqlite_world)
    with serving(sqlite_world, tmp_path) as url, httpx.Client(base_url=url, timeout=LIMIT_S) as client:
        headers = {
            "accept": "text/event-stream",
            "authorization": f"Bearer {sign_in(sqlite_world, url, shop.bob)}",
        }
        query = {"query": "subscription { entryRecorded { seq } }"}
        with client.stream("GET", "/graphql", params=query, headers=headers) as response:
            assert response.status_code == 200
            paid = shop.pay(1)
            assert seqs(EventStream(response).answers(1)) == paid
        mutation = {"query": "mutation { operationsSubmit(input: {operations: []}) { results { seq } } }"}
        assert client.get("/graphql", params=mutation, headers=headers).status_code == 405


def test_query_as_an_event_stream_is_one_answer(sqlite_world: World, tmp_path: Path) -> None:
    """As graphql-sse has it; a client that takes JSON as well gets JSON."""
    with serving(sqlite_world, tmp_path) as url:
        with event_stream(url, None, "{ ledger { size } }") as stream:
            (answer,) = stream.rest()
            assert answer["data"] == {"ledger": {"size": 1}}
            assert stream.completed
        headers = {"accept": "text/event-stream, application/graphql-response+json, application/json"}
        response = httpx.post(f"{url}/graphql", json={"query": "{ ledger { size } }"}, headers=headers)
        assert response.headers["content-type"] == "application/graphql-response+json; charset=utf-8"
        assert response.json()["data"] == {"ledger": {"size": 1}}


def test_quiet_stream_shows_signs_of_life(sqlite_world: World, tmp_path: Path) -> None:
    """Comments, which clients pass over and proxies see."""
    shop = Shop(sqlite_world)
    with (
        serving(sqlite_world, tmp_path, stream_ping_s=1) as url,
        event_stream(url, sign_in(sqlite_world, url, shop.bob), ENTRIES) as stream,
    ):
        lines = stream.response.iter_lines()
        assert [line for _, line in zip(range(6), lines, strict=False)] == [":", ""] * 3


def test_bad_token_is_refused_before_the_stream(sqlite_world: World, tmp_path: Path) -> None:
    with serving(sqlite_world, tmp_path) as url, event_stream(url, "nonsense", ENTRIES) as stream:
        assert stream.response.status_code == 401
        assert stream.response.headers["www-authenticate"].startswith("Bearer")


# Faults


def raise_secret(*_: Any, **__: Any) -> Any:
    raise RuntimeError("the secret of the cellar")


@pytest.mark.parametrize("when", ["before", "while", "inside"])
def test_faults_are_masked_in_streams(
    sqlite_world: World,
    tmp_path: Path,
    when: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """In the beginning, in a later page and in a field of an answer; the log has it under the request id."""
    shop = Shop(sqlite_world)
    place = {"inside": "api.types.decode_entry"}.get(when, "ledger.queries.entries")
    with serving(sqlite_world, tmp_path) as url:
        token = sign_in(sqlite_world, url, shop.bob)
        if when == "before":
            monkeypatch.setattr(place, raise_secret)
        with caplog.at_level(logging.ERROR), event_stream(url, token, ENTRIES) as stream:
            request_id = stream.response.headers["x-request-id"]
            if when != "before":
                monkeypatch.setattr(place, raise_secret)
                shop.pay(1)
            answer = next(iter(stream))
        (error,) = answer["errors"]
        assert error["message"] == "Internal error"
        assert error["extensions"] == {"code": "INTERNAL_ERROR", "requestId": request_id}
        assert "cellar" not in str(answer)
        assert "cellar" in caplog.text
        assert request_id in caplog.text


def test_stream_is_cut_off_while_the_ledger_cannot_be_read(
    sqlite_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a complete: the client goes on by itself, and misses nothing."""
    shop = Shop(sqlite_world)

    def unavailable(*_: Any) -> Any:
        raise UnavailableError("the database did not answer")

    with serving(sqlite_world, tmp_path) as url:
        token = sign_in(sqlite_world, url, shop.bob)
        with event_stream(url, token, ENTRIES) as stream, monkeypatch.context() as patched:
            first = shop.pay(1)
            assert seqs(stream.answers(1)) == first
            patched.setattr("ledger.queries.entries", unavailable)
            second = shop.pay(1)
            assert stream.rest() == []
            assert not stream.completed
        with event_stream(url, token, ENTRIES, {"after": first[-1]}) as stream:
            assert seqs(stream.answers(1)) == second


# Speed


def test_an_entry_makes_those_look_whom_it_concerns(
    sqlite_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others go on where it left the ledger, without having looked: what they hear next is next to them."""
    world = sqlite_world
    shop = Shop(world)
    looks: list[tuple[str, int]] = []
    original = subscriptions._page

    def counted(store: Any, connection: Any, session: Any, question: Any, **named: Any) -> Any:
        looks.append((session.account, named["after"]))
        return original(store, connection, session, question, **named)

    with serving(world, tmp_path) as url, ExitStack() as stack:
        alice, bob = (
            stack.enter_context(event_stream(url, sign_in(world, url, who), ENTRIES, {"after": newest(world)}))
            for who in (shop.alice, shop.bob)
        )
        paid = shop.pay(1)
        assert seqs(alice.answers(1)) == seqs(bob.answers(1)) == paid
        time.sleep(0.5)
        monkeypatch.setattr(subscriptions, "_page", counted)
        for _ in range(20):
            world.record(pay(shop.alice, "STAR", 1, shop.merchant))
            assert seqs(alice.answers(1)) == [newest(world)]
        before = newest(world)
        assert {account for account, _ in looks} == {shop.alice.account}
        paid = shop.pay(1)
        assert seqs(bob.answers(1)) == paid
        (first, *_) = [after for account, after in looks if account == shop.bob.account]
        assert first >= before - 1


def test_whoever_is_told_of_an_entry_is_among_those_it_concerns(world: World) -> None:
    """For every reader and filter, whatever the query for it finds; and near the tail it finds the same."""
    coalition = Coalition(world)
    people = ["alice", "bob", "carol", "dave", "star", "mile", "auditor", "operator"]
    now = format_time(world.clock())
    purchases = tuple(
        Purchase(amount=amount, at=now, member=str(member.account), order=f"p{amount}")
        for amount, member in ((50, coalition.bob), (5_000, coalition.dave), (1, coalition.carol))
    )
    world.record(
        coalition.star.sign(RecordPurchases, asset="STAR", currency="USD", purchases=purchases),
        pay(coalition.alice, "STAR", 1, coalition.mile),
        pay(coalition.alice, "STAR", 1, coalition.dave),
    )
    wanted = [EntryFilter(), EntryFilter(asset="STAR"), EntryFilter(asset="MILE"), EntryFilter(kind="transfer")]
    wanted += [EntryFilter(account=coalition.wallet(name).account) for name in people]
    with world.store.read() as connection:
        concerned = [queries.concerned(world.store, connection, i, i + 1) for i in range(newest(world) + 1)]
        assert sum(among is not None for among in concerned) >= 6
        for name in people:
            account = coalition.wallet(name).account
            found = queries.account(world.store, connection, str(account), now)
            assert found is not None
            viewer = Viewer(account=found.id, role=found.role, time=now)
            for each in wanted:
                sight = sight_of(world.store, connection, viewer, [each.account] if each.account else [])
                interests = subscriptions.interests_of(each, sight)
                seen = queries.entries(world.store, connection, each, sight, Page(limit=1_000))
                for entry in seen:
                    among = concerned[entry.seq]
                    assert among is None or interests is None or interests & among, (name, each, entry.seq)
                for after, before in ((0, 10), (10, 14), (9, len(concerned)), (0, len(concerned))):
                    page = Page(limit=1_000, after=after, before=before, narrow=True)
                    within = [entry for entry in seen if after < entry.seq < before]
                    assert queries.entries(world.store, connection, each, sight, page) == within, (name, each)


@pytest.mark.parametrize("wanted", [EntryFilter(), EntryFilter(kind="transfer")])
def test_new_entries_are_found_without_reading_an_accounts_history(sqlite_world: World, wanted: EntryFilter) -> None:
    """Near the tail the few new postings are walked: otherwise a busy account's whole past is read for each of them."""
    store = sqlite_world.store
    sight = Sight(account=str(sqlite_world.add_member().account))
    with store.read() as connection:

        def plan(page: Page) -> str:
            query = queries.entries_query(store, wanted, sight, page)
            compiled = query.compile(connection, compile_kwargs={"literal_binds": True})
            return "\n".join(row.detail for row in connection.execute(sa.text(f"EXPLAIN QUERY PLAN {compiled}")))

        near = plan(Page(limit=20, after=100, before=110, narrow=True))
        assert "INDEX posting_account" not in near
        assert re.search(r"SEARCH posting_\d+ USING PRIMARY KEY \(ledger_id=\? AND seq>\? AND seq<\?\)", near), near
        assert "INDEX posting_account" in plan(Page(limit=20, after=100, before=110))
