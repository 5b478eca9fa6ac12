"use strict";
// Every text of a record becomes the text of an element (textContent), never HTML.
(() => {
  const users = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const dialog = byId("detail"), search = byId("search"), which = byId("which"), strip = byId("strip");
  const SVG = "http://www.w3.org/2000/svg";
  const MOST_LISTED = 300;
  const make = (tag, className, text) => {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const draw = (into, tag, attributes, title) => {
    const element = document.createElementNS(SVG, tag);
    Object.entries(attributes).forEach(([name, value]) => element.setAttribute(name, value));
    if (title) {
      const told = document.createElementNS(SVG, "title");
      told.textContent = title;
      element.append(told);
    }
    into.append(element);
    return element;
  };
  const number = (value) => value.toLocaleString("en");
  const some = (count, what) => `${number(count)} ${what}${count === 1 ? "" : "s"}`;

  // ---- a part of the page is unpacked when it is looked at ---------------------------------------------------------

  const unpacked = new Map();
  const unpack = (id) => {
    if (!unpacked.has(id)) {
      const bytes = Uint8Array.from(atob(byId(id).textContent), (character) => character.charCodeAt(0));
      unpacked.set(id, new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"))).json());
    }
    return unpacked.get(id);
  };

  // ---- what became of a statement ----------------------------------------------------------------------------------

  const WHY = {
    hand: "taken out by hand", request: "removed at the user's request",
    cut: "dropped, by the model or to keep the memory within its size", model: "dropped by the model",
  };
  const starts = (thread) => thread.versions[0][0];
  const ends = (thread) => (thread.gone ? thread.gone[0] : columns.length);
  const versionAt = (thread, at) => thread.versions.findLastIndex(([column]) => column <= at);
  const textAt = (thread, at) => {
    const known = thread.versions.slice(0, Math.max(0, versionAt(thread, at)) + 1).findLast(([, text]) => text !== null);
    return known ? known[1] : thread.versions.find(([, text]) => text !== null)[1];
  };
  const state = (thread, at) => {
    if (at < starts(thread)) return "later";
    if (thread.gone && at === thread.gone[0]) return "gone";
    if (thread.gone && at > thread.gone[0]) return "before";
    if (at === starts(thread)) return "came";
    return thread.versions.some(([column]) => column === at) ? "changed" : "there";
  };
  const changedThen = ["came", "changed", "gone"];
  const FILTERS = {
    "In the memory then": (thread) => !["later", "before"].includes(state(thread, at)),
    "Came, changed or went then": (thread) => changedThen.includes(state(thread, at)),
    "All that ever stood in it": () => true,
    "Ever changed": (thread) => thread.versions.length > 1,
    "Went": (thread) => thread.gone,
    "Removed at the user's request": (thread) => thread.gone?.[1] === "request",
    "Written by hand": (thread) => thread.versions.some(([, , byHand]) => byHand),
  };
  Object.keys(FILTERS).forEach((name) => which.append(new Option(name, name)));

  // ---- the words that two versions have in common ------------------------------------------------------------------

  const difference = (before, after) => {
    const cut = (text) => text.match(/\s*(?:[\p{L}\p{N}\p{M}'’]+|[^\s\p{L}\p{N}])/gu) ?? [];
    const a = cut(before), b = cut(after), alike = (i, j) => a[i].trim() === b[j].trim();
    const same = [...a, 0].map(() => new Uint16Array(b.length + 1));
    for (let i = a.length - 1; i >= 0; i--)
      for (let j = b.length - 1; j >= 0; j--)
        same[i][j] = alike(i, j) ? same[i + 1][j + 1] + 1 : Math.max(same[i + 1][j], same[i][j + 1]);
    const parts = [];
    const put = (tag, word) => (parts.at(-1)?.tag === tag ? parts.at(-1).words.push(word) : parts.push({ tag, words: [word] }));
    for (let i = 0, j = 0; i < a.length || j < b.length;) {
      if (i < a.length && j < b.length && alike(i, j)) { put("span", b[j]); i++; j++; }
      else if (j >= b.length || (i < a.length && same[i + 1][j] >= same[i][j + 1])) put("del", a[i++]);
      else put("ins", b[j++]);
    }
    const whole = document.createDocumentFragment();
    parts.forEach(({ tag, words }) => {
      const text = words.join("");
      whole.append(text.match(/^\s*/)[0], make(tag, "", text.trimStart()));
    });
    return whole;
  };
  const changed = (thread, version) => {
    const [before, after] = [thread.versions[version - 1]?.[1], thread.versions[version][1]];
    if (after === null) return make("i", "soft", "the wording then isn't known");
    return before && Math.max(before.length, after.length) < 5000 ? difference(before, after) : document.createTextNode(after);
  };

  // ---- one user ----------------------------------------------------------------------------------------------------

  let user = 0, at = 0, columns = [], threads = [], shown = [], open = -1;
  const several = new Set(users.map((one) => one.user)).size < users.length;
  const chunkOf = (column) => `chunk ${columns[column].chunk}${columns[column].edited ? ", edited by hand" : ""}`;

  const show = async (place, column, thread) => {
    user = place;
    const found = await unpack(`track-${place}`);
    if (user !== place) return; // another one has been chosen meanwhile
    const one = users[place];
    ({ columns, threads } = found);
    threads.forEach((each, index) => {
      each.index = index;
      each.haystack ??= [each.section, ...each.versions.map(([, text]) => text)].join("\n").toLowerCase();
    });
    byId("name").textContent = one.user;
    byId("of").textContent = several ? `from history ${one.histories[0]}` : "";
    const facts = [some(one.chunks, "chunk"), `${some(one.now, "statement")} now, ${some(one.tokens, "token")}`, `${number(one.gone)} went`];
    if (one.requested) facts.push(`${number(one.requested)} removed at the user's request`);
    if (one.byHand) facts.push(`${number(one.byHand)} written by hand`);
    byId("facts").replaceChildren(...facts.map((fact) => make("li", "", fact)));
    byId("note").textContent = one.traced ? "" : "Some chunks have no record of their own (pmem memdump --trace makes one for each): of these, only what later statements tell of their past is known.";
    document.documentElement.style.setProperty("--columns", columns.length);
    mark(place);
    drawStrip();
    go(Math.min(column ?? columns.length - 1, columns.length - 1));
    if (thread >= 0 && threads[thread]) openThread(threads[thread]);
  };

  const counts = (column) => Object.fromEntries(changedThen.map((kind) => [kind, threads.filter((thread) => state(thread, column) === kind).length]));
  const drawStrip = () => {
    strip.replaceChildren();
    const all = columns.map((_, column) => counts(column)), most = Math.max(1, ...all.slice(columns.length > 2 ? 1 : 0).map(({ came, changed, gone }) => Math.max(came + changed, 1.7 * gone)));
    const size = (count) => (count ? Math.max(2, Math.min(34, (34 * count) / most)) : 0); // the first chunk may go over: all is new then
    const svg = draw(strip, "svg", { "aria-hidden": "true" });
    const wide = 100 / columns.length;
    all.forEach(({ came, changed, gone }, column) => {
      const x = `${(column + 0.5) * wide}%`, bar = (name, y1, y2) => y1 !== y2 && draw(svg, "line", { class: name, x1: x, x2: x, y1, y2 });
      const up = size(came), middle = size(changed), down = size(gone);
      draw(svg, "rect", { class: "hit", x: `${column * wide}%`, width: `${wide}%`, y: 0, height: 60 }, `${chunkOf(column)}: ${came} came, ${changed} changed, ${gone} went`);
      bar("changed", 37, 37 - middle);
      bar("came", 37 - middle, 37 - middle - up);
      bar("gone", 38, 38 + down);
      if (columns[column].edited) bar("hand", 36, 39);
    });
    draw(svg, "line", { x1: 0, x2: "100%", y1: 37.5, y2: 37.5, class: "axis" });
    strip.setAttribute("aria-valuemin", 1);
    strip.setAttribute("aria-valuemax", columns.length);
  };

  const go = (column) => {
    at = Math.max(0, Math.min(columns.length - 1, column));
    const { came, changed, gone } = counts(at), here = columns[at];
    byId("at").textContent = here.edited ? `Edited after chunk ${here.chunk}` : `After chunk ${here.chunk} of ${users[user].chunks}`;
    const told = [`${came} came`, `${changed} changed`, `${gone} went`];
    if (!here.id) told.push("no record: as far as later statements tell");
    else told.push(some(here.tokens, "token"));
    if (here.trimmed) told.push("cut to size");
    byId("did").textContent = told.join(" · ");
    byId("back").disabled = at === 0;
    byId("on").disabled = at === columns.length - 1;
    document.documentElement.style.setProperty("--at", at);
    strip.setAttribute("aria-valuenow", at + 1);
    strip.setAttribute("aria-valuetext", `${chunkOf(at)}: ${told.slice(0, 3).join(", ")}`);
    list();
    address();
  };
  const address = (thread) => history.replaceState(null, "", `#${[user, at, ...(thread === undefined ? [] : [thread])].join(".")}`);

  // ---- the statements ----------------------------------------------------------------------------------------------

  const SIGNS = { came: "+", changed: "~", gone: "−" };
  const SAID = { came: "came", changed: "changed", gone: "went", before: "went before", later: "not yet there", there: "" };
  const MARKS = {
    came: (svg) => draw(svg, "circle", { r: 4 }),
    changed: (svg) => draw(svg, "path", { d: "M0-5.5 5.5 0 0 5.5-5.5 0z" }),
    gone: (svg) => draw(svg, "path", { d: "M-4-4 4 4M4-4-4 4" }),
    request: (svg) => { draw(svg, "circle", { r: 5 }); draw(svg, "path", { d: "M-3.5 3.5 3.5-3.5" }); },
    hand: (svg) => draw(svg, "rect", { x: -4.5, y: -4.5, width: 9, height: 9 }),
  };
  const life = (thread) => {
    const box = make("span", "life"), svg = draw(box, "svg", { "aria-hidden": "true" });
    const wide = 100 / columns.length, x = (column) => `${(column + 0.5) * wide}%`;
    draw(svg, "line", { class: "bar", x1: x(starts(thread)), x2: thread.gone ? x(ends(thread)) : "100%", y1: 10, y2: 10 });
    const put = (kind, column, title) => MARKS[kind](draw(svg, "svg", { class: `mark ${kind}`, x: x(column), y: 10, overflow: "visible" }, title));
    thread.versions.forEach(([column, , byHand], index) => {
      const kind = byHand ? "hand" : index ? "changed" : "came";
      put(kind, column, `${index ? "changed" : "came"}: ${chunkOf(column)}`);
    });
    if (thread.gone) put(thread.gone[1] === "request" ? "request" : "gone", thread.gone[0], `${WHY[thread.gone[1]]}: ${chunkOf(thread.gone[0])}`);
    return box;
  };
  const row = (thread) => {
    const line = make("li"), button = make("button", `row ${state(thread, at)}`), kind = state(thread, at);
    button.type = "button";
    button.dataset.thread = thread.index;
    const sign = make("span", "sign", SIGNS[kind] ?? "");
    sign.setAttribute("aria-hidden", "true");
    const text = make("span", "statement");
    if (SAID[kind]) text.append(make("span", "hidden", `${SAID[kind]}: `));
    if (kind === "changed") text.append(changed(thread, versionAt(thread, at)));
    else text.append(make(["gone", "before"].includes(kind) ? "del" : "span", "", textAt(thread, at)));
    if (["gone", "before"].includes(kind)) text.append(" ", make("small", `tag ${thread.gone[1]}`, WHY[thread.gone[1]]));
    const version = thread.versions[Math.max(0, versionAt(thread, at))];
    if (version[2] && kind !== "later") text.append(" ", make("small", "tag hand", "by hand"));
    button.append(sign, text, life(thread));
    line.append(button);
    return line;
  };
  const bySection = (chosen) => {
    const sections = new Map();
    [...threads].sort((a, b) => Boolean(a.section) - Boolean(b.section) || a.topic - b.topic).forEach(({ section }) => sections.set(section, []));
    chosen.forEach((thread) => sections.get(thread.section).push(thread));
    return [...sections].filter(([, inside]) => inside.length);
  };
  const list = () => {
    const wanted = search.value.trim().toLowerCase(), focused = document.activeElement?.dataset?.thread;
    const chosen = threads.filter((thread) => FILTERS[which.value](thread) && (!wanted || thread.haystack.includes(wanted)));
    which.classList.toggle("set", which.selectedIndex > 0);
    const sections = bySection(chosen);
    shown = sections.flatMap(([, inside]) => inside);
    byId("count").textContent = shown.length === threads.length ? some(shown.length, "statement") : `${number(shown.length)} of ${some(threads.length, "statement")}`;
    const blocks = sections.map(([section, inside]) => {
      const block = make("section", "block"), rows = make("ul");
      if (section || sections.length > 1) block.append(make("h3", "", section || "Without a heading"));
      if (inside[0].topic) block.append(make("p", "notes", "Topics by name only. Nothing on them stays in the memory, whatever the chats say."));
      rows.append(...inside.map(row));
      block.append(rows);
      return block;
    });
    byId("statements").replaceChildren(...(blocks.length ? blocks : [make("p", "empty", threads.length ? "No statement fits." : "Nothing is remembered.")]));
    if (focused) byId("statements").querySelector(`[data-thread="${focused}"]`)?.focus({ preventScroll: true });
  };

  // ---- one statement -----------------------------------------------------------------------------------------------

  const messageBox = (role, text, more) => {
    const box = make("div", `said ${role}`);
    box.append(make("b", "", more), make("div", "text", text));
    return box;
  };
  const evidence = async (thread, into) => {
    const heading = make("h3", "", "The messages that it came from");
    into.append(heading);
    if (!thread.evidence.length) {
      const byHand = thread.versions.some(([, , edited]) => edited);
      into.append(make("p", "soft", byHand ? "None: a person wrote it." : "The model named none."));
      return;
    }
    const words = await unpack(`words-${user}`), ids = users[user].histories;
    if (!heading.isConnected) return; // closed, or another one opened meanwhile
    if (!words) into.append(make("p", "soft", "Only their numbers: this page was made without the chats. With pmem report --histories FILE their words stand here."));
    const gone = new Set();
    thread.evidence.forEach(([column, history, message]) => {
      const found = words?.[history]?.[message];
      const facts = [`message ${number(message)}`, ...(found ? [found[0], ...(found[1] ? [found[1]] : [])] : []), ...(ids.length > 1 ? [ids[history]] : []), `named ${column && !columns[column - 1].id ? "in or before" : "after"} ${chunkOf(column)}`];
      if (!found) {
        into.append(make("p", "number", facts.join(" · ")));
        if (words) gone.add(words[history] ? `History ${ids[history]} has no message ${number(message)}.` : `History ${ids[history]} isn't in the given files.`);
        return;
      }
      into.append(messageBox(found[0], found[2] + (found[3] ? ` … (${number(found[3])} more characters)` : ""), facts.join(" · ")));
    });
    gone.forEach((told) => into.append(make("p", "soft", told)));
  };
  const openThread = (thread) => {
    open = shown.indexOf(thread);
    const into = byId("detail-body"), last = thread.versions.length - 1;
    byId("detail-title").textContent = open < 0 ? "Statement" : `Statement ${number(open + 1)} of ${number(shown.length)}`;
    byId("previous").disabled = open <= 0;
    byId("next").disabled = open < 0 || open === shown.length - 1;
    into.replaceChildren();
    const chips = make("ul", "chips");
    if (thread.section) chips.append(make("li", "", thread.section));
    chips.append(make("li", "", `since ${chunkOf(starts(thread))}`));
    if (last) chips.append(make("li", "", `last changed: ${chunkOf(thread.versions[last][0])}`));
    if (thread.gone) chips.append(make("li", `tag ${thread.gone[1]}`, `${chunkOf(thread.gone[0])}: ${WHY[thread.gone[1]]}${thread.gone[2] ? ` (${thread.gone[2]})` : ""}`));
    into.append(make("p", "text query", thread.versions[last][1]), chips);
    if (last) {
      into.append(make("h3", "", "How it changed"));
      thread.versions.forEach(([column, , byHand], version) => {
        const step = make("div", "version");
        step.append(make("b", "", chunkOf(column) + (byHand && !columns[column].edited ? ", by hand" : "")));
        const text = make("div", "text");
        text.append(changed(thread, version));
        step.append(text);
        into.append(step);
      });
    }
    evidence(thread, into);
    if (!dialog.open) dialog.showModal();
    into.scrollTop = 0;
    into.focus();
    address(thread.index);
  };

  // ---- which user --------------------------------------------------------------------------------------------------

  const entries = users.map((one, place) => {
    const line = make("li"), button = make("button", "person");
    button.type = "button";
    button.dataset.user = place;
    const facts = [some(one.chunks, "chunk"), some(one.now, "statement"), ...(several ? [one.histories[0]] : [])];
    button.append(make("b", "", one.user), make("span", "soft", facts.join(" · ")));
    line.append(button);
    return line;
  });
  const named = (one) => (several ? `${one.user} (${one.histories[0]})` : one.user);
  users.forEach((one, place) => byId("choose").append(new Option(named(one), place)));
  const find = () => {
    const wanted = byId("find").value.trim().toLowerCase();
    const fitting = users.map((_, place) => place).filter((place) => !wanted || named(users[place]).toLowerCase().includes(wanted));
    const lines = fitting.slice(0, MOST_LISTED).map((place) => entries[place]);
    if (fitting.length > MOST_LISTED) lines.push(make("li", "soft more", `and ${number(fitting.length - MOST_LISTED)} more: type to find them`));
    byId("list").replaceChildren(...(fitting.length ? lines : [make("li", "soft more", "No user fits.")]));
  };
  const mark = (place) => {
    byId("choose").value = place;
    entries.forEach((line, index) => {
      if (index === place) line.firstChild.setAttribute("aria-current", "true");
      else line.firstChild.removeAttribute("aria-current");
    });
    entries[place].scrollIntoView?.({ block: "nearest" });
  };
  byId("main").classList.toggle("alone", users.length < 2);

  // ---- what is pressed ---------------------------------------------------------------------------------------------

  let waiting = 0;
  const soon = (task) => { cancelAnimationFrame(waiting); waiting = requestAnimationFrame(task); };
  byId("list").addEventListener("click", (event) => {
    const button = event.target.closest(".person");
    if (button) show(Number(button.dataset.user));
  });
  byId("choose").addEventListener("change", (event) => show(Number(event.target.value)));
  byId("find").addEventListener("input", find);
  const among = (event, selector) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key], from = event.target.closest(selector);
    if (!step || !from) return;
    event.preventDefault();
    const all = [...event.currentTarget.querySelectorAll(selector)];
    all[all.indexOf(from) + step]?.focus();
  };
  byId("list").addEventListener("keydown", (event) => among(event, ".person"));
  byId("statements").addEventListener("keydown", (event) => among(event, ".row"));
  byId("statements").addEventListener("click", (event) => {
    const button = event.target.closest(".row");
    if (button) openThread(threads[Number(button.dataset.thread)]);
  });
  const pointed = (event) => {
    const { left, width } = strip.getBoundingClientRect();
    const column = Math.floor(((event.clientX - left) / width) * columns.length);
    if (column !== at) soon(() => go(column));
  };
  strip.addEventListener("pointerdown", (event) => { strip.setPointerCapture(event.pointerId); strip.focus(); pointed(event); });
  strip.addEventListener("pointermove", (event) => { if (strip.hasPointerCapture(event.pointerId)) pointed(event); });
  byId("back").addEventListener("click", () => go(at - 1));
  byId("on").addEventListener("click", () => go(at + 1));
  document.addEventListener("keydown", (event) => {
    if (dialog.open || event.altKey || event.ctrlKey || event.metaKey || ["INPUT", "SELECT"].includes(event.target.tagName)) return;
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: columns.length - 1 }[event.key];
    if (to !== undefined && (event.key.startsWith("Arrow") || event.target === strip)) { event.preventDefault(); go(to); }
  });
  let typing = 0;
  search.addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(list, 120); });
  which.addEventListener("change", list);
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  const beside = (step) => { if (shown[open + step]) openThread(shown[open + step]); };
  byId("previous").addEventListener("click", () => beside(-1));
  byId("next").addEventListener("click", () => beside(1));
  byId("close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") beside(-1);
    if (event.key === "ArrowRight") beside(1);
  });
  dialog.addEventListener("close", () => {
    address();
    if (shown[open]) byId("statements").querySelector(`[data-thread="${shown[open].index}"]`)?.focus();
  });

  find();
  if (!("DecompressionStream" in window)) {
    byId("note").textContent = "This page needs a browser of 2023 or newer.";
    return;
  }
  const asked = location.hash.slice(1).split(".").map((part) => (/^\d+$/.test(part) ? Number(part) : undefined));
  show(users[asked[0]] ? asked[0] : 0, asked[1], asked[2]);
})();
