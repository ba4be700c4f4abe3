// What stands where, and what the server sends: the rooms of the page, and the state of everything that runs.
const ROOMS = ["images", "search", "result", "models", "classify"];

function enter() { // the room that the address names
  const [name, ...rest] = location.hash.slice(1).split("/"), detail = read(rest.join("/"));
  const room = ROOMS.includes(name) ? name : name.startsWith("image-") ? "classify" : "images";
  for (const each of ROOMS) {
    byId(`${each}-room`).hidden = each !== room;
    const link = document.querySelector(`nav a[href="#${each}"]`);
    if (each === room) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  }
  document.title = `${document.querySelector(`nav a[href="#${room}"]`).textContent} – sem_search`;
  if (room === "result" && (!study || detail !== asked)) listStudies(detail || study?.name).catch(complain);
  if (room === "models") showModels().catch(complain);
  if (room === "images" && project.data && !classes.length) openData(project.data).catch((error) => { byId("chooser").open = true; complain(error); });
}

function read(text) { // an address may be typed by hand
  try { return decodeURIComponent(text); } catch { return text; }
}

let source = null;

function listen() { // a page that nobody looks at gives its connection back: browsers have six of them for a server
  if (document.hidden) { source?.close(); source = null; return; }
  if (source) return;
  source = new EventSource("api/events");
  source.addEventListener("message", ({ data }) => takeState(JSON.parse(data)));
  source.addEventListener("error", () => { byId("away").hidden = false; });
  source.addEventListener("open", () => { byId("away").hidden = true; });
}

let lastState = null;

function takeState(state) {
  const before = lastState;
  lastState = state;
  showInspection(state.jobs.inspection);
  showDemo(state.jobs.demo);
  showSearch(state);
  showStudyJobs(state.jobs);
  showRunning(state);
  byId("no-champion").textContent = state.model.name && !state.model.trouble ? "" : writeTrouble(state.model);
  byId("knows").textContent = describeModel(state.model);
  if (before && JSON.stringify(before.model) !== JSON.stringify(state.model)) lookAtVersion();
}

function describeModel({ name, classes: known, headline }) { // what it was not trained for, it cannot say
  return name ? `It knows ${known.join(", ")}, and nothing else${headline ? `. ${headline}.` : "."}` : "";
}

function writeTrouble({ name, trouble }) {
  if (name) return `Another version cannot answer: ${trouble}`;
  if (!trouble) return "A model is being loaded …";
  if (/^There is no regist/.test(trouble)) return "No model answers yet: a search registers its winner, which answers here.";
  return `${trouble} Choose one under Models.`;
}

function showRunning({ jobs }) { // seen from every room
  const running = jobs.search?.state === "running" ? jobs.search : Object.values(jobs).find((job) => job?.state === "running");
  const what = running && (running.kind === "search" ? "A search runs" : `${running.kind[0].toUpperCase()}${running.kind.slice(1)}`);
  byId("running").textContent = running ? [what, running.line].filter(Boolean).join(": ") : "";
}

let awaitsDemo = ""; // the tab that asked for the demonstration set opens it, and no other

function showDemo(job) {
  byId("demo-line").textContent = !job ? "" : job.state === "running" ? job.line || "The pictures are rendered …" : job.state === "done" ? "" : job.line;
  byId("demo").disabled = job?.state === "running";
  if (!awaitsDemo || !job || job.state === "running" || job.started_at < awaitsDemo) return;
  awaitsDemo = "";
  if (job.state === "done") openData(job.about.data, { crop_bottom_px: Number(job.about.crop_bottom_px) }).catch(complain);
}

async function start() {
  const begun = await call("api/start");
  byId("who").hidden = begun.may_change;
  ({ roots, folder: home } = begun);
  fillForm(begun);
  showChoices();
  await browse("");
  byId("chooser").open = !project.data;
  enter();
  listen();
}

const on = (id, act, kind = "click") => byId(id).addEventListener(kind, attempt(act));

on("who", async (event) => {
  event.preventDefault();
  token = byId("token").value.trim();
  sessionStorage.setItem("sem_search.token", token);
  const { may_change: isRight } = await call("api/start");
  byId("who").hidden = isRight;
  if (!isRight) throw new Error("That is not the token.");
}, "submit");
on("alert-close", () => { byId("alert").hidden = true; });
on("demo", async () => {
  ({ started_at: awaitsDemo } = await call("api/start-job", { kind: "demo" }));
});
on("inspect", inspect);
on("inspect-stop", () => call("api/stop-job", { kind: "inspection" }));
on("crop", () => openCrop([...chosen][0] ?? classes[0].images[0]));
on("one-size", () => choose("pixel_size_nm", "common"));
on("chosen-out", () => { project.leftOut = [...new Set([...project.leftOut, ...chosen])]; forgetChosen(); keepProject(); });
on("chosen-in", () => { project.leftOut = project.leftOut.filter((id) => !chosen.has(id)); forgetChosen(); keepProject(); });
on("together", () => { keepTogether([...chosen]); forgetChosen(); });
on("chosen-none", forgetChosen);
on("upload-files", async ({ target }) => {
  const found = [...target.files].map((file) => [file.webkitRelativePath || file.name, file]);
  target.value = "";
  await upload(found);
}, "change");
on("upload-folder", async ({ target }) => {
  const found = [...target.files].map((file) => [file.webkitRelativePath || file.name, file]);
  target.value = "";
  await upload(found);
}, "change");
on("estimate", () => call("api/start-job", { kind: "estimate", ...describeProject() }));
on("search-start", () => call("api/start-job", { kind: "search", ...describeProject() }));
on("search-stop", () => call("api/stop-job", { kind: "search" }));
on("search-again", () => call("api/start-job", { kind: "search", again: true }));
on("studies", async ({ target }) => {
  await showStudy(target.value);
  history.replaceState(null, "", `#result/${encodeURIComponent(target.value)}`);
}, "change");
on("curve-start", () => call("api/start-job", { kind: "learning-curve", study: study.name }));
on("kit-start", () => call("api/start-job", { kind: "kit", study: study.name }));
for (const button of document.querySelectorAll("dialog [data-close]")) button.addEventListener("click", () => button.closest("dialog").close());
byId("search-form").addEventListener("submit", (event) => event.preventDefault());
addEventListener("hashchange", enter);
document.addEventListener("visibilitychange", listen);
start().catch(complain);
