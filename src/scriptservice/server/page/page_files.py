"""The built web page: which files there are, read once, and how they are answered.

What is asked for is looked up among the names of the files that were there at the start; no path
of a request ever reaches the file system.
"""

import asyncio
import gzip
import hashlib
import os
import re
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

MISSING = b"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>ScriptService</title></head>
<body>
<h1>ScriptService</h1>
<p>The service is up. Its web page has not been built: run <code>scripts/build-page</code>
in the checkout (it needs npm) and start the service again.</p>
<p>All else is there: the API is described <a href="/docs">here</a>, and
<code>scriptservice --help</code> tells of the command line.</p>
</body>
</html>
"""


def is_page_path(path: str) -> bool:
    """Return whether a path is the page's: all of that is open to everyone."""
    return path in PAGES or path.startswith((ASSETS, COMMAND_PAGE))


def package_directory() -> str:
    """Return where the page is built into: beside this package's code."""
    return os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "ui")


def accepts_gzip(accept_encoding: str) -> bool:
    """Return whether an Accept-Encoding header takes gzip, by name."""
    match = _GZIP.search(accept_encoding)
    return match is not None and (match[1] is None or float(match[1]) > 0)


@dataclass(slots=True)
class PageFile:
    """One file of the page.

    Attributes:
        media_type: by its name.
        content: its bytes.
    """

    media_type: str
    content: bytes
    _compressible: bool
    _zipped: bytes | None = None
    _zipping: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def varies(self) -> bool:
        """Whether it is sent compressed to whoever takes that."""
        return self._compressible

    async def zipped(self) -> bytes:
        """Return it gzipped; made when it is asked for first, away from all others' requests."""
        async with self._zipping:
            if self._zipped is None:
                self._zipped = await asyncio.to_thread(gzip.compress, self.content, mtime=0)
        return self._zipped


class PageFiles:
    """The files of the page.

    Args:
        directory: what the build made: ``index.html`` and ``assets/``. If it is not there, the
            page says how to get it.

    Attributes:
        index: content of the page's document.
        index_tag: its ETag.
        is_built: whether it is the real one.
    """

    def __init__(self, directory: str) -> None:
        self._assets: dict[str, PageFile] = {}
        self.index = MISSING
        self.is_built = False
        try:
            with open(os.path.join(directory, "index.html"), "rb") as file:
                self.index = file.read()
            self.is_built = True
            self._read_assets(os.path.join(directory, "assets"))
        except FileNotFoundError:
            pass  # not built, or a page without assets
        self.index_tag = f'"{hashlib.sha256(self.index).hexdigest()[:32]}"'

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
        """Return a file of ``assets/`` by its exact name, None if there is none."""
        return self._assets.get(name)
