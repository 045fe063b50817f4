"""The dashboard of latentserve-server for Grafana; `make dashboard` has it write dashboard.json."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import LegendDisplayMode, LegendPlacement
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    Panel,
    VariableRefresh,
    VariableSort,
)

PLACE = Path(__file__).with_name("dashboard.json")
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
WIDTH, HEIGHT = 6, 7
"""Of a panel, in Grafana's grid of 24 columns."""
HERE = 'job="$job", model=~"$model"'
GRAPH = "{{model}} {{graph}}"

Query = tuple[str, str]
"""An expression, and the legend of its series."""


def main() -> None:
    """Write the dashboard beside this file."""
    PLACE.write_text(JSONEncoder(sort_keys=True, indent=2).encode(latentserve()) + "\n")


def latentserve() -> object:
    """The dashboard: objectives first, then what moves them, from the calls down to the processes."""
    built = (
        dashboard.Dashboard("latentserve")
        .uid("latentserve-server")
        .description('latentserve-server: docs/operations.md, "Dashboard", says what to look at.')
        .tags(["latentserve"])
        .time("now-1h", "now")
        .refresh("30s")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .with_variable(_choice("job", "Job", "label_values(latentserve_build_info, job)"))
        .with_variable(
            _choice("model", "Model", 'label_values(latentserve_model_state{job="$job"}, model)')
            .multi(True)
            .include_all(True)
            .all_value(".*")
        )
    )
    for title, panels in (
        ("Objectives", objectives()),
        ("Calls", calls()),
        ("Engine", engine()),
        ("Models", models()),
        ("Processes", processes()),
    ):
        built.with_row(dashboard.Row(title))
        for panel in panels:
            built.with_panel(panel)
    return built.build()


def objectives() -> Sequence[Builder[Panel]]:
    """Shares of failed and slow calls, and what they leave of the budgets."""
    return (
        _number(
            "Alerts that fire",
            "Of latentserve's rules.",
            "short",
            ('count(ALERTS{alertname=~"Latentserve.*", alertstate="firing"}) or vector(0)', "alerts"),
        ),
        _number(
            "Calls answered",
            "Share of the judged calls of the last 3 days, of the worst model; the objective is 99.9 %.",
            "percentunit",
            (f"1 - max(job_model:latentserve_failed_calls:ratio_3d{{{HERE}}})", "answered"),
        ),
        _curves(
            "Failed calls",
            "Share of the judged calls of 5 minutes, by model. The budget is 0.1 %.",
            "percentunit",
            (f"job_model:latentserve_failed_calls:ratio_5m{{{HERE}}}", "{{model}}"),
            ("latentserve:failed_calls:budget", "budget"),
        ),
        _curves(
            "Slow calls",
            "Share of the timed calls of 5 minutes that took longer than 0.82 s, by model. The budget is 1 %.",
            "percentunit",
            (f"job_model:latentserve_slow_calls:ratio_5m{{{HERE}}}", "{{model}}"),
            ("latentserve:slow_calls:budget", "budget"),
        ),
    )


def calls() -> Sequence[Builder[Panel]]:
    """What callers ask, and how long they wait."""
    duration = f"rate(latentserve_request_duration_seconds_bucket{{{HERE}}}[$__rate_interval])"
    return (
        _curves(
            "Calls",
            "By method.",
            "reqps",
            (f"sum by (method) (rate(latentserve_requests_total{{{HERE}}}[$__rate_interval]))", "{{method}}"),
        ),
        _curves(
            "Endings",
            "Calls by status code; those that were answered, too.",
            "reqps",
            (f"sum by (code) (rate(latentserve_requests_total{{{HERE}}}[$__rate_interval]))", "{{code}}"),
        ),
        _curves(
            "Time to reply",
            "Median and 99th percentile, by method; interpolated within buckets that grow by factors of 2.",
            "s",
            (f"histogram_quantile(0.5, sum by (method, le) ({duration}))", "{{method}} p50"),
            (f"histogram_quantile(0.99, sum by (method, le) ({duration}))", "{{method}} p99"),
        ),
        _curves(
            "Calls in flight",
            "By method, of all models.",
            "short",
            ('sum by (method) (latentserve_requests_in_flight{job="$job"})', "{{method}}"),
        ),
    )


def engine() -> Sequence[Builder[Panel]]:
    """Queues, batches and runs of graphs."""

    def by_graph(metric: str, by: str = "model, graph") -> str:
        return f"sum by ({by}) (rate(latentserve_{metric}{{{HERE}}}[$__rate_interval]))"

    return (
        _curves(
            "Wait for the engine",
            "95th percentile: the first thing to grow under load.",
            "s",
            (f"histogram_quantile(0.95, {by_graph('queue_duration_seconds_bucket', 'model, graph, le')})", GRAPH),
        ),
        _curves(
            "Run of a batch",
            "95th percentile.",
            "s",
            (f"histogram_quantile(0.95, {by_graph('compute_duration_seconds_bucket', 'model, graph, le')})", GRAPH),
        ),
        _curves(
            "Engines busy",
            "Share of the time, by replica and model. Near 1 it is full, times the workers of a replica.",
            "percentunit",
            (by_graph("compute_duration_seconds_sum", "instance, model"), "{{instance}} {{model}}"),
        ),
        _curves(
            "Rows that wait",
            "In the queues, of all replicas.",
            "short",
            (f"sum by (model, graph) (latentserve_queue_rows{{{HERE}}})", GRAPH),
        ),
        _curves(
            "Rows a second",
            "That ran, without those that filled batches up.",
            "short",
            (by_graph("batch_rows_sum"), GRAPH),
        ),
        _curves(
            "Rows of a batch",
            "On the mean.",
            "short",
            (f"{by_graph('batch_rows_sum')} / {by_graph('batch_rows_count')}", GRAPH),
        ),
        _curves(
            "Calls refused",
            "By queues that are full, or in which the wait would outlast the deadline.",
            "reqps",
            (by_graph("refused_calls_total", "model, reason"), "{{model}} {{reason}}"),
        ),
        _curves(
            "Calls dropped",
            "Whose callers left, or whose deadline passed, before they had run.",
            "reqps",
            (by_graph("dropped_calls_total", "model, reason"), "{{model}} {{reason}}"),
        ),
    )


