/* My airports: a card for each interest, which updates by itself. */

import {ApiError, href, request, requestEarly} from "./api.js";
import {createChart} from "./chart.js";
import {now} from "./clock.js";
import {byId, el, fill} from "./dom.js";
import {announce, buildAccountNotices, describeError, poll, requireAccount, showError, startPage} from "./page.js";
import {formatInstant, t} from "./text.js";
import {
  describeFreshness, describeInterest, describeMore, describeState, findBegin, findChartLevels, findMeasure, findPause,
  findResumption, findZone, nameAirport, nameCountry, nameWindow, readWindows, explainUnknown,
} from "./words.js";

const EVERY_MS = 30_000;
const AT_ONCE = 3; // requests at the same time: a person with many airports shares the service
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const LONGEST_PAUSE_MS = 365 * DAY_MS; // the service allows a day more

requestEarly("/interests");
startPage(async (context) => {
  const account = requireAccount(context);
  const cards = new Cards();
  const list = el("div", {class: "cards", id: "cards"});
  const notices = el("div", {id: "notices"});
  const add = el("a", {class: "button primary", href: href("/watch")}, t("home.watch"));
  fill(byId("page"),
    el("div", {class: "title-and-button"}, el("h1", null, t("home.title")), add),
    ...buildAccountNotices(account),
    notices, list);
  cards.start(list, notices, add);
});

class Cards {
  constructor() {
    this.byId = new Map();
  }

  /** Draw the cards into `list`, and keep them fresh. */
  start(list, notices, add) {
    Object.assign(this, {list, notices, add});
    this.wanted = /^#interest-([0-9a-f-]{36})$/.exec(location.hash)?.[1] ?? null;
    fill(list, el("p", {class: "quiet card card-waiting"}, t("home.loading")));
    this.stop = poll(EVERY_MS, () => this.update());
  }

  /** Ask for the list and for what has changed in each card. Throws what the list's request throws. */
  async update() {
    const {interests} = (await request("GET", "/interests")).body;
    this.arrange(interests);
    const waiting = [...interests];
    const failures = [];
    await Promise.all(Array.from({length: AT_ONCE}, async () => {
      for (let next = waiting.shift(); next; next = waiting.shift()) {
        try {
          await this.byId.get(next.interest_id)?.update();
        } catch (error) {
          failures.push(error);
          // The service is busy or unavailable: the others are not asked for now.
          if (error instanceof ApiError && (error.status === 429 || error.status === 0 || error.status >= 500)) waiting.length = 0;
        }
      }
    }));
    this.showWanted();
    if (failures.length) throw failures[0];
  }

  /** Make the cards those of these interests, in their order, and keep those that are there. */
  arrange(interests) {
    this.add.hidden = interests.length === 0;
    if (!interests.length) {
      this.byId.clear();
      fill(this.list, el("div", {class: "card empty"},
        el("p", null, t("home.empty")),
        el("p", {class: "actions"}, el("a", {class: "button primary", href: href("/watch")}, t("home.watch_first")))));
      return;
    }
    const ids = interests.map((each) => each.interest_id);
    for (const id of [...this.byId.keys()]) if (!ids.includes(id)) this.byId.delete(id);
    for (const interest of interests) {
      if (!this.byId.has(interest.interest_id)) this.byId.set(interest.interest_id, new Card(interest, this));
    }
    const elements = ids.map((id) => this.byId.get(id).element);
    const present = [...this.list.children];
    if (elements.length !== present.length || elements.some((each, at) => each !== present[at])) fill(this.list, elements);
  }

  /** Lead to the card that was just set, once. */
  showWanted() {
    const card = this.wanted && this.byId.get(this.wanted);
    if (!card) return;
    this.wanted = null;
    history.replaceState(null, "", location.pathname + location.search);
    card.element.classList.add("wanted");
    card.heading.focus();
    announce(t("home.saved", {airport: card.heading.textContent}));
  }

  /** Say above the cards what was done, with a button that undoes it. */
  notify(text, undo) {
    fill(this.notices, el("div", {class: "notice notice-line"}, el("p", null, text),
      undo ? el("button", {type: "button", onclick: undo}, t("home.undo")) : null));
    announce(text);
  }
}

