// Servers as tests of applications start them: modules for Redis and for a database.
import assert from "node:assert/strict";
import { test } from "node:test";
import { MariaDbContainer } from "@testcontainers/mariadb";
import { RedisContainer } from "@testcontainers/redis";
import mariadb from "mariadb";
import { createClient } from "redis";
import { Wait } from "testcontainers";

const REDIS = "redis:latest";
const DATABASE = "mariadb:latest";

const started = async (t, description) => {
  const container = await description.start();
  t.after(() => container.stop());
  return container;
};

test("redis answers on its mapped port", async (t) => {
  const container = await started(t, new RedisContainer(REDIS));
  assert.notEqual(container.getPort(), 6379);
  const client = await createClient({ url: container.getConnectionUrl() }).connect();
  await client.set("key", "value");
  assert.equal(await client.get("key"), "value");
  client.destroy();
  assert.match(await container.executeCliCmd("get", ["key"]), /value/);
});

test("redis starts again with another port", async (t) => {
  const container = await started(t, new RedisContainer(REDIS));
  await container.executeCliCmd("set", ["kept", "yes"]);
  await container.executeCliCmd("save");
  await container.restart();
  const client = await createClient({ url: container.getConnectionUrl() }).connect();
  assert.equal(await client.get("kept"), "yes");
  client.destroy();
});

test("database keeps rows", async (t) => {
  const container = await started(t, new MariaDbContainer(DATABASE)
    .withDatabase("shop")
    .withTmpFs({ "/var/lib/mysql": "rw" })
    .withCopyContentToContainer([{ content: "[mariadbd]\nmax_connections = 77\n", target: "/etc/mysql/conf.d/own.cnf" }])
    .withWaitStrategy(Wait.forLogMessage(/ready for connections/, 2)));
  const connection = await mariadb.createConnection(container.getConnectionUri());
  try {
    await connection.query("CREATE TABLE goods (id INT PRIMARY KEY, name TEXT)");
    await connection.query("INSERT INTO goods VALUES (1, 'ferry'), (2, 'boat')");
    const rows = await connection.query("SELECT name FROM goods ORDER BY id");
    assert.deepEqual(rows.map((row) => row.name), ["ferry", "boat"]);
    assert.equal(Number((await connection.query("SELECT @@max_connections AS n"))[0].n), 77);
  } finally {
    await connection.end();
  }
});
