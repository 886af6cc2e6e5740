"""The HTTP server of a worker's metrics: /metrics, /live and /ready."""

from __future__ import annotations

import logging
import socket
import threading
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import TYPE_CHECKING, Any

from fastq._core.tally import Tally
from fastq.brokers.sent_time import ready_since
from fastq.exceptions import ImproperlyConfigured
from fastq.worker.metrics import CONTENT_TYPE, Metrics

if TYPE_CHECKING:
    from fastq.worker.loop import Loop
    from fastq.worker.worker import Worker

logger = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
# Seconds that a client may take over its request.
REQUEST_TIMEOUT = 5.0


def parse_address(text: str) -> tuple[str, int]:
    """Host and port of ``PORT``, ``HOST:PORT`` or ``[IPv6]:PORT``. Raises `ImproperlyConfigured`."""
    host, _, port = text.rpartition(":")
    if not port.isdigit() or int(port) > 65535:
        raise ImproperlyConfigured(f"--metrics {text}: not a PORT or HOST:PORT")
    return host.strip("[]") or LOOPBACK, int(port)


class MetricsServer:
    """Serves the metrics of *worker* at *address* from threads of its own, between `start` and `stop`."""

    def __init__(self, worker: Worker, address: str) -> None:
        self.address = parse_address(address)
        self.tally = Tally(worker.app.tasks, ready_since)
        self._metrics = Metrics(worker, self.tally)
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def start(self, loop: Loop) -> None:
        """Listen. Raises `ImproperlyConfigured` if the address is taken or not ours."""
        self._metrics.begin(loop)
        host, port = self.address
        try:
            self._server = _Server(self.address, self._metrics)
        except OSError as exc:
            raise ImproperlyConfigured(
                f"metrics can't be served at {host}:{port}: {exc.strerror or exc}; give --metrics another one"
            ) from exc
        self._thread = threading.Thread(target=self._server.accept, name="fastq-metrics", daemon=True)
        self._thread.start()
        logger.info("Metrics: http://%s:%d/metrics, /live, /ready", host, self._server.port)

    def stop(self) -> None:
        """Listen no more."""
        if self._server is not None and self._thread is not None:
            self._server.leave()
            self._thread.join()


class _Server(ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], metrics: Metrics) -> None:
        self.metrics = metrics
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._is_over = False
        super().__init__(address, _Handler)

    @property
    def port(self) -> int:
        """Where it listens, if it was asked to find a port itself."""
        port: int = self.server_address[1]
        return port

    def accept(self) -> None:
        """Serve until `leave`; unlike `serve_forever` it does not look twice a second whether to end."""
        while not self._is_over:
            self.handle_request()

    def leave(self) -> None:
        """End `accept`."""
        self._is_over = True
        host = {"0.0.0.0": LOOPBACK, "::": "::1"}.get(str(self.server_address[0]))
        try:
            socket.create_connection(
                (host or str(self.server_address[0]), self.port), REQUEST_TIMEOUT
            ).close()
        except OSError:
            pass  # it has ended by itself
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say so where it is looked for, and go on."""
        logger.debug("a request for metrics from %s failed", client_address, exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    timeout = REQUEST_TIMEOUT
    server: _Server

    def do_GET(self) -> None:
        """Answer one request."""
        metrics = self.server.metrics
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self._answer(200, metrics.text(), CONTENT_TYPE)
        elif path in ("/live", "/ready"):
            trouble = metrics.liveness() if path == "/live" else metrics.readiness()
            self._answer(200 if trouble is None else 503, f"{trouble or 'ok'}\n")
        else:
            self._answer(404, "there are /metrics, /live and /ready\n")

    do_HEAD = do_GET

    def _answer(self, status: int, text: str, content_type: str = "text/plain; charset=utf-8") -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: a probe comes every few seconds."""
