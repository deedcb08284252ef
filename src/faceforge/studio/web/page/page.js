// The page of `faceforge app`. Photos and results stay in this window; the server stores nothing.

const api = (name) => new URL(`api/${name}`, import.meta.url); // also where the page has no final slash
const offers = await opened();
const gallery = [];
const names = new Map();

async function opened() {
  for (;;) {
    const response = await fetch(api("studio"));
    if (response.ok) return response.json();
    if (response.status !== 401) throw new Error(`The server answered with status ${response.status}.`);
    await tokenGiven();
  }
}

// The server answers with a cookie that scripts cannot read; the token itself is not kept.
function tokenGiven() {
  const field = el("input", { type: "password", name: "token", autocomplete: "current-password", required: true });
  const says = el("p", { className: "says", role: "status" });
  const form = el("form", { className: "controls" }, labelled("Token", field), el("button", { className: "main" }, "Open"), says);
  const hint = el("p", { className: "hint" }, "You get it from the person who runs this app. It is asked for once, until the browser is closed.");
  document.getElementById("panels").replaceChildren(el("section", { id: "token" }, el("h2", {}, "This app asks for a token"), hint, form));
  field.focus();
  return new Promise((given) => form.addEventListener("submit", async (event) => {
    event.preventDefault();
    let response = null;
    try {
      response = await fetch(api("token"), { method: "POST", headers: { authorization: `Bearer ${field.value.trim()}` } });
    } catch { /* letters that no token has, or no server */ }
    if (response?.ok) {
      document.getElementById("panels").replaceChildren();
      given();
      return;
    }
    says.className = "says problem";
    says.textContent = response && response.status !== 401 ? `The server answered with status ${response.status}.` : "This is not the token.";
    field.select();
  }));
}

// ------------------------------------------------------------------------------------------------------------ elements

function el(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name in made && name !== "list") made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

function labelled(text, control, output) {
  return el("label", {}, el("span", {}, text, ...(output ? [" ", output] : [])), control);
}

function choice(text, options, name) {
  const control = el("select", { name });
  for (const [value, shown] of options) control.append(el("option", { value }, shown));
  return labelled(text, control);
}

function slider(text, name, value, low, high, step) {
  const output = el("output", {}, String(value));
  const control = el("input", { type: "range", name, min: low, max: high, step, value, "aria-label": text });
  control.addEventListener("input", () => { output.textContent = control.value; });
  return labelled(text, control, output);
}

function tick(text, name) {
  return el("label", { className: "tick" }, el("input", { type: "checkbox", name }), text);
}

function number(text, name, value, low, high) {
  return labelled(text, el("input", { type: "number", name, value, min: low, max: high, required: true }));
}

function seeded() {
  const field = el("input", { type: "number", name: "seed", value: 0, min: 0, max: Number.MAX_SAFE_INTEGER, required: true, "aria-label": "Seed" });
  const other = el("button", { type: "button" }, "Another");
  other.addEventListener("click", () => {
    field.value = Math.floor(Math.random() * 1e6);
    field.form.requestSubmit();
  });
  return el("div", {}, el("span", {}, "Seed"), el("div", { className: "row" }, field, other));
}

// -------------------------------------------------------------------------------------------------------------- asking

async function ask(name, words, photos = []) {
  const total = photos.reduce((sum, photo) => sum + photo.size, 0);
  const most = offers.limits.bytes;
  if (total > most) throw new Error(`The upload is too large; the limit is ${Math.round(most / 1e6)} MB.`);
  const query = new URLSearchParams(words);
  if (photos.length) query.set("sizes", photos.map((photo) => photo.size).join(","));
  let response;
  try {
    response = await fetch(`${api(name)}?${query}`, {
      method: "POST",
      headers: { "content-type": "application/octet-stream" },
      body: photos.length ? new Blob(photos) : new Blob([]),
    });
  } catch {
    throw new Error("The server does not answer; is it still running?");
  }
  const answer = await response.json().catch(() => ({ says: `The answer could not be read (status ${response.status}).` }));
  if (!response.ok) throw new Error(answer.says);
  for (const files of Object.values(answer.files)) {
    for (const file of files) {
      const bytes = Uint8Array.from(atob(file.data), (letter) => letter.charCodeAt(0));
      file.blob = new Blob([bytes], { type: file.kind });
      file.url = URL.createObjectURL(file.blob);
      delete file.data;
    }
  }
  return answer;
}

