//! How many images of a labelled set are nearest to their own class.

use super::gates::length;
use super::{Floats, GateResult};

/// The embeddings of a labelled set by two towers.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelledSet<'a> {
    /// One row for each image.
    pub images: &'a Floats,
    /// One row for each prompt: those of the first class, then those of the next.
    pub texts: &'a Floats,
    /// Number of prompts of each class.
    pub prompts: usize,
    /// The class of each image.
    pub labels: &'a [usize],
}

impl LabelledSet<'_> {
    /// Returns the nearest class of each image; `None` if its row is not finite.
    fn nearest(&self) -> Vec<Option<usize>> {
        let Self { images, texts, prompts, labels: _ } = self;
        let rows: Vec<&[f32]> = texts.rows().collect();
        let classes: Vec<Vec<f64>> = rows.chunks((*prompts).max(1)).map(mean_direction).collect();
        let nearest = |image: &[f32]| {
            let likeness =
                |class: &Vec<f64>| -> f64 { image.iter().zip(class).map(|(a, b)| f64::from(*a) * b).sum() };
            let all: Vec<f64> = classes.iter().map(likeness).collect();
            if all.iter().any(|likeness| !likeness.is_finite()) {
                return None;
            }
            (0..all.len()).max_by(|a, b| all[*a].total_cmp(&all[*b]).then(b.cmp(a)))
        };
        images.rows().map(nearest).collect()
    }

    /// Returns the fraction of images whose nearest class is their own, and the first image for which it isn't.
    pub fn accuracy(&self) -> (f64, Option<usize>) {
        let right: Vec<bool> = self
            .nearest()
            .into_iter()
            .zip(self.labels)
            .map(|(nearest, label)| nearest == Some(*label))
            .collect();
        let count = right.iter().filter(|right| **right).count();
        (count as f64 / right.len().max(1) as f64, right.iter().position(|right| !right))
    }
}

/// Returns the normalized mean of the normalized rows.
fn mean_direction(rows: &[&[f32]]) -> Vec<f64> {
    let unit = |values: &[f64]| -> Vec<f64> {
        let length = values.iter().map(|value| value * value).sum::<f64>().sqrt();
        values.iter().map(|value| if length == 0.0 { 0.0 } else { value / length }).collect()
    };
    let mut sum = vec![0.0; rows.first().map_or(0, |row| row.len())];
    for row in rows {
        let length = length(row);
        for (sum, value) in sum.iter_mut().zip(*row) {
            *sum += if length == 0.0 { 0.0 } else { f64::from(*value) / length };
        }
    }
    unit(&sum)
}

/// Compares a profile's accuracy with the reference's, less the allowed loss.
pub fn zero_shot_gate(
    subject: &str,
    reference: &LabelledSet<'_>,
    found: &LabelledSet<'_>,
    most_loss: f64,
) -> GateResult {
    let (wanted, _) = reference.accuracy();
    let (value, _) = found.accuracy();
    let threshold = (wanted - most_loss).max(0.0);
    // The worst row is an image that only the reference gets right.
    let pairs = reference.nearest().into_iter().zip(found.nearest()).zip(reference.labels);
    let lost = |((reference, found), label): ((Option<usize>, Option<usize>), &usize)| {
        reference == Some(*label) && found != Some(*label)
    };
    GateResult {
        gate: "zero_shot".into(),
        subject: subject.into(),
        shapes: "labelled".into(),
        value: Some(value),
        threshold,
        passed: value >= threshold,
        worst_row: pairs.map(lost).position(|lost| lost),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(rows: &[[f32; 2]]) -> Floats {
        Floats { values: rows.concat(), shape: vec![rows.len(), 2] }
    }

    /// Two classes of two prompts each, along the axes.
    #[test]
    fn images_are_given_the_class_whose_prompts_are_nearest() {
        let texts = floats(&[[1.0, 0.1], [2.0, -0.2], [0.1, 3.0], [-0.1, 1.0]]);
        let images = floats(&[[1.0, 0.2], [0.2, 1.0], [5.0, 4.0], [0.0, 0.1]]);
        let set = LabelledSet { images: &images, texts: &texts, prompts: 2, labels: &[0, 1, 1, 1] };
        assert_eq!(set.accuracy(), (0.75, Some(2)));
        let other = floats(&[[0.2, 1.0], [0.2, 1.0], [4.0, 5.0], [0.0, 0.1]]);
        let found = LabelledSet { images: &other, ..set.clone() };
        // As many are right, but not the same ones.
        let gate = zero_shot_gate("vision × text", &set, &found, 0.01);
        assert_eq!(
            (gate.value, gate.threshold, gate.passed, gate.worst_row),
            (Some(0.75), 0.74, true, Some(0))
        );
        let nothing = floats(&[[f32::NAN, 0.0]; 4]);
        let gate =
            zero_shot_gate("vision × text", &set, &LabelledSet { images: &nothing, ..set.clone() }, 0.01);
        assert_eq!((gate.value, gate.passed), (Some(0.0), false));
    }
}
