#!/usr/bin/env python3
"""Writes the demo family: five small fine-tunes of one LLaMA-shaped base and three LoRA adapters.

    python3 demo/make_family.py [FOLDER]        # default: the folder of this script

Python's standard library only, a few seconds, and the same bytes every time. The models are real in
everything but training: transformers loads them, and what thorns does to them it does to any LLaMA.
"""
import array
import json
import os
import random
import struct
import sys

HIDDEN, INTERMEDIATE, LAYERS, HEADS, VOCABULARY = 64, 176, 4, 4, 512

# name, how far its fine-tuning went, type of its weights, number of shards
MODELS = [
    ("NousHermes", 0.35, "F16", 2),
    ("Chronos", 0.45, "F16", 1),
    ("Platypus", 0.30, "F16", 1),
    ("AiroborosM2.0", 0.12, "BF16", 1),
    ("Holodeck", 0.80, "F16", 1),
]
# name, folder, base, rank, alpha, other fields of its configuration
ADAPTERS = [
    ("Kimiko", "Kimiko", "NousHermes", 8, 16, {}),
    ("Janine", "Janine", "Platypus", 4, 8, {"use_rslora": True}),
    ("LIMA RP", "LIMA-RP", "Holodeck", 8, 16, {"alpha_pattern": {"down_proj": 32}}),
]


class Normal:
    """Normally distributed numbers, cheaply: a long fixed table walked with a step of its own."""

    _table = None

    def __init__(self, seed):
        if Normal._table is None:
            source = random.Random(13)
            Normal._table = [source.gauss(0.0, 1.0) for _ in range(1 << 16)]
        source = random.Random(seed)
        self._at = source.randrange(1 << 16)
        self._step = source.randrange(1 << 15) * 2 + 1

    def list(self, count, scale):
        table, at, step, mask = Normal._table, self._at, self._step, (1 << 16) - 1
        values = [table[(at + i * step) & mask] * scale for i in range(count)]
        self._at = (at + count * step) & mask
        return values


def shapes():
    """Every tensor of the model with its shape, in the order of the module tree."""
    yield "model.embed_tokens.weight", (VOCABULARY, HIDDEN)
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            yield f"{prefix}self_attn.{name}.weight", (HIDDEN, HIDDEN)
        yield prefix + "mlp.gate_proj.weight", (INTERMEDIATE, HIDDEN)
        yield prefix + "mlp.up_proj.weight", (INTERMEDIATE, HIDDEN)
        yield prefix + "mlp.down_proj.weight", (HIDDEN, INTERMEDIATE)
        yield prefix + "input_layernorm.weight", (HIDDEN,)
        yield prefix + "post_attention_layernorm.weight", (HIDDEN,)
    yield "model.norm.weight", (HIDDEN,)
    yield "lm_head.weight", (VOCABULARY, HIDDEN)


def pack(values, dtype):
    if dtype == "F32":
        return array.array("f", values).tobytes()
    if dtype == "F16":
        return struct.pack(f"<{len(values)}e", *values)
    words = array.array("I", array.array("f", values).tobytes())
    return array.array("H", [(w + 0x7FFF + ((w >> 16) & 1)) >> 16 & 0xFFFF for w in words]).tobytes()


def write_safetensors(path, tensors):
    """tensors: name -> (dtype, shape, bytes)"""
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name in sorted(tensors):
        dtype, shape, data = tensors[name]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in sorted(tensors):
            file.write(tensors[name][2])


def write_json(path, value):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=2)
        file.write("\n")


def write_tokenizer(folder):
    """One token a byte, then filler up to the vocabulary's size: enough to load and to run."""
    shown = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or 174 <= b <= 255]
    others = [b for b in range(256) if b not in shown]
    letters = {b: chr(b) for b in shown} | {b: chr(256 + i) for i, b in enumerate(others)}
    vocabulary = {"<s>": 0, "</s>": 1, "<unk>": 2}
    for byte in range(256):
        vocabulary[letters[byte]] = len(vocabulary)
    while len(vocabulary) < VOCABULARY:
        vocabulary[f"<filler{len(vocabulary)}>"] = len(vocabulary)
    special = [
        {"id": i, "content": text, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": True}
        for i, text in enumerate(("<s>", "</s>", "<unk>"))
    ]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    write_json(os.path.join(folder, "tokenizer.json"), {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": special,
        "normalizer": None, "pre_tokenizer": byte_level, "post_processor": None, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
                  "vocab": vocabulary, "merges": []},
    })
    write_json(os.path.join(folder, "tokenizer_config.json"), {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>",
        "unk_token": "<unk>", "model_max_length": 256,
    })


