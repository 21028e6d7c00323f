// Optional: every page works without this script. The texts are in the pages themselves.
"use strict";

// -- Forms: a second click on a button does not send the form again --------------------------------
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!form.matches("[data-once]")) return;
  if (form.dataset.sent) event.preventDefault();
  form.dataset.sent = "yes";
  form.querySelectorAll("button").forEach((button) => button.setAttribute("aria-disabled", "true"));
});
window.addEventListener("pageshow", () => {
  // The user has come back from the next page: let them send the form again.
  document.querySelectorAll("[data-once]").forEach((form) => {
    delete form.dataset.sent;
    form.querySelectorAll("button").forEach((button) => button.removeAttribute("aria-disabled"));
  });
});

// -- Copy the session's name ------------------------------------------------------------------------
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const name = document.getElementById(button.dataset.copy);
  try {
    await navigator.clipboard.writeText(name.textContent);
    button.textContent = button.dataset.copied;
  } catch {
    // The browser does not let this page write to the clipboard: select the name instead.
    getSelection().selectAllChildren(name);
  }
});

/** Fetch this page again; return null when the hub does not answer. */
async function fetchPage() {
  try {
    // Do not follow redirects: one may lead to a session on another host, which this page must not
    // read.
    const answer = await fetch(location.href, { headers: { Accept: "text/html" }, redirect: "manual" });
    const moved = answer.type === "opaqueredirect";
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    // While the hub is away, the proxy answers with its own page.
    if (!moved && !page.getElementById("main")) return null;
    const busy = answer.status === 429;
    return { page, moved, busy, failed: answer.status >= 500 || busy };
  } catch {
    return null;
  }
}

/** Replace a part of this page with that of the fetched page, if they differ. */
function swap(page, id) {
  const ours = document.getElementById(id);
  const theirs = page.getElementById(id);
  if (!ours || !theirs) return false;
  fillClocks(theirs);
  if (ours.innerHTML !== theirs.innerHTML) {
    const active = ours.contains(document.activeElement) ? document.activeElement : null;
    // Keep the keyboard focus; if the focused element is gone, focus its session's heading.
    const focused = [active?.id, active?.closest("section")?.getAttribute("aria-labelledby")];
    const open = [...ours.querySelectorAll("details")].map((each) => each.open);
    ours.replaceChildren(...theirs.childNodes);
    ours.querySelectorAll("details").forEach((each, index) => (each.open = open[index] ?? false));
    focused.map((id) => id && document.getElementById(id)).find(Boolean)?.focus();
  }
  return true;
}

/** Return a time in this browser's zone as the server would show it: with the date, unless it is today. */
function timeOfDay(moment) {
  const two = (number) => String(number).padStart(2, "0");
  const date = (day) => `${day.getFullYear()}-${two(day.getMonth() + 1)}-${two(day.getDate())}`;
  const time = `${two(moment.getHours())}:${two(moment.getMinutes())}`;
  return date(moment) === date(new Date()) ? time : `${date(moment)} ${time}`;
}

/** Add times in this browser's zone, which the server does not know, if it differs from the hub's. */
function fillClocks(root) {
  root.querySelectorAll("time.clock").forEach((time) => {
    const moment = new Date(time.dateTime);
    // The hub's offset from UTC, such as +02:00.
    const [, sign, hours, minutes] = time.dateTime.match(/([+-])(\d\d):(\d\d)$/) ?? [];
    const offset = Number(`${sign}1`) * (60 * Number(hours) + Number(minutes));
    if (-moment.getTimezoneOffset() === offset) return;
    const { hub, yours } = time.dataset;
    time.textContent = yours.replace("{hub}", hub).replace("{yours}", timeOfDay(moment));
  });
}
fillClocks(document);

