"""thorns verify: a finished folder, and every way of changing it."""

import hashlib
import json
import os
import re
import shutil
import struct

import support


class Verify(support.CliTest):
    def setUp(self):
        super().setUp()
        self.inputs = self.family()
        self.assert_code(
            self.run_thorns("merge", "{A[L]+B}", *self.inputs, "--shard-size", "2kB", "-o", "out"),
            0,
        )
        self.shard = min(n for n in os.listdir(self.path("out")) if n.endswith(".safetensors"))

    def manifest(self, change):
        with open(self.path("out", "thorns.json")) as file:
            manifest = json.load(file)
        change(manifest)
        self.write("out/thorns.json", json.dumps(manifest))

    def problems(self, *options, code=3):
        """`code` where there are any."""
        result = self.run_thorns("verify", "out", "--json", *options)
        report = result.json()
        self.assertEqual(report["schema"], "thorns/verify/1")
        self.assert_code(result, code if report["problems"] else 0)
        self.assertEqual(report["holds"], not report["problems"])
        return [(p["file"], p["tensor"], p["message"]) for p in report["problems"]]

    def test_as_written(self):
        self.assertEqual(self.problems(), [])
        result = self.run_thorns("verify", "out")
        self.assert_code(result, 0)
        self.assertIn("are as the merge wrote them", result.out)

    def test_every_file_is_missed(self):
        for name in sorted(os.listdir(self.path("out"))):
            os.rename(self.path("out", name), self.path("kept"))
            if name == "thorns.json":
                self.assert_error(self.run_thorns("verify", "out"), 1, "thorns.json")
            else:
                self.assertEqual(self.problems(), [(name, "", "is missing")])
            os.rename(self.path("kept"), self.path("out", name))

    def test_what_is_no_file(self):
        path = self.path("out", self.shard)
        os.rename(path, self.path("kept"))
        for make, message in (
            (os.mkfifo, "is no file"),
            (os.mkdir, "is no file"),
            (lambda place: os.symlink("nowhere", place), "is missing"),
        ):
            make(path)
            with self.subTest(message=message):
                for inputs in ([], self.inputs):
                    found = self.problems(*inputs, code=3)
                    self.assertEqual(found[0], (self.shard, "", message))
            os.rmdir(path) if os.path.isdir(path) else os.remove(path)

    def test_a_header_that_cannot_be_read(self):
        with open(self.path("out", self.shard), "r+b") as file:
            file.seek(8)
            file.write(b"?")
        self.assertIn("has other bytes", self.problems(*self.inputs, code=3)[0][2])
        with open(self.path("out", self.shard), "rb") as file:
            digest = hashlib.sha256(file.read()).hexdigest()

        def forge(manifest):
            for entry in manifest["files"]:
                if entry["name"] == self.shard:
                    entry["sha256"] = digest

        self.manifest(forge)
        for inputs in ([], self.inputs):
            self.assertIn("cannot be read", self.problems(*inputs, code=3)[0][2])

    def test_one_bit_of_every_file(self):
        for name in sorted(os.listdir(self.path("out"))):
            if name == "thorns.json":
                continue
            with open(self.path("out", name), "r+b") as file:
                data = file.read()
                file.seek(len(data) // 2)
                file.write(bytes([data[len(data) // 2] ^ 1]))
            ((file_name, tensor, message),) = self.problems()
            self.assertEqual((file_name, tensor), (name, ""))
            self.assertIn("has other bytes than were written", message)
            with open(self.path("out", name), "wb") as file:
                file.write(data)
        self.assertEqual(self.problems(), [])

    def test_size(self):
        with open(self.path("out", self.shard), "ab") as file:
            file.write(b"x")
        ((name, _, message),) = self.problems()
        self.assertEqual(name, self.shard)
        self.assertRegex(message, r"^has \d+ bytes; it was written with \d+$")

    def test_a_link_out_of_the_folder(self):
        shutil.move(self.path("out", self.shard), self.path("elsewhere"))
        os.symlink(self.path("elsewhere"), self.path("out", self.shard))
        self.assertEqual(
            self.problems(), [(self.shard, "", "is a link to a file outside of the folder")]
        )

    def test_links_beside_what_was_written(self):
        os.symlink("nowhere", self.path("out", "broken"))
        os.symlink("..", self.path("out", "above"))
        self.assertEqual(self.problems(), [])
        os.rename(self.path("out", "thorns.json"), self.path("elsewhere.json"))
        os.symlink("../elsewhere.json", self.path("out", "thorns.json"))
        for verb in ("verify", "report"):
            self.assert_error(self.run_thorns(verb, "out"), 1, "is a link to", "outside of its folder")

    def test_tensors(self):
        def rename(manifest):
            manifest["tensors"][0]["name"] = "another"

        self.manifest(rename)
        ((_, tensor, message),) = self.problems()
        self.assertEqual((tensor, message), ("another", "is not in the file"))

    def test_a_tensor_that_is_not_listed(self):
        self.manifest(lambda manifest: manifest["tensors"].pop())
        ((name, _, message),) = self.problems()
        self.assertEqual(name, "thorns.json")
        self.assertIn("its files hold", message)

    def test_more_files_are_no_problem(self):
        self.write("out/notes.txt", "mine")
        self.assertEqual(self.problems(), [])
        self.assertIn("notes.txt was not", self.run_thorns("verify", "out", "-v").out)

    def test_a_manifest_that_is_none(self):
        self.write("out/thorns.json", "[]")
        self.assert_error(self.run_thorns("verify", "out"), 1, "should be an object, found an array",
                          "no manifest of a merge")

    def test_no_manifest(self):
        self.assert_error(self.run_thorns("verify", "models/A"), 1, "thorns.json")
        self.assert_error(self.run_thorns("verify"), 2, "verify needs a folder")

    # ------------------------------------------------------------ against recipe and inputs

    def change_stored(self, name, element, value):
        """Changes an element of the output and the manifest with it, as a forger would."""
        with open(self.path("out", "thorns.json")) as file:
            (shard,) = {t["file"] for t in json.load(file)["tensors"] if t["name"] == name}
        with open(self.path("out", shard), "r+b") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            begin = 8 + size + json.loads(file.read(size))[name]["data_offsets"][0]
            file.seek(begin + 4 * element)
            (before,) = struct.unpack("<f", file.read(4))
            file.seek(begin + 4 * element)
            file.write(struct.pack("<f", value))
            file.seek(0)
            digest = hashlib.sha256(file.read()).hexdigest()

        def forge(manifest):
            for entry in manifest["files"]:
                if entry["name"] == shard:
                    entry["sha256"] = digest

        self.manifest(forge)
        return shard, before

    def test_made_again(self):
        result = self.run_thorns("verify", "out", *self.inputs, "--json")
        self.assert_code(result, 0)
        report = result.json()
        self.assertEqual((report["problems"], report["remade"]), ([], report["tensors"]))
        self.assertIn("not a byte differs", self.run_thorns("verify", "out", *self.inputs).out)

    def test_a_sample(self):
        for count, remade in ((1, 1), (5, 5), (1000, 21)):
            result = self.run_thorns(
                "verify", "out", *self.inputs, "--sample", str(count), "--json"
            )
            self.assert_code(result, 0)
            self.assertEqual(result.json()["remade"], remade)

    def test_names_on_the_path_of_the_environment(self):
        paths = self.path("models") + ":" + self.path("loras")
        environment = support.clean_environment(THORNS_PATH=paths)
        arguments = ("verify", "out", "--json")
        plain = self.run_thorns(*arguments, environment=environment)
        self.assertEqual(plain.json()["remade"], 0)
        again = self.run_thorns(*arguments, "--recompute", environment=environment)
        self.assert_code(again, 0)
        self.assertEqual(again.json()["remade"], 21)

    def test_options_of_the_command_line_are_in_the_manifest(self):
        options = ["--dtype", "float16", "--shard-size", "1kB", "--vocabulary", "strict"]
        self.assert_code(
            self.run_thorns("merge", "{A+B}", *self.inputs, *options, "--force", "-o", "out"), 0
        )
        self.assertEqual(self.problems(*self.inputs), [])

    def test_the_first_difference_has_its_element_and_both_values(self):
        name = "model.layers.1.mlp.up_proj.weight"
        shard, before = self.change_stored(name, 37, 3.5)
        self.assertEqual(self.problems(), [])  # files and manifest agree
        result = self.run_thorns("verify", "out", *self.inputs, "--json")
        self.assert_code(result, 5)
        (problem,) = result.json()["problems"]
        self.assertEqual(
            (problem["check"], problem["file"], problem["tensor"], problem["element"]),
            ("tensors", shard, name, 37),
        )
        self.assertIn("has 3.5 as element 37; the recipe makes", problem["message"])
        made = float(re.search(r"the recipe makes (\S+) ", problem["message"])[1])
        self.assertAlmostEqual(made, before, 6)
        self.assertIn("(1 of 21 tensors differ)", problem["message"])

    def test_a_damaged_file_is_named_first(self):
        with open(self.path("out", self.shard), "r+b") as file:
            file.seek(-3, os.SEEK_END)
            byte = file.read(1)[0]
            file.seek(-3, os.SEEK_END)
            file.write(bytes([byte ^ 64]))
        found = self.problems(*self.inputs, code=3)
        self.assertEqual(len(found), 2)
        self.assertIn("has other bytes", found[0][2])
        self.assertIn("the recipe makes", found[1][2])

    def test_inputs_that_have_changed(self):
        weights = self.path("models", "A", "model.safetensors")
        with open(weights, "rb") as file:
            data = file.read()
        with open(weights, "wb") as file:  # a number
            file.write(data[:-1] + bytes([data[-1] ^ 1]))
        found = self.problems(*self.inputs, code=4)
        self.assertIn("other numbers", found[0][2])
        self.assertIn("the recipe makes", found[-1][2])
        (size,) = struct.unpack("<Q", data[:8])
        with open(weights, "wb") as file:  # the header is longer by 8 blanks
            file.write(struct.pack("<Q", size + 8) + data[8 : 8 + size] + b" " * 8 + data[8 + size :])
        ((_, _, message),) = self.problems(*self.inputs, code=4)
        self.assertRegex(message, r"`model.safetensors` of `A` had \d+ bytes and has \d+ now")
        shutil.rmtree(self.path("models", "A"))
        support.write_model(self.path("models", "A"), 1, change=lambda t: t.pop("model.norm.weight"))
        ((_, _, message),) = self.problems(*self.inputs, code=4)
        self.assertIn("a recipe that cannot be made any more", message)
        shutil.rmtree(self.path("models", "A"))
        self.assert_error(self.run_thorns("verify", "out", *self.inputs), 2, "unknown model `A`")

    def test_another_recipe(self):
        def change(manifest):
            manifest["recipe"]["key"] = "{A+B}"

        self.manifest(change)
        ((name, _, message),) = self.problems(code=4)
        self.assertEqual(name, "thorns.json")
        self.assertEqual(message, "lists the adapter `L`, which its key does not name")
        self.assertIn(
            ("thorns.json", "", "lists the adapters L; the recipe names none"),
            self.problems(*self.inputs, code=4),
        )

    def test_a_configuration_that_was_changed_with_its_hash(self):
        with open(self.path("out", "config.json")) as file:
            text = file.read().replace('"llama"', '"llamb"')
        self.write("out/config.json", text)

        def forge(manifest):
            for entry in manifest["files"]:
                if entry["name"] == "config.json":
                    entry["sha256"] = hashlib.sha256(text.encode()).hexdigest()

        self.manifest(forge)
        self.assertEqual(self.problems(), [])
        self.assertEqual(
            self.problems(*self.inputs, code=4),
            [("config.json", "", "is not the configuration that the recipe makes")],
        )

    def test_a_key_that_cannot_be_read(self):
        def change(manifest):
            manifest["recipe"]["key"] = "{A[L]+B"

        self.manifest(change)
        self.assertIn("a key that cannot be read", self.problems(code=4)[0][2])

    def test_every_number_of_a_tensor(self):
        def change(manifest):
            manifest["tensors"][3]["sources"][0]["coefficient"] += 1e-9

        self.manifest(change)
        self.assertEqual(self.problems(), [])
        ((_, _, message),) = self.problems(*self.inputs, code=4)
        self.assertIn("other numbers", message)

    def test_the_memory_ceiling_holds(self):
        result = self.run_thorns("verify", "out", *self.inputs, "--memory", "1MB")
        self.assert_error(result, 1, "this merge needs at least")


if __name__ == "__main__":
    support.main()
