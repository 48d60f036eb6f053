import json
from pathlib import Path

import pytest

from alt_ray.cli import main
from alt_ray.demo import NUM_VIDEOS


@pytest.mark.usefixtures("ray_here")
def test_the_demo_labels_all_its_videos_offline_and_can_be_run_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for labelled, already_done in ((NUM_VIDEOS, 0), (0, NUM_VIDEOS)):
        with pytest.raises(SystemExit) as exit_:
            main(["demo", "--out", str(tmp_path / "demo"), "--json"])
        assert exit_.value.code == 0
        printed = capsys.readouterr()
        summary = json.loads(printed.out.splitlines()[-1])
        assert (summary["labelled"], summary["already_done"], summary["failed"]) == (labelled, already_done, 0)
        assert "mean nothing" in printed.err


def test_the_demo_does_not_write_into_a_folder_of_something_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "precious.txt").write_text("")
    with pytest.raises(SystemExit) as exit_:
        main(["demo", "--out", str(tmp_path)])
    assert exit_.value.code == 2
    assert "not empty" in capsys.readouterr().err
