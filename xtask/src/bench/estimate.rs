//! How a ratio compares with its upper bound: estimated from pairs of rounds, with a 95 % interval.

/// Student's t for 95 % intervals, by degrees of freedom from 1 on. With more of them the last one is a little too wide.
const STUDENT_T: [f64; 11] = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201];

/// A ratio and its 95 % interval.
#[derive(Clone, Copy, Debug)]
pub(super) struct Estimate {
    pub(super) ratio: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

/// What the interval says about an upper bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The whole interval is within the bound.
    Met,
    /// The whole interval is above the bound.
    Missed,
    /// The bound is inside the interval: more rounds may decide.
    Undecided,
}

impl Estimate {
    /// Joins the ratios of rounds: two or more pairs, each a round and the next one, which has the reverse order of starts.
    ///
    /// The side that starts first gets other memory and is slower or faster for it, so rounds of the two orders differ. The
    /// geometric mean of a pair cancels that; the estimate is the geometric mean of the pairs.
    pub(super) fn from_rounds(ratios: &[f64]) -> Self {
        let pairs: Vec<f64> =
            ratios.chunks_exact(2).map(|pair| f64::midpoint(pair[0].ln(), pair[1].ln())).collect();
        let count = pairs.len() as f64;
        let mean = pairs.iter().sum::<f64>() / count;
        let variance = pairs.iter().map(|pair| (pair - mean).powi(2)).sum::<f64>() / (count - 1.0);
        let student_t = STUDENT_T[(pairs.len().max(2) - 2).min(STUDENT_T.len() - 1)];
        let reach = student_t * (variance / count).sqrt();
        Self { ratio: mean.exp(), low: (mean - reach).exp(), high: (mean + reach).exp() }
    }

    /// Compares with an upper bound.
    pub(super) fn verdict(self, bound: f64) -> Verdict {
        if self.high <= bound {
            Verdict::Met
        } else if self.low > bound {
            Verdict::Missed
        } else {
            Verdict::Undecided
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Estimate, Verdict};

    #[test]
    fn the_whole_interval_decides() {
        let verdict = |low, high| Estimate { ratio: 1.0, low, high }.verdict(1.01);
        assert_eq!(verdict(0.99, 1.01), Verdict::Met);
        assert_eq!(verdict(1.011, 1.02), Verdict::Missed);
        assert_eq!(verdict(1.0, 1.02), Verdict::Undecided);
        assert_eq!(verdict(1.01, 1.02), Verdict::Undecided);
    }

    #[test]
    fn faster_is_no_failure() {
        assert_eq!(Estimate { ratio: 0.5, low: 0.4, high: 0.6 }.verdict(1.01), Verdict::Met);
    }

    /// The side that starts first is 3 % slower, whichever it is; ours is 1 % faster.
    #[test]
    fn the_order_of_starts_cancels() {
        let found = Estimate::from_rounds(&[0.99 * 1.03, 0.99 / 1.03, 0.99 * 1.031, 0.99 / 1.029]);
        assert!((found.ratio - 0.99).abs() < 1e-3, "{found:?}");
        assert!(found.low < found.ratio && found.ratio < found.high, "{found:?}");
    }

    /// Pairs at e^0, e^0.01, e^0.02: the mean is 0.01, its standard error 0.01 / √3, and t is 4.303 for 2 degrees of freedom.
    #[test]
    fn few_pairs_have_a_wide_interval() {
        let ratios = [0.0, 0.01, 0.02].map(f64::exp).map(|ratio| [ratio, ratio]).concat();
        let found = Estimate::from_rounds(&ratios);
        assert!((found.high.ln() - (0.01 + 4.303 * 0.01 / 3_f64.sqrt())).abs() < 1e-9, "{found:?}");
        assert!((found.low.ln() - (0.01 - 4.303 * 0.01 / 3_f64.sqrt())).abs() < 1e-9, "{found:?}");
    }

    #[test]
    fn one_pair_decides_nothing() {
        assert_eq!(Estimate::from_rounds(&[0.5, 0.5]).verdict(1.01), Verdict::Undecided);
    }
}
