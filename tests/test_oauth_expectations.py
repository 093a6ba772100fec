"""What django-oauth-toolkit, oauthlib and authlib expect of an OAuth server, each expectation a test by its id."""

from collections.abc import Iterator

import pytest

from tests.oauth_expectations import Case, World, check, new_world, read_cases
from tests.serving import Served
from tests.vectors import vectors

CASES = read_cases()
MANY = 60


@pytest.fixture(scope="module")
def world(ledger_server: Served) -> Iterator[World]:
    with ledger_server.admin() as admin, ledger_server.client() as http:
        yield new_world(ledger_server, http, admin)


def test_the_cases_are_all_there() -> None:
    vectors("vectors", "oauth-expectations", "expectations.json")
    assert len(CASES) >= MANY


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_a_client_of_others_finds_what_it_expects(world: World, case: Case) -> None:
    check(world, case)
