"""The network to train: built, filled with what it starts from, and its last layer found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from whylens.core.errors import (
    NETWORK_ERRORS,
    BadArtifact,
    BadInput,
    WeightsUnavailable,
    wrong_value,
)
from whylens.core.inputs.spec import InputSpec, probe_inputs
from whylens.core.models.checkpoints import MANIFEST, WEIGHTS, Argument, read_manifest, read_weights
from whylens.core.models.load import build, load, load_pretrained, pretrained_file, timm_spec
from whylens.core.models.model_names import parse_model_name
from whylens.core.models.state_dicts import read_state_dict, strip_prefixes
from whylens.core.progress import ProgressCallback
from whylens.core.storage.files import file_sha256
from whylens.core.train.recipe import PRETRAINED, Recipe

_BOOKKEEPING = "num_batches_tracked"
_RANDOM_FEATURES = (
    "Only the head was trained, on features of random weights, which tell little apart. Start from "
    "trained weights (--weights), or train all of it."
)


class RandomState:
    """Random numbers of one training.

    Attributes:
        generator: For all that takes one.
        global_state: For libraries that know only torch's global state.
    """

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.global_state = torch.Generator().manual_seed(seed + 1).get_state()

    @contextmanager
    def as_global(self) -> Iterator[None]:
        """Put `global_state` in torch's place for dropout and initialisers, and take it back."""
        outer = torch.get_rng_state()
        torch.set_rng_state(self.global_state)
        try:
            yield
        finally:
            self.global_state = torch.get_rng_state()
            torch.set_rng_state(outer)


@dataclass(frozen=True, slots=True)
class Network:
    """What is trained.

    Attributes:
        module: The network.
        input_spec: What it is fed.
        arguments: With which it was built; may hold an input size that the recipe leaves open.
        head: Name of its last layer.
        trained: Whether its trunk starts from trained weights.
        start: From what it starts, in words.
        spec_known: Whether its weights came with how they want their pictures.
        notes: What the report should say about it.
    """

    module: nn.Module
    input_spec: InputSpec
    arguments: Mapping[str, Argument]
    head: str
    trained: bool
    start: str
    spec_known: bool = False
    notes: tuple[str, ...] = ()

    @property
    def head_layer(self) -> nn.Linear | nn.Conv2d:
        """Its last layer."""
        layer = self.module.get_submodule(self.head)
        assert isinstance(layer, nn.Linear | nn.Conv2d)  # noqa: S101 - head_name gives no other
        return layer

    def logits(self, x: Tensor) -> Tensor:
        """Return (N, C) of (N, 3, H, W) inputs; auxiliary outputs are dropped."""
        outputs = self.module(x)
        logits: Tensor = outputs if isinstance(outputs, Tensor) else outputs[0]
        return logits


