// client.mjs TENANT USER: ends with 0 if the user has an active session, with 1 if not, with 2 if nobody knows.
import { setTimeout as sleep } from "node:timers/promises";

export async function isActive(tenant, user, tries = 3) {
  const { SESSILE_URL, SESSILE_KEY } = process.env;
  const url = `${SESSILE_URL}/internal/session/sessions/${encodeURIComponent(user)}/active`;
  const headers = { "X-API-Key": SESSILE_KEY, "X-Tenant-ID": tenant };
  let reason;
  for (let left = tries - 1; left >= 0; left -= 1) {
    let pause = 100;
    try {
      const response = await fetch(url, { headers, signal: AbortSignal.timeout(2000) });
      const body = await response.json();
      if (response.status === 200) return body.active;
      reason = `${body.status} ${body.detail} (${body.request_id})`;
      if (![429, 503].includes(response.status)) break; // asked again it would fail the same way
      pause = Math.min(Number(response.headers.get("Retry-After")) * 1000, 2000);
    } catch (error) {
      reason = error.message; // a question changes nothing: it may be asked again
    }
    if (left) await sleep(pause);
  }
  throw new Error(reason); // there is no answer: neither yes nor no
}

const [, , tenant, user] = process.argv;
try {
  process.exitCode = (await isActive(tenant, user)) ? 0 : 1;
} catch (error) {
  console.error(error.message);
  process.exitCode = 2;
}
