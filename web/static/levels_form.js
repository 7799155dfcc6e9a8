/* The part of "Watch an airport" that says what is unusual: by flights or by percent, above, below or both. */

import {el, fill} from "./dom.js";
import {formatNumber, t} from "./text.js";
import {readLevels} from "./words.js";

const BOUNDS = ["high", "low"];
const MEASURES = ["flights", "percent"];
const MEMBER = {flights: "value", percent: "percent"};
const FREQUENCIES = ["month", "week", "day"];
const LIMITS = {
  flights: {high: [0, 100_000], low: [1, 100_000]},
  percent: {high: [101, 10_000], low: [1, 99]},
};
/* What is filled in where nothing is known that levels could be suggested from. */
const USUAL_PERCENTS = {high: 150, low: 50};

export class LevelsForm {
  constructor(onChange) {
    this.onChange = onChange;
    this.isChosen = false; // whether somebody chose a level: then none is filled in any more
    this.levels = {
      high: {isOn: true, measure: "flights", flights: null, percent: null},
      low: {isOn: false, measure: "flights", flights: null, percent: null},
    };
    this.suggestions = null;
    this.rows = {};
    this.radios = MEASURES.map((measure) =>
      el("input", {type: "radio", name: "measure", value: measure, checked: measure === "flights", onchange: () => this.setMeasure(measure)}));
    this.element = el("fieldset", {class: "levels"},
      el("legend", null, el("h2", null, t("levels.title"))),
      el("div", {class: "segments", role: "group", "aria-label": t("levels.measure")}, MEASURES.map((measure, at) =>
        el("label", null, this.radios[at], el("span", null, t(`levels.measure.${measure}`))))),
      BOUNDS.map((bound) => this.buildRow(bound)));
    this.draw();
  }

  buildRow(bound) {
    const box = el("input", {type: "checkbox", id: `${bound}-on`, onchange: () => {
      this.levels[bound].isOn = box.checked;
      if (box.checked) this.fillIn(bound);
      this.choose();
      if (box.checked) number.focus();
    }});
    const number = el("input", {type: "number", id: `${bound}-level`, step: 1, inputmode: "numeric", "aria-describedby": `${bound}-unit`,
      "aria-label": t(`levels.${bound}`), oninput: () => {
        const level = this.levels[bound];
        level[level.measure] = number.value === "" ? null : Number(number.value);
        level.isOn = true;
        this.choose();
      }});
    const unit = el("span", {id: `${bound}-unit`});
    const suggested = el("div", {class: "suggested"});
    this.rows[bound] = {box, number, unit, suggested};
    return el("div", {class: "level-row"},
      el("label", {class: "check"}, box, t(`levels.${bound}`)),
      el("span", {class: "level-number"}, number, unit),
      suggested);
  }

  /** Take the levels of an interest that is there. */
  read(interest) {
    const found = readLevels(interest);
    for (const bound of BOUNDS) {
      const level = this.levels[bound];
      level.isOn = found[bound] !== null;
      level.measure = (found[bound] ?? found.high ?? found.low).measure;
      if (found[bound]) level[level.measure] = found[bound].value;
    }
    this.isChosen = true;
    this.draw();
  }

  /** Return the measure of the chart, and the levels that it shows. */
  readChart() {
    const {high, low} = this.levels;
    const measure = (high.isOn ? high : low).measure;
    const of = (level) => (level.isOn && level.measure === measure && Number.isInteger(level[measure]) ? level[measure] : null);
    return {measure, levels: {high: of(high), low: of(low)}};
  }

  /** Return the members of a request: only thresholds that are wanted. */
  build() {
    const members = {};
    for (const bound of BOUNDS) {
      const level = this.levels[bound];
      if (level.isOn && level[level.measure] !== null) members[`${bound}_${MEMBER[level.measure]}`] = level[level.measure];
    }
    return members;
  }

  /** Return what is wrong with what was typed, in words; null: nothing. */
  check() {
    for (const bound of BOUNDS) {
      const level = this.levels[bound];
      const value = level[level.measure];
      const [least, most] = LIMITS[level.measure][bound];
      if (level.isOn && value !== null && !(Number.isInteger(value) && value >= least && value <= most)) {
        return t(`levels.wrong.${bound}`, {least, most});
      }
    }
    const {high, low} = this.levels;
    const isCrossed = high.isOn && low.isOn && high.measure === low.measure && high[high.measure] !== null
      && low[low.measure] !== null && low[low.measure] >= high[high.measure];
    return isCrossed ? t("levels.crossed") : null;
  }

