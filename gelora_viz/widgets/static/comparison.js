// The panel Comparison: scores over sizes above, and below the ranks of two chosen methods, layer by layer. Every point
// and bar can be pointed at or focused, and is then put into words.

const MARGIN = { left: 60, right: 16, top: 10 };
const HEIGHT = 220;
const AXIS_HEIGHT = 38;
const NARROWEST_CHART = 330;

export default {
  render(view) {
    const { model } = view;
    const panel = openPanel(view, "Comparison of methods");
    const readout = make("p", { class: "gv-readout", "aria-live": "polite" });
    const scores = makeChart("Score by number of parameters", readout);
    const used = makeChart("Effective rank against assigned rank", readout);
    const gaps = makeChart("Difference in effective rank by layer", readout);
    const names = model.get("methods").map(({ name }) => [name, name]);
    const missing = make("p", { class: "gv-readout" });
    const lower = make("div", { class: "gv-stacks" }, used.root, gaps.root);
    const choice = make("div", { class: "gv-controls gv-choice" },
      labeled("Effective ranks of", makeChoice(panel, model, "second", names)),
      labeled("less those of", makeChoice(panel, model, "first", names)));
    panel.body.append(make("div", { class: "gv-stacks" }, scores.root), makeMethodLegend(model), choice, lower, missing, readout);
    panel.follow(["why_no_layers", "layers"], () => {
      missing.textContent = model.get("why_no_layers");
      lower.hidden = model.get("layers").length === 0;
    });
    followWidth(panel, panel.body, (width) => {
      const columns = width >= 2 * NARROWEST_CHART + 16 ? 2 : 1;
      scores.width = width;
      for (const chart of [used, gaps]) chart.width = Math.floor((width - 16 * (columns - 1)) / columns);
      drawScores(scores, model);
      drawLayers(model, used, gaps);
    });
    panel.follow(["layers"], () => drawLayers(model, used, gaps));
    return panel.leave;
  },
};

/** A chart whose marks are chosen with the arrow keys; only one of them is a stop of the tab key. */
function makeChart(label, readout) {
  const axes = draw("g", { "aria-hidden": "true" });
  const marks = draw("g");
  const svg = draw("svg", { role: "group", "aria-label": `${label}. Arrow keys go from one to the next.`, height: HEIGHT + AXIS_HEIGHT }, axes, marks);
  const root = make("div", { class: "gv-stack" }, svg);
  const move = (event) => {
    const step = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
    if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    const all = [...marks.children];
    const next = all[Math.min(Math.max(all.indexOf(event.target.closest("[tabindex]")) + step, 0), all.length - 1)];
    all.forEach((each) => each.setAttribute("tabindex", each === next ? 0 : -1));
    next?.focus();
  };
  marks.addEventListener("keydown", move);

  /** Replace all marks: {nodes, words}. */
  function show(list) {
    svg.setAttribute("width", chart.width);
    marks.replaceChildren(...list.map(({ nodes, words }, index) => {
      const say = () => (readout.textContent = words);
      return draw("g", { class: "gv-mark", role: "img", "aria-label": words, tabindex: index === 0 ? 0 : -1,
        pointerenter: say, focus: say }, ...nodes);
    }));
  }
  const chart = { root, svg, axes, width: 0, show };
  return chart;
}

function makeMethodLegend(model) {
  return make("ul", { class: "gv-legend", "aria-label": "Legend" }, ...model.get("methods").map(({ name, color, marker }) =>
    make("li", {}, draw("svg", { width: 14, height: 14, "aria-hidden": "true" }, makeMarker(marker, 7, 7, 5, color)), name)));
}

/** A point in one of the shapes of the figures. */
function makeMarker(marker, x, y, r, color) {
  const at = (...corners) => draw("path", { d: `M${corners.map(([dx, dy]) => `${(x + dx * r).toFixed(1)},${(y + dy * r).toFixed(1)}`).join("L")}Z`, fill: color });
  if (marker === "square") return at([-0.9, -0.9], [0.9, -0.9], [0.9, 0.9], [-0.9, 0.9]);
  if (marker === "diamond") return at([0, -1.2], [1.2, 0], [0, 1.2], [-1.2, 0]);
  if (marker === "triangle-up") return at([0, -1.2], [1.1, 0.9], [-1.1, 0.9]);
  if (marker === "triangle-down") return at([0, 1.2], [1.1, -0.9], [-1.1, -0.9]);
  if (marker === "cross" || marker === "x") {
    const turn = marker === "x" ? `rotate(45 ${x} ${y})` : null;
    const path = `M${x - r},${y}H${x + r}M${x},${y - r}V${y + r}`;
    return draw("path", { d: path, stroke: color, "stroke-width": 3, fill: "none", transform: turn });
  }
  return draw("circle", { cx: x, cy: y, r, fill: color });
}

