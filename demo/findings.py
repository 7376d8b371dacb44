#!/usr/bin/env python3
"""What `thorns check` says of two builds of one ensemble, on the demo family.

    python3 demo/findings.py [PROGRAM]        # default: build/thorns; prints the tables of docs/findings.md
"""
import json
import os
import subprocess
import sys
import tempfile

BUILDS = [
    ("MK1, adapters stacked",
     "({{NousHermes+Chronos}+{Platypus+AiroborosM2.0}}{Holodeck[LIMA RP+Kimiko+Janine]})"),
    ("MK2, the published key",
     "({({NousHermes+Chronos}[Kimiko])+({Platypus+AiroborosM2.0}[Janine])}{Holodeck[LIMA RP]})"),
    ("both at once",
     "({({NousHermes+Chronos}[Kimiko])+({Platypus+AiroborosM2.0}[Janine])}"
     "{Holodeck[LIMA RP+Kimiko+Janine]})"),
]


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    program = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else os.path.join(here, "..", "build", "thorns"))
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, os.path.join(here, "make_family.py"), folder], check=True,
                       stdout=subprocess.DEVNULL)
        for title, key in BUILDS:
            done = subprocess.run([program, "check", key, "--path", "models", "--path", "adapters", "--suggest",
                                   "--json"], cwd=folder, check=True, stdout=subprocess.PIPE)
            answer = json.loads(done.stdout)
            print(f"### {title}\n\n    {key}\n")
            print("| adapter | folded into | strength | fit | reaches the result |\n|---|---|---|---|---|")
            for fold in answer["folds"]:
                print(f"| {fold['adapter']} | `{fold['model']}` | {fold['strength']:.3f} | {fold['fit']:.2f} "
                      f"| {fold['reaches']:.3f} |")
            print()
            for finding in answer["findings"]:
                if finding["severity"] == "warning":
                    print(f"- `{finding['code']}`: {finding['message']}")
            print()
            suggestion = answer["suggestion"]
            print(f"`--suggest` prints\n\n    {suggestion['key']}\n")
        print("### every adapter against every model\n")
        print("| adapter | model | strength | held | would reach |\n|---|---|---|---|---|")
        for one in suggestion["table"]:
            print(f"| {one['adapter']} | `{one['model']}` | {one['strength']:.3f} | {one['held']:+.3f} "
                  f"| {one['reaches']:.3f} |")


if __name__ == "__main__":
    main()
