"""The service's metrics, for Prometheus.

``composition`` builds one `Metrics` and passes its methods as callbacks to the other parts of the
server. Those parts do not import Prometheus. Counters start at 0 in each server process. After a
server's death, the next server reads a part of the journal again. But it counts nothing twice,
because the callbacks only report changes that were just stored.

A client's request cannot create a new value of a label. For example, the label ``method`` has only
the known HTTP methods and ``other``.
"""

from collections.abc import Iterable, Iterator

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from scriptservice.fleet.notifications import StatusChange, StoredChanges
from scriptservice.model import FINAL, Status
from scriptservice.server.telemetry.gauges import GaugeValues

_PREFIX = "scriptservice"
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
WAIT_SECONDS = (0.005, 0.01, 0.025, 0.1, 0.5, 1, 5, 15, _MINUTE, 300, 1800, 2 * _HOUR, _DAY)
START_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)
RUN_SECONDS = (
    0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, _MINUTE, 300, 1800,
    2 * _HOUR, 6 * _HOUR, _DAY, 3 * _DAY, 7 * _DAY,
)  # fmt: skip
ITEMS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 500)
COMMIT_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)
ANSWER_SECONDS = (0.0025, 0.01, 0.05, 0.25, 1, 5)


class Metrics:
    """Counts events, and renders all metrics as text.

    Args:
        version: the version of this release.
        starts: how many servers this keeper has started, including this server.
    """

    def __init__(self, version: str, starts: int) -> None:
        # By default, the library adds a series with the creation time for each counter and each
        # histogram. Version 0.0.4 of the format cannot mark these series as creation times, so
        # scrapers would take them for gauges.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._gauges = _GaugeCollector()
        self._registry.register(self._gauges)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        Info(f"{_PREFIX}_build", "This release.", registry=self._registry).info(
            {"version": version}
        )
        self._counter("server_restarts", "Times that this keeper started a further server.").inc(
            starts - 1
        )
        self._count_commands()
        self._count_store()
        self._requests = self._counter(
            "http_requests", "Answered requests.", "route", "method", "status"
        )
        self._answer_seconds = self._histogram(
            "http_response_start_seconds",
            "From a request to the start of its answer, without requests that ask to wait.",
            ANSWER_SECONDS,
            "route",
            "method",
        )
        self._bound: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def _count_commands(self) -> None:
        finished = self._counter("commands_finished", "Commands that became final.", "status")
        # Look up the counter of each status here once, and not again for each command.
        self._finished = {status: finished.labels(status.value) for status in sorted(FINAL)}
        self._wait_seconds = self._histogram(
            "command_wait_seconds", "From submission to start.", WAIT_SECONDS
        )
        self._start_seconds = self._histogram(
            "command_start_seconds", "From being sent to the keeper to start.", START_SECONDS
        )
        self._run_seconds = self._histogram(
            "command_run_seconds", "From start to finish.", RUN_SECONDS
        )

    def _count_store(self) -> None:
        stored = self._counter("output_stored_bytes", "Output that was stored.", "stream")
        self._stdout_bytes = stored.labels("stdout")
        self._stderr_bytes = stored.labels("stderr")
        self._pruned = self._counter("commands_pruned", "Commands that retention deleted.")
        self._pruned_bytes = self._counter(
            "output_pruned_bytes", "Output that retention deleted, as it was stored."
        )
        self._items = self._histogram(
            "store_transaction_items", "Number of items that one transaction stored.", ITEMS
        )
        self._commit_seconds = self._histogram(
            "store_transaction_seconds", "From a transaction's begin to its commit.", COMMIT_SECONDS
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"{_PREFIX}_{name}", text, labels, registry=self._registry)

    def _histogram(self, name: str, text: str, buckets: Iterable[float], *labels: str) -> Histogram:
        return Histogram(
            f"{_PREFIX}_{name}", text, labels, buckets=tuple(buckets), registry=self._registry
        )

    # Events

    def recorded(self, recorded: StoredChanges) -> None:
        """Count the changes of a part of the journal that was just stored."""
        if recorded.stdout_bytes:
            self._stdout_bytes.inc(recorded.stdout_bytes)
        if recorded.stderr_bytes:
            self._stderr_bytes.inc(recorded.stderr_bytes)
        for step in recorded.status_changes:
            self.status_changed(step)

    def status_changed(self, step: StatusChange) -> None:
        """Count a change of a command's status."""
        outcome = step.outcome
        if step.status is Status.RUNNING:
            if outcome.started_at is not None:
                _observe(self._wait_seconds, step.created_at, outcome.started_at)
                _observe(self._start_seconds, step.sent_at, outcome.started_at)
        elif step.status in self._finished:
            self._finished[step.status].inc()
            if outcome.finished_at is not None:
                _observe(self._run_seconds, outcome.started_at, outcome.finished_at)

    def pruned(self, commands: int, stored_bytes: int) -> None:
        """Count commands that retention has deleted.

        Args:
            commands: number of the commands.
            stored_bytes: size of their output as it was stored.
        """
        self._pruned.inc(commands)
        self._pruned_bytes.inc(stored_bytes)

    def committed(self, items: int, seconds: float) -> None:
        """Count a transaction of the writer. The writer calls this method in its own thread.

        Args:
            items: number of items that the transaction stored.
            seconds: time from the transaction's begin to its commit.
        """
        self._items.observe(items)
        self._commit_seconds.observe(seconds)

    def answered(self, route: str, method: str, status: int, seconds: float | None) -> None:
        """Count a request when its answer starts.

        Args:
            route: the route's path, with ``{id}`` in place of parameters; ``other`` if there is no
                route for the request's path.
            method: the HTTP method; ``other`` for an unknown method.
            status: the answer's status code.
            seconds: time from the request to the start of its answer; None if the client asked
                the service to wait before it answers.
        """
        key = (route, method, status)
        bound = self._bound.get(key)
        if bound is None:
            bound = self._bound[key] = (
                self._requests.labels(route, method, str(status)),
                self._answer_seconds.labels(route, method),
            )
        bound[0].inc()
        if seconds is not None:
            bound[1].observe(seconds)

    # Rendering

    def text(self, gauges: GaugeValues, accept: str) -> tuple[bytes, str]:
        """Return all metrics in a format that the scraper accepts, and that format's media type.

        Args:
            gauges: the present values of the gauges.
            accept: the request's Accept header; empty for the default format.
        """
        self._gauges.values = gauges
        try:
            encoder, media_type = choose_encoder(accept)
        except TypeError:  # the header's version parameter is not a number
            encoder, media_type = choose_encoder("")
        return encoder(self._registry), media_type


