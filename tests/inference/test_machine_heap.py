"""Memory of a process whose batches vary in shape: what is freed goes back to the system."""

import ctypes
import os
import subprocess
import sys

import pytest

SCRIPT = """
import ctypes
from rankdistil.inference.machine import map_large_blocks

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "a", "b", "c", "d", "e")]

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
libc.mallinfo2.restype = Info
if {asked}:
    map_large_blocks()
libc.free(libc.malloc({size}))  # glibc learns from it that blocks of this size come and go
before = libc.mallinfo2().hblkhd
block = libc.malloc({size})
print(libc.mallinfo2().hblkhd - before >= {size})
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="the C library tells nothing of its heap")
@pytest.mark.parametrize(
    ("asked", "size", "variables", "mapped"),
    [
        (True, 8 << 20, {}, True),
        (False, 8 << 20, {}, False),
        (True, 1 << 20, {}, False),
        (True, 8 << 20, {"MALLOC_MMAP_THRESHOLD_": str(16 << 20)}, False),
    ],
)
def test_large_blocks_are_mapped_by_themselves_unless_the_environment_chooses(
    asked: bool, size: int, variables: dict[str, str], mapped: bool
) -> None:
    line = [sys.executable, "-c", SCRIPT.format(asked=asked, size=size)]
    done = subprocess.run(line, env=os.environ | variables, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(mapped)]
