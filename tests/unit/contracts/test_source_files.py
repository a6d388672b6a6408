"""Files as tools leave them: any dialect, encoding and format is read, or refused by name."""

import bz2
import gzip
import io
import json
import lzma
import zipfile
from unittest.mock import patch

import fsspec
import polars as pl
import pytest

from contracts.errors import UserError
from contracts.ingestion.config import DataConfig, EventSourceConfig, ItemSourceConfig, SourceConfig
from contracts.ingestion.rows.column_evidence import collect_evidence
from contracts.ingestion.sources.list_files import digest_data, find_source_files, list_source_files
from contracts.ingestion.sources.source_batches import OpenedSource
from contracts.tables import EVENTS

ROWS = [{"item_id": str(100 + n), "title": f'Mug "{n}", 12" wide', "price": f"{n}.5"} for n in range(30)]


@pytest.fixture
def read(tmp_path):
    """Writes bytes and reads the rows back."""

    def _read(name, content, **options):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return _rows(SourceConfig(uri=str(path), **options), tmp_path)

    return _read


def _rows(source, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir(exist_ok=True)
    opened = OpenedSource(source, scratch)
    frames = [batch.frame for batch in opened.iterate_batches()]
    rows = pl.concat(frames, how="diagonal_relaxed").to_dicts() if frames else []
    return rows, opened


def _csv(separator=",", quoted=True):
    def cell(text):
        return '"' + text.replace('"', '""') + '"' if quoted else text

    lines = [separator.join(ROWS[0])] + [separator.join(cell(v) for v in row.values()) for row in ROWS]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("separator", [",", ";", "\t", "|", "^", "\x01", "~", "\u00a6", " "])
def test_separators_and_quotes_are_found_out(read, separator):
    assert read("items.csv", _csv(separator))[0] == ROWS


@pytest.mark.parametrize("separator", ["::", "||"])
def test_a_separator_may_be_two_signs(read, separator):
    lines = [f"{n}{separator}Mug {n}{separator}{n}.5" for n in range(9)]
    rows, _ = read("items.dat", f"item_id{separator}title{separator}price\n" + "\n".join(lines) + "\n")
    assert rows[7] == {"item_id": "7", "title": "Mug 7", "price": "7.5"}


def test_signs_within_names_and_cells_are_no_separators(read):
    header = "item_id\ttitle\tcity, country, region, area, zip"
    lines = [f"{n}\tMug, {n}\tOslo, NO" for n in range(9)]
    rows, _ = read("items.txt", header + "\n" + "\n".join(lines) + "\n")
    assert list(rows[0].values()) == ["0", "Mug, 0", "Oslo, NO"]


@pytest.mark.parametrize("separator", [",", "\t", " "])
def test_rows_may_have_names_that_the_header_leaves_out(read, separator):
    lines = [separator.join((f'"{n + 1}"', f'"10{n}"', f'"Mug {n}"', f"{n}.5")) for n in range(12)]
    header = separator.join(('"item_id"', '"title"', '"price"'))
    rows, opened = read("items.txt", header + "\n" + "\n".join(lines) + "\n")
    assert rows[3] == {"row": "4", "item_id": "103", "title": "Mug 3", "price": "3.5"}
    assert not opened.broken_lines


def test_a_separator_at_the_end_of_all_lines_is_no_cell(read):
    rows, _ = read("items.csv", "item_id,title\n" + "".join(f"{1 + n},Mug {n},\n" for n in range(9)))
    assert rows[4] == {"item_id": "5", "title": "Mug 4"}


def test_a_name_that_is_missing_at_the_header_s_end_shifts_no_other(read):
    with pytest.raises(UserError, match="none of its 9 lines fits its first one"):
        read("items.csv", "item_id,title\n" + "".join(f"{100 + n},Mug {n},{n}.5\n" for n in range(9)))


@pytest.mark.parametrize("name", ["items.tsv", "items.csv"])
def test_a_mark_that_encloses_nothing_swallows_no_line(read, name):
    lines = ["item_id\ttitle", '1\t"Best mug', "2\tplain", '3\tgreat"', '4\t12" pan', '5\t"quoted" start']
    rows, _ = read(name, "\n".join(lines))
    assert [row["title"] for row in rows] == ['"Best mug', "plain", 'great"', '12" pan', '"quoted" start']


def test_cells_may_hold_line_breaks(read):
    rows, _ = read("items.csv", 'item_id,title\n1,"a\nb"\n2,"c, ""d"""\n')
    assert [row["title"] for row in rows] == ["a\nb", 'c, "d"']
    lines = [f'{n},"Mug {n}\nline ""two"", more",{n}.5' for n in range(20)]
    rows, _ = read("items.csv", "item_id,title,price\n" + "\n".join(lines) + "\n")
    assert rows[7]["title"] == 'Mug 7\nline "two", more'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1", "gb18030", "shift_jis"])
def test_encodings_are_found_out(read, encoding):
    title = {"gb18030": "不锈钢厨房用具套装家用", "shift_jis": "ステンレス製の鍋とフライパン"}.get(
        encoding, "Krüge für Café"
    )
    content = "item_id,title\n" + "".join(f"{n},{title}\n" for n in range(40))
    rows, opened = read("items.csv", content.encode(encoding))
    assert {row["title"] for row in rows} == {title}
    assert bool(opened.notes) is (encoding not in ("utf-8", "utf-8-sig", "utf-16"))


@pytest.mark.parametrize(
    ("encoding", "title"),
    [
        ("cp1251", "Белая чашка для чая и кофе"),
        ("koi8_r", "Белая чашка для чая и кофе"),
        ("cp1253", "Λευκό φλιτζάνι τσαγιού μεγάλο"),
        ("cp1255", "ספל לבן לתה ולקפה"),
        ("cp949", "하얀 찻잔과 커피잔 세트"),
        ("cp1256", "كوب أبيض للشاي والقهوة"),
        ("iso8859_2", "Żółta filiżanka będąca w łazience"),
        ("cp1250", "Příliš žluťoučký čajový hrnek"),
        ("cp1250", "Gőzölgő fűszeres bögre és kötött zsák"),
        ("cp1254", "Büyük çay geniş şişe göre ağaç için"),
        ("cp1257", "Žalias puodelis šilta arbatinė lėkštė"),
        ("cp850", "Große Schüssel für süßen Käse"),
        ("cp1252", "Große Schüssel für “süßen” Käse & Crème brûlée"),
        ("cp1252", "Service à thé décoré très léger forêt"),
        ("cp1252", "Tassa de cafè peça única qüestió raïm coixí"),
        ("cp1252", "Schüssel théière crème caffè città Käse Öl"),
    ],
)
def test_letters_of_one_byte_are_told_apart_by_their_language(read, encoding, title):
    content = "item_id,title\n" + "".join(f"{n},{title}\n" for n in range(40))
    rows, opened = read("items.csv", content.encode(encoding))
    assert {row["title"] for row in rows} == {title}
    assert "Set `encoding` if letters look wrong" in opened.notes[0]


def test_lines_of_another_encoding_spoil_no_other_line(read):
    content = b"item_id,title\n" + "1,Becher für Tee\n".encode() * 30
    rows, opened = read(
        "items.csv", content + "2,Glas für Saft\n".encode("latin-1") + "3,Schüssel".encode()[:-5]
    )
    assert [row["title"] for row in rows][-3:-1] == ["Becher für Tee", "Glas für Saft"]
    assert "cp1252 where it is not" in opened.notes[0]


def test_a_word_in_every_row_does_not_decide_the_encoding(read):
    lines = [f"{7000 + n},{n},{word}" for n, word in enumerate(["浏览", "加购", "购买"] * 40)]
    text = "用户ID,商品ID,行为\n" + "\n".join([*lines, *("1,2,浏览" for _ in range(200))]) + "\n"
    rows, _ = read("log.csv", text.encode("gbk"))
    assert rows[0] == {"用户ID": "7000", "商品ID": "0", "行为": "浏览"}


def test_two_words_of_a_header_tell_its_encoding(read):
    rows, _ = read("items.csv", "Data zamówienia;Ilość\n2025-03-01;2\n".encode("cp1250"))
    assert rows == [{"Data zamówienia": "2025-03-01", "Ilość": "2"}]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_needs_no_mark(read, encoding):
    assert read("items.csv", _csv(";").encode(encoding))[0] == ROWS


@pytest.mark.parametrize(
    "before", ["# made by, a tool, of\n#\n", "sep=;\r\n", '\ufeff"sep=;"\n', "\n\n", " \r\n"]
)
def test_what_stands_before_the_header_is_passed_over(read, before):
    assert read("items.csv", before + _csv(";"))[0] == ROWS


def test_a_header_may_begin_like_a_comment(read):
    rows, _ = read("items.csv", "# all items\n#item_id,title\n7,Mug\n")
    assert rows == [{"#item_id": "7", "title": "Mug"}]


def test_a_header_that_stands_again_is_no_row(read):
    header = _csv(quoted=False).split("\n")[0]
    rows, opened = read("items.csv", f"{_csv()}\ufeff{header}\n9,a,1\n")
    assert len(rows) == 31
    assert [line.reason for line in opened.broken_lines] == ["the header again"]


def test_a_mark_within_a_cell_may_stand_behind_a_backslash(read):
    lines = [f'"{n}","12\\" pan, \\"large\\"","{n}.5"' for n in range(9)]
    rows, _ = read("items.csv", '"item_id","title","price"\n' + "\n".join(lines) + "\n")
    assert {row["title"] for row in rows} == {'12" pan, "large"'}
    rows, _ = read("items.csv", "item_id,title,price\n" + "\n".join(lines) + "\n")
    assert {row["title"] for row in rows} == {'12" pan, "large"'}


def test_single_marks_may_enclose_cells(read):
    rows, _ = read("items.csv", "'item_id','title'\n'7','a lid, blue'\n'8',''\n")
    assert [row["title"] for row in rows] == ["a lid, blue", None]


@pytest.mark.parametrize("name", ["items.txt", "0000_part_00", "items [new]*.csv"])
def test_a_name_needs_no_known_ending_and_no_plain_letters(read, name):
    assert read(name, _csv())[0] == ROWS


def test_a_file_without_an_ending_is_known_by_its_beginning(read):
    rows = [{"item_id": row["item_id"], "title": row["title"]} for row in ROWS]
    buffer = io.BytesIO()
    pl.DataFrame(rows).write_parquet(buffer)
    assert read("part-00000", buffer.getvalue())[0] == rows
    assert read("log.dat", buffer.getvalue())[0] == rows
    assert read("unloaded", json.dumps(rows))[0] == rows
    assert read("items.txt", json.dumps(rows))[0] == rows
    stream = io.BytesIO()
    pl.DataFrame(rows).write_ipc_stream(stream)
    assert read("items.arrow", stream.getvalue())[0] == rows


def test_lines_may_end_in_any_way(read):
    lines = _csv().splitlines()
    assert read("old.csv", "\r".join(lines) + "\r")[0] == ROWS
    assert read("windows.csv", "\r\r\n".join(lines) + "\r\r\n")[0] == ROWS
    assert read("joined.csv", "\r\n".join(lines[:9]) + "\r\n" + "\n".join(lines[9:]))[0] == ROWS


def test_a_header_that_stands_lower_is_asked_for(read):
    with pytest.raises(
        UserError, match=r"taken for the header: Stock list of the north\. If the header stands"
    ):
        read("items.csv", "Stock list of the north\n" + _csv())


def test_quotes_of_the_header_tell_that_cells_are_enclosed(read):
    rows, _ = read("items.csv", '"item_id","title"\n"7","a lid,\nblue, round"\n"8","a pot,\nred, deep"\n')
    assert [row["title"] for row in rows] == ["a lid,\nblue, round", "a pot,\nred, deep"]


def test_a_name_that_stands_twice_is_told(read):
    rows, opened = read("items.csv", "item_id,Price,price\n7,1.5,2.5\n")
    assert rows == [{"item_id": "7", "Price": "1.5", "price_1": "2.5"}]
    assert "names a column 'price' twice" in opened.notes[0]


def test_a_packed_file_needs_no_name_that_says_so(read):
    assert read("items.csv", bz2.compress(_csv().encode()))[0] == ROWS


def test_a_name_may_say_that_a_plain_file_is_packed(read):
    assert read("items.csv.gz", _csv())[0] == ROWS


@pytest.mark.parametrize("name", ["items.csv.1", "items.2025-03-01", "items.20250301"])
def test_files_of_a_series_are_known_by_what_stands_before_their_number(read, name):
    assert read(name, _csv())[0] == ROWS


def test_a_packed_file_may_be_packed_again(read):
    assert read("items.csv.gz", gzip.compress(bz2.compress(_csv().encode())))[0] == ROWS


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"PAR1\x15\x04", "a Parquet file; set `format: parquet`"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "a spreadsheet"),
        (b"<!DOCTYPE html><p>Sign in", "a web page"),
        (b'<?xml version="1.0"?>', "XML"),
        (b"Obj\x01\x04\x16avro.schema", "an Avro file"),
        (b"-- MySQL dump 10.13\n", "a dump of SQL statements"),
        (b"INSERT INTO items VALUES (7);\n", "a dump of SQL statements"),
        (b'{"item_id": 7}\n', "JSON, whatever its name says; set `format: jsonl`"),
    ],
)
def test_a_file_that_is_no_csv_says_what_it_is(read, content, what):
    with pytest.raises(UserError, match=f"'.*items.csv' is {what}"):
        read("items.csv", content)