  /** Take suggestions for other windows, and fill in levels unless somebody has chosen some. `isKnown`: there are flights. */
  suggest(suggestions, isKnown) {
    this.suggestions = suggestions;
    if (!this.isChosen) {
      const measure = isKnown ? this.levels.high.measure : "percent";
      for (const bound of BOUNDS) Object.assign(this.levels[bound], {measure, flights: null, percent: null});
      this.turnOn(measure === "percent" || this.findSuggestion("high") === null ? "low" : "high");
    }
    for (const bound of BOUNDS) if (this.levels[bound].isOn) this.fillIn(bound);
    this.draw();
  }

  showSuggestions(suggestions) {
    this.suggestions = suggestions;
    this.drawSuggestions();
  }

  /** Return the suggested level of about a mail a week, else a month, else a day; null: there is none. */
  findSuggestion(bound) {
    const found = this.suggestions?.[`${bound}_${MEMBER[this.levels[bound].measure]}`];
    return (found?.week.level ?? found?.month.level ?? found?.day.level) ?? null;
  }

  /** Fill in the level of a bound if it has none in its measure. */
  fillIn(bound) {
    const level = this.levels[bound];
    if (level[level.measure] !== null) return;
    level[level.measure] = this.findSuggestion(bound) ?? (level.measure === "percent" ? USUAL_PERCENTS[bound] : null);
  }

  /** Turn on one bound alone. */
  turnOn(only) {
    for (const bound of BOUNDS) this.levels[bound].isOn = bound === only;
  }

  /** Measure in flights or percent. Who has chosen no level yet gets the common wish in percent: unusually quiet. */
  setMeasure(measure) {
    if (!this.isChosen && measure === "percent") {
      this.turnOn("low");
      this.levels.low.percent = USUAL_PERCENTS.low;
    }
    for (const bound of BOUNDS) {
      this.levels[bound].measure = measure;
      if (this.levels[bound].isOn) this.fillIn(bound);
    }
    this.choose();
  }

  /** Take a level that was moved in the chart. */
  move(bound, value) {
    const level = this.levels[bound];
    level[level.measure] = value;
    this.choose();
  }

  choose() {
    this.isChosen = true;
    this.draw();
    this.onChange();
  }

  draw() {
    this.radios.forEach((radio) => { radio.checked = BOUNDS.every((bound) => this.levels[bound].measure === radio.value); });
    for (const bound of BOUNDS) {
      const {box, number, unit} = this.rows[bound];
      const level = this.levels[bound];
      const [least, most] = LIMITS[level.measure][bound];
      box.checked = level.isOn;
      number.min = least;
      number.max = most;
      // What somebody is typing stays as it is.
      const shown = level.isOn && level[level.measure] !== null ? String(level[level.measure]) : "";
      if (number.value !== shown && !(document.activeElement === number && Number(number.value) === Number(shown) && shown !== "")) number.value = shown;
      fill(unit, t(`levels.unit.${level.measure}`));
    }
    this.drawSuggestions();
  }

  drawSuggestions() {
    for (const bound of BOUNDS) {
      const level = this.levels[bound];
      const found = this.suggestions?.[`${bound}_${MEMBER[level.measure]}`];
      const buttons = FREQUENCIES.filter((frequency) => found && found[frequency].level !== null).map((frequency) => {
        const {level: value, mails} = found[frequency];
        const shown = level.measure === "percent" ? t("chart.percent", {percent: formatNumber(value)}) : formatNumber(value);
        return el("button", {
          type: "button", "aria-pressed": String(level.isOn && level[level.measure] === value), dataset: {frequency},
          title: t("levels.mails", {count: mails}),
          onclick: () => {
            level.isOn = true;
            level[level.measure] = value;
            this.choose();
            this.rows[bound].suggested.querySelector(`[data-frequency=${frequency}]`)?.focus();
          },
        }, t(`levels.suggest.${frequency}`, {level: shown}));
      });
      fill(this.rows[bound].suggested, buttons.length ? buttons : found ? el("span", {class: "hint"}, t("levels.none")) : null);
    }
  }
}
