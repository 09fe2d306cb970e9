// Decisions as people read them: a sentence, a table of scores, boxes and maps over the image. For both pages.

export const at = (id) => document.getElementById(id);

export function say(text, isError = false) {
  at("verdict").textContent = text;
  at("verdict").className = isError ? "error" : "";
}

/** A decision, as `pangu-cv predict --json` gives it, in a few words. */
export function verdict(told) {
  if ("is_anomalous" in told)
    return `${told.is_anomalous ? "ANOMALY" : "normal"}, score ${told.score.toFixed(2)} (threshold ${told.threshold.toFixed(2)})`;
  if ("label" in told) return `${told.label}, ${(100 * told.score).toFixed(1)} %`;
  if ("labels" in told) return told.labels.join(", ") || "nothing";
  if ("boxes" in told) return told.boxes.length ? `${told.boxes.length} found` : "nothing found";
  const found = Object.entries(told.pixels).filter(([, n]) => n), all = told.width * told.height;
  return found.map(([name, n]) => `${name} ${((100 * n) / all).toFixed(2)} %`).join(", ") || "nothing found";
}

/** The best classes with bars. */
export function showScores(classes, values = []) {
  const rows = classes.map((name, i) => [name, values[i]]).sort((a, b) => b[1] - a[1]).slice(0, values.length && 8);
  const table = document.createElement("table");
  for (const [name, value] of rows) {
    const row = table.insertRow(), bar = document.createElement("span");
    row.insertCell().textContent = name;
    bar.className = "bar";
    bar.style.width = `${(12 * value).toFixed(2)}rem`;
    row.insertCell().append(bar);
    row.insertCell().textContent = `${(100 * value).toFixed(1)} %`;
  }
  at("scores").replaceChildren(table);
}

/** Boxes with labels on a canvas over an image of this size; small images get a finer canvas, so that words stay sharp. */
export function drawBoxes(canvas, boxes, width, height) {
  const zoom = Math.max(1, 800 / Math.max(width, height));
  Object.assign(canvas, { width: width * zoom, height: height * zoom });
  const pen = canvas.getContext("2d"), scale = Math.max(canvas.width, canvas.height) / 800;
  pen.lineWidth = 2 * scale;
  pen.font = `${14 * scale}px system-ui`;
  for (const { label, score, box_xyxy } of boxes) {
    const [x0, y0, x1, y1] = box_xyxy.map((value) => value * zoom);
    pen.strokeStyle = pen.fillStyle = "#e63c28";
    pen.strokeRect(x0, y0, x1 - x0, y1 - y0);
    const text = `${label} ${(100 * score).toFixed(0)} %`, top = Math.max(0, y0 - 18 * scale);
    pen.fillRect(x0, top, pen.measureText(text).width + 6 * scale, 18 * scale);
    pen.fillStyle = "#fff";
    pen.fillText(text, x0 + 3 * scale, top + 14 * scale);
  }
}

/** Calls `decide(file)` for an image that is dropped, pasted or chosen. */
export function onImage(decide) {
  const drop = at("drop"), file = at("file");
  drop.onclick = () => file.click();
  drop.onkeydown = (event) => { if (event.key === "Enter" || event.key === " ") file.click(); };
  file.onchange = () => { if (file.files[0]) decide(file.files[0]); file.value = ""; };
  drop.ondragover = (event) => { event.preventDefault(); drop.classList.add("over"); };
  drop.ondragleave = () => drop.classList.remove("over");
  drop.ondrop = (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    if (event.dataTransfer.files[0]) decide(event.dataTransfer.files[0]);
  };
  document.onpaste = (event) => { if (event.clipboardData.files[0]) decide(event.clipboardData.files[0]); };
}
