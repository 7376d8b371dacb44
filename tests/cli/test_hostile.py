"""Files made to harm (tests/hostile): each is refused with its error, word for word, in little time
and memory, and nothing is left behind."""

import os
import resource
import subprocess
import sys
import time

import support

HOSTILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "hostile")
sys.path.insert(0, HOSTILE)

import cases  # noqa: E402
import table  # noqa: E402

SANITIZER = os.environ.get("THORNS_SANITIZE", "")
# Readers have one thread: ThreadSanitizer, which is slow to start, looks at a sample.
STEP = 10 if "thread" in SANITIZER else 1
ADDRESS_SPACE = 1 << 30  # of the program without a sanitizer
SECONDS = 5  # of the processor, for one case


def limit():
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class Hostile(support.CliTest):
    def setUp(self):
        super().setUp()
        self.write_files("good", {"config.json": b'{"model_type": "llama"}',
                                  "model.safetensors": cases.GOOD})

    def write_files(self, folder, files):
        os.makedirs(self.path(folder), exist_ok=True)
        for name, content in files.items():
            path = self.path(folder, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            if isinstance(content, cases.Link):
                os.symlink(content, path)
            else:
                with open(path, "wb") as file:
                    file.write(content)

    def everything(self, folder):
        return sorted(
            os.path.relpath(os.path.join(at, name), self.path(folder))
            for at, folders, names in os.walk(self.path(folder))
            for name in folders + names
        )

    def refuse(self, case):
        """Exit code and error of the case, folders named as the table names them."""
        self.write_files(case.name, case.files)
        before = self.everything(case.name)
        done = subprocess.run(
            [self.binary, *case.command],
            cwd=self.path(case.name),
            input=case.stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=support.clean_environment(),
            preexec_fn=None if SANITIZER else limit,
            timeout=support.TIMEOUT,
        )
        self.assertEqual(self.everything(case.name), before, "something is left behind")
        lines = done.stderr.decode().splitlines()
        errors = [line for line in lines if line.startswith("thorns: error: ")]
        self.assertEqual(len(errors), 1, "\n".join(lines))
        error = errors[0][len("thorns: error: "):].replace(self.path(case.name), "HERE")
        return done.returncode, error.replace(self.folder, "ABOVE")

    def test_every_case(self):
        expected = table.read(os.path.join(HOSTILE, "README.md"))
        self.assertEqual([case.name for case in cases.CASES], list(expected))
        self.assertGreaterEqual(len(expected), 150)
        for case in cases.CASES[::STEP]:
            with self.subTest(case.name):
                row = expected[case.name]
                code, error = self.refuse(case)
                self.assertEqual((case.wrong, code, error), (row.wrong, row.code, row.error))
                self.assertIn(code, (1, 2))
                self.assertNotIn("internal error", error)

    def test_a_pipe_is_not_waited_for(self):
        self.write_files("pipe", {"it/model.safetensors": cases.GOOD})
        os.mkfifo(self.path("pipe", "it", "config.json"))
        begin = time.monotonic()
        result = self.run_thorns("merge", "{A+B}", "-m", "A=pipe/it", "-m", "B=good", "-o", "out")
        self.assert_error(result, 1, "`pipe/it/config.json` is not a file")
        self.assertLess(time.monotonic() - begin, 60)

    def test_links_of_the_hubs_cache_are_followed(self):
        self.write_files("hub/models--x--y", {
            "blobs/0": b'{"model_type": "llama"}',
            "blobs/1": cases.GOOD,
            "snapshots/c0/config.json": cases.Link("../../blobs/0"),
            "snapshots/c0/model.safetensors": cases.Link("../../blobs/1"),
        })
        os.symlink("hub/models--x--y/snapshots/c0", self.path("linked"))
        for model in ("hub/models--x--y/snapshots/c0", "linked"):
            result = self.run_thorns("merge", "A", "-m", "A=" + model, "-o", "out", "--force")
            self.assert_code(result, 0)

    def test_a_broken_journal_is_not_believed(self):
        self.family()
        options = ["--path", "models", "-o", "out"]
        self.assert_code(self.run_thorns("merge", "{A+B}", *options), 0)
        undisturbed = support.folder_bytes(self.path("out"))
        os.rename(self.path("out"), self.path("kept"))
        for journal in (b"", b"\0" * 1000, b"[" * 100_000 + b"\n", b'{"schema": "evil"}\n', b"\xff\n" * 10,
                        b'{"schema":"thorns/journal/1","inputs":7,"settings":[]}\n[]\n'):
            self.write_files(".out.thorns-partial", {"journal": journal, "model/x": b"left over"})
            self.assert_code(self.run_thorns("merge", "{A+B}", *options), 0)
            self.assertEqual(support.folder_bytes(self.path("out")), undisturbed)
            self.assertEqual(sorted(os.listdir(self.path("out"))), sorted(os.listdir(self.path("kept"))))
            os.rename(self.path("out"), self.path("done"))
            support.shutil.rmtree(self.path("done"))

    def test_secrets_of_the_environment_stay_there(self):
        self.family()
        secrets = {"HF_TOKEN": "hf_secret1", "AWS_SECRET_ACCESS_KEY": "secret2", "USER": "secret3",
                   "HOSTNAME": "secret4", "HOME": self.path("secret5")}
        environment = support.clean_environment(**secrets)
        result = self.run_thorns("merge", "{A+B}", "--path", self.path("models"), "-o", "out",
                                 "--verbose", environment=environment)
        self.assert_code(result, 0)
        told = (result.out + result.err).encode()
        for name in os.listdir(self.path("out")):
            with open(self.path("out", name), "rb") as file:
                told += file.read()
        for secret in (b"hf_secret1", b"secret2", b"secret3", b"secret4", b"secret5"):
            self.assertNotIn(secret, told)


if __name__ == "__main__":
    support.main()
