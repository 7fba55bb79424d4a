"""docker-py: exec, with its streams."""

import docker
import pytest


def test_output_is_demultiplexed(run):
    container = run(["sleep", "600"])
    code, (out, err) = container.exec_run(["sh", "-c", "echo out; echo err >&2; exit 4"], demux=True)
    assert (code, out, err) == (4, b"out\n", b"err\n")


def test_output_as_a_stream(run):
    container = run(["sleep", "600"])
    _, stream = container.exec_run(["sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.1; done"], stream=True)
    assert b"".join(stream) == b"1\n2\n3\n"


def test_options(run):
    container = run(["sleep", "600"])
    code, out = container.exec_run(["sh", "-c", "echo $A; id -u; pwd"], environment=["A=b"], user="1", workdir="/etc")
    assert code == 0 and out == b"b\n1\n/etc\n"


def test_a_terminal(run):
    container = run(["sleep", "600"])
    code, out = container.exec_run(["sh", "-c", "test -t 1 && echo tty"], tty=True)
    assert (code, out) == (0, b"tty\r\n")


def test_stdin_over_the_socket(client, run):
    container = run(["sleep", "600"])
    instance = client.api.exec_create(container.id, ["cat"], stdin=True)
    sock = client.api.exec_start(instance["Id"], socket=True)
    raw = getattr(sock, "_sock", sock)
    raw.sendall(b"through cat\n")
    raw.shutdown(1)
    received = b""
    while chunk := raw.recv(4096):
        received += chunk
    assert received == b"\x01\0\0\0\0\0\0\x0cthrough cat\n"
    assert client.api.exec_inspect(instance["Id"])["ExitCode"] == 0
    sock.close()


def test_inspect_and_resize(client, run):
    container = run(["sleep", "600"])
    instance = client.api.exec_create(container.id, ["sh", "-c", "sleep 1"], tty=True)
    assert client.api.exec_inspect(instance["Id"])["Running"] is False
    client.api.exec_start(instance["Id"], detach=True)
    state = client.api.exec_inspect(instance["Id"])
    assert state["Running"] is True and state["ContainerID"] == container.id
    assert state["ProcessConfig"]["entrypoint"] == "sh"
    client.api.exec_resize(instance["Id"], height=20, width=60)


def test_refusals(client, run):
    container = run(["sleep", "600"], start=False)
    with pytest.raises(docker.errors.APIError) as error:
        container.exec_run("true")
    assert error.value.status_code == 409
    with pytest.raises(docker.errors.NotFound):
        client.api.exec_inspect("0" * 64)
    container.start()
    code, out = container.exec_run(["/no/such/program"])
    assert code in (126, 127) and b"no such file or directory" in out
