"""Pure torch: the region-aware encoder, the alignment, the adapter, their cost. Knows nothing of files of videos, nor of Ray."""
