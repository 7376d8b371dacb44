"""A merge that is killed at any moment leaves no folder that looks finished, and the same command
goes on and ends in the bytes of a merge that nobody disturbed.

THORNS_KILLS sets the number of kills (50; under a sanitizer, where each takes longer, 10),
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

    def start(self, folder):
        return subprocess.Popen(
            [self.binary, "merge", *self.options, "-o", folder],
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

    def finish(self, folder):
        process = self.start(folder)
        err = process.communicate(timeout=support.TIMEOUT)[1].decode()
        self.assertEqual(process.returncode, 0, err)
        return err

    def test_at_random_moments(self):
        begin = time.monotonic()
        self.finish("out")
        longest = time.monotonic() - begin
        expected = self.hashes("out")
        self.assertGreater(len(expected), 4)
        self.remove("out")
        generator = random.Random(1)
        continued = kills = 0
        numbers = [signal.SIGKILL] * 3 + [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
        while kills < KILLS:
            number = generator.choice(numbers)
            process = self.start("out")
            try:
                process.wait(generator.random() * longest)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGPIPE)  # which no merge minds
                process.send_signal(number)
                if generator.random() < 0.2:
                    process.send_signal(number)  # an impatient user
            err = process.communicate(timeout=support.TIMEOUT)[1].decode()
            continued += "continues an interrupted run" in err
            if os.path.lexists(self.path("out")):
                self.assertEqual(self.hashes("out"), expected)
                self.assertIn(process.returncode, (0, 130, -number, -signal.SIGPIPE))
                self.remove("out")
            else:
                # Signals before the program has its handlers are the system's.
                self.assertIn(process.returncode, (130, -number, -signal.SIGPIPE), err)
            kills += process.returncode != 0
        if os.path.lexists(self.path("out")):
            self.remove("out")
        self.finish("out")
        self.assertEqual(self.hashes("out"), expected)
        self.assertEqual(sorted(os.listdir(self.folder)), ["models", "out"])
        self.assertGreater(continued, 0, "no run went on with another")
        print("%d kills, %d runs went on with what was there" % (kills, continued))

    def remove(self, folder):
        subprocess.run(["rm", "-rf", self.path(folder)], check=True)


if __name__ == "__main__":
    support.main()
