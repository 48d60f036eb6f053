"""Sources as tables of inputs: every manifest format, what is refused and on which line, ids, duplicates, limits."""

import json
import os
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pytest
from pyarrow import parquet

from alt_ray.errors import SourceError
from alt_ray.video import manifest_formats
from alt_ray.video.manifest import INPUTS_SCHEMA, read_source, video_id
from alt_ray.video.manifest_formats import parse_bare
from alt_ray.video.sources import open_seekable


def write(path: Path, text: str | bytes) -> str:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def rows(source: str, **options: Any) -> list[dict[str, Any]]:
    return read_source(source, **options).table.to_pylist()


def error(source: str, **options: Any) -> str:
    with pytest.raises(SourceError) as caught:
        read_source(source, **options)
    return str(caught.value)


RECORDS = [
    {"path": "a b, (1).mp4", "label": "run", "split": "train", "group": "p1", "start_s": 1.5, "end_s": 2.0, "id": "x"},
    {"path": "sub/b.mp4", "label": None, "split": "val", "group": None, "start_s": None, "end_s": 3.0, "id": None},
    {"path": "s3://bucket/c#?.mp4", "label": "3", "split": "test", "group": "p2", "start_s": 4.0, "end_s": None},
]


def write_records(folder: Path, extension: str) -> str:
    path = folder / f"list.{extension}"
    if extension == "parquet":
        parquet.write_table(pa.Table.from_pylist(RECORDS), path)
    elif extension == "jsonl":
        path.write_text("\n\n".join(map(json.dumps, RECORDS)))
    else:
        mark = {"csv": ",", "tsv": "\t", "txt": ";"}[extension]
        lines = ['"a b, (1).mp4"|run|train|p1|1.5|2|x', "sub/b.mp4||VALID| ||3|", "s3://bucket/c#?.mp4|3|test|p2|4||"]
        text = "\r\n\r\n".join([" Path|label|split|GROUP|start_s|end_s|id", *lines]).replace("|", mark)
        path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    return str(path)


@pytest.mark.parametrize("extension", ["csv", "tsv", "txt", "jsonl", "parquet"])
def test_every_format_with_columns_gives_the_same_table(extension: str, tmp_path: Path) -> None:
    inputs = read_source(write_records(tmp_path, extension))
    b, c = f"{tmp_path}/sub/b.mp4", "s3://bucket/c#?.mp4"
    assert inputs.table.schema == INPUTS_SCHEMA
    assert [tuple(row.values()) for row in inputs.table.to_pylist()] == [
        ("x", f"{tmp_path}/a b, (1).mp4", 1.5, 2.0, "run", "train", "p1"),
        (video_id(b, None, 3.0), b, None, 3.0, None, "val", None),
        (video_id(c, 4.0, None), c, 4.0, None, "3", "test", "p2"),
    ]
    assert (inputs.duplicates, inputs.other_files, inputs.source) == (0, {}, f"{tmp_path}/list.{extension}")


@pytest.mark.parametrize(
    ("line", "path", "label"),
    [
        ("a b (1).avi 12", "a b (1).avi", "12"),
        ("Class/v_x.avi 1", "Class/v_x.avi", "1"),
        ("a.mp4,3", "a.mp4", "3"),
        ("a, b.mp4,3", "a, b.mp4", "3"),
        ("a.mp4\tplaying guitar", "a.mp4", "playing guitar"),
        ("only a path.MKV", "only a path.MKV", None),
        ("x.avi 2.avi", "x.avi 2.avi", None),
        ("x.avi 2.avi 7", "x.avi 2.avi", "7"),
        ("!([#&+;~]).mp4 0", "!([#&+;~]).mp4", "0"),
        ('"a, ""b"".mp4",7', 'a, "b".mp4', "7"),
        ('"a.mp4 b.mp4",7', "a.mp4 b.mp4", "7"),
        ('"a, b.mp4"', "a, b.mp4", None),
        ('"a" b.mp4 7', '"a" b.mp4', "7"),
        ('a.mp4,"run, fast"', "a.mp4", "run, fast"),
        ("a.mp4,", "a.mp4", None),
        ("no_extension 4", "no_extension", "4"),
        ("no,extension,4", "no,extension", "4"),
        ("no_extension", "no_extension", None),
        ("https://host/v.mp4?x=1 4", "https://host/v.mp4?x=1", "4"),
        ("https://host/v.mp4?x=1", "https://host/v.mp4?x=1", None),
    ],
)
def test_a_bare_line_is_read_from_the_right(line: str, path: str, label: str | None) -> None:
    assert parse_bare(line) == (path, label)


