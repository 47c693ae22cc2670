"""What is known of any network's input, and which likely input it takes: by trying it out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypedDict

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves, tree_map

from whylens.core.errors import NETWORK_ERRORS, BadArtifact, BadInput, wrong_value
from whylens.core.inputs.spec import InputSpec, probe_inputs
from whylens.core.models.backbone import channels_problem
from whylens.core.models.black_box import BlackBox
from whylens.core.models.labels import labels_by_index
from whylens.core.models.load import timm_spec
from whylens.core.models.output_paths import FunctionOfOutputs
from whylens.core.models.own_input import answer_of
from whylens.core.models.own_state import KEEPS_STATE, OwnState, on_copies
from whylens.core.models.stated_outputs import stated_outputs
from whylens.core.speed.folded import agree
from whylens.core.targets import Outputs
from whylens.core.words import number_of

# Square inputs to try where the size is unknown; a network with a fixed one takes no other.
_SIDES = (224, 32, 28, 64, 96, 128, 256, 299, 384)
_UNRESIZED = 256
_IMAGENET = InputSpec(size=(1, 1))

Size = int | Sequence[int]
PerChannel = float | Sequence[float]


class ModuleDescription(TypedDict, total=False):
    """What a module does not say of itself."""

    size: Size | None
    mean: PerChannel | None
    std: PerChannel | None
    labels: Sequence[str] | Mapping[Any, str]
    output: str | int | None
    unit: str | None


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
        if sides is not None and len(sides) == 3 and {sides[0], sides[2]} & {1, 3}:
            sides = sides[1:] if sides[0] in (1, 3) else sides[:2]
            raise BadInput(f"size= is (height, width), without channels: {sides}.")
        return cls(sides, means, stds, _labels(labels), output, unit)

    @property
    def known(self) -> bool:
        """Whether the caller said anything."""
        return replace(self, shape=None) != ModuleHint()


def _labels(labels: Any) -> tuple[str, ...]:
    """Return one label per class of a sequence, of labels by index, or of indices by label."""
    if labels is None:
        return ()
    if isinstance(labels, Mapping):
        try:
            labels = labels_by_index(labels)
        except ValueError as exc:
            raise BadInput(
                f"labels= of a dictionary are labels by index, or indices by label: {exc}."
            ) from exc
    if isinstance(labels, str | set | frozenset) or not hasattr(labels, "__iter__"):
        raise BadInput("labels= are one per class, in a list in the order of the scores.")
    return tuple(map(str, labels))


def device_of(module: nn.Module) -> torch.device:
    """Return where a network's parameters are."""
    return next((p.device for p in module.parameters()), torch.device("cpu"))


def _fitting_spec(
    network: nn.Module, hint: ModuleHint, name: str
) -> tuple[nn.Module, InputSpec, Any, list[str]]:
    """Return the network, the first likely input that it takes, its output for it, and remarks."""
    first: Exception | None = None
    kernels = (p for p in network.parameters() if p.ndim > 2)
    first_layer = [kernel.shape[1] for kernel in kernels][:1]  # channels that a convolution reads
    for input_spec, note in _likely_specs(_timm_input(timm_part(network)), first_layer, hint):
        try:
            network, output = answer_of(network, probe_inputs(input_spec).to(device_of(network)))
        except NETWORK_ERRORS as exc:
            first = first or exc
            continue
        return network, input_spec, output, [note] if note else []
    reason = " ".join(str(first).split())[:200] or "it refuses their shape"
    remedies = (
        remedy for signs, remedy in _REFUSALS if any(sign in reason for sign in signs.split("|"))
    )
    remedy = next(remedies, _SAY_SIZE)
    channel_counts = {len(v) for v in (hint.mean, hint.std) if v is not None and len(v) > 1}
    for channels in channel_counts - set(first_layer):
        if problem := channels_problem(network, channels):
            raise BadArtifact(f"{name}: {problem}") from first
    if isinstance(network, BlackBox):
        remedy = (
            "A function is given (N, C, H, W) float32 and returns (N, classes). If it makes a "
            f"network, give what it returns: {name}(...)."
        )
    raise BadArtifact(
        f"{name} takes no input of the size and channels that are likely ({reason}). {remedy}"
    ) from first


