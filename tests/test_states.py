"""A training goes on from the newest state that is whole, whatever was killed or damaged, and keeps few of them."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from torch import nn

from alt_ray.engine.ddp import place_of
from alt_ray.errors import JobError
from alt_ray.training.owner import Owner
from alt_ray.training.place import Place
from alt_ray.training.states import FOLDER, PROGRESS_FILE, STATE_FILE, Progress, load_epoch, load_newest, save_state


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))


def optimizers(classifier: nn.Module) -> list[torch.optim.Optimizer]:
    matrix, *rest = classifier.parameters()
    return [torch.optim.AdamW(rest, lr=0.1), torch.optim.Muon([matrix], lr=0.1)]


def step(classifier: nn.Module, own: list[torch.optim.Optimizer]) -> None:
    for optimizer in own:
        optimizer.zero_grad()
    classifier(torch.arange(8.0).reshape(2, 4)).square().sum().backward()
    for optimizer in own:
        optimizer.step()


def trained(folder: Path, epochs: int, best: int = 1) -> tuple[nn.Module, list[torch.optim.Optimizer]]:
    classifier = model()
    own = optimizers(classifier)
    for epoch in range(1, epochs + 1):
        step(classifier, own)
        save_state(folder, Progress(epoch, min(best, epoch), 0.5, [{"epoch": epoch}]), classifier, own)
    return classifier, own


def silent() -> Place:
    return Place(say=lambda entry: pytest.fail(str(entry)))


def weights(classifier: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in classifier.parameters()])


def test_going_on_gives_what_not_stopping_would_have_given(tmp_path: Path) -> None:
    classifier, own = trained(tmp_path, 3)
    other = model()
    others = optimizers(other)
    progress = load_newest(tmp_path, other, others, silent())
    assert (progress.epoch, progress.best_epoch, progress.history) == (3, 1, [{"epoch": 3}])
    torch.testing.assert_close(weights(other), weights(classifier), rtol=0, atol=0)
    step(classifier, own)
    step(other, others)
    torch.testing.assert_close(weights(other), weights(classifier), rtol=0, atol=0)


def test_the_newest_two_and_the_best_are_kept(tmp_path: Path) -> None:
    trained(tmp_path, 6, best=2)
    assert sorted(path.name for path in (tmp_path / FOLDER).iterdir()) == ["epoch-0002", "epoch-0005", "epoch-0006"]


@pytest.mark.parametrize("damage", ["cut", "flipped", "no weights", "no progress", "half a progress"])
def test_a_damaged_newest_state_is_passed_over_and_named(tmp_path: Path, damage: str) -> None:
    trained(tmp_path, 3)
    newest = tmp_path / FOLDER / "epoch-0003"
    state, progress = newest / STATE_FILE, newest / PROGRESS_FILE
    if damage == "cut":
        state.write_bytes(state.read_bytes()[:-10])
    elif damage == "flipped":
        data = bytearray(state.read_bytes())
        data[-1] ^= 1
        state.write_bytes(data)
    elif damage == "no weights":
        state.unlink()
    elif damage == "no progress":
        progress.unlink()
    else:
        progress.write_text(progress.read_text()[:40])
    said: list[dict[str, str]] = []
    other = model()
    assert load_newest(tmp_path, other, optimizers(other), Place(say=said.append)).epoch == 2
    assert len(said) == 1
    assert "epoch-0003" in said[0]["warning"]


def test_what_a_killed_write_left_is_no_state_and_is_dropped(tmp_path: Path) -> None:
    trained(tmp_path, 1)
    shutil.copytree(tmp_path / FOLDER / "epoch-0001", tmp_path / FOLDER / ".epoch-0002.x1y2")
    other = model()
    assert load_newest(tmp_path, other, optimizers(other), silent()).epoch == 1
    assert [path.name for path in (tmp_path / FOLDER).iterdir()] == ["epoch-0001"]


def test_where_no_state_can_be_used_nothing_of_one_stays_loaded(tmp_path: Path) -> None:
    """The weights of this one can be loaded, its optimizer's state can't."""
    trained(tmp_path, 1)
    file = tmp_path / FOLDER / "epoch-0001" / PROGRESS_FILE
    file.write_text(json.dumps({**json.loads(file.read_text()), "plain": {"optimizer.0.none.step": 1}}))
    other = model()
    before = weights(other).clone()
    assert load_newest(tmp_path, other, optimizers(other), Place()) == Progress()
    torch.testing.assert_close(weights(other), before, rtol=0, atol=0)


def test_a_run_that_lost_its_folder_publishes_nothing_more(tmp_path: Path) -> None:
    """Workers of a killed driver live on for a while, and so may an attempt on a machine that was taken for lost."""
    first = Owner.begin(tmp_path)
    attempt = first.again()
    classifier = model()
    save_state(tmp_path, Progress(1), classifier, optimizers(classifier), Place(writing=attempt.writing))
    for other in (first.again(), Owner.begin(tmp_path)):
        with pytest.raises(JobError, match="another"):
            save_state(tmp_path, Progress(2), classifier, optimizers(classifier), Place(writing=attempt.writing))
        assert [path.name for path in (tmp_path / FOLDER).iterdir()] == ["epoch-0001"]
        attempt = other
    with pytest.raises(JobError, match="another run"):
        first.again()
    save_state(tmp_path, Progress(2), classifier, optimizers(classifier), Place(writing=attempt.writing))


SEEN = ("an older state", "a newer state", "nothing")


def _loads(rank: int, out: Path) -> None:
    """What a worker goes on with: its weights after a step from the newest state, and those of the best; into its own folder."""
    from torch import distributed as dist

    dist.init_process_group("gloo", init_method=f"file://{out / 'rendezvous'}", rank=rank, world_size=2)
    place = place_of(torch.device("cpu"))
    for seen in SEEN:
        folder = out / seen / str(rank)
        classifier = model()
        own = optimizers(classifier)
        progress = load_newest(folder, classifier, own, place)
        newest = weights(classifier)
        step(classifier, own)
        stepped = weights(classifier)
        load_epoch(folder, progress.best_epoch, classifier, place)
        with pytest.raises(JobError, match="0/checkpoints/epoch-0009"):
            load_epoch(folder, 9, classifier, place)
        torch.save((progress.epoch, progress.history, newest, stepped, weights(classifier)), folder / "found.pt")
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="gloo over a shared file")
def test_every_worker_goes_on_from_the_state_that_rank_0_chose(tmp_path: Path) -> None:
    for seen in SEEN:
        trained(tmp_path / seen / "0", 3)
        (tmp_path / seen / "1").mkdir()
    trained(tmp_path / SEEN[0] / "1", 1)
    trained(tmp_path / SEEN[1] / "1", 6)
    mp.spawn(_loads, args=(tmp_path,), nprocs=2)
    for seen in SEEN:
        one, other = (torch.load(tmp_path / seen / rank / "found.pt") for rank in "01")
        assert one[:2] == other[:2] == (3, [{"epoch": 3}])
        for expected, found in zip(one[2:], other[2:], strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=0)
        assert not torch.equal(one[2], one[3])


def test_a_state_of_a_newer_version_is_passed_over(tmp_path: Path) -> None:
    trained(tmp_path, 2)
    file = tmp_path / FOLDER / "epoch-0002" / PROGRESS_FILE
    file.write_text(json.dumps({**json.loads(file.read_text()), "format_version": 99}))
    said: list[dict[str, str]] = []
    other = model()
    assert load_newest(tmp_path, other, optimizers(other), Place(say=said.append)).epoch == 1
    assert "newer" in said[0]["warning"]


def test_without_a_state_it_begins(tmp_path: Path) -> None:
    other = model()
    before = weights(other).clone()
    assert load_newest(tmp_path, other, optimizers(other), silent()) == Progress()
    torch.testing.assert_close(weights(other), before, rtol=0, atol=0)


def test_a_best_epoch_that_is_gone_and_a_disk_that_refuses_are_said(tmp_path: Path) -> None:
    classifier, own = trained(tmp_path, 1)
    with pytest.raises(JobError, match="epoch-0007"):
        load_epoch(tmp_path, 7, classifier)
    (tmp_path / "file").touch()
    with pytest.raises(JobError, match="can't be written"):
        save_state(tmp_path / "file", Progress(1), classifier, own)
