//! Where the values of a graph's inputs come from: what a recipe may say, and what turns images and texts into numbers.
//!
//! Here is what needs no disk: the words of the recipe, [`image`], [`text`], and the values of inputs that the recipe leaves
//! out ([`seeded()`]). [`crate::ops::samples`] reads the files.

pub mod image;
mod seeded;
pub mod text;

use std::fmt;
use std::path::PathBuf;

pub use seeded::{Meaning, seeded, words};

use schemars::JsonSchema;
use serde::Deserialize;

/// Where the values of an input come from. Paths are relative to the recipe's folder.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Sample {
    /// A NumPy file with the whole input.
    Npy(PathBuf),
    /// One array of a NumPy archive: the whole input.
    Npz(Npz),
    /// A folder of images, prepared as NV-CLIP does.
    Images(Images),
    /// Lines of a text file, as a tokenizer numbers them.
    Texts(Texts),
    /// Seeded values of a normal distribution, in the input's shape.
    Normal(Normal),
    /// Seeded whole numbers, evenly distributed, in the input's shape.
    Integers(Integers),
}

impl Sample {
    /// Returns whether the values are made up. Those that calibrate are others than those that are judged.
    pub fn is_seeded(&self) -> bool {
        matches!(self, Self::Normal(_) | Self::Integers(_))
    }

    /// Returns whether the shape is that of a file, whatever shape is requested.
    pub fn has_its_own_shape(&self) -> bool {
        matches!(self, Self::Npy(_) | Self::Npz(_))
    }
}

impl fmt::Display for Sample {
    /// Writes it as a recipe does, for the forms that are proposed; the others by their name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Npy(_) => f.write_str("npy"),
            Self::Npz(_) => f.write_str("npz"),
            Self::Images(_) => f.write_str("images"),
            Self::Texts(_) => f.write_str("texts"),
            Self::Normal(Normal { mean: 0.0, standard_deviation: 1.0 }) => f.write_str("{ normal: {} }"),
            Self::Normal(Normal { mean, standard_deviation }) => {
                write!(f, "{{ normal: {{ mean: {mean}, standard_deviation: {standard_deviation} }} }}")
            }
            Self::Integers(Integers { low, high }) => {
                write!(f, "{{ integers: {{ low: {low}, high: {high} }} }}")
            }
        }
    }
}

/// One array of an archive.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Npz {
    /// The `.npz` file.
    pub file: PathBuf,
    /// The array's name; that of the input if absent.
    pub array: Option<String>,
}

/// Images: each is a row, in the order of their names, from the first again when there are too few.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Images {
    /// The folder with `.jpg`, `.jpeg` and `.png` files.
    pub folder: PathBuf,
}

/// Texts: each line is a row, from the first again when there are too few.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Texts {
    /// The file, UTF-8, one text a line.
    pub file: PathBuf,
    /// The tokenizer: a `tokenizer.json` as Hugging Face's `tokenizers` reads and writes it.
    pub tokenizer: PathBuf,
    /// Which of the tokenizer's numbers the input takes.
    #[serde(default)]
    pub part: Part,
    /// What fills a row after the text's end.
    #[serde(default)]
    pub pad: i64,
}

/// What a tokenizer says of each token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Its number.
    #[default]
    Ids,
    /// 1; the padding has 0, whatever `pad` says.
    AttentionMask,
    /// The number of its text: 0, where there is one text only.
    TypeIds,
}

/// A normal distribution.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Normal {
    /// Its mean.
    #[serde(default)]
    pub mean: f64,
    /// Its standard deviation.
    #[serde(default = "Normal::default_deviation")]
    pub standard_deviation: f64,
}

impl Normal {
    fn default_deviation() -> f64 {
        1.0
    }
}

/// Uniformly distributed integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Integers {
    /// The smallest.
    pub low: i64,
    /// The first number that is too large.
    pub high: i64,
}
