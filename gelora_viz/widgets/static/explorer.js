// The panel Explorer: the curve of intrinsic dimensions, whose layers can be chosen, above a map of the chosen layer's
// points. The map is asked for and comes as bytes; the text of a point is asked for when the pointer rests on it.

const MARGIN = { left: 48, right: 10 };
const CURVE = { height: 104, top: 8, bottom: 82 };
const DASHES = { solid: null, dash: "7 4", dashdot: "7 3 2 3", dot: "2 3" };
const STACK_TITLES = { encoder: "Encoder", decoder: "Decoder" };
const REACH = 12; // pixels from a point to the pointer that still means it
const REST = 60; // milliseconds on a point before its text is asked for
const PATIENCE = 1500; // milliseconds before the reader is told to wait for the kernel
const MOST_TEXTS = 300; // kept on the page
const MOVE_TAKES = 650; // milliseconds from one layer to another
const PLAIN_COLOR = "#0072B2";

export default {
  render(view) {
    const { model } = view;
    const panel = openPanel(view, "Map of hidden states");
    const curve = make("div", { class: "gv-curve-chart" });
    const map = makeMap(panel, model);
    panel.body.append(makeControls(panel, model), curve, map.root, makeKey(panel, model), makeHint(panel, model, map));
    makeCurve(panel, model, curve);
    return panel.leave;
  },
};

// ---- Controls

function makeControls(panel, model) {
  const dimensions = [["2", "plane"], ["3", "space"]];
  const space = make("select", { change: () => set(model, { n_components: Number(space.value) }) },
    ...dimensions.map(([value, text]) => make("option", { value }, text)));
  panel.follow(["n_components"], () => (space.value = String(model.get("n_components"))));
  const layers = model.get("layers").map((name) => [name, name]);
  return make("div", { class: "gv-controls" },
    labeled("Layer", makeChoice(panel, model, "layer", layers)),
    labeled("Color", makeChoice(panel, model, "color_by", model.get("colorings"))),
    labeled("Map in", space),
    labeled("Curve", makeChoice(panel, model, "estimator", model.get("estimators"))));
}

function makeHint({ follow }, model, map) {
  const hint = make("p", { class: "gv-hint" });
  follow(["n_components"], () => {
    const drag = model.get("n_components") === 3 ? "Drag to turn, with Shift to move" : "Drag to move";
    const slow = map.painter.kind === "WebGL" ? "" : " Drawn by canvas 2-D: this browser has no WebGL on a graphics card.";
    hint.textContent = `${drag}, scroll with Ctrl to zoom. On a UMAP, near is similar; distances between clusters and ` +
      `their sizes mean little.${slow}`;
  });
  return hint;
}

function makeKey({ follow }, model) {
  const key = make("ul", { class: "gv-legend gv-key", "aria-label": "Colors" });
  follow(["legend"], () => {
    const legend = model.get("legend");
    if (legend.colors) {
      const bar = make("i", { style: `background: linear-gradient(to right, ${legend.colors.join(", ")})` });
        key.replaceChildren(make("li", {}, make("bdi", {}, legend.title)), make("li", {},
        make("span", { class: "gv-scale" }, plain(legend.low), bar, plain(legend.high))));
      return;
    }
    key.replaceChildren(...(legend.entries ?? []).map(([name, color, mark, count]) =>
      make("li", {}, swatch(color, mark), make("bdi", {}, name), make("span", {}, `(${count.toLocaleString("en")})`))));
  });
  return key;
}

function swatch(color, mark) {
  const corners = CORNERS[mark]?.map(([x, y]) => `${6 + 5.5 * x},${6 - 5.5 * y}`).join(" ");
  const form = corners ? draw("polygon", { points: corners, fill: color }) : draw("circle", { cx: 6, cy: 6, r: mark === "dot" ? 3 : 5, fill: color });
  return draw("svg", { width: 12, height: 12, "aria-hidden": "true" }, form);
}

