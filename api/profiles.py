"""Profiles in GraphQL: what a member, or a merchant that has its account in custody, keeps of a person.

Their authority is the session, as that of webhooks, since nothing of it is in the ledger. A profile is its member's
and, while the account is in custody, its custodian's, who is a merchant; to everybody else, auditors and the operator
too, there is none. Finding a member by an identifier is a merchant's, and finds whom it has in custody, or who has or
had points of its assets: whatever else there is, the answer is null.

What names a person is not taken by GET, since URLs are logged. The roots of the schema take their fields from
:class:`ProfileQueries` and :class:`ProfileMutations`.
"""

import asyncio
from datetime import UTC, date, datetime
from enum import Enum
from typing import Annotated, Any, cast

import strawberry
from msgspec import Struct, structs
from sqlalchemy.engine import Connection as Snapshot
from strawberry import UNSET

from api.access import require_session
from api.context import Context
from api.errors import BadInputError, ForbiddenError
from api.fields import ApiInfo, argument, field, resolved
from api.ids import ACCOUNT_ID, IDENTIFIER_ID, require_account_id
from api.rejections import OperationRefusedError, UserError, UserErrorCode
from api.scalars import Date, Time, UInt53
from api.sessions import Viewer
from ledger import profiles, queries
from ledger.encoding import format_time
from ledger.personal_data import (
    IdentifierKind,
    PersonalDataError,
    Profile,
    normal_identifier,
    normal_profile,
)
from ledger.personal_data import PostalAddress as StoredAddress
from ledger.profiles import (
    MAX_IDENTIFIERS,
    ChangedError,
    Found,
    Identifier,
    Member,
    Profiles,
    TakenError,
    TooManyError,
    lock_account,
    remove_identifier,
)
from ledger.store import Store, WriteTransaction

_DAY_S = 86_400


@strawberry.enum(description="What kind of thing a member is found by.")
class MemberIdentifierKind(Enum):
    """Kinds, with the names they have in the database as values."""

    CARD = strawberry.enum_value("card", description="A card's number: 4 to 32 digits, however they are grouped.")
    PHONE = strawberry.enum_value("phone", description="A phone number with the country's code, kept in E.164.")
    EMAIL = strawberry.enum_value(
        "email", description="An e-mail address; the case of its domain makes no difference, that before the @ does."
    )
    EXTERNAL = strawberry.enum_value(
        "external", description="A number or name of the merchant's own systems, at most 64 characters."
    )


@strawberry.enum(description="Who has said that an identifier is a member's.")
class IdentifierAddedBy(Enum):
    """Who adds identifiers, with the names they have in the database as values."""

    MEMBER = strawberry.enum_value("member", description="The member: a till that has to be sure asks for a proof.")
    MERCHANT = strawberry.enum_value("merchant", description="The merchant, while it had the account in custody.")


@strawberry.type(description="Where post is sent to.")
class PostalAddress:
    """An address."""

    lines: list[str] = field("Street, house and what else.")
    postal_code: str | None = field("The postal code.")
    city: str | None = field("The town.")
    region: str | None = field("The region, where post needs it.")
    country: str | None = field("The country: two letters of ISO 3166-1.")


@strawberry.type(description="What a merchant finds a member by.")
class MemberIdentifier:
    """An identifier, told to whoever may read the profile."""

    id: strawberry.ID = field("Names it: `idf_…`.")
    merchant_id: strawberry.ID = field("The merchant that finds the member by it; no other does.")
    kind: MemberIdentifierKind = field("What it is.")
    value: str = field("The whole of it, in its normal form.")
    last_characters: str = field("The end of it, to be shown in its place.")
    added_by: IdentifierAddedBy = field("Who has said so.")
    added_at: Time = field("When.")


@strawberry.type(
    name="Profile",
    description=(
        "What is kept of a member beside the ledger, encrypted with a key of the member's own. Only the member and, "
        "while the account is in custody, the custodian read it. All is null after an erasure."
    ),
)
class MemberProfile:
    """A profile."""

    account_id: strawberry.ID = field("Whose it is.")
    name: str | None = field("How the member is addressed.")
    email: str | None = field("An e-mail address, its domain in lower case.")
    phone: str | None = field("A phone number in E.164.")
    birthday: Date | None = field("The day of birth.")
    language: str | None = field("The language to write in: a tag of BCP 47.")
    time_zone: str | None = field("Where the member's days begin and end: a name of the IANA's.")
    address: PostalAddress | None = field("A postal address.")
    revision: UInt53 = field("How often it was changed; 0 when there is nothing, or only identifiers.")
    updated_at: Time | None = field("When it was changed last; null when there is nothing.")
    erased_at: Time | None = field("When everything of the member was erased last; null if it never was.")
    identifiers: list[MemberIdentifier] = field("What merchants find the member by, at all of them, the oldest first.")


