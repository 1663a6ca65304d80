//! Around the data file: who may use it, its folder, its -wal and its -shm, and the disk that it is on.
//!
//! Only names and numbers are looked at: nothing here opens the file.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::{Gid, Group, Uid, User};
use rustix::fs::{statfs, statvfs};

use super::report::{Report, quoted};
use crate::store::backup::{companions, folder, with_suffix};

/// A WAL of this size is kept from being checkpointed.
const LONG_WAL: u64 = 64_000_000;

/// With less free space than this, the next commits may fail.
const LEAST_SPACE: u64 = 16_000_000;

/// File systems over a network, by their number in statfs(2) (<linux/magic.h>).
const NETWORK: [(u32, &str); 9] = [
    (0x6969, "NFS"),
    (0x517B, "SMB"),
    (0xFF53_4D42, "CIFS"),
    (0xFE53_4D42, "SMB2"),
    (0x0102_1997, "9P"),
    (0x00C3_6400, "Ceph"),
    (0x5346_414F, "AFS"),
    (0x7375_7245, "Coda"),
    (0x0BD0_0BD0, "Lustre"),
];
const FUSE: u32 = 0x6573_5546;
const IN_MEMORY: [(u32, &str); 2] = [(0x0102_1994, "tmpfs"), (0x8584_58F6, "ramfs")];

pub(super) fn examine(report: &mut Report, path: &Path) {
    // The companions stand beside the file itself, not beside a link to it.
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let folder = folder(&path);
    match fs::metadata(folder) {
        Ok(found) => {
            permissions(report, &path, folder, &found);
            file_system(report, &path, folder);
            space(report, &path, folder);
            wal(report, &path);
        }
        Err(error) => report.fault(
            "folder",
            format!("{}: {error}", folder.display()),
            Some(format!("install -d -m 2770 {}", quoted(folder))),
        ),
    }
}

fn permissions(report: &mut Report, path: &Path, folder: &Path, found: &Metadata) {
    const NAME: &str = "permissions";
    let Ok(file) = fs::metadata(path) else {
        return; // that the file is missing is a finding of its own
    };
    let (shown, quoted_file, quoted_folder) = (path.display(), quoted(path), quoted(folder));
    let may = |mode: u32, bits: u32| mode & bits == bits;
    let group = group(&file);
    if file.mode() & 0o007 != 0 {
        let found = format!(
            "{shown} is {}: what is personal in it is open to everybody",
            of(&file)
        );
        report.warning(NAME, found, Some(format!("chmod o-rwx {quoted_file}")));
    }
    if found.mode() & 0o002 != 0 {
        let found = format!(
            "{} is {}: everybody may replace the file",
            folder.display(),
            of(found)
        );
        report.warning(NAME, found, Some(format!("chmod o-w {quoted_folder}")));
    }
    if found.mode() & 0o020 == 0 {
        // Only its owner can make a -wal and a -shm in the folder.
        if file.uid() != found.uid() {
            let found = format!(
                "{} is {}, so whoever owns {shown} ({}) can make no -wal and -shm in it",
                folder.display(),
                of(found),
                of(&file)
            );
            let mend = format!("chown {} {quoted_folder}", user(&file));
            report.fault(NAME, found, Some(mend));
        }
    } else {
        // A group shares the folder: each must be able to use what another of it made.
        if !may(found.mode(), 0o2070) || found.gid() != file.gid() {
            let found = format!(
                "{} is {} and {shown} is {}: a -wal and a -shm that one user makes may be closed to others",
                folder.display(),
                of(found),
                of(&file)
            );
            let mend = format!("chgrp {group} {quoted_folder} && chmod g+rwxs {quoted_folder}");
            report.warning(NAME, found, Some(mend));
        }
        if !may(file.mode(), 0o660) {
            let found = format!(
                "{shown} is {} in a folder that a group shares: a -wal and a -shm get its mode, and readers must write them",
                of(&file)
            );
            report.warning(NAME, found, Some(format!("chmod ug+rw {quoted_file}")));
        }
    }
    for companion in companions(path) {
        let Ok(beside) = fs::metadata(&companion) else {
            continue;
        };
        let as_the_file = beside.gid() == file.gid() && may(beside.mode(), file.mode() & 0o660);
        if !as_the_file || (beside.uid() != file.uid() && !may(beside.mode(), 0o060)) {
            let found = format!(
                "{} is {} and the file {}: who may use the file may not use it",
                companion.display(),
                of(&beside),
                of(&file)
            );
            let companion = quoted(&companion);
            let mend = format!(
                "chown {}:{group} {companion} && chmod {:o} {companion}",
                user(&file),
                file.mode() & 0o777
            );
            report.fault(NAME, found, Some(mend));
        }
    }
    if !report.has_trouble(NAME) {
        report.ok(
            NAME,
            format!("the file is {}, its folder {}", of(&file), of(found)),
        );
    }
}

