"use strict";
// One study at a time: film with boxes, sentences that light their boxes, label bars. All text goes in as text nodes.

const night = window.CRRG_NIGHT;
const SVG = "http://www.w3.org/2000/svg";
const FLAG_NOTES = [
  [/^(text_without_label|label_without_text):/, "Flags of text and label ask the film alone; the labels below may have read the text as well."],
  [/^(text_without_regions|regions_without_text):/, "Flags of text and regions: the draft states what film and regions show together, and here the regions alone say otherwise."],
];
const BOX_MODES = ["reported", "all", "none"];
const ADDRESS_AFTER_MS = 300;
const state = { item: null, film: 0, boxes: "reported", isInverted: false, showsHeat: true, pinned: null, addressTimer: 0 };

function svgElement(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, String(value));
  node.append(...children);
  return node;
}

// A region row is [x1, y1, x2, y2, score, abnormal probability, detected, selected, phrase, reads abnormal].
function regionsOf(film) {
  return film.regions.map((row, i) => ({
    name: night.regions[i], box: row.slice(0, 4), score: row[4], abnormal: row[5], isDetected: Boolean(row[6]),
    isSelected: Boolean(row[7]), phrase: row[8], isAbnormal: Boolean(row[9]),
  }));
}

function percent(value) {
  return value.toFixed(2);
}

function light(names) {
  const lit = new Set(names || state.pinned || []);
  document.getElementById("film-stage").classList.toggle("has-lit", lit.size > 0);
  for (const node of document.querySelectorAll("[data-regions]")) {
    node.classList.toggle("is-lit", node.dataset.regions.split("|").some((name) => lit.has(name)));
  }
  lightHeat(lit);
  const name = document.getElementById("box-name");
  if (!name || !state.item || !state.item.study) return;
  const regions = regionsOf(state.item.study.films[state.film]).filter((region) => lit.has(region.name));
  name.textContent = regions.length === 1 ? regions[0].name : "";
  if (regions.length === 1) {
    const size = Number(name.dataset.size);
    const { width, height } = state.item.study.films[state.film];
    const [x1, y1, x2, y2] = regions[0].box;
    // a name that begins in the right half ends with its box, so that it stays on the film
    const isRight = x1 > width / 2;
    name.setAttribute("text-anchor", isRight ? "end" : "start");
    name.setAttribute("x", isRight ? x2 : x1);
    // above the box, else below it, else inside at its top, so that the film's edge cuts no letter
    const below = y2 + size * 1.3 < height ? y2 + size : Math.max(0, y1) + size * 1.2;
    name.setAttribute("y", y1 > size * 1.6 ? y1 - size * 0.4 : below);
  }
  const caption = document.getElementById("film-caption");
  if (regions.length === 0) caption.textContent = captionOf(state.item.study.films[state.film]);
  else {
    caption.replaceChildren(element("strong", {}, regions.map((region) => region.name).join(", ")), ...regions.length === 1
      ? [` · abnormal ${percent(regions[0].abnormal)} · box score ${percent(regions[0].score)}${regions[0].isDetected ? "" : " · not found, average position"}`]
      : []);
  }
}

// The maps of a film are one strip of 29 tiles, one above the other, in the order of the regions; a tile without a map is
// transparent. Each lit region shows its tile through a window of the film's size.
function lightHeat(lit) {
  const heat = document.getElementById("heat");
  if (!heat) return;
  const { evidence } = state.item.study.films[state.film];
  heat.replaceChildren(...(state.showsHeat ? night.regions : []).flatMap((name, i) => (lit.has(name) ? [
    svgElement("svg", { viewBox: "0 0 1 1", preserveAspectRatio: "none", width: "100%", height: "100%" }, svgElement("image", {
      href: evidence, x: 0, y: -i, width: 1, height: night.regions.length, preserveAspectRatio: "none",
    })),
  ] : [])));
}

function lights(node, names) {
  node.dataset.regions = names.join("|");
  node.addEventListener("mouseenter", () => light(names));
  node.addEventListener("mouseleave", () => light(null));
  node.addEventListener("focus", () => light(names));
  node.addEventListener("blur", () => light(null));
  node.addEventListener("click", () => {
    const isSame = state.pinned && state.pinned.join("|") === names.join("|");
    state.pinned = isSame ? null : names;
    light(names);
  });
  return node;
}

function captionOf(film) {
  return `${viewName(film.view)} · ${film.width} × ${film.height} pixels · agreement of text and film ${percent(film.consistency)}`;
}

