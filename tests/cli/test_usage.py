"""What needs no model: help, bad usage, keys, methods, completion, and streams that fail."""

import json
import os
import subprocess
import unittest

import support

PUBLISHED = (
    "({({NousHermes+Chronos}[Kimiko])+({Platypus+AiroborosM2.0}[Janine])}{Holodeck[LIMA RP]})"
)


class Usage(support.CliTest):
    def test_bad_usage_is_exit_code_two_and_says_what_to_do(self):
        table = [
            ([], "expected a verb", "thorns --help"),
            (["mrege"], "unknown verb `mrege`", "did you mean `merge`?"),
            (["examine", "x"], "unknown verb `examine`", "thorns --help"),
            (["merge"], "merge needs a recipe", "quotes"),
            (["merge", "{A+B}"], "merge needs a folder to write", "-o DIR"),
            (["merge", "{A+B}", "-o"], "`-o` needs a value", "--help"),
            (["merge", "{A+B}", "-o", "x", "--dtyp", "y"], "`--dtyp`", "`--dtype`?"),
            (["merge", "{A+B}", "-o", "x", "--dtype", "int4"], "`--dtype` needs", ""),
            (["merge", "{A+B}", "-o", "x", "--memory", "much"], "`--memory` needs a size", ""),
            (["merge", "{A+B}", "-o", "x", "-m", "A"], "NAME=WHERE", ""),
            (["merge", "{A+B}", "-o", "x", "-j", "0"], "`--threads` needs", ""),
            (["merge", "{A+B}", "-o", "x", "-q", "-v"], "exclude each other", ""),
            (["merge", "{A", "+B}", "-o", "x"], "unexpected argument", "quotes"),
            (["methods", "slrep"], "unknown method `slrep`", "did you mean `slerp`?"),
            (["check"], "check needs a recipe", "quotes"),
            (["check", "{A+B}", "--sample", "0"], "`--sample` needs a number", ""),
            (["check", "{A+B}", "--sample", "1", "--headers"], "excludes `--sample`", ""),
            (["completion", "tcsh"], "no completion for `tcsh`", "bash, zsh, fish"),
        ]
        for arguments, message, hint in table:
            with self.subTest(arguments=arguments):
                result = self.run_thorns(*arguments)
                self.assert_error(result, 2, message, hint)
                self.assertEqual(result.out, "")
        self.assertEqual(os.listdir(self.folder), [])

    def test_help_goes_to_standard_output(self):
        for arguments in (["--help"], ["merge", "--help"], ["plan", "-h"], ["key", "--help"]):
            result = self.run_thorns(*arguments)
            self.assert_code(result, 0)
            self.assertEqual(result.err, "")
            self.assertIn("Usage: thorns", result.out)
            self.assertLessEqual(max(map(len, result.out.splitlines())), 80)

    def test_help_lists_what_is_built(self):
        text = self.run_thorns("--help").out
        for verb in ("merge", "plan", "check", "diff", "inspect", "report", "verify", "fetch", "key", "methods", "completion"):
            self.assertIn("  %s " % verb, text)
            self.assert_code(self.run_thorns(verb, "--help"), 0)

    def test_version(self):
        result = self.run_thorns("--version")
        self.assert_code(result, 0)
        self.assertRegex(result.out, r"^thorns \d+\.\d+\.\d+\n$")


class Key(support.CliTest):
    def test_published_key_reads_back(self):
        result = self.run_thorns("key", PUBLISHED)
        self.assert_code(result, 0)
        self.assertEqual(result.err, "")
        self.assertLessEqual(len(result.out.splitlines()), 40)
        for part in ("SLERP Merge", "PEFT Merge", "Composite Model", "AiroborosM2.0", "LIMA RP"):
            self.assertIn(part, result.out)

    def test_canonical_form_reads_back_to_itself(self):
        first = self.run_thorns("key", PUBLISHED.replace("+", " + "), "--json").json()
        self.assertEqual(first["schema"], "thorns/key/1")
        again = self.run_thorns("key", first["canonical"], "--json").json()
        self.assertEqual(again, first)
        self.assertEqual(
            first["models"], ["NousHermes", "Chronos", "Platypus", "AiroborosM2.0", "Holodeck"]
        )
        self.assertEqual(first["adapters"], ["Kimiko", "Janine", "LIMA RP"])

    def test_drawn_key_has_segments_folds_and_shares(self):
        lines = self.draw(PUBLISHED, LC_ALL="C.UTF-8").splitlines()
        self.assertEqual(
            lines[:9],
            [
                "100.0 %  (SLERP merge)",
                " 50.0 %  ├─ SLERP merge",
                " 25.0 %  │  ├─ (SLERP merge [Kimiko])",
                " 12.5 %  │  │  ├─ NousHermes",
                " 12.5 %  │  │  └─ Chronos",
                " 25.0 %  │  └─ (SLERP merge [Janine])",
                " 12.5 %  │     ├─ Platypus",
                " 12.5 %  │     └─ AiroborosM2.0",
                " 50.0 %  └─ Holodeck [LIMA RP]",
            ],
        )
        self.assertIn("Adapters\n 50.0 %  LIMA RP\n 25.0 %  Kimiko\n 25.0 %  Janine\n", "\n".join(lines))

    def test_drawn_key_outside_of_unicode(self):
        for locale in ({"LC_ALL": "C"}, {"LC_ALL": "", "LC_CTYPE": "", "LANG": "de_DE.ISO-8859-1"}):
            text = self.draw("{A+3*B[L+0.5*L]}", **locale)
            self.assertTrue(text.isascii(), text)
            self.assertEqual(
                text.splitlines()[:3],
                ["100.0 %  SLERP merge", " 25.0 %  |- A", " 75.0 %  `- B [L + 0.5*L]"],
            )
            self.assertIn("Adapters\n112.5 %  L\n", text)

    def test_deep_keys_are_drawn_on_the_screen(self):
        deep = "A" * 70
        for depth in range(60):
            deep = "{%s+B%d;t=[0,0.5]}" % (deep, depth)
        text = self.draw(deep, LC_ALL="C")
        self.assertLessEqual(max(map(len, text.splitlines())), 80)
        self.assertIn("Models\n", text)

    def draw(self, key, **locale):
        result = self.run_thorns(
            "key", "--draw", key, environment=support.clean_environment(**locale)
        )
        self.assert_code(result, 0)
        return result.out

    def test_key_on_standard_input(self):
        self.assertEqual(
            self.run_thorns("key", "-", stdin="{A+B}\n").out, self.run_thorns("key", "{A+B}").out
        )

    def test_broken_key_has_a_caret(self):
        for key, message in (("{A+B", "expected"), ("", "empty key"), ("{A+B+C}", "exactly two")):
            with self.subTest(key=key):
                result = self.run_thorns("key", key)
                self.assert_error(result, 2, message)
                self.assertEqual(result.out, "")
        lines = self.run_thorns("key", "{A+}").err.splitlines()
        self.assertEqual(lines[1], "  {A+}")
        self.assertRegex(lines[2], r"^ +\^")

    def test_error_as_a_document(self):
        result = self.run_thorns("key", "{A+B", "--json")
        self.assert_error(result, 2)
        document = result.json()
        self.assertEqual(document["schema"], "thorns/error/1")
        self.assertEqual(document["code"], "bad_recipe")
        self.assertEqual(document["where"]["key_span"]["text"], "{A+B")
        self.assertIn(document["message"], result.err)

    def test_too_many_brackets(self):
        self.assert_error(self.run_thorns("key", "(" * 65 + "A" + ")" * 65), 2)
        self.assert_code(self.run_thorns("key", "(" * 64 + "A" + ")" * 64), 0)

    def test_input_limits(self):
        self.assert_error(self.run_thorns("key", "-", stdin="A" * (2**20 + 1)), 2, "1048576 bytes")


