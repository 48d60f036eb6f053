"""The feature store: region features of clips as Parquet parts, how they are written and read. Knows nothing of Ray or videos."""