/** Numbers below a chart, and what they are. */
function drawBelow(axes, ticks, label, middle) {
  axes.append(
    ...ticks.map(([x, text]) => draw("text", { class: "gv-tick", x, y: HEIGHT + 16, "text-anchor": "middle" }, text)),
    draw("text", { class: "gv-axis", x: middle, y: HEIGHT + 33, "text-anchor": "middle" }, label));
}

function short(count) {
  for (const [size, unit] of [[1e9, "B"], [1e6, "M"], [1e3, "k"]]) {
    if (count >= size) return `${Number((count / size).toPrecision(3))}${unit}`;
  }
  return String(count);
}

/** Powers of ten where there are several, else also 2 and 5. */
function logTicks(low, high) {
  const first = Math.floor(Math.log10(low));
  const last = Math.ceil(Math.log10(high));
  const steps = last - first > 3 ? [1] : [1, 2, 5];
  const all = Array.from({ length: last - first + 1 }, (_, index) => steps.map((step) => step * 10 ** (first + index))).flat();
  return all.filter((tick) => tick >= low * 0.999 && tick <= high * 1.001);
}

function drawScores(chart, model) {
  const methods = model.get("methods").filter(({ score, parameters }) => score !== null && parameters !== null);
  const { axes, width } = chart;
  if (!width || !methods.length) return;
  const sizes = methods.map(({ parameters }) => parameters).filter((each) => each > 0);
  const hasNone = sizes.length < methods.length; // a frozen model trains none, and a logarithm knows no 0
  const low = sizes.length ? Math.min(...sizes) / 1.6 : 1;
  const high = sizes.length ? Math.max(...sizes) * 1.6 : 10;
  const left = MARGIN.left + (hasNone ? 56 : 8);
  const log = linearScale([Math.log10(low), Math.log10(high)], [left, width - MARGIN.right]);
  const x = (size) => (size > 0 ? log(Math.log10(size)) : MARGIN.left + 24);
  const ends = methods.flatMap((each) => [each.score, each.low ?? each.score, each.high ?? each.score]);
  const room = 0.08 * (Math.max(...ends) - Math.min(...ends) || 1);
  const ticks = niceTicks(Math.max(...ends) + room, 5, { low: Math.max(0, Math.min(...ends) - room) });
  const y = linearScale([ticks[0], ticks.at(-1)], [HEIGHT, MARGIN.top]);
  const name = model.get("metric").replace(/^./, (first) => first.toUpperCase());
  drawValueAxis(axes, { ticks, scale: y, left: MARGIN.left, right: width - MARGIN.right, label: `Test ${name.toLowerCase()}` });
  const below = logTicks(low, high).map((tick) => [x(tick), short(tick)]);
  const apart = below.filter(([at], index) => index === 0 || at - below[index - 1][0] > 30);
  drawBelow(axes, [...(hasNone ? [[x(0), "0"]] : []), ...apart], "Trainable parameters (logarithmic)", (MARGIN.left + width) / 2);
  if (hasNone) axes.append(draw("line", { class: "gv-break", x1: left - 12, x2: left - 12, y1: MARGIN.top, y2: HEIGHT }));
  // Methods of one size stand side by side, so that their intervals can be told apart.
  const placed = [];
  chart.show(methods.map((each) => {
    let at = x(each.parameters);
    while (placed.some((other) => Math.abs(other - at) < 13)) at += 14;
    placed.push(at);
    const nodes = [draw("rect", { class: "gv-hit", x: at - 7, width: 14, y: MARGIN.top, height: HEIGHT - MARGIN.top })];
    if (each.low !== null && each.high !== null) {
      nodes.push(draw("line", { x1: at, x2: at, y1: y(each.low), y2: y(each.high), stroke: each.color, "stroke-width": 2 }));
    }
    return { nodes: [...nodes, makeMarker(each.marker, at, y(each.score), 5, each.color)], words: each.words };
  }));
}

function drawLayers(model, used, gaps) {
  const layers = model.get("layers");
  if (!layers.length || !used.width) return;
  const looks = [model.get("first"), model.get("second")].map((name) => model.get("methods").find((each) => each.name === name));
  drawUsed(used, layers, looks);
  drawGaps(gaps, layers, looks);
}

