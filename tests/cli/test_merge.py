"""Whole merges of tiny models: what is written, what is said, and what is refused."""

import json
import os
import resource
import signal
import subprocess
import time
import unittest

import support


class Merge(support.CliTest):
    def test_equal_models_give_themselves(self):
        tensors = support.write_model(self.path("A"), 1)
        support.write_model(self.path("B"), 1)
        result = self.run_thorns("merge", "{A+B}", "-m", "A=A", "-m", "B=B", "-o", "out")
        self.assert_code(result, 0)
        written = support.read_safetensors(self.path("out", "model.safetensors"))
        self.assertEqual(written, tensors)
        config = json.load(open(self.path("out", "config.json")))
        self.assertEqual(config["model_type"], "llama")

    def test_adapter_is_folded(self):
        options = self.family()
        result = self.run_thorns("merge", "A[0.5*L]", "-o", "out", *options)
        self.assert_code(result, 0)
        name = "model.layers.1.self_attn.v_proj"
        base = support.read_safetensors(self.path("models", "A", "model.safetensors"))
        lora = support.read_safetensors(self.path("loras", "L", "adapter_model.safetensors"))
        written = support.read_safetensors(self.path("out", "model.safetensors"))

        def values(tensors, key):
            dtype, _, data = tensors[key]
            return support.decode(data, dtype)

        weight = values(base, name + ".weight")
        first = values(lora, "base_model.model.%s.lora_A.weight" % name)
        second = values(lora, "base_model.model.%s.lora_B.weight" % name)
        size, rank = support.HIDDEN, 2
        scale = 0.5 * 4 / 2
        for row in range(size):
            for column in range(size):
                update = sum(
                    second[row * rank + k] * first[k * size + column] for k in range(rank)
                )
                self.assertAlmostEqual(
                    values(written, name + ".weight")[row * size + column],
                    weight[row * size + column] + scale * update,
                    places=5,
                )
        untouched = "model.layers.1.mlp.up_proj.weight"
        self.assertEqual(written[untouched], base[untouched])

    def test_a_key_map_names_the_modules_of_the_model(self):
        options = self.family()
        self.assert_code(self.run_thorns("merge", "A[L]", "-o", "plain", *options), 0)
        renamed = {}
        for name, tensor in support.read_safetensors(
            self.path("loras", "L", "adapter_model.safetensors")
        ).items():
            renamed[name.replace("model.layers.", "net.blocks.")] = tensor
        support.write_safetensors(self.path("loras", "L", "adapter_model.safetensors"), renamed)
        lost = self.run_thorns("merge", "A[L]", "-o", "lost", *options)
        self.assert_code(lost, 1)
        self.assertIn("--key-map", lost.err)

        self.write("names.yaml", "net.blocks: model.layers\n")
        mapped = self.run_thorns(
            "merge", "A[L]", "-o", "mapped", "--key-map", "L=names.yaml", *options
        )
        self.assert_code(mapped, 0)
        self.assertEqual(
            support.folder_bytes(self.path("mapped")), support.folder_bytes(self.path("plain"))
        )
        manifest = json.load(open(self.path("mapped", "thorns.json")))
        self.assertEqual(manifest["adapters"][0]["key_map"], {"net.blocks": "model.layers"})
        card = open(self.path("mapped", "README.md")).read()
        self.assertIn("--key-map L=names.yaml", card)
        for verb in ("plan", "check"):
            self.assert_code(
                self.run_thorns(verb, "A[L]", "--key-map", "names.yaml", *options), 0
            )

    def test_key_recipe_and_standard_input_give_the_same_bytes(self):
        options = self.family("BF16")
        key = "{A[L]+B; t=0.25}"
        recipe = 'models:\n  A: models/A\n  B: models/B\nadapters:\n  L: loras/L\nkey: "%s"\n' % key
        self.write("recipe.yaml", recipe)
        self.assert_code(self.run_thorns("merge", key, "-o", "by-key", *options), 0)
        self.assert_code(self.run_thorns("merge", "recipe.yaml", "-o", "by-file"), 0)
        absolute = recipe.replace("models/", self.path("models/")).replace(
            "loras/", self.path("loras/")
        )
        self.assert_code(self.run_thorns("merge", "-", "-o", "by-input", stdin=absolute), 0)
        self.assert_code(
            self.run_thorns("merge", "-", "-o", "by-input-key", *options, stdin=key + "\n"), 0
        )
        expected = support.folder_bytes(self.path("by-key"))
        self.assertIn("model.safetensors", expected)
        for name in ("by-file", "by-input", "by-input-key"):
            self.assertEqual(support.folder_bytes(self.path(name)), expected, name)

    def test_thorns_path_comes_last(self):
        self.family()
        support.write_model(self.path("other", "A"), 9)
        environment = support.clean_environment(THORNS_PATH="models:loras")
        self.assert_code(
            self.run_thorns("merge", "A[L]", "-o", "one", environment=environment), 0
        )
        self.assert_code(
            self.run_thorns("merge", "A", "-o", "two", "--path", "other", environment=environment),
            0,
        )
        written = support.read_safetensors(self.path("two", "model.safetensors"))
        source = support.read_safetensors(self.path("other", "A", "model.safetensors"))
        self.assertEqual(written, source)

    def test_dtype_and_shards(self):
        options = self.family()
        result = self.run_thorns(
            "merge", "{A+B}", "-o", "out", "--dtype", "float16", "--shard-size", "1kB", *options
        )
        self.assert_code(result, 0)
        index = json.load(open(self.path("out", "model.safetensors.index.json")))
        files = set(index["weight_map"].values())
        self.assertGreater(len(files), 1)
        tensors = {}
        for name in files:
            tensors.update(support.read_safetensors(self.path("out", name)))
        self.assertEqual(set(tensors), set(support.llama_shapes()))
        self.assertEqual({dtype for dtype, _, _ in tensors.values()}, {"F16"})

    def test_closed_streams_do_not_end_up_in_the_model(self):
        options = " ".join(self.family())
        self.assert_code(self.run_shell("$THORNS merge '{A+B}' -o one %s" % options), 0)
        result = self.run_shell("$THORNS merge '{A+B}' -o two %s <&- >&- 2>&-" % options)
        self.assert_code(result, 0)
        self.assertEqual(
            support.folder_bytes(self.path("two")), support.folder_bytes(self.path("one"))
        )


