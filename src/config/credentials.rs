//! Where a file with a secret is: systemd hands such files over in a folder of their own (`LoadCredential=`).

use std::env;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Where systemd puts them (systemd.exec(5), "Credentials").
pub(super) fn folder() -> Option<PathBuf> {
    env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from)
}

/// The file that `path` names: of a relative path the credential, where there is one, else the file from the working
/// directory. A credential that can't be read is one all the same.
pub(super) fn locate(path: &Path) -> PathBuf {
    locate_in(folder().as_deref(), path)
}

fn locate_in(folder: Option<&Path>, path: &Path) -> PathBuf {
    let is_there = |credential: &PathBuf| {
        let found = std::fs::symlink_metadata(credential);
        !found.is_err_and(|error| {
            matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
        })
    };
    folder
        .filter(|_| path.is_relative())
        .map(|folder| folder.join(path))
        .filter(is_there)
        .unwrap_or_else(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_goes_before_a_file_of_its_name() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("key"), "").unwrap();
        let within = Some(folder.path());
        assert_eq!(
            locate_in(within, Path::new("key")),
            folder.path().join("key")
        );
        assert_eq!(locate_in(within, Path::new("other")), Path::new("other"));
        assert_eq!(
            locate_in(within, Path::new("/etc/key")),
            Path::new("/etc/key")
        );
        assert_eq!(locate_in(None, Path::new("key")), Path::new("key"));
    }
}
