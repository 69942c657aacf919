"""The key of the code changes with anything that shows on a page, and with nothing else."""

from __future__ import annotations

from pathlib import Path

from reports.pages.code_key import code_key, key_of


def _house(directory: Path) -> str:
    return key_of(directory, ("reports",), "matplotlib 3")


def test_any_source_changes_the_key_and_other_files_do_not(tmp_path: Path) -> None:
    (tmp_path / "reports" / "templates").mkdir(parents=True)
    (tmp_path / "reports" / "a.py").write_text("x = 1")
    keys = [_house(tmp_path)]
    (tmp_path / "reports" / "notes.txt").write_text("x")
    assert _house(tmp_path) == keys[0]
    for name, text in (("a.py", "x = 2"), ("b.py", ""), ("templates/page.css", "p {}"), ("templates/run.j2", "")):
        (tmp_path / "reports" / name).write_text(text)
        keys.append(_house(tmp_path))
    (tmp_path / "reports" / "b.py").rename(tmp_path / "reports" / "c.py")
    keys += [_house(tmp_path), key_of(tmp_path, ("reports",), "matplotlib 4")]
    assert len(set(keys)) == len(keys)


def test_the_installations_key_is_the_same_each_time() -> None:
    assert code_key() == code_key()
    assert len(code_key()) == 16
