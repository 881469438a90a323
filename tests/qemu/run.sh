#!/usr/bin/env bash
#
# End-to-end test on a real PCI NIC driver: vipgate inside a QEMU guest, behind vfio-pci and a virtual IOMMU,
# with two virtio-net NICs; one leads to a namespace of clients, the other to a namespace of backends.
#
#     client namespace            guest (QEMU, software emulation)           backend namespace
#     client0, 192.0.2.10  ----  00:03.0  vipgate or testpmd  00:04.0  ----  backend0, 10.0.1.10 and .11
#
# It needs root, /dev/net/tun and the packages named in `check_machine`, but neither KVM nor huge pages nor
# kernel modules of this machine. Everything it makes (three namespaces, one folder under /tmp, two processes) is
# gone when it ends, however it ends. The guest's kernel is Debian's; it is fetched once and kept in target/qemu.
#
# Usage: tests/qemu/run.sh [--program vipgate|testpmd] [--binary FILE] [--queues N] [--require] [--keep]
#
#   --program  vipgate (default) does all cases through the Services of manifests/. testpmd makes a plain wire of
#              the guest and does the cases that make sense on a wire: when vipgate fails and testpmd passes,
#              the machine is not to blame.
#   --binary   the program's file; default target/release/vipgate, target/debug/vipgate, or dpdk-testpmd
#   --queues   queue pairs of each NIC, and as many workers; default 1
#   --require  a machine that cannot run the test is a failure, not a skip
#   --keep     leave the working folder (console log, initramfs) for reading
#
# Exit status 0: all passed, or skipped with the reason on the last line. 1: something failed.

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$here/../.." && pwd)
cache=${CARGO_TARGET_DIR:-$top/target}/qemu

program=vipgate
binary=''
queues=1
require=no
keep=no

# The guest: addresses on the PCI bus that vipgate.yaml names, and bounds in time.
readonly client_pci=03 backend_pci=04
readonly guest_memory_mib=1024 guest_huge_pages=160
readonly boot_limit=60 whole_limit=165

# Loaded in this order; later kernels have some of them built in.
readonly modules=(irqbypass vfio_virqfd vfio vfio_iommu_type1 vfio-pci-core vfio-pci tun)
# DPDK opens its drivers at run time, so ldd does not name them.
readonly drivers=(bus_pci bus_vdev mempool_ring net_virtio)

readonly udp_port=5300 blob_bytes=$((5 * 1024 * 1024))

work='' unpacked='' qemu_pid='' backend_pid='' to_guest='' from_guest=''
passed=0 failed=0
readonly client_ns=vipgate-qemu-client-$$ backend_ns=vipgate-qemu-backend-$$ guest_ns=vipgate-qemu-guest-$$

main() {
    read_arguments "$@"
    check_machine
    trap clean_up EXIT
    trap 'exit 1' INT TERM HUP
    work=$(mktemp -d /tmp/vipgate-qemu.XXXXXX)

    fetch_kernel
    build_initramfs
    make_namespaces
    start_guest
    make_addresses
    start_backends
    say "waiting for an answer from ${service} (boot takes 12 to 30 s)"
    wait_for_service

    run_cases

    ((failed == 0)) || show_logs
    printf 'qemu: %d passed, %d failed\n' "$passed" "$failed"
    ((failed == 0))
}

# ---- arguments and machine

