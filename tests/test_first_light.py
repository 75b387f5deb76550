"""The main job, end to end: real purchases become points, a second run goes on from there, the API serves them."""

import csv
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from decimal import ROUND_FLOOR, Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "scripts" / "cdnow" / "CDNOW_sample.txt"
START_LIMIT_S = 60


class Runs(NamedTuple):
    """What two runs with the same data folder printed."""

    data: Path
    first: str
    second: str


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, str(ROOT / "scripts" / "first_light.py"), *map(str, arguments)]


def environment() -> dict[str, str]:
    """This environment without settings of its own; the project is found where this test is."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GUERDON_")}
    return kept | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}


def run(data: Path, **settings: str) -> str:
    """Run the main job to its end; it must succeed without a complaint."""
    done = subprocess.run(
        command("--no-serve", "--data", data),
        capture_output=True,
        text=True,
        env=environment() | settings,
        cwd=data.parent,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    data = tmp_path_factory.mktemp("first-light") / "data"
    first = run(data)
    return Runs(data, first, run(data))


def naive_points(amount: Decimal) -> int:
    """2 points for every whole unit over 100, 1 for every whole unit from 50 to 100."""
    whole = int(amount.to_integral_value(ROUND_FLOOR))
    return 2 * max(whole - 100, 0) + max(min(whole, 100) - 50, 0)


def naive_report() -> dict[tuple[str, str], tuple[int, int]]:
    """Purchases and points by customer and month, and in total, straight from the sample."""
    counts: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for line in SAMPLE.read_text().splitlines():
        customer, _, date, _, amount = line.split()
        for month in (f"{date[:4]}-{date[4:6]}", "total"):
            counts[(customer, month)][0] += 1
            counts[(customer, month)][1] += naive_points(Decimal(amount))
    return {key: (purchases, points) for key, (purchases, points) in counts.items()}


def without_changes(text: str) -> str:
    """A run's report, without what was recorded now or earlier."""
    return text[text.index("CDNOW earned per customer") :]


def test_published_example_is_computed_alike() -> None:
    """120.00 gives 2 × 20 + 1 × 50 = 90, as the exercise says."""
    assert naive_points(Decimal("120.00")) == 90
    assert [naive_points(Decimal(a)) for a in ("50.99", "51.00", "100.99", "101.00", "0.00")] == [0, 1, 50, 52, 0]


def test_first_run_shows_the_figures_of_the_sample(runs: Runs) -> None:
    """6,919 purchases of 2,357 customers earn 63,131 points; the months show theirs."""
    assert "6,919 purchases, 2,357 customers, 63,131 points earned" in runs.first
    assert "6,919 of 2,357 customers: 6,919 recorded now, 0 in an earlier run" in runs.first
    months = dict(re.findall(r"│ (\d{4}-\d{2}) │ +[\d,]+ │ +([\d,]+) │\n", runs.first))
    assert [months[m] for m in ("1997-01", "1997-02", "1997-03")] == ["6,322", "11,878", "14,138"]
    assert runs.first.endswith("every invariant holds\n")


def test_members_move_points(runs: Runs) -> None:
    """Transfers and redemptions are recorded, and what was spent no longer circulates."""
    assert "transfers    11 recorded now, 0 in an earlier run" in runs.first
    assert "redemptions  7 recorded now, 0 in an earlier run" in runs.first
    assert "63,131 points earned; 2,050 spent, 61,111 in circulation" in runs.first


def test_merchants_exchange_and_settle(runs: Runs) -> None:
    """Points become a café's and back, some are spent there; three claims are netted into one payment."""
    assert "exchanges    2 recorded now, 0 in an earlier run" in runs.first
    assert "at partners  1 recorded now, 0 in an earlier run" in runs.first
    for run in runs.first, runs.second:
        rows = re.findall(r"│ ([A-Z][a-z ]+)[^│]*│ +([\d.]*) │ +([\d.]*) │ +([\d.]*) │", run)
        totals = {what.strip(): amounts for what, *amounts in rows}
        assert totals["Claim"] == ["3.00", "0.50", ""]
        assert totals["Payment by netting"] == ["2.50", "0.00", ""]
        assert totals["Settlement"] == ["0.00", "2.50", ""]
        assert totals["Closing balance"] == ["", "", "0.00"]


def test_second_run_records_nothing_new(runs: Runs) -> None:
    """It finds its data, says so, and ends at the same root with the same report."""
    assert "6,919 of 2,357 customers: 0 recorded now, 6,919 in an earlier run" in runs.second
    assert "transfers    0 recorded now, 11 in an earlier run" in runs.second
    assert "redemptions  0 recorded now, 7 in an earlier run" in runs.second
    assert without_changes(runs.second) == without_changes(runs.first)
    assert re.search(r"2,461 entries, root [0-9a-f]{64}\n", runs.first)


