//! Sets of addresses and of networks that every new connection asks about: nothing is computed or converted then.
//!
//! An IPv4 address in IPv6 form is IPv4 here, as everywhere in the engine; such packets are martians.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::flow::Address;

/// A set of addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses(Box<[Address]>);

impl Addresses {
    /// Whether an address is one of them.
    #[must_use]
    pub fn contains(&self, address: Address) -> bool {
        self.0.binary_search(&address).is_ok()
    }

    /// All, in order.
    pub fn iter(&self) -> impl Iterator<Item = Address> + '_ {
        self.0.iter().copied()
    }
}

impl FromIterator<IpAddr> for Addresses {
    fn from_iter<I: IntoIterator<Item = IpAddr>>(addresses: I) -> Self {
        let mut addresses: Vec<Address> = addresses.into_iter().map(Address::from).collect();
        addresses.sort_unstable();
        addresses.dedup();
        Self(addresses.into())
    }
}

/// Addresses to choose from, by family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pool {
    v4: Box<[Address]>,
    v6: Box<[Address]>,
}

impl Pool {
    /// Those of a family, in the order given.
    #[must_use]
    pub fn of(&self, v4: bool) -> &[Address] {
        if v4 { &self.v4 } else { &self.v6 }
    }

    /// Whether an address is one of them.
    #[must_use]
    pub fn contains(&self, address: Address) -> bool {
        self.of(address.is_v4()).contains(&address)
    }
}

impl FromIterator<IpAddr> for Pool {
    fn from_iter<I: IntoIterator<Item = IpAddr>>(addresses: I) -> Self {
        let (v4, v6): (Vec<Address>, _) =
            addresses.into_iter().map(Address::from).partition(|address| address.is_v4());
        Self { v4: v4.into(), v6: v6.into() }
    }
}

/// A set of networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Box<[Network]>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    v4: bool,
    prefix: u128,
    mask: u128,
}

impl Networks {
    /// Whether an address is in one of them.
    #[must_use]
    pub fn contains(&self, address: Address) -> bool {
        let v4 = address.is_v4();
        self.0.iter().any(|net| net.v4 == v4 && (address.0 ^ net.prefix) & net.mask == 0)
    }

    /// Whether one of them is of this family.
    #[must_use]
    pub fn has_family(&self, v4: bool) -> bool {
        self.0.iter().any(|net| net.v4 == v4)
    }
}

impl From<IpNet> for Network {
    fn from(net: IpNet) -> Self {
        let host_bits = u32::from(net.max_prefix_len() - net.prefix_len());
        let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
        Self { v4: net.addr().is_ipv4(), prefix: Address::from(net.addr()).0, mask }
    }
}

impl FromIterator<IpNet> for Networks {
    fn from_iter<I: IntoIterator<Item = IpNet>>(networks: I) -> Self {
        Self(networks.into_iter().map(Network::from).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_address() -> impl Strategy<Value = IpAddr> {
        any::<IpAddr>().prop_filter("IPv4 in IPv6 form", |ip| *ip == ip.to_canonical())
    }

    fn any_network() -> impl Strategy<Value = IpNet> {
        (any_address(), 0u8..=128).prop_map(|(address, len)| {
            let longest = if address.is_ipv4() { 32 } else { 128 };
            IpNet::new(address, len.min(longest)).expect("not too long")
        })
    }

    proptest! {
        #[test]
        fn networks_contain_what_one_of_them_does(
            nets in prop::collection::vec(any_network(), 0..4),
            other in any_address(),
        ) {
            let networks: Networks = nets.iter().copied().collect();
            let ends = nets.iter().flat_map(|net| [net.network(), net.broadcast()]);
            for address in ends.filter(|ip| *ip == ip.to_canonical()).chain([other]) {
                let expected = nets.iter().any(|net| net.contains(&address));
                prop_assert_eq!(networks.contains(address.into()), expected, "{}", address);
            }
            prop_assert_eq!(networks.has_family(true), nets.iter().any(|net| net.addr().is_ipv4()));
        }

        #[test]
        fn addresses_are_what_they_were_made_of(
            list in prop::collection::vec(any_address(), 0..20),
            other in any_address(),
        ) {
            let addresses: Addresses = list.iter().copied().collect();
            let pool: Pool = list.iter().copied().collect();
            for &address in list.iter().chain([&other]) {
                prop_assert_eq!(addresses.contains(address.into()), list.contains(&address));
                prop_assert_eq!(pool.contains(address.into()), list.contains(&address));
            }
        }
    }
}
