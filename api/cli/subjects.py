"""`token-ledger subject`: people and service accounts."""

from collections.abc import Sequence
from typing import Any, Final

import click

from api.cli.calling import Call, Endpoint, calls, given
from api.cli.options import confirmed, page_options, reason_option, subject_argument, suspension_options
from api.cli.rules import RULE_COLUMNS, read_lines, rule_ids, rule_members
from api.cli.secret_input import read_secret

SUBJECT_COLUMNS: Final = ("subject_id", "kind", "username", "clearance", "roles", "status", "stands")
PERMISSION_COLUMNS: Final = ("api", "role", *RULE_COLUMNS, "applies")
OWN_RULES: Final = Endpoint("GET", "/v1/subjects/{subject_id}/rules")


@click.group("subject")
def subject_group() -> None:
    """People and service accounts, their roles and rules of their own.

    SUBJECT is an id, or else a user name. A user name that looks like an id is an id here.
    """


@subject_group.command("list")
@click.option("--kind", type=click.Choice(["person", "service"]), help="Of this kind only.")
@click.option("--status", type=click.Choice(["active", "suspended", "erased"]), help="With this status only.")
@click.option("--role", metavar="API:ROLE", help="Those who hold this role.")
@page_options
@calls("GET", "/v1/subjects", columns=SUBJECT_COLUMNS, past=True)
def list_subjects(
    call: Call, kind: str | None, status: str | None, role: str | None, limit: int | None, cursor: str | None
) -> None:
    """List subjects, oldest first."""
    call.list("subjects", given(kind=kind, status=status, role=role), limit=limit, cursor=cursor)


@subject_group.command("show")
@subject_argument
@calls("GET", "/v1/subjects/{subject_id}", past=True)
def show(call: Call, subject: str) -> None:
    """Show one subject, with what is personal in clear."""
    call.show(call(subject_id=call.subject_id(subject)))


@subject_group.command("register")
@click.argument("username", required=False)
@click.option("--kind", type=click.Choice(["person", "service"]), default="person", show_default=True, help="What it is.")
@click.option("--display-name", help="The name that people know; personal, so kept sealed.")
@click.option("--email", help="The e-mail address; personal, so kept sealed.")
@click.option("--clearance", type=int, help="A level that rules may ask for; 0 unless said.")
@click.option("--password", "with_password", is_flag=True, help="Ask for a password, or read it from standard input.")
@calls("POST", "/v1/subjects", repeatable=True)
def register(
    call: Call,
    username: str | None,
    kind: str,
    display_name: str | None,
    email: str | None,
    clearance: int | None,
    with_password: bool,
) -> None:
    """Register a person, by USERNAME, or a service account, which has none.

    \b
    token-ledger subject register ann --email ann@example.org --password
    token-ledger subject register bob --password < password.txt
    token-ledger subject register --kind service --display-name 'nightly export'
    """
    password = read_secret("Password", twice=True) if with_password else None
    named = given(username=username, display_name=display_name, email=email, clearance=clearance, password=password)
    call.show(call(body={"kind": kind} | named))


@subject_group.command("profile")
@subject_argument
@click.option("--username", help="The user name; without it there is none any more.")
@click.option("--display-name", help="The name that people know; personal, so kept sealed.")
@click.option("--email", help="The e-mail address; personal, so kept sealed.")
@calls("PUT", "/v1/subjects/{subject_id}/profile", repeatable=True)
def profile(call: Call, subject: str, username: str | None, display_name: str | None, email: str | None) -> None:
    """Set what is personal of a subject, whole: what is left out is removed.

    \b
    token-ledger subject profile ann --username ann --email ann@example.org
    """
    body = given(username=username, display_name=display_name, email=email)
    call.show(call(subject_id=call.subject_id(subject), body=body))


@subject_group.command("password")
@subject_argument
@click.option("--keep-tokens", is_flag=True, help="Do not revoke the tokens the subject has.")
@calls("PUT", "/v1/subjects/{subject_id}/password", repeatable=True)
def password(call: Call, subject: str, keep_tokens: bool) -> None:
    """Set a subject's password, which is asked for or read from standard input, and revoke its tokens.

    Your own: `token-ledger me password`.
    """
    body = {"password": read_secret("New password", twice=True), "keep_tokens": keep_tokens}
    call.show(call(subject_id=call.subject_id(subject), body=body))


@subject_group.command("clearance")
@subject_argument
@click.argument("clearance", type=int)
@calls("PUT", "/v1/subjects/{subject_id}/clearance", repeatable=True)
def clearance(call: Call, subject: str, clearance: int) -> None:
    """Set a subject's clearance, the level that rules may ask for."""
    call.show(call(subject_id=call.subject_id(subject), body={"clearance": clearance}))


# ------------------------------------------------------------------------------------------------------ roles and rules


@subject_group.command("grant-roles")
@subject_argument
@click.argument("roles", metavar="API:ROLE...", nargs=-1, required=True)
@calls("POST", "/v1/subjects/{subject_id}/roles", repeatable=True)
def grant_roles(call: Call, subject: str, roles: Sequence[str]) -> None:
    """Grant roles to a subject.

    \b
    token-ledger subject grant-roles ann orders:reader ledger:auditor
    """
    call.show(call(subject_id=call.subject_id(subject), body={"roles": list(roles)}))


