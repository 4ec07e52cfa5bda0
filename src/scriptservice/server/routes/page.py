"""The routes of the web page and its files. They need no token and contain no stored data."""

from starlette.responses import Response

from scriptservice.server.http import response_headers
from scriptservice.server.http.problem_responses import ProblemError
from scriptservice.server.page.page_files import HtmlDocument, accepts_gzip
from scriptservice.server.routes.route import Call

_HTML = "text/html; charset=utf-8"
_FOREVER = "public, max-age=31536000, immutable"  # if a file changes, it gets another name


async def get_page(call: Call[None, None]) -> Response:
    """Return the web page."""
    return _html_response(call, call.services.page.index)


async def get_docs(call: Call[None, None]) -> Response:
    """Return the reference of the API as a web page."""
    return _html_response(call, call.services.page.docs)


def _html_response(call: Call[None, None], document: HtmlDocument) -> Response:
    policy = response_headers.PAGE if document.is_built else response_headers.NOTHING
    fields = {
        "Cache-Control": "no-cache",
        "ETag": document.tag,
        response_headers.POLICY: policy,
    }
    known = [tag.strip() for tag in call.request.headers.get("if-none-match", "").split(",")]
    if document.tag in [tag.removeprefix("W/") for tag in known] or known == ["*"]:
        return Response(None, 304, headers=fields)
    return Response(document.content, headers=fields, media_type=_HTML)


async def get_asset(call: Call[None, None]) -> Response:
    """Return a file of the page, compressed if the client accepts that."""
    file = call.services.page.asset(call.request.path_params["name"])
    if file is None:
        raise ProblemError("not-found", "cannot find this file of the web page")
    fields = {"Cache-Control": _FOREVER}
    content = file.content
    if file.is_compressible:
        fields["Vary"] = "Accept-Encoding"
        if accepts_gzip(",".join(call.request.headers.getlist("accept-encoding"))):
            fields["Content-Encoding"] = "gzip"
            content = await file.gzipped()
    return Response(content, headers=fields | {"Content-Type": file.media_type})
