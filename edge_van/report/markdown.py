"""The report as Markdown: the same sections as the page, its plots as the tables of their figures.

In: a ``Page``. Out: UTF-8 GitHub-flavoured Markdown, in which no name from a bundle is markup.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from edge_van.progress import one_line
from edge_van.report.html import TEMPLATES
from edge_van.report.verdict import STATUS_WORDS
from edge_van.report.view import Page
from edge_van.report.write import GENERATOR


def markdown(page: Page) -> bytes:
    template = _environment().get_template("report.md.j2")
    text: str = template.render(page=page, generator=GENERATOR, status_words=STATUS_WORDS)
    text = re.sub(r" +$", "", text, flags=re.MULTILINE)
    return (re.sub(r"\n{3,}", "\n\n", text).strip() + "\n").encode("utf-8", "backslashreplace")


def escaped(text: str) -> str:
    """One printable line without anything that Markdown or HTML would take for markup."""
    line = re.sub(r"([\\`*_\[\]|~#])", r"\\\1", one_line(text))
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


@cache
def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=False,  # not HTML: finalize escapes every value for Markdown
        finalize=lambda value: escaped(value) if isinstance(value, str) else value,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
