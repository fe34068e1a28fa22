//! Values for an input that the recipe has no samples for: chosen by its type, its name and the table that it indexes.
//!
//! They are valid for the graph as far as the graph shows it, and say nothing about real data: an index stays within its
//! table, a mask hides nothing, a sample rate is one that models know. Everything else is random.

use super::{Integers, Normal, Sample};
use crate::onnx::{ElementType, TensorInfo};

/// The largest token id, plus 1, where the graph doesn't show its vocabulary: in every real one.
const SMALL_VOCABULARY: i64 = 100;
/// What speech models take.
const SAMPLE_RATE: i64 = 16_000;
/// Values of a byte.
const BYTES: i64 = 256;

/// What an input is, as far as its name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// Numbers of tokens.
    TokenIds,
    /// Which tokens count: 1 for those that do.
    Mask,
    /// Which elements are padding: 1 for those that are.
    PaddingMask,
    /// To which of two strings a token belongs.
    TokenTypes,
    /// The places of tokens.
    Positions,
    /// How much of a row counts.
    Lengths,
    /// Samples of audio per second.
    SampleRate,
    /// Raw bytes.
    Bytes,
    /// Something else.
    Other,
}

impl Meaning {
    /// Returns what an input of this name is.
    pub fn of(name: &str) -> Self {
        let words = words(name);
        let has = |wanted: &[&str]| words.iter().any(|word| wanted.contains(&word.as_str()));
        if has(&["mask", "masks"]) {
            if has(&["pad", "padding"]) { Self::PaddingMask } else { Self::Mask }
        } else if has(&["type", "types", "segment", "segments"]) {
            Self::TokenTypes
        } else if has(&["position", "positions", "pos"]) {
            Self::Positions
        } else if has(&["length", "lengths", "len", "lens"]) {
            Self::Lengths
        } else if has(&["sr"]) || (has(&["rate"]) && has(&["sample", "sampling"])) {
            Self::SampleRate
        } else if has(&["byte", "bytes"]) {
            Self::Bytes
        } else if has(&["id", "ids", "token", "tokens", "text", "texts", "phoneme", "phonemes"]) {
            Self::TokenIds
        } else {
            Self::Other
        }
    }
}

/// Returns seeded values for an input; `bound` is what all of its values must be less than, where the graph shows it.
/// `None` for an input that can't be seeded: strings, sequences, maps.
pub fn seeded(info: &TensorInfo, bound: Option<i64>) -> Option<Sample> {
    let integers = |low, high| Some(Sample::Integers(Integers { low, high }));
    let constant = |value: i64| integers(value, value.saturating_add(1));
    let is_float = match info.element_type {
        ElementType::Float | ElementType::Float16 | ElementType::Bfloat16 | ElementType::Double => true,
        ElementType::Bool | ElementType::Int8 | ElementType::Uint8 => false,
        ElementType::Int32 | ElementType::Int64 => false,
        _ => return None,
    };
    let meaning = Meaning::of(&info.name);
    match meaning {
        Meaning::Mask => return constant(1),
        Meaning::PaddingMask | Meaning::TokenTypes => return constant(0),
        Meaning::SampleRate => return constant(SAMPLE_RATE),
        _ => {}
    }
    if let Some(bound) = bound {
        return integers(0, bound);
    }
    match (info.element_type, meaning) {
        _ if is_float => Some(Sample::Normal(Normal { mean: 0.0, standard_deviation: 1.0 })),
        (ElementType::Bool, _) | (_, Meaning::Positions) => constant(0),
        (_, Meaning::Lengths) => constant(1),
        (ElementType::Uint8, _) | (_, Meaning::Bytes) => integers(0, BYTES),
        (ElementType::Int8, _) => integers(0, 2),
        (_, Meaning::TokenIds) => integers(0, SMALL_VOCABULARY),
        _ => integers(0, 2),
    }
}

/// Splits a name into lower-case words: at anything but letters and digits, and before a capital.
pub fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut was_lower = false;
    for character in name.chars() {
        let splits = !character.is_alphanumeric() || (was_lower && character.is_uppercase());
        if splits {
            words.push(String::new());
        }
        was_lower = character.is_lowercase();
        if character.is_alphanumeric() {
            words.last_mut().expect("there is one").extend(character.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, element_type: ElementType, bound: Option<i64>, expected: Option<(i64, i64)>) {
        let info = TensorInfo { name: name.into(), element_type, shape: Vec::new(), rank_known: true };
        let found = match seeded(&info, bound) {
            Some(Sample::Integers(Integers { low, high })) => Some((low, high)),
            Some(Sample::Normal(_)) => None,
            other => panic!("{other:?}"),
        };
        assert_eq!(found, expected, "{name}");
    }

    #[test]
    fn values_follow_types_names_and_tables() {
        use ElementType::{Bool, Double, Float, Int32, Int64, Uint8};
        check("input_ids", Int64, Some(30_522), Some((0, 30_522)));
        check("input_ids", Int32, None, Some((0, 100)));
        check("TEXT", Int64, None, Some((0, 100)));
        check("attention_mask", Int64, None, Some((1, 2)));
        check("attentionMask", Float, None, Some((1, 2)));
        check("key_padding_mask", Bool, None, Some((0, 1)));
        check("token_type_ids", Int64, Some(2), Some((0, 1)));
        check("position_ids", Int64, Some(512), Some((0, 512)));
        check("position_ids", Int64, None, Some((0, 1)));
        check("x_lengths", Int64, None, Some((1, 2)));
        check("sr", Int64, None, Some((16_000, 16_001)));
        check("bytes", Int32, None, Some((0, 256)));
        check("image", Uint8, None, Some((0, 256)));
        check("use_cache_branch", Bool, None, Some((0, 1)));
        check("pixel_values", Float, None, None);
        check("x", Double, None, None);
        check("speaker", Int64, None, Some((0, 2)));
    }

    #[test]
    fn what_is_no_tensor_has_none() {
        for element_type in [ElementType::String, ElementType::Undefined, ElementType::Complex64] {
            let info = TensorInfo { name: "x".into(), element_type, shape: Vec::new(), rank_known: true };
            assert_eq!(seeded(&info, None), None);
        }
    }

    #[test]
    fn names_are_split() {
        assert_eq!(words("inputIds_2.x"), ["input", "ids", "2", "x"]);
        assert_eq!(words("TEXT"), ["text"]);
        assert_eq!(words("::"), [""; 0]);
    }
}
