//! What decides the values of a graph's inputs: for keys.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{SEED, SamplesError, Shapes, Subject, files, pairs, shape};
use crate::canonical::ExactFloat;
use crate::digest::Sha256;
use crate::samples::{Images, Integers, Normal, Npz, Part, Sample, Texts};

/// What decides the values of one input in the opt shapes. Equal identities, equal values.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SampleIdentity {
    values: Values,
    /// The digests of the files that the values come from, in order.
    files: Vec<Sha256>,
    /// Absent for a file that has its own shape.
    shape: Option<Vec<usize>>,
}

/// Where the values come from, less the paths of files. Integers are strings, since canonical JSON has 53 bits for them.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Values {
    Npy,
    Npz { array: Option<String> },
    Images,
    Texts { part: &'static str, pad: String },
    Normal { mean: ExactFloat, standard_deviation: ExactFloat, seed: u64 },
    Integers { low: String, high: String, seed: u64 },
}

/// Identifies the sample of every input.
///
/// # Errors
/// A file that can't be read; a sample that doesn't fit its input.
pub fn identify(subject: &Subject<'_>) -> Result<BTreeMap<String, SampleIdentity>, SamplesError> {
    pairs(subject)?
        .into_iter()
        .map(|(info, sample)| {
            let shape = match sample.has_its_own_shape() {
                true => None,
                false => Some(shape(subject, Shapes::Opt, &info)?),
            };
            let files = files::digests(sample, subject.sample_folder)?;
            Ok((info.name, SampleIdentity { values: values(sample), files, shape }))
        })
        .collect()
}

fn values(sample: &Sample) -> Values {
    match sample {
        Sample::Npy(_) => Values::Npy,
        Sample::Npz(Npz { file: _, array }) => Values::Npz { array: array.clone() },
        Sample::Images(Images { folder: _ }) => Values::Images,
        Sample::Texts(Texts { file: _, tokenizer: _, part, pad }) => {
            let part = match part {
                Part::Ids => "ids",
                Part::AttentionMask => "attention_mask",
                Part::TypeIds => "type_ids",
            };
            Values::Texts { part, pad: pad.to_string() }
        }
        Sample::Normal(Normal { mean, standard_deviation }) => Values::Normal {
            mean: ExactFloat(*mean),
            standard_deviation: ExactFloat(*standard_deviation),
            seed: SEED,
        },
        Sample::Integers(Integers { low, high }) => {
            Values::Integers { low: low.to_string(), high: high.to_string(), seed: SEED }
        }
    }
}
