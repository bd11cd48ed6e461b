"""Imported by a worker of Ray before all else: see `engine._ENVIRONMENT`.

The collector of garbage is off until a worker has its first network. What it imports until then are
objects by the hundred thousand, none of them garbage, and looking through them again and again
takes a seventh of the start (docs/experiments.md).
"""

import gc

gc.disable()
