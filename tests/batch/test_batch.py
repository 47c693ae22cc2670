"""Folders of any size: what the rows say, and that no way of being stopped changes a byte."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from filelock import FileLock
from PIL import Image

from tests.support.browser import toy_checkpoint
from tests.support.quick import some_quick
from whylens.core.batch import listing
from whylens.core.batch.listing import PICTURES, Listing, read_listing, skipped_words, write_listing
from whylens.core.batch.plan import Request, plan_differences, read_plan
from whylens.core.batch.rows import (
    SCHEMA,
    FileRow,
    explained_row,
    map_bytes,
    map_values,
    write_rows,
)
from whylens.core.batch.run import LOCK, LOG, explain_folder
from whylens.core.batch.shards import WORK, finished_shards
from whylens.core.batch.worker import Worker, engine_for, seed_of
from whylens.core.engine import Engine
from whylens.core.errors import BadArtifact, BadInput, Busy, CoreError
from whylens.core.evaluation.metric import Score
from whylens.core.evaluation.verdict import Verdict
from whylens.core.explanation import Question
from whylens.core.inputs.photo import read_photo
from whylens.core.inputs.view import on_original
from whylens.core.progress import run

METHODS = {"grad-cam": {}, "smoothgrad": {"samples": 4}}
PHOTOS = ("a.png", "b/c.jpg", "b/d/e.webp", "b.gif", "f.png", "g.png", "h.png")
BROKEN = {"broken.png": b"no picture", "cut.jpg": b"\xff\xd8\xff\xe0 cut", "empty.bmp": b""}


class Here:
    """Shares out nothing: parts are worked on in this process, up to a number of them."""

    workers = 1

    def __init__(self, limit: int | None = None, engine: Engine | None = None) -> None:
        self.limit, self.engine = limit, engine

    def run(self, job, parts):
        job = pickle.loads(pickle.dumps(job))  # as on its way into another process
        worker = Worker(job.folder, job.out, self.engine)
        for number, part in enumerate(parts):
            if number == self.limit:
                return
            yield worker.work(part)


class Stopped(Exception):
    """Stands for the end of a process."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a toy checkpoint, and one with photos, broken ones among them."""
    folder = tmp_path_factory.mktemp("batch")
    toy_checkpoint(folder / "checkpoints" / "toy", labels=("ant", "bee", "cat", "dog"))
    rng = np.random.default_rng(3)
    for number, name in enumerate(PHOTOS):
        path = folder / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (40 + 7 * number, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    for name, content in BROKEN.items():
        (folder / "photos" / name).write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WHYLENS_CHECKPOINTS", str(folder / "checkpoints"))
        yield folder


@pytest.fixture(scope="module")
def engine(place):
    """One engine, so that the network is not loaded for every test."""
    return engine_for("cpu", 16)


@pytest.fixture
def request_for(place, tmp_path):
    def build(out="out", **changes):
        options = {"methods": METHODS, "shard_size": 3, **changes}
        return Request(place / "photos", tmp_path / out, "toy", **options)

    return build


@pytest.fixture(scope="module")
def unbroken(place, engine, tmp_path_factory):
    """The tree that a run writes that nobody stops."""
    out = tmp_path_factory.mktemp("unbroken") / "out"
    request = Request(place / "photos", out, "toy", METHODS, shard_size=3)
    summary = run(explain_folder(request, Here(engine=engine)))
    assert (summary.images, summary.rows, summary.failed) == (10, 20, 6)
    return out


def tree(out: Path) -> dict[str, bytes]:
    """Return every file by path, but for the log of times."""
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name not in (LOG, LOCK)
    }


def rows_of(out: Path) -> list[dict]:
    """Return all rows, in the order of the parts."""
    return [
        row
        for part in sorted((out / "manifest").iterdir())
        for row in pq.read_table(part).to_pylist()
    ]


