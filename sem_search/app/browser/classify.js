// What a person does: files and folders, and the buttons.
const OPEN_AT_ONCE = 4; // of so many files each card is open and has its pictures; of more they come when a card is opened
const SUFFIXES = /\.(tiff?|png|jpe?g|bmp)$/i;
const names = new Set();

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

async function listDropped(transfer) { // [name, file] pairs, and whether there was a folder among them
  const entries = [...transfer.items].map((one) => one.webkitGetAsEntry?.()), files = [...transfer.files];
  if (!entries.some((entry) => entry?.isDirectory)) return [files.map((file) => [file.name, file]), false];
  const lists = await Promise.all(entries.filter(Boolean).map(listEntry));
  return [lists.flat(), true];
}

async function addDropped(transfer) {
  const [found, hasFolder] = await listDropped(transfer);
  return addFiles(hasFolder ? keepImages(found) : found);
}

const uploadDropped = async (transfer) => upload((await listDropped(transfer))[0]);

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
  for (const id of ["drop", "upload-drop"]) byId(id).classList.toggle("over", kind.startsWith("dragen") || kind === "dragover");
});
addEventListener("drop", (event) => {
  if (!byId("images-room").hidden) return uploadDropped(event.dataTransfer).catch(complain);
  location.hash = "#classify";
  return addDropped(event.dataTransfer).catch((error) => notify(`The browser cannot read what was dropped: ${error.message}`));
});

byId("coverage").addEventListener("change", () =>
  enqueue(items.filter((item) => item.state === "answered" && isOfOtherCoverage(item))));
byId("outdated").addEventListener("click", () => {
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
