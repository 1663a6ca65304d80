//! What is said to people, in the language that they ask for; what is said to programs is the same in each.

use serde_json::Value;

use crate::support::{KEY, Response, Sandbox, Server, question, request};

const KEYED: (&str, &str) = ("X-API-Key", KEY);
const TENANT: (&str, &str) = ("X-Tenant-ID", "t");

fn server(args: &[&str]) -> (Sandbox, Server) {
    let sandbox = Sandbox::with_file();
    let server = sandbox.serve(args);
    (sandbox, server)
}

/// The Problem, which must be in the language that its header tells.
#[track_caller]
fn problem(response: &Response, language: &str) -> Value {
    assert_eq!(response.field("content-language"), Some(language));
    assert_eq!(response.field("vary"), Some("Accept, Accept-Language"));
    let json = response.json();
    for text in [&json["title"], &json["detail"]] {
        let is_english = text.as_str().unwrap().is_ascii();
        assert_eq!(is_english, language == "en", "{text}");
    }
    json
}

#[test]
fn only_title_detail_and_description_change_with_the_language() {
    let (_sandbox, server) = server(&["--mode", "development"]);
    let trace = (
        "traceparent",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    );
    let fields = [
        KEYED,
        ("X-Tenant-ID", "a b"),
        ("X-Request-ID", "req-1"),
        trace,
    ];
    let english = server.ask(&question("%zz", &fields));
    let chinese = [
        &fields[..],
        &[("Accept-Language", "zh-CN,zh;q=0.9,en;q=0.8")],
    ]
    .concat();
    let chinese = server.ask(&question("%zz", &chinese));
    let (mut english, mut chinese) = (problem(&english, "en"), problem(&chinese, "zh-CN"));
    assert_eq!(chinese["title"], "请求参数无效");
    assert_eq!(
        chinese["detail"],
        "请求中以下字段无效：X-Tenant-ID, user_id。"
    );
    assert_eq!(
        chinese["errors"][0]["description"],
        "X-Tenant-ID 必须是 1 到 128 个可见 ASCII 字符"
    );
    for json in [&mut english, &mut chinese] {
        for volatile in ["title", "detail", "timestamp", "trace_id", "span_id"] {
            json[volatile] = Value::Null;
        }
        for error in json["errors"].as_array_mut().unwrap() {
            assert!(error["description"].take().is_string());
        }
    }
    assert_eq!(english, chinese);
}

#[test]
fn arguments_stand_in_every_language() {
    let (_sandbox, server) = server(&[]);
    for (language, detail) in [
        ("en", "The method POST is not allowed here; GET, HEAD are."),
        ("zh-CN", "此处不允许使用方法 POST；允许的方法为 GET, HEAD。"),
    ] {
        let fields = [("Accept-Language", language)];
        let response = server.ask(&request("POST", "/healthz", &fields));
        assert_eq!(problem(&response, language)["detail"], detail);
    }
}

#[test]
fn a_language_is_chosen_by_weight_and_never_against_a_no() {
    let (_sandbox, server) = server(&[]);
    for (lines, language) in [
        (&[][..], "en"),
        (&["fr"], "en"),
        (&["zh"], "zh-CN"),
        (&["zh-Hans"], "zh-CN"),
        (&["zh-TW"], "zh-CN"),
        (&["en;q=0.8", "zh-Hans-CN;q=0.9"], "zh-CN"),
        (&["zh;q=0, *"], "en"),
        (&["en;q=0, *"], "zh-CN"),
        (&["\u{4e2d}"], "en"),
    ] {
        let mut fields = vec![TENANT];
        fields.extend(lines.iter().map(|line| ("Accept-Language", *line)));
        problem(&server.ask(&question("u", &fields)), language);
    }
}
