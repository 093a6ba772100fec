"""Running `token-ledger` in tests: in this process for the breadth, as a process of its own, and on a terminal."""

import json
import os
import pty
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from click.testing import CliRunner, Result

from api.cli import main
from tests.serving import command


def leaf_commands(group: click.Group = main, *names: str) -> dict[str, click.Command]:
    """Answer every command that does something, by what is typed after `token-ledger`."""
    leaves: dict[str, click.Command] = {}
    for name, entry in group.commands.items():
        if isinstance(entry, click.Group):
            leaves |= leaf_commands(entry, *names, name)
        else:
            leaves[" ".join([*names, name])] = entry
    return leaves


@dataclass(frozen=True)
class Terminal:
    """Somebody at the command line: the server, a home folder, and a token of the environment if there is one."""

    url: str
    home: Path
    token: str | None = field(default=None, repr=False)

    @property
    def environment(self) -> dict[str, str]:
        """Answer what the environment of a process is."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TOKEN_LEDGER_")}
        environment |= {"TOKEN_LEDGER_URL": self.url, "XDG_CONFIG_HOME": str(self.home), "TERM": "xterm", "COLUMNS": "200"}
        return environment if self.token is None else environment | {"TOKEN_LEDGER_TOKEN": self.token}

    @property
    def session_files(self) -> list[Path]:
        """Answer the files that sessions are kept in."""
        return sorted((self.home / "token-ledger").glob("*.json"))

    def run(self, *arguments: str, stdin: str | None = None) -> Result:
        """Run a command in this process."""
        environment: dict[str, str | None] = dict.fromkeys(name for name in os.environ if name.startswith("TOKEN_LEDGER_"))
        return CliRunner().invoke(main, list(arguments), input=stdin, env=environment | self.environment)

    def done(self, *arguments: str, stdin: str | None = None) -> str:
        """Run a command that must succeed, and answer what it prints."""
        result = self.run(*arguments, stdin=stdin)
        assert result.exit_code == 0, f"{arguments}: {result.exit_code}: {result.stderr}"
        return result.stdout

    def lines(self, *arguments: str, stdin: str | None = None) -> list[list[str]]:
        """The same, as plain lines cut at the tabs."""
        return [line.split("\t") for line in self.done(*arguments, stdin=stdin).splitlines()]

    def members(self, *arguments: str, stdin: str | None = None) -> dict[str, str]:
        """The same, of a command that prints one thing."""
        return {line[0]: "\t".join(line[1:]) for line in self.lines(*arguments, stdin=stdin)}

    def objects(self, *arguments: str, stdin: str | None = None) -> list[dict[str, Any]]:
        """The same, with --json."""
        return [json.loads(line) for line in self.done(*arguments, "--json", stdin=stdin).splitlines()]

    def refused(self, *arguments: str, stdin: str | None = None, status: int = 1) -> str:
        """Run a command that must end with this status, and answer what it says on standard error."""
        result = self.run(*arguments, stdin=stdin)
        assert result.exit_code == status, f"{arguments}: {result.exit_code}: {result.output}"
        assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
        return result.stderr

    def process(self, *arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the real command."""
        return subprocess.run(
            command(*arguments),
            input=stdin,
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def shown(self, *arguments: str, typed: Sequence[tuple[str, str]] = ()) -> tuple[int, str]:
        """Run the real command on a terminal, and answer its status and what is seen. `typed`: prompts, and what is typed at
        each once it is seen."""
        leader, follower = pty.openpty()
        # In a session of its own with this terminal, as a shell would have it: what is typed can interrupt it.
        process = subprocess.Popen(
            command(*arguments),
            stdin=follower,
            stdout=follower,
            stderr=follower,
            env=self.environment,
            preexec_fn=lambda: os.login_tty(follower),
        )
        os.close(follower)
        seen, waiting = b"", list(typed)
        try:
            while block := os.read(leader, 65_536):
                seen += block
                if waiting and waiting[0][0].encode() in seen:
                    os.write(leader, f"{waiting.pop(0)[1]}\n".encode())
        except OSError:  # Linux: EIO once nobody has the other side open
            pass
        finally:
            os.close(leader)
        return process.wait(timeout=60), seen.decode()
