"""How the page looks and what its filter does: the style sheet and the script, as they are set."""

from __future__ import annotations

STYLE = """\
:root{color-scheme:light dark;--paper:#fff;--card:#fff;--ink:#1c1c1e;--muted:#6a6a70;
--line:#dcdce0;--wash:#f4f4f6;--mark:#c2123f}
@media (prefers-color-scheme:dark){:root{--paper:#141416;--card:#1c1c1f;--ink:#ececf0;
--muted:#a0a0a8;--line:#37373c;--wash:#26262a;--mark:#ff7d97}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);
font:15px/1.45 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
header,main,#filters{padding:0 clamp(12px,2.5vw,36px)}
h1{font-size:1.7rem;margin:1.2rem 0 .3rem}
h2{font-size:1.25rem;margin:1.8rem 0 .8rem}
h2 small{font-weight:400;font-size:.95rem;color:var(--muted);margin-left:.4em}
h3{font:600 1.15rem ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;margin:0}
h3 a{color:inherit;text-decoration:none}
a{color:var(--mark)}
.about{list-style:none;display:flex;flex-wrap:wrap;gap:.2rem 1.2rem;margin:0 0 1rem;padding:0;
color:var(--muted)}
#filters{position:sticky;top:0;z-index:2;display:flex;flex-wrap:wrap;gap:.5rem .9rem;
align-items:center;padding-top:.6rem;padding-bottom:.6rem;background:var(--paper);
border-block:1px solid var(--line)}
#filters label{color:var(--muted);font-size:.9rem}
input,select,button{font:inherit;font-size:.9rem;color:var(--ink);background:var(--wash);
border:1px solid var(--line);border-radius:6px;padding:.25rem .5rem;max-width:12rem}
input{width:9rem}
button{cursor:pointer}
output{color:var(--muted);font-size:.9rem;margin-left:auto}
.cards{display:grid;gap:16px;align-items:start;
grid-template-columns:repeat(auto-fill,minmax(min(100%,33rem),1fr))}
article{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:14px 16px;
min-width:0;scroll-margin-top:5rem}
article:target{border-color:var(--mark)}
.summary{margin:.25rem 0 .8rem}
.note{color:var(--mark);margin:.25rem 0 .8rem}
.heads,.row{display:grid;grid-auto-flow:column;grid-auto-columns:minmax(0,1fr);gap:6px}
.heads{color:var(--muted);font-size:.8rem}
figure{margin:0 0 .55rem}
.row{cursor:zoom-in;border-radius:4px}
.picture{display:block;width:100%;height:auto;background:var(--wash) 0 0/100% 100%;
outline:1px solid var(--line);outline-offset:-1px}
figcaption{font-size:.8rem;color:var(--muted);overflow-wrap:anywhere}
figcaption b{color:var(--ink);font-weight:600}
dl{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:.25rem .9rem;
margin:.8rem 0 .4rem;font-size:.9rem}
dt{color:var(--muted)}
dd{margin:0;overflow-wrap:anywhere}
.tags{display:flex;flex-wrap:wrap;gap:.25rem}
.tags span{background:var(--wash);border-radius:5px;padding:0 .45em}
.parameters{display:block}
.parameters dt{color:var(--ink);overflow-wrap:anywhere}
.parameters dd{margin:0 0 .5rem 1.2rem;color:var(--muted)}
code{font-size:.92em;font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
details{border-top:1px solid var(--line);font-size:.9rem}
summary{cursor:pointer;padding:.35rem 0}
details ul{margin:.2rem 0 .6rem;padding-left:1.2rem}
[hidden]{display:none!important}
dialog{border:0;border-radius:10px;padding:16px;max-width:96vw;max-height:94vh;overflow:auto;
background:var(--card);color:var(--ink)}
dialog::backdrop{background:rgb(0 0 0/.6)}
dialog .row{cursor:zoom-out;grid-auto-flow:row;
grid-template-columns:repeat(auto-fit,minmax(min(100%,300px),1fr));width:min(88vw,1240px)}
dialog .picture{image-rendering:pixelated}
@media (max-width:40rem){#filters{position:static}article{padding:12px}
dl:not(.parameters){grid-template-columns:minmax(0,1fr)}dd{margin-bottom:.3rem}}
@media print{#filters{display:none}article{break-inside:avoid}
.picture{print-color-adjust:exact;-webkit-print-color-adjust:exact}}"""

SCRIPT = """\
"use strict";
const form = document.getElementById("filters");
const words = document.getElementById("words");
const count = document.getElementById("count");
const cards = [...document.querySelectorAll("article")];
const texts = new Map(cards.map((card) => [card, card.textContent.toLowerCase()]));
function choose() {
  const wanted = words.value.toLowerCase().split(" ").filter(Boolean);
  let shown = 0;
  for (const card of cards) {
    let fits = wanted.every((word) => texts.get(card).includes(word));
    for (const select of form.querySelectorAll("select")) {
      const has = card.dataset[select.name].split("|");
      fits = fits && (select.value === "" || has.includes(select.value));
    }
    card.hidden = !fits;
    shown += fits;
  }
  for (const section of document.querySelectorAll("section")) {
    section.hidden = !section.querySelector("article:not([hidden])");
  }
  count.textContent = shown + " of " + cards.length;
}
form.addEventListener("input", choose);
form.addEventListener("reset", () => setTimeout(choose));
form.addEventListener("submit", (event) => event.preventDefault());
const large = document.getElementById("large");
function enlarge(row) {
  large.replaceChildren(row.cloneNode(true), row.nextElementSibling.cloneNode(true));
  large.showModal();
}
for (const row of document.querySelectorAll("figure .row")) {
  row.addEventListener("click", () => enlarge(row));
  row.addEventListener("keydown", (event) => {
    if (event.key === "Enter") enlarge(row);
  });
}
large.addEventListener("click", () => large.close());
choose();"""