@pytest.mark.parametrize("extension", ["csv", "tsv", "txt"])
def test_a_manifest_without_a_header_loses_no_line(extension: str, tmp_path: Path) -> None:
    source = write(tmp_path / f"l.{extension}", "\ufeffa.mp4,label\r\n\r\nb c.mp4 2\r\n#d.mp4")
    found = [(row["uri"].removeprefix(f"{tmp_path}/"), row["label"]) for row in rows(source)]
    assert found == [("a.mp4", "label"), ("b c.mp4", "2"), ("#d.mp4", None)]


def test_relative_paths_are_below_the_manifest_or_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    names = ["a.mp4", "./b//x/../c.mp4", "../d.mp4", "/abs/./e.mp4", "~/f.mp4", "~g.mp4", "file:///h%20i.mp4"]
    source = write(tmp_path / "l.csv", "\n".join(["path", *names, "gs://b/../k//j.mp4"]))

    def expected(folder: str, above: str) -> list[str]:
        below = [f"{folder}/a.mp4", f"{folder}/b/c.mp4", f"{above}/d.mp4"]
        return [*below, "/abs/e.mp4", "/home/me/f.mp4", f"{folder}/~g.mp4", "/h i.mp4", "gs://b/../k//j.mp4"]

    assert [row["uri"] for row in rows(source)] == expected(str(tmp_path), str(tmp_path.parent))
    assert [row["uri"] for row in rows(source, root="/data/videos/")] == expected("/data/videos", "/data")
    assert rows(source, root="s3://bucket/x")[0]["uri"] == "s3://bucket/x/a.mp4"
    assert rows(source, root="/")[0]["uri"] == "/a.mp4"


def test_a_manifest_may_live_on_a_remote_file_system() -> None:
    fsspec.filesystem("memory").pipe("/lists/x/l.csv", b"path,label\na.mp4,1\n../b.mp4,2\n")
    assert [row["uri"] for row in rows("memory://lists/x/l.csv")] == ["memory://lists/x/a.mp4", "memory://lists/b.mp4"]


def test_relative_names_below_a_web_folder_are_percent_encoded(tmp_path: Path) -> None:
    source = write(tmp_path / "l.csv", "path\na b#.mp4\nhttp://h/c d.mp4\n")
    assert [r["uri"] for r in rows(source, root="https://host/x")] == [
        "https://host/x/a%20b%23.mp4",
        "http://h/c d.mp4",
    ]


def test_the_id_depends_on_the_source_and_the_bounds_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [path] = [write(tmp_path / "a.mp4", b"x")]
    monkeypatch.chdir(tmp_path)
    by_line = write(tmp_path / "l.txt", "./a.mp4 3")
    by_column = write(tmp_path / "l.csv", f"uri,label\nfile://{path},other\n")
    sources = [path, "a.mp4", "x/../a.mp4", str(tmp_path), "*.mp4", by_line, by_column]
    assert {rows(source)[0]["video_id"] for source in sources} == {video_id(path)}
    # Written into the results of every user: a change of this value orphans them.
    assert video_id("/data/a.mp4", 1.5, None) == "bd8f0b3226bfe1151c2cbec3"
    clips = write(tmp_path / "c.csv", "path,start_s,end_s\na.mp4,,\na.mp4,0,\na.mp4,,5\na.mp4,5,6\n")
    assert len({row["video_id"] for row in rows(clips)}) == 4


def test_rows_with_the_same_source_and_bounds_are_dropped_and_counted(tmp_path: Path) -> None:
    lines = ["path,start_s,label", "a.mp4,1,x", "b.mp4,,x", "./a.mp4,1.0,y", "a.mp4,2,x", "b.mp4,,z", "a.mp4,1e0,x"]
    inputs = read_source(write(tmp_path / "l.csv", "\n".join(lines)))
    assert inputs.duplicates == 3
    assert inputs.table["label"].to_pylist() == ["x", "x", "x"]
    assert inputs.table["start_s"].to_pylist() == [1.0, None, 2.0]
    with_ids = read_source(write(tmp_path / "i.csv", "path,id\na.mp4,1\nb.mp4,2\nx/../a.mp4,1\n"))
    assert (with_ids.table["video_id"].to_pylist(), with_ids.duplicates) == (["1", "2"], 1)


@pytest.mark.parametrize("other", ["b.mp4,1,,", "a.mp4,1,,9"])
def test_one_id_for_two_sources_names_both_lines(other: str, tmp_path: Path) -> None:
    message = error(write(tmp_path / "l.csv", f"path,id,start_s,end_s\na.mp4,1,,\n\nc.mp4,2,,\n{other}\n"))
    assert "'1'" in message
    assert "l.csv, line 2" in message
    assert "l.csv, line 5" in message
    assert f"{tmp_path}/a.mp4" in message


