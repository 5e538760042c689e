// The panel FineTuning: a form that starts runs, two charts of their curves over the steps, and a row for each run.
// Rows and curves stay the same elements while they change, so that a focus or a pointer on one is not lost.

const MARGIN = { left: 56, right: 12, top: 8 };
const CHART_HEIGHT = 190;
const AXIS_HEIGHT = 36;
const NARROWEST_CHART = 330;
const DASHES = { solid: null, dash: "7 4", dashdot: "7 3 2 3", dot: "2 3" };
const STATES = {
  queued: "waiting", running: "training", finished: "finished", failed: "failed", cancelled: "cancelled",
  unreadable: "unreadable",
};

export default {
  render(view) {
    const { model } = view;
    const panel = openPanel(view, "Fine-tuning");
    const highlight = { name: null, listeners: [] };
    const place = make("div", { class: "gv-stacks" });
    const readout = make("p", { class: "gv-readout" });
    panel.body.append(
      makeForm(panel, model),
      makeFilter(panel, model),
      place,
      readout,
      makeLegend(panel, model, highlight),
      makeTable(panel, model, highlight),
    );
    makeCharts(panel, model, place, readout, highlight);
    return panel.leave;
  },
};

/** Let one run stand out in charts, legend and table; null lets go of it. */
function stress(highlight, name) {
  if (highlight.name === name) return;
  highlight.name = name;
  highlight.listeners.forEach((listen) => listen());
}

// ---- The form

function makeForm(panel, model) {
  const plan = makeList(panel, model, "plan", "plans", ([name, about]) => `${name} (${about})`);
  const steps = makeText(panel, model, "steps", { inputmode: "numeric", size: 6 }, (text) => {
    const value = Number(text);
    return Number.isInteger(value) ? value : text;
  });
  const seeds = makeText(panel, model, "seeds", { size: 8, title: "Several, as in 0, 1, 2, start a run each" });
  const rate = makeText(panel, model, "learning_rate", { inputmode: "decimal", size: 8 });
  const name = makeText(panel, model, "name", { size: 16, spellcheck: "false" });
  panel.follow(["usual_rate"], () => (rate.placeholder = `usual: ${model.get("usual_rate")}`));
  panel.follow(["free_name"], () => (name.placeholder = model.get("free_name")));
  const start = make("button", { type: "submit", class: "gv-main" }, "Start");
  const form = make("form", { class: "gv-controls" },
    labeled("What to train", plan), labeled("Steps", steps), labeled("Seeds", seeds),
    labeled("Learning rate", rate), labeled("Name", name), start);
  form.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.target.tagName !== "INPUT") return;
    event.preventDefault(); // not every notebook lets Enter send a form, and none is to send it twice
    event.stopPropagation();
    form.requestSubmit();
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    // In one message with what was typed last: the notebook may still hold that back.
    const typed = { steps: steps.read(), seeds: seeds.read(), learning_rate: rate.read(), name: name.read() };
    set(model, { ...typed, presses: model.get("presses") + 1 });
  });
  return form;
}

/** A text field that follows a trait, and sets it once the reader is done with it. */
function makeText({ follow }, model, trait, attributes, parse = (text) => text) {
  const input = make("input", { type: "text", autocomplete: "off", ...attributes });
  input.read = () => parse(input.value.trim());
  input.addEventListener("change", () => set(model, { [trait]: input.read() }));
  follow([trait], () => {
    if (document.activeElement !== input || String(model.get(trait)) === "") input.value = model.get(trait);
  });
  return input;
}

/** A <select> of choices that change too; `write` puts one of them into words. */
function makeList({ follow }, model, trait, choices, write) {
  const select = make("select", { change: () => set(model, { [trait]: select.value }) });
  let known = "";
  follow([choices, trait], () => {
    const now = JSON.stringify(model.get(choices));
    if (now !== known) {
      known = now;
      select.replaceChildren(...model.get(choices).map((each) => make("option", { value: each[0] }, write(each))));
    }
    select.value = model.get(trait);
  });
  return select;
}

