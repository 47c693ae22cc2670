"""From any network of a caller to a backbone; the caller's own object is copied, never changed."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from whylens.core.errors import NETWORK_ERRORS, BadArtifact, BadInput
from whylens.core.inputs.spec import InputSpec, probe_inputs
from whylens.core.models.backbone import Backbone, ModelSource, wrap
from whylens.core.models.black_box import BlackBox, answers_sha256
from whylens.core.models.load import timm_labels, timm_spec
from whylens.core.models.output_paths import (
    FLAT,
    ClassScores,
    Path,
    parts_of,
    path_to_scores,
    paths_to_scores,
    read_path,
)
from whylens.core.models.probabilities import (
    PROBABILITY_NOTES,
    ProbabilityKind,
    probabilities,
    probability_kind,
    undo,
)
from whylens.core.models.split import offers
from whylens.core.speed.folded import agree
from whylens.core.storage.files import parameters_sha256
from whylens.core.targets import Outputs

log = logging.getLogger(__name__)

# Square inputs to try where the size is unknown; a network with a fixed one takes no other.
_SIDES = (224, 32, 28, 64, 96, 128, 256, 299, 384)
_MAX_UNRESIZED = 256
_IMAGENET = InputSpec(size=(1, 1))
_PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)

Size = int | Sequence[int]
PerChannel = float | Sequence[float]


@dataclass(frozen=True)
class ModuleHint:
    """What a caller says of a network, and what the image shows of its input.

    Attributes:
        labels: One per class; none where not known.
        output: Of several outputs, the name or number of the one that is explained.
        unit: Where that is one number and no score, its unit, as in "years"; None of classes.
        size: (height, width) or (length,).
        mean: Per channel, of values in 0 to 1; or one for all.
        std: Likewise.
        shape: (channels or 0, *S) of an image that will be asked about; 0 where any will do.
    """

    size: tuple[int, ...] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    labels: tuple[str, ...] = ()
    output: str | int | None = None
    unit: str | None = None
    shape: tuple[int, ...] | None = None

    @classmethod
    def of(
        cls,
        size: Size | None = None,
        mean: PerChannel | None = None,
        std: PerChannel | None = None,
        labels: Any = (),
        output: str | int | None = None,
        unit: str | None = None,
    ) -> ModuleHint:
        """Return a hint from numbers, sequences, arrays or tensors; one size means a square.

        Raises:
            BadInput: They are no numbers.
        """
        try:
            sides = None if size is None else tuple(int(n) for n in np.ravel(np.asarray(size)))
            if sides is not None and np.asarray(size).ndim == 0:
                sides = sides * 2
            means, stds = (
                None if v is None else tuple(float(n) for n in np.ravel(np.asarray(v)))
                for v in (mean, std)
            )
        except (TypeError, ValueError) as exc:
            raise BadInput(f"size=, mean= and std= are numbers, one or several: {exc}.") from exc
        if isinstance(labels, Mapping):  # index to label, as Hugging Face has it
            labels = [labels[key] for key in sorted(labels, key=int)]
        if isinstance(labels, str):
            raise BadInput("labels= are one per class, in a list.")
        return cls(sides, means, stds, tuple(map(str, labels)), output, unit)

    @property
    def known(self) -> bool:
        """Whether the caller said anything."""
        return replace(self, shape=None) != ModuleHint()


def backbone_of(module: nn.Module, hint: ModuleHint | None = None) -> Backbone:
    """Return any network as a backbone: an unwrapped float32 copy in eval mode, split and probed.

    Args:
        module: The network, in any mode and on any device; it is left as it is.
        hint: What is known of it. What is not known of its input is taken from timm's own settings
            or tried out, and the backbone's notes say what was taken.

    Raises:
        BadArtifact: It cannot be copied, refuses its input, or gives no class scores.
        BadInput: Size, mean or std do not fit each other.
    """
    hint = hint or ModuleHint()
    bare = _unwrapped(module)
    name = bare.name if isinstance(bare, BlackBox) else type(bare).__name__
    if isinstance(bare, BlackBox) and (hint.mean, hint.std) == (None, None):
        hint = replace(hint, mean=(0.0,), std=(1.0,))
    try:
        digest = parameters_sha256(bare)
    except NETWORK_ERRORS as exc:
        raise BadArtifact(
            f"The weights of {name} cannot be read ({' '.join(str(exc).split())[:120]}). Run it "
            "once, or load its weights, before it is explained."
        ) from exc
    network = private_copy(bare)
    hooks = _take_hooks(network)
    network, spec, output, notes = _fitting_network(network, hint, name)
    if hooks:
        output = _output_with_hooks(network, spec, output, hooks)
    probe = probe_inputs(spec).to(_device(network))
    classes = 1 if hint.unit is not None else len(hint.labels)
    path = path_to_scores(output, name, key=hint.output, classes=classes)
    chosen = path[0] if path else None
    scores = read_path(output, path)
    if isinstance(bare, torch.jit.ScriptModule):
        notes.append(
            "It is TorchScript, which cannot be taken apart: methods that read its layers need the "
            "module that it was made from."
        )
    part: Any = _timm_part(bare)
    headless = getattr(part, "num_classes", None) == 0 and scores.shape[1] == part.num_features
    if headless and hint.unit is None:
        raise BadArtifact(
            f"{name} was built without classes: its {scores.shape[1]} outputs are features. Give "
            "it with its classifier, or explain a function of them: target=."
        )
    notes += _notes_on_mode(network, path, probe, scores, name)
    kind = None
    if hint.unit is None:
        kind = probability_kind(lambda x: read_path(network(x), path), scores, spec)
    classes = scores.shape[1]
    network, path, spec, normalised, left = _without_wrappers(
        network, path, spec, probe, hint, kind
    )
    network = network if path == () else ClassScores(network, path)
    if left is not None:
        network = undo(network, left)
    if kind is not None:
        notes.append(PROBABILITY_NOTES[kind])
    if not bare.state_dict():
        digest = answers_sha256(scores)
        notes.append("It has no weights: its digest is that of its answers to two fixed inputs.")
    notes += _notes_on_normalisation(spec, hint, normalised)
    identity = ModelSource(name, digest, notes=tuple(notes), output=chosen)
    if hint.unit is not None:
        labels = hint.labels or (() if hint.output is None else (str(hint.output),))
        return wrap(
            network, spec=spec, labels=labels, identity=identity, outputs="value", unit=hint.unit
        )
    labels = hint.labels or timm_labels(_timm_part(bare))
    outputs: Outputs = "labels" if kind == "sigmoid" and classes > 1 else "classes"
    return wrap(network, spec=spec, labels=labels, identity=identity, outputs=outputs)


def private_copy(module: nn.Module) -> nn.Module:
    """Return a float32 copy of a network in eval mode, which shares no tensor with it.

    Raises:
        BadArtifact: It cannot be copied.
    """
    try:
        with torch.no_grad():  # a scripted network's copy would hang on a graph
            network = copy.deepcopy(module, _shared_parts(module))
        for part in list(network.modules()):
            for key, child in part._modules.items():
                if child is not None:
                    part._modules[key] = _unwrapped(child)
        for parameter in network.parameters():
            parameter.requires_grad_(False)
            parameter.grad = None
        return network.eval().float()
    except NETWORK_ERRORS as exc:
        raise BadArtifact(
            f"{type(module).__name__} cannot be copied ({type(exc).__name__}: {exc}). Give the "
            "network that lies inside it."
        ) from exc


def _shared_parts(module: nn.Module) -> dict[int, Any]:
    # What refuses to be copied (locks, loaders, results that hang on a graph) is no weight.
    shared: dict[int, Any] = {}
    for part in module.modules():
        for key, value in vars(part).items():
            if key in ("_modules", "_parameters", "_buffers"):
                continue
            if isinstance(value, Tensor):
                shared[id(value)] = value.detach().clone()
                continue
            try:
                copy.deepcopy(value, {id(module): None})
            except Exception as exc:  # noqa: BLE001 - whatever a stranger's object raises
                log.info("%s.%s is not copied: %s", type(part).__name__, key, exc)
                shared[id(value)] = value
    return shared


Hooks = list[tuple[dict[int, Any], dict[int, Any]]]


def _take_hooks(network: nn.Module) -> Hooks:
    """Take a copy's hooks off it and return what was taken: each table and what was in it.

    Torch's own stay, since old-style weight norm and pruning compute weights in them.
    """
    hooks: Hooks = []
    for part in network.modules():
        part._backward_hooks.clear()
        part._backward_pre_hooks.clear()
        for table in (part._forward_pre_hooks, part._forward_hooks):
            own = {
                key: hook
                for key, hook in table.items()
                if not getattr(hook, "__module__", "").startswith("torch.")
            }
            for key in own:
                del table[key]
            if own:
                hooks.append((table, own))
    return hooks


def _output_with_hooks(network: nn.Module, spec: InputSpec, output: Any, hooks: Hooks) -> Any:
    """Return the network's output, its hooks back in place if they have a part in it.

    They run once to find out; those that only look on are left off, so that what they record does
    not fill up with inputs that their owner never gave.
    """
    for table, own in hooks:
        table.update(own)
    try:
        with torch.no_grad():
            hooked = network(probe_inputs(spec).to(_device(network)))
    except Exception as exc:  # noqa: BLE001 - a hook may raise anything, as to stop a forward pass
        log.info("%s fails under its hooks: %s", type(network).__name__, exc)
        hooked = output
    pairs = zip(tree_leaves(hooked), tree_leaves(output), strict=False)
    if all(torch.equal(a, b) for a, b in pairs if isinstance(a, Tensor) and isinstance(b, Tensor)):
        for table, own in hooks:
            for key in own:
                del table[key]
        return output
    return hooked


def _unwrapped(module: nn.Module) -> nn.Module:
    while True:
        inner = getattr(module, "_orig_mod", None)  # torch.compile
        if inner is None and isinstance(module, _PARALLEL):
            inner = module.module
        if not isinstance(inner, nn.Module):
            return module
        module = inner


def _notes_on_mode(
    network: nn.Module, path: Path, probe: Tensor, scores: Tensor, name: str
) -> list[str]:
    """Return what the network's owner should know of its eval mode.

    Raises:
        BadArtifact: It leaves that mode by itself.
    """
    if any(part.training for part in network.modules()):
        raise BadArtifact(
            f"{name} puts itself into training mode when it is called. Remove `.train()` from its "
            "forward."
        )
    with torch.no_grad():
        again = read_path(network(probe), path)
    if agree(again, scores, 1e-4) or not bool(torch.isfinite(scores).all()):
        return []
    return [
        f"{name} is random in eval mode: it answers the same input differently each time, as with "
        "dropout or noise that is always on. Its maps are in part chance."
    ]


def _device(module: nn.Module) -> torch.device:
    return next((p.device for p in module.parameters()), torch.device("cpu"))


# --- what goes in ---------------------------------------------------------------------------


def _fitting_spec(
    network: nn.Module, hint: ModuleHint, name: str
) -> tuple[InputSpec, Any, list[str]]:
    """Return the first likely input that the network takes, its output for it, and remarks."""
    first: Exception | None = None
    kernels = (p for p in network.parameters() if p.ndim > 2)
    first_layer = [kernel.shape[1] for kernel in kernels][:1]  # channels that a convolution reads
    for spec, note in _likely_specs(_timm_input(_timm_part(network)), first_layer, hint):
        try:
            with torch.no_grad():
                output = network(probe_inputs(spec).to(_device(network)))
        except NETWORK_ERRORS as exc:
            first = first or exc
            continue
        return spec, output, [note] if note else []
    reason = " ".join(str(first).split())[:200] or "it refuses their shape"
    raise BadArtifact(
        f"{name} takes no input of the size and channels that are likely ({reason}). Say size= "
        "and, where it has other channels than three, one mean= and std= per channel."
    ) from first


class _ChannelsLast(nn.Module):
    """A network that reads (N, H, W, C)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Any:
        """Return what it gives for (N, C, H, W)."""
        return self.network(x.movedim(1, -1))


