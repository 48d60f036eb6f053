"""What ships by name: the pocket and the recipes, how settings win over each other, and that nothing is taken silently."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

import alt_ray
from alt_ray import bundled
from alt_ray.arguments import parse
from alt_ray.cli import main
from alt_ray.config import EncoderOptions, LabelOptions
from alt_ray.corpus.entities import Corpus, Entity
from alt_ray.engine.request import ModelRequest
from alt_ray.errors import CheckpointError, ModelError, UsageError
from alt_ray.models.checkpoint import EncoderRecord, check_encoder, encoder_of, load_checkpoint, save_checkpoint
from alt_ray.models.encoder import load_encoder
from alt_ray.models.weights import weights_digest
from alt_ray.pocket.vocabulary import SEEN_ACTIONS
from tests.media import write_video

HERE = ["videos", "--out", "out"]
ZERO_SHOT = ["--encoder", "ViT-B-32", "--pretrained", "none", "--labels", "a,b"]


def options(*flags: str) -> LabelOptions:
    return parse(LabelOptions, [*HERE, *flags], "label")


def first_line(command: str, *flags: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What is said before anything is done: the source is missing, so that nothing is."""
    with pytest.raises(SystemExit) as exit_:
        main([command, "no such folder", "--out", "out", *flags])
    assert exit_.value.code == 2
    return capsys.readouterr().err.splitlines()[0]


class TestRecipes:
    def test_every_recipe_is_valid_and_says_what_it_is(self) -> None:
        assert {"pocket", "vit_b16_8f"} <= set(bundled.recipe_names())
        for name in bundled.recipe_names():
            assert options("--recipe", name, "--labels", "a,b").recipe == name
            assert bundled.recipe_file(name).read_text().startswith("# ")

    def test_without_any_model_the_recipe_is_the_pocket_and_labels_come_from_it(self) -> None:
        taken = options()
        assert (taken.recipe, taken.adapter, taken.labels) == ("pocket", "pocket", None)

    @pytest.mark.parametrize("flags", [ZERO_SHOT, ["--adapter", "folder"], ["--adapter=pocket"], ["--encoder=pocket"]])
    def test_with_a_model_named_there_is_no_recipe(self, flags: list[str]) -> None:
        assert options(*flags, "--labels", "a,b").recipe is None

    @pytest.mark.parametrize("settings", ["encoder: ViT-B-32\npretrained: none\nlabels: a,b", "adapter: folder"])
    def test_nor_with_a_model_named_in_a_settings_file(self, tmp_path: Path, settings: str) -> None:
        (tmp_path / "s.yaml").write_text(settings)
        assert options("--config", str(tmp_path / "s.yaml")).recipe is None

    def test_a_settings_file_wins_over_the_recipe_and_flags_over_both(self, tmp_path: Path) -> None:
        (tmp_path / "s.yaml").write_text("recipe: vit_b16_8f\nframes: 16\nmerge_r: 4\n")
        given = ["--config", str(tmp_path / "s.yaml"), "--merge-r", "2", "--labels", "a,b"]
        taken = options(*given)
        assert (taken.recipe, taken.encoder.encoder, taken.template) == ("vit_b16_8f", "ViT-B-16", "photo")
        assert (taken.sampling.frames, taken.encoder.merge_r) == (16, 2)
        assert options("--recipe", "vit_b16_8f", "--labels", "a,b").encoder.merge_r == 8
        other = options(*given[:2], "--recipe", "pocket", "--frames", "4", "--merge-r", "None")
        assert (other.recipe, other.adapter, other.sampling.frames) == ("pocket", "pocket", 4)

    def test_a_ratio_takes_the_place_of_the_recipes_merging(self) -> None:
        encoder = options("--recipe", "vit_b16_8f", "--labels", "a,b", "--merge-ratio", "0.5").encoder
        assert (encoder.merge_r, encoder.merge_ratio) == (None, 0.5)

    def test_another_adapter_wins_over_the_recipes(self) -> None:
        assert options("--recipe", "pocket", "--adapter", "mine").adapter == "mine"

    @pytest.mark.parametrize(
        ("flags", "says"),
        [
            (["--recipe", "pokcet"], "pocket, vit_b16_8f"),
            (["--recipe", "../configs/pocket"], "pocket, vit_b16_8f"),
            (["--recipe", "pocket", *ZERO_SHOT], "leave out --recipe to label with --encoder ViT-B-32"),
            (["--recipe=pocket", "--encoder=pocket"], "has an encoder of its own"),
            (["--recipe", "vit_b16_8f", "--adapter", "mine"], "--adapter mine has one of its own"),
            (["--pretrained", "openai"], "name the --encoder"),
            (["--merge-r", "8"], "--merge-r can't be chosen with the adapter pocket"),
            (["--merge-r", "0"], "--encoder pocket"),
            (["--adapter", "mine", "--merge-ratio", "0.5"], "--merge-ratio can't be chosen with the adapter mine"),
            (["--adapter", "mine", "--merge-schedule", "decreasing"], "--merge-schedule"),
            (["--adapter", "mine", "--region-features", "value"], "--region-features"),
        ],
    )
    def test_what_would_be_ignored_is_refused(self, flags: list[str], says: str) -> None:
        with pytest.raises(UsageError, match=says):
            options(*flags)

    def test_in_python_nothing_is_taken_by_default(self) -> None:
        with pytest.raises(UsageError, match="pocket"):
            LabelOptions(source="v", out="o")
        with pytest.raises(UsageError, match="--merge-r"):
            LabelOptions(source="v", out="o", adapter="pocket", encoder=EncoderOptions(merge_r=8))
        with pytest.raises(UsageError, match="no weights"):
            LabelOptions(source="v", out="o", labels="a,b", encoder=EncoderOptions(encoder="ViT-B-16"))


