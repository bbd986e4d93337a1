"""The tables of ``docs/numbers.md``, a function a result.

In: the parsed JSON files of one script, one a machine. Out: lines of Markdown.
"""
