// Gates over time, on a canvas: a row of pixels for each gate, layers from the input (top), whole layers at the end.

const CLOSED = [11, 37, 69];
const UNDECIDED = [247, 247, 247];
const OPEN = [184, 80, 11];

function colorOf(share) {
  const [from, to, t] = share < 0.5 ? [CLOSED, UNDECIDED, share * 2] : [UNDECIDED, OPEN, share * 2 - 1];
  return from.map((channel, i) => Math.round(channel + (to[i] - channel) * t));
}

/** The heat map; every group of gates has the same height. */
function gatesCanvas(gates) {
  const height = Math.max(6, Math.min(26, Math.floor(560 / gates.groups.length)));
  const columns = gates.steps.length;
  const canvas = element("canvas", { role: "img", class: "gates", width: columns, height: height * gates.groups.length });
  canvas.setAttribute("aria-label", `Gates over ${columns} moments of the training; the table below has where they ended.`);
  const pen = canvas.getContext("2d");
  const image = pen.createImageData(columns, canvas.height);
  let first = 0;
  gates.groups.forEach(([, count], group) => {
    for (let y = 0; y < height - 1; y++) { // the last line of pixels is the gap
      const row = gates.rows[first + Math.min(count - 1, Math.floor((y * count) / (height - 1)))];
      for (let x = 0; x < columns; x++) {
        const share = (row.charCodeAt(x) - gates.first) / gates.levels;
        image.data.set([...colorOf(share), 255], 4 * ((group * height + y) * columns + x));
      }
    }
    first += count;
  });
  pen.putImageData(image, 0, 0);
  const names = element("ol", { class: "gate-names", "aria-hidden": "true" },
    ...gates.groups.map(([name]) => element("li", { style: `height:${height}px` }, name)));
  names.style.fontSize = `${Math.min(12, height - 1)}px`;
  canvas.style.height = `${canvas.height}px`;
  return element("div", { class: "gate-map" }, names, canvas);
}

/** By group: gates, and how many ended open, closed and between. */
function gatesTable(gates) {
  let first = 0;
  const rows = gates.groups.map(([name, count]) => {
    const ends = gates.rows.slice(first, first + count).map((row) => (row.charCodeAt(row.length - 1) - gates.first) / gates.levels);
    first += count;
    const open = ends.filter((end) => end > 0.9).length;
    const closed = ends.filter((end) => end < 0.1).length;
    return [name, String(count), String(open), String(closed), String(count - open - closed)];
  });
  return tableOf(["Gates of", "Gates", "Open at the end", "Closed", "Between"], rows, { caption: "Where the gates ended" });
}
