"""Secrets are typed at a prompt or read from standard input, a line each; never an argument, which every process can see."""

import sys
from typing import Final

import click

# More than any password or token of ours; a line without an end is read no further.
MAX_BYTES: Final = 16 * 1024


def read_secret(what: str, *, twice: bool = False) -> str:
    """Answer a secret: asked for on a terminal (`twice`: a new one, against a slip), else the next line of standard input."""
    if sys.stdin.isatty():
        secret: str = click.prompt(what, hide_input=True, confirmation_prompt=twice, err=True)
        return secret
    line = sys.stdin.buffer.readline(MAX_BYTES + 1)
    secret = _text(line, what).removesuffix("\n").removesuffix("\r")
    if not secret:
        raise click.UsageError(f"{what} is expected on standard input, alone on its line")
    return secret


def _text(line: bytes, what: str) -> str:
    if len(line) > MAX_BYTES:
        raise click.UsageError(f"{what} on standard input is longer than {MAX_BYTES} bytes")
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise click.UsageError(f"{what} on standard input is not UTF-8") from None
