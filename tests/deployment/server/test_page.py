import base64
import hashlib
import json
import re
import shutil
import subprocess

import pytest

from sem_search.deployment.server.page import read_page


def test_the_policy_admits_the_page_s_own_script_and_nothing_from_elsewhere() -> None:
    page = read_page()
    (script,) = re.findall(r"<script>(.*?)</script>", page.html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in page.policy
    assert page.policy.startswith("default-src 'none';")
    assert "http" not in page.policy
    assert "connect-src 'self'" in page.policy


def test_the_page_names_no_other_place() -> None:
    html = read_page().html
    assert "http:" not in html
    assert "https:" not in html
    assert "//" not in re.sub(r"\s//[^\n]*", "", html)
    assert not re.search(r"@import|@font-face|<script src|<link rel=\"stylesheet\"", html)


def test_what_comes_from_files_and_models_is_never_taken_for_html() -> None:
    html = read_page().html
    for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert way not in html


BROWSER = """
const elements = {}, timers = [], told = { model: "m", version: "1" };
const make = () => ({ children: [], style: {}, classList: { add() {}, remove() {} }, addEventListener() {}, remove() {},
  append(...more) { this.children.push(...more); }, prepend(one) { this.children.unshift(one); } });
globalThis.document = { getElementById: (id) => elements[id] ??= make(), createElement: make };
globalThis.addEventListener = () => {};
globalThis.setTimeout = (act, ms) => timers.push(act);
globalThis.fetch = async () => ({ ok: true, json: async () => told });
"""

STORY = """
const settle = () => new Promise((resolve) => setImmediate(resolve));
(async () => {
  const seen = [], look = async () => { await settle(); seen.push(elements.model.textContent); };
  await look();
  told.version = "2";
  timers.shift()();
  await look();
  globalThis.fetch = async () => { throw new Error("away"); };
  timers.shift()();
  await look();
  const box = make();
  showFacts(box, { prediction_set: ["a"], coverage: 0.9, n_calibration_images: 9, agreement: 1, spread: 0,
    pixel_size_nm: null, pixel_size: "unknown", n_tiles: 4, model_name: "m", model_version: "3" });
  await look();
  const card = box.children[0].children.map((element) => element.textContent);
  console.log(JSON.stringify({ seen, waiting: timers.length, card }));
})();
"""


def test_each_answer_names_its_version_and_the_heading_follows_the_champion() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no node to run the page's script")
    (script,) = re.findall(r"<script>(.*?)</script>", read_page().html, re.DOTALL)
    done = subprocess.run([node, "-"], input=BROWSER + script + STORY, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["seen"] == ["m, version 1", "m, version 2", "the server does not answer", "m, version 3"]
    assert found["waiting"] == 1, "it goes on looking, whatever it was told"
    assert found["card"][-2:] == ["Answered by", "m, version 3"]
