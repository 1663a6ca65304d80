//! Environment variables that figment would pass over in silence: an operator who set one expects it to count.

use std::ffi::{OsStr, OsString};

use super::FILE_VARIABLE;
use super::raw::{ENV_PREFIX, Fault, Origin};

/// What is wrong with the variables that begin as ours do.
pub(super) fn faults(variables: impl Iterator<Item = (OsString, OsString)>) -> Vec<Fault> {
    judge(variables, fault)
}

/// What `fault` finds in the variables, in the order of their names.
pub(super) fn judge(
    variables: impl Iterator<Item = (OsString, OsString)>,
    fault: impl Fn(&OsStr, &OsStr) -> Option<Fault>,
) -> Vec<Fault> {
    let mut faults: Vec<Fault> = variables
        .filter_map(|(name, value)| fault(&name, &value))
        .collect();
    faults.sort_by_key(|fault| fault.origin.to_string());
    faults
}

fn fault(name: &OsStr, value: &OsStr) -> Option<Fault> {
    let bytes = name.as_encoded_bytes();
    // figment takes the prefix in any case.
    let prefix = bytes.get(..ENV_PREFIX.len())?;
    if !prefix.eq_ignore_ascii_case(ENV_PREFIX.as_bytes()) || name == FILE_VARIABLE {
        return None;
    }
    let complaint = match name.to_str() {
        None => "found a name that is not UTF-8; allowed: SESSILE_ and the name of a key",
        Some(name) if name[ENV_PREFIX.len()..].split("__").any(str::is_empty) => {
            "names no key; allowed: SESSILE_ and the name of a key, with two underscores for each dot, such as \
             SESSILE_SERVER__LISTEN"
        }
        Some(_) if value.to_str().is_none() => "found a value that is not UTF-8; allowed: UTF-8",
        Some(_) => return None,
    };
    Some(Fault {
        origin: Origin::Variable(name.to_string_lossy().into_owned()),
        key: String::new(),
        complaint: complaint.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn what_would_be_passed_over_is_told() {
        let told = |name: &[u8], value: &[u8]| {
            let variable = (
                OsStr::from_bytes(name).to_owned(),
                OsStr::from_bytes(value).to_owned(),
            );
            faults(std::iter::once(variable))
                .pop()
                .map(|fault| fault.to_string())
        };
        for name in [
            &b"SESSILE_"[..],
            b"sessile_",
            b"SESSILE_SERVER__",
            b"SESSILE___LISTEN",
            b"SESSILE_A____B",
        ] {
            let told = told(name, b"1").unwrap();
            assert!(told.contains("names no key"), "{told}");
        }
        let name = told(b"SESSILE_\xff", b"1").unwrap();
        assert!(name.contains("a name that is not UTF-8"), "{name}");
        let value = told(b"SESSILE_LOG__LEVEL", b"\xff").unwrap();
        assert!(
            value.starts_with("SESSILE_LOG__LEVEL: found a value"),
            "{value}"
        );
        for (name, value) in [
            (&b"SESSILE_LOG__LEVEL"[..], &b"info"[..]),
            (b"SESSILE_CONFIG", b"\xff.toml"),
            (b"SESSIL\xff", b"\xff"),
            (b"INTERNAL_API_KEY", b"\xff"),
            (b"", b""),
        ] {
            assert_eq!(told(name, value), None);
        }
    }
}
