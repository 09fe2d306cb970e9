// A bundle in JavaScript: check its sums, run its graph, read its decisions, replay its golden images.
// The same file serves browsers and Node; `ort` is onnxruntime-web, `read(name)` gives a file of the bundle as bytes.
import { runTiled } from "./tiles.mjs";

const FORMAT = "pangu-cv-bundle", VERSION = 1;
const OUTPUTS = {
  classify: ["scores", "label", "threshold_applied"],
  multilabel: ["scores", "is_present", "threshold_applied"],
  anomaly: ["score", "map", "is_anomalous", "threshold_applied"],
  segment: ["mask", "confidence"],
  detect: ["boxes_xyxy", "scores", "labels", "count", "threshold_applied"],
};
const TILED = ["segment", "detect"], NEEDED = ["model.onnx", "bundle.json", "golden/expected.json"];
const OTHER_PRECISIONS = /^model\.(int8|fp16)\.onnx$/;
const DECISIONS = ["label", "is_present", "is_anomalous"];
// Of golden replay, as in Python.
export const LIMITS = { score: 2e-4, map: 2e-4, mask: 1e-2, iou: 1e-3 };
const BLOCKS = 8, AT_THRESHOLD = 1e-3;

export class BundleError extends Error {}

/** An image that is not decoded as in training; `reason` is the word that `pangu-cv predict --json` gives. */
export class ImageError extends Error {
  constructor(reason, message) {
    super(message);
    this.reason = reason;
  }
}

/** Open a bundle; throws BundleError where it is altered, of another version, or needs what is not here. Files are read once. */
export async function openBundle(fetched, ort) {
  const [read, forget] = readOnce(fetched);
  const sums = await checkedSums(read);
  const about = JSON.parse(text(await read("bundle.json")));
  if (about.format !== FORMAT || about.version !== VERSION)
    throw new BundleError(`bundle.json: ${about.format} version ${about.version} found; ${FORMAT} ${VERSION} is spoken here`);
  if (!(about.task in OUTPUTS)) throw new BundleError(`bundle.json: task ${about.task} is not known here`);
  const { px, overlap } = about.tile ?? { px: 32, overlap: 0 };
  if (!(px >= 32 && overlap >= 0 && overlap <= 0.5) || (about.tile && !TILED.includes(about.task)))
    throw new BundleError(`bundle.json: tile ${JSON.stringify(about.tile)} of task ${about.task} is none`);
  const session = await ort.InferenceSession.create(await read("model.onnx"), { logSeverityLevel: 3 });
  if (session.inputNames[0] !== "image" || OUTPUTS[about.task].join() !== session.outputNames.join())
    throw new BundleError(`model.onnx: outputs ${session.outputNames} are not those of ${about.task}`);
  forget("model.onnx");  // the session has its own copy
  return new Bundle(about, session, sums, read, ort);
}

/** A `read` that keeps what it was given, so that what is run is what was summed; and what lets go of a file. */
function readOnce(read) {
  const kept = new Map();
  const once = async (name) => {
    if (!kept.has(name)) kept.set(name, await read(name));
    return kept.get(name);
  };
  return [once, (name) => kept.delete(name)];
}

class Bundle {
  constructor(about, session, sums, read, ort) {
    Object.assign(this, { about, session, sums, read, ort });
  }

  /** SHA-256 of SHA256SUMS, as `pangu-cv export` prints it; null where sums cannot be checked. */
  async fingerprint() { return this.sums && sha256(await this.read("SHA256SUMS")); }

  get threshold() { return this.about.thresholds.threshold?.value ?? null; }

  /** Outputs by name for one image, `{data: Uint8Array of RGB, width, height}`; a threshold moves this call's alone. */
  async run(image, threshold = null) {
    const graph = async ({ data, width, height }) => {
      const feeds = { image: new this.ort.Tensor("uint8", data, [1, height, width, 3]) };
      if (threshold !== null) feeds.threshold = new this.ort.Tensor("float32", Float32Array.of(threshold), [1]);
      const found = await this.session.run(feeds);
      return Object.fromEntries(Object.entries(found).map(([name, { data, dims }]) => [name, { data, dims }]));
    };
    return this.about.tile ? runTiled(graph, image, this.about.tile) : graph(image);
  }

  /** What the outputs say, in the words of `pangu-cv predict --json`. */
  decision(out) {
    const { task, classes } = this.about, threshold = out.threshold_applied?.data[0];
    if (task === "classify") {
      const at = Number(out.label.data[0]), scores = Array.from(out.scores.data);
      return { label: at < 0 ? "unknown" : classes[at], score: Math.max(...scores), scores, threshold };
    }
    if (task === "multilabel") {
      const labels = classes.filter((_, at) => out.is_present.data[at]);
      return { labels, scores: Array.from(out.scores.data), threshold };
    }
    if (task === "anomaly") return { is_anomalous: Boolean(out.is_anomalous.data[0]), score: out.score.data[0], threshold };
    if (task === "segment") {
      const pixels = Object.fromEntries(classes.slice(1).map((name) => [name, 0]));
      for (const value of out.mask.data) if (value) pixels[classes[value]] += 1;
      return { width: out.mask.dims[2], height: out.mask.dims[1], pixels };
    }
    const boxes = Array.from({ length: Number(out.count.data[0]) }, (_, at) => ({
      label: classes[Number(out.labels.data[at])],
      score: out.scores.data[at],
      box_xyxy: Array.from(out.boxes_xyxy.data.slice(4 * at, 4 * at + 4)),
    }));
    return { boxes, threshold };
  }

