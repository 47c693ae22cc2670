"""Every error a visitor may meet; each message says what happened and what to do.

Foreign exceptions are wrapped where they enter (`from exc`).
"""

from __future__ import annotations

import difflib
import errno
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import takewhile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError

# Of a stranger's error: more is no sentence, and would be held by whoever shows it.
MOST_ERROR_LETTERS = 2_000


class CoreError(Exception):
    """Base of all errors whose text is fit to show a visitor."""


class UnknownName(CoreError):
    """No model, method or class has this name."""

    @classmethod
    def among(cls, kind: str, name: str, known: Iterable[str]) -> UnknownName:
        """Return the error for `name`, with the closest known names as the remedy.

        Args:
            kind: What was looked for, as in "model" or "method".
        """
        names = sorted(set(known))
        matches = difflib.get_close_matches(name.lower(), names, n=4, cutoff=0.55)
        # A word of a name is as close as a misspelt name: "husky" means "Siberian husky".
        matches = matches or [word for word in names if name and name.lower() in word.lower()][:4]
        hint = ""
        if matches:
            hint = f" Did you mean {', '.join(matches)}?"
        elif len(names) <= 12:
            hint = f" There are: {', '.join(names)}."
        return cls(f"There is no {kind} called {quote(name)}.{hint}")


class InvalidParameter(CoreError):
    """A parameter is out of range, of the wrong type or unknown."""


class BadInput(CoreError):
    """The image or signal cannot be used."""


class NeedsNotMet(CoreError):
    """The model lacks what the method rests on."""


class BadArtifact(CoreError):
    """A file of weights or its manifest is missing, damaged or not what it claims to be."""


class WeightsUnavailable(CoreError):
    """Pretrained weights can be neither found here nor fetched."""


class NotAllowed(CoreError):
    """The name is refused on a public page before any library sees it."""


class ExplainerFailed(CoreError):
    """A plugin raised; the plugin is named and the cause is chained."""

    def __init__(self, plugin: str, cause: BaseException | str) -> None:
        words = cause if isinstance(cause, str) else words_of(cause)
        super().__init__(
            f"The method {plugin!r} failed ({words}). The other methods are not affected; please "
            "report it to the owner named under Plugins."
        )
        self.plugin = plugin
        self.cause = words

    def __reduce__(self) -> tuple[type[ExplainerFailed], tuple[str, str]]:
        # Errors cross process boundaries, where a stranger's own class need not be known.
        return (type(self), (self.plugin, self.cause))


class DatasetFailed(CoreError):
    """A plugin's data set cannot be made; its own error, if any, is chained."""

    def __init__(self, name: str, cause: str) -> None:
        super().__init__(
            f"The data set {name!r} failed ({cause}). Please report it to the owner of its plugin."
        )
        self.name = name
        self.cause = cause

    def __reduce__(self) -> tuple[type[DatasetFailed], tuple[str, str]]:
        return (type(self), (self.name, self.cause))


class Busy(CoreError):
    """All working slots stayed taken for too long."""


class NotWritten(CoreError):
    """A file cannot be written; the system's own error is chained."""


class NotInstalled(CoreError):
    """An optional package is asked for and is not there."""


class TooSlow(CoreError):
    """Work took longer than it may, and was ended."""

    def __init__(self, method: str, seconds: float) -> None:
        what = f"The method {method!r}" if method else "This"
        super().__init__(
            f"{what} took longer than {seconds:.0f} s and was stopped. Choose a quicker method or "
            "gentler parameters, or run it by the command line, which has no such limit."
        )
        self.method = method
        self.seconds = seconds

    def __reduce__(self) -> tuple[type[TooSlow], tuple[str, float]]:
        return (type(self), (self.method, self.seconds))


class WorkerLost(CoreError):
    """A process that worked for this one ended before its work did."""


class WorkStopped(Exception):
    """Work was ended because nobody waits for it any more; no CoreError, so that nobody goes on."""


# What a network may raise when it is run in a way that it was not written for.
NETWORK_ERRORS = (
    AssertionError,
    AttributeError,
    IndexError,
    KeyError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    UnboundLocalError,
    ValueError,
)

# What Python's readers of archives, arrays and tables raise on a file that is damaged.
FILE_ERRORS = (
    ArithmeticError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


# What pydantic says in the words of its own types, in those of whoever wrote the file.
_TYPES_IN_WORDS = {
    "list_type": "it has to be a list",
    "tuple_type": "it has to be a list",
    "dict_type": "it has to be a table of names and values",
    "model_type": "it has to be a table of names and values",
    "missing": "it is missing",
    "extra_forbidden": "nothing of this name is known",
    "json_invalid": "it is no JSON ({error}); JSON has no comments, and no comma after the last",
}
_TRIED = frozenset({"str", "int", "float", "bool", "none"})


def wrong_value(exc: ValidationError) -> tuple[str, str]:
    """Return where data are wrong, as a path of names or "", and how, from the first that is."""
    first = exc.errors()[0]
    # Behind a field of several types comes the one that was tried.
    place = takewhile(lambda part: "[" not in part and part not in _TRIED, map(str, first["loc"]))
    words = _TYPES_IN_WORDS.get(first["type"])
    if words is None:
        return ".".join(place), first["msg"].removeprefix("Value error, ")
    return ".".join(place), words.format(**first.get("ctx", {}))


def words_of(exc: BaseException) -> str:
    """Return the kind and the words of an error that may be anybody's."""
    try:
        words = f"{type(exc).__name__}: {exc}"
    except Exception as odd:  # noqa: BLE001 - a stranger's own class, which cannot say what it is
        words = f"{type(exc).__name__}, which has no words ({type(odd).__name__})"
    return words if len(words) <= MOST_ERROR_LETTERS else f"{words[: MOST_ERROR_LETTERS - 1]}…"


def quote(text: str, *, limit: int = 80) -> str:
    """Return `text` quoted, printable and at most `limit` characters long, for use in messages."""
    clean = "".join(c if c.isprintable() else "?" for c in text)
    return repr(clean if len(clean) <= limit else clean[: limit - 1] + "…")


@contextmanager
def disk_errors() -> Iterator[None]:
    """Turn an error of the disk while something is written into one sentence.

    Raises:
        NotWritten: In place of any `OSError`.
    """
    try:
        yield
    except OSError as exc:
        raise NotWritten(disk_problem(exc)) from exc


def disk_problem(exc: OSError) -> str:
    """Return in one sentence what the system said of a file, and what to do."""
    file = f"{exc.filename}" if exc.filename else "A file"
    remedy = {
        errno.ENOSPC: "Free some room",
        errno.EDQUOT: "Free some room",
        errno.EROFS: "Choose a folder that can be written",
        errno.EACCES: "Allow it",
        errno.EPERM: "Allow it",
    }.get(exc.errno or 0, "Look after it")
    reason = exc.strerror or str(exc) or type(exc).__name__
    return f"{file} cannot be read or written: {reason}. {remedy}, or name another place."
