"""Strings that others have stumbled over, sent through every text field: each comes back as it was, from the audit log or where
its kind is read, or it is refused by the name of its field.

`fields` answers the text fields; `tried` sends one string through one of them and answers what became of it.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Final, Literal

import httpx

from tests.calls import PASSWORD, first_party, login, new_api, new_client, new_person, ok, unique

Outcome = Literal["back", "refused"]
_numbers: Final = count(1)


class Altered(AssertionError):
    """A string was answered badly, or came back as another."""


@dataclass(frozen=True, slots=True)
class Field:
    """A text field: how a string is sent through it, how it is called where it is refused, and where it is read back.

    `back` answers the texts that are read, of the answer that took the string; None: the events it recorded.
    """

    name: str
    send: Callable[[str], httpx.Response]
    called: str
    back: Callable[[dict[str, Any]], list[str]] | None = None


def naughty_strings(path: Path) -> list[str]:
    """Answer the strings of a file."""
    strings: list[str] = json.loads(path.read_text(encoding="utf-8"))
    return list(dict.fromkeys(strings))


def texts(value: object) -> Iterator[str]:
    """Answer every text in a JSON value, names of members among them."""
    match value:
        case str():
            yield value
        case list():
            for item in value:
                yield from texts(item)
        case dict():
            for name, member in value.items():
                yield name
                yield from texts(member)


def fields(admin: httpx.Client, http: httpx.Client) -> list[Field]:
    """Answer every text field that is recorded or kept, of things of its own."""
    api = new_api(admin, {"reader": []})
    person, app, service = new_person(admin), first_party(admin, api, "ledger", refresh="rotating"), new_client(admin)
    tokens = login(http, person, app)
    subject = f"/v1/subjects/{person.subject_id}"

    def post(path: str, member: str, **others: Any) -> Callable[[str], httpx.Response]:
        return lambda text: admin.post(path, json={member: text} | others)

    def subject_back(_answer: dict[str, Any]) -> list[str]:
        return list(texts(ok(admin.get(subject))))

    def profile(member: str) -> Callable[[str], httpx.Response]:
        return lambda text: admin.put(f"{subject}/profile", json={"username": person.username} | {member: text})

    def issue(**members: Any) -> httpx.Response:
        return admin.post("/v1/tokens", json={"subject_id": person.subject_id, "client": app.name} | members)

    def revoke_some(text: str) -> httpx.Response:
        login(http, person, app)
        wanted = {"filter": {"subject_id": person.subject_id}}
        plan = ok(admin.post("/v1/revocations", json=wanted | {"dry_run": True}))
        named = {name: plan[name] for name in ("as_of_position", "plan_id")}
        return admin.post("/v1/revocations", json=wanted | named | {"reason": text})

    def revoke_key(text: str) -> httpx.Response:
        key = ok(admin.post("/v1/keys", json={"use": "enc"}), 201)
        answer = admin.post(f"/v1/keys/{key['key_id']}/revoke", json={"reason": text})
        if answer.status_code != 200:
            ok(admin.post(f"/v1/keys/{key['key_id']}/retire"))
        return answer

    def revoke(path: Callable[[], str]) -> Callable[[str], httpx.Response]:
        return lambda text: admin.post(f"{path()}/revoke", json={"reason": text})

    def new_token() -> str:
        return f"/v1/tokens/{login(http, person, app)['token_id']}"

    def new_family() -> str:
        return f"/v1/families/{login(http, person, app)['family_id']}"

    def suspend(path: str) -> Callable[[str], httpx.Response]:
        def send(text: str) -> httpx.Response:
            ok(admin.post(f"{path}/reinstate"))
            return admin.post(f"{path}/suspend", json={"reason": text})

        return send

    def reinstate(path: str) -> Callable[[str], httpx.Response]:
        def send(text: str) -> httpx.Response:
            ok(admin.post(f"{path}/suspend", json={"reason": f"to be over {next(_numbers)}"}))
            answer = admin.post(f"{path}/reinstate", json={"reason": text})
            ok(admin.post(f"{path}/reinstate"))
            return answer

        return send

    def erase(text: str) -> httpx.Response:
        return admin.post(f"/v1/subjects/{new_person(admin).subject_id}/erase", json={"reason": text})

    stopped = {
        "token": f"/v1/tokens/{tokens['token_id']}",
        "family": f"/v1/families/{tokens['family_id']}",
        "subject": f"/v1/subjects/{new_person(admin).subject_id}",
        "client": f"/v1/clients/{service.name}",
        "api": f"/v1/apis/{api}",
    }
    cut = {kind: path for kind, path in stopped.items() if kind in ("subject", "client", "api")}
    rule = {"methods": ["GET"]}
    return [
        *(Field(f"suspend {kind}", suspend(path), "reason") for kind, path in stopped.items()),
        *(Field(f"reinstate {kind}", reinstate(path), "reason") for kind, path in stopped.items()),
        *(Field(f"revoke tokens of {kind}", post(f"{path}/revoke-tokens", "reason"), "reason") for kind, path in cut.items()),
        Field("revoke token", revoke(new_token), "reason"),
        Field("revoke family", revoke(new_family), "reason"),
        Field("revoke key", revoke_key, "reason"),
        Field("revocations", revoke_some, "reason"),
        Field("erase", erase, "reason"),
        Field("name of a token", lambda text: issue(name=text), "name"),
        Field("claim", lambda text: issue(claims={"tenant": text}), "claims"),
        Field("name of a claim", lambda text: issue(claims={text: "south"}), "claims"),
        Field("name of one's own token", post("/v1/me/tokens", "name"), "name"),
        Field("name of an API", post("/v1/apis", "name"), "name"),
        Field("audience", lambda text: admin.patch(f"/v1/apis/{api}", json={"audience": text}), "audience"),
        Field("name of a role", post(f"/v1/apis/{api}/roles", "name"), "name"),
        Field("name of a client", post("/v1/clients", "name"), "name"),
        Field(
            "path of a rule",
            lambda text: admin.post(f"/v1/apis/{api}/roles/reader/rules", json={"rules": [rule | {"path": text}]}),
            "rules",
        ),
        Field(
            "rule as a line",
            lambda text: admin.post(f"/v1/apis/{api}/roles/reader/rules", json={"rules": [text]}),
            "rules",
        ),
        Field(
            "path of an own rule",
            lambda text: admin.post(f"{subject}/rules", json={"rules": [rule | {"path": text, "api": api}]}),
            "rules",
        ),
        Field("user name", profile("username"), "username", subject_back),
        Field("display name", profile("display_name"), "display_name", subject_back),
        Field("e-mail", profile("email"), "email", subject_back),
        Field(
            "password",
            lambda text: admin.post("/v1/subjects", json={"username": unique("ann"), "password": text}),
            "password",
            # Kept as a hash: no text of it is ever read back.
            lambda _answer: [PASSWORD],
        ),
    ]


def tried(admin: httpx.Client, field: Field, text: str) -> Outcome:
    """Send a string through a field; Altered where it neither comes back nor is refused by the name of the field."""
    where = f"{field.name}, {text[:60]!r}"
    answer = field.send(text)
    if answer.status_code in (400, 409):
        problem = answer.json()
        names = [said["field"] for said in problem.get("problems", [])]
        if problem["code"] == "invalid_input" and not any(
            name == field.called or name.startswith(f"{field.called}.") for name in names
        ):
            raise Altered(f"{where}: refused for {names}")
        if problem["code"] not in ("invalid_input", "name_taken"):
            raise Altered(f"{where}: refused, {problem['code']}")
        return "refused"
    if answer.status_code not in (200, 201):
        raise Altered(f"{where}: answered {answer.status_code}")
    taken = answer.json()
    if field.name == "password":
        return "back"
    found = field.back(taken) if field.back is not None else list(texts(_recorded(admin, taken["position"])))
    if text not in found:
        raise Altered(f"{where}: it did not come back")
    return "back"


def _recorded(admin: httpx.Client, position: int) -> object:
    """Answer the payloads of the command that was recorded last at this position."""
    span = {"from_position": str(max(1, position - 2)), "to_position": str(position)}
    return [event["payload"] for event in ok(admin.get("/v1/audit/events", params=span))["events"]]
