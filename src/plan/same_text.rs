//! Whether the texts of two plans say the same.
//!
//! The compiler numbers the values that it makes up itself: `__mye6628`. The numbers depend on the order in which it walks its tables,
//! which was the order of addresses before the worker had an allocator of its own. So plans of earlier releases differ in them, and
//! in the order of the section `descriptors`, which is sorted by names. Measured on plans of TensorRT for RTX 1.7.1.116.

use std::collections::BTreeMap;

use super::read::PlanText;

/// What comes before such a number.
const NUMBERED: &str = "__mye";
/// The section whose lines have no order of their own; its last line is a brace.
const DESCRIPTORS: &str = "descriptors {";
/// A line of a text is shown up to this many characters.
const SHOWN_CHARS: usize = 160;

/// What came of comparing the texts of two plans.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TextComparison {
    /// They are the same.
    Same,
    /// They are the same if the compiler's own values are numbered by the order in which they are used.
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
pub fn compare_texts(old: &[PlanText], new: &[PlanText]) -> TextComparison {
    if old.is_empty() || new.is_empty() {
        return TextComparison::NoText;
    }
    if old.iter().map(|text| &text.text).eq(new.iter().map(|text| &text.text)) {
        return TextComparison::Same;
    }
    let (mut numbers_of_old, mut numbers_of_new) = (Numbers::default(), Numbers::default());
    for index in 0..old.len().max(new.len()) {
        let [one, other] = [old, new].map(|texts| texts.get(index).map_or("", |text| text.text.as_str()));
        let (one, other) = (numbers_of_old.lines(one), numbers_of_new.lines(other));
        for place in 0..one.len().max(other.len()) {
            let (one, other) = (one.get(place), other.get(place));
            if one.map(|line| &line.renumbered) != other.map(|line| &line.renumbered) {
                let [old, new] = [one, other].map(|line| shown(line.map_or("", |line| line.as_it_is)));
                let line = one.or(other).map_or(0, |line| line.number);
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

/// A line of a text.
struct Line<'a> {
    /// Its number in the text, from 1.
    number: usize,
    as_it_is: &'a str,
    renumbered: String,
}

/// The numbers of one plan, by the order in which they are used. Each gets another one, and no two the same: what is equal after that
/// was equal but for the numbers.
#[derive(Default)]
struct Numbers<'a>(BTreeMap<&'a str, usize>);

impl<'a> Numbers<'a> {
    /// Returns the lines of a text with other numbers; those of `descriptors` last, in an order that does not depend on the numbers.
    fn lines(&mut self, text: &'a str) -> Vec<Line<'a>> {
        let mut lines = Vec::new();
        let mut descriptors: Vec<(String, usize, &'a str)> = Vec::new();
        let mut is_descriptor = false;
        for (number, line) in (1..).zip(text.lines()) {
            is_descriptor &= line != "}";
            if is_descriptor {
                descriptors.push((String::new(), number, line));
            } else {
                lines.push(Line { number, as_it_is: line, renumbered: self.renumbered(line) });
            }
            is_descriptor |= line == DESCRIPTORS;
        }
        for (key, _, line) in &mut descriptors {
            *key = replaced(line, |number| match self.0.get(number) {
                Some(known) => known.to_string(),
                None => "?".into(),
            });
        }
        descriptors.sort_by(|(key, ..), (other, ..)| key.cmp(other));
        for (_, number, line) in descriptors {
            lines.push(Line { number, as_it_is: line, renumbered: self.renumbered(line) });
        }
        lines
    }

    fn renumbered(&mut self, line: &'a str) -> String {
        replaced(line, |number| {
            let next = self.0.len();
            self.0.entry(number).or_insert(next).to_string()
        })
    }
}

/// Returns a line with the numbers of the compiler's own values replaced.
fn replaced<'a>(line: &'a str, mut other: impl FnMut(&'a str) -> String) -> String {
    let mut found = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find(NUMBERED) {
        let (before, from) = rest.split_at(at + NUMBERED.len());
        found.push_str(before);
        let digits = from.len() - from.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, behind) = from.split_at(digits);
        if !number.is_empty() {
            found.push_str(&other(number));
        }
        rest = behind;
    }
    found.push_str(rest);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts<const N: usize>(texts: [&str; N]) -> Vec<PlanText> {
        texts.map(|text| PlanText { offset: 0, size_bytes: text.len() as u64, text: text.into() }).to_vec()
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
        check(
            "a={ __mye66 b __mye7 }\nc __mye66",
            "a={ __mye9 b __mye10 }\nc __mye9",
            TextComparison::SameButNumbering,
        );
        check(
            "a __mye1\nb __mye2\nc __mye1",
            "a __mye5\nb __mye6\nc __mye6",
            different(3, "c __mye1", "c __mye6"),
        );
        check("a __mye1 b", "a __mye5 c", different(1, "a __mye1 b", "a __mye5 c"));
        check("a 1", "a 2", different(1, "a 1", "a 2"));
        check("a __mye1", "a __mye", different(1, "a __mye1", "a __mye"));
        check("a", "a\nb", different(2, "", "b"));
    }

    /// As a compiler writes it: names in the order of the alphabet, numbers and all.
    #[test]
    fn descriptors_are_in_any_order() {
        let text = |descriptors: &str, used: &str| {
            format!("header {{\n}}\ndescriptors {{\n{descriptors}\n}}\nmain {{\n{used}\n}}\n")
        };
        let old = text("__mye10_w size=1\n__mye9_x size=2\n__mye9_y size=2", "f __mye9_x __mye10_w");
        let new = text("__mye3_x size=2\n__mye3_y size=2\n__mye4_w size=1", "f __mye3_x __mye4_w");
        check(&old, &new, TextComparison::SameButNumbering);
        let other = text("__mye3_x size=2\n__mye3_y size=3\n__mye4_w size=1", "f __mye3_x __mye4_w");
        check(&old, &other, different(6, "__mye9_y size=2", "__mye3_y size=3"));
        let swapped = text("__mye3_x size=2\n__mye3_y size=2\n__mye4_w size=1", "f __mye4_x __mye3_w");
        assert!(matches!(
            compare_texts(&texts([&old]), &texts([&swapped])),
            TextComparison::Different { .. }
        ));
        // What nothing uses has no order but that of its line.
        let (old, new) = (text("__mye1_a\n__mye2_b", "f"), text("__mye7_b\n__mye8_a", "f"));
        check(&old, &new, TextComparison::SameButNumbering);
    }

    #[test]
    fn numbers_go_on_from_text_to_text() {
        let old = texts(["a __mye1 __mye2", "b __mye2"]);
        assert_eq!(
            compare_texts(&old, &texts(["a __mye3 __mye4", "b __mye4"])),
            TextComparison::SameButNumbering
        );
        let other = compare_texts(&old, &texts(["a __mye3 __mye4", "b __mye3"]));
        assert!(matches!(other, TextComparison::Different { text: 2, line: 1, .. }), "{other:?}");
        let fewer = compare_texts(&old, &texts(["a __mye3 __mye4"]));
        assert!(matches!(fewer, TextComparison::Different { text: 2, line: 1, .. }), "{fewer:?}");
        assert_eq!(compare_texts(&old, &[]), TextComparison::NoText);
    }
}
