"""A frozen network as the engine sees it: logits, features, head, and what it provides."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from whylens.core.errors import NETWORK_ERRORS, BadArtifact, NeedsNotMet
from whylens.core.inputs.spec import InputSpec, probe_inputs
from whylens.core.models.attention import AttentionLayout, layout_or_reason
from whylens.core.models.footprint import bytes_per_input
from whylens.core.models.heads import (
    Embedder,
    LinearHead,
    embedder_of,
    gradient_problem,
    linear_head,
)
from whylens.core.models.layouts import Features, as_two_logits
from whylens.core.models.own_input import answer_of
from whylens.core.models.probabilities import LABEL_KINDS, LogitReader, Reading, read_scores
from whylens.core.models.split import Split, find_split, same_split_on
from whylens.core.models.stages import Stage, stages_of
from whylens.core.needs import Need
from whylens.core.speed import Box, faster, occluded_logits, packed_weights
from whylens.core.storage.cache import ByteLRU
from whylens.core.targets import Outputs, probabilities_of
from whylens.core.words import number_of

Value = TypeVar("Value")
MOST_FACTS = 256  # that are found out once for a network; parameters of methods make any number


@dataclass(frozen=True)
class ModelSource:
    """Where a network came from, as shown to visitors and written into manifests.

    Attributes:
        name: The name under which it was loaded.
        digest: sha256 of its weights file, or of its parameters if there was none.
        licence: Licence of the weights, in words.
        source: Where the weights came from, in words.
        trained: False for random weights: the page then shows a banner.
        notes: Anything a visitor should know.
        folder: Of a local checkpoint; what methods were fitted with may lie inside.
        output: Of several outputs of a module, the name or number of the one that is explained.
    """

    name: str
    digest: str
    licence: str = "not stated"
    source: str = "given by the caller"
    trained: bool = True
    notes: tuple[str, ...] = ()
    folder: Path | None = None
    output: str | int | None = None


@dataclass(frozen=True)
class Backbone:
    """A network, frozen, in eval mode, immutable from here on.

    Attributes:
        module: The network itself, for third-party plugins that must hook; no built-in touches it.
        identity: Name, digest, licence.
        input_spec: What it wants to be fed.
        labels: One label per class.
        split: Features and head, or None where it cannot be cut.
        linear: Weights of a pool-then-linear head, or None.
        unmet: For every need that is not met, why.
        outputs: Whether its scores are of classes, of labels or a value, as in `Target`.
        unit: Of a value, as in "years".
    """

    module: nn.Module
    identity: ModelSource
    input_spec: InputSpec
    labels: tuple[str, ...]
    split: Split | None
    linear: LinearHead | None
    unmet: Mapping[Need, str] = field(default_factory=dict)
    outputs: Outputs = "classes"
    unit: str = ""
    _facts: ByteLRU[str, Any] = field(
        default_factory=lambda: ByteLRU(MOST_FACTS, lambda _: 1),
        init=False, repr=False, compare=False,
    )  # fmt: skip

    def once(self, key: str, compute: Callable[[Backbone], Value]) -> Value:
        """Return what `compute` returns for this network, computed at the first call only.

        Methods are stateless and networks frozen: what holds of a network is cached here. Of many
        keys, as parameters make them, the longest unused are forgotten, and computed anew.

        Args:
            compute: Called with this network.
        """
        value: Value = self._facts.get(key, lambda: compute(self))
        return value

    @property
    def name(self) -> str:
        """The name under which it was loaded."""
        return self.identity.name

    @property
    def device(self) -> torch.device:
        """Where its parameters are."""
        return next((p.device for p in self.module.parameters()), torch.device("cpu"))

    @property
    def bytes(self) -> int:
        """Bytes of its parameters and buffers, and of those of its faster copy where it has one."""
        modules = [self.module]
        if "fast_module" in vars(self) and self.fast_module is not self.module:
            modules.append(self.fast_module)
        parts = [t for m in modules for t in (*m.parameters(), *m.buffers(), *packed_weights(m))]
        # The copy shares what it does not change.
        tensors = {id(t) if t.is_mkldnn else t.data_ptr(): t for t in parts}
        return sum(t.numel() * t.element_size() for t in tensors.values())

    @cached_property
    def per_input_bytes(self) -> int:
        """Bytes that one input leaves inside it where gradients are followed."""
        return bytes_per_input(self.module, self.probe_inputs()[:1])

    @property
    def inputs_in_cache(self) -> int:
        """How many inputs at a time are quickest: what a pass leaves stays in a processor's cache.

        At 224 x 224 pixels EfficientNet-Lite0 took a third longer for each of 16 than of 4.
        """
        if self.device.type != "cpu":
            return sys.maxsize
        return max(4, 100 * 2**20 // max(1, self.per_input_bytes))

    def why_not(self, needs: frozenset[Need]) -> str | None:
        """Return in words why `needs` are not met, or None if they are."""
        unmet = [need for need in Need if need in needs and need in self.unmet]
        if not unmet:
            return None
        return "; ".join(f"needs {need.value}: {self.unmet[need]}" for need in unmet) + "."

    @cached_property
    def has_single_score(self) -> bool:
        """Whether the network itself gives one score, of which `logits` makes two."""
        with torch.no_grad():
            scores: Tensor = self.module(self.probe_inputs()[:1])
        return scores.shape[1] == 1

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return (N, C) probabilities of (N, C) logits: of labels, they do not add up to 1."""
        return probabilities_of(logits, self.outputs)

    def logits(self, x: Tensor) -> Tensor:
        """Return (N, C) logits of (N, C, *S) inputs, with gradient if the caller enabled it."""
        return as_two_logits(self.module(x))

    def features(self, x: Tensor) -> Features:
        """Return the feature map of (N, C, *S) inputs.

        Raises:
            NeedsNotMet: This network has none.
        """
        return self._required_split.features(x)

    def head(self, features: Features) -> Tensor:
        """Return (N, C) logits of a feature map.

        Raises:
            NeedsNotMet: This network has none.
        """
        return as_two_logits(self._required_split.head(features))

    @property
    def _required_split(self) -> Split:
        if self.split is None:
            reason = self.unmet[Need.SPATIAL_FEATURES]
            raise NeedsNotMet(f"{self.name} has no feature map to look at: {reason}.")
        return self.split

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        """Where feature maps other than the last can be read and replaced, from first to last."""
        return stages_of(self.module, self.probe_inputs()[:1])

    @cached_property
    def fast_module(self) -> nn.Module:
        """The same function, faster: a checked private copy, or the network itself."""
        return faster(self.module, self.probe_inputs())

    def fast_logits(self, x: Tensor) -> Tensor:
        """Return (N, C) logits by the faster copy; equal to `logits` within 1e-4 relative."""
        return as_two_logits(self.fast_module(x))

    @cached_property
    def embedder(self) -> Embedder:
        """How it turns inputs into vectors that can be compared.

        Raises:
            NeedsNotMet: It cannot.
        """
        return embedder_of(self.module, self.linear, self.split, self.probe_inputs())

    def embed(self, x: Tensor) -> Tensor:
        """Return (N, D) vectors of (N, C, *S) inputs: what the last linear layer reads."""
        return self.embedder.embed(x)

    @cached_property
    def attention_layout(self) -> AttentionLayout | str:
        """Where the tokens lie to which every layer attends, or why there are none such."""
        return layout_or_reason(self.module, self.split, self.probe_inputs()[:1])

    @cached_property
    def _occluded_logits(self) -> Callable[[Tensor, Tensor], Callable[[Sequence[Box]], Tensor]]:
        return occluded_logits(self.fast_module, self.module, self.probe_inputs())

    def occluded_logits(self, x: Tensor, fill: Tensor) -> Callable[[Sequence[Box]], Tensor]:
        """Return a function of N boxes to (N, C) logits of `x` with each of them filled.

        What the boxes cannot change is computed here, once, where the network allows it; logits
        equal `logits` of the occluded inputs within 1e-4 relative, without gradients.

        Args:
            x: (1, C, *S).
            fill: (1, C, *S) what is shown inside the boxes.
        """
        logits = self._occluded_logits(x, fill)
        return lambda boxes: as_two_logits(logits(boxes))

    @cached_property
    def _fast_split(self) -> Split:
        split, fast = self._required_split, self.fast_module
        if fast is self.module:
            return split
        return same_split_on(split, fast, self.probe_inputs()[:1])

    def fast_features(self, x: Tensor) -> Features:
        """Return the feature map by the faster copy; equal to `features` within 1e-4 relative.

        Raises:
            NeedsNotMet: This network has none.
        """
        return self._fast_split.features(x)

    def prepare(self) -> Backbone:
        """Return this network with its faster copy built, so that the first answer is no slower."""
        _ = self.fast_module if self.split is None else self._fast_split
        return self

    def probe_inputs(self) -> Tensor:
        """Return (2, C, *S) seeded inputs that are not constant."""
        return probe_inputs(self.input_spec).to(self.device)


