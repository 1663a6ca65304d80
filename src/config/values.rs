//! Values of environment variables that must not come to figment's parser.
//!
//! figment 0.10.19 reads what stands in quotes or brackets itself. Where an escape comes after a character beyond ASCII
//! it cuts the text at the number of the character as if that were the number of the byte: it panics, or loses what
//! stood before. And it goes down one call for each bracket, to the end of the stack. A fuzzer found the first.

use std::ffi::{OsStr, OsString};

use super::raw::{ENV_PREFIX, Fault, Origin};
use super::variables::judge;

/// How many brackets a value may have open at once: far over any list of ours.
const DEEPEST: usize = 16;

/// The variables of ours that have such a value.
pub(super) fn faults(variables: impl Iterator<Item = (OsString, OsString)>) -> Vec<Fault> {
    judge(variables, fault)
}

fn fault(name: &OsStr, value: &OsStr) -> Option<Fault> {
    let (name, value) = (name.to_str()?, value.to_str()?);
    // figment takes the prefix in any case.
    let prefix = name.get(..ENV_PREFIX.len())?;
    if !prefix.eq_ignore_ascii_case(ENV_PREFIX) || !value.trim_start().starts_with(['"', '[', '{'])
    {
        return None;
    }
    let complaint = if value.contains('\\') && !value.is_ascii() {
        "found an escape beside a character beyond ASCII; allowed: one of the two in a value in quotes or brackets"
            .to_owned()
    } else if value.matches(['[', '{']).count() > DEEPEST {
        format!("found more than {DEEPEST} opening brackets; allowed: a list of texts")
    } else {
        return None;
    };
    Some(Fault {
        origin: Origin::Variable(name.to_owned()),
        key: String::new(),
        complaint,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_figment_falls_over_is_told() {
        let told = |value: &str| {
            let variable = ("SESSILE_LOG__LEVEL".into(), value.into());
            !faults(std::iter::once(variable)).is_empty()
        };
        for value in [
            "\"é\\\\\"",
            " [\"\u{fffd}\\ud83d\"]",
            &"[".repeat(100_000),
            &"{a=".repeat(17),
        ] {
            assert!(told(value), "{value:.40}");
        }
        for value in ["info", "\"a\\\"b\"", "[\"名\"]", "é\\", "[[[1]]]", ""] {
            assert!(!told(value), "{value}");
        }
        let others = ("PATH".into(), "[\"é\\".into());
        assert!(faults(std::iter::once(others)).is_empty());
    }
}
