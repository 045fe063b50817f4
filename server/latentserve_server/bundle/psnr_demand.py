"""The PSNR that a graph in lower precision must reach on its golden rows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from latentserve.v1 import bundle_pb2 as pb
from latentserve_server.engine import Arrays
from latentserve_server.errors import PrecisionShortfall

LEAST_PSNR_DB = 34.0
"""The least that is demanded, whatever the manifest says: noise of 2 % of the peak."""

MOST_PSNR_DB = 50.0
"""The most that is demanded, where the manifest promises more. Such noise is below one level of 256, and arithmetic in
float16 or TF32, which the CPU that wrote the manifest does not have, may well add as much."""

MARGIN_DB = 1.0
"""Subtracted from what the manifest says of the golden rows. An activation on the edge between two levels falls to
either side by the last bits of float32, which differ between processors."""

OTHER_ROWS_MARGIN_DB = 6.0
"""Subtracted from what the manifest says of other rows, where it says nothing of the golden ones: of a trained VAE, 8
rows were seen to be up to 4.2 dB below the whole."""


@dataclass(frozen=True)
class PsnrDemand:
    """What the outputs of one graph must have, in decibels of peak signal to noise, over the golden rows."""

    outputs: tuple[str, ...]
    """Each of them. The peak of an image is 1, that of another tensor its largest absolute value."""
    told_db: float
    """What the manifest says; 0 where it says nothing."""
    demanded_db: float

    @classmethod
    def of(cls, role: pb.GraphRole, conversion: pb.Conversion) -> PsnrDemand:
        """The demand on a graph of this role, from what its manifest says of the conversion."""
        main = "mean" if role == pb.GRAPH_ROLE_ENCODER else "image"
        if not conversion.HasField("golden_psnr_db"):
            return cls((main,), conversion.psnr_db, _demanded(conversion.psnr_db, OTHER_ROWS_MARGIN_DB))
        judged = (main, "log_variance") if role == pb.GRAPH_ROLE_ENCODER else (main,)
        return cls(judged, conversion.golden_psnr_db, _demanded(conversion.golden_psnr_db, MARGIN_DB))

    def check(self, computed: Arrays, expected: Arrays, golden: Arrays) -> None:
        """Hold computed outputs to those expected: the golden ones, or some of their rows, over and over again.

        Not each value and not each row, but all together. So a few rows may have the noise that is
        allowed to all golden rows together.

        Raises:
            PrecisionShortfall: an output has less than is demanded.
        """
        for name in self.outputs:
            rows, all_rows = len(expected[name]), len(golden[name])
            peak = 1.0 if name == "image" else float(np.abs(golden[name]).max())
            error = float(np.square(computed[name].astype(np.float64) - expected[name]).mean())
            share = math.ceil(rows / all_rows) * all_rows / rows
            if not error / share <= peak**2 * 10 ** (-self.demanded_db / 10):  # a comparison with NaN fails, too
                raise PrecisionShortfall(
                    f"output {name!r} has {_psnr_db(error / share, peak):.2f} dB over the golden rows, where "
                    f"{self.demanded_db:.2f} are demanded and its manifest says {self.told_db:.2f}"
                )


def _demanded(told_db: float, margin_db: float) -> float:
    return max(LEAST_PSNR_DB, min(MOST_PSNR_DB, told_db) - margin_db)


def _psnr_db(error: float, peak: float) -> float:
    return 10 * math.log10(peak**2 / error) if error and peak and math.isfinite(error) else -math.inf
