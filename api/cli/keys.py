"""`token-ledger key`: the keys that tokens are made with."""

from typing import Final

import click

from api.cli.calling import Call, calls

KEY_COLUMNS: Final = ("key_id", "use", "algorithm", "status", "made_at")


@click.group("key")
def key_group() -> None:
    """The keys that tokens are made with."""


@key_group.command("list")
@calls("GET", "/v1/keys", columns=KEY_COLUMNS)
def list_keys(call: Call) -> None:
    """List every key there ever was, oldest first; never a secret part."""
    call.rows([call()["keys"]])
