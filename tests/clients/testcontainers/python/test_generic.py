"""Containers of any image: ways to wait, exec, copies, networks."""

import urllib.request

import docker
import pytest
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import (
    ContainerStatusWaitStrategy,
    ExecWaitStrategy,
    HealthcheckWaitStrategy,
    HttpWaitStrategy,
    LogMessageWaitStrategy,
    PortWaitStrategy,
)

from conftest import BUSYBOX

SERVER = "mkdir /w; echo served > /w/index.html; sleep 0.5; exec httpd -f -p 8080 -h /w"


def shell(script):
    return DockerContainer(BUSYBOX).with_command(["sh", "-c", script])


def test_waits_for_a_line_of_the_log():
    container = shell("sleep 0.7; echo ready to serve; sleep 60").waiting_for(LogMessageWaitStrategy("ready to .*"))
    with container:
        out, err = container.get_logs()
        assert (out, err) == (b"ready to serve\n", b"")


def test_waits_in_vain_for_a_line_of_the_log():
    container = shell("echo other; sleep 60")
    container.waiting_for(LogMessageWaitStrategy("ready").with_startup_timeout(2))
    with pytest.raises(TimeoutError):
        try:
            container.start()
        finally:
            container.stop()


def test_waits_for_an_answer_over_http():
    container = shell(SERVER).with_exposed_ports(8080)
    with container.waiting_for(HttpWaitStrategy(8080, "/index.html").for_status_code(200)):
        url = f"http://{container.get_container_host_ip()}:{container.get_exposed_port(8080)}/index.html"
        with urllib.request.urlopen(url, timeout=10) as answer:
            assert answer.read() == b"served\n"


def test_waits_for_a_port():
    container = shell(SERVER).with_exposed_ports(8080).waiting_for(PortWaitStrategy(8080))
    with container:
        assert int(container.get_exposed_port(8080)) > 0


def test_waits_for_a_command():
    container = shell("sleep 0.7; touch /tmp/done; sleep 60")
    with container.waiting_for(ExecWaitStrategy(["test", "-e", "/tmp/done"])):
        assert container.exec(["ls", "/tmp"]).output == b"done\n"


def test_waits_for_health():
    check = {"test": ["CMD-SHELL", "test -e /tmp/done"], "interval": 300_000_000, "retries": 50}
    container = shell("sleep 0.7; touch /tmp/done; sleep 60").with_kwargs(healthcheck=check)
    with container.waiting_for(HealthcheckWaitStrategy()):
        assert container.get_wrapped_container().attrs["Config"]["Healthcheck"]["Retries"] == 50


def test_waits_for_the_state():
    with shell("sleep 60").waiting_for(ContainerStatusWaitStrategy()) as container:
        assert container.status == "running"


def test_exec_gives_status_and_output():
    with shell("sleep 60") as container:
        result = container.exec(["sh", "-c", "echo out; exit 3"])
        assert (result.exit_code, result.output) == (3, b"out\n")


def test_copies_both_ways(tmp_path):
    container = shell("cat /given/file; sleep 60").with_copy_into_container(b"by the test\n", "/given/file")
    with container.waiting_for(LogMessageWaitStrategy("by the test")):
        container.copy_into_container(b"later\n", "/tmp/later")
        assert container.exec(["cat", "/tmp/later"]).output == b"later\n"
        container.exec(["sh", "-c", "echo made inside > /made"])
        container.copy_from_container("/made", tmp_path / "made")
        assert (tmp_path / "made").read_text() == "made inside\n"


def test_environment_and_name():
    container = shell("echo $GREETING; sleep 60").with_env("GREETING", "hello").with_name("testcontainers-python-named")
    with container.waiting_for(LogMessageWaitStrategy("hello")):
        assert container.get_wrapped_container().name == "testcontainers-python-named"


def test_network_of_its_own():
    try:
        network = Network().create()
    except docker.errors.APIError as error:
        if error.status_code == 501:
            pytest.skip(str(error.explanation))
        raise
    try:
        server = shell(SERVER).with_network(network).with_network_aliases("server")
        client = shell("until wget -q -O - http://server:8080/index.html; do sleep 0.2; done; sleep 60")
        client.with_network(network).waiting_for(LogMessageWaitStrategy("served"))
        with server, client:
            assert client.get_logs()[0] == b"served\n"
    finally:
        network.remove()
