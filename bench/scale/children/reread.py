"""
Read a folder of documents as the controller does, then again after one file changed, some times.

Prints the processor seconds of the first reading, and the median of the others.
"""

import gc
import sys
import time
from pathlib import Path

from reconciler.controller.document_source import Source, take

TIMES = 3


def main(folder: str) -> tuple[float, float]:
    """Return both."""
    gc.set_threshold(10_000)  # as the command does, before it imports anything
    source = Source([folder])

    def read() -> float:
        began = time.process_time()
        reading = source.read(take([folder]))
        if reading.trouble:
            raise AssertionError(reading.trouble)
        return time.process_time() - began

    whole = read()
    one = min(Path(folder).iterdir())
    again = []
    for number in range(TIMES):
        one.write_text(one.read_text().replace("bench", f"bench-{number}", 1))
        again.append(read())
    return whole, sorted(again)[TIMES // 2]


if __name__ == "__main__":
    print(*main(sys.argv[1]))
