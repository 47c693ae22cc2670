"""The network to train: built, filled with what it starts from, and its last layer found.

May touch torch and the models; global random numbers are lent to libraries and taken back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from whylens.core.errors import NETWORK_ERRORS, BadArtifact, BadInput, WeightsUnavailable
from whylens.core.inputs.spec import InputSpec, probe_inputs
from whylens.core.models.checkpoints import MANIFEST, WEIGHTS, Argument, read_manifest, read_weights
from whylens.core.models.load import build, load, timm_spec
from whylens.core.storage.files import file_sha256
from whylens.core.train.recipe import PRETRAINED, Recipe

_BOOKKEEPING = "num_batches_tracked"


class Chance:
    """Random numbers of one training: one generator of its own, one state for libraries."""

    def __init__(self, seed: int) -> None:
        self.own = torch.Generator().manual_seed(seed)
        self.libraries = torch.Generator().manual_seed(seed + 1).get_state()

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Let dropout and initialisers, which know only the global state, continue ours."""
        outer = torch.get_rng_state()
        torch.set_rng_state(self.libraries)
        try:
            yield
        finally:
            self.libraries = torch.get_rng_state()
            torch.set_rng_state(outer)


@dataclass(frozen=True, slots=True)
class Network:
    """What is trained.

    Attributes:
        module: The network.
        spec: What it is fed.
        arguments: With which it was built; may hold an input size that the recipe leaves open.
        head: Name of its last layer.
        trained: Whether its trunk starts from trained weights.
        start: From what it starts, in words.
        told: Whether its weights came with how they want their pictures.
        notes: What the report should say about it.
    """

    module: nn.Module
    spec: InputSpec
    arguments: Mapping[str, Argument]
    head: str
    trained: bool
    start: str
    told: bool = False
    notes: tuple[str, ...] = ()

    @property
    def last(self) -> nn.Linear | nn.Conv2d:
        """Its last layer."""
        layer = self.module.get_submodule(self.head)
        assert isinstance(layer, nn.Linear | nn.Conv2d)  # noqa: S101 - head_name gives no other
        return layer

    def logits(self, x: Tensor) -> Tensor:
        """Return (N, C) of (N, 3, H, W) inputs; auxiliary outputs are dropped."""
        given = self.module(x)
        scores: Tensor = given if isinstance(given, Tensor) else given[0]
        return scores


def network_of(recipe: Recipe, classes: int, chance: Chance) -> Network:
    """Return the network of a recipe, ready to be trained.

    Args:
        recipe: What to build and from what to start.
        classes: Number of classes.
        chance: For what starts from random numbers.

    Raises:
        BadArtifact: It cannot be built, or its weights do not fit.
        BadInput: It cannot be fed what the recipe says.
    """
    arguments = dict(recipe.arguments)
    with chance.lent():
        module = build(recipe.backbone, classes=classes, arguments=arguments)
    weights, known, start, notes = _start(recipe)
    spec = _spec(recipe, module, known)
    if not _fits(module, spec):
        # Transformers are built for one input size.
        arguments["img_size"] = spec.size[0]
        try:
            with chance.lent():
                module = build(recipe.backbone, classes=classes, arguments=arguments)
        except BadArtifact:
            arguments.pop("img_size")
        if not _fits(module, spec):
            raise BadInput(
                f"{recipe.backbone} cannot be fed pictures of {spec.size[0]} x {spec.size[1]} "
                "pixels. Choose another --size, or another backbone."
            )
    head = head_name(module, classes, recipe.backbone)
    if weights is not None:
        _fill(module, weights, head, recipe)
    module.to(torch.device(recipe.device), memory_format=torch.channels_last)  # type: ignore[call-overload]
    told = known is not None
    return Network(module, spec, arguments, head, weights is not None, start, told, notes)


def head_name(module: nn.Module, classes: int, called: str) -> str:
    """Return the name of the layer that gives one score per class.

    Args:
        module: The network.
        classes: Number of classes.
        called: Its name, for the message.

    Raises:
        BadInput: There is none.
    """
    found = ""
    for name, part in module.named_modules():
        if isinstance(part, nn.Linear | nn.Conv2d) and part.weight.shape[0] == classes:
            found = name
    own = getattr(module, "get_classifier", None)  # timm knows which of several it is
    if callable(own):
        layer = own()
        found = next((n for n, p in module.named_modules() if p is layer and n), found)
    if not found or not isinstance(module.get_submodule(found), nn.Linear | nn.Conv2d):
        raise BadInput(
            f"{called} does not end in one layer with a score per class. Choose another backbone."
        )
    return found


