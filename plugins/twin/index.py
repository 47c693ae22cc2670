"""A faiss index over a large gallery: inverted lists, of which a query reads the nearest.

The index is bytes in the gallery's artifact; a query maps them from the disk and reads the lists it
needs, nothing is unpacked.
"""

from __future__ import annotations

import importlib
import importlib.util
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from whylens.plugins._near_duplicates import CHUNK
from whylens.plugins.twin.cosine_search import Bools, Floats

Bytes = npt.NDArray[np.uint8]
Positions = npt.NDArray[np.int64]

# Recall of the true ten nearest, and of the ten nearest with another label, that the index is tuned
# to; a little more than is promised, since it is measured on a sample.
RECALL, NEAREST = 0.995, 10
_SAMPLE = 64  # queries on which that is measured; vectors per list on which lists are learnt
_ROUNDS = 10


def has_faiss() -> bool:
    """Return whether faiss is installed."""
    return importlib.util.find_spec("faiss") is not None


def _faiss() -> Any:
    return importlib.import_module("faiss")  # its own type stubs know half of it


def build_index(
    vectors: npt.NDArray[Any], labels: npt.NDArray[Any], *, seed: int = 0, recall: float = RECALL
) -> Bytes:
    """Return an index, tuned on a sample until its recall of an exact search is high enough.

    How many lists a query reads is doubled until the ten nearest, and the ten nearest with another
    label, are found for sampled members; where vectors have no structure, that is all of them.

    Args:
        vectors: (N, D) of unit length, may be float16 and memory-mapped.
        labels: (N,) of each vector.
        recall: Share of the true neighbours to find, 0 to 1.
    """
    faiss = _faiss()
    rng = np.random.default_rng(seed)
    count, width = vectors.shape
    lists = max(1, 2 ** round(np.log2(max(1, count) ** 0.5)))
    index = faiss.index_factory(width, f"IVF{lists},SQfp16", faiss.METRIC_INNER_PRODUCT)
    index.cp.seed, index.cp.niter = seed + 1, _ROUNDS
    sample = np.sort(rng.choice(count, min(count, _SAMPLE * lists), replace=False))
    index.train(_rows(vectors, sample))
    for start in range(0, count, CHUNK):
        index.add(np.ascontiguousarray(vectors[start : start + CHUNK], np.float32))
    positions = np.sort(rng.choice(count, min(count, _SAMPLE), replace=False))
    queries = _rows(vectors, positions)
    other_class_masks = [labels != labels[i] for i in positions]
    exact = [set(row) - {-1} for row in _exact_nearest(vectors, queries, None)]
    exact += [
        set(row) - {-1} for row in _exact_nearest(vectors, queries, labels[positions], labels)
    ]
    total = max(1, sum(map(len, exact)))
    index.nprobe = min(lists, 8)
    while index.nprobe < lists:
        answers = [_search(index, query, NEAREST, None) for query in queries]
        answers += [
            _search(index, query, NEAREST, mask)
            for query, mask in zip(queries, other_class_masks, strict=True)
        ]
        hits = sum(len(e & set(a.tolist())) for e, a in zip(exact, answers, strict=True))
        if hits >= recall * total:
            break
        index.nprobe = min(lists, 2 * index.nprobe)
    # By way of a file: in memory faiss would hold index, growing buffer and copy at once.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index"
        faiss.write_index(index, str(path))
        del index  # its lists, with the room in which they grew, go before the bytes come
        return np.fromfile(path, np.uint8)


def search_index(data: Bytes, query: Floats, count: int, allowed: Bools | None = None) -> Positions:
    """Return the positions of about the nearest vectors, best first.

    Args:
        data: By `build_index`; may be memory-mapped.
        query: (D,).
        count: How many at most.
        allowed: (N,) which vectors count; None for all.
    """
    faiss = _faiss()
    reader = faiss.ZeroCopyIOReader(faiss.swig_ptr(data), data.size)
    index = faiss.read_index(reader, faiss.IO_FLAG_MMAP_IFC)
    return _search(index, query, count, allowed)


def _search(index: Any, query: Floats, count: int, allowed: Bools | None) -> Positions:
    faiss = _faiss()
    # A narrower search needs its own settings; those of the index do not reach it.
    bits = None if allowed is None else np.packbits(allowed, bitorder="little")
    selector = None if bits is None else faiss.IDSelectorBitmap(bits)
    params = faiss.SearchParametersIVF(nprobe=index.nprobe, sel=selector)
    _, (answers,) = index.search(query[None].astype(np.float32), count, params=params)
    positions: Positions = answers[answers >= 0]
    return positions


def _exact_nearest(
    vectors: npt.NDArray[Any],
    queries: Floats,
    own: npt.NDArray[Any] | None,
    labels: npt.NDArray[Any] | None = None,
) -> Positions:
    # (n, 10) positions of the nearest; where labels are passed, of those with another label.
    best = np.full((len(queries), 0), -np.inf, np.float32)
    positions = np.full((len(queries), 0), -1, np.int64)
    for start in range(0, len(vectors), CHUNK):
        piece = np.asarray(vectors[start : start + CHUNK], np.float32)
        similarity = queries @ piece.T
        if own is not None and labels is not None:
            similarity[own[:, None] == labels[None, start : start + CHUNK]] = -np.inf
        best = np.concatenate([best, similarity], 1)
        rows = np.broadcast_to(np.arange(start, start + len(piece)), similarity.shape)
        positions = np.concatenate([positions, rows], 1)
        order = np.argsort(-best, 1, kind="stable")[:, :NEAREST]
        best = np.take_along_axis(best, order, 1)
        positions = np.take_along_axis(positions, order, 1)
    return np.where(np.isfinite(best), positions, -1)


def _rows(vectors: npt.NDArray[Any], positions: Positions) -> Floats:
    return np.ascontiguousarray(vectors[positions], np.float32)
