#!/usr/bin/env python3
"""Measures thorns against cat, cp and numpy, and prints ratios of one run as a Markdown table.

    python3 bench/run.py [--thorns build/thorns] [--dir bench/out] [--runs 5] [--only cold,warm,depth,numpy,fold,ranks]

Needs numpy, 7 GB of disk below --dir (2 GB for fold and ranks) and 2 GB of /dev/shm. The commands of a row run in turn, A B A B ...,
and each figure is a median over the runs; the least and the largest are given beside it.
"""
import argparse
import json
import math
import os
import platform
import shutil
import statistics
import struct
import subprocess
import sys
import time

import numpy as np

KEY = "({({NousHermes+Chronos}[Kimiko])+({Platypus+AiroborosM2.0}[Janine])}{Holodeck[LIMA RP]})"
MODELS = ["NousHermes", "Chronos", "Platypus", "AiroborosM2.0", "Holodeck"]
ADAPTERS = ["Kimiko", "Janine", "LIMA-RP"]
HIDDEN, INTERMEDIATE, LAYERS, VOCABULARY, RANK = 2048, 5632, 4, 32000, 16
FOLD_LAYERS = 7  # 1 GB
RANKS, RANKED_LAYERS = (16, 64, 256, 1024), 2
MEMORY = 512_000_000
CHAIN = "{{{{NousHermes+Chronos}+Platypus}+AiroborosM2.0}+Holodeck}"
FLAT = "{NousHermes+Chronos+Platypus+AiroborosM2.0+Holodeck; linear}"


# ---------------------------------------------------------------- inputs


def shapes(layers=LAYERS):
    yield "lm_head.weight", (VOCABULARY, HIDDEN)
    yield "model.embed_tokens.weight", (VOCABULARY, HIDDEN)
    for layer in range(layers):
        prefix = f"model.layers.{layer}."
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            yield f"{prefix}self_attn.{name}.weight", (HIDDEN, HIDDEN)
        yield prefix + "mlp.gate_proj.weight", (INTERMEDIATE, HIDDEN)
        yield prefix + "mlp.up_proj.weight", (INTERMEDIATE, HIDDEN)
        yield prefix + "mlp.down_proj.weight", (HIDDEN, INTERMEDIATE)
        yield prefix + "input_layernorm.weight", (HIDDEN,)
        yield prefix + "post_attention_layernorm.weight", (HIDDEN,)
    yield "model.norm.weight", (HIDDEN,)


def write_safetensors(path, names_and_shapes, dtype, itemsize, make):
    """`make(name, shape)` gives the array of one tensor; one tensor is held at a time."""
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    entries = sorted(names_and_shapes)
    for name, shape in entries:
        size = math.prod(shape) * itemsize
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape in entries:
            file.write(make(name, shape).tobytes())


def random_tensor(seed, name, shape, scale):
    source = np.random.default_rng([seed, *name.encode()])
    return source.standard_normal(shape, dtype=np.float32) * np.float32(scale)


def make_inputs(folder):
    """Five float16 fine-tunes of one base, 673 MB each, and three LoRAs of rank 16 over all projections."""
    if os.path.exists(os.path.join(folder, "complete")):
        return
    print("making the inputs ...", file=sys.stderr)
    for number, model in enumerate(MODELS):
        path = os.path.join(folder, "models", model)
        os.makedirs(path, exist_ok=True)
        change = 0.2 + 0.1 * number

        def make(name, shape, number=number, change=change):
            base = random_tensor(0, name, shape, 0.02)
            return (base + random_tensor(number + 1, name, shape, 0.02 * change)).astype(np.float16)

        write_safetensors(os.path.join(path, "model.safetensors"), shapes(), "F16", 2, make)
        with open(os.path.join(path, "config.json"), "w", encoding="utf-8") as file:
            json.dump({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN,
                       "intermediate_size": INTERMEDIATE, "num_hidden_layers": LAYERS, "vocab_size": VOCABULARY,
                       "num_attention_heads": 16, "torch_dtype": "float16", "tie_word_embeddings": False}, file)
    for number, adapter in enumerate(ADAPTERS):
        write_adapter(os.path.join(folder, "adapters", adapter), LAYERS, number)
    with open(os.path.join(folder, "complete"), "w", encoding="utf-8"):
        pass


