// The page: search, a history, and the lists of up to two bundles with their reasons.

import { ask, make, useToken } from "./ask.js";

const at = (id) => document.getElementById(id);
const history = JSON.parse(sessionStorage.getItem("history") || "[]"); // of {item, title}
const panels = [];

function later(wait, work) {
  let timer = 0;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...given), wait);
  };
}

/** One request of a kind at a time: a new one cancels the previous one. */
function newest() {
  let running = null;
  return () => {
    running?.abort();
    running = new AbortController();
    return running.signal;
  };
}

function report(error) {
  if (error.name === "AbortError") return;
  at("access").hidden = error.status !== 401;
  at("problem").textContent = error.status ? error.message : "The service does not answer. Check that it is running.";
  at("problem").hidden = error.status === 401;
}

function wellAgain() {
  at("problem").hidden = true;
  at("access").hidden = true;
}

// --- search

const searching = newest();

async function search() {
  const query = new URLSearchParams({ query: at("search").value, k: 30, bundle: panels[0]?.bundle ?? "" });
  try {
    const { items } = await ask(`/items?${query}`, undefined, searching());
    const inside = at("found").contains(document.activeElement);
    at("found").replaceChildren(...items.map(foundItem));
    if (inside) at("search").focus(); // the element that had the focus is gone
    at("status").textContent = `${items.length} items found`;
    wellAgain();
  } catch (error) {
    report(error);
  }
}

function foundItem(one) {
  const button = make("button", { type: "button", title: "Add to the history" });
  const times = `${one.interactions} interactions${one.tail ? ", tail" : ""}`;
  button.append(make("span", { className: "title" }, one.title || one.item), " ");
  button.append(make("span", { className: "id" }, `${one.item}, ${times}`));
  button.addEventListener("click", () => add(one));
  return make("li", {}, button);
}

function moveFocus(event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step) return;
  const all = [at("search"), ...at("found").querySelectorAll("button")];
  const next = all[all.indexOf(document.activeElement) + step];
  if (next) next.focus();
  event.preventDefault();
}

// --- history

function add(one) {
  history.push({ item: one.item, title: one.title });
  changed(`${one.title || one.item} added`);
}

function changed(said) {
  sessionStorage.setItem("history", JSON.stringify(history));
  at("history").replaceChildren(...history.map(historyItem));
  at("nothing").hidden = history.length > 0;
  at("clear").hidden = history.length === 0;
  at("status").textContent = said;
  recommend();
}

function historyItem(one, place) {
  const name = one.title || one.item;
  const up = make("button", { type: "button", disabled: place === 0, aria: { label: `Move ${name} earlier` } }, "↑");
  up.addEventListener("click", () => {
    history.splice(place - 1, 2, history[place], history[place - 1]);
    changed(`${name} moved earlier`);
    at("history").children[place - 1].querySelector("button").focus();
  });
  const away = make("button", { type: "button", aria: { label: `Remove ${name}` } }, "✕");
  away.addEventListener("click", () => {
    history.splice(place, 1);
    changed(`${name} removed`);
    (at("history").children[Math.min(place, history.length - 1)]?.querySelector("button:last-of-type") ?? at("search")).focus();
  });
  return make("li", {}, make("span", { className: "title" }, name), up, away);
}

// --- lists

const showSoon = later(60, () => panels.forEach((panel) => panel.show()));

function recommend() {
  panels.forEach((panel) => panel.element.setAttribute("aria-busy", "true"));
  showSoon();
}

function wanted() {
  const condition = at("where").value.trim();
  return {
    history: history.slice(-1000).map((one) => one.item),
    k: Math.min(100, Math.max(1, Math.round(Number(at("k").value)) || 10)),
    hide_seen: !at("seen").checked,
    where: condition ? [condition] : [],
    diversity: Number(at("diversity").value),
    tail_share: Number(at("tail").value),
  };
}

class Panel {
  constructor(bundles, chosen) {
    this.element = at("panel").content.cloneNode(true).querySelector(".panel");
    this.part = (name) => this.element.querySelector(name);
    this.bundles = bundles;
    this.signal = newest();
    this.answer = null;
    const select = this.part("select");
    select.append(...bundles.map((one) => make("option", { value: one.name }, one.name)));
    select.value = chosen;
    select.addEventListener("change", () => this.show());
  }

  get bundle() {
    return this.part("select").value;
  }

