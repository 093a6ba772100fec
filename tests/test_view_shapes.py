"""The shapes of the views through releases: between neighbouring ones columns are only added, so that a server of the release
before reads the views of the one after; and a change of shape, rehearsed as install, replay, swap, and back.

golden/views.json has every column of every view with its type. What is there stays; `python -m tests.test_view_shapes` adds
what is new.
"""

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import psycopg
import pytest

from projections import install
from projections.going_back import go_back
from projections.replay import replay
from tests.calls import bearer, evaluate, first_party, introspect, login, new_api, new_person, ok, resource_server
from tests.conftest import FAST, Database
from tests.postgres import create_database, running_server
from tests.serving import Served

Shapes = Mapping[str, Mapping[str, str]]

GOLDEN = Path(__file__).parent / "golden" / "views.json"

# Tables, and what people and readers of the log see: the views made of them.
COLUMNS = """
SELECT c.relname, jsonb_object_agg(a.attname, format_type(a.atttypid, a.atttypmod) ORDER BY a.attnum)
FROM pg_class c
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = 'views'::regnamespace AND c.relkind IN ('r', 'p', 'v')
GROUP BY c.relname
"""


def shapes(conninfo: str) -> Shapes:
    with psycopg.connect(conninfo) as connection:
        return dict(connection.execute(COLUMNS).fetchall())


def lost(golden: Shapes, found: Shapes) -> list[str]:
    """What a server of the release before would miss."""
    return [
        f"{view}.{column} {kind}"
        for view, columns in golden.items()
        for column, kind in columns.items()
        if found.get(view, {}).get(column) != kind
    ]


def test_every_column_of_the_release_before_is_there_with_its_type(database: Database) -> None:
    assert lost(json.loads(GOLDEN.read_text()), shapes(database.service)) == []


def test_every_column_is_in_the_golden_file(database: Database) -> None:
    """When it fails: `python -m tests.test_view_shapes` adds them. They stay from then on."""
    assert lost(shapes(database.service), json.loads(GOLDEN.read_text())) == []


@pytest.mark.parametrize(
    ("change", "column"),
    [
        ("ALTER TABLE views.families DROP COLUMN retry_epoch", "families.retry_epoch bigint"),
        ("ALTER TABLE views.roles ALTER COLUMN rule_count TYPE bigint", "roles.rule_count integer"),
        ("ALTER TABLE views.names RENAME COLUMN kind TO sort", "names.kind text"),
        ("DROP TABLE views.administrators", "administrators.subject_ids uuid[]"),
    ],
    ids=["dropped", "of another type", "renamed", "of a view that is gone"],
)
def test_a_column_that_is_gone_or_changed_is_named(database: Database, change: str, column: str) -> None:
    with psycopg.connect(database.ledger_owner, autocommit=True) as connection:
        connection.execute(change.encode())
    assert column in lost(json.loads(GOLDEN.read_text()), shapes(database.service))


# ----------------------------------------------------------------------------------------------------- a change, rehearsed

ADDED_VIEW = """
CREATE TABLE logins_by_day (
  day date NOT NULL,
  position bigint NOT NULL,
  subject_id uuid NOT NULL,
  CONSTRAINT logins_by_day_pkey PRIMARY KEY (day, position)
);
GRANT SELECT ON logins_by_day TO ledger_service;
CREATE FUNCTION fold_logins_by_day(p_from bigint, p_to bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO logins_by_day (day, position, subject_id)
    SELECT (e.recorded_at AT TIME ZONE 'UTC')::date, e.position, (e.payload ->> 'subject_id')::uuid
      FROM history e
      WHERE e.position BETWEEN p_from AND p_to AND e.type = 'token_issued';
END $$;
"""


