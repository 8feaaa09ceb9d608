"""`python -m reconciler` is `jtr`."""

from reconciler.cli import main

if __name__ == "__main__":
    main()
