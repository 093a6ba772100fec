"""Pages for people: the document, operation by operation. One file each, without scripts, and nothing from anywhere else."""

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any, Final

STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem;color:#1c1c1c}"
    "code,pre{font:14px/1.5 ui-monospace,monospace}pre{background:#f4f4f4;padding:.75rem;overflow-x:auto}"
    "table{border-collapse:collapse;width:100%}"
    "th,td{border:1px solid #ccc;padding:.3rem .6rem;text-align:left;vertical-align:top}"
    "summary{cursor:pointer;padding:.3rem 0}b.method{display:inline-block;min-width:4.5rem}"
)
# No script, no frame, no address but our own; the style by its digest.
POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def html_page(title: str, *parts: str) -> str:
    """Answer a page of parts that are HTML."""
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style></head><body><h1>{escape(title)}</h1>{''.join(parts)}</body></html>"
    )


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Answer a table; its cells are HTML."""
    head = "".join(f"<th>{cell}</th>" for cell in heads)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def document_page(document: Mapping[str, Any]) -> str:
    """Answer the page of an OpenAPI document, as ours is."""
    info, shared = document["info"], document["components"]["responses"]
    by_tag: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            by_tag.setdefault(operation["tags"][0], []).append(_operation(method.upper(), path, operation, shared))
    return html_page(
        info["title"],
        f"<p>{escape(info['description'])}</p>",
        '<p><a href="/openapi.json">The document</a> (OpenAPI 3.1) · <a href="/errors">Errors</a></p>',
        *(f'<h2 id="{escape(tag)}">{escape(tag)}</h2>{"".join(operations)}' for tag, operations in by_tag.items()),
        "<h2>schemas</h2>",
        *(_schema(name, schema) for name, schema in sorted(document["components"]["schemas"].items())),
    )


def _operation(method: str, path: str, operation: Mapping[str, Any], shared: Mapping[str, Any]) -> str:
    parts = [f"<p>{escape(operation['description'])}</p>"] if "description" in operation else []
    parts.append(f"<p>Who: {escape(_who(operation['security']))}.</p>")
    if operation["parameters"]:
        rows = (
            (
                f"<code>{escape(parameter['name'])}</code>",
                f"{parameter['in']}{', needed' if parameter['required'] else ''}",
                f"<code>{escape(_text(parameter['schema']))}</code>",
            )
            for parameter in operation["parameters"]
        )
        parts.append(table(("parameter", "in", "schema"), rows))
    for media, content in operation.get("requestBody", {}).get("content", {}).items():
        parts.append(f"<p>Body, {escape(media)}:</p><pre>{_linked(content['schema'])}</pre>")
    responses = {
        status: shared[response["$ref"].rpartition("/")[2]] if "$ref" in response else response
        for status, response in operation["responses"].items()
    }
    rows = (
        (
            status,
            escape(response["description"]),
            "<br>".join(f"{escape(media)}: {_linked(of['schema'])}" for media, of in response.get("content", {}).items())
            if status.startswith("2")
            else "",
        )
        for status, response in responses.items()
    )
    parts.append(table(("status", "meaning", "answer"), rows))
    return (
        f'<details id="{operation["operationId"]}"><summary><b class="method">{method}</b> <code>{escape(path)}</code>'
        f" {escape(operation['summary'])}</summary>{''.join(parts)}</details>"
    )


def _who(security: Iterable[Mapping[str, Any]]) -> str:
    return " or ".join(" and ".join(scheme) or "without credentials in a header" for scheme in security)


def _schema(name: str, schema: Mapping[str, Any]) -> str:
    text = json.dumps(schema, indent=2, ensure_ascii=False)
    return f'<details id="{escape(name)}"><summary><code>{escape(name)}</code></summary><pre>{escape(text)}</pre></details>'


def _linked(schema: Mapping[str, Any]) -> str:
    if set(schema) == {"$ref"}:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    return f"<code>{escape(_text(schema))}</code>"


def _text(schema: Mapping[str, Any]) -> str:
    return json.dumps(schema, ensure_ascii=False)
