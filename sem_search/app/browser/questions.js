// Which images the server is asked about: one after the other, since it works on one at a time anyway.
const POLL_MS = 10000, LOADING_MS = 1000, BUSY_MS = 2000, BUSY_TRIES = 30;

const items = []; // {name, place, file, card, row, state, answer, error, pictures}; states: waiting, asking, answered, failed, stopped
const queue = [];
let current = null; // what the server says of the version that answers
let asking = null; // stops the request that is under way

function readAsDataUrl(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new Error("the browser could not read the file"));
    reader.readAsDataURL(file);
  });
}

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

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
    const content = response.ok ? await response.json() : await response.json().catch(() => null); // a proxy refuses in HTML
    if (!response.ok) throw new Error(content?.message || `the server answered with status ${response.status}`);
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
  notify(`The ${alias ?? "model"} changed: version ${current.version} answers from now on.` +
    (items.some(isOutdated) ? " The answers of earlier versions are marked." : ""));
  items.forEach(show);
  showProgress();
}

const notify = (text) => { byId("notice").firstElementChild.textContent = text; };

const isOutdated = (item) => Boolean(item.answer?.model_version && current?.version
  && item.answer.model_version !== current.version);

const getCoverage = () => Number(byId("coverage").value);
const isOfOtherCoverage = (item) => item.answer.is_known !== false && item.answer.coverage !== getCoverage();
const wantsPictures = (item) => item.card.querySelector("details").open && !item.pictures;

function enqueue(asked, { isFirst = false } = {}) {
  for (const item of asked) item.state = "waiting";
  asked.forEach(show);
  showProgress();
  if (isFirst) queue.unshift(...asked); else queue.push(...asked);
  if (!asking) work();
}

async function work() {
  try {
    while (queue.length) {
      asking = new AbortController();
      await answer(queue.shift(), asking.signal);
    }
  } finally {
    asking = null;
  }
}

async function answer(item, signal) {
  setState(item, "asking");
  try {
    item.error = null;
    take(item, await ask(item, signal));
  } catch (error) {
    item.error = signal.aborted ? null : error.message || String(error);
  }
  setState(item, item.answer ? "answered" : item.error ? "failed" : "stopped");
  if (item.answer && !item.error && !signal.aborted && (wantsPictures(item) || isOfOtherCoverage(item))) enqueue([item], { isFirst: true });
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
  const left = queue.splice(0);
  for (const item of left) item.state = item.answer ? "answered" : "stopped";
  left.forEach(show);
  showProgress();
  asking?.abort();
}

function setState(item, state) {
  item.state = state;
  show(item);
  showProgress();
}
