//! Known answers, and simulations: intervals have the stated coverage on samples with known quantiles.

use statrs::distribution::{ContinuousCDF as _, Normal};

use super::*;

fn normal(random: &mut fastrand::Rng) -> f64 {
    let radius = (-2.0 * (1.0 - random.f64()).ln()).sqrt();
    radius * (std::f64::consts::TAU * random.f64()).cos()
}

/// Latencies whose logarithm is normal: an autoregressive process in a round, and a shift of the whole round.
struct Process {
    correlation: f64,
    round_deviation: f64,
}

const SAMPLE_DEVIATION: f64 = 0.1;

impl Process {
    fn round(&self, count: usize, random: &mut fastrand::Rng) -> Vec<f64> {
        let shift = self.round_deviation * normal(random);
        let mut state = normal(random);
        (0..count)
            .map(|_| {
                let value = (SAMPLE_DEVIATION * state + shift).exp();
                state = self.correlation * state
                    + (1.0 - self.correlation * self.correlation).sqrt() * normal(random);
                value
            })
            .collect()
    }

    fn true_quantile(&self, q: f64) -> f64 {
        let deviation = SAMPLE_DEVIATION.hypot(self.round_deviation);
        (deviation * Normal::new(0.0, 1.0).unwrap().inverse_cdf(q)).exp()
    }
}

/// Returns for each quantile the fraction of repetitions whose 95 % interval contains the true value.
fn coverage(process: &Process, rounds: usize, count: usize, quantiles: &[f64]) -> Vec<f64> {
    const REPETITIONS: usize = 400;
    let mut random = fastrand::Rng::with_seed(7);
    let mut hits = vec![0; quantiles.len()];
    for _ in 0..REPETITIONS {
        let rounds: Vec<Vec<f64>> = (0..rounds).map(|_| process.round(count, &mut random)).collect();
        let intervals = quantile_intervals(&rounds, quantiles, 0.95);
        for ((hit, interval), &q) in hits.iter_mut().zip(intervals).zip(quantiles) {
            let interval = interval.unwrap();
            let truth = process.true_quantile(q);
            *hit += usize::from(interval.low <= truth && truth <= interval.high);
        }
    }
    hits.into_iter().map(|hits| hits as f64 / REPETITIONS as f64).collect()
}

/// Three standard errors of a coverage of 0.95 seen in 400 repetitions are 0.033.
#[track_caller]
fn assert_covers(coverage: &[f64]) {
    assert!(coverage.iter().all(|part| (0.917..=0.983).contains(part)), "{coverage:?}");
}

#[test]
fn quantiles_are_numpys() {
    // numpy.quantile([1, 2, 4, 8], [0, 0.5, 0.9, 1])
    let values = [1.0, 2.0, 4.0, 8.0];
    let found: Vec<f64> = [0.0, 0.5, 0.9, 1.0].map(|q| quantile(&values, q).unwrap()).to_vec();
    assert_eq!(format!("{found:?}"), "[1.0, 3.0, 6.800000000000001, 8.0]");
    assert_eq!(quantile(&[], 0.5), None);
}

#[test]
fn a_percentile_that_too_few_samples_support_is_not_given() {
    assert!(is_supported(10_000.0, 0.999) && !is_supported(9_000.0, 0.999));
    let mut random = fastrand::Rng::with_seed(3);
    let round: Vec<f64> = (0..500).map(|_| random.f64()).collect();
    let given: Vec<bool> =
        quantile_intervals(&[round], &[0.5, 0.95, 0.99, 0.999], 0.95).iter().map(Option::is_some).collect();
    assert_eq!(given, [true, true, false, false]);
}

#[test]
fn dependence_is_seen() {
    let mut random = fastrand::Rng::with_seed(5);
    for correlation in [0.0, 0.5, 0.9] {
        let time =
            autocorrelation_time(&Process { correlation, round_deviation: 0.0 }.round(20_000, &mut random));
        let expected = (1.0 + correlation) / (1.0 - correlation);
        assert!((time / expected - 1.0).abs() < 0.15, "{time} for {expected}");
    }
}

#[test]
fn intervals_of_independent_samples_cover() {
    let process = Process { correlation: 0.0, round_deviation: 0.0 };
    assert_covers(&coverage(&process, 1, 2000, &[0.5, 0.9, 0.95, 0.99]));
}

#[test]
fn intervals_of_dependent_samples_cover() {
    let process = Process { correlation: 0.6, round_deviation: 0.0 };
    assert_covers(&coverage(&process, 1, 3000, &[0.5, 0.9, 0.95]));
}

#[test]
fn intervals_cover_where_rounds_differ() {
    let process = Process { correlation: 0.3, round_deviation: 0.02 };
    assert_covers(&coverage(&process, 10, 200, &[0.5, 0.9]));
}

/// Returns in how many of 500 comparisons a difference is called real. Rounds differ by 2 %, and drift together.
fn called_real(slow_down: f64, rounds: usize, pairing: Pairing) -> usize {
    let mut random = fastrand::Rng::with_seed(11);
    (0..500)
        .filter(|_| {
            let (mut baseline, mut measured) = (Vec::new(), Vec::new());
            for _ in 0..rounds {
                let drift = 0.02 * normal(&mut random);
                baseline.push((drift + 0.02 * normal(&mut random)).exp());
                measured.push(slow_down * (drift + 0.02 * normal(&mut random)).exp());
            }
            ratio_interval(&baseline, &measured, pairing, 0.99).unwrap().is_real()
        })
        .count()
}

#[test]
fn equal_measurements_rarely_differ() {
    for (rounds, pairing) in [(8, Pairing::Interleaved), (10, Pairing::Interleaved), (10, Pairing::Separate)]
    {
        let called = called_real(1.0, rounds, pairing);
        assert!(called <= 15, "{called} of 500 with {rounds} rounds, {pairing:?}");
    }
}

#[test]
fn a_slow_down_of_five_in_a_hundred_is_found() {
    let called = called_real(1.05, 15, Pairing::Interleaved);
    assert!(called >= 475, "{called}");
}

#[test]
fn few_rounds_say_nothing_of_a_difference() {
    let found = ratio_interval(&[1.0; 7], &[2.0; 7], Pairing::Interleaved, 0.99).unwrap();
    assert!(!found.is_real() && (found.ratio - 2.0).abs() < 1e-12);
    assert_eq!(ratio_interval(&[0.0], &[1.0], Pairing::Separate, 0.99), None);
}

#[test]
fn three_windows_that_agree_end_it() {
    let windows = |latencies: &[f64]| -> Vec<Window> {
        latencies.iter().map(|&latency| Window { latency, throughput: 1.0 / latency }).collect()
    };
    assert!(is_stable(&windows(&[9.0, 1.0, 1.02, 1.04])));
    assert!(!is_stable(&windows(&[1.0, 1.02, 1.06])));
    assert!(!is_stable(&windows(&[1.0, 1.0])));
}
