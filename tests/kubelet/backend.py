"""backend.py ROOT FOUND: what an image finds around it in a cluster, for tests/kubelet/empty-root.

Writes into ROOT, which is an image's root, its resolv.conf as the kubelet does and the certificate of an authority where the
image has those of the world, and then serves: a name server that knows only a Service's whole name, and a backend that speaks
OTLP/HTTP over TLS under that name. The path and the length of the first request go to FOUND.
"""

import http.server
import pathlib
import socket
import ssl
import struct
import sys
import threading

import trustme

SERVICE = "backend.tracing.svc.cluster.local"
RESOLV_CONF = """nameserver 127.0.0.1
search shop.svc.cluster.local tracing.svc.cluster.local svc.cluster.local cluster.local
options ndots:5
"""


def answer(query):
    """An address for the Service, no such name for all others; of another kind than an address there is nothing."""
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode())
        at += query[at] + 1
    (kind,) = struct.unpack(">H", query[at + 1 : at + 3])
    known = ".".join(labels).lower() == SERVICE
    is_answered = known and kind == 1
    head = query[:2] + struct.pack(">HHHHH", 0x8180 if known else 0x8183, 1, int(is_answered), 0, 0)
    found = struct.pack(">HHHIH", 0xC00C, 1, 1, 5, 4) + socket.inet_aton("127.0.0.1") if is_answered else b""
    return head + query[12 : at + 5] + found


def serve_names():
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 53))
    while True:
        query, sender = server.recvfrom(512)
        server.sendto(answer(query), sender)


def main(root, found):
    authority = trustme.CA()
    place = pathlib.Path(root) / "etc/ssl/certs"
    place.mkdir(parents=True)
    authority.cert_pem.write_to_path(str(place / "ca-certificates.crt"))
    (pathlib.Path(root) / "etc/resolv.conf").write_text(RESOLV_CONF)

    class Backend(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            pathlib.Path(found).write_text(f"{self.path} {len(body)}\n")
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # The name as it is configured, which is not the one that was found.
    authority.issue_cert("backend").configure_cert(context)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 8443), Backend)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=serve_names, daemon=True).start()
    print("ready", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
