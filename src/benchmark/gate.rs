//! Gates: limits on how much slower a profile may become, such as `p50 > +3%`.

use std::fmt;
use std::str::FromStr;

use super::comparison::{Comparison, Verdict};
use super::metric::Metric;
use crate::nearest::did_you_mean;

/// A limit on how much worse a metric may become.
#[derive(Clone, Debug, PartialEq)]
pub struct Gate {
    /// The metric.
    pub metric: Metric,
    /// It fails beyond this ratio: 1.03 for `p50 > +3%`, 0.95 for `throughput < -5%`.
    pub limit: f64,
}

impl Gate {
    /// Returns whether a comparison fails the gate: the ratio is beyond the limit, and the difference is real.
    pub fn fails(&self, comparison: &Comparison) -> bool {
        let Self { metric, limit } = self;
        let beyond =
            if metric.more_is_worse() { comparison.ratio > *limit } else { comparison.ratio < *limit };
        comparison.metric == *metric && beyond && comparison.verdict == Verdict::Slower
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.metric.more_is_worse() { '>' } else { '<' };
        // Percent with at most two decimals, as people write them.
        let percent = ((self.limit - 1.0) * 1e4).round() / 100.0;
        write!(f, "{} {sign} {percent:+}%", self.metric.name())
    }
}

/// The most percent that a latency may grow by: more is no limit.
const MAX_PERCENT: f64 = 10_000.0;

/// A string that is not a gate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidGate {
    /// It is not written as a gate.
    #[error(
        "`{text}` is not a gate: write `p50 > +3%` (or p90, p95, p99) or `throughput < -5%`{}",
        nearest_metric(text)
    )]
    Syntax {
        /// The string.
        text: String,
    },
    /// No comparison could fail it.
    #[error("`{text}` can never fail: {why}")]
    NeverFails {
        /// The string.
        text: String,
        /// What is impossible, and what to write.
        why: &'static str,
    },
}

/// Asks about a metric that is much like the one before the sign, if that is none.
fn nearest_metric(text: &str) -> String {
    let name = text.split(['>', '<']).next().unwrap_or_default().trim();
    let known = Metric::ALL.map(Metric::name);
    if name.is_empty() || known.contains(&name) { String::new() } else { did_you_mean(name, known) }
}

impl FromStr for Gate {
    type Err = InvalidGate;

    fn from_str(text: &str) -> Result<Self, InvalidGate> {
        let invalid = || InvalidGate::Syntax { text: text.to_owned() };
        let (name, limit) = text.split_once(['>', '<']).ok_or_else(invalid)?;
        let metric =
            Metric::ALL.into_iter().find(|metric| metric.name() == name.trim()).ok_or_else(invalid)?;
        let percent: f64 = limit
            .trim()
            .strip_suffix('%')
            .and_then(|number| number.trim().parse().ok())
            .ok_or_else(invalid)?;
        let worse = if metric.more_is_worse() {
            text.contains('>') && percent >= 0.0
        } else {
            text.contains('<') && percent <= 0.0
        };
        if !worse || !percent.is_finite() {
            return Err(invalid());
        }
        let never = |why| Err(InvalidGate::NeverFails { text: text.to_owned(), why });
        if percent <= -100.0 {
            return never(
                "a throughput can't fall by 100 % or more; give a smaller number, as in `throughput < -5%`",
            );
        }
        if percent > MAX_PERCENT {
            return never("the change is more than 10000 %; give a smaller number, as in `p50 > +3%`");
        }
        Ok(Self { metric, limit: 1.0 + percent / 100.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_are_read_and_written() {
        for text in ["p50 > +3%", "p99 > +0.5%", "throughput < -5%"] {
            assert_eq!(text.parse::<Gate>().unwrap().to_string(), text);
        }
        for text in
            ["", "p50", "p50 < +3%", "p50 > -3%", "p50 > 3", "p42 > 3%", "throughput > 3%", "p50 > nan%"]
        {
            assert!(matches!(text.parse::<Gate>(), Err(InvalidGate::Syntax { .. })), "{text}");
        }
        for text in ["throughput < -150%", "throughput < -100%", "p50 > 1e9%"] {
            assert!(matches!(text.parse::<Gate>(), Err(InvalidGate::NeverFails { .. })), "{text}");
        }
        assert!("throughput < -99.9%".parse::<Gate>().is_ok() && "p99 > +10000%".parse::<Gate>().is_ok());
    }
}
