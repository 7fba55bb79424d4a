"""docker-py: archives, images, volumes, networks."""

import io
import socket
import tarfile
import time

import docker
import pytest


def archive(files):
    """A tar of names and contents."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o640
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


@pytest.mark.parametrize("running", [True, False])
def test_archives_both_ways(run, running):
    container = run(["sleep", "600"], start=running)
    assert container.put_archive("/tmp", archive({"one": b"1", "two": b"22"})) is True
    stream, stat = container.get_archive("/tmp/two")
    assert stat["name"] == "two" and stat["size"] == 2
    with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as tar:
        member = tar.getmember("two")
        assert tar.extractfile(member).read() == b"22" and member.mode == 0o640
    if running:
        assert container.exec_run(["cat", "/tmp/one"]) == (0, b"1")


def test_archives_of_missing_paths(run):
    container = run(["sleep", "600"])
    with pytest.raises(docker.errors.NotFound):
        container.get_archive("/no/such/path")
    with pytest.raises(docker.errors.NotFound):
        container.put_archive("/no/such/path", archive({"x": b""}))
    with pytest.raises(docker.errors.APIError) as error:
        container.put_archive("/etc/passwd", archive({"x": b""}))
    assert error.value.status_code == 400


def test_image_names_and_history(client, name):
    image = client.images.get("busybox")
    assert image.tag(name, "one") is True
    image.reload()
    assert f"{name}:one" in image.tags and image.short_id.startswith("sha256:")
    assert len(image.history()) >= 1
    assert any(i.id == image.id for i in client.images.list(name))
    assert any(i.id == image.id for i in client.images.list(filters={"reference": f"{name}:*"}))
    client.images.remove(f"{name}:one")
    with pytest.raises(docker.errors.ImageNotFound):
        client.images.get(f"{name}:one")


def test_commit_export_and_import(client, run, name):
    container = run(["sh", "-c", "echo kept > /kept"])
    container.wait()
    image = container.commit(repository=name, tag="committed", changes=["ENV KEPT=yes"])
    try:
        assert client.containers.run(image, ["sh", "-c", "cat /kept; echo $KEPT"], remove=True) == b"kept\nyes\n"
        tar = b"".join(container.export())
        with tarfile.open(fileobj=io.BytesIO(tar)) as files:
            assert files.extractfile("kept").read() == b"kept\n"
        client.api.import_image_from_data(tar, repository=name, tag="imported")
        assert client.containers.run(f"{name}:imported", ["cat", "/kept"], remove=True) == b"kept\n"
    finally:
        for tag in ("committed", "imported"):
            try:
                client.images.remove(f"{name}:{tag}", force=True)
            except docker.errors.ImageNotFound:
                pass


def test_save_and_load(client, name):
    image = client.images.get("busybox")
    image.tag(name, "saved")
    tar = b"".join(client.images.get(f"{name}:saved").save(named=f"{name}:saved"))
    client.images.remove(f"{name}:saved")
    loaded = client.images.load(tar)
    assert [i.id for i in loaded] == [image.id]
    client.images.remove(f"{name}:saved")


def test_pull_says_why_it_fails(client):
    with pytest.raises(docker.errors.APIError) as error:
        client.images.pull("127.0.0.1:1/nothing", tag="1")
    assert "connection refused" in str(error.value)


def test_distribution_says_why_it_fails(client):
    with pytest.raises(docker.errors.APIError) as error:
        client.images.get_registry_data("127.0.0.1:1/nothing")
    assert "connection refused" in str(error.value)


def test_volumes(client, run, name):
    volume = client.volumes.create(name, labels={"suite": name})
    assert volume.attrs["Driver"] == "local" and client.volumes.get(name).attrs["Labels"] == {"suite": name}
    client.containers.run("busybox", ["sh", "-c", "echo kept > /data/file"], volumes={name: {"bind": "/data"}}, remove=True)
    mount = docker.types.Mount("/data", name, type="volume", read_only=True)
    container = run(["cat", "/data/file"], mounts=[mount])
    container.wait()
    assert container.logs() == b"kept\n"
    assert container.attrs["Mounts"][0]["Name"] == name and container.attrs["Mounts"][0]["RW"] is False
    with pytest.raises(docker.errors.APIError) as error:
        volume.remove()
    assert error.value.status_code == 409
    container.remove()
    assert [v.name for v in client.volumes.list(filters={"label": f"suite={name}"})] == [name]
    volume.remove()
    with pytest.raises(docker.errors.NotFound):
        client.volumes.get(name)


def test_binds(client, tmp_path):
    (tmp_path / "given").write_text("from the host")
    output = client.containers.run(
        "busybox", ["sh", "-c", "cat /b/given; touch /b/x"], volumes={str(tmp_path): {"bind": "/b", "mode": "rw"}}, remove=True
    )
    assert output == b"from the host" and (tmp_path / "x").exists()


def test_default_networks(client, run):
    names = {n.name for n in client.networks.list()}
    assert {"bridge", "host", "none"} <= names
    bridge = next(n for n in client.networks.list(names=["bridge"]) if n.name == "bridge")
    container = run(["sleep", "600"])
    bridge.reload()
    assert container.id in bridge.attrs["Containers"]
    container.reload()
    assert container.attrs["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    with pytest.raises(docker.errors.NotFound):
        client.networks.get("no-such-network")


def test_made_networks(client, run, name):
    try:
        network = client.networks.create(name)
    except docker.errors.APIError as error:
        if error.status_code == 501:
            pytest.skip("the engine has no networks besides the default ones")
        raise
    try:
        container = run(["sleep", "600"], network=name)
        container.reload()
        assert name in container.attrs["NetworkSettings"]["Networks"]
        container.remove(force=True)
    finally:
        network.remove()


def test_published_ports(run):
    container = run(["sh", "-c", "while :; do echo hi | nc -l -p 80; done"], ports={"80/tcp": ("127.0.0.1", None)})
    container.reload()
    port = int(container.ports["80/tcp"][0]["HostPort"])
    deadline = time.monotonic() + 10
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
                if connection.recv(10) == b"hi\n":
                    break
        except OSError:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_building_images(client):
    dockerfile = io.BytesIO(b"FROM busybox\nRUN echo built > /built\n")
    try:
        image, _ = client.images.build(fileobj=dockerfile, rm=True)
    except docker.errors.APIError as error:
        if error.status_code == 501:
            pytest.skip("the engine does not build images yet")
        raise
    client.images.remove(image.id, force=True)
