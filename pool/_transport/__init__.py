"""Move messages between two processes."""
