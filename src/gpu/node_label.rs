//! Labels of Kubernetes nodes: what GPU feature discovery calls a GPU, and a pattern for all labels of a product.
//!
//! The label `nvidia.com/gpu.product` is the driver's product name with `-` for spaces and without other punctuation:
//! `NVIDIA-A100-SXM4-80GB`. A node whose GPUs are all cut into MIG instances of one kind adds `-MIG-1g.10gb`, and one whose
//! GPUs are shared in time adds `-SHARED`.

use super::Gpu;

/// What a label may add for MIG instances: `-MIG-1g.10gb`.
const MIG: &str = "(-MIG-[0-9a-z.-]+)?";
const SHARED: &str = "(-SHARED)?";

/// Returns a product name in the form of a node's label.
pub fn node_label(product_name: &str) -> String {
    let allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ' ');
    let kept: String = product_name.chars().filter(allowed).collect();
    kept.split_whitespace().collect::<Vec<_>>().join("-")
}

impl Gpu {
    /// Returns the labels of nodes with this GPU, without what MIG and sharing add.
    pub fn node_labels(&self) -> Vec<String> {
        self.product_names.iter().map(|name| node_label(name)).collect()
    }

    /// Returns a pattern that matches every label of nodes with this GPU, and none of other known GPUs; with `mig`, labels of
    /// its MIG instances too. Any engine reads it, Go's included.
    pub fn node_label_pattern(&self, mig: bool) -> String {
        format!("^{}{}{SHARED}$", any_of(&self.node_labels()), if mig { MIG } else { "" })
    }

    /// Returns the PCI id of a product that has exactly one.
    pub fn only_pci_id(&self) -> Option<&str> {
        match self.pci_ids.as_slice() {
            [id] => Some(id),
            _ => None,
        }
    }
}

/// Returns a pattern for labels: the words that all begin and end with, ignoring case, and what differs as optional groups.
///
/// It has no `|`, which separates tags in the string that a profile's id is the digest of. So it also matches labels with none
/// or several of the groups, which no GPU has.
fn any_of(labels: &[String]) -> String {
    let labels: Vec<Vec<&str>> = labels.iter().map(|label| label.split('-').collect()).collect();
    let shortest = labels.iter().map(Vec::len).min().unwrap_or_default();
    let at = |place: usize| -> Vec<&str> { labels.iter().map(|label| label[place]).collect() };
    let from_end =
        |place: usize| -> Vec<&str> { labels.iter().map(|label| label[label.len() - 1 - place]).collect() };
    let begin: Vec<String> = (0..shortest).map_while(|place| any_case(&at(place))).collect();
    let mut end: Vec<String> =
        (0..shortest - begin.len()).map_while(|place| any_case(&from_end(place))).collect();
    end.reverse();
    let mut pattern = begin.join("-");
    for label in &labels {
        let middle = label[begin.len()..label.len() - end.len()].join("-");
        match (middle.is_empty(), begin.is_empty()) {
            (true, _) => {}
            (false, true) => pattern += &format!("({middle}-)?"),
            (false, false) => pattern += &format!("(-{middle})?"),
        }
    }
    if !end.is_empty() && !begin.is_empty() {
        pattern.push('-');
    }
    pattern += &end.join("-");
    pattern.replace('.', "\\.")
}

/// Returns a pattern for spellings that differ only in case: `S[Uu]per`; `None` if they differ in more.
fn any_case(spellings: &[&str]) -> Option<String> {
    let (first, others) = spellings.split_first()?;
    let is_same = others.iter().all(|other| other.eq_ignore_ascii_case(first));
    let any_of_place = |(place, c): (usize, char)| {
        let of_others = || others.iter().filter_map(|other| other.chars().nth(place));
        let differs = of_others().any(|other| other != c);
        if differs { format!("[{}{}]", c.to_ascii_uppercase(), c.to_ascii_lowercase()) } else { c.into() }
    };
    is_same.then(|| first.chars().enumerate().map(any_of_place).collect())
}

#[cfg(test)]
mod tests {
    use regex::Regex;

    use super::super::{find, known};
    use super::*;

    #[test]
    fn labels() {
        for (name, label) in [
            ("NVIDIA A100-SXM4-80GB", "NVIDIA-A100-SXM4-80GB"),
            ("NVIDIA  L4 ", "NVIDIA-L4"),
            ("Orin (nvgpu)", "Orin-nvgpu"),
        ] {
            assert_eq!(node_label(name), label);
        }
    }

    #[test]
    fn patterns() {
        for (name, mig, pattern) in [
            ("l40s", false, "^NVIDIA-L40S(-SHARED)?$"),
            ("h100-sxm", true, "^NVIDIA-H100-80GB-HBM3(-MIG-[0-9a-z.-]+)?(-SHARED)?$"),
            ("a100-pcie", false, "^NVIDIA-A100(-80GB-PCIe)?(-PCIE-40GB)?(-SHARED)?$"),
            ("t4", false, "^(Tesla-)?(NVIDIA-)?T4(-SHARED)?$"),
            (
                "rtx-2070-super",
                false,
                "^NVIDIA-GeForce-RTX-2070-S[Uu][Pp][Ee][Rr](-with-Max-Q-Design)?(-SHARED)?$",
            ),
            ("rtx-pro-5000", false, "^NVIDIA-RTX-PRO-5000(-72GB)?-Blackwell(-SHARED)?$"),
        ] {
            assert_eq!(find(name).unwrap().node_label_pattern(mig), pattern);
        }
    }

    #[test]
    fn each_pattern_matches_its_own_labels_only() {
        for gpu in known() {
            let patterns = [false, true].map(|mig| gpu.node_label_pattern(mig));
            assert!(patterns.iter().all(|pattern| !pattern.contains(['|', ':'])), "{patterns:?}");
            let [whole, mig] = patterns.map(|pattern| Regex::new(&pattern).unwrap());
            for other in known() {
                for label in other.node_labels() {
                    let is_own = other.name == gpu.name;
                    assert_eq!(whole.is_match(&label), is_own, "{whole}: {label}");
                    assert_eq!(mig.is_match(&format!("{label}-SHARED")), is_own, "{mig}: {label}");
                    let instance = format!("{label}-MIG-1g.10gb-SHARED");
                    assert_eq!(mig.is_match(&instance), is_own, "{mig}: {instance}");
                    assert!(!whole.is_match(&instance), "{whole}: {instance}");
                }
            }
        }
    }
}
