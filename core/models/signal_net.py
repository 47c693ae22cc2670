"""A small convolutional network for signals; no library has such an architecture.

It ends in an average and a linear layer, so that every method applies.
"""

from __future__ import annotations

from torch import Tensor, nn

NAME = "signal_cnn"


class SignalNet(nn.Module):
    """Convolutions over (N, C, L), each with batch norm and ReLU, then mean and linear layer."""

    def __init__(
        self,
        *,
        num_classes: int,
        channels: int = 1,
        widths: tuple[int, ...] = (32, 64, 64, 96),
        kernel: int = 5,
    ) -> None:
        """Make it with random weights.

        Args:
            num_classes: Number of classes.
            widths: Channels after each convolution; every second convolution halves the length.
        """
        super().__init__()
        before = (channels, *widths)
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv1d(into, out, kernel, 1 + i % 2, kernel // 2, bias=False),
                    nn.BatchNorm1d(out),
                    nn.ReLU(),
                )
                for i, (into, out) in enumerate(zip(before, widths, strict=False))
            )
        )
        self.fc = nn.Linear(widths[-1], num_classes)

    def features(self, x: Tensor) -> Tensor:
        """Return (N, K, l) the last feature map."""
        features: Tensor = self.blocks(x)
        return features

    def head(self, features: Tensor) -> Tensor:
        """Return (N, classes) logits of a feature map."""
        logits: Tensor = self.fc(features.mean(-1))
        return logits

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, classes) logits of (N, C, L) signals."""
        return self.head(self.features(x))
