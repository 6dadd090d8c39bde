"""The one HTTP port: GET and HEAD, nothing that changes anything.

::

    /livez  /readyz      200 or 503, with the reasons as JSON; never asks a broker
    /metrics             Prometheus text format
    /                    status page
    /api/v1/status       the document behind it

Built on the standard library's threading server, as ``prometheus_client`` builds its own: five read-only
pages need no framework, and a liveness probe should depend on as little as possible. What the standard server
lacks is added here: a bound on connections at which the oldest one goes (a probe is answered in milliseconds,
so the oldest is never a probe), a deadline for each connection as a whole, and one rendering of a page
at a time, shared by all who asked for it meanwhile, so that no crowd of readers can starve the stages.
"""

from __future__ import annotations

import json
import socket
import socketserver
import sys
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from threading import Lock, Thread
from typing import Any, Final

import structlog
from prometheus_client import CollectorRegistry, generate_latest

from streamdrift.errors import ConfigurationError
from streamdrift.http import api, page
from streamdrift.http.health import Health, liveness, readiness
from streamdrift.status import Snapshot

MAX_CONNECTIONS: Final = 64
"""Open connections; Prometheus, the probes and a few browsers need a dozen at most."""

MAX_THREADS: Final = 8 * MAX_CONNECTIONS
"""Threads at most: one whose connection was closed may still wait for a page that is being rendered."""

DEADLINE_S: Final = 10.0
"""Time for a connection from its first byte to its last: a slow scrape is over by then (default time-out: 10 s)."""

SHARED_FOR_S: Final = 1.0
"""How old a rendered page may be: stages publish about once in ten seconds."""

_MAX_REFUSED_BODY: Final = 64 * 1024
_WAKE_S: Final = 0.2

_JSON: Final = "application/json"
_HTML: Final = "text/html; charset=utf-8"
_TEXT: Final = "text/plain; charset=utf-8"
_EXPOSITION: Final = "text/plain; version=0.0.4; charset=utf-8"

_log = structlog.get_logger(__name__)


def _digest(inline: str) -> str:
    return f"'sha256-{b64encode(sha256(inline.encode()).digest()).decode()}'"


