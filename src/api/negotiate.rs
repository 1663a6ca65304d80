//! In which media type and language a caller is answered: `Accept` and `Accept-Language` by RFC 9110 sections 12.5.1
//! and 12.5.4.
//!
//! No crate that is kept does either as it is meant. Of those for languages, accept-language compares whole tags only
//! and takes a weight of 0 for a low one; fluent-langneg drops the weights, and its tables of likely subtags weigh
//! more than this program's words; negotiator knows neither RFC 4647's lookup nor `zh-Hans`.

use std::cmp::Reverse;

use hyper::HeaderMap;
use hyper::header::{ACCEPT, ACCEPT_LANGUAGE};

use super::headers::{JSON, PROBLEM_JSON};
use super::words::Language;

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

/// The language to answer in: RFC 4647 section 3.4, lookup, where `en` and `zh` are tags that there is a text for, so
/// that every range is truncated to its first subtag at the latest, and `*` says nothing. What a weight of 0 refuses
/// is not chosen, unless all are refused: an answer that is not understood is better than none.
pub(super) fn language(headers: &HeaderMap) -> Language {
    let lines = headers.get_all(ACCEPT_LANGUAGE).iter();
    let lines = lines.filter_map(|line| line.to_str().ok());
    let mut ranges: Vec<(&str, u16)> = lines
        .flat_map(|line| line.split(','))
        .filter_map(language_range)
        .collect();
    ranges.sort_by_key(|(_, weight)| Reverse(*weight)); // equal ones stay in their order
    let is_refused = |language: Language| {
        let matching = ranges
            .iter()
            .filter_map(|(range, weight)| Some((closeness(range, language)?, *weight)));
        matching.max().is_some_and(|(_, weight)| weight == 0)
    };
    let wanted = ranges
        .iter()
        .filter(|(_, weight)| *weight > 0)
        .filter_map(|(range, _)| {
            let first = range.split('-').next()?;
            let is_in = |language: &Language| first.eq_ignore_ascii_case(language.tags()[0]);
            Language::ALL.into_iter().find(is_in)
        });
    wanted
        .chain(Language::ALL)
        .find(|language| !is_refused(*language))
        .unwrap_or(Language::English)
}

/// A basic language range (RFC 4647 section 2.1) and its weight; `None` for what is none.
fn language_range(element: &str) -> Option<(&str, u16)> {
    let (range, weight) = match element.split_once(';') {
        None => (element, 1_000),
        Some((range, parameter)) => {
            let (name, value) = parameter.trim().split_once('=')?;
            let is_weight = name.eq_ignore_ascii_case("q");
            (range, is_weight.then(|| parse_weight(value)).flatten()?)
        }
    };
    let range = range.trim();
    let is_subtag = |subtag: &str| {
        (1..=8).contains(&subtag.len()) && subtag.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    (range == "*" || range.split('-').all(is_subtag)).then_some((range, weight))
}

/// How many subtags of a tag of this language the range spells out, which is then all of the range (RFC 4647 section
/// 3.3.1, basic filtering); `None` where it matches none of the tags.
fn closeness(range: &str, language: Language) -> Option<usize> {
    if range == "*" {
        return Some(0);
    }
    let is_match = |tag: &&str| {
        let beginning = tag.get(..range.len());
        beginning.is_some_and(|beginning| beginning.eq_ignore_ascii_case(range))
            && matches!(tag.as_bytes().get(range.len()), None | Some(b'-'))
    };
    let is_matched = language.tags().iter().any(is_match);
    is_matched.then(|| range.split('-').count())
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

    fn spoken(lines: &[&'static str]) -> Language {
        language(
            &lines
                .iter()
                .map(|line| (ACCEPT_LANGUAGE, HeaderValue::from_static(line)))
                .collect(),
        )
    }

    #[test]
    fn chinese_is_for_those_who_ask_for_it() {
        for lines in [
            &["zh"][..],
            &["zh-CN"],
            &["zh-cn"],
            &["ZH-hans"],
            &["zh-Hans-CN"],
            &["zh-SG"],
            // Truncated to `zh`, as RFC 4647 section 3.4 has it.
            &["zh-TW"],
            &["zh-Hant-TW"],
            &["zh-CN-x-private"],
            &["zh-CN,zh;q=0.9,en;q=0.8"],
            &["en;q=0.8, zh;q=0.9"],
            &["en;q=0.8", "zh;q=0.801"],
            &["fr, de, zh;q=0.1"],
            &["*, zh;q=0.1"],
            &["zh, en"],
            &["en;q=0, zh"],
            &["en;q=0"],
            &["en;q=0, *"],
            &["en;q=0.000, fr"],
            &["zh;q=1.000"],
            &["zh ; q=0.5"],
            &["zh-CN, zh;q=0"],
            &["zh, zh-TW;q=0"],
            &["zh, *;q=0"],
            &["en;q=2, zh;q=0.1"],
            &["en;q=x, zh;q=0.1"],
            &["e n, zh;q=0.1"],
            &[",, zh ,"],
        ] {
            assert_eq!(spoken(lines), Language::Chinese, "{lines:?}");
        }
    }

    #[test]
    fn everyone_else_gets_english() {
        for lines in [
            &[][..],
            &[""],
            &["*"],
            &["en"],
            &["en-GB, zh;q=0.9"],
            &["EN-us"],
            &["en, zh"],
            &["fr"],
            &["fr, *;q=0.5"],
            &["zh;q=0"],
            &["zh;q=0, *"],
            &["zh-CN;q=0, zh"],
            &["zh-Hans;q=0, zh-TW"],
            &["zh-TW, zh;q=0"],
            &["zh;q=0, en;q=0"],
            &["*;q=0"],
            &["zhx"],
            &["zh_CN"],
            &["zh-"],
            &["zh-toolongsubtag"],
            &["zh;q=2"],
            &["zh;q=0.1234"],
            &["zh;v=1"],
            &["zh;q"],
            &["cmn-Hans"],
            &["x-zh"],
        ] {
            assert_eq!(spoken(lines), Language::English, "{lines:?}");
        }
    }
}
