"""TRex, advanced stateful: new TCP connections per second through a Service.

TRex is client and server with its own TCP: handshake, request, response, farewell. In the console of a server in ASTF
mode (`./t-rex-64 -i --astf`), with the gateway running:

    start -f astf_connections.py -m 100000                              100,000 new connections a second
    start -f astf_connections.py -m 100000 -t --vip 203.0.113.12        masqueraded
    start -f astf_connections.py -m 20000 -t --hold 10                  each stays open for 10 s: 200,000 at a time

Addresses match vipgate.yaml and manifests/. Servers answer at any address; the gateway has changed it by then.
"""

import argparse
import os

from trex.astf.api import *

VIP_PORT, BACKEND_PORT = 80, 8080
CLIENTS = ["198.18.0.1", "198.18.3.254"]
REQUEST = b"GET / HTTP/1.1\r\nHost: vip\r\n\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Connections(object):
    def get_profile(self, tunables, **kwargs):
        parser = argparse.ArgumentParser(prog=os.path.basename(__file__), description=__doc__,
                                         formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("--vip", default="203.0.113.11", help="the Service [default: 203.0.113.11]")
        parser.add_argument("--hold", type=float, default=0, help="seconds before the response [default: 0]")
        args = parser.parse_args(tunables)

        client = ASTFProgram()
        client.send(REQUEST)
        client.recv(len(RESPONSE))

        server = ASTFProgram()
        server.recv(len(REQUEST))
        if args.hold > 0:
            server.delay(int(args.hold * 1000000))
        server.send(RESPONSE)
        server.wait_for_peer_close()

        addresses = ASTFIPGen(glob=ASTFIPGenGlobal(ip_offset="0.1.0.0"),
                              dist_client=ASTFIPGenDist(ip_range=CLIENTS, distribution="seq"),
                              dist_server=ASTFIPGenDist(ip_range=[args.vip, args.vip], distribution="seq"))
        template = ASTFTemplate(
            client_template=ASTFTCPClientTemplate(program=client, ip_gen=addresses, port=VIP_PORT, cps=1),
            server_template=ASTFTCPServerTemplate(program=server, assoc=ASTFAssociationRule(port=BACKEND_PORT)))
        return ASTFProfile(default_ip_gen=addresses, templates=template)


def register():
    return Connections()
