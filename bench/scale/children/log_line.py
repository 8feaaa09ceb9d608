"""
Log while so many secrets are alive; print the milliseconds of a line.
"""

import io
import logging
import sys
import time
from secrets import token_hex

from reconciler.model.secret import Secret
from reconciler.system import log_setup

LINES = 25


def main(secrets: int) -> float:
    """Return the median milliseconds."""
    stream = io.StringIO()
    log_setup.set_up(debug=False, stream=stream, service="bench")
    log = logging.getLogger("reconciler.bench")
    held = [Secret(token_hex(16)) for _ in range(secrets)]
    log.info("the first line may prepare things")
    took = []
    for number in range(LINES):
        held.append(Secret(token_hex(16)))  # new ones come with every pass
        began = time.perf_counter()
        log.info("pass healthy", extra={"fields": {"server": f"server-{number}", "seconds": 0.1}})
        took.append(time.perf_counter() - began)
    log.info("%s and %s", held[0].reveal(), held[-1].reveal())
    said = stream.getvalue()
    if said.count("pass healthy") != LINES or held[0].reveal() in said or held[-1].reveal() in said:
        raise AssertionError("the log is not what it must be")
    return 1000 * sorted(took)[LINES // 2]


if __name__ == "__main__":
    print(main(int(sys.argv[1])))
