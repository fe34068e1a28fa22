//! Nodes that once said by their outputs whether they are trained.

use super::work::{Reason, Work};

/// BatchNormalization with statistics for every position, not for every channel, is gone.
pub(super) fn not_spatial(work: &mut Work<'_>) -> Result<(), Reason> {
    let is_spatial = work.take("spatial")?.is_none_or(|attribute| attribute.i() != 0);
    is_spatial.then_some(()).ok_or("normalizes every position by itself (spatial = 0), which is gone".into())
}

/// BatchNormalization that returned statistics was being trained.
pub(super) fn without_statistics(work: &mut Work<'_>) -> Result<(), Reason> {
    if (1..work.node.output.len()).any(|index| work.uses_output(index)) {
        return Err("returns statistics, which it does in training only".into());
    }
    work.node.output.truncate(1);
    Ok(())
}

/// What a mask holds where nothing is dropped was not defined until it was all ones.
pub(super) fn without_mask(work: &mut Work<'_>) -> Result<(), Reason> {
    if work.uses_output(1) {
        return Err("returns its mask, whose values were not defined".into());
    }
    work.node.output.truncate(1);
    Ok(())
}

/// Dropout: the ratio is an input, which counts in training only.
pub(super) fn dropout(work: &mut Work<'_>) -> Result<(), Reason> {
    without_mask(work)?;
    if let Some(ratio) = work.take("ratio")? {
        let ratio = work.float("ratio", ratio.f());
        work.set_input(1, ratio);
    }
    Ok(())
}
