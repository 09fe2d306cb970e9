// node reads_test.mjs bundle.mjs BUNDLE: opens a bundle with an engine that runs nothing, and prints how often each file was read.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [module, folder] = process.argv.slice(2);
const { openBundle } = await import(pathToFileURL(module));
const reads = {};
let ran = null;

async function read(name) {
  reads[name] = (reads[name] ?? 0) + 1;
  return readFile(join(folder, name));
}

const outputNames = ["scores", "label", "threshold_applied"];
const create = async (bytes) => { ran = bytes.length; return { inputNames: ["image", "threshold"], outputNames }; };
const bundle = await openBundle(read, { InferenceSession: { create } });
for (const name of bundle.sums.keys()) if (name.startsWith("golden/")) await bundle.read(name);
console.log(JSON.stringify({ reads, ran }));
