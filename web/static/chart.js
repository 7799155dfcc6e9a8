// Bars of windows as SVG, with levels that can be moved, what is usual, gaps, and marks of what was said.
//
// A window is {start, end, flights, usual, isClosed, isLive, why, alerts}: instants as ISO texts; `flights` null: not
// known; `usual` null: nothing is; `why`: the reason why it is not known, of the collector's answers; `alerts`: [{bound,
// state}]. In percent a bar is the part of what is usual, so that a level is a straight line in both measures.

import {el, svg} from "./dom.js";
import {formatInstant, formatNumber, formatRange, t} from "./text.js";

const TOP_ROOM = 18; // pixels above the highest bar, for marks
const AXIS_ROOM = 20; // pixels below the bars, for days
const NAMED_KINDS = ["high", "low", "live", "open", "unjudged", "gap"]; // of bars, in the order of the legend
const FEWEST_USUAL = 5; // windows with less are not judged by percents (docs/adr/0050)

/** Return what a bar is tall as: flights, or percent of what is usual; null: not known, or not judged by percents. */
export function measureWindow(window, measure) {
  if (window.flights === null) return null;
  if (measure === "flights") return window.flights;
  if (window.usual === null || window.usual < FEWEST_USUAL) return null;
  return (100 * window.flights) / window.usual;
}

/** Return whether a window is past a level, by the product's own comparison: "high", "low" or null. */
export function findBreach(window, measure, levels) {
  const value = measureWindow(window, measure);
  if (value === null) return null;
  // Multiplied, not divided: 100 c > p u is exact.
  const count = measure === "flights" ? window.flights : 100 * window.flights;
  const times = measure === "flights" ? 1 : window.usual;
  if (levels.high !== null && count > levels.high * times) return "high";
  if (levels.low !== null && count < levels.low * times && window.isClosed) return "low";
  return null;
}

/** Return a round, even number at or above `value`, at least 6: its half, which stands at the axis, is whole, too. */
export function roundUp(value) {
  const least = Math.max(value, 6);
  const power = 10 ** Math.floor(Math.log10(least));
  const factor = [1, 1.2, 1.6, 2, 3, 4, 5, 6, 8, 10].find((each) => each * power >= least);
  return Math.round(factor * power);
}

/** Return the kind of mark of an alert: its bound while the level is crossed, else its state. */
export function findMarkKind(alert) {
  return ["firing", "still"].includes(alert.state) ? alert.bound : alert.state;
}

/** Build the mark of a kind as charts draw it, for legends and lists; screen readers pass it over. */
export function buildMark(kind) {
  return buildKey(svg("path", {class: `chart-mark ${kind}`, d: drawMark(kind, 7, 7)}));
}

function buildKey(...drawn) {
  return svg("svg", {width: 14, height: 14, "aria-hidden": "true", class: "chart-key"}, drawn);
}

/** Return the top of the scale: room above all that is drawn. In percent what is very unusual is cut off. */
export function findTop(windows, measure, levels) {
  const values = windows.map((window) => measureWindow(window, measure)).filter((value) => value !== null);
  const usual = measure === "flights" ? windows.map((window) => window.usual ?? 0) : [100];
  let most = values.reduce((one, other) => Math.max(one, other), 0);
  if (measure === "percent") most = Math.min(most, 400);
  const asked = Math.max(levels.high ?? 0, levels.low ?? 0);
  return roundUp(Math.max(most * 1.1, usual.reduce((one, other) => Math.max(one, other), 0), asked * 1.1));
}

/**
 * Draw a chart and return {element, update}. `options`:
 * windows, zone (IANA), measure ("flights" | "percent"), levels ({high, low}, null: none), name (what is drawn, for
 * screen readers), nameWindow(window), height (pixels), minimumBar (pixels), isWaiting, onLevel(bound, value, isFinal): the levels can be moved; words(window): what the
 * table says of a window. `update(changes)` draws again with changed options.
 */
