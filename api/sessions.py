"""Sessions for reading: a signed challenge becomes a short-lived bearer token.

A challenge is text bound to an account and an expiry by an HMAC, so the server need not store it; signatures by as many
keys in force for the account as its threshold says open a session. A challenge that opened one is remembered until it
ends and opens no other; each server process remembers its own, so several processes may let one challenge open one
session each. Tokens are JWTs (HS256). Both secrets are derived with HKDF from the private log key that the server signs
with first, so that every server process of a ledger accepts what another one issued, and nothing is configured. A
server given another log key as its own issues and accepts other tokens: who stole the old one can forge none.

A token names the keys that opened its session, by the entry that gave them (:class:`ledger.queries.Authority`). The
session is over as soon as other keys act for the account: with a rotation or a recovery, of the account itself or, for
one in custody, of its custodian, and when a member claims an account from custody.

Writing needs no session: an operation carries its authority in its signatures.
"""

import hashlib
import hmac
import re
import secrets
from functools import lru_cache
from typing import Any

import jwt
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from msgspec import Struct

from ledger.encoding import encode_base64url
from ledger.keys import SESSION_CONTEXT, verify
from ledger.queries import Authority
from ledger.state import Code, Rejection
from ledger.terms import MAX_SIGNATURES

CHALLENGE_LIFETIME_MS = 120_000
TOKEN_LIFETIME_MS = 900_000
MAX_ANSWERED = 50_000
"""Answered challenges that one process remembers: more sessions than this are not opened in 2 minutes."""

SESSION_OVER = "the session is over: open a new one"
MAX_READ_TOKENS = 4_096
"""Tokens found good that one process remembers."""

_CHALLENGE = re.compile(
    r"^v1 (?P<account>[a-z_2-7]{30}) (?P<expires>[0-9]{13,15}) [A-Za-z0-9_-]{22} [A-Za-z0-9_-]{43}\Z"
)


_ANSWERED = Rejection(Code.EXPIRED, "the challenge has opened a session already: ask for a new one", ("challenge",))


class TokenError(ValueError):
    """A bearer token that is not one of ours, or not any more. The message says what to do."""


class Session(Struct, frozen=True, kw_only=True):
    """What a bearer token says: an account, its role, which never changes, the entry that gave its keys, and its end.

    ``expires_at_ms`` is 0 before there is a token.
    """

    account: str
    role: str
    keys_seq: int
    expires_at_ms: int = 0


class Viewer(Struct, frozen=True, kw_only=True):
    """Who is asking, and when: at ``time`` the keys of the ``session`` act for the account. Webhooks have none."""

    account: str
    role: str
    time: str
    session: Session | None = None


class Challenge(Struct, frozen=True, kw_only=True):
    """What to sign to open a session, until when, and the exact bytes of the message."""

    text: str
    expires_at_ms: int
    message: bytes