def next_release(folder: Path) -> Path:
    """Write the projections of a release after this one: a view more, and a column more in every table of two files."""
    shutil.copytree(install.HERE, folder, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    for name in ("tokens", "reference", "subjects"):
        file = folder / f"{name}.sql"
        file.write_text(
            re.sub(r"(?m)^(CREATE TABLE \w+ \()$", r"\1\n  added text DEFAULT 'by the next release',", file.read_text())
        )
    (folder / "logins_by_day.sql").write_text(ADDED_VIEW)
    file = folder / "fold.sql"
    called = "PERFORM fold_families(p_from, p_to);"
    assert called in file.read_text()
    file.write_text(file.read_text().replace(called, f"{called}\n    PERFORM fold_logins_by_day(p_from, p_to);"))
    return folder


def test_a_changed_shape_is_install_replay_and_swap_and_back_again(
    own_ledger: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server is of this release all the while: it reads, and through its appends folds, the views of the next one."""
    before = shapes(own_ledger.owner)
    with own_ledger.admin() as admin, own_ledger.client() as http:
        api = new_api(admin, {"reader": ["allow GET /orders/**"]})
        asker, app = resource_server(admin, api), first_party(admin, api, refresh="rotating")

        def everything_is_asked() -> dict[str, str]:
            """Change and ask for things of every view; answer the tokens of somebody new."""
            person = new_person(admin, f"{api}:reader")
            tokens = login(http, person, app)
            assert evaluate(http, asker, tokens["access_token"])["decision"] is True
            assert introspect(http, asker, tokens["access_token"])["active"] is True
            ok(admin.post(f"/v1/subjects/{person.subject_id}/suspend", json={"reason": "asked"}))
            assert evaluate(http, asker, tokens["access_token"])["decision"] is False
            ok(admin.post(f"/v1/subjects/{person.subject_id}/reinstate"))
            assert (
                ok(http.get("/v1/me", headers=bearer(login(http, person)["access_token"])))["subject_id"] == person.subject_id
            )
            for path in ("/v1/subjects", "/v1/clients", "/v1/apis", f"/v1/apis/{api}/roles", "/v1/tokens", "/v1/keys"):
                ok(admin.get(path))
            assert ok(admin.get("/v1/audit/timeline", params={"subject_id": person.subject_id}))["entries"]
            return tokens

        earlier = [everything_is_asked() for _ in range(7)]  # past the fifth, after which a connection prepares a statement

        with monkeypatch.context() as release:
            release.setattr(install, "HERE", next_release(tmp_path / "next"))
            release.setattr(install, "PROJECTIONS", (*install.PROJECTIONS[:-1], "logins_by_day", install.PROJECTIONS[-1]))
            report = replay(own_ledger.owner)

        told = {(difference.view, difference.why) for difference in report.differences}
        assert {("logins_by_day", "new"), ("tokens", "shape"), ("clients", "shape"), ("subjects", "shape")} <= told
        assert {why for _, why in told} == {"new", "shape"}
        assert lost(before, shapes(own_ledger.owner)) == []
        assert shapes(own_ledger.owner)["tokens"]["added"] == "text"
        for tokens in [*earlier, everything_is_asked()]:
            assert evaluate(http, asker, tokens["access_token"])["decision"] is True
        with psycopg.connect(own_ledger.owner) as connection:
            counted = connection.execute(
                "SELECT (SELECT count(*) FROM views.logins_by_day),"
                " (SELECT count(*) FROM ledger.events WHERE type = 'token_issued')"
            ).fetchone()
        assert counted is not None
        assert counted[0] == counted[1] > 8, "what was recorded before and since is in the added view"

        # The former release's views, with what was recorded meanwhile.
        go_back(own_ledger.owner)
        assert shapes(own_ledger.owner) == before
        for tokens in [*earlier, everything_is_asked()]:
            assert evaluate(http, asker, tokens["access_token"])["decision"] is True
    report = replay(own_ledger.owner)
    assert report.differences == ()


if __name__ == "__main__":
    with running_server(None, FAST) as server, psycopg.connect(create_database(server, "shapes"), autocommit=True) as owner:
        install.install(owner)
        golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
        for view, columns in sorted(shapes(server.conninfo("ledger_service", "shapes")).items()):
            golden[view] = {**columns, **golden.get(view, {})}
        GOLDEN.write_text(json.dumps(golden, indent=1) + "\n")
