//! Two plans whose texts are the same, or are but for the compiler's numbering: whether anything else differs.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::plan::{NUMBERED, PlanText};

/// The size of what is compared at a time.
const CHUNK_BYTES: usize = 1 << 20;
/// More bytes than this beside the texts are no names with numbers.
const MAX_DIFFERENCES: usize = 1 << 16;
/// The most digits of a number.
const MAX_DIGITS: usize = 20;
const SAME: &str = "the text of its layers is the same";

/// What is known of two plans.
pub(super) struct Renumbered {
    /// What both headers say.
    pub(super) header: String,
    /// The texts of the one.
    pub(super) old: Vec<PlanText>,
    /// The texts of the other.
    pub(super) new: Vec<PlanText>,
    /// Which number of the other plan each one of the first is; none if the texts are the same.
    pub(super) numbers: BTreeMap<String, String>,
    /// Whether lists in their headers have another order.
    pub(super) reordered: bool,
}

impl Renumbered {
    /// Compares everything beside the texts: compiled code, tables and weights. Returns what is the same if nothing but numbers differs,
    /// else what differs.
    pub(super) fn compare(&self, released: &Path, rebuilt: &Path) -> io::Result<Result<Vec<String>, String>> {
        let (old, new) = (fs_err::File::open(released)?, fs_err::File::open(rebuilt)?);
        let size_bytes = old.metadata()?.len();
        let places = |texts: &[PlanText]| -> Vec<(u64, u64)> {
            texts.iter().map(|text| (text.offset, text.size_bytes)).collect()
        };
        let texts = match (self.numbers.is_empty(), self.reordered) {
            (true, _) => SAME.to_owned(),
            (false, false) => format!("{SAME} but for the numbering of the compiler's own values"),
            (false, true) => format!(
                "{SAME} but for the numbering of the compiler's own values, and their order in lists of its header"
            ),
        };
        if size_bytes != new.metadata()?.len() || places(&self.old) != places(&self.new) {
            return Ok(Err(texts));
        }
        let beside = size_bytes - self.old.iter().map(|text| text.size_bytes).sum::<u64>();
        let Some(differences) = self.differences(&old, &new)? else {
            return Ok(Err(format!(
                "{texts}; more than {MAX_DIFFERENCES} of {beside} bytes beside the texts differ"
            )));
        };
        let mut unexplained = Vec::new();
        for at in &differences {
            if !self.is_in_a_number(&old, &new, *at)? {
                unexplained.push(*at);
            }
        }
        Ok(match unexplained.first() {
            Some(first) => Err(format!(
                "{texts}; {} of {beside} bytes beside the texts differ, the first at offset {first}",
                unexplained.len()
            )),
            None if self.reordered => Err(texts),
            None => Ok(vec![
                format!("{texts} ({} texts)", self.old.len()),
                format!(
                    "every byte beside the texts is the same{} ({beside} bytes of compiled code, tables and weights)",
                    match differences.len() {
                        0 => String::new(),
                        count => format!(" but for {count} in such numbers"),
                    }
                ),
                format!("the header is the same: {}", self.header),
            ]),
        })
    }

    /// Returns where bytes beside the texts differ; `None` if there are too many.
    fn differences(&self, old: &fs_err::File, new: &fs_err::File) -> io::Result<Option<Vec<u64>>> {
        let is_in_a_text =
            |at: u64| self.old.iter().any(|text| (text.offset..text.offset + text.size_bytes).contains(&at));
        let (mut old, mut new) = (old, new);
        let (mut of_old, mut of_new) = (Vec::new(), Vec::new());
        let (mut offset, mut found) = (0, Vec::new());
        loop {
            of_old.clear();
            of_new.clear();
            (&mut old).take(CHUNK_BYTES as u64).read_to_end(&mut of_old)?;
            (&mut new).take(CHUNK_BYTES as u64).read_to_end(&mut of_new)?;
            if of_old.is_empty() {
                return Ok(Some(found));
            }
            let pairs = (offset..).zip(of_old.iter().zip(&of_new)).filter(|(_, (old, new))| old != new);
            found.extend(pairs.map(|(at, _)| at).filter(|at| !is_in_a_text(*at)));
            if found.len() > MAX_DIFFERENCES {
                return Ok(None);
            }
            offset += of_old.len() as u64;
        }
    }

