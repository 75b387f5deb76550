"""Webhooks in GraphQL: making, changing, testing and replaying them, who may, and what is told of them."""

import json
import logging
import secrets
import threading
import time
from collections.abc import Iterator
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from api.webhook_client import Answer, WebhookClient
from api.webhook_delivery import MAX_TESTS, TESTERS, Webhooks
from api.webhook_secrets import SecretBox
from api.webhooks import MAX_WEBHOOKS
from ledger.encoding import format_time
from ledger.keys import encode_public_key
from ledger.operations import OpenAccount
from ledger.sequencer import account_opened_by
from ledger.wallet import Wallet
from ledger.webhooks import Webhook as StoredWebhook
from tests.receivers import Receiver
from tests.service import ERRORS, Service, running
from tests.witnesses import until
from tests.worlds import Clock, World, pay

ALLOWED: dict[str, Any] = {"webhook_networks": (ip_network("127.0.0.0/8"),), "webhook_http": True}

WEBHOOK = """id accountId url eventTypes description createdAt status disabledAt disabledReason failingSince
  previousSecretUntil nextSeq"""
DELIVERY = "id webhookId entryId seq eventType status attempts lastAttemptAt nextAttemptAt statusCode error"
RESULTS = {
    "Create": f"webhook {{ {WEBHOOK} }} secret",
    "Update": f"webhook {{ {WEBHOOK} }}",
    "Delete": "deletedId",
    "SecretRotate": f"webhook {{ {WEBHOOK} }} secret",
    "Replay": f"webhook {{ {WEBHOOK} }}",
    "Test": "messageId delivered statusCode error",
}


