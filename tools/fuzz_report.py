#!/usr/bin/env python3
"""fuzz_report.py MINUTES [NAME...] [--jobs N] [--write]: runs the fuzz targets of build-fuzz for MINUTES
each and measures which lines of their readers the grown corpora run; --write puts the table into
docs/security.md.

Runs add up: what earlier ones grew, and their minutes and executions, stay in build-fuzz/found.
A finding stops its target, is shown, and starts that target's count anew.
"""

import argparse
import concurrent.futures
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build-fuzz"
FOUND = BUILD / "found"
TABLE = ROOT / "docs" / "security.md"
BEGIN, END = "<!-- tools/fuzz_report.py writes this table -->\n", "<!-- end of the table -->\n"

# libFuzzer's own work took more time than the targets': weighing inputs by what is rare in them, and
# naming new functions. `timeout` is generous, as the machine may be busy.
OPTIONS = ["-entropic=0", "-print_funcs=0", "-timeout=120", "-rss_limit_mb=1024"]

# What each target is to find the faults of, in the order in which they are run: what strangers'
# files reach first comes first. Names are files of src/, without ending.
READERS = {
    "pickle": "checkpoint/pickle checkpoint/pickle_input checkpoint/state_dict checkpoint/torch_globals",
    "zip": "checkpoint/zip_archive",
    "safetensors": "checkpoint/safetensors",
    "gguf": "checkpoint/gguf checkpoint/gguf_blocks checkpoint/gguf_header checkpoint/gguf_model "
    "checkpoint/gguf_tokenizer",
    "legacy": "checkpoint/torch_legacy",
    "pytorch": "checkpoint/pytorch checkpoint/torch_zip checkpoint/strided",
    "dequantise": "checkpoint/bitsandbytes checkpoint/block_grid checkpoint/compressed_tensors "
    "checkpoint/decoding checkpoint/dequantise checkpoint/fp8 checkpoint/gptq checkpoint/mxfp4 "
    "checkpoint/scaled_bytes checkpoint/tensor_reader",
    "adapter": "adapter/adapter adapter/adalora adapter/beft adapter/boft adapter/c3a adapter/contents "
    "adapter/delora adapter/dora adapter/experts adapter/factors adapter/family adapter/foreign "
    "adapter/fourierft adapter/gralora adapter/hira adapter/hra adapter/ia3 adapter/kohya "
    "adapter/ln_tuning adapter/loha adapter/lokr adapter/lora adapter/lycoris adapter/lycoris_oft "
    "adapter/miss adapter/mlx adapter/oft adapter/pieces adapter/product adapter/randlora "
    "adapter/recut adapter/resolve adapter/road adapter/rotation adapter/shira "
    "adapter/trainable_tokens adapter/tucker adapter/vblora adapter/vera",
    "gguf_adapter": "adapter/gguf_lora",
    "adapter_config": "adapter/adapter_config adapter/config_fields adapter/patterns",
    "index": "checkpoint/index",
    "checkpoint": "checkpoint/checkpoint checkpoint/config checkpoint/quantised checkpoint/shards",
    "json_events": "checkpoint/json_events",
    "recipe": "recipe/recipe_file recipe/binder recipe/blend_options recipe/recipe",
    "key": "key/expression key/lexer key/parser key/printer",
    "hub": "hub/listing hub/choice hub/cache hub/repository",
    "fetch": "hub/hub hub/retry hub/url hub/fetch_repository hub/cache_writer",
    "manifest": "output/manifest_reader",
    "journal": "output/journal",
    "json": "base/json",
    "tokens": "checkpoint/tokens",
    "tokenizer": "insight/input_findings",
    "tokenizer_union": "output/tokenizer_files output/tokenizer_union plan/vocabulary",
    "card": "output/card_license",
    "card_template": "output/card_template",
    "key_map": "recipe/key_map_file",
    "adapter_keys": "adapter/keys",
    "report": "report/anatomy report/html report/page",
    "differential": "engine/compute engine/engine engine/solve engine/tiles",
}


def tool(name):
    """clang's own tools, of the version that built the targets."""
    return "/usr/lib/llvm-14/bin/" + name


def corpora(name):
    return [str(FOUND / name), str(ROOT / "fuzz" / "corpus" / name)]


