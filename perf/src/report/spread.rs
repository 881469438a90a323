//! How far the repetitions of one measurement lie apart. Table, plots and comparison use this one definition.

/// Fewer samples than this tell no spread.
const FEWEST: usize = 3;
/// From so many samples on, single outliers are left out: quartiles instead of extremes.
const MANY: usize = 10;
/// What is assumed where too few samples were taken, as a share of the median: what runs of one program differ by on a
/// shared machine.
const ASSUMED: f64 = 0.10;

/// An interval around the median.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) kind: Kind,
}

/// What the ends of a spread are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The least and the greatest of 3 to 9 samples.
    Extremes,
    /// The quartiles of 10 samples or more.
    Quartiles,
    /// A tenth of the median to either side: there were fewer than 3 samples.
    Assumed,
}

impl Spread {
    /// Of samples in any order; NaN without any.
    pub(super) fn of(samples: &[f64]) -> Self {
        let sorted = sorted(samples);
        match sorted.len() {
            0..FEWEST => {
                let median = quantile(&sorted, 0.5);
                let width = median.abs() * ASSUMED;
                Self { low: median - width, high: median + width, kind: Kind::Assumed }
            }
            FEWEST..MANY => Self {
                low: quantile(&sorted, 0.0),
                high: quantile(&sorted, 1.0),
                kind: Kind::Extremes,
            },
            _ => Self {
                low: quantile(&sorted, 0.25),
                high: quantile(&sorted, 0.75),
                kind: Kind::Quartiles,
            },
        }
    }

    /// Whether two spreads have nothing in common.
    pub(crate) fn is_apart_from(self, other: Self) -> bool {
        self.high < other.low || other.high < self.low
    }
}

pub(super) fn sorted(samples: &[f64]) -> Vec<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// The `share` quantile of sorted samples, between neighbours by the straight line; NaN without samples.
pub(super) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    #[expect(clippy::cast_precision_loss, reason = "a number of samples")]
    let place = last as f64 * share;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "from 0 to a number of samples"
    )]
    let below = place.floor() as usize;
    let above = (below + 1).min(last);
    let fraction = place.fract();
    if fraction == 0.0 {
        return sorted[below];
    }
    sorted[below] + (sorted[above] - sorted[below]) * fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_neighbours() {
        assert_eq!(quantile(&[1.0, 2.0, 3.0, 4.0, 5.0], 0.25), 2.0);
        assert_eq!(quantile(&[1.0, 2.0, 3.0, 4.0], 0.5), 2.5);
        assert_eq!(quantile(&[7.0], 0.75), 7.0);
        assert!(quantile(&[], 0.5).is_nan());
    }

    #[test]
    fn few_samples_give_extremes_and_many_give_quartiles() {
        let few = Spread::of(&[3.0, 1.0, 2.0]);
        assert_eq!(few, Spread { low: 1.0, high: 3.0, kind: Kind::Extremes });
        // Ten samples and an outlier that does not count.
        let many: Vec<f64> = (0..10).map(f64::from).chain([1000.0]).collect();
        assert_eq!(Spread::of(&many), Spread { low: 2.5, high: 7.5, kind: Kind::Quartiles });
    }

    #[test]
    fn one_or_two_samples_tell_nothing_so_a_tenth_is_assumed() {
        let one = Spread::of(&[200.0]);
        assert_eq!(one, Spread { low: 180.0, high: 220.0, kind: Kind::Assumed });
        assert_eq!(Spread::of(&[190.0, 210.0]), one);
        assert_eq!(Spread::of(&[-10.0]).low, -11.0);
    }

    #[test]
    fn touching_spreads_are_not_apart() {
        let spread = |low, high| Spread { low, high, kind: Kind::Extremes };
        assert!(spread(1.0, 2.0).is_apart_from(spread(2.1, 3.0)));
        assert!(spread(2.1, 3.0).is_apart_from(spread(1.0, 2.0)));
        assert!(!spread(1.0, 2.0).is_apart_from(spread(2.0, 3.0)));
        assert!(!spread(1.0, 9.0).is_apart_from(spread(2.0, 3.0)));
    }
}
