//! What a recipe requires of a profile's outputs, beyond the defaults.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{ThresholdChanges, Thresholds};
use crate::onnx::quantize::QuantizedPrecision;
use crate::profile::ProfilePrecision;

/// The placeholder for the class in a prompt.
pub const CLASS_IN_PROMPT: &str = "{}";

/// What a recipe requires of each profile's outputs.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Demands {
    /// Thresholds of the gates for fp32, fp16 and bf16; those left out have their defaults.
    pub thresholds: Thresholds,
    /// Thresholds of quantized profiles that differ from the defaults of their precision; their row cosine is that of
    /// `quantize.gate`.
    pub quantized_thresholds: BTreeMap<QuantizedPrecision, ThresholdChanges>,
    /// Outputs, as `graph/output`, that are compared value by value instead of by cosine.
    pub tolerances: BTreeMap<String, Tolerance>,
    /// A labelled set of images for a two-tower model.
    pub zero_shot: Option<ZeroShot>,
}

/// How far each value may be from the reference's: `absolute + relative * |reference|`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tolerance {
    /// The absolute part.
    #[serde(default)]
    pub absolute: f64,
    /// The part relative to the reference's value.
    #[serde(default)]
    pub relative: f64,
}

/// Images in one folder for each class: an image is assigned the class whose prompts are nearest.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ZeroShot {
    /// The input that takes images, as `graph/input`.
    pub image_input: String,
    /// The input that takes texts, as `graph/input`.
    pub text_input: String,
    /// The output that embeds images, as `graph/output`; found by its width if absent.
    #[serde(default)]
    pub image_output: Option<String>,
    /// The output that embeds texts, as `graph/output`; found by its width if absent.
    #[serde(default)]
    pub text_output: Option<String>,
    /// A folder with a subfolder of images for each class, relative to the recipe's folder.
    pub images: PathBuf,
    /// The name of each class in prompts, by the name of its folder.
    pub classes: BTreeMap<String, String>,
    /// Prompts, in which `{}` stands for the class; a class is the mean of its prompts.
    #[serde(default = "ZeroShot::default_prompts")]
    pub prompts: Vec<String>,
    /// The tokenizer, as in `texts` samples.
    pub tokenizer: PathBuf,
    /// The token that fills a row after the end of the text.
    #[serde(default)]
    pub pad: i64,
    /// Max loss of accuracy compared with the FP32 graphs.
    #[serde(default = "ZeroShot::default_most_loss")]
    pub most_loss: f64,
}

impl Tolerance {
    /// Returns how far a value may be from the reference's.
    pub(super) fn allowed(self, reference: f64) -> f64 {
        let Self { absolute, relative } = self;
        absolute + relative * reference.abs()
    }
}

impl ZeroShot {
    fn default_prompts() -> Vec<String> {
        vec![format!("a photo of a {CLASS_IN_PROMPT}.")]
    }

    /// NV-CLIP's own FP16 engines lose 0.0096 on `ImageNet`.
    fn default_most_loss() -> f64 {
        0.01
    }

    /// Returns every prompt of every class, in the order of classes.
    pub fn texts(&self) -> Vec<String> {
        let of_class = |class: &String| {
            let class = class.clone();
            self.prompts.iter().map(move |prompt| prompt.replace(CLASS_IN_PROMPT, &class))
        };
        self.classes.values().flat_map(of_class).collect()
    }
}

/// A demand that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DemandProblem {
    /// The keys that lead to it.
    pub path: Vec<&'static str>,
    /// The key that it is at.
    pub name: String,
    /// What is wrong.
    pub message: String,
}

impl Demands {
    /// Checks what types can't express.
    ///
    /// # Errors
    /// The first problem.
    pub fn check(&self) -> Result<(), DemandProblem> {
        let Self { thresholds, quantized_thresholds, tolerances, zero_shot } = self;
        thresholds.check()?;
        for precision in quantized_thresholds.keys() {
            let changed = self.for_precision(ProfilePrecision::Quantized(*precision), None).thresholds;
            changed.check().map_err(|problem| DemandProblem {
                path: vec!["quantized_thresholds", precision.as_str()],
                ..problem
            })?;
        }
        for (name, Tolerance { absolute, relative }) in tolerances {
            if ![absolute, relative].into_iter().all(|bound| bound.is_finite() && *bound >= 0.0) {
                let message = format!("the tolerance of `{name}` is negative or not a number");
                return Err(DemandProblem { path: vec!["tolerances"], name: name.clone(), message });
            }
        }
        zero_shot.as_ref().map_or(Ok(()), ZeroShot::check)
    }
}

impl Thresholds {
    fn check(&self) -> Result<(), DemandProblem> {
        let Self { row_cosine, norm_ratio, equal, cross_modal, top_1, top_10, batch_invariance } = self;
        let parts = [
            ("row_cosine", row_cosine),
            ("equal", equal),
            ("top_1", top_1),
            ("top_10", top_10),
            ("batch_invariance", batch_invariance),
        ];
        let part = parts.into_iter().find(|(_, part)| !(0.0..=1.0).contains(*part));
        let bounds = [("norm_ratio", norm_ratio), ("cross_modal", cross_modal)];
        let bound = bounds.into_iter().find(|(_, bound)| !(bound.is_finite() && **bound >= 0.0));
        let (name, value, wanted) = match (part, bound) {
            (Some((name, value)), _) => (name, value, "from 0 to 1"),
            (None, Some((name, value))) => (name, value, "of 0 or more"),
            (None, None) => return Ok(()),
        };
        let message = format!("`{name}` is {value}: give a number {wanted}");
        Err(DemandProblem { path: vec!["thresholds"], name: name.into(), message })
    }
}

impl ZeroShot {
    fn check(&self) -> Result<(), DemandProblem> {
        let Self {
            image_input,
            text_input,
            image_output,
            text_output,
            images: _,
            classes,
            prompts,
            tokenizer: _,
            pad: _,
            most_loss,
        } = self;
        let problem = |name: &str, message: String| {
            Err(DemandProblem { path: vec!["zero_shot"], name: name.into(), message })
        };
        let graph = |place: &str| place.split_once('/').map(|(graph, _)| graph.to_owned());
        for (key, output, input) in
            [("image_output", image_output, image_input), ("text_output", text_output, text_input)]
        {
            if let Some(output) = output.as_ref().filter(|output| graph(output) != graph(input)) {
                let message = format!("`{key}` is `{output}`, which is not of the graph of `{input}`");
                return problem(key, message);
            }
        }
        if classes.len() < 2 {
            let message = "`classes` needs two or more classes: with only one, every answer is right";
            return problem("classes", message.into());
        }
        if prompts.is_empty() || prompts.iter().any(|prompt| !prompt.contains(CLASS_IN_PROMPT)) {
            let message = format!("every prompt needs `{CLASS_IN_PROMPT}` in place of the class");
            return problem("prompts", message);
        }
        if !(0.0..=1.0).contains(most_loss) {
            return problem("most_loss", format!("`most_loss` is {most_loss}: give a number from 0 to 1"));
        }
        Ok(())
    }
}
