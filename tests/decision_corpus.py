"""Rows to decide on, and the frozen corpus of decisions: golden/decisions.json.

The file holds everything a decision is made of, and the whole answer. What was answered under released semantics is answered
so for ever: an entry that is there never changes, whatever becomes of the builders below; only new ones are added.

    python -m tests.decision_corpus         says which cases of `cases` the file lacks, and which it answers otherwise
    python -m tests.decision_corpus --add   adds what it lacks, as it is decided now

To begin anew (before a first release, or under new semantics), delete entries by hand.
"""

import argparse
import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from pydantic import TypeAdapter

from ledger.cascade import TokenStanding
from ledger.decisions import Decision, PlacedRule, Question, Reference, decide
from ledger.paths import Matcher, Template
from ledger.rules import Rule
from ledger.states import Api, Client, Key, Role
from tests import builders
from tests.builders import NOON

GOLDEN: Final = Path(__file__).parent / "golden" / "decisions.json"
TICK: Final = timedelta(microseconds=1)
HEAD_POSITION: Final = 900

# ------------------------------------------------------------------------------------------------------ rows to decide on


def _id(number: int) -> UUID:
    return UUID(f"0190c6a2-0000-7000-8000-{number:012d}")


SUBJECT, FAMILY, TOKEN, SHOP, SUSPENDED_SHOP, CUT_SHOP, PAUSED_SHOP = map(_id, range(1, 8))
ORDERS, STOCK, CLOSED, CUT, PAUSED = map(_id, range(20, 25))
CLERK, MANAGER, BARRED, REMOVED, STOCKIST, READER = map(_id, range(40, 46))
ACTIVE_KEY, RETIRED_KEY, REVOKED_KEY = map(_id, range(60, 63))


def standing(**changes: Any) -> TokenStanding:
    """Make what the views say of an opaque token for ORDERS and STOCK, through SHOP, of a person with two roles."""
    fields: dict[str, Any] = {
        "token_id": TOKEN,
        "position": 500,
        "family_id": FAMILY,
        "generation": 0,
        "kind": "access",
        "strategy": "opaque",
        "subject_id": SUBJECT,
        "client_id": SHOP,
        "api_ids": [ORDERS, STOCK],
        "role_ids": None,
        "direct": True,
        "secret_digest": b"\x5a" * 32,
        "key_ids": [],
        "name": None,
        "claims": None,
        "issued_at": NOON - timedelta(minutes=1),
        "expires_at": NOON + timedelta(minutes=9),
        "token_status": None,
        "token_status_until": None,
        "token_status_position": None,
        "family_status": "active",
        "family_status_until": None,
        "family_position": 500,
        "family_generation": 0,
        "family_idle_expires_at": None,
        "subject_kind": "person",
        "subject_status": "active",
        "subject_status_until": None,
        "subject_position": 300,
        "subject_cutoff_position": 0,
        "subject_clearance": 5,
        "subject_role_ids": [CLERK, READER],
        "subject_rules": None,
        "subject_rules_position": None,
    }
    assert changes.keys() <= fields.keys()
    return TokenStanding(**fields | changes)


def own_rules(position: int, *lines: str, api_id: UUID = ORDERS) -> dict[str, Any]:
    """Answer the fields of a subject's own rules at a position, as the lookup reads them from the view."""
    return {"subject_rules": [_as_read(Rule.parse(line), api_id) for line in lines], "subject_rules_position": position}


def _as_read(rule: Rule, api_id: UUID) -> dict[str, Any]:
    row = rule.of_api(api_id)
    return {
        "rule_id": str(row.rule_id),
        "api_id": str(row.api_id),
        "effect": row.effect,
        "methods": list(row.methods),
        "path": row.path,
        "min_clearance": row.min_clearance,
    }


Placed = tuple[UUID, str, int]  # the role, the rule as a line, the position of its event


