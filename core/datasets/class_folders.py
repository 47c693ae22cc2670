"""Which class and split the files of a folder or a ZIP belong to, by the folders around them."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from whylens.core.datasets.dataset import SplitName
from whylens.core.errors import BadInput, quote
from whylens.core.inputs.photo import PICTURE_ENDINGS
from whylens.core.words import are, number_of, was

_WORDS_OF_SPLITS: dict[SplitName, str] = {
    "train": "train training trainings trn trainval trainingsdaten entrenamiento entrainement "
    "entraînement apprentissage treino treinamento addestramento trening eğitim обучение 训练 "
    "trainen träning trening koulutus trénink trénování trenowanie treningowe navchannya навчання "
    "antrenament latih pelatihan تدريب אימון "
    "训练集 訓練 학습 훈련",
    "val": "val valid validation validate vali dev devel eval evaluation validierung "
    "validierungsdaten validacion validación validacao validação validazione walidacja doğrulama "
    "validatie validering validace validointi walidacyjne validasi перевірка تحقق "
    "валидация 验证 验证集 検証 驗證 검증",
    "test": "test testing tst holdout testdaten prueba pruebas teste testes prova тест 测试 测试集 "
    "testen teszt testowe testaus pengujian uji اختبار "
    "測試 テスト 테스트",
}
_SPLIT_WORDS: dict[str, SplitName] = {
    word: split for split, words in _WORDS_OF_SPLITS.items() for word in words.split()
}
# Words of languages and much else: splits where every folder is one of them.
_SHORT_WORDS: dict[str, SplitName] = {
    "tr": "train", "va": "val", "vl": "val", "te": "test", "ts": "test",
}  # fmt: skip
_FILLERS = r"(?:data|dataset|set|split|seg|images?|imgs?|pictures?|photos?|folder|files?)"
_WORD = re.compile(rf"[\W_\d]*(?:{_FILLERS}[\W_]*)*?([^\W\d_]+?)(?:[\W_\d]*{_FILLERS})*[\W_\d]*")
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[^\W\d_A-Za-z]+")  # asl_train, FER2013Train
_FOLD = re.compile(r"(?:k?fold|split|subset|set|part|cv|batch)s?[\W_]*\d+", re.IGNORECASE)
_SEGMENTS = {"mask", "masks", "label", "labels", "annotation", "annotations", "gt", "ground_truth"}
_UNLABELLED = {"unlabeled", "unlabelled", "unlabeled_data", "unlabelled_data", "unsup"}
_PACKED = (".zip", ".7z", ".rar", ".tar", ".gz", ".tgz", ".bz2", ".xz")
_IMAGES = {"image", "images", "img", "imgs", "jpegimages", "input", "inputs"}


@dataclass(frozen=True, slots=True)
class PlacedFile:
    """One file of a set.

    Attributes:
        path: Its place among the paths that were given.
        label: Its class.
        split: The set's own split; None where the set has none.
    """

    path: int
    label: str
    split: SplitName | None = None


@dataclass(frozen=True)
class ClassFolders:
    """The files of a set by class and split.

    Attributes:
        files: In the order of the paths.
        notes: What was taken for what, and what was left out.
    """

    files: tuple[PlacedFile, ...]
    notes: tuple[str, ...] = field(default=())


def split_word(folder: str) -> SplitName | None:
    """Return the split that a folder's name stands for, as "Training_set" for training, or None."""
    # Names from a Mac have letters and accents apart.
    match = _WORD.fullmatch(unicodedata.normalize("NFC", folder.lower()))
    return _SPLIT_WORDS.get(match.group(1)) if match else None


