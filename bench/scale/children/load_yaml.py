"""
Load every file of a folder with PyYAML's C loader and do nothing with it.
"""

import os
import sys

import yaml

if __name__ == "__main__":
    for entry in os.scandir(sys.argv[1]):
        with open(entry.path, "rb") as file:  # noqa: PTH123  - the least that there is
            yaml.load(file, Loader=yaml.CSafeLoader)
