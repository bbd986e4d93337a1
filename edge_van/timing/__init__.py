"""``edge-van benchmark``: models measured in turns, what the machine did meanwhile, and what to doubt.

In: bundles. Out: a ``BenchmarkResult`` (see ``timing.record``). ``run`` holds the whole; the rest are its parts.
"""
