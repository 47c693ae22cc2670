"""Names of classes, from the tables inside timm's package; nothing is fetched."""

from __future__ import annotations

from typing import Any

from whylens.core.errors import UnknownName

IMAGENET = "imagenet-1k"


def imagenet_1k() -> tuple[str, ...]:
    """Return the 1,000 ImageNet class names in the usual order, a short name each."""
    from timm.data import ImageNetInfo

    return _descriptions(ImageNetInfo("imagenet-1k"), 1000)


def labels_of(module: Any) -> tuple[str, ...]:
    """Return the class names that timm knows for its pretrained network, or () if it knows none."""
    from timm.data import ImageNetInfo, infer_imagenet_subset

    names = (getattr(module, "pretrained_cfg", None) or {}).get("label_names")
    if names:
        return tuple(str(name) for name in names)
    subset = infer_imagenet_subset(module)
    return _descriptions(ImageNetInfo(subset), int(module.num_classes)) if subset else ()


def _descriptions(info: Any, classes: int) -> tuple[str, ...]:
    return tuple(str(info.index_to_description(i)).split(",")[0] for i in range(classes))


def class_index(text: str, labels: tuple[str, ...]) -> int:
    """Return the class that a visitor means by an index or by a name.

    Args:
        text: "281", or a label in any case.

    Raises:
        UnknownName: No class is called that; the message names close ones.
    """
    name = text.strip()
    if name.isdecimal() and int(name) < len(labels):
        return int(name)
    matches = [i for i, label in enumerate(labels) if label.lower() == name.lower()]
    if matches:
        return matches[0]
    raise UnknownName.among("class", name, [label.lower() for label in labels])


def class_of_label(text: str, labels: tuple[str, ...]) -> int:
    """Return the class that a script means by a label; an index is meant only where no label is.

    Args:
        text: A label in any case.
        labels: One label per class.

    Raises:
        UnknownName: No class is called that, or several are.
    """
    name = text.strip()
    exact = [i for i, label in enumerate(labels) if label == name]
    matches = exact or [i for i, label in enumerate(labels) if label.lower() == name.lower()]
    if len(matches) > 1:
        raise UnknownName(
            f"{len(matches)} classes are called {name!r}: {', '.join(map(str, matches))}. Give the "
            "index of the one you mean."
        )
    return matches[0] if matches else class_index(name, labels)
