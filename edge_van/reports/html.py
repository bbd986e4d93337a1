"""The report as one self-contained HTML file that loads nothing and runs nothing.

In: a ``Page``. Out: UTF-8 HTML. Names come from strangers' bundles: everything is escaped, what cannot be printed too.
"""

from __future__ import annotations

import base64
from functools import cache
from pathlib import Path
from typing import Any

from edge_van.reports.format import percent
from edge_van.reports.verdict import STATUS_WORDS
from edge_van.reports.view import Code, Page
from edge_van.reports.write import GENERATOR
from edge_van.text import one_line

TEMPLATES = Path(__file__).resolve().parent / "templates"


def html(page: Page) -> bytes:
    """The page as UTF-8. Raises ``ModuleNotFoundError`` without Jinja2: the command line looks for it first."""
    style = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    template = _environment().get_template("report.html.j2")
    text: str = template.render(page=page, style=style, generator=GENERATOR, status_words=STATUS_WORDS)
    return text.encode("utf-8", "backslashreplace")


@cache
def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    def printable(value: Any) -> Any:
        """Runs on every value before it is escaped."""
        if isinstance(value, Code):
            return Markup("<code>{}</code>").format(one_line(value))
        if isinstance(value, str) and not isinstance(value, Markup):
            return one_line(value).replace(" %", "\N{NO-BREAK SPACE}%")
        return value

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        finalize=printable,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["jpeg"] = lambda content: f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"
    environment.filters["svg"] = Markup  # our own figures, whose text matplotlib has escaped
    environment.filters["percent"] = percent
    return environment
