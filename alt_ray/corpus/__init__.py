"""Text only: the entity corpus and label lists. Knows nothing of torch, videos or Ray."""
