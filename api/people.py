"""People and their passwords: the same work and the same answer whoever is asked for."""

import json
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import UUID

from falcon.asgi import Request

from api.attempts import admit
from api.commands import carry_out, make_envelope
from api.service import NOBODY, Service
from ledger.errors import InvalidInput, Refused, TryAgain
from ledger.log import Actor, Recorded
from ledger.passwords import HashingBusy
from ledger.sealing import MasterKey, SubjectKey
from ledger.states import Subject
from ledger.statuses import stands
from ledger.subjects import set_password
from ledger.user_names import user_name_id
from projections.reading import Keys, read_state
from projections.sealed_keys import read_sealed_keys, store_sealed_key

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Proved:
    """A subject that knew its password as of a position: whatever is recorded for it is decided on that (Grant.proved_at)."""

    subject_id: UUID
    position: int


async def check_password_of(req: Request, service: Service, username: str, password: str) -> Proved | None:
    """Answer the subject whose name and password these are and who stands; None for anything else.

    The steps are the same for a name that is not there, or can be none, for a wrong password, for a subject that is suspended,
    erased or has no password: one attempt taken, three reads, two seals opened, one hash. TooManyAttempts before anything is
    hashed; HashingBusy beyond the bound.
    """
    try:
        name_id = user_name_id(service.master, username)
    except InvalidInput:
        name_id = NOBODY
    names = await read_state(service.pool, Keys(names=[name_id]))
    name = names.state.names.get(name_id)
    holder_id = name.holder_id if name is not None else None
    admitted = await admit(req, service, name_id, holder_id)
    subject_id = holder_id or NOBODY
    reading = await read_state(service.pool, Keys(subjects=[subject_id]))
    subject = reading.state.subjects.get(subject_id)
    sealed_key = (await read_sealed_keys(service.pool, [subject_id])).get(subject_id)
    sealed = None if subject is None else subject.sealed_password
    encoded: str | None = None
    if sealed_key is None or sealed is None:
        decoy = _decoy(service.master)
        SubjectKey.open(service.master, NOBODY, decoy[0]).unseal(decoy[1], "password")
    else:
        encoded = SubjectKey.open(service.master, subject_id, sealed_key).unseal(sealed, "password").decode()
    try:
        right = await service.passwords.verify(encoded, password)
    except HashingBusy:
        await admitted.unused()
        raise
    if not right or subject is None or encoded is None or not stands(subject.status, subject.status_until, reading.instant):
        return None
    await admitted.succeeded()
    if service.passwords.is_outdated(encoded):
        await _hash_anew(req, service, subject, password)
    return Proved(subject_id, reading.position)


@cache
def _decoy(master: MasterKey) -> tuple[bytes, bytes]:
    """Answer a sealed key and a sealed password of nobody, to be opened where somebody has none."""
    key = SubjectKey.new()
    return key.sealed(master, NOBODY), key.seal(bytes(97), "password")  # as long as an argon2id hash


async def _hash_anew(req: Request, service: Service, subject: Subject, password: str) -> None:
    """Put a hash of today's parameters in the place of an older one; another time where that is not possible now."""
    subject_id = subject.subject_id
    sealed_keys = await read_sealed_keys(service.pool, [subject_id])
    if subject_id not in sealed_keys:
        return
    key = SubjectKey.open(service.master, subject_id, sealed_keys[subject_id])

    try:
        sealed = key.seal((await service.passwords.hash(password)).encode(), "password")
        envelope = make_envelope(req, service, Actor("subject", subject_id, "password"), repeatable=False)
        await carry_out(
            service,
            envelope,
            Keys(subjects=[subject_id], administrators=True),
            lambda state, now: set_password(
                state, now, subject_id=subject_id, sealed_password=sealed, keep_tokens=True, known=subject.sealed_password
            ),
        )
    except (TryAgain, Refused) as error:  # also when it was changed meanwhile, and so hashed anew
        logger.info("a password was not hashed anew: %s", error.code)


async def subject_key(service: Service, subject_id: UUID) -> SubjectKey:
    """Answer the key that the subject's personal data is sealed under, made where a service account has none yet.

    Not for an erased subject: its key was destroyed for good, and what it sealed would be taken for broken under another.
    """
    sealed_keys = await read_sealed_keys(service.pool, [subject_id])
    if subject_id not in sealed_keys:
        # A client's service account comes without one. Two that make it at once: the first one's stays.
        await store_sealed_key(service.pool, subject_id, "subject", SubjectKey.new().sealed(service.master, subject_id))
        sealed_keys = await read_sealed_keys(service.pool, [subject_id])
    return SubjectKey.open(service.master, subject_id, sealed_keys[subject_id])


async def profile_of(service: Service, subject_id: UUID, sealed_profile: bytes | None) -> dict[str, Any]:
    """Answer a subject's profile in clear; empty where there is none or its key was destroyed."""
    plain = await _unsealed_profile(service, subject_id, sealed_profile)
    profile: dict[str, Any] = {} if plain is None else json.loads(plain)
    return profile


async def profiles_of(service: Service, rows: Sequence[Subject]) -> dict[UUID, dict[str, Any]]:
    """Answer the profiles in clear, of those that have one and whose key is there."""
    sealed_keys = await read_sealed_keys(service.pool, [row.subject_id for row in rows if row.sealed_profile is not None])
    profiles: dict[UUID, dict[str, Any]] = {}
    for row in rows:
        if row.sealed_profile is not None and row.subject_id in sealed_keys:
            key = SubjectKey.open(service.master, row.subject_id, sealed_keys[row.subject_id])
            profiles[row.subject_id] = json.loads(key.unseal(row.sealed_profile, "profile"))
    return profiles


async def names_of_subjects(service: Service, events: Sequence[Recorded], others: Collection[UUID] = ()) -> dict[UUID, str]:
    """Answer the user names of the people who acted, and of others, as they are now: nobody's who was erased."""
    actors = {UUID(event.metadata["actor"]["id"]) for event in events if event.metadata["actor"]["kind"] == "subject"}
    if not actors and not others:
        return {}
    reading = await read_state(service.pool, Keys(subjects=sorted({*actors, *others})))
    profiles = await profiles_of(service, list(reading.state.subjects.values()))
    return {subject_id: profile["username"] for subject_id, profile in profiles.items() if "username" in profile}


async def _unsealed_profile(service: Service, subject_id: UUID, sealed: bytes | None) -> bytes | None:
    sealed_keys = await read_sealed_keys(service.pool, [subject_id])
    if sealed is None or subject_id not in sealed_keys:
        return None
    return SubjectKey.open(service.master, subject_id, sealed_keys[subject_id]).unseal(sealed, "profile")
