// Large images in overlapping tiles, with the decisions of pangu_runtime/tiles.py: the same windows, the same merging.
// Python computes on boxes in 32 bits, so here every step of theirs is rounded to 32 bits too (Math.fround).

const f = Math.fround;
const EDGE_PX = 2, COVERED = f(0.7), WHOLE = 2;

/** Left, top, right, bottom of every tile, row by row, spread evenly; all are of the same size. */
export function windows({ px, overlap }, height, width) {
  const h = Math.min(px, height), w = Math.min(px, width);
  return starts(px, overlap, height).flatMap((y) => starts(px, overlap, width).map((x) => [x, y, x + w, y + h]));
}

function starts(px, overlap, length) {
  if (length <= px) return [0];
  const count = Math.ceil((length - px) / (px * (1 - overlap))) + 1;
  return Array.from({ length: count }, (_, i) => halfToEven((i * (length - px)) / (count - 1)));
}

function halfToEven(value) {
  const down = Math.floor(value), over = value - down;
  return over > 0.5 || (over === 0.5 && down % 2 === 1) ? down + 1 : down;
}

/** `run({data, width, height})` on every tile of an image, and the outputs of the whole image from them. */
export async function runTiled(run, image, tiling) {
  const boxes = windows(tiling, image.height, image.width);
  if (boxes.length === 1) return run(image);
  let merge = null;
  for (const window of boxes) {
    const outputs = await run(cut(image, window));
    merge ??= new ("boxes_xyxy" in outputs ? Boxes : Masks)(image.height, image.width);
    merge.add(window, outputs);
  }
  return merge.outputs();
}

function cut({ data, width }, [x0, y0, x1, y1]) {
  const row = 3 * (x1 - x0), part = new Uint8Array(row * (y1 - y0));
  for (let y = y0; y < y1; y++) part.set(data.subarray(3 * (y * width + x0), 3 * (y * width + x1)), row * (y - y0));
  return { data: part, width: x1 - x0, height: y1 - y0 };
}

/** In overlaps the tile decides whose middle is nearer. */
export class Masks {
  constructor(height, width) {
    Object.assign(this, { height, width, mask: new Uint8Array(height * width), confidence: new Float32Array(height * width) });
    this.nearness = new Int32Array(height * width).fill(-1);
  }

  add([x0, y0, x1, y1], outputs) {
    for (let y = y0, from = 0; y < y1; y++)
      for (let x = x0; x < x1; x++, from++) {
        const nearness = Math.min(y - y0, y1 - 1 - y, x - x0, x1 - 1 - x) + 1, to = y * this.width + x;
        if (nearness <= this.nearness[to]) continue;
        this.nearness[to] = nearness;
        this.mask[to] = outputs.mask.data[from];
        this.confidence[to] = outputs.confidence.data[from];
      }
  }

  outputs() {
    const dims = [1, this.height, this.width];
    return { mask: { data: this.mask, dims }, confidence: { data: this.confidence, dims } };
  }
}

/** All boxes of all tiles in one list; of those that are one object the first stays: accepted ones, then the best, a whole one's score doubled. */
export class Boxes {
  constructor(height, width) {
    Object.assign(this, { height, width, found: [], threshold: null });
  }

  add([x0, y0, x1, y1], { boxes_xyxy, scores, labels, threshold_applied }) {
    const inner = [x0 > 0, y0 > 0, x1 < this.width, y1 < this.height];
    scores.data.forEach((score, at) => {
      if (!(score > 0)) return;
      const [a, b, c, d] = boxes_xyxy.data.subarray(4 * at, 4 * at + 4), gaps = [a, b, f(x1 - x0 - c), f(y1 - y0 - d)];
      const box = [f(a + x0), f(b + y0), f(c + x0), f(d + y0)], isCut = gaps.some((gap, side) => inner[side] && gap <= EDGE_PX);
      this.found.push({ box, score, label: labels.data[at], isCut });
    });
    this.threshold = threshold_applied;
  }

  outputs() {
    const kept = [], isRejected = ({ score }) => score < this.threshold.data[0];
    const weight = ({ score, isCut }) => (isCut ? score : WHOLE * score);
    const first = (a, b) => isRejected(a) - isRejected(b) || weight(b) - weight(a) || a.isCut - b.isCut;
    for (const one of [...this.found].sort(first))
      if (!kept.some((other) => other.label === one.label && !(covered(one, other) < COVERED))) kept.push(one);
    const order = kept.sort((a, b) => b.score - a.score), n = order.length;
    const count = order.filter(({ score }) => score >= this.threshold.data[0]).length;
    return {
      boxes_xyxy: { data: Float32Array.from(order.flatMap(({ box }) => box)), dims: [1, n, 4] },
      scores: { data: Float32Array.from(order, ({ score }) => score), dims: [1, n] },
      labels: { data: BigInt64Array.from(order, ({ label }) => label), dims: [1, n] },
      count: { data: BigInt64Array.of(BigInt(count)), dims: [1] },
      threshold_applied: this.threshold,
    };
  }
}

/** Share of the smaller of two boxes that lies in the other; of `one` itself where it is cut, and may be a part of a whole `other`. */
function covered(one, other) {
  const a = one.box, b = other.box, otherArea = one.isCut && !other.isCut ? Infinity : area(b);
  const side = (i) => Math.max(0, f(Math.min(a[i + 2], b[i + 2]) - Math.max(a[i], b[i])));
  return f(f(side(0) * side(1)) / Math.max(Math.min(area(a), otherArea), f(1e-9)));
}

function area(box) {
  return f(f(box[2] - box[0]) * f(box[3] - box[1]));
}
