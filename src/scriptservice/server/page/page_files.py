"""The files of the built web page, which the server reads into memory when it starts.

For each request, the server looks up the requested name among the names of these files. So no path
from a request reaches the file system.
"""

import asyncio
import gzip
import hashlib
import os
import re
from contextlib import suppress
from dataclasses import dataclass, field

PAGES = ("/", "/new", "/hosts", "/sign-in")
COMMAND_PAGE = "/commands/"
ASSETS = "/assets/"

MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".map": "application/json",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".webp": "image/webp",
    ".woff2": "font/woff2",
    ".wasm": "application/wasm",
}
_COMPRESSED = frozenset({".css", ".js", ".json", ".map", ".svg", ".txt", ".wasm"})
_COMPRESSED_BYTES = 1024
_GZIP = re.compile(r"(?:^|,)\s*gzip\s*(?:;\s*q=([01](?:\.\d{0,3})?)\s*)?(?=,|$)", re.IGNORECASE)

NOT_BUILT = b"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>ScriptService</title></head>
<body>
<h1>ScriptService</h1>
<p>The service is up. Its web page has not been built: run <code>scripts/build-page</code>
in the checkout (it needs npm) and start the service again.</p>
<p>Everything else works: see <a href="/docs">the documentation of the API</a>, and
<code>scriptservice --help</code> for the command line.</p>
</body>
</html>
"""
"""The document that the server sends if the web page has not been built."""

DOCS_NOT_BUILT = b"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>ScriptService API</title></head>
<body>
<h1>ScriptService API</h1>
<p>The description of the API, for programs and for tools that show OpenAPI documents, is
<a href="/openapi.json">openapi.json</a>.</p>
<p>The page that shows it has not been built: run <code>scripts/build-page</code> in the checkout
(it needs npm) and start the service again.</p>
</body>
</html>
"""
"""The document that the server sends if the page with the API's reference has not been built."""


def is_page_path(path: str) -> bool:
    """Return whether a path belongs to the web page. Such paths need no authentication."""
    return path in PAGES or path.startswith((ASSETS, COMMAND_PAGE))


def package_directory() -> str:
    """Return the directory of the built page, which is inside the package."""
    package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return os.path.join(package, "ui")


def accepts_gzip(accept_encoding: str) -> bool:
    """Return whether an Accept-Encoding header names gzip with a quality above 0."""
    match = _GZIP.search(accept_encoding)
    return match is not None and (match[1] is None or float(match[1]) > 0)


@dataclass(slots=True)
class PageFile:
    """One file of the page.

    Attributes:
        media_type: the media type, which depends on the file name's extension.
        content: the file's bytes, not compressed.
        is_compressible: whether clients that accept gzip get the content gzipped.
    """

    media_type: str
    content: bytes
    is_compressible: bool
    _gzipped: bytes | None = None
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def gzipped(self) -> bytes:
        """Return the gzipped content. The first call compresses the content, in a thread."""
        async with self._lock:
            if self._gzipped is None:
                self._gzipped = await asyncio.to_thread(gzip.compress, self.content, mtime=0)
        return self._gzipped


@dataclass(frozen=True, slots=True)
class HtmlDocument:
    """An HTML document that loads the other files of the page.

    Attributes:
        content: the document.
        tag: the document's ETag.
        is_built: whether the document was built. If False, ``content`` says how to build it.
    """

    content: bytes
    tag: str
    is_built: bool


def _read_document(path: str, not_built: bytes) -> HtmlDocument:
    """Return the document in a file, or ``not_built`` if the file does not exist."""
    try:
        with open(path, "rb") as file:
            content, is_built = file.read(), True
    except FileNotFoundError:
        content, is_built = not_built, False
    return HtmlDocument(content, f'"{hashlib.sha256(content).hexdigest()[:32]}"', is_built)


class PageFiles:
    """The files of the page.

    Args:
        directory: the directory of the built page, with ``index.html``, ``docs.html`` and
            ``assets/``. If a document does not exist, `NOT_BUILT` or `DOCS_NOT_BUILT` is used
            instead of it.

    Attributes:
        index: the page.
        docs: the reference of the API.
    """

    def __init__(self, directory: str) -> None:
        self._assets: dict[str, PageFile] = {}
        self.index = _read_document(os.path.join(directory, "index.html"), NOT_BUILT)
        self.docs = _read_document(os.path.join(directory, "docs.html"), DOCS_NOT_BUILT)
        with suppress(FileNotFoundError):  # the page is not built, or has no assets
            self._read_assets(os.path.join(directory, "assets"))

    def _read_assets(self, directory: str) -> None:
        with os.scandir(directory) as entries:
            for entry in entries:
                extension = os.path.splitext(entry.name)[1]
                if entry.name.startswith(".") or not entry.is_file(follow_symlinks=False):
                    continue
                with open(entry.path, "rb") as file:
                    content = file.read()
                self._assets[entry.name] = PageFile(
                    MEDIA_TYPES.get(extension, "application/octet-stream"),
                    content,
                    extension in _COMPRESSED and len(content) >= _COMPRESSED_BYTES,
                )

    def asset(self, name: str) -> PageFile | None:
        """Return the file in ``assets/`` with exactly this name; None if no file has this name."""
        return self._assets.get(name)
