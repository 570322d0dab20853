// The page of one run, in a dialog. Its data is packed (JSON, deflated, base 64) until somebody opens it.

async function unpacked(number) {
  const text = document.getElementById(`run-${number}`).textContent.trim();
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text());
}

/** Fill the dialog with one run; `others` are the runs of the same network with other seeds. */
async function showRun(dialog, comparison, run, others, linkTo, records) {
  const data = await unpacked(run.id);
  const body = dialog.querySelector(".body");
  for (const plot of body.querySelectorAll(".plot")) Plotly.purge(plot);
  dialog.querySelector("h2").textContent = run.key;
  const seeds = element("p", { class: "seeds" }, "Seeds of this network: ", ...others.map((other) =>
    element("a", { href: linkTo(other), "data-run": other.id, "aria-current": other === run ? "true" : null }, String(other.seed))));
  body.replaceChildren(seeds, factList(data.facts));
  if (data.warnings.length) {
    body.append(element("div", { class: "warned" }, element("h3", {}, plural(data.warnings.length, "warning")),
      element("ul", {}, ...data.warnings.map((text) => element("li", {}, text)))));
  }
  const later = [];
  if (data.curve) later.push(curve(body, data.curve, comparison.score));
  if (data.gates) gatesPart(body, data.gates);
  if (data.layers.length) later.push(layers(body, data.layers, inkOf(comparison.methods[comparison.points[run.point].method].color)));
  if (data.power) later.push(power(body, data.power));
  body.append(element("h3", {}, "Ledger"), element("p", { class: "note" }, `Allowed: ${data.ledger.allowed}. Every phase is charged.`),
    tableOf(data.ledger.headings, data.ledger.rows, { caption: "What each phase spent" }));
  if (data.energy.length) {
    body.append(element("h3", {}, "Energy"),
      tableOf(["Phase", "Kind", "kJ, with bounds", "Over"], data.energy, { caption: "Joules of each phase" }));
  }
  if (data.inference.length) {
    body.append(element("h3", {}, "Inference, beside the dense network"),
      tableOf(["At", "ms", "Dense, ms", "Time, × dense", "Joules, × dense"], data.inference, { caption: "Inference" }));
  }
  body.append(element("h3", {}, "Environment"), factList(data.environment));
  body.append(element("h3", {}, "Exact command"), commandPart(data.command, data.overrides));
  if (records) {
    body.append(element("p", {}, element("a", { href: records + run.file }, "The record (JSON)")));
  }
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  for (const drawn of later) drawn(); // a plot needs a place that has a size
}

function factList(facts) {
  return element("dl", {}, ...facts.map(([name, value]) =>
    element("div", {}, element("dt", {}, name.replaceAll("_", " ")), element("dd", {}, value))));
}

function commandPart(command, overrides) {
  const code = element("code", {}, command);
  const copy = element("button", { type: "button", class: "copy" }, "Copy");
  copy.addEventListener("click", async () => {
    getSelection().selectAllChildren(code);
    try {
      await navigator.clipboard.writeText(command);
      copy.textContent = "Copied";
    } catch { // a page that is opened as a file may not; what is selected can be copied by hand
      copy.textContent = "Selected";
    }
  });
  const told = overrides.length ? [element("p", { class: "note" }, `Changed in the suite: ${overrides.join("; ")}.`)] : [];
  return element("div", {}, element("div", { class: "command" }, element("pre", { tabindex: "0" }, code), copy), ...told);
}

/** A heading, a place for a plot, and the table behind it; returns what draws into the place. */
function plotted(body, title, height, table, drawInto) {
  const place = element("div", { class: "plot", style: `height:${height}px` });
  body.append(element("h3", {}, title), place, element("details", {}, element("summary", {}, `Table: ${title.toLowerCase()}`), table));
  return () => drawInto(place);
}

