"""thorns inspect: every format, known norms, odd inputs, and the words for the demo's family."""

import json
import math
import os
import shutil
import struct
import subprocess
import sys
import unittest

import support

HERE = os.path.dirname(os.path.abspath(__file__))
GOLDEN = os.path.join(HERE, os.pardir, "golden")
DEMO = os.path.join(HERE, os.pardir, os.pardir, "demo", "make_family.py")
LAYER = "model.layers.%d."


class Inspect(support.CliTest):
    def inspect(self, *arguments):
        result = self.run_thorns("inspect", *arguments, "--json")
        self.assert_code(result, 0)
        answer = result.json()
        self.assertEqual(answer["schema"], "thorns/inspect/1")
        return answer

    def codes(self, *arguments):
        return sorted(note["code"] for note in self.inspect(*arguments)["notes"])

    def model(self, change=None, config=None, tokenizer=None):
        """A model whose tensors, configuration and tokenizer were changed."""
        shutil.rmtree(self.path("A"), ignore_errors=True)
        support.write_model(self.path("A"), 1, change=change)
        if config:
            path = self.path("A", "config.json")
            with open(path) as file:
                fields = json.load(file)
            fields.update(config)
            self.write("A/config.json", json.dumps(fields))
        if tokenizer is not None:
            self.write("A/tokenizer.json", tokenizer if isinstance(tokenizer, str) else json.dumps(tokenizer))


