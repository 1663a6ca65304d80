//! OpenMetrics text as Prometheus' older text format, version 0.0.4, which every tool reads.
//!
//! The samples are the same in both. The older format names a family as its samples are named, knows no `info`, and has
//! neither units nor an end (<https://prometheus.io/docs/instrumenting/exposition_formats/>).

/// The same metrics in the older format.
pub(super) fn plain(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let mut lines = open_metrics.lines().peekable();
    while let Some(line) = lines.next() {
        // The help of a family comes right before its type.
        let kind = |line: Option<&str>| {
            let (_, kind) = line?.strip_prefix("# TYPE ")?.rsplit_once(' ')?;
            Some(kind.to_owned())
        };
        let of_family = |rest: &str, kind: Option<String>| {
            let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
            match kind.as_deref() {
                Some("counter") => format!("{name}_total {rest}"),
                Some("info") => format!("{name}_info {rest}"),
                _ => format!("{name} {rest}"),
            }
        };
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let next = kind(lines.peek().copied());
            text.push_str(&format!("# HELP {}\n", of_family(rest, next)));
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let family = of_family(rest, kind(Some(line)));
            let family = family
                .strip_suffix(" info")
                .map_or(family.clone(), |name| format!("{name} gauge"));
            text.push_str(&format!("# TYPE {family}\n"));
        } else if !line.starts_with('#') {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_named_as_their_samples_are() {
        let open_metrics = "# HELP a_build This\n# TYPE a_build info\na_build_info{version=\"1\"} 1\n\
                            # HELP b Bs\n# TYPE b counter\nb_total{x=\"# HELP\"} 2\n\
                            # HELP c_seconds C\n# TYPE c_seconds gauge\n# UNIT c_seconds seconds\nc_seconds 1.5\n# EOF\n";
        assert_eq!(
            plain(open_metrics),
            "# HELP a_build_info This\n# TYPE a_build_info gauge\na_build_info{version=\"1\"} 1\n\
             # HELP b_total Bs\n# TYPE b_total counter\nb_total{x=\"# HELP\"} 2\n\
             # HELP c_seconds C\n# TYPE c_seconds gauge\nc_seconds 1.5\n"
        );
    }
}
