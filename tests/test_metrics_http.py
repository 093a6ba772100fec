"""GET /metrics over HTTP: who may, what it says of log, verification and requests, and that it is about nobody."""

import os
import re
import signal
import time
from collections.abc import Mapping

import httpx
import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from api.app import ROUTES
from api.counting import BUCKETS, NO_ROUTE, RequestCounts
from projections.replay import maintenance
from projections.verify import verify
from tests.calls import bearer, login, new_api, new_person, ok, refused
from tests.serving import Served

Samples = Mapping[tuple[str, tuple[tuple[str, str], ...]], float]


def metrics(http: httpx.Client, token: str | None = None) -> Samples:
    """Answer every sample, by its name and labels, as Prometheus reads it."""
    answer = http.get("/metrics", headers={} if token is None else bearer(token))
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=")
    families = list(text_string_to_metric_families(answer.text))
    assert all(family.documentation for family in families)
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples.get((f"token_ledger_{name}", tuple(sorted(labels.items()))), 0.0)


# ------------------------------------------------------------------------------------------------------------- who may


def test_nobody_may_without_a_token_or_a_rule(http: httpx.Client, admin: httpx.Client) -> None:
    nobody = new_person(admin)
    elsewhere = new_person(admin, f"{new_api(admin, {'reader': ['allow GET /metrics']})}:reader")
    refused(http.get("/metrics"), 401, "not_authenticated")
    refused(http.get("/metrics", headers=bearer("tl_at_nonsense")), 401, "not_authenticated")
    for person in (nobody, elsewhere):
        token = login(http, person)["access_token"]
        refused(http.get("/metrics", headers=bearer(token)), 403, "not_allowed")


@pytest.mark.parametrize("role", ["auditor", "operator", "administrator"])
def test_the_built_in_roles_may(http: httpx.Client, admin: httpx.Client, role: str) -> None:
    person = new_person(admin, f"ledger:{role}")
    assert value(metrics(http, login(http, person)["access_token"]), "log_position") > 0


def test_a_named_token_with_that_one_rule_is_what_prometheus_needs(http: httpx.Client, admin: httpx.Client) -> None:
    watcher = new_person(admin, name="prometheus")
    rules = [{"api": "ledger", "methods": ["GET"], "path": "/metrics"}]
    ok(admin.post(f"/v1/subjects/{watcher.subject_id}/rules", json={"rules": rules}))
    session = bearer(login(http, watcher)["access_token"])
    named = ok(http.post("/v1/me/tokens", json={"name": "prometheus"}, headers=session), 201)["access_token"]
    assert value(metrics(http, named), "log_position") > 0
    refused(http.get("/v1/subjects", headers=bearer(named)), 403, "not_allowed")


def test_a_parameter_is_refused(admin: httpx.Client) -> None:
    refused(admin.get("/metrics", params={"name": "x"}), 400, "invalid_input")


# -------------------------------------------------------------------------------------------------------------- the log


def test_the_head_and_the_age_of_the_log_are_told(admin: httpx.Client) -> None:
    new_person(admin)
    before = metrics(admin)
    assert value(before, "log_position") == ok(admin.get("/readyz"))["position"]
    time.sleep(0.2)
    assert value(metrics(admin), "log_age_seconds") >= value(before, "log_age_seconds") + 0.2
    new_person(admin)
    after = metrics(admin)
    assert value(after, "log_position") == value(before, "log_position") + 2
    assert value(after, "log_age_seconds") < 60


def test_the_last_verification_is_told_and_before_the_first_there_is_none(own_ledger: Served) -> None:
    with own_ledger.admin() as admin:
        assert not any(name.startswith("token_ledger_verification") for name, _ in metrics(admin))
        clean = verify(own_ledger.owner)
        told = metrics(admin)
        assert value(told, "verification_position") == clean.position
        assert value(told, "verification_differences") == 0
        assert value(told, "verification_duration_seconds") == pytest.approx(clean.seconds)
        assert abs(value(told, "verification_timestamp_seconds") - time.time()) < 300
        with psycopg.connect(own_ledger.owner, autocommit=True) as connection:
            connection.execute("UPDATE views.subjects SET clearance = 1")
        assert not verify(own_ledger.owner).clean
        assert value(metrics(admin), "verification_differences") > 0


def test_a_replay_or_verification_at_work_is_told(own_ledger: Served) -> None:
    with own_ledger.admin() as admin:
        assert value(metrics(admin), "maintenance_running") == 0
        with maintenance(own_ledger.owner):
            assert value(metrics(admin), "maintenance_running") == 1
        assert value(metrics(admin), "maintenance_running") == 0


