"""What a client, an API or a role may be called. User names are another matter: they are personal (sealing.py)."""

from typing import Final

from ledger.errors import InvalidInput
from ledger.identifiers import normalize_name

# In a scope it stands for the subject's own rules.
DIRECT: Final = "direct"


def check_name(name: str, field: str = "name") -> None:
    """Refuse what cannot be the name of a client or an API: InvalidInput naming `field`.

    No colon: it ends a client's name in Basic credentials (RFC 7617 section 2) and an API's in `api:role`.
    """
    normalize_name(name, field)
    if ":" in name:
        raise InvalidInput.of(field, "no colon")


def check_role_name(name: str, field: str = "name") -> None:
    """Refuse what cannot be the name of a role: InvalidInput naming `field`."""
    normalize_name(name, field)
    if name == DIRECT:
        raise InvalidInput.of(field, "`direct` is reserved: it stands for a subject's own rules")
