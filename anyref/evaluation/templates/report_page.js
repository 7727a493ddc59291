"use strict";
// The report's switches. What is chosen stands in the address after "#view:", so that a view can be sent to somebody.
(function () {
  const byId = (id) => document.getElementById(id);
  const data = byId("scores") ? JSON.parse(byId("scores").textContent) : null;
  const names = ["sort", "order", "of", "category", "only", "marks", "search"];
  const style = document.head.appendChild(document.createElement("style"));
  const chosen = (name) => byId(name) ? byId(name).value : "";

  function setMode(mode) {
    document.body.dataset.mode = mode;
    for (const button of document.querySelectorAll("[data-set-mode]")) button.setAttribute("aria-pressed", String(button.dataset.setMode === mode));
    arrange();
  }

  function arrange() {
    if (!data) return;
    const mark = chosen("marks");
    style.textContent = mark ? '.strip g[data-marks="' + CSS.escape(mark) + '"] { display: inline; }' : "";
    const metric = data.metrics.findIndex((m) => m.name === chosen("sort"));
    const mode = document.body.dataset.mode === "official" ? 0 : 1;
    const run = Number(chosen("of") || 0);
    const words = chosen("search").toLowerCase().trim();
    const scoreOf = (index) => { const of = data.cases[index].scores[run]; return metric < 0 || !of ? null : of[metric][mode]; };
    const visible = (index) => {
      const one = data.cases[index];
      return (!chosen("category") || one.category === chosen("category")) && (!words || one.text.includes(words)) &&
        (!chosen("only") || one.scores.some((of, number) => of && (metric < 0 || number === run) &&
          of.some((cell, m) => (metric < 0 || m === metric) && cell[2] === chosen("only"))));
    };
    const cards = [...document.querySelectorAll(".case")];
    if (metric >= 0) {
      const up = data.metrics[metric].better === (chosen("order") !== "best");
      cards.sort((a, b) => {
        const x = scoreOf(a.dataset.index), y = scoreOf(b.dataset.index);
        if (x === null || y === null) return (x === null) - (y === null) || a.dataset.index - b.dataset.index;
        return (up ? x - y : y - x) || a.dataset.index - b.dataset.index;
      });
    } else cards.sort((a, b) => a.dataset.index - b.dataset.index);
    let count = 0;
    for (const card of cards) { card.hidden = !visible(card.dataset.index); count += !card.hidden; }
    byId("cards").append(...cards);
    byId("shown").textContent = count + " of " + cards.length + " cases";
  }

  function remember() {
    const view = new URLSearchParams({ mode: document.body.dataset.mode });
    for (const name of names) if (chosen(name)) view.set(name, chosen(name));
    try { history.replaceState(null, "", "#view:" + view); } catch (error) { /* not allowed for this kind of page */ }
  }

  function recall() {
    const view = new URLSearchParams(location.hash.startsWith("#view:") ? location.hash.slice(6) : "");
    for (const name of names) if (view.has(name) && byId(name)) byId(name).value = view.get(name);
    setMode(view.get("mode") === "official" ? "official" : "strict");
  }

  for (const button of document.querySelectorAll("[data-set-mode]")) button.addEventListener("click", () => { setMode(button.dataset.setMode); remember(); });
  for (const name of names) if (byId(name)) byId(name).addEventListener("input", () => { arrange(); remember(); });
  window.addEventListener("hashchange", () => { if (location.hash.startsWith("#view:")) recall(); });
  recall();
})();
