//! The known GPUs, from one data file (`known_gpus.yaml`).
//!
//! A recipe names a GPU; the data file says which compute capability it has. nimctl has no other list of GPUs.

#[cfg(test)]
mod id_blocks;
mod node_label;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use serde::Deserialize;

use crate::compute_capability::ComputeCapability;

pub use node_label::node_label;

/// One product of the data file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gpu {
    /// The name that recipes, tags and messages use: `rtx-4090`.
    pub name: String,
    /// What the driver calls it: `NVIDIA GeForce RTX 4090`.
    pub product_names: Vec<String>,
    /// Other spellings that people use.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// NVIDIA's name for the generation, in lower case.
    pub architecture: String,
    /// Its compute capability.
    pub compute_capability: ComputeCapability,
    /// Memory on the product's data sheet, in GiB; the largest, where one name has several.
    pub memory_gib: u32,
    /// PCI ids as `device:vendor`, where they were checked.
    #[serde(default)]
    pub pci_ids: Vec<String>,
    /// The PCI ids of product names that have one of their own, where the product has several.
    #[serde(default)]
    pub ids_of_names: BTreeMap<String, String>,
    /// Memory in GiB of product names that have less than `memory_gib` and don't say so.
    #[serde(default)]
    pub sizes_of_names: BTreeMap<String, u32>,
    /// Whether CPU and GPU share their memory.
    #[serde(default)]
    pub unified_memory: bool,
    /// Names for several products, including this one: `h100`.
    #[serde(default)]
    pub families: Vec<String>,
    /// Where the compute capability and the PCI ids are from: keys of [`sources`].
    #[serde(default)]
    pub sources: Vec<String>,
}

/// A GPU name that the data file doesn't have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown GPU `{name}`; the nearest known names are {}", .nearest.join(", "))]
pub struct UnknownGpu {
    /// What was asked for.
    pub name: String,
    /// Known names, nearest first.
    pub nearest: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DataFile {
    schema: String,
    sources: BTreeMap<String, String>,
    gpus: Vec<Gpu>,
}

static KNOWN: LazyLock<DataFile> = LazyLock::new(|| {
    let data: DataFile =
        serde_saphyr::from_str(include_str!("known_gpus.yaml")).expect("a test parses the data file");
    assert_eq!(data.schema, "nimctl.known-gpus/1");
    data
});

impl Gpu {
    /// Returns the memory of the product with one of its names, in GiB: 40 of `NVIDIA A100-SXM4-40GB`.
    pub fn size_of_name_gib(&self, product_name: &str) -> u32 {
        let in_name =
            || product_name.split([' ', '-']).find_map(|word| word.strip_suffix("GB")?.parse().ok());
        let size = self.sizes_of_names.get(product_name).copied().or_else(in_name);
        // The size in a name may be that of the CPU's memory: GH200 480GB.
        size.unwrap_or(self.memory_gib).min(self.memory_gib)
    }

    /// Returns the memory of the product with one of its PCI ids, in GiB.
    fn size_of_id_gib(&self, pci_id: &str) -> u32 {
        let name = self.ids_of_names.iter().find(|(_, id)| **id == full_pci_id(pci_id)).map(|(name, _)| name);
        name.map_or(self.memory_gib, |name| self.size_of_name_gib(name))
    }
}

/// Returns every known GPU, in the order of the data file.
pub fn known() -> &'static [Gpu] {
    &KNOWN.gpus
}

/// Returns the sources that the known GPUs name, by key.
pub fn sources() -> &'static BTreeMap<String, String> {
    &KNOWN.sources
}

/// Finds a GPU by PCI id, `device:vendor` in hexadecimal: `2330:10de`. An id without a vendor is NVIDIA's.
///
/// Ids that several products share are not listed.
pub fn by_pci_id(id: &str) -> Option<&'static Gpu> {
    let id = full_pci_id(id);
    known().iter().find(|gpu| gpu.pci_ids.contains(&id))
}

/// Writes a PCI id as `device:vendor` in lower case: `2330` and `0x2330` become `2330:10de`.
pub fn full_pci_id(id: &str) -> String {
    let id = id.trim().to_lowercase();
    let id = id.strip_prefix("0x").unwrap_or(&id);
    if id.contains(':') { id.to_owned() } else { format!("{id}:10de") }
}

