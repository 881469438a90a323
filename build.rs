//! Finds the system's libdpdk, generates the bindings `src/dpdk/sys.rs` includes, compiles the C shim.
//!
//! The list of bound names is closed: what is not below cannot be called from Rust. DPDK is linked
//! dynamically; its drivers are plug-ins that EAL loads when the process starts.

use std::env;
use std::panic;
use std::path::{Path, PathBuf};

const FUNCTIONS: &[&str] = &[
    "rte_eal_cleanup",
    "rte_eal_get_runtime_dir",
    "rte_eal_init",
    "rte_eth_dev_adjust_nb_rx_tx_desc",
    "rte_eth_dev_close",
    "rte_eth_dev_configure",
    "rte_eth_dev_default_mac_addr_set",
    "rte_eth_dev_get_mtu",
    "rte_eth_dev_get_name_by_port",
    "rte_eth_dev_get_port_by_name",
    "rte_eth_dev_info_get",
    "rte_eth_dev_set_mtu",
    "rte_eth_dev_socket_id",
    "rte_eth_dev_start",
    "rte_eth_dev_stop",
    "rte_eth_find_next",
    "rte_eth_macaddr_get",
    "rte_eth_promiscuous_enable",
    "rte_eth_rx_queue_setup",
    "rte_eth_stats_get",
    "rte_eth_tx_queue_setup",
    "rte_free",
    "rte_get_tsc_hz",
    "rte_mempool_avail_count",
    "rte_mempool_free",
    "rte_pktmbuf_free_bulk",
    "rte_pktmbuf_pool_create",
    "rte_strerror",
    "rte_thread_register",
    "rte_thread_unregister",
    "rte_zmalloc_socket",
    "vipgate_.*",
];
const TYPES: &[&str] = &["rte_eth_conf", "rte_eth_dev_info", "rte_eth_stats", "rte_ether_addr"];
/// Handled by pointer only and declared in `src/dpdk/sys.rs`: their fields differ between releases.
const HANDLES: &[&str] = &["rte_mbuf", "rte_mempool"];
/// Parts of a bound type that nobody looks into.
const OPAQUE: &[&str] = &["rte_eth_rxconf"];
const LIBRARIES: &[&str] = &["rte_ethdev", "rte_mbuf", "rte_mempool", "rte_eal"];
const SHIM: [&str; 2] = ["src/dpdk/shim.h", "src/dpdk/shim.c"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for file in SHIM {
        println!("cargo::rerun-if-changed={file}");
    }
    if let Err(missing) = build() {
        println!(
            "cargo::error={missing}: the vipgate process needs the Debian packages `libdpdk-dev`, \
             `pkg-config` and `libclang-dev`; `cargo test -p dataplane -p control` works without them."
        );
    }
}

fn build() -> Result<(), String> {
    let flags = compiler_flags()?;
    bind(&flags)?;
    compile_shim(&flags)?;
    for library in LIBRARIES {
        println!("cargo::rustc-link-lib=dylib={library}");
    }
    Ok(())
}

/// What pkg-config says a DPDK application is compiled with. That includes a forced header and the
/// CPU baseline DPDK's inline functions need (`-march`); both concern the shim and the bindings only.
fn compiler_flags() -> Result<Vec<String>, String> {
    let library = pkg_config::Config::new()
        .atleast_version("22.11")
        .cargo_metadata(false)
        .probe("libdpdk")
        .map_err(|_| "libdpdk 22.11 or newer was not found by pkg-config")?;
    for path in &library.link_paths {
        println!("cargo::rustc-link-search=native={}", path.display());
    }
    let tool = env::var("PKG_CONFIG").unwrap_or_else(|_| "pkg-config".into());
    let output = std::process::Command::new(tool)
        .args(["--cflags", "libdpdk"])
        .output()
        .map_err(|error| format!("pkg-config does not run ({error})"))?;
    let mut flags: Vec<String> =
        String::from_utf8_lossy(&output.stdout).split_whitespace().map(Into::into).collect();
    flags.push("-D_GNU_SOURCE".into());
    Ok(flags)
}

fn bind(flags: &[String]) -> Result<(), String> {
    panic::catch_unwind(bindgen::clang_version).map_err(|_| "libclang was not found")?;
    let mut builder = bindgen::Builder::default()
        .header(SHIM[0])
        .clang_args(flags)
        .rust_edition(bindgen::RustEdition::Edition2024)
        .default_enum_style(bindgen::EnumVariation::Consts)
        .prepend_enum_name(false)
        .derive_default(true)
        .generate_comments(false);
    for name in FUNCTIONS {
        builder = builder.allowlist_function(name);
    }
    for name in TYPES {
        builder = builder.allowlist_type(name);
    }
    for name in HANDLES {
        builder = builder.blocklist_type(name);
    }
    for name in OPAQUE {
        builder = builder.opaque_type(name);
    }
    let bindings = builder
        .allowlist_var("VIPGATE_.*")
        .generate()
        .map_err(|error| format!("DPDK's headers could not be bound ({error})"))?;
    bindings
        .write_to_file(out_dir().join("dpdk.rs"))
        .map_err(|error| format!("the bindings could not be written ({error})"))
}

fn compile_shim(flags: &[String]) -> Result<(), String> {
    let mut shim = cc::Build::new();
    shim.file(SHIM[1]).include(Path::new("src/dpdk"));
    for flag in flags {
        shim.flag(flag);
    }
    shim.try_compile("vipgate_shim").map_err(|error| format!("the shim did not compile ({error})"))
}

fn out_dir() -> PathBuf {
    PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default())
}
