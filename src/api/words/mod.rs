//! What is said to people, in each language: a catalogue for each, and which there are.
//!
//! A catalogue is functions of the things to be told of, so that one which leaves something out does not compile. A
//! test compares the arguments.

mod en;
mod zh;

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::problem::Kind;

/// The languages, the one for those who ask for none first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Language {
    English,
    /// Simplified Chinese.
    Chinese,
}

/// What is said of the Problems of a kind. `{name}` stands for the argument of that name.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) title: &'static str,
    pub(super) detail: &'static str,
    /// What happened, on the page of the kind.
    pub(super) happened: &'static str,
    /// Why it may have.
    pub(super) why: &'static [&'static str],
    /// What to do.
    pub(super) advice: &'static [&'static str],
}

/// What a field of a request must keep to. `{field}` stands for its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    Required,
    Once,
    Host,
    NoTransferEncoding,
    TenantId,
    UserId,
    PercentEncoding,
    Instant,
    DevelopmentOnly,
}

/// The words around what is told of Problems on their pages.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) problems: &'static str,
    pub(super) lead: &'static str,
    pub(super) status: &'static str,
    pub(super) kind: &'static str,
    pub(super) code: &'static str,
    pub(super) happened: &'static str,
    pub(super) why: &'static str,
    pub(super) advice: &'static str,
    pub(super) example: &'static str,
    pub(super) all: &'static str,
    pub(super) reference: &'static str,
    pub(super) skip: &'static str,
    pub(super) pages: &'static str,
}

impl Language {
    pub(super) const ALL: [Self; 2] = [Self::English, Self::Chinese];

    /// The language tags (RFC 5646) that its texts go by, the shortest first.
    pub(super) fn tags(self) -> &'static [&'static str] {
        match self {
            Self::English => &["en"],
            Self::Chinese => &["zh", "zh-CN", "zh-Hans", "zh-Hans-CN"],
        }
    }

    /// The one that its texts are marked with.
    pub(super) fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Chinese => "zh-CN",
        }
    }

    pub(super) fn problem(self, kind: Kind) -> Told {
        match self {
            Self::English => en::problem(kind),
            Self::Chinese => zh::problem(kind),
        }
    }

    pub(super) fn violation(self, rule: Rule) -> &'static str {
        match self {
            Self::English => en::violation(rule),
            Self::Chinese => zh::violation(rule),
        }
    }

    pub(super) fn frame(self) -> &'static Frame {
        match self {
            Self::English => &en::FRAME,
            Self::Chinese => &zh::FRAME,
        }
    }
}

/// The text with its arguments in their places.
pub(super) fn fill(text: &str, args: &Map<String, Value>) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, from)) = rest.split_once('{') {
        filled.push_str(before);
        let (name, after) = from.split_once('}').unwrap_or((from, ""));
        let value = args.get(name).unwrap_or(&Value::Null);
        filled.push_str(&match value {
            Value::String(text) => Cow::Borrowed(text.as_str()),
            other => Cow::Owned(other.to_string()),
        });
        rest = after;
    }
    filled.push_str(rest);
    filled
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{TenantId, UserId};
    use serde_json::json;

    const RULES: [Rule; 9] = [
        Rule::Required,
        Rule::Once,
        Rule::Host,
        Rule::NoTransferEncoding,
        Rule::TenantId,
        Rule::UserId,
        Rule::PercentEncoding,
        Rule::Instant,
        Rule::DevelopmentOnly,
    ];

    /// The names in braces, in order of the alphabet.
    fn args(text: &str) -> Vec<&str> {
        let mut names: Vec<&str> = text
            .split('{')
            .skip(1)
            .map(|rest| rest.split_once('}').unwrap().0)
            .collect();
        names.sort_unstable();
        names
    }

    /// Every text of a catalogue under a name of its own, and how many a list has.
    fn texts(language: Language) -> Vec<(String, Vec<&'static str>)> {
        let mut texts = Vec::new();
        for kind in Kind::ALL {
            let told = language.problem(*kind);
            texts.push((format!("{kind:?}.title"), vec![told.title]));
            texts.push((format!("{kind:?}.detail"), vec![told.detail]));
            texts.push((format!("{kind:?}.happened"), vec![told.happened]));
            texts.push((format!("{kind:?}.why"), told.why.to_vec()));
            texts.push((format!("{kind:?}.advice"), told.advice.to_vec()));
        }
        for rule in RULES {
            texts.push((format!("{rule:?}"), vec![language.violation(rule)]));
        }
        texts
    }

    #[test]
    fn the_catalogues_say_the_same_with_the_same_arguments() {
        let mut said = Vec::new();
        for ((name, english), (_, chinese)) in texts(Language::English)
            .into_iter()
            .zip(texts(Language::Chinese))
        {
            assert_eq!(english.len(), chinese.len(), "{name}");
            for (english, chinese) in english.iter().zip(chinese) {
                assert_eq!(args(english), args(chinese), "{name}");
                assert!(english.is_ascii() && !english.trim().is_empty(), "{name}");
                assert!(!chinese.is_ascii(), "{name} is not translated: {chinese}");
                for text in [*english, chinese] {
                    let is_new = !said.contains(&text);
                    assert!(is_new || name.contains(".advice"), "{name}: {text}");
                    said.push(text);
                }
            }
        }
    }

    #[test]
    fn what_is_allowed_is_what_is_checked() {
        for (rule, allowed) in [
            (Rule::TenantId, TenantId::ALLOWED),
            (Rule::UserId, UserId::ALLOWED),
        ] {
            assert_eq!(
                Language::English.violation(rule),
                format!("{{field}} must be {allowed}")
            );
        }
    }

    #[test]
    fn an_argument_is_put_in_as_it_is() {
        let Value::Object(args) = json!({ "a": "{b}", "b": 7, "c": "x" }) else {
            unreachable!()
        };
        assert_eq!(fill("{a}, {b}", &args), "{b}, 7");
        assert_eq!(fill("a", &args), "a");
    }
}
