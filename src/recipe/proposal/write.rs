//! The draft as YAML, with a comment wherever a person decides.

use std::fmt::Write as _;

use super::{Draft, DraftGraph, DraftInput, Trial};
use crate::backend::{Backend, Builds};
use crate::onnx::{Dimension, ElementType, Precision, TensorInfo};
use crate::samples::{Meaning, Sample};

/// The most characters of a runtime's message that a comment repeats.
const MAX_MESSAGE_LENGTH: usize = 160;

impl Draft {
    /// Writes the recipe; `path` is what its comments call it.
    pub fn to_yaml(&self, path: &str) -> String {
        let Self { model, release, graphs, groups: _, weights: _ } = self;
        let mut yaml = String::new();
        let _ = write!(
            yaml,
            "\
# Proposed by `nimctl init` from the ONNX files named below. docs/recipe.md explains every key.
# It builds as it is. Where it says DECIDE, nimctl guessed: look at it before you ship. Then:
#   nimctl build {path}
#   nimctl validate {path}
schema: nimctl.recipe/1
model:
  name: {}
  release: {}  # DECIDE: the release that you ship

graphs:
",
            scalar(model),
            quoted(release),
            path = comment(path)
        );
        for graph in graphs {
            write_graph(&mut yaml, graph);
        }
        yaml.push_str("\nprofiles:\n");
        self.write_profiles(&mut yaml);
        yaml
    }

    fn write_profiles(&self, yaml: &mut String) {
        let Self { model: _, release: _, graphs, groups, weights } = self;
        let precision = match weights {
            Precision::Fp32 => Precision::Fp16,
            lowered => *lowered,
        };
        let dead_end = graphs.iter().find_map(|graph| Some((&graph.name, graph.dead_end.as_ref()?)));
        if let Some((graph, why)) = dead_end {
            let _ = writeln!(yaml, "  # No TensorRT profile: in graph `{graph}`, {}.", comment(why));
        } else if groups.groups.is_empty() {
            yaml.push_str(
                "  # For TensorRT plans, name the GPUs that you deploy on (`nimctl init --gpus`, or here):\n",
            );
        }
        let control_flow = graphs.iter().find_map(|graph| Some((&graph.name, graph.control_flow?)));
        if let Some((graph, operator)) = control_flow
            && dead_end.is_none()
        {
            let _ = writeln!(
                yaml,
                "  # DECIDE: graph `{graph}` has {operator} nodes, and TensorRT may refuse them. If `nimctl build` says so, export \
                 the\n  # model without them, or remove the TensorRT profiles."
            );
        }
        for group in groups.groups.iter().filter(|_| dead_end.is_none()) {
            let needs = match group.backend.facts().builds {
                Builds::OnTheDevice => "Tuned on the target GPU: build on a host that has one",
                _ => "Built ahead of time: no GPU is needed",
            };
            let _ = writeln!(yaml, "  # {needs}.");
            write_group(yaml, "  ", &group.backend, precision, &group.gpus);
        }
        if groups.groups.is_empty() && dead_end.is_none() {
            let example = ["l4".to_owned(), "rtx-4090".to_owned()];
            write_group(yaml, "  # ", &Backend::ahead_of_time(), precision, &example);
        }
        if !groups.generic_only.is_empty() {
            let gpus = groups.generic_only.join(", ");
            let _ =
                writeln!(yaml, "  # TensorRT no longer builds for {gpus}: the profile below serves there.");
        }
        let _ = write!(
            yaml,
            "  # Any other machine: the ONNX file itself.\n  - backend: {}\n    precisions: [{weights}]\n    targets: generic\n",
            Backend::reference()
        );
    }
}

fn write_group(yaml: &mut String, indent: &str, backend: &Backend, precision: Precision, gpus: &[String]) {
    let gpus = gpus.join(", ");
    let _ = write!(
        yaml,
        "{indent}- backend: {backend}\n{indent}  precisions: [{precision}]\n{indent}  targets:\n{indent}    gpus: [{gpus}]\n"
    );
}

fn write_graph(yaml: &mut String, graph: &DraftGraph) {
    let DraftGraph { name, source, inputs, dead_end: _, control_flow: _, trial } = graph;
    let _ = write!(yaml, "  {}:\n    source:\n      path: {}\n", scalar(name), scalar(source));
    let ranged: Vec<&DraftInput> = inputs.iter().filter(|input| input.range.is_some()).collect();
    let _ = writeln!(yaml, "    # {}", tried(trial, !ranged.is_empty()));
    if !ranged.is_empty() {
        yaml.push_str(
            "    # Plans are tuned for `opt` and refuse what is below `min` or above `max`: docs/recipe.md#shapes\n    shapes:\n",
        );
    }
    for input in ranged {
        write_range(yaml, input);
    }
    let fed: Vec<(&DraftInput, &Sample)> =
        inputs.iter().filter_map(|input| Some((input, input.sample.as_ref()?))).collect();
    if fed.len() == inputs.len() && !fed.is_empty() {
        yaml.push_str(
            "    # Values for `nimctl validate` and `nimctl bench`, seeded. DECIDE: real ones show more: docs/recipe.md#samples\n    samples:\n",
        );
        for (input, sample) in fed {
            let hint = better_sample(&input.info).map(|hint| format!("  # or {hint}")).unwrap_or_default();
            let _ = writeln!(yaml, "      {}: {sample}{hint}", scalar(&input.info.name));
        }
    }
}

