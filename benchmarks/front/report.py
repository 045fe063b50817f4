"""The table that is printed, and the file that keeps everything."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from front.figures import Figures
from front.goals import Goal

HEAD = ("what", "goal", "today", "rounds", "met")


def judged(goals: Sequence[Goal], figures: Figures) -> list[dict[str, Any]]:
    """Every goal with its median, its values and whether it is met."""
    found = []
    for goal in goals:
        values = list(goal.values(figures)) if goal.values else []
        median = statistics.median(values) if values else None
        verdicts = {goal.met(value) for value in values}
        found.append(
            {
                "what": goal.what,
                "goal": goal.bound,
                "at_most": goal.at_most,
                "unit": goal.unit,
                "median": median,
                "rounds": values,
                "met": None if median is None else goal.met(median),
                "rounds_agree": len(verdicts) <= 1,
                "note": goal.note,
            }
        )
    return found


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as a table of Markdown."""
    lines = [HEAD, ("---",) * len(HEAD), *(_cells(row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    unit = f" {row['unit']}" if row["unit"] else ""
    goal = "" if row["goal"] is None else f"{'<=' if row['at_most'] else '>='} {row['goal']:g}{unit}"
    if row["median"] is None:
        return row["what"], goal, "not measured", row["note"], ""
    spread = f"{number(min(row['rounds']))} to {number(max(row['rounds']))}" if len(row["rounds"]) > 1 else ""
    met = {True: "yes", False: "no", None: ""}[row["met"]] + ("" if row["rounds_agree"] else ", but rounds differ")
    return row["what"], goal, f"{number(row['median'])}{unit}", spread, met


def number(value: float) -> str:
    """Three digits where they matter, thousands apart."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
