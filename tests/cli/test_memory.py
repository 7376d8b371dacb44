"""The ceiling on resident memory, measured: peak RSS as the kernel counts it."""

import itertools
import json
import os
import struct
import subprocess
import unittest

import support

BLOCK = struct.pack("<4096e", *[(i * 37 % 256 - 128) / 64 for i in range(4096)])


def write_one_tensor(folder, rows, columns, shift, name="w"):
    """One float16 tensor; the file has numbers at its beginning, middle and end, and else holes."""
    os.makedirs(folder)
    with open(os.path.join(folder, "config.json"), "w") as file:
        json.dump({"model_type": "llama", "torch_dtype": "float16"}, file)
    size = rows * columns * 2
    header = {name: {"dtype": "F16", "shape": [rows, columns], "data_offsets": [0, size]}}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    begin = 8 + len(text)
    with open(os.path.join(folder, "model.safetensors"), "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(begin + size)
        for place in (0, size // 4 * 2, size - len(BLOCK)):
            file.seek(begin + place)
            file.write(BLOCK[shift:] + BLOCK[:shift])


def write_tokenizer(folder, rows, first, own):
    """A token for each row, the 1000 from `first` on behind all others; then `own` and a full stop.

    Written piece by piece: what this process holds would count for the program that it starts.
    """
    turned = itertools.chain(range(first), range(first + 1000, rows - 2), range(first, first + 1000))
    with open(os.path.join(folder, "tokenizer.json"), "w") as file:
        file.write('{"added_tokens": [], "model": {"type": "BPE", "merges": [], "vocab": {')
        for row, token in enumerate(turned):
            file.write('"token%d": %d, ' % (token, row))
        file.write('"%s": %d, ".": %d}}}' % (own, rows - 2, rows - 1))


@unittest.skipIf(os.environ.get("THORNS_SANITIZE"), "a sanitizer's own memory counts, too")
class Ceiling(support.CliTest):
    def peak(self, *arguments):
        """Peak resident bytes of a merge that succeeds."""
        return self.peak_of("merge", *arguments, "--path", "models", "-o", "out", "--quiet")

    def peak_of(self, *arguments):
        process = subprocess.Popen(
            [self.binary, *arguments],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=support.clean_environment(),
        )
        with process.stderr as stream:
            err = stream.read().decode()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        self.assertEqual(process.returncode, 0, err)
        return usage.ru_maxrss * 1024

    def test_a_tensor_larger_than_the_default_ceiling(self):
        for number, name in enumerate("AB"):
            write_one_tensor(self.path("models", name), 325_000, 2000, 2 * number)  # 1.3 GB
        peak = self.peak("{A+B}")
        self.assertLess(peak, 512_000_000)
        self.assertGreater(peak, 100_000_000)  # the ceiling was of use

    def test_small_ceilings(self):
        for number, name in enumerate("ABCDE"):
            write_one_tensor(self.path("models", name), 10_000, 1501, 2 * number)
        key = "{{{{A+B}+C}+D}+E}"
        for megabytes in (48, 64, 128):
            with self.subTest(megabytes=megabytes):
                peak = self.peak(key, "--memory", "%dMB" % megabytes, "-j", "2", "--force")
                self.assertLess(peak, megabytes * 1_000_000)
                again = ["verify", "out", "--path", "models", "--memory", "%dMB" % megabytes]
                self.assertLess(self.peak_of(*again, "-j", "2"), megabytes * 1_000_000)

    def test_updates_of_high_rank(self):
        """At the least ceiling that the plan accepts, products of a rank of thousands included."""
        rows, columns, r = 3000, 2000, 50
        write_one_tensor(self.path("models", "A"), rows, columns, 0)
        rank, terms = 800, columns // r
        adapters = {
            "lora": ({"peft_type": "LORA", "r": rank, "lora_alpha": rank},
                     {"w.lora_A.weight": [rank, columns], "w.lora_B.weight": [rows, rank]}),
            "randlora": ({"peft_type": "RANDLORA", "r": r},
                         {"randlora_A": [r, 1, rows], "randlora_B": [rows, terms, r],
                          "w.randlora_lambda": [r, terms], "w.randlora_gamma": [terms, columns]}),
        }
        path = self.path("models", "A", "model.safetensors")
        tensors = {"w.weight": support.read_safetensors(path)["w"]}
        support.write_safetensors(path, tensors)
        for name, (config, shapes) in adapters.items():
            with self.subTest(name):
                os.makedirs(self.path("models", name))
                with open(self.path("models", name, "adapter_config.json"), "w") as file:
                    json.dump(config, file)
                support.write_safetensors(
                    self.path("models", name, "adapter_model.safetensors"),
                    {"base_model.model." + key: ("F32", shape, bytes(4 * support.product(shape)))
                     for key, shape in shapes.items()},
                )
                key = "A[%s]" % name
                plan = self.run_thorns("plan", key, "--path", "models", "-j", "2", "--json").json()
                self.assertEqual(plan["problems"], [])
                least = plan["least_memory"]
                self.assertLess(least, 160_000_000)
                self.assertLess(self.peak(key, "--memory", str(least), "-j", "2", "--force"), least)

    def test_tensors_that_are_mapped_after_others_that_are_read(self):
        size = 10_000 * 2000 * 2
        for name in "AB":
            # `a` begins at an odd byte and cannot be mapped, `c` can.
            header, at = {}, 0
            for tensor, dtype, shape in (
                ("odd", "I8", [1]), ("a", "F16", [10_000, 2000]), ("even", "I8", [1]), ("c", "F16", [10_000, 2000]),
            ):  # fmt: skip
                end = at + (size if dtype == "F16" else 1)
                header[tensor] = {"dtype": dtype, "shape": shape, "data_offsets": [at, end]}
                at = end
            text = json.dumps(header).encode()
            text += b" " * (-len(text) % 8)
            folder = self.path("models", name)
            os.makedirs(folder)
            with open(os.path.join(folder, "config.json"), "w") as file:
                json.dump({"model_type": "llama", "torch_dtype": "float16"}, file)
            with open(os.path.join(folder, "model.safetensors"), "wb") as file:
                file.write(struct.pack("<Q", len(text)) + text + b"\1")
                for _ in range(size // len(BLOCK)):
                    file.write(BLOCK)
                file.truncate(8 + len(text) + at)
        self.assertLess(self.peak("{A+B}", "--memory", "128MB", "-j", "2"), 128_000_000)

    def test_large_vocabularies(self):
        embedding = "model.embed_tokens.weight"
        for rows, megabytes in ((128_000, 128), (256_000, 192)):
            with self.subTest(rows=rows):
                for number, name in enumerate("AB"):
                    folder = self.path("models", "%s%d" % (name, rows))
                    write_one_tensor(folder, rows, 64, 2 * number, embedding)
                    write_tokenizer(folder, rows, 1000 if number else rows - 1002, "own" + name)
                key = "{A%d+B%d}" % (rows, rows)
                peak = self.peak(key, "--memory", "%dMB" % megabytes, "-j", "2", "--force")
                self.assertLess(peak, megabytes * 1_000_000)
                with open(self.path("out", "config.json")) as file:
                    self.assertEqual(json.load(file)["vocab_size"], rows + 1)


if __name__ == "__main__":
    support.main()
