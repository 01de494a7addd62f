"""Lets one system user through a folder that is closed to others."""

import logging
import os
import stat
import struct
from pathlib import Path

log = logging.getLogger(__name__)

# POSIX access control lists as Linux keeps them: a version, then (tag, permissions, id) by tag and
# id (linux/posix_acl_xattr.h).
_NAME = "system.posix_acl_access"
_HEAD, _ENTRY = struct.Struct("<I"), struct.Struct("<HHI")
_VERSION = 2
_OWNER, _USER, _GROUP, _NAMED_GROUP, _MASK, _OTHERS = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_NO_ID = 0xFFFFFFFF
_SEARCH = 1


def let_search(folder: Path, uid: int) -> None:
    """Give a user search permission on a folder, unless everybody has it.

    That user alone, by an access control list; everybody where the file system has no such lists.
    Only the folder's owner and root may.
    """
    mode = folder.stat().st_mode
    if mode & stat.S_IXOTH:
        return
    try:
        entries = _entries(folder, mode)
        if entries.get((_USER, uid), 0) & _SEARCH:
            return
        entries[_USER, uid] = entries.get((_USER, uid), 0) | _SEARCH
        # Bounds what named users and groups may; the group's own permissions stay as they are.
        mask = entries.get((_MASK, _NO_ID), entries[_GROUP, _NO_ID])
        entries[_MASK, _NO_ID] = mask | _SEARCH
        packed = b"".join(_ENTRY.pack(tag, may, who) for (tag, who), may in sorted(entries.items()))
        os.setxattr(folder, _NAME, _HEAD.pack(_VERSION) + packed)
        log.info("user %d may pass through %s: PostgreSQL cannot run as root", uid, folder)
    except (OSError, AttributeError):  # no lists on this file system, or this system
        log.warning("other users may pass through %s: PostgreSQL cannot run as root", folder)
        folder.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)


def _entries(folder: Path, mode: int) -> dict[tuple[int, int], int]:
    """(tag, id) → permissions, as rwx in three bits."""
    try:
        found = os.getxattr(folder, _NAME)
    except OSError:  # none but the mode, or no lists, which setting one will tell
        return {
            (_OWNER, _NO_ID): mode >> 6 & 7,
            (_GROUP, _NO_ID): mode >> 3 & 7,
            (_OTHERS, _NO_ID): mode & 7,
        }
    return {(tag, who): may for tag, may, who in _ENTRY.iter_unpack(found[_HEAD.size :])}
