"""A real browser for tests: Chromium without a window, driven over its debugging pipe (Chrome DevTools Protocol).

Over a pipe, JSON messages with a zero byte between them are all there is to it: no driver program, no port. ::

    with Browser(folder) as browser:
        browser.open(url)
        browser.wait_for("document.body.dataset.ready")
        assert browser.run("document.title") == "…"
        assert browser.complaints == []
"""

import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, Self

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ANSWER_LIMIT_S = 60

OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    # No name but this machine's address is resolved, so a page that loads from elsewhere shows.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


class Browser:
    """A browser with one page. What it keeps is in ``folder``: another one on the same folder finds it there.

    ``complaints`` are uncaught exceptions, console errors and what was blocked or could not be loaded.
    """

    def __init__(self, folder: Path) -> None:
        assert CHROMIUM is not None
        read_by_browser, self._out = os.pipe()
        self._in, written_by_browser = os.pipe()
        # The protocol's file descriptors are 3 and 4, whatever numbers the pipes have here.
        command = 'exec "$@" 3<&"$FROM_TEST" 4>&"$TO_TEST"'
        self._process = subprocess.Popen(
            ["bash", "-c", command, "bash", CHROMIUM, *OPTIONS, f"--user-data-dir={folder}", "--remote-debugging-pipe"],  # noqa: S607 - the one in the path
            env={**os.environ, "FROM_TEST": str(read_by_browser), "TO_TEST": str(written_by_browser)},
            pass_fds=(read_by_browser, written_by_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(read_by_browser)
        os.close(written_by_browser)
        self._received = b""
        self._sent = 0
        self._session: str | None = None
        self.complaints: list[str] = []

    def __enter__(self) -> Self:
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._call(f"{domain}.enable")
        return self

    def __exit__(self, *_: object) -> None:
        self._session = None
        try:
            self._call("Browser.close")  # what pages keep is written to the folder by this
            self._process.wait(ANSWER_LIMIT_S)
        finally:
            self._process.kill()
            self._process.wait()
            os.close(self._in)
            os.close(self._out)

    def open(self, url: str) -> None:
        """Go to a page, and wait until it is loaded."""
        found = self._call("Page.navigate", url=url)
        assert "errorText" not in found, found
        self.wait_for("document.readyState === 'complete'")

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page, awaited if it is a promise."""
        found = self._call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in found:
            raise AssertionError(_exception(found["exceptionDetails"]))
        return found["result"].get("value")

    def wait_for(self, expression: str) -> Any:
        """The value of an expression as soon as it is true; the page's complaints when it never is."""
        give_up_at = time.monotonic() + ANSWER_LIMIT_S
        while not (value := self.run(expression)):
            if time.monotonic() > give_up_at:
                text = self.run("document.body.innerText")
                raise AssertionError(f"never true: {expression}\n{self.complaints}\n{text}")
            time.sleep(0.05)
        return value

    def call(self, function: str, *arguments: Any) -> Any:
        """What a JavaScript function returns for arguments that JSON can say."""
        return self.run(f"({function})({', '.join(map(json.dumps, arguments))})")

    def _call(self, method: str, **parameters: Any) -> Any:
        self._sent += 1
        message: dict[str, Any] = {"id": self._sent, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._out, data) :]
        while True:
            answer = self._receive()
            if answer.get("id") == self._sent:
                assert "error" not in answer, answer["error"]
                return answer["result"]
            self._note(answer)

    def _receive(self) -> Any:
        give_up_at = time.monotonic() + ANSWER_LIMIT_S
        while b"\0" not in self._received:
            ready, _, _ = select.select([self._in], [], [], max(give_up_at - time.monotonic(), 0))
            data = os.read(self._in, 1 << 20) if ready else b""
            assert data, "the browser does not answer"
            self._received += data
        message, _, self._received = self._received.partition(b"\0")
        return json.loads(message)

    def _note(self, event: Any) -> None:
        method, parameters = event.get("method"), event.get("params")
        if method == "Runtime.exceptionThrown":
            self.complaints.append(_exception(parameters["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and parameters["type"] in {"error", "warning"}:
            self.complaints.append(str([argument.get("value") for argument in parameters["args"]]))
        elif method == "Log.entryAdded" and parameters["entry"]["level"] in {"error", "warning"}:
            entry = parameters["entry"]
            self.complaints.append(f"{entry['text']} {entry.get('url', '')}")


def _exception(details: Any) -> str:
    return str(details.get("exception", {}).get("description", details.get("text")))