function makeFilter(panel, model) {
  const group = makeList(panel, model, "group", "groups", ([, text]) => text);
  const field = make("div", { class: "gv-controls" }, labeled("Show", group));
  panel.follow(["groups"], () => (field.hidden = model.get("groups").length < 3));
  return field;
}

// ---- Curves

/** The drawn runs with their looks and curves, in the order of the table. */
function drawnRuns(model) {
  const curves = { ...model.get("curves"), ...model.get("live_curves") };
  return model.get("runs").filter((row) => row.drawn && curves[row.name]).map((row) => ({ ...row, ...curves[row.name] }));
}

function makeLegend({ follow }, model, highlight) {
  const list = make("ul", { class: "gv-legend", "aria-label": "Legend" });
  const update = () => {
    const runs = drawnRuns(model);
    list.replaceChildren(...runs.map((run) => {
      const entry = make("li", {}, makeSwatch(run), run.name);
      entry.addEventListener("pointerenter", () => stress(highlight, run.name));
      entry.addEventListener("pointerleave", () => stress(highlight, null));
      return entry;
    }));
  };
  let known = "";
  follow(["runs", "curves", "live_curves"], () => {
    const now = JSON.stringify(drawnRuns(model).map(({ name, color, dash }) => [name, color, dash]));
    if (now !== known) update();
    known = now;
  });
  return list;
}

function makeSwatch({ color, dash }) {
  return draw("svg", { width: 28, height: 12, "aria-hidden": "true" },
    draw("line", { x1: 1, x2: 27, y1: 6, y2: 6, stroke: color, "stroke-width": 2.5, "stroke-dasharray": DASHES[dash] }));
}

