"""A decision told in sentences: by whom, when and why everything came to be that it rests on, each at its position.

Told from the events at the positions that the decision names (its evidence), and from those that made what it rests on so: a
row says that a subject is suspended, the event that suspended it may lie before it. Every sentence is made here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from api.asking import Answered
from api.event_answers import who, why
from api.people import names_of_subjects
from api.service import NOBODY, Service
from ledger.cascade import TokenStanding
from ledger.decisions import REASONS
from ledger.instants import rfc3339
from ledger.log import Recorded
from projections.audit import RecordedEvent, read_at, read_newest
from projections.reference import Kept

# What is looked for when something stops a token, by the reason of the decision: events about which id, of which types.
_STOPS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "token_suspended": ("token", ("token_suspended",)),
    "token_revoked": ("token", ("token_revoked",)),
    "family_suspended": ("family", ("family_suspended",)),
    "family_revoked": ("family", ("family_revoked", "reuse_detected")),
    "subject_suspended": ("subject", ("subject_suspended",)),
    "subject_erased": ("subject", ("subject_erased",)),
    "client_suspended": ("client", ("client_suspended",)),
    "api_suspended": ("api", ("api_suspended",)),
    "key_revoked": ("key", ("key_revoked",)),
}
_CUTS: Final[Mapping[str, tuple[str, ...]]] = {
    "subject": ("subject_tokens_revoked", "subject_password_set", "subject_erased"),
    "client": ("client_tokens_revoked",),
    "api": ("api_tokens_revoked",),
}
_DONE: Final[Mapping[str, str]] = {
    "suspended": "was suspended",
    "revoked": "was revoked",
    "detected": "was revoked, because a rotated refresh token was used again",
}

_THINGS: Final[Mapping[str, str]] = {
    "token": "It",
    "family": "Its family",
    "reuse": "Its family",
    "client": "The client it was issued to",
    "api": "The API",
    "key": "A key it was made with",
}


@dataclass(frozen=True, slots=True)
class Sentence:
    """What is said, and the position of the event that says so; None where none does."""

    text: str
    position: int | None = None


async def explain(service: Service, answered: Answered, api_id: UUID, method: str, path: str) -> list[Sentence]:
    """Answer why the decision is as it is, the conclusion last. Names are those of now."""
    decision, token = answered.decision, answered.standing
    conclusion = Sentence(
        f"So {method} {path} is allowed."
        if decision.allowed
        else f"So {method} {path} is denied: {decision.reason}, {REASONS[decision.reason]}."
    )
    if token is None:
        return [Sentence("The ledger knows no token of this id at that position."), conclusion]
    position, evidence = decision.position, decision.evidence
    # Before anything is awaited: the reference data is of that position until then.
    sought = _sought(answered, api_id)
    async with service.pool.connection() as connection:
        wanted = {"issue": token.position}
        for name, entity_id, types, mentions in sought:
            newest = await read_newest(connection, entity_id, types, position, mentions)
            if newest is not None:
                wanted[name] = newest
        if "rule" in evidence:
            wanted["rule"] = evidence["rule"]
        events = {event.position: event for event in await read_at(connection, sorted(set(wanted.values())))}
    # Names as of now: from after the reading, so that there is one for whatever was read.
    _, kept = await service.find(NOBODY)
    names = await names_of_subjects(service, list(events.values()), [token.subject_id])
    teller = _Teller(names, kept, {name: events[at] for name, at in wanted.items() if at in events})
    return [*teller.sentences(answered, token, api_id), conclusion]


def _sought(answered: Answered, api_id: UUID) -> list[tuple[str, UUID, tuple[str, ...], UUID | None]]:
    """Answer which newest events are to be found: under which name, about whom, of which types, of which role or key."""
    decision, token, kept = answered.decision, answered.standing, answered.kept
    assert token is not None
    ids = {
        "token": token.token_id,
        "family": token.family_id,
        "subject": token.subject_id,
        "client": token.client_id,
        "api": api_id,
    }
    sought: list[tuple[str, UUID, tuple[str, ...], UUID | None]] = []
    if decision.reason == "key_revoked":
        revoked = [key_id for key_id in token.key_ids if kept.keys[key_id].status == "revoked"]
        sought.append(("stop", revoked[0], ("key_revoked",), None))
    elif decision.reason in _STOPS:
        whose, types = _STOPS[decision.reason]
        sought.append(("stop", ids[whose], types, None))
    if decision.reason == "tokens_revoked_before":
        cutoffs = [(token.subject_cutoff_position, token.subject_id, _CUTS["subject"])]
        cutoffs.append((kept.clients[token.client_id].cutoff_position, token.client_id, _CUTS["client"]))
        cutoffs += [(kept.apis[audience].cutoff_position, audience, _CUTS["api"]) for audience in token.api_ids]
        _, of_level, types = max(cutoffs, key=lambda cutoff: cutoff[0])
        sought.append(("stop", of_level, types, None))
    role_id = _role_of_rule(answered, api_id)
    if role_id is not None:
        sought.append(("grant", token.subject_id, ("subject_roles_granted",), role_id))
    if decision.missing is not None:
        sought.append(("clearance", token.subject_id, ("subject_clearance_set", "subject_registered"), None))
    return sought


def _role_of_rule(answered: Answered, api_id: UUID) -> UUID | None:
    """Answer the role whose rule is named; None for a rule of the subject's own, and where none is."""
    rule, token, kept = answered.decision.rule, answered.standing, answered.kept
    if rule is None or token is None or rule["role"] == "direct":
        return None
    roles = (kept.roles[role_id] for role_id in token.subject_role_ids if role_id in kept.roles)
    return next((r.role_id for r in roles if r.name == rule["role"] and r.api_id == api_id and not r.removed), None)


