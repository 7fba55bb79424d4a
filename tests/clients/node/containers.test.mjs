// dockerode: containers from create to remove, exec, attach, logs, events, stats.
import assert from "node:assert/strict";
import { test } from "node:test";
import { demultiplex, docker, eventually, name, read, run, sleep } from "./helpers.mjs";

test("life of a container", async () => {
  const own = name();
  const container = await run(["sleep", "600"], { start: false, name: own, Labels: { suite: own } });
  assert.equal((await container.inspect()).State.Status, "created");
  await container.start();
  await assert.rejects(container.start(), { statusCode: 304 });
  await container.pause();
  assert.equal((await container.inspect()).State.Paused, true);
  await container.unpause();
  await container.rename({ name: `${own}-renamed` });
  assert.equal((await container.inspect()).Name, `/${own}-renamed`);
  await container.update({ Memory: 64 << 20, MemorySwap: 64 << 20 });
  assert.equal((await container.inspect()).HostConfig.Memory, 64 << 20);
  await container.restart({ t: 0 });
  await container.stop({ t: 0 });
  assert.equal((await container.wait()).StatusCode, 137);
  await container.start();
  await container.kill({ signal: "SIGKILL" });
  await container.wait();
  await container.remove();
  await assert.rejects(container.inspect(), { statusCode: 404 });
});

test("refusals", async () => {
  const own = name();
  await run(["true"], { start: false, name: own });
  await assert.rejects(run(["true"], { name: own }), { statusCode: 409 });
  await assert.rejects(docker.createContainer({ Image: "no-such-image:1" }), { statusCode: 404 });
  await assert.rejects(docker.listContainers({ filters: { bogus: ["x"] } }), { statusCode: 400 });
  const bad = await run(["/no/such/program"], { start: false });
  await assert.rejects(bad.start(), (error) => error.statusCode === 400 && /no such file or directory/.test(error.message));
});

test("lists and filters", async () => {
  const own = name();
  const running = await run(["sleep", "600"], { name: own, Labels: { suite: own } });
  const ended = await run(["true"], { Labels: { suite: own } });
  await ended.wait();
  const ids = async (options) => (await docker.listContainers(options)).map((c) => c.Id).sort();
  const label = [`suite=${own}`];
  assert.deepEqual(await ids({ filters: { label } }), [running.id]);
  assert.deepEqual(await ids({ all: true, filters: { label } }), [running.id, ended.id].sort());
  assert.deepEqual(await ids({ all: true, filters: { label, exited: ["0"] } }), [ended.id]);
  assert.deepEqual(await ids({ filters: { label: { [label[0]]: true }, name: { [own]: true } } }), [running.id]);
  assert.deepEqual(await ids({ all: true, limit: 1, filters: { label } }), [ended.id]);
  const [summary] = await docker.listContainers({ size: true, filters: { name: [own] } });
  assert.equal(typeof summary.SizeRootFs, "number");
  assert.deepEqual(summary.Names, [`/${own}`]);
});

test("run pipes the output", async () => {
  const chunks = [];
  const { PassThrough } = await import("node:stream");
  const sink = new PassThrough();
  sink.on("data", (chunk) => chunks.push(chunk));
  const [result, container] = await docker.run("busybox", ["sh", "-c", "echo piped; exit 7"], sink, { Tty: true });
  assert.equal(result.StatusCode, 7);
  await container.remove();
  assert.equal(Buffer.concat(chunks).toString(), "piped\r\n");
});

test("exec with separate streams", async () => {
  const container = await run(["sleep", "600"]);
  const exec = await container.exec({
    Cmd: ["sh", "-c", "echo out; echo err >&2; exit 4"],
    AttachStdout: true,
    AttachStderr: true,
  });
  const stream = await exec.start({});
  assert.deepEqual(await demultiplex(stream), ["out\n", "err\n"]);
  const state = await exec.inspect();
  assert.equal(state.ExitCode, 4);
  assert.equal(state.Running, false);
});

test("exec with stdin over a hijacked connection", async () => {
  const container = await run(["sleep", "600"]);
  const exec = await container.exec({ Cmd: ["cat"], AttachStdin: true, AttachStdout: true });
  const stream = await exec.start({ hijack: true, stdin: true });
  stream.write("through cat\n");
  stream.end();
  const [out] = await demultiplex(stream);
  assert.equal(out, "through cat\n");
});