def test_a_column_may_be_named_like_the_mark_of_a_format(read):
    rows, _ = read("items.csv", "par1,item_id\n5,7\n")
    assert rows == [{"par1": "5", "item_id": "7"}]


def test_an_archive_of_several_files_lists_them(read):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("may.csv", _csv())
        archive.writestr("june.csv", _csv())
    with pytest.raises(UserError, match=r"holds 2 files \(may.csv, june.csv\), not one"):
        read("items.csv.zip", packed.getvalue())


def test_an_encoding_that_is_not_the_file_s_is_refused(read):
    with pytest.raises(UserError, match=r"items\.csv.*encoding"):
        read("items.csv", "item_id,title\n1,Café\n".encode("latin-1"), encoding="utf-8")


def test_an_archive_of_one_file_has_its_format(read):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("export/items.jsonl", '{"item_id": "7"}\n{"item_id": "8"}\n')
    assert read("items.zip", packed.getvalue())[0] == [{"item_id": "7"}, {"item_id": "8"}]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("log.tar.gz", "is an archive; unpack it"),
        ("log.parquet.gz", "packed once more"),
        ("log.sqlite", "is a database; export its table"),
    ],
)
def test_what_is_packed_in_another_way_is_refused_in_plain_words(read, name, said):
    with pytest.raises(UserError, match=said):
        read(name, gzip.compress(b"PAR1 and more"))


