// The form of the API reference: asks this server, and shows what it says. What is typed stays in the form.
"use strict";

const form = document.getElementById("try");
const answer = document.getElementById("answer");
const typed = (name) => document.getElementById(`try-${name}`).value;

function show(kind, verdict, body) {
  const line = document.createElement("p");
  line.className = "verdict";
  line.textContent = verdict;
  const parts = [line];
  if (body) {
    const text = document.createElement("pre");
    text.tabIndex = 0;
    text.textContent = body;
    parts.push(text);
  }
  answer.dataset.kind = kind;
  answer.replaceChildren(...parts);
}

async function ask() {
  const headers = {};
  for (const [name, value] of [
    [form.dataset.keyHeader, typed("key")],
    ["X-Tenant-ID", typed("tenant")],
    ["X-Sessile-Now", typed("now")],
  ]) {
    if (value) headers[name] = value;
  }
  // A browser takes the segments . and .. out of a path, encoded or not, so such a user can't be asked about from here.
  const user = encodeURIComponent(typed("user"));
  const path = `/internal/session/sessions/${user}/active`;
  const response = await fetch(path, {
    headers,
    cache: "no-store",
    credentials: "omit",
    signal: AbortSignal.timeout(10000),
  });
  const json = await response.json();
  const body = JSON.stringify(json, null, 2);
  if (!response.ok) {
    show("fault", `${response.status} ${json.title ?? ""}: ${json.detail ?? ""}`, body);
  } else if (json.active) {
    const sessions = json.session_count === 1 ? "1 active session" : `${json.session_count} active sessions`;
    show("live", `Active: ${sessions}`, body);
  } else {
    show("over", "No active session", body);
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  ask().catch((error) => show("fault", `No answer: ${error.message}`));
});