class _OneByOne(nn.Module):
    """A network that reads one input at a time."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Any:
        """Return what it gives for N inputs."""
        rows = [self.network(row) for row in x.split(1)]
        return tree_map(lambda *parts: torch.cat(parts), *rows)


def _fitting_network(
    network: nn.Module, hint: ModuleHint, name: str
) -> tuple[nn.Module, InputSpec, Any, list[str]]:
    """Return the network as it takes (N, C, *S), its input, its output for that, and remarks."""
    try:
        return network, *_fitting_spec(network, hint, name)
    except BadArtifact:
        for wrapper, note in (
            (_ChannelsLast, "It reads its channels last, and is fed so."),
            (_OneByOne, "It reads one input at a time, so that some methods are slow."),
        ):
            try:
                wrapped = wrapper(network).eval()
                spec, output, notes = _fitting_spec(wrapped, hint, name)
            except BadArtifact:
                continue
            return wrapped, spec, output, [*notes, note]
        raise


def _timm_part(network: nn.Module) -> nn.Module:
    """Return the part that timm made, where it holds all weights, else the network itself."""
    weights = {id(p) for p in network.parameters()}
    parts = (part for part in network.modules() if getattr(part, "pretrained_cfg", None))
    part = next(parts, network)
    return part if {id(p) for p in part.parameters()} == weights else network


def _timm_input(network: nn.Module) -> InputSpec | None:
    config = getattr(network, "pretrained_cfg", None)
    if not config or "input_size" not in config:
        return None
    try:
        return timm_spec(network)
    except (*NETWORK_ERRORS, OSError):
        return None


def _likely_specs(
    timm_input: InputSpec | None, first_layer: list[int], hint: ModuleHint
) -> Iterator[tuple[InputSpec, str]]:
    shape = hint.shape
    sizes: list[tuple[tuple[int, ...], str]] = []
    if hint.size is not None:
        sizes = [(hint.size, "")]
    elif timm_input is not None:
        sizes = [(timm_input.size, "")]
    else:
        if shape is not None and (shape[0] != 0 or max(shape[1:]) <= _MAX_UNRESIZED):
            sizes.append((shape[1:], "the image's own" if shape[0] == 0 else ""))
        sizes += [((side, side), f"{side} x {side}") for side in _SIDES]
    lengths = {len(v) for v in (hint.mean, hint.std) if v is not None and len(v) > 1}
    if len(lengths) > 1:
        raise BadInput("mean= and std= need one value per channel, both the same number.")
    channels = [*lengths]
    if not channels:
        channels = [3, 1] if shape is None or shape[0] == 0 else [shape[0]]
        channels = ([] if timm_input is None else [timm_input.channels]) + channels + first_layer
    for size, words in sizes:
        for count in dict.fromkeys(channels):
            note = f"No size= was given: {words} was taken." if words else ""
            yield _spec(size, count, timm_input, hint), note


def _spec(
    size: tuple[int, ...], channels: int, timm_input: InputSpec | None, hint: ModuleHint
) -> InputSpec:
    default = timm_input or (_IMAGENET if len(size) == 2 and channels == 3 else None)
    mean, std = hint.mean or (0.0,), hint.std or (1.0,)
    if default is not None and default.channels == channels:
        mean, std = hint.mean or default.mean, hint.std or default.std
    fields = {} if timm_input is None else timm_input.model_dump()
    fields |= {"size": size, "channels": channels}
    fields |= {
        name: v * channels if len(v) == 1 else v for name, v in (("mean", mean), ("std", std))
    }
    try:
        return InputSpec.model_validate({"crop": 1.0, **fields})
    except ValidationError as exc:
        reason = exc.errors()[0]["msg"].removeprefix("Value error, ")
        raise BadInput(f"size=, mean= and std= do not describe an input: {reason}.") from exc


def _notes_on_normalisation(spec: InputSpec, hint: ModuleHint, normalised: bool) -> list[str]:
    if normalised or hint.mean is not None or hint.std is not None:
        return []
    if len(spec.size) == 2 and spec.mean == _IMAGENET.mean and spec.std == _IMAGENET.std:
        return ["No mean= and std= were given: those of ImageNet were taken."]
    return []


# --- wrappers around the network --------------------------------------------------------------


class _CallRecorder(nn.Module):
    """Stands in for a part of a network and records what it is given and what it returns."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any], Any]] = []

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output = self.inner(*args, **kwargs)
        self.calls.append((args, kwargs, output))
        return output


