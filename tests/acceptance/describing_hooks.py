"""What schemathesis loads in the run of describing.py (SCHEMATHESIS_HOOKS): who asks, anew for each case.

A case may log its token out, suspend its client or erase its own subject: the next one has a token of its own all the same, of
a client that is made again where the one before does not stand. Of schemathesis' own nothing is changed.
"""

import os
import time
from threading import Lock
from typing import Any, Final
from uuid import uuid4

import httpx
import schemathesis

URL: Final = os.environ["DESCRIBED_URL"]
ROLE: Final = os.environ["DESCRIBED_AS"]
# Of an administrator, for making clients; no case has it.
ADMIN: Final = {"username": "admin", "password": os.environ["DESCRIBED_PASSWORD"]}


class Clients:
    """A client that asks, and a client of an API that asks about tokens; made when they are needed."""

    def __init__(self) -> None:
        self._http = httpx.Client(base_url=URL, timeout=30)
        # Cases are made in two threads.
        self._one_at_a_time = Lock()
        self._asking: tuple[str, str] = ("", "")
        self._serving: tuple[str, str] = ("", "")

    def token(self) -> str:
        """Answer a new token of the client that asks."""
        with self._one_at_a_time:
            if (token := self._obtained()) is None:
                self._asking = self._new(grants=["client_credentials"], apis=["ledger"])
                token = self._obtained()
            assert token is not None
            return token

    def serving(self) -> tuple[str, str]:
        """Answer name and secret of a client that may ask about tokens."""
        with self._one_at_a_time:
            asked = self._http.post("/oauth/introspect", data={"token": "none"}, auth=self._serving)
            if asked.status_code != 200:
                self._serving = self._new(grants=["client_credentials", "issue"], apis=["ledger"], serves="ledger")
            return self._serving

    def _obtained(self) -> str | None:
        answer = self._http.post("/oauth/token", data={"grant_type": "client_credentials"}, auth=self._asking)
        token: str | None = answer.json().get("access_token")
        return token

    def _new(self, **settings: Any) -> tuple[str, str]:
        login = self._http.post("/login", json=ADMIN)
        while login.status_code == 429:  # cases have spent the budget of attempts
            time.sleep(int(login.headers["Retry-After"]))
            login = self._http.post("/login", json=ADMIN)
        admin = {"Authorization": f"Bearer {login.raise_for_status().json()['access_token']}"}
        body = {"name": f"described-{uuid4()}", **settings}
        made = self._http.post("/v1/clients", json=body, headers=admin).raise_for_status().json()
        if ROLE:
            path = f"/v1/subjects/{made['subject_id']}/roles"
            self._http.post(path, json={"roles": [f"ledger:{ROLE}"]}, headers=admin).raise_for_status()
        return made["name"], made["client_secret"]


_clients: Final = Clients()


@schemathesis.auth(refresh_interval=None)
class Asking:
    """Credentials as each operation wants them."""

    def get(self, case: Any, _context: Any) -> dict[str, str]:
        """Answer the headers."""
        path = case.operation.path
        if path.startswith("/gateway/"):
            return {"Ledger-Gateway-Key": _clients.serving()[1]}
        if path.startswith(("/oauth/", "/access/")):
            return {"Authorization": httpx.BasicAuth(*_clients.serving())._auth_header}
        return {"Authorization": f"Bearer {_clients.token()}"}

    def set(self, case: Any, data: dict[str, str], _context: Any) -> None:
        """Put them on."""
        case.headers = {**(case.headers or {}), **data}
