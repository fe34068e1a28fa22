//! GPTQ (Frantar et al., 2022): weights are not rounded to the nearest, each for itself, but so that the products of the samples'
//! activations change least.
//!
//! For each activation, the sum of products of every two channels is taken over the tokens that the samples left in files
//! ([`tokens`]), and its Cholesky factor ([`dense`]) says how the error at one place can be made up for at others ([`rounding`]).
//! One activation is worked on at a time, with all cores, so memory doesn't depend on the number of layers. What comes of a weight
//! is kept in a file beside the tokens: the same weight is written many times while methods and kept nodes are tried.

mod dense;
mod rounding;
pub(super) mod tokens;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use self::dense::Lower;
use self::rounding::{COLUMNS, Row, round_columns};
use super::candidates::Product;
use super::groups::{Group, Ingredients, Scaled};
use super::number_formats::{e4m3_bits, e4m3_nearest, integer_bits, rounded};
use super::options::{QuantizationOptions, QuantizedPrecision};
use super::statistics::{Channels, Statistics};
use super::weights::Nibbles;
use crate::digest::Sha256;
use crate::onnx::parallel;

/// What is added to the diagonal of the sum of products, over its mean: what the samples do not show about other inputs. Few tokens
/// show little, so it is more than the 0.01 that is usual for 100,000.
const DAMPING: f64 = 0.2;
/// How many channels an activation may have for each of its tokens: with fewer tokens, almost nothing is known of most directions.
const MOST_CHANNELS_A_TOKEN: usize = 8;
/// The most channels: their sum of products takes 256 MiB.
const MOST_CHANNELS: usize = 8192;

/// Returns why no weight can be rounded by the tokens of these statistics, if so.
pub fn gptq_obstacle(statistics: &Statistics) -> Option<String> {
    let of = |(value, channels): (&String, &Channels)| {
        obstacle(channels.largest.len(), statistics.tokens_of(value))
    };
    let obstacles: Option<Vec<String>> = statistics.values.iter().map(of).collect();
    obstacles.and_then(|all| all.into_iter().next())
}

/// Returns why the weights behind an activation are rounded to the nearest, if so.
fn obstacle(channels: usize, tokens: usize) -> Option<String> {
    let needed = channels.div_ceil(MOST_CHANNELS_A_TOKEN);
    if channels > MOST_CHANNELS {
        Some(format!("{channels} channels are too many: at most {MOST_CHANNELS} fit in memory"))
    } else if tokens < needed {
        Some(format!("the samples have {tokens} tokens, and {channels} channels need {needed}"))
    } else {
        None
    }
}

