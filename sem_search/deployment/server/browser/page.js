// Files in, cards and a table out; the server is asked about one image at a time, since it works on one at a time.
const OPEN_AT_ONCE = 4; // of so many files each card is open and has its pictures; of more they come when a card is opened
const POLL_MS = 10000, LOADING_MS = 1000, BUSY_MS = 2000, BUSY_TRIES = 30;
const SUFFIXES = /\.(tiff?|png|jpe?g|bmp)$/i;

const byId = (id) => document.getElementById(id);
const copy = (id) => byId(id).content.firstElementChild.cloneNode(true);
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const items = []; // {name, place, file, card, row, state, answer, error, pictures}; states: waiting, asking, answered, failed, stopped
const names = new Set();
const queue = [];
let current = null; // what the server says of the version that answers
let asking = null; // stops the request that is under way

function add(parent, tag, text, className) {
  const element = document.createElement(tag);
  if (text !== undefined && text !== null) element.textContent = text; // never HTML: names come from anywhere
  if (className) element.className = className;
  parent.append(element);
  return element;
}

// ---- the server ----

function readAsDataUrl(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new Error("the browser could not read the file"));
    reader.readAsDataURL(file);
  });
}

async function ask(item, signal) {
  const body = JSON.stringify({
    dataframe_records: [{ image: (await readAsDataUrl(item.file)).replace(/^data:[^,]*,/, "data:;base64,") }],
    params: { explain: wantsPictures(item), on_error: "report", coverage: getCoverage() },
  });
  for (let nTries = 1; ; nTries++) {
    const response = await fetch("invocations",
      { method: "POST", headers: { "Content-Type": "application/json" }, body, signal });
    if (response.status === 503 && nTries < BUSY_TRIES && !signal.aborted) {
      await sleep(BUSY_MS);
      continue;
    }
    const content = await response.json();
    if (!response.ok) throw new Error(content.message);
    if (content.predictions[0].error) throw new Error(content.predictions[0].error);
    return content.predictions[0];
  }
}

async function lookAtVersion() {
  try {
    const before = current;
    current = await (await fetch("version")).json();
    byId("model").textContent = current.model ? nameModel(current.model, current.version) : "the model is being loaded …";
    if (before?.model && current.model && before.version !== current.version) sayChanged();
  } catch {
    byId("model").textContent = "the server does not answer";
  }
}

async function watchVersion() { // again and again: the champion changes while a page is open
  await lookAtVersion();
  setTimeout(watchVersion, current && !current.model ? LOADING_MS : POLL_MS);
}

function sayChanged() {
  const alias = current.address?.split("@")[1];
  const nOlder = items.filter(isOutdated).length;
  notify(`The ${alias ?? "model"} changed: version ${current.version} answers from now on. ` +
    (nOlder ? `${count(nOlder, "answer")} below ${nOlder === 1 ? "is" : "are"} of an earlier version.` : ""), nOlder > 0);
  items.forEach(show);
}

function notify(text, canAskAgain = false) {
  const [words, button] = byId("notice").children;
  words.textContent = text;
  button.hidden = !canAskAgain;
}

const isOutdated = (item) => Boolean(item.answer?.model_version && current?.version
  && item.answer.model_version !== current.version);

// ---- the queue ----

const getCoverage = () => Number(byId("coverage").value);
const isOfOtherCoverage = (item) => item.answer.is_known !== false && item.answer.coverage !== getCoverage();
const wantsPictures = (item) => item.card.querySelector("details").open && !item.pictures;

function enqueue(asked, { isFirst = false } = {}) {
  for (const item of asked) setState(item, "waiting");
  if (isFirst) queue.unshift(...asked); else queue.push(...asked);
  if (!asking) work();
}

async function work() {
  while (queue.length) {
    asking = new AbortController();
    await answer(queue.shift(), asking.signal);
  }
  asking = null;
  showProgress();
}

