"""Text embeddings of an encoder, computed once and kept on disk by digest. Knows nothing of what the texts are about.

K texts, D embedding dim.
"""

import hashlib
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from alt_ray.errors import UsageError
from alt_ray.remote.cache import cache_folder
from alt_ray.versions import FORMAT, WRITER, check_version, text_stamp

FORMAT_VERSION = 1
# Fewer are embedded in no time, and a folder of little files serves nobody.
_WORTH_KEEPING = 64


class DigestedEncoder(Protocol):
    """A text encoder that knows the digest of its weights, such as a RegionEncoder."""

    weights_digest: str

    def encode_text(self, texts: Sequence[str], /) -> Tensor: ...


def cached_text(encoder: DigestedEncoder, texts: Sequence[str], folder: Path | None = None) -> Tensor:
    """Return the L2-normalised embeddings of texts [K, D], float32 on the CPU, from the cache if they are there.

    The key is a digest of the encoder and of all texts in order. A folder that can't be written, or a file that
    can't be read, costs time and nothing else.
    """
    if len(texts) < _WORTH_KEEPING:
        return encoder.encode_text(texts).float().cpu()
    # One file of weights gives other embeddings under another config (its activation, say) and in another number format.
    identity = [encoder.weights_digest, *(str(getattr(encoder, name, "")) for name in ("name", "dtype"))]
    content = json.dumps([identity, list(texts)], separators=(",", ":"))
    file = (folder or cache_folder()) / "texts" / f"{hashlib.sha256(content.encode()).hexdigest()}.safetensors"
    try:
        found = _read(file)
        if found.shape[0] == len(texts):
            return found
    except (OSError, SafetensorError, KeyError, ValueError, UsageError):  # also of a newer version: made again
        pass
    embedded = encoder.encode_text(texts).float().cpu().contiguous()
    _publish(embedded, file)
    return embedded


def _read(file: Path) -> Tensor:
    with safe_open(file, "pt") as opened:
        written = opened.metadata() or {}
        check_version(int(written.get(FORMAT, FORMAT_VERSION)), written.get(WRITER), FORMAT_VERSION, file)
        return opened.get_tensor("embeddings")


def _publish(embedded: Tensor, file: Path) -> None:
    """Write under a temporary name and rename: whoever reads finds all of it or nothing."""
    temporary = None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=file.parent, suffix=".part", delete=False) as handle:
            temporary = Path(handle.name)
        save_file({"embeddings": embedded}, temporary, text_stamp(FORMAT_VERSION))
        temporary.chmod(0o644)
        temporary.rename(file)
    except OSError:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
