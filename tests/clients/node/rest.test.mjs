// dockerode: archives, images, volumes, networks, the daemon.
import assert from "node:assert/strict";
import { test } from "node:test";
import { docker, eventually, follow, name, read, run, tar } from "./helpers.mjs";

test("archives both ways", async () => {
  const container = await run(["sleep", "600"]);
  await container.putArchive(tar("given", "from the client"), { path: "/tmp" });
  const stat = await container.infoArchive({ path: "/tmp/given" });
  assert.ok(stat.headers === undefined || stat.statusCode === 200);
  const stream = await container.getArchive({ path: "/tmp/given" });
  const bytes = await read(stream);
  assert.ok(bytes.includes("from the client"));
  await assert.rejects(container.getArchive({ path: "/no/such" }), { statusCode: 404 });
  await assert.rejects(container.putArchive(tar("x", ""), { path: "/no/such" }), { statusCode: 404 });
});

test("images: tag, list, history, inspect, remove", async () => {
  const own = name();
  const image = docker.getImage("busybox");
  await image.tag({ repo: own, tag: "one" });
  const [listed] = await docker.listImages({ filters: { reference: [`${own}:*`] } });
  assert.deepEqual(listed.Id, (await image.inspect()).Id);
  assert.ok((await image.history()).length >= 1);
  await docker.getImage(`${own}:one`).remove();
  await assert.rejects(docker.getImage(`${own}:one`).inspect(), { statusCode: 404 });
});

test("images: commit, export, import", async () => {
  const own = name();
  const container = await run(["sh", "-c", "echo kept > /kept"]);
  await container.wait();
  const committed = await container.commit({ repo: own, tag: "one", comment: "a comment", changes: "ENV A=b" });
  assert.match(committed.Id, /^sha256:/);
  assert.ok((await docker.getImage(`${own}:one`).inspect()).Config.Env.includes("A=b"));
  const exported = await read(await container.export());
  const { Readable } = await import("node:stream");
  await follow(await docker.importImage(Readable.from([exported]), { repo: own, tag: "two" }));
  const check = await run(["cat", "/kept"], { Image: `${own}:two` });
  assert.equal((await check.wait()).StatusCode, 0);
  await check.remove();
  await docker.getImage(`${own}:two`).remove();
  await docker.getImage(`${own}:one`).remove();
});

test("images: save and load", async () => {
  const own = name();
  await docker.getImage("busybox").tag({ repo: own, tag: "one" });
  const saved = await read(await docker.getImage(`${own}:one`).get());
  await docker.getImage(`${own}:one`).remove();
  const { Readable } = await import("node:stream");
  const output = await follow(await docker.loadImage(Readable.from([saved])));
  assert.ok(output.some((line) => line.stream?.includes(`Loaded image: ${own}:one`)));
  await docker.getImage(`${own}:one`).remove();
});

test("images: prune with filters", async () => {
  const pruned = await docker.pruneImages({ filters: { label: [`suite=${name()}`] } });
  assert.equal(pruned.SpaceReclaimed, 0);
});

test("a pull and a login that cannot work say why", async () => {
  await assert.rejects(docker.pull("127.0.0.1:1/nothing:1"), /connection refused/);
  await assert.rejects(docker.checkAuth({ username: "u", password: "p", serveraddress: "127.0.0.1:1" }), /connection refused/);
  await assert.rejects(docker.getImage("127.0.0.1:1/nothing").distribution(), /connection refused/);
});

test("volumes", async () => {
  const own = name();
  await docker.createVolume({ Name: own, Labels: { suite: own } });
  const binds = { HostConfig: { Binds: [`${own}:/data`] } };
  const writer = await run(["sh", "-c", "echo kept > /data/file"], binds);
  await writer.wait();
  const reader = await run(["cat", "/data/file"], binds);
  assert.equal((await reader.wait()).StatusCode, 0);
  const volume = docker.getVolume(own);
  assert.deepEqual((await volume.inspect()).Labels, { suite: own });
  await assert.rejects(volume.remove(), { statusCode: 409 });
  const { Volumes } = await docker.listVolumes({ filters: { label: [`suite=${own}`] } });
  assert.deepEqual(Volumes.map((v) => v.Name), [own]);
  await writer.remove();
  await reader.remove();
  const pruned = await docker.pruneVolumes({ filters: { label: [`suite=${own}`], all: ["true"] } });
  assert.deepEqual(pruned.VolumesDeleted, [own]);
});

test("the default networks", async () => {
  const names = (await docker.listNetworks()).map((n) => n.Name);
  for (const expected of ["bridge", "host", "none"]) assert.ok(names.includes(expected));
  const container = await run(["sleep", "600"]);
  const bridge = await docker.getNetwork("bridge").inspect();
  assert.ok(container.id in bridge.Containers);
  await assert.rejects(docker.getNetwork("no-such-network").inspect(), { statusCode: 404 });
});

test("networks of one's own", async (t) => {
  const own = name();
  let network;
  try {
    network = await docker.createNetwork({ Name: own });
  } catch (error) {
    if (error.statusCode === 501) return t.skip("the engine has no networks besides the default ones");
    throw error;
  }
  await network.remove();
});

test("building images", async (t) => {
  const { Readable } = await import("node:stream");
  const context = tar("Dockerfile", "FROM busybox\nRUN true\n");
  try {
    await follow(await docker.buildImage(Readable.from([context]), { t: name() }));
  } catch (error) {
    if (error.statusCode === 501) return t.skip("the engine does not build images yet");
    throw error;
  }
});

test("published ports", async () => {
  const container = await run(["sh", "-c", "while :; do echo hi | nc -l -p 80; done"], {
    ExposedPorts: { "80/tcp": {} },
    HostConfig: { PortBindings: { "80/tcp": [{ HostIp: "127.0.0.1" }] } },
  });
  const { Ports } = (await container.inspect()).NetworkSettings;
  const port = Number(Ports["80/tcp"][0].HostPort);
  const { connect } = await import("node:net");
  const heard = () =>
    new Promise((resolve) => {
      const socket = connect(port, "127.0.0.1");
      socket.on("data", (data) => {
        resolve(data.toString() === "hi\n");
        socket.destroy();
      });
      socket.on("error", () => resolve(false));
      socket.on("close", () => resolve(false));
    });
  assert.ok(await eventually(heard));
});

test("the daemon", async () => {
  assert.equal((await docker.ping()).toString(), "OK");
  assert.equal((await docker.version()).Os, "linux");
  assert.equal((await docker.info()).OSType, "linux");
  assert.ok((await docker.df()).Images.length >= 1);
  assert.deepEqual(await docker.listPlugins(), []);
  await assert.rejects(docker.listServices(), { statusCode: 503 });
  await assert.rejects(docker.swarmInspect(), { statusCode: 503 });
});
