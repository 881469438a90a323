//! The zero-loss rate, found in the manner of MLRsearch (RFC 2544 with shorter trials that may fail now and then).
//!
//! A load holds when more than half of its trials lose nothing, and is too much when at least half of them lose
//! something: one stolen time slice of a shared machine then decides nothing. The search widens its steps until it has a
//! load that holds and one that does not, and then halves the distance until that is small. As with MLRsearch, what it
//! finds is likely higher than with RFC 2544's one long trial a load.

/// How exactly to search.
#[derive(Clone, Copy, Debug)]
pub(super) struct Goal {
    /// Trials of a load; an odd number, so that there is a majority.
    pub(super) trials: u32,
    /// How far the load that is too much may be above the one that holds, as a share of it.
    pub(super) width: f64,
}

/// Where a search ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Found {
    /// The highest load that holds.
    pub(super) rate: f64,
    /// A load that is too much, `width` above; none when the highest load there is holds.
    pub(super) too_much: Option<f64>,
}

/// Searches below `most`, from `start` on. `holds` runs a trial at a rate and says whether nothing was lost.
pub(super) fn search<E>(
    goal: Goal,
    start: f64,
    most: f64,
    mut lossless: impl FnMut(f64) -> Result<bool, E>,
) -> Result<Found, E> {
    let mut step = goal.width * 2.0;
    let (mut lower, mut upper) = (None, None);
    let mut rate = start.min(most);
    loop {
        if holds(goal.trials, || lossless(rate))? {
            lower = Some(rate);
        } else {
            upper = Some(rate);
        }
        rate = match (lower, upper) {
            (Some(lower), Some(upper)) if upper <= lower * (1.0 + goal.width) => {
                return Ok(Found { rate: lower, too_much: Some(upper) });
            }
            (Some(lower), Some(upper)) => (lower * upper).sqrt(),
            (Some(lower), None) if lower >= most => {
                return Ok(Found { rate: lower, too_much: None });
            }
            (Some(lower), None) => (lower * (1.0 + step)).min(most),
            (None, Some(upper)) => upper / (1.0 + step),
            (None, None) => return Ok(Found { rate: 0.0, too_much: None }),
        };
        step *= 2.0;
    }
}

/// Whether more than half of the trials succeed; ends as soon as that is decided.
fn holds<E>(trials: u32, mut lossless: impl FnMut() -> Result<bool, E>) -> Result<bool, E> {
    let (mut good, mut bad) = (0, 0);
    loop {
        if lossless()? {
            good += 1
        } else {
            bad += 1
        }
        if good * 2 > trials {
            return Ok(true);
        }
        if bad * 2 >= trials {
            return Ok(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOAL: Goal = Goal { trials: 3, width: 0.01 };

    /// Searches a device that takes `capacity` and fails every `fault`-th trial for no reason.
    fn found(capacity: f64, start: f64, most: f64, fault: u32) -> (Found, u32) {
        let mut trials = 0;
        let found = search::<()>(GOAL, start, most, |rate| {
            trials += 1;
            assert!(rate <= most);
            Ok(rate <= capacity && trials % fault != 0)
        });
        (found.unwrap(), trials)
    }

    #[test]
    fn the_rate_is_found_from_any_start_within_the_width() {
        for start in [1e5, 4.9e6, 5e6, 5.1e6, 2e7] {
            let (Found { rate, too_much }, trials) = found(5e6, start, 2e7, u32::MAX);
            let too_much = too_much.unwrap();
            assert!(rate <= 5e6 && too_much > 5e6 && too_much <= rate * 1.0101, "{rate}");
            assert!(trials < 60, "{trials} trials from {start}");
        }
    }

    #[test]
    fn one_bad_trial_in_three_decides_nothing() {
        let (Found { rate, .. }, _) = found(5e6, 4e6, 2e7, 3);
        assert!((4.9e6..=5e6).contains(&rate), "{rate}");
    }

    #[test]
    fn a_device_that_takes_everything_has_no_upper_bound() {
        assert_eq!(found(1e9, 1e6, 2e7, u32::MAX).0, Found { rate: 2e7, too_much: None });
    }

    #[test]
    fn errors_end_the_search() {
        assert_eq!(search(GOAL, 1e6, 2e6, |_| Err("interrupted")), Err("interrupted"));
    }
}
