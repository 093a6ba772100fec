"""What a client, an API or a role may be called. User names are another matter: they are personal (sealing.py)."""

import re
from typing import Final

from ledger.errors import InvalidInput

# They stand in URLs, in Basic credentials (no colon before the secret) and in scopes (`api:role`, RFC 6749 section 3.3), byte
# for byte: ASCII, so that no two look alike by normalisation.
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,63}")
_ROLE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~:-]{0,63}")
# In a scope it stands for the subject's own rules.
DIRECT: Final = "direct"


def check_name(name: str, field: str = "name") -> None:
    """Refuse what cannot be the name of a client or an API: InvalidInput naming `field`."""
    if _NAME.fullmatch(name) is None:
        raise InvalidInput.of(field, "1 to 64 of A-Z a-z 0-9 . _ ~ -, beginning with a letter or digit")


def check_role_name(name: str, field: str = "name") -> None:
    """Refuse what cannot be the name of a role: InvalidInput naming `field`."""
    if name == DIRECT:
        raise InvalidInput.of(field, "`direct` is reserved: it stands for a subject's own rules")
    if _ROLE_NAME.fullmatch(name) is None:
        raise InvalidInput.of(field, "1 to 64 of A-Z a-z 0-9 . _ ~ : -, beginning with a letter or digit")
