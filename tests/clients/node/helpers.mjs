// What the suite shares: a client, containers that are removed afterwards, streams read to their end.
import { randomBytes } from "node:crypto";
import { PassThrough } from "node:stream";
import { after } from "node:test";
import Docker from "dockerode";

export const IMAGE = "busybox:latest";
export const docker = new Docker();
export const name = () => `node-${randomBytes(6).toString("hex")}`;
export const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

const made = [];
after(async () => {
  await Promise.all(made.map((container) => container.remove({ force: true, v: true }).catch(() => {})));
});

/** Makes a container that is removed after the file's last test. */
export async function run(Cmd, options = {}) {
  const { start = true, ...rest } = options;
  const container = await docker.createContainer({ Image: IMAGE, Cmd, ...rest });
  made.push(container);
  if (start) await container.start();
  return container;
}

/** All bytes of a stream. */
export async function read(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks);
}

/** Both sides of a multiplexed stream, as text. */
export async function demultiplex(stream) {
  const sides = [new PassThrough(), new PassThrough()];
  docker.modem.demuxStream(stream, ...sides);
  stream.on("end", () => sides.forEach((side) => side.end()));
  stream.on("close", () => sides.forEach((side) => side.end()));
  const [out, err] = await Promise.all(sides.map(read));
  return [out.toString(), err.toString()];
}

/** Follows a progress stream to its end. */
export function follow(stream) {
  return new Promise((resolve, reject) =>
    docker.modem.followProgress(stream, (error, output) => (error ? reject(error) : resolve(output))),
  );
}

/** A condition that becomes true within ten seconds. */
export async function eventually(check) {
  const deadline = Date.now() + 10_000;
  for (;;) {
    const last = await check();
    if (last) return last;
    if (Date.now() > deadline) throw new Error("not within ten seconds");
    await sleep(50);
  }
}

/** A POSIX tar with one regular file. */
export function tar(path, content) {
  const head = Buffer.alloc(512);
  const octal = (value, offset, length) => head.write(value.toString(8).padStart(length - 1, "0"), offset, "ascii");
  head.write(path, 0, "utf8");
  octal(0o644, 100, 8);
  octal(0, 108, 8);
  octal(0, 116, 8);
  octal(content.length, 124, 12);
  octal(0, 136, 12);
  head.write("0", 156);
  head.write("ustar\x0000", 257, "latin1");
  head.write("        ", 148);
  const sum = head.reduce((total, byte) => total + byte, 0);
  head.write(sum.toString(8).padStart(6, "0") + "\0 ", 148, "latin1");
  const body = Buffer.alloc(Math.ceil(content.length / 512) * 512);
  Buffer.from(content).copy(body);
  return Buffer.concat([head, body, Buffer.alloc(1024)]);
}
