# SPDX-License-Identifier: Apache-2.0
"""`brim` and `python -m brim`: the brim program of this installation."""
import os
import sys

from ._client import find_program


def main() -> int:
    program = find_program()
    if program is None or os.path.realpath(program) == os.path.realpath(sys.argv[0]):
        print("brim: this Python package has no brim program in it, and $PATH has none; build the "
              "tree with make before `pip install .`, or install it with make install",
              file=sys.stderr)
        return 1
    os.execv(program, ["brim", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
