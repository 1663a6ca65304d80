//! Where a file with a secret is: systemd hands such files over in a folder of their own (`LoadCredential=`).

use std::env;
use std::path::{Path, PathBuf};

/// The variable by which systemd names the folder (systemd.exec(5), "Credentials").
const FOLDER: &str = "CREDENTIALS_DIRECTORY";

/// The file that `path` names: a relative one in the folder of credentials, where it is there, else as it stands.
pub(super) fn locate(path: &str) -> PathBuf {
    locate_in(env::var_os(FOLDER).as_deref().map(Path::new), path)
}

fn locate_in(folder: Option<&Path>, path: &str) -> PathBuf {
    let credential = folder.map(|folder| folder.join(path));
    credential
        .filter(|file| Path::new(path).is_relative() && file.exists())
        .unwrap_or_else(|| path.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_goes_before_a_file_of_its_name() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("key"), "").unwrap();
        let within = Some(folder.path());
        assert_eq!(locate_in(within, "key"), folder.path().join("key"));
        assert_eq!(locate_in(within, "other"), Path::new("other"));
        assert_eq!(locate_in(within, "/etc/key"), Path::new("/etc/key"));
        assert_eq!(locate_in(None, "key"), Path::new("key"));
    }
}
