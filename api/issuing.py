"""From a grant to the strings that are handed out: ids and secrets are made, the rules decide (ledger/tokens.py), the log
records digests, the answer is written.

Strings are written from what was recorded, so a repeat of a rotation writes the same token again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from api.asking import Presented
from api.commands import carry_out
from api.people import subject_key
from api.scopes import Scope
from api.service import NOBODY, Service
from ledger import jsontext
from ledger.errors import InvalidInput
from ledger.events import Event, ReuseDetected, TokenIssued, TokenRotated
from ledger.identifiers import uuid7
from ledger.jose import MAX_CLAIMS_BYTES
from ledger.log import Envelope
from ledger.rotation import derive
from ledger.sealing import SubjectKey
from ledger.states import Client, State, Strategy, Token
from ledger.token_strings import digest_matches, new_secret, secret_digest, write
from ledger.tokens import Grant, GrantRefused, Made, issue, refresh
from projections.lookup import Found
from projections.reading import Keys, read_rotated_at, read_state
from projections.reference import Kept


@dataclass(frozen=True, slots=True)
class Handout:
    """Tokens as recorded, with the secrets that only now are known. `repeated`: an answer to an Idempotency-Key that was
    used before, without any string: they are shown once."""

    access: Token
    access_secret: bytes | None
    refresh: Token | None
    refresh_secret: bytes | None
    position: int
    instant: datetime
    repeated: bool = False


class _NoSubjectKey(Exception):
    """The subject has no key yet."""


async def issue_tokens(service: Service, envelope: Envelope, kept: Kept, client: Client, grant: Grant) -> Handout:
    """Issue what the grant says, under the client's strategy. GrantRefused, InvalidInput for more than a string has room
    for, and what `execute` raises."""
    now = datetime.now(UTC)
    family_id = uuid7(now)
    access_secret = new_secret() if client.strategy == "opaque" else None
    refresh_secret = new_secret()
    made = _made(service, kept, client.strategy, access_secret, refresh_secret)
    keys = Keys(
        clients=[client.client_id],
        subjects=[grant.subject_id],
        apis=grant.api_ids,
        keys=made.key_ids,
        other_streams=[family_id],  # of a family that is not there yet
    )

    def decide(state: State, instant: datetime) -> Sequence[Event]:
        events = issue(state, instant, family_id=family_id, grant=grant, made=made)
        _check_room(service, kept, events)
        return events

    receipt = await carry_out(service, envelope, keys, decide)
    (event,) = receipt.events
    assert isinstance(event, TokenIssued)
    access, *rest = event.tokens
    return Handout(
        access,
        access_secret,
        rest[0] if rest else None,
        refresh_secret if rest else None,
        receipt.position,
        receipt.instant,
        receipt.repeated,
    )


async def refresh_tokens(
    service: Service,
    envelope: Envelope,
    kept: Kept,
    client: Client,
    presented: Presented,
    found: Found,
    scope: Scope,
    presenter: bytes,
) -> Handout:
    """Use a refresh token: rotate it, or answer a lost rotation's successor again, or issue from a reusable one.

    `found`: what stands about the token of the string, with reference data of then; `scope`: audience and scope of the new
    access token, as far as they were asked for; `presenter`: who asks, to be sealed as evidence. GrantRefused for whatever does
    not stand; reuse is recorded first, which revokes the family, and then refused in the same words.
    """
    token, secret = found.token, presented.secret
    if token is None or secret is None or token.kind != "refresh":
        raise GrantRefused("unknown refresh token")
    if not digest_matches(token.secret_digest or bytes(32), secret):
        raise GrantRefused("unknown refresh token")
    token_id, subject_id = token.token_id, token.subject_id
    if token.family_status == "revoked":
        raise GrantRefused("the family is revoked")  # a replay of a dead family costs this one lookup
    if token.subject_status == "erased":
        raise GrantRefused("the subject was erased")
    rotating, rotated_at = client.refresh == "rotating", None
    if rotating and token.family_generation is not None and token.generation < token.family_generation - 1:
        rotated_at = await read_rotated_at(service.pool, token.family_id, token.generation + 1)
    retry_epoch, retry_key = await service.retry_keys.current(found.instant)
    successor = derive(retry_key, token.family_id, token.generation, secret)
    access_secret = successor.access_secret if client.strategy == "opaque" else None
    made = _made(service, kept, client.strategy, access_secret, successor.refresh_secret)
    keys = Keys(
        tokens=[token_id],
        families=[token.family_id],
        subjects=[subject_id],
        sealed_keys=[subject_id] if rotating else [],
        clients=list(dict.fromkeys([token.client_id, client.client_id])),
        apis=token.api_ids,
        keys=made.key_ids,
    )

    def decide(state: State, instant: datetime) -> Sequence[Event]:
        sealed_presented_by = None
        # The key of an erased subject was destroyed for good; the rules refuse what is asked in its name.
        if rotating and state.subjects[subject_id].status != "erased":
            if subject_id not in state.sealed_keys:
                raise _NoSubjectKey
            key = SubjectKey.open(service.master, subject_id, state.sealed_keys[subject_id])
            sealed_presented_by = key.seal(presenter, "presenter")
        events = refresh(
            state,
            instant,
            token_id=token_id,
            client_id=client.client_id,
            made=made,
            retry_epoch=retry_epoch,
            role_ids=scope.role_ids,
            direct=scope.direct,
            narrowed=scope.asked,
            api_ids=scope.api_ids if scope.apis_asked else None,
            presented_rotated_at=rotated_at,
            sealed_presented_by=sealed_presented_by,
        )
        _check_room(service, kept, events)
        return events

    try:
        receipt = await carry_out(service, envelope, keys, decide)
    except _NoSubjectKey:
        await subject_key(service, subject_id)  # of a service account: it is made when something is first sealed
        receipt = await carry_out(service, envelope, keys, decide)
    if not receipt.events:
        assert receipt.state is not None
        return await _successor_again(service, receipt.state, token_id, secret, receipt.position, receipt.instant)
    event = receipt.events[0]  # with revoke_access_on_rotation another one follows
    if isinstance(event, ReuseDetected):
        raise GrantRefused("a rotated refresh token was used again")
    assert isinstance(event, TokenIssued | TokenRotated)
    access, *rest = event.tokens
    return Handout(
        access,
        access_secret,
        rest[0] if rest else None,
        successor.refresh_secret if rest else None,
        receipt.position,
        receipt.instant,
    )


async def _successor_again(
    service: Service, state: State, token_id: UUID, secret: bytes, position: int, instant: datetime
) -> Handout:
    """Answer a rotation's successor once more, derived again from what was presented; nothing is written."""
    presented = state.tokens[token_id]
    family = state.families[presented.family_id]
    assert family.retry_epoch is not None
    assert family.refresh_token_id is not None
    assert family.access_token_id is not None
    key = await service.retry_keys.of(family.retry_epoch)
    if key is None:
        raise GrantRefused("the retry key is gone")
    successor = derive(key, family.family_id, presented.generation, secret)
    reading = await read_state(service.pool, Keys(tokens=[family.access_token_id, family.refresh_token_id]))
    # Another worker made them, perhaps with a key that this one has not seen yet.
    await service.find(NOBODY)
    access = reading.state.tokens[family.access_token_id]
    refresh_token = reading.state.tokens[family.refresh_token_id]
    access_secret = successor.access_secret if access.strategy == "opaque" else None
    for token, derived in ((refresh_token, successor.refresh_secret), (access, access_secret)):
        if derived is not None and not digest_matches(token.secret_digest or bytes(32), derived):
            raise GrantRefused("the successor cannot be derived again")
    return Handout(access, access_secret, refresh_token, successor.refresh_secret, position, instant)


