/* What I was told: an interest's windows of the last 40 days, what was said of each, and why not. */

import {ApiError, href, request, requestEarly} from "./api.js";
import {buildMark, createChart, findMarkKind} from "./chart.js";
import {now} from "./clock.js";
import {byId, el, fill} from "./dom.js";
import {announce, poll, requireAccount, startPage} from "./page.js";
import {formatInstant, t} from "./text.js";
import {
  countFlights, describeAlert, describeFreshness, describeInterest, describeUsual, explainUnknown, findChartLevels,
  findMeasure, findVersions, findZone, nameAirport, nameWindow, readWindows,
} from "./words.js";

const EVERY_MS = 60_000;
const PAGE = 60; // windows that are listed at once
const DAY_MS = 86_400_000;
const SHOWN_DAYS = 40; // before today, by UTC: as far back as a collector shows

requestEarly("/interests");
startPage(async (context) => {
  requireAccount(context);
  const {interests} = (await request("GET", "/interests")).body;
  const page = new ToldPage(interests);
  page.start(new URLSearchParams(location.search).get("interest"));
});

/** Ask for all windows of an interest that the service shows; the service knows how far back they go.
 *
 * During an upgrade a collector of the version before may answer, which refuses `whole` (422): then `begin` names the
 * same days.
 */
async function requestWindows(id, ifNoneMatch) {
  const path = `/interests/${encodeURIComponent(id)}/windows`;
  try {
    return await request("GET", `${path}?whole=true`, {ifNoneMatch});
  } catch (error) {
    if (!(error instanceof ApiError) || error.status !== 422) throw error;
    const today = Math.floor(now() / DAY_MS) * DAY_MS;
    const begin = new Date(today - SHOWN_DAYS * DAY_MS).toISOString();
    return request("GET", `${path}?begin=${encodeURIComponent(begin)}`, {ifNoneMatch});
  }
}

class ToldPage {
  constructor(interests) {
    this.interests = interests;
    this.isFiltered = true;
    this.shown = PAGE;
  }

  start(wanted) {
    if (!this.interests.length && wanted === null) {
      fill(byId("page"), el("h1", null, t("told.title")), el("div", {class: "card empty"}, el("p", null, t("told.empty")),
        el("p", {class: "actions"}, el("a", {class: "button primary", href: href("/watch")}, t("home.watch_first")))));
      return;
    }
    const isKnown = wanted === null || this.interests.some((each) => each.interest_id === wanted);
    this.id = wanted ?? this.interests[0].interest_id;
    this.choice = el("select", {id: "told-interest", onchange: () => this.choose(this.choice.value)},
      this.interests.map((each) => el("option", {value: each.interest_id, selected: each.interest_id === this.id},
        `${each.airport_icao} · ${describeInterest(each)}`)));
    const filter = el("input", {type: "checkbox", checked: true, onchange: () => {
      this.isFiltered = filter.checked;
      this.shown = PAGE;
      this.drawList();
    }});
    this.head = el("div", {class: "told-head"});
    this.chartPlace = el("div", {class: "told-chart"});
    this.list = el("div", {class: "told-list", "aria-live": "off"});
    fill(byId("page"),
      el("h1", null, t("told.title")),
      el("div", {class: "told-choice"},
        this.interests.length ? el("div", {class: "field"}, el("label", {for: "told-interest"}, t("told.choose")), this.choice) : null,
        el("label", {class: "check"}, filter, t("told.only_alerts"))),
      this.head, this.chartPlace, this.list);
    if (!isKnown) {
      this.choice.selectedIndex = -1;
      fill(this.head, el("p", {class: "notice"}, t("watch.gone")));
      return;
    }
    this.watch();
  }

  choose(id) {
    this.id = id;
    this.shown = PAGE;
    history.replaceState(null, "", `${location.pathname}?interest=${encodeURIComponent(id)}`);
    this.watch();
  }

  /** Keep what is shown of the chosen interest fresh. */
  watch() {
    this.stop?.();
    Object.assign(this, {answer: null, etag: null, chart: null});
    fill(this.head, el("p", {class: "quiet"}, t("home.loading")));
    fill(this.chartPlace);
    fill(this.list);
    this.stop = poll(EVERY_MS, () => this.update());
  }