@strawberry.type(description="Whom an identifier names at a merchant.")
class IdentifiedAccount:
    """A member that was found."""

    account_id: strawberry.ID = field("The member.")
    added_by: IdentifierAddedBy = field("Who has said that it is the member's.")
    added_at: Time = field("When.")


def profile_of(found: Member) -> MemberProfile:
    """A profile as clients see it."""
    kept, address = found.profile, found.profile.address
    return MemberProfile(
        account_id=strawberry.ID(found.account),
        name=kept.name,
        email=kept.email,
        phone=kept.phone,
        birthday=None if kept.birthday is None else Date(kept.birthday),
        language=kept.language,
        time_zone=kept.time_zone,
        address=None if address is None else _address_of(address),
        revision=UInt53(found.revision),
        updated_at=_time(found.updated_at_ms),
        erased_at=_time(found.erased_at_ms),
        identifiers=[identifier_of(each) for each in found.identifiers],
    )


def _address_of(kept: StoredAddress) -> PostalAddress:
    return PostalAddress(**structs.asdict(kept) | {"lines": list(kept.lines)})


def identifier_of(found: Identifier) -> MemberIdentifier:
    """An identifier as clients see it."""
    return MemberIdentifier(
        id=strawberry.ID(found.identifier),
        merchant_id=strawberry.ID(found.merchant),
        kind=cast(MemberIdentifierKind, found.kind),
        value=found.value,
        last_characters=found.last_characters,
        added_by=cast(IdentifierAddedBy, found.added_by),
        added_at=Time(format_time(found.added_at_ms)),
    )


def _time(ms: int | None) -> Time | None:
    return Time(format_time(ms)) if ms is not None else None


# Inputs and payloads

_ACCOUNT = "Whose; the session's own when left out. A merchant names an account that it has in custody."


@strawberry.input(description="A postal address, in place of the one before.")
class PostalAddressInput:
    """An address."""

    lines: list[str] = strawberry.field(description="Street, house and what else; at most 5 lines.")
    postal_code: str | None = strawberry.field(description="The postal code.", default=None)
    city: str | None = strawberry.field(description="The town.", default=None)
    region: str | None = strawberry.field(description="The region, where post needs it.", default=None)
    country: str | None = strawberry.field(description="Two letters of ISO 3166-1: `DE`.", default=None)


@strawberry.input(description="What changes of a profile; what is left out stays, null deletes.")
class ProfileUpdateInput:
    """Changes of a profile, made if there is none."""

    account: strawberry.ID | None = strawberry.field(description=_ACCOUNT, default=None)
    expected_revision: UInt53 | None = strawberry.field(
        description="Change nothing unless it is at this revision; at whatever it is when left out.", default=None
    )
    name: str | None = strawberry.field(description="How the member is addressed.", default=UNSET)
    email: str | None = strawberry.field(description="An e-mail address.", default=UNSET)
    phone: str | None = strawberry.field(
        description="A phone number with the country's code: `+49 30 1234567`.", default=UNSET
    )
    birthday: Date | None = strawberry.field(description="The day of birth.", default=UNSET)
    language: str | None = strawberry.field(description="A tag of BCP 47: `de-CH`.", default=UNSET)
    time_zone: str | None = strawberry.field(description="A name of the IANA's: `Europe/Zurich`.", default=UNSET)
    address: PostalAddressInput | None = strawberry.field(description="A postal address.", default=UNSET)


@strawberry.input(description="Whose profile is erased.")
class ProfileEraseInput:
    """An erasure."""

    account: strawberry.ID | None = strawberry.field(description=_ACCOUNT, default=None)


@strawberry.input(description="What a merchant is to find a member by.")
class IdentifierAddInput:
    """A new identifier."""

    kind: MemberIdentifierKind = strawberry.field(description="What it is.")
    value: str = strawberry.field(description="The identifier, as people write it.")
    account: strawberry.ID | None = strawberry.field(description=_ACCOUNT, default=None)
    merchant: strawberry.ID | None = strawberry.field(
        description=(
            "The merchant: a member names its custodian, or one whose points it has or had. A merchant leaves it out."
        ),
        default=None,
    )


