// The search: what it will cost, start, stop, go on; the grid as it fills up.
const SEARCH_FIELDS = ["backbone", "preset", "weights", "threads", "study", "heads", "learning_rates", "batch_sizes", "epochs", "folds", "tile_px", "tiles_per_image", "augment"];

function fillForm(start) {
  for (const name of start.backbones) add(byId("set-backbone"), "option", name).value = name;
  for (const name of start.presets) add(byId("set-preset"), "option", name).value = name;
  for (const name of SEARCH_FIELDS) {
    const field = byId(`set-${name}`);
    field.title = start.descriptions[name];
    field.addEventListener("change", () => choose(name, field.value.trim()));
  }
}

function showSearch({ jobs, grid }) {
  const { search, estimate } = jobs, isRunning = search?.state === "running", isEstimating = estimate?.state === "running";
  byId("search-start").disabled = isRunning || !project.data;
  byId("search-stop").hidden = !isRunning;
  byId("search-again").hidden = isRunning || !search || search.state === "done";
  byId("estimate").disabled = isEstimating || isRunning || !project.data;
  byId("estimate-line").textContent = !project.data ? "Choose images first." : isOutdatedJob(estimate) ? "" : describeEstimate(estimate);
  byId("search-line").className = search?.state === "failed" ? "fault" : "soft";
  byId("search-state").textContent = describeSearch(search, grid);
  byId("search-line").textContent = search ? search.line : "";
  byId("search-command").textContent = search ? search.command : "";
  byId("search-log").textContent = search ? search.log : "";
  byId("search-part").hidden = !search;
  byId("search-done").hidden = !(search?.state === "done" && search.study);
  byId("search-done").href = `#result/${encodeURIComponent(search?.study ?? "")}`;
  showGrid(grid);
}

function describeEstimate(job) {
  if (!job) return "";
  if (job.state === "running") return "A few tiles are timed …";
  if (job.state !== "done") return job.line;
  return job.log.split("\n").filter((line) => /^(The features of|This search will take|\d+ images of)/.test(line)).join(" ");
}

const STATE_WORDS = { running: "The search runs", done: "The search is done", stopped: "The search was stopped; what is finished is kept",
  failed: "The search has ended with an error", ended: "The search has ended" };

function describeSearch(job, grid) {
  if (!job) return "";
  const nDone = grid ? grid.cells.filter(({ state }) => !["waiting", "running"].includes(state)).length : 0;
  const isTrained = grid && job.state === "running" && nDone >= grid.n_cells;
  const parts = [STATE_WORDS[job.state], isTrained ? "the winner's heads are trained again, and the report is written" : null, grid ? `${nDone} of ${count(grid.n_cells, "cell")} done` : null,
    grid?.best ? `best${job.state === "running" ? " so far" : ""}: ${grid.best.cell}, F-measure ${grid.best.value.toFixed(3)}` : null];
  return `${parts.filter(Boolean).join("; ")}.`;
}

let shownGrid = "";

function showGrid(grid) {
  const text = JSON.stringify(grid);
  if (text === shownGrid) return; // a table that is built anew takes the focus away
  shownGrid = text;
  const box = byId("grid");
  box.replaceChildren();
  if (!grid) return;
  const single = grid.cells.filter((cell) => cell.head === "linear");
  for (const head of ["finetune", "linear_init"]) {
    const cells = grid.cells.filter((cell) => cell.head === head);
    if (cells.length) box.append(buildGrid(cells, grid, head));
  }
  for (const cell of single) {
    const table = add(box, "table", null, "heat"), row = add(add(table, "tbody"), "tr");
    add(row, "th", "linear head").scope = "row";
    row.append(buildCell(cell, grid));
  }
}

function buildGrid(cells, grid, head) {
  const values = (name) => [...new Set(cells.map((cell) => cell[name]))].sort((a, b) => a - b);
  const rates = values("learning_rate").reverse(), sizes = values("batch_size");
  const table = document.createElement("table");
  table.className = "heat";
  add(table, "caption", `F-measure over validation tiles${head === "linear_init" ? ", fine-tuned from the linear head" : ""}`);
  const top = add(add(table, "thead"), "tr");
  add(top, "th", "learning rate \\ batch size").scope = "col";
  for (const size of sizes) add(top, "th", size).scope = "col";
  const body = add(table, "tbody");
  for (const rate of rates) {
    const row = add(body, "tr");
    add(row, "th", rate.toExponential()).scope = "row"; // the shortest that is exact
    for (const size of sizes) {
      const cell = cells.find((each) => each.learning_rate === rate && each.batch_size === size);
      row.append(cell ? buildCell(cell, grid) : document.createElement("td"));
    }
  }
  return table;
}

function buildCell(cell, grid) {
  const box = document.createElement("td"), done = cell.folds.length;
  const value = cell.value ?? (done ? cell.folds.reduce((sum, each) => sum + each, 0) / done : null);
  box.className = cell.state + (cell.is_best ? " best" : "");
  if (value !== null) box.style.setProperty("--heat", `${Math.round(100 * value)}%`);
  add(box, "b", value === null ? "" : value.toFixed(3));
  add(box, "span", cell.state === "waiting" ? "waits" : cell.state === "running" ? (done < grid.n_folds ? `fold ${done + 1} of ${grid.n_folds}` : "is logged")
    : cell.state === "complete" ? (cell.is_best ? "best so far" : "done") : cell.state);
  if (cell.reason) box.title = cell.reason;
  return box;
}