async function answer(item, signal) {
  setState(item, "asking");
  try {
    item.error = null;
    take(item, await ask(item, signal));
  } catch (error) {
    item.error = signal.aborted ? null : error.message;
  }
  setState(item, item.answer ? "answered" : item.error ? "failed" : "stopped");
  if (!item.error && !signal.aborted && (wantsPictures(item) || isOfOtherCoverage(item))) enqueue([item], { isFirst: true });
}

function take(item, found) {
  const { overlay_png: overlay, ...answered } = found;
  if (item.answer?.model_version !== answered.model_version) dropPictures(item);
  if (overlay) {
    item.pictures = { overlay: toUrl(overlay), image: found.image_png ? toUrl(found.image_png) : null,
      caption: writeCaption(found) };
  }
  delete answered.image_png;
  item.answer = answered;
  showAnswer(item);
  if (current && answered.model_version && answered.model_version !== current.version) lookAtVersion();
}

function toUrl(base64) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  return URL.createObjectURL(new Blob([bytes], { type: "image/png" }));
}

function dropPictures(item) {
  for (const url of [item.pictures?.overlay, item.pictures?.image]) if (url) URL.revokeObjectURL(url);
  item.pictures = null;
}

function stop() {
  for (const item of queue.splice(0)) setState(item, item.answer ? "answered" : "stopped");
  asking?.abort();
}

function setState(item, state) {
  item.state = state;
  show(item);
  showProgress();
}

// ---- what is shown ----

function show(item) {
  const { card, answer } = item, words = writeState(item);
  card.className = answer ? { one: "known", unknown: "unknown" }[findKind(answer)] ?? "doubt" : item.state;
  card.querySelector("h2").textContent = words.heading;
  card.querySelector(".lead").textContent = words.lead;
  showRow(item, words);
}

function writeState(item) {
  if (item.answer) return { heading: writeHeading(item.answer), lead: writeLead(item.answer) + writeAfterthought(item) };
  return {
    waiting: { heading: "Waiting", lead: "" },
    asking: { heading: "Looking …", lead: "" },
    stopped: { heading: "Stopped", lead: "The model was not asked." },
    failed: { heading: "No answer", lead: item.error && writeSentence(item.error) },
  }[item.state];
}

function writeAfterthought(item) {
  if (item.state !== "answered") return " The model is asked again …";
  if (item.error) return ` The model was asked again in vain: ${item.error}`;
  return isOutdated(item) ? ` Version ${item.answer.model_version} answered, which version ${current.version} has replaced.` : "";
}

const showAnswer = (item) => item.card.querySelector(".body").replaceChildren(...buildBody(item));

function buildBody(item) {
  const { answer, pictures } = item, isUnknown = findKind(answer) === "unknown";
  const words = document.createElement("div"), facts = document.createElement("dl"), warnings = listWarnings(answer);
  const list = warnings.length ? add(words, "ul", null, "warnings") : null;
  for (const warning of warnings) add(list, "li", warning);
  if (isUnknown) words.append(buildClosest(answer));
  else addBars(words, answer);
  for (const [what, value, explanation] of listFacts(answer)) {
    add(facts, "dt", what);
    add(add(facts, "dd", value), "small", explanation);
  }
  return [words, ...(pictures ? [buildPictures(item, isUnknown ? "image" : "both")] : []), facts];
}

function buildClosest(answer) {
  const closest = copy("closest");
  closest.querySelector("b").textContent = answer.label;
  addBars(closest, answer);
  return closest;
}

function addBars(box, answer) {
  const list = add(box, "ul", null, "bars");
  list.setAttribute("aria-label", "Probability of each material");
  const members = new Set(findKind(answer) === "unknown" ? [] : answer.prediction_set);
  for (const [name, share] of Object.entries(answer.probabilities).sort((a, b) => b[1] - a[1])) {
    const row = add(list, "li", null, members.has(name) ? "member" : "");
    add(row, "i").style.width = 100 * share + "%";
    add(row, "span", name);
    add(row, "span", percent(share));
  }
}