function drawFilm() {
  const film = state.item.study.films[state.film];
  const svg = svgElement("svg", {
    viewBox: `0 0 ${film.width} ${film.height}`, role: "img", class: state.isInverted ? "is-inverted" : "",
    "aria-label": `Chest film, ${viewName(film.view)}, with boxes of the regions the draft speaks of`,
  });
  const picture = svgElement("image", {
    href: film.picture, x: 0, y: 0, width: film.width, height: film.height, preserveAspectRatio: "none",
  });
  picture.addEventListener("error", () => svg.append(svgElement("text", {
    class: "missing", x: film.width / 2, y: film.height / 2, "font-size": film.width / 30,
  }, "the picture is not beside this page")));
  svg.append(picture);
  if (film.evidence) svg.append(svgElement("svg", { id: "heat", x: 0, y: 0, width: film.width, height: film.height, "aria-hidden": "true" }));
  // Large boxes first, so that small ones stay reachable by the pointer.
  const area = ({ box }) => (box[2] - box[0]) * (box[3] - box[1]);
  for (const region of regionsOf(film).sort((a, b) => area(b) - area(a))) {
    const isReported = Boolean(region.phrase);
    if (state.boxes === "none" || (state.boxes === "reported" && !isReported)) continue;
    const [x1, y1, x2, y2] = region.box;
    const kind = isReported ? (region.isAbnormal ? " is-abnormal" : "") : " is-unreported";
    svg.append(lights(svgElement("rect", {
      class: `box${kind}`, x: x1, y: y1, width: Math.max(1, x2 - x1), height: Math.max(1, y2 - y1),
      tabindex: -1,  // an element of a drawing that listens for the focus would get it by the tab key
    }, svgElement("title", {}, region.name)), [region.name]));
  }
  const name = svgElement("text", { class: "box-name", id: "box-name" });
  const size = Math.max(film.width, film.height) / 45;
  name.dataset.size = String(size);
  name.style.fontSize = `${size}px`;
  name.style.strokeWidth = `${size / 4}px`;
  svg.append(name);
  document.getElementById("film-stage").replaceChildren(svg);
  drawFilmTools();
  light(null);
}

function toggle(title, isPressed, action) {
  const button = element("button", { type: "button", "aria-pressed": String(isPressed) }, title);
  button.addEventListener("click", action);
  return button;
}

function drawFilmTools() {
  const { films } = state.item.study;
  const tools = BOX_MODES.map((mode) => toggle(`${mode} boxes`.replace("none boxes", "no boxes"), mode === state.boxes, () => {
    state.boxes = mode;
    drawFilm();
  }));
  tools.push(element("span", { class: "gap" }), toggle("invert", state.isInverted, () => {
    state.isInverted = !state.isInverted;
    drawFilm();
  }));
  if (films[state.film].evidence) {
    tools.push(toggle("what a sentence rests on", state.showsHeat, () => {
      state.showsHeat = !state.showsHeat;
      drawFilm();
    }));
  }
  if (films.length > 1) {
    tools.push(element("span", { class: "gap" }));
    films.forEach((film, i) => tools.push(toggle(`film ${i + 1} · ${viewName(film.view)}${film.isPrimary ? " · primary" : ""}`, i === state.film, () => showFilm(i))));
  }
  document.getElementById("film-tools").replaceChildren(...tools);
}

function showFilm(place) {
  state.film = place;
  state.pinned = null;
  drawFilm();
  drawDraft();
}

// Findings are pieces: text, or [sentence, places of the regions that said it, stated], where stated is 1 if the sentence
// states a finding, -1 if it denies what it names, else 0.
function findingsNode(film) {
  const node = element("p", { class: "findings" });
  const all = regionsOf(film);
  for (const piece of film.findings) {
    if (typeof piece === "string") {
      node.append(piece);
      continue;
    }
    const [text, places, stated] = piece;
    const regions = places.map((place) => all[place]);
    // a region may read abnormal for another reason than the one its sentence denies
    const kind = stated > 0 || (stated === 0 && regions.some((region) => region.isAbnormal)) ? " is-abnormal" : "";
    const names = regions.map((region) => region.name);
    node.append(lights(element("span", {
      class: `sentence${kind}`, tabIndex: 0, role: "button", "aria-label": `${text} Region: ${names.join(", ")}`,
    }, text), names));
  }
  if (!film.findings.length) node.append(element("span", { class: "quiet" }, "The models had nothing to say about any region."));
  return node;
}

