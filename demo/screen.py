# SPDX-License-Identifier: Apache-2.0
"""What the demo says: plain lines, with bold and colour only on a terminal."""
import os
import sys

IS_TERMINAL = (sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
               and "NO_COLOR" not in os.environ)
_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33"}


def style(text, name):
    return f"\033[{_STYLES[name]}m{text}\033[0m" if IS_TERMINAL else text


def say(text="", name=None):
    print(style(text, name) if name else text, flush=True)


def heading(text):
    say()
    say(text, "bold")


def indent(text, by="      "):
    """A text of several lines, set in."""
    return "\n".join(by + line for line in text.strip().splitlines())


def gib(size):
    return f"{size / 2**30:.2f} GiB"


def mib(size):
    return f"{size / 2**20:,.0f} MiB".replace(",", " ")


def duration(seconds):
    return f"{int(seconds) // 3600}:{int(seconds) // 60 % 60:02}:{int(seconds) % 60:02}"


class Counter:
    """One line that counts, on a terminal only."""

    def __init__(self, text, total):
        self._text = text
        self._total = total
        self._is_shown = False
        self._done = -1

    def show(self, done):
        if IS_TERMINAL and (done != self._done or not self._is_shown):
            self._done = done
            print(f"\r\033[K{style(f'      {self._text} {done}/{self._total}', 'dim')}", end="",
                  flush=True)
            self._is_shown = True

    def clear(self):
        if self._is_shown:
            print("\r\033[K", end="", flush=True)
            self._is_shown = False


def table(head, rows):
    """Columns as wide as they need to be; the first is text, the others are set right."""
    cells = [[str(cell) for cell in row] for row in [head, *rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    for number, row in enumerate(cells):
        line = "  ".join(cell.ljust(width) if column == 0 else cell.rjust(width)
                         for column, (cell, width) in enumerate(zip(row, widths)))
        say("  " + line, "bold" if number == 0 else None)
        if number == 0:
            say("  " + "-" * (sum(widths) + 2 * (len(widths) - 1)))
