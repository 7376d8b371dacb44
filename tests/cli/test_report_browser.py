"""The page of thorns report in a real browser. Skipped where no Chromium is installed, unless
THORNS_BROWSER=required (`make report-check` installs one and sets it)."""

import os

import browser
import report_family
import support
import test_report

# Milliseconds from the start of the navigation to the second frame after the page is complete.
DRAWN = """new Promise(done => {
  const framed = () => requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now())));
  document.readyState === 'complete' ? framed() : addEventListener('load', framed);
})"""

# Texts whose contrast with what is behind them is less than WCAG asks for (4.5; 3 where large).
PALE = """(() => {
  const rgb = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const part = v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const luminance = c => 0.2126 * part(c[0]) + 0.7152 * part(c[1]) + 0.0722 * part(c[2]);
  const ground = element => {
    for (let at = element; at; at = at.parentElement) {
      const colour = rgb(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const element of document.body.querySelectorAll('*')) {
    if (!element.getClientRects().length || ['SCRIPT', 'STYLE'].includes(element.tagName)) continue;
    if (![...element.childNodes].some(node => node.nodeType === 3 && node.data.trim())) continue;
    const style = getComputedStyle(element);
    const ink = rgb(element instanceof SVGElement ? style.fill : style.color);
    const [low, high] = [luminance(ink), luminance(ground(element))].sort((a, b) => a - b);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    const contrast = (high + 0.05) / (low + 0.05);
    if (contrast < (large ? 3 : 4.5)) found.push(element.textContent.slice(0, 40) + ' ' + contrast);
  }
  return found;
})()"""


class Browser(support.CliTest):
    @classmethod
    def setUpClass(cls):
        cls.browser = None
        if browser.find() and not os.environ.get("THORNS_SANITIZE"):
            cls.browser = browser.Browser(browser.find())
            cls.addClassCleanup(cls.browser.__exit__)

    def setUp(self):
        if not self.browser:
            if os.environ.get("THORNS_BROWSER") == "required":
                self.fail("no Chromium is installed")
            self.skipTest("no Chromium is installed, or a sanitizer runs: see `make report-check`")
        super().setUp()

    def page(self, manifest, name="out"):
        report_family.write_folder(self.path(name), manifest)
        self.assert_code(self.run_thorns("report", name), 0)
        return self.path(name + ".html")

    def open(self, path, width=1280, dark=False):
        self.browser.look(width, dark=dark)
        self.browser.open(path)
        self.assertEqual(self.browser.complaints(), [])

    def test_a_large_merge_draws_within_a_second(self):
        path = self.page(report_family.published_manifest())
        times = []
        for _ in range(3):
            self.open(path)
            times.append(self.browser.run(DRAWN))
        print("drawn within %.0f ms (of three: %s)" % (min(times), ", ".join("%.0f" % t for t in times)))
        self.assertLess(min(times), 1000)

    def test_every_text_can_be_read_in_both_schemes(self):
        path = self.page(report_family.published_manifest(layers=4))
        grounds = set()
        for dark in (False, True):
            self.open(path, dark=dark)
            self.browser.run("document.querySelectorAll('details').forEach(d => d.open = true)")
            self.assertEqual(self.browser.run(PALE), [])
            grounds.add(self.browser.run("getComputedStyle(document.body).backgroundColor"))
        self.assertEqual(len(grounds), 2)

    def test_no_page_is_wider_than_its_window(self):
        path = self.page(report_family.published_manifest(layers=4))
        for width in (320, 390, 768, 1280):
            self.open(path, width)
            self.assertLessEqual(self.browser.run("document.documentElement.scrollWidth"), width)

    def test_names_from_strangers_run_nothing(self):
        models = [name + evil for name, evil in zip(report_family.MODELS, test_report.HOSTILE)]
        adapters = [name + evil for name, evil in zip(report_family.ADAPTERS, test_report.HOSTILE)]
        path = self.page(report_family.published_manifest(2, models, adapters))
        self.open(path)
        self.assertEqual(self.browser.run("document.scripts.length"), 1)
        self.assertEqual(self.browser.run("document.images.length"), 0)
        self.assertIn("</title><script>alert(1)</script>", self.browser.run("document.body.textContent"))

    def test_tables_sort_by_keyboard(self):
        self.open(self.page(report_family.published_manifest(layers=4)))
        state = """(() => {
          const table = document.querySelector('#norms table');
          const head = table.tHead.rows[0].cells[1];
          return [head.ariaSort, [...table.tBodies[0].rows].map(row => parseFloat(row.cells[1].textContent)),
                  table.tFoot.rows[0].cells[0].textContent];
        })()"""
        before = self.browser.run(state)
        self.assertIsNone(before[0])
        self.browser.run("document.querySelectorAll('#norms thead button')[1].focus()")
        self.browser.key("Enter", 13)
        self.assertEqual(self.browser.run(state), ["descending", sorted(before[1], reverse=True), "all tensors"])
        self.browser.key("Enter", 13)
        self.assertEqual(self.browser.run(state), ["ascending", sorted(before[1]), "all tensors"])

    def test_the_first_stop_skips_to_the_report(self):
        self.open(self.page(report_family.published_manifest(layers=2)))
        self.browser.key("Tab", 9)
        self.assertEqual(self.browser.run("document.activeElement.hash"), "#main")

    def test_everything_has_a_name_for_screen_readers(self):
        self.open(self.page(report_family.published_manifest(layers=2)))
        nodes = self.browser.call("Accessibility.getFullAXTree")["nodes"]
        seen = set()
        for node in nodes:
            role = node.get("role", {}).get("value")
            if role in ("image", "table", "button", "link", "region", "columnheader", "rowheader"):
                seen.add(role)
                self.assertTrue(node["name"]["value"].strip(), node)
        self.assertLessEqual({"image", "table", "button", "link", "region", "rowheader"}, seen)

    def test_nothing_is_missing_without_scripts(self):
        path = self.page(report_family.published_manifest(layers=2))
        self.open(path)
        text = "document.querySelector('main').innerText.replace(/\\s+/g, ' ')"
        with_scripts = self.browser.run(text)
        self.browser.call("Emulation.setScriptExecutionDisabled", value=True)
        try:
            self.open(path)
            self.assertEqual(self.browser.run("document.querySelectorAll('th button').length"), 0)
            self.assertEqual(self.browser.run(text), with_scripts)
        finally:
            self.browser.call("Emulation.setScriptExecutionDisabled", value=False)

    def test_it_prints(self):
        self.open(self.page(report_family.published_manifest(layers=40)), dark=True)
        dark = {"name": "prefers-color-scheme", "value": "dark"}
        self.browser.call("Emulation.setEmulatedMedia", media="print", features=[dark])
        # A4 without its margins, in CSS pixels.
        self.browser.call(
            "Emulation.setDeviceMetricsOverride", width=703, height=1032, deviceScaleFactor=1, mobile=False
        )
        self.assertLessEqual(self.browser.run("document.documentElement.scrollWidth"), 703)
        self.assertEqual(self.browser.run("getComputedStyle(document.body).backgroundColor"), "rgb(255, 255, 255)")
        self.assertEqual(self.browser.run(PALE), [])
        self.browser.pdf(self.path("page.pdf"))
        with open(self.path("page.pdf"), "rb") as file:
            self.assertEqual(file.read(5), b"%PDF-")


if __name__ == "__main__":
    support.main()
