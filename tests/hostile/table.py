"""The table of README.md: what is wrong with each case, and the error that it must bring.

    THORNS=build/thorns python3 tests/hostile/table.py

writes it anew from cases.py and what the program says now. Every changed line is to be read before it
is kept.
"""

import collections
import os
import sys

Row = collections.namedtuple("Row", "wrong code error")
HERE = os.path.dirname(os.path.abspath(__file__))


def read(path):
    """name -> Row, in the order of the file."""
    rows = {}
    with open(path, encoding="utf-8") as file:
        for line in file:
            if not line.startswith("| `"):
                continue
            # A bar within a cell is written `\\|`.
            cells = line.strip()[2:-2].replace("\\|", "\0").split(" | ")
            name, wrong, code, error = (cell.replace("\0", "|") for cell in cells)
            rows[name.strip("`")] = Row(wrong, int(code), error)
    return rows


def cell(text):
    return str(text).replace("|", "\\|")


def main():
    sys.path.insert(0, os.path.join(HERE, os.pardir, "cli"))
    import cases
    import test_hostile

    test = test_hostile.Hostile()
    test.setUp()
    lines = []
    for case in cases.CASES:
        code, error = test.refuse(case)
        lines.append("| `%s` | %s | %d | %s |\n" % (case.name, cell(case.wrong), code, cell(error)))
    test.doCleanups()
    path = os.path.join(HERE, "README.md")
    with open(path, encoding="utf-8") as file:
        head = [line for line in file if not line.startswith("| `")]
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(head + lines)


if __name__ == "__main__":
    main()
