"""A receiver of webhooks in a test: a real HTTP server on loopback that answers as a test wants, and remembers.

::

    with Receiver() as receiver:
        receiver.answers = [500, 204]    # then 204 for ever
        ...
        receiver.verified(secret)        # what the library's own verifier makes of all that came
"""

import datetime
import ipaddress
import json
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from standardwebhooks import Webhook


class Message(NamedTuple):
    """What came in, and on which connection."""

    path: str
    headers: dict[str, str]
    body: bytes
    port: int

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def data(self) -> Any:
        return json.loads(self.body)["data"]

    @property
    def type(self) -> str:
        return str(json.loads(self.body)["type"])


Step = int | tuple[int, dict[str, str]] | Callable[[BaseHTTPRequestHandler], None]
"""How to answer: a status, one with headers, or by hand."""


class Receiver:
    """A server on a port of its own; with ``tls``, behind a certificate."""

    def __init__(self, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self.messages: list[Message] = []
        self.answers: list[Step] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                receiver._take(self)

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                """Connections that are cut are what is tested."""

        self._server = Server((host, 0), Handler)
        self.port = int(self._server.server_address[1])
        self.url = f"http{'s' if tls else ''}://{host}:{self.port}/hook"
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> "Receiver":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _take(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["content-length"]))
        headers = {name.lower(): value for name, value in handler.headers.items()}
        self.messages.append(Message(handler.path, headers, body, handler.client_address[1]))
        step = self.answers.pop(0) if self.answers else 204
        if callable(step):
            step(handler)
            return
        status, more = step if isinstance(step, tuple) else (step, {})
        handler.send_response(status)
        for name, value in more.items():
            handler.send_header(name, value)
        if status != 204:
            handler.send_header("content-length", "2")
        handler.end_headers()
        if status != 204:
            handler.wfile.write(b"ok")

    def verified(self, secret: str) -> list[Any]:
        """The contents of all messages, in order; each must verify with the secret by the library's own verifier."""
        return [Webhook(secret).verify(message.body, message.headers) for message in self.messages]

    @property
    def seqs(self) -> list[int]:
        """The entries told of, in order, as often as they were."""
        return [message.data["seq"] for message in self.messages]


def make_certificate(folder: Path, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A certificate for a name or address, signed by itself: how a server shows it, and how a client trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    try:
        shown: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        shown = x509.DNSName(name)
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([shown]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(private + certificate.public_bytes(Encoding.PEM))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path)
    return server, ssl.create_default_context(cadata=certificate.public_bytes(Encoding.PEM).decode())