def reference(
    clients: Iterable[Client], apis: Iterable[Api], roles: Iterable[Role], keys: Iterable[Key], rules: Iterable[Placed]
) -> Reference:
    """Answer reference data as a worker keeps it, from its rows in this order."""
    made = Reference(
        HEAD_POSITION,
        {row.client_id: row for row in clients},
        {row.api_id: row for row in apis},
        {row.role_id: row for row in roles},
        {row.key_id: row for row in keys},
    )
    for role_id, line, position in rules:
        rule = Rule.parse(line)
        matcher = made.matchers.setdefault(made.roles[role_id].api_id, Matcher())
        assert isinstance(matcher, Matcher)
        matcher.add(role_id, rule.rule_id, rule.methods, Template.parse(rule.path), PlacedRule(rule, position))
    return made


_PAUSED: Final[dict[str, Any]] = {"status": "suspended", "status_until": NOON}
CLIENTS: Final = [
    builders.client(client_id=SHOP, name="shop", position=110),
    builders.client(client_id=SUSPENDED_SHOP, name="old-shop", status="suspended", position=111),
    builders.client(client_id=PAUSED_SHOP, name="paused-shop", position=112, **_PAUSED),
    builders.client(client_id=CUT_SHOP, name="leaky-shop", cutoff_position=500, position=113),
]
APIS: Final = [
    builders.api(api_id=ORDERS, name="orders", position=120),
    builders.api(api_id=STOCK, name="stock", semicolons=True, position=121),
    builders.api(api_id=CLOSED, name="closed", status="suspended", position=122),
    builders.api(api_id=CUT, name="cut", cutoff_position=500, position=123),
    builders.api(api_id=PAUSED, name="paused", position=124, **_PAUSED),
]
ROLES: Final = [
    builders.role(role_id=CLERK, api_id=ORDERS, name="clerk", position=130),
    builders.role(role_id=MANAGER, api_id=ORDERS, name="manager", position=131),
    builders.role(role_id=BARRED, api_id=ORDERS, name="barred", position=132),
    builders.role(role_id=REMOVED, api_id=ORDERS, name="gone", removed=True, position=133),
    builders.role(role_id=STOCKIST, api_id=STOCK, name="stockist", position=134),
    builders.role(role_id=READER, api_id=ORDERS, name="reader", position=135),
]
KEYS: Final = [
    builders.key(key_id=ACTIVE_KEY, status="active", position=140),
    builders.key(key_id=RETIRED_KEY, status="retired", position=141),
    builders.key(key_id=REVOKED_KEY, status="revoked", position=142),
]
RULES: Final[list[Placed]] = [
    (READER, "allow GET /", 150),
    (READER, "allow GET /orders", 150),
    (READER, "allow GET /orders/{id}", 150),
    (READER, "allow GET /files/**", 150),
    (READER, "allow GET /people/{sub}/orders", 150),
    (READER, "allow GET /compare/{base}...{head}", 150),
    (READER, "allow GET /caf%C3%A9", 150),
    (READER, "allow GET,HEAD /both", 150),
    (READER, "allow GET /orders/{id}/", 151),
    (CLERK, "allow POST /orders", 152),
    (CLERK, "allow GET /orders", 153),
    (CLERK, "allow * /orders/{id}/notes/**", 153),
    (CLERK, "allow GET /salaries clearance 7", 154),
    (CLERK, "allow GET /salaries/{id} clearance 9", 154),
    (CLERK, "allow GET /salaries/{id} clearance 7", 154),
    (CLERK, "allow GET /salaries/{id} clearance 8", 154),
    (CLERK, "allow GET /minutes clearance 5", 154),
    (CLERK, "deny GET /orders/secret", 155),
    (CLERK, "deny POST /orders/{id}/notes/locked/**", 155),
    (CLERK, "allow HEAD /head-only", 155),
    (MANAGER, "allow * /**", 156),
    (BARRED, "deny * /orders/**", 157),
    (BARRED, "deny GET /orders/{id}", 157),
    (BARRED, "deny DELETE /**", 157),
    (REMOVED, "allow * /**", 158),
    (REMOVED, "deny * /files/**", 158),
    (STOCKIST, "allow GET /**", 159),
    (STOCKIST, "allow GET /items;v={v}", 160),
]


def everything() -> Reference:
    """Answer the reference data of the corpus."""
    return reference(CLIENTS, APIS, ROLES, KEYS, RULES)


def question(method: str = "GET", target: str = "/orders", **changes: Any) -> Question:
    """Ask about ORDERS, at NOON."""
    fields: dict[str, Any] = {"api_id": ORDERS, "secret_matches": True, "instant": NOON, "position": HEAD_POSITION}
    return Question(method=method, target=target, **fields | changes)