@dataclass(frozen=True, slots=True)
class _Teller:
    """Makes the sentences from events, by what they are for."""

    names: Mapping[UUID, str]
    kept: Kept
    events: Mapping[str, RecordedEvent]

    def sentences(self, answered: Answered, token: TokenStanding, api_id: UUID) -> list[Sentence]:
        """Answer the sentences before the conclusion."""
        decision, kept = answered.decision, self.kept
        issue, whose = self.events["issue"], self._subject(token.subject_id)
        how = "by a refresh of its family" if issue.type == "token_rotated" else f"by {self._who(issue)}"
        audience = ", ".join(sorted(kept.apis[audience].name for audience in token.api_ids))
        told = [
            Sentence(
                f"The {token.kind} token {token.token_id} was issued to {whose} through the client"
                f" {kept.clients[token.client_id].name}, for {audience}, {how} {self._when(issue)},"
                f" until {rfc3339(token.expires_at)}.",
                issue.position,
            )
        ]
        stop = self.events.get("stop")
        if stop is not None:
            told.append(self._stop(stop, whose))
        if decision.reason == "wrong_audience":
            told.append(Sentence(f"It is not for the API {kept.apis[api_id].name}."))
        if decision.rule is not None:
            told += self._rule(decision.rule, decision.missing, whose)
        elif decision.token_stands and not decision.reason.startswith(("bad_", "path_")):
            roles = sorted(
                kept.role_name(role_id)
                for role_id in token.subject_role_ids
                if role_id in kept.roles and kept.roles[role_id].api_id == api_id
            )
            has = f"has the roles {', '.join(roles)}" if roles else f"has no role of the API {kept.apis[api_id].name}"
            told.append(Sentence(f"{whose} {has}, as of position {token.subject_position}.", token.subject_position))
        return told

    def _rule(self, rule: Mapping[str, Any], missing: Mapping[str, int] | None, whose: str) -> list[Sentence]:
        made = self.events.get("rule")
        verb = "allows" if rule["rule"].startswith("allow") else "denies"
        holder = "the subject itself" if rule["role"] == "direct" else f"the role {rule['role']}"
        since = "" if made is None else f", as {self._who(made)} granted it {self._when(made)}"
        told = [
            Sentence(f"The rule “{rule['rule']}” of {holder} {verb} it{since}.", None if made is None else made.position),
        ]
        grant = self.events.get("grant")
        if grant is not None:
            told.append(
                Sentence(
                    f"The role {rule['role']} was granted to {whose} by {self._who(grant)} {self._when(grant)}.", grant.position
                )
            )
        if missing is not None:
            cleared = self.events.get("clearance")
            since = "" if cleared is None else f", as {self._who(cleared)} set it {self._when(cleared)}"
            told.append(
                Sentence(
                    f"It needs a clearance of {missing['needed']}; {whose} has {missing['has']}{since}.",
                    None if cleared is None else cleared.position,
                )
            )
        return told

    def _stop(self, event: Recorded, whose: str) -> Sentence:
        kind, _, verb = event.type.partition("_")
        reason = why(event)
        by, because = f" by {self._who(event)}", "" if reason is None else f", because: {reason}"
        if verb == "detected":
            by = because = ""  # it is what was done that says why
        if event.type == "subject_erased":
            text = f"{whose} was erased"
        elif verb in ("tokens_revoked", "password_set"):
            of = {"subject": whose, "client": "the client", "api": "the API"}[kind]
            with_password = " with a new password" if verb == "password_set" else ""
            up_to = "then" if event.payload["cuts_off"] else f"position {event.payload[kind]['cutoff_position']}"
            text = f"All tokens of {of} up to {up_to} were revoked{with_password}"
        else:
            text = f"{whose if kind == 'subject' else _THINGS[kind]} {_DONE[verb]}"
        return Sentence(f"{text}{by} {self._when(event)}{_until(event)}{because}.", event.position)

    def _who(self, event: Recorded) -> str:
        actor = who(event, self.names, self.kept)
        if actor["kind"] == "system":
            return "the ledger itself"
        name = actor["name"]
        return f"{actor['kind']} {actor['id']}" if name is None else f"{name} ({actor['kind']} {actor['id']})"

    def _subject(self, subject_id: UUID) -> str:
        name = self.names.get(subject_id)
        return f"subject {subject_id}" if name is None else f"{name} (subject {subject_id})"

    def _when(self, event: Recorded) -> str:
        return f"at position {event.position}, {rfc3339(event.recorded_at)}"


def _until(event: Recorded) -> str:
    if not event.type.endswith("_suspended"):
        return ""
    row = event.payload["token_state" if event.type.startswith("token_") else event.type.partition("_")[0]]
    return "" if row["status_until"] is None else f", until {row['status_until']}"


def explanation_answer(sentences: Sequence[Sentence]) -> list[dict[str, Any]]:
    """Answer the sentences, each with its position."""
    return [{"text": sentence.text, "position": sentence.position} for sentence in sentences]