@strawberry.input(description="Which identifier is removed.")
class IdentifierRemoveInput:
    """An end of an identifier."""

    id: strawberry.ID = strawberry.field(description="The identifier, `idf_…`.")


_ERRORS = "Why not; empty when it is done."


@strawberry.type(description="A changed profile, or the reasons why it is not.")
class ProfileUpdatePayload:
    """The answer to ``profileUpdate``."""

    profile: MemberProfile | None = field("The profile as it is now.")
    user_errors: list[UserError] = field(_ERRORS)


@strawberry.type(description="That a profile is erased, or the reasons why it is not.")
class ProfileErasePayload:
    """The answer to ``profileErase``."""

    erased_at: Time | None = field("When it was; that is all that is kept.")
    user_errors: list[UserError] = field(_ERRORS)


@strawberry.type(description="An identifier, or the reasons why there is none.")
class IdentifierAddPayload:
    """The answer to ``identifierAdd``."""

    identifier: MemberIdentifier | None = field("The identifier; one that was there already is as it was.")
    user_errors: list[UserError] = field(_ERRORS)


@strawberry.type(description="That an identifier is removed, or the reasons why it is not.")
class IdentifierRemovePayload:
    """The answer to ``identifierRemove``."""

    removed_id: strawberry.ID | None = field("The identifier that was.")
    user_errors: list[UserError] = field(_ERRORS)


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


class _Request(Struct, frozen=True, kw_only=True):
    """Who wants to change what is kept of an account, and when."""

    kept: Profiles
    viewer: Viewer
    account: str
    now_ms: int


def _kept(context: Context) -> Profiles:
    """The profiles of this server; raise what a request is refused with where it keeps none."""
    found = context.service.profiles
    if found is None:
        raise ForbiddenError("this server keeps no profiles: its operator has to give it GUERDON_PROFILE_KEY_FILE")
    return found


def _keeper(context: Context) -> Viewer:
    """Who asks, if they may keep profiles at all; raise what a request is refused with otherwise."""
    viewer = require_session(context.viewer)
    if viewer.role not in {"member", "merchant"}:
        raise ForbiddenError("profiles are for members, and for merchants that have their accounts in custody")
    return viewer


def _request(context: Context, account: str | None) -> _Request:
    """What a mutation is about; the session's own account when none is named."""
    viewer, kept = _keeper(context), _kept(context)
    return _Request(kept=kept, viewer=viewer, account=account or viewer.account, now_ms=context.service.clock())


def _not_permitted() -> _RefusedError:
    # The same for an account that is not there: it tells nobody who exists.
    return _RefusedError("NOT_PERMITTED", "this session may not change what is kept of this account", "account")


def _keeps(store: Store, connection: Snapshot, viewer: Viewer, account: str) -> bool:
    """Whether a viewer is the member, or the merchant that has the account in custody."""
    if viewer.role == "member":
        return viewer.account == account
    if viewer.role != "merchant" or not ACCOUNT_ID.fullmatch(account):
        return False
    return bool(queries.in_custody(store, connection, viewer.account, [account], viewer.time))


def _read(store: Store, connection: Snapshot, kept: Profiles, viewer: Viewer, account: str) -> Member | None:
    """What is kept of a member, if the viewer may read it and there is, or was, anything."""
    if not _keeps(store, connection, viewer, account):
        return None
    found = kept.member(store, connection, account)
    return found if found.updated_at_ms is not None or found.erased_at_ms is not None else None


def _find(
    store: Store, connection: Snapshot, kept: Profiles, viewer: Viewer, named: tuple[IdentifierKind, str]
) -> Found | None:
    """Whom an identifier names at the viewer, if it is one of its members."""
    found = kept.find(store, connection, viewer.account, *named)
    if found is None or not _is_member_of(store, connection, viewer.account, found.account, viewer.time):
        return None
    return found


def _is_member_of(store: Store, connection: Snapshot, merchant: str, account: str, time: str) -> bool:
    """Whether a merchant has an account in custody, or the account has or had points of its assets."""
    if queries.in_custody(store, connection, merchant, [account], time):
        return True
    issued = [asset.code for asset in queries.assets(store, connection, issuer=merchant)]
    return bool(issued) and queries.holds_any(store, connection, account, issued)