function barsNode(study) {
  const body = element("tbody");
  night.labels.forEach((label, i) => {
    const value = study.probabilities[i];
    const threshold = thresholdsOf(night, study)[i];
    const bar = svgElement("svg", { viewBox: "0 0 100 14", preserveAspectRatio: "none", "aria-hidden": "true" },
      svgElement("rect", { class: "track", x: 0, y: 3, width: 100, height: 8 }),
      svgElement("rect", { class: "fill", x: 0, y: 3, width: value * 100, height: 8 }));
    if (threshold !== null) {
      bar.append(svgElement("line", { class: "tick", x1: threshold * 100, x2: threshold * 100, y1: 0, y2: 14, "vector-effect": "non-scaling-stroke" }));
    }
    const words = threshold === null ? "no threshold is known" : `threshold ${percent(threshold)}`;
    const kind = (study.labels[i] ? "is-positive" : "") + (i === night.labels.length - 1 ? " is-none" : "");
    body.append(element("tr", { class: kind, title: words },
      element("th", { scope: "row" }, label, study.labels[i] ? " ●" : ""), element("td", {}, bar),
      element("td", { class: "value" }, percent(value)),
      element("td", { class: "threshold", "aria-label": words }, threshold === null ? "" : `≥ ${percent(threshold)}`)));
  });
  return element("table", { class: "bars", "aria-label": "Calibrated probabilities; a dot marks labels at or above their threshold on a film, No Finding on every film" }, body);
}

function regionsNode(film) {
  const body = element("tbody");
  for (const region of regionsOf(film)) {
    body.append(lights(element("tr", { tabIndex: 0 },
      element("td", {}, region.name), element("td", { class: "value" }, percent(region.abnormal)),
      element("td", {}, region.phrase || element("span", { class: "quiet" }, region.isDetected ? "—" : "not found on the film"))), [region.name]));
  }
  return element("details", {}, element("summary", {}, `All ${film.regions.length} regions`),
    element("table", { class: "regions" }, element("thead", {}, element("tr", {},
      element("th", { scope: "col" }, "Region"), element("th", { scope: "col" }, film.abnormalFrom ? `Abnormal, from ${percent(film.abnormalFrom)}` : "Abnormal"), element("th", { scope: "col" }, "Sentence"))), body));
}

function replacedNode(study, [date, run, page]) {
  const node = element("p", { class: "replaced", role: "note" }, element("strong", {}, "REPLACED. "),
    `A newer draft of this study was written in the night of ${date}, run ${run}. `);
  // the page lies four folders below the root: results, night, run, review
  if (page) node.append(element("a", { href: `../../../../${page}#${encodeURIComponent(study.id)}` }, "Open the newer draft"));
  return node;
}

// Flags of the whole study, each with the places of the films that have it: of none where only the study as a whole has it.
function flagsOf(study) {
  const found = new Map(study.flags.map((flag) => [flag, []]));
  study.films.forEach((film, i) => film.flags.forEach((flag) => found.set(flag, [...(found.get(flag) || []), i])));
  return [...found];
}

function flagsNode(study) {
  const found = flagsOf(study);
  if (!found.length) return element("p", { class: "quiet" }, "none");
  const whose = (places) => (places.length ? `film ${places.map((i) => i + 1).join(", ")}` : "the study");
  return element("ul", { class: "flags" }, ...found.map(([flag, places]) => element("li", { class: flag.endsWith("_unknown") ? "is-note" : "" },
    flag.replace(/_/g, " ").replace(":", ": "),
    ...(study.films.length > 1 ? [element("span", { class: "quiet" }, ` · ${whose(places)}`)] : []))));
}

function drawDraft() {
  const { study } = state.item;
  const film = study.films[state.film];
  const [version, bundle] = film.model || [night.modelVersion, night.bundleId];
  const many = study.films.length > 1 ? ` · highest of ${study.films.length} films` : "";
  document.getElementById("draft-pane").replaceChildren(
    element("h2", {}, element("span", { class: "tag" }, "DRAFT"), element("code", {}, study.id.slice(0, 24))),
    ...(state.item.newer ? [replacedNode(study, state.item.newer)] : []),
    element("h3", {}, "Impression"), element("p", { class: "impression" }, film.impression || night.noImpression),
    element("h3", {}, "Findings"), findingsNode(film),
    element("h3", {}, "Flags"), flagsNode(study),
    ...FLAG_NOTES.filter(([kind]) => flagsOf(study).some(([flag]) => kind.test(flag)))
      .map(([, note]) => element("p", { class: "quiet" }, note)),
    element("h3", {}, `Labels${many}`), barsNode(study),
    element("h3", {}, "Regions"), regionsNode(film),
    element("h3", {}, "Where this comes from"),
    element("p", { class: "quiet" }, `Image ${film.id} · model ${version || "unregistered"} · bundle ${bundle}`));
  document.getElementById("draft-pane").scrollTop = 0;
}

