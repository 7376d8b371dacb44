"""docs/findings.md shows what the program says today: its numbers are those of demo/findings.py."""

import os
import subprocess
import sys

import support

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")


class Findings(support.CliTest):
    def test_the_page_is_in_step(self):
        done = subprocess.run(
            [sys.executable, "-B", os.path.join(ROOT, "demo", "findings.py"), self.binary],
            check=True,
            stdout=subprocess.PIPE,
            env=support.clean_environment(),
        )
        with open(os.path.join(ROOT, "docs", "findings.md"), encoding="utf-8") as file:
            page = file.read()
        self.assertIn(done.stdout.decode(), page, "print it again: python3 demo/findings.py")


if __name__ == "__main__":
    support.main()
