// What a training's log says, as curves: plain arithmetic without a page.

const SMOOTH = 0.95; // of the training loss: what a running mean keeps at the most

export const points = (lines, name) =>
  lines.filter((line) => Number.isFinite(line[name])).map((line) => [line.step, line[name]]);

// A running mean over about the newest tenth of the steps, and over no more than at the end `SMOOTH` says.
export function smoothed(curve) {
  let mean = 0;
  return curve.map(([x, y], index) => {
    const keep = Math.min(index / (index + 10), SMOOTH);
    mean = keep * mean + (1 - keep) * y;
    return [x, mean];
  });
}

// The least and the greatest of numbers, however many there are: a call has room for a hundred thousand.
export const extent = (numbers) =>
  numbers.reduce(([low, high], number) => [Math.min(low, number), Math.max(high, number)], [Infinity, -Infinity]);

// Where there are more lines without an evaluation than so many, half of them; the last line stays.
export function halved(lines, most = 4000) {
  const plain = (line) => !Number.isFinite(line.val_loss);
  if (lines.filter(plain).length <= most) return lines;
  let seen = 0;
  return lines.filter((line, index) => !plain(line) || (seen += 1) % 2 || index === lines.length - 1);
}

// At most so many points, evenly taken, always with the last.
export function thinned(curve, most = 600) {
  if (curve.length <= most) return curve;
  const stride = curve.length / most;
  return [...Array.from({ length: most }, (_, index) => curve[Math.floor(index * stride)]), curve.at(-1)];
}

// Round numbers within the bounds, about so many.
export function ticks(low, high, about = 5) {
  const rough = (high - low) / about;
  if (!(rough > 0)) return [low];
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((one) => one * power).find((one) => one >= rough);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-9; value += step) found.push(Number(value.toPrecision(12)));
  return found;
}

export function decades(low, high) {
  const found = [];
  for (let value = 10 ** Math.floor(Math.log10(low)); value <= high; value *= 10) if (value >= low) found.push(value);
  return found;
}

// Seconds until the planned end at the pace of the newest steps; null where nothing is planned.
export function left(lines, planned) {
  const newest = lines.filter((line) => Number.isFinite(line.seconds)).slice(-30);
  if (!planned || newest.length < 2) return null;
  const [first, last] = [newest[0], newest.at(-1)];
  const pace = (last.seconds - first.seconds) / (last.step - first.step);
  return Math.max(planned - last.step, 0) * pace;
}
