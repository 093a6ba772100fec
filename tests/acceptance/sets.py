"""The sets of points, each in its order."""

from collections.abc import Mapping
from typing import Final

from tests.acceptance import (
    archiving,
    authzen,
    blast_radius,
    checker,
    clients,
    combinations,
    corpus,
    cost_of_the_past,
    decided_again,
    describing,
    feeding,
    fresh_clone,
    gateways,
    guarding,
    guessing,
    importing,
    killing,
    load,
    login_timing,
    lossy,
    matrix,
    naughty_strings,
    oauth,
    properties,
    refreshes,
    replaying,
    rotation,
    vectors_of_others,
    verifying,
)
from tests.acceptance.points import Point

SETS: Final[Mapping[str, Mapping[str, Point]]] = {
    "runs": {
        "fresh-clone": fresh_clone.run,
        "corpus": corpus.run,
        "combinations": combinations.run,
        "load": load.run,
        "killing": killing.run,
        "rotation": rotation.run,
        "login-timing": login_timing.run,
    },
    "lifecycle": {
        "refreshes": refreshes.run,
        "lossy": lossy.run,
        "checker": checker.run,
        "guessing": guessing.run,
        "matrix": matrix.run,
        "jose": vectors_of_others.run,
    },
    "history": {
        "properties": properties.run,
        "replay": replaying.run,
        "blast-radius": blast_radius.run,
        "verify": verifying.run,
        "decisions": decided_again.run,
        "as-of-cost": cost_of_the_past.run,
        "feed": feeding.run,
        "archive": archiving.run,
    },
    "standards": {
        "oauth": oauth.run,
        "clients": clients.run,
        "authzen": authzen.run,
        "import": importing.run,
        "gateways": gateways.run,
        "guard": guarding.run,
        "schemathesis": describing.run,
        "naughty-strings": naughty_strings.run,
    },
}
