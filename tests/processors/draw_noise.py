"""Draws the rows of the vectors in the JSON file that is named: an array of bit patterns each, by its number."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from processors import emulator

from latentserve_server.latent.noise import NoiseSource

vectors = json.loads(Path(sys.argv[1]).read_text())["vectors"]
drawn = {}
for number, vector in enumerate(vectors):
    seed, stream, index, dim = (int(vector[key]) for key in ("seed", "stream", "first_index", "dim"))
    rows = NoiseSource().draw(seed, index, len(vector["rows"]), dim, stream)
    drawn[str(number)] = rows.view(np.uint32)
emulator.reply(**drawn)