def write_adapter(path, layers, number, rank=RANK):
    """A LoRA over all projections."""
    os.makedirs(path, exist_ok=True)
    factors = []
    for name, shape in shapes(layers):
        if "_proj" in name:
            module = "base_model.model." + name.removesuffix(".weight")
            factors.append((module + ".lora_A.weight", (rank, shape[1])))
            factors.append((module + ".lora_B.weight", (shape[0], rank)))
    write_safetensors(os.path.join(path, "adapter_model.safetensors"), factors, "F32", 4,
                      lambda name, shape: random_tensor(20 + number, name, shape, 0.01))
    with open(os.path.join(path, "adapter_config.json"), "w", encoding="utf-8") as file:
        json.dump({"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "bias": "none"}, file)


def make_fold_inputs(folder):
    """A bfloat16 model of 1 GB and a LoRA of rank 16 over all its projections."""
    if os.path.exists(os.path.join(folder, "complete-fold")):
        return
    print("making the inputs of the fold ...", file=sys.stderr)
    path = os.path.join(folder, "fold", "Base")
    os.makedirs(path, exist_ok=True)

    def make(name, shape):  # cut to bfloat16
        return (random_tensor(30, name, shape, 0.02).view(np.uint32) >> 16).astype(np.uint16)

    write_safetensors(os.path.join(path, "model.safetensors"), shapes(FOLD_LAYERS), "BF16", 2, make)
    with open(os.path.join(path, "config.json"), "w", encoding="utf-8") as file:
        json.dump({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16"}, file)
    write_adapter(os.path.join(folder, "fold", "Update"), FOLD_LAYERS, 10)
    with open(os.path.join(folder, "complete-fold"), "w", encoding="utf-8"):
        pass


# ---------------------------------------------------------------- measuring


def run_counted(command):
    """Seconds and resource usage of one command (a list, or a line for the shell)."""
    begin = time.perf_counter()
    process = subprocess.Popen(command, shell=isinstance(command, str), stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE)
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{command} failed:\n{errors.decode()}")
    return seconds, usage


def run(command):
    """Seconds and peak resident bytes of one command."""
    seconds, usage = run_counted(command)
    return seconds, usage.ru_maxrss * 1024


def forget(folder):
    """Makes the page cache forget the inputs. Returns how."""
    os.sync()
    try:
        with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
            file.write("3\n")
        return "caches dropped (/proc/sys/vm/drop_caches)"
    except OSError:
        for path, _, files in os.walk(folder):
            for name in files:
                descriptor = os.open(os.path.join(path, name), os.O_RDONLY)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(descriptor)
        return "inputs evicted (posix_fadvise DONTNEED)"


def remove(path):
    if os.path.isdir(path):
        shutil.rmtree(path)
    elif os.path.exists(path):
        os.remove(path)


class Row:
    """Two commands in turn, each after `before()`."""

    def __init__(self, runs, before, first, second):
        self.first, self.second, self.peak = [], [], 0
        for _ in range(runs):
            for command, seconds in ((first, self.first), (second, self.second)):
                before()
                took, peak = run(command)
                seconds.append(took)
                if command is first:
                    self.peak = max(self.peak, peak)

    def text(self, work, bar, factor=1.0):
        a, b = statistics.median(self.first), statistics.median(self.second)
        span = lambda values: f"{statistics.median(values):.2f} s ({min(values):.2f}-{max(values):.2f})"
        return f"| {work} | {span(self.first)} | {span(self.second)} | {a / b * factor:.2f} | {bar} |"


NUMPY_SLERP = r"""
import json, struct, sys
import numpy as np
a, b, out = sys.argv[1:4]
def header(path):
    with open(path, "rb") as f:
        n, = struct.unpack("<Q", f.read(8)); text = f.read(n)
    h = json.loads(text); h.pop("__metadata__", None)
    return h, 8 + n, text
ha, base_a, text = header(a); hb, base_b, _ = header(b)
ma = np.memmap(a, mode="r"); mb = np.memmap(b, mode="r")
with open(out, "wb") as f:
    f.write(struct.pack("<Q", len(text)) + text)
    for name, info in sorted(ha.items(), key=lambda item: item[1]["data_offsets"]):
        def load(m, base, i):
            s, e = i["data_offsets"]; return m[base + s:base + e].view(np.float16).astype(np.float32)
        x, y, t = load(ma, base_a, info), load(mb, base_b, hb[name]), np.float32(0.5)
        u, v = x / np.linalg.norm(x), y / np.linalg.norm(y)
        dot = np.sum(u * v)
        if abs(dot) > 0.9995:
            z = (1 - t) * x + t * y
        else:
            theta = np.arccos(dot)
            z = np.sin((1 - t) * theta) / np.sin(theta) * x + np.sin(t * theta) / np.sin(theta) * y
        f.write(z.astype(np.float16).tobytes())
"""


NUMPY_FOLD = r"""
import json, struct, sys
import numpy as np
model, adapter, out, scale = *sys.argv[1:4], np.float32(sys.argv[4])
def header(path):
    with open(path, "rb") as f:
        n, = struct.unpack("<Q", f.read(8)); text = f.read(n)
    h = json.loads(text); h.pop("__metadata__", None)
    return h, 8 + n, text
hm, base_m, text = header(model); ha, base_a, _ = header(adapter)
mm = np.memmap(model, mode="r"); ma = np.memmap(adapter, mode="r")
def factor(name):
    s, e = ha[name]["data_offsets"]
    return ma[base_a + s:base_a + e].view(np.float32).reshape(ha[name]["shape"])
with open(out, "wb") as f:
    f.write(struct.pack("<Q", len(text)) + text)
    for name, info in sorted(hm.items(), key=lambda item: item[1]["data_offsets"]):
        s, e = info["data_offsets"]
        stored = mm[base_m + s:base_m + e]
        module = "base_model.model." + name.removesuffix(".weight")
        if module + ".lora_A.weight" not in ha:
            f.write(stored.tobytes())
            continue
        x = (stored.view(np.uint16).astype(np.uint32) << 16).view(np.float32).reshape(info["shape"])
        x = x + scale * (factor(module + ".lora_B.weight") @ factor(module + ".lora_A.weight"))
        bits = x.view(np.uint32)
        f.write(((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16).tobytes())
"""


def measure_ranks(thorns, folder, out, runs):
    """What a core multiplies out: processor time of folds of growing rank, above that of the lowest."""
    place = os.path.join(folder, "fold")
    elements = sum(math.prod(shape) for name, shape in shapes(RANKED_LAYERS) if "_proj" in name)
    print(f"a LoRA over {RANKED_LAYERS} of {FOLD_LAYERS} layers ({elements / 1e6:.0f} million elements); {runs} runs, "
          "medians\n\n| rank | seconds | processor seconds | elements times rank per core and second |\n|---|---|---|---|")
    least = None
    for rank in RANKS:
        name = f"Rank{rank}"
        if not os.path.exists(os.path.join(place, name, "adapter_config.json")):
            write_adapter(os.path.join(place, name), RANKED_LAYERS, rank, rank)
        seconds, processor = [], []
        for _ in range(runs):
            remove(out)
            took, usage = run_counted([thorns, "merge", f"{{Base[{name}]}}", "--path", place, "-o", out, "--quiet"])
            seconds.append(took)
            processor.append(usage.ru_utime)
        user = statistics.median(processor)
        least = least or (rank, user)
        rate = f"{elements * (rank - least[0]) / (user - least[1]):.2g}" if rank > least[0] else ""
        print(f"| {rank} | {statistics.median(seconds):.2f} | {user:.2f} | {rate} |")
    remove(out)


def machine():
    model = platform.processor() or "unknown CPU"
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GB of memory"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--thorns", default="build/thorns")
    parser.add_argument("--dir", default="bench/out")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", default="cold,warm,depth,numpy,fold")  # and ranks
    parser.add_argument("--make", action="store_true", help="only make the inputs")
    options = parser.parse_args()
    wanted = options.only.split(",")
    folder = os.path.abspath(options.dir)
    os.makedirs(folder, exist_ok=True)
    if options.make:
        if set(wanted) - {"fold", "ranks"}:
            make_inputs(folder)
        if "fold" in wanted or "ranks" in wanted:
            make_fold_inputs(folder)
        return
    # In a process of its own: a child's peak memory counts what its parent held when it was started.
    subprocess.run([sys.executable, __file__, "--make", "--dir", folder, "--only", options.only], check=True)
    leaves = [os.path.join(folder, "models", model, "model.safetensors") for model in MODELS]
    disk_out, disk_copy = os.path.join(folder, "merged"), os.path.join(folder, "copy")
    ram_out, ram_copy = "/dev/shm/thorns-bench-merged", "/dev/shm/thorns-bench-copy"
    quoted = " ".join(f"'{leaf}'" for leaf in leaves)

    def merge(key, out):
        return [options.thorns, "merge", key, "--path", os.path.join(folder, "models"), "--path",
                os.path.join(folder, "adapters"), "-o", out, "--quiet"]

    def clean():
        for path in (disk_out, disk_copy, ram_out, ram_copy):
            remove(path)

    def cold():
        clean()
        forget(folder)

    def warm():
        clean()
        run(f"cat {quoted} > /dev/null")

    if "ranks" in wanted:
        print(machine())
        measure_ranks(options.thorns, folder, ram_out, options.runs)
        wanted.remove("ranks")
        if not wanted:
            return
    rows, peaks = [], []
    if "cold" in wanted:
        row = Row(options.runs, cold, merge(KEY, disk_out),
                  f"cat {quoted} > /dev/null && cp '{leaves[0]}' '{disk_copy}'")
        rows.append(row.text("published key, disk, cold, against `cat` of the leaves + `cp` of one", "1.10"))
        peaks.append(row.peak)
        row = Row(options.runs, cold, merge(KEY, disk_out),
                  f"cat {quoted} > /dev/null && cp '{leaves[0]}' '{disk_copy}' && sync '{disk_copy}'")
        rows.append(row.text("the same, the copy flushed to the disk as thorns flushes its output", ""))
    if "warm" in wanted:
        row = Row(options.runs, warm, merge(KEY, ram_out),
                  f"cat {quoted} > /dev/null && cp '{leaves[0]}' '{ram_copy}'")
        rows.append(row.text("published key, page cache to tmpfs, against `cat` + `cp`", "1.5"))
        peaks.append(row.peak)
    if "depth" in wanted:
        row = Row(options.runs, warm, merge(CHAIN, ram_out), merge(FLAT, ram_out))
        rows.append(row.text("five leaves as a chain of 4 slerps, against a flat linear", "0.9 to 1.1"))
    if "numpy" in wanted:
        script = [sys.executable, "-c", NUMPY_SLERP, leaves[0], leaves[1], ram_copy]
        row = Row(options.runs, warm, merge("{NousHermes+Chronos}", ram_out), script)
        faster = statistics.median(row.second) / statistics.median(row.first)
        rows.append(row.text("two-leaf slerp, against numpy float32", f"1/20 (here {faster:.1f} times faster)"))
    if "fold" in wanted:
        base = os.path.join(folder, "fold", "Base", "model.safetensors")
        update = os.path.join(folder, "fold", "Update", "adapter_model.safetensors")
        fold = [options.thorns, "merge", "{Base[Update]}", "--path", os.path.join(folder, "fold"), "-o", ram_out,
                "--quiet"]

        def warm_fold():
            clean()
            run(f"cat '{base}' '{update}' > /dev/null")

        row = Row(options.runs, warm_fold, fold, [sys.executable, "-c", NUMPY_FOLD, base, update, ram_copy, "2"])
        faster = statistics.median(row.second) / statistics.median(row.first)
        rows.append(row.text("one LoRA folded into 1 GB of bfloat16, page cache to tmpfs, against numpy float32",
                             f"1/5 (here {faster:.1f} times faster)"))
        row = Row(options.runs, warm_fold, fold, f"cp '{base}' '{ram_copy}'")
        rows.append(row.text("the same, against `cp` of the model", "1.3"))
    clean()
    inputs = "a model of 1 GB (bfloat16) and a LoRA"
    if set(wanted) - {"fold"}:
        inputs = f"five leaves of {os.path.getsize(leaves[0]) / 1e6:.0f} MB (float16) and three LoRAs"
    print(f"{machine()}; {inputs} of rank {RANK}; {options.runs} runs in turn, median (least-largest)")
    if "cold" in wanted:
        print(f"cold: {forget(folder)}")
    print("\n| work | thorns | other | ratio | bar |\n|---|---|---|---|---|")
    print("\n".join(rows))
    if peaks:
        print(f"| peak resident memory of the published key | {max(peaks) / 1e6:.0f} MB | | | {MEMORY / 1e6:.0f} MB |")


if __name__ == "__main__":
    main()
