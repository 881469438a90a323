#!/usr/bin/env bash
# Fuzzes the packet engine, guided by coverage: all targets side by side, beginning with the inputs in fuzz/seeds.
#
#   scripts/fuzz.sh [SECONDS] [TARGET...]     60 seconds and all targets unless told
#
# An input that fails is a file in target/fuzz/found. Replay it with the path that is printed; once mended, move it to
# fuzz/seeds/TARGET, where every test run replays it (dataplane/tests/seeds.rs).
# What was found new stays in fuzz/corpus for the next run on this machine.
#
# This is libFuzzer without cargo-fuzz: the compiler flags below are all it would add (they are stable, as no sanitizer
# is asked for: there is no unsafe code to watch), and CI needs no minutes to build it.
set -euo pipefail
cd "$(dirname "$0")/.."
unset RUSTFLAGS

targets=(frame pipeline express burst)
folder=target/fuzz
# Counters at every edge, for libFuzzer to see; operands of comparisons, for it to guess. What is compiled apart or
# folded into one branch would be hidden from it.
flags=(
  --cfg=fuzzing
  -Ccodegen-units=1
  -Cpasses=sancov-module
  -Cllvm-args=-sanitizer-coverage-level=4
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
  -Cllvm-args=-sanitizer-coverage-pc-table
  -Cllvm-args=-sanitizer-coverage-trace-compares
  -Cllvm-args=-simplifycfg-branch-fold-threshold=0
)

main() {
  local seconds=${1:-60} host passed=0 failed=0
  shift || true
  [ "$#" -eq 0 ] || targets=("$@")
  host=$(rustc --version --verbose | awk '/^host:/ { print $2 }')
  build "$host"
  mkdir -p "$folder/found"
  pids=()
  trap 'kill "${pids[@]}" 2>/dev/null || true' EXIT
  for target in "${targets[@]}"; do
    run "$target" "$seconds" "$folder/$host/release/$target" >"$folder/$target.log" 2>&1 &
    pids+=($!)
  done
  for i in "${!targets[@]}"; do
    if wait "${pids[i]}" && guided "${targets[i]}"; then
      passed=$((passed + 1))
      awk -v target="${targets[i]}" '
        / cov: / { for (i = 1; i < NF; i++) if ($i == "cov:") edges = $(i + 1) }
        /^stat::number_of_executed_units/ { inputs = $2 }
        END { printf "%-10s %9d inputs, %d edges seen\n", target, inputs, edges }' "$folder/${targets[i]}.log"
    else
      failed=$((failed + 1))
      grep -v '^#' "$folder/${targets[i]}.log" | tail -n 60
      echo "fuzz: ${targets[i]} failed"
    fi
  done
  trap - EXIT
  echo "fuzz: $passed passed, $failed failed"
  [ "$failed" -eq 0 ]
}

# The flags join those of .cargo/config.toml. Naming the target keeps them from build scripts, which could not link.
build() {
  local list
  list=$(printf '"%s",' "${flags[@]}")
  cargo build --release --locked --manifest-path fuzz/Cargo.toml --target-dir "$folder" --target "$1" \
    --config "target.$1.rustflags=[$list]"
}

# Steps are a few bytes each; frames are to be longer than any MTU.
run() {
  local max_len=500
  [ "$1" != frame ] || max_len=3000
  mkdir -p "fuzz/corpus/$1"
  exec "$3" "fuzz/corpus/$1" "fuzz/seeds/$1" -max_total_time="$2" -max_len="$max_len" -len_control=0 -timeout=20 \
    -artifact_prefix="$folder/found/$1-" -print_final_stats=1
}

# Without counters libFuzzer would only throw dice.
guided() {
  grep -q 'inline 8-bit counters' "$folder/$1.log"
}

main "$@"
