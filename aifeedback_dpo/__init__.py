"""Preference data from reward models or people, Diffusion-DPO on it, and an honest comparison of the two."""

import os

# what Arrow's own allocator was once given it keeps: 30 MiB more after reading the tables of 10,000 pairs
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
