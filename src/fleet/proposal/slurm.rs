//! A fleet file for a cluster, from what Slurm says of its nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use super::{backends, begin, free_name, quoted};
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
pub fn propose_slurm(lines: &[NodeLine], shared: &Path) -> String {
    let mut kinds: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for NodeLine { partition, node, gres } in lines {
        for kind in types(gres) {
            kinds.entry((kind, partition.clone())).or_default().insert(node.clone());
        }
    }
    let mut text = begin("what Slurm says. Check the GPUs, and name the compilers' libraries");
    if kinds.is_empty() {
        text.push_str("  # Slurm lists no GPU with a type (Gres=gpu:TYPE:COUNT).\n  {}\n");
    }
    let mut names = BTreeSet::new();
    for ((kind, partition), nodes) in &kinds {
        let name = free_name(&mut names, kind, Some(partition));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{Engine, Fleet};

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
        let text = propose_slurm(&lines, Path::new("/scratch/it's"));
        let l4 = "  l4:\n    slurm:\n      shared: '/scratch/it''s'\n      partition: 'gpu'\n      gres: 'gpu:l4:1'\n      nodes: 1 # n2\n    \
                  offers:\n      gpus: [l4]\n      backends: [tensorrt-rtx, tensorrt]\n";
        assert!(text.contains(l4), "{text}");
        assert!(text.contains("gpus: [] # nimctl knows no GPU by the type `strange`"), "{text}");
        assert!(text.contains("# keep what these nodes have\n      backends: [tensorrt]\n"), "{text}");
        let fleet = Fleet::parse(&text, "f").unwrap();
        let names: Vec<&str> = fleet.executors.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["h100", "h100-urgent", "l4", "strange"]);
        let Engine::Slurm(slurm) = &fleet.executors.get("h100").unwrap().engine else { panic!("{fleet:?}") };
        assert_eq!(slurm.nodes, 2);
    }

    #[test]
    fn a_cluster_without_gpus_is_told() {
        let text = propose_slurm(&[line("cpu", "n4", "(null)"), line("cpu", "n5", "gpu:2")], Path::new("/s"));
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