/// Finds a GPU by the driver's product name, ignoring case, separators and a leading `NVIDIA`.
pub fn by_product_name(name: &str) -> Option<&'static Gpu> {
    let wanted = bare(name);
    known().iter().find(|gpu| gpu.product_names.iter().any(|product| bare(product) == wanted))
}

/// Finds a GPU by its name in the data file.
pub fn by_name(name: &str) -> Option<&'static Gpu> {
    known().iter().find(|gpu| gpu.name == name)
}

/// Finds the GPU that a driver reports: by its product name, else by its PCI id, since one id may stand for several laptop
/// GPUs. A virtual GPU has the PCI id of the physical one, but is not a known GPU.
pub fn identified(product_name: Option<&str>, pci_id: Option<&str>) -> Option<&'static Gpu> {
    if product_name.is_some_and(is_virtual_name) {
        return None;
    }
    product_name.and_then(by_product_name).or_else(|| pci_id.and_then(by_pci_id))
}

/// Returns whether a name is that of a virtual GPU: `GRID A100-10C`, `NVIDIA A10-24Q`, `NVIDIA A100-1-5CME`.
pub fn is_virtual_name(name: &str) -> bool {
    name.starts_with("GRID ") || name.starts_with("NVIDIA GRID ") || virtual_size_gib(name).is_some()
}

/// Returns the size at the end of a virtual GPU's name, in GiB: 24 of `NVIDIA A10-24Q`.
fn virtual_size_gib(name: &str) -> Option<u32> {
    let (_, last) = name.rsplit_once('-')?;
    let kind = last.trim_start_matches(|c: char| c.is_ascii_digit());
    let size = &last[..last.len() - kind.len()];
    size.parse().ok().filter(|_| kind.starts_with(['A', 'B', 'C', 'Q']))
}

/// Returns the physical GPU that a virtual one is all of, by its name and PCI id: `NVIDIA L40S-48Q` has all memory and
/// multiprocessors of an L40S. One on a MIG instance (`GRID A100D-1-10C`) or with less memory is a part.
pub fn whole_of_virtual(name: &str, pci_id: &str) -> Option<&'static Gpu> {
    let on_instance = || {
        let mut parts = name.rsplit('-').skip(1);
        parts.next().is_some_and(|part| part.parse::<u8>().is_ok())
    };
    let physical = by_pci_id(pci_id)?;
    let is_whole = virtual_size_gib(name) == Some(physical.size_of_id_gib(pci_id)) && !on_instance();
    is_whole.then_some(physical)
}

/// Returns every GPU that a name may mean, in the order of the data file; empty if it is unknown.
///
/// The name may be a name, alias, product name or family, compared ignoring case, separators and a leading `NVIDIA`, as
/// in NIM's tags: `H100`, `L40S`, `RTX4090`.
pub fn named(name: &str) -> Vec<&'static Gpu> {
    NAMES.get(&bare(name)).cloned().unwrap_or_default()
}

/// GPUs by every name that may mean them, since a manifest has many names to look up.
static NAMES: LazyLock<BTreeMap<String, Vec<&'static Gpu>>> = LazyLock::new(|| {
    let mut names: BTreeMap<String, Vec<&'static Gpu>> = BTreeMap::new();
    for gpu in known() {
        let own: BTreeSet<String> = spellings(gpu).chain(&gpu.families).map(|name| bare(name)).collect();
        own.into_iter().for_each(|name| names.entry(name).or_default().push(gpu));
    }
    names
});

