"""Ids and codes as clients write them: which text can be one is settled here, before a database sees it."""

import re

from api.errors import BadInputError
from ledger.terms import ACCOUNT_PATTERN, ASSET_PATTERN

ACCOUNT_ID = re.compile(ACCOUNT_PATTERN)
AGREEMENT_NAME = re.compile(r"[A-Z][A-Z0-9]{1,15}(?:>[A-Z][A-Z0-9]{1,15}|@(?:mer|ben)_[a-z2-7]{26}|\+mer_[a-z2-7]{26})")
AGREEMENT_ID = re.compile(rf"agr_({AGREEMENT_NAME.pattern})_([1-9][0-9]{{0,6}})")
ASSET_CODE = re.compile(ASSET_PATTERN)
ASSET_ID = re.compile(r"ast_([A-Z][A-Z0-9]{1,15})")
CLAIM_ID = re.compile(r"clm_(0|[1-9][0-9]{0,14})_(0|[1-9][0-9]{0,2})")
CURRENCY_CODE = re.compile(r"[A-Z]{3}")
ENTRY_ID = re.compile(r"ent_(0|[1-9][0-9]{0,15})")
HOLD_ID = re.compile(r"hld_[a-z2-7]{26}")
IDENTIFIER_ID = re.compile(r"idf_[a-z2-7]{26}")
MESSAGE_ID = re.compile(r"msg_([a-z2-7]{26})_(0|[1-9][0-9]{0,15})")
PROGRAM_ID = re.compile(r"prg_([A-Z][A-Z0-9]{1,15})_([1-9][0-9]{0,6})")
VOUCHER_ID = re.compile(r"vch_(0|[1-9][0-9]{0,14})_(0|[1-9][0-9]{0,5})")
WEBHOOK_ID = re.compile(r"whk_[a-z2-7]{26}")


def require_account_id(text: str) -> None:
    """Refuse what can be no account's id; raise :class:`BadInputError`."""
    if not ACCOUNT_ID.fullmatch(text):
        raise BadInputError("an account id is a role's prefix, an underscore and 26 characters: mem_…")


def require_asset_code(text: str) -> None:
    """Refuse what can be no asset's code; raise :class:`BadInputError`."""
    if not ASSET_CODE.fullmatch(text):
        raise BadInputError("an asset's code is 2 to 16 capital letters and digits, beginning with a letter: STAR")


def require_currency(text: str) -> None:
    """Refuse what can be no currency's code; raise :class:`BadInputError`."""
    if not CURRENCY_CODE.fullmatch(text):
        raise BadInputError("a currency is three capital letters: USD")
