/* The field in which an airport is searched as one types: a combobox with a list (WAI-ARIA, combobox pattern). */

import {el, fill} from "./dom.js";
import {prepareIndex, readCode, searchAirports} from "./search.js";
import {t} from "./text.js";
import {nameCountry} from "./words.js";

let loading = null;

/** Return the index of airports; it is loaded once. Throws if it cannot be loaded; the next call tries again. */
export function loadAirports() {
  loading ??= fetch(new URL("./airports.json", import.meta.url), {credentials: "same-origin"})
    .then((answer) => {
      if (!answer.ok) throw new Error(`no airports: ${answer.status}`);
      return answer.json();
    })
    .then(prepareIndex)
    .catch((error) => {
      loading = null;
      throw error;
    });
  return loading;
}

/** Return {element, input}: a labelled field that calls `onChoose(airport)` with what somebody chooses.
 *
 * It calls `onChoose(null)` once what is typed is another text than the chosen airport's: what is in the field and what
 * is watched must be the same.
 */
export function buildAirportField(onChoose) {
  let found = [];
  let active = -1;
  let asked = 0;
  let chosen = null; // the text of the airport that is chosen

  const list = el("ul", {id: "airport-list", role: "listbox", class: "options", "aria-label": t("search.list"), hidden: true});
  const count = el("p", {class: "unseen", role: "status"});
  const hint = el("p", {class: "hint", id: "airport-hint"}, t("search.hint"));
  const input = el("input", {
    id: "airport", type: "text", role: "combobox", autocomplete: "off", autocapitalize: "none", spellcheck: "false",
    "aria-autocomplete": "list", "aria-expanded": "false", "aria-controls": "airport-list", "aria-describedby": "airport-hint",
    maxlength: 60, oninput: search, onkeydown: steer, onblur: () => setTimeout(close, 0), onfocus: warm,
  });
  const element = el("div", {class: "field search"},
    el("label", {for: "airport"}, t("search.label")), hint, input, list, count);
  // A press on an option must not take the focus from the field before it is chosen.
  list.addEventListener("pointerdown", (event) => event.preventDefault());

  function warm() {
    loadAirports().catch(() => {});
  }

  async function search() {
    asked += 1;
    const mine = asked;
    const typed = input.value;
    if (chosen !== null && typed !== chosen) {
      chosen = null;
      onChoose(null);
    }
    if (!typed.trim()) {
      close();
      fill(hint, t("search.hint"));
      return;
    }
    let index;
    try {
      index = await loadAirports();
    } catch {
      if (mine !== asked) return;
      fill(hint, t("search.unavailable"));
      show([], typed);
      return;
    }
    if (mine !== asked) return;
    fill(hint, t("search.hint"));
    show(searchAirports(index, typed), typed);
  }

  function show(airports, typed) {
    const code = readCode(typed);
    // Four letters of a name look like a code: a code is offered only where no airport is found.
    found = code && !airports.length ? [{icao: code, iata: "", name: "", city: "", country: "", timeZone: "UTC", isTyped: true}] : airports;
    active = -1;
    fill(list, found.map((airport, at) => buildOption(airport, at)));
    list.hidden = !found.length;
    input.setAttribute("aria-expanded", String(found.length > 0));
    markActive();
    count.textContent = found.length ? t("search.found", {count: found.length}) : t("search.nothing");
    if (!found.length) fill(hint, t("search.nothing"));
  }

  function buildOption(airport, at) {
    const place = [airport.city, nameCountry(airport.country)].filter(Boolean).join(", ");
    return el("li", {id: `airport-${at}`, role: "option", "aria-selected": "false", onclick: () => choose(at)},
      el("span", {class: "option-code"}, airport.iata || airport.icao),
      el("span", {class: "option-name"},
        el("span", null, airport.isTyped ? t("search.code", {code: airport.icao}) : airport.name),
        el("span", {class: "quiet"}, [place, airport.icao].filter(Boolean).join(" · "))));
  }

  function markActive() {
    [...list.children].forEach((option, at) => option.setAttribute("aria-selected", String(at === active)));
    if (active >= 0) input.setAttribute("aria-activedescendant", `airport-${active}`);
    else input.removeAttribute("aria-activedescendant");
    list.children[active]?.scrollIntoView({block: "nearest"});
  }

  function steer(event) {
    if (event.key === "Escape") {
      close();
      return;
    }
    if (event.key === "Enter") {
      event.preventDefault(); // it must not send the form
      if (!list.hidden) choose(Math.max(active, 0)); // without a choice by arrows: the likeliest
      return;
    }
    const step = {ArrowDown: 1, ArrowUp: -1}[event.key];
    if (!step || event.altKey) return;
    event.preventDefault();
    if (list.hidden) {
      search();
      return;
    }
    active = active < 0 && step < 0 ? found.length - 1 : (active + step + found.length) % found.length;
    markActive();
  }

  function choose(at) {
    const airport = found[at];
    input.value = airport.isTyped ? airport.icao : `${airport.city || airport.name} (${airport.iata || airport.icao})`;
    chosen = input.value;
    asked += 1;
    close();
    onChoose(airport);
  }

  function close() {
    list.hidden = true;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  }

  return {element, input};
}
