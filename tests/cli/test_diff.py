"""thorns diff: known differences between tiny models."""

import math
import shutil
import struct

import support


class Diff(support.CliTest):
    def edit(self, change):
        path = self.path("models", "B", "model.safetensors")
        tensors = support.read_safetensors(path)
        change(tensors)
        support.write_safetensors(path, tensors)

    def twins(self):
        self.family()
        shutil.rmtree(self.path("models", "B"))
        shutil.copytree(self.path("models", "A"), self.path("models", "B"))

    def diff(self):
        result = self.run_thorns("diff", "models/A", "models/B", "--json")
        self.assert_code(result, 0)
        return result.json()

    def test_equal_models(self):
        self.twins()
        answer = self.diff()
        self.assertEqual(answer["schema"], "thorns/diff/1")
        self.assertEqual(answer["equal"], len(answer["tensors"]))
        self.assertTrue(all(t["same_bytes"] and t["angle"] == 0 for t in answer["tensors"]))

    def test_measures_what_was_changed(self):
        self.twins()
        name = "model.norm.weight"

        def change(tensors):
            dtype, shape, data = tensors[name]
            values = support.decode(data, dtype)
            values[0] += 3
            values[1] -= 4
            tensors[name] = (dtype, shape, support.encode(values, dtype))

        before = support.read_safetensors(self.path("models", "A", "model.safetensors"))[name]
        a = support.decode(before[2], before[0])
        self.edit(change)
        b = [a[0] + 3, a[1] - 4] + a[2:]
        answer = self.diff()
        self.assertEqual(answer["equal"], len(answer["tensors"]) - 1)
        (found,) = [t for t in answer["tensors"] if t["differing"]]
        self.assertEqual((found["tensor"], found["differing"], found["largest"]), (name, 2, 4))
        self.assertAlmostEqual(found["distance"], 5)
        norms = math.hypot(*a) * math.hypot(*b)
        self.assertAlmostEqual(math.cos(found["angle"]), sum(map(lambda x, y: x * y, a, b)) / norms)
        self.assertAlmostEqual(found["relative"], 5 / math.hypot(*a))
        self.assertIn(name, self.run_thorns("diff", "models/A", "models/B").out)

    def test_names_and_shapes(self):
        self.twins()

        def change(tensors):
            tensors["extra"] = tensors.pop("lm_head.weight")
            dtype, shape, data = tensors["model.norm.weight"]
            tensors["model.norm.weight"] = (dtype, [1] + shape, data)

        self.edit(change)
        answer = self.diff()
        self.assertEqual((answer["only_a"], answer["only_b"]), (["lm_head.weight"], ["extra"]))
        self.assertEqual(len(answer["reshaped"]), 1)

    def test_nan_is_a_difference(self):
        self.twins()

        def change(tensors):
            dtype, shape, data = tensors["model.norm.weight"]
            tensors["model.norm.weight"] = (dtype, shape, struct.pack("<f", math.nan) + data[4:])

        self.edit(change)
        answer = self.diff()
        self.assertEqual([t["differing"] for t in answer["tensors"] if t["differing"]], [1])

    def test_layers_and_modules_add_up(self):
        self.family()
        answer = self.diff()
        layers = {group["name"]: group for group in answer["layers"]}
        self.assertEqual(answer["layers"][0]["name"], "before the layers")
        self.assertEqual(answer["layers"][-1]["name"], "after the layers")
        tensors = [t for t in answer["tensors"] if ".layers.1." in t["tensor"]]
        layer = layers["layer 1"]
        self.assertEqual(layer["tensors"], len(tensors))
        self.assertEqual(layer["differing"], sum(t["differing"] for t in tensors))
        self.assertAlmostEqual(layer["distance"], math.hypot(*(t["distance"] for t in tensors)))
        norm = math.hypot(*(t["norm_a"] for t in tensors))
        self.assertAlmostEqual(layer["relative"], layer["distance"] / norm)
        product = sum(t["norm_a"] * t["norm_b"] * math.cos(t["angle"]) for t in tensors)
        norms = norm * math.hypot(*(t["norm_b"] for t in tensors))
        self.assertAlmostEqual(math.cos(layer["angle"]), product / norms)
        modules = {group["name"]: group["tensors"] for group in answer["modules"]}
        self.assertEqual(modules["model.layers.*.mlp.up_proj.weight"], len(layers) - 2)
        self.assertEqual(sum(modules.values()), len(answer["tensors"]))
        text = self.run_thorns("diff", "models/A", "models/B").out
        self.assertIn("layer 1", text)
        self.assertIn("model.layers.*.mlp.up_proj.weight", text)

    def test_the_ceiling_is_kept_or_refused(self):
        self.family()
        few = self.run_thorns("diff", "models/A", "models/B", "--memory", "40MB", "--json")
        self.assert_code(few, 0)
        self.assertEqual(few.json()["tensors"], self.diff()["tensors"])
        self.assert_error(
            self.run_thorns("diff", "models/A", "models/B", "--memory", "20MB"), 1, "at least"
        )

    def test_bad_usage(self):
        self.family()
        self.assert_error(
            self.run_thorns("diff", "models/A", "models/B", "--blame", "{A+B}"), 2, "excludes"
        )
        self.assert_error(self.run_thorns("diff", "models/A"), 2, "diff needs two models")
        self.assert_error(self.run_thorns("diff", "models/A", "models/none"), 1, "models/none")


