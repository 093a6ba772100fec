"""`token-ledger audit`: what happened, by whom, when, and what it made of things."""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import click

from api.cli.calling import MAX_PAGE, Call, Endpoint, calls, given
from api.cli.connection import Unreachable
from api.cli.options import Plan, page_options, plan_option, reason_option, then_options
from api.cli.output import escaped
from api.cli.questions import NO

EVENT_COLUMNS: Final = ("position", "recorded_at", "actor", "type", "stream", "version")
CHANGE_COLUMNS: Final = ("after_position", "before_position", "kind", "id", "what")
CHANGED_KINDS: Final = ("token", "family", "subject", "subject_rules", "client", "api", "role", "key")
ABLE_COLUMNS: Final = ("subject_id", "kind", "rule")
ENTRY_COLUMNS: Final = ("position", "instant", "who", "what", "about", "why", "after")
LINE_COLUMNS: Final = ("position", "instant", "edge", "from", "what", "who", "about", "why", "undo")
STEP_COLUMNS: Final = ("takes_back", "verb", "kind", "id", "outcome", "position")
BLAST_RADIUS: Final = "/v1/audit/blast-radius"

# How long the server is asked to wait for an event, and how long is waited for a server.
WAIT_SECONDS: Final = 25
AGAIN_SECONDS: Final = 2.0


@click.group("audit")
def audit_group() -> None:
    """What happened, by whom, when, and what it made of things."""


@audit_group.command("events")
@click.option("--subject", metavar="SUBJECT", help="About this subject, by id or user name.")
@click.option("--client", help="About this client.")
@click.option("--api", help="About this API.")
@click.option("--token-id", metavar="ID", help="About this token.")
@click.option("--family-id", metavar="ID", help="About this family of tokens.")
@click.option("--role-id", metavar="ID", help="About this role.")
@click.option("--key-id", metavar="ID", help="About this key.")
@click.option("--type", "types", metavar="TYPE", multiple=True, help="Of this type, as in token_revoked; repeatable.")
@click.option("--actor", metavar="SUBJECT|CLIENT_ID", help="By this actor: a subject, or a client by its id.")
@click.option("--from-time", metavar="INSTANT", help="At or after, as in 2030-01-31T12:00:00Z.")
@click.option("--to-time", metavar="INSTANT", help="Before.")
@click.option("--from-position", type=int, metavar="P", help="At or after this position of the log.")
@click.option("--to-position", type=int, metavar="P", help="At or before this position.")
@click.option("--order", type=click.Choice(["newest", "oldest"]), help="Which come first; the newest unless said.")
@page_options
@calls("GET", "/v1/audit/events", columns=EVENT_COLUMNS)
def events(
    call: Call,
    subject: str | None,
    actor: str | None,
    types: Sequence[str],
    limit: int | None,
    cursor: str | None,
    **filters: Any,
) -> None:
    """List the events that match every filter; `--json` has all that they say.

    \b
    token-ledger audit events --subject ann --from-time 2030-01-01T00:00:00Z
    token-ledger audit events --type token_revoked --type family_revoked --limit 20
    """
    query = given(
        subject_id=None if subject is None else call.subject_id(subject),
        actor_id=None if actor is None else call.subject_id(actor),
        type=",".join(types) or None,
        **filters,
    )
    call.list("events", query, limit=limit, cursor=cursor)


@audit_group.command("follow")
@click.option("--after", metavar="CURSOR|now", help="What comes after this cursor, or from now on; all unless said.")
@click.option("--type", "types", metavar="TYPE", multiple=True, help="Of this type, as in token_revoked; repeatable.")
@click.option("--once", is_flag=True, help="End where the log ends now.")
@calls("GET", "/v1/feed", columns=EVENT_COLUMNS)
def follow(call: Call, after: str | None, types: Sequence[str], once: bool) -> None:
    """Print events as they are recorded, oldest first, until it is stopped; `--json` has all that they say.

    Goes on by itself after a server that was away. The last line on standard error is the cursor to go on from.

    \b
    token-ledger audit follow --after now --type token_revoked --type family_revoked
    token-ledger audit follow --once --json > log.jsonl
    """
    place = Place(after)
    try:
        call.rows(_followed(call, given(types=",".join(types) or None), place, once=once))
    finally:
        if place.after not in (None, "now"):
            click.echo(f"To go on: --after {escaped(str(place.after))}", err=True)


@dataclass(slots=True)
class Place:
    """Where a reader of the feed is: all before `after` was printed."""

    after: str | None


