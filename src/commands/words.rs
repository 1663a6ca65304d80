//! How commands put things to people: tables, sizes and ages.

use std::io::{self, Write};

use crate::time::{Span, Timestamp};

/// Writes rows under a heading, each column as wide as it needs to be. The last may hold anything at all, as nothing
/// stands behind it.
pub(super) fn table<const COLUMNS: usize>(
    out: &mut dyn Write,
    heading: [&str; COLUMNS],
    rows: &[[String; COLUMNS]],
) -> io::Result<()> {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([heading[column].len()]).max().unwrap_or(0)
    };
    let widths: [usize; COLUMNS] = std::array::from_fn(width);
    let mut line = |cells: [&str; COLUMNS]| {
        let padded: Vec<String> = cells
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        writeln!(out, "{}", padded.join("  ").trim_end())
    };
    line(heading)?;
    rows.iter()
        .try_for_each(|row| line(std::array::from_fn(|column| row[column].as_str())))
}

/// A text of the file, with what a terminal would obey escaped.
pub(super) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '"' | '\'' | '\\') {
            plain.push(c);
        } else {
            plain.extend(c.escape_debug());
        }
    }
    plain
}

/// `2d3h ago`, `in 5m`, or `now`.
pub(super) fn distance(at: Timestamp, now: Timestamp) -> String {
    let span = at.saturating_since(now);
    if span == Span::ZERO {
        "now".to_owned()
    } else if span > Span::ZERO {
        format!("in {}", span.rounded_down())
    } else {
        format!("{} ago", now.saturating_since(at).rounded_down())
    }
}

/// `0 B`, `4.1 kB`, `269.4 MB`: powers of 1,000.
pub(super) fn bytes(count: u64) -> String {
    let units = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    match units.into_iter().find(|(size, _)| count >= *size) {
        Some((size, unit)) => format!("{:.1} {unit}", count as f64 / size as f64),
        None => format!("{count} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_distances_are_short() {
        for (count, wanted) in [
            (0, "0 B"),
            (999, "999 B"),
            (4_096, "4.1 kB"),
            (269_373_440, "269.4 MB"),
            (12_345_678_901, "12.3 GB"),
        ] {
            assert_eq!(bytes(count), wanted);
        }
        let now = Timestamp::from_millis(1_000_000_000_000);
        for (off, wanted) in [(0, "now"), (90_061_001, "in 1d1h"), (-61_001, "1m1s ago")] {
            let at = now.saturating_add(Span::from_millis(off));
            assert_eq!(distance(at, now), wanted);
        }
    }

    #[test]
    fn a_terminal_is_told_nothing() {
        assert_eq!(plain("it's \"é\" 会话"), "it's \"é\" 会话");
        assert_eq!(plain("\u{1b}[2J\r\u{202e}"), "\\u{1b}[2J\\r\\u{202e}");
    }
}