@pytest.mark.parametrize("suffix", ["gz", "bz2", "xz", "zip"])
def test_compressed_files_are_read_and_cut_ones_refused(read, tmp_path, suffix):
    text = _csv().encode()
    if suffix == "zip":
        with zipfile.ZipFile(tmp_path / "made.zip", "w") as archive:
            archive.writestr("items.csv", text)
        packed = (tmp_path / "made.zip").read_bytes()
    else:
        packed = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}[suffix](text)
    assert read(f"items.csv.{suffix}", packed)[0] == ROWS
    with pytest.raises(UserError, match="cannot be unpacked"):
        read(f"items.csv.{suffix}", packed[: len(packed) // 2])


def test_broken_lines_are_told_and_cost_no_other(read):
    rows, opened = read("events.csv", "a,b\n1,2\n3\n4,5,6\n7,8\n")
    assert rows == [{"a": "1", "b": "2"}, {"a": "7", "b": "8"}]
    assert [(line.line, line.text) for line in opened.broken_lines] == [(3, "3"), (4, "4,5,6")]


def _write_log(last, widths=(4,)):
    rows = [f"2025-03-01,{10 ** (widths[n % len(widths)] - 1) + n}" for n in range(40)]
    return "\n".join(["day,user_id", *rows, f"2025-03-02,{last}"])


def test_a_row_that_ends_within_its_last_cell_is_none(read):
    rows, opened = read("log.csv", _write_log("12"))
    assert (len(rows), opened.broken_lines[0].reason) == (40, "the file ends within its last cell")
    assert opened.broken_lines[0].text == "2025-03-02, 12"


@pytest.mark.parametrize("content", [_write_log("1234"), _write_log("12") + "\n", _write_log('"12"')])
def test_a_last_row_that_may_be_whole_stays(read, content):
    rows, opened = read("log.csv", content)
    assert (len(rows), opened.broken_lines, opened.notes) == (41, [], [])


def test_a_last_cell_that_is_shorter_than_others_of_any_length_is_told(read):
    rows, opened = read("log.csv", _write_log("12", widths=(3, 5)))
    assert len(rows) == 41
    assert "its last cell '12' is shorter than all above it" in opened.notes[0]


@pytest.mark.parametrize("kind", ["lines", "array"])
def test_json_keeps_the_digits_of_numbers(read, kind):
    values = [{"item_id": 12345678901234567890, "price": 17841.0}, {"item_id": "a", "tags": ["x", "y"]}]
    text = json.dumps(values) if kind == "array" else "\n".join(map(json.dumps, values))
    rows, _ = read("items.json", text)
    assert rows[0]["item_id"] == "12345678901234567890"
    assert rows[1] == {"item_id": "a", "price": None, "tags": '["x","y"]'}


_OBJECTS = [json.dumps({"item_id": str(n), "title": f"Mug {n}"}) for n in range(9)]


@pytest.mark.parametrize(
    ("content", "num_broken"),
    [
        ("\n".join(_OBJECTS)[:-12], 1),
        ("\n".join([*_OBJECTS[:4], '{"item_id": "7', *_OBJECTS[5:]]), 1),
        (",\n\n".join(_OBJECTS) + ",\n", 0),
        ("[\n" + ",\n".join(_OBJECTS)[:-12], 1),
        ("\ufeff[" + ",".join(_OBJECTS) + "]", 0),
        ("\ufeff" + "\n".join(_OBJECTS), 0),
    ],
)
def test_broken_lines_of_json_are_told_and_cost_no_other(read, content, num_broken):
    rows, opened = read("items.jsonl", content)
    assert len(rows) == 9 - num_broken
    assert {row["title"] for row in rows} <= {f"Mug {n}" for n in range(9)}
    assert [line.reason for line in opened.broken_lines] == ["the line is no JSON object"] * num_broken


def test_json_of_another_form_is_refused_in_plain_words(read):
    by_column = {"item_id": {"0": "7", "1": "8"}, "title": {"0": "a", "1": "b"}}
    for content in (by_column, {"columns": ["item_id"], "index": [0], "data": [["7"]]}):
        with pytest.raises(UserError, match="another form of pandas: write an object a row"):
            read("items.json", json.dumps(content))
    with pytest.raises(UserError, match=r"no JSON that can be read: line 1 is '\{item_id: 1\}'"):
        read("items.jsonl", "{item_id: 1}\n{item_id: 2}\n")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("items.parquet", b"PAR1xx"),
        ("items.arrow", b"no arrow"),
        ("items.csv", b""),
        ("items.xlsx", b"PK"),
        ("items.xyz", b"x"),
    ],
)
def test_an_unreadable_file_is_named(read, name, content):
    with pytest.raises(UserError, match=name.replace(".", r"\.")):
        read(name, content)


