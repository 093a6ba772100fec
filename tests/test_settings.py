"""Settings: what is unsafe, missing or mistyped stops the start, all of it in one message that quotes nothing."""

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from ledger.settings import Settings, UnsafeSettings, load_settings

KEY = secrets.token_hex(32)
URL = "postgresql://ledger_service:hunter2@db/token_ledger"
PREFIX = "TOKEN_LEDGER_"


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of whoever runs the tests."""
    for name in Settings.model_fields:
        monkeypatch.delenv(PREFIX + name.upper(), raising=False)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Answer a function that sets variables, by their names without the prefix, and loads the settings."""

    def load(variables: Mapping[str, str], **overrides: object) -> Settings:
        for name, value in variables.items():
            monkeypatch.setenv(PREFIX + name, value)
        return load_settings(**overrides)

    return load


def refused(environment: Any, variables: Mapping[str, str]) -> list[str]:
    with pytest.raises(UnsafeSettings) as error:
        environment(variables)
    for value in variables.values():
        assert len(value) < 5 or value not in f"{error.value}", "a value is quoted"
    return [problem.field.removeprefix(PREFIX) for problem in error.value.problems]


# ----------------------------------------------------------------------------------------------------------- what is good


def test_nothing_needs_to_be_set_to_serve_on_this_machine(environment: Any) -> None:
    settings = environment({})
    assert (settings.host, settings.port, settings.workers) == ("127.0.0.1", 8080, 2)
    assert (settings.database_url, settings.master_key) == (None, None)
    assert settings.issuer_url() == settings.address() == "http://127.0.0.1:8080"


def test_an_empty_variable_is_one_that_is_not_set(environment: Any) -> None:
    assert environment({name.upper(): "" for name in Settings.model_fields}) == load_settings()


def test_settings_are_read_from_the_environment_and_given_ones_come_first(environment: Any) -> None:
    settings = environment({"PORT": "9000", "WORKERS": "4", "DATABASE_URL": URL, "MASTER_KEY": KEY}, port=9001)
    assert (settings.port, settings.workers) == (9001, 4)
    assert settings.database_url.get_secret_value() == URL
    assert settings.master_key.get_secret_value() == KEY


def test_other_variables_are_other_people_s(environment: Any) -> None:
    assert environment({"TOKEN": "x", "URL": "y", "VECTORS": "z"}) == load_settings()


@pytest.mark.parametrize(("host", "url"), [("::1", "http://[::1]:8080"), ("localhost", "http://localhost:8080")])
def test_the_address_is_a_url(environment: Any, host: str, url: str) -> None:
    assert environment({"HOST": host}).address() == url


@pytest.mark.parametrize(
    "issuer",
    [
        "https://id.example",
        "https://id.example/",
        "https://id.example:8443/tenant/a",
        "https://[2001:db8::1]/",
        "http://127.0.0.1:8080",
        "http://localhost",
        "http://[::1]:8080/",
        "https://id.example/a%20b",
    ],
)
def test_an_issuer_is_taken_byte_for_byte(environment: Any, issuer: str) -> None:
    for host in ("127.0.0.1", "0.0.0.0"):
        assert environment({"ISSUER": issuer, "HOST": host}).issuer_url() == issuer


@pytest.mark.parametrize("url", [URL, "postgres:///x", "host=/run/postgresql dbname=x password='a b'", "postgresql://"])
def test_a_database_is_named_by_a_url_or_a_connection_string(environment: Any, url: str) -> None:
    assert environment({"DATABASE_URL": url, "OWNER_DATABASE_URL": url, "MASTER_KEY": KEY}).database_url == SecretStr(url)


# ------------------------------------------------------------------------------------------------------------ what is not


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("PORT", ["-1", "65536", "http", "80.5"]),
        ("WORKERS", ["0", "257", "many"]),
        ("POOL_SIZE", ["0", "101"]),
        ("LOG_LEVEL", ["verbose", "INFO"]),
        ("PASSWORD_MEMORY_KIB", ["19455", "4194305", "64MiB"]),
        ("PASSWORD_PASSES", ["1", "101"]),
        ("PASSWORD_LANES", ["0", "65"]),
        ("PASSWORD_HASHES_AT_ONCE", ["0", "65"]),
        ("PASSWORD_HASHES_WAITING", ["-1", "10001"]),
        ("MAX_ACCESS_LIFETIME_SECONDS", ["59", "86401"]),
        ("MAX_REFRESH_ABSOLUTE_SECONDS", ["3599", "31536001"]),
        ("MAX_NAMED_TOKEN_LIFETIME_SECONDS", ["59", "63072001"]),
        ("TRUSTED_PROXIES", ["proxy.example", "10.0.0.0/33", "10.0.0.1,", "10.0.0.0/8;10.1.0.0/16", "0.0.0.0/0", "::/0"]),
    ],
)
def test_a_value_beyond_its_bounds_is_refused_by_its_name(environment: Any, name: str, values: list[str]) -> None:
    for value in values:
        assert refused(environment, {name: value}) == [name]


