"""Settings from the environment, all checked at start: one message that lists every problem.

Nothing here can change a decision: what can is an event. Names are `TOKEN_LEDGER_` and the field in capitals; docs/settings.md.
"""

import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict
from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from ledger.errors import InvalidInput, Problem
from ledger.sealing import MasterKey, UnsafeKey

_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
# What may stand in a URL before its query (RFC 3986 section 2).
_URL_CHARACTERS: Final = re.compile(r"[A-Za-z0-9._~:/\[\]@!$&'()*+,;=%-]+", re.ASCII)


class UnsafeSettings(InvalidInput):
    """The settings cannot be used; `problems` names every variable and its rule."""

    code = "unsafe_settings"
    cure = "Correct the variables that are named: docs/settings.md."


class Settings(BaseSettings):
    """The settings of a server. Seconds, KiB and counts as the names say."""

    model_config = SettingsConfigDict(env_prefix="TOKEN_LEDGER_", extra="ignore", frozen=True, env_ignore_empty=True)

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 8080
    workers: Annotated[int, Field(ge=1, le=256)] = 2
    # The issuer of tokens and metadata; by default the address served on, which only makes sense on a loopback address.
    issuer: str = ""
    data_folder: Path = Path(".data")
    # An existing PostgreSQL, as ledger_service; without it an embedded one runs in the data folder.
    database_url: SecretStr | None = None
    # The same database as ledger_owner, or a role that may make roles: for init, replay and verify.
    owner_database_url: SecretStr | None = None
    # 64 hex digits; without it the file `master.key` in the data folder, made at first start with the embedded database.
    master_key: SecretStr | None = None
    # Who may say from which address a request comes (X-Forwarded-For): proxies in front, as addresses or networks, by commas.
    trusted_proxies: str = ""
    # The master key before, while what it sealed is being sealed anew: `token-ledger reseal`.
    previous_master_key: SecretStr | None = None
    pool_size: Annotated[int, Field(ge=1, le=100)] = 4
    # Who may wait for the feed at once in one worker; beyond: 503.
    feed_subscribers: Annotated[int, Field(ge=1, le=10_000)] = 100
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    # argon2id; the floors are OWASP's minimum (Password Storage Cheat Sheet, 2024): 19 MiB, 2 passes, 1 lane.
    password_memory_kib: Annotated[int, Field(ge=19_456, le=4_194_304)] = 65_536
    password_passes: Annotated[int, Field(ge=2, le=100)] = 3
    password_lanes: Annotated[int, Field(ge=1, le=64)] = 1
    # Hashes computed at once in one worker, and logins that may wait for one; beyond: 503.
    password_hashes_at_once: Annotated[int, Field(ge=1, le=64)] = 2
    password_hashes_waiting: Annotated[int, Field(ge=0, le=10_000)] = 64
    # The ceilings under which clients choose their own.
    max_access_lifetime_seconds: Annotated[int, Field(ge=60, le=86_400)] = 3_600
    max_refresh_absolute_seconds: Annotated[int, Field(ge=3_600, le=31_536_000)] = 7_776_000
    max_named_token_lifetime_seconds: Annotated[int, Field(ge=60, le=63_072_000)] = 31_536_000

    # How long a signing key is the active one; the next is made a day before its time.
    signing_key_days: Annotated[int, Field(ge=1, le=3_650)] = 90

    @model_validator(mode="after")
    def _safe_together(self) -> Self:
        wrong: list[str] = []
        if (rule := self._broken_rule_of_issuer()) is not None:
            wrong.append(f"TOKEN_LEDGER_ISSUER: {rule}")
        for name, key in (("MASTER_KEY", self.master_key), ("PREVIOUS_MASTER_KEY", self.previous_master_key)):
            try:
                if key is not None:
                    MasterKey.from_text(key.get_secret_value())
            except UnsafeKey:
                wrong.append(f"TOKEN_LEDGER_{name}: 32 random bytes, written as 64 hex digits: `openssl rand -hex 32`")
        if self.database_url is not None:
            if self.master_key is None:
                wrong.append(
                    "TOKEN_LEDGER_MASTER_KEY: needed with TOKEN_LEDGER_DATABASE_URL (64 hex digits: `openssl rand -hex 32`)"
                )
        elif self.owner_database_url is not None:
            wrong.append("TOKEN_LEDGER_OWNER_DATABASE_URL: has no meaning without TOKEN_LEDGER_DATABASE_URL")
        for name, url in (("DATABASE_URL", self.database_url), ("OWNER_DATABASE_URL", self.owner_database_url)):
            try:
                if url is not None:
                    conninfo_to_dict(url.get_secret_value())
            except ProgrammingError:
                # Its message quotes what it could not read, with the password in it.
                wrong.append(f"TOKEN_LEDGER_{name}: a URL (postgresql://...) or a connection string of PostgreSQL")
        for network in self.trusted_proxies.split(",") if self.trusted_proxies else ():
            try:
                everybody = ip_network(network.strip()).prefixlen == 0
            except ValueError:
                wrong.append("TOKEN_LEDGER_TRUSTED_PROXIES: addresses or networks, separated by commas")
                break
            if everybody:
                wrong.append("TOKEN_LEDGER_TRUSTED_PROXIES: not everybody, or anybody could say any address")
        if wrong:
            raise ValueError("\n".join(wrong))
        return self

    def _broken_rule_of_issuer(self) -> str | None:
        if not self.issuer:
            if self.host not in _LOOPBACK:
                return "needed when TOKEN_LEDGER_HOST is not a loopback address"
            # The port that is taken then is known to nobody beforehand.
            return "needed when TOKEN_LEDGER_PORT is 0" if self.port == 0 else None
        no_url = "an https URL without user, query and fragment (RFC 8414 section 2)"
        # As it is written it stands in every token: what a parser would drop or read in two ways is refused.
        if _URL_CHARACTERS.fullmatch(self.issuer) is None:
            return no_url
        try:
            parts = urlsplit(self.issuer)
            known = parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc and parts.port != 0
        except ValueError:
            return no_url
        if not known:
            return no_url
        return "https, except on a loopback address" if parts.scheme == "http" and parts.hostname not in _LOOPBACK else None

    def address(self) -> str:
        """Answer the URL that is served on."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    def proxies(self) -> list[IPv4Network | IPv6Network]:
        """Answer the networks of the trusted proxies."""
        return [ip_network(network.strip()) for network in self.trusted_proxies.split(",")] if self.trusted_proxies else []

    def issuer_url(self) -> str:
        """Answer the issuer, byte for byte as it stands in tokens."""
        return self.issuer or self.address()


def load_settings(**overrides: object) -> Settings:
    """Answer the settings of the environment, or raise UnsafeSettings with every problem. `overrides` come first."""
    try:
        return Settings(**overrides)  # type: ignore[arg-type] # pydantic checks each
    except ValidationError as error:
        problems, wrong_fields = _problems(error)
    if wrong_fields:
        # What is wrong together is looked at only when each field is right: look again with the defaults for the rest.
        defaults = {name: Settings.model_fields[name].default for name in wrong_fields}
        try:
            Settings(**overrides | defaults)  # type: ignore[arg-type] # the same
        except ValidationError as error:
            problems += _problems(error)[0]
    raise UnsafeSettings(problems)


def _problems(error: ValidationError) -> tuple[list[Problem], list[str]]:
    """Answer the problems, and the fields that are wrong by themselves. Values are never quoted: some are secrets."""
    problems: list[Problem] = []
    wrong_fields: list[str] = []
    for problem in error.errors(include_input=False, include_url=False, include_context=False):
        if problem["loc"]:
            name = str(problem["loc"][0])
            wrong_fields.append(name)
            problems.append(Problem(f"TOKEN_LEDGER_{name.upper()}", problem["msg"]))
        else:
            for line in problem["msg"].removeprefix("Value error, ").splitlines():
                field, _, rule = line.partition(": ")
                problems.append(Problem(field, rule))
    return problems, wrong_fields
