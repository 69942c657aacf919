"""``meshgauge pages``: whole files, in a folder of the user's, never over what is not ours."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from coordinator.commands.pages import refuse_foreign, unpack
from meshgauge.errors import ConfigurationError

OURS = b"<footer>Made by Meshgauge.</footer>"


def archive(**files: bytes) -> io.BytesIO:
    """Return a ZIP archive of files by name."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as out:
        for name, content in files.items():
            out.writestr(name, content)
    return made


def test_an_archive_becomes_a_folder_and_replaces_pages_of_before(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "pages"
    refuse_foreign(folder)
    assert unpack(archive(**{"index.html": OURS, "runs/r/figures/a.png": b"png"}), folder) == 2
    refuse_foreign(folder)
    unpack(archive(**{"index.html": OURS + b"2"}), folder)
    assert (folder / "index.html").read_bytes() == OURS + b"2"
    assert (folder / "runs/r/figures/a.png").read_bytes() == b"png"


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("three years")
    with pytest.raises(ConfigurationError, match="not pages of Meshgauge"):
        refuse_foreign(tmp_path)
    with pytest.raises(ConfigurationError, match="is a file"):
        refuse_foreign(tmp_path / "thesis.tex")
    (tmp_path / "index.html").write_text("my home page")
    with pytest.raises(ConfigurationError, match="not pages of Meshgauge"):
        refuse_foreign(tmp_path)


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "..\\evil"])
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match="outside the folder"):
        unpack(archive(**{"index.html": OURS, name: b"evil"}), tmp_path / "pages")
    assert list(tmp_path.rglob("*")) == []


def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "pages").write_text("in the way")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        unpack(archive(**{"index.html": OURS}), tmp_path / "pages")
