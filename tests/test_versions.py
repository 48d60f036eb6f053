"""What is written says its format and its writer; a newer format is refused with the version that reads it."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import alt_ray
from alt_ray.config_features import EncodeOptions
from alt_ray.engine import tune_setup
from alt_ray.engine.runfolder import RunFolder
from alt_ray.engine.sinks import FAILURES, LABELS, OutputFolder
from alt_ray.engine.tune_search import begun_before
from alt_ray.engine.tune_stores import COMPLETE, ensure_store
from alt_ray.engine.tune_trial import TRIALS, write_settings
from alt_ray.errors import AltRayError
from alt_ray.evaluation.trials import TrialRecord, TrialSettings, read_trial
from alt_ray.features.annotations import ANNOTATIONS
from alt_ray.features.annotations import SCHEMA as ANNOTATED
from alt_ray.features.store import FeatureStore
from alt_ray.models.checkpoint import load_checkpoint
from alt_ray.models.textcache import cached_text
from alt_ray.pocket.archive import ArchiveOptions, write_archive
from alt_ray.schema import failure_schema, label_schema
from alt_ray.tracking.server import Op
from alt_ray.tracking.spool import Spool, replay
from alt_ray.training.place import Place
from alt_ray.training.states import Progress, load_epoch, load_newest, save_state
from tests.stores import write_store
from tests.test_textcache import TEXTS, Counting
from tests.test_train import SETTINGS, run

SAYS = rf"format 99, written by alt_ray 7.1.0; this is alt_ray {alt_ray.__version__}, .* install alt_ray 7.1.0 or newer"
TRIAL = TrialSettings("a", 0.01, 1, 1e-3, "all", 0)


def make_newer(file: Path, versions: tuple[str, ...] = ("99", "7.1.0")) -> None:
    """Say in a file that was written that a newer alt_ray wrote it; with one version, that a first one did, without its name."""
    if file.suffix == ".parquet":
        table = pq.read_table(file)
        stamps = dict(zip((b"alt_ray_format_version", b"alt_ray_version"), map(str.encode, versions), strict=False))
        kept = {name: value for name, value in table.schema.metadata.items() if name != b"alt_ray_version"}
        assert set(stamps) <= set(table.schema.metadata), "the file said no version before"
        pq.write_table(table.replace_schema_metadata({**kept, **stamps}), file)
        return
    if file.suffix == ".safetensors":
        save_file(load_file(file), file, dict(zip(("format_version", "alt_ray_version"), versions, strict=False)))
        return
    text = file.read_text()
    head, rest = text.split("\n", 1) if file.suffix == ".jsonl" else (text, None)
    record = json.loads(head)
    assert record["alt_ray_version"] == alt_ray.__version__
    record |= {"format_version": int(versions[0]), "alt_ray_version": versions[-1]}
    if len(versions) == 1:
        del record["alt_ray_version"]
    file.write_text(json.dumps(record) if rest is None else f"{json.dumps(record)}\n{rest}")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store, store/, and a training on it, run/."""
    folder = tmp_path_factory.mktemp("trained")
    write_store(folder / "store", 32)
    assert run("train", str(folder / "store"), "--out", str(folder / "run"), *SETTINGS, "--quiet") == 0
    return folder


def run_record(folder: Path) -> tuple[Path, Callable[[], Any]]:
    own = OutputFolder(str(folder))
    own.write_run({"status": "done"})
    return folder / "run.json", own.read_run


def run_record_of_a_training(folder: Path) -> tuple[Path, Callable[[], Any]]:
    own = RunFolder(str(folder))
    own.write_run({"status": "done"})
    return folder / "run.json", own.read_run


def part_of(name: str, schema: pa.Schema) -> Callable[[Path], tuple[Path, Callable[[], Any]]]:
    def make(folder: Path) -> tuple[Path, Callable[[], Any]]:
        own = OutputFolder(str(folder))
        own.publish(schema.empty_table(), name)
        (part,) = (folder / name).glob("*.parquet")
        return part, lambda: own.ids(name)

    return make


def regions(folder: Path) -> tuple[Path, Callable[[], Any]]:
    store = write_store(folder / "store", 12)
    return sorted((store / "regions").glob("*.parquet"))[-1], lambda: FeatureStore(str(store)).rows


