"""Freed memory of the CPU, kept for the next tensor.

By default the C library gives every large block back to the system when it is freed and gets it
anew, page by page, at the next step. Where the system is slow at this, as virtual machines are, a
training step spends a third of its time there.
"""

import ctypes
import functools

# From malloc.h of the GNU C library.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


@functools.cache
def _c_library() -> ctypes.CDLL | None:
    """None where it has not the GNU library's way of being told."""
    try:
        library = ctypes.CDLL(None)
    except (OSError, TypeError):
        return None
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None


def keep_freed_memory() -> bool:
    """From now on this process keeps what it frees, for itself. False where it can't be told.

    Blocks of many sizes then lie in one heap, and what lies between them is not always of use: the
    process grows by up to a quarter over what it needs at once (measured with random sizes).
    """
    library = _c_library()
    if library is None:
        return False
    never = -1  # as an unsigned number: larger than anything
    return bool(library.mallopt(_M_MMAP_MAX, 0) and library.mallopt(_M_TRIM_THRESHOLD, never))


def return_freed_memory() -> None:
    """Give the system back what is free just now, so that an idle worker is small."""
    library = _c_library()
    if library is not None:
        library.malloc_trim(0)