class TestFirstLine:
    def test_the_default_is_said_first(self, capsys: pytest.CaptureFixture[str]) -> None:
        line = first_line("label", capsys=capsys)
        assert line.startswith("alt-ray label: recipe pocket, the default since no --encoder or --adapter was named: ")
        assert "real videos need a real encoder" in line

    @pytest.mark.parametrize(
        ("flags", "says"),
        [
            (["--recipe", "pocket"], "recipe pocket (pocket)"),
            (["--recipe", "pocket", "--adapter", "mine"], "recipe pocket (mine)"),
            (["--recipe", "vit_b16_8f", "--labels", "a,b"], "recipe vit_b16_8f (ViT-B-16)"),
            (["--adapter", "pocket"], "pocket"),
            (ZERO_SHOT, "ViT-B-32 with random weights: the labels will mean nothing"),
        ],
    )
    def test_what_was_named_is_said_first(
        self, flags: list[str], says: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert first_line("label", *flags, capsys=capsys) == f"alt-ray label: {says}"

    def test_quiet_says_nothing_of_it(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert first_line("label", "--quiet", capsys=capsys).startswith("error:")


class TestCost:
    def report(self, *flags: str) -> tuple[dict[str, object], str]:
        command = [sys.executable, "-m", "alt_ray.cli", "cost", *flags, "--json"]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        return json.loads(result.stdout), result.stderr.splitlines()[0]

    def test_the_default_is_the_pocket_as_it_was_trained(self) -> None:
        report, line = self.report()
        assert line.startswith("alt-ray cost: recipe pocket, the default since no --encoder was named")
        checkpoint = load_checkpoint("pocket")
        record = checkpoint.config.encoder
        encoder = load_encoder("pocket", merge_r=record.merge_schedule)
        assert report["tokens_out"] == encoder.encode_frames(torch.zeros(1, 3, 64, 64)).tokens.shape[1]
        assert report["parameters"]["adapter"] == sum(p.numel() for p in checkpoint.adapter.parameters())  # type: ignore[index]
        assert report["num_frames"] == checkpoint.config.sampling["frames"]

    def test_options_win_over_the_recipe_and_a_named_encoder_has_none(self) -> None:
        report, _ = self.report("--merge-r", "0", "--frames", "3")
        assert (report["tokens_out"], report["num_frames"]) == (65, 3)
        report, line = self.report("--encoder", "pocket")
        assert report["tokens_out"] == 65
        assert line.startswith("pocket, merging 0")

    def test_it_needs_no_torch(self) -> None:
        code = (
            "import sys; from alt_ray.commands import cost; from alt_ray.config import CostOptions; "
            "cost(CostOptions()); sys.exit('torch' in sys.modules)"
        )
        assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


class TestPocket:
    def test_the_encoder_has_its_own_weights_and_the_same_answers_as_open_clip(self) -> None:
        encoder = load_encoder("pocket")
        assert (encoder.name, encoder.pretrained) == ("pocket", "pocket")
        assert encoder.weights_digest == load_encoder("pocket", "pocket").weights_digest == weights_digest(encoder.clip)
        by_path = load_encoder(bundled.encoder_config("pocket"), bundled.encoder_weights("pocket"))  # type: ignore[arg-type]
        assert by_path.weights_digest == encoder.weights_digest
        random = load_encoder("pocket", "none")
        assert (random.name, random.pretrained) == ("pocket", "none")
        assert random.weights_digest != encoder.weights_digest
        images = torch.randn(2, 3, 64, 64)
        assert torch.allclose(encoder.encode_frames(images).pooled, encoder.clip.encode_image(images), atol=1e-5)

    @pytest.mark.parametrize("pretrained", ["pocket", str(bundled.encoder_weights("pocket"))])
    def test_its_encoder_is_rebuilt_from_the_record(self, pretrained: str) -> None:
        encoder = load_encoder("pocket", merge_r=3, region_features="value")
        record = replace(EncoderRecord.of(encoder), pretrained=pretrained)
        rebuilt = encoder_of(record)
        check_encoder(record, EncoderRecord.of(rebuilt))
        images = torch.randn(2, 3, 64, 64)
        assert torch.equal(rebuilt.encode_frames(images).align_tokens, encoder.encode_frames(images).align_tokens)
        assert torch.equal(rebuilt.encode_frames(images).pooled, encoder.encode_frames(images).pooled)
        assert (rebuilt.name, rebuilt.pretrained) == ("pocket", pretrained)

    def test_its_weights_fit_a_config_of_another_name(self) -> None:
        encoder = load_encoder("pocket")
        record = replace(EncoderRecord.of(encoder), name="model")
        assert encoder_of(record).weights_digest == encoder.weights_digest

    def test_weights_that_are_not_its_own_are_refused_by_name(self) -> None:
        with pytest.raises(ModelError, match=r"openai.*tags: pocket"):
            load_encoder("pocket", "openai")
        with pytest.raises(ModelError, match="does not fit"):
            load_encoder("ViT-B-32", "pocket")

    def test_load_by_name_labels_frames(self) -> None:
        model = alt_ray.load("pocket")
        assert model.config.labels == SEEN_ACTIONS
        assert (model.encoder.name, model.encoder.pretrained) == ("pocket", "pocket")
        frames = torch.randint(0, 256, (8, 3, 64, 64), dtype=torch.uint8)
        labels = model.label(frames, top=3)[0].labels
        assert len(labels) == 3
        assert {name for name, _ in labels} <= set(SEEN_ACTIONS)

    def test_a_folder_of_the_same_name_is_reached_as_a_path(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shipped = load_checkpoint("pocket")
        mine = replace(shipped, config=replace(shipped.config, template="mine {}"))
        save_checkpoint(tmp_path / "pocket", mine)
        monkeypatch.chdir(tmp_path)
        assert load_checkpoint("pocket").config == shipped.config
        for path in ("./pocket", "pocket/", Path("pocket"), tmp_path / "pocket"):
            assert load_checkpoint(path).config.template == "mine {}"
        with pytest.raises(CheckpointError, match="Pocket"):
            load_checkpoint("Pocket")

    @pytest.mark.usefixtures("ray_here")
    def test_label_needs_nothing_but_videos_and_a_folder(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "videos").mkdir()
        for name in ("a", "b"):
            write_video(tmp_path / "videos" / f"{name}.mp4")
        out = tmp_path / "out"
        with pytest.raises(SystemExit) as exit_:
            main(["label", str(tmp_path / "videos"), "--out", str(out), "--json"])
        assert exit_.value.code == 0
        assert json.loads(capsys.readouterr().out.splitlines()[-1])["labelled"] == 2
        rows = pq.read_table(out / "labels").to_pylist()
        assert {row["label"] for row in rows} <= set(SEEN_ACTIONS)
        run = json.loads((out / "run.json").read_text())
        assert (run["settings"]["encoder"], run["settings"]["pretrained"]) == ("pocket", "pocket")
        assert run["options"]["recipe"] == "pocket"
        assert any("real videos need a real encoder" in note for note in run["notes"])

    def test_its_encoder_is_enough_for_zero_shot(self) -> None:
        from alt_ray.engine.model import prepare_model

        taken = options("--encoder", "pocket", "--labels", "walking,running", "--merge-r", "2")
        corpus = Corpus((Entity("ball", "object"), Entity("hand", "body_part")), "test")
        request = ModelRequest(taken.encoder, "cpu", labels=("walking", "running"), corpus=corpus)
        identity = prepare_model(request).identity
        assert (identity["encoder"], identity["pretrained"]) == ("pocket", "pocket")
        assert identity["merge_schedule"] == [2, 2, 2, 2]


def test_recipes_are_found_as_a_wheel_lays_them_out_and_what_is_missing_is_named(tmp_path: Path) -> None:
    package = tmp_path / "alt_ray"
    package.mkdir()
    for name in ("__init__.py", "bundled.py", "errors.py"):
        shutil.copy(Path(bundled.__file__).parent / name, package / name)
    shutil.copytree(bundled.recipe_file("pocket").parent, package / "recipes")
    code = "from alt_ray import bundled; print(bundled.recipe_file('vit_b16_8f')); print(*bundled.missing_files())"
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.splitlines()
    assert found[0] == str(package / "recipes" / "vit_b16_8f.yaml")
    missing = [Path(file).name for file in found[1].split()]
    assert missing == ["model.json", "pocket_clip.safetensors", "config.json", "adapter.safetensors"]
