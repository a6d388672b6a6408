"""Hides what the image `serve` does not hold: Python reads this file at its start, in workers too."""

import os
import sys

HIDDEN = set(os.environ["HIDDEN_MODULES"].split(","))


class Hider:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in HIDDEN:
            raise ModuleNotFoundError(f"No module named {name!r}: the image `serve` has none", name=name)


sys.meta_path.insert(0, Hider())
