"""Paths that a user names: what is there can be asked, and what cannot be is said in a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from greenprune.bench.errors import UserError
from greenprune.bench.paths import path_of


def test_a_path_is_written_out_and_need_not_lead_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "file").touch()
    assert path_of("~/file", "--data").is_file()
    assert path_of("file", "--data", tmp_path).is_file()
    assert path_of("~/file", "--data", Path("elsewhere")) == tmp_path / "file"
    assert not path_of("file/below", "--data", tmp_path).exists()
    assert not path_of("nowhere", "--data", tmp_path).exists()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("~nobody_/x", "~nobody_ is nobody's folder here; allowed: a path without it"),
        ("x" * 300, "cannot be looked for (File name too long); allowed: the path of a file or a folder"),
        ("loop", "cannot be looked for (Too many levels of symbolic links); allowed: the path of a file or a folder"),
        ("a\0b", "cannot be looked for (embedded null byte); allowed: the path of a file or a folder"),
    ],
)
def test_what_cannot_be_asked_is_said_with_where_it_was_named(text: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UserError) as caught:
        path_of(text, 'weights = "w"', tmp_path)
    assert str(caught.value) == f'weights = "w": {why}'
