"""What the browser loads: the page and its files, from a fixed table in memory.

No name from the network ever reaches the file system: `/static/{name}` looks its name up in the
table below, which was read from the package when this module was imported. The page asks no other
origin for anything, and its Content-Security-Policy makes the browser hold it to that: no inline
script or style, no frame, no form that goes elsewhere.
"""

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fastapi import APIRouter, Request, Response

from solomonic.serve.errors import HttpError

router = APIRouter(include_in_schema=False)

_FOLDER = Path(__file__).resolve().parent
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
    "": "text/plain; charset=utf-8",
}
NAMES: Final = (
    "api.js",
    "app.js",
    "audio.js",
    "base.css",
    "components.css",
    "dom.js",
    "exports.js",
    "hypotheses.js",
    "icon.svg",
    "lattice-layout.js",
    "lattice-view.js",
    "memory-map.js",
    "phrases.js",
    "resample.js",
    "session.js",
    "settings.js",
    "speech.css",
    "speech.js",
    "stream.js",
    "text.css",
    "text.js",
    "theme.js",
    "timeline.js",
    "transcript.js",
    "worklet.js",
)
"""Files of our own that `/static/{name}` serves."""
VENDORED: Final = {
    "inter.woff2": "vendor/inter/inter.woff2",
    "inter-license.txt": "vendor/inter/LICENSE",
}
"""What others made; vendor/README.md says who, and under which licence."""

POLICY: Final = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "worker-src 'self'",
        "style-src 'self'",
        "font-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)
HEADERS: Final = {
    # Files keep their names from one version to the next, so that a browser has to ask; with the
    # ETag the answer is 304 and a few bytes.
    "Cache-Control": "no-cache",
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=(), payment=(), usb=()",
    "Referrer-Policy": "no-referrer",
    "Vary": "Accept-Encoding",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True)
class Asset:
    """A file of the page: its bytes as they are and gzipped, its type and the hash of its bytes."""

    plain: bytes
    packed: bytes
    media_type: str
    digest: str


def _read(name: str) -> Asset:
    path = _FOLDER / name
    plain = path.read_bytes()
    digest = hashlib.sha256(plain).hexdigest()[:32]
    return Asset(plain, gzip.compress(plain, mtime=0), _TYPES[path.suffix], digest)


_PAGE = _read("static/index.html")
_ASSETS = {name: _read(f"static/{name}") for name in NAMES}
_ASSETS |= {name: _read(path) for name, path in VENDORED.items()}


@router.api_route("/", methods=["GET", "HEAD"])
async def page(request: Request) -> Response:
    """The page."""
    return _answer(request, _PAGE)


@router.api_route("/static/{name}", methods=["GET", "HEAD"])
async def static(name: str, request: Request) -> Response:
    """A file of the page.

    Raises:
        HttpError: 404, the table has no such name.
    """
    asset = _ASSETS.get(name)
    if asset is None:
        raise HttpError(404, "not_found", "the page has no file of this name; open / instead.")
    return _answer(request, asset)


def _answer(request: Request, asset: Asset) -> Response:
    packed = _takes_gzip(request.headers.get("accept-encoding", ""))
    tag = f'"{asset.digest}-gz"' if packed else f'"{asset.digest}"'
    headers = HEADERS | {"ETag": tag}
    asked = {given.strip() for given in request.headers.get("if-none-match", "").split(",")}
    if tag in asked or f"W/{tag}" in asked or "*" in asked:
        return Response(status_code=304, headers=headers)
    if packed:
        headers |= {"Content-Encoding": "gzip"}
    # Starlette's HEAD keeps Content-Length and drops the body.
    content = asset.packed if packed else asset.plain
    return Response(content, media_type=asset.media_type, headers=headers)


def _takes_gzip(accepted: str) -> bool:
    """Whether an Accept-Encoding header names gzip, not with q=0."""
    for entry in accepted.split(","):
        name, _, weight = entry.partition(";")
        if name.strip().lower() == "gzip":
            return weight.replace(" ", "").lower() not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
