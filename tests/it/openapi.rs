//! `/openapi.json`, held against the server both ways: what it describes is answered, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::support::{KEY, Response, Sandbox, Server, question, request};

const OPERATION: &str = "/internal/session/sessions/{user_id}/active";
const SCOPED: &str = "a-scoped-key-for-tests-of-32-chars";
const LIMITED: &str = "a-limited-key-for-tests-of-32-char";

/// Members of a Problem that are new each time.
const VOLATILE: [&str; 4] = ["request_id", "trace_id", "span_id", "timestamp"];

/// The description, as a server gives it.
struct Description(Value);

impl Description {
    #[track_caller]
    fn of(server: &Server) -> Self {
        let response = server.ask(&request("GET", "/openapi.json", &[]));
        assert_eq!(response.field("content-type"), Some("application/json"));
        Self(response.json())
    }

    /// What a reference leads to.
    fn resolved<'d>(&'d self, value: &'d Value) -> &'d Value {
        match value.get("$ref").and_then(Value::as_str) {
            Some(reference) => {
                let target = self.0.pointer(reference.strip_prefix('#').unwrap());
                self.resolved(target.unwrap_or_else(|| panic!("{reference} leads nowhere")))
            }
            None => value,
        }
    }

    /// Every path, method and status.
    fn statuses(&self) -> BTreeSet<(String, String, u16)> {
        let mut found = BTreeSet::new();
        for (path, item) in self.0["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                for status in operation["responses"].as_object().into_iter().flatten() {
                    let method = method.to_ascii_uppercase();
                    found.insert((path.clone(), method, status.0.parse().unwrap()));
                }
            }
        }
        found
    }

    fn response(&self, path: &str, method: &str, status: u16) -> &Value {
        let operation = &self.0["paths"][path][method.to_ascii_lowercase()];
        self.resolved(&operation["responses"][status.to_string()])
    }

    /// Holds `value` to `schema`: its type, its members, and what they may be.
    #[track_caller]
    fn check(&self, value: &Value, schema: &Value) {
        let schema = self.resolved(schema);
        if let Some(allowed) = schema.get("enum") {
            assert!(
                allowed.as_array().unwrap().contains(value),
                "{value} is none of {allowed}"
            );
        }
        if let Some(only) = schema.get("const") {
            assert_eq!(value, only);
        }
        let is_of = |kind: &Value| match kind.as_str().unwrap() {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_i64() || value.is_u64(),
            other => panic!("{other} is no type"),
        };
        match schema.get("type") {
            Some(Value::Array(kinds)) => assert!(kinds.iter().any(is_of), "{value}: {schema}"),
            Some(kind) => assert!(is_of(kind), "{value}: {schema}"),
            None => {}
        }
        for element in value.as_array().into_iter().flatten() {
            self.check(element, &schema["items"]);
        }
        if let (Some(members), Some(known)) = (value.as_object(), schema.get("properties")) {
            for (name, member) in members {
                let schema = known.get(name);
                self.check(
                    member,
                    schema.unwrap_or_else(|| panic!("{name} is not described")),
                );
            }
            for name in schema["required"].as_array().into_iter().flatten() {
                assert!(
                    members.contains_key(name.as_str().unwrap()),
                    "{name} is missing"
                );
            }
        }
    }
}

/// Holds a response to its description: the header fields both ways, the media type, the body.
#[track_caller]
fn compare(description: &Description, response: &Response, told: &Value, is_head: bool) {
    let told_fields: BTreeSet<String> = told["headers"]
        .as_object()
        .unwrap_or_else(|| panic!("not described: {response:?}"))
        .keys()
        .map(|name| name.to_ascii_lowercase())
        .collect();
    // These belong to every HTTP response, and OpenAPI tells of none.
    let of_http = ["connection", "content-length", "content-type", "date"];
    let fields = response.fields.keys().cloned();
    let fields: BTreeSet<String> = fields
        .filter(|name| !of_http.contains(&name.as_str()))
        .collect();
    assert_eq!(fields, told_fields, "{response:?}");
    for (name, field) in told["headers"].as_object().unwrap() {
        let value = response.field(&name.to_ascii_lowercase()).unwrap();
        let schema = &description.resolved(field)["schema"];
        let value = if schema["type"] == "integer" {
            Value::from(value.parse::<u64>().unwrap())
        } else {
            Value::from(value)
        };
        description.check(&value, schema);
    }
    let Some(content) = told.get("content") else {
        assert_eq!(response.body, "");
        return;
    };
    let media_type = response.field("content-type").unwrap();
    let schema = &content[media_type]["schema"];
    assert!(schema.is_object(), "{media_type} is not described");
    if is_head {
        assert_eq!(response.body, "");
    } else if media_type.ends_with("json") {
        description.check(&response.json(), schema);
        if let Some(example) = content[media_type].get("example") {
            description.check(example, schema);
        }
    } else {
        assert_ne!(response.body, "");
    }
}

