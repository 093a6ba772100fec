"""/v1/subjects: people and service accounts, their roles and own rules, suspension, revocation, erasure."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import falcon
from falcon.asgi import Request, Response
from pydantic import Field

from api.asking import authorize
from api.body import Body, read_body, read_optional_body
from api.commands import carry_out, make_envelope
from api.pages import AS_OF, read_choice, read_limit, read_query, read_uuid, uuid_of
from api.people import profiles_of, subject_key
from api.resources.bodies import Because, CutOff, RuleBody, RuleIds, Suspension, rule_answer, status_of
from api.seeing import Seen, see
from api.service import Service
from ledger import subjects
from ledger.apis import api_id_of
from ledger.errors import InvalidInput, NotAPerson, SubjectIsErased, UnknownApi, UnknownRole, UnknownSubject
from ledger.events import SubjectRegistered
from ledger.execute import Reading
from ledger.identifiers import uuid7
from ledger.passwords import check_password
from ledger.sealing import SubjectKey
from ledger.states import State, Subject
from ledger.user_names import user_name_id
from projections.audit import read_state_as_of
from projections.listing import FIRST, list_permissions, list_subjects
from projections.reading import Keys, read_state
from projections.reference import Kept
from projections.sealed_keys import destroy_sealed_key, store_sealed_key

KINDS: Final = ("person", "service")
STATUSES: Final = ("active", "suspended", "erased")

Name = Annotated[str, Field(min_length=1, max_length=200)]


class Profile(Body):
    """What is personal: sealed under the subject's own key. A person has a `username`, a service account has none."""

    username: Name | None = None
    display_name: Name | None = None
    email: Name | None = None

    def sealed(self, key: SubjectKey) -> bytes:
        """Answer the members that are given, sealed."""
        return key.seal(self.model_dump_json(include=set(Profile.model_fields), exclude_none=True).encode(), "profile")


class NewSubject(Profile):
    """A subject to be registered."""

    kind: Literal["person", "service"] = "person"
    password: str | None = None
    clearance: Annotated[int, Field(ge=0, le=subjects.MAX_CLEARANCE)] = 0


class NewPassword(Body):
    """A password. `keep_tokens`: those that the subject has go on; otherwise they are revoked."""

    password: str
    keep_tokens: bool = False


class Clearance(Body):
    """A clearance."""

    clearance: Annotated[int, Field(ge=0, le=subjects.MAX_CLEARANCE)]


class RoleNames(Body):
    """Roles, each as `api:role` or by its id."""

    roles: Annotated[tuple[str, ...], Field(min_length=1, max_length=subjects.MAX_ROLES)]


class OwnRule(RuleBody):
    """A rule of the subject's own, of one API by its name."""

    api: str


class OwnRules(Body):
    """Rules of the subject's own."""

    rules: Annotated[tuple[OwnRule, ...], Field(min_length=1, max_length=subjects.MAX_RULES)]


