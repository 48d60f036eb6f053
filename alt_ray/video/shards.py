"""Which of N parts of a source an input is in, for jobs that share work without knowing of each other. Knows nothing of files.

An input's part depends on its video id alone: a list may grow or be sorted otherwise, and nothing moves to another part.
"""

import hashlib

import numpy as np
import pyarrow as pa

Shard = tuple[int, int]  # (k, n): the part k of n, counted from 0


def shard_of(video_id: str, num_shards: int) -> int:
    """The part that an input is in, from 0 to below `num_shards`."""
    # Hashed again: an id may be the user's own, such as a number.
    digest = hashlib.blake2b(video_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % num_shards


def in_shard(ids: pa.Array | pa.ChunkedArray, shard: Shard) -> np.ndarray:
    """Mark [len(ids)] the inputs that are in a part, by their video ids."""
    k, n = shard
    marks = np.zeros(len(ids), dtype=bool)
    for start in range(0, len(ids), 4096):  # a list of all of them would be most of the driver's memory
        some = ids.slice(start, 4096).to_pylist()
        marks[start : start + len(some)] = [shard_of(own, n) == k for own in some]
    return marks
