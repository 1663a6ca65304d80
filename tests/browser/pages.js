// What a person meets: the pages in both themes, at both widths and in both languages, and the form.
"use strict";

const assert = require("node:assert/strict");
const { spawn, execFileSync } = require("node:child_process");
const path = require("node:path");
const readline = require("node:readline");
const { chromium } = require("playwright-core");
const axe = require("axe-core");

const { CHROMIUM, PROGRAM, SCRATCH, SCREENSHOTS } = process.env;
const KEY = "a-key-for-tests-of-32-characters";
const SIZES = { narrow: { width: 360, height: 740 }, wide: { width: 1280, height: 900 } };

/** Starts a server; gives its address once it is ready. */
async function start(args, env = {}) {
  const server = spawn(PROGRAM, ["serve", "--listen", "127.0.0.1:0", ...args], {
    cwd: SCRATCH,
    env: { PATH: process.env.PATH, ...env },
    stdio: ["ignore", "pipe", "inherit"],
  });
  for await (const line of readline.createInterface({ input: server.stdout })) {
    if (line.startsWith("listening on ")) return [server, line.slice("listening on ".length)];
  }
  throw new Error("the server did not start");
}

/** A page that fails the test when it complains, or asks anybody but its own server. */
async function open(browser, origin, options) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  const complaints = [];
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(error.message));
  page.on("requestfailed", (request) => complaints.push(`failed: ${request.url()}`));
  page.on("request", (request) => {
    const { protocol, origin: asked } = new URL(request.url());
    if (protocol !== "data:" && asked !== origin) complaints.push(`foreign: ${request.url()}`);
  });
  return { context, page, complaints };
}

/** No fault of accessibility, whatever its weight. Gives the number of rules that were applied. */
async function accessible(page, name) {
  await page.evaluate(axe.source);
  const { violations, passes } = await page.evaluate(() => globalThis.axe.run(document));
  const told = violations.map(({ id, impact, nodes }) => `${id} (${impact}): ${nodes.map((node) => node.html).join(" ")}`);
  assert.deepEqual(told, [], name);
  assert.ok(passes.some(({ id }) => id === "color-contrast"), `${name}: no contrast was measured`);
  return passes.length;
}

async function screenshot(page, name, options = { fullPage: true }) {
  if (SCREENSHOTS) await page.screenshot({ path: path.join(SCREENSHOTS, `${name}.png`), ...options });
}

/** The pages of a server, or, where only those are others, its reference alone. */
async function everyPage(browser, origin, mode) {
  let count = 0;
  for (const [size, viewport] of Object.entries(SIZES)) {
    for (const colorScheme of ["light", "dark"]) {
      for (const [target, locale] of [
        ["/docs", "en"],
        ["/problems/", "en"],
        ["/problems/", "zh-CN"],
        ["/problems/invalid-request", "en"],
        ["/problems/internal-error", "zh-CN"],
      ]) {
        if (mode === "development" && target !== "/docs") continue;
        const name = [mode, ...target.split("/").filter(Boolean), locale, colorScheme, size].join("-");
        const { context, page, complaints } = await open(browser, origin, { viewport, colorScheme, locale });
        const response = await page.goto(origin + target, { waitUntil: "networkidle" });
        assert.equal(response.status(), 200, name);
        const wanted = target === "/docs" ? "en" : locale;
        assert.equal(await page.getAttribute("html", "lang"), wanted, name);
        const [content, room] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
        assert.ok(content <= room, `${name} is ${content} px wide, in ${room}`);
        const ground = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
        assert.equal(ground === "rgb(255, 255, 255)", colorScheme === "light", `${name}: ${ground}`);
        await accessible(page, name);
        await screenshot(page, name);
        assert.deepEqual(complaints, [], name);
        await context.close();
        count += 1;
      }
    }
  }
  return count;
}

async function theForm(browser, origin) {
  const { context, page, complaints } = await open(browser, origin, { viewport: SIZES.wide });
  await page.goto(`${origin}/docs`);

  // By keyboard alone: the first stop leads past the navigation.
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.className), "skip");
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement.id), "main");

  let seen = 0;
  for (const [label, typed, wanted, body] of [
    ["API key", "demo-key", "Active: 3 active sessions", '"session_count": 3'],
    ["User", "bob", "No active session", '"session_count": 0'],
    ["Tenant", "", "400 Invalid Request Parameters", "X-Tenant-ID is required"],
    ["API key", "wrong", "401 Invalid API Key", '"code": 30104010'],
  ]) {
    await page.getByLabel(label, { exact: true }).fill(typed);
    await page.keyboard.press("Enter");
    const verdict = page.locator("#answer .verdict", { hasText: wanted });
    await verdict.waitFor();
    assert.ok((await page.locator("#answer pre").textContent()).includes(body), wanted);
    await accessible(page, wanted);
    await screenshot(page, `form-${(seen += 1)}`);
    if (seen === 1) {
      await page.locator("#try-it").evaluate((heading) => heading.scrollIntoView());
      await screenshot(page, "readme-form", {}); // packaging/pictures/docs-light.png
    }
  }
  await page.getByLabel("API key", { exact: true }).fill("demo-key");
  await page.getByLabel("Tenant", { exact: true }).fill("acme");
  await page.getByLabel("User", { exact: true }).fill("carol/ä?#%");
  await page.getByLabel("As at", { exact: true }).fill("2026-11-23T12:00:00Z");
  await page.getByRole("button", { name: "Ask" }).click();
  await page.locator("#answer .verdict", { hasText: "No active session" }).waitFor();

  // Nothing is kept: not in the address, not in the browser, not over a reload.
  assert.equal(page.url(), `${origin}/docs#main`);
  const kept = await page.evaluate(() => [localStorage.length, sessionStorage.length, document.cookie]);
  assert.deepEqual([kept, await context.cookies()], [[0, 0, ""], []]);
  await page.reload();
  assert.equal(await page.getByLabel("API key", { exact: true }).inputValue(), "");
  // The browser itself notes the two answers that are none of 200, as it does for every page.
  const others = complaints.filter((text) => !/status of 40[01]/.test(text));
  assert.deepEqual([complaints.length, others], [2, []]);
  await context.close();
  return seen;
}

async function withoutScripts(browser, origin) {
  const { context, page, complaints } = await open(browser, origin, { javaScriptEnabled: false });
  await page.goto(`${origin}/docs`);
  assert.ok(await page.locator("noscript p").isVisible());
  // The policy lets no form leave the page, so that no key gets into an address.
  await page.getByLabel("API key", { exact: true }).fill("demo-key");
  await page.keyboard.press("Enter");
  assert.equal(page.url(), `${origin}/docs`);
  assert.ok(complaints.every((text) => text.includes("form-action")), complaints.join());
  await context.close();
}

async function main() {
  execFileSync(PROGRAM, ["init"], { cwd: SCRATCH });
  const servers = await Promise.all([
    start(["--demo"]),
    start([], { INTERNAL_API_KEY: KEY }),
  ]);
  const browser = await chromium.launch({
    executablePath: CHROMIUM,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
  try {
    const [[, development], [, production]] = servers;
    let pages = await everyPage(browser, development, "development");
    pages += await everyPage(browser, production, "production");
    const answers = await theForm(browser, development);
    await withoutScripts(browser, development);
    console.log(`${pages} pages and ${answers} answers of the form: no complaint, no foreign request, axe-core ${axe.version} finds no fault`);
  } finally {
    await browser.close();
    for (const [server] of servers) server.kill();
  }
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
