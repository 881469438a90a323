//! What EAL is asked for, and the command line that asks it.
//!
//! The memory kinds EAL refuses together cannot be said here together. Both run without shared files.

/// How DPDK is started.
#[derive(Clone, Debug, Default)]
pub struct EalConfig {
    /// Where packet buffers and tables live.
    pub memory: Memory,
    /// Sets this process apart from other DPDK processes of the machine; default `vipgate-<pid>`.
    pub file_prefix: Option<String>,
    /// Virtual devices to make, as in `net_af_packet0,iface=eth1`.
    pub vdevs: Vec<String>,
    /// PCI devices to take, as in `0000:3b:00.0`; all others are left alone.
    pub pci: Vec<String>,
    /// The CPU of the initialising thread during start; default its first allowed one.
    pub main_core: Option<usize>,
    /// Which addresses devices are given; DPDK chooses by default.
    pub iova: Option<Iova>,
    /// More EAL options, passed as they are.
    pub extra: Vec<String>,
}

/// The memory DPDK manages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// Huge pages, taken at start when a size is given, else as needed.
    Huge { mib: Option<u32> },
    /// Ordinary pages: slower, for trials and tests, and not for real NICs.
    Ordinary { mib: u32 },
}

impl Default for Memory {
    fn default() -> Self {
        Self::Huge { mib: None }
    }
}

/// The kind of address a device uses for DMA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Iova {
    /// Physical addresses.
    Physical,
    /// Virtual addresses, through an IOMMU.
    Virtual,
}

impl EalConfig {
    /// The command line EAL parses, program name first.
    pub(super) fn arguments(&self, default_core: usize) -> Vec<String> {
        let prefix = self.file_prefix.clone();
        let prefix = prefix.unwrap_or_else(|| format!("vipgate-{}", std::process::id()));
        let core = self.main_core.unwrap_or(default_core);
        let mut arguments = vec![
            "vipgate".into(),
            "--no-telemetry".into(),
            format!("--file-prefix={prefix}"),
            format!("--lcores=0@{core}"),
        ];
        match self.memory {
            // vhost and virtio-user hand the memory to their peer by file, hence one file.
            Memory::Huge { mib } => {
                arguments.extend(["--in-memory".into(), "--single-file-segments".into()]);
                arguments.extend(mib.map(|mib| format!("-m{mib}")));
            }
            Memory::Ordinary { mib } => {
                arguments.extend(["--no-huge".into(), "--no-shconf".into(), format!("-m{mib}")]);
            }
        }
        if self.pci.is_empty() {
            arguments.push("--no-pci".into());
        }
        arguments.extend(self.pci.iter().map(|address| format!("--allow={address}")));
        arguments.extend(self.vdevs.iter().map(|vdev| format!("--vdev={vdev}")));
        arguments.extend(self.iova.map(|iova| match iova {
            Iova::Physical => "--iova-mode=pa".into(),
            Iova::Virtual => "--iova-mode=va".into(),
        }));
        arguments.extend(self.extra.iter().cloned());
        arguments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn huge_pages_stay_in_memory_in_one_file_and_pci_is_off_without_addresses() {
        let config = EalConfig {
            memory: Memory::Huge { mib: Some(512) },
            file_prefix: Some("edge".into()),
            vdevs: vec!["net_null0".into()],
            ..EalConfig::default()
        };
        assert_eq!(
            config.arguments(3).join(" "),
            "vipgate --no-telemetry --file-prefix=edge --lcores=0@3 --in-memory \
             --single-file-segments -m512 --no-pci --vdev=net_null0"
        );
    }

    #[test]
    fn ordinary_pages_exclude_in_memory_and_pci_addresses_are_allowed_one_by_one() {
        let config = EalConfig {
            memory: Memory::Ordinary { mib: 64 },
            file_prefix: Some("trial".into()),
            pci: vec!["0000:3b:00.0".into(), "0000:3b:00.1".into()],
            main_core: Some(7),
            iova: Some(Iova::Virtual),
            ..EalConfig::default()
        };
        assert_eq!(
            config.arguments(0).join(" "),
            "vipgate --no-telemetry --file-prefix=trial --lcores=0@7 --no-huge --no-shconf -m64 \
             --allow=0000:3b:00.0 --allow=0000:3b:00.1 --iova-mode=va"
        );
    }
}
