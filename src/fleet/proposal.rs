//! A fleet file for a cluster, from what Slurm says of its nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use super::FLEET_SCHEMA;
use crate::backend::{Backend, Builds};
use crate::gpu::{self, Gpu};

/// A node as `sinfo` lists it: once for each of its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeLine {
    /// The partition.
    pub partition: String,
    /// The node.
    pub node: String,
    /// Its generic resources: `gpu:h100:8(S:0-1),gpu:a100:2`.
    pub gres: String,
}

/// Returns the text of a fleet file with an executor for every type of GPU in every partition. What Slurm doesn't say (which of several
/// products a type is, whose libraries the nodes have) is left to the reader, in comments.
pub fn propose(lines: &[NodeLine], shared: &Path) -> String {
    let mut kinds: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for NodeLine { partition, node, gres } in lines {
        for kind in types(gres) {
            kinds.entry((kind, partition.clone())).or_default().insert(node.clone());
        }
    }
    let mut text = format!(
        "# Proposed from what Slurm says. Check the GPUs, and name the compilers' libraries: docs/fleet.md.\nschema: {FLEET_SCHEMA}\nexecutors:\n"
    );
    if kinds.is_empty() {
        text.push_str("  # Slurm lists no GPU with a type (Gres=gpu:TYPE:COUNT).\n  {}\n");
    }
    let mut names = BTreeSet::new();
    for ((kind, partition), nodes) in &kinds {
        let name = free_name(&mut names, kind, partition);
        let gpus = products(kind);
        let _ = writeln!(text, "  {name}:\n    slurm:");
        let _ = writeln!(text, "      shared: {}", quoted(&shared.display().to_string()));
        let _ = writeln!(text, "      partition: {}", quoted(partition));
        let _ = writeln!(text, "      gres: {}", quoted(&format!("gpu:{kind}:1")));
        let listed: Vec<&str> = nodes.iter().map(String::as_str).collect();
        let _ = writeln!(text, "      nodes: {} # {}", nodes.len(), listed.join(", "));
        let _ = writeln!(text, "    offers:");
        match gpus.as_slice() {
            [] => {
                let _ = writeln!(
                    text,
                    "      gpus: [] # nimctl knows no GPU by the type `{kind}`: write its name here"
                );
            }
            [one] => _ = writeln!(text, "      gpus: [{}]", one.name),
            several => {
                let names: Vec<&str> = several.iter().map(|gpu| gpu.name.as_str()).collect();
                let _ = writeln!(text, "      gpus: [{}] # keep what these nodes have", names.join(", "));
            }
        }
        let _ = writeln!(text, "      backends: [{}]", backends(&gpus).join(", "));
    }
    text
}

/// Returns the types of GPU in a list of generic resources.
fn types(gres: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut depth = 0;
    // Sockets stand in parentheses, with commas among them.
    let outside: String = gres
        .chars()
        .filter(|character| {
            depth += usize::from(*character == '(');
            let is_outside = depth == 0;
            depth -= usize::from(*character == ')').min(depth);
            is_outside
        })
        .collect();
    for resource in outside.split(',') {
        let parts: Vec<&str> = resource.split(':').collect();
        if let ["gpu", kind, _] = parts[..]
            && !found.iter().any(|known| known == kind)
        {
            found.push(kind.to_owned());
        }
    }
    found
}

/// Returns the GPUs that a type of Slurm's may be: sites name them freely, and drivers in full.
fn products(kind: &str) -> Vec<&'static Gpu> {
    let words = kind.replace('_', " ");
    if let Ok(gpu) = gpu::find(&words) {
        return vec![gpu];
    }
    let prefix = format!("{}-", kind.to_lowercase().replace('_', "-"));
    gpu::known().iter().filter(|gpu| gpu.name.starts_with(&prefix)).collect()
}

/// Returns the backends that build for all of some GPUs.
fn backends(gpus: &[&Gpu]) -> Vec<String> {
    let (ahead, on_device) = (Backend::ahead_of_time(), Backend::on_the_device());
    let builds_ahead = |gpu: &&Gpu| match ahead.facts().builds {
        Builds::AheadOfTime(capabilities) => capabilities.contains(&gpu.compute_capability),
        _ => false,
    };
    let mut names = vec![on_device.name().to_owned()];
    if !gpus.is_empty() && gpus.iter().all(builds_ahead) {
        names.insert(0, ahead.name().to_owned());
    }
    names
}

/// Returns a name for an executor that no other has.
fn free_name(names: &mut BTreeSet<String>, kind: &str, partition: &str) -> String {
    let plain = |text: &str| {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        text.chars().map(plain).collect::<String>()
    };
    let wishes = [plain(kind), format!("{}-{}", plain(kind), plain(partition))];
    let numbered = (2..).map(|number| format!("{}-{number}", wishes[1]));
    let found = wishes.iter().cloned().chain(numbered).find(|name| !names.contains(name)).unwrap_or_default();
    names.insert(found.clone());
    found
}

/// Returns a word as YAML reads it.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::Fleet;

    fn line(partition: &str, node: &str, gres: &str) -> NodeLine {
        NodeLine { partition: partition.into(), node: node.into(), gres: gres.into() }
    }

    #[test]
    fn every_type_in_every_partition_is_an_executor() {
        let lines = [
            line("gpu", "n1", "gpu:h100:8(S:0-1)"),
            line("gpu", "n2", "gpu:h100:8(S:0,1),gpu:l4:2"),
            line("urgent", "n1", "gpu:h100:8(S:0-1)"),
            line("old", "n3", "gpu:strange:1,license:4"),
            line("cpu", "n4", "(null)"),
        ];
        let text = propose(&lines, Path::new("/scratch/it's"));
        let l4 = "  l4:\n    slurm:\n      shared: '/scratch/it''s'\n      partition: 'gpu'\n      gres: 'gpu:l4:1'\n      nodes: 1 # n2\n    \
                  offers:\n      gpus: [l4]\n      backends: [tensorrt-rtx, tensorrt]\n";
        assert!(text.contains(l4), "{text}");
        assert!(text.contains("gpus: [] # nimctl knows no GPU by the type `strange`"), "{text}");
        assert!(text.contains("# keep what these nodes have\n      backends: [tensorrt]\n"), "{text}");
        let fleet = Fleet::parse(&text, "f").unwrap();
        let names: Vec<&str> = fleet.executors.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["h100", "h100-urgent", "l4", "strange"]);
        assert_eq!(fleet.executors.get("h100").unwrap().slurm.nodes, 2);
    }

    #[test]
    fn a_cluster_without_gpus_is_told() {
        let text = propose(&[line("cpu", "n4", "(null)"), line("cpu", "n5", "gpu:2")], Path::new("/s"));
        assert!(text.contains("lists no GPU with a type"), "{text}");
        Fleet::parse(&text, "f").unwrap();
    }

    #[test]
    fn types_are_products_or_the_beginning_of_some() {
        let names = |kind: &str| products(kind).into_iter().map(|gpu| gpu.name.clone()).collect::<Vec<_>>();
        assert_eq!(names("l4"), ["l4"]);
        assert_eq!(names("nvidia_h100_80gb_hbm3"), ["h100-sxm"]);
        assert!(names("h100").len() > 1 && names("h100").iter().all(|name| name.starts_with("h100-")));
        assert!(names("strange").is_empty());
    }
}