function unused(name) {
  const times = (names.get(name) ?? 0) + 1;
  names.set(name, times);
  return times === 1 ? name : name.replace(/(\.\w+)$/, ` (${times})$1`);
}

function wordsOf(form) {
  const words = {};
  for (const [name, value] of new FormData(form)) if (typeof value === "string") words[name] = value === "on" ? "1" : value;
  return words;
}

// ------------------------------------------------------------------------------------------------------------- results

function media(file) {
  if (file.kind.startsWith("video/")) return el("video", { src: file.url, controls: true, loop: true, autoplay: true, muted: true, playsInline: true });
  return el("img", { src: file.url, alt: file.name });
}

function figure(file, { keep = true, actions = [] } = {}) {
  const shown = media(file);
  const look = file.kind.startsWith("video/") ? shown : el("button", { type: "button", className: "look", "aria-label": `Enlarge ${file.name}`, onclick: () => enlarge(file) }, shown);
  const below = el("figcaption", {}, el("span", {}, file.name), el("a", { className: "button", href: file.url, download: file.name }, "Save"));
  if (keep) {
    below.append(el("button", { type: "button", onclick: (event) => {
      gallery.push({ ...file, name: unused(file.name) });
      event.target.disabled = true;
      event.target.textContent = "Kept";
      showGallery();
    } }, "Keep"));
  }
  below.append(...actions);
  return el("figure", {}, look, below);
}

function enlarge(file) {
  const dialog = document.getElementById("large");
  const recipe = file.recipe ? JSON.stringify(JSON.parse(file.recipe), null, 1) : "";
  dialog.lastElementChild.replaceChildren(media(file), el("pre", {}, recipe));
  dialog.showModal();
}

function compared(before, file) {
  const after = el("img", { src: file.url, alt: "after", className: "after" });
  const frame = el("div", { className: "compare" }, el("img", { src: before, alt: "before" }), after);
  const share = el("input", { type: "range", min: 0, max: 100, value: 50, "aria-label": "Before on the left, after on the right" });
  share.addEventListener("input", () => frame.style.setProperty("--share", `${share.value}%`));
  return el("div", {}, frame, share);
}

// A panel is a form of controls beside its results. `work` returns the text and elements of the answer.
function panel({ title, hint, controls, button, work, live = false }) {
  const says = el("p", { className: "says", role: "status" });
  const results = el("div", { className: "pictures" });
  const submit = button ? el("button", { className: "main" }, button) : null;
  const form = el("form", { className: "controls" }, ...controls, ...(submit ? [submit] : []));
  let running = false, again = false;

  async function run() {
    if (running) {
      again = live;
      return;
    }
    running = true;
    if (submit) submit.disabled = !live;
    says.className = "says busy";
    says.textContent = "Working …";
    try {
      do {
        again = false;
        const { text, shown, few = false } = await work(wordsOf(form), form);
        results.className = few ? "pictures few" : "pictures";
        const stays = (old) => gallery.some((file) => file.url === old.src) || shown.some((element) => element.contains(old));
        for (const old of results.querySelectorAll("img, video")) if (!stays(old)) URL.revokeObjectURL(old.src);
        results.replaceChildren(...shown);
        says.className = "says";
        says.textContent = text;
      } while (again);
    } catch (error) {
      says.className = "says problem";
      says.textContent = error.message;
    } finally {
      running = false;
      if (submit) submit.disabled = false;
    }
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    run();
  });
  const section = el("section", { className: live ? "live" : "" }, form, el("div", {}, el("h2", {}, title), el("p", { className: "hint" }, hint), says, results));
  return { section, form, run };
}

// -------------------------------------------------------------------------------------------------------------- photos

