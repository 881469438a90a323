//! Time as the engine knows it: milliseconds since some start, monotonic, given from outside once per burst.

/// A moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

impl Moment {
    /// Whole seconds since the start.
    #[must_use]
    pub fn secs(self) -> u64 {
        self.0 / 1000
    }

    /// The moment `millis` later.
    #[must_use]
    pub fn after(self, millis: u64) -> Self {
        Self(self.0 + millis)
    }
}

/// A token bucket: at most `rate` a second on average, at most a second's worth at once.
#[derive(Debug)]
pub struct RateLimit {
    rate: u64,
    // In thousandths of a token, so that a millisecond adds `rate` of them.
    millitokens: u64,
    filled: Moment,
}

impl RateLimit {
    /// A full bucket.
    #[must_use]
    pub fn new(per_second: u64) -> Self {
        Self { rate: per_second, millitokens: per_second * 1000, filled: Moment::default() }
    }

    /// Takes a token if there is one.
    pub fn allow(&mut self, now: Moment) -> bool {
        let elapsed = now.0.saturating_sub(self.filled.0);
        self.filled = now;
        self.millitokens =
            (self.millitokens + elapsed.saturating_mul(self.rate)).min(self.rate * 1000);
        let allowed = self.millitokens >= 1000;
        if allowed {
            self.millitokens -= 1000;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_rate_and_no_more() {
        let mut limit = RateLimit::new(100);
        let granted =
            |limit: &mut RateLimit, at| (0..1000).filter(|_| limit.allow(Moment(at))).count();
        assert_eq!(granted(&mut limit, 10_000), 100);
        assert_eq!(granted(&mut limit, 10_500), 50);
        assert_eq!(granted(&mut limit, 10_509), 0, "nine milliseconds are less than one token");
        assert_eq!(granted(&mut limit, 10_510), 1);
    }
}