  /** Decide the golden images again; `decode(bytes)` gives an image. Throws BundleError where an answer is another. */
  async replay(decode) {
    const expected = JSON.parse(text(await this.read("golden/expected.json")));
    if (JSON.stringify(expected.classes) !== JSON.stringify(this.about.classes) || expected.threshold !== this.threshold)
      throw new BundleError("golden/expected.json: recorded with other classes or another threshold");
    if (this.sums && this.sums.get("model.onnx") !== expected.model_sha256)
      throw new BundleError("golden/expected.json: recorded with another model.onnx");
    const names = Object.keys(expected.answers);
    let worst = 0;
    for (const name of names) {
      const found = await this.run(await decode(await this.read(`golden/${name}`)));
      const { flips, ratio } = difference(expected.answers[name], found);
      if (flips || !(ratio <= 1))
        throw new BundleError(`golden/${name}: this machine does not give the certified answer (${ratio.toFixed(1)} times the limit)`);
      worst = Math.max(worst, ratio);
    }
    return { images: names.length, worst };
  }
}

/** Flips of the decision, and the largest difference as a multiple of its limit. */
export function difference(expected, found) {
  if ("boxes_xyxy" in expected) return boxDifference(expected, found);
  let flips = 0, ratio = 0;
  for (const [name, value] of Object.entries(expected)) {
    const out = found[name], blocks = compact(name, out), flat = value.flat(Infinity);
    if (flat.length !== blocks.length) return { flips: 1, ratio: Infinity };
    const apart = Math.max(...flat.map((v, at) => Math.abs(Number(v) - Number(blocks[at]))));
    if (DECISIONS.includes(name)) flips += apart > 0;
    else ratio = Math.max(ratio, apart / (name === "mask" ? LIMITS.mask : name in { map: 1, confidence: 1 } ? LIMITS.map : LIMITS.score));
  }
  return { flips, ratio };
}

function boxDifference(expected, found) {
  const threshold = expected.threshold_applied[0], free = new Set(Array(Number(found.count.data[0])).keys());
  const certain = (score) => Math.abs(score - threshold) > AT_THRESHOLD;
  let flips = 0, ratio = Math.abs(threshold - found.threshold_applied.data[0]) / LIMITS.score;
  if (!expected.count[0]) // the best score tells something of images without objects too
    ratio = Math.max(ratio, Math.abs((expected.scores[0][0] ?? 0) - (found.scores.data[0] ?? 0)) / LIMITS.score);
  for (let at = 0; at < expected.count[0]; at++) {
    const overlap = (i) => iou(expected.boxes_xyxy[0][at], found.boxes_xyxy.data.slice(4 * i, 4 * i + 4));
    const same = [...free].filter((i) => Number(found.labels.data[i]) === expected.labels[0][at]);
    const best = same.sort((a, b) => overlap(b) - overlap(a))[0], score = expected.scores[0][at];
    if (best === undefined || overlap(best) < 0.5) { flips += certain(score); continue; }
    free.delete(best);
    ratio = Math.max(ratio, (1 - overlap(best)) / LIMITS.iou, Math.abs(score - found.scores.data[best]) / LIMITS.score);
  }
  for (const i of free) flips += certain(found.scores.data[i]);
  return { flips, ratio };
}

function iou(a, b) {
  const sides = [0, 1].map((i) => Math.max(0, Math.min(a[i + 2], b[i + 2]) - Math.max(a[i], b[i])));
  const area = (box) => (box[2] - box[0]) * (box[3] - box[1]), inter = sides[0] * sides[1];
  return inter / Math.max(area(a) + area(b) - inter, 1e-9);
}

/** Maps as 8 by 8 block means, masks as shares and mean class numbers, the rest as it is. */
function compact(name, { data, dims }) {
  if (name === "map" || name === "confidence") return blockMeans(data, dims, (v) => v);
  if (name === "mask") return [...blockMeans(data, dims, (v) => Number(v > 0)), ...blockMeans(data, dims, (v) => v / 256)];
  return data;
}

function blockMeans(data, [, height, width], value) {
  const means = [], rows = edges(height), columns = edges(width);
  for (let r = 1; r < rows.length; r++)
    for (let c = 1; c < columns.length; c++) {
      let sum = 0;
      for (let y = rows[r - 1]; y < rows[r]; y++)
        for (let x = columns[c - 1]; x < columns[c]; x++) sum += value(data[y * width + x]);
      means.push(sum / ((rows[r] - rows[r - 1]) * (columns[c] - columns[c - 1])));
    }
  return means;
}

