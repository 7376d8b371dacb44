#!/usr/bin/env python3
"""Checks the house rules that a compiler does not know.

    python3 tools/check_rooms.py [ROOT]

A room (a folder of src/) includes only itself and rooms on lower floors; the command line includes only
the public headers and itself. Tests may look into every room. Every fuzz target has a seed corpus, and text files hold no trailing blanks and no paths of somebody's machine.
Prints one line per breach, FILE:LINE: what; exit code 1 if there is one.
"""
import os
import re
import sys

FLOORS = {
    "base": 0, "key": 1, "checkpoint": 1, "kernel": 1, "method": 2, "recipe": 3, "adapter": 3,
    "plan": 4, "engine": 5, "output": 5, "api": 6, "cli": 7,
}
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"')
TEXT = (".h", ".cc", ".py", ".sh", ".md", ".txt", ".json", ".cmake", ".yml", ".yaml")
SKIPPED = {".git", "build", "corpus", "golden", "models", "adapters", "out", "__pycache__"}
MACHINE_PATH = re.compile(r"(?<![\w.~/])/(home|root|work|Users)/")


def lines_of(path):
    with open(path, encoding="utf-8") as file:
        return list(enumerate(file.read().split("\n"), start=1))


def check_arrows(root):
    source = os.path.join(root, "src")
    for room in sorted(os.listdir(source)):
        folder = os.path.join(source, room)
        if not os.path.isdir(folder):
            continue
        if room not in FLOORS:
            yield f"src/{room}:1: a room that tools/check_rooms.py does not know"
            continue
        for name in sorted(os.listdir(folder)):
            path = os.path.join("src", room, name)
            if name.endswith("_test.cc"):
                continue
            for number, line in lines_of(os.path.join(root, path)):
                found = INCLUDE.match(line)
                if not found:
                    continue
                target = found.group(1).split("/")[0]
                if target == room or target not in FLOORS:
                    continue
                if room == "cli":
                    yield f"{path}:{number}: the command line includes only thorns/..., not {found.group(1)}"
                elif FLOORS[target] >= FLOORS[room]:
                    yield (f"{path}:{number}: {room}/ (floor {FLOORS[room]}) includes {found.group(1)} "
                           f"(floor {FLOORS[target]})")


def check_fuzz(root):
    folder = os.path.join(root, "fuzz")
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        found = re.fullmatch(r"fuzz_(\w+)\.cc", name)
        corpus = os.path.join(folder, "corpus", found.group(1)) if found else None
        if corpus and not (os.path.isdir(corpus) and os.listdir(corpus)):
            yield f"fuzz/{name}:1: no seeds in fuzz/corpus/{found.group(1)}/"


def check_text(root):
    for folder, folders, files in os.walk(root):
        folders[:] = [f for f in folders if f not in SKIPPED and not f.startswith("build-")]
        for name in sorted(files):
            if not name.endswith(TEXT) and name != "Makefile":
                continue
            path = os.path.join(folder, name)
            shown = os.path.relpath(path, root)
            for number, line in lines_of(path):
                if line != line.rstrip():
                    yield f"{shown}:{number}: trailing blanks"
                if "\t" in line and name != "Makefile":
                    yield f"{shown}:{number}: a tab"
                if MACHINE_PATH.search(line) and name != "check_rooms.py":
                    yield f"{shown}:{number}: a path of somebody's machine"


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    breaches = [*check_arrows(root), *check_fuzz(root), *check_text(root)]
    for breach in breaches:
        print(breach)
    if breaches:
        sys.exit(1)
    print(f"{len(FLOORS)} rooms, every arrow points down")


if __name__ == "__main__":
    main()
