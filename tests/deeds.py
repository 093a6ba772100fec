"""Commands as the service carries them out, made at random: what each reads, and the decision it takes.

A deed is made for a past (worth.py): it is about what is there, or about something new. Many are refused, as they are in life.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Any, Final, Literal, TypeVar
from uuid import UUID

from ledger import apis, clients, keys, lockouts, subjects, tokens
from ledger.builtin import CONSOLE, LEDGER_API
from ledger.clients import Ceilings, ClientSettings
from ledger.events import Event, TokensArchived
from ledger.log import Actor
from ledger.rules import Rule
from ledger.states import Client, Family, Key, Refresh, State, Strategy, TokenState
from projections.reading import Keys
from tests import builders
from tests.worth import TEMPLATES, Past

Decide = Callable[[State, datetime], Sequence[Event]]
Chosen = TypeVar("Chosen")

CEILINGS: Final = Ceilings(access_lifetime_seconds=86_400, refresh_absolute_seconds=7_776_000)
DIGEST: Final = b"\x5a" * 32
USES: Final[Mapping[Strategy, tuple[keys.Use, ...]]] = {
    "opaque": (),
    "encrypted": ("enc",),
    "jwt": ("sig",),
    "jwe": ("sig", "enc"),
}
# So that one history says much of a few things, and not a little of many.
MOST_TOKENS: Final = 16
MOST_OTHERS: Final = 5


@dataclass(frozen=True)
class Deed:
    """A command: what it reads, what it decides, who does it, and the position of the event it is because of."""

    keys: Keys
    decide: Decide
    actor: Actor = Actor.SYSTEM
    causation: int | None = None


@dataclass(frozen=True)
class Scene:
    """What a deed is made for: the past, the instant, and where new ids and choices come from."""

    past: Past
    now: datetime
    new_id: Callable[[], UUID]
    random: Random

    def one(self, of: Mapping[UUID, Any]) -> UUID:
        """Choose a key; of a mapping that is empty an id that nobody has."""
        return self.random.choice(list(of)) if of else self.new_id()

    def some(self, of: Sequence[Chosen], *, at_least: int = 0) -> tuple[Chosen, ...]:
        """Choose some of these, at most three."""
        return tuple(self.random.sample(of, min(len(of), self.random.randint(at_least, 3))))

    def chance(self) -> bool:
        """Choose yes or no."""
        return self.random.random() < 0.5

    def until(self) -> datetime | None:
        """Choose the end of a suspension."""
        seconds = self.random.choice([None, 60, 600])
        return None if seconds is None else self.now + timedelta(seconds=seconds)

    def others(self) -> dict[UUID, Client]:
        """Answer the clients besides the one that people log in to the ledger through."""
        return {client_id: client for client_id, client in self.past.clients.items() if client_id != CONSOLE}


# --------------------------------------------------------------------------------------------------------------- tokens


def _made(new_id: Callable[[], UUID], strategy: Strategy, key_ids: tuple[UUID, ...]) -> tokens.Made:
    return tokens.Made(
        strategy=strategy,
        access_token_id=new_id(),
        access_digest=DIGEST if strategy == "opaque" else None,
        refresh_token_id=new_id(),
        refresh_digest=DIGEST,
        key_ids=key_ids,
    )


def _made_now(scene: Scene, strategy: Strategy) -> tokens.Made:
    active = (keys.active_key(scene.past.keys.values(), use) for use in USES[strategy])
    return _made(scene.new_id, strategy, tuple(key.key_id for key in active if key is not None))


def _issue(grant: tokens.Grant, made: tokens.Made, family_id: UUID) -> Deed:
    return Deed(
        Keys(
            clients=[grant.client_id],
            subjects=[grant.subject_id],
            apis=grant.api_ids,
            families=[family_id],
            keys=made.key_ids,
        ),
        lambda state, now: tokens.issue(state, now, family_id=family_id, grant=grant, made=made),
        Actor("client", grant.client_id, "client_secret_basic"),
    )


def issued(scene: Scene) -> Deed:
    """Issue tokens; or, where there are enough of them, refresh."""
    if len(scene.past.tokens) >= MOST_TOKENS:
        return refreshed(scene)
    client_id, subject_id = scene.one(scene.others()), scene.one(scene.past.subjects)
    client = scene.past.clients[client_id]
    roles = scene.past.subjects[subject_id].role_ids
    grant = tokens.Grant(
        subject_id=subject_id,
        client_id=client_id,
        api_ids=client.api_ids if scene.chance() else scene.some(client.api_ids, at_least=1),
        role_ids=scene.some(roles) if scene.chance() else None,
        direct=scene.chance(),
        with_refresh=not scene.random.choice([False, False, True]),
        lifetime_seconds=scene.random.choice([None, 60, 86_400]),
    )
    return _issue(grant, _made_now(scene, client.strategy), scene.new_id())


def refreshed(scene: Scene) -> Deed:
    """Use a refresh token: the current one of a family, or one that was used before."""
    found = {token_id: token for token_id, token in scene.past.tokens.items() if token.kind == "refresh"}
    if not found:
        return token_changed(scene)
    token = found[scene.one(found)]
    client = scene.past.clients[token.client_id]
    made = _made_now(scene, client.strategy)
    narrowed = scene.random.choice([False, False, True])
    role_ids = scene.some(token.role_ids or scene.past.subjects[token.subject_id].role_ids) if narrowed else None
    direct = narrowed and scene.chance()
    return Deed(
        Keys(
            tokens=[token.token_id],
            families=[token.family_id],
            subjects=[token.subject_id],
            clients=[token.client_id],
            apis=token.api_ids,
            keys=made.key_ids,
        ),
        lambda state, now: tokens.refresh(
            state,
            now,
            token_id=token.token_id,
            client_id=token.client_id,
            made=made,
            retry_epoch=int(now.timestamp()) // 300,
            role_ids=role_ids,
            direct=direct,
            narrowed=narrowed,
            sealed_presented_by=b"sealed",
        ),
        Actor("client", token.client_id, "client_secret_basic"),
    )


def _verb(scene: Scene, row: TokenState | Family | None) -> Literal["suspend", "reinstate", "revoke"]:
    """Draw what is done: of what is suspended, mostly what ends that."""
    verbs: list[Literal["suspend", "reinstate", "revoke"]] = ["suspend", "suspend", "reinstate", "revoke"]
    if row is not None and row.status == "suspended":
        verbs = ["reinstate", "reinstate", "suspend", "revoke"]
    return scene.random.choice(verbs)


def token_changed(scene: Scene) -> Deed:
    """Suspend, reinstate or revoke one token."""
    token_id, until = scene.one(scene.past.tokens), scene.until()
    verb = _verb(scene, scene.past.token_states.get(token_id))
    token = scene.past.tokens.get(token_id)
    return Deed(
        Keys(tokens=[token_id], families=[] if token is None else [token.family_id]),
        lambda state, now: tokens.change_token(state, now, token_id=token_id, verb=verb, reason="why", until=until),
    )


def family_changed(scene: Scene) -> Deed:
    """Suspend, reinstate or revoke a family."""
    family_id, until = scene.one(scene.past.families), scene.until()
    verb = _verb(scene, scene.past.families.get(family_id))
    return Deed(
        Keys(families=[family_id]),
        lambda state, now: tokens.change_family(state, now, family_id=family_id, verb=verb, reason=None, until=until),
    )


def several_revoked(scene: Scene) -> Deed:
    """Revoke some tokens in one command."""
    token_ids = scene.some(list(scene.past.tokens))
    families = list({scene.past.tokens[token_id].family_id for token_id in token_ids})
    return Deed(
        Keys(tokens=token_ids, families=families),
        lambda state, now: tokens.revoke_tokens(state, now, token_ids=token_ids, reason="listed"),
    )


# ------------------------------------------------------------------------------------------------------------- subjects


def registered(scene: Scene) -> Deed:
    """Register a person, or, where there are enough, set the clearance of one."""
    if len(scene.past.subjects) >= MOST_OTHERS:
        return clearance_set(scene)
    return _person(scene.new_id(), scene.new_id())


def _person(subject_id: UUID, name: UUID) -> Deed:
    return Deed(
        Keys(subjects=[subject_id], names=[name]),
        lambda state, now: subjects.register(
            state,
            now,
            subject_id=subject_id,
            kind="person",
            name_id=name,
            sealed_profile=b"profile",
            sealed_password=b"password",
            clearance=5,
        ),
    )


def clearance_set(scene: Scene) -> Deed:
    """Set the clearance."""
    subject_id, clearance = scene.one(scene.past.subjects), scene.random.choice([0, 5, 10])
    return Deed(
        Keys(subjects=[subject_id]),
        lambda state, now: subjects.set_clearance(state, now, subject_id=subject_id, clearance=clearance),
    )


def password_set(scene: Scene) -> Deed:
    """Set the password, which revokes the tokens unless they are kept."""
    subject_id, keep = scene.one(scene.past.subjects), scene.chance()
    return Deed(
        Keys(subjects=[subject_id], administrators=True),
        lambda state, now: subjects.set_password(
            state, now, subject_id=subject_id, sealed_password=b"another", keep_tokens=keep
        ),
        Actor("subject", subject_id, "password"),
    )


def renamed(scene: Scene) -> Deed:
    """Give a person another name."""
    subject_id, name = scene.one(scene.past.subjects), scene.new_id()
    before = scene.past.subjects[subject_id].name_id
    return Deed(
        Keys(subjects=[subject_id], names=[name, *([] if before is None else [before])]),
        lambda state, now: subjects.set_profile(state, now, subject_id=subject_id, name_id=name, sealed_profile=b"another"),
    )


def roles_granted(scene: Scene) -> Deed:
    """Grant roles."""
    subject_id, role_ids = scene.one(scene.past.subjects), scene.some(list(scene.past.roles), at_least=1)
    return Deed(
        Keys(subjects=[subject_id], roles=role_ids, administrators=True),
        lambda state, now: subjects.grant_roles(state, now, subject_id=subject_id, role_ids=role_ids),
    )


def roles_withdrawn(scene: Scene) -> Deed:
    """Withdraw roles."""
    subject_id = scene.one(scene.past.subjects)
    role_ids = scene.some(scene.past.subjects[subject_id].role_ids)
    return Deed(
        Keys(subjects=[subject_id], administrators=True),
        lambda state, now: subjects.withdraw_roles(state, now, subject_id=subject_id, role_ids=role_ids),
    )


def _rules(scene: Scene) -> list[Rule]:
    return [_rule(scene) for _ in range(scene.random.randint(1, 3))]


def _rule(scene: Scene) -> Rule:
    effect: Literal["allow", "deny"] = scene.random.choice(["allow", "allow", "deny"])
    methods = scene.random.choice([("GET",), ("GET", "POST"), ("DELETE",), ("*",)])
    clearance = scene.random.choice([0, 0, 5, 10])
    return Rule.make(effect, methods, scene.random.choice(list(TEMPLATES)), clearance if effect == "allow" else None)


def own_rules_granted(scene: Scene) -> Deed:
    """Grant own rules."""
    subject_id, api_id = scene.one(scene.past.subjects), scene.one(scene.past.apis)
    rules = [rule.of_api(api_id) for rule in _rules(scene)]
    return Deed(
        Keys(subjects=[subject_id], rules_of_subjects=[subject_id], apis=[api_id]),
        lambda state, now: subjects.grant_rules(state, now, subject_id=subject_id, rules=rules),
    )


def own_rules_withdrawn(scene: Scene) -> Deed:
    """Withdraw own rules."""
    subject_id = scene.one(scene.past.own_rules)
    rules = scene.past.own_rules[subject_id][1] if subject_id in scene.past.own_rules else ()
    rule_ids = scene.some([rule.rule_id for rule in rules])
    return Deed(
        Keys(subjects=[subject_id], rules_of_subjects=[subject_id]),
        lambda state, now: subjects.withdraw_rules(state, now, subject_id=subject_id, rule_ids=rule_ids),
    )


def erased(scene: Scene) -> Deed:
    """Erase a subject."""
    subject_id = scene.one(scene.past.subjects)
    name = scene.past.subjects[subject_id].name_id
    return Deed(
        Keys(subjects=[subject_id], names=[] if name is None else [name], rules_of_subjects=[subject_id], administrators=True),
        lambda state, now: subjects.erase(state, now, subject_id=subject_id, reason="asked for"),
    )


# ------------------------------------------------------------------------- subjects, clients and APIs: stopped as a whole


def stopped(scene: Scene) -> Deed:
    """Suspend a subject, a client or an API, or reinstate one that is suspended."""
    until = scene.until()
    match scene.random.choice(["subject", "client", "api"]):
        case "subject":
            subject_id = scene.one(scene.past.subjects)
            suspends = scene.past.subjects[subject_id].status == "active"

            def decide_subject(state: State, now: datetime) -> Sequence[Event]:
                if suspends:
                    return subjects.suspend(state, now, subject_id=subject_id, reason="why", until=until)
                return subjects.reinstate(state, now, subject_id=subject_id, reason=None)

            return Deed(Keys(subjects=[subject_id], administrators=True), decide_subject)
        case "client":
            client_id = scene.one(scene.others())
            suspends = scene.past.clients[client_id].status == "active"

            def decide_client(state: State, now: datetime) -> Sequence[Event]:
                if suspends:
                    return clients.suspend(state, now, client_id=client_id, reason="why", until=until)
                return clients.reinstate(state, now, client_id=client_id, reason=None)

            return Deed(Keys(clients=[client_id]), decide_client)
        case _:
            api_id = scene.one(scene.past.apis)
            suspends = scene.past.apis[api_id].status == "active"

            def decide_api(state: State, now: datetime) -> Sequence[Event]:
                if suspends:
                    return apis.suspend(state, now, api_id=api_id, reason="why", until=until)
                return apis.reinstate(state, now, api_id=api_id, reason=None)

            return Deed(Keys(apis=[api_id]), decide_api)


def cut_off(scene: Scene) -> Deed:
    """Revoke every token of a subject, client or API, up to now or up to a position."""
    upto = None if scene.chance() else scene.random.randint(0, scene.past.position)
    match scene.random.choice(["subject", "client", "api"]):
        case "subject":
            subject_id = scene.one(scene.past.subjects)
            return Deed(
                Keys(subjects=[subject_id]),
                lambda state, now: subjects.revoke_tokens(
                    state, now, subject_id=subject_id, reason="why", cutoff_position=upto
                ),
            )
        case "client":
            client_id = scene.one(scene.others())
            return Deed(
                Keys(clients=[client_id]),
                lambda state, now: clients.revoke_tokens(state, now, client_id=client_id, reason=None, cutoff_position=upto),
            )
        case _:
            api_id = scene.one(scene.past.apis)
            return Deed(
                Keys(apis=[api_id]),
                lambda state, now: apis.revoke_tokens(state, now, api_id=api_id, reason="why", cutoff_position=upto),
            )


# -------------------------------------------------------------------------------------------------- clients, APIs, roles


def api_registered(scene: Scene) -> Deed:
    """Register an API, or, where there are enough, change one."""
    if len(scene.past.apis) >= MOST_OTHERS:
        return api_changed(scene)
    name, semicolons, preflights = f"api-{len(scene.past.apis)}", scene.chance(), scene.chance()
    return Deed(
        Keys(apis=[apis.api_id_of(name)]),
        lambda state, now: apis.register(state, now, name=name, semicolons=semicolons, preflights=preflights),
    )


def api_changed(scene: Scene) -> Deed:
    """Change an API."""
    api_id, semicolons, preflights = scene.one(scene.past.apis), scene.chance(), scene.chance()
    return Deed(
        Keys(apis=[api_id]),
        lambda state, now: apis.change(state, now, api_id=api_id, semicolons=semicolons, preflights=preflights),
    )


def role_created(scene: Scene) -> Deed:
    """Create a role, under a name that another one may have or have had."""
    role_id, api_id, name = scene.new_id(), scene.one(scene.past.apis), scene.random.choice(["clerk", "guest"])
    return Deed(
        Keys(apis=[api_id], roles=[role_id], names=[apis.role_name_id(api_id, name)]),
        lambda state, now: apis.create_role(state, now, role_id=role_id, api_id=api_id, name=name),
    )


def role_removed(scene: Scene) -> Deed:
    """Remove a role."""
    role_id = scene.one(scene.past.roles)
    role = scene.past.roles[role_id]
    return Deed(
        Keys(roles=[role_id], names=[apis.role_name_id(role.api_id, role.name)]),
        lambda state, now: apis.remove_role(state, now, role_id=role_id),
    )


def role_rules_granted(scene: Scene) -> Deed:
    """Add rules to a role."""
    role_id = scene.one(scene.past.roles)
    rules = [rule.of_role() for rule in _rules(scene)]
    return Deed(
        Keys(roles=[role_id], rules=[(role_id, rule.rule_id) for rule in rules]),
        lambda state, now: apis.grant_rules(state, now, role_id=role_id, rules=rules),
    )


def role_rules_withdrawn(scene: Scene) -> Deed:
    """Take rules from a role."""
    role_id = scene.one(scene.past.roles)
    rules = scene.some([rule for _, rule in scene.past.role_rules.get(role_id, {}).values()])
    return Deed(
        Keys(roles=[role_id], rules=[(role_id, rule.rule_id) for rule in rules]),
        lambda state, now: apis.withdraw_rules(state, now, role_id=role_id, rules=rules),
    )


def client_registered(scene: Scene) -> Deed:
    """Register a client, or, where there are enough, change one."""
    if len(scene.past.clients) >= MOST_OTHERS:
        return client_changed(scene)
    refresh: Refresh = scene.random.choice(["off", "reusable", "rotating"])
    strategy: Strategy = scene.random.choice(list(USES))
    settings = _settings(
        strategy,
        refresh,
        scene.some(list(scene.past.apis), at_least=1),
        ("client_credentials",) if scene.chance() else ("password",),
        retry_window_seconds=scene.random.choice([0, 30]),
        revoke_access_on_rotation=scene.chance(),
    )
    return _client(f"client-{len(scene.past.clients)}", settings, scene.new_id())


def _settings(
    strategy: Strategy, refresh: Refresh, api_ids: tuple[UUID, ...], grants: tuple[clients.Grant, ...], **others: Any
) -> ClientSettings:
    return ClientSettings(
        grants=grants if refresh == "off" else (*grants, "refresh_token"),
        strategy=strategy,
        refresh=refresh,
        access_lifetime_seconds=3_600,
        refresh_idle_seconds=7_200,
        refresh_absolute_seconds=14_400,
        api_ids=api_ids,
        **others,
    )


def _client(name: str, settings: ClientSettings, subject_id: UUID) -> Deed:
    client_id = clients.client_id_of(name)
    return Deed(
        Keys(clients=[client_id], subjects=[subject_id], apis=settings.api_ids),
        lambda state, now: clients.register(
            state,
            now,
            name=name,
            kind="confidential",
            settings=settings,
            ceilings=CEILINGS,
            secret_digest="ab" * 32,
            subject_id=subject_id,
        ),
    )


def client_changed(scene: Scene) -> Deed:
    """Change a client's settings."""
    client_id, subject_id = scene.one(scene.others()), scene.new_id()
    every: dict[str, Any] = {
        "strategy": scene.random.choice(list(USES)),
        "api_ids": scene.some(list(scene.past.apis), at_least=1),
        "access_lifetime_seconds": scene.random.choice([60, 600]),
        "revoke_access_on_rotation": scene.chance(),
        "retry_window_seconds": scene.random.choice([0, 30]),
    }
    setting = scene.random.choice(list(every))
    changes = {setting: every[setting]}
    return Deed(
        Keys(clients=[client_id], subjects=[subject_id], apis=list(scene.past.apis)),
        lambda state, now: clients.change(
            state, now, client_id=client_id, changes=changes, ceilings=CEILINGS, subject_id=subject_id
        ),
    )


