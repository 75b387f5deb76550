"""A ledger with witnesses as its clients see it: the checkpoint served, receipts, and who has cosigned what."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from ledger.checkpoint import (
    QuorumError,
    WitnessedCheckpoint,
    WitnessPolicy,
    decode_verifier_key,
    verify_checkpoint,
    verify_witnessed,
)
from ledger.encoding import parse_time
from ledger.receipt import ReceiptError, verify_receipt
from tests.service import Service, running
from tests.test_feed import Server, log_key, serving
from tests.witnesses import NOW_S, Watcher, until
from tests.worlds import World, pay

REPORT = """{ witnessing {
  quorum
  checkpoint { size root note cosignatures { witness verifierKey size time } }
  witnesses { name verifierKey newest { witness verifierKey size time } } }
  checkpoint { size note cosignatures { witness } }
  ledger { checkpoint { size note cosignatures { witness size } } } }"""
RECEIPT = "query($seq: UInt53!) { receipt(seq: $seq) }"
INTERVAL_S = 1


@pytest.fixture
def watchers(world: World, tmp_path: Path) -> Iterator[list[Watcher]]:
    """Three witnesses of the world's log."""
    with ExitStack() as stack:
        yield [stack.enter_context(Watcher(tmp_path, number, log_key(world))) for number in (1, 2, 3)]


def settings(watchers: list[Watcher], quorum: int) -> dict[str, Any]:
    addresses = tuple(watcher.address for watcher in watchers)
    return {"witnesses": addresses, "witness_quorum": quorum, "witness_interval_s": INTERVAL_S}


def policy(world: World, quorum: int, watchers: list[Watcher]) -> WitnessPolicy:
    keys = tuple(watcher.key for watcher in watchers)
    return WitnessPolicy(log_keys=(decode_verifier_key(log_key(world)),), witnesses=keys, threshold=quorum)


def served(world: World, server: Server, quorum: int, watchers: list[Watcher]) -> WitnessedCheckpoint:
    """The checkpoint under /log/, which must satisfy a policy."""
    note = server.ask("/log/checkpoint").body.decode()
    return verify_witnessed(note, policy(world, quorum, watchers), world.origin)


def is_served(world: World, server: Server, quorum: int, watchers: list[Watcher], size: int) -> bool:
    try:
        return served(world, server, quorum, watchers).checkpoint.size == size
    except QuorumError:
        return False


def until_served(world: World, server: Server, quorum: int, watchers: list[Watcher], size: int) -> None:
    until(lambda: is_served(world, server, quorum, watchers, size))


# The checkpoint under /log/


def test_cosigned_checkpoint_is_served_with_its_tiles(world: World, watchers: list[Watcher], tmp_path: Path) -> None:
    """A client with a policy is served what it asks for, and a naive one that knows no witnesses is too."""
    world.add_members(300)
    with serving(world, tmp_path, public_entries=True, **settings(watchers, 2)) as server:
        until_served(world, server, 3, watchers, 301)
        found = served(world, server, 2, watchers)
        assert [cosignature.witness for cosignature in found.cosignatures] == [w.name for w in watchers]
        assert len(server.client(world).check()) == 301
        world.add_members(5)
        until_served(world, server, 2, watchers, 306)
        assert len(server.client(world).check()) == 306


def test_newest_checkpoint_is_served_until_one_is_witnessed(
    world: World, watchers: list[Watcher], tmp_path: Path
) -> None:
    """The ledger can be read at once; with its witnesses down from the beginning, it stays so."""
    for watcher in watchers[:2]:
        watcher.stop()
    with serving(world, tmp_path, **settings(watchers, 2)) as server:
        for count in (1, 2):
            world.add_members(1)
            note = server.ask("/log/checkpoint").body.decode()
            key = decode_verifier_key(log_key(world))
            assert verify_checkpoint(note, key, world.origin).size == count + 1
            assert note.count("\n— ") == 1
        watchers[0].start()
        until_served(world, server, 2, watchers, 3)


def test_witnessed_checkpoint_is_served_while_the_ledger_grows_beyond_it(
    world: World, watchers: list[Watcher], tmp_path: Path
) -> None:
    """Its partial tiles are there though the ledger's are wider, until the witnesses are back."""
    world.add_members(299)
    with serving(world, tmp_path, public_entries=True, **settings(watchers, 3)) as server:
        until_served(world, server, 3, watchers, 300)
        etag = server.ask("/log/checkpoint").headers["etag"]
        watchers[0].stop()
        for count in (1, 250):
            world.add_members(count)
            assert len(server.client(world).check()) == 300
            assert server.ask("/log/checkpoint", if_none_match=etag).status == 304
        watchers[0].start()
        until_served(world, server, 3, watchers, 551)
        assert len(server.client(world).check()) == 551
        assert server.ask("/log/checkpoint", if_none_match=etag).status == 200


def test_restarted_server_serves_what_was_witnessed(world: World, watchers: list[Watcher], tmp_path: Path) -> None:
    """At once, and with all witnesses down."""
    with serving(world, tmp_path, **settings(watchers, 2)) as server:
        until_served(world, server, 3, watchers, 1)
    for watcher in watchers:
        watcher.stop()
    world.add_members(3)
    with serving(world, tmp_path, **settings(watchers, 2)) as server:
        assert served(world, server, 3, watchers).checkpoint.size == 1


# Receipts


class Shop:
    """A merchant with an asset, and two members of whom the first has points."""

    def __init__(self, world: World) -> None:
        self.merchant = world.add_merchant()
        world.add_asset(self.merchant, "STAR")
        self.alice, self.bob = world.add_members(2)
        world.grant(self.merchant, "STAR", self.alice, 500)