read_arguments() {
    while (($# > 0)); do
        case $1 in
            --program) program=${2:?--program needs a name}; shift ;;
            --binary) binary=${2:?--binary needs a file}; shift ;;
            --queues) queues=${2:?--queues needs a number}; shift ;;
            --require) require=yes ;;
            --keep) keep=yes ;;
            -h | --help) sed -n '3,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
            *) printf 'unknown argument %s; see --help\n' "$1" >&2; exit 1 ;;
        esac
        shift
    done

    case $program in
        vipgate)
            # What manifests/ and vipgate.yaml promise.
            service=203.0.113.10 service6=2001:db8:53::10 http_port=80
            masqueraded=203.0.113.11:80 node_port=192.0.2.1:30080
            [[ -n $binary ]] || binary=$(first_file "${cache%/qemu}"/{release,debug}/vipgate)
            ;;
        testpmd)
            # On a wire there is no gateway: a backend itself has an address of the client's network.
            service=192.0.2.20 service6=2001:db8:1::20 http_port=8080
            [[ -n $binary ]] || binary=$(command -v dpdk-testpmd || true)
            ;;
        *) printf 'unknown program %s: vipgate or testpmd\n' "$program" >&2; exit 1 ;;
    esac
}

first_file() {
    local file
    for file in "$@"; do
        [[ -x $file ]] && printf '%s' "$file" && return
    done
    return 0
}

# Debian packages: qemu-system-x86 busybox-static iproute2 iputils-ping curl python3 xz-utils, dpdk for testpmd;
# vipgate's own run-time libraries bring DPDK's drivers.
check_machine() {
    local command
    for command in qemu-system-x86_64 busybox ip nstat ping curl python3 xz sha256sum ldd; do
        command -v "$command" >/dev/null || skip "no $command on this machine"
    done
    ((EUID == 0)) || skip "needs root, for namespaces and TAP devices"
    [[ $(uname -m) == x86_64 ]] || skip "the guest is x86_64; this machine is $(uname -m)"
    [[ -c /dev/net/tun ]] || skip "no /dev/net/tun"
    [[ -n $binary && -x $binary ]] || skip "no $program to run: ${binary:-build it first, or name it with --binary}"
    driver_folder=$(find /usr/lib /usr/local/lib -maxdepth 4 -type d -path '*/dpdk/pmds-*' -print -quit 2>/dev/null)
    [[ -n $driver_folder ]] || skip "no folder of DPDK drivers (dpdk/pmds-*)"
}

skip() {
    printf 'qemu: skipped: %s\n' "$1"
    [[ $require == no ]] && exit 0
    exit 1
}

say() { printf 'qemu: %4ds  %s\n' "$SECONDS" "$1"; }

die() {
    say "FAIL  $1"
    show_logs
    printf 'qemu: %d passed, %d failed\n' "$passed" "$((failed + 1))"
    exit 1
}

show_logs() {
    local log
    for log in qemu backend console; do
        [[ -s $work/$log.log ]] || continue
        say "end of $log.log:"
        tail -n 60 "$work/$log.log"
    done
}

# Runs on every way out, so nothing in here may stop it.
clean_up() {
    local status=$? pid ns
    trap '' INT TERM HUP
    set +e
    for pid in $qemu_pid $backend_pid; do
        kill "$pid" 2>/dev/null
        wait "$pid" 2>/dev/null
    done
    for ns in "$client_ns" "$backend_ns" "$guest_ns"; do
        [[ -e /run/netns/$ns ]] && ip netns del "$ns"
    done
    [[ -z $unpacked ]] || rm -rf "$unpacked"
    if [[ $keep == yes ]]; then
        printf 'kept: %s\n' "$work" >&2
    elif [[ -n $work ]]; then
        rm -rf "$work"
    fi
    exit "$status"
}

# ---- the guest's kernel and root file system

