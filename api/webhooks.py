"""Webhooks in GraphQL: what merchants, auditors and the operator say and see of their own.

Every field here is of the account that is signed in; another's webhook is none, whoever asks. The roots of the schema
take their fields from :class:`WebhookQueries` and :class:`WebhookMutations`. Sending is left to
:mod:`api.webhook_delivery`.
"""

import asyncio
import base64
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Annotated, Any, cast

import strawberry
from msgspec import structs
from sqlalchemy.engine import Connection as Snapshot
from strawberry import UNSET

from api.access import require_session
from api.context import Context
from api.errors import ForbiddenError
from api.fields import ApiInfo, Node, argument, field, resolved
from api.ids import MESSAGE_ID, WEBHOOK_ID
from api.paging import After, Before, Connection, First, Last, Window
from api.rejections import OperationRefusedError, UserError, UserErrorCode
from api.scalars import Time, UInt53
from api.sessions import Viewer
from api.webhook_client import MAX_URL, UrlError
from api.webhook_delivery import WEBHOOK_PREFIX, message_id
from api.webhook_events import EVENTS
from api.webhook_secrets import make_secret, secret_text
from ledger import webhooks
from ledger.encoding import format_time, parse_time
from ledger.store import Store, WriteTransaction
from ledger.webhooks import Delivery
from ledger.webhooks import Webhook as StoredWebhook

MAX_WEBHOOKS = 10
"""Webhooks of one account."""

MAX_DESCRIPTION = 256
MAX_OVERLAP_HOURS = 168
_HOUR_MS = 3_600_000
_ROLES = frozenset({"merchant", "auditor", "operator"})