impl Ingredients<'_> {
    /// Rounds the weights of a group, as far as there are tokens enough; the others are left to be rounded to the nearest.
    pub(super) fn round_by_gptq(&self, group: &mut Group) -> io::Result<()> {
        let Some(folder) = self.statistics.tokens_folder() else { return Ok(()) };
        let Some(channels) = self.statistics.values.get(&group.input) else { return Ok(()) };
        let count = self.statistics.tokens_of(&group.input);
        let summed = group.factors.len();
        let is_convolution = group.products.iter().any(|one| one.product.convolution.is_some());
        // NVFP4 has scales of scales, which it doesn't know.
        let is_nvfp4 = self.options.precision == QuantizedPrecision::Nvfp4;
        if is_convolution || is_nvfp4 || obstacle(summed, count).is_some() {
            return Ok(());
        }
        let paths: Vec<PathBuf> =
            group.products.iter().map(|one| folder.join(self.file_name(&one.product))).collect();
        if paths.iter().any(|path| !path.exists()) {
            let order = order(channels, &group.factors);
            let tokens = self.statistics.read_tokens(&group.input, &order, &group.inverse_factors)?;
            let mut factor = Lower::of_tokens(&tokens, count);
            drop(tokens);
            factor.damp((DAMPING * factor.mean_of_diagonal()) as f32);
            factor.factor();
            for (one, path) in group.products.iter().zip(&paths) {
                self.round(one, &group.factors, &order, &factor, path)?;
            }
        }
        for (one, path) in group.products.iter_mut().zip(paths) {
            one.rounded = Some(path);
        }
        Ok(())
    }

    /// Returns a name for what comes of a weight: all that decides it, but for the tokens themselves and the graph.
    fn file_name(&self, product: &Product) -> String {
        let samples = self.statistics.tokens_name();
        let (method, QuantizationOptions { precision, base, block, .. }) = (self.method, self.options);
        let Product { weight, is_transposed, summed, columns, .. } = product;
        let said = format!(
            "{samples}\n{method}\n{precision} {base} {block}\n{weight} {is_transposed} {summed} {columns}"
        );
        format!("{}.rounded", Sha256::of(said.as_bytes()).to_hex())
    }

    /// Rounds a weight, and writes it as it will be stored.
    fn round(
        &self,
        one: &Scaled,
        factors: &[f32],
        order: &[usize],
        factor: &Lower,
        path: &Path,
    ) -> io::Result<()> {
        let Scaled { product, scales, .. } = one;
        let (precision, matrix) = (self.options.precision, self.matrix(product));
        let (summed, columns) = (product.summed, product.columns);
        let block = if precision == QuantizedPrecision::Int4 { self.options.block as usize } else { summed };
        let blocks = summed / block;
        let bytes = matrix.bytes().map_err(io::Error::other)?;
        let stored = bytes.as_chunks::<4>().0;
        let at = |place: usize, column: usize| {
            if product.is_transposed { column * summed + place } else { place * columns + column }
        };
        let parts: Vec<(usize, Mutex<Vec<Row>>)> =
            (0..columns).step_by(COLUMNS).map(|first| (first, Mutex::default())).collect();
        let all = parallel::for_each(&parts, |(first, numbers)| {
            let width = COLUMNS.min(columns - first);
            let row_of = |value: &dyn Fn(usize) -> f32| -> Row {
                std::array::from_fn(|column| if column < width { value(first + column) } else { 1.0 })
            };
            let weights: Vec<Row> = order
                .iter()
                .map(|&place| {
                    row_of(&|column| f32::from_le_bytes(stored[at(place, column)]) * factors[place])
                })
                .collect();
            let scales: Vec<Row> = (0..blocks)
                .map(|block| {
                    row_of(&|column| {
                        scales[if product.is_transposed {
                            column * blocks + block
                        } else {
                            block * columns + column
                        }]
                    })
                })
                .collect();
            let scale = |place: usize| &scales[order[place] / block];
            let rounded = match precision {
                QuantizedPrecision::Int4 => {
                    round_columns(factor, &weights, scale, |value| rounded(value.clamp(-8.0, 7.0)))
                }
                QuantizedPrecision::Fp8 => round_columns(factor, &weights, scale, e4m3_nearest),
                QuantizedPrecision::Int8 | QuantizedPrecision::Int8Weights | QuantizedPrecision::Nvfp4 => {
                    round_columns(factor, &weights, scale, |value| rounded(value.clamp(-127.0, 127.0)))
                }
            };
            *numbers.lock().unwrap_or_else(PoisonError::into_inner) = rounded;
            Ok::<(), std::convert::Infallible>(())
        });
        let Ok(()) = all;
        self.file.release(&bytes);
        let parts: Vec<Vec<Row>> = parts
            .into_iter()
            .map(|(_, numbers)| numbers.into_inner().unwrap_or_else(PoisonError::into_inner))
            .collect();
        let mut row_of_place = vec![0; summed];
        order.iter().enumerate().for_each(|(row, &place)| row_of_place[place] = row);
        let number =
            |place: usize, column: usize| parts[column / COLUMNS][row_of_place[place]][column % COLUMNS];
        write_numbers(precision, product.is_transposed, (summed, columns), &number, path)
    }
}

/// Returns the places of an activation, those last whose errors weigh most: they are rounded first, and others make up for them.
fn order(channels: &Channels, factors: &[f32]) -> Vec<usize> {
    let weight = |place: usize| channels.squares[place] / f64::from(factors[place]).powi(2);
    let mut order: Vec<usize> = (0..factors.len()).collect();
    order.sort_by(|&a, &b| weight(a).total_cmp(&weight(b)).then(a.cmp(&b)));
    order
}

/// Writes the numbers of a weight in their format, in the order in which they are stored.
fn write_numbers(
    precision: QuantizedPrecision,
    is_transposed: bool,
    (summed, columns): (usize, usize),
    number: &dyn Fn(usize, usize) -> f32,
    path: &Path,
) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    let (rows, width) = if is_transposed { (columns, summed) } else { (summed, columns) };
    let of_row =
        |row: usize, index: usize| if is_transposed { number(index, row) } else { number(row, index) };
    if precision == QuantizedPrecision::Int4 {
        let mut nibbles = Nibbles::new(&mut file);
        for row in 0..rows {
            (0..width).try_for_each(|index| nibbles.put(of_row(row, index)))?;
        }
        nibbles.end()?;
    } else {
        let bits = |value: f32| match precision {
            QuantizedPrecision::Fp8 => e4m3_bits(value),
            _ => integer_bits(value) as u8,
        };
        for row in 0..rows {
            let bytes: Vec<u8> = (0..width).map(|index| bits(of_row(row, index))).collect();
            file.write_all(&bytes)?;
        }
    }
    file.persist(path).map_err(|failed| failed.error)?;
    Ok(())
}
