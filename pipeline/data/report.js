"use strict";
// A report: one view a video (player, timeline, filters, table) and, of several videos, a list of them.
// Everything comes from the JSON in #data, nothing from elsewhere. Names and labels are only ever set as text.

const data = JSON.parse(document.getElementById("data").textContent);
const START = 0, END = 1, LABEL = 2, SCORE = 3; // of a segment in data
const MANY = 12; // labels, beyond which one may search among them

// ---- small helpers ----

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

function clock(seconds, digits = 1) { // as players show time: 0:07.2, 1:02:07.2
  const scale = 10 ** digits;
  const parts = Math.round(Math.max(0, seconds) * scale);
  const whole = Math.floor(parts / scale), hours = Math.floor(whole / 3600), minutes = Math.floor(whole / 60) % 60;
  const tail = String(whole % 60).padStart(2, "0") + (digits ? "." + String(parts % scale).padStart(digits, "0") : "");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${tail}` : `${minutes}:${tail}`;
}

function clamp(value, low, high) { return Math.min(Math.max(value, low), high); }

function plural(count, one) { return `${count.toLocaleString("en")} ${one}${count === 1 ? "" : "s"}`; }

function color(name) { return getComputedStyle(document.documentElement).getPropertyValue(name).trim(); }

function mixed(from, to, share) { // of two colours "r g b"
  const [a, b] = [from.split(" ").map(Number), to.split(" ").map(Number)];
  return `rgb(${a.map((value, index) => Math.round(value + (b[index] - value) * share)).join(" ")})`;
}

function saved(name, type, text) { // as a file of the reader's
  const link = element("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

const FORMULA = /^'*(?:\s*[=@＝＠]|[\t\r\n\v\f]|\s*[+\-＋－](?![A-Za-z0-9_.\-]*$))/; // as in spreadsheets.py

function cell(value) { // of CSV; what a spreadsheet would take for a formula is made text
  let text = String(value);
  if (typeof value === "string" && FORMULA.test(text)) text = "'" + text;
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

// ---- the timeline: a canvas, drawn anew only when what it shows changes; where the video is lies over it ----

class Timeline {
  static AXIS = 22;
  static BAR = 18;
  static TRUTH = 7;
  static CURVE = 22;
  static GAP = 9;

  constructor(view) {
    this.view = view;
    this.video = view.video;
    this.from = 0;
    this.to = this.video.duration;
    this.tip = element("div", { className: "tip", hidden: true });
    this.now = element("div", { className: "now" });
    this.canvas = element("canvas", {
      tabIndex: 0, role: "img",
      ariaLabel: "Timeline of what was found, a lane for each label; the table below holds the same as text",
    });
    this.stage = element("div", { className: "stage" }, this.canvas, this.now, this.tip);
    this.strip = element("canvas", { className: "strip", title: "The whole video: drag to move what is shown below" });
    this.root = element("div", { className: "timeline" }, this.strip, element("div", { className: "scroller" }, this.stage));
    this.curves = new Map(this.video.curves.map(curve => [curve.label, curve]));
    this.listen();
    new ResizeObserver(() => this.draw()).observe(this.stage);
  }

  // -- geometry --

  get gutter() { return this.narrow ? 0 : 150; }
  get narrow() { return this.stage.clientWidth < 560; }
  get width() { return Math.max(1, this.stage.clientWidth - this.gutter - 1); }

  x(seconds) { return this.gutter + (seconds - this.from) / (this.to - this.from) * this.width; }
  at(x) { return this.from + (x - this.gutter) / this.width * (this.to - this.from); }

  lanes() { // from top to bottom: where each label's parts lie
    let top = Timeline.AXIS + 4;
    return this.view.shownLabels().map(label => {
      const lane = { label, name: top };
      if (this.narrow) top += 16;
      lane.bar = top;
      top += Timeline.BAR + 2;
      if (this.video.truth.length) { lane.truth = top; top += Timeline.TRUTH + 2; }
      if (this.curves.has(label)) { lane.curve = top; top += Timeline.CURVE; }
      lane.end = top;
      top += Timeline.GAP;
      return lane;
    });
  }

  box(segment) { // where a segment lies on the canvas, or null
    const lane = this.lanes().find(lane => lane.label === segment[LABEL]);
    if (!lane) return null;
    return { left: this.x(segment[START]), right: this.x(segment[END]), top: lane.bar, height: Timeline.BAR };
  }

  show(from, to) { // that stretch of the video, as far as there is one
    const length = clamp(to - from, Math.min(0.5, this.video.duration), this.video.duration);
    this.from = clamp(from + (to - from - length) / 2, 0, this.video.duration - length);
    this.to = this.from + length;
    this.canvas.dataset.from = this.from.toFixed(3);
    this.canvas.dataset.to = this.to.toFixed(3);
    this.draw();
  }

  zoom(factor, around = (this.from + this.to) / 2) {
    this.show(around - (around - this.from) / factor, around + (this.to - around) / factor);
  }

  reveal(segment) { // without a change of scale, where it is in sight already
    const length = this.to - this.from;
    if (segment[START] < this.from || segment[END] > this.to) {
      const wanted = Math.max(length, (segment[END] - segment[START]) * 1.2), middle = (segment[START] + segment[END]) / 2;
      this.show(middle - wanted / 2, middle + wanted / 2);
    }
  }

  // -- drawing --

  prepared(canvas, height) {
    const width = canvas.parentElement.clientWidth, dense = Math.min(devicePixelRatio || 1, 16_000 / Math.max(1, height));
    canvas.style.height = `${height}px`;
    canvas.width = Math.round(width * dense);
    canvas.height = Math.round(height * dense);
    const pen = canvas.getContext("2d");
    pen.scale(dense, dense);
    pen.clearRect(0, 0, width, height);
    return pen;
  }

  draw() { // once, before the next picture
    this.due ??= requestAnimationFrame(() => this.drawNow());
  }

  drawNow() {
    this.due = null;
    if (!this.stage.clientWidth) return;
    const lanes = this.lanes(), height = (lanes.at(-1)?.end ?? Timeline.AXIS) + 6, pen = this.prepared(this.canvas, height);
    const ink = { ink: color("--ink"), soft: color("--soft"), lane: color("--lane"), truth: color("--truth"),
                  low: color("--low"), high: color("--high"), curve: color("--curve"), line: color("--line"), pick: color("--pick") };
    ink.scale = Array.from({ length: 64 }, (_, index) => mixed(ink.low, ink.high, index / 63));
    pen.font = "13px system-ui, sans-serif";
    pen.textBaseline = "middle";
    this.drawAxis(pen, ink, height);
    for (const lane of lanes) this.drawLane(pen, ink, lane);
    this.drawBoundaries(pen, ink, height);
    this.drawStrip(ink);
    this.moveNow(this.view.time);
  }

  drawAxis(pen, ink, height) {
    const steps = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 18_000, 36_000];
    const step = steps.find(step => step / (this.to - this.from) * this.width >= 70) ?? 36_000;
    pen.textAlign = "center";
    for (let tick = Math.ceil(this.from / step - 1e-9); tick * step <= this.to + 1e-9; tick++) {
      const x = this.x(tick * step), text = clock(tick * step, step < 1 ? 1 : 0), half = pen.measureText(text).width / 2;
      pen.fillStyle = ink.line;
      pen.fillRect(Math.round(x), Timeline.AXIS - 4, 1, height - Timeline.AXIS);
      pen.fillStyle = ink.soft;
      pen.fillText(text, clamp(x, this.gutter + half, this.gutter + this.width - half), Timeline.AXIS / 2 - 1);
    }
  }

  drawLane(pen, ink, lane) {
    const { width } = this;
    pen.fillStyle = ink.ink;
    pen.textAlign = this.narrow ? "left" : "right";
    const name = fitted(pen, lane.label, this.narrow ? width : this.gutter - 14);
    pen.fillText(name, this.narrow ? 0 : this.gutter - 12, this.narrow ? lane.name + 7 : lane.bar + Timeline.BAR / 2);
    pen.save();
    pen.beginPath();
    pen.rect(this.gutter, lane.bar - 2, width, lane.end - lane.bar + 4);
    pen.clip();
    pen.fillStyle = ink.lane;
    pen.fillRect(this.gutter, lane.bar, width, Timeline.BAR);
    for (const segment of this.view.drawn.get(lane.label) ?? []) { // the best last, on top
      if (segment[END] < this.from || segment[START] > this.to) continue;
      const left = this.x(segment[START]), wide = Math.max(2, this.x(segment[END]) - left);
      pen.fillStyle = ink.scale[Math.round(this.view.strength(segment[SCORE]) * (ink.scale.length - 1))];
      rounded(pen, left, lane.bar, wide, Timeline.BAR, 3);
      pen.fill();
      if (segment === this.view.picked) {
        pen.strokeStyle = ink.pick;
        pen.lineWidth = 2;
        rounded(pen, left, lane.bar, wide, Timeline.BAR, 3);
        pen.stroke();
      }
    }
    if (lane.truth !== undefined) this.drawTruth(pen, ink, lane);
    if (lane.curve !== undefined) this.drawCurve(pen, ink, lane);
    pen.restore();
  }

  drawTruth(pen, ink, lane) {
    pen.fillStyle = ink.truth;
    for (const [start, end, label] of this.video.truth) {
      if (label !== lane.label || end < this.from || start > this.to) continue;
      const left = this.x(start);
      pen.fillRect(left, lane.truth, Math.max(2, this.x(end) - left), Timeline.TRUTH);
    }
  }

  drawCurve(pen, ink, lane) { // a step a snippet; of the snippets that share a pixel, the highest
    const { start, step, scores } = this.curves.get(lane.label), base = lane.curve + Timeline.CURVE;
    pen.beginPath();
    pen.moveTo(this.gutter, base);
    const index = seconds => Math.floor((seconds - start) / step);
    for (let pixel = 0; pixel <= this.width; pixel++) {
      const first = index(this.at(this.gutter + pixel)), last = Math.max(first, index(this.at(this.gutter + pixel + 1)) - 1);
      let highest = 0;
      for (let k = clamp(first, 0, scores.length - 1); k <= clamp(last, 0, scores.length - 1); k++) highest = Math.max(highest, scores[k]);
      pen.lineTo(this.gutter + pixel, base - highest / 255 * (Timeline.CURVE - 3));
    }
    pen.lineTo(this.gutter + this.width, base);
    pen.fillStyle = ink.curve;
    pen.globalAlpha = 0.7;
    pen.fill();
    pen.globalAlpha = 1;
  }

  drawBoundaries(pen, ink, height) {
    if (!this.view.boundariesShown) return;
    pen.fillStyle = ink.soft;
    pen.globalAlpha = 0.45;
    for (const at of this.video.boundaries) if (at >= this.from && at <= this.to) pen.fillRect(this.x(at), Timeline.AXIS, 1, height);
    pen.globalAlpha = 1;
  }

  drawStrip(ink) { // the whole video in small, with what is shown of it
    const height = 16, pen = this.prepared(this.strip, height), width = this.strip.clientWidth;
    const x = seconds => seconds / this.video.duration * width;
    pen.fillStyle = ink.lane;
    pen.fillRect(0, 0, width, height);
    pen.fillStyle = `rgb(${ink.high})`;
    pen.globalAlpha = 0.55;
    for (const segment of this.view.shown) pen.fillRect(x(segment[START]), 4, Math.max(1, x(segment[END] - segment[START])), height - 8);
    pen.globalAlpha = 1;
    pen.strokeStyle = ink.pick;
    pen.lineWidth = 2;
    pen.strokeRect(x(this.from) + 1, 1, Math.max(4, x(this.to - this.from) - 2), height - 2);
  }

  moveNow(time) {
    const x = this.x(time), seen = time >= this.from - 1e-6 && time <= this.to + 1e-6;
    this.now.hidden = !seen;
    this.now.style.transform = `translateX(${x}px)`;
  }

  // -- what a reader does --

  place(event) {
    const box = this.canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }

  under({ x, y }) { // the best segment there; one too narrow to hit has a few pixels more
    const lane = this.lanes().find(lane => y >= lane.bar - 2 && y <= lane.bar + Timeline.BAR + 2);
    if (!lane || x < this.gutter) return null;
    const hit = slack => (this.view.drawn.get(lane.label) ?? []).findLast(
      segment => x >= this.x(segment[START]) - slack && x <= this.x(segment[END]) + slack);
    return hit(0) ?? hit(4) ?? null;
  }

  listen() {
    const pointers = new Map();
    let drag = null;
    this.canvas.addEventListener("pointerdown", event => {
      const place = this.place(event);
      pointers.set(event.pointerId, place);
      this.canvas.setPointerCapture(event.pointerId);
      drag = { ...place, from: this.from, to: this.to, moved: false, scrubs: place.y < Timeline.AXIS };
      if (drag.scrubs) this.view.seek(this.at(place.x));
    });
    this.canvas.addEventListener("pointermove", event => {
      const place = this.place(event);
      this.hint(event.pointerType === "mouse" && !pointers.size ? this.under(place) : null, place);
      if (!pointers.has(event.pointerId) || !drag) return;
      const before = pointers.get(event.pointerId);
      pointers.set(event.pointerId, place);
      if (pointers.size === 2) { this.pinch(pointers, event.pointerId, before); drag.moved = true; return; }
      if (drag.scrubs) { this.view.seek(this.at(place.x)); return; }
      if (Math.abs(place.x - drag.x) > 4) drag.moved = true;
      if (drag.moved) {
        const by = (drag.x - place.x) / this.width * (drag.to - drag.from);
        this.show(drag.from + by, drag.to + by);
      }
    });
    const done = event => {
      const place = pointers.get(event.pointerId);
      pointers.delete(event.pointerId);
      if (!drag || !place || pointers.size) return;
      if (!drag.moved && !drag.scrubs && event.type === "pointerup") {
        const segment = this.under(place);
        if (segment) this.view.play(segment);
        else if (place.x >= this.gutter) this.view.seek(this.at(place.x));
      }
      drag = null;
    };
    this.canvas.addEventListener("pointerup", done);
    this.canvas.addEventListener("pointercancel", done);
    this.canvas.addEventListener("pointerleave", () => this.hint(null));
    this.canvas.addEventListener("dblclick", event => {
      const segment = this.under(this.place(event));
      if (segment) { const margin = Math.max(1, segment[END] - segment[START]); this.show(segment[START] - margin, segment[END] + margin); }
    });
    this.canvas.addEventListener("wheel", event => {
      const place = this.place(event), sideways = Math.abs(event.deltaX) > Math.abs(event.deltaY) || event.shiftKey;
      if (event.ctrlKey || event.metaKey || place.y < Timeline.AXIS) this.zoom(Math.exp(-event.deltaY / 300), this.at(place.x));
      else if (sideways) {
        const by = (event.deltaX || event.deltaY) / this.width * (this.to - this.from);
        this.show(this.from + by, this.to + by);
      } else return; // the page's
      event.preventDefault();
    }, { passive: false });
    const move = event => {
      if (!event.buttons) return;
      const middle = event.offsetX / this.strip.clientWidth * this.video.duration, half = (this.to - this.from) / 2;
      this.show(middle - half, middle + half);
    };
    this.strip.addEventListener("pointerdown", event => { this.strip.setPointerCapture(event.pointerId); move(event); });
    this.strip.addEventListener("pointermove", move);
  }

  pinch(pointers, moving, before) { // two fingers: what lies under each stays under it
    const [other] = [...pointers].filter(([id]) => id !== moving).map(([, place]) => place), place = pointers.get(moving);
    const was = Math.abs(before.x - other.x), is = Math.abs(place.x - other.x);
    if (was > 8 && is > 8) this.zoom(is / was, this.at((place.x + other.x) / 2));
  }

  hint(segment, place) {
    this.tip.hidden = !segment;
    this.canvas.style.cursor = segment ? "pointer" : "";
    if (!segment) return;
    const [start, end, label, score] = segment;
    this.tip.textContent = `${label}, ${clock(start)} to ${clock(end)}, score ${score.toFixed(2)}`;
    this.tip.style.left = `${clamp(place.x + 12, 0, Math.max(0, this.stage.clientWidth - this.tip.offsetWidth))}px`;
    this.tip.style.top = `${place.y + 16}px`;
  }
}

function fitted(pen, text, width) {
  if (pen.measureText(text).width <= width) return text;
  let length = text.length;
  while (length > 1 && pen.measureText(text.slice(0, length) + "…").width > width) length--;
  return text.slice(0, length) + "…";
}

function rounded(pen, x, y, width, height, radius) {
  pen.beginPath();
  if (width < 5) { pen.rect(x, y, width, height); return; } // corners that nobody sees take their time
  pen.roundRect(x, y, width, height, Math.min(radius, width / 2));
}

// ---- the table: only the rows in sight exist ----

class Table {
  static ROW = 34;
  static COLUMNS = [["from", START, true], ["to", END, true], ["label", LABEL, false], ["score", SCORE, true]];

  constructor(view) {
    this.view = view;
    this.by = SCORE;
    this.falling = true;
    this.rows = [];
    this.heads = Table.COLUMNS.map(([name, column, number]) => element("th", { scope: "col", className: number ? "number" : "" },
      element("button", { type: "button", onclick: () => this.sort(column) }, name)));
    this.body = element("tbody");
    this.scroller = element("div", { className: "rows", tabIndex: -1 },
      element("table", {}, element("thead", {}, element("tr", {}, ...this.heads)), this.body));
    this.scroller.addEventListener("scroll", () => this.draw());
    this.count = element("span", { className: "count", role: "status" });
    this.root = element("div", { className: "table" },
      element("div", { className: "bar" }, this.count, element("span", { className: "space" }),
        element("button", { type: "button", onclick: () => this.export("csv") }, "Save as CSV"),
        element("button", { type: "button", onclick: () => this.export("json") }, "Save as JSON")),
      this.scroller);
  }

  sort(column) {
    this.falling = column === this.by ? !this.falling : column === SCORE;
    this.by = column;
    this.fill();
  }

  fill() {
    const { by } = this, sign = this.falling ? -1 : 1;
    const order = by === LABEL ? (a, b) => a[by].localeCompare(b[by]) : (a, b) => a[by] - b[by];
    this.rows = [...this.view.shown].sort((a, b) => sign * order(a, b) || a[START] - b[START]);
    Table.COLUMNS.forEach(([, column], index) => {
      this.heads[index].ariaSort = column === by ? (this.falling ? "descending" : "ascending") : "none";
    });
    const whole = this.view.video.found.length;
    this.count.textContent = this.rows.length === whole ? plural(whole, "segment") : `${this.rows.length.toLocaleString("en")} of ${plural(whole, "segment")}`;
    this.scroller.hidden = !this.rows.length;
    this.draw();
  }

  draw() {
    const { ROW } = Table, height = this.scroller.clientHeight || 420, first = Math.max(0, Math.floor(this.scroller.scrollTop / ROW) - 6);
    const last = Math.min(this.rows.length, first + Math.ceil(height / ROW) + 12);
    const spacer = rows => element("tr", { className: "spacer", ariaHidden: "true" },
      element("td", { colSpan: 4, style: `height: ${rows * ROW}px` }));
    const focused = this.body.contains(document.activeElement) ? document.activeElement.segment : null;
    this.body.replaceChildren(...(first ? [spacer(first)] : []), ...this.rows.slice(first, last).map(segment => this.row(segment)),
      ...(last < this.rows.length ? [spacer(this.rows.length - last)] : []));
    if (focused) [...this.body.children].find(row => row.segment === focused)?.focus({ preventScroll: true });
  }

  row(segment) {
    const made = element("tr", {
      tabIndex: 0, onclick: () => this.view.play(segment), className: segment === this.view.picked ? "picked" : "",
      onkeydown: event => { if (event.key === "Enter") this.view.play(segment); },
    },
      element("td", { className: "number" }, clock(segment[START])), element("td", { className: "number" }, clock(segment[END])),
      element("td", {}, segment[LABEL]), element("td", { className: "number" }, segment[SCORE].toFixed(2)));
    made.segment = segment;
    return made;
  }

  reveal(segment) {
    const index = this.rows.indexOf(segment), { ROW } = Table, top = index * ROW, seen = this.scroller;
    if (index < 0) return;
    if (top < seen.scrollTop || top + 2 * ROW > seen.scrollTop + seen.clientHeight) seen.scrollTop = top - seen.clientHeight / 2;
    this.draw();
  }

  export(kind) { // what is shown, in the forms that tal-run itself writes
    const { video } = this.view, name = video.name.replace(/[^\p{L}\p{N}._-]+/gu, "_").replace(/^\.+/, "") || "detections";
    if (kind === "csv") {
      const lines = this.rows.map(([start, end, label, score]) => [video.name, label, start, end, score].map(cell).join(","));
      saved(`${name}.csv`, "text/csv", ["video_id,label,start_s,end_s,score", ...lines, ""].join("\n"));
    } else {
      const found = this.rows.map(([start, end, label, score]) => ({ label, score, segment: [start, end] }));
      const document = { version: `tal-run ${data.version}`, results: { [video.name]: found }, external_data: {} };
      saved(`${name}.json`, "application/json", JSON.stringify(document, null, 1) + "\n");
    }
  }
}

// ---- one video ----

class View {
  constructor(video) {
    this.video = video;
    this.least = 0;
    this.hidden = new Set();
    this.picked = null;
    this.stopAt = Infinity;
    this.boundariesShown = false;
    const labels = new Set([...video.found, ...video.truth].map(segment => segment[LABEL]));
    for (const curve of video.curves) labels.add(curve.label);
    const best = new Map();
    for (const segment of video.found) best.set(segment[LABEL], Math.max(best.get(segment[LABEL]) ?? -Infinity, segment[SCORE]));
    this.labels = [...labels].sort((a, b) => (best.get(b) ?? -Infinity) - (best.get(a) ?? -Infinity) || a.localeCompare(b));
    const scores = video.found.map(segment => segment[SCORE]);
    this.lowest = Math.min(0, ...best.values(), scores.reduce((a, b) => Math.min(a, b), 0));
    this.highest = Math.max(1e-9, scores.reduce((a, b) => Math.max(a, b), -Infinity) > 1 ? scores.reduce((a, b) => Math.max(a, b)) : 1);
    this.least = this.lowest;
    this.player = this.makePlayer();
    this.timeline = new Timeline(this);
    this.table = new Table(this);
    this.root = element("main", { className: "view" }, ...this.parts());
    this.filter();
  }

  get time() { return this.player ? this.player.currentTime : this.picked ? this.picked[START] : 0; }

  strength(score) { return clamp((score - this.lowest) / (this.highest - this.lowest), 0, 1); }

  shownLabels() { return this.labels.filter(label => !this.hidden.has(label)); }

  parts() {
    const { video } = this, facts = [`${clock(video.duration)} long`, `${plural(video.found.length, "segment")} found`];
    if (video.truth.length) facts.push(`${plural(video.truth.length, "true segment")}`);
    return [
      element("h1", {}, video.name),
      element("p", { className: "facts" }, facts.join(", ")),
      ...video.notes.map(note => element("p", { className: "note" }, `Note: ${note}`)),
      ...(this.player ? [this.player, this.trouble] : [element("p", { className: "note" }, video.trouble)]),
      this.transport(), this.filters(), this.timeline.root, this.legend(), this.table.root,
    ];
  }

  makePlayer() {
    if (!this.video.link && !this.video.embedded) return null;
    const player = element("video", { controls: true, preload: "metadata", playsInline: true });
    player.setAttribute("playsinline", "");
    player.src = this.video.embedded ? embedded(this.video.embedded) : this.video.link;
    this.trouble = element("p", { className: "note", hidden: true });
    player.addEventListener("error", () => {
      player.hidden = true; // a small picture of it is better than a player that cannot play
      if (this.video.picture) player.after(picture(this.video, "still"));
      this.trouble.hidden = false;
      this.trouble.textContent = "This browser cannot play the video: it is not where it was when this page was made (" +
        decodeURIComponent(this.video.link || "in this page") + "), or in a form that browsers do not play. Segments can still be looked at.";
    });
    const tick = () => {
      this.passed();
      if (!player.paused) requestAnimationFrame(tick);
    };
    player.addEventListener("play", tick);
    player.addEventListener("timeupdate", () => this.passed());
    player.addEventListener("seeked", () => this.passed());
    return player;
  }

  passed() { // some time of the video
    if (this.player.currentTime >= this.stopAt) {
      this.player.pause();
      this.stopAt = Infinity;
    }
    this.timeline.moveNow(this.player.currentTime);
    this.clock.textContent = `${clock(this.player.currentTime)} / ${clock(this.video.duration)}`;
  }

  transport() {
    const button = (text, title, onclick) => element("button", { type: "button", title, onclick }, text);
    this.clock = element("span", { className: "clock" }, `0:00.0 / ${clock(this.video.duration)}`);
    return element("div", { className: "bar transport" },
      button("◀ Previous", "Previous segment (p)", () => this.step(-1)), button("Next ▶", "Next segment (n)", () => this.step(1)),
      this.clock, element("span", { className: "space" }),
      button("−", "Zoom out (-)", () => this.timeline.zoom(0.5)), button("+", "Zoom in (+)", () => this.timeline.zoom(2)),
      button("Whole video", "Show all of it (0)", () => this.timeline.show(0, this.video.duration)));
  }

  filters() {
    this.value = element("output", {}, this.lowest.toFixed(2));
    const span = this.highest - this.lowest;
    this.slider = element("input", { type: "range", min: this.lowest, max: this.highest, step: span / 100, value: this.lowest, ariaLabel: "Least score" });
    this.slider.addEventListener("input", () => {
      this.least = Number(this.slider.value);
      this.value.textContent = this.least.toFixed(2);
      this.filter();
    });
    const counts = new Map();
    for (const segment of this.video.found) counts.set(segment[LABEL], (counts.get(segment[LABEL]) ?? 0) + 1);
    this.chips = this.labels.map(label => {
      const chip = element("button", { type: "button", className: "chip", ariaPressed: "true", onclick: () => this.toggle(label) }, label,
        element("span", {}, String(counts.get(label) ?? 0)));
      chip.label = label;
      return chip;
    });
    const parts = [element("label", { className: "score" }, "Score at least", this.slider, this.value)];
    const chips = element("div", { className: "chips", role: "group", ariaLabel: "Labels" }, ...this.chips);
    if (this.labels.length > 1) {
      const tools = [element("button", { type: "button", className: "link", onclick: () => this.showOnly(this.labels) }, "all"),
        element("button", { type: "button", className: "link", onclick: () => this.showOnly([]) }, "none")];
      if (this.labels.length > MANY) {
        tools.unshift(element("input", { type: "search", placeholder: "Label …", ariaLabel: "Search labels", oninput: event => this.search(event.target.value) }));
      }
      chips.append(...tools);
    }
    if (this.labels.length) parts.push(chips);
    if (this.video.boundaries.length) {
      parts.push(element("label", { className: "check" }, element("input", { type: "checkbox", onchange: event => {
        this.boundariesShown = event.target.checked;
        this.timeline.draw();
      } }), `Boundaries between ActionBytes (${this.video.boundaries.length})`));
    }
    return element("div", { className: "filters" }, ...parts);
  }

  legend() {
    const entries = [element("span", { className: "key found" }, "found, stronger for a higher score")];
    if (this.video.truth.length) entries.push(element("span", { className: "key true" }, "true"));
    if (this.video.curves.length) entries.push(element("span", { className: "key curve" }, "score over time"));
    return element("p", { className: "legend" }, ...entries);
  }

  toggle(label) {
    if (!this.hidden.delete(label)) this.hidden.add(label);
    this.filter();
  }

  showOnly(labels) {
    this.hidden = new Set(this.labels.filter(label => !labels.includes(label)));
    this.filter();
  }

  search(words) {
    const wanted = words.toLocaleLowerCase();
    for (const chip of this.chips) chip.hidden = !chip.label.toLocaleLowerCase().includes(wanted);
  }

  filter() {
    this.shown = this.video.found.filter(segment => segment[SCORE] >= this.least - 1e-9 && !this.hidden.has(segment[LABEL]));
    this.drawn = new Map();
    for (const segment of [...this.shown].sort((a, b) => a[SCORE] - b[SCORE])) {
      if (!this.drawn.has(segment[LABEL])) this.drawn.set(segment[LABEL], []);
      this.drawn.get(segment[LABEL]).push(segment);
    }
    for (const chip of this.chips ?? []) chip.ariaPressed = String(!this.hidden.has(chip.label));
    this.inTime = [...this.shown].sort((a, b) => a[START] - b[START] || a[END] - b[END]);
    this.timeline.draw();
    this.table.fill();
  }

  seek(seconds) {
    this.stopAt = Infinity;
    if (this.player) this.player.currentTime = clamp(seconds, 0, this.video.duration);
  }

  play(segment) {
    this.pick(segment);
    if (!this.player) return;
    this.player.currentTime = segment[START];
    this.stopAt = segment[END];
    this.player.play().catch(() => {}); // a browser may want a click first
  }

  pick(segment) {
    this.picked = segment;
    this.timeline.reveal(segment);
    this.timeline.draw();
    this.table.reveal(segment);
    this.table.draw();
  }

  step(by) { // to the next segment in time, or the one before
    const { inTime } = this;
    if (!inTime.length) return;
    const at = inTime.indexOf(this.picked), { time } = this;
    let next = at + by;
    if (at < 0) next = by > 0 ? inTime.findIndex(segment => segment[START] >= time - 0.05) : inTime.findLastIndex(segment => segment[START] < time - 0.05);
    this.play(inTime[clamp(next, 0, inTime.length - 1)]);
  }

  key(event) { // whether it meant something
    const { player } = this, length = event.shiftKey ? 1 : 5;
    const actions = {
      " ": () => player && (player.paused ? (this.stopAt = Infinity, player.play().catch(() => {})) : player.pause()),
      ArrowLeft: () => this.seek(this.time - length), ArrowRight: () => this.seek(this.time + length),
      n: () => this.step(1), p: () => this.step(-1),
      "+": () => this.timeline.zoom(2, this.time), "=": () => this.timeline.zoom(2, this.time), "-": () => this.timeline.zoom(0.5, this.time),
      "0": () => this.timeline.show(0, this.video.duration),
    };
    const action = actions[event.key];
    if (action) action();
    return Boolean(action);
  }

  leave() { this.player?.pause(); }
}

function picture(video, className = "") { // the small one that is part of the page
  return element("img", { alt: "", className, src: `data:image/webp;base64,${video.picture}` });
}

function embedded(id) { // a video that is part of the page
  const { type, content } = JSON.parse(document.getElementById(id).textContent);
  return URL.createObjectURL(new Blob([bytes(content)], { type }));
}

function bytes(base64) {
  return Uint8Array.from(atob(base64), letter => letter.charCodeAt(0));
}

// ---- several videos: a list with pictures, and a search ----

class Index {
  constructor(videos, open) {
    this.cards = videos.map((video, number) => this.card(video, () => open(number)));
    this.count = element("span", { className: "count", role: "status" });
    this.search = element("input", { type: "search", placeholder: "Search videos and labels", ariaLabel: "Search videos and labels", oninput: () => this.filter() });
    this.sorting = element("select", { ariaLabel: "Order", onchange: () => this.sort() },
      ...["by name", "best first", "most segments", "longest"].map(text => element("option", {}, text)));
    this.list = element("div", { className: "cards" }, ...this.cards);
    this.root = element("main", {}, element("h1", {}, document.title),
      element("div", { className: "bar" }, this.search, this.sorting, element("span", { className: "space" }), this.count), this.list);
    // pictures only of what is in sight
    const watcher = new IntersectionObserver(entries => {
      for (const { target, isIntersecting } of entries) this.picture(target, isIntersecting);
    }, { rootMargin: "200px" });
    for (const card of this.cards) watcher.observe(card);
    this.sort();
    this.filter();
  }

  card(video, onclick) {
    const labels = [...new Set(video.found.map(segment => segment[LABEL]))];
    const best = video.found.reduce((a, b) => (!a || b[SCORE] > a[SCORE] ? b : a), null);
    const strip = element("div", { className: "mini" });
    for (const [start, end] of video.found.slice(0, 200)) {
      strip.append(element("i", { style: `left: ${100 * start / video.duration}%; width: ${Math.max(0.5, 100 * (end - start) / video.duration)}%` }));
    }
    const card = element("button", { type: "button", className: "card", onclick }, element("div", { className: "picture" }), strip,
      element("b", {}, video.name), element("span", {}, `${clock(video.duration, 0)}, ${plural(video.found.length, "segment")}`),
      element("span", { className: "labels" }, labels.slice(0, 4).join(", ") + (labels.length > 4 ? ` and ${labels.length - 4} more` : "")));
    Object.assign(card, { video, best, text: [video.name, ...labels].join("\n").toLocaleLowerCase() });
    return card;
  }

  picture(card, seen) {
    const frame = card.querySelector(".picture"), { video, best } = card;
    if (!seen) { frame.replaceChildren(); return; }
    if (frame.firstChild) return;
    if (video.picture) {
      const image = picture(video);
      image.addEventListener("load", () => image.classList.toggle("whole", image.naturalWidth < image.naturalHeight));
      frame.append(image);
      return;
    }
    if (!video.link) { frame.append(element("i", {}, "no picture")); return; }
    const at = best ? (best[START] + best[END]) / 2 : video.duration / 2;
    frame.append(element("video", { muted: true, preload: "metadata", src: `${video.link}#t=${at.toFixed(2)}`, tabIndex: -1, ariaHidden: "true" }));
  }

  sort() {
    const orders = [
      (a, b) => a.video.name.localeCompare(b.video.name, undefined, { numeric: true }), (a, b) => (b.best?.[SCORE] ?? -1) - (a.best?.[SCORE] ?? -1),
      (a, b) => b.video.found.length - a.video.found.length, (a, b) => b.video.duration - a.video.duration];
    this.list.append(...[...this.cards].sort(orders[this.sorting.selectedIndex]));
  }

  filter() {
    const words = this.search.value.toLocaleLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const card of this.cards) {
      card.hidden = !words.every(word => card.text.includes(word));
      shown += !card.hidden;
    }
    this.count.textContent = shown === this.cards.length ? plural(shown, "video") : `${shown} of ${plural(this.cards.length, "video")}`;
  }

  key() { return false; }
  leave() {}
}

