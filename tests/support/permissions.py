"""File permissions that also hold for root."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator

import pytest

_VERSION = 0x20080522  # of capget and capset: two words for each set
_IGNORE_MODES = 0b110  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH


@contextlib.contextmanager
def enforced_modes() -> Iterator[None]:
    """A block in which file modes bind this thread, and those it starts, even if it is root's.

    Skips the test where that is impossible.
    """
    if sys.platform == "win32":
        pytest.skip("POSIX permissions")
    if os.geteuid() != 0:
        yield
        return
    if sys.platform != "linux":
        pytest.skip("root ignores permissions")
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_VERSION, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; then their upper halves
    if libc.capget(header, sets):
        pytest.skip("capabilities cannot be read")
    effective = sets[0]
    sets[0] = effective & ~_IGNORE_MODES
    if libc.capset(header, sets):
        pytest.skip("capabilities cannot be dropped")
    try:
        yield
    finally:
        sets[0] = effective
        libc.capset(header, sets)
