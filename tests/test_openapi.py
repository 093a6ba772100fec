"""The description of the API: as complete as the API, valid, and the same for programs and people.

That what is answered is as it says: contract.py.
"""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from openapi_spec_validator import validate

from api.app import ROUTES
from api.openapi.document import OPERATIONS, endpoints
from api.openapi.errors_page import error_document
from tests.calls import ok, refused
from tests.contract import DOCUMENT

ROOT = Path(__file__).resolve().parents[1]
# Those that read a query; of the others nothing is read from it.
QUERIED = sorted(endpoint for endpoint, operation in OPERATIONS.items() if operation.query is not None)


def operations() -> list[tuple[str, str, dict[str, Any]]]:
    return [(m.upper(), path, operation) for path, methods in DOCUMENT["paths"].items() for m, operation in methods.items()]


def test_every_route_is_described_and_nothing_else() -> None:
    assert set(OPERATIONS) == set(endpoints(ROUTES))


def test_the_document_is_openapi() -> None:
    assert DOCUMENT["openapi"].startswith("3.1.")
    validate(DOCUMENT)


def test_every_operation_says_what_it_does_and_has_an_id_of_its_own() -> None:
    ids = [operation["operationId"] for *_, operation in operations()]
    assert len(ids) == len(set(ids))
    assert [path for _, path, operation in operations() if not operation["summary"].endswith((".", ":"))] == []


def test_the_document_is_served_to_anybody(http: httpx.Client) -> None:
    assert ok(http.get("/openapi.json")) == json.loads(json.dumps(DOCUMENT))


@pytest.mark.parametrize("path", ["/docs", "/errors"])
def test_a_page_needs_nothing_from_elsewhere(http: httpx.Client, path: str) -> None:
    answer = http.get(path)
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    for what in ("<script", "http://", "https://", "<img", "<link"):
        assert what not in answer.text


def test_the_page_has_every_operation(http: httpx.Client) -> None:
    page = http.get("/docs").text
    assert [operation["operationId"] for *_, operation in operations() if f'id="{operation["operationId"]}"' not in page] == []


def test_the_codes_are_written_down_as_the_error_tree_says_them() -> None:
    # python -m api.openapi.errors_page > docs/errors.md
    assert (ROOT / "docs" / "errors.md").read_text(encoding="utf-8") == error_document()


@pytest.mark.parametrize(("method", "path"), QUERIED, ids=[" ".join(endpoint) for endpoint in QUERIED])
def test_the_parameters_of_a_query_are_those_that_are_read(admin: httpx.Client, method: str, path: str) -> None:
    described = sorted(OPERATIONS[method, path].query or {})
    nobody = "00000000-0000-0000-0000-000000000000"
    url = path.replace("{name}", "ledger").replace("{role}", "auditor")
    for name in ("subject_id", "token_id", "family_id"):
        url = url.replace(f"{{{name}}}", nobody)
    problem = refused(admin.request(method, url, params={"no_such": "1"}), 400, "invalid_input")
    (said,) = problem["problems"]
    assert said == {"field": "no_such", "rule": f"not a parameter here; there are: {', '.join(described)}"}
