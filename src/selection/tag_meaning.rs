//! What tags mean: what a profile's tags require of a GPU.

use fancy_regex::{Regex, RegexBuilder};

use crate::backend;
use crate::compute_capability::ComputeCapability;
use crate::gpu::{self, Gpu};
use crate::profile::Tags;

/// Max backtracking steps of a pattern; names are short, so a sensible pattern needs a few dozen.
const BACKTRACK_LIMIT: usize = 20_000;
/// Max size of a pattern, and of the compiled pattern.
const PATTERN_LIMIT_BYTES: usize = 1_000;
const COMPILED_LIMIT_BYTES: usize = 256 << 10;

/// What a profile's tags require of a GPU.
#[derive(Debug)]
pub(super) struct Requirement<'a> {
    /// The tag `gpu`, and the products that it may mean.
    pub(super) gpu: Option<(&'a str, Vec<&'static Gpu>)>,
    /// The tag `gpu_device` in lower case; `None` if `gpu` names another product.
    pub(super) pci_id: Option<String>,
    /// The tag `compute_capability`, or the string that can't be read.
    pub(super) compute_capabilities: Option<Result<Vec<ComputeCapability>, &'a str>>,
    /// The tag `product_name_regex`: the pattern, and its regex or why it doesn't compile.
    pub(super) product_name_regex: Option<(&'a str, Result<Regex, String>)>,
    /// How many GPUs of one kind it needs, or the tag that is not a number.
    pub(super) gpus: Result<u32, String>,
    /// The backend that runs it.
    pub(super) runtime: &'static backend::Facts,
    /// The major version in the tag `trt_version`.
    pub(super) trt_major: Option<u32>,
}

/// Returns the facts of the backend that a profile's tags name.
pub(super) fn runtime_of(tags: &Tags) -> &'static backend::Facts {
    let tag = |key: &str| tags.get(key).map(|value| value.to_lowercase());
    let named = tag("llm_engine").or_else(|| tag("backend")).or_else(|| tag("model_type"));
    backend::facts_of_tag(named.as_deref().unwrap_or_default())
}

impl Requirement<'_> {
    /// Returns whether the tags require no particular GPU.
    pub(super) fn is_generic(&self) -> bool {
        self.gpu.is_none()
            && self.pci_id.is_none()
            && self.compute_capabilities.is_none()
            && self.product_name_regex.is_none()
    }
}

/// Reads tags. A tag that can't be read is kept: it becomes the reason why the profile doesn't fit.
pub(super) fn of_tags(tags: &Tags) -> Requirement<'_> {
    let tag = |key: &str| tags.get(key).map(|value| value.trim()).filter(|value| !value.is_empty());
    let gpu = tag("gpu").map(|name| (name, gpu::named(name)));
    let pci_id = tag("gpu_device").map(str::to_lowercase);
    let gpus = ["tp", "pp"].into_iter().try_fold(1_u32, |product, key| {
        let Some(text) = tag(key) else { return Ok(product) };
        let count = text.parse::<u32>().ok().filter(|count| (1..=1024).contains(count));
        count.and_then(|count| product.checked_mul(count)).ok_or_else(|| format!("{key}={text}"))
    });
    Requirement {
        pci_id: pci_id.filter(|id| !contradicts(gpu.as_ref(), id)),
        gpu,
        compute_capabilities: tag("compute_capability").map(|text| capabilities(text).ok_or(text)),
        product_name_regex: tag("product_name_regex").map(|pattern| (pattern, compiled(pattern))),
        gpus,
        runtime: runtime_of(tags),
        trt_major: tag("trt_version").and_then(|version| version.split('.').next()?.parse().ok()),
    }
}

