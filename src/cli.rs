//! The command line's types, and nothing else. Help, man page and completions come from here.

mod file;
mod sessions;

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};

use crate::exchange::Format;
use crate::session::{SessionId, TenantId, UserId};
use crate::time::{NotASpan, Span, Timestamp};

pub use file::{Backup, Doctor, Heartbeat, Init, Restore, Swap};
pub use sessions::{Audit, Delete, Explain, Export, Import, Purge, Revoke, Stats, Vacuum, Whose};

/// Answers one question for other services: does this user have an active session?
#[derive(Debug, Parser)]
#[command(name = "sessile", version, propagate_version = true, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 a negative finding (check: no active session; doctor: unfit);
2 usage or other trouble; 3 configuration; 4 data file; 5 address.";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Answer requests until SIGTERM or SIGINT
    ///
    /// Prints `listening on http://HOST:PORT` once it answers. SIGHUP has it read API keys and session policies anew,
    /// between two requests; where anything in the configuration is at fault, what was in force stays so.
    #[command(after_help = "\
Examples:
  sessile serve --demo                       try it, with nothing prepared
  sessile serve --config /etc/sessile.toml   serve for good
  sessile serve --listen 127.0.0.1:0         on a free port, which the ready line tells")]
    Serve(Serve),

    /// Make a new, empty data file, or bring an old one up to this program's format
    ///
    /// A file that is one already is left as it is. With --upgrade, a file of an older format is brought up in one
    /// transaction, after a backup beside it: SESSIONS.db.format-1.backup. Nothing else ever changes a file's format.
    #[command(after_help = "\
Examples:
  sessile init --database sessions.db
  sessile init --upgrade --dry-run
  sessile init --upgrade")]
    Init(Init),

    /// Take sessions from upstream's export, NDJSON or CSV into the data file
    ///
    /// The input is {"sessions":[…]}, one session object a line, or CSV with a header, told apart by its content.
    /// Either all of it is taken, in one transaction, or, if anything in it is at fault, nothing.
    #[command(after_help = "\
Examples:
  sessile import export.json
  sessile import - < sessions.ndjson
  sessile import --dry-run --at 2026-11-23T12:00:00Z sessions.ndjson
  sessile import --tenant acme --map user_id=uid --map id=sid logins.csv
  sessile import --skip-bad bad.ndjson sessions.ndjson
  sessile import --replace-tenant acme acme.json      what is not in it, ends
  sessile import --batch 100000 big.ndjson            in parts; after a kill, a full disk or Ctrl-C:
  sessile import --batch 100000 --resume big.ndjson
  sessile import --follow /run/login/sessions.fifo    until SIGTERM")]
    Import(Import),

    /// Write the sessions of the data file as NDJSON, CSV or upstream's export
    ///
    /// All are of one instant, whatever is written to the file meanwhile. What comes out, `sessile import` takes
    /// back, field for field.
    #[command(after_help = "\
Examples:
  sessile export > sessions.ndjson
  sessile export --tenant acme --format csv -o acme.csv
  sessile export --tenant acme --user alice --format upstream")]
    Export(Export),

    /// Say whether a user has an active session: the endpoint's answer, without the endpoint
    ///
    /// Exits with 0 where the user has one, with 1 where not.
    #[command(after_help = "\
Examples:
  sessile check --tenant acme alice
  sessile check --tenant acme alice --at 2026-11-23T12:00:00Z --json
  sessile check --tenant acme -- --odd-user-id")]
    Check(Check),

    /// Say why the answer is what it is: a user's sessions, which of them count, and until when
    ///
    /// A session that counts is shown with the deadline that will end it, another with the one that did, leeway
    /// included. `revoked`, `expires_at` and `idle_expires_at` are the file's, `policy.max_age` and
    /// `policy.idle_timeout` the configuration's.
    #[command(after_help = "\
Examples:
  sessile explain --tenant acme alice
  sessile explain --tenant acme alice --at 2026-11-23T12:00:00Z --json")]
    Explain(Explain),

    /// End one session, those of a user, or all of a tenant
    ///
    /// All of them end in one transaction, which a power cut can't take back. Sessions that were revoked before keep
    /// their end and their reason. A revocation that finds nothing says so, and is no error.
    #[command(after_help = "\
