//! The sample data and the answers that an independent oracle gives for it.

use std::collections::BTreeMap;
use std::fs;
use std::thread;

use crate::import_csv::sessions_as_csv;
use crate::support::{KEY, Sandbox, encode, fixture, question};

const AT: &str = "2026-11-23T12:00:00Z";

/// The policy that `policy.tsv` was made under.
const POLICY: &str = "[sessions.policy]\nmax_age = \"12h\"\nidle_timeout = \"30m\"\n";

pub struct Vector {
    pub at: String,
    pub tenant: String,
    pub user: String,
    pub count: u64,
}

pub fn vectors(name: &str) -> Vec<Vector> {
    let text = fs::read_to_string(fixture(name)).unwrap();
    let vectors: Vec<Vector> = text
        .lines()
        .map(|line| {
            let [at, tenant, user, count] =
                line.split('\t').collect::<Vec<_>>().try_into().unwrap();
            Vector {
                at: at.to_owned(),
                tenant: tenant.to_owned(),
                user: serde_json::from_str(user).unwrap(),
                count: count.parse().unwrap(),
            }
        })
        .collect();
    assert!(vectors.len() > 3_000 && vectors.iter().any(|vector| vector.count > 3));
    vectors
}

pub fn imported(input: &str, configuration: &str) -> Sandbox {
    let sandbox = Sandbox::with_file();
    sandbox.write("sessile.toml", configuration);
    sandbox
        .run(&["import", "--at", AT, fixture(input).to_str().unwrap()])
        .ok();
    sandbox
}

/// Every vector through HTTP, the clock pinned by the request.
fn hold_over_http(input: &str, answers: &str, configuration: &str) {
    vectors_hold_over_http(&imported(input, configuration), answers);
}

fn vectors_hold_over_http(sandbox: &Sandbox, answers: &str) {
    let server = sandbox.serve(&["--mode", "development"]);
    let mut connection = server.connect();
    for vector in vectors(answers) {
        let fields = [
            ("X-API-Key", KEY),
            ("X-Tenant-ID", &vector.tenant),
            ("X-Sessile-Now", &vector.at),
        ];
        let response = connection.ask(&question(&encode(&vector.user), &fields));
        let wanted = format!(
            r#"{{"active":{},"session_count":{}}}"#,
            vector.count > 0,
            vector.count
        );
        assert_eq!(
            response.body, wanted,
            "{} {} {:?}",
            vector.at, vector.tenant, vector.user
        );
    }
}

/// Every vector through `check`, on the machine's two cores or more.
fn hold_on_the_command_line(input: &str, answers: &str, configuration: &str) {
    let sandbox = imported(input, configuration);
    let sandbox = &sandbox;
    let vectors = vectors(answers);
    let share = vectors
        .len()
        .div_ceil(thread::available_parallelism().unwrap().get());
    thread::scope(|scope| {
        for vectors in vectors.chunks(share) {
            scope.spawn(move || {
                for vector in vectors {
                    let args = [
                        "check",
                        "--json",
                        "--at",
                        &vector.at,
                        "--tenant",
                        &vector.tenant,
                        "--",
                        &vector.user,
                    ];
                    let ended = sandbox.run(&args);
                    let wanted = format!(
                        "{{\"active\":{},\"session_count\":{}}}\n",
                        vector.count > 0,
                        vector.count
                    );
                    assert_eq!(ended.stdout, wanted, "{args:?}: {}", ended.stderr);
                    assert_eq!(ended.code, Some(i32::from(vector.count == 0)));
                }
            });
        }
    });
}

#[test]
fn an_export_is_counted_over_http() {
    hold_over_http("export.json", "expected.tsv", "");
}

#[test]
fn an_export_is_counted_over_http_under_a_policy() {
    hold_over_http("export.json", "policy.tsv", POLICY);
}

#[test]
fn ndjson_is_counted_over_http() {
    hold_over_http("sessions.ndjson", "expected.tsv", "");
}

#[test]
fn ndjson_is_counted_over_http_under_a_policy() {
    hold_over_http("sessions.ndjson", "policy.tsv", POLICY);
}

#[test]
fn an_export_is_counted_on_the_command_line() {
    hold_on_the_command_line("export.json", "expected.tsv", "");
}

#[test]
fn an_export_is_counted_on_the_command_line_under_a_policy() {
    hold_on_the_command_line("export.json", "policy.tsv", POLICY);
}

#[test]
fn ndjson_is_counted_on_the_command_line() {
    hold_on_the_command_line("sessions.ndjson", "expected.tsv", "");
}

#[test]
fn ndjson_is_counted_on_the_command_line_under_a_policy() {
    hold_on_the_command_line("sessions.ndjson", "policy.tsv", POLICY);
}

#[test]
fn csv_is_counted_over_http() {
    let sandbox = Sandbox::with_file();
    sandbox
        .run_with_input(&["import", "--at", AT, "-"], sessions_as_csv().as_bytes())
        .ok();
    vectors_hold_over_http(&sandbox, "expected.tsv");
}

/// Both shapes of the same sessions make the same file, and importing one over the other changes nothing.
#[test]
fn both_shapes_make_the_same_rows() {
    let rows = |sandbox: &Sandbox| -> BTreeMap<(String, String), String> {
        let connection = sandbox.sqlite();
        let mut select = connection.prepare("SELECT * FROM session").unwrap();
        let width = select.column_count();
        let row = |row: &rusqlite::Row<'_>| {
            let values: Vec<rusqlite::types::Value> =
                (0..width).map(|i| row.get_unwrap(i)).collect();
            Ok((
                (row.get_unwrap(0), row.get_unwrap(1)),
                format!("{values:?}"),
            ))
        };
        select
            .query_map([], row)
            .unwrap()
            .map(Result::unwrap)
            .collect()
    };
    let export = imported("export.json", "");
    let ndjson = imported("sessions.ndjson", "");
    assert_eq!(rows(&export).len(), 1_500);
    assert_eq!(rows(&export), rows(&ndjson));
    let again = fixture("export.json");
    ndjson
        .run(&[
            "import",
            "--at",
            "2027-01-01T00:00:00Z",
            again.to_str().unwrap(),
        ])
        .ok();
    assert_eq!(rows(&export), rows(&ndjson));
}
