#!/usr/bin/env bash
# Installs what is missing and runs every check and test, the same on a laptop and in CI.
# The last line counts them. With root the tests that need namespaces, huge pages or QEMU run, too.
set -euo pipefail
cd "$(dirname "$0")/.."

log=target/test.log
steps=(fmt lint deny unit loom process qemu)

main() {
  scripts/setup.sh test
  export PATH="$HOME/.cargo/bin:$PATH"
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

# Adds up the closing lines of all test runners: cargo's and those of the shell tests.
summary() {
  local counts passed failures ignored
  counts=$(awk '
    /^test result: / { p += $4; f += $6; i += $8 }
    /^[a-z]+: [0-9]+ passed, [0-9]+ failed/ { p += $2; f += $4 }
    END { print p + 0, f + 0, i + 0 }' "$log")
  read -r passed failures ignored <<<"$counts"
  if [ "$#" -gt 0 ] && [ "$failures" -eq 0 ]; then
    failures=$#
  fi
  if [ "$#" -gt 0 ]; then
    echo "failed: $*"
  fi
  echo "$passed passed, $failures failed, $ignored skipped"
  [ "$#" -eq 0 ]
}

main "$@"
