"""Arguments and options that commands have in common."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

import click

Function = TypeVar("Function", bound=Callable[..., Any])


def subject_argument(function: Function) -> Function:
    """SUBJECT: an id, or else a user name (`Call.subject_id`)."""
    return click.argument("subject")(function)


def role_argument(function: Function) -> Function:
    """API:ROLE, as two parameters: `api` and `role`."""
    return click.argument("role", metavar="API:ROLE", type=RoleName())(function)


class RoleName(click.ParamType["tuple[str, str]"]):
    """`api:role`: an API's name has no colon, a role's may."""

    name = "api:role"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Answer both names."""
        if isinstance(value, tuple):
            return value
        api, _, role = str(value).partition(":")
        if not api or not role:
            self.fail("a role is named API:ROLE, as in orders:reader", param, ctx)
        return api, role


def suspension_options(function: Function) -> Function:
    """--reason, which a suspension must have, and --until."""
    until = click.option("--until", metavar="INSTANT", help="When it ends by itself, as in 2030-01-31T12:00:00Z.")
    reason = click.option("--reason", required=True, help="Why; no personal data, it stands in the log for ever.")
    return reason(until(function))


def reason_option(function: Function) -> Function:
    """--reason, where it may be left out."""
    return click.option("--reason", help="Why; no personal data, it stands in the log for ever.")(function)


def page_options(function: Function) -> Function:
    """--limit and --cursor of a listing."""
    cursor = click.option("--cursor", help="Go on after this place, which a listing cut by --limit names.")
    limit = click.option("--limit", type=click.IntRange(min=1), help="At most so many; without it all there are.")
    return limit(cursor(function))


def as_of_options(function: Function) -> Function:
    """--as-of, and the instant that may go with a position."""
    instant = click.option("--instant", metavar="INSTANT", help="By which time: as a decision has said it, with its position.")
    as_of = click.option("--as-of", metavar="POSITION|INSTANT", help="As it was at that position of the log, or at that time.")
    return as_of(instant(function))


def then_options(function: Function) -> Function:
    """The same for a decision, and --semantics."""
    semantics = click.option("--semantics", type=int, help="Under these semantics: as a decision has said them.")
    return as_of_options(semantics(function))


def confirmed(question: str) -> Callable[[Function], Function]:
    """Ask before what cannot be undone; --yes answers."""
    return click.confirmation_option("--yes", prompt=question, help="Do not ask whether it is meant.")


class Plan(NamedTuple):
    """A plan that a dry run has made."""

    as_of_position: int
    plan_id: str


def plan_of(text: str | None) -> Plan | None:
    """Answer a plan as it is named, or None; a usage error for what is none."""
    if text is None:
        return None
    position, _, plan_id = text.partition(".")
    if not (position.isascii() and position.isdigit() and len(position) <= 16 and is_id(plan_id)):
        raise click.BadParameter("as it was named: POSITION.ID")
    return Plan(int(position), plan_id)


def plan_option(function: Function) -> Function:
    """--plan, by which a run that was cut off goes on."""

    def read(_context: click.Context, _parameter: click.Parameter, value: str | None) -> Plan | None:
        return plan_of(value)

    return click.option("--plan", metavar="PLAN", callback=read, help="Go on with this one.")(function)


def is_id(text: str) -> bool:
    """Say whether a text is an id as the ledger writes them, and so no name."""
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False
