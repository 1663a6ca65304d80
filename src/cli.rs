//! The command line's types, and nothing else. Help, man page and completions come from here.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::session::{TenantId, UserId};
use crate::time::Timestamp;

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
    /// Prints `listening on http://HOST:PORT` once it answers.
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

    /// Take sessions from upstream's export or from NDJSON into the data file
    ///
    /// The input is {"sessions":[…]} or one session object a line, told apart by its content. Either all of it is
    /// taken, in one transaction, or, if anything in it is at fault, nothing.
    #[command(after_help = "\
Examples:
  sessile import export.json
  sessile import - < sessions.ndjson
  sessile import --dry-run --at 2026-11-23T12:00:00Z sessions.ndjson")]
    Import(Import),

    /// Say whether a user has an active session: the endpoint's answer, without the endpoint
    ///
    /// Exits with 0 where the user has one, with 1 where not.
    #[command(after_help = "\
Examples:
  sessile check --tenant acme alice
  sessile check --tenant acme alice --at 2026-11-23T12:00:00Z --json
  sessile check --tenant acme -- --odd-user-id")]
    Check(Check),

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
pub struct Import {
    #[command(flatten)]
    pub common: Common,

    /// The input; `-` is standard input
    #[arg(value_name = "FILE")]
    pub input: PathBuf,

    /// The instant that relative times count from, in RFC 3339 [default: now]
    #[arg(long, value_name = "INSTANT", value_parser = Timestamp::parse_rfc3339)]
    pub at: Option<Timestamp>,

    /// Do all of it but the commit
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub struct Check {
    #[command(flatten)]
    pub common: Common,

    /// The tenant, as in X-Tenant-ID
    #[arg(long, value_name = "TENANT", value_parser = |text: &str| id(text, TenantId::ALLOWED, TenantId::new))]
    pub tenant: TenantId<'static>,

    /// The user id, in plain text
    #[arg(allow_negative_numbers = true, value_parser = |text: &str| id(text, UserId::ALLOWED, UserId::new))]
    pub user: UserId<'static>,

    /// The instant to answer for, in RFC 3339 [default: now]
    #[arg(long, value_name = "INSTANT", value_parser = Timestamp::parse_rfc3339)]
    pub at: Option<Timestamp>,

    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct Init {
    #[command(flatten)]
    pub common: Common,

    /// Bring a file of an older format up to this program's
    #[arg(long)]
    pub upgrade: bool,

    /// Do all of the upgrade but the backup and the commit
    #[arg(long, requires = "upgrade")]
    pub dry_run: bool,

    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct Backup {
    #[command(flatten)]
    pub common: Common,

    /// The copy to make
    #[arg(value_name = "COPY")]
    pub copy: PathBuf,

    /// Replace the file that is there
    #[arg(long)]
    pub force: bool,

    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct Restore {
    #[command(flatten)]
    pub common: Common,

    /// The backup, as `sessile backup` makes them
    #[arg(value_name = "BACKUP")]
    pub backup: PathBuf,

    /// Let sessions that the data file has as revoked stay so
    #[arg(long)]
    pub keep_revocations: bool,

    /// Say what would come and go, and change nothing
    #[arg(long)]
    pub dry_run: bool,

    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct Doctor {
    #[command(flatten)]
    pub common: Common,

    /// Don't compare each index with its table: faster, but an entry in the wrong place may be missed
    #[arg(long)]
    pub quick: bool,

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

fn id<T, E: std::fmt::Display>(
    text: &str,
    allowed: &str,
    parse: impl FnOnce(String) -> Result<T, E>,
) -> Result<T, String> {
    parse(text.to_owned()).map_err(|fault| format!("{fault}; allowed: {allowed}"))
}
