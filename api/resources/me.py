"""/v1/me: one's own account, tokens and password, with any token that stands for the API `ledger`."""

from typing import Annotated
from uuid import UUID

import falcon
from falcon.asgi import Request, Response
from pydantic import Field

from api.asking import authenticate
from api.attempts import admit
from api.body import Body, read_body
from api.commands import carry_out, make_envelope
from api.pages import read_choice, read_limit, read_query, uuid_of
from api.people import profile_of
from api.resources.issue import IssueBody, issue_as_asked
from api.resources.tokens import KINDS, STATES, page_answer, read_token_cursor
from api.service import NOBODY, Service
from ledger.errors import InvalidInput
from ledger.instants import rfc3339
from ledger.passwords import HashingBusy, check_password
from ledger.sealing import SubjectKey
from ledger.subjects import set_password
from ledger.tokens import UnknownToken, change_token
from projections.reading import Keys, read_state
from projections.sealed_keys import read_sealed_keys
from projections.token_listing import TokenFilters, list_tokens


class NamedToken(Body):
    """A person's own token for a script: named, long-lived, without refresh."""

    name: Annotated[str, Field(min_length=1, max_length=128)]
    apis: Annotated[tuple[str, ...], Field(max_length=100)] = ()
    scope: Annotated[str, Field(max_length=8_192)] | None = None
    lifetime_seconds: Annotated[int, Field(ge=1)] | None = None


class PasswordChange(Body):
    """Whoever changes the password must know it."""

    current: Annotated[str, Field(max_length=2_048)]
    new: Annotated[str, Field(max_length=2_048)]


class Me:
    """Every endpoint of /v1/me, one responder each; api/app.py says which path is which."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def on_get(self, req: Request, resp: Response) -> None:
        """Answer who the caller is, and what it has."""
        service = self._service
        caller = await authenticate(req, service)
        reading = await read_state(service.pool, Keys(subjects=[caller.subject_id]))
        subject = reading.state.subjects[caller.subject_id]
        profile = await profile_of(service, subject.subject_id, subject.sealed_profile)
        _, kept = await service.find(NOBODY)  # after the reading: it knows every role that the subject had there
        resp.media = {
            "subject_id": str(subject.subject_id),
            "kind": subject.kind,
            "username": profile.get("username"),
            "roles": kept.role_names(subject.role_ids),
            "clearance": subject.clearance,
            "client": kept.clients[caller.client_id].name,
            "token_id": str(caller.token_id),
            "family_id": str(caller.family_id),
            "position": reading.position,
            "instant": rfc3339(reading.instant),
        }

    async def on_put_password(self, req: Request, resp: Response) -> None:
        """Change one's own password: every token of the subject is revoked, this one too."""
        service = self._service
        caller = await authenticate(req, service)
        body = await read_body(req, PasswordChange)
        check_password(body.new, "new")
        subject_id = caller.subject_id
        reading = await read_state(service.pool, Keys(subjects=[subject_id]))
        subject = reading.state.subjects[subject_id]
        sealed_keys = await read_sealed_keys(service.pool, [subject_id])
        if subject.sealed_password is None or subject_id not in sealed_keys:
            raise InvalidInput.of("current", "this subject has no password")
        key = SubjectKey.open(service.master, subject_id, sealed_keys[subject_id])
        encoded = key.unseal(subject.sealed_password, "password").decode()
        # A stolen token is no way around the budgets of a login.
        admitted = await admit(req, service, subject.name_id or NOBODY, subject_id)
        try:
            right = await service.passwords.verify(encoded, body.current)
        except HashingBusy:
            await admitted.unused()
            raise
        if not right:
            raise InvalidInput.of("current", "not the password")
        await admitted.succeeded()
        sealed = key.seal((await service.passwords.hash(body.new)).encode(), "password")
        receipt = await carry_out(
            service,
            make_envelope(req, service, caller.actor, repeatable=False),
            Keys(subjects=[subject_id], administrators=True),
            lambda state, now: set_password(
                state, now, subject_id=subject_id, sealed_password=sealed, known=subject.sealed_password
            ),
            urgent=True,
        )
        resp.media = {"subject_id": str(subject_id), "position": receipt.position}

    async def on_get_tokens(self, req: Request, resp: Response) -> None:
        """List one's own tokens, newest first, as the administrator sees them."""
        service = self._service
        caller = await authenticate(req, service)
        query = read_query(req, ("kind", "state", "cursor", "limit"))
        filters = TokenFilters(
            subject_id=caller.subject_id,
            kind=read_choice(query, "kind", KINDS),
            state=read_choice(query, "state", STATES),
        )
        page = await list_tokens(
            service.pool, service.reference, filters, limit=read_limit(query), before=read_token_cursor(query)
        )
        resp.media = page_answer(page)

    async def on_post_tokens(self, req: Request, resp: Response) -> None:
        """Issue oneself a named token through the client one is logged in with; its string is shown here only.

        It stands for no more than the token of this request: a narrow token, once leaked, would be worth a wide one.
        """
        service = self._service
        caller = await authenticate(req, service)
        asked = await read_body(req, NamedToken)
        _, kept = await service.find(NOBODY)
        client = kept.clients[caller.client_id]
        body = IssueBody(**asked.model_dump())
        resp.media = await issue_as_asked(req, service, kept, client, caller.subject_id, caller.actor, body, within=caller)
        resp.status = falcon.HTTP_201

    async def on_delete_token(self, req: Request, resp: Response, token_id: str) -> None:
        """Revoke one's own token; another's is as unknown as none."""
        service = self._service
        caller = await authenticate(req, service)
        identifier = uuid_of(token_id)
        found = None if identifier is None else (await service.find(identifier))[0].token
        if found is None or found.subject_id != caller.subject_id:
            raise UnknownToken("there is no such token")
        token: UUID = found.token_id
        receipt = await carry_out(
            service,
            make_envelope(req, service, caller.actor),
            Keys(tokens=[token], families=[found.family_id]),
            lambda state, now: change_token(state, now, token_id=token, verb="revoke", reason="revoked by its owner"),
            urgent=True,
        )
        resp.media = {"token_id": token_id, "position": receipt.position}
