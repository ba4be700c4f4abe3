// Images: a folder of this machine, or files that are dropped; their pictures; what inspection finds in them.
let roots = []; // folders that were named when the page was started
const chosen = new Set(); // ids that are marked, to be left out or kept together

async function browse(path) {
  const view = await call(writeUrl("api/folder", { path }));
  const trail = byId("trail"), list = byId("folders");
  trail.replaceChildren();
  list.replaceChildren();
  view.parents.forEach(([name, place], n) => {
    const item = add(trail, "li");
    if (n === view.parents.length - 1) add(item, "span", name).setAttribute("aria-current", "location");
    else addButton(item, name, attempt(() => browse(place)), "plain");
  });
  byId("roots").replaceChildren();
  if (roots.length > 1) for (const place of roots) addButton(add(byId("roots"), "li"), place, attempt(() => browse(place)), "plain");
  for (const folder of view.folders) {
    const item = add(list, "li");
    addButton(item, folder.name, attempt(() => browse(folder.path)), "plain");
    add(item, "span", describeFolder(folder), "soft");
    if (folder.n_classes > 1) addButton(item, "Use it", attempt(() => openData(folder.path))).setAttribute("aria-label", `Use ${folder.name}`);
  }
  for (const table of view.tables) {
    const item = add(list, "li");
    add(item, "span", table.name);
    add(item, "span", "CSV", "soft");
    addButton(item, "Use it", attempt(() => openData(table.path))).setAttribute("aria-label", `Use ${table.name}`);
  }
  if (!list.children.length) add(list, "li", view.n_pictures ? `${count(view.n_pictures, "picture")} and no folder: this is one class. Go one level up.`
    : "There is no folder in it.", "soft");
  byId("use").hidden = view.n_classes < 2;
  byId("use").onclick = attempt(() => openData(view.path));
  byId("here").textContent = view.n_classes > 1 ? `${count(view.n_classes, "class")} in this folder.`
    : "A data set is a folder with one folder of images for each class.";
}

function describeFolder(folder) {
  if (folder.n_classes > 1) return `${count(folder.n_classes, "class")}`;
  return folder.n_pictures ? count(folder.n_pictures, "picture") : "";
}

async function openData(path, settings = {}) { // another folder begins anew; the same one keeps what was chosen
  const found = await call("api/classes", { data: path });
  ({ classes, root, paths } = found);
  if (found.data !== project.data) {
    Object.assign(project, { data: found.data, settings: { ...pickSearch(project.settings), ...settings }, leftOut: [], together: [] });
  }
  forgetMissing();
  if (found.empty.length) project.settings.exclude = [...new Set([...(project.settings.exclude ?? []), ...found.empty])];
  chosen.clear();
  byId("chooser").open = false;
  showGallery([...found.warnings, ...found.empty.map((name) => `Class ${name} has no picture, and is left out.`)]);
  keepProject();
  byId("findings").replaceChildren();
  byId("finding-part").hidden = byId("gallery-part").hidden = false;
  inspected = "";
  if (lastState) showInspection(lastState.jobs.inspection);
}

const pickSearch = ({ backbone, preset, weights, threads }) =>
  Object.fromEntries(Object.entries({ backbone, preset, weights, threads }).filter(([, value]) => value));

function showGallery(warnings = []) {
  const gallery = byId("gallery");
  gallery.replaceChildren();
  byId("data-warnings").replaceChildren();
  for (const warning of warnings) add(byId("data-warnings"), "li", warning);
  byId("how-many").textContent = `${count(classes.reduce((sum, each) => sum + each.images.length, 0), "image")} of ${count(classes.length, "class")}`;
  for (const { name, images } of classes) {
    const part = add(gallery, "details");
    part.open = classes.length <= 20;
    const head = add(part, "summary");
    add(head, "b", name);
    add(head, "span", ` ${count(images.length, "image")}`, "soft");
    const label = add(part, "label", null, "leave-out"), box = add(label, "input");
    box.type = "checkbox";
    box.dataset.leaveOut = name;
    box.addEventListener("change", () => toggleClass(name, box.checked));
    label.append(" Leave this class out");
    const tiles = add(part, "ul", null, "tiles");
    for (const id of images) addTile(tiles, id, name, id.split("/").at(-1));
  }
  showChoices();
  showChosen();
}

