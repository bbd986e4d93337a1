"""The report's plots: each a function from records to an SVG for a wide and one for a narrow column.

In: figures that were measured. Out: ``(wide, narrow)`` SVG text that takes its colours and fonts from the page.
"""
