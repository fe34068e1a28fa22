//! Two graphs whose embeddings are compared with each other: cosines between them, and a labelled set.

use std::collections::BTreeMap;

use super::ValidateError;
use super::inputs::Labelled;
use super::outputs::Outputs;
use crate::validation::{Demands, Floats, GateResult, LabelledSet, cross_modal_gates, zero_shot_gate};

/// The shapes in which cosines between two graphs are compared.
const CASES: [&str; 2] = ["opt", "max"];

/// The outputs of the reference and of the profile, by graph.
pub(super) type Found<'a> = BTreeMap<&'a str, (Outputs, Outputs)>;

/// The output of each graph that is its embedding of the labelled set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Embeddings {
    image: String,
    text: String,
}

/// Chooses the outputs of both graphs that embed the labelled set: those that the recipe names, or the only two of equal width.
pub(super) fn embeddings(
    labelled: &Labelled,
    image: &Outputs,
    text: &Outputs,
) -> Result<Embeddings, ValidateError> {
    let Labelled { image_graph, text_graph, image_output, text_output, .. } = labelled;
    let images = candidates(&image.labelled, image_output.as_ref());
    let texts = candidates(&text.labelled, text_output.as_ref());
    let mut pairs = Vec::new();
    for (image, images) in &images {
        for (text, texts) in &texts {
            if images.row_length() == texts.row_length() {
                pairs.push(Embeddings { image: (*image).clone(), text: (*text).clone() });
            }
        }
    }
    let wrong = |reason: String| ValidateError::ZeroShot {
        place: format!("{image_graph} × {text_graph}"),
        reason: format!("the labelled set cannot be classified: {reason}"),
    };
    let widths = |graph: &str, found: &BTreeMap<&String, &Floats>| {
        if found.is_empty() {
            return format!("`{graph}` has none");
        }
        let one = |(name, floats): (&&String, &&Floats)| format!("`{name}` of width {}", floats.row_length());
        format!("`{graph}` has {}", found.iter().map(one).collect::<Vec<_>>().join(", "))
    };
    match pairs.as_slice() {
        [pair] => Ok(pair.clone()),
        [] => Err(wrong(format!(
            "it needs an embedding of each graph, an output of two dimensions, both of one width: {}, {}",
            widths(image_graph, &images),
            widths(text_graph, &texts)
        ))),
        _ => {
            let pairs: Vec<String> = pairs
                .iter()
                .map(|Embeddings { image, text }| {
                    format!("`{image_graph}/{image}` with `{text_graph}/{text}`")
                })
                .collect();
            Err(wrong(format!(
                "more than one pair of outputs has one width ({}): name them as `image_output` and `text_output`",
                pairs.join(", ")
            )))
        }
    }
}

fn candidates<'a>(
    outputs: &'a BTreeMap<String, Floats>,
    named: Option<&String>,
) -> BTreeMap<&'a String, &'a Floats> {
    outputs.iter().filter(|(name, _)| named.is_none_or(|named| named == *name)).collect()
}

