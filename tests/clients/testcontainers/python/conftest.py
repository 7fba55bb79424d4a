"""A line per test for `cargo xtask`, and what tests share."""

import json
import os

import docker
import pytest

BUSYBOX = "busybox:latest"
REDIS = "redis:latest"
DATABASE = "mariadb:latest"


@pytest.fixture(scope="session")
def engine():
    """The engine beside testcontainers, to see what it made and that it is gone."""
    client = docker.from_env()
    yield client
    client.close()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    results = os.environ.get("FERRY_TEST_RESULTS")
    # A test counts once: by its call, unless its set-up or tear-down went wrong.
    if not results or (report.when != "call" and report.passed):
        return
    reason = None
    if report.skipped:
        reason = report.longrepr[2].removeprefix("Skipped: ")
    elif report.failed:
        reason = str(report.longrepr).splitlines()[-1]
    line = {
        "name": f"{item.path.stem.removeprefix('test_')}::{item.name.removeprefix('test_')}",
        "outcome": report.outcome,
        "reason": reason,
        "seconds": report.duration,
    }
    with open(results, "a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
