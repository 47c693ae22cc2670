"""What is wrong in a file of data is told in words, without those of the library that reads it."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from whylens.core.errors import wrong_value


class Inner(BaseModel):
    size: int | tuple[int, ...]


class Table(BaseModel):
    model_config = ConfigDict(extra="forbid")
    labels: tuple[str, ...] | str = ()
    names: list[str] = []
    inner: Inner = Inner(size=1)
    share: float = 0.5

    @model_validator(mode="after")
    def check(self):
        if self.share > 1:
            raise ValueError("a share is at most 1")
        return self


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ('{"labels": {"0": "cat"}}', "labels", "it has to be a list"),
        ('{"names": "cat"}', "names", "it has to be a list"),
        ('{"inner": {"size": "much"}}', "inner.size", "Input should be a valid integer"),
        ('{"inner": {}}', "inner.size", "it is missing"),
        ('{"inner": 3}', "inner", "it has to be a table of names and values"),
        ('{"share": 2}', "", "a share is at most 1"),
        ('{"lables": []}', "lables", "nothing of this name is known"),
        ('// mine\n{"names": []}', "", "it is no JSON (expected value at line 1"),
        ('{"names": [],}', "", "it is no JSON (trailing comma"),
    ],
)
def test_the_place_and_the_fault_are_told(text, place, words):
    with pytest.raises(ValidationError) as error:
        Table.model_validate_json(text)
    explanation = wrong_value(error.value)
    assert explanation[0] == place
    assert explanation[1].startswith(words)
