// Where nodes and arcs of a lattice stand: time to the right, every arc in a lane of its own for as
// long as it lasts, so that no label covers another. The layout of speech/lattice/draw.py.

const MARGIN = 30;
const APART = 8; // px between what shares a lane
const NARROWEST = 10; // px a frame at least, where labels need no more
const WIDEST = 46;
export const LANE = 34; // px
export const MOST = 320; // arcs that are drawn; the least probable are left out

/**
 * @param {object} lattice as the server tells it
 * @param {Set<number>} best arcs of the one-best path
 * @param {Set<number>} path arcs of the reranked path
 * @param {function(object): number} width of an arc's label, px
 */
export function layOut(lattice, best, path, width) {
  const nodes = lattice.nodes;
  const all = lattice.arcs.map((arc, index) => ({ ...arc, index, width: width(arc) }));
  const arcs = shown(all, best, path);
  const [first, last] = [Math.min(...nodes), Math.max(...nodes)];
  const scale = scaleOf(arcs, nodes, best, path, last - first);
  const x = nodes.map((frame) => MARGIN + (frame - first) * scale);
  const end = MARGIN + (last - first) * scale;
  const lanes = new Map();
  const nodeLane = new Map();
  const order = [...arcs].sort((a, b) => rank(a) - rank(b) || (b.posterior ?? 1) - (a.posterior ?? 1));
  function rank(arc) {
    return best.has(arc.index) ? 0 : path.has(arc.index) ? 1 : 2;
  }
  for (const arc of order) {
    const half = arc.width / 2;
    const centre = (x[arc.source] + x[arc.target]) / 2;
    arc.middle = Math.min(Math.max(centre, half + 4), Math.max(end + MARGIN - half - 4, half + 4));
    const left = Math.min(x[arc.source], arc.middle - half);
    const right = Math.max(x[arc.target], arc.middle + half);
    for (const lane of outward()) {
      if (!lanes.has(lane)) lanes.set(lane, []);
      if (!fits(lanes.get(lane), left, right, arc)) continue;
      lanes.get(lane).push([left, right, arc.source, arc.target]);
      arc.lane = lane;
      break;
    }
    for (const node of [arc.source, arc.target]) {
      if (!nodeLane.has(node)) nodeLane.set(node, best.has(arc.index) ? 0 : arc.lane);
    }
  }
  const used = arcs.map((arc) => arc.lane);
  const low = Math.min(0, ...used);
  const high = Math.max(0, ...used);
  return {
    arcs, x, nodeLane, low, high, first, last, scale, left: MARGIN,
    width: end + MARGIN, height: (high - low + 1) * LANE, dropped: all.length - arcs.length,
  };
}

/** Those that are drawn: the paths and the most probable of the rest. */
function shown(all, best, path) {
  if (all.length <= MOST) return all;
  const must = all.filter((arc) => best.has(arc.index) || path.has(arc.index));
  const rest = all.filter((arc) => !best.has(arc.index) && !path.has(arc.index))
    .sort((a, b) => (b.posterior ?? 0) - (a.posterior ?? 0));
  return [...must, ...rest.slice(0, Math.max(0, MOST - must.length))].sort((a, b) => a.index - b.index);
}

/** Px a frame, so that labels of the main paths have room, within limits. */
function scaleOf(arcs, nodes, best, path, frames) {
  let scale = Math.max(NARROWEST, 640 / Math.max(1, frames));
  for (const arc of arcs) {
    const long = nodes[arc.target] - nodes[arc.source];
    if (long > 0 && (best.has(arc.index) || path.has(arc.index))) scale = Math.max(scale, (arc.width + 30) / long);
  }
  return Math.min(scale, WIDEST, Math.max(NARROWEST, 24000 / Math.max(1, frames)));
}

/** Whether a lane has room; arcs that meet in a node may touch there. */
function fits(taken, left, right, arc) {
  return taken.every(([from, to, source, target]) => {
    const before = target === arc.source ? 0 : APART;
    const after = source === arc.target ? 0 : APART;
    return left >= to + before || from >= right + after;
  });
}

/** 0, 1, -1, 2, -2, ... */
function* outward() {
  yield 0;
  for (let lane = 1; ; lane += 1) {
    yield lane;
    yield -lane;
  }
}

/** From the source into the lane, along it, and out to the target. */
export function curve(layout, arc, y) {
  const [x0, x1] = [layout.x[arc.source], layout.x[arc.target]];
  const [y0, y1] = [y(layout.nodeLane.get(arc.source)), y(layout.nodeLane.get(arc.target))];
  const lane = y(arc.lane);
  const bend = Math.min(28, (x1 - x0) / 2);
  const half = bend / 2;
  const n = (value) => value.toFixed(1);
  return `M${n(x0)} ${n(y0)}C${n(x0 + half)} ${n(y0)} ${n(x0 + half)} ${n(lane)} ${n(x0 + bend)} ${n(lane)}`
    + `H${n(x1 - bend)}C${n(x1 - half)} ${n(lane)} ${n(x1 - half)} ${n(y1)} ${n(x1)} ${n(y1)}`;
}
