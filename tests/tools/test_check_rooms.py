"""tools/check_rooms.py on made-up trees: each rule is broken once, in one line."""

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools" / "check_rooms.py"


class Tree(unittest.TestCase):
    def check(self, files):
        """Writes `files` (name -> text or bytes) into a new tree; (exit code, lines printed)."""
        with tempfile.TemporaryDirectory() as folder:
            for name, content in files.items():
                path = Path(folder) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content if isinstance(content, bytes) else content.encode())
            done = subprocess.run(
                [sys.executable, "-B", TOOL, folder], capture_output=True, text=True, check=False
            )
        self.assertEqual(done.stderr, "")
        return done.returncode, done.stdout.splitlines()

    def assert_clean(self, files):
        self.assertEqual(self.check(files), (0, []))

    def assert_one(self, files, place, *fragments):
        code, lines = self.check(files)
        self.assertEqual(code, 1)
        self.assertEqual(len(lines), 1, lines)
        self.assertTrue(lines[0].startswith(place + ": "), lines[0])
        for fragment in fragments:
            self.assertIn(fragment, lines[0])


class Arrows(Tree):
    def test_down_own_public_and_library_includes_are_fine(self):
        self.assert_clean(
            {
                "src/plan/plan.cc": '#include "plan/plan.h"\n#include "base/disk.h"\n'
                '#include "recipe/recipe.h"\n#include "thorns/error.h"\n#include <vector>\n'
                "#include <fmt/format.h>\n",
                "src/kernel/dot.cc": '#include "hwy/foreach_target.h"\n#include <hwy/highway.h>\n',
                "src/cli/main.cc": '#include "cli/verbs.h"\n#include "thorns/thorns.h"\n',
                "include/thorns/thorns.h": '#include "thorns/dtype.h"\n',
            }
        )

    def test_up_is_refused_with_file_and_line(self):
        self.assert_one(
            {"src/key/parser.cc": '#include <string>\n\n#include "recipe/recipe.h"\n'},
            "src/key/parser.cc:3",
            "key (floor 1)",
            "recipe/recipe.h",
            "(floor 3)",
        )

    def test_every_room_is_kept_from_the_top_floor(self):
        rooms = "base key checkpoint kernel method recipe adapter plan engine output api".split()
        for room in rooms:
            with self.subTest(room=room):
                self.assert_one(
                    {f"src/{room}/x.h": '#include "cli/terminal.h"\n'}, f"src/{room}/x.h:1"
                )

    def test_neighbours_on_one_floor_do_not_know_each_other(self):
        for room, other in (
            ("key", "kernel"),
            ("kernel", "checkpoint"),
            ("recipe", "adapter"),
            ("engine", "output"),
        ):
            with self.subTest(room=room):
                self.assert_one(
                    {f"src/{room}/x.cc": f'#  include "{other}/y.h"\n'},
                    f"src/{room}/x.cc:1",
                    "both stand on floor",
                )

    def test_the_command_line_uses_the_public_headers_alone(self):
        self.assert_one(
            {"src/cli/merge.cc": '#include "base/text.h"\n'}, "src/cli/merge.cc:1", "cli includes"
        )

    def test_a_public_header_shows_no_room(self):
        self.assert_one(
            {"include/thorns/thorns.h": '#include "plan/plan.h"\n'},
            "include/thorns/thorns.h:1",
            "public",
        )

    def test_angle_brackets_are_no_way_round(self):
        self.assert_one({"src/base/x.cc": "#include <engine/engine.h>\n"}, "src/base/x.cc:1")

    def test_an_include_without_its_room_is_refused(self):
        self.assert_one({"src/base/x.cc": '#include "disk.h"\n'}, "src/base/x.cc:1", "no room")
        self.assert_one(
            {"src/base/x.cc": '#include "../engine/engine.h"\n'}, "src/base/x.cc:1", "no room"
        )

    def test_a_room_without_a_floor_is_refused(self):
        self.assert_one({"src/attic/x.cc": "int x;\n"}, "src/attic/x.cc:1", "`attic`", "FLOORS")

    def test_a_file_outside_the_rooms_is_refused(self):
        self.assert_one({"src/x.cc": "int x;\n"}, "src/x.cc:1", "in a room")
        self.assert_one({"src/base/deep/x.cc": "int x;\n"}, "src/base/deep/x.cc:1", "in a room")

    def test_the_system_is_called_on_the_ground_floor_and_at_the_front_door(self):
        for name in ("unistd.h", "sys/mman.h", "fcntl.h", "fstream", "filesystem", "cstdio"):
            text = f"#include <{name}>\n"
            with self.subTest(name=name):
                self.assert_clean(
                    {f"src/{file}": text for file in ("base/x.cc", "cli/y.cc", "engine/z_test.cc")}
                )
                self.assert_one(
                    {"src/engine/x.cc": text}, "src/engine/x.cc:1", "through base/"
                )

    def test_tests_may_look_anywhere(self):
        self.assert_clean(
            {
                "src/base/x_test.cc": '#include "engine/engine.h"\n#include "support/disk.h"\n',
                "src/cli/testing.h": '#include "base/text.h"\n',
                "tests/laws.cc": '#include "api/merge.h"\n#include "support/disk.h"\n',
                "fuzz/replay.cc": '#include "key/expression.h"\n#include "support/disk.h"\n',
            }
        )

    def test_what_ships_does_not_include_what_is_for_tests(self):
        self.assert_one({"src/cli/x.cc": '#include "cli/testing.h"\n'}, "src/cli/x.cc:1", "tests")
        self.assert_one({"src/base/x.cc": '#include "support/disk.h"\n'}, "src/base/x.cc:1")


