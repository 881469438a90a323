# The one door to the tools, the same for people and CI. `scripts/test.sh` runs fmt to qemu in order.

# Root can run the QEMU test: then it must not be skipped.
qemu_required := if `id -u` == "0" { "--require" } else { "" }

# List the recipes.
default:
    @just --list

# Formatting.
fmt:
    cargo fmt --all --check

# Lints of all code and tests; warnings are errors.
lint:
    cargo clippy --locked --workspace --all-targets -- -D warnings

# Licences, sources and duplicate crates. Advisories need the network: `just advisories`.
deny:
    cargo deny --locked check bans licenses sources

# Known vulnerabilities in dependencies.
advisories:
    cargo deny --locked check advisories

# The packet engine and the control plane: no DPDK, no root.
unit:
    cargo test --locked --no-fail-fast -p dataplane -p control

# The packet engine on arm64, emulated. Needs Debian's gcc-aarch64-linux-gnu and qemu-user-static, and rustup.
arm64:
    rustup target add aarch64-unknown-linux-gnu
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64-static -L /usr/aarch64-linux-gnu" \
        cargo test --locked --no-fail-fast -p dataplane --target aarch64-unknown-linux-gnu

# docs/rules.md anew: which tests prove which rule of Services.
rules:
    RULES=write cargo test --locked -p control --test rules

# Exhaustive check of the table swap under every interleaving.
loom:
    RUSTFLAGS="--cfg loom" cargo test --locked -p dataplane --release --target-dir target/loom --test snapshot_model

# Instructions per packet against dataplane/instructions.txt; with --update they become what to compare with.
instructions *ARGS:
    scripts/instructions.sh {{ARGS}}

# The process: DPDK, real packets in namespaces, the kernel's rules beside it, the two-process wire, the demo.
process:
    cargo build --locked --workspace
    cargo test --locked --no-fail-fast -p vipgate -p perf

# A real virtio-net PCI NIC: vipgate in a QEMU guest behind vfio-pci, with one queue and with two.
qemu:
    cargo build --locked --bin vipgate
    tests/qemu/run.sh {{qemu_required}} --binary ${CARGO_TARGET_DIR:-target}/debug/vipgate
    tests/qemu/run.sh {{qemu_required}} --binary ${CARGO_TARGET_DIR:-target}/debug/vipgate --queues 2

# All benchmarks: a table on the terminal; the same, JSON and plots in perf-results/. Ten minutes, as root.
perf *ARGS:
    cargo build --release --locked --bin vipgate
    cargo run --release --locked -p perf -- all {{ARGS}}

# Two results side by side: `just perf-compare A/result.json B/result.json --fail-over 10`.
perf-compare *ARGS:
    cargo run --release --locked -p perf -- compare {{ARGS}}

# Everything, with packages installed first.
test:
    scripts/test.sh

# The demo, from a release build.
demo *ARGS:
    scripts/demo.sh {{ARGS}}

# Coverage-guided fuzzing, for 60 seconds and of all targets unless told: just fuzz 600 pipeline
fuzz *ARGS:
    scripts/fuzz.sh {{ARGS}}
