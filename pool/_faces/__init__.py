"""What users touch: the Pool, its results and its options."""
