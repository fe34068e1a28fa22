//! What is known of a constant's numbers, as far as exactness depends on it.

use super::quantity::Whole;
use crate::onnx::ElementType;

/// What all elements of a constant have in common.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::onnx) struct ConstantFacts {
    /// Its elements as multiples of a unit; `None` if they are not all whole numbers of one.
    pub(in crate::onnx) whole: Option<Whole>,
    /// Whether no element is negative, and one is positive.
    pub(in crate::onnx) is_non_negative: bool,
    /// How many elements it has.
    pub(in crate::onnx) elements: usize,
}

impl ConstantFacts {
    /// Returns what is known of little-endian elements; `None` for types whose numbers are not looked at.
    ///
    /// Reads as far as something can still be true of all elements: of a learned weight, the first few.
    pub(in crate::onnx) fn of(element_type: ElementType, bytes: &[u8]) -> Option<Self> {
        use ElementType as E;
        match element_type {
            E::Float => Some(scan(bytes.as_chunks().0, |four| f64::from(f32::from_le_bytes(four)))),
            E::Double => Some(scan(bytes.as_chunks().0, f64::from_le_bytes)),
            E::Float16 => Some(scan(bytes.as_chunks().0, |two| f64::from(half::f16::from_le_bytes(two)))),
            E::Bfloat16 => Some(scan(bytes.as_chunks().0, |two| f64::from(half::bf16::from_le_bytes(two)))),
            E::Int64 => Some(scan(bytes.as_chunks().0, |eight| i64::from_le_bytes(eight) as f64)),
            E::Uint64 => Some(scan(bytes.as_chunks().0, |eight| u64::from_le_bytes(eight) as f64)),
            E::Int32 => Some(scan(bytes.as_chunks().0, |four| f64::from(i32::from_le_bytes(four)))),
            E::Uint32 => Some(scan(bytes.as_chunks().0, |four| f64::from(u32::from_le_bytes(four)))),
            E::Int16 => Some(scan(bytes.as_chunks().0, |two| f64::from(i16::from_le_bytes(two)))),
            E::Uint16 => Some(scan(bytes.as_chunks().0, |two| f64::from(u16::from_le_bytes(two)))),
            E::Int8 => Some(scan(bytes.as_chunks().0, |one| f64::from(i8::from_le_bytes(one)))),
            E::Uint8 | E::Bool => Some(scan(bytes.as_chunks().0, |one: [u8; 1]| f64::from(one[0]))),
            _ => None,
        }
    }
}

fn scan<const SIZE: usize>(elements: &[[u8; SIZE]], value: impl Fn([u8; SIZE]) -> f64) -> ConstantFacts {
    let (mut is_whole, mut has_one_magnitude, mut is_non_negative) = (true, true, true);
    let mut largest = 0f64;
    for element in elements {
        let value = value(*element);
        let magnitude = value.abs();
        is_whole &= value.fract() == 0.0;
        has_one_magnitude &= magnitude == 0.0 || largest == 0.0 || magnitude == largest;
        is_non_negative &= value >= 0.0;
        // Not a number is no number, and the larger of two.
        largest = if magnitude.is_nan() { magnitude } else { largest.max(magnitude) };
        if !(is_whole || has_one_magnitude || is_non_negative) {
            break;
        }
    }
    // Zeros and one other magnitude: steps of it, whatever it is.
    let whole = if !largest.is_finite() {
        None
    } else if has_one_magnitude {
        Some(Whole {
            unit: if largest == 0.0 { 1.0 } else { largest },
            steps: f64::from(u8::from(largest != 0.0)),
        })
    } else if is_whole {
        Some(Whole { unit: 1.0, steps: largest })
    } else {
        None
    };
    ConstantFacts { whole, is_non_negative: is_non_negative && largest > 0.0, elements: elements.len() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(values: &[f32], whole: Option<(f64, f64)>, is_non_negative: bool) {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let expected = ConstantFacts {
            whole: whole.map(|(unit, steps)| Whole { unit, steps }),
            is_non_negative,
            elements: values.len(),
        };
        assert_eq!(ConstantFacts::of(ElementType::Float, &bytes), Some(expected), "{values:?}");
    }

    #[test]
    fn what_elements_have_in_common() {
        check(&[0.0, 0.0], Some((1.0, 0.0)), false);
        check(&[3.0, -7.0, 0.0], Some((1.0, 7.0)), false);
        check(&[0.0, -1e9, -1e9], Some((1e9, 1.0)), false);
        check(&[0.25], Some((0.25, 1.0)), true);
        check(&[0.25, 0.5], None, true);
        check(&[0.25, -0.5, 1.0], None, false);
        check(&[0.0, f32::NEG_INFINITY], None, false);
        check(&[f32::NAN], None, false);
        check(&[], Some((1.0, 0.0)), false);
        assert_eq!(
            ConstantFacts::of(ElementType::Int64, &(-9i64).to_le_bytes()).unwrap().whole,
            Some(Whole { unit: 9.0, steps: 1.0 })
        );
        assert_eq!(ConstantFacts::of(ElementType::String, b"x"), None);
    }
}
