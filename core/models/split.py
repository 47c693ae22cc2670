"""Where a network is cut into features and head; proposals are believed only once checked.

May touch torch and the layouts. No hooks: networks are cut by calling their own two halves, by
shallow clones whose parameters are shared, or by splitting their traced graph.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, fx, nn

from whylens.core.errors import NeedsNotMet
from whylens.core.models.fx_split import Halves, graph_proposals, weighted_sum
from whylens.core.models.layouts import Features, Layout, layout_of
from whylens.core.models.network_errors import NETWORK_ERRORS

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Split:
    """A network in two halves.

    Attributes:
        trunk: Input to raw features.
        rest: Raw features to logits.
        layout: How raw features become (N, K, *S) and back.
        where: Which features they are, in words.
        again: Cuts a copy of the same network at the same place.
    """

    trunk: Callable[[Tensor], Tensor]
    rest: Callable[[Tensor], Tensor]
    layout: Layout
    where: str
    again: Callable[[nn.Module], Split]

    def features(self, x: Tensor) -> Features:
        """Return the feature map of (N, C, *S) inputs."""
        return self.layout.read(self.trunk(x))

    def head(self, features: Features) -> Tensor:
        """Return (N, C) logits of a feature map."""
        return self.rest(self.layout.write(features))


def find_split(module: nn.Module, probe: Tensor, *, whole: Tensor | None = None) -> Split:
    """Return a split of `module` whose halves reproduce its logits and whose map is alive.

    A map with a single position is returned only where no other cut works.

    Args:
        module: A frozen network in eval mode.
        probe: (2, C, *S) inputs of the size that will be used, not constant.
        whole: What `module` gives for `probe`, where that is known already.

    Raises:
        NeedsNotMet: No cut gives a feature map on which the class score depends, with the reasons.
    """
    if whole is None:
        with torch.no_grad():
            whole = module(probe)
    reasons: list[str] = []
    single: Split | None = None
    for where, halves in _proposals(module, probe):
        try:
            split, positions = _checked(module, probe, whole, where, halves)
        except NeedsNotMet as misfit:
            reasons.append(str(misfit))
        except NETWORK_ERRORS as misfit:
            log.info("%s cannot be cut at %s: %s", type(module).__name__, where, misfit)
        else:
            if positions > 1:
                return split
            single = single or split
    if single is not None:
        return single
    said = list(dict.fromkeys(reasons)) or ["it cannot be cut into a feature map and a head"]
    raise NeedsNotMet(", and ".join(said[:2]))


def same_split_on(
    split: Split, other: nn.Module, probe: Tensor, *, tolerance: float = 1e-4
) -> Split:
    """Return `other` cut where `split` is, or `split` itself where their features disagree.

    Args:
        split: Of the network as its author wrote it.
        other: A copy that should compute the same, faster.
        probe: (N, C, *S) inputs that are not constant.
        tolerance: Largest accepted difference of features, relative to the largest feature.
    """
    with torch.no_grad():
        wanted = split.features(probe)
        try:
            cut = split.again(other)
            got = cut.features(probe)
        except (*NETWORK_ERRORS, fx.proxy.TraceError) as misfit:
            log.info("A copy of %s cannot be cut: %s", type(other).__name__, misfit)
            return split
    pairs = [(got.map, wanted.map)]
    if got.prefix_tokens is not None and wanted.prefix_tokens is not None:
        pairs.append((got.prefix_tokens, wanted.prefix_tokens))
    same = (got.prefix_tokens is None) == (wanted.prefix_tokens is None)
    if same and all(_agree(one, two, tolerance) for one, two in pairs):
        return cut
    log.info("The features of a copy of %s disagree", type(other).__name__)
    return split


def _agree(got: Tensor, wanted: Tensor, tolerance: float) -> bool:
    if got.shape != wanted.shape:
        return False
    if wanted.numel() == 0:
        return True
    return float((got - wanted).abs().max()) <= tolerance * float(wanted.abs().max())


def _checked(
    module: nn.Module,
    probe: Tensor,
    whole: Tensor,
    where: str,
    halves: Callable[[nn.Module], Halves],
) -> tuple[Split, int]:
    trunk, rest = halves(module)
    with torch.no_grad():
        raw = trunk(probe)
        layout = layout_of(raw, tuple(probe.shape[2:]), module)

    def again(other: nn.Module) -> Split:
        return Split(*halves(other), layout, where, again)

    split = Split(trunk, rest, layout, where, again)
    features = layout.read(raw)
    scale = float(whole.abs().max()) + 1e-12
    leaf = features.map.detach().requires_grad_()
    with torch.enable_grad():
        logits = split.head(Features(leaf, features.prefix_tokens))
        if not float((logits.detach() - whole).abs().max()) <= 1e-3 * scale:
            raise NeedsNotMet("its two halves do not add up to the whole network")
        (gradient,) = torch.autograd.grad(weighted_sum(logits), leaf, allow_unused=True)
    felt = 0 if gradient is None else int((gradient.abs().sum((0, 1)) > 0).sum())
    if felt == 0:
        raise NeedsNotMet("its score is not read from the positions of its last feature map")
    if felt == 1 < leaf[0, 0].numel():
        # A class token taken for a patch looks like this.
        raise NeedsNotMet("its score is read from a single position of its last feature map")
    return split, leaf[0, 0].numel()


def _proposals(
    module: nn.Module, probe: Tensor
) -> Iterator[tuple[str, Callable[[nn.Module], Halves]]]:
    if offers(module, "features", "head"):
        yield "features", lambda m: _methods(m, "features", "head")
    if offers(module, "forward_features", "forward_head"):
        yield "last feature map", lambda m: _methods(m, "forward_features", "forward_head")
        if isinstance(getattr(module, "blocks", None), nn.Sequential | nn.ModuleList):
            stem = torch.zeros_like(probe[:1])
            yield "tokens entering the last block", lambda m: _around_last_block(m, stem)
    yield from graph_proposals(module, probe)


def offers(module: nn.Module, *names: str) -> bool:
    """Return whether a network has methods of these names."""
    # A submodule called `features` is a stage of somebody's Sequential, not a promise.
    parts = [getattr(module, name, None) for name in names]
    return all(callable(part) for part in parts) and not isinstance(parts[0], nn.Module)


def _methods(module: nn.Module, trunk: str, rest: str) -> Halves:
    return getattr(module, trunk), getattr(module, rest)


class _Tap(nn.Module):
    """Stands in for a block and keeps what enters it; made anew for every call."""

    def forward(self, x: Tensor, *_: Any, **__: Any) -> Tensor:
        self.seen = x
        return x


class _Inject(nn.Module):
    """Stands in for all blocks: runs the last one on given tokens instead of what enters."""

    def __init__(self, block: nn.Module, tokens: Tensor) -> None:
        super().__init__()
        self.block = block
        self.tokens = tokens

    def forward(self, _: Tensor, *args: Any, **kwargs: Any) -> Any:
        return self.block(self.tokens, *args, **kwargs)


def _with_blocks(module: nn.Module, blocks: list[nn.Module]) -> Any:
    clone = copy.copy(module)
    clone._modules = dict(module._modules)
    sequential = isinstance(module.blocks, nn.Sequential)
    clone.blocks = nn.Sequential(*blocks) if sequential else nn.ModuleList(blocks)
    return clone


def _around_last_block(module: nn.Module, stem: Tensor) -> Halves:
    # Where only the class token is read, gradients of patch tokens after the last block are
    # exactly zero; the tokens that enter it are the last ones that matter. The clones share all
    # parameters and live for one call, so threads never meet. `stem` only gives the stages
    # before the blocks something to chew; its tokens are dropped.
    blocks = list(cast("nn.Sequential", module.blocks))

    def trunk(x: Tensor) -> Tensor:
        tap = _Tap()
        _with_blocks(module, [*blocks[:-1], tap]).forward_features(x)
        return tap.seen

    def rest(tokens: Tensor) -> Tensor:
        chaff = stem.to(tokens).expand(len(tokens), *stem.shape[1:])
        clone = _with_blocks(module, [_Inject(blocks[-1], tokens)])
        return cast("Tensor", clone.forward_head(clone.forward_features(chaff)))

    return trunk, rest