/// A request that leads to each status, by path (as it is described), method and status.
fn requests(description: &Description) -> BTreeMap<(String, String, u16), Vec<u8>> {
    let key = ("X-API-Key", KEY);
    let tenant = ("X-Tenant-ID", "acme");
    let long = ["?", &"x".repeat(6_144)].concat();
    let filler = vec![("X-Filler", "x"); 64];
    let mut found = BTreeMap::new();
    for (path, method, status) in description.statuses() {
        let target = path.replace("{user_id}", "alice").replace(
            "{slug}",
            if status == 404 {
                "nonsense"
            } else {
                "not-found"
            },
        );
        let of = |target: &str, fields: &[(&str, &str)]| request(&method, target, fields);
        let is_operation = path == OPERATION;
        let request = match status {
            200 if is_operation => of(&target, &[key, tenant]),
            400 if is_operation => of(&target, &[key]),
            401 => of(&target, &[tenant]),
            403 => of(&target, &[("X-API-Key", SCOPED), tenant]),
            429 => of(&target, &[("X-API-Key", LIMITED), tenant]),
            500 | 503 if is_operation => of(&target, &[key, tenant]),
            200 | 302 | 404 | 503 => of(&target, &[]),
            304 => of(&target, &[("If-None-Match", "*")]),
            400 => format!("{method} {target} HTTP/1.1\r\n\r\n").into_bytes(),
            414 => of(&format!("{target}{long}"), &[]),
            431 => of(&target, &filler),
            _ => panic!("no request is known that leads to {status} at {path}"),
        };
        found.insert((path, method, status), request);
    }
    found
}

fn server() -> (Sandbox, Server) {
    let sandbox = Sandbox::with_file();
    sandbox.write(
        "sessile.toml",
        &format!(
            "[[auth.keys]]\nname = \"scoped\"\nkey = \"{SCOPED}\"\ntenants = [\"other\"]\n\
             [[auth.keys]]\nname = \"limited\"\nkey = \"{LIMITED}\"\nmax_rate = 1\n"
        ),
    );
    let server = sandbox.serve(&[]);
    (sandbox, server)
}

#[test]
fn every_status_is_answered_as_it_is_described() {
    let (sandbox, running) = server();
    let description = Description::of(&running);
    let (broken_sandbox, broken) = server();
    std::fs::remove_file(broken_sandbox.database()).unwrap();
    let mut later = Vec::new();
    for ((path, method, status), request) in requests(&description) {
        let told = description.response(&path, &method, status);
        let is_operation = path == OPERATION;
        let response = match status {
            503 if is_operation => {
                later.push((method, request));
                continue;
            }
            500 | 503 => broken.ask(&request),
            429 => loop {
                let response = running.ask(&request);
                if response.status != 200 {
                    break response;
                }
            },
            _ => running.ask(&request),
        };
        assert_eq!(response.status, status, "{method} {path}");
        compare(&description, &response, told, method == "HEAD");
        let example = told.pointer("/content/application~1json/example");
        if let (true, "GET", Some(example)) = (is_operation, method.as_str(), example) {
            is_as_in_the_example(&response, example);
        }
        if (path.as_str(), status) == ("/problems/{slug}", 404) && method == "GET" {
            is_as_in_the_example(&response, example.unwrap());
        }
    }

    // Requests that are whole only once the server drains: see `serve::a_draining_server_says_503`.
    let mut connections: Vec<_> = later
        .iter()
        .map(|(method, request)| {
            let mut connection = running.connect();
            connection.send(&request[..20]);
            (connection, method, request)
        })
        .collect();
    let ask = question("u", &[("X-API-Key", KEY), ("X-Tenant-ID", "t")]);
    let mut others: Vec<_> = (0..64).map(|_| running.connect()).collect();
    for connection in &mut others {
        assert_eq!(connection.ask(&ask).status, 200);
    }
    running.signal("-TERM");
    while std::net::TcpStream::connect(&running.address).is_ok() {}
    for (connection, method, request) in &mut connections {
        connection.send(&request[20..]);
        let is_head = *method == "HEAD";
        let response = connection.receive(is_head);
        let told = description.response(OPERATION, method, 503);
        assert_eq!(response.status, 503);
        compare(&description, &response, told, is_head);
        if !is_head {
            is_as_in_the_example(&response, &told["content"]["application/json"]["example"]);
        }
    }
    assert_eq!(connections.len(), 2, "GET and HEAD");
    drop(sandbox);
}

