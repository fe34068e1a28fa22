//! What a dynamic dimension counts, as far as its name and place say, and a range that models of that kind take.

use crate::onnx::{Dimension, ElementType, TensorInfo};
use crate::samples::words;

/// min, opt and max of one dimension.
pub type Range = [i64; 3];

/// What a dimension counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DimensionKind {
    /// Rows that are run at once.
    Batch,
    /// Tokens of a string.
    Sequence,
    /// Tokens that a cache holds from earlier runs.
    Past,
    /// Rows of an image's pixels.
    Height,
    /// Columns of an image's pixels.
    Width,
    /// Steps of time: frames of a video or a spectrogram.
    Frames,
    /// Samples of audio.
    AudioSamples,
    /// Colours.
    Channels,
    /// Something else.
    Other,
}

impl DimensionKind {
    /// Returns what the dimension with this index counts.
    pub fn of(info: &TensorInfo, index: usize) -> Self {
        match &info.shape[index] {
            Dimension::Symbolic(symbol) => {
                Self::of_symbol(symbol).unwrap_or_else(|| Self::of_place(info, index))
            }
            Dimension::Fixed(_) | Dimension::Unknown => Self::of_place(info, index),
        }
    }

    /// Returns what a dimension of this name counts; `None` if the name doesn't say.
    pub fn of_symbol(symbol: &str) -> Option<Self> {
        let words = words(symbol);
        let has = |wanted: &[&str]| words.iter().any(|word| wanted.contains(&word.as_str()));
        let found = if has(&["batch", "batchsize", "bs", "n", "b"]) {
            Self::Batch
        } else if has(&["past", "cache", "history"]) {
            Self::Past
        } else if has(&["height", "h", "rows"]) {
            Self::Height
        } else if has(&["width", "w", "cols", "columns"]) {
            Self::Width
        } else if has(&["frame", "frames", "time", "timesteps"]) {
            Self::Frames
        } else if has(&["audio", "samples", "wav", "waveform"]) {
            Self::AudioSamples
        } else if has(&["channel", "channels", "c"]) {
            Self::Channels
        } else if has(&["seq", "sequence", "seqlen", "length", "len", "token", "tokens", "text", "context"]) {
            Self::Sequence
        } else {
            return None;
        };
        Some(found)
    }

    /// Returns what a dimension without a telling name counts, by the input's name, type and rank.
    fn of_place(info: &TensorInfo, index: usize) -> Self {
        let words = words(&info.name);
        let has = |wanted: &[&str]| words.iter().any(|word| wanted.contains(&word.as_str()));
        let rank = info.shape.len();
        // A recurrent network's state: [layers, rows, width].
        if rank == 3 && has(&["state", "states", "hidden", "cell", "h", "c", "h0", "c0", "hn", "cn"]) {
            return if index == 1 { Self::Batch } else { Self::Other };
        }
        if index == 0 {
            return Self::Batch;
        }
        let is_float = matches!(
            info.element_type,
            ElementType::Float | ElementType::Float16 | ElementType::Bfloat16 | ElementType::Double
        );
        match (rank, index) {
            (2, 1) if !is_float => Self::Sequence,
            (2, 1) if has(&["audio", "wav", "waveform", "speech", "pcm", "signal"]) => Self::AudioSamples,
            (2, 1) if has(&["mask"]) => Self::Sequence,
            (3, _) => Self::Frames,
            (4, 1) if has_channels_last(info) => Self::Height,
            (4, 2) if has_channels_last(info) => Self::Width,
            (4, 1) => Self::Channels,
            (4, 2) | (5, 3) => Self::Height,
            (4, 3) | (5, 4) => Self::Width,
            (5, 2) => Self::Frames,
            _ => Self::Other,
        }
    }

