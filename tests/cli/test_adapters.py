"""Adapters of other makers, written byte by byte, against the same adapter in PEFT's layout; models
that cut their projections otherwise; and adapters that nobody should fold."""

import json
import math
import os
import struct
import unittest

import support

RANK = 2
ALPHA = 4
HEAD_ROWS = support.HIDDEN // 2
PREFIX = "base_model.model."


def transposed(values, rows):
    columns = len(values) // rows
    return [values[row * columns + column] for column in range(columns) for row in range(rows)]


def f32(shape, values):
    return ("F32", shape, support.encode(values, "F32"))


class Factors(support.CliTest):
    """Model A and adapter L, whose factors are module -> (A, B)."""

    def setUp(self):
        super().setUp()
        support.write_model(self.path("A"), 1)
        self.lora = {}
        for name, (dtype, _, data) in support.write_lora(self.path("L"), 3, RANK, ALPHA).items():
            module, factor = name[len(PREFIX) : -len(".weight")].rsplit(".", 1)
            self.lora.setdefault(module, {})[factor] = support.decode(data, dtype)

    def factors(self):
        for module, factors in self.lora.items():
            yield module, factors["lora_A"], factors["lora_B"]

    def merged(self, adapter, *options):
        """The bytes of A[adapter]."""
        out = os.path.basename(adapter) + "-merged"
        result = self.run_thorns(
            "merge", "A[L]", "-m", "A=A", "-a", "L=" + adapter, "-o", out, *options
        )
        self.assertEqual(result.code, 0, result)
        return support.folder_bytes(self.path(out))["model.safetensors"]


