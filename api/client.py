"""Talking to a Guerdon server as its clients do: GraphQL requests, sessions, and the files of its log."""

import http.client
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from typing import Any

import urllib3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.entries import MAX_ENTRY_BYTES
from ledger.keys import SESSION_CONTEXT, encode_public_key, sign
from ledger.merkle import TILE_WIDTH
from ledger.published_log import FETCHING_THREADS, MissingFileError

CHALLENGE = "query Challenge($account: ID!) { sessionChallenge(account: $account) { challenge } }"
SESSION = (
    "mutation Session($input: SessionOpenInput!) { sessionOpen(input: $input) { token userErrors { code message } } }"
)
ANSWER_LIMIT_S = 30
"""How long an answer may take."""

ATTEMPTS = 6
"""How often a file of a log is asked for, when the answer is that there will be one later."""

MAX_FILE_BYTES = TILE_WIDTH * (2 + MAX_ENTRY_BYTES)
"""The largest file a log can have: a bundle of entries as large as entries may be."""


class ServiceError(RuntimeError):
    """A service that did not answer, or not what was asked of it; the message is meant for a person."""


def ask(url: str, document: str, variables: dict[str, Any]) -> Any:
    """The data a GraphQL service answers; raise :class:`ServiceError` when it answers none."""
    body = json.dumps({"query": document, "variables": variables}).encode()
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    request = urllib.request.Request(url, body, headers)  # noqa: S310 - the caller has checked the scheme
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_LIMIT_S) as response:  # noqa: S310
            answer = json.load(response)
    except urllib.error.HTTPError as error:
        error.close()
        raise ServiceError(f"{url} answers with status {error.code} ({error.reason})") from error
    except urllib.error.URLError as error:
        raise ServiceError(f"{url} does not answer: {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise ServiceError(f"{url} does not answer: {error}") from error
    except ValueError as error:
        raise ServiceError(f"{url} answers, but not as a GraphQL service") from error
    errors = answer.get("errors") if isinstance(answer, dict) else None
    if errors:
        raise ServiceError("; ".join(str(error["message"]) for error in errors))
    if not isinstance(answer, dict) or not isinstance(answer.get("data"), dict):
        raise ServiceError(f"{url} answers, but not as a GraphQL service")
    return answer["data"]


def open_session(url: str, account: str, keys: Sequence[Ed25519PrivateKey]) -> str:
    """Sign in as an account: a bearer token for reading. ``url`` is that of the GraphQL API."""
    challenge = ask(url, CHALLENGE, {"account": account})["sessionChallenge"]["challenge"]
    # Of the server's answer the challenge alone is signed, behind the words that make it good for nothing else.
    message = SESSION_CONTEXT + challenge.encode()
    signatures = [{"key": encode_public_key(private), "sig": sign(private, message)} for private in keys]
    given = {"account": account, "challenge": challenge, "signatures": signatures}
    opened = ask(url, SESSION, {"input": given})["sessionOpen"]
    if opened["userErrors"]:
        raise ServiceError("; ".join(f"{error['code']}: {error['message']}" for error in opened["userErrors"]))
    return str(opened["token"])


class LogClient:
    """Fetches the files of a log below a prefix, over connections that are kept; may be used by several threads.

    ``sign_in`` gives a bearer token: it is called when the first answer asks for one, and again when a token has
    ended. What cannot be had for the moment is asked for again, as late as the server says. Redirects are not
    followed, for what is fetched is believed to be this log's.
    """

    def __init__(self, prefix: str, sign_in: Callable[[], str] | None = None) -> None:
        self._prefix = prefix.removesuffix("/") + "/"
        self._sign_in = sign_in
        self._token: str | None = None
        self._signing_in = threading.Lock()
        retries = urllib3.Retry(
            total=ATTEMPTS - 1,
            redirect=False,
            backoff_factor=0.5,
            status_forcelist=(429, 502, 503, 504),
            raise_on_status=False,
        )
        self._pool = urllib3.PoolManager(
            maxsize=FETCHING_THREADS, block=True, retries=retries, timeout=urllib3.Timeout(ANSWER_LIMIT_S)
        )

    def __call__(self, name: str) -> bytes:
        """A file by its name; :class:`MissingFileError` when there is none, :class:`ServiceError` for no answer."""
        token = self._token
        status, body = self._get(name, token)
        if status == 401 and self._sign_in is not None:
            status, body = self._get(name, self._new_token(token))
        if status == 200:
            return body
        if status == 404:
            raise MissingFileError(name)
        url = self._prefix + name
        if status in {401, 403}:
            raise ServiceError(f"{url} is for auditors: sign in with --account and --key")
        raise ServiceError(f"{url} answers with status {status}")

    def _new_token(self, refused: str | None) -> str:
        assert self._sign_in is not None
        with self._signing_in:  # several threads may be refused at once
            if self._token is None or self._token == refused:
                self._token = self._sign_in()
            return self._token

    def _get(self, name: str, token: str | None) -> tuple[int, bytes]:
        url = self._prefix + name
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        try:
            response = self._pool.request("GET", url, headers=headers, preload_content=False, redirect=False)
            try:
                body = response.read(MAX_FILE_BYTES + 1)
            finally:
                response.release_conn()
        except urllib3.exceptions.HTTPError as error:
            reason = getattr(error, "reason", None) or error
            raise ServiceError(f"{url} does not answer: {reason}") from error
        if len(body) > MAX_FILE_BYTES:
            raise ServiceError(f"{url} is larger than any file of a log: {MAX_FILE_BYTES} bytes")
        return response.status, body
