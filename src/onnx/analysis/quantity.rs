//! What kind of number a value holds, as far as that decides in which precision it stays right.

/// What is known of a value's numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::onnx) enum Quantity {
    /// Nothing has reached it yet.
    Unreached,
    /// Whole multiples of a unit: counts, lengths, ids, positions, masks.
    Whole(Whole),
    /// Made of such numbers alone, and of constants, where all of them are small: a pixel's brightness.
    Small,
    /// Made of such numbers alone, and of constants, where they may be large: a length in seconds, an angle.
    Scaled,
    /// Real numbers that come from outside.
    Free,
    /// Real numbers behind a product with weights, which are rounded anyway.
    Learned,
}

/// Counts up to this are small in every precision.
const SMALL_STEPS: f64 = 256.0;

/// Whole multiples of a unit, in both directions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::onnx) struct Whole {
    /// What a step is worth; positive.
    pub(in crate::onnx) unit: f64,
    /// The largest number of steps; infinite where no bound is known.
    pub(in crate::onnx) steps: f64,
}

impl Whole {
    /// Whole numbers up to a magnitude.
    pub(in crate::onnx) fn up_to(magnitude: f64) -> Self {
        Self { unit: 1.0, steps: magnitude }
    }

    /// Whole numbers of any magnitude.
    pub(in crate::onnx) const ANY: Self = Self { unit: 1.0, steps: f64::INFINITY };
    /// 0 and 1.
    pub(in crate::onnx) const TRUTH: Self = Self { unit: 1.0, steps: 1.0 };

    /// Returns the largest magnitude.
    pub(in crate::onnx) fn magnitude(self) -> f64 {
        if self.steps == 0.0 { 0.0 } else { self.unit * self.steps }
    }

    /// Returns these numbers limited to a magnitude.
    pub(in crate::onnx) fn limited(self, magnitude: f64) -> Self {
        Self { steps: self.steps.min((magnitude / self.unit).floor()), ..self }
    }

    /// Returns both as multiples of one unit; `None` if they have none in common.
    fn aligned(self, other: Self) -> Option<(Self, Self)> {
        if self.steps == 0.0 {
            return Some((Self { unit: other.unit, steps: 0.0 }, other));
        }
        if other.steps == 0.0 {
            return Some((self, Self { unit: self.unit, steps: 0.0 }));
        }
        let unit = common_unit(self.unit, other.unit)?;
        let within = |number: Self| Self { unit, steps: number.steps * (number.unit / unit) };
        Some((within(self), within(other)))
    }

    fn joined(self, other: Self) -> Option<Self> {
        let (a, b) = self.aligned(other)?;
        Some(Self { steps: a.steps.max(b.steps), ..a })
    }

    fn plus(self, other: Self) -> Option<Self> {
        let (a, b) = self.aligned(other)?;
        Some(Self { steps: a.steps + b.steps, ..a })
    }

    fn times(self, other: Self) -> Option<Self> {
        if self.steps == 0.0 || other.steps == 0.0 {
            return Some(Self { unit: 1.0, steps: 0.0 });
        }
        let unit = self.unit * other.unit;
        unit.is_normal().then_some(Self { unit, steps: self.steps * other.steps })
    }
}

/// Returns the largest number that both are whole multiples of; `None` if it is too small to be meant.
fn common_unit(a: f64, b: f64) -> Option<f64> {
    /// Units further apart than this are no units of one count.
    const MAX_RATIO: f64 = (1u64 << 32) as f64;
    let (mut large, mut small) = (a.max(b), a.min(b));
    let least = large / MAX_RATIO;
    while small > least {
        let rest = large % small;
        if rest == 0.0 {
            return Some(small);
        }
        (large, small) = (small, rest);
    }
    None
}

impl Quantity {
    /// Returns what is known of a value that holds numbers of either.
    pub(in crate::onnx) fn join(self, other: Self) -> Self {
        match (self, other) {
            (Self::Unreached, known) | (known, Self::Unreached) => known,
            (Self::Learned, _) | (_, Self::Learned) => Self::Learned,
            (Self::Free, _) | (_, Self::Free) => Self::Free,
            (Self::Scaled, _) | (_, Self::Scaled) => Self::Scaled,
            (Self::Small, Self::Whole(whole)) | (Self::Whole(whole), Self::Small) => {
                if whole.steps > SMALL_STEPS { Self::Scaled } else { Self::Small }
            }
            (Self::Small, Self::Small) => Self::Small,
            (Self::Whole(a), Self::Whole(b)) => a.joined(b).map_or(Self::Scaled, Self::Whole),
        }
    }

    /// Returns the sum or difference of such numbers.
    pub(in crate::onnx) fn plus(self, other: Self) -> Option<Self> {
        Self::both(self, other, Whole::plus)
    }

    /// Returns the product of such numbers.
    pub(in crate::onnx) fn times(self, other: Self) -> Option<Self> {
        Self::both(self, other, Whole::times)
    }

    fn both(self, other: Self, combine: impl Fn(Whole, Whole) -> Option<Whole>) -> Option<Self> {
        match (self, other) {
            (Self::Whole(a), Self::Whole(b)) => combine(a, b).map(Self::Whole),
            (Self::Unreached, _) | (_, Self::Unreached) => Some(Self::Unreached),
            _ => None,
        }
    }

    /// Returns the whole numbers that these are.
    pub(in crate::onnx) fn whole(self) -> Option<Whole> {
        match self {
            Self::Whole(whole) => Some(whole),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(unit: f64, steps: f64) -> Quantity {
        Quantity::Whole(Whole { unit, steps })
    }

    #[test]
    fn units_and_steps() {
        let (truth, ids) = (whole(1.0, 1.0), whole(1.0, 49407.0));
        assert_eq!(truth.plus(whole(1.0, 1.0)), Some(whole(1.0, 2.0)));
        assert_eq!(truth.times(whole(10000.0, 1.0)), Some(whole(10000.0, 1.0)));
        assert_eq!(ids.plus(whole(0.5, 1.0)), Some(whole(0.5, 98815.0)));
        assert_eq!(whole(49406.0, 1.0).join(whole(49407.0, 1.0)), whole(1.0, 49407.0));
        assert_eq!(whole(1.0, 0.0).join(whole(1e9, 1.0)), whole(1e9, 1.0));
        assert_eq!(whole(1e9, 1.0).join(whole(1.5, f64::INFINITY)), whole(0.5, f64::INFINITY));
        assert_eq!(truth.times(whole(1.0, 0.0)), Some(whole(1.0, 0.0)));
        assert_eq!(whole(3.4e38, 1.0).join(whole(0.1, 1.0)), Quantity::Scaled);
        assert_eq!(Whole::ANY.limited(127.5), Whole::up_to(127.0));
        assert_eq!(ids.join(Quantity::Free), Quantity::Free);
        assert_eq!(Quantity::Free.join(Quantity::Learned), Quantity::Learned);
        assert_eq!(ids.plus(Quantity::Free), None);
        assert_eq!(ids.times(Quantity::Unreached), Some(Quantity::Unreached));
    }
}
