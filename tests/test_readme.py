"""The README and the pages in ``docs/``: recorded figures, links that lead somewhere, real commands, short prose."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import click
import markdown_page
import pytest
from benchmark_scripts import BENCHMARKS, script
from PIL import Image

from edge_van.bundle.bundle import Bundle, open_bundle, update_manifest
from edge_van.cli.main import cli

TOP = Path(__file__).parent.parent
README = TOP / "README.md"
DOCS = sorted((TOP / "docs").glob("*.md"))
GENERATED = "numbers.md"
PAGES = [README, TOP / "CONTRIBUTING.md", *DOCS]
WRITTEN = [README, *(page for page in DOCS if page.name != GENERATED)]
MOST_LINES, MOST_WORDS, LONGEST_LINE, LONGEST_SENTENCE = 140, 1100, 120, 25
COMMAND = re.compile(r"(?:^|/| )edge-van ([a-z]\S*)(.*)")

needs_benchmarks = pytest.mark.skipif(not BENCHMARKS.is_dir(), reason="no checkout: benchmarks/ is not here")


def name(page: Path) -> str:
    return page.relative_to(TOP).as_posix()


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def commands(page: Path) -> list[tuple[str, str]]:
    """(verb, what follows it) of every ``edge-van VERB ...`` in a fence or in a piece of code within a line."""
    code = [*markdown_page.code_lines(read(page)), *markdown_page.code_spans(read(page))]
    shown = (match for line in code for part in re.split(r"&&|;|\|", line) if (match := COMMAND.search(part)))
    return [(match[1], match[2]) for match in shown]


def flags_of(command: click.Command) -> set[str]:
    """Those of its subcommands too."""
    own = {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}
    below = command.commands.values() if isinstance(command, click.Group) else ()
    return own.union(*map(flags_of, below))


@needs_benchmarks
def test_no_number_is_typed_by_hand() -> None:
    numbers = script("write_numbers")
    text = read(README)
    between = text.split(numbers.BEGIN)[1].split(numbers.END)[0]
    assert between.strip() == numbers.block(), "run python benchmarks/write_numbers.py"
    assert read(numbers.PAGE) == numbers.page(), "run python benchmarks/write_numbers.py"


@needs_benchmarks
def test_the_readme_table_has_accuracy_and_latency_of_one_machine() -> None:
    numbers = script("write_numbers")
    lines = numbers.block().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:6]]
    assert [row[0].strip("*") for row in rows[:3]] == ["FP32", "INT8, NNCF's defaults", "INT8, edge-van"]
    assert "hardswish" in rows[3][0]
    page = numbers.page()
    assert all(f"| {row[1]} | {row[2]} |" in page and f"| {row[3]} | {row[4]} " in page for row in rows[1:])
    [machine] = [line for line in lines if "Machine" in line]
    assert re.search(r"cores of (.+);", machine)[1] in page  # type: ignore[index]


def test_the_pages_are_there() -> None:
    assert len(DOCS) >= 8
    linked = {link.split("#")[0] for link in markdown_page.links(read(README))}
    assert [name(page) for page in DOCS if name(page) not in linked] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    lost = []
    for link in markdown_page.links(read(page)):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not BENCHMARKS.is_dir() and BENCHMARKS in (target.resolve(), *target.resolve().parents):
            continue  # a source archive has the pages and not what was measured
        if not target.exists() or (anchor and anchor not in markdown_page.anchors(read(target))):
            lost.append(link)
    assert lost == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_can_be_typed_as_they_stand(page: Path) -> None:
    wrong = []
    for verb, rest in commands(page):
        command = cli.commands.get(verb)
        if command is None:
            wrong.append(verb)
        else:
            given = {word.split("=")[0] for word in rest.split() if word.startswith("-")}
            wrong += [f"{verb} {flag}" for flag in sorted(given - flags_of(command))]
    assert wrong == []


def test_commands_are_found() -> None:
    found = [verb for page in WRITTEN for verb, _ in commands(page)]
    assert len(found) > 20
    assert set(found) == set(cli.commands), "every verb is documented"


@pytest.mark.parametrize("page", WRITTEN, ids=name)
def test_flags_named_alone_are_those_of_a_verb(page: Path) -> None:
    known = set().union(*map(flags_of, cli.commands.values()))
    named = {
        word.split("=")[0] for span in markdown_page.code_spans(read(page)) if span[:2] == "--" for word in span.split()
    }
    assert sorted(flag for flag in named if flag.startswith("--") and flag not in known) == []


@pytest.mark.parametrize("page", WRITTEN, ids=name)
def test_sentences_are_short(page: Path) -> None:
    assert [s for s in markdown_page.sentences(read(page)) if markdown_page.words(s) > LONGEST_SENTENCE] == []


@pytest.mark.parametrize("page", WRITTEN, ids=name)
def test_lines_are_short(page: Path) -> None:
    lines = [line for line in read(page).splitlines() if not line.startswith("|")]
    assert [line for line in lines if len(line) > LONGEST_LINE] == []


def test_the_readme_can_be_skimmed() -> None:
    text = read(README)
    assert len(text.splitlines()) <= MOST_LINES
    assert len(text.split()) <= MOST_WORDS


def test_the_readme_begins_with_two_complete_commands() -> None:
    lines = markdown_page.code_lines(read(README).split("\n## ")[0])
    assert len(lines) == 2, ".ci/run runs both"
    assert all(line.startswith("python3 -m venv .venv && ") for line in lines)


def test_what_is_read_of_a_page() -> None:
    page = (
        "# A `b` & c\n\nOne two. Three `x y z` ([four](five.md#six)), e.g. this: 1.5 ms.\nSeven?\n"
        "- item one\n  goes on\n- **Bold.** After\n\n| no | table |\n\n"
        '    no code\n\n```sh\nedge-van info \\\n  --dla\n```\n\n# A `b` & c\n\n<img src="eight.png">\n'
    )
    assert markdown_page.sentences(page) == [
        "One two.",
        "Three `code` (four), e.g this: 1.5 ms.",
        "Seven?",
        "item one goes on",
        "Bold.",
        "After",
    ]
    assert markdown_page.words("Three `code` = 1.5 ms.") == 4
    assert markdown_page.links(page) == ["five.md#six", "eight.png"]
    assert markdown_page.anchors(page) == {"a-b--c", "a-b--c-1"}
    assert markdown_page.code_lines(page) == ["edge-van info    --dla"]
    assert markdown_page.code_spans(page) == ["b", "x y z", "b"]


PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHOWN = [(page, code) for page in WRITTEN for code in PYTHON.findall(read(page))]


@pytest.mark.parametrize(("page", "code"), SHOWN, ids=[f"{name(page)}-{i}" for i, (page, _) in enumerate(SHOWN)])
def test_the_python_that_is_shown_runs_as_it_stands(
    page: Path, code: str, timed_bundle: Bundle, tmp_path: Path
) -> None:
    """In a folder with a bundle of the demo's name and an image of a cat's."""
    shutil.copytree(timed_bundle.path, tmp_path / "van_b0_int8")
    named = replace(timed_bundle.manifest.input_spec, classes=tuple("abcdefg"))
    update_manifest(open_bundle(tmp_path / "van_b0_int8"), input_spec=named)
    Image.new("RGB", (90, 70), "orange").save(tmp_path / "cat.jpg")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip(), name(page)


def test_the_readme_shows_six_lines_of_python() -> None:
    [code] = PYTHON.findall(read(README))
    assert len([line for line in code.splitlines() if line.strip()]) <= 6
