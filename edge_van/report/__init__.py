"""The report of one bundle, or of several beside each other: what was measured, drawn, and whether to believe it.

In: bundles and results of ``edge-van benchmark``. Out: ``report.html``, ``report.md`` and ``report.json``.
"""
