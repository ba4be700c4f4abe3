// What a person has chosen: images and settings. It stays in this browser; a search that runs is the server's.
const KEY = "sem_search.project";
const project = { data: "", settings: {}, leftOut: [], together: [], ...JSON.parse(localStorage.getItem(KEY) ?? "{}") };
let classes = []; // [{name, images: [id]}] of the chosen folder
let home = ""; // the folder in which the page was started
let root = ""; // where the ids of its images begin
let paths = {}; // of images that lie elsewhere than their ids say

const toPath = (id) => paths[id] ?? `${root}/${id}`;

const describeProject = () =>
  ({ data: project.data, settings: project.settings, left_out: project.leftOut, together: project.together });

function forgetMissing() { // of images that are gone nothing can be said any more
  const known = new Set(classes.flatMap(({ images }) => images)), isKnown = (id) => known.has(id);
  project.leftOut = project.leftOut.filter(isKnown);
  project.together = project.together.map((group) => group.filter(isKnown)).filter((group) => group.length > 1);
  const names = classes.map(({ name }) => name);
  if (project.settings.exclude) project.settings.exclude = project.settings.exclude.filter((name) => names.includes(name));
}

let changedAt = ""; // when something was last chosen: what a command said before is not about that
const isOutdatedJob = (job) => Boolean(job) && job.state !== "running" && job.started_at < changedAt;

function keepProject() {
  changedAt = new Date().toISOString();
  localStorage.setItem(KEY, JSON.stringify(project));
  showChoices();
}

function choose(setting, value) { // an empty value takes the setting away
  if (value === "" || value === null || value === undefined || (Array.isArray(value) && !value.length)) delete project.settings[setting];
  else project.settings[setting] = value;
  keepProject();
}

function toggleClass(name, isOut) {
  const others = (project.settings.exclude ?? []).filter((each) => each !== name);
  choose("exclude", isOut ? [...others, name] : others);
}

const isClassOut = (name) => (project.settings.exclude ?? []).includes(name);
const isImageOut = (id) => project.leftOut.includes(id);

function toggleImage(id, isOut) {
  project.leftOut = project.leftOut.filter((each) => each !== id);
  if (isOut) project.leftOut.push(id);
  keepProject();
}

function keepTogether(ids) {
  const met = project.together.filter((group) => group.some((id) => ids.includes(id)));
  project.together = project.together.filter((group) => !met.includes(group));
  project.together.push([...new Set([...met.flat(), ...ids])]);
  keepProject();
}

// What was chosen about the images, each with its way back.
function* listChoices() {
  const { settings, leftOut, together } = project;
  if (settings.crop_bottom_px) yield [`data bar: ${settings.crop_bottom_px} px cut off`, () => choose("crop_bottom_px", "")];
  if (settings.pixel_size_nm) yield [settings.pixel_size_nm === "common" ? "one pixel size: the coarsest image's" : `one pixel size: ${settings.pixel_size_nm} nm`,
    () => choose("pixel_size_nm", "")];
  for (const name of settings.exclude ?? []) yield [`class ${name} left out`, () => toggleClass(name, false)];
  if (leftOut.length) yield [`${count(leftOut.length, "image")} left out`, () => { project.leftOut = []; keepProject(); }];
  if (together.length) yield [`${count(together.length, "group")} kept together by hand`, () => { project.together = []; keepProject(); }];
  if (settings.skip_unreadable) yield ["files that cannot be read left out", () => choose("skip_unreadable", "")];
  if (settings.allow_errors) yield ["one picture under two labels allowed", () => choose("allow_errors", "")];
  if (settings.overlaps) yield [`images of one place: ${settings.overlaps}`, () => choose("overlaps", "")];
  if (settings.folds) yield [count(settings.folds, "fold"), () => choose("folds", "")];
}

function showField(name) { // an empty list shows its first choice, an empty field what it stands for
  const field = byId(`set-${name}`), value = project.settings[name];
  if (value !== undefined) field.value = value;
  else if (field.localName === "select") field.selectedIndex = name === "preset" ? Math.max(0, [...field.options].findIndex((one) => one.value === "standard")) : 0;
  else field.value = "";
}

addEventListener("storage", ({ key, newValue }) => { // another tab has chosen
  if (key !== KEY || !newValue) return;
  const { data } = project;
  Object.assign(project, JSON.parse(newValue));
  if (data === project.data) showChoices(); else openData(project.data).catch(complain);
});

const shorten = (path) => (path.startsWith(`${home}/`) ? path.slice(home.length + 1) : path);

function showChoices() {
  for (const list of document.querySelectorAll(".choices-made")) {
    list.replaceChildren();
    for (const [text, undo] of listChoices()) {
      const item = add(list, "li", text);
      addButton(item, "Undo", undo).setAttribute("aria-label", `Undo: ${text}`);
    }
    list.hidden = !list.children.length;
  }
  for (const card of document.querySelectorAll("[data-image]")) card.classList.toggle("out", isImageOut(card.dataset.image) || isClassOut(card.dataset.class));
  for (const box of document.querySelectorAll("[data-leave-out]")) box.checked = isClassOut(box.dataset.leaveOut);
  for (const name of SEARCH_FIELDS) if (document.activeElement !== byId(`set-${name}`)) showField(name);
  for (const place of document.querySelectorAll(".chosen-data")) place.textContent = shorten(project.data) || "none chosen yet";
}
