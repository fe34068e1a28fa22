//! Intervals for quantiles of samples that depend on each other.

use super::autocorrelation::{autocorrelation_time, block_length};
use super::quantile::{is_supported, position, quantile};
use super::{Interval, tail_share};

/// Number of draws for one interval.
const RESAMPLES: usize = 1000;
/// Max samples that all draws touch together, so that a million samples don't take minutes.
const MAX_WORK: usize = 100_000_000;
const SEED: u64 = 20;

/// Min rounds to draw whole rounds; with fewer, intervals are about the samples of these rounds only.
pub const MIN_ROUNDS: usize = 5;

/// The unit of drawing.
enum Unit {
    /// Whole rounds: rounds differ, and the samples in a round may depend on each other in any way.
    Rounds,
    /// Blocks of this length, in each round.
    Blocks(Vec<usize>),
}

/// Returns each quantile of the samples of all rounds together, with its interval; `None` for a quantile that the
/// samples don't support. Samples are in time order.
pub fn quantile_intervals(rounds: &[Vec<f64>], quantiles: &[f64], confidence: f64) -> Vec<Option<Interval>> {
    let rounds: Vec<&[f64]> = rounds.iter().map(Vec::as_slice).filter(|round| !round.is_empty()).collect();
    let mut all: Vec<f64> = rounds.iter().copied().flatten().copied().collect();
    all.sort_by(f64::total_cmp);
    if all.is_empty() {
        return vec![None; quantiles.len()];
    }
    let ranks: Vec<Vec<usize>> = rounds
        .iter()
        .map(|round| round.iter().map(|value| all.partition_point(|other| other < value)).collect())
        .collect();
    let times: Vec<f64> = ranks
        .iter()
        .map(|ranks| autocorrelation_time(&ranks.iter().map(|&rank| rank as f64).collect::<Vec<_>>()))
        .collect();
    let independent: f64 = rounds.iter().zip(&times).map(|(round, time)| round.len() as f64 / time).sum();
    let (unit, units) = if rounds.len() >= MIN_ROUNDS {
        (Unit::Rounds, rounds.len())
    } else {
        let lengths =
            rounds.iter().zip(&times).map(|(round, time)| block_length(round.len(), *time)).collect();
        // With this many blocks, Student's t equals the normal distribution.
        (Unit::Blocks(lengths), usize::MAX)
    };
    let drawn = draw(&ranks, &unit, &all, quantiles);
    let tail = tail_share(confidence, units);
    quantiles
        .iter()
        .zip(drawn)
        .map(|(&q, mut drawn)| {
            let estimate = quantile(&all, q).filter(|_| is_supported(independent, q))?;
            drawn.sort_by(f64::total_cmp);
            let (low, high) = (quantile(&drawn, tail)?, quantile(&drawn, 1.0 - tail)?);
            Some(Interval { estimate, low: low.min(estimate), high: high.max(estimate) })
        })
        .collect()
}

/// Draws whole rounds, or blocks in each round, repeatedly; returns each quantile of every draw.
fn draw(ranks: &[Vec<usize>], unit: &Unit, sorted: &[f64], quantiles: &[f64]) -> Vec<Vec<f64>> {
    let count = sorted.len();
    let resamples = RESAMPLES.min(MAX_WORK / count).max(200);
    let mut random = fastrand::Rng::with_seed(SEED);
    let mut drawn = vec![Vec::with_capacity(resamples); quantiles.len()];
    let mut counts = vec![0_u32; count];
    for _ in 0..resamples {
        counts.fill(0);
        let mut total = 0;
        for place in 0..ranks.len() {
            match unit {
                Unit::Rounds => {
                    let round = &ranks[random.usize(..ranks.len())];
                    round.iter().for_each(|&rank| counts[rank] += 1);
                    total += round.len();
                }
                Unit::Blocks(lengths) => {
                    let round = &ranks[place];
                    let mut left = round.len();
                    while left > 0 {
                        let start = random.usize(..round.len());
                        let length = lengths[place].min(left);
                        let end = (start + length).min(round.len());
                        round[start..end].iter().for_each(|&rank| counts[rank] += 1);
                        round[..length - (end - start)].iter().for_each(|&rank| counts[rank] += 1);
                        left -= length;
                    }
                    total += round.len();
                }
            }
        }
        for (drawn, &q) in drawn.iter_mut().zip(quantiles) {
            drawn.extend(of_counts(&counts, sorted, total, q));
        }
    }
    drawn
}

/// Returns the quantile of values with these counts.
fn of_counts(counts: &[u32], sorted: &[f64], total: usize, q: f64) -> Option<f64> {
    let (low, part) = position(total, q)?;
    let (mut seen, mut at) = (0, None);
    for (&count, &value) in counts.iter().zip(sorted) {
        seen += count as usize;
        if seen > low && at.is_none() {
            at = Some(value);
        }
        if seen > low + 1 {
            return at.map(|at| at + (value - at) * part);
        }
    }
    at
}
