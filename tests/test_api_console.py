"""GraphiQL in a real browser, from the real server: it is drawn, offline and under its Content-Security-Policy."""

from pathlib import Path

import pytest

from tests.browser import CHROMIUM, Browser
from tests.service import serving
from tests.subscribers import sign_in
from tests.worlds import World

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium"),
]


def test_graphiql_is_drawn(tmp_path: Path) -> None:
    """Editors, the headers tab and the default query; no script fails and nothing is blocked."""
    with (
        World(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as world,
        serving(world, tmp_path, graphiql=True) as url,
        Browser(tmp_path / "browser") as browser,
    ):
        browser.open(f"{url}/graphql")
        browser.wait_for("document.querySelector('.graphiql-container .graphiql-execute-button') !== null")
        browser.wait_for("document.body.innerText.includes('Headers')")
        browser.wait_for("document.body.innerText.includes('Overview')")
        assert browser.complaints == []


def test_graphiql_follows_subscriptions(tmp_path: Path) -> None:
    """Over a WebSocket of the same host, with the session that stands in its Headers tab."""
    follow = """async (token) => {
        const query = "subscription { entryRecorded(after: 0) { seq kind } }";
        const definitions = [{ kind: "OperationDefinition", operation: "subscription" }];
        const headers = { Authorization: `Bearer ${token}` };
        const answers = await fetcher({ query }, { headers, documentAST: { kind: "Document", definitions } });
        for await (const answer of answers) return answer;
    }"""
    with (
        World(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as world,
        serving(world, tmp_path, graphiql=True) as url,
        Browser(tmp_path / "browser") as browser,
    ):
        member = world.add_member()
        browser.open(f"{url}/graphql")
        browser.wait_for("document.body.innerText.includes('Headers')")
        answer = browser.call(follow, sign_in(world, url, member))
        assert answer["data"] == {"entryRecorded": {"seq": 1, "kind": "OPEN_ACCOUNT"}}
        assert browser.complaints == []