function makeCharts(panel, model, place, readout, highlight) {
  const charts = [
    makeChart("losses", () => "Training loss"),
    makeChart("scores", () => `Validation ${model.get("metric")}`),
  ];
  place.append(...charts.map((chart) => chart.root));
  followWidth(panel, place, (width) => {
    const columns = Math.min(2, Math.max(1, Math.floor(width / NARROWEST_CHART)));
    const each = Math.floor((width - 16 * (columns - 1)) / columns);
    charts.forEach((chart) => chart.resize(each));
  });
  const showAll = () => {
    place.hidden = drawnRuns(model).length === 0;
    charts.forEach((chart) => chart.show());
  };
  panel.follow(["runs", "curves", "live_curves", "metric"], showAll);
  highlight.listeners.push(showAll);

  function makeChart(what, sayTitle) {
    const axes = draw("g", { "aria-hidden": "true" });
    const lines = draw("g");
    const cursor = draw("line", { class: "gv-cursor", visibility: "hidden" });
    const svg = draw("svg", { role: "img", tabindex: 0, height: CHART_HEIGHT + AXIS_HEIGHT }, axes, lines, cursor);
    const root = make("div", { class: "gv-stack" }, svg);
    const isScore = what === "scores";
    let width = 0;
    let scales = null;
    let at = null; // the step under the pointer, or chosen with the arrow keys

    function show() {
      if (!width) return;
      const all = drawnRuns(model);
      const runs = isScore ? all.filter((run) => run.metric === model.get("metric")) : all;
      const values = runs.flatMap((run) => run[what][1]);
      // As far as anything was logged: the plan of a long run would press all others against the left edge.
      const last = Math.max(1, ...all.flatMap((run) => [run.losses[0].at(-1) ?? 1, run.scores[0].at(-1) ?? 1]));
      const low = Math.min(...values);
      const high = Math.max(...values);
      const room = 0.08 * (high - low || Math.abs(high) || 1);
      const known = values.length > 0;
      const ticks = known ? niceTicks(high + room, 4, { low: isScore ? Math.max(0, low - room) : 0 }) : [0, 1];
      const x = linearScale([0, last], [MARGIN.left, width - MARGIN.right]);
      const y = linearScale([ticks[0], ticks.at(-1)], [CHART_HEIGHT, MARGIN.top]);
      scales = { x, y, runs };
      drawValueAxis(axes, { ticks: known ? ticks : [], scale: y, left: MARGIN.left, right: width - MARGIN.right, label: "" });
      axes.replaceChildren(...[...axes.children].filter((node) => !node.classList.contains("gv-axis")),
        ...niceTicks(last, Math.min(5, Math.floor(width / 80)), { whole: true }).filter((tick) => tick <= last).map((tick) =>
          draw("text", { class: "gv-tick", x: x(tick), y: CHART_HEIGHT + 16, "text-anchor": "middle" }, tick.toLocaleString("en"))),
        draw("text", { class: "gv-axis", x: (MARGIN.left + width) / 2, y: CHART_HEIGHT + 32, "text-anchor": "middle" }, "Step"),
        draw("text", { class: "gv-axis", "text-anchor": "middle",
          transform: `translate(12 ${CHART_HEIGHT / 2}) rotate(-90)` }, sayTitle()));
      if (!known) {
        axes.append(draw("text", { class: "gv-axis", x: (MARGIN.left + width) / 2, y: CHART_HEIGHT / 2,
          "text-anchor": "middle" }, "nothing measured yet"));
      }
      drawLines(runs);
      svg.setAttribute("aria-label", describe(runs));
      if (at !== null) sayAt(at);
    }

    function drawLines(runs) {
      const { x, y } = scales;
      lines.replaceChildren(...runs.flatMap((run) => {
        const points = run[what][0].map((step, index) => [x(step), y(run[what][1][index])]);
        const dim = highlight.name !== null && highlight.name !== run.name;
        const opacity = dim ? 0.2 : null;
        const marks = isScore || points.length === 1
          ? points.map(([cx, cy]) => draw("circle", { cx, cy, r: 3, fill: run.color, opacity })) : [];
        return [
          draw("path", { class: "gv-curve", d: linePath(points), stroke: run.color, opacity,
            "stroke-dasharray": DASHES[run.dash] }), ...marks];
      }));
    }

    function describe(runs) {
      const measured = runs.filter((run) => run[what][0].length);
      const each = measured.map((run) =>
        `${run.name} ${plain(run[what][1].at(-1))} at step ${run[what][0].at(-1).toLocaleString("en")}`);
      return `${sayTitle()} by step. ${each.join("; ") || "Nothing measured yet"}. Left and right read the values.`;
    }

    function sayAt(step) {
      at = step;
      const { x, runs } = scales;
      cursor.setAttribute("visibility", "visible");
      for (const [name, value] of [["x1", x(step)], ["x2", x(step)], ["y1", MARGIN.top], ["y2", CHART_HEIGHT]]) {
        cursor.setAttribute(name, value.toFixed(1));
      }
      const near = runs.filter((run) => run[what][0].length && step <= run[what][0].at(-1) * 1.05).map((run) => {
        const index = nearest(run[what][0], step);
        return `${run.name} ${plain(run[what][1][index])}`;
      });
      readout.textContent = `Step ${Math.round(step).toLocaleString("en")}, ${sayTitle().toLowerCase()}: ${near.join("; ") || "nothing"}`;
    }

    function leave() {
      at = null;
      cursor.setAttribute("visibility", "hidden");
      readout.textContent = "";
    }

    svg.addEventListener("pointermove", (event) => {
      if (!scales) return;
      const step = scales.x.invert(event.clientX - svg.getBoundingClientRect().left);
      if (step >= 0) sayAt(Math.min(step, scales.x.invert(width - MARGIN.right)));
    });
    svg.addEventListener("pointerleave", leave);
    svg.addEventListener("blur", leave);
    svg.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step || !scales || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      event.stopPropagation();
      const all = [...new Set(scales.runs.flatMap((run) => run[what][0]))].sort((one, other) => one - other);
      if (!all.length) return;
      const here = at === null ? -1 : nearest(all, at);
      sayAt(all[Math.min(Math.max(here + step, 0), all.length - 1)]);
    });
    return { root, show, resize: (newWidth) => { width = newWidth; svg.setAttribute("width", width); show(); } };
  }
}

/** Index of the value that is nearest to another. */
function nearest(values, wanted) {
  return values.reduce((best, each, index) => (Math.abs(each - wanted) < Math.abs(values[best] - wanted) ? index : best), 0);
}

// ---- The table