def test_there_is_a_row_for_every_file_and_method_in_the_order_of_paths(unbroken):
    rows = rows_of(unbroken)
    paths = sorted([*PHOTOS, *BROKEN])
    assert [(r["path"], r["method"]) for r in rows] == [(p, m) for p in paths for m in METHODS]
    assert [r["index"] for r in rows] == [i for i in range(10) for _ in METHODS]
    assert sorted(p.name for p in unbroken.iterdir() if not p.name.startswith(".")) == [
        "files.parquet", LOG, "manifest", "maps", "plan.json",
    ]  # fmt: skip
    assert len(list((unbroken / "manifest").iterdir())) == 4
    assert pq.read_schema(unbroken / "manifest" / "part-00000.parquet").equals(SCHEMA)


def test_rows_and_maps_are_what_the_engine_answers(engine, unbroken, place):
    for row in rows_of(unbroken):
        if row["path"] in BROKEN:
            continue
        data = (place / "photos" / row["path"]).read_bytes()
        pixels = read_photo(data).pixels
        question = Question("toy", pixels, seed=row["seed"])
        *_, answer = engine.explain(question, row["method"], METHODS[row["method"]])
        values = np.load(unbroken / row["map"])
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, answer.result.values, rtol=1e-5, atol=1e-7)
        (guess,) = engine.predict(question, top=1).classes
        assert (row["target"], row["target_label"]) == (guess.index, answer.labels[0])
        assert (row["predicted"], row["predicted_label"]) == (guess.index, guess.label)
        assert row["predicted_probability"] == pytest.approx(guess.probability)
        assert row["probability"] == pytest.approx(answer.probability)
        assert row["score"] == pytest.approx(answer.score, rel=1e-4)
        assert (row["minimum"], row["maximum"]) == (values.min(), values.max())
        assert tuple(row["shape"]) == values.shape
        assert (row["unit"], row["signed"]) == (answer.result.unit, answer.result.signed)
        assert (row["width"], row["height"]) == (pixels.shape[1], pixels.shape[0])
        assert row["sha256"] == hashlib.sha256(data).hexdigest()
        assert json.loads(row["view"])["original"] == [row["width"], row["height"]]
        assert dict(row["diagnostics"]).keys() == answer.result.diagnostics.keys()
        if answer.result.error is not None:
            errors = np.load(unbroken / row["error_map"])
            np.testing.assert_allclose(errors, answer.result.error, rtol=1e-3, atol=1e-7)
            assert row["error_maximum"] == errors.max()


def test_every_file_has_a_seed_of_its_own_that_no_other_file_changes(unbroken):
    seeds = {row["path"]: row["seed"] for row in rows_of(unbroken)}
    assert len(set(seeds.values())) == len(seeds)
    assert all(seeds[path] == seed_of(path.encode(), 0) for path in seeds)
    assert seed_of(b"a.png", 0) != seed_of(b"a.png", 1)


def test_a_file_that_cannot_be_read_is_a_row_that_says_why(unbroken):
    failed_rows = [row for row in rows_of(unbroken) if row["status"] == "failed"]
    assert {row["path"] for row in failed_rows} == set(BROKEN)
    errors = {row["path"]: row["error"] for row in failed_rows}
    assert "not a readable PNG" in errors["broken.png"]
    assert "The file is empty" in errors["empty.bmp"]
    for row in failed_rows:
        assert row["map"] is None
        assert row["sha256"] == hashlib.sha256(BROKEN[row["path"]]).hexdigest()
    assert all(row["error"] is None for row in rows_of(unbroken) if row["status"] == "done")


def test_peaks_lie_where_the_map_on_the_photo_has_them(engine, unbroken, place):
    count = 0
    for row in rows_of(unbroken):
        if row["status"] == "done" and row["method"] == "grad-cam":
            pixels = read_photo((place / "photos" / row["path"]).read_bytes()).pixels
            *_, answer = engine.explain(Question("toy", pixels), "grad-cam")
            values, visible = on_original(np.load(unbroken / row["map"]), answer.view)
            x, y = row["peak_x"], row["peak_y"]
            # The largest value on the photo, within the cell that holds the map's largest.
            assert visible[int(y), int(x)]
            cell = answer.view.model[0] / answer.view.scale_x / row["shape"][1]
            best_y, best_x = np.unravel_index(values.argmax(), values.shape)
            assert abs(best_x + 0.5 - x) <= cell / 2 + 1
            assert abs(best_y + 0.5 - y) <= cell / 2 + 1
            count += 1
    assert count == len(PHOTOS)


