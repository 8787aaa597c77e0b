"use strict";
// The work list: which studies are shown, in which order, and which one is chosen. Only visible rows exist in the page.

const ROW_HEIGHT = 58;
const FILTERS = [
  ["all", "All", () => true],
  ["flagged", "Flagged", (item) => item.flags.length > 0],
  ["abnormal", "Abnormal", (item) => item.isAbnormal],
  ["quarantined", "Quarantined", (item) => item.isQuarantined],
  ["unsure", "Low confidence", (item) => item.isUnsure],
];
// A draft whose text agrees so little with its film, or a label so close to its threshold, that either could be otherwise.
const LEAST_AGREEMENT = 0.5;
const CLOSE_TO_THRESHOLD = 0.02;
const ORDERS = {
  id: (a, b) => a.place - b.place,
  abnormal: (a, b) => b.worst - a.worst || a.place - b.place,
  doubtful: (a, b) => a.consistency - b.consistency || a.place - b.place,
};

function element(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "class") node.className = value;
    else if (name in node) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

function viewName(view) {
  return view === "UNKNOWN" ? "view unknown" : view;
}

// The newer draft of a study, as [night, run, key of its page]; null while the one here is the latest.
function newerDraft(study) {
  const replaced = window.CRRG_SUPERSEDED || {};
  const film = study.films.find((each) => replaced[each.id]);
  return film ? replaced[film.id] : null;
}

// Those of the models that drafted the study, which may be other ones than the night's.
function thresholdsOf(night, study) {
  return study.thresholds || night.thresholds;
}

function listItems(night) {
  const finding = night.labels.length - 1; // "No Finding" is last
  const studies = night.studies.map((study) => {
    const positive = study.labels.map((value, i) => [value, study.probabilities[i], i])
      .filter(([value, , i]) => value && i < finding)
      .sort((a, b) => b[1] - a[1]);
    const thresholds = thresholdsOf(night, study);
    return {
      id: study.id, images: study.films.map((film) => film.id), study, newer: newerDraft(study), flags: study.flags, isQuarantined: false, isAbnormal: positive.length > 0,
      worst: Math.max(...study.probabilities.slice(0, finding)), consistency: study.consistency,
      isUnsure: study.consistency < LEAST_AGREEMENT || study.probabilities.some((value, i) =>
        i < finding && thresholds[i] !== null && Math.abs(value - thresholds[i]) < CLOSE_TO_THRESHOLD),
      view: study.films.map((film) => viewName(film.view)).join(", "),
      line: positive.length ? positive.map(([, , i]) => night.labels[i]).join(", ") : "no finding above its threshold",
    };
  });
  const refused = night.quarantined.map((entry) => ({
    id: entry.id, images: entry.instanceId ? [entry.instanceId] : [], refused: entry, newer: null, flags: [], isQuarantined: true, isAbnormal: false, isUnsure: false, worst: -1, consistency: 2,
    view: "", line: entry.reason,
  }));
  const items = [...studies, ...refused];
  items.forEach((item, place) => {
    item.place = place;
    item.text = [item.id, ...item.images, item.line, item.newer ? "replaced" : "", ...item.flags].join(" ").toLowerCase();
  });
  return items;
}

class WorkList {
  constructor(night, onChoose) {
    this.items = listItems(night);
    this.shown = [];
    this.rows = new Map();  // the rows in the page, by item
    this.chosen = null;
    this.filter = "all";
    this.onChoose = onChoose;
    this.list = document.getElementById("list");
    this.space = document.getElementById("list-space");
    this.buttons = FILTERS.map(([name, title, keeps], i) => {
      const num = this.items.filter(keeps).length;
      const button = element("button", { type: "button", "aria-pressed": "false", title: `key ${i + 1}` },
        title, element("span", { class: "num" }, String(num)));
      button.dataset.filter = name;
      button.addEventListener("click", () => this.show(name));
      return button;
    });
    document.getElementById("filters").append(...this.buttons);
    document.getElementById("order").addEventListener("change", () => this.refresh());
    document.getElementById("find").addEventListener("input", () => this.refresh());
    this.list.addEventListener("scroll", () => this.draw(), { passive: true });
    this.list.addEventListener("click", (event) => {
      const row = event.target.closest(".row");
      if (row) this.choose(this.shown[Number(row.dataset.place)]);
    });
    new ResizeObserver(() => this.draw()).observe(this.list);
  }