const findClass = (id) => classes.find((each) => each.images.includes(id))?.name ?? "";

function addTile(list, id, name = findClass(id), shown = id) { // one image: a click shows it large, the box marks it
  const item = add(list, "li", null, "tile");
  item.dataset.image = id;
  item.dataset.class = name;
  const button = addButton(item, null, attempt(() => openImage(id)), "picture");
  button.setAttribute("aria-label", `Enlarge ${id}`);
  addPicture(button, writeUrl("api/picture", { path: toPath(id), side: "small" }), "");
  const label = add(item, "label"), box = add(label, "input");
  box.type = "checkbox";
  box.checked = chosen.has(id);
  box.addEventListener("change", () => {
    if (box.checked) chosen.add(id); else chosen.delete(id);
    showChosen();
  });
  add(label, "span", shown).title = id;
  item.classList.toggle("out", isImageOut(id) || isClassOut(name));
  return item;
}

function showChosen() {
  const bar = byId("chosen");
  bar.hidden = !chosen.size;
  bar.querySelector("span").textContent = `${count(chosen.size, "image")} marked`;
  byId("together").disabled = chosen.size < 2;
}

function forgetChosen() {
  chosen.clear();
  for (const box of document.querySelectorAll(".tile input")) box.checked = false;
  showChosen();
}

async function openImage(id) {
  const dialog = byId("image-dialog"), path = toPath(id);
  byId("image-name").textContent = id;
  byId("image-large").src = writeUrl("api/picture", { path, side: "large" });
  byId("image-large").alt = `Micrograph ${id}`;
  byId("image-facts").textContent = "";
  byId("image-out").textContent = isImageOut(id) ? "Take it in again" : "Leave this image out";
  byId("image-out").onclick = () => { toggleImage(id, !isImageOut(id)); dialog.close(); };
  byId("image-crop").onclick = attempt(async () => { dialog.close(); await openCrop(id); });
  if (!dialog.open) dialog.showModal();
  const facts = await call(writeUrl("api/facts", { path })).catch((error) => { dialog.close(); throw error; });
  byId("image-facts").textContent = [`${facts.width_px} × ${facts.height_px} px`, `${facts.bits} bits`,
    facts.pixel_size_nm ? `${Number(facts.pixel_size_nm.toPrecision(4))} nm per pixel` : "pixel size not stated",
    facts.instrument, facts.is_bar_known ? "the file says where its data bar begins" : null].filter(Boolean).join(", ");
}

// The data bar: a line that is dragged, or moved with the arrow keys, or given in pixels.
async function openCrop(id) {
  const path = toPath(id), facts = await call(writeUrl("api/facts", { path }));
  const box = byId("crop-px"), slider = byId("crop-slider"), line = byId("crop-line"), picture = byId("crop-picture");
  if (facts.is_bar_known) throw new Error("The files say where their data bar begins: nothing needs to be cut off by hand.");
  picture.src = writeUrl("api/picture", { path, side: "large" });
  box.max = slider.max = Math.max(0, facts.height_px - 32);
  const show = (px) => {
    const height = Math.min(Math.max(Math.round(px) || 0, 0), facts.height_px - 32);
    box.value = height;
    slider.value = height;
    line.style.top = `${100 * (1 - height / facts.height_px)}%`;
  };
  box.oninput = () => show(box.valueAsNumber);
  slider.oninput = () => show(slider.valueAsNumber);
  picture.parentElement.onpointerdown = (down) => {
    down.preventDefault();
    const move = ({ clientY }) => {
      const { top, height } = picture.getBoundingClientRect();
      show((1 - (clientY - top) / height) * facts.height_px);
    };
    move(down);
    picture.parentElement.setPointerCapture(down.pointerId);
    picture.parentElement.onpointermove = move;
    picture.parentElement.onpointerup = () => { picture.parentElement.onpointermove = null; };
  };
  byId("crop-keep").onclick = () => { choose("crop_bottom_px", Number(box.value) || ""); byId("crop-dialog").close(); };
  show(project.settings.crop_bottom_px ?? 0);
  byId("crop-dialog").showModal();
}