@pytest.mark.parametrize("limit", [pytest.param(0, marks=pytest.mark.slow), 3])
def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(engine, unbroken, request_for, limit):
    request = request_for()
    with pytest.raises(FileNotFoundError):  # the parts that are still to come
        run(explain_folder(request, Here(limit, engine)))
    assert len(finished_shards(request.out)) == limit
    summary = run(explain_folder(request, Here(engine=engine)))
    assert summary.resumed == 3 * limit
    assert tree(request.out) == tree(unbroken)


# List, plan, then maps and manifest of four parts.
@pytest.mark.parametrize("call", some_quick((0, 1, 2, 3, 9), lambda _, call: call in (0, 9)))
def test_whatever_rename_is_the_last_nothing_is_lost_or_doubled(
    engine, unbroken, request_for, call, monkeypatch
):
    request, count = request_for(), 0

    def stopping(original):
        def rename(self, *target):
            nonlocal count
            if count == call:
                raise Stopped
            count += 1
            return original(self, *target)

        return rename

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", stopping(Path.rename))
        patch.setattr(Path, "replace", stopping(Path.replace))
        with pytest.raises(Stopped):
            run(explain_folder(request, Here(engine=engine)))
    run(explain_folder(request, Here(engine=engine)))
    assert tree(request.out) == tree(unbroken)
    assert not (request.out / WORK).exists()


def test_two_workers_that_finish_the_same_part_leave_it_as_one_does(engine, unbroken, request_for):
    request = request_for()

    class Twice(Here):
        def run(self, job, parts):
            worker, rival = (Worker(job.folder, job.out, engine) for _ in range(2))
            for part in parts:
                # One begins, another finishes first.
                yield worker.work(part, lambda part=part: rival.work(part))

    run(explain_folder(request, Twice()))
    assert tree(request.out) == tree(unbroken)


def test_the_split_into_parts_changes_no_answer(engine, unbroken, request_for):
    request = request_for(shard_size=1)
    run(explain_folder(request, Here(engine=engine)))
    rows, expected = rows_of(request.out), rows_of(unbroken)
    for a, b in zip(rows, expected, strict=True):
        for column in ("map", "error_map"):
            first, second = a.pop(column), b.pop(column)
            assert (first is None) == (second is None)
            if first is not None:
                assert Path(first).name == Path(second).name
                assert (request.out / first).read_bytes() == (unbroken / second).read_bytes()
        assert a == b


def test_a_run_that_was_begun_otherwise_is_refused_and_kept(engine, request_for):
    request = request_for()
    with pytest.raises(FileNotFoundError):
        run(explain_folder(request, Here(1, engine)))
    before = tree(request.out)
    with pytest.raises(BadInput, match=r"seed was 0, now 1.*choose another --out"):
        run(explain_folder(replace(request, seed=1), Here(engine=engine)))
    assert tree(request.out) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"maps": "png"}, "maps was 'npy', now 'png'"),
        ({"target": 1, "shard_size": 4}, "shard_size was 3, now 4; target was None, now 1"),
        ({"versions": {"torch": "0.1"}}, "versions.torch was"),
        ({"files": Listing(count=9, digest="")}, "the folder held 10 files, now 9"),
        ({"files": Listing(count=10, digest="")}, "the folder held other files or sizes"),
        ({"methods": ()}, "the methods were grad-cam, smoothgrad, now "),
        (
            {"methods": (("grad-cam", {}), ("smoothgrad", {"samples": 8}))},
            "methods.smoothgrad.params.samples was 4, now 8",
        ),
    ],
)
def test_plans_say_in_what_they_differ(unbroken, changes, message):
    plan = read_plan(unbroken)
    if changes.get("methods"):
        changes = {
            "methods": tuple(
                old.model_copy(update={"params": {**old.params, **params}})
                for old, (_, params) in zip(plan.methods, changes["methods"], strict=True)
            )
        }
    assert message in "; ".join(plan_differences(plan, plan.model_copy(update=changes)))
    assert plan_differences(plan, read_plan(unbroken)) == []


