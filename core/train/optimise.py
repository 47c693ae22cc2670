"""One step of training and what it needs: rates, losses, averaged weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from whylens.core.train.network import Network
from whylens.core.train.recipe import Recipe

_GROWN = 0.6  # share of the training after which pictures have their full size


def schedule(step: int, total: int, recipe: Recipe) -> float:
    """Return the share of the highest learning rate at a step.

    Args:
        step: From 0.
    """
    at = (step + 0.5) / total
    rising = at < recipe.warmup
    share = at / recipe.warmup if rising else (1 - at) / (1 - recipe.warmup)
    if recipe.schedule == "triangular":
        return max(0.0, share)
    return 0.5 * (1 - math.cos(math.pi * share))


def size_at(fraction: float, size: tuple[int, int], recipe: Recipe) -> tuple[int, int]:
    """Return height and width of the pictures at a moment of the training.

    Args:
        fraction: Share of the steps taken.
    """
    share = min(1.0, recipe.grow + (1 - recipe.grow) * fraction / _GROWN)
    height, width = (side if share == 1 else max(8, int(side * share) // 8 * 8) for side in size)
    return height, width


def class_weights(labels: Sequence[int], classes: int, *, balance: bool) -> Tensor:
    """Return (C,) how much a picture of each class counts; 1 on average over the pictures."""
    counts = torch.bincount(torch.tensor(labels), minlength=classes).float()
    if not balance:
        return torch.ones(classes)
    return torch.where(counts > 0, counts.sum() / (counts > 0).sum() / counts.clamp_min(1), 0.0)


def weighted_loss(logits: Tensor, labels: Tensor, weights: Tensor, smoothing: float) -> Tensor:
    """Return the cross entropy to smoothed labels, each picture weighted by its class.

    Args:
        logits: (B, C).
        labels: (B,).
        weights: (C,).
        smoothing: Share of the target spread over all classes.
    """
    losses = nn.functional.cross_entropy(
        logits.float(), labels, reduction="none", label_smoothing=smoothing
    )
    return (weights[labels] * losses).mean()


def make_optimiser(network: Network, recipe: Recipe, *, head_fitted: bool) -> torch.optim.Optimizer:
    """Return the optimiser: matrices with weight decay, the rest without, the head by itself."""
    rate = recipe.rate(trained=network.trained)
    ratio = recipe.head_ratio
    if ratio is None:
        ratio = 10.0 if network.trained and not head_fitted else 1.0
    groups: dict[tuple[bool, bool], list[Tensor]] = {}
    for name, parameter in network.module.named_parameters():
        key = (name.startswith(f"{network.head}."), parameter.ndim > 1)
        groups.setdefault(key, []).append(parameter)
    options = []
    for (is_head, is_matrix), parameters in sorted(groups.items(), key=lambda item: item[0]):
        peak = rate * (ratio if is_head else 1.0) * (1.0 if is_matrix else recipe.bias_ratio)
        decay = recipe.weight_decay if is_matrix else 0.0
        options.append({"params": parameters, "lr": peak, "peak": peak, "weight_decay": decay})
    if recipe.solver(trained=network.trained) == "adamw":
        return torch.optim.AdamW(options, betas=(recipe.momentum, 0.999))
    nesterov = recipe.momentum > 0
    return torch.optim.SGD(options, lr=rate, momentum=recipe.momentum, nesterov=nesterov)


def train_step(
    network: Network,
    optimiser: torch.optim.Optimizer,
    x: Tensor,
    labels: Tensor,
    weights: Tensor,
    recipe: Recipe,
    rate: float,
) -> float:
    """Return the loss of a batch after one step on it.

    Args:
        x: (B, 3, h, w), normalised.
        labels: (B,).
        weights: (C,).
        rate: Share of the highest learning rate.
    """
    for group in optimiser.param_groups:
        group["lr"] = group["peak"] * rate
    with torch.enable_grad():
        loss = weighted_loss(network.logits(x), labels, weights, recipe.smoothing)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    if recipe.clip is not None:
        nn.utils.clip_grad_norm_(network.module.parameters(), recipe.clip)
    optimiser.step()
    return float(loss.detach())


def update_average(
    before: Mapping[str, Tensor] | None, module: nn.Module, decay: float, step: int
) -> dict[str, Tensor]:
    """Return the moving average of a network's numbers; young averages forget faster.

    Args:
        before: The average so far, or None at the start.
        decay: Share of the average that is kept.
        step: From 0.
    """
    now = {name: tensor.detach() for name, tensor in module.state_dict().items()}
    if before is None:
        return {name: tensor.clone() for name, tensor in now.items()}
    keep = min(decay, (1 + step) / (10 + step))
    return {
        name: tensor.lerp(now[name], 1 - keep) if tensor.is_floating_point() else now[name].clone()
        for name, tensor in before.items()
    }
