"""Writes many Painted Cats onto one picture, one column per class, to look at them.

python -m benchmarks.contact_sheet sheet.png --world breed --rows 4
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from PIL import Image

from whylens.plugins.painted_cats import PaintedCats


def main() -> None:
    """Write the sheet and print how long a picture took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--world", choices=("breed", "genuine"), default="breed")
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--columns", type=int, default=8)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--shortcut", type=float, default=0.0)
    parser.add_argument("--skip", type=int, default=0, help="pictures to leave out at the start")
    args = parser.parse_args()
    count = args.rows * args.columns
    cats = PaintedCats(args.world, train=args.skip + count, size=args.size, shortcut=args.shortcut)
    started = time.perf_counter()
    pictures = [cats.pixels(args.skip + k) for k in range(count)]
    seconds = (time.perf_counter() - started) / count
    rows = [
        np.concatenate(pictures[k : k + args.columns], axis=1)
        for k in range(0, count, args.columns)
    ]
    Image.fromarray(np.concatenate(rows)).save(args.out)
    print(f"{args.out}: {count} pictures of {args.size} px, {1000 * seconds:.1f} ms each")


if __name__ == "__main__":
    main()
