"""The device that the tests' servers and graphs run on, and how closely they are held to what is expected.

It is the CPU unless pytest is told `--device cuda`. That sets the variable, here and in the processes that tests start.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from latentserve_server.engine import Placement

VARIABLE = "TESTED_DEVICE"
TOLERANCE = 1e-4
"""On CUDA: how far floats may be from those expected, absolute plus relative, since kernels sum in an order that a
batch's size decides. It is what `make gpu-check` allows between a graph there and PyTorch's."""


def device() -> str:
    """The device, "cpu" or "cuda", in the words of the server's option."""
    return os.environ.get(VARIABLE, "cpu")


def placement() -> Placement:
    """The device, with one thread where it is the CPU."""
    from latentserve_server.engine import Cpu, Cuda  # tests of the client run without the server

    return Cuda() if device() == "cuda" else Cpu(threads=1)


def tolerance(on_cpu: float) -> float:
    """How far a graph's floats may be from those expected: `on_cpu` there."""
    return TOLERANCE if device() == "cuda" else on_cpu


def assert_agree(computed: ArrayLike, expected: ArrayLike) -> None:
    """Fail unless two graphs, or two batches of one, gave the same: on the CPU to the bit.

    On CUDA floats are within TOLERANCE, and images in 8 bits within a level, as a float may be on the edge of two.
    """
    one, other = np.asarray(computed), np.asarray(expected)
    assert one.dtype == other.dtype
    if device() == "cpu":
        np.testing.assert_array_equal(one, other, strict=True)
    elif one.dtype.kind == "f":
        np.testing.assert_allclose(one, other, rtol=TOLERANCE, atol=TOLERANCE, strict=True)
    else:
        np.testing.assert_allclose(one.astype(int), other.astype(int), rtol=0, atol=1, strict=True)


def problem() -> str | None:
    """Why the device cannot be used, found by using it; this also loads CUDA's libraries into this process."""
    if device() == "cpu":
        return None
    from latentserve_server.engine import Cpu, Cuda, choose_placement
    from latentserve_server.errors import DeviceError

    try:
        choose_placement(device(), Cpu(threads=1), Cuda())
    except DeviceError as error:
        return str(error)
    return None
