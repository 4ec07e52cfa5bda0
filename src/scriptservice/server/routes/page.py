"""The web page and its files; open to everyone: they say nothing of what the service keeps."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from scriptservice.server.http import response_headers
from scriptservice.server.http.problem_responses import ProblemError
from scriptservice.server.page.page_files import Page, accepts_gzip
from scriptservice.server.routes import openapi

router = APIRouter(tags=["page"])

_HTML = "text/html; charset=utf-8"
_FOREVER = "public, max-age=31536000, immutable"  # another content has another name


def _page(request: Request) -> Page:
    page: Page = request.app.state.page
    return page


# What stands behind the question mark is for the page itself, on each of its addresses.
@router.get("/", **openapi.WEB_PAGE)
@router.get("/new", include_in_schema=False)
@router.get("/hosts", include_in_schema=False)
@router.get("/sign-in", include_in_schema=False)
@router.get("/commands/{command_id}", include_in_schema=False)
async def get_page(request: Request) -> Response:
    """Return the web page."""
    page = _page(request)
    fields = {
        "Cache-Control": "no-cache",
        "ETag": page.index_tag,
        response_headers.POLICY: response_headers.PAGE
        if page.is_built
        else response_headers.NOTHING,
    }
    known = [tag.strip() for tag in request.headers.get("if-none-match", "").split(",")]
    if page.index_tag in [tag.removeprefix("W/") for tag in known] or known == ["*"]:
        return Response(None, 304, headers=fields)
    return Response(page.index, headers=fields, media_type=_HTML)


@router.get("/assets/{name}", include_in_schema=False)
async def get_asset(request: Request, name: str) -> Response:
    """Return a file of the page, compressed for who takes that."""
    file = _page(request).asset(name)
    if file is None:
        raise ProblemError("not-found", "cannot find this file of the web page")
    fields = {"Cache-Control": _FOREVER}
    content = file.content
    if file.varies:
        fields["Vary"] = "Accept-Encoding"
        if accepts_gzip(",".join(request.headers.getlist("accept-encoding"))):
            fields["Content-Encoding"] = "gzip"
            content = await file.zipped()
    return Response(content, headers=fields | {"Content-Type": file.media_type})