_ALONE = "Wrap it in a module whose forward takes an (N, C, H, W) tensor alone."
_SAY_SIZE = (
    "Say size= and, where it has other channels than three, one mean= and std= per channel. If its "
    f"forward takes something else: {_ALONE[0].lower()}{_ALONE[1:]}"
)
_FIXED_BATCH = (
    "Its forward fixes the size of a batch or an image: say size=, and let it take any number of "
    "inputs, as in x.view(len(x), -1); a network of torch.export takes that as dynamic_shapes=."
)
# What torch says of an input, and what that means most often.
_REFUSALS = (
    ("positional argument|indices must be|too many indices", _ALONE),
    (
        "Half|Double|BFloat16|dtype",
        "It is run in float32: take .half(), .double() and the like out of its forward.",
    ),
    ("CUDA|NVIDIA|cuda", "Take .cuda() out of its forward: inputs are where its weights are."),
    ("invalid for input of size|Guard failed", _FIXED_BATCH),
)


class _ChannelsLast(nn.Module):
    """A network that reads (N, H, W, C)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Any:
        """Return what it gives for (N, C, H, W)."""
        return self.network(x.movedim(1, -1))


ONE_BY_ONE = (
    "It reads one input at a time, which is slow: let its forward take any number, as in "
    "x.view(len(x), -1)."
)


ALONE_IN_ITS_BATCH = (
    "What it gives for an input depends on the others in the batch, as with batch norm without "
    "running statistics or a softmax over axis 0: it is given one at a time, which is slow."
)


class _OneByOne(nn.Module):
    """A network that reads one input at a time."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Any:
        """Return what it gives for N inputs."""
        # Copies: where gradients are followed, no row of a batch may be changed in place.
        rows = [self.network(row.clone()) for row in x.split(1)]
        return tree_map(lambda *parts: torch.cat(parts), *rows)


class _Unbatched(_OneByOne):
    """A network that reads one input alone, (C, *S)."""

    def forward(self, x: Tensor) -> Any:
        """Return what it gives for N inputs."""
        rows = [self.network(row.clone()) for row in x]
        return tree_map(lambda *parts: torch.stack([_row(part) for part in parts]), *rows)


NEEDS_GRADIENTS = (
    "Its forward needs gradients, as for x.register_hook(...): they are followed in every call, "
    "which is slow."
)


