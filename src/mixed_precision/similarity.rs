//! How near two outputs are, row by row.

/// The cosine that stands for a row that is not finite: as far away as can be.
pub const NOT_FINITE: f64 = -1.0;

/// Returns the min cosine between the rows of two outputs, and the row it is of. Sums are in double precision.
///
/// Two rows of zeros are alike; a row of zeros and another one are not. No rows at all are alike. `row_length` is the
/// number of values of a row. A row of one number has no direction: see [`likeness_of_numbers`].
pub fn least_row_cosine<T: Copy + Into<f64>>(
    reference: &[T],
    other: &[T],
    row_length: usize,
) -> (f64, usize) {
    let least = |likeness: &mut dyn Iterator<Item = f64>| {
        let least = likeness.zip(0..).min_by(|(a, _), (b, _)| a.total_cmp(b));
        least.unwrap_or((1.0, 0))
    };
    if row_length <= 1 {
        return least(&mut relative_errors(reference, other).map(likeness_of_numbers));
    }
    let rows = reference.chunks(row_length).zip(other.chunks(row_length));
    least(&mut rows.map(|(a, b)| cosine(a, b)))
}

/// Returns how alike two numbers are that differ by this relative error: 1 − error² / 2, which is the cosine of two vectors
/// that differ by as much; -1 at the least.
fn likeness_of_numbers(relative_error: f64) -> f64 {
    (1.0 - relative_error.powi(2) / 2.0).max(NOT_FINITE)
}

/// Returns how far each number is from its reference, as a fraction of it, or of the root mean square of all of them where that
/// is larger: near zero, rounding is no error. Infinite for what is not a number, and beside a reference of zeros alone.
pub fn relative_errors<T: Copy + Into<f64>>(reference: &[T], other: &[T]) -> impl Iterator<Item = f64> {
    let squares: f64 = reference.iter().map(|&value| value.into().powi(2)).sum();
    let usual = (squares / reference.len().max(1) as f64).sqrt();
    reference.iter().zip(other).map(move |(&a, &b)| {
        let (a, b): (f64, f64) = (a.into(), b.into());
        match ((a - b).abs(), a.abs().max(usual)) {
            (0.0, _) => 0.0,
            (difference, scale) => Some(difference / scale).filter(|e| !e.is_nan()).unwrap_or(f64::INFINITY),
        }
    })
}

fn cosine<T: Copy + Into<f64>>(a: &[T], b: &[T]) -> f64 {
    let (mut product, mut a_square, mut b_square) = (0.0, 0.0, 0.0);
    for (&a, &b) in a.iter().zip(b) {
        let (a, b): (f64, f64) = (a.into(), b.into());
        product += a * b;
        a_square += a * a;
        b_square += b * b;
    }
    match (a_square == 0.0, b_square == 0.0) {
        (true, true) => 1.0,
        (true, false) | (false, true) => 0.0,
        (false, false) => {
            // One root: of equal rows it is their square again, and the cosine exactly 1.
            let root = match (a_square * b_square).sqrt() {
                root if root.is_normal() => root,
                _ => a_square.sqrt() * b_square.sqrt(),
            };
            let cosine = product / root;
            if cosine.is_finite() { cosine } else { NOT_FINITE }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_row_counts() {
        let reference = [1.0_f32, 0.0, 0.0, 2.0, 3.0, 4.0];
        assert_eq!(least_row_cosine(&reference, &reference, 2), (1.0, 0));
        assert_eq!(least_row_cosine(&reference, &[2.0, 0.0, 5.0, 0.0, 3.0, 4.0], 2), (0.0, 1));
        assert_eq!(least_row_cosine(&reference, &[1.0, 0.0, 0.0, 2.0, f32::NAN, 4.0], 2), (NOT_FINITE, 2));
        assert_eq!(least_row_cosine(&[0.0_f32, 0.0], &[0.0, 0.0], 2), (1.0, 0));
        assert_eq!(least_row_cosine(&[1.0_f32, 0.0], &[0.0, 0.0], 2), (0.0, 0));
        assert_eq!(least_row_cosine(&[1.0_f32, 0.0], &[f32::INFINITY, 0.0], 2), (NOT_FINITE, 0));
        assert_eq!(least_row_cosine::<f32>(&[], &[], 0), (1.0, 0));
    }

    #[test]
    fn equal_rows_have_a_cosine_of_exactly_1() {
        let numbers: Vec<f64> = (1..2000).map(|number| f64::from(number).sqrt().sin()).collect();
        for scale in [1.0, 1e-30, 1e30, 1e-100, 1e100] {
            let scaled: Vec<f64> = numbers.iter().map(|number| number * scale).collect();
            for length in 2..60 {
                let (cosine, _) = least_row_cosine(&scaled, &scaled, length);
                assert!(
                    (cosine - 1.0).abs() < 1e-15 && (cosine == 1.0 || scale.ln().abs() > 100.0),
                    "{cosine}"
                );
            }
        }
    }

    /// The cosine of two numbers would only tell whether they have one sign.
    #[test]
    fn rows_of_one_number_are_compared_by_value() {
        #[track_caller]
        fn check(reference: &[f64], other: &[f64], expected: (f64, usize)) {
            let (likeness, row) = least_row_cosine(reference, other, 1);
            assert!((likeness - expected.0).abs() < 1e-6 && row == expected.1, "{likeness} in row {row}");
        }
        check(&[1.0, 2.0, 4.0], &[1.0, 2.0, 4.0], (1.0, 0));
        // One half of the value: as far off as a vector with an error of one half beside it.
        check(&[2.0, -2.0], &[2.0, -3.0], (1.0 - 0.125, 1));
        check(&[2.0, -2.0], &[2.0, 2.0], (-1.0, 1));
        check(&[2.0, 2.0], &[f64::NAN, 2.0], (NOT_FINITE, 0));
        // A value near zero is measured by what the others are like.
        check(&[0.0, 10.0, -10.0, 10.0], &[0.001, 10.0, -10.0, 10.0], (1.0, 0));
        check(&[0.0, 0.0], &[0.0, 0.1], (NOT_FINITE, 1));
        check(&[0.0, 0.0], &[0.0, 0.0], (1.0, 0));
    }
}
