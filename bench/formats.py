#!/usr/bin/env python3
"""Measures what a leaf's format costs: one merge of two models that lie in the page cache, to tmpfs, in each
format against the same numbers of elements as bfloat16 safetensors, and prints ratios as a Markdown table.

    python3 bench/formats.py [--thorns build/thorns] [--dir bench/out/formats] [--runs 7] [--layers 5]

Needs numpy, 6 GB of disk below --dir and of memory for the page cache, and 1 GB of /dev/shm. The two commands of a row run in turn, A B A B ...;
the figure is the median of the ratios of the pairs.
"""
import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys

import numpy as np

from run import machine, random_tensor, remove, run_counted, shapes

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "demo"))
from dress_family import write_gguf, write_old_torch, write_safetensors, write_torch  # noqa: E402

MEMORY = 512_000_000


def halves(seed, name, shape):
    """The bytes of bfloat16."""
    return (random_tensor(seed, name, shape, 0.02).view(np.uint32) >> 16).astype(np.uint16).tobytes()


def as_fp8(seed, tensors):
    source = np.random.default_rng(seed)
    for name, dtype, shape, data in tensors:
        if "_proj" not in name:
            yield name, dtype, shape, data
            continue
        codes = source.integers(0, 0x60, shape, dtype=np.uint8) | source.integers(0, 2, shape, dtype=np.uint8) << 7
        grid = (-(-shape[0] // 128), -(-shape[1] // 128))
        scales = source.uniform(0.001, 0.002, grid).astype(np.float32)
        yield name, "F8_E4M3", shape, codes.tobytes()
        yield name + "_scale_inv", "F32", grid, scales.tobytes()


def as_gguf(seed, tensors):
    source = np.random.default_rng(seed)
    for name, _, shape, _ in tensors:
        if len(shape) == 1:
            yield name, "F32", shape, random_tensor(seed, name, shape, 0.02).tobytes()
            continue
        blocks = np.empty((math.prod(shape) // 32, 34), dtype=np.uint8)
        blocks[:, :2] = np.float16(0.0003).reshape(1).view(np.uint8)
        blocks[:, 2:] = source.integers(0, 256, (len(blocks), 32), dtype=np.uint8)
        yield name, "Q8_0", shape, blocks.tobytes()


def make(folder, layers):
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 2048,
              "intermediate_size": 5632, "num_hidden_layers": layers, "num_attention_heads": 16,
              "max_position_embeddings": 2048, "torch_dtype": "bfloat16", "tie_word_embeddings": False}
    for seed, model in enumerate("AB"):
        if os.path.exists(os.path.join(folder, "gguf", model, "config.json")):  # the last that is written
            continue
        print(f"making {model} ...", file=sys.stderr)
        tensors = [(name, "BF16", shape, halves(seed, name, shape)) for name, shape in shapes(layers)]
        for kind in ("safetensors", "bin", "legacy", "fp8", "gguf"):
            path = os.path.join(folder, kind, model)
            shutil.rmtree(path, ignore_errors=True)
            os.makedirs(path)
            settings = {}
            if kind == "safetensors":
                write_safetensors(os.path.join(path, "model.safetensors"), tensors)
            elif kind == "bin":
                write_torch(os.path.join(path, "pytorch_model.bin"), tensors)
            elif kind == "legacy":
                write_old_torch(os.path.join(path, "pytorch_model.bin"), tensors)
            elif kind == "fp8":
                write_safetensors(os.path.join(path, "model.safetensors"), list(as_fp8(seed, tensors)))
                settings = {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}
            else:
                write_gguf(os.path.join(path, "model.gguf"), config, list(as_gguf(seed, tensors)))
            with open(os.path.join(path, "config.json"), "w", encoding="utf-8") as file:
                json.dump(config | settings, file)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--thorns", default="build/thorns")
    parser.add_argument("--dir", default="bench/out/formats")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--layers", type=int, default=5)
    parser.add_argument("--only", default="bin,legacy,fp8,gguf")
    parser.add_argument("--make", action="store_true", help="only make the inputs")
    options = parser.parse_args()
    folder = os.path.abspath(options.dir)
    if options.make:
        return make(folder, options.layers)
    # In a process of its own: a child's peak memory counts what its parent held when it was started.
    subprocess.run([sys.executable, __file__, "--make", "--dir", folder, "--layers", str(options.layers)], check=True)
    out = "/dev/shm/thorns-bench-formats"

    def merge(kind):
        """Seconds, processor seconds, peak bytes."""
        remove(out)
        seconds, usage = run_counted([options.thorns, "merge", "{A+B}", "--path", os.path.join(folder, kind), "-o",
                                      out, "--quiet", "--memory", str(MEMORY)])
        return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024

    elements = sum(math.prod(shape) for _, shape in shapes(options.layers))
    print(f"{machine()}; two models of {elements / 1e6:.0f} million elements; {options.runs} pairs; load "
          f"{os.getloadavg()[0]:.1f}\n\n| leaves | seconds | bfloat16 safetensors | ratio | bar | of processor seconds "
          f"| peak memory, of {MEMORY / 1e6:.0f} MB |\n|---|---|---|---|---|---|---|")
    for kind, what, bar in (("bin", "PyTorch's zip archive", "1.1"), ("legacy", "PyTorch before 1.6", "1.1"),
                            ("fp8", "FP8 in blocks of 128 x 128", "1.2"), ("gguf", "GGUF Q8_0", "")):
        if kind not in options.only.split(","):
            continue
        pairs = [(merge(kind), merge("safetensors")) for _ in range(options.runs + 1)][1:]  # the first fills the cache
        ratio = lambda i: [one[i] / other[i] for one, other in pairs]
        print(f"| {what} | {statistics.median(one[0] for one, _ in pairs):.2f} | "
              f"{statistics.median(other[0] for _, other in pairs):.2f} | {statistics.median(ratio(0)):.2f} "
              f"({min(ratio(0)):.2f}-{max(ratio(0)):.2f}) | {bar} | {statistics.median(ratio(1)):.2f} | "
              f"{max(one[2] for one, _ in pairs) / 1e6:.0f} MB |", flush=True)
    remove(out)


if __name__ == "__main__":
    main()
