"""``cli.allocator``: memory that is freed stays with the process, unless the user has set the C library up himself."""

import os
import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import torch
from edge_van.cli.allocator import keep_freed_memory
kept = keep_freed_memory() if sys.argv[1] == "kept" else False
torch.set_num_threads(1)
image = torch.ones(1 << 24)  # 64 MiB
for _ in range(20):
    image * 2
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    image * 2
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
glibc_only = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library than glibc")


def faults(how: str, **environment: str) -> tuple[str, int]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_") and k != "GLIBC_TUNABLES"}
    command = [sys.executable, "-c", FAULTS, how]
    done = subprocess.run(command, env=inherited | environment, capture_output=True, text=True, check=True)
    said, count = done.stdout.split()
    return said, int(count)


@glibc_only
def test_no_page_is_taken_from_the_kernel_twice():
    said, kept = faults("kept")
    _, usual = faults("usual")
    assert said == "True"
    assert usual > 20 * 100  # huge pages make them few
    assert kept < usual / 20


@glibc_only
@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_MAX_"])
def test_what_the_user_has_set_up_stays(name: str):
    said, _ = faults("kept", **{name: "65536"})
    assert said == "False"


@glibc_only
def test_other_settings_of_the_c_library_are_no_reason():
    said, _ = faults("kept", MALLOC_ARENA_MAX="2")
    assert said == "True"
