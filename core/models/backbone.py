"""A frozen network as the engine sees it: logits, features, head, and what it provides.

May touch torch and the files beside it; knows no image formats and no methods.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from whylens.core.errors import BadArtifact, NeedsNotMet
from whylens.core.models.attention import AttentionLayout, layout_or_reason
from whylens.core.models.embeddings import Embedder, embedder_of
from whylens.core.models.head_probe import LinearHead, explain_unmet, gradient_problem, linear_head
from whylens.core.models.layouts import Features
from whylens.core.models.network_errors import NETWORK_ERRORS
from whylens.core.models.spec import InputSpec
from whylens.core.models.split import Split, find_split, same_split_on
from whylens.core.models.stages import Stage, stages_of
from whylens.core.needs import Need
from whylens.core.speed.folded import fold_batchnorm
from whylens.core.speed.incremental import Box, IncrementalNetwork
from whylens.core.speed.windows import covered, local_network

Found = TypeVar("Found")


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
    """

    name: str
    digest: str
    licence: str = "not stated"
    source: str = "given by the caller"
    trained: bool = True
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Backbone:
    """One network, frozen, in eval mode, immutable from here on.

    Attributes:
        module: The network itself, for third-party plugins that must hook; no built-in touches it.
        identity: Name, digest, licence.
        spec: What it wants to be fed.
        labels: One label per class.
        split: Features and head, or None where it cannot be cut.
        linear: Weights of a pool-then-linear head, or None.
        unmet: For every need that is not met, why.
    """

    module: nn.Module
    identity: ModelSource
    spec: InputSpec
    labels: tuple[str, ...]
    split: Split | None
    linear: LinearHead | None
    unmet: Mapping[Need, str] = field(default_factory=dict)
    _known: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def once(self, key: str, find: Callable[[Backbone], Found]) -> Found:
        """Return what `find` finds out about this network, found out once and kept with it.

        Methods are stateless and networks frozen: what holds of a network is kept here.

        Args:
            key: The method's name, and what it is.
            find: Called with this network; two threads may both call it.
        """
        if key not in self._known:
            self._known[key] = find(self)
        found: Found = self._known[key]
        return found

    @property
    def name(self) -> str:
        """The name under which it was loaded."""
        return self.identity.name

    @property
    def provides(self) -> frozenset[Need]:
        """The needs that this network meets."""
        return frozenset(Need) - frozenset(self.unmet)

    @property
    def device(self) -> torch.device:
        """Where its parameters are."""
        return next((p.device for p in self.module.parameters()), torch.device("cpu"))

    @cached_property
    def bytes(self) -> int:
        """Bytes of its parameters and buffers; twice that where a folded copy may join them."""
        tensors = [*self.module.parameters(), *self.module.buffers()]
        return 2 * sum(t.numel() * t.element_size() for t in tensors)

    def why_not(self, needs: frozenset[Need]) -> str | None:
        """Return in words why `needs` are not met, or None if they are."""
        return explain_unmet(needs, dict(self.unmet))

    def logits(self, x: Tensor) -> Tensor:
        """Return (N, C) logits of (N, C, *S) inputs, with gradient if the caller enabled it."""
        return as_two_logits(self.module(x))

    def features(self, x: Tensor) -> Features:
        """Return the feature map of (N, C, *S) inputs.

        Raises:
            NeedsNotMet: This network has none.
        """
        return self._cut.features(x)

    def head(self, features: Features) -> Tensor:
        """Return (N, C) logits of a feature map.

        Raises:
            NeedsNotMet: This network has none.
        """
        return as_two_logits(self._cut.head(features))

    @property
    def _cut(self) -> Split:
        if self.split is None:
            reason = self.unmet[Need.SPATIAL_FEATURES]
            raise NeedsNotMet(f"{self.name} has no feature map to look at: {reason}.")
        return self.split

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        """Where feature maps other than the last can be read and replaced, from first to last."""
        return stages_of(self.module, self.probe_inputs()[:1])

    @cached_property
    def folded(self) -> nn.Module:
        """The same function, faster: a checked private copy, or the network itself."""
        return fold_batchnorm(self.module, self.probe_inputs())

    def fast_logits(self, x: Tensor) -> Tensor:
        """Return (N, C) logits by the folded copy; equal to `logits` within 1e-4 relative."""
        return as_two_logits(self.folded(x))

    @cached_property
    def embedder(self) -> Embedder:
        """How it turns inputs into vectors that can be compared.

        Raises:
            NeedsNotMet: It cannot.
        """
        return embedder_of(self)

    def embed(self, x: Tensor) -> Tensor:
        """Return (N, D) vectors of (N, C, *S) inputs: what the last linear layer reads."""
        return self.embedder.embed(x)

    @cached_property
    def attention_layout(self) -> AttentionLayout | str:
        """Where the tokens lie to which every layer attends, or why there are none such."""
        return layout_or_reason(self)

    @cached_property
    def local(self) -> IncrementalNetwork | None:
        """The folded copy for changes in one place, checked; None where nothing is gained."""
        return local_network(self.folded, self.module, self.probe_inputs())

    def occluded_logits(self, x: Tensor, fill: Tensor) -> Callable[[Sequence[Box]], Tensor]:
        """Return what gives (N, C) logits of `x` with each of N boxes filled, without gradients.

        What the boxes cannot change is computed here, once, where the network allows it; logits
        equal `logits` of the covered inputs within 1e-4 relative.

        Args:
            x: (1, C, *S).
            fill: (1, C, *S) what is shown inside the boxes.
        """
        done = None if self.local is None else self.local.on(x)

        def logits(boxes: Sequence[Box]) -> Tensor:
            raw = None if done is None else done.logits(boxes, fill)
            if raw is not None:
                return as_two_logits(raw)
            with torch.no_grad():
                return self.fast_logits(covered(x, fill, boxes))

        return logits

    @cached_property
    def _quick(self) -> Split:
        cut = self._cut
        folded = self.folded
        return cut if folded is self.module else same_split_on(cut, folded, self.probe_inputs()[:1])

    def fast_features(self, x: Tensor) -> Features:
        """Return the feature map by the folded copy; equal to `features` within 1e-4 relative.

        Raises:
            NeedsNotMet: This network has none.
        """
        return self._quick.features(x)

    def prepare(self) -> Backbone:
        """Return this network with its folded copy built, so that the first answer is no slower."""
        _ = self.folded if self.split is None else self._quick
        return self

    def probe_inputs(self) -> Tensor:
        """Return (2, C, *S) seeded inputs that are not constant."""
        return probe_inputs(self.spec).to(self.device)


