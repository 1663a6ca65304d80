//! `sessile doctor`: whether everything is fit for `serve`, and where not, what mends it.
//!
//! Nothing is changed, and nothing is left behind. Whatever a check can't find out is a finding, too: an error of its
//! own, with another exit code, would keep the others from being told.

mod file;
mod folder;
mod report;
mod service;

use std::path::PathBuf;

use super::{Done, load, say};
use crate::cli::Doctor;
use crate::store::backup::Depth;
use report::{Report, quoted};

pub(super) fn run(args: &Doctor) -> anyhow::Result<Done> {
    let mut report = Report::default();
    let path = match load(&args.common) {
        Ok(config) => {
            service::examine(&mut report, &config);
            Some(config.database.path)
        }
        Err(faults) => {
            let named = args.common.config.as_ref();
            let mend = named.map_or("sessile config".to_owned(), |file| {
                format!("sessile config --config {}", quoted(file))
            });
            for fault in faults.0 {
                report.fault("configuration", fault.to_string(), Some(mend.clone()));
            }
            args.common.database.as_ref().map(PathBuf::from)
        }
    };
    match path {
        Some(path) => {
            let depth = if args.quick {
                Depth::Quick
            } else {
                Depth::Full
            };
            folder::examine(&mut report, &path);
            file::examine(&mut report, &path, depth);
        }
        None => report.warning(
            "file",
            "it was not looked at, because the configuration that names it has faults".to_owned(),
            Some("sessile doctor --database FILE".to_owned()),
        ),
    }
    say(&args.output, &report.to_json(), |out| report.write(out))?;
    Ok(if report.is_fit() { Done::Yes } else { Done::No })
}