class Words(support.CliTest):
    def test_talk_goes_to_standard_error(self):
        result = self.run_thorns("merge", "{A[L]+B}", "-o", "out", *self.family())
        self.assert_code(result, 0)
        self.assertEqual(result.out, "")
        self.assertNotIn("\x1b", result.err)
        self.assertNotIn("\r", result.err)
        lines = result.err.splitlines()
        self.assertRegex(
            lines[0], r"^out from 2 models, 1 adapter: .* in, .* out, .* memory$", str(result)
        )
        for label in ("tensors ", "read ", "written ", "memory ", "time ", "folder ", "next "):
            self.assertTrue(any(line.startswith(label) for line in lines), label)
        self.assertLessEqual(len(lines), 40)
        self.assertLessEqual(max(map(len, lines)), 80)

    def test_quiet_says_nothing(self):
        result = self.run_thorns("merge", "{A+B}", "-q", "-o", "out", *self.family())
        self.assert_code(result, 0)
        self.assertEqual(result.out + result.err, "")

    def test_json_is_one_document(self):
        result = self.run_thorns("merge", "{A[L]+B}", "--json", "-o", "out", *self.family())
        self.assert_code(result, 0)
        document = result.json()
        self.assertEqual(document["schema"], "thorns/merge/1")
        self.assertEqual(document["output"], "out")
        self.assertEqual(document["plan"]["tensors"], len(support.llama_shapes()))
        self.assertEqual(document["nonfinite"], 0)
        self.assertEqual(len(document["nodes"]), 1)
        self.assertEqual(document["nodes"][0]["method"], "slerp")
        smallest = document["nodes"][0]["smallest"]["radians"]
        largest = document["nodes"][0]["largest"]["radians"]
        self.assertTrue(0 <= smallest <= largest <= 3.1416)
        self.assertNotIn("{\n", result.err)

    def test_json_to_a_full_device_fails_after_the_merge(self):
        options = " ".join(self.family())
        result = self.run_shell("$THORNS merge '{A+B}' --json -o out %s >/dev/full" % options)
        self.assert_error(result, 1, "standard output cannot be written")
        self.assertTrue(os.path.exists(self.path("out", "model.safetensors")))

    def test_a_model_card_of_ones_own(self):
        self.family()
        for name, config in (("A", {}), ("B", {"chat_template": "{{ messages }}"})):
            with open(self.path("models", name, "tokenizer_config.json"), "w") as file:
                json.dump(config, file)
        self.write("card.md", "# {{title}}\n{{prompt_name}}\n{{#warning}}\n!\n{{/warning}}\n{{version}}\n")
        recipe = self.write("recipe.yaml", 'name: Mine\nkey: "{A+B}"\nprompt: alpaca\n')
        options = ("--path", "models", "--card", "card.md")
        self.assert_code(self.run_thorns("merge", recipe, *options, "-o", "out"), 0)
        with open(self.path("out", "README.md")) as file:
            self.assertRegex(file.read(), r"^# Mine\nalpaca\n\d+\.\d+\.\d+\n$")
        with open(self.path("out", "chat_template.jinja")) as file:
            self.assertIn("### Instruction:", file.read())
        self.assert_code(self.run_thorns("verify", "out"), 0)
        # A tokenizer that has a template keeps it.
        options += ("--tokenizer", "B")
        self.assert_code(self.run_thorns("merge", recipe, *options, "-o", "other"), 0)
        self.assertFalse(os.path.exists(self.path("other", "chat_template.jinja")))
        self.write("card.md", "# {{titel}}\n")
        result = self.run_thorns("merge", recipe, *options, "-o", "third")
        self.assert_error(result, 2, "no field `titel`")
        self.assertIn("card.md", result.err)
        self.assertFalse(os.path.exists(self.path("third")))
        result = self.run_thorns("merge", recipe, "--path", "models", "--card", "none", "-o", "x")
        self.assert_error(result, 1, "none")


