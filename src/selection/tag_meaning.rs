//! What tags mean: what a profile's tags require of a GPU.

use fancy_regex::{Regex, RegexBuilder};

use crate::backend::{self, Builds};
use crate::compute_capability::ComputeCapability;
use crate::gpu::{self, Gpu};
use crate::manifest::{backend_of_tags, is_set};
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
    /// The major version in the tag `trt_version`, else in `key`.
    pub(super) trt_major: Option<u32>,
    /// The major version of CUDA in the tag `cuda_major_version`, else in `key`.
    pub(super) cuda_major: Option<u32>,
    /// The lowest compute capability of a hardware-compatible plan (`ampereplus`).
    pub(super) from_capability: Option<ComputeCapability>,
    /// Whether there is no plan yet: the container builds it when it starts.
    pub(super) is_built_at_start: bool,
}

/// The tag `key` of NeMo Retriever's profiles: `NVIDIA-A10G_10.0.1_12`, `NVIDIA-H100-80GB-HBM3_10.0.1_12_FP8`.
struct PlanKey<'a> {
    gpu: &'a str,
    trt_version: &'a str,
    cuda_major: u32,
}

impl<'a> PlanKey<'a> {
    /// Reads it; `None` if it has another form, such as `onnx`.
    fn of_tags(tags: &'a Tags) -> Option<Self> {
        let mut parts = tags.get("key")?.trim().split('_');
        let (gpu, trt_version, cuda) = (parts.next()?, parts.next()?, parts.next()?);
        let is_version = trt_version.contains('.') && major(trt_version).is_some();
        (!gpu.is_empty() && is_version).then_some(Self { gpu, trt_version, cuda_major: major(cuda)? })
    }
}

/// Returns the major number of a version: 12 of `12` and `12.4`.
fn major(version: &str) -> Option<u32> {
    version.trim().split('.').next()?.parse().ok()
}

/// Returns the facts of the backend that a profile's tags name.
pub(super) fn runtime_of(tags: &Tags) -> &'static backend::Facts {
    let named = backend_of_tags(tags).or_else(|| PlanKey::of_tags(tags).map(|_| "tensorrt"));
    backend::facts_of_tag(&named.unwrap_or_default().to_lowercase())
}

impl Requirement<'_> {
    /// Returns whether the tags require no particular GPU.
    pub(super) fn is_generic(&self) -> bool {
        self.gpu.is_none()
            && self.pci_id.is_none()
            && self.compute_capabilities.is_none()
            && self.product_name_regex.is_none()
            && self.from_capability.is_none()
    }

    /// Returns whether it is a plan tuned on some GPU, and no tag says on which.
    pub(super) fn is_for_unknown_gpu(&self) -> bool {
        self.is_generic() && !self.is_built_at_start && self.runtime.builds == Builds::OnTheDevice
    }
}

/// Reads tags. A tag that can't be read is kept: it becomes the reason why the profile doesn't fit.
pub(super) fn of_tags(tags: &Tags) -> Requirement<'_> {
    let tag = |key: &str| tags.get(key).map(|value| value.trim()).filter(|value| !value.is_empty());
    let key = PlanKey::of_tags(tags);
    let gpu = tag("gpu").or(key.as_ref().map(|key| key.gpu)).map(|name| (name, gpu::named(name)));
    let pci_id = tag("gpu_device").map(gpu::full_pci_id);
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
        trt_major: tag("trt_version").or(key.as_ref().map(|key| key.trt_version)).and_then(major),
        cuda_major: tag("cuda_major_version").and_then(major).or(key.map(|key| key.cuda_major)),
        from_capability: is_set(tags, "ampereplus").then_some(ComputeCapability::new(8, 0)),
        is_built_at_start: is_set(tags, "trtllm_buildable")
            || tag("model_type").is_some_and(|kind| kind.eq_ignore_ascii_case("rmir")),
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

