"""Folders on a real S3 server: whole or not there, one owner, nothing secret written, short outages waited out."""

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

import alt_ray.remote.folder as remote_folder
import alt_ray.remote.lease as lease_module
from alt_ray.config_features import RelabelOptions
from alt_ray.engine.sinks import FAILURES, LABELS, RUN_FILE, TEMPORARY, OutputFolder
from alt_ray.engine.writers import ResultWriter
from alt_ray.errors import DecodeError, JobError, SourceError, UsageError
from alt_ray.remote.folder import RemoteFolder
from alt_ray.remote.lease import Lease
from alt_ray.tracking import recorded
from alt_ray.video.isolation import DecoderProcess
from alt_ray.video.manifest import read_source
from alt_ray.video.sampling import ClipSpec
from alt_ray.video.sources import open_seekable
from alt_ray.video.uris import canonical_uri, child_uri, extension_of, parent_uri
from tests.conftest import free_port
from tests.media import write_video
from tests.s3 import BUCKET, Gate, Server, server
from tests.test_sinks import SCHEMA, results
from tests.test_waiting import wait_until


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "BEAT_S", 0.3)
    monkeypatch.setattr(lease_module, "LIMIT_S", 3.0)  # stores tell times in seconds


def test_published_rows_are_seen_and_counted(s3: Server) -> None:
    for tail, name in (("", "plain"), (s3.options, "options")):
        folder = OutputFolder(f"s3://{BUCKET}/published/{name}{tail}")
        with folder.lock(), ResultWriter(folder, SCHEMA) as writer:
            writer.add(results(["a", "b"], ["c"]))
        folder.write_run({"command": "label"})
        published = OutputFolder(folder.uri).published(pa.chunked_array([["a", "c", "d"]]))
        assert published.is_done.to_pylist() == [True, True, False]
        assert (published.labelled, published.failures, published.num_twice) == (1, {"not_found": 1}, 0)
        assert (folder.read_run() or {})["command"] == "label"
        assert {key.split("/")[0] for key in s3.names(f"published/{name}")} == {LABELS, FAILURES, RUN_FILE}
        assert folder.forget_failures() == 1
        assert OutputFolder(folder.uri).ids(FAILURES).to_pylist() == []


def test_a_part_of_a_worker_is_published_once_however_often_it_is_tried(s3: Server) -> None:
    folder = OutputFolder(f"s3://{BUCKET}/moved")
    s3.client().put_object(Bucket=BUCKET, Key=f"moved/{TEMPORARY}/part-1.parquet", Body=b"regions")
    s3.client().put_object(Bucket=BUCKET, Key=f"moved/{TEMPORARY}/part-2.parquet", Body=b"left by a killed run")
    folder.publish_written("part-1.parquet")
    assert s3.read("moved/labels/part-1.parquet") == b"regions"
    # Killed between copy and removal: the part is there, and what is left of its first name is cleared away.
    s3.client().put_object(Bucket=BUCKET, Key=f"moved/{TEMPORARY}/part-1.parquet", Body=b"regions")
    with folder.lock():
        assert [name for name in s3.names("moved") if "lease-" not in name] == ["labels/part-1.parquet"]
    assert s3.names("moved") == ["labels/part-1.parquet"]


def test_a_second_run_is_refused_while_the_first_lives(s3: Server, quick: None) -> None:
    first, second = OutputFolder(f"s3://{BUCKET}/owned"), OutputFolder(f"s3://{BUCKET}/owned")
    with first.lock(), pytest.raises(UsageError, match=r"another run is writing .*process \d+"), second.lock():
        pass
    with second.lock():
        pass


def test_a_folder_of_a_dead_run_is_taken_once_it_has_been_silent(s3: Server, quick: None) -> None:
    s3.client().put_object(Bucket=BUCKET, Key=f"dead/{TEMPORARY}/lease-x.json", Body=b"{}")
    with OutputFolder(f"s3://{BUCKET}/dead").lock():
        assert [name for name in s3.names("dead") if name.endswith("lease-x.json")] == []


def test_of_runs_that_come_at_once_one_gets_the_folder(s3: Server, quick: None) -> None:
    inside, most, outcomes = [0], [0], []
    guard, everybody = threading.Lock(), threading.Barrier(4)

    def run() -> None:
        lease = Lease(RemoteFolder(f"s3://{BUCKET}/contested"), "leases")
        everybody.wait()
        try:
            with lease.held():
                with guard:
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                everybody_else_gave_up.wait(60)
                with guard:
                    inside[0] -= 1
            outcomes.append("had it")
        except UsageError:
            outcomes.append("refused")
            if outcomes.count("refused") == 3:
                everybody_else_gave_up.set()

    everybody_else_gave_up = threading.Event()
    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert sorted(outcomes) == ["had it", "refused", "refused", "refused"]
    assert most == [1]


def test_a_run_that_could_not_write_for_too_long_writes_nothing_more(s3: Server, quick: None) -> None:
    folder = OutputFolder(f"s3://{BUCKET}/lost")
    with folder.lock():
        s3.pause()
        try:
            assert folder._remote is not None
            guard = folder._remote.guard
            wait_until(lambda: _refuses(guard))
        finally:
            s3.go_on()
        with pytest.raises(JobError, match="another run may have it soon"):
            folder.publish(results(["a"]), LABELS)
    assert s3.names("lost") == []


