// What the page says of an answer: plain functions of its values, which touch no page.
const NAMED = 3; // materials that a heading names; more do not help a reader
const FORMULA = /^[=+\-@\t\r]/; // a spreadsheet would compute such a cell

function percent(share) { // what is not quite all or nothing is not rounded to it
  if (share === 0 || share === 1) return `${100 * share} %`;
  return share >= 0.9995 ? ">99.9 %" : share < 0.0005 ? "<0.1 %" : `${(100 * share).toFixed(1)} %`;
}
const percentOf = (coverage) => `${Number((100 * coverage).toPrecision(4))} %`;
const writeRatio = (ratio) => (ratio > 1000 ? "more than 1000 times" : `${ratio.toPrecision(3)} times`);
const count = (n, what) => `${n} ${what}${n === 1 ? "" : what.endsWith("s") ? "es" : "s"}`;
const nameModel = (name, version) => `${name}${version ? ", version " + version : ""}`;
const nameVersion = (answer) => (answer.model_name ? nameModel(answer.model_name, answer.model_version) : "");

// "unknown": unlike the training images; "one", "several" or "open": how many materials remain.
function findKind(answer) {
  if (answer.is_known === false) return "unknown";
  const nLeft = answer.prediction_set.length, nAll = Object.keys(answer.probabilities).length;
  if (nLeft === 1) return "one";
  return nLeft === nAll || nLeft > NAMED ? "open" : "several";
}

function writeHeading(answer) {
  const left = answer.prediction_set, nAll = Object.keys(answer.probabilities).length;
  const nLeft = left.length === nAll ? (nAll === 2 ? "both" : `all ${nAll}`) : `${left.length} of ${nAll}`;
  return { unknown: "Unknown material", one: left[0], open: `Cannot tell (${nLeft} remain)`,
    several: `${left.slice(0, -1).join(", ")} or ${left.at(-1)}` }[findKind(answer)];
}

function writeLead(answer) {
  const best = `${answer.label} (${percent(answer.probability)})`;
  return {
    unknown: "The image is unlike all training images, so the model gives no answer.",
    one: `Probability ${percent(answer.probability)}. At ${percentOf(answer.coverage)}, only this material remains.`,
    several: `The model cannot rule these out. Most probable: ${best}.`,
    open: isCalibratedFor(answer) ? `The image does not decide it. Most probable: ${best}.`
      : `${writeBasis(answer)} Most probable: ${best}.`,
  }[findKind(answer)];
}

// Images of one group count as one. Models of before do not tell their groups.
const countGroups = (answer) => answer.n_calibration_groups ?? answer.n_calibration_images;

// A set that may leave out one image in n needs n - 1 groups to calibrate on; with fewer it holds all materials.
const isCalibratedFor = (answer) => (countGroups(answer) + 1) * (1 - answer.coverage) > 1 - 1e-9;

function writeBasis(answer) {
  if (!answer.n_calibration_images) return "The model is not calibrated, so it rules out no material.";
  const nGroups = countGroups(answer);
  return `${count(nGroups, "independent calibration image")} ${nGroups === 1 ? "is" : "are"} too few to decide it at ` +
    `${percentOf(answer.coverage)}.`;
}

// Why a person should look at an image; empty where nothing is wrong.
function findDoubts(answer) {
  const ofKind = { unknown: "unknown material", several: "several materials are possible", open: "cannot tell" };
  return [ofKind[findKind(answer)], answer.is_training_image && "training image",
    answer.pixel_size === "far" && "other pixel size"].filter(Boolean);
}

// The colour of a heading.
function writeTrust(answer) {
  if (findKind(answer) === "unknown") return "unknown";
  return findDoubts(answer).length ? "doubt" : "known";
}

// A file that was read, or a model, warns of itself without its name: "has 2 pages".
function writeSentence(text) {
  const whole = /^(is|has|had|was|holds|shows|cannot|needs|lacks)\b/.test(text) ? `the image ${text}` : text;
  return whole[0].toUpperCase() + whole.slice(1).replace(/\.?$/, ".");
}

