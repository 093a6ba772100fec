"""`token-ledger key`: the keys that tokens are made with."""

from typing import Final

import click

from api.cli.calling import Call, calls, given
from api.cli.options import confirmed

KEY_COLUMNS: Final = ("key_id", "use", "algorithm", "status", "made_at", "changed_at", "status_reason", "published")


@click.group("key")
def key_group() -> None:
    """The keys that tokens are made with."""


@key_group.command("list")
@calls("GET", "/v1/keys", columns=KEY_COLUMNS, past=True)
def list_keys(call: Call) -> None:
    """List every key there ever was, oldest first; never a secret part."""
    call.rows([call()["keys"]])


@key_group.command("make")
@click.argument("use", type=click.Choice(["sig", "enc"]))
@click.option("--algorithm", help="EdDSA, ES256 or RS256 to sign, A256GCM to encrypt; at first that of the active key.")
@calls("POST", "/v1/keys", repeatable=True)
def make(call: Call, use: str, algorithm: str | None) -> None:
    """Make a key for signing (sig) or encryption (enc): pending, and a public one is published from now on.

    \b
    token-ledger key make sig --algorithm ES256
    """
    call.show(call(body=given(use=use, algorithm=algorithm)))


@key_group.command("activate")
@click.argument("key_id")
@calls("POST", "/v1/keys/{key_id}/activate", repeatable=True)
def activate(call: Call, key_id: str) -> None:
    """Make new tokens with a pending key; the active one of its use is retired."""
    call.show(call(key_id=key_id))


@key_group.command("retire")
@click.argument("key_id")
@calls("POST", "/v1/keys/{key_id}/retire", repeatable=True)
def retire(call: Call, key_id: str) -> None:
    """Let a pending key never be used."""
    call.show(call(key_id=key_id))


@key_group.command("revoke")
@click.argument("key_id")
@click.option("--reason", required=True, help="Why; no personal data, it stands in the log for ever.")
@confirmed("Every token made with it is dead at once, for good. Revoke it?")
@calls("POST", "/v1/keys/{key_id}/revoke", repeatable=True)
def revoke(call: Call, key_id: str, reason: str) -> None:
    """Revoke a key: every token made with it is dead at once; another comes in the place of the active one."""
    call.show(call(key_id=key_id, body={"reason": reason}))