/// Finds a GPU by name, alias or product name, ignoring case and separators.
///
/// # Errors
/// The nearest known names, if there is none.
pub fn find(name: &str) -> Result<&'static Gpu, UnknownGpu> {
    let wanted = folded(name);
    if let Some(gpu) = known().iter().find(|gpu| spellings(gpu).any(|spelling| folded(spelling) == wanted)) {
        return Ok(gpu);
    }
    let wanted_words = words(name);
    // What words they share counts more than how alike they look: an H100 is no A100.
    let likeness = |gpu: &'static Gpu| {
        let of = |spelling: &String| {
            let own = words(spelling);
            let shared = wanted_words.iter().filter(|word| own.contains(*word));
            let weight: u32 = shared.map(|word| weight(word)).sum();
            f64::from(weight) + strsim::jaro_winkler(&folded(spelling), &wanted)
        };
        spellings(gpu).map(of).fold(0.0, f64::max)
    };
    let mut by_likeness: Vec<(f64, &Gpu)> = known().iter().map(|gpu| (likeness(gpu), gpu)).collect();
    by_likeness.sort_by(|(a, gpu_a), (b, gpu_b)| b.total_cmp(a).then_with(|| gpu_a.name.cmp(&gpu_b.name)));
    Err(UnknownGpu {
        name: name.into(),
        nearest: by_likeness.into_iter().take(4).map(|(_, gpu)| gpu.name.clone()).collect(),
    })
}

/// Returns whether two names of GPUs differ only in case, separators and a leading `NVIDIA`.
pub fn same_name(a: &str, b: &str) -> bool {
    bare(a) == bare(b)
}

/// Returns the words of a name, each once.
fn words(name: &str) -> BTreeSet<String> {
    name.to_lowercase().split([' ', '-', '_']).map(str::to_owned).collect()
}

/// Returns how much a word says of which GPU is meant: a model number more than a series or a size.
fn weight(word: &str) -> u32 {
    let is_size = word.strip_suffix("gb").is_some_and(|size| size.parse::<u32>().is_ok());
    match word {
        "" | "nvidia" => 0,
        _ if word.bytes().any(|byte| byte.is_ascii_digit()) && !is_size => 4,
        _ => 1,
    }
}

/// Returns the names of this GPU only: its name, its aliases and its product names.
fn spellings(gpu: &Gpu) -> impl Iterator<Item = &String> {
    [&gpu.name].into_iter().chain(&gpu.aliases).chain(&gpu.product_names)
}

/// Folds a name and removes a leading `NVIDIA`.
fn bare(name: &str) -> String {
    let name = folded(name);
    name.strip_prefix("nvidia").map_or_else(|| name.clone(), str::to_owned)
}

