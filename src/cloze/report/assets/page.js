"use strict";
// The page's charts and sorting. Texts reach the page by textContent only, and Plotly (which reads a little HTML) gets them escaped.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const at = id => document.getElementById(id);
  const COLOURS = 7, DASHES = ["solid", "dash", "dot", "dashdot"], BORDERS = ["solid", "dashed", "dotted", "double"];
  const AXES = {step: "steps", tokens: "tokens", flops: "FLOPs", seconds: "seconds"};
  const variable = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const plain = text => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const number = new Map(data.arms.map((arm, n) => [arm.name, n]));
  const colour = n => variable(`--arm-${n % COLOURS}`);
  const dash = n => DASHES[Math.floor(n / COLOURS) % DASHES.length];
  const hidden = new Set();

  for (const swatch of document.querySelectorAll(".swatch")) paint(swatch, number.get(swatch.dataset.arm));
  function paint(swatch, n) {
    if (n === undefined) return;
    swatch.style.borderTopColor = `var(--arm-${n % COLOURS})`;
    swatch.style.borderTopStyle = BORDERS[Math.floor(n / COLOURS) % BORDERS.length];
  }

  // --- tables -----------------------------------------------------------------------------------------------------------

  for (const table of document.querySelectorAll("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => sort(table, head, column));
    });
  }
  function sort(table, head, column) {
    const rising = head.getAttribute("aria-sort") !== "ascending";
    for (const each of table.tHead.rows[0].cells) each.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", rising ? "ascending" : "descending");
    const keyed = [...table.tBodies[0].rows].map(row => [key(row.cells[column]), row]);
    keyed.sort(([a], [b]) => {
      if ((a === "") !== (b === "")) return a === "" ? 1 : -1;  // what is missing comes last, either way
      const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", {numeric: true});
      return rising ? order : -order;
    });
    table.tBodies[0].append(...keyed.map(([, row]) => row));
  }
  function key(cell) {
    const text = (cell.dataset.sort ?? cell.textContent).trim().replace(/^–$/, "");
    const value = Number(text.replace("−", "-").replace(/,(?=\d{3})/g, ""));
    return text !== "" && !Number.isNaN(value) ? value : text;
  }

  if (!at("curves") || typeof Plotly === "undefined") return;

  // --- what is drawn ------------------------------------------------------------------------------------------------------

  function line(run, metric, axis) {
    const found = run.curves[metric];
    if (!found) return null;
    const grid = run.grids[found[0]];
    const factor = axis === "flops" ? grid.rate : 1;
    if (!factor) return null;
    const xs = grid[axis === "flops" ? "tokens" : axis];
    const kept = xs.map((x, n) => n).filter(n => xs[n] !== null);
    return {steps: kept.map(n => grid.step[n]), x: kept.map(n => xs[n] * factor), y: kept.map(n => found[1][n])};
  }
  function smoothed(values, weight) {  // an exponential mean that does not lean to its first value
    if (!weight) return values;
    let sum = 0, count = 0;
    return values.map(value => (sum = weight * sum + (1 - weight) * value) / (count = weight * count + (1 - weight)));
  }
  function lines(arm, metric, axis, weight) {
    return arm.runs.map(run => ({run, ...line(run, metric, axis)})).filter(each => each.x && each.x.length)
      .map(each => ({...each, y: smoothed(each.y, weight)}));
  }
  function mean(all) {  // at the steps that all of them have; x is the mean of theirs
    const places = all.map(each => new Map(each.steps.map((step, n) => [step, n])));
    const steps = all[0].steps.filter(step => places.every(place => place.has(step)));
    const out = {x: [], y: [], low: [], high: [], n: all.length};
    for (const step of steps) {
      const ns = places.map(place => place.get(step));
      const ys = all.map((each, i) => each.y[ns[i]]), y = ys.reduce((a, b) => a + b) / ys.length;
      const spread = ys.length > 1 ? Math.sqrt(ys.reduce((sum, v) => sum + (v - y) ** 2, 0) / (ys.length - 1)) : 0;
      out.x.push(all.reduce((sum, each, i) => sum + each.x[ns[i]], 0) / all.length);
      out.y.push(y); out.low.push(y - spread); out.high.push(y + spread);
    }
    return out;
  }
  function layout(x, y, logX, logY) {
    const axis = (title, log) => ({
      title: {text: plain(title)}, type: log ? "log" : "linear", gridcolor: variable("--grid"), linecolor: variable("--line"),
      zerolinecolor: variable("--line"), automargin: true, ...(title === "FLOPs" ? {tickformat: "~e"} : {exponentformat: "SI", minexponent: 4}),
    });
    return {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: {color: variable("--text"), family: "system-ui, sans-serif", size: 13},
      modebar: {bgcolor: "rgba(0,0,0,0)", color: variable("--quiet"), activecolor: variable("--text")}, margin: {l: 60, r: 20, t: 30, b: 50}, showlegend: false, hovermode: "closest", xaxis: axis(x, logX), yaxis: axis(y, logY),
      hoverlabel: {bgcolor: variable("--raised"), bordercolor: variable("--line"), font: {color: variable("--text")}, namelength: -1},
    };
  }
  const config = {responsive: true, displaylogo: false, showSendToCloud: false, plotlyServerURL: "", modeBarButtons: [["toImage", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]]};
  const faint = (hex, share) => `rgba(${[1, 3, 5].map(n => parseInt(hex.slice(n, n + 2), 16)).join(",")},${share})`;
  const shown = () => data.arms.map((arm, n) => [arm, n]).filter(([arm]) => !hidden.has(arm.name));

  function unlike(metric) {
    if (data.objectives.length < 2 || !/loss|perplexity|bits/.test(metric)) return [];
    return [`The arms learn by other objectives (${data.objectives.join(", ")}): their losses are of different things.`];
  }

  function drawCurves() {
    const metric = at("metric").value, axis = at("axis").value, weight = Number(at("smoothing").value);
    const logY = at("log-y").checked, traces = [];
    let over = 0, without = [];
    for (const [arm, n] of shown()) {
      const all = lines(arm, metric, axis, weight);
      if (!all.length) { without.push(arm.name); continue; }
      const average = mean(all), name = plain(arm.name);
      over = Math.max(over, average.n);
      if (at("band").checked && average.n > 1) {
        const low = logY ? average.low.map((v, i) => v > 0 ? v : average.y[i]) : average.low;
        traces.push({x: [...average.x, ...average.x.slice().reverse()], y: [...average.high, ...low.slice().reverse()], mode: "lines",
          fill: "toself", fillcolor: faint(colour(n), .16), line: {width: 0}, hoverinfo: "skip", name, meta: "band"});
      }
      if (at("seeds").checked || !average.x.length) {
        for (const each of all) traces.push({x: each.x, y: each.y, mode: "lines", line: {color: colour(n), width: 1, dash: dash(n)}, opacity: .6,
          name: `${name}, seed ${each.run.seed ?? "–"}`, meta: "seed"});
      }
      traces.push({x: average.x, y: average.y, mode: average.x.length > 1 ? "lines" : "markers", line: {color: colour(n), width: 2, dash: dash(n)},
        marker: {color: colour(n), size: 7}, name, meta: "mean"});
    }
    at("smoothness").value = weight.toFixed(2);
    Plotly.react("curves", traces, layout(AXES[axis], metric, at("log-x").checked, logY), config);
    const notes = [];
    if (over > 1) notes.push("Line: the mean over the seeds, at the steps that all of them logged. Band: ± one standard deviation over these seeds.");
    if (weight) notes.push(`Each seed's line is smoothed by an exponential mean (${weight.toFixed(2)}) before.`);
    if (data.thinned) notes.push(`At most ${data.points} points of a line are on this page, evenly chosen; figures in tables come from all.`);
    if (without.length) notes.push(`Without ${metric}${axis === "flops" ? " or without FLOPs a token" : ""}: ${without.join(", ")}.`);
    if (data.torn.length) notes.push(`Lines of metrics.jsonl that cannot be read are left out: ${data.torn.join(", ")}.`);
    notes.push(...unlike(metric));
    at("curves-note").textContent = notes.join(" ");
  }

  const compute = data.arms.every(arm => arm.runs.every(run => run.rate)) ? "flops" : "tokens";  // one axis for all arms
  function drawFrontier() {
    const metric = at("frontier-metric").value, lower = data.lower[metric], traces = [], points = [], without = [];
    for (const [arm, n] of shown()) {
      const all = lines(arm, metric, compute, 0);
      if (!all.length) { without.push(arm.name); continue; }
      const average = mean(all);
      average.x.forEach((x, i) => { if (x > 0) points.push({x, y: average.y[i], arm: arm.name}); });
      traces.push({x: average.x, y: average.y, mode: average.x.length > 30 ? "lines" : "lines+markers", line: {color: colour(n), width: 1.5, dash: dash(n)},
        marker: {color: colour(n), size: 5}, name: plain(arm.name)});
    }
    points.sort((a, b) => a.x - b.x || (lower ? a.y - b.y : b.y - a.y));
    const best = [];
    for (const point of points) if (!best.length || (lower ? point.y < best.at(-1).y : point.y > best.at(-1).y)) best.push(point);
    if (best.length) {
      const last = points.at(-1).x, end = best.at(-1);
      const stairs = [...best, {...end, x: last}];
      traces.unshift({x: stairs.map(p => p.x), y: stairs.map(p => p.y), text: stairs.map(p => plain(p.arm)), mode: "lines", line: {color: variable("--text"), width: 7, shape: "hv"},
        opacity: .22, name: "frontier", hovertemplate: "frontier: %{y:.4g} at %{x:.3g}, %{text}<extra></extra>", meta: "frontier"});
    }
    const dense = points.length && points.at(-1).x / points[0].x > 20;
    Plotly.react("frontier", traces, layout(AXES[compute], metric, dense, false), config);
    const arms = [...new Set(best.map(point => point.arm))];
    const notes = [`Wide and grey: the ${lower ? "lowest" : "highest"} mean over seeds that any arm shown had reached with so much compute${arms.length ? `; on it: ${arms.join(", ")}` : ""}.`];
    if (compute === "tokens") notes.push("Not all of these runs say their FLOPs a token, so compute is counted in tokens.");
    if (without.length) notes.push(`Without ${metric}: ${without.join(", ")}.`);
    notes.push(...unlike(metric));
    at("frontier-note").textContent = notes.join(" ");
  }

  function drawParallel() {
    const {axes, lines: all, left_out: out} = data.parallel;
    if (!all.length) return;
    at("parallel-part").hidden = false;
    const traces = all.filter(each => !hidden.has(each.arm)).map(each => {
      const n = number.get(each.arm);
      return {x: axes.map((_, i) => i), y: each.places, mode: "lines+markers", line: {color: colour(n), width: 1.5, dash: dash(n)}, marker: {color: colour(n), size: 5}, opacity: .75,
        name: `${plain(each.arm)}, seed ${each.seed}`, hovertemplate: "%{fullData.name}<extra></extra>"};
    });
    const look = layout("", "", false, false);
    const broken = title => plain(title).replace(/\.(?=[^.]*$)/, ".<br>");
    Object.assign(look.xaxis, {tickmode: "array", tickvals: axes.map((_, i) => i), ticktext: axes.map(axis => broken(axis.title)), side: "top", showgrid: false, showline: false, range: [-.25, axes.length - .5], fixedrange: true, zeroline: false});
    Object.assign(look.yaxis, {visible: false, range: [-.06, 1.06], fixedrange: true});
    look.margin = {l: 20, r: 20, t: 50, b: 20};
    look.shapes = axes.map((_, i) => ({type: "line", x0: i, x1: i, y0: 0, y1: 1, line: {color: variable("--quiet"), width: 1}, layer: "below"}));
    look.annotations = axes.flatMap((axis, i) => axis.ticks.map(([y, text]) => ({x: i, y, text: plain(text), showarrow: false, xanchor: "left", xshift: 6, font: {size: 11, color: variable("--quiet")}, bgcolor: variable("--ground")})));
    Plotly.react("parallel", traces, look, {...config, displayModeBar: false});
    at("parallel-note").textContent = "A line is a run." + (out.length ? ` Left out for want of room: ${out.join(", ")}.` : "");
  }

  // --- what moves it ---------------------------------------------------------------------------------------------------------

  data.arms.forEach((arm, n) => {
    const label = document.createElement("label"), box = document.createElement("input"), swatch = document.createElement("span");
    box.type = "checkbox"; box.checked = true; box.value = arm.name;
    swatch.className = "swatch"; paint(swatch, n);
    label.append(box, swatch, arm.name);
    box.addEventListener("change", () => { box.checked ? hidden.delete(arm.name) : hidden.add(arm.name); draw(); });
    at("legend").append(label);
  });
  for (const [id, metrics] of [["metric", data.curve_metrics], ["frontier-metric", data.frontier_metrics]]) at(id).append(...metrics.map(metric => new Option(metric, metric)));
  if (!data.arms.some(arm => arm.runs.some(run => run.rate))) at("axis").querySelector("[value=flops]").disabled = true;
  for (const id of ["metric", "axis", "log-x", "log-y", "band", "seeds"]) at(id).addEventListener("change", drawCurves);
  at("smoothing").addEventListener("input", drawCurves);
  at("frontier-metric").addEventListener("change", drawFrontier);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  function draw() {
    drawCurves();
    setTimeout(() => { if (!at("frontier-part").hidden) drawFrontier(); drawParallel(); });  // what was asked for is seen first
  }
  at("legend").hidden = data.arms.length < 2;
  at("frontier-part").hidden = data.arms.length < 2 || !data.frontier_metrics.length;
  if (!data.arms.some(arm => arm.runs.length > 1)) for (const id of ["band", "seeds"]) at(id).parentElement.hidden = true;
  draw();
})();