  async show() {
    const about = this.bundles.find((one) => one.name === this.bundle);
    this.part(".of").textContent = `${about.method} on ${about.backbone}, ${about.items.toLocaleString("en")} items`;
    try {
      this.answer = await ask("/recommend", { ...wanted(), bundle: this.bundle }, this.signal());
    } catch (error) {
      if (error.name === "AbortError") return;
      this.element.removeAttribute("aria-busy");
      this.answer = null;
      this.part(".list").replaceChildren();
      this.part(".source").textContent = error.status === 400 ? error.message : "";
      if (error.status !== 400) report(error);
      return;
    }
    this.element.removeAttribute("aria-busy");
    wellAgain();
    const { source, unknown, recommendations } = this.answer;
    const said = source === "popular" ? "Popular items: no item of the history is known." : "Based on the history.";
    const missing = unknown ? ` ${unknown} of its items are not in this catalogue.` : "";
    this.part(".source").textContent = recommendations.length ? said + missing : `No item is left to recommend.${missing}`;
    this.part(".list").replaceChildren(...recommendations.map((one, n) => this.row(one, n, source)));
    panels.forEach((panel) => panel.mark());
  }

  /** Marks the items that another list also has. */
  mark() {
    const others = panels.filter((panel) => panel !== this && panel.answer);
    const theirs = new Set(others.flatMap((panel) => panel.answer.recommendations.map((one) => one.item)));
    this.answer?.recommendations.forEach((one, n) => {
      this.part(".list").children[n].querySelector(".both").hidden = !theirs.has(one.item);
    });
  }

  row(one, n, source) {
    const title = make("span", { className: "title" }, one.title || one.item);
    title.append(make("span", { className: "both", hidden: true }, "in both"));
    const score = make("span", { className: "score" }, source === "popular" ? `${one.score} ×` : one.score.toFixed(2));
    const row = make("div", { className: "row" }, make("span", { className: "rank" }, String(n + 1)), title, score);
    const li = make("li", {}, row);
    if (source === "model") {
      const why = make("button", { type: "button", aria: { expanded: "false", label: `Why ${one.title || one.item}?` } }, "Why?");
      why.addEventListener("click", () => this.explain(one, li, why));
      row.append(why);
    }
    return li;
  }

  async explain(one, li, why) {
    const open = li.querySelector(".why");
    why.setAttribute("aria-expanded", String(!open));
    if (open) return open.remove();
    const place = make("div", { className: "why" }, "…");
    li.append(place);
    try {
      const asked = { history: wanted().history, item: one.item, bundle: this.bundle };
      place.replaceChildren(...reasons(await ask("/explain", asked)));
    } catch (error) {
      place.textContent = error.status === 400 ? error.message : "";
      if (error.status !== 400) report(error);
    }
  }
}

function signed(value) {
  const size = Math.abs(value).toFixed(2);
  if (Number(size) === 0) return make("span", {}, size);
  return make("span", { className: value < 0 ? "minus" : "plus" }, (value < 0 ? "−" : "+") + size);
}

/** The answer of /explain: the views, and the items of the history, those with the most influence first. */
function reasons(found) {
  const views = make("p", { className: "note" }, `Score ${found.score.toFixed(2)} = `);
  Object.entries(found.views).forEach(([name, share], n) => views.append(n ? ", " : "", `${name} `, signed(share)));
  const head = make("tr", {}, make("th", { scope: "col" }, "Item of the history"));
  head.append(make("th", { scope: "col", title: "The gain of the score when this item was added to the history" }, "added"));
  head.append(make("th", { scope: "col", title: "The loss of the score without this item" }, "left out"));
  const rows = [...found.history].sort((a, b) => Math.abs(b.left_out) - Math.abs(a.left_out)).map((one) => {
    const name = make("th", { scope: "row", className: "title" }, one.title || one.item);
    return make("tr", {}, name, make("td", {}, signed(one.added)), make("td", {}, signed(one.left_out)));
  });
  return [views, make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows))];
}

// --- start

async function start() {
  try {
    const { bundles } = await ask("/bundles");
    panels.splice(0, panels.length, ...bundles.slice(0, 2).map((one) => new Panel(bundles, one.name)));
    at("lists").replaceChildren(...panels.map((panel) => panel.element));
    wellAgain();
    changed("");
    await search();
  } catch (error) {
    report(error);
  }
}

at("search").addEventListener("input", later(120, search));
at("choose").addEventListener("keydown", (event) => {
  if (event.target === at("search") || at("found").contains(event.target)) moveFocus(event);
});
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && !event.target.closest("input, select, textarea")) {
    at("search").focus();
    event.preventDefault();
  }
});
at("clear").addEventListener("click", () => {
  history.length = 0;
  changed("History cleared");
  at("search").focus();
});
for (const id of ["k", "where", "diversity", "tail", "seen"]) {
  at(id).addEventListener("input", () => {
    if (id === "diversity") at(id).nextElementSibling.value = at(id).value;
    if (id === "tail") at(id).nextElementSibling.value = `${Math.round(100 * at(id).value)} %`;
    recommend();
  });
}
at("access").addEventListener("submit", (event) => {
  event.preventDefault();
  useToken(at("token").value);
  start();
});
start();
