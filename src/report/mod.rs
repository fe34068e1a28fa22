//! A release as a page: one HTML file that needs no network and contains its data.
//!
//! The page is the template `page.html` over [`Report`]. Plots are SVG, and take the colours of text and lines from the
//! page, so that they work in dark mode.

mod compiled;
mod plot;
mod quantized;

use minijinja::value::Serde;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use compiled::CompiledGraph;
pub(crate) use compiled::of as compiled_graphs;
pub use quantized::QuantizedGraphFacts;
pub(crate) use quantized::of as quantized_graphs;

use crate::backend::tags_in_names;
use crate::benchmark::{BenchStatus, Benchmark, Case, Comparison};
use crate::passport::{Passport, Status};
use crate::profile::{ContentsFile, ModelRelease, ProfilePrecision, Tags};
use crate::release::least_row_cosine;
use crate::validation::{Emulated, GateResult, gate_is_bound_above};

/// The schema name of the data in a page.
pub const REPORT_SCHEMA: &str = "nimctl.report/1";
/// The file's name in a release.
pub const REPORT_FILE: &str = "report.html";

const TEMPLATE: &str = include_str!("page.html");
const GENERIC: &str = "any other";

/// The content of a page.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// [`REPORT_SCHEMA`].
    pub schema: String,
    /// The model and its release.
    pub model: ModelRelease,
    /// Every profile that was built, then those that were not.
    pub profiles: Vec<ReportedProfile>,
    /// Comparisons of its speed with an earlier release.
    pub comparisons: Vec<Comparison>,
}

/// One profile of a page.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReportedProfile {
    /// Its readable name.
    pub name: String,
    /// Its id; `None` if it was not built.
    pub id: Option<String>,
    /// The GPUs that it is for.
    pub gpu: String,
    /// Its precision.
    pub precision: String,
    /// `executed`, `static`, `skipped` or `not built`.
    pub status: String,
    /// The precision that an executed profile was computed in, if it is not its own.
    #[serde(default)]
    pub executed_in: Option<String>,
    /// The precision that was emulated because of that.
    #[serde(default)]
    pub emulated: Option<String>,
    /// `passed`, `failed` or `None`.
    pub verdict: Option<String>,
    /// Why it was not built, not validated, or not executed; what went wrong.
    pub remarks: Vec<String>,
    /// The min cosine of any row with the FP32 graph's.
    pub least_row_cosine: Option<f64>,
    /// Its tags.
    pub tags: Tags,
    /// Its files, except `contents.json`.
    pub files: Vec<ContentsFile>,
    /// Their total size.
    pub size_bytes: u64,
    /// What built it: tools with their versions.
    pub toolchain: Vec<(String, String)>,
    /// How each graph was quantized, if it was.
    #[serde(default)]
    pub quantized: Vec<QuantizedGraphFacts>,
    /// What the compiler made of each graph, for plans that say so.
    #[serde(default)]
    pub compiled: Vec<CompiledGraph>,
    /// Every gate.
    pub gates: Vec<GateResult>,
    /// Every gate with its precision emulated, if the profile itself was executed in another.
    #[serde(default)]
    pub emulated_gates: Vec<GateResult>,
    /// Its measurements.
    pub benchmark: Option<Benchmark>,
}

impl Report {
    /// Makes a report of the profiles that were built, and of those that were not, each with the reason.
    pub fn new(
        model: &ModelRelease,
        built: &[Passport],
        not_built: &[(String, String)],
        comparisons: &[Comparison],
    ) -> Self {
        let absent = |(name, why): &(String, String)| ReportedProfile::not_built(name, why);
        Self {
            schema: REPORT_SCHEMA.into(),
            model: model.clone(),
            profiles: built.iter().map(ReportedProfile::built).chain(not_built.iter().map(absent)).collect(),
            comparisons: comparisons.to_vec(),
        }
    }

    /// Returns the page.
    ///
    /// # Errors
    /// A bug in the template.
    pub fn to_html(&self) -> Result<String, minijinja::Error> {
        let mut environment = minijinja::Environment::new();
        environment.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
        environment.add_filter("digits", |value: f64, digits: usize| format!("{value:.digits$}"));
        environment.add_filter("change", |ratio: f64| format!("{:+.1} %", (ratio - 1.0) * 100.0));
        environment.add_filter("size", |bytes: f64| match bytes {
            ..1e3 => format!("{bytes:.0} B"),
            ..1e6 => format!("{:.1} kB", bytes / 1e3),
            _ => format!("{:.1} MB", bytes / 1e6),
        });
        let gates: Vec<Option<(f64, f64)>> =
            self.profiles.iter().map(ReportedProfile::row_cosine_gate).collect();
        environment.add_filter("bound_above", |gate: String| gate_is_bound_above(&gate));
        environment.add_template("page.html", TEMPLATE)?;
        let plots: Vec<Vec<(&str, String)>> = self
            .profiles
            .iter()
            .map(|profile| profile.benchmark.as_ref().map(plot::plots).unwrap_or_default())
            .collect();
        let device_words = |case: &Case| {
            let words = case.device_words()?;
            Some(format!("{} batch {} × {}: {words}", case.graph, case.batch, case.streams))
        };
        let devices: Vec<Vec<String>> = self
            .profiles
            .iter()
            .map(|profile| profile.benchmark.iter().flat_map(|b| &b.cases).filter_map(device_words).collect())
            .collect();
        environment.get_template("page.html")?.render(minijinja::context! {
            report => Serde(self),
            matrix => Serde(self.matrix()),
            precisions => Serde(self.precisions()),
            plots => Serde(plots),
            devices => Serde(devices),
            cosines => Serde(gates),
        })
    }