export function createChart(options) {
  const chart = new Chart(options);
  return {element: chart.element, update: (changes) => chart.update(changes)};
}

class Chart {
  constructor(options) {
    const nameWindow = ({start, end}) => formatRange(start, end, options.zone);
    this.options = {measure: "flights", levels: {high: null, low: null}, height: 180, nameWindow, ...options};
    this.axis = svg("svg", {class: "chart-axis", "aria-hidden": "true"});
    this.drawing = svg("svg", {class: "chart-bars", role: "img"});
    this.scroller = el("div", {class: "chart-scroller"}, this.drawing);
    this.plot = el("div", {class: "chart-plot"}, this.axis, this.scroller);
    this.legend = el("ul", {class: "chart-legend quiet"});
    this.table = el("div", {class: "chart-table", tabindex: "0"});
    this.details = el("details", {class: "chart-details"}, el("summary", {}, t("chart.table.open")), this.table);
    this.details.addEventListener("toggle", () => this.drawTable());
    this.element = el("figure", {class: "chart"}, this.plot, this.legend, this.details);
    this.handles = {};
    this.isAtEnd = true;
    this.dragTop = null;
    this.scroller.addEventListener("scroll", () => {
      const {scrollLeft, scrollWidth, clientWidth} = this.scroller;
      this.isAtEnd = scrollLeft + clientWidth >= scrollWidth - 2;
    });
    this.plot.style.height = `${options.height ?? 180}px`;
    // It is drawn once its width is known, before it is seen for the first time.
    new ResizeObserver(() => {
      this.isMeasured = true;
      this.draw();
    }).observe(this.plot);
  }

  update(changes) {
    Object.assign(this.options, changes);
    if (this.isMeasured) this.draw();
    this.drawTable();
  }

  draw() {
    const {windows, measure, levels, height, minimumBar = 1.5} = this.options;
    const room = Math.max(this.scroller.clientWidth, 50); // read before anything changes: else it costs a layout
    this.plot.style.height = `${height}px`;
    this.top = this.dragTop ?? findTop(windows, measure, levels);
    this.bottom = height - AXIS_ROOM;
    this.bar = Math.max(room / Math.max(windows.length, 1), minimumBar);
    const width = this.bar * windows.length;
    this.drawing.setAttribute("width", width);
    this.drawing.setAttribute("height", height);
    this.drawing.setAttribute("aria-label", this.summarize());
    this.drawing.replaceChildren(...this.drawGrid(width), ...this.drawDays(), ...this.drawBars(), ...this.drawUsual());
    for (const bound of ["high", "low"]) if (levels[bound] !== null) this.drawing.append(this.drawLevel(bound, width));
    this.drawing.append(...this.drawMarks());
    this.drawAxis(height);
    for (const bound of ["high", "low"]) this.placeHandle(bound);
    this.drawLegend();
    const overflows = width > room + 1;
    if (overflows) this.scroller.setAttribute("tabindex", "0");
    else this.scroller.removeAttribute("tabindex");
    if (overflows) {
      this.scroller.setAttribute("role", "region");
      this.scroller.setAttribute("aria-label", t("chart.scroll"));
    } else {
      this.scroller.removeAttribute("role");
      this.scroller.removeAttribute("aria-label");
    }
    if (overflows && this.isAtEnd) this.scroller.scrollLeft = this.scroller.scrollWidth;
  }

  y(value) {
    return this.bottom - (Math.min(value, this.top) / this.top) * (this.bottom - TOP_ROOM);
  }

  drawGrid(width) {
    return [0, 0.5, 1].map((part) =>
      svg("line", {class: part ? "chart-grid" : "chart-base", x1: 0, x2: width, y1: this.y(part * this.top),
        y2: this.y(part * this.top)}),
    );
  }

