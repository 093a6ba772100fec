"""GET /metrics: how the log, its verification and the service are, as Prometheus reads it. Nothing here is about anybody."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate

from falcon.asgi import Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from api.asking import authorize
from api.counting import BUCKETS, RouteCounts
from api.pages import read_query
from api.service import Service
from projections.health import Health, read_health


class Metrics:
    """GET /metrics."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def on_get(self, req: Request, resp: Response) -> None:
        """Answer the metrics in Prometheus' text format, the requests summed over all workers of this server."""
        service = self._service
        await authorize(req, service)
        read_query(req, ())
        async with service.pool.connection() as connection:
            health = await read_health(connection)
        registry = CollectorRegistry()
        registry.register(_Collected(health, service.requests.read()))
        resp.content_type = CONTENT_TYPE_LATEST
        resp.data = generate_latest(registry)


@dataclass(eq=False, slots=True)
class _Collected(Collector):
    health: Health
    requests: Iterable[RouteCounts]

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        yield from _of_the_log(self.health)
        yield from _of_requests(self.requests)


def _of_the_log(health: Health) -> Iterator[Metric]:
    age = 0.0 if health.recorded_at is None else max(0.0, (health.instant - health.recorded_at).total_seconds())
    gauges: list[tuple[str, str, float]] = [
        ("log_position", "The last position of the log.", health.position),
        ("log_age_seconds", "How long ago the last event was recorded.", age),
        ("maintenance_running", "1 while a replay, a verification or an archiving is at work.", health.maintained),
    ]
    last = health.verification
    if last is not None:
        gauges += [
            ("verification_timestamp_seconds", "When the last verification ended.", last.verified_at.timestamp()),
            ("verification_position", "Up to which position the last verification looked.", last.position),
            ("verification_differences", "How many differences the last verification found.", last.differences),
            ("verification_duration_seconds", "How long the last verification took.", last.seconds),
        ]
    for name, documentation, value in gauges:
        yield GaugeMetricFamily(f"token_ledger_{name}", documentation, value=value)


def _of_requests(requests: Iterable[RouteCounts]) -> Iterator[Metric]:
    counted = CounterMetricFamily(
        "token_ledger_requests", "Requests answered, by route and status; status 0: another.", labels=("route", "status")
    )
    lasted = HistogramMetricFamily("token_ledger_request_duration_seconds", "How long they took.", labels=("route",))
    bounds = [*map(str, BUCKETS), "+Inf"]
    for counts in requests:
        for status, count in counts.statuses.items():
            counted.add_metric((counts.route, str(status)), count)
        buckets = list(zip(bounds, map(float, accumulate(counts.durations)), strict=True))
        lasted.add_metric((counts.route,), buckets, counts.seconds)
    yield counted
    yield lasted
