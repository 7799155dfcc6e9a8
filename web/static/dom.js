/* Elements are built by textContent alone: a text is never read as HTML, whoever typed it. */

const SVG = "http://www.w3.org/2000/svg";
const OF_CONTROLS = new Set(["value", "checked", "selected", "disabled", "indeterminate"]);

/** Build an HTML element: `el("p", {class: "quiet", onclick: f, "aria-live": "polite"}, child, "text")`.
 *
 * A property that is a function listens to its event (`onclick`); true is an attribute without value; false, null and
 * undefined are left out; `style` is an object of CSS properties; `dataset` one of data. Children are nodes, texts and
 * numbers, lists of them, or null and false, which are left out.
 */
export function el(tag, props, ...children) {
  return build(document.createElement(tag), props, children);
}

/** Build an SVG element, as `el` does. */
export function svg(tag, props, ...children) {
  return build(document.createElementNS(SVG, tag), props, children);
}

/** Put these children in place of all that an element holds, and return the element. */
export function fill(element, ...children) {
  element.replaceChildren(...flatten(children));
  return element;
}

/** Return the element with this id. Throws if the page has none. */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no element #${id}`);
  return found;
}

function build(element, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === false || value === null || value === undefined) continue;
    if (typeof value === "function") element.addEventListener(name.replace(/^on/, ""), value);
    else if (name === "style") for (const [key, each] of Object.entries(value)) element.style.setProperty(key, each);
    else if (name === "dataset") Object.assign(element.dataset, value);
    else if (OF_CONTROLS.has(name) && name in element) element[name] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...flatten(children));
  return element;
}

function flatten(children) {
  return children.flat(Infinity).filter((each) => each !== null && each !== undefined && each !== false)
    .map((each) => (each instanceof Node ? each : document.createTextNode(String(each))));
}
