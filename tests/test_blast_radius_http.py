"""The blast radius of an incident over HTTP: what is found is exactly what was written down beforehand."""

import pytest

from tests.incident import STARTS, STEPS, Incident, lines_of, table
from tests.serving import Served


@pytest.fixture(scope="module")
def incident(ledger_server: Served) -> Incident:
    return Incident(ledger_server).play()


def test_the_table_has_an_event_for_every_step_and_edges_of_every_kind() -> None:
    assert {row.event[0] for row in table()} == set(STEPS)
    edges = {edge for row in table() for edge, _ in row.edges.values()}
    assert edges == {"start", "issued_from", "done_by", "caused_by", "granted_by"}
    assert all(any(start in row.edges for row in table()) for start in STARTS)
    assert sum(not row.edges for row in table()) > 15


def test_every_event_of_the_table_was_recorded_by_whom_it_says(incident: Incident) -> None:
    assert [row.event for row in table()] == sorted(incident.positions, key=lambda event: incident.positions[event])


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("limit", [1000, 3])
def test_what_an_incident_led_to_is_what_was_written_down_beforehand(incident: Incident, start: str, limit: int) -> None:
    with incident.served.admin() as admin:
        lines = list(lines_of(admin, incident.starts()[start], limit))
        assert incident.told(lines) == incident.expected(start)
        assert [line["position"] for line in lines] == sorted(line["position"] for line in lines)
        names = {row.event: row.who for row in table()}
        events = {position: event for event, position in incident.positions.items()}
        for line in lines:
            assert incident.name_of(line["who"]) == names[events[line["position"]]]
