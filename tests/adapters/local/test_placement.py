"""Cores are parted the same way for every arm, disjoint where there are enough."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.local.placement import CORES_TO_PART, parse_cpu_list, place, place_on_this_host


@given(st.sets(st.integers(0, 255), min_size=CORES_TO_PART, max_size=64))
def test_enough_cores_are_parted_without_overlap_and_without_rest(cpus: set[int]) -> None:
    parted = place(cpus)
    assert not parted.is_shared
    assert sorted(parted.load + parted.proxies + parted.app) == sorted(cpus)
    assert min(len(parted.load), len(parted.proxies), len(parted.app)) >= 1
    assert len(parted.proxies) >= 2


def test_a_single_core_is_shared_by_all() -> None:
    parted = place([3])
    assert parted.is_shared
    assert (parted.load, parted.proxies, parted.app) == ((), (), ())


@pytest.mark.parametrize(("cores", "rest"), [(2, (1,)), (3, (1, 2))])
def test_with_few_cores_the_load_generator_has_one_of_its_own(cores: int, rest: tuple[int, ...]) -> None:
    parted = place(range(cores))
    assert parted.is_shared, "proxies and application still compete"
    assert (parted.load, parted.proxies, parted.app) == ((0,), rest, rest)


def test_hardware_threads_of_one_core_stay_with_one_party() -> None:
    pairs = [(core, core + 4) for core in range(4)]
    parted = place(range(8), pairs)
    assert parted.load == (0, 4)
    assert parted.app == (1, 5)
    assert parted.proxies == (2, 3, 6, 7)


@pytest.mark.parametrize(("text", "cpus"), [("0", (0,)), ("0-2,7\n", (0, 1, 2, 7)), ("3,1", (3, 1)), ("", ())])
def test_kernel_lists_are_read(text: str, cpus: tuple[int, ...]) -> None:
    assert parse_cpu_list(text) == cpus


def test_this_host_can_be_placed() -> None:
    assert place_on_this_host() == place_on_this_host()
