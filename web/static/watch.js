/* Watch an airport: what to watch, and at once what it would have meant in the last weeks. */

import {ApiError, href, request, requestEarly} from "./api.js";
import {buildAirportField} from "./airport_field.js";
import {createChart} from "./chart.js";
import {byId, el, fill} from "./dom.js";
import {LevelsForm} from "./levels_form.js";
import {announce, buildAccountNotices, requireAccount, startPage} from "./page.js";
import {describeRefusal, PreviewPanel} from "./preview_panel.js";
import {t} from "./text.js";
import {describeTraffic, findPause, findZone, nameAirport, nameCountry, nameWindow} from "./words.js";

const DEBOUNCE_MS = 250;
const NEVER = 100_000; // flights: the highest level that may be set, which asks for a chart without a mail

const id = new URLSearchParams(location.search).get("interest");
if (id === null) requestEarly("/interests");
startPage(async (context) => {
  const account = requireAccount(context);
  const page = new WatchPage(account);
  if (id === null) page.startNew(await loadInterests());
  else await page.startChange(id);
});

async function loadInterests() {
  return (await request("GET", "/interests")).body.interests;
}

class WatchPage {
  constructor(account) {
    this.account = account;
    this.interest = null; // the one that is changed
    this.mine = [];
    this.airport = null;
    this.direction = "departures";
    this.window = "1h";
    this.isLocal = true;
    this.asked = 0;
    this.history = null;
    this.shape = null;
  }

  startNew(mine) {
    this.mine = mine;
    this.field = buildAirportField((airport) => this.chooseAirport(airport));
    this.build(t("watch.title"), el("div", null, this.field.element, this.buildChoices()));
  }

  /** Show the form of an interest that is there. Throws the request's error but 404, which is said. */
  async startChange(id) {
    let found;
    try {
      found = await loadWithAirport(id);
    } catch (error) {
      if (!(error instanceof ApiError) || (error.status !== 404 && error.status !== 405)) throw error;
      fill(byId("page"), el("h1", null, t("watch.change.title")), el("p", {class: "notice"}, t("watch.gone")),
        el("p", {class: "actions"}, el("a", {class: "button", href: href("/")}, t("watch.back"))));
      return;
    }
    await this.showInterest(found);
  }

  async showInterest({interest, airport}) {
    this.interest = interest;
    Object.assign(this, {direction: interest.direction, window: interest.window, isLocal: interest.aligned_to === "airport"});
    this.airport = airport;
    this.build(t("watch.change.title"), el("p", {class: "lead"}, `${nameAirport(this.airport)}: ${describeTraffic(interest)}`));
    this.levels.read(interest);
    this.content.hidden = false;
    await this.refresh();
  }

  build(title, choices) {
    this.levels = new LevelsForm(() => this.onLevels());
    this.panel = new PreviewPanel(() => this.refresh());
    this.chartPlace = el("div", {class: "watch-chart"});
    this.already = el("div", {"aria-live": "polite"});
    this.fault = el("div", {role: "alert"});
    this.save = el("button", {type: "submit", class: "primary"}, t(this.interest ? "watch.save_change" : "watch.save"));
    this.chart = null;
    this.content = el("div", {class: "stack watch-content", hidden: true},
      this.already,
      el("section", {"aria-labelledby": "chart-title"}, el("h2", {id: "chart-title"}, t("watch.chart")), this.chartPlace),
      el("div", {class: "watch-columns"}, this.levels.element, this.panel.element),
      this.buildMore(),
      this.fault,
      el("div", {class: "actions"}, this.save, el("a", {class: "button", href: href("/")}, t("watch.cancel"))));
    this.form = el("form", {novalidate: true, onsubmit: (event) => this.submit(event)}, choices, this.content);
    fill(byId("page"), el("h1", null, title),
      ...buildAccountNotices(this.account),
      this.form);
  }

  buildChoices() {
    return el("div", {class: "choices"},
      buildRadios("direction", t("watch.direction"), ["departures", "arrivals", "both"], this.direction, (value) => {
        this.direction = value;
        this.onShape();
      }),
      buildRadios("window", t("watch.window"), ["1h", "6h", "1d"], this.window, (value) => {
        this.window = value;
        this.onShape();
      }));
  }

