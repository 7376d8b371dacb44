#!/usr/bin/env python3
"""Checks the house rules that a compiler does not: the arrows between the rooms, and tidy text.

Every folder of src/ is a room and stands on a floor. A file includes only its own room, rooms on
lower floors, and the public headers; the command line includes nothing but the public headers. The
operating system is called on the ground floor, and by the command line for its terminal.
Tests may look into any room, but nothing that ships may include what is made for tests.
Prints one line `file:line: what is wrong` per finding; exit code 1 when there is any.
"""

import argparse
import os
import re
import sys
from collections import defaultdict
from pathlib import Path

# A new room gets its floor here and in src/README.md.
FLOORS = {
    "base": 0,
    "key": 1,
    "checkpoint": 1,
    "hub": 1,
    "kernel": 1,
    "method": 2,
    "recipe": 3,
    "adapter": 3,
    "plan": 4,
    "engine": 5,
    "output": 5,
    "insight": 6,
    "report": 6,
    "api": 7,
    "cli": 8,
}
PUBLIC = "thorns"  # include/thorns
FRONT_DOOR = "cli"  # uses the public headers alone
# What files, memory and signals of the operating system are reached by, and who may: the ground
# floor, and the front door for the terminal.
SYSTEM = re.compile(
    r"^(?:(?:sys|linux)/.*|(?:unistd|fcntl|dirent|poll|pthread|signal|spawn|stdio|termios)\.h"
    r"|fstream|filesystem|cstdio|csignal)$"
)
ON_THE_SYSTEM = {"base", FRONT_DOOR}
LIBRARIES_IN_QUOTES = {"hwy"}  # Highway asks for quotes around its re-included headers

INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]')
NAMESPACE = re.compile(r"^namespace (?:([\w:]+) )?\{$")
NAMESPACE_END = re.compile(r"^\}  // namespace")
TYPE = re.compile(r"^(?:struct|class|union|enum class) (\w+)(?: final)?(?: : [^;]*)? \{")
# Tests may speak of the folders of people who do not exist.
MACHINE_PATH = re.compile(
    r"(?<![\w.~/-])/(?:root|work|opt/venv|(?:home|Users)/(?!(?:me|you|user|somebody|x)\b))[\w./-]*"
)

TEXT_SUFFIXES = {
    ".cc", ".h", ".py", ".md", ".txt", ".json", ".yaml", ".yml", ".sh", ".cmake", ".html", ".css",
}  # fmt: skip
TEXT_NAMES = {"Makefile", "run", ".clang-format", ".clang-tidy", ".gitignore", "LICENSE"}
TABS_ALLOWED = {"Makefile"}
# What the build, the demo and the benchmarks leave behind (see .gitignore), and test data, whose
# bytes mean something.
SKIPPED = re.compile(
    r"^(\.git|build|build-[^/]*|demo/(models|dressed|adapters|out)|bench/out|fuzz/corpus|tests/golden|"
    r".*__pycache__)$"
)


def files_under(root):
    """Every file that belongs to the project, as paths relative to `root`, sorted."""
    found = []
    for folder, folders, names in os.walk(root):
        here = Path(folder).relative_to(root)
        folders[:] = [f for f in folders if not SKIPPED.match((here / f).as_posix())]
        found += [here / name for name in names if not SKIPPED.match((here / name).as_posix())]
    return sorted(found)


def is_test(path):
    """Tests and their helpers: x_test.cc, testing.h, everything under tests/."""
    return path.parts[0] == "tests" or path.stem.endswith("_test") or path.stem == "testing"


def includes_of(text):
    """(line number, name, in quotes) of every #include."""
    for number, line in enumerate(text.splitlines(), 1):
        match = INCLUDE.match(line)
        if match:
            yield number, match.group(2), match.group(1) == '"'


