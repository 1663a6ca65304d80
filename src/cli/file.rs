//! What the commands take that are about the data file as a whole.

use std::path::PathBuf;

use clap::Args;

use super::{Common, Output, period};
use crate::time::Span;

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
pub struct Swap {
    #[command(flatten)]
    pub common: Common,

    /// The file to swap in
    #[arg(value_name = "NEW")]
    pub new: PathBuf,

    /// Take it even if its contents are older
    #[arg(long)]
    pub force: bool,

    /// Don't compare each index with its table: faster, but an entry in the wrong place may be missed
    #[arg(long)]
    pub quick: bool,

    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct Heartbeat {
    #[command(flatten)]
    pub common: Common,

    /// Go on, and write it this often, such as 5s; a failure is told, and tried again
    #[arg(long, value_name = "SPAN", allow_hyphen_values = true, value_parser = period)]
    pub every: Option<Span>,

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