def test_points_of_every_customer_and_month_are_those_of_naive_arithmetic(runs: Runs) -> None:
    """A computation that shares no code with the ledger comes to the same points, line by line."""
    with (runs.data / "points.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    reported = {(row["customer"], row["month"]): (int(row["purchases"]), int(row["points"])) for row in rows}
    assert len(reported) == len(rows)
    expected = naive_report()
    assert reported == expected
    totals = [figures for (_, month), figures in expected.items() if month == "total"]
    assert (len(totals), sum(p for p, _ in totals), sum(p for _, p in totals)) == (2357, 6919, 63131)


def test_insight_is_that_of_a_walk_over_the_sample(runs: Runs) -> None:
    """Members, newcomers and who of them came back, purchases and their amounts, month by month of 1997 and 1998."""
    sold = [line.split() for line in SAMPLE.read_text().splitlines()]
    months: dict[str, set[str]] = defaultdict(set)
    for customer, _, day, _, _ in sold:
        months[customer].add(f"{day[:4]}-{day[4:6]}")
    period = ["--asset", "CDNOW", "--from", "1997-01-01", "--through", "1998-06-30", "--format", "json"]
    done = subprocess.run(
        [sys.executable, "-c", "from api.cli import main; main()", "--data", str(runs.data), "insight", *period],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=60,
        check=True,
    )
    found = json.loads(done.stdout)
    assert sum(each["purchases"] for each in found["periods"]) == len(sold) == 6_919
    assert found["periods"][-1]["members"] == len(months) == 2_357
    for each in found["periods"]:
        month = each["first_day"][:7]
        mine = [amount for _, _, day, _, amount in sold if day.startswith(month.replace("-", ""))]
        assert (each["purchases"], each["amount"]) == (len(mine), sum(int(Decimal(amount) * 100) for amount in mine))
        assert each["new"] == sum(min(active) == month for active in months.values())
        assert each["buyers"] == sum(month in active for active in months.values())
    for cohort in found["cohorts"]:
        newcomers = [active for active in months.values() if min(active) == cohort["month"]]
        later = [each["first_day"][:7] for each in found["periods"] if each["first_day"][:7] >= cohort["month"]]
        assert cohort["members"] == len(newcomers)
        assert cohort["active"] == [sum(month in active for active in newcomers) for month in later]


def test_files_with_keys_and_customers_are_the_owners_alone(runs: Runs) -> None:
    """Private keys, and which customer has which account, are readable by nobody else."""
    private = [runs.data / "customers.csv", runs.data / "points.csv", *(runs.data / "keys").iterdir()]
    private += runs.data.glob("ledger.sqlite*")
    assert len(private) >= 8
    assert {path.stat().st_mode & 0o777 for path in private} == {0o600}


def test_settings_of_another_ledger_do_not_lead_the_demonstration_there(runs: Runs, tmp_path: Path) -> None:
    """Whoever has a production ledger's settings in their shell finds it untouched: the folder alone counts."""
    elsewhere = tmp_path / "production"
    out = run(
        runs.data,
        GUERDON_DATA=str(elsewhere),
        GUERDON_DATABASE_URL=f"sqlite:///{elsewhere / 'ledger.sqlite'}",
        GUERDON_ORIGIN="ledger.example/production",
        GUERDON_LOG_KEY_FILE=str(elsewhere / "log.pem"),
        GUERDON_KEY_PASSPHRASE_FILE=str(elsewhere / "passphrase"),
        GUERDON_READERS="1",
    )
    assert without_changes(out) == without_changes(runs.second)
    assert list(tmp_path.iterdir()) == []


# Serving


@pytest.fixture
def served(runs: Runs) -> Iterator[str]:
    """The address of the API that a third run serves, until it is stopped by its process id."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = runs.data.parent / "served.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            command("--data", runs.data, "--port", str(port)), stdout=output, stderr=output, env=environment()
        )
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + START_LIMIT_S
        while not answers(url):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        status = process.wait(30)
    assert status in {0, -signal.SIGTERM}, log.read_text()
    assert "Traceback" not in log.read_text()
    assert not answers(url)


def answers(url: str) -> bool:
    try:
        return bool(get(f"{url}/healthz") == {"status": "ok"})
    except urllib.error.URLError:
        return False


def get(url: str, body: Any = None) -> Any:
    """The JSON an address answers; a body is posted."""
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", "Accept": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310 - an address of this test's own
        return json.load(response)


def test_served_ledger_answers(runs: Runs, served: str) -> None:
    """Health, readiness and a GraphQL query tell of the ledger the runs made; stopped, it lets go of everything."""
    assert get(f"{served}/healthz") == {"status": "ok"}
    answer = get(f"{served}/graphql", {"query": "{ ledger { origin } checkpoint { size root } }"})
    assert "errors" not in answer, answer
    assert answer["data"]["ledger"]["origin"] == "localhost/first-light"
    assert answer["data"]["checkpoint"]["size"] == 2461
    assert f"root {answer['data']['checkpoint']['root']}" in runs.first
