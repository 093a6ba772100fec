"""A ledger to measure: an API, people, a client of every strategy, tokens whose state is known, and the questions about them.

Of a hundred tokens 85 are good, 5 revoked, 5 expired and 5 never were ours; of the good ones every tenth asks for what a rule
denies. So no answer can be had by answering always the same.
"""

import base64
import http.client
import itertools
import json
import random
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import quote, urlencode
from uuid import UUID, uuid4

from bench.load import Request
from ledger.states import Strategy
from ledger.token_strings import new_secret, write

STRATEGIES: Final[tuple[Strategy, ...]] = ("opaque", "encrypted", "jwt", "jwe")
API: Final = "orders"
PEOPLE: Final = 50
AT_ONCE: Final = 16
LIFETIME_SECONDS: Final = 3_600
RULES_A_CALL: Final = 500
RULES: Final = [
    "allow GET /orders/{order}",
    "deny GET /orders/secret",
    *(f"allow GET,POST /orders/{{order}}/{part}/**" for part in ("items", "notes", "labels", "parcels", "invoices")),
    *(f"allow GET,PUT,DELETE /{thing}/{{id}}" for thing in ("customers", "articles", "stores", "returns", "vouchers")),
]

Standing = Literal["good", "revoked", "expired", "unknown"]
REASONS: Final[Mapping[Standing, str]] = {
    "good": "allowed",
    "revoked": "token_revoked",
    "expired": "token_expired",
    "unknown": "unknown_token",
}


@dataclass(frozen=True, slots=True)
class Known:
    """A bearer string and what stands about it."""

    text: str
    standing: Standing


# The path that the question of a number asks for, and the reason of the answer about a good token.
Asking = Callable[[int], tuple[str, str]]


def ask_for_orders(number: int) -> tuple[str, str]:
    """Every tenth asks for what a rule denies."""
    return ("/orders/secret", "denied_by_rule") if number % 10 == 0 else (f"/orders/{number}", "allowed")


class Calls:
    """JSON and forms over connections that are kept, by many threads; an answer other than 2xx is an error."""

    def __init__(self, url: str) -> None:
        self._host = url.partition("://")[2]
        self._idle: deque[http.client.HTTPConnection] = deque()

    def post(self, path: str, body: Mapping[str, Any], authorization: str, *, form: bool = False) -> dict[str, Any]:
        """Send a body and answer the answer's."""
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = http.client.HTTPConnection(self._host, timeout=30)
        content_type = "application/x-www-form-urlencoded" if form else "application/json"
        sent = urlencode(body) if form else json.dumps(body)
        connection.request("POST", path, sent, {"Content-Type": content_type, "Authorization": authorization})
        answer = connection.getresponse()
        status, text = answer.status, answer.read()
        self._idle.append(connection)
        if status >= 300:
            raise RuntimeError(f"{path}: {status} {text.decode()}")
        answered: dict[str, Any] = json.loads(text)
        return answered

    def close(self) -> None:
        """Close the connections."""
        while self._idle:
            self._idle.pop().close()