// ---- The curve

function makeCurve(panel, model, place) {
  const svg = draw("svg", { height: CURVE.height, role: "radiogroup" });
  const axis = draw("g", { "aria-hidden": "true" });
  const lines = draw("g", { "aria-hidden": "true" });
  const stops = new Map();
  let width = 0;
  let focused = null;
  svg.append(axis, lines);
  place.append(svg);

  /** One place after the other, with a gap between an encoder and a decoder. */
  function placeLayers() {
    const { stacks } = model.get("dimensions");
    let at = 0;
    return stacks.map((stack) => {
      const places = stack.layer.map(() => at++);
      at += 0.7;
      return { ...stack, places };
    });
  }

  function redraw() {
    if (!width) return;
    const { color, dash, text } = model.get("dimensions");
    const stacks = placeLayers();
    svg.setAttribute("aria-label", `${text} Choose a layer with the arrow keys and Enter.`);
    svg.setAttribute("width", width);
    const known = stacks.flatMap(({ dimension, low, high }) => [...dimension, ...low, ...high]).filter((each) => each !== null);
    const ticks = niceTicks(Math.max(...known), 3, { low: Math.min(0, ...known) });
    const y = linearScale([ticks[0], ticks.at(-1)], [CURVE.bottom, CURVE.top]);
    const x = linearScale([-0.5, stacks.at(-1).places.at(-1) + 0.5], [MARGIN.left, width - MARGIN.right]);
    const room = x(1) - x(0);
    drawValueAxis(axis, { ticks, scale: y, left: MARGIN.left, right: width - MARGIN.right, label: "Intrinsic dim." });
    lines.replaceChildren(...stacks.flatMap((stack) => drawStack(stack, { x, y, color, dash, room })));
    for (const stack of stacks) stack.layer.forEach((name, at) => showStop(name, stack, at, { x, y, color, room }));
  }

  function drawStack({ stack, places, depth, dimension, low, high }, { x, y, color, dash, room }) {
    const ends = (values) => places.map((at, index) => [x(at), y(values[index] ?? dimension[index] ?? 0)]);
    const points = places.map((at, index) => [x(at), dimension[index] === null ? null : y(dimension[index])]);
    const step = [1, 2, 4, 10, 20, 40].find((each) => each * room >= 34) ?? 100;
    const title = STACK_TITLES[stack];
    return [
      draw("path", { class: "gv-band", fill: color, d: `${linePath([...ends(high), ...ends(low).reverse()])}Z` }),
      draw("path", { class: "gv-curve", stroke: color, "stroke-dasharray": DASHES[dash], d: linePath(points) }),
      ...depth.flatMap((each, index) => (each % step ? [] : [
        draw("text", { class: "gv-tick", x: x(places[index]), y: CURVE.bottom + 17, "text-anchor": "middle" },
          each === 0 ? "emb." : String(each))])),
      ...(title ? [draw("text", { class: "gv-axis", x: x(places[0]) + 14, y: CURVE.top + 6 }, title)] : []),
    ];
  }

  function showStop(name, stack, at, { x, y, color, room }) {
    if (!stops.has(name)) stops.set(name, makeStop(name));
    const { root, hit, dot } = stops.get(name);
    const { dimension, low, high, places } = stack;
    const value = dimension[at];
    for (const [key, each] of Object.entries({ x: x(places[at]) - room / 2, width: room, y: 2, height: CURVE.height - 4 })) {
      hit.setAttribute(key, each.toFixed(1));
    }
    dot.setAttribute("cx", x(places[at]).toFixed(1));
    dot.setAttribute("cy", y(value ?? 0).toFixed(1));
    dot.setAttribute("r", Math.max(Math.min(4.5, 0.3 * room), 1.5));
    dot.setAttribute("fill", color);
    dot.setAttribute("stroke", color);
    dot.style.display = value === null ? "none" : "";
    const interval = low[at] === null || high[at] === null ? "" : `, interval ${plain(low[at])} to ${plain(high[at])}`;
    const said = value === null ? "unknown" : plain(value);
    root.setAttribute("aria-label", `${name}: intrinsic dimension ${said}${interval}`);
    root.querySelector("title").textContent = root.getAttribute("aria-label");
  }

  function makeStop(name) {
    const hit = draw("rect", { class: "gv-hit", rx: 4 });
    const dot = draw("circle");
    const root = draw("g", { class: "gv-stop", role: "radio", tabindex: -1, click: () => choose(name) }, draw("title"), hit, dot);
    root.addEventListener("focus", () => {
      focused = name;
      mark();
    });
    root.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const names = [...stops.keys()];
      const at = names.indexOf(name);
      const moves = { ArrowLeft: at - 1, ArrowUp: at - 1, ArrowRight: at + 1, ArrowDown: at + 1, Home: 0, End: names.length - 1 };
      if (event.key in moves) stops.get(names[moves[event.key]])?.root.focus();
      else if (event.key === "Enter" || event.key === " ") choose(name);
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
    svg.append(root);
    return { root, hit, dot };
  }

  function choose(name) {
    focused = name;
    set(model, { layer: name });
  }

  function mark() {
    const ready = new Set(model.get("ready"));
    for (const [name, { root }] of stops) {
      root.setAttribute("aria-checked", name === model.get("layer"));
      root.setAttribute("tabindex", name === (focused ?? model.get("layer")) ? 0 : -1);
      root.classList.toggle("gv-waiting", !ready.has(name));
    }
  }

  followWidth(panel, place, (newWidth) => {
    width = newWidth;
    redraw();
    mark();
  });
  panel.follow(["dimensions"], redraw);
  panel.follow(["layer", "ready", "dimensions"], mark);
}

