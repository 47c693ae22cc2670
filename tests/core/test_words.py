"""Numbers of things in words."""

from __future__ import annotations

from whylens.core.words import number_of, was


def test_one_is_not_several():
    assert [number_of(n, "file") for n in (0, 1, 2, 1234)] == [
        "0 files", "1 file", "2 files", "1,234 files",
    ]  # fmt: skip
    assert number_of(2, "class", "classes") == "2 classes"
    assert [was(n) for n in (0, 1, 2)] == ["were", "was", "were"]
