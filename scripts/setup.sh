#!/usr/bin/env bash
# Installs what vipgate needs on Debian 12 beside Rust, and says what it does. Safe to run again.
#
#   scripts/setup.sh run     to build vipgate and run its demo
#   scripts/setup.sh test    to run all tests as well
set -euo pipefail

# DPDK with its drivers, and what binds it; the demo's namespaces.
run_packages=(gcc libc6-dev pkg-config libclang-dev clang libdpdk-dev iproute2)
# Real clients and servers, a machine with a virtio NIC, a counter of instructions, what builds libFuzzer, and what runs the
# service.
test_packages=(
  bind9-dnsutils curl ethtool netcat-openbsd iperf3 iputils-ping traceroute socat procps python3
  qemu-system-x86 busybox-static xz-utils binutils valgrind g++ systemd nftables
)
# Cargo tools: the recipe runner and the licence and source check. Built without optimisation: that is quicker.
test_tools=(just cargo-deny)

main() {
  export PATH="$HOME/.cargo/bin:$PATH"
  command -v cargo >/dev/null || die "cargo is missing: install Rust 1.89 or later, with rustfmt and clippy, first"
  case "${1:-}" in
    run) install_packages "${run_packages[@]}" ;;
    test)
      install_packages "${run_packages[@]}" "${test_packages[@]}"
      install_tools "${test_tools[@]}"
      ;;
    *)
      sed -n '2,5p' "$0" >&2
      exit 2
      ;;
  esac
}

install_packages() {
  local missing=()
  for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  if [ "${#missing[@]}" -eq 0 ]; then
    return
  fi
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || die "run as root once: apt-get install ${missing[*]}"
    as_root=(sudo)
  fi
  echo "setup: installing Debian packages: ${missing[*]}"
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

install_tools() {
  for tool in "$@"; do
    command -v "$tool" >/dev/null && continue
    echo "setup: building $tool with cargo (once; some minutes)"
    cargo install --locked --debug --quiet "$tool"
  done
}

die() {
  echo "setup: $*" >&2
  exit 1
}

main "$@"