# ------------------------------------------------------------------------------------------------------------- the corpus

_OWN: Final = own_rules(
    310,
    "allow GET /mine",
    "allow DELETE /orders/{id} clearance 6",
    "deny PUT /orders/{id}",
    "allow PATCH /people/{sub}",
    "deny GET /files/private/**",
)
_OWN_OF_STOCK: Final = own_rules(311, "allow GET /orders/special", api_id=STOCK)


def tokens() -> dict[str, TokenStanding | None]:
    """Answer the tokens of the corpus by their names."""
    plain = standing()
    suspended: dict[str, Any] = {"token_status": "suspended", "token_status_position": 600}
    return {
        "none": None,
        "plain": plain,
        "refresh": plain._replace(kind="refresh"),
        "jwt": plain._replace(strategy="jwt", secret_digest=None, key_ids=[ACTIVE_KEY]),
        "of two keys": plain._replace(strategy="jwe", secret_digest=None, key_ids=[ACTIVE_KEY, RETIRED_KEY]),
        "of a revoked key": plain._replace(strategy="jwt", secret_digest=None, key_ids=[REVOKED_KEY]),
        "of a good and a revoked key": plain._replace(strategy="jwe", secret_digest=None, key_ids=[ACTIVE_KEY, REVOKED_KEY]),
        "expires now": plain._replace(expires_at=NOON),
        "expires after now": plain._replace(expires_at=NOON + TICK),
        "expired": plain._replace(expires_at=NOON - TICK),
        "suspended": plain._replace(**suspended),
        "suspended until after now": plain._replace(**suspended, token_status_until=NOON + TICK),
        "suspended until now": plain._replace(**suspended, token_status_until=NOON),
        "reinstated": plain._replace(token_status="active", token_status_position=601),
        "revoked": plain._replace(token_status="revoked", token_status_position=602),
        "for stock only": plain._replace(api_ids=[STOCK]),
        "for stock, role withdrawn": plain._replace(api_ids=[STOCK], subject_role_ids=[]),
        "family suspended": plain._replace(family_status="suspended", family_position=610),
        "family suspended until now": plain._replace(family_status="suspended", family_status_until=NOON, family_position=610),
        "family revoked": plain._replace(family_status="revoked", family_position=611),
        "subject suspended": plain._replace(subject_status="suspended", subject_position=620),
        "subject suspended until now": plain._replace(
            subject_status="suspended", subject_status_until=NOON, subject_position=620
        ),
        "subject suspended until after now": plain._replace(
            subject_status="suspended", subject_status_until=NOON + TICK, subject_position=620
        ),
        "subject erased": plain._replace(subject_status="erased", subject_position=621),
        "of a suspended client": plain._replace(client_id=SUSPENDED_SHOP),
        "of a paused client": plain._replace(client_id=PAUSED_SHOP),
        "of a client with a cut-off": plain._replace(client_id=CUT_SHOP),
        "after the client's cut-off": plain._replace(client_id=CUT_SHOP, position=501),
        "for a suspended API": plain._replace(api_ids=[CLOSED, ORDERS]),
        "for a paused API": plain._replace(api_ids=[PAUSED]),
        "for an API with a cut-off too": plain._replace(api_ids=[ORDERS, CUT]),
        "after the API's cut-off": plain._replace(api_ids=[ORDERS, CUT], position=501),
        "at the subject's cut-off": plain._replace(subject_cutoff_position=500),
        "before the subject's cut-off": plain._replace(subject_cutoff_position=501),
        "after the subject's cut-off": plain._replace(subject_cutoff_position=499),
        "revoked and everything else": plain._replace(
            token_status="revoked",
            token_status_position=602,
            family_status="revoked",
            subject_status="erased",
            client_id=SUSPENDED_SHOP,
            subject_cutoff_position=800,
            key_ids=[REVOKED_KEY],
        ),
        "family revoked and everything after": plain._replace(
            family_status="revoked", family_position=611, subject_status="suspended", client_id=SUSPENDED_SHOP
        ),
        "subject suspended and everything after": plain._replace(
            subject_status="suspended", client_id=SUSPENDED_SHOP, subject_cutoff_position=800, key_ids=[REVOKED_KEY]
        ),
        "client suspended and everything after": plain._replace(
            client_id=SUSPENDED_SHOP, subject_cutoff_position=800, key_ids=[REVOKED_KEY]
        ),
        "cut off and a revoked key": plain._replace(subject_cutoff_position=800, key_ids=[REVOKED_KEY]),
        "without roles": plain._replace(subject_role_ids=[]),
        "with unknown roles": plain._replace(subject_role_ids=[_id(99)]),
        "with a removed role": plain._replace(subject_role_ids=[REMOVED, READER]),
        "of a manager": plain._replace(subject_role_ids=[MANAGER]),
        "of a barred manager": plain._replace(subject_role_ids=[MANAGER, BARRED]),
        "of a barred manager, scope manager": plain._replace(subject_role_ids=[MANAGER, BARRED], role_ids=[MANAGER]),
        "of a barred manager, no scope at all": plain._replace(subject_role_ids=[MANAGER, BARRED], role_ids=[], direct=False),
        "scope reader": plain._replace(role_ids=[READER], direct=False),
        "scope of a role it has not": plain._replace(role_ids=[MANAGER], direct=False),
        "scope direct": plain._replace(role_ids=[], direct=True, **_OWN),
        "own rules": plain._replace(**_OWN),
        "own rules, scope clerk": plain._replace(role_ids=[CLERK], direct=False, **_OWN),
        "own rules, clearance 6": plain._replace(subject_clearance=6, **_OWN),
        "own rules of another API": plain._replace(**_OWN_OF_STOCK),
        "clearance 0": plain._replace(subject_clearance=0),
        "clearance 7": plain._replace(subject_clearance=7),
        "clearance 8": plain._replace(subject_clearance=8),
        "clearance 100": plain._replace(subject_clearance=100),
        "clearance 0, scope reader": plain._replace(subject_clearance=0, role_ids=[READER]),
        "stockist": plain._replace(subject_role_ids=[STOCKIST]),
        "stockist and manager": plain._replace(subject_role_ids=[STOCKIST, MANAGER]),
    }


