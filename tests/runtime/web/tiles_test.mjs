// node tiles_test.mjs TILES.MJS VECTORS: prints each golden vector that the implementation does not give.
import { readFile } from "node:fs/promises";
import { pathToFileURL } from "node:url";

const [module, vectors] = process.argv.slice(2);
const { runTiled, windows } = await import(pathToFileURL(module));
const { windows: cut, boxes, masks } = JSON.parse(await readFile(vectors, "utf8"));
const KINDS = { boxes_xyxy: Float32Array, scores: Float32Array, labels: BigInt64Array, count: BigInt64Array, threshold_applied: Float32Array };
let cases = 0;

function check(what, found, expected) {
  cases += 1;
  if (JSON.stringify(found) !== JSON.stringify(expected)) console.log(`${what}: ${JSON.stringify(found)} found, ${JSON.stringify(expected)} expected`);
}

const black = ({ width, height }) => ({ data: new Uint8Array(3 * width * height), width, height });
const tensors = (values) => Object.fromEntries(Object.entries(KINDS).map(([name, Kind]) => {
  const flat = values[name].flat(Infinity);
  return [name, { data: Kind === BigInt64Array ? Kind.from(flat.map(BigInt)) : Kind.from(flat), dims: [] }];
}));

for (const { tile, height, width, windows: expected } of cut) check(`windows of ${width} x ${height}`, windows(tile, height, width), expected);
for (const { name, tile, tiles, image, ...size } of boxes) {
  const answers = tiles.map(tensors), found = await runTiled(async () => answers.shift(), black(size), tile);
  for (const [output, values] of Object.entries(image)) check(`${name}: ${output}`, Array.from(found[output].data, Number), values.flat(Infinity));
  check(`${name}: tiles left`, answers.length, 0);
  check(`${name}: room`, found.boxes_xyxy.dims, [1, image.scores[0].length, 4]);
}
for (const { tile, rows, ...size } of masks) {
  let number = 0;
  const answer = async ({ data, width, height }) => {
    check("a tile's pixels", data.length, 3 * width * height);
    const said = number++;
    return { mask: { data: new Uint8Array(width * height).fill(said) }, confidence: { data: new Float32Array(width * height).fill(said / 8) } };
  };
  const { mask, confidence } = await runTiled(answer, black(size), tile), said = rows.join(" ").split(" ").map(Number);
  check("mask", Array.from(mask.data), said);
  check("confidence", Array.from(confidence.data), said.map((value) => value / 8));
  check("dims", [mask.dims, confidence.dims], [[1, size.height, size.width], [1, size.height, size.width]]);
}
const ramp = { data: Uint8Array.from({ length: 3 * 40 * 50 }, (_, at) => at % 251), width: 40, height: 50 }, seen = [];
await runTiled(async ({ data, width }) => {
  seen.push(Array.from(data));
  return { mask: { data: new Uint8Array(data.length / 3) }, confidence: { data: new Float32Array(data.length / 3) }, width };
}, ramp, { px: 32, overlap: 0 });
check("pixels of every tile", seen, windows({ px: 32, overlap: 0 }, 50, 40).map(([x0, y0, x1, y1]) => {
  const part = [];
  for (let y = y0; y < y1; y++) for (let at = 3 * (y * 40 + x0); at < 3 * (y * 40 + x1); at++) part.push(ramp.data[at]);
  return part;
}));
console.error(`${cases} cases`);
