"""Sending to strangers' addresses: what is refused, what is verified, and how little they can do with an answer."""

import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from api.webhook_client import MAX_URL, Answer, UrlError, WebhookClient, is_global
from tests.receivers import Receiver, make_certificate

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)
BODY = b'{"type":"webhook.test"}'
HEADERS = {"webhook-id": "msg_1"}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def local(**options: Any) -> WebhookClient:
    """A client that may send to loopback, and in the clear."""
    return WebhookClient(LOOPBACK, **{"allow_http": True, **options})


def post(client: WebhookClient, url: str) -> Answer:
    with client.connect(url) as channel:
        return channel.post(HEADERS, BODY)


def resolving(*answers: list[str]) -> Callable[[str, int], list[str]]:
    """A resolver that gives each answer in turn, the last for ever."""
    left = list(answers)

    def resolve(_host: str, _port: int) -> list[str]:
        return left.pop(0) if len(left) > 1 else left[0]

    return resolve


# Which addresses


@pytest.mark.parametrize(
    "text",
    [
        "0.0.0.0",  # noqa: S104 - it is not bound to
        "0.1.2.3",
        "10.1.2.3",
        "100.64.0.1",
        "127.0.0.1",
        "127.9.9.9",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.8",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.51.100.7",
        "203.0.113.9",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::7f00:1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::7f00:1",
        "64:ff9b::a00:1",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "2002:a00:1::1",
        "3fff::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
    ],
)
def test_address_that_is_not_public_is_refused(text: str) -> None:
    """Wherever it stands: in the URL, or as what a name resolves to, alone or beside a public one."""
    assert not is_global(ipaddress.ip_address(text))
    host = f"[{text}]" if ":" in text else text
    with pytest.raises(UrlError):
        WebhookClient().check(f"https://{host}/hook")
    for found in ([text], ["93.184.216.34", text], [text, "93.184.216.34"]):
        answer = post(WebhookClient(resolve=resolving(found)), "https://shop.example/hook")
        assert answer == Answer(error="the name has an address that is not one of the public network")


