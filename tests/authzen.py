"""The AuthZEN working group's own scenarios, said in this ledger's words: its users, roles and rules, and its requests.

`api-gateway-decisions.json` of the interop asks about routes and methods, as the ledger does: its requests stay as they are.
The certification scenario asks about records that are read, written and deleted. A record is a route here, `/records/{id}`, and
its actions are GET, PUT and DELETE; whatever else stands in its requests stays. Its properties decide nothing here
(docs/authzen.md): of the cases that hang on them, as the scenario itself lists them, only the shape of the answer is looked at.
"""

import json
import re
from dataclasses import dataclass
from typing import Any, Final

import httpx

from tests.calls import App, new_api, ok, resource_server
from tests.vectors import FOLDER

DECISIONS: Final = FOLDER / "vectors" / "authzen-interop" / "api-gateway-decisions.json"
SCENARIO: Final = FOLDER / "vectors" / "authzen-scenario" / "authorization-api-1_0-scenario.md"

# ------------------------------------------------------------------------------------------------------------ API gateway

# scenario-api-gateway.md: what each role may do, and who has which.
GATEWAY_ROLES: Final = {
    "viewer": ["allow GET /users/{userId}", "allow GET /todos"],
    "editor": ["allow POST /todos", "allow PUT /todos/{todoId}", "allow DELETE /todos/{todoId}"],
    "admin": ["allow POST /todos", "allow DELETE /todos/{todoId}"],
    "evil_genius": ["allow PUT /todos/{todoId}"],
}
GATEWAY_USERS: Final = {
    "CiRmZDA2MTRkMy1jMzlhLTQ3ODEtYjdiZC04Yjk2ZjVhNTEwMGQSBWxvY2Fs": ("viewer", "admin", "evil_genius"),
    "CiRmZDE2MTRkMy1jMzlhLTQ3ODEtYjdiZC04Yjk2ZjVhNTEwMGQSBWxvY2Fs": ("viewer", "editor"),
    "CiRmZDI2MTRkMy1jMzlhLTQ3ODEtYjdiZC04Yjk2ZjVhNTEwMGQSBWxvY2Fs": ("viewer", "editor"),
    "CiRmZDM2MTRkMy1jMzlhLTQ3ODEtYjdiZC04Yjk2ZjVhNTEwMGQSBWxvY2Fs": ("viewer",),
    "CiRmZDQ2MTRkMy1jMzlhLTQ3ODEtYjdiZC04Yjk2ZjVhNTEwMGQSBWxvY2Fs": ("viewer",),
}


def gateway_decisions() -> list[dict[str, Any]]:
    """Answer the requests of the interop with their decisions; none where they are not there."""
    return json.loads(DECISIONS.read_text())["evaluation"] if DECISIONS.exists() else []


# ---------------------------------------------------------------------------------------------------------- certification

RECORD_ROLES: Final = {
    "alice": ["allow GET /records/{id}", "allow PUT /records/record-1"],
    "bob": ["allow GET /records/{id}"],
}
_METHODS: Final = {"read": "GET", "write": "PUT", "delete": "DELETE"}
_SECTION: Final = re.compile(r"^#+ (?P<title>.+?) \{#(?P<id>c-[\d-]+)\}$", re.MULTILINE)
_BLOCK: Final = re.compile(r"^~~~(?: json)?\n(.*?)^~~~$", re.MULTILINE | re.DOTALL)
_DECISION: Final = re.compile(r'"decision": (true|false|<boolean>)')
# The test id matrix: sub-levels whose name is Properties.
_PROPERTIES: Final = re.compile(r"^\| \*\*(?:Basic|Batch) Properties\*\* \| (.*) \|$", re.MULTILINE)


@dataclass(frozen=True)
class Case:
    """A request of the certification scenario. `decisions` None: it is 400; an item None: either will do.

    `batch`: the answer has a list of them.
    """

    id: str
    title: str
    endpoint: str
    body: dict[str, Any]
    decisions: tuple[bool | None, ...] | None
    batch: bool
    by_properties: bool


def scenario() -> list[Case]:
    """Answer the requests of the chapters on evaluation and evaluations; none where the scenario is not there."""
    if not SCENARIO.exists():
        return []
    text = SCENARIO.read_text()
    by_properties = set(re.findall(r"#(c-[\d-]+)", " ".join(_PROPERTIES.findall(text))))
    found = []
    sections = list(_SECTION.finditer(text))
    for section, following in zip(sections, [*sections[1:], None], strict=True):
        if not section["id"].startswith(("c-2-", "c-3-")):
            continue
        content = text[section.end() : following.start() if following else len(text)]
        for number, asked in enumerate(content.split("**Request")[1:]):
            request, expected = asked.split("**Expected:**")
            block = _BLOCK.search(request)
            assert block is not None, section["id"]
            answer = _BLOCK.search(expected)  # else it is said in the sentence
            decided = _DECISION.findall(expected if answer is None else answer[1])
            said = tuple({"true": True, "false": False}.get(one) for one in decided)
            refused = "HTTP 400" in expected
            assert refused or said, section["id"]
            found.append(
                Case(
                    id=f"{section['id']}.{number}",
                    title=section["title"],
                    endpoint="evaluation" if section["id"].startswith("c-2-") else "evaluations",
                    body=json.loads(block[1]),
                    decisions=None if refused else said,
                    batch='"evaluations"' in expected,
                    by_properties=section["id"] in by_properties,
                )
            )
    return found


def in_our_words(value: Any) -> Any:
    """Answer a request of the scenario with its records as routes and its actions as methods."""
    if isinstance(value, list):
        return [in_our_words(item) for item in value]
    if not isinstance(value, dict):
        return value
    said = {name: in_our_words(member) for name, member in value.items()}
    if said.get("type") == "record":
        said |= {"type": "route"} | ({"id": f"/records/{said['id']}"} if "id" in said else {})
    elif str(said.get("id")).startswith("record-"):
        said["id"] = f"/records/{said['id']}"
    if said.get("name") in _METHODS:
        said["name"] = _METHODS[said["name"]]
    return said


# ------------------------------------------------------------------------------------------------------------- the ledger


def new_world(admin: httpx.Client, roles: dict[str, list[str]], users: dict[str, tuple[str, ...]]) -> App:
    """Register an API with these roles, and users who hold them; answer the client that asks about it."""
    api = new_api(admin, roles)
    for name, held in users.items():
        body = {"kind": "person", "username": name, "password": "a password of some length"}
        subject_id = ok(admin.post("/v1/subjects", json=body), 201)["subject_id"]
        ok(admin.post(f"/v1/subjects/{subject_id}/roles", json={"roles": [f"{api}:{role}" for role in held]}))
    return resource_server(admin, api)
