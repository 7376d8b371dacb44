"""What the system refuses: descriptors, address space, memory, a folder that is taken."""

import json
import os
import resource
import signal
import subprocess
import time
import unittest

import support


def write_shards(folder, count, seed):
    """A model of `count` files with one small tensor each."""
    os.makedirs(folder)
    support.write_config(folder, "F32")
    places = {}
    for number in range(count):
        name = "model.layers.%d.mlp.up_proj.weight" % number
        file = "model-%05d-of-%05d.safetensors" % (number + 1, count)
        data = support.encode(support.numbers(seed + number, 6), "F32")
        support.write_safetensors(os.path.join(folder, file), {name: ("F32", [2, 3], data)})
        places[name] = file
    with open(os.path.join(folder, "model.safetensors.index.json"), "w") as file:
        json.dump({"metadata": {"total_size": 24 * count}, "weight_map": places}, file)


def limit(what, most):
    return lambda: resource.setrlimit(what, (most, most))


class Limits(support.CliTest):
    def merged(self, *arguments, prepare=None, code=0):
        result = self.run_thorns(
            "merge", *arguments, "--path", "models", "-o", "out", "--quiet", prepare=prepare
        )
        self.assert_code(result, code)
        content = support.folder_bytes(self.path("out"))
        subprocess.run(["rm", "-rf", self.path("out")], check=True)
        return content

    def test_thousands_of_shards_and_few_descriptors(self):
        shards = 600 if os.environ.get("THORNS_SANITIZE") else 3000
        for seed, name in enumerate("AB"):
            write_shards(self.path("models", name), shards, 5000 * seed)
        for options in ([], ["--shard-size", "%dB" % (shards // 3), "-j", "2"]):
            few = self.merged("{A+B}", *options, prepare=limit(resource.RLIMIT_NOFILE, 64))
            self.assertEqual(few, self.merged("{A+B}", *options))
        self.assertGreater(len(few), 70)

    @unittest.skipIf(os.environ.get("THORNS_SANITIZE"), "a sanitizer's shadow takes any address")
    def test_little_address_space(self):
        """Whatever is refused, at whatever moment, the answer is an error or the model."""
        for number, name in enumerate("AB"):
            support.write_model(self.path("models", name), number)
        options = ["{A+B}", "--memory", "64MB", "-j", "4"]
        expected = self.merged(*options)
        refused = 0
        for megabytes in list(range(24, 160, 6)) + [400]:
            result = self.run_thorns(
                "merge", *options, "--path", "models", "-o", "out", "--quiet",
                prepare=limit(resource.RLIMIT_AS, megabytes * 1_000_000),
            )
            if result.code == 0:
                self.assertEqual(support.folder_bytes(self.path("out")), expected)
                subprocess.run(["rm", "-rf", self.path("out")], check=True)
            elif result.code != 127:  # the loader had no room for the libraries
                self.assert_error(result, 1, "the system has no ")
                self.assert_no_output()
                refused += 1
        self.assertGreater(refused, 0)
        self.assertEqual(result.code, 0, str(result))

    @unittest.skipIf(os.environ.get("THORNS_SANITIZE"), "a sanitizer's own memory counts, too")
    def test_a_cgroup_of_the_ceiling(self):
        group = self.make_cgroup(64_000_000)
        for name in "AB":
            support.write_large_model(self.path("models", name), 300)
        result = self.run_thorns(
            "merge", "{A+B}", "--memory", "64MB", "--path", "models", "-o", "out", "--quiet",
            prepare=lambda: self.enter(group),
        )
        self.assert_code(result, 0)

    def make_cgroup(self, most):
        """A folder below this process's own in the hierarchy that limits memory: of version 1 or 2,
        whichever the machine has; or no test."""
        with open("/proc/self/cgroup") as file:
            own = dict(line.strip().split(":", 2)[1:] for line in file)
        candidates = [
            ("/sys/fs/cgroup/memory" + own.get("memory", "/"), "memory.limit_in_bytes"),
            ("/sys/fs/cgroup" + own.get("", "/"), "memory.max"),
            ("/sys/fs/cgroup/unified" + own.get("", "/"), "memory.max"),
        ]
        for parent, limit in candidates:
            group = os.path.join(parent, "thorns-test-%d" % os.getpid())
            try:
                os.mkdir(group)
            except OSError:
                continue
            self.addCleanup(os.rmdir, group)
            try:
                with open(os.path.join(group, limit), "w") as file:
                    file.write(str(most))
                return group
            except OSError:
                continue
        self.skipTest("no memory controller of cgroups, v1 or v2, that this user may hand on")

    @staticmethod
    def enter(group):
        with open(os.path.join(group, "cgroup.procs"), "w") as file:
            file.write("0")

    def test_two_merges_into_one_folder(self):
        for name in "AB":
            support.write_large_model(self.path("models", name), 60)
        command = ["merge", "{A+B}", "--path", "models", "-o", "out"]
        first = subprocess.Popen(
            [self.binary, *command],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=support.clean_environment(),
        )
        end = time.monotonic() + support.TIMEOUT
        while not os.path.exists(self.path(".out.thorns-partial", "journal")):
            self.assertLess(time.monotonic(), end)
            self.assertIsNone(first.poll(), "it was done too soon to be watched")
        first.send_signal(signal.SIGSTOP)
        self.assertFalse(os.path.exists(self.path("out")), "it was done too soon to be stopped")
        for extra in ([], ["--force"]):
            second = self.run_thorns(*command, *extra)
            self.assert_error(second, 1, "another run of thorns is writing `out`")
        first.send_signal(signal.SIGCONT)
        err = first.communicate(timeout=support.TIMEOUT)[1].decode()
        self.assertEqual(first.returncode, 0, err)
        self.assertEqual(sorted(os.listdir(self.folder)), ["models", "out"])

    def test_nobody_listens(self):
        """Standard error is a pipe that is closed: nothing can be said, everything is done."""
        for number, name in enumerate("AB"):
            support.write_model(self.path("models", name), number)
        expected = self.merged("{A+B}")
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run(
            [self.binary, "merge", "{A+B}", "--path", "models", "-o", "out", "--progress", "always"],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=writer,
            stderr=writer,
            timeout=support.TIMEOUT,
        )
        os.close(writer)
        self.assertEqual(done.returncode, 0)
        self.assertEqual(support.folder_bytes(self.path("out")), expected)


if __name__ == "__main__":
    support.main()
