"""A small network trained on a set of signals, written as a checkpoint: seconds to two minutes."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from whylens.core.datasets.dataset import Dataset, SplitName
from whylens.core.errors import BadInput
from whylens.core.models import signal_net
from whylens.core.models.checkpoints import write_checkpoint
from whylens.core.train.network import RandomState
from whylens.core.words import percent

BATCH, RATE, DECAY, SMOOTHING = 100, 1e-2, 0.05, 0.1


def train_on_signals(
    dataset: Dataset, out: Path, *, epochs: int = 60, seed: int = 0
) -> Generator[float, None, float]:
    """Yield the share done, write the checkpoint, and return the share of test signals recognised.

    Nothing is chosen by the test signals: the network of the last epoch is written.

    Args:
        seed: For weights, order and augmentation.

    Raises:
        BadInput: A split is empty.
    """
    signals, y = _split(dataset, "train")
    test_signals, test_y = _split(dataset, "test")
    channels, length = signals.shape[1:]
    mean = [float(signals[:, c].mean()) for c in range(channels)]
    std = [float(signals[:, c].std()) for c in range(channels)]
    x, test_x = _normalise(signals, mean, std), _normalise(test_signals, mean, std)
    random = RandomState(seed)
    generator = random.generator
    with random.as_global():
        network = signal_net.SignalNet(num_classes=len(dataset.labels), channels=channels).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    steps = max(1, len(x) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=epochs * steps)
    loss = nn.CrossEntropyLoss(label_smoothing=SMOOTHING)
    for epoch in range(epochs):
        order = torch.randperm(len(x), generator=generator)
        for indices in order[: steps * BATCH].chunk(steps):
            with torch.enable_grad():
                error = loss(network(augment(x[indices], generator)), y[indices])
            optimiser.zero_grad()
            error.backward()
            optimiser.step()
            schedule.step()
        yield (epoch + 1) / epochs
    network.eval()
    with torch.no_grad():
        accuracy = float((network(test_x).argmax(1) == test_y).float().mean())
    write_checkpoint(
        out,
        network.state_dict(),
        {
            "architecture": signal_net.NAME,
            "arguments": {"channels": channels} if channels > 1 else {},
            "input_size": (length,),
            "mean": tuple(mean),
            "std": tuple(std),
            "labels": dataset.labels,
            "licence": f"trained here on {dataset.name} ({dataset.licence})",
            "note": (
                f"Trained on {len(x):,} signals of {dataset.name}; {percent(accuracy, 1)} of "
                f"{len(test_x):,} test signals are recognised."
            ),
        },
    )
    return accuracy


def augment(x: Tensor, generator: torch.Generator) -> Tensor:
    """Return signals moved by up to four values, scaled, tilted and with a little noise.

    Args:
        x: (N, C, L).
        generator: The only source of random.
    """
    count, channels, length = x.shape

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    positions = torch.arange(length) + torch.randint(-4, 5, (count, 1), generator=generator)
    positions = positions.clamp(0, length - 1)[:, None].expand(-1, channels, -1)
    x = x.gather(2, positions)
    tilt = 0.1 * normal(count, 1, 1) * torch.linspace(-1, 1, length)
    return x * (1 + 0.1 * normal(count, 1, 1)) + tilt + 0.03 * normal(*x.shape)


def _split(dataset: Dataset, split: SplitName) -> tuple[npt.NDArray[np.float32], Tensor]:
    indices = dataset.of(split)
    if not indices:
        raise BadInput(f"The {split} split of {dataset.name} is empty; it takes train and test.")
    labels = torch.tensor([dataset.items[i].label for i in indices])
    return np.stack([dataset.signal(i) for i in indices]), labels


def _normalise(signals: npt.NDArray[np.float32], mean: list[float], std: list[float]) -> Tensor:
    # In the signals' own precision, as the page does.
    m, s = np.array([mean, std], np.float32)[..., None]
    return torch.from_numpy((signals - m) / s)