function picker({ several = false, video = false, text = video ? "Your photo or video" : "Your photo" } = {}) {
  let photos = [];
  const chosen = el("div", { className: "chosen", "aria-live": "polite" });
  const input = el("input", { type: "file", accept: `image/*,.heic,.heif,.avif${video ? ",video/*" : ""}`, multiple: several, "aria-label": text });
  const camera = el("button", { type: "button" }, "Take a photo");
  const film = el("video", { autoplay: true, muted: true, playsInline: true, hidden: true });
  const box = el("div", { className: "drop" }, el("span", {}, several ? `${text} (choose several, or drop them here)` : `${text} (choose, or drop it here)`), input, camera, film, chosen);
  const changed = new EventTarget();

  function take(files) {
    photos = several ? [...photos, ...files].slice(0, offers.limits.photos) : [...files].slice(0, 1);
    for (const old of chosen.querySelectorAll("img, video")) URL.revokeObjectURL(old.src);
    chosen.replaceChildren(...photos.map((photo, n) => {
      const properties = { src: URL.createObjectURL(photo), onerror: (event) => event.target.replaceWith(el("span", { className: "hint" }, photo.name)) };
      return moves(photo) ? el("video", { ...properties, muted: true, playsInline: true, "aria-label": photo.name }) : el("img", { ...properties, alt: `photo ${n + 1}` });
    }));
    if (photos.length) chosen.append(el("button", { type: "button", onclick: () => { photos = []; input.value = ""; chosen.replaceChildren(); } }, "Remove"));
    if (photos.length) changed.dispatchEvent(new Event("change"));
  }

  input.addEventListener("change", () => take(input.files));
  box.addEventListener("dragover", (event) => { event.preventDefault(); box.classList.add("over"); });
  box.addEventListener("dragleave", () => box.classList.remove("over"));
  box.addEventListener("drop", (event) => {
    event.preventDefault();
    box.classList.remove("over");
    take(event.dataTransfer.files);
  });
  camera.addEventListener("click", async () => {
    if (film.srcObject) {
      const canvas = el("canvas", { width: film.videoWidth, height: film.videoHeight });
      canvas.getContext("2d").drawImage(film, 0, 0);
      stop();
      canvas.toBlob((blob) => take([blob]), "image/png");
      return;
    }
    try {
      film.srcObject = await navigator.mediaDevices.getUserMedia({ video: true });
      film.hidden = false;
      camera.textContent = "Capture";
    } catch {
      chosen.textContent = "No camera is available to this page.";
    }
  });

  function stop() {
    for (const track of film.srcObject.getTracks()) track.stop();
    film.srcObject = null;
    film.hidden = true;
    camera.textContent = "Take a photo";
  }

  return { box, changed, photos: () => photos };
}

const moves = (file) => Boolean(file?.type?.startsWith("video/"));

// Browsers do not show all that the server reads, such as HEIC.
function shows(photo) {
  return createImageBitmap(photo).then(() => true, () => false);
}

function needed(pick) {
  if (!pick.photos().length) throw new Error("Choose or take a photo first.");
  return pick.photos();
}

// -------------------------------------------------------------------------------------------------------------- panels

function models(test) {
  return offers.models.map((model, run) => ({ ...model, run })).filter(test);
}

const can = (ability) => (model) => model.can.includes(ability);

function chooser(able) {
  if (able.length === 1) return [el("input", { type: "hidden", name: "run", value: able[0].run })];
  return [choice("Model", able.map((model) => [model.run, `${model.name} (${model.width}x${model.height})`]), "run")];
}

function densities(able) {
  const offered = new Set(able.flatMap((model) => model.densities));
  if (!offered.size) return [];
  const shown = { mixture: "like the training faces (mixture)", gaussian: "like the training faces (one Gaussian)", prior: "the prior of the training", uniform: "uniform in [0, 1), as published" };
  return [choice("Codes", Object.entries(shown).filter(([density]) => offered.has(density)), "density")];
}

