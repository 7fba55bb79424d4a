"""docker-py: attach, logs, events, stats."""

import threading
import time

import docker
import pytest


def test_attach_with_stdin(client, run):
    container = run(["cat"], start=False, stdin_open=True)
    sock = container.attach_socket(params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
    container.start()
    raw = getattr(sock, "_sock", sock)
    raw.sendall(b"hello cat\n")
    received = b""
    while len(received) < 18:
        received += raw.recv(4096)
    assert received == b"\x01\0\0\0\0\0\0\x0ahello cat\n"
    raw.shutdown(1)
    container.stop(timeout=0)
    sock.close()


def test_attach_as_a_stream(run):
    container = run(["sh", "-c", "sleep 0.3; echo out; echo err >&2"])
    out, err = b"", b""
    for o, e in container.attach(stream=True, demux=True):
        out, err = out + (o or b""), err + (e or b"")
    assert (out, err) == (b"out\n", b"err\n")


def test_how_it_ended_is_known_when_the_stream_ends(run):
    for _ in range(20):
        container = run(["sh", "-c", "echo x; exit 7"], start=False)
        stream = container.attach(stream=True)
        container.start()
        assert b"".join(stream) == b"x\n"
        container.reload()
        state = container.attrs["State"]
        assert (state["Status"], state["ExitCode"]) == ("exited", 7)


def test_logs(run):
    container = run(["sh", "-c", "echo good; echo bad >&2"])
    container.wait()
    assert container.logs(stderr=False) == b"good\n" and container.logs(stdout=False) == b"bad\n"
    container = run(["sh", "-c", "for i in 1 2 3; do echo line $i; done"])
    container.wait()
    assert container.logs(stderr=False, tail=1) == b"line 3\n"
    stamped = container.logs(stderr=False, timestamps=True, tail=1)
    assert stamped.endswith(b" line 3\n") and stamped[:2] == b"20"
    assert container.logs(since=int(time.time()) + 100) == b""
    assert container.logs(stderr=False, until=int(time.time()) + 100).count(b"\n") == 3


def test_logs_follow_to_the_end(run):
    container = run(["sh", "-c", "for i in 1 2 3 4 5; do echo $i; sleep 0.1; done"])
    assert b"".join(container.logs(stream=True, follow=True)) == b"1\n2\n3\n4\n5\n"


def test_logs_of_a_terminal_are_raw(run):
    container = run(["echo", "raw"], tty=True)
    container.wait()
    assert container.logs() == b"raw\r\n"


def test_events(client, run, name):
    start = int(time.time()) - 1
    container = run(["true"], labels={"suite": name})
    container.wait()
    container.remove()
    until = int(time.time()) + 2
    events = list(client.events(since=start, until=until, filters={"label": f"suite={name}"}, decode=True))
    actions = [e["Action"] for e in events if e["Type"] == "container"]
    assert actions == ["create", "start", "die", "destroy"]
    die = next(e for e in events if e["Action"] == "die")
    assert die["Actor"]["Attributes"]["exitCode"] == "0" and die["Actor"]["ID"] == container.id


def test_events_as_they_happen(client, run, name):
    seen = []
    stream = client.events(filters={"label": f"suite={name}"}, decode=True)
    listener = threading.Thread(target=lambda: seen.extend(e["Action"] for e in stream), daemon=True)
    listener.start()
    time.sleep(0.3)
    container = run(["true"], labels={"suite": name})
    container.wait()
    deadline = time.monotonic() + 10
    while "die" not in seen:
        assert time.monotonic() < deadline, seen
        time.sleep(0.05)
    stream.close()


def test_stats(run):
    container = run(["sleep", "600"])
    once = container.stats(stream=False)
    assert once["memory_stats"]["usage"] > 0 and once["pids_stats"]["current"] >= 1
    assert once["cpu_stats"]["cpu_usage"]["total_usage"] > 0
    stream = container.stats(stream=True, decode=True)
    first, second = next(stream), next(stream)
    assert first["id"] == second["id"] == container.id
    assert second["read"] > first["read"]
    stream.close()


def test_streams_of_missing_containers(client):
    for ask in (client.api.logs, client.api.stats, client.api.attach):
        with pytest.raises(docker.errors.NotFound):
            list(ask("no-such-container", stream=True))
