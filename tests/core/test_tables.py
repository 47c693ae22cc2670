"""Signals as spreadsheets, instruments and other programs write them."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from tests.support.networks import plain_spec
from whylens.core.errors import BadInput
from whylens.core.explanation import Question
from whylens.core.inputs.arrays import read_channels
from whylens.core.inputs.preprocess import signal_tensor
from whylens.core.inputs.signal import fit_signal, read_signal

VALUES = np.round(np.sin(np.linspace(0, 6, 12)), 4)
TEXTS = [f"{value:.4f}" for value in VALUES]
GERMAN = [text.replace(".", ",") for text in TEXTS]
NUMBERED = [f"{i};{text}" for i, text in enumerate(GERMAN)]


@pytest.mark.parametrize(
    "text",
    [
        ",".join(TEXTS),
        ",".join(TEXTS) + ",\n",
        ";".join(TEXTS),
        ";".join(GERMAN),
        ";".join(GERMAN) + ";",
        "\t".join(TEXTS),
        " ".join(GERMAN),
        "\n".join(TEXTS),
        "\r\n".join(GERMAN),
        "value\n" + "\n".join(TEXTS),
        "sep=;\n" + ";".join(GERMAN),
        "Zeit;Wert\n" + "\n".join(NUMBERED),
        "# 500 Hz\nDate: 2024-01-01\nUnit,mV\ntime,value\n"
        + "\n".join(f"{i / 500},{text}" for i, text in enumerate(TEXTS)),
        "ch1," + ",".join(TEXTS),
        ",".join(map(str, range(12))) + "\n" + ",".join(TEXTS),
        ",".join(f'"{text}"' for text in TEXTS),
        "\n".join(f"{float(text):.4e}".replace(".", ",") for text in TEXTS),
        "time,mV\n" + "\n".join(f"2024-01-01 10:00:{i},{text}" for i, text in enumerate(TEXTS)),
        "," + ",".join(map(str, range(12))) + "\n0," + ",".join(TEXTS),
        "\n".join(f"{text},N" for text in TEXTS),
        "\n".join(TEXTS).replace("-", "\N{MINUS SIGN}"),
        ",0\n" + "\n".join(f"{i},{text}" for i, text in enumerate(TEXTS)),
        "\n".join(f'"{text}"' for text in GERMAN),
        ",".join(f'"{text}"' for text in GERMAN),
        "Datum;Uhrzeit;Wert\n"
        + "\n".join(f"01.01.2024;10:00:{i};{text}" for i, text in enumerate(GERMAN)),
        "|".join(TEXTS),
        f"[{', '.join(TEXTS)}]",
        f"[{' '.join(TEXTS)}]",
        ",".join(TEXTS) + "\0\0",
    ],
)
@pytest.mark.parametrize("code", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_a_signal_is_read_however_its_table_is_written(text, code):
    signal = read_signal(text.encode(code), "x.CSV")
    assert signal_tensor(signal, plain_spec(12, channels=1))[0, 0].numpy() == pytest.approx(VALUES)


def test_names_of_columns_in_another_code_page_are_left_out():
    signal = read_signal("°C;µV\n1,5;2,5\n3,5;4,5\n".encode("cp1252"), "x.csv")
    assert signal.tolist() == [[1.5, 2.5], [3.5, 4.5]]
    assert read_signal(b"1.234,5;2\n", "x.csv").tolist() == [[1234.5, 2]]
    assert read_signal(b"1.5\t2\n", "x.TSV").tolist() == [[1.5, 2]]


@pytest.mark.parametrize(
    "text",
    [
        "1.234,5;2000000,25", "1,234.5\t2,000,000.25", '"1,234.5","2,000,000.25"',
        "1'234.5;2'000'000.25",
        "1 234,5;2 000 000,25", "1\u00a0234,5;2\u202f000\u202f000,25", '"1,234.5";"2,000,000.25"',
    ],
)  # fmt: skip
def test_marks_of_thousands_are_no_points(text):
    assert read_signal(text.encode(), "x.csv").tolist() == [[1234.5, 2000000.25]]


@pytest.mark.parametrize("space", "\u202f\u00a0")
def test_spaces_that_break_no_line_stand_in_numbers_without_any_separator(space):
    french = "\r\n".join(f"{n // 1000}{space}{n % 1000:03},5" for n in range(1100, 1140))
    assert read_signal(french.encode(), "x.csv")[:, 0].tolist() == [
        n + 0.5 for n in range(1100, 1140)
    ]
    mixed = f"900,5\n1{space}100,5\n2{space}000\n1{space}000{space}000,25\n"
    values = read_signal(mixed.encode(), "x.csv")[:, 0].tolist()
    assert values == [900.5, 1100.5, 2000, 1000000.25]
    points = f"1{space}100.5 900 2{space}000\n"
    assert read_signal(points.encode(), "x.csv").tolist() == [[1100.5, 900, 2000]]
    commas = f"a,b\n1{space}100,2{space}200\n3{space}300,4{space}400\n"
    assert read_signal(commas.encode(), "x.csv").tolist() == [[1100, 2200], [3300, 4400]]
    # Where they stand between values as well, they are no marks.
    between = f"5{space}200{space}7.5\n6{space}300{space}8.5\n"
    assert read_signal(between.encode(), "x.csv").tolist() == [[5, 200, 7.5], [6, 300, 8.5]]


@pytest.mark.parametrize(
    ("start", "step"), [(1_700_000_000, 60), (1_700_000_000_000, 60), (1.7e9, 0.004), (0, 1)]
)
def test_a_time_since_1970_is_a_time(start, step):
    values = np.random.default_rng(0).normal(size=40).round(3)
    times = [start + step * i for i in range(40)]
    lines = "\n".join(f"{time!r},{value}" for time, value in zip(times, values, strict=True))
    stream = io.BytesIO()
    np.save(stream, np.stack([times, values]))
    for signal in (
        read_signal(f"ts,v\n{lines}".encode(), "x.csv"),
        read_signal(stream.getvalue(), "x.npy"),
        read_channels(np.stack([times, values], 1), plain_spec(40, channels=1))[0],
    ):
        fitted = fit_signal(signal, 1, 40)
        assert fitted.dtype == np.float32
        assert fitted.tolist() == [pytest.approx(values)]


def test_values_that_are_no_time_stay_as_they_are():
    large = np.float32(1.7e9) + np.array([[0, 256, 128, 512], [0, 128, 256, 384]])
    assert (read_channels(large, plain_spec(4, channels=2))[0] == large).all()
    with pytest.raises(BadInput, match="NaN or infinite"):
        read_signal(b"inf,inf,1\n", "x.csv")


@pytest.mark.parametrize(
    ("lines", "values"),
    [
        (["Wert", "0", "0,15", "0,5"], [0, 0.15, 0.5]),  # Excel leaves zeros at the end out
        (["Wert", "0,5", "1,5", "2,5"], [0.5, 1.5, 2.5]),
        (["0,5", "0,05", "1,25"], [0.5, 0.05, 1.25]),
        (["-0,5", "3,25", "1,5"], [-0.5, 3.25, 1.5]),
        (["10.766,20", "9,5", "7,25"], [10766.2, 9.5, 7.25]),
    ],
)
def test_one_column_with_decimal_commas_is_no_two_columns(lines, values):
    signal = read_signal("\r\n".join(lines).encode(), "x.csv")
    assert signal[:, 0].tolist() == pytest.approx(values)
    assert signal.shape == (len(values), 1)


def test_two_columns_of_whole_numbers_stay_two():
    assert read_signal(b"a,b\n1,5\n2,6\n3,15\n", "x.csv").tolist() == [[1, 5], [2, 6], [3, 15]]
    assert read_signal(b"1,5\n2,6\n3,15\n", "x.csv").tolist() == [[1, 5], [2, 6], [3, 15]]


def test_numbers_of_three_digits_are_values_where_nothing_says_otherwise():
    assert read_signal(b"a,b\n255,120\n1,999\n", "x.csv").tolist() == [[255, 120], [1, 999]]
    assert read_signal(b"255,012\n001,099\n", "x.csv").tolist() == [[255, 12], [1, 99]]
    assert read_signal(b"0,002;1,234\n0,004;1,345\n", "x.csv")[:, 1].tolist() == pytest.approx(
        [1.234, 1.345]
    )
    assert read_signal(b"1, 2, 3\n4, 5, 6\n", "x.csv").tolist() == [[1, 2, 3], [4, 5, 6]]
    signal = read_signal(b"x,y\nr1,1,234\nr2,2,345\n", "x.csv")  # as R writes names of rows
    assert signal.tolist() == [[1, 234], [2, 345]]


def test_beside_decimal_commas_points_are_of_thousands():
    assert read_signal(b"900;1.014;10.766,5\n", "x.csv").tolist() == [[900, 1014, 10766.5]]
    assert read_signal(b"0.500;1.014\n", "x.csv").tolist() == [[0.5, pytest.approx(1.014)]]


def test_what_may_be_a_decimal_comma_is_one():
    assert read_signal(b"1,234;5\n", "x.csv").tolist() == [[pytest.approx(1.234), 5]]
    assert read_signal(b"0,123\t5,5\n", "x.csv").tolist() == [[pytest.approx(0.123), 5.5]]
    with pytest.raises(BadInput):
        read_signal(('"' + "1" * 200_000 + '",2').encode(), "x.csv")


def test_channels_in_columns_are_turned_and_what_fits_is_left_as_it_is():
    table = np.arange(24, dtype=np.float32).reshape(2, 12) ** 2
    assert fit_signal(table, 2, 12) is table
    assert (fit_signal(table.T, 2, 12) == table).all()
    timed = np.vstack([np.arange(12) / 500, table])
    assert (fit_signal(timed, 2, 12) == table).all()
    assert (fit_signal(timed.T, 2, 12) == table).all()
    uneven = np.vstack([table[1] ** 2, table])
    assert fit_signal(uneven, 2, 12) is uneven


@pytest.mark.parametrize("text", ["", "a,b\nc,d", "1,2\n3", "1,x,3\n4,5,6\n7,y,9", "1,2\n3,4\nend"])
def test_what_is_no_table_of_numbers_is_refused(text):
    with pytest.raises(BadInput, match="not a table of numbers"):
        read_signal(text.encode(), "x.csv")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1.5,2.5,,3.5", "value 3 of a row is empty"),
        ("1.5,2.5,x,3.5", "'x' is no number"),
        ("NA,1.5,2.5", "'NA' is a missing value"),
        ("1.5,2.5,#NV", "'#NV' is a missing value"),
        ("(0.5, 1.5, 2.5)", "'[(]0.5' is no number|'2.5[)]' is no number"),
        ("1.5\n2.5\n3.5\nMean,2.5", "its last line, 'Mean,2.5', is not like the others"),
        ("1.5\n2.5\nEnd", "its last line, 'End', is not like the others"),
        ('"1,234"\n"2,345"', "'1,234' may be a decimal or have thousands"),
        ("1,000\n1,234\n2,500", "'1,000' may be a decimal or have thousands"),
        ("999\n1,000\n1,001\n998", "'1,000' may be a decimal or have thousands"),
        ("998,999,1,000,1,001", "'1,000' may be one number with thousands or two"),
        ("0,1,998.5\n1,1,001.2\n2,1,002.0", "'1,001.2' may be one number"),
        ("1,00,000\n2,00,000", "'00,000' may be one number"),
        ("t,v\n0,1,234\n1,1,345\n2,1,456", "'1,234' may be one number with thousands or two"),
        ("t,v\n0,998\n1,1,234\n2,999", "'1,234' may be one number with thousands or two"),
        ("t;v\n0;998\n1;1,001", "'1,001' may be a decimal or have thousands"),
        ("t\tv\n0\t998\n1\t1,001", "'1,001' may be a decimal or have thousands"),
        ("$1,000\n$2,000", "'[$]2' is no number"),
        ("t,v\n0,1.5\n1,1.6\nSum,3.1", "its last line, 'Sum,3.1', is not like the others"),
        ("1,#DIV/0!\n2,3", "'#DIV/0!' is a missing value"),
        ("#DIV/0!,1\n2,3", "'#DIV/0!' is a missing value"),
        ("####,1\n2,3", "'####' is a missing value"),
        ("1,2,3\n4,5\n6,7,8", "row 2 of numbers has 2 values and the first has 3"),
        ("12.5%\n13.5%", "'13.5%' is no number"),
    ],
)
def test_what_would_be_left_out_or_misread_is_refused(text, words):
    with pytest.raises(BadInput, match=words):
        read_signal(text.encode(), "x.csv")


def test_what_is_wrong_with_a_table_is_said():
    with pytest.raises(BadInput, match="some cells are empty"):
        read_signal(b"0,1.5\n1,\n2,2.5", "x.csv")
    with pytest.raises(BadInput, match="Excel workbook"):
        read_signal(b"PK\x03\x04" + bytes(40), "x.csv")


def test_complex_numbers_are_refused():
    stream = io.BytesIO()
    np.save(stream, np.ones((1, 4)) * 1j)
    with pytest.raises(BadInput, match="holds complex128, not real numbers"):
        read_signal(stream.getvalue(), "x.npy")


def test_bands_are_read_from_a_tiff(tmp_path):
    bands = np.random.default_rng(0).integers(0, 256, (6, 16, 20), dtype=np.uint8)
    first, *pages = [Image.fromarray(band) for band in bands]
    first.save(tmp_path / "x.tif", save_all=True, append_images=pages)
    array, _ = read_channels(tmp_path / "x.tif", plain_spec(16, 20, channels=6))
    assert array == pytest.approx(bands / 255)


def test_what_was_done_to_bands_is_told():
    input_spec = plain_spec(8, 10, channels=6)
    bands = np.arange(480).reshape(6, 8, 10) % 120
    array, notes = read_channels(bands.astype(np.uint16) * 80, input_spec)
    assert array == pytest.approx(bands * 80)
    assert notes[0].startswith("Its values of 16 bits were taken as they are, 0 to 9,520")
    assert read_channels(bands.astype(np.uint8), input_spec)[1] == (
        "Its bytes were taken as shares of 255.",
    )
    assert read_channels(bands / 255, input_spec)[1] == ()
    question = Question("six", signal=array, signal_notes=notes)
    assert question.notes == notes


def tiff_of(*pictures, **options):
    """Return a TIFF of pictures one after the other."""
    stream = io.BytesIO()
    first, *pages = pictures
    first.save(stream, "TIFF", save_all=True, append_images=pages, **options)
    return stream.getvalue()


def with_one_tag_of_all(data):
    """Return a TIFF whose last picture's tag says that its values are the whole file."""
    at = int.from_bytes(data[4:8], "little")
    while at:
        first, count = at + 2, int.from_bytes(data[at : at + 2], "little")
        at = int.from_bytes(data[first + 12 * count :][:4], "little")
    entry = struct.pack("<HHII", 60_000, 7, 3 * len(data), 8)
    return data[: first + 12 * (count - 1)] + entry + data[first + 12 * count :]


