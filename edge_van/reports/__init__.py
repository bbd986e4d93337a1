"""The report of one bundle, or of several beside each other: what was measured, drawn, and whether to believe it.

In: bundles and results of ``edge-van benchmark``. Out: ``report.html``, ``report.md`` and ``report.json``.
"""

IMAGE_LIMIT = 2000
"""Images that flips are looked for among, where no other number is asked for."""
