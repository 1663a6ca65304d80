//! `audit`: what the commands did, as they told it.

use serde_json::Value;

use crate::support::Sandbox;

/// A file in which every kind of change was made.
fn changed() -> Sandbox {
    let sandbox = Sandbox::with_file();
    sandbox.import(
        r#"{"tenant_id":"t","id":"1","user_id":"u","expires_in":"1h"}
           {"tenant_id":"t","id":"2","user_id":"u","expires_in":"-1h"}
           {"tenant_id":"s","id":"3","user_id":"secret-user","expires_in":"1h"}"#,
    );
    for args in [
        &["revoke", "--tenant", "t", "--user", "u", "--forget"][..],
        &["revoke", "--tenant", "t", "--session", "none"],
        &[
            "purge",
            "--ended-before",
            "0s",
            "--at",
            "2001-01-01T00:00:00Z",
        ],
        &["purge", "--ended-before", "0s", "--dry-run"],
        &["delete", "--tenant", "s", "--user", "secret-user"],
    ] {
        sandbox.run(args).ok();
    }
    sandbox
}

fn entries(sandbox: &Sandbox, args: &[&str]) -> Vec<Value> {
    let told = sandbox.run(&[&["audit", "--json"], args].concat()).ok();
    let json: Value = serde_json::from_str(&told).unwrap();
    json["entries"].as_array().unwrap().clone()
}

#[test]
fn every_change_is_listed_the_newest_first_and_no_user_is_named() {
    let sandbox = changed();
    let told = sandbox.run(&["audit"]).ok();
    assert!(!told.contains("secret-user"), "{told}");
    let user = entries(&sandbox, &["--limit", "1"])[0]["os_user"].clone();
    let told = told.replace(user.as_str().unwrap(), "USER");
    insta::with_settings!({filters => vec![(r"20\d\d-[0-9-]+T[0-9:.]+Z", "[instant]"), (" +", " ")]}, {
        insta::assert_snapshot!(told);
    });
}

#[test]
fn the_list_is_narrowed_by_tenant_instant_and_number() {
    let sandbox = changed();
    let commands = |args: &[&str]| -> Vec<String> {
        let entries = entries(&sandbox, args);
        let command = |entry: &Value| entry["command"].as_str().unwrap().to_owned();
        entries.iter().map(command).collect()
    };
    assert_eq!(
        commands(&[]),
        ["delete", "purge", "revoke", "revoke", "import"]
    );
    assert_eq!(commands(&["--tenant", "t"]), ["revoke", "revoke"]);
    assert_eq!(commands(&["--limit", "2"]), ["delete", "purge"]);
    assert_eq!(commands(&["--since", "2999-01-01T00:00:00Z"]).len(), 0);
    let third = entries(&sandbox, &[])[2]["at"].as_str().unwrap().to_owned();
    assert!(commands(&["--since", &third]).len() >= 3);
    let newest = &entries(&sandbox, &[])[0];
    assert_eq!(
        (&newest["sessions"], &newest["tenant_id"]),
        (&1.into(), &"s".into())
    );
}

#[test]
fn an_empty_audit_says_so() {
    let sandbox = Sandbox::with_file();
    assert_eq!(sandbox.run(&["audit"]).ok(), "no entry\n");
    assert_eq!(sandbox.run(&["audit", "--json"]).ok(), "{\"entries\":[]}\n");
}