// What a conditional GAN is told: as in its training, or as the sliders say. Those of another model are not sent.
function attributes(able) {
  const names = [...new Set(able.flatMap((model) => model.labels))];
  if (!names.length) return [];
  const sliders = names.map((name) => slider(name.replaceAll("_", " "), `label ${name}`, 0.5, 0, 1, 0.05));
  const box = el("fieldset", { hidden: true }, el("legend", {}, "0 without, 1 with"), ...sliders);
  const choose = tick("Choose what the faces have", "told");
  choose.querySelector("input").addEventListener("change", (event) => { box.hidden = !event.target.checked; });
  return [choose, box];
}

function told(words) {
  const kept = Object.fromEntries(Object.entries(words).filter(([name]) => name !== "told" && !name.startsWith("label ")));
  const chosen = words.told ? offers.models[words.run].labels.map((name) => `${name}=${words[`label ${name}`]}`) : [];
  return chosen.length ? { ...kept, attributes: chosen.join(",") } : kept;
}

function facesPanel() {
  const able = models(can("generate"));
  if (!able.length) return null;
  const made = panel({
    title: "Random faces",
    hint: "The same seed always gives the same faces. Less variety gives better quality.",
    controls: [
      ...chooser(able), seeded(),
      choice("How many", [[9, "9"], [1, "1"], [4, "4"], [16, "16"], [offers.limits.faces, String(offers.limits.faces)]], "count"),
      slider("Variety (truncation)", "truncation", 1, 0, 1.5, 0.05), ...densities(able), ...attributes(able),
    ],
    button: "Generate faces",
    async work(words) {
      const answer = await ask("generate", told(words));
      return { text: answer.says, shown: answer.files.made.map((file) => figure(file)) };
    },
  });
  return { name: "Random faces", id: "faces", ...made, first: made.run };
}

function sharpenPanel() {
  const able = models(can("upscale"));
  if (!able.length) return null;
  const pick = picker({ video: true });
  const made = panel({
    title: "Enlarge my photo",
    hint: `Enlarges the photo, or a video of up to ${offers.limits.seconds} seconds. Details that it does not contain are invented.`,
    controls: [...chooser(able), pick.box, tick("Downscale it first, to compare with the original", "simulate")],
    button: "Enlarge",
    async work(words) {
      const [photo] = needed(pick);
      if (moves(photo)) delete words.simulate;
      const answer = await ask("upscale", words, [photo]);
      const [file] = answer.files.made;
      const shown = [figure(file)];
      if (!words.simulate && await shows(photo)) shown.unshift(compared(URL.createObjectURL(photo), file));
      return { text: answer.says, shown, few: true };
    },
  });
  return { name: "Enlarge", id: "sharpen", ...made };
}

function translatePanel(able) {
  const [name, title, hint] = able[0].words;
  const pick = picker({ video: true });
  const pad = able[0].lines ? drawingPad(able[0]) : null;
  const controls = [...chooser(able), pick.box, tick("The whole image is one face", "whole")];
  const made = panel({
    title, hint, controls, button: pad ? "Convert photo to lines to face" : "Apply",
    async work(words, form) {
      if (pad && form.dataset.drawn) {
        const answer = await ask("draw", { run: words.run }, [await pad.blob()]);
        return { text: answer.says, shown: answer.files.made.map((file) => figure(file)), few: true };
      }
      const answer = await ask("translate", words, needed(pick));
      const shown = [...answer.files.made, ...(answer.files.steps ?? [])].map((file) => figure(file));
      if (pad && answer.files.lines) await pad.load(answer.files.lines[0].url);
      return { text: answer.says, shown, few: true };
    },
    live: Boolean(pad),
  });
  if (pad) {
    made.form.prepend(pad.box);
    pad.changed.addEventListener("change", () => { made.form.dataset.drawn = "1"; made.run(); });
    made.form.addEventListener("submit", () => { delete made.form.dataset.drawn; }, { capture: true });
  }
  return { name, id: able[0].task, ...made };
}

