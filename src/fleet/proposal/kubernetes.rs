//! A fleet file for a cluster of Kubernetes, from the labels of GPU feature discovery.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::{backends, begin, free_name, quoted};
use crate::gpu::{self, Gpu};

/// What GPU feature discovery adds to the label of a GPU that is shared in time.
const SHARED: &str = "-SHARED";

/// A node with GPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuNode {
    /// The node.
    pub node: String,
    /// Its label `nvidia.com/gpu.product`.
    pub product: String,
    /// The keys of its taints that keep other pods away from GPUs.
    pub taints: Vec<String>,
}

/// What the cluster's nodes don't say.
#[derive(Clone, Copy, Debug)]
pub struct KubernetesSite<'a> {
    /// The context of `kubectl`.
    pub context: Option<&'a str>,
    /// The namespace of the Jobs.
    pub namespace: Option<&'a str>,
    /// The image of the pods.
    pub image: &'a str,
    /// The repository that requests and results travel through.
    pub exchange: &'a str,
}

/// Returns the text of a fleet file with an executor for every product that nodes are labelled with.
pub fn propose_kubernetes(nodes: &[GpuNode], site: KubernetesSite<'_>) -> String {
    let KubernetesSite { context, namespace, image, exchange } = site;
    let mut products: BTreeMap<&str, Vec<&GpuNode>> = BTreeMap::new();
    for node in nodes {
        products.entry(&node.product).or_default().push(node);
    }
    let mut text = begin("the labels of the nodes. Check the GPUs, and what the image has");
    if products.is_empty() {
        text.push_str(
            "  # No node has the label nvidia.com/gpu.product: is GPU feature discovery installed?\n  {}\n",
        );
    }
    let mut names = BTreeSet::new();
    for (product, nodes) in &products {
        let gpu = gpu_of(product);
        let kind = gpu.map_or_else(|| product.trim_start_matches("NVIDIA-"), |gpu| &gpu.name);
        let name = free_name(&mut names, kind, None);
        let _ = writeln!(text, "  {name}:\n    kubernetes:");
        for (key, value) in [("context", context), ("namespace", namespace)] {
            if let Some(value) = value {
                let _ = writeln!(text, "      {key}: {}", quoted(value));
            }
        }
        let _ = writeln!(text, "      image: {}\n      exchange: {}", quoted(image), quoted(exchange));
        let _ = writeln!(text, "      node_selector:\n        nvidia.com/gpu.product: {}", quoted(product));
        let taints: BTreeSet<&String> = nodes.iter().flat_map(|node| &node.taints).collect();
        if !taints.is_empty() {
            text.push_str("      tolerations:\n");
        }
        for taint in taints {
            let _ = writeln!(text, "      - key: {}\n        operator: Exists", quoted(taint));
        }
        let listed: Vec<&str> = nodes.iter().map(|node| node.node.as_str()).collect();
        let _ = writeln!(text, "      nodes: {} # {}", nodes.len(), listed.join(", "));
        text.push_str("    offers:\n");
        let gpus: Vec<&Gpu> = gpu.into_iter().collect();
        match gpu {
            Some(gpu) => _ = writeln!(text, "      gpus: [{}]", gpu.name),
            None if product.contains("-MIG-") => {
                text.push_str("      gpus: [] # an instance of MIG is no GPU that recipes know: use a node without MIG\n");
            }
            None => {
                let _ = writeln!(
                    text,
                    "      gpus: [] # nimctl knows no GPU by the label `{product}`: write its name here"
                );
            }
        }
        let _ = writeln!(text, "      backends: [{}]", backends(&gpus).join(", "));
    }
    text
}

/// Returns the GPU that a label means.
fn gpu_of(label: &str) -> Option<&'static Gpu> {
    let label = label.strip_suffix(SHARED).unwrap_or(label);
    gpu::known().iter().find(|gpu| gpu.node_labels().iter().any(|known| known.eq_ignore_ascii_case(label)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{Engine, Fleet};

    fn node(node: &str, product: &str, taints: &[&str]) -> GpuNode {
        let taints = taints.iter().map(|&key| key.to_owned()).collect();
        GpuNode { node: node.into(), product: product.into(), taints }
    }

    const SITE: KubernetesSite<'_> = KubernetesSite {
        context: Some("prod"),
        namespace: None,
        image: "registry.example/nimctl:1",
        exchange: "oci://registry.example/scratch",
    };

    #[test]
    fn every_product_is_an_executor() {
        let nodes = [
            node("n1", "NVIDIA-L4", &["nvidia.com/gpu"]),
            node("n2", "NVIDIA-L4", &["nvidia.com/gpu"]),
            node("n3", "NVIDIA-H100-80GB-HBM3-SHARED", &[]),
            node("n4", "NVIDIA-A100-SXM4-40GB-MIG-1g.5gb", &[]),
            node("n5", "NVIDIA-Strange", &[]),
        ];
        let text = propose_kubernetes(&nodes, SITE);
        let fleet = Fleet::parse(&text, "f").unwrap();
        let offered: Vec<(&str, Vec<String>)> = fleet
            .executors
            .iter()
            .map(|(name, executor)| (name, executor.offers.gpus.clone().unwrap()))
            .collect();
        assert_eq!(
            offered,
            [
                ("a100-sxm4-40gb-mig-1g-5gb", vec![]),
                ("h100-sxm", vec!["h100-sxm".to_owned()]),
                ("l4", vec!["l4".to_owned()]),
                ("strange", vec![]),
            ]
        );
        let Engine::Kubernetes(l4) = &fleet.executors.get("l4").unwrap().engine else { panic!("{fleet:?}") };
        assert_eq!((l4.nodes, l4.tolerations.len(), l4.context.as_deref()), (2, 1, Some("prod")));
        assert!(text.contains("an instance of MIG is no GPU"), "{text}");
    }

    #[test]
    fn a_cluster_without_labels_is_told() {
        let text = propose_kubernetes(&[], SITE);
        assert!(text.contains("is GPU feature discovery installed?"), "{text}");
        Fleet::parse(&text, "f").unwrap();
    }
}
