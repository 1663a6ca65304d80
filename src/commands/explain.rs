//! `sessile explain`: why a user's answer is what it is, and until when.

use std::io::{self, Write};

use serde::Serialize;

use super::words::{distance, plain, table};
use super::{Done, load, say, sessions};
use crate::cli::Explain;
use crate::session::Policy;
use crate::store::View;
use crate::store::explain::{Explained, Explanation};
use crate::time::Timestamp;

pub(super) fn run(args: &Explain) -> anyhow::Result<Done> {
    let config = load(&args.common)?;
    let at = args.at.unwrap_or_else(Timestamp::now);
    let policy = config.policies.of(&args.tenant);
    // The view is gone once this has been gathered: however slowly it is read, no writer is held up.
    let explanation = View::open(&config.database.path)?.explain(
        &args.tenant,
        &args.user,
        at,
        policy,
        args.limit,
    )?;
    let found = Found::new(args, at, policy, &explanation);
    say(&args.output, &found, |out| {
        tell(out, args, at, policy, &explanation)
    })?;
    Ok(Done::Yes)
}

#[derive(Serialize)]
struct Found<'a> {
    tenant_id: &'a str,
    user_id: &'a str,
    at: String,
    active: bool,
    session_count: u64,
    changes_at: Option<String>,
    max_age: Option<String>,
    idle_timeout: Option<String>,
    leeway: String,
    /// How many sessions the file has of the user; `sessions` may hold fewer.
    total: u64,
    sessions: Vec<FoundSession<'a>>,
}

#[derive(Serialize)]
struct FoundSession<'a> {
    id: &'a str,
    counts: bool,
    ends_by: Option<&'static str>,
    ends_at: Option<String>,
    revoke_reason: Option<&'a str>,
}

impl<'a> Found<'a> {
    fn new(
        args: &'a Explain,
        at: Timestamp,
        policy: &Policy,
        explanation: &'a Explanation,
    ) -> Self {
        let shown = |session: &'a Explained| FoundSession {
            id: &session.id,
            counts: session.counts,
            ends_by: session.end.map(|end| end.by.name()),
            ends_at: session.end.map(|end| end.at.to_string()),
            revoke_reason: session.revoke_reason.as_deref(),
        };
        Self {
            tenant_id: args.tenant.as_str(),
            user_id: args.user.as_str(),
            at: at.to_string(),
            active: explanation.session_count > 0,
            session_count: explanation.session_count,
            changes_at: explanation.changes_at.map(|at| at.to_string()),
            max_age: policy.max_age.map(|span| span.to_string()),
            idle_timeout: policy.idle_timeout.map(|span| span.to_string()),
            leeway: policy.leeway.span().to_string(),
            total: explanation.total,
            sessions: explanation.sessions.iter().map(shown).collect(),
        }
    }
}

fn tell(
    out: &mut dyn Write,
    args: &Explain,
    at: Timestamp,
    policy: &Policy,
    explanation: &Explanation,
) -> io::Result<()> {
    let word = if explanation.session_count > 0 {
        "active"
    } else {
        "inactive"
    };
    let count = sessions(explanation.session_count);
    let (tenant, user) = (&args.tenant, plain(args.user.as_str()));
    writeln!(out, "{word}: {count} of {user} in tenant {tenant} at {at}")?;
    writeln!(out, "{}", rules(policy))?;
    match explanation.changes_at {
        Some(next) => writeln!(
            out,
            "the count changes next at {next}, {}",
            distance(next, at)
        )?,
        None => writeln!(out, "the count changes no more, unless the file does")?,
    }
    if explanation.total == 0 {
        return writeln!(out, "the file has no session of this user in this tenant");
    }
    writeln!(out)?;
    let rows: Vec<_> = explanation
        .sessions
        .iter()
        .map(|session| row(session, at))
        .collect();
    table(out, ["COUNTS", "ENDS BY", "AT", "", "SESSION"], &rows)?;
    let left_out = explanation.total - explanation.sessions.len() as u64;
    if left_out > 0 {
        writeln!(out, "… and {left_out} more; --limit shows them")?;
    }
    Ok(())
}

/// What ends sessions beside their stored deadlines.
fn rules(policy: &Policy) -> String {
    let limits = [
        ("max_age", policy.max_age),
        ("idle_timeout", policy.idle_timeout),
    ];
    let limits: Vec<String> = limits
        .into_iter()
        .filter_map(|(name, limit)| Some(format!("{name} {}", limit?)))
        .collect();
    let policy_words = if limits.is_empty() {
        "none".to_owned()
    } else {
        limits.join(", ")
    };
    format!("policy: {policy_words}; leeway {}", policy.leeway.span())
}

fn row(session: &Explained, at: Timestamp) -> [String; 5] {
    let counts = if session.counts { "yes" } else { "no" };
    let (by, ends_at, far) = match session.end {
        Some(end) => (end.by.name(), end.at.to_string(), distance(end.at, at)),
        None => ("nothing", String::new(), String::new()),
    };
    let mut id = plain(&session.id);
    if let Some(reason) = &session.revoke_reason {
        id.push_str(&format!(" ({})", plain(reason)));
    }
    [counts.to_owned(), by.to_owned(), ends_at, far, id]
}
