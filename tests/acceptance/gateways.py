"""The files of deploy/ in real gateways, by their tests (tests/test_gateways.py): nginx, Caddy and Envoy, the same for each.

Who passes and who does not; what the API is told of who calls, whatever the client made up; targets written oddly, through raw
sockets: what passes is what the ledger says yes to, asked about the target that reached the API; a token revoked while requests
go on over connections that are kept: none passes that was begun when the revocation was acknowledged; doubt.
"""

from typing import Final

from tests.acceptance.points import Shown, Stage
from tests.acceptance.pytests import run_tests
from tests.gateways import GATEWAYS

ODD_TARGETS: Final = "test_what_is_decided_on_is_what_reaches_the_api"


def run(stage: Stage) -> Shown:
    """Run the tests, and say of each gateway what came of it."""
    ran = run_tests(stage, "tests/test_gateways.py")
    figures = []
    held = not ran.trouble
    for gateway in GATEWAYS:
        cases = [case for case in ran.cases if case.recorded.get("gateway") == gateway]
        targets = [case for case in cases if case.function == ODD_TARGETS]
        passed = sum(case.recorded["passed"] == "True" for case in targets)
        slipped, refused = (
            sum(int(case.recorded.get(name, 0)) for case in cases) for name in ("passed_after", "refused_after")
        )
        held = held and passed > 0 and refused > 0 and not slipped
        figures.append(
            f"{gateway}: {len(cases)} cases, {passed} of {len(targets)} targets passed, each as it was decided,"
            f" {slipped} passed and {refused} refused after the acknowledged revocation"
        )
    if ran.trouble:
        figures.append(ran.trouble)
    return Shown(f"{len(GATEWAYS)} gateways with the files of deploy/", "; ".join(figures), held=held)
