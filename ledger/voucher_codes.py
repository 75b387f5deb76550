r"""What a member shows to have a voucher used: a short code that nobody guesses, and that is in no entry.

A voucher is named by its entry and its place there, which everybody can count up. Its code is that name with a MAC in
front of it, so only who knows the server's key can make one, and the database has nothing to steal::

    code      = mac[12] (number of digits of index)[1] index seq, in groups of four with hyphens between them
    mac       = the first 60 bits of HMAC-SHA-256(key, "guerdon voucher v1\n" origin "\n" seq "/" index "\n")
    key       = HKDF-SHA-256(profile key, info "guerdon voucher codes v1")

Digits are those of Crockford's base 32: the letters O, I and L are read as 0 and 1, case and hyphens make no
difference, so that it can be told over a counter. 60 bits are guessed only by asking, and who asks is counted.

A code is good as long as its key is one of the server's; once a former profile key is gone, holders are told another.
"""

import hashlib
import hmac
from collections.abc import Sequence

from ledger.encoding import MAX_INTEGER

DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
MAC_DIGITS = 12
MAX_CODE = 40
"""Characters of a code as people write it, at most."""

_GROUP = 4
_VALUES = {digit: value for value, digit in enumerate(DIGITS)} | {"O": 0, "I": 1, "L": 1}


class VoucherCodes:
    """The codes of a ledger's vouchers: made with the first key, read with each of them."""

    def __init__(self, origin: str, keys: Sequence[bytes]) -> None:
        self._origin = origin
        self._keys = tuple(keys)

    def encode(self, seq: int, index: int) -> str:
        """The code of a voucher: ``9W3H-06QK-PZ4D-02S7``."""
        plain = self._mac(self._keys[0], seq, index) + _name(seq, index)
        return "-".join(plain[at : at + _GROUP] for at in range(0, len(plain), _GROUP))

    def decode(self, code: str) -> tuple[int, int] | None:
        """The entry and the index of the voucher that a code is of; ``None`` for what is no code of this ledger.

        How long that takes does not depend on how much of a MAC is right.
        """
        plain = _plain(code)
        if plain is None or (named := _named(plain[MAC_DIGITS:])) is None:
            return None
        matches = [hmac.compare_digest(self._mac(key, *named), plain[:MAC_DIGITS]) for key in self._keys]
        return named if any(matches) else None

    def _mac(self, key: bytes, seq: int, index: int) -> str:
        text = f"guerdon voucher v1\n{self._origin}\n{seq}/{index}\n"
        mac = hmac.new(key, text.encode(), hashlib.sha256).digest()
        number = int.from_bytes(mac[:8]) >> (64 - 5 * MAC_DIGITS)
        return _digits(number).rjust(MAC_DIGITS, DIGITS[0])


def _digits(number: int) -> str:
    text = ""
    while number:
        number, digit = divmod(number, len(DIGITS))
        text = DIGITS[digit] + text
    return text


def _number(digits: str) -> int:
    number = 0
    for digit in digits:
        number = number * len(DIGITS) + _VALUES[digit]
    return number


def _name(seq: int, index: int) -> str:
    digits = _digits(index)
    return DIGITS[len(digits)] + digits + _digits(seq)


def _named(name: str) -> tuple[int, int] | None:
    """What digits name; ``None`` unless they are the one name of it."""
    if not name:
        return None
    start = 1 + _VALUES[name[0]]
    seq, index = _number(name[start:]), _number(name[1:start])
    return (seq, index) if seq <= MAX_INTEGER and _name(seq, index) == name else None


def _plain(code: str) -> str | None:
    """The digits of a code as :data:`DIGITS` has them; ``None`` when it has something else."""
    if len(code) > MAX_CODE or not code.isascii():
        return None
    written = code.upper().replace("-", "").replace(" ", "")
    if any(digit not in _VALUES for digit in written):
        return None
    return "".join(DIGITS[_VALUES[digit]] for digit in written)
