#!/usr/bin/busybox sh
# shellcheck shell=dash
#
# The guest's first process: brings up what DPDK needs (huge pages, vfio-pci), starts the program under test, and
# then runs the lines of shell that come over the second serial port. The first one is the console, and the log.

/usr/bin/busybox --install -s /usr/bin
# shellcheck disable=SC1091 # run.sh writes it: huge_pages and limit (in seconds)
. /etc/guest
: "${huge_pages:?}" "${limit:?}"

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /run
mkdir -p /dev/hugepages
mount -t hugetlbfs hugetlbfs /dev/hugepages
ip link set lo up

# The host has its own time limit; this one is for a host that is no longer there.
(sleep "$limit"; poweroff -f) &

echo "$huge_pages" >/proc/sys/vm/nr_hugepages
echo "guest: $(uname -r), $(cat /proc/sys/vm/nr_hugepages) huge pages"

while read -r module; do
    [ -e "/modules/$module.ko" ] || continue # built into this kernel
    case $module in
        # An emulated IOMMU without interrupt remapping; the guest trusts its own devices.
        vfio_iommu_type1) insmod "/modules/$module.ko" allow_unsafe_interrupts=1 ;;
        *) insmod "/modules/$module.ko" ;;
    esac || echo "guest: cannot load $module"
done </etc/modules

for device in /sys/bus/pci/devices/*; do
    case $(cat "$device/vendor"):$(cat "$device/device") in
        0x1af4:0x1041)
            echo vfio-pci >"$device/driver_override"
            echo "${device##*/}" >/sys/bus/pci/drivers_probe
            echo "guest: ${device##*/} has driver $(basename "$(readlink "$device/driver")")"
            ;;
    esac
done

# As Debian's udev does it: TAP devices are anybody's who has the capability. As deploy/systemd does it: NICs belong to
# the program's user, and the memory for their DMA may be locked.
chmod 666 /dev/net/tun
find /dev/vfio -type c ! -name vfio -exec chown 65534 {} +
mkdir /run/vipgate && chown 65534 /run/vipgate
ulimit -l unlimited

# The program takes the place of the shell that notes its process id.
(
    RUNTIME_DIRECTORY=/run/vipgate sh -c 'echo $$ >/run/program.pid; . /etc/command'
    status=$?
    echo "guest: program ended with status $status"
    echo "$status" >/run/program.status
) &

# What `stop` returns is the program's own exit status.
stop() {
    kill -TERM "$(cat /run/program.pid)" || return
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        [ -e /run/program.status ] && return "$(cat /run/program.status)"
        sleep 1
    done
    echo "still running after 10 s"
    return 124
}

stty -F /dev/ttyS1 raw -echo
exec 3<>/dev/ttyS1
while read -r line <&3; do
    eval "$line" >&3 2>&1
    echo "exit $?" >&3
done
