//! What a graph gives for everything that it is run on, and the archive that the store keeps of it.

use std::collections::BTreeMap;

use super::inputs::{ALONE, CASES};
use crate::validation::{Array, Floats, Output};
use crate::worker::npy::{ElementType, Tensor, archive};

/// What the labelled set is called in a reference's archive.
const LABELLED: &str = "labelled";

/// What a graph made of the samples.
#[derive(Clone, Debug, Default)]
pub(super) struct Outputs {
    /// Outputs by shapes and name.
    pub cases: BTreeMap<&'static str, BTreeMap<String, Output>>,
    /// The outputs of the rows that were run alone, by the names of [`ALONE`].
    pub alone: BTreeMap<&'static str, BTreeMap<String, Output>>,
    /// The embeddings of the labelled set by output, if the graph takes it.
    pub labelled: BTreeMap<String, Floats>,
}

impl Outputs {
    /// Returns the graph's only embedding; `None` if it has none or several.
    pub(super) fn only_embedding(&self, case: &str) -> Option<Floats> {
        let mut found = self.cases.get(case)?.values().filter_map(Output::embedding);
        found.next().filter(|_| found.next().is_none())
    }

    /// Returns an output in a case, if it is an embedding.
    pub(super) fn embedding(&self, case: &str, output: &str) -> Option<Floats> {
        self.cases.get(case)?.get(output)?.embedding()
    }

    pub(super) fn to_npz(&self) -> Option<Vec<u8>> {
        let mut tensors = BTreeMap::new();
        let runs = self.cases.iter().chain(&self.alone);
        for (case, outputs) in runs {
            for (name, output) in outputs {
                tensors.insert(format!("{case}/{name}"), tensor_of(output)?);
            }
        }
        for (name, Floats { values, shape }) in &self.labelled {
            tensors.insert(format!("{LABELLED}/{name}"), Tensor::new(shape, values).ok()?);
        }
        archive::write(&tensors).ok()
    }

    /// Returns `None` if the bytes aren't what [`Self::to_npz`] wrote: then it is computed again.
    pub(super) fn of_npz(bytes: &[u8]) -> Option<Self> {
        let mut outputs = Self::default();
        for (name, tensor) in archive::read_all(bytes).ok()? {
            let (case, name) = name.split_once('/')?;
            if case == LABELLED {
                let floats = Floats { values: tensor.elements::<f32>()?, shape: tensor.shape().to_vec() };
                outputs.labelled.insert(name.into(), floats);
                continue;
            }
            let output = output_of(&tensor);
            if let Some(run) = ALONE.into_iter().find(|run| *run == case) {
                outputs.alone.entry(run).or_default().insert(name.into(), output);
            } else {
                let (case, _) = CASES.into_iter().find(|known| known.0 == case)?;
                outputs.cases.entry(case).or_default().insert(name.into(), output);
            }
        }
        (outputs.cases.len() == CASES.len()).then_some(outputs)
    }
}

/// Reads an output that a worker wrote.
pub(super) fn output_of(tensor: &Tensor) -> Output {
    fn array<T: crate::worker::npy::Element, U>(tensor: &Tensor, change: impl Fn(T) -> U) -> Array<U> {
        let values = tensor.elements::<T>().unwrap_or_default();
        Array { values: values.into_iter().map(change).collect(), shape: tensor.shape().to_vec() }
    }
    match tensor.element_type() {
        ElementType::Float16 => Output::Floats(array(tensor, half::f16::to_f32)),
        ElementType::Bfloat16 => Output::Floats(array(tensor, half::bf16::to_f32)),
        ElementType::Float32 => Output::Floats(array(tensor, |value: f32| value)),
        ElementType::Float64 => Output::Doubles(array(tensor, |value: f64| value)),
        ElementType::Int8 => Output::Integers(array(tensor, |value: i8| value.into())),
        ElementType::Int16 => Output::Integers(array(tensor, |value: i16| value.into())),
        ElementType::Int32 => Output::Integers(array(tensor, |value: i32| value.into())),
        ElementType::Int64 => Output::Integers(array(tensor, |value: i64| value)),
        ElementType::Uint8 => Output::Integers(array(tensor, |value: u8| value.into())),
        ElementType::Uint16 => Output::Integers(array(tensor, |value: u16| value.into())),
        ElementType::Uint32 => Output::Integers(array(tensor, |value: u32| value.into())),
        ElementType::Uint64 => Output::Integers(array(tensor, u64::cast_signed)),
        ElementType::Bool => Output::Booleans(array(tensor, |value: bool| value)),
    }
}

/// Returns an output as a file holds it.
pub(super) fn tensor_of(output: &Output) -> Option<Tensor> {
    match output {
        Output::Floats(Array { values, shape }) => Tensor::new(shape, values),
        Output::Doubles(Array { values, shape }) => Tensor::new(shape, values),
        Output::Integers(Array { values, shape }) => Tensor::new(shape, values),
        Output::Booleans(Array { values, shape }) => Tensor::new(shape, values),
    }
    .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reference in the store has every output, whatever its type.
    #[test]
    fn every_output_survives_the_archive() {
        let floats = Array { values: vec![1.5, f32::MAX], shape: vec![2, 1] };
        let outputs = BTreeMap::from([
            ("a/b".to_owned(), Output::Floats(floats.clone())),
            ("doubles".to_owned(), Output::Doubles(Array { values: vec![1e300], shape: vec![1] })),
            ("indices".to_owned(), Output::Integers(Array { values: vec![i64::MIN, 7], shape: vec![2] })),
            ("mask".to_owned(), Output::Booleans(Array { values: vec![true], shape: vec![] })),
        ]);
        let written = Outputs {
            cases: CASES.iter().map(|(case, _)| (*case, outputs.clone())).collect(),
            alone: ALONE.iter().map(|run| (*run, outputs.clone())).collect(),
            labelled: BTreeMap::from([("e".to_owned(), floats)]),
        };
        let read = Outputs::of_npz(&written.to_npz().unwrap()).unwrap();
        assert_eq!((read.cases, read.alone, read.labelled), (written.cases, written.alone, written.labelled));
        assert!(Outputs::of_npz(b"no archive").is_none());
    }
}