# What a "plain" token is asked about: every form of path, and every method.
_TARGETS: Final = [
    *["/", "/?", "/orders", "/orders?x=/../y", "/orders/", "/orders/7", "/orders/7/", "/orders/7/8", "/Orders", "/orders%2F7"],
    *["/orders/secret", "/orders/%73ecret", "/orders/secret/", "/files", "/files/", "/files/a", "/files/a/b/", "/files/%2e%2e"],
    *[f"/people/{SUBJECT}/orders", f"/people/{SUBJECT}/orders/", "/people/7/orders", f"/people/{str(SUBJECT).upper()}/orders"],
    *[
        "/people/{sub}/orders",
        "/compare/a...b",
        "/compare/a..b",
        "/compare/...",
        "/compare/a....b",
        "/caf%C3%A9",
        "/cafe%CC%81",
    ],
    *["/salaries", "/salaries/7", "/minutes", "/nothing", "/mine", "/both", "/head-only", "/orders/%37", "/orders/%2537"],
    *["", "orders", "*", "https://orders.example/orders", "/orders#7", "/café", "//orders", "/orders//7", "/orders/./7"],
    *["/orders/../files", "/orders/.", "/files/a%5Cb", "/files/a\\b", "/files/%00", "/files/\n", "/files/%0A", "/files/%7F"],
    *[
        "/files/%C2%85",
        "/files/%",
        "/files/%zz",
        "/files/%FF",
        "/files/%C0%AE",
        "/files/%ED%A0%80",
        "/files/a;b",
        "/files/a%3Bb",
    ],
    *["/files/..;/a", "/files/%25", "/files/%2525", "/files/%20a", "/files/...", "/files/a+b", "/files/%E2%80%A8", "/files/**"],
    *["/files" + "/a" * 63, "/files" + "/a" * 64, "/files/" + "a" * 8_185, "/files/" + "a" * 8_186, "/orders?" + "a" * 9_000],
]
_METHODS: Final = ["GET", "HEAD", "POST", "PUT", "OPTIONS", "PURGE"]
_NO_METHODS: Final = ["get", "*", "", "GE T", "GET\n", "GET,POST", "1", "GÉT", "G" * 33]
_SCOPED: Final = ["/orders", "/orders/7", "/orders/secret", "/files/a", "/mine", "/nothing"]
# Tokens that are asked about more than /orders.
_MORE: Final[Mapping[str, list[tuple[str, str]]]] = {
    **{
        name: [("GET", target) for target in _SCOPED]
        for name in (
            "scope reader",
            "scope of a role it has not",
            "scope direct",
            "own rules, scope clerk",
            "own rules of another API",
            "with a removed role",
            "with unknown roles",
            "of a manager",
            "of a barred manager",
            "of a barred manager, scope manager",
            "of a barred manager, no scope at all",
            "without roles",
        )
    },
    **{
        name: [("GET", target) for target in ("/salaries", "/salaries/7", "/minutes", "/orders")]
        for name in ("clearance 0", "clearance 7", "clearance 8", "clearance 100", "clearance 0, scope reader")
    },
    **{
        name: [
            *(("GET", target) for target in (*_SCOPED, "/files/private/a", f"/people/{SUBJECT}")),
            *(("HEAD", target) for target in ("/mine", "/files/private/a")),
            *((method, "/orders/7") for method in ("PUT", "DELETE", "POST")),
            ("PATCH", f"/people/{SUBJECT}"),
            ("PATCH", "/people/7"),
        ]
        for name in ("own rules", "own rules, clearance 6")
    },
}


