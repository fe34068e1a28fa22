//! What a recipe refers to by name must exist: graphs, their inputs and outputs, operators, nodes.
//!
//! The names of its own graphs are checked when it is read; the others when the graphs are known.

use std::collections::BTreeMap;
use std::fmt;

use super::{Recipe, RecipeGraph};
use crate::nearest::what_there_is;
use crate::onnx::{NodeNames, OnnxFile};
use crate::validation::ZeroShot;
use crate::yaml::{self, Limits};

/// A name in a recipe that refers to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownName {
    /// The recipe.
    pub recipe: String,
    /// Line and column of the name, counted from 1, where known.
    pub position: Option<(u64, u64)>,
    /// What is wrong, with the nearest name.
    pub problem: String,
}

impl fmt::Display for UnknownName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { recipe, position, problem } = self;
        match position {
            Some((line, column)) => write!(f, "{recipe}:{line}:{column}: {problem}"),
            None => write!(f, "{recipe}: {problem}"),
        }
    }
}

impl std::error::Error for UnknownName {}

/// The names that a graph has.
#[derive(Clone, Debug, Default)]
pub struct GraphNames {
    /// Its inputs.
    pub inputs: Vec<String>,
    /// Its outputs.
    pub outputs: Vec<String>,
    /// Its operators and nodes.
    pub nodes: NodeNames,
}

impl GraphNames {
    /// Returns the names in a model.
    pub fn of(file: &OnnxFile) -> Self {
        Self {
            inputs: file.inputs().into_iter().map(|info| info.name).collect(),
            outputs: file.outputs().into_iter().map(|info| info.name).collect(),
            nodes: NodeNames::of(file),
        }
    }
}

/// What `graph/name` refers to, and where it stands in the recipe.
struct Reference<'a> {
    path: Vec<&'a str>,
    place: &'a str,
    what: &'static str,
}

impl Recipe {
    /// Returns line and column of a name under a path of keys, in which `*` is any key or item.
    pub fn position(&self, path: &[&str], name: &str) -> Option<(u64, u64)> {
        let document = yaml::parse(self.text.as_bytes(), &Limits::default()).ok()?;
        let position = document.find(path, name)?;
        Some((position.line.into(), position.column.into()))
    }

    pub(super) fn unknown(&self, path: &[&str], name: &str, problem: String) -> UnknownName {
        UnknownName { recipe: self.path.clone(), position: self.position(path, name), problem }
    }

    /// Returns everything that is written as `graph/input` or `graph/output`.
    fn references<'a>(&'a self) -> Vec<Reference<'a>> {
        let of_tolerance =
            |place: &'a String| Reference { path: vec!["validation", "tolerances"], place, what: "output" };
        let mut all: Vec<Reference<'a>> = self.validation.tolerances.keys().map(of_tolerance).collect();
        let Some(ZeroShot { image_input, text_input, image_output, text_output, .. }) =
            &self.validation.zero_shot
        else {
            return all;
        };
        let named = [
            ("image_input", Some(image_input), "input"),
            ("text_input", Some(text_input), "input"),
            ("image_output", image_output.as_ref(), "output"),
            ("text_output", text_output.as_ref(), "output"),
        ];
        all.extend(named.into_iter().filter_map(|(key, place, what)| {
            Some(Reference { path: vec!["validation", "zero_shot", key], place: place?, what })
        }));
        all
    }

    /// Checks that the graphs that are referred to exist.
    pub(super) fn check_own_names(&self) -> Result<(), UnknownName> {
        for Reference { path, place, what } in self.references() {
            let problem = match place.split_once('/') {
                None => format!("`{place}` does not name an {what} of a graph: write it as `graph/{what}`"),
                Some((graph, _)) if self.graphs.contains_key(graph) => continue,
                Some((graph, _)) => {
                    let known = self.graphs.keys().map(String::as_str);
                    let there = what_there_is(graph, "its graphs are", known);
                    format!("`{place}`: the recipe has no graph `{graph}`{there}")
                }
            };
            return Err(self.unknown(&path, place, problem));
        }
        Ok(())
    }

    /// Checks that what the recipe refers to in its graphs exists. Nodes and operators are checked if all graphs are known.
    ///
    /// # Errors
    /// The first name that refers to nothing, with its line and the nearest name that would.
    pub fn check_names(&self, graphs: &BTreeMap<String, GraphNames>) -> Result<(), UnknownName> {
        for (graph, names) in graphs {
            let Some(RecipeGraph { samples, calibration, .. }) = self.graphs.get(graph) else { continue };
            for (key, samples) in [("samples", samples), ("calibration", calibration)] {
                if let Some(input) = samples.keys().find(|input| !names.inputs.contains(input)) {
                    let problem = format!("{key}: {}", missing("input", graph, input, &names.inputs));
                    return Err(self.unknown(&["graphs", graph, key], input, problem));
                }
            }
            let left_out = names.inputs.iter().find(|input| !calibration.contains_key(*input));
            if let Some(input) = left_out.filter(|_| !calibration.is_empty()) {
                let problem = format!("graph `{graph}`: `calibration` has no samples of input `{input}`");
                return Err(self.unknown(&["graphs", graph], "calibration", problem));
            }
        }
        for Reference { path, place, what } in self.references() {
            let Some((graph, name)) = place.split_once('/') else { continue };
            let Some(names) = graphs.get(graph) else { continue };
            let known = if what == "input" { &names.inputs } else { &names.outputs };
            if !known.iter().any(|known| known == name) {
                return Err(self.unknown(&path, place, missing(what, graph, name, known)));
            }
        }
        if graphs.len() < self.graphs.len() {
            return Ok(());
        }
        for spec in &self.profiles {
            let lowering = &spec.lowering;
            let quantized =
                lowering.quantization.as_ref().map(|quantization| &quantization.options.keep_nodes);
            let of_lowering = [
                ("lowering", "keep_ops", &lowering.keep_ops, "operator"),
                ("lowering", "lower_ops", &lowering.lower_ops, "operator"),
                ("lowering", "keep_nodes", &lowering.keep_nodes, "node"),
            ];
            let of_quantization = quantized.map(|wanted| ("quantize", "keep_nodes", wanted, "node"));
            for (section, key, wanted, what) in of_lowering.into_iter().chain(of_quantization) {
                let of = |names: &'_ GraphNames| match what {
                    "node" => names.nodes.nodes.clone(),
                    _ => names.nodes.operators.clone(),
                };
                for name in wanted {
                    let has = |names: &GraphNames| match what {
                        "node" => names.nodes.nodes.contains(name),
                        _ => names.nodes.operators.contains(name),
                    };
                    if graphs.values().any(has) {
                        continue;
                    }
                    let known: std::collections::BTreeSet<String> = graphs.values().flat_map(of).collect();
                    let known = known.iter().map(String::as_str);
                    let there = what_there_is(name, &format!("the {what}s are"), known);
                    let problem = format!("`{key}`: no graph of the recipe has the {what} `{name}`{there}");
                    return Err(self.unknown(&["profiles", "*", section, key], name, problem));
                }
            }
        }
        Ok(())
    }
}

/// Says that a graph has no input or output of a name, and what it has.
pub(super) fn missing(what: &str, graph: &str, name: &str, known: &[String]) -> String {
    let there = what_there_is(name, &format!("its {what}s are"), known.iter().map(String::as_str));
    format!("graph `{graph}` has no {what} `{name}`{there}")
}
