//! Order statistics, without interpolation: a p99 is a value that really occurred.

/// The value that `share` of all values do not exceed; 0 of none.
pub fn quantile(values: &mut [u64], share: f64) -> u64 {
    if values.is_empty() {
        return 0;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a rank")]
    let rank = ((values.len() as f64 * share).ceil() as usize).clamp(1, values.len()) - 1;
    *values.select_nth_unstable(rank).1
}

/// Nanoseconds as a fraction of something larger.
pub fn per(nanoseconds: u64, unit: f64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 ns, which is 52 days")]
    let value = nanoseconds as f64;
    value / unit
}

/// One figure over all rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// Of the best or worst round, whichever is smaller.
    pub least: f64,
    /// The figure.
    pub median: f64,
    /// The other end.
    pub most: f64,
}

impl Spread {
    /// `None` of no rounds.
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) };
        Some(Self { least, median, most })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_occurred() {
        let mut values: Vec<u64> = (1..=100).rev().collect();
        assert_eq!(quantile(&mut values, 0.5), 50);
        assert_eq!(quantile(&mut values, 0.99), 99);
        assert_eq!(quantile(&mut values, 1.0), 100);
        assert_eq!((quantile(&mut [7], 0.01), quantile(&mut [], 0.5)), (7, 0));
    }

    #[test]
    fn a_spread_has_its_median_in_the_middle() {
        assert_eq!(Spread::of(vec![3.0, 1.0, 9.0]), Some(Spread { least: 1.0, median: 3.0, most: 9.0 }));
        assert_eq!(Spread::of(vec![4.0, 2.0]).map(|spread| spread.median), Some(3.0));
        assert_eq!(Spread::of(Vec::new()), None);
    }
}