def cases() -> Iterator[tuple[str, str, Question]]:
    """Answer the cases of the corpus: their names, the names of their tokens, what is asked."""
    for token in tokens():
        for method, target in _MORE.get(token, [("GET", "/orders")]):
            yield f"{token}: {method} {target}", token, question(method, target)
    for target in _TARGETS:
        shown = target if len(target) < 80 else f"{target[:20]}... of {len(target)}"
        yield f"path {shown}", "plain", question("GET", target)
    for method in _METHODS:
        for target in ("/orders", "/orders/secret", "/orders/7/notes/a", "/orders/7/notes/locked/a", "/both", "/head-only"):
            yield f"method {method} {target}", "plain", question(method, target)
    for method in _NO_METHODS:
        yield f"method {method!r}", "plain", question(method)
    for target in ("/orders", "/items", "/items;v=2", "/a/;id=5", "/a%3Bb", "/a/..;/b", "/orders/secret", "/files/private/a"):
        for token in ("stockist", "stockist and manager", "own rules of another API", "own rules", "plain"):
            yield f"stock: {token}: {target}", token, question("GET", target, api_id=STOCK)
    for api_id, token in (
        (ORDERS, "for stock only"),
        (STOCK, "for stock only"),
        (STOCK, "for stock, role withdrawn"),
        (CLOSED, "for a suspended API"),
        (ORDERS, "for a suspended API"),
        (PAUSED, "for a paused API"),
        (CUT, "plain"),
        (CUT, "after the API's cut-off"),
        (_id(98), "plain"),
    ):
        yield f"api {api_id}: {token}", token, question("GET", "/orders", api_id=api_id)
    for token in ("plain", "none", "refresh", "revoked", "jwt"):
        for secret_matches in (False, None):
            yield f"secret {secret_matches}: {token}", token, question(secret_matches=secret_matches)
    for token, target in (
        ("revoked", "/files/.."),
        ("expired", "/files/.."),
        ("plain", "/files/.."),
        ("subject erased", "/files/%"),
    ):
        for method in ("GET", "get"):
            yield f"first: {token}: {method} {target}", token, question(method, target)
    for seconds in (-3_600, 539.999999, 540, 541, 86_400):
        yield f"at {seconds} s", "plain", question(instant=NOON + timedelta(seconds=seconds))
    for position in (1, 500, 12_345_678_901):
        yield f"position {position}", "plain", question(position=position)


# ----------------------------------------------------------------------------------------------------- written and read

_CLIENTS: Final = TypeAdapter(list[Client])
_APIS: Final = TypeAdapter(list[Api])
_ROLES: Final = TypeAdapter(list[Role])
_KEYS: Final = TypeAdapter(list[Key])
_STANDING: Final = TypeAdapter(TokenStanding)
_QUESTION: Final = TypeAdapter(Question)
_DECISION: Final = TypeAdapter(Decision)


