//! The log: every event is explained in the README, and each line of a request tells whose it is.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::architecture::sources;
use crate::support::{KEY, Sandbox, question, request};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// The text that is logged by each macro of these levels in `source`: the first string that is an argument by itself.
fn events(source: &str) -> Vec<String> {
    let mut events = Vec::new();
    for level in ["info", "warn", "error"] {
        let call = format!("tracing::{level}!(");
        for (at, _) in source.match_indices(&call) {
            events.push(message(&source[at + call.len()..]));
        }
    }
    events
}

fn message(arguments: &str) -> String {
    let mut begins = true; // an argument
    let mut depth = 0;
    let mut rest = arguments.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '"' => {
                let text = string(&mut rest);
                if begins && depth == 0 {
                    return text;
                }
            }
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth > 0 => depth -= 1,
            ')' => break,
            _ => {}
        }
        begins = (c == ',' && depth == 0) || (begins && c.is_whitespace());
    }
    panic!(
        "an event without a text: {}",
        &arguments[..80.min(arguments.len())]
    );
}

/// The rest of a string literal, with `…` for what is filled in.
fn string(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> String {
    let mut text = String::new();
    while let Some(c) = rest.next() {
        match c {
            '"' => return text,
            '{' => {
                rest.find(|c| *c == '}');
                text.push('…');
            }
            '\\' if rest.peek() == Some(&'\n') => {
                while rest.next_if(|c| c.is_whitespace()).is_some() {}
            }
            '\\' => text.extend(rest.next()),
            c => text.push(c),
        }
    }
    panic!("a string without an end: {text}");
}

#[test]
fn the_sources_are_read_rightly() {
    let source = r#"
        tracing::info!("one");
        tracing::warn!(%error, a.b = f("x", 1), "two {x} and {}", "y");
        tracing::error!(
            c = "no",
            "three \
             goes on \"here\""
        );
        tracing::debug!("not this");
    "#;
    let wanted = ["one", "two … and …", "three goes on \"here\""];
    assert_eq!(events(source), wanted);
}

#[test]
fn every_event_is_explained_in_the_readme() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    let mut in_the_sources = BTreeSet::new();
    for file in files {
        in_the_sources.extend(events(&fs::read_to_string(&file).unwrap()));
    }
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let (_, logs) = readme.split_once("\n## Logs\n").unwrap();
    let (logs, _) = logs.split_once("\n## ").unwrap();
    let rows = logs.lines().filter_map(|line| line.strip_prefix("| `"));
    let in_the_readme: BTreeSet<String> = rows
        .map(|row| row.split("` | ").next().unwrap().to_owned())
        .collect();
    let unexplained: Vec<_> = in_the_sources.difference(&in_the_readme).collect();
    assert!(
        unexplained.is_empty(),
        "the README says nothing of {unexplained:#?}"
    );
    let unknown: Vec<_> = in_the_readme.difference(&in_the_sources).collect();
    assert!(unknown.is_empty(), "nothing logs {unknown:#?}");
    assert!(in_the_sources.len() > 20, "{in_the_sources:#?}");
}

/// The lines of a log, each as an object.
fn lines(log: &str) -> Vec<Value> {
    log.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

/// The lines with this text.
fn with_text<'l>(lines: &'l [Value], text: &str) -> Vec<&'l Value> {
    let found: Vec<&Value> = lines
        .iter()
        .filter(|line| line["message"] == text)
        .collect();
    assert!(!found.is_empty(), "no {text:?} in {lines:#?}");
    found
}

/// Whichever room and thread writes a line, the request it was written for can be found by its caller's trace.
#[test]
fn every_line_of_a_request_has_its_trace() {
    let (sandbox, other) = (Sandbox::with_file(), Sandbox::with_file());
    let server = sandbox.serve(&["--log-format", "json", "--log-level", "debug"]);
    let parent = format!("00-{TRACE}-b7ad6b7169203331-01");
    let fields = [
        ("X-API-Key", KEY),
        ("X-Tenant-ID", "t"),
        ("X-Request-ID", "mine"),
        ("traceparent", &parent),
    ];
    let answer = |request: &[u8]| server.ask(request).status;
    assert_eq!(answer(&question("u", &fields)), 200);
    fs::rename(other.database(), sandbox.database()).unwrap();
    assert_eq!(answer(&question("u", &fields)), 200);
    fs::remove_file(sandbox.database()).unwrap();
    assert_eq!(answer(&request("GET", "/readyz", &fields)), 503);
    assert_eq!(answer(&question("u", &fields)), 500);
    // A caller without a trace gets one, and it is the one that its Problem tells.
    let own = [("X-API-Key", KEY), ("X-Tenant-ID", "t")];
    let problem = server.ask(&question("u", &own)).json();
    server.signal("-TERM");
    let log = server.ended().stderr;
    let lines = lines(&log);

    for line in with_text(
        &lines,
        "the data file or its schema has changed; it was opened anew",
    ) {
        assert_eq!(line["span"]["trace.id"], TRACE, "{line}");
        assert_eq!(line["span"]["request.id"], "mine", "{line}");
    }
    for line in with_text(&lines, "the data file gives no answer") {
        assert_eq!(line["span"]["trace.id"], TRACE, "{line}");
    }
    let failed = with_text(&lines, "a request failed");
    assert_eq!(failed[0]["trace.id"], TRACE, "{log}");
    assert_eq!(failed[0]["request.id"], "mine", "{log}");
    let told = problem["trace_id"].as_str().unwrap();
    let trace = failed[1]["trace.id"].as_str().unwrap();
    assert!(told.contains(trace) && trace != TRACE, "{told} and {log}");
    for line in with_text(&lines, "answered") {
        assert!(line["trace.id"].is_string(), "{line}");
    }
}
