"""Two sets of runs that differ in one declared axis: which cells belong together, and what may be said of them."""