/// The same but for what is new each time.
#[track_caller]
fn is_as_in_the_example(response: &Response, example: &Value) {
    let (mut json, mut example) = (response.json(), example.clone());
    for volatile in VOLATILE {
        assert_ne!(json[volatile].take(), Value::Null);
        assert_ne!(example[volatile].take(), Value::Null);
    }
    assert_eq!(json, example);
}

#[test]
fn every_other_method_is_405_as_it_is_described() {
    let (_sandbox, server) = server();
    let description = Description::of(&server);
    let told = &description.0["components"]["responses"]["MethodNotAllowed"];
    let example = &told["content"]["application/json"]["example"];
    for (path, item) in description.0["paths"].as_object().unwrap() {
        let target = path
            .replace("{user_id}", "alice")
            .replace("{slug}", "not-found");
        for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"] {
            assert_eq!(item.get(method.to_ascii_lowercase()), None);
            let response = server.ask(&request(method, &target, &[]));
            assert_eq!(response.status, 405, "{method} {path}");
            compare(&description, &response, told, false);
            if (path.as_str(), method) == (OPERATION, "POST") {
                is_as_in_the_example(&response, example);
            }
        }
    }
}

/// The examples of the parameters lead to the examples of the answer that are called the same.
#[test]
fn the_examples_hold_on_the_demonstration() {
    let sandbox = Sandbox::new();
    let server = Server::start(sandbox.command(&["serve", "--demo", "--listen", "127.0.0.1:0"]));
    let description = Description::of(&server);
    let parameters = &description.0["components"]["parameters"];
    let answers = &description.0["components"]["responses"]["Active"];
    let answers = answers["content"]["application/json"]["examples"]
        .as_object()
        .unwrap();
    let users = parameters["UserId"]["examples"].as_object().unwrap();
    assert_eq!(answers.len(), 3);
    assert!(answers.keys().eq(users.keys()));
    let mut fields = vec![("X-API-Key", "demo-key")];
    for parameter in ["TenantId", "RequestId", "Traceparent", "AcceptLanguage"] {
        let parameter = &parameters[parameter];
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let (name, value) = (text(&parameter["name"]), text(&parameter["example"]));
        fields.push((name.leak(), value.leak()));
    }
    for (name, answer) in answers {
        let user = users[name]["value"].as_str().unwrap();
        let response = server.ask(&question(user, &fields));
        assert_eq!(response.json(), answer["value"], "{name}");
        let id = parameters["RequestId"]["example"].as_str();
        assert_eq!(response.field("x-request-id"), id);
    }
    // A clock that is set answers as at that instant, at which none of these sessions had begun to count or all had ended.
    let now = parameters["Now"]["example"].as_str().unwrap();
    fields.push(("X-Sessile-Now", now));
    assert_eq!(server.ask(&question("alice", &fields)).status, 200);
}

#[test]
fn the_configuration_is_in_the_description() {
    let sandbox = Sandbox::with_file();
    sandbox.write(
        "sessile.toml",
        "auth.header = \"X-Internal-Key\"\nservice.name = \"sessions\"\nproblems.base_url = \"https://example.com/p#\"\n",
    );
    let server = sandbox.serve(&[]);
    let description = Description::of(&server);
    let scheme = &description.0["components"]["securitySchemes"]["ApiKey"];
    assert_eq!(scheme["name"], "X-Internal-Key");
    let told = description.response(OPERATION, "get", 401);
    let response = server.ask(&question("alice", &[("X-Tenant-ID", "acme")]));
    is_as_in_the_example(&response, &told["content"]["application/json"]["example"]);
    assert_eq!(
        response.json()["type"],
        "https://example.com/p#invalid-api-key"
    );
}
