"""From any network of a caller to a backbone; the caller's own object is copied, never changed."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from whylens.core.errors import NETWORK_ERRORS, BadArtifact
from whylens.core.inputs.spec import InputSpec, probe_inputs
from whylens.core.models.backbone import Backbone, ModelSource, wrap
from whylens.core.models.black_box import BlackBox, answers_sha256
from whylens.core.models.load import timm_labels
from whylens.core.models.module_input import (
    ALONE_IN_ITS_BATCH,
    ONE_BY_ONE,
    ModuleHint,
    UnderGradients,
    completed_hint,
    device_of,
    fitting_network,
    notes_on_normalisation,
    timm_part,
)
from whylens.core.models.output_paths import (
    FLAT,
    ClassScores,
    Path,
    parts_of,
    path_to_scores,
    paths_to_scores,
    read_path,
)
from whylens.core.models.own_input import OwnInput
from whylens.core.models.own_state import KEEPS_STATE, OwnState
from whylens.core.models.probabilities import (
    LABEL_KINDS,
    LogitReader,
    Reading,
    ScoreKind,
    read_scores,
    scores_of,
)
from whylens.core.models.split import offers
from whylens.core.speed.folded import agree
from whylens.core.storage.files import parameters_sha256
from whylens.core.targets import Outputs

log = logging.getLogger(__name__)

_PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)
_OBSTACLES = (ONE_BY_ONE, ALONE_IN_ITS_BATCH, KEEPS_STATE)  # to taking it apart
_IN_ONE_PIECE = (
    "It is {}, which cannot be taken apart: methods that read its layers need the module that it "
    "was made from."
)


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
    bare = _unwrap(module)
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
    network, input_spec, output, notes = fitting_network(network, hint, name)
    if hooks:
        output = _output_with_hooks(network, input_spec, output, hooks)
    probe = probe_inputs(input_spec).to(device_of(network))
    classes = 1 if hint.unit is not None else len(hint.labels)
    path = path_to_scores(output, name, key=hint.output, classes=classes)
    output_path = path[0] if path else None
    scores = read_path(output, path)
    hint, stated, remarks = completed_hint(hint, bare, name, scores.shape[1])
    notes += remarks
    obstacles = [note for note in notes if note in _OBSTACLES]
    if any(isinstance(part, torch.jit.ScriptModule) for part in bare.modules()):
        obstacles.append(_IN_ONE_PIECE.format("TorchScript"))
    part: Any = timm_part(bare)
    headless = getattr(part, "num_classes", None) == 0 and scores.shape[1] == part.num_features
    if headless and hint.unit is None:
        raise BadArtifact(
            f"{name} was built without classes: its {scores.shape[1]} outputs are features. Give "
            "it with its classifier, or explain a function of them: target=."
        )
    obstacles += _notes_on_mode(network, path, probe, scores, name)
    notes += [note for note in obstacles if note not in notes]
    kind, note = Reading(None, "")
    if hint.unit is None:
        kind, note = read_scores(partial(_read, network, path), scores, input_spec)
    classes = scores.shape[1]
    network, path, input_spec, normalised, rest_kind = _without_wrappers(
        network, path, input_spec, probe, hint, kind
    )
    network = network if path == () else ClassScores(network, path)
    if rest_kind is not None:
        network = LogitReader(network, rest_kind)
    notes += [note] if note else []
    if not bare.state_dict():
        digest = answers_sha256(scores)
        notes.append("It has no weights: its digest is that of its answers to two fixed inputs.")
    notes += notes_on_normalisation(input_spec, hint, normalised)
    identity = ModelSource(name, digest, notes=tuple(notes), output=output_path)
    if hint.unit is not None:
        labels = hint.labels or (() if hint.output is None else (str(hint.output),))
        return wrap(
            network,
            input_spec=input_spec,
            labels=labels,
            identity=identity,
            outputs="value",
            unit=hint.unit,
        )
    labels = hint.labels or timm_labels(timm_part(bare))
    of_labels = kind in LABEL_KINDS or (kind is None and stated == "labels")
    outputs: Outputs = "labels" if of_labels and classes > 1 else "classes"
    backbone = wrap(
        network, input_spec=input_spec, labels=labels, identity=identity, outputs=outputs
    )
    if isinstance(bare, BlackBox):
        obstacles.append(
            "It is a function, of which answers alone are known: give the nn.Module itself."
        )
    if any(isinstance(part, torch.fx.GraphModule) for part in bare.modules()):
        obstacles.append(_IN_ONE_PIECE.format("a graph, as of torch.export"))
    why = "".join(f" ({note.removesuffix('.')})" for note in obstacles)
    return replace(backbone, unmet={need: f"{r}{why}" for need, r in backbone.unmet.items()})


def _read(network: nn.Module, path: Any, x: Tensor) -> Tensor:
    return read_path(network(x), path)


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
                    part._modules[key] = _unwrap(child)
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


def _output_with_hooks(network: nn.Module, input_spec: InputSpec, output: Any, hooks: Hooks) -> Any:
    """Return the network's output, its hooks back in place if they have a part in it.

    They run once to find out; those that only look on are left off, so that what they record does
    not fill up with inputs that their owner never gave.
    """
    for table, own in hooks:
        table.update(own)
    try:
        with torch.no_grad():
            hooked_output = network(probe_inputs(input_spec).to(device_of(network)))
    except Exception as exc:  # noqa: BLE001 - a hook may raise anything, as to stop a forward pass
        log.info("%s fails under its hooks: %s", type(network).__name__, exc)
        hooked_output = output
    pairs = zip(tree_leaves(hooked_output), tree_leaves(output), strict=False)
    if all(torch.equal(a, b) for a, b in pairs if isinstance(a, Tensor) and isinstance(b, Tensor)):
        for table, own in hooks:
            for key in own:
                del table[key]
        return output
    return hooked_output


def _unwrap(module: nn.Module) -> nn.Module:
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
        second_output = read_path(network(probe), path)
    if agree(second_output, scores, 1e-4) or not bool(torch.isfinite(scores).all()):
        return []
    return [
        f"{name} is random in eval mode: it answers the same input differently each time, as with "
        "dropout or noise that is always on. Its maps are in part chance."
    ]


# --- wrappers around the network --------------------------------------------------------------


class _CallRecorder(nn.Module):
    """Stands in for a part of a network and records what it is given and what it returns."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any], Any]] = []

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        given = tuple(arg.clone() if isinstance(arg, Tensor) else arg for arg in args)
        output = self.inner(*args, **kwargs)  # which may change them
        self.calls.append((given, kwargs, output))
        return output