def build_network(recipe: Recipe, classes: int, random: RandomState) -> Network:
    """Return the network of a recipe, ready to be trained.

    Raises:
        BadArtifact: It cannot be built, or its weights do not fit.
        BadInput: It cannot be fed what the recipe says.
        WeightsUnavailable: The pretrained weights to start from cannot be had.
    """
    arguments = dict(recipe.arguments)
    with random.as_global():
        module = build(recipe.backbone, classes=classes, arguments=arguments)
    from_timm = recipe.weights == PRETRAINED and parse_model_name(recipe.backbone).kind == "timm"
    levels: Sequence[dict[str, Tensor]] | None = None
    start_spec: InputSpec | None
    if from_timm:
        # Fetched last, for an input size that is known by then; many were trained without classes.
        start_spec, start = timm_spec(module), ""
    else:
        levels, start_spec, start = _start(recipe)
    input_spec = _spec(recipe, module, start_spec)
    if not _fits(module, input_spec):
        # Transformers are built for one input size.
        arguments["img_size"] = input_spec.size[0]
        try:
            with random.as_global():
                module = build(recipe.backbone, classes=classes, arguments=arguments)
        except BadArtifact:
            arguments.pop("img_size")
        if not _fits(module, input_spec):
            raise BadInput(
                f"{recipe.backbone} cannot be fed pictures of "
                f"{input_spec.size[0]} x {input_spec.size[1]} pixels. "
                "Choose another --size, or another backbone."
            )
    head = head_name(module, classes, recipe.backbone)
    if from_timm:
        with _training_not_begun():
            known_module, source = load_pretrained(recipe.backbone, arguments=arguments)
        levels = [known_module.state_dict()]
        start = f"{source.name} ({source.licence}; {source.source})"
    if levels is not None:
        own = module.state_dict().keys()
        weights = max(levels, key=lambda level: len(level.keys() & own))
        _load_weights(module, weights, head, recipe)
    notes = () if recipe.mode != "head" or levels is not None else (_RANDOM_FEATURES,)
    module.to(torch.device(recipe.device), memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Network(
        module,
        input_spec,
        arguments,
        head,
        levels is not None,
        start,
        start_spec is not None,
        notes,
    )


def head_name(module: nn.Module, classes: int, backbone: str) -> str:
    """Return the name of the layer that gives one score per class.

    Raises:
        BadInput: There is none.
    """
    layers = {name: p for name, p in module.named_modules() if _scores_classes(p, classes)}
    get_classifier = getattr(module, "get_classifier", None)  # timm knows which of several it is
    classifier = get_classifier() if callable(get_classifier) else None
    if isinstance(classifier, nn.Module):  # of some, a pool with the layer inside
        own = set(classifier.modules())
        layers = {name: layer for name, layer in layers.items() if layer in own}
    head = next(reversed(layers), "")
    if not head:
        twin = _name_with_classifier(backbone)
        raise BadInput(
            f"{backbone} does not end in one layer with a score per class. "
            + (f"The same network with one is {twin}." if twin else "Choose another backbone.")
        )
    return head


def _scores_classes(layer: nn.Module, classes: int) -> bool:
    return isinstance(layer, nn.Linear | nn.Conv2d) and layer.weight.shape[0] == classes


def _name_with_classifier(backbone: str) -> str:
    """Return timm's name of an encoder with a classifier, as NAME of NAME_enc, or ""."""
    import timm

    architecture, dot, tag = backbone.partition(".")
    name = architecture.rpartition("_")[0]
    return f"{name}{dot}{tag}" if timm.is_model(name) else ""


@contextmanager
def _training_not_begun() -> Iterator[None]:
    try:
        yield
    except WeightsUnavailable as exc:
        # From random weights it would learn much less, and the user asked for something else.
        raise WeightsUnavailable(
            f"Training was not begun: {exc} Start from a network that is here, or from random "
            "weights."
        ) from exc


def fetch_start(recipe: Recipe, *, progress: ProgressCallback | None = None) -> None:
    """Fetch the pretrained weights that a recipe starts from, before any picture is read.

    Args:
        progress: Called with a share done and a sentence while weights are fetched.

    Raises:
        WeightsUnavailable: They cannot be had.
    """
    if recipe.weights == PRETRAINED and parse_model_name(recipe.backbone).kind == "timm":
        with _training_not_begun():
            pretrained_file(recipe.backbone, progress=progress)


def _start(recipe: Recipe) -> tuple[Sequence[dict[str, Tensor]] | None, InputSpec | None, str]:
    """Return weights under ever plainer names, what they are fed, and what they are in words."""
    if recipe.weights is None:
        return None, None, "random weights"
    if recipe.weights == PRETRAINED:
        with _training_not_begun():
            backbone = load(recipe.backbone)
        start = f"{backbone.name} ({backbone.identity.licence}; {backbone.identity.source})"
        return [backbone.module.state_dict()], backbone.input_spec, start
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
    name = path.parent.name if path.name == WEIGHTS else path.name
    if manifest is None:
        levels = read_state_dict(path).levels
        return levels, None, f"{name} (sha256 {file_sha256(path)[:12]})"
    levels = tuple(strip_prefixes(read_weights(path, sha256=manifest.sha256)))
    start = f"{name} ({manifest.licence}; sha256 {manifest.sha256[:12]})"
    return levels, manifest.input_spec(), start


def _spec(recipe: Recipe, module: nn.Module, start_spec: InputSpec | None) -> InputSpec:
    if start_spec is None:
        timms = hasattr(module, "pretrained_cfg")
        start_spec = timm_spec(module) if timms else InputSpec(size=(224, 224))
        if recipe.weights is None:
            # Nothing ties a network that starts from nothing to its authors' crop and filter.
            start_spec = start_spec.model_copy(update={"interpolation": "bilinear", "crop": 1.0})
    in_recipe = {
        "size": (recipe.size, recipe.size) if recipe.size else None,
        "mean": recipe.mean,
        "std": recipe.std,
        "crop": recipe.crop,
        "crop_mode": recipe.crop_mode,
        "interpolation": recipe.interpolation,
    }
    changes = {key: value for key, value in in_recipe.items() if value is not None}
    try:
        input_spec = InputSpec.model_validate({**start_spec.model_dump(), **changes})
    except ValidationError as exc:
        reason = wrong_value(exc)[1]
        raise BadInput(f"The recipe's size, mean and std are no input: {reason}.") from exc
    if input_spec.channels != 3 or len(input_spec.size) != 2:
        raise BadInput(f"{recipe.backbone} does not take colour pictures. Choose another.")
    return input_spec


def _fits(module: nn.Module, input_spec: InputSpec) -> bool:
    try:
        with torch.no_grad():
            module.eval()(probe_inputs(input_spec))
    except NETWORK_ERRORS:
        return False
    return True


def _load_weights(module: nn.Module, weights: dict[str, Tensor], head: str, recipe: Recipe) -> None:
    own = module.state_dict()
    inside = f"{head}."
    new = {
        name: tensor
        for name, tensor in weights.items()
        if not name.startswith(inside) or (name in own and own[name].shape == tensor.shape)
    }
    missing = [
        name
        for name in own
        if name not in new and not name.startswith(inside) and _BOOKKEEPING not in name
    ]
    surplus = [name for name in new if name not in own and _BOOKKEEPING not in name]
    mismatched = [name for name in new if name in own and own[name].shape != new[name].shape]
    problems = [
        f"{what} {', '.join(names[:3])}{' and others' * (len(names) > 3)}"
        for what, names in (
            ("lack", missing),
            ("hold", surplus),
            ("have other shapes at", mismatched),
        )
        if names
    ]
    if problems:
        raise BadArtifact(
            f"The weights {Path(recipe.weights or '').name} do not fit {recipe.backbone}: they "
            f"{'; they '.join(problems)}. Give the backbone they were made for."
        )
    module.load_state_dict({**own, **{k: v for k, v in new.items() if k in own}})