function drawUsed(chart, layers, looks) {
  const { axes, width } = chart;
  const points = layers.flatMap((layer) => looks.map((look, index) =>
    ({ layer: layer.name, look, assigned: layer.assigned[index], effective: layer.effective[index] })))
    .filter((each) => each.assigned !== null && each.effective !== null)
    .filter((each, index, all) => all.findIndex((other) => other.layer === each.layer && other.look === each.look) === index);
  const xTicks = niceTicks(Math.max(1, ...points.map((each) => each.assigned)) * 1.05, 5);
  const yTicks = niceTicks(Math.max(1, ...points.map((each) => each.effective)) * 1.05, 5);
  const x = linearScale([0, xTicks.at(-1)], [MARGIN.left, width - MARGIN.right]);
  const y = linearScale([0, yTicks.at(-1)], [HEIGHT, MARGIN.top]);
  drawValueAxis(axes, { ticks: yTicks, scale: y, left: MARGIN.left, right: width - MARGIN.right, label: "Effective rank" });
  drawBelow(axes, xTicks.map((tick) => [x(tick), plain(tick)]), "Assigned rank", (MARGIN.left + width) / 2);
  const end = Math.min(xTicks.at(-1), yTicks.at(-1));
  axes.append(draw("line", { class: "gv-equal", x1: x(0), y1: y(0), x2: x(end), y2: y(end) }));
  if (!points.length) axes.append(draw("text", { class: "gv-axis", x: (MARGIN.left + width) / 2, y: HEIGHT / 2, "text-anchor": "middle" }, "no assigned ranks"));
  chart.show(points.map(({ layer, look, assigned, effective }) => ({
    nodes: [makeMarker(look.marker, x(assigned), y(effective), 4.5, look.color)],
    words: `${layer}, ${look.name}: assigned rank ${plain(assigned)}, effective rank ${plain(effective)}, ` +
      `${Math.round((100 * effective) / (assigned || 1))} % used`,
  })));
}

function drawGaps(chart, layers, looks) {
  const { axes, width } = chart;
  const known = layers.map((layer, index) => ({ ...layer, index })).filter(({ effective }) => effective[0] !== null && effective[1] !== null);
  const values = known.map(({ effective }) => effective[1] - effective[0]);
  const ticks = niceTicks(Math.max(0.1, ...values) * 1.05, 5, { low: Math.min(0, ...values) * 1.05 });
  const y = linearScale([ticks[0], ticks.at(-1)], [HEIGHT, MARGIN.top]);
  const room = (width - MARGIN.left - MARGIN.right) / layers.length;
  const middle = (index) => MARGIN.left + room * (index + 0.5);
  drawValueAxis(axes, { ticks, scale: y, left: MARGIN.left, right: width - MARGIN.right, label: "Difference" });
  const step = [1, 2, 4, 10, 20, 40, 100].find((each) => each * room >= 34) ?? 200;
  const tick = (name, index) => name.match(/(\d+)(?!.*\d)/)?.[1] ?? String(index);
  drawBelow(axes, layers.map((layer, index) => [middle(index), tick(layer.name, index)]).filter((_, index) => index % step === 0),
    "Layer", (MARGIN.left + width) / 2);
  axes.append(draw("line", { class: "gv-zero", x1: MARGIN.left, x2: width - MARGIN.right, y1: y(0), y2: y(0) }));
  if (!known.length) axes.append(draw("text", { class: "gv-axis", x: (MARGIN.left + width) / 2, y: HEIGHT / 2, "text-anchor": "middle" }, "nothing to subtract"));
  chart.show(known.map(({ name, index, effective }) => {
    const gap = effective[1] - effective[0];
    const color = looks[gap >= 0 ? 1 : 0].color;
    const bar = Math.max(0.7 * room, 1.5);
    return {
      nodes: [
        draw("rect", { class: "gv-hit", x: middle(index) - room / 2, width: room, y: MARGIN.top, height: HEIGHT - MARGIN.top }),
        draw("rect", { x: middle(index) - bar / 2, width: bar, y: Math.min(y(gap), y(0)), height: Math.max(Math.abs(y(gap) - y(0)), 1), fill: color, "fill-opacity": 0.8 }),
      ],
      words: `${name}: ${looks[1].name} ${plain(effective[1])}, ${looks[0].name} ${plain(effective[0])}, difference ${gap >= 0 ? "+" : "−"}${plain(Math.abs(gap))}`,
    };
  }));
}
