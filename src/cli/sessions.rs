//! What the commands take that are about sessions: in and out of the file, and what became of them.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{Common, Output, session, shapes, span_ago, tenant, user};
use crate::exchange::{Format, Rename};
use crate::session::{SessionId, TenantId, UserId};
use crate::time::{Span, Timestamp};

#[derive(Debug, Args)]
pub struct Import {
    #[command(flatten)]
    pub common: Common,

    /// The input; `-` is standard input
    #[arg(value_name = "FILE")]
    pub input: PathBuf,

    /// What the input is [default: as its content says]
    #[arg(long, value_parser = shapes())]
    pub format: Option<Format>,

    /// The input's name for a field, such as user_id=uid; may be repeated
    #[arg(long, value_name = "FIELD=NAME", value_parser = Rename::parse)]
    pub map: Vec<Rename>,

    /// The tenant of all sessions, for an input that has none; one that names another is at fault
    #[arg(long, value_name = "TENANT", value_parser = tenant)]
    pub tenant: Option<TenantId<'static>>,

    /// The instant that relative times count from, in RFC 3339 [default: now]
    #[arg(long, value_name = "INSTANT", value_parser = Timestamp::parse_rfc3339)]
    pub at: Option<Timestamp>,

    /// Do all of it but the commit
    #[arg(long)]
    pub dry_run: bool,

    /// Write records at fault to this file, as they are in the input, and take the rest
    #[arg(long, value_name = "FILE")]
    pub skip_bad: Option<PathBuf>,

    /// The input is all of this tenant's sessions: end those that are not in it, in the same transaction
    #[arg(long, value_name = "TENANT", value_parser = tenant, conflicts_with_all = ["tenant", "skip_bad"])]
    pub replace_tenant: Option<TenantId<'static>>,

    /// Take a snapshot without any session, and an export whose total is not its number of sessions
    #[arg(long)]
    pub force: bool,

    /// Commit each so many records, so that not all is lost with the last
    #[arg(long, value_name = "RECORDS", value_parser = clap::value_parser!(u64).range(1..),
          conflicts_with_all = ["replace_tenant", "dry_run"])]
    pub batch: Option<u64>,

    /// Go on exactly where an import of this input in parts has stopped
    #[arg(long, conflicts_with_all = ["replace_tenant", "dry_run", "at"])]
    pub resume: bool,

    /// Begin anew an import of this input in parts that has stopped
    #[arg(long, conflicts_with_all = ["resume", "dry_run"])]
    pub restart: bool,

    /// Read a named pipe, or a file that grows, until SIGTERM or SIGINT, and commit as sessions come; a later line
    /// of a session replaces an earlier one, and lines at fault are told and left out
    #[arg(long, conflicts_with_all = ["batch", "resume", "restart", "dry_run", "replace_tenant", "force"])]
    pub follow: bool,

    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct Export {
    #[command(flatten)]
    pub common: Common,

    /// The shape
    #[arg(long, value_parser = shapes(), default_value = "ndjson")]
    pub format: Format,

    /// Only this tenant's sessions
    #[arg(long, value_name = "TENANT", value_parser = tenant)]
    pub tenant: Option<TenantId<'static>>,

    /// Only this user's sessions
    #[arg(long, value_name = "USER", requires = "tenant", allow_hyphen_values = true,
          value_parser = user)]
    pub user: Option<UserId<'static>>,

    /// Where to; it takes the place of what is there once all is written [default: standard output]
    #[arg(long = "output", short = 'o', value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// Print one JSON object for programs about what was written, instead of words for people
    #[arg(long, requires = "file")]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Explain {
    #[command(flatten)]
    pub common: Common,

    /// The tenant, as in X-Tenant-ID
    #[arg(long, value_name = "TENANT", value_parser = tenant)]
    pub tenant: TenantId<'static>,

    /// The user id, in plain text
    #[arg(allow_negative_numbers = true, value_parser = user)]
    pub user: UserId<'static>,

    /// The instant to answer for, in RFC 3339 [default: now]
    #[arg(long, value_name = "INSTANT", value_parser = Timestamp::parse_rfc3339)]
    pub at: Option<Timestamp>,

    /// Show no more sessions than this; the count is of all
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: u32,

    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct Revoke {
    #[command(flatten)]
    pub common: Common,

    /// The tenant, as in X-Tenant-ID
    #[arg(long, value_name = "TENANT", value_parser = tenant)]
    pub tenant: TenantId<'static>,

    #[command(flatten)]
    pub whose: Whose,

    /// Why, for whoever reads the file; stored as revoke_reason
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,

    /// Clear ip, user_agent and geoip, too, also of sessions that were revoked before
    #[arg(long)]
    pub forget: bool,

    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Whose {
    /// The session with this id
    #[arg(long, value_name = "ID", allow_negative_numbers = true, value_parser = session)]
    pub session: Option<SessionId<'static>>,

    /// Every session of this user
    #[arg(long, value_name = "USER", allow_negative_numbers = true, value_parser = user)]
    pub user: Option<UserId<'static>>,

    /// Every session of the tenant
    #[arg(long)]
    pub all: bool,
}

#[derive(Debug, Args)]
pub struct Purge {
    #[command(flatten)]
    pub common: Common,

    /// How long ago a session must have ended, such as 30d or 12h
    #[arg(long, value_name = "SPAN", allow_hyphen_values = true, value_parser = span_ago)]
    pub ended_before: Span,

    /// Say how many it would be, and change nothing
    #[arg(long)]
    pub dry_run: bool,

    /// The instant that the span counts back from, in RFC 3339; later than now only with --dry-run [default: now]
    #[arg(long, value_name = "INSTANT", value_parser = Timestamp::parse_rfc3339)]
    pub at: Option<Timestamp>,

    /// Whether to give the room back to the disk by writing the file anew, for which other writers wait and twice as
    /// much room again is needed
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub vacuum: Vacuum,

    #[command(flatten)]
    pub output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Vacuum {
    /// If it may save a quarter of the file
    Auto,
    Always,
    Never,
}

#[derive(Debug, Args)]
pub struct Delete {
    #[command(flatten)]
    pub common: Common,

    /// The tenant, as in X-Tenant-ID
    #[arg(long, value_name = "TENANT", value_parser = tenant)]
    pub tenant: TenantId<'static>,

    /// The user id, in plain text
    #[arg(long, value_name = "USER", allow_negative_numbers = true, value_parser = user)]
    pub user: UserId<'static>,

    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct Audit {
    #[command(flatten)]
    pub common: Common,

    /// Only what was changed of this tenant
    #[arg(long, value_name = "TENANT", value_parser = tenant)]
    pub tenant: Option<TenantId<'static>>,

    /// Only what was changed since then, in RFC 3339
    #[arg(long, value_name = "INSTANT", value_parser = Timestamp::parse_rfc3339)]
    pub since: Option<Timestamp>,

    /// Show no more entries than this, the newest
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: u32,

    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct Stats {
    #[command(flatten)]
    pub common: Common,

    /// The instant to count for, in RFC 3339 [default: now]
    #[arg(long, value_name = "INSTANT", value_parser = Timestamp::parse_rfc3339)]
    pub at: Option<Timestamp>,

    #[command(flatten)]
    pub output: Output,
}