  /** Ask for all windows that the service shows. Throws what the request throws but 404, which is said. */
  async update() {
    const {id} = this;
    let found;
    try {
      found = await requestWindows(id, this.etag);
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 404 || id !== this.id) throw error;
      this.stop();
      fill(this.head, el("p", {class: "notice"}, t("watch.gone")));
      return;
    }
    if (id !== this.id) return;
    if (found.status !== 304) {
      this.etag = found.etag;
      this.answer = found.body;
      this.draw();
    }
  }

  draw() {
    const {answer} = this;
    const {interest, airport} = answer;
    this.zone = findZone(interest, airport.time_zone);
    this.windows = readWindows(answer);
    this.findVersion = findVersions(answer);
    const former = answer.former_versions ?? [];
    fill(this.head,
      el("p", {class: "lead"}, `${nameAirport(airport)}. ${describeInterest(interest)}.`),
      former.length ? el("details", null, el("summary", null, t("told.former", {count: former.length})),
        el("ul", {class: "then"}, [...former].reverse().map((each) => el("li", null, t("told.former.one", {
          levels: describeInterest({...interest, ...each}), from: formatInstant(each.since), until: formatInstant(each.until)}))))) : null,
      el("p", {class: "quiet hint"}, `${describeFreshness(answer, this.zone)} ${t(this.zone === "UTC" ? "preview.by_utc" : "preview.by_airport")}`));
    const options = {
      windows: this.windows, zone: this.zone, measure: findMeasure(interest), levels: findChartLevels(interest),
      name: t("card.chart", {airport: nameAirport(airport)}),
      nameWindow: (window) => nameWindow(window, interest, this.zone),
      words: (window) => this.describe(window),
    };
    if (this.chart) {
      this.chart.update(options);
    } else {
      this.chart = createChart({...options, height: 180, minimumBar: 1});
      fill(this.chartPlace, this.chart.element);
    }
    this.drawList();
  }

  describeAlert(alert, window) {
    return describeAlert(alert, this.answer.interest, {raisedBy: this.findVersion(alert.version), usual: window.usual});
  }

  /** Return what was said of a window, or why nothing was, in one text. */
  describe(window) {
    const said = window.alerts.map((alert) => this.describeAlert(alert, window));
    return [...said, explainUnknown(window)].filter(Boolean).join(" ");
  }

  drawList() {
    if (!this.answer) return;
    const wanted = this.windows.filter((window) => !this.isFiltered || window.alerts.length).reverse();
    const shown = wanted.slice(0, this.shown);
    fill(this.list,
      el("h2", null, t(this.isFiltered ? "told.alerts" : "told.windows", {count: wanted.length})),
      wanted.length ? el("ol", {class: "told-windows"}, shown.map((window) => this.buildWindow(window)))
        : el("p", {class: "quiet"}, t("told.none")),
      wanted.length > shown.length ? el("p", null, el("button", {type: "button", onclick: () => this.showMore()}, t("told.more"))) : null);
    announce(t(this.isFiltered ? "told.alerts" : "told.windows", {count: wanted.length}));
  }

  showMore() {
    const before = this.shown;
    this.shown += PAGE;
    this.drawList();
    this.list.querySelectorAll(".told-windows > li")[before]?.focus();
  }

  buildWindow(window) {
    const {interest} = this.answer;
    const usual = describeUsual(window);
    const why = explainUnknown(window);
    const corrections = new Map();
    const ids = new Set(window.alerts.map((alert) => alert.alert_id));
    for (const alert of window.alerts) {
      const corrected = alert.corrects_alert_id;
      if (corrected && ids.has(corrected)) corrections.set(corrected, [...(corrections.get(corrected) ?? []), alert]);
    }
    const corrected = new Set([...corrections.values()].flat());
    const plain = window.alerts.filter((alert) => !corrected.has(alert));
    return el("li", {tabindex: "-1"},
      el("h3", null, nameWindow(window, interest, this.zone)),
      el("p", {class: "told-count"},
        window.flights === null ? t("told.unknown") : countFlights(interest.direction, window.flights),
        window.isLive ? el("span", {class: "badge"}, t("told.live")) : null,
        window.isClosed || window.flights === null ? null : el("span", {class: "badge"}, t("told.open"))),
      usual ? el("p", {class: "quiet hint"}, usual) : null,
      plain.length ? el("ul", {class: "mails"}, plain.map((alert) => el("li", null,
        buildMark(findMarkKind(alert)),
        el("div", null, this.describeAlert(alert, window),
          (corrections.get(alert.alert_id) ?? []).map((each) =>
            el("p", {class: "correction"}, t("told.corrected", {text: this.describeAlert(each, window)}))))))) : null,
      why ? el("p", {class: "quiet"}, why) : null,
      !plain.length && !why && window.isClosed ? el("p", {class: "quiet"}, t(window.breached.length ? "told.lasts" : "told.quiet")) : null);
  }
}
