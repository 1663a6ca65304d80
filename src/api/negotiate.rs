//! In which media type a Problem is written: `Accept` by RFC 9110 section 12.5.1.

use hyper::HeaderMap;
use hyper::header::ACCEPT;

use super::headers::{JSON, PROBLEM_JSON};

/// `application/problem+json` where the caller prefers it strictly; `application/json` otherwise.
pub(super) fn problem_type(headers: &HeaderMap) -> &'static str {
    let lines = || {
        headers
            .get_all(ACCEPT)
            .iter()
            .filter_map(|line| line.to_str().ok())
    };
    if quality(lines(), PROBLEM_JSON) > quality(lines(), JSON) {
        PROBLEM_JSON
    } else {
        JSON
    }
}

/// The weight, in thousandths, that the most specific matching range of the `Accept` lines gives `media_type`; 0
/// where none matches. What is no media range, or has no valid weight, is passed over.
pub fn quality<'h>(lines: impl Iterator<Item = &'h str>, media_type: &str) -> u16 {
    quality_with(lines, media_type, &[])
}

/// The same for a media type that has these parameters beside its charset.
pub(super) fn quality_with<'h>(
    lines: impl Iterator<Item = &'h str>,
    media_type: &str,
    parameters: &[(&str, &str)],
) -> u16 {
    let mut best = (0, 0);
    for element in lines.flat_map(|line| split_outside_quotes(line, ',')) {
        let mut parts = split_outside_quotes(element, ';').map(str::trim);
        let Some(specificity) = parts
            .next()
            .and_then(|range| specificity(range, media_type))
        else {
            continue;
        };
        let mut weight = Some(1_000);
        let mut matches = true;
        for parameter in parts.by_ref() {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            if name.eq_ignore_ascii_case("q") {
                weight = parse_weight(value);
                break; // what follows the weight is an extension, not a parameter of the range
            }
            // A parameter narrows the range; all of ours have this one, and leave it unsaid.
            let is_ours = |(ours, its_value): &(&str, &str)| {
                name.eq_ignore_ascii_case(ours)
                    && value.trim_matches('"').eq_ignore_ascii_case(its_value)
            };
            matches &=
                name.is_empty() || is_ours(&("charset", "utf-8")) || parameters.iter().any(is_ours);
        }
        if let (true, Some(weight)) = (matches, weight) {
            best = best.max((specificity, weight));
        }
    }
    best.1
}

/// How closely `range` names `media_type`: 3 itself, 2 its type, 1 everything.
fn specificity(range: &str, media_type: &str) -> Option<u8> {
    if range.eq_ignore_ascii_case(media_type) {
        return Some(3);
    }
    match (range.split_once('/')?, media_type.split_once('/')?) {
        (("*", "*"), _) => Some(1),
        ((range, "*"), (top, _)) if range.eq_ignore_ascii_case(top) => Some(2),
        _ => None,
    }
}

/// A weight in thousandths (RFC 9110 section 12.4.2): `0` or `1`, with up to three decimals.
fn parse_weight(text: &str) -> Option<u16> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    if decimals.len() > 3 || !decimals.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let thousandths: u16 = format!("{decimals:0<3}").parse().ok()?;
    match (whole, thousandths) {
        ("0", thousandths) => Some(thousandths),
        ("1", 0) => Some(1_000),
        _ => None,
    }
}

/// Splits at `mark`, except within a quoted string.
fn split_outside_quotes(text: &str, mark: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |c| {
        let inside = quoted;
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
        c == mark && !inside
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    fn chosen(accept: &[&'static str]) -> &'static str {
        problem_type(
            &accept
                .iter()
                .map(|line| (ACCEPT, HeaderValue::from_static(line)))
                .collect(),
        )
    }

    #[test]
    fn problem_json_is_for_those_who_prefer_it() {
        for accept in [
            &["application/problem+json"][..],
            &["Application/Problem+JSON"],
            &["application/problem+json, application/json;q=0.9"],
            &["application/problem+json, */*;q=0.1"],
            &["application/json;q=0.5", "application/problem+json;q=0.51"],
            &["application/json;q=0, */*"],
            &["application/*;q=0.5, application/json;q=0.4"],
            &["application/problem+json;charset=utf-8"],
            &["text/html;x=\"a,b;q=0\", application/problem+json"],
            &["application/problem+json;q=0.001"],
            &["application/problem+json ; q=1.000"],
            &["nonsense, application/problem+json"],
        ] {
            assert_eq!(chosen(accept), PROBLEM_JSON, "{accept:?}");
        }
    }

    #[test]
    fn everyone_else_gets_json() {
        for accept in [
            &[][..],
            &[""],
            &["*/*"],
            &["application/*"],
            &["application/json"],
            &["application/json, application/problem+json"],
            &["application/problem+json;q=0"],
            &["application/problem+json;q=0, */*"],
            &["application/problem+json;q=0.5, application/json;q=0.5"],
            &["application/problem+json;q=0.4, */*;q=0.5"],
            &["text/html"],
            &["application/problem+json;q=2"],
            &["application/problem+json;q=0.1234"],
            &["application/problem+json;q=x"],
            &["application/problem+json;version=2"],
            &["x=\"application/problem+json, application/problem+json\""],
        ] {
            assert_eq!(chosen(accept), JSON, "{accept:?}");
        }
    }
}
