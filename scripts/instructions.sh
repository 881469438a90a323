#!/usr/bin/env bash
# Counts the instructions that workers need for a packet, and compares with those of the last commit that changed them.
#
#   scripts/instructions.sh            all cases; fails when one has changed by more than the limit
#   scripts/instructions.sh CASE...    these cases only
#   scripts/instructions.sh --update   all cases, and writes the figures down as the new ones to compare with
#
# What is counted is dataplane/examples/instructions, a release build without DPDK, in callgrind: unlike time, that
# number is the same on every x86-64 machine, however busy, and unlike `perf stat` it needs no counters of the CPU.
# A case that needs fewer instructions than before fails as well: else what was won could be lost again unseen.
# gungraun does the same inside `cargo bench`, but compares with an earlier run on the same machine, not with figures in
# the repository, and needs a runner built to the same version; this needs only valgrind.
#
# Another compiler makes another program of the same code. The figures therefore name theirs; with any other only a
# growth beyond a wider limit fails. Whoever moves to a new compiler updates the figures in that commit.
#
# Where instructions go: callgrind_annotate target/instructions/CASE.out
set -euo pipefail
cd "$(dirname "$0")/.."
# Flags from outside would replace those of .cargo/config.toml.
unset RUSTFLAGS

baseline=dataplane/instructions.txt
folder=target/instructions
limit_percent=3
other_compiler_limit_percent=10

main() {
  if [ "$(uname -m)" != x86_64 ]; then
    echo "instructions: skipped: the figures are x86-64's"
    return
  fi
  mkdir -p "$folder"
  # Two runs at a time would write the same files.
  exec 9>"$folder/lock"
  flock 9
  cargo build --release --locked -p dataplane --example instructions
  program=${CARGO_TARGET_DIR:-target}/release/examples/instructions
  local update=
  if [ "${1:-}" = --update ]; then
    update=1
    shift
  fi
  if [ "$#" -eq 0 ]; then
    # shellcheck disable=SC2046 # names have no spaces
    set -- $("$program")
  elif [ -n "$update" ]; then
    die "--update takes no cases: all figures must be of one program"
  fi
  for name in "$@"; do
    count "$name"
  done >"$folder/figures.txt"
  if [ -n "$update" ]; then
    {
      echo "# Instructions per packet (per connection for expiry). Written by: just instructions --update"
      echo "compiler $(compiler)"
      cat "$folder/figures.txt"
    } >"$baseline"
    echo "instructions: wrote $baseline"
  fi
  compare "$#"
}

# Prints a case's name and its instructions per packet.
count() {
  local log=$folder/$1.log packets
  packets=$(valgrind --tool=callgrind --toggle-collect='*counted_turn*' --log-file="$log" \
    --callgrind-out-file="$folder/$1.out" "$program" "$1") || die "case $1 failed, see $log"
  awk -v name="$1" -v packets="$packets" '
    / Collected : / && $4 > 0 && packets > 0 { printf "%s %.1f\n", name, $4 / packets; found = 1 }
    END { exit !found }' "$log" || die "callgrind counted nothing in case $1, see $log"
}

# The table, and what it comes to.
compare() {
  awk -v cases="$1" -v all="$("$program" | wc -l)" -v compiler="$(compiler)" \
    -v limit="$limit_percent" -v other_limit="$other_compiler_limit_percent" '
    FNR == NR && /^#/ { next }
    FNR == NR && $1 == "compiler" { sub(/^compiler /, ""); theirs = $0; next }
    FNR == NR { before[$1] = $2; known++; next }
    FNR == 1 {
      other = theirs != compiler
      if (other) limit = other_limit
      printf "%-26s %12s %12s %9s\n", "case", "instructions", "baseline", "change"
    }
    {
      if (!($1 in before)) { verdict = "not in the baseline"; change = "" }
      else {
        percent = ($2 / before[$1] - 1) * 100
        change = sprintf("%+.1f %%", percent)
        verdict = percent > limit ? "GREW" : percent < -limit && !other ? "SHRANK" : ""
      }
      printf "%-26s %12.1f %12s %9s %s\n", $1, $2, before[$1], change, verdict
      if (verdict != "") failed++; else passed++
    }
    END {
      if (cases == all && known != all) {
        failed++
        print "The baseline names cases that there are not, or not all that there are."
      }
      if (other) {
        print "Compiled by " compiler ", the baseline by " (theirs ? theirs : "none") ": the limit is " limit " %."
      }
      if (failed) print "More than " limit " % from the baseline. If that is meant, commit: just instructions --update"
      printf "instructions: %d passed, %d failed\n", passed, failed
      exit failed > 0
    }' "$baseline" "$folder/figures.txt"
}

compiler() {
  rustc --version
}

die() {
  echo "instructions: $*" >&2
  exit 1
}

main "$@"