def place_files(paths: Sequence[str], place: str) -> ClassFolders:
    """Return the class and split of every file that lies in a class's folder.

    A folder around all others is looked into. Folders named as splits are splits, with the classes
    in them or around them.

    Args:
        paths: Relative, with "/" between folders.
        place: The set's name in words, as in "The folder x".

    Raises:
        BadInput: There are no two classes, or splits are named so that they can be misread.
    """
    unlabelled = [path for path in paths if _is_unlabelled(path)]
    if unlabelled and len(unlabelled) < len(paths):
        labelled_indices = [i for i, path in enumerate(paths) if not _is_unlabelled(path)]
        labelled_files = place_files([paths[i] for i in labelled_indices], place)
        placed = tuple(
            replace(file, path=labelled_indices[file.path]) for file in labelled_files.files
        )
        folder = next(p for p in unlabelled[0].split("/") if p.lower() in _UNLABELLED)
        omission = f"{_files(len(unlabelled))} in {quote(folder)} {was(len(unlabelled))} left out"
        return ClassFolders(placed, (*labelled_files.notes, f"{omission}: a class has labels."))
    # A Mac writes letters and accents apart: one name has to be one class, whoever packed it.
    parts = [tuple(unicodedata.normalize("NFC", path).split("/")) for path in paths]
    notes: list[str] = []
    around = _around([path for path in parts if _may_be_picture(path[-1])])
    depth = len(around)
    if depth:
        notes.append(f"All classes were found in {quote('/'.join(around))}.")
    folders = _by_folder(parts, around)
    if not folders:
        archives = [path for path in paths if _ending(path) in _PACKED]
        hint = f" It holds {quote(archives[0])}: unpack that first." if archives else ""
        raise BadInput(
            f"{place} holds no pictures in subfolders. Put the pictures of each class into a "
            f"subfolder of its own.{hint}"
        )
    for name in [n for n in folders if not any(map(_may_be_picture, _ends(parts, folders[n])))]:
        endings = sorted({_ending(end) for end in _ends(parts, folders[name])} - {""})
        what = f", as {', '.join(endings[:3])}" if endings else ""
        notes.append(
            f"The folder {quote(name)} holds no pictures ({_files(len(folders.pop(name)))}{what}) "
            "and was left out."
        )
    splits = _splits(parts, depth, folders, place)
    files: list[PlacedFile] = []
    loose = [i for i, path in enumerate(parts) if len(path) <= depth + 1]
    if splits is None:
        inner = _inner_splits(parts, depth, folders)
        if inner is None:
            _check_no_splits_inside(parts, around, folders)
            below_classes = _inside(
                (name, parts[i][depth + 1 :]) for name in folders for i in folders[name]
            )
            notes += _same_inside(below_classes, "name the folders around them train, val and test")
        else:
            _check_no_classes_inside(parts, depth, folders)
        for name, indices in folders.items():
            files += [
                PlacedFile(i, name, inner[parts[i][depth + 1].lower()] if inner else None)
                for i in indices
                if inner is None or len(parts[i]) > depth + 2
            ]
    else:
        sibling_folders = [name for name in folders if name not in splits]
        if sibling_folders:
            count = sum(len(folders[name]) for name in sibling_folders)
            pronoun = "it" if len(sibling_folders) == 1 else "they"
            notes.append(
                f"Beside {_names(splits)}, {_names(sibling_folders)} ({_files(count)}) "
                f"{was(len(sibling_folders))} left out: {pronoun} {are(len(sibling_folders))} no "
                "split by name, or without folders of classes in it."
            )
        for name, (split, at) in splits.items():
            if at > depth + 1:
                inner_path = "/".join(parts[folders[name][0]][depth:at])
                notes.append(f"The classes of {quote(name)} were found in {quote(inner_path)}.")
            loose += [i for i in folders[name] if len(parts[i]) <= at + 1]
            files += [
                PlacedFile(i, parts[i][at], split) for i in folders[name] if len(parts[i]) > at + 1
            ]
        filled = {f.label for f in files if _may_be_picture(parts[f.path][-1])}
        for label in sorted({file.label for file in files} - filled):
            notes.append(f"The folders {quote(label)} hold no pictures and were left out.")
        files = [file for file in files if file.label in filled]
        below_classes = _inside(
            (f.label, path[splits[path[depth]][1] + 1 :]) for f in files if (path := parts[f.path])
        )
        notes += _same_inside(below_classes, f"put them straight into {_names(splits)}")
    _check_spelling(files)
    archives = [paths[i] for i in loose if _ending(parts[i][-1]) in _PACKED]
    if archives:
        notes.append(
            f"{_files(len(archives))} beside the classes {was(len(archives))} left out: "
            f"{', '.join(archives[:3])}. What is packed is not looked into: unpack it first."
        )
    loose = [i for i in loose if _may_be_picture(parts[i][-1])]
    if loose:
        first_paths = ", ".join(paths[i] for i in loose[:3])
        more = f" and {len(loose) - 3} more" if len(loose) > 3 else ""
        notes.append(
            f"{_files(len(loose))} in no class's folder {was(len(loose))} left out: {first_paths}"
            f"{more}."
        )
    files.sort(key=lambda file: file.path)
    _check_classes({file.label for file in files}, place, notes)
    return ClassFolders(tuple(files), tuple(notes))


