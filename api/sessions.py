"""Sessions for reading: a signed challenge becomes a short-lived bearer token.

A challenge is text bound to an account and an expiry by an HMAC, so the server stores nothing; its signature under a
key in force for the account opens a session. Tokens are JWTs (HS256). Both secrets are derived from the log's private
key with HKDF, so that every server process of a ledger accepts what another one issued, and nothing is configured.

Writing needs no session: an operation carries its authority in its signatures.
"""

import hashlib
import hmac
import re
import secrets
from typing import Any

import jwt
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from msgspec import Struct

from ledger.encoding import encode_base64url
from ledger.keys import SESSION_CONTEXT, verify
from ledger.rules import Account, Code, Rejection

CHALLENGE_LIFETIME_MS = 120_000
TOKEN_LIFETIME_MS = 900_000

_CHALLENGE = re.compile(
    r"^v1 (?P<account>[a-z_2-7]{30}) (?P<expires>[0-9]{13,15}) [A-Za-z0-9_-]{22} [A-Za-z0-9_-]{43}\Z"
)


class TokenError(ValueError):
    """A bearer token that is not one of ours, or not any more. The message says what to do."""


class Viewer(Struct, frozen=True, kw_only=True):
    """Who is asking: an account and its role, which never changes."""

    account: str
    role: str


class Challenge(Struct, frozen=True, kw_only=True):
    """What to sign to open a session, until when, and the exact bytes of the message."""

    text: str
    expires_at_ms: int
    message: bytes


class Answer(Struct, frozen=True, kw_only=True):
    """An answered challenge: who wants to sign in, with which key."""

    account: str
    challenge: str
    key: str
    sig: str


class Token(Struct, frozen=True, kw_only=True):
    """A bearer token and when it ends."""

    text: str
    expires_at_ms: int


class Sessions:
    """Issues and checks challenges and tokens of one ledger. Times are milliseconds since 1970, from the caller."""

    def __init__(self, origin: str, log_key: Ed25519PrivateKey) -> None:
        self._origin = origin
        self._token_secret = _derive(log_key, b"guerdon session tokens v1")
        self._challenge_secret = _derive(log_key, b"guerdon session challenges v1")

    def challenge(self, account: str, now_ms: int) -> Challenge:
        """A challenge for an account, whether or not there is one: it tells nobody who exists."""
        expires_at_ms = now_ms + CHALLENGE_LIFETIME_MS
        stated = f"v1 {account} {expires_at_ms} {encode_base64url(secrets.token_bytes(16))}"
        text = f"{stated} {self._mac(stated)}"
        return Challenge(text=text, expires_at_ms=expires_at_ms, message=SESSION_CONTEXT + text.encode())

    def check_answer(self, answer: Answer, authority: Account | None, now_ms: int) -> Rejection | None:
        """Why an answered challenge opens no session; ``None`` when it does.

        ``authority`` is the account whose keys act for the answer's. An unknown account is refused as a key without
        authority is, so that an answer does not tell who exists.
        """
        match = _CHALLENGE.fullmatch(answer.challenge)
        stated, _, mac = answer.challenge.rpartition(" ")
        if match is None or match["account"] != answer.account or not hmac.compare_digest(mac, self._mac(stated)):
            message = "this challenge was not given for this account: ask sessionChallenge for one"
            return Rejection(Code.MALFORMED, message, ("challenge",))
        if int(match["expires"]) < now_ms:
            return Rejection(Code.EXPIRED, "the challenge is too old: ask for a new one", ("challenge",))
        if not verify(answer.key, answer.sig, SESSION_CONTEXT + answer.challenge.encode()):
            return Rejection(Code.SIGNATURE_INVALID, "the signature does not fit the challenge and the key", ("sig",))
        if authority is None or answer.key not in authority.keys:
            return Rejection(Code.NOT_PERMITTED, "this key does not act for this account", ("key",))
        return None

    def open(self, viewer: Viewer, now_ms: int) -> Token:
        """A bearer token for an account that answered its challenge."""
        expires_at_ms = now_ms + TOKEN_LIFETIME_MS
        claims = {
            "iss": self._origin,
            "aud": self._origin,
            "sub": viewer.account,
            "role": viewer.role,
            "iat": now_ms // 1000,
            "exp": expires_at_ms // 1000,
        }
        return Token(text=jwt.encode(claims, self._token_secret, algorithm="HS256"), expires_at_ms=expires_at_ms)

    def viewer(self, token: str, now_ms: int) -> Viewer:
        """Who a bearer token stands for; raise :class:`TokenError` when it is forged, foreign or over."""
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self._token_secret,
                algorithms=["HS256"],
                audience=self._origin,
                issuer=self._origin,
                # The clock is passed in, so the expiry is compared below.
                options={"require": ["exp", "sub", "role"], "verify_exp": False, "verify_iat": False},
            )
        except jwt.InvalidTokenError:
            raise TokenError("the bearer token is not one of this ledger: open a session") from None
        if claims["exp"] * 1000 <= now_ms:
            raise TokenError("the session is over: open a new one")
        return Viewer(account=claims["sub"], role=claims["role"])

    def _mac(self, stated: str) -> str:
        message = f"{self._origin}\n{stated}".encode()
        return encode_base64url(hmac.new(self._challenge_secret, message, hashlib.sha256).digest())


def _derive(key: Ed25519PrivateKey, info: bytes) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=info).derive(key.private_bytes_raw())