Examples:
  sessile revoke --tenant acme --session sess_1 --reason logout
  sessile revoke --tenant acme --user alice --reason 'password changed' --forget
  sessile revoke --tenant acme --all --reason incident
  sessile revoke --tenant acme --user=--odd-user-id")]
    Revoke(Revoke),

    /// Throw away sessions that ended long ago
    ///
    /// Only those that were revoked that long ago, or whose expires_at or idle_expires_at passed that long ago and a
    /// minute, the largest leeway, more: no answer changes by it, whatever policy is configured later. A session thrown
    /// away can't be revived by the login system, so choose a span after which it revives none. Other writers get their
    /// turn between small transactions; stopped, it can be run again.
    #[command(after_help = "\
Examples:
  sessile purge --ended-before 30d --dry-run
  sessile purge --ended-before 30d
  sessile purge --ended-before 30d --vacuum never    leave the room in the file to new sessions")]
    Purge(Purge),

    /// Erase a user: every session, with all its fields, and its traces in the file
    ///
    /// What is deleted is overwritten with zeros; then the file is written anew and the WAL emptied, since changes that
    /// other programs made earlier left traces elsewhere. Readers go on; other writers wait meanwhile. Backups, replicas and
    /// tables of your own in the file, are not touched. Ends with 2 if a trace may be left.
    #[command(after_help = "\
Examples:
  sessile delete --tenant acme --user alice
  sessile delete --tenant acme --user=--odd-user-id --json")]
    Delete(Delete),

    /// List what commands changed in the file: who, when, which command, how many sessions
    #[command(after_help = "\
Examples:
  sessile audit
  sessile audit --tenant acme --since 2026-11-01T00:00:00Z --limit 1000 --json")]
    Audit(Audit),

    /// Count what the file holds: tenants, users, sessions by what became of them, and bytes
    #[command(after_help = "\
Examples:
  sessile stats
  sessile stats --json")]
    Stats(Stats),

    /// Copy the data file, while everybody reads and writes
    ///
    /// The copy is the file of one moment. It is checked page by page, and gets its name only once it is whole and
    /// on the disk. It holds personal data, and is for its owner alone to read.
    #[command(after_help = "\
Examples:
  sessile backup /backup/sessions.db
  sessile backup --force --json /backup/sessions.db")]
    Backup(Backup),

    /// Put a backup's contents into the data file, while servers run
    ///
    /// All of it is replaced in one transaction, which running servers switch over with; where there is no data file,
    /// it is made. The backup itself is only read. Sessions that were revoked after the backup come back as active
    /// unless --keep-revocations is given. The rows of the audit that the backup lacks are kept.
    #[command(after_help = "\
Examples:
  sessile restore --dry-run /backup/sessions.db
  sessile restore --keep-revocations /backup/sessions.db")]
    Restore(Restore),

    /// Put another file into the place of the data file, where nobody writes it: a replica's newest state
    ///
    /// NEW is moved, once it was checked page by page; running servers go over to it at their next request, and none is
    /// refused. It must be a closed file on the same file system. A data file whose -wal has contents is left alone, since
    /// somebody writes it (`sessile restore` is for those), and so is one whose heartbeat is newer than that of NEW.
    #[command(after_help = "\
Examples:
  litestream restore -o /var/lib/sessile/new.db /var/lib/sessile/sessions.db
  sessile swap /var/lib/sessile/new.db")]
    Swap(Swap),

    /// Write the time into the data file, so that copies of it tell how old they are
    ///
    /// All that was committed before that instant, by the clock of the machine that this runs on, is in every file that
    /// has it, whatever brought the file there. `serve` tells its age in /readyz and /metrics, and
    /// `database.stale_after` goes by it. It belongs where the login system writes, and is a commit of one page.
    #[command(after_help = "\
