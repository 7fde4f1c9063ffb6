"""Style sheet of the report: light and dark, phone and paper, no external assets."""

STYLE = """
:root { color-scheme: light dark; --page:#fff; --ink:#1b1f24; --soft:#57606a; --line:#d0d7de; --panel:#f6f8fa;
  --good:#0b6bb8; --bad:#b84a00; --ok:#116329; --wrong:#a40e26; --link:#0958b3; --shade:#1b1f2455; }
@media (prefers-color-scheme: dark) { :root { --page:#0e1217; --ink:#e6edf3; --soft:#9aa5b1; --line:#30363d;
  --panel:#171c23; --good:#5aaef5; --bad:#ff9b52; --ok:#57c46b; --wrong:#ff8b93; --link:#78b5ff; --shade:#000c; } }
* { box-sizing:border-box }
html { -webkit-text-size-adjust:100%; scroll-behavior:smooth }
body { margin:0 auto; max-width:1900px; padding:24px clamp(14px,2.5vw,40px) 60px; background:var(--page); color:var(--ink);
  font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif }
h1 { font-size:1.7rem; line-height:1.2; margin:0 0 12px; overflow-wrap:anywhere }
h2 { font-size:1.3rem; margin:44px 0 12px; padding-top:12px; border-top:1px solid var(--line); overflow-wrap:anywhere }
h3 { font-size:1.02rem; margin:28px 0 10px }
p { margin:8px 0; max-width:75ch } a { color:var(--link) } .soft { color:var(--soft) } .shown:empty { display:none }
dl.facts { display:grid; grid-template-columns:max-content 1fr; gap:2px 16px; margin:0 0 22px; font-size:.93rem }
dl.facts dt { color:var(--soft) } dl.facts dd { margin:0; overflow-wrap:anywhere }
.tiles { display:grid; grid-template-columns:repeat(auto-fit,minmax(150px,1fr)); gap:12px; margin:18px 0 }
.tile { background:var(--panel); border:1px solid var(--line); border-radius:8px; padding:12px 14px }
.tile b { display:block; font-size:1.65rem; line-height:1.2; font-variant-numeric:tabular-nums }
.tile span { color:var(--soft); font-size:.85rem; display:block }
.scroll { overflow-x:auto; border:1px solid var(--line); border-radius:8px; scrollbar-width:thin;
  scrollbar-color:var(--soft) var(--panel);
  background:linear-gradient(to right,var(--page) 40%,transparent) left/36px 100% no-repeat local,
    linear-gradient(to left,var(--page) 40%,transparent) right/36px 100% no-repeat local,
    linear-gradient(to right,var(--shade),transparent) left/14px 100% no-repeat scroll,
    linear-gradient(to left,var(--shade),transparent) right/14px 100% no-repeat scroll }
.scroll::-webkit-scrollbar { height:10px } .scroll::-webkit-scrollbar-track { background:var(--panel) }
.scroll::-webkit-scrollbar-thumb { background:var(--soft); border-radius:5px; border:2px solid var(--panel) }
.sheet { display:block; max-width:none; height:auto; width:max(100%,1100px) }
.slider { padding:6px 4px 2px; font-size:.9rem } .slider label { font-weight:600; display:block }
.slider input { display:block; width:calc(83.8% + 16px); margin:6px 0 4px calc(11% - 8px); accent-color:var(--link); height:28px }
.slider p { margin:4px 0 } .slider .counts { font-variant-numeric:tabular-nums } .slider output { font-variant-numeric:tabular-nums }
.slider button { font:inherit; color:var(--ink); background:var(--page); border:1px solid var(--line); border-radius:6px;
  padding:6px 12px; cursor:pointer } .slider button:focus-visible,.slider input:focus-visible { outline:2px solid var(--link) }
[hidden] { display:none !important }
.scroll:focus-visible { outline:2px solid var(--link) }
table { border-collapse:collapse; width:100%; font-size:.9rem; font-variant-numeric:tabular-nums }
th,td { padding:7px 12px; text-align:right; white-space:nowrap; border-top:1px solid var(--line) }
thead th { color:var(--soft); font-weight:600; vertical-align:bottom; border-top:0; white-space:normal; min-width:4.6em }
th:first-child { text-align:left; position:sticky; left:0; background:var(--page); font-weight:600;
  max-width:40vw; overflow:hidden; text-overflow:ellipsis }
tr.mean > * { background:var(--panel); font-weight:600; border-top:2px solid var(--line) }
tr.mean > th:first-child { background:var(--panel) }
.bar { display:inline-block; width:110px; height:10px; border:1px solid var(--line); border-radius:3px; overflow:hidden;
  vertical-align:middle; margin-right:8px; background:var(--panel) }
.bar i { display:block; height:100%; background:var(--good); -webkit-print-color-adjust:exact; print-color-adjust:exact }
.charts { display:grid; grid-template-columns:repeat(auto-fit,minmax(min(340px,100%),1fr)); gap:16px; margin-top:14px; align-items:start }
.chart { margin:0; background:var(--panel); border:1px solid var(--line); border-radius:8px; padding:10px }
.chart figcaption { font-weight:600; font-size:.92rem; padding:0 2px 4px }
svg { width:100%; height:auto; display:block; font:12.5px system-ui,sans-serif; -webkit-print-color-adjust:exact; print-color-adjust:exact }
svg text { fill:var(--soft) } svg .label { fill:var(--ink) }
svg .label,svg .good-text,svg .bad-text { font-weight:600; paint-order:stroke; stroke:var(--panel); stroke-width:4px }
svg .axis { stroke:var(--soft) } svg .grid { stroke:var(--line); stroke-width:1 }
svg .good { fill:var(--good) } svg .bad { fill:var(--bad) }
svg .good-text { fill:var(--good) } svg .bad-text { fill:var(--bad) }
svg .threshold { stroke:var(--ink); stroke-width:1.5; stroke-dasharray:5 4 }
svg .curve { fill:none; stroke:var(--good); stroke-width:2.5; stroke-linejoin:round }
svg .alarms { stroke:var(--bad) } svg .range { fill:var(--soft); opacity:.16 }
svg .mark { fill:var(--bad); stroke:var(--panel); stroke-width:2 }
.cards { display:grid; grid-template-columns:repeat(auto-fill,minmax(min(480px,100%),1fr)); gap:14px }
.card { margin:0; background:var(--panel); border:1px solid var(--line); border-radius:8px; padding:8px; break-inside:avoid }
.panels { display:grid; grid-template-columns:repeat(auto-fit,minmax(min(130px,40%),1fr)); gap:6px }
.card .own { display:none } .card[data-state=missed] .own { display:block }
.panels img { width:100%; height:auto; display:block; border-radius:4px }
.panels span { font-size:.75rem; color:var(--soft) }
.pair { display:grid; grid-template-columns:1fr 1fr; gap:8px; margin-top:8px; font-size:.78rem; color:var(--soft) }
.pair img { width:100%; height:110px; object-fit:contain; display:block }
.card figcaption { font-size:.85rem; margin-top:4px } .file { color:var(--soft); overflow-wrap:anywhere }
.ok { color:var(--ok) } .wrong { color:var(--wrong) }
.legend { max-width:460px; margin:6px 0 14px } .legend p { font-size:.85rem }
.legend img { width:100%; height:14px; display:block; border-radius:3px; border:1px solid var(--line); image-rendering:auto }
.legend .ends { display:flex; justify-content:space-between; font-size:.78rem; color:var(--soft); text-align:center; line-height:1.3 }
.legend .ends span:first-child { text-align:left } .legend .ends span:last-child { text-align:right }
@media (max-width:560px) { body { padding:16px 14px 40px } h1 { font-size:1.4rem } dl.facts { grid-template-columns:1fr }
  dl.facts dd { margin-bottom:6px } .tiles { grid-template-columns:1fr 1fr; gap:10px } th,td { padding:7px 9px }
  th:first-child { max-width:34vw } .bar { width:60px } }
@media print { :root { --page:#fff; --ink:#000; --soft:#444; --line:#bbb; --panel:#fff; --good:#0b6bb8; --bad:#b84a00;
  --ok:#116329; --wrong:#a40e26; --link:#000 } body { max-width:none; padding:0; font-size:11pt } .scroll { overflow:visible; background:none } .slider { display:none }
  .cards { grid-template-columns:1fr 1fr } .charts { grid-template-columns:repeat(3,1fr) } .sheet { width:100% } a { color:inherit; text-decoration:none } h2 { margin-top:20px } header,section { break-inside:auto }
  table { font-size:8pt } th,td { padding:3px 5px } .chart,.tile,tr { break-inside:avoid } h2,h3 { break-after:avoid } }
"""