class Plan(support.CliTest):
    def test_plan_writes_nothing(self):
        options = self.family()
        before = sorted(os.listdir(self.folder))
        result = self.run_thorns("plan", "{A[L]+B}", "-o", "out", *options)
        self.assert_code(result, 0)
        self.assertEqual(sorted(os.listdir(self.folder)), before)
        for label in ("Models", "Adapters", "tensors ", "read ", "write ", "memory ", "disk "):
            self.assertIn("\n" + label, result.out)
        self.assertLessEqual(len(result.out.splitlines()), 40)

    def test_plan_agrees_with_merge(self):
        options = self.family()
        plan = self.run_thorns("plan", "{A[L]+B}", "--json", "-o", "out", *options).json()
        self.assertEqual(plan["schema"], "thorns/plan/1")
        self.assertEqual(plan["problems"], [])
        merge = self.run_thorns("merge", "{A[L]+B}", "--json", "-o", "out", *options).json()
        for field in ("key", "tensors", "merged", "copied", "bytes_in", "bytes_out", "shards"):
            self.assertEqual(plan[field], merge["plan"][field], field)

    def test_plan_says_when_computing_takes_longest(self):
        def write_sparse(path, shapes):
            header, end = {}, 0
            for name, shape in shapes.items():
                begin, end = end, end + 2 * shape[0] * shape[1]
                header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
            text = json.dumps(header).encode()
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(len(text).to_bytes(8, "little") + text)
                file.truncate(8 + len(text) + end)

        module = "model.layers.0.mlp.up_proj"
        write_sparse(self.path("M", "model.safetensors"), {module + ".weight": [8192, 8192]})
        self.write("M/config.json", '{"model_type": "llama"}')
        for rank in (16, 1024):
            folder = "rank-%d" % rank
            write_sparse(self.path(folder, "adapter_model.safetensors"),
                         {"base_model.model.%s.lora_A.weight" % module: [rank, 8192],
                          "base_model.model.%s.lora_B.weight" % module: [8192, rank]})
            self.write(folder + "/adapter_config.json",
                       '{"peft_type": "LORA", "r": %d, "lora_alpha": 1}' % rank)
        said = "computing takes longer than reading and writing"
        result = self.run_thorns("plan", "M[rank-1024]", "-j", "2")
        self.assert_code(result, 0)
        text = " ".join((result.out + result.err).split())
        self.assertIn(said, text)
        self.assertIn("about 3 s on 2 threads", text)
        self.assertIn("`rank-1024` has rank 1024", text)
        result = self.run_thorns("plan", "M[rank-16]")
        self.assertNotIn(said, " ".join((result.out + result.err).split()))

    def test_plan_lists_all_problems(self):
        options = self.family()

        def widen(tensors):
            name = "model.layers.0.mlp.up_proj.weight"
            tensors[name] = ("F32", [4, 4], b"\0" * 64)

        support.write_model(self.path("models", "C"), 5, change=widen)
        support.write_lora(self.path("loras", "M"), 6, modules=("self_attn.x_proj",))
        result = self.run_thorns("plan", "{C+B[M]}", "-o", "out", *options)
        self.assertIn(result.code, (1, 2), str(result))
        self.assertGreaterEqual(result.err.count("thorns: error: "), 2, str(result))
        document = self.run_thorns("plan", "{C+B[M]}", "--json", "-o", "out", *options).json()
        self.assertGreaterEqual(len(document["problems"]), 2)

    def test_plan_lists_names_that_lead_nowhere_beside_what_cannot_be_read(self):
        options = self.family()
        os.mkdir(self.path("models", "Empty"))
        with open(self.path("models", "Empty", "config.json"), "w") as config:
            config.write("{")
        result = self.run_thorns("plan", "{{Nowhere+Empty}+A[Gone]}", *options)
        self.assertEqual(result.code, 2, str(result))
        for what in ("unknown model `Nowhere`", "unknown adapter `Gone`", "config.json"):
            self.assertIn(what, result.err)
        self.assertEqual(result.err.count("thorns: error: "), 3, str(result))

    def test_explain(self):
        options = self.family()
        name = "model.layers.0.self_attn.q_proj.weight"
        result = self.run_thorns("plan", "{A[L]+B}", "--explain", name, *options)
        self.assert_code(result, 0)
        self.assertIn(name, result.out)
        self.assertIn("A", result.out)
        wrong = self.run_thorns("plan", "{A+B}", "--explain", name[:-1], *options)
        self.assert_error(wrong, 1, "did you mean")


