"""thorns fetch against a Hub on this machine: what is asked for, what ends up where, and faults."""

import hashlib
import json
import os
import signal
import subprocess
import threading
import time

import fake_hub
import support
from fake_hub import COMMIT

TOKEN = "hf_ThisIsTheToken"


class HubTest(support.CliTest):
    def setUp(self):
        super().setUp()
        self.start_hub()

    def start_hub(self, *certificates):
        self.hub = fake_hub.FakeHub(*certificates)
        self.addCleanup(self.hub.close)
        self.environment = support.clean_environment(
            HF_HOME="hf", HF_ENDPOINT=self.hub.endpoint.url, HF_TOKEN=TOKEN)

    def read(self, *parts):
        with open(self.path(*parts), "rb") as file:
            return file.read()

    def add_model(self, repository="o/A", seed=1, **files):
        folder = "source-%d" % seed
        support.write_model(self.path(folder), seed)
        content = {name: self.read(folder, name) for name in os.listdir(self.path(folder))}
        content["README.md"] = b"---\nlicense: mit\n---\n"
        content.update(files)
        self.hub.add(repository, content, ("main", "v1", "refs/pr/1"))
        return content

    def thorns(self, *arguments, **variables):
        return self.run_thorns(*arguments, environment={**self.environment, **variables})

    def fetch(self, *arguments, **variables):
        result = self.thorns("fetch", *arguments, **variables)
        self.assertNotIn(TOKEN, result.out + result.err)
        self.assertNotIn("signature", result.out + result.err)
        return result

    def home(self, repository="o/A"):
        return self.path("hf", "hub", "models--" + repository.replace("/", "--"))

    def snapshot(self, repository="o/A"):
        return os.path.join(self.home(repository), "snapshots", COMMIT)

    def asked(self, server, pattern=""):
        return [r for r in self.hub.requests if r.server == server and pattern in r.path]

    def assert_whole(self, content, repository="o/A", names=None):
        snapshot = self.snapshot(repository)
        found = []
        for folder, _, files in os.walk(snapshot):
            found += [os.path.relpath(os.path.join(folder, name), snapshot) for name in files]
        self.assertEqual(sorted(found), sorted(names or content))
        for name in found:
            path = os.path.join(snapshot, name)
            with open(path, "rb") as file:
                self.assertEqual(file.read(), content[name])
            large = len(content[name]) >= fake_hub.LARGE
            blob = hashlib.sha256(content[name]).hexdigest() if large else fake_hub.git_hash(content[name])
            up = "../" * (2 + name.count("/"))
            self.assertEqual(os.readlink(path), up + "blobs/" + blob)
        leftovers = [n for n in os.listdir(os.path.join(self.home(repository), "blobs")) if "." in n]
        self.assertEqual(leftovers, [])


