//! The limit of open files, which every connection counts against.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises this process' soft limit, as far as the hard one lets it, so that `connections` may be open beside `others`
/// files; how many connections there is room for then.
pub fn allow(connections: usize, others: usize) -> usize {
    let needed = u64::try_from(connections.saturating_add(others)).unwrap_or(u64::MAX);
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let Some(soft) = current.filter(|soft| *soft < needed) else {
        return connections;
    };
    let wanted = maximum.map_or(needed, |hard| hard.min(needed));
    let raised = Rlimit {
        current: Some(wanted),
        maximum,
    };
    let limit = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => wanted,
        Err(_) => soft,
    };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    limit.saturating_sub(others).clamp(1, connections)
}
