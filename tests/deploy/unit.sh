#!/usr/bin/env bash
# The systemd unit, installed as docs/deploying.md says and run by a real systemd: process 1 of namespaces of its own, with
# a copy of /etc, no unit but ours, and a network in which two packet-socket ports have links. Shows that
# - systemd finds nothing to complain about, and its security rating stays what it is
# - the unit starts, is ready when `systemctl start` returns, and can do all it needs within its restrictions
# - it needs every capability it has
# - the watchdog restarts a process that hangs
# - it stops cleanly
#
#   tests/deploy/unit.sh --vipgate PROGRAM
#
# Needs root, and Debian's systemd, iproute2 and curl. Changes nothing outside of its namespaces. Exit status 77: there is
# no way to do this here.
set -euo pipefail

# systemd-analyze's exposure level, times ten: 0 is best, 100 worst.
exposure=23
top=$(cd "$(dirname "$0")/../.." && pwd)
# Where the result is, inside.
result=/run/result

main() {
  case "${1:-}" in
    --vipgate) outside "$2" ;;
    --boot) boot "$2" "$3" ;;
    --check) check ;;
    *)
      sed -n '2,12p' "$0" >&2
      exit 2
      ;;
  esac
}

# Makes a control group and namespaces. Whatever happens inside ends with their first process.
outside() {
  local program groups
  program=$(realpath "$1")
  groups=$(findmnt --noheadings --first-only --types cgroup2 --output TARGET) || skip "no control groups (version 2)"
  group=$groups/vipgate-deploy-$$
  mkdir "$group" || skip "control groups can't be made"
  folder=$(mktemp -d)
  trap clean EXIT
  touch "$folder/log" "$folder/console" "$folder/vipgate.log"
  # Not this shell itself: the group could not be removed then.
  if bash -c 'echo $$ >"$1/cgroup.procs"; shift; exec "$@"' - "$group" \
    timeout --signal KILL 240 unshare --mount --pid --fork --kill-child --net --uts --ipc --cgroup \
    "$0" --boot "$program" "$folder" </dev/null >>"$folder/console" 2>&1; then
    cat "$folder/log"
  else
    (cd "$folder" && tail -n 100 console vipgate.log log) >&2
    fail "failed"
  fi
}

# The kernel takes a moment to bury what has ended.
clean() {
  for _ in {1..50}; do
    find "$group" -depth -type d -exec rmdir {} \; 2>/dev/null
    [ -d "$group" ] || break
    sleep 0.1
  done
  rm -rf "$folder"
}

# Becomes systemd. Nothing of the machine may be changed or started: hence empty folders of units and generators.
boot() {
  local program=$1 units=/usr/lib/systemd/system
  mount --make-rprivate /
  mount -t proc proc /proc
  mount -t sysfs sysfs /sys
  mount -t cgroup2 cgroup2 /sys/fs/cgroup
  mount -t tmpfs tmpfs /run
  mkdir "$result" /run/etc /run/top /run/kept
  mount --bind "$2" "$result"
  mount --bind "$top" /run/top
  mount --bind "$result/console" /dev/console
  cp -a /etc/. /run/etc
  mount --bind /run/etc /etc
  mount -t tmpfs tmpfs /usr/local/bin
  touch /usr/local/bin/vipgate
  mount --bind "$program" /usr/local/bin/vipgate
  cp "$units"/{basic.target,sysinit.target,shutdown.target,network-online.target,modprobe@.service} /run/kept
  for folder in /tmp /var/tmp $units /usr/lib/systemd/system-generators; do
    mount -t tmpfs -o mode=1777 tmpfs "$folder"
  done
  cp /run/kept/* $units
  rm -rf /etc/systemd/system /etc/systemd/system-generators /etc/vipgate
  mkdir /etc/systemd/system

  cd /run/top
  install -D -m 644 deploy/systemd/vipgate.sysusers /etc/sysusers.d/vipgate.conf
  systemd-sysusers /etc/sysusers.d/vipgate.conf
  install -D -m 644 deploy/systemd/vipgate.service -t /etc/systemd/system
  install -d -m 750 -g vipgate /etc/vipgate
  configuration | install -m 640 -g vipgate /dev/stdin /etc/vipgate/vipgate.yaml
  links
  harness
  # As with isolcpus=1: the unit must bring the worker's core back.
  exec env -i container=vipgate-test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    taskset --cpu-list 0 /lib/systemd/systemd --unit=check.service --log-target=console
}

configuration() {
  cat <<'YAML'
ports:
  - {name: outside, vdev: "net_af_packet0,iface=v0", addresses: [192.0.2.1/24], routes: [{to: 0.0.0.0/0, via: 192.0.2.254}]}
  - {name: inside, vdev: "net_af_packet1,iface=v1", addresses: [10.0.0.1/16, "fd00::1/64"]}
workers: {cores: [1], mainCore: 0}
conntrack: {connections: 10000}
source: {manifests: {path: /etc/vipgate/manifests}}
YAML
  install -D -m 644 /dev/stdin /etc/vipgate/manifests/web.yaml <<'YAML'
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 172.30.0.1, ports: [{port: 80}]}
YAML
}

links() {
  ip link set lo up
  for number in 0 1; do
    ip link add "v$number" type veth peer name "w$number"
    ip link set "v$number" up
    ip link set "w$number" up
  done
}

# The check, and what a test does not want to wait for.
harness() {
  cat >/etc/systemd/system/check.service <<UNIT
[Unit]
DefaultDependencies=no
SuccessAction=exit-force
FailureAction=exit-force
[Service]
Type=oneshot
ExecStart=/run/top/tests/deploy/unit.sh --check
StandardOutput=append:$result/log
StandardError=append:$result/log
UNIT
  sed -i 's/^WatchdogSec=.*/WatchdogSec=3/' /etc/systemd/system/vipgate.service
  mkdir /etc/systemd/system/vipgate.service.d
  cat >/etc/systemd/system/vipgate.service.d/test.conf <<UNIT
[Service]
TimeoutAbortSec=1
StandardError=append:$result/vipgate.log
UNIT
}