def _start(
    recipe: Recipe,
) -> tuple[dict[str, Tensor] | None, InputSpec | None, str, tuple[str, ...]]:
    if recipe.weights is None:
        return None, None, "random weights", ()
    if recipe.weights == PRETRAINED:
        try:
            known = load(recipe.backbone)
        except WeightsUnavailable as exc:
            note = (
                f"The pretrained weights of {recipe.backbone} were asked for and are not here, so "
                f"training started from random weights: expect much less. {exc}"
            )
            return None, None, "random weights", (note,)
        start = f"{known.name} ({known.identity.licence}; {known.identity.source})"
        return known.module.state_dict(), known.spec, start, ()
    path = Path(recipe.weights)
    manifest = None
    if path.is_dir():
        manifest = read_manifest(path)
        if manifest.architecture != recipe.backbone:
            raise BadArtifact(
                f"{path.name} is a {manifest.architecture}, not a {recipe.backbone}. Give that as "
                "--backbone, or other weights."
            )
        path = path / WEIGHTS
    elif (path.parent / MANIFEST).is_file() and path.name == WEIGHTS:
        manifest = read_manifest(path.parent)
    weights = read_weights(path, sha256=manifest.sha256 if manifest else None)
    name = path.parent.name if path.name == WEIGHTS else path.name
    if manifest is None:
        return weights, None, f"{name} (sha256 {file_sha256(path)[:12]})", ()
    start = f"{name} ({manifest.licence}; sha256 {manifest.sha256[:12]})"
    return weights, manifest.spec(), start, ()


def _spec(recipe: Recipe, module: nn.Module, known: InputSpec | None) -> InputSpec:
    if known is None:
        timms = hasattr(module, "pretrained_cfg")
        known = timm_spec(module) if timms else InputSpec(size=(224, 224))
        if recipe.weights is None:
            # Nothing ties a network that starts from nothing to its authors' crop and filter.
            known = known.model_copy(update={"interpolation": "bilinear", "crop": 1.0})
    said = {
        "size": (recipe.size, recipe.size) if recipe.size else None,
        "mean": recipe.mean,
        "std": recipe.std,
        "crop": recipe.crop,
        "crop_mode": recipe.crop_mode,
        "interpolation": recipe.interpolation,
    }
    chosen = {key: value for key, value in said.items() if value is not None}
    try:
        spec = InputSpec.model_validate({**known.model_dump(), **chosen})
    except ValueError as exc:
        raise BadInput("Mean and std need one positive value for each of 3 channels.") from exc
    if spec.channels != 3 or len(spec.size) != 2:
        raise BadInput(f"{recipe.backbone} does not take colour pictures. Choose another.")
    return spec


def _fits(module: nn.Module, spec: InputSpec) -> bool:
    try:
        with torch.no_grad():
            module.eval()(probe_inputs(spec))
    except NETWORK_ERRORS:
        return False
    return True


def _fill(module: nn.Module, weights: dict[str, Tensor], head: str, recipe: Recipe) -> None:
    own = module.state_dict()
    inside = f"{head}."
    given = {
        name: tensor
        for name, tensor in weights.items()
        if not name.startswith(inside) or (name in own and own[name].shape == tensor.shape)
    }
    missing = [
        name
        for name in own
        if name not in given and not name.startswith(inside) and _BOOKKEEPING not in name
    ]
    foreign = [name for name in given if name not in own and _BOOKKEEPING not in name]
    other = [name for name in given if name in own and own[name].shape != given[name].shape]
    faults = [
        f"{what} {', '.join(names[:3])}{' and others' * (len(names) > 3)}"
        for what, names in (("lack", missing), ("hold", foreign), ("have other shapes at", other))
        if names
    ]
    if faults:
        raise BadArtifact(
            f"The weights {Path(recipe.weights or '').name} do not fit {recipe.backbone}: they "
            f"{'; they '.join(faults)}. Give the backbone they were made for."
        )
    module.load_state_dict({**own, **{k: v for k, v in given.items() if k in own}})
