"""What the commands share: errors in one sentence, and parameters as name=value."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

import typer


@contextmanager
def one_sentence() -> Iterator[None]:
    """Turn an error that is fit to be shown into one line and exit code 1."""
    from whylens.core.errors import CoreError

    try:
        yield
    except CoreError as exc:
        typer.echo(f"whylens: {exc}", err=True)
        raise typer.Exit(1) from exc


def params_of(given: list[str], known: Mapping[str, Collection[str]]) -> dict[str, dict[str, str]]:
    """Return for each method those of the parameters given that it has.

    Args:
        given: As name=value.
        known: Names of every method's parameters.

    Raises:
        InvalidParameter: One is no pair, or no method has it.
    """
    from whylens.core.errors import InvalidParameter

    pairs = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals:
            raise InvalidParameter(f"--param takes name=value, not {text!r}.")
        pairs[key.strip()] = value.strip()
    every = sorted({field for fields in known.values() for field in fields})
    for key in pairs:
        if key not in every:
            raise InvalidParameter(
                f"There is no parameter {key!r}; there are: {', '.join(every) or 'none'}."
            )
    return {
        name: {key: value for key, value in pairs.items() if key in fields}
        for name, fields in known.items()
    }