    /// Returns whether a byte is a digit of a number that the texts have, and which is its counterpart there.
    fn is_in_a_number(&self, old: &fs_err::File, new: &fs_err::File, at: u64) -> io::Result<bool> {
        let begin = at.saturating_sub((NUMBERED.len() + MAX_DIGITS) as u64);
        let around = |file: &fs_err::File| -> io::Result<Vec<u8>> {
            let mut bytes = vec![0; NUMBERED.len() + 2 * MAX_DIGITS];
            let count = file.file().read_at(&mut bytes, begin)?;
            bytes.truncate(count);
            Ok(bytes)
        };
        let place = usize::try_from(at - begin).unwrap_or_default();
        let (old, new) = (around(old)?, around(new)?);
        let numbers = number_around(&old, place).zip(number_around(&new, place));
        Ok(numbers.is_some_and(|((start, number), (other_start, other))| {
            start == other_start && self.numbers.get(number).map(String::as_str) == Some(other)
        }))
    }
}

/// Returns the number of a value of the compiler's own around a place, and where its digits begin.
fn number_around(bytes: &[u8], place: usize) -> Option<(usize, &str)> {
    let is_digit = |at: &usize| bytes.get(*at).is_some_and(u8::is_ascii_digit);
    let start = (0..=place).rev().take_while(is_digit).last()?;
    let end = (place..bytes.len()).take_while(is_digit).last()? + 1;
    let before = bytes.get(start.checked_sub(NUMBERED.len())?..start)?;
    let digits = std::str::from_utf8(&bytes[start..end]).ok()?;
    (before == NUMBERED.as_bytes()).then_some((start, digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compare(old: &[u8], new: &[u8], reordered: bool) -> Result<Vec<String>, String> {
        let folder = tempfile::tempdir().unwrap();
        let [one, other] = ["one", "other"].map(|name| folder.path().join(name));
        fs_err::write(&one, old).unwrap();
        fs_err::write(&other, new).unwrap();
        // The text is the first four bytes.
        let text = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(&bytes[..4]).into_owned();
            vec![PlanText { offset: 0, size_bytes: 4, text }]
        };
        let numbers = BTreeMap::from([("12".to_owned(), "34".to_owned()), ("7".to_owned(), "8".to_owned())]);
        let plans = Renumbered { header: "h".into(), old: text(old), new: text(new), numbers, reordered };
        plans.compare(&one, &other).unwrap()
    }

    #[test]
    fn numbers_beside_the_texts_are_those_in_the_texts() {
        let same = compare(b"text..x__mye12y..__mye7", b"TEXT..x__mye34y..__mye8", false).unwrap();
        assert!(same[1].contains("the same but for 3 in such numbers (19 bytes"), "{}", same[1]);
        for (new, first) in [
            // Another number than in the texts, a byte that is no number, one more digit, another name.
            (&b"TEXT..x__mye35y..__mye8"[..], 12),
            (b"TEXT..X__mye34y..__mye8", 6),
            (b"TEXT..x__mye341..__mye8", 12),
            (b"TEXT..x__myf34y..__mye8", 11),
        ] {
            let why = compare(b"text..x__mye12y..__mye7", new, false).unwrap_err();
            assert!(why.ends_with(&format!("the first at offset {first}")), "{why}");
        }
    }

    #[test]
    fn another_order_or_size_is_no_mere_numbering() {
        assert!(
            compare(b"text..", b"TEXT..", true).unwrap_err().contains("their order in lists of its header")
        );
        assert!(compare(b"text..", b"TEXT...", false).is_err());
    }
}
