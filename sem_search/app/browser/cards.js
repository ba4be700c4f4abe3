// A card and a line of the table for each image.
function show(item) {
  const { card, answer } = item, words = writeState(item);
  card.className = answer ? writeTrust(answer) : item.state;
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
  if (item.error) return ` The model was asked again and gave no answer: ${item.error}`;
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
  const isBefore = (other) => Number(other.dataset.place) > item.place;
  const isLast = !body.lastElementChild || !isBefore(body.lastElementChild); // of a batch each row: no search among thousands
  body.insertBefore(row, isLast ? null : [...body.rows].find(isBefore));
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
  byId("outdated").hidden = !items.some(isOutdated);
}

function download() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([writeCsv(sorted())], { type: "text/csv" }));
  link.download = "predictions.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), POLL_MS);
}

const sorted = () => [...items].sort((a, b) => findRank(a) - findRank(b) || a.place - b.place);
