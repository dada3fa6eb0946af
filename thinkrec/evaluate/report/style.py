"""The style sheet of the report: one column of text, plots beside each other where there is room, no fonts or images from outside."""

from __future__ import annotations

COLOURS = ("#1d5fc4", "#c2620e", "#12795f", "#7a4fb5", "#b3345f", "#6d7680")  # of curves and bars, classes c0, c1, ...

PAGE = """
:root { --ink: #1c2126; --soft: #626b75; --faint: #e6e8eb; --wash: #f6f7f8; --tint: #f2f6fd;
  --accent: #1d5fc4; --warm: #b4530a; --good: #12795f; --type: system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
* { box-sizing: border-box; }
html { color-scheme: light; -webkit-text-size-adjust: 100%; }
body { margin: 0; background: #fff; color: var(--ink); font: 16px/1.55 var(--type); font-variant-numeric: tabular-nums; }
main { max-width: 1080px; margin: 0 auto; padding: 40px 20px 80px; }
header { border-bottom: 1px solid var(--faint); padding-bottom: 28px; margin-bottom: 8px; }
.kicker { color: var(--soft); font-size: 13px; letter-spacing: .04em; overflow-wrap: anywhere; }
h1 { font-size: clamp(26px, 4.2vw, 40px); line-height: 1.15; letter-spacing: -.02em; font-weight: 650; margin: 10px 0 16px;
  max-width: 24em; text-wrap: balance; }
h2 { font-size: 20px; font-weight: 650; letter-spacing: -.01em; margin: 52px 0 6px; }
h3 { font-size: 14px; font-weight: 600; margin: 0 0 8px; }
p { margin: 0 0 10px; max-width: 44em; text-wrap: pretty; overflow-wrap: anywhere; }
p.lead { font-size: 17px; }
nav { display: flex; flex-wrap: wrap; gap: 4px 18px; padding: 14px 0; font-size: 14px; }
nav a { color: var(--soft); text-decoration: none; border-bottom: 1px solid transparent; }
nav a:hover { color: var(--accent); border-color: var(--accent); }
section h3 { margin-top: 24px; }
.plots h3, .card h3 { margin-top: 0; }
.plots svg + h3 { margin-top: 24px; }
abbr { text-decoration: underline dotted #b9bfc6; text-underline-offset: 3px; cursor: help; }
.digest { overflow-wrap: anywhere; }
.note { color: var(--soft); font-size: 14px; }
.better { color: var(--good); }
.worse { color: var(--warm); }
details { margin: 10px 0; }
summary { cursor: pointer; color: var(--soft); font-size: 14px; }
pre { background: var(--wash); padding: 12px; border-radius: 6px; margin: 8px 0; white-space: pre-wrap; overflow-wrap: anywhere;
  font: 12px/1.5 ui-monospace, Menlo, Consolas, monospace; }
"""

TABLES = """
.wide { overflow-x: auto; margin: 14px 0 24px; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td { padding: 7px 10px 7px 0; text-align: right; vertical-align: top; border-bottom: 1px solid var(--faint); white-space: nowrap; }
th { font-weight: 600; border-bottom-color: #b9bfc6; vertical-align: bottom; }
th small, td small { display: block; color: var(--soft); font-weight: 400; font-size: 12px; }
th:first-child, td:first-child { text-align: left; white-space: normal; min-width: 7em; }
table.broad th:first-child, table.broad td:first-child { position: sticky; left: 0; background: #fff; }
tr.model td { background: var(--tint); }
tr.model td:first-child { box-shadow: inset 3px 0 var(--accent); padding-left: 10px; font-weight: 600; }
table.facts { table-layout: fixed; margin: 8px 0 20px; }
table.facts td { text-align: left; white-space: normal; overflow-wrap: anywhere; }
table.facts td:first-child { width: 38%; color: var(--soft); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(140px, 46%), 1fr)); gap: 1px; margin: 14px 0;
  border: 1px solid var(--faint); border-radius: 6px; overflow: hidden; }
.tiles div { box-shadow: 0 0 0 1px var(--faint); padding: 12px 14px; font-size: 22px; font-weight: 600; overflow-wrap: anywhere; }
.tiles small { display: block; font-size: 12px; font-weight: 400; color: var(--soft); }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(320px, 100%), 1fr)); gap: 16px; margin: 16px 0; }
.card { border: 1px solid var(--faint); border-radius: 6px; padding: 14px 16px; min-width: 0; overflow-wrap: anywhere; }
.card p { font-size: 15px; margin: 8px 0; }
.card p.note { font-size: 13px; }
.chip { display: inline-block; font-size: 12px; background: var(--wash); border-radius: 10px; padding: 1px 9px; margin: 0 4px 4px 0; }
"""

PLOTS = """
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(360px, 100%), 1fr)); gap: 28px 36px; margin: 18px 0; }
.plots > div { max-width: 440px; min-width: 0; }
svg { display: block; width: 100%; height: auto; }
svg text { font: 12px var(--type); fill: var(--ink); }
svg .end { text-anchor: end; }
svg .middle { text-anchor: middle; }
svg .tick { fill: var(--soft); font-size: 11px; }
svg .soft { fill: var(--soft); font-size: 11px; }
svg text.on { fill: #fff; }
svg text.strong { font-weight: 600; }
svg text.plain { fill: #3d454d; }
svg .grid { stroke: var(--faint); }
svg .reference { stroke: #737b84; stroke-dasharray: 3 3; }
svg .range { stroke-width: 2.5; stroke-linecap: round; }
svg line.strong { stroke: var(--accent); }
svg line.plain { stroke: #aab1b9; }
svg circle.strong { fill: var(--accent); }
svg circle.plain { fill: #6d7680; }
svg .faint { opacity: .5; }
svg .ring { stroke: #fff; stroke-width: 2.5; }
svg polyline.thin { stroke-width: 1; opacity: .45; }
svg polyline { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
"""

PHONE = """
@media (max-width: 560px) {
  main { padding: 24px 16px 56px; }
  h2 { margin-top: 40px; }
  table.figures, table.figures tbody { display: block; }
  table.figures tr { display: grid; grid-template-columns: repeat(var(--columns), 1fr); column-gap: 6px; padding: 7px 0;
    border-bottom: 1px solid var(--faint); }
  table.figures th, table.figures td { border: 0; padding: 0; font-size: 13px; text-align: left; white-space: normal; background: none; }
  table.figures th small, table.figures td small { font-size: 11px; }
  table.figures th:first-child, table.figures td:first-child { grid-column: 1 / -1; padding: 0 0 3px; min-width: 0; }
  table.figures td:first-child small { display: inline; margin-left: 6px; }
  table.figures tr.model { background: var(--tint); box-shadow: inset 3px 0 var(--accent); padding-left: 10px; }
  table.figures tr.model td:first-child { box-shadow: none; }
}
@page { margin: 16mm; }
@media print {
  body { font-size: 11pt; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  main { max-width: none; padding: 0; }
  nav { display: none; }
  h2, h3, thead { break-after: avoid; }
  tr, .card, .tiles, .plots > div { break-inside: avoid; }
}
"""

SERIES = "".join(
    f"svg rect.c{n}, svg circle.c{n} {{ fill: {colour}; }} svg polyline.c{n}, svg line.c{n} {{ stroke: {colour}; }}\n"
    for n, colour in enumerate(COLOURS)
)
STYLE = PAGE + TABLES + PLOTS + SERIES + PHONE
