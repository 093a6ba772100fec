"""What is said of an operation beside its code, and the parameters that a query may have."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from api.body import Body
from api.openapi.shapes import CURSOR, ID, INSTANT, NAME, POSITION, TEXT, Schema, one_of
from api.pages import DEFAULT_PAGE, MAX_PAGE
from ledger.decisions import EVALUATORS
from ledger.errors import LedgerError

# Who asks, as security requirements: one of these is enough, and {} is nobody in particular.
WHO: Final[Mapping[str, list[dict[str, list[str]]]]] = {
    "anyone": [{}],
    # A token that a rule of the API `ledger` lets do this.
    "bearer": [{"bearer": []}],
    # One's own things: any token that stands for the API `ledger`.
    "self": [{"bearer": []}],
    "client": [{"client_basic": []}],
    # By HTTP Basic, or in the form: by its name and secret, or by an assertion.
    "form_client": [{"client_basic": []}, {}],
    # A person, by user name and password in the body; the application in front of it may authenticate.
    "person": [{"client_basic": []}, {}],
    "bearer_or_client": [{"bearer": []}, {"client_basic": []}],
    "gateway": [{"gateway_key": []}],
}
Who = Literal["anyone", "bearer", "self", "client", "form_client", "person", "bearer_or_client", "gateway"]

JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer: its schema by media type (None: no body), and headers that it always has."""

    description: str
    content: Mapping[str, Schema] = field(default_factory=dict)
    headers: Mapping[str, Schema] = field(default_factory=dict)


def json_of(schema: Schema, description: str = "Done.", **headers: Schema) -> Answer:
    """Answer an answer in JSON; `headers`: with _ for -."""
    return Answer(description, {JSON: schema}, {name.replace("_", "-"): value for name, value in headers.items()})


@dataclass(frozen=True, slots=True)
class Operation:
    """What an operation is, as far as its code does not say it by itself. __init__.py says how it is written.

    `database`: whether it needs the database, and so can be 503. `headers`: parameters in headers, those in `needed_headers`
    needed. `form`: of application/x-www-form-urlencoded. `json_body`: the schema of a body that is no model of ours.
    `found_first`: what it is about is looked for before its Idempotency-Key is, so that nothing is repeated of what has gone.
    """

    who: Who
    answers: Mapping[int, Answer]
    body: type[Body] | None = None
    optional_body: bool = False
    json_body: Schema | None = None
    form: Schema | None = None
    query: Mapping[str, Schema] | None = None
    needed_query: tuple[str, ...] = ()
    headers: Mapping[str, Schema] = field(default_factory=dict)
    needed_headers: tuple[str, ...] = ()
    refuses: tuple[type[LedgerError], ...] = ()
    repeatable: bool = False
    found_first: bool = False
    database: bool = True

    @property
    def has_body(self) -> bool:
        """Whether a body is read."""
        return self.body is not None or self.json_body is not None or self.form is not None


_AS_OF: Final[Schema] = {"anyOf": [POSITION, INSTANT], "description": "As of this position of the log, or this time."}
_PARAMETERS: Final[Mapping[str, Schema]] = {
    "limit": {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": DEFAULT_PAGE},
    "cursor": CURSOR,
    "as_of": _AS_OF,
    "instant": INSTANT | {"description": "The instant, with a position in `as_of`."},
    "semantics": {"type": "integer", "enum": sorted(EVALUATORS), "description": "With `as_of`: released semantics."},
    "from": _AS_OF,
    "to": _AS_OF,
    "order": one_of(("newest", "oldest")),
    "client": NAME,
    "api": NAME,
    "method": TEXT | {"minLength": 1},
    "path": TEXT | {"minLength": 1},
    "role": TEXT | {"description": "`api:role`, or a role's id."},
    "username": TEXT,
    **dict.fromkeys(("subject_id", "token_id", "family_id", "role_id", "key_id", "actor_id"), ID),
    **dict.fromkeys(("from_time", "to_time", "issued_after", "issued_before"), INSTANT),
    **dict.fromkeys(("from_position", "to_position", "as_of_position"), POSITION),
}


def query(*names: str, **others: Schema) -> dict[str, Schema]:
    """Answer parameters of a query, by their names where they are the same everywhere; `others`: with their schemas."""
    return {name: _PARAMETERS[name] for name in names} | others


def parameters(where: str, schemas: Mapping[str, Schema], needed: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """Answer parameters as OpenAPI has them."""
    return [{"name": name, "in": where, "required": name in needed, "schema": schema} for name, schema in schemas.items()]
