"""Phases: every pixel once, each after what it looks at."""

import numpy as np
import pytest

from nvae_codec.polyphase import list_phases


@pytest.mark.parametrize("levels", range(5))
def test_every_pixel_is_visited_once(levels: int) -> None:
    visits = np.zeros((32, 32), int)
    for phase in list_phases(levels):
        plane = phase.plane
        visits[plane.row :: plane.stride, plane.column :: plane.stride] += 1
    assert (visits == 1).all()


@pytest.mark.parametrize("levels", range(5))
def test_phases_look_at_pixels_that_are_known(levels: int) -> None:
    known = np.zeros((32, 32), bool)
    for phase in list_phases(levels):
        for plane in phase.known:
            assert known[plane.row :: plane.stride, plane.column :: plane.stride].all()
            assert plane.stride == phase.plane.stride
        known[phase.plane.row :: phase.plane.stride, phase.plane.column :: phase.plane.stride] = True
    assert len(list_phases(levels)) == 1 + 3 * levels


@pytest.mark.parametrize("levels", range(1, 5))
def test_neighbours_are_the_four_nearest_known_pixels(levels: int) -> None:
    for phase in list_phases(levels)[1:]:
        half, places = phase.plane.stride // 2, set()
        for index, rows, columns in phase.neighbours:
            plane = phase.known[index]
            down = plane.row + rows * plane.stride - phase.plane.row
            right = plane.column + columns * plane.stride - phase.plane.column
            places.add((down, right))
        diagonal = {(a, b) for a in (-half, half) for b in (-half, half)}
        beside = {(half, 0), (-half, 0), (0, half), (0, -half)}
        assert places in (diagonal, beside)
