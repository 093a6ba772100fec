"""The command line `token-ledger`. It speaks HTTP, but for the commands of local.py, which open the database.

calling.py says how a command calls its endpoint; docs/cli.md is for whoever uses it.
"""

from collections.abc import Sequence

import click

from api.cli.apis import api_group
from api.cli.audit import audit_group
from api.cli.clients import client_group
from api.cli.keys import key_group
from api.cli.local import archive, init_command, replay, reseal, serve_command, verify
from api.cli.lockouts import lockout_group
from api.cli.login import login, logout
from api.cli.me import me_group
from api.cli.output import escaped
from api.cli.questions import check, explain, introspect
from api.cli.roles import role_group
from api.cli.subjects import subject_group
from api.cli.tokens import family_group, token_group
from ledger.errors import InvalidInput, LedgerError


class Commands(click.Group):
    """A group whose refusals are one clear message and exit code 1, never a traceback."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; a refusal of the ledger ends it."""
        try:
            return super().invoke(ctx)
        except InvalidInput as error:
            lines = [escaped(f"  {problem.field or 'input'}: {problem.rule}") for problem in error.problems]
            raise click.ClickException("\n".join(["this cannot be used:", *lines])) from None
        except LedgerError as error:
            raise click.ClickException(error.message) from None

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - as the base class has it
        """Answer the names in the order in which they are needed."""
        return list(self.commands)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="token-ledger")
def main() -> None:
    """An event-sourced token ledger: who is this token, and may it call METHOD on this path?

    `init`, `serve`, `replay`, `verify`, `archive` and `reseal` run where the ledger runs. All others ask a server, at
    http://127.0.0.1:8080 or TOKEN_LEDGER_URL, as whoever has logged in or with the token in TOKEN_LEDGER_TOKEN.

    Exit status: 0 done; 1 refused; 2 not a command; 3 no answer, try again later; 4 the answer is no.
    """


for _command in (
    init_command,
    serve_command,
    login,
    logout,
    me_group,
    api_group,
    role_group,
    client_group,
    subject_group,
    token_group,
    family_group,
    check,
    introspect,
    explain,
    audit_group,
    key_group,
    lockout_group,
    replay,
    verify,
    archive,
    reseal,
):
    main.add_command(_command)

__all__: Sequence[str] = ("main",)
