#!/usr/bin/env python3
"""Writes the demo family again, as one finds such models on the Hub: in five formats.

    python3 demo/dress_family.py [FOLDER]        # default: the folder of this script; after make_family.py

NousHermes becomes PyTorch shards, Chronos a file of PyTorch before 1.6, Platypus gets three more tokens,
AiroborosM2.0 is rounded to FP8 with scales for blocks, Holodeck to GGUF Q8_0. Standard library only.
"""
import collections
import io
import json
import math
import os
import pickle
import shutil
import struct
import sys
import types
import zipfile

STORAGES = {"F16": "HalfStorage", "BF16": "BFloat16Storage"}
BLOCK = 128
MORE_TOKENS = 3
GGUF_NAMES = {"lm_head": "output", "model.embed_tokens": "token_embd", "model.norm": "output_norm",
              "model.layers.": "blk.", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
              "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
              "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
              "mlp.down_proj": "ffn_down"}
GGUF_TYPES = {"F32": 0, "F16": 1, "Q8_0": 8}


# ---------------------------------------------------------------- writers; tensors: (name, dtype, shape, bytes)


class Storage:
    def __init__(self, reference):
        self.reference = reference


class Tensor:
    def __init__(self, rebuild, arguments):
        self.rebuild, self.arguments = rebuild, arguments

    def __reduce__(self):
        return self.rebuild, self.arguments


class Pickler(pickle.Pickler):
    def persistent_id(self, value):
        return value.reference if isinstance(value, Storage) else None


def pickled(tensors, legacy):
    """The pickle of a state dict. PyTorch itself is not needed, only its names: they are lent for a moment."""
    rebuild = types.FunctionType((lambda *arguments: None).__code__, {}, "_rebuild_tensor_v2")
    rebuild.__module__, rebuild.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    utils._rebuild_tensor_v2 = rebuild
    for name in STORAGES.values():
        setattr(torch, name, type(name, (), {"__module__": "torch"}))
    state = {}
    for number, (name, dtype, shape, _) in enumerate(tensors):
        reference = ("storage", getattr(torch, STORAGES[dtype]), str(number), "cpu", math.prod(shape))
        strides = tuple(math.prod(shape[i + 1:]) for i in range(len(shape)))
        state[name] = Tensor(rebuild, (Storage(reference + (None,) * legacy), 0, tuple(shape), strides, False,
                                       collections.OrderedDict()))
    text = io.BytesIO()
    before = {name: sys.modules.get(name) for name in ("torch", "torch._utils")}
    sys.modules.update({"torch": torch, "torch._utils": utils})
    Pickler(text, 2).dump(state)
    for name, module in before.items():
        sys.modules.pop(name)
        if module is not None:
            sys.modules[name] = module
    return text.getvalue()


def write_torch(path, tensors):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
        def add(name, data):  # which begins at a multiple of 64, as PyTorch's do
            record = zipfile.ZipInfo(name)
            padding = -(file.start_dir + 30 + len(name) + 4) % 64
            record.extra = b"FB" + struct.pack("<H", padding) + b"Z" * padding
            file.writestr(record, data)

        add("archive/data.pkl", pickled(tensors, False))
        for number, (_, _, _, data) in enumerate(tensors):
            add(f"archive/data/{number}", data)


def write_old_torch(path, tensors):
    """The format before PyTorch 1.6."""
    with open(path, "wb") as file:
        for value in (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True,
                                                     "type_sizes": {"short": 2, "int": 4, "long": 4}}):
            pickle.dump(value, file, 2)
        file.write(pickled(tensors, True))
        pickle.dump([str(number) for number in range(len(tensors))], file, 2)
        for _, _, shape, data in tensors:
            file.write(struct.pack("<q", math.prod(shape)) + data)


def write_safetensors(path, tensors):
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, dtype, shape, data in tensors:
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, _, _, data in tensors:
            file.write(data)


def write_gguf(path, config, tensors):
    """`tensors` under transformers' names; rows of q and k in llama.cpp's order."""
    def text(value):
        return struct.pack("<Q", len(value)) + value.encode()

    fields = [text("general.architecture") + struct.pack("<I", 8) + text("llama")]
    for name, field in (("block_count", "num_hidden_layers"), ("embedding_length", "hidden_size"),
                        ("feed_forward_length", "intermediate_size"), ("context_length", "max_position_embeddings"),
                        ("attention.head_count", "num_attention_heads")):
        fields.append(text("llama." + name) + struct.pack("<II", 4, config[field]))
    infos, datas, offset = [], [], 0
    for name, dtype, shape, data in tensors:
        for old, new in GGUF_NAMES.items():
            name = name.replace(old, new)
        infos.append(text(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape[::-1]) +
                     struct.pack("<IQ", GGUF_TYPES[dtype], offset))
        datas.append(data + bytes(-len(data) % 32))
        offset += len(datas[-1])
    head = b"GGUF" + struct.pack("<IQQ", 3, len(infos), len(fields)) + b"".join(fields + infos)
    with open(path, "wb") as file:
        file.write(head + bytes(-len(head) % 32))
        for data in datas:
            file.write(data)


# ---------------------------------------------------------------- numbers


def read_model(folder):
    """config.json, and the tensors of all shards."""
    tensors = []
    for file in sorted(os.listdir(folder)):
        if not file.endswith(".safetensors"):
            continue
        with open(os.path.join(folder, file), "rb") as stream:
            size, = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(size))
            data = stream.read()
        header.pop("__metadata__", None)
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            tensors.append((name, entry["dtype"], entry["shape"], data[begin:end]))
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
        return json.load(file), sorted(tensors)


