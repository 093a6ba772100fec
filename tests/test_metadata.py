"""The metadata of an issuer that is not the address served on; over HTTP: test_issue_http.py."""

from dataclasses import dataclass

import pytest

from api.resources.wellknown import Metadata
from ledger.settings import Settings, load_settings


@dataclass(frozen=True)
class OnlySettings:
    """What the metadata is made from."""

    settings: Settings


@pytest.mark.parametrize("issuer", ["https://ledger.example/a", "https://ledger.example/a/"])
def test_the_endpoints_of_an_issuer_have_no_two_slashes_and_it_stands_byte_for_byte(issuer: str) -> None:
    metadata = Metadata(OnlySettings(load_settings(issuer=issuer)))._metadata  # type: ignore[arg-type]
    assert metadata["issuer"] == issuer
    assert metadata["token_endpoint"] == "https://ledger.example/a/oauth/token"
    assert metadata["jwks_uri"] == "https://ledger.example/a/.well-known/jwks.json"
