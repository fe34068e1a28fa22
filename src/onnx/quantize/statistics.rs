//! What is known of the activations that are multiplied with weights, from runs on samples.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::gptq::tokens::SampleTokens;

/// The channels of one activation: its last dimension; of a convolution's, its second.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Channels {
    /// The largest magnitude of each channel.
    pub largest: Vec<f32>,
    /// The sum of each channel's squares; of a convolution's activation, the sum over samples of their mean.
    pub squares: Vec<f64>,
}

impl Channels {
    /// Takes in what another sample gave.
    pub fn add(&mut self, largest: &[f32], squares: &[f32]) {
        self.merge(largest, squares.iter().copied().map(f64::from));
    }

    fn merge(&mut self, largest: &[f32], squares: impl Iterator<Item = f64>) {
        self.largest.resize(largest.len(), 0.0);
        self.squares.resize(largest.len(), 0.0);
        for (all, one) in self.largest.iter_mut().zip(largest) {
            *all = all.max(*one);
        }
        for (all, one) in self.squares.iter_mut().zip(squares) {
            *all += one;
        }
    }

    /// Returns the largest magnitude over the root mean square of all values, but for a factor that depends on the number of
    /// positions alone: the more, the more a shared scale loses.
    pub fn peak_over_mean(&self) -> f64 {
        let sum: f64 = self.squares.iter().sum();
        let mean = (sum / self.squares.len().max(1) as f64).sqrt();
        if mean > 0.0 { f64::from(self.maximum()) / mean } else { 0.0 }
    }

    /// Returns the largest magnitude of any channel.
    pub(super) fn maximum(&self) -> f32 {
        self.largest.iter().copied().fold(0.0, f32::max)
    }
}

/// The activations of a graph, by the values' names.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Statistics {
    /// By value.
    pub values: BTreeMap<String, Channels>,
    /// Tokens, for methods that round weights by them; files in the folder of whoever measured them, and gone with it.
    #[serde(skip)]
    pub tokens: Vec<SampleTokens>,
}

impl Statistics {
    /// Puts those of several samples together, in their order.
    pub fn of_all<'s>(samples: impl IntoIterator<Item = &'s Self>) -> Self {
        let mut all = Self::default();
        samples.into_iter().for_each(|sample| all.add(sample));
        all
    }

    /// Takes in those of other samples.
    pub fn add(&mut self, other: &Self) {
        for (value, Channels { largest, squares }) in &other.values {
            self.values.entry(value.clone()).or_default().merge(largest, squares.iter().copied());
        }
        self.tokens.extend(other.tokens.iter().cloned());
    }
}