# Leaves vmlinuz and the few modules in $cache/kernel. Which kernel that is, the package linux-image-amd64 knows.
fetch_kernel() {
    kernel=$cache/kernel
    [[ -s $kernel/vmlinuz ]] && return

    local package deb module file
    package=$(kernel_package)
    if [[ -z $package ]]; then
        apt-get update -qq || true
        package=$(kernel_package)
    fi
    [[ -n $package ]] || die "apt knows no linux-image-amd64; put vmlinuz and modules into $kernel"

    say "fetching $package into $kernel"
    mkdir -p "$cache"
    unpacked=$(mktemp -d "$cache/unpacked.XXXXXX")
    mkdir "$unpacked/modules"
    # apt's own user may not write here; root's download needs no sandbox, its signature is checked all the same.
    (cd "$unpacked" && apt-get download -qq -o APT::Sandbox::User=root "$package") || die "cannot download $package"
    deb=$(find "$unpacked" -name '*.deb' -print -quit)
    dpkg -x "$deb" "$unpacked/all"

    cp "$unpacked"/all/boot/vmlinuz-* "$unpacked/vmlinuz"
    for module in "${modules[@]}"; do
        file=$(find "$unpacked/all/" -name "$module.ko*" -print -quit)
        case $file in
            *.xz) xz -dc "$file" >"$unpacked/modules/$module.ko" ;;
            *.ko) cp "$file" "$unpacked/modules/" ;;
        esac
    done
    rm -rf "$deb" "$unpacked/all"
    # In one step, so that a run beside this one never sees half a kernel.
    mv -T "$unpacked" "$kernel" 2>/dev/null || [[ -s $kernel/vmlinuz ]] || die "cannot keep the kernel in $kernel"
}

kernel_package() {
    apt-cache depends linux-image-amd64 2>/dev/null |
        awk '$1 == "Depends:" && $2 ~ /^linux-image-[0-9]/ { print $2; exit }'
}

build_initramfs() {
    root=$work/root
    mkdir -p "$root"/{proc,sys,dev,tmp,run,etc,usr/bin,usr/lib,usr/lib64,var,modules}
    # The shape of the machine that the files come from, so that each can lie under its own path.
    ln -s usr/bin "$root/bin"
    ln -s usr/bin "$root/sbin"
    ln -s usr/lib "$root/lib"
    ln -s usr/lib64 "$root/lib64"
    ln -s ../run "$root/var/run"

    cp "$(command -v busybox)" "$root/usr/bin/busybox"
    cp "$here/init.sh" "$root/init"
    cp "$kernel"/modules/*.ko "$root/modules/"
    printf '%s\n' "${modules[@]}" >"$root/etc/modules"

    cp "$binary" "$root/usr/bin/$program"
    strip --strip-debug "$root/usr/bin/$program" 2>/dev/null || true # a debug build is most of the image
    copy_libraries_of "$binary"
    # busybox's cannot change the user.
    cp "$(command -v setpriv)" "$root/usr/bin/util-linux-setpriv"
    copy_libraries_of "$(command -v setpriv)"
    local driver file
    for driver in "${drivers[@]}"; do
        file=$(find "$driver_folder" -name "librte_$driver.so" -print -quit)
        [[ -n $file ]] || die "DPDK's driver $driver is not in $driver_folder"
        copy_library "$(readlink -f "$file")"
        copy_libraries_of "$file"
    done

    local cores
    cores=$(seq -s ', ' 1 "$queues")
    sed "s/^\( *cores:\) .*/\1 [$cores]/" "$here/vipgate.yaml" >"$root/etc/vipgate.yaml"
    cp -r "$here/manifests" "$root/etc/"
    guest_command >"$root/etc/command"
    printf 'huge_pages=%s\nlimit=%s\n' "$guest_huge_pages" "$whole_limit" >"$root/etc/guest"

    # Not compressed: an emulated processor unpacks slower than it reads.
    (cd "$root" && find . | busybox cpio -o -H newc 2>/dev/null) >"$work/initramfs"
}

copy_libraries_of() {
    local library
    ldd "$1" | awk '$2 == "=>" && $3 ~ /^\// { print $3 } $1 ~ /^\// { print $1 }' >"$work/libraries"
    while read -r library; do
        copy_library "$library"
    done <"$work/libraries"
}