def _without_wrappers(
    network: nn.Module,
    path: Path,
    spec: InputSpec,
    probe: Tensor,
    hint: ModuleHint,
    kind: ProbabilityKind | None,
) -> tuple[nn.Module, Path, InputSpec, bool, ProbabilityKind | None]:
    """Return the innermost part that computes the same, and whether a normalisation went.

    Args:
        kind: Which probabilities the network gives; its softmax or sigmoid is a wrapper, too, and
            None comes back where it went.
    """
    normalised = False
    while True:
        step = _inner(network, path, probe, kind)
        if step is None:
            return network, path, spec, normalised, kind
        inner, inner_path, kind, scale, shift = step
        if scale is not None and shift is not None:
            # The wrapper normalises: what it does becomes a part of the input's description.
            own = hint.mean is None and hint.std is None and not normalised
            mean0 = torch.zeros(spec.channels) if own else torch.tensor(spec.mean)
            std0 = torch.ones(spec.channels) if own else torch.tensor(spec.std)
            mean, std = mean0 - shift * std0 / scale, std0 / scale
            changes = {"mean": tuple(mean.tolist()), "std": tuple(std.tolist())}
            spec, normalised = spec.model_copy(update=changes), True
            probe = probe * _per_channel(scale, probe) + _per_channel(shift, probe)
        network, path = inner, inner_path


