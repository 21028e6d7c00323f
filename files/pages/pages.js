// Convenience only: every page works without it. What people read stands in the pages themselves.
"use strict";

// -- Forms: a second press of a button sends nothing again -----------------------------------------
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!form.matches("[data-once]")) return;
  if (form.dataset.sent) event.preventDefault();
  form.dataset.sent = "yes";
  form.querySelectorAll("button").forEach((button) => button.setAttribute("aria-disabled", "true"));
});
window.addEventListener("pageshow", () => {
  // Back from the next page: the form is to be used again.
  document.querySelectorAll("[data-once]").forEach((form) => {
    delete form.dataset.sent;
    form.querySelectorAll("button").forEach((button) => button.removeAttribute("aria-disabled"));
  });
});

/** Fetch this page once more; null when the hub does not answer. */
async function fetchPage() {
  try {
    // A redirect may lead to a session at another host, where this page must not look.
    const answer = await fetch(location.href, { headers: { Accept: "text/html" }, redirect: "manual" });
    const moved = answer.type === "opaqueredirect";
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    // While the hub is away, the proxy answers with a page of its own.
    if (!moved && !page.getElementById("main")) return null;
    const busy = answer.status === 429;
    return { page, moved, busy, failed: answer.status >= 500 || busy };
  } catch {
    return null;
  }
}

/** Put a part of a page that was fetched in the place of ours, where it differs. */
function swap(page, id) {
  const ours = document.getElementById(id);
  const theirs = page.getElementById(id);
  if (!ours || !theirs) return false;
  fillClocks(theirs);
  if (ours.innerHTML !== theirs.innerHTML) {
    const active = ours.contains(document.activeElement) ? document.activeElement : null;
    // What has the keyboard's focus keeps it; where it is gone, its session's heading gets it.
    const focused = [active?.id, active?.closest("section")?.getAttribute("aria-labelledby")];
    const open = [...ours.querySelectorAll("details")].map((each) => each.open);
    ours.replaceChildren(...theirs.childNodes);
    ours.querySelectorAll("details").forEach((each, index) => (each.open = open[index] ?? false));
    focused.map((id) => id && document.getElementById(id)).find(Boolean)?.focus();
  }
  return true;
}

/** Write times as this browser's clock has them; the server does not know its zone. */
function fillClocks(root) {
  root.querySelectorAll("time.clock").forEach((time) => {
    const moment = new Date(time.dateTime);
    time.textContent = moment.toLocaleTimeString(document.documentElement.lang, {
      hour: "2-digit",
      minute: "2-digit",
    });
  });
}
fillClocks(document);

// -- Home: the sessions as they are now -------------------------------------------------------------
const sessions = document.getElementById("sessions");
if (sessions) {
  const pause = Number(sessions.dataset.refresh) * 1000;
  let last = Date.now();
  const refresh = async () => {
    if (document.hidden || Date.now() - last < pause) return;
    last = Date.now();
    const fetched = await fetchPage();
    const fresh = fetched !== null && swap(fetched.page, "sessions");
    // Such as after a logout in another window: what there is instead says so itself.
    if (fetched && !fresh && !fetched.failed) return location.reload();
    if (fresh) swap(fetched.page, "announcement");
    document.getElementById("stale").hidden = Boolean(fresh);
  };
  setInterval(refresh, 1000);
}

// -- Form: a preset fills in its fields; whoever changes one of them then makes a choice of their own -
const preset = document.getElementById("menu-preset");
if (preset) {
  const fills = () => JSON.parse(preset.selectedOptions[0].dataset.fills ?? "{}");
  preset.addEventListener("change", () => {
    for (const [name, value] of Object.entries(fills())) {
      const field = preset.form.elements.namedItem(name);
      if (field) field.value = value;
    }
  });
  preset.form.addEventListener("input", ({ target }) => {
    const filled = fills()[target.name];
    if (filled !== undefined && target.value !== String(filled)) preset.value = "";
  });
}

