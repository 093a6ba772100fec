"""Lets no request reach a Python API, WSGI or ASGI, that Token Ledger has not said yes to. README.md; the way in: guard.py."""

from token_ledger_guard.answers import Identity
from token_ledger_guard.guard import IDENTITY, Guard, identity_of

__all__ = ["IDENTITY", "Guard", "Identity", "identity_of"]
