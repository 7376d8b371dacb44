#!/usr/bin/env python3
"""Loads what `make demo` wrote in transformers, and checks every number of it.

    python3 demo/check_with_transformers.py

Needs torch, transformers and safetensors. The reference is the key worked out step by step in float64,
adapters as PEFT defines them: W + alpha / r * B A, or alpha / sqrt(r) for rsLoRA.
"""
import json
import math
import os
import sys

import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

DEMO = os.path.dirname(os.path.abspath(__file__))
OUTPUT = os.path.join(DEMO, "out", "13B-Thorns")


def load(folder):
    tensors = {}
    for file in sorted(os.listdir(folder)):
        if file.endswith(".safetensors"):
            with safe_open(os.path.join(folder, file), "pt") as opened:
                for name in opened.keys():
                    tensors[name] = opened.get_tensor(name)
    return tensors


def model(name):
    return {key: value.double() for key, value in load(os.path.join(DEMO, "models", name)).items()}


def fold(tensors, adapter):
    folder = os.path.join(DEMO, "adapters", adapter)
    with open(os.path.join(folder, "adapter_config.json"), encoding="utf-8") as file:
        config = json.load(file)
    factors = load(folder)
    for key in [key for key in factors if ".lora_A." in key]:
        module = key.removeprefix("base_model.model.").split(".lora_A.")[0]
        a, b = factors[key].double(), factors[key.replace(".lora_A.", ".lora_B.")].double()
        alpha = next((value for pattern, value in config["alpha_pattern"].items()
                      if module == pattern or module.endswith("." + pattern)), config["lora_alpha"])
        scale = alpha / (math.sqrt(a.shape[0]) if config["use_rslora"] else a.shape[0])
        tensors[module + ".weight"] = tensors[module + ".weight"] + scale * b @ a
    return tensors


def slerp(left, right, t=0.5):
    result = {}
    for name, a in left.items():
        b = right[name]
        cosine = (a * b).sum() / (a.norm() * b.norm())
        if abs(cosine) > 0.9995:
            result[name] = (1 - t) * a + t * b
        else:
            angle = torch.acos(cosine)
            result[name] = (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle)
    return result


def main():
    loaded, report = AutoModelForCausalLM.from_pretrained(OUTPUT, output_loading_info=True, dtype="auto")
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if report[kind]:
            sys.exit(f"transformers reports {kind}: {report[kind]}")
    tokenizer = AutoTokenizer.from_pretrained(OUTPUT)
    loaded.generate(**tokenizer("A rose", return_tensors="pt"), max_new_tokens=4)
    print(f"transformers: {type(loaded).__name__} of {loaded.num_parameters()} parameters, "
          "no key missing or unexpected; it runs")

    left = fold(slerp(model("NousHermes"), model("Chronos")), "Kimiko")
    right = fold(slerp(model("Platypus"), model("AiroborosM2.0")), "Janine")
    expected = slerp(slerp(left, right), fold(model("Holodeck"), "LIMA-RP"))
    result = load(OUTPUT)
    if result.keys() != expected.keys():
        sys.exit(f"tensors differ: {sorted(result.keys() ^ expected.keys())}")
    elements = correct = 0
    for name, stored in result.items():
        exact = expected[name]
        nearest = exact.to(stored.dtype)
        elements += stored.numel()
        correct += int((stored == nearest).sum())
        slack = 2.0**-22 * float(exact.abs().max())
        half_unit = (torch.nextafter(nearest.abs(), torch.full_like(nearest, math.inf)).double()
                     - nearest.abs().double()) / 2
        if not bool(((stored.double() - exact).abs() <= half_unit + slack).all()):
            sys.exit(f"{name} is further from the exact value than half a unit in the last place")
    print(f"numbers: {correct} of {elements} elements are the exact value correctly rounded, "
          "the others within half a unit in the last place + 2^-22 of the largest")
    if correct < 0.999 * elements:
        sys.exit("fewer than 99.9 % are")


if __name__ == "__main__":
    main()
