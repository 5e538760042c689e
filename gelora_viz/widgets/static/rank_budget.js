// The panel RankBudget: controls above, and for each stack of blocks two charts over the same depths, the intrinsic
// dimension and the ranks. A rank's bar is a slider of its own: it can be dragged, or focused and stepped with keys.

const MARGIN = { left: 48, right: 8 };
const DIMENSION_HEIGHT = 150;
const RANK_HEIGHT = 200;
const AXIS_HEIGHT = 38;
const NARROWEST_CHART = 320;
const BAR_SHARE = 0.8; // of the room of a block
const DRAG_STARTS = 3; // pixels, so that a click only selects
const PAGE_STEP = 5;
const DASHES = { solid: null, dash: "7 4", dashdot: "7 3 2 3", dot: "2 3" };
const STACK_TITLES = { encoder: "Encoder", decoder: "Decoder" };

export default {
  render(view) {
    const { model } = view;
    const panel = openPanel(view, "LoRA ranks from a budget");
    const readout = make("p", { class: "gv-readout" });
    const code = makeCodeButton(panel, model);
    const charts = make("div", { class: "gv-stacks" });
    panel.body.append(
      makeBudget(panel, model),
      makeControls(panel, model, code.button),
      code.fallback,
      makeLegend(panel, model),
      charts,
      readout,
    );
    panel.body.addEventListener("keydown", (event) => stepBack(event, model));
    makeCharts(panel, model, charts, readout);
    return panel.leave;
  },
};

/** Changes of one movement, a drag or a key held down, carry one number: Python undoes them together. */
let lastMovement = 0;

function newMovement() {
  lastMovement = Math.max(lastMovement + 1, Date.now() % 1e9);
  return lastMovement;
}

function stepBack(event, model) {
  if (!(event.ctrlKey || event.metaKey) || event.key.toLowerCase() !== "z") return;
  event.preventDefault();
  call(model, event.shiftKey ? "redo" : "undo");
}

// ---- Controls

function makeBudget(panel, model) {
  const stops = model.get("stops");
  const said = make("output");
  const range = make("input", { type: "range", min: 0, max: stops.length - 1, step: 1, id: freshId() });
  let movement = 0;
  range.addEventListener("pointerdown", () => (movement = newMovement()));
  range.addEventListener("keydown", (event) => {
    if (!event.repeat) movement = newMovement();
  });
  range.addEventListener("input", () => {
    const [budget] = stops[range.value];
    set(model, { movement, budget });
    sayBudget(budget);
  });

  function sayBudget(budget) {
    const nearest = stops.reduce((best, [each], index) =>
      Math.abs(each - budget) < Math.abs(stops[best][0] - budget) ? index : best, 0);
    const isStop = stops[nearest][0] === budget;
    const text = `${budget.toLocaleString("en")} parameters, ${isStop ? "" : "about "}rank ${stops[nearest][1]} everywhere`;
    said.textContent = text;
    range.setAttribute("aria-valuetext", text);
    return nearest;
  }

  panel.follow(["budget"], () => {
    const nearest = sayBudget(model.get("budget"));
    // What Python says of an earlier value must not pull the handle away from under the finger.
    if (!range.matches(":active")) range.value = nearest;
  });

  const whole = stops.map(([, rank], index) => [rank, index]).filter(([rank]) => Number.isInteger(Math.log2(rank)));
  const scale = make("div", { class: "gv-scale", "aria-hidden": "true" });
  for (const [rank, index] of whole) {
    const share = stops.length > 1 ? index / (stops.length - 1) : 0;
    scale.append(make("span", { style: `--gv-share: ${share}` }, String(rank)));
  }
  return make("div", { class: "gv-budget" },
    make("label", { for: range.id }, "Budget "), said, range, scale);
}