    fn precisions(&self) -> Vec<&str> {
        let mut precisions: Vec<&str> =
            self.profiles.iter().map(|profile| profile.precision.as_str()).collect();
        // From wide to narrow; what is no precision of ours comes last.
        let place = |word: &&str| {
            let known = ProfilePrecision::all().position(|precision| precision.as_str() == *word);
            (known.is_none(), known, word.to_string())
        };
        precisions.sort_by_key(place);
        precisions.dedup();
        precisions
    }

    /// Returns a row for each GPU, in the order of profiles, with the numbers of its profiles for each precision.
    fn matrix(&self) -> Vec<(&str, Vec<Vec<usize>>)> {
        let mut gpus: Vec<&str> = Vec::new();
        for profile in &self.profiles {
            if !gpus.contains(&profile.gpu.as_str()) {
                gpus.push(&profile.gpu);
            }
        }
        let cell = |gpu: &str, precision: &str| {
            let fits = |profile: &ReportedProfile| profile.gpu == gpu && profile.precision == precision;
            (0..self.profiles.len()).filter(|&index| fits(&self.profiles[index])).collect()
        };
        let row = |gpu| (gpu, self.precisions().into_iter().map(|precision| cell(gpu, precision)).collect());
        gpus.into_iter().map(row).collect()
    }
}

/// Says what an executed profile was not computed in.
fn emulated_remark(emulated: &Emulated) -> String {
    let Emulated { executed_in, precision, gates: _, left_out } = emulated;
    let without =
        if left_out.is_empty() { String::new() } else { format!(", except {}", left_out.join(", ")) };
    format!(
        "executed in {executed_in}: ONNX Runtime computes {precision} in {executed_in} on the CPU; so its lowered graph was also run, \
         with {precision} emulated{without}"
    )
}

impl ReportedProfile {
    fn built(passport: &Passport) -> Self {
        let contents = &passport.contents;
        let mut remarks = Vec::new();
        if let Status::Skipped(why) = &passport.validation {
            remarks.push(format!("not validated: {why}"));
        }
        let validation = passport.validation.validation();
        if let Some(validation) = validation {
            if matches!(passport.validation, Status::Executed(_)) {
                remarks.push(format!("run by {}", validation.ran_on));
            }
            let because = validation.not_executed_because.as_ref();
            remarks.extend(
                because.map(|why| format!("static: {why}; its lowered graph was run instead, emulated")),
            );
            remarks.extend(validation.emulated.as_ref().map(emulated_remark));
            remarks.extend(validation.failure.as_ref().map(|why| format!("failed: {why}")));
        }
        let benchmark = match &passport.bench {
            BenchStatus::Measured(benchmark) => Some(benchmark.clone()),
            BenchStatus::Failed(why) => {
                remarks.push(format!("measuring failed: {why}"));
                None
            }
            BenchStatus::Skipped(why) => {
                remarks.push(format!("not measured: {why}"));
                None
            }
        };
        let tag = |key: &str| passport.tags.get(key).cloned();
        let capability = || tag("compute_capability").map(|list| format!("compute capability {list}"));
        Self {
            name: passport.name.clone(),
            id: Some(passport.id.to_string()),
            gpu: tag("gpu").or_else(capability).unwrap_or_else(|| GENERIC.into()),
            precision: contents.precision.to_string(),
            status: passport.validation.word().into(),
            executed_in: validation
                .and_then(|validation| validation.emulated.as_ref())
                .map(|emulated| emulated.executed_in.to_string()),
            emulated: validation
                .and_then(|validation| validation.emulated.as_ref())
                .map(|emulated| emulated.precision.to_string()),
            verdict: validation.map(|v| if v.passed { "passed".into() } else { "failed".into() }),
            remarks,
            least_row_cosine: least_row_cosine(passport),
            tags: passport.tags.clone(),
            files: contents.files.clone(),
            size_bytes: contents.files.iter().map(|file| file.size_bytes).sum(),
            toolchain: contents
                .toolchain
                .iter()
                .map(|(name, identity)| (name.clone(), identity.version.clone()))
                .collect(),
            quantized: quantized::of(passport),
            compiled: compiled::of(passport),
            gates: validation.map(|validation| validation.gates.clone()).unwrap_or_default(),
            emulated_gates: validation
                .and_then(|validation| validation.emulated.as_ref())
                .map(|emulated| emulated.gates.clone())
                .unwrap_or_default(),
            benchmark,
        }
    }

    /// Returns the min row cosine of all shapes with its threshold, if rows were compared.
    fn row_cosine_gate(&self) -> Option<(f64, f64)> {
        let threshold = self.gates.iter().find(|gate| gate.gate == "row_cosine")?.threshold;
        Some((self.least_row_cosine?, threshold))
    }

    /// A name is `<backend>-<target>-<precision>`.
    fn not_built(name: &str, why: &str) -> Self {
        let of = |precision: ProfilePrecision| {
            Some((name.strip_suffix(precision.as_str())?.strip_suffix('-')?, precision.as_str()))
        };
        let (start, precision) = ProfilePrecision::all().find_map(of).unwrap_or((name, "-"));
        let gpu = tags_in_names().find_map(|backend| start.strip_prefix(backend)?.strip_prefix('-'));
        Self {
            name: name.into(),
            id: None,
            gpu: gpu.unwrap_or(start).into(),
            precision: precision.into(),
            status: "not built".into(),
            executed_in: None,
            emulated: None,
            verdict: None,
            remarks: vec![why.into()],
            least_row_cosine: None,
            tags: Tags::default(),
            files: Vec::new(),
            size_bytes: 0,
            toolchain: Vec::new(),
            quantized: Vec::new(),
            compiled: Vec::new(),
            gates: Vec::new(),
            emulated_gates: Vec::new(),
            benchmark: None,
        }
    }
}
