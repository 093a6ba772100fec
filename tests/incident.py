"""A seeded incident, played over HTTP: what is to be found of it was written down beforehand, by hand, in incident.csv.

The rows are the events in their order, each with the step that records it and who does. A column for each start says by which
edge the event is in and from which step (an edge alone: from the start itself); empty: it is a bystander's and must not be in.
Between the steps others go about their business: none of that may be in either.
"""

import csv
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from ledger.rules import Rule
from tests.calls import App, Person, first_party, login, new_api, new_client, new_person, ok, refresh, unique
from tests.serving import Served

TABLE: Final = Path(__file__).with_name("incident.csv")
STARTS: Final = ("rogue", "leak", "key", "interval")
# Within the interval nobody else does anything: it is all of the interval that is in.
QUIET: Final = ("ivan-is-given-a-token",)
CONSOLE: Final = App("console", None, None)

Event = tuple[str, str]  # the step, and the type


@dataclass(frozen=True)
class Row:
    """An event as it was written down; `edges` by start: the edge, and the step it is in from."""

    event: Event
    who: str
    edges: Mapping[str, tuple[str, str | None]]


def table() -> list[Row]:
    """Answer the events in their order."""
    rows: list[Row] = []
    with TABLE.open(newline="") as lines:
        for row in csv.DictReader(lines):
            edges = {start: _edge(row[start]) for start in STARTS if row[start]}
            rows.append(Row((row["step"], row["event"]), row["who"], edges))
    return rows


def _edge(text: str) -> tuple[str, str | None]:
    edge, _, source = text.partition("<")
    return edge, source or None


