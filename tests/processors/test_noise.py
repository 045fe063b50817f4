"""The noise vectors are drawn to the bit on every processor."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from processors import emulator

VECTORS = Path(__file__).parents[1] / "contract" / "noise_vectors.json"


def test_a_processor_draws_the_vectors(processor: str) -> None:
    drawn = emulator.run("draw_noise.py", VECTORS, processor=processor)
    vectors = json.loads(VECTORS.read_text())["vectors"]
    assert len(drawn) == len(vectors) > 0
    for number, vector in enumerate(vectors):
        expected = [[int(bits, 16) for bits in row] for row in vector["rows"]]
        np.testing.assert_array_equal(drawn[str(number)], np.array(expected, np.uint32))
