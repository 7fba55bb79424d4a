// Containers of any image: ways to wait, exec, copies, commit, networks.
import assert from "node:assert/strict";
import { test } from "node:test";
import { GenericContainer, getContainerRuntimeClient, Network, Wait } from "testcontainers";

const BUSYBOX = "busybox:latest";
const SERVER = "mkdir /w; echo served > /w/index.html; sleep 0.5; exec httpd -f -p 8080 -h /w";

const shell = (script) => new GenericContainer(BUSYBOX).withCommand(["sh", "-c", script]);

const started = async (t, description) => {
  const container = await description.start();
  t.after(() => container.stop());
  return container;
};

// The library lets node end while it waits for logs; something has to keep it.
const text = async (stream) => {
  const keeper = setInterval(() => {}, 1000);
  let all = "";
  for await (const chunk of stream) all += chunk;
  clearInterval(keeper);
  return all;
};

test("waits for a line of the log", async (t) => {
  const container = await started(t, shell("sleep 0.7; echo ready to serve; sleep 60")
    .withWaitStrategy(Wait.forLogMessage("ready to serve")));
  assert.match(container.getId(), /^[0-9a-f]{64}$/);
});

test("waits in vain for a line of the log", async (t) => {
  const container = shell("echo other; sleep 60").withWaitStrategy(Wait.forLogMessage("ready")).withStartupTimeout(1500);
  await assert.rejects(container.start(), /not received after 1500ms/);
});

test("waits for ports and answers over http", async (t) => {
  const container = await started(t, shell(SERVER)
    .withExposedPorts(8080)
    .withWaitStrategy(Wait.forAll([Wait.forListeningPorts(), Wait.forHttp("/index.html", 8080)])));
  const answer = await fetch(`http://${container.getHost()}:${container.getMappedPort(8080)}/index.html`);
  assert.equal(await answer.text(), "served\n");
});

test("waits for health", async (t) => {
  const container = await started(t, shell("sleep 0.7; touch /tmp/done; sleep 60")
    .withHealthCheck({ test: ["CMD-SHELL", "test -e /tmp/done"], interval: 300, timeout: 3000, retries: 50, startPeriod: 0 })
    .withWaitStrategy(Wait.forHealthCheck()));
  assert.equal((await container.exec(["test", "-e", "/tmp/done"])).exitCode, 0);
});

test("waits for a command and for an end", async (t) => {
  const container = await started(t, shell("sleep 0.7; touch /tmp/done; sleep 60")
    .withWaitStrategy(Wait.forSuccessfulCommand("test -e /tmp/done")));
  assert.equal((await container.exec(["ls", "/tmp"])).stdout, "done\n");
  const once = await started(t, shell("sleep 0.3; echo finished").withWaitStrategy(Wait.forOneShotStartup()));
  assert.match(await text(await once.logs()), /finished/);
});

test("exec gives status and streams apart", async (t) => {
  const container = await started(t, shell("sleep 60"));
  const result = await container.exec(["sh", "-c", "echo out; echo err >&2; pwd; echo $V; exit 3"], {
    workingDir: "/tmp",
    env: { V: "given" },
  });
  assert.equal(result.exitCode, 3);
  assert.equal(result.stdout, "out\n/tmp\ngiven\n");
  assert.equal(result.stderr, "err\n");
});

test("copies both ways", async (t) => {
  const container = await started(t, shell("cat /given/file; sleep 60")
    .withCopyContentToContainer([{ content: "by the test\n", target: "/given/file", mode: 0o644 }])
    .withWaitStrategy(Wait.forLogMessage("by the test")));
  await container.copyContentToContainer([{ content: "later\n", target: "/tmp/later" }]);
  assert.equal((await container.exec(["cat", "/tmp/later"])).stdout, "later\n");
  const archive = await text(await container.copyArchiveFromContainer("/given/file"));
  assert.match(archive, /by the test\n/);
});

test("logs are streamed", async (t) => {
  const lines = [];
  const container = await started(t, shell("echo one; sleep 0.5; echo two; sleep 60")
    .withLogConsumer((stream) => stream.on("data", (line) => lines.push(String(line))))
    .withWaitStrategy(Wait.forLogMessage("two")));
  assert.ok(container.getId());
  for (let i = 0; i < 50 && lines.length < 2; i++) await new Promise((resolve) => setTimeout(resolve, 100));
  assert.deepEqual(lines.join("").split("\n").filter(Boolean), ["one", "two"]);
});

test("commit makes an image of a container", async (t) => {
  const container = await started(t, shell("sleep 60"));
  await container.exec(["sh", "-c", "echo committed > /made"]);
  const image = await container.commit({ repo: "testcontainers-node-commit", tag: "v1", deleteOnExit: false });
  try {
    const again = await started(t, new GenericContainer("testcontainers-node-commit:v1")
      .withCommand(["sh", "-c", "cat /made; sleep 60"])
      .withWaitStrategy(Wait.forLogMessage("committed")));
    assert.notEqual(again.getId(), container.getId());
  } finally {
    const client = await getContainerRuntimeClient();
    t.after(() => client.container.dockerode.getImage(image).remove());
  }
});

test("stopped containers are gone", async (t) => {
  const container = await shell("sleep 60").start();
  const id = container.getId();
  await container.stop();
  const client = await getContainerRuntimeClient();
  assert.equal(await client.container.fetchByLabel("no.such.label", "x"), undefined);
  await assert.rejects(client.container.getById(id).inspect(), /no such container/i);
});

test("network of its own", async (t) => {
  let network;
  try {
    network = await new Network().start();
  } catch (error) {
    if (error.statusCode === 501) return t.skip(error.message);
    throw error;
  }
  try {
    const server = await started(t, shell(SERVER).withNetwork(network).withNetworkAliases("server"));
    const client = await started(t, shell("until wget -q -O - http://server:8080/index.html; do sleep 0.2; done; sleep 60")
      .withNetwork(network)
      .withWaitStrategy(Wait.forLogMessage("served")));
    assert.notEqual(server.getId(), client.getId());
  } finally {
    t.after(() => network.stop());
  }
});