// ---- the page ----

class Page {
  constructor() {
    this.views = new Map();
    this.place = document.getElementById("place");
    this.back = document.getElementById("back");
    this.back.hidden = data.videos.length < 2;
    for (const video of data.videos) for (const curve of video.curves) curve.scores = bytes(curve.scores);
    window.addEventListener("hashchange", () => this.route());
    document.addEventListener("keydown", event => this.key(event));
    document.getElementById("theme").addEventListener("click", () => this.theme());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.current.timeline?.draw());
    document.getElementById("help").addEventListener("click", () => document.getElementById("keys").showModal());
    this.route();
  }

  route() {
    const number = data.videos.length === 1 ? 0 : Number(/^#video=(\d+)$/.exec(location.hash)?.[1] ?? NaN) - 1;
    const one = number in data.videos;
    this.current?.leave();
    const key = one ? number : -1;
    if (!this.views.has(key)) {
      this.views.set(key, one ? new View(data.videos[number]) : new Index(data.videos, chosen => { location.hash = `video=${chosen + 1}`; }));
    }
    this.current = this.views.get(key);
    this.place.replaceChildren(this.current.root);
    this.back.hidden = !one || data.videos.length < 2;
    window.scrollTo(0, 0);
    if (one) { this.current.timeline.draw(); this.current.table.draw(); }
  }

  key(event) {
    const { target } = event, tag = target.tagName;
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || document.getElementById("keys").open) return;
    if (tag === "SELECT" || (tag === "INPUT" && target.type !== "checkbox" && (target.type !== "range" || event.key.startsWith("Arrow")))) return;
    if (tag === "VIDEO" && (event.key === " " || event.key.startsWith("Arrow"))) return; // its own
    if (tag === "BUTTON" && (event.key === " " || event.key === "Enter")) return;
    if (event.key === "?") document.getElementById("keys").showModal();
    else if (!this.current.key(event)) return;
    event.preventDefault();
  }

  theme() {
    const root = document.documentElement, dark = (root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
    root.dataset.theme = dark ? "light" : "dark";
    this.current.timeline?.draw();
  }
}

window.page = new Page();
