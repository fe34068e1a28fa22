//! What is wrong with YAML, in words for people who write it.

use serde_saphyr::Location;

use crate::nearest::did_you_mean;

/// What is said of a private key that somebody named in the place of another file.
pub(crate) const IS_A_KEY: &str = "it is a private key, of which nothing is printed: name the right file";

/// Returns whether a text has a private key in it, of which no error may show a part.
pub(crate) fn has_private_key(text: &str) -> bool {
    text.contains("PRIVATE KEY-----")
}

/// Returns where the error in a document is and what is wrong, with a snippet: the library's text is `error: line L column C: MESSAGE`, then a
/// snippet that repeats the message at a caret.
pub(crate) fn explain(error: &serde_saphyr::Error, document: &str) -> (Location, String) {
    if has_private_key(document) {
        return (Location::UNKNOWN, IS_A_KEY.to_owned());
    }
    let text = error.to_string();
    let (headline, snippet) = text.split_once('\n').unwrap_or((&text, ""));
    let message = match headline.strip_prefix("error: line ") {
        Some(rest) => rest.split_once(": ").map_or(rest, |(_, message)| message),
        None => headline,
    };
    let snippet =
        snippet.split_once('\n').map_or("", |(_, lines)| lines).replace(&format!("^ {message}"), "^");
    let worded = reworded(message);
    let problem = if snippet.is_empty() { worded } else { format!("{worded}\n{}", snippet.trim_end()) };
    (error.location().unwrap_or(Location::UNKNOWN), problem)
}

fn reworded(message: &str) -> String {
    let unknown =
        ["unknown field `", "unknown variant `"].iter().find_map(|start| message.strip_prefix(start));
    if let Some((name, expected)) = unknown.and_then(|rest| rest.split_once("`, expected one of ")) {
        return format!("{message}{}", did_you_mean(name, expected.split(", ")));
    }
    // One that has only one alternative is worded otherwise.
    if let Some((name, known)) = unknown.and_then(|rest| rest.split_once("`, expected ")) {
        return format!("{message}{}", did_you_mean(name, [known.trim_matches('`')]));
    }
    match message {
        "expected sequence start" => "expected a list, as in [a, b]".to_owned(),
        "expected mapping start" => "expected keys and values, as in {key: value}".to_owned(),
        "expected string scalar" => "expected a string".to_owned(),
        "externally tagged enum expected scalar or mapping" => {
            "expected a word, or a key and its value, as in {key: value}".to_owned()
        }
        "unexpected value for unit enum variant" => "this word takes no value: write it alone".to_owned(),
        "expected end of mapping after enum variant value" => {
            "expected one key and its value, but there are several".to_owned()
        }
        "invalid i64" | "invalid u64" => "expected an integer".to_owned(),
        null if null.starts_with("cannot deserialize null into ") => {
            "expected a value, but there is none".to_owned()
        }
        several if several.starts_with("multiple YAML documents") => {
            "expected one YAML document, but there are several: another one starts at `---`".to_owned()
        }
        other => other.split(", set DuplicateKeyPolicy").next().unwrap_or(other).to_owned(),
    }
}
