//! What a group of profiles says of quantization: `quantize`, and `calibration` of graphs.

use serde_saphyr::{Location, Spanned};

use super::{RecipeError, RecipeGraph, RecipeProblem, schema};
use crate::backend::{Backend, computes_quantized_convolutions, takes_quantized};
use crate::compute_capability::ComputeCapability;
use crate::onnx::quantize::{BLOCKS, Embeddings, Method, QuantizationOptions, QuantizedPrecision, Treatment};
use crate::onnx::{Precision, Quantization};
use crate::profile::{ProfilePrecision, ProfileSpec, Target};
use crate::quantization::{Gate, QuantizationDemands, Wanted};

/// Checks what a group says of quantization alone.
pub(super) fn check(
    path: &str,
    quantize: Option<&Spanned<schema::Quantize>>,
    precisions: &Spanned<Vec<ProfilePrecision>>,
    searches: bool,
) -> Result<(), RecipeError> {
    let quantized = precisions.value.iter().find_map(|precision| precision.quantized());
    match (quantize, quantized) {
        (Some(quantize), None) => Err(RecipeProblem::NothingQuantized.at_value(path, quantize)),
        (_, Some(precision)) if searches => {
            Err(RecipeProblem::SearchOfQuantized(precision).at_value(path, precisions))
        }
        (None, _) => Ok(()),
        (Some(quantize), Some(_)) => check_values(path, quantize),
    }
}

fn check_values(path: &str, quantize: &Spanned<schema::Quantize>) -> Result<(), RecipeError> {
    let schema::Quantize {
        base: _,
        method,
        block,
        embeddings: _,
        attention: _,
        convolutions: _,
        keep_nodes: _,
        require: _,
        gate,
    } = &quantize.value;
    if let Some(block) = block.as_ref().filter(|block| !BLOCKS.contains(&block.value)) {
        return Err(RecipeProblem::Block { block: block.value }.at_value(path, block));
    }
    if let Some(method) = method {
        wanted(method).map_err(|problem| problem.at_value(path, method))?;
    }
    if let Some(gate) = gate {
        let schema::QuantizeGate { min_row_cosine, evaluations } = gate.value;
        if let Some(min_row_cosine) = min_row_cosine.filter(|cosine| !(*cosine > 0.0 && *cosine < 1.0)) {
            return Err(RecipeProblem::Gate { min_row_cosine }.at_value(path, gate));
        }
        if evaluations == Some(0) {
            return Err(RecipeProblem::NoEvaluations.at_value(path, gate));
        }
    }
    Ok(())
}

fn wanted(method: &Spanned<String>) -> Result<Wanted, RecipeProblem> {
    if method.value == "auto" {
        return Ok(Wanted::Auto);
    }
    let method: Method = method.value.parse().map_err(RecipeProblem::Method)?;
    Ok(Wanted::Only(method))
}

/// Returns how graphs are quantized to a precision, and what is demanded of it. What is said was checked.
pub(super) fn of_precision(
    precision: QuantizedPrecision,
    quantize: Option<&Spanned<schema::Quantize>>,
    backend: &Backend,
    target: &Target,
) -> Result<(Quantization, QuantizationDemands), RecipeProblem> {
    let said = quantize.map(|quantize| &quantize.value);
    let mut options = QuantizationOptions::new(precision, said.map_or(Precision::Fp16, |said| said.base));
    let computes =
        |capability: &ComputeCapability| computes_quantized_convolutions(backend.name(), Some(*capability));
    if !target.compute_capabilities().iter().all(computes) {
        options.convolutions = Treatment::Keep;
    }
    let mut demands = QuantizationDemands {
        wanted: Wanted::Auto,
        gate: Gate { min_row_cosine: precision.default_gate(), evaluations: Gate::EVALUATIONS },
        require: said.map(|said| said.require).unwrap_or_default(),
    };
    if let Some(schema::Quantize {
        base: _,
        method,
        block,
        embeddings,
        attention,
        convolutions,
        keep_nodes,
        require: _,
        gate,
    }) = said
    {
        options.attention = *attention;
        options.convolutions = convolutions.unwrap_or(options.convolutions);
        options.block = block.as_ref().map_or(options.block, |block| block.value);
        options.embeddings = *embeddings;
        options.keep_nodes.clone_from(keep_nodes);
        if let Some(method) = method {
            demands.wanted = wanted(method)?;
        }
        if let Some(schema::QuantizeGate { min_row_cosine, evaluations }) =
            gate.as_ref().map(|gate| gate.value)
        {
            demands.gate.min_row_cosine = min_row_cosine.unwrap_or(demands.gate.min_row_cosine);
            demands.gate.evaluations = evaluations.unwrap_or(demands.gate.evaluations);
        }
    }
    Ok((Quantization { options, graph: None }, demands))
}

/// Checks that a backend takes what is quantized for a target: every capability of a portable plan.
pub(super) fn check_target(
    backend: &Backend,
    target: &Target,
    quantization: &Quantization,
) -> Result<(), RecipeProblem> {
    let QuantizationOptions { precision, base, embeddings, .. } = quantization.options;
    let capabilities = target.compute_capabilities();
    let capabilities = if capabilities.is_empty() {
        vec![None]
    } else {
        capabilities.into_iter().map(Some).collect::<Vec<_>>()
    };
    let tables = (embeddings == Embeddings::Int4).then_some(QuantizedPrecision::Int4);
    for capability in capabilities {
        for stored in [Some(precision), tables].into_iter().flatten() {
            takes_quantized(backend.name(), stored, capability)?;
        }
        if let Some(capability) = capability
            && base != Precision::Fp16
            && backend.facts().without_wide_products.contains(&capability)
        {
            return Err(RecipeProblem::Base { base, backend: backend.clone(), capability });
        }
    }
    Ok(())
}

/// Checks that every graph has samples to calibrate with, if a profile is quantized, which are not those that it is judged by.
pub(super) fn check_calibration(
    path: &str,
    graphs: &std::collections::BTreeMap<String, RecipeGraph>,
    profiles: &[ProfileSpec],
) -> Result<(), RecipeError> {
    let Some(precision) = profiles.iter().find_map(|spec| spec.precision().quantized()) else {
        return Ok(());
    };
    for (graph, RecipeGraph { source_line, samples, calibration, .. }) in graphs {
        let problem = if calibration.is_empty() {
            RecipeProblem::NoCalibration { graph: graph.clone(), precision }
        } else if calibration == samples && calibration.values().any(|sample| !sample.is_seeded()) {
            RecipeProblem::JudgedCalibration { graph: graph.clone() }
        } else {
            continue;
        };
        return Err(RecipeError { position: Some((*source_line, 1)), ..problem.at(path, Location::UNKNOWN) });
    }
    Ok(())
}
