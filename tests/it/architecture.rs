//! The direction of imports: down the list of rooms, never up, and never across.

use std::fs;
use std::path::{Path, PathBuf};

/// The rooms from the door inwards; those of one line are neighbours that do not know each other.
const FLOORS: [&[&str]; 12] = [
    &["main"],
    &["commands"],
    &["cli"],
    &["config"],
    &["telemetry"],
    &["systemd"],
    &["server", "api"],
    &["exchange"],
    &["store"],
    &["metrics"],
    &["session"],
    &["time"],
];

fn floor(room: &str) -> usize {
    let found = FLOORS.iter().position(|floor| floor.contains(&room));
    found.unwrap_or_else(|| panic!("src has a room {room:?} that is on no floor"))
}

pub fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The rooms that a source names behind `crate::` or `sessile::`, in a `use` or anywhere else.
fn named_rooms(text: &str) -> Vec<String> {
    let code = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    let code: Vec<&str> = code
        .map(|line| line.split(" // ").next().unwrap_or_default())
        .collect();
    let code = code.join("\n");
    let mut rooms = Vec::new();
    for (marker, _) in code
        .match_indices("crate::")
        .chain(code.match_indices("sessile::"))
    {
        let rest = &code[marker..].split_once("::").unwrap().1;
        let group = rest.strip_prefix('{');
        assert!(
            group.is_none(),
            "`use crate::{{…}}` hides rooms from this test"
        );
        let end = rest
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap();
        rooms.push(rest[..end].to_owned());
    }
    rooms
}

#[test]
fn imports_point_down() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    sources(&src, &mut found);
    let mut arrows = 0;
    for path in found {
        let within = path.strip_prefix(&src).unwrap().to_str().unwrap();
        let room = within.split(['/', '.']).next().unwrap();
        if room == "lib" {
            continue; // the map itself
        }
        for other in named_rooms(&fs::read_to_string(&path).unwrap()) {
            arrows += 1;
            let (from, to) = (floor(room), floor(&other));
            assert!(
                from < to || room == other,
                "{within} names {other}, which is not below {room}"
            );
        }
    }
    assert!(
        arrows > 50,
        "only {arrows} arrows were found: this test no longer reads the sources"
    );
}

#[test]
fn every_source_says_what_it_owns() {
    let mut found = Vec::new();
    sources(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut found,
    );
    for path in found {
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            text.starts_with("//! "),
            "{} opens without //!",
            path.display()
        );
        assert!(
            text.lines().count() <= 1000,
            "{} is over a thousand lines",
            path.display()
        );
    }
}
