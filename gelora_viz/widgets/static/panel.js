// What all panels share. Python puts this text in front of each panel's own file (panel.py says why), so the functions
// here are simply there. Texts from Python always become text nodes: names of layers and runs are never read as HTML.

const SVG = "http://www.w3.org/2000/svg";

/** An HTML element: make("p", {class: "hint"}, "text", child). Functions among the attributes listen to events. */
function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** An SVG element, in the same way. */
function draw(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

const ownPrefix = `gelora-viz-${[...crypto.getRandomValues(new Uint32Array(2))].map((each) => each.toString(36)).join("")}`;
let lastNumber = 0;

/**
 * An id that nothing else on the page has: a panel may be shown several times.
 *
 * Every panel has a copy of this module. The time does not tell them apart, since two may be loaded at once.
 */
function freshId() {
  lastNumber += 1;
  return `${ownPrefix}-${lastNumber}`;
}

/**
 * The frame of a panel: a titled group, with the error and the status below everything else.
 *
 * OWN_CLASS is the class that the panel's own rules are narrowed to, and defined at the end of the module.
 * `body` is where a panel puts its parts, `follow(names, update)` calls `update` now and whenever one of the traits
 * changes, `onLeave(stop)` is called when the view goes, and `leave` is what `render` has to return.
 */
function openPanel({ model, el }, title) {
  const leaving = [];
  const body = make("div", { class: "gv-body" });
  const dismiss = make("button", { type: "button", "aria-label": "Dismiss this message" }, "×");
  const words = make("span");
  const error = make("div", { class: "gv-error", role: "alert" }, words, dismiss);
  const status = make("p", { class: "gv-status", role: "status", "aria-live": "polite" });
  const root = make("section", { class: `gelora-viz ${OWN_CLASS}`, "aria-label": title }, body, error, status);
  root.addEventListener("focusin", keepKeys);
  el.append(root);

  const onLeave = (stop) => leaving.push(stop);
  const follow = (names, update) => {
    for (const name of names) model.on(`change:${name}`, update);
    onLeave(() => names.forEach((name) => model.off(`change:${name}`, update)));
    update();
  };
  dismiss.addEventListener("click", () => set(model, { error: "" }));
  follow(["error"], () => {
    words.textContent = model.get("error");
    error.hidden = !model.get("error");
  });
  follow(["status"], () => {
    status.textContent = model.get("status");
  });
  return { body, follow, onLeave, leave: () => leaving.forEach((stop) => stop()) };
}

/**
 * JupyterLab's commands of one key, arrows among them, come before any listener of ours, unless the element that has the
 * focus says so itself; a mark on the whole panel would not do.
 */
function keepKeys(event) {
  event.target.setAttribute("data-lm-suppress-shortcuts", "true");
}

/**
 * Set traits, in one message. While the kernel is busy with the last one, the notebook keeps only the latest values
 * and sends them when it is done, so that quick movements never pile up.
 */
function set(model, values) {
  for (const [name, value] of Object.entries(values)) model.set(name, value);
  model.save_changes();
}

/** Call one of the panel's methods in Python, one that is listed in its `_page_calls`, with plain values. */
function call(model, name, ...args) {
  model.send({ call: name, args });
}

/** A label with its control; the control needs no id. */
function labeled(text, control, ...after) {
  control.id ||= freshId();
  return make("div", { class: "gv-field" }, make("label", { for: control.id }, text), control, ...after);
}

/** A <select> that follows a trait; `choices` are [value, text, explanation]. */
function makeChoice({ follow }, model, trait, choices) {
  const options = choices.map(([value, text, hint]) => make("option", { value, title: hint }, text));
  const select = make("select", { change: () => set(model, { [trait]: select.value }) }, ...options);
  follow([trait], () => {
    select.value = model.get(trait);
    select.title = choices.find(([value]) => value === select.value)?.[2] ?? "";
  });
  return select;
}

/** A check box that follows a trait, with its label after it. */
function makeCheckBox({ follow }, model, trait, text) {
  const box = make("input", { type: "checkbox", change: () => set(model, { [trait]: box.checked }) });
  follow([trait], () => {
    box.checked = model.get(trait);
  });
  return make("label", { class: "gv-check" }, box, make("span", {}, text));
}

/** A button; `canPress` is a trait that says whether it can be pressed, where there is one. */
function makeButton({ follow }, model, text, press, { canPress, hint } = {}) {
  const button = make("button", { type: "button", title: hint, click: press }, text);
  if (canPress) {
    follow([canPress], () => {
      button.disabled = !model.get(canPress);
    });
  }
  return button;
}

/** Call `redraw(width)` now and whenever the element becomes wider or narrower. */
function followWidth({ onLeave }, element, redraw) {
  let shown = 0;
  const observer = new ResizeObserver(([entry]) => {
    const width = Math.floor(entry.contentRect.width);
    if (width > 0 && width !== shown) {
      shown = width;
      redraw(width);
    }
  });
  observer.observe(element);
  onLeave(() => observer.disconnect());
}

/** From values to pixels: scale(value); scale.invert(pixel) is the way back. */
function linearScale([low, high], [start, end]) {
  const scale = (value) => start + ((value - low) / (high - low || 1)) * (end - start);
  scale.invert = (pixel) => low + ((pixel - start) / (end - start || 1)) * (high - low);
  return scale;
}

/** Round values from 0 (or `low`) to at least `high`, about `count` of them. */
function niceTicks(high, count = 4, { whole = false, low = 0 } = {}) {
  const rough = (high - low || 1) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  let step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= rough * 0.999);
  if (whole) step = Math.max(1, Math.round(step));
  const first = Math.floor(low / step);
  const last = Math.max(first + 1, Math.ceil(high / step - 1e-9));
  return Array.from({ length: last - first + 1 }, (_, index) => Number(((first + index) * step).toPrecision(12)));
}

/** A number as a reader wants it: no more digits than are of use. */
function plain(value, digits = 3) {
  return Number(value.toPrecision(digits)).toLocaleString("en", { maximumFractionDigits: digits });
}

/** An SVG path through points, with a gap wherever a value is null. */
function linePath(points) {
  let pen = "M";
  let path = "";
  for (const [x, y] of points) {
    if (y === null) pen = "M";
    else {
      path += `${pen}${x.toFixed(1)},${y.toFixed(1)}`;
      pen = "L";
    }
  }
  return path;
}

/** The axis of values of one chart: rules with numbers, and a label that reads upwards. */
function drawValueAxis(layer, { ticks, scale, left, right, label }) {
  const middle = (scale(ticks[0]) + scale(ticks.at(-1))) / 2;
  layer.replaceChildren(
    ...ticks.map((tick) => draw("line", { class: "gv-rule", x1: left, x2: right, y1: scale(tick), y2: scale(tick) })),
    ...ticks.map((tick) =>
      draw("text", { class: "gv-tick", x: left - 6, y: scale(tick), dy: "0.32em", "text-anchor": "end" }, plain(tick, 6)),
    ),
    draw("text", { class: "gv-axis", transform: `translate(12 ${middle}) rotate(-90)`, "text-anchor": "middle" }, label),
  );
}
