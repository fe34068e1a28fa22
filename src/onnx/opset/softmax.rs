//! Softmax, LogSoftmax and Hardmax, which once worked over all axes from one on, and now work over that axis alone.

use super::work::{Reason, Work};
use crate::onnx::new_nodes::{int_attribute, set_attribute};

/// Makes the node work over the last axis, or over the only one from the old one on that is longer than 1; between a
/// Flatten and a Reshape if there is none that is known to be.
pub(super) fn along_axis(work: &mut Work<'_>) -> Result<(), Reason> {
    let axis = work.take("axis")?.map_or(1, |attribute| attribute.i());
    let axis_now = match work.facts.shapes.first().and_then(Option::as_ref) {
        _ if axis == -1 => Some(-1),
        Some(shape) => single_axis(shape, axis),
        None => None,
    };
    if axis_now.is_none() {
        let x = work.node.input.first().cloned().unwrap_or_default();
        let shape = work.before("Shape", vec![x.clone()], "shape", Vec::new());
        let flat = work.before("Flatten", vec![x], "flat", vec![int_attribute("axis", axis)]);
        work.set_input(0, flat);
        work.after("Reshape", vec![shape], "of_flat");
    }
    set_attribute(&mut work.node, int_attribute("axis", axis_now.unwrap_or(-1)));
    Ok(())
}

/// Returns the only axis from one on that may be longer than 1; -1 for the last.
fn single_axis(shape: &[Option<u64>], from: i64) -> Option<i64> {
    let rank = shape.len();
    let from = if from < 0 { from + rank as i64 } else { from };
    let from = usize::try_from(from).ok().filter(|from| *from < rank)?;
    let mut long = (from..rank).filter(|axis| shape[*axis] != Some(1));
    let axis = long.next().unwrap_or(rank - 1);
    if long.next().is_some() {
        return None;
    }
    Some(if axis + 1 == rank { -1 } else { axis as i64 })
}

#[cfg(test)]
mod tests {
    use super::single_axis;

    #[test]
    fn one_axis_is_enough_where_the_others_are_1() {
        assert_eq!(single_axis(&[None, Some(3)], 1), Some(-1));
        assert_eq!(single_axis(&[None, None, None, None], 3), Some(-1));
        assert_eq!(single_axis(&[None, None, None, None], -1), Some(-1));
        assert_eq!(single_axis(&[None, Some(1000), Some(1), Some(1)], 1), Some(1));
        assert_eq!(single_axis(&[None, Some(1), Some(1), Some(7)], 1), Some(-1));
        assert_eq!(single_axis(&[Some(2), Some(1), Some(1)], 1), Some(-1));
        assert_eq!(single_axis(&[Some(2), None, Some(3)], 1), None);
        assert_eq!(single_axis(&[Some(2), Some(3), Some(1)], 0), None);
        assert_eq!(single_axis(&[Some(2)], 1), None);
        assert_eq!(single_axis(&[], 0), None);
    }
}