    /// Returns a range; `is_costly` is whether one row alone is large.
    pub fn range(self, is_costly: bool) -> Range {
        match self {
            Self::Batch if is_costly => [1, 2, 4],
            Self::Batch => [1, 8, 32],
            Self::Sequence => [1, 32, 128],
            Self::Past => [1, 16, 64],
            // Multiples of 32: most networks halve an image five times.
            Self::Height | Self::Width => [160, 320, 640],
            Self::Frames => [16, 100, 400],
            Self::AudioSamples => [4_000, 16_000, 48_000],
            Self::Channels => [3, 3, 3],
            Self::Other => [1, 16, 64],
        }
    }

    /// Returns what a person decides, in words.
    pub fn question(self) -> &'static str {
        match self {
            Self::Batch => "rows at once: how many requests do you batch?",
            Self::Sequence => "tokens: how long are your texts?",
            Self::Past => "tokens in the cache: how long are your conversations?",
            Self::Height => "image height in pixels",
            Self::Width => "image width in pixels",
            Self::Frames => "steps of time: how long are your recordings?",
            Self::AudioSamples => "audio samples: how long are your recordings?",
            Self::Channels => "colour channels: does the model take greyscale images?",
            Self::Other => "the model does not say what this counts",
        }
    }
}

fn has_channels_last(info: &TensorInfo) -> bool {
    let is_colours = |dimension: &Dimension| matches!(dimension, Dimension::Fixed(1 | 3 | 4));
    is_colours(&info.shape[3]) && !is_colours(&info.shape[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, element_type: ElementType, shape: &[&str], expected: &[DimensionKind]) {
        let dimension = |text: &&str| match text.parse() {
            Ok(length) => Dimension::Fixed(length),
            Err(_) if *text == "?" => Dimension::Unknown,
            Err(_) => Dimension::Symbolic((*text).into()),
        };
        let info = TensorInfo {
            name: name.into(),
            element_type,
            shape: shape.iter().map(dimension).collect(),
            rank_known: true,
        };
        let dynamic = (0..shape.len()).filter(|&index| !matches!(info.shape[index], Dimension::Fixed(_)));
        let found: Vec<DimensionKind> = dynamic.map(|index| DimensionKind::of(&info, index)).collect();
        assert_eq!(found, expected, "{name} {shape:?}");
    }

    #[test]
    fn names_and_places_tell_what_is_counted() {
        use DimensionKind::*;
        use ElementType::{Float, Int64};
        check("input_ids", Int64, &["batch_size", "sequence_length"], &[Batch, Sequence]);
        check("input_ids", Int64, &["?", "?"], &[Batch, Sequence]);
        check(
            "x",
            Float,
            &["p2o.DynamicDimension.0", "3", "?", "p2o.DynamicDimension.1"],
            &[Batch, Height, Width],
        );
        check("images", Float, &["batch", "3", "height", "width"], &[Batch, Height, Width]);
        check("image", Float, &["N", "H", "W", "3"], &[Batch, Height, Width]);
        check("image", Float, &["?", "?", "?", "3"], &[Batch, Height, Width]);
        check("input1", Float, &["1", "1", "64", "image_width"], &[Width]);
        check("pixel_values", Float, &["?", "?", "?", "?"], &[Batch, Channels, Height, Width]);
        check("state", Float, &["2", "?", "128"], &[Batch]);
        check("mel", Float, &["batch", "80", "time"], &[Batch, Frames]);
        check("audio", Float, &["?", "?"], &[Batch, AudioSamples]);
        check("video", Float, &["?", "3", "?", "?", "?"], &[Batch, Frames, Height, Width]);
        check("x", Float, &["unk__214", "?"], &[Batch, Other]);
        check("past_key", Float, &["batch", "12", "past_sequence_length", "64"], &[Batch, Past]);
    }

    #[test]
    fn every_range_is_in_order() {
        use DimensionKind::*;
        for kind in [Batch, Sequence, Past, Height, Width, Frames, AudioSamples, Channels, Other] {
            for is_costly in [false, true] {
                let [min, opt, max] = kind.range(is_costly);
                assert!(1 <= min && min <= opt && opt <= max, "{kind:?}");
            }
        }
    }
}
