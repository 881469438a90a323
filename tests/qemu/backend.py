"""The backends of the QEMU test: HTTP and UDP echo on every address of the namespace.

GET /        one line: which backend address was asked, and by which client address
GET /blob    the file named on the command line
POST /sha256 the checksum of what was sent
"""

import hashlib
import http.server
import socket
import sys
import threading

HTTP_PORT = 8080
UDP_PORT = 5300


def plain(address):
    """IPv4 clients of a dual-stack socket appear as ::ffff:192.0.2.10."""
    return address.removeprefix("::ffff:")


class Handler(http.server.BaseHTTPRequestHandler):
    blob = b""

    def do_GET(self):
        if self.path == "/blob":
            self.answer(self.blob)
        else:
            backend = plain(self.connection.getsockname()[0])
            client = plain(self.client_address[0])
            self.answer(f"backend={backend} client={client}\n".encode())

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(f"{hashlib.sha256(body).hexdigest()}\n".encode())

    def log_request(self, *_):
        """Only errors are worth a line."""

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6

    def server_bind(self):
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


def echo():
    """Answers from the address that was asked, which one wildcard socket learns per datagram."""
    server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    server.bind(("::", UDP_PORT))
    while True:
        data, ancillary, _, peer = server.recvmsg(2048, socket.CMSG_SPACE(20))
        asked = [item for item in ancillary if item[1] == socket.IPV6_PKTINFO]
        server.sendmsg([data], asked, 0, peer)


if __name__ == "__main__":
    with open(sys.argv[1], "rb") as file:
        Handler.blob = file.read()
    threading.Thread(target=echo, daemon=True).start()
    Server(("::", HTTP_PORT), Handler).serve_forever()
