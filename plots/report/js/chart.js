// Figures by plotly, in the colours of the page.

/** The colours of the page as they are now, light or dark. */
function palette() {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue(`--${name}`).trim();
  return { text: of("text"), soft: of("soft"), line: of("line"), card: of("card"), front: of("front"), accent: of("accent") };
}

const ON_DARK = { "#6E6E6E": "#A0A0A0", "#332288": "#9A8CF0", "#882255": "#D977A6", "#661100": "#D98C7A", "#0072B2": "#4DA8DE" };

/** A method's colour: black is that of the text, and what is too dark for a dark page is lighter there. */
function inkOf(color) {
  if (color === "#000000") return palette().text;
  return matchMedia("(prefers-color-scheme: dark)").matches ? ON_DARK[color] ?? color : color;
}

function axis(title, more = {}) {
  const colors = palette();
  return {
    title: { text: literal(title), standoff: 10, font: { size: 13 } }, automargin: true, gridcolor: colors.line, linecolor: colors.soft,
    zeroline: false, showline: true, ticks: "outside", tickcolor: colors.soft, ...more,
  };
}

function layout(more = {}) {
  const colors = palette();
  return {
    font: { family: "system-ui, sans-serif", size: 13, color: colors.text },
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: { l: 10, r: 16, t: 44, b: 10 },
    hoverlabel: { bgcolor: colors.card, bordercolor: colors.soft, font: { color: colors.text, size: 13 }, align: "left" },
    legend: { orientation: "h", x: 0, xanchor: "left", yref: "container", y: 1, yanchor: "top" },
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom", // a finger scrolls the page
    ...more,
  };
}

const watched = new WeakSet();

/** Keep a figure as large as its place, in the same frame: plotly's own way waits, and hears of windows alone. */
function follow(place) {
  if (watched.has(place)) return;
  watched.add(place);
  let [width, height] = [place.clientWidth, place.clientHeight];
  new ResizeObserver(() => {
    if (!place.clientWidth || !place.clientHeight || (place.clientWidth === width && place.clientHeight === height)) return;
    [width, height] = [place.clientWidth, place.clientHeight];
    Plotly.relayout(place, { autosize: true });
  }).observe(place);
}

/** Draw, or draw again what has changed. */
function draw(place, traces, options) {
  follow(place);
  const config = {
    responsive: false, displaylogo: false, displayModeBar: false, showTips: false,
    doubleClick: "reset",
  };
  return Plotly.react(place, traces, options, config);
}
