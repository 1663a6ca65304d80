// A login system that a test can set: a file, a server and a socket of its own, gone afterwards.
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

const SESSILE = process.env.SESSILE ?? "sessile";
const KEY = "a-key-for-tests";

async function sessile(t) {
  const folder = mkdtempSync(join(tmpdir(), "sessile-"));
  const socketPath = join(folder, "sock");
  writeFileSync(
    join(folder, "sessile.toml"),
    `mode = "development"\nserver.listen = "unix:${socketPath}"\n` +
      `[[auth.keys]]\nname = "tests"\nkey = "${KEY}"\n`,
  );
  const run = (args, input) => execFileSync(SESSILE, args, { cwd: folder, input, stdio: "pipe" });
  run(["init"]);
  const server = spawn(SESSILE, ["serve"], { cwd: folder, stdio: ["ignore", "pipe", "inherit"] });
  await once(server.stdout, "data"); // "listening on …": from here on it answers
  t.after(async () => {
    server.kill();
    await once(server, "exit");
    rmSync(folder, { recursive: true });
  });
  return {
    // Takes sessions in, with instants relative to now: they count from the next request on.
    sessions: (...sessions) => run(["import", "-"], sessions.map((one) => JSON.stringify(one)).join("\n")),
    async active(tenant, user, now) {
      const headers = { "X-API-Key": KEY, "X-Tenant-ID": tenant, ...(now && { "X-Sessile-Now": now }) };
      const path = `/internal/session/sessions/${encodeURIComponent(user)}/active`;
      const [response] = await once(http.get({ socketPath, path, headers, timeout: 5000 }), "response");
      const body = (await response.toArray()).join("");
      assert.equal(response.statusCode, 200, body);
      return JSON.parse(body).session_count;
    },
  };
}

test("a session ends at its deadline", async (t) => {
  const login = await sessile(t);
  login.sessions(
    { tenant_id: "acme", id: "s1", user_id: "alice", expires_in: "1h" },
    { tenant_id: "acme", id: "s2", user_id: "alice", expires_in: "-1s" },
    { tenant_id: "acme", id: "s3", user_id: "bob", expires_at: "2030-01-01T00:00:00Z" },
  );
  assert.equal(await login.active("acme", "alice"), 1);
  assert.equal(await login.active("acme", "bob", "2029-12-31T23:59:59.999Z"), 1);
  assert.equal(await login.active("acme", "bob", "2030-01-01T00:00:00Z"), 0);
});

test("each test has a file of its own", async (t) => {
  const login = await sessile(t);
  assert.equal(await login.active("acme", "alice"), 0);
});
