// The figure: any quantity on either axis, the networks that two limits leave, and a way from each to its runs.

/** What is shown of a comparison: its points, of them those within the limits, and the axes. */
function selected(comparison, state) {
  const at = (name) => comparison.measures.findIndex((measure) => measure.name === name);
  const [x, y] = [at(state.x), at(state.y)];
  const limits = [[comparison.cost, state.cost], [comparison.loss, state.loss]].filter(([name, limit]) => name && limit !== undefined);
  const within = (point) => limits.every(([name, limit]) => {
    const figure = point.values[at(name)];
    return figure && figure[0] <= limit;
  });
  const drawn = comparison.points.filter((point) => point.values[x] && point.values[y]);
  return { x, y, drawn, kept: drawn.filter(within), limited: limits.length > 0 };
}

/** The traces of plotly. A marker's `customdata` is the id of the run that a click opens. */
function tracesOf(comparison, state) {
  const { x, y, kept } = selected(comparison, state);
  const [mx, my] = [comparison.measures[x], comparison.measures[y]];
  const valid = kept.filter((point) => point.valid);
  const traces = [];
  const front = paretoFront(valid.map((p) => [p.values[x][0], p.values[y][0]]), mx.better, my.better).map((i) => valid[i]);
  if (state.front && front.length > 1) {
    traces.push({
      type: "scatter", mode: "lines", name: "Pareto front", hoverinfo: "skip", x: front.map((p) => p.values[x][0]),
      y: front.map((p) => p.values[y][0]), line: { color: palette().front, width: 10 }, opacity: 0.55,
    });
  }
  comparison.methods.forEach((method, number) => {
    const color = inkOf(method.color);
    const own = valid.filter((point) => point.method === number).sort((a, b) => a.budget - b.budget);
    if (!own.length) return;
    if (state.seeds) {
      const runs = own.flatMap((point) => runsOf(comparison, point)).filter((run) => run.values[x] && run.values[y]);
      traces.push({
        type: "scatter", mode: "markers", showlegend: false, legendgroup: String(number), hoverinfo: "text",
        x: runs.map((run) => run.values[x][0]), y: runs.map((run) => run.values[y][0]), customdata: runs.map((run) => run.id),
        hovertext: runs.map((run) => hoverOf(run.key, run.values, x, y, comparison, "click: this run")),
        marker: { symbol: method.symbol, size: 7, color, opacity: 0.45 },
      });
    }
    traces.push({
      type: "scatter", mode: own.length > 1 ? "lines+markers" : "markers", name: literal(method.label), legendgroup: String(number),
      x: own.map((p) => p.values[x][0]), y: own.map((p) => p.values[y][0]), customdata: own.map((p) => runsOf(comparison, p)[0].id),
      error_x: bars(own, x, color, state), error_y: bars(own, y, color, state), hoverinfo: "text",
      hovertext: own.map((p) => hoverOf(`${method.label}, ${percent(p.budget)} of the ${p.counts}`, p.values, x, y, comparison,
        p.runs === 1 ? "one seed · click: its run" : `mean over ${p.runs} seeds, [95 % interval] · click: its runs`)),
      line: { color, width: 2, dash: method.dense ? "dash" : "solid" },
      marker: { symbol: method.symbol, size: 13, color, line: { color: palette().card, width: 1.5 } },
    });
  });
  const invalid = kept.filter((point) => !point.valid);
  if (invalid.length) {
    traces.push({
      type: "scatter", mode: "markers", name: "invalid", hoverinfo: "text", x: invalid.map((p) => p.values[x][0]),
      y: invalid.map((p) => p.values[y][0]), customdata: invalid.map((p) => runsOf(comparison, p)[0].id),
      hovertext: invalid.map((p) => hoverOf(`${comparison.methods[p.method].label}, invalid`, p.values, x, y, comparison, "click: why")),
      marker: { symbol: "x-thin", size: 11, line: { width: 2.5, color: invalid.map((p) => inkOf(comparison.methods[p.method].color)) } },
    });
  }
  return traces;
}

