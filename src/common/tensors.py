"""Constants that losses and networks must share."""

# Below this squared norm a vector counts as zero: its direction is unreliable, and 1 / norm would blow up its gradient.
SMALLEST_SQUARED_NORM = 1e-12