def regions_that_encode_adds_to(folder: Path) -> tuple[Path, Callable[[], Any]]:
    store = write_store(folder / "store", 12)
    return sorted((store / "regions").glob("*.parquet"))[0], lambda: OutputFolder(str(store), "regions").ids("regions")


def annotations(folder: Path) -> tuple[Path, Callable[[], Any]]:
    store = write_store(folder / "store", 12)
    (store / ANNOTATIONS).mkdir()
    file = store / ANNOTATIONS / "part-00000001-aa.parquet"
    pq.write_table(ANNOTATED.empty_table(), file)
    return file, lambda: FeatureStore(str(store)).rows


def trial(folder: Path) -> tuple[Path, Callable[[], Any]]:
    TrialRecord(TRIAL, "finished", 0.0, 0.0, 1.0).write(folder)
    return folder / "trial.json", lambda: read_trial(folder)


def settings_of_a_trial(folder: Path) -> tuple[Path, Callable[[], Any]]:
    own = folder / TRIALS / TRIAL.name
    own.mkdir(parents=True)
    write_settings(own, {"temperature": 0.01}, TRIAL)
    return own / "settings.json", lambda: begun_before(folder)


def spool(folder: Path) -> tuple[Path, Callable[[], Any]]:
    file = folder / "mlflow-1.jsonl"
    kept = Spool(file, "sqlite:///nowhere.db")
    operation: Op = {"op": "finish", "run": "1", "status": "FINISHED"}
    kept.write(operation)
    kept.close()
    return file, lambda: replay(file)


def state(folder: Path) -> tuple[Path, Callable[[], Any]]:
    model = torch.nn.Linear(2, 2)
    written = save_state(folder, Progress(epoch=1, best_epoch=1), model, [])
    return written / "progress.json", lambda: load_epoch(folder, 1, model)


