"""Which architecture a set of tensors belongs to, and where the two disagree.

An index of all that timm, torchvision and fastai can build, made once per release, names the
candidates; each is then built without memory and compared tensor by tensor, so that the index can
miss an architecture, but not mistake one.

`python -m whylens.core.models.architectures` writes the index anew.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from torch import Tensor, nn

from whylens.core.errors import BadArtifact, CoreError
from whylens.core.models.checkpoints import Argument
from whylens.core.models.fastai_net import PREFIX, bodies
from whylens.core.models.load import build
from whylens.core.models.model_names import timm_architectures, torchvision_names
from whylens.core.models.random_weights import shapes_only

Shape = tuple[int, ...]

INDEX = Path(__file__).with_name("architectures.json")
BOOKKEEPING = ("num_batches_tracked", "total_ops", "total_params")  # the last two are a profiler's

_SKETCH = 16  # hashes per architecture
SECONDS_OF_COMPARING = 15.0
_CLASSES = 1009  # a prime that is no layer's width: where it occurs, the classes are
_MARGIN = 0.25


@dataclass(frozen=True)
class Fit:
    """How well a set of tensors fits an architecture.

    Attributes:
        architecture: As manifests have it.
        arguments: With which it was built.
        classes: Size of the head in the file; None where the file has no head of one size.
        missing: Names that the architecture has and the file has not.
        unexpected: Names that the file has and the architecture has not.
        misshapen: Names with the shape that the architecture wants and the one in the file.
        shared: Share of tensors, 0 to 1, that agree.
    """

    architecture: str
    arguments: Mapping[str, Argument] = field(default_factory=dict)
    classes: int | None = None
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    misshapen: tuple[tuple[str, Shape, Shape], ...] = ()
    shared: float = 0.0

    @property
    def exact(self) -> bool:
        """Whether every tensor agrees."""
        return not (self.missing or self.unexpected or self.misshapen)


def sketch(shapes: Mapping[str, Shape]) -> list[int]:
    """Return the smallest hashes of the tensors: sets that share many tensors share many of these.

    Source: Broder, On the resemblance and containment of documents (1997), bottom-k variant.
    """
    hashes = {
        int.from_bytes(hashlib.blake2b(f"{name} {shape}".encode(), digest_size=4).digest(), "big")
        for name, shape in shapes.items()
        if not name.endswith(BOOKKEEPING)
    }
    return sorted(hashes)[:_SKETCH]


def resemblance(a: Sequence[int], b: Sequence[int]) -> float:
    """Return an estimate of how much two sets share (Jaccard, 0 to 1) from their sketches."""
    union = sorted({*a, *b})[:_SKETCH]
    return len(set(union) & set(a) & set(b)) / max(1, len(union))


@cache
def read_index() -> Mapping[str, list[int]]:
    """Return the sketch of every architecture by name."""
    text: dict[str, str] = json.loads(INDEX.read_text())
    return {
        name: [int(line[i : i + 8], 16) for i in range(0, len(line), 8)]
        for name, line in text.items()
    }


def candidates(levels: Sequence[Mapping[str, Shape]]) -> list[str]:
    """Return the architectures that a set of tensors may belong to, most alike and plainest first.

    Args:
        levels: The tensors' shapes under the names they may have.
    """
    sketches = [sketch(shapes) for shapes in levels]
    scores = {
        name: max(resemblance(own, entry) for own in sketches)
        for name, entry in read_index().items()
    }
    best = max(scores.values())
    if best == 0:
        return []
    close_names = [name for name, score in scores.items() if score >= max(0.1, best - _MARGIN)]
    return sorted(close_names, key=lambda name: (-scores[name], *_plainness(name)))


def find_fits(
    levels: Sequence[Mapping[str, Tensor]], hints: Collection[str] = ()
) -> list[tuple[int, Fit]]:
    """Return the architectures that fit best, the likeliest first, each with its level of names.

    All of them fit exactly, or there is one, which comes closest.

    Args:
        levels: The tensors under the names they may have.
        hints: Words of the file, among them perhaps the name.
    """
    shapes = [{name: tuple(t.shape) for name, t in level.items()} for level in levels]
    until = time.monotonic() + SECONDS_OF_COMPARING
    fits: list[tuple[int, Fit]] = []
    for name in candidates(shapes):
        if fits and time.monotonic() > until:
            break
        try:
            fits.append(best_level(name, levels))
        except CoreError:
            continue  # of another release of timm or torchvision
    fits.sort(key=lambda pair: (-pair[1].exact, -pair[1].shared))
    exact = [pair for pair in fits if pair[1].exact]
    return sorted(exact, key=lambda pair: _likelihood(pair[1], hints)) or fits[:1]


def best_level(
    architecture: str,
    levels: Sequence[Mapping[str, Tensor]],
    arguments: Mapping[str, Argument] | None = None,
) -> tuple[int, Fit]:
    """Return under which of their names the tensors fit an architecture best, and how.

    Raises:
        BadArtifact: It cannot be built.
    """
    fits = [compare(architecture, level, arguments) for level in levels]
    level = max(range(len(fits)), key=lambda i: (fits[i].shared, i))
    if level > 0:
        # What lay beside the network (a loss, a metric) carried no prefix and is no part of it.
        unprefixed_names = levels[0].keys() & levels[level].keys()
        fit = fits[level]
        if not fit.missing and unprefixed_names.issuperset(fit.unexpected):
            inside = {k: v for k, v in levels[level].items() if k not in fit.unexpected}
            return level, compare(architecture, inside, arguments)
    return level, fits[level]


def compare(
    architecture: str,
    tensors: Mapping[str, Tensor],
    arguments: Mapping[str, Argument] | None = None,
) -> Fit:
    """Return how well tensors fit an architecture, whatever their number of classes and channels.

    Raises:
        BadArtifact: It cannot be built.
    """
    arguments = dict(arguments or {})
    fit, module = _compare(architecture, tensors, arguments)
    more = _arguments_of_shapes(architecture, module, fit)
    if more and not arguments.keys() & more.keys():
        try:
            refined_fit, _ = _compare(architecture, tensors, {**arguments, **more})
        except BadArtifact:
            return fit
        if len(refined_fit.misshapen) < len(fit.misshapen):
            return refined_fit
    return fit


def _compare(
    architecture: str, tensors: Mapping[str, Tensor], arguments: dict[str, Argument]
) -> tuple[Fit, nn.Module]:
    module = build_shapes(architecture, classes=_CLASSES, arguments=arguments)
    shapes = {k: tuple(v.shape) for k, v in module.state_dict().items()}
    actual = {k: tuple(v.shape) for k, v in tensors.items() if not k.endswith(BOOKKEEPING)}
    statistics = ("running_mean", "running_var")
    # Other buffers follow from the architecture: older releases wrote them, newer ones do not.
    derived = {n for n, _ in module.named_buffers() if not n.endswith(statistics)}
    heads = {
        actual[name][axis]
        for name, shape in shapes.items()
        if name in actual and len(actual[name]) == len(shape)
        for axis, length in enumerate(shape)
        if length == _CLASSES
    }
    classes = heads.pop() if len(heads) == 1 else None
    if classes is not None:
        shapes = {
            k: tuple(classes if n == _CLASSES else n for n in shape) for k, shape in shapes.items()
        }
    agreeing = sum(actual.get(name) == shape for name, shape in shapes.items())
    total = len(actual.keys() | (shapes.keys() - derived)) or 1
    fit = Fit(
        architecture=architecture,
        arguments=arguments,
        classes=classes,
        missing=tuple(n for n in shapes if n not in actual and n not in derived),
        unexpected=tuple(n for n in actual if n not in shapes and not _is_derived(n)),
        misshapen=tuple(
            (n, shape, actual[n])
            for n, shape in shapes.items()
            if n in actual and actual[n] != shape
        ),
        shared=min(1.0, agreeing / total),
    )
    return fit, module


def build_shapes(
    architecture: str, *, classes: int, arguments: Mapping[str, Argument] | None = None
) -> nn.Module:
    """Return an architecture without memory for its tensors, where it can be built so.

    Raises:
        BadArtifact: It cannot be built.
    """
    try:
        with shapes_only():
            return build(architecture, classes=classes, arguments=arguments)
    except BadArtifact:  # torchvision's RegNets compute their widths by tensors
        return build(architecture, classes=classes, arguments=arguments)


def _is_derived(name: str) -> bool:
    return name.endswith(("relative_position_index", "attn_mask", "relative_coords_table"))


def _arguments_of_shapes(architecture: str, module: nn.Module, fit: Fit) -> dict[str, Argument]:
    """Return what the tensors of other shapes say of channels and size of the input."""
    arguments: dict[str, Argument] = {}
    torchvisions = architecture.startswith("torchvision:")
    for name, own, actual in fit.misshapen:
        if len(own) == len(actual) == 4 and not torchvisions:
            if own[1] == 3 and (own[0], *own[2:]) == (actual[0], *actual[2:]):
                arguments["in_chans"] = actual[1]
        elif name.endswith(("pos_embed", "pos_embedding")) and len(own) == len(actual) == 3:
            side = _side(module, own[1], actual[1])
            if side is not None and own[2] == actual[2]:
                arguments["image_size" if torchvisions else "img_size"] = side
    return arguments


def _side(module: nn.Module, wanted: int, actual: int) -> int | None:
    # A square grid of tokens, with as many prefix tokens as the architecture's own.
    embed = getattr(module, "patch_embed", None)
    patch = getattr(embed, "patch_size", None) or getattr(module, "patch_size", None)
    patch = patch[0] if isinstance(patch, tuple) else patch
    prefix = wanted - math.isqrt(wanted) ** 2
    grid = math.isqrt(max(0, actual - prefix))
    if not isinstance(patch, int) or grid == 0 or grid * grid != actual - prefix:
        return None
    return grid * patch


def _likelihood(fit: Fit, hints: Collection[str]) -> tuple[object, ...]:
    name = fit.architecture.rsplit(":", 1)[-1]
    matching_hints = [hint for hint in hints if name in hint.lower().replace("-", "_")]
    # Among those whose names occur, the longest: resnet50 occurs in wide_resnet50 as well.
    return (-len(name) if matching_hints else 0, len(fit.arguments), *_plainness(fit.architecture))


def _plainness(name: str) -> tuple[object, ...]:
    return ":" in name, len(name), name


def write_index(path: Path = INDEX) -> None:
    """Write the sketches of everything that the installed timm and torchvision can build.

    It takes about seven minutes of one core and 3 GB.
    """
    names = {*timm_architectures(), *(f"torchvision:{n}" for n in torchvision_names())}
    lines = {}
    for name in sorted(names | {PREFIX + body for body in bodies()}):
        module = build_shapes(name, classes=1000)
        shapes = {k: tuple(v.shape) for k, v in module.state_dict().items()}
        lines[name] = "".join(f"{value:08x}" for value in sketch(shapes))
    path.write_text(json.dumps(lines, indent=0) + "\n")


if __name__ == "__main__":
    write_index()