def test_another_file_or_other_weights_are_another_plan(engine, place, tmp_path, request_for):
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("1.png", "2.png"):
        (photos / name).write_bytes((place / "photos" / "a.png").read_bytes())
    request = replace(request_for(), folder=photos, methods={"grad-cam": {}})
    run(explain_folder(request, Here(engine=engine)))
    (photos / "2.png").rename(tmp_path / "2.png")
    with pytest.raises(BadInput, match="held 2 files, now 1"):
        run(explain_folder(request, Here(engine=engine)))
    (tmp_path / "2.png").rename(photos / "2.png")
    plan = read_plan(request.out)
    changed_plan = plan.model_copy(
        update={"model": plan.model.model_copy(update={"digest": "0" * 64})}
    )
    (request.out / "plan.json").write_text(changed_plan.text())
    with pytest.raises(BadInput, match=r"model\.digest was '0000"):
        run(explain_folder(request, Here(engine=engine)))
    with pytest.raises(BadArtifact, match="other network than the plan"):
        Worker(photos, request.out)


def test_new_files_are_added_and_what_was_there_keeps_its_bytes(
    engine, place, tmp_path, request_for
):
    photos = tmp_path / "photos"
    photos.mkdir()
    picture = (place / "photos" / "a.png").read_bytes()
    for name in ("1", "3", "5", "7"):
        (photos / f"{name}.png").write_bytes(picture)
    request = replace(request_for(), folder=photos, methods={"grad-cam": {}})
    run(explain_folder(request, Here(engine=engine)))
    before = tree(request.out / "manifest") | tree(request.out / "maps")
    for name in ("0", "2"):
        (photos / f"{name}.png").write_bytes(picture)
    summary = run(explain_folder(request, Here(engine=engine)))
    assert (summary.images, summary.resumed) == (6, 4)
    after = tree(request.out / "manifest") | tree(request.out / "maps")
    assert before.items() <= after.items()
    paths = [row["path"] for row in pq.read_table(request.out / "manifest").to_pylist()]
    assert paths == ["1.png", "3.png", "5.png", "7.png", "0.png", "2.png"]
    assert [read_plan(request.out).span(shard) for shard in range(3)] == [(0, 3), (3, 4), (4, 6)]
    assert read_plan(request.out).shard_of(5) == (2, 1)
    repeat = run(explain_folder(request, Here(engine=engine)))
    assert (repeat.images, repeat.resumed) == (6, 6)
    (photos / "1.png").write_bytes(picture + b"longer")
    with pytest.raises(BadInput, match="other files or sizes"):
        run(explain_folder(request, Here(engine=engine)))


def test_a_folder_with_other_things_is_not_written_into(engine, request_for):
    request = request_for()
    request.out.mkdir()
    (request.out / "mine.txt").write_text("mine")
    with pytest.raises(BadInput, match=r"other things, such as mine\.txt"):
        run(explain_folder(request, Here(engine=engine)))
    assert [p.name for p in request.out.iterdir() if p.name != LOCK] == ["mine.txt"]


def test_two_runs_do_not_write_into_one_folder(engine, request_for):
    request = request_for()
    request.out.mkdir()
    with FileLock(request.out / LOCK), pytest.raises(Busy, match="Another run is writing"):
        run(explain_folder(request, Here(engine=engine)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": {"gradcam": {}}}, "Did you mean"),
        ({"target": "eel"}, "no class called 'eel'"),
        ({"methods": {"twin": {}}}, "a gallery"),
        ({"device": "tpu9"}, "device 'tpu9' cannot be used"),
    ],
)
def test_what_cannot_be_done_is_said_before_any_file_is_listed(
    engine, request_for, changes, message, monkeypatch
):
    monkeypatch.setattr("whylens.core.batch.run.write_listing", None)
    with pytest.raises(CoreError, match=message):
        run(explain_folder(request_for(**changes), Here(engine=engine)))