def test_bands_are_counted_before_they_are_decoded(tmp_path, monkeypatch):
    small, large = Image.new("L", (16, 20)), Image.new("L", (5000, 3800))
    options = {"compression": "tiff_adobe_deflate"}
    files = {
        "more than 30 million pixels together": tiff_of(*[large] * 8, **options),
        "no bands of one size": tiff_of(small, large, **options),
        "no bands of one size. ": tiff_of(small, Image.new("RGB", (16, 20))),
        "more pieces": tiff_of(*[small] * 1000),
        "more pieces ": with_one_tag_of_all(tiff_of(small, small)),
        "damaged or cut off": tiff_of(small, small)[:-200],
    }
    load, decoded = TiffImagePlugin.TiffImageFile.load, set()
    monkeypatch.setattr(
        TiffImagePlugin.TiffImageFile,
        "load",
        lambda image: [decoded.add(image.tell()), load(image)][1],
    )
    for words, data in files.items():
        (tmp_path / "x.tif").write_bytes(data)
        decoded.clear()
        with pytest.raises(BadInput, match=words.strip()):
            read_channels(tmp_path / "x.tif", plain_spec(16, 20, channels=6))
        assert len(data) < 500_000
        assert decoded <= ({0, 1} if "damaged" in words else {0})  # the first is a photo as well
