#!/usr/bin/env python3
"""Zero-loss rate with TRex, and latency at 10, 50 and 90 per cent of it.

Needs a TRex server in stateless mode (`./t-rex-64 -i`) and its Python library:

    export PYTHONPATH=<trex>/automation/trex_control_plane/interactive
    ./zero_loss.py --connections 1000000 --json result.json

The search halves the interval of rates, as RFC 2544 does. A trial passes when no packet is missing in either direction;
the best rate is confirmed for a minute.
"""

import argparse
import json
import sys

import stl_flows
from trex.stl.api import STLClient, STLError

CLIENTS, BACKENDS = 0, 1
BOTH = [CLIENTS, BACKENDS]
# How fast connections are opened.
OPEN_PPS = 500000


def main():
    args = arguments()
    client = STLClient(server=args.server)
    try:
        client.connect()
        client.reset(ports=BOTH)
        open_connections(client, args)
        load(client, args)
        best = search(client, args)
        latencies = []
        if best is not None:
            load(client, args, ["--latency"])
            for share in (10, 50, 90):
                latencies.append(latency(client, share, best["percent"] * share / 100, args.trial))
    except STLError as error:
        sys.exit("zero_loss: %s" % error)
    finally:
        client.disconnect()
    if args.json:
        with open(args.json, "w") as file:
            json.dump({"settings": vars(args), "zeroLoss": best, "latency": latencies}, file, indent=2)
            file.write("\n")
    sys.exit(0 if best else 1)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", default="127.0.0.1", help="where TRex runs [default: 127.0.0.1]")
    parser.add_argument("--connections", type=int, default=10000, help="[default: 10000]")
    parser.add_argument("--size", type=int, default=64, help="of frames with FCS, in bytes [default: 64]")
    parser.add_argument("--order", default="round", help="of connections: round or random [default: round]")
    parser.add_argument("--trial", type=float, default=10, help="seconds of a trial [default: 10]")
    parser.add_argument("--confirm", type=float, default=60, help="seconds of the last trial [default: 60]")
    parser.add_argument("--width", type=float, default=0.5, help="to end at, in per cent of the line [default: 0.5]")
    parser.add_argument("--json", metavar="FILE", help="also write the result there")
    return parser.parse_args()


def open_connections(client, args):
    """A packet of every connection, before replies are sent: a reply without a connection is dropped."""
    streams = stl_flows.register().get_streams(CLIENTS, ["--connections", str(args.connections)])
    client.add_streams(streams, ports=[CLIENTS])
    client.start(ports=[CLIENTS], mult="%dpps" % OPEN_PPS, duration=2 + 1.2 * args.connections / OPEN_PPS)
    client.wait_on_traffic(ports=[CLIENTS], rx_delay_ms=500)


def load(client, args, more=()):
    """Puts the streams of stl_flows.py on both ports."""
    tunables = ["--connections", str(args.connections), "--size", str(args.size), "--order", args.order]
    client.reset(ports=BOTH)
    for port in BOTH:
        client.add_streams(stl_flows.register().get_streams(port, tunables + list(more)), ports=[port])


def trial(client, percent, seconds):
    """Sends at this share of the line in both directions and counts what arrived at the other port."""
    client.clear_stats()
    client.start(ports=BOTH, mult="%f%%" % percent, duration=seconds)
    client.wait_on_traffic(ports=BOTH, rx_delay_ms=2000)
    stats = client.get_stats()
    sent = sum(stats[port]["opackets"] for port in BOTH)
    lost = sum(max(0, stats[port]["opackets"] - stats[1 - port]["ipackets"]) for port in BOTH)
    result = {"percent": percent, "mpps": sent / seconds / 1e6, "sent": sent, "lost": lost}
    print("%7.2f %% of the line: %8.3f Mpps, %d of %d lost" % (percent, result["mpps"], lost, sent), flush=True)
    return result


def search(client, args):
    """The best trial without loss; None without any."""
    low, high, best = 0.0, 100.0, None
    rate = high
    while high - low > args.width:
        result = trial(client, rate, args.trial)
        if result["lost"] == 0 and result["sent"] > 0:
            low, best = rate, result
        else:
            high = rate
        if low == 100.0:
            break
        rate = (low + high) / 2
    # What held for ten seconds may not hold for sixty: then a little less does.
    while best is not None:
        best = trial(client, best["percent"], args.confirm)
        if best["lost"] == 0:
            return best
        lower = best["percent"] - args.width
        best = {"percent": lower} if lower > 0 else None
    return None


def latency(client, share, percent, seconds):
    """Latency of both directions under a load, in microseconds. TRex counts in classes that grow with the latency:
    10 us wide up to 100 us, 100 us up to 1 ms, and so on; a percentile is the upper end of its class."""
    result = trial(client, percent, seconds)
    groups = [stl_flows.LATENCY_GROUP + port for port in BOTH]
    told = client.get_pgid_stats(groups)["latency"]
    for group, name in zip(groups, ("toBackends", "toClients")):
        stats = told[group]
        result[name] = {"average": stats["latency"]["average"], "max": stats["latency"]["total_max"],
                        "jitter": stats["latency"]["jitter"], "dropped": stats["err_cntrs"]["dropped"]}
        for quantile in (50, 90, 99, 99.9):
            result[name]["p%g" % quantile] = percentile(stats["latency"]["histogram"], quantile)
        print("  %d %% load, %s: %s" % (share, name, result[name]), flush=True)
    return dict(result, share=share)


def percentile(histogram, quantile):
    """The upper end of the class that holds it; None without packets."""
    classes = sorted((int(low), count) for low, count in histogram.items())
    due = sum(count for _, count in classes) * quantile / 100
    seen = 0
    for low, count in classes:
        seen += count
        if seen >= due and count > 0:
            return low + (10 if low == 0 else 10 ** (len(str(low)) - 1))
    return None


if __name__ == "__main__":
    main()