function buildPictures(item, view) {
  const figure = copy("pictures"), { pictures } = item;
  const [original, overlay] = figure.querySelectorAll("img");
  overlay.src = pictures.overlay;
  overlay.alt = pictures.caption;
  if (pictures.image) original.src = pictures.image;
  figure.querySelector(".views").hidden = !pictures.image;
  figure.dataset.view = item.view ?? (pictures.image ? view : "overlay");
  for (const choice of figure.querySelectorAll("input")) {
    choice.name = `view of ${item.name}`;
    choice.checked = choice.value === figure.dataset.view;
    choice.addEventListener("change", () => { figure.dataset.view = item.view = choice.value; });
  }
  for (const button of figure.querySelectorAll(".zoom")) {
    button.setAttribute("aria-label", button.dataset.picture === "image" ? "Enlarge the original" : "Enlarge the overlay");
    button.addEventListener("click", () => zoom(pictures, button.dataset.picture));
  }
  figure.querySelector("figcaption").textContent = pictures.caption;
  return figure;
}

function zoom(pictures, shown) {
  const image = byId("zoom").querySelector("img"), flip = byId("flip");
  const display = (which) => {
    const other = which === "image" ? "overlay" : "image";
    image.src = pictures[which];
    image.alt = which === "image" ? "The original image" : pictures.caption;
    flip.textContent = `Show the ${other === "image" ? "original" : "overlay"}`;
    flip.hidden = !pictures[other];
    flip.onclick = () => display(other);
  };
  display(shown);
  byId("zoom").showModal();
}

// ---- the table ----

const RANKS = ["unknown", "failed", "open", "several", "one", "sure", "none"]; // a tbody for each

function findRank(item) {
  const { answer } = item;
  if (!answer) return RANKS.indexOf(item.state === "failed" ? "failed" : "none");
  return RANKS.indexOf(findDoubts(answer).length ? findKind(answer) : "sure");
}

function showRow(item, words) {
  const { row, answer } = item;
  const [, heading, probability, reasons, version] = row.children;
  heading.textContent = words.heading;
  probability.textContent = answer && answer.is_known !== false ? percent(answer.probability) : "";
  reasons.textContent = answer ? findDoubts(answer).join(", ") : item.state === "failed" ? words.lead : "";
  version.textContent = answer ? nameVersion(answer) + (isOutdated(item) ? " (replaced)" : "") : "";
  const body = byId("results").querySelector("table").tBodies[findRank(item)];
  if (row.parentElement === body) return;
  body.insertBefore(row, [...body.rows].find((other) => Number(other.dataset.place) > item.place) ?? null);
}

function showProgress() {
  const n = (...states) => items.filter((item) => states.includes(item.state)).length;
  const nDone = n("answered", "failed"), nMissing = n("failed", "stopped"), isBusy = n("waiting", "asking") > 0;
  const box = byId("progress");
  box.hidden = items.length < 2 && !nMissing;
  box.querySelector("span").textContent = `${nDone} of ${count(items.length, "image")} done` +
    (n("failed") ? `, ${n("failed")} without an answer` : "");
  Object.assign(box.querySelector("progress"), { value: nDone, max: items.length || 1 });
  byId("stop").hidden = !isBusy;
  byId("continue").hidden = isBusy || !nMissing;
  byId("continue").textContent = `Ask again about ${count(nMissing, "image")}`;
  byId("results").hidden = items.length < 2;
}

function download() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([writeCsv(sorted())], { type: "text/csv" }));
  link.download = "predictions.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), POLL_MS);
}

const sorted = () => [...items].sort((a, b) => findRank(a) - findRank(b) || a.place - b.place);

// ---- files ----

