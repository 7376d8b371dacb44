"""thorns verify: a finished folder, and every way of changing it."""

import json
import os
import shutil

import support


class Verify(support.CliTest):
    def setUp(self):
        super().setUp()
        options = self.family()
        self.assert_code(
            self.run_thorns("merge", "{A[L]+B}", *options, "--shard-size", "20kB", "-o", "out"), 0
        )
        self.shard = min(n for n in os.listdir(self.path("out")) if n.endswith(".safetensors"))

    def manifest(self, change):
        with open(self.path("out", "thorns.json")) as file:
            manifest = json.load(file)
        change(manifest)
        self.write("out/thorns.json", json.dumps(manifest))

    def problems(self):
        result = self.run_thorns("verify", "out", "--json")
        report = result.json()
        self.assertEqual(report["schema"], "thorns/verify/1")
        self.assert_code(result, 1 if report["problems"] else 0)
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

    def test_no_manifest(self):
        self.assert_error(self.run_thorns("verify", "models/A"), 1, "thorns.json")
        self.assert_error(self.run_thorns("verify"), 2, "verify needs a folder")


if __name__ == "__main__":
    support.main()