def numbers(dtype, data):
    if dtype == "F16":
        return struct.unpack(f"<{len(data) // 2}e", data)
    return struct.unpack(f"<{len(data) // 2}f", b"".join(b"\0\0" + data[i:i + 2] for i in range(0, len(data), 2)))


E4M3 = [math.ldexp(code & 7, -9) if code < 8 else math.ldexp(8 + (code & 7), (code >> 3) - 10) for code in range(127)]


def to_fp8(values, shape):
    """Codes, and a scale for each block of BLOCK x BLOCK: the largest number of a block is the largest code."""
    rows, columns = shape
    across = -(-columns // BLOCK)
    scales = [0.0] * (-(-rows // BLOCK) * across)
    for i, value in enumerate(values):
        at = i // columns // BLOCK * across + i % columns // BLOCK
        scales[at] = max(scales[at], abs(value))
    scales = list(struct.unpack(f"<{len(scales)}f", struct.pack(f"<{len(scales)}f", *(s / E4M3[-1] for s in scales))))
    codes = bytearray()
    for i, value in enumerate(values):
        wanted = abs(value) / scales[i // columns // BLOCK * across + i % columns // BLOCK]
        exponent = max(math.frexp(wanted)[1] - 1, -6)
        code = min(round(math.ldexp(wanted, 3 - exponent)) + 8 * (exponent + 6), 126)
        codes.append(code | (128 if value < 0 else 0))
    return bytes(codes), scales


def to_q8(values):
    blocks = []
    for i in range(0, len(values), 32):
        block = values[i:i + 32]
        scale, = struct.unpack("<e", struct.pack("<e", max(map(abs, block)) / 127))
        blocks.append(struct.pack("<e32b", scale, *(max(-127, min(127, round(v / scale))) for v in block)))
    return b"".join(blocks)


def for_neighbours(values, rows, columns, heads):
    """As llama.cpp orders the rows of q and k: within a head of D, row t D/2 + i becomes row 2 i + t."""
    size, moved = rows // heads, []
    for row in range(rows):
        within = row % size
        source = row - within + within % 2 * (size // 2) + within // 2
        moved += values[source * columns:(source + 1) * columns]
    return moved


# ---------------------------------------------------------------- the dresses


def as_shards(folder, config, tensors):
    half, weight_map = len(tensors) // 2, {}
    for number, part in enumerate((tensors[:half], tensors[half:]), 1):
        file = f"pytorch_model-{number:05}-of-00002.bin"
        write_torch(os.path.join(folder, file), part)
        weight_map |= {name: file for name, _, _, _ in part}
    with open(os.path.join(folder, "pytorch_model.bin.index.json"), "w", encoding="utf-8") as file:
        json.dump({"metadata": {}, "weight_map": weight_map}, file)


def as_old_file(folder, config, tensors):
    write_old_torch(os.path.join(folder, "pytorch_model.bin"), tensors)


def with_more_tokens(folder, config, tensors):
    longer = []
    for name, dtype, shape, data in tensors:
        if name in ("model.embed_tokens.weight", "lm_head.weight"):
            data += data[-MORE_TOKENS * len(data) // shape[0]:]
            shape = [shape[0] + MORE_TOKENS, shape[1]]
        longer.append((name, dtype, shape, data))
    config["vocab_size"] += MORE_TOKENS
    write_safetensors(os.path.join(folder, "model.safetensors"), longer)


def as_fp8(folder, config, tensors):
    stored = []
    for name, dtype, shape, data in tensors:
        if "_proj" not in name:
            stored.append((name, dtype, shape, data))
            continue
        codes, scales = to_fp8(numbers(dtype, data), shape)
        grid = [-(-shape[0] // BLOCK), -(-shape[1] // BLOCK)]
        stored += [(name, "F8_E4M3", shape, codes),
                   (name + "_scale_inv", "F32", grid, struct.pack(f"<{len(scales)}f", *scales))]
    config["quantization_config"] = {"quant_method": "fp8", "weight_block_size": [BLOCK, BLOCK]}
    write_safetensors(os.path.join(folder, "model.safetensors"), stored)


def as_gguf(folder, config, tensors):
    stored = []
    for name, dtype, shape, data in tensors:
        values = list(numbers(dtype, data))
        if "q_proj" in name or "k_proj" in name:
            values = for_neighbours(values, *shape, config["num_attention_heads"])
        if len(shape) == 1:
            stored.append((name, "F32", shape, struct.pack(f"<{len(values)}f", *values)))
        elif shape[1] % 32:
            stored.append((name, "F16", shape, struct.pack(f"<{len(values)}e", *values)))
        else:
            stored.append((name, "Q8_0", shape, to_q8(values)))
    write_gguf(os.path.join(folder, "holodeck.Q8_0.gguf"), config, stored)


DRESSES = {"NousHermes": as_shards, "Chronos": as_old_file, "Platypus": with_more_tokens, "AiroborosM2.0": as_fp8,
           "Holodeck": as_gguf}


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))
    for model, dress in DRESSES.items():
        source, folder = os.path.join(root, "models", model), os.path.join(root, "dressed", model)
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        config, tensors = read_model(source)
        dress(folder, config, tensors)
        for file in os.listdir(source):
            if file.startswith(("tokenizer", "generation_config")):
                shutil.copy(os.path.join(source, file), folder)
        if dress is not as_gguf:
            with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
                json.dump(config, file, indent=2)
    print(f"{len(DRESSES)} formats in {os.path.join(root, 'dressed')}")


if __name__ == "__main__":
    main()
