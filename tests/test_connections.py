"""Places of WebSockets: who only connects keeps out nobody who signs in, and nobody has more than a part."""

from contextlib import ExitStack

from api.connections import MIN_POOL, MIN_POOL_OF_ADDRESS, Place, Places
from api.streams import StreamLimits


def take(places: Places, stack: ExitStack, address: str) -> Place | None:
    """A place for as long as the stack is not closed."""
    return stack.enter_context(places.taken(address))


def settled(places: Places, stack: ExitStack, account: str, address: str) -> str | None:
    """Why a connection that signs in has no place."""
    place = take(places, stack, address)
    assert place is not None
    return place.settle(account)


def test_one_address_has_a_part_of_the_pool() -> None:
    """However many connect from there and say nothing, others find a place."""
    places = Places(StreamLimits(total=1_000))
    with ExitStack() as stack:
        found = [take(places, stack, "192.0.2.1") for _ in range(50)]
        assert sum(place is not None for place in found) == 10
        assert take(places, stack, "192.0.2.2") is not None


def test_who_says_nothing_keeps_out_nobody_who_has_signed_in() -> None:
    """The pool may be full; those who are through do not depend on it, and places in it come back."""
    places = Places(StreamLimits(total=1_000))
    with ExitStack() as stack:
        assert settled(places, stack, "alice", "192.0.2.1") is None
        with ExitStack() as crowd:
            found = [take(places, crowd, f"192.0.2.{i % 200}") for i in range(200)]
            assert sum(place is not None for place in found) == 100
            assert take(places, stack, "198.51.100.1") is None
        assert settled(places, stack, "bob", "198.51.100.1") is None


def test_signing_in_frees_a_place_in_the_pool() -> None:
    places = Places(StreamLimits(total=100, per_account=100, per_address=100))
    with ExitStack() as stack:
        for _ in range(100):
            assert settled(places, stack, "alice", "192.0.2.1") is None


def test_connections_of_account_address_and_process_are_limited() -> None:
    """Each with its reason; a place is free again when its connection has ended."""
    places = Places(StreamLimits(total=5, per_account=2, per_address=3))
    with ExitStack() as stack:
        with ExitStack() as first:
            assert settled(places, first, "alice", "a") is None
            assert settled(places, stack, "alice", "b") is None
            refused = settled(places, stack, "alice", "c")
            assert refused == "2 connections of this account are open: close one first"
        assert settled(places, stack, "alice", "a") is None
        assert settled(places, stack, "bob", "a") is None
        assert settled(places, stack, "bob", "a") is None
        assert settled(places, stack, "eve", "a") == "3 connections from this address are open: close one first"
        assert settled(places, stack, "eve", "b") is None
        assert str(settled(places, stack, "eve", "b")).startswith("this server has as many connections as it takes")


def test_small_servers_have_a_pool_too() -> None:
    """Of no more than all there may be."""
    for total, pool, of_address in ((0, 0, 0), (1, 1, 1), (20, MIN_POOL, MIN_POOL_OF_ADDRESS)):
        places = Places(StreamLimits(total=total))
        with ExitStack() as stack:
            found = [take(places, stack, "192.0.2.1") for _ in range(30)]
            assert sum(place is not None for place in found) == of_address
            found += [take(places, stack, f"192.0.2.{i}") for i in range(2, 30)]
            assert sum(place is not None for place in found) == pool