function listWarnings(answer) {
  const seen = "The model was made from this very image: the answer shows nothing about new images.";
  return [...(answer.is_training_image ? [seen] : []), ...answer.warnings.map(writeSentence)];
}

// [what, value, one sentence that explains it]
function listFacts(answer) {
  return [...(findKind(answer) === "unknown" ? [] : listPromises(answer)), ...listCircumstances(answer)];
}

function listPromises(answer) {
  const basis = answer.n_calibration_images
    ? `Chosen to include the true material for ${percentOf(answer.coverage)} of images like the training images ` +
      `(calibrated on ${count(answer.n_calibration_images, "image")}).`
    : writeBasis(answer);
  return [
    ["Possible materials", answer.prediction_set.join(", "), basis],
    ["Agreement", percent(answer.agreement),
      `Share of the model's networks, one for each fold, that predict ${answer.label}.`],
    ["Spread", `${(100 * answer.spread).toFixed(1)} percentage points`, `Standard deviation of the probability of ${answer.label} over these networks.`],
  ];
}

function listCircumstances(answer) {
  const facts = [], size = answer.pixel_size_nm === null ? "" : `${answer.pixel_size_nm.toPrecision(4)} nm`;
  if (typeof answer.novelty === "number") facts.push(["Distance to the training images",
    `${writeRatio(answer.novelty / answer.novelty_threshold)} the limit`,
    "Above the limit, the material counts as unknown."]);
  const words = { "as trained": "It is like that of training images.", far: "It is far from that of all training images.",
    unknown: "The file does not state it.", "untold in training": "No training image stated one to compare with." };
  facts.push(["Pixel size", size || "not stated", words[answer.pixel_size]]);
  facts.push(["Tiles", String(answer.n_tiles), "Squares of the image that the model looked at."]);
  if (answer.model_name) facts.push(["Answered by", nameVersion(answer), ""]);
  return facts;
}

// Models of before scaled each tile of an overlay on its own, and came without the image itself.
function writeCaption(answer) {
  const where = `Where the model looks for ${answer.label}` +
    (findKind(answer) === "unknown" ? ", the closest material that it knows" : "");
  return answer.image_png
    ? `${where} (Grad-CAM). One scale holds for the whole image. The model did not look at hatched parts.`
    : `${where} (Grad-CAM). Each tile has a scale of its own: compare colours within a tile only.`;
}

const CSV_COLUMNS = ["image", "answer", "label", "is_known", "nearest", "probability", "prediction_set", "coverage",
  "novelty", "novelty_threshold", "is_training_image", "agreement", "spread", "pixel_size_nm", "pixel_size", "n_tiles",
  "model", "warnings", "error"]; // as `sem-search predict` writes them, and what the page answers

function writeCsv(items) {
  const materials = [...new Set(items.flatMap((item) => Object.keys(item.answer?.probabilities ?? {})))].sort();
  const rows = items.map((item) => [...CSV_COLUMNS.map((name) => findCell(item, name)),
    ...materials.map((name) => item.answer?.probabilities[name]?.toFixed(6))]);
  const lines = [[...CSV_COLUMNS, ...materials.map((name) => `p_${name}`)], ...rows];
  return "\ufeff" + lines.map((cells) => cells.map(writeCell).join(",") + "\r\n").join(""); // the mark is for Excel
}

function findCell(item, name) {
  const answer = item.answer;
  if (name === "image") return item.name;
  if (!answer) return name === "error" ? item.error ?? "not asked" : null;
  if (name === "answer") return writeHeading(answer);
  if (name === "label" && answer.is_known === false) return "unknown"; // what the model names is only the nearest
  if (name === "nearest") return answer.is_known === false ? answer.label : null;
  if (name === "model") return answer.model_name ? `models:/${answer.model_name}/${answer.model_version}` : null;
  if (["probability", "agreement", "spread"].includes(name)) return answer[name].toFixed(6);
  return Array.isArray(answer[name]) ? (answer[name].length ? JSON.stringify(answer[name]) : null) : answer[name];
}

function writeCell(value) {
  const text = value === null || value === undefined ? "" : String(value);
  const safe = typeof value === "string" && FORMULA.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}