@pytest.mark.parametrize("batch_rows", [1, 2, 65536])
def test_a_limit_takes_the_first_different_inputs(
    batch_rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest_formats, "BATCH_ROWS", batch_rows)
    source = write(tmp_path / "l.txt", "a.mp4\nb.mp4\na.mp4\na.mp4\nc.mp4\nc.mp4\nd.mp4\n")
    inputs = read_source(source, limit=3)
    assert [Path(uri).name for uri in inputs.table["uri"].to_pylist()] == ["a.mp4", "b.mp4", "c.mp4"]
    assert inputs.duplicates == 2
    assert len(rows(source, limit=99)) == 4
    assert "limit 0" in error(source, limit=0)


@pytest.mark.parametrize("extension", ["csv", "jsonl"])
@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ("split", "dev", "train, val, valid, validation, test"),
        ("start_s", "-1", "0 or more"),
        ("start_s", "soon", "number of seconds"),
        ("end_s", "1,5", "number of seconds"),
        ("end_s", "inf", "number of seconds"),
        ("end_s", "0", "more than start_s"),
        ("path", " ", "no path"),
    ],
)
def test_a_bad_value_is_named_with_its_line(
    extension: str, column: str, value: str, expected: str, tmp_path: Path
) -> None:
    bad = {"path": "b.mp4", column: value}
    if extension == "csv":
        path, other = bad.pop("path"), "".join(bad.values())
        header, row = f"path,{column if bad else 'label'}", f'"{path}","{other}"'
        source = write(tmp_path / "l.csv", f'{header}\n"a\n.mp4",\n\n{row}\n')
        line = 5
    else:
        source = write(tmp_path / "l.jsonl", f'{{"path": "a.mp4"}}\n\n\n{json.dumps(bad)}\n')
        line = 4
    message = error(source)
    assert f"l.{extension}, line {line}: " in message
    assert expected in message
    assert value.strip() in message


def test_an_end_before_the_start_is_refused(tmp_path: Path) -> None:
    message = error(write(tmp_path / "l.tsv", "path\tstart_s\tend_s\na.mp4\t1\t2\nb.mp4\t3\t3\n"))
    assert "line 3: end_s is 3.0" in message


def test_the_row_of_a_parquet_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "l.parquet"
    parquet.write_table(pa.table({"path": ["a.mp4", "b.mp4"], "start_s": [float("nan"), -2.0]}), path)
    assert "l.parquet, row 2: start_s is -2.0" in error(str(path))
    parquet.write_table(pa.table({"path": [["a.mp4"]]}), path)
    assert "expected text" in error(str(path))


def test_columns_of_other_types_become_text(tmp_path: Path) -> None:
    path = tmp_path / "l.parquet"
    labels = pa.array(["run", "run"]).dictionary_encode()
    table = {"uri": pa.array(["a.mp4", "b.mp4"], pa.large_string()), "label": labels, "id": [7, 8], "end_s": [3, None]}
    parquet.write_table(pa.table(table), path)
    assert [(r["label"], r["video_id"], r["end_s"]) for r in rows(str(path))] == [("run", "7", 3.0), ("run", "8", None)]
    jsonl = write(tmp_path / "l.jsonl", '{"path": "a.mp4", "label": 3}\n{"label": "x", "path": "b.mp4", "more": [1]}')
    assert [row["label"] for row in rows(jsonl)] == ["3", "x"]


@pytest.mark.parametrize("extension", ["csv", "jsonl", "parquet"])
def test_a_missing_path_column_lists_what_there_is(extension: str, tmp_path: Path) -> None:
    path = tmp_path / f"l.{extension}"
    if extension == "parquet":
        parquet.write_table(pa.table({"file": ["a"], "label": ["b"]}), path)
    else:
        write(path, "file,label\na.mp4,b\n" if extension == "csv" else '{"file": "a.mp4", "label": "b"}')
    message = error(str(path))
    assert "'file', 'label'" in message
    assert "'path' (or 'uri')" in message


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("l.csv", "path,uri\na.mp4,b.mp4\n", "line 1: two columns mean 'path'"),
        ("l.csv", "path,label\na.mp4,1\nb, c.mp4,2\n", "line 3: 3 fields, but the header has 2"),
        ("l.csv", b"path,label\na.mp4,1\n\ncaf\xe9.mp4,2\n", "line 4: not UTF-8"),
        ("l.txt", b"a.mp4 1\n\nb.mp4 caf\xe9\n", "line 3: label"),
        ("l.jsonl", '{"path": "a.mp4"}\n{"path": \n', "line 2: not JSON"),
        ("l.jsonl", '"a.mp4"\n', "line 1"),
        ("l.jsonl", '{"path": ["a.mp4"]}\n', 'line 1: path is ["a.mp4"]'),
        ("l.jsonl", '{"path": "\\ud800.mp4"}\n', "line 1: path"),
        ("l.parquet", "path\n", "can't be read as Parquet"),
        ("l.csv", "", "holds no rows"),
        ("l.csv", "path,label\n\n", "holds no rows"),
        ("l.txt", "\n\n", "holds no rows"),
        ("l.jsonl", "", "holds no rows"),
    ],
)
def test_a_manifest_that_cannot_be_read_says_why(name: str, text: str | bytes, expected: str, tmp_path: Path) -> None:
    message = error(write(tmp_path / name, text))
    assert f"{tmp_path}/{name}" in message
    assert expected in message


