// The bundle in Node, without Python:  npm i onnxruntime-web sharp;  node decide.mjs BUNDLE IMAGE...
// Prints one JSON object an image, as `pangu-cv predict --json` does, and ends as it does: with 2 where no image could be read.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import sharp from "sharp";
import * as ort from "onnxruntime-web/wasm";
import { checkedHeader, ImageError, openBundle, rgbOf } from "./bundle.mjs";

const [folder, ...images] = process.argv.slice(2);
if (!folder) {
  console.error("usage: node decide.mjs BUNDLE IMAGE...");
  process.exit(2);
}
ort.env.wasm.numThreads = 1;
const FORMATS = ["png", "jpeg", "tiff", "webp", "gif", "ppm"];

/** Throws ImageError. */
async function decode(bytes, spec) {
  const limits = { limitInputPixels: spec.max_pixels, failOn: "truncated", ignoreIcc: true };
  const picture = sharp(checkedHeader(bytes, spec), limits);
  const header = await picture.metadata().catch(refuse);
  if (!FORMATS.includes(header.format)) throw new ImageError("unsupported", `${header.format} is not read; convert it to PNG`);
  if (header.depth !== "uchar")
    throw new ImageError("unsupported", "more than 8 bits a channel: only the Python runtime decodes them as training did");
  if ((header.pages ?? 1) > 1) throw new ImageError("multipage", `holds ${header.pages} pictures; one per file is allowed`);
  if (header.space === "cmyk") throw new ImageError("unsupported", "CMYK: only the Python runtime decodes it as training did");
  const raw = picture.rotate().toColourspace("srgb").ensureAlpha().raw();
  const { data, info } = await raw.toBuffer({ resolveWithObject: true }).catch(refuse);
  return { data: rgbOf(data, spec.background), width: info.width, height: info.height };
}

/** What sharp throws, as ImageError: it says by words alone what is wrong. */
function refuse({ message }) {
  if (/unsupported image format/.test(message)) throw new ImageError("not_an_image", `${message}; read are: ${FORMATS.join(", ")}`);
  throw new ImageError(/pixel limit/.test(message) ? "too_large" : "truncated", message);
}

function missing({ code }) {
  throw new ImageError("missing", `cannot be read: ${code}`);
}

/** The decision, or why there is none; an image that cannot be read leaves the others theirs. */
async function tell(bundle, image) {
  try {
    const pixels = await decode(await readFile(image).catch(missing), bundle.about.decode);
    return { image, ...bundle.decision(await bundle.run(pixels)) };
  } catch (error) {
    if (!(error instanceof ImageError)) throw new Error(`${image}: ${error.message}`, { cause: error });
    const message = `${image}: ${error.message}`;
    console.error(`skipped: ${message}`);
    return { image, error: error.reason, message };
  }
}

try {
  const bundle = await openBundle((name) => readFile(join(folder, name)), ort);
  const replayed = await bundle.replay((bytes) => decode(bytes, bundle.about.decode));
  console.error(`golden replay: ${replayed.images} images, at most ${replayed.worst.toFixed(2)} of the limit`);
  let undecided = 0;
  for (const image of images) {
    const told = await tell(bundle, image);
    console.log(JSON.stringify(told));
    undecided += "error" in told;
  }
  if (images.length && undecided === images.length) {
    console.error(`error: none of the ${images.length} images could be read`);
    process.exitCode = 2;
  }
} catch (error) {
  console.error(`${folder}: ${error.message}`);
  process.exit(2);
}
