"use strict";
// One form of a study: introduction, questions, end. Answers are kept in the browser at each click, so that a closed page loses nothing.
(function () {
  const study = window.STUDY;
  const page = document.getElementById("page");
  if (!study) return;
  const CHOICES = [["left", "A is better"], ["tie", "Equal"], ["right", "B is better"]];
  let rater = 0, state = null, shownAt = 0, beat = 0;

  function element(tag, attributes, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
      else if (value === true) made.setAttribute(name, "");
      else if (value !== false && value != null) made.setAttribute(name, value);
    }
    made.append(...children);
    return made;
  }

  const place = () => "anyref-study-" + study.id + "-" + rater;
  function keep() {
    try { localStorage.setItem(place(), JSON.stringify(state)); } catch (error) { /* private window: kept until it closes */ }
  }
  function recall() {
    try { return JSON.parse(localStorage.getItem(place())); } catch (error) { return null; }
  }
  const questions = () => study.forms[rater - 1];
  const answered = () => questions().filter((q) => complete(q.key)).length;
  function complete(key) {
    const given = state.answers[key];
    return Boolean(given) && study.aspects.every((aspect) => aspect.name in given.choices);
  }

  function open() {
    const wanted = Number((location.hash.match(/rater=(\d+)/) || [])[1]);
    clearInterval(beat);
    if (!Number.isInteger(wanted) || wanted < 1 || wanted > study.forms.length) return askRater();
    rater = wanted;
    state = recall() || { at: 0, started: null, answers: {} };
    if (!state.started) return introduce();
    return state.at >= questions().length ? finish() : show();
  }

  function askRater() {
    const number = element("input", { type: "number", min: 1, max: study.forms.length, "aria-label": "your number" });
    const go = () => { location.hash = "rater=" + number.value; };
    page.replaceChildren(
      element("h1", {}, "Which video?"),
      element("p", { class: "lead" }, "Which number were you given? There are " + study.forms.length + " forms; please take yours only."),
      element("form", { onsubmit: (event) => { event.preventDefault(); go(); } }, number, " ", element("button", { class: "main" }, "Go on")));
    number.focus();
  }

  function introduce() {
    const list = element("ol", {}, ...study.aspects.map((aspect) => element("li", {}, aspect.question)));
    page.replaceChildren(
      element("h1", {}, "Which video?"),
      element("p", { class: "lead" }, "You will see " + questions().length + " pairs of videos. Both were made from the same text and " +
        "reference pictures, by a computer. Watch both to the end, more than once if you like, and say for each question which is better, or that they are equal:"),
      list,
      element("p", { class: "lead" }, "Judge each question by itself: a sharp video can show the wrong person. There is no right answer; " +
        "if you cannot tell, say equal. Keys: 1, 2, 3 for A, equal, B; Enter for the next pair; R to play again. You can close the page and go on later, in the same browser."),
      element("p", {}, element("button", { class: "main", id: "start", onclick: () => {
        state.started = new Date().toISOString(); keep(); show();
      } }, "Start (form " + rater + ")")));
  }

  function show() {
    const question = questions()[state.at];
    const subject = study.cases[question.case];
    const seen = { left: complete(question.key), right: complete(question.key) };
    shownAt = performance.now();
    const players = {};
    for (const side of ["left", "right"]) {
      players[side] = element("video", { src: "media/" + question[side], muted: true, playsinline: true, preload: "auto" });
      players[side].muted = true;
    }
    const next = element("button", { class: "main", id: "next", onclick: forward }, state.at + 1 < questions().length ? "Next" : "Finish");
    const hint = element("span", { class: "note", id: "hint" });
    function refresh() {
      next.disabled = !(complete(question.key) && seen.left && seen.right);
      hint.textContent = !seen.left || !seen.right ? "Watch both videos to the end." : next.disabled ? "Answer every question." : "";
    }
    function forward() {
      if (next.disabled) return;
      clearInterval(beat);
      state.answers[question.key].seconds = (state.answers[question.key].seconds || 0) + (performance.now() - shownAt) / 1000;
      state.at += 1; keep();
      if (state.at >= questions().length) finish(); else show();
    }
    function choose(aspect, choice) {
      const given = state.answers[question.key] || (state.answers[question.key] = { choices: {}, seconds: 0 });
      given.choices[aspect.name] = choice; keep(); mark(); refresh();
    }
    const rows = study.aspects.map((aspect) => element("div", { class: "aspect", role: "radiogroup", "aria-label": aspect.question },
      element("p", {}, element("small", {}, aspect.name), aspect.question),
      element("div", { class: "choices" }, ...CHOICES.map(([choice, text]) => element("button",
        { type: "button", role: "radio", "data-aspect": aspect.name, "data-choice": choice, onclick: () => choose(aspect, choice) }, text)))));
    function mark() {
      const choices = (state.answers[question.key] || { choices: {} }).choices;
      for (const button of page.querySelectorAll("[data-choice]"))
        button.setAttribute("aria-checked", String(choices[button.dataset.aspect] === button.dataset.choice));
    }
    const play = element("button", { type: "button", id: "play", onclick: () => paused() ? start() : stop() }, "Pause");
    const paused = () => players.left.paused && players.right.paused && !(players.left.ended || players.right.ended);
    function start() { for (const p of Object.values(players)) if (!p.ended) p.play().catch(() => { play.textContent = "Play"; }); play.textContent = "Pause"; }
    function stop() { for (const p of Object.values(players)) p.pause(); play.textContent = "Play"; }
    function again() { for (const p of Object.values(players)) p.currentTime = 0; start(); }
    for (const side of ["left", "right"]) {
      const other = players[side === "left" ? "right" : "left"];
      players[side].addEventListener("ended", () => { seen[side] = true; refresh(); if (other.ended) setTimeout(again, 400); });
      // A video that cannot be played must not hold a rater for ever; the answer carries that it was not seen.
      players[side].addEventListener("error", () => { seen[side] = true; state.unplayable = (state.unplayable || []).concat(question.key); refresh(); });
      players[side].addEventListener("loadedmetadata", () => { if (players[side].videoWidth <= 256) players[side].classList.add("small"); });
    }
    // The two start together; one that waited for data is brought back to the other.
    clearInterval(beat);
    beat = setInterval(() => {
      const { left, right } = players;
      if (left.ended || right.ended || left.paused || right.paused) return;
      if (Math.abs(left.currentTime - right.currentTime) > 0.12) {
        const behind = Math.min(left.currentTime, right.currentTime);
        left.currentTime = behind; right.currentTime = behind;
      }
    }, 250);
    page.replaceChildren(
      element("p", { class: "top" }, element("span", {}, "Pair " + (state.at + 1) + " of " + questions().length), element("span", {}, "Form " + rater)),
      element("div", { class: "bar" }, element("i", { style: "width:" + (100 * state.at / questions().length) + "%" })),
      element("div", { class: "ask" },
        element("p", { class: "prompt" }, element("small", {}, "The text"), subject.prompt),
        element("div", { class: "references" }, ...subject.references.map((reference) => element("figure", {},
          element("img", { src: "media/" + reference.file, alt: reference.label }), element("figcaption", {}, reference.label))))),
      element("div", { class: "pair" }, element("figure", {}, players.left, element("figcaption", {}, "A")), element("figure", {}, players.right, element("figcaption", {}, "B"))),
      element("div", { class: "controls" }, play, element("button", { type: "button", onclick: again }, "Play again")),
      ...rows,
      element("div", { class: "end" },
        element("button", { type: "button", disabled: state.at === 0, onclick: () => { state.at -= 1; keep(); show(); } }, "Back"), hint, next));
    mark(); refresh(); start(); scrollTo(0, 0);
    document.onkeydown = (event) => {
      if (event.target.tagName === "INPUT" || event.ctrlKey || event.metaKey || event.altKey) return;
      if ("123".includes(event.key) && event.key) {
        const given = (state.answers[question.key] || { choices: {} }).choices;
        const open = study.aspects.find((aspect) => !(aspect.name in given)) || study.aspects[study.aspects.length - 1];
        choose(open, CHOICES[Number(event.key) - 1][0]);
      } else if (event.key === "Enter" && event.target.tagName !== "BUTTON") forward();
      else if (event.key === "r" || event.key === "R") again();
    };
  }

  function votes() {
    return { study: study.id, rater: rater, started: state.started, finished: state.finished || null, unplayable: state.unplayable || [],
      answers: questions().filter((q) => complete(q.key)).map((q) => ({ question: q.key, choices: state.answers[q.key].choices,
        seconds: Math.round(10 * (state.answers[q.key].seconds || 0)) / 10 })) };
  }

  function finish() {
    document.onkeydown = null;
    if (!state.finished) { state.finished = new Date().toISOString(); keep(); }
    const text = JSON.stringify(votes(), null, 1);
    const name = "votes-" + study.id + "-" + String(rater).padStart(2, "0") + ".json";
    const link = element("a", { href: URL.createObjectURL(new Blob([text], { type: "application/json" })), download: name });
    page.replaceChildren(
      element("h1", {}, "Thank you"),
      element("p", { class: "lead" }, answered() + " of " + questions().length + " pairs are answered. Save your votes and send the file " + name + " to whoever asked you."),
      element("p", {}, element("button", { class: "main", id: "save", onclick: () => link.click() }, "Save votes"), " ",
        element("button", { onclick: () => { state.at = questions().length - 1; keep(); show(); } }, "Back")),
      element("p", { class: "note" }, "If nothing is saved, send this text:"),
      element("textarea", { id: "votes", readonly: true }, text));
  }

  window.addEventListener("hashchange", open);
  open();
})();
