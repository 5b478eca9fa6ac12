"use strict";
// A sheet as a form. Answers are kept in the browser after each one, and saved as a CSV file that reads like the
// sheet's own. The page shows texts only as text (textContent), never as markup.

const WORDS = { "?": "can't tell" };

/** The cell of a CSV file: quoted, and harmless where a spreadsheet would take it for a formula. */
function cell(text, active) {
  const safe = text && active.includes(text[0]) ? "'" + text : text;
  return '"' + safe.replaceAll('"', '""') + '"';
}

/** The whole CSV file. answers: question id -> name of a column -> what was answered. */
function csv(data, answers) {
  const columns = data.head[data.head.length - 1];
  const line = (cells) => cells.join(data.delimiter) + "\r\n";
  const head = data.head.map((row) => line(row.map((text) => cell(text, ""))));
  const rows = data.rows.map((row) => {
    const given = answers[row.id] || {};
    return line(columns.map((name) => cell(given[name] ?? row[name] ?? "", data.active)));
  });
  return "\ufeff" + head.join("") + rows.join("");
}

/** The first dimension that has no answer yet, after the one named if there is one; null if all have. */
function unanswered(data, given, after) {
  const names = data.dimensions.map((one) => one.name);
  const from = names.indexOf(after) + 1;
  return [...names.slice(from), ...names.slice(0, from)].find((name) => !(given || {})[name]) ?? null;
}

/** What can be answered to a dimension of one question. */
function choices(dimension, shown) {
  if (dimension.answers !== "letter") return dimension.choices;
  return dimension.choices.filter((choice) => choice === "?" || shown.letters.includes(choice));
}

/** The key that stands for a choice. */
function key(dimension, choice, number) {
  if (choice === "?") return "?";
  return dimension.answers === "kind" ? String(number + 1) : choice[0].toLowerCase();
}

/** The choice that a key stands for; undefined if it is none. */
function chosen(dimension, shown, pressed) {
  const wanted = pressed === "0" ? "?" : pressed.toLowerCase();
  return choices(dimension, shown).find((choice, number) => key(dimension, choice, number) === wanted);
}

/** How many questions have all their answers. */
function done(data, answers) {
  return data.rows.filter((row) => unanswered(data, answers[row.id]) === null).length;
}

function start() {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  let answers = {};
  let place = 0;
  let active = null;

  function make(tag, text, parent, name) {
    const made = document.createElement(tag);
    if (text) made.textContent = text;
    if (name) made.className = name;
    if (parent) parent.append(made);
    return made;
  }

  function load() {
    try {
      answers = JSON.parse(localStorage.getItem(data.store) || "{}");
    } catch {
      answers = {};
    }
    const undone = data.rows.findIndex((row) => unanswered(data, answers[row.id]) !== null);
    place = Math.max(0, undone);
  }

  function keep() {
    try {
      localStorage.setItem(data.store, JSON.stringify(answers));
      $("notice").hidden = true;
    } catch {
      $("notice").textContent = "This browser keeps no answers for this page: download them before you close it.";
      $("notice").hidden = false;
    }
    count();
  }

  function count() {
    const full = done(data, answers);
    $("bar").max = data.rows.length;
    $("bar").value = full;
    $("count").textContent = `${full} of ${data.rows.length} done`;
  }

  function given() {
    const id = data.rows[place].id;
    if (!Object.hasOwn(answers, id)) answers[id] = {};
    return answers[id];
  }

  function answer(name, value) {
    given()[name] = value;
    keep();
    activate(unanswered(data, given(), name));
  }

  function activate(name) {
    active = name;
    for (const field of document.querySelectorAll("fieldset")) {
      field.classList.toggle("active", field.dataset.name === name);
      if (field.dataset.name === name) field.scrollIntoView({ block: "nearest" });
    }
  }

  function told(title, text) {
    if (!text) return;
    make("h2", title, $("text"));
    make("div", text, $("text"), "told");
  }

  function show() {
    const row = data.rows[place];
    const shown = data.shown[place];
    $("text").replaceChildren();
    $("judge").replaceChildren();
    told("The person", row.person);
    make("h2", "The chat", $("text"));
    for (const message of shown.messages) {
      const said = make("div", "", $("text"), "said " + message.role);
      make("b", message.role === "user" ? "Person" : "Assistant", said);
      said.append(message.text);
    }
    told("The later query", row.query);
    told("Its topic", row.query_topic);
    make("h2", "Answers to the query", $("text"));
    for (const letter of shown.letters) {
      const option = make("div", "", $("text"), "option");
      make("b", letter, option);
      option.append(row[letter]);
    }
    told("The preference", row.preference);
    told("Its topic", row.preference_topic);
    for (const dimension of data.dimensions) ask(dimension, shown);
    const label = make("label", "Comment (if you like)", $("judge"));
    const comment = make("textarea", "", label);
    comment.value = given().comment || "";
    comment.addEventListener("input", () => {
      given().comment = comment.value;
      keep();
    });
    $("place").value = place + 1;
    $("back").disabled = place === 0;
    $("next").disabled = place === data.rows.length - 1;
    activate(unanswered(data, given()));
  }

  function ask(dimension, shown) {
    const field = make("fieldset", "", $("judge"));
    field.dataset.name = dimension.name;
    field.addEventListener("focusin", () => activate(dimension.name));
    make("legend", dimension.question, field);
    make("p", dimension.hint, field);
    const row = make("div", "", field, "choices");
    choices(dimension, shown).forEach((choice, number) => {
      const label = make("label", "", row);
      const button = make("input", "", label);
      button.type = "radio";
      button.name = dimension.name;
      button.value = choice;
      button.checked = given()[dimension.name] === choice;
      button.addEventListener("change", () => answer(dimension.name, choice));
      label.append(WORDS[choice] || choice.replaceAll("_", "-"));
      make("kbd", key(dimension, choice, number), label);
    });
  }

  function go(to) {
    if (!(to >= 0 && to < data.rows.length)) return;
    place = to;
    show();
    window.scrollTo(0, 0);
  }

  function press(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return;
    if (event.target.matches("textarea, input[type=number]")) return;
    if (event.key === "ArrowRight" || (event.key === "Enter" && !event.target.matches("button, summary"))) {
      event.preventDefault();
      go(place + 1);
    } else if (event.key === "ArrowLeft") {
      event.preventDefault();
      go(place - 1);
    } else if (active) {
      const dimension = data.dimensions.find((one) => one.name === active);
      const choice = chosen(dimension, data.shown[place], event.key);
      if (choice === undefined) return;
      event.preventDefault();
      for (const button of document.getElementsByName(active)) button.checked = button.value === choice;
      answer(active, choice);
    }
  }

  function download() {
    const link = make("a");
    link.href = URL.createObjectURL(new Blob([csv(data, answers)], { type: "text/csv;charset=utf-8" }));
    link.download = data.name + ".csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  }

  for (const line of data.guidelines) make("p", line, $("guidelines"));
  $("back").addEventListener("click", () => go(place - 1));
  $("next").addEventListener("click", () => go(place + 1));
  $("place").max = data.rows.length;
  $("place").addEventListener("change", () => go(Number($("place").value) - 1));
  $("download").addEventListener("click", download);
  $("judge").addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("keydown", press);
  load();
  $("guide").open = done(data, answers) === 0;
  show();
  keep();
}

if (typeof document !== "undefined") start();
if (typeof module !== "undefined") module.exports = { cell, csv, unanswered, choices, key, chosen, done };
