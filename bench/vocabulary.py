#!/usr/bin/env python3
"""How long a plan takes that matches the tokens of five models with vocabularies of LLaMA's size.

    python3 bench/vocabulary.py [--thorns build/thorns] [--runs 5]

Every model has 32000 words, the last thousand of them in an order of its own, and 16 tokens that were
added to it. Two figures: with tokenizers that differ, and with one tokenizer five times.
"""
import argparse
import json
import os
import random
import statistics
import struct
import subprocess
import tempfile
import time

MODELS = "ABCDE"
WORDS, OWN, HIDDEN = 32000, 16, 4096


def write_model(folder, words, added):
    os.makedirs(folder)
    rows = len(words) + len(added)
    size = rows * HIDDEN * 2
    header = {name: {"dtype": "F16", "shape": [rows, HIDDEN], "data_offsets": [i * size, (i + 1) * size]}
              for i, name in enumerate(("lm_head.weight", "model.embed_tokens.weight"))}
    text = json.dumps(header).encode()
    with open(os.path.join(folder, "model.safetensors"), "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + 2 * size)  # holes: a plan reads headers alone
    with open(os.path.join(folder, "config.json"), "w") as file:
        json.dump({"model_type": "llama", "tie_word_embeddings": False}, file)
    vocabulary = {word: row for row, word in enumerate(words)}
    merges = [f"{word[:-1]} {word[-1]}" for word in words if len(word) > 1]
    tokens = [{"id": len(words) + i, "content": token, "special": True} for i, token in enumerate(added)]
    with open(os.path.join(folder, "tokenizer.json"), "w") as file:
        json.dump({"added_tokens": tokens, "model": {"type": "BPE", "vocab": vocabulary, "merges": merges}},
                  file, indent=1)


def measure(thorns, folder, runs):
    command = [thorns, "plan", "{A+B+C+D+E; linear}", "--path", folder, "--json"]
    seconds = []
    for _ in range(runs + 1):  # the first fills the page cache
        begin = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds[1:]), min(seconds[1:]), max(seconds[1:])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--thorns", default="build/thorns")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    chance = random.Random(1)
    words = [f"\u2581w{i:x}" for i in range(WORDS)]
    print(f"| plan of five models, {WORDS} words each | seconds (least to largest) |\n|---|---|")
    for title, differ in (("tokenizers that differ", True), ("one tokenizer", False)):
        with tempfile.TemporaryDirectory() as folder:
            for name in MODELS:
                tail = words[-1000:]
                if differ:
                    chance.shuffle(tail)
                added = [f"<|{name if differ else ''}{i}|>" for i in range(OWN)]
                write_model(os.path.join(folder, name), words[:-1000] + tail, added)
            median, least, most = measure(options.thorns, folder, options.runs)
            print(f"| {title} | {median:.2f} ({least:.2f} to {most:.2f}) |")


if __name__ == "__main__":
    main()