def complaint_about(path, name, quoted):
    """What is wrong with `path` including `name`; None if nothing is."""
    target = name.split("/")[0]
    if SYSTEM.match(name) and path.parts[0] == "src" and not is_test(path):
        if path.parts[1] not in ON_THE_SYSTEM:
            return f"<{name}> is the operating system's: call it through base/"
        return None
    if target not in FLOORS and target != PUBLIC:
        if not quoted or target in LIBRARIES_IN_QUOTES:
            return None
        if target == "support" and (is_test(path) or path.parts[0] == "fuzz"):
            return None
        return f'"{name}" names no room: write "room/file.h", and <...> for other libraries'
    if not quoted:
        return f'<{name}> is ours: write "{name}"'
    if target == PUBLIC:
        return None
    if path.parts[0] == "include":
        return f'a public header includes "{name}": only "{PUBLIC}/..." is public'
    if is_test(path):
        return None
    if is_test(Path(name)):
        return f'"{name}" is for tests only'
    if path.parts[0] != "src":
        return None  # fuzz targets and benchmarks may look into any room
    room = path.parts[1]
    if target == room:
        return None
    if room == FRONT_DOOR:
        return f'{room} includes "{name}": it may use "{PUBLIC}/..." and itself only'
    here, there = FLOORS[room], FLOORS[target]
    if there == here:
        return f'{room} includes "{name}": both stand on floor {here}'
    if there > here:
        return f'{room} (floor {here}) includes "{name}" (floor {there}): arrows point down only'
    return None


def check_arrows(root, files):
    for path in files:
        if path.suffix not in {".cc", ".h"}:
            continue
        if path.parts[0] == "src":
            if len(path.parts) != 3:
                yield path, 1, "sources stand in a room: src/<room>/<file>"
                continue
            if path.parts[1] not in FLOORS:
                yield path, 1, f"the room `{path.parts[1]}` has no floor: give it one in FLOORS"
                continue
        for number, name, quoted in includes_of((root / path).read_text(encoding="utf-8")):
            complaint = complaint_about(path, name, quoted)
            if complaint:
                yield path, number, complaint


def check_names(files):
    """A header's name says which one is meant, without its folder."""
    homes = defaultdict(list)
    for path in files:
        if path.parts[0] in {"src", "include"} and path.suffix == ".h":
            homes[path.name].append(path)
    for paths in homes.values():
        for path in paths[1:]:
            yield path, 1, f"the name is taken by {paths[0].as_posix()}"


def types_of(text):
    """(line number, qualified name) of every type at namespace scope that other files can see."""
    spaces = []
    for number, line in enumerate(text.splitlines(), 1):
        if match := NAMESPACE.match(line):
            spaces.append(match.group(1) or "")
        elif NAMESPACE_END.match(line) and spaces:
            spaces.pop()
        elif (match := TYPE.match(line)) and "" not in spaces:
            yield number, "::".join([*spaces, match.group(1)])


def check_types(root, files):
    """Two types of one name break the one-definition rule, and no compiler says so."""
    homes = {}
    for path in files:
        if path.parts[0] not in {"src", "include", "tests"} or path.suffix not in {".cc", ".h"}:
            continue
        for number, name in types_of((root / path).read_text(encoding="utf-8")):
            home = homes.setdefault(name, path)
            if home != path:
                yield path, number, f"{name} is defined in {home.as_posix()}, too"


def check_corpora(root, files):
    """fuzz/fuzz_x.cc starts from the files in fuzz/corpus/x/."""
    for path in files:
        if path.parts[0] == "fuzz" and path.stem.startswith("fuzz_") and path.suffix == ".cc":
            corpus = Path("fuzz/corpus") / path.stem.removeprefix("fuzz_")
            folder = root / corpus
            if not folder.is_dir() or not any(folder.iterdir()):
                yield path, 1, f"no corpus: {corpus.as_posix()}/ is missing or empty"


def check_text(root, files):
    for path in files:
        if path.suffix not in TEXT_SUFFIXES and path.name not in TEXT_NAMES:
            continue
        try:
            text = (root / path).read_bytes().decode("utf-8")
        except UnicodeDecodeError:
            yield path, 1, "not UTF-8"
            continue
        if text and (not text.endswith("\n") or text.endswith("\n\n")):
            yield path, text.count("\n"), "the file should end with one newline"
        for number, line in enumerate(text.split("\n"), 1):
            if line != line.rstrip():
                yield path, number, "trailing blanks"
            if "\t" in line and path.name not in TABS_ALLOWED:
                yield path, number, "a tab"
            machine = MACHINE_PATH.search(line)
            if machine:
                yield path, number, f"`{machine.group()}` is a place on somebody's machine"


def findings(root):
    files = files_under(root)
    yield from check_arrows(root, files)
    yield from check_names(files)
    yield from check_types(root, files)
    yield from check_corpora(root, files)
    yield from check_text(root, files)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "root", nargs="?", type=Path, default=Path(__file__).resolve().parent.parent
    )
    root = parser.parse_args(arguments).root
    count = 0
    for path, line, complaint in findings(root):
        print(f"{path.as_posix()}:{line}: {complaint}")
        count += 1
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
