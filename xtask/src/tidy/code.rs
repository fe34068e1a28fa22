//! Rust source without what is no code.

/// Returns the source with comments and the contents of strings turned into spaces; every line stays where it is.
pub(super) fn only_code(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let (length, is_code) = match token_length(rest, code.chars().next_back()) {
            Some(length) => (length, false),
            None => (first.len_utf8(), true),
        };
        let (token, after) = rest.split_at(length.min(rest.len()));
        if is_code {
            code.push_str(token);
        } else {
            code.extend(token.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        }
        rest = after;
    }
    code
}

/// Returns how long the comment, string or character is that the text begins with.
fn token_length(text: &str, before: Option<char>) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if text.starts_with("/*") {
        return Some(block_comment(text));
    }
    let in_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if !in_word {
        let raw = text.strip_prefix("br").or(text.strip_prefix('r')).unwrap_or_default();
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let start = text.len() - raw.len() + hashes + 1;
            return Some(text[start..].find(&end).map_or(text.len(), |at| start + at + end.len()));
        }
    }
    if text.starts_with('"') {
        return Some(quoted(text, '"'));
    }
    // 'a' and '\n' are characters, 'a alone is a lifetime.
    let mut inside = text.strip_prefix('\'')?.chars();
    let (first, second) = (inside.next()?, inside.next());
    (first == '\\' || second == Some('\'')).then(|| quoted(text, '\''))
}

fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest.starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                break;
            }
        } else {
            at += 1;
        }
    }
    at
}

/// Returns where a word stands in a line, alone and not as a part of a longer one.
pub(super) fn word(line: &str, word: &str) -> Option<usize> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word)
        .map(|(at, _)| at)
        .find(|at| !line[..*at].ends_with(is_part) && !line[at + word.len()..].starts_with(is_part))
}

/// Returns whether a file has tests and nothing else: `tests.rs`, or what is in a folder `tests`.
pub(super) fn is_of_tests(path: &str) -> bool {
    path.split('/').any(|part| matches!(part, "tests" | "tests.rs"))
}

/// Returns code up to the tests at its end.
pub(super) fn without_tests(code: &str) -> &str {
    code.split_once("#[cfg(test)]\nmod tests").map_or(code, |(before, _)| before)
}

/// Returns the modules of this crate that code names below these roots, `crate::` or `super::`, groups included, with the
/// path below each and the line it is in.
pub(super) fn modules_used(code: &str, roots: &[&str]) -> Vec<(usize, String, String)> {
    let mut used = Vec::new();
    for root in roots {
        for (at, _) in code.match_indices(root) {
            if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
                continue;
            }
            let line = code[..at].matches('\n').count() + 1;
            for path in members(&code[at + root.len()..]) {
                let (module, below) = path.split_once("::").unwrap_or((&path, ""));
                used.push((line, module.trim().to_owned(), below.trim().to_owned()));
            }
        }
    }
    used.sort();
    used
}

/// Returns the path that the text begins with, or each one of a `{…}` group.
fn members(text: &str) -> Vec<String> {
    let Some(group) = text.strip_prefix('{') else {
        let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(text.len());
        return vec![text[..end].to_owned()];
    };
    let (mut depth, mut members) = (0_usize, vec![String::new()]);
    for c in group.chars() {
        match c {
            '}' if depth == 0 => break,
            ',' if depth == 0 => {
                members.push(String::new());
                continue;
            }
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if let Some(member) = members.last_mut() {
            member.push(c);
        }
    }
    members.into_iter().map(|member| member.trim().to_owned()).filter(|member| !member.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::{modules_used, only_code, word};

    #[test]
    fn comments_and_strings_are_no_code() {
        let check = |source: &str, expected: &str| {
            let code = only_code(source);
            assert_eq!(code.split_whitespace().collect::<Vec<_>>().join(" "), expected, "{source}");
            assert_eq!(code.matches('\n').count(), source.matches('\n').count());
        };
        check("a // b\nc /* d /* e */ f */ g", "a c g");
        check(r##"x("a\"b", r#"c"d"#, 'e', '\'', b"f") 'g y"##, "x( , , , , b ) 'g y");
        check("fn f<'a>(x: &'a str) -> char { '\"' } unsafe", "fn f<'a>(x: &'a str) -> char { } unsafe");
    }

    #[test]
    fn words_stand_alone() {
        assert_eq!(word("unsafe_code, unsafe {", "unsafe"), Some(13));
        assert_eq!(word("unsafe_code", "unsafe"), None);
    }

    #[test]
    fn groups_name_several_modules() {
        let code =
            "use crate::digest::Sha256;\nuse crate::{\n    ops::{build, hash},\n    store,\n};\nsuper::x::Y";
        let found = modules_used(code, &["crate::", "super::"]);
        let found: Vec<_> = found.iter().map(|(line, module, _)| (*line, module.as_str())).collect();
        assert_eq!(found, [(1, "digest"), (2, "ops"), (2, "store"), (6, "x")]);
    }
}
