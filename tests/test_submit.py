"""Jobs on a Ray cluster that is elsewhere, by `ray job submit` and by `alt-ray submit`: what is sent, said, kept and answered."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from alt_ray.cli import main
from alt_ray.config import LabelOptions
from alt_ray.errors import UsageError
from alt_ray.jobpackage import MAX_FILES_BYTES, files_named, write_job_package
from alt_ray.pocket.archive import ArchiveOptions, write_archive
from alt_ray.submit_command import split
from tests.head import ROOT, Head, running_head
from tests.media import write_video


@pytest.fixture(scope="session")
def head() -> Iterator[Head]:
    with running_head() as head:
        yield head


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of 14 drawn videos."""
    actions = ArchiveOptions(actions=("walking", "running"), num_frames=8)
    return write_archive(tmp_path_factory.mktemp("drawn"), 14, actions)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 60 videos: for one encoder with random weights, work for several commits."""
    folder = tmp_path_factory.mktemp("many")
    write_video(folder / "v000.mp4", num_frames=10)
    for i in range(1, 60):
        shutil.copy(folder / "v000.mp4", folder / f"v{i:03}.mp4")
    return folder


def status_of(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    return int(exit_.value.code or 0)


def record(out: Path) -> dict[str, Any]:
    return json.loads((out / "run.json").read_text())


def ids(out: Path, name: str = "labels") -> list[str]:
    return pq.read_table(out / name)["video_id"].to_pylist()


def job_id_of(said: str) -> str:
    found = re.search(r"raysubmit_\w+", said)
    assert found, said
    return found[0]


def assert_reads_well(log: str) -> None:
    """A log is lines that say something: no redrawn progress, no colours, nothing of Ray's own, no warning of a library."""
    assert not re.search(r"[\r\x1b]|Warning|\bINFO\b|\bWARN|Traceback|\(pid=|\(raylet\)|site-packages", log), log
    assert "\n\n\n" not in log
    for line in log.splitlines():
        assert len(line) <= 300, line


def without_ray(log: str) -> str:
    """A job's log without the two lines that Ray begins each with."""
    return "".join(
        line for line in log.splitlines(True) if "Runtime env is setting up" not in line and "Running entry" not in line
    )


# --- what is sent


