"""What every ledger has from its first event on, under ids that are the same in all: the API that manages it, its roles,
and the client people log in through. What they may do is said in genesis.py."""

from typing import Final

from ledger.identifiers import name_id

LEDGER_API_NAME: Final = "ledger"
LEDGER_API: Final = name_id("api", LEDGER_API_NAME)
CONSOLE_NAME: Final = "console"
CONSOLE: Final = name_id("client", CONSOLE_NAME)

ADMINISTRATOR_ROLE: Final = name_id("builtin-role", "administrator")
OPERATOR_ROLE: Final = name_id("builtin-role", "operator")
AUDITOR_ROLE: Final = name_id("builtin-role", "auditor")
ROLE_NAMES: Final = {ADMINISTRATOR_ROLE: "administrator", OPERATOR_ROLE: "operator", AUDITOR_ROLE: "auditor"}
