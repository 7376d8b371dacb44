#!/usr/bin/env python3
"""The picture of the README: the top of the demo's report, as headless Chromium shows it.

    python3 demo/report_picture.py [PAGE.html PICTURE.png]
"""
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests", "cli"))

import browser  # noqa: E402


def main():
    page = os.path.join(ROOT, "demo", "out", "13B-Thorns.html")
    picture = os.path.join(ROOT, "docs", "report.png")
    if len(sys.argv) == 3:
        page, picture = sys.argv[1:]
    program = browser.find()
    if not program:
        sys.exit("no Chromium is installed: make report-picture installs one")
    with browser.Browser(program) as shown:
        shown.look(1060, 1428, scale=0.8)  # as wide as a README is shown
        shown.open(page)
        shown.screenshot(picture)


if __name__ == "__main__":
    main()