  show(filter) {
    this.filter = filter;
    this.refresh();
  }

  refresh() {
    const keeps = FILTERS.find(([name]) => name === this.filter)[2];
    const words = document.getElementById("find").value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    this.shown = this.items
      .filter((item) => keeps(item) && words.every((word) => item.text.includes(word)))
      .sort(ORDERS[document.getElementById("order").value]);
    for (const button of this.buttons) button.setAttribute("aria-pressed", String(button.dataset.filter === this.filter));
    document.getElementById("list-count").textContent =
      this.shown.length === 1 ? "1 entry" : `${this.shown.length} entries`;
    this.space.style.height = `${this.shown.length * ROW_HEIGHT}px`;
    if (!this.shown.includes(this.chosen)) this.choose(this.shown[0] || null);
    else this.reveal();
  }

  choose(item) {
    this.chosen = item;
    this.reveal();
    this.onChoose(item);
  }

  // Of a study, an object or, where none has that id, of a film; drafts come before what was refused.
  chooseId(id) {
    const item = this.items.find((each) => each.id === id) || this.items.find((each) => each.images.includes(id));
    if (item) this.choose(item);
    return Boolean(item);
  }

  step(by) {
    if (!this.shown.length) return;
    const place = Math.min(this.shown.length - 1, Math.max(0, this.shown.indexOf(this.chosen) + by));
    if (this.shown[place] !== this.chosen) this.choose(this.shown[place]);
  }

  reveal() {
    const top = this.shown.indexOf(this.chosen) * ROW_HEIGHT;
    const { scrollTop, clientHeight } = this.list;
    if (top >= 0 && top < scrollTop) this.list.scrollTop = top;
    else if (top + ROW_HEIGHT > scrollTop + clientHeight) this.list.scrollTop = top + ROW_HEIGHT - clientHeight;
    this.draw();
  }

  draw() {
    const first = Math.max(0, Math.floor(this.list.scrollTop / ROW_HEIGHT) - 4);
    const last = Math.min(this.shown.length, first + Math.ceil(this.list.clientHeight / ROW_HEIGHT) + 9);
    const near = this.shown.slice(first, last);
    // A row that stays near is never taken out: where a press ends on another element than it began on, there is no click.
    for (const [item, row] of this.rows) {
      if (near.includes(item)) continue;
      row.remove();
      this.rows.delete(item);
    }
    near.forEach((item, i) => {
      if (!this.rows.has(item)) this.rows.set(item, this.row(item));
      const row = this.rows.get(item);
      this.put(row, item, first + i);
      if (this.space.children[i] !== row) this.space.insertBefore(row, this.space.children[i] || null);
    });
    if (this.chosen) this.list.setAttribute("aria-activedescendant", `row-${this.chosen.place}`);
    else this.list.removeAttribute("aria-activedescendant");
  }

  put(row, item, place) {
    row.setAttribute("aria-selected", String(item === this.chosen));
    row.setAttribute("aria-setsize", String(this.shown.length));
    row.setAttribute("aria-posinset", String(place + 1));
    row.style.top = `${place * ROW_HEIGHT}px`;
    row.dataset.place = String(place);
  }

  row(item) {
    const marks = item.newer ? ["replaced"] : [];
    if (item.flags.length) marks.push(item.flags.length === 1 ? "1 flag" : `${item.flags.length} flags`);
    if (item.study && item.study.films.length > 1) marks.push(`${item.study.films.length} films`);
    const kind = item.isQuarantined ? "is-quarantined" : item.isAbnormal ? "is-abnormal" : "";
    return element("div", { class: "row", role: "option", id: `row-${item.place}` },
      element("div", { class: "row-head" },
        element("span", { class: "row-id" }, item.id.slice(0, 14)),
        element("span", { class: "row-view" }, item.isQuarantined ? "quarantined" : item.view),
        element("span", { class: "row-marks" }, marks.join(" · "))),
      element("div", { class: `row-line ${kind}` }, item.line));
  }
}
