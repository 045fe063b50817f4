"""The results for people, in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gpu.graphs import Row


def markdown(results: Row) -> str:
    """Everything that was measured."""
    lines = [f"# {results['device']}", "", f"onnxruntime {results['onnxruntime']}; {results['seconds']:.0f} s.", ""]
    lines += [f"- {problem}" for problem in results["problems"]]
    for model, rows in results.get("graphs", {}).items():
        for row in rows:
            lines += ["", f"## {model}, {row['graph']}, rows a second", "", *_parity(row), ""]
            lines += _by_rows(row["rows_per_second"])
    if served := results.get("served"):
        for model, rates in served["images_per_second"].items():
            lines += ["", f"## {model}, images a second through the server", "", *_by_rows(rates)]
        lines += ["", *(_watched(way, watched) for way, watched in served["watched"].items())]
    if single := results.get("single_rows"):
        lines += ["", "## Calls of one row", "", "| model | 64 at a time, calls/s | p99 us | one at a time, p50 us |"]
        lines += ["|---|---|---|---|"]
        lines += [
            f"| {model} | {row['many']['calls_per_second']:,.0f} | {row['many']['p99_us']:,.0f} "
            f"| {row['one at a time']['p50_us']:,.0f} |"
            for model, row in single["models"].items()
        ]
        lines += ["", _watched("defaults", single["watched"])]
    lines += _workers(results.get("workers"))
    lines += _suite(results.get("suite"))
    return "\n".join(lines) + "\n"


def _parity(row: Row) -> Iterator[str]:
    errors = ", ".join(f"{way} {error:.1e}" for way, error in row["max_abs_error"].items())
    apart = ", ".join(f"{way} {error:.1e}" for way, error in row["from_cpu"].items())
    nodes = row.get("cpu_nodes") or "none"
    yield f"Largest error against PyTorch: {errors}; against the CPU: {apart}. Nodes left to the CPU: {nodes}."


def _by_rows(rates: Mapping[str, Mapping[int, float]]) -> list[str]:
    if not rates:
        return ["not measured"]
    sizes = list(next(iter(rates.values())))
    head = ["| rows | " + " | ".join(rates) + " |", "|---" * (len(rates) + 1) + "|"]
    return head + [f"| {rows} | " + " | ".join(f"{rates[way][rows]:,.0f}" for way in rates) + " |" for rows in sizes]


def _watched(what: str, watched: Row) -> str:
    parts = [f"server {_course(watched['server_mib'])}"]
    if watched["gpu_busy_percent"] is not None:
        parts.append(f"GPU busy {watched['gpu_busy_percent']:.0f} % of the time, {_course(watched['gpu_mib'])}")
    return f"- {what}: {'; '.join(parts)}"


def _course(values: Any) -> str:
    if not values:
        return "not seen"
    return f"{values['first']:,.0f} MiB at first, {values['last']:,.0f} at last, {values['most']:,.0f} at most"


def _workers(workers: Row | None) -> list[str]:
    if not workers:
        return ["", "Workers: this server has no --workers, or they were not measured."]
    head = ["", "## Workers, calls of one row", "", "| workers | calls/s | p99 us |", "|---|---|---|"]
    rows = [f"| {count} | {row['calls_per_second']:,.0f} | {row['p99_us']:,.0f} |" for count, row in workers.items()]
    return [*head, *rows, "", *(_watched(f"{count} workers", row["watched"]) for count, row in workers.items())]


def _suite(suite: Row | None) -> list[str]:
    if not suite:
        return []
    skipped, left_out = sum(suite["skipped"].values()), len(suite["left_out"])
    counts = f"{suite['passed']} passed, {len(suite['failed'])} failed, {skipped} skipped, {left_out} files left out"
    end = "" if suite["ended"] else "; the time was over before all had run"
    return [
        "",
        "## The server's tests",
        "",
        f"{counts}, in {suite['seconds']:.0f} s by {suite['processes']} processes{end}.",
        "",
        *(f"- failed: {name}" for name in suite["failed"]),
        *(f"- {count} skipped: {reason}" for reason, count in suite["skipped"].items()),
        *(f"- left out: {name}, which needs {library}" for name, library in suite["left_out"].items()),
    ]
