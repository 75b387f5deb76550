"""Rate limits: what is counted against which client, what a client is told of it, and what is refused."""

import re
from collections.abc import Iterator
from fractions import Fraction
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.errors import HttpError
from api.rate_limits import (
    ADDRESS_FACTOR,
    MAX_CLIENTS,
    NEW_DOCUMENT_COST,
    WINDOW_MS,
    Addresses,
    Client,
    Policy,
    Quota,
    Rate,
)
from ledger.operations import SignedOperation
from tests.service import Service, running, signed_text
from tests.worlds import World, pay


class Steady:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now_ms = 1_000_000

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
def steady() -> Steady:
    return Steady()


def taken(quota: Quota, client: str, units: int, already: int = 0) -> int:
    """0 when units could be taken; else in how many seconds they can."""
    try:
        quota.take(client, units, taken=already)
    except HttpError as refusal:
        return int(dict(refusal.headers)[b"retry-after"])
    return 0


def left(quota: Quota, client: str) -> tuple[int, int]:
    """What is told to be left, and in how many seconds all of it is there again."""
    stated = dict(quota.fields(quota.take(client, 0)))[b"ratelimit"].decode()
    match = re.fullmatch(r'"[a-z]+";r=(\d+);t=(\d+)', stated)
    assert match is not None, stated
    return int(match[1]), int(match[2])


def test_quota_can_be_used_at_once_and_comes_back_steadily(steady: Steady) -> None:
    """60 in a minute: all of them now, then one each second."""
    quota = Quota(Policy(name="cost", quota=60), steady)
    assert left(quota, "a") == (60, 0)
    assert taken(quota, "a", 59) == 0
    assert left(quota, "a") == (1, 59)
    assert taken(quota, "a", 2) == 1
    assert taken(quota, "a", 1) == 0
    assert left(quota, "a") == (0, 60)
    steady.now_ms += 999
    assert taken(quota, "a", 1) == 1
    steady.now_ms += 1
    assert taken(quota, "a", 1) == 0
    assert taken(quota, "a", 10) == 10
    steady.now_ms += 3_600_000
    assert left(quota, "a") == (60, 0)


def test_clients_have_quotas_of_their_own(steady: Steady) -> None:
    quota = Quota(Policy(name="cost", quota=10), steady)
    assert taken(quota, "a", 10) == 0
    assert taken(quota, "a", 1) > 0
    assert taken(quota, "b", 10) == 0


def test_more_than_the_quota_is_taken_as_all_of_it(steady: Steady) -> None:
    """Otherwise whoever asks for it would wait for ever."""
    quota = Quota(Policy(name="cost", quota=10), steady)
    assert taken(quota, "a", 1_000) == 0
    assert taken(quota, "a", 1_000) == 60
    steady.now_ms += 60_000
    assert taken(quota, "a", 1_000) == 0


def test_refusal_uses_nothing_and_says_when(steady: Steady) -> None:
    """Whoever waits as long as it says gets what was asked for, and not a second earlier."""
    quota = Quota(Policy(name="cost", quota=7), steady)
    assert taken(quota, "a", 7) == 0
    for units in (1, 2, 5):
        wait_s = taken(quota, "a", units)
        steady.now_ms += (wait_s - 1) * 1000
        assert taken(quota, "a", units) == 1
        steady.now_ms += 1000
        assert taken(quota, "a", units) == 0


def test_wait_covers_what_a_request_uses_again(steady: Steady) -> None:
    """What it used before it was refused it uses once more; even one that costs it all gets through."""
    for used, first, second in ((40, 1, 30), (50, 5, 55), (59, 1, 60), (50, 10, 1_000), (1, 59, 2)):
        quota = Quota(Policy(name="cost", quota=60), steady)
        quota.take("a", used)
        quota.take("a", first)
        wait_s = taken(quota, "a", second, already=first)
        assert wait_s > 0
        steady.now_ms += wait_s * 1000
        quota.take("a", first)
        assert taken(quota, "a", second, already=first) == 0