function makeControls(panel, model, codeButton) {
  const strategies = model.get("strategies").map(([name, meaning]) => [name, name, meaning]);
  const estimators = model.get("estimators").map(([name, title]) => [name, title, name]);
  const clear = makeButton(panel, model, "Clear edits", () => call(model, "clear_edits"), {
    hint: "Discard the ranks that were set by hand",
  });
  panel.follow(["edits"], () => (clear.disabled = Object.keys(model.get("edits")).length === 0));
  return make("div", { class: "gv-controls" },
    labeled("Strategy", makeChoice(panel, model, "strategy", strategies)),
    labeled("Estimator", makeChoice(panel, model, "estimator", estimators)),
    makeCheckBox(panel, model, "keep_budget", "Keep the budget"),
    make("div", { class: "gv-buttons" },
      makeButton(panel, model, "Undo", () => call(model, "undo"), { canPress: "can_undo", hint: "Ctrl+Z" }),
      makeButton(panel, model, "Redo", () => call(model, "redo"), { canPress: "can_redo", hint: "Ctrl+Shift+Z" }),
      clear,
      codeButton));
}

/** The text comes from Python when it is asked for: for a large model it is longer than all the rest. */
function makeCodeButton({ onLeave }, model) {
  const label = "Copy as PEFT config";
  const text = make("textarea", { readonly: true, rows: 8, "aria-label": "Python text of the PEFT configuration" });
  const hide = make("button", { type: "button", click: () => (fallback.hidden = true) }, "Hide");
  const hint = "This page may not use the clipboard. The text is selected: copy it with Ctrl+C.";
  const fallback = make("div", { class: "gv-code", hidden: true }, make("p", {}, hint), text, hide);
  const button = make("button", { type: "button", click: () => call(model, "send_peft_code") }, label);

  async function receive(message) {
    if (typeof message?.peft_code !== "string") return;
    try {
      await navigator.clipboard.writeText(message.peft_code);
      fallback.hidden = true;
      button.textContent = "Copied";
      setTimeout(() => (button.textContent = label), 1500);
    } catch {
      text.value = message.peft_code;
      fallback.hidden = false;
      text.focus();
      text.select();
    }
  }
  model.on("msg:custom", receive);
  onLeave(() => model.off("msg:custom", receive));
  return { button, fallback };
}

function makeLegend({ follow }, model) {
  const curve = draw("line", { x1: 0, x2: 26, y1: 7, y2: 7, "stroke-width": 2 });
  const band = draw("rect", { x: 0, y: 1, width: 26, height: 12, class: "gv-band" });
  const entries = [
    ["intrinsic dimension, interval", [band, curve]],
    ["assigned rank", [draw("rect", { class: "gv-fill", x: 6, y: 1, width: 14, height: 12 })]],
    ["set by hand", [draw("rect", { class: "gv-fill gv-edited", x: 6, y: 1, width: 14, height: 12 })]],
    ["lower bound", [draw("line", { class: "gv-bound", x1: 4, x2: 22, y1: 7, y2: 7 })]],
  ];
  follow(["dimensions"], () => dress([curve, band], model.get("dimensions")));
  const swatch = (marks) => draw("svg", { width: 26, height: 14, "aria-hidden": "true" }, ...marks);
  const entry = ([text, marks]) => make("li", {}, swatch(marks), text);
  const effective = entry(["effective rank", [draw("circle", { class: "gv-effective", cx: 13, cy: 7, r: 3.5 })]]);
  follow(["effective_ranks"], () => {
    effective.hidden = !model.get("effective_ranks").length;
  });
  return make("ul", { class: "gv-legend" }, ...entries.map(entry), effective);
}

/** Give a curve and its band the look of the estimator. */
function dress([curve, band], { color, dash }) {
  curve.setAttribute("stroke", color);
  curve.setAttribute("stroke-dasharray", DASHES[dash] ?? "none");
  band.setAttribute("fill", color);
}

// ---- Charts