  drawAxis(height) {
    const unit = this.options.measure === "percent" ? "percent" : "decimal";
    const labels = [0, 0.5, 1].map((part) => {
      const value = part * this.top;
      const text = unit === "percent" ? t("chart.percent", {percent: formatNumber(Math.round(value))}) : formatNumber(value);
      return svg("text", {x: 38, y: this.y(value) + 4}, text);
    });
    this.axis.setAttribute("width", 44);
    this.axis.setAttribute("height", height);
    this.axis.replaceChildren(...labels);
  }

  drawDays() {
    const {windows, zone} = this.options;
    const day = new Intl.DateTimeFormat("en-CA", {timeZone: zone, year: "numeric", month: "2-digit", day: "2-digit"});
    const drawn = [];
    let lastLabel = -Infinity;
    windows.forEach((window, at) => {
      const x = at * this.bar;
      if (x - lastLabel < 56 || x > this.bar * windows.length - 30) return;
      const [date, before] = [windows[at], windows[at - 1] ?? null].map((each) => each && day.format(new Date(each.start)));
      if (date === before) return;
      lastLabel = x;
      drawn.push(svg("line", {class: "chart-tick", x1: x, x2: x, y1: this.bottom, y2: this.bottom + 5}));
      drawn.push(svg("text", {x: x + 3, y: this.bottom + 15}, formatInstant(window.start, {zone, day: "numeric", month: "short"})));
    });
    return drawn;
  }

  /** Return one path for each kind of bar: a chart of 35 days has 840 of them. */
  drawBars() {
    const {windows, measure, levels} = this.options;
    const paths = {};
    const add = (kind, x, top, bottom) => {
      const gap = this.bar > 4 ? 1 : 0;
      paths[kind] = `${paths[kind] ?? ""}M${x.toFixed(2)} ${bottom}V${top.toFixed(1)}h${(this.bar - gap).toFixed(2)}V${bottom}z`;
    };
    windows.forEach((window, at) => {
      const x = at * this.bar;
      const value = measureWindow(window, measure);
      if (value === null) {
        if (window.flights === null) add(window.isClosed === false && !window.why ? "future" : "gap", x, TOP_ROOM, this.bottom);
        else add("unjudged", x, this.bottom - 3, this.bottom);
        return;
      }
      const breach = findBreach(window, measure, levels);
      const kind = breach ?? (window.isClosed ? (window.isLive ? "live" : "known") : "open");
      add(kind, x, Math.min(this.y(value), this.bottom - (value ? 1 : 0)), this.bottom);
    });
    const gap = paths.gap;
    delete paths.gap;
    delete paths.future;
    const drawn = Object.entries(paths).map(([kind, d]) => svg("path", {class: `chart-bar ${kind}`, d}));
    if (gap) {
      const hatch = svg("pattern", {id: this.hatchId(), width: 6, height: 6, patternUnits: "userSpaceOnUse"},
        svg("rect", {class: "chart-hatch-ground", width: 6, height: 6}),
        svg("path", {class: "chart-hatch-line", d: "M0 6L6 0"}));
      drawn.unshift(svg("defs", {}, hatch), svg("path", {d: gap, fill: `url(#${this.hatchId()})`}));
    }
    this.kinds = NAMED_KINDS.filter((kind) => paths[kind] || (kind === "gap" && gap));
    return drawn;
  }

  hatchId() {
    this.id ??= `hatch-${Math.random().toString(36).slice(2)}`;
    return this.id;
  }

  /** Return the line of what is usual (in percent: at 100), only over windows whose usual count is known. */
  drawUsual() {
    const {windows, measure} = this.options;
    let edge = "";
    let band = "";
    let isDrawing = false;
    windows.forEach((window, at) => {
      if (window.usual === null) {
        isDrawing = false;
        return;
      }
      const [left, right] = [at, at + 1].map((place) => (place * this.bar).toFixed(2));
      const y = this.y(measure === "percent" ? 100 : window.usual).toFixed(1);
      edge += `${isDrawing ? "V" : `M${left} `}${y}H${right}`;
      band += `M${left} ${this.bottom}V${y}H${right}V${this.bottom}z`;
      isDrawing = true;
    });
    this.hasUsual = edge !== "";
    if (!edge) return [];
    if (measure === "percent") return [svg("path", {class: "chart-usual", d: edge})];
    // A line from hour to hour is a thicket where an hour is a pixel: there the band says it alone.
    const drawn = [svg("path", {class: "chart-band", d: band})];
    return this.bar >= 3 ? [...drawn, svg("path", {class: "chart-usual", d: edge})] : drawn;
  }