def test_leftovers_copies_and_empty_files_are_left_out(tmp_path):
    for name in (
        "a.csv",
        "copy of a.csv",
        ".ipynb_checkpoints/a.csv",
        "_temporary/0/b.csv",
        "_SUCCESS",
        ".a.csv.crc",
        "a.csv~",
        "a.csv.md5",
        "README.txt",
        "events_manifest",
        "desktop.ini",
    ):
        (tmp_path / "log" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "log" / name).write_text("a,b\n1,2\n")
    (tmp_path / "log" / "part-1.csv").write_text("")
    for uri in (tmp_path / "log", tmp_path / "log" / "**" / "*.csv"):
        found = find_source_files(str(uri))
        assert [path.rsplit("/", 1)[1] for path in found.paths] == ["a.csv"]
        assert (len(found.repeated), len(found.empty)) == (1, 1)


def test_a_folder_of_empty_files_is_refused(tmp_path):
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("")
    with pytest.raises(UserError, match="empty"):
        find_source_files(str(tmp_path))


@pytest.mark.parametrize("marker", ["_delta_log/0.json", "metadata/v1.metadata.json", ".hoodie/x"])
def test_tables_with_a_log_of_their_own_are_refused(tmp_path, marker):
    (tmp_path / marker).parent.mkdir()
    (tmp_path / marker).write_text("{}")
    (tmp_path / "part.parquet").write_text("x")
    with pytest.raises(UserError, match="table: its log says which files count"):
        list_source_files(str(tmp_path))