def _observe(histogram: Histogram, from_us: int | None, to_us: int) -> None:
    """Observe the duration between two times.

    The clock may have been set back in between, so a negative duration counts as 0.

    Args:
        histogram: the histogram that counts the duration.
        from_us: the earlier time, in microseconds since 1970 UTC. If it is None, the function does
            nothing.
        to_us: the later time, in microseconds since 1970 UTC.
    """
    if from_us is not None:
        histogram.observe(max(0, to_us - from_us) / 1e6)


class _GaugeCollector(Collector):
    """Renders the gauges. A gauge whose value could not be read gets no sample."""

    def __init__(self) -> None:
        self.values = GaugeValues()

    def collect(self) -> Iterator[Metric]:
        """See `Collector`."""
        now = self.values
        waiting = _gauge("commands_queued", "Commands that wait, by the place where.", "where")
        for where, count in (("database", now.queued), ("keeper", now.waiting)):
            if count is not None:
                waiting.add_metric([where], count)
        yield waiting
        yield _gauge("commands_running", "Scripts that the keeper runs.", value=now.running)
        followers = _gauge("followers", "Open requests that follow a command.", "kind")
        for kind, count in now.followers.items():
            followers.add_metric([kind], count)
        yield followers
        yield _gauge(
            "journal_lag_bytes", "Journal that the recorder has not stored.", value=now.lag_bytes
        )
        yield _gauge(
            "journal_lag_seconds", "Age of the oldest record not stored.", value=now.lag_seconds
        )
        yield _gauge(
            "spool_bytes",
            "Journal that no server has reported to the keeper as stored.",
            value=now.spool_bytes,
        )
        yield _gauge(
            "spool_full", "1 while scripts that print wait for room.", value=now.spool_full
        )


def _gauge(
    name: str, text: str, label: str | None = None, value: float | None = None
) -> GaugeMetricFamily:
    labels = None if label is None else [label]
    return GaugeMetricFamily(f"{_PREFIX}_{name}", text, value=value, labels=labels)
