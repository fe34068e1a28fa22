//! Whether the texts of two plans say the same.
//!
//! The compiler numbers the values that it makes up itself: `__mye6628`. The numbers depend on the order in which it walks its tables,
//! which was the order of addresses before the worker had an allocator of its own. So plans of earlier releases differ in them, in the order
//! of the section `descriptors`, which is sorted by names, and some in the order of lists in the header, which follows the numbers. Measured
//! on plans of TensorRT for RTX 1.7.1.116.

use std::collections::BTreeMap;

use super::read::PlanText;

/// What comes before such a number.
pub const NUMBERED: &str = "__mye";
/// The section with facts of the whole graph; its last line is a brace.
const HEADER: &str = "header {";
/// The section whose lines have no order of their own.
const DESCRIPTORS: &str = "descriptors {";
/// A line of a text is shown up to this many characters.
const SHOWN_CHARS: usize = 160;

/// What came of comparing the texts of two plans.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TextComparison {
    /// They are the same.
    Same,
    /// They are the same if the compiler's own values are numbered by the order in which they are used.
    SameButNumbering {
        /// Which number of the second plan each one of the first is.
        numbers: BTreeMap<String, String>,
        /// Whether a list in a header has its values in another order, too.
        reordered: bool,
    },
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
    /// One of the plans has none, or one that is not UTF-8.
    NoText,
}

/// Compares the texts of two plans, as [`read_texts`](super::read_texts) returns them.
pub fn compare_texts(old: &[PlanText], new: &[PlanText]) -> TextComparison {
    // Bytes that were replaced may have been any.
    let is_whole = |text: &PlanText| !text.text.contains(char::REPLACEMENT_CHARACTER);
    if old.is_empty() || new.is_empty() || !old.iter().chain(new).all(is_whole) {
        return TextComparison::NoText;
    }
    if old.iter().map(|text| &text.text).eq(new.iter().map(|text| &text.text)) {
        return TextComparison::Same;
    }
    let (mut numbers_of_old, mut numbers_of_new) = (Numbers::default(), Numbers::default());
    let mut reordered = false;
    for index in 0..old.len().max(new.len()) {
        let [one, other] = [old, new].map(|texts| texts.get(index).map_or("", |text| text.text.as_str()));
        let (one, other) = (numbers_of_old.lines(one), numbers_of_new.lines(other));
        for place in 0..one.len().max(other.len()) {
            let (one, other) = (one.get(place), other.get(place));
            if one.map(|line| &line.renumbered) == other.map(|line| &line.renumbered) {
                continue;
            }
            if one.is_some_and(|one| other.is_some_and(|other| one.has_the_words_of(other))) {
                reordered = true;
                continue;
            }
            let [old, new] = [one, other].map(|line| shown(line.map_or("", |line| line.as_it_is)));
            let line = one.or(other).map_or(0, |line| line.number);
            return TextComparison::Different { text: index + 1, line, old, new };
        }
    }
    let back: BTreeMap<usize, &str> =
        numbers_of_new.0.iter().map(|(number, place)| (*place, *number)).collect();
    let pairs = numbers_of_old
        .0
        .iter()
        .filter_map(|(number, place)| Some(((*number).into(), (*back.get(place)?).into())));
    TextComparison::SameButNumbering { numbers: pairs.collect(), reordered }
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
    is_of_header: bool,
}

impl Line<'_> {
    /// Returns whether both are lines of a header that have the same words in another order.
    fn has_the_words_of(&self, other: &Self) -> bool {
        let words = |line: &Self| {
            let mut words: Vec<String> = line.renumbered.split_whitespace().map(str::to_owned).collect();
            words.sort_unstable();
            words
        };
        self.is_of_header && other.is_of_header && words(self) == words(other)
    }
}

/// The numbers of one plan, by the order in which they are used. Each gets another one, and no two the same: what is equal after that
/// was equal but for the numbers.
#[derive(Default)]
struct Numbers<'a>(BTreeMap<&'a str, usize>);

