"""What a person sees: merges on a pseudo-terminal of a given width."""

import re
import unittest

import support

BAR = re.compile(r"\[[#-]{10,}\]")


class Terminal(support.CliTest):
    def setUp(self):
        super().setUp()
        # Large enough for the line to be drawn a few times.
        for name in ("A", "B"):
            support.write_large_model(self.path("models", name), 150)

    def merge(self, *extra, width=80, environment=None, resize=None):
        code, text = self.run_on_terminal(
            "merge",
            "{A+B}",
            "--path",
            "models",
            "-o",
            "out",
            *extra,
            width=width,
            environment=environment,
            resize=resize,
        )
        self.assertEqual(code, 0, text)
        return text

    def test_live_line_at_eighty_columns(self):
        text = self.merge()
        screen = support.Screen(text, 80)
        self.assertLessEqual(screen.widest, 80)
        live = [row for row in screen.drawn if BAR.search(row)]
        self.assertTrue(live, text)
        for row in live:
            self.assertLess(len(row.rstrip()), 80)
            self.assertRegex(row, r" of [0-9.]+ [kMG]B +\S+ [kMG]?B/s +[0-9:-]+ left")
        # While the output is flushed at the end, no tensor is at hand.
        self.assertTrue(any(re.search(r" left  \S", row) for row in live), live)
        self.assertNotRegex(screen.text(), BAR, "the line is still there")
        self.assertRegex(screen.rows[0], r"^out from 2 models: ")
        self.assertIn("folder    out", screen.text())
        self.assertLessEqual(len(screen.rows), 40)
        for escape in screen.escapes:
            self.assertRegex(escape, r"^\x1b\[[0-9;]*m$", "only colours")

    def test_narrow_terminals(self):
        for width in (40, 20):
            with self.subTest(width=width):
                text = self.merge("--force", width=width)
                screen = support.Screen(text, width)
                live = [row for row in screen.drawn if "left" in row or BAR.search(row)]
                self.assertTrue(live, text)
                for row in live:
                    self.assertLess(len(row.rstrip()), width)
                self.assertNotIn(" left", screen.text())

    def test_resize_is_respected(self):
        # The merge is short: on a busy machine it may end before it draws again.
        for _ in range(20):
            text = self.merge("--force", width=120, resize=60)
            screen = support.Screen(text, 120)
            live = [len(row.rstrip()) for row in screen.drawn if BAR.search(row)]
            self.assertTrue(live, text)
            narrow = [length < 60 for length in live]
            if any(narrow):
                self.assertTrue(all(narrow[narrow.index(True) :]), "wide again after the resize")
                return
        self.fail("no line was drawn after the resize")

    def test_no_color_means_no_escape_codes(self):
        text = self.merge(environment=support.clean_environment(NO_COLOR="1"))
        self.assertNotIn("\x1b", text)
        self.assertTrue(any(BAR.search(row) for row in support.Screen(text, 80).drawn))

    def test_dumb_terminal_has_neither_colour_nor_live_line(self):
        text = self.merge(environment=support.clean_environment(TERM="dumb"))
        self.assertNotIn("\x1b", text)
        self.assertNotRegex(text, BAR)

    def test_progress_never(self):
        self.assertNotRegex(self.merge("--progress", "never"), BAR)

    def test_progress_always_off_a_terminal(self):
        result = self.run_thorns(
            "merge", "{A+B}", "--path", "models", "-o", "out", "--progress", "always"
        )
        self.assert_code(result, 0)
        self.assertRegex(result.err, BAR)
        self.assertNotIn("\x1b", result.err)

    def test_off_a_terminal_there_is_no_live_line(self):
        result = self.run_thorns("merge", "{A+B}", "--path", "models", "-o", "out")
        self.assert_code(result, 0)
        self.assertNotRegex(result.err, BAR)
        self.assertNotIn("\r", result.err)
        self.assertNotIn("\x1b", result.err)

    def test_errors_are_coloured_on_a_terminal_only(self):
        code, text = self.run_on_terminal("key", "{A+B")
        self.assertEqual(code, 2)
        self.assertIn("thorns: \x1b[1;31merror:\x1b[0m ", text)
        code, text = self.run_on_terminal(
            "key", "{A+B", environment=support.clean_environment(NO_COLOR="1")
        )
        self.assertEqual(code, 2)
        self.assertNotIn("\x1b", text)
        self.assertNotIn("\x1b", self.run_thorns("key", "{A+B").err)

    def test_error_after_progress_stands_on_its_own_line(self):
        code, text = self.run_on_terminal(
            "merge", "{A+B}", "--path", "models", "-o", "no/such/folder"
        )
        self.assertEqual(code, 1, text)
        screen = support.Screen(text, 80)
        self.assertTrue(any(row.startswith("thorns: error: ") for row in screen.rows), text)
        self.assertNotRegex(screen.text(), BAR)


if __name__ == "__main__":
    support.main()
