"""Deleting, merging and renaming prototypes; the head is solved again at once."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from whylens import Artifact, InvalidParameter
from whylens.plugins.protopnet.head import Head, solve_head

DELETE, MERGE, RENAME = ACTIONS = ("delete", "merge", "rename")
_LONGEST_NAME = 60


def edit_prototypes(
    artifact: Artifact, action: str, chosen: tuple[str, ...], text: str
) -> Artifact:
    """Return changed prototypes; `facts["edited"]` says what was done and what it cost.

    Args:
        action: "delete", "merge" or "rename".

    Raises:
        InvalidParameter: The choice does not fit the action.
    """
    names: list[str] = list(artifact.facts["names"])
    unknown = [name for name in chosen if name not in names]
    if unknown or not chosen:
        problem = f"There is no prototype called {unknown[0]!r}" if unknown else "Nothing is ticked"
        raise InvalidParameter(f"{problem}. Tick prototypes that are listed.")
    rows = [names.index(name) for name in chosen]
    if action == RENAME:
        return _rename(artifact, names, rows, text)
    owner = np.asarray(artifact.arrays["owner"])
    if action == MERGE:
        groups = _merge_groups(names, rows, owner, text)
    else:
        groups = [([i], names[i]) for i in range(len(names)) if i not in rows]
    classes = {int(owner[members[0]]) for members, _ in groups}
    empty_classes = sorted({int(c) for c in owner} - classes)
    if empty_classes:
        label = artifact.facts["labels"][empty_classes[0]]
        raise InvalidParameter(f"The class {label} would be left without a prototype.")
    return _solve_again(artifact, groups, action)


def _rename(artifact: Artifact, names: list[str], rows: list[int], text: str) -> Artifact:
    name = " ".join(text.split())[:_LONGEST_NAME]
    if len(rows) != 1 or not name:
        raise InvalidParameter("Tick one prototype and type its new name.")
    if name in names and names.index(name) != rows[0]:
        raise InvalidParameter(f"Another prototype is called {name!r} already.")
    old, names[rows[0]] = names[rows[0]], name
    message = f"{old} is now called {name}."
    return Artifact(artifact.arrays, {**artifact.facts, "names": names, "edited": message})


def _merge_groups(
    names: list[str], rows: list[int], owner: np.ndarray[Any, Any], text: str
) -> list[tuple[list[int], str]]:
    if len(rows) < 2:
        raise InvalidParameter("Tick two or more prototypes to merge.")
    if len({int(owner[i]) for i in rows}) > 1:
        raise InvalidParameter("Only prototypes of one class can be merged.")
    name = " ".join(text.split())[:_LONGEST_NAME] or names[rows[0]]
    if name in names and names.index(name) not in rows:
        raise InvalidParameter(f"Another prototype is called {name!r} already.")
    groups = []
    for i, own in enumerate(names):
        if i == rows[0]:
            groups.append((rows, name))
        elif i not in rows:
            groups.append(([i], own))
    return groups


def _solve_again(artifact: Artifact, groups: list[tuple[list[int], str]], action: str) -> Artifact:
    arrays, facts = artifact.arrays, artifact.facts
    start = time.perf_counter()

    def merged(name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
        # A merged prototype fires as its strongest patch does.
        old = np.asarray(arrays[name], np.float64)
        return np.stack([old[:, members].max(1) for members, _ in groups], 1)

    owner = np.array([int(arrays["owner"][members[0]]) for members, _ in groups], np.int64)
    sims, val_sims = merged("train_similarities"), merged("val_similarities")
    labels = np.asarray(arrays["train_labels"], np.int64)
    labels_val = np.asarray(arrays["val_labels"], np.int64)
    classes, penalty = len(facts["labels"]), float(facts["report"]["penalty"])
    head = solve_head(sims, labels, owner, classes, penalty)
    seconds = time.perf_counter() - start
    old = Head(np.asarray(arrays["weight"], float), np.asarray(arrays["bias"], float), penalty)
    before = old.accuracy(np.asarray(arrays["val_similarities"], float), labels_val)
    after = head.accuracy(val_sims, labels_val)
    prototype_of = np.asarray(arrays["member"])
    patches = [(int(patch), new) for new, (members, _) in enumerate(groups) for patch in
               np.flatnonzero(np.isin(prototype_of, members))]  # fmt: skip
    changes = _select_patches(arrays, [patch for patch, _ in patches])
    changes |= {
        "member": np.array([new for _, new in patches], np.int32),
        "owner": owner.astype(np.int32),
        "weight": head.weight.astype(np.float32),
        "bias": head.bias.astype(np.float32),
        "train_similarities": sims.astype(np.float16),
        "val_similarities": val_sims.astype(np.float16),
    }
    verb = "Merged" if action == MERGE else "Deleted"
    message = (
        f"{verb}: {len(facts['names'])} prototypes are now {len(groups)}. Accuracy on "
        f"{len(labels_val)} held-out pictures {100 * before:.1f} % before, {100 * after:.1f} % "
        f"after; the head was solved again in {seconds:.2f} s."
    )
    report = {**facts["report"], "validation_accuracy": after, "prototypes": len(groups)}
    names = [name for _, name in groups]
    keys = [facts["keys"][patch] for patch, _ in patches]
    return Artifact(
        {**arrays, **changes},
        {**facts, "names": names, "keys": keys, "report": report, "edited": message},
    )


def _select_patches(arrays: Mapping[str, Any], patches: list[int]) -> dict[str, Any]:
    ends = np.asarray(arrays["jpeg_ends"])
    begins = np.concatenate([[0], ends[:-1]])
    pieces = [np.asarray(arrays["jpeg"][int(begins[i]) : int(ends[i])]) for i in patches]
    return {
        "patches": np.asarray(arrays["patches"])[patches],
        "places": np.asarray(arrays["places"])[patches],
        "jpeg": np.concatenate(pieces),
        "jpeg_ends": np.cumsum([len(p) for p in pieces], dtype=np.int64),
    }
