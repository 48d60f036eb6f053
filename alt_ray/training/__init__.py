"""Training and testing on feature stores, on one worker of one or many. Knows nothing of Ray: engine/train.py adds it."""