KINDS = {
    "run.json of labels": run_record,
    "run.json of a training": run_record_of_a_training,
    "labels": part_of(LABELS, label_schema(8)),
    "failures": part_of(FAILURES, failure_schema()),
    "regions": regions,
    "regions that encode adds to": regions_that_encode_adds_to,
    "annotations": annotations,
    "trial": trial,
    "settings of a trial": settings_of_a_trial,
    "spool": spool,
    "state of a training": state,
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_newer_format_is_refused_with_the_version_that_reads_it(kind: str, tmp_path: Path) -> None:
    file, read = KINDS[kind](tmp_path)
    if kind != "spool":  # whose reading is its sending
        read()
    make_newer(file)
    with pytest.raises(AltRayError, match=SAYS):
        read()


def test_a_newer_checkpoint_and_result_of_a_training_are_refused(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best, result = trained / "run" / "best" / "config.json", trained / "run" / "task.json"
    before = best.read_text(), result.read_text()
    make_newer(best)
    with pytest.raises(AltRayError, match=SAYS):
        load_checkpoint(best.parent)
    best.write_text(before[0])
    load_checkpoint(best.parent)

    make_newer(result)
    again = ("train", str(trained / "store"), "--out", str(trained / "run"), *SETTINGS, "--quiet")
    assert run(*again) == 2
    assert "install alt_ray 7.1.0 or newer" in capsys.readouterr().err
    result.write_text(before[1])
    assert run(*again) == 0


def test_a_newer_format_without_its_writer_is_refused_all_the_same(tmp_path: Path) -> None:
    file, read = run_record(tmp_path)
    make_newer(file, ("99",))
    with pytest.raises(AltRayError, match=r"format 99; this is .* install a newer alt_ray"):
        read()


@pytest.mark.parametrize("kind", ["run.json of labels", "labels", "regions", "annotations", "trial", "spool"])
def test_what_earlier_versions_wrote_without_their_name_is_read(kind: str, tmp_path: Path) -> None:
    file, read = KINDS[kind](tmp_path)
    make_newer(file, ("1",))
    if kind == "spool":
        with pytest.raises(AltRayError) as refused:
            read()
        assert "format" not in str(refused.value)
    else:
        read()


def test_what_never_said_a_format_is_read_where_it_was_so(tmp_path: Path) -> None:
    file, read = trial(tmp_path)
    expected = read()
    record = json.loads(file.read_text())
    file.write_text(json.dumps({name: record[name] for name in record if "version" not in name}))
    assert read() == expected


def test_a_newer_state_is_passed_over_and_said_by_version(tmp_path: Path) -> None:
    file, _ = state(tmp_path)
    make_newer(file)
    said: list[dict[str, str]] = []
    model = torch.nn.Linear(2, 2)
    assert load_newest(tmp_path, model, [], Place(say=said.append)).epoch == 0
    assert "install alt_ray 7.1.0 or newer" in said[0]["warning"]


def test_a_newer_cache_is_made_again(tmp_path: Path) -> None:
    encoder = Counting()
    first = cached_text(encoder, TEXTS, tmp_path)
    (file,) = (tmp_path / "texts").iterdir()
    make_newer(file)
    assert torch.equal(cached_text(encoder, TEXTS, tmp_path), first)
    assert encoder.asked == 2
    cached_text(encoder, TEXTS, tmp_path)
    assert encoder.asked == 2, "what was made again was not kept"


def test_the_mark_of_a_whole_store_is_refused_if_newer(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_bytes(b"no video")
    RunFolder(str(tmp_path / "store")).write(COMPLETE, {"inputs": "sha256:0"})
    make_newer(tmp_path / "store" / COMPLETE)
    wanted = EncodeOptions(source=str(tmp_path / "videos"), out=str(tmp_path / "store"), adapter="pocket")
    with pytest.raises(AltRayError, match=SAYS):
        ensure_store(wanted)


def stamps(file: Path) -> tuple[str, str]:
    if file.suffix == ".parquet":
        metadata = pq.read_schema(file).metadata
        return metadata[b"alt_ray_format_version"].decode(), metadata[b"alt_ray_version"].decode()
    if file.suffix == ".safetensors":
        with safe_open(file, "pt") as opened:
            metadata = opened.metadata()
    else:
        metadata = json.loads(file.read_text())
    return str(metadata["format_version"]), metadata["alt_ray_version"]


def written_in(folder: Path) -> Iterator[Path]:
    for file in sorted(folder.rglob("*")):
        if file.suffix in (".json", ".parquet", ".safetensors"):
            yield file


@pytest.mark.slow
def test_everything_that_jobs_leave_behind_says_its_format_and_writer(
    tmp_path: Path, ray_here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALT_RAY_CACHE", str(tmp_path / "cache"))
    manifest = write_archive(tmp_path / "videos", 14, ArchiveOptions(actions=("walking", "running"), num_frames=8))
    out = {name: str(tmp_path / name) for name in ("labels", "features", "run")}
    assert run("label", str(manifest), "--out", out["labels"], "--quiet") == 0
    assert run("encode", str(manifest), "--out", out["features"], "--frames", "4", "--quiet") == 0
    assert run("train", out["features"], "--out", out["run"], *SETTINGS, "--quiet") == 0
    assert run("evaluate", out["features"], "--adapter", f"{out['run']}/best", "--quiet") == 0
    names = {file.name if file.suffix == ".json" else file.parent.name for file in written_in(tmp_path)}
    assert names >= {
        "run.json",
        "config.json",
        "progress.json",
        "task.json",
        "metrics.json",
        "labels",
        "regions",
        "texts",
    }, names
    for file in written_in(tmp_path):
        assert stamps(file) == ("1", alt_ray.__version__), file


def test_a_newer_measured_speed_is_measured_again(tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path))
    folder.write(tune_setup.SPEED_FILE, {"videos_per_s": {"a": 3.0}, "device": "cpu"})
    assert tune_setup.known_speeds(folder, {"a"}) == {"a": 3.0}
    assert tune_setup.known_speeds(folder, {"a", "b"}) is None
    make_newer(tmp_path / tune_setup.SPEED_FILE)
    assert tune_setup.known_speeds(folder, {"a"}) is None
    (tmp_path / tune_setup.SPEED_FILE).unlink()
    assert tune_setup.known_speeds(folder, {"a"}) is None
