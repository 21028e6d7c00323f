// SPDX-License-Identifier: BSD-3-Clause
// Show the session's memory, processor time and time left: in JupyterLab's status bar, and at the top
// of Notebook, which has no status bar.
//
// This is a prebuilt extension that needs no build: the page loads this file, passes the modules it
// shares to `init`, and gets the plugin from `get`. The file must not be in a folder named `static`:
// browsers cache the files there for ever, because their names usually contain a hash.
(() => {
  "use strict";

  const NAME = "gridhub-status-bar";
  const GIB = 2 ** 30;
  // Times in milliseconds: between two questions to the session; until an old answer is hidden.
  const ASK_EVERY = 10_000;
  const KEEP = 60_000;
  // The time between two questions of a page that is not seen.
  const ASK_HIDDEN_EVERY = 60_000;
  // The part of its memory from which on a session is nearly out of memory.
  const NEARLY = 0.9;
  let scope;

  /** Return a module of the page: of several versions the loaded one, whose tokens the page uses. */
  const shared = async (name) => {
    const versions = Object.values(scope[name]);
    const version = versions.find((each) => each.loaded) ?? versions[0];
    return (await version.get())();
  };

  const fill = (words, values) =>
    words.replace(/\{(\w+)\}/g, (braces, name) => values[name] ?? braces);

  /** Write an amount with three digits at most, such as 0.25, 2.5 or 128. */
  const amount = (number) => String(Number(number.toFixed(number < 1 ? 2 : number < 10 ? 1 : 0)));

  /** Make one text of the display; `role` is for screen readers. */
  const makeText = (parent, role) => {
    const node = document.createElement("span");
    if (role) {
      node.setAttribute("role", role);
    }
    node.style.padding = "0 8px";
    parent.append(node);
    return (words, isHighlighted, help = "") => {
      if (node.textContent !== words) {
        node.textContent = words;
      }
      node.title = help;
      node.hidden = !words;
      // Underline the text instead of colouring it: no theme has a readable warning colour.
      node.style.fontWeight = isHighlighted ? "bold" : "normal";
      node.style.boxShadow = isHighlighted ? "inset 0 -3px var(--jp-warn-color1)" : "none";
    };
  };

  const show = async (app, statusBar) => {
    const { PageConfig } = await shared("@jupyterlab/coreutils");
    const config = JSON.parse(PageConfig.getOption("gridhubStatus") || "null");
    if (!config) {
      return; // the page is not one of a session of GridHub
    }
    const { words } = config;
    const { ServerConnection } = await shared("@jupyterlab/services");
    const settings = app.serviceManager.serverSettings;
    const address = `${settings.baseUrl}gridhub/status`;

    const { Widget } = await shared("@lumino/widgets");
    const widget = new Widget();
    widget.id = NAME;
    Object.assign(widget.node.style, {
      alignSelf: "center",
      color: "var(--jp-ui-font-color1)",
      whiteSpace: "nowrap",
    });
    const showMemory = makeText(widget.node);
    const showCpu = makeText(widget.node);
    // Screen readers can find the time, but do not read every change aloud; they do read the notices.
    const showTime = makeText(widget.node, "timer");

    let end = null; // in milliseconds, on this computer's clock; null if the session has no end
    let answered = 0;
    let asked = 0;
    let saves = null; // how often the session has let its pages save
    const count = () => {
      if (end === null) {
        showTime("", false);
        return;
      }
      // Use the time of day each time: timers stop in background pages and sleeping computers.
      const left = Math.max(end - Date.now(), 0) / 1000;
      const all = Math.floor(left / 60);
      const values = { hours: Math.floor(all / 60), minutes: all % 60 };
      showTime(fill(values.hours ? words.left : words.left_minutes, values), left < config.soon);
    };
    const showUsage = ({ memory, cpu }) => {
      const { used, limit, reserved } = memory;
      const values = {
        used: amount(used / GIB),
        limit: amount(limit / GIB),
        reserved: amount(reserved / GIB),
      };
      showMemory(
        fill(limit ? words.memory_of : words.memory, values),
        limit !== null && Math.max(used, reserved) > NEARLY * limit,
        fill(reserved === null ? words.memory_help : words.reserved_help, values),
      );
      showCpu(fill(words.cpu, { used: cpu.used.toFixed(1), limit: amount(cpu.limit) }), false);
    };
    const saveAll = async () => {
      // In Notebook, the first command may be missing.
      const command = ["docmanager:save-all", "docmanager:save"].find(
        (each) => app.commands.hasCommand(each) && app.commands.isEnabled(each),
      );
      if (command) {
        await app.commands.execute(command);
      }
    };
    const ask = async () => {
      asked = Date.now();
      try {
        const response = await ServerConnection.makeRequest(address, {}, settings);
        if (!response.ok) {
          throw new Error(`${address}: HTTP ${response.status}`);
        }
        const status = await response.json();
        // The answer has the seconds that are left, because this computer's clock may be wrong.
        end = status.left === null ? null : Date.now() + status.left * 1000;
        answered = Date.now();
        showUsage(status);
        if (saves !== null && status.saves > saves) {
          saveAll().catch((error) => console.warn("Cannot save before the end:", error));
        }
        saves = status.saves;
      } catch (error) {
        console.warn("The session's status is unknown:", error);
        if (Date.now() - answered > KEEP) {
          showMemory("", false);
          showCpu("", false);
        }
      }
      count();
    };
    await ask();
    const askIfSeen = () => {
      if (document.visibilityState === "visible" || Date.now() - asked > ASK_HIDDEN_EVERY) {
        ask();
      }
    };
    setInterval(askIfSeen, ASK_EVERY);
    setInterval(count, 1000);
    // A page that comes back, also after the computer has slept, shows no old figures.
    document.addEventListener("visibilitychange", askIfSeen);
    if (statusBar) {
      widget.node.style.lineHeight = "24px"; // that of the bar's other texts
      statusBar.registerStatusItem(NAME, { item: widget, align: "middle" });
    } else {
      app.shell.add(widget, "top", { rank: 20000 }); // on the right, after what fills the middle
    }
  };

  const plugin = (IStatusBar) => ({
    id: `${NAME}:plugin`,
    autoStart: true,
    optional: [IStatusBar],
    activate: (app, statusBar) => {
      // Not awaited: the page must not wait for it.
      show(app, statusBar).catch((error) => console.warn("The status is not shown:", error));
    },
  });

  window._JUPYTERLAB = window._JUPYTERLAB || {};
  window._JUPYTERLAB[NAME] = {
    init: (shareScope) => {
      scope = shareScope;
    },
    get: async () => {
      const { IStatusBar } = await shared("@jupyterlab/statusbar");
      return () => ({ default: plugin(IStatusBar), __esModule: true });
    },
  };
})();
