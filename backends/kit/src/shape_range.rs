//! Shape ranges: the min, opt and max shape of an input (TensorRT's "optimization profile").

use serde::{Deserialize, Serialize};

/// The largest integer that every JSON reader keeps exactly: 2^53 - 1.
const MAX_DIMENSION: i64 = (1 << 53) - 1;

/// Min, opt and max shape of one input, all of one rank. Dimensions are counts of elements.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ShapeRange {
    /// The smallest shape accepted.
    pub min: Vec<i64>,
    /// The shape to optimize for.
    pub opt: Vec<i64>,
    /// The largest shape accepted.
    pub max: Vec<i64>,
}

/// Why a shape range is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidShapeRange {
    /// The three shapes differ in rank.
    #[error("min, opt and max must have the same number of dimensions, but have {min}, {opt} and {max}")]
    Ranks {
        /// Rank of `min`.
        min: usize,
        /// Rank of `opt`.
        opt: usize,
        /// Rank of `max`.
        max: usize,
    },
    /// A dimension that not every JSON reader keeps exactly.
    #[error("dimension {index} is {max}: at most {MAX_DIMENSION} is allowed")]
    TooLarge {
        /// Which dimension, counted from 0.
        index: usize,
        /// Its maximum.
        max: i64,
    },
    /// A dimension is not ordered, or not positive.
    #[error("dimension {index} must satisfy 1 <= min <= opt <= max, but has min {min}, opt {opt}, max {max}")]
    Order {
        /// Which dimension, counted from 0.
        index: usize,
        /// Its minimum.
        min: i64,
        /// Its opt value.
        opt: i64,
        /// Its maximum.
        max: i64,
    },
}

impl ShapeRange {
    /// Checks the ranks and the order of every dimension.
    ///
    /// # Errors
    /// The first dimension that breaks `1 <= min <= opt <= max` or is beyond 53 bits, or ranks that differ.
    pub fn check(&self) -> Result<(), InvalidShapeRange> {
        let Self { min, opt, max } = self;
        if min.len() != opt.len() || opt.len() != max.len() {
            return Err(InvalidShapeRange::Ranks { min: min.len(), opt: opt.len(), max: max.len() });
        }
        for (index, ((&min, &opt), &max)) in min.iter().zip(opt).zip(max).enumerate() {
            if !(1 <= min && min <= opt && opt <= max) {
                return Err(InvalidShapeRange::Order { index, min, opt, max });
            }
            if max > MAX_DIMENSION {
                return Err(InvalidShapeRange::TooLarge { index, max });
            }
        }
        Ok(())
    }
}
