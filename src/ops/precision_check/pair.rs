//! An FP32 graph and its lowered one, emulated, run side by side on equal inputs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::cases::Case;
use crate::mixed_precision::similarity::{NOT_FINITE, least_row_cosine};
use crate::onnx::lower::emulate_with_outputs;
use crate::onnx::{LoweringOptions, Precision};
use crate::ops::runners::Way;
use crate::ops::samples::{self, Subject};
use crate::ops::validate::runtime::Runtime;
use crate::ops::workspace::Workspace;
use crate::validation::{Floats, Output};

/// What is compared, and what runs it.
pub(super) struct Pair<'a> {
    pub(super) subject: &'a Subject<'a>,
    /// How the graph is lowered.
    pub(super) lowering: LoweringOptions,
    runtime: Runtime,
    folder: &'a Path,
    inputs: BTreeMap<Case, BTreeMap<String, PathBuf>>,
    /// How long the last comparison took, in seconds.
    pub(super) seconds: f64,
    /// The peak memory of the worker in the last run.
    pub(super) peak_bytes: Option<u64>,
}

impl<'a> Pair<'a> {
    /// Nothing has run yet.
    pub(super) fn new(
        subject: &'a Subject<'a>,
        lowering: &LoweringOptions,
        way: &Way,
        limits: &Workspace,
        folder: &'a Path,
    ) -> Self {
        Self {
            subject,
            lowering: lowering.clone(),
            runtime: Runtime::new(way.clone(), limits, folder),
            folder,
            inputs: BTreeMap::new(),
            seconds: 0.0,
            peak_bytes: None,
        }
    }

    /// Returns the min row cosine of every output of floats.
    pub(super) fn cosines_of_outputs(
        &mut self,
        case: Case,
        lowering: LoweringOptions,
    ) -> Result<BTreeMap<String, f64>, String> {
        self.cosines(case, &lowering, &[])
    }

    /// Returns the min row cosine of every output of floats, and of these values of the graph. The error is in words.
    pub(super) fn cosines(
        &mut self,
        case: Case,
        lowering: &LoweringOptions,
        values: &[String],
    ) -> Result<BTreeMap<String, f64>, String> {
        #[expect(clippy::disallowed_methods, reason = "the check is bounded in time")]
        let started = Instant::now();
        let inputs = self.inputs(case)?;
        let as_it_is = LoweringOptions::new(Precision::Fp32, &[]);
        let reference = if values.is_empty() {
            let path = self.subject.file.path_for_others();
            floats(self.runtime.run_on(inputs.clone(), &path).map_err(|error| error.to_string())?)
        } else {
            self.run(&inputs, &as_it_is, values)?
        };
        let outputs: Vec<String> =
            self.subject.file.graph().output.iter().map(|output| output.name().into()).collect();
        for (name, floats) in reference.iter().filter(|(name, _)| outputs.contains(name)) {
            if floats.values.iter().any(|value| !value.is_finite()) {
                return Err(format!("output `{name}` is NaN or infinite in FP32 on these samples"));
            }
        }
        let found = self.run(&inputs, lowering, values)?;
        self.seconds = started.elapsed().as_secs_f64();
        self.peak_bytes = self.runtime.peak_memory_bytes();
        Ok(reference
            .into_iter()
            .map(|(name, floats)| {
                let cosine = found.get(&name).map_or(NOT_FINITE, |found| cosine(&floats, found));
                (name, cosine)
            })
            .collect())
    }

    /// Writes a graph with these values as outputs too, and runs it.
    fn run(
        &mut self,
        inputs: &BTreeMap<String, PathBuf>,
        lowering: &LoweringOptions,
        values: &[String],
    ) -> Result<BTreeMap<String, Floats>, String> {
        let folder = tempfile::tempdir_in(self.folder).map_err(|error| error.to_string())?;
        let model = folder.path().join("model.onnx");
        emulate_with_outputs(self.subject.file, lowering, values, &model)
            .map_err(|error| error.to_string())?;
        self.runtime.run_on(inputs.clone(), &model).map(floats).map_err(|error| error.to_string())
    }

    fn inputs(&mut self, case: Case) -> Result<BTreeMap<String, PathBuf>, String> {
        if let Some(known) = self.inputs.get(&case) {
            return Ok(known.clone());
        }
        let folder = self.folder.join(case.name());
        let written =
            samples::write(self.subject, case.shapes(), &folder).map_err(|error| error.to_string())?;
        self.inputs.insert(case, written.clone());
        Ok(written)
    }
}

/// Returns the outputs of floats.
fn floats(outputs: BTreeMap<String, Output>) -> BTreeMap<String, Floats> {
    let floats = |(name, output)| match output {
        Output::Floats(floats) => Some((name, floats)),
        Output::Doubles(_) | Output::Integers(_) | Output::Booleans(_) => None,
    };
    outputs.into_iter().filter_map(floats).collect()
}

/// Returns the min cosine of the rows of two tensors; a plain vector is one row.
fn cosine(reference: &Floats, found: &Floats) -> f64 {
    if reference.shape != found.shape {
        return NOT_FINITE;
    }
    let row_length = if reference.shape.len() < 2 { reference.values.len() } else { reference.row_length() };
    least_row_cosine(&reference.values, &found.values, row_length).0.max(NOT_FINITE)
}
