"""A small network trained on generated signals, written as a checkpoint: seconds to two minutes.

May touch torch, the generated set, the signal network and checkpoints.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import torch
from torch import Tensor, nn

from whylens.core.models import signal_net
from whylens.core.models.checkpoints import write_checkpoint
from whylens.core.train.network import Chance
from whylens.plugins.mnist1d.signals import LABELS, LENGTH, TEST, TRAIN, Signals, mnist1d

BATCH, RATE, DECAY, SMOOTHING = 100, 1e-2, 0.05, 0.1
TEST_SEED_OFFSET = 1  # seeds of the two sets never meet for seeds that are even


def trained_on_signals(
    out: Path, *, epochs: int = 60, seed: int = 0, train: int = TRAIN, test: int = TEST
) -> Generator[float, None, float]:
    """Yield the share done, write the checkpoint, and return the share of test signals recognised.

    Nothing is chosen by the test signals: the network of the last epoch is kept.

    Args:
        out: The folder.
        epochs: Passes over the training signals.
        seed: For signals, weights, order and augmentation.
        train: Training signals.
        test: Test signals.
    """
    known, unseen = mnist1d(train, 2 * seed), mnist1d(test, 2 * seed + TEST_SEED_OFFSET)
    mean, std = float(known.values.mean()), float(known.values.std())
    x, y = _tensors(known, mean, std)
    chance = Chance(seed)
    generator = chance.own
    with chance.lent():
        network = signal_net.SignalNet(num_classes=len(LABELS)).train()
    solver = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    steps = max(1, len(x) // BATCH)
    rates = torch.optim.lr_scheduler.OneCycleLR(solver, RATE, total_steps=epochs * steps)
    loss = nn.CrossEntropyLoss(label_smoothing=SMOOTHING)
    for epoch in range(epochs):
        order = torch.randperm(len(x), generator=generator)
        for chosen in order[: steps * BATCH].chunk(steps):
            with torch.enable_grad():
                error = loss(network(varied(x[chosen], generator)), y[chosen])
            solver.zero_grad()
            error.backward()
            solver.step()
            rates.step()
        yield (epoch + 1) / epochs
    network.eval()
    tested, truth = _tensors(unseen, mean, std)
    with torch.no_grad():
        accuracy = float((network(tested).argmax(1) == truth).float().mean())
    write_checkpoint(
        out,
        network.state_dict(),
        {
            "architecture": signal_net.NAME,
            "input_size": (LENGTH,),
            "mean": (mean,),
            "std": (std,),
            "labels": LABELS,
            "licence": "Apache-2.0, trained here on generated signals",
            "note": (
                f"Trained on {train:,} signals of MNIST-1D, generated here with seed {2 * seed}; "
                f"{accuracy:.1%} of {test:,} test signals are recognised."
            ),
        },
    )
    return accuracy


def varied(x: Tensor, generator: torch.Generator) -> Tensor:
    """Return signals moved by up to four values, scaled, tilted and with a little noise.

    Args:
        x: (N, 1, L).
        generator: The only source of chance.
    """
    count, length = len(x), x.shape[-1]

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    moved = torch.arange(length) + torch.randint(-4, 5, (count, 1), generator=generator)
    x = x.gather(2, moved.clamp(0, length - 1)[:, None])
    tilt = 0.1 * normal(count, 1, 1) * torch.linspace(-1, 1, length)
    return x * (1 + 0.1 * normal(count, 1, 1)) + tilt + 0.03 * normal(*x.shape)


def _tensors(signals: Signals, mean: float, std: float) -> tuple[Tensor, Tensor]:
    return torch.from_numpy((signals.values - mean) / std), torch.from_numpy(signals.labels)