function addFiles(found) { // [name, file] pairs
  const cards = found.map(([name, file]) => addItem(name, file, found.length <= OPEN_AT_ONCE));
  byId("answers").prepend(...cards.map((item) => item.card));
  enqueue(cards);
}

function addItem(given, file, isOpen) {
  let name = given;
  for (let number = 2; names.has(name); number++) name = `${given} (${number})`;
  names.add(name);
  const card = copy("card"), row = document.createElement("tr");
  const place = items.length + 1;
  const item = { name, place, file, card, row, state: "waiting", answer: null, error: null, pictures: null };
  card.id = `image-${place}`;
  row.dataset.place = place;
  card.querySelector(".file").textContent = `${name}, ${(file.size / 1e6).toFixed(1)} MB`;
  const details = card.querySelector("details");
  details.open = isOpen;
  details.addEventListener("toggle", () => {
    if (wantsPictures(item) && item.state === "answered") enqueue([item], { isFirst: true });
  });
  const link = add(add(row, "td"), "a", name);
  link.href = `#${card.id}`;
  link.addEventListener("click", () => { details.open = true; });
  for (let n = 0; n < 4; n++) add(row, "td");
  items.push(item);
  return item;
}

async function listEntry(entry) { // a dropped file or folder, with all that is in it
  if (entry.isFile) return [[entry.fullPath.slice(1), await new Promise((...ends) => entry.file(...ends))]];
  const reader = entry.createReader(), found = [];
  for (;;) {
    const some = await new Promise((...ends) => reader.readEntries(...ends)); // a part of the folder at a time
    if (!some.length) return found;
    for (const one of some) found.push(...(await listEntry(one)));
  }
}

function keepImages(found) { // of folders: what is no picture by its name, or hidden, is left out
  const kept = found.filter(([name]) => SUFFIXES.test(name) && !/(^|\/)\./.test(name));
  const nOthers = found.length - kept.length;
  notify(nOthers || !kept.length ? `${count(kept.length, "image")} found; ${count(nOthers, "other file")} left out.` : "");
  return kept.sort(([a], [b]) => a.localeCompare(b, undefined, { numeric: true }));
}

async function addDropped(transfer) {
  const entries = [...transfer.items].map((one) => one.webkitGetAsEntry?.()), files = [...transfer.files];
  if (!entries.some((entry) => entry?.isDirectory)) return addFiles(files.map((file) => [file.name, file]));
  const lists = await Promise.all(entries.filter(Boolean).map(listEntry));
  return addFiles(keepImages(lists.flat()));
}

byId("file").addEventListener("change", ({ target }) => {
  addFiles([...target.files].map((file) => [file.name, file]));
  target.value = "";
});
byId("folder").addEventListener("change", ({ target }) => {
  addFiles(keepImages([...target.files].map((file) => [file.webkitRelativePath || file.name, file])));
  target.value = "";
});
for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) addEventListener(kind, (event) => {
  event.preventDefault();
  byId("drop").classList.toggle("over", kind.startsWith("dragen") || kind === "dragover");
});
addEventListener("drop", (event) => addDropped(event.dataTransfer));

// ---- buttons ----

byId("coverage").addEventListener("change", () =>
  enqueue(items.filter((item) => item.state === "answered" && isOfOtherCoverage(item))));
byId("notice").lastElementChild.addEventListener("click", () => {
  notify("");
  enqueue(items.filter((item) => item.state === "answered" && isOutdated(item)));
});
byId("stop").addEventListener("click", stop);
byId("continue").addEventListener("click", () => enqueue(items.filter((item) => ["failed", "stopped"].includes(item.state))));
byId("download").addEventListener("click", download);
byId("close").addEventListener("click", () => byId("zoom").close());
addEventListener("beforeprint", () => { byId("printed").textContent = `printed ${new Date().toLocaleString()}`; });
for (const rank of RANKS) add(byId("results").querySelector("table"), "tbody").dataset.rank = rank;
watchVersion();
