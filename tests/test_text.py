"""``edge_van.text``: names in the place of paths."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_van.text import file_name, without_folders


def test_a_file_is_called_by_its_last_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here" / "below").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    assert [file_name(Path(p)) for p in ("/home/me/a bundle", "a.json", ".", "below/..", "/")] == [
        "a bundle",
        "a.json",
        "here",
        "here",
        "/",
    ]


def test_a_message_keeps_names_and_what_lies_below_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bundle, data = tmp_path / "b", Path("sets/val")
    text = f"{bundle}/openvino/model.xml is damaged, {data}/cat/1.png and {data.resolve()} are not"
    assert without_folders(text, (bundle, data)) == "b/openvino/model.xml is damaged, val/cat/1.png and val are not"
    assert without_folders(ValueError(f"{tmp_path} and {bundle}"), (bundle, tmp_path)) == f"{tmp_path.name} and b"
    assert without_folders("as . it / was", (Path(), Path("/"))) == "as . it / was"