def _inner(
    network: nn.Module, path: Path, probe: Tensor, kind: ProbabilityKind | None
) -> tuple[nn.Module, Path, ProbabilityKind | None, Tensor | None, Tensor | None] | None:
    if offers(network, "features", "head"):  # where to cut it, in its author's words
        return None
    weights = {id(p) for p in network.parameters()}
    children = [
        (key, child)
        for key, child in network.named_children()
        if weights and {id(p) for p in child.parameters()} == weights
    ]
    for key, child in children:
        recorder = _CallRecorder(child)
        network._modules[key] = recorder  # a private copy's own table
        try:
            with torch.no_grad():
                whole = read_path(network(probe), path)
        except NETWORK_ERRORS as exc:
            log.info("%s cannot be taken apart: %s", type(network).__name__, exc)
            continue
        finally:
            network._modules[key] = child
        if len(recorder.calls) != 1:
            continue
        args, kwargs, output = recorder.calls[0]
        if len(args) != 1 or kwargs or not isinstance(args[0], Tensor):
            continue
        inner_path, left = _path_of(whole, output), kind
        if inner_path is None and kind is not None:
            inner_path, left = _path_of(whole, output, kind), None
        if inner_path is None:
            continue
        if args[0].shape == probe.shape and torch.equal(args[0], probe):
            return child, inner_path, left, None, None
        lines = _per_channel_line(probe, args[0])
        if lines is not None:
            return child, inner_path, left, *lines
    return None