def probe_inputs(spec: InputSpec) -> Tensor:
    """Return (2, C, *S) seeded inputs with coarse and fine structure.

    Args:
        spec: What the network wants to be fed.
    """
    generator = torch.Generator().manual_seed(20)
    fine = torch.randn(2, spec.channels, *spec.size, generator=generator)
    coarse_size = [max(1, n // 16) for n in spec.size]
    coarse = torch.randn(2, spec.channels, *coarse_size, generator=generator)
    for axis, n in enumerate(spec.size):
        coarse = coarse.repeat_interleave(-(-n // coarse.shape[axis + 2]), dim=axis + 2)
        coarse = coarse.narrow(axis + 2, 0, n)
    return coarse + 0.5 * fine


def _by(size: tuple[int, ...]) -> str:
    return " x ".join(str(n) for n in size)


def as_two_logits(logits: Tensor) -> Tensor:
    """Return logits with at least two classes.

    A network with one output z has the classes "no" and "yes" with logits -z/2 and +z/2: their
    softmax is sigmoid(z), their difference is z, and either side can be explained.

    Args:
        logits: (N, C).
    """
    if logits.ndim == 2 and logits.shape[1] == 1:
        return torch.cat([-logits / 2, logits / 2], dim=1)
    return logits


def wrap(
    module: nn.Module,
    *,
    spec: InputSpec,
    labels: tuple[str, ...] = (),
    identity: ModelSource | None = None,
) -> Backbone:
    """Return any network as a backbone: frozen, split and probed.

    A network is cut where it says: methods `features(x)` and `head(f)`, or timm's
    `forward_features` and `forward_head`; else its traced graph is cut at the last feature map.

    Args:
        module: The network; it is put into eval mode and frozen for good.
        spec: What it wants to be fed.
        labels: One label per class; "class 0", ... where empty.
        identity: Where it came from; by default its class name and the hash of its parameters.

    Raises:
        BadArtifact: It gives no (N, C) logits for such inputs.
    """
    from whylens.core.storage.files import parameters_sha256

    module.eval()
    for parameter in module.parameters():  # a scripted network has no requires_grad_ of its own
        parameter.requires_grad_(False)
    probe = probe_inputs(spec).to(next((p.device for p in module.parameters()), "cpu"))
    identity = identity or ModelSource(type(module).__name__, parameters_sha256(module))
    try:
        with torch.no_grad():
            whole = module(probe)
    except NETWORK_ERRORS as exc:
        said = " ".join(str(exc).split())[:200] or "it refuses their shape"
        raise BadArtifact(
            f"{identity.name} cannot take inputs of {spec.channels} channels and size "
            f"{_by(spec.size)}: {said}. Correct the input size and channels in its manifest."
        ) from exc
    if not isinstance(whole, Tensor):
        raise BadArtifact(
            f"{identity.name} gives several outputs, not class scores. "
            "Choose a network that classifies."
        )
    logits = as_two_logits(whole)
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise BadArtifact(
            f"{identity.name} gives an output of shape {tuple(logits.shape)}, not class scores. "
            "Choose a network that classifies."
        )
    reasons: dict[Need, str] = {}
    problem = gradient_problem(lambda x: as_two_logits(module(x)), probe)
    if problem:
        reasons[Need.GRADIENTS] = problem
    split, linear = None, None
    try:
        split = find_split(module, probe, whole=whole)
        with torch.no_grad():
            features = split.features(probe[:1])
        if features.map[0, 0].numel() < 2:
            reasons[Need.SPATIAL_FEATURES] = "its last feature map has a single position"
    except NeedsNotMet as exc:
        reasons[Need.SPATIAL_FEATURES] = str(exc)
        reasons[Need.POOLED_LINEAR_HEAD] = "there is no feature map to pool"
    if split is not None:
        cut = split
        try:
            linear = linear_head(lambda f: as_two_logits(cut.head(f)), features)
        except NeedsNotMet as exc:
            reasons[Need.POOLED_LINEAR_HEAD] = str(exc)
    classes = logits.shape[1]
    known = labels or tuple(f"class {i}" for i in range(classes))
    if len(known) != classes:
        raise BadArtifact(
            f"{identity.name} has {classes} classes but {len(known)} labels; correct its labels."
        )
    return Backbone(module, identity, spec, known, split, linear, MappingProxyType(reasons))
