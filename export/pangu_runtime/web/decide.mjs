// The bundle in Node, without Python:  npm i onnxruntime-web sharp;  node decide.mjs BUNDLE IMAGE...
// Prints one JSON object an image, as `pangu-cv predict --json` does.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import sharp from "sharp";
import * as ort from "onnxruntime-web/wasm";
import { checkedHeader, openBundle, rgbOf } from "./bundle.mjs";

const [folder, ...images] = process.argv.slice(2);
if (!folder) {
  console.error("usage: node decide.mjs BUNDLE IMAGE...");
  process.exit(2);
}
ort.env.wasm.numThreads = 1;

async function decode(bytes, spec) {
  const limits = { limitInputPixels: spec.max_pixels, failOn: "truncated", ignoreIcc: true };
  const picture = sharp(checkedHeader(bytes, spec), limits);
  const header = await picture.metadata();
  if (header.depth !== "uchar") throw new Error("more than 8 bits a channel: only the Python runtime decodes them as training did");
  if ((header.pages ?? 1) > 1) throw new Error(`holds ${header.pages} pictures; one per file is allowed`);
  if (header.space === "cmyk") throw new Error("CMYK: only the Python runtime decodes it as training did");
  const { data, info } = await picture.rotate().toColourspace("srgb").ensureAlpha().raw().toBuffer({ resolveWithObject: true });
  return { data: rgbOf(data, spec.background), width: info.width, height: info.height };
}

try {
  const bundle = await openBundle((name) => readFile(join(folder, name)), ort);
  const spec = bundle.about.decode;
  const replayed = await bundle.replay((bytes) => decode(bytes, spec));
  console.error(`golden replay: ${replayed.images} images, at most ${replayed.worst.toFixed(2)} of the limit`);
  for (const image of images) {
    try {
      const out = await bundle.run(await decode(await readFile(image), spec));
      console.log(JSON.stringify({ image, ...bundle.decision(out) }));
    } catch (error) {
      console.log(JSON.stringify({ image, error: error.message }));
    }
  }
} catch (error) {
  console.error(`${folder}: ${error.message}`);
  process.exit(2);
}