// Lines are drawn at the resolution of the model. Keyboard: arrows move the pen, space lowers or lifts it.
function drawingPad({ width, height }) {
  const canvas = el("canvas", { className: "pad", width, height, tabIndex: 0, role: "application", "aria-label": "Drawing area. Arrow keys move the pen, space lowers or lifts it." });
  const cursor = el("span", { className: "hint", role: "status" }, "Draw with the mouse, a finger, or the arrow keys and space.");
  const pen = choice("Pen", [["#c8c8c8", "white"], ["#646464", "grey"], ["#c80000", "red"], ["#00c800", "green"], ["#0000c8", "blue"], ["#000000", "eraser"]], "pen").querySelector("select");
  const changed = new EventTarget();
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const past = [];
  let at = null, down = false;
  clear();

  function clear() {
    context.fillStyle = "#000";
    context.fillRect(0, 0, width, height);
  }
  function remember() {
    past.push(context.getImageData(0, 0, width, height));
    if (past.length > 50) past.shift();
  }
  function line(to) {
    context.strokeStyle = pen.value;
    context.lineWidth = pen.value === "#000000" ? 6 : 1;
    context.lineCap = "round";
    context.beginPath();
    context.moveTo(at.x, at.y);
    context.lineTo(to.x + 0.01, to.y);
    context.stroke();
    at = to;
  }
  function place(event) {
    const box = canvas.getBoundingClientRect();
    return { x: ((event.clientX - box.left) / box.width) * width, y: ((event.clientY - box.top) / box.height) * height };
  }
  const tell = () => changed.dispatchEvent(new Event("change"));

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    remember();
    at = place(event);
    down = true;
    line(at);
  });
  canvas.addEventListener("pointermove", (event) => { if (down && event.buttons) line(place(event)); });
  canvas.addEventListener("pointerup", () => { down = false; tell(); });
  canvas.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: [-2, 0], ArrowRight: [2, 0], ArrowUp: [0, -2], ArrowDown: [0, 2] };
    at ??= { x: width / 2, y: height / 2 };
    if (event.key === " ") {
      down = !down;
      if (down) remember();
      else tell();
    } else if (event.key in moves) {
      const [x, y] = moves[event.key];
      const to = { x: Math.min(width, Math.max(0, at.x + x)), y: Math.min(height, Math.max(0, at.y + y)) };
      if (down) line(to);
      at = to;
    } else return;
    event.preventDefault();
    cursor.textContent = `Pen ${down ? "down" : "up"} at ${Math.round(at.x)}, ${Math.round(at.y)}.`;
  });

  const undo = el("button", { type: "button", onclick: () => { if (past.length) { context.putImageData(past.pop(), 0, 0); tell(); } } }, "Undo");
  const wipe = el("button", { type: "button", onclick: () => { remember(); clear(); } }, "Clear");
  const go = el("button", { type: "button", onclick: tell }, "Make the face");
  const box = el("div", { className: "controls" }, canvas, cursor, el("div", { className: "row" }, labelled("Pen", pen), undo, wipe, go));
  return {
    box, changed,
    blob: () => new Promise((done) => canvas.toBlob(done, "image/png")),
    async load(url) {
      const image = new Image();
      image.src = url;
      await image.decode();
      remember();
      context.drawImage(image, 0, 0, width, height);
    },
  };
}

