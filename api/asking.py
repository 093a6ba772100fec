"""Who asks, and about which token: from the strings of a request to a decision.

Every answer is made the same way: one lookup that is shared with whoever else asks now, the reference data of exactly the
position it was answered at, and the pure evaluator (ledger/decisions.py). Nothing is cached but reference data that the
lookup itself says is current. A secret is compared here and goes no further.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple
from urllib.parse import unquote_plus
from uuid import UUID

from falcon.asgi import Request

from api.service import NOBODY, Service
from ledger.builtin import LEDGER_API
from ledger.cascade import TokenStanding
from ledger.decisions import SEMANTICS, Decision, Question, decide, decide_about_subject
from ledger.errors import NotAllowed, NotAuthenticated
from ledger.jose import InvalidToken
from ledger.log import Actor
from ledger.states import Client
from ledger.statuses import stands
from ledger.token_strings import MalformedToken, classify, digest_matches, read
from projections.lookup import Found
from projections.moments import AsOf, Moment
from projections.reference import Kept
from projections.who_could import read_subject

NO_DIGEST: Final = bytes(32)


class Presented(NamedTuple):
    """What a bearer string says of itself, once its form, signature and encryption were found right.

    `secret` is None for strings that prove themselves, by `key_ids`. The string that cannot be read presents NOBODY.
    """

    token_id: UUID
    strategy: str
    secret: bytes | None
    key_ids: tuple[UUID, ...] = ()


UNREADABLE: Final = Presented(NOBODY, "none", None)


async def read_presented(service: Service, text: str) -> Presented:
    """Answer what a bearer string presents; UNREADABLE for whatever is not one of ours."""
    strategy = classify(text)
    try:
        if strategy == "opaque":
            token_id, secret = read("access", text)
            return Presented(token_id, strategy, secret)
        if strategy == "refresh":
            token_id, secret = read("refresh", text)
            return Presented(token_id, strategy, secret)
        if strategy is None:
            return UNREADABLE
        try:
            proven = service.keyring.read(strategy, text)
        except InvalidToken as error:
            if error.reason != "unknown_key":
                return UNREADABLE
            # Another worker may have begun to use a new key since this one looked.
            await service.find(NOBODY)
            proven = service.keyring.read(strategy, text)
        return Presented(proven.token_id, strategy, None, proven.key_ids)
    except (MalformedToken, InvalidToken):
        return UNREADABLE


class Answered(NamedTuple):
    """A decision, the API it is about, and what it was made on."""

    decision: Decision
    api_id: UUID
    standing: TokenStanding | None
    found: Found
    kept: Kept


@dataclass(frozen=True, slots=True)
class Then:
    """What is asked as of the past: when, and under which semantics."""

    as_of: AsOf
    semantics: int


async def decide_access(
    service: Service, text: str, asker: "Asker", method: str, target: str, then: Then | None = None
) -> Answered:
    """Decide whether the bearer of `text` may call `method` on `target` of the API that the asker serves; or could then.

    NotAuthenticated and NotAllowed are about the asker, judged on the same rows as the token; InvalidInput about `then`.
    """
    (answered,) = await decide_accesses(service, text, asker, [(method, target)], then)
    return answered


async def decide_accesses(
    service: Service, text: str, asker: "Asker", asked: Sequence[tuple[str, str]], then: Then | None = None
) -> list[Answered]:
    """The same for several (method, target), on one lookup and so as of one position. The asker is judged if none is asked."""
    presented = await read_presented(service, text)
    found, kept = await service.find(presented.token_id)
    # Who asks about the past is judged as of now: a client that was suspended since, or serves another API, asks in vain.
    api_id = asker.api_id(kept, found)
    if then is not None:
        found, kept = await service.find_as_of(presented.token_id, await service.moment(then.as_of), api_id)
    standing, secret_matches = judge(presented, found.token)
    return _answers(found, kept, standing, secret_matches, api_id, asked, then)


async def decide_token(
    service: Service, token_id: UUID, api_id: UUID, method: str, target: str, then: Then | None = None
) -> Answered:
    """Decide about a token by its id, for whoever may know without its secret. InvalidInput about `then`."""
    if then is None:
        found, kept = await service.find(token_id)
    else:
        found, kept = await service.find_as_of(token_id, await service.moment(then.as_of), api_id)
    (answered,) = _answers(found, kept, found.token, None, api_id, [(method, target)], then)
    return answered


async def decide_subject(
    service: Service,
    asker: "Asker",
    asked: Sequence[tuple[str, str]],
    then: Then | None,
    *,
    subject_id: UUID | None,
    name_id: UUID | None,
) -> tuple[Moment, list[Decision]]:
    """Decide whether a subject, by its id or its user name's, may call each (method, target) of the asker's API, or could then.

    Whatever its tokens. The errors are those of `decide_accesses`.
    """
    found, kept = await service.find(NOBODY)
    api_id = asker.api_id(kept, found)
    assert found.log_id is not None  # nobody asks before the log begins
    moment = Moment(found.position, found.instant, found.log_id) if then is None else await service.moment(then.as_of)
    async with service.pool.connection() as connection:
        subject, reference = await read_subject(connection, moment, api_id, subject_id=subject_id, name_id=name_id)
    semantics = SEMANTICS if then is None else then.semantics
    questions = [Question(api_id, method, target, None, moment.instant, moment.position, semantics) for method, target in asked]
    return moment, [decide_about_subject(question, subject, reference) for question in questions]


def _answers(
    found: Found,
    kept: Kept,
    standing: TokenStanding | None,
    secret_matches: bool | None,
    api_id: UUID,
    asked: Sequence[tuple[str, str]],
    then: Then | None,
) -> list[Answered]:
    questions = [
        Question(
            api_id=api_id,
            method=method,
            target=target,
            secret_matches=secret_matches,
            instant=found.instant,
            position=found.position,
            semantics=SEMANTICS if then is None else then.semantics,
        )
        for method, target in asked
    ]
    return [Answered(decide(question, standing, kept), api_id, standing, found, kept) for question in questions]


def judge(presented: Presented, token: TokenStanding | None) -> tuple[TokenStanding | None, bool | None]:
    """Answer the token a string stands for, and whether its secret is right: None for one that has none.

    The comparison is made also where there is no token.
    """
    if token is None:
        if presented.secret is not None:
            digest_matches(NO_DIGEST, presented.secret)
        return None, None
    # A string of one strategy, or made with other keys, never stands for a token of another (jose.Proven says why).
    written = "refresh" if token.kind == "refresh" else token.strategy
    if presented.strategy != written or presented.key_ids != tuple(token.key_ids):
        return None, None
    if presented.secret is None:
        return token, None
    return token, digest_matches(token.secret_digest or NO_DIGEST, presented.secret)


# ------------------------------------------------------------------------------------------------------- who asks


class Credentials(NamedTuple):
    """A client's secret as it was presented, with the name where one was, not yet judged."""

    client_id: UUID
    secret: bytes | None
    name: str | None = None

    def client(self, kept: Kept, found: Found) -> Client:
        """Answer the client these are of; NotAuthenticated, in the same words, for whatever is wrong."""
        client = kept.clients.get(self.client_id)
        digests = client.secret_digests if client is not None else ()
        # Every digest is compared, and one even where there is none: no name is told from another by the time it takes.
        right = False
        for digest in digests or (NO_DIGEST.hex(),):
            right |= digest_matches(bytes.fromhex(digest), self.secret or NO_DIGEST)
        if client is None or not stands(client.status, client.status_until, found.instant):
            raise NotAuthenticated("unknown client, or wrong secret")
        if self.name not in (None, client.name):
            raise NotAuthenticated("unknown client, or wrong secret")
        if client.kind == "public" and self.secret is None:
            return client
        if not right or self.secret is None:
            raise NotAuthenticated("unknown client, or wrong secret")
        return client


