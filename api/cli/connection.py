"""The connection of the command line to one server: what is safe to send where, the bearer token, refusals as one message.

Every request of the command line is made here. calling.py says which commands make which.
"""

import ipaddress
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import click
import httpx

from api.cli.output import escaped
from api.cli.sessions import Session, SessionFile

TOKEN_VARIABLE: Final = "TOKEN_LEDGER_TOKEN"  # noqa: S105 - the name of a variable
# A connection is there in milliseconds or not at all; an answer may take a listing's time.
TIMEOUT: Final = httpx.Timeout(60, connect=5)
# An access token that has less than this to live is refreshed first, so that it does not expire on its way.
MARGIN_SECONDS: Final = 10.0

# Who asks: the person logged in (or the token of the environment), nobody, or a client by its name and secret.
Who = Literal["caller", "nobody"] | tuple[str, str]


class Refusal(click.ClickException):
    """The server refused; exit status 1."""


class Unreachable(click.ClickException):
    """There is no answer, or none now: to be tried again later; exit status 3."""

    exit_code = 3


class NotLoggedIn(click.ClickException):
    """There is no token to show."""


def read_url(text: str) -> str:
    """Answer the address of a server in one spelling; a usage error for what is none, or would show credentials to others."""
    try:
        parts = urlsplit(text.strip())
        host, port = parts.hostname, parts.port
    except ValueError:
        raise click.BadParameter("not a URL") from None
    if parts.scheme not in ("http", "https") or not host:
        raise click.BadParameter("an http or https URL with a host")
    if parts.username is not None or parts.query or parts.fragment:
        raise click.BadParameter("without user, query and fragment")
    if parts.scheme == "http" and not is_loopback(host):
        raise click.BadParameter(f"https, because {escaped(host)} is not this computer: everyone on the way could read tokens")
    shown = f"[{host}]" if ":" in host else host
    default = {"http": 80, "https": 443}[parts.scheme]
    return f"{parts.scheme}://{shown}{'' if port in (None, default) else f':{port}'}{parts.path.rstrip('/')}"