def _path_of(scores: Tensor, output: Any, kind: ProbabilityKind | None = None) -> Path | None:
    """Return where in what a network gives these very scores are, or None.

    Args:
        kind: Look for the logits of which the scores are probabilities instead.
    """
    paths = [
        *paths_to_scores(output),
        *(
            (key, FLAT)
            for key, part in parts_of(output).items()
            if isinstance(part, Tensor) and part.ndim == 1
        ),
    ]
    for path in paths:
        part = read_path(output, path)
        if part.shape != scores.shape:
            continue
        if (
            torch.equal(part, scores)
            if kind is None
            else agree(probabilities(part, kind), scores, 1e-5)
        ):
            return path
    return None


def _per_channel_line(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return (C,) scale and shift where y = scale * x + shift in every channel, else None."""
    if y.shape != x.shape or y.dtype != x.dtype:
        return None
    flat_x, flat_y = (t.detach().cpu().double().transpose(0, 1).flatten(1) for t in (x, y))
    centred = flat_x - flat_x.mean(1, keepdim=True)
    scale = (centred * flat_y).sum(1) / (centred**2).sum(1)
    shift = flat_y.mean(1) - scale * flat_x.mean(1)
    left = (flat_y - scale[:, None] * flat_x - shift[:, None]).abs().max()
    if not bool((scale > 0).all()) or float(left) > 1e-5 * float(flat_y.abs().max()):
        return None
    return scale.float(), shift.float()


def _per_channel(values: Tensor, like: Tensor) -> Tensor:
    return values.to(like)[(None, ...) + (None,) * (like.ndim - 2)]
