//! Recipes of NV-CLIP's towers at their smallest.

/// One graph of a recipe.
#[derive(Clone, Copy)]
pub(crate) struct Tower<'a> {
    pub(crate) name: &'a str,
    pub(crate) seed: u32,
    pub(crate) input: &'a str,
    /// The shape of one item.
    pub(crate) item: &'a str,
    pub(crate) max_batch: u32,
    pub(crate) samples: &'a str,
}

pub(crate) const VISION: Tower<'_> = Tower {
    name: "vision",
    seed: 20,
    input: "IMAGE",
    item: "3, 224, 224",
    max_batch: 8,
    samples: "{ normal: {} }",
};
pub(crate) const TEXT: Tower<'_> = Tower {
    name: "text",
    seed: 20,
    input: "TEXT",
    item: "77",
    max_batch: 8,
    samples: "{ integers: { low: 0, high: 1024 } }",
};

/// Profiles of every machine, in FP16 and in FP32 too.
pub(crate) const FP16: &str = "  - { backend: onnxruntime, precisions: [fp16], targets: generic }\n";
pub(crate) const FP32_AND_FP16: &str =
    "  - { backend: onnxruntime, precisions: [fp32, fp16], targets: generic }\n";

/// Returns a recipe of these graphs and profiles.
pub(crate) fn recipe(towers: &[Tower<'_>], profiles: &str) -> String {
    let graphs: String = towers.iter().map(graph).collect();
    format!(
        "schema: nimctl.recipe/1\nmodel: {{ name: m, release: 1.0.0 }}\ngraphs:\n{graphs}profiles:\n{profiles}"
    )
}

fn graph(tower: &Tower<'_>) -> String {
    let Tower { name, seed, input, item, max_batch, samples } = tower;
    format!(
        "  {name}:\n    source: {{ synth: {{ model: nvclip, size: tiny, tower: {name}, seed: {seed} }} }}\n    shapes:\n      \
         {input}: {{ min: [1, {item}], opt: [4, {item}], max: [{max_batch}, {item}] }}\n    samples: {{ {input}: {samples} \
         }}\n"
    )
}
