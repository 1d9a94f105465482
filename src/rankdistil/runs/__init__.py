"""Run folders: their records, and those that a comparison names."""