@dataclass
class Incident:
    """The incident on a served ledger: `positions` of its events, once it was played."""

    served: Served
    seed: int = 1
    noise: int = 3  # acts of others between two steps
    positions: dict[Event, int] = field(default_factory=dict)
    who: dict[int, dict[str, Any]] = field(default_factory=dict)
    noisy: int = 0

    def play(self) -> "Incident":
        """Play it, and answer it."""
        self.chance = random.Random(self.seed)
        with self.served.admin() as self.admin, self.served.client() as self.http:
            self._set_up()
            for row in table():
                if row.event in self.positions:
                    continue
                step = row.event[0]
                if step not in QUIET:
                    for _ in range(self.noise):
                        self._go_about_ones_business()
                head = self._head()
                STEPS[step](self)
                for event in self._since(head):
                    self.positions[step, event["type"]] = event["position"]
                    self.who[event["position"]] = event["actor"]
        return self

    def starts(self) -> dict[str, dict[str, Any]]:
        """Answer the query of each start."""
        first, last = (
            self.positions["ivan-is-locked-out", "login_locked_out"],
            self.positions["ivan-is-given-a-token", "token_issued"],
        )
        return {
            "rogue": {
                "actor_id": self.people["mallory"].subject_id,
                "from_position": self.positions["kate-is-registered", "name_taken"],
            },
            "leak": {"token_id": self.leaked},
            "key": {"key_id": self.key_id},
            "interval": {"from_position": first, "to_position": last},
        }

    def expected(self, start: str) -> dict[Event, tuple[str, str | None]]:
        """Answer what was written down of a start."""
        return {row.event: row.edges[start] for row in table() if start in row.edges}

    def told(self, lines: list[dict[str, Any]]) -> dict[Event, tuple[str, str | None]]:
        """Answer lines in the words of the table; those of others by their position."""
        events = {position: event for event, position in self.positions.items()}
        told: dict[Event, tuple[str, str | None]] = {}
        for line in lines:
            event = events.get(line["position"], (f"somebody else at {line['position']}", line["what"]))
            source = None if line["from"] is None else events.get(line["from"], ("somebody else", ""))[0]
            told[event] = (line["edge"], source)
        return told

    def name_of(self, who: dict[str, Any]) -> str:
        """Answer the name that somebody has in the table."""
        if who["kind"] == "system":
            return "ledger"
        names = {person.username: name for name, person in self.people.items()} | {
            app.name: name for name, app in self.apps.items()
        }
        return names.get(who["name"], str(who["name"]))

    # ------------------------------------------------------------------------------------------------------------ actors

    def _set_up(self) -> None:
        admin = self.admin
        rules = {"clerk": ["allow POST /orders/**"], "reader": ["allow GET /orders/**"]}
        self.orders, self.stock = new_api(admin, rules), new_api(admin, rules, name="stock")
        clerk, reader = f"{self.orders}:clerk", f"{self.orders}:reader"
        roles = {
            "ann": [reader],
            "ben": [clerk],
            "eve": [reader],
            "fay": [],
            "mallory": ["ledger:administrator"],
            "cora": ["ledger:operator"],
            "olaf": ["ledger:operator"],
            "ivan": ["ledger:operator"],
        }
        names = (*roles, "dora", "gina", "hana", "lia", "max", "una", "vic")
        self.people = {name: new_person(admin, *roles.get(name, ()), name=name) for name in names}
        self.apps = {
            "console": CONSOLE,
            "shop": first_party(admin, self.orders, refresh="rotating"),
            "till": first_party(admin, self.stock),
            "press": first_party(admin, "ledger", strategy="encrypted"),
            "app": first_party(admin, "ledger", refresh="rotating"),
            "desk": new_client(
                admin, grants=["issue", "refresh_token"], refresh="rotating", apis=[self.orders, self.stock], strategy="jwt"
            ),
        }
        self.tokens: dict[str, dict[str, Any]] = {}

    def _head(self) -> int:
        position: int = ok(self.http.get("/readyz"))["position"]
        return position

    def _since(self, head: int) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = ok(
            self.admin.get("/v1/audit/events", params={"from_position": head + 1, "order": "oldest", "limit": 1000})
        )["events"]
        return events

    def _go_about_ones_business(self) -> None:
        """Let somebody do something that has nothing to do with it."""
        self.noisy += 1
        vic, una = self.people["vic"].subject_id, self.people["una"].subject_id
        issued = {"subject_id": self.chance.choice([vic, una])}
        desk = self.apps["desk"]
        match self.chance.randrange(4):
            case 0:
                ok(self.http.post("/v1/tokens", json=issued, auth=desk.auth), 201)
            case 1:
                tokens = ok(self.http.post("/v1/tokens", json=issued, auth=desk.auth), 201)
                ok(refresh(self.http, desk, tokens["refresh_token"]))
            case 2:
                ok(self.admin.post(f"/v1/subjects/{vic}/roles", json={"roles": [f"{self.stock}:reader"]}))
                ok(self.admin.post(f"/v1/subjects/{vic}/roles/withdraw", json={"roles": [f"{self.stock}:reader"]}))
            case _:
                ok(self.admin.post(f"/v1/subjects/{una}/suspend", json={"reason": "lunch"}))
                ok(self.admin.post(f"/v1/subjects/{una}/reinstate"))

    def log_in(self, step: str, name: str, app: str = "console", **body: Any) -> None:
        """Log somebody in."""
        self.tokens[step] = login(self.http, self.people[name], self.apps[app], **body)

    def refresh(self, step: str, before: str, app: str = "console") -> None:
        """Use the refresh token of a step."""
        self.tokens[step] = ok(refresh(self.http, self.apps[app], self.tokens[before]["refresh_token"]))

    def act(self, step: str, method: str, path: str, *, status: int = 200, **body: Any) -> dict[str, Any]:
        """Ask the ledger for something with the token of a step."""
        bearer = {"Authorization": f"Bearer {self.tokens[step]['access_token']}"}
        return ok(self.http.request(method, path, json=body, headers=bearer), status)

    def suspend(self, step: str, name: str) -> None:
        """Suspend somebody with the token of a step."""
        self.act(step, "POST", f"/v1/subjects/{self.people[name].subject_id}/suspend", reason="a whim")

    def subject(self, name: str) -> str:
        """Answer the path of somebody."""
        return f"/v1/subjects/{self.people[name].subject_id}"

    def leak(self) -> None:
        """Let Cora log in; her refresh token leaks."""
        self.log_in("cora-logs-in", "cora")
        listed = ok(self.admin.get("/v1/tokens", params={"family_id": self.tokens["cora-logs-in"]["family_id"]}))["tokens"]
        (self.leaked,) = (token["token_id"] for token in listed if token["kind"] == "refresh")

    def log_in_by_key(self) -> None:
        """Let Olaf log in; the key his token was made with is bad."""
        self.log_in("olaf-logs-in", "olaf", "press")
        (self.key_id,) = ok(self.admin.get(f"/v1/tokens/{self.tokens['olaf-logs-in']['token_id']}"))["key_ids"]

    def register_kate(self) -> None:
        """Let Mallory make himself an accomplice."""
        username, password = unique("kate"), "correct horse battery"
        made = self.act(MALLORY, "POST", "/v1/subjects", status=201, username=username, password=password)
        self.people["kate"] = Person(made["subject_id"], username, password)

    def register_kiosk(self) -> None:
        """Let Mallory make himself a client."""
        settings = {"name": unique("kiosk"), "grants": ["client_credentials"], "apis": [self.orders]}
        made = self.act(MALLORY, "POST", "/v1/clients", status=201, **settings)
        self.apps["kiosk"] = App(made["name"], made["client_secret"], made["subject_id"])

    def set_password(self, step: str | None, password: str) -> None:
        """Set Dora's password with the token of a step, or as the administrator."""
        dora = self.people["dora"]
        if step is None:
            ok(self.admin.put(f"{self.subject('dora')}/password", json={"password": password}))
        else:
            self.act(step, "PUT", f"{self.subject('dora')}/password", password=password)
        self.people["dora"] = Person(dora.subject_id, dora.username, password)

    def lock_out(self) -> None:
        """Try passwords of Ivan's until no more are looked at."""
        statuses = [
            self.http.post("/login", json={"username": self.people["ivan"].username, "password": "a wrong guess"}).status_code
            for _ in range(10)
        ]
        while statuses[-1] != 429:
            answer = self.http.post("/login", json={"username": self.people["ivan"].username, "password": "a wrong guess"})
            statuses.append(answer.status_code)
            assert len(statuses) < 30, statuses

    def unlock(self) -> None:
        """Make Ivan's budget whole again."""
        whose = {"subject_id": self.people["ivan"].subject_id}
        (lockout,) = ok(self.admin.get("/v1/lockouts", params=whose))["lockouts"]
        ok(self.admin.post(f"/v1/lockouts/{lockout['lockout_id']}/unlock"))

    def new_key(self) -> None:
        """Make an encryption key."""
        self.new_key_id = ok(self.admin.post("/v1/keys", json={"use": "enc"}), 201)["key_id"]

    def own_token(self, step: str, by: str) -> None:
        """Issue somebody a named token of his own with the token of a step."""
        self.tokens[step] = self.act(by, "POST", "/v1/me/tokens", status=201, name="script")

    def give_token(self, step: str, name: str, app: str) -> None:
        """Issue somebody a token as the administrator."""
        body = {"subject_id": self.people[name].subject_id, "client": self.apps[app].name}
        self.tokens[step] = ok(self.admin.post("/v1/tokens", json=body), 201)

    def by_admin(self, method: str, path: str, **body: Any) -> None:
        """Ask for something as the administrator."""
        ok(self.admin.request(method, path, json=body))

    def withdraw_a_rule(self) -> None:
        """Take the clerk's own rule, as the administrator."""
        rule_id = str(Rule.parse("allow POST /orders/**").rule_id)
        self.by_admin("POST", f"{self.clerk()}/withdraw", rule_ids=[rule_id])

    def clerk(self) -> str:
        """Answer the path of the role's rules."""
        return f"/v1/apis/{self.orders}/roles/clerk/rules"


