"""Decimal amounts: exact in both directions, and nothing is guessed at."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.amounts import format_amount, parse_amount
from ledger.encoding import MAX_INTEGER


@pytest.mark.parametrize(
    ("text", "scale", "units"),
    [
        ("12.5", 2, 1250),
        ("12.50", 2, 1250),
        ("0012", 2, 1200),
        ("0.01", 2, 1),
        ("0", 0, 0),
        ("7", 0, 7),
        ("9007199254740991", 0, MAX_INTEGER),
        ("90071992547409.91", 2, MAX_INTEGER),
    ],
)
def test_amount_is_read_exactly(text: str, scale: int, units: int) -> None:
    assert parse_amount(text, scale) == units


@pytest.mark.parametrize(
    ("text", "scale"),
    [
        *((text, 2) for text in ("", ".", "5.", ".5", "-1", "+1", "1,250", "1 250", "1e3", "0x1", "1.2.3", "٣", "1.٣")),
        *((text, 2) for text in (" 1", "1\n", "nan", "12.505", "90071992547409.92", "9" * 5_000)),
        ("12.5", 0),
        ("9007199254740992", 0),
    ],
)
def test_what_is_no_amount_is_refused(text: str, scale: int) -> None:
    """Other notations, more places than the asset has, and what is beyond 2^53-1; the message is short."""
    with pytest.raises(ValueError, match=r"amount|places|large") as caught:
        parse_amount(text, scale)
    assert len(str(caught.value)) < 100


@given(units=st.integers(0, MAX_INTEGER), scale=st.integers(0, 6))
def test_amount_is_read_back_as_it_was_written(units: int, scale: int) -> None:
    text = format_amount(units, scale)
    assert parse_amount(text, scale) == units
    assert len(text.partition(".")[2]) == scale
    assert format_amount(-units, scale) == (f"-{text}" if units else text)