// What inspection found, beside the pictures that it concerns, each with its ways out.
let inspected = "";

async function inspect() {
  const { id } = await call("api/start-job", { kind: "inspection", ...describeProject() });
  inspected = "";
  byId("findings").replaceChildren();
}

async function showFindings(id) {
  const found = await call(writeUrl("api/inspection", { id }));
  const list = byId("findings");
  list.replaceChildren();
  if (!found.findings.length) add(list, "p", "No problems were found.");
  for (const finding of found.findings) list.append(buildFinding(finding));
  const link = add(add(list, "p"), "a", "The whole inspection as a page");
  link.href = writeUrl("api/inspection", { id, as: "html" });
  link.target = "_blank";
  showChoices();
}

const SEVERITIES = { error: "Error", warning: "Warning", note: "Note" };
const FEW_TILES = 6;

function buildFinding(finding) {
  const card = document.createElement("article");
  card.className = `finding ${finding.severity}`;
  const head = add(card, "h4");
  add(head, "span", SEVERITIES[finding.severity], "sign");
  head.append(` ${finding.kind.replaceAll("_", " ")}`);
  add(card, "p", finding.message);
  const known = finding.images.filter((id) => findClass(id));
  const tiles = add(card, "ul", null, "tiles");
  for (const id of known.slice(0, FEW_TILES)) addTile(tiles, id);
  if (known.length > FEW_TILES) {
    addButton(card, `Show all ${known.length} images`, ({ target }) => {
      for (const id of known.slice(FEW_TILES)) addTile(tiles, id);
      target.remove();
    });
  }
  const ways = add(card, "div", null, "ways");
  for (const [text, act] of listWays(finding, known)) {
    addButton(ways, text, attempt(async ({ target }) => { await act(); if (!text.endsWith("…")) target.textContent = `✓ ${text}`; }));
  }
  return card;
}

// Images of the smallest class that is searched: so many folds are possible, and no more.
const countSmallest = () => Math.min(...classes.filter(({ name }) => !isClassOut(name))
  .map(({ images }) => images.filter((id) => !isImageOut(id)).length));

const OVERLAPS = ["same_field", "overlapping_fields", "zoomed_field"];
const OF_CLASSES = /^(class_too_small|unequal_classes|confounded_|single_session|telling_)/;
const FEW_CLASSES = 2; // more of them left out, and little is left

function* listWays(finding, known) { // [button, what it does]
  const { kind, classes: names } = finding, isCopy = kind.startsWith("identical");
  if (kind === "unusable_file" || kind === "reading") yield ["Leave out files that cannot be read", () => choose("skip_unreadable", true)];
  if (kind === "data_bar") yield ["Cut the data bar off …", () => openCrop(known[0] ?? classes[0].images[0])];
  if (kind.includes("pixel_size") && kind !== "no_pixel_size") yield ["Bring all images to one pixel size", () => choose("pixel_size_nm", "common")];
  if (kind === "label_conflict") yield ["Search all the same", () => choose("allow_errors", "label_conflict")];
  if (OVERLAPS.includes(kind)) yield project.settings.overlaps ? ["Keep them together", () => choose("overlaps", "")]
    : ["They do not show one place: keep all such images apart", () => choose("overlaps", "report")];
  if (kind === "same_moment" && known.length > 1) yield ["Keep them together", () => keepTogether(known)];
  const most = countSmallest();
  if (kind === "class_too_small" && most >= 3) yield [`Use ${most} folds`, () => choose("folds", most)];
  if (isCopy && known.length === 2) yield [`Leave ${known[1]} out`, () => toggleImage(known[1], true)];
  const nAll = classes.reduce((sum, each) => sum + each.images.length, 0);
  if (!isCopy && !OVERLAPS.includes(kind) && known.length && known.length < nAll / 2) {
    yield [known.length === 1 ? "Leave this image out" : `Leave these ${known.length} images out`,
      () => { project.leftOut = [...new Set([...project.leftOut, ...known])]; keepProject(); }];
  }
  if (OF_CLASSES.test(kind) && names.length <= FEW_CLASSES && classes.length > names.length + 1) {
    for (const name of names) yield [`Leave out class ${name}`, () => toggleClass(name, true)];
  }
}