@contextmanager
def asked(world: World, folder: Path, watchers: list[Watcher], quorum: int) -> Iterator[Service]:
    with running(world, folder, **settings(watchers, quorum)) as service:
        yield service


def witnessed_size(service: Service) -> int:
    found = service.query(REPORT)["witnessing"]["checkpoint"]
    return int(found["size"]) if found is not None else 0


def test_receipt_verifies_at_once_and_with_the_policy_soon(
    world: World, watchers: list[Watcher], tmp_path: Path
) -> None:
    """That of the answer has the log's signature alone; asked for again, it has a quorum of cosignatures."""
    shop = Shop(world)
    trusted, lax = policy(world, 2, watchers), policy(world, 0, watchers)
    with asked(world, tmp_path, watchers, 2) as service:
        token = service.sign_in(shop.alice)
        payload = service.submit(pay(shop.alice, "STAR", 20, shop.bob), "receipt")
        seq = payload["entry"]["seq"]
        assert verify_receipt(payload["receipt"], lax).seq == seq
        until(lambda: witnessed_size(service) > seq)
        text = service.query(RECEIPT, {"seq": seq}, token)["receipt"]
        proven = verify_receipt(text, trusted)
        assert (proven.seq, proven.leaf_hash.hex()) == (seq, payload["entry"]["hash"])
        assert len(proven.cosignatures) >= 2
        assert {cosignature.timestamp_s for cosignature in proven.cosignatures} == {NOW_S}


def test_entry_behind_the_witnessed_checkpoint_has_a_receipt_of_the_newest(
    world: World, watchers: list[Watcher], tmp_path: Path
) -> None:
    """With the quorum lost: entries before keep their cosigned receipt, those after have one without."""
    shop = Shop(world)
    trusted, lax = policy(world, 2, watchers), policy(world, 0, watchers)
    with asked(world, tmp_path, watchers[:2], 2) as service:
        token = service.sign_in(shop.alice)
        old = service.submit(pay(shop.alice, "STAR", 20, shop.bob))["entry"]["seq"]
        until(lambda: witnessed_size(service) == old + 1)
        watchers[0].stop()
        new = service.submit(pay(shop.alice, "STAR", 20, shop.bob), "receipt")
        time.sleep(INTERVAL_S)
        kept = verify_receipt(service.query(RECEIPT, {"seq": old}, token)["receipt"], trusted)
        assert kept.checkpoint.size == old + 1
        text = service.query(RECEIPT, {"seq": new["entry"]["seq"]}, token)["receipt"]
        assert text == new["receipt"]
        assert verify_receipt(text, lax).cosignatures == ()
        with pytest.raises(ReceiptError, match="cosigned by 0 of the 2 witnesses"):
            verify_receipt(text, trusted)


# GraphQL


def test_report_says_who_has_cosigned_what(world: World, watchers: list[Watcher], tmp_path: Path) -> None:
    """Public: the quorum, the witnessed checkpoint with its cosignatures, and the last word of each witness."""
    watchers[2].stop()
    with asked(world, tmp_path, watchers, 2) as service:
        until(lambda: witnessed_size(service) == 1)
        watchers[1].stop()
        world.add_members(1)
        until(lambda: len(service.query(REPORT)["checkpoint"]["cosignatures"]) == 1)
        report = service.query(REPORT)
    first, second = ({"witness": w.name, "verifierKey": w.vkey} for w in watchers[:2])
    found = report["witnessing"]["checkpoint"]
    times = {cosignature.pop("time") for cosignature in found["cosignatures"]}
    assert {parse_time(text) for text in times} == {NOW_S * 1000}
    assert found["cosignatures"] == [first | {"size": 1}, second | {"size": 1}]
    client = verify_witnessed(found["note"], policy(world, 2, watchers), world.origin)
    assert (
        (client.checkpoint.size, client.checkpoint.root.hex()) == (1, found["root"]) == (found["size"], found["root"])
    )
    assert report["witnessing"]["quorum"] == 2
    said = report["witnessing"]["witnesses"]
    assert [(w["name"], w["verifierKey"]) for w in said] == [(w.name, w.vkey) for w in watchers]
    assert [w["newest"] and w["newest"]["size"] for w in said] == [2, 1, None]
    newest = report["checkpoint"]
    assert (newest["size"], [c["witness"] for c in newest["cosignatures"]]) == (2, [watchers[0].name])
    assert len(verify_witnessed(newest["note"], policy(world, 1, watchers), world.origin).cosignatures) == 1
    assert report["ledger"]["checkpoint"]["note"] == newest["note"]


def test_ledger_without_witnesses_reports_none(world: World, tmp_path: Path) -> None:
    """And serves and proves as ever."""
    with running(world, tmp_path) as service:
        report = service.query(REPORT)
        assert report["witnessing"] == {"quorum": 0, "checkpoint": None, "witnesses": []}
        note = report["checkpoint"]["note"]
        assert (report["checkpoint"]["cosignatures"], note.count("\n— ")) == ([], 1)
        assert service.client.get("/log/checkpoint").text == note


def test_changed_configuration_counts_anew(world: World, watchers: list[Watcher], tmp_path: Path) -> None:
    """What is witnessed follows from the settings and what is stored: a larger quorum asks for more lines."""
    watchers[2].stop()
    with asked(world, tmp_path, watchers, 2) as service:
        until(lambda: witnessed_size(service) == 1)
    watchers[1].stop()
    for trusted, quorum, size in ((watchers, 3, 0), (watchers[:2], 2, 1), (watchers[1:2], 1, 1), (watchers[2:], 1, 0)):
        with asked(world, tmp_path, trusted, quorum) as service:
            assert witnessed_size(service) == size
