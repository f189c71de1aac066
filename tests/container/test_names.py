from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvae_codec.container.archive.names import Names, name_problem, next_name


@pytest.mark.parametrize("name", ["a.png", "a/b/c.png", "ä ö/日本.png", "..a", "a..b", "-", "x" * 1024])
def test_good_names(name: str) -> None:
    assert name_problem(name) == ""


@pytest.mark.parametrize(
    "name",
    ["", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/./b", "a\\b", "C:a", "a\nb", "a\0b", "\udc80", "x" * 1025],
)
def test_bad_names(name: str) -> None:
    assert name_problem(name)


def test_names_must_go_into_one_folder_together() -> None:
    names = Names(["a.png", "b/c.png", "\u00e9.png"])
    assert names.add("a.png") == "is there twice"
    assert names.add("e\u0301.png") == "is there twice", "the same letters in another normal form"
    assert names.add("b") == names.add("a.png/d") == "is an image and a folder"
    assert names.add("b/d.png") == ""
    assert names.add("b/d.png") == "is there twice"


@pytest.mark.parametrize(
    ("name", "following"),
    [("009.png", "010.png"), ("9", "10"), ("a1b2c", "a1b3c"), ("none.png", "none.png"), ("99999.png", "100000.png")],
)
def test_the_next_name(name: str, following: str) -> None:
    assert next_name(name) == following


@given(st.integers(0, 10**9), st.integers(1, 12))
def test_numbers_follow_one_another(number: int, digits: int) -> None:
    assert next_name(f"x{number:0{digits}}.png") == f"x{number + 1:0{digits}}.png"
