//! Single values: from text to type. Errors are the words after `key: value:`, that is, what was expected.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use dataplane::conntrack::state::Timeouts;
use dataplane::fib::MssClamp;

use hickory_resolver::proto::rr::Name;
use ipnet::IpNet;

use super::error::did_you_mean;

pub(super) type Parsed<T> = Result<T, String>;

/// A whole number of a range.
pub(super) fn number<T>(range: RangeInclusive<T>) -> impl Fn(&str) -> Parsed<T>
where
    T: std::str::FromStr + PartialOrd + std::fmt::Display,
{
    move |text| match text.parse() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => Err(format!("expected a whole number from {} to {}", range.start(), range.end())),
    }
}

/// One of a few words.
pub(super) fn word<T: Copy>(words: &[(&'static str, T)]) -> impl Fn(&str) -> Parsed<T> {
    move |text| {
        let found = words.iter().find(|(word, _)| *word == text);
        found.map(|(_, value)| *value).ok_or_else(|| {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            format!("expected one of {}{}", words.join(", "), did_you_mean(text, &words))
        })
    }
}

/// The largest TCP segments, or `auto` for what a port's MTU leaves.
pub(super) fn mss_clamp(mtu: u16) -> impl Fn(&str) -> Parsed<MssClamp> {
    move |text| {
        if text == "auto" {
            return Ok(MssClamp::of_mtu(mtu));
        }
        // What every host of IPv4 can take, to what the largest MTU leaves.
        let bytes = number(536..=9662)(text);
        bytes.map(MssClamp::of).map_err(|expected| format!("{expected}, or auto"))
    }
}

/// Seconds, or numbers with units from large to small: `7440`, `7440s`, `2h4m`. From one second to what the
/// connection table's clock can hold.
pub(super) fn duration(text: &str) -> Parsed<Duration> {
    let parsed = seconds(text).map(Duration::from_secs);
    parsed.filter(|time| (Duration::from_secs(1)..=Timeouts::MAX).contains(time)).ok_or_else(|| {
        "expected a duration from 1s to 16h40m, such as 240, 240s, 4m or 2h4m".to_owned()
    })
}

fn seconds(text: &str) -> Option<u64> {
    if let Ok(seconds) = text.parse() {
        return Some(seconds);
    }
    let (mut rest, mut total, mut above) = (text, 0u64, u64::MAX);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        let unit = match rest.as_bytes()[digits] {
            b'h' => 3600,
            b'm' => 60,
            b's' => 1,
            _ => return None,
        };
        // `1m1h` or `1m1m` is rather a mistake than an hour and a minute.
        if unit >= above {
            return None;
        }
        above = unit;
        total = total.checked_add(number.checked_mul(unit)?)?;
        rest = &rest[digits + 1..];
    }
    (above != u64::MAX).then_some(total)
}

/// A unicast address.
pub(super) fn ip(text: &str) -> Parsed<IpAddr> {
    let ip: IpAddr =
        text.parse().map_err(|_| "expected an IP address, such as 192.0.2.1 or 2001:db8::1")?;
    unicast(ip)
}

fn unicast(ip: IpAddr) -> Parsed<IpAddr> {
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    if ip.is_multicast() || ip.is_unspecified() || ip.is_loopback() || broadcast {
        return Err("expected an address another host can reach".to_owned());
    }
    Ok(ip)
}

/// A network: no bits set behind the prefix.
pub(super) fn network(text: &str) -> Parsed<IpNet> {
    let expected = "expected a network, such as 203.0.113.0/24 or 2001:db8::/64";
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Err(format!("{expected} (did you mean `{}`?)", IpNet::from(ip)));
    }
    let net: IpNet = text.parse().map_err(|_| expected)?;
    if net != net.trunc() {
        return Err(format!("{expected} (did you mean `{}`?)", net.trunc()));
    }
    Ok(net)
}

/// An address with the length of its network.
pub(super) fn interface(text: &str) -> Parsed<IpNet> {
    let expected = "expected an address with the length of its network, such as 192.0.2.10/24";
    let net: IpNet = text.parse().map_err(|_| expected)?;
    unicast(net.addr())?;
    let is_network = net == net.trunc() && net.prefix_len() < net.max_prefix_len() - 1;
    if is_network {
        return Err(format!("this is a network; {expected}"));
    }
    Ok(net)
}

/// Where to listen.
pub(super) fn listen(text: &str) -> Parsed<SocketAddr> {
    text.parse().map_err(|_| {
        "expected an address and a port, such as 127.0.0.1:10256 or [::]:10256".to_owned()
    })
}

/// Where to answer DNS: answers must leave from the address that was asked, so each is given by itself.
pub(super) fn dns_listen(text: &str) -> Parsed<SocketAddr> {
    let expected = "expected an address of this machine, such as 192.0.2.10 or [2001:db8::10]:53";
    let address = dns_address(text).filter(|address| {
        let ip = address.ip();
        !ip.is_unspecified() && !ip.is_multicast()
    });
    address.ok_or_else(|| expected.to_owned())
}