class BenchLedger:
    """What was set up, and the requests that ask about it."""

    def __init__(self, url: str, username: str, password: str, rules: Sequence[str] = RULES) -> None:
        self._calls = Calls(url)
        login = self._calls.post("/login", {"username": username, "password": password}, "")
        self._admin = f"Bearer {login['access_token']}"
        self._secrets: dict[str, str] = {}
        self._manage("/v1/apis", {"name": API})
        self.role_id = UUID(self._manage(f"/v1/apis/{API}/roles", {"name": "clerk"})["role_id"])
        self._add_rules(API, rules)
        self._people = [self._manage("/v1/subjects", {"username": f"person-{n}"})["subject_id"] for n in range(PEOPLE)]
        for person in self._people:
            self._manage(f"/v1/subjects/{person}/roles", {"roles": [f"{API}:clerk"]})
        self._client("asks", strategy="opaque", refresh="off", serves=API)
        self._client("machine", strategy="opaque", refresh="off", grants=["client_credentials"], apis=[API])
        self._client("rotates", strategy="opaque", refresh="rotating", grants=["issue", "refresh_token"], apis=[API])
        for strategy in STRATEGIES:
            self._client(strategy, strategy=strategy, refresh="off", grants=["issue"], apis=[API])

    def close(self) -> None:
        """Close the connections that it was set up over."""
        self._calls.close()

    def _manage(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return self._calls.post(path, body, self._admin)

    def _client(self, name: str, **settings: Any) -> None:
        body = {"name": name, "kind": "confidential", "grants": [], "apis": []} | settings
        self._secrets[name] = self._manage("/v1/clients", body)["client_secret"]

    def _basic(self, client: str) -> str:
        return "Basic " + base64.b64encode(f"{client}:{quote(self._secrets[client])}".encode()).decode()

    def _add_rules(self, api: str, rules: Sequence[str]) -> None:
        for first in range(0, len(rules), RULES_A_CALL):
            self._manage(f"/v1/apis/{api}/roles/clerk/rules", {"rules": rules[first : first + RULES_A_CALL]})

    def more_apis(self, count: int, rules: Sequence[str]) -> None:
        """Register APIs that nobody is asked about, each with a role of these rules."""

        def register(number: int) -> None:
            api = f"api-{number}"
            self._manage("/v1/apis", {"name": api})
            self._manage(f"/v1/apis/{api}/roles", {"name": "clerk"})
            self._add_rules(api, rules)

        with ThreadPoolExecutor(AT_ONCE) as threads:
            list(threads.map(register, range(count)))

    # ------------------------------------------------------------------------------------------------ tokens

    def tokens(self, strategy: Strategy, count: int) -> list[Known]:
        """Issue tokens of a strategy and take some of them back; shuffled, and the same shuffle every time."""
        each = max(2, count // 20)
        issued: list[tuple[Standing, int]] = [("good", count - 3 * each), ("revoked", each), ("expired", each)]
        standings = [standing for standing, times in issued for _ in range(times)]
        with ThreadPoolExecutor(AT_ONCE) as threads:
            known = list(threads.map(self._known, itertools.repeat(strategy), itertools.cycle(self._people), standings))
        known += [Known(_never_ours(known[n].text, n), "unknown") for n in range(each)]
        random.Random(0).shuffle(known)
        return known

    def wait_for_expiry(self) -> None:
        """Wait until the tokens that are to be expired are."""
        time.sleep(2.0)

    def _known(self, strategy: str, person: str, standing: Standing) -> Known:
        lifetime = 1 if standing == "expired" else LIFETIME_SECONDS
        basic = self._basic(strategy)
        text = self._calls.post("/v1/tokens", {"subject_id": person, "lifetime_seconds": lifetime}, basic)["access_token"]
        if standing == "revoked":
            self._calls.post("/oauth/revoke", {"token": text}, basic, form=True)
        return Known(text, standing)

    def refresh_tokens(self, count: int) -> list[str]:
        """Issue one-time refresh tokens, each the first of a family."""

        def issue(person: str) -> str:
            token: str = self._calls.post("/v1/tokens", {"subject_id": person}, self._basic("rotates"))["refresh_token"]
            return token

        with ThreadPoolExecutor(AT_ONCE) as threads:
            return list(threads.map(issue, itertools.islice(itertools.cycle(self._people), count)))

    # --------------------------------------------------------------------------------------------- questions

    def gateway(self, tokens: Sequence[Known], asking: Asking = ask_for_orders) -> list[Request]:
        """Ask as nginx does; the status and the reason must be right."""
        requests = []
        for number, known in enumerate(tokens):
            target, reason = _asked(number, known, asking)
            headers = {
                "Authorization": f"Bearer {known.text}",
                "Ledger-Gateway-Key": self._secrets["asks"],
                "X-Original-Method": "GET",
                "X-Original-URI": target,
            }
            status = {"allowed": 200, "denied_by_rule": 403, "no_rule": 403}.get(reason, 401)
            requests.append(Request("GET", "/gateway/nginx", headers, status=status, reason=reason))
        return requests

    def evaluation(self, tokens: Sequence[Known], as_of: int | None = None) -> list[Request]:
        """Ask as AuthZEN has it, now or as of a position; the reason must be right."""
        context = {} if as_of is None else {"as_of": as_of}
        headers = {"Authorization": self._basic("asks"), "Content-Type": "application/json"}
        requests = []
        for number, known in enumerate(tokens):
            target, reason = _asked(number, known, ask_for_orders)
            question = {
                "subject": {"type": "token", "id": known.text},
                "action": {"name": "GET"},
                "resource": {"type": "route", "id": target},
                "context": context,
            }
            contains = f'"reason":"{reason}"'
            requests.append(Request("POST", "/access/v1/evaluation", headers, json.dumps(question), contains=contains))
        return requests

    def introspection(self, tokens: Sequence[Known]) -> list[Request]:
        """Ask as RFC 7662 has it; `active` must be right."""
        headers = {"Authorization": self._basic("asks"), "Content-Type": "application/x-www-form-urlencoded"}
        return [
            Request(
                "POST",
                "/oauth/introspect",
                headers,
                urlencode({"token": known.text}),
                contains=f'"active":{"true" if known.standing == "good" else "false"}',
            )
            for known in tokens
        ]

    def issue(self, strategy: Strategy) -> list[Request]:
        """Issue a token for a person, as an issuer does; the answer must hold one."""
        headers = {"Authorization": self._basic(strategy), "Content-Type": "application/json"}
        return [
            Request("POST", "/v1/tokens", headers, json.dumps({"subject_id": person}), status=201, contains='"access_token":"')
            for person in self._people
        ]

    def client_credentials(self) -> list[Request]:
        """Ask for a token as a machine does; the answer must hold one."""
        headers = {"Authorization": self._basic("machine"), "Content-Type": "application/x-www-form-urlencoded"}
        form = urlencode({"grant_type": "client_credentials"})
        return [Request("POST", "/oauth/token", headers, form, contains='"access_token":"')]

    def revocation(self, client: str, tokens: Sequence[tuple[UUID, bytes]]) -> list[Request]:
        """Revoke access tokens of a client, as the client does."""
        headers = {"Authorization": self._basic(client), "Content-Type": "application/x-www-form-urlencoded"}
        return [
            Request(
                "POST",
                "/oauth/revoke",
                headers,
                urlencode({"token": write("access", token_id, secret)}),
                contains='"position":',
            )
            for token_id, secret in tokens
        ]

    def rotation(self, refresh_tokens: Sequence[str]) -> list[Request]:
        """Use one-time refresh tokens: the first use of each chain (load.lua goes on with each answer's)."""
        headers = {"Authorization": self._basic("rotates"), "Content-Type": "application/x-www-form-urlencoded"}
        return [
            Request(
                "POST",
                "/oauth/token",
                headers,
                urlencode({"grant_type": "refresh_token", "refresh_token": token}),
                contains='"refresh_token":"',
            )
            for token in refresh_tokens
        ]


def _asked(number: int, known: Known, asking: Asking) -> tuple[str, str]:
    """Answer the path a token asks for, and the reason of the answer."""
    target, reason = asking(number)
    return target, reason if known.standing == "good" else REASONS[known.standing]


def _never_ours(text: str, number: int) -> str:
    """Answer a string that was never issued: every other one damaged, the rest of the right form."""
    if number % 2 or "." in text:
        middle = len(text) // 2
        return text[:middle] + ("A" if text[middle] != "A" else "B") + text[middle + 1 :]
    return write("access", uuid4(), new_secret())