class Blame(support.CliTest):
    paths = ("--path", "models", "--path", "loras")

    def blame(self, key, recipe, *options):
        self.assert_code(
            self.run_thorns("merge", key, *self.paths, "-o", "merge", *options), 0
        )
        result = self.run_thorns("diff", "merge", "--blame", recipe, *self.paths, "--json")
        self.assert_code(result, 0)
        return result.json()

    def test_finds_the_weights_of_a_merge(self):
        self.family()
        support.write_lora(self.path("loras", "K"), 9)
        answer = self.blame("{A+3*B[0.5*L];linear}", "{A[K]+B[L]}", "--dtype", "float32")
        self.assertEqual(answer["schema"], "thorns/blame/1")
        self.assertEqual(answer["candidates"], ["A", "B", "K", "L"])
        self.assertEqual(answer["models"], 2)
        for found, expected in zip(answer["whole"]["coefficients"], [0.25, 0.75, 0, 0.375]):
            self.assertAlmostEqual(found, expected, places=4)
        self.assertLess(answer["whole"]["residual"], 1e-5)
        self.assertEqual({one["best"] for one in answer["tensors"]}, {"B"})
        text = self.run_thorns("diff", "merge", "--blame", "{A[K]+B[L]}", *self.paths).out
        self.assertRegex(text, r"0\.7500 +\d+ +B\n")
        self.assertIn("is left unexplained", text)

    def test_says_what_no_model_explains(self):
        self.family()
        support.write_model(self.path("models", "C"), 5, "F32")
        answer = self.blame("{A+B}", "{A+C}", "--dtype", "float32")
        self.assertGreater(answer["whole"]["residual"], 0.1)
        worst = max(answer["tensors"], key=lambda one: one["residual"])["tensor"]
        text = self.run_thorns("diff", "merge", "--blame", "{A+C}", *self.paths).out
        self.assertIn(worst.split(".")[-2], text.split("weights\n")[1].splitlines()[0])

    def test_two_names_of_one_model_share_its_weight(self):
        self.family()
        shutil.copytree(self.path("models", "A"), self.path("models", "Twin"))
        whole = self.blame("{A+B;linear}", "{{A+Twin}+B}", "--dtype", "float32")["whole"]
        for found, expected in zip(whole["coefficients"], [0.25, 0.25, 0.5]):
            self.assertAlmostEqual(found, expected, places=4)

    def test_models_of_another_shape_are_refused(self):
        self.family()
        shapes = support.llama_shapes(layers=1)
        tensors = {
            name: ("F32", shape, bytes(4 * support.product(shape)))
            for name, shape in shapes.items()
        }
        support.write_safetensors(self.path("models", "B", "model.safetensors"), tensors)
        result = self.run_thorns("diff", "models/A", "--blame", "{B}", "--path", "models")
        self.assert_code(result, 1)


if __name__ == "__main__":
    support.main()
