"""Makes the page with the API documentation from the OpenAPI document. The page has no script."""

from html import escape
from typing import Any

from scriptservice.server.http.response_headers import style_policy

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
section { border-top: 1px solid #ccc; margin-top: 1.5rem; }
code, pre { font: 14px/1.45 ui-monospace, monospace; }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; vertical-align: top; padding: .2rem 1rem .2rem 0; }
@media (prefers-color-scheme: dark) { body { background: #16181d; color: #e6e6e6; } }
"""

POLICY = style_policy(_STYLE)
"""The Content-Security-Policy of the page, which allows only the page's own style."""

_METHODS = ("get", "post", "delete")


def docs_page(document: dict[str, Any]) -> bytes:
    """Return an OpenAPI document as an HTML page.

    Args:
        document: the document that ``/openapi.json`` returns.
    """
    sections = "".join(
        _operation(method, path, operations[method])
        for path, operations in document["paths"].items()
        for method in _METHODS
        if method in operations
    )
    schemas = "".join(
        _schema(name, schema) for name, schema in document["components"]["schemas"].items()
    )
    title = escape(document["info"]["title"])
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width"><title>{title}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{title} "
        f"{escape(document['info']['version'])}</h1>"
        f"<p>{escape(document['info']['description'])} For programs: "
        f'<a href="/openapi.json">openapi.json</a>.</p>'
        f"{sections}<h1>Objects</h1>{schemas}</body></html>"
    ).encode()


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    parameters = "".join(
        f"<tr><td><code>{escape(parameter['name'])}</code></td><td>{parameter['in']}</td>"
        f"<td>{_kind(parameter['schema'])}</td>"
        f"<td>{escape(parameter.get('description', ''))}</td></tr>"
        for parameter in operation.get("parameters", [])
    )
    answers = "".join(
        f"<tr><td><code>{status}</code></td><td>{escape(answer['description'])}</td></tr>"
        for status, answer in operation["responses"].items()
    )
    table = f"<h3>Parameters</h3><table>{parameters}</table>" if parameters else ""
    content = operation.get("requestBody", {}).get("content", {})
    body = "".join(
        f"<li><code>{escape(media_type)}</code>: {_kind(value['schema'])}</li>"
        for media_type, value in content.items()
    )
    return (
        f"<section><h2><code>{method.upper()} {escape(path)}</code></h2>"
        f"<p>{escape(operation.get('description') or operation['summary'])}</p>{table}"
        + (f"<h3>Body</h3><ul>{body}</ul>" if body else "")
        + f"<h3>Answers</h3><table>{answers}</table></section>"
    )


def _kind(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return f'<a href="#{escape(name)}">{escape(name)}</a>'
    if "anyOf" in schema:
        return " or ".join(_kind(choice) for choice in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(f"<code>{escape(str(value))}</code>" for value in schema["enum"])
    if "const" in schema:
        return f"<code>{escape(str(schema['const']))}</code>"
    if schema.get("type") == "array":
        return f"list of {_kind(schema['items'])}"
    return escape(str(schema.get("type", "any")))


def _schema(name: str, schema: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(field)}</code></td><td>{_kind(value)}</td>"
        f"<td>{escape(value.get('description', ''))}</td></tr>"
        for field, value in schema.get("properties", {}).items()
    )
    return (
        f'<section id="{escape(name)}"><h2>{escape(name)}</h2>'
        f"<p>{escape(schema.get('description', ''))}</p><table>{rows}</table></section>"
    )