def wrap(
    module: nn.Module,
    *,
    input_spec: InputSpec,
    labels: tuple[str, ...] = (),
    identity: ModelSource | None = None,
    outputs: Outputs = "classes",
    unit: str = "",
) -> Backbone:
    """Return any network as a backbone: frozen, split and probed.

    A network is cut where it says: methods `features(x)` and `head(f)`, or timm's
    `forward_features` and `forward_head`; else its traced graph is cut at the last feature map.

    Args:
        module: The network; it is put into eval mode and frozen for good.
        labels: One label per class; "class 0", ... where empty.
        identity: Where it came from; by default its class name and the hash of its parameters.
        outputs: Whether its scores are of classes, of labels or a value, as in `Target`.
        unit: Of a value.

    Raises:
        BadArtifact: It gives no (N, C) logits for such inputs.
    """
    from whylens.core.storage.files import parameters_sha256

    module.eval()
    for parameter in module.parameters():  # a scripted network has no requires_grad_ of its own
        parameter.requires_grad_(False)
    probe = probe_inputs(input_spec).to(next((p.device for p in module.parameters()), "cpu"))
    identity = identity or ModelSource(type(module).__name__, parameters_sha256(module))
    module, raw_logits = _raw_logits(module, probe, input_spec, identity.name)
    if not bool(torch.isfinite(raw_logits).all()):
        _blame_weights(module, identity.name)
    kind, note = Reading(None, "")
    if outputs != "value":
        kind, note = read_scores(module, raw_logits, input_spec)
    if note and note not in identity.notes:
        identity = replace(identity, notes=(*identity.notes, note))
    if kind is not None:
        module = LogitReader(module, kind).eval()
        module, raw_logits = _raw_logits(module, probe, input_spec, identity.name)
        if kind in LABEL_KINDS and raw_logits.shape[1] > 1:
            outputs = "labels"
    if outputs == "value":
        classes, labels = raw_logits.shape[1], labels or ("value",)
    else:
        classes = as_two_logits(raw_logits).shape[1]
        labels = labels or tuple(f"class {i}" for i in range(classes))
    if outputs == "value" and (classes, len(labels)) != (1, 1):
        raise BadArtifact(
            f"{identity.name} gives {number_of(classes, 'number')} and has "
            f"{number_of(len(labels), 'label')}; a value is one "
            "number with one label. Correct its manifest, or explain a function of them: target=."
        )
    if len(labels) == raw_logits.shape[1] == 1 and outputs != "value":
        # One score z: both sides of it can be asked for, sigmoid(z) decides.
        labels, outputs = (f"not {labels[0]}", labels[0]), "classes"
    if len(labels) != classes and raw_logits.shape[1] == 1:
        raise BadArtifact(
            f"{identity.name} gives one score, which decides between two labels, and has "
            f"{number_of(len(labels), 'label')}. Give two; or one, of what a high score means."
        )
    if len(labels) != classes:
        raise BadArtifact(
            f"{identity.name} has {number_of(classes, 'class', 'classes')} but "
            f"{number_of(len(labels), 'label')}; correct its labels."
        )
    unmet: dict[Need, str] = {}
    problem = gradient_problem(lambda x: as_two_logits(module(x)), probe)
    if problem:
        unmet[Need.GRADIENTS] = problem
    try:
        split = find_split(module, probe, logits=raw_logits)
    except NeedsNotMet as exc:
        unmet[Need.SPATIAL_FEATURES] = str(exc)
        unmet[Need.POOLED_LINEAR_HEAD] = "there is no feature map to pool"
        reasons = MappingProxyType(unmet)
        return Backbone(module, identity, input_spec, labels, None, None, reasons, outputs, unit)
    with torch.no_grad():
        features = split.features(probe[:1])
    if features.map[0, 0].numel() < 2:
        unmet[Need.SPATIAL_FEATURES] = "its last feature map has a single position"
    linear = None
    try:
        linear = linear_head(lambda f: as_two_logits(split.head(f)), features)
    except NeedsNotMet as exc:
        unmet[Need.POOLED_LINEAR_HEAD] = str(exc)
    reasons = MappingProxyType(unmet)
    return Backbone(module, identity, input_spec, labels, split, linear, reasons, outputs, unit)