@strawberry.enum(description="What a webhook can be told of. Messages have the type as it is written here in quotes.")
class WebhookEventType(Enum):
    """Types of events, as they are written in messages as values."""

    TRANSFER_SENT = strawberry.enum_value(
        "transfer.sent", description="`transfer.sent`: The account has transferred points."
    )
    TRANSFER_RECEIVED = strawberry.enum_value(
        "transfer.received", description="`transfer.received`: The account has received points by a transfer."
    )
    TRANSFER_RECORDED = strawberry.enum_value(
        "transfer.recorded",
        description="`transfer.recorded`: Others have transferred points of its asset.",
    )
    PURCHASES_RECORDED = strawberry.enum_value(
        "purchases.recorded", description="`purchases.recorded`: Purchases were recorded, with the points they earned."
    )
    POINTS_GRANTED = strawberry.enum_value(
        "points.granted", description="`points.granted`: Points were granted for an activity."
    )
    POINTS_CORRECTED = strawberry.enum_value(
        "points.corrected", description="`points.corrected`: Points were given or taken away by hand."
    )
    POINTS_REDEEMED = strawberry.enum_value("points.redeemed", description="`points.redeemed`: Points were spent.")
    POINTS_EXCHANGED = strawberry.enum_value(
        "points.exchanged", description="`points.exchanged`: Points of one asset became points of another."
    )
    POINTS_REFUNDED = strawberry.enum_value(
        "points.refunded",
        description="`points.refunded`: A purchase, redemption, capture or exchange was undone, or a part of it.",
    )
    POINTS_EXPIRED = strawberry.enum_value(
        "points.expired", description="`points.expired`: Points whose last day has passed were retired."
    )
    POINTS_VESTED = strawberry.enum_value(
        "points.vested", description="`points.vested`: Points of purchases that have vested were issued."
    )
    MEMBER_ENROLLED = strawberry.enum_value(
        "member.enrolled", description="`member.enrolled`: A member joined a program, or changed how it earns."
    )
    TIERS_REVIEWED = strawberry.enum_value(
        "tiers.reviewed", description="`tiers.reviewed`: Members are in other tiers than before, by time alone."
    )
    PLAN_STARTED = strawberry.enum_value("plan.started", description="`plan.started`: A member paid for a plan.")
    PLAN_ENDED = strawberry.enum_value(
        "plan.ended", description="`plan.ended`: A member's plan was ended before its time."
    )
    POOL_FORMED = strawberry.enum_value(
        "pool.formed", description="`pool.formed`: Members can spend each other's points from now on."
    )
    POOL_LEFT = strawberry.enum_value("pool.left", description="`pool.left`: A member left its pool.")
    VOUCHER_USED = strawberry.enum_value("voucher.used", description="`voucher.used`: A voucher was used.")
    MEMBERS_REMINDED = strawberry.enum_value(
        "members.reminded",
        description="`members.reminded`: Members were reminded of their balance, of points that expire, or of a tier.",
    )
    HOLD_PLACED = strawberry.enum_value(
        "hold.placed", description="`hold.placed`: Points were set aside for a merchant."
    )
    HOLD_CAPTURED = strawberry.enum_value("hold.captured", description="`hold.captured`: Points on hold were spent.")
    HOLD_RELEASED = strawberry.enum_value(
        "hold.released", description="`hold.released`: Points on hold were given back."
    )
    AGREEMENT_MADE = strawberry.enum_value(
        "agreement.made", description="`agreement.made`: A version of an agreement between merchants was published."
    )
    AGREEMENT_ENDED = strawberry.enum_value("agreement.ended", description="`agreement.ended`: An agreement was ended.")
    ALLOTMENT_SOLD = strawberry.enum_value(
        "allotment.sold", description="`allotment.sold`: A prepaid partner bought a block of points."
    )
    ALLOTMENT_LOW = strawberry.enum_value(
        "allotment.low", description="`allotment.low`: A prepaid partner has few points left of those it bought."
    )
    CLAIMS_NETTED = strawberry.enum_value(
        "claims.netted", description="`claims.netted`: What merchants owed each other was replaced by fewer payments."
    )
    CLAIM_SETTLED = strawberry.enum_value(
        "claim.settled", description="`claim.settled`: A creditor confirmed that it was paid."
    )
    CLAIM_DISPUTED = strawberry.enum_value("claim.disputed", description="`claim.disputed`: A claim was disputed.")
    DISPUTE_RESOLVED = strawberry.enum_value("dispute.resolved", description="`dispute.resolved`: A dispute has ended.")
    ACCOUNT_OPENED = strawberry.enum_value("account.opened", description="`account.opened`: An account was opened.")
    ASSET_DEFINED = strawberry.enum_value("asset.defined", description="`asset.defined`: An asset was defined.")
    PROGRAM_PUBLISHED = strawberry.enum_value(
        "program.published", description="`program.published`: A version of a program was published."
    )
    ACCOUNT_FROZEN = strawberry.enum_value(
        "account.frozen", description="`account.frozen`: An account was stopped from acting."
    )
    ACCOUNT_UNFROZEN = strawberry.enum_value(
        "account.unfrozen", description="`account.unfrozen`: A frozen account can act again."
    )
    KEYS_REPLACED = strawberry.enum_value("keys.replaced", description="`keys.replaced`: An account has other keys.")
    RECOVERY_STARTED = strawberry.enum_value(
        "recovery.started",
        description="`recovery.started`: An account gets other keys after a delay, unless somebody objects.",
    )
    RECOVERY_CANCELLED = strawberry.enum_value(
        "recovery.cancelled", description="`recovery.cancelled`: A pending recovery was dropped."
    )
    LOG_KEY_REPLACED = strawberry.enum_value(
        "log_key.replaced", description="`log_key.replaced`: The log has another key. Everybody is told."
    )
    LEDGER_FOUNDED = strawberry.enum_value(
        "ledger.founded", description="`ledger.founded`: The ledger was founded: entry 0."
    )


@strawberry.enum(description="Whether a webhook is told anything.")
class WebhookStatus(Enum):
    """Whether a webhook is enabled."""

    ENABLED = strawberry.enum_value("enabled", description="Messages are sent.")
    DISABLED = strawberry.enum_value("disabled", description="Nothing is sent until it is enabled; nothing is lost.")


@strawberry.enum(description="Why a webhook is disabled.")
class WebhookDisabledReason(Enum):
    """Reasons, with the names they have in the database as values."""

    BY_ACCOUNT = strawberry.enum_value("by_account", description="Its account wanted that.")
    GONE = strawberry.enum_value("gone", description="The receiver answered 410.")
    FAILING = strawberry.enum_value("failing", description="It had failed for as long as this server allows.")