class Fetch(HubTest):
    # ---------------------------------------------------------------- what is fetched

    def test_a_model_is_fetched_once_and_then_is_a_name(self):
        content = self.add_model()
        result = self.fetch("o/A")
        self.assert_code(result, 0)
        self.assertIn("o/A: 3 files, ", result.err)
        self.assert_whole(content)
        with open(os.path.join(self.home(), "refs", "main")) as file:
            self.assertEqual(file.read(), COMMIT)
        self.assert_code(self.thorns("merge", "o/A", "-o", "out", HF_HUB_OFFLINE="1"), 0)
        merged = support.read_safetensors(self.path("out", "model.safetensors"))
        self.assertEqual(merged, support.read_safetensors(self.path("source-1", "model.safetensors")))
        sent = self.hub.bytes_sent
        again = self.fetch("o/A", "--json")
        self.assert_code(again, 0)
        self.assertEqual(self.hub.bytes_sent, sent)
        one = again.json()["repositories"][0]
        self.assertEqual(again.json()["schema"], "thorns/fetch/1")
        self.assertEqual((one["repository"], one["commit"], one["files"]), ("o/A", COMMIT, 3))
        self.assertEqual(one["bytes_there"], one["bytes"])
        self.assertEqual(one["folder"], os.path.relpath(self.snapshot(), self.folder))

    def test_revisions(self):
        content = self.add_model()
        for revision in ("v1", "refs/pr/1", COMMIT):
            self.assert_code(self.fetch("o/A@" + revision), 0)
            self.assert_code(self.thorns("plan", "o/A@" + revision), 0)
        self.assert_whole(content)
        self.assertEqual(len(self.asked("cdn")), 1)
        self.assertEqual(sorted(os.listdir(os.path.join(self.home(), "refs"))), ["refs", "v1"])
        self.assert_error(self.thorns("plan", "o/A"), 1, "not its revision `main`", "thorns fetch o/A")

    def test_only_what_a_merge_needs(self):
        weights = self.add_model()["model.safetensors"]
        index = json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}).encode()
        wanted = {
            "config.json": b"{}", "README.md": b"x", "LICENSE": b"x", "tokenizer.model": b"t",
            "model.safetensors.index.json": index, "model-1.safetensors": weights,
            "model-2.safetensors": weights + b"2", "additional_chat_templates/tool.jinja": b"j",
        }
        unwanted = {
            name: b"no" for name in (
                "pytorch_model.bin", "pytorch_model.bin.index.json", "model.fp16.safetensors",
                "consolidated.00.pth", "original/params.json", "onnx/model.onnx", "tf_model.h5",
                "flax_model.msgpack", "model-q8.gguf", "training_args.bin", "trainer_state.json",
                ".gitattributes", "picture.png", "model.safetensors.index.fp16.json")
        }
        self.hub.add("o/B", {**wanted, **unwanted})
        self.assert_code(self.fetch("o/B"), 0)
        self.assert_whole(wanted, "o/B")
        self.hub.add("o/C", {"config.json": b"{}", "pytorch_model.bin": b"p", "model.gguf": b"g"})
        self.assert_code(self.fetch("o/C"), 0)
        self.assert_whole({"config.json": b"{}", "pytorch_model.bin": b"p"}, "o/C")
        self.hub.add("o/G", {"README.md": b"r", "a-Q4.gguf": b"4", "a-Q8.gguf": b"8"})
        self.assert_error(self.fetch("o/G"), 1, "2 files of weights", "a-Q4.gguf (1 B)", "--include a-Q4.gguf")
        self.assert_code(self.fetch("o/G", "--include", "*Q8*"), 0)
        self.assert_whole({"a-Q8.gguf": b"8"}, "o/G")
        self.assert_error(self.fetch("o/G", "--include", "*.bin"), 1, "is called `*.bin`")
        self.hub.add("o/H", {"README.md": b"r", "tf_model.h5": b"h"})
        self.assert_error(self.fetch("o/H"), 1, "no weights that thorns reads")

    def test_an_index_that_names_what_is_fetched_anyway(self):
        files = {"config.json": b"{}", "model-1.safetensors": b"w"}
        files["model.safetensors.index.json"] = json.dumps(
            {"weight_map": {"a": "config.json", "b": "model-1.safetensors"}}).encode()
        self.hub.add("o/I", files)
        result = self.fetch("o/I", "--json")
        self.assert_code(result, 0)
        one = result.json()["repositories"][0]
        self.assertEqual((one["files"], one["bytes"]), (3, sum(map(len, files.values()))))
        self.assertEqual(len(self.asked("hub", "config.json")), 1)

    def test_an_adapter(self):
        support.write_lora(self.path("L"), 3)
        content = {name: self.read("L", name) for name in os.listdir(self.path("L"))}
        self.hub.add("o/L", {**content, "optimizer.pt": b"o", "adapter_model.bin": b"b"})
        self.add_model()
        self.assert_code(self.fetch("o/L", "o/A"), 0)
        self.assert_whole(content, "o/L")
        self.assert_code(self.thorns("plan", "o/A[o/L]"), 0)

    def test_a_list_of_several_pages(self):
        content = self.add_model()
        self.hub.page = 2
        self.assert_code(self.fetch("o/A"), 0)
        self.assert_whole(content)
        self.assertEqual(len(self.asked("hub", "/tree/")), 2)

    # ---------------------------------------------------------------- the token

    def test_the_token_goes_to_the_endpoint_and_nowhere_else(self):
        self.add_model()
        self.assert_code(self.fetch("o/A"), 0)
        self.assertEqual({r.token for r in self.asked("hub")}, {"Bearer " + TOKEN})
        self.assertEqual({r.token for r in self.asked("cdn")}, {None})

    def test_where_the_token_comes_from(self):
        self.add_model()
        del self.environment["HF_TOKEN"]
        os.makedirs(self.path("hf"))
        self.write("hf/token", "at_home\n")
        self.write("elsewhere", "from_path")
        table = [
            ({}, "Bearer at_home"),
            ({"HF_TOKEN_PATH": "elsewhere"}, "Bearer from_path"),
            ({"HUGGING_FACE_HUB_TOKEN": "older"}, "Bearer older"),
            ({"HUGGING_FACE_HUB_TOKEN": "older", "HF_TOKEN": "new"}, "Bearer new"),
            ({"HF_TOKEN": "new", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "yes"}, None),
        ]
        for variables, token in table:
            with self.subTest(variables=variables):
                self.hub.requests.clear()
                self.assert_code(self.fetch("o/A", **variables), 0)
                self.assertEqual({r.token for r in self.asked("hub")}, {token})
        result = self.fetch("o/A", HF_TOKEN="two\nlines")
        self.assert_error(result, 2, "what stands in HF_TOKEN cannot be a token")
        self.assertNotIn("lines", result.err)

    # ---------------------------------------------------------------- several at a time

    def add_shards(self, **contents):
        index = {"weight_map": {name: name + ".safetensors" for name in contents}}
        files = {"config.json": b"{}", "model.safetensors.index.json": json.dumps(index).encode()}
        files.update({name + ".safetensors": content for name, content in contents.items()})
        self.hub.add("o/S", files)
        return files

    def test_files_come_several_at_a_time(self):
        files = self.add_shards(a=b"a" * 2000, b=b"b" * 3000, c=b"c" * 4000)
        meeting = threading.Barrier(3)  # each answers when all three are asked

        def meet(handler):
            meeting.wait(timeout=30)
            handler.send_file(self.hub.large[handler.path.split("?")[0]])

        self.hub.fail("/[0-9a-f]{64}", meet, meet, meet)
        self.assert_code(self.fetch("o/S"), 0)
        self.assertFalse(meeting.broken)
        self.assert_whole(files, "o/S")

    def test_equal_files_come_once(self):
        files = self.add_shards(a=b"a" * 2000, b=b"a" * 2000, c=b"a" * 2000)
        result = self.fetch("o/S", "--json")
        self.assert_code(result, 0)
        self.assertEqual(result.json()["repositories"][0]["bytes"], sum(map(len, files.values())))
        self.assert_whole(files, "o/S")
        self.assertEqual(len(self.asked("cdn")), 1)

    def test_one_that_fails_stops_the_others(self):
        files = self.add_shards(a=b"a" * 2_000_000, b=b"b" * 2_000_000)
        begun = threading.Event()

        def slowly(handler):
            content = files["a.safetensors"]
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(content)))
            handler.end_headers()
            handler.wfile.write(content[:1_000_000])
            begun.set()
            for byte in content[1_000_000:]:  # a day and more
                handler.wfile.write(bytes([byte]))
                time.sleep(0.1)

        def refuse(handler):
            begun.wait(timeout=30)
            handler.send(404, X_Error_Code="EntryNotFound")

        self.hub.fail("/" + hashlib.sha256(files["a.safetensors"]).hexdigest(), slowly)
        self.hub.fail("/b.safetensors", refuse)
        begin = time.monotonic()
        self.assert_error(self.fetch("o/S"), 1, "`b.safetensors` of `o/S` is listed, but not there")
        self.assertLess(time.monotonic() - begin, 20)
        self.hub.requests.clear()
        self.assert_code(self.fetch("o/S"), 0)
        self.assert_whole(files, "o/S")
        first = [r.range for r in self.asked("cdn") if hashlib.sha256(files["a.safetensors"]).hexdigest() in r.path]
        self.assertEqual(len(first), 1)
        self.assertRegex(first[0], "^bytes=[1-9][0-9]*-$")

    # ---------------------------------------------------------------- faults

    def test_what_passes_is_tried_again(self):
        content = self.add_model()
        self.hub.fail("/revision/", lambda h: h.send(503), lambda h: h.send(429, Retry_After="1"))
        self.hub.fail("/[0-9a-f]{64}", lambda h: h.send(500), lambda h: h.send_file(content["model.safetensors"], 900))
        begin = time.monotonic()
        self.assert_code(self.fetch("o/A"), 0)
        self.assertGreater(time.monotonic() - begin, 1)
        self.assert_whole(content)
        self.assertEqual([r.range for r in self.asked("cdn")], [None, None, "bytes=900-"])

    def test_a_server_that_is_silent_is_left(self):
        content = self.add_model()
        self.hub.fail("/revision/", lambda h: time.sleep(20))
        begin = time.monotonic()
        self.assert_code(self.fetch("o/A", HF_HUB_ETAG_TIMEOUT="1"), 0)
        self.assertLess(time.monotonic() - begin, 8)
        self.assert_whole(content)

    def test_a_server_that_knows_no_ranges(self):
        content = self.add_model()
        weights = content["model.safetensors"]
        self.hub.fail("/[0-9a-f]{64}", lambda h: h.send_file(weights, 900), lambda h: h.send(200, weights))
        self.assert_code(self.fetch("o/A"), 0)
        self.assert_whole(content)

    def test_what_an_interrupted_fetch_left_is_gone_on_with(self):
        content = self.add_model()
        weights = content["model.safetensors"]
        part = os.path.join(self.home(), "blobs", hashlib.sha256(weights).hexdigest() + ".incomplete")
        for left, ranges in (
            (weights[:700], ["bytes=700-"]),
            (weights, []),  # all but the new name
            (b"x" * 700, ["bytes=700-", None]),  # another file's
            (weights + b"x", [None]),
        ):
            with self.subTest(left=len(left)):
                support.shutil.rmtree(self.path("hf"), ignore_errors=True)
                os.makedirs(os.path.dirname(part))
                with open(part, "wb") as file:
                    file.write(left)
                self.hub.requests.clear()
                self.assert_code(self.fetch("o/A"), 0)
                self.assert_whole(content)
                self.assertEqual([r.range for r in self.asked("cdn")], ranges)

    def stop_in_the_middle(self, number):
        """Starts a fetch whose weights stop coming, and ends it by a signal."""
        content = self.add_model()
        half = len(content["model.safetensors"]) // 2

        def hang(handler):
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(content["model.safetensors"])))
            handler.end_headers()
            handler.wfile.write(content["model.safetensors"][:half])
            handler.wfile.flush()
            time.sleep(8)
            handler.close_connection = True

        self.hub.fail("/[0-9a-f]{64}", hang)
        process = subprocess.Popen([self.binary, "fetch", "o/A"], cwd=self.folder, env=self.environment,
                                   stderr=subprocess.DEVNULL, preexec_fn=support.default_signals)
        self.addCleanup(process.kill)
        part = os.path.join(self.home(), "blobs",
                            hashlib.sha256(content["model.safetensors"]).hexdigest() + ".incomplete")
        end = time.monotonic() + 30
        while not (os.path.exists(part) and os.path.getsize(part) == half):
            self.assertLess(time.monotonic(), end)
            time.sleep(0.02)
        process.send_signal(number)
        code = process.wait(timeout=30)
        self.assertEqual(os.path.getsize(part), half)
        self.assertFalse(os.path.exists(os.path.join(self.home(), "refs", "main")))
        self.assert_error(self.thorns("plan", "o/A"), 1, "a download was interrupted", "thorns fetch o/A")
        self.hub.requests.clear()
        self.assert_code(self.fetch("o/A"), 0)
        self.assertEqual([r.range for r in self.asked("cdn")], ["bytes=%d-" % half])
        self.assert_whole(content)
        return code

    def test_interrupted(self):
        self.assertEqual(self.stop_in_the_middle(signal.SIGINT), 130)

    def test_killed(self):
        self.assertEqual(self.stop_in_the_middle(signal.SIGKILL), -signal.SIGKILL)

    def test_two_at_once(self):
        content = self.add_model()
        weights = content["model.safetensors"]

        def slow(handler):
            time.sleep(1)
            handler.send_file(weights)

        self.hub.fail("/[0-9a-f]{64}", slow)
        both = [subprocess.Popen([self.binary, "fetch", "-q", "o/A"], cwd=self.folder, env=self.environment)
                for _ in range(2)]
        self.assertEqual([process.wait(timeout=60) for process in both], [0, 0])
        self.assert_whole(content)
        self.assertEqual(len(self.asked("cdn")), 1)
        locks = os.listdir(self.path("hf", "hub", ".locks", "models--o--A"))
        self.assertIn(hashlib.sha256(weights).hexdigest() + ".lock", locks)

    def test_answers_that_are_refusals(self):
        self.add_model()
        table = [
            ("o/none", 401, {}, 1, "there is no `o/none` on the Hub, or it is private", "token"),
            ("o/A@v9", 404, {}, 1, "`o/A` has no revision `v9`", "a tag"),
            ("o/A", 403, {"X_Error_Code": "GatedRepo", "X_Error_Message": "Ask\x07nicely"}, 1,
             "`o/A` is gated: Ask?nicely", "ask for access at " + self.hub.endpoint.url + "/o/A",
             "the token in HF_TOKEN"),
            ("o/A", 418, {"X_Error_Message": "tea"}, 1, "answers 418", "tea"),
            ("o/A", 429, {"Retry_After": "4000"}, 1, "answers 429", "come back in 1 h 06 min"),
            ("o/A", 503, {"Retry_After": "Fri, 31 Dec 2100 23:59:59 GMT"}, 1, "answers 503", "come back in"),
            ("o/A", 429, {"RateLimit": '"api";r=0;t=301'}, 1, "answers 429", "come back in 5 min"),
        ]
        for name, status, headers, code, *parts in table:
            with self.subTest(status=status):
                if status not in (401, 404):
                    self.hub.fail("/revision/", lambda h: h.send(status, **headers))
                self.assert_error(self.fetch(name), code, *parts)
        self.assert_error(self.fetch("o/none", HF_TOKEN=""), 1, "hf auth login")
        self.hub.fail("/README.md", lambda h: h.send(404, X_Error_Code="EntryNotFound"))
        self.assert_error(self.fetch("o/A"), 1, "`README.md` of `o/A` is listed, but not there")
        self.assertFalse(os.path.exists(os.path.join(self.home(), "refs")))

    def test_bytes_that_are_not_what_is_listed(self):
        content = self.add_model()
        weights = content["model.safetensors"]
        wrong = weights[:-1] + bytes([weights[-1] ^ 1])
        table = [
            ("/[0-9a-f]{64}", lambda h: h.send(200, wrong), "other bytes than the Hub lists"),
            ("/[0-9a-f]{64}", lambda h: h.send(200, weights + b"x"), "is longer than the"),
            ("/[0-9a-f]{64}", lambda h: h.send(200, weights[:-1]), "ended after"),
            ("/config.json", lambda h: h.send(200, b"x" * len(content["config.json"])), "`config.json` of `o/A`"),
        ]
        for pattern, doing, message in table:
            with self.subTest(message=message):
                self.hub.fail(pattern, doing)
                self.assert_error(self.fetch("o/A"), 1, message)
                self.assertFalse(os.path.exists(os.path.join(self.home(), "refs")))
                self.assert_code(self.fetch("o/A"), 0)
                self.assert_whole(content)
                support.shutil.rmtree(self.path("hf"))

    def test_a_hostile_list(self):
        self.add_model()

        def entry(**changes):
            return {"type": "file", "oid": "0" * 40, "size": 3, "path": "config.json", **changes}

        table = [
            ([entry(path="../../x.json")], "`../../x.json` is no name of a file"),
            ([entry(path="/etc/x.json")], "is no name of a file"),
            ([entry(path="a\\b.json")], "is no name of a file"),
            ([entry(path="a\nb.json")], "`a?b.json` is no name of a file"),
            ([entry(path="a/./b.json")], "is no name of a file"),
            ([entry(path=7)], "is no name of a file"),
            ([entry(size=-1)], "is no size of a file"),
            ([entry(size=2**60)], "is no size of a file"),
            ([entry(size="3")], "is no size of a file"),
            ([entry(oid="../../x")], "the hash of `config.json` is none"),
            ([entry(lfs={"oid": "0" * 40, "size": 3})], "the hash of `config.json` is none"),
            ([entry(), entry()], "`config.json` is listed twice"),
            ({"error": "x"}, "it is no list of files"),
        ]
        for entries, message in table:
            with self.subTest(message=message):
                self.hub.tree_change = lambda _: entries if isinstance(entries, list) else []
                if not isinstance(entries, list):
                    self.hub.fail("/tree/", lambda h: h.send_json(entries))
                self.assert_error(self.fetch("o/A"), 1, message)
        self.hub.tree_change = lambda _: [entry(path="model.safetensors", size=2**49)]
        self.assert_error(self.fetch("o/A"), 1, "needs 562.9 TB more", "HF_HUB_CACHE")
        self.hub.fail("/revision/", lambda h: h.send_json({"sha": "../x"}))
        self.assert_error(self.fetch("o/A"), 1, "it names no commit")
        self.hub.fail("/tree/", lambda h: h.send_json([], Link='<http://localhost:1/>; rel="next"'))
        self.assert_error(self.fetch("o/A"), 1, "goes on at another server")

    def test_redirects_that_lead_nowhere(self):
        self.add_model()
        again = self.hub.endpoint.url + "/o/A/resolve/x/y"
        self.hub.fail("/resolve/", *[lambda h: h.send(302, Location=again)] * 100)
        self.assert_error(self.fetch("o/A"), 1, "from place to place without end")
        self.hub.faults.clear()
        for target in ("file:///etc/passwd", "ftp://localhost/x", "http://user:word@localhost/"):
            self.hub.fail("/resolve/", lambda h: h.send(302, Location=target))
            self.assert_error(self.fetch("o/A"), 1, "a place that cannot be trusted")

    # ---------------------------------------------------------------- a plan from afar

    def test_a_plan_reads_headers_only(self):
        def grow(tensors):
            size = 4 * 2_000_000
            tensors["model.embed_tokens.weight"] = ("F32", [250_000, 8], b"\0" * size)
            tensors["lm_head.weight"] = ("F32", [250_000, 8], b"\0" * size)

        models = {}
        for number, name in enumerate("AB"):
            support.write_model(self.path("models", name), number, change=grow)
            models[name] = {f: self.read("models", name, f) for f in os.listdir(self.path("models", name))}
            self.hub.add("o/" + name, models[name])
        total = sum(len(content) for model in models.values() for content in model.values())
        result = self.thorns("plan", "{o/A+o/B}", "--remote", "--json")
        self.assert_code(result, 0)
        self.assertLess(self.hub.bytes_sent, 200_000)
        self.assertGreater(total, 30_000_000)
        afar = result.json()
        self.assertEqual(afar["leaves"][0]["path"], "hub:o/A@" + COMMIT)
        self.assertIsNone(afar["seconds"])
        here = self.thorns("plan", "{A+B}", "--path", "models", "--json").json()
        for field in ("tensors", "merged", "bytes_in", "bytes_out", "memory", "least_memory", "shards"):
            self.assertEqual(afar[field], here[field])
        self.assertFalse(os.path.exists(self.path("hf")))
        text = self.thorns("plan", "{o/A+o/B}", "--remote", "--explain", "model.norm.weight")
        self.assert_code(text, 0)
        # What is in the cache is read there; what is not, without the option, is an error.
        self.assert_error(self.thorns("plan", "{o/A+o/B}"), 1, "thorns fetch o/A")
        self.assert_code(self.fetch("o/A"), 0)
        self.hub.requests.clear()
        self.assert_code(self.thorns("plan", "{o/A+B}", "--path", "models", "--remote"), 0)
        self.assertEqual(self.hub.requests, [])

    def test_a_plan_of_pytorch_files_and_adapters(self):
        support.write_lora(self.path("L"), 3)
        self.hub.add("o/L", {name: self.read("L", name) for name in os.listdir(self.path("L"))})
        self.add_model()
        self.assert_code(self.thorns("plan", "o/A[o/L]", "--remote"), 0)
        result = self.thorns("plan", "o/none", "--remote")
        self.assert_error(result, 1, "there is no `o/none` on the Hub, or it is private")
        self.hub.fail("/[0-9a-f]{64}", lambda h: h.send(200, b"x"))
        self.assert_error(self.thorns("plan", "o/A", "--remote"), 1, "ends at byte 1; the Hub lists")
        result = self.thorns("plan", "o/A", "--remote", HF_HUB_OFFLINE="1")
        self.assert_error(result, 2, "the network is off")

    # ---------------------------------------------------------------- no network

    def test_no_network(self):
        for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
            result = self.fetch("o/A", **{variable: "yes"})
            self.assert_error(result, 2, "the network is off: %s is set" % variable, "cache")
        self.assertEqual(self.hub.requests, [])
        self.assert_error(self.fetch("A"), 2, "`A` is no repository of the Hub", "owner/repo")
        self.assert_error(self.fetch(), 2, "fetch needs a repository")
        for endpoint in ("ftp://x", "nowhere at all", "http://me:word@localhost"):
            result = self.fetch("o/A", HF_ENDPOINT=endpoint)
            self.assert_error(result, 2, "HF_ENDPOINT is not the address of a server")
            self.assertNotIn("word", result.err)

    def test_progress_on_a_terminal(self):
        self.add_model()
        code, text = self.run_on_terminal("fetch", "o/A", environment=self.environment)
        self.assertEqual(code, 0)
        screen = support.Screen(text, 80)
        self.assertLessEqual(screen.widest, 80)
        self.assertIn("o/A: 3 files", screen.rows[0])
        self.assertTrue(any("left" in line and "[" in line for line in screen.drawn), screen.drawn)