/// A DNS server.
pub(super) fn dns_server(text: &str) -> Parsed<SocketAddr> {
    let expected = "expected a DNS server's address, such as 192.0.2.53 or [2001:db8::53]:5353";
    let address = dns_address(text).filter(|address| {
        let ip = address.ip();
        !ip.is_unspecified() && !ip.is_multicast() && address.port() != 0
    });
    address.ok_or_else(|| expected.to_owned())
}

fn dns_address(text: &str) -> Option<SocketAddr> {
    let ip = text.parse().map(|ip| SocketAddr::new(ip, 53));
    ip.or_else(|_| text.parse()).ok()
}

/// A DNS zone; a dot at its end changes nothing.
pub(super) fn zone(text: &str) -> Parsed<Name> {
    let labels = text.strip_suffix('.').unwrap_or(text).split('.');
    let plain = labels.clone().all(|label| {
        let letters = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        letters && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
    });
    let name = plain.then(|| Name::from_ascii(text.to_ascii_lowercase()).ok()).flatten();
    let mut name =
        name.ok_or_else(|| "expected a domain name, such as cluster.local".to_owned())?;
    name.set_fqdn(true);
    Ok(name)
}

/// The first and the last of a range of ports.
pub(super) fn port_range(text: &str) -> Parsed<RangeInclusive<u16>> {
    let range = text.split_once('-').and_then(|(first, last)| {
        Some(first.trim().parse::<u16>().ok()?..=last.trim().parse::<u16>().ok()?)
    });
    match range {
        Some(range) if *range.start() >= 1024 && range.start() < range.end() => Ok(range),
        _ => Err("expected FIRST-LAST with 1024 <= FIRST < LAST <= 65535".to_owned()),
    }
}

/// A PCI address; capital letters become small ones.
pub(super) fn pci(text: &str) -> Parsed<String> {
    let expected = "expected a PCI address, such as 0000:00:04.0";
    let lower = text.to_ascii_lowercase();
    if is_pci(&lower) {
        return Ok(lower);
    }
    let with_domain = format!("0000:{lower}");
    let hint = if is_pci(&with_domain) {
        format!(" (did you mean `{with_domain}`?)")
    } else {
        String::new()
    };
    Err(format!("{expected}{hint}"))
}

fn is_pci(text: &str) -> bool {
    let hex = |part: &str, len| part.len() == len && part.bytes().all(|b| b.is_ascii_hexdigit());
    let parts: Vec<&str> = text.split([':', '.']).collect();
    let [domain, bus, device, function] = parts[..] else { return false };
    let separators = text.bytes().filter(|b| *b == b':').count() == 2;
    separators && hex(domain, 4) && hex(bus, 2) && hex(device, 2) && hex(function, 1)
}

/// A virtual device: driver with a number, then arguments.
pub(super) fn vdev(text: &str) -> Parsed<String> {
    let driver = text.split(',').next().unwrap_or_default();
    let numbered = driver.ends_with(|c: char| c.is_ascii_digit());
    if driver.starts_with("net_") && numbered && !text.contains(char::is_whitespace) {
        return Ok(text.to_owned());
    }
    Err("expected a driver with a number and arguments, such as net_af_packet0,iface=eth1"
        .to_owned())
}

/// Longest name of a network device.
pub(super) const DEVICE_NAME_MAX: usize = 15;

/// A name of up to `max` letters, digits, `-`, `_` and `.` that begins with a letter or digit.
pub(super) fn name(max: usize) -> impl Fn(&str) -> Parsed<String> {
    move |text| {
        let first = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        let all = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if first && all && text.len() <= max {
            return Ok(text.to_owned());
        }
        Err(format!(
            "expected 1 to {max} letters, digits, `-`, `_` or `.`, beginning with a letter or digit"
        ))
    }
}

/// A path.
pub(super) fn path(text: &str) -> Parsed<PathBuf> {
    if text.is_empty() { Err("expected a path".to_owned()) } else { Ok(text.into()) }
}

/// The path of a unix socket, which the kernel limits to 107 bytes.
pub(super) fn socket(text: &str) -> Parsed<PathBuf> {
    let valid = text.starts_with('/') && text.len() <= 107;
    if valid {
        Ok(text.into())
    } else {
        Err("expected an absolute path of at most 107 bytes".to_owned())
    }
}

/// 64 bits: a number as it is, other text hashed.
pub(super) fn seed(text: &str) -> Parsed<u64> {
    if text.is_empty() {
        return Err("expected a number or a text".to_owned());
    }
    // FNV-1a, because the result must stay the same from release to release.
    let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    Ok(text.parse().unwrap_or_else(|_| text.bytes().fold(0xcbf2_9ce4_8422_2325, fnv)))
}