# Copies the file itself under its real path, and the name it is asked for as a link to it: DPDK opens every driver
# that it finds in the folder, and two copies of one driver would both register themselves.
copy_library() {
    local name file
    name=$(readlink -f "$(dirname "$1")")/$(basename "$1")
    file=$(readlink -f "$1")
    if [[ ! -e $root$file ]]; then
        mkdir -p "$root$(dirname "$file")"
        cp "$file" "$root$file"
    fi
    if [[ $name != "$file" && ! -e $root$name ]]; then
        mkdir -p "$root$(dirname "$name")"
        ln -s "$file" "$root$name"
    fi
}

# The guest's only job, as a line of shell.
guest_command() {
    case $program in
        vipgate) echo "exec $(as_the_unit) vipgate run --config /etc/vipgate.yaml </dev/null" ;;
        testpmd)
            # Without a terminal testpmd ends at the end of its input; the console never ends.
            echo "exec testpmd -l 0-$queues --in-memory -m 128 -a 00:$client_pci.0 -a 00:$backend_pci.0 --" \
                "--forward-mode=io --auto-start --nb-cores=$queues --rxq=$queues --txq=$queues" \
                "--total-num-mbufs=8192 </dev/console"
            ;;
    esac
}

# With the rights that the systemd unit gives, and its udev rule.
as_the_unit() {
    local names sets
    names=$(sed -n 's/^AmbientCapabilities=//p' "$here/../../deploy/systemd/vipgate.service")
    sets=-all$(tr ' ' '\n' <<<"$names" | sed 's/^CAP_/,+/' | tr -d '\n' | tr '[:upper:]' '[:lower:]')
    echo "util-linux-setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs" \
        "--bounding-set=$sets --inh-caps=$sets --ambient-caps=$sets"
}

# ---- namespaces, guest, backends

make_namespaces() {
    local ns
    for ns in "$client_ns" "$backend_ns" "$guest_ns"; do
        ip netns add "$ns"
        ip -n "$ns" link set lo up
        # Less on its way than a queue has room for. QEMU's hash in software moves packets from one tap queue to the ring
        # of another; if that is full, they wait until the guest fills the first one's, which has room all the time.
        ip netns exec "$ns" sysctl -qw net.ipv4.tcp_rmem='4096 65536 65536' net.ipv4.tcp_wmem='4096 65536 65536'
    done
}

start_guest() {
    mkfifo "$work/control.in" "$work/control.out"
    exec {to_guest}<>"$work/control.in" {from_guest}<>"$work/control.out"

    local tap=tap,script=no,downscript=no
    local nic=virtio-net-pci,disable-legacy=on,disable-modern=off,iommu_platform=on,ats=on,romfile=
    if ((queues > 1)); then
        tap+=,queues=$queues
        nic+=,mq=on,rss=on,vectors=$((2 * queues + 2))
    fi
    timeout --kill-after=5 "$whole_limit" ip netns exec "$guest_ns" qemu-system-x86_64 \
        -M q35,kernel-irqchip=off -accel tcg,thread=multi -cpu max -smp "$((queues + 1))" -m "$guest_memory_mib" \
        -nodefaults -no-user-config -no-reboot -display none \
        -kernel "$kernel/vmlinuz" -initrd "$work/initramfs" -append "intel_iommu=on console=ttyS0 quiet panic=-1" \
        -serial "file:$work/console.log" \
        -chardev "pipe,id=control,path=$work/control" -serial chardev:control \
        -device intel-iommu,intremap=off,caching-mode=on,device-iotlb=on \
        -netdev "$tap,id=client,ifname=client0" \
        -device "$nic,netdev=client,addr=$client_pci.0,mac=52:54:00:00:00:01" \
        -netdev "$tap,id=backend,ifname=backend0" \
        -device "$nic,netdev=backend,addr=$backend_pci.0,mac=52:54:00:00:00:02" \
        >"$work/qemu.log" 2>&1 &
    qemu_pid=$!

    # QEMU makes its TAPs where it runs; from there each moves to the side that it is the NIC of.
    local tries=0
    until [[ -n $(ip -n "$guest_ns" -o link show dev backend0 2>/dev/null) ]]; do
        if ! guest_runs || ((++tries > 100)); then
            die "QEMU did not start"
        fi
        sleep 0.1
    done
    ip -n "$guest_ns" link set client0 netns "$client_ns"
    ip -n "$guest_ns" link set backend0 netns "$backend_ns"

}