class UnderGradients(nn.Module):
    """A network whose forward fails where no gradient is followed."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Any) -> Any:
        """Return what it gives, without a gradient if the caller follows none."""
        if isinstance(x, fx.Proxy) or (torch.is_grad_enabled() and x.requires_grad):
            return self.network(x)
        with torch.enable_grad():
            output = self.network(x.detach().requires_grad_() * 1)  # no leaf: it may work in place
        return tree_map(lambda part: part.detach() if isinstance(part, Tensor) else part, output)


def _row(scores: Tensor) -> Tensor:
    # Some put the axis of the batch on by themselves.
    return scores[0] if scores.ndim > 1 and len(scores) == 1 else scores


def _fitting_any_number(
    network: nn.Module, hint: ModuleHint, name: str
) -> tuple[nn.Module, InputSpec, Any, list[str]]:
    network, input_spec, output, notes = _fitting_spec(network, hint, name)
    probe = probe_inputs(input_spec).to(device_of(network))
    try:
        with torch.no_grad():
            alone = network(probe[:1])
            if _same_first_row(output, alone) or not _same_first_row(network(probe[:1]), alone):
                return network, input_spec, output, notes  # the latter is random in any batch
            network = _OneByOne(network).eval()
            return network, input_spec, network(probe), [*notes, ALONE_IN_ITS_BATCH]
    except NETWORK_ERRORS as exc:
        raise BadArtifact(f"{name} takes two inputs and not one ({exc}). {_FIXED_BATCH}") from exc


def _same_first_row(output: Any, alone: Any) -> bool:
    """Return whether a network gives for the first of several inputs what it gives for it alone."""
    pairs = zip(tree_leaves(output), tree_leaves(alone), strict=False)
    return all(
        agree(one, rows[:1], 1e-3)
        for rows, one in pairs
        if isinstance(rows, Tensor) and isinstance(one, Tensor)
        # What else has rows belongs to no single input.
        if one.is_floating_point() and one.shape[:1] == (1,) and rows.shape[1:] == one.shape[1:]
    )


def fitting_network(
    network: nn.Module, hint: ModuleHint, name: str
) -> tuple[nn.Module, InputSpec, Any, list[str]]:
    """Return the network as it takes (N, C, *S), its input, its output for that, and remarks.

    It keeps nothing of having been tried out.

    Raises:
        BadArtifact: It takes none of the likely ones; says what to do.
    """
    with on_copies(network) as changes:
        fitting = _fitting_network(network, hint, name)
    if not changes.found:
        return fitting
    # What it keeps may be a record, or decide what it answers: then it answers from one state.
    from_one_state = _fitting_network(OwnState(network).eval(), hint, name)
    probe = probe_inputs(fitting[1]).to(device_of(network))
    with torch.no_grad(), on_copies(network):
        fitting[0](probe / 2)  # a largest or a mean so far are others then
        fitting[0](2 * probe)
        later = fitting[0](probe)
    if all(map(_same_part, tree_leaves(later), tree_leaves(from_one_state[2]))):
        return fitting
    return *from_one_state[:3], [*from_one_state[3], KEEPS_STATE]


def _same_part(a: Any, b: Any) -> bool:
    return not (isinstance(a, Tensor) and isinstance(b, Tensor)) or agree(a, b, 1e-4)


def _fitting_network(
    network: nn.Module, hint: ModuleHint, name: str
) -> tuple[nn.Module, InputSpec, Any, list[str]]:
    try:
        return _fitting_any_number(network, hint, name)
    except BadArtifact:
        for wrapper, note in (
            (UnderGradients, NEEDS_GRADIENTS),
            (_ChannelsLast, "It reads its channels last, and is fed so."),
            (_OneByOne, ONE_BY_ONE),
            (_Unbatched, ONE_BY_ONE),
        ):
            try:
                wrapped, input_spec, output, notes = _fitting_any_number(
                    wrapper(network).eval(), hint, name
                )
            except BadArtifact:
                continue
            return wrapped, input_spec, output, [*notes, note]
        raise


def timm_part(network: nn.Module) -> nn.Module:
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
        if shape is not None and (shape[0] != 0 or max(shape[1:]) <= _UNRESIZED):
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
        reason = wrong_value(exc)[1]
        raise BadInput(f"size=, mean= and std= do not describe an input: {reason}.") from exc


def notes_on_normalisation(input_spec: InputSpec, hint: ModuleHint, normalised: bool) -> list[str]:
    """Return what a caller should know of the means that were taken.

    Args:
        normalised: Whether the network does it itself.
    """
    if normalised or hint.mean is not None or hint.std is not None:
        return []
    if (
        len(input_spec.size) == 2
        and input_spec.mean == _IMAGENET.mean
        and input_spec.std == _IMAGENET.std
    ):
        return ["No mean= and std= were given: those of ImageNet were taken."]
    return []


def completed_hint(
    hint: ModuleHint, network: nn.Module, name: str, scores: int
) -> tuple[ModuleHint, Outputs, list[str]]:
    """Return a hint with what the network's configuration adds to it, what that says, and remarks.

    What the caller says comes first.

    Args:
        scores: How many the network gives.

    Raises:
        BadArtifact: As of `stated_outputs`.
    """
    # A function of the outputs is none of them.
    config = None if isinstance(network, FunctionOfOutputs) else _config(network)
    if config is None or hint.unit is not None or hint.output not in (None, "logits"):
        return hint, "classes", []
    labels, outputs = stated_outputs(config, name, scores, hint.labels)
    unit = "" if outputs == "value" else None
    if hint.labels or not labels or len(labels) == scores:
        return replace(hint, labels=labels, unit=unit), outputs, []
    note = (  # as of a head that was put on by hand
        f"Its config names {number_of(len(labels), 'label')}, and it gives "
        f"{number_of(scores, 'score')}: the names were left out. Give labels=."
    )
    return replace(hint, unit=unit), outputs, [note]


def _config(network: nn.Module) -> Any:
    """Return the configuration of the part that holds all weights, or None."""
    weights = {id(p) for p in network.parameters()}
    for part in network.modules():
        config = getattr(part, "config", None)
        if hasattr(config, "problem_type") or hasattr(config, "id2label"):
            return config if {id(p) for p in part.parameters()} == weights else None
    return None


def no_model_words(model: object) -> str:
    """Return what to give instead of something that is no model."""
    hint = ""
    if isinstance(model, type):
        hint = f" Give an instance of it: {model.__name__}(...)."
    elif isinstance(model, Mapping):
        hint = (
            " These are weights alone: load them into their network, model.load_state_dict(...), "
            "or make a model of their file: whylens import."
        )
    elif hasattr(model, "predict_proba"):
        hint = " Give a function that calls it, from (N, C, H, W) floats to (N, classes) scores."
    return (
        "A model is a name, an nn.Module, a function or what load_model returned, not a "
        f"{type(model).__name__}.{hint}"
    )
