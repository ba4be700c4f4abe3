// What a person has chosen: images and settings. It stays in this browser; a search that runs is the server's.
const KEY = "sem_search.project";
const project = { data: "", settings: {}, leftOut: [], together: [], ...JSON.parse(localStorage.getItem(KEY) ?? "{}") };
let classes = []; // [{name, images: [id]}] of the chosen folder
let root = ""; // where the ids of its images begin

const describeProject = () =>
  ({ data: project.data, settings: project.settings, left_out: project.leftOut, together: project.together });

function keepProject() {
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
  for (const place of document.querySelectorAll(".chosen-data")) place.textContent = project.data || "none chosen yet";
}
