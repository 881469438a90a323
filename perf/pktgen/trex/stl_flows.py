"""TRex, stateless: many UDP connections to a Service, and their replies.

Port 0 plays the clients, port 1 the backend of the Service `one`. In the console, with the gateway running:

    start -f stl_flows.py -p 0 -m 1% -d 5 -t --connections 1000000      open all connections first
    start -f stl_flows.py -p 0 1 -m 10mpps -t --connections 1000000     then clients and replies
    start -f stl_flows.py -p 0 1 -m 10mpps -t --connections 1000000 --latency

Addresses match vipgate.yaml and manifests/.
"""

import argparse
import os

from trex_stl_lib.api import *

VIP, VIP_PORT = "203.0.113.10", 80
BACKEND, BACKEND_PORT = "10.0.1.10", 8080
# 512 addresses, so that a million connections need 1,954 ports of each.
FIRST_CLIENT, LAST_CLIENT, CLIENTS = "198.18.0.1", "198.18.2.0", 512
FIRST_PORT = 1024
# Bytes of a frame that the packet builder does not count.
FCS = 4
# Packets a second that measure latency; each has its time and number in its payload.
LATENCY_PPS = 1000
# TRex counts them by a number, this one and the next: one for each direction.
LATENCY_GROUP = 10


def ports_for(connections):
    """Ports a client uses, so that there are at least so many connections."""
    return max(1, -(-connections // CLIENTS))


class Flows(object):
    def get_streams(self, direction, tunables, **kwargs):
        parser = argparse.ArgumentParser(prog=os.path.basename(__file__), description=__doc__,
                                         formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("--connections", type=int, default=10000, help="up to 33 million [default: 10000]")
        parser.add_argument("--size", type=int, default=64, help="of frames with FCS, in bytes [default: 64]")
        parser.add_argument("--order", choices=["round", "random"], default="round",
                            help="of connections: one after the other, or at random [default: round]")
        parser.add_argument("--latency", action="store_true", help="add a stream that measures latency")
        args = parser.parse_args(tunables)
        last_port = FIRST_PORT + ports_for(args.connections) - 1
        if last_port > 65535:
            parser.error("--connections: too many for %d addresses" % CLIENTS)
        streams = [self.load(direction, args.size, args.order, last_port)]
        if args.latency:
            streams.append(self.latency(direction, args.size))
        return streams

    def load(self, direction, size, order, last_port):
        """Packets of all connections in turn; their checksums are made by the NIC."""
        if order == "round":
            commands = [STLVmTupleGen(name="client", ip_min=FIRST_CLIENT, ip_max=LAST_CLIENT, port_min=FIRST_PORT,
                                      port_max=last_port, limit_flows=CLIENTS * (last_port - FIRST_PORT + 1))]
            address, port = "client.ip", "client.port"
        else:
            address, port = "address", "port"
            commands = [STLVmFlowVar(name=address, min_value=FIRST_CLIENT, max_value=LAST_CLIENT, size=4, op="random"),
                        STLVmFlowVar(name=port, min_value=FIRST_PORT, max_value=last_port, size=2, op="random")]
        client_address, client_port = ("IP.src", "UDP.sport") if direction == 0 else ("IP.dst", "UDP.dport")
        commands += [STLVmWrFlowVar(fv_name=address, pkt_offset=client_address),
                     STLVmWrFlowVar(fv_name=port, pkt_offset=client_port),
                     STLVmFixChecksumHw(l3_offset="IP", l4_offset="UDP", l4_type=CTRexVmInsFixHwCs.L4_TYPE_UDP)]
        packet = self.packet(direction, UDP, size)
        return STLStream(packet=STLPktBuilder(pkt=packet, vm=STLScVmRaw(commands)), mode=STLTXCont())

    def latency(self, direction, size):
        """Packets of one connection. TRex writes into their payload, so they go without a UDP checksum, which IPv4
        allows. They are sent at the same rate whatever the load is."""
        packet = self.packet(direction, lambda **ports: UDP(chksum=0, **ports), size)
        return STLStream(packet=STLPktBuilder(pkt=packet), mode=STLTXCont(pps=LATENCY_PPS),
                         flow_stats=STLFlowLatencyStats(pg_id=LATENCY_GROUP + direction))

    def packet(self, direction, udp, size):
        """From the first client to the Service, or from its backend back."""
        if direction == 0:
            headers = Ether() / IP(src=FIRST_CLIENT, dst=VIP) / udp(sport=FIRST_PORT, dport=VIP_PORT)
        else:
            headers = Ether() / IP(src=BACKEND, dst=FIRST_CLIENT) / udp(sport=BACKEND_PORT, dport=FIRST_PORT)
        return headers / ("x" * max(0, size - FCS - len(headers)))


def register():
    return Flows()