function drawRefused(entry) {
  const family = entry.reason.split(".")[0];
  const pane = document.getElementById("draft-pane");
  const facts = [["Reason", entry.reason], ["What that means", night.families[family] || "see the list of reason codes"],
    ["In detail", entry.detail || "—"], ["Object", entry.id], ["Image", entry.instanceId || "not known"]];
  pane.replaceChildren(
    element("h2", {}, element("span", { class: "tag" }, "QUARANTINED"), element("code", {}, entry.id.slice(0, 24))),
    element("dl", { class: "facts" }, ...facts.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)])),
    element("p", { class: "quiet" }, "Nothing was drafted from this object. Names are pseudonyms; the object itself stays in the inbox."));
}

// Browsers refuse an address that changes a hundred times in some seconds, as a key held down would make it; the study
// that was reached in the end names itself.
function setAddress(id) {
  clearTimeout(state.addressTimer);
  state.addressTimer = setTimeout(() => {
    try {
      history.replaceState(null, "", `#${encodeURIComponent(id)}`);
    } catch {
      // the page works without
    }
  }, ADDRESS_AFTER_MS);
}

function drawStudy(item) {
  Object.assign(state, { item, film: 0, pinned: null });
  const study = document.getElementById("study");
  study.classList.toggle("is-quarantined", !item || item.isQuarantined);
  if (!item) {
    clearTimeout(state.addressTimer);
    document.getElementById("draft-pane").replaceChildren(element("p", { class: "empty" }, "No entry under this filter."));
    return;
  }
  if (item.isQuarantined) drawRefused(item.refused);
  else {
    drawFilm();
    drawDraft();
    const next = worklist.shown[worklist.shown.indexOf(item) + 1];
    if (next && next.study) new Image().src = next.study.films[0].picture;
  }
  setAddress(item.id);
}

function stepSentence(by) {
  const all = [...document.querySelectorAll(".sentence")];
  if (!all.length) return;
  const place = all.indexOf(document.activeElement);
  all[(place + by + all.length + (place < 0 && by < 0 ? 1 : 0)) % all.length].focus();
}

function pressed(key) {
  const hasFilm = Boolean(state.item && state.item.study);
  const actions = {
    j: () => worklist.step(1), ArrowDown: () => worklist.step(1), k: () => worklist.step(-1), ArrowUp: () => worklist.step(-1),
    Home: () => worklist.step(-Infinity), End: () => worklist.step(Infinity),
    PageDown: () => worklist.step(10), PageUp: () => worklist.step(-10),
    "/": () => document.getElementById("find").focus(), "?": () => document.getElementById("help").showModal(),
    n: () => stepSentence(1), p: () => stepSentence(-1),
  };
  FILTERS.forEach(([name], i) => { actions[String(i + 1)] = () => worklist.show(name); });
  if (hasFilm) {
    actions.f = () => showFilm((state.film + 1) % state.item.study.films.length);
    actions.b = () => { state.boxes = BOX_MODES[(BOX_MODES.indexOf(state.boxes) + 1) % BOX_MODES.length]; drawFilm(); };
    actions.i = () => { state.isInverted = !state.isInverted; drawFilm(); };
    actions.h = () => { state.showsHeat = !state.showsHeat; drawFilm(); };
    actions.Escape = () => { state.pinned = null; light(null); };
  }
  return actions[key];
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.getElementById("help").open) return;
  const { target } = event;
  if (target.matches("input, select")) {
    if (event.key === "Escape" || (event.key === "Enter" && target.matches("input"))) document.getElementById("list").focus();
    return;
  }
  if ((event.key === "Enter" || event.key === " ") && target.matches(".sentence")) {
    target.click();
    event.preventDefault();
    return;
  }
  const action = pressed(event.key);
  if (action) {
    action();
    event.preventDefault();
  }
});
document.getElementById("help-button").addEventListener("click", () => document.getElementById("help").showModal());

function askedId(address) {
  try {
    return decodeURIComponent(new URL(address).hash.slice(1));
  } catch {
    return "";  // a link that was cut within a percent sign names nothing
  }
}

function openId(id) {
  if (!worklist.chooseId(id) || !state.item.study) return;
  const place = state.item.study.films.findIndex((film) => film.id === id);
  if (place > 0) showFilm(place);
  setAddress(id);  // of the film, where that was asked for
}

const asked = askedId(location.href);
const worklist = new WorkList(night, drawStudy);
worklist.refresh();
const numReplaced = worklist.items.filter((item) => item.newer).length;
if (numReplaced) {
  const note = document.getElementById("replaced-note");
  note.textContent = `${numReplaced} of the ${night.studies.length} drafts of this night were replaced by newer ones of later runs; each says by which.`;
  note.hidden = false;
  if (window.CRRG_LIST) document.getElementById("list-file").href = window.CRRG_LIST;
}
if (asked) openId(asked);
window.addEventListener("hashchange", (event) => openId(askedId(event.newURL)));