def test_blank_lines_in_a_table_are_skipped(tmp_path: Path) -> None:
    source = write(tmp_path / "l.csv", " \n\npath,label\n  \na.mp4,1\n\t\nb.mp4,2\n   \n")
    assert [row["label"] for row in rows(source)] == ["1", "2"]


def test_names_that_are_not_utf8_survive_lists_folders_and_parquet(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.mp4")
    (tmp_path / name).write_bytes(b"content")
    source = write(tmp_path / "l.txt", b"caf\xe9.mp4 3\n")
    json_source = write(tmp_path / "l.jsonl", json.dumps({"path": name}))
    [row] = rows(source)
    assert row["uri"] == f"file://{tmp_path}/caf%E9.mp4"
    assert {rows(other)[0]["video_id"] for other in (json_source, str(tmp_path), row["uri"])} == {row["video_id"]}
    parquet.write_table(read_source(source).table, tmp_path / "out.parquet")
    with open_seekable(row["uri"]) as file:
        assert file.read() == b"content"


def test_a_folder_below_one_that_is_not_utf8_still_reads(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"\xe9")
    folder.mkdir()
    write(folder / "a.mp4", b"x")
    source = write(folder / "l.csv", "path\na.mp4\n")
    assert [row["uri"] for row in rows(source)] == [row["uri"] for row in rows(str(folder))]
    assert rows(source)[0]["uri"] == f"file://{tmp_path}/%E9/a.mp4"


def test_a_path_that_exists_wins_over_its_meaning_as_a_glob(tmp_path: Path) -> None:
    for name in ("[ab].mp4", "a.mp4", "b.mp4", "[ab].csv"):
        write(tmp_path / name, "a.mp4,1")
    assert [row["uri"] for row in rows(f"{tmp_path}/[ab].mp4")] == [f"{tmp_path}/[ab].mp4"]
    assert rows(f"{tmp_path}/[ab].csv")[0]["label"] == "1"
    assert [row["uri"] for row in rows(f"{tmp_path}/[abc].mp4")] == [f"{tmp_path}/a.mp4", f"{tmp_path}/b.mp4"]


def test_a_folder_counts_its_other_files(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.txt", "c.TXT", "d"):
        write(tmp_path / name, b"")
    inputs = read_source(str(tmp_path))
    assert (inputs.table.num_rows, inputs.other_files) == (1, {"(none)": 1, "txt": 2})
    assert inputs.table["label"].null_count == 1


def test_a_source_without_videos_says_what_there_is_and_what_is_accepted(tmp_path: Path) -> None:
    assert f"no files in {tmp_path}" in error(str(tmp_path))
    write(tmp_path / "a.txt.bak", b"")
    write(tmp_path / "b.JPG", b"")
    message = error(str(tmp_path))
    assert "1 bak, 1 jpg" in message
    assert " mp4 " in message
    assert "no files in" in error(f"{tmp_path}/*.mp4")
    assert "does not exist" in error(f"{tmp_path}/none.csv")
    assert "folder, a glob, a video" in error(f"{tmp_path}/none")
    assert "neither a video nor a manifest" in error(f"{tmp_path}/b.JPG")
    assert "nosuchscheme" in error("nosuchscheme://x/a.mp4")


def test_a_listed_file_that_is_missing_is_an_input(tmp_path: Path) -> None:
    assert rows(write(tmp_path / "l.txt", "gone.mp4"))[0]["uri"] == f"{tmp_path}/gone.mp4"


@pytest.mark.parametrize(
    ("name", "text", "given"),
    [
        ("a.csv", "path,label,split\na.mp4,,train\n", {"label", "split"}),  # a column, if an empty one
        ("a.csv", "path,id\na.mp4,x\n", set()),
        ("a.jsonl", '{"path": "a.mp4"}\n{"path": "b.mp4", "group": null}\n', {"group"}),
        ("a.txt", "a.mp4\nb.mp4\n", set()),
        ("a.txt", "a.mp4\nb.mp4 3\n", {"label"}),
        ("a.mp4", "", set()),
        ("", "", set()),  # the folder
    ],
)
def test_what_a_source_has_a_column_for_is_known(tmp_path: Path, name: str, text: str, given: set[str]) -> None:
    (tmp_path / "a.mp4").touch()
    source = write(tmp_path / name, text) if name else str(tmp_path)
    assert read_source(source).given == given
