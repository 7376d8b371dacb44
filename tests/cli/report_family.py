"""Manifests of merges that never were, for the tests of `thorns report`."""

import json
import math
import os
import random

MODELS = ["NousHermes", "Chronos", "Platypus", "AiroborosM2.0", "Holodeck"]
ADAPTERS = ["Kimiko", "Janine", "LIMA RP"]
MODULES = {
    "self_attn.q_proj.weight": [5120, 5120],
    "self_attn.k_proj.weight": [5120, 5120],
    "self_attn.v_proj.weight": [5120, 5120],
    "self_attn.o_proj.weight": [5120, 5120],
    "mlp.gate_proj.weight": [13824, 5120],
    "mlp.up_proj.weight": [13824, 5120],
    "mlp.down_proj.weight": [5120, 13824],
    "input_layernorm.weight": [5120],
    "post_attention_layernorm.weight": [5120],
}


def shapes(layers):
    found = {
        "lm_head.weight": [32000, 5120],
        "model.embed_tokens.weight": [32000, 5120],
        "model.norm.weight": [5120],
    }
    for layer in range(layers):
        for module, shape in MODULES.items():
            found["model.layers.%d.%s" % (layer, module)] = shape
    return found


def published_manifest(layers=40, models=MODELS, adapters=ADAPTERS, shapes_of=shapes):
    """A manifest of the published key: ({({0+1}[0])+({2+3}[1])}{4[2]}), with numbers of its kind."""
    draw = random.Random(1)
    keys = list(models)
    blends = [
        "{%s+%s}" % (models[0], models[1]),
        "{%s+%s}" % (models[2], models[3]),
    ]
    folds = [
        "%s[%s]" % (blends[0], adapters[0]),
        "%s[%s]" % (blends[1], adapters[1]),
        "%s[%s]" % (models[4], adapters[2]),
    ]
    logic = "{%s+%s}" % (folds[0], folds[1])
    root = "{%s+%s}" % (logic, folds[2])

    def blend(key, left, right):
        return {
            "key": key,
            "name": None,
            "kind": "blend",
            "method": "slerp",
            "models": [left, right],
            "weights": [1, 1],
            "settings": [],
        }

    def fold(key, model, adapter):
        return {
            "key": key,
            "name": None,
            "kind": "fold",
            "model": model,
            "adapter": adapter,
            "weight": 1,
        }

    nodes = [{"key": key, "name": None, "kind": "leaf", "leaf": i} for i, key in enumerate(keys)]
    nodes += [
        blend(blends[0], 0, 1),  # 5
        blend(blends[1], 2, 3),
        fold(folds[0], 5, 0),  # 7
        fold(folds[1], 6, 1),
        fold(folds[2], 4, 2),
        blend(logic, 7, 8),  # 10
        blend(root, 10, 9),
    ]
    tensors = []
    for name, shape in shapes_of(layers).items():
        is_matrix = len(shape) > 1
        angles = [math.radians(draw.uniform(15, 45) if is_matrix else draw.uniform(0.5, 3)) for _ in "1234"]
        norm = math.sqrt(math.prod(shape)) / 50
        sources = []
        for i, label in enumerate(list(models) + list(adapters)):
            is_model = i < len(models)
            sources.append(
                {
                    "label": label,
                    "dtype": "BF16" if is_model else "F32",
                    "coefficient": draw.uniform(0.1, 0.6),
                    "norm": norm * draw.uniform(0.95, 1.05) * (1 if is_model else 0.2),
                    "distance": norm * draw.uniform(0.1, 0.3) if is_model else None,
                }
            )
        tensors.append(
            {
                "name": name,
                "kind": "blend",
                "dtype": "F16",
                "shape": shape,
                "file": "model.safetensors",
                "norm": norm,
                "rounded": math.prod(shape) - 1,
                "clipped": 0,
                "nonfinite": 0,
                "sources": sources,
                "nodes": [
                    {
                        "node": key,
                        "coefficients": [0.5 / math.cos(angle / 2)] * 2,
                        "angle": angle,
                        "fell_back": math.cos(angle) > 0.9995,
                    }
                    for key, angle in zip([*blends, logic, root], angles)
                ],
                "extra_step": {
                    "sampled": min(4096, math.prod(shape)),
                    "changed": min(draw.randrange(800, 1400), math.prod(shape)),
                },
            }
        )
    file = {"name": "model.safetensors", "size": 26000000000, "sha256": "0" * 64}
    return {
        "schema": "thorns/manifest/1",
        "program": {"name": "thorns", "version": "0.1.0"},
        "recipe": {
            "published": root,
            "key": root,
            "settings": {
                "name": None,
                "dtype": None,
                "shard_size": None,
                "tokenizer": None,
                "vocabulary": None,
                "prompt": None,
                "license": None,
            },
            "root": len(nodes) - 1,
            "nodes": nodes,
        },
        "leaves": [
            {"name": m, "where": m, "architecture": "LlamaForCausalLM", "files": [file]} for m in models
        ],
        "adapters": [
            {"name": a, "where": a, "family": "LoRA", "base_model": None, "files": []} for a in adapters
        ],
        "output": {"dtype": "float16", "tied": False, "tokenizer": None, "bytes": 26031738880},
        "dropped": [{"tensor": "inv_freq", "leaf": models[0], "reason": "computed on loading"}],
        "warnings": ["363 tensors of `%s` are BF16, the output's F16" % models[3]],
        "tensors": tensors,
        "files": [file],
    }


def write_folder(folder, manifest):
    os.makedirs(folder)
    with open(os.path.join(folder, "thorns.json"), "w") as file:
        json.dump(manifest, file)
