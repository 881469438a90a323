//! Addresses and ranges as Kubernetes objects write them.
//!
//! Objects stored by old API servers may hold leading zeros: read as decimal (OBJ-8), never as octal.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Text that is no address or no range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not an address.
    #[error("{0:?} is not an IP address: write one like 192.0.2.1 or 2001:db8::1")]
    Address(String),
    /// Not a range.
    #[error("{0:?} is not an address range: write one like 192.0.2.0/24 or 2001:db8::/64")]
    Range(String),
}

/// An IPv4 or IPv6 address. IPv4-mapped IPv6 addresses are refused, as by the API server: they would name an IPv4
/// address in an IPv6 table.
pub fn parse_ip(text: &str) -> Result<IpAddr, AddressError> {
    let parsed = if text.contains(':') {
        text.parse::<Ipv6Addr>().ok().filter(|ip| ip.to_ipv4_mapped().is_none()).map(IpAddr::V6)
    } else {
        parse_v4(text).map(IpAddr::V4)
    };
    parsed.ok_or_else(|| AddressError::Address(text.into()))
}

/// A range in CIDR notation; blanks around it are allowed (OBJ-9), host bits are cleared.
pub fn parse_net(text: &str) -> Result<IpNet, AddressError> {
    let error = || AddressError::Range(text.into());
    let (address, len) = text.trim().split_once('/').ok_or_else(error)?;
    let address = parse_ip(address).map_err(|_| error())?;
    let len = decimal(len).ok_or_else(error)?;
    IpNet::new(address, len).map(|net| net.trunc()).map_err(|_| error())
}

fn parse_v4(text: &str) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        *octet = decimal(parts.next()?)?;
    }
    parts.next().is_none().then(|| octets.into())
}

/// Digits only: `u8::from_str` alone would accept a plus sign.
fn decimal(text: &str) -> Option<u8> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn obj_8_leading_zeros_are_decimal() {
        for (text, expected) in [
            ("172.30.0.041", "172.30.0.41"),
            ("010.000.00.1", "10.0.0.1"),
            ("192.0.2.1", "192.0.2.1"),
            ("2001:DB8::1", "2001:db8::1"),
        ] {
            assert_eq!(parse_ip(text).map(|ip| ip.to_string()), Ok(expected.into()), "{text}");
        }
        for (text, expected) in [
            ("203.0.113.000/025", "203.0.113.0/25"),
            (" 10.1.2.3/8\t", "10.0.0.0/8"),
            ("fd00::5/64", "fd00::/64"),
        ] {
            assert_eq!(parse_net(text).map(|net| net.to_string()), Ok(expected.into()), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "1.2.3",
            "1.2.3.4.5",
            "1.2.3.256",
            "+1.2.3.4",
            "0x7f.0.0.1",
            "::ffff:1.2.3.4",
            "fe80::1%eth0",
            "None",
        ] {
            assert!(parse_ip(text).is_err(), "{text}");
        }
        for text in ["", "1.2.3.4", "1.2.3.4/", "1.2.3.4/33", "fd00::/129", "1.2.3.4/-1", "/8"] {
            assert!(parse_net(text).is_err(), "{text}");
        }
    }
}
