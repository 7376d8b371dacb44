"""thorns report: the page as a parser sees it, and the numbers in it."""

import html.parser
import json
import math
import os
import re

import report_family
import support

VOID = {"meta", "br"}

# Whatever a name may hold that means something in HTML, SVG, CSS or a script.
HOSTILE = [
    "</title><script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "'--><svg/onload=alert(1)>&lt;&#60;",
    "\u202e\u2066abc\u0000\u0007\u2028\x85",
    "]]></style></td></table>javascript:alert(1)",
]


class Page(html.parser.HTMLParser):
    """Elements in order, with their attributes; tables as rows of texts; checks the nesting."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements = []
        self.open = []
        self.tables = []
        self.text = []
        self.raw = text
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            raise AssertionError("</%s> closes nothing at %s" % (tag, self.getpos()))

    def handle_data(self, data):
        if self.open and self.open[-1] in ("style", "script"):
            return
        self.text.append(data)
        if "td" in self.open or "th" in self.open:
            self.tables[-1][-1][-1] += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def table(self, caption):
        """Rows of the table with this caption."""
        at = [a["aria-label"] for t, a in self.elements if a.get("class") == "scroll" and "aria-label" in a]
        captions = [label for label in at if not label.startswith(("The key", "Chart"))]
        return self.tables[captions.index(caption)]


class Report(support.CliTest):
    def page(self, manifest, name="out"):
        report_family.write_folder(self.path(name), manifest)
        result = self.run_thorns("report", name, "-o", "-")
        self.assert_code(result, 0)
        return Page(result.out)

    def test_a_large_merge_is_a_small_page(self):
        manifest = report_family.published_manifest()
        self.assertEqual(len(manifest["tensors"]), 363)
        report_family.write_folder(self.path("out"), manifest)
        result = self.run_thorns("report", "out")
        self.assert_code(result, 0)
        self.assertIn("wrote out.html, ", result.err)
        self.assertLess(os.path.getsize(self.path("out.html")), 1_000_000)
        with open(self.path("out.html"), encoding="utf-8") as file:
            page = Page(file.read())
        self.assertEqual(len(page.table("Every tensor of the result")), 364)
        self.assertEqual(len(page.table("Angles at node 4, degrees")), 41)

    def test_structure(self):
        page = self.page(report_family.published_manifest(layers=3))
        self.assertEqual(page.open, [])
        self.assertEqual([a.get("lang") for a in page.all("html")], ["en"])
        self.assertEqual(len(page.all("h1")), 1)
        self.assertEqual(len(page.all("main")), 1)
        self.assertIn("width=device-width", [a.get("content", "").split(",")[0] for a in page.all("meta")])
        ids = [a["id"] for _, a in page.elements if "id" in a]
        self.assertEqual(len(ids), len(set(ids)))
        links = [a["href"] for a in page.all("a")]
        for link in links:
            self.assertTrue(link.startswith("#") and link[1:] in ids, link)
        for section in ("glance", "key", "angles", "shares", "norms", "distances", "rounding", "tensors"):
            self.assertIn("#" + section, links)
        for section in page.all("section"):
            self.assertIn(section["aria-labelledby"], ids)
        self.assertEqual(len(page.all("caption")), len(page.tables))
        for header in page.all("th"):
            self.assertIn(header["scope"], ("row", "col"))
        for drawing in page.all("svg"):
            self.assertEqual(drawing["role"], "img")
            self.assertTrue(drawing["aria-label"])
        for _, attributes in page.elements:
            if attributes.get("class") == "scroll":
                self.assertEqual((attributes["role"], attributes["tabindex"]), ("region", "0"))
                self.assertTrue(attributes["aria-label"])

    def test_needs_no_network(self):
        page = self.page(report_family.published_manifest(layers=2))
        self.assertNotRegex(page.raw, r"(?i)\b(src|srcset|action|poster|data|xlink:href)\s*=")
        self.assertNotRegex(page.raw, r"(?i)https?:|url\(|@import|//[a-z]")
        (policy,) = [a["content"] for a in page.all("meta") if "http-equiv" in a]
        self.assertTrue(policy.startswith("default-src 'none'; "), policy)
        self.assertRegex(policy, r"script-src 'sha256-[A-Za-z0-9+/]{43}='$")

    def test_names_from_strangers_change_no_element(self):
        plain = report_family.published_manifest(layers=2)

        def hostile_shapes(layers):
            # The dots that make a layer stay; the rest is replaced by every evil text in turn.
            return {
                re.sub(r"proj|norm|head|embed", lambda m: m[0] + HOSTILE[i % len(HOSTILE)], name): shape
                for i, (name, shape) in enumerate(report_family.shapes(layers).items())
            }

        models = [name + HOSTILE[i] for i, name in enumerate(report_family.MODELS)]
        adapters = [name + HOSTILE[i] for i, name in enumerate(report_family.ADAPTERS)]
        evil = report_family.published_manifest(2, models, adapters, hostile_shapes)
        evil["program"]["version"] += HOSTILE[0]
        evil["output"]["dtype"] += HOSTILE[1]
        evil["warnings"] = [HOSTILE[0] + HOSTILE[2]]
        evil["dropped"][0]["reason"] = HOSTILE[4]
        for node in evil["recipe"]["nodes"]:
            if node["kind"] == "blend":
                node["method"] += HOSTILE[0]
        for leaf in evil["leaves"]:
            leaf["where"] = leaf["architecture"] = HOSTILE[1]
        page = self.page(evil, "evil <b onclick=x> & \"co\"")
        self.assertEqual(page.open, [])

        def bare(page):
            """Tags and names of attributes, without what depends on the number of columns."""
            kept = ("script", "style", "img", "meta", "a", "title", "section", "svg", "h1", "h2", "iframe")
            return [(tag, sorted(a)) for tag, a in page.elements if tag in kept]

        self.assertEqual(bare(page), bare(self.page(plain)))
        self.assertNotIn("onerror", {name for _, a in page.elements for name in a})
        self.assertNotIn("onclick", {name for _, a in page.elements for name in a})
        text = "".join(page.text)
        self.assertIn("</title><script>alert(1)</script>", text)
        for char in "\u202e\u2066\u0000\u0007\u2028\x85":
            self.assertNotIn(char, page.raw)

    def test_shares_follow_the_edges(self):
        manifest = report_family.published_manifest(layers=2)
        report_family.write_folder(self.path("out"), manifest)
        report = self.run_thorns("report", "out", "--json").json()
        self.assertEqual(report["schema"], "thorns/report/1")
        self.assertFalse(os.path.exists(self.path("out.html")))
        names = [one["name"] for one in report["inputs"]]
        lengths = dict.fromkeys(names, 0.0)
        for tensor in manifest["tensors"]:
            for source in tensor["sources"]:
                lengths[source["label"]] += (source["norm"] * source["coefficient"]) ** 2
        total = sum(math.sqrt(square) for square in lengths.values())
        for part, name in zip(report["whole"]["parts"], names):
            self.assertAlmostEqual(part["share"], math.sqrt(lengths[name]) / total)
        root = report["nodes"][report["root"]]
        self.assertAlmostEqual(root["share"], 1.0)
        for node in report["nodes"]:
            if node["edges"]:
                self.assertAlmostEqual(node["share"], sum(e["share"] for e in node["edges"]))
        self.assertEqual([len(layer["numbers"]["angles"]) for layer in report["layers"]], [4, 4])

    def test_a_part_that_stands_twice(self):
        """{A+{A+B}}: half of the edges lead to one leaf."""
        manifest = report_family.published_manifest(layers=2)
        models = manifest["recipe"]["nodes"][:2]
        blend = dict(manifest["recipe"]["nodes"][5])
        root = dict(blend, key="{A+B again}", models=[0, 2])
        manifest["recipe"].update(nodes=[*models, blend, root], root=3)
        for tensor in manifest["tensors"]:
            tensor["nodes"] = []
            tensor["sources"] = tensor["sources"][:2]
            for source, coefficient in zip(tensor["sources"], (0.75, 0.25)):
                source.update(coefficient=coefficient, norm=1.0)
        report_family.write_folder(self.path("out"), manifest)
        report = self.run_thorns("report", "out", "--json").json()
        shares = [[edge["share"] for edge in node["edges"]] for node in report["nodes"]]
        for found, expected in zip(shares[2] + shares[3], (0.25, 0.25, 0.5, 0.5)):
            self.assertAlmostEqual(found, expected)

    def test_a_real_merge(self):
        options = self.family("BF16")
        self.assert_code(self.run_thorns("merge", "{{A+B}[L]+3*A}", *options, "-o", "out"), 0)
        result = self.run_thorns("report", "out", "-o", "page.html", "--json")
        self.assert_code(result, 0)
        report = result.json()
        with open(self.path("out", "thorns.json")) as file:
            manifest = json.load(file)
        steps = [tensor["extra_step"] for tensor in manifest["tensors"]]
        self.assertEqual(report["whole"]["sampled"], sum(step["sampled"] for step in steps))
        self.assertEqual(report["whole"]["changed"], sum(step["changed"] for step in steps))
        self.assertGreater(report["whole"]["changed"], 0)
        for place in report["places"]:
            (tensor,) = [t for t in manifest["tensors"] if t["name"] == place["tensor"]]
            self.assertAlmostEqual(place["numbers"]["norm"], tensor["norm"])
            for part, source in zip(place["numbers"]["parts"], tensor["sources"]):
                self.assertAlmostEqual(part["distance"], source["distance"])
        with open(self.path("page.html"), encoding="utf-8") as file:
            page = Page(file.read())
        angles = page.table("Angles at node 2, degrees")
        self.assertEqual(angles[0][:2], ["layer", "input_layernorm"])
        first = [t for t in manifest["tensors"] if t["name"] == "model.layers.0.mlp.up_proj.weight"]
        angle = math.degrees(first[0]["nodes"][1]["angle"])
        column = angles[0].index("up_proj")
        self.assertAlmostEqual(float(angles[1][column].lstrip("\u2248")), angle, delta=0.06)

    def test_norms_of_copies_are_read_from_the_weights(self):
        options = self.family("F16")
        self.assert_code(self.run_thorns("merge", "A[L]", *options, "-o", "out"), 0)
        tensors = support.read_safetensors(self.path("out", "model.safetensors"))
        with open(self.path("out", "thorns.json")) as file:
            kinds = {tensor["name"]: tensor["kind"] for tensor in json.load(file)["tensors"]}
        copied = [name for name, kind in kinds.items() if kind == "copy"]
        self.assertGreater(len(copied), 10)
        places = self.run_thorns("report", "out", "--json").json()["places"]
        for place in places:
            if place["tensor"] not in copied:
                continue
            dtype, _, data = tensors[place["tensor"]]
            norm = math.sqrt(sum(value**2 for value in support.decode(data, dtype)))
            self.assertAlmostEqual(place["numbers"]["norm"], norm)
            part = place["numbers"]["parts"][0]
            self.assertAlmostEqual(part["norm"], norm)
            self.assertEqual((part["distance"], part["share"]), (0, 1))
        os.rename(self.path("out", "model.safetensors"), self.path("elsewhere"))
        report = self.run_thorns("report", "out", "--json").json()
        self.assertIn("`model.safetensors` is not there", report["warnings"][-1])
        write = dict(tensors, **{copied[0]: ("F16", [1, 1], b"..")})
        support.write_safetensors(self.path("out", "model.safetensors"), write)
        self.assert_error(self.run_thorns("report", "out"), 1, copied[0], "thorns verify")
        self.assert_code(self.run_thorns("report", "out", "--no-weights"), 0)

    def test_copies_alone(self):
        options = self.family()
        self.assert_code(self.run_thorns("merge", "A", *options, "-o", "out"), 0)
        report = self.run_thorns("report", "out", "--json", "--no-weights").json()
        self.assertEqual([part["share"] for part in report["whole"]["parts"]], [1.0])
        self.assertIsNone(report["whole"]["norm"])
        page = self.run_thorns("report", "out", "-o", "-", "--no-weights").out
        self.assertNotIn("nan", page)
        self.assertIn('<section id="shares"', page)
        self.assertNotIn('<section id="angles"', page)

    def test_what_is_there_is_replaced_only_if_it_is_a_page(self):
        report_family.write_folder(self.path("out"), report_family.published_manifest(layers=1))
        self.write("out.html", "my notes on roses")
        self.assert_error(self.run_thorns("report", "out"), 1, "is no report", "-o")
        os.remove(self.path("out.html"))
        for _ in range(2):
            self.assert_code(self.run_thorns("report", "out/"), 0)
        self.assert_error(self.run_thorns("report", "out", "-o", "out"), 1, "is a folder")
        self.assert_error(self.run_thorns("report", "."), 1, "thorns.json")
        self.assertEqual(sorted(os.listdir(self.folder)), ["out", "out.html"])

    def test_numbers_too_large_to_add_are_left_out(self):
        manifest = report_family.published_manifest(layers=2)
        for tensor in manifest["tensors"]:
            tensor["norm"] = 1e300
            tensor["sources"][0]["norm"] = 1e300
            tensor["sources"][1]["distance"] = 1e300
        page = self.page(manifest)
        self.assertNotRegex(page.raw, r"\b(nan|inf)\b")

    def test_contrast_of_the_shades(self):
        """Text on every shade has a contrast of 4.5 or more (WCAG 2.2, 1.4.3), in both schemes."""
        style = self.page(report_family.published_manifest(layers=1)).raw
        light, dark = re.findall(r":root \{(.*?)\}", style, re.S)[:2]
        for scheme in (light, dark):
            colour = dict(re.findall(r"--([a-z0-9]+): (#[0-9a-f]{6})", scheme))
            for i, ink in enumerate(5 * ["low"] + ["middle"] + 3 * ["high"]):
                self.assertGreaterEqual(contrast(colour[ink], colour["s%d" % i]), 4.5, (ink, i))
            for ink in ("ink", "soft", "accent", "link"):
                for ground in ("page", "card"):
                    self.assertGreaterEqual(contrast(colour[ink], colour[ground]), 4.5, (ink, ground))


def luminance(colour):
    total = 0
    for weight, at in ((0.2126, 1), (0.7152, 3), (0.0722, 5)):
        part = int(colour[at : at + 2], 16) / 255
        total += weight * (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4)
    return total


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


if __name__ == "__main__":
    support.main()
