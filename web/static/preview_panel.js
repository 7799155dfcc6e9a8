/* What an interest would have meant: the mails of the last weeks, or what happens at an airport without data. */

import {ApiError} from "./api.js";
import {buildMark, findMarkKind} from "./chart.js";
import {el, fill} from "./dom.js";
import {describeError} from "./page.js";
import {formatInstant, t} from "./text.js";
import {describeAlert, nameAirport, nameWindow} from "./words.js";

const AT_FIRST = 5; // mails that are listed without a click
const HOURS = {"1h": 1, "6h": 6, "1d": 24};

/** Return why the service refuses what is asked: its own sentence for what a person can mend, else words of the page. */
export function describeRefusal(error) {
  if (!(error instanceof ApiError) || error.status !== 422) return describeError(error);
  const said = [...new Set(error.errors.map((each) => each.message).filter(Boolean))];
  return said.length ? said.join(" ") : error.detail || describeError(error);
}

export class PreviewPanel {
  constructor(again) {
    this.again = again;
    this.headline = el("p", {class: "preview-headline", role: "status"});
    this.body = el("div", {class: "preview-body"});
    this.element = el("section", {class: "preview card", "aria-labelledby": "preview-title"},
      el("h2", {id: "preview-title"}, t("preview.title")), this.headline, this.body);
  }

  /** What is shown stays until the answer comes, but is marked as old. */
  showWaiting() {
    this.element.setAttribute("aria-busy", "true");
  }

  set(headline, ...body) {
    this.element.removeAttribute("aria-busy");
    if (this.headline.textContent !== headline) this.headline.textContent = headline;
    fill(this.body, body);
  }

  showNoLevel() {
    this.set(t("watch.no_level"));
  }

  showFault(text) {
    this.set(text);
  }

  showError(error) {
    const isMendable = error instanceof ApiError && error.status === 422;
    this.set(describeRefusal(error), isMendable ? null
      : el("p", null, el("button", {type: "button", onclick: this.again}, t("error.again"))));
  }

  /** Show an answer of the preview. `shape`: {history, direction, window, zone, airport}. */
  show(found, shape) {
    if (found.unknown !== null) {
      this.showUnknown(found, shape);
      return;
    }
    const days = Math.max(1, Math.round((found.windows * HOURS[shape.window]) / 24));
    const mails = t("preview.mails", {count: found.alerts.length});
    const headline = t("preview.headline", {mails, days: t("preview.days", {count: days})});
    const ends = new Map((shape.history ?? []).map((each) => [each.window_start, each.window_end]));
    const items = [...found.alerts].reverse().map((alert) => {
      const start = alert.window_start;
      const window = {start, end: ends.get(start) ?? start};
      const said = {bound: alert.bound, state: alert.state.toLowerCase(), flights: alert.count};
      return el("li", null, buildMark(findMarkKind(said)),
        el("span", null, `${nameWindow(window, shape, shape.zone)}: ${describeAlert(said, shape)}`));
    });
    const rest = items.splice(AT_FIRST);
    this.set(headline,
      items.length ? el("ul", {class: "mails"}, items) : null,
      rest.length ? el("details", null, el("summary", null, t("preview.rest", {count: rest.length})), el("ul", {class: "mails"}, rest)) : null,
      el("p", {class: "hint"}, t(shape.zone === "UTC" ? "preview.by_utc" : "preview.by_airport")),
      found.notice === null ? null : el("p", {class: "hint"}, t("preview.unheard", {airport: nameAirport(shape.airport)})));
  }

  /** Say of an airport without data what will happen, and when. */
  showUnknown(found, {airport, direction, history}) {
    const parts = direction === "both" ? ["arrivals", "departures"] : [direction];
    const isCollected = parts.every((part) => found.covered[part] !== null);
    const name = nameAirport(airport);
    if (isCollected) {
      const until = parts.map((part) => found.covered[part].covered_until).sort()[0];
      this.set(t("preview.few", {until: formatInstant(until, {zone: airport.timeZone})}), el("p", null, t("preview.few.then")));
      return;
    }
    this.set(t("preview.nothing", {airport: name}),
      el("ul", {class: "then"},
        el("li", null, t("preview.nothing.now")), el("li", null, t("preview.nothing.night")),
        el("li", null, t("preview.nothing.live")), el("li", null, t("preview.nothing.usual"))),
      found.notice === null ? null : el("p", {class: "hint"}, t("preview.unheard", {airport: name})));
  }
}