def is_loopback(host: str) -> bool:
    """Say whether a host of a URL is this computer."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Connection:
    """Requests to one server. Closed by whoever made it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.file = SessionFile(url)
        self._http = httpx.Client(
            timeout=TIMEOUT,
            headers={"User-Agent": "token-ledger"},
            # The proxies of the environment are for what leaves this computer; http never does.
            trust_env=url.startswith("https:"),
        )

    def close(self) -> None:
        """End it."""
        self._http.close()

    def ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        who: Who = "caller",
    ) -> dict[str, Any]:
        """Make a request and answer the members of the answer. Refusal, Unreachable; NotLoggedIn before anything is sent."""

        def send(token: str | None) -> httpx.Response:
            bearer = {} if token is None else {"Authorization": f"Bearer {token}"}
            return self._send(method, path, query=query, body=body, form=form, headers={**(headers or {}), **bearer}, who=who)

        if who != "caller":
            return _members(send(None))
        token = self._token()
        answer = send(token)
        if answer.status_code == 401 and TOKEN_VARIABLE not in os.environ:
            # Expired by the server's clock, whatever ours says. What was refused so was not done: it may be sent again.
            answer = send(self._refreshed(token))
        return _members(answer)

    # ----------------------------------------------------------------------------------------------- the bearer token

    def _token(self) -> str:
        given = os.environ.get(TOKEN_VARIABLE)
        if given is not None:
            token = given.strip()
            if not token or not token.isascii() or not token.isprintable() or " " in token:
                raise NotLoggedIn(f"{TOKEN_VARIABLE} holds no token")
            return token
        session = self.file.read()
        if session is None:
            raise NotLoggedIn(f"not logged in at {self.url}: `token-ledger login` does it, or {TOKEN_VARIABLE} holds a token")
        fresh = session.expires_at - time.time() > MARGIN_SECONDS
        return session.access_token if fresh else self._refreshed(session.access_token)

    def _refreshed(self, stale: str) -> str:
        """Answer the access token that follows the stale one, refreshing unless another process just did. NotLoggedIn when
        none follows."""
        over = NotLoggedIn(f"the session at {self.url} is over: `token-ledger login` begins a new one")
        with self.file.locked():
            session = self.file.read()
            if session is not None and session.access_token != stale:
                return session.access_token
            if session is None or session.refresh_token is None:
                raise over
            form = {"grant_type": "refresh_token", "refresh_token": session.refresh_token, "client_id": session.client}
            try:
                answer = self._send("POST", "/oauth/token", form=form)
            except Unreachable:
                # The answer may have been lost on its way: presented again at once, the token gives the same successor.
                answer = self._send("POST", "/oauth/token", form=form)
            if answer.status_code == 400 and _problem(answer).get("error") == "invalid_grant":
                raise over
            renewed = session_of(_members(answer), session.client, session.username)
            # Before anything is done with it: the refresh token before is used up.
            self.file.write(replace(renewed, refresh_token=renewed.refresh_token or session.refresh_token))
            return renewed.access_token

    # ---------------------------------------------------------------------------------------------------- the request

    def _send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        who: Who = "nobody",
    ) -> httpx.Response:
        try:
            return self._http.request(
                method,
                f"{self.url}{path}",
                params=query or None,
                json=body,
                data=form,
                headers=headers,
                auth=who if isinstance(who, tuple) else None,
            )
        except httpx.ConnectError as error:
            raise Unreachable(f"cannot reach {self.url}: {escaped(str(error))}") from None
        except httpx.TransportError as error:
            reason = escaped(str(error)) or type(error).__name__
            doubt = "" if method == "GET" else " (what was asked may have been done, or not)"
            raise Unreachable(f"no answer from {self.url}: {reason}{doubt}") from None


def session_of(answer: Mapping[str, Any], client: str, username: str) -> Session:
    """Answer the session that an answer with tokens begins or goes on with."""
    return Session(client, username, answer["access_token"], answer.get("refresh_token"), time.time() + answer["expires_in"])


# ---------------------------------------------------------------------------------------------------------------- answers


def _members(answer: httpx.Response) -> dict[str, Any]:
    if answer.is_success:
        members = _problem(answer)
        if not members:
            raise Refusal(f"{answer.url.host} answered {answer.status_code} with something else than a Token Ledger does")
        return members
    message = _message(answer)
    if answer.status_code in (502, 503, 504):
        after = answer.headers.get("Retry-After", "")
        raise Unreachable(message + (f"; try again in {after} s" if after.isdecimal() else "; try again later"))
    raise Refusal(message)


def _problem(answer: httpx.Response) -> dict[str, Any]:
    """Answer the members of a JSON body; none for anything else."""
    try:
        members = answer.json()
    except ValueError:
        return {}
    return members if isinstance(members, dict) else {}


def _message(answer: httpx.Response) -> str:
    """Answer what a refusal says: problem details, an OAuth error object, or the plain text of /access/*."""
    problem = _problem(answer)
    if problem.get("problems"):
        rules = [f"  {p.get('field') or 'input'}: {p.get('rule')}" for p in problem["problems"] if isinstance(p, dict)]
        return "\n".join(["this cannot be used:", *(escaped(rule) for rule in rules)])
    code = problem.get("code") or problem.get("error")
    detail = problem.get("detail") or problem.get("error_description")
    if detail is None and answer.headers.get("Content-Type", "").startswith("text/plain"):
        detail = answer.text[:500]
    message = escaped(str(detail or f"{answer.url.host} answered {answer.status_code}"))
    if code is not None:
        message += f" ({escaped(str(code))})"
    if answer.status_code >= 500 and "X-Request-Id" in answer.headers:
        message += f", request {escaped(answer.headers['X-Request-Id'])}"
    return message