// ---- The map

function makeMap(panel, model) {
  const canvas = make("canvas", { tabindex: 0, role: "application", "aria-roledescription": "map of points" });
  const ring = make("div", { class: "gv-ring", hidden: true });
  const root = make("div", { class: "gv-map" }, canvas, make("div", { class: "gv-cross" }), ring);
  const painter = makePainter(canvas);
  const tip = makeTip(panel, model, redraw);
  const camera = newCamera();
  const state = { cloud: null, inSpace: false, began: 0, progress: 1, width: 0, height: 0, frame: 0, hovered: -1, mouse: null };
  root.append(makeTools(camera, redraw, reset), makeWait(panel, model), tip.root, tip.aloud);
  painter.onRestored = redraw;

  function redraw() {
    state.frame ||= requestAnimationFrame(paint);
  }

  function look() {
    const matrix = cameraMatrix(camera, state.width, state.height, state.inSpace);
    const n = state.cloud.end.length / 3;
    const room = Math.sqrt(Math.min(state.height / 540, 1)); // a small map has smaller points
    const size = Math.max(Math.min((440 * room) / Math.sqrt(n), 9 * room), 3.2) * Math.min(camera.zoom ** 0.35, 2.4);
    const opacity = state.inSpace ? 1 : n > 3000 ? 0.72 : 0.85;
    return { matrix, progress: ease(state.progress), size, opacity, inSpace: state.inSpace };
  }

  function paint(now) {
    state.frame = 0;
    if (!state.cloud || !state.width) return;
    state.progress = Math.min((now - state.began) / MOVE_TAKES, 1);
    const view = look();
    const ratio = painter.canvas.width / state.width;
    painter.paint({ ...view, size: view.size * ratio });
    if (state.mouse) point(nearest(state.mouse.x, state.mouse.y, REACH));
    else if (state.hovered >= 0) showRing();
    if (state.progress < 1) redraw();
  }

  /** Pixels of all points as they stand; in CSS pixels. */
  function places() {
    const { matrix, progress } = look();
    return placePoints(state.cloud, progress, matrix, state.width, state.height);
  }

  function nearest(x, y, reach) {
    return state.cloud ? nearestPoint(places(), x, y, reach) : -1;
  }

  function point(row, aloud = false) {
    state.hovered = row;
    showRing();
    tip.show(row, aloud);
  }

  function showRing() {
    ring.hidden = state.hovered < 0;
    if (ring.hidden) {
      tip.root.hidden = true;
      return;
    }
    const { matrix, progress } = look();
    const only = (values) => values.subarray(3 * state.hovered, 3 * state.hovered + 3);
    const one = { start: only(state.cloud.start), end: only(state.cloud.end) };
    const [x, y] = placePoints(one, progress, matrix, state.width, state.height);
    ring.style.left = `${x}px`;
    ring.style.top = `${y}px`;
    tip.moveTo(x, y, state.width, state.height);
  }

  function reset() {
    Object.assign(camera, newCamera());
    if (state.inSpace) turnCamera(camera, -0.5, 0.35);
    redraw();
  }

  // -- What Python sends

  function receive(message, buffers) {
    if (!message?.map || message.map.version === state.version) return;
    if (message.map.version !== model.get("shown").version) return; // for another view, and late
    const { version, n_components: dimensions } = message.map;
    const end = new Uint16Array(copyOf(buffers[0]));
    const keys = new Uint8Array(copyOf(buffers[1]));
    const before = state.cloud?.end;
    // The same rows are the same texts, so that each point can move to its new place.
    const start = before?.length === end.length ? before : end;
    const moves = start !== end && start.some((each, at) => each !== end[at]);
    state.version = version;
    state.cloud = { start, end, ...dress(keys, model.get("legend")) };
    painter.load(state.cloud);
    const isStill = globalThis.matchMedia?.("(prefers-reduced-motion: reduce)").matches;
    state.began = moves && !isStill ? performance.now() : -Infinity;
    if (state.inSpace !== (dimensions === 3)) {
      state.inSpace = dimensions === 3;
      reset();
    }
    state.hovered = -1;
    tip.forget();
    showRing();
    painter.canvas.setAttribute("aria-label", `Map of ${message.map.n_points} points of ${message.map.layer}. ` +
      "Arrow keys move or turn it, plus and minus zoom, 0 resets, Enter reads the point in the middle.");
    painter.canvas.dataset.version = version;
    redraw();
  }
  model.on("msg:custom", receive);
  panel.onLeave(() => {
    model.off("msg:custom", receive);
    painter.leave();
  });
  panel.follow(["shown"], () => {
    if (model.get("shown").version && model.get("shown").version !== state.version) call(model, "send_map");
  });

  // -- Mouse and keys

  const { canvas: surface } = painter;
  let drag = null;
  const at = (event) => {
    const box = surface.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };
  surface.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    drag = { ...at(event), moves: event.shiftKey || !state.inSpace };
    surface.setPointerCapture(event.pointerId);
  });
  surface.addEventListener("pointermove", (event) => {
    const { x, y } = at(event);
    if (drag) {
      if (drag.moves) moveBy(x - drag.x, y - drag.y);
      else turnCamera(camera, (x - drag.x) / 160, (y - drag.y) / 160);
      Object.assign(drag, { x, y });
      state.mouse = null;
    } else state.mouse = { x, y };
    redraw();
  });
  for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) surface.addEventListener(end, () => (drag = null));
  surface.addEventListener("pointerleave", () => {
    state.mouse = null;
    point(-1);
  });
  surface.addEventListener("dblclick", (event) => zoomAt(event, 2));
  surface.addEventListener("wheel", (event) => {
    // Without Ctrl the wheel scrolls the notebook, unless the map has the focus.
    if (!event.ctrlKey && !event.metaKey && document.activeElement !== surface) return;
    event.preventDefault();
    zoomAt(event, 2 ** (-event.deltaY / 240));
  }, { passive: false });

  function zoomAt(event, factor) {
    const { x, y } = at(event);
    zoomCamera(camera, factor, (2 * x) / state.width - 1, 1 - (2 * y) / state.height);
    redraw();
  }

  function moveBy(across, down) {
    camera.panX -= (2 * across) / state.width;
    camera.panY += (2 * down) / state.height;
  }

  surface.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const arrows = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    if (event.key in arrows) {
      const [across, down] = arrows[event.key];
      if (state.inSpace && !event.shiftKey) turnCamera(camera, 0.12 * across, 0.12 * down);
      else moveBy(36 * across, 36 * down);
    } else if (event.key === "+" || event.key === "=") zoomCamera(camera, 1.25);
    else if (event.key === "-" || event.key === "_") zoomCamera(camera, 0.8);
    else if (event.key === "0" || event.key === "Home") reset();
    else if (event.key === "Enter") {
      state.mouse = null;
      point(nearest(state.width / 2, state.height / 2, Infinity), true);
    } else if (event.key === "Escape" && state.hovered >= 0) {
      state.mouse = null;
      point(-1);
    } else return;
    event.preventDefault();
    event.stopPropagation();
    redraw();
  });

  followWidth(panel, root, (width) => {
    state.width = width;
    state.height = Math.round(Math.min(Math.max(0.58 * width, 300), 540));
    root.style.height = `${state.height + 2}px`;
    const ratio = Math.min(globalThis.devicePixelRatio || 1, 2);
    surface.width = Math.round(width * ratio);
    surface.height = Math.round(state.height * ratio);
    redraw();
  });
  return { root, painter };
}