def test_a_job_package_is_small_has_the_code_and_is_the_same_each_time(tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("a\n")
    size = write_job_package(tmp_path / "one.zip", {"lists/labels.txt": labels})
    assert size < 1_000_000
    assert write_job_package(tmp_path / "two.zip", {"lists/labels.txt": labels}) == size
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.zip") as package:
        names = package.namelist()
        assert package.read("lists/labels.txt") == b"a\n"
    assert {"alt_ray/cli.py", "alt_ray/corpus/data/entities.jsonl", "alt_ray/recipes/pocket.yaml"} <= set(names)
    assert not [name for name in names if "weights/" in name or "__pycache__" in name]


def test_code_that_travelled_alone_takes_the_weights_of_the_installed_one(tmp_path: Path) -> None:
    write_job_package(tmp_path / "job.zip", {})
    zipfile.ZipFile(tmp_path / "job.zip").extractall(tmp_path / "job")
    program = "import alt_ray; from alt_ray import bundled; print(alt_ray.__file__); print(*bundled.missing_files())"

    def run(*options: str, path: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *options, "-c", program]
        return subprocess.run(
            command, cwd=tmp_path / "job", env={"PYTHONPATH": path}, capture_output=True, text=True, check=False
        )

    here, code = str(tmp_path / "job"), str(tmp_path / "job" / "alt_ray" / "__init__.py")
    assert run(path=f"{here}:{ROOT}").stdout.split("\n")[:2] == [code, ""]
    alone = run("-S", path=here)  # without what is installed
    assert alone.returncode == 1
    assert "submit with --with-pocket" in alone.stderr

    write_job_package(tmp_path / "job.zip", {}, with_pocket=True)
    zipfile.ZipFile(tmp_path / "job.zip").extractall(tmp_path / "job")
    assert run("-S", path=here).stdout.split("\n")[:2] == [code, ""]


def test_files_that_options_name_by_relative_paths_travel(tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    for name in ("labels.txt", "lists/videos.csv", "absolute.txt", "other.txt"):
        (tmp_path / name).write_text("path\na.mp4\n")
    options = LabelOptions(
        source="lists/videos.csv",
        out="/shared/out",
        labels="labels.txt",
        corpus=str(tmp_path / "absolute.txt"),
        adapter="pocket",
    )
    assert sorted(files_named(options, tmp_path)) == ["labels.txt", "lists/videos.csv"]
    large = tmp_path / "large.txt"
    with large.open("wb") as file:
        file.truncate(MAX_FILES_BYTES + 1)
    with pytest.raises(UsageError, match=r"large\.txt: 21 MB"):
        write_job_package(tmp_path / "job.zip", {"large.txt": large, "labels.txt": tmp_path / "labels.txt"})


def test_what_follows_the_command_is_the_commands() -> None:
    given = [
        "--address",
        "http://a:1",
        "--no-wait",
        "--job-name",
        "label",
        "label",
        "src",
        "--out",
        "/x",
        "--address",
        "auto",
    ]
    assert split(given) == (given[:5], "label", given[6:])
    assert split(["--no-wait"]) == (["--no-wait"], None, [])
    behind = [
        "label",
        "--job-name",
        "mine",
        "videos",
        "--no-wait",
        "--address",
        "auto",
        "--stop-wait-s=5",
        "--working-dir=",
        "--job-name",
    ]
    own = ["--job-name", "mine", "--no-wait", "--stop-wait-s=5", "--working-dir=", "--job-name"]
    assert split(behind) == (own, "label", ["videos", "--address", "auto"])


# --- what is refused at once


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "name the command to run"),
        (["lable"], "no job 'lable'"),
        (["demo"], "a cluster can run label"),
        (["label", "/v", "--out", "labels"], "--out labels would lie in the job's own folder"),
        (["label", "videos", "--out", "/x"], "videos is no file in"),
        (["label", "/v", "--out", "/x", "--frames", "0"], "--frames must be above 0"),
        (["label", "/v", "--out", "/x", "--adapter", "run/best"], "run/best is no file in"),
        (["tune", "features", "--out", "/x"], "features is no file in"),
        (["label", "/v", "--out", "/x", "--config", "gone.yaml"], "gone.yaml"),
        (["--working-dir", "gone", "label", "/v", "--out", "/x"], "--working-dir gone is no folder"),
        (["--address", "head:8265", "label", "/v", "--out", "/x"], "http://head:8265"),
        (["label", "/v", "--out", "/x"], "say where the cluster is"),
    ],
)
def test_wrong_usage_ends_with_2_before_anything_is_sent(
    arguments: list[str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run" / "best").mkdir(parents=True)
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    assert status_of("submit", *arguments) == 2
    assert says in capsys.readouterr().err


def test_a_cluster_that_is_not_there_is_a_failure_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("submit", "--address", "http://127.0.0.1:9", "label", "/v", "--out", "/x") == 1
    assert "no cluster answers at http://127.0.0.1:9" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("token", "says"), [("wrong", "refuses the token"), (None, "wants a token, and none was found")]
)
def test_a_wrong_or_missing_token_is_a_failure_and_said(
    head: Head, token: str | None, says: str, tmp_path: Path
) -> None:
    environment = {name: value for name, value in head.environment.items() if not name.startswith("RAY_AUTH")}
    environment |= {"HOME": str(tmp_path)}  # where Ray looks for a token, too
    if token is not None:
        environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    other = Head(head.address, head.folder, environment, head.client)
    status, _, said = other.submit("label", "/v", "--out", "/x")
    assert status == 1
    assert says in said
    assert "RAY_AUTH_TOKEN" in said


# --- what runs


def checkout(folder: Path) -> Path:
    """A copy of what is tracked here, with what people leave beside it."""
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    for name in filter(None, names):
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    for name in (
        ".venv/lib/torch.so",
        "demo/videos/a.mp4",
        "mlruns/0/model.bin",
        "holiday.mp4",
        "jobs/__pycache__/a.pyc",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"\0" * 2_000_000)
    return folder


@pytest.mark.slow
def test_ray_job_submit_sends_kilobytes_labels_and_its_log_reads_well(head: Head, videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    here = checkout(tmp_path / "checkout")
    entrypoint = ["python", "jobs/label.py", str(videos), "--out", str(out)]
    done = head.ray("job", "submit", "--working-dir", ".", "--", *entrypoint, cwd=here)
    log = without_ray(head.client.get_job_logs(job_id_of(done.stdout + done.stderr)))
    assert done.returncode == 0, log
    assert head.newest_package() < 20_000
    assert len(ids(out)) == 14
    assert_reads_well(log)
    assert "label: first result after " in log
    assert log.splitlines()[-1] == f"14 inputs: 14 labelled, 0 failed, 0 already done. Results: {out}"
    said, run = record(out)["startup"], record(out)
    assert sum(said.values()) == pytest.approx(run["seconds_to_first_result"], abs=0.1)
    assert {"starting Python and its imports", "joining Ray", "loading the model", "first clips"} <= set(said)


@pytest.mark.slow
def test_rays_record_has_the_exit_status_of_the_job_where_its_command_does_not(head: Head, tmp_path: Path) -> None:
    done = head.ray(
        "job", "submit", "--working-dir", ".", "--", "python", "jobs/label.py", "/gone", "--out", str(tmp_path)
    )
    assert done.returncode == 1
    assert head.client.get_job_info(job_id_of(done.stdout + done.stderr)).driver_exit_code == 2
    status, out, said = head.submit("label", "/gone", "--out", str(tmp_path))
    assert (status, out) == (2, "")
    assert "error: /gone does not exist" in said
    status, out, _ = head.submit("--no-wait", "--job-name", "mine", "label", "/gone", "--out", str(tmp_path))
    assert status == 0
    assert re.fullmatch(r"mine-\w{8}\n", out)
    while not head.client.get_job_status(out.strip()).is_terminal():
        time.sleep(0.1)
    assert head.client.get_job_info(out.strip()).driver_exit_code == 2


@pytest.mark.slow
def test_every_job_runs_by_both_ways(head: Head, videos: Path, tmp_path: Path) -> None:
    """By `alt-ray submit` from another folder than the package's, with the files that options name."""
    here = checkout(tmp_path / "checkout")
    (tmp_path / "few.txt").write_text("walking\nrunning\n")
    (tmp_path / "settings.yaml").write_text("labels: few.txt\n")
    features, run = str(tmp_path / "features"), str(tmp_path / "run")
    quickly = ["--epochs", "1", "--blocks", "1", "--width", "64", "--batch", "8"]
    for command, arguments in {
        "encode": [str(videos), "--out", features, "--frames", "4"],
        "relabel": [features, "--out", str(tmp_path / "by-ray"), "--labels", "walking,running"],
        "train": [features, "--out", run, *quickly],
        "evaluate": [features, "--adapter", f"{run}/best", "--out", str(tmp_path / "tested-by-ray")],
        "tune": [features, "--out", str(tmp_path / "search"), *quickly, "--trials", "1", "--final-seeds", "1"],
    }.items():
        script = ["python", f"jobs/{command}.py", *arguments, "--tracking-uri", "none"]
        done = head.ray("job", "submit", "--working-dir", ".", "--", *script, cwd=here)
        log = without_ray(head.client.get_job_logs(job_id_of(done.stdout + done.stderr)))
        assert done.returncode == 0, log
        assert_reads_well(log)
    again = str(tmp_path / "features-again")
    for command, arguments in {
        "encode": [str(videos), "--out", again, "--frames", "4"],
        "relabel": [again, "--out", str(tmp_path / "labels"), "--config", "settings.yaml"],
        "train": [again, "--out", f"{run}-again", *quickly],
        "evaluate": [again, "--adapter", f"{run}-again/best", "--out", str(tmp_path / "tested"), "--json"],
        "tune": [again, "--out", str(tmp_path / "search-again"), *quickly, "--trials", "1", "--final-seeds", "1"],
    }.items():
        status, out, said = head.submit(command, *arguments, "--tracking-uri", "none", cwd=tmp_path)
        assert status == 0, said
        first, *lines = said.splitlines()
        assert re.match(rf"alt-ray-{command}-\w{{8}}: sent to {head.address} with its code", first)
        assert_reads_well("\n".join(lines))
        if command == "evaluate":
            assert "tests" in json.loads(out.splitlines()[-1])
        if command == "encode":
            assert re.match(r"first result [\d.]+ s after submission: [\d.]+ sending 0\.\d+ MB, ", lines[-1])
            assert head.newest_package() < 3_000_000  # as it lies there, not packed
    assert {row["label"] for row in pq.read_table(tmp_path / "labels" / "labels").to_pylist()} <= {"walking", "running"}
    assert all((tmp_path / name / "metrics.json").exists() for name in ("search", "search-again"))
    submitted = [job.submission_id for job in head.client.list_jobs() if job.submission_id]
    assert len(submitted) == len(set(submitted))


@pytest.mark.slow
def test_workers_run_the_code_that_travelled(head: Head, tmp_path: Path) -> None:
    write_job_package(tmp_path / "job.zip", {})
    program = (
        "import ray, alt_ray; ray.init(log_to_driver=False); import sys; "
        "from alt_ray.engine.workers import on_a_worker; "
        "ask = ray.remote(lambda: __import__('alt_ray').__file__); print('CODE', alt_ray.__file__, ray.get(ask.remote()))"
    )
    environment = {"working_dir": str(tmp_path / "job.zip")}
    job = head.client.submit_job(entrypoint=f'python -c "{program}"', runtime_env=environment)
    while not head.client.get_job_status(job).is_terminal():
        time.sleep(0.2)
    log = head.client.get_job_logs(job)
    (code,) = re.findall(r"CODE (\S+) (\S+)", log)
    assert all("working_dir_files" in path for path in code), log


def wait_for_parts(out: Path, number: int, alive: Any) -> None:
    deadline = time.monotonic() + 300
    while len(list((out / "labels").glob("*.parquet"))) < number:
        assert time.monotonic() < deadline and alive(), "nothing was published in time"
        time.sleep(0.05)


@pytest.mark.slow
def test_a_job_that_is_stopped_keeps_what_is_done_and_goes_on_when_submitted_again(
    head: Head, many: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = [str(many), "--out", str(out), "--encoder", "ViT-S-32", "--pretrained", "none", "--labels", "a,b"]
    arguments += ["--num-actors", "1", "--views", "2"]  # slow enough to be stopped, also on machines with many cores

    # Ctrl-C of the one who follows it.
    process = head.start("label", *arguments, "--tracking-uri", "none")
    wait_for_parts(out, 1, lambda: process.poll() is None)
    process.send_signal(signal.SIGINT)
    said = process.communicate()[1]
    assert process.returncode == 1, said
    assert "stopped; what was finished is kept" in said
    assert_reads_well(said)
    assert "the same command goes on from there" in said
    first = record(out)
    assert first["status"] == "interrupted"
    done = first["summary"]["labelled"]
    assert done == len(ids(out)) > 0
    assert done < 60

    # `ray job stop`, which leaves a job a few seconds before it is killed: either way nothing is lost.
    parts = len(list((out / "labels").glob("*.parquet")))
    script = ["python", "jobs/label.py", *arguments, "--tracking-uri", "none"]
    job = job_id_of("".join(head.ray("job", "submit", "--no-wait", "--working-dir", ".", "--", *script).stdout))
    wait_for_parts(out, parts + 1, lambda: not head.client.get_job_status(job).is_terminal())
    head.client.stop_job(job)
    while not head.client.get_job_status(job).is_terminal():
        time.sleep(0.1)
    assert_reads_well(without_ray(head.client.get_job_logs(job)))
    second = record(out)
    assert second["status"] in ("interrupted", "done", "running")  # running: it was killed before it could say so
    assert len(ids(out)) == len(set(ids(out))) > done

    status, _, said = head.submit("label", *arguments, "--tracking-uri", "none")
    assert status == 0, said
    last = record(out)
    assert last["status"] == "done"
    assert last["summary"]["labelled"] + last["summary"]["already_done"] == 60
    assert last["summary"]["already_done"] >= done
    assert len(ids(out)) == len(set(ids(out))) == 60
