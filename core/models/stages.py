"""Feature maps before the last one: where a network has them, reading them, putting others there.

May touch torch and the layouts. No hooks: a stage is reached by a shallow clone of the network, in
which that one module is wrapped; the clone shares all parameters and lives for one call.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import Tensor, nn

from whylens.core.errors import NeedsNotMet
from whylens.core.models.fx_split import weighted_sum
from whylens.core.models.layouts import Features, Layout, layout_of
from whylens.core.models.network_errors import NETWORK_ERRORS

log = logging.getLogger(__name__)

MOST = 12


@dataclass(frozen=True, slots=True)
class Stage:
    """A place in a network where there is a feature map on which the scores depend.

    Attributes:
        path: Dotted name of the module whose output it is.
        layout: How that output becomes (N, K, *S) and back.
    """

    path: str
    layout: Layout


class _Wrapped(nn.Module):
    """Runs a module and shows its output to `meet`, which gives what the network goes on with."""

    def __init__(self, inner: nn.Module, meet: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.inner = inner
        self.meet = meet

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.meet(self.inner(*args, **kwargs))


def _clone(module: nn.Module, wrapped: dict[str, Callable[[Tensor], Tensor]]) -> nn.Module:
    # Only the modules on the way to a wrapped one are copied, and of them only the table of parts.
    made = copy.copy(module)
    made._modules = dict(module._modules)
    for name in {path.split(".")[0] for path in wrapped}:
        inner = {p.partition(".")[2]: w for p, w in wrapped.items() if p.split(".")[0] == name}
        meet = inner.pop("", None)
        part = cast("nn.Module", module._modules[name])
        part = _clone(part, inner) if inner else part
        made._modules[name] = part if meet is None else _Wrapped(part, meet)
    return made


def at_stage(module: nn.Module, stage: Stage, x: Tensor) -> tuple[Features, Tensor]:
    """Return the features of a stage and the (N, C) scores that the network gives for them.

    The map is a leaf of the scores' graph: its derivative costs one pass through what follows.

    Args:
        module: A frozen network in eval mode.
        stage: One of `stages_of(module, ...)`.
        x: (N, C, *S) inputs.
    """
    seen: list[Features] = []

    def meet(raw: Tensor) -> Tensor:
        found = stage.layout.read(raw.detach())
        leaf = found.map.clone(memory_format=torch.contiguous_format).requires_grad_()
        seen.append(Features(leaf, found.prefix_tokens))
        return stage.layout.write(seen[-1])

    with torch.enable_grad():
        scores: Tensor = _clone(module, {stage.path: meet})(x)
    return seen[-1], scores


def with_maps(module: nn.Module, stage: Stage, x: Tensor, maps: Tensor) -> Tensor:
    """Return (N, C) scores of one input whose map at a stage is replaced by each of N others.

    Args:
        module: A frozen network in eval mode.
        stage: Where.
        x: (1, C, *S) the input; what rides beside its map stays.
        maps: (N, K, *s).
    """

    def meet(raw: Tensor) -> Tensor:
        own = stage.layout.read(raw)
        rest = (
            None
            if own.prefix_tokens is None
            else own.prefix_tokens.expand(len(maps), *own.prefix_tokens.shape[1:])
        )
        return stage.layout.write(Features(maps, rest))

    with torch.no_grad():
        scores: Tensor = _clone(module, {stage.path: meet})(x)
    return scores


def stages_of(module: nn.Module, probe: Tensor) -> tuple[Stage, ...]:
    """Return the stages of a network from first to last, at most 12, evenly thinned.

    Proposals (what timm says, else the parts that the network is made of, where the grid changes)
    are believed only if a map can be read there, replaced, and felt by the scores.

    Args:
        module: A frozen network in eval mode.
        probe: (N, C, *S) inputs that are not constant.
    """
    found: dict[str, tuple[Layout, Tensor]] = {}

    def meeting(path: str, told: Any) -> Callable[[Any], Any]:
        def meet(raw: Any) -> Any:
            try:
                layout = layout_of(raw, tuple(probe.shape[2:]), told)
            except NeedsNotMet as misfit:
                log.info("No map after %s: %s", path, misfit)
                return raw
            features = layout.read(raw)
            found[path] = (layout, features.map)
            return layout.write(features)

        return meet

    named = dict(_proposals(module))
    if not named:
        return ()
    clone = _clone(module, {path: meeting(path, told) for path, told in named.items()})
    try:
        with torch.enable_grad():
            scores = clone(probe[:1].clone().requires_grad_())
            maps = [m for _, m in found.values()]
            slopes = torch.autograd.grad(weighted_sum(scores), maps, allow_unused=True)
    except NETWORK_ERRORS as misfit:
        log.info("%s has no stages: %s", type(module).__name__, misfit)
        return ()
    alive = [
        (Stage(path, layout), tuple(found[path][1].shape[2:]))
        for (path, (layout, _)), slope in zip(found.items(), slopes, strict=True)
        if slope is not None and int((slope.abs().sum((0, 1)) > 0).sum()) > 1
    ]
    if not hasattr(module, "feature_info"):
        # The last part at each size of grid.
        alive = [s for s, after in zip(alive, [*alive[1:], None], strict=True)
                 if after is None or after[1] != s[1]]  # fmt: skip
    kept = [stage for stage, _ in alive]
    if len(kept) > MOST:
        kept = [kept[round(i * (len(kept) - 1) / (MOST - 1))] for i in range(MOST)]
    return tuple(kept)


def _proposals(module: nn.Module) -> Iterator[tuple[str, Any]]:
    prefix = ""
    while not hasattr(module, "feature_info") and len(parts := list(module.named_children())) == 1:
        name, inner = parts[0]
        if not list(inner.children()):
            break
        prefix, module = f"{prefix}{name}.", inner  # a shell: what there is to see lies inside
    info: Any = getattr(module, "feature_info", None)
    known = dict(module.named_modules())
    # Not `output_fmt`: it is about the network's end, and early parts may lie otherwise.
    facts = {
        key: getattr(module, key)
        for key in ("num_prefix_tokens", "patch_embed")
        if hasattr(module, key)
    }
    if isinstance(info, Sequence):
        for entry in info:
            path = entry.get("module", "") if isinstance(entry, dict) else ""
            if path in known and path:
                yield prefix + path, SimpleNamespace(num_features=entry.get("num_chs"), **facts)
        return
    for name, part in module.named_children():
        pieces = [name]
        if isinstance(part, nn.Sequential) and name in ("features", "stages", "blocks"):
            pieces = [f"{name}.{key}" for key, _ in part.named_children()]
        for path in pieces:
            yield prefix + path, SimpleNamespace(**facts)
