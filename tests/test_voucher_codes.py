"""Codes of vouchers: one for each, told over a counter, and not to be guessed."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.encoding import MAX_INTEGER
from ledger.voucher_codes import DIGITS, VoucherCodes

KEY, OTHER = bytes(range(32)), bytes(32)
ORIGIN = "ledger.example/test"


@given(st.integers(0, MAX_INTEGER), st.integers(0, 100_000))
def test_a_code_is_read_as_the_voucher_it_was_made_of(seq: int, index: int) -> None:
    codes = VoucherCodes(ORIGIN, [KEY])
    assert codes.decode(codes.encode(seq, index)) == (seq, index)


def test_a_code_is_read_however_people_write_it() -> None:
    codes = VoucherCodes(ORIGIN, [KEY])
    code = next(made for seq in range(1_000) if {"0", "1"} <= set(made := codes.encode(seq, 0)))
    spoken = code.lower().replace("-", " ").replace("0", "o").replace("1", "l")
    assert codes.decode(spoken) == codes.decode(code) is not None


def test_no_code_with_another_digit_is_good() -> None:
    codes = VoucherCodes(ORIGIN, [KEY])
    code = codes.encode(7_000, 3).replace("-", "")
    for at, digit in enumerate(code):
        for other in DIGITS.replace(digit, ""):
            assert codes.decode(code[:at] + other + code[at + 1 :]) is None
    assert [codes.decode(code[:-1]), codes.decode(code + "0"), codes.decode("0" + code)] == [None] * 3


def test_a_code_is_good_on_its_ledger_and_under_its_key_alone() -> None:
    code = VoucherCodes(ORIGIN, [KEY]).encode(5, 0)
    assert VoucherCodes("ledger.example/other", [KEY]).decode(code) is None
    assert VoucherCodes(ORIGIN, [OTHER]).decode(code) is None
    assert VoucherCodes(ORIGIN, [OTHER, KEY]).decode(code) == (5, 0)


@pytest.mark.parametrize("text", ["", "-", "U", "9W3H", "é" * 16, "0" * 41, "\x00" * 16, "9W3H-06QK-PZ4D"])
def test_what_is_no_code_is_refused(text: str) -> None:
    assert VoucherCodes(ORIGIN, [KEY]).decode(text) is None


def test_codes_of_neighbours_have_nothing_in_common() -> None:
    codes = VoucherCodes(ORIGIN, [random.Random(1).randbytes(32)])
    macs = {codes.encode(seq, index)[:14] for seq in range(50) for index in range(4)}
    assert len(macs) == 200
