// Which of several networks nobody would pass over, whichever way the two axes are better.

/** Indices of the points that no other point beats in both, from the best of the first axis on. */
function paretoFront(points, betterX, betterY) {
  const side = (better) => (better === "lower" ? 1 : -1);
  const [a, b] = [side(betterX), side(betterY)];
  const order = points.map((_, i) => i).sort((i, j) =>
    a * (points[i][0] - points[j][0]) || b * (points[i][1] - points[j][1]) || i - j);
  const front = [];
  for (const i of order) {
    if (!front.length || b * points[i][1] < b * points[front.at(-1)][1]) front.push(i);
  }
  return front;
}
