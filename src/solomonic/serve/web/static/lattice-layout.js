// Where nodes and arcs of a lattice stand: time to the right, every arc in a lane of its own for as
// long as it lasts, so that no label covers another. As speech/lattice/draw.py does it, but where a
// short word needs room for its label, time is stretched there and nowhere else.

const MARGIN = 30;
const APART = 8; // px between what shares a lane
const NARROWEST = 4; // px a frame at least
export const LANE = 34; // px
const MOST = 320; // arcs that are drawn; the least probable are left out
const UNLIKELY = 0.01; // probability below which an arc is drawn only when asked for

/**
 * @param {object} lattice as the server tells it
 * @param {Set<number>} best arcs of the one-best path
 * @param {Set<number>} path arcs of the reranked path
 * @param {function(object): number} width of an arc's label, px
 * @param {number} room px to fill
 * @param {boolean} everything also what is unlikely
 */
export function layOut(lattice, best, path, width, room, everything) {
  const nodes = lattice.nodes;
  const all = lattice.arcs.map((arc, index) => ({ ...arc, index, width: width(arc) }));
  const arcs = shown(all, best, path, everything);
  const place = places(arcs, nodes, best, path, room);
  const x = nodes.map((frame) => place.get(frame));
  const end = Math.max(...place.values());
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
    arcs, x, place: [...place].sort((a, b) => a[0] - b[0]), nodeLane, low, high,
    width: end + MARGIN, height: (high - low + 1) * LANE, dropped: all.length - arcs.length,
  };
}

/** Those that are drawn: the paths and the most probable of the rest. */
function shown(all, best, path, everything) {
  const main = (arc) => best.has(arc.index) || path.has(arc.index);
  const must = all.filter(main);
  const rest = all.filter((arc) => !main(arc) && (everything || (arc.posterior ?? 1) >= UNLIKELY))
    .sort((a, b) => (b.posterior ?? 0) - (a.posterior ?? 0));
  return whole([...must, ...rest.slice(0, Math.max(0, MOST - must.length))]).sort((a, b) => a.index - b.index);
}

/** Without arcs that lead nowhere since what follows or went before was left out. */
function whole(arcs) {
  const first = Math.min(...arcs.map((arc) => arc.source));
  const last = Math.max(...arcs.map((arc) => arc.target));
  const [from, to] = [new Set([first]), new Set([last])];
  // Nodes are numbered by time, so that one pass in their order reaches everything.
  for (const arc of [...arcs].sort((a, b) => a.source - b.source)) if (from.has(arc.source)) from.add(arc.target);
  for (const arc of [...arcs].sort((a, b) => b.target - a.target)) if (to.has(arc.target)) to.add(arc.source);
  return arcs.filter((arc) => from.has(arc.source) && to.has(arc.target));
}

/** X of every frame that has a node: as time goes, wider where labels of the main paths need it. */
function places(arcs, nodes, best, path, room) {
  const frames = [...new Set(nodes)].sort((a, b) => a - b);
  const length = Math.max(1, frames.at(-1) - frames[0]);
  const scale = Math.max(NARROWEST, (0.6 * (room - 2 * MARGIN)) / length);
  const into = new Map(frames.map((frame) => [frame, []]));
  for (const arc of arcs) into.get(nodes[arc.target]).push(arc);
  const place = new Map();
  let before = null;
  for (const frame of frames) {
    let x = before === null ? 0 : place.get(before) + Math.min((frame - before) * scale, 260);
    for (const arc of into.get(frame)) {
      const from = place.get(nodes[arc.source]);
      const need = best.has(arc.index) || path.has(arc.index) ? arc.width + 26 : 12;
      if (from !== undefined) x = Math.max(x, from + need);
    }
    place.set(frame, x);
    before = frame;
  }
  const stretch = Math.max(1, Math.min(2.2, (room - 2 * MARGIN) / Math.max(1, place.get(before))));
  for (const [frame, x] of place) place.set(frame, MARGIN + x * stretch);
  return place;
}

/** X of any moment, between its neighbours'. */
export function xAt(layout, frame) {
  const { place } = layout;
  const next = place.findIndex(([other]) => other >= frame);
  if (next <= 0) return place[Math.max(0, next)][1];
  const [[f0, x0], [f1, x1]] = [place[next - 1], place[next]];
  return x0 + ((frame - f0) / (f1 - f0)) * (x1 - x0);
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