function bars(points, at, color, state) {
  const known = points.map((point) => point.values[at]).map((f) => (f.length === 3 ? [f[2] - f[0], f[0] - f[1]] : [0, 0]));
  return {
    type: "data", visible: state.intervals && known.some(([up, down]) => up + down > 0), symmetric: false, color, thickness: 1.5, width: 4,
    array: known.map(([up]) => Math.max(0, up)), arrayminus: known.map(([, down]) => Math.max(0, down)),
  };
}

function hoverOf(title, values, x, y, comparison, foot) {
  const line = (at) => `${literal(placed(comparison.measures[at]))}: <b>${bounded(values[at], comparison.measures[at].unit)}</b>`;
  return [`<b>${literal(title)}</b>`, line(x), ...(y === x ? [] : [line(y)]), `<i>${literal(foot)}</i>`].join("<br>");
}

/** From the points themselves, so that limits and wide intervals move nothing. */
function rangeOf(comparison, at, state) {
  const figures = comparison.points.map((point) => point.values[at]).filter(Boolean);
  const runs = state.seeds ? comparison.runs.map((run) => run.values[at]).filter(Boolean) : [];
  const values = [...figures, ...runs].map((figure) => figure[0]);
  let [low, high] = [Math.min(...values), Math.max(...values)];
  const size = high - low || Math.abs(high) * 0.1 || 1;
  if (state.intervals) { // an interval of two seeds is many times as wide as all the rest
    for (const [, below, above] of figures.filter((figure) => figure.length === 3)) {
      low = Math.min(low, Math.max(below, low - size / 2));
      high = Math.max(high, Math.min(above, high + size / 2));
    }
  }
  const edge = (high - low || size) * 0.07;
  return [low - edge, high + edge];
}

/** Where the dense network lies, as lines across the figure. */
function denseLines(comparison, x, y) {
  const colors = palette();
  const dense = comparison.points.find((p) => comparison.methods[p.method].dense && p.valid && p.values[x] && p.values[y]);
  if (!dense) return [];
  const style = { color: colors.soft, width: 1, dash: "dot" };
  return [
    { type: "line", xref: "paper", x0: 0, x1: 1, y0: dense.values[y][0], y1: dense.values[y][0], line: style, layer: "below" },
    { type: "line", yref: "paper", y0: 0, y1: 1, x0: dense.values[x][0], x1: dense.values[x][0], line: style, layer: "below" },
  ];
}

function drawExplorer(place, comparison, state) {
  const { x, y } = selected(comparison, state);
  const titled = (at) => `${placed(comparison.measures[at])} · ${comparison.measures[at].better} is better`;
  return draw(place, tracesOf(comparison, state), layout({
    xaxis: axis(titled(x), { range: rangeOf(comparison, x, state) }), yaxis: axis(titled(y), { range: rangeOf(comparison, y, state) }),
    shapes: denseLines(comparison, x, y), hovermode: "closest", uirevision: `${comparison.name} ${state.x} ${state.y}`,
  }));
}

/** One sentence: what is left of the networks, for everybody and for a screen reader. */
function inWords(comparison, state) {
  const { drawn, kept, limited } = selected(comparison, state);
  const pruned = (points) => points.filter((point) => point.valid && !comparison.methods[point.method].dense);
  const [all, left] = [pruned(drawn), pruned(kept)];
  if (!limited) return `${plural(all.length, "pruned network")} of ${plural(new Set(all.map((p) => p.method)).size, "method")}.`;
  const methods = [...new Set(left.map((point) => comparison.methods[point.method].label))];
  const names = methods.length ? `: ${methods.join(", ")}` : "";
  const of = comparison.measures.find((measure) => measure.name === comparison.cost);
  const what = of && state.cost !== undefined ? ` of ${of.label.charAt(0).toLowerCase()}${of.label.slice(1)}, ${of.group.replace("Inference, ", "")}` : "";
  return `${left.length} of ${plural(all.length, "pruned network")} within the limits${names}. Limits are for means over seeds${what}.`;
}
