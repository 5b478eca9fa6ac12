"use strict";
// Every text of a record becomes the text of an element (textContent), never HTML.
(() => {
  const { runs, questions } = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const list = byId("list"), head = byId("head"), body = byId("body"), space = byId("space");
  const dialog = byId("detail"), search = byId("search"), filters = byId("filters");
  const HEIGHT = 46, AROUND = 8;
  const SVG = "http://www.w3.org/2000/svg";
  const FIRST = ["case", "kind", "scenario", "owner", "updated", "sensitive", "language", "distance_quartile"];

  const make = (tag, className, text) => {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const words = (label) => label.replaceAll("_", " ");
  const number = (value) => value.toLocaleString("en");

  // ---- what a question's answers come to -------------------------------------------------------------------------

  const share = (answers) => answers.filter((one) => one.correct).length / answers.length;
  const verdict = (answers) => {
    if (!answers.length) return { className: "none", sign: "–", word: "", rank: -1 };
    const right = answers.filter((one) => one.correct).length;
    if (answers.length > 1) {
      const className = right === answers.length ? "right" : right ? "mixed" : "wrong";
      return { className, sign: `${right}/${answers.length}`, word: "right", rank: right / answers.length };
    }
    if (right) return { className: "right", sign: "✓", word: "right", rank: 1 };
    return answers[0].parsed ? { className: "wrong", sign: "✗", word: "wrong", rank: 0.5 } : { className: "none", sign: "?", word: "unread", rank: 0 };
  };
  const badge = ({ className, sign, word }) => {
    const element = make("span", `badge ${className}`, sign);
    element.append(make("span", "word", ` ${word}`));
    return element;
  };
  questions.forEach((question, place) => {
    question.place = place;
    question.verdicts = question.answers.map(verdict);
    question.title = question.query || question.answer || question.options[question.right ?? 0] || question.id;
  });

  // ---- columns and sorting ---------------------------------------------------------------------------------------

  const found = [...new Set(questions.flatMap((one) => Object.keys(one.labels)))].sort();
  const labels = [...FIRST.filter((label) => found.includes(label)), ...found.filter((label) => !FIRST.includes(label))];
  const many = runs.length > 3;
  list.classList.toggle("compact", many);
  const labelColumns = labels.filter((label) => (many ? ["case", "kind"] : ["case", "kind", "scenario"]).includes(label));
  const natural = new Intl.Collator("en", { numeric: true });
  const columns = [
    { name: "#", width: "46px", narrow: "34px", value: (one) => one.place + 1, show: (one, cell) => (cell.textContent = one.place + 1) },
    { name: "Question", width: "minmax(180px, 1fr)", narrow: "1fr", value: (one) => one.title, show: (one, cell) => (cell.textContent = one.title) },
    ...labelColumns.map((label) => ({
      name: words(label), width: label === "scenario" ? "150px" : "118px", narrow: null,
      value: (one) => one.labels[label] || "", show: (one, cell) => (cell.textContent = words(one.labels[label] || "–")), className: "soft",
    })),
    ...runs.map((name, run) => ({
      name, width: many ? "72px" : "104px", narrow: run < 4 ? "42px" : null,
      value: (one) => one.verdicts[run].rank,
      show: (one, cell) => cell.append(badge(one.verdicts[run])),
    })),
  ];
  let sorting = { column: 0, down: false };
  let shown = questions, used = columns;

  const narrow = matchMedia("(max-width: 720px)");
  const layOut = () => {
    used = columns.filter((column) => !narrow.matches || column.narrow);
    list.style.setProperty("--columns", used.map((column) => (narrow.matches ? column.narrow : column.width)).join(" "));
    list.style.setProperty("--least", narrow.matches ? "0" : `${used.reduce((sum, { width }) => sum + parseInt(width.match(/\d+/)[0], 10) + 14, 18)}px`);
    head.replaceChildren();
    head.style.gridTemplateColumns = "var(--columns)";
    used.forEach((column) => {
      const cell = make("div");
      cell.setAttribute("role", "columnheader");
      const place = columns.indexOf(column), sorted = place === sorting.column;
      cell.setAttribute("aria-sort", sorted ? (sorting.down ? "descending" : "ascending") : "none");
      const button = make("button", "", column.name + (sorted ? (sorting.down ? " ↓" : " ↑") : ""));
      button.type = "button";
      button.title = `Sort by ${column.name}`;
      button.addEventListener("click", () => {
        sorting = { column: place, down: sorted && !sorting.down };
        update();
      });
      cell.append(button);
      head.append(cell);
    });
  };

  // ---- filters ---------------------------------------------------------------------------------------------------

  const TESTS = {
    "all right": (one) => one.verdicts.every((each) => each.rank === 1),
    "all wrong": (one) => one.answers.flat().every((each) => !each.correct),
    "runs differ": (one) => new Set(one.answers.filter((each) => each.length).map(share)).size > 1,
    "not readable": (one) => one.answers.flat().some((each) => !each.parsed),
  };
  runs.forEach((name, run) => {
    TESTS[`right: ${name}`] = (one) => one.answers[run].some((each) => each.correct);
    TESTS[`wrong: ${name}`] = (one) => one.answers[run].some((each) => !each.correct);
  });
  const selects = [];
  const addSelect = (name, values, test) => {
    const select = make("select");
    select.setAttribute("aria-label", name);
    select.append(new Option(name, ""));
    values.forEach((value) => select.append(new Option(words(value), value)));
    select.addEventListener("change", () => update(true));
    byId("selects").append(select);
    selects.push({ select, test });
  };
  addSelect("any answer", Object.keys(TESTS), (one, value) => TESTS[value](one));
  labels.forEach((label) => {
    const values = [...new Set(questions.map((one) => one.labels[label]).filter(Boolean))].sort(natural.compare);
    if (values.length > 1 && values.length <= 40) addSelect(`any ${words(label)}`, values, (one, value) => one.labels[label] === value);
  });
  const errors = [...new Set(questions.flatMap((one) => one.answers.flat().map((each) => each.error)).filter(Boolean))].sort();
  if (errors.length) addSelect("any mistake", errors, (one, value) => one.answers.flat().some((each) => each.error === value));

  const haystack = (one) => (one.haystack ??= [one.id, one.title, one.query, one.answer, ...Object.values(one.about || {}), ...one.options, ...one.answers.flat().map((each) => each.reply)].join("\n").toLowerCase());

  // ---- the list: only the lines in sight are elements ------------------------------------------------------------

  const update = (fromTop) => {
    const wanted = search.value.trim().toLowerCase();
    const active = selects.filter(({ select }) => select.value);
    selects.forEach(({ select }) => select.classList.toggle("set", Boolean(select.value)));
    const { value } = columns[sorting.column], way = sorting.down ? -1 : 1;
    shown = questions
      .filter((one) => active.every(({ select, test }) => test(one, select.value)) && (!wanted || haystack(one).includes(wanted)))
      .map((one) => [value(one), one])
      .sort(([a, first], [b, second]) => way * (typeof a === "number" ? a - b : natural.compare(a, b)) || first.place - second.place)
      .map(([, one]) => one);
    byId("count").textContent = shown.length === questions.length ? `${number(shown.length)} questions` : `${number(shown.length)} of ${number(questions.length)} questions`;
    space.style.height = `${shown.length * HEIGHT}px`;
    if (fromTop) body.scrollTop = 0;
    layOut();
    draw();
  };
  const draw = () => {
    const first = Math.max(0, Math.floor(body.scrollTop / HEIGHT) - AROUND);
    const last = Math.min(shown.length, Math.ceil((body.scrollTop + body.clientHeight) / HEIGHT) + AROUND);
    const focused = document.activeElement?.dataset?.id;
    const lines = shown.slice(first, last).map((one, step) => {
      const line = make("div", "line item");
      line.setAttribute("role", "row");
      line.setAttribute("aria-rowindex", first + step + 2);
      line.tabIndex = 0;
      line.dataset.id = one.id;
      line.style.top = `${(first + step) * HEIGHT}px`;
      line.style.gridTemplateColumns = "var(--columns)";
      used.forEach((column) => {
        const cell = make("div", column.className);
        cell.setAttribute("role", "cell");
        column.show(one, cell);
        line.append(cell);
      });
      return line;
    });
    space.replaceChildren(...(shown.length ? lines : [make("div", "empty", "No question fits these filters.")]));
    if (focused) lines.find((line) => line.dataset.id === focused)?.focus({ preventScroll: true });
  };
  let waiting = 0;
  const soon = (task) => { cancelAnimationFrame(waiting); waiting = requestAnimationFrame(task); };
  body.addEventListener("scroll", () => soon(draw));
  addEventListener("resize", () => soon(() => update()));
  let typing = 0;
  search.addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(() => update(true), 120); });
  filters.addEventListener("submit", (event) => event.preventDefault());
  filters.addEventListener("reset", () => setTimeout(() => update(true)));

  // ---- one question ----------------------------------------------------------------------------------------------

  let open = -1;
  const section = (into, title, ...children) => into.append(make("h3", "", title), ...children);
  const text = (content, more = "") => make("div", `text ${more}`.trim(), content);

  const placeBar = (window, [start, size]) => {
    const bar = make("div", "place"), svg = document.createElementNS(SVG, "svg");
    const draw = (tag, attributes) => {
      const element = document.createElementNS(SVG, tag);
      Object.entries(attributes).forEach(([name, value]) => element.setAttribute(name, value));
      svg.append(element);
    };
    const at = `${(100 * start) / size}%`;
    draw("rect", { x: 0, y: 5, width: "100%", height: 6, rx: 3 });
    draw("line", { x1: at, x2: at, y1: 0, y2: 16 });
    bar.append(svg, make("span", "soft", `${window}: ends at token ${number(start)} of ${number(size)}, ${number(size - start)} before the question`));
    return bar;
  };
  const optionBox = (question, option) => {
    const gold = option === question.right;
    const box = make("div", gold ? "option gold" : "option"), tags = make("div", "tags");
    const made = (question.made || {})[question.options[option]];
    tags.append(make("b", "", gold ? "right" : made ? `wrong: ${words(made)}` : "wrong"));
    question.answers.forEach((answers, run) => {
      const count = answers.filter((one) => one.choice && one.order[one.choice.charCodeAt(0) - 65] === option).length;
      if (count) tags.append(make("span", "", `chosen in: ${runs[run]}${answers.length > 1 ? ` (${count} of ${answers.length})` : ""}`));
    });
    box.append(tags, text(question.options[option]));
    return box;
  };
  const answerBox = (run, answer, several) => {
    const box = make("div", `answer ${answer.correct ? "right" : "wrong"}`), facts = make("div", "facts");
    facts.append(make("b", "", runs[run]), badge(verdict([answer])));
    if (several) facts.append(make("span", "", `order ${answer.permutation + 1}`));
    if (answer.choice) facts.append(make("span", "", `chose ${answer.choice}`));
    if (answer.tokens.some(Boolean)) facts.append(make("span", "", `${number(answer.tokens[0])} tokens in, ${number(answer.tokens[1])} out`));
    if (answer.error) facts.append(make("span", "", `mistake: ${words(answer.error)}`));
    box.append(facts);
    if (answer.why) box.append(text(answer.why, "soft"));
    if (answer.reply) box.append(text(answer.reply));
    if (answer.likelihoods) box.append(text(answer.likelihoods.map((value, place) => `${String.fromCharCode(65 + place)}: log-likelihood ${value.toFixed(1)}`).join("\n"), "soft"));
    (answer.votes || []).forEach(([judge, said, reason]) => {
      const vote = make("div", "vote");
      vote.append(make("span", `badge ${said === "pass" ? "right" : said === "fail" ? "wrong" : "none"}`, said), ` ${reason || ""} `, make("span", "soft", `(${judge})`));
      box.append(vote);
    });
    return box;
  };
  const show = (place) => {
    if (place < 0 || place >= shown.length) return;
    open = place;
    const question = shown[place], into = byId("detail-body");
    byId("detail-title").textContent = `${question.id} · ${number(place + 1)} of ${number(shown.length)}`;
    byId("previous").disabled = place === 0;
    byId("next").disabled = place === shown.length - 1;
    into.replaceChildren();
    const chips = make("div", "chips");
    Object.entries(question.labels).forEach(([label, value]) => chips.append(make("span", "", `${words(label)}: ${words(value)}`)));
    into.append(chips);
    if (question.query) into.append(text(question.query, "query"));
    Object.entries(question.about || {}).forEach(([what, said]) => section(into, what === "previous" ? "Preference before" : what, text(said)));
    const places = Object.entries(question.places || {}).filter(([, [start]]) => start !== null);
    if (places.length) section(into, "Where it stands in the history", ...places.map(([window, found]) => placeBar(window, found)));
    if (question.snippet?.length) {
      const details = make("details"), summary = make("summary", "", `The chat it rests on (${question.snippet.length} messages)`);
      details.append(summary, ...question.snippet.map((message) => {
        const said = make("div", "message");
        said.append(make("b", "", message.role), text(message.text));
        return said;
      }));
      into.append(details);
    }
    if (question.options.length) section(into, "Options", ...question.options.map((_, option) => optionBox(question, option)));
    else if (question.answer) section(into, "A right answer", text(question.answer));
    section(into, "Answers", ...question.answers.flatMap((answers, run) => answers.map((one) => answerBox(run, one, answers.length > 1))));
    if (!dialog.open) dialog.showModal();
    into.scrollTop = 0;
    into.focus();
    history.replaceState(null, "", `#${question.id}`);
  };
  const openLine = (event) => {
    const line = event.target.closest(".item");
    if (line) show(shown.findIndex((one) => one.id === line.dataset.id));
  };
  body.addEventListener("click", openLine);
  body.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); openLine(event); }
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const line = step && event.target.closest(".item");
    if (line) { event.preventDefault(); (step > 0 ? line.nextElementSibling : line.previousElementSibling)?.focus(); }
  });
  byId("previous").addEventListener("click", () => show(open - 1));
  byId("next").addEventListener("click", () => show(open + 1));
  byId("close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") show(open - 1);
    if (event.key === "ArrowRight") show(open + 1);
  });
  dialog.addEventListener("close", () => history.replaceState(null, "", location.pathname + location.search));

  update();
  const asked = shown.findIndex((one) => `#${one.id}` === location.hash);
  if (asked >= 0) show(asked);
})();
