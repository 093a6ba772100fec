"""Listings by pages: the newest row of each thing, in the order of its key, and nothing twice or left out."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeVar
from uuid import UUID, uuid4

from ledger.database import make_pool
from ledger.events import (
    Event,
    RoleCreated,
    RoleRemoved,
    RoleRulesGranted,
    RoleRulesWithdrawn,
    SubjectRegistered,
    SubjectRulesGranted,
    SubjectRulesWithdrawn,
    SubjectSuspended,
)
from ledger.execute import Pool
from ledger.states import RuleOfApi, RuleOfRole, Subject
from projections.listing import list_permissions, list_role_rules, list_subjects, read_role_rules
from tests.conftest import Database
from tests.recording import record
from tests.rows import person, role, rule_of_api, rule_of_role, service

Answer = TypeVar("Answer")


def ask(database: Database, query: Callable[[Pool], Awaitable[Answer]]) -> Answer:
    """Ask over a pool of the service."""

    async def asked() -> Answer:
        async with make_pool(database.service, max_size=1, wait_seconds=5) as pool:
            return await query(pool)

    return asyncio.run(asked())


def registered(*rows: Subject) -> list[Event]:
    return [SubjectRegistered(subject_id=row.subject_id, subject=row) for row in rows]


def ids(rows: Any) -> list[UUID]:
    return [row.subject_id for row in rows]


def test_pages_of_subjects_follow_one_another_until_there_are_no_more(database: Database) -> None:
    rows = sorted([person() for _ in range(5)], key=lambda row: row.subject_id)
    record(database, registered(*reversed(rows)))
    first = ask(database, lambda pool: list_subjects(pool, limit=2))
    second = ask(database, lambda pool: list_subjects(pool, limit=2, after=first.rows[-1].subject_id))
    third = ask(database, lambda pool: list_subjects(pool, limit=2, after=second.rows[-1].subject_id))
    assert ids([*first.rows, *second.rows, *third.rows]) == ids(rows)
    assert len(third.rows) == 1
    assert first.position == 5


def test_a_filter_looks_at_what_a_subject_is_now(database: Database) -> None:
    ann, bob, robot = person(), person(role_ids=(uuid4(), uuid4())), service()
    suspended = replace(ann, status="suspended")
    record(database, [*registered(ann, bob, robot), SubjectSuspended(subject_id=ann.subject_id, subject=suspended)])

    def found(**filters: Any) -> set[UUID]:
        return set(ids(ask(database, lambda pool: list_subjects(pool, limit=10, **filters)).rows))

    assert found() == {ann.subject_id, bob.subject_id, robot.subject_id}
    assert found(status="active") == {bob.subject_id, robot.subject_id}
    assert found(status="suspended") == {ann.subject_id}
    assert found(kind="service") == {robot.subject_id}
    assert found(role_id=bob.role_ids[1]) == {bob.subject_id}
    assert found(role_id=uuid4()) == set()


def granted(role_id: UUID, api_id: UUID, *rules: RuleOfRole) -> list[Event]:
    row = role(role_id=role_id, api_id=api_id, name="reader")
    return [
        RoleCreated(role_id=role_id, api_id=api_id, role=row),
        RoleRulesGranted(role_id=role_id, api_id=api_id, role=replace(row, rule_count=len(rules)), rules=rules),
    ]


def test_the_rules_of_a_role_are_those_that_stand(database: Database) -> None:
    role_id, api_id = uuid4(), uuid4()
    rules = sorted([rule_of_role(f"/{n}") for n in range(4)], key=lambda rule: rule.rule_id)
    record(
        database,
        [
            *granted(role_id, api_id, *rules),
            *granted(uuid4(), api_id, rule_of_role("/other")),
            RoleRulesWithdrawn(role_id=role_id, api_id=api_id, role=role(role_id=role_id, api_id=api_id), rules=(rules[1],)),
        ],
    )
    first = ask(database, lambda pool: list_role_rules(pool, role_id, limit=2))
    second = ask(database, lambda pool: list_role_rules(pool, role_id, limit=2, after=first.rows[-1].rule_id))
    assert [*first.rows, *second.rows] == [rules[0], rules[2], rules[3]]


def test_a_rule_is_read_by_its_id_though_it_was_withdrawn(database: Database) -> None:
    role_id, api_id, rule = uuid4(), uuid4(), rule_of_role()
    record(
        database,
        [
            *granted(role_id, api_id, rule),
            RoleRulesWithdrawn(role_id=role_id, api_id=api_id, role=role(role_id=role_id, api_id=api_id), rules=(rule,)),
        ],
    )
    assert ask(database, lambda pool: read_role_rules(pool, role_id, [rule.rule_id, uuid4()])) == [rule]
    assert ask(database, lambda pool: read_role_rules(pool, uuid4(), [rule.rule_id])) == []


def test_permissions_are_own_rules_and_those_of_roles_that_are_there(database: Database) -> None:
    role_id, gone_id, api_id, other_api = uuid4(), uuid4(), uuid4(), uuid4()
    of_role, withdrawn, of_gone = rule_of_role("/a"), rule_of_role("/b"), rule_of_role("/c")
    own, given_up = rule_of_api(other_api, "/d"), rule_of_api(other_api, "/e")
    ann = person(role_ids=(role_id, gone_id))
    removed = role(role_id=gone_id, api_id=api_id, removed=True)
    record(
        database,
        [
            *granted(role_id, api_id, of_role, withdrawn),
            RoleRulesWithdrawn(
                role_id=role_id, api_id=api_id, role=role(role_id=role_id, api_id=api_id, name="reader"), rules=(withdrawn,)
            ),
            *granted(gone_id, api_id, of_gone),
            RoleRemoved(role_id=gone_id, api_id=api_id, role=removed),
            *registered(ann, person()),
            SubjectRulesGranted(subject_id=ann.subject_id, rules=(own, given_up)),
            SubjectRulesWithdrawn(subject_id=ann.subject_id, rules=(own,)),
        ],
    )
    page = ask(database, lambda pool: list_permissions(pool, ann.subject_id, limit=10))
    assert [(row.role, row.api_id, row.rule_id) for row in page.rows] == [
        (None, other_api, own.rule_id),
        ("reader", api_id, of_role.rule_id),
    ]
    of_one_api = ask(database, lambda pool: list_permissions(pool, ann.subject_id, limit=10, api_id=api_id))
    assert [row.rule_id for row in of_one_api.rows] == [of_role.rule_id]


def test_pages_of_permissions_follow_one_another(database: Database) -> None:
    role_id, api_id, other_api = uuid4(), uuid4(), uuid4()
    own: tuple[RuleOfApi, ...] = tuple(rule_of_api(api, f"/{n}") for api in (api_id, other_api) for n in range(2))
    # The same rule of two APIs has one id: a page may end between them.
    own = (*own, replace(own[0], api_id=other_api))
    ann = person(role_ids=(role_id,))
    record(
        database,
        [
            *granted(role_id, api_id, *(rule_of_role(f"/{n}") for n in range(3))),
            *registered(ann),
            SubjectRulesGranted(subject_id=ann.subject_id, rules=own),
        ],
    )
    every = ask(database, lambda pool: list_permissions(pool, ann.subject_id, limit=100)).rows
    assert len(every) == 8
    paged = []
    after = every[0].key
    for _ in range(7):
        (row,) = ask(database, lambda pool, after=after: list_permissions(pool, ann.subject_id, limit=1, after=after)).rows  # type: ignore[misc]
        paged.append(row)
        after = row.key
    assert paged == every[1:]
