"""The files of the web page over HTTP: which there are, their headers, and that no others exist."""

import asyncio
import gzip
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2 as httpx
import pytest

import scriptservice
from scriptservice.server.application import build_router
from scriptservice.server.http import response_headers
from scriptservice.server.http.head_requests import HeadAsGet
from scriptservice.server.page.page_files import PageFiles, accepts_gzip, package_directory
from scriptservice.server.routes import page as page_routes
from scriptservice.server.routes.route_table import ROUTES
from support.problems import assert_problem
from support.service import ON_SQLITE, PATIENCE_SECONDS, Service

PATHS = ("/", "/new", "/hosts", "/sign-in", "/commands/0199c0de-7f3a-7c41-9d0e-2b7f6f1c9a55")
INDEX = b"<!doctype html><title>made up</title><script type=module src=/assets/a-1.js></script>"
DOCS = b"<!doctype html><title>made up docs</title>"
SCRIPT = b"console.log('made up');\n" * 200
FILES = {
    "a-1.js": (SCRIPT, "text/javascript; charset=utf-8"),
    "a-1.css": (b"body { margin: 0 }" * 100, "text/css; charset=utf-8"),
    "icon.svg": (b"<svg/>", "image/svg+xml"),
    "font.woff2": (b"\0\1" * 2000, "font/woff2"),
    "odd": (b"?" * 2000, "application/octet-stream"),
    "with space.js": (b"1", "text/javascript; charset=utf-8"),
}


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """A directory as a build makes it, among files that must not be served."""
    directory = tmp_path / "ui"
    (directory / "assets" / "below").mkdir(parents=True)
    (directory / "index.html").write_bytes(INDEX)
    (directory / "docs.html").write_bytes(DOCS)
    for name, (content, _) in FILES.items():
        (directory / "assets" / name).write_bytes(content)
    (directory / ".made-from").write_text("secret")
    (directory / "other.html").write_text("secret")
    (directory / "assets" / ".hidden").write_text("secret")
    (directory / "assets" / "below" / "x.js").write_text("secret")
    (tmp_path / "secret.txt").write_text("secret")
    os.symlink(tmp_path / "secret.txt", directory / "assets" / "link.txt")
    return directory


class Client:
    """Sends requests to the routes of the page, which serve a given directory."""

    def __init__(self, directory: Path) -> None:
        # The routes of the page need nothing else of the service.
        services: Any = SimpleNamespace(page=PageFiles(str(directory)), bodies=None)
        routes = [route for route in ROUTES if route.handler.__module__ == page_routes.__name__]
        router = build_router(routes, services)
        self._app = response_headers.DefaultHeaders(HeadAsGet(router))

    def request(self, method: str, path: str, **fields: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
                return await client.request(method, path, **fields)

        return asyncio.run(ask())

    def get(self, path: str, **fields: str) -> httpx.Response:
        return self.request(
            "GET", path, headers={name.replace("_", "-"): fields[name] for name in fields}
        )


@pytest.fixture
def client(built: Path) -> Client:
    return Client(built)


@pytest.mark.parametrize("path", [*PATHS, "/?status=running&q=x&q=y", "/commands/nothing"])
def test_each_path_of_the_page_serves_the_page(client: Client, path: str) -> None:
    response = client.get(path)
    assert (response.status_code, response.content) == (200, INDEX)
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers.get_list("content-security-policy") == [response_headers.PAGE]
    head = client.request("HEAD", path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(INDEX))
    assert_problem(client.request("POST", path), "method-not-allowed")


def test_the_reference_is_a_document_of_its_own(client: Client) -> None:
    response = client.get("/docs")
    assert (response.status_code, response.content) == (200, DOCS)
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers.get_list("content-security-policy") == [response_headers.PAGE]
    assert client.get("/docs", if_none_match=response.headers["etag"]).status_code == 304
    assert client.get("/").headers["etag"] != response.headers["etag"]


def test_the_policy_allows_only_the_pages_own_files() -> None:
    policy = dict(part.strip().split(" ", 1) for part in response_headers.PAGE.split(";"))
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self' 'unsafe-inline'",
        "img-src": "'self' data:",
        "font-src": "'self'",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'self'",
        "frame-ancestors": "'none'",
    }


def test_a_page_that_has_not_changed_is_not_sent_again(client: Client) -> None:
    tag = client.get("/").headers["etag"]
    for known in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        response = client.get("/new", if_none_match=known)
        assert (response.status_code, response.content) == (304, b"")
        assert response.headers["etag"] == tag
        assert response.headers["content-security-policy"] == response_headers.PAGE
    for other in ('"x"', "", tag.strip('"')):
        assert client.get("/", if_none_match=other).content == INDEX


def test_another_build_has_another_tag(built: Path, client: Client) -> None:
    before = client.get("/").headers["etag"]
    (built / "index.html").write_bytes(INDEX + b"\n")
    assert client.get("/").headers["etag"] == before  # the files are read once, at the start
    assert Client(built).get("/").headers["etag"] != before


