//! Nodes whose attributes became inputs.

use super::work::{Reason, Work};
use crate::onnx::ElementType;
use crate::onnx::analysis::attribute;
use crate::onnx::new_nodes::{int_attribute, ints_attribute};

/// Reduce, Squeeze and Unsqueeze: the axes.
pub(super) fn axes(work: &mut Work<'_>) -> Result<(), Reason> {
    if let Some(axes) = work.take_ints("axes")? {
        let axes = work.ints("axes", &axes);
        work.set_input(1, axes);
    }
    Ok(())
}

/// MeanVarianceNormalization: the default is the same, but ONNX's own shape inference fails on a node that relies on it.
pub(super) fn default_axes(work: &mut Work<'_>) -> Result<(), Reason> {
    if attribute(&work.node, "axes").is_none() {
        work.node.attribute.push(ints_attribute("axes", &[0, 2, 3]));
    }
    Ok(())
}

/// Slice: where it starts and ends, and the axes.
pub(super) fn slice(work: &mut Work<'_>) -> Result<(), Reason> {
    for (place, name) in [(1, "starts"), (2, "ends")] {
        let bounds = work.take(name)?.ok_or_else(|| format!("has no attribute {name}"))?;
        let bounds = work.ints(name, &bounds.ints);
        work.set_input(place, bounds);
    }
    if let Some(axes) = work.take_ints("axes")? {
        let axes = work.ints("axes", &axes);
        work.set_input(3, axes);
    }
    Ok(())
}

/// Split: the sizes of the parts.
pub(super) fn split(work: &mut Work<'_>) -> Result<(), Reason> {
    if let Some(sizes) = work.take_ints("split")? {
        let sizes = work.ints("split", &sizes);
        work.set_input(1, sizes);
    }
    Ok(())
}

/// Split into equal parts: how many has to be said.
pub(super) fn split_equally(work: &mut Work<'_>) -> Result<(), Reason> {
    if work.input(1).is_none() {
        work.node.input.truncate(1);
        let parts = work.node.output.len() as i64;
        work.node.attribute.push(int_attribute("num_outputs", parts));
    }
    Ok(())
}

/// TopK: how many.
pub(super) fn top_k(work: &mut Work<'_>) -> Result<(), Reason> {
    let count = work.take("k")?.ok_or("has no attribute k")?;
    let count = work.ints("k", &[count.i()]);
    work.set_input(1, count);
    Ok(())
}

/// Clip: the limits.
pub(super) fn clip(work: &mut Work<'_>) -> Result<(), Reason> {
    // In FP64, the limits that were the default are within what the type holds.
    let is_double = work.facts.types.first() == Some(&Some(ElementType::Double));
    for (place, name, default) in [(1, "min", f32::MIN), (2, "max", f32::MAX)] {
        let limit = work.take(name)?.map(|attribute| attribute.f());
        if let Some(limit) = limit.or(is_double.then_some(default)) {
            let limit = work.number_of_its_type(name, limit)?;
            work.set_input(place, limit);
        }
    }
    Ok(())
}

/// Pad: how much, and with what.
pub(super) fn pad(work: &mut Work<'_>) -> Result<(), Reason> {
    let pads = work.take("pads")?.ok_or("has no attribute pads")?;
    let pads = work.ints("pads", &pads.ints);
    work.set_input(1, pads);
    let value = work.take("value")?.map(|attribute| attribute.f()).filter(|value| *value != 0.0);
    if let Some(value) = value {
        let value = work.number_of_its_type("value", value)?;
        work.set_input(2, value);
    }
    Ok(())
}

/// DFT: the axis, which is another one by default now.
pub(super) fn dft(work: &mut Work<'_>) -> Result<(), Reason> {
    let axis = work.take("axis")?.map_or(1, |attribute| attribute.i());
    let axis = work.int("axis", axis);
    work.set_input(2, axis);
    Ok(())
}

/// Scatter got another name.
pub(super) fn scatter(work: &mut Work<'_>) -> Result<(), Reason> {
    work.node.op_type = Some("ScatterElements".into());
    Ok(())
}