@subject_group.command("withdraw-roles")
@subject_argument
@click.argument("roles", metavar="API:ROLE...", nargs=-1, required=True)
@calls("POST", "/v1/subjects/{subject_id}/roles/withdraw", repeatable=True)
def withdraw_roles(call: Call, subject: str, roles: Sequence[str]) -> None:
    """Withdraw roles from a subject; one that was removed is named by its id."""
    call.show(call(subject_id=call.subject_id(subject), body={"roles": list(roles)}))


@subject_group.command("rules")
@subject_argument
@calls("GET", "/v1/subjects/{subject_id}/rules", columns=("api", *RULE_COLUMNS), past=True)
def rules(call: Call, subject: str) -> None:
    """List the rules of a subject's own, at most 100."""
    call.rows([call(subject_id=call.subject_id(subject))["rules"]])


@subject_group.command("grant-rules")
@subject_argument
@click.argument("api")
@click.argument("rules", metavar="[RULE]...", nargs=-1)
@calls("POST", "/v1/subjects/{subject_id}/rules", repeatable=True)
def grant_rules(call: Call, subject: str, api: str, rules: Sequence[str]) -> None:
    """Grant rules to a subject itself, beside those of its roles. Without RULE: one a line from standard input.

    \b
    token-ledger subject grant-rules ann orders 'allow GET /orders/7' 'deny * /orders/secret'
    """
    own = [{"api": api} | rule_members(line) for line in read_lines(rules)]
    call.show(call(subject_id=call.subject_id(subject), body={"rules": own}))


@subject_group.command("withdraw-rules")
@subject_argument
@click.argument("api")
@click.argument("rules", metavar="RULE...", nargs=-1, required=True)
@calls("POST", "/v1/subjects/{subject_id}/rules/withdraw", repeatable=True)
def withdraw_rules(call: Call, subject: str, api: str, rules: Sequence[str]) -> None:
    """Withdraw rules of a subject's own, each by its id or as it was granted.

    \b
    token-ledger subject withdraw-rules ann orders 'allow GET /orders/7'
    """
    subject_id = call.subject_id(subject)

    def standing() -> list[Any]:
        return [rule for rule in call.read(OWN_RULES, subject_id=subject_id)["rules"] if rule["api"] == api]

    call.show(call(subject_id=subject_id, body={"rule_ids": rule_ids(rules, standing)}))


@subject_group.command("permissions")
@subject_argument
@click.option("--api", help="Of this API only.")
@page_options
@calls("GET", "/v1/subjects/{subject_id}/permissions", columns=PERMISSION_COLUMNS, past=True)
def permissions(call: Call, subject: str, api: str | None, limit: int | None, cursor: str | None) -> None:
    """List what a subject may call: the rules of its roles, and its own, which have no role.

    `applies` is false where its clearance is not enough. A deny that fits overrules every allow.
    """
    subject_id = call.subject_id(subject)
    call.list("permissions", given(api=api), limit=limit, cursor=cursor, subject_id=subject_id)


# ------------------------------------------------------------------------------------ suspension, revocation, erasure


@subject_group.command("suspend")
@subject_argument
@suspension_options
@calls("POST", "/v1/subjects/{subject_id}/suspend", repeatable=True)
def suspend(call: Call, subject: str, reason: str, until: str | None) -> None:
    """Suspend a subject, and with it every token it has; `reinstate` ends it.

    \b
    token-ledger subject suspend ann --reason 'laptop lost' --until 2030-01-31T12:00:00Z
    """
    call.show(call(subject_id=call.subject_id(subject), body=given(reason=reason, until=until)))


@subject_group.command("reinstate")
@subject_argument
@reason_option
@calls("POST", "/v1/subjects/{subject_id}/reinstate", repeatable=True)
def reinstate(call: Call, subject: str, reason: str | None) -> None:
    """End a subject's suspension."""
    call.show(call(subject_id=call.subject_id(subject), body=given(reason=reason)))


@subject_group.command("revoke-tokens")
@subject_argument
@click.option("--issued-before", metavar="INSTANT", help="Only those whose issue was recorded before it (RFC 3339).")
@reason_option
@calls("POST", "/v1/subjects/{subject_id}/revoke-tokens", repeatable=True)
def revoke_tokens(call: Call, subject: str, issued_before: str | None, reason: str | None) -> None:
    """Revoke every token a subject has been issued so far, for good; it may obtain new ones."""
    call.show(call(subject_id=call.subject_id(subject), body=given(issued_before=issued_before, reason=reason)))


@subject_group.command("erase")
@subject_argument
@reason_option
@confirmed("What is personal of this subject is gone for good, and so are its tokens. Erase it?")
@calls("POST", "/v1/subjects/{subject_id}/erase", repeatable=True)
def erase(call: Call, subject: str, reason: str | None) -> None:
    """Erase what is personal of a subject by destroying its key, and revoke its tokens; for good."""
    call.show(call(subject_id=call.subject_id(subject), body=given(reason=reason)))