// -- Home: refresh the sessions ---------------------------------------------------------------------
const sessions = document.getElementById("sessions");
if (sessions) {
  const pause = Number(sessions.dataset.refresh) * 1000;
  let last = Date.now();
  const refresh = async () => {
    if (document.hidden || Date.now() - last < pause) return;
    last = Date.now();
    const fetched = await fetchPage();
    const fresh = fetched !== null && swap(fetched.page, "sessions");
    // For example after a logout in another window: load the page that has replaced this one.
    if (fetched && !fresh && !fetched.failed) return location.reload();
    if (fresh) swap(fetched.page, "announcement");
    document.getElementById("stale").hidden = Boolean(fresh);
  };
  setInterval(refresh, 1000);
}

// -- Form: a preset fills in its fields; changing one of them deselects the preset --------------------
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

// -- Form: show what is free and whether the choice could start ---------------------------------------
const forecast = document.getElementById("forecast");
if (forecast) {
  const form = forecast.closest("form");
  const part = (name) => forecast.querySelector(`.forecast-${name}`);
  let query = "";
  let timer = 0;
  let changed = false;

  /** Show the error at its field, as the server does when it renders the form. */
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
    query = fields.toString();
    let answer = null;
    try {
      const response = await fetch(`${forecast.dataset.url}?${fields}`);
      if (response.ok) answer = await response.json();
    } catch {
      // The hub is away for a moment; the form works without this.
    }
    if (query !== fields.toString()) return; // the form has changed since
    forecast.hidden = answer === null;
    if (answer === null) return;
    // Keep the reason for a refused choice until the user changes the choice.
    if (changed) explain(answer.item, answer.message);
    forecast.dataset.verdict = answer.verdict;
    if (part("message").textContent !== answer.message) part("message").textContent = answer.message;
    part("raw").hidden = !answer.raw;
    part("raw").querySelector("pre").textContent = answer.raw;
    part("age").textContent = answer.age ? `(${answer.age})` : "";
    part("free").replaceChildren(
      ...answer.free.map((line) => {
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

// -- Waiting for a session to start -----------------------------------------------------------------
const wait = document.getElementById("wait");
if (wait) {
  const message = document.getElementById("wait-message");
  const raw = document.getElementById("wait-raw");
  const stages = [...wait.querySelectorAll("[data-stage]")];
  const notify = document.getElementById("notify");
  let wanted = false;
  let stream = null;
  let leaving = false;

  // JupyterHub reports a start that is being cancelled as ready for a moment: do not go there.
  wait.addEventListener("submit", () => {
    leaving = true;
    stream?.close();
  });
  window.addEventListener("pageshow", (event) => {
    if (event.persisted) location.reload(); // back from the next page: this one may be out of date
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

  /** Fetch the page to find out how the start is going. */
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
      const progress = JSON.parse(event.data);
      if (progress.ready) {
        stream.close();
        reach("ready");
        try {
          if (wanted) new Notification(notify.dataset.title, { body: notify.dataset.text });
        } catch {
          // Some browsers let no page do this, even with permission.
        }
        location.reload();
      } else if (progress.failed) {
        // The page shows the reason, in the site's own words.
        stream.close();
        look();
      } else {
        if (progress.stage) reach(progress.stage);
        // An event with a "progress" field has JupyterHub's own message.
        if (progress.message && progress.progress === undefined) show(progress.message);
        if (progress.raw !== undefined) {
          raw.hidden = !progress.raw;
          raw.querySelector("pre").textContent = progress.raw;
        }
      }
    };
    stream.onerror = () => {
      if (stream.readyState === EventSource.CLOSED) look();
    };
  };
  listen();

  /** Return whether this page can show notifications; on Android only service workers can. */
  const canNotify = () => {
    if (!("Notification" in window) || Notification.permission === "denied") return false;
    try {
      // The user has not given permission yet, so this shows nothing.
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
      location.assign(stopping.dataset.then);
    } else {
      setTimeout(look, 2000);
    }
  };
  setTimeout(look, 2000);
}
