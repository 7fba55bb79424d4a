"""What the suite shares: a client, containers that are removed afterwards, and a line per test for `cargo xtask`."""

import json
import os
import uuid

import docker
import pytest

IMAGE = "busybox:latest"
SECTION = "python"


@pytest.fixture(scope="session")
def client():
    client = docker.from_env(version="auto", timeout=30)
    client.images.get(IMAGE)
    yield client
    client.close()


@pytest.fixture
def name():
    """A name nobody else has."""
    return f"py-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def run(client):
    """Makes containers; those still there at the end of the test are removed."""
    made = []

    def make(command, *, start=True, **options):
        container = client.containers.create(options.pop("image", IMAGE), command, **options)
        made.append(container)
        if start:
            container.start()
        return container

    yield make
    for container in made:
        try:
            container.remove(force=True, v=True)
        except docker.errors.NotFound:
            pass


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
        "name": f"{SECTION}::{item.path.stem.removeprefix('test_')}::{item.name.removeprefix('test_')}",
        "outcome": report.outcome,
        "reason": reason,
        "seconds": report.duration,
    }
    with open(results, "a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
