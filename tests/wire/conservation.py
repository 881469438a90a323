"""Every frame has one end: adds up vipgate's counters, and holds them against what the generator saw.

Usage: conservation.py METRICS RESULT, with the text of vipgate's /metrics and the generator's JSON. Exit status 1 when
a frame is missing or there is one too many.
"""

import json
import re
import sys

SAMPLE = re.compile(r"^vipgate_(\w+)(?:\{(.*)\})? (\S+)$")


def read(path):
    """The samples of a metrics page: name to a list of labels and value."""
    samples = {}
    for line in open(path, encoding="utf-8"):
        if match := SAMPLE.match(line):
            name, labels, value = match.groups()
            labels = dict(re.findall(r'(\w+)="([^"]*)"', labels or ""))
            samples.setdefault(name, []).append((labels, float(value)))
    return samples


def total(samples, name, **wanted):
    return int(sum(value for labels, value in samples[name] if wanted.items() <= labels.items()))


def main(metrics, result):
    samples = read(metrics)
    outcome = lambda name: total(samples, "worker_packets_total", outcome=name)
    sent = total(samples, "port_tx_packets_total")
    drops = {
        labels["reason"]: int(value) for labels, value in samples["drop_packets_total"] if value > 0
    }
    came = {
        "received": total(samples, "port_rx_packets_total"),
        "injected": total(samples, "worker_injected_packets_total"),
        "handed in": total(samples, "worker_handed_in_packets_total"),
    }
    ended = {
        "forwarded": outcome("forwarded"),
        "answered": outcome("answered"),
        "handed over": outcome("handed_over"),
        "punted": outcome("punted"),
        "parked": total(samples, "worker_parked_packets"),
        **{f"dropped: {reason}": count for reason, count in drops.items()},
    }
    print("came", came)
    print("ended", ended)
    expect("frames that came, and frames that ended", sum(came.values()), sum(ended.values()))
    expect("frames handed over, and frames handed in", ended["handed over"], came["handed in"])
    expect("frames sent, and frames forwarded or answered", sent, ended["forwarded"] + ended["answered"])
    for name in ("missed", "nombuf"):
        expect(f"frames the device lost ({name})", 0, total(samples, f"port_rx_{name}_total"))
    pool = [total(samples, f"mempool_{name}") for name in ("size", "free")]
    entries = total(samples, "conntrack_entries")

    with open(result, encoding="utf-8") as file:
        seen = json.load(file)
    ways = [seen["toBackends"], seen["toClients"]]
    packets = sum(way["received"] for way in ways)
    print(f"pool {pool[1]} of {pool[0]} free, {entries} connections")
    if packets > ended["forwarded"]:
        fail(f"the generator received {packets} packets, vipgate forwarded {ended['forwarded']}")
    lost = sum(way["lost"] for way in ways)
    if lost > sum(drops.values()):
        print(f"{lost} packets lost, but only {sum(drops.values())} dropped by vipgate")
    worst = max(way["latencyMicros"]["p99"] for way in ways)
    reordered = sum(way["reordered"] for way in ways)
    share = came["handed in"] / max(came["received"], 1)
    print(
        f"summary: {packets} packets, {lost} lost, {reordered} reordered, {share:.0%} handed over, "
        f"dropped {sum(drops.values())}, p99 {worst:.0f} us, ready after {seen['readySeconds']:.1f} s"
    )


def expect(what, left, right):
    if left != right:
        fail(f"{what}: {left} and {right}")


def fail(message):
    sys.exit(f"conservation: {message}")


main(*sys.argv[1:])
