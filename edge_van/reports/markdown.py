"""The report as Markdown: the same sections as the page, its plots as the tables of their figures.

In: a ``Page``. Out: UTF-8 GitHub-flavoured Markdown, in which no name from a bundle is markup.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from edge_van.reports.format import percent
from edge_van.reports.html import TEMPLATES
from edge_van.reports.verdict import STATUS_WORDS
from edge_van.reports.view import Code, Page
from edge_van.reports.write import GENERATOR
from edge_van.text import one_line


def markdown(page: Page) -> bytes:
    template = _environment().get_template("report.md.j2")
    text: str = template.render(page=page, generator=GENERATOR, status_words=STATUS_WORDS)
    text = re.sub(r" +$", "", text, flags=re.MULTILINE)
    return (re.sub(r"\n{3,}", "\n\n", text).strip() + "\n").encode("utf-8", "backslashreplace")


def escaped(text: str) -> str:
    """One printable line without anything that Markdown, GitHub or HTML would take for markup, also where it begins a
    line or a table's cell."""
    line = one_line(text).lstrip().replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = re.sub(r"([\\`*_\[\]|~]|#(?!\d))", r"\\\1", line)
    line = re.sub(r"^(\d*)([-+=.)])(?=[-+=]*(?: |$))", r"\1\\\2", line)  # a list, or a heading of the line above
    return _LINKED.sub(r"<span>\g<0></span>", line)


_LINKED = re.compile(
    r"[@$]|#(?=\d)"  # a user or an e-mail, a formula, an issue
    r"|:(?=//)|(?<=mailto):|(?<=xmpp):|(?<=www)\."  # an address
    r"|:(?=[\w\\+-]*[a-z][\w\\+-]*:|\\?[+-]1:)",  # a picture such as :bug:
    re.IGNORECASE,
)
"""What GitHub finds in text after backslashes and entities are read: an element in between is all that it minds."""


def code(text: str) -> str:
    """A code span for a table's cell: what is copied out of it is ``text``, on one printable line.

    A cell ends at a bar also inside code, unless a backslash stands before it; backslashes that stand there already are
    doubled, as GitHub has no way to write them.
    """
    line = re.sub(r"(\\*)\|", r"\1\1\\|", one_line(text))
    fence = "`" * (max(map(len, re.findall("`+", line)), default=0) + 1)
    pad = " " if line.startswith(("`", " ")) or line.endswith(("`", " ")) else ""
    return f"{fence}{pad}{line}{pad}{fence}" if line.strip() else escaped(line)


def _written(value: Any) -> Any:
    if isinstance(value, Code):
        return code(value)
    return escaped(value) if isinstance(value, str) else value


@cache
def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=False,  # not HTML: finalize escapes every value for Markdown
        finalize=_written,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    return environment
