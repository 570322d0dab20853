// The controls, the address and the figure kept in step.

const DEFAULTS = { seeds: false, intervals: true, front: true };
const STEPS = 100; // of a limit

function start() {
  for (const table of document.querySelectorAll("table.sortable")) makeSortable(table);
  for (const closed of document.querySelectorAll("details[data-printed]")) closed.open = false; // open for those without scripts
  addEventListener("beforeprint", () => document.querySelectorAll("details[data-printed]").forEach((part) => { part.open = true; }));
  const data = JSON.parse(document.getElementById("data").textContent);
  if (data.comparisons.length) startExplorer(data);
}

function startExplorer(data) {
  const root = document.getElementById("explorer");
  const control = (name) => root.querySelector(`[name="${name}"]`);
  const dialog = document.getElementById("run");
  const place = document.getElementById("figure");
  let comparison = data.comparisons[0];
  let state = {};
  let opener = null;
  root.hidden = false;
  document.documentElement.classList.add("explored");

  const address = (run) => ({
    part: comparison === data.comparisons[0] ? undefined : comparison.name,
    x: state.x === comparison.x ? undefined : state.x,
    y: state.y === comparison.y ? undefined : state.y,
    ...Object.fromEntries(Object.keys(DEFAULTS).map((name) => [name, state[name] === DEFAULTS[name] ? undefined : Number(state[name])])),
    cost: state.cost, loss: state.loss, run: run?.key,
  });
  const linkTo = (run) => `#${new URLSearchParams(Object.entries(address(run)).filter(([, value]) => value !== undefined))}`;

  function fromAddress() {
    const told = readAddress();
    const has = (each) => each.runs.some((run) => run.key === told.run);
    comparison = data.comparisons.find((each) => each.name === told.part) ?? data.comparisons.find(has) ?? data.comparisons[0];
    const known = (name, otherwise) => (comparison.measures.some((measure) => measure.name === name) ? name : otherwise);
    const number = (text) => (text === undefined || text === "" || !Number.isFinite(Number(text)) ? undefined : Number(text));
    state = { x: known(told.x, comparison.x), y: known(told.y, comparison.y), cost: number(told.cost), loss: number(told.loss) };
    for (const [name, value] of Object.entries(DEFAULTS)) state[name] = told[name] === undefined ? value : told[name] === "1";
    show();
    const run = comparison.runs.find((each) => each.key === told.run);
    if (run) openRun(run);
    else if (dialog.open) dialog.close();
  }

  function openRun(run) {
    const others = runsOf(comparison, comparison.points[run.point]);
    return showRun(dialog, comparison, run, others, linkTo, data.records);
  }

  function visit(run) {
    if (!dialog.open) opener = document.activeElement;
    writeAddress(address(run), true);
    return openRun(run);
  }

  function changed() {
    writeAddress(address(null));
    show();
  }

  function show() {
    for (const answer of document.querySelectorAll("[data-answer]")) answer.hidden = answer.dataset.answer !== comparison.name;
    fill();
    drawExplorer(place, comparison, state);
    document.getElementById("in-words").textContent = inWords(comparison, state);
    const wanted = [state.x, state.y, comparison.cost, comparison.loss].filter(Boolean);
    const measures = comparison.measures.filter((measure) => wanted.includes(measure.name));
    document.getElementById("behind").replaceChildren(tableBehind(comparison, selected(comparison, state).kept, measures, linkTo));
  }

  /** The controls as the state has them. */
  function fill() {
    for (const name of ["x", "y"]) choices(control(name), comparison.measures, state[name]);
    if (control("part")) control("part").value = comparison.name;
    for (const name of Object.keys(DEFAULTS)) control(name).checked = state[name];
    for (const name of ["cost", "loss"]) fillLimit(name);
  }

  function fillLimit(name) {
    const slider = control(name);
    const measure = comparison.measures.find((each) => each.name === comparison[name]);
    slider.closest("label").hidden = !measure;
    if (!measure) return;
    const [low, high] = spanOf(name);
    const value = state[name] === undefined ? STEPS : Math.round((STEPS * (state[name] - low)) / (high - low || 1));
    slider.value = Math.max(0, Math.min(STEPS, value));
    const told = state[name] === undefined ? "any" : written(state[name], measure.unit);
    const label = slider.closest("label");
    slider.setAttribute("aria-valuetext", told === "any" ? told : `${told} ${measure.unit}`);
    label.querySelector(".what").textContent = name === "loss" ? `At most … ${measure.unit} lost` : `At most … ${measure.unit}`;
    label.querySelector("output").textContent = told;
  }

  /** From the cheapest to the dearest network, of the quantity that a limit is for. */
  function spanOf(name) {
    const at = comparison.measures.findIndex((measure) => measure.name === comparison[name]);
    const values = comparison.points.map((point) => point.values[at]).filter(Boolean).map((figure) => figure[0]);
    return [Math.min(...values), Math.max(...values)];
  }

  for (const name of ["x", "y"]) control(name).addEventListener("change", (event) => { state[name] = event.target.value; changed(); });
  for (const name of Object.keys(DEFAULTS)) control(name).addEventListener("change", (event) => { state[name] = event.target.checked; changed(); });
  for (const name of ["cost", "loss"]) {
    control(name).addEventListener("input", (event) => {
      const [low, high] = spanOf(name);
      const share = Number(event.target.value) / STEPS;
      state[name] = share === 1 ? undefined : Number((low + share * (high - low)).toPrecision(4));
      changed();
    });
  }
  control("part")?.addEventListener("change", (event) => {
    writeAddress({ part: event.target.value });
    fromAddress();
  });
  root.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
  root.querySelector("form").addEventListener("reset", (event) => {
    event.preventDefault();
    writeAddress({ part: comparison === data.comparisons[0] ? undefined : comparison.name });
    fromAddress();
  });
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[data-run]");
    if (!link) return;
    event.preventDefault();
    visit(comparison.runs.find((run) => run.id === Number(link.dataset.run)));
  });
  dialog.querySelector(".close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => {
    if (readAddress().run) writeAddress(address(null));
    const again = opener?.dataset?.run && root.querySelector(`#behind a[data-run="${opener.dataset.run}"]`);
    (opener?.isConnected ? opener : again)?.focus?.(); // the table may have been made anew meanwhile
  });
  addEventListener("popstate", fromAddress);
  addEventListener("hashchange", fromAddress);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
  fromAddress();
  place.on("plotly_click", ({ points }) => {
    const run = comparison.runs.find((each) => each.id === points[0].customdata);
    if (run) visit(run);
  });
}

/** The options of a selection, in the groups of the quantities. */
function choices(select, measures, chosen) {
  const groups = new Map();
  for (const measure of measures) groups.set(measure.group, [...(groups.get(measure.group) ?? []), measure]);
  select.replaceChildren(...[...groups].map(([group, own]) => element("optgroup", { label: group },
    ...own.map((measure) => element("option", { value: measure.name }, named(measure))))));
  select.value = chosen;
}

start();
