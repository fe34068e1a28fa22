//! Tokens of activations, in files: what a sample's run left of each.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use super::dense::{LANES, Lanes};
use crate::onnx::quantize::Statistics;

/// Where the tokens of one sample are: in a file, those of one activation after the other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SampleTokens {
    path: PathBuf,
    /// By activation: where its first token begins, counted in numbers; how many tokens it has, and how many channels.
    places: BTreeMap<String, Place>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Place {
    first: u64,
    tokens: usize,
    channels: usize,
}

impl SampleTokens {
    /// Writes what a run left of each activation: its name, its number of channels, and how many tokens are in `values`.
    ///
    /// # Errors
    /// I/O errors; `InvalidData` if `values` has another length.
    pub fn write(path: &Path, activations: &[(String, usize, usize)], values: &[f32]) -> io::Result<Self> {
        let (mut places, mut first) = (BTreeMap::new(), 0);
        for &(ref name, channels, tokens) in activations {
            places.insert(name.clone(), Place { first, tokens, channels });
            first += (tokens * channels) as u64;
        }
        if first != values.len() as u64 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the tokens of a run have another length",
            ));
        }
        let mut file = io::BufWriter::new(fs_err::File::create(path)?);
        values.iter().try_for_each(|value| file.write_all(&value.to_le_bytes()))?;
        file.flush()?;
        Ok(Self { path: path.into(), places })
    }

    fn read(&self, place: Place) -> io::Result<Vec<f32>> {
        let mut file = fs_err::File::open(&self.path)?;
        file.seek(SeekFrom::Start(place.first * size_of::<f32>() as u64))?;
        let mut bytes = vec![0; place.tokens * place.channels * size_of::<f32>()];
        file.read_exact(&mut bytes)?;
        Ok(bytes.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)).collect())
    }
}

/// Copies a rounded weight, as it is stored.
pub(in crate::onnx::quantize) fn copy_rounded(path: &Path, out: &mut dyn io::Write) -> io::Result<()> {
    io::copy(&mut fs_err::File::open(path)?, out).map(|_| ())
}

impl Statistics {
    /// Returns the folder of the samples' tokens.
    pub(in crate::onnx::quantize) fn tokens_folder(&self) -> Option<&Path> {
        self.tokens.first().and_then(|sample| sample.path.parent())
    }

    /// Returns a name for the samples that left tokens.
    pub(super) fn tokens_name(&self) -> String {
        let names = self.tokens.iter().filter_map(|sample| sample.path.file_name());
        names.map(|name| name.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    /// Returns how many tokens of an activation there are.
    pub(in crate::onnx::quantize) fn tokens_of(&self, value: &str) -> usize {
        self.tokens.iter().filter_map(|sample| sample.places.get(value)).map(|place| place.tokens).sum()
    }

    /// Reads the tokens of an activation, their channels in the order of `order` and multiplied with `factors`: all tokens' first
    /// eight channels, then their next eight, and so on.
    pub(super) fn read_tokens(
        &self,
        value: &str,
        order: &[usize],
        factors: &[f32],
    ) -> io::Result<Vec<Lanes>> {
        let count = self.tokens_of(value);
        let mut packed = vec![[0f32; LANES]; order.len() / LANES * count];
        let mut at = 0;
        for sample in &self.tokens {
            let Some(&place) = sample.places.get(value) else { continue };
            let values = sample.read(place)?;
            for token in values.chunks_exact(place.channels) {
                for (panel, places) in order.as_chunks::<LANES>().0.iter().enumerate() {
                    packed[panel * count + at] = places.map(|place| token[place] * factors[place]);
                }
                at += 1;
            }
        }
        Ok(packed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_in_the_order_that_was_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (16, 8);
        let sample = |number: usize, tokens: usize| {
            let activations = [("a".to_owned(), a, tokens), ("b".to_owned(), b, 1)];
            let values: Vec<f32> = (0..tokens * a + b).map(|index| (1000 * number + index) as f32).collect();
            SampleTokens::write(&folder.path().join(number.to_string()), &activations, &values).unwrap()
        };
        let statistics = Statistics { tokens: vec![sample(0, 2), sample(1, 1)], ..Statistics::default() };
        assert_eq!(statistics.tokens_of("a"), 3);
        assert_eq!(statistics.tokens_of("c"), 0);
        let (order, mut factors): (Vec<usize>, _) = ((0..a).rev().collect(), vec![1.0; a]);
        factors[15] = 2.0;
        let packed = statistics.read_tokens("a", &order, &factors).unwrap();
        // The last channel of each token, and the second to last.
        assert_eq!(
            packed.iter().map(|lanes| lanes[0]).collect::<Vec<_>>(),
            [30.0, 62.0, 2030.0, 7.0, 23.0, 1007.0]
        );
        assert_eq!(packed[0][1], 14.0);
        let packed = statistics.read_tokens("b", &[7, 6, 5, 4, 3, 2, 1, 0], &[1.0; 8]).unwrap();
        assert_eq!(
            packed,
            [
                [39.0, 38.0, 37.0, 36.0, 35.0, 34.0, 33.0, 32.0],
                std::array::from_fn(|lane| 1023.0 - lane as f32)
            ]
        );
        let error = SampleTokens::write(&folder.path().join("c"), &[("a".into(), a, 2)], &[0.0]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
