// The page that decides by itself: onnxruntime-web runs the bundle beside it; after the first load no network is needed.
import * as ort from "./onnxruntime/ort.wasm.min.mjs";
import { checkedHeader, openBundle, rgbOf } from "./bundle.mjs";
import { at, drawBoxes, onImage, say, showScores, verdict } from "./show.mjs";

const COLOURS = [[0, 0, 0], [230, 60, 40], [40, 120, 230], [60, 170, 70], [240, 170, 30], [150, 70, 190]];
let bundle = null, last = null, stream = null, isBusy = false, waiting = null, turn = 0;

ort.env.wasm.wasmPaths = new URL("./onnxruntime/", import.meta.url).href;
if (!globalThis.crossOriginIsolated) ort.env.wasm.numThreads = 1;

async function read(name) {
  const response = await fetch(`bundle/${name}`);
  if (!response.ok) throw new Error(`bundle/${name}: ${response.status}`);
  return new Uint8Array(await response.arrayBuffer());
}

/** Pixels of a file as training saw them: upright, colour profiles ignored. */
async function decodeFile(bytes) {
  const blob = new Blob([checkedHeader(bytes, bundle.about.decode)]);
  const options = { imageOrientation: "from-image", premultiplyAlpha: "none", colorSpaceConversion: "none" };
  return pixelsOf(await createImageBitmap(blob, options));
}

function pixelsOf(source, width = source.width, height = source.height) {
  if (width * height > bundle.about.decode.max_pixels) throw new Error(`more than ${bundle.about.decode.max_pixels} pixels`);
  const canvas = new OffscreenCanvas(width, height), pen = canvas.getContext("2d", { willReadFrequently: true });
  pen.drawImage(source, 0, 0);
  const rgba = pen.getImageData(0, 0, width, height).data;
  if (!rgba.some((value, at) => at % 4 === 3 && value)) // of a canvas too large for it a browser may give this
    throw new Error(`${width} × ${height} pixels came as nothing: wholly transparent, or too large for this browser; give others`);
  return { data: rgbOf(rgba, bundle.about.decode.background), rgba, width, height };
}

async function decide(image) {
  last = image;
  const asked = at("threshold").value.trim(), threshold = asked ? Number(asked) : null;
  if (asked && !Number.isFinite(threshold)) return say(`threshold: ${asked} found; a number is needed`, true);
  const start = performance.now(), out = await bundle.run(image, bundle.threshold === null ? null : threshold);
  const told = bundle.decision(out);
  say(`${verdict(told)}  (${image.width} × ${image.height}, ${(performance.now() - start).toFixed(0)} ms)`);
  at("json").textContent = JSON.stringify(told, null, 1);
  showScores(bundle.about.classes, told.scores);
  at("stage").style.display = "block";
  drawImage(image, out, told);
  drawBoxes(at("boxes"), told.boxes ?? [], image.width, image.height);
}

function drawImage({ rgba, width, height }, out, told) {
  const canvas = Object.assign(at("image"), { width, height }), picture = new ImageData(rgba.slice(), width, height);
  const over = layer(out, told);
  if (over) over((at, [r, g, b], share) => {
    [r, g, b].forEach((value, i) => { picture.data[4 * at + i] = picture.data[4 * at + i] * (1 - share) + value * share; });
  });
  canvas.getContext("2d").putImageData(picture, 0, 0);
}

/** What to lay over the image: classes of a mask, or where an anomaly's map is above the threshold. */
function layer(out, told) {
  if (out.mask) return (blend) => out.mask.data.forEach((v, at) => { if (v) blend(at, COLOURS[((v - 1) % 5) + 1], 0.5); });
  if (!out.map || !told.is_anomalous) return null;
  const most = out.map.data.reduce((a, b) => Math.max(a, b)) - told.threshold;
  return (blend) => out.map.data.forEach((v, at) => {
    if (v > told.threshold) blend(at, COLOURS[1], (0.75 * (v - told.threshold)) / Math.max(most, 1e-9));
  });
}

/** Opens the camera, or closes it. Its frames are decided one after the other, until it is closed or lost. */
async function camera() {
  if (stream) return closeCamera();
  const mine = ++turn, video = at("video"), button = at("camera");
  let opened;
  button.disabled = true;  // a second press would open a second stream
  say("waiting for the camera …");
  try {
    opened = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment", width: { ideal: 4096 } } });
  } catch (error) {
    return turn === mine ? say(`no camera: ${error.message}`, true) : null;
  } finally {
    button.disabled = false;
  }
  if (turn !== mine) return opened.getTracks().forEach((track) => track.stop());  // an image was given meanwhile
  stream = opened;
  button.textContent = "stop";
  watchTrack(opened.getVideoTracks()[0]);
  video.srcObject = opened;
  video.play().catch((error) => {
    if (stream !== opened) return;
    closeCamera();
    say(`no camera: ${error.message}`, true);
  });
  await decideFrames(opened, video);
}

function closeCamera() {
  turn += 1;
  stream?.getTracks().forEach((track) => track.stop());
  stream = at("video").srcObject = null;
  at("camera").textContent = "camera";
}

/** Says when the camera gives nothing, after the frame at work: its last verdict must not look like a present one. */
function watchTrack(track) {
  track.onended = () => {
    closeCamera();
    guarded(() => say("camera lost: connect or allow it again and press camera", true));
  };
  track.onmute = () => guarded(() => say("the camera gives no picture", true));
  if (track.muted) track.onmute();
}

async function decideFrames(opened, video) {
  const [track] = opened.getVideoTracks();
  while (stream === opened) {
    const hasPicture = !track.muted && video.readyState >= HTMLMediaElement.HAVE_CURRENT_DATA;
    if (hasPicture && !isBusy) await guarded(() => decide(pixelsOf(video, video.videoWidth, video.videoHeight)));
    await new Promise(requestAnimationFrame);
  }
}

/** One work at a time. Of those that come meanwhile the last is done next: it is what the user waits for. */
async function guarded(work) {
  waiting = work;
  if (isBusy) return;
  isBusy = true;
  while (waiting) {
    const next = waiting;
    waiting = null;
    try {
      await next();
    } catch (error) {
      say(error.message, true);
    }
  }
  isBusy = false;
}

/** An updated page comes with the next load: this one goes on with the files that were kept. */
function tellOfNewer(workers) {
  let script = workers.controller?.scriptURL;
  workers.oncontrollerchange = () => {
    if (workers.controller?.scriptURL === script) at("newer").hidden = false;
    script = workers.controller?.scriptURL;
  };
}

async function start() {
  const began = performance.now();
  bundle = await openBundle(read, ort);
  const replayed = await bundle.replay(decodeFile), pin = await bundle.fingerprint();
  const checked = pin ? `sums checked, fingerprint ${pin.slice(0, 12)}` : "sums not checked: the page was not served securely";
  const seconds = ((performance.now() - began) / 1000).toFixed(1);
  at("about").textContent = `${bundle.about.task}, ${replayed.images} certified answers given again (${checked}), ready in ${seconds} s`;
  at("threshold").disabled = bundle.threshold === null;
  onImage((file) => {
    closeCamera();  // its next frame would take the answer's place
    guarded(async () => decide(await decodeFile(new Uint8Array(await file.arrayBuffer()))));
  });
  at("threshold").onchange = () => { if (last && !stream && !waiting) guarded(() => decide(last)); };
  at("camera").onclick = camera;
  if ("serviceWorker" in navigator) navigator.serviceWorker.register("offline.js");
}

if ("serviceWorker" in navigator) tellOfNewer(navigator.serviceWorker);
start().catch((error) => say(error.message, true));