@dataclass(frozen=True, slots=True)
class Case:
    """What was asked about which token, and what was answered."""

    question: Question
    token: TokenStanding | None
    answer: Decision


def _as_json(value: Any) -> Any:
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, dict):
        return {name: _as_json(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(item) for item in value]
    return value


def _rows(rows: Iterable[Any]) -> list[Any]:
    return [_as_json(dataclasses.asdict(row)) for row in rows]


# The corpus is older than these members, which no decision about a token looks at.
WITHOUT_KEYS: Final[dict[str, Any]] = {"public_keys": []}
WITHOUT_PREFLIGHTS: Final = {"preflights": False}


def read() -> tuple[Reference, dict[str, Case]]:
    """Answer the corpus: its reference data, and its cases by name."""
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    rules = [(UUID(role_id), line, position) for role_id, line, position in golden["rules"]]
    made = reference(
        _CLIENTS.validate_python([WITHOUT_KEYS | row for row in golden["clients"]]),
        _APIS.validate_python([WITHOUT_PREFLIGHTS | row for row in golden["apis"]]),
        _ROLES.validate_python(golden["roles"]),
        _KEYS.validate_python(golden["keys"]),
        rules,
    )
    standings = {
        name: None if fields is None else _STANDING.validate_python(fields) for name, fields in golden["tokens"].items()
    }
    found = {
        name: Case(
            _QUESTION.validate_python(case["question"]),
            standings[case["token"]],
            _DECISION.validate_python(
                {name: case["question"][name] for name in ("position", "instant", "semantics")} | case["answer"]
            ),
        )
        for name, case in golden["cases"].items()
    }
    return made, found


def add_missing() -> list[str]:
    """Write the cases that the file lacks, decided now; answer their names. What is there stays as it is."""
    golden = json.loads(GOLDEN.read_text(encoding="utf-8")) if GOLDEN.exists() else {"tokens": {}, "cases": {}}
    rows = {
        "clients": _rows(CLIENTS),
        "apis": _rows(APIS),
        "roles": _rows(ROLES),
        "keys": _rows(KEYS),
        "rules": [[str(role_id), line, position] for role_id, line, position in RULES],
    }
    golden = rows | golden
    added = []
    standings = tokens()
    for name, token, asked in cases():
        if name in golden["cases"]:
            continue
        standing = standings[token]
        golden["tokens"].setdefault(token, None if standing is None else _as_json(standing._asdict()))
        answer = _as_json(decide(asked, standing, everything())._asdict())
        for echoed in ("position", "instant", "semantics"):
            del answer[echoed]
        golden["cases"][name] = {"token": token, "question": _as_json(asked._asdict()), "answer": answer}
        added.append(name)
    GOLDEN.write_text(_written(golden), encoding="utf-8")
    return added


def _written(golden: dict[str, Any]) -> str:
    """Answer the file's text: one row, token or case a line, so that a difference can be read."""

    def line(value: Any) -> str:
        return json.dumps(value, separators=(",", ":"))

    parts = []
    for name, content in golden.items():
        if isinstance(content, list):
            parts.append(f"{line(name)}:[\n" + ",\n".join(map(line, content)) + "\n]")
        else:
            entries = (f"{line(entry)}:{line(value)}" for entry, value in content.items())
            parts.append(f"{line(name)}:{{\n" + ",\n".join(entries) + "\n}")
    return "{" + ",\n".join(parts) + "}\n"


def main() -> None:
    """Say what the file lacks or answers otherwise; with --add, add what it lacks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--add", action="store_true", help="add the cases that the file lacks, as they are decided now")
    if parser.parse_args().add:
        added = add_missing()
        print(f"{len(added)} cases added")  # noqa: T201
        return
    made, frozen = read()
    for name, _, _ in cases():
        if name not in frozen:
            print(f"missing: {name}")  # noqa: T201
    for name, case in frozen.items():
        if decide(case.question, case.token, made) != case.answer:
            print(f"otherwise: {name}")  # noqa: T201


if __name__ == "__main__":
    main()
