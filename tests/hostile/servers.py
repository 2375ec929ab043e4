"""A server that sends endless or highly compressed bodies."""

from __future__ import annotations

import gzip
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["endless_server"]

PIECE = b"\xff\xd8" + b"\xff" * ((1 << 16) - 2)
BOMB = gzip.compress(bytes(64 << 20), 9)  # 64 MiB in 64 KB


class _Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        path = self.rfile.readline().split()[1]
        while self.rfile.readline().strip():
            pass
        try:
            if path.startswith(b"/bomb"):
                head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
                self.wfile.write(head % len(BOMB) + BOMB)
            elif path.startswith(b"/announced"):
                self._send_for_ever(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (64 << 20), b"%s")
            elif path.startswith(b"/chunked"):
                self._send_for_ever(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"10000\r\n%s\r\n")
            else:
                self._send_for_ever(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", b"%s")
        except OSError:
            pass  # the client disconnected

    def _send_for_ever(self, head: bytes, frame: bytes) -> None:
        self.wfile.write(head)
        while True:
            self.wfile.write(frame % PIECE)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 128


@contextmanager
def endless_server() -> Iterator[str]:
    """Run a server; yield its `host:port`. Paths: `/endless`, `/chunked`, `/announced` (64 MiB), `/bomb`."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