def _followed(call: Call, query: Mapping[str, Any], place: Place, *, once: bool) -> Iterator[Sequence[dict[str, Any]]]:
    while True:
        try:
            page = call(query={**query, "after": place.after, "limit": MAX_PAGE, "wait": 0 if once else WAIT_SECONDS})
        except Unreachable as away:
            if once:
                raise
            click.echo(f"{away.format_message()}; trying again", err=True)
            time.sleep(AGAIN_SECONDS)
            continue
        if page["events"]:
            yield page["events"]
        place.after = page["cursor"]
        if once and not page["more"]:
            return


@audit_group.command("timeline")
@click.option("--token-id", metavar="ID", help="Of this token.")
@click.option("--family-id", metavar="ID", help="Of this family of tokens.")
@click.option("--subject", metavar="SUBJECT", help="Of this subject, by id or user name.")
@click.option("--client", help="Of this client.")
@page_options
@calls("GET", "/v1/audit/timeline", columns=ENTRY_COLUMNS, past=True)
def timeline(call: Call, subject: str | None, limit: int | None, cursor: str | None, **whose: str | None) -> None:
    """List what happened to one token, family, subject or client, oldest first, with the state after each.

    The last line says what is now.

    \b
    token-ledger audit timeline --token-id 0195f4a0-...
    token-ledger audit timeline --subject ann
    """
    query = given(subject_id=None if subject is None else call.subject_id(subject), **whose)
    if len(query) != 1:
        raise click.UsageError("one of --token-id, --family-id, --subject, --client")
    call.rows(_entries(call, query, limit, cursor))


@audit_group.command("decision")
@click.argument("token_id")
@click.argument("api")
@click.argument("method")
@click.argument("path")
@then_options
@calls("GET", "/v1/audit/decision")
def decision(call: Call, **question: str | int | None) -> None:
    """May the token TOKEN_ID call METHOD on PATH of API; could it then?

    The exit status is 0 for yes and 4 for no. Position, instant and semantics of an answer, asked again, give the same answer
    for ever.

    \b
    token-ledger audit decision 0195f4a0-... orders GET /orders/7 --as-of 2030-01-31T12:00:00Z
    """
    answer = call(query=question)
    call.output.one(answer if call.output.as_json else {"decision": answer["decision"]} | answer["context"])
    sys.exit(0 if answer["decision"] else NO)


@audit_group.command("blast-radius")
@click.option("--token-id", metavar="ID", help="Of a token that leaked: what was done with it, and issued from it.")
@click.option("--actor", metavar="SUBJECT|CLIENT_ID", help="Of a rogue: a subject, or a client by its id.")
@click.option("--key-id", metavar="ID", help="Of a key that leaked: the tokens made with it.")
@click.option("--from-position", type=int, metavar="P", help="From this position on; without any of the above: all of it.")
@click.option("--from-time", metavar="INSTANT", help="The same by time, as in 2030-01-31T12:00:00Z.")
@click.option("--to-position", type=int, metavar="P", help="Where an interval ends.")
@click.option("--to-time", metavar="INSTANT", help="The same by time: before it.")
@click.option("--as-of-position", type=int, metavar="P", help="As it was at this position of the log.")
@click.option("--revoke", is_flag=True, help="Take it back after it was listed: by new events only, as the list says.")
@plan_option
@click.option("--yes", is_flag=True, help="With --revoke: neither list nor ask.")
@reason_option
@page_options
@calls("GET", BLAST_RADIUS, columns=LINE_COLUMNS, also=Endpoint("POST", BLAST_RADIUS))
def blast_radius(
    call: Call,
    actor: str | None,
    limit: int | None,
    cursor: str | None,
    revoke: bool,
    plan: Plan | None,
    yes: bool,
    reason: str | None,
    **start: Any,
) -> None:
    """List everything that a leaked token, a rogue actor, a bad key or an interval led to, and by which edge from where.

    The last column says how it would be taken back; with --revoke it is, exactly so, after a question. A run that was cut off
    goes on with the same start and the --plan that it named.

    \b
    token-ledger audit blast-radius --token-id 0195f4a0-... --from-time 2030-01-31T12:00:00Z
    token-ledger audit blast-radius --actor mallory --from-position 40100 --revoke --reason 'incident 17'
    """
    if revoke and (limit is not None or cursor is not None):
        raise click.UsageError("what is taken back is the whole plan: no --limit and no --cursor")
    query = given(actor_id=None if actor is None else call.subject_id(actor), **start)
    if plan is not None:
        query["as_of_position"] = plan.as_of_position
    if not (revoke and yes):
        call.rows(_lines(call, query, limit, cursor))
    if not revoke:
        return
    first = call(query={**query, "limit": 1})
    if plan is not None and plan.plan_id != first["plan_id"]:
        raise click.UsageError("--plan is of another start")
    body = query | given(as_of_position=first["as_of_position"], plan_id=first["plan_id"], reason=reason)
    click.echo(f"Plan {first['as_of_position']}.{first['plan_id']}: {first['steps']} steps.", err=True)
    if first["steps"] and not yes:
        click.confirm("Take these back?", abort=True, err=True)
    call.rows(_steps(call, body), STEP_COLUMNS)


