#!/usr/bin/env bash
# numpy.random.default_rng([seed, 0]) draws the same numbers as default_rng(seed).
#
# Versions: numpy 2.4.6.
# Behaviour: a seed that is a list is written out as one row of 32-bit words and filled up with zeros, so its elements
#   have no borders. [7], [7, 0] and [7, 0, 0] are the seed 7; and since a number above 32 bits is two words, [7, 1]
#   and [7, 1, 0] are the seed 7 + 2**32. spawn() marks its children, so they do not collide;
#   lists do.
# Expected: different lists give different streams. The documentation recommends [worker_id, root_seed], calls
#   [root_seed, worker_id] less good but working, and gives both about the same guarantee against collisions as
#   spawning.
# Output seen:
#   default_rng(7) and default_rng([7, 0]): the same numbers
#   default_rng([7, 3]) and default_rng([7, 3, 0]): the same numbers
#   default_rng([7, 1]) and default_rng([7 + 2**32, 0]): the same numbers
#   default_rng([0, 7]) and default_rng([7]): other numbers
#   SeedSequence(7).spawn(1)[0] and default_rng(7): other numbers
# Why it matters: [seed, epoch], [seed, epoch, row] and [seed, index] are the obvious way to a stream for each row.
#   The first of each is the stream that somebody else already draws from: weights initialised from default_rng(seed)
#   and the noise of epoch 0, the shuffle of an epoch and its row 0. With 64-bit seeds, two users' seeds can share
#   rows. Put the index first, or a constant that is not zero last.
set -euo pipefail

python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skipped: needs Python 3.11 or newer"; exit 0; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet numpy==2.4.6

"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np


def same(first, second):
    draws = [np.random.default_rng(seed).standard_normal(1000) for seed in (first, second)]
    return np.array_equal(*draws)


pairs = {
    "default_rng(7) and default_rng([7, 0])": same(7, [7, 0]),
    "default_rng([7, 3]) and default_rng([7, 3, 0])": same([7, 3], [7, 3, 0]),
    "default_rng([7, 1]) and default_rng([7 + 2**32, 0])": same([7, 1], [7 + 2**32, 0]),
    "default_rng([0, 7]) and default_rng([7])": same([0, 7], [7]),
    "SeedSequence(7).spawn(1)[0] and default_rng(7)": same(np.random.SeedSequence(7).spawn(1)[0], 7),
}
for words, equal in pairs.items():
    print(f"{words}: {'the same' if equal else 'other'} numbers")
if list(pairs.values()) != [True, True, True, False, False]:
    raise SystemExit("changed: other lists of seeds agree")
PYTHON
