//! Products, or convolutions, that read one activation, and the scales that they share.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::OnceLock;

use super::candidates::{Candidates, Product, WhyKept};
use super::number_formats::scale_of;
use super::nvfp4::{self, BlockScales};
use super::options::{Method, QuantizationOptions, QuantizedPrecision};
use super::statistics::{Channels, Statistics};
use super::weights::{Matrix, Maxima};
use crate::onnx::proto::TensorProto;
use crate::onnx::{OnnxError, OnnxFile, parallel};

/// How far a smoothing factor may be from 1.
const FACTOR_RANGE: (f32, f32) = (1.0 / 1024.0, 1024.0);
/// How much smaller than the shared scale one of a column may be: what remains of it is a number of half precision.
const LEAST_RATIO: f32 = 1.0 / 4096.0;

/// Products that stay, by the places of their nodes.
type Kept = Vec<(usize, WhyKept)>;

/// Products that read one activation.
#[derive(Debug)]
pub(super) struct Group {
    /// The activation.
    pub(super) input: String,
    /// What the activation is multiplied with before it is quantized, by channel; all 1 without smoothing. They are numbers of
    /// the base.
    pub(super) inverse_factors: Vec<f32>,
    /// What the weights are multiplied with, along the summed side. Convolutions are not smoothed: all 1, and as many as the
    /// largest kernel needs.
    pub(super) factors: Vec<f32>,
    /// The scale of the activation, where it is quantized.
    pub(super) activation_scale: Option<f32>,
    /// The scale that the dequantized weights have, where activations are quantized.
    pub(super) shared_scale: f32,
    pub(super) products: Vec<Scaled>,
}

/// A product with the scales of its weight.
#[derive(Debug)]
pub(super) struct Scaled {
    pub(super) product: Product,
    /// Of each column; of each block in 4 bits.
    pub(super) scales: Vec<f32>,
    /// The scales over the shared one, where activations are quantized: the product is multiplied with them.
    pub(super) ratios: Vec<f32>,
    /// A file with the weight as it is stored, where it isn't rounded to the nearest.
    pub(super) rounded: Option<PathBuf>,
    /// The scales in NVFP4, in place of both.
    pub(super) blocks: Option<BlockScales>,
}

impl Group {
    /// Returns whether the activation is smoothed.
    pub(super) fn is_smoothed(&self) -> bool {
        self.inverse_factors.iter().any(|factor| *factor != 1.0)
    }
}

/// Everything that scales are made of.
pub(super) struct Ingredients<'a> {
    pub(super) file: &'a OnnxFile,
    pub(super) tensors: &'a BTreeMap<&'a str, &'a TensorProto>,
    pub(super) options: &'a QuantizationOptions,
    pub(super) method: Method,
    pub(super) statistics: &'a Statistics,
}