@strawberry.enum(description="How far a delivery is.")
class WebhookDeliveryStatus(Enum):
    """States, with the names they have in the database as values."""

    PENDING = strawberry.enum_value("pending", description="It failed, and will be tried again.")
    DELIVERED = strawberry.enum_value("delivered", description="The receiver has taken it.")
    DEAD_LETTERED = strawberry.enum_value("dead", description="Given up after the last attempt; it can be replayed.")


@strawberry.type(
    description=(
        "What became of telling a webhook of an entry. Its id is the `webhook-id` of the message, the same in each "
        "attempt. Kept while it is pending or dead-lettered, and for the newest 1,000 that were delivered."
    )
)
class WebhookDelivery(Node):
    """A delivery."""

    webhook_id: strawberry.ID = field("The webhook.")
    entry_id: strawberry.ID = field("The entry.")
    seq: UInt53 = field("Sequence number of the entry.")
    event_type: WebhookEventType = field("What the entry is to the account.")
    status: WebhookDeliveryStatus = field("How far it is.")
    attempts: int = field("How often it was tried, since it was replayed if it was.")
    last_attempt_at: Time | None = field("When it was tried last; null before the first time.")
    next_attempt_at: Time | None = field("When it is tried next, while it is pending.")
    status_code: int | None = field("The HTTP status of the last answer; null when there was none.")
    error: str | None = field("Why the last attempt counts as none, in words; null when it was delivered.")


def delivery_of(found: Delivery) -> WebhookDelivery:
    """A delivery as clients see it."""
    return WebhookDelivery(
        id=strawberry.ID(message_id(found.webhook, found.seq)),
        webhook_id=strawberry.ID(found.webhook),
        entry_id=strawberry.ID(f"ent_{found.seq}"),
        seq=UInt53(found.seq),
        event_type=cast(WebhookEventType, found.type),
        status=cast(WebhookDeliveryStatus, found.status),
        attempts=found.attempts,
        last_attempt_at=_time(found.last_attempt_at_ms),
        next_attempt_at=_time(found.next_attempt_at_ms),
        status_code=found.status_code,
        error=found.error,
    )