class _Call(NamedTuple):
    """What a part of a network was given and gave, and the scores of the whole."""

    given: Tensor
    output: Any
    scores: Tensor


class _Step(NamedTuple):
    """From a network to a part that computes the same.

    Attributes:
        key: Of the part among the network's.
        inner: The part.
        path: Where in what it gives the scores are.
        read_as: What the network makes of them, where they are the logits below its scores.
        lines: (C,) scale and shift of what it is given, or None where that is the input itself.
    """

    key: str
    inner: nn.Module
    path: Path
    read_as: ScoreKind | None
    lines: tuple[Tensor, Tensor] | None

    def given(self, x: Tensor) -> Tensor:
        """Return what the part is given for an input."""
        if self.lines is None:
            return x
        scale, shift = (_per_channel(values, x) for values in self.lines)
        return scale * x + shift

    def holds(self, network: nn.Module, path: Path, x: Tensor) -> bool:
        """Return whether the part computes the same as the network for these inputs, too."""
        call = _call_of(network, self.key, path, x)
        return (
            call is not None
            and agree(call.given, self.given(x), 1e-4)
            and _path_of(call.scores, call.output, self.read_as) == self.path
        )


def _without_wrappers(
    network: nn.Module,
    path: Path,
    input_spec: InputSpec,
    probe: Tensor,
    hint: ModuleHint,
    kind: ScoreKind | None,
) -> tuple[nn.Module, Path, InputSpec, bool, ScoreKind | None]:
    """Return the innermost part that computes the same, and whether a normalisation went.

    Args:
        kind: What the network gives instead of logits; its softmax or sigmoid is a wrapper, too,
            and None comes back where it went.
    """
    normalised = False
    if isinstance(network, OwnInput):  # `wrap` puts it back where it is needed
        network = network.network
    while True:
        step = _inner(network, path, probe, input_spec, kind)
        if step is None:
            return network, path, input_spec, normalised, kind
        if step.lines is not None:
            # The wrapper normalises: what it does becomes a part of the input's description.
            scale, shift = step.lines
            own = hint.mean is None and hint.std is None and not normalised
            mean0 = torch.zeros(input_spec.channels) if own else torch.tensor(input_spec.mean)
            std0 = torch.ones(input_spec.channels) if own else torch.tensor(input_spec.std)
            mean, std = mean0 - shift * std0 / scale, std0 / scale
            changes = {"mean": tuple(mean.tolist()), "std": tuple(std.tolist())}
            input_spec, normalised = input_spec.model_copy(update=changes), True
            probe = step.given(probe)
        kind = kind if step.read_as is None else None
        network, path = step.inner, step.path