class Subjects:
    """Every endpoint of /v1/subjects, one responder each; api/app.py says which path is which."""

    def __init__(self, service: Service) -> None:
        self._service = service

    # --------------------------------------------------------------------------------------------- /v1/subjects

    async def on_post(self, req: Request, resp: Response) -> None:
        """Register a person or a service account."""
        service = self._service
        caller = await authorize(req, service)
        body = await read_body(req, NewSubject)
        if body.password is not None:
            check_password(body.password)
        name_id = None if body.username is None else user_name_id(service.master, body.username)
        envelope = make_envelope(req, service, caller.actor)
        subject_id = uuid7(datetime.now(UTC))
        key = SubjectKey.new()
        sealed_password = None
        if body.password is not None:
            sealed_password = key.seal((await service.passwords.hash(body.password)).encode(), "password")
        # Before the event that needs it: the other way round a crash between the two would leave a subject without its key.
        await store_sealed_key(service.pool, subject_id, "subject", key.sealed(service.master, subject_id))
        receipt = await carry_out(
            service,
            envelope,
            Keys(subjects=[subject_id], names=[] if name_id is None else [name_id]),
            lambda state, now: subjects.register(
                state,
                now,
                subject_id=subject_id,
                kind=body.kind,
                name_id=name_id,
                sealed_profile=body.sealed(key),
                sealed_password=sealed_password,
                clearance=body.clearance,
            ),
        )
        (registered,) = (event for event in receipt.events if isinstance(event, SubjectRegistered))
        resp.status = falcon.HTTP_201
        resp.location = f"/v1/subjects/{registered.subject_id}"
        resp.media = {"subject_id": str(registered.subject_id), "position": receipt.position}

    async def on_get(self, req: Request, resp: Response) -> None:
        """List subjects, or find the one of a user name (`username`)."""
        service = self._service
        caller = await authorize(req, service)
        query = read_query(req, ("username", "kind", "status", "role", *AS_OF, "cursor", "limit"))
        if query.keys() - {"username", *AS_OF} and "username" in query:
            raise InvalidInput.of("username", "stands alone: it names one subject")
        seen = await see(service, query, caller.kept)
        if "username" in query:
            await self._find(query["username"], seen, resp)
            return
        limit = read_limit(query)
        page = await list_subjects(
            service.pool,
            limit=limit,
            after=read_uuid(query, "cursor", FIRST),
            kind=read_choice(query, "kind", KINDS),
            status=read_choice(query, "status", STATUSES),
            role_id=await _role_then(seen, query["role"]) if "role" in query else None,
            moment=seen.moment,
        )
        resp.media = {
            "subjects": await _answers(seen, page.rows, page.instant),
            "next": str(page.rows[-1].subject_id) if len(page.rows) == limit else None,
            **seen.where(page.position, page.instant),
        }

    async def _find(self, username: str, seen: Seen, resp: Response) -> None:
        service = self._service
        name_id = user_name_id(service.master, username)
        reading = await self._read(seen, Keys(names=[name_id]))
        name = reading.state.names.get(name_id)
        found = []
        if name is not None and name.holder_id is not None:
            reading = await self._read(seen, Keys(subjects=[name.holder_id]))
            row = reading.state.subjects[name.holder_id]
            # Renamed or erased between the two readings: the name is nobody's any more.
            if row.name_id == name_id:
                found = await _answers(seen, [row], reading.instant)
        resp.media = {"subjects": found, "next": None, **seen.where(reading.position, reading.instant)}

    # -------------------------------------------------------------------------------- /v1/subjects/{subject_id}

    async def on_get_one(self, req: Request, resp: Response, subject_id: str) -> None:
        """Answer one subject, with its profile in clear."""
        service = self._service
        caller = await authorize(req, service)
        seen = await see(service, read_query(req, AS_OF), caller.kept)
        identifier = _subject_id(subject_id)
        reading = await self._read(seen, Keys(subjects=[identifier]))
        row = reading.state.subjects.get(identifier)
        if row is None:
            raise UnknownSubject(identifier)
        (answer,) = await _answers(seen, [row], reading.instant)
        resp.media = answer | seen.where(reading.position, reading.instant)

    async def on_put_profile(self, req: Request, resp: Response, subject_id: str) -> None:
        """Set the profile whole; another user name frees the old one."""
        service = self._service
        caller = await authorize(req, service)
        body = await read_body(req, Profile)
        identifier = _subject_id(subject_id)
        name_id = None if body.username is None else user_name_id(service.master, body.username)
        row, key = await self._row_and_key(identifier)
        sealed_profile = body.sealed(key)
        names = {name for name in (row.name_id, name_id) if name is not None}
        receipt = await carry_out(
            service,
            make_envelope(req, service, caller.actor),
            Keys(subjects=[identifier], names=list(names)),
            lambda state, now: subjects.set_profile(
                state, now, subject_id=identifier, name_id=name_id, sealed_profile=sealed_profile
            ),
        )
        resp.media = {"subject_id": str(identifier), "position": receipt.position}

    async def on_put_password(self, req: Request, resp: Response, subject_id: str) -> None:
        """Set the password, and revoke the subject's tokens unless they are to be kept."""
        service = self._service
        caller = await authorize(req, service)
        body = await read_body(req, NewPassword)
        check_password(body.password)
        identifier = _subject_id(subject_id)
        row, key = await self._row_and_key(identifier)
        if row.kind != "person":
            raise NotAPerson(identifier)
        sealed_password = key.seal((await service.passwords.hash(body.password)).encode(), "password")
        receipt = await carry_out(
            service,
            make_envelope(req, service, caller.actor),
            Keys(subjects=[identifier], administrators=True),
            lambda state, now: subjects.set_password(
                state, now, subject_id=identifier, sealed_password=sealed_password, keep_tokens=body.keep_tokens
            ),
            urgent=not body.keep_tokens,
        )
        resp.media = {"subject_id": str(identifier), "position": receipt.position}

    async def on_put_clearance(self, req: Request, resp: Response, subject_id: str) -> None:
        """Set the clearance."""
        service = self._service
        caller = await authorize(req, service)
        body = await read_body(req, Clearance)
        identifier = _subject_id(subject_id)
        receipt = await carry_out(
            service,
            make_envelope(req, service, caller.actor),
            Keys(subjects=[identifier]),
            lambda state, now: subjects.set_clearance(state, now, subject_id=identifier, clearance=body.clearance),
        )
        resp.media = {"subject_id": str(identifier), "position": receipt.position}

    # ------------------------------------------------------------------------------------------- roles and rules

    async def on_post_roles(self, req: Request, resp: Response, subject_id: str) -> None:
        """Grant roles."""
        service = self._service
        caller = await authorize(req, service)
        body = await read_body(req, RoleNames)
        identifier = _subject_id(subject_id)
        role_ids = [_role_id(caller.kept, name) for name in body.roles]
        receipt = await carry_out(
            service,
            make_envelope(req, service, caller.actor),
            Keys(subjects=[identifier], roles=role_ids, administrators=True),
            lambda state, now: subjects.grant_roles(state, now, subject_id=identifier, role_ids=role_ids),
        )
        resp.media = {"subject_id": str(identifier), "position": receipt.position}

    async def on_post_roles_withdraw(self, req: Request, resp: Response, subject_id: str) -> None:
        """Withdraw roles; a removed one by its id."""
        service = self._service
        caller = await authorize(req, service)
        body = await read_body(req, RoleNames)
        identifier = _subject_id(subject_id)
        role_ids = [_role_id(caller.kept, name) for name in body.roles]
        receipt = await carry_out(
            service,
            make_envelope(req, service, caller.actor),
            Keys(subjects=[identifier], administrators=True),
            lambda state, now: subjects.withdraw_roles(state, now, subject_id=identifier, role_ids=role_ids),
            urgent=True,
        )
        resp.media = {"subject_id": str(identifier), "position": receipt.position}

    async def on_get_rules(self, req: Request, resp: Response, subject_id: str) -> None:
        """Answer the subject's own rules: at most 100, so all of them."""
        service = self._service
        caller = await authorize(req, service)
        seen = await see(service, read_query(req, AS_OF), caller.kept)
        identifier = _subject_id(subject_id)
        reading = await self._read(seen, Keys(subjects=[identifier], rules_of_subjects=[identifier]))
        if identifier not in reading.state.subjects:
            raise UnknownSubject(identifier)
        held = reading.state.subject_rules.get(identifier)
        resp.media = {
            "subject_id": str(identifier),
            "rules": [{"api": caller.kept.apis[rule.api_id].name} | rule_answer(rule) for rule in (held.rules if held else ())],
            **seen.where(reading.position, reading.instant),
        }

    async def on_post_rules(self, req: Request, resp: Response, subject_id: str) -> None:
        """Grant rules of the subject's own."""
        service = self._service
        caller = await authorize(req, service)
        body = await read_body(req, OwnRules)
        identifier = _subject_id(subject_id)
        rules = [own.checked(f"rules.{number}").of_api(_api_id(caller.kept, own.api)) for number, own in enumerate(body.rules)]
        receipt = await carry_out(
            service,
            make_envelope(req, service, caller.actor),
            Keys(
                subjects=[identifier],
                rules_of_subjects=[identifier],
                apis=list(dict.fromkeys(rule.api_id for rule in rules)),
            ),
            lambda state, now: subjects.grant_rules(state, now, subject_id=identifier, rules=rules),
        )
        resp.media = {
            "subject_id": str(identifier),
            "rule_ids": [str(rule.rule_id) for rule in rules],
            "position": receipt.position,
        }

    async def on_post_rules_withdraw(self, req: Request, resp: Response, subject_id: str) -> None:
        """Withdraw rules of the subject's own."""
        service = self._service
        caller = await authorize(req, service)
        body = await read_body(req, RuleIds)
        identifier = _subject_id(subject_id)
        receipt = await carry_out(
            service,
            make_envelope(req, service, caller.actor),
            Keys(subjects=[identifier], rules_of_subjects=[identifier]),
            lambda state, now: subjects.withdraw_rules(state, now, subject_id=identifier, rule_ids=body.rule_ids),
            urgent=True,
        )
        resp.media = {"subject_id": str(identifier), "position": receipt.position}

    async def on_get_permissions(self, req: Request, resp: Response, subject_id: str) -> None:
        """Answer what the subject may call: its own rules and those of its roles, page by page, of one API if wanted.

        `applies`: a deny always does, an allow when the subject's clearance is enough.
        """
        service = self._service
        caller = await authorize(req, service)
        query = read_query(req, ("api", *AS_OF, "cursor", "limit"))
        limit = read_limit(query)
        seen = await see(service, query, caller.kept)
        identifier = _subject_id(subject_id)
        reading = await self._read(seen, Keys(subjects=[identifier]))
        row = reading.state.subjects.get(identifier)
        if row is None:
            raise UnknownSubject(identifier)
        page = await list_permissions(
            service.pool,
            identifier,
            limit=limit,
            after=_permission_cursor(query),
            api_id=_api_id(caller.kept, query["api"]) if "api" in query else None,
            moment=seen.moment,
        )
        resp.media = {
            "subject_id": str(identifier),
            "clearance": row.clearance,
            "status": row.status,
            "permissions": [
                {
                    "api": caller.kept.apis[permission.api_id].name,
                    "role": permission.role,
                    "rule_id": str(permission.rule_id),
                    "effect": permission.effect,
                    "methods": list(permission.methods),
                    "path": permission.path,
                    "min_clearance": permission.min_clearance,
                    "applies": permission.effect == "deny" or row.clearance >= (permission.min_clearance or 0),
                    "changed_at_position": permission.position,
                }
                for permission in page.rows
            ],
            "next": ".".join(map(str, page.rows[-1].key)) if len(page.rows) == limit else None,
            **seen.where(page.position, page.instant),
        }

    # ------------------------------------------------------------------------- suspension, revocation, erasure

    async def on_post_suspend(self, req: Request, resp: Response, subject_id: str) -> None:
        """Suspend the subject and with it every token it has."""
        service = self._service
        caller = await authorize(req, service)
        body = await read_body(req, Suspension)
        identifier = _subject_id(subject_id)
        receipt = await carry_out(
            service,
            make_envelope(req, service, caller.actor),
            Keys(subjects=[identifier], administrators=True),
            lambda state, now: subjects.suspend(state, now, subject_id=identifier, reason=body.reason, until=body.until),
            urgent=True,
        )
        resp.media = {"subject_id": str(identifier), "position": receipt.position}

    async def on_post_reinstate(self, req: Request, resp: Response, subject_id: str) -> None:
        """End the suspension."""
        service = self._service
        caller = await authorize(req, service)
        body = await read_optional_body(req, Because)
        identifier = _subject_id(subject_id)
        receipt = await carry_out(
            service,
            make_envelope(req, service, caller.actor),
            Keys(subjects=[identifier], administrators=True),
            lambda state, now: subjects.reinstate(state, now, subject_id=identifier, reason=body.reason),
        )
        resp.media = {"subject_id": str(identifier), "position": receipt.position}

    async def on_post_revoke_tokens(self, req: Request, resp: Response, subject_id: str) -> None:
        """Revoke every token the subject has been issued so far, or recorded before an instant."""
        service = self._service
        caller = await authorize(req, service)
        body = await read_optional_body(req, CutOff)
        cutoff_position = await body.position(service)
        identifier = _subject_id(subject_id)
        receipt = await carry_out(
            service,
            make_envelope(req, service, caller.actor),
            Keys(subjects=[identifier]),
            lambda state, now: subjects.revoke_tokens(
                state, now, subject_id=identifier, reason=body.reason, cutoff_position=cutoff_position
            ),
            urgent=True,
        )
        resp.media = {"subject_id": str(identifier), "position": receipt.position}

    async def on_post_erase(self, req: Request, resp: Response, subject_id: str) -> None:
        """Erase what is personal of the subject, for good, and revoke its tokens."""
        service = self._service
        caller = await authorize(req, service)
        body = await read_optional_body(req, Because)
        identifier = _subject_id(subject_id)
        envelope = make_envelope(req, service, caller.actor)
        row = (await read_state(service.pool, Keys(subjects=[identifier]))).state.subjects.get(identifier)
        receipt = await carry_out(
            service,
            envelope,
            Keys(
                subjects=[identifier],
                rules_of_subjects=[identifier],
                names=[row.name_id] if row is not None and row.name_id is not None else [],
                administrators=True,
            ),
            lambda state, now: subjects.erase(state, now, subject_id=identifier, reason=body.reason),
            urgent=True,
        )
        # Also for a subject erased before: the answer to that request may have been lost before the key was destroyed.
        await destroy_sealed_key(service.pool, identifier)
        resp.media = {"subject_id": str(identifier), "position": receipt.position}

    async def _read(self, seen: Seen, keys: Keys) -> Reading[State]:
        """Answer rows of subjects, their rules or user names, as they are or were."""
        if seen.moment is None:
            return await read_state(self._service.pool, keys)
        async with self._service.pool.connection() as connection:
            return await read_state_as_of(connection, keys, seen.moment)

    async def _row_and_key(self, subject_id: UUID) -> tuple[Subject, SubjectKey]:
        """Answer a subject's row and the key its personal data is sealed under, made where a service account has none yet."""
        service = self._service
        row = (await read_state(service.pool, Keys(subjects=[subject_id]))).state.subjects.get(subject_id)
        if row is None:
            raise UnknownSubject(subject_id)
        if row.status == "erased":
            raise SubjectIsErased(subject_id)
        return row, await subject_key(service, subject_id)


