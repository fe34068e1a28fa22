//! Whether the texts of two plans say the same.
//!
//! The compiler numbers the values that it makes up itself: `__mye6628`. The numbers depend on the order in which it walks its tables,
//! which was the order of addresses before the worker had an allocator of its own. So plans of earlier releases differ in them, and
//! in nothing else of their texts.

use std::collections::BTreeMap;

/// What comes before such a number.
const NUMBERED: &str = "__mye";
/// A line of a text is shown up to this many characters.
const SHOWN_CHARS: usize = 160;

/// What came of comparing the texts of two plans.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TextComparison {
    /// They are the same.
    Same,
    /// They are the same if the compiler's own values are numbered by the order in which they appear.
    SameButNumbering,
    /// They differ in this line.
    Different {
        /// The number of the text in the plan, from 1.
        text: usize,
        /// The number of the line in that text, from 1.
        line: usize,
        /// The first plan's line, its numbers as they are.
        old: String,
        /// The other one's.
        new: String,
    },
    /// One of the plans has none.
    NoText,
}

/// Compares the texts of two plans, as [`read_texts`](super::read_texts) returns them.
pub fn compare_texts(old: &[String], new: &[String]) -> TextComparison {
    if old.is_empty() || new.is_empty() {
        return TextComparison::NoText;
    }
    if old == new {
        return TextComparison::Same;
    }
    let (mut numbers_of_old, mut numbers_of_new) = (Numbers::default(), Numbers::default());
    for index in 0..old.len().max(new.len()) {
        let [one, other] = [old, new].map(|texts| texts.get(index).map_or("", String::as_str));
        let (mut lines, mut other_lines) = (one.lines(), other.lines());
        for line in 1.. {
            let (one, other) = (lines.next(), other_lines.next());
            let same = match (one, other) {
                (None, None) => break,
                (Some(one), Some(other)) => {
                    numbers_of_old.renumbered(one) == numbers_of_new.renumbered(other)
                }
                _ => false,
            };
            if !same {
                let [old, new] = [one, other].map(|line| shown(line.unwrap_or_default()));
                return TextComparison::Different { text: index + 1, line, old, new };
            }
        }
    }
    TextComparison::SameButNumbering
}

fn shown(line: &str) -> String {
    let line = line.trim();
    let mut shown: String = line.chars().take(SHOWN_CHARS).collect();
    if shown.len() < line.len() {
        shown.push('…');
    }
    shown
}

/// The numbers of one plan, by the order in which they appear.
#[derive(Default)]
struct Numbers<'a>(BTreeMap<&'a str, usize>);

impl<'a> Numbers<'a> {
    fn renumbered(&mut self, line: &'a str) -> String {
        let mut found = String::with_capacity(line.len());
        let mut rest = line;
        while let Some(at) = rest.find(NUMBERED) {
            let (before, from) = rest.split_at(at + NUMBERED.len());
            found.push_str(before);
            let digits = from.len() - from.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let (number, behind) = from.split_at(digits);
            if !number.is_empty() {
                let next = self.0.len();
                let place = self.0.entry(number).or_insert(next);
                found.push_str(&place.to_string());
            }
            rest = behind;
        }
        found.push_str(rest);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts<const N: usize>(texts: [&str; N]) -> Vec<String> {
        texts.map(String::from).to_vec()
    }

    #[track_caller]
    fn check(old: &str, new: &str, expected: TextComparison) {
        assert_eq!(compare_texts(&texts([old]), &texts([new])), expected);
    }

    fn different(line: usize, old: &str, new: &str) -> TextComparison {
        TextComparison::Different { text: 1, line, old: old.into(), new: new.into() }
    }

    #[test]
    fn numbers_of_the_compilers_own_values_do_not_matter_but_which_is_which_does() {
        check("a={ __mye6628 }", "a={ __mye6628 }", TextComparison::Same);
        check("a={ __mye66 b __mye7 }\nc __mye66", "a={ __mye9 b __mye10 }\nc __mye9", TextComparison::SameButNumbering);
        check("a __mye1\nb __mye2\nc __mye1", "a __mye5\nb __mye6\nc __mye6", different(3, "c __mye1", "c __mye6"));
        check("a __mye1 b", "a __mye5 c", different(1, "a __mye1 b", "a __mye5 c"));
        check("a 1", "a 2", different(1, "a 1", "a 2"));
        check("a __mye1", "a __mye", different(1, "a __mye1", "a __mye"));
        check("a", "a\nb", different(2, "", "b"));
    }

    #[test]
    fn numbers_go_on_from_text_to_text() {
        let old = texts(["a __mye1 __mye2", "b __mye2"]);
        assert_eq!(compare_texts(&old, &texts(["a __mye3 __mye4", "b __mye4"])), TextComparison::SameButNumbering);
        let other = compare_texts(&old, &texts(["a __mye3 __mye4", "b __mye3"]));
        assert!(matches!(other, TextComparison::Different { text: 2, line: 1, .. }), "{other:?}");
        let fewer = compare_texts(&old, &texts(["a __mye3 __mye4"]));
        assert!(matches!(fewer, TextComparison::Different { text: 2, line: 1, .. }), "{fewer:?}");
        assert_eq!(compare_texts(&old, &[]), TextComparison::NoText);
    }
}