class Card {
  constructor(interest, cards) {
    this.cards = cards;
    this.interest = interest;
    this.etag = null;
    this.answer = null;
    this.id = interest.interest_id;
    this.heading = el("h2", {id: `name-${this.id}`, tabindex: "-1"}, interest.airport_icao);
    this.place = el("p", {class: "quiet card-place"});
    this.state = el("p", {class: "card-state"});
    this.levels = el("p", {class: "card-levels"}, describeInterest(interest));
    this.more = el("p", {class: "quiet hint"}, describeRest(interest));
    this.chartPlace = el("div", {class: "card-chart"}, el("p", {class: "quiet"}, t("home.loading")));
    this.fresh = el("p", {class: "quiet hint card-fresh"});
    this.fault = el("p", {class: "card-fault", role: "alert"});
    this.pauseButton = el("button", {type: "button", "aria-expanded": "false", onclick: () => this.togglePause()}, t("card.pause"));
    this.pauses = el("div", {class: "card-pauses", hidden: true, role: "group", "aria-label": t("card.pause.label")});
    this.resume = el("button", {type: "button", hidden: true, onclick: () => this.goOn()}, t("card.resume"));
    const query = `?interest=${encodeURIComponent(this.id)}`;
    this.element = el("article", {class: "card airport-card", id: `interest-${this.id}`, "aria-labelledby": `name-${this.id}`},
      this.heading, this.place, this.state, this.levels, this.more, this.chartPlace, this.fresh, this.fault,
      el("div", {class: "actions"},
        this.pauseButton, this.resume,
        el("a", {class: "button", href: href(`/watch${query}`)}, t("card.change")),
        el("a", {class: "button", href: href(`/told${query}`)}, t("card.told")),
        el("button", {type: "button", onclick: () => this.askRemoval()}, t("card.remove"))),
      this.pauses);
    this.showPause();
  }