function showInspection(job) {
  const isRunning = job?.state === "running";
  byId("inspect").hidden = isRunning;
  byId("inspect-stop").hidden = !isRunning;
  byId("inspect-line").textContent = !job || job.about.data !== project.data ? "" : isRunning ? job.line || "Looking at the images …"
    : job.state === "failed" && !isOutdatedJob(job) ? job.line : "";
  byId("inspect-line").className = job?.state === "failed" ? "fault" : "";
  byId("inspect-bar").hidden = !isRunning;
  if (job?.state === "done" && classes.length && job.about.data === project.data && inspected !== `shown ${job.started_at}`) {
    inspected = `shown ${job.started_at}`;
    showFindings(job.about.id).catch(complain);
  }
}

// Files that are dropped: a ZIP of class folders, folders, or files with the name of a class.
const PARTS = /\.(txt|hdr)$/i; // what instruments write beside a picture

async function upload(found) { // [[name with its folders, file]]
  const archives = found.filter(([name]) => /\.zip$/i.test(name));
  const pictures = found.filter(([name]) => (SUFFIXES.test(name) || PARTS.test(name)) && !/(^|\/)\./.test(name));
  if (!archives.length && !pictures.some(([name]) => SUFFIXES.test(name))) throw new Error("These are neither pictures nor a ZIP.");
  if (archives.length && (pictures.length || archives.length > 1)) throw new Error("Drop one ZIP, or pictures and folders, at a time.");
  const bar = byId("upload-bar"), line = byId("upload-line");
  bar.hidden = false;
  bar.removeAttribute("value");
  try {
    const place = archives.length ? await sendArchive(archives[0], line) : await sendPictures(pictures, { bar, line });
    line.textContent = `Received. The files lie in ${shorten(place)}.`;
    await openData(place);
  } finally {
    bar.hidden = true;
  }
}

const nameSet = (otherwise) => byId("upload-data").value.trim() || otherwise;

async function sendArchive([name, archive], line) {
  line.textContent = `${name} is sent …`;
  return (await sendFile(writeUrl("api/upload-zip", { data: nameSet(name.replace(/\.zip$/i, "")) }), archive)).path;
}

async function sendPictures(pictures, { bar, line }) {
  const label = byId("upload-class").value.trim(), folders = pictures.map(([name]) => name.split("/").slice(0, -1));
  const depth = countCommon(folders);
  if (!label && folders.some((parts) => parts.length <= depth)) throw new Error("Give the class of these files, or drop folders that are named after classes.");
  const data = nameSet(depth ? folders[0][depth - 1] : `dropped ${new Date().toISOString().slice(0, 19).replaceAll(":", ".")}`);
  let place = "";
  for (const [n, [name, file]] of pictures.entries()) {
    line.textContent = `${n + 1} of ${count(pictures.length, "file")} sent`;
    Object.assign(bar, { value: n, max: pictures.length });
    ({ path: place } = await sendFile(writeUrl("api/upload", { data, class: label || folders[n][depth], name: name.split("/").at(-1) }), file));
  }
  return place;
}

function countCommon(folders) { // how many folders lie around all class folders, as for a ZIP
  let depth = 0;
  while (folders.every((parts) => parts.length > depth && parts[depth] === folders[0][depth])) depth += 1;
  const names = new Set(folders.filter((parts) => parts.length > depth).map((parts) => parts[depth]));
  return names.size > 1 ? depth : Math.max(depth - 1, 0);
}
