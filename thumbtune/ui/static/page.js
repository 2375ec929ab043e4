// Additions to links and forms: paste and drop pictures, rank while typing, load older thumbnails, keyboard shortcuts.
// Without this script, the forms do the same.

const PAUSE_MS = 250;
const AGAIN_MS = 1000;

document.documentElement.classList.add("scripted");

/** Put picture files into a form's file field; return false if there are no picture files. */
function give(form, files) {
  const field = form.querySelector('input[type="file"]');
  const pictures = [...files].filter((file) => file.type.startsWith("image/"));
  if (!field || pictures.length === 0) return false;
  // Keep the earlier files that were not ranked yet.
  put(field, field.multiple ? [...field.files, ...pictures] : pictures.slice(0, 1));
  field.dispatchEvent(new Event("change", { bubbles: true }));
  return true;
}

function put(field, files) {
  const transfer = new DataTransfer();
  files.forEach((file) => transfer.items.add(file));
  field.files = transfer.files;
}

function takePictures(form) {
  document.addEventListener("paste", (event) => {
    if (give(form, event.clipboardData.files)) event.preventDefault();
  });
  document.addEventListener("dragover", (event) => {
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    form.classList.add("over");
  });
  document.addEventListener("dragleave", () => form.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    form.classList.remove("over");
    if (event.dataTransfer.files.length) event.preventDefault();
    give(form, event.dataTransfer.files);
  });
}

async function pageOf(answer) {
  return new DOMParser().parseFromString(await answer.text(), "text/html");
}

/** Rank again when the form changes: one request at a time, and the last request has the newest state. */
function rankLive(form) {
  let timer, busy = false, again = false;
  const field = (name) => form.querySelector(`#pictures [name="${name}"]`);

  /** The data to send: the whole form, except for an id that is still being typed. */
  function sending() {
    const data = new FormData(form), video = field("video");
    if (video && video === document.activeElement && video.dataset.typing) data.delete("video");
    return data;
  }

  async function rank() {
    if (busy) { again = true; return; }
    busy = true;
    again = false;
    let pause = 0;
    try {
      const data = sending();
      const answer = await fetch(form.action, { method: "POST", body: data });
      const page = await pageOf(answer);
      const results = page.getElementById("results");
      if (!results) {
        const problem = page.querySelector(".empty p");
        show(problem ? problem.textContent : "That can't be ranked.");
        keepUnsent(data); // pictures that were refused are not sent again
      } else {
        document.getElementById("results").replaceWith(document.adoptNode(results));
        replacePictures(page, data);
        if (results.querySelector("[data-wait]")) { again = true; pause = AGAIN_MS; }
      }
    } catch {
      show("The server does not answer. Is 'thumbtune ui' still running?");
    }
    busy = false;
    if (again) { clearTimeout(timer); timer = setTimeout(rank, pause); }
  }

  function show(text) {
    const note = document.createElement("div");
    note.className = "note problem";
    note.setAttribute("role", "alert");
    note.textContent = text;
    document.getElementById("results").replaceChildren(note);
  }

  const same = (one, other) => one.name === other.name && one.size === other.size && one.lastModified === other.lastModified;

  function unsent(sent) {
    const files = [...(field("file")?.files ?? [])];
    return files.filter((file) => !sent.getAll("file").some((one) => same(one, file)));
  }

  function keepUnsent(sent) {
    if (field("file")) put(field("file"), unsent(sent));
  }

  function replacePictures(page, sent) {
    const now = document.getElementById("pictures"), then = page.getElementById("pictures");
    // Keep changes since the request: they are not in the response, and are sent with the next request.
    const files = unsent(sent);
    const typed = field("video")?.value ?? "";
    const video = typed === sent.get("video") ? "" : typed;
    const ticked = [...now.querySelectorAll('[name="remove"]:checked')].map((box) => box.value);
    const chosen = (place) => [...place.querySelectorAll('[name="picture"]')].map((one) => one.value).join();
    if (chosen(now) === chosen(then)) { keepUnsent(sent); return; }
    // Restore the focus if the same field still exists.
    const focused = now.contains(document.activeElement) ? document.activeElement : null;
    const typing = focused?.dataset.typing; // browsers may say `change` of a field that is taken away
    now.replaceWith(document.adoptNode(then));
    for (const box of then.querySelectorAll('[name="remove"]')) {
      box.checked = ticked.includes(box.value) && !sent.getAll("remove").includes(box.value);
    }
    if (field("file")) put(field("file"), files);
    if (field("video")) {
      field("video").value = video;
      if (video && typing) field("video").dataset.typing = typing;
    }
    if (focused) (field(focused.name) ?? document.getElementById("titles")).focus();
  }

  form.addEventListener("submit", (event) => { event.preventDefault(); rank(); });
  form.addEventListener("input", (event) => { if (event.target.name === "video") event.target.dataset.typing = "yes"; });
  form.addEventListener("change", (event) => {
    delete event.target.dataset.typing;
    if (event.target.name !== "titles") rank();
  });
  form.querySelector("textarea").addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(rank, PAUSE_MS);
  });
}

/** Append the next page of the library when its link becomes almost visible. */
function loadOlder(link) {
  const watcher = new IntersectionObserver(async ([entry]) => {
    if (!entry.isIntersecting) return;
    watcher.disconnect();
    const page = await pageOf(await fetch(link.href));
    const more = page.querySelector("[data-grid]");
    if (!more) return;
    document.querySelector("[data-grid]").append(...document.adoptNode(more).children);
    const next = page.querySelector("[data-more]");
    const place = link.parentElement;
    if (!next) { place.remove(); return; }
    link.href = next.getAttribute("href");
    loadOlder(link);
  }, { rootMargin: "600px" });
  watcher.observe(link);
}

const drop = document.querySelector("[data-drop]");
if (drop) takePictures(drop);
const match = document.querySelector("[data-match]");
if (match) rankLive(match);
document.querySelector(".by-picture input")?.addEventListener("change", (event) => event.target.form.requestSubmit());
const older = document.querySelector("[data-more]");
if (older) loadOlder(older);
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, select");
  if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const search = document.querySelector("[data-search]");
  if (search) { event.preventDefault(); search.focus(); search.select(); }
});
