"""Which class and split the files of a folder or a ZIP belong to, by the folders around them."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from whylens.core.datasets.dataset import SplitName
from whylens.core.errors import BadInput, shown
from whylens.core.inputs.photo import PICTURE_ENDINGS

_SPLIT_WORDS: dict[str, SplitName] = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(
        ("val", "valid", "validation", "validate", "dev", "devel", "eval", "evaluation"), "val"
    ),
    **dict.fromkeys(("test", "testing", "tst", "holdout"), "test"),
}
_FILLERS = r"(?:data|dataset|set|split|seg|images?|imgs?|pictures?|photos?|folder|files?)"
_WORD = re.compile(rf"[\W_\d]*(?:{_FILLERS}[\W_]*)*?([a-z]+?)(?:[\W_\d]*{_FILLERS})*[\W_\d]*")


@dataclass(frozen=True, slots=True)
class PlacedFile:
    """One file of a set.

    Attributes:
        path: Its place among the paths that were given.
        label: Its class.
        split: The set's own split; None where the set has none.
    """

    path: int
    label: str
    split: SplitName | None = None


@dataclass(frozen=True)
class ClassFolders:
    """The files of a set by class and split.

    Attributes:
        files: In the order of the paths.
        notes: What was taken for what, and what was left out.
    """

    files: tuple[PlacedFile, ...]
    notes: tuple[str, ...] = field(default=())


def split_word(folder: str) -> SplitName | None:
    """Return the split that a folder's name stands for, as "Training_set" for training, or None."""
    match = _WORD.fullmatch(folder.lower())
    return _SPLIT_WORDS.get(match.group(1)) if match else None


def place_files(paths: Sequence[str], place: str) -> ClassFolders:
    """Return the class and split of every file that lies in a class's folder.

    A folder around all others is looked into. Folders named as splits are splits, with the classes
    in them or around them.

    Args:
        paths: Relative, with "/" between folders.
        place: The set's name in words, as in "The folder x".

    Raises:
        BadInput: There are no two classes, or splits are named so that they can be misread.
    """
    parts = [tuple(path.split("/")) for path in paths]
    notes: list[str] = []
    around = _around([path for path in parts if _may_be_picture(path[-1])])
    depth = len(around)
    if depth:
        notes.append(f"All classes were found in {shown('/'.join(around))}.")
    folders = _by_folder(parts, around)
    if not folders:
        raise BadInput(
            f"{place} holds no pictures in subfolders. Put the pictures of each class into a "
            "subfolder of its own."
        )
    for name in [n for n in folders if not any(map(_may_be_picture, _ends(parts, folders[n])))]:
        endings = sorted({_ending(end) for end in _ends(parts, folders[name])} - {""})
        what = f", as {', '.join(endings[:3])}" if endings else ""
        notes.append(
            f"The folder {shown(name)} holds no pictures ({len(folders.pop(name))} files{what}) "
            "and was left out."
        )
    splits = _splits(parts, depth, folders, place)
    files: list[PlacedFile] = []
    if splits is None:
        inner = _inner_splits(parts, depth, folders)
        notes += _same_inside(parts, depth, folders) if inner is None else ()
        for name, indices in folders.items():
            files += [
                PlacedFile(i, name, inner[parts[i][depth + 1].lower()] if inner else None)
                for i in indices
            ]
    else:
        beside = [name for name in folders if name not in splits]
        if beside:
            count = sum(len(folders[name]) for name in beside)
            notes.append(
                f"Beside {_names(splits)}, {_names(beside)} ({_files(count)}) was left out: it is "
                "no split with folders of classes in it."
            )
        files = [
            PlacedFile(i, parts[i][depth + 1], split)
            for name, split in splits.items()
            for i in folders[name]
            if len(parts[i]) > depth + 2
        ]
        _check_spelling(files)
    at = depth + 1 + (splits is not None)
    loose = [
        i
        for i, p in enumerate(parts)
        if len(p) <= at
        and _may_be_picture(p[-1])
        and (splits is None or len(p) <= depth + 1 or p[depth] in splits)
    ]
    if loose:
        named = ", ".join(paths[i] for i in loose[:3])
        notes.append(f"{_files(len(loose))} in no class's folder left out: {named}.")
    files.sort(key=lambda file: file.path)
    _check_classes({file.label for file in files}, place, notes)
    return ClassFolders(tuple(files), tuple(notes))