function ease(progress) {
  return progress * progress * (3 - 2 * progress);
}

/** A buffer of its own: one that came in a message may begin at an odd byte. */
function copyOf({ buffer, byteOffset, byteLength }) {
  return buffer.slice(byteOffset, byteOffset + byteLength);
}

/** From a byte per point to its red, green, blue and mark, and to a CSS color, as the legend says. */
function dress(keys, legend) {
  const table = legend.colors
    ? Array.from({ length: 256 }, (_, at) => [blend(legend.colors, at / 255), 0])
    : (legend.entries?.length ? legend.entries : [["", PLAIN_COLOR, "circle"]]).map(([, color, mark]) => [
        [1, 3, 5].map((place) => parseInt(color.slice(place, place + 2), 16)), MARKS.indexOf(mark)]);
  const words = table.map(([rgb]) => `rgb(${rgb.join(" ")})`);
  const looks = new Uint8Array(4 * keys.length);
  const colors = Array.from(keys, (key, at) => {
    const place = Math.min(key, table.length - 1);
    const [rgb, mark] = table[place];
    looks.set([...rgb, mark], 4 * at);
    return words[place];
  });
  return { looks, colors, order: orderBySize(keys, Boolean(legend.colors)) };
}

/** Rows from the largest class to the smallest, so that no class hides a smaller one; the others come first. */
function orderBySize(keys, isScale) {
  const order = Uint32Array.from(keys, (_, row) => row);
  if (isScale) return order;
  const counts = new Map();
  for (const key of keys) counts.set(key, (counts.get(key) ?? 0) + 1);
  return order.sort((one, other) => counts.get(keys[other]) - counts.get(keys[one]) || one - other);
}

