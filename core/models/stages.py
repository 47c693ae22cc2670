"""Feature maps before the last: where a network has them, reading them, and replacing them.

No hooks: a stage is reached by a shallow clone of the network in which that module is wrapped; the
clone shares all parameters and lives for one call.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import Tensor, nn

from whylens.core.errors import NETWORK_ERRORS, NeedsNotMet
from whylens.core.models.layouts import Features, Layout, layout_of, weighted_sum

log = logging.getLogger(__name__)

MOST_STAGES = 12


@dataclass(frozen=True, slots=True)
class Stage:
    """A feature map inside a network on which the scores depend.

    Attributes:
        path: Dotted name of the module that returns it.
        layout: How that output becomes (N, K, *S) and back.
    """

    path: str
    layout: Layout


class _WithOutput(nn.Module):
    """Runs a module and returns what `on_output` makes of its output."""

    def __init__(self, inner: nn.Module, on_output: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.inner = inner
        self.on_output = on_output

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.on_output(self.inner(*args, **kwargs))

    def __getattr__(self, name: str) -> Any:
        """Return what the module has: the network around it may ask for it."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("inner"), name)


def clone_with_outputs(
    module: nn.Module, on_output: Mapping[str, Callable[[Any], Any]]
) -> nn.Module:
    """Return a clone that shares all weights, in which what some modules return is exchanged."""
    # Only the modules on the way to a wrapped module are copied, and only their tables of parts.
    clone = copy.copy(module)
    clone._modules = dict(module._modules)
    for name in {path.split(".")[0] for path in on_output}:
        inner = {p.partition(".")[2]: f for p, f in on_output.items() if p.split(".")[0] == name}
        own = inner.pop("", None)
        part = cast("nn.Module", module._modules[name])
        part = clone_with_outputs(part, inner) if inner else part
        clone._modules[name] = part if own is None else _WithOutput(part, own)
    return clone


def at_stage(module: nn.Module, stage: Stage, x: Tensor) -> tuple[Features, Tensor]:
    """Return the features of a stage and the (N, C) scores that the network gives for them.

    The map is a leaf of the scores' graph: its derivative costs one pass through what follows.

    Args:
        module: Frozen, in eval mode.
        stage: Of `stages_of(module, ...)`.
        x: (N, C, *S) inputs.
    """
    recorded: list[Features] = []

    def on_output(raw: Tensor) -> Tensor:
        features = stage.layout.read(raw.detach())
        leaf = features.map.clone(memory_format=torch.contiguous_format).requires_grad_()
        recorded.append(Features(leaf, features.prefix_tokens))
        return stage.layout.write(recorded[-1])

    with torch.enable_grad():
        scores: Tensor = clone_with_outputs(module, {stage.path: on_output})(x)
    return recorded[-1], scores


def with_maps(module: nn.Module, stage: Stage, x: Tensor, maps: Tensor) -> Tensor:
    """Return (N, C) scores of an input whose map at a stage is replaced by each of N maps.

    Args:
        module: As for `at_stage`.
        stage: Of `stages_of(module, ...)`.
        x: (1, C, *S) the input; its prefix tokens stay.
        maps: (N, K, *s).
    """

    def on_output(raw: Tensor) -> Tensor:
        prefix_tokens = stage.layout.read(raw).prefix_tokens
        if prefix_tokens is not None:
            prefix_tokens = prefix_tokens.expand(len(maps), *prefix_tokens.shape[1:])
        return stage.layout.write(Features(maps, prefix_tokens))

    with torch.no_grad():
        scores: Tensor = clone_with_outputs(module, {stage.path: on_output})(x)
    return scores


def stages_of(module: nn.Module, probe: Tensor) -> tuple[Stage, ...]:
    """Return the stages of a network from first to last, at most 12, evenly thinned.

    Proposals (what timm says, else the parts that the network is made of, where the grid changes)
    are believed only if a map can be read and replaced there, and the scores depend on it.

    Args:
        module: Frozen, in eval mode.
        probe: (N, C, *S) inputs that are not constant.
    """
    recorded: dict[str, tuple[Layout, Tensor]] = {}

    def recording(path: str, facts: Any) -> Callable[[Any], Any]:
        def on_output(raw: Any) -> Any:
            try:
                layout = layout_of(raw, tuple(probe.shape[2:]), facts)
            except NeedsNotMet as exc:
                log.info("No map after %s: %s", path, exc)
                return raw
            features = layout.read(raw)
            recorded[path] = (layout, features.map)
            return layout.write(features)

        return on_output

    proposals = dict(_proposals(module))
    if not proposals:
        return ()
    recorders = {path: recording(path, facts) for path, facts in proposals.items()}
    clone = clone_with_outputs(module, recorders)
    try:
        with torch.enable_grad():
            # A leaf may not be changed in place.
            scores = clone(probe[:1].clone().requires_grad_() * 1)
            maps = [m for _, m in recorded.values()]
            slopes = torch.autograd.grad(weighted_sum(scores), maps, allow_unused=True)
    except NETWORK_ERRORS as exc:
        log.info("%s has no stages: %s", type(module).__name__, exc)
        return ()
    live = [
        (Stage(path, layout), tuple(recorded[path][1].shape[2:]))
        for (path, (layout, _)), slope in zip(recorded.items(), slopes, strict=True)
        if slope is not None and int((slope.abs().sum((0, 1)) > 0).sum()) > 1
    ]
    if not hasattr(module, "feature_info"):
        # The last part at each size of grid.
        live = [s for s, after in zip(live, [*live[1:], None], strict=True)
                if after is None or after[1] != s[1]]  # fmt: skip
    stages = [stage for stage, _ in live]
    if len(stages) > MOST_STAGES:
        step = (len(stages) - 1) / (MOST_STAGES - 1)
        stages = [stages[round(i * step)] for i in range(MOST_STAGES)]
    return tuple(stages)


def _proposals(module: nn.Module) -> Iterator[tuple[str, Any]]:
    prefix = ""
    while not hasattr(module, "feature_info") and len(parts := list(module.named_children())) == 1:
        name, inner = parts[0]
        if not list(inner.children()):
            break
        prefix, module = f"{prefix}{name}.", inner  # a shell: what there is to see lies inside
    info: Any = getattr(module, "feature_info", None)
    modules = dict(module.named_modules())
    # Not `output_fmt`: it is about the network's end, and early parts may lie otherwise.
    facts = {
        key: getattr(module, key)
        for key in ("num_prefix_tokens", "patch_embed")
        if hasattr(module, key)
    }
    if isinstance(info, Sequence):
        for entry in info:
            path = entry.get("module", "") if isinstance(entry, dict) else ""
            if path in modules and path:
                yield prefix + path, SimpleNamespace(num_features=entry.get("num_chs"), **facts)
        return
    for name, part in module.named_children():
        pieces = [name]
        if isinstance(part, nn.Sequential) and name in ("features", "stages", "blocks"):
            pieces = [f"{name}.{key}" for key, _ in part.named_children()]
        for path in pieces:
            yield prefix + path, SimpleNamespace(**facts)
