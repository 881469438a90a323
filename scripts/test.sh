#!/usr/bin/env bash
# Installs what is missing and runs every check and test, the same on a laptop and in CI.
# The last line counts them. Run it as root: the tests that need namespaces, huge pages or QEMU are skipped otherwise,
# and say so.
set -euo pipefail
cd "$(dirname "$0")/.."

log=target/test.log
steps=(fmt lint deny unit loom instructions fuzz process qemu)

main() {
  export PATH="$HOME/.cargo/bin:$PATH"
  scripts/setup.sh test
  if [ "$(id -u)" -eq 0 ]; then
    # Root can do all that the tests ask for: nothing may be skipped.
    export CI=1
  fi
  mkdir -p target
  : >"$log"
  local failed=()
  for step in "${steps[@]}"; do
    local began=$SECONDS
    echo "=== just $step"
    if ! just "$step" 2>&1 | tee -a "$log"; then
      failed+=("$step")
    fi
    echo "=== $step took $((SECONDS - began)) s"
  done
  summary "${failed[@]}"
}

# Adds up the closing lines of all test runners: cargo's and those of the scripts. Tests that cargo calls ignored are the
# children of others and run with them.
summary() {
  local counts passed failures skipped
  counts=$(awk '
    /^test result: / { p += $4; f += $6 }
    /^(qemu|instructions|fuzz): [0-9]+ passed, [0-9]+ failed/ { p += $2; f += $4 }
    /^(qemu|instructions|fuzz): skipped/ { s += 1 }
    END { print p + 0, f + 0, s + 0 }' "$log")
  read -r passed failures skipped <<<"$counts"
  if [ "$failures" -lt "$#" ]; then
    failures=$#
  fi
  if [ "$#" -gt 0 ]; then
    echo "failed: $*"
  fi
  echo "$passed passed, $failures failed, $skipped skipped"
  [ "$#" -eq 0 ]
}

main "$@"