def write_model(folder, base, seed, change, dtype, shards):
    os.makedirs(folder, exist_ok=True)
    normal = Normal(seed)
    tensors = {}
    for name, shape in shapes():
        count = shape[0] * (shape[1] if len(shape) == 2 else 1)
        scale = 0.02 if len(shape) == 2 else 0.05
        values = [b + d for b, d in zip(base[name], normal.list(count, scale * change))]
        tensors[name] = (dtype, shape, pack(values, dtype))
    names = list(tensors)
    if shards == 1:
        write_safetensors(os.path.join(folder, "model.safetensors"), tensors)
    else:
        weight_map = {}
        for number in range(shards):
            part = names[number * len(names) // shards:(number + 1) * len(names) // shards]
            file = f"model-{number + 1:05}-of-{shards:05}.safetensors"
            write_safetensors(os.path.join(folder, file), {name: tensors[name] for name in part})
            weight_map |= {name: file for name in part}
        write_json(os.path.join(folder, "model.safetensors.index.json"), {
            "metadata": {"total_size": sum(len(data) for _, _, data in tensors.values())},
            "weight_map": dict(sorted(weight_map.items())),
        })
    write_json(os.path.join(folder, "config.json"), {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS, "hidden_act": "silu", "max_position_embeddings": 256,
        "initializer_range": 0.02, "rms_norm_eps": 1e-05, "vocab_size": VOCABULARY,
        "tie_word_embeddings": False, "use_cache": True, "bos_token_id": 0, "eos_token_id": 1,
        "torch_dtype": "float16" if dtype == "F16" else "bfloat16",
    })
    write_json(os.path.join(folder, "generation_config.json"),
               {"bos_token_id": 0, "eos_token_id": 1, "do_sample": False})
    with open(os.path.join(folder, "README.md"), "w", encoding="utf-8") as file:
        file.write("---\nlicense: cc0-1.0\n---\n\nA made-up model of the thorns demo. It has learned nothing.\n")
    write_tokenizer(folder)


def write_adapter(folder, seed, base, rank, alpha, fields):
    os.makedirs(folder, exist_ok=True)
    normal = Normal(seed)
    modules = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    tensors = {}
    for name, shape in shapes():
        module = name.removesuffix(".weight")
        if module.rsplit(".", 1)[-1] not in modules:
            continue
        rows, columns = shape
        key = "base_model.model." + module
        tensors[key + ".lora_A.weight"] = ("F32", (rank, columns), pack(normal.list(rank * columns, 0.08), "F32"))
        tensors[key + ".lora_B.weight"] = ("F32", (rows, rank), pack(normal.list(rows * rank, 0.01), "F32"))
    write_safetensors(os.path.join(folder, "adapter_model.safetensors"), tensors)
    config = {
        "alpha_pattern": {}, "auto_mapping": None, "base_model_name_or_path": base, "bias": "none",
        "fan_in_fan_out": False, "inference_mode": True, "init_lora_weights": True, "lora_alpha": alpha,
        "lora_dropout": 0.05, "modules_to_save": None, "peft_type": "LORA", "r": rank, "rank_pattern": {},
        "target_modules": sorted(modules), "task_type": "CAUSAL_LM", "use_dora": False, "use_rslora": False,
    }
    write_json(os.path.join(folder, "adapter_config.json"), config | fields)


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))
    normal = Normal(1)
    base = {}
    for name, shape in shapes():
        if len(shape) == 2:
            base[name] = normal.list(shape[0] * shape[1], 0.02)
        else:
            base[name] = [1.0 + value for value in normal.list(shape[0], 0.05)]
    for number, (name, change, dtype, shards) in enumerate(MODELS):
        write_model(os.path.join(root, "models", name), base, 100 + number, change, dtype, shards)
    for number, (name, folder, model, rank, alpha, fields) in enumerate(ADAPTERS):
        write_adapter(os.path.join(root, "adapters", folder), 200 + number, model, rank, alpha, fields)
    print(f"{len(MODELS)} models in {os.path.join(root, 'models')}, "
          f"{len(ADAPTERS)} adapters in {os.path.join(root, 'adapters')}")


if __name__ == "__main__":
    main()
