"""How `report.html` looks: for a phone and a wide screen, in light and dark."""

STYLE = """
:root { color-scheme: light dark; --text: #1d1f21; --quiet: #5c6268; --back: #ffffff;
        --card: #f5f6f7; --line: #d9dcdf; --link: #0059a3; --bad: #a63c00; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e4e6e8; --quiet: #a2a8ae; --back: #16181a; --card: #202326; --line: #383c40;
          --link: #7fbcf2; --bad: #ff9a5c; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--text); background: var(--back);
       max-width: 70rem; margin: 0 auto; padding: 1rem 1rem 4rem; overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; margin: 0.5rem 0; }
h2 { font-size: 1.3rem; line-height: 1.3; margin: 3rem 0 0.5rem; padding-top: 1rem;
     border-top: 3px solid var(--line); }
h3 { font-size: 1.05rem; line-height: 1.35; margin: 0 0 0.5rem; }
h4 { font-size: 0.95rem; margin: 1.2rem 0 0.3rem; }
a { color: var(--link); }
nav ul { margin: 0.2rem 0 0.6rem; padding-left: 1.4rem; columns: 24rem; }
section, h2 { scroll-margin-top: 1rem; }
section { margin: 1.5rem 0; }
.beside { display: grid; gap: 1rem 2rem; grid-template-columns: minmax(0, 1fr); }
@media (min-width: 60rem) { .pictured { grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); } }
table { border-collapse: collapse; width: 100%; max-width: 46rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.3rem 0.5rem; border-bottom: 1px solid var(--line); text-align: right;
         vertical-align: top; font-weight: normal; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
th:last-child, td:last-child { padding-right: 0; }
thead th { color: var(--quiet); font-size: 0.85rem; line-height: 1.25; vertical-align: bottom;
           white-space: normal; }
thead button { font: inherit; color: inherit; background: none; border: 0; padding: 0; text-align: inherit;
               cursor: pointer; }
[aria-sort=ascending] button::after { content: " ↑"; } [aria-sort=descending] button::after { content: " ↓"; }
input[type=search] { font: inherit; color: inherit; background: var(--card); border: 1px solid var(--line);
                     border-radius: 0.3rem; padding: 0.3rem 0.6rem; width: min(26rem, 100%); }
:focus-visible { outline: 2px solid var(--link); outline-offset: 1px; }
audio { width: 100%; max-width: 26rem; vertical-align: middle; }
table { overflow-wrap: break-word; } td { white-space: nowrap; } td:last-child { white-space: normal; }
sup { color: var(--quiet); font-size: 0.7em; line-height: 1; white-space: nowrap; }
@media (max-width: 30rem) {
  body { font-size: 15px; } th, td { padding: 0.3rem 0.25rem; } thead th { font-size: 0.75rem; } }
details { margin: 0.5rem 0; }
summary { cursor: pointer; color: var(--link); }
.card { background: var(--card); border-radius: 0.4rem; padding: 0.5rem 0.8rem; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr)); gap: 0.2rem 1rem;
     margin: 0.3rem 0; font-size: 0.9rem; }
dt { color: var(--quiet); } dd { margin: 0; font-variant-numeric: tabular-nums; }
pre { font: 0.8rem/1.45 ui-monospace, monospace; white-space: pre-wrap; margin: 0.4rem 0; }
.notes { color: var(--quiet); font-size: 0.85rem; padding-left: 1.1rem; }
.failed { color: var(--bad); font-weight: 600; }
figure { margin: 0 0 1rem; max-width: 46rem; }
img { display: block; max-width: 100%; height: auto; background: #ffffff; border-radius: 0.3rem; }
figcaption { color: var(--quiet); font-size: 0.85rem; }
.gallery { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(26rem, 100%), 1fr)); }
"""