class Methods(support.CliTest):
    def test_list_and_one(self):
        result = self.run_thorns("methods")
        self.assert_code(result, 0)
        self.assertIn("slerp", result.out)
        self.assertIn("linear", result.out)
        document = self.run_thorns("methods", "--json").json()
        self.assertEqual(document["schema"], "thorns/methods/1")
        names = [combination["name"] for combination in document["combinations"]]
        self.assertIn("ties_svd", names)
        for kind in ("methods", "combinations"):
            for method in document[kind]:
                self.assertIn(method["name"] + " ", result.out)
                text = self.run_thorns("methods", method["name"]).out
                self.assertTrue(text.startswith(method["name"] + "\n"))
                self.assertIn(method["summary"][:40], text)
                for parameter in method["parameters"]:
                    self.assertIn("  %s: " % parameter["name"], text)
                one = self.run_thorns("methods", method["name"], "--json").json()
                self.assertEqual(one[kind], [method])

    def test_one_name_for_both(self):
        text = self.run_thorns("methods", "linear").out
        self.assertIn("models    1 or more\n", text)
        self.assertIn("adapters  2 or more\n", text)


class Completion(support.CliTest):
    def complete(self, *words):
        script = self.run_thorns("completion", "bash").out
        quoted = " ".join("'%s'" % word for word in words)
        line = "%s\nCOMP_WORDS=(thorns %s); COMP_CWORD=%d; _thorns; echo \"${COMPREPLY[@]}\"" % (
            script,
            quoted,
            len(words),
        )
        done = subprocess.run(["bash", "-c", line], stdout=subprocess.PIPE, check=True, timeout=60)
        return done.stdout.decode().split()

    def test_bash(self):
        self.assertIn("merge", self.complete("m"))
        self.assertIn("--output", self.complete("merge", "{A+B}", "--"))
        self.assertEqual(
            self.complete("merge", "--dtype", ""), ["float32", "float16", "bfloat16"]
        )
        self.assertEqual(self.complete("methods", "sle"), ["slerp"])
        self.assertEqual(self.complete("methods", "tie"), ["ties", "ties_svd"])
        self.assertEqual(self.complete("merge", "-o", ""), [])


class Streams(support.CliTest):
    def test_closed_standard_output_fails_quietly(self):
        for command in ("key '{A+B}'", "methods", "--help", "key '{A+B}' --json"):
            with self.subTest(command=command):
                result = self.run_shell("$THORNS %s >&-" % command)
                self.assert_code(result, 1)
                self.assertEqual(result.err, "")

    def test_pipe_without_reader_fails_quietly(self):
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run(
            [self.binary, "key", "{A+B}"], stdout=writer, stderr=subprocess.PIPE, timeout=60
        )
        os.close(writer)
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stderr, b"")

    def test_full_standard_output_is_an_error(self):
        for command in ("key '{A+B}'", "--help", "methods --json"):
            result = self.run_shell("$THORNS %s >/dev/full" % command)
            self.assert_error(result, 1, "standard output cannot be written")

    def test_closed_standard_error_and_input_do_not_matter(self):
        result = self.run_shell("$THORNS key '{A+B}' <&- 2>&-")
        self.assert_code(result, 0)
        self.assertIn("{A+B}", result.out)

    def test_every_json_answer_is_one_document(self):
        for arguments in (["key", "A", "--json"], ["methods", "--json"], ["mrege", "--json"]):
            result = self.run_thorns(*arguments)
            json.loads(result.out)
            self.assertTrue(result.out.endswith("}\n"))


if __name__ == "__main__":
    support.main()
