//! Kernel devices below a port (net_af_packet, net_af_xdp): the kernel receives a copy of every frame there, and must
//! not answer in the gateway's place. The port's kernel twin is the one to answer.

use tracing::warn;

/// Settings that silence a device, under `/proc/sys/net`.
const SETTINGS: [(&str, &str); 3] = [
    // Nothing is routed back by this device, so strict filtering drops all IPv4 that comes in by it.
    ("ipv4/conf/{}/rp_filter", "1"),
    // Never answer ARP.
    ("ipv4/conf/{}/arp_ignore", "8"),
    ("ipv6/conf/{}/disable_ipv6", "1"),
];

/// Keeps the kernel from taking part in what `device` receives. What can't be set is logged: the gateway works, but
/// clients may get two answers.
pub fn silence(device: &str) {
    for (setting, value) in SETTINGS {
        let path = format!("/proc/sys/net/{}", setting.replace("{}", device));
        match std::fs::write(&path, value) {
            Ok(()) => {}
            // IPv6 is not in this kernel.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                warn!(path, value, %error, "cannot keep the kernel from answering on {device}")
            }
        }
    }
}

/// The kernel device in the arguments of a virtual device, as in `net_af_packet0,iface=eth1`.
#[must_use]
pub fn device_of(vdev: &str) -> Option<&str> {
    let kernel_driver = vdev.starts_with("net_af_packet") || vdev.starts_with("net_af_xdp");
    let arguments = vdev.split(',').find_map(|argument| argument.strip_prefix("iface="));
    arguments.filter(|_| kernel_driver)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_devices_the_kernel_listens_on_are_found() {
        assert_eq!(device_of("net_af_packet0,iface=eth1,qpairs=2"), Some("eth1"));
        assert_eq!(device_of("net_af_xdp3,iface=eth0"), Some("eth0"));
        assert_eq!(device_of("net_tap0,iface=tap0"), None);
        assert_eq!(device_of("net_null0"), None);
    }
}
