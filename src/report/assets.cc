// Style and script of the page. The shades of a table are one hue from light to dark, or from dark
// to light on a dark page; every text on them has a contrast of 5 or more. Without the script
// nothing is missing but the sorting.
#include "report/page.h"

namespace thorns {

std::string_view page_style() {
  return R"css(
:root {
  color-scheme: light dark;
  --page: #ffffff; --card: #f6f8fa; --ink: #10161c; --soft: #4d5862; --rule: #cfd6dd; --accent: #a3123f;
  --link: #00599c; --edge: #9fb3c4; --other: #6b7782;
  --s0: #f0f8ff; --s1: #d5e9fb; --s2: #b8d9f5; --s3: #9ac7ed; --s4: #79b3e3; --s5: #579fd9; --s6: #1271b0;
  --s7: #005996; --s8: #00427d; --low: #10161c; --high: #ffffff; --middle: #10161c;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --page: #12171c; --card: #1a2027; --ink: #eef2f6; --soft: #aab6c1; --rule: #37424d; --accent: #ff7ba0;
    --link: #7cc1ff; --edge: #4f6477; --other: #93a1ae;
    --s0: #192733; --s1: #1e374b; --s2: #244763; --s3: #29587d; --s4: #2d6998; --s5: #5099d3; --s6: #63b1f0;
    --s7: #8ac8fc; --s8: #a4e2ff; --low: #ffffff; --high: #10161c; --middle: #10161c;
  }
}
* { box-sizing: border-box; }
html { scroll-behavior: smooth; }
@media (prefers-reduced-motion: reduce) { html { scroll-behavior: auto; } }
body { margin: 0 auto; padding: 1.25rem; max-width: 76rem; background: var(--page); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; }
h1, h2, h3 { line-height: 1.2; overflow-wrap: anywhere; }
h1 { margin: .3em 0 0; font-size: 2rem; }
h2 { margin: 1.7em 0 .5em; padding-top: .6em; border-top: 1px solid var(--rule); font-size: 1.35rem; }
h3 { margin: 1em 0 .2em; font-size: 1.05rem; }
p { margin: .4em 0 .8em; max-width: 48rem; }
a { color: var(--link); }
code { font: .92em ui-monospace, monospace; overflow-wrap: anywhere; }
code.key { display: block; padding: .7rem .9rem; background: var(--card); border: 1px solid var(--rule); border-radius: 6px; }
:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
.skip { position: absolute; left: -99rem; }
.skip:focus { left: 1rem; top: .5rem; padding: .3rem .6rem; background: var(--page); z-index: 2; }
header p { color: var(--soft); margin: .2em 0; }
nav ul { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; margin: .8rem 0 0; padding: 0; list-style: none; }
nav a { display: inline-block; padding: .2rem 0; }
#glance h2 { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .7rem; margin: 1.4rem 0 0; }
.facts div { padding: .6rem .8rem; background: var(--card); border: 1px solid var(--rule); border-radius: 6px; }
.facts dt { color: var(--soft); font-size: .85rem; }
.facts dd { margin: 0; font-size: 1.35rem; font-weight: 600; line-height: 1.25; }
.facts small { display: block; font-size: .82rem; font-weight: 400; color: var(--soft); }
.scroll { overflow-x: auto; max-width: 100%; margin: .4rem 0 1rem; }
.side { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); gap: 0 2rem; align-items: start; }
.side article { min-width: 0; }
svg { display: block; max-width: none; height: auto; }
svg.norms { width: 100%; min-width: 36rem; max-width: 52rem; }
svg text { fill: var(--ink); font: 13px system-ui, sans-serif; }
svg .result { font-weight: 700; fill: var(--accent); }
svg .adapter { font-style: italic; }
svg .share { font-size: 12px; fill: var(--soft); paint-order: stroke; stroke: var(--page); stroke-width: 4px; }
svg rect { fill: var(--card); stroke: var(--soft); }
svg .edge { fill: none; stroke: var(--edge); }
svg .edge.adapter { stroke: var(--accent); stroke-opacity: .55; }
svg .rule { stroke: var(--rule); }
svg .lead { stroke: var(--rule); fill: none; }
svg .line { fill: none; stroke: var(--other); stroke-width: 1.3; }
svg .line.result { stroke: var(--accent); stroke-width: 2.8; }
svg.norms text { font-size: 12px; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .875rem; }
caption { position: sticky; left: 0; width: max-content; max-width: min(100vw - 2.5rem, 70rem); text-align: left; font-weight: 600; padding: .3rem 0; }
th, td { padding: .2rem .5rem; border-bottom: 1px solid var(--rule); text-align: right; vertical-align: bottom; }
tbody th, tfoot th, thead th:first-child { text-align: left; font-weight: 500; }
thead th { color: var(--soft); font-weight: 600; vertical-align: bottom; text-align: left; }
thead th.n { text-align: right; }
td.t { text-align: left; overflow-wrap: break-word; max-width: 34rem; }
table.heat tr > :first-child { position: sticky; left: 0; background: var(--page); }
tfoot th, tfoot td { border-top: 2px solid var(--rule); }
table.heat td { padding: .16rem .3rem; min-width: 2.9rem; text-align: center; border: 1px solid var(--page); font-size: .8rem; }
table.heat thead th.n { text-align: center; }
table.modules thead th.n { text-align: left; padding: .3rem; font-size: .76rem; }
table.modules thead th.n > span, table.modules thead th.n button { writing-mode: vertical-rl; transform: rotate(180deg); }
.s0, .s1, .s2, .s3, .s4 { color: var(--low); }
.s5 { color: var(--middle); }
.s6, .s7, .s8 { color: var(--high); }
.s0 { background: var(--s0); } .s1 { background: var(--s1); } .s2 { background: var(--s2); }
.s3 { background: var(--s3); } .s4 { background: var(--s4); } .s5 { background: var(--s5); }
.s6 { background: var(--s6); } .s7 { background: var(--s7); } .s8 { background: var(--s8); }
.scale { display: flex; flex-wrap: wrap; align-items: center; gap: .2rem .5rem; font-size: .85rem; color: var(--soft); margin: .3rem 0 .6rem; }
.shades { position: relative; display: flex; border: 1px solid var(--rule); }
.shades i { width: 1.9rem; height: 1rem; }
.shades b { position: absolute; top: -5px; bottom: -5px; border-left: 3px solid var(--accent); }
.mark { color: var(--accent); }
th button { all: unset; cursor: pointer; box-sizing: border-box; font-weight: inherit; color: inherit; }
th button:focus-visible { outline: 3px solid var(--link); }
th button:hover { text-decoration: underline; }
th[aria-sort="ascending"] button::after { content: " \2191"; }
th[aria-sort="descending"] button::after { content: " \2193"; }
summary { cursor: pointer; color: var(--link); }
details ul { margin: .2rem 0; padding-left: 1.3rem; overflow-wrap: anywhere; }
@media (max-width: 40rem) {
  body { padding: .8rem; }
  h1 { font-size: 1.6rem; }
  .facts { grid-template-columns: 1fr 1fr; }
  table { font-size: .8rem; }
  table.heat td { min-width: 2.1rem; padding: .16rem .05rem; font-size: .7rem; }
  .shades i { width: 1.3rem; }
}
@page { size: A4; margin: 12mm; }
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  nav, .skip { display: none; }
  .scroll { overflow: visible; }
  caption, table.heat tr > :first-child { position: static; }
  .side { grid-template-columns: 1fr 1fr; gap: 0 1rem; }
  svg.key { width: 100%; }
  svg.norms { min-width: 0; }
  table { font-size: 7.5pt; }
  table.plain { table-layout: auto; width: 100%; }
  th, td { padding: 1pt 2pt; }
  table.heat td { min-width: 0; font-size: 7pt; }
  table.plain { font-size: 6.5pt; }
  table.plain tbody th, td.t { overflow-wrap: anywhere; }
  table.heat { break-inside: avoid; }
  thead { display: table-header-group; }
  tr, .facts div, svg { break-inside: avoid; }
  h2, h3, p, caption, .scale { break-after: avoid; }
  .s0, .s1, .s2, .s3, .s4, .s5, .s6, .s7, .s8 { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
)css";
}

std::string_view page_script() {
  return R"js(
'use strict';
const words = new Intl.Collator('en', { numeric: true });
const number = (text) => parseFloat(text.replace(/^\u2248/, ''));
for (const table of document.querySelectorAll('table.sort')) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement('button');
    button.type = 'button';
    button.title = 'Sort';
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener('click', () => {
      const numeric = head.className === 'n';
      const before = head.getAttribute('aria-sort');
      const up = before ? before === 'descending' : !numeric;
      heads.forEach((other) => other.removeAttribute('aria-sort'));
      head.setAttribute('aria-sort', up ? 'ascending' : 'descending');
      const rows = [...body.rows].map((row) => {
        const text = row.cells[column].textContent;
        return { row, key: numeric ? number(text) : text };
      });
      rows.sort((a, b) => {
        if (!numeric) return (up ? 1 : -1) * words.compare(a.key, b.key);
        const none = Number.isNaN(a.key) - Number.isNaN(b.key);
        return none || (up ? a.key - b.key : b.key - a.key);
      });
      body.append(...rows.map((entry) => entry.row));
    });
  });
}
)js";
}

}  // namespace thorns