class ProvedClient(NamedTuple):
    """A client that has proved itself by an assertion, which is good for once."""

    client_id: UUID

    def client(self, kept: Kept, found: Found) -> Client:
        """Answer the client; NotAuthenticated where it does not stand any more."""
        client = kept.clients.get(self.client_id)
        if client is None or not stands(client.status, client.status_until, found.instant):
            raise NotAuthenticated("unknown client, or wrong secret")
        return client


@dataclass(frozen=True, slots=True)
class Asker:
    """Somebody who asks about tokens: a client registered for one API, which is the one it may ask about."""

    credentials: Credentials | ProvedClient

    def api_id(self, kept: Kept, found: Found) -> UUID:
        """Answer the API it may ask about; NotAuthenticated, or NotAllowed for a client that serves none."""
        client = self.credentials.client(kept, found)
        if client.serves_api_id is None or client.kind == "public":
            raise NotAllowed("this client is not registered as a resource server or gateway of an API")
        return client.serves_api_id


def credentials_of_secret(text: str, name: str | None = None) -> Credentials:
    """Answer the credentials in a client secret (`tl_cs_...` holds the client's id); with a name, it must be that client's."""
    try:
        return Credentials(*read("client", text), name)
    except MalformedToken:
        raise NotAuthenticated("unknown client, or wrong secret") from None