function blend(colors, share) {
  const at = Math.min(share * (colors.length - 1), colors.length - 1.001);
  const [one, other] = [colors[Math.floor(at)], colors[Math.floor(at) + 1]];
  return [1, 3, 5].map((place) => {
    const [from, to] = [one, other].map((color) => parseInt(color.slice(place, place + 2), 16));
    return Math.round(from + (at % 1) * (to - from));
  });
}

function makeTools(camera, redraw, reset) {
  const tool = (sign, name, press) => make("button", { type: "button", "aria-label": name, title: name, click: press }, sign);
  const zoom = (factor) => () => {
    zoomCamera(camera, factor);
    redraw();
  };
  return make("div", { class: "gv-tools" }, tool("+", "Zoom in", zoom(1.5)), tool("−", "Zoom out", zoom(1 / 1.5)),
    tool("Reset", "Reset the view", reset));
}

/** What is being computed, for how long, and how much of it is done; the page counts the seconds. */
function makeWait({ follow, onLeave }, model) {
  const words = make("span");
  const bar = make("progress", { max: 1, "aria-label": "share of the map that is done" });
  const root = make("div", { class: "gv-wait", hidden: true }, words, bar);
  let [what, since, clock] = ["", 0, 0];
  const say = () => {
    const seconds = Math.round((Date.now() - since) / 1000);
    words.textContent = `${what} is being computed${seconds > 1 ? `, ${seconds} s so far` : ""}`;
  };
  follow(["working"], () => {
    clearInterval(clock);
    what = model.get("working");
    root.hidden = !what;
    if (!what) return;
    since = Date.now();
    say();
    clock = setInterval(say, 1000);
  });
  follow(["progress"], () => {
    const share = model.get("progress");
    if (share > 0) bar.value = share;
    else bar.removeAttribute("value"); // neighbors are searched first, and nobody knows how long
  });
  onLeave(() => clearInterval(clock));
  return root;
}