class Names(Tree):
    def test_a_name_is_taken_once(self):
        self.assert_one(
            {"src/base/json.h": "", "src/output/json.h": ""},
            "src/output/json.h:1",
            "src/base/json.h",
        )

    def test_other_folders_have_names_of_their_own(self):
        self.assert_clean({"src/base/json.h": "", "tests/support/json.h": ""})


class Corpora(Tree):
    def test_a_type_is_defined_once(self):
        open_space, closed = "namespace thorns {\n", "}  // namespace thorns\n"
        self.assert_one(
            {
                "src/key/a.h": open_space + "struct Stack {\n};\n" + closed,
                "src/plan/b.cc": open_space + "\nclass Stack final : public A {\n};\n" + closed,
            },
            "src/plan/b.cc:3",
            "thorns::Stack",
            "src/key/a.h",
        )
        self.assert_clean(
            {
                "src/key/a.h": open_space + "struct Stack {\n};\n" + closed,
                "src/plan/b.cc": open_space
                + "namespace {\nstruct Stack {\n};\n}  // namespace\n"
                + "struct Stack;\n"
                + closed,
                "src/cli/c.h": "namespace thorns::cli {\nstruct Stack {\n};\n"
                "}  // namespace thorns::cli\n",
            }
        )

    def test_a_fuzz_target_needs_a_corpus(self):
        self.assert_one({"fuzz/fuzz_key.cc": "int x;\n"}, "fuzz/fuzz_key.cc:1", "fuzz/corpus/key")
        self.assert_clean({"fuzz/fuzz_key.cc": "int x;\n", "fuzz/corpus/key/a": b"\xff \n\t"})


class Text(Tree):
    def test_blanks_tabs_and_ends(self):
        self.assert_one({"a.md": "one\ntwo \n"}, "a.md:2", "trailing blanks")
        self.assert_one({"a.cc": "\tint x;\n"}, "a.cc:1", "tab")
        self.assert_one({"a.py": "x = 1"}, "a.py:0", "newline")
        self.assert_one({"a.py": "x = 1\n\n"}, "a.py:2", "newline")
        self.assert_one({"a.md": b"\xff\n"}, "a.md:1", "UTF-8")
        self.assert_clean({"Makefile": "all:\n\ttrue\n", "src/base/empty.h": ""})

    def test_places_on_a_machine(self):
        for place in ("/" + "home/ann/models", "/" + "root/x", "/" + "Users/meg/x"):
            with self.subTest(place=place):
                self.assert_one({"README.md": f"see {place}\n"}, "README.md:1", place)
        self.assert_clean({"README.md": "~/models, /tmp/x, /usr/bin, /home/me/x, a.org/home/ann\n"})

    def test_what_a_build_leaves_is_not_looked_at(self):
        self.assert_clean(
            {
                "build/x.cc": "\t",
                "build-asan/x.cc": "\t",
                "demo/models/A/README.md": " \n",
                "demo/dressed/A/config.json": "{}",
                "bench/out/x.md": " \n",
                ".git/x.md": " \n",
            }
        )


class ThisRepository(Tree):
    def test_is_clean(self):
        done = subprocess.run(
            [sys.executable, "-B", TOOL], capture_output=True, text=True, check=False
        )
        self.assertEqual((done.returncode, done.stdout), (0, ""))


if __name__ == "__main__":
    unittest.main()