def test_partitions_of_folders_are_columns(tmp_path):
    for day in ("2025-03-01", "2025-03-02"):
        folder = tmp_path / "log" / f"day={day}"
        folder.mkdir(parents=True)
        pl.DataFrame({"user_id": ["u" + day]}).write_parquet(folder / "part.parquet")
    rows, _ = _rows(EventSourceConfig(uri=str(tmp_path / "log")), tmp_path)
    assert [row["day"] for row in rows] == ["2025-03-01", "2025-03-02"]


def test_files_of_two_partitions_are_no_copies(tmp_path):
    for folder in ("day=1", "day=2", "day=2/again"):
        (tmp_path / "log" / folder).mkdir(parents=True)
        (tmp_path / "log" / folder / "part.csv").write_text("user_id,item_id\n7,8\n")
    found = find_source_files(str(tmp_path / "log"))
    assert [path.removeprefix(str(tmp_path)) for path in found.paths] == [
        "/log/day=1/part.csv",
        "/log/day=2/again/part.csv",
    ]
    assert len(found.repeated) == 1


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_folder_names_are_unescaped_and_may_say_nothing(tmp_path, suffix):
    for folder in ("user_id=a%2Fb", "user_id=__HIVE_DEFAULT_PARTITION__"):
        (tmp_path / "log" / folder).mkdir(parents=True)
        frame = pl.DataFrame({"item_id": ["7" + folder[-1]]})
        path = tmp_path / "log" / folder / f"part.{suffix}"
        frame.write_parquet(path) if suffix == "parquet" else frame.write_csv(path)
    rows, _ = _rows(SourceConfig(uri=str(tmp_path / "log")), tmp_path)
    assert {row["user_id"] for row in rows} == {"a/b", None}


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_a_folder_that_contradicts_its_file_is_refused(tmp_path, suffix):
    folder = tmp_path / "log" / "arm=control"
    folder.mkdir(parents=True)
    frame = pl.DataFrame({"item_id": ["7", "8"], "arm": ["control", "treatment"]})
    path = folder / f"part.{suffix}"
    frame.write_parquet(path) if suffix == "parquet" else frame.write_csv(path)
    with pytest.raises(UserError, match="the folder says arm=control, the file says arm 'treatment'"):
        _rows(SourceConfig(uri=str(tmp_path / "log")), tmp_path)


