"""Files of visitors: how long they stay, and the room that they may take."""

from __future__ import annotations

import os
import time

from whylens.ui.page.janitor import Janitor


def test_room_on_the_disk_is_counted_before_it_is_taken(tmp_path):
    janitor = Janitor([tmp_path], budget=1000)
    assert [janitor.claim(400) for _ in range(3)] == [True, True, False]
    assert janitor.claim(200)


def test_files_of_visitors_go_after_an_hour_and_when_there_are_too_many(tmp_path):
    def names() -> set[str]:
        return {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}

    now = time.time()
    ages = {"a/old.png": 4000, "b/new.png": 10, "b/c/newer.png": 5, "own.css": 9999}
    ages |= {"tmpa1b2c3": 400, "b/tmp.png": 400}  # one broken off, and one that came whole
    for name, age in ages.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(1000))
        os.utime(path, (now - age, now - age))
    (tmp_path / "empty").mkdir()
    keep = {str(tmp_path / "own.css")}
    janitor = Janitor([tmp_path], budget=9500)
    janitor.start(keep)
    janitor.stop()
    janitor.sweep(now)
    assert names() == {"b/new.png", "b/c/newer.png", "b/tmp.png", "own.css"}
    janitor = Janitor([tmp_path], budget=2500)
    janitor.start(keep)
    janitor.stop()
    janitor.sweep(now)
    assert names() == {"b/new.png", "b/c/newer.png", "own.css"}
    assert (tmp_path / "empty").is_dir()  # about to be filled
    assert not janitor.has_room(1000)
    assert janitor.has_room(400)
    janitor.sweep(now + 120)
    assert not (tmp_path / "empty").exists()
    (tmp_path / "b" / "newest.png").write_bytes(bytes(1000))
    janitor.sweep(now + 120)
    assert names() == {"b/c/newer.png", "b/newest.png", "own.css"}
