"""One evaluation, from its command line to its last file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from latentserve_training.command_line import fill, make_parser
from latentserve_training.effort import QUICK, Effort
from latentserve_training.evaluation import evaluate
from latentserve_training.standard_output import complain, say


@dataclass(frozen=True, kw_only=True)
class EvaluationRequest:
    """What to evaluate, and how thoroughly."""

    run: Path
    data_root: Path | None
    effort: Effort


def judge(argv: Sequence[str] | None, prog: str) -> None:
    """Evaluate what the command line names, and print the report; samples that have collapsed are warned of.

    Raises:
        ArgumentError: the command line is wrong.
        TrainingError: the run or its data cannot be used.
    """
    request = parse(argv, prog)
    report = evaluate(request.run, request.data_root, request.effort)
    say(report.markdown())
    if report.collapse:
        complain(f"{prog}: warning: {request.run} has collapsed: {report.collapse}")


def parse(argv: Sequence[str] | None, prog: str) -> EvaluationRequest:
    """The request that a command line makes.

    Raises:
        ArgumentError: an option is unknown, missing, of the wrong type or out of range.
    """
    parser = make_parser(
        prog, "Judge a run's model on its test images; writes report.json, report.md and pictures into the run."
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="Folder that latentserve-train made.")
    parser.add_argument("--data-root", type=Path | None, help="Folder of the data, where it has moved since training.")
    parser.add_argument("--samples", type=int | None, help="Images to draw from the model (default: 10000).")
    parser.add_argument(
        "--nll-draws", type=int | None, help="Draws an image of the importance-weighted bound; 0: none (default: 500)."
    )
    parser.add_argument("--nll-images", type=int | None, help="Test images of that bound (default: 1000).")
    parser.add_argument(
        "--classifier-score",
        action="store_true",
        default=None,
        help="For conditional models: train a classifier on as many samples as images; test it on real ones.",
    )
    parser.add_argument("--seed", type=int | None, help="Seed of all noise and of the choice of subsets (default: 0).")
    parser.add_argument("--quick", action="store_true", help="1,000 samples, 50 draws and 100 images, unless given.")
    parser.add_argument("--untuned", action="store_true", help="Leave malloc and OpenMP as they are.")
    values = parser.parse_args(argv)
    preset = asdict(QUICK if values.quick else Effort())
    given = {name: values[name] for name in preset if values[name] is not None}
    effort = fill(Effort, preset | given)
    return EvaluationRequest(run=values.run, data_root=values.data_root, effort=effort)