def _blame_weights(module: nn.Module, name: str) -> None:
    for key, tensor in module.state_dict().items():
        if isinstance(tensor, Tensor) and not bool(torch.isfinite(tensor).all()):
            raise BadArtifact(
                f"The weights of {name} hold NaN or infinite values, the first in {key}: its "
                "training diverged or its file is damaged. Load other weights."
            )


def channels_problem(module: nn.Module, channels: int) -> str:
    """Return why a network is fed other channels than it reads, and what to do; "" where not."""
    first_channels = next((p.shape[1] for p in module.parameters() if p.ndim > 2), channels)
    if first_channels == channels:
        return ""
    values = "1 value" if channels == 1 else f"{channels} values each"
    return (
        f"its first layer reads {number_of(first_channels, 'channel')}, and mean and std have "
        f"{values}. Give {first_channels} of each; or, where it was meant to read {channels}, "
        f"build it so (in timm by in_chans={channels})."
    )


def _raw_logits(
    module: nn.Module, probe: Tensor, input_spec: InputSpec, name: str
) -> tuple[nn.Module, Tensor]:
    """Return the network, which leaves its input as it is, and its logits."""
    try:
        module, logits = answer_of(module, probe)
    except NETWORK_ERRORS as exc:
        reason = " ".join(str(exc).split())[:200] or "it refuses their shape"
        size = " x ".join(str(n) for n in input_spec.size)
        remedy = f"{reason}. Correct the input size and channels in its manifest."
        raise BadArtifact(
            f"{name} cannot take inputs of {number_of(input_spec.channels, 'channel')} "
            f"and size {size}: {channels_problem(module, input_spec.channels) or remedy}"
        ) from exc
    if not isinstance(logits, Tensor):
        raise BadArtifact(
            f"{name} gives several outputs, not class scores. Choose a network that classifies."
        )
    if logits.ndim != 2 or logits.shape[1] < 1:
        raise BadArtifact(
            f"{name} gives an output of shape {tuple(logits.shape)}, not class scores. "
            "Choose a network that classifies."
        )
    if len(logits) != len(probe):
        raise BadArtifact(
            f"{name} gives an output of shape {tuple(logits.shape)} for {len(probe)} inputs, not "
            "one row of class scores for each. Return (N, classes)."
        )
    return module, logits
