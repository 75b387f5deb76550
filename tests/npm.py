"""Packages of npm in a test: clients and tools that nobody here wrote, at exact versions, run by node.

::

    folder = npm_packages("graphql-ws@6.4.2", "ws@8.23.0")
    done = run_node(folder, SCRIPT, url)

A set of packages is installed once and kept for later runs. Scripts are modules (ESM) handed over on standard input,
so nothing is written beside the packages and several tests may share a folder.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

CACHE = Path(__file__).parent.parent / ".pytest_cache" / "npm"
INSTALL_LIMIT_S = 240
RUN_LIMIT_S = 120

_EXACT = re.compile(r"(@[a-z0-9._-]+/)?[a-z0-9._-]+@[0-9]+\.[0-9]+\.[0-9]+([-.+][A-Za-z0-9.-]+)?")


def npm_packages(*packages: str) -> Path:
    """A folder with these packages, each ``name@version``; the test is skipped where npm is absent, never in CI."""
    for package in packages:
        assert _EXACT.fullmatch(package), f"{package} is not name@exact-version"
    npm = shutil.which("npm")
    if npm is None:
        if os.environ.get("CI"):
            pytest.fail("npm is missing: CI runs the outside clients")
        pytest.skip("npm is missing")
    wanted = " ".join(sorted(packages))
    folder = CACHE / hashlib.sha256(wanted.encode()).hexdigest()[:16]
    CACHE.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of the workers of one run, one installs and the others wait
        if not (folder / "installed").exists():
            _install(npm, folder, sorted(packages))
            (folder / "installed").write_text(wanted + "\n", encoding="utf-8")
    return folder


def _install(npm: str, folder: Path, packages: list[str]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "package.json").write_text('{"private": true, "type": "module"}\n', encoding="utf-8")
    flags = ["--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts", "--loglevel=error"]
    done = subprocess.run(
        [npm, "install", *flags, *packages],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=INSTALL_LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]


def start_node(folder: Path, script: str, *arguments: str) -> subprocess.Popen[str]:
    """A running script whose imports are the folder's packages; ``process.argv.slice(2)`` are the arguments."""
    node = shutil.which("node")
    assert node is not None, "npm is there and node is not"
    process = subprocess.Popen(
        [node, "--input-type=module", "-", *arguments],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write(script)
    process.stdin.close()
    process.stdin = None  # communicate() would use it again
    return process


def run_node(folder: Path, script: str, *arguments: str, timeout_s: float = RUN_LIMIT_S) -> str:
    """What a script prints; its errors are shown when it fails, and it is killed when it takes too long."""
    process = start_node(folder, script, *arguments)
    try:
        output, errors = process.communicate(timeout=timeout_s)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, f"{output[-4000:]}\n{errors[-4000:]}"
    return output