class Answer(Struct, frozen=True, kw_only=True):
    """An answered challenge: who wants to sign in, with which keys and their signatures."""

    account: str
    challenge: str
    signatures: tuple[tuple[str, str], ...]


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
        self._answered: dict[str, int] = {}
        # A session's requests all bring the same token, whose signature costs more to verify than many a query.
        self._read = lru_cache(MAX_READ_TOKENS)(self._decode)

    def challenge(self, account: str, now_ms: int) -> Challenge:
        """A challenge for an account, whether or not there is one: it tells nobody who exists."""
        expires_at_ms = now_ms + CHALLENGE_LIFETIME_MS
        stated = f"v1 {account} {expires_at_ms} {encode_base64url(secrets.token_bytes(16))}"
        text = f"{stated} {self._mac(stated)}"
        return Challenge(text=text, expires_at_ms=expires_at_ms, message=SESSION_CONTEXT + text.encode())

    def check_answer(self, answer: Answer, now_ms: int) -> Rejection | None:
        """Why an answer is none to a challenge of ours, whoever exists; ``None`` when it is one. Reads nothing."""
        match = _CHALLENGE.fullmatch(answer.challenge)
        stated, _, mac = answer.challenge.rpartition(" ")
        if match is None or match["account"] != answer.account or not hmac.compare_digest(mac, self._mac(stated)):
            message = "this challenge was not given for this account: ask sessionChallenge for one"
            return Rejection(Code.MALFORMED, message, ("challenge",))
        if int(match["expires"]) < now_ms:
            return Rejection(Code.EXPIRED, "the challenge is too old: ask for a new one", ("challenge",))
        if answer.challenge in self._answered:
            return _ANSWERED
        return _check_signatures(answer)

    def check_authority(self, answer: Answer, authority: Authority | None) -> Rejection | None:
        """Why the keys of a checked answer do not act for its account; ``None`` when they do.

        ``authority`` has the keys in force. An unknown account is refused as a key without authority is, so that an
        answer does not tell who exists.
        """
        for i, (key, _) in enumerate(answer.signatures):
            if authority is None or key not in authority.keys:
                message = "this key does not act for this account"
                return Rejection(Code.NOT_PERMITTED, message, (f"signatures[{i}]", "key"))
        if authority is None or len(answer.signatures) < authority.threshold:
            return Rejection(Code.SIGNATURE_MISSING, "more of the account's keys must sign", ("signatures",))
        return None

    def open(self, answer: Answer, session: Session, now_ms: int) -> Token | Rejection:
        """A bearer token for an account that answered its challenge, which is used up; or why there is none now.

        While the database was read, the same answer may have come again: here the first one wins.
        """
        if refusal := self._use_up(answer.challenge, now_ms):
            return refusal
        return self.token(session, now_ms)

    def _use_up(self, challenge: str, now_ms: int) -> Rejection | None:
        if challenge in self._answered:
            return _ANSWERED
        # They stand in the order in which they were answered.
        while self._answered and self._answered[oldest := next(iter(self._answered))] < now_ms:
            del self._answered[oldest]
        if len(self._answered) >= MAX_ANSWERED:
            return Rejection(Code.OVERLOADED, "too many sessions were opened: try again in a minute", ("challenge",))
        self._answered[challenge] = now_ms + CHALLENGE_LIFETIME_MS
        return None

    def token(self, session: Session, now_ms: int) -> Token:
        """A bearer token of a session."""
        expires_at_ms = now_ms + TOKEN_LIFETIME_MS
        claims = {
            "iss": self._origin,
            "aud": self._origin,
            "sub": session.account,
            "role": session.role,
            "keys": session.keys_seq,
            "iat": now_ms // 1000,
            "exp": expires_at_ms // 1000,
        }
        return Token(text=jwt.encode(claims, self._token_secret, algorithm="HS256"), expires_at_ms=expires_at_ms)

    def session(self, token: str, now_ms: int) -> Session:
        """What a bearer token says; raise :class:`TokenError` when it is forged, foreign or too old.

        Whether its keys are still in force is for :func:`viewer_at`.
        """
        session = self._read(token)
        if session.expires_at_ms <= now_ms:
            raise TokenError(SESSION_OVER)
        return session

    def _decode(self, token: str) -> Session:
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self._token_secret,
                algorithms=["HS256"],
                audience=self._origin,
                issuer=self._origin,
                # The clock is passed in, so the expiry is compared with it.
                options={"require": ["exp", "sub", "role", "keys"], "verify_exp": False, "verify_iat": False},
            )
        except jwt.InvalidTokenError:
            raise TokenError("the bearer token is not one of this ledger: open a session") from None
        return Session(
            account=claims["sub"],
            role=claims["role"],
            keys_seq=claims["keys"],
            expires_at_ms=claims["exp"] * 1000,
        )

    def _mac(self, stated: str) -> str:
        message = f"{self._origin}\n{stated}".encode()
        return encode_base64url(hmac.new(self._challenge_secret, message, hashlib.sha256).digest())


def viewer_at(session: Session, authority: Authority | None) -> Viewer:
    """Who asks in a session, by the keys that act for its account now; raise :class:`TokenError` when others do."""
    if authority is None or authority.keys_seq != session.keys_seq:
        raise TokenError("the session is over, since the account's keys have changed: open a new one")
    return Viewer(account=session.account, role=session.role, time=authority.time, session=session)


def _check_signatures(answer: Answer) -> Rejection | None:
    """Why the signatures of an answer are none of its challenge, by whatever keys; ``None`` when all are."""
    keys = {key for key, _ in answer.signatures}
    if not keys:
        return Rejection(Code.SIGNATURE_MISSING, "nobody has signed the challenge", ("signatures",))
    if len(keys) != len(answer.signatures) or len(keys) > MAX_SIGNATURES:
        message = f"at most {MAX_SIGNATURES} signatures, each by another key"
        return Rejection(Code.MALFORMED, message, ("signatures",))
    for i, (key, sig) in enumerate(answer.signatures):
        if not verify(key, sig, SESSION_CONTEXT + answer.challenge.encode()):
            message = "the signature does not fit the challenge and the key"
            return Rejection(Code.SIGNATURE_INVALID, message, (f"signatures[{i}]", "sig"))
    return None


def _derive(key: Ed25519PrivateKey, info: bytes) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=info).derive(key.private_bytes_raw())