class Refusals(support.CliTest):
    def test_unknown_model_has_a_caret(self):
        result = self.run_thorns(
            "merge", "{A+Bb}", *self.family(), "-o", "out", "--json"
        )
        self.assertEqual(result.code, 2, str(result))
        self.assertIn("  {A+Bb}\n     ^", result.err)
        self.assertIn("hint: ", result.err)
        self.assertEqual(result.json()["where"]["key_span"]["begin"], 3)
        self.assert_no_output()

    def test_output_folder_that_exists(self):
        options = self.family()
        os.mkdir(self.path("out"))
        self.write("out/precious.txt", "keep")
        result = self.run_thorns("merge", "{A+B}", "-o", "out", "--json", *options)
        self.assert_error(result, 1, "out")
        self.assertEqual(result.json()["code"], "exists")
        self.assertEqual(os.listdir(self.path("out")), ["precious.txt"])

    def test_force_replaces_a_finished_folder(self):
        options = self.family()
        self.assert_code(self.run_thorns("merge", "A", "-o", "out", *options), 0)
        self.assertEqual(self.run_thorns("merge", "B", "-o", "out", *options).code, 1)
        self.assert_code(self.run_thorns("merge", "B", "-o", "out", "--force", *options), 0)
        self.assertEqual(
            support.read_safetensors(self.path("out", "model.safetensors")),
            support.read_safetensors(self.path("models", "B", "model.safetensors")),
        )

    def test_target_that_cannot_be_written(self):
        options = self.family()
        self.write("file", "")
        # Neither can be made by anybody, root included.
        for target in ("file/out", "/proc/thorns-out"):
            with self.subTest(target=target):
                result = self.run_thorns("merge", "{A+B}", "-o", target, *options)
                self.assert_error(result, 1)
                self.assertFalse(os.path.lexists(os.path.join(self.folder, target)))

    def test_missing_parent_folder(self):
        result = self.run_thorns("merge", "{A+B}", "-o", "no/such/out", *self.family())
        self.assert_error(result, 1, "no/such")

    def test_nonfinite_stops_unless_allowed(self):
        def spoil(tensors):
            dtype, shape, data = tensors["model.norm.weight"]
            tensors["model.norm.weight"] = (dtype, shape, b"\x00\x00\xc0\x7f" + data[4:])

        options = self.family()
        support.write_model(self.path("models", "N"), 4, change=spoil)
        result = self.run_thorns("merge", "{A+N}", "-o", "out", *options)
        self.assert_error(result, 1, "model.norm.weight", "allow-nonfinite")
        self.assert_no_output()
        result = self.run_thorns(
            "merge", "{A+N}", "-o", "out", "--allow-nonfinite", "--json", *options
        )
        self.assert_code(result, 0)
        self.assertGreater(result.json()["nonfinite"], 0)

    def test_memory_that_does_not_suffice(self):
        result = self.run_thorns("merge", "{A+B}", "-o", "out", "--memory", "1kB", *self.family())
        self.assert_error(result, 1, "hint: ")
        self.assert_no_output()

    def test_input_on_standard_input_is_limited(self):
        result = self.run_thorns("merge", "-", "-o", "out", stdin="#" * (2**20 + 1))
        self.assert_error(result, 2, "1048576 bytes")