MALLORY: Final = "mallory-logs-in"
STEPS: Final[Mapping[str, Callable[[Incident], object]]] = {
    "ann-logs-in": lambda i: i.log_in("ann-logs-in", "ann", "shop"),
    "ben-logs-in": lambda i: i.log_in("ben-logs-in", "ben", "shop"),
    "ben-elsewhere": lambda i: i.log_in("ben-elsewhere", "ben", "till"),
    "eve-logs-in": lambda i: i.log_in("eve-logs-in", "eve", "shop"),
    MALLORY: lambda i: i.log_in(MALLORY, "mallory"),
    "cora-logs-in": Incident.leak,
    "olaf-logs-in": Incident.log_in_by_key,
    "kate-is-registered": Incident.register_kate,
    "kate-is-operator": lambda i: i.act(MALLORY, "POST", f"{i.subject('kate')}/roles", roles=["ledger:operator"]),
    "kate-logs-in": lambda i: i.log_in("kate-logs-in", "kate"),
    "kate-suspends-ann": lambda i: i.suspend("kate-logs-in", "ann"),
    "leak-is-used": lambda i: i.refresh("leak-is-used", "cora-logs-in"),
    "thief-suspends-gina": lambda i: i.suspend("leak-is-used", "gina"),
    "gina-is-back": lambda i: i.by_admin("POST", f"{i.subject('gina')}/reinstate"),
    "leak-is-used-again": lambda i: i.refresh("leak-is-used-again", "leak-is-used"),
    "thief-has-a-script": lambda i: i.own_token("thief-has-a-script", "leak-is-used-again"),
    "script-revokes-a-token": lambda i: i.act(
        "thief-has-a-script", "POST", f"/v1/tokens/{i.tokens['ben-elsewhere']['token_id']}/revoke"
    ),
    "cora-logs-in-anew": lambda i: i.log_in("cora-logs-in-anew", "cora"),
    "cora-works": lambda i: i.suspend("cora-logs-in-anew", "max"),
    "clerk-gets-a-rule": lambda i: i.act(MALLORY, "POST", i.clerk(), rules=["allow DELETE /orders/**"]),
    "ben-logs-in-again": lambda i: i.log_in("ben-logs-in-again", "ben", "shop"),
    "fay-is-clerk": lambda i: i.by_admin(
        "POST", f"{i.subject('fay')}/roles", roles=[f"{i.orders}:clerk", f"{i.orders}:reader"]
    ),
    "fay-logs-in": lambda i: i.log_in("fay-logs-in", "fay", "shop"),
    "fay-reads-only": lambda i: i.log_in("fay-reads-only", "fay", "shop", scope=f"{i.orders}:reader"),
    "olaf-suspends-hana": lambda i: i.suspend("olaf-logs-in", "hana"),
    "dora-gets-a-password": lambda i: i.set_password(MALLORY, "known to mallory"),
    "false-dora-logs-in": lambda i: i.log_in("false-dora-logs-in", "dora", "shop"),
    "dora-gets-it-back": lambda i: i.set_password(None, "correct horse battery"),
    "dora-logs-in": lambda i: i.log_in("dora-logs-in", "dora", "shop"),
    "another-key": Incident.new_key,
    "new-key-is-used": lambda i: i.by_admin("POST", f"/v1/keys/{i.new_key_id}/activate"),
    "olaf-logs-in-again": lambda i: i.log_in("olaf-logs-in-again", "olaf", "press"),
    "olaf-works": lambda i: i.act("olaf-logs-in-again", "POST", f"{i.subject('hana')}/reinstate"),
    "kiosk-is-registered": Incident.register_kiosk,
    "kiosk-has-a-token": lambda i: ok(
        i.http.post("/oauth/token", data={"grant_type": "client_credentials"}, auth=i.apps["kiosk"].auth)
    ),
    "gina-at-the-kiosk": lambda i: i.give_token("gina-at-the-kiosk", "gina", "kiosk"),
    "eve-is-cleared": lambda i: i.act(MALLORY, "PUT", f"{i.subject('eve')}/clearance", clearance=50),
    "eve-logs-in-again": lambda i: i.log_in("eve-logs-in-again", "eve", "shop"),
    "lia-is-cleared": lambda i: i.by_admin("PUT", f"{i.subject('lia')}/clearance", clearance=50),
    "lia-logs-in": lambda i: i.log_in("lia-logs-in", "lia", "shop"),
    "ivan-is-locked-out": Incident.lock_out,
    "ivan-is-given-a-token": lambda i: i.give_token("ivan-is-given-a-token", "ivan", "app"),
    "ivan-is-unlocked": Incident.unlock,
    "ivan-refreshes": lambda i: i.refresh("ivan-refreshes", "ivan-is-given-a-token", "app"),
    "ivan-reinstates": lambda i: i.act("ivan-is-given-a-token", "POST", f"{i.subject('max')}/reinstate"),
    "ivan-logs-in-anew": lambda i: i.log_in("ivan-logs-in-anew", "ivan"),
    "mallory-has-a-script": lambda i: i.own_token("mallory-has-a-script", MALLORY),
    "ben-has-his-own-rule": lambda i: i.act(
        "mallory-has-a-script",
        "POST",
        f"{i.subject('ben')}/rules",
        rules=[{"api": i.orders, "effect": "allow", "methods": ["PUT"], "path": "/orders/**"}],
    ),
    "ben-at-last": lambda i: i.log_in("ben-at-last", "ben", "shop"),
    "clerk-loses-nothing": Incident.withdraw_a_rule,
}


def lines_of(http: httpx.Client, query: Mapping[str, Any], limit: int = 1000) -> Iterator[dict[str, Any]]:
    """Answer every line of a start, page by page, all as of the position of the first."""
    asked = {**query, "limit": limit}
    while True:
        page = ok(http.get("/v1/audit/blast-radius", params=asked))
        assert page["complete"], page["left_out"]
        yield from page["lines"]
        if page["next"] is None:
            return
        asked |= {"as_of_position": page["as_of_position"], "cursor": page["next"]}


def take_back(http: httpx.Client, query: Mapping[str, Any], **members: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Take an incident back as its plan says; answer the plan, and what became of each of its steps."""
    plan = ok(http.get("/v1/audit/blast-radius", params=query))
    body = {**query, "as_of_position": plan["as_of_position"], "plan_id": plan["plan_id"], **members}
    taken: list[dict[str, Any]] = []
    while True:
        answer = ok(http.post("/v1/audit/blast-radius", json=body))
        taken += answer["steps"]
        if answer["done"]:
            return plan, taken
        body["cursor"] = answer["next"]
