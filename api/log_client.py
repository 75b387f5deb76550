"""Fetching the files of a server's log, as an audit over the network does."""

import threading
from collections.abc import Callable

import urllib3

from api.client import ANSWER_LIMIT_S, ATTEMPTS, FIRST_CONNECT_RETRIES, LATER, ServiceError
from ledger.entries import MAX_ENTRY_BYTES
from ledger.merkle import TILE_WIDTH
from ledger.published_log import FETCHING_THREADS, MissingFileError

MAX_FILE_BYTES = TILE_WIDTH * (2 + MAX_ENTRY_BYTES)
"""The largest file a log can have: a bundle of entries as large as entries may be."""


class LogClient:
    """Fetches the files of a log below a prefix, over connections that are kept; may be used by several threads.

    ``sign_in`` gives a bearer token: it is called when the first answer asks for one, and again when a token has
    ended. What cannot be had for the moment is asked for again, as late as the server says. Redirects are not
    followed, for what is fetched is believed to be this log's. A server that cannot be reached, and never answered
    before, is given up soon.
    """

    def __init__(self, prefix: str, sign_in: Callable[[], str] | None = None) -> None:
        self._prefix = prefix.removesuffix("/") + "/"
        self._sign_in = sign_in
        self._token: str | None = None
        self._signing_in = threading.Lock()
        self._has_answered = False
        self._retries = urllib3.Retry(
            total=ATTEMPTS - 1,
            redirect=False,
            backoff_factor=0.5,
            status_forcelist=LATER,
            raise_on_status=False,
        )
        self._pool = urllib3.PoolManager(maxsize=FETCHING_THREADS, block=True, timeout=urllib3.Timeout(ANSWER_LIMIT_S))

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
        retries = self._retries if self._has_answered else self._retries.new(connect=FIRST_CONNECT_RETRIES)
        try:
            response = self._pool.request(
                "GET", url, headers=headers, retries=retries, preload_content=False, redirect=False
            )
            self._has_answered = True
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