class Shop:
    """A merchant that is signed in, and its receiver."""

    def __init__(self, service: Service, receiver: Receiver) -> None:
        self.service, self.receiver, self.world = service, receiver, service.world
        self.wallet = self.world.add_merchant()
        self.world.add_asset(self.wallet, "STAR")
        self.alice, self.bob = self.world.add_members(2)
        self.world.grant(self.wallet, "STAR", self.alice, 1_000)
        self.token = service.sign_in(self.wallet)

    def call(self, verb: str, token: str | None = None, **given: Any) -> Any:
        """The payload of a mutation, whatever it says."""
        document = (
            f"mutation($input: Webhook{verb}Input!) {{ webhook{verb}(input: $input) {{ {RESULTS[verb]} {ERRORS} }} }}"
        )
        return self.service.query(document, {"input": given}, token or self.token)[f"webhook{verb}"]

    def done(self, verb: str, **given: Any) -> Any:
        """The payload of a mutation that must be done."""
        payload = self.call(verb, **given)
        assert payload["userErrors"] == []
        return payload

    def refused(self, verb: str, token: str | None = None, **given: Any) -> tuple[str, list[str]]:
        """Code and path of the only user error of a mutation that must not be done."""
        payload = self.call(verb, token, **given)
        (error,) = payload.pop("userErrors")
        assert set(payload.values()) <= {None, False}
        assert error["message"]
        return error["code"], error["path"]

    def create(self, **given: Any) -> tuple[str, str]:
        """Id and secret of a new webhook."""
        payload = self.done("Create", **{"url": self.receiver.url, **given})
        return payload["webhook"]["id"], payload["secret"]

    def read(self, webhook_id: str) -> Any:
        document = f"query($id: ID!) {{ webhook(id: $id) {{ {WEBHOOK} }} }}"
        return self.service.query(document, {"id": webhook_id}, self.token)["webhook"]

    def deliveries(self, webhook_id: str, arguments: str = "") -> Any:
        """The connection of a webhook's deliveries."""
        document = (
            f"query($id: ID!) {{ webhook(id: $id) {{ deliveries{arguments} {{ nodes {{ {DELIVERY} }} "
            "pageInfo { hasNextPage endCursor startCursor hasPreviousPage } } } }"
        )
        return self.service.query(document, {"id": webhook_id}, self.token)["webhook"]["deliveries"]

    def statuses(self, webhook_id: str) -> dict[int, str]:
        return {node["seq"]: node["status"] for node in self.deliveries(webhook_id)["nodes"]}

    def pay(self, count: int = 1) -> list[int]:
        paid = [pay(self.alice, "STAR", 1, self.bob) for _ in range(count)]
        return [entry.seq for entry in self.world.record(*paid)]


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    """A ledger whose clock stands at this machine's time, since verifiers compare with theirs."""
    with World(database_url, clock=Clock(format_time(time.time_ns() // 1_000_000))) as world:
        yield world


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def shop(world: World, receiver: Receiver, tmp_path: Path) -> Iterator[Shop]:
    with running(world, tmp_path, **ALLOWED) as service:
        yield Shop(service, receiver)


def test_webhook_is_told_of_what_is_recorded(shop: Shop) -> None:
    """From its making on; what became of it is seen, the newest first, by id too."""
    webhook_id, secret = shop.create(eventTypes=["TRANSFER_RECORDED", "POINTS_GRANTED"], description="The till")
    assert webhook_id.startswith("whk_")
    seqs = shop.pay(3)
    until(lambda: len(shop.statuses(webhook_id)) == 3)
    contents = shop.receiver.verified(secret)
    assert [each["data"]["seq"] for each in contents] == seqs
    nodes = shop.deliveries(webhook_id)["nodes"]
    assert [node["seq"] for node in nodes] == seqs[::-1]
    assert [node["id"] for node in nodes] == [message.id for message in reversed(shop.receiver.messages)]
    now = format_time(shop.world.clock())
    assert nodes[0] == {
        "id": f"msg_{webhook_id.removeprefix('whk_')}_{seqs[-1]}",
        "webhookId": webhook_id,
        "entryId": f"ent_{seqs[-1]}",
        "seq": seqs[-1],
        "eventType": "TRANSFER_RECORDED",
        "status": "DELIVERED",
        "attempts": 1,
        "lastAttemptAt": now,
        "nextAttemptAt": None,
        "statusCode": 204,
        "error": None,
    }
    assert shop.read(webhook_id) == {
        "id": webhook_id,
        "accountId": shop.wallet.account,
        "url": shop.receiver.url,
        "eventTypes": ["TRANSFER_RECORDED", "POINTS_GRANTED"],
        "description": "The till",
        "createdAt": now,
        "status": "ENABLED",
        "disabledAt": None,
        "disabledReason": None,
        "failingSince": None,
        "previousSecretUntil": None,
        "nextSeq": seqs[-1] + 1,
    }
    document = "query($ids: [ID!]!) { nodes(ids: $ids) { __typename id } }"
    found = shop.service.query(document, {"ids": [webhook_id, nodes[0]["id"]]}, shop.token)["nodes"]
    assert found == [
        {"__typename": "Webhook", "id": webhook_id},
        {"__typename": "WebhookDelivery", "id": nodes[0]["id"]},
    ]


def test_deliveries_are_paged_in_both_directions(shop: Shop) -> None:
    """By keys, the newest first, each once."""
    webhook_id, _ = shop.create()
    seqs = shop.pay(7)[::-1]
    until(lambda: len(shop.statuses(webhook_id)) == 7)
    found, cursor = [], None
    while True:
        page = shop.deliveries(webhook_id, f"(first: 3, after: {json.dumps(cursor)})")
        found += [node["seq"] for node in page["nodes"]]
        assert page["pageInfo"]["hasPreviousPage"] == (cursor is not None)
        cursor = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            break
    assert found == seqs
    page = shop.deliveries(webhook_id, f"(last: 2, before: {json.dumps(page['pageInfo']['startCursor'])})")
    assert [node["seq"] for node in page["nodes"]] == seqs[4:6]
    assert [node["seq"] for node in shop.deliveries(webhook_id, "(last: 2)")["nodes"]] == seqs[5:]
    assert shop.deliveries(webhook_id, "(status: PENDING)")["nodes"] == []
    assert len(shop.deliveries(webhook_id, "(status: DELIVERED)")["nodes"]) == 7


def test_failure_is_seen_and_dead_letters_are_replayed(shop: Shop) -> None:
    """While one waits, the later ones do too; the dead one is sent again on request, with the id it had."""
    webhook_id, _ = shop.create()
    shop.receiver.answers = [500] * 8
    first, second = shop.pay(2)

    def tried(times: int) -> Any:
        nodes = shop.deliveries(webhook_id)["nodes"]
        return nodes if [node["attempts"] for node in nodes] == [times] else None

    for attempt in range(1, 8):
        until(partial(tried, attempt))
        (node,) = tried(attempt)
        assert (node["seq"], node["status"]) == (first, "PENDING")
        assert (node["statusCode"], node["error"]) == (500, "answered 500")
        assert node["nextAttemptAt"] > node["lastAttemptAt"]
        assert shop.read(webhook_id)["failingSince"] is not None
        shop.world.clock.advance(ms=44_000_000)
        shop.token = shop.service.sign_in(shop.wallet)
    until(lambda: shop.statuses(webhook_id) == {first: "DEAD_LETTERED", second: "DELIVERED"})
    assert shop.read(webhook_id)["status"] == "ENABLED"
    assert [node["seq"] for node in shop.deliveries(webhook_id, "(status: DEAD_LETTERED)")["nodes"]] == [first]
    shop.done("Replay", id=webhook_id, by={"deadLettered": True})
    until(lambda: shop.statuses(webhook_id) == {first: "DELIVERED", second: "DELIVERED"})
    assert shop.receiver.seqs == [first] * 8 + [second, first]
    assert len({message.id for message in shop.receiver.messages}) == 2


def test_everything_from_an_entry_on_is_replayed(shop: Shop) -> None:
    """Also what lies before the webhook's making; what is still to be told cannot be replayed."""
    webhook_id, _ = shop.create()
    seqs = shop.pay(4)
    until(lambda: len(shop.statuses(webhook_id)) == 4)
    assert shop.done("Replay", id=webhook_id, by={"fromSeq": seqs[2]})["webhook"]["nextSeq"] == seqs[2]
    until(lambda: shop.receiver.seqs == seqs + seqs[2:])
    shop.done("Replay", id=webhook_id, by={"fromSeq": 0})
    until(lambda: shop.receiver.seqs[6:][-4:] == seqs)
    assert shop.receiver.messages[6].type == "account.opened"
    too_late = shop.refused("Replay", id=webhook_id, by={"fromSeq": seqs[-1] + 2})
    assert too_late == ("MALFORMED", ["input", "by", "fromSeq"])


def test_one_delivery_is_replayed(shop: Shop) -> None:
    """A delivered one, or one that waits, at once; of this webhook alone."""
    webhook_id, _ = shop.create()
    other_id, _ = shop.create(eventTypes=["POINTS_EXPIRED"])
    shop.receiver.answers = [204, 500]
    seqs = shop.pay(2)
    until(lambda: shop.statuses(webhook_id) == {seqs[0]: "DELIVERED", seqs[1]: "PENDING"})
    waiting, delivered = (node["id"] for node in shop.deliveries(webhook_id)["nodes"])
    shop.done("Replay", id=webhook_id, by={"delivery": waiting})
    until(lambda: shop.statuses(webhook_id) == dict.fromkeys(seqs, "DELIVERED"))
    shop.done("Replay", id=webhook_id, by={"delivery": delivered})
    until(lambda: shop.receiver.seqs == [*seqs, seqs[1], seqs[0]])
    unknown = ("UNKNOWN_DELIVERY", ["input", "by", "delivery"])
    assert shop.refused("Replay", id=other_id, by={"delivery": delivered}) == unknown
    for wrong in (delivered.rpartition("_")[0] + "_99999", "msg_x_1", "", delivered + "0" * 20):
        assert shop.refused("Replay", id=webhook_id, by={"delivery": wrong}) == unknown
    assert shop.refused("Replay", id=webhook_id, by={"deadLettered": False})[0] == "MALFORMED"


def test_webhook_is_changed(shop: Shop) -> None:
    """What is left out stays; null means everything, or nothing."""
    webhook_id, _ = shop.create(eventTypes=["TRANSFER_SENT"], description="old")
    before = shop.read(webhook_id)
    assert shop.done("Update", id=webhook_id)["webhook"] == before
    changed = shop.done("Update", id=webhook_id, url="https://shop.example/new", eventTypes=["POINTS_REDEEMED"])
    assert changed["webhook"] == before | {"url": "https://shop.example/new", "eventTypes": ["POINTS_REDEEMED"]}
    changed = shop.done("Update", id=webhook_id, eventTypes=None, description=None)
    assert (changed["webhook"]["eventTypes"], changed["webhook"]["description"]) == (None, None)
    assert shop.read(webhook_id) == changed["webhook"]


def test_disabled_webhook_misses_nothing(shop: Shop) -> None:
    """Enabled again, it goes on where it was."""
    webhook_id, _ = shop.create()
    seqs = shop.pay()
    until(lambda: shop.statuses(webhook_id) == {seqs[0]: "DELIVERED"})
    disabled = shop.done("Update", id=webhook_id, enabled=False)["webhook"]
    assert (disabled["status"], disabled["disabledReason"]) == ("DISABLED", "BY_ACCOUNT")
    assert disabled["disabledAt"] == format_time(shop.world.clock())
    seqs += shop.pay(2)
    time.sleep(1.5)
    assert shop.receiver.seqs == seqs[:1]
    assert shop.done("Update", id=webhook_id, enabled=True)["webhook"]["disabledReason"] is None
    until(lambda: shop.receiver.seqs == seqs)


def test_gone_receiver_is_enabled_again_with_what_it_missed(shop: Shop) -> None:
    webhook_id, _ = shop.create()
    shop.receiver.answers = [410]
    seqs = shop.pay(2)
    until(lambda: shop.read(webhook_id)["status"] == "DISABLED")
    assert shop.read(webhook_id)["disabledReason"] == "GONE"
    shop.done("Update", id=webhook_id, enabled=True)
    until(lambda: shop.receiver.seqs == [seqs[0], *seqs])
    assert shop.read(webhook_id)["failingSince"] is None


def test_new_address_is_tried_at_once(shop: Shop) -> None:
    """What waited for its next attempt at the old one does not wait any longer."""
    webhook_id, _ = shop.create(url="https://10.0.0.1.nip.invalid/")
    (seq,) = shop.pay()
    until(lambda: shop.statuses(webhook_id) == {seq: "PENDING"})
    (node,) = shop.deliveries(webhook_id)["nodes"]
    assert node["error"] == "the name does not resolve"
    shop.done("Update", id=webhook_id, url=shop.receiver.url)
    until(lambda: shop.statuses(webhook_id) == {seq: "DELIVERED"})


def test_deleted_webhook_is_gone(shop: Shop) -> None:
    webhook_id, _ = shop.create()
    assert shop.done("Delete", id=webhook_id)["deletedId"] == webhook_id
    assert shop.read(webhook_id) is None
    for verb, more in VERBS.items():
        assert shop.refused(verb, id=webhook_id, **more) == ("UNKNOWN_WEBHOOK", ["input", "id"])


VERBS: dict[str, dict[str, Any]] = {
    "Update": {"enabled": False},
    "Delete": {},
    "SecretRotate": {},
    "Replay": {"by": {"deadLettered": True}},
    "Test": {},
}


def test_secret_is_rotated_with_an_overlap(shop: Shop) -> None:
    """Both sign until its end; without one, the former signs nothing more."""
    webhook_id, former = shop.create()
    rotated = shop.done("SecretRotate", id=webhook_id, overlapHours=2)
    assert rotated["webhook"]["previousSecretUntil"] == format_time(shop.world.clock() + 2 * 3_600_000)
    assert rotated["secret"] != former
    shop.pay()
    until(lambda: shop.receiver.messages)
    assert shop.receiver.verified(former) == shop.receiver.verified(rotated["secret"])
    last = shop.done("SecretRotate", id=webhook_id, overlapHours=0)
    assert last["webhook"]["previousSecretUntil"] is None
    shop.receiver.messages.clear()
    shop.pay()
    until(lambda: shop.receiver.messages)
    assert len(shop.receiver.verified(last["secret"])) == 1
    for old in (former, rotated["secret"]):
        with pytest.raises(WebhookVerificationError):
            shop.receiver.verified(old)
    for hours in (-1, 169):
        refused = shop.refused("SecretRotate", id=webhook_id, overlapHours=hours)
        assert refused == ("MALFORMED", ["input", "overlapHours"])


def test_test_is_sent_at_once_and_its_answer_told(shop: Shop) -> None:
    """Of a disabled webhook too; it is no delivery, and delays none."""
    webhook_id, secret = shop.create()
    shop.done("Update", id=webhook_id, enabled=False)
    tested = shop.done("Test", id=webhook_id)
    assert (tested["delivered"], tested["statusCode"], tested["error"]) == (True, 204, None)
    (content,) = shop.receiver.verified(secret)
    assert content["type"] == "webhook.test"
    assert content["data"] == {
        "ledger": shop.world.origin,
        "accountId": shop.wallet.account,
        "webhookId": webhook_id,
    }
    assert shop.receiver.messages[0].id == tested["messageId"]
    shop.receiver.answers = [503]
    tested = shop.done("Test", id=webhook_id)
    assert (tested["delivered"], tested["statusCode"], tested["error"]) == (False, 503, "answered 503")
    assert shop.deliveries(webhook_id)["nodes"] == []


def test_too_many_tests_at_once_are_refused(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each waits for a stranger; the refusal says to try again."""
    monkeypatch.setattr("api.webhook_delivery.Webhooks.begin_test", lambda *_: None)
    webhook_id, _ = shop.create()
    payload = shop.call("Test", id=webhook_id)
    (error,) = payload["userErrors"]
    assert (error["code"], error["retryable"]) == ("OVERLOADED", True)


def test_tests_of_one_account_leave_room_for_others(world: World, receiver: Receiver) -> None:
    """One at a time of each; and of all together so many as wait or are under way at most."""
    begun, go_on = threading.Semaphore(0), threading.Event()
    deliverer = Webhooks(
        world.store,
        SecretBox(world.origin, [world.log_key], secrets.token_bytes),
        WebhookClient(),
        clock=world.clock,
        jitter=lambda _: 0,
        disable_after_ms=1,
    )

    def slowly(*_: Any) -> Answer:
        begun.release()
        go_on.wait(30)
        return Answer()

    deliverer.deliverer.send_test = slowly  # type: ignore[method-assign, assignment]

    def begin(account: str) -> Any:
        return deliverer.begin_test(stored(account), "msg_1")

    first = begin("account-0")
    assert first is not None
    assert begin("account-0") is None
    others = [begin(f"account-{i}") for i in range(1, MAX_TESTS)]
    assert None not in others
    assert begin("account-late") is None
    for _ in range(TESTERS):
        assert begun.acquire(timeout=30)
    go_on.set()
    for under_way in (first, *others):
        assert under_way.result(30).is_delivered
    again = begin("account-0")
    assert again is not None
    assert again.result(30).is_delivered


def stored(account: str) -> StoredWebhook:
    return StoredWebhook(
        webhook="whk_1",
        account=account,
        url="https://shop.example/",
        event_types=None,
        description=None,
        created_at_ms=0,
        secret=b"",
        next_seq=0,
    )


# Refusals


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"url": "ftp://shop.example/"}, "url"),
        ({"url": "https://10.0.0.1/"}, "url"),
        ({"url": "https://[::ffff:169.254.169.254]/"}, "url"),
        ({"url": "https://user:pass@shop.example/"}, "url"),
        ({"url": ""}, "url"),
        ({"url": "https://shop.example/" + "a" * 3_000}, "url"),
        ({"eventTypes": []}, "eventTypes"),
        ({"description": "x" * 257}, "description"),
        ({"description": "two\nlines"}, "description"),
        ({"fromSeq": 1_000_000}, "fromSeq"),
    ],
)
def test_what_no_webhook_can_have_is_refused(shop: Shop, changes: dict[str, Any], path: str) -> None:
    """Naming the field; nothing is made."""
    given = {"url": "https://shop.example/", **changes}
    assert shop.refused("Create", **given) == ("MALFORMED", ["input", path])
    listed = shop.service.query("{ webhooks { nodes { id } } }", token=shop.token)["webhooks"]["nodes"]
    assert listed == []
    if path != "fromSeq":
        webhook_id, _ = shop.create()
        assert shop.refused("Update", id=webhook_id, **changes) == ("MALFORMED", ["input", path])


def test_account_has_so_many_webhooks_at_most(shop: Shop) -> None:
    """Listed in the order they were made, by pages."""
    made = []
    for _ in range(MAX_WEBHOOKS):
        made.append(shop.create()[0])
        shop.world.clock.advance(ms=1)
    assert shop.refused("Create", url=shop.receiver.url) == ("TOO_MANY_WEBHOOKS", ["input"])
    document = "query($a: String) { webhooks(first: 4, after: $a) { nodes { id } pageInfo { endCursor hasNextPage } } }"
    found, cursor = [], None
    while True:
        page = shop.service.query(document, {"a": cursor}, shop.token)["webhooks"]
        found += [node["id"] for node in page["nodes"]]
        cursor = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            break
    assert found == made
    shop.done("Delete", id=made[3])
    shop.create()


def auditor_of(world: World) -> Wallet:
    key = world.make_key()
    fields = {"role": "auditor", "name": "Auditor", "keys": (encode_public_key(key),)}
    (opened,) = world.record(world.operator.sign(OpenAccount, co_signers=[key], **fields))
    return world.wallet(account_opened_by(opened), key)


def test_others_webhooks_are_none(shop: Shop) -> None:
    """For another merchant, an auditor and the operator alike, whichever way they ask."""
    webhook_id, _ = shop.create()
    shop.pay()
    until(lambda: shop.statuses(webhook_id))
    message = shop.deliveries(webhook_id)["nodes"][0]["id"]
    for wallet in (shop.world.add_merchant("Other"), auditor_of(shop.world), shop.world.operator):
        token = shop.service.sign_in(wallet)
        document = "query($id: ID!, $m: ID!) { webhook(id: $id) { id } a: node(id: $id) { id } b: node(id: $m) { id } }"
        found = shop.service.query(document, {"id": webhook_id, "m": message}, token)
        assert found == {"webhook": None, "a": None, "b": None}
        assert shop.service.query("{ webhooks { nodes { id } } }", token=token)["webhooks"]["nodes"] == []
        for verb, more in VERBS.items():
            assert shop.refused(verb, token, id=webhook_id, **more) == ("UNKNOWN_WEBHOOK", ["input", "id"])
    assert shop.read(webhook_id)["status"] == "ENABLED"


def test_auditor_is_told_everything(shop: Shop) -> None:
    wallet = auditor_of(shop.world)
    shop.token = shop.service.sign_in(wallet)
    shop.create()
    member = shop.world.add_member()
    seqs = shop.pay()
    until(lambda: len(shop.receiver.messages) == 2)
    opened, moved = shop.receiver.messages
    assert (opened.type, moved.type) == ("account.opened", "transfer.recorded")
    assert moved.data["seq"] == seqs[0]
    assert member.account


@pytest.mark.parametrize("verb", ["Create", *VERBS])
def test_members_and_strangers_have_no_webhooks(shop: Shop, verb: str) -> None:
    """Without a session, UNAUTHENTICATED; with a member's, FORBIDDEN."""
    given = {"url": "https://shop.example/"} if verb == "Create" else {"id": "whk_" + "a" * 26, **VERBS[verb]}
    document = f"mutation($input: Webhook{verb}Input!) {{ webhook{verb}(input: $input) {{ userErrors {{ code }} }} }}"
    token = shop.service.sign_in(shop.alice)
    for asked, variables in (
        (document, {"input": given}),
        ("{ webhooks { nodes { id } } }", None),
        ('{ webhook(id: "whk_x") { id } }', None),
    ):
        assert shop.service.error_code(asked, variables) == "UNAUTHENTICATED"
        assert shop.service.error_code(asked, variables, token) == "FORBIDDEN"


def test_private_addresses_are_refused_where_nothing_is_set(world: World, receiver: Receiver, tmp_path: Path) -> None:
    """Neither loopback by its number nor clear text; a name that resolves to loopback is not reached."""
    with running(world, tmp_path) as service:
        shop = Shop(service, receiver)
        assert shop.refused("Create", url=receiver.url) == ("MALFORMED", ["input", "url"])
        assert shop.refused("Create", url="https://127.0.0.1/") == ("MALFORMED", ["input", "url"])
        webhook_id, _ = shop.create(url=f"https://localhost:{receiver.port}/")
        tested = shop.done("Test", id=webhook_id)
        assert (tested["delivered"], tested["statusCode"]) == (False, None)
        assert tested["error"] == "the name has an address that is not one of the public network"
    assert receiver.messages == []


def test_secret_is_told_once_and_never_logged(shop: Shop, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    """Not in any answer after the one that made it, not in a log, and not in the database as it is."""
    caplog.set_level(logging.DEBUG)
    webhook_id, secret = shop.create()
    rotated = shop.done("SecretRotate", id=webhook_id)["secret"]
    shop.receiver.answers = [500, 410]
    shop.pay(2)
    until(lambda: shop.statuses(webhook_id))
    shop.done("Test", id=webhook_id)
    shown = json.dumps([shop.read(webhook_id), shop.deliveries(webhook_id), shop.done("Update", id=webhook_id)])
    with shop.world.engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT secret, previous_secret FROM webhook").all()
    for each in (secret, rotated):
        text = each.removeprefix("whsec_")
        assert text not in shown
        assert text not in caplog.text
        raw = Webhook(each)._whsecret
        assert all(raw not in bytes(sealed) for row in rows for sealed in row)
