"""The results of an evaluation that an export carries: metrics, prior and pictures."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from latentserve_training.errors import RunError
from latentserve_training.evaluation.calibration import Calibration
from latentserve_training.evaluation.mixture import Mixture
from latentserve_training.evaluation.report import Report
from latentserve_training.models import Vae
from latentserve_training.run.trained_model import TrainedModel


@dataclass(frozen=True, kw_only=True)
class EvaluationResults:
    """Metrics of the exported weights, named "test.…" if an evaluation measured them, else "validation.…"."""

    metrics: dict[str, float]
    report: Report | None = None
    """The evaluation, where it judged these weights."""
    mixture: Mixture | None = None
    calibration: Calibration | None = None
    pictures: tuple[Path, ...] = ()
    """The pictures of the evaluation that go where the weights go."""

    @classmethod
    def of(cls, trained: TrainedModel) -> Self:
        """The evaluation's results if it was of this very checkpoint, else those of its last validation, if any.

        Raises:
            RunError: a file of the evaluation is missing or not what it wrote.
        """
        folder = trained.folder
        report = Report.load(folder.report) if folder.report.is_file() else None
        if report is None or report.checkpoint_sha256 != trained.checkpoint_sha256:
            progress = trained.checkpoint.progress
            # Weights from the middle of an epoch have not been validated; the results are of the epoch before.
            results = {} if progress.batch else progress.results
            return cls(metrics={f"validation.{name}": value for name, value in results.items()})
        return cls(
            metrics={f"test.{name}": value for name, value in report.metrics.items()},
            report=report,
            mixture=Mixture.load(folder.mixture) if _written(report, folder.mixture) else None,
            calibration=Calibration.load(folder.calibration) if _written(report, folder.calibration) else None,
            pictures=tuple(path for path in _without_data(trained) if _written(report, path)),
        )


def _without_data(trained: TrainedModel) -> list[Path]:
    """The pictures that neither show an image of the data nor were derived from one."""
    names = ["samples.png", "mixture_samples.png", "latent_plane.png", "curves.png", "kl_by_latent.png"]
    if not isinstance(trained.model, Vae):  # whose steps lead from one image's latents to another's
        names.append("interpolations.png")
    return [trained.folder.path / name for name in names]


def _written(report: Report, path: Path) -> bool:
    """Whether the evaluation wrote the file; if so, it must be unchanged."""
    if path.name not in report.files:
        return False
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != report.files[path.name]:
        raise RunError(f"{path} is missing or not what the evaluation wrote; run latentserve-evaluate again")
    return True
