//! What came of comparing a lowered graph, emulated, with its FP32 graph: data alone; [`crate::ops::precision_check`] runs them.

use serde::{Deserialize, Serialize};

/// The comparison of a lowered graph with its FP32 graph.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrecisionCheck {
    /// The min cosine between a row of an output in FP32 and the same row lowered: that of validation.
    pub gate: f64,
    /// Every output in every shape that was run.
    pub outputs: Vec<CheckedOutput>,
    /// The shapes that were not run.
    pub skipped: Vec<SkippedShapes>,
    /// Where the two graphs part ways; absent if every output passed.
    pub parting: Option<Parting>,
}

/// One output in one shape.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckedOutput {
    /// `opt` or `max`.
    pub shapes: String,
    /// The output.
    pub output: String,
    /// The min cosine of its rows; -1 for a row that is not finite or a shape that differs.
    pub row_cosine: f64,
}

/// Shapes that were not run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SkippedShapes {
    /// `max`.
    pub shapes: String,
    /// Why, in words.
    pub reason: String,
}

/// Where two graphs part ways, and what brings them together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parting {
    /// The shapes that they were compared in.
    pub shapes: String,
    /// The first nodes whose outputs fall below the gate, in the order in which they were found.
    pub nodes: Vec<PartingNode>,
    /// Nodes that bring every output above the gate if they stay in FP32; empty if none were found in time.
    pub keep_nodes: Vec<String>,
    /// Operators all of whose lowered nodes are among those to keep: they stand for these nodes.
    pub keep_ops: Vec<String>,
    /// The min row cosine with them in FP32; absent if none were found in time.
    pub row_cosine_then: Option<f64>,
    /// Why the search ended before it was done, in words.
    pub ended_because: Option<String>,
}

/// A node whose output falls below the gate while what it reads doesn't.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartingNode {
    /// Its name; that of its first output where it has none.
    pub node: String,
    /// Its operator.
    pub op_type: String,
    /// The min row cosine of its outputs.
    pub row_cosine: f64,
}

impl PrecisionCheck {
    /// Returns the outputs that fell below the gate.
    pub fn failed(&self) -> impl Iterator<Item = &CheckedOutput> {
        self.outputs.iter().filter(|output| output.row_cosine < self.gate)
    }

    /// Returns the min row cosine of all outputs; `None` if there were none of floats.
    pub fn min_row_cosine(&self) -> Option<f64> {
        self.outputs.iter().map(|output| output.row_cosine).min_by(f64::total_cmp)
    }
}

impl Parting {
    /// Returns what to write under a profile's `lowering` in the recipe, as YAML; `None` if nothing was found.
    pub fn yaml(&self) -> Option<String> {
        // JSON's strings are YAML's, whatever is in them.
        let list = |key: &str, names: &[String]| {
            let names: Vec<String> =
                names.iter().map(|name| serde_json::Value::from(name.as_str()).to_string()).collect();
            (!names.is_empty()).then(|| format!("{key}: [{}]", names.join(", ")))
        };
        let lines = [list("keep_ops", &self.keep_ops), list("keep_nodes", &self.keep_nodes)];
        let lines: Vec<String> = lines.into_iter().flatten().collect();
        (!lines.is_empty()).then(|| lines.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_write_is_yaml() {
        let mut parting = Parting {
            shapes: "opt".into(),
            nodes: Vec::new(),
            keep_nodes: vec!["/a/Cos".into(), "b: \"c\"".into()],
            keep_ops: vec!["Sin".into()],
            row_cosine_then: Some(1.0),
            ended_because: None,
        };
        assert_eq!(
            parting.yaml().unwrap(),
            "keep_ops: [\"Sin\"]\nkeep_nodes: [\"/a/Cos\", \"b: \\\"c\\\"\"]"
        );
        (parting.keep_nodes, parting.keep_ops) = (Vec::new(), Vec::new());
        assert_eq!(parting.yaml(), None);
    }
}
