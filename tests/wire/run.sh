#!/usr/bin/env bash
#
# Two-process test: vipgate forwards between the generator's clients and backends, over vhost-user, and not one packet
# may be lost, changed or sent astray.
#
#     perf traffic (vhost-user server)                     vipgate run (virtio-user client, in a network namespace)
#     clients 198.18.0.1 ... -- 192.0.2.2  ==client.sock==  192.0.2.1  client
#     backends 10.0.1.10 and 10.0.1.11     ==backend.sock== 10.0.1.1   backend
#
# What is asserted, for every case:
#   - the generator received everything it sent, once, unchanged and where it belongs, and got all its buffers back
#   - every frame vipgate's workers received is accounted for: sent, given to the kernel, or dropped with a reason
#   - vipgate ends with status 0 on SIGTERM, and has all its buffers back
#
# As root, huge pages are reserved for the test and given back after it; otherwise both run without. Nothing outside a
# folder under /tmp and the namespaces of the processes themselves is touched.
#
# Usage: tests/wire/run.sh [--vipgate FILE] [--perf FILE] [--case NAME]... [--no-huge] [--rate PPS] [--seconds N]
#                          [--keep]
#
#   --vipgate, --perf  the programs; default target/release/..., else target/debug/...
#   --case             run only this case: any of v4, v6, v4-two-workers, v6-two-workers, churn, churn-two-workers
#   --rate, --seconds  load of each case; default 20000 packets of clients a second (as many replies), 5 s
#   --keep             leave the folder (configuration, logs, results) for reading
#
# Needs: iproute2, util-linux, curl, python3, DPDK's vhost and virtio drivers. Exit status 0: all passed; 1: not.

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
target=${CARGO_TARGET_DIR:-$here/../../target}

readonly all_cases=(v4 v6 v4-two-workers v6-two-workers churn churn-two-workers)
# Packets on their way at a time: all there are fit any ring between the workers, however long one of them waits for
# its turn on a core that it shares.
readonly window=256
readonly huge_pages=640 start_limit=30 stop_limit=10

vipgate='' perf='' huge=yes rate=20000 seconds=5 keep=no
cases=()
work='' vipgate_pid='' perf_pid='' perf_status=0 huge_before=''
passed=0 failed=0

main() {
    read_arguments "$@"
    trap clean_up EXIT
    trap 'exit 1' INT TERM HUP
    work=$(mktemp -d /tmp/vipgate-wire.XXXXXX)
    # Where DPDK may make a folder; as an ordinary user in a namespace it would take itself for root and try /run.
    export RUNTIME_DIRECTORY=$work
    reserve_huge_pages
    local name
    for name in "${cases[@]}"; do
        try "$name"
    done
    printf 'wire: %d passed, %d failed\n' "$passed" "$failed"
    ((failed == 0))
}

read_arguments() {
    while (($# > 0)); do
        case $1 in
            --vipgate) vipgate=${2:?--vipgate needs a file}; shift ;;
            --perf) perf=${2:?--perf needs a file}; shift ;;
            --case) cases+=("${2:?--case needs a name}"); shift ;;
            --no-huge) huge=no ;;
            --rate) rate=${2:?--rate needs a number}; shift ;;
            --seconds) seconds=${2:?--seconds needs a number}; shift ;;
            --keep) keep=yes ;;
            -h | --help) sed -n '3,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
            *) die "unknown argument $1; see --help" ;;
        esac
        shift
    done
    ((${#cases[@]} > 0)) || cases=("${all_cases[@]}")
    vipgate=$(program vipgate "$vipgate")
    perf=$(program perf "$perf")
}

program() {
    local file
    for file in ${2:+"$2"} "$target"/{release,debug}/"$1"; do
        [[ -x $file ]] && realpath "$file" && return
    done
    die "no program ${2:-$1}; build it with: cargo build -p $1"
}

# Half of them for each process. Whoever may not reserve any does without.
reserve_huge_pages() {
    local pages=/proc/sys/vm/nr_hugepages
    [[ $huge == yes && -w $pages ]] || { huge=no; return 0; }
    huge_before=$(<"$pages")
    ((huge_before >= huge_pages)) || echo "$huge_pages" >"$pages"
    (($(<"$pages") >= huge_pages)) || huge=no
}

try() {
    local name=$1 started=$SECONDS
    mkdir "$work/$name"
    if (cd "$work/$name" && trap end_processes EXIT && run_case "$name") >"$work/$name/case.log" 2>&1; then
        ((++passed))
        printf 'ok    %s (%d s): %s\n' "$name" $((SECONDS - started)) "$(grep '^summary: ' "$work/$name/case.log" | cut -c 10-)"
    else
        ((++failed))
        printf 'FAIL  %s\n' "$name"
        sed 's/^/      /' "$work/$name/case.log"
        tail -n 15 "$work/$name/vipgate.log" 2>/dev/null | sed 's/^/      vipgate: /'
    fi
}

# ---- one case, in a folder of its own

run_case() {
    local name=$1 workers=1 options=()
    case $name in *two-workers) workers=2 ;; esac
    case $name in
        v6*) options=(--v6 "${vips_v6[@]}") ;;
        v4*) options=("${vips_v4[@]}") ;;
        churn*) options=("${vips_v4[@]}" --new-connection-rate 1000 --flows 200) ;;
        *) die "unknown case $name" ;;
    esac
    write_configuration "$workers"
    start_generator "$workers" "${options[@]}"
    start_vipgate
    wait_for_generator
    counters >metrics
    stop_vipgate
    python3 "$here/conservation.py" metrics result.json
    ((perf_status == 0)) || die "perf ended with status $perf_status"
}