  /** Ask for the windows, and draw what is new. Throws what the request throws. */
  async update() {
    try {
      const found = await request("GET", `/interests/${this.id}/windows`, {ifNoneMatch: this.etag});
      if (found.status !== 304) {
        this.etag = found.etag;
        this.answer = found.body;
        this.interest = found.body.interest;
      }
      if (this.answer) this.draw(found.status !== 304);
      fill(this.fault);
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) return; // removed elsewhere: the next list lacks it
      if (!this.answer) fill(this.chartPlace, el("p", {class: "quiet"}, t("card.waiting")));
      throw error;
    }
  }

  draw(isNew) {
    const {answer, interest} = this;
    const zone = findZone(interest, answer.airport.time_zone);
    const state = describeState(answer, zone);
    fill(this.state, el("span", {class: `badge ${state.kind}`}, state.badge), " ", state.text);
    fill(this.fresh, describeFreshness(answer, zone));
    this.showPause();
    if (!isNew) return;
    const {airport} = answer;
    fill(this.heading, nameAirport(airport));
    fill(this.place, [airport.name, nameCountry(airport.country)].filter(Boolean).join(" · "));
    fill(this.levels, describeInterest(interest));
    fill(this.more, describeRest(interest));
    const options = {
      windows: readWindows(answer),
      zone,
      measure: findMeasure(interest),
      levels: findChartLevels(interest),
      name: t("card.chart", {airport: nameAirport(airport)}),
      nameWindow: (window) => nameWindow(window, interest, zone),
      words: (window) => explainUnknown(window) ?? "",
    };
    if (this.chart) {
      this.chart.update(options);
    } else {
      this.chart = createChart({...options, height: 110, minimumBar: 3});
      fill(this.chartPlace, this.chart.element);
    }
  }

  showPause() {
    const isPaused = findPause(this.interest) !== null;
    this.resume.hidden = !isPaused;
    this.pauseButton.hidden = isPaused;
    if (isPaused) this.closePauses();
  }

  closePauses() {
    this.pauses.hidden = true;
    this.pauseButton.setAttribute("aria-expanded", "false");
  }

  togglePause() {
    if (!this.pauses.hidden) {
      this.closePauses();
      return;
    }
    const tomorrow = new Date(now());
    tomorrow.setHours(24, 0, 0, 0);
    const choices = [
      ["hour", now() + HOUR_MS], ["tomorrow", tomorrow.getTime()], ["week", now() + 7 * DAY_MS],
      ["resume", now() + LONGEST_PAUSE_MS],
    ];
    fill(this.pauses, choices.map(([key, until]) =>
      el("button", {type: "button", onclick: () => this.moveStart(until, "card.paused")}, t(`card.pause.${key}`, {until: formatInstant(new Date(until))}))));
    this.pauses.hidden = false;
    this.pauseButton.setAttribute("aria-expanded", "true");
    this.pauses.firstChild.focus();
  }

  /** Let the interest be judged from an instant on: one ahead is a pause until then. */
  async moveStart(from, said) {
    const body = {effective_from: new Date(from).toISOString()};
    const changed = await this.attempt(() => request("PATCH", `/interests/${this.id}`, {body, ifMatch: `"${this.interest.version}"`}));
    if (!changed) return;
    this.interest = changed.body;
    this.closePauses();
    this.showPause();
    (this.resume.hidden ? this.pauseButton : this.resume).focus();
    announce(t(said, {airport: this.heading.textContent}));
    this.etag = null;
    await this.attempt(() => this.update());
  }

  /** End the pause. A window that began before it and is not known to its end yet is told, once it is. */
  async goOn() {
    await this.update().catch(() => {}); // with it comes the service's present time, and what was told until now
    await this.moveStart(this.answer ? findResumption(this.answer) : now(), "card.resumed");
  }

  async askRemoval() {
    const isMeant = await confirmRemoval(this.heading.textContent, describeInterest(this.interest));
    if (!isMeant) return;
    await this.update().catch(() => {}); // so that an undo knows what was told already
    const {interest} = this;
    const removed = await this.attempt(() => request("DELETE", `/interests/${this.id}`));
    if (!removed) return;
    const airport = this.heading.textContent;
    await this.refresh();
    this.cards.notify(t("home.removed", {airport}), () => this.undoRemoval(interest, airport));
    this.cards.notices.querySelector("button").focus();
  }

  /** Set the same interest again: it has another id then, and goes on where it was. */
  async undoRemoval(interest, airport) {
    const members = ["airport_icao", "direction", "window", "aligned_to", "high_value", "low_value", "high_percent",
      "low_percent", "for_windows", "repeat"];
    const body = Object.fromEntries(members.filter((name) => interest[name] !== null).map((name) => [name, interest[name]]));
    // What was judged before is not judged again, what was not known yet will be; a pause goes on.
    const begin = findBegin(this.answer);
    body.effective_from = new Date(Math.max(begin, new Date(interest.effective_from).getTime())).toISOString();
    try {
      const found = await request("POST", "/interests", {body});
      this.cards.wanted = found.body.interest_id;
      this.cards.notify(t("home.undone", {airport}), null);
      await this.refresh();
    } catch (error) {
      showError(error);
    }
  }

  async refresh() {
    try {
      await this.cards.update();
    } catch (error) {
      showError(error);
    }
  }

  /** Return what `work` returns; null if it failed: the card says why, and after a change elsewhere shows the new. */
  async attempt(work) {
    try {
      fill(this.fault);
      return (await work()) ?? true;
    } catch (error) {
      fill(this.fault, describeError(error));
      if (error instanceof ApiError && (error.status === 412 || error.status === 404)) {
        const said = describeError(error);
        this.etag = null;
        await this.refresh();
        fill(this.fault, said);
      }
      return null;
    }
  }
}

/** Return the further conditions of an interest, and what the service says of its airport's code. */
function describeRest(interest) {
  return [...describeMore(interest), interest.notice].filter(Boolean).join(" ");
}

/** Ask once whether an airport's interest is to be removed; resolves to the answer. */
function confirmRemoval(airport, interest) {
  return new Promise((resolve) => {
    const keep = el("button", {type: "submit", value: "keep"}, t("remove.keep"));
    const remove = el("button", {type: "submit", value: "remove", class: "danger"}, t("remove.remove"));
    const dialog = el("dialog", {"aria-labelledby": "remove-title"},
      el("form", {method: "dialog"},
        el("h2", {id: "remove-title"}, t("remove.title", {airport})),
        el("p", null, interest), el("p", {class: "quiet"}, t("remove.text")),
        el("div", {class: "actions"}, keep, remove)));
    const before = document.activeElement;
    dialog.addEventListener("close", () => {
      dialog.remove();
      before?.focus();
      resolve(dialog.returnValue === "remove");
    });
    document.body.append(dialog);
    dialog.showModal();
    keep.focus();
  });
}