# --------------------------------------------------------------------------------------------------------- the requests


def test_requests_are_summed_over_all_workers_whichever_is_asked(each_worker: list[httpx.Client], admin: httpx.Client) -> None:
    assert len(each_worker) == 2
    token = admin.headers["Authorization"].removeprefix("Bearer ")
    route = "/.well-known/jwks.json"

    def counted() -> list[float]:
        return [value(metrics(worker, token), "requests_total", route=route, status="200") for worker in each_worker]

    before = counted()
    assert before[0] == before[1]
    for worker, times in zip(each_worker, (3, 5), strict=True):
        for _ in range(times):
            ok(worker.get(route))
    assert counted() == [before[0] + 8, before[0] + 8]


def test_a_request_is_counted_by_its_route_and_status_and_once_in_its_time(http: httpx.Client, admin: httpx.Client) -> None:
    def counted() -> list[float]:
        samples = metrics(admin)
        of = {"route": "/v1/subjects/{subject_id}"}
        bucket = value(samples, "request_duration_seconds_bucket", **of, le="10.0")
        count, seconds = (value(samples, f"request_duration_seconds_{what}", **of) for what in ("count", "sum"))
        statuses = [value(samples, "requests_total", **of, status=status) for status in ("200", "401", "404")]
        return [*statuses, count, bucket, seconds, value(samples, "requests_total", route=NO_ROUTE, status="404")]

    person = new_person(admin)
    before = counted()
    ok(admin.get(f"/v1/subjects/{person.subject_id}"))
    refused(admin.get("/v1/subjects/00000000-0000-7000-8000-000000000000"), 404, "unknown_subject")
    refused(http.get(f"/v1/subjects/{person.subject_id}"), 401, "not_authenticated")
    assert http.get("/no/such/route").status_code == 404
    ok_more, unknown, nobody, *times, no_route = (after - was for after, was in zip(counted(), before, strict=True))
    assert (ok_more, nobody, unknown) == (1, 1, 1)
    assert times[:2] == [3, 3]
    assert 0 < times[2] < 10
    assert no_route == 1


def test_what_a_worker_has_counted_stays_when_it_is_killed(own_ledger: Served) -> None:
    with own_ledger.admin() as admin, own_ledger.client() as http:
        for _ in range(20):
            http.get("/healthz")
        before = value(metrics(admin), "requests_total", route="/healthz", status="200")
        assert before >= 20
        workers = own_ledger._worker_processes()
        os.kill(workers[0], signal.SIGKILL)
        deadline = time.monotonic() + 30
        while workers[0] in (now := own_ledger._worker_processes()) or len(now) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        with own_ledger.each_worker() as clients:
            for client in clients:
                for _ in range(5):
                    client.get("/healthz")
            token = admin.headers["Authorization"].removeprefix("Bearer ")
            after = [value(metrics(client, token), "requests_total", route="/healthz", status="200") for client in clients]
        assert after == [before + 12] * 2  # each_worker has asked each of them once itself


def test_no_label_has_anything_of_a_request(http: httpx.Client, admin: httpx.Client) -> None:
    person = new_person(admin)
    http.get(f"/v1/subjects/{person.subject_id}/../{person.username}?token=secret")
    http.get(f"/{person.username}")
    admin.get(f"/v1/subjects/{person.subject_id}")
    labels = {(name, text) for _, labels in metrics(admin) for name, text in labels}
    assert {name for name, _ in labels} == {"route", "status", "le"}
    assert {text for name, text in labels if name == "route"} <= {route.path for route in ROUTES} | {NO_ROUTE}
    assert all(re.fullmatch(r"\d{1,3}", text) for name, text in labels if name == "status")


# ------------------------------------------------------------------------------------------------------------ the counts


def test_a_count_is_in_one_bucket_and_an_unknown_status_or_route_is_another() -> None:
    counts = RequestCounts(["/a", "/b"], 2)
    for seconds in (0.0, BUCKETS[0], BUCKETS[-1] + 1):
        counts.add("/a", 200, seconds)
    counts.take(1)
    counts.add("/a", 200, BUCKETS[0] * 1.5)
    counts.add("/c", 418, 0.0)
    counts.add(None, 404, 0.0)
    a, none = counts.read()
    assert (a.route, a.statuses) == ("/a", {200: 4})
    assert (a.durations[0], a.durations[1], a.durations[-1], sum(a.durations)) == (2, 1, 1, 4)
    assert (none.route, none.statuses) == (NO_ROUTE, {404: 1, 0: 1})
