import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvae_codec.container.archive.names import name_problem, name_problems, next_name


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
    names = [
        "a.png",
        "b/c.png",
        "\u00e9.png",
        "a.png",
        "e\u0301.png",
        "b",
        "a.png/d",
        "b/d.png",
        "b/d.png",
        "/x",
        "a.p",
    ]
    assert name_problems(names) == {
        3: "is there twice",
        4: "is there twice",  # the same letters in another normal form
        5: "is an image and a folder",
        6: "is an image and a folder",
        8: "is there twice",
        9: "is no path below a folder",
    }


PARTS = st.lists(st.sampled_from(["a", "a!", "ab", "b"]), min_size=1, max_size=4).map("/".join)


@given(st.lists(PARTS, max_size=12))
def test_names_without_a_problem_unpack_into_files(names: list[str]) -> None:
    problems = name_problems(names)
    good = [name for at, name in enumerate(names) if at not in problems]
    assert len(set(good)) == len(good)
    assert not any(one.startswith(other + "/") for one in good for other in good)
    for at in problems:  # with good reason: it conflicts with an earlier name
        one = names[at] + "/"
        assert any(one.startswith(other + "/") or (other + "/").startswith(one) for other in names[:at])


def test_folders_are_nested_64_deep_at_most() -> None:
    assert name_problem("a/" * 64 + "x") == ""
    assert name_problem("a/" * 65 + "x") == "is in more than 64 nested folders"


@pytest.mark.parametrize(
    ("name", "following"),
    [("009.png", "010.png"), ("9", "10"), ("a1b2c", "a1b3c"), ("none.png", "none.png"), ("99999.png", "100000.png")],
)
def test_the_next_name(name: str, following: str) -> None:
    assert next_name(name) == following


@given(st.integers(0, 10**9), st.integers(1, 12))
def test_numbers_follow_one_another(number: int, digits: int) -> None:
    assert next_name(f"x{number:0{digits}}.png") == f"x{number + 1:0{digits}}.png"