def test_ids_that_are_objects_ask_for_the_field(tmp_path):
    path = tmp_path / "log.jsonl"
    lines = [{"user_id": {"id": f"u{n}", "visits": n}, "item_id": "7", "timestamp": n} for n in range(3)]
    path.write_text("\n".join(json.dumps(line) for line in lines))
    source = EventSourceConfig(uri=str(path))
    with pytest.raises(UserError, match=r"`user_id\.id`"):
        collect_evidence(OpenedSource(source, tmp_path), source, EVENTS)


def test_a_query_is_a_source(tmp_path):
    pl.DataFrame({"sku": [1, 2, 3]}).write_parquet(tmp_path / "a.parquet")
    uri = f"duckdb:create view v as from '{tmp_path / 'a.parquet'}'; select sku from v where sku > 1"
    assert _rows(ItemSourceConfig(uri=uri), tmp_path)[0] == [{"sku": 2}, {"sku": 3}]
    with pytest.raises(UserError, match="nowhere"):
        _rows(ItemSourceConfig(uri="duckdb:select * from nowhere"), tmp_path)


@pytest.mark.parametrize("said", [{"ETag": "1"}, {"updated": "2026-01-01"}, {}])
def test_a_store_that_tells_no_version_is_digested_by_content(said):
    store = fsspec.filesystem("memory")
    config = DataConfig(items={"uri": "memory://shop/i.csv"}, events={"uri": "memory://shop/e.csv"})
    digests = []
    for content in (b"a,b\n1,2\n", b"a,b\n3,4\n"):
        for name in ("i", "e"):
            store.pipe_file(f"/shop/{name}.csv", content)
        with patch.object(
            type(store), "info", lambda _, path, **__: {"name": path, "size": 8, "type": "file"} | said
        ):
            digests.append(digest_data(config))
    # The same version of the store is believed; without one, a change of equal size is seen.
    assert (digests[0] == digests[1]) == bool(said)