def _inner(
    network: nn.Module, path: Path, probe: Tensor, input_spec: InputSpec, kind: ScoreKind | None
) -> _Step | None:
    # TorchScript takes no stranger for a part, and the others are there for what is inside them.
    if isinstance(network, torch.jit.ScriptModule | OwnState | UnderGradients):
        return None
    if offers(network, "features", "head"):  # where to cut it, in its author's words
        return None
    weights = {id(p) for p in network.parameters()}
    keys = [
        key
        for key, child in network.named_children()
        if weights and {id(p) for p in child.parameters()} == weights
    ]
    for key in keys:
        call = _call_of(network, key, path, probe)
        if call is None:
            continue
        inner_path, read_as = _path_of(call.scores, call.output), None
        if inner_path is None and kind is not None:
            inner_path, read_as = _path_of(call.scores, call.output, kind), kind
        if inner_path is None:
            continue
        lines = None
        if not torch.equal(call.given, probe):
            lines = _per_channel_line(probe, call.given)
            if lines is None:
                continue
        step = _Step(key, network.get_submodule(key), inner_path, read_as, lines)
        if all(step.holds(network, path, x) for x in _other_inputs(probe, input_spec)):
            return step
    return None


def _call_of(network: nn.Module, key: str, path: Path, x: Tensor) -> _Call | None:
    """Return the single call of a part in which a network reads its input, or None."""
    child = network._modules[key]
    recorder = _CallRecorder(cast("nn.Module", child))
    network._modules[key] = recorder  # a private copy's own table
    try:
        with torch.no_grad():
            # It may change its input, with which the part's must be compared.
            scores = read_path(network(x.clone()), path)
    except NETWORK_ERRORS as exc:
        log.info("%s cannot be taken apart: %s", type(network).__name__, exc)
        return None
    finally:
        network._modules[key] = child
    if len(recorder.calls) != 1:
        return None
    args, kwargs, output = recorder.calls[0]
    if len(args) != 1 or kwargs or not isinstance(args[0], Tensor):
        return None
    return _Call(args[0], output, scores)


def _other_inputs(probe: Tensor, input_spec: InputSpec) -> Iterator[Tensor]:
    """Yield inputs, each alone, by which a wrapper shows that it looks at what it is given.

    One that divides bytes by 255, or an image by its largest value, is a fixed scale and shift for
    any single batch: images as they are in files, as the network is fed them, and far from both.
    """
    image = probe[:1] - probe[:1].min()
    image = image / image.max()
    yield image
    mean, std = (_per_channel(torch.tensor(v), image) for v in (input_spec.mean, input_spec.std))
    yield (image - mean) / std
    yield 3 * probe[1:] - 1


def _path_of(scores: Tensor, output: Any, kind: ScoreKind | None = None) -> Path | None:
    """Return where in what a network gives these very scores are, or None.

    Args:
        kind: Look for the logits of which the scores are made instead.
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
            else agree(scores_of(part, kind), scores, 1e-5)
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
    difference = (flat_y - scale[:, None] * flat_x - shift[:, None]).abs().max()
    if not bool((scale > 0).all()) or float(difference) > 1e-5 * float(flat_y.abs().max()):
        return None
    return scale.float(), shift.float()


def _per_channel(values: Tensor, like: Tensor) -> Tensor:
    return values.to(like)[(None, ...) + (None,) * (like.ndim - 2)]
