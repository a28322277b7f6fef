"""Results of other tools as runs of melt's own store: recomputed, each correction listed, the raw files kept."""
