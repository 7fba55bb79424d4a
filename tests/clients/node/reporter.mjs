// A line per test for `cargo xtask`, and the failures for people.
import { appendFileSync } from "node:fs";
import { basename } from "node:path";

export default async function* reporter(source) {
  for await (const { type, data } of source) {
    if (type !== "test:pass" && type !== "test:fail") continue;
    const failed = type === "test:fail";
    // A file counts when it cannot be read; otherwise its tests do.
    if (!failed && (data.details?.type === "suite" || !data.file || data.name.endsWith(".mjs"))) continue;
    const skipped = data.skip !== undefined && data.skip !== false;
    const cause = data.details?.error?.cause ?? data.details?.error;
    const line = {
      name: `node::${basename(data.file ?? "", ".test.mjs")}::${data.name.replaceAll(" ", "_")}`,
      outcome: skipped ? "skipped" : failed ? "failed" : "passed",
      reason: skipped ? String(data.skip) : failed ? String(cause?.message ?? cause) : null,
      seconds: (data.details?.duration_ms ?? 0) / 1000,
    };
    if (process.env.FERRY_TEST_RESULTS) appendFileSync(process.env.FERRY_TEST_RESULTS, JSON.stringify(line) + "\n");
    yield `${line.outcome.padEnd(8)}${line.name}\n`;
    if (failed) yield `${cause?.stack ?? cause}\n`;
  }
}
