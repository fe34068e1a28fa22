//! Versions of releases, compared.

use std::cmp::Ordering;
use std::fmt;

/// A version: numbers with dots, and perhaps `-` and a pre-release, which comes before the version: `2.0.0-rc.1` before `2.0.0`.
/// `2.0` is `2.0.0`.
#[derive(Clone, Debug)]
pub struct Version {
    text: String,
    numbers: Vec<Number>,
    pre_release: Vec<Part>,
}

/// A number of any length: its count of digits, then the digits.
type Number = (usize, String);

/// A part of a pre-release; numbers come before words.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Number(Number),
    Word(String),
}

impl Version {
    /// Parses a version; `None` for what can't be compared.
    pub fn parse(text: &str) -> Option<Self> {
        let (numbers, pre_release) = match text.split_once('-') {
            Some((numbers, pre_release)) => (numbers, Some(pre_release)),
            None => (text, None),
        };
        let mut numbers: Vec<Number> = numbers.split('.').map(number).collect::<Option<_>>()?;
        while numbers.last().is_some_and(|(digits, _)| *digits == 0) {
            numbers.pop();
        }
        let pre_release = match pre_release {
            Some(parts) => parts.split('.').map(part).collect::<Option<_>>()?,
            None => Vec::new(),
        };
        Some(Self { text: text.into(), numbers, pre_release })
    }
}

fn number(text: &str) -> Option<Number> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let digits = text.trim_start_matches('0');
    is_number.then(|| (digits.len(), digits.to_owned()))
}

fn part(text: &str) -> Option<Part> {
    let is_word = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    is_word.then(|| number(text).map_or_else(|| Part::Word(text.to_owned()), Part::Number))
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Version {}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        self.numbers.cmp(&other.numbers).then_with(|| {
            match (self.pre_release.is_empty(), other.pre_release.is_empty()) {
                (true, false) => Ordering::Greater,
                (false, true) => Ordering::Less,
                _ => self.pre_release.cmp(&other.pre_release),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_have_an_order() {
        let ordered = [
            "0",
            "0.9",
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-alpha.beta",
            "1.0.0-rc.2",
            "1.0.0-rc.11",
            "1.0.0",
            "1.0.1",
            "1.9.9",
            "1.10",
            "2",
            "10.0",
            "99999999999999999999999.1",
        ];
        for pair in ordered.windows(2) {
            let [earlier, later] = [0, 1].map(|place| Version::parse(pair[place]).unwrap());
            assert!(earlier < later, "{earlier} {later}");
        }
        assert_eq!(Version::parse("2.0"), Version::parse("2.0.0"));
        assert_eq!(Version::parse("02.1"), Version::parse("2.1"));
    }

    #[test]
    fn what_has_no_order_is_none() {
        for text in ["", "latest", "v1", "1.x", "1..2", "1.0-", "1.0+build", "1.0-a..b", "1,0", " 1", "1.0-ä"]
        {
            assert!(Version::parse(text).is_none(), "{text}");
        }
    }
}