  buildMore() {
    const forWindows = el("input", {type: "number", id: "for-windows", min: 1, max: 30, step: 1, inputmode: "numeric",
      value: this.interest?.for_windows ?? 1, oninput: () => this.refreshSoon()});
    const repeat = el("input", {type: "checkbox", checked: this.interest?.repeat ?? false, onchange: () => this.refreshSoon()});
    const utc = el("input", {type: "checkbox", checked: !this.isLocal, onchange: () => {
      this.isLocal = !utc.checked;
      this.onShape();
    }});
    this.forWindows = forWindows;
    this.repeat = repeat;
    this.clock = el("div", null, el("label", {class: "check"}, utc, t("watch.utc")), el("p", {class: "hint"}, t("watch.utc.hint")));
    this.clock.hidden = Boolean(this.interest) || this.window === "1h";
    return el("details", {class: "more", open: this.interest !== null && (this.interest.for_windows > 1 || this.interest.repeat)},
      el("summary", null, t("watch.more")),
      el("div", {class: "field"}, el("label", {for: "for-windows"}, t("watch.for_windows")),
        el("p", {class: "hint"}, t("watch.for_windows.hint")), forWindows),
      el("label", {class: "check"}, repeat, t("watch.repeat")),
      this.clock);
  }

  /** Show what can be chosen at an airport; null: none is chosen any more, and nothing can be saved. */
  chooseAirport(airport) {
    this.airport = airport;
    this.content.hidden = !airport;
    this.asked += 1; // answers about another airport are not shown
    if (!airport) return;
    announce(t("search.chosen", {airport: nameAirport(airport)}));
    this.onShape();
  }

  /** The windows are other ones: levels that nobody has chosen are suggested anew. */
  onShape() {
    this.clock.hidden = Boolean(this.interest) || this.window === "1h";
    if (!this.airport) return;
    this.showAlready();
    this.refreshSoon();
  }

  onLevels() {
    this.drawChart();
    this.refreshSoon();
  }

  get alignedTo() {
    return this.window !== "1h" && this.isLocal ? "airport" : "utc";
  }

  get zone() {
    return findZone({window: this.window, aligned_to: this.alignedTo}, this.airport.timeZone);
  }

  /** Return the members that make one interest of a person: airport, direction, window and clock. */
  buildShape() {
    return {airport_icao: this.airport.icao, direction: this.direction, window: this.window, aligned_to: this.alignedTo};
  }

  buildMembers() {
    return {for_windows: Number(this.forWindows.value), repeat: this.repeat.checked};
  }

  showAlready() {
    const shape = this.buildShape();
    const same = this.mine.find((each) => Object.entries(shape).every(([name, value]) => each[name] === value));
    fill(this.already, same && el("p", {class: "notice"}, t("watch.already"), " ",
      el("a", {href: href(`/watch?interest=${same.interest_id}`)}, t("watch.already.change"))));
  }

