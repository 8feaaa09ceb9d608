"""
A clock on the wall that is stepped under a running process: the C library answers it otherwise.

`clock_gettime`, `gettimeofday` and `time` of the processes that are started with `environment` show
the host's time and as many seconds more as a file says; clocks that never jump are as they are.
Nothing of the host is changed.
"""

import struct
import subprocess
from pathlib import Path
from typing import Final

from tests.deploy.tools import tool

_SOURCE: Final = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *ahead;

__attribute__((constructor)) static void open_file(void) {
    const char *path = getenv("STEPPED_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *place = mmap(0, sizeof *ahead, PROT_READ, MAP_SHARED, file, 0);
    if (place != MAP_FAILED) ahead = place;
    close(file);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(clock, now);
    if (!failed && ahead && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += *ahead;
    return failed;
}

int gettimeofday(struct timeval *now, void *zone) {
    struct timespec exact;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &exact)) return -1;
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *place) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (place) *place = exact.tv_sec;
    return exact.tv_sec;
}
"""


class SteppedClock:
    """Below *folder*; needs a C compiler, or the test is not run."""

    def __init__(self, folder: Path) -> None:
        cc = tool("cc")
        folder.mkdir()
        source, self._library = folder / "clock.c", folder / "clock.so"
        source.write_text(_SOURCE, "utf-8")
        built = (cc, "-shared", "-fPIC", "-O1", "-o", str(self._library), str(source), "-ldl")
        subprocess.run(built, check=True)
        self._file = folder / "ahead"
        self._file.write_bytes(struct.pack("=q", 0))

    @property
    def environment(self) -> dict[str, str]:
        """The variables of a process that goes by this clock."""
        return {"LD_PRELOAD": str(self._library), "STEPPED_CLOCK": str(self._file)}

    def step(self, seconds: int) -> None:
        """Show so many seconds more than the host's clock does, from now on."""
        with self._file.open("r+b") as file:  # in place: the other process has it mapped
            file.write(struct.pack("=q", seconds))