def _around(parts: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """Return the folders that lie around all classes and splits, one in the other."""
    around: tuple[str, ...] = ()
    while True:
        depth = len(around)
        below = [p for p in parts if len(p) > depth + 1]
        if len({p[depth] for p in below}) != 1:
            return around
        nested = sum(len(p) > depth + 2 for p in below)
        if nested == 0 or len(below) - nested > nested:
            return around
        around = below[0][: depth + 1]


def _by_folder(parts: Sequence[tuple[str, ...]], around: tuple[str, ...]) -> dict[str, list[int]]:
    depth, folders = len(around), defaultdict(list)
    for index, path in enumerate(parts):
        if len(path) > depth + 1 and path[:depth] == around:
            folders[path[depth]].append(index)
    return dict(sorted(folders.items()))


def _same_inside(
    parts: Sequence[tuple[str, ...]], depth: int, folders: dict[str, list[int]]
) -> Iterable[str]:
    """Yield a note where every class holds the same folders, which then may be the classes."""
    inside = {
        frozenset(parts[i][depth + 1] for i in indices if len(parts[i]) > depth + 2)
        for indices in folders.values()
    }
    if len(inside) == 1 and len(names := sorted(*inside)) > 1:
        yield (
            f"{_names(folders)} were taken for the classes, and each holds the folders "
            f"{_names(names)}. If those are the classes, name the folders around them train, val "
            "and test."
        )


def _splits(
    parts: Sequence[tuple[str, ...]], depth: int, folders: dict[str, list[int]], place: str
) -> dict[str, SplitName] | None:
    """Return the folders that are splits, or None where all are classes."""
    named = {name: split for name in folders if (split := split_word(name))}
    nested = {
        name
        for name in named
        if len({parts[i][depth + 1] for i in folders[name] if len(parts[i]) > depth + 2}) > 1
    }
    found = {name: named[name] for name in named if name in nested}
    both = [s for s, n in Counter(found.values()).items() if n > 1]
    if both:
        names = [name for name in found if found[name] == both[0]]
        raise BadInput(
            f"{place} holds several folders for the {both[0]} split by their names: "
            f"{_names(names)}. Rename or merge them."
        )
    if "train" in found.values() and (len(found) > 1 or len(named) == len(folders) > 1):
        return found
    if found:
        raise BadInput(
            f"{_names(found)} in {place[0].lower()}{place[1:]} may be a split, with classes in it, "
            "or a class. Name the splits train, val and test and leave nothing beside them; or "
            "rename the class."
        )
    if len(named) == len(folders) > 1 and "train" in named.values():
        raise BadInput(
            f"{_names(named)} are splits by their names, and there are no folders of classes in "
            "them. Put the pictures of each class into a subfolder of its own, in every split."
        )
    return None


def _inner_splits(
    parts: Sequence[tuple[str, ...]], depth: int, folders: dict[str, list[int]]
) -> dict[str, SplitName] | None:
    """Return the splits by folder where they lie within the classes, as in cat/train."""
    paths = [parts[i] for indices in folders.values() for i in indices]
    if any(len(path) < depth + 3 for path in paths):
        return None
    splits = {path[depth + 1].lower(): split_word(path[depth + 1]) for path in paths}
    known = {name: split for name, split in splits.items() if split}
    whole = len(known) == len(splits) == len(set(known.values())) > 1
    return known if whole and "train" in known.values() else None


def _check_spelling(files: Iterable[PlacedFile]) -> None:
    splits: dict[str, set[SplitName | None]] = defaultdict(set)
    for file in files:
        splits[file.label].add(file.split)
    spellings: dict[str, str] = {}
    for label in sorted(splits):
        other = spellings.setdefault(label.casefold(), label)
        if other != label and not splits[other] & splits[label]:
            raise BadInput(
                f"{shown(other)} and {shown(label)} lie in different splits and seem to be one "
                "class. Spell them alike."
            )


def _check_classes(labels: set[str], place: str, notes: Sequence[str]) -> None:
    if len(labels) >= 2:
        return
    what = f"has one class only, {shown(min(labels))}" if labels else "has no class with pictures"
    raise BadInput(
        " ".join(
            [
                f"{place} {what}. Put the pictures of at least two classes into a subfolder each.",
                *notes,
            ]
        )
    )


def _ends(parts: Sequence[tuple[str, ...]], indices: Iterable[int]) -> list[str]:
    return [parts[i][-1] for i in indices]


def _ending(name: str) -> str:
    return f".{name.rpartition('.')[2].lower()}" if "." in name else ""


def _may_be_picture(name: str) -> bool:
    # Some sets write their files without an ending.
    return _ending(name) in PICTURE_ENDINGS or "." not in name


def _names(names: Iterable[str]) -> str:
    listed = [shown(name) for name in names]
    more = f" and {len(listed) - 4} more" if len(listed) > 4 else ""
    return ", ".join(listed[:4]) + more


def _files(count: int) -> str:
    return f"{count} file{'s' * (count != 1)}"
