//! How long a job may run or wait, as Slurm writes it.

use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A span of time: `HH:MM:SS`, or `D-HH:MM:SS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeLimit(Duration);

impl TimeLimit {
    /// A day.
    pub(super) fn a_day() -> Self {
        Self(Duration::from_secs(24 * 60 * 60))
    }

    /// Returns the span.
    pub fn duration(self) -> Duration {
        self.0
    }

    /// Reads `HH:MM:SS` or `D-HH:MM:SS`.
    ///
    /// # Errors
    /// In words: another form. Slurm has more, of which some are minutes and some are hours.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parse = || {
            let (days, rest) = text.split_once('-').unwrap_or(("0", text));
            let parts: Vec<&str> = rest.split(':').collect();
            let number = |part: &str| {
                let is_number =
                    !part.is_empty() && part.len() <= 4 && part.bytes().all(|byte| byte.is_ascii_digit());
                is_number.then(|| part.parse::<u64>().ok()).flatten()
            };
            let [hours, minutes, seconds] = parts.as_slice() else { return None };
            let (minutes, seconds) = (number(minutes)?, number(seconds)?);
            let in_range = minutes < 60 && seconds < 60;
            let total = ((number(days)? * 24 + number(hours)?) * 60 + minutes) * 60 + seconds;
            (in_range && total > 0).then(|| Self(Duration::from_secs(total)))
        };
        parse().ok_or_else(|| format!("`{text}` is not a valid time: write HH:MM:SS or D-HH:MM:SS"))
    }
}

impl std::fmt::Display for TimeLimit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.0.as_secs();
        let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
        if days > 0 {
            write!(f, "{days}-")?;
        }
        write!(f, "{hours:02}:{:02}:{:02}", seconds / 60 % 60, seconds % 60)
    }
}

impl Serialize for TimeLimit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TimeLimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for TimeLimit {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "TimeLimit".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^([0-9]+-)?[0-9]+:[0-5][0-9]:[0-5][0-9]$" })
    }
}
