"""Naming, opening and listing sources: real files, a real web server, fsspec's memory file system."""

import contextlib
import http.server
import os
import re
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from alt_ray.errors import DecodeError, SourceError
from alt_ray.video.listing import is_glob, list_videos
from alt_ray.video.sources import open_seekable, resolve
from alt_ray.video.uris import canonical_uri, extension_of, local_path, parent_uri

CONTENT = bytes(range(256)) * 20_000  # 5 MB: more than the read-ahead
ODD_NAMES = ["a b.mp4", "a#b?c.mp4", "100%25.mp4", 'it\'s "q".mp4', "!é 日本[1].mp4", "~x.mp4", "a:b.mp4"]


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Serves CONTENT under any name: /whole/ without byte ranges, /forbidden/ and /missing/ with their statuses."""

    ranges: list[str]

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.respond(send_body=False)

    def do_GET(self) -> None:
        self.respond(send_body=True)

    def respond(self, send_body: bool) -> None:
        folder = self.path.split("/")[1]
        if folder in ("forbidden", "missing"):
            self.send_error({"forbidden": 403, "missing": 404}[folder])
            return
        if folder == "listed":
            body, status = b'<a href="b.mp4">b</a> <a href="a%20c.mp4">a c</a> <a href="notes.txt">n</a>', 200
        else:
            body, status = CONTENT, 200
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if wanted and folder != "whole":
            self.ranges.append(wanted[0])
            first, last = int(wanted[1]), min(int(wanted[2]), len(body) - 1)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(body)}")
            body = body[first : last + 1]
        else:
            self.send_response(status)
        self.send_header("Content-Type", "text/html" if folder == "listed" else "video/mp4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if send_body:
            # A client may leave when it has read enough.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self.wfile.write(body)


@pytest.fixture
def web() -> Iterator[tuple[str, list[str]]]:
    """The address of the server, and the byte ranges that it was asked for."""
    ranges: list[str] = []
    handler = type("Handler", (_Handler,), {"ranges": ranges})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", ranges
    server.shutdown()
    server.server_close()


@pytest.fixture
def memory() -> Iterator[str]:
    filesystem = fsspec.filesystem("memory")
    filesystem.store.clear()
    yield "memory://bucket"
    filesystem.store.clear()


def listed(uri: str | Path) -> tuple[list[str], dict[str, int]]:
    other: Counter[str] = Counter()
    return list(list_videos(str(uri), other)), dict(other)


def touch(folder: Path, *names: str) -> list[str]:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode(errors="surrogateescape"))
    return [str(folder / name) for name in names]


def test_every_spelling_of_a_local_file_has_one_canonical_uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    here = f"{tmp_path}/a b.mp4"
    spellings = ["a b.mp4", "./a b.mp4", "x/../a b.mp4", here, f"/{here}", f"file://{here}", "~/a b.mp4"]
    spellings += [f"file://localhost{tmp_path}/a%20b.mp4", f"FILE://{tmp_path}/a%20b.mp4"]
    assert {canonical_uri(uri) for uri in spellings} == {here}


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_local_name_is_never_parsed_as_an_address(name: str, tmp_path: Path) -> None:
    [path] = touch(tmp_path, name)
    assert canonical_uri(name, str(tmp_path)) == path == local_path(path)
    with open_seekable(path) as file:
        assert file.read() == name.encode()


def test_a_link_is_kept_in_the_canonical_uri(tmp_path: Path) -> None:
    touch(tmp_path, "real/a.mp4")
    (tmp_path / "link").symlink_to("real")
    assert canonical_uri(f"{tmp_path}/link/a.mp4") == f"{tmp_path}/link/a.mp4"


@pytest.mark.parametrize(
    ("path", "folder", "expected"),
    [
        ("a b#1.mp4", "s3://bucket/x", "s3://bucket/x/a b#1.mp4"),
        ("../a.mp4", "s3://bucket/x", "s3://bucket/a.mp4"),
        ("../../../a.mp4", "s3://bucket/x", "s3://bucket/a.mp4"),
        ("./x/./a b#1.mp4", "https://host/x", "https://host/x/x/a%20b%231.mp4"),
        ("/data/a.mp4", "s3://bucket/x", "/data/a.mp4"),
        ("gs://other//a/../b.mp4", "s3://bucket/x", "gs://other//a/../b.mp4"),
    ],
)
def test_relative_paths_join_remote_folders_and_keys_stay_as_written(path: str, folder: str, expected: str) -> None:
    assert canonical_uri(path, folder) == expected


def test_extensions_are_lower_case_and_ignore_web_queries() -> None:
    uris = ["a.MP4", "x.y/a", ".mp4", "a.", "http://h/v.WebM?t=1.jpg#x", "s3://b/v.mp4?x", "a.tar.gz"]
    assert [extension_of(uri) for uri in uris] == ["mp4", "", "", "", "webm", "mp4?x", "gz"]
    assert parent_uri("http://h/x/list.csv?path=/y") == "http://h/x"
    assert parent_uri("/list.csv") == "/"


def test_the_keys_of_object_stores_are_taken_as_written() -> None:
    location = resolve("s3://bucket/a b#1%20?.mp4?region=eu-west-1&endpoint_override=http%3A//127.0.0.1:9")
    assert location.path == "bucket/a b#1%20?.mp4"
    assert location.filesystem.region == "eu-west-1"
    assert location.uri_of("bucket/c d.mp4").startswith("s3://bucket/c d.mp4?region=eu-west-1&")


def test_a_name_that_is_not_utf8_is_a_file_address_that_opens(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9 1.mp4")
    touch(tmp_path, name)
    [uri], other = listed(tmp_path)
    assert uri == f"file://{tmp_path}/caf%E9%201.mp4" == canonical_uri(uri)
    assert not other
    with open_seekable(uri) as file:
        assert file.read() == b"caf\xe9 1.mp4"


def assert_seeks(uri: str) -> None:
    with open_seekable(uri) as file:
        assert (file.seekable(), file.tell(), file.read(5)) == (True, 0, CONTENT[:5])
        assert (file.seek(-3, os.SEEK_END), file.read()) == (len(CONTENT) - 3, CONTENT[-3:])
        assert (file.seek(3_000_001), file.read(4)) == (3_000_001, CONTENT[3_000_001:3_000_005])
        assert (file.seek(2, os.SEEK_CUR), file.tell()) == (3_000_007, 3_000_007)
        file.seek(0)
        assert file.read() == CONTENT
        assert file.read(1) == b""


def test_a_local_file_seeks(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(CONTENT)
    assert_seeks(f"{tmp_path}/a.mp4")


def test_a_file_of_any_fsspec_file_system_seeks(memory: str) -> None:
    fsspec.filesystem("memory").pipe("/bucket/a b.mp4", CONTENT)
    assert_seeks(f"{memory}/a b.mp4")


def test_a_web_file_seeks_by_byte_ranges(web: tuple[str, list[str]]) -> None:
    address, ranges = web
    assert_seeks(f"{address}/ranges/a%20b.mp4?token=x")
    assert f"bytes={len(CONTENT) - 3}-{len(CONTENT) - 1}" in ranges  # and not the whole file before it


def test_a_web_file_without_byte_ranges_seeks_in_a_copy(web: tuple[str, list[str]]) -> None:
    assert_seeks(f"{web[0]}/whole/a.mp4")


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("{tmp}/none.mp4", "not_found"),
        ("{tmp}/file.mp4/below.mp4", "not_found"),
        ("{tmp}", "unreadable"),
        ("{tmp}/" + "x" * 300, "unreadable"),
        ("{tmp}/nul\0.mp4", "unreadable"),
        ("{web}/missing/a.mp4", "not_found"),
        ("{web}/forbidden/a.mp4", "unreadable"),
        ("http://127.0.0.1:9/a.mp4", "unreadable"),  # nothing listens there
        ("http://no-such-host.invalid/a.mp4", "not_found"),
        ("memory://none/a.mp4", "not_found"),
        ("nosuchscheme://host/a.mp4", "unreadable"),
    ],
)
def test_what_cannot_be_opened_is_a_decode_error_that_names_it(
    uri: str, reason: str, tmp_path: Path, web: tuple[str, list[str]]
) -> None:
    touch(tmp_path, "file.mp4")
    uri = uri.format(tmp=tmp_path, web=web[0])
    with pytest.raises(DecodeError) as caught:
        open_seekable(uri)
    assert (caught.value.reason, caught.value.stage) == (reason, "open")
    assert uri in caught.value.message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_unreadable(tmp_path: Path) -> None:
    [path] = touch(tmp_path, "a.mp4")
    Path(path).chmod(0)
    with pytest.raises(DecodeError, match="Permission denied") as caught:
        open_seekable(path)
    assert caught.value.reason == "unreadable"


def test_a_connection_that_breaks_while_reading_is_an_os_error(memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec.filesystem("memory").pipe("/bucket/a.mp4", CONTENT)
    file = open_seekable(f"{memory}/a.mp4")
    import aiohttp

    def broken(size: int) -> bytes:
        raise aiohttp.ClientPayloadError("cut off")

    monkeypatch.setattr(file.raw._file, "read", broken)  # type: ignore[attr-defined]
    with pytest.raises(OSError, match="cut off"):
        file.read(1)


def test_a_folder_lists_its_videos_sorted_and_counts_the_rest(tmp_path: Path) -> None:
    videos = touch(tmp_path, "a b/1.MP4", "a.mov", "a/b/c/2.webm", "a/z.mkv", "a0.avi", *ODD_NAMES)
    touch(tmp_path, "notes.TXT", "x/more.txt", "README", ".hidden.mp4", "x/.mp4", ".cache/3.mp4", "a.mp4.part")
    found, other = listed(tmp_path)
    assert found == sorted(videos)
    assert other == {"txt": 2, "(none)": 2, "mp4": 1, "part": 1}


def test_links_are_followed_once_and_never_in_circles(tmp_path: Path) -> None:
    touch(tmp_path, "root/real/a.mp4", "elsewhere/b.mp4")
    root = tmp_path / "root"
    (root / "0 loop").symlink_to(root)
    (root / "0 again").symlink_to(root / "real")
    (root / "1 out").symlink_to(tmp_path / "elsewhere")
    (root / "2 out").symlink_to(tmp_path / "elsewhere")
    (root / "self").symlink_to("self")
    (root / "file.mp4").symlink_to(root / "real/a.mp4")
    (root / "dangling.mp4").symlink_to("gone.mp4")
    found, other = listed(root)
    assert found == [f"{root}/{name}" for name in ("dangling.mp4", "file.mp4", "real/a.mp4", "1 out/b.mp4")]
    assert other == {"(none)": 1}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.mp4", ["1.mp4", "[x].mp4"]),
        ("?.mp4", ["1.mp4"]),
        ("*/*.mp4", ["a/2.mp4", "b/3.mp4"]),
        ("[!a]/*", ["b/3.mp4"]),
        ("**/*.mp4", ["1.mp4", "[x].mp4", "a/2.mp4", "a/c/4.mp4", "b/3.mp4"]),
        ("a/**", ["a/2.mp4", "a/c/4.mp4"]),
        ("**/c/*", ["a/c/4.mp4"]),
        ("a/**/**/4.mp4", ["a/c/4.mp4"]),
        ("nothing/*.mp4", []),
        ("1.mp4/*", []),
    ],
)
def test_a_glob_lists_what_it_matches_local_or_remote(
    pattern: str, expected: list[str], tmp_path: Path, memory: str
) -> None:
    names = ["1.mp4", "[x].mp4", "a/2.mp4", "a/c/4.mp4", "b/3.mp4", "b/.hidden/5.mp4", "n.txt"]
    touch(tmp_path, *names)
    for name in names:
        fsspec.filesystem("memory").pipe(f"/bucket/{name}", b"x")
    assert listed(f"{tmp_path}/{pattern}")[0] == [f"{tmp_path}/{name}" for name in expected]
    assert listed(f"{memory}/{pattern}")[0] == [f"{memory}/{name}" for name in expected]


def test_a_folder_that_exists_is_not_read_as_a_glob(tmp_path: Path) -> None:
    touch(tmp_path, "[ab]/1.mp4", "a/2.mp4")
    assert listed(f"{tmp_path}/[ab]")[0] == [f"{tmp_path}/[ab]/1.mp4"]


def test_a_remote_folder_lists_like_a_local_one(memory: str) -> None:
    for name in ("b/2.mp4", "a b#.mp4", "n.txt", ".h.mp4"):
        fsspec.filesystem("memory").pipe(f"/bucket/{name}", b"x")
    assert listed(memory) == ([f"{memory}/a b#.mp4", f"{memory}/b/2.mp4"], {"mp4": 1, "txt": 1})


def test_a_web_folder_lists_the_links_of_its_page(web: tuple[str, list[str]]) -> None:
    found, other = listed(f"{web[0]}/listed/")
    assert found == [f"{web[0]}/listed/a%20c.mp4", f"{web[0]}/listed/b.mp4"]
    assert other == {"txt": 1}


def test_a_question_mark_on_the_web_is_a_query() -> None:
    assert not is_glob("https://host/video.mp4?id=1")
    assert is_glob("s3://bucket/video?.mp4")
    assert not is_glob("http://[::1]/video.mp4")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_an_error_not_a_gap(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.mp4", "b/2.mp4")
    (tmp_path / "b").chmod(0)
    with pytest.raises(SourceError, match="Permission denied"):
        listed(tmp_path)
    (tmp_path / "b").chmod(0o755)
