#!/usr/bin/env bash
# Installs what is missing, builds vipgate, and runs `vipgate demo` with the arguments given.
# Needs neither root (but sudo, when Debian packages are missing), NIC, huge pages nor a cluster.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$HOME/.cargo/bin:$PATH"
scripts/setup.sh run
echo "demo: building vipgate (the first time takes some minutes)"
cargo build --release --locked --quiet --bin vipgate
exec "${CARGO_TARGET_DIR:-target}/release/vipgate" demo "$@"