def _lines(call: Call, query: dict[str, Any], limit: int | None, cursor: str | None) -> Iterator[Sequence[dict[str, Any]]]:
    """Answer the lines page by page, all as of the position of the first, and say what is left out."""
    page: dict[str, Any] = {}
    for page in call.pages("lines", query, limit=limit, cursor=cursor):
        query["as_of_position"] = page["as_of_position"]
        if call.output.as_json:
            yield page["lines"]
        else:
            besides = [{"position": None, "undo": _told(step)} for step in page["undo_besides"]]
            yield [*({**line, "undo": ", ".join(map(_told, line["undo"]))} for line in page["lines"]), *besides]
    for left in page["left_out"]:
        whose = "the start" if left["from"] is None else f"position {left['from']}"
        click.echo(f"Not to the end: {left['edge']} from {whose}.", err=True)
    click.echo(f"{page['count']} events as of position {page['as_of_position']}.", err=True)


def _told(step: Mapping[str, Any]) -> str:
    """Answer a step in a few words."""
    if step["verb"] == "none":
        return f"left: {step['why']}"
    may = "" if step["may"] else " (not allowed)"
    return f"{step['verb'].replace('_', ' ')} {step['kind']} {step['id']}{may}"


def _steps(call: Call, body: dict[str, Any]) -> Iterator[Sequence[dict[str, Any]]]:
    """Take a plan back to its end, and answer what became of its steps."""
    while True:
        answer = call.also(body)
        yield answer["steps"]
        if answer["done"]:
            return
        body["cursor"] = answer["next"]


@audit_group.command("who-could")
@click.argument("api")
@click.argument("method")
@click.argument("path")
@then_options
@page_options
@calls("GET", "/v1/audit/who-could", columns=ABLE_COLUMNS)
def who_could(call: Call, limit: int | None, cursor: str | None, **question: str | int | None) -> None:
    """List the subjects that may call METHOD on PATH of API, or could then, each with the rule that lets it.

    By the roles and rules of subjects that stand, whatever tokens they have.

    \b
    token-ledger audit who-could orders DELETE /orders/7 --as-of 2030-01-31T12:00:00Z
    """
    call.list("subjects", question, limit=limit, cursor=cursor)


@audit_group.command("changes")
@click.option("--from", "from_", metavar="POSITION|INSTANT", required=True, help="After that position of the log, or time.")
@click.option("--to", metavar="POSITION|INSTANT", help="Up to there; without it, up to now.")
@click.option("--kind", type=click.Choice(CHANGED_KINDS), help="Of this kind.")
@page_options
@calls("GET", "/v1/audit/changes", columns=CHANGE_COLUMNS)
def changes(call: Call, from_: str, limit: int | None, cursor: str | None, **query: str | None) -> None:
    """List what is in another state than it was: once each, with the event that made it so.

    What it was: the same thing's `show --as-of`, or `audit timeline`.

    \b
    token-ledger audit changes --from 2030-01-31T12:00:00Z --to 2030-01-31T13:00:00Z --kind subject
    """
    call.list("changes", {"from": from_, **query}, limit=limit, cursor=cursor)


def _entries(call: Call, query: Mapping[str, Any], limit: int | None, cursor: str | None) -> Iterator[Sequence[dict[str, Any]]]:
    """Answer the entries page by page, and then what is now: as the members of the answer where JSON is printed."""
    page: dict[str, Any] = {"entries": []}
    for following in call.pages("entries", query, limit=limit, cursor=cursor):
        yield page["entries"]
        page = following
    if call.output.as_json:
        now = {name: value for name, value in page.items() if name not in ("entries", "next")}
    else:
        now = {"position": page["position"], "instant": page["instant"], "what": "now", "after": page["now"]}
    yield [*page["entries"], now]