def secret_rotated(scene: Scene) -> Deed:
    """Give a client a new secret."""
    client_id, keep_old = scene.one(scene.others()), scene.chance()
    return Deed(
        Keys(clients=[client_id]),
        lambda state, now: clients.rotate_secret(state, now, client_id=client_id, secret_digest="cd" * 32, keep_old=keep_old),
    )


def keys_of_client_set(scene: Scene) -> Deed:
    """Give a client other public keys; nothing here looks at what is in them."""
    client_id, keep_secrets = scene.one(scene.others()), scene.chance()
    key = {"kid": str(scene.random.randrange(3)), "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "x": "A" * 43}
    return Deed(
        Keys(clients=[client_id]),
        lambda state, now: clients.set_keys(state, now, client_id=client_id, public_keys=(key,), keep_secrets=keep_secrets),
    )


# ----------------------------------------------------------------------------------------------------------------- keys


def new_key(key_id: UUID, use: keys.Use, now: datetime) -> Key:
    """Make the row of a key as keyring.py makes it; no test here looks at what is in it."""
    secret: dict[str, Any] = {} if use == "sig" else {"algorithm": "A256GCM", "public_jwk": None}
    return builders.key(key_id=key_id, use=use, made_at=now, changed_at=now, **secret)


def key_changed(scene: Scene) -> Deed:
    """Make, activate, retire or revoke a key."""
    key_id = scene.one(scene.past.keys)
    known = scene.past.keys[key_id]
    spare = new_key(scene.new_id(), known.use, scene.now)
    verb = scene.random.choice(["make", "activate", "activate", "retire", "revoke"])

    def decide(state: State, now: datetime) -> Sequence[Event]:
        match verb:
            case "make":
                return keys.make(state, now, key=spare)
            case "activate":
                return keys.activate(state, now, key_id=key_id)
            case "retire":
                return keys.retire(state, now, key_id=key_id)
            case _:
                return keys.revoke(state, now, key_id=key_id, reason="leaked", spare=spare)

    return Deed(Keys(every_key=True, keys=[spare.key_id]), decide)


def keys_renewed(scene: Scene) -> Deed:
    """Take the step of the scheduled rotation that is due."""
    use: keys.Use = scene.random.choice(["sig", "enc"])
    spare = new_key(scene.new_id(), use, scene.now)
    lifetime = timedelta(minutes=10)
    return Deed(
        Keys(every_key=True, keys=[spare.key_id]),
        lambda state, now: keys.renew(state, now, use=use, lifetime=lifetime, spare=spare),
    )


# ------------------------------------------------------------------------------------------------------------ lock-outs


def locked_out(scene: Scene) -> Deed:
    """Say that a budget of password attempts was spent."""
    lockout_id, subject_id, throttle_id = scene.new_id(), scene.one(scene.past.subjects), scene.new_id()
    return Deed(
        Keys(lockouts=[lockout_id]),
        lambda state, now: lockouts.lock_out(now, subject_id, [(lockout_id, "pair", throttle_id)]),
    )


def unlocked(scene: Scene) -> Deed:
    """Make a budget whole; where none was spent, say first that one was."""
    if not scene.past.lockouts:
        return locked_out(scene)
    lockout_id = scene.one(scene.past.lockouts)
    return Deed(Keys(lockouts=[lockout_id]), lambda state, now: lockouts.unlock(state, now, lockout_id=lockout_id))


# ------------------------------------------------------------------------------------------------------------- archives


def let_go(scene: Scene) -> Deed:
    """Let what has ended leave the views, as it does once its events are archived: what came first goes first."""
    log_id = scene.past.log_id
    to_position = scene.random.randint(1, scene.past.position + 1)
    ended_before = scene.now - timedelta(seconds=scene.random.choice([0, 60]))
    event = TokensArchived(log_id=log_id, from_position=1, to_position=to_position, ended_before=ended_before)
    return Deed(Keys(other_streams=[log_id]), lambda state, now: [event])


Make = Callable[[Scene], Deed]

# What is named twice comes twice as often.
DEEDS: Final[Sequence[Make]] = (
    *(issued, issued, issued, refreshed, refreshed, refreshed, token_changed, token_changed, token_changed, family_changed),
    *(several_revoked, registered, clearance_set, password_set, renamed, roles_granted, roles_granted, roles_withdrawn),
    *(own_rules_granted, own_rules_granted, own_rules_withdrawn, erased, locked_out, unlocked, stopped, stopped, stopped),
    *(cut_off, api_registered, api_changed, role_created, role_removed, role_rules_granted, role_rules_granted),
    *(
        role_rules_withdrawn,
        client_registered,
        client_registered,
        client_changed,
        secret_rotated,
        keys_of_client_set,
        key_changed,
        key_changed,
    ),
    *(key_changed, keys_renewed, let_go),
)


# What the first clients hand out, one of each kind of token.
FIRST_CLIENTS: Final[Mapping[str, tuple[Strategy, Refresh]]] = {
    "shop": ("opaque", "rotating"),
    "desk": ("jwt", "reusable"),
    "batch": ("jwe", "off"),
}


def first_deeds(new_id: Callable[[], UUID], signing: UUID, encryption: UUID) -> list[Deed]:
    """Answer what follows the opening of a log, so that every history is about something: an API whose role allows and denies,
    clients of three kinds, and a person who holds the role and has tokens of each client."""
    role_id, subject_id, name, nobody = new_id(), new_id(), new_id(), new_id()
    api_id = apis.api_id_of("orders")
    rules = [
        Rule.make("allow", ("GET", "POST"), "/orders/**").of_role(),
        Rule.make("allow", ("*",), "/people/{sub}", 5).of_role(),
        Rule.make("allow", ("GET",), "/**", 10).of_role(),
        Rule.make("deny", ("DELETE",), "/orders/{id}").of_role(),
    ]
    first = [
        Deed(Keys(apis=[api_id]), lambda state, now: apis.register(state, now, name="orders")),
        Deed(
            Keys(apis=[api_id], roles=[role_id], names=[apis.role_name_id(api_id, "clerk")]),
            lambda state, now: apis.create_role(state, now, role_id=role_id, api_id=api_id, name="clerk"),
        ),
        Deed(
            Keys(roles=[role_id], rules=[(role_id, rule.rule_id) for rule in rules]),
            lambda state, now: apis.grant_rules(state, now, role_id=role_id, rules=rules),
        ),
        _person(subject_id, name),
        Deed(
            Keys(subjects=[subject_id], roles=[role_id], administrators=True),
            lambda state, now: subjects.grant_roles(state, now, subject_id=subject_id, role_ids=[role_id]),
        ),
    ]
    by_use: Mapping[keys.Use, UUID] = {"sig": signing, "enc": encryption}
    for client, (strategy, refresh) in FIRST_CLIENTS.items():
        settings = _settings(strategy, refresh, (api_id, LEDGER_API), ("password",))
        grant = tokens.Grant(subject_id=subject_id, client_id=clients.client_id_of(client), api_ids=(api_id,))
        made = _made(new_id, strategy, tuple(by_use[use] for use in USES[strategy]))
        first += [_client(client, settings, nobody), _issue(grant, made, new_id())]
    return first
