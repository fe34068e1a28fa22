//! The data that calibrated and judged profiles. Passports have counts of it and no digests, so this is all that a bill can say.

use std::collections::{BTreeMap, BTreeSet};

use super::cyclonedx::{Component, Data, Kind, Property};
use crate::passport::Passport;

/// The shapes of a gate over a labelled set.
const LABELLED: &str = "labelled";

/// Adds the data of a profile to `known`, by reference, and returns their references.
pub(super) fn data_of(passport: &Passport, known: &mut BTreeMap<String, Component>) -> BTreeSet<String> {
    let mut references = BTreeSet::new();
    let mut add = |reference: String, name: String, description: String, properties: Vec<Property>| {
        let data = Data::dataset(name.clone(), description, properties);
        let component = Component { data: vec![data], ..Component::new(Kind::Data, &reference, name) };
        known.insert(reference.clone(), component);
        references.insert(reference);
    };
    for (name, graph) in &passport.graphs {
        let Some(quantization) = &graph.lowering.quantization else { continue };
        let rows = (quantization.choice.calibration_rows, quantization.choice.judged_rows);
        for (purpose, rows, what) in [
            ("calibration", rows.0, "found the scales of the quantized graph"),
            ("judging", rows.1, "judged the quantized graph against the FP32 graph"),
        ] {
            add(
                format!("data:{purpose}:{name}:{rows}"),
                format!("{purpose} rows of {name}"),
                format!(
                    "Rows of the recipe's samples that {what} `{name}`. The passport has no digest of them."
                ),
                vec![Property::new("graph", name), Property::new("rows", rows)],
            );
        }
    }
    let Some(validation) = passport.validation.validation() else { return references };
    let (mut shapes, mut labelled) = (BTreeMap::<&str, BTreeSet<&str>>::new(), BTreeSet::new());
    for gate in validation.all_gates() {
        if gate.shapes == LABELLED {
            labelled.insert(gate.subject.as_str());
        } else if let Some(graph) = graph_of(passport, &gate.subject) {
            shapes.entry(graph).or_default().insert(&gate.shapes);
        }
    }
    for (graph, shapes) in shapes {
        let shapes: Vec<&str> = shapes.into_iter().collect();
        add(
            format!("data:validation:{graph}:{}", shapes.join("+")),
            format!("validation inputs of {graph}"),
            format!(
                "What `{graph}` was run with: the recipe's samples, or seeded values. The passport has no digest of it."
            ),
            vec![Property::new("graph", graph), Property::new("shapes", shapes.join(", "))],
        );
    }
    for subject in labelled {
        add(
            format!("data:labelled:{subject}"),
            format!("labelled set of {subject}"),
            "The recipe's labelled set for zero-shot classification. The passport has no digest of it."
                .into(),
            Vec::new(),
        );
    }
    references
}

/// Returns the graph of a gate's subject: `text/LOGITS_PER_TEXT`; `None` for a gate over several graphs.
pub(super) fn graph_of<'a>(passport: &'a Passport, subject: &str) -> Option<&'a str> {
    let (graph, _) = subject.split_once('/')?;
    passport.contents.graphs.get_key_value(graph).map(|(graph, _)| graph.as_str())
}
