"""``edge_van.reports.markdown``, read back by GitHub's own parser: every name is text, every command can be copied."""

from __future__ import annotations

import html
import re

import pytest
from cmarkgfm import github_flavored_markdown_to_html
from cmarkgfm.cmark import Options
from hypothesis import given
from hypothesis import strategies as st
from samples import HOSTILE

from edge_van.reports.markdown import code, escaped, markdown
from edge_van.reports.view import Page
from edge_van.text import one_line

MARKUP = tuple(
    r"""
http://a.b/c
HTTPS://a.b
www.a.b
WWW.a.b
<https://a.b>
a@b.cd
mailto:a@b.cd
xmpp:a@b.cd
@name
#1
user/repo#1
$x$
:smile_cat:
:+1:
# x
> x
- x
+ x
1. x
12)
===
---
- - -
~~x~~
*x*
__x__
`x`
```
![a](b)
[a]: b
[^1]
<b>
<!--
&amp;
a|b
a\
\|
""".strip().splitlines()
)
"""All that GitHub would make something of, most of it at the beginning of a line."""
BREAKS = re.compile(r"</?span>")
LOOKED_FOR = re.compile(r"@\w|\$.*\$|#\d|:[\w+-]*[a-z][\w+-]*:|:[+-]1:", re.IGNORECASE)
"""In the text between two elements, by GitHub itself: users, formulas, issues, pictures."""
texts = st.lists(st.sampled_from(MARKUP) | st.text(max_size=8), max_size=5).map("".join)


def rendered(text: str) -> str:
    return str(github_flavored_markdown_to_html(text, Options.CMARK_OPT_UNSAFE))


def cells(*written: str) -> list[str]:
    """What GitHub shows in the cells of a table's row."""
    page = rendered(f"|{'a|' * len(written)}\n|{'---|' * len(written)}\n| {' | '.join(written)} |\n")
    return re.findall(r"<td>(.*?)</td>", page, re.DOTALL)


@pytest.mark.parametrize("text", MARKUP)
def test_what_is_markup_is_text(text: str) -> None:
    paragraph, [cell] = rendered(escaped(text)), cells(escaped(text))
    assert html.unescape(BREAKS.sub("", paragraph)) == f"<p>{text}</p>\n"
    assert html.unescape(BREAKS.sub("", cell)) == text


@given(texts)
def test_any_text_is_itself_in_a_paragraph_and_in_a_cell(text: str) -> None:
    shown = one_line(text).strip()
    paragraph, [cell, neighbour] = rendered(escaped(text)), cells(escaped(text), "z")
    for found in (paragraph.removeprefix("<p>").removesuffix("</p>\n"), cell):
        assert "<" not in (left := BREAKS.sub("", found)), found
        assert html.unescape(left).strip() == shown
    assert neighbour == "z"


@given(texts)
def test_what_only_github_finds_is_broken_by_an_element(text: str) -> None:
    for part in re.split(r"</?span>", rendered(escaped(text))):
        assert not LOOKED_FOR.search(html.unescape(part))


@given(st.text(max_size=20) | st.text("`|\\\\ a", max_size=12))
def test_a_command_is_copied_as_it_is(text: str) -> None:
    shown = one_line(text)
    found, neighbour = cells(code(text), "z")
    assert neighbour == "z"
    if shown.strip() and "\\|" not in shown:  # GitHub has no way to write the two in a table's code
        assert html.unescape(found) == f"<code>{shown}</code>"


def test_a_commands_underscores_are_not_escaped() -> None:
    assert code("edge-van report van_b0_int8") == "`edge-van report van_b0_int8`"
    assert code("a `b` ``c``") == "``` a `b` ``c`` ```"


def test_hostile_names_are_text_on_github(single_page: Page) -> None:
    page = rendered(markdown(single_page).decode())
    assert "\x1b" not in page
    ours = r"h[123]|p|strong|ul|li|code|span|table|thead|tbody|t[rhd]"
    assert re.findall(rf"<(?!/?(?:{ours})\b|!--).{{0,40}}", page) == []
    command = html.escape(HOSTILE.replace("\x1b", "\\x1b"))
    assert page.count(f"<code>{command}</code>") == 2  # the benchmark's and the report's


def test_markdown_has_the_sections_of_the_page(single_page: Page) -> None:
    content = markdown(single_page).decode()
    assert re.findall(r"^## (.+)$", content, re.MULTILINE) == [section.title for section in single_page.sections]
    tables = re.findall(r"(?:^\|.*\n)+", content, re.MULTILINE)
    assert len(tables) > 15
    assert rendered(content).count("<table>") == len(tables)
    for table in tables:
        columns = {len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in table.splitlines()}
        assert len(columns) == 1, table


def test_a_plot_without_a_caption_has_no_lonely_stop(single_page: Page) -> None:
    assert not re.search(r"\*\*\.\s*$", markdown(single_page).decode(), re.MULTILINE)
