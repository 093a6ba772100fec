"""The command line from end to end, as the real command: from an empty ledger to the audit of a revoked token."""

from pathlib import Path

import pytest

from tests.calls import PASSWORD, unique
from tests.serving import Served
from tests.terminal import Terminal


@pytest.fixture
def administrator(ledger_server: Served, tmp_path: Path) -> Terminal:
    return Terminal(ledger_server.url, tmp_path / "administrator")


def test_everything_from_an_api_to_the_audit_of_a_revoked_token_is_done_on_the_command_line(
    administrator: Terminal, ledger_server: Served, tmp_path: Path
) -> None:
    def done(terminal: Terminal, *arguments: str, stdin: str = "") -> str:
        finished = terminal.process(*arguments, stdin=stdin)
        assert finished.returncode == 0, f"{arguments}: {finished.stderr}"
        return finished.stdout

    api, shop, asks, ann = unique("orders"), unique("shop"), unique("orders-api"), unique("ann")

    # The administrator sets up an API, a role, two clients and a person.
    done(administrator, "login", ledger_server.username, stdin=f"{ledger_server.password}\n")
    done(administrator, "api", "register", api)
    done(administrator, "role", "create", f"{api}:reader")
    done(administrator, "role", "grant-rules", f"{api}:reader", "allow GET,POST /orders/**", "deny GET /orders/secret")
    grants = ["--grant", "password", "--grant", "refresh_token", "--refresh", "rotating"]
    done(administrator, "client", "register", shop, "--kind", "public", *grants, "--strategy", "jwt", "--api", api)
    done(administrator, "client", "change", shop, "--access-lifetime", "300")
    secret = done(administrator, "client", "register", asks, "--serves", api)
    assert secret.startswith("tl_cs_")
    assert secret.count("\n") == 1
    done(administrator, "subject", "register", ann, "--password", stdin=f"{PASSWORD}\n")
    done(administrator, "subject", "grant-roles", ann, f"{api}:reader")

    # The person logs in and sees himself.
    person = Terminal(ledger_server.url, tmp_path / "person")
    done(person, "login", ann, stdin=f"{PASSWORD}\n")
    assert f"username\t{ann}\n" in done(person, "me", "show")
    assert person.process("subject", "list").returncode == 1

    # A token is issued for him, and the API asks about it.
    token, refresh_token = done(administrator, "token", "issue", ann, "--client", shop).splitlines()
    assert refresh_token.startswith("tl_rt_")
    asked = f"{secret.strip()}\n{token}\n"
    assert "decision\ttrue\n" in done(administrator, "check", asks, "GET", "/orders/7", stdin=asked)
    denied = administrator.process("check", asks, "GET", "/orders/secret", stdin=asked)
    assert (denied.returncode, "reason\tdenied_by_rule" in denied.stdout) == (4, True), denied.stdout
    subject_id = done(administrator, "subject", "show", ann).splitlines()[0].split("\t")[1]
    introspected = done(administrator, "introspect", asks, stdin=asked)
    assert f"sub\t{subject_id}\n" in introspected
    token_id = next(line.split("\t")[1] for line in introspected.splitlines() if line.startswith("jti\t"))

    # It is taken back: the next answer is no, and the timeline says by whom and why.
    done(administrator, "token", "revoke", token_id, "--reason", "laptop stolen")
    refused = administrator.process("check", asks, "GET", "/orders/7", stdin=asked)
    assert (refused.returncode, "reason\ttoken_revoked" in refused.stdout) == (4, True), refused.stdout
    timeline = [line.split("\t") for line in done(administrator, "audit", "timeline", "--token-id", token_id).splitlines()]
    assert [entry[3] for entry in timeline] == ["token_issued", "token_revoked", "now"]
    assert timeline[1][2] == "subject:admin"
    assert timeline[1][5] == "laptop stolen"
    assert timeline[1][6].startswith("state=revoked")

    done(person, "logout")
    done(administrator, "logout")
    assert administrator.process("me", "show").returncode == 1