/// Returns the gates of two graphs together: those with a labelled set, or the only two, if each has one embedding and both are
/// of one width.
pub(super) fn gates(
    found: &Found<'_>,
    labelled: Option<(&Labelled, &Embeddings)>,
    demands: &Demands,
) -> Vec<GateResult> {
    let Some((labelled, embeddings)) = labelled else {
        let graphs: Vec<&&str> = found.keys().collect();
        let [a, b] = graphs.as_slice() else { return Vec::new() };
        let embedding = |outputs: &Outputs, case: &str| outputs.only_embedding(case);
        return of_cosines((a, &found[**a]), (b, &found[**b]), &[&embedding, &embedding], demands);
    };
    let Labelled { image_graph, text_graph, .. } = labelled;
    let (Some(image), Some(text)) = (found.get(image_graph.as_str()), found.get(text_graph.as_str())) else {
        return Vec::new();
    };
    let image_embedding = |outputs: &Outputs, case: &str| outputs.embedding(case, &embeddings.image);
    let text_embedding = |outputs: &Outputs, case: &str| outputs.embedding(case, &embeddings.text);
    let which: [&Embedding<'_>; 2] = [&image_embedding, &text_embedding];
    let mut gates = of_cosines((image_graph, image), (text_graph, text), &which, demands);
    let set = |images: &Outputs, texts: &Outputs| {
        Some((images.labelled.get(&embeddings.image)?.clone(), texts.labelled.get(&embeddings.text)?.clone()))
    };
    let empty = || (none(), none());
    let (images, texts) = set(&image.0, &text.0).unwrap_or_else(empty);
    // A profile that gives none fails: it has no row that is nearest to anything.
    let (images_found, texts_found) = set(&image.1, &text.1).unwrap_or_else(empty);
    let reference =
        LabelledSet { images: &images, texts: &texts, prompts: labelled.prompts, labels: &labelled.labels };
    let found = LabelledSet { images: &images_found, texts: &texts_found, ..reference.clone() };
    let subject = format!("{image_graph} × {text_graph}");
    gates.push(zero_shot_gate(&subject, &reference, &found, labelled.most_loss));
    gates
}

fn none() -> Floats {
    Floats { values: Vec::new(), shape: vec![0, 0] }
}

type Embedding<'a> = dyn Fn(&Outputs, &str) -> Option<Floats> + 'a;

fn of_cosines(
    (a_name, a): (&str, &(Outputs, Outputs)),
    (b_name, b): (&str, &(Outputs, Outputs)),
    [of_a, of_b]: &[&Embedding<'_>; 2],
    demands: &Demands,
) -> Vec<GateResult> {
    let subject = format!("{a_name} × {b_name}");
    let mut gates = Vec::new();
    for case in CASES {
        let parts = [of_a(&a.0, case), of_a(&a.1, case), of_b(&b.0, case), of_b(&b.1, case)];
        if let [Some(a), Some(a_found), Some(b), Some(b_found)] = parts
            && a.row_length() == b.row_length()
        {
            let (first, second) = ((&a, &a_found), (&b, &b_found));
            gates.extend(cross_modal_gates(&subject, case, first, second, &demands.thresholds));
        }
    }
    gates
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labelled(image_output: Option<&str>, text_output: Option<&str>) -> Labelled {
        Labelled {
            image_graph: "vision".into(),
            text_graph: "text".into(),
            image_output: image_output.map(Into::into),
            text_output: text_output.map(Into::into),
            prompts: 1,
            labels: vec![0, 1],
            most_loss: 0.01,
        }
    }

    /// Outputs of these widths.
    fn outputs(widths: &[(&str, usize)]) -> Outputs {
        let floats = |width| Floats { values: vec![0.5; 2 * width], shape: vec![2, width] };
        let labelled = widths.iter().map(|(name, width)| ((*name).to_owned(), floats(*width))).collect();
        Outputs { labelled, ..Outputs::default() }
    }

    #[track_caller]
    fn check(labelled: &Labelled, image: &[(&str, usize)], text: &[(&str, usize)], expected: &str) {
        let found = match embeddings(labelled, &outputs(image), &outputs(text)) {
            Ok(Embeddings { image, text }) => format!("{image} {text}"),
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn the_only_outputs_of_one_width_are_the_embeddings() {
        let any = labelled(None, None);
        check(&any, &[("e", 8)], &[("t", 8)], "e t");
        check(&any, &[("e", 8), ("colours", 3)], &[("t", 8)], "e t");
        check(
            &any,
            &[("e", 8)],
            &[("t", 9)],
            "`validation.zero_shot`: `vision × text`: the labelled set cannot be classified: it needs an embedding of each graph, an \
             output of two dimensions, both of one width: `vision` has `e` of width 8, `text` has `t` of width 9",
        );
        let two = [("t", 8), ("u", 8)];
        check(
            &any,
            &[("e", 8)],
            &two,
            "`validation.zero_shot`: `vision × text`: the labelled set cannot be classified: more than one pair of outputs has one \
             width (`vision/e` with `text/t`, `vision/e` with `text/u`): name them as `image_output` and `text_output`",
        );
        check(&labelled(None, Some("u")), &[("e", 8)], &two, "e u");
        let none = labelled(Some("x"), None);
        assert!(embeddings(&none, &outputs(&[("e", 8)]), &outputs(&two)).is_err());
    }
}