@given(
    limit=st.integers(1, 1_000),
    steps=st.lists(st.tuples(st.integers(0, 20_000), st.integers(1, 1_200)), max_size=60),
)
def test_quota_agrees_with_a_bucket_of_fractions(limit: int, steps: list[tuple[int, int]]) -> None:
    """The plain token bucket: it fills with time, and a request takes from it or takes nothing."""
    clock = Steady()
    quota = Quota(Policy(name="cost", quota=limit), clock)
    tokens = Fraction(limit)
    for passed_ms, units in steps:
        clock.now_ms += passed_ms
        tokens = min(tokens + Fraction(passed_ms * limit, WINDOW_MS), Fraction(limit))
        fits = min(units, limit) <= tokens
        assert (taken(quota, "a", units) == 0) == fits
        if fits:
            tokens -= min(units, limit)
        remaining, full_in_s = left(quota, "a")
        assert remaining == tokens // 1
        missing_ms = (limit - tokens) * WINDOW_MS / limit
        assert full_in_s == -(-missing_ms // 1000)


def test_memory_is_bounded(steady: Steady) -> None:
    """First those go who have their whole quota again, then those who have used the least."""
    quota = Quota(Policy(name="cost", quota=60), steady, max_clients=100)
    for i in range(100):
        assert taken(quota, f"gone-{i}", 1) == 0
    steady.now_ms += 1_000
    assert taken(quota, "heavy", 60) == 0
    assert len(quota) == 1
    for i in range(1_000):
        assert taken(quota, f"light-{i}", 1) == 0
        assert len(quota) <= 100
    assert taken(quota, "heavy", 1) > 0
    assert MAX_CLIENTS <= 1_000_000


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.7", [], "203.0.113.7"),
        ("203.0.113.7", ["198.51.100.1"], "203.0.113.7"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["192.0.2.66, 198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["192.0.2.66", "198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["192.0.2.66, 198.51.100.1, 10.9.9.9"], "198.51.100.1"),
        ("10.0.0.1", ["192.0.2.66, 198.51.100.1", "10.9.9.9"], "198.51.100.1"),
        ("10.0.0.1", ["10.1.1.1, 10.2.2.2"], "10.1.1.1"),
        ("10.0.0.1", ["198.51.100.1:4711"], "198.51.100.1"),
        ("10.0.0.1", ["[2001:db8:1:2:3:4:5:6]:4711"], "2001:db8:1:2::/64"),
        ("10.0.0.1", ["unknown"], "10.0.0.1"),
        ("10.0.0.1", ["192.0.2.66, " * 5_000 + "198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["10.0.0.2, " * 5_000 + "10.0.0.1"], "10.0.0.2"),
        ("10.0.0.1", ["198.51.100.1, unknown"], "10.0.0.1"),
        ("::ffff:10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("::1", ["198.51.100.1"], "198.51.100.1"),
        ("2001:db8::1", [], "2001:db8::/64"),
        ("2001:db8::ffff:1", ["198.51.100.1"], "2001:db8::/64"),
        ("testclient", ["198.51.100.1"], "testclient"),
    ],
)
def test_address_is_told_by_trusted_proxies_alone(peer: str, forwarded: list[str], client: str) -> None:
    """The last one that none of them is; what a client wrote itself stands before it."""
    addresses = Addresses((ip_network("10.0.0.0/8"), ip_network("::1/128")))
    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    assert addresses.client((peer, 1234), headers) == client


def test_forwarded_for_is_not_believed_without_trusted_proxies() -> None:
    assert Addresses(()).client(("127.0.0.1", 1), [(b"x-forwarded-for", b"198.51.100.1")]) == "127.0.0.1"
    assert Addresses(()).client(None, []) == ""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """On SQLite alone: nothing here depends on the database."""
    with World(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as world:
        yield world


def throttled(response: httpx.Response) -> int:
    """In how many seconds a refused client may try again; the refusal is checked."""
    assert response.status_code == 429
    (error,) = response.json()["errors"]
    assert error["extensions"] == {
        "code": "RATE_LIMITED",
        "retryable": True,
        "requestId": response.headers["x-request-id"],
    }
    assert response.headers["ratelimit"].endswith(f";t={response.headers['retry-after']}")
    assert "data" not in response.json()
    return int(response.headers["retry-after"])


QUERY = "{ ledger { size origin } }"


@pytest.mark.parametrize("accept", ["application/json", "application/graphql-response+json"])
def test_queries_count_by_their_cost(accept: str, world: World, tmp_path: Path, steady: Steady) -> None:
    """Refused with 429 whatever type is accepted; answers tell quota, rest and time."""
    with running(world, tmp_path, steady=steady, rate_cost=120) as service:
        first = service.post({"query": QUERY}, accept=accept)
        assert first.status_code == 200
        assert first.headers["ratelimit-policy"] == '"cost";q=120;w=60;qu="cost"'
        spent = NEW_DOCUMENT_COST + 1 + 3
        assert first.headers["ratelimit"] == f'"cost";r={120 - spent};t={spent // 2}'
        second = service.post({"query": QUERY}, accept=accept)
        assert second.headers["ratelimit"] == f'"cost";r={120 - spent - 4};t={(spent + 4) // 2}'
        while (response := service.post({"query": QUERY}, accept=accept)).status_code == 200:
            pass
        steady.now_ms += throttled(response) * 1000
        assert service.post({"query": QUERY}, accept=accept).status_code == 200


def test_what_cannot_be_executed_counts_too(world: World, tmp_path: Path, steady: Steady) -> None:
    """A new document before it is parsed, a large body before it is, so that neither is free."""
    with running(world, tmp_path, steady=steady, rate_cost=200) as service:
        for i in range(3):
            assert service.post({"query": f"{{ nothing{i} }}"}).status_code == 200
        throttled(service.post({"query": "{ nothing3 }"}))
        assert service.post({"query": "{ nothing0 }"}).json()["errors"]
        steady.now_ms += 60_000
        padded = b'{"query":"{ nothing0 }"}' + b" " * 4_096 * 150
        assert service.post(padded).json()["errors"]
        throttled(service.post(padded))


def test_bad_tokens_and_bodies_count_for_the_address(world: World, tmp_path: Path, steady: Steady) -> None:
    """Neither is free, and a body is not even looked at once there are too many."""
    with running(world, tmp_path, steady=steady, rate_cost=10) as service:
        assert [service.post({"query": QUERY}, token="x").status_code for _ in range(11)] == [401] * 10 + [429]
        throttled(service.post(b"{"))
        steady.now_ms += 60_000
        assert [service.post(b"{").status_code for _ in range(11)] == [400] * 10 + [429]
        steady.now_ms += 60_000
        assert service.post(b"[" * 4_096 * 9).status_code == 400
        throttled(service.post({"query": QUERY}, token="x"))


BULK = "mutation($input: OperationsSubmitInput!) { operationsSubmit(input: $input) { results { seq } } }"
PARTS = "mutation($docs: [SignedOperation!]!) { operationsSubmit(input: {operations: $docs}) { results { seq } } }"
TWICE = """mutation($input: OperationsSubmitInput!) {
  ...f b: operationsSubmit(input: $input) { results { seq } } }
fragment f on Mutation { a: operationsSubmit(input: $input) { results { seq } } }"""


def transfers(world: World, count: int) -> list[SignedOperation]:
    shop = world.add_merchant()
    world.add_asset(shop, "STAR")
    alice, bob = world.add_members(2)
    world.grant(shop, "STAR", alice, 1000)
    return [pay(alice, "STAR", 1, bob) for _ in range(count)]


def operations_left(response: httpx.Response) -> int:
    match = re.fullmatch(r'"operations";r=(\d+);t=\d+', response.headers["ratelimit"])
    assert match is not None
    return int(match[1])


def test_submissions_count_by_their_operations(world: World, tmp_path: Path, steady: Steady) -> None:
    """However the documents are handed in; a refused bulk is not begun, and goes through later."""
    documents = [signed_text(signed) for signed in transfers(world, 12)]
    literal = ", ".join('"x"' for _ in range(5))
    literally = f"mutation {{ operationsSubmit(input: {{operations: [{literal}]}}) {{ results {{ seq }} }} }}"
    with running(world, tmp_path, steady=steady, rate_operations=60) as service:
        bulk = {"query": BULK, "variables": {"input": {"operations": documents}}}
        first = service.post(bulk)
        assert len(first.json()["data"]["operationsSubmit"]["results"]) == 12
        assert first.headers["ratelimit-policy"] == '"operations";q=60;w=60;qu="operations"'
        assert operations_left(first) == 48
        assert operations_left(service.post({"query": PARTS, "variables": {"docs": documents[:3]}})) == 45
        assert operations_left(service.post({"query": literally})) == 40
        twice = {"query": TWICE, "variables": {"input": {"operations": documents[:4]}}}
        assert operations_left(service.post(twice)) == 32
        assert operations_left(service.post({**bulk, "variables": {"input": {"operations": "x"}}})) == 31
        assert operations_left(service.post({**bulk, "variables": {}})) == 30
        assert operations_left(service.post(bulk)) == 18
        assert operations_left(service.post(bulk)) == 6
        size = service.query("{ ledger { size } }")
        wait_s = throttled(service.post(bulk))
        assert service.query("{ ledger { size } }") == size
        steady.now_ms += wait_s * 1000
        assert operations_left(service.post(bulk)) == 0


def test_typed_mutation_counts_as_one_operation(world: World, tmp_path: Path, steady: Steady) -> None:
    one, two = transfers(world, 2)
    with running(world, tmp_path, steady=steady, rate_operations=2) as service:
        assert service.submit(one)["userErrors"] == []
        assert service.submit(two)["userErrors"] == []
        throttled(service.post({"query": "mutation { __typename a: __typename }"}))


def test_session_counts_for_its_account_and_not_for_its_address(world: World, tmp_path: Path, steady: Steady) -> None:
    """A second session of an account has no second quota, and others behind the same address have theirs."""
    alice, bob = world.add_members(2)
    with running(world, tmp_path, steady=steady, rate_cost=3_000) as service:
        tokens = [service.sign_in(alice), service.sign_in(alice), service.sign_in(bob)]
        page = "{ entries(first: 100) { nodes { seq kind } } }"
        costly = {"query": page}
        statuses = [service.post(costly, token=tokens[0]).status_code for _ in range(12)]
        assert statuses[0] == 200
        assert statuses[-1] == 429
        throttled(service.post(costly, token=tokens[1]))
        assert service.post(costly, token=tokens[2]).status_code == 200
        assert service.post({"query": QUERY}).status_code == 200


def test_accounts_at_one_address_share_a_larger_quota(steady: Steady) -> None:
    """Opening more of them gives no more; what the address refuses an account gets back."""
    rate = Rate("cost", 60, steady)
    for i in range(ADDRESS_FACTOR):
        rate.take(Client(address="192.0.2.1", account=f"account-{i}"), 60)
    late = Client(address="192.0.2.1", account="late")
    with pytest.raises(HttpError, match="address-cost") as refused:
        rate.take(late, 30)
    assert dict(refused.value.headers)[b"retry-after"] == b"3"
    assert rate.take(Client(address="192.0.2.2", account="late"), 60) == 60 * WINDOW_MS
    assert rate.take(Client(address="192.0.2.1"), 60) == 60 * WINDOW_MS
    steady.now_ms += 60_000
    rate.take(late, 30)


def test_account_that_is_refused_does_not_use_up_its_address(steady: Steady) -> None:
    rate = Rate("cost", 60, steady)
    greedy = Client(address="192.0.2.1", account="greedy")
    rate.take(greedy, 60)
    for _ in range(1_000):
        with pytest.raises(HttpError):
            rate.take(greedy, 60)
    rate.take(Client(address="192.0.2.1", account="other"), 60)


def test_refused_document_tells_what_is_left(world: World, tmp_path: Path, steady: Steady) -> None:
    """It has been counted like any other."""
    with running(world, tmp_path, steady=steady, rate_cost=200) as service:
        response = service.post({"query": "{ nothing }"}, accept="application/graphql-response+json")
        assert response.status_code == 400
        assert response.headers["ratelimit-policy"] == '"cost";q=200;w=60;qu="cost"'
        assert response.headers["ratelimit"].startswith(f'"cost";r={200 - NEW_DOCUMENT_COST - 1};')


def test_session_is_not_looked_up_for_a_throttled_client(
    world: World, tmp_path: Path, steady: Steady, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is too much is refused before the database is asked anything."""
    (alice,) = world.add_members(1)
    with running(world, tmp_path, steady=steady, rate_cost=300) as service:
        token = service.sign_in(alice)
        while service.post({"query": QUERY}, token=token).status_code == 200:
            pass
        monkeypatch.setattr("ledger.store.Store.read", lambda _: pytest.fail("the database was asked"))
        throttled(service.post({"query": QUERY}, token=token))


def test_clients_behind_a_trusted_proxy_are_told_apart(world: World, tmp_path: Path, steady: Steady) -> None:
    """And one that comes directly cannot pretend to be another."""
    with running(world, tmp_path, steady=steady, rate_cost=100) as service:
        come_from(service, "10.0.0.1")
        assert exhausted_by(service, "198.51.100.1")
        throttled(service.post({"query": QUERY}, x_forwarded_for="198.51.100.2"))
    trusted = (ip_network("10.0.0.0/8"),)
    with running(world, tmp_path, steady=steady, rate_cost=100, trusted_proxies=trusted) as service:
        come_from(service, "10.0.0.1")
        assert exhausted_by(service, "198.51.100.1")
        assert service.post({"query": QUERY}, x_forwarded_for="198.51.100.2").status_code == 200


def come_from(service: Service, address: str) -> None:
    """Make the client's connections come from an address."""
    transport: Any = service.client._transport
    transport.client = (address, 4711)


def exhausted_by(service: Service, address: str) -> bool:
    """Ask from an address until it is refused."""
    return any(service.post({"query": QUERY}, x_forwarded_for=address).status_code == 429 for _ in range(100))


def test_quota_of_nothing_is_no_limit(world: World, tmp_path: Path) -> None:
    """And then nothing is told of one."""
    with running(world, tmp_path, rate_cost=0, rate_operations=0) as service:
        for query in (QUERY, "mutation { __typename }"):
            response = service.post({"query": query})
            assert response.status_code == 200
            assert "ratelimit" not in response.headers
            assert "ratelimit-policy" not in response.headers


def test_defaults_leave_room_for_a_bulk_and_for_pages_of_everything(world: World, tmp_path: Path) -> None:
    """600 bulks of 1,000 operations, and 300 of the costliest queries, in one minute."""
    with running(world, tmp_path) as service:
        told = service.post({"query": QUERY}).headers["ratelimit-policy"]
        assert told == '"cost";q=3000000;w=60;qu="cost"'
        told = service.post({"query": "mutation { __typename }"}).headers["ratelimit-policy"]
        assert told == '"operations";q=600000;w=60;qu="operations"'