  drawLevel(bound, width) {
    const y = this.y(this.options.levels[bound]);
    return svg("line", {class: `chart-level ${bound}`, x1: 0, x2: width, y1: y, y2: y});
  }

  /** Return the marks of what was said: a shape for each kind, for colour alone says nothing to some people. */
  drawMarks() {
    const marks = {};
    this.options.windows.forEach((window, at) => {
      const x = (at + 0.5) * this.bar;
      (window.alerts ?? []).forEach((alert, place) => {
        const kind = findMarkKind(alert);
        marks[kind] = `${marks[kind] ?? ""}${drawMark(kind, x, 8 - place * 3)}`;
      });
    });
    this.marks = Object.keys(marks);
    return Object.entries(marks).map(([kind, d]) => svg("path", {class: `chart-mark ${kind}`, d}));
  }

  /** List what is drawn, each as it is drawn: bars and areas first, then the marks of what was said. */
  drawLegend() {
    const bars = this.kinds.map((kind) => [svg("rect", {class: `chart-bar ${kind}`, x: 1, y: 2, width: 11, height: 10}), `chart.legend.${kind}`]);
    const usual = [svg("rect", {class: "chart-band", x: 0, y: 4, width: 14, height: 8}), svg("line", {class: "chart-usual", x1: 0, x2: 14, y1: 4, y2: 4})];
    this.legend.replaceChildren(
      ...[...bars, ...(this.hasUsual ? [[usual, "chart.legend.usual"]] : [])].map(([drawn, key]) => el("li", {}, buildKey(drawn), t(key))),
      ...this.marks.map((kind) => el("li", {}, buildMark(kind), t(`chart.legend.said.${kind}`))),
    );
  }

  /** Put a level's handle where the level is; make it when it is first needed. */
  placeHandle(bound) {
    const {levels, onLevel, measure} = this.options;
    const value = levels[bound];
    if (!onLevel || value === null) {
      this.handles[bound]?.remove();
      delete this.handles[bound];
      return;
    }
    this.handles[bound] ??= this.makeHandle(bound);
    const handle = this.handles[bound];
    handle.style.top = `${this.y(value)}px`;
    const [least, most] = this.findLimits(bound);
    const values = {"aria-valuemin": least, "aria-valuemax": Math.max(most, value), "aria-valuenow": value};
    for (const [name, each] of Object.entries(values)) handle.setAttribute(name, String(each));
    handle.setAttribute("aria-valuetext", t(`chart.level.${bound}.${measure}`, {count: value, number: formatNumber(value)}));
    handle.setAttribute("aria-label", t(`chart.slider.${bound}`));
    handle.querySelector("span").textContent =
      measure === "percent" ? t("chart.percent", {percent: formatNumber(value)}) : formatNumber(value);
  }

  findLimits(bound) {
    if (this.options.measure === "percent") return bound === "high" ? [101, 10_000] : [1, 99];
    return bound === "high" ? [0, 100_000] : [1, 100_000];
  }

