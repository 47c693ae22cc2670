"""Whether a network can be asked about windows by local work, checked; and the windows themselves.

May touch torch and the local form of networks. The check is by numbers: windows of one noise shown
in another, against the network as its author wrote it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import Tensor, fx, nn

from whylens.core.models.network_errors import NETWORK_ERRORS
from whylens.core.speed.incremental import Box, IncrementalNetwork

log = logging.getLogger(__name__)


def local_network(
    module: nn.Module, wanted: nn.Module, probe: Tensor, *, tolerance: float = 1e-4
) -> IncrementalNetwork | None:
    """Return a local form of a network, or None where it has none or it does not agree.

    Args:
        module: A frozen network in eval mode.
        wanted: What gives the logits to agree with.
        probe: (2, C, H, W): the second is shown in windows of the first.
        tolerance: Largest accepted difference of logits, relative to the largest logit.
    """
    if probe.ndim != 4:
        return None
    x, fill = probe[:1], probe[1:2]
    compared = 0
    try:
        network = IncrementalNetwork(module, x)
        done = network.on(x)
        for boxes in _probe_boxes(x.shape[2], x.shape[3]):
            got = done.logits(boxes, fill)
            if got is None:
                continue
            with torch.no_grad():
                expected = wanted(covered(x, fill, boxes))
            compared += 1
            scale = float(expected.abs().max()) + 1e-12
            far = got.shape != expected.shape or not (
                float((got - expected).abs().max()) <= tolerance * scale
            )
            if far:
                log.info("The local form of %s disagrees", type(module).__name__)
                return None
    except (*NETWORK_ERRORS, fx.proxy.TraceError) as misfit:
        log.info("No local form of %s: %s", type(module).__name__, misfit)
        return None
    return network if compared else None


def covered(x: Tensor, fill: Tensor, boxes: Sequence[Box]) -> Tensor:
    """Return (N, C, *S): `x` with each of N boxes filled.

    Args:
        x: (1, C, *S).
        fill: (1, C, *S) what is shown inside the boxes.
        boxes: As slices of the spatial axes.
    """
    out = x.repeat(len(boxes), *(1,) * (x.ndim - 1))
    for row, box in enumerate(boxes):
        out[row][(slice(None), *box)] = fill[0][(slice(None), *box)]
    return out


def _probe_boxes(height: int, width: int) -> list[list[Box]]:
    # At two corners and an odd place in the usual size; elsewhere, once, a small one.
    usual = (max(1, height // 7), max(1, width // 7))
    small = (max(1, height // 16), max(1, width // 16))
    corner = (height - usual[0], width - usual[1])
    odd = (corner[0] // 3, corner[1] // 2 + corner[1] % 2)
    return [
        [_box(place, usual) for place in ((0, 0), corner, odd)],
        [_box((height - small[0], (width - small[1]) // 3), small)],
    ]


def _box(start: tuple[int, int], size: tuple[int, int]) -> Box:
    return tuple(slice(low, low + length) for low, length in zip(start, size, strict=True))
