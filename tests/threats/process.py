"""A process that may hold a token, as every command of `jtr` does with `private`, and waits."""

import sys

from reconciler.bootstrap import load_settings

if __name__ == "__main__":
    if sys.argv[1:] == ["private"]:
        load_settings(None, {"HOME": "/nonexistent"}, [])
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.read()
