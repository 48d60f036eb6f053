from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from alt_ray.models.textcache import cached_text
from alt_ray.remote.cache import cache_folder

TEXTS = [f"thing {i}" for i in range(100)]


class Counting:
    """An encoder that counts how often it was asked."""

    def __init__(self, digest: str = "sha256:a") -> None:
        self.weights_digest, self.asked = digest, 0

    def encode_text(self, texts: Sequence[str]) -> torch.Tensor:
        self.asked += 1
        generator = torch.Generator().manual_seed(len(self.weights_digest))
        return torch.nn.functional.normalize(torch.randn(len(texts), 8, generator=generator), dim=-1)


def test_texts_are_embedded_once_per_encoder_and_texts(tmp_path: Path) -> None:
    encoder = Counting()
    first = cached_text(encoder, TEXTS, tmp_path)
    assert torch.equal(cached_text(encoder, TEXTS, tmp_path), first)
    assert encoder.asked == 1
    cached_text(encoder, TEXTS[::-1], tmp_path)
    assert encoder.asked == 2
    other = Counting("sha256:other")
    assert not torch.equal(cached_text(other, TEXTS, tmp_path), first)
    assert other.asked == 1


def test_a_broken_file_or_a_folder_that_cannot_be_written_costs_time_only(tmp_path: Path) -> None:
    encoder = Counting()
    first = cached_text(encoder, TEXTS, tmp_path)
    (file,) = (tmp_path / "texts").iterdir()
    file.write_bytes(file.read_bytes()[:50])
    assert torch.equal(cached_text(encoder, TEXTS, tmp_path), first)
    assert torch.equal(cached_text(encoder, TEXTS, tmp_path), first)
    assert encoder.asked == 2
    not_a_folder = tmp_path / "file"
    not_a_folder.write_text("")
    assert torch.equal(cached_text(encoder, TEXTS, not_a_folder), first)
    assert not list((tmp_path / "texts").glob("*.part"))


def test_the_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("ALT_RAY_CACHE", raising=False)
    assert cache_folder() == tmp_path / "alt_ray"
    monkeypatch.setenv("ALT_RAY_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
