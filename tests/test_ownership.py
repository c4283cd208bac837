"""Files that run native code: whose they must be, and in what directories."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from anytime import ownership
from anytime.errors import SignatureError
from anytime.ownership import check_owned


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """In a directory of a directory, whose modes are those of an ordinary umask."""
    folder = tmp_path / "upper" / "lower"
    folder.mkdir(parents=True)
    made = folder / "native"
    made.write_bytes(b"code")
    for part in (made, folder, folder.parent):
        part.chmod(0o755)
    return made


def test_one_s_own_file_is_ours(file: Path) -> None:
    """The file itself is what is then to be read."""
    assert check_owned(file) == file.resolve()


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o777])
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_what_others_may_write_is_not(file: Path, mode: int, depth: int) -> None:
    """The file, its directory, or one above that; the message has the mode."""
    place = (file, *file.parents)[depth]
    place.chmod(mode)
    with pytest.raises(SignatureError, match=f"{place} may be written by others .mode {mode:o}.*chmod go-w"):
        check_owned(file)


def test_a_directory_in_which_only_owners_move_files_is_no_danger(file: Path) -> None:
    """As /tmp is; the mark means nothing on a file."""
    file.parent.chmod(0o1777)
    check_owned(file)
    file.chmod(0o1777)
    with pytest.raises(SignatureError, match="may be written by others"):
        check_owned(file)


@pytest.mark.parametrize("depth", [0, 1])
def test_what_belongs_to_another_user_is_not(file: Path, depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor in another's directory, which can put another file there; root's is fine with everybody."""
    place, usual = (file, *file.parents)[depth].resolve(), Path.stat

    def of_another(self: Path) -> os.stat_result:
        found = usual(self)
        return os.stat_result((*found[:4], 4242, *found[5:10])) if self == place else found

    monkeypatch.setattr(ownership.Path, "stat", of_another)
    with pytest.raises(SignatureError, match=f"{place} belongs to user 4242"):
        check_owned(file)
    monkeypatch.setattr(ownership.os, "geteuid", lambda: 4242)
    if os.getuid() == 0:  # all the rest is root's
        check_owned(file)


def test_a_link_is_followed_to_what_is_read(file: Path, tmp_path: Path) -> None:
    """What it leads to counts, and is what comes back: the link may lead elsewhere a moment later."""
    link = tmp_path / "link"
    link.symlink_to(file)
    assert check_owned(link) == file.resolve()
    file.parent.chmod(0o777)
    with pytest.raises(SignatureError, match=f"{file.parent} may be written"):
        check_owned(link)


def test_a_file_that_is_not_there_is_nobody_s(tmp_path: Path) -> None:
    """With the reason."""
    with pytest.raises(SignatureError, match=r"missing cannot be found out .No such file or directory"):
        check_owned(tmp_path / "missing")
