"""Freed memory stays with the process until it is returned."""

import subprocess
import sys

import pytest

from worker import memory

STORY = """
import random, resource, psutil, torch
from worker.memory import keep_freed_memory, return_freed_memory

assert keep_freed_memory()
torch.set_num_threads(1)
chooser = random.Random(0)

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def resident():
    return psutil.Process().memory_info().rss

def touched_pages():
    held = [torch.ones(chooser.choice([2**18, 2**20 + 5, 2**23])) for _ in range(10)]
    return sum(4 * t.numel() for t in held) // resource.getpagesize()

for _ in range(30):
    touched_pages()
before = faults()
pages = sum(touched_pages() for _ in range(10))
again = faults() - before
kept = resident()
return_freed_memory()
print(again / pages, (kept - resident()) / 2**20)
"""

pytestmark = pytest.mark.skipif(
    memory._c_library() is None, reason="this C library can't be told to keep memory"
)


def test_what_is_freed_is_used_again_and_then_returned() -> None:
    told = subprocess.run(
        [sys.executable, "-c", STORY], capture_output=True, text=True, check=True, timeout=60
    )
    got_anew, returned_mib = map(float, told.stdout.split())
    assert got_anew < 0.1
    assert returned_mib > 64