  refreshSoon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.refresh(), DEBOUNCE_MS);
  }

  /** Ask what these levels would have meant, and show it; of several answers the last question's counts. */
  async refresh() {
    clearTimeout(this.timer);
    if (!this.airport || !this.account.confirmed) return;
    this.asked += 1;
    const mine = this.asked;
    this.waiting?.abort();
    this.waiting = new AbortController();
    const shape = this.buildShape();
    const key = JSON.stringify(shape);
    const isOther = key !== this.shape;
    if (isOther) this.showWaiting(shape);
    const fault = this.checkMembers();
    if (fault) {
      this.panel.showFault(fault);
      return;
    }
    this.panel.showWaiting();
    try {
      if (isOther) {
        const first = await this.ask({...shape, ...this.buildMembers(), high_value: NEVER}, true);
        if (mine !== this.asked) return;
        this.history = first.history;
        this.shape = key;
        this.levels.suggest(first.suggestions, first.unknown === null);
        this.drawChart();
      }
      const levels = this.levels.build();
      if (!Object.keys(levels).length) {
        this.panel.showNoLevel();
        return;
      }
      const found = await this.ask({...shape, ...this.buildMembers(), ...levels}, false);
      if (mine !== this.asked) return;
      this.levels.showSuggestions(found.suggestions);
      this.alerts = found.alerts;
      this.panel.show(found, {history: this.history, direction: this.direction, window: this.window, zone: this.zone,
        airport: this.airport});
      this.drawChart();
    } catch (error) {
      if (mine !== this.asked) return;
      this.panel.showError(error);
    }
  }

  async ask(body, hasHistory) {
    const path = `/interests/preview${hasHistory ? "?history=true" : ""}`;
    return (await request("POST", path, {body, signal: this.waiting.signal})).body;
  }

  /** Return what is wrong with the numbers that were typed, in words; null: nothing. */
  checkMembers() {
    const windows = Number(this.forWindows.value);
    if (!Number.isInteger(windows) || windows < 1 || windows > 30) return t("watch.for_windows.wrong");
    return this.levels.check();
  }

  showWaiting() {
    this.history = null;
    this.alerts = [];
    this.drawChart();
  }

  drawChart() {
    if (!this.airport) return;
    const {levels, measure} = this.levels.readChart();
    const said = new Map();
    for (const alert of this.alerts ?? []) {
      const marks = said.get(alert.window_start) ?? [];
      marks.push({bound: alert.bound, state: alert.state.toLowerCase()});
      said.set(alert.window_start, marks);
    }
    const shape = {window: this.window, direction: this.direction};
    const options = {
      windows: (this.history ?? []).map((each) => ({
        start: each.window_start, end: each.window_end, flights: each.flights, usual: each.usual,
        isClosed: true, isLive: false, why: each.flights === null ? "not_collected" : null, alerts: said.get(each.window_start) ?? [],
      })),
      zone: this.zone,
      measure,
      levels,
      name: `${nameAirport(this.airport)}: ${describeTraffic(shape)}`,
      nameWindow: (window) => nameWindow(window, shape, this.zone),
      isWaiting: this.history === null,
    };
    if (this.chart) {
      this.chart.update(options);
      return;
    }
    this.chart = createChart({...options, height: 260, minimumBar: 1, onLevel: (bound, value) => this.levels.move(bound, value)});
    fill(this.chartPlace, this.chart.element);
  }

  async submit(event) {
    event.preventDefault();
    fill(this.fault);
    if (!this.airport) return;
    const fault = this.checkMembers() ?? (Object.keys(this.levels.build()).length ? null : t("watch.no_level"));
    if (fault) {
      this.showFault(fault);
      return;
    }
    this.save.disabled = true;
    try {
      const id = await (this.interest ? this.saveChange() : this.saveNew());
      if (id) location.assign(href(`/#interest-${id}`));
    } catch (error) {
      this.showFault(describeRefusal(error));
    } finally {
      this.save.disabled = false;
    }
  }

  showFault(text) {
    fill(this.fault, el("p", {class: "problem"}, text));
  }

  async saveNew() {
    const body = {...this.buildShape(), ...this.buildMembers(), ...this.levels.build()};
    return (await request("POST", "/interests", {body})).body.interest_id;
  }

  /** Save the change if nobody has changed the interest since it was read; else show it as it is now. Returns its id. */
  async saveChange() {
    const {interest_id: id, version, effective_from: from} = this.interest;
    const body = {high_value: null, low_value: null, high_percent: null, low_percent: null, ...this.levels.build(), ...this.buildMembers()};
    if (findPause(this.interest) !== null) body.effective_from = from; // a pause goes on
    try {
      await request("PATCH", `/interests/${id}`, {body, ifMatch: `"${version}"`});
      return id;
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 412) throw error;
      const now = await loadWithAirport(id);
      this.shape = null;
      await this.showInterest(now);
      this.showFault(t("watch.changed_elsewhere"));
      return null;
    }
  }
}

/** Return an interest and its airport, as the field gives one; the index of all airports is not loaded for it. */
async function loadWithAirport(id) {
  const {interest, airport} = (await request("GET", `/interests/${encodeURIComponent(id)}/windows`)).body;
  return {interest, airport: {...airport, timeZone: airport.time_zone}};
}

function buildRadios(name, label, values, chosen, onChoose) {
  return el("fieldset", {class: "radios"}, el("legend", null, label),
    el("div", {class: "segments"}, values.map((value) =>
      el("label", null,
        el("input", {type: "radio", name, value, checked: value === chosen, onchange: () => onChoose(value)}),
        el("span", null, t(`watch.${name}.${value}`))))));
}