/// Returns whether a PCI id belongs to none of the named products.
fn contradicts(gpu: Option<&(&str, Vec<&'static Gpu>)>, pci_id: &str) -> bool {
    let Some((_, named)) = gpu.filter(|(_, named)| !named.is_empty()) else { return false };
    gpu::by_pci_id(pci_id).is_some_and(|product| !named.iter().any(|gpu| gpu.name == product.name))
}

/// Reads `8.9`, `8.0+8.6`, `89` and `sm_89`.
fn capabilities(text: &str) -> Option<Vec<ComputeCapability>> {
    let one = |part: &str| {
        let part = part.trim().trim_start_matches("sm").trim_start_matches('_');
        if let Ok(capability) = part.parse() {
            return Some(capability);
        }
        let number: u16 = part.parse().ok().filter(|number| (50..1000).contains(number))?;
        format!("{}.{}", number / 10, number % 10).parse().ok()
    };
    text.split(['+', ',']).map(one).collect()
}

fn compiled(pattern: &str) -> Result<Regex, String> {
    if pattern.len() > PATTERN_LIMIT_BYTES {
        return Err(format!("it has {} bytes; at most {PATTERN_LIMIT_BYTES} are allowed", pattern.len()));
    }
    RegexBuilder::new(pattern)
        .backtrack_limit(BACKTRACK_LIMIT)
        .delegate_size_limit(COMPILED_LIMIT_BYTES)
        .build()
        .map_err(|error| error.to_string())
}

/// Returns the driver's product name in the form that patterns match: `NVIDIA-A100-SXM4-80GB`.
pub(super) fn pattern_name(product_name: &str) -> String {
    product_name.replace(' ', "-")
}

/// A problem with a selector in the tags; the string is the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SelectorProblem {
    /// It names an unknown GPU.
    UnknownGpu(String),
    /// Two selectors name different GPUs, and one wins.
    Contradiction(String),
    /// No known GPU satisfies it, or it can't be read.
    Unreachable(String),
}

/// Returns what is wrong with the selectors in a profile's tags.
pub fn selector_problems(tags: &Tags) -> Vec<SelectorProblem> {
    let mut problems = Vec::new();
    let requirement = of_tags(tags);
    let named = requirement.gpu.as_ref().map(|(_, named)| named.as_slice()).unwrap_or_default();
    if let Some((name, _)) = requirement.gpu.as_ref().filter(|_| named.is_empty()) {
        let nearest = gpu::find(name).err().map(|unknown| unknown.nearest.join(", "));
        let nearest =
            nearest.map(|names| format!("; the nearest known names are {names}")).unwrap_or_default();
        problems.push(SelectorProblem::UnknownGpu(format!("tag gpu={name} names no known GPU{nearest}")));
    }
    if let (Some(device), Some((name, _))) = (tags.get("gpu_device"), requirement.gpu.as_ref()) {
        if requirement.pci_id.is_none() {
            let product = gpu::by_pci_id(device).map_or("another GPU", |gpu| gpu.name.as_str());
            let message =
                format!("tags contradict each other: gpu={name}, but gpu_device={device} is {product}");
            problems.push(SelectorProblem::Contradiction(format!("{message}; gpu wins")));
        }
    } else if let Some(device) = tags.get("gpu_device")
        && gpu::by_pci_id(device).is_none()
    {
        problems.push(SelectorProblem::UnknownGpu(format!("tag gpu_device={device} is not a known PCI id")));
    }
    match &requirement.compute_capabilities {
        Some(Err(text)) => {
            problems.push(SelectorProblem::Unreachable(format!(
                "tag compute_capability={text} can't be read: expected values such as 8.9, joined by +"
            )));
        }
        Some(Ok(list))
            if !named.is_empty() && !named.iter().any(|gpu| list.contains(&gpu.compute_capability)) =>
        {
            let name = &named[0].name;
            let has = named[0].compute_capability;
            problems.push(SelectorProblem::Unreachable(format!(
                "tags contradict each other: {name} has compute capability {has}, which the tag compute_capability doesn't list"
            )));
        }
        _ => {}
    }
    match &requirement.product_name_regex {
        Some((pattern, Err(reason))) => {
            problems.push(SelectorProblem::Unreachable(format!(
                "tag product_name_regex={pattern} is not a valid pattern: {reason}"
            )));
        }
        Some((pattern, Ok(regex))) => {
            let mut names = gpu::known().iter().flat_map(|gpu| &gpu.product_names);
            let mut failed = None;
            let any = names.any(|name| match regex.is_match(&pattern_name(name)) {
                Ok(matches) => matches,
                Err(error) => {
                    failed = Some(error.to_string());
                    true
                }
            });
            if let Some(error) = failed {
                problems.push(SelectorProblem::Unreachable(format!(
                    "tag product_name_regex={pattern} can't be matched: {error}"
                )));
            } else if !any {
                problems.push(SelectorProblem::Unreachable(format!(
                    "tag product_name_regex={pattern} matches no known GPU"
                )));
            }
        }
        None => {}
    }
    if let Err(text) = &requirement.gpus {
        problems.push(SelectorProblem::Unreachable(format!("tag {text} is not a number of GPUs")));
    }
    problems
}
