"""Training the last layer alone: what enters it is computed once, then it is fitted to the end.

The fit is convex, so it has no learning rate and no epochs.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from whylens.core.errors import NeedsNotMet
from whylens.core.inputs.preprocess import normalize
from whylens.core.train.network import Network
from whylens.core.train.pictures import Frames, resize

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)
_STEPS = 100
_LIFTED = 256  # pictures; a few scores cut off in others change nothing


@dataclass(frozen=True, slots=True)
class LinearFit:
    """A linear layer fitted to features.

    Attributes:
        weight: (C, K).
        bias: (C,).
        penalty: Of the squared weights of standardised features, chosen on validation.
        loss: Validation loss.
    """

    weight: Tensor
    bias: Tensor
    penalty: float
    loss: float


def inputs(frames: Frames, places: list[int], network: Network) -> Tensor:
    """Return (B, 3, h, w): pictures exactly as the network will be fed them later.

    Args:
        places: Positions in `frames.indices`.
    """
    input_spec = network.input_spec
    batch = frames.batch(places)
    if batch.shape[1:3] != input_spec.size or frames.input_spec.crop != input_spec.crop:
        batch = np.stack([resize(picture, input_spec) for picture in batch])
    unit = torch.from_numpy(batch).permute(0, 3, 1, 2).float() / 255.0
    x = normalize(unit, input_spec).contiguous(memory_format=torch.channels_last)
    return x.to(next(network.module.parameters()).device)


def pool(network: Network, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return (B, K) what enters the last layer, averaged over positions, and (B, C) logits.

    Args:
        network: In eval mode.
        x: (B, 3, h, w).

    Raises:
        NeedsNotMet: The last layer is entered by something else.
    """
    entered: list[Tensor] = []
    hook = network.head_layer.register_forward_pre_hook(lambda _, x: entered.append(x[0]))
    try:
        with torch.no_grad():
            logits = network.logits(x)
    finally:
        hook.remove()
    last = network.head_layer
    plain = isinstance(last, nn.Linear) or last.kernel_size == (1, 1)
    shape = 2 if isinstance(last, nn.Linear) else 4
    if len(entered) != 1 or entered[0].ndim != shape or len(entered[0]) != len(x) or not plain:
        raise NeedsNotMet(
            "This network's last layer is not fed one vector per picture, so it cannot be trained "
            "alone. Train with --mode full."
        )
    return entered[0].flatten(2).mean(-1) if shape == 4 else entered[0], logits


def features(
    network: Network, frames: Frames, *, batch: int, mirrored: bool
) -> Generator[float, None, Tensor]:
    """Yield the share done and return (N, K), or (2 N, K) with the mirrored pictures behind.

    The network is put into eval mode.
    """
    network.module.eval()
    sides = 1 + mirrored
    rows: list[Tensor] = []
    total = sides * len(frames.indices)
    for side in range(sides):
        for start in range(0, len(frames.indices), batch):
            places = list(range(start, min(start + batch, len(frames.indices))))
            x = inputs(frames, places, network)
            rows.append(pool(network, x.flip(-1) if side else x)[0].float().cpu())
            yield (side * len(frames.indices) + places[-1] + 1) / total
    return torch.cat(rows)


def fit(
    train: tuple[Tensor, Tensor], val: tuple[Tensor, Tensor], weights: Tensor
) -> Generator[float, None, LinearFit]:
    """Yield the share done and return the fit with the penalty that does best on validation.

    Args:
        train: (N, K) features and (N,) classes.
        weights: (C,) how much each class counts.
    """
    x, labels = train
    middle, spread = x.mean(0), x.std(0).clamp_min(1e-6 * float(x.std()) + 1e-12)
    unit = (x - middle) / spread
    best: LinearFit | None = None
    start = torch.zeros(len(weights), x.shape[1] + 1)
    for number, penalty in enumerate(sorted(PENALTIES, reverse=True), 1):
        # Each starts from the one before, which was held tighter.
        start = _minimum(unit, labels, weights, penalty, start)
        weight = start[:, :-1] / spread
        bias = start[:, -1] - weight @ middle
        loss = float(_loss(val[0] @ weight.T + bias, val[1], weights))
        if best is None or loss < best.loss:
            best = LinearFit(weight, bias, penalty, loss)
        yield number / len(PENALTIES)
    assert best is not None  # noqa: S101 - there is at least one penalty
    return best


def _loss(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    return (losses * weights[labels]).sum() / weights[labels].sum()


def _minimum(x: Tensor, labels: Tensor, weights: Tensor, penalty: float, start: Tensor) -> Tensor:
    both = start.clone().requires_grad_()
    solver = torch.optim.LBFGS(
        [both], max_iter=_STEPS, tolerance_grad=1e-6, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        solver.zero_grad()
        loss = _loss(x @ both[:, :-1].T + both[:, -1], labels, weights)
        loss = loss + penalty / 2 * both[:, :-1].square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        solver.step(closure)
    return both.detach()


def set_last_layer(network: Network, solution: LinearFit, frames: Frames, *, batch: int) -> None:
    """Write a fit into the last layer.

    Where a ReLU follows a last convolution, as in SqueezeNet, scores below zero would be cut off.
    All biases are then raised alike, which no softmax notices, until none is.
    """
    last = network.head_layer
    with torch.no_grad():
        last.weight.copy_(solution.weight.reshape(last.weight.shape))
        if last.bias is not None:
            last.bias.copy_(solution.bias)
    if isinstance(last, nn.Linear) or last.bias is None:
        return
    lowest: list[float] = []
    hook = last.register_forward_hook(lambda _, __, scores: lowest.append(float(scores.min())))
    try:
        with torch.no_grad():
            count = len(frames.indices)
            some = np.linspace(0, count - 1, min(count, _LIFTED)).astype(int).tolist()
            for start in range(0, len(some), batch):
                network.logits(inputs(frames, some[start : start + batch], network))
            last.bias.add_(max(0.0, -1.5 * min(lowest)))
    finally:
        hook.remove()
