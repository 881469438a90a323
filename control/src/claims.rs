//! Who owns an address and port that several Services claim (OBJ-14).
//!
//! The API does not prevent it and kube-proxy's answer is arbitrary. Here the oldest Service wins, then the first by
//! namespace and name; when the winner goes, the next one takes over. A change of one Service costs that Service and
//! its rivals, nothing else.

use std::collections::{BTreeSet, HashMap};

use dataplane::flow::Protocol;
use dataplane::service::FrontendAt;
use k8s_openapi::jiff::Timestamp;

use crate::object::ObjectName;

/// An address and port as only one Service can have it.
pub type Claim = (FrontendAt, Protocol);

/// Orders rivals: the smallest wins. Unknown age is younger than any.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    age_unknown: bool,
    created: Option<Timestamp>,
    name: ObjectName,
}

/// The index.
#[derive(Debug, Default)]
pub struct Claims {
    /// Sorted; nearly always one.
    claimants: HashMap<Claim, Vec<Rank>>,
    services: HashMap<ObjectName, (Rank, Vec<Claim>)>,
}

impl Claims {
    /// Replaces what a Service claims. Returns the other Services that claim something whose owner changed by it.
    pub fn set(
        &mut self,
        service: &ObjectName,
        created: Option<Timestamp>,
        claims: Vec<Claim>,
    ) -> BTreeSet<ObjectName> {
        let rank = Rank { age_unknown: created.is_none(), created, name: service.clone() };
        if self.services.get(service).is_some_and(|(was, had)| *was == rank && *had == claims) {
            return BTreeSet::new();
        }
        let former = self.services.remove(service);
        let old: &[Claim] = former.as_ref().map_or(&[], |(_, claims)| claims);
        let mut owners: HashMap<Claim, Option<ObjectName>> = HashMap::new();
        for claim in old.iter().chain(&claims) {
            owners.entry(*claim).or_insert_with(|| self.owner(claim).cloned());
        }
        if let Some((old_rank, old)) = &former {
            for claim in old {
                self.withdraw(claim, old_rank);
            }
        }
        for claim in &claims {
            let claimants = self.claimants.entry(*claim).or_default();
            if let Err(place) = claimants.binary_search(&rank) {
                claimants.insert(place, rank.clone());
            }
        }
        if !claims.is_empty() {
            self.services.insert(service.clone(), (rank, claims));
        }
        let changed = owners.iter().filter(|(claim, owner)| self.owner(claim) != owner.as_ref());
        let rivals = changed.filter_map(|(claim, _)| self.claimants.get(claim)).flatten();
        rivals.map(|rank| &rank.name).filter(|name| *name != service).cloned().collect()
    }

    /// The Service that has it.
    #[must_use]
    pub fn owner(&self, claim: &Claim) -> Option<&ObjectName> {
        self.claimants.get(claim)?.first().map(|rank| &rank.name)
    }

    fn withdraw(&mut self, claim: &Claim, rank: &Rank) {
        if let Some(claimants) = self.claimants.get_mut(claim) {
            claimants.retain(|other| other != rank);
            if claimants.is_empty() {
                self.claimants.remove(claim);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(text: &str) -> Claim {
        (FrontendAt::Address(text.parse().expect("valid")), Protocol::Tcp)
    }

    fn time(second: i64) -> Option<Timestamp> {
        Some(Timestamp::from_second(second).expect("in range"))
    }

    #[test]
    fn obj_14_the_oldest_wins_then_the_first_by_name() {
        let [a, b, c] = ["a", "b", "c"].map(|name| ObjectName::new("demo", name));
        let vip = claim("203.0.113.1:80");
        let mut claims = Claims::default();
        assert!(claims.set(&c, time(5), vec![vip]).is_empty());
        assert_eq!(claims.set(&b, time(5), vec![vip]), [c.clone()].into());
        assert_eq!(claims.owner(&vip), Some(&b));
        // Without a creation time it is the youngest, whatever its name.
        assert!(claims.set(&a, None, vec![vip]).is_empty(), "a loser touches nobody");
        assert_eq!(claims.owner(&vip), Some(&b));
        assert_eq!(claims.set(&a, time(4), vec![vip]), [b.clone(), c.clone()].into());
        assert_eq!(claims.owner(&vip), Some(&a));
    }

    #[test]
    fn obj_14_the_next_takes_over_and_only_rivals_are_touched() {
        let [a, b, c] = ["a", "b", "c"].map(|name| ObjectName::new("demo", name));
        let (one, two) = (claim("203.0.113.1:80"), claim("203.0.113.1:443"));
        let mut claims = Claims::default();
        claims.set(&a, time(1), vec![one]);
        claims.set(&b, time(2), vec![one]);
        assert!(
            claims.set(&c, time(3), vec![two]).is_empty(),
            "another port of a shared address is no conflict"
        );
        assert_eq!(claims.set(&a, time(1), vec![]), [b.clone()].into());
        assert_eq!(claims.owner(&one), Some(&b));
        assert!(claims.set(&b, time(2), vec![]).is_empty());
        claims.set(&c, time(3), vec![]);
        assert!(
            claims.claimants.is_empty() && claims.services.is_empty(),
            "nothing is left behind"
        );
    }
}