@strawberry.type(
    description=(
        "An address that is told of an account's events: one signed message (Standard Webhooks) for each entry that "
        "concerns the account, at least once, in the order of the entries. One that fails holds back the later ones."
    )
)
class Webhook(Node):
    """A webhook."""

    account_id: strawberry.ID = field("Whose it is.")
    url: str = field("Where messages are sent to.")
    event_types: list[WebhookEventType] | None = field(
        "What it is told of; null for everything, also what is new in a later version."
    )
    description: str | None = field("What its account says of it.")
    created_at: Time = field("When it was made.")
    status: WebhookStatus = field("Whether it is told anything.")
    disabled_at: Time | None = field("Since when it is disabled; null when it is enabled.")
    disabled_reason: WebhookDisabledReason | None = field("Why it is disabled; null when it is enabled.")
    failing_since: Time | None = field("The first failure after the last success; null when the last was one.")
    previous_secret_until: Time | None = field("Until when the secret before this one signs too; null if none.")
    next_seq: UInt53 = field("Entries before this one are settled, except for deliveries that are pending.")

    @resolved("What became of its deliveries, the newest entry first.")
    async def deliveries(
        self,
        info: ApiInfo,
        *,
        status: Annotated[WebhookDeliveryStatus | None, argument("Only deliveries that are so far.")] = None,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> Connection[WebhookDelivery]:
        """A page of deliveries."""
        wanted = cast("str | None", status.value if status is not None else None)
        names = [self.id, wanted]
        window = Window("webhookDeliveries", names, (int,), first=first, after=after, last=last, before=before)
        found = await info.context.read(webhooks.deliveries_page, str(self.id), cast(Any, wanted), window.page)
        return window.connection([each.seq for each in found], [delivery_of(each) for each in found])


def webhook_of(found: StoredWebhook, now_ms: int) -> Webhook:
    """A webhook as its account sees it, without its secret."""
    overlaps = found.previous_secret is not None and now_ms < (found.previous_until_ms or 0)
    return Webhook(
        id=strawberry.ID(found.webhook),
        account_id=strawberry.ID(found.account),
        url=found.url,
        event_types=cast(Any, list(found.event_types)) if found.event_types is not None else None,
        description=found.description,
        created_at=Time(format_time(found.created_at_ms)),
        status=cast(WebhookStatus, "enabled" if found.is_enabled else "disabled"),
        disabled_at=_time(found.disabled_at_ms),
        disabled_reason=cast("WebhookDisabledReason | None", found.disabled_reason),
        failing_since=_time(found.failing_since_ms),
        previous_secret_until=_time(found.previous_until_ms) if overlaps else None,
        next_seq=UInt53(found.next_seq),
    )


def _time(ms: int | None) -> Time | None:
    return Time(format_time(ms)) if ms is not None else None


# Inputs and payloads


@strawberry.input(description="A webhook to be made.")
class WebhookCreateInput:
    """A new webhook."""

    url: str = strawberry.field(
        description=f"Where to send messages: an https address of the public network, of at most {MAX_URL} characters."
    )
    event_types: list[WebhookEventType] | None = strawberry.field(
        description="What it is told of; everything when left out.", default=None
    )
    description: str | None = strawberry.field(
        description=f"For people, at most {MAX_DESCRIPTION} characters.", default=None
    )
    from_seq: UInt53 | None = strawberry.field(
        description="The first entry it is told of; the next one to be recorded when left out.", default=None
    )


@strawberry.input(description="What changes of a webhook; what is left out stays.")
class WebhookUpdateInput:
    """Changes of a webhook."""

    id: strawberry.ID = strawberry.field(description="The webhook.")
    url: str | None = strawberry.field(description="Where to send messages from now on.", default=UNSET)
    event_types: list[WebhookEventType] | None = strawberry.field(
        description="What it is told of from now on; null for everything.", default=UNSET
    )
    description: str | None = strawberry.field(description="For people; null for none.", default=UNSET)
    enabled: bool | None = strawberry.field(
        description="Whether messages are sent. Enabled, it goes on where it was, at once.", default=UNSET
    )


@strawberry.input(description="A webhook to be deleted.")
class WebhookDeleteInput:
    """An end of a webhook."""

    id: strawberry.ID = strawberry.field(description="The webhook.")


@strawberry.input(description="A webhook whose secret is replaced.")
class WebhookSecretRotateInput:
    """A rotation of a secret."""

    id: strawberry.ID = strawberry.field(description="The webhook.")
    overlap_hours: int = strawberry.field(
        description=(
            f"How long the secret of now signs beside the new one, 0 to {MAX_OVERLAP_HOURS}; 0 when it is in other "
            "hands."
        ),
        default=24,
    )


@strawberry.input(description="What is sent again: exactly one of these.", one_of=True)
class WebhookReplayBy:
    """What to replay."""

    from_seq: UInt53 | None = strawberry.field(
        description="Everything from the entry with this sequence number on.", default=UNSET
    )
    dead_lettered: bool | None = strawberry.field(
        description="Everything that is dead-lettered; can only be true.", default=UNSET
    )
    delivery: strawberry.ID | None = strawberry.field(
        description="One delivery, also one that is waiting for its next attempt.", default=UNSET
    )


@strawberry.input(description="Messages to be sent again.")
class WebhookReplayInput:
    """A replay."""

    id: strawberry.ID = strawberry.field(description="The webhook.")
    by: WebhookReplayBy = strawberry.field(description="What is sent again.")


@strawberry.input(description="A webhook to be tested.")
class WebhookTestInput:
    """A test."""

    id: strawberry.ID = strawberry.field(description="The webhook, which may be disabled.")


_ERRORS = "Why not; empty when it is done."
_SECRET = "The secret, `whsec_…`, told this once: messages are verified with it."  # noqa: S105


@strawberry.type(description="A new webhook, or the reasons why there is none.")
class WebhookCreatePayload:
    """The answer to ``webhookCreate``."""

    webhook: Webhook | None = field("The webhook.")
    secret: str | None = field(_SECRET)
    user_errors: list[UserError] = field(_ERRORS)


@strawberry.type(description="A changed webhook, or the reasons why it is not.")
class WebhookUpdatePayload:
    """The answer to ``webhookUpdate``."""

    webhook: Webhook | None = field("The webhook as it is now.")
    user_errors: list[UserError] = field(_ERRORS)


@strawberry.type(description="That a webhook is deleted, or the reasons why it is not.")
class WebhookDeletePayload:
    """The answer to ``webhookDelete``."""

    deleted_id: strawberry.ID | None = field("The webhook that was. A message under way may still arrive.")
    user_errors: list[UserError] = field(_ERRORS)


@strawberry.type(description="A new secret, or the reasons why there is none.")
class WebhookSecretRotatePayload:
    """The answer to ``webhookSecretRotate``."""

    webhook: Webhook | None = field("The webhook as it is now.")
    secret: str | None = field(_SECRET)
    user_errors: list[UserError] = field(_ERRORS)


@strawberry.type(description="That messages are sent again, or the reasons why they are not.")
class WebhookReplayPayload:
    """The answer to ``webhookReplay``."""

    webhook: Webhook | None = field("The webhook as it is now.")
    user_errors: list[UserError] = field(_ERRORS)


@strawberry.type(description="What the receiver made of a test, or the reasons why there was none.")
class WebhookTestPayload:
    """The answer to ``webhookTest``."""

    message_id: strawberry.ID | None = field("The `webhook-id` of the message; null when there was none.")
    delivered: bool = field("Whether the receiver has taken it.")
    status_code: int | None = field("The HTTP status of its answer; null when there was none.")
    error: str | None = field("Why it was not delivered, in words; null when it was.")
    user_errors: list[UserError] = field("Why nothing was sent; empty when it was.")


# What is done


class _RefusedError(Exception):
    """Why something is not done, for whoever asked."""

    def __init__(self, code: str, message: str, *path: str, retryable: bool = False) -> None:
        super().__init__(message)
        self.user_errors: list[UserError] = [
            OperationRefusedError(
                code=cast(UserErrorCode, code), message=message, path=["input", *path], retryable=retryable
            )
        ]


def _owner(context: Context) -> Viewer:
    """Who asks, if they may have webhooks; raise what a request is refused with otherwise."""
    viewer = require_session(context.viewer)
    if viewer.role not in _ROLES:
        raise ForbiddenError("webhooks are for merchants, auditors and the operator")
    return viewer


def _unknown() -> _RefusedError:
    return _RefusedError("UNKNOWN_WEBHOOK", "this account has no such webhook", "id")


def own_webhook(store: Store, connection: Snapshot, viewer: Viewer, webhook_id: str) -> StoredWebhook | None:
    """The webhook with an id, if it is the viewer's."""
    if not WEBHOOK_ID.fullmatch(webhook_id):
        return None
    found = webhooks.webhook(store, connection, webhook_id)
    return found if found is not None and found.account == viewer.account else None


def own_delivery(store: Store, connection: Snapshot, viewer: Viewer, webhook_id: str, seq: int) -> Delivery | None:
    """A delivery of one of the viewer's webhooks."""
    if own_webhook(store, connection, viewer, webhook_id) is None:
        return None
    return webhooks.delivery(store, connection, webhook_id, seq)


def webhook_node(store: Store, connection: Snapshot, viewer: Viewer, node_id: str) -> Webhook | WebhookDelivery | None:
    """The viewer's webhook or delivery with an id."""
    if match := MESSAGE_ID.fullmatch(node_id):
        delivery = own_delivery(store, connection, viewer, WEBHOOK_PREFIX + match[1], int(match[2]))
        return delivery_of(delivery) if delivery is not None else None
    found = own_webhook(store, connection, viewer, node_id)
    return webhook_of(found, parse_time(viewer.time)) if found is not None else None


def _locked(transaction: WriteTransaction, viewer: Viewer, webhook_id: str) -> StoredWebhook:
    found = webhooks.locked_webhook(transaction, webhook_id) if WEBHOOK_ID.fullmatch(webhook_id) else None
    if found is None or found.account != viewer.account:
        raise _unknown()
    return found


def _changed(transaction: WriteTransaction, read: StoredWebhook, **changes: Any) -> StoredWebhook:
    """A locked webhook after a change."""
    changed = webhooks.change_webhook(transaction, read, **changes)
    assert changed
    found = webhooks.webhook(transaction.store, transaction.connection, read.webhook)
    assert found is not None
    return found


def _checked_url(context: Context, url: str) -> str:
    try:
        context.service.webhooks.client.check(url)
    except UrlError as error:
        raise _RefusedError("MALFORMED", str(error), "url") from error
    return url


def _checked_types(given: Sequence[Any] | None) -> tuple[str, ...] | None:
    if given is None:
        return None
    if not given:
        raise _RefusedError("MALFORMED", "name at least one type, or none for all of them", "eventTypes")
    wanted = {each.value for each in given}
    return tuple(event_type for event_type in EVENTS if event_type in wanted)


def _checked_description(text: str | None) -> str | None:
    if text is not None and (len(text) > MAX_DESCRIPTION or not text.isprintable()):
        message = f"a description has at most {MAX_DESCRIPTION} characters and no line breaks or other controls"
        raise _RefusedError("MALFORMED", message, "description")
    return text


def _create(transaction: WriteTransaction, new: StoredWebhook, from_seq: int | None) -> StoredWebhook:
    store = transaction.store
    if webhooks.count_locked(transaction, new.account) >= MAX_WEBHOOKS:
        raise _RefusedError("TOO_MANY_WEBHOOKS", f"an account has at most {MAX_WEBHOOKS} webhooks: delete one")
    size = store.head(transaction.connection).size
    if from_seq is not None and from_seq > size:
        raise _RefusedError("MALFORMED", f"the ledger has {size} entries", "fromSeq")
    new = structs.replace(new, next_seq=size if from_seq is None else from_seq)
    webhooks.insert_webhook(transaction, new)
    return new


def _update(
    transaction: WriteTransaction, viewer: Viewer, webhook_id: str, changes: dict[str, Any], now_ms: int
) -> StoredWebhook:
    read = _locked(transaction, viewer, webhook_id)
    enabled = changes.pop("enabled", read.is_enabled)
    if enabled:
        changes |= {"disabled_at_ms": None, "disabled_reason": None}
        if not read.is_enabled:
            changes["failing_since_ms"] = None
    elif read.is_enabled:
        changes |= {"disabled_at_ms": now_ms, "disabled_reason": "by_account"}
    if "url" in changes or (enabled and not read.is_enabled):
        webhooks.try_again(transaction, webhook_id, now_ms, status="pending")
    return _changed(transaction, read, **changes)


def _delete(transaction: WriteTransaction, viewer: Viewer, webhook_id: str) -> None:
    webhooks.delete_webhook(transaction, _locked(transaction, viewer, webhook_id).webhook)


def _rotate(
    transaction: WriteTransaction, viewer: Viewer, webhook_id: str, sealed: bytes, until_ms: int | None
) -> StoredWebhook:
    read = _locked(transaction, viewer, webhook_id)
    previous = read.secret if until_ms is not None else None
    return _changed(transaction, read, secret=sealed, previous_secret=previous, previous_until_ms=until_ms)


def _replay(
    transaction: WriteTransaction, viewer: Viewer, webhook_id: str, by: WebhookReplayBy, now_ms: int
) -> StoredWebhook:
    read = _locked(transaction, viewer, webhook_id)
    if by.from_seq is not UNSET and by.from_seq is not None:
        first_seq = by.from_seq
        if first_seq > read.next_seq:
            message = f"entries from {read.next_seq} on are still to be told of"
            raise _RefusedError("MALFORMED", message, "by", "fromSeq")
        webhooks.forget_from(transaction, webhook_id, first_seq)
        return _changed(transaction, read, next_seq=first_seq)
    if by.dead_lettered is True:
        webhooks.try_again(transaction, webhook_id, now_ms, status="dead")
    elif by.dead_lettered is not UNSET:
        raise _RefusedError("MALFORMED", "deadLettered can only be true", "by", "deadLettered")
    else:
        match = MESSAGE_ID.fullmatch(str(by.delivery))
        known = match is not None and WEBHOOK_PREFIX + match[1] == webhook_id
        if match is None or not known or not webhooks.try_again(transaction, webhook_id, now_ms, seq=int(match[2])):
            raise _RefusedError("UNKNOWN_DELIVERY", "this webhook has no such delivery", "by", "delivery")
    return _changed(transaction, read)


def new_id(random_bytes: Callable[[int], bytes]) -> str:
    """The random part of an id: 16 bytes in base32."""
    return base64.b32encode(random_bytes(16)).decode().lower().rstrip("=")


# The fields of the schema's roots


@strawberry.type
class WebhookQueries:
    """Queries about webhooks."""

    @resolved("The webhook of this session's account with an id; null when there is none.")
    async def webhook(self, info: ApiInfo, id: Annotated[strawberry.ID, argument("Its id.")]) -> Webhook | None:
        """One webhook."""
        viewer = _owner(info.context)
        found = await info.context.read(own_webhook, viewer, id)
        return webhook_of(found, info.context.service.clock()) if found is not None else None

    @resolved(
        "The webhooks of this session's account, in the order they were made. FORBIDDEN for all but merchants, "
        "auditors and the operator."
    )
    async def webhooks(
        self, info: ApiInfo, first: First = None, after: After = None, last: Last = None, before: Before = None
    ) -> Connection[Webhook]:
        """A page of webhooks."""
        viewer = _owner(info.context)
        names = [viewer.account]
        window = Window("webhooks", names, (int, str), first=first, after=after, last=last, before=before)
        found = await info.context.read(webhooks.webhooks_page, viewer.account, window.page)
        now_ms = info.context.service.clock()
        return window.connection(
            [(each.created_at_ms, each.webhook) for each in found], [webhook_of(each, now_ms) for each in found]
        )


@strawberry.type
class WebhookMutations:
    """Mutations of webhooks. Their authority is the session, since they change nothing of the ledger."""

    @resolved(
        "Has an address told of this account's events. The secret is in this answer alone: when the answer was lost, "
        "find the webhook among `webhooks`, and delete it or rotate its secret."
    )
    async def webhook_create(
        self, info: ApiInfo, input: Annotated[WebhookCreateInput, argument("The webhook.")]
    ) -> WebhookCreatePayload:
        """Make a webhook."""
        context, service = info.context, info.context.service
        viewer = _owner(context)
        try:
            webhook_id = WEBHOOK_PREFIX + new_id(service.random_bytes)
            secret = make_secret(service.random_bytes)
            new = StoredWebhook(
                webhook=webhook_id,
                account=viewer.account,
                url=_checked_url(context, input.url),
                event_types=_checked_types(input.event_types),
                description=_checked_description(input.description),
                created_at_ms=service.clock(),
                secret=service.webhooks.box.seal(webhook_id, secret),
                next_seq=0,
            )
            made = await context.write(_create, new, input.from_seq)
        except _RefusedError as refused:
            return WebhookCreatePayload(webhook=None, secret=None, user_errors=refused.user_errors)
        shown = webhook_of(made, service.clock())
        return WebhookCreatePayload(webhook=shown, secret=secret_text(secret), user_errors=[])

    @resolved("Changes a webhook.")
    async def webhook_update(
        self, info: ApiInfo, input: Annotated[WebhookUpdateInput, argument("The changes.")]
    ) -> WebhookUpdatePayload:
        """Change a webhook."""
        context, now_ms = info.context, info.context.service.clock()
        viewer = _owner(context)
        try:
            changes: dict[str, Any] = {}
            if input.url is not UNSET and input.url is not None:
                changes["url"] = _checked_url(context, input.url)
            if input.event_types is not UNSET:
                changes["event_types"] = _checked_types(input.event_types)
            if input.description is not UNSET:
                changes["description"] = _checked_description(input.description)
            if input.enabled is not UNSET and input.enabled is not None:
                changes["enabled"] = input.enabled
            changed = await context.write(_update, viewer, input.id, changes, now_ms)
        except _RefusedError as refused:
            return WebhookUpdatePayload(webhook=None, user_errors=refused.user_errors)
        return WebhookUpdatePayload(webhook=webhook_of(changed, now_ms), user_errors=[])

    @resolved("Deletes a webhook and what is known of its deliveries.")
    async def webhook_delete(
        self, info: ApiInfo, input: Annotated[WebhookDeleteInput, argument("The webhook.")]
    ) -> WebhookDeletePayload:
        """Delete a webhook."""
        viewer = _owner(info.context)
        try:
            await info.context.write(_delete, viewer, input.id)
        except _RefusedError as refused:
            return WebhookDeletePayload(deleted_id=None, user_errors=refused.user_errors)
        return WebhookDeletePayload(deleted_id=input.id, user_errors=[])

    @resolved("Gives a webhook another secret. For a while messages have a signature by each.")
    async def webhook_secret_rotate(
        self, info: ApiInfo, input: Annotated[WebhookSecretRotateInput, argument("The webhook.")]
    ) -> WebhookSecretRotatePayload:
        """Replace a secret."""
        context, service = info.context, info.context.service
        viewer = _owner(context)
        try:
            if not 0 <= input.overlap_hours <= MAX_OVERLAP_HOURS:
                raise _RefusedError("MALFORMED", f"0 to {MAX_OVERLAP_HOURS} hours", "overlapHours")
            now_ms, secret = service.clock(), make_secret(service.random_bytes)
            until_ms = now_ms + input.overlap_hours * _HOUR_MS if input.overlap_hours else None
            sealed = service.webhooks.box.seal(input.id, secret)
            changed = await context.write(_rotate, viewer, input.id, sealed, until_ms)
        except _RefusedError as refused:
            return WebhookSecretRotatePayload(webhook=None, secret=None, user_errors=refused.user_errors)
        shown = webhook_of(changed, now_ms)
        return WebhookSecretRotatePayload(webhook=shown, secret=secret_text(secret), user_errors=[])

    @resolved(
        "Sends messages again, with the ids they had, before anything newer: receivers that know an id ignore it."
    )
    async def webhook_replay(
        self, info: ApiInfo, input: Annotated[WebhookReplayInput, argument("What to send again.")]
    ) -> WebhookReplayPayload:
        """Replay messages."""
        context, now_ms = info.context, info.context.service.clock()
        viewer = _owner(context)
        try:
            changed = await context.write(_replay, viewer, input.id, input.by, now_ms)
        except _RefusedError as refused:
            return WebhookReplayPayload(webhook=None, user_errors=refused.user_errors)
        return WebhookReplayPayload(webhook=webhook_of(changed, now_ms), user_errors=[])

    @resolved("Sends a message of the type `webhook.test` now, once, and tells what the receiver made of it.")
    async def webhook_test(
        self, info: ApiInfo, input: Annotated[WebhookTestInput, argument("The webhook.")]
    ) -> WebhookTestPayload:
        """Test a webhook."""
        context, service = info.context, info.context.service
        viewer = _owner(context)
        try:
            found = await context.read(own_webhook, viewer, input.id)
            if found is None:
                raise _unknown()
            test_id = f"msg_{new_id(service.random_bytes)}"
            under_way = service.webhooks.begin_test(found, test_id)
            if under_way is None:
                raise _RefusedError("OVERLOADED", "too many tests are under way: try again", retryable=True)
            answer = await asyncio.wrap_future(under_way)
        except _RefusedError as refused:
            errors = refused.user_errors
            return WebhookTestPayload(
                message_id=None, delivered=False, status_code=None, error=None, user_errors=errors
            )
        return WebhookTestPayload(
            message_id=strawberry.ID(test_id),
            delivered=answer.is_delivered,
            status_code=answer.status_code,
            error=answer.error,
            user_errors=[],
        )