impl Ingredients<'_> {
    /// Makes groups of the products that are to be quantized, in the order of their activations in the graph. Products that can't
    /// be are added to `candidates.kept`.
    pub(super) fn groups(&self, candidates: &mut Candidates) -> Result<Vec<Group>, OnnxError> {
        let mut by_input: Vec<(String, Vec<Product>)> = Vec::new();
        for product in std::mem::take(&mut candidates.products) {
            match by_input.iter_mut().find(|(input, _)| *input == product.input) {
                Some((_, products)) => products.push(product),
                None => by_input.push((product.input.clone(), vec![product])),
            }
        }
        let work: Vec<_> = by_input.into_iter().map(|one| (one, OnceLock::new())).collect();
        let unsmoothed = std::mem::take(&mut candidates.unsmoothed);
        parallel::for_each(&work, |((input, products), made)| {
            let group = self
                .group(input, products, !unsmoothed.contains(input))
                .map_err(OnnxError::io("read", self.file.path()))?;
            let _ = made.set(group);
            Ok(())
        })?;
        let mut groups = Vec::new();
        for (_, made) in work {
            let Some((group, kept)) = made.into_inner() else { continue };
            candidates.kept.extend(kept);
            groups.extend(group.filter(|group| !group.products.is_empty()));
        }
        if self.method.gptq {
            for group in &mut groups {
                self.round_by_gptq(group).map_err(OnnxError::io("round the weights of", self.file.path()))?;
            }
        }
        Ok(groups)
    }

    fn group(
        &self,
        input: &str,
        products: &[Product],
        is_smoothable: bool,
    ) -> io::Result<(Option<Group>, Kept)> {
        let mut kept = Vec::new();
        let all = |why: WhyKept| products.iter().map(|product| (product.index, why)).collect();
        let precision = self.options.precision;
        let nothing = Channels::default();
        let channels = if self.method.needs_statistics(precision) {
            match self.statistics.values.get(input) {
                Some(channels) if channels.maximum() > 0.0 => channels,
                _ => return Ok((None, all(WhyKept::NoActivation))),
            }
        } else {
            &nothing
        };
        let count = products.first().map_or(0, Product::channels);
        if self.method.needs_statistics(precision) && channels.largest.len() != count {
            return Ok((None, all(WhyKept::Form)));
        }
        // Convolutions of one activation have kernels of different sizes.
        let is_convolution = products.iter().any(|product| product.convolution.is_some());
        let summed = products.iter().map(|product| product.summed).max().unwrap_or_default();
        let ones = vec![1.0; summed];
        let mut alone = Vec::new();
        for product in products {
            let maxima = self.matrix(product).maxima(&ones)?;
            match maxima.columns.iter().all(|most| most.is_finite()) {
                true => alone.push((product, maxima)),
                false => kept.push((product.index, WhyKept::NotFinite)),
            }
        }
        let inverse_factors = if is_convolution || !is_smoothable {
            ones
        } else {
            self.inverse_factors(channels, &alone, summed)
        };
        let factors: Vec<f32> = inverse_factors.iter().map(|inverse| 1.0 / inverse).collect();
        let activation_scale = precision.has_activations().then(|| {
            let smoothed = channels.largest.iter().zip(&inverse_factors).map(|(most, factor)| most * factor);
            let most = if is_convolution { channels.maximum() } else { smoothed.fold(0.0, f32::max) };
            let most = most * self.method.range_percent as f32 / 100.0;
            match precision {
                QuantizedPrecision::Nvfp4 => nvfp4::global_scale(most),
                _ => scale_of(self.options.base, most / precision.largest()),
            }
        });
        let is_smoothed = inverse_factors.iter().any(|factor| *factor != 1.0);
        let mut maxima = Vec::new();
        for (product, plain) in alone {
            let of_columns =
                if is_smoothed { self.matrix(product).maxima(&factors)?.columns } else { plain.columns };
            maxima.push((product, of_columns));
        }
        let shared_scale = scale_of(self.options.base, shared(&maxima, precision.largest()));
        let mut scaled = Vec::new();
        for (product, columns) in maxima {
            let blocks = match precision {
                QuantizedPrecision::Nvfp4 => Some(self.matrix(product).nvfp4_scales(&factors)?),
                _ => None,
            };
            let (scales, ratios) = self.scales(product, &columns, &factors, channels, shared_scale)?;
            scaled.push(Scaled { product: product.clone(), scales, ratios, blocks, rounded: None });
        }
        let group = Group {
            input: input.into(),
            inverse_factors,
            factors,
            activation_scale,
            shared_scale,
            products: scaled,
        };
        Ok((Some(group), kept))
    }

    /// Returns the scales of a weight, and what they are over the shared one.
    fn scales(
        &self,
        product: &Product,
        columns: &[f32],
        factors: &[f32],
        channels: &Channels,
        shared_scale: f32,
    ) -> io::Result<(Vec<f32>, Vec<f32>)> {
        let QuantizationOptions { precision, base, block, .. } = *self.options;
        let round = |scale: f32| scale_of(base, scale);
        match precision {
            QuantizedPrecision::Int8 | QuantizedPrecision::Fp8 => {
                // Ratios are weights of the lowered graph: numbers of the base, so that the weights are what they are divided by.
                let ratio = |most: &f32| {
                    let wanted = most / precision.largest() / shared_scale;
                    // A column of zeros has any scale.
                    if *most == 0.0 { 1.0 } else { round(wanted.max(LEAST_RATIO)) }
                };
                let ratios: Vec<f32> = columns.iter().map(ratio).collect();
                Ok((ratios.iter().map(|ratio| ratio * shared_scale).collect(), ratios))
            }
            QuantizedPrecision::Nvfp4 => Ok((Vec::new(), Vec::new())),
            QuantizedPrecision::Int8Weights => {
                let scale = |most: &f32| if *most == 0.0 { 1.0 } else { round(most / precision.largest()) };
                Ok((columns.iter().map(scale).collect(), Vec::new()))
            }
            QuantizedPrecision::Int4 => {
                // Of the smoothed activation, as the weights are.
                let squares: Option<Vec<f32>> = self.method.clipped.then(|| {
                    let most = channels.squares.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
                    let scaled = channels.squares.iter().zip(factors);
                    scaled.map(|(square, factor)| (square / most) as f32 / (factor * factor)).collect()
                });
                let matrix = self.matrix(product);
                let scales = matrix.block_scales(block as usize, factors, squares.as_deref(), &round)?;
                Ok((scales, Vec::new()))
            }
        }
    }

    /// Returns what moves the spread of an activation's channels into the weights: SmoothQuant (Xiao et al., 2023) where
    /// activations are quantized, AWQ's (Lin et al., 2024) where they are not. Its geometric mean is 1.
    fn inverse_factors(
        &self,
        channels: &Channels,
        products: &[(&Product, Maxima)],
        summed: usize,
    ) -> Vec<f32> {
        let smoothing_percent = self.method.smoothing_percent;
        if smoothing_percent == 0 {
            return vec![1.0; summed];
        }
        let smoothing = f64::from(smoothing_percent) / 100.0;
        let has_activations = self.options.precision.has_activations();
        let factor = |place: usize| -> f64 {
            let most = f64::from(channels.largest[place]);
            let weight =
                products.iter().map(|(_, maxima)| f64::from(maxima.summed[place])).fold(0.0, f64::max);
            if has_activations {
                if most == 0.0 || weight == 0.0 {
                    0.0
                } else {
                    most.powf(smoothing) / weight.powf(1.0 - smoothing)
                }
            } else {
                channels.squares[place].sqrt().powf(smoothing)
            }
        };
        let wanted: Vec<f64> = (0..summed).map(factor).collect();
        let known: Vec<f64> = wanted.iter().copied().filter(|factor| *factor > 0.0).map(f64::ln).collect();
        let mean = (known.iter().sum::<f64>() / known.len().max(1) as f64).exp();
        let inverse = |wanted: &f64| {
            if *wanted == 0.0 {
                return 1.0;
            }
            let factor = ((wanted / mean) as f32).clamp(FACTOR_RANGE.0, FACTOR_RANGE.1);
            scale_of(self.options.base, 1.0 / factor)
        };
        wanted.iter().map(inverse).collect()
    }

    pub(super) fn matrix(&self, product: &Product) -> Matrix<'_> {
        Matrix {
            file: self.file,
            tensor: self.tensors[product.weight.as_str()],
            is_transposed: product.is_transposed,
            summed: product.summed,
            columns: product.columns,
        }
    }
}

/// Returns the geometric mean of all columns' scales.
fn shared(maxima: &[(&Product, Vec<f32>)], largest: f32) -> f32 {
    let known = maxima.iter().flat_map(|(_, columns)| columns).filter(|most| **most > 0.0);
    let (sum, count) = known.fold((0.0, 0u64), |(sum, count), most| (sum + f64::from(*most).ln(), count + 1));
    if count == 0 { 1.0 } else { (sum / count as f64).exp() as f32 / largest }
}