class FetchOverTls(HubTest):
    """Certificates are made for the test; the system trusts none of them."""

    def setUp(self):
        support.CliTest.setUp(self)
        self.own = fake_hub.make_certificate(self.folder)

    def test_a_certificate_that_nobody_vouches_for(self):
        self.start_hub(self.own, self.own)
        self.assert_error(self.fetch("o/A"), 1, "self-signed certificate",
                          "the certificates that this machine trusts", "SSL_CERT_FILE")
        other = fake_hub.make_certificate(self.folder, "other")[0]
        for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
            self.assert_error(self.fetch("o/A", **{variable: other}), 1, "certificate")
        self.assertEqual(self.hub.requests, [])

    def test_certificates_that_are_named(self):
        self.start_hub(self.own, self.own)
        content = self.add_model()
        folder = self.path("authorities")
        os.mkdir(folder)
        called = subprocess.run(["openssl", "x509", "-noout", "-hash", "-in", self.own[0]],
                                check=True, capture_output=True, text=True).stdout.strip()
        os.symlink(self.own[0], os.path.join(folder, called + ".0"))
        for variables in (
            {"SSL_CERT_FILE": self.own[0]},
            {"REQUESTS_CA_BUNDLE": self.own[0], "SSL_CERT_FILE": "/dev/null"},
            {"CURL_CA_BUNDLE": folder},
            {"SSL_CERT_DIR": folder},
        ):
            with self.subTest(variables=variables):
                self.hub.requests.clear()
                self.assert_code(self.fetch("o/A", **variables), 0)
                self.assert_whole(content)
                self.assertEqual({r.token for r in self.asked("hub")}, {"Bearer " + TOKEN})
                self.assertEqual({r.token for r in self.asked("cdn")}, {None})
                support.shutil.rmtree(self.path("hf"))

    def test_files_of_certificates_that_are_none(self):
        self.start_hub(self.own, self.own)
        result = self.fetch("o/A", SSL_CERT_FILE="no-such.pem")
        self.assert_error(result, 2, "SSL_CERT_FILE names `no-such.pem`, where nothing is", "unset")
        self.write("text.pem", "no certificate")
        result = self.fetch("o/A", SSL_CERT_FILE="text.pem")
        self.assert_error(result, 1, "cannot be fetched from 127.0.0.1", "certificates")
        self.assertEqual(self.hub.requests, [])

    def test_another_hosts_certificate(self):
        other = fake_hub.make_certificate(self.folder, "other", "DNS:hub.example")
        self.start_hub(other, other)
        self.assert_error(self.fetch("o/A", SSL_CERT_FILE=other[0]), 1, "127.0.0.1", "certificate")
        self.assertEqual(self.hub.requests, [])

    def test_no_way_leads_out_of_tls(self):
        self.start_hub(self.own)  # the other server speaks in the open
        self.add_model()
        self.assert_error(self.fetch("o/A", SSL_CERT_FILE=self.own[0]), 1, "a place that cannot be trusted")
        self.assertEqual(self.asked("cdn"), [])


if __name__ == "__main__":
    support.main()
