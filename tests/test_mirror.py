"""Local copies of folders on a real S3 server: exact, sent in an order that may be cut anywhere, with one owner."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from alt_ray.errors import CheckpointError, JobError, ModelError
from alt_ray.models.checkpoint import CONFIG_FILE, WEIGHTS_FILE, load_checkpoint
from alt_ray.models.weights import resolve_model
from alt_ray.remote.cache import FOLDER_VARIABLE
from alt_ray.remote.fetch import fetched
from alt_ray.remote.folder import RemoteFolder
from alt_ray.remote.mirror import Mirror
from alt_ray.training.owner import Owner
from alt_ray.training.place import Place
from alt_ray.training.states import Progress, load_newest, save_state
from tests.s3 import BUCKET, Server


class Killed(BaseException):
    """What a process that was killed at a request would leave is what this leaves."""


class _Cut(RemoteFolder):
    """Does `left` requests that change something, and is cut off at the next one."""

    left = 0

    def _request(self, action: Callable[[], None]) -> None:
        if not self.left:
            raise Killed
        self.left -= 1
        action()

    def write(self, name: str, data: bytes) -> None:
        self._request(partial(super().write, name, data))

    def remove(self, name: str) -> None:
        self._request(partial(super().remove, name))


def mirror(prefix: str, path: Path) -> Mirror:
    path.mkdir(exist_ok=True)
    return Mirror(RemoteFolder(f"s3://{BUCKET}/{prefix}"), path, left_out=("features",))


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_copy_is_exact_and_only_what_changed_is_sent(s3: Server, tmp_path: Path) -> None:
    one, other = mirror("mirror", tmp_path / "one"), mirror("mirror", tmp_path / "other")
    for name, content in {"a.txt": "1", "below/b.txt": "2", ".scratch": "3", "features/c": "4"}.items():
        (one.path / name).parent.mkdir(exist_ok=True)
        (one.path / name).write_text(content)
    one.push()
    assert s3.names("mirror") == ["a.txt", "below/b.txt"]
    other.pull()
    assert files(other.path) == {"a.txt": b"1", "below/b.txt": b"2"}

    (other.path / "a.txt").write_text("5")
    (other.path / "below" / "b.txt").unlink()
    s3.client().put_object(Bucket=BUCKET, Key="mirror/theirs.txt", Body=b"of somebody else")
    other.push()
    assert {name: s3.read(f"mirror/{name}") for name in s3.names("mirror")} == {
        "a.txt": b"5",
        "theirs.txt": b"of somebody else",
    }
    one.pull()
    assert {name: content for name, content in files(one.path).items() if name[0] != "."} == {
        "a.txt": b"5",
        "theirs.txt": b"of somebody else",
        "features/c": b"4",
    }


def weights(seed: int) -> nn.Linear:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Linear(3, 2)


def test_whichever_request_is_the_last_the_newest_whole_state_is_gone_on_from(s3: Server, tmp_path: Path) -> None:
    """Sending the state after epoch 3 and dropping that of epoch 1 takes four requests, any of which may be cut off."""
    seen = []
    for num_requests in range(5):
        prefix, local = f"cut-at-{num_requests}", tmp_path / str(num_requests)
        local.mkdir()
        remote = _Cut(f"s3://{BUCKET}/{prefix}")
        own = Mirror(remote, local)
        remote.left = 100
        for epoch in (1, 2):
            save_state(local, Progress(epoch, best_epoch=epoch), weights(epoch), [])
        own.push()
        save_state(local, Progress(3, best_epoch=3), weights(3), [])
        remote.left = num_requests
        if num_requests < 4:
            with pytest.raises(Killed):
                own.push()
        else:
            own.push()
        other = mirror(prefix, tmp_path / f"other-{num_requests}")
        other.pull()
        found = weights(0)
        epoch = load_newest(other.path, found, [], Place()).epoch
        torch.testing.assert_close(found.weight, weights(epoch).weight, rtol=0, atol=0)
        seen.append(epoch)
        # What was cut off is done by the next who sends.
        save_state(other.path, Progress(4, best_epoch=4), weights(4), [])
        other.push()
        assert s3.names(prefix)[-1].startswith("checkpoints/epoch-0004/")
    assert seen == [2, 2, 3, 3, 3]


def test_who_lost_a_remote_folder_sends_nothing_more(s3: Server, tmp_path: Path) -> None:
    address = f"s3://{BUCKET}/owned-run"
    first = Owner.begin(address)
    attempt = first.again()
    own = mirror("owned-run", tmp_path / "own")
    with attempt.writing(own):
        (own.path / "a").write_text("1")
    for other in (first.again(), Owner.begin(address)):
        with pytest.raises(JobError, match="another"), attempt.writing(own):
            (own.path / "b").write_text("2")
        assert s3.names("owned-run") == [".owner", "a"]
        attempt = other
    with pytest.raises(JobError, match="another run"):
        first.again()


def test_a_checkpoint_is_fetched_once_and_again_when_it_changes(
    s3: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "cache"))
    pocket = load_checkpoint("pocket")
    from alt_ray import bundled

    folder = bundled.adapter_folder("pocket")
    assert folder is not None
    address = s3.upload(folder, "adapter")
    assert load_checkpoint(f"{address}/").config == pocket.config
    place = fetched(address, (CONFIG_FILE, WEIGHTS_FILE))
    before = {path: path.stat().st_mtime_ns for path in place.iterdir()}
    load_checkpoint(address)
    assert {path: path.stat().st_mtime_ns for path in place.iterdir()} == before
    s3.client().put_object(Bucket=BUCKET, Key=f"adapter/{WEIGHTS_FILE}", Body=b"other weights")
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(address)
    with pytest.raises(CheckpointError, match="can't be fetched"):
        load_checkpoint(f"s3://{BUCKET}/no-adapter")
    assert not [path for path in (tmp_path / "cache" / "fetched").iterdir() if path.name[0] == "."]


def test_weights_of_an_encoder_are_fetched(s3: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from alt_ray import bundled

    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "cache"))
    weights = bundled.encoder_weights("pocket")
    assert weights is not None
    address = f"s3://{BUCKET}/weights/{weights.name}"
    s3.client().upload_file(str(weights), BUCKET, f"weights/{weights.name}")
    for uri in (address, address + s3.options):
        _, path = resolve_model("pocket", uri)
        assert path is not None
        assert path.read_bytes() == weights.read_bytes()
    with pytest.raises(ModelError, match="can't be fetched"):
        resolve_model("pocket", f"s3://{BUCKET}/weights/none.safetensors")