def test_maps_of_a_folder_are_judged_where_that_is_asked(engine, place, tmp_path):
    (tmp_path / "one").mkdir()
    photo = Image.open(place / "photos" / "a.png")
    photo.save(tmp_path / "one" / "a.png")
    request = Request(tmp_path / "one", tmp_path / "out", "toy", {"layer-cam": {}}, scores=True)
    run(explain_folder(request, Here(engine=engine)))
    (row,) = rows_of(request.out)
    question = Question("toy", np.asarray(photo), seed=row["seed"])
    *_, answer = engine.explain(question, "layer-cam")
    *_, expected = engine.judge(answer)
    assert row["verdict"] == expected.verdict.word
    assert row["verdict_reason"] == expected.verdict.reason
    assert dict(row["scores"]) == pytest.approx(expected.verdict.figures, abs=1e-4)
    # Of this toy little can be measured: how scores are written is told by made-up ones.
    scores = {
        "deletion": Score(0.2, 0.4), "random_weights": Score(0.1), "seeds": Score(None, 0.0, "No."),
    }  # fmt: skip
    (best,) = engine.predict(question, top=1).classes
    answer = replace(answer, verdict=Verdict("mixed", "For tests.", **scores))
    row = explained_row(FileRow(0, "a.png", 0), best, answer)
    write_rows(tmp_path / "row.parquet", [row], "plan")
    (row,) = pq.read_table(tmp_path / "row.parquet").to_pylist()
    assert dict(row["scores"]) == {"deletion": 0.2, "random weights": 0.1}
    assert dict(row["scores_chance"]) == {"deletion": 0.4}


def test_png_maps_hold_the_values_in_65536_steps(engine, request_for, unbroken):
    request = request_for(maps="png")
    run(explain_folder(request, Here(engine=engine)))
    exact = {(r["path"], r["method"]): r for r in rows_of(unbroken)}
    for row in rows_of(request.out):
        if row["status"] == "done":
            exact_row = exact[row["path"], row["method"]]
            values = map_values(
                (request.out / row["map"]).read_bytes(), row["minimum"], row["maximum"]
            )
            step = (row["maximum"] - row["minimum"]) / 65535
            expected = np.load(unbroken / exact_row["map"])
            assert np.abs(values - expected).max() <= 0.51 * step + 1e-7 * np.abs(expected).max()
            with Image.open(request.out / row["map"]) as picture:
                assert picture.mode == "I;16"


@pytest.mark.parametrize("values", [np.full((2, 3), 7.5), np.zeros((1, 1)), np.arange(5.0)])
def test_flat_maps_and_signals_survive_as_png(values):
    values = values.astype(np.float32)
    back = map_values(map_bytes(values, "png"), float(values.min()), float(values.max()))
    np.testing.assert_allclose(back, np.atleast_2d(values), atol=1e-4)


