"""The error tree: every refusal has a stable code and carries its evidence as attributes.

A refusal raised in `decide` or at the door means: rolled back, nothing recorded. api/errors.py maps the tree to HTTP in one
place; nothing here knows of HTTP.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal
from uuid import UUID


class LedgerError(Exception):
    """Anything Token Ledger refuses. `code` is stable and documented; the message is for a person and holds no secret.

    The first paragraph of the docstring is the cause, and `cure` what to do about it: docs/errors.md is made of them.
    """

    code: ClassVar[str] = "error"
    cure: ClassVar[str] = "Read the message."

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


@dataclass(frozen=True)
class Problem:
    """One thing wrong with an input: the member it is about (a dotted path, "" for the whole) and the rule it breaks."""

    field: str
    rule: str


class InvalidInput(LedgerError):
    """The input breaks a rule; `problems` names every field and its rule."""

    code = "invalid_input"
    cure = "Correct what `problems` names: each has the member or parameter (`field`) and the rule it breaks."

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("; ".join(f"{p.field or 'input'}: {p.rule}" for p in problems))
        self.problems = tuple(problems)

    @classmethod
    def of(cls, field: str, rule: str) -> "InvalidInput":
        return cls([Problem(field, rule)])


class NotFound(LedgerError):
    """What the request names is not there."""

    code = "not_found"
    cure = "Look the name or the id up in the listing; ids are UUIDs in their one spelling."


class IsArchived(LedgerError):
    """What the answer needs was archived: the events from_position to before to_position, in `partition`."""

    code = "partition_archived"
    cure = "Ask as of a later position, or read the files of the archive: docs/archive.md."

    def __init__(self, partition: str, from_position: int, to_position: int) -> None:
        super().__init__(
            f"this needs events of {partition}, positions {from_position} to {to_position - 1}, which are archived;"
            f" what needs none from before position {to_position} may be asked"
        )
        self.partition = partition
        self.from_position = from_position
        self.to_position = to_position


class Refused(LedgerError):
    """The state of the ledger does not allow it."""

    code = "refused"
    cure = "Read `detail`: it says what stands in the way."


class TryAgain(LedgerError):
    """Not now: too much is under way, or the database is away. `retry_after_seconds` is an advice."""

    code = "try_again"
    cure = "Send the same request again after `Retry-After` seconds, a command under the same Idempotency-Key."
    retry_after_seconds: int = 1


class NotAuthenticated(LedgerError):
    """Nobody, or nobody we know, says so. The same words whatever is wrong."""

    code = "not_authenticated"
    cure = "Present a token, or a client's name and secret, that stands; `WWW-Authenticate` says by which scheme."


class NotAllowed(LedgerError):
    """We know who asks, and it may not."""

    code = "not_allowed"
    cure = "Have an administrator grant the role or rule that allows it, or ask with another token or client."


# ------------------------------------------------------------------------ subjects, clients, APIs, roles: management


class UnknownSubject(NotFound):
    """There is no such subject."""

    code = "unknown_subject"
    cure = "Find the subject by its user name: `GET /v1/subjects?username=`, or `token-ledger subject list`."

    def __init__(self, subject_id: UUID | str) -> None:
        super().__init__("there is no such subject")
        self.subject_id = subject_id


class UnknownClient(NotFound):
    """There is no such client; `client` is its id or its name."""

    code = "unknown_client"
    cure = "Clients are named by their names: `GET /v1/clients`, or `token-ledger client list`."

    def __init__(self, client: UUID | str) -> None:
        super().__init__("there is no such client")
        self.client = client


class UnknownApi(NotFound):
    """There is no such API; `api` is its id or its name."""

    code = "unknown_api"
    cure = "APIs are named by their names: `GET /v1/apis`, or `token-ledger api list`."

    def __init__(self, api: UUID | str) -> None:
        super().__init__("there is no such API")
        self.api = api


class UnknownRole(NotFound):
    """There is no such role, or not any more; `role` is its id or its name."""

    code = "unknown_role"
    cure = "Roles are named `api:role`, and one that was removed by its id: `GET /v1/apis/{name}/roles`."

    def __init__(self, role: UUID | str) -> None:
        super().__init__("there is no such role")
        self.role = role


class NameIsTaken(Refused):
    """The name must be unique and somebody has it."""

    code = "name_taken"
    cure = (
        "Choose another name. Names of clients, APIs and roles are for ever; a user name is free again once its "
        "person is renamed or erased."
    )

    def __init__(self, kind: Literal["user", "client", "api", "role"]) -> None:
        super().__init__(f"this {kind} name is taken")
        self.kind = kind


class LastAdministrator(Refused):
    """Nobody could administer the ledger any more."""

    code = "last_administrator"
    cure = "Make another administrator first (`POST /v1/subjects/{subject_id}/roles` with `ledger:administrator`)."

    def __init__(self, subject_id: UUID) -> None:
        super().__init__("the last administrator cannot go: make another one first")
        self.subject_id = subject_id


class BuiltIn(Refused):
    """What the ledger itself lives by cannot be changed so; `what` names it."""

    code = "built_in"
    cure = "Leave it as it is; make a role, client or API of your own for what you want."

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} is built in")
        self.what = what


class SubjectIsErased(Refused):
    """The subject was erased, for good."""

    code = "subject_erased"
    cure = "Register a new subject: nothing brings an erased one back."

    def __init__(self, subject_id: UUID) -> None:
        super().__init__("the subject was erased, for good")
        self.subject_id = subject_id


class NotAPerson(Refused):
    """A service account has neither user name nor password."""

    code = "not_a_person"
    cure = "Let a service account authenticate as its client, by the client's secret."

    def __init__(self, subject_id: UUID) -> None:
        super().__init__("a service account has neither user name nor password")
        self.subject_id = subject_id


class NoSecret(Refused):
    """A public client has no secret."""

    code = "no_secret"
    cure = "Register a confidential client where a secret can be kept."

    def __init__(self, client_id: UUID) -> None:
        super().__init__("a public client has no secret and no key")
        self.client_id = client_id


class TooManyRoles(Refused):
    """A subject holds at most `limit` roles."""

    code = "too_many_roles"
    cure = "Withdraw roles first, or put their rules into one role."

    def __init__(self, wanted: int, limit: int) -> None:
        super().__init__(f"a subject holds at most {limit} roles, this would make {wanted}")
        self.wanted = wanted
        self.limit = limit


class TooManyRules(Refused):
    """A subject or a role holds at most `limit` rules."""

    code = "too_many_rules"
    cure = "Withdraw rules first, or say several by one path with `{}` or `/**`."

    def __init__(self, wanted: int, limit: int) -> None:
        super().__init__(f"at most {limit} rules, this would make {wanted}")
        self.wanted = wanted
        self.limit = limit


class PlanIsPast(Refused):
    """What a plan listed is not what it would do now: something that it is about has changed since."""

    code = "plan_is_past"
    cure = "Make it anew by another dry run, look at it, and run that."