/// A problem with a selector in the tags; the string is the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SelectorProblem {
    /// It names an unknown GPU.
    UnknownGpu(String),
    /// Two selectors name different GPUs, and one wins.
    Contradiction(String),
    /// No known GPU satisfies it, or it can't be read.
    Unreachable(String),
    /// It looks like a selector, and selection doesn't read it.
    NotRead(String),
    /// NVIDIA's Kubernetes operator finds no node for it.
    NoNode(String),
}

/// Words in names of tags that are about hardware.
const HARDWARE_WORDS: [&str; 12] =
    ["gpu", "gpus", "cuda", "sm", "arch", "compute", "capability", "device", "driver", "trt", "mig", "vram"];

/// Tags with such words that selection reads, or that say nothing of where a profile runs.
const READ_TAGS: [&str; 8] = [
    "gpu",
    "gpu_device",
    "compute_capability",
    "cuda_major_version",
    "trt_version",
    "number_of_gpus",
    "trtllm_buildable",
    "product_name_regex",
];

/// Returns the problems of tags that look like selectors and that selection doesn't read.
fn tags_not_read(tags: &Tags) -> impl Iterator<Item = SelectorProblem> {
    let about_hardware = |key: &str| {
        let key = key.to_lowercase();
        let mut words = key.split(|c: char| !c.is_ascii_alphanumeric());
        words.any(|word| HARDWARE_WORDS.contains(&word))
    };
    let not_read =
        tags.iter().filter(move |(key, _)| !READ_TAGS.contains(&key.as_str()) && about_hardware(key));
    not_read.map(|(key, value)| {
        SelectorProblem::NotRead(format!(
            "tag {key}={value} looks like hardware, but selection doesn't read it"
        ))
    })
}

/// Returns why NVIDIA's Kubernetes operator finds no node for a profile whose tag `gpu` names known GPUs.
///
/// The operator takes a node if the tag `gpu` or `key` is a part of the node's label, ignoring case, or if
/// `product_name_regex` matches it; its engine, Go's, has no look-around and no back-references.
fn found_on_no_node(tags: &Tags, named: &[&'static Gpu]) -> Option<SelectorProblem> {
    let part = |key: &str| tags.get(key).filter(|part| !part.is_empty()).map(|part| part.to_lowercase());
    let parts: Vec<String> = [part("gpu")?].into_iter().chain(part("key")).collect();
    let pattern = tags.get("product_name_regex").filter(|pattern| !pattern.is_empty());
    let regex = pattern.and_then(|pattern| {
        let limited = regex::RegexBuilder::new(pattern).size_limit(COMPILED_LIMIT_BYTES).build();
        limited.ok().filter(|_| pattern.len() <= PATTERN_LIMIT_BYTES)
    });
    let finds = |label: &String| {
        let lower = label.to_lowercase();
        parts.iter().any(|part| lower.contains(part))
            || regex.as_ref().is_some_and(|regex| regex.is_match(label))
    };
    let labels: Vec<String> = named.iter().flat_map(|gpu| gpu.node_labels()).collect();
    let example = labels.first().filter(|_| !labels.iter().any(finds))?;
    let why_not = match (pattern, &regex) {
        (None, _) => "add the tag product_name_regex",
        (Some(_), None) => {
            "Go's regular expressions, which it uses, have no look-around and no back-references"
        }
        (Some(_), Some(_)) => "product_name_regex doesn't match it",
    };
    Some(SelectorProblem::NoNode(format!(
        "NVIDIA's Kubernetes operator finds no node for it: the label of such a node is {example}; {why_not}"
    )))
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
        let tag = if tags.contains_key("gpu") { "gpu" } else { "key" };
        problems.push(SelectorProblem::UnknownGpu(format!("tag {tag}={name} names no known GPU{nearest}")));
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
            let mut labels = gpu::known().iter().flat_map(Gpu::node_labels);
            let mut failed = None;
            let any = labels.any(|label| match regex.is_match(&label) {
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
    problems.extend(tags_not_read(tags));
    problems.extend(found_on_no_node(tags, named));
    if requirement.is_for_unknown_gpu() {
        let message =
            "a TensorRT plan runs only on the GPU that it was built on, and no tag says which that is";
        problems.push(SelectorProblem::NotRead(message.into()));
    }
    problems
}