make_addresses() {
    put_on "$client_ns" client0 192.0.2.10/24 2001:db8:1::10/64
    ip -n "$client_ns" route add default via 192.0.2.1
    ip -n "$client_ns" route add default via 2001:db8:1::1

    put_on "$backend_ns" backend0 10.0.1.10/24 10.0.1.11/24 2001:db8:2::10/64 2001:db8:2::11/64
    ip -n "$backend_ns" route add default via 10.0.1.1
    ip -n "$backend_ns" route add default via 2001:db8:2::1
    if [[ $program == testpmd ]]; then
        put_on "$backend_ns" backend0 "$service/24" "$service6/64"
    fi
}

put_on() {
    local ns=$1 device=$2 address
    shift 2
    ip -n "$ns" link set "$device" up
    for address in "$@"; do
        case $address in
            *:*) ip -n "$ns" address add "$address" dev "$device" nodad ;;
            *) ip -n "$ns" address add "$address" dev "$device" ;;
        esac
    done
}

start_backends() {
    head -c "$blob_bytes" /dev/urandom >"$work/blob"
    timeout --kill-after=5 "$whole_limit" ip netns exec "$backend_ns" python3 "$here/backend.py" "$work/blob" \
        >"$work/backend.log" 2>&1 &
    backend_pid=$!
}

guest_runs() { kill -0 "$qemu_pid" 2>/dev/null; }

# Runs one line of shell in the guest, which gives its output and exit status back over the second serial port.
guest() {
    local line
    printf '%s\n' "$*" >&"$to_guest"
    while IFS= read -r -t 20 -u "$from_guest" line; do
        case $line in
            "exit "*) return "${line#exit }" ;;
            *) printf '%s\n' "$line" ;;
        esac
    done
    echo "the guest gave no answer to: $*"
    return 124
}

in_client() { ip netns exec "$client_ns" "$@"; }

wait_for_service() {
    local started=$SECONDS
    until in_client curl -s -o /dev/null --max-time 2 "http://$service:$http_port/"; do
        guest_runs || die "the guest ended early"
        ! grep -q '^guest: .* ended' "$work/console.log" || die "$program ended early"
        ((SECONDS - started < boot_limit)) || die "no HTTP answer from $service within $boot_limit s"
        sleep 0.5
    done
}

# ---- cases

run_cases() {
    if [[ $program == testpmd ]]; then
        try "ping through the wire" ping_address "$service"
        try "HTTP, 20 requests" http 20 "$service:$http_port" "backend=$service client=192.0.2.10"
        try "HTTP over IPv6, 20 requests" http 20 "[$service6]:$http_port" "backend=$service6 client=2001:db8:1::10"
    else
        try "ping of the VIP" ping_address "$service"
        try "HTTP, 20 requests over both backends, client address kept" http 20 "$service:$http_port" \
            "backend=10.0.1.10 client=192.0.2.10" "backend=10.0.1.11 client=192.0.2.10"
        try "HTTP over IPv6, 20 requests over both backends, client address kept" http 20 "[$service6]:$http_port" \
            "backend=2001:db8:2::10 client=2001:db8:1::10" "backend=2001:db8:2::11 client=2001:db8:1::10"
        try "HTTP with masquerade, 20 requests" http_masqueraded
        try "HTTP to the node port, 20 requests" http 20 "$node_port" \
            "backend=10.0.1.10 client=192.0.2.10" "backend=10.0.1.11 client=192.0.2.10"
    fi
    try "5 MiB down" download "$service"
    try "5 MiB up" upload "$service"
    try "UDP echo" udp_echo "$service"
    try "UDP echo over IPv6" udp_echo "$service6"
    if [[ $program == vipgate ]] && ((queues > 1)); then
        try "masqueraded connections are their receiver's, 20 requests" nothing_changes_hands
    fi
    try "no wrong checksum seen by either side" no_wrong_checksum

    if [[ $program == vipgate ]]; then
        try "a backend leaves: 20 requests, all to the other" backend_leaves
        try "SIGTERM ends vipgate with status 0" guest stop
        try "no error in the log" no_error
    fi
}

