"""Jobs that share a source by --shard: the parts are all of it, nothing twice, and a folder holds one part."""

import json
from pathlib import Path
from typing import Any

import pyarrow.dataset as pads
import pytest

from alt_ray.config import EncoderOptions, InputOptions, LabelOptions, OutputOptions
from alt_ray.config_features import EncodeOptions, RelabelOptions
from alt_ray.engine.encode import encode
from alt_ray.engine.label import label
from alt_ray.engine.relabel import relabel
from alt_ray.errors import SourceError, UsageError
from alt_ray.features.store import FeatureStore
from alt_ray.video.manifest import read_source
from alt_ray.video.shards import shard_of
from tests.media import tiny_clip, write_video


def manifest(file: Path, names: list[str]) -> str:
    file.write_text("path\n" + "".join(f"{name}\n" for name in names))
    return str(file)


def ids(source: str, **arguments: Any) -> list[str]:
    return read_source(source, **arguments).table["video_id"].to_pylist()


@pytest.mark.parametrize("limit", [None, 70])
def test_the_shards_together_are_the_source_each_input_once(tmp_path: Path, limit: int | None) -> None:
    names = [f"v{i}.mp4" for i in range(100)] + ["v3.mp4", "v99.mp4"]
    source = manifest(tmp_path / "videos.csv", names)
    parts = [ids(source, limit=limit, shard=(k, 7)) for k in range(7)]
    everything = [own for part in parts for own in part]
    assert sorted(everything) == sorted(ids(source, limit=limit))
    assert len(everything) == (limit or 100)
    assert max(map(len, parts)) < 40  # spread, not all in one


def test_an_input_stays_in_its_shard_when_the_list_grows_or_is_sorted_otherwise(tmp_path: Path) -> None:
    names = [f"v{i}.mp4" for i in range(50)]
    before = [set(ids(manifest(tmp_path / "a.csv", names), shard=(k, 3))) for k in range(3)]
    grown = manifest(tmp_path / "b.csv", [f"new{i}.mp4" for i in range(50)] + names[::-1])
    after = [set(ids(grown, shard=(k, 3))) for k in range(3)]
    assert all(old < new for old, new in zip(before, after, strict=True))
    # Written down: on any machine, by any version, a folder that was begun goes on with the same inputs.
    assert [shard_of(f"id{i}", 16) for i in range(8)] == [14, 10, 3, 0, 3, 4, 12, 9]


def test_an_error_names_the_line_of_the_source_whatever_shard_it_is_in(tmp_path: Path) -> None:
    rows = [f"v{i}.mp4,{i}\n" for i in range(20)]
    file = tmp_path / "videos.csv"
    file.write_text("path,id\n" + "".join(rows) + "other.mp4,7\n")
    k = shard_of("7", 4)
    with pytest.raises(SourceError, match=r"line 9\).*line 22\)"):
        read_source(str(file), shard=(k, 4))
    assert ids(str(file), shard=((k + 1) % 4, 4))


@pytest.mark.parametrize("text", ["", "3", "4/4", "-1/4", "1/0", "a/b", "1/4/2", "1 / 4"])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="0/16 to 15/16"):
        InputOptions(shard=text)


def test_a_shard_may_be_empty_but_a_source_may_not(tmp_path: Path) -> None:
    source = manifest(tmp_path / "one.csv", ["v.mp4"])
    assert sorted(len(ids(source, shard=(k, 8))) for k in range(8)) == [0] * 7 + [1]
    with pytest.raises(SourceError, match="no rows"):
        read_source(manifest(tmp_path / "none.csv", []), shard=(0, 2))
    (tmp_path / "folder").mkdir()
    with pytest.raises(SourceError, match="no files"):
        read_source(str(tmp_path / "folder"), shard=(0, 2))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_clip(tmp_path_factory.mktemp("model"))


@pytest.fixture
def videos(tmp_path: Path) -> str:
    (tmp_path / "videos").mkdir()
    for i in range(5):
        write_video(tmp_path / "videos" / f"v{i}.mp4", num_frames=8)
    (tmp_path / "videos" / "broken.mp4").write_bytes(b"no video")
    return str(tmp_path / "videos")


def given(model: str, shard: str | None) -> dict[str, Any]:
    return {
        "encoder": EncoderOptions(encoder=model, pretrained="none", merge_r=2),
        "inputs": InputOptions(shard=shard),
        "output": OutputOptions(quiet=True),
    }


def merge(folders: list[Path], into: Path, names: tuple[str, ...]) -> None:
    """As cluster/README.md says it: parts have names of their own, so they can be put together."""
    for name in names:
        (into / name).mkdir(parents=True)
        for folder in folders:
            for part in (folder / name).glob("*.parquet"):
                part.rename(into / name / part.name)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
class TestJobs:
    def test_label_jobs_share_a_source_and_a_folder_holds_one_shard(
        self, videos: str, tmp_path: Path, model: str
    ) -> None:
        def run(out: Path, shard: str | None) -> Any:
            return label(LabelOptions(source=videos, out=str(out), labels="walking,running", **given(model, shard)))

        outs = [tmp_path / f"labels/shard-{k}" for k in range(2)]
        balances = [run(out, f"{k}/2") for k, out in enumerate(outs)]
        assert sum(own.inputs for own in balances) == 6
        assert (sum(own.labelled for own in balances), sum(own.failed for own in balances)) == (5, 1)
        assert json.loads((outs[1] / "run.json").read_text())["settings"]["shard"] == "1/2"
        with pytest.raises(UsageError, match=r'shard: "0/2" there, "1/2" now'):
            run(outs[0], "1/2")

        parts = sorted(map(str, (tmp_path / "labels").glob("shard-*/labels/*.parquet")))
        table = pads.dataset(parts).to_table(columns=["video_id", "uri"])
        assert len(set(table["video_id"].to_pylist())) == table.num_rows == 5
        merge(outs, tmp_path / "all", ("labels", "failures"))
        whole = run(tmp_path / "all", None)
        assert (whole.inputs, whole.already_done, whole.labelled) == (6, 6, 0)

    def test_encode_jobs_share_a_source_and_their_stores_become_one(
        self, videos: str, tmp_path: Path, model: str
    ) -> None:
        outs = [tmp_path / f"features/shard-{k}" for k in range(2)]
        for k, out in enumerate(outs):
            encode(EncodeOptions(source=videos, out=str(out), **given(model, f"{k}/2")))
        counts = [FeatureStore(str(out)).clips().num_rows for out in outs]
        assert sum(counts) == 5
        merge(outs, tmp_path / "all", ("regions", "failures"))
        whole = encode(EncodeOptions(source=videos, out=str(tmp_path / "all"), **given(model, None)))
        assert (whole.inputs, whole.already_done) == (6, 6)
        ids_in_store = FeatureStore(str(tmp_path / "all")).clips()["video_id"].to_pylist()
        options = RelabelOptions(
            source=str(tmp_path / "all"),
            out=str(tmp_path / "relabelled"),
            labels="walking,running",
            inputs=InputOptions(shard="1/2"),
            output=OutputOptions(quiet=True),
        )
        assert relabel(options).inputs == counts[1]
        found = pads.dataset(str(tmp_path / "relabelled/labels")).to_table(columns=["video_id"])["video_id"].to_pylist()
        assert sorted(found) == sorted(own for own in ids_in_store if shard_of(own, 2) == 1)
