"""Whole sites under random operations, partitions and crashes: everything converges and nothing is lost."""

from __future__ import annotations

import pytest

from syncer.tests.simulation.simulated_world import World

RUNS = 300


def run(seed: int, *, losses: bool) -> None:
    world = World(seed, sites=2 + seed % 3, losses=losses)
    world.play(acts=30)
    world.settle()
    world.check()


@pytest.mark.parametrize("losses", [False, True], ids=["partitions", "partitions-and-crashes"])
def test_all_sites_converge_and_no_version_is_lost(losses: bool) -> None:
    for seed in range(RUNS):
        try:
            run(seed, losses=losses)
        except AssertionError as error:
            pytest.fail(f"seed {seed}, losses={losses}: {error}")
