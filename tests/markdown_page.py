"""What tests read of a Markdown page: its prose, its links, its anchors and the commands it shows.

In: the page's text. Out: plain strings, code and tables set apart from prose.
"""

from __future__ import annotations

import re
from collections import Counter

_FENCE = re.compile(r"^(`{3,})[^\n]*\n(.*?)^\1[ ]*$\n?", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_CODE = re.compile(r"(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
_LINK = re.compile(r"!?\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^()\s]+)\)")
_TAG_LINK = re.compile(r"""\b(?:href|src|srcset)=["']([^"'\s]+)""")
_HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)
_ITEM = re.compile(r"^\s*(?:[-*+]|\d+\.)\s+")
_END = re.compile(r"(?<=[.!?])[)*\"”]*\s+(?=[A-Z0-9(\[\"“*`])")
_ABBREVIATIONS = re.compile(r"\b(e\.g|i\.e|etc|et al|cf|vs|no|section)\.", re.IGNORECASE)


def code_lines(text: str) -> list[str]:
    """Every line inside a code fence; a line that ends in a backslash goes on in the next."""
    fences = "\n".join(match[2] for match in _FENCE.finditer(text))
    return [line.strip() for line in fences.replace("\\\n", " ").splitlines() if line.strip()]


def code_spans(text: str) -> list[str]:
    """Every piece of code within a line, tables included."""
    return [" ".join(match[2].split()) for match in _CODE.finditer(_unfenced(text))]


def links(text: str) -> list[str]:
    """Where links, pictures and HTML tags point to."""
    outside = _CODE.sub("code", _unfenced(text))
    return [match[2] for match in _LINK.finditer(outside)] + _TAG_LINK.findall(outside)


def anchors(text: str) -> set[str]:
    """The names by which GitHub finds the headings: lower case, without punctuation, a hyphen for each space."""
    found: set[str] = set()
    seen: Counter[str] = Counter()
    for heading in _HEADING.findall(_unfenced(text)):
        words = _LINK.sub(r"\1", heading).replace("`", "").strip().lower()
        name = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        found.add(f"{name}-{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return found


def sentences(text: str) -> list[str]:
    """The prose: no code, no table, no HTML; a piece of code within a sentence is one word, a list item a paragraph."""
    found: list[str] = []
    for paragraph in _paragraphs(text):
        plain = _LINK.sub(r"\1", _CODE.sub("`code`", paragraph)).replace("**", "")
        plain = _ABBREVIATIONS.sub(r"\1", plain)
        found += [part for part in _END.split(plain) if part.strip()]
    return found


def words(sentence: str) -> int:
    """Those with a letter or a digit: a dash or an equals sign is none."""
    return sum(any(c.isalnum() for c in word) for word in sentence.split())


def _unfenced(text: str) -> str:
    return _COMMENT.sub("", _FENCE.sub("\n", text))


def _paragraphs(text: str) -> list[str]:
    paragraphs: list[list[str]] = [[]]
    for line in _unfenced(text).splitlines():
        inside = bool(paragraphs[-1])
        if not line.strip() or line.startswith(("#", "|", "<", "  <")) or (line.startswith("    ") and not inside):
            paragraphs.append([])
        elif _ITEM.match(line):
            paragraphs.append([_ITEM.sub("", line)])
        else:
            paragraphs[-1].append(line.strip())
    return [" ".join(lines) for lines in paragraphs if lines]