def models() -> Sequence[Builder[Panel]]:
    """Which versions are served, and what keeps others from it."""
    return (
        _curves(
            "Versions that are ready",
            "Replicas by version. Two versions at once for longer than a rollout are a mistake.",
            "short",
            (f"count by (model, version) (latentserve_model_info{{{HERE}}})", "{{model}} {{version}}"),
        ),
        _curves(
            "Numerics of a version",
            "More than 1: replicas compute other bits.",
            "short",
            (
                "count by (model, version, digest) (count by (model, version, digest, numerics) "
                f"(latentserve_model_info{{{HERE}}}))",
                "{{model}} {{version}}",
            ),
        ),
        _curves(
            "Loads",
            "Attempts to load a version since the server began, by how they ended.",
            "short",
            (f"sum by (model, result) (latentserve_model_loads_total{{{HERE}}})", "{{model}} {{result}}"),
        ),
        _curves(
            "What is wrong with the repository",
            "Versions that do not load or whose folders are gone, aliases that are stuck, replicas that cannot read.",
            "short",
            (f"sum(latentserve_model_broken{{{HERE}}}) or vector(0)", "do not load"),
            (f"sum(latentserve_model_missing{{{HERE}}}) or vector(0)", "missing"),
            (f"sum(latentserve_alias_stuck{{{HERE}}}) or vector(0)", "aliases stuck"),
            ('sum(latentserve_repository_unreadable{job="$job"})', "unreadable"),
        ),
        _curves(
            "Drift of latents",
            "Divergence of what is encoded from the calibration, in nats a latent; an alert fires beyond 0.1.",
            "short",
            (f"avg by (model, version) (latentserve_latent_drift_nats{{{HERE}}})", "{{model}} {{version}}"),
        ),
        _curves(
            "Drift of scores",
            "Population stability index of anomaly percentiles; an alert fires beyond 0.25.",
            "short",
            (f"avg by (model, version) (latentserve_anomaly_percentile_psi{{{HERE}}})", "{{model}} {{version}}"),
        ),
    )


def processes() -> Sequence[Builder[Panel]]:
    """What the processes of each replica take of its machine."""

    def of_job(metric: str) -> str:
        return f'{metric}{{job="$job"}}'

    return (
        _curves(
            "Memory",
            "Held by all processes of a replica, as a share of what it may have.",
            "percentunit",
            (
                f"sum by (instance) ({of_job('process_resident_memory_bytes')}) "
                f"/ max by (instance) ({of_job('latentserve_memory_limit_bytes')})",
                "{{instance}}",
            ),
        ),
        _curves(
            "Calls refused for want of memory",
            "Before they were read, by replica.",
            "reqps",
            (
                f"sum by (instance) (rate({of_job('latentserve_memory_refused_calls_total')}[$__rate_interval]))",
                "{{instance}}",
            ),
        ),
        _curves(
            "Processors",
            "Busy on the mean, of each replica.",
            "short",
            (f"sum by (instance) (rate({of_job('process_cpu_seconds_total')}[$__rate_interval]))", "{{instance}}"),
        ),
        _curves(
            "Open files",
            "Files and connections of the fullest process, as a share of what it may have.",
            "percentunit",
            (
                f"max by (instance) ({of_job('process_open_fds')} / {of_job('process_max_fds')})",
                "{{instance}}",
            ),
        ),
        _curves(
            "Log lines lost",
            "That could not be written.",
            "short",
            (
                f"sum by (instance) (rate({of_job('latentserve_log_lines_dropped_total')}[$__rate_interval]))",
                "{{instance}}",
            ),
        ),
    )


def _choice(name: str, label: str, query: str) -> dashboard.QueryVariable:
    choice = dashboard.QueryVariable(name).label(label).query(query).datasource(SOURCE)
    return choice.refresh(VariableRefresh.ON_TIME_RANGE_CHANGED).sort(VariableSort.ALPHABETICAL_ASC)


def _number(title: str, description: str, unit: str, query: Query) -> stat.Panel:
    panel = stat.Panel().title(title).description(description).datasource(SOURCE).unit(unit).span(WIDTH).height(HEIGHT)
    return panel.with_target(_target(0, query))


def _curves(title: str, description: str, unit: str, *queries: Query) -> timeseries.Panel:
    panel = timeseries.Panel().title(title).description(description).datasource(SOURCE).unit(unit).min(0)
    panel.span(WIDTH).height(HEIGHT)
    panel.fill_opacity(10)
    legend = common.VizLegendOptions().show_legend(True)
    panel.legend(legend.display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM))
    for number, query in enumerate(queries):
        panel.with_target(_target(number, query))
    return panel


def _target(number: int, query: Query) -> prometheus.Dataquery:
    expression, legend = query
    return prometheus.Dataquery().ref_id(chr(ord("A") + number)).expr(expression).legend_format(legend).range()


if __name__ == "__main__":
    main()