@pytest.mark.parametrize(
    "issuer",
    [
        "id.example",
        "//id.example",
        "ftp://id.example",
        "https://",
        "https:///path",
        "https://id.example?",
        "https://id.example/?a=b",
        "https://id.example#",
        "https://id.example/#a",
        "https://user:hunter2@id.example",
        "https://@id.example",
        "https://id.example:99999",
        "https://id.example:0",
        "https://id.example:http",
        "https://[id.example",
        "https://id.example/a b",
        "https://id.example/\n",
        "https://id.exa\tmple",
        " https://id.example",
        "https://id.example\\@evil.example",
        "https://íd.example",
        "https://id\u2100.example",
        "http://id.example",
        "http://10.0.0.1:8080",
        "http://127.0.0.1.evil.example",
    ],
)
def test_another_issuer_is_refused(environment: Any, issuer: str) -> None:
    assert refused(environment, {"ISSUER": issuer}) == ["ISSUER"]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "id.example", "127.0.0.1.evil.example"])
def test_who_serves_others_says_who_issues(environment: Any, host: str) -> None:
    assert refused(environment, {"HOST": host}) == ["ISSUER"]
    assert environment({"HOST": host, "ISSUER": "https://id.example"}).host == host


def test_who_serves_on_a_port_that_nobody_knows_beforehand_says_who_issues(environment: Any) -> None:
    assert refused(environment, {"PORT": "0"}) == ["ISSUER"]
    assert environment({"PORT": "0", "ISSUER": "https://id.example"}).port == 0


@pytest.mark.parametrize(
    "key",
    ["changeme", "0" * 64, "deadbeef" * 8, KEY[:-1], KEY + "00", "hunter2-hunter2-hunter2", "\u00e9" * 64],
    ids=["word", "zeros", "repeated", "too-short", "too-long", "words", "not-ascii"],
)
@pytest.mark.parametrize("name", ["MASTER_KEY", "PREVIOUS_MASTER_KEY"])
def test_a_weak_master_key_is_refused(environment: Any, name: str, key: str) -> None:
    assert refused(environment, {name: key}) == [name]


def test_a_database_of_one_s_own_needs_a_master_key_of_one_s_own(environment: Any) -> None:
    assert refused(environment, {"DATABASE_URL": URL}) == ["MASTER_KEY"]
    assert refused(environment, {"DATABASE_URL": URL, "MASTER_KEY": ""}) == ["MASTER_KEY"]


def test_an_owner_without_a_database_is_refused(environment: Any) -> None:
    assert refused(environment, {"OWNER_DATABASE_URL": URL}) == ["OWNER_DATABASE_URL"]


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u:hunter2@db/x",
        "hunter2",
        "postgresql://u:hun%zzter2@db/x",
        "postgresql://u:hunter2@db/x?hunter2=1",
        "host=db pasword=hunter2",
        "host=db password='hunter2",
    ],
)
def test_what_names_no_database_is_refused_without_its_password(environment: Any, url: str) -> None:
    for name in ("DATABASE_URL", "OWNER_DATABASE_URL"):
        with pytest.raises(UnsafeSettings) as error:
            environment({"DATABASE_URL": URL, "MASTER_KEY": KEY, name: url})
        assert [problem.field for problem in error.value.problems] == [PREFIX + name]
        assert "hunter2" not in f"{error.value!r} {error.value} {error.value.problems}"
        environment({name: URL})


def test_every_problem_is_in_one_message(environment: Any) -> None:
    wrong = {
        "HOST": "0.0.0.0",
        "PORT": "99999",
        "WORKERS": "none",
        "LOG_LEVEL": "loud",
        "PASSWORD_MEMORY_KIB": "8",
        "DATABASE_URL": "mysql://u:hunter2@db/x",
        "OWNER_DATABASE_URL": "hunter2=",
        "MASTER_KEY": "hunter2" * 8,
        "PREVIOUS_MASTER_KEY": "hunter2",
        "TRUSTED_PROXIES": "everybody",
    }
    fields = refused(environment, wrong)
    assert sorted(fields) == sorted((wrong.keys() - {"HOST"}) | {"ISSUER"})
    with pytest.raises(UnsafeSettings) as error:
        load_settings()
    assert all(PREFIX + field in str(error.value) for field in fields)
    assert "hunter2" not in f"{error.value!r} {error.value}"
    assert error.value.__cause__ is None


def test_what_is_wrong_together_is_found_though_a_field_is_wrong_by_itself(environment: Any) -> None:
    assert refused(environment, {"PORT": "x", "DATABASE_URL": URL}) == ["PORT", "MASTER_KEY"]
    assert refused(environment, {"PORT": "x", "DATABASE_URL": URL, "MASTER_KEY": "short"}) == ["PORT", "MASTER_KEY"]


def test_secrets_are_not_shown_by_the_settings_themselves(environment: Any) -> None:
    settings = environment({"DATABASE_URL": URL, "OWNER_DATABASE_URL": URL, "MASTER_KEY": KEY, "PREVIOUS_MASTER_KEY": KEY})
    assert KEY not in f"{settings!r} {settings}"
    assert "hunter2" not in f"{settings!r} {settings}"


def test_every_setting_is_described() -> None:
    text = (Path(__file__).parent.parent / "docs" / "settings.md").read_text(encoding="utf-8")
    missing = [
        name
        for name in Settings.model_fields
        if PREFIX + name.upper() not in text and f"`_{name.upper().rpartition('_')[2]}`" not in text
    ]
    assert missing == []