fn write_range(yaml: &mut String, input: &DraftInput) {
    let Some(range) = &input.range else { return };
    let info = &input.info;
    let name = comment(&info.name);
    let _ = writeln!(yaml, "      # {name}: {} {}", info.element_type, comment(&shape_text(&info.shape)));
    for (index, kind) in input.dynamic() {
        let [min, opt, max] = [range.min[index], range.opt[index], range.max[index]];
        let span = if min == max { format!("{min}") } else { format!("{min} to {max}, tuned for {opt}") };
        let dimension = match &info.shape[index] {
            Dimension::Symbolic(symbol) => {
                format!("{index} ({})", comment(symbol))
            }
            _ => format!("{index}"),
        };
        let _ = writeln!(yaml, "      # DECIDE dimension {dimension}, {span}: {}", kind.question());
    }
    let _ = writeln!(
        yaml,
        "      {}: {{ min: {:?}, opt: {:?}, max: {:?} }}",
        scalar(&info.name),
        range.min,
        range.opt,
        range.max
    );
}

/// Says what came of a trial, for a comment.
fn tried(trial: &Trial, has_ranges: bool) -> String {
    let shapes = if has_ranges { "the shapes below" } else { "its only shapes" };
    match trial {
        Trial::Runs => format!("ONNX Runtime runs the graph in {shapes}."),
        Trial::NotRun(why) => format!("Not tried on ONNX Runtime: {}", message(why)),
        Trial::Narrowed(why) => {
            format!("ONNX Runtime runs the graph in {shapes}. In the opt shapes it failed: {}", message(why))
        }
        Trial::Fails(why) => {
            format!("DECIDE: ONNX Runtime failed in every shape that was tried: {}", message(why))
        }
    }
}

fn message(text: &str) -> String {
    let text = comment(text);
    match text.char_indices().nth(MAX_MESSAGE_LENGTH) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Returns the form of samples that suits an input better than seeded values, if there is one.
fn better_sample(info: &TensorInfo) -> Option<&'static str> {
    let is_rows_of_colours = info.shape.len() == 4 && info.shape[1] == Dimension::Fixed(3);
    match info.element_type {
        ElementType::Float if is_rows_of_colours => Some("{ images: { folder: samples/images } }, or npy"),
        ElementType::Int64 | ElementType::Int32 => match Meaning::of(&info.name) {
            Meaning::TokenIds => {
                Some("{ texts: { file: samples/texts.txt, tokenizer: samples/tokenizer.json } }")
            }
            Meaning::Mask => Some(
                "{ texts: { file: samples/texts.txt, tokenizer: samples/tokenizer.json, part: attention_mask } }",
            ),
            _ => None,
        },
        _ => None,
    }
}

fn shape_text(shape: &[Dimension]) -> String {
    let dimensions: Vec<String> = shape.iter().map(ToString::to_string).collect();
    format!("[{}]", dimensions.join(", "))
}

/// Returns a string that stays on its line: names come from a file that anybody wrote.
fn comment(text: &str) -> String {
    let printable =
        |c: char| if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') { ' ' } else { c };
    text.chars().map(printable).collect::<String>().trim().to_owned()
}

/// Returns a string as a YAML scalar: without quotes where every reader sees a string.
fn scalar(text: &str) -> String {
    let starts_plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let is_plain = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/'));
    let is_a_word = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
        .contains(&text.to_ascii_lowercase().as_str());
    if starts_plain && is_plain && !is_a_word { text.to_owned() } else { quoted(text) }
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars() {
        for (text, expected) in [
            ("IMAGE", "IMAGE"),
            ("input:0", "\"input:0\""),
            ("n", "\"n\""),
            ("320n", "\"320n\""),
            ("1.0", "\"1.0\""),
            ("a\n\"b\\", "\"a\\u000a\\\"b\\\\\""),
            ("../a b.onnx", "\"../a b.onnx\""),
        ] {
            assert_eq!(scalar(text), expected);
        }
    }

    #[test]
    fn a_name_stays_in_its_comment() {
        assert_eq!(comment("a\n- backend: x\u{2028}"), "a - backend: x");
        assert!(message(&"é".repeat(400)).ends_with('…'));
    }
}
