"""docker-py: containers from create to remove."""

import time

import docker
import pytest


def test_run_returns_the_output(client):
    assert client.containers.run("busybox", ["echo", "hello"], remove=True) == b"hello\n"


def test_run_raises_the_exit_code(client):
    with pytest.raises(docker.errors.ContainerError) as error:
        client.containers.run("busybox", ["sh", "-c", "echo oops >&2; exit 3"], remove=True)
    assert error.value.exit_status == 3 and b"oops" in error.value.stderr


def test_missing_images_and_commands(client, run):
    with pytest.raises(docker.errors.ImageNotFound):
        client.containers.create("no-such-image-here:1")
    with pytest.raises(docker.errors.APIError) as error:
        run(["/no/such/program"])
    assert "no such file or directory" in str(error.value)


def test_life(client, run, name):
    container = run(["sleep", "600"], start=False, name=name, labels={"suite": name})
    assert container.status == "created"
    container.start()
    container.reload()
    assert container.status == "running" and container.attrs["State"]["Pid"] > 0
    container.pause()
    container.reload()
    assert container.status == "paused"
    container.unpause()
    container.rename(name + "-renamed")
    container.reload()
    assert container.name == name + "-renamed"
    started = container.attrs["State"]["StartedAt"]
    container.restart(timeout=0)
    container.reload()
    assert container.attrs["State"]["StartedAt"] > started
    container.stop(timeout=0)
    assert container.wait()["StatusCode"] == 137
    container.start()
    container.kill(signal="SIGKILL")
    assert container.wait()["StatusCode"] == 137
    container.remove()
    with pytest.raises(docker.errors.NotFound):
        client.containers.get(container.id)


def test_start_and_stop_twice_is_no_error(run):
    container = run(["sleep", "600"])
    container.start()
    container.stop(timeout=0)
    container.stop(timeout=0)


def test_conflicts(client, run, name):
    container = run(["sleep", "600"], name=name)
    with pytest.raises(docker.errors.APIError) as error:
        client.containers.create("busybox", name=name)
    assert error.value.status_code == 409 and "is already in use by container" in error.value.explanation
    with pytest.raises(docker.errors.APIError) as error:
        container.remove()
    assert error.value.status_code == 409


def test_lists_and_filters(client, run, name):
    running = run(["sleep", "600"], name=name, labels={"suite": name})
    ended = run(["true"], labels={"suite": name})
    ended.wait()
    ids = {c.id for c in client.containers.list(filters={"label": f"suite={name}"})}
    assert ids == {running.id}
    every = client.containers.list(all=True, filters={"label": f"suite={name}"})
    assert {c.id for c in every} == {running.id, ended.id}
    exited = client.containers.list(all=True, filters={"label": f"suite={name}", "status": "exited"})
    assert [c.id for c in exited] == [ended.id]
    assert [c.id for c in client.containers.list(filters={"name": f"^/?{name}$"})] == [running.id]
    assert client.containers.list(filters={"name": f"^{name[:-1]}$"}) == []
    with pytest.raises(docker.errors.APIError) as error:
        client.containers.list(filters={"bogus": "x"})
    assert error.value.status_code == 400


def test_limits_and_update(run):
    container = run(["sleep", "600"], mem_limit="32m", cpu_shares=512, pids_limit=50)
    assert container.attrs["HostConfig"]["Memory"] == 32 << 20
    container.update(mem_limit="64m", memswap_limit="64m", restart_policy={"Name": "on-failure", "MaximumRetryCount": 2})
    container.reload()
    assert container.attrs["HostConfig"]["Memory"] == 64 << 20
    assert container.attrs["HostConfig"]["RestartPolicy"]["Name"] == "on-failure"


def test_environment_and_options(client):
    output = client.containers.run(
        "busybox",
        ["sh", "-c", "echo $GREETING; id -u; pwd; hostname; cat /proc/self/status | grep -c Seccomp"],
        environment={"GREETING": "good morning"},
        user="1000",
        working_dir="/tmp",
        hostname="here",
        tmpfs={"/scratch": "size=1m"},
        ulimits=[docker.types.Ulimit(name="nofile", soft=64, hard=64)],
        remove=True,
    )
    assert output.splitlines()[:4] == [b"good morning", b"1000", b"/tmp", b"here"]


def test_top_and_changes(run):
    container = run(["sh", "-c", "echo x > /tmp/made; rm /etc/group; sleep 600"])
    deadline = time.monotonic() + 10
    while not any(c["Path"] == "/etc/group" for c in container.diff() or []):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    changes = {c["Path"]: c["Kind"] for c in container.diff()}
    assert changes["/tmp/made"] == 1 and changes["/etc/group"] == 2 and changes["/tmp"] == 0
    top = container.top()
    assert "PID" in top["Titles"] and any("sleep" in " ".join(row) for row in top["Processes"])


def test_wait_conditions(client, run):
    container = run(["sh", "-c", "exit 5"], start=False)
    container.start()
    assert container.wait(condition="not-running")["StatusCode"] == 5


def test_prune(client, run, name):
    container = run(["true"], labels={"suite": name})
    container.wait()
    pruned = client.containers.prune(filters={"label": f"suite={name}"})
    assert pruned["ContainersDeleted"] == [container.id]


def test_healthcheck(run):
    check = {"test": ["CMD", "true"], "interval": 200_000_000, "retries": 1}
    container = run(["sleep", "600"], healthcheck=check)
    deadline = time.monotonic() + 15
    while container.health != "healthy":
        assert time.monotonic() < deadline, container.attrs["State"]
        time.sleep(0.1)
        container.reload()


def test_restart_policy(run):
    container = run(["sh", "-c", "exit 1"], restart_policy={"Name": "on-failure", "MaximumRetryCount": 2})
    deadline = time.monotonic() + 15
    while True:
        container.reload()
        if container.attrs["RestartCount"] == 2 and container.status == "exited":
            break
        assert time.monotonic() < deadline, container.attrs["State"]
        time.sleep(0.1)
