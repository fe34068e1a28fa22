//! What a graph gives for everything that it is run on, and the archive that the store keeps of it.

use std::collections::BTreeMap;

use super::inputs::{ALONE, CASES};
use crate::validation::Floats;
use crate::worker::npy::{Tensor, archive};

/// What the labelled set is called in a reference's archive.
const LABELLED: &str = "labelled";

/// What a graph made of the samples.
#[derive(Clone, Debug, Default)]
pub(super) struct Outputs {
    /// Outputs of floats by shapes and name.
    pub cases: BTreeMap<&'static str, BTreeMap<String, Floats>>,
    /// The outputs of the first rows of the optimal shapes, run alone.
    pub alone: BTreeMap<String, Floats>,
    /// The embeddings of the labelled set, if the graph has one.
    pub labelled: Option<Floats>,
}

impl Outputs {
    /// Returns the graph's only embedding; `None` if it has none or several.
    pub(super) fn embedding(&self, case: &str) -> Option<&Floats> {
        only_embedding(self.cases.get(case)?)
    }

    pub(super) fn to_npz(&self) -> Option<Vec<u8>> {
        let mut tensors = BTreeMap::new();
        let tensor = |floats: &Floats| Tensor::new(&floats.shape, &floats.values).ok();
        let cases = self.cases.iter().map(|(case, outputs)| (*case, outputs));
        for (case, outputs) in cases.chain([(ALONE, &self.alone)]) {
            for (name, floats) in outputs {
                tensors.insert(format!("{case}/{name}"), tensor(floats)?);
            }
        }
        if let Some(floats) = &self.labelled {
            tensors.insert(LABELLED.into(), tensor(floats)?);
        }
        archive::write(&tensors).ok()
    }

    /// Returns `None` if the bytes aren't what [`Self::to_npz`] wrote: then it is computed again.
    pub(super) fn of_npz(bytes: &[u8]) -> Option<Self> {
        let mut outputs = Self::default();
        for (name, tensor) in archive::read_all(bytes).ok()? {
            let floats = Floats { values: tensor.elements::<f32>()?, shape: tensor.shape().to_vec() };
            match name.split_once('/') {
                None if name == LABELLED => outputs.labelled = Some(floats),
                Some((ALONE, output)) => _ = outputs.alone.insert(output.into(), floats),
                Some((case, output)) => {
                    let (case, _) = CASES.into_iter().find(|known| known.0 == case)?;
                    outputs.cases.entry(case).or_default().insert(output.into(), floats);
                }
                None => return None,
            }
        }
        (outputs.cases.len() == CASES.len()).then_some(outputs)
    }
}

/// Returns the only embedding among outputs; `None` if there is none or several.
pub(super) fn only_embedding(outputs: &BTreeMap<String, Floats>) -> Option<&Floats> {
    let mut found = outputs.values().filter(|floats| floats.is_embedding());
    found.next().filter(|_| found.next().is_none())
}