function makeCharts(panel, model, place, readout) {
  const layers = model.get("layers").map(([name, stack, depth, limit], index) => ({ name, stack, depth, limit, index }));
  const stacks = [...new Set(layers.map((layer) => layer.stack))];
  const shared = { top: 1, request: null, focused: layers[0].index, hovered: null };
  const charts = stacks.map((stack) => makeStack(stack, layers.filter((layer) => layer.stack === stack)));
  place.append(...charts.map((chart) => chart.root));

  followWidth(panel, place, (width) => {
    const columns = Math.min(stacks.length, Math.max(1, Math.floor(width / NARROWEST_CHART)));
    const each = Math.floor((width - 16 * (columns - 1)) / columns);
    charts.forEach((chart) => chart.resize(each));
  });
  panel.follow(["dimensions"], () => charts.forEach((chart) => chart.showDimensions()));
  panel.follow(["ranks", "bounds", "effective_ranks"], showAllRanks);

  /** Bars of all stacks, on one axis. */
  function showAllRanks() {
    const { high } = model.get("ranks");
    const known = [...high, ...model.get("effective_ranks"), ...model.get("bounds")].filter((each) => each !== null);
    const ticks = niceTicks(1.15 * Math.max(1, shared.request?.rank ?? 0, ...known), 4, { whole: true });
    // While a bar is dragged the axis stands still under it, as long as everything fits.
    const fits = ticks.at(-1) <= shared.ticks?.at(-1);
    if (!(shared.request && fits)) shared.ticks = ticks;
    charts.forEach((chart) => chart.showRanks());
    sayReadout();
  }

  /** What is known of the block under the pointer, or else of the one that has the focus. */
  function sayReadout() {
    const { name, index } = layers[shared.hovered ?? shared.focused];
    readout.textContent = `${name}: ${describeRank(index)}`;
  }

  function describeRank(index) {
    const { mean, low, high, edited } = model.get("ranks");
    const parts = [`rank ${plain(mean[index])}`];
    if (low[index] < high[index]) parts[0] += ` (matrices from ${low[index]} to ${high[index]})`;
    if (edited[index]) parts[0] += ", set by hand";
    const bound = model.get("bounds")[index];
    const effective = model.get("effective_ranks")[index];
    if (bound !== null && bound !== undefined) parts.push(`lower bound ${plain(bound)}`);
    if (effective !== null && effective !== undefined) parts.push(`effective rank ${plain(effective)}`);
    return parts.join(", ");
  }

  /** Ask Python for another rank of a block; null gives up the one that was set by hand. */
  function setRank(layer, rank, movement) {
    const edits = { ...model.get("edits") };
    if (rank === null) delete edits[layer.name];
    else edits[layer.name] = Math.min(Math.max(Math.round(rank), 0), layer.limit);
    set(model, { movement, edits });
  }

  function makeStack(stack, members) {
    const title = STACK_TITLES[stack] ?? stack;
    const upper = draw("svg", { role: "img", height: DIMENSION_HEIGHT });
    const lower = draw("svg", { role: "group", height: RANK_HEIGHT + AXIS_HEIGHT });
    const axes = { upper: draw("g", { "aria-hidden": "true" }), lower: draw("g", { "aria-hidden": "true" }) };
    const depths = draw("g", { "aria-hidden": "true" });
    const curve = draw("path", { class: "gv-curve" });
    const band = draw("path", { class: "gv-band" });
    const dots = draw("g");
    const bars = members.map((layer) => makeBar(layer));
    upper.append(axes.upper, band, curve, dots);
    lower.append(axes.lower, depths, ...bars.map((bar) => bar.root));
    lower.setAttribute("aria-label", `Ranks by block${title ? `, ${title}` : ""}. Left and right choose a block, up ` +
      "and down change its rank, Delete gives it back.");
    const root = make("div", { class: "gv-stack" }, ...(title ? [make("h4", {}, title)] : []), upper, lower);
    let width = 0;
    let x = null;
    let y = null;

    function resize(newWidth) {
      width = newWidth;
      for (const svg of [upper, lower]) svg.setAttribute("width", width);
      const ends = [-0.6, Math.max(...members.map((layer) => layer.depth)) + 0.6];
      x = linearScale(ends, [MARGIN.left, width - MARGIN.right]);
      drawDepths();
      showDimensions();
      showRanks();
    }

    function drawDepths() {
      const last = members.at(-1).depth;
      const room = x(1) - x(0);
      const step = [1, 2, 4, 10, 20, 40, 100].find((each) => each * room >= 38) ?? 200;
      const ticks = Array.from({ length: Math.floor(last / step) + 1 }, (_, index) => index * step);
      depths.replaceChildren(
        ...ticks.map((depth) => draw("text", { class: "gv-tick", x: x(depth), y: RANK_HEIGHT + 14, "text-anchor": "middle" },
          depth === 0 ? "emb." : String(depth))),
        draw("text", { class: "gv-axis", x: (MARGIN.left + width) / 2, y: RANK_HEIGHT + 32, "text-anchor": "middle" }, "Block"),
      );
    }

    function showDimensions() {
      const dimensions = model.get("dimensions");
      upper.setAttribute("aria-label", `${title ? `${title}. ` : ""}${dimensions.text}`);
      if (!x) return;
      const all = dimensions.stacks.flatMap(({ dimension, low, high }) => [...dimension, ...low, ...high]);
      const known = all.filter((each) => each !== null);
      const ticks = niceTicks(Math.max(...known), 4, { low: Math.min(0, ...known) });
      const scale = linearScale([ticks[0], ticks.at(-1)], [DIMENSION_HEIGHT - 8, 8]);
      const own = dimensions.stacks.find((each) => each.stack === stack);
      const points = own.depth.map((depth, index) => [x(depth), own.dimension[index] === null ? null : scale(own.dimension[index])]);
      const lows = own.depth.map((depth, index) => [x(depth), scale(own.low[index] ?? own.dimension[index] ?? 0)]);
      const highs = own.depth.map((depth, index) => [x(depth), scale(own.high[index] ?? own.dimension[index] ?? 0)]);
      curve.setAttribute("d", linePath(points));
      band.setAttribute("d", `${linePath([...highs, ...lows.reverse()])}Z`);
      dress([curve, band], dimensions);
      const radius = Math.min(3, 0.25 * (x(1) - x(0)));
      dots.replaceChildren(...points.filter(([, at]) => at !== null && radius > 1)
        .map(([cx, cy]) => draw("circle", { cx, cy, r: radius, fill: dimensions.color })));
      drawValueAxis(axes.upper, { ticks, scale, left: MARGIN.left, right: width - MARGIN.right, label: "Intrinsic dim." });
    }

    function showRanks() {
      if (!x || !shared.ticks) return;
      y = linearScale([0, shared.ticks.at(-1)], [RANK_HEIGHT - 4, 16]);
      drawValueAxis(axes.lower, { ticks: shared.ticks, scale: y, left: MARGIN.left, right: width - MARGIN.right, label: "Rank" });
      bars.forEach((bar) => bar.show());
    }

    function makeBar(layer) {
      const { index } = layer;
      const hit = draw("rect", { class: "gv-hit", y: 8 });
      const fill = draw("rect");
      const bound = draw("line", { class: "gv-bound" });
      const whisker = draw("line", { class: "gv-whisker" });
      const effective = draw("circle", { class: "gv-effective" });
      const bar = draw("g", { class: "gv-bar", role: "slider", "aria-orientation": "vertical", "aria-valuemin": 0,
        "aria-valuemax": layer.limit, "aria-label": `Rank of ${layer.name}` }, hit, fill, whisker, bound, effective);
      let drag = null;
      let movement = 0;

      bar.addEventListener("pointerenter", () => { shared.hovered = index; sayReadout(); });
      bar.addEventListener("pointerleave", () => { shared.hovered = null; sayReadout(); });
      bar.addEventListener("focus", () => { shared.focused = index; sayReadout(); charts.forEach((each) => each.retab()); });
      bar.addEventListener("pointerdown", (event) => {
        if (event.button !== 0) return;
        event.preventDefault();
        bar.focus({ preventScroll: true });
        bar.setPointerCapture(event.pointerId);
        drag = { from: event.clientY, movement: newMovement(), has: false };
      });
      bar.addEventListener("pointermove", (event) => {
        if (!drag || (!drag.has && Math.abs(event.clientY - drag.from) < DRAG_STARTS)) return;
        drag.has = true;
        const rank = Math.round(y.invert(event.clientY - lower.getBoundingClientRect().top));
        const requested = Math.min(Math.max(rank, 0), layer.limit);
        if (shared.request?.rank === requested) return;
        shared.request = { index, rank: requested };
        setRank(layer, requested, drag.movement);
        showAllRanks();
      });
      for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) {
        bar.addEventListener(end, () => {
          if (!drag) return;
          drag = null;
          shared.request = null;
          showAllRanks();
        });
      }
      bar.addEventListener("keydown", (event) => {
        if (event.ctrlKey || event.metaKey || event.altKey) return;
        const rank = Math.round(model.get("edits")[layer.name] ?? model.get("ranks").mean[index]);
        const steps = { ArrowUp: 1, ArrowDown: -1, PageUp: PAGE_STEP, PageDown: -PAGE_STEP };
        const moves = { ArrowLeft: index - 1, ArrowRight: index + 1, Home: 0, End: layers.length - 1 };
        if (!event.repeat) movement = newMovement();
        if (event.key in steps) setRank(layer, rank + steps[event.key], movement);
        else if (event.key === "Delete" || event.key === "Backspace") setRank(layer, null, movement);
        else if (event.key in moves) charts.forEach((chart) => chart.focus(moves[event.key]));
        else return;
        event.preventDefault();
        event.stopPropagation();
      });

      function show() {
        const { mean, low, high, edited } = model.get("ranks");
        const isRequested = shared.request?.index === index;
        const rank = isRequested ? shared.request.rank : mean[index];
        const width = Math.max(BAR_SHARE * (x(1) - x(0)), 1.5);
        const left = x(layer.depth) - width / 2;
        put(hit, { x: x(layer.depth) - (x(1) - x(0)) / 2, width: x(1) - x(0), height: RANK_HEIGHT - 12 });
        fill.setAttribute("class", edited[index] || isRequested ? "gv-fill gv-edited" : "gv-fill");
        put(fill, { x: left, width, y: y(rank), height: Math.max(y(0) - y(rank), 0) });
        const differ = !isRequested && low[index] < high[index];
        whisker.style.display = differ ? "" : "none";
        if (differ) put(whisker, { x1: x(layer.depth), x2: x(layer.depth), y1: y(low[index]), y2: y(high[index]) });
        const least = model.get("bounds")[index] ?? null;
        bound.style.display = least === null ? "none" : "";
        if (least !== null) put(bound, { x1: left, x2: left + width, y1: y(least), y2: y(least) });
        const used = model.get("effective_ranks")[index] ?? null;
        effective.style.display = used === null ? "none" : "";
        if (used !== null) put(effective, { cx: x(layer.depth), cy: y(used), r: Math.max(Math.min(3.5, 0.35 * width), 1.5) });
        bar.setAttribute("aria-valuenow", plain(rank));
        bar.setAttribute("aria-valuetext", describeRank(index));
        retab();
      }

      function retab() {
        bar.setAttribute("tabindex", shared.focused === index ? 0 : -1);
      }
      return { root: bar, index, show, retab };
    }

    return {
      root,
      resize,
      showDimensions,
      showRanks,
      retab: () => bars.forEach((bar) => bar.retab()),
      focus: (index) => bars.find((bar) => bar.index === index)?.root.focus(),
    };
  }
}

/** Set several attributes of an element that is there already. */
function put(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    node.setAttribute(name, typeof value === "number" ? value.toFixed(1) : value);
  }
}