def test_files_may_write_the_names_of_columns_in_another_case(tmp_path):
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "a.csv").write_text("user_id,Item ID\na,1\n")
    (tmp_path / "log" / "b.csv").write_text("USER_ID,item_id\nb,2\n")
    (tmp_path / "log" / "c.csv").write_text("userId,user_id,item_id\nx,c,3\n")
    rows, _ = _rows(SourceConfig(uri=str(tmp_path / "log")), tmp_path)
    assert [(row["user_id"], row["Item ID"]) for row in rows] == [("a", "1"), ("b", "2"), ("c", "3")]


def test_a_join_may_select_a_name_twice(tmp_path):
    query = "duckdb:select * from (select 1 as id, 'a' as title) join (select 2 as id, 3 as price) on true"
    rows, opened = _rows(SourceConfig(uri=query), tmp_path)
    assert rows == [{"id": 1, "title": "a", "id_1": 2, "price": 3}]
    assert "names a column 'id' twice" in opened.notes[0]


def test_maps_and_intervals_are_texts(tmp_path):
    query = "duckdb:select map {'product_id': '7', 'page': 'x'} as properties, interval 3 day as kept"
    rows, _ = _rows(SourceConfig(uri=query), tmp_path)
    assert json.loads(rows[0]["properties"]) == {"product_id": "7", "page": "x"}
    assert rows[0]["kept"] == "3 days"