@pytest.mark.parametrize(
    "text", ["1.1.1.1", "93.184.216.34", "172.32.0.1", "2606:2800:220:1::1", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_public_address_is_allowed(text: str) -> None:
    """IPv4 within IPv6 is judged by the IPv4 address."""
    assert is_global(ipaddress.ip_address(text))
    assert WebhookClient().allows(ipaddress.ip_address(text))


def test_network_of_the_setting_is_allowed() -> None:
    """And nothing beside it; an address written in IPv6 is the same one."""
    client = WebhookClient([ipaddress.ip_network("10.1.0.0/16"), ipaddress.ip_network("fd00:1::/32")])
    allowed = ["10.1.2.3", "::ffff:10.1.2.3", "fd00:1::5", "8.8.8.8"]
    refused = ["10.2.0.1", "::ffff:10.2.0.1", "fd00:2::5", "127.0.0.1"]
    assert [client.allows(ipaddress.ip_address(text)) for text in allowed + refused] == [True] * 4 + [False] * 4


@pytest.mark.parametrize("host", ["localhost", "2130706433", "0x7f.1", "127.1", "0177.0.0.1", "[::ffff:7f00:1]"])
def test_loopback_by_another_name_is_not_reached(receiver: Receiver, host: str) -> None:
    """By this machine's own resolver, which knows numbers in many spellings."""
    answer = post(WebhookClient(allow_http=True), f"http://{host}:{receiver.port}/hook")
    assert answer.status_code is None
    assert not answer.is_delivered
    assert receiver.messages == []


def test_name_is_resolved_once_and_the_checked_address_is_used(receiver: Receiver) -> None:
    """A name that means something else a moment later (DNS rebinding) changes nothing, for one connection."""
    asked: list[tuple[str, int]] = []

    def rebinding(host: str, port: int) -> list[str]:
        asked.append((host, port))
        return ["127.0.0.1"] if len(asked) == 1 else ["169.254.169.254"]

    client = local(resolve=rebinding)
    url = f"http://rebind.example:{receiver.port}/hook?a=1"
    with client.connect(url) as channel:
        assert channel.post(HEADERS, BODY).is_delivered
        assert channel.post(HEADERS, BODY).is_delivered
    assert asked == [("rebind.example", receiver.port)]
    for message in receiver.messages:
        assert message.headers["host"] == f"rebind.example:{receiver.port}"
        assert message.path == "/hook?a=1"
    assert post(client, url).error == "the name has an address that is not one of the public network"
    assert len(receiver.messages) == 2


def test_no_name_is_looked_up_but_by_the_resolver_that_is_given(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What connects is told an address: the system's resolver sees only numbers."""
    seen: list[Any] = []
    resolve = socket.getaddrinfo

    def watching(host: Any, *arguments: Any, **options: Any) -> Any:
        seen.append(host)
        return resolve(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", watching)
    assert post(local(resolve=resolving(["127.0.0.1"])), f"http://shop.example:{receiver.port}/hook").is_delivered
    assert set(seen) <= {"127.0.0.1"}


def test_address_that_does_not_answer_is_passed_over(receiver: Receiver) -> None:
    """The next of the name's addresses is tried."""
    answer = post(local(resolve=resolving(["127.0.0.2", "127.0.0.1"])), f"http://shop.example:{receiver.port}/hook")
    assert answer == Answer(status_code=204)


@pytest.mark.parametrize("failure", [socket.gaierror(-2, "unknown"), UnicodeError("label too long"), TimeoutError()])
def test_name_that_does_not_resolve_is_a_failure(failure: Exception) -> None:
    def resolve(_host: str, _port: int) -> list[str]:
        raise failure

    assert post(WebhookClient(resolve=resolve), "https://nowhere.example/") == Answer(error="the name does not resolve")
    assert post(WebhookClient(resolve=resolving([])), "https://nowhere.example/").error == "the name does not resolve"


# Which URLs


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://shop.example/hook", "https"),
        ("ftp://shop.example/hook", "https"),
        ("shop.example/hook", "https"),
        ("file:///etc/passwd", "https"),
        ("https://", "no address"),
        ("https:///hook", "no address"),
        ("https://shop.example:0/", "no address"),
        ("https://shop.example:99999/", "no address"),
        ("https://user:pass@shop.example/", "no user"),
        ("https://shop.example@10.0.0.1/", "no user"),
        ("https://shop.example/#top", "fragment"),
        ("https://shop.example\\@10.0.0.1/", "printable ASCII"),
        ("https://shop.example/a b", "printable ASCII"),
        ("https://shop.example/\r\nX: y", "printable ASCII"),
        ("https://bücher.example/", "printable ASCII"),
        ("https://shop.example/" + "a" * MAX_URL, "at most"),
        ("", "https"),
    ],
)
def test_url_that_cannot_be_one_is_refused(url: str, said: str) -> None:
    """When it is given, and when it is used all the same."""
    with pytest.raises(UrlError, match=said):
        WebhookClient().check(url)
    assert not post(WebhookClient(resolve=resolving(["8.8.8.8"])), url).is_delivered


@pytest.mark.parametrize(
    "url",
    [
        "https://shop.example",
        "https://shop.example:8443/a?b=c%20d",
        "https://xn--bcher-kva.example/",
        "https://1.1.1.1/",
    ],
)
def test_url_is_accepted(url: str) -> None:
    WebhookClient().check(url)


def test_clear_text_is_for_who_allows_it() -> None:
    WebhookClient(allow_http=True).check("http://shop.example/")


# What is sent, and what becomes of it


def test_message_arrives_as_it_is(receiver: Receiver) -> None:
    assert post(local(), receiver.url) == Answer(status_code=204)
    (message,) = receiver.messages
    assert message.body == BODY
    assert message.headers["content-type"] == "application/json"
    assert message.headers["webhook-id"] == "msg_1"
    assert message.headers["user-agent"].startswith("Guerdon")


def test_connection_is_used_again(receiver: Receiver) -> None:
    """For messages of one channel; a receiver that closes it gets another one."""
    receiver.answers = [200, 200, (200, {"connection": "close"}), 200]
    with local().connect(receiver.url) as channel:
        for _ in range(4):
            assert channel.post(HEADERS, BODY).is_delivered
    ports = [message.port for message in receiver.messages]
    assert ports[0] == ports[1] == ports[2] != ports[3]


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_success_is_any_2xx(receiver: Receiver, status: int) -> None:
    receiver.answers = [status]
    assert post(local(), receiver.url) == Answer(status_code=status)


@pytest.mark.parametrize("status", [400, 401, 404, 410, 429, 500, 503])
def test_anything_else_is_a_failure(receiver: Receiver, status: int) -> None:
    receiver.answers = [(status, {"retry-after": "7"})]
    assert post(local(), receiver.url) == Answer(status_code=status, error=f"answered {status}", retry_after="7")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_is_not_followed(receiver: Receiver, status: int) -> None:
    with Receiver() as elsewhere:
        receiver.answers = [(status, {"location": elsewhere.url})]
        answer = post(local(), receiver.url)
        assert answer.status_code == status
        assert answer.error == f"answered {status}: redirects are not followed"
        assert elsewhere.messages == []


def test_proxy_of_the_environment_is_not_used(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would resolve the name anew."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert post(local(), receiver.url).is_delivered


def drip(handler: BaseHTTPRequestHandler) -> None:
    """Answer a byte at a time, for ever."""
    try:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while True:
            handler.wfile.write(b"a")
            time.sleep(0.02)
    except OSError:
        handler.close_connection = True


def hang(handler: BaseHTTPRequestHandler) -> None:
    """Answer nothing."""
    handler.rfile.read(1)
    handler.close_connection = True


def flood(handler: BaseHTTPRequestHandler) -> None:
    """A success with a body without an end."""
    try:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            handler.wfile.write(b"400\r\n" + b"a" * 0x400 + b"\r\n")
    except OSError:
        handler.close_connection = True


def drip_body(handler: BaseHTTPRequestHandler) -> None:
    """A success whose body comes a byte at a time, behind a connection that is said to be closed."""
    try:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        while True:
            handler.wfile.write(b"a")
            time.sleep(0.02)
    except OSError:
        handler.close_connection = True


def nonsense(handler: BaseHTTPRequestHandler) -> None:
    """No HTTP."""
    handler.wfile.write(b"220 mail.example ESMTP\r\n" * 3)
    handler.close_connection = True


def cut(handler: BaseHTTPRequestHandler) -> None:
    """The end, without an answer."""
    handler.close_connection = True


@pytest.mark.parametrize("answer", [drip, hang])
def test_answer_has_to_come_in_time(receiver: Receiver, answer: Callable[..., None]) -> None:
    """Counted over all of it: a byte now and then is no answer."""
    receiver.answers = [answer]
    began = time.monotonic()
    assert post(local(answer_limit_s=0.3), receiver.url) == Answer(error="no answer within 0.3 s")
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("answer", [flood, drip_body])
def test_body_of_an_answer_is_not_waited_for(receiver: Receiver, answer: Callable[..., None]) -> None:
    """It is a success, whatever comes behind it."""
    receiver.answers = [answer]
    began = time.monotonic()
    assert post(local(answer_limit_s=0.3), receiver.url) == Answer(status_code=200)
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("answer", [nonsense, cut])
def test_broken_answer_is_a_failure(receiver: Receiver, answer: Callable[..., None]) -> None:
    """In words of our own: what a stranger says is not repeated."""
    receiver.answers = [answer]
    assert post(local(), receiver.url) == Answer(error="the connection ended before an answer")


def test_nobody_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert post(local(), f"http://127.0.0.1:{port}/") == Answer(error="nobody answers")


def test_silent_handshake_has_to_end_in_time() -> None:
    """A listener that takes the connection and never speaks TLS."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        answer = post(local(answer_limit_s=0.3), f"https://127.0.0.1:{port}/")
    assert answer == Answer(error="no answer within 0.3 s")


def test_closing_ends_what_is_under_way(receiver: Receiver) -> None:
    """And nothing begins after it."""
    receiver.answers = [hang]
    client = local(answer_limit_s=60)
    answers: list[Answer] = []
    thread = threading.Thread(target=lambda: answers.append(post(client, receiver.url)))
    thread.start()
    while not receiver.messages:
        time.sleep(0.01)
    client.close()
    thread.join(30)
    assert not answers[0].is_delivered
    assert not post(client, receiver.url).is_delivered
    assert len(receiver.messages) == 1


def hanging(asked: threading.Event, end: threading.Event) -> Callable[[str, int], list[str]]:
    """A resolver that answers when nobody waits any more."""

    def resolve(_host: str, _port: int) -> list[str]:
        asked.set()
        end.wait(60)
        return ["127.0.0.1"]

    return resolve


def test_name_has_to_be_found_in_time(receiver: Receiver) -> None:
    """A name server may be as slow as a receiver; what it says too late is not used."""
    end = threading.Event()
    client = local(resolve=hanging(threading.Event(), end), answer_limit_s=0.2)
    answer = post(client, receiver.url.replace("127.0.0.1", "slow.example"))
    end.set()
    assert answer == Answer(error="no answer within 0.2 s")
    assert receiver.messages == []


def test_closing_does_not_wait_for_a_name(receiver: Receiver) -> None:
    asked, end = threading.Event(), threading.Event()
    client = local(resolve=hanging(asked, end), answer_limit_s=60)
    answers: list[Answer] = []
    thread = threading.Thread(target=lambda: answers.append(post(client, "http://slow.example/")))
    thread.start()
    assert asked.wait(30)
    client.close()
    thread.join(30)
    end.set()
    assert len(answers) == 1
    assert not answers[0].is_delivered


# TLS


def test_certificate_is_verified_for_the_name(tmp_path: Path) -> None:
    """Though the connection is made to an address."""
    server, trusting = make_certificate(tmp_path, "shop.example")
    with Receiver(server) as receiver:
        resolve = resolving(["127.0.0.1"])
        client = WebhookClient(LOOPBACK, resolve=resolve, tls=trusting)
        assert post(client, f"https://shop.example:{receiver.port}/hook") == Answer(status_code=204)
        assert post(client, f"https://SHOP.example:{receiver.port}/hook") == Answer(status_code=204)
        other = post(client, f"https://other.example:{receiver.port}/hook")
        assert other.error is not None
        assert other.error.startswith("the certificate is not valid for the name")
        assert len(receiver.messages) == 2


def test_certificate_nobody_trusts_is_refused(tmp_path: Path) -> None:
    """By the system's own list of authorities, when nothing else is said."""
    server, _ = make_certificate(tmp_path, "shop.example")
    with Receiver(server) as receiver:
        client = WebhookClient(LOOPBACK, resolve=resolving(["127.0.0.1"]))
        answer = post(client, f"https://shop.example:{receiver.port}/hook")
        assert "certificate" in str(answer.error)
        assert receiver.messages == []


def test_certificate_of_an_address_is_verified(tmp_path: Path) -> None:
    server, trusting = make_certificate(tmp_path, "127.0.0.1")
    with Receiver(server) as receiver:
        assert post(WebhookClient(LOOPBACK, tls=trusting), receiver.url) == Answer(status_code=204)


def test_clear_text_behind_https_is_a_failure(receiver: Receiver) -> None:
    answer = post(local(tls=ssl.create_default_context()), f"https://127.0.0.1:{receiver.port}/hook")
    assert not answer.is_delivered
    assert receiver.messages == []