try() {
    local name=$1 output
    shift
    if output=$("$@" 2>&1); then
        ((++passed))
        say "ok    $name"
    else
        ((++failed))
        say "FAIL  $name"
        printf '%s\n' "$output" | sed 's/^/               /'
    fi
}

ping_address() { in_client ping -c 3 -i 0.3 -W 2 "$1"; }

# COUNT requests; the lines that come back, each one once, must be exactly the ones expected.
http() {
    local count=$1 address=$2 answers=$work/answers request
    shift 2
    : >"$answers"
    for ((request = 0; request < count; request++)); do
        in_client curl -gsS --max-time 5 "http://$address/" >>"$answers" || return
    done
    sort "$answers" | uniq -c
    diff <(printf '%s\n' "$@" | sort) <(sort -u "$answers")
}

http_masqueraded() {
    http 20 "$masqueraded" "backend=10.0.1.10 client=10.0.1.1" "backend=10.0.1.11 client=10.0.1.1"
}

# The NICs' drivers tell how packets are spread over the queues, and the workers own connections accordingly.
nothing_changes_hands() {
    local before after
    sleep 1 # the last packets of connections before
    before=$(handed_in) || return
    http_masqueraded || return
    after=$(handed_in) || return
    printf 'before:\n%s\nafter:\n%s\n' "$before" "$after"
    [[ $before == "$after" ]]
}

handed_in() { guest "wget -qO- http://127.0.0.1:10256/metrics | grep '^vipgate_worker_handed_in_packets'"; }

download() {
    in_client curl -sS --max-time 20 -o "$work/down" -w '%{speed_download} B/s\n' "http://$1:$http_port/blob" &&
        cmp "$work/blob" "$work/down"
}

upload() {
    in_client curl -sS --max-time 20 -H Expect: --data-binary "@$work/blob" "http://$1:$http_port/sha256" |
        diff <(sha256sum <"$work/blob" | cut -d ' ' -f 1) -
}

# Bash opens the socket; head reads a datagram whole, where bash's own read would take its first byte only.
udp_echo() {
    # shellcheck disable=SC2016 # the inner shell expands these
    in_client bash -c '
        exec 3<>"/dev/udp/$1/$2"
        for number in 1 2 3 4 5; do
            echo "datagram $number" >&3
            answer=$(timeout 3 head -n 1 <&3)
            [[ $answer == "datagram $number" ]] || { echo "datagram $number: answer ${answer:-none}"; exit 1; }
        done' bash "$1" "$udp_port"
}

# A NIC may hand a frame over with its checksum half done. The guest did not offer to accept that, so it must not
# happen; were it to, forwarded packets would arrive damaged, with ping and small answers still looking healthy.
no_wrong_checksum() {
    local ns
    for ns in "$client_ns" "$backend_ns"; do
        ip netns exec "$ns" nstat -as '*CsumErrors'
    done | sed '/^#/d' >"$work/checksums"
    cat "$work/checksums"
    [[ ! -s $work/checksums ]]
}

backend_leaves() {
    local attempt
    guest rm /etc/manifests/web-second.yaml || return
    for attempt in 1 2 3 4 5; do # vipgate watches the folder; it need not have seen the change yet
        sleep 1
        echo "attempt $attempt"
        http 20 "$service:$http_port" "backend=10.0.1.10 client=192.0.2.10" && return
    done
    return 1
}

# Also of DPDK: an operator must not have to know which of its errors are none.
no_error() { ! grep ERROR "$work/console.log"; }

main "$@"