def basic_credentials(req: Request) -> Credentials | None:
    """Answer the client credentials of HTTP Basic, form-decoded as RFC 6749 section 2.3.1 wants; None without the header."""
    header = req.get_header("Authorization")
    if header is None or header[:6].lower() != "basic ":
        return None
    try:
        name, colon, secret = base64.b64decode(header[6:].strip(), validate=True).decode("utf-8").partition(":")
    except ValueError:  # not base64, not ASCII, not UTF-8
        raise NotAuthenticated("unknown client, or wrong secret") from None
    if not colon:
        raise NotAuthenticated("unknown client, or wrong secret")
    return credentials_of_secret(unquote_plus(secret), unquote_plus(name))


def asker_of(req: Request) -> Asker:
    """Answer who asks about tokens, by HTTP Basic. NotAuthenticated without."""
    credentials = basic_credentials(req)
    if credentials is None:
        raise NotAuthenticated("client authentication by HTTP Basic is needed")
    return Asker(credentials)


def bearer_of(req: Request) -> str:
    """Answer the bearer token of the request (RFC 6750 section 2.1); "" without one, which is no token."""
    header = req.get_header("Authorization") or ""
    return header[7:].strip() if header[:7].lower() == "bearer " else ""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls the management API, by a token that may do what is asked."""

    actor: Actor
    subject_id: UUID
    client_id: UUID
    token_id: UUID
    family_id: UUID
    api_ids: Sequence[UUID]
    role_ids: Sequence[UUID] | None
    direct: bool
    kept: Kept


class _Ledger(Asker):
    """The ledger itself asks, about its own API."""

    def api_id(self, kept: Kept, found: Found) -> UUID:
        return LEDGER_API


_LEDGER: Final = _Ledger(Credentials(NOBODY, None))


async def authorize(req: Request, service: Service) -> Caller:
    """Answer who calls, when the ledger's own decision about METHOD and path of this request is yes.

    NotAuthenticated: no token that stands for the API `ledger`. NotAllowed: no rule lets it, or one forbids it.
    """
    target = req.scope.get("raw_path") or req.scope["path"].encode()
    answered = await decide_access(service, bearer_of(req), _LEDGER, req.method, target.decode("latin-1"))
    return _caller(answered, allowed=answered.decision.allowed)


async def allowed(req: Request, service: Service, asked: Sequence[tuple[str, str]]) -> list[bool]:
    """Answer of each method and path of the management API whether the token of this request may call it."""
    return [one.decision.allowed for one in await decide_accesses(service, bearer_of(req), _LEDGER, asked)]


async def authenticate(req: Request, service: Service) -> Caller:
    """Answer who calls with a token that stands for the API `ledger`, whatever its rules: for one's own things."""
    answered = await decide_access(service, bearer_of(req), _LEDGER, req.method, "/v1/me")
    return _caller(answered, allowed=answered.decision.token_stands)


def _caller(answered: Answered, *, allowed: bool) -> Caller:
    standing = answered.standing
    if standing is None or not answered.decision.token_stands:
        raise NotAuthenticated("a valid token for this API is needed")
    if not allowed:
        raise NotAllowed("this token may not do that")
    return Caller(
        Actor("subject", standing.subject_id, f"token {standing.token_id}"),
        standing.subject_id,
        standing.client_id,
        standing.token_id,
        standing.family_id,
        standing.api_ids,
        standing.role_ids,
        standing.direct,
        answered.kept,
    )
