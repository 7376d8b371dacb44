"""A merge that is killed at any moment leaves no folder that looks finished, and the same command
goes on and ends in the bytes of a merge that nobody disturbed.

THORNS_KILLS sets the number of kills (50; under a sanitizer, where each takes longer, 10; a fifth as many
while an older folder is replaced),
THORNS_KILL_MEGABYTES the size of each model (12)."""

import hashlib
import os
import random
import signal
import subprocess
import time
import unittest

import support

SANITIZED = bool(os.environ.get("THORNS_SANITIZE"))
KILLS = int(os.environ.get("THORNS_KILLS", "10" if SANITIZED else "50"))
SIGNALS = [signal.SIGKILL] * 3 + [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
MEGABYTES = int(os.environ.get("THORNS_KILL_MEGABYTES", "12"))


class Killed(support.CliTest):
    def setUp(self):
        super().setUp()
        for name in ("A", "B"):
            self.fill(name, support.write_large_model(self.path("models", name), MEGABYTES))
        # Several shards, so that kills fall between two of them as well.
        shard_size = "%dkB" % (MEGABYTES * 250)
        self.options = ["{A+B}", "--path", "models", "--shard-size", shard_size, "-j", "1"]

    def fill(self, name, size):
        """Numbers that are all different, so that no byte can be in another's place unnoticed."""
        data = bytearray(random.Random(name).randbytes(size))
        data[1::2] = data[1::2].translate(bytes(byte & 0xBF for byte in range(256)))  # finite
        with open(self.path("models", name, "model.safetensors"), "r+b") as file:
            file.seek(-size, os.SEEK_END)
            file.write(data)

    def start(self, folder, *arguments):
        return subprocess.Popen(
            [self.binary, "merge", *self.options, "-o", folder, *arguments],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=support.clean_environment(),
            preexec_fn=support.default_signals,
        )

    def hashes(self, folder):
        found = {}
        for name in os.listdir(self.path(folder)):
            with open(self.path(folder, name), "rb") as file:
                found[name] = hashlib.sha256(file.read()).hexdigest()
        return found

    def finish(self, folder, *arguments):
        """What a run says that nobody disturbs, and how long it takes."""
        begin = time.monotonic()
        process = self.start(folder, *arguments)
        err = process.communicate(timeout=support.TIMEOUT)[1].decode()
        self.assertEqual(process.returncode, 0, err)
        return err, time.monotonic() - begin

    def kill(self, generator, longest, *arguments):
        """Exit code and words of a run that gets a signal within `longest` seconds."""
        number = generator.choice(SIGNALS)
        process = self.start("out", *arguments)
        try:
            process.wait(generator.random() * longest)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGPIPE)  # which no merge minds
            process.send_signal(number)
            if generator.random() < 0.2:
                process.send_signal(number)  # an impatient user
        err = process.communicate(timeout=support.TIMEOUT)[1].decode()
        # Signals before the program has its handlers are the system's.
        self.assertIn(process.returncode, (0, 130, -number, -signal.SIGPIPE), err)
        return process.returncode, err

    def test_at_random_moments(self):
        _, longest = self.finish("out")
        expected = self.hashes("out")
        self.assertGreater(len(expected), 4)
        self.remove("out")
        generator = random.Random(1)
        continued = kills = 0
        while kills < KILLS:
            code, err = self.kill(generator, longest)
            continued += "continues an interrupted run" in err
            if os.path.lexists(self.path("out")):
                self.assertEqual(self.hashes("out"), expected)
                self.remove("out")
            else:
                self.assertNotEqual(code, 0, err)
            kills += code != 0
        if os.path.lexists(self.path("out")):
            self.remove("out")
        self.finish("out")
        self.assertEqual(self.hashes("out"), expected)
        self.assertEqual(sorted(os.listdir(self.folder)), ["models", "out"])
        self.assertGreater(continued, 0, "no run went on with another")
        print("%d kills, %d runs went on with what was there" % (kills, continued))

    def test_while_an_older_folder_is_replaced(self):
        _, longest = self.finish("out")
        new = self.hashes("out")
        self.finish("older", "--dtype", "float32")
        old = self.hashes("older")
        self.assertNotEqual(new, old)
        generator = random.Random(2)
        kills = moved = 0
        while kills < KILLS / 5:
            self.remove("out")
            subprocess.run(["cp", "-r", self.path("older"), self.path("out")], check=True)
            code, _ = self.kill(generator, longest, "--force")
            kills += code != 0
            # A file system that cannot exchange two folders has the old one there for a moment.
            there = "out" if os.path.exists(self.path("out")) else ".out.thorns-old"
            moved += there != "out"
            self.assertIn(self.hashes(there), (old, new))
        self.finish("out", "--force")
        self.assertEqual(self.hashes("out"), new)
        self.assertEqual(sorted(os.listdir(self.folder)), ["models", "older", "out"])
        print("%d kills while a folder is replaced, which was aside after %d" % (kills, moved))

    def remove(self, folder):
        subprocess.run(["rm", "-rf", self.path(folder)], check=True)


if __name__ == "__main__":
    support.main()
