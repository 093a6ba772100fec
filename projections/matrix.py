"""Which type of event makes rows in which view, declared apart from the folds: a fold that forgets a type, or takes one it
should not, is found by it although live views and replayed ones agree. A view that a type does not name is not for it, on
purpose; so a new type has a place here before it is recorded (tests/test_matrix.py), and verify asks the log.
"""

from collections.abc import Iterable, Mapping
from typing import Final, LiteralString

# Of an event `h`, as views.history has it: when it makes rows.
ALWAYS: Final = "true"
_WITH_TOKENS: Final = "h.payload -> 'tokens' <> '[]'"
_WITH_FAMILY: Final = "h.payload -> 'family' <> 'null'"
_WITH_RULES: Final = "h.payload -> 'rules' <> '[]'"
# Audit finds every event by whom and what it names; issues and rotations by their tokens, and here only by somebody else.
_NAMES_SOMEBODY: Final = (
    "coalesce(h.payload ->> 'subject_id', h.payload ->> 'holder_id', h.metadata #>> '{actor,id}') IS NOT NULL"
)
_BY_ANOTHER: Final = "(h.metadata #>> '{actor,id}' IN (h.payload ->> 'subject_id', h.payload ->> 'client_id')) IS FALSE"

Views = Mapping[str, LiteralString]

# Views of what stands in the envelope of any event.
_OF_EVERY_TYPE: Final[Views] = {
    "acts": "h.metadata #>> '{actor,authenticated_by}' ^@ 'token '",
    "consequences": "h.metadata ->> 'causation' IS NOT NULL",
}


def _all(types: Iterable[str], views: Views) -> dict[str, Views]:
    return dict.fromkeys(types, views)


_OF_SOME_TYPES: Final[Mapping[str, Views]] = {
    "log_opened": {"logs": ALWAYS, "audit_entries": _NAMES_SOMEBODY},
    "partition_archived": {"archived_partitions": ALWAYS, "audit_entries": _NAMES_SOMEBODY},
    "tokens_archived": {"archived_tokens": ALWAYS, "audit_entries": _NAMES_SOMEBODY},
    "token_issued": {"tokens": _WITH_TOKENS, "families": _WITH_FAMILY, "audit_entries": _BY_ANOTHER},
    "token_rotated": {"tokens": _WITH_TOKENS, "families": ALWAYS, "audit_entries": _BY_ANOTHER},
    **_all(
        ("token_suspended", "token_reinstated", "token_revoked"),
        {"token_states": ALWAYS, "audit_entries": ALWAYS},
    ),
    **_all(
        ("family_suspended", "family_reinstated", "family_revoked", "reuse_detected"),
        {"families": ALWAYS, "audit_entries": ALWAYS},
    ),
    **_all(
        (
            "subject_registered",
            "subject_profile_set",
            "subject_password_set",
            "subject_clearance_set",
            "subject_roles_granted",
            "subject_roles_withdrawn",
            "subject_suspended",
            "subject_reinstated",
            "subject_tokens_revoked",
            "subject_erased",
        ),
        {"subjects": ALWAYS, "audit_entries": ALWAYS},
    ),
    **_all(("subject_rules_granted", "subject_rules_withdrawn"), {"subject_rules": ALWAYS, "audit_entries": ALWAYS}),
    "administrators_changed": {"administrators": ALWAYS, "audit_entries": _NAMES_SOMEBODY},
    **_all(("name_taken", "name_released"), {"names": ALWAYS, "audit_entries": _NAMES_SOMEBODY}),
    **_all(
        (
            "client_registered",
            "client_changed",
            "client_secret_rotated",
            "client_keys_set",
            "client_suspended",
            "client_reinstated",
            "client_tokens_revoked",
        ),
        {"clients": ALWAYS, "reference_changes": ALWAYS, "audit_entries": ALWAYS},
    ),
    **_all(
        ("api_registered", "api_changed", "api_suspended", "api_reinstated", "api_tokens_revoked"),
        {"apis": ALWAYS, "reference_changes": ALWAYS, "audit_entries": ALWAYS},
    ),
    **_all(("role_created", "role_removed"), {"roles": ALWAYS, "reference_changes": ALWAYS, "audit_entries": ALWAYS}),
    **_all(
        ("role_rules_granted", "role_rules_withdrawn"),
        {"roles": ALWAYS, "role_rules": _WITH_RULES, "reference_changes": ALWAYS, "audit_entries": ALWAYS},
    ),
    **_all(
        ("key_made", "key_activated", "key_retired", "key_revoked"),
        {"keys": ALWAYS, "reference_changes": ALWAYS, "audit_entries": ALWAYS},
    ),
    **_all(("login_locked_out", "login_unlocked"), {"lockouts": ALWAYS, "audit_entries": _NAMES_SOMEBODY}),
}
# By type: the views it makes rows in, each with the condition.
FOLDED: Final[Mapping[str, Views]] = {tag: {**views, **_OF_EVERY_TYPE} for tag, views in _OF_SOME_TYPES.items()}
# Which rows may have left a view again by what `a`, a row of archived_tokens, says; of an event at e.position.
_MADE_THERE: Final = "e.position >= a.from_position AND e.position < a.to_position"
LEFT: Final[Views] = {"tokens": _MADE_THERE, "families": _MADE_THERE, "token_states": "e.position < a.position"}
VIEWS: Final = frozenset(view for views in FOLDED.values() for view in views)


def conditions_of(view: str) -> dict[str, LiteralString]:
    """Answer by type when an event of it makes rows in a view; the types that are not there never do."""
    return {event_type: views[view] for event_type, views in FOLDED.items() if view in views}
