"""Repositories of the Hub in the local cache, by name."""

import json
import os
import shutil

import support

COMMIT = "0123456789abcdef" * 2 + "01234567"


class Cache(support.CliTest):
    def setUp(self):
        super().setUp()
        self.environment = support.clean_environment(HF_HOME="hf", HOME=self.folder)

    def thorns(self, *arguments):
        return self.run_thorns(*arguments, environment=self.environment)

    def cache(self, repository, source, revision="main"):
        """The folder `source` as the cache has it; files keep their names as blobs."""
        home = self.path("hf", "hub", "models--" + repository.replace("/", "--"))
        snapshot = os.path.join(home, "snapshots", COMMIT)
        for folder in (snapshot, os.path.join(home, "refs"), os.path.join(home, "blobs")):
            os.makedirs(folder)
        for name in os.listdir(self.path(source)):
            os.rename(self.path(source, name), os.path.join(home, "blobs", name))
            os.symlink("../../blobs/" + name, os.path.join(snapshot, name))
        with open(os.path.join(home, "refs", revision), "w") as file:
            file.write(COMMIT)
        return home

    def test_every_verb_finds_what_is_cached(self):
        self.family()
        shutil.copytree(self.path("models", "A"), self.path("copy"))
        self.cache("o/A", "copy")
        self.cache("o/L", os.path.join("loras", "L"), "v1")
        options = ["--path", "models", "-o", "out"]
        self.assert_code(self.thorns("merge", "{o/A+B}[o/L@v1]", *options), 0)
        with open(self.path("out", "README.md")) as card:
            self.assertIn("- o/A\n", card.read())
        with open(self.path("out", "thorns.json")) as manifest:
            inputs = json.load(manifest)
        self.assertEqual([leaf.get("commit") for leaf in inputs["leaves"]], [COMMIT, None])
        self.assertEqual(inputs["adapters"][0]["commit"], COMMIT)
        self.assert_code(self.thorns("verify", "out", "--path", "models"), 0)
        self.assert_code(self.thorns("merge", "{o/A+B}", "--path", "models", "-o", "plain"), 0)
        self.assert_code(self.thorns("merge", "{A+B}", "--path", "models", "-o", "folders"), 0)
        self.assertEqual(
            support.folder_bytes(self.path("plain")), support.folder_bytes(self.path("folders"))
        )
        self.assertIn("21 of 21 common tensors", self.thorns("diff", "o/A", "models/A").out)
        self.assert_code(self.thorns("diff", "models--o--A", "--blame", "{o/A+B}", "--path", "models"), 0)
        for repository in ("o/A", "o/L@v1"):
            result = self.thorns("inspect", repository, "--json")
            self.assert_code(result, 0)
            self.assertEqual(result.json()["path"], repository)
        self.assert_code(self.thorns("inspect", "o/L@v1", "--base", "o/A"), 0)
        self.assert_code(self.thorns("check", "N[M]", "-m", "N=o/A", "-a", "M=o/L@v1"), 0)
        self.cache("o/merged", "folders")
        self.assert_code(self.thorns("verify", "o/merged"), 0)
        self.assert_code(self.thorns("report", "o/merged"), 0)
        self.assertTrue(os.path.exists(self.path("merged.html")))

    def test_what_is_not_there_is_fetched_by_name(self):
        self.family()
        result = self.thorns("plan", "{o/A+B}", "--path", "models")
        self.assert_error(result, 1, "`o/A` is no folder here", "thorns fetch o/A")
        result = self.thorns("diff", "o/A@v1", "models/A")
        self.assert_error(result, 1, "not in the Hub cache", "thorns fetch o/A@v1")
        home = self.cache("o/A", os.path.join("models", "A"))
        os.remove(os.path.join(home, "blobs", "model.safetensors"))
        open(os.path.join(home, "blobs", "1.incomplete"), "w").close()
        result = self.thorns("plan", "o/A")
        self.assert_error(result, 1, "without model.safetensors; a download was interrupted",
                          "thorns fetch o/A")


if __name__ == "__main__":
    support.main()
