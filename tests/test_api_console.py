"""GraphiQL in a real browser, from the real server: it is drawn, offline and under its Content-Security-Policy."""

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from api.app import create_app
from api.settings import Settings
from ledger.keyring import save_private_key
from tests.worlds import World

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
STARTUP_LIMIT_S = 30

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium"),
]


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """The address of a server with a ledger of its own, on a free port of this machine."""
    with World(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as world, socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        save_private_key(tmp_path / "log.pem", world.log_key, None)
        settings = Settings(data=tmp_path, database_url=world.url, log_key_file=tmp_path / "log.pem")
        server = uvicorn.Server(uvicorn.Config(create_app(settings, world.clock), log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        give_up_at = time.monotonic() + STARTUP_LIMIT_S
        while not server.started and time.monotonic() < give_up_at:
            time.sleep(0.02)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join()


def browse(folder: Path, url: str) -> tuple[str, str]:
    """The page as it stands after its scripts have run, and what the browser had to say."""
    assert CHROMIUM is not None
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
    ]
    # No name but this machine's address is resolved, so a page that loads from elsewhere shows here.
    options += ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", f"--user-data-dir={folder / 'browser'}"]
    options += ["--enable-logging=stderr", "--virtual-time-budget=15000", "--dump-dom", url]
    done = subprocess.run([CHROMIUM, *options], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, done.stderr


def test_graphiql_is_drawn(address: str, tmp_path: Path) -> None:
    """Editors, the headers tab and the default query; no script fails and nothing is blocked."""
    page, said = browse(tmp_path, f"{address}/graphql")
    assert "graphiql-container" in page
    assert "graphiql-execute-button" in page
    assert "Headers" in page
    assert "Overview" in page
    assert "CONSOLE" not in said, said