fn folded(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, ' ' | '-' | '_')).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_file_is_sound() {
        assert!(known().len() >= 120, "{}", known().len());
        let (mut used, mut ids) = (BTreeSet::new(), BTreeSet::new());
        for gpu in known() {
            let own: BTreeSet<String> = spellings(gpu).map(|s| bare(s)).collect();
            for spelling in own {
                assert!(used.insert(spelling.clone()), "{spelling} names two GPUs");
            }
            let hex =
                |text: &str| text.len() == 4 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            for id in &gpu.pci_ids {
                assert!(id.strip_suffix(":10de").is_some_and(hex), "{id}");
                assert!(ids.insert(id), "{id} is two GPUs'");
            }
            for (name, id) in &gpu.ids_of_names {
                assert!(gpu.product_names.contains(name) && gpu.pci_ids.contains(id), "{name}: {id}");
            }
            for (name, size_gib) in &gpu.sizes_of_names {
                assert!(gpu.product_names.contains(name) && *size_gib < gpu.memory_gib, "{name}");
            }
            assert!(!gpu.sources.is_empty(), "{}", gpu.name);
            assert!(gpu.sources.iter().all(|key| sources().contains_key(key)), "{:?}", gpu.sources);
            let architecture = match gpu.compute_capability.sm() {
                60 | 61 => "pascal",
                70 => "volta",
                75 => "turing",
                80 | 86 | 87 => "ampere",
                89 => "ada",
                90 => "hopper",
                100 | 103 | 110 | 120 | 121 => "blackwell",
                _ => "",
            };
            assert_eq!(gpu.architecture, architecture, "{}", gpu.name);
        }
    }

    #[test]
    fn pci_ids() {
        for (id, expected) in [
            ("26b5:10de", Some("l40")),
            ("26B9:10DE", Some("l40s")),
            ("2237:10de", Some("a10g")),
            ("20b0:10de", Some("a100-sxm")),
            ("20b5:10de", Some("a100-pcie")),
            ("2321:10de", Some("h100-nvl")),
            ("2335:10de", Some("h200")),
            ("233b:10de", Some("h200-nvl")),
            ("2330", Some("h100-sxm")),
            ("0x20B0", Some("a100-sxm")),
            ("25b6:10de", None),
            ("2330:1002", None),
            ("", None),
        ] {
            assert_eq!(by_pci_id(id).map(|gpu| gpu.name.as_str()), expected, "{id}");
        }
    }

    #[test]
    fn product_names() {
        for (name, expected) in [
            ("NVIDIA H100 80GB HBM3", Some("h100-sxm")),
            ("nvidia_h200", Some("h200")),
            ("GeForce RTX 4090", Some("rtx-4090")),
            ("NVIDIA GeForce RTX 4090 Laptop GPU", Some("rtx-4090-laptop")),
            ("NVIDIA Tesla T4", Some("t4")),
            ("NVIDIA GB10", Some("gb10")),
            ("NVIDIA H100", Some("h100-sxm-94gb")),
            ("NVIDIA PG509-210", Some("a100-sxm")),
            ("h100-sxm", None),
            ("NVIDIA", None),
        ] {
            assert_eq!(by_product_name(name).map(|gpu| gpu.name.as_str()), expected, "{name}");
        }
    }

    #[test]
    fn whole_virtual_gpus() {
        for (name, id, expected) in [
            ("NVIDIA L40S-48Q", "26b9:10de", Some("l40s")),
            ("GRID T4-16C", "1eb8", Some("t4")),
            ("NVIDIA A100-40C", "20f1:10de", Some("a100-pcie")),
            ("GRID A100D-80C", "20b5:10de", Some("a100-pcie")),
            ("NVIDIA A100-40C", "20b5:10de", None),
            ("NVIDIA L40S-24Q", "26b9:10de", None),
            ("GRID A100D-7-80C", "20b5:10de", None),
            ("NVIDIA L40S-48Q", "ffff:10de", None),
            ("NVIDIA L40S", "26b9:10de", None),
        ] {
            assert_eq!(whole_of_virtual(name, id).map(|gpu| gpu.name.as_str()), expected, "{name}");
        }
    }

    #[test]
    fn names_of_several() {
        let h100: &[&str] = &["h100-sxm", "h100-pcie", "h100-nvl", "h100-sxm-94gb"];
        for (name, expected) in [
            ("H100", h100),
            ("NVIDIA H100", h100),
            ("A100", &["a100-sxm", "a100-pcie"]),
            ("H200", &["h200", "h200-nvl"]),
            ("h100-nvl", &["h100-nvl"]),
            ("L40S", &["l40s"]),
            ("RTX4090", &["rtx-4090"]),
            ("Orin (nvgpu)", &["jetson-agx-orin", "jetson-orin-nx", "jetson-orin-nano"]),
            ("mi300x", &[]),
        ] {
            assert_eq!(
                named(name).iter().map(|gpu| gpu.name.as_str()).collect::<Vec<_>>(),
                expected,
                "{name}"
            );
        }
        assert!(find("A100").is_err(), "a family is no alias");
    }

    #[test]
    fn one_gpu_has_several_spellings() {
        for (name, expected) in [
            ("l40s", "l40s"),
            ("RTX 4090", "rtx-4090"),
            ("NVIDIA H100 80GB HBM3", "h100-sxm"),
            ("A6000_Ada", "rtx-6000-ada"),
        ] {
            assert_eq!(find(name).unwrap().name, expected);
        }
    }

    #[test]
    fn nearest_names_are_offered() {
        let error = find("h100").unwrap_err();
        assert!(error.nearest[..3].iter().all(|name| name.starts_with("h100-")), "{error}");
        for (name, nearest) in [
            ("rtx-4900", "rtx-4090"),
            ("H100 96GB", "h100-sxm"),
            ("NVIDIA H100 96GB HBM3", "h100-sxm"),
            ("RTX 4090 Ti", "rtx-4090"),
            ("5090", "rtx-5090"),
            ("Tesla V100", "v100-sxm"),
            ("nvidia-l4-24gb", "l4"),
            ("RTX 6000", "rtx-6000-ada"),
        ] {
            assert!(find(name).unwrap_err().nearest.contains(&nearest.to_owned()), "{name}");
        }
        for name in ["H100 96GB", "H100-80GB"] {
            let error = find(name).unwrap_err();
            assert!(error.nearest.iter().all(|name| name.starts_with("h100-")), "{error}");
        }
    }
}
