"""Scalars of the schema. Values pass through unchanged; each refuses what is not exactly of its form."""

from collections.abc import Callable
from typing import Any, NewType

from graphql import GraphQLError
from strawberry import scalar
from strawberry.types.scalar import ScalarDefinition

from api.errors import ValueOutOfRangeError
from ledger.encoding import (
    MAX_INTEGER,
    EncodingError,
    decode_hash,
    parse_date,
    parse_time,
)

Points = NewType("Points", int)
MinorUnits = NewType("MinorUnits", int)
UInt53 = NewType("UInt53", int)
Time = NewType("Time", str)
Date = NewType("Date", str)
Hash = NewType("Hash", str)
SignedOperationText = NewType("SignedOperationText", str)


def _integer_parser(name: str, least: int) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        # A Boolean is an int to Python, and 1.0 equals 1; neither is an amount.
        if type(value) is not int:
            raise GraphQLError(f"{name} is an integer, written without quotes, point or exponent")
        if not least <= value <= MAX_INTEGER:
            raise GraphQLError(f"{name} lies between {'-(2^53-1)' if least else 0} and 2^53-1")
        return value

    return parse


def _tell_integer(value: int) -> int:
    """An integer in an answer; raise :class:`ValueOutOfRangeError` for what a client would read as another number."""
    if not -MAX_INTEGER <= value <= MAX_INTEGER:
        raise ValueOutOfRangeError("this is beyond 2^53-1: ask for a part of it, a month or a member")
    return value


def _text_parser(name: str, check: Callable[[str], object]) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        if type(value) is not str:
            raise GraphQLError(f"{name} is a string")
        try:
            check(value)
        except EncodingError as error:
            raise GraphQLError(f"{name}: {error}") from None
        return value

    return parse


SCALARS: dict[object, ScalarDefinition] = {
    Points: scalar(
        name="Points",
        description="Points in the asset's smallest unit: an integer from -(2^53-1) to 2^53-1, safe in JavaScript.",
        serialize=_tell_integer,
        parse_value=_integer_parser("Points", -MAX_INTEGER),
    ),
    MinorUnits: scalar(
        name="MinorUnits",
        description="Money in the currency's minor units (cents): an integer from -(2^53-1) to 2^53-1.",
        serialize=_tell_integer,
        parse_value=_integer_parser("MinorUnits", -MAX_INTEGER),
    ),
    UInt53: scalar(
        name="UInt53",
        description="A count or a position in the ledger: an integer from 0 to 2^53-1, safe in JavaScript.",
        serialize=_tell_integer,
        parse_value=_integer_parser("UInt53", 0),
    ),
    Time: scalar(
        name="Time",
        description="A moment in UTC with milliseconds: `2026-11-22T10:15:30.123Z`. Has exactly this form.",
        parse_value=_text_parser("Time", parse_time),
    ),
    Date: scalar(
        name="Date",
        description="A calendar date, `2026-11-22`, in the time zone of the program it belongs to.",
        parse_value=_text_parser("Date", parse_date),
    ),
    Hash: scalar(
        name="Hash",
        description="SHA-256 as 64 characters of lower-case hex: an operation's id or an entry's leaf hash.",
        parse_value=_text_parser("Hash", decode_hash),
    ),
    SignedOperationText: scalar(
        name="SignedOperation",
        description=(
            'The canonical JSON (RFC 8785) of an operation and its signatures, as a string: `{"op":{…},"sigs":[…]}`.'
        ),
        parse_value=_text_parser("SignedOperation", lambda _: None),
    ),
}
