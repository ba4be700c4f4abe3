// The page's elements, and calls to its server.
const byId = (id) => document.getElementById(id);
const copy = (id) => byId(id).content.firstElementChild.cloneNode(true);

function add(parent, tag, text, className) {
  const element = document.createElement(tag);
  if (text !== undefined && text !== null) element.textContent = text; // never HTML: names come from anywhere
  if (className) element.className = className;
  parent.append(element);
  return element;
}

function addButton(parent, text, act, className) {
  const button = add(parent, "button", text, className);
  button.type = "button";
  button.addEventListener("click", act);
  return button;
}

function addPicture(parent, url, alt) { // fetched when it comes into view
  const image = add(parent, "img");
  image.loading = "lazy";
  image.decoding = "async";
  image.alt = alt;
  image.addEventListener("error", () => { image.replaceWith(buildNote("no picture")); });
  image.src = url;
  return image;
}

function buildNote(text) {
  const note = document.createElement("span");
  note.className = "missing";
  note.textContent = text;
  return note;
}

const writeUrl = (path, query) => `${path}?${new URLSearchParams(query)}`;

let token = sessionStorage.getItem("sem_search.token") ?? "";
const authorise = () => (token ? { "X-Sem-Search-Token": token } : {});

async function call(path, body) { // JSON by POST where there is a body, else by GET
  const response = await fetch(path, body === undefined ? { headers: authorise() }
    : { method: "POST", headers: { "Content-Type": "application/json", ...authorise() }, body: JSON.stringify(body) });
  return readReply(response);
}

async function sendFile(path, file) {
  const headers = { "Content-Type": "application/octet-stream", ...authorise() };
  return readReply(await fetch(path, { method: "POST", headers, body: file }));
}

async function readReply(response) {
  const content = await response.json().catch(() => null); // a proxy refuses in HTML
  if (!response.ok) throw new Error(content?.message ?? `The server answered with status ${response.status}.`);
  return content;
}

function complain(error) { // what went wrong is said where everybody sees it, and read aloud
  byId("alert").querySelector("span").textContent = error.message || String(error);
  byId("alert").hidden = false;
}

function attempt(act) { // a handler whose failure is said; only its own alert is taken away before
  return async (event) => {
    byId("alert").hidden = true;
    try {
      await act(event);
    } catch (error) {
      complain(error);
    }
  };
}
