//! What a fleet file says of Slurm: what `sbatch` is asked for, and the folder that all nodes see.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Jobs of Slurm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Slurm {
    /// A folder that this machine and all nodes see under the same path; nimctl makes it where absent.
    pub shared: PathBuf,
    /// The partition; the cluster's own default if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
    /// The generic resources of a job: `gpu:h100:1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gres: Option<String>,
    /// The features that a node must have (`--constraint`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub constraint: Option<String>,
    /// The account that is charged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The quality of service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qos: Option<String>,
    /// How long a job may run: `HH:MM:SS`, or `D-HH:MM:SS`. The partition's own limit if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<SlurmTime>,
    /// How long jobs may wait in the queue, in the form of `time`; then they are cancelled and their profiles fail.
    #[serde(default = "a_day")]
    pub max_wait: SlurmTime,
    /// How many nodes may work at the same time.
    #[serde(default = "one")]
    pub nodes: u32,
    /// How many cores a job asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<u32>,
    /// The memory that a job asks for, in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u64>,
    /// Where `nimctl` is on the nodes, with its workers beside it; if absent, where it is here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nimctl: Option<PathBuf>,
    /// What is set in the environment of the jobs, where administrators of the cluster can read it: paths of libraries, no secrets. Of this
    /// machine's environment `PATH`, `HOME`, `USER`, `LOGNAME`, `LANG`, `LD_LIBRARY_PATH`, `SLURM_CONF` and `SBATCH_…` go along, and nothing else.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
}

/// A span of time as Slurm writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SlurmTime(Duration);

fn a_day() -> SlurmTime {
    SlurmTime(Duration::from_secs(24 * 60 * 60))
}

fn one() -> u32 {
    1
}

impl Slurm {
    /// Checks what the types don't; the error has the key that it is about.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        let Self { shared, partition, gres, constraint, account, qos, nodes, nimctl, environment, .. } = self;
        if !shared.is_absolute() {
            return Err(("shared", format!("`{}` is not an absolute path", shared.display())));
        }
        if nimctl.as_ref().is_some_and(|path| !path.is_absolute()) {
            return Err(("nimctl", "it is not an absolute path".into()));
        }
        if *nodes == 0 {
            return Err(("nodes", "at least one node is needed".into()));
        }
        let words = [
            ("partition", partition),
            ("gres", gres),
            ("constraint", constraint),
            ("account", account),
            ("qos", qos),
        ];
        for (key, word) in words {
            if word.as_ref().is_some_and(|word| word.is_empty() || word.contains(char::is_whitespace)) {
                return Err((key, format!("`{key}` is empty or has white space in it")));
            }
        }
        let is_name = |name: &String| {
            !name.is_empty()
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
                && !name.starts_with(|c: char| c.is_ascii_digit())
        };
        if let Some(name) = environment.keys().find(|name| !is_name(name)) {
            return Err(("environment", format!("`{name}` is not a valid variable name")));
        }
        Ok(())
    }
}

impl SlurmTime {
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

impl std::fmt::Display for SlurmTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.0.as_secs();
        let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
        if days > 0 {
            write!(f, "{days}-")?;
        }
        write!(f, "{hours:02}:{:02}:{:02}", seconds / 60 % 60, seconds % 60)
    }
}

impl Serialize for SlurmTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SlurmTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for SlurmTime {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SlurmTime".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^([0-9]+-)?[0-9]+:[0-5][0-9]:[0-5][0-9]$" })
    }
}