def run(name, arguments, profile):
    environment = dict(os.environ, LLVM_PROFILE_FILE=str(profile))
    command = [str(BUILD / ("fuzz_" + name)), *OPTIONS, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace")


def fuzz(name, minutes):
    """Seconds and executions, or None after a finding."""
    dictionary = ROOT / "fuzz" / "dictionary" / name
    options = ["-dict=" + str(dictionary)] if dictionary.exists() else []
    begin = time.monotonic()
    done = run(
        name,
        [*options, "-max_total_time=%d" % (minutes * 60), "-print_final_stats=1",
         "-artifact_prefix=" + str(FOUND / (name + "-")), *corpora(name)],
        "/dev/null",
    )
    (FOUND / (name + ".log")).write_text(done.stderr)
    executed = re.search(r"stat::number_of_executed_units: *(\d+)", done.stderr)
    if done.returncode != 0 or not executed:
        print("".join(done.stderr.splitlines(True)[-60:]), file=sys.stderr)
        return None
    return time.monotonic() - begin, int(executed.group(1))


def coverage(name):
    """Lines of the reader that the corpus runs, and lines that there are."""
    profile = FOUND / (name + ".profraw")
    merged = FOUND / (name + ".profdata")
    replayed = run(name, ["-runs=0", *corpora(name)], profile)
    if replayed.returncode != 0:
        raise SystemExit("%s: the corpus does not replay\n%s" % (name, replayed.stderr[-3000:]))
    subprocess.run([tool("llvm-profdata"), "merge", "-sparse", "-o", merged, profile], check=True)
    exported = subprocess.run(
        [tool("llvm-cov"), "export", "-summary-only", "-instr-profile=" + str(merged),
         str(BUILD / ("fuzz_" + name))],
        check=True, capture_output=True,
    )
    # Paths are as the compiler got them; compiler caches make them relative.
    endings = tuple("/src/%s.cc" % file for file in READERS[name].split())
    lines = [file["summary"]["lines"] for file in json.loads(exported.stdout)["data"][0]["files"]
             if file["filename"].endswith(endings)]
    if len(lines) != len(endings):
        raise SystemExit("%s: a file of READERS is not in the target" % name)
    profile.unlink()
    return sum(line["covered"] for line in lines), sum(line["count"] for line in lines)


def measure(name, minutes):
    """The target's row after one more run."""
    (FOUND / name).mkdir(parents=True, exist_ok=True)
    kept = FOUND / (name + ".json")
    row = json.loads(kept.read_text()) if kept.exists() else {"seconds": 0, "executions": 0}
    if minutes > 0:
        done = fuzz(name, minutes)
        if done is None:
            kept.unlink(missing_ok=True)
            return name, None
        row["seconds"] += done[0]
        row["executions"] += done[1]
    row["covered"], row["lines"] = coverage(name)
    kept.write_text(json.dumps(row))
    return name, row


def write_table():
    lines = ["| target | minutes | executions | lines of its reader run |", "|---|---|---|---|"]
    for name in sorted(READERS):
        kept = FOUND / (name + ".json")
        if not kept.exists():
            continue
        row = json.loads(kept.read_text())
        if not row["executions"]:
            continue
        lines.append("| `%s` | %.0f | %s | %.1f %% of %d |" % (
            name, row["seconds"] / 60, format(row["executions"], ",").replace(",", " "),
            100 * row["covered"] / row["lines"], row["lines"]))
    text = TABLE.read_text()
    before, rest = text.split(BEGIN)
    TABLE.write_text(before + BEGIN + "\n".join(lines) + "\n" + END + rest.split(END)[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("minutes", type=float, help="0 measures the coverage alone")
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all targets")
    parser.add_argument("--jobs", type=int, default=1, help="targets at a time")
    parser.add_argument("--write", action="store_true", help="the table of docs/security.md")
    options = parser.parse_args()
    targets = {path.stem[len("fuzz_"):] for path in (ROOT / "fuzz").glob("fuzz_*.cc")}
    if targets != set(READERS):
        raise SystemExit("READERS and fuzz/ differ: %s" % ", ".join(sorted(targets ^ set(READERS))))
    FOUND.mkdir(parents=True, exist_ok=True)
    names = options.names or list(READERS)
    failed = []
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for name, row in pool.map(lambda name: measure(name, options.minutes), names):
            if row is None:
                failed.append(name)
                print("%s: a finding" % name, flush=True)
                continue
            print("%s: %.0f minutes, %d executions, %d of %d lines" % (
                name, row["seconds"] / 60, row["executions"], row["covered"], row["lines"]), flush=True)
    if options.write:
        write_table()
    if failed:
        raise SystemExit("findings: " + ", ".join(failed))


if __name__ == "__main__":
    main()
