"""thorns check: findings on tiny models that are wrong in one way each."""

import json
import os
import shutil
import struct

import support


class Check(support.CliTest):
    def codes(self, result):
        return [finding["code"] for finding in result.json()["findings"]]

    def check(self, key, *options):
        return self.run_thorns("check", key, "--path", "models", "--path", "loras", *options)

    def edit(self, leaf, file, **fields):
        path = self.path("models", leaf, file)
        content = {}
        if os.path.exists(path):
            with open(path) as stream:
                content = json.load(stream)
        content.update(fields)
        with open(path, "w") as stream:
            json.dump(content, stream)

    def test_says_what_it_measured(self):
        self.family()
        result = self.check("{A[L]+B}", "--json")
        self.assert_code(result, 0)
        answer = result.json()
        self.assertEqual(answer["schema"], "thorns/check/1")
        self.assertEqual(answer["recipe"], "{A[L]+B}")
        self.assertEqual(answer["measured"], answer["tensors"])
        self.assertEqual(answer["folds"][0]["adapter"], "L")
        self.assertGreater(answer["folds"][0]["strength"], 0)
        self.assertEqual(answer["nodes"][0]["key"], "{A[L]+B}")
        self.assertEqual(sorted(os.listdir(self.folder)), ["loras", "models"])
        text = self.check("{A[L]+B}")
        self.assert_code(text, 0)
        self.assertIn("Adapters", text.out)
        self.assertIn("measured", text.out)

    def test_headers_and_samples_measure_less(self):
        self.family()
        headers = self.check("{A[L]+B}", "--headers", "--json").json()
        self.assertEqual((headers["measured"], headers["bytes_read"], headers["nodes"]), (0, 0, []))
        sample = self.check("{A[L]+B}", "--sample", "1", "--json").json()
        whole = self.check("{A[L]+B}", "--json").json()
        self.assertLess(0, sample["measured"])
        self.assertLess(sample["bytes_read"], whole["bytes_read"])

    def test_an_adapter_on_both_sides(self):
        self.family()
        result = self.check("{A[L]+B[L]}", "--json")
        self.assert_code(result, 0)
        found = [f for f in result.json()["findings"] if f["code"] == "adapter-repeated"]
        self.assertEqual(len(found), 1)
        self.assertEqual(found[0]["severity"], "warning")
        self.assertEqual(found[0]["where"]["adapter"], "L")
        self.assertEqual(found[0]["where"]["key_span"]["begin"], 8)
        self.assertEqual(found[0]["measured"]["ways"], 2)
        self.assertGreater(found[0]["measured"]["weight_at_root"], 0.99)
        self.assertIn("^", self.check("{A[L]+B[L]}").out)

    def test_the_same_adapter_under_two_names(self):
        self.family()
        shutil.copytree(self.path("loras", "L"), self.path("loras", "Copy"))
        codes = self.codes(self.check("{A[L]+B[Copy]}", "--headers", "--json"))
        self.assertIn("adapter-same-content", codes)
        self.assertIn("adapter-repeated", codes)

    def test_stacked_adapters(self):
        self.family()
        support.write_lora(self.path("loras", "K"), 9)
        self.assertIn("adapters-stacked", self.codes(self.check("{A[L+K]+B}", "--json")))
        self.assertNotIn("adapters-stacked", self.codes(self.check("{A[L]+B[K]}", "--json")))

    def test_the_same_model_twice(self):
        self.family()
        shutil.copytree(self.path("models", "A"), self.path("models", "Twin"))
        codes = self.codes(self.check("{A+Twin}", "--json"))
        self.assertIn("leaves-equal", codes)
        self.assertIn("slerp-averages", codes)

    def test_files_that_disagree(self):
        self.family()
        self.edit("A", "config.json", rope_theta=10000.0, eos_token_id=2)
        self.edit("B", "config.json", rope_theta=500000, eos_token_id=2)
        self.edit("A", "tokenizer.json", model={"vocab": {"a": 0, "b": 1}})
        self.edit("B", "tokenizer.json", model={"vocab": {"b": 0, "a": 1}})
        self.edit("A", "tokenizer_config.json", eos_token="</s>", chat_template="<|im_start|>")
        self.edit("B", "tokenizer_config.json", eos_token="<end>", chat_template="[INST]")
        result = self.check("{A+B}", "--headers", "--json")
        self.assert_code(result, 0)
        codes = self.codes(result)
        for code in ("tokenizers-differ", "special-tokens-differ", "prompt-formats-differ"):
            self.assertIn(code, codes)
        differing = [f["message"] for f in result.json()["findings"] if f["code"] == "config-differs"]
        self.assertEqual(len(differing), 1, differing)
        self.assertIn("`rope_theta` differs (10000 in A; 500000 in B)", differing[0])

    def test_files_that_say_the_same_in_other_words(self):
        self.family()
        self.edit("A", "config.json", rope_theta=10000.0, rope_scaling=None)
        self.edit("A", "tokenizer.json", model={"vocab": {"a": 0, "b": 1}})
        self.edit("B", "tokenizer.json", model={"vocab": {"b": 1, "a": 0}}, version="1.0")
        codes = self.codes(self.check("{A+B}", "--headers", "--json"))
        self.assertNotIn("config-differs", codes)
        self.assertNotIn("tokenizers-differ", codes)

    def test_an_adapter_of_another_model(self):
        self.family()
        path = self.path("loras", "L", "adapter_config.json")
        with open(path) as file:
            config = json.load(file)
        config["base_model_name_or_path"] = "somebody/b"
        with open(path, "w") as file:
            json.dump(config, file)
        found = [
            f
            for f in self.check("{A[L]+B}", "--headers", "--json").json()["findings"]
            if f["code"] == "adapter-base-differs"
        ]
        self.assertEqual([f["severity"] for f in found], ["warning"])
        self.assertNotIn(
            "adapter-base-differs", self.codes(self.check("{A+B[L]}", "--headers", "--json"))
        )

    def test_what_merge_would_refuse_is_an_error(self):
        self.family()
        shapes = support.llama_shapes(layers=1)
        tensors = {
            name: ("F32", shape, bytes(4 * support.product(shape)))
            for name, shape in shapes.items()
        }
        support.write_safetensors(self.path("models", "B", "model.safetensors"), tensors)
        result = self.check("{A+B}", "--json")
        self.assert_code(result, 1)
        first = result.json()["findings"][0]
        self.assertEqual((first["severity"], first["code"]), ("error", "refused-mismatch"))
        self.assert_code(self.check("{A+Nobody}"), 2)

    def test_damage_is_found_by_measuring(self):
        self.family()
        path = self.path("models", "B", "model.safetensors")
        tensors = support.read_safetensors(path)
        dtype, shape, data = tensors["model.norm.weight"]
        tensors["model.norm.weight"] = (dtype, shape, struct.pack("<f", float("nan")) + data[4:])
        support.write_safetensors(path, tensors)
        result = self.check("{A+B}", "--json")
        self.assert_code(result, 1)
        self.assertEqual(self.codes(result)[0], "refused-nonfinite")

    def test_suggests_a_key_that_check_agrees_with(self):
        self.family()
        support.write_lora(self.path("loras", "K"), 9)
        result = self.check("({A+B}[L+K])", "--suggest", "--json")
        self.assert_code(result, 0)
        found = result.json()["suggestion"]
        self.assertIn(found["key"], ("({A[L]+B[K]})", "({A[K]+B[L]})"))
        self.assertEqual(
            [(one["adapter"], one["model"]) for one in found["table"]],
            [(adapter, model) for adapter in "LK" for model in ("A", "B", "{A+B}")],
        )
        again = self.check(found["key"], "--suggest", "--json").json()
        self.assertNotIn("adapters-stacked", [one["code"] for one in again["findings"]])
        self.assertEqual(again["suggestion"]["key"], found["key"])
        by_adapter = {fold["adapter"]: fold for fold in again["folds"]}
        for one in found["chosen"]:
            fold = by_adapter[one["adapter"]]
            self.assertEqual(fold["model"], one["model"])
            self.assertAlmostEqual(fold["strength"], one["strength"], places=6)
        text = self.check("({A+B}[L+K])", "--suggest")
        self.assertIn("\n  %s\n" % found["key"], text.out)
        self.assertIn("no promise of quality", " ".join(text.out.split()))
        self.assertIsNone(self.check("({A+B}[L+K])", "--json").json()["suggestion"])

    def test_nothing_to_suggest(self):
        self.family()
        self.assert_error(self.check("{A+B}", "--suggest"), 2, "folds no adapter")
        self.assert_error(self.check("{A+B[L]}", "--suggest", "--headers"), 2, "measures nothing")


if __name__ == "__main__":
    support.main()
