// Arrow keys in lists and grids: one of the cells can be reached with Tab, the arrows go to the others.

const STEPS = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] };

// `rows()` gives the cells as rows; `moved(cell)` hears where the focus went. Returns how to make a cell the one for Tab.
export function rove(container, rows, moved = () => {}) {
  let current = null;

  function take(cell) {
    if (current) current.tabIndex = -1;
    current = cell;
    cell.tabIndex = 0;
  }

  container.addEventListener("keydown", (event) => {
    const found = place(rows(), event.target);
    const target = found && next(rows(), found, event);
    if (!target) return;
    event.preventDefault();
    take(target);
    target.focus();
  });
  container.addEventListener("focusin", (event) => {
    if (!place(rows(), event.target)) return;
    take(event.target);
    moved(event.target);
  });
  return take;
}

function place(rows, cell) {
  for (let row = 0; row < rows.length; row += 1) {
    const column = rows[row].indexOf(cell);
    if (column >= 0) return [row, column];
  }
  return null;
}

function next(rows, [row, column], event) {
  if (event.altKey || event.ctrlKey || event.metaKey) return null;
  if (event.key === "Home") return event.target === rows[row][0] ? null : rows[row][0];
  if (event.key === "End") return rows[row].at(-1);
  const step = STEPS[event.key];
  if (!step) return null;
  const down = rows[row + step[0]];
  return down ? down[Math.min(column + step[1], down.length - 1)] ?? null : null;
}

// Two-dimensional movement over a drawing: arrows change [x, y] within the bounds that `size()` tells.
export function steer(element, at, size, changed) {
  element.addEventListener("keydown", (event) => {
    const step = STEPS[event.key];
    const [width, height] = size();
    let [x, y] = at();
    if (event.key === "Home") x = 0;
    else if (event.key === "End") x = width - 1;
    else if (step) [x, y] = [x + step[1], y + step[0]];
    else return;
    event.preventDefault();
    changed(Math.max(0, Math.min(width - 1, x)), Math.max(0, Math.min(height - 1, y)));
  });
}