test("exec with a terminal", async () => {
  const container = await run(["sleep", "600"]);
  const exec = await container.exec({ Cmd: ["sh", "-c", "sleep 0.3; stty size"], Tty: true, AttachStdout: true });
  const stream = await exec.start({ Tty: true, hijack: true });
  await exec.resize({ h: 20, w: 60 });
  assert.equal((await read(stream)).toString(), "20 60\r\n");
});

test("exec in a container that does not run", async () => {
  const container = await run(["true"], { start: false });
  await assert.rejects(container.exec({ Cmd: ["true"] }), { statusCode: 409 });
});

test("attach before the start with stdin", async () => {
  const container = await run(["cat"], { start: false, OpenStdin: true, StdinOnce: true, AttachStdin: true });
  const stream = await container.attach({ stream: true, stdin: true, stdout: true, stderr: true, hijack: true });
  await container.start();
  stream.write("hello cat\n");
  stream.end();
  const [out] = await demultiplex(stream);
  assert.equal(out, "hello cat\n");
  assert.equal((await container.wait()).StatusCode, 0);
});

test("attach to a terminal and resize it", async () => {
  const container = await run(["sh", "-c", "sleep 0.5; stty size"], { Tty: true, start: false });
  const stream = await container.attach({ stream: true, stdout: true, hijack: true });
  await container.start();
  await container.resize({ h: 30, w: 90 });
  assert.equal((await read(stream)).toString(), "30 90\r\n");
});

test("attach replays the log", async () => {
  const container = await run(["sh", "-c", "echo earlier; sleep 1; echo later"]);
  await eventually(async () => (await container.logs({ stdout: true })).length > 0);
  const stream = await container.attach({ stream: true, logs: true, stdout: true, stderr: true });
  assert.deepEqual(await demultiplex(stream), ["earlier\nlater\n", ""]);
});

test("logs", async () => {
  const container = await run(["sh", "-c", "echo one; echo two; echo bad >&2"]);
  await container.wait();
  const logs = await container.logs({ stdout: true, stderr: true });
  const { Readable } = await import("node:stream");
  const [out, err] = await demultiplex(Readable.from([logs]));
  assert.deepEqual([out, err], ["one\ntwo\n", "bad\n"]);
  const quiet = await run(["sh", "-c", "echo one; echo two"]);
  await quiet.wait();
  const last = await quiet.logs({ stdout: true, tail: 1, timestamps: true });
  assert.match(last.subarray(8).toString(), /^20[0-9T:.-]+Z two\n$/);
});

test("logs follow to the end", async () => {
  const container = await run(["sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.1; done"]);
  const stream = await container.logs({ stdout: true, follow: true });
  assert.deepEqual(await demultiplex(stream), ["1\n2\n3\n", ""]);
});

test("top and changes", async () => {
  const container = await run(["sh", "-c", "echo x > /tmp/made; sleep 600"]);
  const changes = await eventually(async () => {
    const all = await container.changes();
    return all?.some((c) => c.Path === "/tmp/made") && all;
  });
  assert.equal(changes.find((c) => c.Path === "/tmp/made").Kind, 1);
  const top = await container.top({ ps_args: "-o pid,cmd" });
  assert.deepEqual(top.Titles, ["PID", "CMD"]);
});

test("stats", async () => {
  const container = await run(["sleep", "600"]);
  const once = await container.stats({ stream: false });
  assert.ok(once.memory_stats.usage > 0);
  const stream = await container.stats({ stream: true });
  const first = await new Promise((resolve) => stream.once("data", resolve));
  assert.equal(JSON.parse(first).id, container.id);
  stream.destroy();
});

test("events", async () => {
  const own = name();
  const stream = await docker.getEvents({ filters: { label: [`suite=${own}`], type: ["container"] } });
  const seen = [];
  stream.on("data", (data) => {
    for (const line of data.toString().split("\n").filter(Boolean)) seen.push(JSON.parse(line).Action);
  });
  await sleep(200);
  const container = await run(["true"], { Labels: { suite: own } });
  await container.wait();
  await container.remove();
  await eventually(() => seen.includes("destroy"));
  assert.deepEqual(seen, ["create", "start", "die", "destroy"]);
  stream.destroy();
});

test("prune", async () => {
  const own = name();
  const container = await run(["true"], { Labels: { suite: own } });
  await container.wait();
  const pruned = await docker.pruneContainers({ filters: { label: [`suite=${own}`] } });
  assert.deepEqual(pruned.ContainersDeleted, [container.id]);
});
