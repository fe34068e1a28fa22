//! What else to try, where a graph doesn't run in the shapes that were proposed first.

use super::{DimensionKind, DraftInput, Range};
use crate::shape_range::ShapeRange;

/// Heights of images that many models insist on: lines of text, then squares.
const HEIGHTS: &[i64] = &[48, 32, 64];
const SIDES: &[i64] = &[224, 256, 320, 384, 448, 512, 640, 299, 64, 32, 28];
/// Lengths that models of sound and text insist on.
const LENGTHS: &[i64] =
    &[512, 256, 128, 64, 77, 32, 16, 8, 4, 2, 1, 100, 400, 480, 576, 1_024, 1_536, 3_000, 16_000];

/// Returns ranges for all inputs of a graph, the likeliest first.
pub fn alternatives(inputs: &[DraftInput]) -> Vec<Vec<Option<ShapeRange>>> {
    let mut found: Vec<Vec<Option<ShapeRange>>> = Vec::new();
    let mut add = |change: &dyn Fn(DimensionKind, Range) -> Range| {
        let changed: Vec<_> = inputs.iter().map(|input| changed(input, change)).collect();
        found.push(changed);
    };
    let is_batch = |kind| kind == DimensionKind::Batch;
    let is_side = |kind| matches!(kind, DimensionKind::Height | DimensionKind::Width);
    let one_row = |kind, range| if is_batch(kind) { [1; 3] } else { range };
    let whole = |kind, range: Range| if is_batch(kind) { range } else { [range[1]; 3] };
    add(&|_, [min, opt, _]| [min, opt, opt]);
    add(&whole);
    add(&one_row);
    add(&|kind, range| one_row(kind, whole(kind, range)));
    let kinds: Vec<DimensionKind> =
        inputs.iter().flat_map(|input| input.dynamic().map(|one| one.1)).collect();
    let fixed: &[i64] = if kinds.iter().any(|kind| is_side(*kind)) { SIDES } else { LENGTHS };
    for rows in [None, Some([1; 3])] {
        let with_rows = |kind, range| if is_batch(kind) { rows.unwrap_or(range) } else { range };
        if kinds.contains(&DimensionKind::Height) {
            for &height in HEIGHTS {
                add(&|kind, range| match kind {
                    DimensionKind::Height => [height; 3],
                    _ => with_rows(kind, range),
                });
            }
        }
        for &length in fixed {
            add(&|kind, range| match kind {
                DimensionKind::Batch | DimensionKind::Channels => with_rows(kind, range),
                _ => [length; 3],
            });
        }
    }
    found
}

fn changed(input: &DraftInput, change: &dyn Fn(DimensionKind, Range) -> Range) -> Option<ShapeRange> {
    let mut range = input.range.clone()?;
    for (index, kind) in input.dynamic() {
        let [min, opt, max] = change(kind, [range.min[index], range.opt[index], range.max[index]]);
        (range.min[index], range.opt[index], range.max[index]) = (min, opt, max);
    }
    Some(range)
}
