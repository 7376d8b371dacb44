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

    def test_bad_usage(self):
        self.family()
        self.assert_error(self.run_thorns("diff", "models/A"), 2, "diff needs two models")
        self.assert_error(self.run_thorns("diff", "models/A", "models/none"), 1, "models/none")


if __name__ == "__main__":
    support.main()
