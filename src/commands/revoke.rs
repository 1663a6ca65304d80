//! `sessile revoke`: sessions ended by an operator.

use serde::Serialize;

use super::words::plain;
use super::{Done, load, say, sessions};
use crate::cli;
use crate::store::Writer;
use crate::store::revoke::{Revocation, Revoked, Whose};
use crate::time::Timestamp;

pub(super) fn run(args: cli::Revoke) -> anyhow::Result<Done> {
    let config = load(&args.common)?;
    let whose = match (args.whose.session, args.whose.user) {
        (Some(id), _) => Whose::Session(id),
        (None, Some(id)) => Whose::User(id),
        (None, None) => Whose::Tenant,
    };
    let revocation = Revocation {
        tenant: args.tenant,
        whose,
        at: Timestamp::now(),
        reason: args.reason,
        forget: args.forget,
    };
    let policy = config.policies.of(&revocation.tenant);
    let revoked = Writer::open(&config.database.path)?.revoke(&revocation, policy)?;
    let found = Found {
        ended: revoked.ended,
        were_active: revoked.active,
        forgotten: revoked.forgotten,
        found: revoked.found,
    };
    say(&args.output, &found, |out| {
        writeln!(out, "{}", sentence(&revocation, &revoked))
    })?;
    Ok(Done::Yes)
}

#[derive(Serialize)]
struct Found {
    ended: u64,
    were_active: u64,
    forgotten: u64,
    found: bool,
}

/// What was done. Who named somebody that the file does not know is told so.
fn sentence(revocation: &Revocation, revoked: &Revoked) -> String {
    let tenant = &revocation.tenant;
    let (none, spent) = match &revocation.whose {
        Whose::Session(id) => {
            let named = format!("session {} in tenant {tenant}", plain(id.as_str()));
            (
                format!("there is no {named}"),
                format!("{named} was revoked before"),
            )
        }
        Whose::User(id) => {
            let named = format!("of user {} in tenant {tenant}", plain(id.as_str()));
            (
                format!("there is no session {named}"),
                format!("those {named} were revoked before"),
            )
        }
        Whose::Tenant => (
            format!("there is no session of tenant {tenant}"),
            format!("those of tenant {tenant} were revoked before"),
        ),
    };
    let ended = match revoked {
        Revoked { found: false, .. } => format!("ended 0 sessions: {none}"),
        Revoked { ended: 0, .. } => format!("ended 0 sessions: {spent}"),
        Revoked { ended, active, .. } => {
            format!("ended {}, {active} of them active", sessions(*ended))
        }
    };
    if revocation.forget {
        let forgotten = sessions(revoked.forgotten);
        format!("{ended}; cleared ip, user_agent and geoip of {forgotten}")
    } else {
        ended
    }
}
