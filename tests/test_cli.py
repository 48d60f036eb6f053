"""The command line: what is asked wrongly ends with 2 and says what would be right."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from alt_ray.arguments import parse
from alt_ray.cli import COMMANDS, main
from alt_ray.config import LabelOptions
from alt_ray.config_tune import TuneOptions
from alt_ray.errors import UsageError

MINIMAL = ["videos", "--out", "out", "--encoder", "ViT-B-32", "--pretrained", "none", "--labels", "a,b"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "alt_ray.cli", *arguments], capture_output=True, text=True, check=False
    )


def status_of(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    return int(exit_.value.code or 0)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(command, "--help") == 0
    assert f"alt-ray {command}" in capsys.readouterr().out


def test_without_a_command_the_overview_is_shown_and_the_usage_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of() == 2
    assert "alt-ray COMMAND" in capsys.readouterr().out


def test_an_unknown_command_names_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("lable") == 2
    assert "label" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["label", "videos", "--out", "o"], "videos does not exist"),
        (["label", "videos", "--out", "o", "--pretrained", "openai"], "--encoder"),
        (["label", "videos", "--out", "o", "--encoder", "ViT-B-32"], "--pretrained none"),
        (["label", "videos", "--out", "o", "--encoder", "ViT-B-32", "--pretrained", "none"], "--labels"),
        (["label", *MINIMAL, "--frames", "0"], "--frames must be above 0"),
        (["label", *MINIMAL, "--merge-ratio", "1.5"], "--merge-ratio"),
        (["label", *MINIMAL, "--merge-ratio", "0.5", "--merge-r", "4"], "give one of them"),
        (["label", *MINIMAL, "--max-failed", "3"], "--max-failed"),
        (["label", *MINIMAL, "--dtype", "float8"], "float8"),
        (["label", *MINIMAL], "videos"),
        (["label", *MINIMAL, "--config", "gone.yaml"], "gone.yaml"),
        (["label", "videos", "--out", "o", "--entity-templates", "object=a {}"], "can't be chosen with an adapter"),
        (["cost", "--encoder", "ViT-B-61"], "ViT-B-16"),
    ],
)
def test_wrong_usage_ends_with_2_and_says_what_would_be_right(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert status_of(*arguments) == 2
    assert says in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_wrong_usage_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert status_of("label", str(tmp_path / "empty"), *MINIMAL[1:]) == 2
    assert "no files in" in capsys.readouterr().err


def test_a_folder_without_videos_counts_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "more.txt").write_text("")
    assert status_of("label", str(tmp_path), *MINIMAL[1:]) == 2
    assert "2 txt" in capsys.readouterr().err


def test_yaml_settings_count_and_flags_win_over_them(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("frames: 16\nmerge-r: 8\nquiet: true\nlabels: [walking, playing guitar]\nadapter: null\n")
    options = parse(LabelOptions, [*MINIMAL[:-2], "--config", str(file), "--frames", "4"], "label")
    assert (options.sampling.frames, options.encoder.merge_r, options.output.quiet) == (4, 8, True)
    assert options.labels == "walking,playing guitar"
    assert options.config == str(file)


def test_a_yaml_list_gives_an_option_several_values(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text('entity_templates: ["object=a photo of a {}", "body_part=a person, and a {}"]\n')
    options = parse(LabelOptions, [*MINIMAL, "--config", str(file)], "label")
    assert options.entity_templates == ("object=a photo of a {}", "body_part=a person, and a {}")
    file.write_text("merge_ratios: [0, 0.5]\ntemperature_range: [0.01, 0.1]\nseeds: [3]\n")
    tuned = parse(TuneOptions, ["features", "--config", str(file)], "tune")
    assert (tuned.sources, tuned.merge_ratios, tuned.temperature_range) == (("features",), (0, 0.5), (0.01, 0.1))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("frmes: 8", "unknown setting 'frmes'"),
        ("8", "holds no settings"),
        ("a: [", "not YAML"),
        ("quiet: 3", "true or false"),
    ],
)
def test_bad_yaml_is_named(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    with pytest.raises(UsageError, match=says):
        parse(LabelOptions, [*MINIMAL, "--config", str(file)], "label")


def test_cost_prints_one_line_of_json() -> None:
    result = run("cost", "--encoder", "ViT-B-16", "--merge-r", "8", "--views", "3", "--json")
    report = json.loads(result.stdout)
    assert report["gflops_per_video"] == pytest.approx(328, rel=0.02)
    assert {"gflops_per_frame", "gflops_per_view", "parameters"} <= set(report)


def test_doctor_finds_what_is_installed() -> None:
    found = json.loads(run("doctor", "--json").stdout)
    assert found["packages"]["ray"][0].isdigit()
    assert found["cpus"] == len(os.sched_getaffinity(0))
    assert found["recipe"] == "pocket by default; its files are here"


def test_the_version_is_one_line_with_what_a_bug_report_needs() -> None:
    said = run("--version").stdout
    assert said.count("\n") == 1
    assert re.match(
        r"alt-ray \d+\.\d+\.\d+ in /.*alt_ray \(Python 3\..*, ray \d.*, torch \d.*, open_clip_torch \d.*, av \d", said
    )


def test_the_job_script_takes_the_same_options() -> None:
    script = Path(__file__).parents[1] / "jobs" / "label.py"
    result = subprocess.run([sys.executable, str(script), "--help"], capture_output=True, text=True, check=False)
    assert result.returncode == 0
    for flag in ("--recipe", "--encoder", "--merge-ratio", "--num-actors", "--json"):
        assert flag in result.stdout
