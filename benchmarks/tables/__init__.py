"""The README's tables, a function a result.

In: the parsed JSON files of one script, one a machine. Out: lines of Markdown.
"""
