//! Findings, and how they are told.

use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;

#[derive(Debug, Serialize)]
struct Finding {
    name: &'static str,
    status: Status,
    found: String,
    /// A command for a shell that mends it, or that shows what has to be mended.
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Ok,
    Warning,
    Fault,
}

/// All findings so far.
#[derive(Debug, Default)]
pub(super) struct Report(Vec<Finding>);

/// The report for programs.
#[derive(Debug, Serialize)]
pub(super) struct Json<'r> {
    fit: bool,
    findings: &'r [Finding],
}

impl Report {
    pub(super) fn ok(&mut self, name: &'static str, found: String) {
        self.add(name, Status::Ok, found, None);
    }

    /// Something that `serve` can do with.
    pub(super) fn warning(&mut self, name: &'static str, found: String, mend: Option<String>) {
        self.add(name, Status::Warning, found, mend);
    }

    /// Something that keeps `serve` from answering, or from answering rightly.
    pub(super) fn fault(&mut self, name: &'static str, found: String, mend: Option<String>) {
        self.add(name, Status::Fault, found, mend);
    }

    fn add(&mut self, name: &'static str, status: Status, found: String, mend: Option<String>) {
        self.0.push(Finding {
            name,
            status,
            found,
            mend,
        });
    }

    /// Whether anything was found under `name` that is not well.
    pub(super) fn has_trouble(&self, name: &str) -> bool {
        let is_trouble = |finding: &Finding| finding.name == name && finding.status != Status::Ok;
        self.0.iter().any(is_trouble)
    }

    pub(super) fn is_fit(&self) -> bool {
        self.count(Status::Fault) == 0
    }

    fn count(&self, status: Status) -> usize {
        self.0
            .iter()
            .filter(|finding| finding.status == status)
            .count()
    }

    pub(super) fn to_json(&self) -> Json<'_> {
        Json {
            fit: self.is_fit(),
            findings: &self.0,
        }
    }

    pub(super) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let width = self.0.iter().map(|finding| finding.name.len()).max();
        let width = width.unwrap_or(0);
        for finding in &self.0 {
            let mark = match finding.status {
                Status::Ok => "✓ ok     ",
                Status::Warning => "! warning",
                Status::Fault => "✗ fault  ",
            };
            writeln!(out, "{mark}  {:width$}  {}", finding.name, finding.found)?;
            if let Some(mend) = &finding.mend {
                writeln!(out, "{:11}{:width$}  → {mend}", "", "")?;
            }
        }
        let (faults, warnings) = (self.count(Status::Fault), self.count(Status::Warning));
        let counts: Vec<String> = [(faults, "fault"), (warnings, "warning")]
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}{}", if count == 1 { "" } else { "s" }))
            .collect();
        let verdict = if self.is_fit() { "fit" } else { "unfit" };
        match counts.as_slice() {
            [] => writeln!(out, "{verdict}"),
            counts => writeln!(out, "{verdict}: {}", counts.join(", ")),
        }
    }
}

/// The path as a shell takes it for one word.
pub(super) fn quoted(path: &Path) -> String {
    let path = path.display().to_string();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+:@%,=".contains(&byte);
    if !path.is_empty() && path.bytes().all(is_plain) {
        path
    } else {
        format!("'{}'", path.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_takes_a_path_for_what_it_is() {
        for (path, wanted) in [
            (
                "/var/lib/sessile/sessions.db",
                "/var/lib/sessile/sessions.db",
            ),
            ("my file", "'my file'"),
            ("it's $HOME", r"'it'\''s $HOME'"),
            ("", "''"),
        ] {
            assert_eq!(quoted(Path::new(path)), wanted);
        }
    }
}
