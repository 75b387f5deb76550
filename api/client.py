"""Talking to a Guerdon server as its clients do: GraphQL requests, what they are answered with, and sessions.

A wallet or a back office uses :class:`api.guerdon.Guerdon`, which is built on this. Of the ledger only what is pure is
imported: a client needs no database. The files of a log are fetched by :mod:`api.log_client`.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec
import urllib3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import Struct
from urllib3.exceptions import ConnectTimeoutError
from urllib3.util.retry import RequestHistory

from ledger.keys import SESSION_CONTEXT, encode_public_key, sign

CHALLENGE = "query Challenge($account: ID!) { sessionChallenge(account: $account) { challenge } }"
USER_ERRORS = """userErrors {
  __typename code message path retryable
  ... on InsufficientPointsError { requiredPoints availablePoints }
  ... on SupplyExceededError { supplyCap circulatingPoints }
  ... on ReferenceUsedError { entryId }
  ... on GrantTooLargeError { maxPoints }
  ... on LimitReachedError { count period }
  ... on OutOfStockError { left }
  ... on PriceMismatchError { price }
  ... on VoucherExpiredError { lastDay }
  ... on PurchaseTooOldError { purchaseWithinDays days }
  ... on UnknownLineError { lines }
  ... on OffStepError { step }
  ... on BelowMinimumError { minimum }
  ... on AboveMaximumError { maximum }
  ... on CapExceededError { capPoints usedPoints period }
  ... on OutcomeTooSmallError { outcomePoints }
  ... on FeeAboveLimitError { feeAmount currency }
  ... on AllotmentUsedUpError { requiredPoints remainingPoints }
  ... on HoldLapsedError { until }
  ... on HoldExceededError { remainingPoints }
  ... on RefundTooLargeError { refundableAmount refundablePoints }
  ... on SettledTooMuchError { owedAmount }
  ... on VersionConflictError { nextVersion }
  ... on NoticeTooShortError { earliestEnd }
  ... on PayingLoopError { loop }
  ... on EntryTooLargeError { maxBytes }
  ... on RecoveryPendingError { effectiveAt }
}"""
SESSION = f"mutation Session($input: SessionOpenInput!) {{ sessionOpen(input: $input) {{ token {USER_ERRORS} }} }}"
ANSWER_LIMIT_S = 30
"""How long an answer may take."""

ATTEMPTS = 6
"""How often something is asked for, when the answer is that there will be one later."""

MAX_WAIT_S = 60
"""The longest that a server can have one wait between two attempts."""

MAX_ANSWER_BYTES = 32 * 1024 * 1024

TOO_MANY_REQUESTS = 429
LATER = (TOO_MANY_REQUESTS, 502, 503, 504)
"""What a server that cannot answer now says with its status."""

FIRST_CONNECT_RETRIES = 1
"""How often a server that has never answered is tried to be reached again: a wrong address is told at once."""

_REFUSAL_FIELDS = {"__typename", "code", "message", "path", "retryable"}


class ServiceError(OSError):
    """A service that did not answer, or not what was asked of it; the message is meant for a person."""


class RequestError(ServiceError):
    """A request that the service answers with errors: why, for programs (``code``), and under which id it logged it.

    ``status`` is that of HTTP; 401 means that a session has ended, or that its keys have.
    """

    def __init__(self, message: str, *, code: str, status: int, request_id: str | None) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.request_id = request_id


class Refusal(Struct, frozen=True, kw_only=True):
    """A ``userError``: why nothing was recorded. ``path`` names the field that is to blame, outermost first.

    ``details`` are what a program can act on, by the names they have in the schema: ``availablePoints`` and
    ``requiredPoints`` of INSUFFICIENT_POINTS, for one. Codes are those of :class:`ledger.rules.Code`; a newer server
    may have more.
    """

    code: str
    message: str
    path: tuple[str, ...]
    retryable: bool
    details: Mapping[str, int | str] = {}


class RefusedError(ServiceError):
    """What was asked is refused, and nothing was recorded. ``refusals`` say why; the first is also spread out here."""

    def __init__(self, refusals: Sequence[Refusal]) -> None:
        super().__init__("; ".join(f"{refusal.code}: {refusal.message}" for refusal in refusals))
        self.refusals = tuple(refusals)
        self.code = refusals[0].code
        self.path = refusals[0].path
        self.retryable = refusals[0].retryable
        self.details = refusals[0].details


def read_refusals(user_errors: Sequence[Mapping[str, Any]]) -> tuple[Refusal, ...]:
    """What ``userErrors`` say, asked for with :data:`USER_ERRORS`."""
    return tuple(
        Refusal(
            code=error["code"],
            message=error["message"],
            path=tuple(error["path"]),
            retryable=error["retryable"],
            details={name: value for name, value in error.items() if name not in _REFUSAL_FIELDS and value is not None},
        )
        for error in user_errors
    )


class _Error(Struct):
    message: str
    extensions: dict[str, Any] = {}


class _Answer(Struct):
    data: dict[str, Any] | None = None
    errors: list[_Error] | None = None


_answers = msgspec.json.Decoder(_Answer)


class Response(Struct, frozen=True, kw_only=True):
    """What a service answered, as it came. ``lost``: an earlier attempt may have arrived, and its answer did not."""

    status: int
    reason: str
    body: bytes
    lost: bool


class Endpoint:
    """A GraphQL service over HTTP, on connections that are kept; may be used by several threads.

    ``url`` is its address, or that of a server that has it under ``/graphql``. What cannot be had for the moment (no
    connection, 429, 502, 503, 504) is asked for again up to ``attempts`` times in all, as late as the server says. So
    whatever is asked must do no harm when it arrives twice, as submitting a signed operation does none. Redirects are
    not followed: what is sent is for this service alone. A server that cannot be reached and never answered before is
    given up soon, for then its address is wrong or it is down, and somebody may be waiting.
    """

    def __init__(self, url: str, *, attempts: int = ATTEMPTS, timeout_s: float = ANSWER_LIMIT_S) -> None:
        self.url = url if urlsplit(url).path.strip("/") else url.rstrip("/") + "/graphql"
        self._retries = urllib3.Retry(
            total=attempts - 1,
            redirect=False,
            allowed_methods=None,
            status_forcelist=LATER,
            backoff_factor=0.25,
            retry_after_max=MAX_WAIT_S,
            raise_on_status=False,
        )
        self._has_answered = False
        self._pool = urllib3.PoolManager(timeout=urllib3.Timeout(timeout_s))

    def ask(self, document: str, variables: Mapping[str, Any] | None = None, token: str | None = None) -> Any:
        """The data that answers a document; raise :class:`ServiceError` where there is none, or only a part of it."""
        return self.read(self.post({"query": document, "variables": variables or {}}, token))

    def read(self, response: Response) -> Any:
        """The data of an answer; raise :class:`RequestError` or :class:`ServiceError` where it is none."""
        status, reason = response.status, response.reason
        try:
            answer = _answers.decode(response.body)
        except msgspec.DecodeError as error:
            if status != 200:
                raise ServiceError(f"{self.url} answers with status {status} ({reason})") from error
            raise self.strange() from error
        if answer.errors:
            first = answer.errors[0].extensions
            raise RequestError(
                "; ".join(error.message for error in answer.errors),
                code=str(first.get("code", "")),
                status=status,
                request_id=first.get("requestId"),
            )
        if status != 200:
            raise ServiceError(f"{self.url} answers with status {status} ({reason})")
        if answer.data is None:
            raise self.strange()
        return answer.data

    def post(self, request: Mapping[str, Any], token: str | None = None) -> Response:
        """Send a request, as often as it takes; what is answered in the end."""
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/graphql-response+json, application/json;q=0.9",
        }
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        retries = self._retries if self._has_answered else self._retries.new(connect=FIRST_CONNECT_RETRIES)
        try:
            response = self._pool.request(
                "POST",
                self.url,
                body=json.dumps(request).encode(),
                headers=headers,
                retries=retries,
                preload_content=False,
                redirect=False,
            )
            self._has_answered = True
            try:
                body = response.read(MAX_ANSWER_BYTES + 1)
            finally:
                response.release_conn()
        except urllib3.exceptions.HTTPError as error:
            raise ServiceError(f"{self.url} does not answer: {getattr(error, 'reason', None) or error}") from error
        if len(body) > MAX_ANSWER_BYTES:
            raise ServiceError(f"{self.url} answers with more than {MAX_ANSWER_BYTES} bytes")
        earlier = response.retries.history if response.retries is not None else ()
        return Response(
            status=response.status, reason=response.reason or "", body=body, lost=any(map(_may_have_arrived, earlier))
        )

    def strange(self) -> ServiceError:
        """The error to raise when an answer is not what was asked for."""
        return ServiceError(f"{self.url} answers, but not as a GraphQL service")

    def close(self) -> None:
        """Let go of the connections."""
        self._pool.clear()


def _may_have_arrived(attempt: RequestHistory) -> bool:
    """Whether what had to be sent again may have been acted upon: unless there was no connection, or it was throttled.

    502, 503 and 504 are mostly said by something in between, which does not know.
    """
    return not isinstance(attempt.error, ConnectTimeoutError) and attempt.status != TOO_MANY_REQUESTS


def open_session(url: str, account: str, keys: Sequence[Ed25519PrivateKey]) -> str:
    """Sign in as an account, with one attempt: a bearer token for reading, good for 15 minutes."""
    endpoint = Endpoint(url, attempts=1)
    try:
        return sign_in(endpoint, account, keys)
    finally:
        endpoint.close()


def sign_in(endpoint: Endpoint, account: str, keys: Sequence[Ed25519PrivateKey]) -> str:
    """A bearer token of an account for reading, good for 15 minutes unless its keys change."""
    try:
        return _answer_challenge(endpoint, account, keys)
    except RefusedError as error:
        # The answer that had the token was lost on its way, and the challenge is used up; or it came too late.
        if error.code != "EXPIRED":
            raise
        return _answer_challenge(endpoint, account, keys)


def _answer_challenge(endpoint: Endpoint, account: str, keys: Sequence[Ed25519PrivateKey]) -> str:
    challenge = endpoint.ask(CHALLENGE, {"account": account})["sessionChallenge"]["challenge"]
    # Of the server's answer the challenge alone is signed, behind the words that make it good for nothing else.
    message = SESSION_CONTEXT + challenge.encode()
    signatures = [{"key": encode_public_key(private), "sig": sign(private, message)} for private in keys]
    given = {"account": account, "challenge": challenge, "signatures": signatures}
    opened = endpoint.ask(SESSION, {"input": given})["sessionOpen"]
    if opened["userErrors"]:
        raise RefusedError(read_refusals(opened["userErrors"]))
    return str(opened["token"])
