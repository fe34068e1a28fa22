//! GroupNormalization, whose scale and bias were by group, and are by channel now.

use super::work::{Reason, Work};
use crate::onnx::analysis::attribute;
use crate::onnx::new_nodes::int_attribute;

/// Repeats scale and bias for every channel of a group.
pub(super) fn by_channel(work: &mut Work<'_>) -> Result<(), Reason> {
    let groups = attribute(&work.node, "num_groups").filter(|one| one.ref_attr_name().is_empty());
    let groups = groups.map(|attribute| attribute.i()).ok_or("has no attribute num_groups")?;
    if groups < 1 {
        return Err(format!("has {groups} groups: expected at least 1").into());
    }
    let channels =
        work.facts.shapes.first().and_then(Option::as_ref).and_then(|shape| shape.get(1).copied()?);
    let repeats = match channels {
        Some(channels) if channels == groups.cast_unsigned() => return Ok(()),
        Some(channels) => work.ints("repeats", &[1, channels.cast_signed() / groups]),
        None => {
            let x = work.node.input.first().cloned().unwrap_or_default();
            let second = vec![int_attribute("start", 1), int_attribute("end", 2)];
            let channels = work.before("Shape", vec![x], "channels", second);
            let groups = work.ints("groups", &[groups]);
            let each = work.before("Div", vec![channels, groups], "channels_of_group", Vec::new());
            let one = work.ints("one", &[1]);
            work.before("Concat", vec![one, each], "repeats", vec![int_attribute("axis", 0)])
        }
    };
    let (behind, flat) = (work.ints("behind", &[1]), work.ints("flat", &[-1]));
    for (place, what) in [(1, "scale"), (2, "bias")] {
        let by_group = work.input(place).ok_or_else(|| format!("has no {what}"))?.to_owned();
        let column = work.before("Unsqueeze", vec![by_group, behind.clone()], what, Vec::new());
        let repeated = work.before("Expand", vec![column, repeats.clone()], what, Vec::new());
        let by_channel = work.before("Reshape", vec![repeated, flat.clone()], what, Vec::new());
        work.set_input(place, by_channel);
    }
    Ok(())
}