readonly vips_v4=(
    --vip tcp:203.0.113.10:80 --vip udp:203.0.113.10:5300
    --vip 'tcp:203.0.113.11:80,masquerade=10.0.1.1' --vip 'udp:203.0.113.11:5300,masquerade=10.0.1.1'
)
readonly vips_v6=(
    --vip 'tcp:[2001:db8:53::10]:80' --vip 'udp:[2001:db8:53::10]:5300'
    --vip 'tcp:[2001:db8:53::11]:80,masquerade=2001:db8:2::1'
    --vip 'udp:[2001:db8:53::11]:5300,masquerade=2001:db8:2::1'
)

write_configuration() {
    local workers=$1 cores='[1]' hugePages=false
    [[ $workers == 1 ]] || cores='[0, 1]'
    [[ $huge == no ]] || hugePages=true
    local device="queues=$workers,queue_size"
    cat >vipgate.yaml <<YAML
ports:
  - name: client
    vdev: net_virtio_user0,path=$PWD/client.sock,mac=02:00:00:00:01:01,$device=1024
    addresses: [192.0.2.1/24, "2001:db8:1::1/64"]
    routes:
      - { to: 198.18.0.0/15, via: 192.0.2.2 }
      - { to: "2001:db8:c::/48", via: "2001:db8:1::2" }
  # Its rings are smaller than the descriptors that are asked for.
  - name: backend
    vdev: net_virtio_user1,path=$PWD/backend.sock,mac=02:00:00:00:01:02,$device=256
    addresses: [10.0.1.1/24, "2001:db8:2::1/64"]
workers:
  cores: $cores
memory:
  hugePages: $hugePages
conntrack:
  connections: 100000
source:
  manifests: { path: $here/services.yaml }
services:
  role: edge
  nodeName: wire
  nodeIPs: [192.0.2.1, "2001:db8:1::1"]
admin:
  socket: $PWD/admin.sock
YAML
}

start_generator() {
    local queues=$1 no_huge=()
    shift
    [[ $huge == yes ]] || no_huge=(--no-huge)
    "$perf" traffic --socket "$PWD/client.sock" --socket "$PWD/backend.sock" --queues "$queues" "${no_huge[@]}" \
        --rate "$rate" --window "$window" --duration "$seconds" --warm-up "$start_limit" --require-zero-loss --json result.json "$@" \
        >perf.log 2>&1 &
    perf_pid=$!
    local tries=0
    until [[ -S client.sock && -S backend.sock ]]; do
        kill -0 "$perf_pid" 2>/dev/null || { cat perf.log; die "perf does not start"; }
        ((++tries < 200)) || die "perf made no sockets"
        sleep 0.1
    done
}

# In a network namespace of its own: routes, addresses and kernel twins are the namespace's.
start_vipgate() {
    local namespace=--net
    ((EUID == 0)) || namespace=-Urn
    unshare "$namespace" -- bash -c 'ip link set lo up && exec "$@"' bash \
        "$vipgate" run --config vipgate.yaml >vipgate.log 2>&1 &
    vipgate_pid=$!
}

wait_for_generator() {
    perf_status=0
    wait "$perf_pid" || perf_status=$?
    perf_pid=''
    cat perf.log
    kill -0 "$vipgate_pid" 2>/dev/null || die "vipgate ended early"
    [[ -s result.json ]] || die "perf has no result"
}

counters() {
    local user=()
    ((EUID == 0)) || user=(-U --preserve-credentials)
    # The workers publish some counters once a millisecond.
    sleep 0.2
    nsenter --target "$vipgate_pid" "${user[@]}" --net curl -sS --max-time 5 http://127.0.0.1:10256/metrics
}

stop_vipgate() {
    local tries=0 status=0
    kill -TERM "$vipgate_pid"
    while kill -0 "$vipgate_pid" 2>/dev/null; do
        ((++tries < stop_limit * 10)) || die "vipgate does not end on SIGTERM"
        sleep 0.1
    done
    wait "$vipgate_pid" || status=$?
    vipgate_pid=''
    ((status == 0)) || die "vipgate ended with status $status on SIGTERM"
    ! grep -iE 'leak|buffers are missing|panicked' vipgate.log || die "vipgate is not clean at its end"
}

# ---- the end

end_processes() {
    local pid
    for pid in $perf_pid $vipgate_pid; do
        kill -KILL "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
}

clean_up() {
    [[ -z $huge_before ]] || echo "$huge_before" >/proc/sys/vm/nr_hugepages
    if [[ $keep == yes ]]; then
        printf 'kept: %s\n' "$work"
    elif [[ -n $work ]]; then
        rm -rf "$work"
    fi
}

die() {
    printf 'wire: %s\n' "$*" >&2
    exit 1
}

main "$@"