function editPanel() {
  const able = models((model) => model.can.includes("edit") && model.attributes.length);
  if (!able.length) return null;
  const pick = picker({ video: true, text: "A photo or video; without one, the random face of the seed" });
  const common = ["Smiling", "Eyeglasses", "Male", "Young", "Blond_Hair", "Wearing_Hat", "No_Beard", "Bangs"];
  const sliders = el("fieldset");
  let crop = null; // the cropped face of the photo, so that the sliders respond quickly
  let plain = {}; // the random face before any change
  const made = panel({
    title: "Change a face",
    hint: "1 is the step from the mean face without an attribute to the mean face with it. Changes are shown immediately.",
    controls: [...chooser(able), pick.box, tick("The whole image is one face", "whole"), seeded(), sliders],
    live: true,
    async work(words, form) {
      const changes = [...sliders.querySelectorAll("input")].filter((input) => Number(input.value)).map((input) => `${input.name}=${input.value}`).join(",");
      const base = { run: words.run, changes };
      const shown = [];
      let answer;
      if (pick.photos().length) {
        if (!crop && words.whole && !moves(pick.photos()[0])) crop = pick.photos()[0];
        if (!crop) crop = (await ask("faces", { run: words.run }, pick.photos())).files.faces[0].blob;
        answer = await ask("edit", { ...base, whole: "1" }, [crop]);
        const inPhoto = el("button", { type: "button", onclick: async (event) => {
          const button = event.target, label = button.textContent;
          button.disabled = true;
          button.textContent = "Working …";
          try {
            const whole = await ask("edit", words.whole ? { ...base, whole: "1" } : base, pick.photos());
            button.closest(".pictures").append(figure(whole.files.made[0]));
          } catch (error) {
            button.after(el("p", { className: "says problem", role: "status" }, error.message));
          } finally {
            button.disabled = false;
            button.textContent = label;
          }
        } }, moves(pick.photos()[0]) ? "Make the video" : "Paste into the photo");
        shown.push(figure(answer.files.made[0], { actions: words.whole && !moves(pick.photos()[0]) ? [] : [inPhoto] }));
        if (answer.files.steps) shown.push(figure(answer.files.steps[0]));
      } else {
        const drawn = { ...base, seed: words.seed };
        const whose = `${words.run}/${words.seed}`;
        if (plain.whose !== whose) {
          const file = (await ask("edit", { ...drawn, changes: "" })).files.made[0];
          plain = { whose, shown: figure(file, { keep: false }) };
        }
        answer = await ask("edit", drawn);
        shown.push(plain.shown, figure(answer.files.made[0]));
      }
      return { text: answer.says, shown, few: true };
    },
  });
  const chosen = () => able.find((model) => String(model.run) === String(wordsOf(made.form).run));
  function offer() {
    const names = chosen().attributes;
    const first = [...common.filter((name) => names.includes(name)), ...names.filter((name) => !common.includes(name))];
    const one = (name) => slider(name.replaceAll("_", " "), name, 0, -3, 3, 0.1);
    const more = el("details", {}, el("summary", {}, `${Math.max(0, first.length - 6)} more`), el("div", {}, ...first.slice(6).map(one)));
    sliders.replaceChildren(el("legend", {}, "Attributes"), ...first.slice(0, 6).map(one), ...(first.length > 6 ? [more] : []));
  }
  offer();
  sliders.addEventListener("input", made.run);
  const renew = () => { crop = null; made.run(); };
  pick.changed.addEventListener("change", renew);
  made.form.elements.whole.addEventListener("change", renew);
  if (made.form.elements.run.tagName === "SELECT") made.form.elements.run.addEventListener("change", () => { offer(); renew(); });
  made.form.append(el("button", { type: "button", onclick: () => { offer(); made.run(); } }, "Reset all to 0"));
  return { name: "Change a face", id: "edit", ...made, first: made.run };
}

function meanPanel() {
  const able = models(can("average"));
  const pick = picker({ several: true, text: "Photos" });
  const words = { latent: "mean of codes", translation: "repeated translation", landmarks: "landmarks and warping" };
  const ways = able.flatMap((model) => model.ways.filter((way) => way !== "landmarks").map((way) => [`${model.run}/${way}`, `${words[way]} (${model.name})`]));
  const made = panel({
    title: "Mean face",
    hint: `The mean of the faces in up to ${offers.limits.photos} photos.`,
    controls: [choice("Method", [["/landmarks", words.landmarks], ...ways], "how"), pick.box],
    button: "Compute the mean face",
    async work({ how }) {
      const [run, way] = how.split("/");
      const answer = await ask("average", { run, way }, needed(pick));
      return { text: answer.says, shown: answer.files.made.map((file) => figure(file)), few: true };
    },
  });
  return { name: "Mean face", id: "mean", ...made };
}

