// The result: the report's answer, the confusion matrix with the images behind it, doubtful labels, downloads.
let study = null; // what the server says of the study that is shown
let asked = ""; // the study that was asked for last: an earlier answer that comes later is dropped
const seen = {}; // kind of command and study -> the last one whose end was seen

async function listStudies(wanted) {
  const studies = await call("api/studies"), finished = studies.filter((each) => each.is_finished);
  const select = byId("studies");
  select.replaceChildren();
  for (const each of finished) add(select, "option", `${each.name} (${each.backbone}, ${each.preset})`).value = each.name;
  byId("no-study").hidden = finished.length > 0;
  byId("result-part").hidden = !finished.length;
  const name = finished.some((each) => each.name === wanted) ? wanted : finished[0]?.name;
  if (!name) return;
  select.value = name;
  await showStudy(name);
}

async function showStudy(name) {
  asked = name;
  if (study?.name !== name) byId("result-body").hidden = true;
  const [found, html] = await Promise.all([call(writeUrl("api/study", { name })), fetchPage(name)]);
  if (asked !== name) return;
  const isNew = study?.name !== name;
  study = found;
  showVerdict(html);
  if (isNew) showMatrix();
  showDoubtful();
  byId("curve-text").textContent = study.learning_curve ?? "";
  byId("curve-page").hidden = !study.learning_curve;
  byId("curve-page").href = writeUrl("api/study/page", { name, page: "learning-curve" });
  byId("whole-report").href = writeUrl("api/study/page", { name });
  for (const what of ["report", "predictions", "kit"]) byId(`download-${what}`).href = writeUrl("api/study/download", { name, what });
  byId("download-kit").hidden = !study.has_kit;
  byId("mlflow-link").href = study.page;
  byId("result-body").hidden = false;
}

async function fetchPage(name) {
  const response = await fetch(writeUrl("api/study/page", { name }), { headers: authorise() });
  if (!response.ok) throw new Error((await response.json().catch(() => null))?.message ?? "The report cannot be read.");
  return response.text();
}

function showVerdict(html) { // the first screen of the report, in its own style; nothing in it can run
  const page = new DOMParser().parseFromString(html, "text/html"), box = byId("verdict");
  const shade = box.shadowRoot ?? box.attachShadow({ mode: "open" });
  const parts = [page.querySelector("style"), page.querySelector("#verdict"), page.querySelector(".lights")].filter(Boolean);
  for (const part of parts) for (const one of part.querySelectorAll("script, iframe, object, embed, link")) one.remove();
  for (const link of parts.flatMap((part) => [...part.querySelectorAll("a[href^='#']")])) {
    link.href = `${writeUrl("api/study/page", { name: study.name })}${link.getAttribute("href")}`;
    link.target = "_blank";
  }
  if (parts[0].localName === "style") parts[0].textContent = parts[0].textContent.replaceAll(":root", ":host");
  const own = document.createElement("style");
  own.textContent = ":host { display: block; color: #1a1a1a; background: #fff; border-radius: .6rem; padding: .75rem } "
    + "* { max-width: 100%; box-sizing: border-box } .lights { padding: 0 } "
    + "@media (max-width: 40rem) { .lights li { grid-template-columns: 1fr } }"; // the report is written on white paper
  shade.replaceChildren(...parts, own);
}

const countCell = (truth, predicted) => study.images.filter((image) => image.true === truth && image.predicted === predicted);

function showMatrix() {
  const table = byId("matrix"), names = study.classes;
  table.replaceChildren();
  add(table, "caption", "Whole test images: true class in rows, predicted class in columns. Choose a number to see its images.");
  const top = add(add(table, "thead"), "tr");
  add(top, "th", "true \\ predicted").scope = "col";
  for (const name of names) add(add(top, "th"), "span", name).parentElement.scope = "col";
  const body = add(table, "tbody");
  for (const truth of names) {
    const row = add(body, "tr"), nTrue = study.images.filter((image) => image.true === truth).length;
    add(row, "th", truth).scope = "row";
    for (const predicted of names) {
      const found = countCell(truth, predicted), cell = add(row, "td", null, truth === predicted ? "right" : "wrong");
      cell.style.setProperty("--heat", `${nTrue ? Math.round((100 * found.length) / nTrue) : 0}%`);
      if (!found.length) { add(cell, "span", "0", "soft"); continue; }
      addButton(cell, found.length, () => showCell(truth, predicted)).setAttribute("aria-label",
        `${count(found.length, "image")} of ${truth} predicted as ${predicted}`);
    }
  }
  byId("cell").replaceChildren();
}