impl<'a> Numbers<'a> {
    /// Returns the lines of a text with other numbers: first what runs, which says in what order values are used, then the header, then
    /// `descriptors`, in an order that does not depend on the numbers.
    fn lines(&mut self, text: &'a str) -> Vec<Line<'a>> {
        let (mut lines, mut header) = (Vec::new(), Vec::new());
        let mut descriptors: Vec<(String, usize, &'a str)> = Vec::new();
        let mut section = "";
        for (number, line) in (1..).zip(text.split('\n')) {
            match line {
                HEADER | DESCRIPTORS => section = line,
                "}" => section = "",
                _ => {}
            }
            match section {
                HEADER => header.push((number, line)),
                DESCRIPTORS => descriptors.push((String::new(), number, line)),
                _ => lines.push(self.line(number, line, false)),
            }
        }
        for (number, line) in header {
            lines.push(self.line(number, line, true));
        }
        for (key, _, line) in &mut descriptors {
            *key = replaced(line, |number| match self.0.get(number) {
                Some(known) => known.to_string(),
                None => "?".into(),
            });
        }
        descriptors.sort_by(|(key, ..), (other, ..)| key.cmp(other));
        for (_, number, line) in descriptors {
            lines.push(self.line(number, line, false));
        }
        lines
    }

    fn line(&mut self, number: usize, line: &'a str, is_of_header: bool) -> Line<'a> {
        let renumbered = replaced(line, |number| {
            let next = self.0.len();
            self.0.entry(number).or_insert(next).to_string()
        });
        Line { number, as_it_is: line, renumbered, is_of_header }
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

    fn compared(old: &str, new: &str) -> TextComparison {
        compare_texts(&texts([old]), &texts([new]))
    }

    #[track_caller]
    fn check_numbering(old: &str, new: &str, pairs: &[(&str, &str)], other_order: bool) {
        let TextComparison::SameButNumbering { numbers, reordered } = compared(old, new) else {
            panic!("{:?}", compared(old, new));
        };
        let found: Vec<(&str, &str)> =
            numbers.iter().map(|(old, new)| (old.as_str(), new.as_str())).collect();
        assert_eq!((found.as_slice(), reordered), (pairs, other_order));
    }

    #[track_caller]
    fn check_different(old: &str, new: &str, at: usize, lines: (&str, &str)) {
        let expected =
            TextComparison::Different { text: 1, line: at, old: lines.0.into(), new: lines.1.into() };
        assert_eq!(compared(old, new), expected);
    }

    #[test]
    fn numbers_of_the_compilers_own_values_do_not_matter_but_which_is_which_does() {
        assert_eq!(compared("a={ __mye6628 }", "a={ __mye6628 }"), TextComparison::Same);
        let pairs = [("66", "9"), ("7", "10")];
        check_numbering(
            "a={ __mye66 b __mye7 }\nc __mye66",
            "a={ __mye9 b __mye10 }\nc __mye9",
            &pairs,
            false,
        );
        check_different(
            "a __mye1\nb __mye2\nc __mye1",
            "a __mye5\nb __mye6\nc __mye6",
            3,
            ("c __mye1", "c __mye6"),
        );
        check_different("a __mye1 b", "a __mye5 c", 1, ("a __mye1 b", "a __mye5 c"));
        check_different("a 1", "a 2", 1, ("a 1", "a 2"));
        check_different("a __mye1", "a __mye", 1, ("a __mye1", "a __mye"));
        check_different("a", "a\nb", 2, ("", "b"));
    }

    fn whole(header: &str, descriptors: &str, main: &str) -> String {
        format!("header {{\n{header}\n}}\ndescriptors {{\n{descriptors}\n}}\nmain {{\n{main}\n}}\n")
    }

    /// As a compiler writes it: names in the order of the alphabet, numbers and all.
    #[test]
    fn descriptors_are_in_any_order() {
        let old = whole("h", "__mye10_w size=1\n__mye9_x size=2\n__mye9_y size=2", "f __mye9_x __mye10_w");
        let new = whole("h", "__mye3_x size=2\n__mye3_y size=2\n__mye4_w size=1", "f __mye3_x __mye4_w");
        check_numbering(&old, &new, &[("10", "4"), ("9", "3")], false);
        let other = whole("h", "__mye3_x size=2\n__mye3_y size=3\n__mye4_w size=1", "f __mye3_x __mye4_w");
        check_different(&old, &other, 7, ("__mye9_y size=2", "__mye3_y size=3"));
        let swapped = whole("h", "__mye3_x size=2\n__mye3_y size=2\n__mye4_w size=1", "f __mye4_x __mye3_w");
        assert!(matches!(compared(&old, &swapped), TextComparison::Different { .. }));
        // What nothing uses has no order but that of its line.
        let (old, new) = (whole("h", "__mye1_a\n__mye2_b", "f"), whole("h", "__mye7_b\n__mye8_a", "f"));
        check_numbering(&old, &new, &[("1", "8"), ("2", "7")], false);
    }

    #[test]
    fn lists_of_a_header_may_be_reordered_and_that_is_told() {
        let old = whole("out={ __mye2 __mye1 }", "d", "f __mye1\ng __mye2");
        check_numbering(
            &old,
            &whole("out={ __mye6 __mye5 }", "d", "f __mye5\ng __mye6"),
            &[("1", "5"), ("2", "6")],
            false,
        );
        check_numbering(
            &old,
            &whole("out={ __mye6 __mye5 }", "d", "f __mye6\ng __mye5"),
            &[("1", "6"), ("2", "5")],
            true,
        );
        check_different(
            &old,
            &whole("out={ __mye6 __mye6 }", "d", "f __mye6\ng __mye5"),
            2,
            ("out={ __mye2 __mye1 }", "out={ __mye6 __mye6 }"),
        );
    }

    #[test]
    fn numbers_go_on_from_text_to_text() {
        let old = texts(["a __mye1 __mye2", "b __mye2"]);
        let same = compare_texts(&old, &texts(["a __mye3 __mye4", "b __mye4"]));
        assert!(matches!(same, TextComparison::SameButNumbering { .. }), "{same:?}");
        let other = compare_texts(&old, &texts(["a __mye3 __mye4", "b __mye3"]));
        assert!(matches!(other, TextComparison::Different { text: 2, line: 1, .. }), "{other:?}");
        let fewer = compare_texts(&old, &texts(["a __mye3 __mye4"]));
        assert!(matches!(fewer, TextComparison::Different { text: 2, line: 1, .. }), "{fewer:?}");
        assert_eq!(compare_texts(&old, &[]), TextComparison::NoText);
        assert_eq!(compared("a \u{fffd}", "a \u{fffd}"), TextComparison::NoText);
    }
}