// -- Form: what is free, and what would become of the choice ------------------------------------------
const forecast = document.getElementById("forecast");
if (forecast) {
  const form = forecast.closest("form");
  const part = (name) => forecast.querySelector(`.forecast-${name}`);
  let asked = "";
  let timer = 0;
  let changed = false;

  /** Explain at its field what is wrong with the choice, as the form does when it is drawn. */
  const explain = (wrong, message) => {
    for (const field of form.querySelectorAll("[name]")) {
      const place = document.getElementById(`error-${field.id}`);
      if (!place) continue;
      const isWrong = field.name === wrong;
      field.classList.toggle("is-invalid", isWrong);
      if (isWrong) field.setAttribute("aria-invalid", "true");
      else field.removeAttribute("aria-invalid");
      place.textContent = isWrong ? message : "";
    }
  };

  const look = async () => {
    if (document.hidden) return;
    const fields = new URLSearchParams([...new FormData(form)].filter(([name]) => name !== "_xsrf"));
    asked = fields.toString();
    let told = null;
    try {
      const answer = await fetch(`${forecast.dataset.url}?${fields}`);
      if (answer.ok) told = await answer.json();
    } catch {
      // The hub is away for a moment; the form works without this.
    }
    if (asked !== fields.toString()) return; // changed meanwhile
    forecast.hidden = told === null;
    if (told === null) return;
    // Why a choice was refused stands there until another one is made.
    if (changed) explain(told.item, told.message);
    forecast.dataset.verdict = told.verdict;
    if (part("message").textContent !== told.message) part("message").textContent = told.message;
    part("raw").hidden = !told.raw;
    part("raw").querySelector("pre").textContent = told.raw;
    part("age").textContent = told.age ? `(${told.age})` : "";
    part("free").replaceChildren(
      ...told.free.map((line) => {
        const item = document.createElement("li");
        item.textContent = line;
        return item;
      }),
    );
  };
  const soon = (pause) => {
    clearTimeout(timer);
    timer = setTimeout(async () => {
      await look();
      soon(10_000);
    }, pause);
  };
  form.addEventListener("input", () => {
    changed = true;
    soon(400);
  });
  soon(0);
}

// -- Waiting ----------------------------------------------------------------------------------------
const wait = document.getElementById("wait");
if (wait) {
  const message = document.getElementById("wait-message");
  const raw = document.getElementById("wait-raw");
  const stages = [...wait.querySelectorAll("[data-stage]")];
  const notify = document.getElementById("notify");
  let wanted = false;
  let stream = null;
  let leaving = false;

  // JupyterHub calls a start that is being given up ready for a moment; nobody is to be led there.
  wait.addEventListener("submit", () => {
    leaving = true;
    stream?.close();
  });
  window.addEventListener("pageshow", (event) => {
    if (event.persisted) location.reload(); // back from the next page: much may have happened
  });

  const reach = (name) => {
    const now = stages.findIndex((each) => each.dataset.stage === name);
    if (now < 0) return;
    stages.forEach((each, index) => {
      const state = index < now ? "done" : index === now ? "now" : "ahead";
      if (each.dataset.state === "now" && state === "done") {
        each.querySelector(".stage-detail").textContent = message.textContent;
      }
      each.dataset.state = state;
      each.querySelector(".visually-hidden").textContent = wait.dataset[state];
      if (state === "now") each.setAttribute("aria-current", "step");
      else each.removeAttribute("aria-current");
    });
  };

  const show = (text) => {
    if (message.textContent !== text) message.textContent = text;
  };

  /** Find out from the page itself what has become of the start. */
  const look = async () => {
    const fetched = await fetchPage();
    if (leaving) return;
    const answered = fetched && !fetched.busy;
    if (answered && (fetched.moved || !fetched.page.getElementById("wait"))) {
      location.reload();
      return;
    }
    if (!answered) show(wait.dataset.lost);
    setTimeout(answered ? listen : look, 3000);
  };

  const listen = () => {
    if (leaving) return;
    stream = new EventSource(wait.dataset.progress);
    stream.onmessage = (event) => {
      const told = JSON.parse(event.data);
      if (told.ready) {
        stream.close();
        reach("ready");
        try {
          if (wanted) new Notification(notify.dataset.title, { body: notify.dataset.text });
        } catch {
          // A browser that lets no page do so, allowed or not.
        }
        location.reload();
      } else if (told.failed) {
        // The page has the reason, in the site's own words.
        stream.close();
        look();
      } else {
        if (told.stage) reach(told.stage);
        // Where there is a "progress" it is JupyterHub's own sentence.
        if (told.message && told.progress === undefined) show(told.message);
        if (told.raw !== undefined) {
          raw.hidden = !told.raw;
          raw.querySelector("pre").textContent = told.raw;
        }
      }
    };
    stream.onerror = () => {
      if (stream.readyState === EventSource.CLOSED) look();
    };
  };
  listen();

  /** Whether this page could show a notification; Android's browsers leave that to service workers. */
  const canNotify = () => {
    if (!("Notification" in window) || Notification.permission === "denied") return false;
    try {
      // Nobody has allowed it yet: it is not shown.
      if (Notification.permission === "default") new Notification("");
      return true;
    } catch {
      return false;
    }
  };
  if (canNotify()) {
    notify.hidden = false;
    notify.addEventListener("click", async () => {
      wanted = (await Notification.requestPermission()) === "granted";
      notify.hidden = true;
      const { granted, refused } = notify.dataset;
      document.getElementById("notify-on").textContent = wanted ? granted : refused;
    });
  }
}

// -- Stopping ---------------------------------------------------------------------------------------
const stopping = document.getElementById("stopping");
if (stopping) {
  const look = async () => {
    const fetched = await fetchPage();
    if (fetched && !fetched.page.getElementById("stopping")) {
      location.assign(stopping.dataset.home);
    } else {
      setTimeout(look, 2000);
    }
  };
  setTimeout(look, 2000);
}
