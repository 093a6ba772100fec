"""`token-ledger check` and `introspect`: what a resource server asks, asked by hand."""

import sys
from typing import Final

import click

from api.cli.calling import Call, calls, given
from api.cli.options import then_options
from api.cli.output import escaped
from api.cli.secret_input import read_secret

# The answer is no: it is neither an error nor a yes.
NO: Final = 4


@click.command("check")
@click.argument("client")
@click.argument("method")
@click.argument("path")
@then_options
@calls("POST", "/access/v1/evaluation")
def check(call: Call, client: str, method: str, path: str, **then: str | int | None) -> None:
    """May this token call METHOD on PATH of the API that CLIENT serves; could it then?

    Asked as the resource server asks: CLIENT's secret and then the token are asked for, or read from standard input, a line
    each. The exit status is 0 for yes and 4 for no.

    \b
    printf '%s\\n%s\\n' "$SECRET" "$TOKEN" | token-ledger check orders-api GET /orders/7
    """
    secret, token = read_secret(f"Secret of {client}"), read_secret("Token")
    question = {
        "subject": {"type": "token", "id": token},
        "action": {"name": method},
        "resource": {"type": "route", "id": path},
        "context": given(**then),
    }
    answer = call(body=question, who=(client, secret))
    call.output.one(answer if call.output.as_json else {"decision": answer["decision"]} | answer["context"])
    sys.exit(0 if answer["decision"] else NO)


@click.command("introspect")
@click.argument("client")
@then_options
@calls("POST", "/oauth/introspect")
def introspect(call: Call, client: str, **then: str | int | None) -> None:
    """What does this token stand for, to the API that CLIENT serves; what did it stand for then?

    CLIENT's secret and then the token are asked for, or read from standard input, a line each. The exit status is 0 for an
    active token and 4 for any other.

    \b
    printf '%s\\n%s\\n' "$SECRET" "$TOKEN" | token-ledger introspect orders-api --json
    """
    secret, token = read_secret(f"Secret of {client}"), read_secret("Token")
    form = {"token": token} | {name: str(value) for name, value in given(**then).items()}
    answer = call(form=form, who=(client, secret))
    call.output.one(answer)
    sys.exit(0 if answer["active"] else NO)


@click.command("explain")
@click.argument("token_id")
@click.argument("api")
@click.argument("method")
@click.argument("path")
@then_options
@calls("GET", "/v1/audit/explain")
def explain(call: Call, **question: str | int | None) -> None:
    """Why may the token TOKEN_ID call METHOD on PATH of API, or why not; why could it then?

    In sentences: who issued, granted, suspended or revoked what it rests on, at which position, when and why. By the id of the
    token, for auditors. The exit status is 0 for yes and 4 for no.

    \b
    token-ledger explain 0195f4a0-... orders GET /orders/7
    token-ledger explain 0195f4a0-... orders GET /orders/7 --as-of 2030-01-31T12:00:00Z
    """
    answer = call(query=question)
    if call.output.as_json:
        call.output.one(answer)
    else:
        for sentence in answer["sentences"]:
            click.echo(escaped(sentence["text"]))
    sys.exit(0 if answer["decision"] else NO)
