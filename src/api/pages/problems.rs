//! The pages behind a Problem's `type`: what happened, why, what to do, and an example.

use std::fmt::Write;

use super::escaped;
use crate::api::problem::{self, Kind};
use crate::api::service::Settings;
use crate::api::words::{Frame, Language};

/// The page of a kind.
pub(super) fn of(kind: Kind, language: Language, settings: &Settings) -> String {
    let (entry, told, frame) = (kind.entry(), language.problem(kind), language.frame());
    let example = problem::example(kind, language, settings);
    let main = format!(
        "<h1>{title}</h1>\n\
         <dl class=\"facts\">\n\
         <div><dt>{status}</dt><dd>{number}</dd></div>\n\
         <div><dt>{code_word}</dt><dd><code>{code}</code></dd></div>\n\
         <div><dt>i18n_key</dt><dd><code>{key}</code></dd></div>\n\
         </dl>\n\
         <h2>{happened_word}</h2>\n<p>{happened}</p>\n\
         <h2>{why_word}</h2>\n{why}\
         <h2>{advice_word}</h2>\n{advice}\
         <h2>{example_word}</h2>\n\
         <pre tabindex=\"0\"><code>{example}</code></pre>\n\
         <p><a href=\"/problems/\">{all}</a></p>\n",
        title = escaped(told.title),
        status = frame.status,
        number = escaped(&entry.status.to_string()),
        code_word = frame.code,
        code = entry.code,
        key = entry.i18n_key,
        happened_word = frame.happened,
        happened = prose(told.happened),
        why_word = frame.why,
        why = list_of(told.why),
        advice_word = frame.advice,
        advice = list_of(told.advice),
        example_word = frame.example,
        example = escaped(&example),
        all = frame.all,
    );
    document(told.title, &main, language, frame)
}

/// The page that lists them all.
pub(super) fn list(language: Language) -> String {
    let frame = language.frame();
    let main = format!(
        "<h1>{}</h1>\n<p>{}</p>\n{}",
        frame.problems,
        frame.lead,
        table(language)
    );
    document(frame.problems, &main, language, frame)
}

/// A row for each kind.
pub(super) fn table(language: Language) -> String {
    let frame = language.frame();
    let mut rows = String::new();
    for kind in Kind::ALL {
        let (entry, told) = (kind.entry(), language.problem(*kind));
        let _ = writeln!(
            rows,
            "<tr><td>{}</td><th scope=\"row\"><a href=\"/problems/{slug}\">{}</a><br><code>{slug}</code></th><td><code>{}</code></td></tr>",
            entry.status.as_u16(),
            escaped(told.title),
            entry.code,
            slug = entry.slug,
        ); // a string takes all that is written
    }
    format!(
        "<table>\n<thead><tr><th scope=\"col\">{}</th><th scope=\"col\">{}</th><th scope=\"col\">{}</th></tr></thead>\n\
         <tbody>\n{rows}</tbody>\n</table>\n",
        frame.status, frame.kind, frame.code
    )
}

fn list_of(sentences: &[&str]) -> String {
    let items: String = sentences
        .iter()
        .map(|sentence| format!("<li>{}</li>\n", prose(sentence)))
        .collect();
    format!("<ul>\n{items}</ul>\n")
}

/// A sentence as HTML; what stands between backticks is code.
fn prose(sentence: &str) -> String {
    let mut html = String::new();
    for (index, part) in escaped(sentence).split('`').enumerate() {
        if index % 2 == 0 {
            html.push_str(part);
        } else {
            let _ = write!(html, "<code>{part}</code>");
        }
    }
    html
}

fn document(title: &str, main: &str, language: Language, frame: &Frame) -> String {
    format!(
        "<!doctype html>\n\
         <html lang=\"{tag}\">\n\
         <head>\n\
         <meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title} · sessile</title>\n\
         <link rel=\"icon\" href=\"data:,\">\n\
         <link rel=\"stylesheet\" href=\"/docs/style.css\">\n\
         </head>\n\
         <body>\n\
         <a class=\"skip\" href=\"#main\">{skip}</a>\n\
         <header><nav aria-label=\"{pages}\"><a class=\"brand\" href=\"/docs\">sessile</a> \
         <a href=\"/docs\">{reference}</a> <a href=\"/problems/\">{problems}</a></nav></header>\n\
         <main id=\"main\" tabindex=\"-1\">\n{main}</main>\n\
         </body>\n\
         </html>\n",
        tag = language.tag(),
        title = escaped(title),
        skip = frame.skip,
        pages = frame.pages,
        reference = frame.reference,
        problems = frame.problems,
    )
}