class Disk(support.CliTest):
    def check_full(self, target, options, prepare=None):
        result = self.run_thorns("merge", "{A+B}", "-o", target, *options, prepare=prepare)
        self.assert_error(result, 1)
        self.assertFalse(os.path.lexists(os.path.join(self.folder, target)))

    def large_family(self):
        for name in ("A", "B"):
            support.write_large_model(self.path("models", name), 20)
        return ["--path", "models"]

    def test_file_size_limit(self):
        limit = 5_000_000

        def prepare():
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        self.check_full("out", self.large_family(), prepare)

    @unittest.skipUnless(os.geteuid() == 0, "mounting needs root; the test above does not")
    def test_small_disk(self):
        options = self.large_family()
        os.mkdir(self.path("small"))
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=5m", "tmpfs", self.path("small")],
            stderr=subprocess.PIPE,
        )
        if mounted.returncode != 0:
            self.skipTest("no tmpfs can be mounted; test_file_size_limit covers a failing write")
        self.addCleanup(subprocess.run, ["umount", self.path("small")])
        self.check_full("small/out", options)
        self.assertEqual(os.listdir(self.path("small")), [])


class Interrupted(support.CliTest):
    def interrupt(self, megabytes, number):
        """Sends the signal as soon as the first line is out. None where the merge was faster."""
        for name in ("A", "B"):
            support.write_large_model(self.path(str(megabytes), name), megabytes)
        process = subprocess.Popen(
            [self.binary, "merge", "{A+B}", "--path", str(megabytes), "-o", "out", "-j", "1"],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=support.clean_environment(),
            preexec_fn=support.default_signals,
        )
        self.addCleanup(process.kill)
        first = process.stderr.readline().decode()
        self.assertIn("out from 2 models", first)
        process.send_signal(number)
        out, err = process.communicate(timeout=support.TIMEOUT)
        if process.returncode == 0:
            return None
        return support.Result(process.returncode, out.decode(), first + err.decode())

    def check(self, number):
        for megabytes in (200, 800, 2000):
            result = self.interrupt(megabytes, number)
            if result:
                break
            subprocess.run(["rm", "-rf", self.path("out")], check=True)
        self.assertIsNotNone(result, "every merge was done before the signal came")
        self.assert_error(result, 130)
        self.assertEqual(result.out, "")
        self.assert_no_output()

    def test_sigint(self):
        self.check(signal.SIGINT)
        # The same command goes on, and its bytes are those of a merge that nobody disturbed.
        size = max(os.listdir(self.folder), key=lambda name: name.isdigit() and int(name))
        command = ["merge", "{A+B}", "--path", size]
        self.assert_code(self.run_thorns(*command, "-o", "out"), 0)
        self.assert_code(self.run_thorns(*command, "-o", "undisturbed"), 0)
        self.assertEqual(self.hashes("out"), self.hashes("undisturbed"))

    def hashes(self, folder):
        with open(self.path(folder, "thorns.json")) as file:
            return {
                file["name"]: file["sha256"]
                for file in json.load(file)["files"]
                if file["name"] != "README.md"  # names the folder
            }

    def test_sigterm(self):
        self.check(signal.SIGTERM)


if __name__ == "__main__":
    support.main()
