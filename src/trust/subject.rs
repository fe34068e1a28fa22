//! Names of owners of certificates, and the patterns for them.

use crate::glob;

/// Returns whether the name of a certificate's owner (RFC 4514: `CN=Releases,O=Example`) matches a pattern. A comma, plus or equals sign within a
/// value is none between values: whoever may choose one value of a name can't make up the others with it.
pub(super) fn matches(pattern: &str, subject: &str) -> bool {
    glob::matches(&unambiguous(pattern), &unambiguous(subject))
}

/// Writes signs within a value as `\` and two hex digits.
fn unambiguous(name: &str) -> String {
    let (mut text, mut is_value) = (String::with_capacity(name.len()), false);
    let mut characters = name.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some(escaped @ (',' | '+' | '=' | ';')) => text.push_str(&hex(escaped)),
                escaped => text.extend(['\\'].into_iter().chain(escaped)),
            },
            ',' | '+' => {
                is_value = false;
                text.push(character);
            }
            '=' if is_value => text.push_str(&hex('=')),
            '=' => {
                is_value = true;
                text.push('=');
            }
            _ => text.push(character),
        }
    }
    text
}

fn hex(character: char) -> String {
    format!("\\{:02x}", u32::from(character))
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_value_makes_up_no_other() {
        for (pattern, subject, expected) in [
            ("CN=Releases,O=Example", "CN=Releases,O=Example", true),
            ("CN=Example releases,*", "CN=Example releases,OU=GPU,O=Example", true),
            ("CN=*,OU=Releases,O=Example", "CN=a,OU=Releases,O=Example", true),
            ("CN=*,OU=Releases,O=Example", r"CN=Mallory\,OU=Releases,O=Example", false),
            ("*,O=Example", r"CN=x\,O=Example", false),
            ("*,O=Example", r"CN=x\\,O=Example", true),
            ("*O=Example", "CN=O=Example", false),
            ("*O=Example*", "CN=x+O=Example,C=DE", true),
            ("*O=Example*", r"CN=x\+O=Example,C=DE", false),
            (r"CN=Example\, Inc.,*", r"CN=Example\, Inc.,C=DE", true),
            ("CN=a=b", "CN=a=b", true),
        ] {
            assert_eq!(matches(pattern, subject), expected, "{pattern} {subject}");
        }
    }
}
