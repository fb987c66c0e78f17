"""A web server for one page and one `.tflite`, which answers only to this machine."""

import base64
import contextlib
import hashlib
import http.server
import json
import re
import socket
import sys
import threading
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

import tfvae
from tfvae.errors import InvalidArgument
from tfvae.explore.checks import check, conditioned
from tfvae.explore.runtime import FILES, FOLDER, check_runtime

_ADDRESS = "127.0.0.1"
_SECONDS = 20.0  # for which a connection may be idle, and within which an answer must be taken
_CONNECTIONS = 64  # at a time; a browser opens six
_PAGE = Path(__file__).parent / "page"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
}
_INLINE_SCRIPT = re.compile(rb"<script[^>]*>(.+?)</script>", re.DOTALL)


class Server(http.server.ThreadingHTTPServer):
    """The page, the file that it runs, and the runtime, under `url`.

    A table that is fixed at the start lists everything that is served, so no path leads to another
    file. Requests under another name than this machine's own are refused, so that a foreign page
    whose name was made to point here cannot read the model.

    If `max_connections` are open, a new connection replaces the one that has waited longest for its
    request; a connection that sends nothing for `idle_seconds` is closed. So no number of idle
    connections keeps a browser from its page.

    Args:
        content: the bytes of a `.tflite` file that `tfvae.export.litert` wrote.
        name: what the page calls it.
        examples: images `[N, *image_shape]` that the page offers; none if None.
        port: to listen on; a free one if 0.
        conditions: of the examples, `[N]` labels or `[N, C]` vectors, to encode them with; None if
            they have none.

    Raises:
        InvalidFile: see `tfvae.explore.check`.
        MissingDependency: the runtime is not there.
        InvalidArgument: the port cannot be used.
    """

    daemon_threads = True
    request_queue_size = 128
    idle_seconds, max_connections = _SECONDS, _CONNECTIONS

    def __init__(
        self,
        content: bytes,
        name: str,
        examples: np.ndarray | None = None,
        port: int = 0,
        conditions: np.ndarray | None = None,
    ):
        description = check(content, name)
        check_runtime()
        self.table = {**_page_files(), **_runtime_files()}
        self.table["/model.tflite"] = content
        self.table["/model.json"] = json.dumps(
            {
                "name": name,
                "bytes": len(content),
                "tfvae_version": tfvae.__version__,
                "num_examples": 0 if examples is None else len(examples),
                "conditions": None if conditions is None else np.asarray(conditions).tolist(),
                "conditioned": conditioned(content),
                "description": description,
            }
        ).encode()
        if examples is not None:
            self.table["/examples.f32"] = np.asarray(examples, "<f4").tobytes()
        self.policy = _policy((_PAGE / "index.html").read_bytes())
        self._lock = threading.Lock()
        self._open = {}  # of each connection, whether it is answered; in the order of their wait
        try:
            super().__init__((_ADDRESS, port), _Handler)
        except OSError as error:
            raise InvalidArgument(
                f"Cannot listen on port {port}: {error.strerror}. Choose another one with --port, "
                "or leave it out for a free one."
            ) from None

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{_ADDRESS}:{self.server_port}/"

    def process_request(self, request, client_address):
        """Answer a connection in a thread of its own, where there is a place for it."""
        with self._lock:
            waiting = [other for other, answered in self._open.items() if not answered]
            if len(self._open) >= self.max_connections and waiting:
                _end(waiting[0])
                del self._open[waiting[0]]
            there_is_room = len(self._open) < self.max_connections
            if there_is_room:
                self._open[request] = False
        if there_is_room:
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def shutdown_request(self, request):
        """Close a connection, and free its place."""
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def mark(self, request, answered):
        """Note that a connection has a request that is answered now, or waits for the next one."""
        with self._lock:
            if self._open.pop(request, None) is not None:
                self._open[request] = answered

    def handle_error(self, request, client_address):
        """Print nothing about a connection that was closed by the client or by the time limit."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


def _end(connection):
    """Close a connection so that its thread reads the end of it."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "tfvae", ""

    def setup(self):
        """Set the time after which a connection without any traffic is closed."""
        self.timeout = self.server.idle_seconds
        super().setup()

    def handle_one_request(self):
        """Wait for a request and answer it."""
        self.server.mark(self.request, answered=False)
        super().handle_one_request()

    def parse_request(self):
        """Refuse requests that no browser sends to a page, before anything is looked up."""
        if not super().parse_request():
            return False
        self.server.mark(self.request, answered=True)
        if self.request_version == "HTTP/0.9":
            self.request_version = "HTTP/1.0"  # else the answer would have no headers
            return self._refuse("This server speaks HTTP/1.1.")
        if not self.path.startswith("/"):
            return self._refuse("This server answers paths alone, not whole addresses.")
        if len(self.headers.get_all("Host", [])) != 1:
            return self._refuse("A request names its host once.")
        if "Content-Length" in self.headers or "Transfer-Encoding" in self.headers:
            self.close_connection = True  # what follows is not read, and is no request
        return True

    def _refuse(self, why):
        self.close_connection = True
        self._send(HTTPStatus.BAD_REQUEST, "text/plain", why.encode(), self.command != "HEAD")
        return False

    def do_GET(self):
        self._answer(with_body=True)

    def do_HEAD(self):
        self._answer(with_body=False)

    def _answer(self, with_body):
        path = urlsplit(self.path).path
        if not self._is_local():
            refusal = "This server answers only under the name of its own machine."
            self._send(HTTPStatus.FORBIDDEN, "text/plain", refusal.encode(), with_body)
        elif path not in self.server.table:
            self._send(HTTPStatus.NOT_FOUND, "text/plain", b"There is nothing here.", with_body)
        else:
            file = self.server.table[path]
            body = file.read_bytes() if isinstance(file, Path) else file
            suffix = Path(file if isinstance(file, Path) else path).suffix
            kind = _TYPES.get(suffix, "application/octet-stream")
            self._send(HTTPStatus.OK, kind, body, with_body)

    def _is_local(self):
        host = self.headers.get("Host", "").rpartition(":")
        return (host[0] or host[2]).lower() in (_ADDRESS, "localhost")

    def _send(self, status, kind, body, with_body):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def send_error(self, code, message=None, explain=None):
        """Answer a request that the library refuses, for its method, line or header."""
        self.close_connection = True
        if self.request_version == "HTTP/0.9":
            self.request_version = "HTTP/1.0"
        status = HTTPStatus(code)
        self._send(status, "text/plain", status.phrase.encode(), self.command != "HEAD")

    def end_headers(self):
        """End the headers of an answer of whatever kind with those that keep other pages out."""
        if self.close_connection:
            self.send_header("Connection", "close")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", self.server.policy)
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("X-Frame-Options", "DENY")
        super().end_headers()

    def log_message(self, *args):
        """Print nothing for each request."""


def _page_files():
    files = {f"/{path.name}": path for path in _PAGE.iterdir() if path.suffix in _TYPES}
    return {**files, "/": _PAGE / "index.html"}


def _runtime_files():
    return {f"/runtime/{name}": FOLDER / name for name in FILES}


def _policy(page):
    """Return the Content-Security-Policy: nothing from elsewhere, and no code from strings.

    A browser takes import maps only from inside a page, so that script is allowed by its digest.
    """
    digests = [hashlib.sha256(script).digest() for script in _INLINE_SCRIPT.findall(page)]
    inline = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return (
        f"default-src 'none'; script-src 'self' 'wasm-unsafe-eval' {inline}; style-src 'self'; "
        "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
