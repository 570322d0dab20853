// The table behind the figure: the same networks, for the keyboard, for screen readers, and for whoever wants the digits.

/** A row for each network that is shown, with a link to each of its runs. */
function tableBehind(comparison, shown, measures, linkTo) {
  const headings = ["Method", "Budget", ...measures.map(named), "Runs (by seed)"];
  const rows = shown.map((point) => [
    comparison.methods[point.method].label + (point.valid ? "" : " (invalid)"),
    [percent(point.budget), point.budget],
    ...measures.map((measure) => {
      const figure = point.values[comparison.measures.indexOf(measure)];
      return [bounded(figure, measure.unit), figure ? figure[0] : "nan"];
    }),
    element("span", { class: "seeds" }, ...runsOf(comparison, point).map((run) =>
      element("a", { href: linkTo(run), "data-run": run.id, "aria-label": `run ${run.key}` }, String(run.seed)))),
  ]);
  return tableOf(headings, rows, { caption: "Behind the figure", sortable: true });
}

function runsOf(comparison, point) {
  const number = comparison.points.indexOf(point);
  return comparison.runs.filter((run) => run.point === number).sort((a, b) => a.seed - b.seed);
}