def _lock(transaction: WriteTransaction, request: _Request) -> None:
    """Hold an account that the viewer may change what is kept of; a claim from custody comes before or after."""
    if not ACCOUNT_ID.fullmatch(request.account):
        raise _not_permitted()
    lock_account(transaction, request.account)
    if not _keeps(transaction.store, transaction.connection, request.viewer, request.account):
        raise _not_permitted()


def _update(
    transaction: WriteTransaction, request: _Request, changes: dict[str, Any], expected_revision: int | None
) -> Member:
    def change(profile: Profile) -> Profile:
        return normal_profile(structs.replace(profile, **changes), _latest_day(request.now_ms))

    _lock(transaction, request)
    try:
        return request.kept.update(transaction, request.account, change, request.now_ms, expected_revision)
    except ChangedError as error:
        message = f"it is at revision {error.revision}: read it again"
        raise _RefusedError("PROFILE_CHANGED", message, "expectedRevision") from None
    except PersonalDataError as error:
        raise _malformed(error) from None


def _latest_day(now_ms: int) -> date:
    """Today where the day begins first."""
    return datetime.fromtimestamp(now_ms // 1000 + _DAY_S, UTC).date()


def _malformed(error: PersonalDataError) -> _RefusedError:
    return _RefusedError("MALFORMED", str(error), *(_camel(name) for name in error.path))


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _erase(store: Store, request: _Request) -> None:
    with store.write() as transaction:
        _lock(transaction, request)
        request.kept.erase(transaction, request.account, request.now_ms)
    profiles.scrub(store)


def _add(
    transaction: WriteTransaction, request: _Request, merchant: str, kind: IdentifierKind, value: str
) -> Identifier:
    _lock(transaction, request)
    viewer, account = request.viewer, request.account
    is_own = viewer.role == "merchant"
    if is_own and merchant != viewer.account:
        raise _RefusedError("NOT_PERMITTED", "a merchant adds what it finds members by itself", "merchant")
    if not is_own and not _is_member_of(transaction.store, transaction.connection, merchant, account, viewer.time):
        message = "the merchant is neither the account's custodian, nor does it issue points that the account has had"
        raise _RefusedError("NOT_PERMITTED", message, "merchant")
    added: dict[str, Any] = {"added_by": "merchant" if is_own else "member", "now_ms": request.now_ms}
    try:
        return request.kept.add_identifier(transaction, account, (merchant, kind, value), **added)
    except TakenError:
        message = "at this merchant it is another account's: ask the merchant to look into it"
        raise _RefusedError("IDENTIFIER_TAKEN", message, "value") from None
    except TooManyError:
        message = f"an account has at most {MAX_IDENTIFIERS} identifiers: remove one"
        raise _RefusedError("TOO_MANY_IDENTIFIERS", message) from None


def _remove(transaction: WriteTransaction, viewer: Viewer, identifier: str) -> None:
    removed = None
    if IDENTIFIER_ID.fullmatch(identifier):
        whose = {"account": viewer.account} if viewer.role == "member" else {"merchant": viewer.account}
        removed = remove_identifier(transaction, identifier, **whose)
    if removed is None:
        raise _RefusedError("UNKNOWN_IDENTIFIER", "there is no such identifier of this member or merchant", "id")


def _changes_of(given: ProfileUpdateInput) -> dict[str, Any]:
    """What an input says of a profile, in the words of the ledger."""
    changes = {name: value for name in Profile.__struct_fields__ if (value := getattr(given, name)) is not UNSET}
    if isinstance(address := changes.get("address"), PostalAddressInput):
        fields = {name: getattr(address, name) for name in StoredAddress.__struct_fields__}
        changes["address"] = StoredAddress(**fields | {"lines": tuple(address.lines)})
    return changes


# The fields of the schema's roots


@strawberry.type
class ProfileQueries:
    """Queries about people."""

    @resolved(
        "What is kept of a member, told to the member and to the merchant that has its account in custody. Null for "
        "everybody else, auditors and the operator too, and where there is nothing."
    )
    async def profile(
        self,
        info: ApiInfo,
        account: Annotated[
            strawberry.ID | None, argument("The member; the session's own account when left out.")
        ] = None,
    ) -> MemberProfile | None:
        """A profile."""
        viewer, kept = require_session(info.context.viewer), _kept(info.context)
        if account is not None:
            require_account_id(account)
        found = await info.context.read(_read, kept, viewer, account or viewer.account)
        return profile_of(found) if found is not None else None

    @resolved(
        "Whom an identifier names at the merchant that is signed in: an account it has in custody, or that has or had "
        "points of its assets. Null for whatever else there is. FORBIDDEN for all but merchants, and not by GET, "
        "since URLs are logged. Counts as 1,000 fields."
    )
    async def account_by_identifier(
        self,
        info: ApiInfo,
        kind: Annotated[MemberIdentifierKind, argument("What it is.")],
        value: Annotated[str, argument("The identifier, as people write it.")],
    ) -> IdentifiedAccount | None:
        """A member by what it is known by."""
        context = info.context
        viewer, kept = require_session(context.viewer), _kept(context)
        if viewer.role != "merchant":
            raise ForbiddenError("members are found by merchants")
        if context.in_url:
            raise BadInputError("send this by POST: what names a person does not belong in a URL")
        try:
            plain = normal_identifier(_kind(kind), value)
        except PersonalDataError as error:
            raise BadInputError(str(error)) from None
        found = await context.read(_find, kept, viewer, (_kind(kind), plain))
        if found is None:
            return None
        return IdentifiedAccount(
            account_id=strawberry.ID(found.account),
            added_by=cast(IdentifierAddedBy, found.added_by),
            added_at=Time(format_time(found.added_at_ms)),
        )


def _kind(kind: MemberIdentifierKind) -> IdentifierKind:
    return cast(IdentifierKind, kind.value)


@strawberry.type
class ProfileMutations:
    """Mutations of what is kept of people. Their authority is the session, since they change nothing of the ledger."""

    @resolved("Changes what is kept of a member, by the member or the merchant that has its account in custody.")
    async def profile_update(
        self, info: ApiInfo, input: Annotated[ProfileUpdateInput, argument("What changes.")]
    ) -> ProfileUpdatePayload:
        """Change a profile."""
        context = info.context
        request = _request(context, input.account)
        try:
            changed = await context.write(_update, request, _changes_of(input), input.expected_revision)
        except _RefusedError as refused:
            return ProfileUpdatePayload(profile=None, user_errors=refused.user_errors)
        return ProfileUpdatePayload(profile=profile_of(changed), user_errors=[])

    @resolved(
        "Erases what is kept of a member, for good: its key is deleted, and with it profile and identifiers. The "
        "ledger, which has nothing of it, stays as it is. By the member, or the merchant that has it in custody."
    )
    async def profile_erase(
        self, info: ApiInfo, input: Annotated[ProfileEraseInput, argument("Whose.")]
    ) -> ProfileErasePayload:
        """Erase a profile."""
        context, service = info.context, info.context.service
        request = _request(context, input.account)
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(service.readers, _erase, service.store, request)
        except _RefusedError as refused:
            return ProfileErasePayload(erased_at=None, user_errors=refused.user_errors)
        return ProfileErasePayload(erased_at=_time(request.now_ms), user_errors=[])

    @resolved(
        "Has a merchant find a member by a card, a phone number, an e-mail address or a number of its own. By the "
        "member, or the merchant while it has the account in custody. Counts as 1,000 fields."
    )
    async def identifier_add(
        self, info: ApiInfo, input: Annotated[IdentifierAddInput, argument("The identifier.")]
    ) -> IdentifierAddPayload:
        """Add an identifier."""
        context = info.context
        request, kind = _request(context, input.account), _kind(input.kind)
        merchant = input.merchant or (request.viewer.account if request.viewer.role == "merchant" else None)
        try:
            if merchant is None or not ACCOUNT_ID.fullmatch(merchant):
                raise _RefusedError("MALFORMED", "name the merchant that is to find the member by it", "merchant")
            try:
                value = normal_identifier(kind, input.value)
            except PersonalDataError as error:
                raise _malformed(error) from None
            added = await context.write(_add, request, merchant, kind, value)
        except _RefusedError as refused:
            return IdentifierAddPayload(identifier=None, user_errors=refused.user_errors)
        return IdentifierAddPayload(identifier=identifier_of(added), user_errors=[])

    @resolved(
        "Removes an identifier: one of the member's own, or one that the merchant found members by, whoever added it."
    )
    async def identifier_remove(
        self, info: ApiInfo, input: Annotated[IdentifierRemoveInput, argument("The identifier.")]
    ) -> IdentifierRemovePayload:
        """Remove an identifier."""
        viewer = _keeper(info.context)
        _kept(info.context)
        try:
            await info.context.write(_remove, viewer, input.id)
        except _RefusedError as refused:
            return IdentifierRemovePayload(removed_id=None, user_errors=refused.user_errors)
        return IdentifierRemovePayload(removed_id=input.id, user_errors=[])
