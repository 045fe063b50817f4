"""Callers of three replicas lose nothing when these are replaced, killed or joined; `make rollout` has more rounds."""

from __future__ import annotations

from pathlib import Path

import pytest
from e2e.rollout import WINDOW_CALLS, crash, replace, spread, write_model

pytestmark = pytest.mark.slow

ROUNDS = 4
PATIENCE = 60.0
LOST_OF_EACH = 2
"""Calls of each caller: that under way, and one made again at once, since the client's channel fails the calls of a
connection before it stops choosing it."""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    write_model(tmp_path)
    return tmp_path


async def test_no_call_and_no_stream_fails_while_replicas_are_replaced(repository: Path) -> None:
    replaced = await replace(repository, ROUNDS)
    assert replaced.statuses == [0] * ROUNDS
    assert replaced.callers.failed == []
    assert replaced.chunks > ROUNDS


async def test_no_call_fails_where_replicas_are_killed(repository: Path) -> None:
    assert (await crash(repository, ROUNDS, retries=True)).callers.failed == []


async def test_a_killed_replica_takes_with_it_little_more_than_what_is_under_way_there(repository: Path) -> None:
    crashed = await crash(repository, ROUNDS, retries=False)
    assert crashed.callers.failed
    assert crashed.most_of_one_caller() <= LOST_OF_EACH
    assert crashed.most_in_a_row() <= LOST_OF_EACH
    assert crashed.all_were_answered_at_last()


async def test_connections_that_end_lead_clients_to_a_new_replica(repository: Path) -> None:
    before, *_, after = await spread(repository, age=2, patience=PATIENCE)
    assert before.calls[-1] == 0
    assert after.calls[-1] > WINDOW_CALLS / 5