function filmPanel() {
  const able = models(can("walk"));
  if (!able.length) return null;
  const attributes = [...new Set(able.flatMap((model) => [...model.attributes, ...model.labels]))];
  const made = panel({
    title: "Walk from face to face",
    hint: "A looping video through random faces, or of one face along an attribute.",
    controls: [
      ...chooser(able), seeded(),
      ...(attributes.length ? [choice("Path", [["", "through random faces"], ...attributes.map((name) => [name, `along ${name.replaceAll("_", " ")}`])], "attribute")] : []),
      number("Faces", "faces", 5, 2, offers.limits.faces), slider("Seconds", "seconds", 4, 1, offers.limits.seconds, 1),
      choice("Format", [["mp4", "video (mp4)"], ["gif", "animation (gif)"]], "kind"), ...densities(able),
    ],
    button: "Make the video",
    async work(words) {
      const answer = await ask("walk", words);
      return { text: answer.says, shown: answer.files.made.map((file) => figure(file)), few: true };
    },
  });
  return { name: "Walk", id: "walk", ...made };
}

function morphPanel() {
  const able = models(can("morph"));
  if (!able.length) return null;
  const first = picker({ text: "From this photo" }), second = picker({ text: "To this one" });
  const made = panel({
    title: "Morph one face into another",
    hint: "Both faces are encoded by the model; details that its codes do not capture are lost.",
    controls: [...chooser(able), first.box, second.box, slider("Seconds", "seconds", 3, 1, offers.limits.seconds, 1), choice("Format", [["mp4", "video (mp4)"], ["gif", "animation (gif)"]], "kind")],
    button: "Make the video",
    async work(words) {
      const answer = await ask("morph", words, [...needed(first), ...needed(second)]);
      return { text: answer.says, shown: answer.files.made.map((file) => figure(file)), few: true };
    },
  });
  return { name: "Morph", id: "morph", ...made };
}

function galleryPanel() {
  const shown = el("div", { className: "pictures", id: "kept" });
  const all = el("button", { type: "button", disabled: true, id: "save-all", onclick: async () => {
    for (const link of shown.querySelectorAll("a[download]")) {
      link.click();
      await new Promise((done) => setTimeout(done, 300));
    }
  } }, "Save all");
  const section = el("section", { className: "wide" }, el("div", {}, el("h2", {}, "Gallery"), el("p", { className: "hint" }, "The results that you kept, until this window is closed or reloaded. Each file contains its recipe: run, seed and settings."), el("p", {}, all), shown));
  return { name: "Gallery", id: "gallery", section };
}

function showGallery() {
  document.getElementById("kept").replaceChildren(...gallery.map((file) => figure(file, { keep: false })));
  document.getElementById("tab-gallery").textContent = `Gallery (${gallery.length})`;
  document.getElementById("save-all").disabled = false;
}

// ---------------------------------------------------------------------------------------------------------------- tabs

const byTask = Map.groupBy(models((model) => model.can.includes("translate") && model.words), (model) => model.task);
const panels = [facesPanel(), sharpenPanel(), ...[...byTask.values()].map(translatePanel), editPanel(), meanPanel(), filmPanel(), morphPanel(), galleryPanel()].filter(Boolean);
const tabs = document.getElementById("tabs");

function open(chosen, focus = false) {
  for (const { id, section, tab } of panels) {
    const is = id === chosen.id;
    section.hidden = !is;
    tab.setAttribute("aria-selected", String(is));
    tab.tabIndex = is ? 0 : -1;
  }
  if (focus) chosen.tab.focus();
  chosen.first?.();
  chosen.first = null;
}

for (const made of panels) {
  made.tab = el("button", { type: "button", role: "tab", id: `tab-${made.id}`, "aria-controls": `panel-${made.id}`, onclick: () => open(made) }, made.name);
  made.section.id = `panel-${made.id}`;
  made.section.setAttribute("role", "tabpanel");
  made.section.setAttribute("aria-labelledby", made.tab.id);
  tabs.append(made.tab);
  document.getElementById("panels").append(made.section);
}

tabs.addEventListener("keydown", (event) => {
  const now = panels.findIndex((made) => made.tab === document.activeElement);
  const to = { ArrowRight: now + 1, ArrowLeft: now - 1, Home: 0, End: panels.length - 1 }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  open(panels[(to + panels.length) % panels.length], true);
});

const drawn = offers.models.every((model) => model.drawn);
document.getElementById("about").textContent = drawn
  ? "These are small models of drawn faces, not of people. Start the app with your own runs to use them."
  : offers.models.map((model) => `${model.name} (${model.label})`).join(" · ");
open(panels[0]);