/** Where blocks begin and end: the first ones are one longer where the length is not a multiple. */
function edges(length) {
  const parts = Math.min(BLOCKS, length), size = Math.floor(length / parts), longer = length % parts, found = [0];
  for (let part = 0; part < parts; part++) found.push(found[part] + size + (part < longer));
  return found;
}

/** Sums by name, once every file agrees with its own; null where this environment cannot tell (a page not served securely). */
async function checkedSums(read) {
  if (!globalThis.crypto?.subtle) return null;
  const sums = new Map(text(await read("SHA256SUMS")).trim().split("\n").map((line) => line.split("  ").reverse()));
  for (const name of NEEDED) if (!sums.has(name)) throw new BundleError(`SHA256SUMS does not list ${name}`);
  for (const [name, sum] of sums) {
    if (OTHER_PRECISIONS.test(name)) continue;  // never run here, so never fetched
    if ((await sha256(await read(name))) !== sum)
      throw new BundleError(`${name} is altered; use the bundle as it was exported`);
  }
  return sums;
}

async function sha256(bytes) {
  const digest = new Uint8Array(await globalThis.crypto.subtle.digest("SHA-256", bytes));
  return [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** RGB of RGBA pixels, transparent ones over the grey that training used. */
export function rgbOf(rgba, background) {
  const rgb = new Uint8Array((rgba.length / 4) * 3);
  for (let from = 0, to = 0; from < rgba.length; from += 4) {
    const alpha = rgba[from + 3];
    for (let channel = 0; channel < 3; channel++)
      rgb[to++] = alpha === 255 ? rgba[from + channel] : Math.round((rgba[from + channel] * alpha + background * (255 - alpha)) / 255);
  }
  return rgb;
}

/** Refuses what would be decoded otherwise than in training: 16 bits a channel, CMYK, several pictures, too many pixels. */
export function checkedHeader(bytes, limits) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (!bytes.length) throw new ImageError("truncated", "the file is empty; copy it again");
  const isPng = bytes.length > 32 && view.getUint32(0) === 0x89504e47;
  if (isPng && bytes[24] === 16)
    throw new ImageError("unsupported", "16 bits a channel: only the Python runtime decodes them as training did");
  if (isPng && view.getUint32(16) * view.getUint32(20) > limits.max_pixels)
    throw new ImageError("too_large", `more than ${limits.max_pixels} pixels`);
  if (jpegChannels(bytes, view) === 4)
    throw new ImageError("unsupported", "CMYK: only the Python runtime decodes it as training did");
  if (isAnimated(bytes, view, isPng)) throw new ImageError("multipage", "holds several pictures; one per file is allowed");
  if (bytes.length > limits.max_bytes) throw new ImageError("too_large", `more than ${limits.max_bytes} bytes`);
  return bytes;
}

/** As the frame's header says; 0 for what is no JPEG. */
function jpegChannels(bytes, view) {
  if (bytes.length < 4 || view.getUint16(0) !== 0xffd8) return 0;
  for (let at = 2; at + 9 < bytes.length && bytes[at] === 0xff; at += 2 + view.getUint16(at + 2)) {
    const kind = bytes[at + 1];
    if (kind >= 0xc0 && kind <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(kind)) return bytes[at + 9];
  }
  return 0;
}

/** PNG and WebP say so in their heads; of a GIF the second picture is looked for. */
function isAnimated(bytes, view, isPng) {
  const named = (at, name) => at + 4 <= bytes.length && text(bytes.subarray(at, at + 4)) === name;
  if (isPng) {
    for (let at = 8; at + 8 <= bytes.length && !named(at + 4, "IDAT"); at += 12 + view.getUint32(at))
      if (named(at + 4, "acTL")) return bytes.length >= at + 12 && view.getUint32(at + 8) > 1;
    return false;
  }
  if (named(0, "RIFF") && named(8, "WEBP")) return named(12, "VP8X") && (bytes[20] & 2) !== 0;
  return named(0, "GIF8") && picturesOfGif(bytes) > 1;
}

/** At most 2: more are not counted. */
function picturesOfGif(bytes) {
  const colours = (flags) => (flags & 128 ? 3 * 2 ** ((flags & 7) + 1) : 0);
  let pictures = 0, at = 13 + colours(bytes[10]);
  while (at < bytes.length && pictures < 2) {
    if (bytes[at] === 0x2c) { pictures++; at += 11 + colours(bytes[at + 9]); }
    else if (bytes[at] === 0x21) at += 2;
    else break;
    while (at < bytes.length && bytes[at] > 0) at += 1 + bytes[at];
    at++;
  }
  return pictures;
}

function text(bytes) { return new TextDecoder().decode(bytes); }
