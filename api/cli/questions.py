"""`token-ledger check` and `introspect`: what a resource server asks, asked by hand."""

import sys
from typing import Final

import click

from api.cli.calling import Call, calls, given
from api.cli.options import then_options
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
