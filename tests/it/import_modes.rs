//! `import` with records left out, by a snapshot, and in parts.

use std::fs;

use rusqlite::types::Value;

use crate::import::{NOW, NOW_MILLIS, audit, row, rows, session};
use crate::support::{Ended, Sandbox};

fn import(sandbox: &Sandbox, args: &[&str], input: &str) -> Ended {
    sandbox.write("input", input);
    let args: Vec<&str> = ["import", "input"].iter().chain(args).copied().collect();
    sandbox.run(&args)
}

/// A session `id` of tenant `t`, for an hour.
fn line(id: &str) -> String {
    session(r#""expires_in":"1h""#).replace("\"s\"", &format!("{id:?}")) + "\n"
}

fn lines(ids: impl IntoIterator<Item = u32>) -> String {
    ids.into_iter().map(|id| line(&id.to_string())).collect()
}

/// The ids in the file that have not ended.
fn live(sandbox: &Sandbox) -> Vec<String> {
    let connection = sandbox.sqlite();
    let mut select = connection
        .prepare("SELECT tenant_id || '/' || id FROM session WHERE revoked_at IS NULL ORDER BY 1")
        .unwrap();
    let ids = select.query_map([], |row| row.get(0)).unwrap();
    ids.map(Result::unwrap).collect()
}

fn progress(sandbox: &Sandbox) -> Vec<i64> {
    let connection = sandbox.sqlite();
    let mut select = connection
        .prepare("SELECT records FROM sessile_import")
        .unwrap();
    let records = select.query_map([], |row| row.get(0)).unwrap();
    records.map(Result::unwrap).collect()
}

#[test]
fn bad_lines_are_put_aside_as_they_were() {
    let sandbox = Sandbox::with_file();
    let bad = ["{\"id\":  1 }", "nonsense \t x", "{\"id\":\"\u{1f600}\""];
    let input = format!(
        "{}{}\n{}\r\n\n{}{}\n{}",
        line("a"),
        bad[0],
        bad[1],
        line("b"),
        bad[2],
        line("a")
    );
    let ended = import(&sandbox, &["--skip-bad", "bad"], &input);
    assert!(
        ended.stderr.contains("line 3: column 2: expected ident"),
        "{ended:?}"
    );
    assert_eq!(
        ended.ok(),
        "imported 2 sessions into sessile.db: 2 new, 0 replaced; 2 came active, 0 ended; 4 at fault were left out, into bad\n"
    );
    assert_eq!(
        fs::read_to_string(sandbox.path("bad")).unwrap(),
        format!("{}\n{}\n{}\n{}", bad[0], bad[1], bad[2], line("a"))
    );
    assert_eq!(live(&sandbox), ["t/a", "t/b"]);

    let error = import(&sandbox, &["--skip-bad", "bad"], &input).failed(2);
    assert!(error.contains("found bad with content"), "{error}");
    for (args, file) in [
        (&["--skip-bad", "input"][..], "input"),
        (&["--skip-bad", "./sessile.db", "--resume"], "data file"),
        (&["--skip-bad", "sessile.db", "--follow"], "data file"),
    ] {
        let error = import(&sandbox, args, &input).failed(2);
        assert!(
            error.contains(&format!("found the {file} itself")),
            "{error}"
        );
    }
    fs::remove_file(sandbox.path("bad")).unwrap();
    let json = import(&sandbox, &["--skip-bad", "bad", "--json"], &input).ok();
    insta::assert_snapshot!(json);
}

#[test]
fn bad_rows_of_a_csv_are_put_aside_with_its_header() {
    let sandbox = Sandbox::with_file();
    let input = "id,tenant_id,\"user_id\",expires_in,ip\r\n\
                 a,t,u,1h,\r\n\
                 b,t,u,,\"1.1\r\n.1.1\"\r\n\
                 \r\n\
                 c,t,u,1h\r\n\
                 d,t,u,1h,\"\"";
    import(&sandbox, &["--skip-bad", "bad"], input).ok();
    assert_eq!(live(&sandbox), ["t/a", "t/d"]);
    assert_eq!(
        fs::read_to_string(sandbox.path("bad")).unwrap(),
        "id,tenant_id,\"user_id\",expires_in,ip\nb,t,u,,\"1.1\r\n.1.1\"\nc,t,u,1h\n"
    );
}

#[test]
fn bad_elements_of_an_export_are_put_aside_as_lines() {
    let sandbox = Sandbox::with_file();
    let input = format!(
        "{{\"sessions\": [\n  {},\n  {{\n    \"id\": \"b  \\n\",\n    \"n\": 1e400\n  }},\n  7\n], \"total\": 3}}",
        line("a").trim()
    );
    let ended = import(&sandbox, &["--skip-bad", "bad"], &input);
    assert!(
        ended
            .stderr
            .contains("sessions[2]: invalid type: integer `7`, expected a session object"),
        "{ended:?}"
    );
    ended.ok();
    assert_eq!(live(&sandbox), ["t/a"]);
    assert_eq!(
        fs::read_to_string(sandbox.path("bad")).unwrap(),
        "{ \"id\": \"b  \\n\", \"n\": 1e400 }\n7\n"
    );
}

/// What keeps the rest from being read can't be left out.
#[test]
fn a_truncated_input_is_no_bad_record() {
    let sandbox = Sandbox::with_file();
    let export = format!("{{\"sessions\":[{},{{\"id", line("a").trim());
    let error = import(&sandbox, &["--skip-bad", "bad"], &export).failed(2);
    assert!(
        error.contains("1 fault in 1 session; nothing was written"),
        "{error}"
    );
    let header = "id,tenant_id\na,t\n";
    let error = import(&sandbox, &["--skip-bad", "bad"], header).failed(2);
    assert!(
        error.contains("2 faults in 0 sessions; nothing was written"),
        "{error}"
    );
    assert_eq!(rows(&sandbox), 0);
}

#[test]
fn a_snapshot_ends_what_it_has_not() {
    let sandbox = Sandbox::with_file();
    let other_tenant = line("a").replace("\"t\"", "\"t2\"");
    let ended = session(
        r#""expires_in":"1h","revoked_at":"2026-11-01T00:00:00Z","revoke_reason":"logout""#,
    )
    .replace("\"s\"", "\"gone\"");
    import(
        &sandbox,
        &[],
        &format!("{}{other_tenant}{ended}", lines(1..=5)),
    )
    .ok();
    let snapshot = "id,user_id,expires_in\n2,u,2h\n6,u,1h\n4,u,1h\n";
    let said = import(&sandbox, &["--replace-tenant", "t", "--at", NOW], snapshot).ok();
    assert_eq!(
        said,
        "imported 3 sessions into sessile.db: 1 new, 2 replaced; 3 came active, 0 ended; \
         3 that the snapshot has not were ended\n"
    );
    assert_eq!(live(&sandbox), ["t/2", "t/4", "t/6", "t2/a"]);
    let absent = row(&sandbox, "1");
    assert_eq!(absent["revoked_at"], Value::Integer(NOW_MILLIS));
    assert_eq!(
        absent["revoke_reason"],
        Value::Text("not in snapshot".to_owned())
    );
    assert_eq!(
        row(&sandbox, "gone")["revoke_reason"],
        Value::Text("logout".to_owned())
    );
    let (_, _, tenant, sessions) = audit(&sandbox).pop().unwrap();
    assert_eq!((tenant.as_deref(), sessions), (Some("t"), 6));
}

/// Nothing that looks like an accident logs a tenant out.
#[test]
fn a_snapshot_that_looks_wrong_is_refused() {
    let sandbox = Sandbox::with_file();
    import(&sandbox, &[], &lines(1..=3)).ok();
    let replace = ["--replace-tenant", "t"];
    for (input, wanted) in [
        (
            String::new(),
            "no session of tenant t: all of those in the file would be ended; --force does so",
        ),
        (
            "id,user_id,expires_in\n".to_owned(),
            "no session of tenant t",
        ),
        (
            "{\"sessions\":[],\"total\":0}".to_owned(),
            "no session of tenant t",
        ),
        (
            "{\"sessions\":[],\"total\":3}".to_owned(),
            "total: found 3 beside 0 sessions",
        ),
        (
            format!("{{\"sessions\":[{}],\"total\":3}}", line("1").trim()),
            "total: found 3 beside 1 session",
        ),
        (format!("{{\"sessions\":[{}", line("1").trim()), "EOF"),
        (
            line("1") + &line("9").replace("\"t\"", "\"t2\""),
            "tenant_id: found \"t2\"; allowed: t",
        ),
        (line("1") + "{}", "id: found nothing"),
    ] {
        let error = import(&sandbox, &replace, &input).failed(2);
        assert!(
            error.contains(wanted) && error.to_lowercase().contains("nothing was written"),
            "{input}: {error}"
        );
        assert_eq!(live(&sandbox), ["t/1", "t/2", "t/3"], "{input}");
    }
    for with in [
        &["--batch", "1"][..],
        &["--resume"],
        &["--skip-bad", "bad"],
        &["--tenant", "t"],
        &["--follow"],
    ] {
        let error = import(&sandbox, &[&replace[..], with].concat(), "").failed(2);
        assert!(error.contains("cannot be used with"), "{error}");
    }
    let dry = import(
        &sandbox,
        &["--replace-tenant", "t", "--force", "--dry-run"],
        "",
    )
    .ok();
    assert!(
        dry.ends_with("3 that the snapshot has not were ended\n"),
        "{dry}"
    );
    assert_eq!(live(&sandbox).len(), 3);
    import(&sandbox, &["--replace-tenant", "t", "--force"], "").ok();
    assert_eq!(live(&sandbox), Vec::<String>::new());
}

#[test]
fn parts_are_kept_up_to_a_fault_and_resumed_behind_it() {
    let sandbox = Sandbox::with_file();
    let input = format!("{}{{}}\n{}", lines(1..=7), lines(8..=10));
    let error = import(&sandbox, &["--batch", "3", "--at", NOW], &input).failed(2);
    let path = fs::canonicalize(sandbox.path("input")).unwrap();
    let last = error.lines().last().unwrap();
    assert_eq!(
        last,
        format!(
            "sessile: 7 records of {} are done with: line 8 is at fault; put it right, or leave it out with \
             --skip-bad, and go on with --resume",
            path.display()
        )
    );
    assert_eq!((rows(&sandbox), progress(&sandbox)), (7, vec![7]));

    let mended = lines(1..=10);
    for args in [&[][..], &["--batch", "3"]] {
        let error = import(&sandbox, args, &mended).failed(2);
        assert!(
            error.contains(
                "stopped after 7 records; --resume goes on behind them, --restart begins anew"
            ),
            "{error}"
        );
    }
    let other = lines((2..=11).rev());
    let error = import(&sandbox, &["--resume"], &other).failed(2);
    assert!(
        error.contains("the first 7 records of the input are not those that were imported"),
        "{error}"
    );
    let faulty = import(&sandbox, &["--resume"], &(lines(1..=7) + "{}")).failed(2);
    assert!(
        faulty.ends_with("4 faults in 8 sessions; nothing more was written\n"),
        "{faulty}"
    );
    let error = import(&sandbox, &["--resume"], &lines(1..=3)).failed(2);
    assert!(
        error.contains("the first 7 records of the input are not those"),
        "{error}"
    );

    let said = import(&sandbox, &["--resume", "--batch", "2"], &mended).ok();
    assert_eq!(
        said,
        "imported 3 sessions into sessile.db: 3 new, 0 replaced; 3 came active, 0 ended; 7 were done before\n"
    );
    assert_eq!((rows(&sandbox), progress(&sandbox)), (10, vec![]));
    // The whole import has one now.
    assert_eq!(
        row(&sandbox, "10")["expires_at"],
        Value::Integer(NOW_MILLIS + 3_600_000)
    );
    let sessions: Vec<i64> = audit(&sandbox)
        .into_iter()
        .map(|(_, _, _, sessions)| sessions)
        .collect();
    assert_eq!(sessions, [7, 3]);

    // Nothing is under way: it begins at the beginning.
    import(&sandbox, &["--resume"], &mended).ok();
    import(&sandbox, &[], &mended).ok();
}

#[test]
fn an_import_in_parts_can_begin_anew() {
    let sandbox = Sandbox::with_file();
    for args in [
        &["--restart"][..],
        &["--restart", "--batch", "1"],
        &["--restart", "--batch", "2", "--skip-bad", "/dev/null"],
    ] {
        import(&sandbox, &["--batch", "2"], &(lines(1..=4) + "{}\n")).failed(2);
        assert_eq!(progress(&sandbox), [4]);
        import(&sandbox, args, &lines(3..=9)).ok();
        assert_eq!(progress(&sandbox), Vec::<i64>::new());
    }
}

/// What came twice is known across runs, whether the first of it was new or took another's place.
#[test]
fn an_id_twice_is_found_across_runs() {
    for seeded in [false, true] {
        let sandbox = Sandbox::with_file();
        if seeded {
            import(&sandbox, &[], &lines(1..=3)).ok();
        }
        import(&sandbox, &["--batch", "1"], &(lines(1..=3) + "{}\n")).failed(2);
        let error = import(
            &sandbox,
            &["--batch", "1", "--resume"],
            &(lines(1..=3) + &lines([2])),
        )
        .failed(2);
        assert!(
            error.contains("line 4: id: found \"2\" of tenant t for the second time"),
            "{error}"
        );
        assert_eq!(progress(&sandbox), [3]);
    }
}

#[test]
fn what_was_put_aside_is_there_once_after_a_resume() {
    let sandbox = Sandbox::with_file();
    let bad = ["--batch", "2", "--skip-bad", "bad"];
    let input = format!("{{1\n{}{}{{2\n{}", lines(1..=3), line("2"), line("4"));
    // The total is known at the end only: all but the last part are done by then.
    let export = |ids: &[&str], total: u32| {
        let elements: Vec<String> = ids.iter().map(|id| line(id).trim().to_owned()).collect();
        format!(
            "{{\"sessions\":[5,{}],\"total\":{total}}}",
            elements.join(",")
        )
    };
    let error = import(&sandbox, &bad, &export(&["1", "2", "2", "3"], 9)).failed(2);
    assert!(
        error.contains("4 records of ")
            && error.contains("total: found 9 beside 5 sessions")
            && error.contains("The last part was not written"),
        "{error}"
    );
    assert_eq!(progress(&sandbox), [4]);
    import(
        &sandbox,
        &[&bad[..], &["--resume", "--force"]].concat(),
        &export(&["1", "2", "2", "3"], 9),
    )
    .ok();
    assert_eq!(
        fs::read_to_string(sandbox.path("bad")).unwrap(),
        format!("5\n{}", line("2"))
    );
    assert_eq!(live(&sandbox), ["t/1", "t/2", "t/3"]);

    fs::remove_file(sandbox.path("bad")).unwrap();
    import(&sandbox, &bad, &input).ok();
    let wanted = format!("{{1\n{}{{2\n", line("2"));
    assert_eq!(fs::read_to_string(sandbox.path("bad")).unwrap(), wanted);
}