Examples:
  sessile heartbeat --every 5s    until SIGTERM or SIGINT
  sessile heartbeat               once")]
    Heartbeat(Heartbeat),

    /// Find out whether everything is fit for `serve`: configuration, keys, file, folder, disk, clock and addresses
    ///
    /// Each finding comes with the command that mends it. Nothing is changed. Exits with 0 where all is fit, warnings
    /// or not, and with 1 where something is not.
    #[command(after_help = "\
Examples:
  sessile doctor
  sessile doctor --quick --json")]
    Doctor(Doctor),

    /// Show the effective configuration, with the source of each value and without secrets
    #[command(after_help = "\
Examples:
  sessile config
  sessile config --config /etc/sessile/sessile.toml --json")]
    Config(ShowConfig),

    /// Manage API keys
    #[command(subcommand)]
    Key(Key),
}

/// What every command takes that needs the configuration or the data file.
#[derive(Debug, Args)]
pub struct Common {
    /// The configuration file [default: ./sessile.toml, then /etc/sessile/sessile.toml]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// The data file [default: the configuration's database.path]
    #[arg(long, value_name = "FILE")]
    pub database: Option<String>,
}

/// How a command says what it found or did.
#[derive(Debug, Args)]
pub struct Output {
    /// Print one JSON object for programs, instead of words for people
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Serve {
    #[command(flatten)]
    pub common: Common,

    /// Where to listen, host:port or unix:/path; may be repeated [default: 127.0.0.1:11004]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Vec<String>,

    /// `production` or `development`
    #[arg(long)]
    pub mode: Option<String>,

    /// `error`, `warn`, `info`, `debug` or `trace`
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,

    /// `auto`, `text`, `json` or `journald`
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,

    /// Serve a throw-away file of sample sessions in development mode, with the key `demo-key`, and print what to
    /// ask it; configuration files and variables are not minded
    #[arg(long, conflicts_with_all = ["config", "database", "mode"])]
    pub demo: bool,
}

#[derive(Debug, Args)]
pub struct Check {
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

    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct ShowConfig {
    #[command(flatten)]
    pub common: Common,

    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Subcommand)]
pub enum Key {
    /// Make a new key of 256 random bits
    ///
    /// The key itself is printed this once and kept nowhere. The lines for the configuration hold its SHA-256.
    #[command(after_help = "Example:\n  sessile key new billing")]
    New {
        /// The key's name in logs: who will use it
        name: String,

        #[command(flatten)]
        output: Output,
    },
}

fn tenant(text: &str) -> Result<TenantId<'static>, String> {
    id(text, TenantId::ALLOWED, TenantId::new)
}

fn user(text: &str) -> Result<UserId<'static>, String> {
    id(text, UserId::ALLOWED, UserId::new)
}

fn session(text: &str) -> Result<SessionId<'static>, String> {
    id(text, SessionId::ALLOWED, SessionId::new)
}

/// A span that points into the past.
fn span_ago(text: &str) -> Result<Span, String> {
    match Span::parse(text) {
        Ok(span) if span >= Span::ZERO => Ok(span),
        Ok(_) => Err(format!("it is negative; allowed: {NotASpan}")),
        Err(error) => Err(format!("allowed: {error}")),
    }
}

/// A span of a second or more, for what is done again and again.
fn period(text: &str) -> Result<Span, String> {
    match Span::parse(text) {
        Ok(span) if span >= Span::from_millis(1_000) => Ok(span),
        _ => Err(format!("allowed: {NotASpan}, from \"1s\" on")),
    }
}

fn shapes() -> impl TypedValueParser<Value = Format> {
    PossibleValuesParser::new(["ndjson", "csv", "upstream"]).map(|name| match name.as_str() {
        "ndjson" => Format::Ndjson,
        "csv" => Format::Csv,
        _ => Format::Upstream,
    })
}

fn id<T, E: std::fmt::Display>(
    text: &str,
    allowed: &str,
    parse: impl FnOnce(String) -> Result<T, E>,
) -> Result<T, String> {
    parse(text.to_owned()).map_err(|fault| format!("{fault}; allowed: {allowed}"))
}
