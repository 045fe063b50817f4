"""How long a stream waits before it is resumed."""

from __future__ import annotations

import grpc
import numpy as np

from latentserve_client._calls.resumption import MAX_FRUITLESS_CALLS, Backoff


def test_resuming_ends_where_nothing_comes() -> None:
    backoff = Backoff()
    pauses = [backoff.pause(grpc.StatusCode.UNAVAILABLE, None) for _ in range(MAX_FRUITLESS_CALLS)]
    assert pauses.pop() is None
    waited = [pause for pause in pauses if pause is not None]
    np.testing.assert_allclose(waited, [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0], rtol=0.21)