def test_signals_are_explained_by_a_network_that_reads_them(engine, tmp_path, monkeypatch, rng):
    from whylens.core.models.checkpoints import write_checkpoint
    from whylens.core.models.load import build
    from whylens.core.models.random_weights import randomize_weights

    module = randomize_weights(build("signal_cnn", classes=3), seed=5)
    description = {
        "architecture": "signal_cnn", "input_size": (40,), "mean": (0.0,), "std": (1.0,),
        "labels": ("x", "y", "z"), "licence": "none: random numbers", "trained": False,
    }  # fmt: skip
    write_checkpoint(tmp_path / "checkpoints" / "waves", module.state_dict(), description)
    monkeypatch.setenv("WHYLENS_CHECKPOINTS", str(tmp_path / "checkpoints"))
    data = tmp_path / "data"
    data.mkdir()
    np.savetxt(data / "one.csv", rng.normal(size=(1, 40)), delimiter=",")
    np.save(data / "two.npy", rng.normal(size=(1, 30)))  # of another length
    (data / "photo.png").write_bytes(b"not for this network")
    out = tmp_path / "out"
    request = Request(data, out, "waves", {"grad-cam": {}}, maps="png", report=True)
    run(explain_folder(request, Here(engine=engine)))
    first, second = rows_of(out)
    assert (first["path"], first["status"], first["peak_y"], first["width"]) == (
        "one.csv",
        "done",
        None,
        None,
    )
    assert 0 < first["peak_x"] < 40
    assert (second["path"], second["status"]) == ("two.npy", "failed")
    assert "(1, 30)" in second["error"]
    report = (out / "report.html").read_text()
    assert report.count("data:image/jpeg") == 3  # both signals, and the map of one
    assert report.index("one.csv") < report.index("two.npy")


def test_files_are_listed_in_the_order_of_their_paths_as_text(tmp_path, monkeypatch):
    monkeypatch.setattr(listing, "_GROUP", 4)
    root = tmp_path / "root"
    names = ["a/z.png", "a.png", "a-b/c.png", "ab.PNG", "a/b/c.jpeg", "ä.gif", "Z.bmp", "b/1.webp",
             "b/10.png", "b/2.png"]  # fmt: skip
    left_out = ["a/notes.txt", ".hidden.png", ".git/x.png", "out/maps/1.png", "png"]
    for name in names + left_out:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    skipped: Counter[str] = Counter()
    files = write_listing(root, root / "out", PICTURES, tmp_path / "files", skipped=skipped)
    assert files.count == len(names)
    assert skipped == {".txt": 1, "": 1}
    assert skipped_words(skipped) == "1 without an ending and 1 .txt"
    expected = sorted(name.encode() for name in names)
    for start in range(len(names)):
        for stop in range(start + 1, len(names) + 1):
            assert read_listing(tmp_path / "files", start, stop) == expected[start:stop]
    repeat = write_listing(root, root / "out", PICTURES, tmp_path / "files2")
    assert repeat == files
    (root / "a.png").write_bytes(b"longer")
    assert write_listing(root, root / "out", PICTURES, tmp_path / "files2") != files


def test_a_folder_without_pictures_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("none")
    with pytest.raises(BadInput, match=r"holds no files that end in .*It holds .*1 \.txt"):
        write_listing(tmp_path, tmp_path / "out", PICTURES, tmp_path / "files")
    with pytest.raises(BadInput, match="cannot be read"):
        write_listing(tmp_path / "none", tmp_path / "out", PICTURES, tmp_path / "files")


@pytest.mark.skipif(os.name == "nt", reason="names are text on Windows")
def test_names_that_are_no_text_and_links_to_nothing_are_rows_too(
    engine, place, tmp_path, request_for
):
    photos = tmp_path / "odd"
    photos.mkdir()
    content = (place / "photos" / "a.png").read_bytes()
    (photos / os.fsdecode(b"\xff\xfe.png")).write_bytes(content)
    (photos / "gone.png").symlink_to(photos / "nowhere.png")
    request = replace(request_for(), folder=photos, methods={"grad-cam": {}})
    run(explain_folder(request, Here(engine=engine)))
    missing_row, odd_row = rows_of(request.out)
    assert (missing_row["path"], missing_row["status"]) == ("gone.png", "failed")
    assert "No such file" in missing_row["error"]
    assert (odd_row["path"], odd_row["status"]) == ("\\xff\\xfe.png", "done")


def test_a_file_too_large_is_not_even_read(tmp_path):
    from whylens.core.batch.listing import load_file

    with (tmp_path / "huge.png").open("wb") as stream:
        stream.truncate(40_000_000_000)  # a hole: it takes no room on the disk
    assert "40000.0 MB; up to 12 MB are read" in load_file(tmp_path / "huge.png").error
