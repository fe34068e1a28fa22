//! The GPUs that we know by name, from one data file (`known_gpus.yaml`).
//!
//! A recipe names a GPU; the data file says which compute capability that is. Nothing else in the program has a list
//! of GPUs.

use std::sync::LazyLock;

use serde::Deserialize;

use crate::compute_capability::ComputeCapability;

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
    /// Memory on the product's data sheet, in GiB.
    pub memory_gib: u32,
    /// PCI ids as `device:vendor`, where they were checked.
    #[serde(default)]
    pub pci_ids: Vec<String>,
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
    gpus: Vec<Gpu>,
}

static KNOWN: LazyLock<Vec<Gpu>> = LazyLock::new(|| {
    let data: DataFile =
        serde_saphyr::from_str(include_str!("known_gpus.yaml")).expect("a test parses the data file");
    assert_eq!(data.schema, "nimctl.known-gpus/1");
    data.gpus
});

/// Returns every known GPU, in the order of the data file.
pub fn known() -> &'static [Gpu] {
    &KNOWN
}

/// Finds a GPU by name, alias or product name, without regard to case and separators.
///
/// # Errors
/// The nearest known names, if there is none.
pub fn find(name: &str) -> Result<&'static Gpu, UnknownGpu> {
    let wanted = folded(name);
    let spellings = |gpu: &'static Gpu| [&gpu.name].into_iter().chain(&gpu.aliases).chain(&gpu.product_names);
    if let Some(gpu) = known().iter().find(|gpu| spellings(gpu).any(|spelling| folded(spelling) == wanted)) {
        return Ok(gpu);
    }
    let likeness = |gpu: &'static Gpu| {
        spellings(gpu).map(|spelling| strsim::jaro_winkler(&folded(spelling), &wanted)).fold(0.0, f64::max)
    };
    let mut by_likeness: Vec<(f64, &Gpu)> = known().iter().map(|gpu| (likeness(gpu), gpu)).collect();
    by_likeness.sort_by(|(a, gpu_a), (b, gpu_b)| b.total_cmp(a).then_with(|| gpu_a.name.cmp(&gpu_b.name)));
    Err(UnknownGpu {
        name: name.into(),
        nearest: by_likeness.into_iter().take(4).map(|(_, gpu)| gpu.name.clone()).collect(),
    })
}

fn folded(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, ' ' | '-' | '_')).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn data_file_is_sound() {
        let mut spellings = BTreeSet::new();
        for gpu in known() {
            let own: BTreeSet<String> = [&gpu.name]
                .into_iter()
                .chain(&gpu.aliases)
                .chain(&gpu.product_names)
                .map(|s| folded(s))
                .collect();
            for spelling in own {
                assert!(spellings.insert(spelling.clone()), "{spelling} names two GPUs");
            }
        }
    }

    #[test]
    fn spellings() {
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
        assert!(find("rtx-4900").unwrap_err().nearest.contains(&"rtx-4090".to_owned()));
    }
}