/// `sessile:sessions 0660`
fn of(file: &Metadata) -> String {
    format!(
        "{}:{} {:04o}",
        user(file),
        group(file),
        file.mode() & 0o7777
    )
}

fn user(file: &Metadata) -> String {
    match User::from_uid(Uid::from_raw(file.uid())) {
        Ok(Some(user)) => user.name,
        Ok(None) | Err(_) => file.uid().to_string(),
    }
}

fn group(file: &Metadata) -> String {
    match Group::from_gid(Gid::from_raw(file.gid())) {
        Ok(Some(group)) => group.name,
        Ok(None) | Err(_) => file.gid().to_string(),
    }
}

fn file_system(report: &mut Report, path: &Path, folder: &Path) {
    const NAME: &str = "file system";
    let magic = match statfs(folder) {
        // The numbers have 32 bits, the field that holds them has a machine's word.
        Ok(found) => found.f_type as u32,
        Err(error) => {
            return report.warning(NAME, format!("{}: {error}", folder.display()), None);
        }
    };
    let kind = |kinds: &[(u32, &'static str)]| {
        let found = kinds.iter().find(|(number, _)| *number == magic);
        found.map(|(_, name)| *name)
    };
    let elsewhere = Some(format!(
        "sessile backup --database {} /a/local/folder/sessions.db",
        quoted(path)
    ));
    if let Some(name) = kind(&NETWORK) {
        let found = format!(
            "{name}: its locks and shared memory don't reach the other machines, and files are damaged"
        );
        report.fault(NAME, found, elsewhere);
    } else if magic == FUSE {
        let found = "FUSE: whether locks and shared memory work is up to the program behind it";
        report.warning(NAME, found.to_owned(), elsewhere);
    } else if let Some(name) = kind(&IN_MEMORY) {
        let found = format!("{name}: the file is gone when the machine restarts");
        report.warning(NAME, found, elsewhere);
    } else {
        report.ok(NAME, format!("a local one (type {magic:#X})"));
    }
}

/// Twice what there is: a restore, a VACUUM or a backup beside the file writes all of it once more, and a WAL beside
/// that may grow as long.
fn space(report: &mut Report, path: &Path, folder: &Path) {
    const NAME: &str = "space";
    let free = match statvfs(folder) {
        Ok(found) => found.f_bavail.saturating_mul(found.f_frsize),
        Err(error) => {
            return report.warning(NAME, format!("{}: {error}", folder.display()), None);
        }
    };
    let used: u64 = std::iter::once(path.to_owned())
        .chain(companions(path))
        .filter_map(|file| fs::metadata(file).ok())
        .map(|file| file.len())
        .sum();
    let wanted = used.saturating_mul(2);
    let found = format!(
        "{} free where the file takes {}",
        megabytes(free),
        megabytes(used)
    );
    let mend = || {
        Some(format!(
            "sessile purge --ended-before 30d --database {}",
            quoted(path)
        ))
    };
    if free < LEAST_SPACE {
        report.fault(NAME, format!("{found}: the next commits may fail"), mend());
    } else if free < wanted {
        let found = format!("{found}: a restore may need {}", megabytes(wanted));
        report.warning(NAME, found, mend());
    } else {
        report.ok(NAME, found);
    }
}

fn wal(report: &mut Report, path: &Path) {
    let wal = with_suffix(path, "-wal");
    match fs::metadata(&wal).map(|wal| wal.len()) {
        Ok(length) if length > LONG_WAL => report.warning(
            "wal",
            format!(
                "{}: a reader of long, or a writer that never checkpoints, keeps it from beginning anew",
                megabytes(length)
            ),
            Some(format!("fuser -v {}", quoted(&wal))),
        ),
        Ok(length) => report.ok("wal", megabytes(length)),
        Err(_) => report.ok("wal", "none, so nobody has the file open".to_owned()),
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