async def _answers(seen: Seen, rows: Sequence[Subject], instant: datetime) -> list[dict[str, Any]]:
    """Answer subjects, with their profiles in clear: those of then, as long as they have not been erased since."""
    profiles = await profiles_of(seen.service, rows)
    kept = await seen.reference(role_ids=[role_id for row in rows for role_id in row.role_ids])
    return [_answer(row, profiles, kept, instant) for row in rows]


def _answer(row: Subject, profiles: dict[UUID, dict[str, Any]], kept: Kept, instant: datetime) -> dict[str, Any]:
    profile = profiles.get(row.subject_id, {})
    return {
        "subject_id": str(row.subject_id),
        "kind": row.kind,
        "username": profile.get("username"),
        "display_name": profile.get("display_name"),
        "email": profile.get("email"),
        "has_password": row.sealed_password is not None,
        "clearance": row.clearance,
        "roles": [
            {
                "role_id": str(role_id),
                "api": kept.apis[kept.roles[role_id].api_id].name,
                "role": kept.roles[role_id].name,
                "removed": kept.roles[role_id].removed,
            }
            for role_id in row.role_ids
            if role_id in kept.roles
        ],
        **status_of(row, instant),
    }


def _subject_id(text: str) -> UUID:
    identifier = uuid_of(text)
    if identifier is None:
        raise UnknownSubject(text)
    return identifier


def _role_id(kept: Kept, text: str) -> UUID:
    """Answer the id of a role that is named `api:role`, or by its id."""
    role_id = kept.role_id(text) or uuid_of(text)
    if role_id is None:
        raise UnknownRole(text)
    return role_id


async def _role_then(seen: Seen, text: str) -> UUID:
    """The same for a role of then: its name may be another's now."""
    if seen.moment is None:
        return _role_id(seen.kept, text)
    api, _, role = text.partition(":")
    return uuid_of(text) or (await seen.role(api, role)).role_id


def _api_id(kept: Kept, name: str) -> UUID:
    api_id = api_id_of(name)
    if api_id not in kept.apis:
        raise UnknownApi(name)
    return api_id


def _permission_cursor(query: dict[str, str]) -> tuple[UUID, UUID, UUID]:
    if "cursor" not in query:
        return FIRST, FIRST, FIRST
    match [uuid_of(part) for part in query["cursor"].split(".")]:
        case [UUID() as role_id, UUID() as api_id, UUID() as rule_id]:
            return role_id, api_id, rule_id
    raise InvalidInput.of("cursor", "the `next` of the page before")
