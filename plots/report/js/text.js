// How numbers, quantities and elements are written. Text of records becomes text nodes only, never HTML.

const NOTHING = "–";

/** Two decimals where seeds differ by hundredths, else three significant digits. */
function written(value, unit) {
  if (value === null || value === undefined) return NOTHING;
  if (/^(%|points|× dense|% of dense)/.test(unit)) return value.toFixed(2).replace("-", "−");
  const digits = value === 0 ? 0 : Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))));
  const options = { minimumFractionDigits: Math.min(digits, 9), maximumFractionDigits: Math.min(digits, 9) };
  return value.toLocaleString("en", options).replace("-", "−");
}

/** "85.00 [84.10, 85.90]": a figure with its interval, where it has one. */
function bounded(figure, unit) {
  if (!figure) return NOTHING;
  const [value, low, high] = figure;
  return written(value, unit) + (low === undefined ? "" : ` [${written(low, unit)}, ${written(high, unit)}]`);
}

/** The name of a quantity with its unit, as in a list under its group. */
function named(measure) {
  return measure.unit ? `${measure.label}, ${measure.unit}` : measure.label;
}

/** The same where no group stands above it, as on an axis: of inference with its runtime and batch. */
function placed(measure) {
  const place = measure.group.startsWith("Inference, ") ? ` (${measure.group.replace("Inference, ", "")})` : "";
  return named({ ...measure, label: measure.label + place });
}

function percent(fraction) {
  return `${Number((fraction * 100).toPrecision(6))} %`;
}

function plural(count, noun) {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

/** Text for plotly, which reads a few tags: none of a record's may be one. */
function literal(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

/** An element with attributes and children (elements, or text). */
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

/** A table of text; a cell that is an array is [text or element, number to sort by]. */
function tableOf(headings, rows, { caption, sortable = false } = {}) {
  const head = headings.map((heading) =>
    element("th", { scope: "col" }, sortable ? element("button", { type: "button" }, heading) : heading));
  const body = rows.map((row) => element("tr", {}, ...row.map((cell) => {
    const [content, number] = Array.isArray(cell) ? cell : [cell, undefined];
    return element("td", number === undefined ? {} : { class: "number", "data-number": number }, content);
  })));
  const table = element("table", sortable ? { class: "sortable" } : {},
    element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...body));
  if (caption) table.prepend(element("caption", {}, caption));
  if (sortable) makeSortable(table);
  return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption ?? "Table" }, table);
}
