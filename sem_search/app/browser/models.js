// The models: versions, champion and challenger, promotion and the way back, each with its reason and its history.
async function showModels() {
  const models = await call("api/models"), box = byId("models");
  box.replaceChildren();
  byId("no-model").hidden = models.length > 0;
  for (const model of models) box.append(buildModel(model));
}

function buildModel(model) {
  const part = document.createElement("section");
  part.className = "model";
  add(part, "h3", model.name);
  for (const remark of model.remarks) add(part, "p", remark, "doubt");
  const table = add(add(part, "div", null, "scroll"), "table"), top = add(add(table, "thead"), "tr");
  for (const name of ["Version", "Alias", "Test F", "Validation F", "Study", "Registered", ""]) add(top, "th", name).scope = "col";
  const body = add(table, "tbody");
  for (const version of model.versions) {
    const row = add(body, "tr");
    add(row, "th", version.version).scope = "row";
    add(row, "td", version.aliases.join(", ") || "–");
    for (const score of [version.test_f_measure, version.validation_f_measure]) add(row, "td", score === null ? "–" : score.toFixed(3));
    const at = add(row, "td");
    if (version.study) Object.assign(add(at, "a", version.study), { href: `#result/${encodeURIComponent(version.study)}` });
    add(row, "td", version.registered_at.slice(0, 10));
    const ways = add(row, "td", null, "ways");
    if (!version.aliases.includes("champion")) addButton(ways, "Make it champion …", () => askReason(model, version));
    addButton(ways, "Classify with it", attempt(() => follow(model, version)));
    addButton(ways, "Its card", attempt(() => showCard(model, version)));
  }
  if (model.moves.filter(({ alias }) => alias === "champion").length > 1) addButton(part, "Roll back …", () => askReason(model, null));
  const history = add(part, "details");
  add(history, "summary", `History: ${count(model.n_moves, "move")}`);
  const list = add(history, "ol");
  for (const move of model.moves) add(list, "li", describeMove(move)).value = move.number;
  return part;
}

const describeMove = ({ at, who, action, alias, from_version: before, to_version: after, reason }) =>
  `${at.slice(0, 16).replace("T", " ")}, ${who}: ${action}, ${alias} ${before ? `from version ${before} ` : ""}to ${after ? `version ${after}` : "none"}. ${reason}`;

function askReason(model, version) { // without a reason the gate decides; with one, a person does
  const dialog = byId("reason-dialog"), box = byId("reason");
  byId("reason-title").textContent = version ? `Make version ${version.version} of ${model.name} champion` : `Make the champion before champion again`;
  byId("reason-hint").textContent = version
    ? "Without a reason, the version must beat the champion on the same test images. With a reason it becomes champion all the same; the reason is written into the history."
    : "The reason is written into the history.";
  box.value = "";
  byId("reason-error").textContent = "";
  byId("reason-go").onclick = async () => {
    byId("reason-go").disabled = true;
    try {
      const given = { model: model.name, reason: box.value };
      await call(version ? "api/promote" : "api/roll-back", version ? { ...given, version: version.version } : given);
      dialog.close();
      await showModels();
    } catch (error) {
      byId("reason-error").textContent = error.message.replace("say why: --reason ...", "give a reason above.");
    } finally {
      byId("reason-go").disabled = false;
    }
  };
  dialog.showModal();
}

async function follow(model, version) { // an alias is followed to later versions, a number is not
  await call("api/follow", { model: model.name, version: version.aliases.includes("champion") ? "champion" : version.version });
  location.hash = "#classify";
}

async function showCard(model, version) {
  const { text } = await call(writeUrl("api/version-card", { model: model.name, version: version.version }));
  byId("card-text").textContent = text;
  byId("card-dialog").showModal();
}
