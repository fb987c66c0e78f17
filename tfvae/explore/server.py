"""A web server for one page and one `.tflite`, for browsers on this machine alone."""

import base64
import hashlib
import http.server
import json
import re
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

import tfvae
from tfvae.errors import InvalidArgument
from tfvae.explore.checks import check, conditioned
from tfvae.explore.runtime import FILES, FOLDER, check_runtime

_ADDRESS = "127.0.0.1"
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

    Everything that can be asked for is in one table from the start, so no path leads anywhere else.
    Requests under another name than this machine's own are refused: a foreign page whose name was
    made to point here cannot read the model.

    Args:
        content: the bytes of a `.tflite` file that `tfvae.export.litert` wrote.
        name: what the page calls it.
        examples: images `[N, *image_shape]` that the page offers; none if None.
        port: to listen on; a free one if 0.

    Raises:
        InvalidFile: see `tfvae.explore.check`.
        MissingDependency: the runtime is not there.
        InvalidArgument: the port cannot be used.
    """

    daemon_threads = True

    def __init__(
        self, content: bytes, name: str, examples: np.ndarray | None = None, port: int = 0
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
                "conditioned": conditioned(content),
                "description": description,
            }
        ).encode()
        if examples is not None:
            self.table["/examples.f32"] = np.asarray(examples, "<f4").tobytes()
        self.policy = _policy((_PAGE / "index.html").read_bytes())
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


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

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
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", self.server.policy)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, *args):
        """Say nothing of every request."""


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