def _refuses(guard: Callable[[], None]) -> bool:
    try:
        guard()
    except JobError:
        return True
    return False


@pytest.mark.slow
def test_a_server_that_is_away_is_waited_for_and_then_given_up(s3: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(s3.port)
    folder = OutputFolder(f"s3://{BUCKET}/outage{gate.options}")
    rows = results(["a"]).select(SCHEMA.names).cast(SCHEMA)
    gate.close()
    threading.Timer(8.0, gate.open).start()  # the client itself gives up after 6
    folder.publish(rows, LABELS)
    assert folder.ids(LABELS).to_pylist() == ["a"]
    gate.close()
    monkeypatch.setattr(remote_folder, "PATIENCE_S", 0.0)
    with pytest.raises(JobError, match=r"writing to s3://.* failed: .*; run the same command again to go on"):
        folder.publish(rows, LABELS)
    assert len(s3.names("outage")) == 1


def test_a_video_behind_a_silent_server_fails_at_its_time_limit(s3: Server, tmp_path: Path) -> None:
    address = s3.upload(write_video(tmp_path / "v.mp4").parent, "silent") + "/v.mp4"
    with DecoderProcess(ClipSpec(num_frames=2, image_size=32), time_limit_s=3.0) as decoder:
        assert decoder.decode(address)[1].codec == "h264"
        s3.pause()
        try:
            with pytest.raises(DecodeError, match="not decoded within 3 s") as error:
                decoder.decode(address)
        finally:
            s3.go_on()
        assert error.value.reason == "timeout"
        assert decoder.decode(address)[1].codec == "h264"


def test_what_is_wrong_is_said(s3: Server, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no bucket 'not-there'"):
        OutputFolder("s3://not-there/out")
    with pytest.raises(UsageError, match="can't be used"):
        OutputFolder("s3://x/out?endpoint_override=127.0.0.1:1&scheme=http")


def test_keys_without_permission_are_said_to_be_that() -> None:
    with server(
        free_port(), INITIAL_NO_AUTH_ACTION_COUNT="1"
    ) as strict:  # for making the bucket; from then on keys count
        place = f"s3://{BUCKET}/x"
        with pytest.raises(UsageError, match=r"x.* can't be used: .*ACCESS_DENIED"):
            OutputFolder(place + strict.options)
        with pytest.raises(DecodeError, match="ACCESS_DENIED") as error:
            open_seekable(f"{place}/v.mp4{strict.options}")
        assert (error.value.stage, error.value.reason) == ("open", "unreadable")
        with pytest.raises(SourceError, match="ACCESS_DENIED"):
            read_source(place + strict.options)


def test_addresses_with_secrets_are_refused_and_not_repeated(tmp_path: Path) -> None:
    address = "s3://AKIA123:qwert/zuiop@bucket/a.mp4"
    manifest = tmp_path / "list.csv"
    manifest.write_text(f"path\n{address}\n")
    for attempt in (
        lambda: canonical_uri(address),
        lambda: OutputFolder(address),
        lambda: read_source(address),
        lambda: read_source(str(manifest)),
        lambda: open_seekable(address),
        lambda: recorded(RelabelOptions(source="f", out="o", labels="a,b", pretrained=address)),
    ):
        with pytest.raises(SourceError, match="AWS_SECRET_ACCESS_KEY") as error:
            attempt()
        assert "qwert" not in str(error.value)
        assert "AKIA123" not in str(error.value)


def test_options_of_an_address_stay_at_its_end() -> None:
    options = "?endpoint_override=host:9000&scheme=http"
    assert child_uri(f"s3://b/a/{options}", "x") == f"s3://b/a/x{options}"
    assert parent_uri(f"s3://b/a/l.csv{options}") == f"s3://b/a{options}"
    assert canonical_uri("../v.mp4", f"s3://b/a{options}") == f"s3://b/v.mp4{options}"
    assert extension_of(f"s3://b/v.mp4{options}") == "mp4"
    assert extension_of("s3://b/v?.mp4") == "mp4"


def test_sources_of_every_kind_are_listed(s3: Server) -> None:
    for name in ("a.mp4", "below/b c.mp4", "notes.txt"):
        s3.client().put_object(Bucket=BUCKET, Key=f"sources/{name}", Body=b"x")
    s3.client().put_object(Bucket=BUCKET, Key="sources/l.csv", Body=b"path,label\nbelow/b c.mp4,run\na.mp4,\n")
    for tail in ("", s3.options):
        top = f"s3://{BUCKET}/sources"
        both = [f"{top}/a.mp4{tail}", f"{top}/below/b c.mp4{tail}"]
        assert read_source(f"{top}{tail}").table["uri"].to_pylist() == both
        assert read_source(f"{top}/*.mp4{tail}").table["uri"].to_pylist() == both[:1]
        assert read_source(f"{top}/**/*.mp4{tail}").table["uri"].to_pylist() == both
        assert read_source(f"{top}/a.mp4{tail}").table["uri"].to_pylist() == both[:1]
        assert read_source(f"{top}/l.csv{tail}").table["uri"].to_pylist() == both[::-1]
        assert json.dumps(read_source(f"{top}{tail}").other_files) == '{"csv": 1, "txt": 1}'