  makeHandle(bound) {
    const handle = el("div", {class: `chart-handle ${bound}`, role: "slider", tabindex: "0", "aria-orientation": "vertical"},
      el("span", {}));
    this.plot.append(handle);
    const move = (value, isFinal) => {
      const [least, most] = this.findLimits(bound);
      const next = Math.min(Math.max(Math.round(value), least), most);
      if (next !== this.options.levels[bound] || isFinal) this.options.onLevel(bound, next, isFinal);
    };
    handle.addEventListener("keydown", (event) => {
      const page = Math.max(1, Math.round(this.top / 10));
      const [least, most] = this.findLimits(bound);
      const now = this.options.levels[bound];
      const next = {
        ArrowUp: now + 1, ArrowRight: now + 1, ArrowDown: now - 1, ArrowLeft: now - 1,
        PageUp: now + page, PageDown: now - page, Home: least, End: Math.min(most, this.top),
      }[event.key];
      if (next === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      move(next, true);
    });
    handle.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      event.preventDefault();
      handle.focus();
      handle.setPointerCapture(event.pointerId);
      this.dragTop = this.top;
      handle.classList.add("moving");
    });
    handle.addEventListener("pointermove", (event) => {
      if (!handle.hasPointerCapture(event.pointerId)) return;
      const y = event.clientY - this.plot.getBoundingClientRect().top;
      move(((this.bottom - y) / (this.bottom - TOP_ROOM)) * this.top, false);
    });
    const end = () => {
      if (this.dragTop === null) return;
      this.dragTop = null;
      handle.classList.remove("moving");
      move(this.options.levels[bound], true);
    };
    handle.addEventListener("lostpointercapture", end);
    return handle;
  }

  /** Return in one sentence what the chart shows, for those who do not see it. */
  summarize() {
    const {windows, zone, name, measure, isWaiting} = this.options;
    if (!windows.length) return t(isWaiting ? "chart.waiting" : "chart.empty", {name});
    const values = windows.map((window) => measureWindow(window, measure)).filter((value) => value !== null);
    const range = formatRange(windows[0].start, windows[windows.length - 1].end, zone);
    if (!values.length) return t("chart.unknown", {name, range});
    const least = formatNumber(Math.round(values.reduce((one, other) => Math.min(one, other))));
    const most = formatNumber(Math.round(values.reduce((one, other) => Math.max(one, other))));
    return t(`chart.summary.${measure}`, {name, range, least, most});
  }

  /** Fill the table behind "As a table", newest first, while it is open. */
  drawTable() {
    if (!this.details.open) return;
    const {windows, nameWindow, words, name} = this.options;
    const hasUsual = windows.some((window) => window.usual !== null);
    const head = ["window", "flights", ...(hasUsual ? ["usual"] : []), ...(words ? ["words"] : [])];
    this.table.setAttribute("aria-label", name);
    this.table.setAttribute("role", "region");
    this.table.replaceChildren(
      el("table", {},
        el("caption", {class: "unseen"}, name),
        el("thead", {}, el("tr", {}, ...head.map((each) => el("th", {scope: "col"}, t(`chart.table.${each}`))))),
        el("tbody", {}, ...[...windows].reverse().map((window) =>
          el("tr", {},
            el("th", {scope: "row"}, nameWindow(window)),
            el("td", {class: "number"}, window.flights === null ? t("chart.table.unknown") : formatNumber(window.flights)),
            hasUsual ? el("td", {class: "number"}, window.usual === null ? "–" : formatNumber(window.usual)) : null,
            words ? el("td", {}, words(window)) : null,
          ))),
      ),
    );
  }
}

/** Return the path of a mark around a point: up for high, down for low, a disc for back to normal, a cross for withdrawn. */
function drawMark(kind, x, y) {
  const at = (dx, dy) => `${(x + dx).toFixed(1)} ${(y + dy).toFixed(1)}`;
  if (kind === "high") return `M${at(-5, 4)}L${at(0, -5)}L${at(5, 4)}z`;
  if (kind === "low") return `M${at(-5, -4)}L${at(0, 5)}L${at(5, -4)}z`;
  if (kind === "resolved") return `M${at(-4, 0)}a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z`;
  return `M${at(-4, -4)}L${at(4, 4)}M${at(-4, 4)}L${at(4, -4)}`;
}
