"""Files with native code that were made on this machine: who can have put them there.

What is built here has nobody's signature, for no key that signs is here. What can be known is who can have written it,
as OpenSSH does for the files it believes (``StrictModes`` of sshd_config).
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from anytime.errors import SignatureError


def check_owned(file: Path) -> Path:
    """See that only root and this process's user can have written a file, or can put another in its place.

    The file and all directories above it belong to one of the two, and neither group nor others may write them; in a
    directory whose entries only their owners can move (sticky, as /tmp) they may. The file with links followed, in
    whose place nobody else can put another until it is read.

    Raises:
        SignatureError: somebody else can; or it cannot be found out.
    """
    try:
        place = file.resolve(strict=True)
        for part in (place, *place.parents):
            if why := _strangers(part.stat()):
                raise SignatureError(
                    f"{file} runs native code when it is loaded, and {part} {why}: with a trusted key configured only "
                    f"what this user or root wrote is loaded; give {part} to one of them ('chown', 'chmod go-w'), "
                    "delete the file, and build it again"
                )
    except OSError as error:
        raise SignatureError(f"who wrote {file} cannot be found out ({error.strerror}): build it again") from error
    return place


def _strangers(found: os.stat_result) -> str:
    """How others than root and this user come to write it; empty where they cannot."""
    if found.st_uid not in (0, os.geteuid()):
        return f"belongs to user {found.st_uid}"
    sticky = stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not sticky:
        return f"may be written by others (mode {stat.S_IMODE(found.st_mode):o})"
    return ""