class Checkpoints(Inspect):
    def test_a_model(self):
        self.model()
        answer = self.inspect("A")
        shapes = support.llama_shapes()
        elements = sum(map(support.product, shapes.values()))
        self.assertEqual(
            (answer["kind"], answer["format"], answer["tensors"], answer["parameters"], answer["bytes"]),
            ("checkpoint", "safetensors", len(shapes), elements, 4 * elements),
        )
        self.assertEqual(sum(group["tensors"] for group in answer["groups"]), len(shapes))
        (group,) = [g for g in answer["groups"] if "q_proj" in g["name"]]
        self.assertEqual(
            group,
            {"name": "model.layers.{0,1}.self_attn.q_proj.weight", "tensors": 2, "shape": [8, 8],
             "type": "F32", "elements": 128, "bytes": 512},
        )
        facts = answer["checkpoint"]
        self.assertEqual(
            (facts["model_type"], facts["architecture"], facts["layers"], facts["heads"], facts["head"]),
            ("llama", "LlamaForCausalLM", 2, 2, "stored"),
        )
        self.assertEqual((facts["tokenizer"], facts["quantisation"], answer["adapter"]), (None, "", None))
        self.assertEqual(answer["notes"], [])
        self.assertEqual(len(self.inspect("A", "--tensors")["groups"]), len(shapes))

    def test_what_is_unusual(self):
        def change(tensors):
            tensors[LAYER % 0 + "self_attn.rotary_emb.inv_freq"] = ("F32", [2], b"\0" * 8)
            tensors["model.nothing"] = ("F16", [0, 4], b"")

        self.model(change, {"num_hidden_layers": 3, "vocab_size": 13, "hidden_size": 9})
        self.write("A/model-00007-of-00009.safetensors", "")
        self.assertEqual(
            self.codes("A"),
            ["empty-tensors", "hidden-size", "layers-differ", "mixed-types", "recomputed-buffers",
             "unread-files", "vocabulary-rows"],
        )

    def test_a_head_that_is_tied_and_stored(self):
        def equal(tensors):
            tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]

        self.model(equal, {"tie_word_embeddings": True})
        self.assertEqual(self.codes("A"), ["head-stored-equal"])
        self.model(None, {"tie_word_embeddings": True})
        self.assertEqual(self.codes("A"), ["head-stored-differs"])
        self.model(lambda tensors: tensors.pop("lm_head.weight"), {"tie_word_embeddings": True})
        self.assertEqual(self.codes("A"), [])
        self.assertEqual(self.inspect("A")["checkpoint"]["head"], "tied")

    def test_tokenizers(self):
        tokens = {"t%d" % i: i for i in range(support.VOCABULARY - 2)}
        added = [{"id": 0, "content": "t0"}] + [
            {"id": support.VOCABULARY - 2 + i, "content": "new%d" % i} for i in range(2)
        ]
        tokenizer = {"added_tokens": added, "model": {"type": "BPE", "vocab": tokens, "merges": ["t 0"]}}
        self.model(tokenizer=tokenizer)
        self.write("A/tokenizer_config.json", json.dumps(
            {"bos_token": "t0", "eos_token": {"content": "t1"}, "chat_template": "{{ messages }}"}))
        answer = self.inspect("A")
        facts = answer["checkpoint"]["tokenizer"]
        self.assertEqual((facts["kind"], facts["tokens"], facts["added"]), ("BPE", support.VOCABULARY, 3))
        self.assertEqual(facts["special"], [{"role": "bos", "token": "t0"}, {"role": "eos", "token": "t1"}])
        self.assertTrue(facts["chat_template"])
        self.assertEqual(answer["notes"], [])

        tokenizer["added_tokens"][2]["id"] += 1  # one more than rows, and a hole
        self.model(tokenizer=tokenizer)
        self.assertEqual(self.codes("A"), ["token-ids-have-holes", "tokens-without-rows"])
        unigram = {"model": {"type": "Unigram", "vocab": [["a", -1.0], ["b", -2.5]]}}
        self.model(tokenizer=unigram)
        self.assertEqual(self.inspect("A")["checkpoint"]["tokenizer"]["tokens"], 2)
        self.assertEqual(self.codes("A"), ["rows-without-tokens"])
        self.model()
        pieces = b""
        for text, kind in (("<unk>", 2), ("<s>", 3), ("\u2581a", 1)):
            piece = b"\x0a" + bytes([len(text.encode())]) + text.encode()
            piece += b"\x15" + struct.pack("<f", -1) + b"\x18" + bytes([kind])
            pieces += b"\x0a" + bytes([len(piece)]) + piece
        with open(self.path("A", "tokenizer.model"), "wb") as file:
            file.write(pieces)
        facts = self.inspect("A")["checkpoint"]["tokenizer"]
        self.assertEqual((facts["kind"], facts["tokens"], facts["added"]), ("SentencePiece", 3, 2))
        self.model(tokenizer='{"model": ')
        self.assertEqual(self.codes("A"), ["tokenizer-broken"])

    def test_scan(self):
        def change(tensors):
            dtype, shape, data = tensors["model.norm.weight"]
            tensors["model.norm.weight"] = (dtype, shape, struct.pack("<ff", math.nan, math.inf) + data[8:])

        self.model(change)
        self.assertEqual(self.codes("A"), [])
        (note,) = self.inspect("A", "--scan")["notes"]
        self.assertEqual(note["code"], "nonfinite")
        self.assertIn("2 of the 8 numbers of `model.norm.weight`", note["message"])
        self.model()
        self.assertEqual(self.codes("A", "--scan"), ["all-finite"])

    def test_shards(self):
        tensors = support.write_model(self.path("A"), 1)
        os.remove(self.path("A", "model.safetensors"))
        names = sorted(tensors)
        parts = {"model-00001-of-00002.safetensors": names[:7], "model-00002-of-00002.safetensors": names[7:]}
        index = {"metadata": {}, "weight_map": {}}
        for part, held in parts.items():
            support.write_safetensors(self.path("A", part), {name: tensors[name] for name in held})
            index["weight_map"].update({name: part for name in held})
        self.write("A/model.safetensors.index.json", json.dumps(index))
        for path in ("A", "A/model.safetensors.index.json"):
            answer = self.inspect(path)
            self.assertEqual((answer["tensors"], len(answer["files"])), (len(names), 2))
        part = self.inspect("A/model-00002-of-00002.safetensors")
        self.assertEqual((part["kind"], part["tensors"]), ("weights", len(names) - 7))
        self.assertEqual([note["code"] for note in part["notes"]], ["part-of-a-model"])

    def test_formats(self):
        gguf = self.inspect(os.path.join(GOLDEN, "gguf", "llama.gguf"))
        self.assertEqual((gguf["format"], gguf["checkpoint"]["model_type"]), ("GGUF", "llama"))
        types = {group["type"] for group in gguf["groups"]}
        self.assertIn("F32", types)
        self.assertIn("Q4_K", types)
        self.assertRegex(gguf["checkpoint"]["quantisation"], "GGUF .*Q4_K")
        for name in ("types.pt", "types_legacy.pt"):
            torch = self.inspect(os.path.join(GOLDEN, "pytorch", name))
            self.assertEqual((torch["kind"], torch["format"]), ("weights", "PyTorch"))
        fp8 = self.inspect(os.path.join(GOLDEN, "quantised", "fp8-e4m3"))
        self.assertIn("F8_E4M3", {group["type"] for group in fp8["groups"]})
        self.assertIn("FP8", fp8["checkpoint"]["quantisation"])
        self.assertEqual(sum(group["elements"] for group in fp8["groups"]), fp8["parameters"])


    def test_what_a_merge_would_refuse(self):
        shapes = support.llama_shapes()

        def refused(path, message):
            result = self.run_thorns("inspect", path)
            self.assert_code(result, 0)
            self.assertIn("note: ", result.out)
            answer = self.inspect(path)
            (note,) = [note for note in answer["notes"] if note["code"] == "no-leaf"]
            self.assertIn(message, note["message"])
            return answer

        # A method that is not decoded: everything else can be said.
        self.model(config={"quantization_config": {"quant_method": "hqq"}},
                   tokenizer={"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}})
        answer = refused("A", "quantised with hqq")
        elements = sum(map(support.product, shapes.values()))
        self.assertEqual((answer["kind"], answer["tensors"], answer["bytes"]),
                         ("checkpoint", len(shapes), 4 * elements))
        facts = answer["checkpoint"]
        self.assertEqual((facts["architecture"], facts["quantisation"], facts["head"]),
                         ("LlamaForCausalLM", "hqq", ""))
        self.assertEqual(facts["tokenizer"]["kind"], "BPE")
        self.assert_error(self.run_thorns("inspect", "A", "--scan"), 1, "quantised with hqq")
        # A scale that is missing, tensors that are told by their names, a configuration that is broken.
        def fp8(tensors):
            tensors["x.weight"] = ("F8_E4M3", [2, 2], b"abcd")
            tensors["y.weight"] = ("F8_E4M3", [2, 2], b"abcd")
            tensors["y.weight_scale"] = ("F32", [], b"\0" * 4)

        self.model(fp8)
        answer = refused("A", "no scale beside it")
        self.assertIn("x.weight", [group["name"] for group in answer["groups"]])
        self.model()
        self.write("A/config.json", "{")
        self.assertEqual(refused("A", "config.json")["checkpoint"]["model_type"], "")
        # Files that do not fit together, or are not all there.
        self.model()
        os.rename(self.path("A", "model.safetensors"), self.path("A", "model-00001-of-00002.safetensors"))
        self.assertEqual(refused("A", "their index model.safetensors.index.json is missing")["tensors"], len(shapes))
        weight_map = {name: "model-00001-of-00002.safetensors" for name in shapes}
        self.write("A/model.safetensors.index.json",
                   json.dumps({"weight_map": {**weight_map, "lm_head.weight": "model-00002-of-00002.safetensors"}}))
        self.assertEqual(len(refused("A", "1 of the 2 shards of")["files"]), 1)
        self.write("A/model-00002-of-00002.safetensors", "")
        answer = refused("A", "model-00002-of-00002.safetensors")
        self.assertEqual([note["code"] for note in answer["notes"]], ["no-leaf"])
        # Architectures and types of GGUF that are not read.
        with open(os.path.join(GOLDEN, "gguf", "qwen2.gguf"), "rb") as file:
            gguf = file.read()
        self.write("x.gguf", "")
        with open(self.path("x.gguf"), "wb") as file:
            file.write(gguf.replace(b"qwen2", b"qwenX"))
        answer = refused("x.gguf", "of the architecture `qwenX`")
        self.assertEqual((answer["kind"], answer["checkpoint"]["model_type"]), ("weights", "qwenX"))
        self.assertEqual((answer["checkpoint"]["layers"], answer["checkpoint"]["hidden_size"]), (1, 256))
        self.assertIn("blk.0.attn_q.weight", [group["name"] for group in answer["groups"]])
        self.assertEqual({group["type"] for group in answer["groups"]}, {"Q8_0", "F32"})
        # An adapter of a family that is not known.
        tensors = support.write_lora(self.path("L"), 3)
        self.write("L/adapter_config.json", '{"peft_type": "SOMETHING"}')
        answer = refused("L", "SOMETHING")
        self.assertEqual((answer["kind"], answer["tensors"], answer["adapter"]), ("adapter", len(tensors), None))


class Adapters(Inspect):
    def norms(self, tensors, scale):
        """Of the product of the factors of each module."""
        found = {}
        for name, (dtype, shape, data) in tensors.items():
            if not name.endswith("lora_A.weight"):
                continue
            rank, inputs = shape
            a = support.decode(data, dtype)
            other = tensors[name.replace("lora_A", "lora_B")]
            b = support.decode(other[2], other[0])
            square = 0
            for i in range(len(b) // rank):
                for j in range(inputs):
                    square += sum(b[i * rank + k] * a[k * inputs + j] for k in range(rank)) ** 2
            module = name[len("base_model.model."):-len(".lora_A.weight")]
            found[module + ".weight"] = scale * math.sqrt(square)
        return found

    def test_lora(self):
        tensors = support.write_lora(self.path("L"), 3)
        expected = self.norms(tensors, 2)
        for path in ("L", "L/adapter_model.safetensors", "L/adapter_config.json"):
            answer = self.inspect(path)
            self.assertEqual((answer["kind"], answer["checkpoint"]), ("adapter", None))
            facts = answer["adapter"]
            self.assertEqual((facts["family"], facts["base_model"]), ("LoRA", "tiny"))
            self.assertEqual(facts["ranks"], [{"rank": 2, "alpha": 4.0, "scale": 2.0, "updates": 4}])
            self.assertEqual(facts["targets"], [{"name": "q_proj", "modules": 2}, {"name": "v_proj", "modules": 2}])
            self.assertEqual([u["parameter"] for u in facts["updates"]], sorted(expected))
            for update in facts["updates"]:
                self.assertEqual(update["change"], "low rank")
                self.assertAlmostEqual(update["norm"], expected[update["parameter"]], places=9)
        silent = self.inspect("L", "--no-norms")["adapter"]["updates"]
        self.assertTrue(all(update["norm"] is None for update in silent))

    def test_on_a_base(self):
        model = support.write_model(self.path("A"), 1)
        expected = self.norms(support.write_lora(self.path("L"), 3), 2)
        changed = self.inspect("L", "--base", "A")["adapter"]["changed"]
        self.assertEqual([one["tensor"] for one in changed], sorted(expected))
        for one in changed:
            self.assertAlmostEqual(one["norm"], expected[one["tensor"]], places=5)
            whole = math.hypot(*support.decode(model[one["tensor"]][2], "F32"))
            self.assertAlmostEqual(one["relative"], one["norm"] / whole, places=12)

    def test_what_needs_the_base(self):
        support.write_model(self.path("A"), 1)
        support.write_lora(self.path("L"), 3)
        path = self.path("L", "adapter_model.safetensors")
        tensors = support.read_safetensors(path)
        for name in [name for name in tensors if name.endswith("lora_B.weight")]:
            magnitudes = support.encode([2.0] * support.HIDDEN, "F32")
            tensors[name.replace("lora_B.weight", "lora_magnitude_vector")] = ("F32", [support.HIDDEN], magnitudes)
        tensors["base_model.model.model.norm.weight"] = ("F32", [8], support.encode([1.0] * 8, "F32"))
        support.write_safetensors(path, tensors)
        with open(self.path("L", "adapter_config.json")) as file:
            config = json.load(file)
        config.update(use_dora=True, modules_to_save=["norm"])
        self.write("L/adapter_config.json", json.dumps(config))
        facts = self.inspect("L")["adapter"]
        self.assertEqual((facts["family"], facts["replaced"]), ("DoRA", ["model.norm.weight"]))
        self.assertEqual({u["change"] for u in facts["updates"]}, {"low rank, lines scaled", "replaced"})
        self.assertTrue(all(update["norm"] is None for update in facts["updates"]))
        self.assertIn("5 changes needs the base", self.run_thorns("inspect", "L").out)
        # Every line of a changed tensor has the norm 2.
        for one in self.inspect("L", "--base", "A")["adapter"]["changed"]:
            self.assertGreater(one["norm"], 0)
            self.assertLess(one["norm"] / one["relative"], 8)

    def test_what_peft_made(self):
        """The norms of the differences that the real library made (tests/golden/peft)."""
        told = set()
        cases = os.path.join(GOLDEN, "peft", "folded")
        for case in sorted(os.listdir(cases)):
            base = support.read_safetensors(os.path.join(cases, case, "base.safetensors"))
            after = support.read_safetensors(os.path.join(cases, case, "expected.safetensors"))
            if {dtype for dtype, _, _ in base.values()} != {"F32"} or case == "lora_mha":
                continue
            facts = self.inspect(
                os.path.join(cases, case, "adapter"), "--base", os.path.join(cases, case, "base.safetensors")
            )["adapter"]
            alone = {update["parameter"]: update["norm"] for update in facts["updates"]}
            for one in facts["changed"]:
                with self.subTest(case, tensor=one["tensor"]):
                    a, b = (support.decode(of[one["tensor"]][2], "F32") for of in (base, after))
                    expected = math.dist(a, b)
                    tolerance = 3e-6 * (1 + expected + math.hypot(*a))
                    self.assertAlmostEqual(one["norm"], expected, delta=tolerance)
                    if alone.get(one["tensor"]) is not None:
                        told.add(facts["family"])
                        self.assertAlmostEqual(alone[one["tensor"]], expected, delta=tolerance)
        self.assertLessEqual({"LoRA", "rsLoRA", "AdaLoRA", "LoHa", "LoKr"}, told)

    def test_other_makers(self):
        tensors = support.write_lora(self.path("L"), 3)
        expected = self.norms(tensors, 1)
        kohya = {}
        for name, tensor in tensors.items():
            module, factor = name[len("base_model.model."):-len(".weight")].rsplit(".", 1)
            ending = {"lora_A": ".lora_down.weight", "lora_B": ".lora_up.weight"}[factor]
            kohya["lora_te_" + module.replace(".", "_") + ending] = tensor
        support.write_safetensors(self.path("kohya.safetensors"), kohya)
        facts = self.inspect("kohya.safetensors")["adapter"]
        self.assertEqual(len(facts["updates"]), len(expected))
        for update, norm in zip(facts["updates"], (expected[name] for name in sorted(expected))):
            self.assertAlmostEqual(update["norm"], norm, places=9)
        mlx = self.inspect(os.path.join(GOLDEN, "mlx", "lora"))
        self.assertEqual(mlx["kind"], "adapter")
        self.assertTrue(all(update["norm"] > 0 for update in mlx["adapter"]["updates"]))

    def test_memory_and_threads_change_nothing(self):
        support.write_lora(self.path("L"), 3)
        whole = self.inspect("L")
        self.assertEqual(self.inspect("L", "--memory", "60MB", "-j", "1"), whole)
        self.assert_error(self.run_thorns("inspect", "L", "--memory", "1MB"), 1, "at least")


class Words(Inspect):
    @unittest.skipIf(os.environ.get("THORNS_SANITIZE"), "made once is enough")
    def test_the_demo_family(self):
        subprocess.run([sys.executable, DEMO, self.folder], check=True, stdout=subprocess.DEVNULL)
        for path, name in (("models/NousHermes", "model"), ("adapters/Janine", "adapter")):
            result = self.run_thorns("inspect", path)
            self.assert_code(result, 0)
            self.assertLessEqual(max(map(len, result.out.splitlines())), 100)
            with open(os.path.join(GOLDEN, "inspect", name + ".txt")) as file:
                self.assertEqual(result.out, file.read())

    def test_a_name_cannot_draw_on_the_terminal(self):
        self.model(lambda tensors: tensors.update({"\x1b[2Jx\n": ("F32", [1], b"\0" * 4)}))
        out = self.run_thorns("inspect", "A").out
        self.assertIn("?[2Jx?", out)
        self.assertNotIn("\x1b", out)

    def test_errors(self):
        os.mkdir(self.path("empty"))
        support.write_model(self.path("A"), 1)
        self.assert_error(self.run_thorns("inspect"), 2, "inspect needs a folder or file")
        self.assert_error(self.run_thorns("inspect", "none"), 1, "there is nothing at `none`")
        self.assert_error(self.run_thorns("inspect", "empty"), 1, "no weights in `empty`")
        self.assert_error(self.run_thorns("inspect", "A", "--base", "A"), 2, "`A` is none")
        for name in ("x.safetensors", "x.bin", "x.gguf", "x"):
            self.write(name, "")
            self.assert_error(self.run_thorns("inspect", name), 1, name)
            self.write(name, "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
            self.assert_error(self.run_thorns("inspect", name), 1, "Git-LFS pointer" if name != "x.gguf" else name)
        whole = self.path("A", "model.safetensors")
        os.truncate(whole, os.path.getsize(whole) - 1)
        self.assert_error(self.run_thorns("inspect", "A"), 1, "model.safetensors")

    def test_nothing_in_a_pickle_is_executed(self):
        evil = b"\x80\x02cos\nsystem\nX\x0a\x00\x00\x00touch owned\x85R."
        self.write("x.bin", "")
        with open(self.path("x.bin"), "wb") as file:
            file.write(b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19." + b"\x80\x02M\xe9\x03." + evil + evil)
        self.assert_error(self.run_thorns("inspect", "x.bin"), 1, "x.bin")
        self.assertFalse(os.path.exists(self.path("owned")))


if __name__ == "__main__":
    support.main()