def _made(service: Service, kept: Kept, strategy: Strategy, access_secret: bytes | None, refresh_secret: bytes) -> Made:
    now = datetime.now(UTC)
    return Made(
        strategy=strategy,
        access_token_id=uuid7(now),
        access_digest=secret_digest(access_secret) if access_secret is not None else None,
        refresh_token_id=uuid7(now),
        refresh_digest=secret_digest(refresh_secret),
        key_ids=service.keyring.keys_for(strategy, kept),
    )


def _check_room(service: Service, kept: Kept, events: Sequence[Event]) -> None:
    """Refuse a token whose string we would not take back: InvalidInput."""
    for event in events:
        for token in event.tokens if isinstance(event, TokenIssued | TokenRotated) else ():
            if token.kind == "access" and token.strategy != "opaque":
                size = len(jsontext.dumps(_claims(service, kept, token)).encode())
                if size > MAX_CLAIMS_BYTES:
                    rule = (
                        f"audience, scope and claims of at most {MAX_CLAIMS_BYTES} bytes in {token.strategy} tokens, not {size}"
                    )
                    raise InvalidInput.of("scope", rule)


def token_answer(service: Service, kept: Kept, handout: Handout) -> dict[str, Any]:
    """Answer the members of RFC 6749 section 5.1, with the ledger's own ids beside them."""
    access = handout.access
    answer: dict[str, Any] = {} if handout.repeated else {"access_token": _access_string(service, kept, handout)}
    answer |= {
        "token_type": "Bearer",
        "expires_in": max(0, int((access.expires_at - handout.instant).total_seconds())),
    }
    if handout.refresh is not None and handout.refresh_secret is not None and not handout.repeated:
        answer["refresh_token"] = write("refresh", handout.refresh.token_id, handout.refresh_secret)
    scope = kept.scope_text(access.role_ids, access.direct)
    if scope is not None:
        answer["scope"] = scope
    return answer | {
        "token_id": str(access.token_id),
        "family_id": str(access.family_id),
        "position": handout.position,
    }


def _access_string(service: Service, kept: Kept, handout: Handout) -> str:
    token = handout.access
    if token.strategy == "opaque":
        assert handout.access_secret is not None
        return write("access", token.token_id, handout.access_secret)
    return service.keyring.write(token.strategy, _claims(service, kept, token), token.key_ids)


def _claims(service: Service, kept: Kept, token: Token) -> dict[str, Any]:
    """Answer the claims of a token (RFC 9068 section 2.2); its custom claims override none of them."""
    claims = dict(token.claims or {}) | {
        "iss": service.settings.issuer_url(),
        "sub": str(token.subject_id),
        "aud": [kept.apis[api_id].audience for api_id in token.api_ids],
        "client_id": kept.clients[token.client_id].name,
        "iat": int(token.issued_at.timestamp()),
        "exp": int(token.expires_at.timestamp()),
        "jti": str(token.token_id),
    }
    scope = kept.scope_text(token.role_ids, token.direct)
    return claims if scope is None else claims | {"scope": scope}
