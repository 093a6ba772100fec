"""Asks a server about a token as a resource server does, in each of the three ways, and reads what was decided."""

from typing import Any, Final, Literal

from tests.acceptance.wire import Answered, Wire, basic
from tests.calls import App

Way = Literal["evaluation", "gateway", "introspection"]
WAYS: Final[tuple[Way, ...]] = ("evaluation", "gateway", "introspection")


async def ask(wire: Wire, asker: App, string: str, way: Way) -> Answered:
    """Ask whether a token may GET /orders/7 (introspection: whether it stands). Lost."""
    if way == "evaluation":
        question = {
            "subject": {"type": "token", "id": string},
            "action": {"name": "GET"},
            "resource": {"type": "route", "id": "/orders/7"},
        }
        return await wire.request("POST", "/access/v1/evaluation", basic(*asker.auth), body=question)
    if way == "gateway":
        headers = {"Ledger-Gateway-Key": asker.auth[1], "X-Original-Method": "GET", "X-Original-URI": "/orders/7"}
        return await wire.request("GET", "/gateway/nginx", headers | {"Authorization": f"Bearer {string}"})
    return await wire.request("POST", "/oauth/introspect", basic(*asker.auth), form={"token": string})


def read_decision(way: Way, answered: Answered) -> tuple[int, bool, str] | None:
    """Answer position, answer and reason; None for what is no decision."""
    if way == "gateway" and answered.status in (200, 401, 403) and "ledger-position" in answered.headers:
        return int(answered.headers["ledger-position"]), answered.status == 200, answered.headers["ledger-reason"]
    if way != "gateway" and answered.status == 200:
        body: dict[str, Any] = answered.json()
        if way == "introspection":
            return int(answered.headers["ledger-position"]), body["active"], "active" if body["active"] else "inactive"
        return body["context"]["position"], body["decision"], body["context"]["reason"]
    return None