function curve(body, data, score) {
  const rows = data.epoch.map((epoch, i) => [String(epoch), data.phase[i], written(data.loss[i], ""), written(data.train[i], score.unit),
    written(data.holdout[i], score.unit), written(data.kept[i], "%"), written(data.seconds[i], "s")]);
  const unit = score.unit ? `, ${score.unit}` : "";
  const headings = ["Epoch", "Phase", "Loss", `Training ${score.name}${unit}`, `Held-out ${score.name}${unit}`, "MACs kept, %", "Seconds"];
  return plotted(body, "Learning curve", 320, tableOf(headings, rows, { caption: "Learning curve" }), (place) => {
    const line = (name, y, color, more = {}) =>
      ({ type: "scatter", mode: "lines+markers", x: data.epoch, y, name, line: { color }, marker: { size: 5 }, ...more });
    draw(place, [
      line(`training ${score.name}`, data.train, inkOf("#0072B2")),
      line(`held-out ${score.name}`, data.holdout, "#D55E00"),
      line("loss (right)", data.loss, palette().soft, { yaxis: "y2", line: { color: palette().soft, dash: "dot" } }),
    ], layout({
      xaxis: axis("Epoch", data.epoch.length > 12 ? {} : { dtick: 1 }), yaxis: axis(`${score.name}${unit}`),
      yaxis2: axis("Loss", { overlaying: "y", side: "right", showgrid: false, rangemode: "tozero" }), hovermode: "x unified",
    }));
  });
}

function gatesPart(body, gates) {
  body.append(element("h3", {}, "Gates over time"),
    element("p", { class: "note" }, "A row for each gate, time goes to the right: orange is open, white undecided, blue closed."),
    gatesCanvas(gates), element("details", {}, element("summary", {}, "Table: gates over time"), gatesTable(gates)));
}

function layers(body, rows, color) {
  const table = tableOf(["Layer", "Channels before", "After", "Kept"], rows.map(([name, dense, kept]) =>
    [name, String(dense), String(kept), dense ? `${Math.round((100 * kept) / dense)} %` : NOTHING]), { caption: "Channels of each layer" });
  return plotted(body, "Architecture before and after", 340, table, (place) => {
    const names = rows.map(([name]) => literal(name));
    draw(place, [
      { type: "bar", x: names, y: rows.map(([, dense]) => dense), name: "before", marker: { color: "rgba(0,0,0,0)", line: { color: palette().soft, width: 1 } } },
      { type: "bar", x: names, y: rows.map(([, , kept]) => kept), name: "after", marker: { color } },
    ], layout({ barmode: "overlay", xaxis: axis("", { type: "category", tickangle: -90, showgrid: false }), yaxis: axis("Output channels") }));
  });
}

const SOURCES = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"];

function power(body, data) {
  const rows = data.sources.map((source) => {
    const known = source.watts.filter((watts) => watts !== null);
    const mean = known.length ? known.reduce((sum, watts) => sum + watts, 0) / known.length : null;
    return [source.name, written(mean, "W"), written(known.length ? Math.max(...known) : null, "W")];
  });
  return plotted(body, "Power over time", 320, tableOf(["Source", "Mean, W", "Highest, W"], rows, { caption: "Power" }), (place) => {
    const colors = palette();
    draw(place, data.sources.map((source, i) => ({
      type: "scatter", mode: "lines", x: source.seconds.map((s) => s / 60), y: source.watts, name: literal(source.name),
      line: { shape: "vh", width: 1.5, color: inkOf(SOURCES[i % SOURCES.length]) }, connectgaps: false,
    })), layout({
      xaxis: axis("Time since the run began, min", { showgrid: false }), yaxis: axis("Power, W", { rangemode: "tozero" }),
      shapes: data.phases.map(([, from, to], i) => ({
        type: "rect", xref: "x", yref: "paper", x0: from / 60, x1: to / 60, y0: 0, y1: 1, layer: "below", line: { width: 0 },
        fillcolor: colors.line, opacity: i % 2 ? 0.15 : 0.4,
      })),
      annotations: data.phases.map(([name, from]) => ({
        x: from / 60, y: 1, xref: "x", yref: "paper", text: literal(name), showarrow: false, xanchor: "left", yanchor: "top", font: { color: colors.soft, size: 11 },
      })),
    }));
  });
}
