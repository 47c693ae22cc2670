"""One question to one model: what every explainer is handed.

A `ForwardPass` holds what all questions about one input share; a `Subject` adds the target.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from whylens.core.errors import NeedsNotMet
from whylens.core.inputs.preprocess import Fill, baseline
from whylens.core.models.attention import Attention, Pooling, attention_of, layer_gradients
from whylens.core.models.backbone import Backbone
from whylens.core.models.feature_layer import ALL, LAST, FeatureLayer, stage_layer
from whylens.core.models.forward_pass import ForwardPass
from whylens.core.models.heads import LinearHead
from whylens.core.storage.artifacts import Artifact
from whylens.core.targets import Target


@dataclass(frozen=True)
class Subject:
    """One question to one model.

    Attributes:
        forward_pass: The input and what is computed once for it.
        target: What is explained.
        batch_size: Largest number of inputs in one forward pass; bounds memory.
        seed: Seed for methods that draw random numbers.
        stored_artifact: What the method was fitted with, where it is of that kind.
    """

    forward_pass: ForwardPass
    target: Target
    batch_size: int = 16
    seed: int = 0
    stored_artifact: Artifact | None = None

    @property
    def artifact(self) -> Artifact:
        """What the method was fitted with.

        Raises:
            NeedsNotMet: Nothing; only methods that say what they need are given it.
        """
        if self.stored_artifact is None:
            raise NeedsNotMet("nothing was fitted for this method and this model")
        return self.stored_artifact

    @property
    def backbone(self) -> Backbone:
        """The network that is asked."""
        return self.forward_pass.backbone

    @property
    def x(self) -> Tensor:
        """(1, C, *S) the input, normalised as the network wants it."""
        return self.forward_pass.x

    @property
    def size(self) -> tuple[int, ...]:
        """Spatial size of the input."""
        return tuple(self.x.shape[2:])

    @property
    def features(self) -> Tensor:
        """(1, K, *s) the feature map."""
        return self.forward_pass.features

    @cached_property
    def gradients(self) -> Tensor:
        """(1, K, *s) derivative of the target score with respect to the feature map."""
        return self.forward_pass.gradients(self.target)

    def layers(self, choice: str = LAST) -> tuple[FeatureLayer, ...]:
        """Return the layers that a visitor chose, from first to last.

        Args:
            choice: "last", "stage 1" and so on, or "mean over stages" for all stages.

        Raises:
            NeedsNotMet: The network has no feature map.
            InvalidParameter: It has no such stage.
        """
        backbone, numbers = self.backbone, [choice]
        if choice == LAST or (choice == ALL and not backbone.stages):
            return (self._last,)
        if choice == ALL:
            numbers = [f"stage {i}" for i in range(1, len(backbone.stages) + 1)]
        return tuple(
            stage_layer(backbone, self.x, name, self.target, self.batch_size) for name in numbers
        )

    @cached_property
    def _last(self) -> FeatureLayer:
        return FeatureLayer(
            LAST,
            self.features,
            self.forward_pass.gradients,
            self.forward_pass.head_logits,
            self.target,
            self.batch_size,
        )

    @cached_property
    def target_row(self) -> Tensor:
        """(C,) derivative of the target score with respect to the logits, at this input."""
        leaf = self.forward_pass.logits.clone().requires_grad_()
        with torch.enable_grad():
            score = self.target.score(leaf)[0]
        (row,) = torch.autograd.grad(score, leaf)
        return row[0]

    @cached_property
    def embedding(self) -> Tensor:
        """(D,) the vector that stands for this input: what the last linear layer reads."""
        with torch.no_grad():
            return self.backbone.embed(self.x)[0]

    @cached_property
    def embedding_weights(self) -> Tensor:
        """(D,) derivative of the target score with respect to `embedding`, at this input."""
        weight = self.backbone.embedder.weight
        if weight is not None:
            return self.target_row @ weight
        return self.gradients[0].flatten(1).sum(-1)

    @property
    def score(self) -> float:
        """The target score of the input."""
        return float(self.target.score(self.forward_pass.logits)[0])

    @cached_property
    def rounding(self) -> float:
        """Differences of the target score up to this are rounding, not evidence.

        The same input in another batch takes another order of sums: its float32 logits then differ
        by a few units in their last place, here up to 32, and the score by what they carry over.
        """
        logits = self.forward_pass.logits
        carried_error = 32 * float(logits.abs().max()) * float(self.target_row.abs().sum())
        kind = torch.finfo(logits.dtype)
        return kind.eps * (carried_error + abs(self.score)) + kind.tiny

    @property
    def unit(self) -> str:
        """What one unit of the score is."""
        return self.target.unit

    @property
    def unit_per_place(self) -> str:
        """What values stand for that are shared out over the input: as "logit per pixel"."""
        return f"{self.unit} per {'pixel' if len(self.size) == 2 else 'point'}"

    @property
    def linear_head(self) -> LinearHead:
        """The head's weights, where it is pool-then-linear.

        Raises:
            NeedsNotMet: It is not.
        """
        if self.backbone.linear is None:
            raise NeedsNotMet(f"The head of {self.backbone.name} is not pool-then-linear.")
        return self.backbone.linear

    def generator(self) -> torch.Generator:
        """Return a fresh generator with this question's seed."""
        return torch.Generator().manual_seed(self.seed)

    def baseline(self, fill: Fill) -> Tensor:
        """Return (1, C, *S) an input that shows nothing.

        Args:
            fill: "black", "grey", "mean" (of this input) or "blur", defined in pixel space.
        """
        return baseline(self.x, self.backbone.input_spec, fill)

    def fast_logits(self, inputs: Tensor) -> Tensor:
        """Return (N, C) logits of (N, C, *S) inputs, without gradients, in bounded pieces."""
        with torch.no_grad():
            pieces = [self.backbone.fast_logits(p) for p in inputs.split(self.batch_size)]
        return torch.cat(pieces)

    def scores(self, inputs: Tensor) -> Tensor:
        """Return (N,) target scores of (N, C, *S) inputs, without gradients, in bounded pieces."""
        return self.target.score(self.fast_logits(inputs))

    def masked_scores(
        self, masks: Iterable[Tensor], fill: Tensor, *, quantity: Target | None = None
    ) -> Iterator[Tensor]:
        """Yield (n,) target scores of the input seen through masks, a bounded piece at a time.

        The one evaluator of all methods that ask the network about masked inputs: it draws the
        masks as it needs them, so that memory does not grow and a caller may stop at any piece.

        Args:
            masks: (n, 1 or C, *S) pieces of any n, in [0, 1]: 1 shows the input, 0 the fill.
            fill: (1, C, *S), or one per mask (n, C, *S) where masks come in a single piece.
        """
        target = quantity or self.target
        for given_mask in masks:
            fills = fill.expand(len(given_mask), *fill.shape[1:])
            for mask, empty in zip(
                given_mask.split(self.batch_size), fills.split(self.batch_size), strict=True
            ):
                visible = empty + mask * (self.x - empty)
                yield target.score(self.fast_logits(visible))

    def window_scores(self, boxes: Sequence[tuple[slice, ...]], fill: Tensor) -> Iterator[Tensor]:
        """Yield (n,) target scores of the input with each box filled, a bounded piece at a time.

        Args:
            boxes: Of one size, as slices of the spatial axes; at most `batch_size` go into a piece.
            fill: (1, C, *S) what is shown inside them.
        """
        logits = self.backbone.occluded_logits(self.x, fill)
        for start in range(0, len(boxes), self.batch_size):
            yield self.target.score(logits(boxes[start : start + self.batch_size]))

    def feature_logits(self, maps: Tensor) -> Tensor:
        """Return (N, C) logits of (N, K, *s) feature maps in place of this input's own.

        Without gradients, in bounded pieces; prefix tokens stay this input's.
        """
        return self._last.logits(maps)

    def feature_gradients(self, maps: Tensor, *, quantity: Target | None = None) -> Tensor:
        """Return (N, K, *s): derivative of each map's target score with respect to itself.

        Args:
            maps: (N, K, *s) feature maps in place of this input's own.
        """
        target, pieces = quantity or self.target, []
        for piece in maps.split(self.batch_size):
            leaf = piece.detach().clone().requires_grad_()
            with torch.enable_grad():
                total = target.score(self.forward_pass.head_logits(leaf)).sum()
            (gradient,) = torch.autograd.grad(total, leaf)
            pieces.append(gradient)
        return torch.cat(pieces)

    def input_gradients(self, inputs: Tensor) -> Tensor:
        """Return (N, C, *S): derivative of each input's target score with respect to itself."""
        pieces = []
        for piece in inputs.split(self.batch_size):
            leaf = piece.detach().clone().requires_grad_()
            with torch.enable_grad():
                total = self.target.score(self.backbone.fast_logits(leaf)).sum()
            (gradient,) = torch.autograd.grad(total, leaf)
            pieces.append(gradient)
        return torch.cat(pieces)

    def attention(self, *, gradients: bool = False) -> Attention:
        """Return what every layer attends to for this input.

        Args:
            gradients: Whether to take the derivatives of the target score with respect to it too.

        Raises:
            NeedsNotMet: The network does not attend to all of its tokens in every layer.
        """
        backbone, score = self.backbone, self.target.score if gradients else None
        return attention_of(backbone.module, backbone.attention_layout, self.x, score)

    def attention_gradients(self, pooling: Pooling = "all tokens") -> tuple[Tensor, ...]:
        """Return (heads, T, T) for every layer: how its attention moves its own target score.

        Args:
            pooling: Which tokens of a layer's output are scored, as in `layer_gradients`.

        Raises:
            NeedsNotMet: The network's layers cannot be scored one by one.
        """
        backbone = self.backbone
        return layer_gradients(
            backbone.module, backbone.attention_layout, self.x, self.target.score, pooling=pooling
        )
