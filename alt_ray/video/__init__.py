"""From a source to frames: lists, file systems, sampling, decoding, isolation. Knows nothing of torch, nor of Ray."""
