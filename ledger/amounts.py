"""Amounts as people write them: decimal text of a number of smallest units, exactly. There are no floats.

With a ``scale`` of 2, ``12.5`` and ``12.50`` are 1,250 units; ``12.505`` is no amount at all, for nothing is rounded.
"""

from ledger.encoding import MAX_INTEGER

_MAX_DIGITS = len(str(MAX_INTEGER))


def parse_amount(text: str, scale: int) -> int:
    """Smallest units of a decimal amount; raise :class:`ValueError` for what is none, too fine or beyond 2^53-1."""
    whole, point, fraction = text.partition(".")
    digits = whole + fraction
    if not digits.isdecimal() or not digits.isascii() or not whole or (point and not fraction):
        raise ValueError(f"{text[:40]!r} is not an amount such as 12.50")
    if len(fraction) > scale:
        raise ValueError(f"{text[:40]!r} has more than {scale} decimal places")
    if len(whole.lstrip("0")) <= _MAX_DIGITS:  # before it is read: reading a long number takes long
        amount = int(whole.lstrip("0") + fraction.ljust(scale, "0") or "0")
        if amount <= MAX_INTEGER:
            return amount
    raise ValueError(f"{text[:40]!r} is too large")


def format_amount(amount: int, scale: int) -> str:
    """An amount of smallest units as decimal text with all its places, as :func:`parse_amount` reads it back."""
    sign, digits = "-" * (amount < 0), str(abs(amount)).rjust(scale + 1, "0")
    return f"{sign}{digits[:-scale]}.{digits[-scale:]}" if scale else f"{sign}{digits}"
