//! How near two outputs are, row by row.

/// The cosine that stands for a row that is not finite: as far away as can be.
pub const NOT_FINITE: f64 = -1.0;

/// Returns the min cosine between the rows of two outputs, and the row it is of. Sums are in double precision.
///
/// Two rows of zeros are alike; a row of zeros and another one are not. No rows at all are alike. `row_length` is the
/// number of values of a row.
pub fn least_row_cosine(reference: &[f32], other: &[f32], row_length: usize) -> (f64, usize) {
    let rows = reference.chunks(row_length.max(1)).zip(other.chunks(row_length.max(1)));
    let cosines = rows.enumerate().map(|(index, (a, b))| (cosine(a, b), index));
    cosines.min_by(|(a, _), (b, _)| a.total_cmp(b)).unwrap_or((1.0, 0))
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let (mut product, mut a_square, mut b_square) = (0.0, 0.0, 0.0);
    for (&a, &b) in a.iter().zip(b) {
        let (a, b) = (f64::from(a), f64::from(b));
        product += a * b;
        a_square += a * a;
        b_square += b * b;
    }
    match (a_square == 0.0, b_square == 0.0) {
        (true, true) => 1.0,
        (true, false) | (false, true) => 0.0,
        (false, false) => {
            let cosine = product / (a_square.sqrt() * b_square.sqrt());
            if cosine.is_finite() { cosine } else { NOT_FINITE }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_row_counts() {
        let reference = [1.0, 0.0, 0.0, 2.0, 3.0, 4.0];
        assert_eq!(least_row_cosine(&reference, &reference, 2), (1.0, 0));
        assert_eq!(least_row_cosine(&reference, &[2.0, 0.0, 5.0, 0.0, 3.0, 4.0], 2), (0.0, 1));
        assert_eq!(least_row_cosine(&reference, &[1.0, 0.0, 0.0, 2.0, f32::NAN, 4.0], 2), (NOT_FINITE, 2));
        assert_eq!(least_row_cosine(&[0.0, 0.0], &[0.0, 0.0], 2), (1.0, 0));
        assert_eq!(least_row_cosine(&[1.0, 0.0], &[0.0, 0.0], 2), (0.0, 0));
        assert_eq!(least_row_cosine(&[1.0, 0.0], &[f32::INFINITY, 0.0], 2), (NOT_FINITE, 0));
        assert_eq!(least_row_cosine(&[], &[], 0), (1.0, 0));
    }
}