def _is_unlabelled(path: str) -> bool:
    return any(part.lower() in _UNLABELLED for part in path.split("/")[:-1])


def _around(parts: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """Return the folders that lie around all classes and splits, one in the other.

    Args:
        parts: Paths of pictures.
    """
    around: tuple[str, ...] = ()
    while True:
        depth = len(around)
        below = [p for p in parts if len(p) > depth + 1]
        if len({p[depth] for p in below}) != 1:
            return around
        nested = sum(len(p) > depth + 2 for p in below)
        if nested == 0 or len(below) - nested > nested:
            return around
        around = below[0][: depth + 1]


def _by_folder(parts: Sequence[tuple[str, ...]], around: tuple[str, ...]) -> dict[str, list[int]]:
    depth, folders = len(around), defaultdict(list)
    for index, path in enumerate(parts):
        if len(path) > depth + 1 and path[:depth] == around:
            folders[path[depth]].append(index)
    return dict(sorted(folders.items()))


def _inside(paths: Iterable[tuple[str, tuple[str, ...]]]) -> dict[str, set[str]]:
    """Return the folders that lie in each class's own.

    Args:
        paths: Class and path within its folder of every file; no path of one that is in none.
    """
    inside: dict[str, set[str]] = defaultdict(set)
    for label, path in paths:
        if path and _may_be_picture(path[-1]):
            inside[label].update(path[:-1][:1])
    return dict(inside)


def _recurring(inside: dict[str, set[str]]) -> list[str]:
    """Return the folders that come again and again in classes, and may be the classes; else none.

    One of them may lack in a class, as of two patients one may be ill and one be healthy.
    """
    counts = Counter(name for names in inside.values() for name in names)
    again = {name for name, count in counts.items() if count > 1}
    whole = len(again) > 1 and all(names and names <= again for names in inside.values())
    return sorted(again) if whole else []


def _same_inside(inside: dict[str, set[str]], remedy: str) -> Iterable[str]:
    """Yield a note where the classes hold the same folders, which then may be the classes."""
    if names := _recurring(inside):
        yield (
            f"{_names(inside)} were taken for the classes, and hold folders of the same names, "
            f"{_names(names)}. If those are the classes, {remedy}."
        )


def _short_splits(names: Sequence[str]) -> dict[str, SplitName]:
    """Return the splits of folders that are all called in short, as tr, va and te; else none."""
    short = {n: _SHORT_WORDS[n.lower()] for n in names if n.lower() in _SHORT_WORDS}
    whole = len(short) == len(names) == len(set(short.values())) > 1
    return short if whole and "train" in short.values() else {}


def _split_names(names: Iterable[str]) -> dict[str, SplitName]:
    """Return the folders that are splits by their names.

    Other words may stand beside that of the split where folders share them, as in pets_train and
    pets_test.

    Raises:
        BadInput: Every name says a split and a class.
    """
    names = list(names)
    if short := _short_splits(names):
        return short
    plain = {name: split for name in names if (split := split_word(name))}
    if len(set(plain.values())) > 1:
        return plain
    families: dict[tuple[str, ...], dict[str, SplitName]] = defaultdict(dict)
    for name in names:
        words = [word.lower() for word in _WORDS.findall(name)]
        for at, word in enumerate(words):
            if word in _SPLIT_WORDS:
                families[(*words[:at], *words[at + 1 :])][name] = _SPLIT_WORDS[word]
    shared = [f for f in families.values() if "train" in f.values() and len(set(f.values())) > 1]
    if len(shared) > 1:
        raise BadInput(
            f"{_names(sorted(set().union(*shared)))} name splits and classes at once. Put the "
            "folders of the classes into folders called train, val and test."
        )
    return plain | (shared[0] if shared else {})


def _splits(
    parts: Sequence[tuple[str, ...]], depth: int, folders: dict[str, list[int]], place: str
) -> dict[str, tuple[SplitName, int]] | None:
    """Return the folders that are splits, with where their classes lie; None if all are classes."""
    split_names = _split_names(folders)
    below = {
        name: [parts[i][depth + 1 :] for i in folders[name] if _may_be_picture(parts[i][-1])]
        for name in split_names
    }
    inner = {name: {p[0] for p in below[name] if len(p) > 1} for name in split_names}
    class_names = set().union(*(folder for folder in inner.values() if len(folder) > 1))
    at: dict[str, int] = {}
    for name in split_names:
        within = () if inner[name] <= class_names else _around(below[name])
        classes = {p[len(within)] for p in below[name] if len(p) > len(within) + 1}
        if len(classes) > 1 or (classes and classes <= class_names):
            at[name] = depth + 1 + len(within)
    split_folders = {name: split_names[name] for name in split_names if name in at}
    both = [s for s, n in Counter(split_folders.values()).items() if n > 1]
    if both:
        names = [name for name in split_folders if split_folders[name] == both[0]]
        raise BadInput(
            f"{place} holds several folders for the {both[0]} split by their names: "
            f"{_names(names)}. Rename or merge them."
        )
    if "train" in split_folders.values() and (
        len(split_folders) > 1 or len(split_names) == len(folders) > 1
    ):
        return {name: (split, at[name]) for name, split in split_folders.items()}
    if split_folders:
        raise BadInput(
            f"{_names(split_folders)} in {place[0].lower()}{place[1:]} may be a split, with "
            "classes in it, or a class. Name the splits train, val and test and leave nothing "
            "beside them; or rename the class."
        )
    kinds = set(split_names.values())
    if len(kinds) > 1 and ("train" in kinds or len(split_names) == len(folders)):
        raise BadInput(
            f"{_names(split_names)} are splits by their names, and there are no folders of classes "
            "in them. Put the pictures of each class into a subfolder of its own, in every split."
        )
    if len(folders) > 1 and all(map(_FOLD.fullmatch, folders)):
        raise BadInput(
            f"{_names(folders)} are parts of one set by their names, and no classes. Put the "
            "pictures of each class into one folder, or name the parts train, val and test."
        )
    return None


def _inner_splits(
    parts: Sequence[tuple[str, ...]], depth: int, folders: dict[str, list[int]]
) -> dict[str, SplitName] | None:
    """Return the splits by folder where they lie within the classes, as in cat/train."""
    paths = [parts[i] for indices in folders.values() for i in indices]
    paths = [path for path in paths if _may_be_picture(path[-1]) or len(path) > depth + 2]
    if any(len(path) < depth + 3 for path in paths):
        return None
    names = sorted({path[depth + 1].lower() for path in paths})
    splits = _short_splits(names) or {n: split for n in names if (split := split_word(n))}
    whole = len(splits) == len(names) == len(set(splits.values())) > 1
    return splits if whole and "train" in splits.values() else None


def _check_no_splits_inside(
    parts: Sequence[tuple[str, ...]], around: tuple[str, ...], folders: dict[str, list[int]]
) -> None:
    for name, indices in folders.items():
        below = [parts[i][len(around) + 1 :] for i in indices if _may_be_picture(parts[i][-1])]
        within = _around(below)
        names = _split_names({p[len(within)] for p in below if len(p) > len(within) + 1})
        if "train" in names.values() and len(set(names.values())) > 1:
            whole = quote("/".join((*around, name, *within)))
            raise BadInput(
                f"{whole} holds the splits {_names(sorted(names))}, and beside it lies "
                f"{_names(n for n in folders if n != name)}. Give {whole} by itself; or, if it is "
                "a class, divide all classes so."
            )


def _check_no_classes_inside(
    parts: Sequence[tuple[str, ...]], depth: int, folders: dict[str, list[int]]
) -> None:
    """Raise where splits lie in what may be versions of one set, as in raw/train/cat."""
    inside = _inside((name, parts[i][depth + 2 :]) for name in folders for i in folders[name])
    if names := _recurring(inside):
        raise BadInput(
            f"{_names(folders)} hold splits, and in those lie folders of the same names, "
            f"{_names(names)}. If these are the classes, give one of {_names(folders)} by itself; "
            "if not, put the pictures straight into the splits."
        )


def _check_spelling(files: Iterable[PlacedFile]) -> None:
    splits: dict[str, set[SplitName | None]] = defaultdict(set)
    for file in files:
        splits[file.label].add(file.split)
    spellings: dict[str, str] = {}
    for label in sorted(splits):
        spelling = spellings.setdefault(key := label.strip().casefold(), label)
        if spelling == label:
            continue
        if not splits[spelling] & splits[label]:
            raise BadInput(
                f"{quote(spelling)} and {quote(label)} lie in different splits and seem to be one "
                "class. Spell them alike."
            )
        # Sets of handwriting hold "A" and "a".
        if len(key) > 1 or spelling.strip() == label.strip():
            raise BadInput(
                f"{quote(spelling)} and {quote(label)} seem to be one class in two spellings. "
                "Spell them alike and put their pictures into one folder; or, if they are two "
                "classes, give them names that differ in more than capitals and spaces."
            )


def _check_classes(labels: set[str], place: str, notes: Sequence[str]) -> None:
    words = {label.lower().replace(" ", "_") for label in labels}
    if words & _SEGMENTS and words & _IMAGES and words <= _SEGMENTS | _IMAGES:
        raise BadInput(
            f"{_names(sorted(labels))} are pictures and what is marked in them, and no classes. "
            "Put the pictures of each class into a subfolder of its own."
        )
    if len(labels) >= 2:
        return
    what = f"has one class only, {quote(min(labels))}" if labels else "has no class with pictures"
    raise BadInput(
        " ".join(
            [
                f"{place} {what}. Put the pictures of at least two classes into a subfolder each.",
                *notes,
            ]
        )
    )


def _ends(parts: Sequence[tuple[str, ...]], indices: Iterable[int]) -> list[str]:
    return [parts[i][-1] for i in indices]


def _ending(name: str) -> str:
    return f".{name.rpartition('.')[2].lower()}" if "." in name else ""


def _may_be_picture(name: str) -> bool:
    # Some sets write their files without an ending.
    return _ending(name) in PICTURE_ENDINGS or "." not in name


def _names(names: Iterable[str]) -> str:
    texts = [quote(name) for name in names]
    more = f" and {len(texts) - 4} more" if len(texts) > 4 else ""
    return ", ".join(texts[:4]) + more


def _files(count: int) -> str:
    return number_of(count, "file")