function makeTable(panel, model, highlight) {
  const heads = ["Run", "Status", "Steps", "Left", "Loss", "Score", ""];
  const body = make("tbody");
  const score = make("th", { scope: "col" });
  const head = make("tr", {}, ...heads.map((text) => (text === "Score" ? score : make("th", { scope: "col" }, text))));
  const more = make("p", { class: "gv-readout" });
  const table = make("table", { class: "gv-runs", "aria-label": "Runs" }, make("thead", {}, head), body);
  const rows = new Map();
  panel.follow(["metric"], () => (score.textContent = model.get("metric").replace(/^./, (first) => first.toUpperCase())));
  panel.follow(["runs", "n_hidden"], () => {
    const shown = model.get("runs");
    table.hidden = shown.length === 0;
    for (const name of [...rows.keys()]) {
      if (!shown.some((row) => row.name === name)) {
        rows.get(name).root.remove();
        rows.delete(name);
      }
    }
    shown.forEach((row, index) => {
      if (!rows.has(row.name)) rows.set(row.name, makeRow(row.name, model, highlight));
      const { root, show } = rows.get(row.name);
      if (body.children[index] !== root) body.insertBefore(root, body.children[index] ?? null);
      show(row);
    });
    const hidden = model.get("n_hidden");
    more.textContent = hidden ? `${hidden} older runs are not listed.` : "";
  });
  return make("div", { class: "gv-scroll" }, table, more);
}

function makeRow(name, model, highlight) {
  const swatch = make("span", { class: "gv-swatch" });
  const box = make("input", { type: "checkbox", "aria-label": `Draw ${name}` });
  box.addEventListener("change", () => set(model, { picks: { ...model.get("picks"), [name]: box.checked } }));
  const about = make("span", { class: "gv-about" });
  const state = make("span");
  const bar = make("progress", { "aria-label": `Progress of ${name}` });
  const steps = make("span");
  const left = make("td");
  const loss = make("td", { class: "gv-number" });
  const score = make("td", { class: "gv-number" });
  const message = make("p", { class: "gv-message" });
  const cancel = make("button", { type: "button", "aria-label": `Cancel ${name}` }, "Cancel");
  cancel.addEventListener("click", () => call(model, "cancel", name));
  const root = make("tr", {},
    make("th", { scope: "row" }, make("label", { class: "gv-run" }, box, swatch, make("span", { class: "gv-name" }, name)), about, message),
    make("td", {}, state), make("td", { class: "gv-steps" }, bar, steps), left, loss, score, make("td", { class: "gv-end" }, cancel));
  root.addEventListener("pointerenter", () => stress(highlight, name));
  root.addEventListener("pointerleave", () => stress(highlight, null));
  root.addEventListener("focusin", () => stress(highlight, name));
  root.addEventListener("focusout", () => stress(highlight, null));
  let look = "";

  function show(row) {
    box.checked = row.drawn;
    if (look !== row.color + row.dash) swatch.replaceChildren(makeSwatch(row));
    look = row.color + row.dash;
    swatch.style.visibility = row.drawn ? "visible" : "hidden";
    about.textContent = row.method ? `${row.method}, seed ${row.seed}, rate ${row.rate}` : "";
    state.textContent = row.stopping ? "stopping" : (STATES[row.status] ?? row.status);
    state.className = `gv-state gv-${row.status}`;
    message.textContent = row.message;
    message.hidden = !row.message;
    bar.max = Math.max(row.steps, 1);
    bar.value = row.step;
    bar.hidden = row.status !== "running";
    steps.textContent = row.steps ? `${row.step.toLocaleString("en")}/${row.steps.toLocaleString("en")}` : "";
    left.textContent = row.eta === null ? "" : sayTime(row.eta);
    loss.textContent = row.loss === null ? "" : plain(row.loss);
    score.textContent = row.score === null ? "" : plain(row.score);
    cancel.hidden = row.over;
    cancel.disabled = row.stopping;
    for (const [cell, label] of [[left, "left"], [loss, "loss"], [score, row.metric]]) cell.dataset.label = label;
  }
  return { root, show };
}

/** Seconds as a reader wants them. */
function sayTime(seconds) {
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
