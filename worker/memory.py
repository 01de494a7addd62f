"""Settings of glibc's malloc: freed CPU memory is kept for the next tensor.

By default malloc returns every large block to the system when it is freed (munmap) and maps it
anew at the next step, which costs a page fault per page. Where page faults are slow, as in
virtual machines, a training step spends a third of its time on them.
"""

import ctypes
import functools

# From malloc.h of the GNU C library.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


@functools.cache
def _c_library() -> ctypes.CDLL | None:
    """None if it is not glibc (no mallopt, no malloc_trim)."""
    try:
        library = ctypes.CDLL(None)
    except (OSError, TypeError):
        return None
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None


def keep_freed_memory() -> bool:
    """Keep freed memory in this process from now on. False if the C library is not glibc.

    Blocks of many sizes then share one heap, which fragments: the process grows by up to a quarter
    over what it uses at once (measured with random sizes).
    """
    library = _c_library()
    if library is None:
        return False
    never = -1  # read as an unsigned number, the largest one
    return bool(library.mallopt(_M_MMAP_MAX, 0) and library.mallopt(_M_TRIM_THRESHOLD, never))


def return_freed_memory() -> None:
    """Return the memory that is free now to the system, so that an idle worker is small."""
    library = _c_library()
    if library is not None:
        library.malloc_trim(0)
