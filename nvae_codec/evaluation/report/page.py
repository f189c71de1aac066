"""The style and script of the report: light and dark, phone and print, nothing from elsewhere."""

STYLE = """
:root { color-scheme: light dark; --ink: #1c1f23; --soft: #5d6670; --paper: #fcfcfb; --line: #d9dde1;
  --a: #2166ac; --b: #b35806; --c: #8a939c }
@media (prefers-color-scheme: dark) { :root { --ink: #e7e9ec; --soft: #a3acb5; --paper: #15181b; --line: #343a41;
  --a: #6cb0ee; --b: #f0a35a; --c: #7d8791 } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 64rem; padding: 1.5rem 1rem 3rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .25rem } h2 { font-size: 1.15rem; margin: 2.25rem 0 .25rem }
p { margin: .25rem 0 .75rem; color: var(--soft); max-width: 46rem }
.sums { display: grid; grid-template-columns: repeat(auto-fit, minmax(7.75rem, 1fr)); gap: 1rem; margin: 1.25rem 0 }
.sums div { border-top: 2px solid var(--line); padding-top: .4rem; color: var(--soft); font-size: .875rem }
.sums b { display: block; font-size: 1.5rem; line-height: 1.2; color: var(--ink); font-variant-numeric: tabular-nums }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 0 2rem }
svg { width: 100%; max-width: 32rem; height: auto; display: block; font-size: 12px }
svg text { fill: var(--ink) } svg .l { text-anchor: end } svg .m { text-anchor: middle }
svg .a { fill: var(--a) } svg .b { fill: var(--b) } svg .c { fill: var(--c) } svg .dot { fill-opacity: .6 }
svg .axis { stroke: var(--soft) } svg .grid { stroke: var(--line) }
.scroll { overflow-x: auto }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; width: 100% }
th, td { padding: .25rem .6rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line) }
th:first-child, td:first-child { text-align: left } th button { font: inherit; font-weight: 600; color: inherit;
  background: none; border: 0; padding: 0; cursor: pointer }
.images { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, var(--cell)), 1fr)); gap: 1rem }
figure { margin: 0; break-inside: avoid } figure div { display: flex; gap: 2px }
figure img { width: calc(50% - 1px); height: auto; min-width: 0; object-fit: contain }
img.tiny { image-rendering: pixelated }
figcaption { font-size: .75rem; color: var(--soft); overflow-wrap: anywhere }
@media print { body { max-width: none; font-size: 11pt } h2 { break-after: avoid } tr { break-inside: avoid }
  .charts section { break-inside: avoid } .charts { grid-template-columns: 1fr 1fr }
  :root { --ink: #000; --paper: #fff; --soft: #444; --line: #bbb; --a: #2166ac; --b: #b35806; --c: #777 }
  img { print-color-adjust: exact } }
"""

SCRIPT = """
for (const table of document.querySelectorAll('table.sorts')) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement('button');
    button.textContent = head.textContent;
    head.replaceChildren(button);
    let up = true;
    button.addEventListener('click', () => {
      const body = table.tBodies[0], key = (row) => row.cells[column].textContent;
      const order = (a, b) => (parseFloat(key(a)) - parseFloat(key(b))) || key(a).localeCompare(key(b));
      body.append(...[...body.rows].sort((a, b) => up ? order(a, b) : order(b, a)));
      up = !up;
    });
  });
}
"""
