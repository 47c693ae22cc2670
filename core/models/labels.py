"""Names of classes, by themselves and from the tables inside timm's package; nothing is fetched."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache
from numbers import Integral
from typing import Any

from whylens.core.errors import UnknownName, quote

IMAGENET = "imagenet-1k"


def imagenet_1k() -> tuple[str, ...]:
    """Return the 1,000 ImageNet class names in the usual order, a short name each."""
    return _descriptions("imagenet-1k", 1000)


def labels_by_index(names: Mapping[Any, Any]) -> list[Any]:
    """Return in their order labels by index, or labels of which each has its index.

    Raises:
        ValueError: Not every index has one label; says so in words.
    """
    items = list(names.items())  # as Hugging Face has it, also with numbers as words
    if all(isinstance(key, str) and isinstance(value, Integral) for key, value in items):
        items = [(index, label) for label, index in items]  # as torchvision has it
    try:
        by_index = {int(index): label for index, label in items}
    except (TypeError, ValueError) as exc:
        raise ValueError("neither labels by index nor indices by label") from exc
    if len(by_index) < len(items):
        raise ValueError("one index is given to several labels")
    if sorted(by_index) != list(range(len(items))):
        raise ValueError("the indices are not 0, 1, 2 and so on")
    return [by_index[index] for index in range(len(items))]


def labels_of(module: Any) -> tuple[str, ...]:
    """Return the class names that timm knows for its pretrained network, or () if it knows none."""
    from timm.data import infer_imagenet_subset

    names = (getattr(module, "pretrained_cfg", None) or {}).get("label_names")
    if names:
        return tuple(str(name) for name in names)
    subset = infer_imagenet_subset(module)
    return _descriptions(subset, int(module.num_classes)) if subset else ()


def _descriptions(subset: str, classes: int) -> tuple[str, ...]:
    return tuple(names.split(",")[0] for _, names, _ in _wordnet(subset)[:classes])


@cache  # timm reads its files of all 21,000 for each
def _wordnet(subset: str) -> tuple[tuple[str, str, str], ...]:
    """Return id, names and definition of each class of a subset of ImageNet."""
    from timm.data import ImageNetInfo

    info = ImageNetInfo(subset)
    return tuple(
        (
            info.index_to_label_name(i),
            str(info.index_to_description(i)),
            str(info.index_to_description(i, detailed=True)),
        )
        for i in range(info.num_classes())
    )


def class_index(text: str, labels: tuple[str, ...]) -> int:
    """Return the class meant by a label, a synonym or WordNet id of ImageNet's, or an index.

    Args:
        text: "tabby" in any case, "n02123045", "281", or "#281", which is an index whatever the
            labels are.
        labels: One per class.

    Raises:
        UnknownName: No class is called that, or several are.
    """
    name = _composed(text.strip())
    index = name.removeprefix("#")
    is_index = index.isdecimal() and int(index) < len(labels)
    spellings = [_composed(label) for label in labels]
    exact = [i for i, spelling in enumerate(spellings) if spelling == name]
    any_case = [i for i, spelling in enumerate(spellings) if spelling.casefold() == name.casefold()]
    for matches in (exact, any_case):
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise UnknownName(_ambiguous(name, matches, labels))
    # Where labels are numbers, a number that is none of them is no index either.
    if is_index and (name != index or not all(label.isdecimal() for label in labels)):
        return int(index)
    synonyms = _imagenet_names(labels).get(name.casefold(), ())
    if len(synonyms) == 1:
        return synonyms[0]
    if synonyms:
        raise UnknownName(_ambiguous(name, synonyms, labels))
    if kinds := _of_kind(name, labels):
        first = ", ".join(labels[i] for i in kinds[:6])
        raise UnknownName(
            f"There is no class called {quote(name)}. {len(kinds)} classes have the word in their "
            f"definition: {first}{' ...' if len(kinds) > 6 else ''}."
        )
    error = UnknownName.among("class", name, [label.lower() for label in labels])
    if is_index:
        error = UnknownName(
            f"{error} Labels are numbers here; #{index} is the class of that index."
        )
    raise error


def class_text(index: int, labels: tuple[str, ...]) -> str:
    """Return an index as `class_index` reads it, for any labels."""
    return f"#{index}" if any(label.isdecimal() for label in labels) else str(index)


def _composed(name: str) -> str:
    # What is typed or named on a Mac may have letters and accents apart.
    return unicodedata.normalize("NFC", name)


def _ambiguous(name: str, matches: Sequence[int], labels: tuple[str, ...]) -> str:
    details = _imagenet_details(labels)
    examples = "; ".join(
        f"{class_text(i, labels)} ({details.get(i, labels[i])})" for i in matches[:6]
    )
    return (
        f"{len(matches)} classes are called {quote(name)}: {examples}. Give the index of the one "
        "you mean."
    )


@cache
def _imagenet_names(labels: tuple[str, ...]) -> Mapping[str, tuple[int, ...]]:
    """Return the classes of every other name that WordNet has for ImageNet's, and of its ids."""
    names: dict[str, list[int]] = {}
    for index, (synset, lemmas, _) in enumerate(_imagenet_classes(labels)):
        for name in {synset, *(lemma.strip().casefold() for lemma in lemmas.split(","))}:
            names.setdefault(name, []).append(index)
    return {name: tuple(indices) for name, indices in names.items()}


def _of_kind(word: str, labels: tuple[str, ...]) -> list[int]:
    """Return the classes of ImageNet that WordNet describes by a word, as it does many by "dog"."""
    pattern = re.compile(rf"\b{re.escape(word)}s?\b", re.IGNORECASE)
    kinds = [i for i, detail in _imagenet_details(labels).items() if pattern.search(detail)]
    return kinds if word.isalpha() and len(kinds) > 1 else []


def _imagenet_details(labels: tuple[str, ...]) -> dict[int, str]:
    return {i: detail for i, (*_, detail) in enumerate(_imagenet_classes(labels))}


def _imagenet_classes(labels: tuple[str, ...]) -> tuple[tuple[str, str, str], ...]:
    """Return id, names and definition of each class where the labels are ImageNet's, in order."""
    from timm.data import infer_imagenet_subset

    subset = infer_imagenet_subset({"num_classes": len(labels)})
    if subset is None:
        return ()
    classes = _wordnet(subset)[: len(labels)]
    match_count = sum(
        label.split(",")[0].casefold() == names.split(",")[0].casefold()
        for label, (_, names, _) in zip(labels, classes, strict=True)
    )
    # Makers of networks spell a few of them in their own way.
    return classes if match_count >= 0.9 * len(labels) else ()
