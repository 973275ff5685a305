"""Networks, optimisers, data loading, checkpoints and the training loop."""

import os

# Threads of OpenMP that wait for one another sleep instead of spinning: on cores shared with other work, the one that
# spins keeps the other from running (measured on two busy cores: 560 -> 14 ms a step of a tiny model).  Read by the
# library when torch is first imported, so it is set before.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