_SECURITY_HEADERS: Final = {
    # The page's own style and script by their hashes, and nothing else: a name that slipped through as markup stays
    # dead text.
    "Content-Security-Policy": (
        f"default-src 'none'; style-src {_digest(page.STYLE)}; script-src {_digest(page.SCRIPT)}; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True, slots=True)
class _Answer:
    status: HTTPStatus
    content_type: str
    body: bytes


_Route = Callable[[], _Answer]


def _json(document: object, status: HTTPStatus = HTTPStatus.OK) -> _Answer:
    return _Answer(status, _JSON, json.dumps(document, allow_nan=False).encode() + b"\n")


def _verdict(health: Health) -> _Answer:
    if health.ok:
        return _json({"status": "ok"})
    return _json({"status": "failing", "reasons": health.reasons}, HTTPStatus.SERVICE_UNAVAILABLE)


class _Shared:
    """A page that is rendered by one thread at a time, for everybody who asks within ``SHARED_FOR_S``."""

    def __init__(self, render: _Route) -> None:
        self._render = render
        self._lock = Lock()
        self._answer: _Answer | None = None
        self._until = 0.0

    def __call__(self) -> _Answer:
        with self._lock:
            if self._answer is None or time.monotonic() >= self._until:
                self._answer = self._render()
                self._until = time.monotonic() + SHARED_FOR_S
            return self._answer


class HttpServer:
    """Serves what ``read`` and ``registry`` return, on threads of its own.

    ``read`` is called on these threads, at any time: it returns at once and waits for nobody.
    ``heartbeat_bound_s`` is the age at which a stage's loop counts as hung; it has to be longer than the longest
    that a loop may be busy between two polls. Port 0 takes a free one.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        read: Callable[[], Snapshot],
        registry: CollectorRegistry,
        heartbeat_bound_s: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._address = (host, port)
        self._read = read
        self._registry = registry
        self._heartbeat_bound_s = heartbeat_bound_s
        self._clock = clock
        self._started_s = clock()
        self._server: _Server | None = None
        self._thread: Thread | None = None

    def start(self) -> None:
        """Listen, and serve from a thread. Raises ``ConfigurationError`` if the address cannot be had."""
        self._started_s = self._clock()
        routes: dict[str, _Route] = {
            "/livez": self._livez,
            "/readyz": lambda: _verdict(readiness(self._read().loops)),
            "/metrics": _Shared(self._metrics),
            "/": _Shared(self._page),
            "/api/v1/status": _Shared(lambda: _json(api.status(self._read(), self._clock()))),
        }
        host, port = self._address
        try:
            self._server = _Server(host, port, routes)
        except (OSError, OverflowError) as error:
            raise ConfigurationError(f"cannot listen on {host}:{port}: {error}") from error
        self._thread = Thread(target=self._server.serve_forever, args=(_WAKE_S,), name="http", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close the port and every connection; a second call does nothing."""
        server, self._server = self._server, None
        if server is None or self._thread is None:
            return
        server.shutdown()
        self._thread.join()
        server.server_close()
        server.hang_up_all()

    @property
    def url(self) -> str:
        """Where it listens, with the port that it was given. Raises ``RuntimeError`` while it does not run."""
        if self._server is None:
            raise RuntimeError("the HTTP server does not run")
        host, port = self._server.server_address[:2]
        return f"http://[{host!s}]:{port}" if ":" in str(host) else f"http://{host!s}:{port}"

    def _livez(self) -> _Answer:
        loops = self._read().loops
        bound = self._heartbeat_bound_s
        return _verdict(liveness(loops, now_s=self._clock(), started_s=self._started_s, bound_s=bound))

    def _metrics(self) -> _Answer:
        return _Answer(HTTPStatus.OK, _EXPOSITION, generate_latest(self._registry))

    def _page(self) -> _Answer:
        return _Answer(HTTPStatus.OK, _HTML, page.render(self._read(), self._clock()).encode("utf-8", "replace"))


class _Server(socketserver.ThreadingTCPServer):
    """Accepts connections on one thread and answers each on another."""

    # TCPServer rather than HTTPServer: the latter asks the name service for its own name while binding.
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 2 * MAX_CONNECTIONS

    def __init__(self, host: str, port: int, routes: Mapping[str, _Route]) -> None:
        self.routes = routes
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._lock = Lock()
        self._opened: dict[socket.socket, float] = {}  # oldest first
        self._busy = 0
        super().__init__((host, port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 — as typeshed has it
        with self._lock:
            while len(self._opened) >= MAX_CONNECTIONS:
                self._hang_up(next(iter(self._opened)))
            self._opened[request] = time.monotonic()
            self._busy += 1
            crowded = self._busy > MAX_THREADS
        if crowded:
            self.shutdown_request(request)
        else:
            super().process_request(request, client_address)

    def service_actions(self) -> None:
        """Several times a second: end the connections that had their time."""
        with self._lock:
            deadline = time.monotonic() - DEADLINE_S
            for connection in [c for c, opened in self._opened.items() if opened < deadline]:
                self._hang_up(connection)

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401
        # Under the lock, so that nobody hangs up on a descriptor that is another connection's by then.
        with self._lock:
            self._opened.pop(request, None)
            self._busy -= 1
            super().shutdown_request(request)

    def hang_up_all(self) -> None:
        with self._lock:
            for connection in list(self._opened):
                self._hang_up(connection)

    def _hang_up(self, connection: socket.socket) -> None:
        """Wake whoever reads from it or writes to it; the connection's own thread closes it."""
        del self._opened[connection]
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401, ARG002
        # Clients that went away, or were sent away, are no news.
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            _log.exception("http connection failed")


class _Handler(BaseHTTPRequestHandler):
    """One connection, one request: nothing is gained by keeping connections that come every ten seconds."""

    server: _Server
    protocol_version = "HTTP/1.1"
    default_request_version = "HTTP/1.0"  # for lines that name none: the library would answer without any header
    timeout = DEADLINE_S

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        route = self.server.routes.get(path)
        if route is None:
            self._refuse(HTTPStatus.NOT_FOUND)
            return
        try:
            answer = route()
        except Exception:  # noqa: BLE001 — the edge of the process: whatever a page raises
            # The stages go on; whoever reads the logs learns what happened, whoever asked does not.
            _log.exception("http page failed", path=path)
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR)
        else:
            self._send(answer)

    do_HEAD = do_GET  # noqa: N815 — as the standard library looks it up

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002
        """What the standard library found wrong with a request, without repeating any of it."""
        status = HTTPStatus(code)
        # The library calls a method that has no handler unknown; here it is one that is refused.
        self._refuse(HTTPStatus.METHOD_NOT_ALLOWED if status is HTTPStatus.NOT_IMPLEMENTED else status)

    def _refuse(self, status: HTTPStatus) -> None:
        self._read_body()
        self._send(_Answer(status, _TEXT, f"{status.value} {status.phrase}\n".encode()))

    def _read_body(self) -> None:
        # Closing with unread bytes resets the connection, and the client may never see the answer.
        headers = getattr(self, "headers", None)
        length = headers.get("Content-Length", "0") if headers else "0"
        if length.isascii() and length.isdigit():
            self.rfile.read(min(int(length[:9]), _MAX_REFUSED_BODY))

    def _send(self, answer: _Answer) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Connection", "close")
        if answer.status is HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        for header, value in _SECURITY_HEADERS.items():
            self.send_header(header, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def version_string(self) -> str:
        """The Server header, without the versions that the standard library would tell."""
        return "streamdrift"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Probes and scrapes come all day: access is not logged."""