/** What a point is, beside it; its text comes from Python and is kept for a while. */
function makeTip({ onLeave }, model, place) {
  const text = make("bdi", { dir: "auto" }); // letters that turn the direction of writing end here
  const facts = make("small");
  const root = make("div", { class: "gv-tip", hidden: true }, text, facts);
  const aloud = make("p", { class: "gv-unseen", "aria-live": "polite" });
  const kept = new Map();
  let [row, isAloud, asking, patience] = [-1, false, 0, 0];

  function show(newRow, speak = false) {
    if (newRow === row && speak === isAloud) return;
    [row, isAloud] = [newRow, speak];
    clearTimeout(asking);
    clearTimeout(patience);
    if (row < 0) return;
    if (kept.has(row)) write(kept.get(row));
    else {
      root.hidden = true;
      asking = setTimeout(() => model.send({ ask: row }), speak ? 0 : REST);
      patience = setTimeout(() => {
        text.textContent = "";
        facts.textContent = "The text comes when the kernel is free.";
        root.hidden = false;
      }, PATIENCE);
    }
  }

  function write(about) {
    const rest = about.left ? ` … and ${about.left.toLocaleString("en")} more letters` : "";
    text.textContent = about.text;
    facts.textContent = `${about.facts.join(", ")}${rest}`;
    root.hidden = false;
    place(); // its size is known only now
    if (isAloud) aloud.textContent = `${facts.textContent}. ${about.text}`;
  }

  function receive(message) {
    if (!message?.about) return;
    kept.set(message.about.row, message.about);
    if (kept.size > MOST_TEXTS) kept.delete(kept.keys().next().value);
    if (message.about.row !== row) return;
    clearTimeout(patience);
    write(message.about);
  }
  model.on("msg:custom", receive);
  onLeave(() => model.off("msg:custom", receive));

  /** Beside the point, on the side with more room, and within the map. */
  function moveTo(x, y, width, height) {
    const [across, down] = [root.offsetWidth, root.offsetHeight];
    const left = x > width / 2 ? x - across - 12 : x + 12;
    const top = y > height / 2 ? y - down - 12 : y + 12;
    root.style.left = `${Math.max(Math.min(left, width - across - 4), 4)}px`;
    root.style.top = `${Math.max(Math.min(top, height - down - 4), 4)}px`;
  }

  function forget() {
    kept.clear();
    show(-1);
  }
  return { root, aloud, show, moveTo, forget };
}
