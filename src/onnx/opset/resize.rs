//! Nodes that take samples between elements: how they number the elements changed.

use super::work::{Reason, Work};
use crate::onnx::new_nodes::{set_attribute, string_attribute};

/// The first operator set whose Resize may leave out the region.
const ROI_IS_OPTIONAL: i64 = 13;

/// Upsample: the scales became an input.
pub(super) fn scales(work: &mut Work<'_>) -> Result<(), Reason> {
    let scales = work.take("scales")?.ok_or("has no attribute scales")?;
    let scales = work.floats("scales", &scales.floats);
    work.set_input(1, scales);
    Ok(())
}

/// Upsample became Resize, which can make smaller as well.
pub(super) fn upsample(work: &mut Work<'_>) -> Result<(), Reason> {
    work.node.op_type = Some("Resize".into());
    work.grows = true;
    Ok(())
}

/// Resize: how positions are computed can be chosen, and what was the rule is not the default.
pub(super) fn coordinates(work: &mut Work<'_>) -> Result<(), Reason> {
    let mode = work.string("mode")?.unwrap_or("nearest".into());
    match mode.as_str() {
        "linear" => {}
        "nearest" => {
            // Runtimes agree on the nearest element of a smaller one, and on nothing else.
            let grows = work.grows || work.facts.scales.iter().flatten().all(|scale| *scale >= 1.0);
            if !grows || (work.facts.scales.is_none() && !work.grows) {
                return Err("takes the nearest elements with scales below 1 or unknown ones, and which element is nearest \
                     was not defined"
                    .into());
            }
            set_attribute(&mut work.node, string_attribute("nearest_mode", "floor"));
        }
        other => return Err(format!("has the mode `{other}`: expected nearest or linear").into()),
    }
    set_attribute(&mut work.node, string_attribute("coordinate_transformation_mode", "asymmetric"));
    let scales = work.input(1).ok_or("has no scales")?.to_owned();
    let roi = if work.to < ROI_IS_OPTIONAL { work.floats("roi", &[]) } else { String::new() };
    work.set_input(1, roi);
    work.set_input(2, scales);
    Ok(())
}

/// Resize to given sizes: the scales are absent, no longer empty. One way to compute positions is gone.
pub(super) fn sizes(work: &mut Work<'_>) -> Result<(), Reason> {
    if work.input(3).is_some() {
        work.set_input(2, String::new());
    }
    if work.string("coordinate_transformation_mode")?.as_deref() == Some("tf_half_pixel_for_nn") {
        let is_nearest = work.string("mode")?.is_none_or(|mode| mode == "nearest");
        if !is_nearest || work.string("nearest_mode")?.as_deref() != Some("floor") {
            return Err("has the coordinate transformation tf_half_pixel_for_nn, which is gone; only with the nearest \
                 mode floor another one does the same"
                .into());
        }
        set_attribute(&mut work.node, string_attribute("coordinate_transformation_mode", "half_pixel"));
        set_attribute(&mut work.node, string_attribute("nearest_mode", "round_prefer_ceil"));
    }
    Ok(())
}

/// RoiAlign: half a pixel is taken off by default now.
pub(super) fn roi_align(work: &mut Work<'_>) -> Result<(), Reason> {
    set_attribute(&mut work.node, string_attribute("coordinate_transformation_mode", "output_half_pixel"));
    Ok(())
}

/// GridSample: modes got other names, since there may be any number of axes.
pub(super) fn grid_sample(work: &mut Work<'_>) -> Result<(), Reason> {
    let mode = match work.string("mode")?.as_deref() {
        None | Some("bilinear") => "linear",
        Some("bicubic") => "cubic",
        Some("nearest") => "nearest",
        Some(mode) => {
            return Err(format!("has the mode `{mode}`: expected bilinear, bicubic or nearest").into());
        }
    };
    set_attribute(&mut work.node, string_attribute("mode", mode));
    Ok(())
}