function showCell(truth, predicted) {
  const box = byId("cell"), images = countCell(truth, predicted).sort((a, b) => a.p_true - b.p_true);
  box.replaceChildren();
  const head = add(box, "h4", truth === predicted ? `${count(images.length, "image")} of ${truth}, correctly classified`
    : `${count(images.length, "image")} of ${truth}, predicted as ${predicted}`);
  head.tabIndex = -1;
  for (const image of images) box.append(buildAnswer(image));
  head.focus();
}

function buildAnswer({ id, fold, true: truth, predicted, p_true, p_predicted }) {
  const card = document.createElement("figure");
  card.className = "answer-card";
  const labels = [...new Set([truth, predicted])], address = { name: study.name, image: id, run: study.run };
  const pair = add(card, "div", null, "pair");
  const original = add(pair, "div");
  addZoom(original, writeUrl("api/study/picture", { name: study.name, image: id, side: "large" }), `${id}, the original`);
  add(original, "span", "the original", "soft");
  for (const label of labels) {
    const part = add(pair, "div");
    addZoom(part, writeUrl("api/study/heat", { ...address, label }), `${id}, where the network looks for ${label}`);
    add(part, "span", `where the network looks for ${label}: bright counts most`, "soft");
  }
  add(card, "figcaption", `${id}: ${truth} ${percent(p_true)}` + (truth === predicted ? "" : `, ${predicted} ${percent(p_predicted)}`) +
    `. Answered in fold ${fold}, by the network that was not trained on it.`);
  return card;
}

function addZoom(parent, url, alt) {
  const button = addButton(parent, null, () => {
    byId("large").src = url;
    byId("large").alt = byId("large-name").textContent = alt;
    byId("large-dialog").showModal();
  }, "zoom");
  button.setAttribute("aria-label", `Enlarge ${alt}`);
  addPicture(button, url, alt);
}

function showDoubtful() {
  const box = byId("doubtful");
  box.replaceChildren();
  byId("no-doubt").hidden = study.doubtful.length > 0;
  for (const row of study.doubtful) {
    const item = add(box, "li");
    addZoom(item, writeUrl("api/study/picture", { name: study.name, image: row.image_id, side: "large" }), row.image_id);
    const words = add(item, "div");
    add(words, "b", row.image_id);
    add(words, "span", `labelled ${row.label} (${percent(row.probability_of_label)}), the network says ${row.other_class} (${percent(row.probability_of_other)})`);
    if (row.inspection) add(words, "span", `Inspection: ${row.inspection}`, "soft");
    add(words, "span", `Chance alone shows about ${row.as_doubtful_by_chance.toFixed(1)} images in as much doubt.`, "soft");
  }
}

function showStudyJobs(jobs) {
  for (const [kind, line, button] of [["learning-curve", "curve-line", "curve-start"], ["kit", "kit-line", "kit-start"]]) {
    const job = jobs[kind], isOwn = job && job.about.study === study?.name;
    byId(button).disabled = job?.state === "running";
    if (isOwn && job.state === "running") seen[`${kind} ${study.name}`] = "";
    byId(line).textContent = !isOwn ? "" : job.state === "running" ? job.line || "It has begun …" : job.state === "done" ? (kind === "kit" ? "It is ready." : "") : job.line;
    if (!isOwn || job.state !== "done") continue;
    const key = `${kind} ${study.name}`;
    if (seen[key] !== undefined && seen[key] !== job.started_at) showStudy(study.name).catch(complain);
    seen[key] = job.started_at;
  }
}