# A service of that systemd.
check() {
  local complaints
  complaints=$(systemd-analyze verify vipgate.service 2>&1) || fail "systemd-analyze verify: $complaints"
  [ -z "$complaints" ] || fail "systemd-analyze verify: $complaints"
  systemd-analyze security --offline=true --threshold=$exposure /run/top/deploy/systemd/vipgate.service | tail -n 1 ||
    fail "it is more exposed than before: systemd-analyze security says to what"
  starts
  needs_its_capabilities
  survives_a_hang
  stops
}

starts() {
  systemctl start vipgate || fail "it does not start"
  expect "it is ready" "$(curl -s -m 5 -o /dev/null -w '%{http_code}' http://127.0.0.1:10256/readyz)" 200
  expect "it says so" "$(property StatusText)" ready
  # What it is not allowed to do shows as warnings.
  if grep -E 'cannot|ERROR' "$result/vipgate.log"; then
    fail "it may not do all it needs"
  fi
  expect "it may set what keeps the kernel from answering" "$(cat /proc/sys/net/ipv4/conf/v0/arp_ignore)" 8
  vipgate status >/dev/null || fail "vipgate status: $?"
  local process
  process=/proc/$(property MainPID)
  expect "it is not root" "$(stat -c %U "$process")" vipgate
  expect "it is filtered" "$(awk '/^Seccomp:/ { print $2 }' "$process/status")" 2
  echo "started: as $(stat -c %U "$process") with $(awk '/^CapEff/ { print $2 }' "$process/status")"
}

# Less one, it does not start.
needs_its_capabilities() {
  local all drop_in=/etc/systemd/system/vipgate.service.d/less.conf
  all=$(sed -n 's/^CapabilityBoundingSet=//p' /run/top/deploy/systemd/vipgate.service)
  systemctl stop vipgate
  for capability in $all; do
    printf '[Service]\nRestart=no\nCapabilityBoundingSet=~%s\nAmbientCapabilities=~%s\n' "$capability" "$capability" >$drop_in
    systemctl daemon-reload
    if systemctl start vipgate 2>/dev/null; then
      fail "it starts without $capability: the unit should not have it"
    fi
    echo "needs $capability"
  done
  rm $drop_in
  systemctl daemon-reload
  systemctl start vipgate || fail "it does not start again"
}

survives_a_hang() {
  local before
  before=$(property NRestarts)
  # Longer than the watchdog's time.
  sleep 4
  expect "it lives" "$(property NRestarts)" "$before"
  kill -STOP "$(property MainPID)"
  for _ in {1..150}; do
    if [ "$(property NRestarts)" -gt "$before" ] && [ "$(property ActiveState)" = active ]; then
      echo "restarted after a hang"
      return
    fi
    sleep 0.1
  done
  fail "the watchdog has not restarted it"
}

stops() {
  systemctl stop vipgate
  expect "it ended" "$(property Result) $(property ExecMainStatus)" "success 0"
  [ ! -e /run/vipgate ] || fail "/run/vipgate is left"
  expect "it left no devices" "$(ip -o link show type tun)" ""
  echo "stopped"
}

property() {
  systemctl show --value --property "$1" vipgate
}

expect() {
  [ "$2" = "$3" ] || fail "$1: expected \`$3\`, found \`$2\`"
}

skip() {
  echo "unit: $*" >&2
  exit 77
}

fail() {
  echo "unit: $*" >&2
  exit 1
}

main "$@"
