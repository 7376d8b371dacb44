"""Tiny models and adapters, and ways to run the program on them.

Every test works in a fresh folder. The environment variable THORNS names the binary. Only the
standard library is used: the safetensors format is a length, a JSON header and raw numbers.
"""

import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
import unittest

HIDDEN = 8
INNER = 16
VOCABULARY = 12
LAYERS = 2
TIMEOUT = 120  # seconds; a test that takes longer hangs

ELEMENT_SIZE = {"F32": 4, "F16": 2, "BF16": 2}
TORCH_NAME = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


# ---------------------------------------------------------------- files


def encode(values, dtype):
    if dtype == "F32":
        return struct.pack("<%df" % len(values), *values)
    if dtype == "F16":
        return struct.pack("<%de" % len(values), *values)
    # bfloat16 is the upper half of float32; the values of `numbers` fit it exactly.
    return b"".join(struct.pack("<f", value)[2:] for value in values)


def decode(data, dtype):
    if dtype == "F32":
        return list(struct.unpack("<%df" % (len(data) // 4), data))
    if dtype == "F16":
        return list(struct.unpack("<%de" % (len(data) // 2), data))
    halves = [data[i : i + 2] for i in range(0, len(data), 2)]
    return [struct.unpack("<f", b"\0\0" + half)[0] for half in halves]


def numbers(seed, count):
    """Numbers in [-1, 1) in steps of 1/64: exact in every type that is used here."""
    state = seed * 7919 + 17
    values = []
    for _ in range(count):
        state = (state * 1103515245 + 12345) % 2**31
        values.append((state >> 16) % 128 / 64 - 1)
    return values


def product(shape):
    result = 1
    for dimension in shape:
        result *= dimension
    return result


def write_safetensors(path, tensors):
    """`tensors`: name -> (dtype, shape, bytes)."""
    header = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {
            "dtype": dtype,
            "shape": shape,
            "data_offsets": [offset, offset + len(data)],
        }
        offset += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, _, data in tensors.values():
            file.write(data)


def read_safetensors(path):
    """name -> (dtype, shape, bytes)"""
    with open(path, "rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
        data = file.read()
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        tensors[name] = (entry["dtype"], entry["shape"], data[begin:end])
    return tensors


def llama_shapes(hidden=HIDDEN, inner=INNER, layers=LAYERS):
    shapes = {
        "lm_head.weight": [VOCABULARY, hidden],
        "model.embed_tokens.weight": [VOCABULARY, hidden],
        "model.norm.weight": [hidden],
    }
    for layer in range(layers):
        prefix = "model.layers.%d." % layer
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            shapes[prefix + "self_attn." + name + ".weight"] = [hidden, hidden]
        for name in ("gate_proj", "up_proj"):
            shapes[prefix + "mlp." + name + ".weight"] = [inner, hidden]
        shapes[prefix + "mlp.down_proj.weight"] = [hidden, inner]
        shapes[prefix + "input_layernorm.weight"] = [hidden]
        shapes[prefix + "post_attention_layernorm.weight"] = [hidden]
    return dict(sorted(shapes.items()))


def write_config(folder, dtype, hidden=HIDDEN, inner=INNER, layers=LAYERS):
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
        "torch_dtype": TORCH_NAME[dtype],
        "vocab_size": VOCABULARY,
    }
    with open(os.path.join(folder, "config.json"), "w") as file:
        json.dump(config, file, indent=2)


def write_model(folder, seed, dtype="F32", change=None):
    """A Llama of a few hundred numbers. `change(tensors)` may edit what is written."""
    os.makedirs(folder)
    write_config(folder, dtype)
    tensors = {}
    for index, (name, shape) in enumerate(llama_shapes().items()):
        values = numbers(seed * 1000 + index, product(shape))
        tensors[name] = (dtype, shape, encode(values, dtype))
    if change:
        change(tensors)
    write_safetensors(os.path.join(folder, "model.safetensors"), tensors)
    return tensors


def write_large_model(folder, megabytes):
    """Zeros in a file with holes: takes no space and no time to write, but all time to merge."""
    os.makedirs(folder)
    hidden, inner, layers = 512, 1024, 0
    per_layer = sum(product(shape) for shape in llama_shapes(hidden, inner, 1).values())
    layers = max(1, megabytes * 1_000_000 // (per_layer * 2))
    write_config(folder, "BF16", hidden, inner, layers)
    header = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, shape in llama_shapes(hidden, inner, layers).items():
        size = product(shape) * 2
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(os.path.join(folder, "model.safetensors"), "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + offset)
    return offset


def write_lora(folder, seed, rank=2, alpha=4, modules=("self_attn.q_proj", "self_attn.v_proj")):
    os.makedirs(folder)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "tiny",
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "use_rslora": False,
        "target_modules": sorted({module.split(".")[-1] for module in modules}),
    }
    with open(os.path.join(folder, "adapter_config.json"), "w") as file:
        json.dump(config, file, indent=2)
    tensors = {}
    for layer in range(LAYERS):
        for module in modules:
            prefix = "base_model.model.model.layers.%d.%s." % (layer, module)
            seed += 1
            first = encode(numbers(seed, rank * HIDDEN), "F32")
            second = encode(numbers(seed + 100, HIDDEN * rank), "F32")
            tensors[prefix + "lora_A.weight"] = ("F32", [rank, HIDDEN], first)
            tensors[prefix + "lora_B.weight"] = ("F32", [HIDDEN, rank], second)
    tensors = dict(sorted(tensors.items()))
    write_safetensors(os.path.join(folder, "adapter_model.safetensors"), tensors)
    return tensors


def folder_bytes(folder):
    """Every file of a finished folder but those that may name the time or place of the run."""
    content = {}
    for name in sorted(os.listdir(folder)):
        if name.endswith(".safetensors") or name == "config.json":
            with open(os.path.join(folder, name), "rb") as file:
                content[name] = file.read()
    return content


# ---------------------------------------------------------------- terminal


class Screen:
    """What a terminal of some width shows. Knows text, \\r, \\n and colours; all else is noted."""

    def __init__(self, text, width):
        self.width = width
        self.rows = [""]
        self.drawn = []  # every text that stood on the last row before it was drawn over or ended
        self.escapes = re.findall(r"\x1b\[[0-9;]*[A-Za-z]|\x1b.", text)
        self.widest = 0
        column = 0
        for char in re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text):
            if char == "\r":
                self.drawn.append(self.rows[-1])
                column = 0
            elif char == "\n":
                self.rows.append("")
                column = 0
            else:
                row = self.rows[-1].ljust(column)
                self.rows[-1] = row[:column] + char + row[column + 1 :]
                column += 1
                self.widest = max(self.widest, column)
        self.rows = [row.rstrip() for row in self.rows]

    def text(self):
        return "\n".join(self.rows)


# ---------------------------------------------------------------- running


class Result:
    def __init__(self, code, out, err):
        self.code = code
        self.out = out
        self.err = err

    def json(self):
        return json.loads(self.out)

    def __str__(self):
        return "exit code %s\nstdout:\n%s\nstderr:\n%s" % (self.code, self.out, self.err)


def clean_environment(**extra):
    environment = {
        key: value
        for key, value in os.environ.items()
        if key not in ("NO_COLOR", "COLUMNS", "THORNS_PATH", "XDG_CACHE_HOME", "TRANSFORMERS_OFFLINE")
        and not key.startswith(("HF_", "HUGGING", "SSL_CERT_"))
        and not key.endswith("_CA_BUNDLE")
        and not key.lower().endswith("_proxy")
    }
    environment["HF_HOME"] = "no-such-folder"
    environment["TERM"] = "xterm"
    environment.update(extra)
    return environment


def default_signals():
    """A test run in the background may have been started with signals ignored."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


class CliTest(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        self.binary = os.path.abspath(os.environ["THORNS"])
        self.folder = tempfile.mkdtemp(prefix="thorns-cli-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def path(self, *parts):
        return os.path.join(self.folder, *parts)

    def write(self, name, text):
        with open(self.path(name), "w") as file:
            file.write(text)
        return self.path(name)

    def family(self, dtype="F32"):
        """Models A, B and adapter L, where --path finds them."""
        write_model(self.path("models", "A"), 1, dtype)
        write_model(self.path("models", "B"), 2, dtype)
        write_lora(self.path("loras", "L"), 3)
        return ["--path", "models", "--path", "loras"]

    def run_thorns(self, *arguments, stdin="", environment=None, prepare=None):
        done = subprocess.run(
            [self.binary, *arguments],
            cwd=self.folder,
            input=stdin.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment or clean_environment(),
            preexec_fn=prepare,
            timeout=TIMEOUT,
        )
        return Result(done.returncode, done.stdout.decode(), done.stderr.decode())

    def run_shell(self, line):
        """`line` in sh, with $THORNS as the program."""
        done = subprocess.run(
            ["sh", "-c", line],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=clean_environment(THORNS=self.binary),
            timeout=TIMEOUT,
        )
        return Result(done.returncode, done.stdout.decode(), done.stderr.decode())

    def run_on_terminal(self, *arguments, width=80, environment=None, resize=None):
        """Both output streams on a pseudo-terminal. `resize`: width to change to after the first
        text. Returns exit code and raw text."""
        master, slave = pty.openpty()
        self.set_width(slave, width)
        process = subprocess.Popen(
            [self.binary, *arguments],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=slave,
            stderr=slave,
            env=environment or clean_environment(),
            preexec_fn=default_signals,
        )
        self.addCleanup(process.kill)
        os.close(slave)
        text = b""
        end = time.monotonic() + TIMEOUT
        while time.monotonic() < end:
            if not select.select([master], [], [], 1)[0]:
                continue
            try:
                piece = os.read(master, 65536)
            except OSError:  # the other end is closed
                break
            if not piece:
                break
            text += piece
            if resize:
                self.set_width(master, resize)
                resize = None
        os.close(master)
        return process.wait(timeout=TIMEOUT), text.decode()

    @staticmethod
    def set_width(terminal, width):
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))

    def assert_code(self, result, code):
        self.assertEqual(result.code, code, str(result))

    def assert_error(self, result, code, *parts):
        """One clear error: its exit code, its words, and nothing that looks like a crash."""
        self.assert_code(result, code)
        self.assertIn("thorns: error: ", result.err)
        self.assertNotIn("internal error", result.err)
        for part in parts:
            self.assertIn(part, result.err)

    def assert_no_output(self, name="out"):
        self.assertFalse(os.path.lexists(self.path(name)), "an output folder is left")


def main():
    if "THORNS" not in os.environ:
        sys.exit("set THORNS to the path of the binary")
    unittest.main(verbosity=1)
