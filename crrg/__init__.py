"""CRRG-CLIP: chest radiographs to draft reports and calibrated finding labels.

The library does all the work; ``tasks/`` wrap one call each and ``flows/`` order the tasks. Start with
``crrg.operations`` (what a person or a schedule asks for) and follow the imports downwards.
"""

import os

__version__ = "0.1.0"

WAIT_COUNT = "1000"
"""Turns that a thread of torch's OpenMP (GNU) waits awake for the others, some microseconds; then it sleeps.

By itself it waits 300,000, some milliseconds: as long as another process may hold the core of the one it waits for. On
a machine that is shared both cores then do nothing but wait (``python -m benchmarks.shared_machine``).
"""
# read once, when torch is imported; who chose a policy or a number keeps it
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", WAIT_COUNT)