class OtherMakers(Factors):
    def test_kohya(self):
        tensors = {}
        for module, first, second in self.factors():
            name = "lora_te_" + module.replace(".", "_")
            tensors[name + ".lora_down.weight"] = f32([RANK, support.HIDDEN], first)
            tensors[name + ".lora_up.weight"] = f32([support.HIDDEN, RANK], second)
            tensors[name + ".alpha"] = f32([], [ALPHA])
        support.write_safetensors(self.path("kohya.safetensors"), tensors)
        self.assertEqual(self.merged("kohya.safetensors"), self.merged("L"))

    def test_whole_differences(self):
        tensors = {}
        for module, first, second in self.factors():
            difference = [
                ALPHA / RANK * sum(
                    second[row * RANK + k] * first[k * support.HIDDEN + column] for k in range(RANK)
                )
                for row in range(support.HIDDEN)
                for column in range(support.HIDDEN)
            ]  # exact: a few bits each
            name = "lora_te_" + module.replace(".", "_")
            tensors[name + ".diff"] = f32([support.HIDDEN, support.HIDDEN], difference)
        support.write_safetensors(self.path("diff.safetensors"), tensors)
        self.assertEqual(self.merged("diff.safetensors"), self.merged("L"))

    def test_kohya_for_two_models(self):
        tensors = {}
        for module, first, second in self.factors():
            for tag in ("lora_te_", "lora_unet_other_"):
                name = tag + module.replace(".", "_")
                tensors[name + ".lora_down.weight"] = f32([RANK, support.HIDDEN], first)
                tensors[name + ".lora_up.weight"] = f32([support.HIDDEN, RANK], second)
                tensors[name + ".alpha"] = f32([], [ALPHA])
        support.write_safetensors(self.path("two.safetensors"), tensors)
        refused = self.run_thorns(
            "merge", "A[L]", "-m", "A=A", "-a", "L=two.safetensors", "-o", "out"
        )
        self.assertEqual(refused.code, 1, refused)
        self.assertIn("several models (lora_te_, lora_unet_)", refused.err)
        self.write("te.yaml", "lora_unet_: ~\n")
        self.assertEqual(
            self.merged("two.safetensors", "--key-map", "te.yaml"), self.merged("L")
        )

    def test_diffusers(self):
        tensors = {}
        for module, first, second in self.factors():
            name = "text_encoder." + module
            # Without an alpha the scale is 1, so that B has to hold the whole of it.
            scaled = [value * ALPHA / RANK for value in second]
            tensors[name + ".lora_linear_layer.down.weight"] = f32([RANK, support.HIDDEN], first)
            tensors[name + ".lora_linear_layer.up.weight"] = f32([support.HIDDEN, RANK], scaled)
        os.mkdir(self.path("pipeline"))
        support.write_safetensors(self.path("pipeline", "pytorch_lora_weights.safetensors"), tensors)
        self.assertEqual(self.merged("pipeline"), self.merged("L"))

    def test_mlx(self):
        tensors = {}
        for module, first, second in self.factors():
            tensors[module + ".lora_a"] = f32([support.HIDDEN, RANK], transposed(first, RANK))
            tensors[module + ".lora_b"] = f32(
                [RANK, support.HIDDEN], transposed(second, support.HIDDEN)
            )
        os.mkdir(self.path("mlx"))
        support.write_safetensors(self.path("mlx", "adapters.safetensors"), tensors)
        config = {"fine_tune_type": "lora", "lora_parameters": {"rank": RANK, "scale": ALPHA / RANK}}
        self.write("mlx/adapter_config.json", json.dumps(config))
        self.assertEqual(self.merged("mlx"), self.merged("L"))

    def test_llama_cpp(self):
        names = {"self_attn.q_proj": "attn_q", "self_attn.v_proj": "attn_v"}

        def text(value):
            return struct.pack("<Q", len(value)) + value.encode()

        fields = b"".join(
            text(name) + struct.pack("<I", 8) + text(value)
            for name, value in (
                ("general.architecture", "llama"),
                ("general.type", "adapter"),
                ("adapter.type", "lora"),
            )
        )
        fields += text("adapter.lora.alpha") + struct.pack("<If", 6, ALPHA)
        infos, data, count = b"", b"", 0
        for module, first, second in self.factors():
            layer, name = module.split(".", 3)[2:]
            rows = [second[i : i + RANK] for i in range(0, len(second), RANK)]
            if name.endswith("q_proj"):  # as llama.cpp's converter reorders them
                half = HEAD_ROWS // 2
                rows = [
                    rows[row - row % HEAD_ROWS + row % 2 * half + row % HEAD_ROWS // 2]
                    for row in range(len(rows))
                ]
            for ending, shape, values in (
                ("lora_a", (RANK, support.HIDDEN), first),
                ("lora_b", (support.HIDDEN, RANK), [value for row in rows for value in row]),
            ):
                infos += text("blk.%s.%s.weight.%s" % (layer, names[name], ending))
                infos += struct.pack("<IQQIQ", 2, shape[1], shape[0], 0, len(data))
                data += support.encode(values, "F32")
                data += b"\0" * (-len(data) % 32)
                count += 1
        header = b"GGUF" + struct.pack("<IQQ", 3, count, 4) + fields + infos
        with open(self.path("lora.gguf"), "wb") as file:
            file.write(header + b"\0" * (-len(header) % 32) + data)
        self.assertEqual(self.merged("lora.gguf"), self.merged("L"))

    def test_dump_of_sharded_training(self):
        tensors = {}
        for module, first, second in self.factors():
            name = "module._fsdp_wrapped_module." + PREFIX + module
            tensors[name + ".lora_A.default.weight"] = f32([RANK, support.HIDDEN], first)
            tensors[name + ".lora_B.default.weight"] = f32([support.HIDDEN, RANK], second)
        os.mkdir(self.path("dump"))
        support.write_safetensors(self.path("dump", "adapter_model.safetensors"), tensors)
        os.link(
            self.path("L", "adapter_config.json"), self.path("dump", "adapter_config.json")
        )
        self.assertEqual(self.merged("dump"), self.merged("L"))


class JoinedProjections(Factors):
    def test_parts_fold_into_one_matrix(self):
        apart = self.merged("L")
        self.assertTrue(apart)
        names = ["self_attn." + part + "_proj" for part in "qkv"]

        def join(tensors):
            for layer in range(support.LAYERS):
                prefix = "model.layers.%d." % layer
                parts = [tensors.pop(prefix + name + ".weight") for name in names]
                tensors[prefix + "self_attn.qkv_proj.weight"] = (
                    "F32",
                    [3 * support.HIDDEN, support.HIDDEN],
                    b"".join(data for _, _, data in parts),
                )

        support.write_model(self.path("J"), 1, change=join)
        result = self.run_thorns("merge", "J[L]", "-m", "J=J", "-a", "L=L", "-o", "joined")
        self.assertEqual(result.code, 0, result)
        joined = support.read_safetensors(self.path("joined", "model.safetensors"))
        parts = support.read_safetensors(self.path("L-merged", "model.safetensors"))
        for layer in range(support.LAYERS):
            prefix = "model.layers.%d." % layer
            expected = [
                value
                for name in names
                for value in support.decode(parts[prefix + name + ".weight"][2], "F32")
            ]
            found = support.decode(joined[prefix + "self_attn.qkv_proj.weight"][2], "F32")
            self.assertEqual(len(found), len(expected))
            for one, other in zip(found, expected):
                self.assertAlmostEqual(one, other, places=5)


class BadInput(Factors):
    """What users meet: each stops with one sentence, and says the way out where there is one."""

    def change_lora(self, change, config=None):
        path = self.path("L", "adapter_model.safetensors")
        tensors = support.read_safetensors(path)
        change(tensors)
        support.write_safetensors(path, tensors)
        if config is not None:
            path = self.path("L", "adapter_config.json")
            with open(path) as file:
                fields = json.load(file)
            fields.update(config)
            with open(path, "w") as file:
                json.dump(fields, file)

    def test_each_is_refused_in_words(self):
        first = PREFIX + "model.layers.0.self_attn.q_proj."

        def value(tensors, name, number):
            dtype, shape, data = tensors[name]
            values = support.decode(data, dtype)
            values[3] = number
            tensors[name] = (dtype, shape, support.encode(values, dtype))

        def rename(tensors, name):
            tensors[name] = tensors.pop(first + "lora_A.weight")

        def narrow(tensors):
            for factor, shape in (("lora_A", [RANK, 4]), ("lora_B", [support.HIDDEN, RANK])):
                values = [0.0] * support.product(shape)
                tensors[first + factor + ".weight"] = f32(shape, values)

        def nothing(tensors):
            pass

        cases = (
            # what, change of the tensors, change of the configuration, options, words
            (
                "a key that matches nothing",
                lambda t: t.update({PREFIX + "other.weight": f32([2], [1, 2])}),
                None,
                (),
                ("find no tensor (other.weight)", "tiny"),
            ),
            ("another shape", narrow, None, (), ("is [8, 8], the adapter's is [8, 4]", "tiny")),
            (
                "NaN in B",
                lambda t: value(t, first + "lora_B.weight", math.nan),
                None,
                (),
                ("model.layers.0.self_attn.q_proj.weight", "--allow-nonfinite"),
            ),
            (
                "more than float16 holds",
                lambda t: value(t, first + "lora_B.weight", 1e6),
                None,
                ("--dtype", "float16"),
                ("model.layers.0.self_attn.q_proj.weight", "float16"),
            ),
            (
                "no lora_B",
                lambda t: t.pop(first + "lora_B.weight"),
                None,
                (),
                ("has no lora_B", "saved incompletely"),
            ),
            ("X-LoRA", nothing, {"peft_type": "XLORA"}, (), ("XLORA", "no fixed weight")),
            (
                "PiSSA",
                nothing,
                {"init_lora_weights": "pissa"},
                (),
                ("`pissa`", "convert it to a plain LoRA"),
            ),
            (
                "two adapters in one file",
                lambda t: (
                    rename(t, first + "lora_A.one.weight"),
                    t.update({first + "lora_B.two.weight": t.pop(first + "lora_B.weight")}),
                ),
                None,
                (),
                ("several adapters in one file: one, two", "save the one"),
            ),
            (
                "aLoRA",
                nothing,
                {"alora_invocation_tokens": [1, 2]},
                (),
                ("alora_invocation_tokens", "invocation"),
            ),
        )
        with open(self.path("L", "adapter_model.safetensors"), "rb") as file:
            weights = file.read()
        with open(self.path("L", "adapter_config.json")) as file:
            config = file.read()
        for what, change, fields, options, words in cases:
            with self.subTest(what):
                self.change_lora(change, fields)
                result = self.run_thorns(
                    "merge", "A[L]", "-m", "A=A", "-a", "L=L", "-o", "out", *options
                )
                self.assertEqual(result.code, 1, result)
                for word in words:
                    self.assertIn(word, result.err)
                self.assertFalse(os.path.exists(self.path("out")))
                with open(self.path("L", "adapter_model.safetensors"), "wb") as file:
                    file.write(weights)
                self.write("L/adapter_config.json", config)

    def test_what_only_loses_something_is_a_warning(self):
        def nothing(tensors):
            pass

        for fields, words in (
            ({"bias": "lora_only"}, "trained biases are missing"),
            ({"rank_pattern": {"nowhere": 4}}, "decide for no module: nowhere"),
            ({"r": 16}, "not the one its configuration gives"),
        ):
            with self.subTest(words):
                self.change_lora(nothing, {"bias": "none", "rank_pattern": {}, "r": RANK})
                self.change_lora(nothing, fields)
                result = self.run_thorns("plan", "A[L]", "-m", "A=A", "-a", "L=L")
                self.assertEqual(result.code, 0, result)
                self.assertIn(words, " ".join((result.out + result.err).split()))

    def test_a_model_that_is_a_dump_of_peft_is_recognised(self):
        def wrap(tensors):
            for name in list(tensors):
                if name.endswith("q_proj.weight"):
                    wrapped = name.replace(".weight", ".base_layer.weight")
                    tensors[PREFIX + wrapped] = tensors.pop(name)

        support.write_model(self.path("W"), 1, change=wrap)
        result = self.run_thorns("merge", "W[L]", "-m", "W=W", "-a", "L=L", "-o", "out")
        self.assertEqual(result.code, 1, result)
        self.assertIn("base_layer", result.err)
        self.assertIn("PEFT", result.err)


if __name__ == "__main__":
    unittest.main()