@pytest.mark.parametrize("name", FILES)
def test_assets_may_be_cached_forever(client: Client, name: str) -> None:
    content, media_type = FILES[name]
    response = client.get(f"/assets/{name}", accept_encoding="identity")
    assert (response.status_code, response.content) == (200, content)
    assert response.headers["content-type"] == media_type
    assert response.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert "content-encoding" not in response.headers
    head = client.request("HEAD", f"/assets/{name}", headers={"Accept-Encoding": "identity"})
    assert head.headers["content-length"] == str(len(content))


def test_files_are_compressed_if_smaller_and_accepted(client: Client) -> None:
    for _ in range(2):
        response = client.get("/assets/a-1.js", accept_encoding="br, gzip;q=0.5")
        assert response.headers["content-encoding"] == "gzip"
        assert response.headers["vary"] == "Accept-Encoding"
        assert response.content == SCRIPT  # the client has decompressed it
        assert int(response.headers["content-length"]) == len(gzip.compress(SCRIPT, mtime=0)) < 500
    assert client.get("/assets/a-1.js", accept_encoding="br").headers["vary"] == "Accept-Encoding"
    for name in ("icon.svg", "font.woff2", "odd"):
        assert "vary" not in client.get(f"/assets/{name}", accept_encoding="gzip").headers


@pytest.mark.parametrize(
    ("said", "taken"),
    [("gzip", True), ("GZIP", True), ("br,gzip", True), ("gzip ; q=0.1, br", True),
     ("gzip;q=1", True), ("", False), ("br", False), ("gzip;q=0", False), ("gzip;q=0.000", False),
     ("xgzip", False), ("gzipx", False), ("gzip;q=x", False), ("x gzip", False)],
)  # fmt: skip
def test_accepts_gzip(said: str, taken: bool) -> None:
    assert accepts_gzip(said) is taken


@pytest.mark.parametrize(
    "path",
    ["/assets/", "/assets/nothing.js", "/assets/.hidden", "/assets/below", "/assets/below/x.js",
     "/assets/below%2Fx.js", "/assets/link.txt", "/assets/../.made-from", "/assets/..%2F.made-from",
     "/assets/%2e%2e/other.html", "/assets/%2e%2e%2fother.html", "/assets//a-1.js",
     "/assets/./a-1.js", "/assets/..%5Cother.html", "/assets/a-1.js/", "/assets/a-1.js%00",
     "/assets/%00", "/assets/A-1.JS", "/assets/%2Fetc%2Fpasswd", "/other.html", "/index.html",
     "/docs.html", "/.made-from", "/assets", "/commands/", "/commands/x/y", "/new/"],
)  # fmt: skip
def test_no_other_path_is_served(client: Client, path: str) -> None:
    async def ask() -> tuple[int, bytes]:
        """Request the path exactly as given; an HTTP client would normalize it."""
        from urllib.parse import unquote

        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        scope = {
            "type": "http", "method": "GET", "path": unquote(path), "raw_path": path.encode(),
            "query_string": b"", "headers": [], "http_version": "1.1", "scheme": "http",
            "root_path": "", "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 1),
        }  # fmt: skip
        await client._app(scope, receive, send)
        return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])

    status, content = asyncio.run(ask())
    assert status == 404
    assert b"secret" not in content
    assert b"/problems/not-found" in content


@pytest.mark.parametrize("there", [[], ["assets"]], ids=["nothing", "no document"])
def test_without_a_built_page_the_answer_says_how_to_build_it(
    tmp_path: Path, there: list[str]
) -> None:
    for name in there:
        (tmp_path / name).mkdir()
    client = Client(tmp_path)
    for path in PATHS:
        response = client.get(path)
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/html")
        assert "scripts/build-page" in response.text
        assert 'href="/docs"' in response.text
        assert response.headers["content-security-policy"] == response_headers.NOTHING
    assert_problem(client.get("/assets/a-1.js"), "not-found")
    docs = client.get("/docs")
    assert docs.status_code == 200
    assert "scripts/build-page" in docs.text
    assert 'href="/openapi.json"' in docs.text
    assert docs.headers["content-security-policy"] == response_headers.NOTHING


# The service itself


@pytest.fixture
def anonymous(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=PATIENCE_SECONDS, verify=False) as client:
        yield client


@ON_SQLITE
def test_the_service_serves_what_is_built(anonymous: httpx.Client) -> None:
    built = Path(package_directory())
    assert built == Path(scriptservice.__file__).parent / "ui"
    page = PageFiles(str(built))
    for path in (*PATHS, "/docs"):
        response = anonymous.get(path)
        assert response.status_code == 200
        document = page.docs if path == "/docs" else page.index
        assert response.content == document.content
        policies = response.headers.get_list("content-security-policy")
        policy = response_headers.PAGE if document.is_built else response_headers.NOTHING
        assert policies == [policy]
        assert response.headers.get_list("x-content-type-options") == ["nosniff"]
        assert anonymous.head(path).headers["content-length"] == str(len(document.content))
    for file in (built / "assets").glob("*") if page.index.is_built else ():
        response = anonymous.get(f"/assets/{file.name}")
        assert response.content == file.read_bytes()


@ON_SQLITE
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_paths_of_the_page_accept_only_get(anonymous: httpx.Client, method: str) -> None:
    for path in (*PATHS, "/assets/x"):
        assert_problem(anonymous.request(method, path), "method-not-allowed")
