"""docker-py: the daemon itself."""

import os

import docker
import pytest


def test_ping_and_version(client):
    assert client.ping() is True
    version = client.version()
    assert version["ApiVersion"] >= "1.44" and version["Os"] == "linux"
    assert version["MinAPIVersion"] == "1.24"


def test_info(client):
    info = client.info()
    assert info["OSType"] == "linux" and info["NCPU"] >= 1 and info["MemTotal"] > 0
    assert info["Swarm"]["LocalNodeState"] == "inactive"


def test_old_clients():
    for version in ("1.24", "1.30", "1.41", "1.44"):
        old = docker.APIClient(base_url=os.environ["DOCKER_HOST"], version=version)
        assert old.version()["Os"] == "linux"
        assert isinstance(old.containers(all=True), list)
        assert isinstance(old.images(), list)
        old.close()


def test_disk_usage(client, run):
    run("true", start=False)
    usage = client.df()
    assert usage["LayersSize"] >= 0 and len(usage["Images"]) >= 1 and len(usage["Containers"]) >= 1


def test_login_at_a_registry_that_is_not_there(client):
    with pytest.raises(docker.errors.APIError) as error:
        client.login("user", "secret", registry="127.0.0.1:1", reauth=True)
    assert "connection refused" in str(error.value)


def test_search_says_why_it_fails(client):
    with pytest.raises(docker.errors.APIError) as error:
        client.images.search("127.0.0.1:1/nothing")
    assert "connection refused" in str(error.value)


def test_what_is_off_answers_as_dockers(client):
    with pytest.raises(docker.errors.APIError) as error:
        client.services.list()
    assert error.value.status_code == 503 and "not a swarm manager" in error.value.explanation
    assert client.plugins.list() == []
    with pytest.raises(docker.errors.NotFound):
        client.plugins.get("nothing")
