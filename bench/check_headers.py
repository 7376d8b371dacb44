#!/usr/bin/env python3
"""How long `thorns check --headers` takes over the published key with headers of 13B size.

    python3 bench/check_headers.py [PROGRAM]        # default: build/thorns

Five models and three adapters as sparse files: every header is real, the numbers are holes that take no
space. Python's standard library only.
"""
import json
import os
import resource
import statistics
import struct
import subprocess
import sys
import tempfile
import time

KEY = "({({NousHermes+Chronos}[Kimiko])+({Platypus+AiroborosM2.0}[Janine])}{Holodeck[LIMA RP]})"
MODELS = ["NousHermes", "Chronos", "Platypus", "AiroborosM2.0", "Holodeck"]
# Of ranks of their own: of two whose headers are alike check would compare the numbers, too.
ADAPTERS = {"Kimiko": ("NousHermes", 8), "Janine": ("Platypus", 16), "LIMA-RP": ("Holodeck", 32)}
HIDDEN, INTERMEDIATE, LAYERS, VOCABULARY, SHARDS = 5120, 13824, 40, 32000, 3
RUNS = 5


def model_shapes():
    shapes = {"model.embed_tokens.weight": [VOCABULARY, HIDDEN]}
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            shapes[f"{prefix}self_attn.{name}.weight"] = [HIDDEN, HIDDEN]
        for name in ("gate_proj", "up_proj"):
            shapes[f"{prefix}mlp.{name}.weight"] = [INTERMEDIATE, HIDDEN]
        shapes[f"{prefix}mlp.down_proj.weight"] = [HIDDEN, INTERMEDIATE]
        for name in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"{prefix}{name}.weight"] = [HIDDEN]
    shapes["model.norm.weight"] = [HIDDEN]
    shapes["lm_head.weight"] = [VOCABULARY, HIDDEN]
    return shapes


def adapter_shapes(rank):
    shapes = {}
    for name, shape in model_shapes().items():
        if "_proj" in name:
            module = "base_model.model." + name.removesuffix(".weight")
            shapes[module + ".lora_A.weight"] = [rank, shape[1]]
            shapes[module + ".lora_B.weight"] = [shape[0], rank]
    return shapes


def write_sparse(path, shapes):
    header, at = {}, 0
    for name, shape in shapes.items():
        size = 2
        for dimension in shape:
            size *= dimension
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + at)
    return at


def write_json(path, content):
    with open(path, "w") as file:
        json.dump(content, file)


def write_model(folder):
    os.makedirs(folder)
    names = list(model_shapes())
    index, size = {}, 0
    for shard in range(SHARDS):
        file = f"model-{shard + 1:05}-of-{SHARDS:05}.safetensors"
        part = names[shard * len(names) // SHARDS : (shard + 1) * len(names) // SHARDS]
        size += write_sparse(os.path.join(folder, file), {name: model_shapes()[name] for name in part})
        index.update({name: file for name in part})
    write_json(os.path.join(folder, "model.safetensors.index.json"),
               {"metadata": {"total_size": size}, "weight_map": index})
    write_json(os.path.join(folder, "config.json"),
               {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": HIDDEN,
                "num_hidden_layers": LAYERS, "num_attention_heads": 40, "vocab_size": VOCABULARY})
    vocabulary = {f"token {i}": i for i in range(VOCABULARY)}
    write_json(os.path.join(folder, "tokenizer.json"), {"model": {"vocab": vocabulary}})
    return size


def write_adapter(folder, base, rank):
    os.makedirs(folder)
    write_sparse(os.path.join(folder, "adapter_model.safetensors"), adapter_shapes(rank))
    write_json(os.path.join(folder, "adapter_config.json"),
               {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "base_model_name_or_path": base,
                "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]})


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    program = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else os.path.join(here, "..", "build", "thorns"))
    with tempfile.TemporaryDirectory() as folder:
        size = sum(write_model(os.path.join(folder, "models", name)) for name in MODELS)
        for name, (base, rank) in ADAPTERS.items():
            write_adapter(os.path.join(folder, "adapters", name), base, rank)
        seconds = []
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        for _ in range(RUNS):
            begin = time.monotonic()
            done = subprocess.run([program, "check", KEY, "--path", "models", "--path", "adapters", "--headers",
                                   "--json"], cwd=folder, check=True, stdout=subprocess.PIPE)
            seconds.append(time.monotonic() - begin)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        answer = json.loads(done.stdout)
    used = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / RUNS
    print(f"{size / 1e9:.0f} GB of models, {answer['tensors']} tensors: {len(answer['findings'])} findings from "
          f"headers in {statistics.median(seconds):.2f} s ({min(seconds):.2f}-{max(seconds):.2f}, {RUNS} runs), "
          f"{used:.2f} s of it computing")


if __name__ == "__main__":
    main()
